/* TCP of the simulated network. A write becomes segments that arrive after the link's delay, jitter,
 * queueing (rate) and, when one is lost, a retransmission time-out; later segments wait behind earlier
 * ones, as TCP shows to its user. A connection holds at most SIM_BUFFER bytes that were written and not
 * read; the reader's progress becomes known to the writer after the link's delay. Writes are sometimes
 * taken in part and reads sometimes come short, at random, since programs must cope.
 *
 * Sockets live until the end of the network, as events refer to them; only what they hold is freed. */
#include "platform/assert.h"
#include "platform/sim_priv.h"
#include <stdlib.h>
#include <string.h>

#define SIM_BUFFER (8u * 1024 * 1024) /* what an autotuned window holds on a long fat path */
#define SIM_SEGMENT (64u * 1024)
#define SHORT_CHANCE 8u            /* one in so many reads and writes comes short */
#define RETRANSMIT_MIN_US 200000u
#define SYN_TIMEOUT_US 60000000u   /* a connect that nobody answers */
#define DOWN_POLL_US 200000u       /* a segment waits on a link that is down */

typedef enum sock_state { SOCK_CONNECTING, SOCK_OPEN, SOCK_RESET } sock_state;

typedef struct chunk {
  struct chunk *next;
  size_t len, pos;
  uint8_t data[];
} chunk;

struct sim_sock {
  pu_tcp base;
  sim_sock *peer;
  sim_sock *next; /* of all */
  pu_sockaddr local, remote;
  const pu_tcp_events *events;
  void *data;
  unsigned want;
  sock_state state;
  bool closed;         /* by its owner */
  bool fin_sent, fin_seen;
  bool poke_pending;
  uint64_t last_arrival_us; /* of our segments at the peer: order is kept */
  uint64_t held_us;         /* when the last segment that a down link held back is due */
  uint64_t line_free_us;    /* when our side of the link has sent what it has */
  uint64_t outstanding;     /* written by us and not known to be read */
  chunk *first, *last; /* arrived, not read */
  size_t arrived;
};

struct sim_listener {
  pu_tcp_listener base;
  sim_host *host;
  pu_sockaddr addr;
  pu_tcp_accept_cb cb;
  void *data;
  sim_listener *next;
};

static sim_host *host_of(const sim_sock *s) {
  return (sim_host *)s->base.platform;
}

static pu_sim *sim_of(const sim_sock *s) {
  return host_of(s)->sim;
}

static const pu_sim_link *link_of(const sim_sock *s) {
  sim_host *other = sim_find_host(sim_of(s), &s->remote);
  return sim_link(sim_of(s), host_of(s), other);
}

static void drop_arrived(sim_sock *s) {
  for (chunk *c; (c = s->first) != NULL;) {
    s->first = c->next;
    free(c);
  }
  s->last = NULL;
  s->arrived = 0;
}

void sim_free_socks(pu_sim *sim) {
  for (sim_sock *s; (s = sim->socks) != NULL;) {
    sim->socks = s->next;
    drop_arrived(s);
    free(s);
  }
}

static sim_sock *new_sock(sim_host *h) {
  sim_sock *s = sim_alloc(sizeof *s);
  s->base.platform = &h->base;
  s->next = h->sim->socks;
  h->sim->socks = s;
  h->sim->open_sockets++;
  return s;
}

/* ---- readiness ---- */

static bool is_readable(const sim_sock *s) {
  return s->arrived > 0 || s->fin_seen || s->state == SOCK_RESET;
}

static bool is_writable(const sim_sock *s) {
  return s->state == SOCK_RESET || (s->state == SOCK_OPEN && s->outstanding < SIM_BUFFER);
}

static bool is_ready(const sim_sock *s) {
  return !s->closed && s->state != SOCK_CONNECTING &&
         (((s->want & PU_WANT_READ) != 0 && is_readable(s)) ||
          ((s->want & PU_WANT_WRITE) != 0 && is_writable(s)));
}

static void run_poke(pu_sim *sim, sim_event *e);

static void poke(sim_sock *s, uint64_t delay_us) {
  if (s->poke_pending || !is_ready(s))
    return;
  s->poke_pending = true;
  (void)sim_schedule(sim_of(s), sim_of(s)->now_us + delay_us, run_poke, s, 0);
}

static void run_poke(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  (void)sim;
  s->poke_pending = false;
  if (!is_ready(s))
    return;
  if ((s->want & PU_WANT_WRITE) != 0 && is_writable(s))
    s->events->on_writable(s->data);
  if (!s->closed && (s->want & PU_WANT_READ) != 0 && is_readable(s))
    s->events->on_readable(s->data);
  poke(s, 1); /* a microsecond on, so that a reader that takes nothing cannot stop time */
}

