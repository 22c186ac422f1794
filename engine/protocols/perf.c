/* Perf, both sides, by libp2p's perf specification; see perf.h.
 *
 *   serving:  read 8 bytes (how many to send) -> drop all that comes -> end of it -> send, close
 *   asking:   write 8 bytes -> send -> half-close -> count all that comes -> end of it
 *
 * What is sent lies in memory of the sender's own, which the connection may encrypt in place: the
 * next round sends what became of it. Nothing of others ever lies there. */
#include "protocols/perf.h"

#include <string.h>

#include "swarm/op.h"
#include "swarm/stream.h"

#define HEADER_BYTES 8u
#define TICK_US 1000000u
#define PIECES 4u /* in one system call */
#define PIECE_BYTES (PU_STREAM_HEAD + 65536u + PU_STREAM_TAIL)

/* ---- sending, for both sides ---- */

/* A stream with bytes to send. Its owner sets |stream| NULL when it ends, which may be inside feed.
 */
typedef struct sender {
  pu_stream *stream;
  uint64_t left, sent;
  uint8_t *memory;
} sender;

/* feed_round sends up to PIECES pieces of at most |space| bytes in all. */
static int feed_round(sender *x, pu_stream *s, size_t space) {
  const size_t chunk = pu_stream_chunk(s);
  int status = 0;
  pu_stream_cork(s);
  for (unsigned n = 0; n < PIECES && x->left > 0 && space > 0 && x->stream != NULL; n++) {
    size_t len = space < chunk ? space : chunk;
    if (len > x->left)
      len = (size_t)x->left;
    ssize_t taken = pu_stream_write_room(s, x->memory + (size_t)n * PIECE_BYTES + PU_STREAM_HEAD,
                                         len, PU_STREAM_HEAD, PU_STREAM_TAIL);
    if (taken < 0) {
      status = (int)taken;
      break;
    }
    x->left -= (uint64_t)taken;
    x->sent += (uint64_t)taken;
    space -= (size_t)taken;
    if ((size_t)taken < len)
      break;
  }
  pu_stream_uncork(s);
  return status;
}

/* feed sends what the stream takes now, which its window bounds. 0, or an error. */
static int feed(pu_mem *mem, sender *x) {
  int status = 0;
  if (x->left > 0 && x->memory == NULL) {
    x->memory = pu_zalloc(mem, (size_t)PIECES * PIECE_BYTES);
    if (x->memory == NULL)
      return PU_E_NOMEM;
  }
  while (status == 0 && x->left > 0 && x->stream != NULL) {
    const size_t space = pu_stream_space(x->stream);
    if (space == 0)
      break;
    status = feed_round(x, x->stream, space);
  }
  return status;
}

/* ---- serving ---- */

typedef struct perf_module {
  pu_module base;
  pu_engine *engine;
  pu_list served;
  uint32_t count;
} perf_module;

typedef struct served {
  pu_list link;
  perf_module *module;
  sender out;
  pu_timer timer; /* looks every PU_PERF_IDLE_US whether something has moved */
  uint64_t received, seen;
  unsigned busy;
  bool sending;
  uint8_t header[HEADER_BYTES];
} served;

static void enter_served(served *x) {
  x->busy++;
}

static void leave_served(served *x) {
  if (--x->busy > 0 || x->out.stream != NULL)
    return;
  pu_free(x->out.memory);
  pu_free(x);
}

/* forget takes |x| off the books; whoever is inside last frees it. The stream is the caller's. */
static pu_stream *forget(served *x) {
  pu_stream *s = x->out.stream;
  x->out.stream = NULL;
  pu_timer_stop(&x->timer);
  pu_list_remove(&x->link);
  x->module->count--;
  return s;
}

static void send_served(served *x) {
  enter_served(x);
  const int status = feed(&x->module->engine->mem, &x->out);
  if (x->out.stream != NULL && status != 0)
    pu_stream_reset(forget(x), 0);
  else if (x->out.stream != NULL && x->out.left == 0)
    pu_stream_close(forget(x));
  leave_served(x);
}

static size_t on_served_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                             size_t tail) {
  served *x = user;
  (void)s;
  (void)head;
  (void)tail;
  for (size_t i = 0; i < len && x->received + i < HEADER_BYTES; i++)
    x->header[x->received + i] = data[i];
  x->received += len;
  return len;
}

static void on_served_eof(void *user, pu_stream *s) {
  served *x = user;
  (void)s;
  if (x->received < HEADER_BYTES) {
    enter_served(x);
    pu_stream_reset(forget(x), 0);
    leave_served(x);
    return;
  }
  for (size_t i = 0; i < HEADER_BYTES; i++)
    x->out.left = x->out.left << 8 | x->header[i];
  x->sending = true;
  send_served(x);
}

