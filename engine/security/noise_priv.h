/* The payload half of Noise (noise_payload.c), seen by noise.c and its tests. */
#ifndef PU_SECURITY_NOISE_PRIV_H
#define PU_SECURITY_NOISE_PRIV_H

#include "security/noise.h"

/* Our side of the payload. Everything is borrowed. */
typedef struct pu_noise_local {
  bool initiator;
  const pu_key *key;
  const char *const *muxers;
  size_t muxer_count;
} pu_noise_local;

/* Room for any payload of ours: an Ed25519 key, a signature, PU_SECURITY_MUXERS_MAX names. */
#define PU_NOISE_OWN_PAYLOAD_MAX \
  (PU_KEY_ED25519_PROTOBUF + 64 + PU_SECURITY_MUXERS_MAX * (PU_SECURITY_MUXER_NAME_MAX + 2) + 16)

/* pu_noise_payload_write writes the payload that vouches for |static_public|; returns its bytes. */
size_t pu_noise_payload_write(const pu_noise_local *local, const uint8_t static_public[static 32],
                              uint8_t out[static PU_NOISE_OWN_PAYLOAD_MAX]);
/* pu_noise_payload_read reads and verifies the peer's payload, and chooses the muxer. |muxers_used|
 * (may be NULL) becomes the length of the peer's list, 0 when it is ignored. PU_E_PROTOCOL,
 * PU_E_CRYPTO (wrong signature); |out| is then undefined. */
PU_MUST_CHECK int pu_noise_payload_read(pu_mem *mem, const pu_noise_local *local,
                                        const uint8_t *payload, size_t len,
                                        const uint8_t static_public[static 32],
                                        pu_security_result *out, size_t *muxers_used);

#endif
