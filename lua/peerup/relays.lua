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

-- What a relay known by one address may also serve, by the shape of the address: the same port,
-- in the order of preference.
local SHAPES = {
  { "^(/[^/]+/[^/]+)/udp/(%d+)/quic%-v1(/p2p/[^/]+)$", "%s/udp/%s/quic-v1%s" },
  { "^(/[^/]+/[^/]+)/tcp/(%d+)(/p2p/[^/]+)$", "%s/tcp/%s%s" },
  { "^(/[^/]+/[^/]+)/tcp/(%d+)/ws(/p2p/[^/]+)$", "%s/tcp/%s/ws%s" },
}

--- The ways to a relay known by one address: that address, and guesses at its port by the other
--- transports (docs/adr/0008-ways-to-a-relay.md). The peer ID in each keeps a guess from meeting
--- somebody else.
---@param addr string  ends in the relay's peer ID
---@return string[] ways  the known address first
function M.ways(addr)
  local list = { addr }
  for _, shape in ipairs(SHAPES) do
    local host, port, peer = addr:match(shape[1])
    for _, other in ipairs(host and SHAPES or {}) do
      if other ~= shape then list[#list + 1] = other[2]:format(host, port, peer) end
    end
  end
  return list
end

--- Makes all ways to a relay known to a host.
---@param host peerup.host
---@param relay {addr: string, peer: string}
---@param ttl number?  seconds; nil: for good
---@return true?, peerup.err?
function M.tell(host, relay, ttl)
  for _, way in ipairs(M.ways(relay.addr)) do
    local ok, problem = host:add_addr(relay.peer, way, ttl)
    if not ok then return nil, problem end
  end
  return true
end

--- The way that an invite code can hold: plain TCP.
---@param addr string
---@return string?
function M.plain_tcp(addr)
  for _, way in ipairs(M.ways(addr)) do
    if way:find(SHAPES[2][1]) then return way end
  end
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
