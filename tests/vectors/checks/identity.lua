--- Checks of engine/identity: keys.json, peer_ids.json, signed_records.json.
local lib = require "lib"
local probe = require "peerup_probe"
local identity, multiaddr = probe.identity, probe.multiaddr
local unhex = lib.unhex

-- ---- peer IDs ----

local function id_text_valid(case)
  local bytes = assert(identity.id_from_text(case.text))
  lib.equal("multihash", bytes, unhex(case.peer_id_multihash))
  lib.equal("canonical text", identity.id_from_bytes(bytes), case.canonical)
end

local function id_text_questionable(case)
  lib.accepted("peer ID", case.accepted, identity.id_from_text(case.text))
end

local function id_bytes(case)
  lib.accepted("peer ID", case.accepted, identity.id_from_bytes(unhex(case.bytes)))
end

-- ---- keys ----

local ED25519 = 1

local function public_key(case)
  local protobuf = unhex(case.public_key_protobuf)
  local canonical, key_type, id, data = assert(identity.public_key_parse(protobuf))
  lib.equal("canonical form", canonical, protobuf)
  lib.equal("key type", key_type, case.key_type)
  if case.public_key_data then lib.equal("key data", data, unhex(case.public_key_data)) end
  lib.equal("peer ID", id, case.peer_id_base58)
  local multihash = assert(identity.id_from_text(id))
  lib.equal("multihash", multihash, unhex(case.peer_id_multihash))
  lib.equal("CID", identity.id_cid_base32(multihash), case.peer_id_cid_base32)
  lib.equal("from CID", identity.id_from_text(case.peer_id_cid_base32), multihash)
end

local function private_key(case)
  if not case.private_key_protobuf then return end
  local protobuf = unhex(case.private_key_protobuf)
  local private, public, id = identity.key_parse(protobuf)
  if case.key_type ~= ED25519 then -- only read as other people's
    lib.equal("private key", private, nil)
    lib.equal("reason", public, "unsupported")
    return
  end
  lib.equal("private key", private, protobuf)
  lib.equal("public key", public, unhex(case.public_key_protobuf))
  lib.equal("peer ID", id, case.peer_id_base58)
end

local function specification_key(case)
  public_key(case)
  private_key(case)
end

local function signing_key(case)
  public_key(case)
  private_key(case)
  local public, message = unhex(case.public_key_protobuf), unhex(case.message)
  local signature = unhex(case.signature)
  lib.equal("signature verifies", identity.verify(public, message, signature), true)
  local _, err = identity.verify(public, message .. "x", signature)
  lib.equal("over another message", err, "crypto_failed")
  _, err = identity.verify(public, message, signature:sub(1, -2))
  lib.equal("cut short", err, "crypto_failed")
  if case.key_type == ED25519 then
    lib.equal("made again", identity.sign(unhex(case.private_key_protobuf), message), signature)
    lib.equal("from its seed", identity.key_from_seed(unhex(case.seed)),
      unhex(case.private_key_protobuf))
  end
end

local function private_key_legacy(case)
  local private, public, id = identity.key_parse(unhex(case.private_key_protobuf))
  lib.accepted("key", case.valid, private, public)
  if case.valid then lib.equal("peer ID", id, case.peer_id_base58) end
end

local function public_key_malformed(case)
  local canonical, key_type, id = identity.public_key_parse(unhex(case.public_key_protobuf))
  lib.accepted("key", case.accepted, canonical, key_type)
  if case.accepted then
    lib.equal("canonical form", canonical, unhex(case.canonical))
    lib.equal("peer ID", id, case.peer_id_base58)
  end
end

local function signature_invalid(case)
  local public = unhex(case.public_key_protobuf)
  assert(identity.public_key_parse(public))
  local ok, err = identity.verify(public, unhex(case.message), unhex(case.signature))
  lib.equal("verifies", ok, nil)
  lib.equal("reason", err, "crypto_failed")
