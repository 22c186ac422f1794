/* Text encodings: base58btc, and what CIDs in text may use (base16, base32, base36, base58,
 * base64 and their upper-case, padded and url forms); wire 2.2. */
#ifndef PU_BASE_MULTIBASE_H
#define PU_BASE_MULTIBASE_H

#include "peerup/defs.h"

/* Longest input that the quadratic base58 and base36 coders accept, so that a remote text cannot
 * buy CPU time; a peer ID in text has 59 letters at most. */
#define PU_BASE58_MAX_TEXT 512

/* pu_base58_encode writes text and NUL to |out|; returns its length, PU_E_LIMIT if |cap| is short. */
PU_MUST_CHECK ssize_t pu_base58_encode(const uint8_t *in, size_t len, char *out, size_t cap);
/* pu_base58_decode returns the bytes written; PU_E_PARSE, PU_E_LIMIT. */
PU_MUST_CHECK ssize_t pu_base58_decode(const char *text, size_t len, uint8_t *out, size_t cap);
/* pu_base32_encode: RFC 4648 alphabet, no padding; |upper| chooses the case. */
PU_MUST_CHECK ssize_t pu_base32_encode(const uint8_t *in, size_t len, bool upper, char *out, size_t cap);
/* pu_base64url_encode: no padding, with the multibase prefix 'u' left to the caller. */
PU_MUST_CHECK ssize_t pu_base64url_encode(const uint8_t *in, size_t len, char *out, size_t cap);
/* pu_multibase_decode decodes text whose first letter names its base. Returns the bytes written;
 * PU_E_PARSE, PU_E_UNSUPPORTED (unknown base), PU_E_LIMIT. */
PU_MUST_CHECK ssize_t pu_multibase_decode(const char *text, size_t len, uint8_t *out, size_t cap);

#endif
