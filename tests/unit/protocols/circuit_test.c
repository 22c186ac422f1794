/* Connections through a relay, whole hosts at both ends: what they carry, how they end, what is
 * told. */
#include "mux/yamux.h"
#include "support/relay_peer.h"
#include "support/tcp_app.h"
#include "support/unit.h"
#include "swarm/conn.h"
#include "swarm/engine_priv.h"

#define MS 1000u
#define SECONDS ((uint64_t)SIM_SECOND)
#define PROTOCOL "/peerup/files/1.0.0"

typedef struct rig {
  pu_sim *sim;
  sim_host relay, home, away;
  char circuit[512]; /* home's address through the relay */
  pu_proxy *listening, *exposing;
  tcp_server server;
  tcp_app client;
  int end_status; /* of the proxy's last connection at away */
  char end_detail[384];
  unsigned ends;
} rig;

#define RUN_UNTIL(r, us, cond)                                                 \
  do {                                                                         \
    const uint64_t end_ = pu_sim_now_us((r)->sim) + (us);                      \
    while (!(cond) && pu_sim_now_us((r)->sim) < end_ && pu_sim_step((r)->sim)) \
      ;                                                                        \
    SIM_CHECK(cond, "not in time");                                            \
  } while (0)

/* rig_new: home holds a reservation, away knows home's address through the relay. */
static rig *rig_new(uint64_t seed, const pu_sim_link *link, const pu_relay_config *config) {
  rig *r = calloc(1, sizeof(*r));
  char id[PU_PEER_ID_MAX_TEXT];
  assert_non_null(r);
  sim_seed = seed;
  assert_int_equal(pu_sim_new(seed, &r->sim), 0);
  sim_host_start(r->sim, &r->relay, 1, NULL);
  sim_host_start(r->sim, &r->home, 2, NULL);
  sim_host_start(r->sim, &r->away, 3, NULL);
  if (link != NULL) {
    assert_int_equal(pu_sim_set_link(r->sim, r->relay.platform, r->home.platform, link), 0);
    assert_int_equal(pu_sim_set_link(r->sim, r->relay.platform, r->away.platform, link), 0);
  }
  assert_int_equal(pu_engine_relay_start(r->relay.engine, config), 0);
  assert_int_equal(pu_engine_reserve(r->home.engine, r->relay.full, 0, NULL), 0);
  (void)snprintf(r->circuit, sizeof(r->circuit), "%s/p2p-circuit/p2p/%s", r->relay.full,
                 pu_peer_id_text(&r->home.id, id));
  assert_int_equal(pu_engine_add_addr(r->away.engine, &r->home.id, r->circuit, UINT32_MAX, NULL),
                   0);
  RUN_UNTIL(r, 20 * SECONDS, r->home.engine->relay_addr_count == 1);
  return r;
}

static void rig_end(rig *r) {
  tcp_app_close(&r->client, true);
  if (r->server.listener != NULL)
    tcp_server_stop(&r->server);
  sim_host_end(&r->away);
  sim_host_end(&r->home);
  sim_host_end(&r->relay);
  sim_run_for(r->sim, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(r->sim), 0);
  pu_sim_free(r->sim);
  free(r);
}

static void on_proxy(void *data, pu_proxy *p, const pu_proxy_event *event) {
  rig *r = data;
  if (event->opened || p != r->listening)
    return;
  r->ends++;
  r->end_status = event->status;
  (void)snprintf(r->end_detail, sizeof(r->end_detail), "%s", event->detail);
}

/* rig_service exposes a service of home's and opens a way to it at away. */
static void rig_service(rig *r, const tcp_app *model) {
  assert_int_equal(tcp_server_start(&r->server, r->home.platform, "10.0.0.2", 22, model), 0);
  assert_int_equal(
      pu_proxy_expose(r->home.engine, PROTOCOL, "10.0.0.2:22", on_proxy, r, &r->exposing, NULL), 0);
  assert_int_equal(pu_proxy_listen(r->away.engine, "10.0.0.3:2222", &r->home.id, PROTOCOL, on_proxy,
                                   r, &r->listening, NULL),
                   0);
}

