/* Proxies over real loopback sockets: two engines on one loop, a service behind one of them,
 * clients before the other. What depends on time and chance is in link_test.c. */
#include <sys/resource.h>

#include "mux/yamux.h"
#include "peerup/engine.h"
#include "platform/uv.h"
#include "support/tcp_app.h"
#include "support/unit.h"
#include "swarm/engine_priv.h"

#define PROTOCOL "/peerup/web/1.0.0"
#define EVENTS_MAX 16

/* What a proxy told of its connections; |last| holds the ends in order, the newest EVENTS_MAX. */
typedef struct heard {
  unsigned opened, ended;
  int status[EVENTS_MAX];
  char detail[EVENTS_MAX][384];
  uint64_t bytes_in, bytes_out; /* of all ends */
  pu_peer_id peer;
  bool close_at_open;
} heard;

typedef struct rig {
  struct uv_loop_s *loop;
  pu_platform *platform; /* of clients and services */
  pu_engine *near, *far; /* where clients are, where the service is */
  pu_peer_id far_id, near_id;
  tcp_server server;
  pu_proxy *listening, *exposing;
  heard near_heard, far_heard;
  pu_sockaddr entry; /* of |listening| */
  pu_ask denied;
  bool deny;
  unsigned closed;
} rig;

static int policy(void *data, const pu_question *q) {
  const rig *r = data;
  return r->deny && q->ask == r->denied ? -1 : 0;
}

static void on_proxy(void *data, pu_proxy *p, const pu_proxy_event *event) {
  heard *h = data;
  h->peer = *event->peer;
  if (event->opened) {
    h->opened++;
    if (h->close_at_open)
      pu_proxy_close(p);
    return;
  }
  const unsigned at = h->ended++ % EVENTS_MAX;
  h->status[at] = event->status;
  (void)snprintf(h->detail[at], sizeof(h->detail[at]), "%s", event->detail);
  h->bytes_in += event->bytes_in;
  h->bytes_out += event->bytes_out;
}

static void on_tick(void *data) {
  pu_uv_loop_stop(data);
}

/* RUN_UNTIL lets the loop run until |cond|, for at most |ms|. */
#define RUN_UNTIL(r, ms, cond)                                     \
  do {                                                             \
    pu_timer tick_;                                                \
    pu_timer_init(&tick_, (r)->platform, on_tick, (r)->loop);      \
    const uint64_t end_ = pu_now_us((r)->platform) + (ms)*1000ull; \
    while (!(cond) && pu_now_us((r)->platform) < end_) {           \
      assert_int_equal(pu_timer_after(&tick_, 1000), 0);           \
      (void)pu_uv_loop_run((r)->loop);                             \
    }                                                              \
    pu_timer_stop(&tick_);                                         \
    assert_true(cond);                                             \
  } while (0)

static void copy_addr(void *data, const char *addr) {
  (void)snprintf(data, 256, "%s", addr);
}

static pu_engine *new_engine(rig *r) {
  const pu_engine_config config = {.loop = r->loop, .policy = policy, .policy_data = r};
  pu_engine *e;
  assert_int_equal(pu_engine_new(&config, &e, NULL), 0);
  return e;
}

static void on_closed(void *data) {
  ++*(unsigned *)data;
}

/* rig_new makes two engines that know each other, not yet connected. */
static rig *rig_new(void) {
  rig *r = calloc(1, sizeof(*r));
  char addr[256] = "";
  assert_non_null(r);
  assert_int_equal(pu_uv_loop_new(&r->loop), 0);
  assert_int_equal(pu_uv_new(r->loop, &r->platform), 0);
  r->near = new_engine(r);
  r->far = new_engine(r);
  r->near_id = *pu_engine_peer(r->near);
  r->far_id = *pu_engine_peer(r->far);
  assert_int_equal(pu_engine_listen(r->far, "/ip4/127.0.0.1/tcp/0", NULL), 0);
  pu_engine_addrs(r->far, copy_addr, addr);
  assert_int_equal(pu_engine_add_addr(r->near, &r->far_id, addr, UINT32_MAX, NULL), 0);
  return r;
}

