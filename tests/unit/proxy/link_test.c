/* One carried connection in the simulated network: what depends on time, chance, cuts and memory.
 */
#include "support/sim_hosts.h"
#include "support/tcp_app.h"
#include "support/unit.h"
#include "swarm/engine_priv.h"

#define PROTOCOL "/peerup/ssh/1.0.0"
#define ENTRY_PORT 2222
#define SERVICE_PORT 22
#define MS 1000u

typedef struct heard {
  unsigned opened, ended;
  int status;
  char detail[384];
  uint64_t duration_us;
} heard;

/* A client on host 1, its peer on host 2, the service on host 3 beside it. */
typedef struct rig {
  pu_sim *sim;
  sim_host near, far, third;
  const char *protocol;
  pu_proxy *listening, *exposing;
  heard near_heard, far_heard;
  tcp_server server;
  tcp_app client;
} rig;

static void on_proxy(void *data, pu_proxy *p, const pu_proxy_event *event) {
  heard *h = data;
  (void)p;
  if (event->opened) {
    h->opened++;
    return;
  }
  h->ended++;
  h->status = event->status;
  h->duration_us = event->duration_us;
  (void)snprintf(h->detail, sizeof(h->detail), "%s", event->detail);
}

static void set_link(rig *r, sim_host *a, sim_host *b, const pu_sim_link *link) {
  assert_int_equal(pu_sim_set_link(r->sim, a->platform, b->platform, link), 0);
}

/* rig_new makes the hosts; the far one does not listen yet. */
static rig *rig_new(uint64_t seed, const pu_sim_link *link) {
  rig *r = calloc(1, sizeof(*r));
  assert_non_null(r);
  sim_seed = seed;
  assert_int_equal(pu_sim_new(seed, &r->sim), 0);
  sim_host_start(r->sim, &r->near, 1, NULL);
  sim_host_add(r->sim, &r->far, 2);
  assert_int_equal(sim_host_begin(&r->far, NULL, 0), 0);
  sim_host_add(r->sim, &r->third, 3);
  sim_host_knows(&r->near, &r->far);
  if (link != NULL)
    set_link(r, &r->near, &r->far, link);
  r->protocol = PROTOCOL;
  return r;
}

static void rig_far_listens(rig *r) {
  assert_int_equal(pu_engine_listen(r->far.engine, r->far.addr, NULL), 0);
}

static void rig_proxies(rig *r, const char *target) {
  assert_int_equal(pu_proxy_listen(r->near.engine, "10.0.0.1:2222", &r->far.id, r->protocol,
                                   on_proxy, &r->near_heard, &r->listening, NULL),
                   0);
  assert_int_equal(pu_proxy_expose(r->far.engine, r->protocol, target, on_proxy, &r->far_heard,
                                   &r->exposing, NULL),
                   0);
}

static void rig_service(rig *r, const tcp_app *model) {
  assert_int_equal(tcp_server_start(&r->server, r->third.platform, "10.0.0.3", SERVICE_PORT, model),
                   0);
}

/* rig_start is all of it, ready for clients. */
static rig *rig_start(uint64_t seed, const pu_sim_link *link, const tcp_app *model) {
  rig *r = rig_new(seed, link);
  rig_far_listens(r);
  rig_proxies(r, "10.0.0.3:22");
  rig_service(r, model);
  return r;
}

static void rig_connect(rig *r, const tcp_app *client) {
  r->client = *client;
  pu_sockaddr entry = r->near.ip;
  entry.port = ENTRY_PORT;
  tcp_app_connect(&r->client, r->near.platform, &entry);
}

static void rig_run(rig *r, uint64_t us) {
  sim_run_for(r->sim, us);
}

/* RUN_UNTIL lets virtual time pass until |cond|, for at most |s| seconds. */
#define RUN_UNTIL(r, s, cond)                                                  \
  do {                                                                         \
    const uint64_t end_ = pu_sim_now_us((r)->sim) + (uint64_t)(s)*SIM_SECOND;  \
    while (!(cond) && pu_sim_now_us((r)->sim) < end_ && pu_sim_step((r)->sim)) \
      ;                                                                        \
    SIM_CHECK(cond, "not in time");                                            \
  } while (0)

