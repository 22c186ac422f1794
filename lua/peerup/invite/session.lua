--- Inviting and joining over the network: who connects to whom, and what both keep (wire.md 19.2,
-- cli.md 9, docs/relay-invite.md).
local code = require "peerup.invite.code"
local core = require "peerup.core"
local err = require "peerup.err"
local guests = require "peerup.guests"
local handshake = require "peerup.invite.handshake"
local line = require "peerup.line"
local policy = require "peerup.policy"
local relays = require "peerup.relays"

local M = {}

M.MAX_WRONG_CODES = 10 -- then the invite closes: the code cannot be guessed
M.MAX_PARALLEL = 4 -- handshakes at once
M.HANDSHAKE_S = 30
M.RESERVE_S = 20
M.JOIN_S = 30
M.LINGER_S = 2 -- the answer must pass the relay
local ASK_RELAY_S = 5
local READ_BYTES = 4096

--- Runs a handshake over a stream until it asks, is done or fails.
---@async
local function drive(machine, stream, deadline_s, stop_at)
  local ends = os.time() + deadline_s
  while machine.state ~= stop_at do
    local left = ends - os.time()
    if left <= 0 then return nil, err.say("timeout", "the handshake took too long") end
    local bytes, problem = stream:read(READ_BYTES, left)
    if not bytes then
      if problem and not err.is(problem, "reset", "gone", "eof") then return nil, problem end
      return nil, machine:ended()
    end
    local out
    out, problem = machine:feed(bytes)
    if not out then return nil, problem end
    if out ~= "" then
      local ok
      ok, problem = stream:write(out, left)
      if not ok then return nil, problem end
    end
  end
  return true
end

-- ---- inviter ----

---@class peerup.inviter
---@field code string
---@field state "open"|"joined"|"expired"|"wrong_codes"|"stopped"
local Inviter = {}
Inviter.__index = Inviter

--- Tells whether a relay keeps a reservation for us already.
local function is_reserved(node, peer)
  for _, reservation in ipairs(node.host:reservations()) do
    if reservation.relay == peer and reservation.active then return true end
  end
  return false
end

--- Reserves at a relay and waits for its answer.
---@async
local function reserve(node, relay)
  local ok, problem = relays.tell(node.host, relay)
  if ok then ok, problem = node.host:reserve(relay.addr) end
  if not ok then return nil, problem end
  ok, problem = node:wait_event(M.RESERVE_S, function(event)
    if event.peer ~= relay.peer then return end
    if event.type == "reserved" then return true end
    if event.type == "reservation_lost" then
      return nil, err.say(event.code or "relay_refused", event.detail or "refused")
    end
  end)
  if not ok and not node.serving and node.host then node.host:unreserve(relay.peer) end
  return ok, problem
end

--- Finds the first relay an invite code can hold and that grants us a reservation.
---@async
---@return {addr: string, peer: string}? relay
---@return string|peerup.err in_code  the address for the code, or what failed
local function reserve_first(node)
  local last = err.say("no_address", "no relay is configured; run: peerup relay add <addr>")
  for _, relay in ipairs(node.relays) do
    local in_code = relays.plain_tcp(relay.addr)
    local ok, problem = nil, err.say("unsupported",
      "a code can hold only a relay that listens on TCP")
    if in_code then
      ok, problem = code.encode { token = ("\0"):rep(code.TOKEN_BYTES[code.INVITE]),
        relay_addr = in_code, inviter = node.peer_id }
    end
    if ok then
      if is_reserved(node, relay.peer) then return relay, in_code end
      ok, problem = reserve(node, relay)
    end
    if ok then return relay, in_code end
    last = err.say(problem.code, ("cannot use relay %s (waited up to %d s): %s"):format(relay.addr,
      M.RESERVE_S, tostring(problem)))
  end
  return nil, last
end

