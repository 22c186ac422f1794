/* The peer store; see peerstore.h. */
#include "swarm/peerstore.h"

#include <stdio.h>
#include <string.h>

#include "platform/assert.h"
#include "swarm/conn.h"

#define BUCKETS 1024u
/* After the n-th vain dial an address rests this long: 5 s, doubled each time, at most 5 min. */
#define BACKOFF_FIRST_US 5000000u
#define BACKOFF_MAX_US 300000000u

struct pu_peerstore {
  pu_engine *engine;
  pu_list order; /* least recently used first */
  size_t count;
  pu_peer *buckets[BUCKETS];
};

static pu_peer **bucket(pu_peerstore *s, const pu_peer_id *id) {
  return &s->buckets[pu_peer_id_hash(id, s->engine->table_seed) % BUCKETS];
}

int pu_peerstore_new(pu_engine *e, pu_peerstore **out) {
  pu_peerstore *s = pu_zalloc(&e->mem, sizeof *s);
  if (s == NULL)
    return PU_E_NOMEM;
  s->engine = e;
  pu_list_init(&s->order);
  *out = s;
  return 0;
}

static void free_peer(pu_peer *p) {
  for (size_t i = 0; i < p->addr_count; i++)
    pu_free(p->addrs[i].bytes);
  pu_free(p->addrs);
  pu_free(p->protocols);
  pu_free(p);
}

static void drop_peer(pu_peerstore *s, pu_peer *p) {
  for (pu_peer **at = bucket(s, &p->id); *at != NULL; at = &(*at)->next)
    if (*at == p) {
      *at = p->next;
      break;
    }
  pu_list_remove(&p->link);
  s->count--;
  free_peer(p);
}

void pu_peerstore_free(pu_peerstore *s) {
  if (s == NULL)
    return;
  while (!pu_list_empty(&s->order))
    drop_peer(s, PU_CONTAINER_OF(s->order.next, pu_peer, link));
  pu_free(s);
}

pu_peer *pu_peerstore_find(pu_peerstore *s, const pu_peer_id *id) {
  for (pu_peer *p = *bucket(s, id); p != NULL; p = p->next)
    if (pu_peer_id_equal(&p->id, id))
      return p;
  return NULL;
}

/* make_room drops the least recently used peer that nobody needs: no connection, no protection, no
 * address that was given for good. */
static void make_room(pu_peerstore *s) {
  PU_LIST_EACH(&s->order, node, tmp) {
    pu_peer *p = PU_CONTAINER_OF(node, pu_peer, link);
    bool needed = p->protect > 0 || pu_engine_find_conn(s->engine, &p->id, false) != NULL;
    for (size_t i = 0; i < p->addr_count && !needed; i++)
      needed = p->addrs[i].given_until_us == PU_PEERSTORE_FOREVER;
    if (needed)
      continue;
    drop_peer(s, p);
    return;
  }
}

int pu_peerstore_get(pu_peerstore *s, const pu_peer_id *id, pu_peer **out) {
  pu_peer *p = pu_peerstore_find(s, id);
  if (p == NULL) {
    if (s->count >= PU_PEERSTORE_PEERS_MAX)
      make_room(s);
    if (s->count >= PU_PEERSTORE_PEERS_MAX)
      return PU_E_LIMIT;
    p = pu_zalloc(&s->engine->mem, sizeof *p);
    if (p == NULL)
      return PU_E_NOMEM;
    p->id = *id;
    pu_peer **at = bucket(s, id);
    p->next = *at;
    *at = p;
    s->count++;
    pu_list_init(&p->link);
  }
  pu_list_remove(&p->link); /* most recently used last */
  pu_list_push(&s->order, &p->link);
  *out = p;
  return 0;
}

/* ---- addresses ---- */

static void drop_addr(pu_peer *p, size_t i) {
  pu_free(p->addrs[i].bytes);
  p->addrs[i] = p->addrs[--p->addr_count];
}

