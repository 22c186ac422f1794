/* UDP of the simulated network: datagrams that are delayed, reordered by jitter, lost, doubled,
 * damaged, too long for the path, or too many for its queue. The model as a whole is at the top of
 * sim.c.
 *
 * A socket keeps at most RECEIVE_BYTES that were not read; the rest is lost, as on a real one. So
 * is a datagram longer than the room that its reader gives. Sending never blocks. Sockets live
 * until the end of the network, as events refer to them. */
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "platform/sim_priv.h"

#define RECEIVE_BYTES (4u * 1024 * 1024)
#define QUEUE_BYTES (1024u * 1024)
#define MTU_BYTES 1500u
#define IP4_UDP_HEADERS 28u
#define IP6_UDP_HEADERS 48u

typedef struct datagram {
  struct datagram *next;
  pu_sockaddr from, to;
  uint8_t ecn;
  size_t len;
  uint8_t data[];
} datagram;

struct sim_udp {
  pu_udp base;
  sim_udp *next; /* of all */
  pu_sockaddr bound;
  pu_sockaddr seen; /* as others see it, family 0: as bound */
  const pu_udp_events *events;
  void *data;
  unsigned want;
  bool closed, poke_pending;
  datagram *first, *last; /* not read */
  size_t waiting_bytes;
};

static sim_host *host_of(const sim_udp *u) {
  return (sim_host *)u->base.platform;
}

static pu_sim *sim_of(const sim_udp *u) {
  return host_of(u)->sim;
}

static bool is_any(const pu_sockaddr *sa) {
  static const uint8_t zero[16];
  return memcmp(sa->ip, zero, sa->family == 4 ? 4 : 16) == 0;
}

static bool same_ip(const pu_sockaddr *a, const pu_sockaddr *b) {
  return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}

/* ---- readiness ---- */

static bool is_ready(const sim_udp *u) {
  return !u->closed &&
         (((u->want & PU_WANT_READ) != 0 && u->first != NULL) || (u->want & PU_WANT_WRITE) != 0);
}

static void poke(sim_udp *u);

static void run_poke(pu_sim *sim, sim_event *e) {
  sim_udp *u = e->target;
  (void)sim;
  u->poke_pending = false;
  if (!u->closed && (u->want & PU_WANT_WRITE) != 0)
    u->events->on_writable(u->data);
  if (!u->closed && (u->want & PU_WANT_READ) != 0 && u->first != NULL)
    u->events->on_readable(u->data);
  poke(u);
}

static void poke(sim_udp *u) {
  if (u->poke_pending || !is_ready(u))
    return;
  u->poke_pending = true;
  (void)sim_schedule(sim_of(u), sim_of(u)->now_us, run_poke, u, 0);
}

void sim_udp_want(pu_udp *base, unsigned want) {
  sim_udp *u = (sim_udp *)base;
  u->want = want;
  poke(u);
}

/* ---- the way of a datagram ---- */

/* find_socket returns who would get what is sent to |to|, as seen from outside the host or from
 * itself. */
static sim_udp *find_socket(pu_sim *sim, const pu_sockaddr *to) {
  for (sim_udp *u = sim->udps; u != NULL; u = u->next) {
    if (u->closed)
      continue;
    if (u->seen.family != 0) {
      if (pu_sockaddr_equal(&u->seen, to))
        return u;
      continue;
    }
    if (u->bound.port != to->port || u->bound.family != to->family)
      continue;
    if (same_ip(&u->bound, to) || (is_any(&u->bound) && sim_find_host(sim, to) == host_of(u)))
      return u;
  }
  return NULL;
}

/* inside_of writes the address that a socket's own host knows it by, or returns false: a wildcard
 * of a family that the host has no address of. */
static bool inside_of(const sim_udp *u, pu_sockaddr *out) {
  const sim_host *h = host_of(u);
  *out = u->bound;
  if (!is_any(&u->bound))
    return true;
  for (size_t i = 0; i < h->addr_count; i++)
    if (h->addrs[i].family == u->bound.family) {
      memcpy(out->ip, h->addrs[i].ip, sizeof out->ip);
      return true;
    }
  return false;
}

