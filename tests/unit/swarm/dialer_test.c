/* Dialing in the simulated network: races between addresses, what failures say, who joins whom. */
#include "swarm/dialer.h"

#include "platform/platform_priv.h"
#include "support/sim_hosts.h"
#include "support/unit.h"
#include "swarm/conn.h"
#include "swarm/peerstore.h"

#define DELAY_US 10000u
#define HANDSHAKE_US (8 * DELAY_US) /* connect and handshake on the links of these tests, amply */

typedef struct net {
  pu_sim *sim;
  sim_host a, b;
  pu_platform *hole; /* a host to which nothing passes */
} net;

/* add_host gives host |number| private addresses, 10.0.0.N, 10.0.1.N and fd00::N, and public ones,
 * 5.0.0.N and 2a00::N. */
static void add_host(pu_sim *sim, sim_host *h, uint8_t number, const pu_limits *limits) {
  const pu_sockaddr addrs[] = {{.family = 4, .ip = {10, 0, 0, number}},
                               {.family = 4, .ip = {10, 0, 1, number}},
                               {.family = 6, .ip = {0xfd, [15] = number}},
                               {.family = 4, .ip = {5, 0, 0, number}},
                               {.family = 6, .ip = {0x2a, [15] = number}}};
  *h = (sim_host){.sim = sim, .number = number, .ip = addrs[0]};
  assert_int_equal(pu_sim_add_host(sim, "host", addrs, PU_COUNT(addrs), &h->platform), 0);
  (void)snprintf(h->addr, sizeof(h->addr), "/ip4/10.0.0.%u/tcp/%d", number, SIM_PORT);
  assert_int_equal(sim_host_begin(h, limits, 0), 0);
}

static int setup(void **state) {
  static const char *const listens[] = {"/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"};
  const pu_limits limits = {.dial_ms = 8000};
  const pu_sockaddr holes[] = {{.family = 4, .ip = {10, 0, 0, 99}},
                               {.family = 6, .ip = {0xfd, [15] = 99}},
                               {.family = 4, .ip = {5, 0, 0, 99}},
                               {.family = 6, .ip = {0x2a, [15] = 99}}};
  net *n = calloc(1, sizeof(*n));
  assert_non_null(n);
  assert_int_equal(pu_sim_new(7, &n->sim), 0);
  const pu_sim_link link = {.delay_us = DELAY_US}, down = {.down = true};
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &link), 0);
  add_host(n->sim, &n->a, 1, &limits);
  add_host(n->sim, &n->b, 2, NULL);
  for (size_t i = 0; i < PU_COUNT(listens); i++)
    assert_int_equal(pu_engine_listen(n->b.engine, listens[i], NULL), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "hole", holes, PU_COUNT(holes), &n->hole), 0);
  assert_int_equal(pu_sim_set_link(n->sim, n->hole, NULL, &down), 0);
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

static sim_answer answer;

static void know(net *n, const char *addr) {
  assert_int_equal(pu_engine_add_addr(n->a.engine, &n->b.id, addr, UINT32_MAX, NULL), 0);
}

/* connect connects a to b; returns the status, and how long it took. */
static int connect(net *n, uint64_t *took_us) {
  const uint64_t begin = pu_sim_now_us(n->sim);
  int rc = sim_connect(&n->a, &n->b, 0, &answer);
  *took_us = pu_sim_now_us(n->sim) - begin;
  assert_int_equal(answer.calls, 1);
  return rc;
}

static const char *remote(void) {
  static pu_conn_info info;
  pu_conn_info_get(answer.conn, &info);
  return info.addr;
}

static void test_one_address(void **state) {
  net *n = *state;
  uint64_t took;
  assert_int_equal(connect(n, &took), PU_E_NO_ADDRESS);
  know(n, "/ip4/10.0.0.2/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_true(took <= HANDSHAKE_US);
  assert_string_equal(remote(), "/ip4/10.0.0.2/tcp/4001");
}

static void test_ipv6_first(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip4/10.0.0.2/tcp/4001");
  know(n, "/ip6/fd00::2/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip6/fd00::2/tcp/4001");
  assert_true(took <= HANDSHAKE_US);
}

static void test_dead_ones_cost_a_stagger(void **state) {
  net *n = *state;
  uint64_t took;
  /* Five dead IPv6 addresses hold an IPv4 one up by one stagger, not by five. */
  for (unsigned port = 1; port <= 5; port++) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/ip6/fd00::63/tcp/%u", port);
    know(n, text);
  }
  know(n, "/ip4/10.0.0.2/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/tcp/4001");
  assert_in_range(took, 30000, 30000 + HANDSHAKE_US);
  sim_run_for(n->sim, SIM_SECOND);
  assert_int_equal(pu_list_empty(&n->a.engine->dials), true);
}

