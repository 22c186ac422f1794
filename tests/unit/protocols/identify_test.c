/* Identify and push between whole hosts of the simulated network: what each learns, when it is told
 * again, what is kept afterwards, and peers that tell nonsense or nothing. */
#include "protocols/identify.h"

#include "protocols/identify_message.h"
#include "protocols/ping.h"
#include "support/sim_hosts.h"
#include "support/unit.h"
#include "swarm/conn.h"

#define DELAY_US 10000u
#define OTHER_ID "/test/other/1.0.0"

typedef struct pair {
  pu_sim *sim;
  sim_host a, b;
} pair;

static int setup(void **state) {
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  assert_int_equal(pu_sim_new(1, &p->sim), 0);
  const pu_sim_link link = {.delay_us = DELAY_US};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &link), 0);
  sim_host_start(p->sim, &p->a, 1, NULL);
  sim_host_start(p->sim, &p->b, 2, NULL);
  sim_host_knows(&p->a, &p->b);
  *state = p;
  return 0;
}

static int teardown(void **state) {
  pair *p = *state;
  sim_host_end(&p->a);
  sim_host_end(&p->b);
  assert_int_equal(pu_sim_open_sockets(p->sim), 0);
  pu_sim_free(p->sim);
  free(p);
  return 0;
}

static void connect(pair *p) {
  sim_answer answer;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND / 2);
}

/* A list of names, each followed by a space. */
static void add_name(void *data, const char *name) {
  char *text = data;
  size_t len = strlen(text);
  (void)snprintf(text + len, 2048 - len, "%s ", name);
}

static const char *protocols_of(const sim_host *h, const sim_host *peer) {
  static char text[2048];
  text[0] = '\0';
  pu_engine_peer_protocols(h->engine, &peer->id, add_name, text);
  return text;
}

static const char *addrs_of(const sim_host *h, const sim_host *peer) {
  static char text[2048];
  text[0] = '\0';
  pu_engine_known_addrs(h->engine, &peer->id, add_name, text);
  return text;
}

static pu_conn_info info_of(const sim_host *h, const sim_host *peer) {
  pu_conn_info info = {0};
  pu_conn *c = pu_engine_best_conn(h->engine, &peer->id);
  if (c != NULL)
    pu_conn_info_get(c, &info);
  return info;
}

static int on_other(void *data, pu_stream *s) {
  (void)data;
  (void)s;
  return PU_E_INVAL;
}

static void test_both_learn(void **state) {
  pair *p = *state;
  connect(p);
  assert_int_equal(p->a.events[PU_EVENT_IDENTIFIED], 1);
  assert_int_equal(p->b.events[PU_EVENT_IDENTIFIED], 1);
  assert_true(info_of(&p->a, &p->b).identified);
  assert_string_equal(info_of(&p->a, &p->b).agent, "peerup/test");
  assert_string_equal(info_of(&p->b, &p->a).agent, "peerup/test");
  assert_non_null(strstr(protocols_of(&p->a, &p->b), PU_IDENTIFY_PUSH_ID " "));
  assert_non_null(strstr(protocols_of(&p->b, &p->a), PU_PING_ID " "));
  assert_string_equal(addrs_of(&p->b, &p->a), "/ip4/10.0.0.1/tcp/4001 ");
  assert_int_equal(info_of(&p->a, &p->b).streams, 0);
  /* b was never told where a is, and reaches it now. */
  sim_answer answer;
  assert_int_equal(sim_connect(&p->b, &p->a, PU_CONNECT_NEW, &answer), 0);
}