static void arrive(pu_sim *sim, sim_event *e) {
  datagram *d = e->target;
  sim_udp *u = find_socket(sim, &d->to);
  if (u == NULL || u->waiting_bytes + d->len > RECEIVE_BYTES)
    return;
  e->memory = NULL;        /* the socket's now */
  if (u->seen.family != 0) /* the translator hides itself from the one it translates for */
    (void)inside_of(u, &d->to);
  d->next = NULL;
  if (u->last != NULL)
    u->last->next = d;
  else
    u->first = d;
  u->last = d;
  u->waiting_bytes += d->len;
  poke(u);
}

/* The event owns the datagram until it has arrived, so that one that never runs frees it. */
static void fly(pu_sim *sim, uint64_t at_us, datagram *d) {
  sim_schedule(sim, at_us, arrive, d, 0)->memory = d;
}

static bool chance(pu_sim *sim, uint32_t ppm) {
  return ppm != 0 && sim_random_below(sim, 1000000) < ppm;
}

static datagram *copy_of(const sim_udp *u, const pu_datagrams *b, const uint8_t *data, size_t len) {
  datagram *d = sim_alloc(sizeof *d + len);
  d->to = b->remote;
  d->ecn = b->ecn;
  d->len = len;
  (void)inside_of(u, &d->from);
  if (u->seen.family != 0)
    d->from = u->seen;
  else if (is_any(&u->bound) && b->local.family == u->bound.family && !is_any(&b->local))
    memcpy(d->from.ip, b->local.ip, sizeof d->from.ip);
  memcpy(d->data, data, len);
  return d;
}

/* send_one sends a datagram on its way over the link. */
static void send_one(sim_udp *u, const pu_datagrams *b, const uint8_t *data, size_t len) {
  pu_sim *sim = sim_of(u);
  const sim_udp *target = find_socket(sim, &b->remote);
  const sim_host *other = target != NULL ? host_of(target) : sim_find_host(sim, &b->remote);
  if (other == NULL)
    return;
  const pu_sim_link *link = sim_link(sim, host_of(u), other);
  const size_t total = len + (b->remote.family == 6 ? IP6_UDP_HEADERS : IP4_UDP_HEADERS);
  if (link->down || link->no_udp || chance(sim, link->loss_ppm) ||
      total > (link->mtu_bytes != 0 ? link->mtu_bytes : MTU_BYTES))
    return;
  uint64_t at = sim->now_us;
  if (link->rate_bytes_s != 0) {
    sim_line *line = sim_line_between(sim, host_of(u), other);
    const uint64_t queue = link->queue_bytes != 0 ? link->queue_bytes : QUEUE_BYTES;
    if (line->udp_free_us < at)
      line->udp_free_us = at;
    if ((line->udp_free_us - at) * link->rate_bytes_s / 1000000u > queue)
      return;
    line->udp_rest += total * 1000000u;
    line->udp_free_us += line->udp_rest / link->rate_bytes_s;
    line->udp_rest %= link->rate_bytes_s;
    at = line->udp_free_us;
  }
  at += link->delay_us + sim_random_below(sim, link->jitter_us + 1);
  datagram *d = copy_of(u, b, data, len);
  if (chance(sim, link->corrupt_ppm))
    d->data[sim_random_below(sim, len)] ^= (uint8_t)(1 + sim_random_below(sim, 255));
  fly(sim, at, d);
  if (chance(sim, link->duplicate_ppm))
    fly(sim, at + sim_random_below(sim, link->jitter_us + 1), copy_of(u, b, data, len));
}

ssize_t sim_udp_send(pu_udp *base, const pu_datagrams *batch) {
  sim_udp *u = (sim_udp *)base;
  pu_sockaddr from;
  if (batch->remote.family != u->bound.family || !inside_of(u, &from))
    return PU_E_UNREACHABLE;
  if (batch->segment > PU_UDP_BATCH_BYTES && batch->len > PU_UDP_BATCH_BYTES)
    return PU_E_TOO_BIG;
  for (size_t at = 0; at < batch->len; at += batch->segment) {
    const size_t len = batch->len - at < batch->segment ? batch->len - at : batch->segment;
    send_one(u, batch, batch->data + at, len);
  }
  return (ssize_t)batch->len;
}

