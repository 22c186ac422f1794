--- Makes a peer's service a local TCP port.
local err = require "peerup.err"
local identity = require "peerup.identity"
local keys = require "peerup.authorized_keys"
local names = require "peerup.names"
local node = require "peerup.node"
local services = require "peerup.services"
local task = require "peerup.task"
local uv = require "luv"
local values = require "peerup.config.values"

local CONNECT_S = 45
local DIRECT_AFTER_S = 1 -- identify has told the peer's addresses by then
local DIRECT_S = 20
local DIRECT_FIRST_S = 3 -- for a direct way before the one stream of standard input and output
local RETRY_S = { 1, 2, 4 } -- before giving up at the start
local RECONNECT_S = { 1, 2, 4, 8, 15, 30 }

--- Where to listen: a port, or host:port.
local function listen_of(text)
  if text:find("^%d+$") and tonumber(text) <= 65535 then return "127.0.0.1:" .. text end
  local host, port = values.split_host_port(text)
  if not host then
    return nil, err.say("usage", ('"%s" is no port (1-65535, or 0 for any free one)'):format(text))
  end
  return ("%s:%d"):format(host == "" and "127.0.0.1" or host:find(":", 1, true)
    and "[" .. host .. "]" or host, port)
end

--- Tells of the path when it changes.
local function path_reporter(ctx, n, peer)
  local last
  return function(why)
    local conn = n.host and n.host:best_conn(peer)
    local path = conn and node.path_of(conn) or "none"
    if path == last then return end
    local first = last == nil
    last = path
    if first then return end
    if conn then
      ctx.out:line("Path is now [%s] via %s (%s)", path, conn.addr, node.transport_of(conn))
    else
      ctx.err:paint("yellow", "Lost the connection to the peer%s; connecting again...",
        why and (": %s"):format(why) or "")
    end
  end
end

--- Tries once to get around the relay, so that new streams go direct. on_told is called when the
--- peer has had time to tell about itself.
local function go_direct(n, peer, on_told)
  if not task.sleep(DIRECT_AFTER_S) then return end
  if on_told and n.host then on_told() end
  local conn = n.host and n.host:best_conn(peer)
  if conn and conn.relayed then n.host:connect(peer, { direct = true, timeout = DIRECT_S }) end
end