--- Tells the relay that an invite is open, if it is one that can let strangers in for it.
---@async
---@return peerup.stream? stream  nil when the relay cannot
---@return string? why
local function tell_relay(node, relay, ttl_s)
  local stream, problem = node.host:open_stream(relay.peer, policy.RELAY_INVITE,
    { timeout = ASK_RELAY_S, no_dial = true })
  if not stream then return nil, tostring(problem) end
  local reader = line.reader(stream, guests.MAX_LINE)
  local answer
  if stream:write(("open %d\n"):format(ttl_s), ASK_RELAY_S) then
    answer, problem = reader:read(ASK_RELAY_S)
  end
  if answer and answer:find("^ok") then return stream, nil, reader end
  stream:close()
  return nil, answer and answer:gsub("^no ", ""):gsub("[^%w-]", "?") or tostring(problem)
end

--- Opens an invite on a node: reserves at a relay, makes the code, and serves joiners.
---@async
---@param options {node: peerup.node, name: string, ttl_s: integer,
---  on_joined: fun(peer: string, name: string): (true?, peerup.err?),
---  on_finish: fun(inviter: peerup.inviter), on_note: fun(text: string)}
---@return peerup.inviter? inviter, peerup.err?
function M.invite(options)
  local node = options.node
  if node.rules.invite then
    return nil, err.say("exists", "an invite is open already; one at a time")
  end
  local relay, in_code = reserve_first(node)
  if not relay then return nil, in_code end
  local token = core.crypto.random(code.TOKEN_BYTES[code.INVITE])
  local text, problem = code.encode { token = token, relay_addr = in_code,
    network = node.config.discovery.network, inviter = node.peer_id }
  if not text then return nil, problem end
  local self = setmetatable({
    node = node, relay = relay, token = token, code = text, name = options.name, state = "open",
    wrong = 0, active = 0, options = options,
  }, Inviter)
  local why
  self.relay_stream, why, self.relay_reader = tell_relay(node, relay, options.ttl_s)
  self.relay_admits = self.relay_stream ~= nil
  self.relay_why = why
  node.rules.invite = handshake.PROTOCOL
  local ok
  ok, problem = node.host:handle(handshake.PROTOCOL, function(stream) self:serve(stream) end)
  if not ok then return nil, problem end
  return self
end

--- Ends the invite with a state; the first one counts.
function Inviter:finish(state)
  if self.state ~= "open" then return end
  self.state = state
  if self.node.host then
    self.node.rules.invite = nil
    self.node.host:handle(handshake.PROTOCOL, nil)
    self.node.host:recheck() -- strangers who came for it go
  end
  if self.relay_stream then self.relay_stream:close() end
  self.relay_stream = nil
  self.options.on_finish(self)
end

--- Asks the relay to keep the joiner.
---@async
---@return true?, string? why
function Inviter:vouch(peer, name)
  if not self.relay_stream then return nil, self.relay_why end
  local text = name ~= "" and ("vouch %s %s\n"):format(peer, name) or ("vouch %s\n"):format(peer)
  if not self.relay_stream:write(text, ASK_RELAY_S) then return nil, "the relay is gone" end
  local answer, problem = self.relay_reader:read(ASK_RELAY_S)
  if answer == "ok" then return true end
  return nil, answer and answer:gsub("^no ", ""):gsub("[^%w-]", "?") or tostring(problem)
end

--- Serves one joiner.
---@async
function Inviter:serve(stream)
  if self.state ~= "open" or self.active >= M.MAX_PARALLEL then
    stream:reset(0)
    return
  end
  self.active = self.active + 1
  local ok, problem = self:attempt(stream)
  self.active = self.active - 1
  if ok or self.state ~= "open" then return end
  if problem.class == "bad_seal" then
    self.wrong = self.wrong + 1
    self.options.on_note(("a wrong code was tried by %s (%d of %d)"):format(stream:peer(),
      self.wrong, M.MAX_WRONG_CODES))
    if self.wrong >= M.MAX_WRONG_CODES then self:finish("wrong_codes") end
  else
    self.options.on_note(("an attempt by %s failed: %s"):format(stream:peer(), tostring(problem)))
  end
end

