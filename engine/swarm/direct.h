/* A connection through a relay is a beginning: while a peer that we dialled is reached by nothing
 * better, direct dials go on in the background, with back-off. Streams opened later take the direct
 * connection once it stands (pu_engine_find_conn). */
#ifndef PU_SWARM_DIRECT_H
#define PU_SWARM_DIRECT_H

#include "swarm/engine_priv.h"

#define PU_DIRECT_PEERS_MAX 256u     /* tried for at a time; others stay with their relay */
#define PU_DIRECT_TRIES_MAX 16u      /* in vain, then not before the peer tells of addresses anew */
#define PU_DIRECT_SOON_US 1000000u   /* after the peer told of its addresses */
#define PU_DIRECT_FIRST_US 10000000u /* to the next try, doubled each time */
#define PU_DIRECT_MAX_US 600000000u

PU_MUST_CHECK int pu_direct_start(pu_engine *e);

#endif