static void rig_listen(rig *r, const char *on) {
  pu_error err = {0};
  assert_int_equal(pu_proxy_listen(r->near, on, &r->far_id, PROTOCOL, on_proxy, &r->near_heard,
                                   &r->listening, &err),
                   0);
  const char *text = pu_proxy_address(r->listening);
  char ip[64] = "";
  const char *colon = strrchr(text, ':');
  const bool six = text[0] == '[';
  memcpy(ip, text + six, (size_t)(colon - text) - 2u * six);
  assert_true(pu_sockaddr_parse_ip(ip, &r->entry));
  r->entry.port = (uint16_t)atoi(colon + 1);
}

static void rig_expose(rig *r, const char *host, uint16_t port) {
  char target[300];
  (void)snprintf(target, sizeof(target), "%s:%u", host, port);
  assert_int_equal(
      pu_proxy_expose(r->far, PROTOCOL, target, on_proxy, &r->far_heard, &r->exposing, NULL), 0);
  assert_string_equal(pu_proxy_address(r->exposing), target);
}

/* rig_start is all of it: a service of |model| that is reached through |r|->entry. */
static rig *rig_start(const tcp_app *model) {
  rig *r = rig_new();
  assert_int_equal(tcp_server_start(&r->server, r->platform, "127.0.0.1", 0, model), 0);
  rig_expose(r, "127.0.0.1", r->server.address.port);
  rig_listen(r, "127.0.0.1:0");
  return r;
}

static void rig_end(rig *r) {
  if (r->server.listener != NULL)
    tcp_server_stop(&r->server);
  pu_engine_close(r->near, on_closed, &r->closed);
  pu_engine_close(r->far, on_closed, &r->closed);
  RUN_UNTIL(r, 5000, r->closed == 2); /* each checks its account */
  pu_uv_free(r->platform, on_closed, &r->closed);
  (void)pu_uv_loop_run(r->loop);
  assert_int_equal(r->closed, 3);
  pu_uv_loop_free(r->loop);
  free(r);
}

static void connect_client(rig *r, tcp_app *a) {
  tcp_app_connect(a, r->platform, &r->entry);
}

static void check_stats(pu_proxy *p, uint64_t connections, uint32_t active, uint64_t in,
                        uint64_t out, uint64_t failures) {
  pu_proxy_stats stats;
  pu_proxy_stats_get(p, &stats);
  assert_int_equal(stats.connections, connections);
  assert_int_equal(stats.active, active);
  assert_int_equal(stats.bytes_in, in);
  assert_int_equal(stats.bytes_out, out);
  assert_int_equal(stats.failures, failures);
}

/* ---- carrying ---- */

static void test_echo(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app a = {.to_send = 1000, .keep_open = true};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.got == 1000);
  check_stats(r->listening, 1, 1, 1000, 1000, 0);
  check_stats(r->exposing, 1, 1, 1000, 1000, 0);
  assert_int_equal(r->near_heard.opened, 1);
  assert_int_equal(r->far_heard.opened, 1);
  assert_int_equal(r->near_heard.ended + r->far_heard.ended, 0);
  assert_true(pu_peer_id_equal(&r->near_heard.peer, &r->far_id));
  assert_true(pu_peer_id_equal(&r->far_heard.peer, &r->near_id));
  a.to_send = 3000;
  a.keep_open = false;
  tcp_app_update(&a);
  RUN_UNTIL(r, 5000, a.tcp == NULL && r->near_heard.ended == 1 && r->far_heard.ended == 1);
  assert_int_equal(a.got, 3000);
  assert_int_equal(a.failed, 0);
  assert_false(a.wrong);
  assert_int_equal(r->near_heard.status[0], 0);
  assert_int_equal(r->far_heard.status[0], 0);
  assert_int_equal(r->near_heard.bytes_in, 3000);
  assert_int_equal(r->far_heard.bytes_out, 3000);
  check_stats(r->listening, 1, 0, 3000, 3000, 0);
  check_stats(r->exposing, 1, 0, 3000, 3000, 0);
  rig_end(r);
}