static void drop_expired(pu_peerstore *s, pu_peer *p) {
  const uint64_t now = pu_now_us(s->engine->platform);
  for (size_t i = 0; i < p->addr_count;) {
    if (p->addrs[i].expires_us <= now)
      drop_addr(p, i);
    else
      i++;
  }
}

/* strip drops a final /p2p of the peer itself, which the store's key says already. */
static void strip(const pu_peer_id *id, const pu_multiaddr *addr, pu_multiaddr *out) {
  pu_ma_component last = {0};
  size_t pos = 0;
  while (pu_multiaddr_next(addr, &pos, &last))
    ;
  if (last.code == PU_MA_P2P && last.len == id->len && memcmp(last.value, id->bytes, id->len) == 0)
    pu_multiaddr_without_peer(addr, out);
  else
    *out = *addr;
}

static pu_peer_addr *find_addr(pu_peer *p, const pu_multiaddr *addr) {
  for (size_t i = 0; i < p->addr_count; i++)
    if (p->addrs[i].len == addr->len && memcmp(p->addrs[i].bytes, addr->bytes, addr->len) == 0)
      return &p->addrs[i];
  return NULL;
}

/* replaceable returns the index of the address that makes room, or the count: what was given does
 * not yield to what a peer tells of itself, and the first to expire goes first. */
static size_t replaceable(const pu_peer *p, bool identified) {
  size_t best = p->addr_count;
  for (size_t i = 0; i < p->addr_count; i++) {
    const pu_peer_addr *a = &p->addrs[i];
    if (a->given_until_us == PU_PEERSTORE_FOREVER || (identified && a->given_until_us != 0))
      continue;
    if (identified && a->expires_us == PU_PEERSTORE_FOREVER)
      continue; /* as good as the new one */
    if (best == p->addr_count || (a->given_until_us == 0 && p->addrs[best].given_until_us != 0) ||
        ((a->given_until_us == 0) == (p->addrs[best].given_until_us == 0) &&
         a->expires_us < p->addrs[best].expires_us))
      best = i;
  }
  return best;
}

static void set_expiry(pu_peer_addr *a) {
  a->expires_us =
      a->given_until_us > a->identified_until_us ? a->given_until_us : a->identified_until_us;
}

static void prolong(pu_peer_addr *a, uint64_t expires_us, bool identified) {
  uint64_t *until_us = identified ? &a->identified_until_us : &a->given_until_us;
  if (expires_us > *until_us)
    *until_us = expires_us;
  set_expiry(a);
}

int pu_peerstore_add_addr(pu_peerstore *s, const pu_peer_id *id, const pu_multiaddr *addr,
                          uint64_t expires_us, bool identified) {
  pu_multiaddr plain;
  pu_peer *p;
  strip(id, addr, &plain);
  if (plain.len == 0)
    return PU_E_INVAL;
  int status = pu_peerstore_get(s, id, &p);
  if (status != 0)
    return status;
  drop_expired(s, p);
  pu_peer_addr *known = find_addr(p, &plain);
  if (known != NULL) {
    prolong(known, expires_us, identified);
    return 0;
  }
  if (p->addr_count == PU_PEERSTORE_ADDRS_MAX) {
    const size_t i = replaceable(p, identified);
    if (i == p->addr_count)
      return PU_E_LIMIT;
    drop_addr(p, i);
  }
  if (p->addr_count == p->addr_cap) {
    const size_t cap = p->addr_cap == 0 ? 4 : p->addr_cap * 2;
    pu_peer_addr *grown = pu_realloc(&s->engine->mem, p->addrs, cap * sizeof *grown);
    if (grown == NULL)
      return PU_E_NOMEM;
    p->addrs = grown;
    p->addr_cap = cap;
  }
  uint8_t *bytes = pu_alloc(&s->engine->mem, plain.len);
  if (bytes == NULL)
    return PU_E_NOMEM;
  memcpy(bytes, plain.bytes, plain.len);
  pu_peer_addr *a = &p->addrs[p->addr_count++];
  *a = (pu_peer_addr){.len = plain.len, .bytes = bytes};
  prolong(a, expires_us, identified);
  return 0;
}

