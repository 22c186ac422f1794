--- The invite handshake on /peerup/invite/1.0.0 (wire.md 19.2), as two state machines over bytes.
--
--     joiner                                inviter
--     start --- 01, public key (33) ------> start
--     keyed <-- public key (32) ----------- keyed
--     asked --- sealed name --------------> asking   (the owner decides: accept or reject)
--     done  <-- sealed "OK name" ---------- done     (or "ERR ...": both failed)
--
-- Neither side reads a clock, a file or a socket. `feed` takes bytes and returns those to send.
local core = require "peerup.core"
local err = require "peerup.err"

local M = {}

M.PROTOCOL = "/peerup/invite/1.0.0"
M.VERSION = "\1"
M.INFO = "peerup-invite-v1"
M.MAX_SEALED = 4096 -- nonce, ciphertext and tag
local KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 24, 16
M.MAX_TEXT = M.MAX_SEALED - NONCE_BYTES - TAG_BYTES
M.MAX_NAME = M.MAX_TEXT - 3 -- the answer has "OK " in front

local function refuse(class, code, text)
  local problem = err.say(code, text)
  problem.class = class
  return nil, problem
end

--- Derives the key of a handshake from the shared secret and the code's token.
---@return string
function M.key(shared, token)
  return core.crypto.hkdf_sha256(shared .. token, "", M.INFO, KEY_BYTES)
end

--- Seals a text into a frame.
---@param nonce string?  24 bytes; random unless a test gives them
---@return string
function M.seal(key, plaintext, nonce)
  nonce = nonce or core.crypto.random(NONCE_BYTES)
  return (">s2"):pack(nonce .. core.crypto.xchacha_seal(key, nonce, plaintext))
end

--- How many bytes the frame at the front of `bytes` needs; nil when its length is not known yet.
local function frame_bytes(bytes)
  if #bytes < 2 then return nil end
  local length = (">I2"):unpack(bytes)
  if length == 0 then return refuse("empty", "protocol_error", "an empty message came") end
  if length > M.MAX_SEALED then
    return refuse("too_large", "protocol_error", ("a message of %d bytes came, more than %d")
      :format(length, M.MAX_SEALED))
  end
  return 2 + length
end

--- Opens a whole frame.
---@return string? plaintext, peerup.err? err  err.class: empty, too_large, eof, bad_seal
function M.open(key, frame)
  local need, problem = frame_bytes(frame)
  if problem then return nil, problem end
  if not need or #frame < need then
    return refuse("eof", "eof", "the other side closed before its message was complete")
  end
  local body = frame:sub(3, need)
  if #body < NONCE_BYTES + TAG_BYTES then
    return refuse("bad_seal", "crypto_failed", "a message is too short to be sealed")
  end
  local plaintext = core.crypto.xchacha_open(key, body:sub(1, NONCE_BYTES),
    body:sub(NONCE_BYTES + 1))
  if not plaintext then
    return refuse("bad_seal", "crypto_failed", "the message cannot be opened (wrong invite code?)")
  end
  return plaintext
end

---@class peerup.invite_handshake
---@field state "start"|"keyed"|"asked"|"asking"|"done"|"failed"
---@field peer_name string?   as the other side sent it: unclean
local Handshake = {}
Handshake.__index = Handshake

local function new(role, options)
  local private = options.private
  local public
  if private then
    public = core.crypto.x25519_public(private)
  else
    private, public = core.crypto.x25519_keypair()
  end
  return setmetatable({
    role = role, state = "start", buffer = "", token = options.token,
    name = options.name:sub(1, M.MAX_NAME), private = private, public = public,
    nonce = options.nonce,
  }, Handshake)
end

--- Makes the joiner's side. private and nonce are for tests.
---@param options {token: string, name: string, private: string?, nonce: string?}
---@return peerup.invite_handshake
function M.joiner(options)
  return new("joiner", options)
end

--- Makes the inviter's side.
---@return peerup.invite_handshake
function M.inviter(options)
  return new("inviter", options)
end

--- Gives the joiner's first message.
---@return string
function Handshake:start()
  assert(self.role == "joiner" and self.state == "start", "only a fresh joiner starts")
  self.state = "keyed"
  return M.VERSION .. self.public
end

