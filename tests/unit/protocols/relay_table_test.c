/* Reservations of the relay: counts and their bounds, ends, connections. */
#include "protocols/relay_table.h"

#include "support/unit.h"

#define S 1000000ull

static pu_peer_id peer(unsigned n) {
  pu_peer_id id = {.len = 34, .bytes = {0x12, 0x20, (uint8_t)(n >> 8), (uint8_t)n}};
  return id;
}

static pu_multiaddr addr(const char *text) {
  pu_multiaddr a;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &a, NULL), 0);
  return a;
}

static int reserve(pu_relay_table *t, unsigned p, uint64_t conn, const char *from,
                   uint64_t now_us) {
  const pu_peer_id id = peer(p);
  const pu_multiaddr origin = addr(from);
  pu_reservation *r;
  int rc = pu_relay_table_reserve(t, &id, conn, &origin, now_us, &r);
  if (rc == 0) {
    assert_true(pu_peer_id_equal(&r->peer, &id));
    assert_int_equal(r->expires_us, now_us + t->config.reservation_ttl_s * S);
    assert_int_equal(r->conns[r->conn_count - 1], conn); /* the newest is the last */
  }
  return rc;
}

static bool holds(pu_relay_table *t, unsigned p, uint64_t now_us) {
  const pu_peer_id id = peer(p);
  return pu_relay_table_find(t, &id, now_us) != NULL;
}

static void start(pu_relay_table *t, pu_mem *mem, const pu_relay_config *config) {
  pu_mem_init(mem, NULL, PU_MEM_UNLIMITED);
  pu_relay_table_init(t, mem, config);
}

static void end(pu_relay_table *t) {
  pu_mem *mem = t->mem;
  pu_relay_table_clear(t);
  assert_int_equal(t->count, 0);
  pu_mem_deinit(mem);
}

static void test_defaults(void **state) {
  (void)state;
  pu_relay_table t;
  pu_mem mem;
  start(&t, &mem, NULL);
  assert_int_equal(t.config.max_reservations, 128);
  assert_int_equal(t.config.max_circuits, 16);
  assert_int_equal(t.config.max_reservations_per_ip, 8);
  assert_int_equal(t.config.reservation_ttl_s, 3600);
  assert_int_equal(t.config.session_duration_s, 600);
  assert_int_equal(t.config.session_data_bytes, 64u << 20);
  end(&t);
  start(&t, &mem, &(pu_relay_config){.max_circuits = 3, .reservation_ttl_s = 60});
  assert_int_equal(t.config.max_circuits, 3);
  assert_int_equal(t.config.reservation_ttl_s, 60);
  assert_int_equal(t.config.max_reservations, 128);
  end(&t);
}

static void test_reservations_end(void **state) {
  (void)state;
  pu_relay_table t;
  pu_mem mem;
  start(&t, &mem, &(pu_relay_config){.reservation_ttl_s = 60});
  assert_false(holds(&t, 1, 0));
  assert_int_equal(reserve(&t, 1, 1, "/ip4/1.2.3.4/tcp/1", 0), 0);
  assert_int_equal(reserve(&t, 2, 2, "/ip4/1.2.3.5/tcp/1", 10 * S), 0);
  assert_true(holds(&t, 1, 60 * S - 1));
  assert_false(holds(&t, 1, 60 * S)); /* also before it is dropped */
  assert_int_equal(t.count, 2);
  assert_int_equal(reserve(&t, 2, 2, "/ip4/1.2.3.5/tcp/1", 50 * S), 0); /* a refresh */
  assert_int_equal(t.count, 2);
  pu_relay_table_expire(&t, 60 * S);
  assert_int_equal(t.count, 1);
  assert_true(holds(&t, 2, 109 * S));
  pu_relay_table_expire(&t, 110 * S);
  assert_int_equal(t.count, 0);
  end(&t);
}

static void test_total(void **state) {
  (void)state;
  pu_relay_table t;
  pu_mem mem;
  start(&t, &mem, &(pu_relay_config){.max_reservations = 3, .reservation_ttl_s = 60});
  for (unsigned i = 0; i < 3; i++) {
    char from[64];
    (void)snprintf(from, sizeof(from), "/ip4/1.2.3.%u/tcp/1", i);
    assert_int_equal(reserve(&t, i, i, from, i * S), 0);
  }
  assert_int_equal(reserve(&t, 9, 9, "/ip4/1.2.3.9/tcp/1", 5 * S), PU_E_LIMIT);
  assert_int_equal(reserve(&t, 1, 11, "/ip4/1.2.3.1/tcp/1", 5 * S), 0); /* refreshing is not more */
  assert_int_equal(reserve(&t, 9, 9, "/ip4/1.2.3.9/tcp/1", 60 * S), 0); /* the first has expired */
  assert_int_equal(t.count, 3);
  end(&t);
}