/* One direction ends, the other goes on; whoever ends first. */
static void test_half_close(void **state) {
  (void)state;
  for (int client_first = 0; client_first < 2; client_first++) {
    rig *r = rig_start(&(tcp_app){.to_send = 100, .keep_open = client_first, .seed_out = 1});
    tcp_app a = {.to_send = 200, .keep_open = !client_first, .seed_in = 1};
    connect_client(r, &a);
    RUN_UNTIL(r, 5000, r->server.count == 1);
    tcp_app *service = r->server.apps;
    tcp_app *first = client_first ? &a : service, *second = client_first ? service : &a;
    RUN_UNTIL(r, 5000, second->eof && first->got == second->to_send);
    assert_false(first->eof);
    check_stats(r->listening, 1, 1, 100, 200, 0);
    second->to_send += 300000;
    second->keep_open = false;
    tcp_app_update(second);
    RUN_UNTIL(r, 5000, a.tcp == NULL && service->tcp == NULL);
    assert_int_equal(first->got, second->to_send);
    assert_int_equal(second->got, first->to_send);
    assert_false(a.wrong || service->wrong);
    assert_int_equal(a.failed, 0);
    assert_int_equal(service->failed, 0);
    RUN_UNTIL(r, 5000, r->near_heard.ended == 1 && r->far_heard.ended == 1);
    assert_int_equal(r->near_heard.status[0], 0);
    assert_int_equal(r->far_heard.status[0], 0);
    rig_end(r);
  }
}

static void test_nothing_at_all(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app a = {0};
  connect_client(r, &a); /* says nothing, half-closes at once */
  RUN_UNTIL(r, 5000, a.tcp == NULL && r->far_heard.ended == 1);
  assert_int_equal(a.failed, 0);
  check_stats(r->listening, 1, 0, 0, 0, 0);
  rig_end(r);
}

/* The service talks first, as ssh's does: nothing from the client carries the offer. */
static void test_service_talks_first(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.to_send = 20, .keep_open = true, .seed_out = 4});
  tcp_app a = {.keep_open = true, .seed_in = 4};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.got == 20);
  assert_false(a.wrong);
  tcp_app_close(&a, false);
  rig_end(r);
}

static void test_large_both_ways(void **state) {
  (void)state;
  const uint64_t up = 48u << 20, down = 40u << 20;
  rig *r = rig_start(&(tcp_app){.to_send = down, .seed_out = 2, .seed_in = 3});
  tcp_app a = {.to_send = up, .seed_out = 3, .seed_in = 2};
  connect_client(r, &a);
  RUN_UNTIL(r, 50000, a.tcp == NULL && r->server.count == 1 && r->server.apps->tcp == NULL);
  assert_int_equal(a.got, down);
  assert_int_equal(r->server.apps->got, up);
  assert_false(a.wrong || r->server.apps->wrong);
  RUN_UNTIL(r, 5000, r->near_heard.ended == 1 && r->far_heard.ended == 1);
  check_stats(r->listening, 1, 0, down, up, 0);
  check_stats(r->exposing, 1, 0, up, down, 0);
  rig_end(r);
}

/* Who does not read holds the sender back, and costs no more than windows; nothing is lost. */
static void slow_reader(bool service_is_slow) {
  const uint64_t size = 96u << 20;
  tcp_app service = {.seed_in = 7, .seed_out = 7};
  tcp_app a = {.seed_in = 7, .seed_out = 7};
  *(service_is_slow ? &a : &service) = (tcp_app){.to_send = size, .seed_out = 7};
  (service_is_slow ? &service : &a)->paused = true;
  rig *r = rig_start(&service);
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, r->server.count == 1);
  tcp_app *from = service_is_slow ? &a : r->server.apps;
  tcp_app *to = service_is_slow ? r->server.apps : &a;
  uint64_t before;
  do { /* until nothing moves */
    before = from->sent;
    const uint64_t at = pu_now_us(r->platform);
    RUN_UNTIL(r, 5000, pu_now_us(r->platform) > at + 300000);
  } while (from->sent > before);
  assert_true(from->sent < size);
  /* Whoever sends keeps ends of records at most. Whoever receives keeps a window, which may have grown
   * while the kernel's buffers, some megabytes, took all that came. */
  const pu_engine *sends = service_is_slow ? r->near : r->far;
  const pu_engine *receives = service_is_slow ? r->far : r->near;
  assert_true(pu_engine_memory(sends) < (3u << 20));
  assert_true(pu_engine_memory(receives) < PU_YAMUX_WINDOW_MAX + (3u << 20));
  tcp_app_set_paused(to, false);
  RUN_UNTIL(r, 50000, a.tcp == NULL && r->server.apps->tcp == NULL);
  assert_int_equal(to->got, size);
  assert_false(to->wrong);
  rig_end(r);
}

