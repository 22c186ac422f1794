/* Dialing a peer; see dialer.h and wire 4. One dial per peer and kind; whoever wants the peer joins
 * it. */
#include "swarm/dialer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "swarm/conn.h"
#include "swarm/peerstore.h"
#include "swarm/rank.h"
#include "swarm/resolve.h"
#include "swarm/ways.h"

#define DETAIL_MAX 240
/* An attempt that a faster one ends had its chance when it ran for so long, and for longer than
 * that. */
#define CHANCE_US PU_RANK_PUBLIC_US

typedef struct dial dial;

typedef struct attempt {
  dial *dial;
  pu_way *way; /* NULL: free slot */
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
  bool again;      /* addresses that rest have their turn, too */
  unsigned busy;   /* calls of the policy inside: freed at none */
  pu_list waiters;
  pu_timer timer;      /* begin, the end of patience, then the next way's turn */
  bool patient;        /* |timer| waits for names; what is in |fresh| waits, too */
  pu_multiaddr *known; /* addresses, as the peer store has them */
  size_t known_count;
  size_t resting, denied,
      dropped; /* of them: in back-off; refused by the policy, left out by the hook */
  pu_own_addrs own;
  pu_names *names; /* while they are looked up */
  pu_ways fresh;   /* not in order yet */
  pu_ways ways;    /* in the order of their turns */
  size_t started;
  attempt attempts[PU_DIAL_PARALLEL];
  size_t running, tried;
  bool udp_failed, ip6_failed; /* an attempt at a public address had its chance */
  int status;                  /* of the failures, when they agree */
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
    a->way->transport->ops->cancel(a->transport_dial);
  a->transport_dial = NULL;
  if (a->conn != NULL) {
    pu_conn *conn = a->conn;
    a->conn = NULL;
    conn->ready.cb = NULL;
    pu_conn_end(conn, status, why);
  }
}

static bool is_direct(const pu_way *w) {
  return w->target.kind != PU_MA_KIND_CIRCUIT;
}

/* had_chance notes what kind of way leads nowhere, it seems. */
static void had_chance(const attempt *a) {
  const pu_way *w = a->way;
  if (!w->is_public || !is_direct(w))
    return;
  a->dial->udp_failed = a->dial->udp_failed || w->target.kind == PU_MA_KIND_QUIC;
  a->dial->ip6_failed = a->dial->ip6_failed || w->target.addr.family == 6;
}

/* judge lets the direct addresses rest that had a stagger more time than the one that won. */
static void judge(dial *d, const attempt *winner, uint64_t took_us, uint64_t now_us) {
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++) {
    const attempt *a = &d->attempts[i];
    if (a->way == NULL || a == winner || !is_direct(a->way))
      continue;
    const uint64_t more_us = a->way->is_public ? PU_RANK_PUBLIC_US : PU_RANK_PRIVATE_US;
    if (now_us - a->began_us < took_us + more_us)
      continue;
    had_chance(a);
    pu_peerstore_dialled(d->engine->peerstore, &d->peer, &d->known[a->way->known], false);
  }
}

/* learn compares the way that worked with those that did not. That QUIC fails says something of
 * this network only if the peer can be reached directly: one behind a NAT answers to nothing. */
static void learn(dial *d, const attempt *winner) {
  pu_engine *e = d->engine;
  const pu_way *w = winner->way;
  const uint64_t now = pu_now_us(e->platform);
  if (!is_direct(w))
    return;
  judge(d, winner, now - winner->began_us, now);
  if (!w->is_public)
    return;
  if (w->target.kind == PU_MA_KIND_QUIC)
    pu_dark_forget(&e->udp_dark);
  else if (d->udp_failed)
    pu_dark_note(&e->udp_dark, false, now);
  if (w->target.addr.family == 6)
    pu_dark_forget(&e->ip6_dark);
  else if (d->ip6_failed)
    pu_dark_note(&e->ip6_dark, false, now);
}

static void stop_attempt(attempt *a) {
  if (a->way == NULL)
    return;
  let_go(a, PU_E_CANCELED, "another address was faster");
  a->way = NULL;
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
  pu_ways_free(&d->ways);
  pu_ways_free(&d->fresh);
  pu_free(d->known);
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
  pu_names_free(d->names);
  d->names = NULL;
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++)
    stop_attempt(&d->attempts[i]);
  tell_waiters(d, conn, status, detail);
  if (--d->busy == 0)
    free_dial(d);
}

/* has_direct says whether a direct address may still answer. */
static bool has_direct(const dial *d) {
  if (d->names != NULL)
    return true;
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++)
    if (d->attempts[i].way != NULL && is_direct(d->attempts[i].way))
      return true;
  for (size_t i = d->started; i < d->ways.count; i++)
    if (is_direct(d->ways.of[i]))
      return true;
  return false;
}

