--- Services: their names, their protocols, and who may use them (wire.md 18).
local err = require "peerup.err"
local nearest = require "peerup.nearest"
local values = require "peerup.config.values"

local M = {}

--- Protocols of our own have the form of a service's; a service must not take their place.
M.RESERVED = {
  invite = true, ["relay-pair"] = true, ["relay-invite"] = true, ["peer-notify"] = true,
  ["rtt-probe"] = true, ping = true,
}

--- Returns the wire protocol of a service; a configured `protocol` never had an effect on it.
---@param name string
---@return string
function M.protocol(name)
  return "/peerup/" .. name .. "/1.0.0"
end

--- Checks a service's name: a label, and none of our own.
---@param name string
---@return true?, peerup.err?
function M.check_name(name)
  local ok, problem = values.check_label("service", name)
  if not ok then return nil, problem end
  if M.RESERVED[name] then
    return nil, err.say("invalid", ('invalid service name: "%s" is a protocol of peerup itself; '
      .. 'choose another'):format(name))
  end
  return true
end

--- Tells that a peer does not offer a service, with the nearest that it does; nil when it does, or
--- has not told its protocols. It may begin to any time, so this is a note and no error.
---@param host peerup.host
---@param peer string
---@param name string
---@return string?
function M.missing(host, peer, name)
  local known, all = {}, host:peer_protocols(peer)
  for _, protocol in ipairs(all) do
    local offered = protocol:match "^/peerup/([a-z0-9-]+)/1%.0%.0$"
    if offered == name then return nil end
    if offered and not M.RESERVED[offered] then known[#known + 1] = offered end
  end
  if #all == 0 then return nil end
  table.sort(known)
  return ("the peer offers no service %s%s"):format(name, nearest.hint(name, known))
end

--- Lists the services of a configuration by name.
---@param config table
---@return {name: string, protocol: string, local_address: string, enabled: boolean,
---  custom_protocol: string, allowed_peers: string[]}[]
function M.list(config)
  local list = {}
  for name, service in pairs(config.services) do
    list[#list + 1] = {
      name = name, protocol = M.protocol(name), local_address = service.local_address,
      enabled = service.enabled, custom_protocol = service.protocol,
      allowed_peers = service.allowed_peers,
    }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

return M
