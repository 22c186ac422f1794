/* Ping (wire 12), both sides; see ping.h.
 *
 *   answering:  read 32 bytes -> write them back -> read ..., within two deadlines
 *   asking:     open (lazily: the offer and the bytes travel together) -> write -> read 32 ->
 * compare */
#include "protocols/ping.h"

#include <string.h>

#include "swarm/op.h"
#include "swarm/stream.h"

#define PING_TIMEOUT_MS 30000u

/* ---- answering ---- */

typedef struct ping_module {
  pu_module base;
  pu_engine *engine;
  pu_list echoes;
} ping_module;

/* A stream on which we answer. Owned by the module. */
typedef struct echo {
  pu_list link;
  pu_stream *stream;
  pu_timer timer; /* the earlier of both deadlines */
  uint64_t end_us;
  size_t in_len;  /* bytes of the ping that are here */
  size_t out_pos; /* of a whole ping: bytes that were sent back */
  uint8_t bytes[PU_PING_BYTES];
} echo;

static void forget_echo(echo *x) {
  pu_list_remove(&x->link);
  pu_timer_stop(&x->timer);
  pu_free(x);
}

static void on_echo_time(void *data) {
  echo *x = data;
  pu_stream *s = x->stream;
  forget_echo(x);
  pu_stream_close(s);
}

static void on_echo_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)s;
  (void)status;
  (void)code;
  forget_echo(user);
}

static void on_echo_eof(void *user, pu_stream *s) {
  forget_echo(user);
  pu_stream_close(s);
}

static void set_echo_timer(echo *x) {
  uint64_t now = pu_now_us(x->timer.platform);
  uint64_t at = now + PU_PING_IDLE_US < x->end_us ? now + PU_PING_IDLE_US : x->end_us;
  (void)pu_timer_at(&x->timer, at); /* moved, not armed anew: takes no memory */
}

/* send_back writes what is left of a whole ping; true when the next one may come. */
static bool send_back(echo *x) {
  if (x->in_len < PU_PING_BYTES)
    return true;
  ssize_t n = pu_stream_write(x->stream, x->bytes + x->out_pos, (size_t)PU_PING_BYTES - x->out_pos);
  if (n > 0)
    x->out_pos += (size_t)n;
  if (x->out_pos < PU_PING_BYTES)
    return false;
  x->in_len = x->out_pos = 0;
  set_echo_timer(x);
  return true;
}

/* on_echo_data takes no more than one ping ahead of what was sent back, so a peer that floods and
 * does not read is held back by its window. */
static size_t on_echo_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  echo *x = user;
  size_t used = 0;
  (void)s;
  (void)head;
  (void)tail;
  while (used < len && send_back(x)) {
    size_t n = PU_PING_BYTES - x->in_len;
    n = n < len - used ? n : len - used;
    memcpy(x->bytes + x->in_len, data + used, n);
    x->in_len += n;
    used += n;
  }
  (void)send_back(x);
  return used;
}

static void on_echo_writable(void *user, pu_stream *s) {
  if (send_back(user))
    pu_stream_resume(s);
}

static const pu_stream_events echo_events = {on_echo_data, on_echo_eof, on_echo_writable,
                                             on_echo_end};

static int on_ping_stream(void *data, pu_stream *s) {
  ping_module *m = data;
  echo *x = pu_zalloc(&m->engine->mem, sizeof(*x));
  if (x == NULL)
    return PU_E_NOMEM;
  x->stream = s;
  x->end_us = pu_now_us(m->engine->platform) + PU_PING_STREAM_US;
  pu_list_init(&x->link);
  pu_timer_init(&x->timer, m->engine->platform, on_echo_time, x);
  if (pu_timer_after(&x->timer, PU_PING_IDLE_US) != 0) {
    pu_free(x);
    return PU_E_NOMEM;
  }
  pu_list_push(&m->echoes, &x->link);
  pu_stream_set_events(s, &echo_events, x);
  return 0;
}

static void free_module(pu_module *base) {
  ping_module *m = PU_CONTAINER_OF(base, ping_module, base);
  PU_ASSERT(pu_list_empty(&m->echoes));
  m->engine->ping = NULL;
  pu_free(m);
}

static const pu_module_ops ping_ops = {.free = free_module};

int pu_ping_start(pu_engine *e) {
  ping_module *m = pu_zalloc(&e->mem, sizeof(*m));
  if (m == NULL)
    return PU_E_NOMEM;
  m->base.ops = &ping_ops;
  m->engine = e;
  pu_list_init(&m->echoes);
  int rc = pu_engine_serve(e, PU_PING_ID, on_ping_stream, m);
  if (rc != 0) {
    pu_free(m);
    return rc;
  }
  e->ping = &m->base;
  pu_engine_add_module(e, &m->base);
  return 0;
}