static void on_served_writable(void *user, pu_stream *s) {
  served *x = user;
  (void)s;
  if (x->sending)
    send_served(x);
}

static void on_served_end(void *user, pu_stream *s, int status, uint32_t code) {
  served *x = user;
  (void)s;
  (void)status;
  (void)code;
  enter_served(x);
  (void)forget(x);
  leave_served(x);
}

static void on_served_time(void *data) {
  served *x = data;
  const uint64_t moved = x->received + x->out.sent;
  enter_served(x);
  if (moved == x->seen)
    pu_stream_reset(forget(x), 0);
  else
    (void)pu_timer_after(&x->timer, PU_PERF_IDLE_US); /* its place is there: takes no memory */
  x->seen = moved;
  leave_served(x);
}

static const pu_stream_events served_events = {on_served_data, on_served_eof, on_served_writable,
                                               on_served_end};

static int on_perf_stream(void *data, pu_stream *s) {
  perf_module *m = data;
  if (m->count >= PU_PERF_SERVED_MAX)
    return PU_E_LIMIT;
  served *x = pu_zalloc(&m->engine->mem, sizeof(*x));
  if (x == NULL)
    return PU_E_NOMEM;
  x->module = m;
  x->out.stream = s;
  pu_timer_init(&x->timer, m->engine->platform, on_served_time, x);
  if (pu_timer_after(&x->timer, PU_PERF_IDLE_US) != 0) {
    pu_free(x);
    return PU_E_NOMEM;
  }
  pu_list_push(&m->served, &x->link);
  m->count++;
  pu_stream_set_events(s, &served_events, x);
  return 0;
}

static void free_module(pu_module *base) {
  perf_module *m = PU_CONTAINER_OF(base, perf_module, base);
  PU_ASSERT(pu_list_empty(&m->served));
  pu_free(m);
}

static const pu_module_ops perf_ops = {.free = free_module};

int pu_engine_perf_serve(pu_engine *e) {
  perf_module *m = pu_zalloc(&e->mem, sizeof(*m));
  if (m == NULL)
    return PU_E_NOMEM;
  m->base.ops = &perf_ops;
  m->engine = e;
  pu_list_init(&m->served);
  int rc = pu_engine_serve(e, PU_PERF_ID, on_perf_stream, m);
  if (rc != 0) {
    pu_free(m);
    return rc;
  }
  pu_engine_add_module(e, &m->base);
  return 0;
}

/* ---- asking ---- */

/* A measurement of ours: an operation with another below it, until the stream stands. */
typedef struct perf {
  pu_op op;
  pu_op *opening;
  bool completed; /* the application was told; freed when nobody is inside or waits for |opening| */
  bool half_closed;
  unsigned busy;
  sender out;
  pu_perf_config config;
  pu_perf_cb cb;
  void *data;
  pu_timer tick;
  uint64_t started_us, told_us, moved_us;
  uint64_t received, told_sent, told_received;
} perf;

static void enter(perf *p) {
  p->busy++;
}

static void leave(perf *p) {
  if (--p->busy > 0 || !p->completed || p->opening != NULL)
    return;
  pu_free(p->out.memory);
  pu_free(p);
}

static uint64_t now_us(const perf *p) {
  return pu_now_us(p->op.engine->platform);
}

/* let_go ends the stream: gracefully, or with a reset when there is more to come. */
static void let_go(perf *p, bool graceful) {
  pu_stream *s = p->out.stream;
  p->out.stream = NULL;
  pu_timer_stop(&p->tick);
  if (s != NULL && graceful)
    pu_stream_close(s);
  else if (s != NULL)
    pu_stream_reset(s, 0);
}

static void abandon(pu_op *op) {
  perf *p = PU_CONTAINER_OF(op, perf, op);
  let_go(p, false);
  if (p->opening != NULL)
    pu_op_cancel(p->opening);
}

static void complete(pu_op *op) {
  perf *p = PU_CONTAINER_OF(op, perf, op);
  const pu_perf_result result = {p->out.sent, p->received,
                                 p->started_us == 0 ? 0 : now_us(p) - p->started_us};
  pu_op_unlink(op);
  enter(p);
  p->cb(p->data, op->status, &op->err, &result);
  p->completed = true;
  leave(p);
}

static void finish(perf *p, int status, const char *detail) {
  let_go(p, status == 0);
  pu_op_finish_now(&p->op, status, detail);
}

