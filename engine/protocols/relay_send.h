/* Messages of circuit relay on streams: sent whole, also over a connection that is full of
 * circuits' bytes. A stream may end inside a write; these functions take care of that. */
#ifndef PU_PROTOCOLS_RELAY_SEND_H
#define PU_PROTOCOLS_RELAY_SEND_H

#include "peerup/engine.h"
#include "protocols/relay_message.h"

/* pu_relay_send_first sends |m| and then sets |events| (NULL: later). On failure |s| is gone and
 * nobody was told. */
PU_MUST_CHECK int pu_relay_send_first(pu_stream *s, const pu_relay_message *m,
                                      const pu_stream_events *events, void *user);
/* pu_relay_send_last sends |m| and closes |s|; nobody hears of it any more. */
void pu_relay_send_last(pu_stream *s, const pu_relay_message *m);

#endif
