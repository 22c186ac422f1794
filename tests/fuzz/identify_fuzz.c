/* What a peer tells in identify: the stream arrives at once and again byte by byte, and both must
 * end the same; then its addresses are picked. Byte 0 chooses the connection's class. */
#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"
#include "protocols/identify_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const remotes[] = {"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1",
                                      "/ip4/8.8.8.8/tcp/1", "/ip4/203.0.113.1/tcp/1"};

typedef struct outcome {
  int rc;
  pu_identify m;
  pu_identify_reader r;
} outcome;

static void run(pu_mem *mem, const uint8_t *in, size_t len, size_t chunk, outcome *o) {
  memset(o, 0, sizeof(*o));
  pu_identify_reader_init(&o->r, mem);
  for (size_t at = 0; at < len && o->rc == 0; at += chunk)
    o->rc = pu_identify_reader_feed(&o->r, in + at, len - at < chunk ? len - at : chunk);
  if (o->rc == 0)
    o->rc = pu_identify_reader_end(&o->r, &o->m);
}

static bool same(const pu_identify_field *a, const pu_identify_field *b) {
  return (a->data == NULL) == (b->data == NULL) && a->len == b->len &&
         (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static size_t count(const pu_identify *m, pu_identify_list list) {
  pu_identify_field rest = m->all, f;
  size_t n = 0;
  while (pu_identify_next(&rest, list, &f))
    n++;
  return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_mem mem;
  pu_multiaddr remote, addrs[PU_IDENTIFY_MAX_ADDRS];
  outcome whole, bytewise;
  if (size == 0)
    return 0;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  run(&mem, data + 1, size - 1, size, &whole);
  run(&mem, data + 1, size - 1, 1, &bytewise);
  PU_ASSERT(whole.rc == bytewise.rc);
  PU_ASSERT(whole.rc == 0 || whole.rc == PU_E_PARSE || whole.rc == PU_E_LIMIT);
  if (whole.rc == 0) {
    const pu_identify *a = &whole.m, *b = &bytewise.m;
    PU_ASSERT(same(&a->all, &b->all) && same(&a->public_key, &b->public_key) &&
              same(&a->observed, &b->observed) && same(&a->agent_version, &b->agent_version) &&
              same(&a->protocol_version, &b->protocol_version) && same(&a->record, &b->record));
    PU_ASSERT(count(a, PU_IDENTIFY_ADDRS) == a->addr_count);
    PU_ASSERT(count(a, PU_IDENTIFY_PROTOCOLS) == a->protocol_count);
    const char *text = remotes[data[0] % PU_COUNT(remotes)];
    pu_peer_id peer = {0};
    pu_public_key key;
    if (a->public_key.data != NULL &&
        pu_public_key_parse(a->public_key.data, a->public_key.len, &key) == 0)
      pu_public_key_peer_id(&key, &peer);
    PU_ASSERT(pu_multiaddr_from_text(text, strlen(text), &remote, NULL) == 0);
    size_t n = pu_identify_addrs(&mem, a, &peer, &remote, addrs, PU_COUNT(addrs));
    PU_ASSERT(n <= PU_COUNT(addrs));
  }
  PU_ASSERT(mem.peak < 4 * PU_IDENTIFY_MAX_PARTS * (PU_IDENTIFY_MAX_MESSAGE + 2) + 16384);
  pu_identify_reader_free(&whole.r);
  pu_identify_reader_free(&bytewise.r);
  pu_mem_deinit(&mem);
  return 0;
}
