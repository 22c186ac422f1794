/* Two raw connections of this process joined to each other: what one writes the other reads, when
 * the test pumps, in slices and with a capacity that the test chooses. */
#ifndef PU_TESTS_PIPE_RAW_H
#define PU_TESTS_PIPE_RAW_H

#include <stdlib.h>
#include <string.h>

#include "base/fifo.h"
#include "peerup/error.h"
#include "platform/assert.h"
#include "transport/raw.h"

typedef struct pipe_raw {
  pu_raw base;
  struct pipe_raw *peer;
  const pu_raw_events *events;
  void *user;
  pu_fifo in;      /* written by the peer, not delivered */
  size_t capacity; /* of |in|: the peer's writes stop there */
  size_t slice;    /* most bytes of one delivery */
  bool want_read, closed, aborted, full;
  bool end_told;
  int fail_write;  /* an error for every write; 0: none */
  unsigned writes; /* calls of writev and write_span */
  size_t pieces;   /* iovs in them */
  unsigned corks;
} pipe_raw;

static inline void pipe_set_events(pu_raw *r, const pu_raw_events *events, void *user) {
  pipe_raw *p = (pipe_raw *)r;
  p->events = events;
  p->user = user;
}
static inline void pipe_want_read(pu_raw *r, bool on) {
  ((pipe_raw *)r)->want_read = on;
}
static inline ssize_t pipe_writev(pu_raw *r, const pu_iov *iov, size_t n) {
  pipe_raw *p = (pipe_raw *)r;
  size_t taken = 0;
  p->writes++;
  p->pieces += n;
  if (p->fail_write != 0)
    return p->fail_write;
  for (size_t i = 0; i < n; i++) {
    size_t room = p->peer->capacity - p->peer->in.len;
    size_t len = iov[i].len < room ? iov[i].len : room;
    PU_ASSERT(pu_fifo_push(&p->peer->in, iov[i].base, len) == 0);
    taken += len;
    if (len < iov[i].len) {
      p->full = true; /* on_writable follows */
      break;
    }
  }
  return (ssize_t)taken;
}
static inline ssize_t pipe_write_span(pu_raw *r, pu_span io) {
  PU_ASSERT(((pipe_raw *)r)->corks > 0);
  /* Whoever lends room must not miss it: it is written over. */
  const pu_iov iov = {io.data, io.len};
  ssize_t n = pipe_writev(r, &iov, 1);
  memset(io.data - io.head, 0xee, io.head);
  memset(io.data + io.len, 0xee, io.tail);
  return n;
}
static inline void pipe_cork(pu_raw *r) {
  ((pipe_raw *)r)->corks++;
}
static inline void pipe_uncork(pu_raw *r) {
  PU_ASSERT(((pipe_raw *)r)->corks-- > 0);
}
static inline void pipe_close(pu_raw *r, bool hard) {
  pipe_raw *p = (pipe_raw *)r;
  PU_ASSERT(!p->closed);
  p->closed = true;
  p->aborted = hard;
}

static const pu_raw_ops pipe_ops = {.set_events = pipe_set_events,
                                    .want_read = pipe_want_read,
                                    .writev = pipe_writev,
                                    .close = pipe_close};
/* The same with spans, as a circuit has it. */
static const pu_raw_ops pipe_span_ops = {.set_events = pipe_set_events,
                                         .want_read = pipe_want_read,
                                         .writev = pipe_writev,
                                         .write_span = pipe_write_span,
                                         .cork = pipe_cork,
                                         .uncork = pipe_uncork,
                                         .close = pipe_close};

/* pipe_init joins two; their memory is the test's, and |mem| that of what is under way. */
static inline void pipe_init(pipe_raw *a, pipe_raw *b, pu_mem *mem, const pu_raw_ops *ops) {
  pipe_raw *const both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    *both[i] = (pipe_raw){
        .base.ops = ops, .peer = both[1 - i], .capacity = SIZE_MAX / 2, .slice = SIZE_MAX};
    pu_fifo_init(&both[i]->in, mem, SIZE_MAX / 2);
  }
}

/* pipe_deliver gives |p| one slice, into memory exactly as large; returns whether it did anything.
 */
static inline bool pipe_deliver(pipe_raw *p) {
  if (p->closed || p->events == NULL)
    return false;
  if (p->full && p->peer->in.len < p->peer->capacity) {
    p->full = false;
    p->events->on_writable(p->user);
    return true;
  }
  if (p->in.len > 0 && p->want_read) {
    uint8_t *place = NULL;
    size_t room = p->events->place != NULL ? p->events->place(p->user, &place) : 0;
    size_t n = p->in.len < p->slice ? p->in.len : p->slice;
    if (room > 0) {
      size_t here = pu_fifo_read(&p->in, place, n < room ? n : room);
      p->events->on_placed(p->user, here);
      n -= here;
    }
    if (n > 0 && !p->closed && p->events != NULL) {
      uint8_t *bytes = malloc(n);
      PU_ASSERT(bytes != NULL);
      PU_ASSERT(pu_fifo_read(&p->in, bytes, n) == n);
      p->events->on_bytes(p->user, pu_span_of(bytes, n));
      free(bytes);
    }
    return true;
  }
  if (p->in.len == 0 && p->peer->closed && !p->end_told && p->want_read) {
    p->end_told = true;
    p->events->on_end(p->user, p->peer->aborted ? PU_E_RESET : PU_E_EOF);
    return true;
  }
  return false;
}

/* pipe_pump delivers in both directions until nothing moves. */
static inline void pipe_pump(pipe_raw *a, pipe_raw *b) {
  bool moved = true;
  while (moved) {
    moved = pipe_deliver(a);
    moved = pipe_deliver(b) || moved;
  }
}

static inline void pipe_deinit(pipe_raw *a, pipe_raw *b) {
  pu_fifo_clear(&a->in);
  pu_fifo_clear(&b->in);
}

#endif
