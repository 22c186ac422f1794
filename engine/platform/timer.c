/* Timers of a platform: one binary heap, ordered by time and then by order of arming, driven by the
 * single wake-up that each door offers. Arming and stopping cost O(log n) and no allocation but the
 * heap's growth. */
#include <stdlib.h>

#include "platform/assert.h"
#include "platform/platform_priv.h"

static bool before(const pu_timer *a, const pu_timer *b) {
  return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void put(pu_platform *p, size_t index, pu_timer *t) {
  p->heap[index] = t;
  t->heap_index = index;
}

static void sift_up(pu_platform *p, size_t index) {
  pu_timer *t = p->heap[index];
  for (; index > 1 && before(t, p->heap[index / 2]); index /= 2)
    put(p, index, p->heap[index / 2]);
  put(p, index, t);
}

static void sift_down(pu_platform *p, size_t index) {
  pu_timer *t = p->heap[index];
  for (size_t child; (child = index * 2) <= p->heap_len; index = child) {
    if (child < p->heap_len && before(p->heap[child + 1], p->heap[child]))
      child++;
    if (!before(p->heap[child], t))
      break;
    put(p, index, p->heap[child]);
  }
  put(p, index, t);
}

/* rearm tells the door the time of the first timer; called when that may be another one. */
static void rearm(pu_platform *p) {
  if (!p->running)
    p->ops->wake_at(p, p->heap_len == 0 ? PU_NEVER : p->heap[1]->at_us);
}

void pu_timer_init(pu_timer *t, pu_platform *p, void (*cb)(void *data), void *data) {
  *t = (pu_timer){.cb = cb, .data = data, .platform = p};
}

static void remove_timer(pu_timer *t) {
  pu_platform *p = t->platform;
  const size_t index = t->heap_index;
  pu_timer *last = p->heap[p->heap_len--];
  t->heap_index = 0;
  if (last == t)
    return;
  put(p, index, last);
  sift_up(p, index);
  sift_down(p, last->heap_index);
}

void pu_timer_stop(pu_timer *t) {
  if (t->heap_index == 0)
    return;
  const bool first = t->heap_index == 1;
  remove_timer(t);
  if (first)
    rearm(t->platform);
}

int pu_timer_at(pu_timer *t, uint64_t at_us) {
  pu_platform *p = t->platform;
  if (at_us == PU_NEVER) {
    pu_timer_stop(t);
    return 0;
  }
  /* What is armed for the past during a run is due at the run's end, not before those that wait. */
  if (p->running && at_us < p->run_us)
    at_us = p->run_us;
  const bool was_first = t->heap_index == 1;
  if (t->heap_index != 0)
    remove_timer(t);
  if (p->heap_len + 1 >= p->heap_cap) {
    const size_t cap = p->heap_cap == 0 ? 64 : p->heap_cap * 2;
    pu_timer **heap = realloc(p->heap, cap * sizeof(pu_timer *));
    if (heap == NULL)
      return PU_E_NOMEM;
    p->heap = heap;
    p->heap_cap = cap;
  }
  t->at_us = at_us;
  t->seq = ++p->timer_seq;
  put(p, ++p->heap_len, t);
  sift_up(p, p->heap_len);
  if (was_first || t->heap_index == 1)
    rearm(p);
  return 0;
}

int pu_timer_after(pu_timer *t, uint64_t delay_us) {
  const uint64_t now = pu_now_us(t->platform);
  return pu_timer_at(t, delay_us >= PU_NEVER - now ? PU_NEVER : now + delay_us);
}

bool pu_timer_armed(const pu_timer *t) {
  return t->heap_index != 0;
}

void pu_timers_run(pu_platform *p) {
  const uint64_t now = pu_now_us(p);
  const uint64_t last_seq = p->timer_seq; /* what is armed during this run waits for the next */
  PU_ASSERT(!p->running);
  p->running = true;
  p->run_us = now;
  while (p->heap_len > 0 && p->heap[1]->at_us <= now && p->heap[1]->seq <= last_seq) {
    pu_timer *t = p->heap[1];
    remove_timer(t);
    t->cb(t->data);
  }
  p->running = false;
  rearm(p);
}

void pu_platform_init(pu_platform *p, const pu_platform_ops *ops) {
  *p = (pu_platform){.ops = ops};
}

void pu_platform_deinit(pu_platform *p) {
  PU_ASSERT(p->heap_len == 0);
  free(p->heap);
  p->heap = NULL;
  p->heap_cap = 0;
}
