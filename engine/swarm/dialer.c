/* Dialing a peer; see dialer.h and wire 4. One dial per peer and kind; whoever wants the peer joins
 * it. */
#include "swarm/dialer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "swarm/conn.h"
#include "swarm/op.h"
#include "swarm/peerstore.h"
#include "swarm/rank.h"
#include "swarm/resolve.h"

#define CONNECT_TIMEOUT_MS 60000u
/* A direct address that a faster one ends before had its chance when it ran for so long. */
#define CHANCE_US PU_RANK_PUBLIC_US
#define DETAIL_MAX 240

typedef struct candidate {
  pu_multiaddr addr;
  pu_ma_target target;
  pu_transport *transport;
  uint64_t delay_us; /* after the dial's begin */
  bool is_public;
} candidate;

typedef struct dial dial;

typedef struct attempt {
  dial *dial;
  candidate *candidate; /* NULL: free slot */
  pu_transport_dial *transport_dial;
  pu_conn *conn;  /* in handshake */
  pu_timer limit; /* what one address may take */
  uint64_t began_us;
} attempt;

struct dial {
  pu_list link; /* engine->dials */
  pu_engine *engine;
  pu_peer_id peer;
  bool direct, ended;
  bool background; /* nobody waits: a relayed connection stands, and a direct one would be better */
  unsigned busy;   /* calls of the policy inside: freed at none */
  pu_list waiters;
  pu_names *names; /* looking them up */
  pu_timer timer;  /* begin, then the next candidate's turn */
  uint64_t began_us;
  candidate *candidates;
  size_t count, started;
  attempt attempts[PU_DIAL_PARALLEL];
  size_t running;
  int status; /* of the failures, when they agree */
  unsigned failures;
  char detail[DETAIL_MAX];
  size_t detail_len;
};

/* ---- the end of a dial ---- */

static void note(dial *d, int status, const char *format, ...) PU_PRINTF(3, 4);
static void note(dial *d, int status, const char *format, ...) {
  va_list args;
  d->status = d->failures++ == 0 || d->status == status ? status : PU_E_UNREACHABLE;
  if (d->detail_len + 4 >= sizeof d->detail)
    return;
  if (d->detail_len > 0)
    d->detail_len += (size_t)snprintf(d->detail + d->detail_len, 3, "; ");
  va_start(args, format);
  int n = vsnprintf(d->detail + d->detail_len, sizeof d->detail - d->detail_len, format, args);
  va_end(args);
  d->detail_len += (size_t)n;
  if (d->detail_len >= sizeof d->detail)
    d->detail_len = sizeof d->detail - 1;
}

/* let_go ends what an attempt has under way. */
static void let_go(attempt *a, int status, const char *why) {
  pu_timer_stop(&a->limit);
  if (a->transport_dial != NULL)
    a->candidate->transport->ops->cancel(a->transport_dial);
  a->transport_dial = NULL;
  if (a->conn != NULL) {
    pu_conn *conn = a->conn;
    a->conn = NULL;
    conn->ready.cb = NULL;
    pu_conn_end(conn, status, why);
  }
}

/* note_dark learns whether UDP gets anywhere from a QUIC attempt to a public address. */
static void note_dark(const attempt *a, bool worked) {
  pu_engine *e = a->dial->engine;
  if (a->candidate->target.kind == PU_MA_KIND_QUIC && a->candidate->is_public)
    pu_dark_note(&e->udp_dark, worked, pu_now_us(e->platform));
}

static void stop_attempt(attempt *a) {
  if (a->candidate == NULL)
    return;
  if (pu_now_us(a->dial->engine->platform) - a->began_us >= CHANCE_US)
    note_dark(a, false);
  let_go(a, PU_E_CANCELED, "another address was faster");
  a->candidate = NULL;
  a->dial->running--;
}

/* tell_waiters gives the dial's outcome to all who wait. They may begin new dials in their
 * callbacks. */
