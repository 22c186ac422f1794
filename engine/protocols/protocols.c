/* The protocols that every engine speaks. */
#include "protocols/identify.h"
#include "protocols/ping.h"
#include "protocols/relay_client.h"
#include "swarm/swarm.h"

int pu_engine_install(pu_engine *e) {
  int status = pu_identify_start(e);
  if (status == 0)
    status = pu_ping_start(e);
  if (status == 0)
    status = pu_relay_client_start(e);
  return status;
}
