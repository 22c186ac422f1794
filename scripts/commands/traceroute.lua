--- Shows the way to a peer: direct, or through which relay, with the round trip to each hop.
local err = require "peerup.err"
local identity = require "peerup.identity"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local names = require "peerup.names"
local node = require "peerup.node"
local probe = require "peerup.probe"

local CONNECT_S = 45

--- Asks the running daemon; nil, nil when there is none.
local function by_daemon(ctx, args)
  local client = require("peerup.daemon.client").new(ctx:runtime_dir(args))
  if not client then return nil end
  local data, problem = client:call("POST", "/v1/traceroute", json.object("peer", args.target))
  if not data and err.is(problem, "connection_refused") then return nil end
  return data, problem
end

--- Connects with a node of our own, and traces.
local function by_ourselves(ctx, args)
  local config, problem = ctx:node_config(args)
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
  if not args.json then ctx.out:line("Connecting...") end
  local conn
  conn, problem = n:reach(peer, CONNECT_S)
  if not conn then
    return nil, err.say(problem.code, "Failed to connect: " .. tostring(problem))
  end
  return probe.trace(n.host, args.target, peer)
end

local function run(ctx, args)
  local through_daemon
  local trace, problem = ctx:interruptible(function()
    local _ <close> = ctx:progress("Tracing the way to " .. args.target)
    local found, why = by_daemon(ctx, args)
    through_daemon = found ~= nil
    if not found and not why then found, why = by_ourselves(ctx, args) end
    return found, why
  end)
  if not trace then return nil, problem end
  if args.json then
    ctx.out:json(trace)
    return 0
  end
  ctx.out:line("traceroute to %s (%s)%s", trace.target, keys.short(trace.target_id),
    through_daemon and ", through the running daemon" or "")
  for _, line in ipairs(probe.trace_lines(trace)) do ctx.out:line("%s", line) end
  return 0
end

return {
  name = "traceroute", summary = "show the way to a peer, hop by hop", run = run,
  bad_usage = 2, bare_errors = true,
  args = { { "target", help = "name or peer ID" } },
  options = { { "json", type = "flag", help = "print JSON" } },
}
