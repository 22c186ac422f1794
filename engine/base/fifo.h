/* A bounded first-in-first-out queue of bytes in chunks: what could not be passed on at once waits
 * here. Empty queues hold no memory. */
#ifndef PU_BASE_FIFO_H
#define PU_BASE_FIFO_H

#include "base/mem.h"
#include "platform/platform.h"

typedef struct pu_fifo_chunk pu_fifo_chunk;

typedef struct pu_fifo {
  pu_mem *mem;
  size_t max; /* bytes it may hold */
  size_t len; /* bytes it holds */
  pu_fifo_chunk *first, *last;
} pu_fifo;

void pu_fifo_init(pu_fifo *q, pu_mem *mem, size_t max);
/* pu_fifo_move makes |to| what |from| is, which is empty then. */
void pu_fifo_move(pu_fifo *from, pu_fifo *to);
/* pu_fifo_clear drops all bytes and memory. */
void pu_fifo_clear(pu_fifo *q);
/* pu_fifo_push copies |len| bytes to the end, all or nothing: PU_E_LIMIT above |max|, PU_E_NOMEM. */
PU_MUST_CHECK int pu_fifo_push(pu_fifo *q, const void *data, size_t len);
/* pu_fifo_peek points up to |n| iovs at the bytes in front and returns how many it filled. The memory
 * is writable (a span without room) and valid until the next push, drop or clear. */
size_t pu_fifo_peek(const pu_fifo *q, pu_iov *iov, size_t n);
/* pu_fifo_drop removes |n| <= len bytes from the front. */
void pu_fifo_drop(pu_fifo *q, size_t n);
/* pu_fifo_read copies and removes up to |cap| bytes, returns how many. */
size_t pu_fifo_read(pu_fifo *q, void *out, size_t cap);

#endif