static void test_refused_ones_cost_nothing(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip6/fd00::2/tcp/9");
  know(n, "/ip6/fd00::2/tcp/10");
  know(n, "/ip4/10.0.0.2/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_true(took < 2 * 2 * DELAY_US + HANDSHAKE_US);
}

static void test_failures_are_named(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip4/10.0.0.2/tcp/9");
  assert_int_equal(connect(n, &took), PU_E_REFUSED);
  assert_string_equal(answer.detail, "tried /ip4/10.0.0.2/tcp/9: connection refused");
  know(n, "/ip4/10.0.0.77/tcp/4001");
  sim_run_for(n->sim, 400 * SIM_SECOND);                 /* the first one rests a while */
  assert_int_equal(connect(n, &took), PU_E_UNREACHABLE); /* they do not agree */
  assert_non_null(strstr(answer.detail, "/ip4/10.0.0.2/tcp/9: connection refused"));
  assert_non_null(strstr(answer.detail, "/ip4/10.0.0.77/tcp/4001: "));
  /* However many fail, the sentence has an end. */
  for (unsigned port = 100; port < 160; port++) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/ip4/10.0.0.2/tcp/%u", port);
    know(n, text);
  }
  assert_int_not_equal(connect(n, &took), 0);
  assert_true(strlen(answer.detail) > 200);
}

static void test_not_for_us(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip4/10.0.0.2/udp/4001/quic");
  assert_int_equal(connect(n, &took), PU_E_NO_ADDRESS);
  assert_non_null(strstr(answer.detail, "none of the 1 known addresses"));
}

static void test_another_peer_answers(void **state) {
  net *n = *state;
  sim_host c;
  uint64_t took;
  sim_host_start(n->sim, &c, 3, NULL);
  know(n, "/ip4/10.0.0.3/tcp/4001");
  assert_int_equal(connect(n, &took), PU_E_PEER_MISMATCH);
  assert_non_null(strstr(answer.detail, "/ip4/10.0.0.3/tcp/4001: "));
  sim_host_end(&c);
}

/* What it accepts it closes when the dialler has gone; until then it says nothing. */
static void on_mute_readable(void *data) {
  pu_tcp *tcp = *(pu_tcp **)data;
  uint8_t bytes[512];
  const pu_iov iov = {bytes, sizeof(bytes)};
  ssize_t got = pu_tcp_readv(tcp, &iov, 1);
  if (got > 0 || got == PU_E_AGAIN)
    return;
  pu_tcp_close(tcp, true);
  free(data);
}
static const pu_tcp_events mute_events = {NULL, on_mute_readable, NULL};
static void on_accept(void *data, pu_tcp *tcp) {
  pu_tcp **box = malloc(sizeof(pu_tcp *));
  (void)data;
  assert_non_null(box);
  *box = tcp;
  pu_tcp_set_events(tcp, &mute_events, box);
  pu_tcp_want(tcp, PU_WANT_READ);
}

static void test_who_says_nothing(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip4/10.0.0.99/tcp/4001");
  assert_int_equal(connect(n, &took), PU_E_TIMEOUT);
  assert_int_equal(took, 5 * SIM_SECOND); /* TCP's own limit */
  /* One that accepts and does not shake hands: the address's limit. */
  pu_tcp_listener *l;
  const pu_sockaddr at = {.family = 4, .ip = {10, 0, 0, 50}, .port = 1};
  pu_platform *mute;
  assert_int_equal(pu_sim_add_host(n->sim, "mute", &at, 1, &mute), 0);
  assert_int_equal(pu_tcp_listen(mute, &at, 0, on_accept, NULL, &l), 0);
  assert_int_equal(pu_engine_add_addr(n->a.engine, &n->b.id, "/ip4/10.0.0.50/tcp/1", 1000, NULL),
                   0);
  assert_int_equal(connect(n, &took), PU_E_TIMEOUT);
  assert_in_range(took, 8 * SIM_SECOND, 9 * SIM_SECOND);
  pu_tcp_listener_close(l);
}
static void test_names(void **state) {
  net *n = *state;
  uint64_t took;
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 1, 2}};
  assert_int_equal(pu_sim_name(n->sim, "b.example", &b), 0);
  know(n, "/dns4/b.example/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/10.0.1.2/tcp/4001");
}