static void rig_end(rig *r) {
  tcp_app_close(&r->client, true);
  if (r->server.listener != NULL)
    tcp_server_stop(&r->server);
  sim_host_end(&r->near);
  sim_host_end(&r->far);
  rig_run(r, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(r->sim), 0);
  pu_sim_free(r->sim);
  free(r);
}

static void connect_hosts(rig *r) {
  sim_answer answer;
  assert_int_equal(sim_connect(&r->near, &r->far, 0, &answer), 0);
  rig_run(r, 2 * SIM_SECOND); /* identify, both ways */
}

/* ---- time ---- */

/* What a client says at once travels with the negotiation: the answer is here after one round trip.
 */
static void test_one_round_trip(void **state) {
  (void)state;
  const pu_sim_link link = {.delay_us = 100 * MS};
  rig *r = rig_start(1, &link, &(tcp_app){.echo = true});
  connect_hosts(r);
  for (int i = 0; i < 3; i++) {
    const uint64_t began = pu_sim_now_us(r->sim);
    rig_connect(r, &(tcp_app){.to_send = 500, .keep_open = true});
    RUN_UNTIL(r, 5, r->client.got == 500);
    const uint64_t took = pu_sim_now_us(r->sim) - began;
    assert_true(took >= 200 * MS);
    assert_true(took < 210 * MS);
    tcp_app_close(&r->client, false);
    rig_run(r, SIM_SECOND);
  }
  rig_end(r);
}

/* A long path is filled by a window that grows: 256 KiB a round trip would be 1.3 MB/s. */
static void test_long_path(void **state) {
  (void)state;
  const pu_sim_link link = {.delay_us = 100 * MS, .rate_bytes_s = 20000000};
  rig *r = rig_start(2, &link, &(tcp_app){.to_send = 60000000, .seed_out = 5});
  connect_hosts(r);
  const uint64_t began = pu_sim_now_us(r->sim);
  rig_connect(r, &(tcp_app){.seed_in = 5});
  RUN_UNTIL(r, 60, r->client.tcp == NULL);
  const uint64_t took = pu_sim_now_us(r->sim) - began;
  print_message("60 MB in %u ms over a 200 ms path of 20 MB/s\n", (unsigned)(took / 1000));
  assert_int_equal(r->client.got, 60000000);
  assert_false(r->client.wrong);
  assert_true(took < 8 * SIM_SECOND);
  rig_end(r);
}

/* While a connection is full of a proxy's bytes, everything else on it still works, only later. */
static void test_full_connection(void **state) {
  (void)state;
  const pu_sim_link link = {.delay_us = 50 * MS, .rate_bytes_s = 4000000};
  rig *r = rig_start(3, &link, &(tcp_app){.seed_in = 5, .seed_out = 6});
  connect_hosts(r);
  rig_connect(r, &(tcp_app){.to_send = 200000000, .seed_out = 5, .seed_in = 6});
  rig_run(r, 20 * SIM_SECOND);
  const uint64_t sent = r->client.sent;
  for (int i = 0; i < 5; i++) {
    sim_answer answer;
    SIM_CHECK(sim_ping(&r->near, &r->far, &answer) == 0, "ping: %s", answer.detail);
    SIM_CHECK(sim_ping(&r->far, &r->near, &answer) == 0, "ping back: %s", answer.detail);
    rig_run(r, 100 * MS);
  }
  assert_true(r->client.sent > sent && r->client.sent < 200000000);
  rig_end(r);
}

static void test_peer_appears(void **state) {
  (void)state;
  rig *r = rig_new(3, NULL);
  rig_proxies(r, "10.0.0.3:22");
  rig_service(r, &(tcp_app){.echo = true});
  rig_connect(r, &(tcp_app){.to_send = 100000});
  rig_run(r, 2500 * MS); /* two vain tries, at 0 and 1 s */
  assert_int_equal(r->near_heard.opened + r->near_heard.ended, 0);
  rig_far_listens(r);
  rig_run(r, 400 * MS);
  assert_int_equal(r->near_heard.opened, 0);
  rig_run(r, 200 * MS); /* the third at 3 s */
  assert_int_equal(r->near_heard.opened, 1);
  RUN_UNTIL(r, 5, r->client.tcp == NULL);
  assert_int_equal(r->client.got, 100000);
  assert_int_equal(r->client.failed, 0);
  rig_end(r);
}

