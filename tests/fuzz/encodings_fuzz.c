/* Fuzzes base/varint and base/multibase: what is read is written again the same way. */
#include <string.h>

#include "base/multibase.h"
#include "base/varint.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void varint(const uint8_t *data, size_t size) {
  uint64_t value;
  uint8_t out[PU_VARINT_MAX_BYTES];
  ssize_t used = pu_varint_get(data, size, &value);
  if (used <= 0)
    return;
  PU_ASSERT((size_t)used <= size && pu_varint_size(value) == (size_t)used);
  PU_ASSERT(pu_varint_put(out, value) == (size_t)used && memcmp(out, data, (size_t)used) == 0);
}

static void base58(const uint8_t *data, size_t size) {
  uint8_t bytes[PU_BASE58_MAX_TEXT];
  char text[PU_BASE58_MAX_TEXT * 2];
  ssize_t n = pu_base58_decode((const char *)data, size, bytes, sizeof(bytes));
  if (n < 0)
    return;
  ssize_t len = pu_base58_encode(bytes, (size_t)n, text, sizeof(text));
  PU_ASSERT(len >= 0 && (size_t)len == size && memcmp(text, data, size) == 0);
}

static void multibase(const uint8_t *data, size_t size) {
  uint8_t bytes[1024], again[1024];
  char text[2048] = "b";
  ssize_t n = pu_multibase_decode((const char *)data, size, bytes, sizeof(bytes));
  if (n < 0)
    return;
  ssize_t len = pu_base32_encode(bytes, (size_t)n, false, text + 1, sizeof(text) - 1);
  PU_ASSERT(len >= 0);
  PU_ASSERT(pu_multibase_decode(text, (size_t)len + 1, again, sizeof(again)) == n);
  PU_ASSERT(memcmp(bytes, again, (size_t)n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  varint(data, size);
  base58(data, size);
  multibase(data, size);
  return 0;
}
