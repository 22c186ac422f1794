/* Ping (wire 12): 32 bytes there and back. pu_engine_ping (peerup/engine.h) is the asking side. */
#ifndef PU_PROTOCOLS_PING_H
#define PU_PROTOCOLS_PING_H

#include "swarm/engine_priv.h"

#define PU_PING_ID "/ipfs/ping/1.0.0"
#define PU_PING_BYTES 32
#define PU_PING_IDLE_US 10000000u   /* the answering side waits so long for the next ping */
#define PU_PING_STREAM_US 30000000u /* and serves one stream so long */

/* pu_ping_start serves ping on |e|. */
PU_MUST_CHECK int pu_ping_start(pu_engine *e);

#endif
