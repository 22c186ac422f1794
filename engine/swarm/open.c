/* Opening streams: find or make a connection, open at the session (waiting while it takes no more),
 * negotiate, hand over. */
#include "platform/assert.h"
#include "swarm/dialer.h"
#include "swarm/op.h"
#include "swarm/stream.h"
#include <stdio.h>
#include <string.h>

#define OPEN_TIMEOUT_MS 30000u

struct pu_open {
  pu_op op;
  pu_waiter waiter;  /* for a connection */
  pu_list waiting;   /* conn->waiting, for room at the session */
  pu_stream *stream; /* once open at the session */
  pu_peer_id peer;
  unsigned flags;
  pu_open_cb cb;
  void *data;
  size_t offer_count;
  char *offers[PU_STREAM_OFFERS_MAX];
};

static pu_open *open_of(pu_op *op) {
  return PU_CONTAINER_OF(op, pu_open, op);
}

static void free_open(pu_open *o) {
  for (size_t i = 0; i < o->offer_count; i++)
    pu_free(o->offers[i]);
  pu_free(o);
}

static void complete(pu_op *op) {
  pu_open *o = open_of(op);
  pu_stream *s = o->stream;
  int status = op->status;
  pu_op_unlink(op);
  pu_dial_unwait(&o->waiter);
  pu_list_remove(&o->waiting);
  if (s != NULL && status == 0 && (o->flags & PU_OPEN_LAZY) != 0 && !pu_stream_lazily_open(s)) {
    pu_stream_reset(s, 0);
    status = PU_E_NOMEM;
  }
  if (s != NULL && status == 0)
    pu_stream_hold(s); /* what the opener writes at once goes in one packet */
  o->cb(o->data, status, &op->err, status == 0 ? s : NULL);
  if (s != NULL && status == 0)
    pu_stream_unhold(s);
  free_open(o);
}

/* abandon lets go of whatever the operation waits for. */
static void abandon(pu_op *op) {
  pu_open *o = open_of(op);
  char id[PU_PEER_ID_MAX_TEXT];
  pu_dial_unwait(&o->waiter);
  pu_list_remove(&o->waiting);
  if (o->stream != NULL) {
    pu_stream *s = o->stream;
    o->stream = NULL;
    s->op = NULL;
    pu_stream_reset(s, 0x1001);
    (void)snprintf(op->err.detail, sizeof op->err.detail, "%s did not answer the offer of %s",
                   pu_peer_id_text(&o->peer, id), o->offers[0]);
  } else {
    (void)snprintf(op->err.detail, sizeof op->err.detail, "no connection to %s in time",
                   pu_peer_id_text(&o->peer, id));
  }
}

void pu_open_failed(pu_open *o, int status, uint32_t code) {
  char detail[128];
  o->stream = NULL;
  if (status == PU_E_UNSUPPORTED)
    (void)snprintf(detail, sizeof detail, "the peer does not speak %s", o->offers[0]);
  else if (status == PU_E_RESET)
    (void)snprintf(detail, sizeof detail, "the peer refused the stream (code 0x%x)", code);
  else if (status == PU_E_EOF)
    (void)snprintf(detail, sizeof detail, "the peer closed the stream before it agreed on %s",
                   o->offers[0]);
  else
    (void)snprintf(detail, sizeof detail, "while opening %s", o->offers[0]);
  if (o->op.done) /* lazily open, its completion is due */
    (void)pu_error_set(&o->op.err, o->op.status = status, "%s", detail);
  else
    pu_op_finish(&o->op, status, detail);
}

bool pu_open_negotiated(pu_stream *s, const char *protocol) {
  s->protocol = pu_strndup(&s->conn->mem, protocol, strlen(protocol));
  if (s->protocol != NULL)
    return true;
  pu_open *o = s->op;
  s->op = NULL;
  pu_stream_reset(s, 0);
  pu_open_failed(o, PU_E_NOMEM, 0);
  return false;
}

void pu_open_ready(pu_stream *s) {
  pu_open *o = s->op;
  s->op = NULL;
  o->flags &= ~(unsigned)PU_OPEN_LAZY;
  pu_op_finish_now(&o->op, 0, "");
}

