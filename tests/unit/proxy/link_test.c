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
