--- What this machine's interfaces say about how it can be reached (ops.md 6 and 8).
local uv = require "luv"

local M = {}

local function octets(ip)
  local a, b = ip:match("^(%d+)%.(%d+)%.")
  return tonumber(a), tonumber(b)
end

--- Tells whether an IPv4 address is reachable from the Internet by its range.
---@return boolean
function M.is_global_ipv4(ip)
  local a, b = octets(ip)
  if not a then return false end
  return not (a == 0 or a == 10 or a == 127 or a >= 224 or a == 172 and b >= 16 and b <= 31
    or a == 192 and b == 168 or a == 169 and b == 254 or a == 100 and b >= 64 and b <= 127)
end

---@return boolean
function M.is_global_ipv6(ip)
  local group = ip:match("^(%x+):")
  local first = group and tonumber(group, 16)
  return first ~= nil and first >= 0x2000 and first < 0x4000
end

--- Looks at the interfaces that are up.
---@return {ipv4: string[], ipv6: string[], global_ipv4: boolean, global_ipv6: boolean,
---  count: integer}
function M.interfaces()
  local result = { ipv4 = {}, ipv6 = {}, global_ipv4 = false, global_ipv6 = false, count = 0 }
  for _, addresses in pairs(uv.interface_addresses() or {}) do
    result.count = result.count + 1
    for _, address in ipairs(addresses) do
      local list = address.family == "inet" and result.ipv4 or result.ipv6
      if not address.internal then list[#list + 1] = address.ip end
      if address.family == "inet" then
        result.global_ipv4 = result.global_ipv4 or M.is_global_ipv4(address.ip)
      else
        result.global_ipv6 = result.global_ipv6 or M.is_global_ipv6(address.ip)
      end
    end
  end
  table.sort(result.ipv4)
  table.sort(result.ipv6)
  return result
end

--- The transport that an address names; of an address through a relay, the one to the relay.
---@param addr string
---@return "quic-v1"|"tcp"|"ws"|"wss"|nil
function M.transport(addr)
  local way = addr:gsub("/p2p%-circuit.*$", "") .. "/"
  if way:find("/quic-v1/", 1, true) then return "quic-v1" end
  if way:find("/wss/", 1, true) or way:find("/tls/ws/", 1, true)
    or way:find("/tls/sni/[^/]+/ws/") then return "wss" end
  if way:find("/ws/", 1, true) then return "ws" end
  return way:find("/tcp/", 1, true) and "tcp" or nil
end

--- Tells whether the Internet could reach a multiaddr, by the range of its IP.
---@param addr string
---@return boolean
function M.is_public(addr)
  local ip4, ip6 = addr:match "^/ip4/([^/]+)", addr:match "^/ip6/([^/]+)"
  return ip4 and M.is_global_ipv4(ip4) or ip6 and M.is_global_ipv6(ip6) or false
end

local API_WORDS = { ["quic-v1"] = "quic", ws = "websocket", wss = "websocket", tcp = "tcp" }

--- Transport and IP version of an address, in the API's words; of one through a relay, those of the
--- connection to the relay.
---@param addr string
---@return "quic"|"websocket"|"tcp"|"unknown" transport, "ipv4"|"ipv6"|"unknown" version
function M.words(addr)
  local ip = addr:find("^/ip4/") and "ipv4" or addr:find("^/ip6/") and "ipv6" or "unknown"
  return API_WORDS[M.transport(addr)] or "unknown", ip
end

--- The addresses of this machine that the Internet could reach, by their range.
---@return {ipv4: string[], ipv6: string[]}
function M.global_addresses()
  local interfaces, result = M.interfaces(), { ipv4 = {}, ipv6 = {} }
  for _, ip in ipairs(interfaces.ipv4) do
    if M.is_global_ipv4(ip) then table.insert(result.ipv4, ip) end
  end
  for _, ip in ipairs(interfaces.ipv6) do
    if M.is_global_ipv6(ip) then table.insert(result.ipv6, ip) end
  end
  return result
end

--- Grades how well the machine can be reached; first match wins.
---@param interfaces table  from M.interfaces
---@return {grade: string, label: string, description: string}
function M.reachability(interfaces)
  local function grade(letter, label, description)
    return { grade = letter, label = label, description = description }
  end
  if interfaces.global_ipv6 then return grade("A", "Excellent", "Public IPv6 detected") end
  if interfaces.global_ipv4 then return grade("B", "Good", "Public IPv4 detected") end
  if interfaces.count > 0 then return grade("D", "Poor", "No public address detected") end
  return grade("F", "Offline", "No network connectivity detected")
end

--- Replaces the "any" address of a listen multiaddr by what the interfaces have.
---@param addr string
---@return string[]
function M.expand(addr)
  local family = addr:match("^/(ip[46])/")
  local any = family == "ip4" and "0.0.0.0" or "::"
  local prefix = family and ("/%s/%s/"):format(family, any)
  if not prefix or addr:sub(1, #prefix) ~= prefix then return { addr } end
  local interfaces = M.interfaces()
  local list = {}
  for _, ip in ipairs(family == "ip4" and interfaces.ipv4 or interfaces.ipv6) do
    if not ip:find("^fe80:") then
      list[#list + 1] = ("/%s/%s/%s"):format(family, ip, addr:sub(#prefix + 1))
    end
  end
  return list
end

return M
