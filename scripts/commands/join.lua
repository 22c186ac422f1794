--- Joins another machine with its invite code. A config is made if there is none, but only after
-- the other side has answered, and never over an existing one.
local code = require "peerup.invite.code"
local context = require "peerup.cli.context"
local err = require "peerup.err"
local fs = require "peerup.fs"
local handshake = require "peerup.invite.handshake"
local identity = require "peerup.identity"
local known = require "peerup.invite.known"
local load = require "peerup.config.load"
local node = require "peerup.node"
local session = require "peerup.invite.session"
local task = require "peerup.task"
local template = require "peerup.config.template"
local values = require "peerup.config.values"

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
  if invite.version ~= code.INVITE then
    return nil, err.say("unsupported", "Invalid invite code: it is for pairing with a relay, which "
      .. "this version cannot do yet; ask for one made by 'peerup invite'")
  end
  if invite.network ~= "" and not values.is_label(invite.network) then
    return nil, err.say("malformed", "Invalid invite code: the network's name in it "
      .. values.LABEL_RULE)
  end
  return invite
end

--- Where this machine's config is, or will be: an existing one, what --config says, or the default.
local function place_of(ctx, args)
  if args.config and args.config ~= "" then
    return args.config, not fs.exists(args.config)
  end
  local path = load.find(nil, ctx.home)
  if path then return path, false end
  return fs.join(ctx:default_dir(), load.FILE), true
end

--- Loads the config, or makes one in memory; the key is saved at once, for it must not be lost
-- between the other side's answer and ours.
local function prepare(path, is_new, invite)
  local config, problem
  if is_new then
    config, problem = load.decode(template.node { by = "join", relay = invite.relay_addr,
      network = invite.network }, "node", path)
  else
    config, problem = load.read(path, "node")
  end
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  if config.security.authorized_keys_file == "" then
    return nil, err.say("invalid", "Config error: security.authorized_keys_file is not set")
  end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  return config, own
end

--- Writes what a new machine needs, config last, or adds the relay to an existing config.
local function settle(path, is_new, invite, config)
  if is_new then
    local keys_path = config.security.authorized_keys_file
    local ok, problem = true, nil
    if not fs.exists(keys_path) then
      ok, problem = fs.write(keys_path, template.AUTHORIZED_KEYS.join)
    end
    if not ok then return nil, problem end
    return fs.create(path, template.node { by = "join", relay = invite.relay_addr,
      network = invite.network })
  end
  for _, addr in ipairs(config.relay.addresses) do
    if addr:find(invite.relay_peer, 1, true) then return true end
  end
  local text, problem = require("peerup.config.edit").add_relay(config.text, invite.relay_addr)
  if not text then return nil, problem end
  return fs.write(path, text)
end

local function run(ctx, args)
  local invite, problem = read_code(ctx, args)
  if not invite then return nil, problem end
  if #args.name > handshake.MAX_TEXT then return nil, err.say("usage", "the name is too long") end
  if args.name == "" and not args.non_interactive then
    args.name = require("peerup.invite.terminal").machine_name()
  end
  local path, is_new = place_of(ctx, args)
  local config, own = prepare(path, is_new, invite)
  if not config then return nil, own end
  if invite.network ~= config.discovery.network then
    ctx.err:paint("yellow", 'Note: the inviter is in the network "%s", this machine in "%s"; they '
      .. "meet through the relay only", invite.network, config.discovery.network)
  end
  if own.peer_id == invite.inviter then
    return nil, err.say("invalid", "this invite was made by this machine; use it on another one")
  end
  local say = args.non_interactive and ctx.err or ctx.out
  local n <close>, why = node.open { config = config, identity = own, log = ctx:logger("warn"),
    targets = { invite.inviter } }
  if not n then return nil, why end
  say:line("Connecting to %s...", invite.relay_addr)
  local inviter
  local work
  ctx:catch_signals(function() if work then work:cancel() end end)
  work = task.spawn(function()
    local progress <close> = ctx:progress("Connecting to the relay")
    inviter, problem = session.join { node = n, code = invite, name = args.name,
      on_step = function(text) progress:say(text) end }
  end)
  work:join()
  if not inviter then
    if ctx.stopped then problem = context.interrupted "Cancelled." end
    return nil, problem
  end
  local ok
  ok, problem = settle(path, is_new, invite, config)
  if not ok then
    return nil, err.say(problem.code, "Joined, but the config cannot be written: "
      .. tostring(problem))
  end
  local kept
  kept, problem = known.keep { config_path = path,
    authorized_keys = config.security.authorized_keys_file, peer = inviter.peer,
    name = inviter.name, fallback = "invited" }
  if not kept then
    return nil, err.say(problem.code, "Joined, but the inviter cannot be authorized: "
      .. tostring(problem))
  end
  say:paint("green", "=== Joined successfully! ===")
  if is_new then say:line("Config written to:  %s", path) end
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

return {
  name = "join", summary = "join another machine with its invite code", run = run,
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