/* ---- asking ---- */

/* A ping of ours: an operation with another below it, until the stream stands. */
typedef struct ping {
  pu_op op;
  pu_op *opening;
  bool orphan; /* completed while |opening|: its callback frees it */
  pu_stream *stream;
  pu_ping_cb cb;
  void *data;
  uint64_t sent_us, rtt_us;
  size_t in_len;
  uint8_t bytes[PU_PING_BYTES], in[PU_PING_BYTES];
} ping;

static void let_go(pu_op *op) {
  ping *p = PU_CONTAINER_OF(op, ping, op);
  pu_stream *s = p->stream;
  p->stream = NULL;
  if (s != NULL)
    pu_stream_close(s);
  if (p->opening != NULL)
    pu_op_cancel(p->opening);
}

static void complete(pu_op *op) {
  ping *p = PU_CONTAINER_OF(op, ping, op);
  pu_op_unlink(op);
  p->cb(p->data, op->status, &op->err, op->status == 0 ? p->rtt_us : 0);
  if (p->opening != NULL)
    p->orphan = true;
  else
    pu_free(p);
}

static void finish(ping *p, int status, const char *detail) {
  pu_stream *s = p->stream;
  p->stream = NULL;
  if (s != NULL)
    pu_stream_close(s);
  pu_op_finish_now(&p->op, status, detail);
}

static size_t on_pong(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  ping *p = user;
  (void)s;
  (void)head;
  (void)tail;
  if (p->stream == NULL)
    return len;
  size_t n = PU_PING_BYTES - p->in_len < len ? PU_PING_BYTES - p->in_len : len;
  memcpy(p->in + p->in_len, data, n);
  p->in_len += n;
  if (p->in_len < PU_PING_BYTES)
    return len;
  p->rtt_us = pu_now_us(p->op.engine->platform) - p->sent_us;
  if (memcmp(p->in, p->bytes, PU_PING_BYTES) == 0)
    finish(p, 0, "");
  else
    finish(p, PU_E_PROTOCOL, "the answer to a ping differs from it");
  return len;
}

static void on_pong_eof(void *user, pu_stream *s) {
  (void)s;
  finish(user, PU_E_EOF, "the peer closed the stream instead of answering");
}

static void on_pong_end(void *user, pu_stream *s, int status, uint32_t code) {
  ping *p = user;
  (void)s;
  (void)code;
  p->stream = NULL;
  finish(p, status,
         status == PU_E_UNSUPPORTED ? "the peer does not answer pings"
                                    : "the stream ended before the answer came");
}

static const pu_stream_events pong_events = {on_pong, on_pong_eof, NULL, on_pong_end};

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  ping *p = data;
  p->opening = NULL;
  if (p->orphan) {
    if (s != NULL)
      pu_stream_reset(s, 0);
    pu_free(p);
    return;
  }
  if (p->op.done) { /* cancelled, its completion is due */
    if (s != NULL)
      pu_stream_reset(s, 0);
    return;
  }
  if (status != 0) {
    finish(p, status, err->detail);
    return;
  }
  p->stream = s;
  pu_stream_set_events(s, &pong_events, p);
  p->sent_us = pu_now_us(p->op.engine->platform);
  int rc = pu_stream_write_now(s, p->bytes, PU_PING_BYTES); /* also when others' bytes wait */
  if (rc != 0)
    finish(p, rc, "cannot write to the stream");
}

int pu_engine_ping(pu_engine *e, const pu_peer_id *peer, uint32_t timeout_ms, pu_ping_cb cb,
                   void *data, pu_op **op) {
  static const char *const protocols[] = {PU_PING_ID};
  uint32_t limit_ms = timeout_ms == 0 ? PING_TIMEOUT_MS : timeout_ms;
  ping *p = pu_zalloc(&e->mem, sizeof(*p));
  if (p == NULL)
    return PU_E_NOMEM;
  int rc = pu_op_start(&p->op, e, limit_ms, complete, let_go);
  if (rc != 0) {
    pu_free(p);
    return rc;
  }
  p->cb = cb;
  p->data = data;
  pu_random(e->platform, p->bytes, sizeof(p->bytes));
  rc = pu_engine_open_stream(e, peer, protocols, 1, PU_OPEN_LIMITED | PU_OPEN_LAZY, limit_ms,
                             on_open, p, &p->opening);
  if (rc != 0) {
    pu_op_unlink(&p->op);
    pu_free(p);
    return rc;
  }
  if (op != NULL)
    *op = &p->op;
  return 0;
}