void sim_tcp_want(pu_tcp *t, unsigned want) {
  sim_sock *s = (sim_sock *)t;
  s->want = want;
  poke(s, 0);
}

void sim_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data) {
  sim_sock *s = (sim_sock *)t;
  s->events = events;
  s->data = data;
}

/* ---- what happens to a socket from outside ---- */

static void reset(sim_sock *s) {
  if (s->state == SOCK_RESET)
    return;
  const bool connecting = s->state == SOCK_CONNECTING;
  s->state = SOCK_RESET;
  drop_arrived(s); /* as a real stack does */
  if (connecting && !s->closed)
    s->events->on_connect(s->data, PU_E_RESET);
  else
    poke(s, 0);
}

static void run_reset(pu_sim *sim, sim_event *e) {
  (void)sim;
  reset(e->target);
}

static void send_reset(sim_sock *from) {
  if (from->peer != NULL)
    (void)sim_schedule(sim_of(from), sim_of(from)->now_us + link_of(from)->delay_us, run_reset,
                       from->peer, 0);
}

/* arrival_time says when a segment of |len| bytes that leaves now is at the other side. */
static uint64_t arrival_time(sim_sock *s, const pu_sim_link *link, size_t len) {
  pu_sim *sim = sim_of(s);
  uint64_t leaves = sim->now_us > s->line_free_us ? sim->now_us : s->line_free_us;
  if (link->rate_bytes_s != 0)
    leaves += len * 1000000u / link->rate_bytes_s;
  s->line_free_us = leaves;
  uint64_t at = leaves + link->delay_us + sim_random_below(sim, link->jitter_us + 1);
  uint64_t timeout = 2 * (2 * link->delay_us + link->jitter_us);
  if (timeout < RETRANSMIT_MIN_US)
    timeout = RETRANSMIT_MIN_US;
  while (sim_random_below(sim, 1000000) < link->loss_ppm) {
    at += timeout;
    timeout *= 2;
  }
  if (at < s->last_arrival_us)
    at = s->last_arrival_us;
  s->last_arrival_us = at;
  return at;
}

static void run_segment(pu_sim *sim, sim_event *e);

/* Sends payload, or with |len| 0 a FIN. */
static void send_segment(sim_sock *s, const uint8_t *data, size_t len) {
  pu_sim *sim = sim_of(s);
  const pu_sim_link *link = link_of(s);
  if (link->cut_ppm != 0 && sim_random_below(sim, 1000000) < link->cut_ppm) {
    (void)sim_schedule(sim, sim->now_us, run_reset, s->peer, 0);
    reset(s);
    return;
  }
  sim_event *e = sim_schedule(sim, arrival_time(s, link, len), run_segment, s->peer, 0);
  e->len = len;
  if (len > 0) {
    chunk *c = sim_alloc(sizeof *c + len);
    c->len = len;
    memcpy(c->data, data, len);
    e->data = (uint8_t *)c;
  }
}

static void run_segment(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  const bool down = link_of(s)->down;
  if (down || (e->value == 0 && sim->now_us < s->held_us)) { /* later ones wait behind held ones */
    /* All that is held is looked at again at the same moment, in the order in which it came. */
    if (down)
      s->held_us = (sim->now_us / DOWN_POLL_US + 1) * DOWN_POLL_US;
    sim_event *again = sim_schedule(sim, s->held_us, run_segment, s, 1);
    again->data = e->data;
    again->len = e->len;
    e->data = NULL;
    return;
  }
  if (s->closed) {
    if (e->len > 0)
      send_reset(s);
    return;
  }
  if (s->state == SOCK_RESET)
    return;
  if (e->len == 0) {
    s->fin_seen = true;
  } else {
    chunk *c = (chunk *)(void *)e->data;
    e->data = NULL;
    if (s->last != NULL)
      s->last->next = c;
    else
      s->first = c;
    s->last = c;
    s->arrived += c->len;
  }
  poke(s, 0);
}

static void run_report(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target; /* the writer */
  (void)sim;
  PU_ASSERT(s->outstanding >= e->value);
  s->outstanding -= e->value;
  poke(s, 0);
}

static void report_read(sim_sock *s, size_t n) {
  if (s->peer != NULL && n > 0)
    (void)sim_schedule(sim_of(s), sim_of(s)->now_us + link_of(s)->delay_us, run_report, s->peer, n);
}

/* ---- reading and writing ---- */

/* shortened is what of |n| bytes is taken this time. */
static size_t shortened(pu_sim *sim, size_t n) {
  if (n > 1 && sim_random_below(sim, SHORT_CHANCE) == 0)
    return 1 + sim_random_below(sim, n);
  return n;
}

