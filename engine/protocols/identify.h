/* Identify and its push (wire 11): each side tells the other its addresses, protocols and agent on
 * every connection, and again when they change. */
#ifndef PU_PROTOCOLS_IDENTIFY_H
#define PU_PROTOCOLS_IDENTIFY_H

#include "swarm/engine_priv.h"

#define PU_IDENTIFY_ID "/ipfs/id/1.0.0"
#define PU_IDENTIFY_PUSH_ID "/ipfs/id/push/1.0.0"
#define PU_IDENTIFY_TIMEOUT_MS 5000u
#define PU_IDENTIFY_ADDR_TTL_S 1800u  /* addresses of a peer that is not connected any more */
#define PU_IDENTIFY_PUSH_DELAY_MS 50u /* changes that come together are told together */
#define PU_IDENTIFY_PUSHES_MAX 64u    /* pushes under way at once */
/* Pushes taken of one IPv4 /24 or IPv6 /48: so many at once, and one more each period. */
#define PU_IDENTIFY_PUSH_BURST 10u
#define PU_IDENTIFY_PUSH_PERIOD_US 5000000u

/* pu_identify_start adds the module to |e|. */
PU_MUST_CHECK int pu_identify_start(pu_engine *e);

#endif