static void tell_waiters(dial *d, pu_conn *conn, int status, const char *detail) {
  pu_list told;
  pu_list_init(&told);
  while (!pu_list_empty(&d->waiters)) { /* who comes in a callback waits for the next outcome */
    pu_waiter *w = PU_CONTAINER_OF(d->waiters.next, pu_waiter, link);
    pu_list_remove(&w->link);
    w->dial = NULL;
    pu_list_push(&told, &w->link);
  }
  while (!pu_list_empty(&told)) {
    pu_waiter *w = PU_CONTAINER_OF(told.next, pu_waiter, link);
    pu_list_remove(&w->link);
    if (status == 0 && conn->closed)
      w->cb(w->data, NULL, PU_E_GONE, "the connection ended at once");
    else
      w->cb(w->data, conn, status, detail);
  }
}

static void free_dial(dial *d) {
  pu_free(d->candidates);
  pu_free(d);
}

/* finish tells everybody who waits and frees the dial. */
static void finish(dial *d, pu_conn *conn, int status, const char *detail) {
  if (d->ended)
    return;
  d->ended = true;
  d->busy++;
  pu_list_remove(&d->link);
  pu_timer_stop(&d->timer);
  pu_names_cancel(d->names);
  d->names = NULL;
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++)
    stop_attempt(&d->attempts[i]);
  tell_waiters(d, conn, status, detail);
  if (--d->busy == 0)
    free_dial(d);
}

/* has_direct says whether a direct address may still answer. */
static bool has_direct(const dial *d) {
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++)
    if (d->attempts[i].candidate != NULL &&
        d->attempts[i].candidate->target.kind != PU_MA_KIND_CIRCUIT)
      return true;
  for (size_t i = d->started; i < d->count; i++)
    if (d->candidates[i].target.kind != PU_MA_KIND_CIRCUIT)
      return true;
  return false;
}

/* go_on_directly tells who waits of a relayed connection, and goes on with the direct addresses: a
 * relayed connection that is there first does not stop a direct one from taking its place. */
static void go_on_directly(dial *d, pu_conn *conn) {
  d->direct = d->background = true;
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++) {
    attempt *a = &d->attempts[i];
    if (a->candidate != NULL && a->candidate->target.kind == PU_MA_KIND_CIRCUIT)
      stop_attempt(a);
  }
  d->busy++;
  tell_waiters(d, conn, 0, "");
  if (--d->busy == 0 && d->ended)
    free_dial(d);
}

static void fail(dial *d) {
  char detail[DETAIL_MAX + 16];
  (void)snprintf(detail, sizeof detail, "tried %s", d->detail);
  finish(d, NULL, d->status, detail);
}

/* ---- candidates ---- */

static pu_transport *transport_for(pu_engine *e, const pu_ma_target *target) {
  PU_LIST_EACH(&e->transports, node, tmp) {
    pu_transport *t = PU_CONTAINER_OF(node, pu_transport, link);
    if (t->ops->can_dial(t, target))
      return t;
  }
  return NULL;
}

static bool allowed(dial *d, const candidate *c) {
  char addr[PU_MULTIADDR_MAX_TEXT];
  const pu_question question = {.ask = PU_ASK_DIAL,
                                .peer = &d->peer,
                                .addr = pu_multiaddr_text(&c->addr, addr),
                                .relayed = c->target.kind == PU_MA_KIND_CIRCUIT};
  return pu_policy_ask(d->engine, &question) == 0;
}

/* schedule sorts the candidates by their turns. */
static int schedule(dial *d) {
  pu_engine *e = d->engine;
  pu_rank_item *items = pu_alloc(&e->mem, d->count * sizeof *items);
  candidate *sorted = pu_alloc(&e->mem, PU_DIAL_CANDIDATES_MAX * sizeof *sorted);
  if (items == NULL || sorted == NULL) {
    pu_free(items);
    pu_free(sorted);
    return PU_E_NOMEM;
  }
  bool quic = false;
  for (size_t i = 0; i < d->count; i++) {
    const candidate *c = &d->candidates[i];
    items[i] = (pu_rank_item){
        .kind = c->target.kind, .family = c->target.family, .is_public = c->is_public, .index = i};
    quic = quic || (c->target.kind == PU_MA_KIND_QUIC && c->is_public);
  }
  pu_rank(items, d->count, quic && pu_dark_ask(&e->udp_dark, pu_now_us(e->platform)));
  for (size_t i = 0; i < d->count; i++) {
    sorted[i] = d->candidates[items[i].index];
    sorted[i].delay_us = items[i].delay_us;
  }
  pu_free(d->candidates);
  pu_free(items);
  d->candidates = sorted;
  return 0;
}

