/* multistream-select against hostile bytes. Byte 0: bit 0 dialler, bit 1 lazy; the rest arrives at
 * once, and again byte by byte: both must end the same. */
#include <string.h>

#include "negotiate/multistream.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const offers[] = {"/tls/1.0.0", "/noise", "/yamux/1.0.0"};

/* A header and one answer of the longest kind for each offer. */
#define OUT_MAX (20 + (PU_MULTISTREAM_MAX_OFFERS + 2) * 16)

typedef struct outcome {
  pu_multistream_state state;
  const char *protocol;
  ssize_t error;
  size_t used; /* when there was no error */
  size_t out_len;
  uint8_t out[OUT_MAX];
} outcome;

static const char *match(void *data, const char *offer, size_t len) {
  (void)data;
  for (size_t i = 1; i < PU_COUNT(offers); i++) {
    if (strlen(offers[i]) == len && memcmp(offers[i], offer, len) == 0)
      return offers[i];
  }
  return NULL;
}

static void run(uint8_t flags, const uint8_t *in, size_t len, size_t chunk, outcome *o) {
  pu_multistream m;
  memset(o, 0, sizeof(*o));
  bool lazy = (flags & 2) != 0;
  if ((flags & 1) != 0)
    pu_multistream_dial(&m, offers, lazy ? 1 : PU_COUNT(offers), lazy);
  else
    pu_multistream_listen(&m, match, NULL);
  for (;;) {
    size_t n = pu_multistream_write(&m, o->out + o->out_len, OUT_MAX - o->out_len);
    o->out_len += n;
    PU_ASSERT(o->out_len < OUT_MAX); /* bounded, whatever comes in */
    size_t piece = len - o->used < chunk ? len - o->used : chunk;
    if (piece == 0)
      break;
    ssize_t got = pu_multistream_read(&m, in + o->used, piece);
    if (got < 0) {
      PU_ASSERT(pu_multistream_state_of(&m) == PU_MS_FAILED);
      o->error = got;
      break;
    }
    PU_ASSERT((size_t)got <= piece);
    o->used += (size_t)got;
    if (got == 0) { /* all is written, so it takes no more */
      PU_ASSERT(pu_multistream_state_of(&m) == PU_MS_DONE);
      break;
    }
  }
  o->state = pu_multistream_state_of(&m);
  o->protocol = pu_multistream_protocol(&m);
  PU_ASSERT((o->state == PU_MS_DONE) == (o->protocol != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1)
    return 0;
  static outcome whole, bytewise;
  run(data[0], data + 1, size - 1, SIZE_MAX, &whole);
  run(data[0], data + 1, size - 1, 1, &bytewise);
  PU_ASSERT(whole.state == bytewise.state && whole.protocol == bytewise.protocol);
  PU_ASSERT(whole.error == bytewise.error);
  PU_ASSERT(whole.error != 0 || whole.used == bytewise.used);
  PU_ASSERT(whole.out_len == bytewise.out_len);
  PU_ASSERT(memcmp(whole.out, bytewise.out, whole.out_len) == 0);
  return 0;
}