static size_t iov_total(const pu_iov *iov, size_t n) {
  size_t total = 0;
  for (size_t i = 0; i < n; i++)
    total += iov[i].len;
  return total;
}

ssize_t sim_tcp_readv(pu_tcp *t, const pu_iov *iov, size_t n) {
  sim_sock *s = (sim_sock *)t;
  if (s->closed)
    return PU_E_CLOSED;
  if (s->state == SOCK_RESET)
    return PU_E_RESET;
  if (s->arrived == 0)
    return s->fin_seen ? 0 : PU_E_AGAIN;
  const size_t room = iov_total(iov, n);
  const size_t all = shortened(sim_of(s), room < s->arrived ? room : s->arrived);
  size_t left = all, place = 0;
  for (size_t i = 0; left > 0;) {
    chunk *c = s->first;
    size_t piece = iov[i].len - place;
    if (piece > c->len - c->pos)
      piece = c->len - c->pos;
    if (piece > left)
      piece = left;
    if (piece > 0)
      memcpy((uint8_t *)iov[i].base + place, c->data + c->pos, piece);
    c->pos += piece;
    place += piece;
    left -= piece;
    if (place == iov[i].len) {
      i++;
      place = 0;
    }
    if (c->pos == c->len) {
      s->first = c->next;
      if (s->first == NULL)
        s->last = NULL;
      free(c);
    }
  }
  s->arrived -= all;
  report_read(s, all);
  return (ssize_t)all;
}

ssize_t sim_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n) {
  sim_sock *s = (sim_sock *)t;
  if (s->closed)
    return PU_E_CLOSED;
  if (s->state == SOCK_RESET || s->fin_sent)
    return PU_E_RESET;
  const size_t total = iov_total(iov, n);
  const size_t room = s->outstanding < SIM_BUFFER ? (size_t)(SIM_BUFFER - s->outstanding) : 0;
  if (s->state != SOCK_OPEN || room == 0)
    return PU_E_AGAIN;
  size_t left = shortened(sim_of(s), total < room ? total : room), done = 0;
  s->outstanding += left;
  uint8_t *segment = sim_alloc(SIM_SEGMENT);
  size_t filled = 0;
  for (size_t i = 0; left > 0; i++) {
    for (size_t place = 0; place < iov[i].len && left > 0;) {
      size_t piece = iov[i].len - place;
      if (piece > SIM_SEGMENT - filled)
        piece = SIM_SEGMENT - filled;
      if (piece > left)
        piece = left;
      memcpy(segment + filled, (const uint8_t *)iov[i].base + place, piece);
      filled += piece;
      place += piece;
      left -= piece;
      done += piece;
      if (filled == SIM_SEGMENT || left == 0) {
        if (s->state == SOCK_OPEN) /* a cut may end it on the way */
          send_segment(s, segment, filled);
        filled = 0;
      }
    }
  }
  free(segment);
  return (ssize_t)done;
}

int sim_tcp_shutdown(pu_tcp *t) {
  sim_sock *s = (sim_sock *)t;
  if (s->closed)
    return PU_E_CLOSED;
  if (s->state != SOCK_OPEN)
    return PU_E_RESET;
  if (!s->fin_sent) {
    s->fin_sent = true;
    send_segment(s, NULL, 0);
  }
  return 0;
}

void sim_tcp_close(pu_tcp *t, bool abort) {
  sim_sock *s = (sim_sock *)t;
  if (s->closed)
    return;
  if (s->state == SOCK_OPEN) {
    if (abort || s->arrived > 0)
      send_reset(s);
    else if (!s->fin_sent)
      send_segment(s, NULL, 0);
  }
  s->closed = true;
  s->fin_sent = true;
  drop_arrived(s);
  sim_of(s)->open_sockets--;
}

void sim_tcp_local(const pu_tcp *t, pu_sockaddr *out) {
  *out = ((const sim_sock *)t)->local;
}

void sim_tcp_remote(const pu_tcp *t, pu_sockaddr *out) {
  *out = ((const sim_sock *)t)->remote;
}

void pu_sim_cut(pu_sim *sim, pu_platform *a, pu_platform *b) {
  for (sim_sock *s = sim->socks; s != NULL; s = s->next) {
    if (s->state != SOCK_OPEN || s->peer == NULL)
      continue;
    const pu_platform *from = s->base.platform, *to = s->peer->base.platform;
    if (((a == NULL || a == from) && (b == NULL || b == to)) ||
        ((a == NULL || a == to) && (b == NULL || b == from)))
      reset(s);
  }
}

/* ---- connecting and listening ---- */

