--- Joins another machine with its invite code, or the group of machines that a relay's code is for.
local code = require "peerup.invite.code"
local context = require "peerup.cli.context"
local err = require "peerup.err"
local files = require "peerup.invite.files"
local fs = require "peerup.fs"
local handshake = require "peerup.invite.handshake"
local known = require "peerup.invite.known"
local member = require "peerup.pairing.member"
local node = require "peerup.node"
local session = require "peerup.invite.session"
local task = require "peerup.task"
local values = require "peerup.config.values"
local verify = require "peerup.verify"

--- The code's text: arguments, the environment, or standard input for scripts.
local function code_text(ctx, args)
  local text = table.concat(args.code)
  if text == "" then text = ctx.env "PEERUP_INVITE_CODE" or "" end
  if text == "" and args.non_interactive then text = ctx.read_line() or "" end
  if text:match("^%s*$") then
    return nil, err.say("usage", "no invite code was given (as argument, in PEERUP_INVITE_CODE, or "
      .. "with --non-interactive on standard input)")
  end
  return text
end

local function read_code(ctx, args)
  local text, problem = code_text(ctx, args)
  if not text then
    problem.exit = 1
    return nil, problem
  end
  local invite
  invite, problem = code.decode(text)
  if not invite then
    return nil, err.say(problem.code, "Invalid invite code: " .. tostring(problem))
  end
  if invite.network ~= "" and not values.is_label(invite.network) then
    return nil, err.say("malformed", "Invalid invite code: the network's name in it "
      .. values.LABEL_RULE)
  end
  return invite
end

--- Connects and joins by a code: an invite's answer, or that of a pairing.
local function meet(ctx, args, n, invite, join)
  local answer, problem
  local work
  ctx:catch_signals(function() if work then work:cancel() end end)
  work = task.spawn(function()
    local progress <close> = ctx:progress("Connecting to the relay")
    answer, problem = join { node = n, code = invite, name = args.name,
      on_step = function(text) progress:say(text) end }
  end)
  work:join()
  if not answer and ctx.stopped then problem = context.interrupted "Cancelled." end
  return answer, problem
end

--- Writes down what an invite brought, and says what to try.
local function keep_invite(say, place, inviter)
  local kept, problem = known.keep { config_path = place.path, authorized_keys = place.keys,
    peer = inviter.peer, name = inviter.name, fallback = "invited" }
  if not kept then
    return nil, err.say(problem.code, "Joined, but the inviter cannot be authorized: "
      .. tostring(problem))
  end
  say:paint("green", "=== Joined successfully! ===")
  if place.is_new then say:line("Config written to:  %s", place.path) end
  say:line("Authorized peer: %s  # %s", inviter.peer, kept.comment)
  if kept.name_problem then say:line("No name was added: %s", tostring(kept.name_problem)) end
  local target = kept.name or inviter.peer
  say:line()
  say:line("Try:")
  say:line("  peerup ping %s", target)
  say:line("  peerup ssh %s", target)
  say:line("  peerup proxy %s web 8080", target)
  return 0
end

--- The same for a pairing with a relay. The daemon is not started from here: whoever keeps it
--- running (a service manager, or a terminal) starts it.
local function keep_pairing(say, place, answer, invite)
  local kept, problem = member.keep { path = place.path, keys = place.keys,
    relay = invite.relay_peer, token = invite.token, answer = answer }
  if not kept then
    return nil, err.say(problem.code, "Paired, but the group cannot be kept: " .. tostring(problem))
  end
  say:paint("green", "=== Paired with the relay! ===")
  if place.is_new then say:line("Config written to:  %s", place.path) end
  say:line("Group %s: %d of %d other machine(s) so far", answer.group, #kept,
    math.max(answer.size - 1, #kept))
  for _, one in ipairs(kept) do
    local same = verify.code(place.own, one.peer)
    say:line('Peer "%s" authorized. [UNVERIFIED]', one.name)
    if same then
      say:line("  %s  %s  (compare: peerup verify %s)", same.emoji, same.digits, one.name)
    end
  end
  say:line()
  if place.daemon then
    say:line("The running daemon takes this up, and those who pair later.")
  else
    say:line("Next, so that the others reach this machine and it learns of those who pair later:")
    say:line("  peerup daemon")
  end
  if kept[1] then say:line("Try:  peerup ping %s", kept[1].name) end
  return 0
end

local function run(ctx, args)
  local invite, problem = read_code(ctx, args)
  if not invite then return nil, problem end
  local is_pairing = invite.version == code.PAIRING
  if #args.name > handshake.MAX_TEXT then return nil, err.say("usage", "the name is too long") end
  if args.name == "" and not args.non_interactive then
    args.name = require("peerup.invite.terminal").machine_name()
  end
  local path, is_new = files.place(ctx, args)
  local config, own = files.prepare(path, is_new, invite)
  if not config then return nil, own end
  if invite.network ~= config.discovery.network then
    ctx.err:paint("yellow", 'Note: the code is of the network "%s", this machine in "%s"; they '
      .. "meet through the relay only", invite.network, config.discovery.network)
  end
  if own.peer_id == invite.inviter then
    return nil, err.say("invalid", "this invite was made by this machine; use it on another one")
  end
  local say = args.non_interactive and ctx.err or ctx.out
  local n <close>, why = node.open { config = config, identity = own, log = ctx:logger("warn"),
    targets = { invite.inviter or invite.relay_peer } }
  if not n then return nil, why end
  say:line("Connecting to %s...", invite.relay_addr)
  local answer
  answer, problem = meet(ctx, args, n, invite, is_pairing and member.join or session.join)
  if not answer then return nil, problem end
  local ok
  ok, problem = files.settle(path, is_new, invite, config)
  if not ok then
    return nil, err.say(problem.code, "Joined, but the config cannot be written: "
      .. tostring(problem))
  end
  local place = { path = path, is_new = is_new, keys = config.security.authorized_keys_file,
    own = own.peer_id,
    daemon = fs.exists(require("peerup.daemon.server").paths(ctx:runtime_dir(args)).socket) }
  if is_pairing then return keep_pairing(say, place, answer, invite) end
  return keep_invite(say, place, answer)
end

return {
  name = "join", summary = "join another machine, or a relay's group, by a code", run = run,
  bad_usage = 2, bare_errors = true,
  args = { { "code", many = true, optional = true, help = "the code; spaces and case do not "
    .. "matter" } },
  options = {
    { "name", type = "string", value = "<name>", default = "",
      help = "the name by which the inviter shall know this machine (default: its host name)" },
    { "non-interactive", type = "flag", help = "take the code from standard input; print nothing "
      .. "on standard output" },
  },
}
