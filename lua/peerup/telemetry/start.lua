--- Starts what a configuration asks for of metrics, health and audit; a server that cannot be bound
-- is logged, and the daemon or relay goes on without.
local metrics = require "peerup.telemetry.metrics"

local M = {}

M.METRICS_ADDRESS = "127.0.0.1:9091"
M.HEALTH_ADDRESS = "127.0.0.1:9090"

local function address_of(text, default)
  if text == "" then return default end
  return (text:gsub("^localhost:", "127.0.0.1:"):gsub("^:", "0.0.0.0:"))
end

---@class peerup.telemetry
local Telemetry = {}
Telemetry.__index = Telemetry

local function serve(self, log, options)
  local server, problem = metrics.serve(options)
  if not server then
    log:error("metrics not served", "address", options.address, "why", tostring(problem))
    return
  end
  log:info("metrics served", "address", server:address())
  self.server = server
end

local function listeners_of(config, made, write)
  local list = {}
  if made then list[#list + 1] = made.on_event end
  if config.telemetry.audit.enabled then
    list[#list + 1] = require("peerup.telemetry.audit").new(write)
  end
  return list
end

--- Starts a node's telemetry; nil when none is asked for.
---@param n peerup.node
---@param options {version: string, write: fun(line: string)}
---@return peerup.telemetry?
function M.node(n, options)
  local config = n.config
  local wanted = config.telemetry.metrics
  local made = wanted.enabled and metrics.node(n, options.version) or nil
  local self = setmetatable({ listeners = listeners_of(config, made, options.write) }, Telemetry)
  if #self.listeners == 0 then return nil end
  n:listen_decisions(1)
  for _, listener in ipairs(self.listeners) do n:on_event(listener) end
  if made then
    serve(self, n.log, { registry = made.registry,
      address = address_of(wanted.listen_address, M.METRICS_ADDRESS) })
  end
  return self
end

--- Starts a relay's telemetry.
---@param relay peerup.relay_server
---@param options {version: string, write: fun(line: string)}
---@return peerup.telemetry
function M.relay(relay, options)
  local config = relay.config
  local wanted, health = config.telemetry.metrics, config.health
  local made = wanted.enabled and metrics.relay(options.version) or nil
  local self = setmetatable({ listeners = listeners_of(config, made, options.write) }, Telemetry)
  if health.enabled then
    serve(self, relay.log, { registry = made and made.registry, health = function()
      return relay:health()
    end, address = address_of(health.listen_address, M.HEALTH_ADDRESS) })
  elseif made then
    serve(self, relay.log, { registry = made.registry,
      address = address_of(wanted.listen_address, M.METRICS_ADDRESS) })
  end
  return self
end

--- Tells of something that happened.
function Telemetry:tell(event)
  for _, listener in ipairs(self.listeners) do listener(event) end
end

function Telemetry:close()
  if self.server then self.server:close() end
  self.server = nil
end
Telemetry.__close = Telemetry.close

return M
