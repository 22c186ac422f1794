/* Unsigned varints of multiformats (wire 1.1). */
#include "base/varint.h"

#include "peerup/error.h"
#include "platform/assert.h"

size_t pu_varint_size(uint64_t value) {
  size_t n = 1;
  for (; value >= 0x80; value >>= 7)
    n++;
  return n;
}

size_t pu_varint_put(uint8_t *out, uint64_t value) {
  PU_ASSERT(value < UINT64_C(1) << 63);
  size_t n = 0;
  for (; value >= 0x80; value >>= 7)
    out[n++] = (uint8_t)(value | 0x80);
  out[n++] = (uint8_t)value;
  return n;
}

ssize_t pu_varint_get(const uint8_t *in, size_t len, uint64_t *value) {
  uint64_t sum = 0;
  for (size_t i = 0; i < PU_VARINT_MAX_BYTES; i++) {
    if (i == len)
      return 0;
    sum |= (uint64_t)(in[i] & 0x7f) << (7 * i);
    if ((in[i] & 0x80) != 0)
      continue;
    if (in[i] == 0 && i > 0)
      return PU_E_PARSE; /* a shorter form exists */
    *value = sum;
    return (ssize_t)i + 1;
  }
  return PU_E_PARSE; /* nine bytes hold all values below 2^63 */
}
