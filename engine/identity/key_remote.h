/* Keys of the types that we read but never hold: RSA, ECDSA, secp256k1 (wire 2.1). key.c calls it;
 * it calls libcrypto, which is loaded when the first such peer shows up. */
#ifndef PU_IDENTITY_KEY_REMOTE_H
#define PU_IDENTITY_KEY_REMOTE_H

#include "identity/key.h"

/* pu_key_remote_check checks the Data field of a key and writes its canonical form to |out|
 * (PU_KEY_MAX_PROTOBUF bytes): PU_E_PARSE when refused, PU_E_UNSUPPORTED without libcrypto. */
PU_MUST_CHECK int pu_key_remote_check(pu_key_type type, const uint8_t *data, size_t len,
                                      uint8_t *out, size_t *out_len);
/* pu_key_remote_verify checks |sig| over |msg| with a canonical Data field: 0, PU_E_CRYPTO,
 * PU_E_UNSUPPORTED without libcrypto. */
PU_MUST_CHECK int pu_key_remote_verify(pu_key_type type, const uint8_t *data, size_t data_len,
                                       const uint8_t *msg, size_t len, const uint8_t *sig,
                                       size_t sig_len);

#endif
