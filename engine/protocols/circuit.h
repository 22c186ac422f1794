/* A relayed connection as a raw connection (transport/raw.h): what a stream through a relay carries once
 * the relay has said OK. */
#ifndef PU_PROTOCOLS_CIRCUIT_H
#define PU_PROTOCOLS_CIRCUIT_H

#include "swarm/engine_priv.h"

/* pu_circuit_raw_new makes a raw connection of |s|, which it takes over also when it fails. |limits| gives
 * the relay's announced limits, for telling why the circuit ended. */
PU_MUST_CHECK int pu_circuit_raw_new(pu_engine *e, pu_stream *s, const pu_transport_conn *limits,
                                     pu_raw **out);
/* pu_circuit_conn_fill describes a connection through the relay at the other end of |s|. */
PU_MUST_CHECK int pu_circuit_conn_fill(pu_stream *s, bool limited, uint32_t duration_s,
                                       uint64_t data_bytes, pu_transport_conn *out);
/* pu_circuit_transport_new makes the transport that dials through relays. */
PU_MUST_CHECK int pu_circuit_transport_new(pu_engine *e, pu_transport **out);

#endif