static void drop_first(sim_udp *u) {
  datagram *d = u->first;
  u->first = d->next;
  if (u->first == NULL)
    u->last = NULL;
  u->waiting_bytes -= d->len;
  free(d);
}

/* sim_udp_recv joins datagrams of one sender and size, as a kernel does. */
ssize_t sim_udp_recv(pu_udp *base, pu_datagrams *batches, size_t n) {
  sim_udp *u = (sim_udp *)base;
  size_t count = 0;
  while (count < n && u->first != NULL) {
    pu_datagrams *b = &batches[count];
    const size_t room = b->len;
    const datagram *head = u->first;
    uint8_t *const data = b->data;
    *b = (pu_datagrams){.local = head->to,
                        .remote = head->from,
                        .data = data,
                        .segment = head->len,
                        .ecn = head->ecn};
    bool whole = true;
    while (u->first != NULL && whole) {
      datagram *d = u->first;
      if (d->len > b->segment || d->len > room - b->len || d->ecn != b->ecn ||
          !pu_sockaddr_equal(&d->from, &b->remote) || !pu_sockaddr_equal(&d->to, &b->local))
        break;
      memcpy(data + b->len, d->data, d->len);
      b->len += d->len;
      whole = d->len == b->segment;
      drop_first(u);
    }
    if (b->len == 0) { /* longer than the room */
      drop_first(u);
      b->len = room;
    } else {
      count++;
    }
  }
  return count == 0 ? PU_E_AGAIN : (ssize_t)count;
}

/* ---- life ---- */

static bool is_taken(pu_sim *sim, const sim_host *h, const pu_sockaddr *addr, uint16_t port) {
  for (const sim_udp *u = sim->udps; u != NULL; u = u->next)
    if (!u->closed && host_of(u) == h && u->bound.family == addr->family && u->bound.port == port &&
        (is_any(&u->bound) || is_any(addr) || same_ip(&u->bound, addr)))
      return true;
  return false;
}

static bool has_address(const sim_host *h, const pu_sockaddr *addr) {
  if (is_any(addr))
    return true;
  for (size_t i = 0; i < h->addr_count; i++)
    if (same_ip(&h->addrs[i], addr))
      return true;
  return false;
}

int sim_udp_open(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events, void *data,
                 pu_udp **out) {
  sim_host *h = (sim_host *)p;
  uint16_t port = addr->port;
  if (!has_address(h, addr))
    return PU_E_NO_ADDRESS;
  while (port == 0 || (addr->port == 0 && is_taken(h->sim, h, addr, port))) {
    if (h->next_port < FIRST_EPHEMERAL_PORT)
      h->next_port = FIRST_EPHEMERAL_PORT;
    port = h->next_port++;
  }
  if (is_taken(h->sim, h, addr, port))
    return PU_E_IN_USE;
  sim_udp *u = sim_alloc(sizeof *u);
  u->base.platform = p;
  u->bound = *addr;
  u->bound.port = port;
  u->events = events;
  u->data = data;
  u->next = h->sim->udps;
  h->sim->udps = u;
  h->sim->open_sockets++;
  *out = &u->base;
  return 0;
}

void sim_udp_local(const pu_udp *base, pu_sockaddr *out) {
  *out = ((const sim_udp *)base)->bound;
}

static void drop_waiting(sim_udp *u) {
  for (datagram *d; (d = u->first) != NULL;) {
    u->first = d->next;
    free(d);
  }
  u->last = NULL;
  u->waiting_bytes = 0;
}

void sim_udp_close(pu_udp *base) {
  sim_udp *u = (sim_udp *)base;
  PU_ASSERT(!u->closed);
  u->closed = true;
  drop_waiting(u);
  sim_of(u)->open_sockets--;
}

void pu_sim_udp_rebind(pu_sim *sim, pu_platform *host, const pu_sockaddr *ip) {
  for (sim_udp *u = sim->udps; u != NULL; u = u->next) {
    if (u->closed || u->base.platform != host || u->bound.family != ip->family)
      continue;
    u->seen = *ip;
    u->seen.port = (uint16_t)(20000 + sim_random_below(sim, 10000));
  }
}

void sim_free_udps(pu_sim *sim) {
  for (sim_udp *u; (u = sim->udps) != NULL;) {
    sim->udps = u->next;
    drop_waiting(u);
    free(u);
  }
}
