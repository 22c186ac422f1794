/* Signed envelopes, peer records and vouchers (wire 11.1, 13.1).
 *
 *   Envelope   { public_key 1 PublicKey, payload_type 2, payload 3, signature 5 }
 *   PeerRecord { peer_id 1, seq 2, addresses 3 repeated { multiaddr 1 } }
 *   Voucher    { relay 1, peer 2, expiration 3 }
 *
 * Signed is: domain, payload type and payload, each behind its length as a varint. All is read
 * field by field, since what is opened is only borrowed. */
#include "identity/envelope.h"

#include <string.h>

#include "base/pb.h"
#include "base/varint.h"
#include "peerup/error.h"

#define SIGNATURE_BYTES 64 /* Ed25519: what we sign with */

static size_t put_part(uint8_t *out, const void *data, size_t len) {
  size_t n = pu_varint_put(out, len);
  if (len > 0)
    memcpy(out + n, data, len);
  return n + len;
}

/* signed_bytes builds what the signature is over. */
static int signed_bytes(pu_mem *mem, const char *domain, const uint8_t *type, size_t type_len,
                        const uint8_t *payload, size_t payload_len, uint8_t **out,
                        size_t *out_len) {
  size_t domain_len = strlen(domain);
  uint8_t *bytes =
      pu_alloc(mem, domain_len + type_len + payload_len + 3 * (size_t)PU_VARINT_MAX_BYTES);
  if (bytes == NULL)
    return PU_E_NOMEM;
  size_t n = put_part(bytes, domain, domain_len);
  n += put_part(bytes + n, type, type_len);
  n += put_part(bytes + n, payload, payload_len);
  *out = bytes;
  *out_len = n;
  return 0;
}

int pu_envelope_seal(pu_mem *mem, const pu_key *key, const char *domain,
                     const uint8_t type[static 2], const uint8_t *payload, size_t payload_len,
                     uint8_t **out, size_t *out_len) {
  const pu_public_key *pub = pu_key_public(key);
  if (payload_len > PU_ENVELOPE_MAX_BYTES)
    return PU_E_LIMIT;
  size_t size = pu_pb_bytes_size(pub->len) + pu_pb_bytes_size(2) + pu_pb_bytes_size(payload_len) +
                pu_pb_bytes_size(SIGNATURE_BYTES);
  if (size > PU_ENVELOPE_MAX_BYTES)
    return PU_E_LIMIT;
  uint8_t *msg;
  size_t msg_len;
  int rc = signed_bytes(mem, domain, type, 2, payload, payload_len, &msg, &msg_len);
  if (rc != 0)
    return rc;
  uint8_t sig[SIGNATURE_BYTES];
  pu_key_sign(key, msg, msg_len, sig);
  pu_free(msg);
  uint8_t *bytes = pu_alloc(mem, size);
  if (bytes == NULL)
    return PU_E_NOMEM;
  size_t n = pu_pb_put_bytes(bytes, 1, pub->protobuf, pub->len);
  n += pu_pb_put_bytes(bytes + n, 2, type, 2);
  if (payload_len > 0) /* proto3: an empty field is absent */
    n += pu_pb_put_bytes(bytes + n, 3, payload, payload_len);
  n += pu_pb_put_bytes(bytes + n, 5, sig, sizeof(sig));
  *out = bytes;
  *out_len = n;
  return 0;
}

/* A slice of the bytes that are read. */
typedef struct slice {
  const uint8_t *data;
  size_t len;
} slice;

static slice slice_of(const pu_pb_field *f) {
  return (slice){f->data, f->len};
}

int pu_envelope_open(pu_mem *mem, const char *domain, const uint8_t type[static 2],
                     const uint8_t *in, size_t len, pu_envelope *out) {
  if (len > PU_ENVELOPE_MAX_BYTES)
    return PU_E_LIMIT;
  slice key = {0}, payload_type = {0}, payload = {0}, sig = {0};
  pu_pb_field f;
  int rc;
  while ((rc = pu_pb_next(&in, &len, &f)) > 0) {
    if (f.wire != PU_PB_BYTES)
      continue;
    if (f.number == 1)
      key = slice_of(&f);
    else if (f.number == 2)
      payload_type = slice_of(&f);
    else if (f.number == 3)
      payload = slice_of(&f);
    else if (f.number == 5)
      sig = slice_of(&f);
  }
  if (rc < 0)
    return rc;
  pu_public_key pub;
  rc = pu_public_key_parse(key.data, key.len, &pub);
  if (rc != 0)
    return rc;
  uint8_t *msg;
  size_t msg_len;
  rc = signed_bytes(mem, domain, payload_type.data, payload_type.len, payload.data, payload.len,
                    &msg, &msg_len);
  if (rc != 0)
    return rc;
  rc = pu_public_key_verify(&pub, msg, msg_len, sig.data, sig.len);
  pu_free(msg);
  if (rc != 0)
    return rc;
  if (payload_type.len != 2 || memcmp(payload_type.data, type, 2) != 0)
    return PU_E_UNSUPPORTED;
  out->key = pub;
  pu_public_key_peer_id(&pub, &out->signer);
  out->payload = payload.data;
  out->payload_len = payload.len;
  return 0;
}

