--- Invite codes: what a person reads aloud or copies to bring two machines together (wire.md 19.1).
local core = require "peerup.core"
local err = require "peerup.err"

local M = {}

M.INVITE, M.PAIRING = 1, 2
M.TOKEN_BYTES = { [M.INVITE] = 8, [M.PAIRING] = 16 }
M.MAX_NETWORK = 63 -- bytes, when encoding; decoding takes what the length byte can say
local MIN_BYTES = 16
local HEADER = { [M.INVITE] = 16, [M.PAIRING] = 24 } -- to the relay ID's length, inclusive

-- Bytes that a last, short group of letters yields; odd remainders yield none.
local TAIL_BYTES = { [2] = 1, [4] = 2, [5] = 3, [7] = 4, [8] = 5 }

local function refuse(class, text)
  local problem = err.say("malformed", text)
  problem.class = class
  return nil, problem
end

local function letter_value(byte)
  if byte >= 0x41 and byte <= 0x5A then return byte - 0x41 end
  if byte >= 0x32 and byte <= 0x37 then return byte - 0x32 + 26 end
end

--- Decodes base32 as the original does: loose low bits and a spare letter are ignored.
local function base32_decode(text)
  local out = {}
  local from = 1
  while from <= #text do
    local group = text:sub(from, from + 7)
    local bits = 0
    for i = 1, 8 do
      local byte = group:byte(i)
      local value = byte and letter_value(byte) or 0
      if byte and not letter_value(byte) then return nil, from + i - 1 end
      bits = bits << 5 | value
    end
    for i = 1, TAIL_BYTES[#group] or 0 do
      out[#out + 1] = string.char(bits >> (40 - 8 * i) & 255)
    end
    from = from + 8
  end
  return table.concat(out)
end

--- Reads a varint; returns value and the next position.
local function varint(bytes, at)
  local value, shift = 0, 0
  while true do
    local byte = bytes:byte(at)
    if not byte or shift > 28 then return nil end
    value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
    if byte < 128 then return value, at end
  end
end

--- Checks that bytes are one multihash of exact length, and returns its text.
local function peer_id_of(bytes)
  if bytes == "" then return nil, "it is empty" end
  local code, at = varint(bytes, 1)
  local length
  if code then length, at = varint(bytes, at) end
  if not length then return nil, "it is cut off" end
  local extra = #bytes - (at - 1) - length
  if extra ~= 0 then
    return nil, ("it is %d bytes too %s"):format(math.abs(extra), extra > 0 and "long" or "short")
  end
  local text, problem = core.peer_id.from_bytes(bytes)
  return text, problem and tostring(problem)
end

---@class peerup.invite_code
---@field version integer     code.INVITE or code.PAIRING
---@field token string        8 or 16 bytes
---@field relay_addr string   /ip4/../tcp/../p2p/..
---@field relay_peer string
---@field network string      any bytes: check before use
---@field inviter string?     peer ID; of invites only

--- Reads a code as a person typed it: dashes, spaces and case do not matter.
---@param text string
---@return peerup.invite_code? code, peerup.err? err  err.class names the fault
function M.decode(text)
  -- Two letters outside ASCII have capitals inside it.
  local letters = text:gsub("[- \r\n]", ""):gsub("\u{17F}", "S"):gsub("\u{131}", "I"):upper()
  local bytes, bad = base32_decode(letters)
  if not bytes then
    local sign = letters:match(utf8.charpattern, bad) or "?"
    return refuse("bad_base32", ('"%s" (sign %d, dashes not counted) cannot be part of a code; '
      .. "it has only the letters A-Z and the digits 2-7"):format(sign:gsub("%c", "?"), bad))
  end
  if #bytes < MIN_BYTES then
    return refuse("too_short", ("it is too short (%d letters); was all of it copied?")
      :format(#letters))
  end
  local version = bytes:byte(1)
  if version == 0 then return refuse("version_unsupported", "its version, 0, does not exist") end
  if version > M.PAIRING then
    return refuse("version_newer", ("its version, %d, is newer than this program; "
      .. "please upgrade peerup"):format(version))
  end
  local header, token_bytes = HEADER[version], M.TOKEN_BYTES[version]
  if #bytes < header then
    return refuse("too_short", "it is too short; was all of it copied?")
  end
  local token = bytes:sub(2, 1 + token_bytes)
  local a, b, c, d, port = (">BBBBI2"):unpack(bytes, 2 + token_bytes)
  local relay_length = bytes:byte(header)
  local network_at = header + relay_length + 1
  local network_length = bytes:byte(network_at)
  if not network_length then
    return refuse("truncated_namespace_length", "it ends before the network's name")
  end
  local rest_at = network_at + network_length + 1
  if #bytes < rest_at - 1 then
    return refuse("truncated_namespace", "it ends inside the network's name")
  end
  local result = { version = version, token = token,
    network = bytes:sub(network_at + 1, rest_at - 1) }
  if version == M.PAIRING and #bytes >= rest_at then
    return refuse("trailing_bytes", ("it has %d bytes too many"):format(#bytes - rest_at + 1))
  end
  local why
  result.relay_peer, why = peer_id_of(bytes:sub(header + 1, network_at - 1))
  if not result.relay_peer then
    return refuse("bad_relay_peer_id", "the relay's peer ID in it is wrong: " .. why)
  end
  if version == M.INVITE then
    result.inviter, why = peer_id_of(bytes:sub(rest_at))
    if not result.inviter then
      return refuse("bad_inviter_peer_id", "the inviter's peer ID in it is wrong: " .. why)
    end
  end
  result.relay_addr = ("/ip4/%d.%d.%d.%d/tcp/%d/p2p/%s"):format(a, b, c, d, port, result.relay_peer)
  return result
end

--- The value of the first component of a name.
local function component(info, name)
  for _, part in ipairs(info.components) do
    if (part.name or part[1]) == name then return part.value or part[2] end
  end
end

--- Makes a code.
---@param options {token: string, relay_addr: string, network: string?, inviter: string?}
--- A code with an inviter is an invite; without one it is for pairing with a relay.
---@return string? code, peerup.err? err  err.class names the fault
function M.encode(options)
  local version = options.inviter and M.INVITE or M.PAIRING
  local network = options.network or ""
  if #options.token ~= M.TOKEN_BYTES[version] then
    return refuse("bad_token_length", ("the token must have %d bytes"):format(
      M.TOKEN_BYTES[version]))
  end
  if #network > M.MAX_NETWORK then
    return refuse("namespace_too_long", ("the network's name is longer than %d bytes"):format(
      M.MAX_NETWORK))
  end
  local info, problem = core.multiaddr.inspect(options.relay_addr)
  if not info then
    return refuse("bad_relay_address", "the relay's address is wrong: " .. tostring(problem))
  end
  local ip, port, relay = component(info, "ip4"), component(info, "tcp"), component(info, "p2p")
  local octets = ip and { ip:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$") } or {}
  if #octets ~= 4 then
    return refuse("relay_not_ip4", ("a code can hold only a relay with an IPv4 address, "
      .. "not %s"):format(options.relay_addr))
  end
  if not port then
    return refuse("relay_no_tcp", "a code can hold only a relay that listens on TCP, not "
      .. options.relay_addr)
  end
  local relay_id = relay and core.peer_id.to_bytes(relay)
  if not relay_id then
    return refuse("relay_no_peer_id", ("the relay's address %s does not end in /p2p/<peer ID>")
      :format(options.relay_addr))
  end
  local bytes = string.char(version) .. options.token
    .. string.char(tonumber(octets[1]), tonumber(octets[2]), tonumber(octets[3]),
      tonumber(octets[4]))
    .. (">I2s1s1"):pack(tonumber(port), relay_id, network)
  if version == M.INVITE then
    local id
    id, problem = core.peer_id.to_bytes(options.inviter)
    if not id then return refuse("bad_inviter_peer_id", tostring(problem)) end
    bytes = bytes .. id
  end
  local letters = core.crypto.base32_encode(bytes)
  return (letters:gsub("....", "%0-"):gsub("%-$", ""))
end

return M
