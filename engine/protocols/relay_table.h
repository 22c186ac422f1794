/* Who holds a reservation at our relay, and how many circuits each peer has: a core without I/O or clock.
 * Limits by autonomous system are not counted: there is no table of them in the engine. */
#ifndef PU_PROTOCOLS_RELAY_TABLE_H
#define PU_PROTOCOLS_RELAY_TABLE_H

#include "base/list.h"
#include "base/mem.h"
#include "multiaddr/multiaddr.h"
#include "peerup/engine.h"

#define PU_RELAY_CONNS_PER_PEER 8u /* reserving connections remembered of one peer */

typedef struct pu_reservation {
  pu_list link;
  pu_peer_id peer;
  uint64_t expires_us;
  pu_multiaddr origin;                      /* of the newest reserving connection */
  uint64_t conns[PU_RELAY_CONNS_PER_PEER];  /* IDs, newest last */
  size_t conn_count;
} pu_reservation;

typedef struct pu_relay_table {
  pu_mem *mem;
  pu_relay_config config; /* defaults filled in */
  pu_list reservations;
  uint32_t count;
} pu_relay_table;

/* pu_relay_table_init fills in the defaults of |config| (NULL: all). */
void pu_relay_table_init(pu_relay_table *t, pu_mem *mem, const pu_relay_config *config);
void pu_relay_table_clear(pu_relay_table *t);
/* pu_relay_table_reserve makes or refreshes the reservation of |peer| over the connection |conn_id| from
 * |origin|: PU_E_LIMIT when a count is exceeded, PU_E_NOMEM. */
PU_MUST_CHECK int pu_relay_table_reserve(pu_relay_table *t, const pu_peer_id *peer,
                                         uint64_t conn_id, const pu_multiaddr *origin,
                                         uint64_t now_us, pu_reservation **out);
/* pu_relay_table_find returns an unexpired reservation, or NULL. */
pu_reservation *pu_relay_table_find(pu_relay_table *t, const pu_peer_id *peer, uint64_t now_us);
void pu_relay_table_remove(pu_relay_table *t, pu_reservation *r);
/* pu_relay_table_conn_closed forgets a connection; a reservation ends with its last one. */
void pu_relay_table_conn_closed(pu_relay_table *t, const pu_peer_id *peer, uint64_t conn_id);
/* pu_relay_table_expire drops what has expired. */
void pu_relay_table_expire(pu_relay_table *t, uint64_t now_us);

#endif
