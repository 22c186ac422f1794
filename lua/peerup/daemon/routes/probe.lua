--- Endpoints that look for a peer: resolve, ping, traceroute.
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local names = require "peerup.names"
local probe = require "peerup.probe"
local target = require "peerup.daemon.target"
local task = require "peerup.task"
local text = require "peerup.daemon.text"
local uv = require "luv"

local CONNECT_S = 45
local COUNT, INTERVAL_MS = 4, 1000  -- when a request does not say
local COUNT_MAX, INTERVAL_MAX_MS = 10000, 3600000
local GRACE_S = 30                  -- beyond count times interval

local function resolve(state, request)
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local name = text.strings(body, "name")
  if not name then return nil, "name is required", 400 end
  local id, source = names.resolve(state.node.names, name)
  if not id then return nil, ('cannot resolve "%s": %s'):format(name, tostring(source)), 404 end
  return json.object("name", name, "peer_id", id, "source", source)
end

local function resolve_text(data)
  return ("%s → %s (source: %s)\n"):format(data.name, data.peer_id, data.source)
end

--- A whole number of a body, or what stands for one that is missing or not positive.
local function positive(value, default, most)
  if value == nil then return default end
  local n = math.tointeger(value)
  if not n then return nil end
  return n < 1 and default or math.min(n, most)
end

local function asked_peer(request)
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local peer = text.strings(body, "peer")
  if not peer then return nil, "peer is required", 400 end
  return body, peer
end

local function ping(state, request)
  local body, peer, status = asked_peer(request)
  if not body then return nil, peer, status end
  local count = positive(body.count, COUNT, COUNT_MAX)
  local interval_ms = positive(body.interval_ms, INTERVAL_MS, INTERVAL_MAX_MS)
  if not count or not interval_ms then
    return nil, "count and interval_ms must be whole numbers", 400
  end
  local id, why
  id, why, status = target.reach(state.node, peer, CONNECT_S)
  if not id then return nil, why, status end
  local ends = uv.now() + count * interval_ms + GRACE_S * 1000
  local pinger = { host = state.node.host, peer = id, protocol = probe.protocol(state.node.config) }
  local results = {}
  while #results < count and uv.now() < ends and state.node.host do
    if #results > 0 and not task.sleep(interval_ms / 1000) then break end
    if not state.node.host then break end
    results[#results + 1] = probe.result(pinger, #results + 1)
  end
  local list = json.array()
  for i, result in ipairs(results) do list[i] = probe.result_json(result) end
  return json.object("results", #list > 0 and list or json.null, "stats",
    probe.statistics_json(probe.statistics(results))), nil, { peer = peer, id = id }
end

local function ping_text(data, _, asked)
  local lines = { ("PING %s (%s):"):format(asked.peer, keys.short(asked.id)) }
  for _, result in ipairs(data.results ~= json.null and data.results or {}) do
    lines[#lines + 1] = probe.result_line(result)
  end
  lines[#lines + 1] = ("--- %s ping statistics ---"):format(asked.peer)
  lines[#lines + 1] = probe.statistics_line(data.stats)
  return table.concat(lines, "\n") .. "\n"
end

local function traceroute(state, request)
  local body, peer, status = asked_peer(request)
  if not body then return nil, peer, status end
  local id, why
  id, why, status = target.reach(state.node, peer, CONNECT_S)
  if not id then return nil, why, status end
  local trace, problem = probe.trace(state.node.host, peer, id)
  if not trace then return nil, problem, 500 end
  return trace
end

local function traceroute_text(data)
  return ("traceroute to %s (%s):\n%s\n"):format(data.target, keys.short(data.target_id),
    table.concat(probe.trace_lines(data), "\n"))
end

return {
  ["POST /v1/resolve"] = { run = resolve, text = resolve_text },
  ["POST /v1/ping"] = { run = ping, text = ping_text },
  ["POST /v1/traceroute"] = { run = traceroute, text = traceroute_text },
}
