/* The engine handle: making, closing, listening, serving, own addresses, lack of memory. */
#include "support/sim_hosts.h"
#include "support/unit.h"
#include "swarm/conn.h"
#include "swarm/engine_priv.h"

static int setup(void **state) {
  pu_sim *sim;
  assert_int_equal(pu_sim_new(1, &sim), 0);
  *state = sim;
  return 0;
}
static int teardown(void **state) {
  sim_run_for(*state, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(*state), 0);
  pu_sim_free(*state);
  return 0;
}

static void add_text(void *data, const char *text) {
  char *all = data;
  size_t len = strlen(all);
  (void)snprintf(all + len, 4096 - len, "%s ", text);
}
static const char *own_addrs(const sim_host *h) {
  static char text[4096];
  text[0] = '\0';
  pu_engine_addrs(h->engine, add_text, text);
  return text;
}

static int on_stream(void *data, pu_stream *s) {
  (void)data;
  (void)s;
  return PU_E_INVAL;
}

static void test_make_and_close(void **state) {
  sim_host h;
  sim_host_add(*state, &h, 1);
  assert_int_equal(sim_host_begin(&h, NULL, 0), 0);
  assert_true(pu_peer_id_equal(pu_engine_peer(h.engine), &h.id));
  assert_true(strlen(pu_version()) > 0);
  assert_true(pu_engine_memory(h.engine) > PU_RX_BYTES);
  assert_int_equal(pu_engine_run(h.engine), PU_E_INVAL); /* the loop is not its own */
  pu_engine *e = h.engine;
  sim_host_close(&h);
  assert_false(h.closed); /* never inside the call */
  pu_engine_close(e, NULL, NULL);
  sim_answer answer = {0};
  pu_op *op;
  assert_int_equal(
      pu_engine_connect(e, &(pu_peer_id){.len = 2}, 0, 0, sim_on_connect, &answer, &op),
      PU_E_CLOSED);
  sim_run_for(*state, 1);
  assert_true(h.closed);
}

/* Every allocation of an engine's beginning fails once; nothing is left of it. */
static void test_making_without_memory(void **state) {
  sim_host h;
  unsigned failures = 0;
  sim_host_add(*state, &h, 1);
  for (uint64_t n = 1;; n++) {
    int rc = sim_host_begin(&h, NULL, n);
    if (rc == 0) {
      bool reached = h.engine->mem.fail_at == 0;
      sim_host_end(&h);
      if (!reached)
        break;
      continue; /* it can do without */
    }
    assert_int_equal(rc, PU_E_NOMEM);
    failures++;
    sim_run_for(*state, 1); /* what was made goes in the loop's next turn */
  }
  assert_true(failures > 10);
}

static void test_bad_identity(void **state) {
  pu_sim *sim = *state;
  const uint8_t nonsense[] = {1, 2, 3};
  pu_platform *platform;
  pu_engine *e = NULL;
  pu_error err = {0};
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 1}};
  assert_int_equal(pu_sim_add_host(sim, "h", &ip, 1, &platform), 0);
  const pu_engine_config config = {
      .platform = platform, .identity = nonsense, .identity_len = sizeof(nonsense)};
  assert_int_not_equal(pu_engine_new(&config, &e, &err), 0);
  assert_null(e);
  assert_true(err.detail[0] != '\0');
  sim_run_for(sim, 1);
}

