/* Sending messages of circuit relay; see relay_send.h. */
#include "protocols/relay_send.h"

#include "swarm/stream.h"

/* send returns with |s| held. */
static int send(pu_stream *s, const pu_relay_message *m) {
  uint8_t out[PU_RELAY_MESSAGE_MAX + 2];
  pu_stream_set_events(s, NULL, NULL);
  pu_stream_hold(s);
  ssize_t len = pu_relay_encode(m, out, sizeof(out));
  return len < 0 ? (int)len : pu_stream_write_now(s, out, (size_t)len);
}

int pu_relay_send_first(pu_stream *s, const pu_relay_message *m, const pu_stream_events *events,
                        void *user) {
  int rc = send(s, m);
  if (rc == 0)
    pu_stream_set_events(s, events, user);
  else
    pu_stream_reset(s, 0); /* does nothing when it ended inside */
  pu_stream_unhold(s);
  return rc;
}

void pu_relay_send_last(pu_stream *s, const pu_relay_message *m) {
  if (send(s, m) == 0)
    pu_stream_close(s);
  else
    pu_stream_reset(s, 0);
  pu_stream_unhold(s);
}
