--- "Can I be reached, by whom, how": what a running daemon's answers mean for its user. Pure but
-- for ask, which fetches them.
local names = require "peerup.names"
local net = require "peerup.net"
local values = require "peerup.config.values"

local M = {}

---@class peerup.reach
---@field status table   GET /v1/status
---@field paths table[]  GET /v1/paths

--- Asks the daemon of a runtime directory.
---@async
---@return peerup.reach? answers  nil: none runs
function M.ask(dir)
  local client = require("peerup.daemon.client").new(dir)
  local status = client and client:call("GET", "/v1/status")
  local paths = status and client:call("GET", "/v1/paths")
  if not paths then return nil end
  return { status = status, paths = paths }
end

local function list_of(value) return type(value) == "table" and value or {} end

--- The relays through which the machine can be reached now, by peer ID.
local function relays_of(status)
  local found = {}
  for _, addr in ipairs(list_of(status.relay_addresses)) do
    local id = addr:match "/p2p/([^/]+)/p2p%-circuit"
    if id then found[id] = true end
  end
  return found
end

--- Puts it into words.
---@param answers peerup.reach?
---@param config table
---@return string verdict  one sentence
---@return string[] ways   how, one line each
---@return string? advice  a command, where one helps
function M.verdict(answers, config)
  if not answers then
    return "no: no daemon runs here, so nobody can reach this machine", {}, "peerup daemon"
  end
  local status, ways, through = answers.status, {}, 0
  local reserved = relays_of(status)
  for _, addr in ipairs(config.relay.addresses) do
    local id = addr:match "/p2p/([^/]+)$"
    if id and reserved[id] then
      through = through + 1
      ways[#ways + 1] = "through the relay " .. addr:gsub("/p2p/[^/]+$", "")
    else
      ways[#ways + 1] = "NOT through the relay " .. addr:gsub("/p2p/[^/]+$", "")
    end
  end
  local public = {}
  for _, addr in ipairs(list_of(status.listen_addresses)) do
    if net.is_public(addr) then public[#public + 1] = addr end
  end
  if #public > 0 then
    ways[#ways + 1] = "directly, if no firewall is in between: " .. public[1]
      .. (#public > 1 and (" and %d more"):format(#public - 1) or "")
  end
  ways[#ways + 1] = "directly from this machine's own network"
  local blocked = status.dialling and status.dialling.udp_blocked
  if blocked then ways[#ways + 1] = "UDP seems to be blocked here, so TCP is used" end
  if through > 0 or #public > 0 then return "yes, from other networks too", ways end
  if #config.relay.addresses == 0 then
    return "only from its own network: it has no public address, and no relay is configured", ways,
      "peerup relay add <address>"
  end
  return "only from its own network: no relay has a reservation for it. The relay's operator runs",
    ways, "peerup relay authorize " .. status.peer_id
end

--- Who is connected now, one line each.
---@return string[]
function M.connected(answers, config)
  local lines, relays = {}, {}
  for _, addr in ipairs(config.relay.addresses) do
    relays[addr:match "/p2p/([^/]+)$" or ""] = true
  end
  for _, path in ipairs(answers and answers.paths or {}) do
    local name = names.of(config.names, path.peer_id)
      or relays[path.peer_id] and "the relay" or path.peer_id:sub(1, 16) .. "..."
    lines[#lines + 1] = ("%-20s [%s] over %s%s"):format(name, path.path_type, path.transport,
      path.last_rtt_ms and (", %.1f ms"):format(path.last_rtt_ms) or "")
  end
  table.sort(lines)
  return lines
end

--- "3h2m0s": how long the daemon has run.
---@return string
function M.uptime(status)
  return values.format_duration(status.uptime_seconds * 1000000000)
end

return M
