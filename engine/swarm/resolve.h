/* The names in a peer's addresses (wire 3): /dns, /dns4 and /dns6 become the addresses that they
 * resolve to, /dnsaddr those that the TXT records "dnsaddr=<multiaddr>" of _dnsaddr.<name> hold,
 * which may be names again. Nothing waits for it: what is found is told as it comes. Records are
 * anybody's to write: all is bounded, also in depth, and nothing but addresses of the peer in
 * question is taken. */
#ifndef PU_SWARM_RESOLVE_H
#define PU_SWARM_RESOLVE_H

#include "base/mem.h"
#include "multiaddr/multiaddr.h"

#define PU_NAMES_DEPTH_MAX 4u      /* look-ups of TXT records that lead to one another */
#define PU_NAMES_RECORDS_MAX 16u   /* taken of one name */
#define PU_NAMES_MAX 64u           /* look-ups of one pu_names, and addresses found */
#define PU_NAMES_PARALLEL 8u       /* look-ups at a time */
#define PU_NAMES_LIMIT_US 5000000u /* of one look-up */

typedef struct pu_names pu_names;

/* |origin| is what pu_names_add was given. found and failed may not free the pu_names. */
typedef struct pu_names_events {
  /* |target| is |addr| taken apart; of a WebSocket its server's name stands in |target|->sni. */
  void (*found)(void *data, size_t origin, const pu_multiaddr *addr, const pu_ma_target *target);
  void (*failed)(void *data, size_t origin, int status, const char *detail);
  /* All look-ups are done; it may be freed. */
  void (*done)(void *data);
} pu_names_events;

/* pu_names_needed says whether |addr| has a name to be looked up before it can be dialled. The
 * relay of a circuit is looked up by who dials the relay. */
bool pu_names_needed(const pu_multiaddr *addr, const pu_ma_target *target);

PU_MUST_CHECK int pu_names_new(pu_mem *mem, pu_platform *platform, const pu_peer_id *peer,
                               const pu_names_events *events, void *data, pu_names **out);
/* pu_names_add queues a look-up; before pu_names_start. */
PU_MUST_CHECK int pu_names_add(pu_names *n, const pu_multiaddr *addr, size_t origin);
/* pu_names_start begins; events come later, done in the end. */
PU_MUST_CHECK int pu_names_start(pu_names *n);
/* pu_names_free ends what is under way. NULL is fine. */
void pu_names_free(pu_names *n);

#endif
