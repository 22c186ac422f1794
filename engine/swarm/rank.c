/* The order of dialling; see rank.h. */
#include "swarm/rank.h"

#include <stdlib.h>

static bool is_direct(const pu_rank_item *i) {
  return i->kind != PU_MA_KIND_CIRCUIT;
}

/* step gives those of one kind and group their delays from |at| on, IPv6 and IPv4 in turn; returns
 * the delay of the last, or |at| - |stagger| when there was none. */
static uint64_t step(pu_rank_item *items, size_t count, pu_ma_kind kind, bool is_public,
                     uint64_t at, uint64_t stagger) {
  size_t next[2] = {0, 0}; /* of IPv6; of the rest */
  for (bool any = true; any;) {
    any = false;
    for (size_t f = 0; f < 2; f++) {
      size_t *i = &next[f];
      while (*i < count && (items[*i].kind != kind || items[*i].is_public != is_public ||
                            (items[*i].family == 6) != (f == 0)))
        (*i)++;
      if (*i == count)
        continue;
      items[(*i)++].delay_us = at;
      at += stagger;
      any = true;
    }
  }
  return at - stagger;
}

static bool has(const pu_rank_item *items, size_t count, pu_ma_kind kind, bool is_public) {
  for (size_t i = 0; i < count; i++)
    if (items[i].kind == kind && items[i].is_public == is_public)
      return true;
  return false;
}

/* group schedules the direct addresses of one class from |at| on. */
static void group(pu_rank_item *items, size_t count, bool is_public, uint64_t at, bool dark) {
  const uint64_t stagger = is_public ? PU_RANK_PUBLIC_US : PU_RANK_PRIVATE_US;
  const bool quic = has(items, count, PU_MA_KIND_QUIC, is_public);
  const bool tcp = has(items, count, PU_MA_KIND_TCP, is_public);
  uint64_t last = at;
  if (quic && !(dark && tcp)) {
    last = step(items, count, PU_MA_KIND_QUIC, is_public, at, stagger);
    /* However many there are, TCP waits for one of each family only. */
    at = (last < at + stagger ? last : at + stagger) + stagger;
  }
  if (tcp) {
    const uint64_t end = step(items, count, PU_MA_KIND_TCP, is_public, at, stagger);
    last = end > last ? end : last;
  }
  at = last + PU_RANK_OTHER_US;
  if (quic && dark && tcp)
    at = step(items, count, PU_MA_KIND_QUIC, is_public, at, stagger) + stagger;
  if (!quic && !tcp)
    at = last;
  (void)step(items, count, PU_MA_KIND_WS, is_public, at, stagger);
}

static int by_delay(const void *x, const void *y) {
  const pu_rank_item *a = x, *b = y;
  if (a->delay_us != b->delay_us)
    return a->delay_us < b->delay_us ? -1 : 1;
  if (a->is_public != b->is_public)
    return a->is_public ? 1 : -1; /* near ones first */
  return a->index < b->index ? -1 : a->index > b->index;
}

void pu_rank(pu_rank_item *items, size_t count, bool udp_dark) {
  bool direct = false, is_public = false, private = false;
  for (size_t i = 0; i < count; i++) {
    direct = direct || is_direct(&items[i]);
    is_public = is_public || (is_direct(&items[i]) && items[i].is_public);
    private = private || (is_direct(&items[i]) && !items[i].is_public);
  }
  group(items, count, false, 0, false);
  group(items, count, true, private ? PU_RANK_PRIVATE_US : 0, udp_dark);
  uint64_t at = is_public ? PU_RANK_RELAY_PUBLIC_US : direct ? PU_RANK_RELAY_PRIVATE_US : 0;
  for (size_t i = 0; i < count; i++) {
    if (is_direct(&items[i]))
      continue;
    items[i].delay_us = at;
    at += PU_RANK_PUBLIC_US;
  }
  qsort(items, count, sizeof *items, by_delay);
}

bool pu_dark_is(const pu_dark *d, uint64_t now_us) {
  return d->failures >= PU_DARK_AFTER && now_us - d->last_us < PU_DARK_FORGET_US;
}

bool pu_dark_ask(pu_dark *d, uint64_t now_us) {
  if (!pu_dark_is(d, now_us)) {
    if (d->failures >= PU_DARK_AFTER)
      *d = (pu_dark){0};
    return false;
  }
  return ++d->dials % PU_DARK_PROBE != 0;
}

void pu_dark_note(pu_dark *d, bool worked, uint64_t now_us) {
  if (worked) {
    *d = (pu_dark){0};
    return;
  }
  d->failures += d->failures < PU_DARK_AFTER;
  d->last_us = now_us;
}
