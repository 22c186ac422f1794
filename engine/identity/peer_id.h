/* Peer IDs: a multihash of the public key, in binary and text (wire 2.2). */
#ifndef PU_IDENTITY_PEER_ID_H
#define PU_IDENTITY_PEER_ID_H

#include "peerup/peer_id.h"

/* pu_peer_id_parse_multiaddr is pu_peer_id_from_bytes with the stricter rule of /p2p components:
 * only identity and 32-byte sha2-256 multihashes. */
PU_MUST_CHECK int pu_peer_id_parse_multiaddr(const uint8_t *in, size_t len, pu_peer_id *out);
/* pu_peer_id_hash is a table hash keyed by |seed|. */
uint64_t pu_peer_id_hash(const pu_peer_id *id, uint64_t seed);

#endif
