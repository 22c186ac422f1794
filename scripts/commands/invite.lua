--- Opens an invite: prints a code, waits for the machine that joins with it, and keeps it. A
-- running daemon serves the joiner, for two programs with one peer ID would take each other's
-- circuits; without one the command has a host of its own.
local err = require "peerup.err"
local handshake = require "peerup.invite.handshake"
local offers = require "peerup.invite.offer"
local task = require "peerup.task"
local terminal = require "peerup.invite.terminal"
local values = require "peerup.config.values"

local SAVING_POLL_S = 0.1

--- Runs the invite on a host of its own.
local function by_itself(ctx, args, config, ttl)
  local own, problem = require("peerup.identity").load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local n <close>, why = require("peerup.node").open { config = config, identity = own,
    log = ctx:logger("warn") }
  if not n then return nil, why end
  local progress <close> = ctx:progress("Connecting to the relay")
  local print_notes = terminal.note_printer(ctx)
  local offer
  local opening = task.spawn(function()
    offer, problem = offers.open { node = n, name = args.name, ttl_s = ttl // 1000000000,
      on_change = function(changed)
        print_notes(changed.notes)
        if changed.state ~= "open" then ctx:stop("finished") end
      end }
    if not offer then ctx:stop("failed") return end
    terminal.show_code(ctx, args, offer.code, ttl)
    terminal.tell_relay(ctx, offer)
    progress:say(terminal.time_left(ttl))
  end)
  local reason = ctx:wait_stop()
  opening:cancel()
  opening:join()
  if not offer then
    if reason == "signal" then return { state = "stopped" } end
    return nil, problem
  end
  -- Whoever is being kept already is kept as a whole: the joiner waits for our answer.
  while offer.inviter.state == "saving" do task.sleep(SAVING_POLL_S) end
  offer:close()
  return offer
end

--- A client of the running daemon; nil when none runs.
local function running_daemon(ctx, args)
  local client = require("peerup.daemon.client").new(ctx:runtime_dir(args))
  if client and client:call("GET", "/v1/status") then return client end
end

local function run(ctx, args)
  local ttl, problem = values.parse_duration(args.ttl)
  local ttl_s = ttl and ttl // 1000000000
  if not ttl or ttl_s < 1 or ttl_s > offers.MAX_TTL_S then
    return nil, err.say("usage", ('invalid value "%s" for flag -ttl: %s'):format(args.ttl,
      problem and tostring(problem) or "it must be between 1s and 24h"))
  end
  if #args.name > handshake.MAX_NAME then return nil, err.say("usage", "the name is too long") end
  local config
  config, problem = ctx:node_config(args)
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  if config.security.authorized_keys_file == "" then
    return nil, err.say("invalid", "the config names no security.authorized_keys_file")
  end
  if args.name == "" and not args.non_interactive then args.name = terminal.machine_name() end
  ctx:catch_signals()
  local client = running_daemon(ctx, args)
  local offer
  if client then
    offer, problem = terminal.by_daemon(ctx, args, client, ttl)
  else
    offer, problem = by_itself(ctx, args, config, ttl)
  end
  if not offer then return nil, problem end
  return terminal.report(ctx, args, offer)
end

return {
  name = "invite", summary = "make a code with which another machine joins", run = run,
  bad_usage = 2, bare_errors = true,
  options = {
    { "name", type = "string", value = "<name>", default = "",
      help = "the name by which the joiner shall know this machine (default: its host name)" },
    { "ttl", type = "string", value = "<time>", default = "10m", help = "how long the code lives" },
    { "non-interactive", type = "flag", help = "print only the code on standard output" },
  },
}
