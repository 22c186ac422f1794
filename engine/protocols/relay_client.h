/* The client of circuit relay v2 (wire 13): reservations that are kept, connections that come in through
 * relays, and the transport that dials through them. */
#ifndef PU_PROTOCOLS_RELAY_CLIENT_H
#define PU_PROTOCOLS_RELAY_CLIENT_H

#include "swarm/engine_priv.h"

#define PU_RELAY_INTERVAL_S 120u     /* between refreshes, unless told otherwise */
#define PU_RELAY_RETRY_FIRST_US 1000000u
#define PU_RELAY_RETRY_MAX_US 60000000u
#define PU_RELAY_TIMEOUT_US 60000000u /* of one reservation */
#define PU_RELAY_INCOMING_MAX 64u     /* stop messages being read at once */

/* pu_relay_client_start adds the client to |e|. */
PU_MUST_CHECK int pu_relay_client_start(pu_engine *e);

#endif
