--- Checks of engine/security: noise.json, tls_certificates.json.
local lib = require "lib"
local probe = require "peerup_probe"
local identity, security = probe.identity, probe.security
local unhex, equal = lib.unhex, lib.equal

-- An identity for sides whose real one we cannot hold; their payload is given.
local NOBODY = "\x08\x01\x12\x40" .. unhex(
  "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60" ..
  "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")

-- Bounds of the specification, and of what our own side offers.
local LIST_MAX, OFFERED_MAX, NAME_MAX = 100, 8, 63

--- The part of a list that a side of ours can be given, and whether that is all of it.
local function muxers_of(list)
  if type(list) ~= "table" then list = {} end
  if #list > LIST_MAX then return {}, false end -- counts for nothing
  local names = {}
  for _, name in ipairs(list) do
    if #name <= NAME_MAX and #names < OFFERED_MAX then names[#names + 1] = name end
  end
  return names, #names == #list
end

--- Whether we can be that side with a payload of our own: an Ed25519 identity, the extension there,
--- a list that we can send.
local function can_be(s)
  local _, whole = muxers_of(s.stream_muxers)
  return whole and s.extensions_present and
    identity.key_parse(unhex(s.identity_private_protobuf)) ~= nil
end

--- One side. With `own` it makes its payload itself; else it says the given bytes.
local function side(case, role, own)
  local s = case[role]
  return assert(security.noise(role == "initiator",
    own and unhex(s.identity_private_protobuf) or NOBODY, (muxers_of(s.stream_muxers)),
    unhex(s.static_private), unhex(s.ephemeral_private), not own and unhex(s.payload) or nil))
end

local function run(case, own_initiator, own_responder)
  local sides = {
    initiator = side(case, "initiator", own_initiator),
    responder = side(case, "responder", own_responder),
  }
  local from, to = "initiator", "responder"
  for i = 1, 3 do
    local bytes = assert(sides[from]:write())
    equal("message " .. i, bytes, unhex(case[("message_%d_wire"):format(i)]))
    equal("bytes read of message " .. i, assert(sides[to]:read(bytes)), #bytes)
    from, to = to, from
  end
  local forth = unhex(case.key_initiator_to_responder)
  local back = unhex(case.key_responder_to_initiator)
  for role, other in pairs { initiator = "responder", responder = "initiator" } do
    local peer, muxer, hash, send, receive = sides[role]:result()
    equal("peer of the " .. role, peer, case[other].peer_id)
    equal("muxer of the " .. role, muxer, case.muxer_selected_early)
    equal("hash", hash, unhex(case.handshake_hash))
    equal("sending key", send, role == "initiator" and forth or back)
    equal("receiving key", receive, role == "initiator" and back or forth)
  end
  for i, record in ipairs(case.transport) do
    local other = record.from == "initiator" and "responder" or "initiator"
    local wire = unhex(record.wire)
    equal("record " .. i, assert(sides[record.from]:seal(unhex(record.plaintext))), wire)
    local plain, used = sides[other]:open(wire)
    equal("plaintext " .. i, plain, unhex(record.plaintext))
    equal("bytes used of record " .. i, used, #wire)
  end
end

local function handshake(case)
  equal("prologue", case.prologue, "")
  run(case, false, false)
  run(case, can_be(case.initiator), can_be(case.responder)) -- the same bytes of our own making
end

local function payload(case)
  local bytes, static = unhex(case.payload), unhex(case.static_public)
  local peer, used = security.noise_payload(bytes, static, {})
  lib.accepted("payload", case.accepted, peer, used)
  if not case.accepted then return end
  equal("peer", peer, case.peer_id)
  local list = type(case.stream_muxers_used) == "table" and case.stream_muxers_used or {}
  equal("muxers used", used, #list)
  local function choice(ours)
    return select(3, security.noise_payload(bytes, static, ours))
  end
  local backwards = {}
  for _, name in ipairs(muxers_of(list)) do
    equal("muxer", choice { name }, name)
    table.insert(backwards, 1, name)
  end
  if #list == 0 then backwards = { "/yamux/1.0.0", "/m/0" } end
  equal("first muxer", choice(backwards), list[1] or "")
end

-- All certificates but the expired one are valid then.
local NOW = os.time { year = 2026, month = 1, day = 1 }
-- Where we differ from Go on purpose: the specification demands the check that Go leaves out.
local STRICTER = { ["self signature broken"] = "crypto_failed" }

local function certificate(case)
  local chain = case.chain_der or { case.certificate_der }
  for i, der in ipairs(chain) do chain[i] = unhex(der) end
  local peer, key = security.tls_certificate(NOW, nil, table.unpack(chain))
  local stricter = STRICTER[case.name]
  if stricter then
    equal("peer", peer, nil)
    equal("refusal", key, stricter)
    return
  end
  lib.accepted("certificate", case.accepted, peer, key)
  if not case.accepted then return end
  equal("peer", peer, case.peer_id)
  equal("key", key, unhex(case.host_public_key_protobuf))
  equal("expected peer", security.tls_certificate(NOW, case.peer_id, chain[1]), case.peer_id)
  local nobody = "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"
  if case.peer_id ~= nobody then
    local _, code = security.tls_certificate(NOW, nobody, chain[1])
    equal("another peer", code, "peer_mismatch")
  end
  -- The last byte belongs to the self-signature, any other to something it covers.
  for at = 1, #chain[1], #chain[1] // 7 do
    local broken = chain[1]:sub(1, at - 1) .. string.char(chain[1]:byte(at) ~ 1) ..
      chain[1]:sub(at + 1)
    equal("broken at " .. at, security.tls_certificate(NOW, nil, broken), nil)
  end
end

return {
  noise = { handshake = handshake, payload = payload },
  tls_certificates = {
    specification = certificate, valid = certificate,
    invalid = certificate, questionable = certificate,
  },
}