static void rig_connect(rig *r, const tcp_app *client) {
  r->client = *client;
  pu_sockaddr entry = r->away.ip;
  entry.port = 2222;
  tcp_app_connect(&r->client, r->away.platform, &entry);
}

static pu_relay_stats stats_of(const rig *r) {
  pu_relay_stats stats;
  pu_engine_relay_stats(r->relay.engine, &stats);
  return stats;
}

/* ---- connections ---- */

static void test_connection(void **state) {
  (void)state;
  rig *r = rig_new(1, &(pu_sim_link){.delay_us = 20 * MS},
                   &(pu_relay_config){.session_duration_s = 300, .session_data_bytes = 1000000});
  const pu_sim_link down = {.down = true}; /* else the direct connection is found, too */
  sim_answer answer;
  pu_conn_info info;
  assert_int_equal(pu_sim_set_link(r->sim, r->home.platform, r->away.platform, &down), 0);
  assert_int_equal(sim_connect(&r->away, &r->home, 0, &answer), 0);
  pu_conn_info_get(answer.conn, &info);
  assert_true(info.relayed && info.limited && info.outbound);
  assert_true(pu_peer_id_equal(&info.peer, &r->home.id));
  assert_string_equal(info.transport, "circuit");
  assert_int_equal(info.limit_duration_s, 300);
  assert_int_equal(info.limit_data_bytes, 1000000);
  assert_int_equal(strncmp(info.addr, r->relay.full, strlen(r->relay.full)), 0);
  assert_string_equal(info.addr + strlen(r->relay.full), "/p2p-circuit");
  sim_run_for(r->sim, SECONDS);
  pu_conn_info_get(answer.conn, &info);
  assert_true(info.identified); /* over the relay as elsewhere */
  assert_string_equal(info.agent, "peerup/test");
  pu_conn *back = pu_engine_best_conn(r->home.engine, &r->away.id);
  assert_non_null(back);
  pu_conn_info_get(back, &info);
  assert_true(info.relayed && info.limited && info.identified && !info.outbound);
  assert_string_equal(info.addr + strlen(r->relay.full), "/p2p-circuit");
  assert_int_equal(sim_ping(&r->away, &r->home, &answer), 0);
  assert_true(answer.rtt_us >= 80 * MS && answer.rtt_us < 100 * MS);
  assert_int_equal(sim_ping(&r->home, &r->away, &answer), 0); /* both ways on the one connection */
  assert_int_equal(stats_of(r).circuits, 1);
  assert_int_equal(pu_engine_disconnect(r->away.engine, &r->home.id), 1);
  RUN_UNTIL(r, SECONDS, stats_of(r).circuits == 0);
  RUN_UNTIL(r, SECONDS, pu_engine_best_conn(r->home.engine, &r->away.id) == NULL);
  rig_end(r);
}

/* Ordinary streams do not use up a limited connection; a direct one is not replaced by it. */
static void test_limited(void **state) {
  (void)state;
  static const char *const protocols[] = {"/ipfs/ping/1.0.0"};
  rig *r = rig_new(2, NULL, NULL);
  sim_answer answer = {0}, direct;
  assert_int_equal(sim_connect(&r->away, &r->home, 0, &direct), 0);
  assert_int_equal(pu_engine_open_stream(r->away.engine, &r->home.id, protocols, 1, PU_OPEN_NO_DIAL,
                                         0, sim_on_open, &answer, NULL),
                   PU_E_LIMITED_CONN);
  assert_int_equal(pu_engine_open_stream(r->away.engine, &r->home.id, protocols, 1, 0, 0,
                                         sim_on_open, &answer, NULL),
                   0);
  RUN_UNTIL(r, 70 * SECONDS, answer.done);
  assert_int_equal(answer.status, PU_E_NO_ADDRESS); /* none without a relay */
  assert_non_null(strstr(answer.detail, "without a relay"));
  assert_int_equal(sim_connect(&r->away, &r->home, PU_CONNECT_DIRECT, &answer), PU_E_NO_ADDRESS);
  sim_host_knows(&r->away, &r->home);
  assert_int_equal(sim_connect(&r->away, &r->home, PU_CONNECT_DIRECT, &answer), 0);
  pu_conn_info info;
  pu_conn_info_get(pu_engine_best_conn(r->away.engine, &r->home.id), &info);
  assert_false(info.relayed);
  rig_end(r);
}

