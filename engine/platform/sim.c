/* The simulated network: virtual time, one event queue, one seed. sim_tcp.c has the sockets.
 *
 * Time stands still while the program computes; it jumps to the next event. Events at equal times
 * run in the order they were made, and every choice comes from one generator, so that a run is a
 * function of its seed and the program: never of addresses in memory or of the machine. Timers of a
 * host run through the same heap as on a real loop, and what a host cannot do there (be called
 * inside the call that asked, say) it cannot do here either.
 *
 * Hosts have addresses. A link between two hosts has these properties:
 *
 * - delay and jitter: a segment arrives after delay + 0..jitter, and never before an earlier one.
 *
 * - loss: a lost segment arrives a retransmission time-out later, doubled each time (at least 200
 *   ms or two round trips); a lost connection request after 1, 2, 4 ... s. There is no congestion
 *   control and no fast retransmit: loss costs time only.
 *
 * - rate: the bytes of all connections in one direction leave one after the other.
 *
 * - cut: the connection is reset, and both sides are told.
 *
 * - down: nothing passes: segments wait and come in order when it is up again, resets are lost, a
 *   dial goes on asking and times out after 63 s.
 *
 * A host's connections to itself have a perfect link.
 *
 * TCP is by segment, not by packet: what one write gave, at most 64 KiB each, so that a run of
 * minutes costs thousands of events, not millions. A connection is made in one round trip, and
 * accepted another half later. It holds at most 8 MiB that were written and not read; the reader's
 * progress is known to the writer after the delay. One read and write in eight comes short, at
 * random. An end that is closed with unread bytes, or hears of more, resets the connection, as real
 * stacks do; a reset throws away what was not read, as the harder ones do. A port is shared between
 * listener and dials only with PU_LISTEN_REUSE_PORT, and a pair of addresses is used once at a
 * time.
 *
 * UDP is by datagram, and a link does to each what it does to packets: jitter reorders them, what
 * is lost stays lost, what finds the queue before the rate full is dropped, and so is what is
 * longer than the path takes. Datagrams have a queue of their own: they neither wait for TCP's
 * bytes nor hold them up.
 *
 * Not modelled: address translation (but for a UDP socket's change of address) and firewalls, two
 * dials that meet (simultaneous open), TIME_WAIT, connections that die of a link that stays down,
 * running out of memory or descriptors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "platform/sim_priv.h"

#define RESOLVE_US 1000u /* a look-up takes so long */
#define START_US \
  1000000u /* time at the beginning; not 0, which could hide a missing initialisation */
#define WALL_START_NS 1700000000000000000u

struct sim_lookup {
  pu_resolve base;
  pu_resolve_cb cb; /* NULL: cancelled */
  void *data;
  pu_sockaddr addr;
  int status;
};

static const pu_platform_ops sim_ops;
static const pu_sim_link perfect_link;

void *sim_alloc(size_t size) {
  void *p = calloc(1, size == 0 ? 1 : size);
  PU_ASSERT(p != NULL);
  return p;
}

/* ---- chance: xorshift128+ seeded through splitmix64, so that near seeds differ at once ---- */

