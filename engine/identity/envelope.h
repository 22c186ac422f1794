/* Signed envelopes (wire 11.1): peer records of identify and vouchers of circuit relay. */
#ifndef PU_IDENTITY_ENVELOPE_H
#define PU_IDENTITY_ENVELOPE_H

#include "base/mem.h"
#include "identity/key.h"

#define PU_ENVELOPE_MAX_BYTES 8192
#define PU_ENVELOPE_PEER_RECORD_DOMAIN "libp2p-peer-record"
#define PU_ENVELOPE_VOUCHER_DOMAIN "libp2p-relay-rsvp"

/* What an opened envelope holds. |payload| points into the bytes it was read from. */
typedef struct pu_envelope {
  pu_public_key key;
  pu_peer_id signer;
  const uint8_t *payload;
  size_t payload_len;
} pu_envelope;

/* pu_envelope_seal signs |payload| under |domain| with payload type |type| (2 bytes) into a fresh
 * buffer of |mem|. */
PU_MUST_CHECK int pu_envelope_seal(pu_mem *mem, const pu_key *key, const char *domain,
                                   const uint8_t type[static 2], const uint8_t *payload,
                                   size_t payload_len, uint8_t **out, size_t *out_len);
/* pu_envelope_open verifies: PU_E_PARSE, PU_E_CRYPTO (wrong signature), PU_E_UNSUPPORTED (another
 * payload type). It proves only who signed; callers compare the peer ID. */
PU_MUST_CHECK int pu_envelope_open(pu_mem *mem, const char *domain, const uint8_t type[static 2],
                                   const uint8_t *in, size_t len, pu_envelope *out);

/* A peer record: addresses as binary multiaddrs, one after another behind 2-byte lengths is not
 * needed here: |addrs| are slices of the envelope's bytes. */
#define PU_PEER_RECORD_MAX_ADDRS 64
typedef struct pu_peer_record {
  pu_peer_id peer;
  uint64_t seq;
  size_t addr_count;
  struct {
    const uint8_t *data;
    size_t len;
  } addrs[PU_PEER_RECORD_MAX_ADDRS];
} pu_peer_record;

/* pu_peer_record_encode writes the protobuf payload (proto3: zero values absent) into |mem|. */
PU_MUST_CHECK int pu_peer_record_encode(pu_mem *mem, const pu_peer_record *record, uint8_t **out,
                                        size_t *out_len);
/* pu_peer_record_decode reads a payload; |out| borrows from |in|. Addresses past the bound are left
 * out. */
PU_MUST_CHECK int pu_peer_record_decode(const uint8_t *in, size_t len, pu_peer_record *out);

/* A reservation voucher (wire 13.1). */
typedef struct pu_voucher {
  pu_peer_id relay, peer;
  uint64_t expiration; /* Unix seconds */
} pu_voucher;
PU_MUST_CHECK int pu_voucher_encode(pu_mem *mem, const pu_voucher *v, uint8_t **out, size_t *out_len);
PU_MUST_CHECK int pu_voucher_decode(const uint8_t *in, size_t len, pu_voucher *out);

#endif
