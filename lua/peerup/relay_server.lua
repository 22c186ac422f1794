--- A running relay: the host, its policy, reservations and circuits, and guests for members'
-- invites (config.md 3, docs/relay-invite.md), and pairing groups (docs/relay-pairing.md).
local core = require "peerup.core"
local err = require "peerup.err"
local fs = require "peerup.fs"
local guests = require "peerup.guests"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local limits = require "peerup.limits"
local line = require "peerup.line"
local node = require "peerup.node"
local pairing = require "peerup.pairing.host"
local policy = require "peerup.policy"
local transports = require "peerup.transports"
local uv = require "luv"

local M = {}

M.SWEEP_MS = 1000
local FIRST_LINE_S = 10 -- to say "open"
local WRITE_S = 10

---@class peerup.relay_server
local Relay = {}
Relay.__index = Relay

--- Opens a relay from its configuration.
---@param options {config: table, identity: table, log: peerup.log}
---@return peerup.relay_server? relay, peerup.err?
function M.open(options)
  local config = options.config
  local gating = config.security.enable_connection_gating
  local authorized, problem = {}
  if gating then
    authorized, problem = node.read_authorized(config, true)
    if not authorized then return nil, problem end
  end
  local self = setmetatable({
    config = config, log = options.log, identity = options.identity,
    peer_id = options.identity.peer_id, guests = guests.new(), started = uv.now(),
  }, Relay)
  self.pairing = pairing.new(self)
  self.rules = policy.rules {
    gating = gating, authorized = authorized, relaying = true,
    guests = config.security.members_may_invite and self.guests or nil,
    pairing = self.pairing.groups,
  }
  local tell_denied = node.denial_log(options.log)
  self.host, problem = core.host {
    identity = options.identity.key,
    agent = "relay-server/" .. core.version(),
    policy = function(question)
      local now = os.time()
      local allowed, why = policy.decide(self.rules, question, now)
      if not allowed then
        tell_denied(question, why)
      elseif question.ask == "inbound" then
        if why == "guest" then self.guests:enter(question.peer, now) end
        if why == "stranger" then self.pairing.groups:enter(question.peer, now) end
      end
      if self.tell then
        pcall(self.tell, { type = "decision", ask = question.ask, allowed = allowed == true,
          why = why, peer = question.peer, protocol = question.protocol,
          target = question.target })
      end
      return allowed, why
    end,
    on_event = function(event) self:on_event(event) end,
    on_log = node.engine_log(options.log),
    log_level = options.log:engine_level(),
    limits = limits.of(config),
    congestion = config.network.congestion ~= "" and config.network.congestion or nil,
  }
  if not self.host then return nil, problem end
  options.log.on_levels = function(log)
    if self.host then self.host:set_log_level(log:engine_level()) end
  end
  local ok
  ok, problem = limits.set_protocols(self.host, config)
  if not ok then
    self.host:close()
    return nil, problem
  end
  return self
end

function Relay:on_event(event)
  local peer = event.peer or event.conn and event.conn.peer
  if event.type == "disconnected" and peer and #self:conns_of(peer) == 0 then
    self.guests:leave(peer)
  end
  self.pairing:on_event(event, peer)
  if event.type == "relay_circuit" then
    self.log:info(event.code and "circuit ended" or "circuit", "from", event.peer, "to",
      event.target, "why", event.code and event.detail)
  end
end