void pu_peerstore_drop_identified(pu_peerstore *s, const pu_peer_id *id) {
  pu_peerstore_age_identified(s, id, 0);
}

void pu_peerstore_age_identified(pu_peerstore *s, const pu_peer_id *id, uint64_t expires_us) {
  pu_peer *p = pu_peerstore_find(s, id);
  if (p == NULL)
    return;
  for (size_t i = 0; i < p->addr_count; i++) {
    pu_peer_addr *a = &p->addrs[i];
    if (a->identified_until_us != 0)
      a->identified_until_us = expires_us;
    set_expiry(a);
  }
  drop_expired(s, p);
}

void pu_peerstore_drop_given(pu_peerstore *s, const pu_peer_id *id) {
  pu_peer *p = pu_peerstore_find(s, id);
  if (p == NULL)
    return;
  for (size_t i = 0; i < p->addr_count; i++) {
    p->addrs[i].given_until_us = 0;
    set_expiry(&p->addrs[i]);
  }
  drop_expired(s, p);
}

size_t pu_peerstore_addrs(pu_peerstore *s, const pu_peer_id *id, pu_multiaddr *out, size_t max) {
  pu_peer *p = pu_peerstore_find(s, id);
  size_t count = 0;
  if (p == NULL)
    return 0;
  drop_expired(s, p);
  for (; count < p->addr_count && count < max; count++) {
    out[count].len = p->addrs[count].len;
    memcpy(out[count].bytes, p->addrs[count].bytes, p->addrs[count].len);
  }
  return count;
}

static pu_peer_addr *find_dialled(pu_peerstore *s, const pu_peer_id *id, const pu_multiaddr *addr) {
  pu_multiaddr plain;
  pu_peer *p = pu_peerstore_find(s, id);
  strip(id, addr, &plain);
  return p != NULL ? find_addr(p, &plain) : NULL;
}

void pu_peerstore_dialled(pu_peerstore *s, const pu_peer_id *id, const pu_multiaddr *addr,
                          bool ok) {
  pu_peer_addr *a = find_dialled(s, id, addr);
  if (a == NULL)
    return;
  if (ok) {
    a->failures = 0;
    a->backoff_until_us = 0;
    return;
  }
  uint64_t rest = BACKOFF_FIRST_US;
  for (uint32_t i = 0; i < a->failures && rest < BACKOFF_MAX_US; i++)
    rest *= 2;
  if (rest > BACKOFF_MAX_US)
    rest = BACKOFF_MAX_US;
  a->failures++;
  a->backoff_until_us = pu_now_us(s->engine->platform) + rest;
}

void pu_peerstore_forget_backoff(pu_peerstore *s) {
  PU_LIST_EACH(&s->order, node, tmp) {
    pu_peer *p = PU_CONTAINER_OF(node, pu_peer, link);
    for (size_t i = 0; i < p->addr_count; i++) {
      p->addrs[i].failures = 0;
      p->addrs[i].backoff_until_us = 0;
    }
  }
}

bool pu_peerstore_in_backoff(pu_peerstore *s, const pu_peer_id *id, const pu_multiaddr *addr) {
  const pu_peer_addr *a = find_dialled(s, id, addr);
  return a != NULL && a->backoff_until_us > pu_now_us(s->engine->platform);
}

/* ---- protocols ---- */

int pu_peerstore_set_protocols(pu_peerstore *s, const pu_peer_id *id, const char *joined,
                               size_t len) {
  pu_peer *p;
  if (len > PU_PEERSTORE_PROTOCOL_BYTES)
    return PU_E_LIMIT;
  int status = pu_peerstore_get(s, id, &p);
  if (status != 0)
    return status;
  char *copy = pu_alloc(&s->engine->mem, len + 1);
  if (copy == NULL)
    return PU_E_NOMEM;
  memcpy(copy, joined, len);
  copy[len] = '\0';
  pu_free(p->protocols);
  p->protocols = copy;
  p->protocols_len = len;
  return 0;
}

