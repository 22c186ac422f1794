--- Measures the way to a peer: pings, their statistics, and the hops of a traceroute. What the
-- commands and the daemon's API share.
local err = require "peerup.err"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local line = require "peerup.line"
local node = require "peerup.node"
local uv = require "luv"

local M = {}

M.PING_S = 15
M.PROBE_S = 10
M.PROBE = "/peerup/rtt-probe/1.0.0" -- served by nobody: the refusal is the answer

--- One ping-pong over a stream of its own; nil, err with code "unsupported" when it is not spoken.
local function ping_pong(host, peer, protocol)
  local stream <close>, problem = host:open_stream(peer, protocol, { timeout = M.PING_S,
    limited = true })
  if not stream then return nil, problem end
  local from = uv.hrtime()
  local ok
  ok, problem = stream:write("ping\n", M.PING_S)
  if not ok then return nil, problem end
  local answer
  answer, problem = line.reader(stream, 64):read(M.PING_S)
  if not answer then
    return nil, problem or err.say("eof", "the peer closed without an answer")
  end
  if answer:match("^%s*(.-)%s*$") ~= "pong" then
    return nil, err.say("protocol_error", "the peer answered something else than pong")
  end
  return (uv.hrtime() - from) / 1e9
end

--- Pings a peer once, by ping-pong, or by libp2p's ping where that is not served.
---@async
---@param state {host: peerup.host, peer: string, protocol: string, basic: boolean?}
---@return number? seconds, peerup.err?
function M.once(state)
  if not state.basic then
    local seconds, problem = ping_pong(state.host, state.peer, state.protocol)
    if seconds or not err.is(problem, "unsupported", "reset") then return seconds, problem end
    state.basic = true
  end
  return state.host:ping(state.peer, { timeout = M.PING_S })
end

--- The protocol by which a configuration pings.
function M.protocol(config)
  local id = config.protocols.ping_pong.id
  return id ~= "" and id or node.PING_PONG
end

function M.round_ms(seconds)
  return math.floor(seconds * 1e6 + 0.5) / 1e3
end

--- Pings once and describes it: seq, peer_id, rtt_ms or error, path.
---@async
---@return {seq: integer, peer_id: string, rtt_ms: number?, path: string?, error: string?}
---@return peerup.err? problem
function M.result(state, seq)
  local seconds, problem = M.once(state)
  local conn = state.host:best_conn(state.peer)
  return { seq = seq, peer_id = state.peer, rtt_ms = seconds and M.round_ms(seconds),
    path = conn and node.path_of(conn), error = not seconds and tostring(problem) or nil }, problem
end

--- A result as the API says it.
function M.result_json(result)
  return json.object("seq", result.seq, "peer_id", result.peer_id, "rtt_ms", result.rtt_ms or 0,
    "path", result.path or "", "error", result.error or "")
end

function M.result_line(result)
  if result.error and result.error ~= "" then
    return ("seq=%d error=%s"):format(result.seq, result.error)
  end
  return ("seq=%d rtt=%.1fms path=[%s]"):format(result.seq, result.rtt_ms, result.path)
end

--- Sums results up.
---@return {sent: integer, received: integer, lost: integer, loss_pct: number, min: number?,
---  avg: number, max: number}
function M.statistics(results)
  local s = { sent = #results, received = 0, min = nil, max = 0, sum = 0 }
  for _, r in ipairs(results) do
    if r.rtt_ms then
      s.received = s.received + 1
      s.min = math.min(s.min or r.rtt_ms, r.rtt_ms)
      s.max = math.max(s.max, r.rtt_ms)
      s.sum = s.sum + r.rtt_ms
    end
  end
  s.lost = s.sent - s.received
  s.loss_pct = s.sent > 0 and s.lost * 100 / s.sent or 0
  s.avg = s.received > 0 and s.sum / s.received or 0
  return s
end

function M.statistics_json(s)
  return json.object("sent", s.sent, "received", s.received, "lost", s.lost,
    "loss_pct", s.loss_pct, "min_ms", s.min or 0, "avg_ms", math.floor(s.avg * 1000 + 0.5) / 1000,
    "max_ms", s.max)
end

--- The summary in words; stats as statistics_json makes them.
function M.statistics_line(stats)
  return ("%d sent, %d received, %.0f%% loss, rtt min/avg/max = %.1f/%.1f/%.1f ms"):format(
    stats.sent, stats.received, stats.loss_pct, stats.min_ms, stats.avg_ms, stats.max_ms)
end

--- The round trip of a refused stream.
---@async
---@return number? seconds, peerup.err?
local function probe(host, peer)
  local from = uv.hrtime()
  local stream <close>, problem = host:open_stream(peer, M.PROBE, { timeout = M.PROBE_S,
    limited = true })
  if stream or err.is(problem, "unsupported") then return (uv.hrtime() - from) / 1e9 end
  return nil, problem
end

local function hop(host, number, peer, fields)
  local seconds, problem = probe(host, peer)
  return json.object("hop", number, "peer_id", peer, "name", fields.name, "address",
    fields.address, "rtt_ms", seconds and M.round_ms(seconds) or 0,
    "error", not seconds and tostring(problem) or nil)
end

--- Traces the way to a connected peer: one hop, or two through a relay.
---@async
---@param host peerup.host
---@param target string  as the user typed it
---@param peer string
---@return table? trace  as the API says it
---@return peerup.err?
function M.trace(host, target, peer)
  local conn = host:best_conn(peer)
  if not conn then return nil, err.say("gone", "not connected to peer " .. keys.short(peer)) end
  local hops = json.array()
  if conn.relayed then
    local way, relay = conn.addr:match("^(.*/p2p/([^/]+))/p2p%-circuit")
    local to_relay = relay and host:best_conn(relay)
    if relay then
      hops[1] = hop(host, 1, relay, { name = to_relay and to_relay.agent, address = way })
    end
  end
  hops[#hops + 1] = hop(host, #hops + 1, peer, { address = conn.addr })
  return json.object("target", target, "target_id", peer, "path", node.path_of(conn), "hops", hops)
end

--- The lines of a trace, without its head.
---@return string[]
function M.trace_lines(trace)
  local lines = {}
  for _, h in ipairs(trace.hops) do
    local rtt = h.error and "*" or ("%.1fms"):format(h.rtt_ms)
    lines[#lines + 1] = ("%2d  %s%s  %s  %s"):format(h.hop, keys.short(h.peer_id),
      h.name and (" (%s)"):format(h.name) or "", h.address or "", rtt)
  end
  lines[#lines + 1] = ("--- path: [%s] ---"):format(trace.path)
  return lines
end

return M
