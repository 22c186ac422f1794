/* Fuzzes multiaddr: text and bytes, each to the other form and back. The first byte chooses. */
#include <string.h>

#include "multiaddr/multiaddr.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* use calls all that looks at an address. */
static void use(const pu_multiaddr *a) {
  pu_ma_target t;
  pu_multiaddr b;
  pu_ma_component c;
  size_t pos = 0, last = 0;
  while (pu_multiaddr_next(a, &pos, &c)) {
    PU_ASSERT(pos > last && pos <= a->len);
    PU_ASSERT(c.len == 0 || (c.value >= a->bytes && c.value + c.len <= a->bytes + a->len));
    last = pos;
  }
  PU_ASSERT(pos == a->len);
  pu_multiaddr_target(a, &t);
  if (t.kind == PU_MA_KIND_CIRCUIT && t.relay_addr.len > 0)
    PU_ASSERT(pu_multiaddr_from_bytes(t.relay_addr.bytes, t.relay_addr.len, &b) == 0);
  pu_multiaddr_without_peer(a, &b);
  PU_ASSERT(b.len <= a->len);
  PU_ASSERT(!(pu_multiaddr_is_private(a) && pu_multiaddr_is_public(a)));
  PU_ASSERT(!pu_multiaddr_is_loopback(a) || pu_multiaddr_is_private(a));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_multiaddr a, b;
  pu_error err;
  char text[PU_MULTIADDR_MAX_TEXT], again[PU_MULTIADDR_MAX_TEXT];
  if (size == 0)
    return 0;
  int rc = (data[0] & 1) != 0 ? pu_multiaddr_from_bytes(data + 1, size - 1, &a)
                              : pu_multiaddr_from_text((const char *)data + 1, size - 1, &a, &err);
  if (rc != 0)
    return 0;
  use(&a);
  PU_ASSERT(pu_multiaddr_from_bytes(a.bytes, a.len, &b) == 0 && pu_multiaddr_equal(&a, &b));
  (void)pu_multiaddr_text(&a, text);
  PU_ASSERT(text[0] == '/');
  /* Two things of binary paths are lost in text: a missing slash in front, and slashes at the end.
   */
  rc = pu_multiaddr_from_text(text, strlen(text), &b, NULL);
  if (pu_multiaddr_has(&a, PU_MA_UNIX))
    return 0;
  PU_ASSERT(rc == 0 && pu_multiaddr_equal(&a, &b));
  PU_ASSERT(strcmp(pu_multiaddr_text(&b, again), text) == 0);
  return 0;
}
