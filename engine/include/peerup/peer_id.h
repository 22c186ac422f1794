/* Peer IDs, the public part. */
#ifndef PEERUP_PEER_ID_H
#define PEERUP_PEER_ID_H

#include "peerup/defs.h"

#define PU_PEER_ID_MAX_BYTES 64
#define PU_PEER_ID_MAX_TEXT 96 /* base58 of PU_PEER_ID_MAX_BYTES, and NUL */

typedef struct pu_peer_id {
  uint8_t len; /* 0: no peer */
  uint8_t bytes[PU_PEER_ID_MAX_BYTES];
} pu_peer_id;

/* pu_peer_id_from_bytes reads a multihash that fills its buffer exactly: PU_E_PARSE, PU_E_LIMIT. */
PU_API PU_MUST_CHECK int pu_peer_id_from_bytes(const uint8_t *in, size_t len, pu_peer_id *out);
/* pu_peer_id_from_text reads base58 ("12D3KooW...", "Qm...") or a CID of any base: PU_E_PARSE. */
PU_API PU_MUST_CHECK int pu_peer_id_from_text(const char *text, size_t len, pu_peer_id *out);
/* pu_peer_id_text writes base58 and a NUL and returns |out|. */
PU_API const char *pu_peer_id_text(const pu_peer_id *id, char out[static PU_PEER_ID_MAX_TEXT]);
/* pu_peer_id_equal compares; two empty IDs are equal. */
PU_API bool pu_peer_id_equal(const pu_peer_id *a, const pu_peer_id *b);

#endif
