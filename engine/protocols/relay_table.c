/* The reservations of our relay; see relay_table.h. */
#include "protocols/relay_table.h"
#include "platform/assert.h"
#include <string.h>

#define DEFAULT(field, value)                                                                      \
  do {                                                                                             \
    if (c->field == 0)                                                                             \
      c->field = (value);                                                                          \
  } while (0)

void pu_relay_table_init(pu_relay_table *t, pu_mem *mem, const pu_relay_config *config) {
  *t = (pu_relay_table){.mem = mem};
  pu_list_init(&t->reservations);
  if (config != NULL)
    t->config = *config;
  pu_relay_config *c = &t->config;
  DEFAULT(max_reservations, 128);
  DEFAULT(max_circuits, 16);
  DEFAULT(max_reservations_per_ip, 8);
  DEFAULT(max_reservations_per_asn, 32);
  DEFAULT(reservation_ttl_s, 3600);
  DEFAULT(session_duration_s, 600);
  DEFAULT(session_data_bytes, 64ull * 1024 * 1024);
  DEFAULT(buffer_bytes, 2048);
}

void pu_relay_table_remove(pu_relay_table *t, pu_reservation *r) {
  pu_list_remove(&r->link);
  t->count--;
  pu_free(r);
}

void pu_relay_table_clear(pu_relay_table *t) {
  while (!pu_list_empty(&t->reservations))
    pu_relay_table_remove(t, PU_CONTAINER_OF(t->reservations.next, pu_reservation, link));
}

void pu_relay_table_expire(pu_relay_table *t, uint64_t now_us) {
  PU_LIST_EACH(&t->reservations, node, tmp) {
    pu_reservation *r = PU_CONTAINER_OF(node, pu_reservation, link);
    if (r->expires_us <= now_us)
      pu_relay_table_remove(t, r);
  }
}

pu_reservation *pu_relay_table_find(pu_relay_table *t, const pu_peer_id *peer, uint64_t now_us) {
  PU_LIST_EACH(&t->reservations, node, tmp) {
    pu_reservation *r = PU_CONTAINER_OF(node, pu_reservation, link);
    if (r->expires_us > now_us && pu_peer_id_equal(&r->peer, peer))
      return r;
  }
  return NULL;
}

/* same_ip compares the IP components that addresses begin with; others count as one place each. */
static bool same_ip(const pu_multiaddr *a, const pu_multiaddr *b) {
  pu_ma_component x, y;
  size_t i = 0, j = 0;
  return pu_multiaddr_next(a, &i, &x) && pu_multiaddr_next(b, &j, &y) && x.code == y.code &&
         (x.code == PU_MA_IP4 || x.code == PU_MA_IP6) && x.len == y.len &&
         memcmp(x.value, y.value, x.len) == 0;
}

static uint32_t count_of_ip(const pu_relay_table *t, const pu_multiaddr *origin,
                            const pu_reservation *except) {
  uint32_t count = 0;
  PU_LIST_EACH(&t->reservations, node, tmp) {
    const pu_reservation *r = PU_CONTAINER_OF(node, pu_reservation, link);
    count += r != except && same_ip(&r->origin, origin);
  }
  return count;
}

static void add_conn(pu_reservation *r, uint64_t conn_id) {
  size_t n = 0;
  for (size_t i = 0; i < r->conn_count; i++) /* the newest moves to the end */
    if (r->conns[i] != conn_id)
      r->conns[n++] = r->conns[i];
  if (n == PU_RELAY_CONNS_PER_PEER)
    memmove(r->conns, r->conns + 1, --n * sizeof r->conns[0]);
  r->conns[n++] = conn_id;
  r->conn_count = n;
}

int pu_relay_table_reserve(pu_relay_table *t, const pu_peer_id *peer, uint64_t conn_id,
                           const pu_multiaddr *origin, uint64_t now_us, pu_reservation **out) {
  pu_relay_table_expire(t, now_us);
  pu_reservation *r = pu_relay_table_find(t, peer, now_us);
  if (r == NULL && t->count >= t->config.max_reservations)
    return PU_E_LIMIT;
  if (count_of_ip(t, origin, r) >= t->config.max_reservations_per_ip)
    return PU_E_LIMIT;
  if (r == NULL) {
    r = pu_zalloc(t->mem, sizeof *r);
    if (r == NULL)
      return PU_E_NOMEM;
    r->peer = *peer;
    pu_list_push(&t->reservations, &r->link);
    t->count++;
  }
  r->origin = *origin;
  r->expires_us = now_us + t->config.reservation_ttl_s * 1000000ull;
  add_conn(r, conn_id);
  *out = r;
  return 0;
}

void pu_relay_table_conn_closed(pu_relay_table *t, const pu_peer_id *peer, uint64_t conn_id) {
  pu_reservation *r = pu_relay_table_find(t, peer, 0);
  size_t n = 0;
  if (r == NULL)
    return;
  for (size_t i = 0; i < r->conn_count; i++)
    if (r->conns[i] != conn_id)
      r->conns[n++] = r->conns[i];
  r->conn_count = n;
  if (n == 0)
    pu_relay_table_remove(t, r);
}