/* go_on_directly tells who waits of a relayed connection, and goes on with the direct addresses: a
 * relayed connection that is there first does not stop a direct one from taking its place. */
static void go_on_directly(dial *d, pu_conn *conn) {
  d->direct = d->background = true;
  for (size_t i = 0; i < PU_DIAL_PARALLEL; i++) {
    attempt *a = &d->attempts[i];
    if (a->way != NULL && !is_direct(a->way))
      stop_attempt(a);
  }
  d->busy++;
  tell_waiters(d, conn, 0, "");
  if (--d->busy == 0 && d->ended)
    free_dial(d);
}

/* fail ends a dial that has nothing left to try. */
static void fail(dial *d) {
  char id[PU_PEER_ID_MAX_TEXT], detail[DETAIL_MAX + 16];
  int status = d->status;
  (void)pu_peer_id_text(&d->peer, id);
  if (d->failures > 0) {
    (void)snprintf(detail, sizeof detail, "tried %s", d->detail);
  } else if (d->denied > 0) {
    status = PU_E_DENIED;
    (void)snprintf(detail, sizeof detail, "the policy allows no dial to %s", id);
  } else if (d->dropped > 0) {
    status = PU_E_DENIED;
    (void)snprintf(detail, sizeof detail, "the dial hook leaves no address of %s", id);
  } else {
    status = PU_E_NO_ADDRESS;
    if (d->known_count > 0)
      (void)snprintf(detail, sizeof detail,
                     "none of the %zu known addresses of %s can be dialled%s", d->known_count, id,
                     d->direct ? " without a relay" : "");
    else
      (void)snprintf(detail, sizeof detail, "no address of %s is known", id);
  }
  finish(d, NULL, status, detail);
}

static void fail_without_memory(dial *d) {
  char id[PU_PEER_ID_MAX_TEXT], detail[DETAIL_MAX];
  (void)snprintf(detail, sizeof detail, "no memory to dial %s", pu_peer_id_text(&d->peer, id));
  finish(d, NULL, PU_E_NOMEM, detail);
}

/* ---- ways ---- */

static void start_due(dial *d);
static void take_fresh(dial *d);

static pu_transport *transport_for(pu_engine *e, const pu_ma_target *target) {
  PU_LIST_EACH(&e->transports, node, tmp) {
    pu_transport *t = PU_CONTAINER_OF(node, pu_transport, link);
    if (t->ops->can_dial(t, target))
      return t;
  }
  return NULL;
}

/* allowed asks the policy, which may end the dial. */
static bool allowed(dial *d, const pu_multiaddr *addr, bool relayed) {
  char text[PU_MULTIADDR_MAX_TEXT];
  const pu_question question = {.ask = PU_ASK_DIAL,
                                .peer = &d->peer,
                                .addr = pu_multiaddr_text(addr, text),
                                .relayed = relayed};
  const bool yes = pu_policy_ask(d->engine, &question) == 0;
  d->denied += !yes;
  return yes;
}

/* add_way keeps an address that can be dialled; false: there is no memory for it. */
static bool add_way(dial *d, size_t known, const pu_multiaddr *addr, const pu_ma_target *target) {
  pu_engine *e = d->engine;
  if ((d->direct && target->kind == PU_MA_KIND_CIRCUIT) ||
      d->ways.count + d->fresh.count >= PU_WAYS_MAX || !pu_way_is_usable(e, &d->own, target) ||
      pu_ways_has(&d->ways, addr, target) || pu_ways_has(&d->fresh, addr, target))
    return true;
  pu_way *w = pu_alloc(&e->mem, sizeof *w);
  if (w == NULL)
    return false;
  *w = (pu_way){
      .addr = *addr, .target = *target, .known = known, .is_public = pu_multiaddr_is_public(addr)};
  w->target.peer = d->peer; /* the store keeps addresses without it */
  w->transport = transport_for(e, &w->target);
  if (w->transport != NULL)
    d->fresh.of[d->fresh.count++] = w;
  else
    pu_free(w);
  return true;
}

static void on_name_found(void *data, size_t origin, const pu_multiaddr *addr,
                          const pu_ma_target *target) {
  dial *d = data;
  if (!add_way(d, origin, addr, target))
    note(d, PU_E_NOMEM, "%s", pu_error_sentence(PU_E_NOMEM));
}

static void on_name_failed(void *data, size_t origin, int status, const char *detail) {
  dial *d = data;
  if (status != PU_E_NOMEM)
    pu_peerstore_dialled(d->engine->peerstore, &d->peer, &d->known[origin], false);
  note(d, status, "%s", detail);
}

static void on_names_done(void *data) {
  dial *d = data;
  pu_names_free(d->names);
  d->names = NULL;
  take_fresh(d);
}

static const pu_names_events names_events = {on_name_found, on_name_failed, on_names_done};

