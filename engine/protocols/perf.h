/* Perf (libp2p's perf specification): how fast bytes go there and back. The functions are in
 * peerup/engine.h. */
#ifndef PU_PROTOCOLS_PERF_H
#define PU_PROTOCOLS_PERF_H

#include "swarm/engine_priv.h"

#define PU_PERF_ID "/perf/1.0.0"
#define PU_PERF_SERVED_MAX 64u     /* streams served at once; a further one is refused */
#define PU_PERF_IDLE_US 30000000u  /* either side gives up when nothing moves for so long */

#endif
