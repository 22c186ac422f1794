/* Listening, and the addresses under which we can be reached. */
#ifndef PU_SWARM_LISTEN_H
#define PU_SWARM_LISTEN_H

#include "swarm/engine_priv.h"

void pu_listen_init(pu_engine *e);
/* pu_listen_make_quic makes the QUIC transport, which opens its sockets when they are needed.
 * PU_E_INVAL: no such |congestion|. */
PU_MUST_CHECK int pu_listen_make_quic(pu_engine *e, const char *congestion);
/* pu_listen_end closes all listeners. */
void pu_listen_end(pu_engine *e);
/* pu_listen_dial_from says from which listening address a dial to |remote| should leave. */
bool pu_listen_dial_from(void *engine, const pu_sockaddr *remote, pu_sockaddr *local);

#endif