/* look_up queues the look-up of a known address's name, if the policy allows to dial it. */
static int look_up(dial *d, size_t known) {
  pu_engine *e = d->engine;
  int status = 0;
  if (!allowed(d, &d->known[known], false) || d->ended)
    return 0;
  if (d->names == NULL)
    status = pu_names_new(&e->mem, e->platform, &d->peer, &names_events, d, &d->names);
  return status == 0 ? pu_names_add(d->names, &d->known[known], known) : status;
}

/* gather takes the known addresses: those at rest only when nothing else was of use. */
static bool gather(dial *d) {
  pu_peerstore *store = d->engine->peerstore;
  bool memory = true;
  d->resting = 0;
  for (size_t i = 0; i < d->known_count && memory && !d->ended; i++) {
    const pu_multiaddr *addr = &d->known[i];
    pu_ma_target target;
    if (pu_peerstore_in_backoff(store, &d->peer, addr) != d->again) {
      d->resting += !d->again;
      continue;
    }
    pu_multiaddr_target(addr, &target);
    if (pu_names_needed(addr, &target))
      memory = look_up(d, i) != PU_E_NOMEM;
    else
      memory = add_way(d, i, addr, &target);
  }
  return memory && (d->ended || d->names == NULL || pu_names_start(d->names) == 0);
}

/* begin gathers what there is and begins with it, unless it is better to wait for names. */
static void begin(dial *d) {
  d->busy++; /* who hears of a denial may end the dial */
  const bool memory = gather(d);
  if (--d->busy == 0 && d->ended)
    free_dial(d);
  else if (!memory)
    fail_without_memory(d);
  else if (d->names == NULL)
    take_fresh(d);
  else if (d->fresh.count > 0)
    d->patient = pu_timer_after(&d->timer, PU_DIAL_PATIENCE_US) == 0;
}

/* merge puts the fresh ways among those that wait for their turn. */
static void merge(dial *d, uint64_t from_us) {
  pu_ways merged = {.count = 0};
  size_t old = d->started, new = 0;
  for (size_t i = 0; i < d->fresh.count; i++)
    d->fresh.of[i]->at_us += from_us;
  memcpy(merged.of, d->ways.of, d->started * sizeof *merged.of);
  merged.count = d->started;
  while (old < d->ways.count || new < d->fresh.count) {
    const bool take_old =
        new == d->fresh.count ||
        (old < d->ways.count && d->ways.of[old]->at_us <= d->fresh.of[new]->at_us);
    merged.of[merged.count++] = take_old ? d->ways.of[old++] : d->fresh.of[new ++];
  }
  d->ways = merged;
  d->fresh.count = 0;
}

/* ask_policy leaves out what it denies. */
static void ask_policy(dial *d) {
  size_t kept = 0, i = 0;
  for (; i < d->fresh.count && !d->ended; i++) {
    pu_way *w = d->fresh.of[i];
    if (allowed(d, &w->addr, w->target.kind == PU_MA_KIND_CIRCUIT))
      d->fresh.of[kept++] = w;
    else
      pu_free(w);
  }
  for (; i < d->fresh.count; i++)
    d->fresh.of[kept++] = d->fresh.of[i];
  d->fresh.count = kept;
}

/* take_fresh gives what was found its turns, and goes on. */
static void take_fresh(dial *d) {
  pu_timer_stop(&d->timer);
  d->patient = false;
  const size_t found = d->fresh.count;
  const int status = pu_ways_order(d->engine, &d->peer, &d->fresh);
  if (status == PU_E_NOMEM) {
    fail_without_memory(d);
    return;
  }
  d->dropped += found - d->fresh.count;
  d->busy++;
  ask_policy(d);
  if (--d->busy == 0 && d->ended) {
    free_dial(d);
    return;
  }
  merge(d, pu_now_us(d->engine->platform));
  start_due(d);
}

/* go_on_or_fail is called when nothing is under way and nothing waits. */
static void go_on_or_fail(dial *d) {
  if (d->tried == 0 && d->resting > 0 && !d->again) {
    d->again = true;
    begin(d);
  } else {
    fail(d);
  }
}

/* ---- attempts ---- */

static void attempt_failed(attempt *a, int status, const char *detail) {
  dial *d = a->dial;
  char addr[PU_MULTIADDR_MAX_TEXT];
  if (status != PU_E_NOMEM && status != PU_E_LIMIT && status != PU_E_DENIED) /* no fault of it */
    pu_peerstore_dialled(d->engine->peerstore, &d->peer, &d->known[a->way->known], false);
  note(d, status, "%s: %s", pu_multiaddr_text(&a->way->addr, addr),
       detail[0] != '\0' ? detail : pu_error_sentence(status));
  if (status == PU_E_TIMEOUT || status == PU_E_UNREACHABLE)
    had_chance(a);
  pu_timer_stop(&a->limit);
  a->way = NULL;
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
  learn(d, a);
  pu_peerstore_dialled(d->engine->peerstore, &d->peer, &d->known[a->way->known], true);
  pu_timer_stop(&a->limit);
  a->way = NULL;
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
    if (d->attempts[i].way == NULL)
      return &d->attempts[i];
  return NULL;
}