/* gather makes candidates of the |known| addresses; false ends the dial (it is freed). */
static bool gather(dial *d, const pu_multiaddr *addrs, size_t known) {
  pu_engine *e = d->engine;
  char id[PU_PEER_ID_MAX_TEXT];
  size_t denied = 0, waiting = 0;
  d->candidates = pu_zalloc(&e->mem, PU_DIAL_CANDIDATES_MAX * sizeof *d->candidates);
  bool memory = addrs != NULL && d->candidates != NULL;
  if (!memory)
    known = 0;
  /* Addresses that failed a moment ago are left out, unless nothing else is known. */
  d->busy++; /* who hears of a denial may end the dial */
  for (int pass = 0; pass < 2 && d->count == 0 && !d->ended; pass++) {
    for (size_t i = 0; i < known && !d->ended; i++) {
      candidate *c = &d->candidates[d->count];
      *c = (candidate){.addr = addrs[i]};
      pu_multiaddr_target(&c->addr, &c->target);
      c->target.peer = d->peer; /* the store keeps addresses without it */
      if (d->direct && c->target.kind == PU_MA_KIND_CIRCUIT)
        continue;
      if (pass == 0 && pu_peerstore_in_backoff(e->peerstore, &d->peer, &c->addr)) {
        waiting++;
        continue;
      }
      c->transport = transport_for(e, &c->target);
      if (c->transport == NULL)
        continue;
      if (!allowed(d, c)) {
        denied++;
        continue;
      }
      c->is_public = pu_multiaddr_is_public(&c->addr);
      d->count++;
    }
    if (waiting == 0)
      break;
  }
  if (--d->busy == 0 && d->ended) {
    free_dial(d);
    return false;
  }
  if (d->count > 0 && schedule(d) != 0) {
    memory = false;
    d->count = 0;
  }
  (void)pu_peer_id_text(&d->peer, id);
  if (d->count == 0) {
    char detail[DETAIL_MAX];
    int status = denied > 0 ? PU_E_DENIED : PU_E_NO_ADDRESS;
    if (!memory) {
      status = PU_E_NOMEM;
      (void)snprintf(detail, sizeof detail, "no memory to dial %s", id);
    } else if (denied > 0)
      (void)snprintf(detail, sizeof detail, "the policy allows no dial to %s", id);
    else if (known > 0)
      (void)snprintf(detail, sizeof detail,
                     "none of the %zu known addresses of %s can be dialled%s", known, id,
                     d->direct ? " without a relay" : "");
    else
      (void)snprintf(detail, sizeof detail, "no address of %s is known", id);
    finish(d, NULL, status, detail);
    return false;
  }
  return true;
}

/* ---- attempts ---- */

static void start_due(dial *d);

static void attempt_failed(attempt *a, int status, const char *detail) {
  dial *d = a->dial;
  char addr[PU_MULTIADDR_MAX_TEXT];
  pu_peerstore_dialled(d->engine->peerstore, &d->peer, &a->candidate->addr, false);
  note(d, status, "%s: %s", pu_multiaddr_text(&a->candidate->addr, addr),
       detail[0] != '\0' ? detail : pu_error_sentence(status));
  if (status == PU_E_TIMEOUT || status == PU_E_UNREACHABLE)
    note_dark(a, false);
  pu_timer_stop(&a->limit);
  a->candidate = NULL;
  a->transport_dial = NULL;
  a->conn = NULL;
  d->running--;
  start_due(d);
}

static void on_limit(void *data) {
  attempt *a = data;
  let_go(a, PU_E_TIMEOUT, "the dial took too long");
  attempt_failed(a, PU_E_TIMEOUT, "");
}

static void on_ready(void *data, pu_conn *conn, int status, const char *detail) {
  attempt *a = data;
  dial *d = a->dial;
  if (status != 0) {
    attempt_failed(a, status, detail);
    return;
  }
  pu_peerstore_dialled(d->engine->peerstore, &d->peer, &a->candidate->addr, true);
  note_dark(a, true);
  pu_timer_stop(&a->limit);
  a->candidate = NULL;
  a->conn = NULL;
  d->running--;
  if (conn->info.relayed && has_direct(d))
    go_on_directly(d, conn);
  else
    finish(d, conn, 0, "");
}