--- Keeps the peer connected: comes back after a loss, with growing pauses.
local function keep(ctx, n, peer, report)
  local attempt, told = 0, nil
  while not ctx.stopped and n.host do
    if n.host:best_conn(peer) then
      attempt = 0
      if not n:wait_event(3600, function(event)
        if event.type == "disconnected" and event.conn.peer == peer then return true end
      end) and ctx.stopped then return end
    else
      report()
      attempt = attempt + 1
      if not task.sleep(RECONNECT_S[math.min(attempt, #RECONNECT_S)]) then return end
      local conn, problem = n:reach(peer, CONNECT_S)
      if conn then
        told = nil
        report()
        go_direct(n, peer)
      elseif not ctx.stopped and problem.code ~= told then
        told = problem.code -- each reason once, not each try
        ctx.err:paint("yellow", "Still not connected: %s", tostring(problem))
      end
    end
  end
end

local function connection_log(ctx, service)
  return function(_, event)
    -- Many programs break off when they have what they came for: that is no failure.
    if event.code and not (event.code == "reset" and event.bytes_in > 0) then
      ctx.err:paint("yellow", "A connection to %s failed: %s", service,
        event.detail ~= "" and event.detail or event.code)
    end
  end
end

--- Says what a relay allows, so that its end does not come as a surprise.
local function tell_limits(out, conn)
  if not conn.limited then return end
  local parts = {}
  if (conn.limit_duration_s or 0) > 0 then
    parts[#parts + 1] = values.format_duration(conn.limit_duration_s * 1000000000)
  end
  if (conn.limit_data_bytes or 0) > 0 then
    parts[#parts + 1] = ("%d MiB each way"):format(conn.limit_data_bytes >> 20)
  end
  if #parts > 0 then
    out:paint("faint", "The relay carries at most %s per connection.",
      table.concat(parts, " and "))
  end
end

--- Connects for the first time; a peer or relay that is just coming back gets a few more tries.
local function connect(ctx, n, peer, target)
  local ends = uv.now() + CONNECT_S * 1000
  local _ <close> = ctx:progress("Connecting to " .. target)
  local conn, problem = n:reach(peer, CONNECT_S)
  for _, pause in ipairs(RETRY_S) do
    local left = (ends - uv.now()) / 1000 - pause
    if conn or left <= 0 or ctx.stopped then break end
    ctx.err:line("Not reached (%s); trying again in %d s", tostring(problem.code), pause)
    if not task.sleep(pause) or not n.host then break end
    conn, problem = n:reach(peer, left)
  end
  return conn, problem
end

--- Carries standard input and output instead of listening: what `ssh -o ProxyCommand` wants. Ends
--- when both sides have. Its one stream stays on the connection it began on, and a relay cuts that
--- off at its limits: so a direct one is tried for first.
local function carry(ctx, args, n, peer)
  local conn, problem = connect(ctx, n, peer, args.target)
  local stream
  if conn and conn.relayed then
    n.host:connect(peer, { direct = true, timeout = DIRECT_FIRST_S })
    conn = n.host and n.host:best_conn(peer) or conn
    tell_limits(ctx.err, conn)
  end
  if conn then
    stream, problem = n.host:open_stream(peer, services.protocol(args.service),
      { limited = true, timeout = CONNECT_S })
  end
  if not stream then
    return nil, err.say(problem.code, ("Failed to connect to %s: %s"):format(args.target,
      tostring(problem)))
  end
  n.host:protect(peer, true)
  local ok
  ok, problem = stream:pipe(0, 1)
  if not ok and not ctx.stopped then return nil, problem end
  return true
end

local function serve(ctx, args, n, peer, listen)
  local from = uv.hrtime()
  local conn, problem = connect(ctx, n, peer, args.target)
  if not conn then
    return nil, err.say(problem.code, ("Failed to connect to %s: %s"):format(args.target,
      tostring(problem)))
  end
  ctx.out:paint("green", "Connected [%s] via %s (%s) (%.0fms)", node.path_of(conn), conn.addr,
    node.transport_of(conn), (uv.hrtime() - from) / 1e6)
  tell_limits(ctx.out, conn)
  local proxy
  proxy, problem = n.host:proxy_listen(listen, peer, services.protocol(args.service),
    connection_log(ctx, args.service))
  if not proxy then
    return nil, err.say(problem.code, ("Cannot listen on %s: %s"):format(listen,
      tostring(problem)))
  end
  n.host:protect(peer, true)
  ctx.out:line("TCP proxy listening on %s", (proxy:address():gsub("^127%.0%.0%.1:", "localhost:")))
  ctx.out:line("Ctrl+C stops it.")
  local report = path_reporter(ctx, n, peer)
  report()
  n:on_event(function(event)
    local told = event.type == "connected" or event.type == "disconnected"
    if not told or event.conn.peer ~= peer or ctx.stopped then return end
    report(event.type == "disconnected" and event.detail ~= "" and event.detail or nil)
  end)
  task.spawn(function()
    go_direct(n, peer, function()
      local missing = services.missing(n.host, peer, args.service)
      if missing then ctx.err:paint("yellow", "Note: %s", missing) end
    end)
    keep(ctx, n, peer, report)
  end)
  return true
end

local function run(ctx, args)
  local by_stdio = args.port == "-"
  local listen, problem
  if not by_stdio then listen, problem = listen_of(args.port) end
  if problem then return nil, problem end
  local ok
  ok, problem = values.check_label("service", args.service)
  if not ok then return nil, problem end
  local config
  config, problem = ctx:node_config(args)
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  local peer
  peer, problem = names.target(config.names, args.target)
  if not peer then return nil, problem end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local n <close>, why = node.open { config = config, identity = own, log = ctx:logger("warn"),
    targets = { peer } }
  if not n then return nil, why end
  if not by_stdio then
    ctx.out:line("Proxy to %s (%s), service %s", args.target, keys.short(peer), args.service)
  end
  ctx:catch_signals()
  local work = task.spawn(function()
    local good, bad
    if by_stdio then good, bad = carry(ctx, args, n, peer)
    else good, bad = serve(ctx, args, n, peer, listen) end
    if bad or by_stdio then ctx:stop(bad or "finished") end
    return good
  end)
  local reason = ctx:wait_stop()
  if by_stdio then
    work:cancel()
    work:join()
  end
  if type(reason) == "table" then return nil, reason end
  if by_stdio then return 0 end
  ctx.out:line("Shutting down...")
  return 0
end

return {
  name = "proxy", summary = "make a peer's service a local port", run = run,
  bad_usage = 2, bare_errors = true,
  args = { { "target", help = "name or peer ID" },
    { "service", help = "the service's name there", complete = false },
    { "port", help = "local port, or host:port; 0 takes any free one, - is standard input and "
      .. "output (ssh -o ProxyCommand='peerup proxy home ssh -')" } },
}
