--- Measures the round trip to a peer, and says over which path.
local err = require "peerup.err"
local identity = require "peerup.identity"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local line = require "peerup.line"
local names = require "peerup.names"
local node = require "peerup.node"
local task = require "peerup.task"
local uv = require "luv"
local values = require "peerup.config.values"

local CONNECT_S = 45
local PING_S = 15

--- One ping-pong over a stream of its own; nil, err with code "unsupported" when it is not spoken.
local function ping_pong(host, peer, protocol)
  local stream <close>, problem = host:open_stream(peer, protocol, { timeout = PING_S,
    limited = true })
  if not stream then return nil, problem end
  local from = uv.hrtime()
  local ok
  ok, problem = stream:write("ping\n", PING_S)
  if not ok then return nil, problem end
  local answer
  answer, problem = line.reader(stream, 64):read(PING_S)
  if not answer then
    return nil, problem or err.say("eof", "the peer closed without an answer")
  end
  if answer:match("^%s*(.-)%s*$") ~= "pong" then
    return nil, err.say("protocol_error", "the peer answered something else than pong")
  end
  return (uv.hrtime() - from) / 1e9
end

--- Pings by ping-pong, or by libp2p's ping where that is not served.
local function once(state)
  if not state.basic then
    local seconds, problem = ping_pong(state.host, state.peer, state.protocol)
    if seconds or not err.is(problem, "unsupported", "reset") then return seconds, problem end
    state.basic = true
  end
  return state.host:ping(state.peer, { timeout = PING_S })
end

local function round_ms(seconds)
  return math.floor(seconds * 1e6 + 0.5) / 1e3
end

local function show(ctx, args, result)
  if args.json then
    ctx.out:json_line(json.object("seq", result.seq, "peer_id", result.peer_id, "rtt_ms",
      result.rtt_ms or 0, "path", result.path or "", "error", result.error or ""))
  elseif result.error then
    ctx.out:line("seq=%d error=%s", result.seq, result.error)
  else
    ctx.out:line("seq=%d rtt=%.1fms path=[%s]", result.seq, result.rtt_ms, result.path)
  end
end

local function statistics(results)
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

local function summary(ctx, args, s)
  if args.json then
    ctx.out:json_line(json.object("sent", s.sent, "received", s.received, "lost", s.lost,
      "loss_pct", s.loss_pct, "min_ms", s.min or 0, "avg_ms", math.floor(s.avg * 1000 + 0.5) / 1000,
      "max_ms", s.max))
    return
  end
  ctx.out:line()
  ctx.out:line("--- %s ping statistics ---", args.target)
  ctx.out:line("%d sent, %d received, %.0f%% loss, rtt min/avg/max = %.1f/%.1f/%.1f ms", s.sent,
    s.received, s.loss_pct, s.min or 0, s.avg, s.max)
end

local function pings(ctx, args, state)
  local results = {}
  local pause = state.interval / 1e9
  while not ctx.stopped and not ctx.out.closed
    and (args.count == 0 or #results < args.count) do
    if #results > 0 and not task.sleep(pause) then break end
    if ctx.stopped then break end
    local seconds, problem = once(state)
    if not seconds and err.is(problem, "canceled") then break end
    local conn = state.host:best_conn(state.peer)
    local result = { seq = #results + 1, peer_id = state.peer,
      rtt_ms = seconds and round_ms(seconds), path = conn and node.path_of(conn),
      error = not seconds and tostring(problem) or nil }
    results[#results + 1] = result
    show(ctx, args, result)
  end
  return results
end

local function run(ctx, args)
  local interval, bad = values.parse_duration(args.interval)
  if not interval or interval <= 0 then
    return nil, err.say("invalid", ('Invalid interval "%s": %s'):format(args.interval,
      bad and tostring(bad) or "it must be more than zero"))
  end
  if args.count < 0 then return nil, err.say("usage", "the number of pings cannot be negative") end
  local config, problem = ctx:node_config(args)
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  local peer, source = names.resolve(config.names, args.target)
  if not peer then
    return nil, err.say(source.code, ('Cannot resolve target "%s": %s'):format(args.target,
      tostring(source)))
  end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local n <close>, why = node.open { config = config, identity = own, log = ctx:logger("warn"),
    targets = { peer } }
  if not n then return nil, why end
  if not args.json then
    ctx.out:line("PING %s (%s)", args.target, keys.short(peer))
    ctx.out:line("Connecting...")
  end
  local work
  ctx:catch_signals(function() if work then work:cancel() end end)
  local conn
  work = task.spawn(function()
    conn, problem = n:reach(peer, CONNECT_S)
  end)
  work:join()
  if not conn then
    if ctx.stopped then return 0 end
    return nil, err.say(problem.code, "Failed to connect: " .. tostring(problem))
  end
  if not args.json then
    ctx.out:line("Connected [%s] via %s (%s)", node.path_of(conn), conn.addr,
      node.transport_of(conn))
    ctx.out:line()
  end
  local state = { host = n.host, peer = peer, interval = interval,
    protocol = config.protocols.ping_pong.id ~= "" and config.protocols.ping_pong.id
      or node.PING_PONG }
  local results
  work = task.spawn(function() results = pings(ctx, args, state) end)
  work:join()
  local s = statistics(results or {})
  summary(ctx, args, s)
  if s.sent > 0 and s.received == 0 then return nil, err.say("silent", "") end
  return 0
end

return {
  name = "ping", summary = "measure the round trip to a peer", run = run,
  bad_usage = 2, bare_errors = true,
  args = { { "target", help = "name or peer ID" } },
  options = {
    { "count", short = "c", alias = "n", type = "integer", value = "<n>", default = "0",
      help = "how many pings; 0: until interrupted" },
    { "interval", type = "string", value = "<time>", default = "1s",
      help = "time between pings" },
    { "json", type = "flag", help = "print JSON lines" },
  },
}
