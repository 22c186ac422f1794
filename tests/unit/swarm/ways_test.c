/* Which addresses are of use, and what the program's hook may do with them. */
#include "swarm/ways.h"

#include "support/sim_hosts.h"
#include "support/unit.h"
#include "swarm/conn.h"

typedef struct net {
  pu_sim *sim;
  sim_host a, b;
} net;

static int setup(void **state) {
  const pu_sim_link link = {.delay_us = 10000};
  net *n = calloc(1, sizeof *n);
  assert_non_null(n);
  assert_int_equal(pu_sim_new(9, &n->sim), 0);
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &link), 0);
  sim_host_start(n->sim, &n->a, 1, NULL);
  sim_host_start(n->sim, &n->b, 2, NULL);
  assert_int_equal(pu_engine_listen(n->a.engine, "/ip4/0.0.0.0/udp/4001/quic-v1", NULL), 0);
  assert_int_equal(pu_engine_listen(n->b.engine, "/ip4/10.0.0.2/tcp/5000", NULL), 0);
  assert_int_equal(pu_engine_listen(n->b.engine, "/ip4/10.0.0.2/udp/4001/quic-v1", NULL), 0);
  *state = n;
  return 0;
}

static int teardown(void **state) {
  net *n = *state;
  sim_host_end(&n->a);
  sim_host_end(&n->b);
  sim_run_for(n->sim, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
  free(n);
  return 0;
}

static bool is_usable(net *n, const char *text) {
  pu_multiaddr addr;
  pu_ma_target target;
  static pu_own_addrs own;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &addr, NULL), 0);
  pu_multiaddr_target(&addr, &target);
  pu_own_addrs_get(n->a.engine, &own);
  return pu_way_is_usable(n->a.engine, &own, &target);
}

static void test_what_is_no_use(void **state) {
  net *n = *state;
  static const char *const useless[] = {"/ip4/0.0.0.0/tcp/1",
                                        "/ip4/0.1.2.3/tcp/1",
                                        "/ip4/10.0.0.2/tcp/0",
                                        "/ip4/224.0.0.1/udp/1/quic-v1",
                                        "/ip4/255.255.255.255/tcp/1",
                                        "/ip6/::/tcp/1",
                                        "/ip6/ff02::1/tcp/1",
                                        "/ip6/fe80::1/tcp/1",
                                        "/ip6/::ffff:0.0.0.0/tcp/1",
                                        "/dns4/a/tcp/1",
                                        "/ip4/10.0.0.2/udp/1/quic",
                                        "/ip4/10.0.0.1/tcp/4001",
                                        "/ip4/10.0.0.1/udp/4001/quic-v1"};
  static const char *const useful[] = {
      "/ip4/10.0.0.2/tcp/1",          "/ip4/10.0.0.1/tcp/4002",
      "/ip6zone/2/ip6/fe80::1/tcp/1", "/ip6/2001:db8::1/udp/1/quic-v1",
      "/ip4/10.0.0.2/tcp/80/ws",      "/ip4/127.0.0.1/tcp/4001"};
  char text[300];
  for (size_t i = 0; i < PU_COUNT(useless); i++)
    assert_false(is_usable(n, useless[i]));
  for (size_t i = 0; i < PU_COUNT(useful); i++)
    assert_true(is_usable(n, useful[i]));
  (void)snprintf(text, sizeof text, "%s/p2p-circuit", n->b.full);
  assert_true(is_usable(n, text));
  (void)snprintf(text, sizeof text, "%s/p2p-circuit", n->a.full); /* through ourselves */
  assert_false(is_usable(n, text));
}

static sim_answer answer;

static void know(net *n, const char *addr) {
  assert_int_equal(pu_engine_add_addr(n->a.engine, &n->b.id, addr, UINT32_MAX, NULL), 0);
}

static const char *remote(void) {
  static pu_conn_info info;
  pu_conn_info_get(answer.conn, &info);
  return info.addr;
}

/* What is no use is not asked about, and the same twice is once. */
static void test_left_out(void **state) {
  net *n = *state;
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 0, 2}};
  know(n, "/ip4/0.0.0.0/tcp/1");
  know(n, "/ip4/10.0.0.1/tcp/4001");
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), PU_E_NO_ADDRESS);
  assert_int_equal(n->a.asked[PU_ASK_DIAL], 0);
  assert_int_equal(pu_sim_name(n->sim, "b.example", &b), 0);
  know(n, "/ip4/10.0.0.2/tcp/5000");
  know(n, "/dns4/b.example/tcp/5000");
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), 0);
  assert_int_equal(n->a.asked[PU_ASK_DIAL], 2); /* of the name, and of where it leads */
}

