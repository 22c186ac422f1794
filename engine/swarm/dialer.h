/* Connecting to a peer by all addresses that are known (wire 4): ranked, raced with staggered
 * starts, at most PU_DIAL_PARALLEL at once; the first that is secured and multiplexed wins. When
 * that goes through a relay, the direct ones are tried to their end nevertheless. */
#ifndef PU_SWARM_DIALER_H
#define PU_SWARM_DIALER_H

#include "swarm/engine_priv.h"

#define PU_DIAL_PARALLEL 8
/* Addresses that are known without a look-up wait so long for those that need one. */
#define PU_DIAL_PATIENCE_US 1000000u

/* Somebody who waits for a connection. Owned by the waiting one; off every list when the callback
 * is called. */
typedef struct pu_waiter {
  pu_list link;
  void (*cb)(void *data, pu_conn *conn, int status, const char *detail);
  void *data;
  void *dial; /* dialer.c's: what it waits for */
} pu_waiter;

/* pu_dial_wait starts a dial to |peer| or joins the one under way; the callback comes later. With
 * |direct| only addresses are tried that lead there without a relay. */
PU_MUST_CHECK int pu_dial_wait(pu_engine *e, const pu_peer_id *peer, bool direct, pu_waiter *w);
/* pu_dial_unwait takes a waiter off; the dial ends when nobody waits any more. Harmless when off.
 */
void pu_dial_unwait(pu_waiter *w);
/* pu_dial_conn_opened lets an inbound connection satisfy those who wait for its peer. */
void pu_dial_conn_opened(pu_conn *c);
/* pu_dial_conns_gone ends what goes on for |peer| in the background: it has no connection left. */
void pu_dial_conns_gone(pu_engine *e, const pu_peer_id *peer);
/* pu_dials_end ends all dials of a closing engine; their waiters hear PU_E_CANCELED. */
void pu_dials_end(pu_engine *e);

#endif
