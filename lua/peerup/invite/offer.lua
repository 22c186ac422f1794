--- An open invite as a whole: the session, its time, what is kept of the joiner. Used by the
-- command on a host of its own, and by a running daemon for the command.
local core = require "peerup.core"
local known = require "peerup.invite.known"
local session = require "peerup.invite.session"

local M = {}

M.MAX_TTL_S = 24 * 3600
M.MAX_NOTES = 20 -- what happened meanwhile; older ones are dropped

---@class peerup.offer
---@field state "open"|"joined"|"expired"|"wrong_codes"|"stopped"
local Offer = {}
Offer.__index = Offer

--- Opens an invite.
---@async
---@param options {node: peerup.node, name: string, ttl_s: integer, on_change: fun(offer)?}
---@return peerup.offer? offer, peerup.err?
function M.open(options)
  local node = options.node
  local self = setmetatable({ state = "open", notes = {}, on_change = options.on_change,
    expires = os.time() + options.ttl_s }, Offer)
  local inviter, problem = session.invite {
    node = node, name = options.name, ttl_s = options.ttl_s,
    on_joined = function(peer, name)
      local kept, why = known.keep { config_path = node.config.path, peer = peer, name = name,
        authorized_keys = node.config.security.authorized_keys_file, fallback = "joined" }
      if not kept then return nil, why end
      node:reload_authorized() -- before the invite closes and strangers are sent away
      self.peer, self.comment, self.name = peer, kept.comment, kept.name
      self.name_problem = kept.name_problem and tostring(kept.name_problem)
      return true
    end,
    on_finish = function(done) self:finished(done) end,
    on_note = function(text) self:note(text) end,
  }
  if not inviter then return nil, problem end
  self.inviter, self.code = inviter, inviter.code
  self.relay_admits, self.relay_why = inviter.relay_admits, inviter.relay_why
  self.clock = core.task.spawn(function()
    if core.task.sleep(options.ttl_s) then inviter:finish("expired") end
  end)
  return self
end

function Offer:note(text)
  if #self.notes >= M.MAX_NOTES then table.remove(self.notes, 1) end
  self.notes[#self.notes + 1] = text
  if self.on_change then self.on_change(self) end
end

function Offer:finished(inviter)
  self.state = inviter.state
  self.vouched, self.vouch_why = inviter.vouched or false, inviter.vouch_why
  if self.on_change then self.on_change(self) end
end

--- Ends the invite, if it has not ended.
function Offer:close()
  self.clock:cancel()
  self.inviter:close()
end

return M