--- The standing connections of a peer.
function Relay:conns_of(peer)
  local list = {}
  for _, conn in ipairs(self.host and self.host:conns() or {}) do
    if conn.peer == peer then list[#list + 1] = conn end
  end
  return list
end

local function seconds(ns)
  return math.max(1, ns // 1000000000)
end

--- Listens and starts to relay.
---@return true?, peerup.err?
function Relay:start()
  local ok, problem = transports.listen(self.host, self.config, self.log)
  if not ok then return nil, problem end
  local r = self.config.resources
  ok, problem = self.host:relay_start {
    max_reservations = r.max_reservations, max_circuits = r.max_circuits,
    max_reservations_per_ip = r.max_reservations_per_ip,
    max_reservations_per_asn = r.max_reservations_per_asn,
    reservation_ttl_s = seconds(r.reservation_ttl),
    session_duration_s = seconds(r.session_duration),
    session_data_bytes = r.session_data_limit, buffer_bytes = r.buffer_size,
  }
  if not ok then return nil, problem end
  ok, problem = self.host:handle(policy.RELAY_INVITE, function(stream)
    self:serve_invite(stream)
  end)
  if ok then ok, problem = self.pairing:start() end
  if not ok then return nil, problem end
  self:sweep_regularly()
  return true
end

-- ---- invites of members ----

--- Authorizes the peer a member vouched for.
function Relay:admit(member, id, message)
  if not self.rules.gating then return true end
  if self.rules.authorized[message.peer] then return true end
  local ok, problem = self.guests:vouch(id, message.peer, os.time())
  if not ok then return nil, problem end
  local name = message.name ~= "" and message.name or os.date("!joined-%Y-%m-%d")
  local path = self.config.security.authorized_keys_file
  ok, problem = keys.update_file(path, function(text)
    return keys.add(text, message.peer, name, { invited_by = member })
  end)
  if not ok and problem.code ~= "exists" then
    self.log:error("cannot authorize a vouched peer", "peer", message.peer, "why",
      tostring(problem))
    return nil, err.say("io_error", "cannot-save")
  end
  self.log:info("authorized on a member's word", "peer", message.peer, "name", name,
    "invited_by", member)
  self:reload_authorized()
  return true
end

--- Speaks with a member about one invite, for as long as it is open.
---@async
function Relay:serve_invite(stream)
  local member = stream:peer()
  local reader = line.reader(stream, guests.MAX_LINE)
  local text = reader:read(FIRST_LINE_S)
  local message = text and guests.parse(text)
  if not message or message.verb ~= "open" then
    stream:write("no bad-message\n", WRITE_S)
    return
  end
  if not self.config.security.members_may_invite then
    stream:write("no members-may-not-invite\n", WRITE_S)
    return
  end
  local id, problem = self.guests:open(member, message.ttl_s, os.time())
  if not id then
    stream:write(("no %s\n"):format(tostring(problem)), WRITE_S)
    return
  end
  self.log:info("invite open", "member", member, "ttl_s", message.ttl_s)
  local ends = os.time() + message.ttl_s
  if stream:write(("ok %d\n"):format(message.ttl_s), WRITE_S) then
    self:follow_invite(stream, reader, member, id, ends)
  end
  self.guests:close(id)
  self.log:info("invite closed", "member", member)
  self:drop_guests()
end

function Relay:follow_invite(stream, reader, member, id, ends)
  while os.time() < ends do
    local text = reader:read(ends - os.time())
    if not text then return end
    local message = guests.parse(text)
    if not message or message.verb ~= "vouch" then
      stream:write("no bad-message\n", WRITE_S)
      return
    end
    local ok, problem = self:admit(member, id, message)
    local answer = ok and "ok\n" or ("no %s\n"):format(tostring(problem))
    if not stream:write(answer, WRITE_S) then return end
  end
end

--- Sends guests and strangers away whose time is over, or for whom nothing is open any more.
function Relay:drop_guests()
  local now = os.time()
  local gone, strangers = self.guests:expire(now), self.pairing:expire()
  table.move(strangers, 1, #strangers, #gone + 1, gone)
  for _, peer in ipairs(gone) do
    if self.host and not policy.is_authorized(self.rules, peer, now) then
      local closed = self.host:disconnect(peer)
      self.log:info("guest sent away", "peer", peer, "connections", closed)
    end
  end
end

--- What /healthz says.
---@return table
function Relay:health()
  local peers, count = {}, 0
  for _, conn in ipairs(self.host and self.host:conns() or {}) do
    if not peers[conn.peer] then
      peers[conn.peer] = true
      count = count + 1
    end
  end
  return json.object("connected_peers", count, "status", "ok", "uptime_seconds",
    (uv.now() - self.started) // 1000)
end

function Relay:sweep_regularly()
  self.sweeper = uv.new_timer()
  self.sweeper:start(M.SWEEP_MS, M.SWEEP_MS, function() self:drop_guests() end)
end

-- ---- changes while running ----

---@return true?, peerup.err?
function Relay:reload_authorized()
  if not self.rules.gating then return true end
  -- Before reading: what is written from now on is a change that will be told of.
  if self.watcher then self.watcher:seen(self.config.security.authorized_keys_file) end
  local authorized, problem = node.read_authorized(self.config, true)
  if not authorized then
    self.log:error("authorized_keys not taken up, the old rules stay", "why", tostring(problem))
    return nil, problem
  end
  self.rules.authorized = authorized
  local ended = self.host:recheck()
  self.log:info("authorized_keys taken up", "ended", ended)
  return true
end

--- Archives the configuration as one that runs.
function Relay:keep_config()
  self.keeper = require("peerup.config.keeper").new { path = self.config.path,
    text = self.config.text, log = self.log }
end

--- Follows authorized_keys, and the clock for `expires`.
function Relay:watch()
  local path = self.config.security.authorized_keys_file
  local looked = os.time()
  local paths = transports.watched(self.config)
  if path ~= "" then paths[#paths + 1] = path end
  self.watcher = require("peerup.watch").start(paths, function(changed)
    if changed == path then
      self:reload_authorized()
    else
      transports.renew(self.host, self.config, self.log, changed)
    end
  end, function()
    local now = os.time()
    if now ~= looked and self.rules.gating
      and node.expired_between(self.rules.authorized, looked, now) then
      self.host:recheck()
    end
    looked = now
    if self.keeper then self.keeper:tick() end
  end)
end

function Relay:close()
  if self.watcher then self.watcher:close() end
  if self.sweeper and not self.sweeper:is_closing() then self.sweeper:close() end
  self.watcher, self.sweeper = nil, nil
  if self.host then self.host:close() end
  self.host = nil
end
Relay.__close = Relay.close

--- Names what changed for those who come from a program that took paths by the working directory.
---@param config table
---@return string[] warnings
function M.path_warnings(config)
  local warnings = {}
  local function look(key, raw, resolved)
    if raw == "" or raw:sub(1, 1) == "/" or raw == resolved or not fs.exists(raw) then return end
    if uv.fs_realpath(raw) == uv.fs_realpath(resolved) then return end
    warnings[#warnings + 1] = ("%s: using %s beside the config; the %s in the working directory is "
      .. "not used (give the full path to use it)"):format(key, resolved, raw)
  end
  look("identity.key_file", config.raw_key_file, config.identity.key_file)
  look("security.authorized_keys_file", config.raw_authorized_keys_file,
    config.security.authorized_keys_file)
  return warnings
end

return M
