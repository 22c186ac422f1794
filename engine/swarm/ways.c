/* Which ways there are to a peer, and in which order; see ways.h and wire 4. */
#include "swarm/ways.h"

#include <string.h>

#include "swarm/rank.h"

#define HOOK_DELAY_MAX_MS 60000u

/* ---- what is no use ---- */

void pu_own_addrs_get(pu_engine *e, pu_own_addrs *out) {
  pu_multiaddr *addrs = pu_alloc(&e->mem, PU_WAYS_OWN_MAX * sizeof *addrs);
  out->count = 0;
  if (addrs == NULL)
    return;
  const size_t count = pu_engine_own_addrs(e, addrs, PU_WAYS_OWN_MAX);
  for (size_t i = 0; i < count; i++) {
    pu_ma_target t;
    pu_multiaddr_target(&addrs[i], &t);
    if (t.kind == PU_MA_KIND_CIRCUIT || t.kind == PU_MA_KIND_OTHER)
      continue;
    out->of[out->count].addr = t.addr;
    out->of[out->count].addr.port = t.port;
    out->of[out->count++].quic = t.kind == PU_MA_KIND_QUIC;
  }
  pu_free(addrs);
}

static bool is_dialable4(const uint8_t *ip) {
  return ip[0] != 0 && ip[0] < 224; /* "this" network; multicast, reserved, broadcast */
}

static bool is_dialable6(const uint8_t *ip, uint32_t scope) {
  static const uint8_t zero[16] = {0};
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  if (memcmp(ip, zero, 16) == 0 || ip[0] == 0xff)
    return false;
  if (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80 && scope == 0)
    return false;
  return memcmp(ip, mapped, 12) != 0 || is_dialable4(ip + 12);
}

bool pu_way_is_usable(const pu_engine *e, const pu_own_addrs *own, const pu_ma_target *t) {
  if (t->kind == PU_MA_KIND_CIRCUIT)
    return !pu_peer_id_equal(&t->relay, pu_engine_peer(e));
  if (t->kind == PU_MA_KIND_OTHER || t->is_dns || t->port == 0)
    return false;
  if (t->addr.family == 4 ? !is_dialable4(t->addr.ip) : !is_dialable6(t->addr.ip, t->addr.scope))
    return false;
  for (size_t i = 0; i < own->count; i++) {
    const pu_sockaddr *a = &own->of[i].addr;
    if (own->of[i].quic == (t->kind == PU_MA_KIND_QUIC) && a->port == t->port &&
        a->family == t->addr.family && memcmp(a->ip, t->addr.ip, a->family == 4 ? 4 : 16) == 0)
      return false;
  }
  return true;
}

bool pu_ways_has(const pu_ways *w, const pu_multiaddr *addr, const pu_ma_target *target) {
  for (size_t i = 0; i < w->count; i++)
    if (pu_multiaddr_equal(&w->of[i]->addr, addr) && strcmp(w->of[i]->target.sni, target->sni) == 0)
      return true;
  return false;
}

void pu_ways_free(pu_ways *w) {
  for (size_t i = 0; i < w->count; i++)
    pu_free(w->of[i]);
  w->count = 0;
}

/* ---- order ---- */

/* sort ranks |w|; |items| has room for all. */
static void sort(pu_engine *e, pu_ways *w, pu_rank_item *items) {
  pu_way *sorted[PU_WAYS_MAX];
  bool quic = false, ip6 = false;
  const uint64_t now = pu_now_us(e->platform);
  for (size_t i = 0; i < w->count; i++) {
    const pu_way *way = w->of[i];
    const bool direct = way->target.kind != PU_MA_KIND_CIRCUIT;
    items[i] = (pu_rank_item){.kind = way->target.kind,
                              .family = way->target.addr.family,
                              .is_public = way->is_public,
                              .index = i};
    quic = quic || (way->target.kind == PU_MA_KIND_QUIC && way->is_public);
    ip6 = ip6 || (direct && way->is_public && way->target.addr.family == 6);
  }
  const pu_rank_dark dark = {.udp = quic && pu_dark_ask(&e->udp_dark, now),
                             .ip6 = ip6 && pu_dark_ask(&e->ip6_dark, now)};
  pu_rank(items, w->count, dark);
  for (size_t i = 0; i < w->count; i++) {
    sorted[i] = w->of[items[i].index];
    sorted[i]->at_us = items[i].delay_us;
  }
  memcpy(w->of, sorted, w->count * sizeof *sorted);
}

static const char *transport_name(const pu_ma_target *t) {
  switch (t->kind) {
  case PU_MA_KIND_QUIC:
    return "quic-v1";
  case PU_MA_KIND_WS:
    return t->tls ? "wss" : "ws";
  case PU_MA_KIND_CIRCUIT:
    return "circuit";
  default:
    return "tcp";
  }
}

/* A question to the hook. */
typedef struct question {
  pu_dial_candidate candidates[PU_WAYS_MAX];
  char texts[PU_WAYS_MAX][PU_MULTIADDR_MAX_TEXT];
} question;

/* take_answer makes |w| what the hook left; what it answers twice or invents does not count. */
static void take_answer(pu_ways *w, const question *q, size_t left) {
  pu_way *kept[PU_WAYS_MAX];
  size_t count = 0;
  for (size_t i = 0; i < left; i++) {
    const pu_dial_candidate *c = &q->candidates[i];
    if (c->id >= w->count || w->of[c->id] == NULL)
      continue;
    kept[count] = w->of[c->id];
    w->of[c->id] = NULL;
    const uint32_t delay_ms = c->delay_ms < HOOK_DELAY_MAX_MS ? c->delay_ms : HOOK_DELAY_MAX_MS;
    kept[count++]->at_us = delay_ms * 1000ull;
  }
  for (size_t i = 0; i < w->count; i++)
    pu_free(w->of[i]);
  memcpy(w->of, kept, count * sizeof *kept);
  w->count = count;
}

static int ask_hook(pu_engine *e, const pu_peer_id *peer, pu_ways *w) {
  question *q = pu_alloc(&e->mem, sizeof *q);
  if (q == NULL)
    return PU_E_NOMEM;
  for (size_t i = 0; i < w->count; i++) {
    const pu_way *way = w->of[i];
    q->candidates[i] = (pu_dial_candidate){.addr = pu_multiaddr_text(&way->addr, q->texts[i]),
                                           .transport = transport_name(&way->target),
                                           .relayed = way->target.kind == PU_MA_KIND_CIRCUIT,
                                           .delay_ms = (uint32_t)(way->at_us / 1000),
                                           .id = (uint32_t)i};
  }
  const int left = e->rank(e->rank_data, peer, q->candidates, w->count);
  take_answer(w, q, left < 0 ? 0 : (size_t)left < w->count ? (size_t)left : w->count);
  pu_free(q);
  return w->count > 0 ? 0 : PU_E_DENIED;
}

int pu_ways_order(pu_engine *e, const pu_peer_id *peer, pu_ways *w) {
  if (w->count == 0)
    return 0;
  pu_rank_item *items = pu_alloc(&e->mem, w->count * sizeof *items);
  if (items == NULL)
    return PU_E_NOMEM;
  sort(e, w, items);
  pu_free(items);
  return e->rank != NULL ? ask_hook(e, peer, w) : 0;
}