static void test_changes_are_pushed_together(void **state) {
  pair *p = *state;
  connect(p);
  assert_int_equal(pu_engine_handle(p->b.engine, OTHER_ID, on_other, NULL), 0);
  assert_int_equal(pu_engine_handle(p->b.engine, "/test/third/1.0.0", on_other, NULL), 0);
  assert_int_equal(pu_engine_listen(p->b.engine, "/ip4/10.0.0.2/tcp/4002", NULL), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(p->a.events[PU_EVENT_IDENTIFIED], 2);
  assert_non_null(strstr(protocols_of(&p->a, &p->b), OTHER_ID " "));
  assert_non_null(strstr(addrs_of(&p->a, &p->b), "/ip4/10.0.0.2/tcp/4002 "));
  /* Taken back: the list is what the last message says. */
  assert_int_equal(pu_engine_handle(p->b.engine, OTHER_ID, NULL, NULL), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(p->a.events[PU_EVENT_IDENTIFIED], 3);
  assert_null(strstr(protocols_of(&p->a, &p->b), OTHER_ID " "));
  assert_non_null(strstr(protocols_of(&p->a, &p->b), "/test/third/1.0.0 "));
  assert_int_equal(p->b.events[PU_EVENT_IDENTIFIED], 1); /* a had nothing new to say */
}

static void test_addresses_outlive_the_connection(void **state) {
  pair *p = *state;
  connect(p);
  assert_int_equal(pu_engine_disconnect(p->a.engine, &p->b.id), 1);
  sim_run_for(p->sim, (PU_IDENTIFY_ADDR_TTL_S - 10) * (uint64_t)SIM_SECOND);
  assert_string_equal(addrs_of(&p->b, &p->a), "/ip4/10.0.0.1/tcp/4001 ");
  sim_run_for(p->sim, 20 * SIM_SECOND);
  assert_string_equal(addrs_of(&p->b, &p->a), "");
  /* What the program said for good stays. */
  assert_string_equal(addrs_of(&p->a, &p->b), "/ip4/10.0.0.2/tcp/4001 ");
}

static void test_many_addresses_are_cut(void **state) {
  pair *p = *state;
  /* Addresses through relays are told first when not all fit. */
  for (unsigned i = 0; i < PU_ENGINE_RELAY_ADDRS_MAX; i++) {
    char text[200];
    pu_multiaddr a;
    (void)snprintf(text, sizeof(text),
                   "/ip4/10.9.0.%u/tcp/1/p2p/12D3KooWRJtmC7bDTucGV6xT926m3tFhU2od4jEFXB5rjaLBvkRb"
                   "/p2p-circuit",
                   i + 1);
    assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &a, NULL), 0);
    assert_int_equal(pu_engine_add_relay_addr(p->b.engine, &a), 0);
  }
  for (unsigned i = 2; i < PU_ENGINE_LISTENERS_MAX; i++) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/ip4/10.0.0.2/tcp/%u", 5000 + i);
    assert_int_equal(pu_engine_listen(p->b.engine, text, NULL), 0);
  }
  connect(p);
  assert_true(info_of(&p->a, &p->b).identified);
  const char *known = addrs_of(&p->a, &p->b);
  assert_non_null(strstr(known, "/ip4/10.9.0.1/"));
}

static void test_no_loopback_for_others(void **state) {
  pair *p = *state;
  sim_host c;
  const pu_sockaddr addrs[2] = {{.family = 4, .ip = {10, 0, 0, 3}},
                                {.family = 4, .ip = {127, 0, 0, 1}}};
  c = (sim_host){.sim = p->sim, .number = 3, .ip = addrs[0]};
  (void)snprintf(c.addr, sizeof(c.addr), "/ip4/10.0.0.3/tcp/4001");
  assert_int_equal(pu_sim_add_host(p->sim, "c", addrs, 2, &c.platform), 0);
  assert_int_equal(sim_host_begin(&c, NULL, 0), 0);
  assert_int_equal(pu_engine_listen(c.engine, "/ip4/0.0.0.0/tcp/4001", NULL), 0);
  sim_host_knows(&p->a, &c);
  sim_answer answer;
  assert_int_equal(sim_connect(&p->a, &c, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_true(info_of(&p->a, &c).identified);
  assert_string_equal(addrs_of(&p->a, &c), "/ip4/10.0.0.3/tcp/4001 ");
  sim_host_end(&c);
}

/* ---- peers that tell something else ---- */

/* What the rogue writes when it is asked; then it closes, or (silent) does nothing at all. */
typedef struct lie {
  const uint8_t *bytes;
  size_t len, sent;
  bool silent;
} lie;

static void lie_on(lie *l, pu_stream *s) {
  while (l->sent < l->len) {
    ssize_t n = pu_stream_write(s, l->bytes + l->sent, l->len - l->sent);
    if (n <= 0)
      return;
    l->sent += (size_t)n;
  }
  if (!l->silent)
    (void)pu_stream_close_write(s);
}
static void on_lie_writable(void *user, pu_stream *s) {
  lie_on(user, s);
}
static void on_lie_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)user;
  (void)s;
  (void)status;
  (void)code;
}
static const pu_stream_events lie_events = {NULL, NULL, on_lie_writable, on_lie_end};
static int on_asked(void *data, pu_stream *s) {
  pu_stream_set_events(s, &lie_events, data);
  lie_on(data, s);
  return 0;
}

static void test_rogues(void **state) {
  pair *p = *state;
  static uint8_t junk[100000];
  memset(junk, 0x42, sizeof(junk));
  static const uint8_t group[] = {1, 0x0b};
  const lie lies[] = {
      {.bytes = junk, .len = 0},            /* nothing */
      {.bytes = junk, .len = sizeof(junk)}, /* endless */
      {.bytes = group, .len = sizeof(group)},
      {.bytes = junk, .len = 20, .silent = true},
      {.bytes = junk, .len = 0, .silent = true},
  };
  for (size_t i = 0; i < PU_COUNT(lies); i++) {
    lie l = lies[i];
    pu_engine_unserve(p->b.engine, PU_IDENTIFY_ID);
    assert_int_equal(pu_engine_handle(p->b.engine, PU_IDENTIFY_ID, on_asked, &l), 0);
    connect(p);
    sim_run_for(p->sim, 2ull * PU_IDENTIFY_TIMEOUT_MS * 1000);
    pu_conn_info info = info_of(&p->a, &p->b);
    assert_true(info.id != 0); /* the connection lives on */
    assert_false(info.identified);
    assert_int_equal(info.streams, 0);
    /* And streams can be opened on it all the same. */
    sim_answer answer;
    assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0);
    assert_int_equal(pu_engine_disconnect(p->a.engine, &p->b.id), 1);
    sim_run_for(p->sim, SIM_SECOND);
  }
}