function Handshake:fail(problem)
  self.state, self.key, self.private, self.buffer = "failed", nil, nil, ""
  return nil, problem
end

function Handshake:take(n)
  if #self.buffer < n then return nil end
  local bytes = self.buffer:sub(1, n)
  self.buffer = self.buffer:sub(n + 1)
  return bytes
end

--- Takes the other side's public key and derives the key.
function Handshake:agree(remote)
  local shared, problem = core.crypto.x25519(self.private, remote)
  self.private = nil
  if not shared then
    return self:fail(problem or err.say("crypto_failed", "the other side's key is refused"))
  end
  self.key = M.key(shared, self.token)
  return true
end

--- Takes one sealed message; nil without an error when it is not complete yet.
function Handshake:take_sealed()
  local need, problem = frame_bytes(self.buffer)
  if problem then return self:fail(problem) end
  if not need or #self.buffer < need then return nil end
  local plaintext
  plaintext, problem = M.open(self.key, self:take(need))
  if not plaintext then return self:fail(problem) end
  return plaintext
end

function Handshake:joiner_step()
  if self.state == "keyed" then
    local remote = self:take(KEY_BYTES)
    if not remote then return "" end
    local ok, problem = self:agree(remote)
    if not ok then return nil, problem end
    self.state = "asked"
    return M.seal(self.key, self.name, self.nonce)
  end
  local answer, problem = self:take_sealed()
  if problem then return nil, problem end
  if not answer then return "" end
  if answer:sub(1, 3) == "ERR" then
    return self:fail(err.say("denied", "the inviter refused: " .. answer:sub(4):gsub("%c", " ")
      :match("^%s*(.-)%s*$")))
  end
  if answer:sub(1, 2) ~= "OK" then
    return self:fail(err.say("protocol_error", "the inviter's answer is not understood"))
  end
  self.peer_name = answer:sub(3):match("^%s*(.-)%s*$")
  self.state, self.key = "done", nil
  return ""
end

function Handshake:inviter_step()
  if self.state == "start" then
    if self.buffer ~= "" and self.buffer:sub(1, 1) ~= M.VERSION then
      return self:fail(err.say("protocol_error", "the joiner speaks another version"))
    end
    local first = self:take(1 + KEY_BYTES)
    if not first then return "" end
    local ok, problem = self:agree(first:sub(2))
    if not ok then return nil, problem end
    self.state = "keyed"
    return self.public
  end
  local name, problem = self:take_sealed()
  if problem then return nil, problem end
  if name then self.peer_name, self.state = name, "asking" end
  return ""
end

--- Takes bytes from the other side.
---@param bytes string
---@return string? out, peerup.err? err  "" when there is nothing to send
function Handshake:feed(bytes)
  if self.state == "failed" then
    return nil, err.say("closed", "the handshake has already failed")
  end
  self.buffer = self.buffer .. bytes
  local out = {}
  while self.buffer ~= "" and self.state ~= "done" and self.state ~= "asking" do
    local before, length = self.state, #self.buffer
    local piece, problem
    if self.role == "joiner" then
      piece, problem = self:joiner_step()
    else
      piece, problem = self:inviter_step()
    end
    if not piece then return nil, problem end
    out[#out + 1] = piece
    if self.state == before and #self.buffer == length then break end
  end
  if #self.buffer > M.MAX_SEALED + 2 then
    return self:fail(err.say("protocol_error", "more came than a handshake can hold"))
  end
  return table.concat(out)
end

--- Says what the end of the stream means now.
---@return peerup.err
function Handshake:ended()
  local asked = self.role == "joiner" and self.state == "asked"
  local _, problem = self:fail(err.say("eof", asked
    and "the inviter closed without an answer (wrong invite code?)"
    or "the other side closed in the middle of the handshake"))
  return problem
end

--- The inviter's owner accepts: returns the answer to send.
---@return string
function Handshake:accept()
  assert(self.state == "asking", "nobody asks")
  local answer = M.seal(self.key, "OK " .. self.name, self.nonce)
  self.state, self.key = "done", nil
  return answer
end

--- The inviter's owner cannot accept: returns the answer to send.
---@return string
function Handshake:reject()
  assert(self.state == "asking", "nobody asks")
  local answer = M.seal(self.key, "ERR server error", self.nonce)
  self:fail()
  return answer
end

return M
