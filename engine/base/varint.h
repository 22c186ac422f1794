/* Unsigned varints of multiformats: at most nine bytes, below 2^63, minimal only (wire 1.1). */
#ifndef PU_BASE_VARINT_H
#define PU_BASE_VARINT_H

#include "peerup/defs.h"

#define PU_VARINT_MAX_BYTES 9

/* pu_varint_size returns how many bytes |value| takes. */
size_t pu_varint_size(uint64_t value);
/* pu_varint_put writes |value| at |out| (room for pu_varint_size) and returns the bytes written. */
size_t pu_varint_put(uint8_t *out, uint64_t value);
/* pu_varint_get reads one varint from |len| bytes: returns the bytes used; 0 when more bytes are
 * needed; PU_E_PARSE when not minimal, too long, or 2^63 and above. */
PU_MUST_CHECK ssize_t pu_varint_get(const uint8_t *in, size_t len, uint64_t *value);

#endif
