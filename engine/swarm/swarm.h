/* What the engine needs from the layers above it, so that it need not include them: protocols.c defines
 * it. */
#ifndef PU_SWARM_SWARM_H
#define PU_SWARM_SWARM_H

#include "swarm/engine_priv.h"

/* pu_engine_install adds the protocols that every engine speaks. */
PU_MUST_CHECK int pu_engine_install(pu_engine *e);

#endif
