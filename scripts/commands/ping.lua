--- Measures the round trip to a peer, and says over which path.
local context = require "peerup.cli.context"
local err = require "peerup.err"
local identity = require "peerup.identity"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local names = require "peerup.names"
local node = require "peerup.node"
local probe = require "peerup.probe"
local task = require "peerup.task"
local values = require "peerup.config.values"
local verify = require "peerup.verify"

local CONNECT_S = 45

local function show(ctx, args, result)
  if args.json then
    ctx.out:json_line(probe.result_json(result))
  else
    ctx.out:line("%s", probe.result_line(result))
  end
end

local function summary(ctx, args, s)
  local stats = probe.statistics_json(s)
  if args.json then
    ctx.out:json_line(stats)
    return
  end
  ctx.out:line()
  ctx.out:line("--- %s ping statistics ---", args.target)
  ctx.out:line("%s", probe.statistics_line(stats))
end

local function pings(ctx, args, state)
  local results = {}
  local pause = state.interval / 1e9
  while not ctx.stopped and not ctx.out.closed
    and (args.count == 0 or #results < args.count) do
    if #results > 0 and not task.sleep(pause) then break end
    if ctx.stopped then break end
    local result, problem = state.result(#results + 1)
    if ctx.stopped or err.is(problem, "canceled") then break end
    result = result or { seq = #results + 1, peer_id = state.peer, error = tostring(problem) }
    results[#results + 1] = result
    show(ctx, args, result)
  end
  return results
end

--- Runs a task that the user's Ctrl-C cancels.
local function run_task(ctx, fn)
  if not ctx.work then ctx:catch_signals(function() ctx.work:cancel() end) end
  ctx.work = task.spawn(fn)
  ctx.work:join()
end

--- Pings through the running daemon, whose connections stand already: a function that pings once,
--- nil when there is no daemon, or the error of the first ping.
local function through_daemon(ctx, args, peer)
  local client = require("peerup.daemon.client").new(ctx:runtime_dir(args))
  if not client then return nil end
  local function ask(seq)
    local data, problem = client:call("POST", "/v1/ping", json.object("peer", peer, "count", 1))
    if not data then return nil, problem end
    local one = data.results[1]
    return { seq = seq, peer_id = one.peer_id, rtt_ms = one.error == "" and one.rtt_ms or nil,
      path = one.path, error = one.error ~= "" and one.error or nil }
  end
  local first, problem
  run_task(ctx, function()
    local _ <close> = ctx:progress("Connecting to " .. args.target)
    first, problem = ask(1)
  end)
  if not first and ctx.stopped then return nil, context.interrupted() end
  if err.is(problem, "connection_refused") then return nil end
  if not args.json then
    ctx.out:line("PING %s (%s), through the running daemon", args.target, keys.short(peer))
    ctx.out:line()
  end
  if not first then
    return nil, err.say(problem.code, "Failed to connect: " .. tostring(problem))
  end
  return function(seq)
    if seq == 1 then return first, problem end
    return ask(seq)
  end
end

--- Connects with a node of our own.
local function connected(ctx, args, config, peer)
  local own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local n
  n, problem = node.open { config = config, identity = own, log = ctx:logger("warn"),
    targets = { peer } }
  if not n then return nil, problem end
  if not args.json then
    ctx.out:line("PING %s (%s)", args.target, keys.short(peer))
    ctx.out:line("Connecting...")
  end
  local conn
  run_task(ctx, function()
    local _ <close> = ctx:progress("Connecting to " .. args.target)
    conn, problem = n:reach(peer, CONNECT_S)
  end)
  if not conn then
    n:close()
    if ctx.stopped then return nil, context.interrupted() end
    return nil, err.say(problem.code, "Failed to connect: " .. tostring(problem))
  end
  if not args.json then
    ctx.out:line("Connected [%s] via %s (%s)", node.path_of(conn), conn.addr,
      node.transport_of(conn))
    ctx.out:line()
  end
  return n
end

local function measure(ctx, args, state)
  local results
  run_task(ctx, function() results = pings(ctx, args, state) end)
  local s = probe.statistics(results or {})
  summary(ctx, args, s)
  if s.sent > 0 and s.received == 0 then return nil, err.say("silent", "") end
  return 0
end

--- Says whether the peer was verified, if authorized_keys knows it.
local function tell_badge(ctx, args, config, peer)
  local path = config.security.authorized_keys_file
  local text = not args.json and path ~= "" and keys.read_file(path)
  for _, entry in ipairs(text and keys.list(text) or {}) do
    local own = entry.peer_id == peer and identity.load_or_create(config.identity.key_file)
    if own then
      local line, verified = verify.badge(own.peer_id, entry, args.target)
      ctx.out:paint(verified and "green" or "yellow", "%s", line)
      return
    end
  end
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
  local peer
  peer, problem = names.target(config.names, args.target)
  if not peer then return nil, problem end
  tell_badge(ctx, args, config, peer)
  local state = { interval = interval, peer = peer }
  state.result, problem = through_daemon(ctx, args, peer)
  if problem then return nil, problem end
  if state.result then return measure(ctx, args, state) end
  local n <close>, why = connected(ctx, args, config, peer)
  if not n then return nil, why end
  local pinger = { host = n.host, peer = peer, protocol = probe.protocol(config) }
  state.result = function(seq) return probe.result(pinger, seq) end
  return measure(ctx, args, state)
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