/* next_protocol walks the joined names: NULL at the end. */
static const char *next_protocol(const pu_peer *p, size_t *pos) {
  if (*pos >= p->protocols_len)
    return NULL;
  const char *name = p->protocols + *pos;
  *pos += strlen(name) + 1;
  return name;
}

int pu_peerstore_speaks(pu_peerstore *s, const pu_peer_id *id, const char *protocol) {
  const pu_peer *p = pu_peerstore_find(s, id);
  size_t pos = 0;
  if (p == NULL || p->protocols == NULL)
    return -1;
  for (const char *name; (name = next_protocol(p, &pos)) != NULL;)
    if (strcmp(name, protocol) == 0)
      return 1;
  return 0;
}

/* ---- the public face ---- */

int pu_engine_add_addr(pu_engine *e, const pu_peer_id *peer, const char *addr, uint32_t ttl_s,
                       pu_error *err) {
  pu_multiaddr a;
  pu_ma_target target;
  int status = pu_multiaddr_from_text(addr, strlen(addr), &a, err);
  if (status != 0)
    return status;
  pu_multiaddr_target(&a, &target);
  if (target.peer.len != 0 && !pu_peer_id_equal(&target.peer, peer))
    return pu_error_set(err, PU_E_PEER_MISMATCH, "%s is the address of another peer", addr);
  const uint64_t expires =
      ttl_s == UINT32_MAX ? PU_PEERSTORE_FOREVER : pu_now_us(e->platform) + ttl_s * 1000000ull;
  status = pu_peerstore_add_addr(e->peerstore, peer, &a, expires, false);
  return status == 0 ? 0 : pu_error_set(err, status, "cannot keep the address %s", addr);
}

void pu_engine_known_addrs(const pu_engine *e, const pu_peer_id *peer,
                           void (*each)(void *data, const char *addr), void *data) {
  char text[PU_MULTIADDR_MAX_TEXT];
  pu_multiaddr addrs[PU_PEERSTORE_ADDRS_MAX]; /* copies: |each| may change what is known */
  const size_t count = pu_peerstore_addrs(e->peerstore, peer, addrs, PU_COUNT(addrs));
  for (size_t i = 0; i < count; i++)
    each(data, pu_multiaddr_text(&addrs[i], text));
}

void pu_engine_resting_addrs(const pu_engine *e,
                             void (*each)(void *data, const pu_resting_addr *resting), void *data) {
  const uint64_t now = pu_now_us(e->platform);
  char text[PU_MULTIADDR_MAX_TEXT];
  PU_LIST_EACH(&e->peerstore->order, node, tmp) {
    const pu_peer *p = PU_CONTAINER_OF(node, pu_peer, link);
    for (size_t i = 0; i < p->addr_count; i++) {
      const pu_peer_addr *a = &p->addrs[i];
      if (a->backoff_until_us <= now || a->expires_us <= now)
        continue;
      pu_multiaddr addr = {.len = a->len};
      memcpy(addr.bytes, a->bytes, a->len);
      pu_resting_addr resting = {.peer = p->id,
                                 .failures = a->failures,
                                 .rest_s =
                                     (uint32_t)((a->backoff_until_us - now + 999999) / 1000000)};
      (void)snprintf(resting.addr, sizeof resting.addr, "%s", pu_multiaddr_text(&addr, text));
      each(data, &resting);
    }
  }
}

void pu_engine_peer_protocols(const pu_engine *e, const pu_peer_id *peer,
                              void (*each)(void *data, const char *protocol), void *data) {
  const pu_peer *p = pu_peerstore_find(e->peerstore, peer);
  size_t pos = 0;
  if (p == NULL || p->protocols == NULL)
    return;
  for (const char *name; (name = next_protocol(p, &pos)) != NULL;)
    each(data, name);
}

int pu_engine_protect(pu_engine *e, const pu_peer_id *peer, bool on) {
  pu_peer *p = pu_peerstore_find(e->peerstore, peer);
  if (!on) {
    if (p != NULL && p->protect > 0)
      p->protect--;
    return 0;
  }
  int status = pu_peerstore_get(e->peerstore, peer, &p);
  if (status == 0)
    p->protect++;
  return status;
}
