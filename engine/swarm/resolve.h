/* Names in addresses before they are ranked: /dnsaddr becomes the addresses in its TXT records, and
 * /dns*.../quic-v1, whose transport needs a literal address, those of the name. All other addresses
 * pass as they are. */
#ifndef PU_SWARM_RESOLVE_H
#define PU_SWARM_RESOLVE_H

#include "swarm/engine_priv.h"

#define PU_RESOLVE_DEPTH_MAX 4u      /* a /dnsaddr that leads to another */
#define PU_RESOLVE_LOOKUPS_MAX 32u   /* of one peer */
#define PU_RESOLVE_LIMIT_US 5000000u /* then goes on with what has come */

typedef struct pu_names pu_names;

/* pu_names_cb gets the addresses, at most as many as asked for; they are the resolver's until it
 * returns. */
typedef void (*pu_names_cb)(void *data, const pu_multiaddr *addrs, size_t count);

/* pu_names_needed says whether one of |addrs| has to be looked up. */
bool pu_names_needed(const pu_multiaddr *addrs, size_t count);
/* pu_names_start resolves |addrs| of |peer| into at most |max|; |cb| comes later. PU_E_NOMEM. */
PU_MUST_CHECK int pu_names_start(pu_engine *e, const pu_peer_id *peer, const pu_multiaddr *addrs,
                                 size_t count, size_t max, pu_names_cb cb, void *data,
                                 pu_names **out);
/* pu_names_cancel ends it without a call; NULL is fine. */
void pu_names_cancel(pu_names *n);

#endif
