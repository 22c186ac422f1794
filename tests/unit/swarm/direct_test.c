/* A relayed connection and the direct one that takes its place. */
#include "swarm/direct.h"

#include "support/sim_hosts.h"
#include "support/unit.h"
#include "swarm/conn.h"

typedef struct net {
  pu_sim *sim;
  sim_host relay, home, away;
} net;

static const pu_sim_link up = {.delay_us = 10000}, down = {.down = true};

static void set_path(net *n, const pu_sim_link *link) {
  assert_int_equal(pu_sim_set_link(n->sim, n->home.platform, n->away.platform, link), 0);
}

static int setup(void **state) {
  char circuit[512], id[PU_PEER_ID_MAX_TEXT];
  net *n = calloc(1, sizeof *n);
  assert_non_null(n);
  assert_int_equal(pu_sim_new(5, &n->sim), 0);
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &up), 0);
  sim_host_start(n->sim, &n->relay, 1, NULL);
  sim_host_start(n->sim, &n->home, 2, NULL);
  sim_host_start(n->sim, &n->away, 3, NULL);
  set_path(n, &down);
  assert_int_equal(pu_engine_relay_start(n->relay.engine, NULL), 0);
  assert_int_equal(pu_engine_reserve(n->home.engine, n->relay.full, 0, NULL), 0);
  sim_run_for(n->sim, 2 * SIM_SECOND);
  assert_int_equal(n->home.events[PU_EVENT_RESERVED], 1);
  (void)snprintf(circuit, sizeof circuit, "%s/p2p-circuit/p2p/%s", n->relay.full,
                 pu_peer_id_text(&n->home.id, id));
  assert_int_equal(pu_engine_add_addr(n->away.engine, &n->home.id, circuit, UINT32_MAX, NULL), 0);
  *state = n;
  return 0;
}

static int teardown(void **state) {
  net *n = *state;
  sim_host_end(&n->away);
  sim_host_end(&n->home);
  sim_host_end(&n->relay);
  sim_run_for(n->sim, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
  free(n);
  return 0;
}

static sim_answer answer;

static bool is_relayed(net *n) {
  pu_conn_info info;
  const pu_conn *c = pu_engine_best_conn(n->away.engine, &n->home.id);
  assert_non_null(c);
  pu_conn_info_get(c, &info);
  return info.relayed;
}

/* The relayed connection answers whoever waits; the direct address has its time nevertheless. */
static void test_the_slower_direct_one(void **state) {
  net *n = *state;
  const pu_sim_link slow = {.delay_us = 300000};
  set_path(n, &slow);
  sim_host_knows(&n->away, &n->home);
  assert_int_equal(sim_connect(&n->away, &n->home, 0, &answer), 0);
  assert_true(is_relayed(n));
  sim_run_for(n->sim, 3 * SIM_SECOND);
  assert_false(is_relayed(n));
  assert_int_equal(sim_ping(&n->away, &n->home, &answer), 0);
  assert_true(answer.rtt_us >= 600000);
}

/* A path that comes to be is found, also when its address is known by identify only. */
static void test_tried_again(void **state) {
  net *n = *state;
  assert_int_equal(pu_engine_protect(n->away.engine, &n->home.id, true), 0);
  assert_int_equal(pu_engine_protect(n->home.engine, &n->away.id, true), 0);
  assert_int_equal(sim_connect(&n->away, &n->home, 0, &answer), 0);
  sim_run_for(n->sim, 60 * SIM_SECOND);
  assert_true(is_relayed(n));
  const unsigned asked = n->away.asked[PU_ASK_DIAL];
  sim_run_for(n->sim, 100 * SIM_SECOND);
  assert_true(n->away.asked[PU_ASK_DIAL] > asked);      /* it goes on ... */
  assert_true(n->away.asked[PU_ASK_DIAL] <= asked + 8); /* ... and not all the time */
  set_path(n, &up);
  sim_run_for(n->sim, 200 * SIM_SECOND);
  assert_false(is_relayed(n));
  /* The one that was dialled leaves it to the other. */
  assert_int_equal(n->home.asked[PU_ASK_DIAL], 1);
}

/* Without its relayed connection nothing is left to improve. */
static void test_ends_with_the_connection(void **state) {
  net *n = *state;
  assert_int_equal(sim_connect(&n->away, &n->home, 0, &answer), 0);
  for (unsigned i = 0; i < 12; i++) {
    sim_run_for(n->sim, i * 1000000u);
    (void)pu_engine_disconnect(n->away.engine, &n->home.id);
    sim_run_for(n->sim, SIM_SECOND);
    assert_true(pu_list_empty(&n->away.engine->dials));
    const unsigned asked = n->away.asked[PU_ASK_DIAL];
    sim_run_for(n->sim, 700 * SIM_SECOND);
    assert_int_equal(n->away.asked[PU_ASK_DIAL], asked);
    assert_int_equal(sim_connect(&n->away, &n->home, 0, &answer), 0);
  }
}

/* Engines close at every moment of it. */
static void test_the_engine_closes(void **state) {
  net *n = *state;
  char circuit[512], id[PU_PEER_ID_MAX_TEXT];
  (void)snprintf(circuit, sizeof circuit, "%s/p2p-circuit/p2p/%s", n->relay.full,
                 pu_peer_id_text(&n->home.id, id));
  for (uint64_t after = 0; after < 14 * (uint64_t)SIM_SECOND; after += 900000) {
    assert_int_equal(pu_engine_add_addr(n->away.engine, &n->home.id, circuit, UINT32_MAX, NULL), 0);
    assert_int_equal(sim_connect(&n->away, &n->home, 0, &answer), 0);
    sim_run_for(n->sim, after);
    sim_host_end(&n->away);
    assert_int_equal(sim_host_begin(&n->away, NULL, 0), 0);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {TEST(test_the_slower_direct_one), TEST(test_tried_again),
                                     TEST(test_ends_with_the_connection),
                                     TEST(test_the_engine_closes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