static void send_asked(perf *p) {
  enter(p);
  const uint64_t before = p->out.sent;
  int status = feed(&p->op.engine->mem, &p->out);
  if (p->out.sent != before)
    p->moved_us = now_us(p);
  if (p->out.stream != NULL && status == 0 && p->out.left == 0 && !p->half_closed) {
    p->half_closed = true;
    status = pu_stream_close_write(p->out.stream);
  }
  if (p->out.stream != NULL && status != 0)
    finish(p, status, "the stream takes no more");
  leave(p);
}

static void on_tick(void *data) {
  perf *p = data;
  const uint64_t now = now_us(p);
  enter(p);
  (void)pu_timer_after(&p->tick, TICK_US); /* its place is there: takes no memory */
  if (p->config.progress != NULL) {
    const pu_perf_result step = {p->out.sent - p->told_sent, p->received - p->told_received,
                                 now - p->told_us};
    p->config.progress(p->data, &step);
  }
  p->told_us = now;
  p->told_sent = p->out.sent;
  p->told_received = p->received;
  if (p->out.stream != NULL && now - p->moved_us >= PU_PERF_IDLE_US)
    finish(p, PU_E_TIMEOUT, "no byte moved for half a minute");
  leave(p);
}

static size_t on_asked_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                            size_t tail) {
  perf *p = user;
  (void)s;
  (void)data;
  (void)head;
  (void)tail;
  if (len > p->config.download_bytes - p->received) {
    finish(p, PU_E_PROTOCOL, "the peer sent more than it was asked for");
    return len;
  }
  p->received += len;
  p->moved_us = now_us(p);
  return len;
}

static void on_asked_eof(void *user, pu_stream *s) {
  perf *p = user;
  (void)s;
  if (p->out.left > 0)
    finish(p, PU_E_EOF, "the peer closed the stream before it had everything");
  else if (p->received < p->config.download_bytes)
    finish(p, PU_E_EOF, "the peer sent less than it was asked for");
  else
    finish(p, 0, "");
}

static void on_asked_writable(void *user, pu_stream *s) {
  (void)s;
  send_asked(user);
}

static void on_asked_end(void *user, pu_stream *s, int status, uint32_t code) {
  perf *p = user;
  (void)s;
  (void)code;
  p->out.stream = NULL;
  finish(p, status,
         status == PU_E_UNSUPPORTED ? "the peer does not measure"
                                    : "the stream ended before the measurement did");
}

static const pu_stream_events asked_events = {on_asked_data, on_asked_eof, on_asked_writable,
                                              on_asked_end};

static void begin(perf *p, pu_stream *s) {
  uint8_t header[HEADER_BYTES];
  p->out.stream = s;
  pu_stream_set_events(s, &asked_events, p);
  p->started_us = p->told_us = p->moved_us = now_us(p);
  for (size_t i = 0; i < HEADER_BYTES; i++)
    header[i] = (uint8_t)(p->config.download_bytes >> (8 * (HEADER_BYTES - 1 - i)));
  int status = pu_timer_after(&p->tick, TICK_US);
  if (status == 0)
    status = pu_stream_write_now(s, header, sizeof(header));
  if (p->out.stream == NULL) /* the connection ended over it, and on_end has told */
    return;
  if (status != 0)
    finish(p, status, "cannot write to the stream");
  else
    send_asked(p);
}

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  perf *p = data;
  p->opening = NULL;
  enter(p);
  if (p->op.done) { /* cancelled or out of time; told already, or about to be */
    if (s != NULL)
      pu_stream_reset(s, 0);
  } else if (status != 0) {
    finish(p, status, err->detail);
  } else {
    begin(p, s);
  }
  leave(p);
}

int pu_engine_perf(pu_engine *e, const pu_peer_id *peer, const pu_perf_config *config,
                   pu_perf_cb cb, void *data, pu_op **op) {
  static const char *const protocols[] = {PU_PERF_ID};
  perf *p = pu_zalloc(&e->mem, sizeof(*p));
  if (p == NULL)
    return PU_E_NOMEM;
  int rc = pu_op_start(&p->op, e, config->timeout_ms == 0 ? PU_OP_NO_TIMEOUT : config->timeout_ms,
                       complete, abandon);
  if (rc != 0) {
    pu_free(p);
    return rc;
  }
  p->cb = cb;
  p->data = data;
  p->config = *config;
  p->out.left = config->upload_bytes;
  pu_timer_init(&p->tick, e->platform, on_tick, p);
  rc = pu_engine_open_stream(e, peer, protocols, 1, PU_OPEN_LIMITED | PU_OPEN_LAZY, 0, on_open, p,
                             &p->opening);
  if (rc != 0) {
    pu_op_unlink(&p->op);
    pu_free(p);
    return rc;
  }
  if (op != NULL)
    *op = &p->op;
  return 0;
}
