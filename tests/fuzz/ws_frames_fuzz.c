/* Frames of a WebSocket peer after a good upgrade. Byte 0: bit 0: the peer is a client, else a
 * server; bit 1: the layer above gives places; bits 2 to 7: bytes of one delivery (0: all). What
 * arrives does not depend on the deliveries, and what it costs is bounded. */
#include "platform/sim.h"
#include "support/pipe_raw.h"
#include "transport/ws.h"
#include "transport/ws_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COST_MAX 16384u

typedef struct result {
  uint64_t bytes, sum;
  int status;
  unsigned ends;
  bool ready, with_place;
  uint8_t place[32];
  pu_raw *raw;
} result;

static void count(result *r, const uint8_t *data, size_t len) {
  for (size_t i = 0; i < len; i++)
    r->sum = r->sum * 31 + data[i];
  r->bytes += len;
}
static void on_bytes(void *user, pu_span data) {
  PU_ASSERT(data.len > 0);
  count(user, data.data, data.len);
  memset(data.data - data.head, 0xcc, data.head + data.len + data.tail);
}
static size_t place(void *user, uint8_t **memory) {
  result *r = user;
  *memory = r->place;
  return r->with_place ? sizeof r->place : 0;
}
static void on_placed(void *user, size_t len) {
  result *r = user;
  PU_ASSERT(len > 0 && len <= sizeof r->place);
  count(r, r->place, len);
}
static void on_writable(void *user) {
  (void)user;
}
static void on_end(void *user, int status) {
  result *r = user;
  r->ends++;
  r->status = status;
}
static const pu_raw_events events = {on_bytes, place, on_placed, on_writable, on_end};

static void on_ready(void *data, int status, const char *detail) {
  result *r = data;
  (void)detail;
  PU_ASSERT(status == 0);
  r->ready = true;
  r->raw->ops->set_events(r->raw, &events, r);
  r->raw->ops->want_read(r->raw, true);
}

static void push(pipe_raw *p, const void *data, size_t len) {
  PU_ASSERT(pu_fifo_push(&p->in, data, len) == 0);
  while (pipe_deliver(p))
    ;
}

/* run gives |data| to one side of a fresh connection. */
static result run(pu_platform *platform, bool client, bool with_place, size_t slice,
                  const uint8_t *data, size_t len) {
  pipe_raw ours, theirs;
  pu_mem mem, pipe_mem;
  result r = {.with_place = with_place};
  uint8_t head[1024];
  char key[PU_WS_KEY_TEXT], accept[PU_WS_ACCEPT_TEXT], text[PU_WS_RESPONSE_MAX];
  unsigned status;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&pipe_mem, NULL, PU_MEM_UNLIMITED);
  pipe_init(&ours, &theirs, &pipe_mem, &pipe_ops);
  pu_ws_config config = {.mem = &mem, .platform = platform};
  if (client)
    config = (pu_ws_config){.mem = &mem,
                            .platform = platform,
                            .host = "a",
                            .path = "",
                            .on_ready = on_ready,
                            .data = &r};
  PU_ASSERT(pu_ws_raw_new(&config, &ours.base, &r.raw) == 0);
  if (client) {
    const size_t n = pu_fifo_read(&theirs.in, head, sizeof head);
    PU_ASSERT(pu_ws_request_read(head, n, key, &status) == 0 && pu_ws_accept(key, accept) == 0);
    push(&ours, text, pu_ws_response_write(101, accept, text));
    PU_ASSERT(r.ready);
  } else {
    r.raw->ops->set_events(r.raw, &events, &r);
    r.raw->ops->want_read(r.raw, true);
    const ssize_t n =
        pu_ws_request_write("a", 0, "", "dGhlIHNhbXBsZSBub25jZQ==", (char *)head, sizeof head);
    PU_ASSERT(n > 0);
    push(&ours, head, (size_t)n);
  }
  pu_fifo_clear(&theirs.in);
  ours.slice = slice == 0 ? SIZE_MAX : slice;
  push(&ours, data, len);
  PU_ASSERT(r.ends <= 1 && mem.peak <= COST_MAX);
  /* An answer to each frame at most: two bytes at least came for it. */
  PU_ASSERT(theirs.in.len <= 3 * len + 16);
  r.raw->ops->close(r.raw, r.ends != 0);
  pu_fifo_clear(&ours.in);
  pu_fifo_clear(&theirs.in);
  pu_mem_deinit(&mem);
  pu_mem_deinit(&pipe_mem);
  return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_sim *sim;
  pu_platform *platform;
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 1}};
  if (size == 0)
    return 0;
  PU_ASSERT(pu_sim_new(1, &sim) == 0);
  PU_ASSERT(pu_sim_add_host(sim, "a", &ip, 1, &platform) == 0);
  const bool client = (data[0] & 1) == 0;
  const result once = run(platform, client, false, 0, data + 1, size - 1);
  const result again = run(platform, client, (data[0] & 2) != 0, data[0] >> 2, data + 1, size - 1);
  PU_ASSERT(once.bytes == again.bytes && once.sum == again.sum && once.status == again.status &&
            once.ends == again.ends);
  pu_sim_free(sim);
  return 0;
}
