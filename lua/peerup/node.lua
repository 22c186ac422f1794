--- Builds a running node from a configuration: the host, its policy, relays, services and names.
-- The one place that wires policy to engine for nodes; relay_server.lua is its twin for relays.
local core = require "peerup.core"
local err = require "peerup.err"
local fs = require "peerup.fs"
local keys = require "peerup.authorized_keys"
local limits = require "peerup.limits"
local line = require "peerup.line"
local load = require "peerup.config.load"
local net = require "peerup.net"
local policy = require "peerup.policy"
local relays = require "peerup.relays"
local services = require "peerup.services"
local transports = require "peerup.transports"
local uv = require "luv"

local M = {}

M.PING_PONG = "/pingpong/1.0.0"
M.DENIALS_PER_MINUTE = 20 -- log lines; the rest is counted
M.SETTLE_MS = 3000 -- to be identified, or thrown out
local PING_LINE_BYTES = 64
local PING_TIMEOUT_S = 15
local CIRCUIT_TTL_S = 3600

---@class peerup.node
---@field host peerup.host
---@field rules peerup.rules
---@field config table
---@field log peerup.log
---@field peer_id string
---@field serving boolean  a daemon, not a command of a moment
local Node = {}
Node.__index = Node

--- Logs refusals, but not as many as a stranger can cause.
local function denial_log(log)
  local write = log:limited(M.DENIALS_PER_MINUTE)
  return function(question, why)
    write("info", "refused", "what", question.ask, "peer", question.peer, "target",
      question.target, "protocol", question.protocol, "why", why)
  end
end
M.denial_log = denial_log

--- Reads authorized_keys strictly.
---@param config table
---@param must_exist boolean
---@return table<string, peerup.key_entry>? by_peer, peerup.err?
function M.read_authorized(config, must_exist)
  local path = config.security.authorized_keys_file
  if path == "" then
    if not must_exist then return {} end
    return nil, err.say("invalid", "the config names no security.authorized_keys_file, but "
      .. "connection gating is on")
  end
  local text, problem = fs.read(path)
  if not text then
    if not must_exist and problem.code == "not_found" then return {} end
    return nil, problem
  end
  local by_peer
  by_peer, problem = keys.load(text)
  if not by_peer then
    return nil, err.say(problem.code, ("%s: %s"):format(path, tostring(problem)))
  end
  return by_peer
end

--- Passes what the engine logs on to our log.
function M.engine_log(log)
  return function(level, part, text)
    log:engine(level, part, text)
  end
end