static void test_back_off(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip6/fd00::63/tcp/1");
  assert_int_equal(connect(n, &took), PU_E_TIMEOUT);
  const unsigned asked = n->a.asked[PU_ASK_DIAL];
  /* A dead address rests while another is known ... */
  know(n, "/ip4/10.0.0.2/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_true(took <= HANDSHAKE_US);
  assert_int_equal(n->a.asked[PU_ASK_DIAL], asked + 1);
  /* ... and is tried again later. */
  assert_int_equal(pu_engine_disconnect(n->a.engine, &n->b.id), 1);
  sim_run_for(n->sim, 400 * SIM_SECOND);
  assert_int_equal(connect(n, &took), 0);
  assert_int_equal(n->a.asked[PU_ASK_DIAL], asked + 3);
}

static void test_many_ask_at_once(void **state) {
  net *n = *state;
  static sim_answer answers[10];
  static pu_op *ops[10];
  know(n, "/ip4/10.0.0.2/tcp/4001");
  for (size_t i = 0; i < PU_COUNT(answers); i++) {
    answers[i] = (sim_answer){0};
    assert_int_equal(
        pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answers[i], &ops[i]), 0);
  }
  sim_run_for(n->sim, DELAY_US);
  pu_op_cancel(ops[0]);
  pu_op_cancel(ops[0]); /* twice is as good */
  sim_run_for(n->sim, SIM_SECOND);
  for (size_t i = 0; i < PU_COUNT(answers); i++) {
    assert_int_equal(answers[i].calls, 1);
    assert_int_equal(answers[i].status, i == 0 ? PU_E_CANCELED : 0);
    assert_ptr_equal(answers[i].conn, i == 0 ? NULL : answers[1].conn);
  }
  assert_int_equal(n->b.events[PU_EVENT_CONNECTED], 1);
}

static void test_nobody_waits_any_more(void **state) {
  net *n = *state;
  know(n, "/ip4/10.0.0.99/tcp/4001");
  know(n, "/ip4/10.0.0.2/tcp/4001");
  for (uint64_t after = 0; after < 10 * DELAY_US; after += 3000) {
    pu_op *op;
    answer = (sim_answer){0};
    assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answer, &op),
                     0);
    sim_run_for(n->sim, after);
    if (!answer.done)
      pu_op_cancel(op);
    sim_run_for(n->sim, 1);
    assert_true(pu_list_empty(&n->a.engine->dials));
    assert_int_equal(answer.calls, 1);
    (void)pu_engine_disconnect(n->a.engine, &n->b.id);
    sim_run_for(n->sim, SIM_SECOND);
    assert_int_equal(n->a.engine->conn_count, 0);
  }
}

static void test_the_caller_has_no_time(void **state) {
  net *n = *state;
  pu_op *op;
  know(n, "/ip4/10.0.0.99/tcp/4001");
  answer = (sim_answer){0};
  assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 1500, sim_on_connect, &answer, &op),
                   0);
  sim_run_for(n->sim, 1500000);
  assert_int_equal(answer.status, PU_E_TIMEOUT);
  assert_true(answer.detail[0] != '\0');
  assert_true(pu_list_empty(&n->a.engine->dials));
}

static void test_the_peer_comes_by_itself(void **state) {
  net *n = *state;
  pu_op *op;
  know(n, "/ip4/10.0.0.99/tcp/4001");
  assert_int_equal(pu_engine_listen(n->a.engine, n->a.addr, NULL), 0);
  answer = (sim_answer){0};
  assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answer, &op), 0);
  sim_host_knows(&n->b, &n->a);
  sim_answer back;
  assert_int_equal(sim_connect(&n->b, &n->a, 0, &back), 0);
  sim_run_for(n->sim, HANDSHAKE_US);
  assert_int_equal(answer.status, 0);
  assert_int_equal(answer.calls, 1);
  assert_true(pu_list_empty(&n->a.engine->dials));
}