/* ---- refusals: which, why ---- */

static void check_no_connection(rig *r, int status, const char *part) {
  sim_answer answer;
  const int got = sim_connect(&r->away, &r->home, 0, &answer);
  if (got != status)
    fail_msg("%s: %s", pu_error_sentence(got), answer.detail);
  if (strstr(answer.detail, part) == NULL)
    fail_msg("\"%s\" is not in \"%s\"", part, answer.detail);
}

static void test_refusals(void **state) {
  (void)state;
  rig *r = rig_new(3, NULL, NULL);
  r->relay.denied = 1u << PU_ASK_CIRCUIT;
  check_no_connection(r, PU_E_DENIED, "PERMISSION_DENIED");
  r->relay.denied = 0;
  r->home.denied = 1u << PU_ASK_ACCEPT; /* before it knows who */
  check_no_connection(r, PU_E_UNREACHABLE, "the peer did not take it");
  assert_int_equal(r->home.events[PU_EVENT_DENIED], 1);
  r->home.denied = 1u << PU_ASK_INBOUND; /* and when it does */
  sim_answer answer;
  int status = sim_connect(&r->away, &r->home, 0, &answer);
  sim_run_for(r->sim, SECONDS); /* the dialler may have been done before it was refused */
  assert_true(status != 0 || pu_engine_best_conn(r->away.engine, &r->home.id) == NULL);
  assert_int_equal(r->home.events[PU_EVENT_DENIED], 2);
  r->home.denied = 0;
  pu_engine_unreserve(r->home.engine, &r->relay.id);
  assert_int_equal(pu_engine_disconnect(r->home.engine, &r->relay.id), 1);
  sim_run_for(r->sim, SECONDS);
  check_no_connection(r, PU_E_NO_RESERVATION, "NO_RESERVATION");
  pu_engine_relay_stop(r->relay.engine);
  sim_run_for(r->sim, SECONDS);
  check_no_connection(r, PU_E_UNSUPPORTED, "relay");
  sim_host_end(&r->relay);
  sim_run_for(r->sim, SECONDS);
  check_no_connection(r, PU_E_REFUSED, r->relay.addr);
  rig_end(r);
}

static void test_relay_does_not_answer(void **state) {
  (void)state;
  rig *r = rig_new(4, NULL, NULL);
  relay_stops silent = {0};
  pu_engine_relay_stop(r->relay.engine);
  assert_int_equal(pu_engine_handle(r->relay.engine, PU_RELAY_HOP_ID, relay_stops_take, &silent),
                   0);
  const uint64_t began = pu_sim_now_us(r->sim);
  sim_answer answer;
  assert_int_equal(sim_connect(&r->away, &r->home, 0, &answer), PU_E_TIMEOUT);
  assert_true(pu_sim_now_us(r->sim) - began <= 61 * SECONDS);
  /* Cancelled at each stage. */
  for (uint64_t us = 0; us < 20; us += 3) {
    pu_op *op;
    sim_answer canceled = {0};
    assert_int_equal(
        pu_engine_connect(r->away.engine, &r->home.id, 0, 0, sim_on_connect, &canceled, &op), 0);
    sim_run_for(r->sim, us);
    pu_op_cancel(op);
    RUN_UNTIL(r, SECONDS, canceled.done);
    assert_int_equal(canceled.status, PU_E_CANCELED);
    sim_run_for(r->sim, SECONDS);
  }
  rig_end(r);
}