static void test_slow_service(void **state) {
  (void)state;
  slow_reader(true);
}

static void test_slow_client(void **state) {
  (void)state;
  slow_reader(false);
}

/* ---- ends that come too early ---- */

static void test_client_resets(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app a = {.to_send = 10, .keep_open = true};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.got == 10);
  tcp_app_close(&a, true);
  RUN_UNTIL(r, 5000,
            r->server.apps->tcp == NULL && r->near_heard.ended == 1 && r->far_heard.ended == 1);
  assert_int_equal(r->server.apps->failed, PU_E_RESET);
  assert_int_equal(r->near_heard.status[0], PU_E_RESET);
  assert_string_equal(r->near_heard.detail[0], "the local side broke off");
  assert_int_equal(r->far_heard.status[0], PU_E_RESET);
  assert_string_equal(r->far_heard.detail[0], "the peer broke off (code 0x0)");
  check_stats(r->listening, 1, 0, 10, 10, 0); /* it was served */
  rig_end(r);
}

static void test_service_resets(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app a = {.to_send = 10, .keep_open = true};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.got == 10);
  tcp_app_close(r->server.apps, true);
  RUN_UNTIL(r, 5000, a.tcp == NULL && r->near_heard.ended == 1);
  assert_int_equal(a.failed, PU_E_RESET);
  assert_int_equal(r->near_heard.status[0], PU_E_RESET);
  rig_end(r);
}

/* A service that closes while the client still sends: the client learns it, nothing hangs. */
static void test_service_closes_early(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.paused = true, .keep_open = true});
  tcp_app a = {.to_send = 64u << 20};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, r->server.count == 1 && a.sent > 100000);
  tcp_app_close(r->server.apps, false);
  RUN_UNTIL(r, 5000, a.tcp == NULL && r->near_heard.ended == 1 && r->far_heard.ended == 1);
  assert_int_equal(a.failed, PU_E_RESET);
  rig_end(r);
}

static void test_target_refuses(void **state) {
  (void)state;
  rig *r = rig_new();
  char want[200];
  /* A port that was free a moment ago. */
  assert_int_equal(tcp_server_start(&r->server, r->platform, "127.0.0.1", 0, &(tcp_app){0}), 0);
  const uint16_t port = r->server.address.port;
  tcp_server_stop(&r->server);
  rig_expose(r, "localhost", port);
  rig_listen(r, "127.0.0.1:0");
  tcp_app a = {.to_send = 10};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.tcp == NULL && r->near_heard.ended == 1 && r->far_heard.ended == 1);
  assert_int_equal(a.failed, PU_E_RESET);
  assert_int_equal(r->near_heard.status[0], PU_E_RESET);
  assert_int_equal(r->far_heard.status[0], PU_E_REFUSED);
  (void)snprintf(want, sizeof(want),
                 "cannot connect to the local service localhost:%u: connection refused", port);
  assert_string_equal(r->far_heard.detail[0], want);
  assert_int_equal(r->far_heard.opened, 0);
  check_stats(r->exposing, 0, 0, 0, 0, 1);
  check_stats(r->listening, 1, 0, 0, 10, 1);
  rig_end(r);
}

static void test_target_has_no_address(void **state) {
  (void)state;
  rig *r = rig_new();
  rig_expose(r, "no such name", 22); /* refused by the look-up, without a network */
  rig_listen(r, "127.0.0.1:0");
  tcp_app a = {.to_send = 10};
  connect_client(r, &a);
  RUN_UNTIL(r, 15000, a.tcp == NULL && r->far_heard.ended == 1);
  assert_int_equal(a.failed, PU_E_RESET);
  assert_int_equal(r->far_heard.status[0], PU_E_NOT_FOUND);
  rig_end(r);
}