int pu_peer_record_encode(pu_mem *mem, const pu_peer_record *record, uint8_t **out,
                          size_t *out_len) {
  if (record->addr_count > PU_PEER_RECORD_MAX_ADDRS)
    return PU_E_INVAL;
  size_t size = pu_pb_bytes_size(record->peer.len) + 1 + PU_PB_VARINT_MAX_BYTES;
  for (size_t i = 0; i < record->addr_count; i++) {
    size_t len = record->addrs[i].len;
    if (len > PU_ENVELOPE_MAX_BYTES)
      return PU_E_LIMIT;
    size += pu_pb_bytes_size(pu_pb_bytes_size(len));
  }
  uint8_t *bytes = pu_alloc(mem, size);
  if (bytes == NULL)
    return PU_E_NOMEM;
  size_t n = 0;
  if (record->peer.len > 0)
    n += pu_pb_put_bytes(bytes, 1, record->peer.bytes, record->peer.len);
  if (record->seq != 0) {
    bytes[n++] = 2 << 3 | PU_PB_VARINT;
    n += pu_pb_put_varint(bytes + n, record->seq);
  }
  for (size_t i = 0; i < record->addr_count; i++) {
    size_t len = record->addrs[i].len;
    bytes[n++] = 3 << 3 | PU_PB_BYTES;
    n += pu_pb_put_varint(bytes + n, pu_pb_bytes_size(len));
    n += pu_pb_put_bytes(bytes + n, 1, record->addrs[i].data, len);
  }
  *out = bytes;
  *out_len = n;
  return 0;
}

/* read_address takes the multiaddr out of one element of |addresses|. */
static int read_address(slice in, slice *out) {
  pu_pb_field f;
  int rc;
  while ((rc = pu_pb_next(&in.data, &in.len, &f)) > 0)
    if (f.number == 1 && f.wire == PU_PB_BYTES)
      *out = slice_of(&f);
  return rc;
}

int pu_peer_record_decode(const uint8_t *in, size_t len, pu_peer_record *out) {
  slice peer = {0};
  pu_pb_field f;
  int rc;
  pu_peer_record r = {0};
  while ((rc = pu_pb_next(&in, &len, &f)) > 0) {
    if (f.number == 1 && f.wire == PU_PB_BYTES) {
      peer = slice_of(&f);
    } else if (f.number == 2 && f.wire == PU_PB_VARINT) {
      r.seq = f.value;
    } else if (f.number == 3 && f.wire == PU_PB_BYTES) {
      slice addr = {0};
      rc = read_address(slice_of(&f), &addr);
      if (rc < 0)
        return rc;
      if (addr.len == 0 || r.addr_count == PU_PEER_RECORD_MAX_ADDRS)
        continue; /* no address is empty */
      r.addrs[r.addr_count].data = addr.data;
      r.addrs[r.addr_count].len = addr.len;
      r.addr_count++;
    }
  }
  if (rc < 0)
    return rc;
  if (pu_peer_id_from_bytes(peer.data, peer.len, &r.peer) != 0)
    return PU_E_PARSE;
  *out = r;
  return 0;
}

int pu_voucher_encode(pu_mem *mem, const pu_voucher *v, uint8_t **out, size_t *out_len) {
  size_t size =
      pu_pb_bytes_size(v->relay.len) + pu_pb_bytes_size(v->peer.len) + 1 + PU_PB_VARINT_MAX_BYTES;
  uint8_t *bytes = pu_alloc(mem, size);
  if (bytes == NULL)
    return PU_E_NOMEM;
  size_t n = 0;
  if (v->relay.len > 0)
    n += pu_pb_put_bytes(bytes, 1, v->relay.bytes, v->relay.len);
  if (v->peer.len > 0)
    n += pu_pb_put_bytes(bytes + n, 2, v->peer.bytes, v->peer.len);
  bytes[n++] = 3 << 3 | PU_PB_VARINT;
  n += pu_pb_put_varint(bytes + n, v->expiration);
  *out = bytes;
  *out_len = n;
  return 0;
}

int pu_voucher_decode(const uint8_t *in, size_t len, pu_voucher *out) {
  slice relay = {0}, peer = {0};
  uint64_t expiration = 0;
  pu_pb_field f;
  int rc;
  while ((rc = pu_pb_next(&in, &len, &f)) > 0) {
    if (f.number == 1 && f.wire == PU_PB_BYTES)
      relay = slice_of(&f);
    else if (f.number == 2 && f.wire == PU_PB_BYTES)
      peer = slice_of(&f);
    else if (f.number == 3 && f.wire == PU_PB_VARINT)
      expiration = f.value;
  }
  if (rc < 0)
    return rc;
  pu_voucher v = {.expiration = expiration};
  if (pu_peer_id_from_bytes(relay.data, relay.len, &v.relay) != 0 ||
      pu_peer_id_from_bytes(peer.data, peer.len, &v.peer) != 0)
    return PU_E_PARSE;
  *out = v;
  return 0;
}
