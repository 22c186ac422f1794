/* The session of an upgraded raw connection from inside, for upgraded.c and for tests that look
 * below. */
#ifndef PU_TRANSPORT_UPGRADED_H
#define PU_TRANSPORT_UPGRADED_H

#include "mux/yamux.h"
#include "transport/channel.h"
#include "transport/session.h"

typedef struct pu_upgraded {
  pu_session base;
  pu_session_config config;
  pu_channel channel;
  pu_yamux *yamux;              /* NULL until the channel is open */
  pu_yamux_callbacks callbacks; /* what concerns a stream goes straight to the owner */
  pu_timer timer;               /* yamux's deadline */
  bool borrowing;               /* what yamux puts out now stays valid until uncork or flush */
  bool ended;                   /* nothing is told any more */
} pu_upgraded;

#endif
