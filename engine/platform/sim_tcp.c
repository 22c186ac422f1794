/* TCP of the simulated network; the model as a whole is at the top of sim.c. What a socket shows
 * here: bytes in order, short reads and writes, backpressure, half-close, resets, and time.
 *
 * Sockets live until the end of the network, as events refer to them; only what they hold is freed.
 */
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "platform/sim_priv.h"

#define SIM_BUFFER (8u * 1024 * 1024) /* what an autotuned window holds on a long fat path */
#define SIM_SEGMENT (64u * 1024)
#define SHORT_CHANCE 8u /* one in so many reads and writes comes short */
#define RETRANSMIT_MIN_US 200000u
#define RETRANSMITS_MAX 8u    /* so often in a row a segment is lost at most */
#define SYN_RETRY_US 1000000u /* doubled with each of the retries */
#define SYN_RETRIES 5u        /* 63 seconds in all */
#define DOWN_POLL_US 200000u  /* a segment waits on a link that is down */

typedef enum sock_state { SOCK_CONNECTING, SOCK_OPEN, SOCK_RESET } sock_state;

typedef struct chunk {
  struct chunk *next;
  size_t len, pos; /* |len| 0: the end of the direction */
  uint8_t data[];
} chunk;

typedef struct chunk_list {
  chunk *first, *last;
} chunk_list;

struct sim_sock {
  pu_tcp base;
  sim_sock *peer; /* once the connection request has arrived */
  sim_sock *next; /* of all */
  pu_sockaddr local, remote;
  const pu_tcp_events *events;
  void *data;
  unsigned want;
  sock_state state;
  bool dialed; /* not accepted */
  bool owned;  /* somebody has it: not yet so before it is accepted */
  bool closed; /* by its owner */
  bool fin_sent, fin_seen;
  bool poke_pending;
  uint64_t last_arrival_us; /* of our segments at the peer: order is kept */
  uint64_t outstanding;     /* written by us and not known to be read */
  chunk_list flying;  /* sent by us, not at the peer; each has an event, which takes the first */
  chunk_list arrived; /* not read */
  size_t arrived_bytes;
};

