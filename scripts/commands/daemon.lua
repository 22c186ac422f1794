--- Runs this machine's node: offers its services and answers the local API. And asks a running one.
local err = require "peerup.err"
local identity = require "peerup.identity"
local json = require "peerup.json"
local load = require "peerup.config.load"

local STATUS_MS = 30000
local DRAIN_MS = 100
local INVITE_TTL = "10m"
local DROPS_PER_MINUTE = 20

local function tag(addr)
  if addr:find("/p2p-circuit", 1, true) then return "[RELAY]" end
  if require("peerup.net").is_public(addr) then return "[public]" end
  return "[local]"
end

--- Prints what has changed of the node's state.
local function status_printer(ctx, n)
  local last = ""
  return function()
    if not n.host then return end
    local lines = {}
    for _, addr in ipairs(n.host:addrs()) do
      lines[#lines + 1] = ("  %s %s"):format(tag(addr), addr)
    end
    for _, r in ipairs(n.host:reservations()) do
      if not r.active then
        lines[#lines + 1] = ("  relay %s: %s"):format(r.relay,
          (r.detail or "") ~= "" and r.detail or r.code or "not reached yet")
      end
    end
    local text = table.concat(lines, "\n")
    if text == last then return end
    last = text
    ctx.out:line("--- Status ---")
    for _, line in ipairs(lines) do ctx.out:line(line) end
  end
end

local function banner(ctx, n, paths)
  local out, config = ctx.out, n.config
  out:line("peerup daemon %s", ctx.version)
  out:line("Config:     %s", config.path)
  out:line("Rendezvous: %s", config.discovery.rendezvous)
  out:line("Key file:   %s", config.identity.key_file)
  out:line("Peer ID:    %s", n.peer_id)
  for _, relay in ipairs(n.relays) do out:line("Relay:      %s", relay.addr) end
  if not n.rules.gating then
    out:paint("yellow", "Connection gating is DISABLED: anybody may use the services")
  elseif not next(n.rules.authorized) then
    out:paint("yellow", "Nobody is authorized yet, so nobody gets in; to let a machine in: peerup "
      .. "invite, or peerup auth add <peer ID>")
  end
  local services = {}
  for _, exposed in pairs(n.exposed) do
    services[#services + 1] = ("  %-12s -> %s"):format(exposed.name, exposed.local_address)
  end
  table.sort(services)
  out:line("Services:%s", #services == 0 and "   none" or "")
  for _, line in ipairs(services) do out:line(line) end
  out:line("Daemon API: %s", paths.socket)
end

--- Tells whether a reservation stands although its refresh failed.
local function still_reserved(n, relay)
  for _, reservation in ipairs(n.host and n.host:reservations() or {}) do
    if reservation.relay == relay then return reservation.active end
  end
  return false
end

local function log_events(n)
  local write = n.log:limited(DROPS_PER_MINUTE)
  n:on_event(function(event)
    local conn = event.conn
    if event.type == "connected" then
      n.log:info("connected", "peer", conn.peer, "path", conn.relayed and "RELAYED" or "DIRECT",
        "addr", conn.addr)
    elseif event.type == "disconnected" then
      n.log:info("disconnected", "peer", conn and conn.peer, "why", event.detail)
    elseif event.type == "reserved" then
      n.log:info("relay reservation granted", "relay", event.peer, "limits", event.detail)
    elseif event.type == "reservation_lost" then
      n.log:warn(still_reserved(n, event.peer) and "relay reservation not refreshed, it stands yet"
        or "no relay reservation", "relay", event.peer, "code", event.code, "why",
        event.detail)
    elseif event.type == "dropped" and event.code ~= "denied" then -- the policy has logged those
      write("warn", "connection dropped", "peer", event.peer, "code", event.code, "why",
        event.detail)
    end
  end)
end

--- Reads the config, after a change of it was undone whose time to be confirmed has passed.
local function safe_config(ctx, args)
  local safety = require "peerup.config.safety"
  local path, hint = load.find(args.config, ctx.home), ""
  if path then
    local state, problem = safety.look(path, ctx.now())
    if state == "reverted" then
      ctx.err:paint("yellow",
        "The last change of the config was not confirmed in time and is undone.")
    elseif problem then
      return nil, err.say(problem.code, "Config error: " .. tostring(problem))
    end
    if require("peerup.fs").exists(safety.paths(path).archive) then
      hint = "; 'peerup config rollback' brings the last one back that worked"
    end
  end
  local config, problem = ctx:node_config(args)
  if not config then
    return nil, err.say(problem.code, "Config error: " .. tostring(problem) .. hint)
  end
  local faults = load.validate(config)
  if #faults == 0 then return config end
  return nil, err.say("malformed", "invalid config: " .. faults[1] .. hint)
end

local function start_node(ctx, args)
  local node = require "peerup.node"
  local server = require "peerup.daemon.server"
  local config, problem = safe_config(ctx, args)
  if not config then return nil, problem end
  local dir = ctx:runtime_dir(args)
  local paths = server.paths(dir)
  local ok
  ok, problem = require("peerup.fs").mkdir(dir)
  if ok then ok, problem = server.claim(paths) end
  if not ok then
    return nil, err.say(problem.code, "Daemon API failed to start: " .. tostring(problem))
  end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, err.say(problem.code, "Failed to start: " .. tostring(problem)) end
  local n
  local log = ctx:logger()
  log:configure(config.log)
  n, problem = node.open { config = config, identity = own, log = log, serving = true }
  if not n then return nil, err.say(problem.code, "Failed to start: " .. tostring(problem)) end
  log_events(n)
  ok, problem = n:listen()
  if ok then ok, problem = n:serve_ping_pong() end
  if ok then ok, problem = require("peerup.pairing.member").serve(n) end
  if ok then
    n:sync_services()
    ok, problem = n:reserve_all()
  end
  if not ok then
    n:close()
    return nil, err.say(problem.code, "Failed to start: " .. tostring(problem))
  end
  return n, paths
end

--- The state of a node in a line, for the service manager.
local function summary(n)
  if not n.host then return "stopping" end
  local reserved, total, peers, count = 0, 0, {}, 0
  for _, reservation in ipairs(n.host:reservations()) do
    total = total + 1
    if reservation.active then reserved = reserved + 1 end
  end
  for _, conn in ipairs(n.host:conns()) do
    if not peers[conn.peer] then
      peers[conn.peer] = true
      count = count + 1
    end
  end
  return ("%s; reachable through %d of %d relay(s), %d peer(s) connected"):format(
    reserved > 0 and "running" or "degraded: no relay reservation", reserved, total, count)
end

--- What has to hold for the service manager to leave the daemon alone. A relay that is away is no
--- reason to be killed: a new process would find it no sooner.
local function notifier_of(ctx, n, api)
  return require("peerup.daemon.notify").new {
    env = ctx.env, log = n.log,
    checks = {
      { name = "host-listening", run = function()
        return n.host and #n.host:addrs() > 0, "the host has no address" end },
      { name = "daemon-socket", run = function()
        return api.http ~= nil, "the API is closed" end },
    },
  }
end

local function client_of(ctx, args)
  return require("peerup.daemon.client").new(ctx:runtime_dir(args))
end

--- Opens an invite once the daemon runs, for who starts it by hand on a new machine.
local function invite(ctx, args)
  local terminal = require "peerup.invite.terminal"
  local values = require "peerup.config.values"
  local client, problem = client_of(ctx, args)
  local offer
  if client then
    offer, problem = terminal.by_daemon(ctx, { name = args.name or terminal.machine_name() },
      client, values.parse_duration(INVITE_TTL))
  end
  if ctx.stopped then return end
  if offer then
    terminal.report(ctx, {}, offer)
  else
    ctx.err:paint("yellow", "No invite: %s", tostring(problem))
  end
  if not offer or offer.state ~= "joined" then
    ctx.out:line("The daemon goes on; for another code: peerup invite")
  end
end

local function start(ctx, args)
  local server = require "peerup.daemon.server"
  local uv = require "luv"
  local n <close>, paths = start_node(ctx, args)
  if not n then return nil, paths end
  local closing
  local telemetry <close> = require("peerup.telemetry.start").node(n, { version = ctx.version,
    write = function(line) ctx.err:write(line) end })
  local api <close>, problem = server.start {
    paths = paths, routes = require("peerup.daemon.routes").routes,
    on_request = telemetry and function(event) telemetry:tell(event) end,
    state = {
      node = n, version = ctx.version,
      shutdown = function() -- the answer goes out first; asking twice is harmless
        if closing then return end
        closing = uv.new_timer()
        closing:start(DRAIN_MS, 0, function() ctx:stop("shutdown") end)
      end,
    },
  }
  if not api then
    return nil, err.say(problem.code, "Daemon API failed to start: " .. tostring(problem))
  end
  n:keep_config()
  n:watch()
  ctx:catch_signals()
  ctx:on_hangup(function() n:reload_config() end)
  local notifier = notifier_of(ctx, n, api)
  banner(ctx, n, paths)
  local print_status = status_printer(ctx, n)
  print_status()
  local timer = uv.new_timer()
  timer:start(STATUS_MS, STATUS_MS, print_status)
  local function words() return summary(n) end
  local off = n:on_event(function(event)
    if event.type == "addresses" then print_status() end
    notifier:changed(words)
  end)
  notifier:ready()
  notifier:changed(words)
  if args.invite then require("peerup.task").spawn(invite, ctx, args) end
  ctx:wait_stop()
  notifier:stopping()
  off()
  timer:close()
  if closing and not closing:is_closing() then closing:close() end
  ctx.out:line("Shutting down...")
  api:close()
  n:close()
  ctx.out:line("Daemon stopped.")
  return 0
end

-- ---- asking a running daemon ----

--- Makes a command of one whose waits for the daemon Ctrl-C ends; left says what may go on then.
local function waiting(text, run, left)
  return function(ctx, args)
    local code, problem = ctx:interruptible(function()
      local _ <close> = ctx:progress((text:gsub("<peer>", function()
        return args.peer or "the peer"
      end)))
      return run(ctx, args)
    end)
    if ctx.stopped and left then ctx.err:line("%s", left) end
    return code, problem
  end
end

--- Makes a command that shows an endpoint.
local function show(endpoint)
  return function(ctx, args)
    local path = endpoint
    local client, problem = client_of(ctx, args)
    if not client then return nil, problem end
    if args.all then path = path .. "?all=true" end
    if args.json then
      local data
      data, problem = client:request("GET", path)
      if not data then return nil, problem end
      -- The daemon's own order of keys is kept: only the envelope goes.
      local inner = data.body:match('^{"data":(.*)}%s*$')
      if data.status ~= 200 or not inner then
        return nil, err.say("io_error", "daemon: " .. data.body)
      end
      ctx.out:line(json.indent(inner, 2))
      return 0
    end
    local answer
    answer, problem = client:request("GET", path .. (path:find("?", 1, true) and "&" or "?")
      .. "format=text")
    if not answer then return nil, problem end
    if answer.status ~= 200 then return nil, err.say("io_error", "daemon: " .. answer.body) end
    ctx.out:write(answer.body)
    return 0
  end
end

local function stop(ctx, args)
  local client, problem = client_of(ctx, args)
  if not client then return nil, problem end
  local data
  data, problem = client:call("POST", "/v1/shutdown")
  if not data then return nil, problem end
  ctx.out:line("Shutdown requested.")
  return 0
end

--- Pings a peer from the daemon.
local function ping(ctx, args)
  if args.count < 1 then return nil, err.say("usage", "the number of pings must be positive") end
  if args.interval < 1 then return nil, err.say("usage", "the interval must be positive") end
  local client, problem = client_of(ctx, args)
  if not client then return nil, problem end
  local answer
  answer, problem = client:request("POST", "/v1/ping" .. (args.json and "" or "?format=text"),
    json.encode(json.object("peer", args.peer, "count", args.count, "interval_ms", args.interval)))
  if not answer then return nil, problem end
  local inner = answer.body:match('^{"data":(.*)}%s*$')
  if answer.status ~= 200 or args.json and not inner then
    local decoded = json.decode(answer.body)
    return nil, err.say("io_error", "daemon: " .. tostring(type(decoded) == "table"
      and decoded.error or answer.body))
  end
  if args.json then ctx.out:line("%s", json.indent(inner, 2)) else ctx.out:write(answer.body) end
  return 0
end

local function connect(ctx, args)
  for _, name in ipairs { "peer", "service", "listen" } do
    if not args[name] then
      return nil, err.say("usage", ("--%s is required"):format(name))
    end
  end
  local client, problem = client_of(ctx, args)
  if not client then return nil, problem end
  local data
  data, problem = client:call("POST", "/v1/connect", json.object("peer", args.peer, "service",
    args.service, "listen", args.listen))
  if not data then return nil, problem end
  ctx.out:line("Proxy created: %s -> %s:%s (listen: %s)", data.id, args.peer, args.service,
    data.listen_address)
  if data.note then ctx.err:paint("yellow", "Note: %s", data.note) end
  return 0
end

local function disconnect(ctx, args)
  local client, problem = client_of(ctx, args)
  if not client then return nil, problem end
  local data
  data, problem = client:call("DELETE", "/v1/connect/" .. args.id)
  if not data then return nil, problem end
  ctx.out:line("Proxy disconnected.")
  return 0
end

--- Prints what happens until Ctrl-C.
local function events(ctx, args)
  local client, problem = client_of(ctx, args)
  if not client then return nil, problem end
  local path = "/v1/events?types=" .. (args.types or ""):gsub("[^%w_,]", "?")
  if not args.json then path = path .. "&format=text" end
  local work, ok
  ctx:catch_signals(function() work:cancel() end)
  work = require("peerup.task").spawn(function()
    ok, problem = client:follow(path, function(line)
      if line ~= "" then ctx.out:line("%s", line) end
      if ctx.out.closed then work:cancel() end
    end)
  end)
  work:join()
  if ok and not ctx.stopped then
    ctx.err:line("The daemon has ended.")
  elseif not ok and not ctx.stopped and not ctx.out.closed then
    return nil, problem
  end
  return 0
end

--- Shows or sets log levels: [module] level.
local function log_levels(ctx, args)
  local module, level = args.module, args.level
  if module and not level then module, level = nil, module end
  if not level then return show "/v1/log" (ctx, args) end
  local ok, why = require("peerup.log").check(level, module)
  if not ok then return nil, err.say("invalid", why) end
  local client, problem = client_of(ctx, args)
  if not client then return nil, problem end
  local data
  data, problem = client:call("POST", "/v1/log", json.object("module", module, "level", level))
  if not data then return nil, problem end
  ctx.out:line("Log level of %s: %s, until the daemon ends or its config changes.",
    module or "peerup", level)
  return 0
end

local ASKING = "Waiting for the daemon"
local function shows(endpoint) return waiting(ASKING, show(endpoint)) end
ping = waiting("Pinging <peer>", ping)
connect = waiting("Connecting to <peer>", connect,
  "The daemon goes on with it; 'peerup daemon proxies' shows whether it has made the port.")
disconnect, log_levels, stop = waiting(ASKING, disconnect), waiting(ASKING, log_levels),
  waiting(ASKING, stop)

local JSON = { { "json", type = "flag", help = "print JSON" } }
return {
  name = "daemon", summary = "run this machine's node, or ask the running one", default = "start",
  commands = {
    { name = "start", summary = "run the node in the foreground", run = start, bad_usage = 2,
      bare_errors = true, options = {
        { "invite", type = "flag", help = "show an invite code when it runs" },
        { "name", type = "string", value = "<name>",
          help = "with --invite: the name by which the joiner shall know this machine "
            .. "(default: its host name)" } } },
    { name = "status", summary = "state of the running daemon", run = shows "/v1/status",
      options = JSON, bad_usage = 2 },
    { name = "services", summary = "services it offers", run = shows "/v1/services",
      options = JSON, bad_usage = 2 },
    { name = "peers", summary = "peers it is connected to", run = shows "/v1/peers",
      bad_usage = 2, options = { { "all", type = "flag", help = "also other programs' peers" },
        JSON[1] } },
    { name = "paths", summary = "paths to its peers", run = shows "/v1/paths", options = JSON,
      bad_usage = 2 },
    { name = "ping", summary = "ping a peer from the running daemon", run = ping, bad_usage = 2,
      args = { { "peer", help = "name or peer ID" } },
      options = { { "count", short = "c", type = "integer", value = "<n>", default = "4",
        help = "how many pings" },
        { "interval", type = "integer", value = "<ms>", default = "1000",
          help = "milliseconds between pings" }, JSON[1] } },
    { name = "connect", summary = "make a peer's service a local port of the daemon", run = connect,
      bad_usage = 2, options = {
        { "peer", type = "string", value = "<name>", help = "name or peer ID" },
        { "service", type = "string", value = "<name>", complete = false,
          help = "the service's name there" },
        { "listen", type = "string", value = "<host:port>", help = "where to listen here" } } },
    { name = "disconnect", summary = "end such a port", run = disconnect, bad_usage = 2,
      args = { { "id", help = "as 'daemon connect' and 'daemon proxies' show it" } } },
    { name = "proxies", summary = "ports that 'daemon connect' has made", run = shows "/v1/connect",
      options = JSON, bad_usage = 2 },
    { name = "events", summary = "show what happens, as it happens", run = events, bad_usage = 2,
      options = { { "types", type = "string", value = "<a,b>",
        help = "only these types: connected, decision, service ..." }, JSON[1] } },
    { name = "log", summary = "show or set log levels of the running daemon", run = log_levels,
      args = { { "module", optional = true, help = "a part of the engine; without: the program" },
        { "level", optional = true, help = "debug, info, warn, error or off" } },
      options = JSON, bad_usage = 2 },
    { name = "stop", summary = "end the running daemon", run = stop, bad_usage = 2 },
  },
}
