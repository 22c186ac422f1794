/* Several protocols on one TCP port: who speaks what is told by the first byte it sends. Nothing is sent
 * or taken before that, and the bytes go to whoever takes the connection. */
#ifndef PU_TRANSPORT_SNIFF_H
#define PU_TRANSPORT_SNIFF_H

#include "base/list.h"
#include "transport/transport.h"

#define PU_SNIFF_US 10000000u /* until the first byte */

typedef enum pu_sniff_kind {
  PU_SNIFF_PLAIN = 1, /* multistream: the length of its first line */
  PU_SNIFF_HTTP = 2,  /* "GET" */
  PU_SNIFF_TLS = 4    /* a handshake record */
} pu_sniff_kind;

typedef struct pu_sniff pu_sniff;
struct pu_sniff {
  pu_list link; /* the owner's */
  pu_transport_conn conn;
  pu_timer timer;
  unsigned kinds; /* those that are served */
  void (*cb)(void *data, pu_sniff_kind kind, const pu_transport_conn *conn);
  void *data;
};

/* pu_sniff_start waits for the first byte of |conn|, whose raw (TCP's) it takes over also when it fails,
 * and calls |cb|, whose callee takes it over and, if it goes on, sets its events within the call.
 * Connections that speak none of |kinds|, or nothing in time, are closed. The entry is in |list| while it
 * waits. */
PU_MUST_CHECK int pu_sniff_start(pu_mem *mem, pu_platform *platform, const pu_transport_conn *conn,
                                 unsigned kinds,
                                 void (*cb)(void *data, pu_sniff_kind kind, const pu_transport_conn *conn),
                                 void *data, pu_list *list);
/* pu_sniff_drop_oldest closes the one in |list| that has waited for longest, if it has for |older_us|;
 * returns whether it did. */
bool pu_sniff_drop_oldest(pu_list *list, uint64_t older_us);
/* pu_sniff_end closes all that wait in |list|. */
void pu_sniff_end(pu_list *list);

#endif