static void test_both_dial_at_once(void **state) {
  net *n = *state;
  static sim_answer x, y;
  pu_op *op;
  know(n, "/ip4/10.0.0.2/tcp/4001");
  assert_int_equal(pu_engine_listen(n->a.engine, n->a.addr, NULL), 0);
  sim_host_knows(&n->b, &n->a);
  x = y = (sim_answer){0};
  assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &x, &op), 0);
  assert_int_equal(pu_engine_connect(n->b.engine, &n->a.id, 0, 0, sim_on_connect, &y, &op), 0);
  sim_run_for(n->sim, SIM_SECOND);
  assert_int_equal(x.status, 0);
  assert_int_equal(y.status, 0);
  assert_int_equal(sim_ping(&n->a, &n->b, &x), 0);
  assert_int_equal(sim_ping(&n->b, &n->a, &y), 0);
}

static pu_op *pending;

static void cancel_when_denied(sim_host *h, const pu_event *event) {
  (void)h;
  if (event->type == PU_EVENT_DENIED && pending != NULL) {
    pu_op *op = pending;
    pending = NULL;
    pu_op_cancel(op);
  }
}

/* Who hears that an address is denied may give the dial up. */
static void test_given_up_while_asking(void **state) {
  net *n = *state;
  know(n, "/ip4/10.0.0.2/tcp/4001");
  know(n, "/ip6/fd00::2/tcp/4001");
  n->a.denied = 1u << PU_ASK_DIAL;
  n->a.on_event = cancel_when_denied;
  answer = (sim_answer){0};
  assert_int_equal(
      pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answer, &pending), 0);
  sim_run_for(n->sim, SIM_SECOND);
  assert_int_equal(answer.calls, 1);
  assert_int_equal(answer.status, PU_E_CANCELED);
  assert_true(pu_list_empty(&n->a.engine->dials));
}

/* QUIC comes first; where UDP is lost TCP takes over after a stagger, and after some dials at once.
 */
static void test_quic_first_and_dark(void **state) {
  net *n = *state;
  uint64_t took;
  assert_int_equal(pu_engine_listen(n->b.engine, "/ip4/10.0.0.2/udp/4001/quic-v1", NULL), 0);
  know(n, "/ip4/10.0.0.2/tcp/4001");
  know(n, "/ip4/10.0.0.2/udp/4001/quic-v1");
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/udp/4001/quic-v1");
  assert_true(took <= HANDSHAKE_US);
  assert_int_equal(pu_engine_disconnect(n->a.engine, &n->b.id), 1);
  sim_run_for(n->sim, SIM_SECOND);
  const pu_sim_link link = {.delay_us = DELAY_US, .no_udp = true};
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &link), 0);
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/tcp/4001");
  assert_in_range(took, 30000, 30000 + HANDSHAKE_US);
}

/* Names of QUIC, and addresses in TXT records, also of records that lead in a circle. */
static void test_names_of_all_kinds(void **state) {
  net *n = *state;
  uint64_t took;
  char id[PU_PEER_ID_MAX_TEXT], text[256];
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 0, 2}};
  (void)pu_peer_id_text(&n->b.id, id);
  assert_int_equal(pu_sim_name(n->sim, "b.example", &b), 0);
  assert_int_equal(pu_engine_listen(n->b.engine, "/ip4/10.0.0.2/udp/4001/quic-v1", NULL), 0);
  know(n, "/dns4/b.example/udp/4001/quic-v1");
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/udp/4001/quic-v1");
  assert_int_equal(pu_engine_disconnect(n->a.engine, &n->b.id), 1);
  sim_run_for(n->sim, SIM_SECOND);

  pu_peer_id other;
  pu_key *key;
  assert_int_equal(pu_key_generate(&key), 0);
  other = *pu_key_peer_id(key);
  pu_key_free(key);
  char other_id[PU_PEER_ID_MAX_TEXT];
  (void)pu_peer_id_text(&other, other_id);
  static const char *const rubbish[] = {"", "dnsaddr=", "dnsaddr=/ip4/1", "v=spf1",
                                        "dnsaddr=/dnsaddr/c.example"};
  for (size_t i = 0; i < PU_COUNT(rubbish); i++)
    assert_int_equal(pu_sim_text(n->sim, "_dnsaddr.c.example", rubbish[i]), 0);
  (void)snprintf(text, sizeof text, "dnsaddr=/ip4/10.0.0.99/tcp/1/p2p/%s", other_id);
  assert_int_equal(pu_sim_text(n->sim, "_dnsaddr.c.example", text), 0);
  (void)snprintf(text, sizeof text, "dnsaddr=/dnsaddr/d.example/p2p/%s", id);
  assert_int_equal(pu_sim_text(n->sim, "_dnsaddr.c.example", text), 0);
  (void)snprintf(text, sizeof text, "dnsaddr=/ip4/10.0.0.2/tcp/4001/p2p/%s", id);
  assert_int_equal(pu_sim_text(n->sim, "_dnsaddr.d.example", text), 0);
  n->a.denied = 0;
  sim_host_end(&n->a);
  assert_int_equal(sim_host_begin(&n->a, NULL, 0), 0);
  know(n, "/dnsaddr/c.example");
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/10.0.0.2/tcp/4001");
}

