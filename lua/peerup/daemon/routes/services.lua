--- Endpoints that offer a service, and stop it, until the daemon ends.
local json = require "peerup.json"
local nearest = require "peerup.nearest"
local services = require "peerup.services"
local text = require "peerup.daemon.text"
local values = require "peerup.config.values"

local function expose(state, request)
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local name, address = text.strings(body, "name", "local_address")
  if not name then return nil, "name and local_address are required", 400 end
  local ok
  ok, problem = services.check_name(name)
  if not ok then return nil, problem, 500 end
  ok, problem = values.split_host_port(address)
  if not ok then return nil, ('local_address "%s": %s'):format(address, tostring(problem)), 400 end
  local protocol = services.protocol(name)
  if state.node.exposed[protocol] then return nil, "service already registered: " .. name, 500 end
  ok, problem = state.node:expose_until_end { name = name, protocol = protocol,
    local_address = address, allowed_peers = {} }
  if not ok then return nil, problem, 500 end
  return json.object("status", "exposed")
end

local function unexpose(state, _, name)
  local ok, problem = services.check_name(name)
  if not ok then return nil, problem, 404 end
  if not state.node:unexpose_until_end(services.protocol(name)) then
    local known = {}
    for _, exposed in pairs(state.node.exposed) do known[#known + 1] = exposed.name end
    table.sort(known)
    return nil, ("service not found: %s%s"):format(name, nearest.hint(name, known)), 404
  end
  return json.object("status", "unexposed")
end

return {
  ["POST /v1/expose"] = { run = expose },
  ["DELETE /v1/expose/{name}"] = { run = unexpose },
}