static void start_attempt(dial *d, pu_way *w) {
  attempt *a = free_slot(d);
  PU_ASSERT(a != NULL);
  *a = (attempt){.dial = d, .way = w, .began_us = pu_now_us(d->engine->platform)};
  pu_timer_init(&a->limit, d->engine->platform, on_limit, a);
  d->running++;
  d->tried++;
  int status = pu_timer_after(&a->limit, d->engine->limits.dial_ms * 1000ull);
  if (status == 0)
    status = w->transport->ops->dial(w->transport, &w->addr, &w->target, on_dialled, a,
                                     &a->transport_dial);
  if (status != 0) {
    char addr[PU_MULTIADDR_MAX_TEXT];
    pu_timer_stop(&a->limit);
    a->way = NULL;
    d->running--;
    note(d, status, "%s: %s", pu_multiaddr_text(&w->addr, addr), pu_error_sentence(status));
  }
}

/* start_due starts every way whose time has come, and one early when nothing else runs. */
static void start_due(dial *d) {
  const uint64_t now = pu_now_us(d->engine->platform);
  if (d->patient)
    return;
  while (d->started < d->ways.count && d->running < PU_DIAL_PARALLEL) {
    pu_way *w = d->ways.of[d->started];
    if (w->at_us > now && d->running > 0) {
      if (pu_timer_at(&d->timer, w->at_us) == 0)
        return;
      /* without memory for the timer it starts now */
    }
    d->started++;
    if (d->direct && !is_direct(w))
      continue; /* a relayed connection stands already */
    start_attempt(d, w);
  }
  if (d->running == 0 && d->names == NULL)
    go_on_or_fail(d);
}

/* look_around notices that the network is another: what was learned of the last one is void. */
static void look_around(pu_engine *e) {
  pu_sockaddr addrs[PU_INTERFACE_ADDRS_MAX];
  const size_t count = pu_interface_addrs(e->platform, addrs, PU_INTERFACE_ADDRS_MAX);
  uint64_t sum = 1;
  for (size_t i = 0; i < count; i++) { /* FNV-1a of each, summed: their order does not matter */
    uint64_t hash = 14695981039346656037u;
    for (size_t k = 0; k < (addrs[i].family == 4 ? 4 : sizeof addrs[i].ip); k++)
      hash = (hash ^ addrs[i].ip[k]) * 1099511628211u;
    sum += hash;
  }
  if (e->network != 0 && e->network != sum) {
    pu_dark_forget(&e->udp_dark);
    pu_dark_forget(&e->ip6_dark);
    pu_peerstore_forget_backoff(e->peerstore);
  }
  e->network = sum;
}

static void on_timer(void *data) {
  dial *d = data;
  pu_engine *e = d->engine;
  if (d->patient) {
    take_fresh(d);
    return;
  }
  if (d->known != NULL) {
    start_due(d);
    return;
  }
  d->known = pu_alloc(&e->mem, PU_PEERSTORE_ADDRS_MAX * sizeof *d->known);
  if (d->known == NULL) {
    fail_without_memory(d);
    return;
  }
  d->known_count = pu_peerstore_addrs(e->peerstore, &d->peer, d->known, PU_PEERSTORE_ADDRS_MAX);
  pu_own_addrs_get(e, &d->own);
  look_around(e);
  begin(d);
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
      if (c->info.relayed && has_direct(d))
        go_on_directly(d, c);
      else
        finish(d, c, 0, "");
      return; /* the list may have changed; a second dial to the peer finds its own way */
    }
  }
}

void pu_dial_conns_gone(pu_engine *e, const pu_peer_id *peer) {
  PU_LIST_EACH(&e->dials, node, tmp) {
    dial *d = PU_CONTAINER_OF(node, dial, link);
    if (d->background && pu_list_empty(&d->waiters) && pu_peer_id_equal(&d->peer, peer))
      finish(d, NULL, PU_E_CANCELED, "");
  }
}

void pu_dials_end(pu_engine *e) {
  while (!pu_list_empty(&e->dials))
    finish(PU_CONTAINER_OF(e->dials.next, dial, link), NULL, PU_E_CANCELED, "");
}

void pu_engine_dial_state(const pu_engine *e, pu_dial_state *out) {
  const uint64_t now = pu_now_us(e->platform);
  *out = (pu_dial_state){.udp_dark = pu_dark_is(&e->udp_dark, now),
                         .ip6_dark = pu_dark_is(&e->ip6_dark, now)};
}
