--- Sets a machine up: asks for the relay, then writes config, key and authorized_keys.
-- Nothing is written before every answer is good, so a broken-off init leaves nothing behind.
local err = require "peerup.err"
local fs = require "peerup.fs"
local identity = require "peerup.identity"
local relays = require "peerup.relays"
local template = require "peerup.config.template"
local values = require "peerup.config.values"

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

local function write_files(dir, config_path, relay, network)
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
  ok, problem = fs.create(config_path, template.node { by = "init", relay = relay,
    network = network })
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
  local own
  own, problem = write_files(dir, config_path, relay, network)
  if not own then return nil, problem end
  ctx.out:line()
  ctx.out:paint("green", "Your Peer ID: %s", own.peer_id)
  ctx.out:line("Config written to:  %s", config_path)
  ctx.out:line("Identity saved to:  %s", own.path)
  ctx.out:line()
  local qr = require("peerup.core").qr(own.peer_id)
  if qr then ctx.out:write(qr) end
  ctx.out:line("Next steps:")
  ctx.out:line("  1. Offer a service:     peerup service add ssh localhost:22")
  ctx.out:line("  2. Pair a machine:      peerup invite   (there: peerup join <code>)")
  ctx.out:line("  3. Keep it running:     peerup daemon")
  return 0
end

return {
  name = "init", summary = "set this machine up", no_config = true, run = run,
  options = {
    { "dir", type = "string", value = "<dir>", help = "where to write (default ~/.config/peerup)" },
    { "network", type = "string", value = "<name>", help = "name of a private network" },
  },
}