static void let_go(net *n) {
  (void)pu_engine_disconnect(n->a.engine, &n->b.id);
  sim_run_for(n->sim, SIM_SECOND);
}

static pu_dial_state dial_state(const net *n) {
  pu_dial_state state;
  pu_engine_dial_state(n->a.engine, &state);
  return state;
}

static void set_udp(net *n, bool passes) {
  const pu_sim_link link = {.delay_us = DELAY_US, .no_udp = !passes};
  assert_int_equal(pu_sim_set_link(n->sim, n->a.platform, n->b.platform, &link), 0);
}

/* rest lets every address that had its chance in vain be tried again. */
static void rest(net *n) {
  sim_run_for(n->sim, 100 * SIM_SECOND);
}

/* The interfaces of another network. */
static size_t elsewhere(pu_platform *p, pu_sockaddr *out, size_t max) {
  (void)p;
  *out = (pu_sockaddr){.family = 4, .ip = {192, 168, 7, 7}};
  return max > 0 ? 1 : 0;
}

static void learn_dark(net *n) {
  uint64_t took;
  set_udp(n, false);
  for (unsigned i = 0; i < PU_DARK_AFTER; i++) {
    assert_false(dial_state(n).udp_dark);
    assert_int_equal(connect(n, &took), 0);
    assert_in_range(took, 250000, 250000 + HANDSHAKE_US);
    let_go(n);
    if (i == 0) { /* the same address is not waited for again at once */
      assert_int_equal(connect(n, &took), 0);
      assert_true(took <= HANDSHAKE_US);
      let_go(n);
    }
    rest(n);
  }
  assert_true(dial_state(n).udp_dark);
  assert_int_equal(connect(n, &took), 0);
  assert_true(took <= HANDSHAKE_US); /* TCP at once */
  let_go(n);
  rest(n);
}

static void test_udp_leads_nowhere(void **state) {
  net *n = *state;
  uint64_t took;
  unsigned dials = 0;
  assert_int_equal(pu_engine_listen(n->b.engine, "/ip4/5.0.0.2/udp/4001/quic-v1", NULL), 0);
  know(n, "/ip4/5.0.0.2/tcp/4001");
  know(n, "/ip4/5.0.0.2/udp/4001/quic-v1");
  learn_dark(n);
  /* It gets better: one of the next dials finds out. */
  set_udp(n, true);
  while (dial_state(n).udp_dark && dials++ < PU_DARK_PROBE) {
    assert_int_equal(connect(n, &took), 0);
    let_go(n);
  }
  assert_false(dial_state(n).udp_dark);
  assert_true(dials > 1);
  assert_int_equal(connect(n, &took), 0);
  assert_string_equal(remote(), "/ip4/5.0.0.2/udp/4001/quic-v1");
  let_go(n);
  /* Another network is another matter. */
  learn_dark(n);
  pu_platform_ops ops = *n->a.platform->ops;
  const pu_platform_ops *before = n->a.platform->ops;
  ops.interface_addrs = elsewhere;
  n->a.platform->ops = &ops;
  assert_int_equal(connect(n, &took), 0);
  n->a.platform->ops = before;
  assert_false(dial_state(n).udp_dark);
  assert_true(took >= 250000);
  let_go(n);
  /* And after some time it is forgotten. */
  learn_dark(n);
  sim_run_for(n->sim, PU_DARK_FORGET_US);
  assert_false(dial_state(n).udp_dark);
}

