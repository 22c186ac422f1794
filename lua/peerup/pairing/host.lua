--- The relay's side of pairing over the network: serves requests, keeps who has paired, and tells
-- the members of a group of each other (wire.md 20, docs/relay-pairing.md).
local err = require "peerup.err"
local groups = require "peerup.pairing.groups"
local keys = require "peerup.authorized_keys"
local messages = require "peerup.pairing.messages"
local task = require "peerup.task"

local M = {}

local REQUEST_S, WRITE_S, NOTIFY_S = 10, 10, 10
local NOTIFY_AGAIN_S = 30 -- a member that identifies itself again is told no sooner
local MAX_NOTIFYING = 64 -- at once; who is left out is told when it identifies itself again

---@class peerup.pairing_host
---@field relay peerup.relay_server
---@field groups peerup.pairing_groups
local Host = {}
Host.__index = Host

---@param relay peerup.relay_server
---@return peerup.pairing_host
function M.new(relay)
  return setmetatable({ relay = relay, groups = groups.new(), told = {}, notifying = 0 }, Host)
end

--- Starts to serve.
---@return true?, peerup.err?
function Host:start()
  return self.relay.host:handle(messages.PAIR, function(stream) self:serve(stream) end)
end

--- Reads the request.
---@async
local function read_request(stream)
  local ends, bytes = os.time() + REQUEST_S, ""
  while #bytes < messages.request_bytes(bytes) or #bytes <= messages.TOKEN_BYTES do
    local more, problem = stream:read(messages.MAX_REQUEST, math.max(1, ends - os.time()))
    if not more then return nil, problem or err.say("eof", "the request is cut off") end
    bytes = bytes .. more
    if os.time() > ends then return nil, err.say("timeout", "the request took too long") end
    if messages.request_bytes(bytes) > messages.MAX_REQUEST then break end
  end
  return messages.decode_request(bytes)
end

--- Everybody of a group whom this relay knows: those of authorized_keys, and those of memory, who
--- alone have proofs.
---@param id string
---@return table<string, peerup.pairing_peer> by_peer
function Host:members(id)
  local by_peer = {}
  for peer, entry in pairs(self.relay.rules.authorized) do
    if entry.group == id and keys.is_valid(entry, os.time()) then
      by_peer[peer] = { peer = peer, name = entry.comment:sub(1, messages.MAX_NAME) }
    end
  end
  local group = self.groups.by_id[id]
  for _, slot in ipairs(group and group.members or {}) do
    if by_peer[slot.peer] or not self.relay.rules.gating then
      by_peer[slot.peer] = { peer = slot.peer, name = slot.name, proof = slot.proof }
    end
  end
  return by_peer
end

--- The group that a peer belongs to.
---@return string?
function Host:group_of(peer)
  local entry = self.relay.rules.authorized[peer]
  if entry and entry.group ~= "" then return entry.group end
  if self.relay.rules.gating then return nil end
  for id, group in pairs(self.groups.by_id) do
    for _, slot in ipairs(group.members) do
      if slot.peer == peer then return id end
    end
  end
end

--- The others of a group, in a fixed order.
function Host:others(id, peer)
  local list = {}
  for other, member in pairs(self:members(id)) do
    if other ~= peer and #list < messages.MAX_PEERS then list[#list + 1] = member end
  end
  table.sort(list, function(a, b) return a.peer < b.peer end)
  return list
end

--- Authorizes a peer that had a token. One that is known already keeps its line.
local function keep(self, peer, name, group)
  local relay = self.relay
  if not relay.rules.gating then return true end
  local comment = name:gsub("%c", "")
  if comment:match("^%s*$") then comment = os.date("!paired-%Y-%m-%d") end
  local expires = group.expires_s
    and os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + group.expires_s) or nil
  local ok, problem = keys.update_file(relay.config.security.authorized_keys_file, function(text)
    local changed, why = keys.add(text, peer, comment, { group = group.id, expires = expires })
    if not changed and err.is(why, "exists") then
      return keys.set_attribute(text, peer, "group", group.id)
    end
    return changed, why
  end)
  if ok then ok, problem = relay:reload_authorized() end
  return ok, problem
end

