/* Noise XX as libp2p uses it (wire 6); see noise.c. Most callers want pu_noise_ops (security.h). */
#ifndef PU_SECURITY_NOISE_H
#define PU_SECURITY_NOISE_H

#include "security/security.h"

#define PU_NOISE_MAX_MESSAGE 65535
#define PU_NOISE_TAG 16
#define PU_NOISE_MAX_PLAIN (PU_NOISE_MAX_MESSAGE - PU_NOISE_TAG)
#define PU_NOISE_LENGTH 2
/* A handshake message holds at most a key, a signature and 100 muxer names; this keeps a stranger
 * cheap. The Go program's payloads take under 300 bytes with Ed25519, under 1500 with RSA. */
#define PU_NOISE_MAX_HANDSHAKE 8192
#define PU_NOISE_MAX_REMOTE_MUXERS 100 /* more: the whole list is ignored (wire 6) */

/* pu_noise_handshake_hash and pu_noise_keys show a finished handshake to tests against vectors. */
void pu_noise_handshake_hash(const pu_security *s, uint8_t out[static 32]);
void pu_noise_keys(const pu_security *s, uint8_t send[static 32], uint8_t receive[static 32]);
/* pu_noise_set_keys replaces the fresh static and ephemeral keys, and the payload when given,
 * before the first message: for vectors and tests and nothing else. PU_E_NOMEM, PU_E_LIMIT. */
PU_MUST_CHECK int pu_noise_set_keys(pu_security *s, const uint8_t static_private[static 32],
                                    const uint8_t ephemeral_private[static 32],
                                    const uint8_t *payload, size_t payload_len);
/* pu_noise_set_nonces moves the record counters, so that tests reach their end. */
void pu_noise_set_nonces(pu_security *s, uint64_t send, uint64_t receive);

#endif
