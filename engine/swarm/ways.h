/* The ways to a peer that a dial tries: addresses without names, each with the transport that dials
 * it. What is no use is left out, the rest is ranked (rank.h) and shown to the program's hook. */
#ifndef PU_SWARM_WAYS_H
#define PU_SWARM_WAYS_H

#include "swarm/engine_priv.h"

#define PU_WAYS_MAX 64u /* of one dial */

typedef struct pu_way {
  pu_multiaddr addr;
  pu_ma_target target;
  pu_transport *transport;
  size_t known; /* the caller's: which known address it comes from */
  bool is_public;
  uint64_t at_us; /* its turn: after the dial's begin, then by the clock */
} pu_way;

/* A list of them, each allocated for itself, so that they stay where they are. Zero: empty. */
typedef struct pu_ways {
  pu_way *of[PU_WAYS_MAX];
  size_t count;
} pu_ways;

/* Our own listening addresses, which no peer can have. */
#define PU_WAYS_OWN_MAX PU_ENGINE_ADDRS_MAX
typedef struct pu_own_addrs {
  size_t count;
  struct {
    pu_sockaddr addr;
    bool quic;
  } of[PU_WAYS_OWN_MAX];
} pu_own_addrs;

/* pu_own_addrs_get fills |out|; without memory for it nothing counts as ours. */
void pu_own_addrs_get(pu_engine *e, pu_own_addrs *out);
/* pu_way_is_usable says whether |target| can be dialled at all: no port 0, no unspecified,
 * multicast or broadcast address, no link-local one without its zone, nothing that is ourselves. */
bool pu_way_is_usable(const pu_engine *e, const pu_own_addrs *own, const pu_ma_target *target);
/* pu_ways_has says whether |addr| is among them, of the same web server. */
bool pu_ways_has(const pu_ways *w, const pu_multiaddr *addr, const pu_ma_target *target);
/* pu_ways_order sorts by rank and lets the hook of the engine change that; |at_us| becomes the
 * delay. PU_E_NOMEM; PU_E_DENIED when the hook leaves none. */
PU_MUST_CHECK int pu_ways_order(pu_engine *e, const pu_peer_id *peer, pu_ways *w);
void pu_ways_free(pu_ways *w);

#endif
