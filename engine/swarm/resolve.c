/* Looking names up for the dialer; see resolve.h and wire 4. */
#include "swarm/resolve.h"

#include <stdio.h>
#include <string.h>

#include "platform/assert.h"

#define PREFIX "dnsaddr="

typedef struct lookup {
  pu_names *names;
  pu_resolve *resolve; /* NULL: done */
  unsigned depth;
} lookup;

struct pu_names {
  pu_engine *engine;
  pu_peer_id peer;
  pu_names_cb cb;
  void *data;
  pu_timer timer; /* the limit, and the turn of the loop in which it ends */
  pu_multiaddr *addrs;
  size_t count, max;
  lookup lookups[PU_RESOLVE_LOOKUPS_MAX];
  size_t lookup_count, running;
};

static void finish_soon(pu_names *n) {
  if (n->running == 0)
    (void)pu_timer_after(&n->timer, 0); /* armed before, so this takes no memory */
}

void pu_names_cancel(pu_names *n) {
  if (n == NULL)
    return;
  pu_timer_stop(&n->timer);
  for (size_t i = 0; i < n->lookup_count; i++)
    pu_resolve_cancel(n->lookups[i].resolve);
  pu_free(n->addrs);
  pu_free(n);
}

static void on_timer(void *data) {
  pu_names *n = data;
  for (size_t i = 0; i < n->lookup_count; i++) {
    pu_resolve_cancel(n->lookups[i].resolve);
    n->lookups[i].resolve = NULL;
  }
  n->cb(n->data, n->addrs, n->count);
  pu_names_cancel(n);
}

static bool is_dnsaddr(const pu_multiaddr *a, pu_ma_component *c) {
  size_t pos = 0;
  return pu_multiaddr_next(a, &pos, c) && c->code == PU_MA_DNSADDR;
}

static bool is_quic_name(const pu_multiaddr *a, pu_ma_target *t) {
  pu_multiaddr_target(a, t);
  return t->kind == PU_MA_KIND_QUIC && t->is_dns;
}

bool pu_names_needed(const pu_multiaddr *addrs, size_t count) {
  for (size_t i = 0; i < count; i++) {
    pu_ma_component c;
    pu_ma_target t;
    if (is_dnsaddr(&addrs[i], &c) || is_quic_name(&addrs[i], &t))
      return true;
  }
  return false;
}

static void keep(pu_names *n, const pu_multiaddr *a) {
  for (size_t i = 0; i < n->count; i++)
    if (pu_multiaddr_equal(&n->addrs[i], a))
      return;
  if (n->count < n->max)
    n->addrs[n->count++] = *a;
}

static lookup *new_lookup(pu_names *n, unsigned depth) {
  if (n->lookup_count == PU_RESOLVE_LOOKUPS_MAX || depth > PU_RESOLVE_DEPTH_MAX)
    return NULL;
  lookup *l = &n->lookups[n->lookup_count++];
  *l = (lookup){.names = n, .depth = depth};
  return l;
}

static void began(lookup *l, int status) {
  if (status == 0)
    l->names->running++;
  else
    l->resolve = NULL;
}

static void ended(lookup *l) {
  l->resolve = NULL;
  l->names->running--;
  finish_soon(l->names);
}

static void on_addresses(void *data, int status, const pu_sockaddr *addrs, size_t count) {
  lookup *l = data;
  for (size_t i = 0; i < count && status == 0; i++) {
    pu_multiaddr a;
    pu_multiaddr_from_udp(&addrs[i], &a);
    keep(l->names, &a);
  }
  ended(l);
}

static void take(pu_names *n, const pu_multiaddr *a, unsigned depth);

/* is_ours says whether an address of a TXT record is for the peer that is dialled: one that ends in
 * another peer is not. */
static bool is_ours(const pu_names *n, const pu_multiaddr *a, pu_multiaddr *bare) {
  pu_ma_component c, last = {0};
  for (size_t pos = 0; pu_multiaddr_next(a, &pos, &c);)
    last = c;
  *bare = *a;
  if (last.code != PU_MA_P2P)
    return true;
  pu_peer_id id;
  pu_multiaddr_without_peer(a, bare);
  return bare->len > 0 && pu_peer_id_parse_multiaddr(last.value, last.len, &id) == 0 &&
         pu_peer_id_equal(&id, &n->peer);
}

static void on_texts(void *data, int status, const char *const *texts, size_t count) {
  lookup *l = data;
  for (size_t i = 0; i < count && status == 0; i++) {
    pu_multiaddr a, bare;
    if (strncmp(texts[i], PREFIX, sizeof PREFIX - 1) != 0)
      continue;
    const char *text = texts[i] + sizeof PREFIX - 1;
    if (pu_multiaddr_from_text(text, strlen(text), &a, NULL) == 0 && is_ours(l->names, &a, &bare))
      take(l->names, &bare, l->depth + 1);
  }
  ended(l);
}

/* take keeps an address, or looks its name up. */
static void take(pu_names *n, const pu_multiaddr *a, unsigned depth) {
  pu_platform *p = n->engine->platform;
  pu_ma_component c;
  pu_ma_target t;
  if (is_dnsaddr(a, &c)) {
    char name[sizeof "_dnsaddr." + 255];
    lookup *l = c.len < 255 ? new_lookup(n, depth) : NULL;
    if (l == NULL)
      return;
    (void)snprintf(name, sizeof name, "_dnsaddr.%.*s", (int)c.len, (const char *)c.value);
    began(l, pu_resolve_text(p, name, on_texts, l, &l->resolve));
  } else if (is_quic_name(a, &t)) {
    lookup *l = new_lookup(n, depth);
    if (l != NULL)
      began(l, pu_resolve_start(p, t.host, t.port, t.family, on_addresses, l, &l->resolve));
  } else {
    keep(n, a);
  }
}

int pu_names_start(pu_engine *e, const pu_peer_id *peer, const pu_multiaddr *addrs, size_t count,
                   size_t max, pu_names_cb cb, void *data, pu_names **out) {
  pu_names *n = pu_zalloc(&e->mem, sizeof *n);
  if (n == NULL)
    return PU_E_NOMEM;
  n->engine = e;
  n->peer = *peer;
  n->cb = cb;
  n->data = data;
  n->max = max;
  pu_timer_init(&n->timer, e->platform, on_timer, n);
  n->addrs = pu_alloc(&e->mem, max * sizeof *n->addrs);
  if (n->addrs == NULL || pu_timer_after(&n->timer, PU_RESOLVE_LIMIT_US) != 0) {
    pu_names_cancel(n);
    return PU_E_NOMEM;
  }
  for (size_t i = 0; i < count; i++)
    take(n, &addrs[i], 0);
  finish_soon(n);
  *out = n;
  return 0;
}
