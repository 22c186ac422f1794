--- The one decision about access: who may connect, dial, open which stream, reserve, or be carried.
-- `decide` is a function over a table of rules; node.lua and relay_server.lua build the rules and
-- give the function to the engine, which asks it at every door and takes all but `true` as no.
local keys = require "peerup.authorized_keys"

local M = {}

local IDENTIFY, PUSH, PING = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"
M.HOP = "/libp2p/circuit/relay/0.2.0/hop"
M.STOP = "/libp2p/circuit/relay/0.2.0/stop"
M.RELAY_INVITE = "/peerup/relay-invite/1.0.0"
M.RELAY_PAIR = "/peerup/relay-pair/1.0.0"
M.PEER_NOTIFY = "/peerup/peer-notify/1.0.0"

-- What every connected peer may speak: it tells nothing that the handshake did not.
local BASIC = { [IDENTIFY] = true, [PUSH] = true, [PING] = true }

---@class peerup.rules
---@field gating boolean          false: everybody is authorised (the user chose so)
---@field authorized table<string, peerup.key_entry>
---@field relays table<string, boolean>      peers whose reservations we use
---@field targets table<string, boolean>     peers the user asked us to reach
---@field protocols table<string, boolean>   for every authorised peer
---@field services table<string, peerup.service_rule>  by protocol
---@field invite string?          protocol that anybody may speak while it is set
---@field relaying boolean        we are a relay
---@field guests peerup.guests?   strangers let in for an invite (relays only)
---@field pairing peerup.pairing_groups?  open pairing groups (relays only)

---@class peerup.service_rule
---@field name string
---@field allowed table<string, boolean>?  nil: every authorised peer

--- Tells whether a peer stands in authorized_keys and has not expired, and if not, why.
---@return boolean, string?
function M.is_authorized(rules, peer, now)
  if not rules.gating then return true end
  local entry = rules.authorized[peer]
  if not entry then return false, "not authorized" end
  if not keys.is_valid(entry, now) then return false, "authorization expired" end
  return true
end

local doors = {}

function doors.accept()
  return true -- nothing is known before the handshake; the engine's limits guard this door
end

function doors.inbound(rules, question, now)
  local ok, why = M.is_authorized(rules, question.peer, now)
  if ok then return true end
  if rules.invite then return true, "invite" end
  if rules.guests and not question.relayed and rules.guests:may_enter(question.peer, now) then
    return true, "guest"
  end
  if rules.pairing and not question.relayed and rules.pairing:may_enter(question.peer, now) then
    return true, "stranger"
  end
  return false, why
end

function doors.dial(rules, question, now)
  if rules.relays[question.peer] or rules.targets[question.peer] then return true end
  return M.is_authorized(rules, question.peer, now)
end

--- A relay's own protocols.
local function relay_stream(rules, question, authorized, now)
  if question.protocol == M.HOP then
    if authorized then return true end
    if rules.guests and rules.guests:is_guest(question.peer, now) then return true, "guest" end
  elseif question.protocol == M.RELAY_INVITE then
    return authorized and rules.guests ~= nil, "members only"
  elseif question.protocol == M.RELAY_PAIR then
    local pairing = rules.pairing
    if not pairing or pairing:is_barred(question.peer) then return false, "no pairing" end
    -- A member may come again for its answer, or for another group.
    if authorized or pairing:is_stranger(question.peer, now) then return true, "pairing" end
  end
  return false, "not authorized"
end

local RELAYS_OWN = { [M.HOP] = true, [M.RELAY_INVITE] = true, [M.RELAY_PAIR] = true }

function doors.stream(rules, question, now)
  local protocol, peer = question.protocol, question.peer
  if BASIC[protocol] then return true end
  if protocol == M.STOP or protocol == M.PEER_NOTIFY then
    return rules.relays[peer] == true, "not one of our relays"
  end
  if rules.invite and protocol == rules.invite then return true, "invite" end
  local authorized, why = M.is_authorized(rules, peer, now)
  if rules.relaying and RELAYS_OWN[protocol] then
    return relay_stream(rules, question, authorized, now)
  end
  if not authorized then return false, why end
  local service = rules.services[protocol]
  if service then
    if service.allowed and service.allowed[peer] then return true end
    local entry = rules.authorized[peer]
    if entry and entry.attributes.role == "relay" then
      return false, "authorized as a relay, which uses no services"
    end
    if not service.allowed then return true end
    return false, ("not among the allowed peers of service %s"):format(service.name)
  end
  if rules.protocols[protocol] then return true end
  return false, "no such protocol"
end

function doors.reservation(rules, question, now)
  if not rules.relaying then return false, "not a relay" end
  return M.is_authorized(rules, question.peer, now)
end

function doors.circuit(rules, question, now)
  if not rules.relaying then return false, "not a relay" end
  local target_ok, target_why = M.is_authorized(rules, question.target, now)
  if not target_ok then return false, "target " .. target_why end
  local ok, why = M.is_authorized(rules, question.peer, now)
  if ok then return true end
  if rules.guests and rules.guests:may_reach(question.peer, question.target, now) then
    return true, "guest"
  end
  return false, why
end

--- Decides one question.
---@param rules peerup.rules
---@param question peerup.question
---@param now integer  Unix seconds
---@return boolean allowed, string? reason
function M.decide(rules, question, now)
  local door = doors[question.ask]
  if not door then return false, "unknown question" end
  if question.ask ~= "accept" and type(question.peer) ~= "string" then
    return false, "no peer"
  end
  return door(rules, question, now)
end

--- Makes rules that allow nothing yet.
---@return peerup.rules
function M.rules(fields)
  local rules = {
    gating = true, authorized = {}, relays = {}, targets = {}, protocols = {}, services = {},
    relaying = false,
  }
  for key, value in pairs(fields or {}) do rules[key] = value end
  return rules
end

--- Makes the rule of a service from its configuration: peers that are no IDs are left out, and a
-- list of only such peers admits nobody.
---@param name string
---@param allowed_peers string[]
---@return peerup.service_rule rule, string[] bad
function M.service_rule(name, allowed_peers)
  if #allowed_peers == 0 then return { name = name }, {} end
  local core = require "peerup.core"
  local allowed, bad = {}, {}
  for _, text in ipairs(allowed_peers) do
    local id = core.peer_id.parse(text)
    if id then allowed[id] = true else bad[#bad + 1] = text end
  end
  return { name = name, allowed = allowed }, bad
end

return M