/* The service listens on ::1 only: what "localhost" means is tried in turn. */
static void test_next_address_is_tried(void **state) {
  (void)state;
  rig *r = rig_new();
  if (tcp_server_start(&r->server, r->platform, "::1", 0, &(tcp_app){.echo = true}) != 0) {
    print_message("no IPv6 loopback here: ");
    rig_end(r);
    skip();
  }
  rig_expose(r, "localhost", r->server.address.port);
  rig_listen(r, "127.0.0.1:0");
  tcp_app a = {.to_send = 10};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.tcp == NULL);
  assert_int_equal(a.got, 10);
  rig_end(r);
}

static void test_service_is_not_offered(void **state) {
  (void)state;
  rig *r = rig_new();
  rig_listen(r, "127.0.0.1:0");
  for (unsigned i = 0; i < 2; i++) { /* before and after identify told what the peer offers */
    tcp_app a = {.to_send = 10};
    connect_client(r, &a);
    RUN_UNTIL(r, 5000, a.tcp == NULL && r->near_heard.ended == i + 1);
    assert_int_equal(a.failed, PU_E_RESET);
    assert_int_equal(r->near_heard.status[i], PU_E_UNSUPPORTED);
    const uint64_t at = pu_now_us(r->platform);
    RUN_UNTIL(r, 5000, pu_now_us(r->platform) > at + 100000);
  }
  pu_proxy_stats stats;
  pu_proxy_stats_get(r->listening, &stats);
  assert_int_equal(stats.failures, 2);
  assert_int_equal(stats.active, 0);
  rig_end(r);
}

static void test_policy_denies(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  r->deny = true;
  r->denied = PU_ASK_STREAM;
  tcp_app a = {.to_send = 10};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.tcp == NULL && r->near_heard.ended == 1);
  assert_int_equal(a.failed, PU_E_RESET);
  assert_string_equal(r->near_heard.detail[0], "the peer's policy does not allow us this service");
  assert_int_equal(r->server.count, 0);
  assert_int_equal(r->far_heard.ended, 0);
  rig_end(r);
}

/* Rules that change cut off what they allowed before. */
static void test_recheck_cuts_off(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app a = {.to_send = 10, .keep_open = true};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.got == 10);
  r->deny = true;
  r->denied = PU_ASK_STREAM;
  assert_true(pu_engine_recheck(r->far) >= 1);
  RUN_UNTIL(r, 1000, a.tcp == NULL && r->server.apps->tcp == NULL && r->near_heard.ended == 1);
  assert_int_equal(r->far_heard.status[0], PU_E_DENIED);
  assert_string_equal(r->far_heard.detail[0], "our policy no longer allows it");
  assert_string_equal(r->near_heard.detail[0], "the peer's policy does not allow us this service");
  rig_end(r);
}

/* ---- closing ---- */

static void test_closing_ends_connections(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app apps[3] = {{.to_send = 10, .keep_open = true},
                     {.to_send = 10, .keep_open = true},
                     {.to_send = 10, .keep_open = true}};
  for (size_t i = 0; i < 3; i++)
    connect_client(r, &apps[i]);
  RUN_UNTIL(r, 5000, apps[0].got + apps[1].got + apps[2].got == 30);
  pu_proxy_close(r->listening);
  assert_int_equal(r->near_heard.ended, 3); /* told before the proxy is gone */
  assert_int_equal(r->near_heard.status[0], PU_E_CLOSED);
  RUN_UNTIL(r, 5000,
            apps[0].tcp == NULL && apps[1].tcp == NULL && apps[2].tcp == NULL &&
                r->far_heard.ended == 3);
  tcp_app late = {0};
  connect_client(r, &late);
  RUN_UNTIL(r, 5000, late.failed != 0);
  assert_int_equal(late.failed, PU_E_REFUSED);
  pu_proxy_close(r->exposing);
  /* The protocol is free again. */
  rig_expose(r, "127.0.0.1", r->server.address.port);
  rig_end(r);
}