/* A relay that is itself only reached through a relay is none. */
static void test_no_relay_behind_a_relay(void **state) {
  (void)state;
  static const char *const protocols[] = {PU_RELAY_HOP_ID};
  rig *r = rig_new(5, NULL, NULL);
  relay_peer p = {0};
  assert_int_equal(pu_engine_relay_start(r->home.engine, NULL), 0);
  for (uint32_t type = PU_RELAY_RESERVE; type <= PU_RELAY_CONNECT; type++) {
    const pu_relay_message m = {.type = type,
                                .has_peer = type == PU_RELAY_CONNECT,
                                .peer = {r->relay.id.bytes, r->relay.id.len}};
    p = (relay_peer){0};
    p.send_len = (size_t)pu_relay_encode(&m, p.send, sizeof(p.send));
    assert_int_equal(pu_engine_open_stream(r->away.engine, &r->home.id, protocols, 1,
                                           PU_OPEN_LIMITED, 0, relay_peer_on_open, &p, NULL),
                     0);
    RUN_UNTIL(r, 5 * SECONDS, p.done);
    assert_int_equal(p.m.status, PU_RELAY_PERMISSION_DENIED);
    relay_peer_close(&p);
  }
  rig_end(r);
}

/* ---- bytes ---- */

static void test_large_both_ways(void **state) {
  (void)state;
  rig *r = rig_new(6, &(pu_sim_link){.delay_us = 15 * MS, .rate_bytes_s = 40000000}, NULL);
  rig_service(r, &(tcp_app){.to_send = 20000000, .seed_out = 1, .seed_in = 2});
  rig_connect(r, &(tcp_app){.to_send = 25000000, .seed_out = 2, .seed_in = 1});
  RUN_UNTIL(r, 60 * SECONDS, r->client.tcp == NULL && r->server.apps->tcp == NULL);
  assert_int_equal(r->client.got, 20000000);
  assert_int_equal(r->server.apps->got, 25000000);
  assert_false(r->client.wrong || r->server.apps->wrong);
  assert_true(stats_of(r).bytes > 45000000);
  assert_true(stats_of(r).bytes < 46000000); /* what our records and frames add */
  rig_end(r);
}

/* A receiver that does not read holds the sender back over all three hosts. */
static void test_slow_reader(void **state) {
  (void)state;
  rig *r = rig_new(7, &(pu_sim_link){.delay_us = 5 * MS}, NULL);
  rig_service(r, &(tcp_app){.seed_in = 3, .seed_out = 3, .paused = true});
  rig_connect(r, &(tcp_app){.to_send = 60000000, .seed_out = 3});
  sim_run_for(r->sim, 20 * SECONDS);
  const uint64_t sent = r->client.sent;
  sim_run_for(r->sim, 5 * SECONDS);
  assert_int_equal(r->client.sent, sent);
  assert_true(sent < 30000000); /* what the simulated sockets hold, and windows */
  assert_true(pu_engine_memory(r->relay.engine) < 2u << 20);
  /* The window had grown while the service's socket still took bytes. */
  assert_true(pu_engine_memory(r->home.engine) < PU_YAMUX_WINDOW_MAX + (3u << 20));
  assert_true(pu_engine_memory(r->away.engine) < 3u << 20);
  tcp_app_set_paused(r->server.apps, false);
  RUN_UNTIL(r, 60 * SECONDS, r->client.tcp == NULL && r->server.apps->tcp == NULL);
  assert_int_equal(r->server.apps->got, 60000000);
  assert_false(r->server.apps->wrong);
  rig_end(r);
}