static void test_peer_never_appears(void **state) {
  (void)state;
  rig *r = rig_new(4, NULL);
  rig_proxies(r, "10.0.0.3:22");
  rig_connect(r, &(tcp_app){.to_send = 10});
  RUN_UNTIL(r, 20, r->client.tcp == NULL);
  assert_int_equal(r->client.failed, PU_E_RESET);
  assert_int_equal(r->near_heard.ended, 1);
  assert_int_equal(r->near_heard.status, PU_E_REFUSED);
  assert_true(strstr(r->near_heard.detail, r->far.addr) != NULL); /* which address, and why */
  assert_true(strstr(r->near_heard.detail, "connection refused") != NULL);
  assert_true(r->near_heard.duration_us >= 7 * SIM_SECOND);
  assert_true(r->near_heard.duration_us < 8 * SIM_SECOND);
  pu_proxy_stats stats;
  pu_proxy_stats_get(r->listening, &stats);
  assert_int_equal(stats.failures, 1);
  assert_int_equal(stats.connections, 0);
  assert_int_equal(stats.active, 0);
  rig_end(r);
}

/* What the peer refuses is not tried again. */
static void test_refusals_are_final(void **state) {
  (void)state;
  rig *r = rig_start(5, NULL, &(tcp_app){.echo = true});
  r->far.denied = 1u << PU_ASK_STREAM;
  rig_connect(r, &(tcp_app){.to_send = 10});
  RUN_UNTIL(r, 20, r->client.tcp == NULL);
  assert_true(r->near_heard.duration_us < SIM_SECOND);
  r->near.denied = 1u << PU_ASK_DIAL;
  (void)pu_engine_disconnect(r->near.engine, &r->far.id);
  rig_connect(r, &(tcp_app){.to_send = 10});
  RUN_UNTIL(r, 20, r->client.tcp == NULL);
  assert_int_equal(r->near_heard.ended, 2);
  assert_int_equal(r->near_heard.status, PU_E_DENIED);
  assert_true(r->near_heard.duration_us < SIM_SECOND);
  rig_end(r);
}

/* The proxy is closed while a connection waits: for the next try, for the dial. */
static void test_closed_while_opening(void **state) {
  (void)state;
  for (unsigned ms = 0; ms < 2000; ms += 250) {
    rig *r = rig_new(6, &(pu_sim_link){.delay_us = 50 * MS});
    rig_proxies(r, "10.0.0.3:22");
    rig_connect(r, &(tcp_app){.to_send = 10});
    rig_run(r, ms * MS + 10);
    pu_proxy_close(r->listening);
    RUN_UNTIL(r, 20, r->client.tcp == NULL);
    assert_int_equal(r->client.failed, PU_E_RESET);
    rig_end(r);
  }
}

static void test_target_does_not_answer(void **state) {
  (void)state;
  rig *r = rig_start(7, NULL, &(tcp_app){.echo = true});
  connect_hosts(r);
  set_link(r, &r->far, &r->third, &(pu_sim_link){.down = true});
  rig_connect(r, &(tcp_app){.to_send = 300000});
  RUN_UNTIL(r, 20, r->client.tcp == NULL);
  assert_int_equal(r->client.failed, PU_E_RESET);
  assert_int_equal(r->far_heard.status, PU_E_TIMEOUT);
  assert_string_equal(r->far_heard.detail,
                      "cannot connect to the local service 10.0.0.3:22: timed out");
  assert_true(r->far_heard.duration_us >= 10 * SIM_SECOND - 10 * MS);
  assert_true(r->far_heard.duration_us <= 10 * SIM_SECOND + 10 * MS);
  rig_end(r);
}

