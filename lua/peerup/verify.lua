--- The verification code of two peers (wire.md 21): both people compare what their machines show,
-- and so know that nobody stands between. A pure function of the two peer IDs.
local core = require "peerup.core"

local M = {}

M.EMOJI = 4

--- Compares bytes; the operator < would ask the locale.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

---@class peerup.verification
---@field emoji string        four, with spaces between
---@field digits string       "123-456"
---@field fingerprint string  for authorized_keys' attribute verified: "sha256:" and 8 hex digits

--- Makes the code of a pair; the order of the two does not matter.
---@param a string  peer ID
---@param b string  peer ID
---@return peerup.verification? code, peerup.err?
function M.code(a, b)
  local first, problem = core.peer_id.to_bytes(a)
  if not first then return nil, problem end
  local second
  second, problem = core.peer_id.to_bytes(b)
  if not second then return nil, problem end
  if is_before(second, first) then first, second = second, first end
  local hash = core.crypto.sha256(first .. second)
  local table_of, signs = require "peerup.emoji", {}
  for i = 1, M.EMOJI do signs[i] = table_of[hash:byte(2 * i - 1)] end
  local number = (">I3"):unpack(hash, 9) % 1000000
  return {
    emoji = table.concat(signs, " "),
    digits = ("%03d-%03d"):format(number // 1000, number % 1000),
    fingerprint = ("sha256:%02x%02x%02x%02x"):format(hash:byte(1, 4)),
  }
end

--- Tells whether an entry of authorized_keys was verified, with the key this machine has now.
---@param own string    our peer ID
---@param entry peerup.key_entry?
---@return boolean
function M.is_verified(own, entry)
  if not entry or entry.verified == "" then return false end
  local code = M.code(own, entry.peer_id)
  return code ~= nil and code.fingerprint == entry.verified
end

--- The line that `ping` begins with; nil for a peer that authorized_keys does not know.
---@param own string
---@param entry peerup.key_entry?
---@param target string  as the user names the peer
---@return string? text, boolean verified
function M.badge(own, entry, target)
  if not entry then return nil, false end
  if M.is_verified(own, entry) then
    return ('[VERIFIED] Peer "%s" verified (%s)'):format(target, entry.verified), true
  end
  return ('[UNVERIFIED] Peer "%s" not verified. Run: peerup verify %s'):format(target, target),
    false
end

return M