/* A peer that is away says nothing of the network. */
static void test_who_is_away_is_not_dark(void **state) {
  net *n = *state;
  uint64_t took;
  know(n, "/ip4/5.0.0.99/udp/4001/quic-v1");
  know(n, "/ip6/2a00::63/tcp/4001");
  for (unsigned i = 0; i < 2 * PU_DARK_AFTER; i++)
    assert_int_not_equal(connect(n, &took), 0);
  assert_false(dial_state(n).udp_dark);
  assert_false(dial_state(n).ip6_dark);
}

static void test_ip6_leads_nowhere(void **state) {
  net *n = *state;
  uint64_t took;
  assert_int_equal(pu_engine_add_addr(n->a.engine, &n->b.id, "/ip6/2a00::63/tcp/1", 420, NULL), 0);
  know(n, "/ip4/5.0.0.2/tcp/4001");
  for (unsigned i = 0; i < PU_DARK_AFTER; i++) {
    assert_false(dial_state(n).ip6_dark);
    assert_int_equal(connect(n, &took), 0);
    assert_true(took >= 250000);
    let_go(n);
    rest(n);
  }
  assert_true(dial_state(n).ip6_dark);
  assert_int_equal(connect(n, &took), 0);
  assert_true(took <= HANDSHAKE_US);
  let_go(n);
  rest(n);                          /* the dead one is forgotten */
  know(n, "/ip6/2a00::2/tcp/4001"); /* this one works, and is tried first in time */
  for (unsigned i = 0; i <= PU_DARK_PROBE && dial_state(n).ip6_dark; i++) {
    assert_int_equal(connect(n, &took), 0);
    let_go(n);
  }
  assert_false(dial_state(n).ip6_dark);
}

/* ---- a look-up that takes its time ---- */

typedef struct slow_name {
  pu_resolve base;
  pu_resolve_cb cb; /* NULL: nobody waits */
  void *data;
} slow_name;

static slow_name slow;

static void cancel_slow(pu_resolve *r) {
  ((slow_name *)r)->cb = NULL;
}

static int resolve_slowly(pu_platform *p, const char *host, uint16_t port, int family,
                          pu_resolve_cb cb, void *data, pu_resolve **out) {
  (void)host;
  (void)port;
  (void)family;
  slow = (slow_name){{p, cancel_slow}, cb, data};
  *out = &slow.base;
  return 0;
}

static void test_slow_names(void **state) {
  net *n = *state;
  uint64_t took;
  pu_op *op;
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 0, 2}, .port = 4001};
  pu_platform_ops ops = *n->a.platform->ops;
  const pu_platform_ops *before = n->a.platform->ops;
  ops.resolve_start = resolve_slowly;
  n->a.platform->ops = &ops;
  /* Nothing else is known: its limit ends it. */
  know(n, "/dns4/b.example/tcp/4001");
  assert_int_equal(connect(n, &took), PU_E_TIMEOUT);
  assert_int_equal(took, 5 * SIM_SECOND);
  assert_string_equal(answer.detail,
                      "tried /dns4/b.example/tcp/4001: the look-up of the name took too long");
  assert_null(slow.cb);
  /* It joins late those that have begun meanwhile. */
  sim_run_for(n->sim, 400 * SIM_SECOND);
  know(n, "/ip4/10.0.0.99/tcp/4001");
  answer = (sim_answer){0};
  assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answer, &op), 0);
  sim_run_for(n->sim, 2 * SIM_SECOND);
  assert_int_equal(answer.calls, 0);
  slow.cb(slow.data, 0, &b, 1);
  sim_run_for(n->sim, HANDSHAKE_US);
  assert_int_equal(answer.status, 0);
  assert_int_equal(answer.calls, 1);
  assert_string_equal(remote(), "/ip4/10.0.0.2/tcp/4001");
  let_go(n);
  /* It holds nobody up for longer than patience goes. */
  sim_run_for(n->sim, 400 * SIM_SECOND);
  know(n, "/ip4/10.0.1.2/tcp/4001");
  assert_int_equal(connect(n, &took), 0);
  assert_in_range(took, PU_DIAL_PATIENCE_US, PU_DIAL_PATIENCE_US + 30000 + HANDSHAKE_US);
  assert_null(slow.cb);
  n->a.platform->ops = before;
}

static void know_all_kinds(net *n) {
  know(n, "/ip4/10.0.0.99/tcp/4001");
  know(n, "/dnsaddr/c.example");
  know(n, "/dns4/b.example/tcp/4001");
  know(n, "/ip4/5.0.0.2/udp/4001/quic-v1");
}