/* ---- pushes from outside ---- */

typedef struct push {
  unsigned opened, reset;
  uint32_t code;
  const uint8_t *bytes;
  size_t len;
} push;

static void on_push_end(void *user, pu_stream *s, int status, uint32_t code) {
  push *x = user;
  (void)s;
  assert_int_equal(status, PU_E_RESET);
  x->reset++;
  x->code = code;
}
static void on_push_eof(void *user, pu_stream *s) {
  (void)user;
  pu_stream_close(s);
}
static const pu_stream_events push_events = {NULL, on_push_eof, NULL, on_push_end};
static void on_push_open(void *data, int status, const pu_error *err, pu_stream *s) {
  push *x = data;
  (void)err;
  assert_int_equal(status, 0);
  x->opened++;
  pu_stream_set_events(s, &push_events, x);
  ssize_t n = pu_stream_write(s, x->bytes, x->len);
  assert_int_equal(n, x->len);
  (void)pu_stream_close_write(s);
}

static void send_push(pair *p, push *x, const uint8_t *bytes, size_t len) {
  static const char *const protocols[] = {PU_IDENTIFY_PUSH_ID};
  pu_op *op;
  x->bytes = bytes;
  x->len = len;
  assert_int_equal(
      pu_engine_open_stream(p->a.engine, &p->b.id, protocols, 1, 0, 0, on_push_open, x, &op), 0);
  sim_run_for(p->sim, SIM_SECOND / 10);
}

static void test_push_replaces(void **state) {
  pair *p = *state;
  static const uint8_t message[] = {13,   0x1a, 4,   '/', 'o', 'n', 'e',
                                    0x32, 5,    'a', 'g', 27,  'n', 't'};
  push x = {0};
  connect(p);
  send_push(p, &x, message, sizeof(message));
  assert_int_equal(p->b.events[PU_EVENT_IDENTIFIED], 2);
  assert_string_equal(protocols_of(&p->b, &p->a), "/one ");
  assert_string_equal(addrs_of(&p->b, &p->a), "");
  assert_string_equal(info_of(&p->b, &p->a).agent,
                      "ag?nt"); /* an escape must not reach a terminal */
  assert_int_equal(x.reset, 0);
  /* A malformed one changes nothing. */
  static const uint8_t wrong[] = {2, 0x1a, 9};
  send_push(p, &x, wrong, sizeof(wrong));
  assert_string_equal(protocols_of(&p->b, &p->a), "/one ");
  assert_int_equal(x.reset, 1);
}

static void test_push_is_limited(void **state) {
  pair *p = *state;
  static const uint8_t message[] = {2, 0x32, 0};
  push x = {0};
  connect(p);
  for (unsigned i = 0; i < PU_IDENTIFY_PUSH_BURST; i++)
    send_push(p, &x, message, sizeof(message));
  assert_int_equal(p->b.events[PU_EVENT_IDENTIFIED], 1 + PU_IDENTIFY_PUSH_BURST);
  assert_int_equal(x.reset, 0);
  send_push(p, &x, message, sizeof(message));
  assert_int_equal(x.reset, 1);
  assert_int_equal(x.code, 0x1003);
  assert_int_equal(p->b.events[PU_EVENT_IDENTIFIED], 1 + PU_IDENTIFY_PUSH_BURST);
  sim_run_for(p->sim, PU_IDENTIFY_PUSH_PERIOD_US);
  send_push(p, &x, message, sizeof(message));
  assert_int_equal(p->b.events[PU_EVENT_IDENTIFIED], 2 + PU_IDENTIFY_PUSH_BURST);
  assert_int_equal(x.reset, 1);
}

/* The application ends what it is told about, from inside the telling. */
static void end_when_identified(void *data, const pu_event *event) {
  sim_host *h = data;
  sim_host_event(data, event);
  if (event->type == PU_EVENT_IDENTIFIED)
    (void)pu_engine_disconnect(h->engine, event->peer);
}

static void test_ended_while_told(void **state) {
  pair *p = *state;
  p->a.engine->on_event = end_when_identified;
  sim_answer answer;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(p->a.events[PU_EVENT_IDENTIFIED], 1);
  assert_int_equal(p->a.events[PU_EVENT_DISCONNECTED], 1);
  assert_null(pu_engine_best_conn(p->a.engine, &p->b.id));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_both_learn),
      TEST(test_changes_are_pushed_together),
      TEST(test_addresses_outlive_the_connection),
      TEST(test_many_addresses_are_cut),
      TEST(test_no_loopback_for_others),
      TEST(test_rogues),
      TEST(test_push_replaces),
      TEST(test_push_is_limited),
      TEST(test_ended_while_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