static uint64_t splitmix(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t sim_random(pu_sim *sim) {
  uint64_t a = sim->random[0];
  const uint64_t b = sim->random[1];
  sim->random[0] = b;
  a ^= a << 23;
  sim->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
  return sim->random[1] + b;
}

uint64_t sim_random_below(pu_sim *sim, uint64_t n) {
  return n == 0 ? 0 : sim_random(sim) % n;
}

uint64_t pu_sim_random(pu_sim *sim) {
  return sim_random(sim);
}

/* ---- events ---- */

static bool before(const sim_event *a, const sim_event *b) {
  return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

sim_event *sim_schedule(pu_sim *sim, uint64_t at_us, void (*run)(pu_sim *, sim_event *),
                        void *target, uint64_t value) {
  sim_event *e = sim_alloc(sizeof *e);
  if (sim->heap_len + 1 >= sim->heap_cap) {
    sim->heap_cap = sim->heap_cap == 0 ? 256 : sim->heap_cap * 2;
    sim->heap = realloc(sim->heap, sim->heap_cap * sizeof(sim_event *));
    PU_ASSERT(sim->heap != NULL);
  }
  *e = (sim_event){.at_us = at_us < sim->now_us ? sim->now_us : at_us,
                   .seq = ++sim->seq,
                   .run = run,
                   .target = target,
                   .value = value};
  size_t i = ++sim->heap_len;
  for (; i > 1 && before(e, sim->heap[i / 2]); i /= 2)
    sim->heap[i] = sim->heap[i / 2];
  sim->heap[i] = e;
  return e;
}

static sim_event *pop(pu_sim *sim) {
  sim_event *first = sim->heap[1], *last = sim->heap[sim->heap_len--];
  size_t i = 1;
  for (size_t child; (child = i * 2) <= sim->heap_len; i = child) {
    if (child < sim->heap_len && before(sim->heap[child + 1], sim->heap[child]))
      child++;
    if (!before(sim->heap[child], last))
      break;
    sim->heap[i] = sim->heap[child];
  }
  if (sim->heap_len > 0)
    sim->heap[i] = last;
  return first;
}

static void free_event(sim_event *e) {
  free(e->memory);
  free(e);
}

bool pu_sim_step(pu_sim *sim) {
  if (sim->heap_len == 0)
    return false;
  sim_event *e = pop(sim);
  sim->now_us = e->at_us;
  e->run(sim, e);
  free_event(e);
  return true;
}

bool pu_sim_run(pu_sim *sim, uint64_t until_us, const bool *stop) {
  while (sim->heap_len > 0 && sim->heap[1]->at_us <= until_us) {
    if (stop != NULL && *stop)
      return true;
    (void)pu_sim_step(sim);
  }
  if (stop != NULL)
    return *stop;
  if (sim->now_us < until_us)
    sim->now_us = until_us;
  return true;
}

uint64_t pu_sim_now_us(const pu_sim *sim) {
  return sim->now_us;
}

size_t pu_sim_open_sockets(const pu_sim *sim) {
  return sim->open_sockets;
}

/* ---- the network ---- */

int pu_sim_new(uint64_t seed, pu_sim **out) {
  pu_sim *sim = calloc(1, sizeof *sim);
  if (sim == NULL)
    return PU_E_NOMEM;
  sim->random[0] = splitmix(&seed);
  sim->random[1] = splitmix(&seed);
  sim->now_us = START_US;
  *out = sim;
  return 0;
}

void pu_sim_free(pu_sim *sim) {
  if (sim == NULL)
    return;
  PU_ASSERT(sim->open_sockets == 0);
  for (size_t i = 1; i <= sim->heap_len; i++)
    free_event(sim->heap[i]);
  sim_free_socks(sim);
  sim_free_udps(sim);
  for (sim_host *h; (h = sim->hosts) != NULL;) {
    sim->hosts = h->next;
    pu_platform_deinit(&h->base);
    free(h);
  }
  for (sim_rule *r; (r = sim->rules) != NULL;) {
    sim->rules = r->next;
    free(r);
  }
  for (sim_line *l; (l = sim->lines) != NULL;) {
    sim->lines = l->next;
    free(l);
  }
  for (sim_name *n; (n = sim->names) != NULL;) {
    sim->names = n->next;
    free(n);
  }
  for (sim_text *t; (t = sim->texts) != NULL;) {
    sim->texts = t->next;
    free(t);
  }
  free(sim->heap);
  free(sim);
}

int pu_sim_add_host(pu_sim *sim, const char *name, const pu_sockaddr *addrs, size_t count,
                    pu_platform **out) {
  if (count == 0 || count > SIM_ADDRS_MAX)
    return PU_E_INVAL;
  sim_host *h = sim_alloc(sizeof *h);
  pu_platform_init(&h->base, &sim_ops);
  h->sim = sim;
  (void)snprintf(h->name, sizeof h->name, "%s", name);
  memcpy(h->addrs, addrs, count * sizeof *addrs);
  h->addr_count = count;
  h->next = sim->hosts;
  sim->hosts = h;
  *out = &h->base;
  return 0;
}

int pu_sim_set_link(pu_sim *sim, pu_platform *a, pu_platform *b, const pu_sim_link *link) {
  sim_rule *r = calloc(1, sizeof *r);
  if (r == NULL)
    return PU_E_NOMEM;
  *r = (sim_rule){.a = (sim_host *)a, .b = (sim_host *)b, .link = *link, .next = sim->rules};
  sim->rules = r;
  return 0;
}

static bool rule_matches(const sim_rule *r, const sim_host *a, const sim_host *b) {
  return (r->a == NULL || r->a == a) && (r->b == NULL || r->b == b);
}

const pu_sim_link *sim_link(const pu_sim *sim, const sim_host *a, const sim_host *b) {
  if (a == b)
    return &perfect_link;
  for (const sim_rule *r = sim->rules; r != NULL; r = r->next)
    if (rule_matches(r, a, b) || rule_matches(r, b, a))
      return &r->link;
  return &perfect_link;
}

sim_line *sim_line_between(pu_sim *sim, const sim_host *from, const sim_host *to) {
  for (sim_line *l = sim->lines; l != NULL; l = l->next)
    if (l->from == from && l->to == to)
      return l;
  sim_line *l = sim_alloc(sizeof *l);
  *l = (sim_line){.from = from, .to = to, .next = sim->lines};
  sim->lines = l;
  return l;
}

sim_host *sim_find_host(pu_sim *sim, const pu_sockaddr *addr) {
  for (sim_host *h = sim->hosts; h != NULL; h = h->next)
    for (size_t i = 0; i < h->addr_count; i++)
      if (h->addrs[i].family == addr->family &&
          memcmp(h->addrs[i].ip, addr->ip, addr->family == 4 ? 4 : 16) == 0)
        return h;
  return NULL;
}

/* ---- a host's clock, chance and timers ---- */

static uint64_t now_us(const pu_platform *p) {
  return ((const sim_host *)p)->sim->now_us;
}

static uint64_t wall_ns(const pu_platform *p) {
  return WALL_START_NS + now_us(p) * 1000;
}

static void random_bytes(pu_platform *p, void *out, size_t len) {
  pu_sim *sim = ((sim_host *)p)->sim;
  uint8_t *at = out;
  while (len > 0) {
    const uint64_t r = sim_random(sim);
    const size_t n = len < sizeof r ? len : sizeof r;
    memcpy(at, &r, n);
    at += n;
    len -= n;
  }
}

static void run_wake(pu_sim *sim, sim_event *e) {
  sim_host *h = e->target;
  (void)sim;
  if (h->wake == e->seq) {
    h->wake = 0;
    pu_timers_run(&h->base);
  }
}

/* A pending wake-up that comes early enough is kept, so that a timer moved ahead with every packet
 * does not fill the queue: it then finds nothing due and asks anew. */
static void wake_at(pu_platform *p, uint64_t at_us) {
  sim_host *h = (sim_host *)p;
  if (at_us == PU_NEVER) {
    h->wake = 0;
  } else if (h->wake == 0 || at_us < h->wake_us) {
    h->wake = sim_schedule(h->sim, at_us, run_wake, h, 0)->seq;
    h->wake_us = at_us;
  }
}

/* ---- names and interfaces ---- */

int pu_sim_name(pu_sim *sim, const char *name, const pu_sockaddr *addr) {
  sim_name *n = calloc(1, sizeof *n);
  if (n == NULL)
    return PU_E_NOMEM;
  (void)snprintf(n->name, sizeof n->name, "%s", name);
  n->addr = *addr;
  n->next = sim->names;
  sim->names = n;
  return 0;
}

static void run_lookup(pu_sim *sim, sim_event *e) {
  sim_lookup *r = e->target;
  (void)sim;
  if (r->cb != NULL)
    r->cb(r->data, r->status, &r->addr, r->status == 0 ? 1 : 0);
}

static int resolve_start(pu_platform *p, const char *host, uint16_t port, int family,
                         pu_resolve_cb cb, void *data, pu_resolve **out) {
  pu_sim *sim = ((sim_host *)p)->sim;
  sim_lookup *r = sim_alloc(sizeof *r);
  *r = (sim_lookup){.base.platform = p, .cb = cb, .data = data, .status = PU_E_NOT_FOUND};
  if (pu_sockaddr_parse_ip(host, &r->addr)) {
    r->status = 0;
  } else {
    for (const sim_name *n = sim->names; n != NULL && r->status != 0; n = n->next)
      if (strcmp(n->name, host) == 0) {
        r->addr = n->addr;
        r->status = 0;
      }
  }
  if (r->status == 0 && family != 0 && r->addr.family != family)
    r->status = PU_E_NOT_FOUND;
  r->addr.port = port;
  sim_schedule(sim, sim->now_us + RESOLVE_US, run_lookup, r, 0)->memory = r;
  *out = &r->base;
  return 0;
}

/* ---- texts ---- */

typedef struct text_lookup {
  pu_resolve base;
  pu_resolve_text_cb cb; /* NULL: cancelled */
  void *data;
  char name[256];
} text_lookup;

int pu_sim_text(pu_sim *sim, const char *name, const char *text) {
  sim_text *t = calloc(1, sizeof *t);
  if (t == NULL)
    return PU_E_NOMEM;
  (void)snprintf(t->name, sizeof t->name, "%s", name);
  (void)snprintf(t->text, sizeof t->text, "%s", text);
  sim_text **at = &sim->texts;
  while (*at != NULL)
    at = &(*at)->next;
  *at = t;
  return 0;
}

static void run_text_lookup(pu_sim *sim, sim_event *e) {
  text_lookup *r = e->target;
  const char *texts[PU_RESOLVE_TEXTS_MAX];
  size_t count = 0;
  for (const sim_text *t = sim->texts; t != NULL && count < PU_RESOLVE_TEXTS_MAX; t = t->next)
    if (strcmp(t->name, r->name) == 0)
      texts[count++] = t->text;
  if (r->cb != NULL)
    r->cb(r->data, count > 0 ? 0 : PU_E_NOT_FOUND, texts, count);
}

static void text_cancel(pu_resolve *r) {
  ((text_lookup *)r)->cb = NULL;
}

static int resolve_text(pu_platform *p, const char *name, pu_resolve_text_cb cb, void *data,
                        pu_resolve **out) {
  pu_sim *sim = ((sim_host *)p)->sim;
  text_lookup *r = sim_alloc(sizeof *r);
  *r = (text_lookup){.base = {p, text_cancel}, .cb = cb, .data = data};
  (void)snprintf(r->name, sizeof r->name, "%s", name);
  sim_schedule(sim, sim->now_us + RESOLVE_US, run_text_lookup, r, 0)->memory = r;
  *out = &r->base;
  return 0;
}

static void resolve_cancel(pu_resolve *r) {
  ((sim_lookup *)r)->cb = NULL;
}

static size_t interface_addrs(pu_platform *p, pu_sockaddr *out, size_t max) {
  const sim_host *h = (const sim_host *)p;
  const size_t count = h->addr_count < max ? h->addr_count : max;
  memcpy(out, h->addrs, count * sizeof *out);
  return count;
}

/* The simulation's machine is always the same, so that a run is. */
static void machine(const pu_platform *p, pu_machine *out) {
  (void)p;
  *out = (pu_machine){.memory_bytes = (uint64_t)2 << 30, .descriptors = 65536};
}

static const pu_platform_ops sim_ops = {
    .now_us = now_us,
    .wall_ns = wall_ns,
    .random = random_bytes,
    .machine = machine,
    .wake_at = wake_at,
    .tcp_connect = sim_tcp_connect,
    .tcp_set_events = sim_tcp_set_events,
    .tcp_want = sim_tcp_want,
    .tcp_readv = sim_tcp_readv,
    .tcp_writev = sim_tcp_writev,
    .tcp_shutdown = sim_tcp_shutdown,
    .tcp_close = sim_tcp_close,
    .tcp_local = sim_tcp_local,
    .tcp_remote = sim_tcp_remote,
    .tcp_listen = sim_tcp_listen,
    .tcp_listener_address = sim_tcp_listener_address,
    .tcp_listener_close = sim_tcp_listener_close,
    .udp_open = sim_udp_open,
    .udp_want = sim_udp_want,
    .udp_recv = sim_udp_recv,
    .udp_send = sim_udp_send,
    .udp_local = sim_udp_local,
    .udp_close = sim_udp_close,
    .resolve_start = resolve_start,
    .resolve_text = resolve_text,
    .resolve_cancel = resolve_cancel,
    .interface_addrs = interface_addrs,
};