end

-- ---- envelopes ----

local PEER_RECORD_DOMAIN, PEER_RECORD_TYPE = "libp2p-peer-record", "\x03\x01"

--- The addresses of a record that can be read, as text.
local function readable(addrs)
  local texts = {}
  for _, bytes in ipairs(addrs) do
    texts[#texts + 1] = multiaddr.from_bytes(bytes)
  end
  return texts
end

local function same_list(what, got, want)
  lib.equal(what, table.concat(got, "\n"), table.concat(want, "\n"))
end

local function peer_record(case)
  local domain, payload_type = case.domain, unhex(case.payload_type)
  local payload, signer, public = assert(identity.envelope_open(domain, payload_type,
    unhex(case.envelope)))
  lib.equal("payload", payload, unhex(case.payload))
  lib.equal("signer", signer, case.peer_id)
  local id, seq, addrs = assert(identity.peer_record_decode(payload))
  lib.equal("peer ID", id, case.peer_id)
  lib.equal("seq", seq, case.seq)
  same_list("addresses", readable(addrs), case.addrs)
  lib.equal("encoded", assert(identity.peer_record_encode(id, seq, addrs)), payload)
  lib.equal("signature verifies", identity.verify(public, unhex(case.signed_bytes),
    unhex(case.signature)), true)
  lib.equal("deterministic", case.deterministic, true)
  local key = unhex(case.private_key_protobuf)
  local private, err = identity.key_parse(key)
  if not private then -- a key of other people: opened above, but not for us to seal with
    lib.equal("reason", err, "unsupported")
    return
  end
  lib.equal("sealed", assert(identity.envelope_seal(key, domain, payload_type, payload)),
    unhex(case.envelope))
  lib.equal("signature", identity.sign(key, unhex(case.signed_bytes)), unhex(case.signature))
end

local function voucher(case)
  local domain, payload_type = case.domain, unhex(case.payload_type)
  local payload, signer = assert(identity.envelope_open(domain, payload_type,
    unhex(case.envelope)))
  lib.equal("payload", payload, unhex(case.payload))
  lib.equal("signer", signer, case.relay)
  local relay, peer, expiration = assert(identity.voucher_decode(payload))
  lib.equal("relay", relay, case.relay)
  lib.equal("peer", peer, case.peer)
  lib.equal("expiration", expiration, ("%d"):format(case.expiration))
  lib.equal("encoded", assert(identity.voucher_encode(relay, peer, expiration)), payload)
  lib.equal("deterministic", case.deterministic, true)
  lib.equal("sealed", assert(identity.envelope_seal(unhex(case.relay_private_key_protobuf),
    domain, payload_type, payload)), unhex(case.envelope))
end

local function envelope_questionable(case)
  local payload, signer = identity.envelope_open(case.domain, PEER_RECORD_TYPE,
    unhex(case.envelope))
  lib.accepted("envelope", case.accepted, payload, signer)
  if not case.accepted then return end
  lib.equal("domain", case.domain, PEER_RECORD_DOMAIN)
  lib.equal("signer", signer, case.signer)
  local id, _, addrs = assert(identity.peer_record_decode(payload))
  lib.equal("peer ID", id, case.record_peer_id)
  same_list("addresses", readable(addrs), case.addrs)
end

return {
  peer_ids = {
    text_valid = id_text_valid,
    text_questionable = id_text_questionable,
    bytes = id_bytes,
  },
  keys = {
    specification_key = specification_key,
    ed25519 = signing_key,
    rsa = signing_key,
    ecdsa = signing_key,
    ecdsa_other_curve = signing_key,
    secp256k1 = signing_key,
    private_key_legacy = private_key_legacy,
    public_key_malformed = public_key_malformed,
    signature_invalid = signature_invalid,
  },
  signed_records = {
    peer_record = peer_record,
    voucher = voucher,
    envelope_questionable = envelope_questionable,
  },
}