static void on_dialled(void *data, int status, const char *detail, const pu_transport_conn *raw) {
  attempt *a = data;
  dial *d = a->dial;
  a->transport_dial = NULL;
  if (status == 0) {
    const pu_conn_ready ready = {on_ready, a};
    status = pu_conn_new(d->engine, raw, &d->peer, &ready, &a->conn);
    detail = status == PU_E_LIMIT ? d->engine->refusal.text : "";
  }
  if (status != 0)
    attempt_failed(a, status, detail);
}

static attempt *free_slot(dial *d) {
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++)
    if (d->attempts[i].candidate == NULL)
      return &d->attempts[i];
  return NULL;
}

static int start_attempt(dial *d, candidate *c) {
  attempt *a = free_slot(d);
  PU_ASSERT(a != NULL);
  *a = (attempt){.dial = d, .candidate = c, .began_us = pu_now_us(d->engine->platform)};
  pu_timer_init(&a->limit, d->engine->platform, on_limit, a);
  d->running++;
  int status = pu_timer_after(&a->limit, d->engine->limits.dial_ms * 1000ull);
  if (status == 0)
    status = c->transport->ops->dial(c->transport, &c->addr, &c->target, on_dialled, a,
                                     &a->transport_dial);
  if (status != 0) {
    char addr[PU_MULTIADDR_MAX_TEXT];
    pu_timer_stop(&a->limit);
    a->candidate = NULL;
    d->running--;
    note(d, status, "%s: %s", pu_multiaddr_text(&c->addr, addr), pu_error_sentence(status));
  }
  return status;
}

/* start_due starts every candidate whose time has come, and one early when nothing else runs. */
static void start_due(dial *d) {
  const uint64_t now = pu_now_us(d->engine->platform);
  while (d->started < d->count && d->running < PU_DIAL_PARALLEL) {
    candidate *c = &d->candidates[d->started];
    const uint64_t at = d->began_us + c->delay_us;
    if (at > now && d->running > 0) {
      if (pu_timer_at(&d->timer, at) == 0)
        return;
      /* without memory for the timer it starts now */
    }
    d->started++;
    if (d->direct && c->target.kind == PU_MA_KIND_CIRCUIT)
      continue; /* a relayed connection stands already */
    (void)start_attempt(d, c);
  }
  if (d->running == 0)
    fail(d);
}

static void begin(dial *d, const pu_multiaddr *addrs, size_t count) {
  d->began_us = pu_now_us(d->engine->platform);
  if (gather(d, addrs, count))
    start_due(d);
}

static void on_named(void *data, const pu_multiaddr *addrs, size_t count) {
  dial *d = data;
  d->names = NULL;
  begin(d, addrs, count);
}

/* look_up begins the dial with what is known of the peer, after names were looked up if there are
 * any. */
static void look_up(dial *d) {
  pu_engine *e = d->engine;
  pu_multiaddr *addrs = pu_alloc(&e->mem, PU_DIAL_CANDIDATES_MAX * sizeof *addrs);
  const size_t known =
      addrs == NULL ? 0 : pu_peerstore_addrs(e->peerstore, &d->peer, addrs, PU_DIAL_CANDIDATES_MAX);
  if (!pu_names_needed(addrs, known) ||
      pu_names_start(e, &d->peer, addrs, known, PU_DIAL_CANDIDATES_MAX, on_named, d, &d->names) !=
          0)
    begin(d, addrs, known);
  pu_free(addrs);
}

static void on_timer(void *data) {
  dial *d = data;
  if (d->candidates == NULL)
    look_up(d);
  else
    start_due(d);
}

/* ---- waiting ---- */

int pu_dial_wait(pu_engine *e, const pu_peer_id *peer, bool direct, pu_waiter *w) {
  if (e->closing)
    return PU_E_CLOSED;
  if (pu_peer_id_equal(peer, pu_key_peer_id(e->key)))
    return PU_E_INVAL;
  PU_LIST_EACH(&e->dials, node, tmp) {
    dial *d = PU_CONTAINER_OF(node, dial, link);
    if (d->direct == direct && pu_peer_id_equal(&d->peer, peer)) {
      pu_list_push(&d->waiters, &w->link);
      w->dial = d;
      return 0;
    }
  }
  dial *d = pu_zalloc(&e->mem, sizeof *d);
  if (d == NULL)
    return PU_E_NOMEM;
  d->engine = e;
  d->peer = *peer;
  d->direct = direct;
  pu_list_init(&d->waiters);
  pu_timer_init(&d->timer, e->platform, on_timer, d);
  int status = pu_timer_after(&d->timer, 0); /* never inside the call that asked */
  if (status != 0) {
    pu_free(d);
    return status;
  }
  pu_list_push(&e->dials, &d->link);
  pu_list_push(&d->waiters, &w->link);
  w->dial = d;
  return 0;
}