function Inviter:attempt(stream)
  local machine = handshake.inviter { token = self.token, name = self.name }
  local ok, problem = drive(machine, stream, M.HANDSHAKE_S, "asking")
  if not ok then return nil, problem end
  if self.state ~= "open" then
    stream:write(machine:reject(), M.HANDSHAKE_S)
    return nil, err.say("closed", "the invite was closed meanwhile")
  end
  self.state = "saving" -- one joiner only, from here on
  local peer = stream:peer()
  ok, problem = self.options.on_joined(peer, machine.peer_name)
  if not ok then
    self.state = "open"
    stream:write(machine:reject(), M.HANDSHAKE_S)
    return nil, problem
  end
  self.vouched, self.vouch_why = self:vouch(peer, require("peerup.names").sanitize(
    machine.peer_name))
  self.joined_peer, self.joined_name = peer, machine.peer_name
  stream:write(machine:accept(), M.HANDSHAKE_S)
  stream:close_write()
  stream:read(1, M.LINGER_S) -- until the joiner has read it and closes
  stream:close()
  self.state = "open"
  self:finish("joined")
  return true
end

function Inviter:close()
  self:finish("stopped")
end

-- ---- joiner ----

--- Says what to do when the relay turns us away.
local function refused_by_relay(problem, relay, own_id)
  return err.say(problem.code,
    ("The relay %s did not let us in: %s. The likeliest causes:\n"
    .. "  - the invite has ended: it was used, has expired, or was stopped; ask for a new code\n"
    .. "  - the relay lets no guests in; then its operator runs: peerup relay authorize %s")
    :format(relay.addr, tostring(problem), own_id))
end

-- These say that nobody was met; any other failure may be the relay's refusal.
local NOT_MET = { "timeout", "connection_refused", "unreachable", "no_address", "backoff",
  "peer_mismatch", "canceled" }

--- Joins by a code.
---@async
---@param options {node: peerup.node, code: peerup.invite_code, name: string,
---  on_step: fun(text: string)?}
---  The node's relays must hold the code's relay.
---@return {peer: string, name: string}? inviter, peerup.err?
function M.join(options)
  local node, invite = options.node, options.code
  local ends = os.time() + M.JOIN_S
  local relay = { addr = invite.relay_addr, peer = invite.relay_peer }
  node.rules.targets[relay.peer] = true
  node.rules.targets[invite.inviter] = true
  node.rules.relays[relay.peer] = true
  relays.tell(node.host, relay)
  node.host:add_addr(invite.inviter, relays.circuit(relay.addr, invite.inviter))
  local conn, problem = node.host:connect(relay.peer, { timeout = M.JOIN_S })
  if conn then conn, problem = node:settle(relay.peer) end
  if not conn and not err.is(problem, table.unpack(NOT_MET)) then
    return nil, refused_by_relay(problem, relay, node.peer_id)
  elseif not conn then
    return nil, err.say(problem.code, ("Failed to connect to relay %s (tried for up to %d s): %s")
      :format(relay.addr, M.JOIN_S, tostring(problem)))
  end
  local step = options.on_step or function() end
  step "Connecting to the inviter through the relay"
  local stream
  stream, problem = node.host:open_stream(invite.inviter, handshake.PROTOCOL,
    { timeout = math.max(1, ends - os.time()), limited = true })
  if not stream then
    if not node.host:best_conn(relay.peer) then
      return nil, refused_by_relay(problem, relay, node.peer_id)
    end
    return nil, err.say(problem.code, ("Failed to connect to inviter: %s (Is the invite still "
      .. "active?)"):format(tostring(problem)))
  end
  step "Waiting for the inviter's answer"
  local machine = handshake.joiner { token = invite.token, name = options.name }
  local ok
  ok, problem = stream:write(machine:start(), M.JOIN_S)
  if ok then ok, problem = drive(machine, stream, math.max(1, ends - os.time()), "done") end
  stream:close()
  if ok then return { peer = invite.inviter, name = machine.peer_name } end
  if problem.class == "bad_seal" or problem.code == "eof" then
    return nil, err.say(problem.code, ("Failed to decrypt response (wrong invite code?): %s")
      :format(tostring(problem)))
  end
  return nil, err.say(problem.code, "Joining failed: " .. tostring(problem))
end

return M
