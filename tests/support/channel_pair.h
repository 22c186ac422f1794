/* Two channels over a pipe of this process, and what a test wants to know of them. */
#ifndef PU_TESTS_CHANNEL_PAIR_H
#define PU_TESTS_CHANNEL_PAIR_H

#include "support/noise_pair.h"
#include "support/pipe_raw.h"
#include "support/unit.h"
#include "transport/channel.h"

typedef struct end {
  pu_channel channel;
  pipe_raw raw;
  pu_mem mem;
  pu_key *key;
  struct pu_tls_identity *tls; /* NULL: no TLS */
  const char *const *securities;
  size_t security_count;
  pu_peer_id expected;
  uint32_t random;
  bool secured, open, ended, started;
  int refuse_secured, refuse_open;
  pu_peer_id peer;
  int status;
  char why[128];
  unsigned blocked, unblocked;
  bool is_blocked;
  uint8_t *got; /* plaintext, in order */
  size_t got_len, got_cap;
  bool stop_in_plain;
} end;

typedef struct pair {
  end a, b; /* a begins */
  pu_mem pipe;
} pair;

static inline int on_secured(void *user, const pu_security_result *result) {
  end *e = user;
  assert_false(e->secured);
  e->secured = true;
  e->peer = result->peer;
  return e->refuse_secured;
}
static inline int on_open(void *user) {
  end *e = user;
  assert_true(e->secured && !e->open);
  e->open = true;
  return e->refuse_open;
}
static inline int on_plain(void *user, pu_span data) {
  end *e = user;
  assert_true(e->open && !e->ended);
  if (e->got_cap - e->got_len < data.len) {
    e->got_cap = 2 * e->got_cap + data.len;
    e->got = realloc(e->got, e->got_cap);
    assert_non_null(e->got);
  }
  memcpy(e->got + e->got_len, data.data, data.len);
  e->got_len += data.len;
  /* The memory is ours until we return, the room too. */
  memset(data.data - data.head, 0xdd, data.head + data.len + data.tail);
  if (e->stop_in_plain) {
    pu_channel_stop(&e->channel, false);
    e->ended = true;
  }
  return 0;
}
static inline void on_blocked(void *user, bool blocked) {
  end *e = user;
  assert_true(e->is_blocked != blocked);
  e->is_blocked = blocked;
  if (blocked)
    e->blocked++;
  else
    e->unblocked++;
}
static inline void on_end(void *user, int status, const char *why) {
  end *e = user;
  assert_false(e->ended);
  e->ended = true;
  e->status = status;
  (void)snprintf(e->why, sizeof(e->why), "%s", why);
}
static const pu_channel_events pair_events = {on_secured, on_open, on_plain, on_blocked, on_end};

static inline int start(end *e, bool initiator) {
  const pu_channel_config config = {.mem = &e->mem,
                                    .initiator = initiator,
                                    .key = e->key,
                                    .tls = e->tls,
                                    .securities = e->securities,
                                    .security_count = e->security_count,
                                    .expected = &e->expected,
                                    .random = pu_test_random,
                                    .random_data = &e->random,
                                    .events = &pair_events,
                                    .user = e};
  int rc = pu_channel_start(&e->channel, &config, &e->raw.base);
  e->started = rc == 0;
  return rc;
}

static inline pair *pair_new(const pu_raw_ops *ops) {
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  pu_mem_init(&p->pipe, NULL, PU_MEM_UNLIMITED);
  pipe_init(&p->a.raw, &p->b.raw, &p->pipe, ops);
  pu_mem_init(&p->a.mem, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&p->b.mem, NULL, PU_MEM_UNLIMITED);
  p->a.key = pu_test_key(1);
  p->b.key = pu_test_key(2);
  p->a.random = 1;
  p->b.random = 2;
  p->a.expected = *pu_key_peer_id(p->b.key);
  return p;
}

static inline void pump(pair *p) {
  pipe_pump(&p->a.raw, &p->b.raw);
}

static inline void pair_free(pair *p) {
  end *const both[2] = {&p->a, &p->b};
  for (int i = 0; i < 2; i++) {
    if (both[i]->started)
      pu_channel_stop(&both[i]->channel, true);
    assert_true(both[i]->raw.closed);
    pu_mem_deinit(&both[i]->mem);
    pu_key_free(both[i]->key);
    free(both[i]->got);
  }
  pipe_deinit(&p->a.raw, &p->b.raw);
  pu_mem_deinit(&p->pipe);
  free(p);
}

static inline pair *pair_open(const pu_raw_ops *ops) {
  pair *p = pair_new(ops);
  assert_int_equal(start(&p->a, true), 0);
  assert_int_equal(start(&p->b, false), 0);
  pump(p);
  assert_true(p->a.open && p->b.open);
  return p;
}

static inline uint8_t byte_at(size_t i) {
  return (uint8_t)(i * 131 + (i >> 8));
}

/* send writes |len| bytes that continue at |from| with |head| and |tail| of room around. */
static inline int send_room(end *e, size_t from, size_t len, size_t head, size_t tail) {
  uint8_t *memory = malloc(head + len + tail + 1);
  assert_non_null(memory);
  for (size_t i = 0; i < len; i++)
    memory[head + i] = byte_at(from + i);
  pu_span io = {memory + head, len, head, tail};
  int rc = pu_channel_send(&e->channel, &io, false);
  free(memory); /* not borrowed: written or copied by now */
  return rc;
}

static inline void check_got(const end *e, size_t len) {
  assert_int_equal(e->got_len, len);
  for (size_t i = 0; i < len; i++)
    assert_int_equal(e->got[i], byte_at(i));
}

#endif