/* begin opens the stream on |c|, or queues for it. */
static void begin(pu_open *o, pu_conn *c) {
  int status = 0;
  const bool lazy = (o->flags & PU_OPEN_LAZY) != 0 && o->offer_count == 1 &&
                    pu_peerstore_speaks(c->engine->peerstore, &c->peer, o->offers[0]) != 0;
  if (!lazy)
    o->flags &= ~(unsigned)PU_OPEN_LAZY;
  if (c->closed || !c->open) {
    pu_op_finish(&o->op, PU_E_GONE, "the connection ended");
    return;
  }
  pu_stream *s = pu_stream_begin(c, o, (const char *const *)o->offers, o->offer_count, lazy, &status);
  if (status == PU_E_NO_STREAMS) {
    pu_list_push(&c->waiting, &o->waiting);
    return;
  }
  if (s == NULL) {
    pu_op_finish(&o->op, status, "cannot open a stream");
    return;
  }
  o->stream = s;
  if (lazy) {
    pu_op_finish(&o->op, 0, "");
    return;
  }
  pu_conn_enter(c);
  status = pu_timer_after(&s->timer, c->engine->limits.negotiate_ms * 1000ull);
  if (status == 0)
    status = pu_stream_say(s);
  if (status != 0 && o->stream != NULL) {
    o->stream = NULL;
    s->op = NULL;
    pu_stream_reset(s, 0);
    pu_op_finish(&o->op, status, "cannot open a stream");
  }
  pu_conn_leave(c);
}

void pu_opens_go_on(pu_conn *c) {
  while (!pu_list_empty(&c->waiting)) {
    pu_list *node = c->waiting.next;
    pu_list_remove(node);
    begin(PU_CONTAINER_OF(node, pu_open, waiting), c);
    if (c->waiting.prev == node) { /* not yet: it stays the first */
      pu_list_remove(node);
      pu_list_push(c->waiting.next, node);
      return;
    }
  }
}

void pu_opens_end(pu_conn *c) {
  while (!pu_list_empty(&c->waiting)) {
    pu_list *node = c->waiting.next;
    pu_list_remove(node);
    pu_op_finish(&PU_CONTAINER_OF(node, pu_open, waiting)->op, PU_E_GONE, "the connection ended");
  }
}

static void on_conn(void *data, pu_conn *c, int status, const char *detail) {
  pu_open *o = data;
  if (status != 0)
    pu_op_finish_now(&o->op, status, detail);
  else if (pu_conn_is_limited(c) && (o->flags & PU_OPEN_LIMITED) == 0)
    pu_op_finish_now(&o->op, PU_E_LIMITED_CONN, "only a relayed connection with limits was found");
  else
    begin(o, c);
}

static int new_open(pu_engine *e, const pu_peer_id *peer, const char *const *protocols, size_t count,
                    unsigned flags, uint32_t timeout_ms, pu_open_cb cb, void *data, pu_open **out) {
  if (count == 0 || count > PU_STREAM_OFFERS_MAX || cb == NULL)
    return PU_E_INVAL;
  pu_open *o = pu_zalloc(&e->mem, sizeof *o);
  if (o == NULL)
    return PU_E_NOMEM;
  pu_list_init(&o->waiting);
  pu_list_init(&o->waiter.link);
  o->waiter.cb = on_conn;
  o->waiter.data = o;
  o->peer = *peer;
  o->flags = flags;
  o->cb = cb;
  o->data = data;
  int status = 0;
  for (size_t i = 0; i < count && status == 0; i++) {
    o->offers[i] = pu_strndup(&e->mem, protocols[i], strlen(protocols[i]));
    if (o->offers[i] == NULL)
      status = PU_E_NOMEM;
    else
      o->offer_count++;
  }
  if (status == 0)
    status = pu_op_start(&o->op, e, timeout_ms == 0 ? OPEN_TIMEOUT_MS : timeout_ms, complete, abandon);
  if (status != 0) {
    free_open(o);
    return status;
  }
  *out = o;
  return 0;
}

int pu_conn_open_stream(pu_conn *c, const char *const *protocols, size_t count, unsigned flags,
                        uint32_t timeout_ms, pu_open_cb cb, void *data, pu_op **op) {
  pu_open *o;
  if (c->closed || !c->open)
    return PU_E_GONE;
  int status = new_open(c->engine, &c->peer, protocols, count, flags, timeout_ms, cb, data, &o);
  if (status != 0)
    return status;
  begin(o, c);
  if (op != NULL)
    *op = &o->op;
  return 0;
}

int pu_engine_open_stream(pu_engine *e, const pu_peer_id *peer, const char *const *protocols,
                          size_t count, unsigned flags, uint32_t timeout_ms, pu_open_cb cb,
                          void *data, pu_op **op) {
  pu_open *o;
  pu_conn *c = pu_engine_find_conn(e, peer, false);
  const bool too_limited = c != NULL && pu_conn_is_limited(c) && (flags & PU_OPEN_LIMITED) == 0;
  if ((flags & PU_OPEN_NO_DIAL) != 0 && (c == NULL || too_limited))
    return too_limited ? PU_E_LIMITED_CONN : PU_E_GONE;
  int status = new_open(e, peer, protocols, count, flags, timeout_ms, cb, data, &o);
  if (status != 0)
    return status;
  if (c != NULL && !too_limited) {
    begin(o, c);
  } else {
    status = pu_dial_wait(e, peer, too_limited, &o->waiter);
    if (status != 0) {
      pu_op_unlink(&o->op);
      free_open(o);
      return status;
    }
  }
  if (op != NULL)
    *op = &o->op;
  return 0;
}
