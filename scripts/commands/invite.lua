--- Opens an invite: prints a code, waits for the machine that joins with it, and keeps it.
local err = require "peerup.err"
local handshake = require "peerup.invite.handshake"
local identity = require "peerup.identity"
local known = require "peerup.invite.known"
local node = require "peerup.node"
local session = require "peerup.invite.session"
local task = require "peerup.task"
local values = require "peerup.config.values"

local MAX_TTL_S = 24 * 3600

--- Prints the code for a person, or alone for a script.
local function show_code(ctx, args, inviter, ttl)
  if args.non_interactive then
    ctx.out:line(inviter.code)
    return
  end
  local out = ctx.out
  out:line("=== Invite Code (expires in %s) ===", values.format_duration(ttl))
  out:line()
  out:paint("green", inviter.code)
  out:line()
  local qr = require("peerup.core").qr(inviter.code)
  if qr then out:write(qr) end
  out:line("On the other machine, run:")
  out:line("  peerup join %s", inviter.code)
  out:line()
  out:line("Waiting for peer to join...")
end

--- Says what a relay that cannot let strangers in means for the joiner.
local function tell_relay(say, inviter)
  if inviter.relay_admits then return end
  say("Note: this relay lets in only peers it knows (%s).", inviter.relay_why or "no answer")
  say("If the joiner is refused, run this at the relay with the ID the joiner shows:")
  say("  peerup relay authorize <peer ID>")
end

local ENDS = {
  expired = "Invite expired. No peer joined.",
  stopped = "Cancelled.",
  wrong_codes = "Invite closed: too many wrong codes were tried. Make a new one to go on.",
}

local function report(ctx, args, inviter, outcome)
  local out = args.non_interactive and ctx.err or ctx.out
  if inviter.state ~= "joined" then
    out:paint("yellow", ENDS[inviter.state])
    return inviter.state == "wrong_codes" and 1 or 0
  end
  out:paint("green", 'Peer "%s" joined and authorized!', outcome.comment)
  if outcome.name then
    out:line("It is named %s here; try: peerup ping %s", outcome.name, outcome.name)
  elseif outcome.name_problem then
    out:line("No name was added: %s", tostring(outcome.name_problem))
  end
  if inviter.vouched then
    out:line("The relay knows it too now.")
  elseif inviter.relay_admits then
    out:paint("yellow", "The relay did not keep it (%s). Run at the relay:\n  peerup relay "
      .. "authorize %s", inviter.vouch_why or "no answer", inviter.joined_peer)
  end
  return 0
end

local function run(ctx, args)
  local ttl, problem = values.parse_duration(args.ttl)
  local ttl_s = ttl and ttl // 1000000000
  if not ttl or ttl_s < 1 or ttl_s > MAX_TTL_S then
    return nil, err.say("usage", ('invalid value "%s" for flag -ttl: %s'):format(args.ttl,
      problem and tostring(problem) or "it must be between 1s and 24h"))
  end
  local config
  config, problem = ctx:node_config(args)
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  if #args.name > handshake.MAX_NAME then return nil, err.say("usage", "the name is too long") end
  if config.security.authorized_keys_file == "" then
    return nil, err.say("invalid", "the config names no security.authorized_keys_file")
  end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local n <close>, why = node.open { config = config, identity = own, log = ctx:logger("warn") }
  if not n then return nil, why end
  local say = function(...) ctx.err:line(...) end
  local outcome
  local finished
  ctx:catch_signals()
  say("Connecting to the relay...")
  local inviter
  local opening = task.spawn(function()
    inviter, problem = session.invite {
      node = n, name = args.name, ttl_s = ttl_s,
      on_joined = function(peer, name)
        local kept
        kept, problem = known.keep { config_path = config.path,
          authorized_keys = config.security.authorized_keys_file, peer = peer, name = name,
          fallback = "joined" }
        outcome = kept
        return kept and true, problem
      end,
      on_finish = function(done) finished = done ctx:stop("finished") end,
      on_note = function(text) ctx.err:paint("yellow", text) end,
    }
    if not inviter then ctx:stop(problem) return end
    show_code(ctx, args, inviter, ttl)
    tell_relay(say, inviter)
    if task.sleep(ttl_s) then inviter:finish("expired") end
  end)
  local reason = ctx:wait_stop()
  opening:cancel()
  if type(reason) == "table" then return nil, reason end
  if not inviter then
    say("Cancelled.")
    return 0
  end
  if not finished then inviter:finish("stopped") end
  inviter:close()
  return report(ctx, args, inviter, outcome)
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
