/* The order of dialling; see rank.h. */
#include "swarm/rank.h"

#include <stdlib.h>

static bool is_direct(const pu_rank_item *i) {
  return i->kind != PU_MA_KIND_CIRCUIT;
}

/* Those that are scheduled among each other. */
typedef struct class {
  bool is_public, late;
} class;

static bool is_of(const pu_rank_item *i, pu_ma_kind kind, class c) {
  return i->kind == kind && i->is_public == c.is_public && i->late == c.late;
}

/* step gives those of one kind and class their delays from |at| on, IPv6 and IPv4 in turn; returns
 * the delay of the last, or |at| - |stagger| when there was none. */
static uint64_t step(pu_rank_item *items, size_t count, pu_ma_kind kind, class c, uint64_t at,
                     uint64_t stagger) {
  size_t next[2] = {0, 0}; /* of IPv6; of the rest */
  for (bool any = true; any;) {
    any = false;
    for (size_t f = 0; f < 2; f++) {
      size_t *i = &next[f];
      while (*i < count && (!is_of(&items[*i], kind, c) || (items[*i].family == 6) != (f == 0)))
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

static bool has(const pu_rank_item *items, size_t count, pu_ma_kind kind, class c) {
  for (size_t i = 0; i < count; i++)
    if (is_of(&items[i], kind, c))
      return true;
  return false;
}

/* group schedules the direct addresses of one class from |at| on; returns the delay of the last. */
static uint64_t group(pu_rank_item *items, size_t count, class c, uint64_t at) {
  const uint64_t stagger = c.is_public ? PU_RANK_PUBLIC_US : PU_RANK_PRIVATE_US;
  const bool quic = has(items, count, PU_MA_KIND_QUIC, c);
  const bool tcp = has(items, count, PU_MA_KIND_TCP, c);
  uint64_t last = at;
  if (quic) {
    last = step(items, count, PU_MA_KIND_QUIC, c, at, stagger);
    /* However many there are, TCP waits for one of each family only. */
    at = (last < at + stagger ? last : at + stagger) + stagger;
  }
  if (tcp) {
    const uint64_t end = step(items, count, PU_MA_KIND_TCP, c, at, stagger);
    last = end > last ? end : last;
  }
  if (has(items, count, PU_MA_KIND_WS, c))
    last =
        step(items, count, PU_MA_KIND_WS, c, quic || tcp ? last + PU_RANK_OTHER_US : last, stagger);
  return last;
}

static bool is_dark(const pu_rank_item *i, pu_rank_dark dark) {
  return is_direct(i) && i->is_public &&
         ((dark.udp && i->kind == PU_MA_KIND_QUIC) || (dark.ip6 && i->family == 6));
}

static int by_delay(const void *x, const void *y) {
  const pu_rank_item *a = x, *b = y;
  if (a->delay_us != b->delay_us)
    return a->delay_us < b->delay_us ? -1 : 1;
  if (a->is_public != b->is_public)
    return a->is_public ? 1 : -1; /* near ones first */
  return a->index < b->index ? -1 : a->index > b->index;
}

void pu_rank(pu_rank_item *items, size_t count, pu_rank_dark dark) {
  bool direct = false, is_public = false, private = false, light = false;
  for (size_t i = 0; i < count; i++) {
    const bool out = is_direct(&items[i]) && items[i].is_public;
    direct = direct || is_direct(&items[i]);
    is_public = is_public || out;
    private = private || (is_direct(&items[i]) && !items[i].is_public);
    light = light || (out && !is_dark(&items[i], dark));
  }
  for (size_t i = 0; i < count; i++)
    items[i].late = light && is_dark(&items[i], dark);
  (void)group(items, count, (class){false, false}, 0);
  const uint64_t last = group(items, count, (class){true, false}, private ? PU_RANK_PRIVATE_US : 0);
  (void)group(items, count, (class){true, true}, last + PU_RANK_OTHER_US);
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
      pu_dark_forget(d);
    return false;
  }
  return ++d->dials % PU_DARK_PROBE != 0;
}

void pu_dark_note(pu_dark *d, bool worked, uint64_t now_us) {
  if (worked) {
    pu_dark_forget(d);
    return;
  }
  d->failures += d->failures < PU_DARK_AFTER;
  d->last_us = now_us;
}

void pu_dark_forget(pu_dark *d) {
  *d = (pu_dark){0};
}
