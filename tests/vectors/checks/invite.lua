--- Checks of lua/peerup/invite: invite_codes.json, invite_handshake.json.
local lib = require "lib"
local core = require "peerup.core"
local code = require "peerup.invite.code"
local handshake = require "peerup.invite.handshake"
local unhex = lib.unhex

-- ---- codes ----

local function decoded(got, want)
  lib.equal("version", got.version, want.version)
  lib.equal("token", got.token, unhex(want.token))
  lib.equal("relay address", got.relay_addr, want.relay_addr)
  lib.equal("network", got.network, want.network or unhex(want.network_hex))
  lib.equal("inviter", got.inviter, want.inviter_peer_id)
  if want.inviter_multihash then
    lib.equal("multihash", core.peer_id.to_bytes(got.inviter), unhex(want.inviter_multihash))
  end
end

local function whole(case)
  decoded(assert(code.decode(case.code)), case.decoded)
  lib.equal("code", assert(code.encode {
    token = unhex(case["in"].token), relay_addr = case["in"].relay_addr,
    network = case["in"].network, inviter = case["in"].inviter_peer_id,
  }), case.code)
  -- The code is its raw bytes in base32, with dashes: nothing else is in it.
  local letters = core.crypto.base32_encode(unhex(case.raw))
  lib.equal("raw", (case.code:gsub("-", "")), letters)
end

local function decode_questionable(case)
  local got, problem = code.decode(case.code)
  lib.accepted("code", case.accepted, got, problem)
  if case.accepted then
    decoded(got, case.decoded)
  else
    lib.equal("class of the error", problem.class, case.error_class)
  end
end

local function encode_questionable(case)
  local got, problem = code.encode {
    token = unhex(case.token), relay_addr = case.relay_addr, network = case.network,
    inviter = case.inviter_peer_id,
  }
  lib.accepted("encoding", case.accepted, got, problem)
  if case.accepted then
    lib.equal("code", got, case.code)
    decoded(assert(code.decode(got)), case.decoded)
  else
    lib.equal("class of the error", problem.class, case.error_class)
  end
end

local RELAY = "/ip4/192.0.2.1/tcp/7777/p2p/12D3KooWQYCYkgkBD2zxDeiUH3DwT8KEUyezzLd2sWxm98AV3uWH"
local INVITER = "12D3KooWFKJPWNcCaprrBzEndn8NHgrzKeJGbdhAVzgU5sr5hky3"

local function encode_limits(case)
  local token = case.token_length or code.TOKEN_BYTES[case.version]
  local got, problem = code.encode {
    token = ("t"):rep(token), relay_addr = RELAY, network = ("n"):rep(case.network_length or 0),
    inviter = case.version == code.INVITE and INVITER or nil,
  }
  lib.accepted("encoding", case.accepted, got, problem)
  if not case.accepted then lib.equal("class of the error", problem.class, case.error_class) end
end

-- ---- handshake ----

local function key_schedule(case)
  local shared = unhex(case.shared_secret)
  local joiner, inviter = unhex(case.joiner_private), unhex(case.inviter_private)
  lib.equal("joiner's key", core.crypto.x25519_public(joiner), unhex(case.joiner_public))
  lib.equal("inviter's key", core.crypto.x25519_public(inviter), unhex(case.inviter_public))
  lib.equal("shared", core.crypto.x25519(joiner, unhex(case.inviter_public)), shared)
  lib.equal("shared", core.crypto.x25519(inviter, unhex(case.joiner_public)), shared)
  local token = unhex(case.token)
  lib.equal("input", shared .. token, unhex(case.hkdf_input_key_material))
  lib.equal("salt", case.hkdf_salt, "")
  lib.equal("info", handshake.INFO, case.hkdf_info)
  local key = handshake.key(shared, token)
  lib.equal("key", key, unhex(case.key))
  local hmac = core.crypto.hmac_sha256
  lib.equal("inviter's MAC", hmac(key, "inviter"), unhex(case.confirmation_mac_inviter))
  lib.equal("joiner's MAC", hmac(key, "joiner"), unhex(case.confirmation_mac_joiner))
end

local function sealed(case)
  local key, plaintext = unhex(case.key), unhex(case.plaintext)
  lib.equal("frame", handshake.seal(key, plaintext, unhex(case.nonce)), unhex(case.frame))
  lib.equal("plaintext", handshake.open(key, unhex(case.frame)), plaintext)
end

--- Feeds a machine piece by piece and collects what it says.
local function feed(machine, bytes, size)
  local out = {}
  for at = 1, #bytes, size do
    out[#out + 1] = assert(machine:feed(bytes:sub(at, at + size - 1)))
  end
  return table.concat(out)
end

--- Runs both roles against the recorded other side, in pieces of every size up to 40 and whole.
local function exchange(case)
  local sizes = { 4200 }
  for size = 1, 40 do sizes[#sizes + 1] = size end
  for _, size in ipairs(sizes) do
    local joiner = handshake.joiner {
      token = unhex(case.token), name = case.joiner_name, private = unhex(case.joiner_private),
      nonce = unhex(case.nonce_of_joiner),
    }
    lib.equal("joiner, first", joiner:start(), unhex(case.joiner_sends_first))
    lib.equal("joiner, second", feed(joiner, unhex(case.inviter_sends_first), size),
      unhex(case.joiner_sends_second))
    lib.equal("joiner, last", feed(joiner, unhex(case.inviter_sends_second), size), "")
    lib.equal("joiner", joiner.state, "done")
    lib.equal("inviter's name", joiner.peer_name, case.name_the_joiner_keeps_for_the_inviter)

    local inviter = handshake.inviter {
      token = unhex(case.token), name = case.inviter_name, private = unhex(case.inviter_private),
      nonce = unhex(case.nonce_of_inviter),
    }
    lib.equal("inviter, first", feed(inviter, unhex(case.joiner_sends_first), size),
      unhex(case.inviter_sends_first))
    lib.equal("inviter, last", feed(inviter, unhex(case.joiner_sends_second), size), "")
    lib.equal("inviter", inviter.state, "asking")
    lib.equal("joiner's name", inviter.peer_name, case.joiner_name)
    lib.equal("inviter, second", inviter:accept(), unhex(case.inviter_sends_second))
  end
end

local function open(case)
  local got, problem = handshake.open(unhex(case.key), unhex(case.frame))
  lib.accepted("frame", case.accepted, got, problem)
  if case.accepted then
    lib.equal("plaintext", got, unhex(case.plaintext))
  else
    lib.equal("class of the error", problem.class, case.error_class)
  end
end

local function refused_public_key(case)
  local private, remote = unhex(case.private), unhex(case.remote_public)
  lib.accepted("public key", case.accepted, core.crypto.x25519(private, remote))
  local inviter = handshake.inviter { token = ("t"):rep(8), name = "", private = private }
  lib.accepted("handshake", case.accepted, inviter:feed(handshake.VERSION .. remote))
end

return {
  invite_codes = {
    v1 = whole, v2 = whole, decode_questionable = decode_questionable,
    encode_questionable = encode_questionable, encode_limits = encode_limits,
  },
  invite_handshake = {
    key_schedule = key_schedule, sealed = sealed, exchange = exchange, open = open,
    refused_public_key = refused_public_key,
  },
}