/* ---- the hook ---- */

typedef struct hook {
  unsigned calls;
  size_t count; /* of the last call */
  char first[PU_MULTIADDR_MAX_TEXT], transport[16];
  int (*answer)(pu_dial_candidate *candidates, size_t count);
} hook;

static hook the_hook;

static int on_rank(void *data, const pu_peer_id *peer, pu_dial_candidate *candidates,
                   size_t count) {
  hook *h = data;
  assert_true(peer->len > 0);
  h->calls++;
  h->count = count;
  (void)snprintf(h->first, sizeof h->first, "%s", candidates[0].addr);
  (void)snprintf(h->transport, sizeof h->transport, "%s", candidates[0].transport);
  return h->answer(candidates, count);
}

static int as_it_is(pu_dial_candidate *c, size_t count) {
  (void)c;
  return (int)count;
}
static int last_first(pu_dial_candidate *c, size_t count) {
  for (size_t i = 0; i < count / 2; i++) {
    const pu_dial_candidate other = c[i];
    c[i] = c[count - 1 - i];
    c[count - 1 - i] = other;
  }
  return (int)count;
}
static int drop_quic(pu_dial_candidate *c, size_t count) {
  int left = 0;
  for (size_t i = 0; i < count; i++)
    if (strcmp(c[i].transport, "quic-v1") != 0)
      c[left++] = c[i];
  return left;
}
static int later(pu_dial_candidate *c, size_t count) {
  c[0].delay_ms = UINT32_MAX;
  c[1].delay_ms = 0;
  return (int)count;
}
static int nothing(pu_dial_candidate *c, size_t count) {
  (void)c;
  (void)count;
  return 0;
}
static int failure(pu_dial_candidate *c, size_t count) {
  (void)c;
  (void)count;
  return PU_E_NOMEM;
}
static int garbage(pu_dial_candidate *c, size_t count) {
  for (size_t i = 0; i < count; i++)
    c[i].id = i == 0 ? 4000000000u : 0; /* invented, and one twice */
  return 1000000;
}

static void use(net *n, int (*fn)(pu_dial_candidate *, size_t)) {
  the_hook = (hook){.answer = fn};
  n->a.engine->rank = on_rank;
  n->a.engine->rank_data = &the_hook;
  (void)pu_engine_disconnect(n->a.engine, &n->b.id);
  sim_run_for(n->sim, SIM_SECOND);
  n->a.asked[PU_ASK_DIAL] = 0;
}

static void test_hook(void **state) {
  net *n = *state;
  know(n, "/ip4/10.0.0.2/tcp/4001");
  know(n, "/ip4/10.0.0.2/udp/4001/quic-v1");
  use(n, as_it_is);
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/udp/4001/quic-v1");
  assert_int_equal(the_hook.calls, 1);
  assert_int_equal(the_hook.count, 2);
  assert_string_equal(the_hook.first, "/ip4/10.0.0.2/udp/4001/quic-v1");
  assert_string_equal(the_hook.transport, "quic-v1");
  use(n, drop_quic);
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/tcp/4001");
  assert_int_equal(n->a.asked[PU_ASK_DIAL], 1); /* the other one is of no interest */
  use(n, later);
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), 0); /* the first begins at once */
  assert_string_equal(remote(), "/ip4/10.0.0.2/udp/4001/quic-v1");
  use(n, last_first);
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), 0);
  assert_int_equal(the_hook.calls, 1);
  use(n, garbage);
  assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), 0);
  assert_int_equal(n->a.asked[PU_ASK_DIAL], 1);
}

static void test_hook_denies(void **state) {
  net *n = *state;
  know(n, "/ip4/10.0.0.2/tcp/4001");
  static int (*const denials[])(pu_dial_candidate *, size_t) = {nothing, failure};
  for (size_t i = 0; i < PU_COUNT(denials); i++) {
    use(n, denials[i]);
    assert_int_equal(sim_connect(&n->a, &n->b, 0, &answer), PU_E_DENIED);
    assert_non_null(strstr(answer.detail, "the dial hook leaves no address of"));
    assert_int_equal(n->a.asked[PU_ASK_DIAL], 0);
    assert_int_equal(the_hook.calls, 1);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {TEST(test_what_is_no_use), TEST(test_left_out),
                                     TEST(test_hook), TEST(test_hook_denies)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
