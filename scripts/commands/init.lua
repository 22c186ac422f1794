--- Sets a machine up: asks for the relay, then writes config, key and authorized_keys.
-- Nothing is written before every answer is good, so a broken-off init leaves nothing behind.
local err = require "peerup.err"
local fs = require "peerup.fs"
local identity = require "peerup.identity"
local relays = require "peerup.relays"
local template = require "peerup.config.template"
local values = require "peerup.config.values"

local SSH_PORT = 22
local SSH_PROBE_MS = 300

local function ask(ctx, ...)
  for _, line in ipairs { ... } do ctx.out:line(line) end
  ctx.out:write("> ")
  local answer = ctx.read_line()
  if not answer then
    ctx.out:line()
    return nil, err.say("eof", "failed to read input: EOF")
  end
  return answer:match("^%s*(.-)%s*$")
end

local function ask_relay(ctx)
  local answer, problem = ask(ctx,
    "Relay address: a multiaddr (/ip4/.../tcp/7777/p2p/12D3KooW...),",
    "or IP, IP:PORT, [IPv6]:PORT (the default port is 7777)")
  if not answer then return nil, problem end
  if answer == "" then return nil, err.say("invalid", "relay address is required") end
  if answer:sub(1, 1) == "/" then
    local relay
    relay, problem = relays.parse(answer)
    return relay and relay.addr, problem
  end
  local short
  short, problem = relays.parse_short(answer)
  if not short then return nil, problem end
  answer, problem = ask(ctx, "Relay peer ID (the relay prints it at start, and by "
    .. "'peerup relay info'):")
  if not answer then return nil, problem end
  if answer == "" then return nil, err.say("invalid", "relay peer ID is required") end
  local addr
  addr, problem = relays.build(short, answer)
  if addr then ctx.out:line("Relay: %s", addr) end
  return addr, problem
end

--- Finds out whether an SSH server listens on this machine.
---@async
local function has_ssh()
  local uv = require "luv"
  return require("peerup.task").await(function(resume)
    local socket, timer = uv.new_tcp(), uv.new_timer()
    local function done(found)
      if socket:is_closing() then return end
      socket:close()
      timer:close()
      resume(found)
    end
    timer:start(SSH_PROBE_MS, 0, function() done(false) end)
    socket:connect("127.0.0.1", SSH_PORT, function(problem) done(problem == nil) end)
    return function() done(false) end
  end)
end

--- Asks whether to offer it; the end of the input is a no, as from a script that tells the relay.
local function wants_ssh(ctx)
  if not has_ssh() then return false end
  ctx.out:write("An SSH server runs here. Offer it to the machines you pair with? [Y/n]: ")
  local answer = ctx.read_line()
  if not answer then ctx.out:line() end
  answer = answer and answer:lower():match("^%s*(.-)%s*$")
  return answer == "" or answer == "y" or answer == "yes"
end

--- The config's text, with the SSH service if it is wanted.
local function config_text(relay, network, with_ssh)
  local text = template.node { by = "init", relay = relay, network = network }
  if not with_ssh then return text end
  return require("peerup.config.edit").add_service(text, "ssh",
    { local_address = "localhost:" .. SSH_PORT })
end

local function write_files(dir, config_path, text)
  local ok, problem = fs.mkdir(dir)
  if not ok then return nil, problem end
  local own
  own, problem = identity.load_or_create(fs.join(dir, "identity.key"))
  if not own then return nil, problem end
  local keys_path = fs.join(dir, "authorized_keys")
  if not fs.exists(keys_path) then
    ok, problem = fs.write(keys_path, template.AUTHORIZED_KEYS.init)
    if not ok then return nil, problem end
  end
  -- The config comes last: as long as it is missing, init can be run again.
  ok, problem = fs.create(config_path, text)
  if not ok then return nil, problem end
  return own
end

local function run(ctx, args)
  local dir = args.dir or ctx:default_dir()
  local network = args.network or ""
  if network ~= "" then
    local ok, problem = values.check_label("network", network)
    if not ok then return nil, problem end
  end
  local config_path = fs.join(dir, "config.yaml")
  if fs.exists(config_path) then
    return nil, err.say("exists", "config already exists: " .. config_path
      .. " (edit it, or remove it and run 'peerup init' again)")
  end
  ctx.out:line("Welcome to peerup. This sets up %s", dir)
  ctx.out:line()
  local relay, problem = ask_relay(ctx)
  if not relay then return nil, problem end
  local with_ssh = wants_ssh(ctx)
  local text
  text, problem = config_text(relay, network, with_ssh)
  if not text then return nil, problem end
  ctx:catch_signals() -- they are looked at when all files are written
  local own
  own, problem = write_files(dir, config_path, text)
  if not own then return nil, problem end
  ctx.out:line()
  ctx.out:paint("green", "Your Peer ID: %s", own.peer_id)
  ctx.out:line("Config written to:  %s", config_path)
  ctx.out:line("Identity saved to:  %s", own.path)
  ctx.out:line()
  local qr = require("peerup.core").qr(own.peer_id)
  if qr then ctx.out:write(qr) end
  ctx.out:line("Next steps:")
  if not with_ssh then
    ctx.out:line("  Offer a service:           peerup service add ssh localhost:22")
  end
  ctx.out:line("  Run it and pair a machine: peerup daemon --invite   (there: peerup join <code>)")
  ctx.out:line("The relay has to know this machine. Its operator runs:")
  ctx.out:line("  peerup relay authorize %s", own.peer_id)
  return 0
end

return {
  name = "init", summary = "set this machine up", no_config = true, run = run,
  options = {
    { "dir", type = "string", value = "<dir>", help = "where to write (default ~/.config/peerup)" },
    { "network", type = "string", value = "<name>", help = "name of a private network" },
  },
}