static void test_target_by_name(void **state) {
  (void)state;
  rig *r = rig_new(8, NULL);
  rig_far_listens(r);
  assert_int_equal(pu_sim_name(r->sim, "nas.home.arpa", &r->third.ip), 0);
  rig_proxies(r, "nas.home.arpa:22");
  rig_service(r, &(tcp_app){.echo = true});
  rig_connect(r, &(tcp_app){.to_send = 1000});
  RUN_UNTIL(r, 20, r->client.tcp == NULL);
  assert_int_equal(r->client.got, 1000);
  pu_proxy_close(r->exposing);
  assert_int_equal(pu_proxy_expose(r->far.engine, PROTOCOL, "nobody.home.arpa:22", on_proxy,
                                   &r->far_heard, &r->exposing, NULL),
                   0);
  rig_connect(r, &(tcp_app){.to_send = 1000});
  RUN_UNTIL(r, 20, r->client.tcp == NULL);
  assert_int_equal(r->far_heard.status, PU_E_NOT_FOUND);
  assert_string_equal(r->far_heard.detail,
                      "cannot connect to the local service nobody.home.arpa:22: not found");
  rig_end(r);
}

/* ---- ends ---- */

/* The path breaks in the middle: both sides learn it, nobody takes half for the whole. */
static void test_cut(void **state) {
  (void)state;
  rig *r = rig_start(9, &(pu_sim_link){.delay_us = 20 * MS, .rate_bytes_s = 1000000},
                     &(tcp_app){.to_send = 10000000, .seed_out = 1, .seed_in = 2});
  rig_connect(r, &(tcp_app){.to_send = 10000000, .seed_out = 2, .seed_in = 1});
  RUN_UNTIL(r, 20, r->client.got > 100000);
  pu_sim_cut(r->sim, r->near.platform, r->far.platform);
  RUN_UNTIL(r, 5, r->client.tcp == NULL && r->server.apps->tcp == NULL);
  assert_int_equal(r->client.failed, PU_E_RESET);
  assert_int_equal(r->server.apps->failed, PU_E_RESET);
  assert_false(r->client.wrong || r->server.apps->wrong);
  assert_int_equal(r->near_heard.status, PU_E_GONE);
  assert_int_equal(r->far_heard.status, PU_E_GONE);
  assert_string_equal(r->near_heard.detail,
                      "the connection to the peer ended: reset by the other side");
  rig_end(r);
}

/* More than the window at once, behind an offer that takes some of the window. */
static void test_much_at_once(void **state) {
  (void)state;
  static char protocol[700] = "/peerup/";
  memset(protocol + 8, 'x', sizeof(protocol) - 9);
  for (uint64_t seed = 1; seed <= 10; seed++) {
    rig *r = rig_new(seed, &(pu_sim_link){.delay_us = 30 * MS});
    r->protocol = protocol;
    rig_far_listens(r);
    rig_proxies(r, "10.0.0.3:22");
    rig_service(r, &(tcp_app){.seed_in = seed, .seed_out = seed, .to_send = 100});
    rig_connect(r, &(tcp_app){.to_send = 2000000, .seed_out = seed, .seed_in = seed});
    RUN_UNTIL(r, 60, r->client.tcp == NULL && r->server.apps->tcp == NULL);
    assert_int_equal(r->server.apps->got, 2000000);
    assert_int_equal(r->client.got, 100);
    assert_false(r->client.wrong || r->server.apps->wrong);
    rig_end(r);
  }
}

/* Loss, delay, short reads and writes, pauses of a reader: every byte arrives, once and in order.
 */
static void test_bad_paths(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    rig *r =
        rig_start(seed, NULL, &(tcp_app){.to_send = 700000, .seed_out = seed, .seed_in = seed + 1});
    const pu_sim_link link = {.delay_us = pu_sim_random(r->sim) % (80 * MS),
                              .jitter_us = pu_sim_random(r->sim) % (40 * MS),
                              .loss_ppm = (uint32_t)(pu_sim_random(r->sim) % 30000),
                              .rate_bytes_s = 500000 + pu_sim_random(r->sim) % 5000000};
    set_link(r, &r->near, &r->far, &link);
    rig_connect(r, &(tcp_app){.to_send = 900000, .seed_out = seed + 1, .seed_in = seed});
    for (int i = 0; i < 20 && r->client.tcp != NULL; i++) {
      tcp_app_set_paused(&r->client, (pu_sim_random(r->sim) & 1) != 0);
      if (r->server.count > 0)
        tcp_app_set_paused(r->server.apps, (pu_sim_random(r->sim) & 1) != 0);
      rig_run(r, 100 * MS);
    }
    tcp_app_set_paused(&r->client, false);
    RUN_UNTIL(r, 60, r->server.count > 0);
    tcp_app_set_paused(r->server.apps, false);
    RUN_UNTIL(r, 120, r->client.tcp == NULL && r->server.apps->tcp == NULL);
    SIM_CHECK(r->client.got == 700000 && r->server.apps->got == 900000, "bytes are missing");
    SIM_CHECK(!r->client.wrong && !r->server.apps->wrong, "bytes are wrong");
    pu_proxy_stats stats;
    RUN_UNTIL(r, 5, r->near_heard.ended == 1 && r->far_heard.ended == 1);
    pu_proxy_stats_get(r->listening, &stats);
    SIM_CHECK(stats.bytes_in == 700000 && stats.bytes_out == 900000, "bytes are miscounted");
    rig_end(r);
  }
}

