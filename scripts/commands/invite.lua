--- Opens an invite: prints a code, waits for the machine that joins with it, and keeps it. A
-- running daemon serves the joiner, for two programs with one peer ID would take each other's
-- circuits; without one the command has a host of its own.
local err = require "peerup.err"
local handshake = require "peerup.invite.handshake"
local offers = require "peerup.invite.offer"
local task = require "peerup.task"
local values = require "peerup.config.values"

local POLL_S = 0.3

--- Prints the code for a person, or alone for a script.
local function show_code(ctx, args, code, ttl)
  if args.non_interactive then
    ctx.out:line(code)
    return
  end
  local out = ctx.out
  out:line("=== Invite Code (expires in %s) ===", values.format_duration(ttl))
  out:line()
  out:paint("green", "%s", code)
  out:line()
  local qr = require("peerup.core").qr(code)
  if qr then out:write(qr) end
  out:line("On the other machine, run:")
  out:line("  peerup join %s", code)
  out:line()
  out:line("Waiting for peer to join...")
end

--- Says what a relay that cannot let strangers in means for the joiner.
local function tell_relay(ctx, offer)
  if offer.relay_admits then return end
  ctx.err:line("Note: this relay lets in only peers it knows (%s).", offer.relay_why or "no answer")
  ctx.err:line("If the joiner is refused, run this at the relay with the ID the joiner shows:")
  ctx.err:line("  peerup relay authorize <peer ID>")
end

local ENDS = {
  expired = "Invite expired. No peer joined.",
  stopped = "Cancelled.",
  wrong_codes = "Invite closed: too many wrong codes were tried. Make a new one to go on.",
}

local function report(ctx, args, offer)
  local out = args.non_interactive and ctx.err or ctx.out
  if offer.state ~= "joined" then
    out:paint("yellow", "%s", ENDS[offer.state] or "Invite closed.")
    return offer.state == "wrong_codes" and 1 or 0
  end
  out:paint("green", 'Peer "%s" joined and authorized!', offer.comment)
  if offer.name then
    out:line("It is named %s here; try: peerup ping %s", offer.name, offer.name)
  elseif offer.name_problem then
    out:line("No name was added: %s", offer.name_problem)
  end
  if offer.vouched then
    out:line("The relay knows it too now.")
  elseif offer.relay_admits then
    out:paint("yellow", "The relay did not keep it (%s). Run at the relay:\n  peerup relay "
      .. "authorize %s", offer.vouch_why or "no answer", offer.peer_id or offer.peer)
  end
  return 0
end

--- Passes on what happened since the last look.
local function note_printer(ctx)
  local shown = 0
  return function(notes)
    for i = shown + 1, #notes do ctx.err:paint("yellow", "%s", notes[i]) end
    shown = #notes
  end
end

--- Runs the invite in a daemon; stop is called for when the user interrupts.
local function by_daemon(ctx, args, client, ttl)
  local print_notes = note_printer(ctx)
  local offer, problem = client:call("POST", "/v1/invite",
    { name = args.name, ttl_seconds = ttl // 1000000000 })
  if not offer then return nil, problem end
  show_code(ctx, args, offer.code, ttl)
  tell_relay(ctx, offer)
  while offer.state == "open" or offer.state == "saving" do
    task.sleep(POLL_S)
    offer, problem = client:call(ctx.stopped and "DELETE" or "GET", "/v1/invite")
    if not offer then return nil, problem end
    print_notes(offer.notes)
  end
  return offer
end

--- Runs the invite on a host of its own.
local function by_itself(ctx, args, config, ttl)
  local own, problem = require("peerup.identity").load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local n <close>, why = require("peerup.node").open { config = config, identity = own,
    log = ctx:logger("warn") }
  if not n then return nil, why end
  ctx.err:line("Connecting to the relay...")
  local print_notes = note_printer(ctx)
  local offer
  local opening = task.spawn(function()
    offer, problem = offers.open { node = n, name = args.name, ttl_s = ttl // 1000000000,
      on_change = function(changed)
        print_notes(changed.notes)
        if changed.state ~= "open" then ctx:stop("finished") end
      end }
    if not offer then ctx:stop("failed") return end
    show_code(ctx, args, offer.code, ttl)
    tell_relay(ctx, offer)
  end)
  ctx:wait_stop()
  opening:cancel()
  opening:join()
  if not offer then
    if ctx.stopped == "signal" then return { state = "stopped" } end
    return nil, problem
  end
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
  ctx:catch_signals()
  local client = running_daemon(ctx, args)
  local offer
  if client then
    offer, problem = by_daemon(ctx, args, client, ttl)
  else
    offer, problem = by_itself(ctx, args, config, ttl)
  end
  if not offer then return nil, problem end
  return report(ctx, args, offer)
end

return {
  name = "invite", summary = "make a code with which another machine joins", run = run,
  bad_usage = 2, bare_errors = true,
  options = {
    { "name", type = "string", value = "<name>", default = "",
      help = "the name by which the joiner shall know this machine" },
    { "ttl", type = "string", value = "<time>", default = "10m", help = "how long the code lives" },
    { "non-interactive", type = "flag", help = "print only the code on standard output" },
  },
}
