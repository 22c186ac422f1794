--- Relay addresses: reading what a person types, and building circuit addresses (cli.md 2 and 5).
local core = require "peerup.core"
local err = require "peerup.err"

local M = {}

M.DEFAULT_PORT = 7777

--- Checks a relay's multiaddr, which must end in its peer ID.
---@param addr string
---@return {addr: string, peer: string}? relay, peerup.err?
function M.parse(addr)
  local text, problem = core.multiaddr.parse(addr)
  if not text then
    return nil, err.say("invalid", ('invalid relay address "%s": %s'):format(addr,
      tostring(problem)))
  end
  local info = core.multiaddr.inspect(text)
  if not info or not info.peer then
    return nil, err.say("invalid", ('invalid relay address "%s": it must end in /p2p/<peer ID of '
      .. "the relay>"):format(addr))
  end
  return { addr = text, peer = info.peer, host = info.host, port = info.port }
end

local function is_ipv4(text)
  local octets = { text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$") }
  if #octets ~= 4 then return false end
  for _, octet in ipairs(octets) do
    if #octet > 3 or tonumber(octet) > 255 then return false end
  end
  return true
end

--- Takes the short form apart: IP, IP:PORT, [v6]:PORT, [v6] or a bare v6.
---@param text string
---@return {family: "ip4"|"ip6", ip: string, port: integer}?, peerup.err?
function M.parse_short(text)
  local host, port = text:match("^%[(.+)%]:(%d+)$")
  if not host then host = text:match("^%[(.+)%]$") end
  if not host then host, port = text:match("^([^:]+):(%d+)$") end
  host = host or text
  local number = port and math.tointeger(tonumber(port)) or M.DEFAULT_PORT
  if number < 1 or number > 65535 then
    return nil, err.say("invalid", ("invalid port: %s (must be 1-65535)"):format(port))
  end
  local family = is_ipv4(host) and "ip4" or host:find(":", 1, true) and "ip6"
  local parsed = family and core.multiaddr.parse(("/%s/%s/tcp/%d"):format(family, host, number))
  if not parsed then
    return nil, err.say("invalid", ("invalid IP address: %s (hostnames not accepted)"):format(host))
  end
  return { family = family, ip = parsed:match("^/ip%d/([^/]+)/"), port = number }
end

--- Builds a relay's multiaddr from its short form and peer ID.
---@return string? addr, peerup.err?
function M.build(short, peer_id)
  local id, problem = core.peer_id.parse(peer_id)
  if not id then
    return nil, err.say("invalid", "invalid relay peer ID: " .. tostring(problem))
  end
  return ("/%s/%s/tcp/%d/p2p/%s"):format(short.family, short.ip, short.port, id)
end

--- The address of a peer behind a relay.
---@return string
function M.circuit(relay_addr, peer)
  return ("%s/p2p-circuit/p2p/%s"):format(relay_addr, peer)
end

--- Reads all relays of a configuration.
---@return {addr: string, peer: string}[]? relays, peerup.err?
function M.of(config)
  local list = {}
  for _, addr in ipairs(config.relay.addresses) do
    local relay, problem = M.parse(addr)
    if not relay then return nil, problem end
    list[#list + 1] = relay
  end
  return list
end

return M
