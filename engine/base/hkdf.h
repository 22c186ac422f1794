/* HKDF with SHA-256 (RFC 5869), as Noise's key schedule and invites need it. */
#ifndef PU_BASE_HKDF_H
#define PU_BASE_HKDF_H

#include "peerup/defs.h"

#define PU_HKDF_HASH_BYTES 32
#define PU_HKDF_MAX_BYTES ((size_t)255 * PU_HKDF_HASH_BYTES)

/* pu_hkdf_extract makes a pseudorandom key out of |ikm|. |salt| may have any length (Noise: the
 * chaining key; none counts as zeros). |prk| may be the same memory as |salt| or |ikm|. */
void pu_hkdf_extract(const uint8_t *salt, size_t salt_len, const uint8_t *ikm, size_t ikm_len,
                     uint8_t prk[static PU_HKDF_HASH_BYTES]);
/* pu_hkdf_expand fills |out|; PU_E_INVAL above PU_HKDF_MAX_BYTES. */
PU_MUST_CHECK int pu_hkdf_expand(const uint8_t prk[static PU_HKDF_HASH_BYTES], const uint8_t *info,
                                 size_t info_len, uint8_t *out, size_t out_len);

#endif