/* While one circuit fills the relay's connections, others are made and work. */
static void test_full_relay(void **state) {
  (void)state;
  rig *r = rig_new(8, &(pu_sim_link){.delay_us = 20 * MS, .rate_bytes_s = 3000000}, NULL);
  rig_service(r, &(tcp_app){.seed_in = 4, .seed_out = 4});
  rig_connect(r, &(tcp_app){.to_send = 55000000, .seed_out = 4});
  sim_run_for(r->sim, 6 * SECONDS);
  const uint64_t sent = r->client.sent;
  assert_true(sent > 5000000);
  const unsigned asked = r->relay.asked[PU_ASK_RESERVATION];
  for (int i = 0; i < 2; i++) {
    sim_answer answer;
    SIM_CHECK(sim_connect(&r->away, &r->home, PU_CONNECT_NEW, &answer) == 0, "%s", answer.detail);
    SIM_CHECK(sim_ping(&r->home, &r->away, &answer) == 0, "%s", answer.detail);
  }
  assert_true(r->client.sent < 55000000); /* it was full all the time */
  RUN_UNTIL(r, 100 * SECONDS, r->client.tcp == NULL && r->server.apps->tcp == NULL);
  assert_int_equal(r->server.apps->got, 55000000);
  assert_false(r->server.apps->wrong);
  assert_int_equal(r->home.events[PU_EVENT_RESERVATION_LOST], 0);
  assert_true(r->relay.asked[PU_ASK_RESERVATION] >= asked);
  rig_end(r);
}

static void test_bad_paths(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 25; seed++) {
    rig *r = rig_new(seed, NULL, NULL);
    rig_service(r, &(tcp_app){.to_send = 300000, .seed_out = seed, .seed_in = seed + 1});
    const pu_sim_link link = {.delay_us = pu_sim_random(r->sim) % (60 * MS),
                              .jitter_us = pu_sim_random(r->sim) % (30 * MS),
                              .loss_ppm = (uint32_t)(pu_sim_random(r->sim) % 20000),
                              .rate_bytes_s = 500000 + pu_sim_random(r->sim) % 5000000};
    assert_int_equal(pu_sim_set_link(r->sim, NULL, r->relay.platform, &link), 0);
    rig_connect(r, &(tcp_app){.to_send = 400000, .seed_out = seed + 1, .seed_in = seed});
    RUN_UNTIL(r, 120 * SECONDS,
              r->client.tcp == NULL && r->server.count == 1 && r->server.apps->tcp == NULL);
    SIM_CHECK(r->client.got == 300000 && r->server.apps->got == 400000, "bytes are missing: %s",
              r->end_detail);
    SIM_CHECK(!r->client.wrong && !r->server.apps->wrong, "bytes are wrong");
    rig_end(r);
  }
}

/* ---- ends ---- */

/* A limit that is reached is told as such, on both sides, with its figures. */
static void test_data_limit(void **state) {
  (void)state;
  rig *r = rig_new(9, NULL,
                   &(pu_relay_config){.session_data_bytes = 2u << 20, .session_duration_s = 600});
  rig_service(r, &(tcp_app){.seed_in = 5, .seed_out = 5});
  rig_connect(r, &(tcp_app){.to_send = 40000000, .seed_out = 5});
  RUN_UNTIL(r, 60 * SECONDS, r->client.tcp == NULL);
  assert_int_equal(r->client.failed, PU_E_RESET);
  RUN_UNTIL(r, 30 * SECONDS, r->server.apps->tcp == NULL);
  assert_true(r->server.apps->got < 2u << 20);
  assert_true(r->server.apps->got > 0);
  assert_int_equal(r->home.last_status, PU_E_RELAY_LIMIT);
  assert_non_null(strstr(r->home.last_detail, "2 MiB each way"));
  rig_end(r);
}

static void test_duration_limit(void **state) {
  (void)state;
  rig *r = rig_new(10, &(pu_sim_link){.delay_us = 20 * MS},
                   &(pu_relay_config){.session_duration_s = 20});
  rig_service(r, &(tcp_app){.echo = true});
  rig_connect(r, &(tcp_app){.to_send = 10, .keep_open = true});
  RUN_UNTIL(r, 5 * SECONDS, r->client.got == 10);
  RUN_UNTIL(r, 20 * SECONDS, r->client.tcp == NULL);
  assert_int_equal(r->client.failed, PU_E_RESET);
  assert_int_equal(r->away.last_status, PU_E_RELAY_LIMIT);
  assert_non_null(strstr(r->away.last_detail, "20 s"));
  RUN_UNTIL(r, 5 * SECONDS, r->home.last_status == PU_E_RELAY_LIMIT);
  assert_int_equal(stats_of(r).ended_by_limit, 1);
  rig_end(r);
}

