/* Relayed connections: the raw side and the dialling side (wire 13.2). The accepting side is in
 * relay_client.c. */
#include "protocols/circuit.h"
#include "platform/assert.h"
#include "protocols/relay_send.h"
#include "swarm/conn.h"
#include "swarm/op.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OPEN_TIMEOUT_MS 20000u
#define STATUS_TIMEOUT_US 60000000u
/* An end within this of the announced duration is taken to be the relay's doing. */
#define DURATION_SLACK_US 2000000u

/* ---- raw ---- */

typedef struct circuit_raw {
  pu_raw base;
  pu_engine *engine;
  pu_stream *stream; /* NULL once it ended */
  pu_stream *corked;
  const pu_raw_events *events;
  void *user;
  pu_timer resume; /* reading goes on in the loop's next turn: its wish may come inside a read */
  bool want_read, closed;
  unsigned busy;
  bool limited;
  uint32_t limit_duration_s;
  uint64_t limit_data_bytes;
  uint64_t began_us, bytes_in, bytes_out;
} circuit_raw;

static void leave(circuit_raw *r) {
  if (--r->busy == 0 && r->closed)
    pu_free(r);
}

/* end_status says whether the relay's limit explains the end. The relay counts what passes in each
 * direction, handshakes included, as we do. */
static int end_status(const circuit_raw *r, int status) {
  const uint64_t age_us = pu_now_us(r->engine->platform) - r->began_us;
  if (r->limited && r->limit_data_bytes != 0 &&
      (r->bytes_in >= r->limit_data_bytes || r->bytes_out >= r->limit_data_bytes))
    return PU_E_RELAY_LIMIT;
  if (r->limited && r->limit_duration_s != 0 &&
      age_us + DURATION_SLACK_US >= r->limit_duration_s * 1000000ull)
    return PU_E_RELAY_LIMIT;
  return status;
}

static void tell_end(circuit_raw *r, int status) {
  if (r->events != NULL && !r->closed)
    r->events->on_end(r->user, end_status(r, status));
}

static size_t on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  circuit_raw *r = user;
  (void)s;
  if (r->events == NULL || !r->want_read)
    return 0;
  r->bytes_in += len;
  r->busy++;
  r->events->on_bytes(r->user, (pu_span){data, len, head, tail});
  leave(r);
  return len;
}

static void on_eof(void *user, pu_stream *s) {
  circuit_raw *r = user;
  (void)s;
  r->busy++;
  tell_end(r, PU_E_EOF);
  leave(r);
}

static void on_writable(void *user, pu_stream *s) {
  circuit_raw *r = user;
  (void)s;
  r->busy++;
  if (r->events != NULL)
    r->events->on_writable(r->user);
  leave(r);
}

static void on_end(void *user, pu_stream *s, int status, uint32_t code) {
  circuit_raw *r = user;
  (void)s;
  (void)code;
  r->stream = NULL;
  r->busy++;
  tell_end(r, status);
  leave(r);
}

static const pu_stream_events raw_stream_events = {on_data, on_eof, on_writable, on_end};

static void raw_set_events(pu_raw *base, const pu_raw_events *events, void *user) {
  circuit_raw *r = (circuit_raw *)base;
  r->events = events;
  r->user = user;
}

static void raw_want_read(pu_raw *base, bool on) {
  circuit_raw *r = (circuit_raw *)base;
  const bool before = r->want_read;
  r->want_read = on;
  if (on && !before && pu_timer_after(&r->resume, 0) != 0)
    tell_end(r, PU_E_NOMEM);
}

static void on_resume(void *data) {
  circuit_raw *r = data;
  if (r->stream != NULL && r->want_read)
    pu_stream_resume(r->stream);
}

static ssize_t raw_writev(pu_raw *base, const pu_iov *iov, size_t n) {
  circuit_raw *r = (circuit_raw *)base;
  ssize_t total = 0;
  for (size_t i = 0; i < n; i++) {
    if (r->stream == NULL)
      return PU_E_RESET;
    ssize_t taken = pu_stream_write(r->stream, iov[i].base, iov[i].len);
    if (taken < 0)
      return taken;
    total += taken;
    r->bytes_out += (uint64_t)taken;
    if ((size_t)taken < iov[i].len)
      break;
  }
  return total;
}

static ssize_t raw_write_span(pu_raw *base, pu_span io) {
  circuit_raw *r = (circuit_raw *)base;
  if (r->stream == NULL)
    return PU_E_RESET;
  ssize_t taken = pu_stream_write_room(r->stream, io.data, io.len, io.head, io.tail);
  if (taken > 0)
    r->bytes_out += (uint64_t)taken;
  return taken;
}

static void raw_cork(pu_raw *base) {
  circuit_raw *r = (circuit_raw *)base;
  r->corked = r->stream;
  if (r->corked != NULL)
    pu_stream_cork(r->corked);
}

