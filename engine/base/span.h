/* A span is borrowed, writable memory with room around it. It is how a byte travels: the holder of
 * a span lends |len| bytes at |data| and also the |head| bytes before and |tail| bytes after, which
 * the callee may overwrite. So a multiplexer puts its header and a cipher its tag around a payload
 * where it lies, and one copy-free slice goes from the read of one socket to the write of another.
 * A span is valid until the call it was passed to returns; whoever needs the bytes longer copies. */
#ifndef PU_BASE_SPAN_H
#define PU_BASE_SPAN_H

#include "peerup/defs.h"

typedef struct pu_span {
  uint8_t *data;
  size_t len;
  size_t head; /* writable bytes before |data| */
  size_t tail; /* writable bytes after |data| + |len| */
} pu_span;

/* Room that a payload needs so that nothing on its way out has to copy it: two levels (a relayed
 * connection runs inside a direct one) of mux header (12) and record header (Noise 2, TLS 5), and of tag
 * (Noise 16, TLS 17); and the header of a WebSocket frame (14) below. */
#define PU_SPAN_HEAD 48
#define PU_SPAN_TAIL 48

/* pu_span_of borrows |len| bytes at |data| without any room around. */
static inline pu_span pu_span_of(uint8_t *data, size_t len) {
  return (pu_span){.data = data, .len = len, .head = 0, .tail = 0};
}
/* pu_span_drop cuts |n| bytes off the front; they become head room. */
static inline void pu_span_drop(pu_span *s, size_t n) {
  s->data += n;
  s->len -= n;
  s->head += n;
}
/* pu_span_take returns the first |n| bytes as a span of its own (its tail room is the rest of |s|,
 * which is not to be overwritten, so it has none) and drops them from |s|, which has no head then. */
static inline pu_span pu_span_take(pu_span *s, size_t n) {
  pu_span first = {.data = s->data, .len = n, .head = s->head, .tail = n == s->len ? s->tail : 0};
  s->data += n;
  s->len -= n;
  s->head = 0;
  return first;
}

#endif