static void test_relay_goes(void **state) {
  (void)state;
  for (int how = 0; how < 3; how++) {
    rig *r = rig_new(11, &(pu_sim_link){.delay_us = 20 * MS}, NULL);
    rig_service(r, &(tcp_app){.echo = true});
    rig_connect(r, &(tcp_app){.to_send = 10, .keep_open = true});
    RUN_UNTIL(r, 5 * SECONDS, r->client.got == 10);
    if (how == 0)
      pu_sim_cut(r->sim, r->relay.platform, r->home.platform);
    else if (how == 1)
      pu_sim_cut(r->sim, r->relay.platform, r->away.platform);
    else
      sim_host_close(&r->relay);
    RUN_UNTIL(r, 5 * SECONDS, r->client.tcp == NULL && r->server.apps->tcp == NULL);
    assert_int_equal(r->client.failed, PU_E_RESET);
    assert_int_equal(r->server.apps->failed, PU_E_RESET);
    assert_int_equal(r->ends, 1);
    rig_end(r);
  }
}

/* An idle circuit is closed like any other connection, and the relay does not count it any more. */
static void test_idle(void **state) {
  (void)state;
  rig *r = rig_new(12, NULL, NULL);
  sim_answer answer;
  assert_int_equal(sim_connect(&r->away, &r->home, 0, &answer), 0);
  sim_run_for(r->sim, 50 * SECONDS);
  assert_int_equal(stats_of(r).circuits, 1);
  sim_run_for(r->sim, 100 * SECONDS);
  assert_int_equal(stats_of(r).circuits, 0);
  assert_int_equal(r->away.engine->conn_count, 0);
  assert_int_equal(r->home.engine->conn_count, 1); /* to the relay */
  rig_end(r);
}

/* ---- memory ---- */

/* One host's n-th allocation fails, for each n: the bytes arrive or the connection ends, and the
 * accounts balance. */
static void fail_each_allocation(int which) {
  unsigned unharmed = 0;
  for (uint64_t n = 1; unharmed < 3; n++) {
    rig *r = rig_new(n, &(pu_sim_link){.delay_us = MS}, NULL);
    sim_host *const hosts[] = {&r->away, &r->relay, &r->home};
    rig_service(r, &(tcp_app){.echo = true});
    pu_mem *mem = &hosts[which]->engine->mem;
    const uint64_t before = mem->count;
    pu_mem_fail_at(mem, n);
    rig_connect(r, &(tcp_app){.to_send = 50000});
    RUN_UNTIL(r, 100 * SECONDS, r->client.tcp == NULL);
    SIM_CHECK(r->client.failed != 0 || r->client.got == r->client.sent, "a part taken for all");
    unharmed += mem->count - before < n;
    rig_end(r);
    SIM_CHECK(n < 3000, "no end");
  }
}

static void test_no_memory_away(void **state) {
  (void)state;
  fail_each_allocation(0);
}

static void test_no_memory_relay(void **state) {
  (void)state;
  fail_each_allocation(1);
}

static void test_no_memory_home(void **state) {
  (void)state;
  fail_each_allocation(2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_connection),
      cmocka_unit_test(test_limited),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_relay_does_not_answer),
      cmocka_unit_test(test_no_relay_behind_a_relay),
      cmocka_unit_test(test_large_both_ways),
      cmocka_unit_test(test_slow_reader),
      cmocka_unit_test(test_full_relay),
      cmocka_unit_test(test_bad_paths),
      cmocka_unit_test(test_data_limit),
      cmocka_unit_test(test_duration_limit),
      cmocka_unit_test(test_relay_goes),
      cmocka_unit_test(test_idle),
      cmocka_unit_test(test_no_memory_away),
      cmocka_unit_test(test_no_memory_relay),
      cmocka_unit_test(test_no_memory_home),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
