--- Strangers on a relay while a member's invite is open (docs/relay-invite.md).
-- A member tells the relay that an invite of its own is open; until it closes, a few unknown peers
-- may connect for a short time and be carried to that member, and nowhere else. After the handshake
-- the member vouches for the one that joined. Time is an argument; there is no socket in here.
local err = require "peerup.err"

local M = {}

M.MAX_GUESTS = 10 -- at once, over all invites
M.GUEST_SECONDS = 60 -- a handshake takes two or three
M.MAX_INVITES = 64 -- open at once, over all members
M.MAX_INVITES_PER_MEMBER = 4
M.MAX_TTL_SECONDS = 24 * 3600
M.MAX_LINE = 256 -- bytes of a message, its newline included

---@class peerup.guests
---@field invites table<integer, {id: integer, member: string, until_s: integer,
---  visitors: table<string, boolean>, vouched: boolean}>
---@field by_peer table<string, integer>  guest -> when it came, Unix seconds
local Guests = {}
Guests.__index = Guests

---@return peerup.guests
function M.new()
  return setmetatable({ invites = {}, by_peer = {}, next_id = 1 }, Guests)
end

--- Drops what has run out.
---@return string[] gone  guests whose time is over
function Guests:expire(now)
  for id, invite in pairs(self.invites) do
    if now >= invite.until_s then self.invites[id] = nil end
  end
  local gone, open = {}, next(self.invites) ~= nil
  for peer, since in pairs(self.by_peer) do
    if not open or now >= since + M.GUEST_SECONDS then
      gone[#gone + 1] = peer
      self.by_peer[peer] = nil
    end
  end
  return gone
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

--- Opens an invite.
---@return integer? id, peerup.err?
function Guests:open(member, ttl_s, now)
  self:expire(now)
  if ttl_s < 1 or ttl_s > M.MAX_TTL_SECONDS then
    return nil, err.say("invalid", "bad-ttl")
  end
  local own = 0
  for _, invite in pairs(self.invites) do
    if invite.member == member then own = own + 1 end
  end
  if own >= M.MAX_INVITES_PER_MEMBER or count(self.invites) >= M.MAX_INVITES then
    return nil, err.say("limit", "too-many-invites")
  end
  local id = self.next_id
  self.next_id = id + 1
  self.invites[id] = { id = id, member = member, until_s = now + ttl_s, visitors = {} }
  return id
end

--- Closes an invite.
function Guests:close(id)
  self.invites[id] = nil
end

local function open_to(self, member, now)
  local list = {}
  for _, invite in pairs(self.invites) do
    if now < invite.until_s and (not member or invite.member == member) then
      list[#list + 1] = invite
    end
  end
  return list
end

--- Tells whether a stranger may connect (or stay). Entering is a step of its own: enter.
---@return boolean
function Guests:may_enter(peer, now)
  if #open_to(self, nil, now) == 0 then return false end
  local since = self.by_peer[peer]
  if since then return now < since + M.GUEST_SECONDS end
  local present = 0
  for _, came in pairs(self.by_peer) do
    if now < came + M.GUEST_SECONDS then present = present + 1 end
  end
  return present < M.MAX_GUESTS
end

--- Counts a stranger that was let in.
function Guests:enter(peer, now)
  self.by_peer[peer] = self.by_peer[peer] or now
end

--- Forgets a guest whose connections have ended.
function Guests:leave(peer)
  self.by_peer[peer] = nil
end

---@return boolean
function Guests:is_guest(peer, now)
  return self.by_peer[peer] ~= nil and self:may_enter(peer, now)
end

--- Tells whether a guest may be carried to a target: a member with an open invite. Remembers it as
-- that invite's visitor, which is what can be vouched for.
---@return boolean
function Guests:may_reach(peer, target, now)
  if not self:is_guest(peer, now) then return false end
  local invites = open_to(self, target, now)
  for _, invite in ipairs(invites) do invite.visitors[peer] = true end
  return #invites > 0
end

--- Takes a member's word for a visitor: one for each invite.
---@return true?, peerup.err?
function Guests:vouch(id, peer, now)
  local invite = self.invites[id]
  if not invite or now >= invite.until_s then return nil, err.say("closed", "invite-closed") end
  if invite.vouched then return nil, err.say("limit", "already-vouched") end
  if not invite.visitors[peer] then return nil, err.say("denied", "not-a-visitor") end
  invite.vouched = true
  return true
end

--- Reads one message of a member, without its newline. Strict: single spaces, no other sign.
---@param line string
---@return {verb: "open", ttl_s: integer}|{verb: "vouch", peer: string, name: string}|nil
function M.parse(line)
  if #line >= M.MAX_LINE or line:find("[^\x20-\x7e]") then return nil end
  local ttl = line:match("^open ([1-9]%d?%d?%d?%d?%d?)$")
  if ttl then return { verb = "open", ttl_s = math.tointeger(tonumber(ttl)) } end
  local peer, name = line:match("^vouch ([A-Za-z0-9]+) ([A-Za-z0-9._-]+)$")
  if not peer then peer, name = line:match("^vouch ([A-Za-z0-9]+)$"), "" end
  if not peer or #name > 64 then return nil end
  local id = require("peerup.core").peer_id.parse(peer)
  if id ~= peer then return nil end
  return { verb = "vouch", peer = peer, name = name }
end

return M