--- Pairs a peer by its request.
---@param peer string
---@param request {token: string, name: string}
---@return string? answer, peerup.err?
function Host:pair(peer, request)
  local group, slot, again = self.groups:use(request.token, peer, request.name, os.time())
  if not group then return nil, slot end
  if not again then
    local ok, problem = keep(self, peer, request.name, group)
    if not ok then
      groups.release(group, slot)
      self.relay.log:error("cannot keep a peer that pairs", "peer", peer, "why", tostring(problem))
      return nil, problem
    end
    self.groups:leave(peer)
    self.relay.log:info("paired", "peer", peer, "name", request.name, "group", group.id)
  end
  return messages.encode_answer { group = group.id, size = group.total,
    peers = self:others(group.id, peer) }, nil, group, again
end

--- Serves one request. All failures look the same from outside.
---@async
function Host:serve(stream)
  local peer = stream:peer()
  local request, problem = read_request(stream)
  local answer, group, again
  if request then answer, problem, group, again = self:pair(peer, request) end
  if not answer then
    self.relay.log:warn("pairing refused", "peer", peer, "why", tostring(problem))
  end
  stream:write(answer or messages.FAILURE, WRITE_S)
  stream:close_write()
  stream:read(1, WRITE_S) -- until the other side has read it and closes
  stream:close()
  if group and not again then
    for other in pairs(self:members(group.id)) do
      if other ~= peer then self:notify(other, group.id) end
    end
  elseif self.groups:is_barred(peer) then
    self.relay:drop_guests()
    self.relay.host:recheck()
  end
end

--- Tells a connected member who the others of its group are.
function Host:notify(peer, id)
  local relay = self.relay
  local others = self:others(id, peer)
  if #others == 0 or self.notifying >= MAX_NOTIFYING or #relay:conns_of(peer) == 0 then return end
  self.told[peer] = os.time()
  self.notifying = self.notifying + 1
  task.spawn(function()
    local stream, problem = relay.host:open_stream(peer, messages.NOTIFY,
      { timeout = NOTIFY_S, no_dial = true })
    if stream then
      -- The size is what the list may come to in a receiver that counts those it knows twice.
      local ok
      ok, problem = stream:write(messages.encode_notice { group = id,
        size = math.min(messages.MAX_PEERS, 2 * #others + 1), peers = others }, NOTIFY_S)
      if ok then
        stream:close_write()
        stream:read(1, NOTIFY_S)
      end
      stream:close()
    end
    self.notifying = self.notifying - 1
    if problem then
      relay.log:debug("a member was not told of its group", "peer", peer, "why",
        tostring(problem))
    end
  end)
end

--- Takes what happens on the relay's host.
function Host:on_event(event, peer)
  if event.type == "identified" and peer then
    local id = self:group_of(peer)
    if id and os.time() - (self.told[peer] or 0) >= NOTIFY_AGAIN_S then self:notify(peer, id) end
  elseif event.type == "disconnected" and peer and #self.relay:conns_of(peer) == 0 then
    self.groups:leave(peer)
    if os.time() - (self.told[peer] or 0) >= NOTIFY_AGAIN_S then self.told[peer] = nil end
  end
end

--- Forgets whom it has told long ago, and returns the strangers whose time is over.
---@return string[] gone
function Host:expire()
  local now = os.time()
  for peer, at in pairs(self.told) do
    if now - at >= NOTIFY_AGAIN_S then self.told[peer] = nil end
  end
  return self.groups:expire(now)
end

--- The address of the relay that a code can hold and the others can use best: plain TCP over IPv4,
--- public before private before loopback.
---@return string? addr, peerup.err?
function Host:code_addr()
  local net, relays = require "peerup.net", require "peerup.relays"
  local best, best_rank
  for _, listening in ipairs(self.relay.host:addrs()) do
    for _, addr in ipairs(net.expand(listening)) do
      local full = addr:find("/p2p/", 1, true) and addr or addr .. "/p2p/" .. self.relay.peer_id
      local plain = addr:find("^/ip4/") and relays.plain_tcp(full)
      local rank = plain and (net.is_public(addr) and 1 or addr:find("^/ip4/127%.") and 3 or 2)
      if rank and (not best or rank < best_rank) then best, best_rank = plain, rank end
    end
  end
  if best then return best end
  return nil, err.say("no_address", "the relay has no IPv4 address with TCP, which is what a code "
    .. "can hold; add /ip4/0.0.0.0/tcp/<port> to network.listen_addresses")
end

return M