static bool is_any(const pu_sockaddr *a) {
  static const uint8_t zero[16];
  return memcmp(a->ip, zero, a->family == 4 ? 4 : 16) == 0;
}

static bool same_ip(const pu_sockaddr *a, const pu_sockaddr *b) {
  return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}

static sim_listener *find_listener(pu_sim *sim, const sim_host *h, const pu_sockaddr *addr) {
  for (sim_listener *l = sim->listeners; l != NULL; l = l->next)
    if (l->host == h && l->addr.port == addr->port &&
        (same_ip(&l->addr, addr) || (l->addr.family == addr->family && is_any(&l->addr))))
      return l;
  return NULL;
}

static uint16_t ephemeral_port(sim_host *h) {
  return h->next_port++; /* wraps after 32,768 dials of one host: more than a run makes */
}

static void run_connected(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  (void)sim;
  if (s->closed || s->state != SOCK_CONNECTING)
    return;
  const int status = (int)(int64_t)e->value;
  s->state = status == 0 ? SOCK_OPEN : SOCK_RESET;
  s->events->on_connect(s->data, status);
  poke(s, 0);
}

static void run_syn(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  if (s->closed || s->state != SOCK_CONNECTING)
    return;
  sim_host *h = sim_find_host(sim, &s->remote);
  const pu_sim_link *link = sim_link(sim, host_of(s), h);
  int status = PU_E_UNREACHABLE;
  uint64_t answer = sim->now_us + link->delay_us;
  sim_listener *l = NULL;
  if (link->down) {
    status = PU_E_TIMEOUT;
    answer = sim->now_us + SYN_TIMEOUT_US;
  } else if (h != NULL) {
    l = find_listener(sim, h, &s->remote);
    status = l != NULL ? 0 : PU_E_REFUSED;
  }
  if (l != NULL) {
    sim_sock *accepted = new_sock(h);
    accepted->state = SOCK_OPEN;
    accepted->local = s->remote;
    accepted->remote = s->local;
    accepted->peer = s;
    s->peer = accepted;
    accepted->last_arrival_us = answer; /* nothing overtakes the answer */
  }
  (void)sim_schedule(sim, answer, run_connected, s, (uint64_t)(int64_t)status);
  if (l != NULL)
    l->cb(l->data, &s->peer->base);
}

int sim_tcp_connect(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                    const pu_tcp_events *events, void *data, pu_tcp **out) {
  sim_host *h = (sim_host *)p;
  pu_sim *sim = h->sim;
  const pu_sockaddr *from = NULL;
  for (size_t i = 0; i < h->addr_count && from == NULL; i++)
    if (h->addrs[i].family == remote->family)
      from = &h->addrs[i];
  if (local != NULL && !is_any(local)) {
    if (sim_find_host(sim, local) != h)
      return PU_E_NO_ADDRESS;
    from = local;
  }
  if (from == NULL)
    return PU_E_UNREACHABLE;
  sim_sock *s = new_sock(h);
  s->events = events;
  s->data = data;
  s->local = *from;
  s->local.port = local != NULL && local->port != 0 ? local->port : ephemeral_port(h);
  s->remote = *remote;
  const pu_sim_link *link = link_of(s);
  uint64_t at = sim->now_us + link->delay_us + 1;
  while (sim_random_below(sim, 1000000) < link->loss_ppm)
    at += 1000000; /* a lost SYN is repeated after a second */
  (void)sim_schedule(sim, at, run_syn, s, 0);
  *out = &s->base;
  return 0;
}

int sim_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                   void *data, pu_tcp_listener **out) {
  sim_host *h = (sim_host *)p;
  pu_sim *sim = h->sim;
  (void)flags;
  if (!is_any(addr) && sim_find_host(sim, addr) != h)
    return PU_E_NO_ADDRESS;
  if (addr->port != 0 && find_listener(sim, h, addr) != NULL)
    return PU_E_IN_USE;
  sim_listener *l = sim_alloc(sizeof *l);
  l->base.platform = p;
  l->host = h;
  l->addr = *addr;
  if (l->addr.port == 0)
    l->addr.port = ephemeral_port(h);
  l->cb = cb;
  l->data = data;
  l->next = sim->listeners;
  sim->listeners = l;
  sim->open_sockets++;
  *out = &l->base;
  return 0;
}

void sim_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out) {
  *out = ((const sim_listener *)l)->addr;
}

void sim_tcp_listener_close(pu_tcp_listener *base) {
  sim_listener *l = (sim_listener *)base;
  pu_sim *sim = l->host->sim;
  for (sim_listener **at = &sim->listeners; *at != NULL; at = &(*at)->next)
    if (*at == l) {
      *at = l->next;
      break;
    }
  sim->open_sockets--;
  free(l);
}