static void test_listening(void **state) {
  sim_host h, g;
  pu_error err;
  sim_host_add(*state, &h, 1);
  sim_host_add(*state, &g, 2);
  assert_int_equal(sim_host_begin(&h, NULL, 0), 0);
  assert_int_equal(sim_host_begin(&g, NULL, 0), 0);
  static const struct {
    const char *addr;
    int status;
  } cases[] = {
      {"/ip4/10.0.0.1/tcp/4001", 0},
      {"/ip4/10.0.0.1/tcp/4001", PU_E_IN_USE},
      {"/ip4/10.0.0.9/tcp/4001", PU_E_NO_ADDRESS},
      {"/ip4/10.0.0.1", PU_E_UNSUPPORTED},
      {"/ip4/10.0.0.1/udp/4001/quic", PU_E_UNSUPPORTED},
      {"/ip4/10.0.0.1/tcp/4001/ws", 0},
      {"/ip4/10.0.0.1/tcp/4001/ws", PU_E_IN_USE},
      {"/ip4/10.0.0.1/tcp/4002/ws", 0},
      {"/ip4/10.0.0.1/tcp/4003/ws/http-path/a", PU_E_UNSUPPORTED},
      {"/dns4/a.example/tcp/1/ws", PU_E_UNSUPPORTED},
      {"/dns4/a.example/tcp/1", PU_E_UNSUPPORTED},
      {"nonsense", PU_E_PARSE},
      {"/ip4/300.0.0.1/tcp/1", PU_E_PARSE},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    err = (pu_error){0};
    assert_int_equal(pu_engine_listen(h.engine, cases[i].addr, &err), cases[i].status);
    assert_int_equal(err.detail[0] != '\0', cases[i].status != 0);
  }
  assert_string_equal(own_addrs(&h), "/ip4/10.0.0.1/tcp/4001 /ip4/10.0.0.1/tcp/4001/ws "
                                     "/ip4/10.0.0.1/tcp/4002/ws ");
  assert_int_equal(h.events[PU_EVENT_ADDRESSES], 3);
  /* A wildcard stands for the interfaces' addresses, port 0 for the one that was free. */
  assert_int_equal(pu_engine_listen(g.engine, "/ip4/0.0.0.0/tcp/0", NULL), 0);
  assert_non_null(strstr(own_addrs(&g), "/ip4/10.0.0.2/tcp/"));
  assert_null(strstr(own_addrs(&g), "/tcp/0 "));
  int rc = 0;
  for (unsigned i = 0; i <= PU_ENGINE_LISTENERS_MAX && rc == 0; i++) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/ip4/10.0.0.2/tcp/%u", 6000 + i);
    rc = pu_engine_listen(g.engine, text, NULL);
  }
  assert_int_equal(rc, PU_E_LIMIT);
  sim_host_end(&h);
  sim_host_end(&g);
}

static void test_relay_addresses(void **state) {
  sim_host h;
  pu_multiaddr a[PU_ENGINE_RELAY_ADDRS_MAX + 1];
  sim_host_start(*state, &h, 1, NULL);
  for (unsigned i = 0; i < PU_COUNT(a); i++) {
    char text[200];
    (void)snprintf(text, sizeof(text),
                   "/ip4/10.9.0.%u/tcp/1/p2p/12D3KooWRJtmC7bDTucGV6xT926m3tFhU2od4jEFXB5rjaLBvkRb"
                   "/p2p-circuit",
                   i + 1);
    assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &a[i], NULL), 0);
    assert_int_equal(pu_engine_add_relay_addr(h.engine, &a[i]),
                     i < PU_ENGINE_RELAY_ADDRS_MAX ? 0 : PU_E_LIMIT);
    assert_int_equal(pu_engine_add_relay_addr(h.engine, &a[0]), 0); /* counts once */
  }
  assert_int_equal(h.events[PU_EVENT_ADDRESSES], 1 + PU_ENGINE_RELAY_ADDRS_MAX);
  const char *all = own_addrs(&h);
  assert_true(strstr(all, "/ip4/10.0.0.1/tcp/4001 ") == all); /* relay addresses last */
  pu_engine_remove_relay_addr(h.engine, &a[3]);
  pu_engine_remove_relay_addr(h.engine, &a[3]);
  assert_null(strstr(own_addrs(&h), "/ip4/10.9.0.4/"));
  assert_int_equal(h.events[PU_EVENT_ADDRESSES], 2 + PU_ENGINE_RELAY_ADDRS_MAX);
  sim_host_end(&h);
}

