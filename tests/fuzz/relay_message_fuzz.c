/* Messages of circuit relay as a stranger sends them. Byte 0 chooses the protocol; the rest is the
 * stream, which arrives at once and again byte by byte: both must end the same, take the same
 * bytes, and what was read comes out the same when it is written and read again. */
#include <string.h>

#include "platform/assert.h"
#include "protocols/relay_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct outcome {
  int rc;
  size_t used;
  bool done;
  pu_relay_reader reader;
  pu_relay_message m;
} outcome;

static void run(bool stop, const uint8_t *in, size_t len, size_t chunk, outcome *o) {
  memset(o, 0, sizeof(*o));
  while (o->rc == 0 && !o->done && o->used < len) {
    const size_t piece = len - o->used < chunk ? len - o->used : chunk;
    const ssize_t n = pu_relay_reader_feed(&o->reader, in + o->used, piece, &o->done);
    if (n < 0) {
      o->rc = (int)n;
      return;
    }
    PU_ASSERT(n > 0 && (size_t)n <= piece && (o->done || (size_t)n == piece));
    o->used += (size_t)n;
  }
  if (o->done)
    o->rc = pu_relay_reader_decode(&o->reader, stop, &o->m);
}

static bool same_bytes(const pu_relay_bytes *a, const pu_relay_bytes *b) {
  return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void check_same(const pu_relay_message *a, const pu_relay_message *b) {
  PU_ASSERT(a->type == b->type && a->has_peer == b->has_peer && a->has_limit == b->has_limit &&
            a->has_reservation == b->has_reservation && a->has_status == b->has_status);
  PU_ASSERT(a->expire == b->expire && a->limit_duration_s == b->limit_duration_s &&
            a->limit_data_bytes == b->limit_data_bytes && a->status == b->status);
  PU_ASSERT(same_bytes(&a->peer, &b->peer) && same_bytes(&a->voucher, &b->voucher));
  PU_ASSERT(a->addr_count == b->addr_count && a->addr_count <= PU_RELAY_ADDRS_MAX);
  for (size_t i = 0; i < a->addr_count; i++)
    PU_ASSERT(same_bytes(&a->addrs[i], &b->addrs[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static outcome whole, bytewise, again;
  uint8_t out[PU_RELAY_MESSAGE_MAX + 2];
  if (size == 0)
    return 0;
  const bool stop = (data[0] & 1) != 0;
  run(stop, data + 1, size - 1, size, &whole);
  run(stop, data + 1, size - 1, 1, &bytewise);
  PU_ASSERT(whole.rc == bytewise.rc && whole.done == bytewise.done);
  PU_ASSERT(whole.rc == 0 || whole.rc == PU_E_PARSE || whole.rc == PU_E_LIMIT);
  if (whole.rc != 0 || !whole.done)
    return 0;
  PU_ASSERT(whole.used == bytewise.used && whole.used <= PU_RELAY_MESSAGE_MAX + 2);
  check_same(&whole.m, &bytewise.m);
  const ssize_t len = pu_relay_encode(&whole.m, out, sizeof(out));
  if (len < 0) /* loose forms may be shorter than ours, and a peer ID longer than any */
    return 0;
  run(stop, out, (size_t)len, (size_t)len, &again);
  PU_ASSERT(again.rc == 0 && again.done && again.used == (size_t)len);
  check_same(&whole.m, &again.m);
  return 0;
}