/* ---- memory ---- */

/* One host's n-th allocation fails, for each n: whatever happens to the connection, it ends on both
 * sides, a whole answer is the right one, and the accounts balance. */
static void fail_each_allocation(bool far) {
  unsigned unharmed = 0;
  for (uint64_t n = 1; unharmed < 3; n++) {
    rig *r = rig_start(n, &(pu_sim_link){.delay_us = MS}, &(tcp_app){.echo = true});
    pu_engine *e = far ? r->far.engine : r->near.engine;
    const uint64_t before = e->mem.count;
    pu_mem_fail_at(&e->mem, n);
    rig_connect(r, &(tcp_app){.to_send = 100000});
    RUN_UNTIL(r, 60, r->client.tcp == NULL);
    SIM_CHECK(r->client.failed != 0 || r->client.got == r->client.sent, "a part taken for all");
    unharmed += e->mem.count - before < n;
    rig_end(r);
    SIM_CHECK(n < 5000, "no end");
  }
}

static void test_no_memory_near(void **state) {
  (void)state;
  fail_each_allocation(false);
}

static void test_no_memory_far(void **state) {
  (void)state;
  fail_each_allocation(true);
}

/* What fills a simulated socket, and leaves some bytes in the stream's window. */
#define LATE_BYTES (8u * 1024 * 1024 + 150000)

/* A program that reads late gets all that came before the peer went, and its end. */
static void late_reader(bool finished) {
  rig *r = rig_start(4, NULL, &(tcp_app){.to_send = LATE_BYTES, .seed_out = 5, .keep_open = !finished});
  rig_connect(r, &(tcp_app){.seed_in = 5, .paused = true, .keep_open = !finished});
  rig_run(r, 10 * SIM_SECOND);
  assert_int_equal(r->near_heard.opened, 1);
  assert_int_equal(r->far_heard.ended, finished);
  (void)pu_engine_disconnect(r->far.engine, &r->near.id);
  rig_run(r, 100 * SIM_SECOND);
  assert_int_equal(r->near_heard.ended, 0);
  r->client.paused = false;
  tcp_app_update(&r->client);
  rig_run(r, SIM_SECOND);
  assert_int_equal(r->near_heard.ended, 1);
  assert_int_equal(r->near_heard.status, finished ? 0 : PU_E_GONE);
  if (finished)
    assert_int_equal(r->client.got, LATE_BYTES);
  assert_false(r->client.wrong);
  assert_int_equal(r->client.eof, finished);
  assert_int_equal(r->client.failed != 0, !finished); /* half of it is not taken for all */
  rig_end(r);
}

static void test_late_reader(void **state) {
  (void)state;
  late_reader(true);
  late_reader(false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_round_trip),
      cmocka_unit_test(test_long_path),
      cmocka_unit_test(test_full_connection),
      cmocka_unit_test(test_peer_appears),
      cmocka_unit_test(test_peer_never_appears),
      cmocka_unit_test(test_refusals_are_final),
      cmocka_unit_test(test_closed_while_opening),
      cmocka_unit_test(test_target_does_not_answer),
      cmocka_unit_test(test_target_by_name),
      cmocka_unit_test(test_cut),
      cmocka_unit_test(test_late_reader),
      cmocka_unit_test(test_much_at_once),
      cmocka_unit_test(test_bad_paths),
      cmocka_unit_test(test_no_memory_near),
      cmocka_unit_test(test_no_memory_far),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