static void prepare_all_kinds(net *n) {
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 0, 2}};
  assert_int_equal(pu_engine_listen(n->b.engine, "/ip4/5.0.0.2/udp/4001/quic-v1", NULL), 0);
  assert_int_equal(pu_sim_name(n->sim, "b.example", &b), 0);
  assert_int_equal(pu_sim_text(n->sim, "_dnsaddr.c.example", "dnsaddr=/dnsaddr/d.example"), 0);
  assert_int_equal(pu_sim_text(n->sim, "_dnsaddr.d.example", "dnsaddr=/ip6/fd00::2/tcp/4001"), 0);
}

static void test_given_up_at_every_moment(void **state) {
  net *n = *state;
  prepare_all_kinds(n);
  know_all_kinds(n);
  for (uint64_t after = 0; after < HANDSHAKE_US; after += 500) {
    pu_op *op;
    answer = (sim_answer){0};
    assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answer, &op),
                     0);
    sim_run_for(n->sim, after);
    if (!answer.done)
      pu_op_cancel(op);
    sim_run_for(n->sim, 1);
    assert_true(pu_list_empty(&n->a.engine->dials));
    assert_int_equal(answer.calls, 1);
    let_go(n);
  }
}

static int as_it_is(void *data, const pu_peer_id *peer, pu_dial_candidate *candidates,
                    size_t count) {
  (void)data;
  (void)peer;
  (void)candidates;
  return (int)count;
}

static void test_each_allocation_fails(void **state) {
  net *n = *state;
  unsigned failures = 0;
  prepare_all_kinds(n);
  for (uint64_t i = 1;; i++) {
    uint64_t took;
    sim_host_end(&n->a);
    assert_int_equal(sim_host_begin(&n->a, NULL, 0), 0);
    n->a.engine->rank = as_it_is;
    know_all_kinds(n);
    pu_mem_fail_at(&n->a.engine->mem, i);
    const uint64_t begin = pu_sim_now_us(n->sim);
    const int rc = sim_connect(&n->a, &n->b, 0, &answer);
    took = pu_sim_now_us(n->sim) - begin;
    assert_true(took <= 60 * (uint64_t)SIM_SECOND);
    const bool reached = n->a.engine->mem.fail_at == 0;
    failures += rc != 0;
    if (!reached) {
      assert_int_equal(rc, 0);
      break;
    }
  }
  assert_true(failures > 5);
}

static void test_the_engine_closes(void **state) {
  net *n = *state;
  pu_op *op;
  for (uint64_t after = 0; after < 8 * DELAY_US; after += 7000) {
    know(n, "/ip4/10.0.0.99/tcp/4001");
    know(n, "/ip4/10.0.0.2/tcp/4001");
    answer = (sim_answer){0};
    assert_int_equal(pu_engine_connect(n->a.engine, &n->b.id, 0, 0, sim_on_connect, &answer, &op),
                     0);
    sim_run_for(n->sim, after);
    sim_host_end(&n->a);
    assert_int_equal(answer.calls, 1);
    if (answer.status != 0)
      assert_int_equal(answer.status, PU_E_CANCELED);
    assert_int_equal(sim_host_begin(&n->a, NULL, 0), 0);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_one_address),
      TEST(test_ipv6_first),
      TEST(test_dead_ones_cost_a_stagger),
      TEST(test_refused_ones_cost_nothing),
      TEST(test_failures_are_named),
      TEST(test_not_for_us),
      TEST(test_another_peer_answers),
      TEST(test_who_says_nothing),
      TEST(test_names),
      TEST(test_back_off),
      TEST(test_many_ask_at_once),
      TEST(test_nobody_waits_any_more),
      TEST(test_the_caller_has_no_time),
      TEST(test_the_peer_comes_by_itself),
      TEST(test_both_dial_at_once),
      TEST(test_given_up_while_asking),
      TEST(test_quic_first_and_dark),
      TEST(test_names_of_all_kinds),
      TEST(test_udp_leads_nowhere),
      TEST(test_who_is_away_is_not_dark),
      TEST(test_ip6_leads_nowhere),
      TEST(test_slow_names),
      TEST(test_given_up_at_every_moment),
      TEST(test_each_allocation_fails),
      TEST(test_the_engine_closes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
