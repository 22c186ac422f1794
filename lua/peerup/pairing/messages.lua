--- The messages of pairing with a relay (wire.md 20): bytes to tables and back.
--
--     joiner                                  relay
--     token 16 | name ----------------------> /peerup/relay-pair/1.0.0
--             <------ 01 | group | size | those already in the group | end of stream
--             <------ 00 | "pairing failed"
--     member  <------ /peerup/peer-notify/1.0.0: 01 | group | size | the other members | end
--
-- There is no clock, file or socket in here.
local core = require "peerup.core"
local err = require "peerup.err"

local M = {}

M.PAIR = "/peerup/relay-pair/1.0.0"
M.NOTIFY = "/peerup/peer-notify/1.0.0"
M.TOKEN_BYTES, M.PROOF_BYTES = 16, 32
M.MAX_NAME = 64 -- bytes
M.MAX_REQUEST = M.TOKEN_BYTES + 1 + M.MAX_NAME
M.MAX_PEERS = 255
M.MAX_MESSAGE = 65536 -- 255 peers with the longest names need 33 KB
M.FAILURE = "\0\14pairing failed"
local PAIRED, FAILED, VERSION = 1, 0, 1
local NO_PROOF = ("\0"):rep(M.PROOF_BYTES)

--- What a member of a group can show of having had a token of it.
---@param token string  16 bytes
---@param group string  the group's ID, as text
---@return string proof  32 bytes
function M.proof(token, group)
  return core.crypto.hmac_sha256(token, group)
end

--- Takes fields off the front of bytes; field(format, name) returns the next one, or nil and an
--- error that names the field that is cut off.
local function fields(bytes)
  local at = 1
  return function(format, name)
    local ok, value, after = pcall(string.unpack, format, bytes, at)
    if not ok then
      return nil, err.say("malformed", "the message ends in " .. name)
    end
    at = after
    return value
  end
end

-- ---- request ----

--- Makes a request; a long name is cut, as the receiver would refuse it.
---@return string
function M.encode_request(token, name)
  assert(#token == M.TOKEN_BYTES, "a token has 16 bytes")
  return token .. (">s1"):pack(name:sub(1, M.MAX_NAME))
end

--- How many bytes a request has that begins so; at least one more than there are, or the whole.
---@param bytes string
---@return integer
function M.request_bytes(bytes)
  local length = bytes:byte(M.TOKEN_BYTES + 1)
  return M.TOKEN_BYTES + 1 + (length or 0)
end

--- Reads a request. Bytes behind it are ignored.
---@param bytes string
---@return {token: string, name: string}? request, peerup.err?
function M.decode_request(bytes)
  local field = fields(bytes)
  local token, problem = field("c16", "the token")
  local name
  if token then name, problem = field(">s1", "the name") end
  if not name then return nil, problem end
  if #name > M.MAX_NAME then return nil, err.say("malformed", "the name is too long") end
  return { token = token, name = name }
end

-- ---- answer ----

---@class peerup.pairing_peer
---@field peer string    peer ID
---@field name string    as the peer sent it: unclean
---@field proof string?  32 bytes; of notices only

--- Makes the answer for one who is in.
---@param answer {group: string, size: integer, peers: peerup.pairing_peer[]}
---@return string
function M.encode_answer(answer)
  local parts = { (">Bs1BB"):pack(PAIRED, answer.group, answer.size, #answer.peers) }
  for i, one in ipairs(answer.peers) do
    parts[i + 1] = (">s1s1"):pack(assert(core.peer_id.to_bytes(one.peer)), one.name)
  end
  return table.concat(parts)
end

--- Reads a whole answer. Bytes behind it are ignored.
---@param bytes string
---@return {group: string, size: integer, peers: peerup.pairing_peer[]}? answer, peerup.err? err
--- code "denied" when the relay refuses
function M.decode_answer(bytes)
  local field = fields(bytes)
  local status, problem = field("B", "its first byte")
  if not status then return nil, problem end
  if status == FAILED then return nil, err.say("denied", "pairing failed") end
  if status ~= PAIRED then
    return nil, err.say("protocol_error", ("the relay's answer has the unknown status %d")
      :format(status))
  end
  local answer, count = { peers = {} }, nil
  answer.group, problem = field(">s1", "the group's ID")
  if answer.group then answer.size, problem = field("B", "the group's size") end
  if answer.size then count, problem = field("B", "the number of peers") end
  if not count then return nil, problem end
  for i = 1, count do
    local id, name, peer
    id, problem = field(">s1", ("peer %d"):format(i))
    if id then name, problem = field(">s1", ("the name of peer %d"):format(i)) end
    if name then peer, problem = core.peer_id.from_bytes(id) end
    if not peer then return nil, problem end
    answer.peers[i] = { peer = peer, name = name }
  end
  return answer
end

-- ---- notice ----

--- Makes a notice of a group's members.
---@param notice {group: string, size: integer, peers: peerup.pairing_peer[]}
---@return string
function M.encode_notice(notice)
  local parts = { (">Bs1BB"):pack(VERSION, notice.group, notice.size, #notice.peers) }
  for i, one in ipairs(notice.peers) do
    parts[i + 1] = (">s2s1"):pack(one.peer, one.name) .. (one.proof or NO_PROOF)
  end
  return table.concat(parts)
end

--- Reads a whole notice. Bytes behind it are ignored.
---@param bytes string
---@return {group: string, size: integer, peers: peerup.pairing_peer[]}? notice, peerup.err?
function M.decode_notice(bytes)
  local field = fields(bytes)
  local version, problem = field("B", "its first byte")
  if not version then return nil, problem end
  if version ~= VERSION then
    return nil, err.say("unsupported", ("a notice of version %d"):format(version))
  end
  local notice, count = { peers = {} }, nil
  notice.group, problem = field(">s1", "the group's ID")
  if notice.group then notice.size, problem = field("B", "the group's size") end
  if notice.size then count, problem = field("B", "the number of peers") end
  if not count then return nil, problem end
  for i = 1, count do
    local id, name, proof, peer
    id, problem = field(">s2", ("peer %d"):format(i))
    if id then name, problem = field(">s1", ("the name of peer %d"):format(i)) end
    if name then proof, problem = field("c32", ("the proof of peer %d"):format(i)) end
    if proof then peer, problem = core.peer_id.parse(id) end
    if not peer then return nil, problem end
    notice.peers[i] = { peer = peer, name = name, proof = proof ~= NO_PROOF and proof or nil }
  end
  return notice
end

--- Tells whether a group's ID can stand in authorized_keys.
---@param group string
---@return boolean
function M.is_group(group)
  return #group <= 64 and group:find("^%w+$") ~= nil
end

return M