static void test_serving(void **state) {
  sim_host h;
  const char *names[64];
  char longest[PU_MULTISTREAM_MAX_TOKEN + 1];
  memset(longest, 'x', sizeof(longest) - 1);
  longest[sizeof(longest) - 1] = '\0';
  sim_host_start(*state, &h, 1, NULL);
  assert_int_equal(pu_engine_handle(h.engine, "/b/1", on_stream, NULL), 0);
  assert_int_equal(pu_engine_handle(h.engine, "/a/1", on_stream, NULL), 0);
  assert_int_equal(pu_engine_handle(h.engine, "/a/1", on_stream, NULL), PU_E_EXISTS);
  assert_int_equal(pu_engine_handle(h.engine, "/ipfs/ping/1.0.0", on_stream, NULL), PU_E_EXISTS);
  assert_int_equal(pu_engine_handle(h.engine, "/ipfs/ping/1.0.0", NULL, NULL), PU_E_INVAL);
  assert_int_equal(pu_engine_handle(h.engine, "/c/1", NULL, NULL), PU_E_NOT_FOUND);
  assert_int_equal(pu_engine_handle(h.engine, "", on_stream, NULL), PU_E_INVAL);
  assert_int_equal(pu_engine_handle(h.engine, longest, on_stream, NULL), PU_E_INVAL);
  size_t n = pu_engine_protocols(h.engine, names, PU_COUNT(names));
  assert_true(n >= 4);
  assert_string_equal(names[0], "/a/1");
  assert_string_equal(names[1], "/b/1");
  for (size_t i = 1; i < n; i++)
    assert_true(strcmp(names[i - 1], names[i]) < 0);
  assert_int_equal(pu_engine_handle(h.engine, "/b/1", NULL, NULL), 0);
  assert_int_equal(pu_engine_protocols(h.engine, names, PU_COUNT(names)), n - 1);
  sim_host_end(&h);
}

/* Whatever stands or is under way when an engine closes is told once, at both ends of the network.
 */
static void test_closing_at_any_time(void **state) {
  pu_sim *sim = *state;
  static sim_host a, b;
  const pu_sim_link link = {.delay_us = 10000};
  assert_int_equal(pu_sim_set_link(sim, NULL, NULL, &link), 0);
  sim_host_add(sim, &a, 1);
  sim_host_start(sim, &b, 2, NULL);
  for (uint64_t after = 0; after < 150000; after += 2500) {
    static sim_answer answers[3];
    static const char *const protocols[] = {"/no/such/1"};
    pu_op *op;
    memset(answers, 0, sizeof(answers));
    assert_int_equal(sim_host_begin(&a, NULL, 0), 0);
    sim_host_knows(&a, &b);
    assert_int_equal(pu_engine_connect(a.engine, &b.id, 0, 0, sim_on_connect, &answers[0], &op), 0);
    assert_int_equal(
        pu_engine_open_stream(a.engine, &b.id, protocols, 1, 0, 0, sim_on_open, &answers[1], &op),
        0);
    assert_int_equal(pu_engine_ping(a.engine, &b.id, 0, sim_on_ping, &answers[2], &op), 0);
    sim_run_for(sim, after);
    sim_host_end(&a);
    for (size_t i = 0; i < PU_COUNT(answers); i++) {
      assert_int_equal(answers[i].calls, 1);
      assert_true(answers[i].status == PU_E_CANCELED || after > 40000);
    }
    sim_run_for(sim, SIM_SECOND);
    assert_int_equal(b.engine->conn_count, 0);
    assert_int_equal(b.engine->limiter.pending, 0);
  }
  sim_host_end(&b);
}

/* One allocation in the life of two hosts that connect, identify and ping fails, each in turn. */
static void test_a_life_without_memory(void **state) {
  pu_sim *sim = *state;
  static sim_host a, b;
  unsigned failures = 0;
  sim_host_add(sim, &a, 1);
  sim_host_add(sim, &b, 2);
  for (int who = 0; who < 2; who++) {
    sim_host *poor = who == 0 ? &a : &b;
    for (uint64_t n = 1;; n++) {
      sim_answer answer;
      assert_int_equal(sim_host_begin(&a, NULL, 0), 0);
      assert_int_equal(sim_host_begin(&b, NULL, 0), 0);
      assert_int_equal(pu_engine_listen(b.engine, b.addr, NULL), 0);
      sim_host_knows(&a, &b);
      pu_mem_fail_at(&poor->engine->mem, n);
      int rc = sim_ping(&a, &b, &answer);
      sim_run_for(sim, SIM_SECOND);
      bool reached = poor->engine->mem.fail_at == 0;
      if (reached && rc == 0) /* what it could do without did no harm */
        assert_int_equal(sim_ping(&a, &b, &answer), 0);
      failures += reached;
      sim_host_end(&a);
      sim_run_for(sim, SIM_SECOND);
      sim_host_end(&b);
      if (!reached)
        break;
    }
  }
  assert_true(failures > 60);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_make_and_close),      TEST(test_making_without_memory), TEST(test_bad_identity),
      TEST(test_listening),           TEST(test_relay_addresses),       TEST(test_serving),
      TEST(test_closing_at_any_time), TEST(test_a_life_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