static void test_closing_inside_an_event(void **state) {
  (void)state;
  for (int far = 0; far < 2; far++) {
    rig *r = rig_start(&(tcp_app){.echo = true});
    (far ? &r->far_heard : &r->near_heard)->close_at_open = true;
    tcp_app a = {.to_send = 10, .keep_open = true};
    connect_client(r, &a);
    RUN_UNTIL(r, 5000, a.tcp == NULL);
    assert_int_equal(a.failed, PU_E_RESET);
    assert_int_equal((far ? &r->far_heard : &r->near_heard)->ended, 1);
    rig_end(r);
  }
}

static void test_engine_closes_with_connections(void **state) {
  (void)state;
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app a = {.to_send = 10, .keep_open = true}, b = {.to_send = 10, .keep_open = true};
  connect_client(r, &a);
  RUN_UNTIL(r, 5000, a.got == 10);
  connect_client(r, &b); /* still being opened */
  const uint64_t at = pu_now_us(r->platform);
  RUN_UNTIL(r, 5000, b.connected || pu_now_us(r->platform) > at + 100000);
  rig *end = r;
  tcp_server_stop(&r->server);
  pu_engine_close(r->near, on_closed, &r->closed);
  RUN_UNTIL(r, 5000, r->closed == 1 && a.tcp == NULL && b.tcp == NULL);
  assert_int_equal(r->near_heard.ended, 2);
  pu_engine_close(r->far, on_closed, &r->closed);
  RUN_UNTIL(r, 5000, r->closed == 2);
  pu_uv_free(r->platform, on_closed, &r->closed);
  (void)pu_uv_loop_run(r->loop);
  pu_uv_loop_free(r->loop);
  free(end);
}

/* ---- many ---- */

static unsigned count_got(const tcp_app *apps, size_t n, uint64_t want) {
  unsigned count = 0;
  for (size_t i = 0; i < n; i++)
    count += apps[i].got == want;
  return count;
}

static void test_many_connections(void **state) {
  (void)state;
  enum { MANY = 2000, FDS = 4 * MANY + 200 };
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_cur < FDS && limit.rlim_max >= FDS) {
    limit.rlim_cur = FDS;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  const size_t many = limit.rlim_cur >= FDS ? MANY : (limit.rlim_cur - 200) / 4;
  tcp_app *apps = calloc(many, sizeof(*apps));
  assert_non_null(apps);
  rig *r = rig_start(&(tcp_app){.echo = true});
  tcp_app first = {.to_send = 1};
  connect_client(r, &first);
  RUN_UNTIL(r, 5000, first.tcp == NULL && r->near_heard.ended == 1 && r->far_heard.ended == 1);
  const size_t near_before = pu_engine_memory(r->near), far_before = pu_engine_memory(r->far);
  for (size_t i = 0; i < many; i++) {
    apps[i] = (tcp_app){.to_send = 3, .keep_open = true};
    connect_client(r, &apps[i]);
  }
  RUN_UNTIL(r, 50000, count_got(apps, many, 3) == many);
  check_stats(r->listening, many + 1, (uint32_t)many, 3 * many + 1, 3 * many + 1, 0);
  /* Idle ones are cheap on either side, streams included. */
  const size_t near_each = (pu_engine_memory(r->near) - near_before) / many;
  const size_t far_each = (pu_engine_memory(r->far) - far_before) / many;
  print_message("%zu connections: %zu and %zu bytes each\n", many, near_each, far_each);
  assert_true(near_each < 1024);
  assert_true(far_each < 1024);
  for (size_t i = 0; i < many; i++) {
    apps[i].to_send = 5;
    apps[i].keep_open = false;
    tcp_app_update(&apps[i]);
  }
  RUN_UNTIL(r, 50000,
            r->near_heard.ended == many + 1 && r->far_heard.ended == many + 1 &&
                count_got(apps, many, 5) == many);
  check_stats(r->exposing, many + 1, 0, 5 * many + 1, 5 * many + 1, 0);
  for (size_t i = 0; i < many; i++)
    tcp_app_close(&apps[i], true);
  free(apps);
  rig_end(r);
}

/* ---- addresses ---- */