void pu_dial_unwait(pu_waiter *w) {
  dial *d = w->dial;
  pu_list_remove(&w->link);
  w->dial = NULL;
  if (d != NULL && pu_list_empty(&d->waiters) && !d->ended && !d->background)
    finish(d, NULL, PU_E_CANCELED, "");
}

void pu_dial_conn_opened(pu_conn *c) {
  PU_LIST_EACH(&c->engine->dials, node, tmp) {
    dial *d = PU_CONTAINER_OF(node, dial, link);
    if (pu_peer_id_equal(&d->peer, &c->peer) && (!d->direct || !c->info.relayed)) {
      finish(d, c, 0, "");
      return; /* the list may have changed; a second dial to the peer finds its own way */
    }
  }
}

void pu_dials_end(pu_engine *e) {
  while (!pu_list_empty(&e->dials))
    finish(PU_CONTAINER_OF(e->dials.next, dial, link), NULL, PU_E_CANCELED, "");
}

/* ---- pu_engine_connect ---- */

typedef struct connect_op {
  pu_op op;
  pu_waiter waiter;
  pu_peer_id peer;
  uint64_t conn_id;
  pu_connect_cb cb;
  void *data;
} connect_op;

static void complete(pu_op *op) {
  connect_op *o = PU_CONTAINER_OF(op, connect_op, op);
  pu_op_unlink(op);
  pu_dial_unwait(&o->waiter);
  pu_conn *c = op->status == 0 ? pu_conn_find(op->engine, o->conn_id) : NULL;
  if (op->status == 0 && c == NULL)
    (void)pu_error_set(&op->err, op->status = PU_E_GONE, "the connection ended at once");
  o->cb(o->data, op->status, &op->err, c);
  pu_free(o);
}

static void abandon(pu_op *op) {
  connect_op *o = PU_CONTAINER_OF(op, connect_op, op);
  char id[PU_PEER_ID_MAX_TEXT];
  (void)snprintf(op->err.detail, sizeof op->err.detail, "no address of %s answered in time",
                 pu_peer_id_text(&o->peer, id));
  pu_dial_unwait(&o->waiter);
}

static void on_conn(void *data, pu_conn *c, int status, const char *detail) {
  connect_op *o = data;
  if (status == 0)
    o->conn_id = c->id;
  pu_op_finish(&o->op, status, detail);
}

int pu_engine_connect(pu_engine *e, const pu_peer_id *peer, unsigned flags, uint32_t timeout_ms,
                      pu_connect_cb cb, void *data, pu_op **op) {
  const bool direct = (flags & PU_CONNECT_DIRECT) != 0;
  if (cb == NULL || peer->len == 0)
    return PU_E_INVAL;
  connect_op *o = pu_zalloc(&e->mem, sizeof *o);
  if (o == NULL)
    return PU_E_NOMEM;
  o->peer = *peer;
  o->cb = cb;
  o->data = data;
  o->waiter.cb = on_conn;
  o->waiter.data = o;
  pu_list_init(&o->waiter.link);
  int status =
      pu_op_start(&o->op, e, timeout_ms == 0 ? CONNECT_TIMEOUT_MS : timeout_ms, complete, abandon);
  if (status != 0) {
    pu_free(o);
    return status;
  }
  pu_conn *c = (flags & PU_CONNECT_NEW) == 0 ? pu_engine_find_conn(e, peer, direct) : NULL;
  if (c != NULL) {
    o->conn_id = c->id;
    pu_op_finish(&o->op, 0, "");
  } else {
    status = pu_dial_wait(e, peer, direct, &o->waiter);
    if (status != 0) {
      pu_op_unlink(&o->op);
      pu_free(o);
      return status;
    }
  }
  if (op != NULL)
    *op = &o->op;
  return 0;
}