static void raw_uncork(pu_raw *base) {
  circuit_raw *r = (circuit_raw *)base;
  pu_stream *s = r->corked;
  r->corked = NULL;
  if (s != NULL)
    pu_stream_uncork(s);
}

static void raw_close(pu_raw *base, bool abort) {
  circuit_raw *r = (circuit_raw *)base;
  if (r->closed)
    return;
  r->closed = true;
  r->events = NULL;
  r->busy++;
  pu_timer_stop(&r->resume);
  raw_uncork(base);
  if (r->stream != NULL) {
    pu_stream *s = r->stream;
    r->stream = NULL;
    if (abort)
      pu_stream_reset(s, 0);
    else
      pu_stream_close(s);
  }
  leave(r);
}

static const pu_raw_ops raw_ops = {
    .set_events = raw_set_events,
    .want_read = raw_want_read,
    .writev = raw_writev,
    .write_span = raw_write_span,
    .cork = raw_cork,
    .uncork = raw_uncork,
    .close = raw_close,
};

int pu_circuit_raw_new(pu_engine *e, pu_stream *s, const pu_transport_conn *limits, pu_raw **out) {
  circuit_raw *r = pu_zalloc(&e->mem, sizeof *r);
  if (r == NULL) {
    pu_stream_reset(s, 0);
    return PU_E_NOMEM;
  }
  r->base.ops = &raw_ops;
  r->engine = e;
  r->stream = s;
  r->limited = limits->limited;
  r->limit_duration_s = limits->limit_duration_s;
  r->limit_data_bytes = limits->limit_data_bytes;
  r->began_us = pu_now_us(e->platform);
  pu_timer_init(&r->resume, e->platform, on_resume, r);
  pu_stream_set_events(s, &raw_stream_events, r);
  *out = &r->base;
  return 0;
}

int pu_circuit_conn_fill(pu_stream *s, bool limited, uint32_t duration_s, uint64_t data_bytes,
                         pu_transport_conn *out) {
  const pu_conn *relay = pu_stream_conn(s);
  *out = (pu_transport_conn){.transport = "circuit",
                             .remote = relay->info.remote,
                             .local = relay->info.local,
                             .relayed = true,
                             .limited = limited,
                             .limit_duration_s = duration_s,
                             .limit_data_bytes = data_bytes,
                             .max_record = pu_stream_chunk(s)};
  int status = pu_multiaddr_append_p2p(&out->remote, &relay->peer);
  return status == 0 ? pu_multiaddr_append_circuit(&out->remote) : status;
}

/* ---- dialling ---- */

typedef struct circuit_transport {
  pu_transport base;
  pu_engine *engine;
} circuit_transport;

typedef struct circuit_dial {
  pu_transport_dial base;
  pu_engine *engine;
  pu_transport_dial_cb cb;
  void *data;
  pu_op *op;
  pu_stream *stream;
  pu_timer timer;
  pu_peer_id relay, target;
  bool orphan; /* cancelled while opening: freed by on_open */
  pu_relay_reader reader;
} circuit_dial;

static void free_dial(circuit_dial *d) {
  pu_timer_stop(&d->timer);
  pu_free(d);
}

static void fail_dial(circuit_dial *d, int status, const char *detail) {
  pu_transport_dial_cb cb = d->cb;
  void *data = d->data;
  if (d->stream != NULL)
    pu_stream_reset(d->stream, 0);
  free_dial(d);
  cb(data, status, detail, NULL);
}

static void on_status(circuit_dial *d) {
  pu_relay_message m;
  pu_transport_conn conn;
  char detail[160], relay[PU_PEER_ID_MAX_TEXT];
  (void)pu_peer_id_text(&d->relay, relay);
  int status = pu_relay_reader_decode(&d->reader, false, &m);
  if (status != 0 || m.type != PU_RELAY_STATUS || !m.has_status) {
    fail_dial(d, PU_E_PROTOCOL, "the relay's answer makes no sense");
    return;
  }
  if (m.status != PU_RELAY_OK) {
    const char *why = m.status == PU_RELAY_NO_RESERVATION ? ": the peer is not connected to it"
                      : m.status == PU_RELAY_PERMISSION_DENIED
                          ? ": it does not allow us this connection"
                      : m.status == PU_RELAY_RESOURCE_LIMIT_EXCEEDED ? ": too many circuits at once"
                      : m.status == PU_RELAY_CONNECTION_FAILED ? ": the peer did not take it"
                                                               : "";
    (void)snprintf(detail, sizeof detail, "relay %.*s says %s%s", 60, relay,
                   pu_relay_status_name(m.status), why);
    fail_dial(d, pu_relay_status_error(m.status), detail);
    return;
  }
  pu_stream *s = d->stream;
  d->stream = NULL;
  status = pu_circuit_conn_fill(s, m.has_limit, m.limit_duration_s, m.limit_data_bytes, &conn);
  if (status == 0)
    status = pu_circuit_raw_new(d->engine, s, &conn, &conn.raw);
  else
    pu_stream_reset(s, 0);
  if (status != 0) {
    fail_dial(d, status, "");
    return;
  }
  pu_transport_dial_cb cb = d->cb;
  void *data = d->data;
  free_dial(d);
  cb(data, 0, "", &conn);
}