/* Ports do not matter, families do not mix, and a refresh counts for the address it comes from. */
static void test_per_ip(void **state) {
  (void)state;
  pu_relay_table t;
  pu_mem mem;
  start(&t, &mem, &(pu_relay_config){.max_reservations_per_ip = 2});
  assert_int_equal(reserve(&t, 1, 1, "/ip4/1.2.3.4/tcp/1", 0), 0);
  assert_int_equal(reserve(&t, 2, 2, "/ip4/1.2.3.4/tcp/2", 0), 0);
  assert_int_equal(reserve(&t, 3, 3, "/ip4/1.2.3.4/tcp/3", 0), PU_E_LIMIT);
  assert_int_equal(reserve(&t, 1, 4, "/ip4/1.2.3.4/tcp/4", 0), 0);
  assert_int_equal(reserve(&t, 3, 5, "/ip6/::1/tcp/1", 0), 0);
  assert_int_equal(reserve(&t, 4, 6, "/ip6/::1/tcp/1", 0), 0);
  assert_int_equal(reserve(&t, 5, 7, "/ip6/::1/tcp/1", 0), PU_E_LIMIT);
  assert_int_equal(reserve(&t, 5, 8, "/ip4/1.2.3.5/tcp/1", 0), 0);
  /* Peer 5 moves where two are already: refused, and what it had stays. */
  assert_int_equal(reserve(&t, 5, 9, "/ip4/1.2.3.4/tcp/9", S), PU_E_LIMIT);
  assert_true(holds(&t, 5, S));
  /* Peer 2 moves away, which makes room. */
  assert_int_equal(reserve(&t, 2, 10, "/ip4/1.2.3.6/tcp/1", S), 0);
  assert_int_equal(reserve(&t, 6, 11, "/ip4/1.2.3.4/tcp/1", S), 0);
  end(&t);
}

/* A reservation lives as long as one of the connections that asked for it. */
static void test_connections(void **state) {
  (void)state;
  pu_relay_table t;
  pu_mem mem;
  const pu_peer_id id = peer(1), other = peer(2);
  start(&t, &mem, NULL);
  assert_int_equal(reserve(&t, 1, 10, "/ip4/1.2.3.4/tcp/1", 0), 0);
  assert_int_equal(reserve(&t, 1, 11, "/ip4/1.2.3.4/tcp/1", 0), 0);
  assert_int_equal(reserve(&t, 1, 10, "/ip4/1.2.3.4/tcp/1", 0), 0); /* the newest again */
  pu_relay_table_conn_closed(&t, &id, 99);
  pu_relay_table_conn_closed(&t, &other, 10);
  assert_true(holds(&t, 1, S));
  pu_relay_table_conn_closed(&t, &id, 10);
  assert_true(holds(&t, 1, S));
  assert_int_equal(pu_relay_table_find(&t, &id, S)->conns[0], 11);
  pu_relay_table_conn_closed(&t, &id, 11);
  assert_false(holds(&t, 1, S));
  assert_int_equal(t.count, 0);
  /* Of many connections the newest are remembered. */
  for (uint64_t i = 0; i < PU_RELAY_CONNS_PER_PEER + 3; i++)
    assert_int_equal(reserve(&t, 1, 100 + i, "/ip4/1.2.3.4/tcp/1", 0), 0);
  const pu_reservation *r = pu_relay_table_find(&t, &id, S);
  assert_int_equal(r->conn_count, PU_RELAY_CONNS_PER_PEER);
  for (size_t i = 0; i < r->conn_count; i++)
    assert_int_equal(r->conns[i], 103 + i);
  end(&t);
}

static void test_no_memory(void **state) {
  (void)state;
  pu_relay_table t;
  pu_mem mem;
  start(&t, &mem, NULL);
  pu_mem_fail_at(&mem, 1);
  assert_int_equal(reserve(&t, 1, 1, "/ip4/1.2.3.4/tcp/1", 0), PU_E_NOMEM);
  assert_int_equal(t.count, 0);
  assert_int_equal(reserve(&t, 1, 1, "/ip4/1.2.3.4/tcp/1", 0), 0);
  end(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),    cmocka_unit_test(test_reservations_end),
      cmocka_unit_test(test_total),       cmocka_unit_test(test_per_ip),
      cmocka_unit_test(test_connections), cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
