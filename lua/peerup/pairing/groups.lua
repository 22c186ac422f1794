--- Pairing groups of a relay (wire.md 20, daemon-api.md 4): tokens that let one machine in each,
-- and the strangers who are on the relay to show theirs. All of it is in memory: a relay that
-- starts again knows no open group, while who has paired stands in authorized_keys. Time is an
-- argument.
local core = require "peerup.core"
local err = require "peerup.err"
local messages = require "peerup.pairing.messages"

local M = {}

M.MAX_CODES = 100 -- of a group
M.MAX_GROUPS = 64
M.DEFAULT_TTL_S = 3600
M.MAX_TTL_S = 30 * 24 * 3600
M.MAX_STRANGERS = 10 -- on probation at once
M.PROBATION_S = 15
M.MAX_WRONG = 3 -- tokens of one stranger, which then stays out while a group is open
M.MAX_BARRED = 1000 -- strangers remembered so
local ID_BYTES = 4

---@class peerup.pairing_slot
---@field peer string?   who used it
---@field name string?   as it sent it
---@field proof string?

---@class peerup.pairing_group
---@field id string           8 hex digits
---@field network string
---@field until_s integer     Unix seconds
---@field expires_s integer?  seconds that a member's authorization lasts; nil: for good
---@field slots table<string, peerup.pairing_slot>  by SHA-256 of the token
---@field total integer
---@field members peerup.pairing_slot[]  the used slots, in the order of their use

---@class peerup.pairing_groups
local Groups = {}
Groups.__index = Groups

---@return peerup.pairing_groups
function M.new()
  return setmetatable({ by_id = {}, by_hash = {}, strangers = {}, wrong = {} }, Groups)
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

function Groups:drop(group)
  self.by_id[group.id] = nil
  for hash in pairs(group.slots) do self.by_hash[hash] = nil end
end

--- Drops what has run out.
---@return string[] gone  strangers whose time is over
function Groups:expire(now)
  for _, group in pairs(self.by_id) do
    if now >= group.until_s then self:drop(group) end
  end
  local open, gone = self:is_open(now), {}
  if not open then self.wrong = {} end
  for peer, since in pairs(self.strangers) do
    if not open or now >= since + M.PROBATION_S then
      gone[#gone + 1] = peer
      self.strangers[peer] = nil
    end
  end
  return gone
end

--- Tells whether somebody may still pair.
---@return boolean
function Groups:is_open(now)
  for _, group in pairs(self.by_id) do
    if now < group.until_s and #group.members < group.total then return true end
  end
  return false
end

--- Opens a group.
---@param options {count: integer, ttl_s: integer, network: string, expires_s: integer?}
---@return peerup.pairing_group? group
---@return string[]|peerup.err tokens  one for each machine
function Groups:create(options, now)
  self:expire(now)
  if count(self.by_id) >= M.MAX_GROUPS then
    return nil, err.say("limit", ("%d groups are open, which is the most; revoke one: peerup relay "
      .. "pair --revoke <group>"):format(M.MAX_GROUPS))
  end
  local id
  repeat id = hex(core.crypto.random(ID_BYTES)) until not self.by_id[id]
  local group = { id = id, network = options.network, until_s = now + options.ttl_s,
    expires_s = options.expires_s, slots = {}, total = options.count, members = {} }
  local tokens = {}
  for i = 1, options.count do
    tokens[i] = core.crypto.random(messages.TOKEN_BYTES)
    local hash = core.crypto.sha256(tokens[i])
    group.slots[hash] = {}
    self.by_hash[hash] = group
  end
  self.by_id[id] = group
  return group, tokens
end

--- Closes a group; who has paired stays.
---@return boolean stood
function Groups:revoke(id)
  local group = self.by_id[id]
  if group then self:drop(group) end
  return group ~= nil
end

--- The open groups, in the order of their ends.
---@return peerup.pairing_group[]
function Groups:list(now)
  self:expire(now)
  local list = {}
  for _, group in pairs(self.by_id) do list[#list + 1] = group end
  table.sort(list, function(a, b)
    if a.until_s ~= b.until_s then return a.until_s < b.until_s end
    return a.id < b.id
  end)
  return list
end

--- Takes a token: its slot is this peer's from now on. The same peer may come again with the token,
--- for the answer may have been lost on its way.
---@return peerup.pairing_group? group, peerup.pairing_slot|peerup.err slot
---@return boolean? again
function Groups:use(token, peer, name, now)
  local hash = core.crypto.sha256(token)
  local group = self.by_hash[hash]
  if not group or now >= group.until_s then
    self:count_wrong(peer)
    return nil, err.say("denied", "no open group has this token")
  end
  local slot = group.slots[hash]
  if slot.peer == peer then return group, slot, true end
  if slot.peer then
    self:count_wrong(peer)
    return nil, err.say("denied", "the token was used by another peer")
  end
  slot.peer, slot.name, slot.proof = peer, name, messages.proof(token, group.id)
  group.members[#group.members + 1] = slot
  return group, slot, false
end

--- Gives a slot back whose peer could not be kept.
function M.release(group, slot)
  for i, member in ipairs(group.members) do
    if member == slot then table.remove(group.members, i) break end
  end
  slot.peer, slot.name, slot.proof = nil, nil, nil
end

-- ---- strangers ----

--- Notes a token that is of no use. Tokens cannot be guessed (128 bits), and a wrong one belongs to
--- no code, so it is the peer that is sent away and no code that is used up.
function Groups:count_wrong(peer)
  if not self.wrong[peer] and count(self.wrong) >= M.MAX_BARRED then self.wrong = {} end
  self.wrong[peer] = (self.wrong[peer] or 0) + 1
end

---@return boolean
function Groups:is_barred(peer)
  return (self.wrong[peer] or 0) >= M.MAX_WRONG
end

--- Tells whether a stranger may connect (or stay). Entering is a step of its own: enter.
---@return boolean
function Groups:may_enter(peer, now)
  if not self:is_open(now) or self:is_barred(peer) then return false end
  local since = self.strangers[peer]
  if since then return now < since + M.PROBATION_S end
  local present = 0
  for _, came in pairs(self.strangers) do
    if now < came + M.PROBATION_S then present = present + 1 end
  end
  return present < M.MAX_STRANGERS
end

--- Counts a stranger that was let in.
function Groups:enter(peer, now)
  self.strangers[peer] = self.strangers[peer] or now
end

--- Forgets a stranger whose connections have ended, or who has paired.
function Groups:leave(peer)
  self.strangers[peer] = nil
end

---@return boolean
function Groups:is_stranger(peer, now)
  return self.strangers[peer] ~= nil and self:may_enter(peer, now)
end

return M