static size_t dial_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  circuit_dial *d = user;
  bool done;
  (void)s;
  (void)head;
  (void)tail;
  ssize_t used = pu_relay_reader_feed(&d->reader, data, len, &done);
  if (used < 0)
    fail_dial(d, (int)used, "the relay's answer makes no sense");
  else if (done)
    on_status(d);
  return used < 0 ? len : (size_t)used;
}

static void dial_on_eof(void *user, pu_stream *s) {
  (void)s;
  fail_dial(user, PU_E_EOF, "the relay closed the stream without an answer");
}

static void dial_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  circuit_dial *d = user;
  (void)s;
  (void)code;
  d->stream = NULL;
  fail_dial(d, status, "the relay broke off");
}

static const pu_stream_events dial_events = {dial_on_data, dial_on_eof, NULL, dial_on_end};

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  circuit_dial *d = data;
  d->op = NULL;
  if (d->orphan) {
    if (s != NULL)
      pu_stream_reset(s, 0);
    free_dial(d);
    return;
  }
  if (status != 0) {
    char detail[220];
    (void)snprintf(detail, sizeof detail, "relay: %.200s",
                   err->detail[0] != '\0' ? err->detail : pu_error_sentence(status));
    fail_dial(d, status, detail);
    return;
  }
  const pu_relay_message m = {.type = PU_RELAY_CONNECT,
                              .has_peer = true,
                              .peer = {d->target.bytes, d->target.len}};
  status = pu_relay_send_first(s, &m, &dial_events, d);
  if (status == 0)
    d->stream = s;
  else
    fail_dial(d, status, "cannot write to the relay");
}

static void on_timer(void *data) {
  circuit_dial *d = data;
  PU_ASSERT(d->op == NULL); /* opening ends long before */
  fail_dial(d, PU_E_TIMEOUT, "the relay does not answer");
}

static bool can_dial(pu_transport *t, const pu_ma_target *target) {
  (void)t;
  return target->kind == PU_MA_KIND_CIRCUIT && target->peer.len != 0;
}

static int dial(pu_transport *base, const pu_multiaddr *addr, const pu_ma_target *target,
                pu_transport_dial_cb cb, void *data, pu_transport_dial **out) {
  static const char *const protocols[] = {PU_RELAY_HOP_ID};
  pu_engine *e = ((circuit_transport *)base)->engine;
  char text[PU_MULTIADDR_MAX_TEXT];
  int status;
  (void)addr;
  if (pu_peer_id_equal(&target->relay, pu_engine_peer(e)) ||
      pu_peer_id_equal(&target->relay, &target->peer))
    return PU_E_INVAL;
  if (target->relay_addr.len != 0) {
    status = pu_engine_add_addr(e, &target->relay, pu_multiaddr_text(&target->relay_addr, text),
                                3600, NULL);
    if (status != 0)
      return status;
  }
  circuit_dial *d = pu_zalloc(&e->mem, sizeof *d);
  if (d == NULL)
    return PU_E_NOMEM;
  d->base.transport = base;
  d->engine = e;
  d->cb = cb;
  d->data = data;
  d->relay = target->relay;
  d->target = target->peer;
  pu_timer_init(&d->timer, e->platform, on_timer, d);
  status = pu_timer_after(&d->timer, STATUS_TIMEOUT_US);
  if (status == 0)
    status = pu_engine_open_stream(e, &d->relay, protocols, 1, PU_OPEN_LAZY, OPEN_TIMEOUT_MS,
                                   on_open, d, &d->op);
  if (status != 0) {
    free_dial(d);
    return status;
  }
  *out = &d->base;
  return 0;
}

static void cancel(pu_transport_dial *base) {
  circuit_dial *d = (circuit_dial *)base;
  pu_timer_stop(&d->timer);
  if (d->op != NULL) {
    d->orphan = true;
    pu_op_cancel(d->op);
    return;
  }
  pu_stream *s = d->stream;
  free_dial(d);
  if (s != NULL)
    pu_stream_reset(s, 0);
}

static void free_transport(pu_transport *t) {
  pu_free(t);
}

static const pu_transport_ops circuit_transport_ops = {
    .name = "circuit", .can_dial = can_dial, .dial = dial, .cancel = cancel, .free = free_transport};

int pu_circuit_transport_new(pu_engine *e, pu_transport **out) {
  circuit_transport *t = pu_zalloc(&e->mem, sizeof *t);
  if (t == NULL)
    return PU_E_NOMEM;
  t->base.ops = &circuit_transport_ops;
  t->engine = e;
  *out = &t->base;
  return 0;
}