struct sim_listener {
  pu_tcp_listener base;
  sim_host *host;
  pu_sockaddr addr;
  unsigned flags;
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

static void append(chunk_list *list, chunk *c) {
  c->next = NULL;
  if (list->last != NULL)
    list->last->next = c;
  else
    list->first = c;
  list->last = c;
}

static chunk *take_first(chunk_list *list) {
  chunk *c = list->first;
  list->first = c->next;
  if (list->first == NULL)
    list->last = NULL;
  return c;
}

static void drop(chunk_list *list) {
  while (list->first != NULL)
    free(take_first(list));
}

static void drop_arrived(sim_sock *s) {
  drop(&s->arrived);
  s->arrived_bytes = 0;
}

void sim_free_socks(pu_sim *sim) {
  for (sim_sock *s; (s = sim->socks) != NULL;) {
    sim->socks = s->next;
    drop_arrived(s);
    drop(&s->flying);
    free(s);
  }
}

static sim_sock *new_sock(sim_host *h) {
  sim_sock *s = sim_alloc(sizeof *s);
  s->base.platform = &h->base;
  s->next = h->sim->socks;
  h->sim->socks = s;
  return s;
}

static void give_to_owner(sim_sock *s) {
  s->owned = true;
  sim_of(s)->open_sockets++;
}

/* ---- readiness ---- */

static bool is_readable(const sim_sock *s) {
  return s->arrived_bytes > 0 || s->fin_seen || s->state == SOCK_RESET;
}

static bool is_writable(const sim_sock *s) {
  return s->state == SOCK_RESET || (s->state == SOCK_OPEN && s->outstanding < SIM_BUFFER);
}

static bool is_ready(const sim_sock *s) {
  return s->owned && !s->closed && s->state != SOCK_CONNECTING &&
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
  drop_arrived(s); /* the harder of the two things that stacks do */
  if (connecting && !s->closed)
    s->events->on_connect(s->data, PU_E_RESET);
  else
    poke(s, 0);
}

static void run_cut(pu_sim *sim, sim_event *e) {
  (void)sim;
  reset(e->target);
}

/* cut ends a connection in the network: both sides are told, now, but not inside this call. */
static void cut(sim_sock *s) {
  (void)sim_schedule(sim_of(s), sim_of(s)->now_us, run_cut, s, 0);
  (void)sim_schedule(sim_of(s), sim_of(s)->now_us, run_cut, s->peer, 0);
}

static void run_rst(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  (void)sim;
  if (!link_of(s)->down) /* else it is lost, and not repeated */
    reset(s);
}

static void send_rst(sim_sock *from) {
  (void)sim_schedule(sim_of(from), sim_of(from)->now_us + link_of(from)->delay_us, run_rst,
                     from->peer, 0);
}

static bool is_lost(pu_sim *sim, const pu_sim_link *link) {
  return link->loss_ppm != 0 && sim_random_below(sim, 1000000) < link->loss_ppm;
}

/* arrival_time says when a segment of |len| bytes that leaves now is at the other side. */
static uint64_t arrival_time(sim_sock *s, const pu_sim_link *link, size_t len) {
  pu_sim *sim = sim_of(s);
  uint64_t leaves = sim->now_us;
  if (link->rate_bytes_s != 0) {
    sim_line *line = sim_line_between(sim, host_of(s), host_of(s->peer));
    if (leaves < line->free_us)
      leaves = line->free_us;
    leaves += len * 1000000u / link->rate_bytes_s;
    line->free_us = leaves;
  }
  uint64_t at = leaves + link->delay_us + sim_random_below(sim, link->jitter_us + 1);
  uint64_t timeout = 2 * (2 * link->delay_us + link->jitter_us);
  if (timeout < RETRANSMIT_MIN_US)
    timeout = RETRANSMIT_MIN_US;
  for (unsigned i = 0; i < RETRANSMITS_MAX && is_lost(sim, link); i++) {
    at += timeout;
    timeout *= 2;
  }
  if (at < s->last_arrival_us)
    at = s->last_arrival_us;
  s->last_arrival_us = at;
  return at;
}

static void run_segment(pu_sim *sim, sim_event *e);

/* send_segment takes |c| over. */
static void send_segment(sim_sock *s, chunk *c) {
  pu_sim *sim = sim_of(s);
  const pu_sim_link *link = link_of(s);
  if (link->cut_ppm != 0 && sim_random_below(sim, 1000000) < link->cut_ppm)
    cut(s);
  append(&s->flying, c);
  (void)sim_schedule(sim, arrival_time(s, link, c->len), run_segment, s, 0);
}

static void send_fin(sim_sock *s) {
  s->fin_sent = true;
  send_segment(s, sim_alloc(sizeof(chunk)));
}

/* A segment of |from| is due. Whichever event comes first delivers the first segment: so order is
 * kept also when a link was down for some of them. */
static void run_segment(pu_sim *sim, sim_event *e) {
  sim_sock *from = e->target, *s = from->peer;
  if (link_of(from)->down) {
    (void)sim_schedule(sim, sim->now_us + DOWN_POLL_US, run_segment, from, 0);
    return;
  }
  chunk *c = take_first(&from->flying);
  if (s->closed || s->state == SOCK_RESET) {
    if (c->len > 0)
      send_rst(s); /* nobody is there to read it */
    free(c);
    return;
  }
  if (c->len == 0) {
    s->fin_seen = true;
    free(c);
  } else {
    s->arrived_bytes += c->len;
    append(&s->arrived, c);
  }
  poke(s, 0);
}

static void run_report(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target; /* the writer */
  if (link_of(s)->down) {
    (void)sim_schedule(sim, sim->now_us + DOWN_POLL_US, run_report, s, e->value);
    return;
  }
  PU_ASSERT(s->outstanding >= e->value);
  s->outstanding -= e->value;
  poke(s, 0);
}

static void report_read(sim_sock *s, size_t n) {
  if (n > 0)
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
  if (s->arrived_bytes == 0)
    return s->state == SOCK_OPEN && s->fin_seen ? 0 : PU_E_AGAIN;
  const size_t room = iov_total(iov, n);
  const size_t all = shortened(sim_of(s), room < s->arrived_bytes ? room : s->arrived_bytes);
  size_t left = all, place = 0;
  for (size_t i = 0; left > 0;) {
    chunk *c = s->arrived.first;
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
    if (c->pos == c->len)
      free(take_first(&s->arrived));
  }
  s->arrived_bytes -= all;
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
  const size_t all = shortened(sim_of(s), total < room ? total : room);
  size_t i = 0, place = 0;
  for (size_t left = all; left > 0;) {
    chunk *c = sim_alloc(sizeof *c + (left < SIM_SEGMENT ? left : SIM_SEGMENT));
    for (const size_t len = left < SIM_SEGMENT ? left : SIM_SEGMENT; c->len < len;) {
      size_t piece = iov[i].len - place;
      if (piece > len - c->len)
        piece = len - c->len;
      if (piece > 0)
        memcpy(c->data + c->len, (const uint8_t *)iov[i].base + place, piece);
      c->len += piece;
      place += piece;
      if (place == iov[i].len) {
        i++;
        place = 0;
      }
    }
    left -= c->len;
    send_segment(s, c);
  }
  s->outstanding += all;
  return (ssize_t)all;
}

int sim_tcp_shutdown(pu_tcp *t) {
  sim_sock *s = (sim_sock *)t;
  if (s->closed)
    return PU_E_CLOSED;
  if (s->state != SOCK_OPEN)
    return PU_E_RESET;
  if (!s->fin_sent)
    send_fin(s);
  return 0;
}

void sim_tcp_close(pu_tcp *t, bool abort) {
  sim_sock *s = (sim_sock *)t;
  if (s->closed)
    return;
  if (s->state == SOCK_OPEN) {
    if (abort || s->arrived_bytes > 0)
      send_rst(s);
    else if (!s->fin_sent)
      send_fin(s);
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
    if (!s->dialed || s->peer == NULL || (s->closed && s->peer->closed))
      continue;
    const pu_platform *from = s->base.platform, *to = s->peer->base.platform;
    if (((a == NULL || a == from) && (b == NULL || b == to)) ||
        ((a == NULL || a == to) && (b == NULL || b == from)))
      cut(s);
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

static bool port_is_taken(const sim_host *h, uint16_t port) {
  for (const sim_listener *l = h->sim->listeners; l != NULL; l = l->next)
    if (l->host == h && l->addr.port == port)
      return true;
  return false;
}

/* Ports wrap after 32,768 dials of one host; older connections have ended by then. */
static uint16_t ephemeral_port(sim_host *h) {
  do {
    h->next_port = h->next_port < FIRST_EPHEMERAL_PORT || h->next_port == UINT16_MAX
                       ? FIRST_EPHEMERAL_PORT
                       : (uint16_t)(h->next_port + 1);
  } while (port_is_taken(h, h->next_port));
  return h->next_port;
}

/* can_dial_from says whether a dial to |remote| may leave from |local|: a listener there must share
 * its port, and the pair of addresses be new. */
static bool can_dial_from(const sim_host *h, const pu_sockaddr *local, const pu_sockaddr *remote) {
  for (const sim_listener *l = h->sim->listeners; l != NULL; l = l->next)
    if (l->host == h && l->addr.port == local->port && (l->flags & PU_LISTEN_REUSE_PORT) == 0)
      return false;
  for (const sim_sock *s = h->sim->socks; s != NULL; s = s->next)
    if (host_of(s) == h && !s->closed && s->state != SOCK_RESET && s->owned &&
        s->local.port == local->port && same_ip(&s->local, local) &&
        pu_sockaddr_equal(&s->remote, remote))
      return false;
  return true;
}

/* The handshake's third part: only now does the listener's owner hear of it. */
static void run_accept(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  if (s->state != SOCK_OPEN)
    return;
  sim_listener *l = find_listener(sim, host_of(s), &s->local);
  if (l == NULL) { /* closed in between */
    s->closed = true;
    send_rst(s);
    return;
  }
  give_to_owner(s);
  l->cb(l->data, &s->base);
}

/* The answer to a dial: it stands, or failed. */
static void run_answer(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  if (s->closed) {
    if (s->peer != NULL)
      s->peer->closed = true; /* the answer was answered by a reset */
    return;
  }
  if (s->state != SOCK_CONNECTING)
    return;
  const int status = (int)(int64_t)e->value;
  s->state = status == 0 ? SOCK_OPEN : SOCK_RESET;
  if (status == 0) {
    s->last_arrival_us = sim->now_us + link_of(s)->delay_us; /* nothing overtakes our answer */
    (void)sim_schedule(sim, s->last_arrival_us, run_accept, s->peer, 0);
  }
  s->events->on_connect(s->data, status);
  poke(s, 0);
}

static void answer(sim_sock *s, uint64_t delay_us, int status) {
  (void)sim_schedule(sim_of(s), sim_of(s)->now_us + delay_us, run_answer, s,
                     (uint64_t)(int64_t)status);
}

/* A connection request arrives; |e->value| counts those that were lost. */
static void run_syn(pu_sim *sim, sim_event *e) {
  sim_sock *s = e->target;
  if (s->closed || s->state != SOCK_CONNECTING)
    return;
  sim_host *h = sim_find_host(sim, &s->remote);
  const pu_sim_link *link = sim_link(sim, host_of(s), h);
  if (link->down || is_lost(sim, link)) {
    const uint64_t wait = (uint64_t)SYN_RETRY_US << e->value;
    if (e->value < SYN_RETRIES)
      (void)sim_schedule(sim, sim->now_us + wait, run_syn, s, e->value + 1);
    else
      answer(s, wait, PU_E_TIMEOUT);
  } else if (h == NULL) {
    answer(s, link->delay_us, PU_E_UNREACHABLE);
  } else if (find_listener(sim, h, &s->remote) == NULL) {
    answer(s, link->delay_us, PU_E_REFUSED);
  } else {
    sim_sock *accepted = new_sock(h);
    accepted->state = SOCK_OPEN;
    accepted->local = s->remote;
    accepted->remote = s->local;
    accepted->peer = s;
    s->peer = accepted;
    answer(s, link->delay_us, 0);
  }
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
  pu_sockaddr leave = *from;
  leave.port = local != NULL && local->port != 0 ? local->port : ephemeral_port(h);
  if (local != NULL && !can_dial_from(h, &leave, remote))
    return PU_E_IN_USE;
  sim_sock *s = new_sock(h);
  give_to_owner(s);
  s->dialed = true;
  s->events = events;
  s->data = data;
  s->local = leave;
  s->remote = *remote;
  (void)sim_schedule(sim, sim->now_us + link_of(s)->delay_us + 1, run_syn, s, 0);
  *out = &s->base;
  return 0;
}

int sim_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                   void *data, pu_tcp_listener **out) {
  sim_host *h = (sim_host *)p;
  pu_sim *sim = h->sim;
  if (!is_any(addr) && sim_find_host(sim, addr) != h)
    return PU_E_NO_ADDRESS;
  for (const sim_listener *l = sim->listeners; l != NULL; l = l->next)
    if (l->host == h && l->addr.port == addr->port && l->addr.family == addr->family &&
        (same_ip(&l->addr, addr) || is_any(&l->addr) || is_any(addr)))
      return PU_E_IN_USE;
  sim_listener *l = sim_alloc(sizeof *l);
  l->base.platform = p;
  l->host = h;
  l->addr = *addr;
  if (l->addr.port == 0)
    l->addr.port = ephemeral_port(h);
  l->flags = flags;
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
