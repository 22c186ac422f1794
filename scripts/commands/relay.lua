--- Relays: which ones this node uses, and running one.
local err = require "peerup.err"
local fs = require "peerup.fs"
local identity = require "peerup.identity"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"

local JSON = { "json", type = "flag", help = "print JSON" }

-- ---- client side: the node's config ----

local function shorten(addr)
  return (addr:gsub("(/p2p/................)[A-Za-z0-9]+$", "%1..."))
end

--- The multiaddrs that the arguments mean.
local function addresses_of(args)
  local relays = require "peerup.relays"
  local list = {}
  for _, text in ipairs(args.addr) do
    local addr, problem
    if text:sub(1, 1) == "/" then
      local relay
      relay, problem = relays.parse(text)
      addr = relay and relay.addr
    else
      if not args.peer_id then
        return nil, err.say("invalid", ('"%s" needs --peer-id <the relay\'s peer ID>'):format(text))
      end
      local short
      short, problem = relays.parse_short(text)
      if short then addr, problem = relays.build(short, args.peer_id) end
    end
    if not addr then return nil, problem end
    list[#list + 1] = addr
  end
  return list
end

local function add(ctx, args)
  local list, problem = addresses_of(args)
  if not list then return nil, problem end
  local config
  config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local edit = require "peerup.config.edit"
  local text, known, added = config.text, {}, {}
  for _, addr in ipairs(config.relay.addresses) do known[addr] = true end
  for _, addr in ipairs(list) do
    if known[addr] then
      ctx.out:paint("yellow", "Already configured: %s", shorten(addr))
    else
      text, problem = edit.add_relay(text, addr)
      if not text then return nil, problem end
      known[addr] = true
      added[#added + 1] = addr
    end
  end
  if #added == 0 then
    ctx.out:line("No new relay addresses to add.")
    return 0
  end
  local ok
  ok, problem = fs.write(config.path, text)
  if not ok then return nil, problem end
  for _, addr in ipairs(added) do ctx.out:paint("green", "Added relay: %s", shorten(addr)) end
  ctx.out:line("Config: %s", config.path)
  return 0
end

local function list(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local all = config.relay.addresses
  if args.json then
    ctx.out:json(json.array(all))
    return 0
  end
  if #all == 0 then
    ctx.out:line("No relay addresses configured.")
    return 0
  end
  ctx.out:line("Relay addresses (%d):", #all)
  for i, addr in ipairs(all) do ctx.out:line("  %d. %s", i, addr) end
  ctx.out:line("Config: %s", config.path)
  return 0
end

local function remove(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local text
  text, problem = require("peerup.config.edit").remove_relay(config.text, args.addr)
  if not text then return nil, problem end
  if #config.relay.addresses == 1 and not args.force then
    return nil, err.say("denied", "this is the last relay address; without one no peer can reach "
      .. "this machine. Remove it with --force")
  end
  local ok
  ok, problem = fs.write(config.path, text)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Removed relay: %s", shorten(args.addr))
  ctx.out:line("Config: %s", config.path)
  return 0
end

-- ---- server side: the relay's config ----

local function relay_config(ctx, args)
  local config, problem = ctx:relay_config(args)
  if not config then return nil, problem end
  for _, warning in ipairs(require("peerup.relay_server").path_warnings(config)) do
    ctx.err:paint("yellow", "Warning: %s", warning)
  end
  return config
end

local function keys_file(ctx, args)
  local config, problem = relay_config(ctx, args)
  if not config then return nil, problem end
  local path = config.security.authorized_keys_file
  if path == "" then
    return nil, err.say("invalid", "the relay's config names no security.authorized_keys_file")
  end
  return path, config
end

local function canonical(text)
  local id, problem = require("peerup.core").peer_id.parse(text)
  if not id then return nil, err.say("invalid", "invalid peer ID: " .. tostring(problem)) end
  return id
end

local TAKEN_UP = "A running relay takes this up by itself."

local function authorize(ctx, args)
  local path, problem = keys_file(ctx, args)
  if not path then return nil, problem end
  local id
  id, problem = canonical(args.peer)
  if not id then return nil, problem end
  local comment = args.note or table.concat(args.comment, " ")
  local ok
  ok, problem = keys.update_file(path, function(text) return keys.add(text, id, comment) end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Authorized: %s", id)
  if comment ~= "" then ctx.out:line("  Comment: %s", keys.clean_comment(comment)) end
  ctx.out:line("  File: %s", path)
  ctx.out:paint("faint", TAKEN_UP)
  return 0
end

local function deauthorize(ctx, args)
  local path, problem = keys_file(ctx, args)
  if not path then return nil, problem end
  local id = canonical(args.peer) or args.peer
  local ok
  ok, problem = keys.update_file(path, function(text) return keys.remove(text, id) end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Deauthorized: %s", id)
  ctx.out:line("  File: %s", path)
  ctx.out:paint("faint", TAKEN_UP)
  return 0
end

local function entries_of(path)
  local text, problem = keys.read_file(path)
  if not text then return nil, problem end
  return keys.list(text)
end

local function list_peers(ctx, args)
  local path, problem = keys_file(ctx, args)
  if not path then return nil, problem end
  local entries
  entries, problem = entries_of(path)
  if not entries then return nil, problem end
  if args.json then
    local rows = json.array()
    for i, e in ipairs(entries) do
      rows[i] = json.object("peer_id", e.peer_id, "comment", e.comment ~= "" and e.comment or nil,
        "invited_by", e.attributes.invited_by)
    end
    ctx.out:json(rows)
    return 0
  end
  ctx.out:line("Authorized peers (%s):", path)
  for _, e in ipairs(entries) do
    ctx.out:line("  %s%s%s", e.peer_id, e.comment ~= "" and "  # " .. e.comment or "",
      e.attributes.invited_by and ("  (invited by %s)"):format(keys.short(e.attributes.invited_by))
      or "")
  end
  if #entries == 0 then ctx.out:line("  (none)") end
  ctx.out:line("Total: %d peer(s)", #entries)
  return 0
end

--- The addresses others can use, each with our peer ID.
local function public_addrs(config, peer_id)
  local net = require "peerup.net"
  local addrs = {}
  for _, addr in ipairs(config.network.listen_addresses) do
    for _, real in ipairs(net.expand(addr)) do
      addrs[#addrs + 1] = ("%s/p2p/%s"):format(real, peer_id)
    end
  end
  return addrs
end

local function info(ctx, args)
  local config, problem = relay_config(ctx, args)
  if not config then return nil, problem end
  local own
  own, problem = identity.load(config.identity.key_file)
  if not own then
    if problem.code == "not_found" then
      return nil, err.say("not_found", tostring(problem) .. "; 'peerup relay serve' makes it")
    end
    return nil, problem
  end
  local gating = config.security.enable_connection_gating
  local count = 0
  if config.security.authorized_keys_file ~= "" then
    local entries
    entries, problem = entries_of(config.security.authorized_keys_file)
    if not entries then return nil, problem end
    count = #entries
  end
  local addrs = public_addrs(config, own.peer_id)
  if args.json then
    ctx.out:json(json.object("peer_id", own.peer_id, "connection_gating", gating,
      "authorized_peers", count, "multiaddrs", json.array(addrs)))
    return 0
  end
  ctx.out:line("Peer ID: %s", own.peer_id)
  ctx.out:line("Connection gating: %s", gating and "enabled" or "disabled")
  ctx.out:line("Authorized peers: %d", count)
  ctx.out:line("Multiaddrs:")
  for _, addr in ipairs(addrs) do ctx.out:line("  %s", addr) end
  if #addrs == 0 then ctx.out:line("  (none: no address of this machine fits)") end
  ctx.out:line()
  if addrs[1] then
    local qr = require("peerup.core").qr(addrs[1])
    if qr then ctx.out:write(qr) end
    ctx.out:line("Quick setup on another machine:")
    ctx.out:line("  peerup init            (relay address: %s)", addrs[1])
    ctx.out:line("  here: peerup relay authorize <its peer ID> <a comment>")
  end
  return 0
end

-- ---- serve ----

local PEER_LIST_MS = 15000

local function banner(ctx, relay, config)
  local out, r = ctx.out, config.resources
  local values = require "peerup.config.values"
  out:line("peerup relay %s", ctx.version)
  out:line("Config: %s", config.path)
  out:line("Peer ID: %s", relay.peer_id)
  if relay.rules.gating then
    local count = 0
    for _ in pairs(relay.rules.authorized) do count = count + 1 end
    out:line("Connection gating: enabled (%d authorized peer(s))", count)
    if count == 0 then
      out:paint("yellow", "No peer is authorized yet: peerup relay authorize <peer ID>")
    end
  else
    out:paint("yellow", "Connection gating: DISABLED, anybody may use this relay")
  end
  out:line("Limits: %d reservations (%d per IP), %d circuits per peer, %s, %d bytes per direction",
    r.max_reservations, r.max_reservations_per_ip, r.max_circuits,
    values.format_duration(r.session_duration), r.session_data_limit)
  out:line("Members may invite: %s", config.security.members_may_invite and "yes" or "no")
  out:line("Multiaddrs:")
  for _, addr in ipairs(relay.host:addrs()) do
    out:line("  %s%s", addr, addr:find("/p2p/", 1, true) and "" or "/p2p/" .. relay.peer_id)
  end
end

--- Prints who is connected, when that has changed.
local function peer_printer(ctx, relay)
  local last = ""
  return function()
    local lines, seen = {}, {}
    for _, conn in ipairs(relay.host and relay.host:conns() or {}) do
      if not seen[conn.peer] then
        seen[conn.peer] = true
        local entry = relay.rules.authorized[conn.peer]
        lines[#lines + 1] = ("  %s  %s  %s"):format(keys.short(conn.peer), conn.addr,
          entry and entry.comment ~= "" and "# " .. entry.comment or conn.agent or "")
      end
    end
    table.sort(lines)
    local text = table.concat(lines, "\n")
    if text == last then return end
    last = text
    ctx.out:line("--- Connected peers: %d ---", #lines)
    for _, line in ipairs(lines) do ctx.out:line(line) end
  end
end

local function serve(ctx, args)
  local load = require "peerup.config.load"
  local config, problem = relay_config(ctx, args)
  if not config then return nil, problem end
  local faults = load.validate(config)
  if #faults > 0 then return nil, err.say("malformed", "invalid config: " .. faults[1]) end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  if own.created then ctx.out:line("New identity key: %s", own.path) end
  local log = ctx:logger()
  log:configure(config.log)
  local relay <close>, why = require("peerup.relay_server").open { config = config, identity = own,
    log = log }
  if not relay then return nil, why end
  local ok
  ok, problem = relay:start()
  if not ok then return nil, problem end
  local telemetry <close> = require("peerup.telemetry.start").relay(relay, {
    version = ctx.version, write = function(line) ctx.err:write(line) end })
  if #telemetry.listeners > 0 then
    relay.tell = function(event) telemetry:tell(event) end
  end
  local api <close>, failed = require("peerup.pairing.admin").start(relay)
  if not api then
    return nil, err.say(failed.code, "the relay's admin API cannot start: " .. tostring(failed))
  end
  relay:keep_config()
  relay:watch()
  ctx:catch_signals()
  banner(ctx, relay, config)
  local timer = require("luv").new_timer()
  timer:start(PEER_LIST_MS, PEER_LIST_MS, peer_printer(ctx, relay))
  local notifier = require("peerup.daemon.notify").new {
    env = ctx.env, log = log,
    checks = { { name = "host-listening", run = function()
      return relay.host and #relay.host:addrs() > 0, "the host has no address" end } },
  }
  ctx.out:line("Relay running. Ctrl+C stops it.")
  notifier:ready()
  ctx:wait_stop()
  notifier:stopping()
  timer:close()
  ctx.out:line("Shutting down...")
  return 0
end

-- ---- config ----

local function config_validate(ctx, args)
  local config, problem = relay_config(ctx, args)
  local faults = config and require("peerup.config.load").validate(config)
    or { tostring(problem) }
  return require("peerup.config.verdict").tell(ctx, args, config and config.path or args.config,
    faults)
end

local function config_rollback(ctx, args)
  local load = require "peerup.config.load"
  local path = args.config and args.config ~= "" and args.config or load.RELAY_FILE
  local ok, problem = require("peerup.config.safety").rollback(path)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Restored %s from last-known-good archive", path)
  ctx.out:line("Restart the relay to use it.")
  return 0
end

local PEER = { "peer", help = "peer ID", complete = false }
return {
  name = "relay", summary = "relays: the ones this machine uses, and running one",
  commands = {
    { name = "add", summary = "use a relay", run = add,
      args = { { "addr", many = true, help = "multiaddr, or IP[:PORT] with --peer-id" } },
      options = { { "peer-id", type = "string", value = "<id>",
        help = "the relay's peer ID, for short addresses" } } },
    { name = "list", summary = "list the relays in use", run = list, options = { JSON } },
    { name = "remove", summary = "stop using a relay", run = remove,
      args = { { "addr", help = "the multiaddr as 'relay list' shows it" } },
      options = { { "force", short = "f", type = "flag", help = "also the last one" } } },
    { name = "setup", summary = "make the files of a relay, or renew or restore them",
      no_config = true, run = function(ctx, args)
        return require("peerup.relay_setup").run(ctx, args)
      end, options = {
        { "dir", type = "string", value = "<dir>", help = "where (default: working directory)" },
        { "fresh", type = "flag", help = "back up what is there, and begin anew" },
        { "non-interactive", type = "flag", help = "ask nothing; fail where there is a relay" } } },
    { name = "serve", summary = "run a relay in the foreground", run = serve },
    { name = "info", summary = "show this relay's peer ID and addresses", run = info,
      options = { JSON } },
    { name = "authorize", summary = "let a peer use this relay", run = authorize,
      args = { PEER, { "comment", many = true, optional = true, help = "a note to the peer" } },
      options = { { "note", alias = "comment", type = "string", value = "<text>",
        help = "the same note as an option" } } },
    { name = "deauthorize", summary = "stop letting a peer use this relay", run = deauthorize,
      args = { PEER } },
    { name = "pair", summary = "let machines in by codes that the running relay makes",
      bad_usage = 2, run = function(ctx, args)
        return require("peerup.pairing.command").run(ctx, args)
      end, options = {
        { "count", type = "integer", value = "<n>", default = "1",
          help = "codes, one for each machine (at most 100)" },
        { "ttl", type = "string", value = "<time>", default = "1h",
          help = "how long the codes live" },
        { "expires", type = "string", value = "<time>", default = "0",
          help = "how long a machine that pairs may use the relay; 0: for good" },
        { "namespace", type = "string", value = "<name>", default = "",
          help = "the network in the codes (default: the relay's own)" },
        { "list", type = "flag", help = "list the open groups" },
        { "revoke", type = "string", value = "<group>", help = "close a group" }, JSON } },
    { name = "config", summary = "the relay's config: validate, rollback", commands = {
      { name = "validate", summary = "check it", run = config_validate, options = { JSON } },
      { name = "rollback", summary = "bring back the last one that ran",
        run = config_rollback } } },
    { name = "list-peers", summary = "list who may use this relay", run = list_peers,
      options = { JSON } },
  },
}
