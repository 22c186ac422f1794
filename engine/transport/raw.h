/* A raw connection: ordered bytes both ways, neither secured nor multiplexed. TCP gives one (tcp.c), a
 * stream through a relay another (circuit.c). The upgrade (upgrade.c) makes a connection of it. */
#ifndef PU_TRANSPORT_RAW_H
#define PU_TRANSPORT_RAW_H

#include "base/span.h"
#include "platform/platform.h"

typedef struct pu_raw pu_raw;

typedef struct pu_raw_events {
  /* on_bytes hands over what arrived; all of it is taken, and the memory is the receiver's to
   * overwrite until it returns. The receiver holds the flow back by pu_raw_ops.want_read; what was
   * read before may still come. A receiver that has not touched the bytes and hands a TCP
   * connection to another (set_events inside on_bytes) has taken none: the other one gets them. */
  void (*on_bytes)(void *user, pu_span data);
  /* place (may be NULL) says where the next bytes should land: memory for the rest of a record
   * whose beginning is kept, so that it need not be copied. A raw connection that reads may use
   * it; bytes put there are told by on_placed. Returns the room, 0: none. */
  size_t (*place)(void *user, uint8_t **memory);
  void (*on_placed)(void *user, size_t len);
  /* on_writable follows a write that took less than offered. */
  void (*on_writable)(void *user);
  /* on_end: end of stream (PU_E_EOF) or an error; nothing follows. The receiver closes. */
  void (*on_end)(void *user, int status);
} pu_raw_events;

typedef struct pu_raw_ops {
  void (*set_events)(pu_raw *r, const pu_raw_events *events, void *user); /* NULL: hold all back */
  void (*want_read)(pu_raw *r, bool on);
  /* writev returns the bytes taken (may be fewer: on_writable follows), 0 when full, or an error. */
  ssize_t (*writev)(pu_raw *r, const pu_iov *iov, size_t n);
  /* write_span (NULL: use writev) takes a span whose room may be used, for raw connections that put
   * more headers around. Returns as writev. */
  ssize_t (*write_span)(pu_raw *r, pu_span io);
  /* cork and uncork (NULL: nothing to do) bracket several writes of one batch. The memory of a span
   * written by write_span, which is only called in between, stays valid until uncork. */
  void (*cork)(pu_raw *r);
  void (*uncork)(pu_raw *r);
  void (*close)(pu_raw *r, bool abort); /* frees it; no event follows */
} pu_raw_ops;

struct pu_raw {
  const pu_raw_ops *ops;
};

#endif
