--- What one address, peer, protocol and all together may hold: from the configuration to the
-- engine, and from its counts to people. The engine has defaults that follow from the machine.
local json = require "peerup.json"

local M = {}

local MOST = 0xffffffff -- what the engine's counters hold
local FIXED = "memory.handshake" -- the one limit that cannot be set

-- Keys of the section "limits" and the engine's names for them.
local NAMES = {
  connections = {
    total = "conns_total", inbound = "conns_in", per_address = "conns_per_ip",
    per_peer = "conns_per_peer", pending = "conns_pending",
    pending_per_address = "conns_pending_per_ip",
  },
  streams = {
    total = "streams_in", per_address = "streams_in_per_ip", per_peer = "streams_in_per_peer",
    per_connection = "streams_in_per_conn", negotiating = "negotiating_per_conn",
    per_protocol = "streams_in_per_protocol",
    per_protocol_and_peer = "streams_in_per_protocol_peer",
  },
  memory = {
    total = "memory_total", per_address = "memory_per_ip", per_peer = "memory_per_peer",
    per_connection = "memory_per_conn",
  },
}

--- The engine's limits for a configuration; what is 0 there takes the engine's default.
---@param config table
---@return table<string, integer> limits  for core.host
function M.of(config)
  local limits = {}
  for section, keys in pairs(NAMES) do
    for key, name in pairs(keys) do
      local value = config.limits[section][key]
      limits[name] = section == "memory" and value or math.min(value, MOST)
    end
  end
  return limits
end

--- Sets the limits of single protocols.
---@param host peerup.host
---@param config table
---@return true?, peerup.err?
function M.set_protocols(host, config)
  for protocol, limit in pairs(config.limits.protocols) do
    local ok, problem = host:limit_protocol(protocol, math.min(limit.total, MOST),
      math.min(limit.per_peer, MOST))
    if not ok then return nil, problem end
  end
  return true
end

--- The counts of every limit, by its key.
---@param host peerup.host
---@return table  for json.encode
function M.counts(host)
  local flat = {}
  for i, stat in ipairs(host:limits()) do
    flat[2 * i - 1] = stat.name
    flat[2 * i] = json.object("used", stat.used, "limit", stat.limit, "refused", stat.refused)
  end
  return json.object(table.unpack(flat))
end

--- One line for each limit that has refused something.
---@param counts table  of M.counts, as JSON carries it
---@return string[]
function M.refusals(counts)
  local lines = {}
  for name, stat in pairs(counts) do
    if stat.refused > 0 then
      lines[#lines + 1] = ("%s: refused %d times at %d%s"):format(name, stat.refused, stat.limit,
        name ~= FIXED and " (raise limits." .. name .. ")" or "")
    end
  end
  table.sort(lines)
  return lines
end

return M
