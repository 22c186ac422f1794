/* A bounded byte queue in chunks, see fifo.h. Bytes never move once they are in a chunk. */
#include "base/fifo.h"

#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"

/* Smallest chunk: small writes share one instead of paying a block each. */
#define CHUNK_MIN_BYTES 2048

struct pu_fifo_chunk {
  pu_fifo_chunk *next;
  size_t start, end, cap; /* bytes are at data[start..end) */
  uint8_t data[];
};

void pu_fifo_init(pu_fifo *q, pu_mem *mem, size_t max) {
  *q = (pu_fifo){.mem = mem, .max = max};
}

void pu_fifo_move(pu_fifo *from, pu_fifo *to) {
  *to = *from;
  from->first = from->last = NULL;
  from->len = 0;
}

void pu_fifo_clear(pu_fifo *q) {
  while (q->first != NULL) {
    pu_fifo_chunk *next = q->first->next;
    pu_free(q->first);
    q->first = next;
  }
  q->last = NULL;
  q->len = 0;
}

int pu_fifo_push(pu_fifo *q, const void *data, size_t len) {
  if (len > q->max - q->len)
    return PU_E_LIMIT;
  if (len == 0)
    return 0;
  const uint8_t *in = data;
  size_t room = q->last == NULL ? 0 : q->last->cap - q->last->end;
  size_t head = len < room ? len : room;
  pu_fifo_chunk *fresh = NULL;
  if (head < len) {
    size_t cap = len - head > CHUNK_MIN_BYTES ? len - head : CHUNK_MIN_BYTES;
    fresh = pu_alloc(q->mem, sizeof(*fresh) + cap);
    if (fresh == NULL)
      return PU_E_NOMEM;
    *fresh = (pu_fifo_chunk){.end = len - head, .cap = cap};
    memcpy(fresh->data, in + head, len - head);
  }
  if (head > 0) {
    memcpy(q->last->data + q->last->end, in, head);
    q->last->end += head;
  }
  if (fresh != NULL) {
    if (q->last == NULL)
      q->first = fresh;
    else
      q->last->next = fresh;
    q->last = fresh;
  }
  q->len += len;
  return 0;
}

size_t pu_fifo_peek(const pu_fifo *q, pu_iov *iov, size_t n) {
  size_t count = 0;
  for (pu_fifo_chunk *c = q->first; c != NULL && count < n; c = c->next)
    iov[count++] = (pu_iov){.base = c->data + c->start, .len = c->end - c->start};
  return count;
}

void pu_fifo_drop(pu_fifo *q, size_t n) {
  PU_ASSERT(n <= q->len);
  q->len -= n;
  while (q->first != NULL) {
    pu_fifo_chunk *c = q->first;
    size_t here = c->end - c->start;
    if (n < here) {
      c->start += n;
      return;
    }
    n -= here;
    q->first = c->next;
    pu_free(c);
  }
  q->last = NULL;
}

size_t pu_fifo_read(pu_fifo *q, void *out, size_t cap) {
  size_t done = 0;
  for (pu_fifo_chunk *c = q->first; c != NULL && done < cap; c = c->next) {
    size_t here = c->end - c->start;
    size_t n = here < cap - done ? here : cap - done;
    memcpy((uint8_t *)out + done, c->data + c->start, n);
    done += n;
  }
  pu_fifo_drop(q, done);
  return done;
}