static void test_addresses(void **state) {
  (void)state;
  static const char *const wrong[] = {"",          "22",      "127.0.0.1",     "127.0.0.1:",
                                      ":22",       "a:65536", "127.0.0.1:-1",  "127.0.0.1:2x",
                                      "::1:22",    "[]:22",   "127.0.0.1: 22", "127.0.0.1:+2",
                                      "a.b.c:80x", "[::1]:x", "[::1]"};
  rig *r = rig_new();
  pu_proxy *p;
  pu_error err;
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    err = (pu_error){0};
    assert_int_equal(pu_proxy_listen(r->near, wrong[i], &r->far_id, PROTOCOL, NULL, NULL, &p, &err),
                     PU_E_INVAL);
    assert_true(strstr(err.detail, wrong[i]) != NULL);
    assert_int_equal(pu_proxy_expose(r->far, PROTOCOL, wrong[i], NULL, NULL, &p, &err), PU_E_INVAL);
  }
  assert_int_equal(pu_proxy_expose(r->far, PROTOCOL, "localhost:0", NULL, NULL, &p, &err),
                   PU_E_INVAL);
  assert_int_equal(
      pu_proxy_listen(r->near, "example.org:2222", &r->far_id, PROTOCOL, NULL, NULL, &p, &err),
      PU_E_INVAL);
  /* 192.0.2.1 is nobody's. */
  assert_int_equal(
      pu_proxy_listen(r->near, "192.0.2.1:2222", &r->far_id, PROTOCOL, NULL, NULL, &p, &err),
      PU_E_NO_ADDRESS);
  rig_listen(r, "127.0.0.1:0");
  assert_int_equal(pu_proxy_listen(r->near, pu_proxy_address(r->listening), &r->far_id, PROTOCOL,
                                   NULL, NULL, &p, &err),
                   PU_E_IN_USE);
  assert_int_equal(err.code, PU_E_IN_USE);
  assert_true(strstr(err.detail, pu_proxy_address(r->listening)) != NULL);
  rig_expose(r, "localhost", 1);
  assert_int_equal(pu_proxy_expose(r->far, PROTOCOL, "localhost:2", NULL, NULL, &p, &err),
                   PU_E_EXISTS);
  pu_proxy_close(r->listening);
  rig_listen(r, "localhost:0");
  assert_int_equal(strncmp(pu_proxy_address(r->listening), "127.0.0.1:", 10), 0);
  rig_end(r);
}

/* "localhost" listens on both families; an IPv6 literal is in brackets. */
static void test_ipv6_clients(void **state) {
  (void)state;
  static const char *const listens[] = {"localhost:0", "[::1]:0"};
  for (size_t i = 0; i < 2; i++) {
    rig *r = rig_new();
    if (tcp_server_start(&r->server, r->platform, "::1", 0, &(tcp_app){.echo = true}) != 0) {
      print_message("no IPv6 loopback here: ");
      rig_end(r);
      skip();
    }
    rig_expose(r, "[::1]", r->server.address.port);
    rig_listen(r, listens[i]);
    const uint16_t port = r->entry.port;
    assert_true(pu_sockaddr_parse_ip("::1", &r->entry));
    r->entry.port = port;
    tcp_app a = {.to_send = 10};
    connect_client(r, &a);
    RUN_UNTIL(r, 5000, a.tcp == NULL);
    assert_int_equal(a.got, 10);
    rig_end(r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_echo),
      cmocka_unit_test(test_half_close),
      cmocka_unit_test(test_nothing_at_all),
      cmocka_unit_test(test_service_talks_first),
      cmocka_unit_test(test_large_both_ways),
      cmocka_unit_test(test_slow_service),
      cmocka_unit_test(test_slow_client),
      cmocka_unit_test(test_client_resets),
      cmocka_unit_test(test_service_resets),
      cmocka_unit_test(test_service_closes_early),
      cmocka_unit_test(test_target_refuses),
      cmocka_unit_test(test_target_has_no_address),
      cmocka_unit_test(test_next_address_is_tried),
      cmocka_unit_test(test_service_is_not_offered),
      cmocka_unit_test(test_policy_denies),
      cmocka_unit_test(test_recheck_cuts_off),
      cmocka_unit_test(test_closing_ends_connections),
      cmocka_unit_test(test_closing_inside_an_event),
      cmocka_unit_test(test_engine_closes_with_connections),
      cmocka_unit_test(test_many_connections),
      cmocka_unit_test(test_addresses),
      cmocka_unit_test(test_ipv6_clients),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
