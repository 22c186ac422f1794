--- Can this machine be reached, by whom, and how: what is set up here, and what the running daemon
-- says. `daemon status` shows the daemon's numbers.
local core = require "peerup.core"
local identity = require "peerup.identity"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local load = require "peerup.config.load"
local reach = require "peerup.reach"
local safety = require "peerup.config.safety"
local services = require "peerup.services"
local values = require "peerup.config.values"
local verify = require "peerup.verify"

local function collect(config, own)
  local text, problem = ""
  if config.security.authorized_keys_file ~= "" then
    text, problem = keys.read_file(config.security.authorized_keys_file)
    if not text then return nil, problem end
  end
  local peers
  peers, problem = keys.list(text)
  if not peers then return nil, problem end
  return { peer_id = own.peer_id, peers = peers, services = services.list(config),
    pending = safety.pending(config.path) }
end

local function as_json(config, state, ctx)
  local peers, list = json.array(), json.array()
  for i, peer in ipairs(state.peers) do
    peers[i] = json.object("peer_id", peer.peer_id, "comment",
      peer.comment ~= "" and peer.comment or nil, "verified",
      verify.is_verified(state.peer_id, peer))
  end
  for i, service in ipairs(state.services) do
    list[i] = json.object("name", service.name, "local_address", service.local_address,
      "enabled", service.enabled)
  end
  ctx.out:json(json.object("version", core.version(), "peer_id", state.peer_id,
    "config", config.path, "key_file", config.identity.key_file,
    "network", config.discovery.network, "relay_addresses", json.array(config.relay.addresses),
    "authorized_peers", peers, "services", list, "names", config.names,
    "daemon", state.reach and state.reach.status or json.null))
end

local function section(ctx, title, lines, none)
  ctx.out:line()
  ctx.out:line(title)
  for _, line in ipairs(lines) do ctx.out:line(line) end
  if #lines == 0 then ctx.out:paint("faint", "  (%s)", none) end
end

--- What the daemon makes of it: can it be reached, how, and who is here.
local function tell_reach(config, state, ctx)
  local out = ctx.out
  local verdict, ways, advice = reach.verdict(state.reach, config)
  if state.reach then
    out:line("Daemon:   running for %s", reach.uptime(state.reach.status))
  end
  out:paint(verdict:find "^yes" and "green" or "yellow", "Reachable: %s%s", verdict,
    advice and ":" or "")
  if advice then out:line("  %s", advice) end
  for _, way in ipairs(ways) do out:line("  %s", way) end
  if state.pending then
    out:paint("yellow", "A change of the config is undone in %s unless you run: peerup config "
      .. "confirm", values.format_duration(math.max(0, state.pending.deadline - ctx.now())
      * 1000000000))
  end
end

--- Who may use a service.
local function for_whom(config, service)
  if not service.enabled then return "" end
  local count = #service.allowed_peers
  if count > 0 then return ("  for %d peer(s)"):format(count) end
  return config.security.enable_connection_gating and "  for every authorized peer"
    or "  for EVERYBODY: connection gating is off"
end

local function as_text(config, state, ctx)
  local out = ctx.out
  out:line("peerup %s", core.version())
  out:line()
  out:line("Peer ID:  %s", state.peer_id)
  out:line("Config:   %s", config.path)
  out:line("Key file: %s", config.identity.key_file)
  out:line("Network:  %s", config.discovery.network ~= "" and config.discovery.network
    or "global (default)")
  tell_reach(config, state, ctx)
  local connected = reach.connected(state.reach, config)
  if #connected > 0 then
    for i, line in ipairs(connected) do connected[i] = "  " .. line end
    section(ctx, "Connected now:", connected)
  end
  local relay_lines, peer_lines, service_lines, name_lines = {}, {}, {}, {}
  for i, addr in ipairs(config.relay.addresses) do relay_lines[i] = "  " .. addr end
  section(ctx, "Relay addresses:", relay_lines, "none configured; run: peerup relay add <addr>")
  for i, peer in ipairs(state.peers) do
    local badge = verify.is_verified(state.peer_id, peer) and out.term:paint("green", "[VERIFIED]")
      or out.term:paint("yellow", "[UNVERIFIED]")
    local expired = not keys.is_valid(peer, ctx.now()) and "  [EXPIRED]" or ""
    peer_lines[i] = ("  %s %s%s%s"):format(badge, keys.short(peer.peer_id),
      peer.comment ~= "" and "  # " .. peer.comment or "", expired)
  end
  section(ctx, "Authorized peers:", peer_lines, "none; pair one with: peerup invite")
  for i, service in ipairs(state.services) do
    service_lines[i] = ("  %-12s -> %-20s (%s)%s"):format(service.name, service.local_address,
      service.enabled and "enabled" or "disabled", for_whom(config, service))
  end
  section(ctx, "Services:", service_lines, "none configured")
  for i, name in ipairs(load.sorted_keys(config.names)) do
    name_lines[i] = ("  %-12s -> %s"):format(name, config.names[name])
  end
  section(ctx, "Names:", name_lines, "none configured")
end

local function run(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then
    if problem.code == "not_found" and not args.config and not args.json then
      ctx.out:line("peerup is not set up on this machine yet: no config file was found.")
      ctx.out:line("Run 'peerup init', or 'peerup join <code>' with an invite code.")
    end
    return nil, problem
  end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  local state
  state, problem = collect(config, own)
  if not state then return nil, problem end
  state.reach = reach.ask(ctx:runtime_dir(args))
  if args.json then as_json(config, state, ctx) else as_text(config, state, ctx) end
  return 0
end

return {
  name = "status", summary = "can this machine be reached, by whom, and how", run = run,
  options = { { "json", type = "flag", help = "print JSON" } },
}