--- Opens a node.
---@param options {config: table, identity: {key: string, peer_id: string}, log: peerup.log,
---  serving: boolean?, targets: string[]?, on_dial: function?}
--- serving: other peers connect to us (daemon); else we only go out, and authorized_keys may be
--- missing. on_dial: orders or drops addresses, as core.host's, of those that network.transports
--- leaves.
---@return peerup.node? node, peerup.err?
function M.open(options)
  local config = options.config
  local relay_list, problem = relays.of(config)
  if not relay_list then return nil, problem end
  local gating = config.security.enable_connection_gating
  local authorized = {}
  if gating then
    authorized, problem = M.read_authorized(config, options.serving or false)
    if not authorized then return nil, problem end
  end
  local self = setmetatable({
    config = config, log = options.log, identity = options.identity,
    peer_id = options.identity.peer_id, relays = relay_list, listeners = {}, exposed = {},
    hidden = {}, carried = {}, paths = {}, decision_listeners = 0,
    serving = options.serving or false,
    started = uv.now(), names = config.names,
  }, Node)
  self.rules = policy.rules { gating = gating, authorized = authorized }
  for _, relay in ipairs(relay_list) do self.rules.relays[relay.peer] = true end
  for _, peer in ipairs(options.targets or {}) do self.rules.targets[peer] = true end
  local tell_denied = denial_log(options.log)
  self.host, problem = core.host {
    identity = options.identity.key,
    agent = "peerup/" .. core.version(),
    policy = function(question)
      local allowed, why = policy.decide(self.rules, question, os.time())
      if not allowed then tell_denied(question, why) end
      if self.decision_listeners > 0 then self:tell_decision(question, allowed, why) end
      return allowed, why
    end,
    on_dial = transports.on_dial(function() return self.config end, options.on_dial),
    on_event = function(event)
      self:dispatch(event)
      self:watch_path(event)
    end,
    on_log = M.engine_log(options.log),
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

-- ---- events ----

--- Calls fn for each event of the host; returns a function that ends this.
---@param fn fun(event: peerup.event)
---@return fun()
function Node:on_event(fn)
  self.listeners[fn] = true
  return function() self.listeners[fn] = nil end
end

function Node:dispatch(event)
  local now = {}
  for fn in pairs(self.listeners) do now[#now + 1] = fn end
  for _, fn in ipairs(now) do
    if self.listeners[fn] then
      local ok, why = pcall(fn, event)
      if not ok then self.log:error("an event function failed", "event", event.type, "why", why) end
    end
  end
end

--- Tells of a peer's path when it has changed: another connection is the best one now.
function Node:watch_path(event)
  if event.type ~= "connected" and event.type ~= "disconnected" or not event.conn then return end
  local peer = event.conn.peer
  local conn = self.host and self.host:best_conn(peer)
  local path, before = conn and M.path_of(conn) or nil, self.paths[peer]
  self.paths[peer] = path
  if path and before and path ~= before then
    self:dispatch { type = "path", peer = peer, path = path, before = before, addr = conn.addr }
  end
end

--- Says that one more (1) or one less (-1) listens to decisions, which are many: they go through
--- the bus only for such.
function Node:listen_decisions(change)
  self.decision_listeners = self.decision_listeners + change
end

--- Passes a decision on to who listens. It runs inside the engine's question, so listeners only
--- note what they hear.
function Node:tell_decision(question, allowed, why)
  local rule = question.protocol and self.rules.services[question.protocol]
  self:dispatch { type = "decision", ask = question.ask, allowed = allowed == true,
    why = not allowed and why or nil,
    peer = question.peer, protocol = question.protocol, target = question.target,
    service = rule and rule.name }
end

--- Waits until fn gives something for an event.
---@async
---@param seconds number
---@param fn fun(event: peerup.event): any
---@return any? value, peerup.err?
function Node:wait_event(seconds, fn)
  return core.task.await(function(resume)
    local timer = uv.new_timer()
    local off
    local function finish(...)
      off()
      if not timer:is_closing() then timer:close() end
      resume(...)
    end
    off = self:on_event(function(event)
      local value, problem = fn(event)
      if value ~= nil or problem then finish(value, problem) end
    end)
    timer:start(math.ceil(seconds * 1000), 0, function()
      finish(nil, err.say("timeout", ("timed out after %g s"):format(seconds)))
    end)
    return function()
      off()
      if not timer:is_closing() then timer:close() end
    end
  end)
end

-- ---- listening and relays ----

--- Listens on the configured addresses.
---@return string[]? addrs, peerup.err?  fails when none could be listened on
function Node:listen()
  local ok, problem = transports.listen(self.host, self.config, self.log)
  if not ok then return nil, problem end
  return self.host:addrs()
end

--- Keeps a reservation at every relay of the configuration.
---@return true?, peerup.err?
function Node:reserve_all()
  local seconds = self.config.relay.reservation_interval / 1e9
  for _, relay in ipairs(self.relays) do
    local ok, problem = relays.tell(self.host, relay)
    if ok then ok, problem = self.host:reserve(relay.addr, seconds) end
    if not ok then return nil, problem end
  end
  return true
end

--- Makes the ways to a peer through our relays known, next to what is known already.
function Node:add_circuits(peer)
  for _, relay in ipairs(self.relays) do
    relays.tell(self.host, relay, CIRCUIT_TTL_S)
    if relay.peer ~= peer then
      self.host:add_addr(peer, relays.circuit(relay.addr, peer), CIRCUIT_TTL_S)
    end
  end
end

--- Waits until a fresh connection has proved to be wanted by the other side: a gate there closes it
--- right after the handshake, when for us it stands already.
---@async
---@param peer string
---@return peerup.conn_info? conn, peerup.err? err  code "denied" when it was closed
function Node:settle(peer)
  local ends = uv.now() + M.SETTLE_MS
  while true do
    local conn = self.host and self.host:best_conn(peer)
    if not conn then
      return nil, err.say("denied", "it closed the connection right after the handshake, so it "
        .. "probably does not know this machine, " .. self.peer_id)
    end
    local left = ends - uv.now()
    if conn.identified or left <= 0 then return conn end
    self:wait_event(left / 1000, function(event)
      local about = event.peer or event.conn and event.conn.peer
      if about == peer and (event.type == "identified" or event.type == "disconnected") then
        return true
      end
    end)
  end
end

local function reach(self, peer, seconds)
  self.rules.targets[peer] = true
  self:add_circuits(peer)
  local conn, problem = self.host:connect(peer, { timeout = seconds })
  if conn then return self:settle(peer) end
  local tried = self.host and self.host:known_addrs(peer)
  if not tried then return nil, problem end -- the node has closed meanwhile
  if #tried == 0 then
    return nil, err.say(problem.code, tostring(problem)
      .. " (no address of the peer is known; is a relay configured?)")
  end
  local text = tostring(problem)
  if err.is(problem, "gone", "reset", "eof", "relay_refused", "denied") then
    text = text .. "; if a relay does not know this machine, its operator runs: peerup relay "
      .. "authorize " .. self.peer_id
  end
  local told = false -- the engine names what it tried where it tried something
  for _, addr in ipairs(tried) do told = told or text:find(addr, 1, true) ~= nil end
  return nil, err.say(problem.code, ("%s (tried for up to %g s%s)"):format(text, seconds,
    told and "" or ": " .. table.concat(tried, ", ")))
end

--- Connects to a peer the user asked for, by any way.
---@async
---@param peer string
---@param seconds number
---@return peerup.conn_info? conn, peerup.err?
function Node:reach(peer, seconds)
  local from = uv.hrtime()
  local conn, problem = reach(self, peer, seconds)
  self:dispatch { type = "dialled", peer = peer, path = conn and M.path_of(conn),
    seconds = (uv.hrtime() - from) / 1e9, code = problem and problem.code }
  return conn, problem
end

--- The word for the path of a connection.
---@param conn peerup.conn_info
---@return "DIRECT"|"RELAYED"
function M.path_of(conn)
  return conn.relayed and "RELAYED" or "DIRECT"
end

--- How a connection is made: "tls over quic-v1". For a relayed one that is the security between the
--- ends, over the transport to the relay.
---@param conn peerup.conn_info
---@return string
function M.transport_of(conn)
  return ("%s over %s"):format(conn.security or "unknown", net.transport(conn.addr) or "unknown")
end

-- ---- what we serve ----

--- Answers ping-pong (wire.md 18.3).
local function serve_ping(stream)
  local reader = line.reader(stream, PING_LINE_BYTES)
  local text = reader:read(PING_TIMEOUT_S)
  if not text then return end
  local answer = text:match("^%s*(.-)%s*$") == "ping" and "pong\n" or "unknown\n"
  if stream:write(answer, PING_TIMEOUT_S) then stream:close_write() end
end

--- Serves ping-pong when the configuration says so.
function Node:serve_ping_pong()
  local wanted = self.config.protocols.ping_pong
  local id = wanted.enabled and wanted.id ~= "" and wanted.id or nil
  if self.ping_id and self.ping_id ~= id then
    self.host:handle(self.ping_id, nil)
    self.rules.protocols[self.ping_id] = nil
    self.ping_id = nil
  end
  if not id or self.ping_id then return true end
  self.rules.protocols[id] = true
  local ok, problem = self.host:handle(id, serve_ping)
  if ok then self.ping_id = id end
  return ok, problem
end

--- Logs what happened on a service's connections.
local function service_log(self, name)
  local log = self.log
  return function(_, event)
    self:dispatch { type = "service", service = name, peer = event.peer, opened = event.opened,
      status = event.code, bytes_in = event.bytes_in, bytes_out = event.bytes_out,
      duration_us = event.duration_us }
    -- Many programs break off when they have what they came for: that is no failure.
    if event.code and not (event.code == "reset" and event.bytes_in > 0) then
      log:warn("service connection failed", "service", name, "peer", event.peer, "code",
        event.code, "why", event.detail)
    elseif event.opened then
      log:debug("service connection opened", "service", name, "peer", event.peer)
    else
      log:debug("service connection ended", "service", name, "peer", event.peer, "bytes_in",
        event.bytes_in, "bytes_out", event.bytes_out)
    end
  end
end

--- Starts or moves one service.
---@return true?, peerup.err?
function Node:expose(service)
  local standing = self.exposed[service.protocol]
  local rule, bad = policy.service_rule(service.name, service.allowed_peers)
  for _, text in ipairs(bad) do
    self.log:warn("allowed_peers has no valid peer ID here, ignored", "service", service.name,
      "entry", text)
  end
  self.rules.services[service.protocol] = rule
  if standing and standing.local_address == service.local_address then return true end
  if standing then standing.proxy:close() end
  self.exposed[service.protocol] = nil
  local proxy, problem = self.host:proxy_expose(service.protocol, service.local_address,
    service_log(self, service.name))
  if not proxy then
    self.rules.services[service.protocol] = nil
    return nil, err.say(problem.code, ("cannot offer service %s: %s"):format(service.name,
      tostring(problem)))
  end
  self.exposed[service.protocol] = { proxy = proxy, name = service.name,
    local_address = service.local_address }
  self:dispatch { type = "exposed", service = service.name,
    local_address = service.local_address }
  return true
end

--- Remembers what a service has carried that is about to end, so that its sums go on.
local function remember_carried(self, standing)
  local stats = standing and standing.proxy:stats()
  if not stats then return end
  local sums = self.carried[standing.name] or { bytes_in = 0, bytes_out = 0 }
  self.carried[standing.name] = { bytes_in = sums.bytes_in + stats.bytes_in,
    bytes_out = sums.bytes_out + stats.bytes_out }
end

--- Stops one service and ends its connections.
function Node:unexpose(protocol)
  local standing = self.exposed[protocol]
  remember_carried(self, standing)
  self.exposed[protocol] = nil
  self.rules.services[protocol] = nil
  if not standing then return end
  standing.proxy:close()
  self:dispatch { type = "unexposed", service = standing.name }
end

--- Offers a service until the daemon ends, whatever the configuration says of it.
---@return true?, peerup.err?
function Node:expose_until_end(service)
  local ok, problem = self:expose(service)
  if not ok then return nil, problem end
  self.exposed[service.protocol].until_end = true
  self.hidden[service.protocol] = nil
  return true
end

--- Stops offering one until the daemon ends, also one of the configuration.
---@return boolean stood
function Node:unexpose_until_end(protocol)
  local stood = self.exposed[protocol] ~= nil
  if stood then
    self.hidden[protocol] = true
    self:unexpose(protocol)
  end
  return stood
end

--- Makes the services offered be those of the configuration; a bad one does not hold up the others.
function Node:sync_services()
  local wanted = {}
  for _, service in ipairs(services.list(self.config)) do
    if service.enabled and not self.hidden[service.protocol] then
      local ok, problem = services.check_name(service.name)
      if ok then
        wanted[service.protocol] = true
        ok, problem = self:expose(service)
      end
      if not ok then self.log:error(tostring(problem), "service", service.name) end
    end
  end
  local gone = {}
  for protocol, standing in pairs(self.exposed) do
    if not wanted[protocol] and not standing.until_end then gone[#gone + 1] = protocol end
  end
  for _, protocol in ipairs(gone) do self:unexpose(protocol) end
end

-- ---- changes while running ----

--- Takes authorized_keys up again; a file that cannot be read leaves the rules as they were.
---@return true?, peerup.err?
function Node:reload_authorized()
  if not self.rules.gating then return true end
  -- Before reading: what is written from now on is a change that will be told of.
  if self.watcher then self.watcher:seen(self.config.security.authorized_keys_file) end
  local authorized, problem = M.read_authorized(self.config, true)
  if not authorized then
    self.log:error("authorized_keys not taken up, the old rules stay", "why", tostring(problem))
    return nil, problem
  end
  self.rules.authorized = authorized
  local ended = self.host:recheck()
  self.log:info("authorized_keys taken up", "connections_ended", ended)
  self:dispatch { type = "auth_change", action = "reload" }
  return true
end

--- Takes the configuration up again: services, names, relays, gating.
---@return true?, peerup.err?
function Node:reload_config()
  local config, problem = load.read(self.config.path, "node")
  if config then
    local faults = load.validate(config)
    if #faults > 0 then config, problem = nil, err.say("malformed", faults[1]) end
  end
  local relay_list
  if config then relay_list, problem = relays.of(config) end
  if not relay_list then
    self.log:error("config not taken up, the old one stays", "why", tostring(problem))
    return nil, problem
  end
  for _, warning in ipairs(config.warnings) do self.log:warn(warning) end
  if self.serving then self.log:configure(config.log) end
  self.config, self.names = config, config.names
  self:change_relays(relay_list)
  local gating = config.security.enable_connection_gating
  if gating then
    local authorized
    authorized, problem = M.read_authorized(config, true)
    if authorized then self.rules.authorized = authorized
    else self.log:error("authorized_keys not taken up", "why", tostring(problem)) end
  end
  self.rules.gating = gating
  self:serve_ping_pong()
  self:sync_services()
  self.host:recheck()
  self.log:info("config taken up", "path", config.path)
  if self.keeper then self.keeper:keep(config.text) end
  self:dispatch { type = "config_change", action = "reload", path = config.path }
  return true
end

function Node:change_relays(relay_list)
  local wanted, standing = {}, {}
  for _, relay in ipairs(relay_list) do wanted[relay.peer] = relay.addr end
  for _, relay in ipairs(self.relays) do
    standing[relay.peer] = relay.addr
    if wanted[relay.peer] ~= relay.addr then
      self.rules.relays[relay.peer] = nil
      self.host:unreserve(relay.peer)
    end
  end
  self.relays = relay_list
  for peer, addr in pairs(wanted) do
    self.rules.relays[peer] = true
    if standing[peer] ~= addr then
      local ok, problem = relays.tell(self.host, { addr = addr, peer = peer })
      if ok then
        ok, problem = self.host:reserve(addr, self.config.relay.reservation_interval / 1e9)
      end
      if not ok then self.log:error("cannot use relay", "addr", addr, "why", tostring(problem)) end
    end
  end
end

--- Tells whether an authorization ran out since the last look.
local function expired_between(authorized, from, to)
  for _, entry in pairs(authorized) do
    if entry.expires and entry.expires > from and entry.expires <= to then return true end
  end
  return false
end
M.expired_between = expired_between

--- Follows changes of the config and of authorized_keys, and the clock for `expires`.
function Node:watch()
  local looked = os.time()
  local keys_path = self.config.security.authorized_keys_file
  local paths = { self.config.path }
  if keys_path ~= "" then paths[2] = keys_path end
  for _, path in ipairs(transports.watched(self.config)) do paths[#paths + 1] = path end
  self.watcher = require("peerup.watch").start(paths, function(path)
    if path == self.config.path then
      self:reload_config()
      local now_path = self.config.security.authorized_keys_file
      if now_path ~= "" then self.watcher:add(now_path) end
      for _, file in ipairs(transports.watched(self.config)) do self.watcher:add(file) end
    elseif path == self.config.security.authorized_keys_file then
      self:reload_authorized()
    else
      transports.renew(self.host, self.config, self.log, path)
    end
  end, function()
    local now = os.time()
    if now ~= looked and self.rules.gating
      and expired_between(self.rules.authorized, looked, now) then
      self.log:info("an authorization has expired")
      self.host:recheck()
    end
    looked = now
    if self.keeper then self.keeper:tick() end
  end)
end

--- Archives the configuration as one that runs, and from now on undoes changes of it that nobody
--- confirms.
function Node:keep_config()
  self.keeper = require("peerup.config.keeper").new {
    path = self.config.path, text = self.config.text, log = self.log,
    reload = function() return self:reload_config() end,
    on_change = function(action)
      self:dispatch { type = "config_change", action = action, path = self.config.path }
    end,
  }
end

--- Uptime in whole seconds.
---@return integer
function Node:uptime()
  return (uv.now() - self.started) // 1000
end

function Node:close()
  if self.watcher then self.watcher:close() end
  self.watcher = nil
  if self.host then self.host:close() end
  self.host = nil
end
Node.__close = Node.close

return M
