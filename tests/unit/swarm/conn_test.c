/* Connections between whole hosts of the simulated network: who gets in, who stays, what is told.
 */
#include "swarm/conn.h"

#include "support/sim_hosts.h"
#include "support/unit.h"

#define DELAY_US 10000u

typedef struct pair {
  pu_sim *sim;
  sim_host a, b;
} pair;

static int setup_limits(void **state, const pu_limits *limits) {
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  assert_int_equal(pu_sim_new(1, &p->sim), 0);
  const pu_sim_link link = {.delay_us = DELAY_US};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &link), 0);
  sim_host_start(p->sim, &p->a, 1, NULL);
  sim_host_start(p->sim, &p->b, 2, limits);
  sim_host_knows(&p->a, &p->b);
  *state = p;
  return 0;
}
static int setup(void **state) {
  return setup_limits(state, NULL);
}
static int setup_small(void **state) {
  const pu_limits limits = {.conns_total = 6,
                            .conns_per_peer = 2,
                            .conns_pending = 6,
                            .conns_pending_per_ip = 3,
                            .handshake_ms = 4000,
                            .idle_ms = 20000};
  return setup_limits(state, &limits);
}
static int teardown(void **state) {
  pair *p = *state;
  sim_host_end(&p->a);
  sim_host_end(&p->b);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(p->sim), 0);
  pu_sim_free(p->sim);
  free(p);
  return 0;
}

static sim_answer answer;

static pu_conn *conn_of(const sim_host *h, const sim_host *peer) {
  return pu_engine_best_conn(h->engine, &peer->id);
}

static void count_conn(void *data, pu_conn *c) {
  assert_non_null(c);
  ++*(unsigned *)data;
}
static unsigned conns_of(const sim_host *h) {
  unsigned n = 0;
  pu_engine_conns(h->engine, count_conn, &n);
  return n;
}

/* ---- what is told ---- */

static void test_info(void **state) {
  pair *p = *state;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  pu_conn_info a, b;
  pu_conn_info_get(conn_of(&p->a, &p->b), &a);
  pu_conn_info_get(conn_of(&p->b, &p->a), &b);
  assert_true(a.outbound && !b.outbound);
  assert_false(a.relayed || a.limited || b.relayed || b.limited);
  assert_true(pu_peer_id_equal(&a.peer, &p->b.id) && pu_peer_id_equal(&b.peer, &p->a.id));
  assert_string_equal(a.addr, "/ip4/10.0.0.2/tcp/4001");
  assert_non_null(strstr(b.addr, "/ip4/10.0.0.1/tcp/"));
  assert_string_equal(a.transport, "tcp");
  assert_string_equal(a.security, b.security);
  assert_true(strcmp(a.security, "tls") == 0 || strcmp(a.security, "noise") == 0);
  assert_string_equal(b.muxer, "yamux");
  assert_int_equal(a.rtt_us, 2 * DELAY_US);
  assert_int_equal(a.bytes_out, b.bytes_in);
  assert_int_equal(a.bytes_in, b.bytes_out);
  assert_true(a.bytes_in > 500 && a.opened_unix_ms > 1600000000000u);
  assert_ptr_equal(pu_conn_find(p->a.engine, a.id), conn_of(&p->a, &p->b));
  assert_true(pu_peer_id_equal(pu_conn_peer(conn_of(&p->a, &p->b)), &p->b.id));
  assert_null(pu_conn_find(p->a.engine, a.id + 100));
  assert_int_equal(p->a.events[PU_EVENT_CONNECTED], 1);
  assert_int_equal(p->b.events[PU_EVENT_CONNECTED], 1);
  pu_conn_close(conn_of(&p->a, &p->b));
  assert_null(conn_of(&p->a, &p->b));
  assert_null(pu_conn_find(p->a.engine, a.id));
  assert_int_equal(p->a.events[PU_EVENT_DISCONNECTED], 1);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(p->b.events[PU_EVENT_DISCONNECTED], 1);
  assert_int_equal(p->b.last_status, PU_E_EOF);
}

static void test_connected_already(void **state) {
  pair *p = *state;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  pu_conn *first = answer.conn;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  assert_ptr_equal(answer.conn, first);
  assert_int_equal(sim_connect(&p->a, &p->b, PU_CONNECT_DIRECT, &answer), 0);
  assert_ptr_equal(answer.conn, first);
  /* Several coexist; the newest of equals is the best. */
  assert_int_equal(sim_connect(&p->a, &p->b, PU_CONNECT_NEW, &answer), 0);
  assert_ptr_not_equal(answer.conn, first);
  assert_ptr_equal(conn_of(&p->a, &p->b), answer.conn);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(conns_of(&p->a), 2);
  assert_int_equal(conns_of(&p->b), 2);
  assert_int_equal(pu_engine_disconnect(p->a.engine, &p->b.id), 2);
  assert_int_equal(conns_of(&p->a), 0);
}

static void test_best_connection(void **state) {
  pair *p = *state;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  pu_conn *first = answer.conn;
  assert_int_equal(sim_connect(&p->a, &p->b, PU_CONNECT_NEW, &answer), 0);
  pu_conn *second = answer.conn;
  /* As if they went through relays: without limits before limited, direct before relayed. */
  second->info.relayed = second->info.limited = true;
  assert_ptr_equal(conn_of(&p->a, &p->b), first);
  first->info.relayed = true;
  assert_ptr_equal(conn_of(&p->a, &p->b), first);
  first->info.limited = true;
  assert_ptr_equal(conn_of(&p->a, &p->b), second);
  assert_null(pu_engine_find_conn(p->a.engine, &p->b.id, true));
  assert_true(pu_conn_is_limited(first));
  /* Ordinary streams do not go over limited ones. */
  static const char *const protocols[] = {"/ipfs/ping/1.0.0"};
  pu_op *op;
  assert_int_equal(pu_engine_open_stream(p->a.engine, &p->b.id, protocols, 1, PU_OPEN_NO_DIAL, 0,
                                         sim_on_open, &answer, &op),
                   PU_E_LIMITED_CONN);
  assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0); /* a ping does */
  /* A direct connection is made for who asks. */
  assert_int_equal(sim_connect(&p->a, &p->b, PU_CONNECT_DIRECT, &answer), 0);
  assert_false(answer.conn->info.relayed);
}

static void test_ourselves(void **state) {
  pair *p = *state;
  char text[300];
  pu_op *op;
  assert_int_equal(pu_engine_connect(p->a.engine, &p->a.id, 0, 0, sim_on_connect, &answer, &op),
                   PU_E_INVAL);
  /* A wrong address that leads back is not dialled. */
  (void)snprintf(text, sizeof(text), "%s", p->b.addr);
  assert_int_equal(pu_engine_add_addr(p->b.engine, &p->a.id, text, 100, NULL), 0);
  assert_int_equal(sim_connect(&p->b, &p->a, 0, &answer), PU_E_NO_ADDRESS);
  assert_non_null(strstr(answer.detail, "none of the 1 known addresses"));
  assert_int_equal(p->b.asked[PU_ASK_ACCEPT], 0);
  assert_int_equal(conns_of(&p->b), 0);
}

/* ---- the policy ---- */

static void test_policy_before_and_after_the_handshake(void **state) {
  pair *p = *state;
  p->b.denied = 1u << PU_ASK_ACCEPT;
  assert_int_not_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  assert_int_equal(p->b.asked[PU_ASK_ACCEPT], 1);
  assert_int_equal(p->b.asked[PU_ASK_INBOUND], 0);
  assert_true(p->b.events[PU_EVENT_DENIED] == 1 && p->b.events[PU_EVENT_DROPPED] == 1);
  p->b.denied = 1u << PU_ASK_INBOUND;
  sim_run_for(p->sim, 20 * SIM_SECOND);
  (void)sim_connect(&p->a, &p->b, 0, &answer); /* the dialler may see it open for a moment */
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(p->b.asked[PU_ASK_INBOUND], 1);
  assert_int_equal(p->b.events[PU_EVENT_CONNECTED], 0);
  assert_int_equal(conns_of(&p->a), 0);
  assert_int_equal(conns_of(&p->b), 0);
  /* Who is refused can still be dialled from here. */
  sim_host_knows(&p->b, &p->a);
  assert_int_equal(sim_connect(&p->b, &p->a, 0, &answer), 0);
  assert_int_equal(p->b.asked[PU_ASK_INBOUND], 1);
}

static void test_policy_of_dials(void **state) {
  pair *p = *state;
  p->a.denied = 1u << PU_ASK_DIAL;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), PU_E_DENIED);
  assert_int_equal(p->b.asked[PU_ASK_ACCEPT], 0);
  p->a.denied = 0;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
}

static void test_recheck(void **state) {
  pair *p = *state;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(pu_engine_recheck(p->a.engine), 0);
  assert_int_equal(pu_engine_recheck(p->b.engine), 0);
  p->b.denied = 1u << PU_ASK_DIAL; /* of no concern to an inbound connection */
  assert_int_equal(pu_engine_recheck(p->b.engine), 0);
  p->b.denied = 1u << PU_ASK_INBOUND;
  assert_int_equal(pu_engine_recheck(p->b.engine), 1);
  assert_int_equal(p->b.last_status, PU_E_DENIED);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(conns_of(&p->a), 0);
  p->b.denied = 0;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  p->a.denied = 1u << PU_ASK_DIAL;
  assert_int_equal(pu_engine_recheck(p->a.engine), 1);
}

static void test_no_policy_denies(void **state) {
  pair *p = *state;
  p->b.engine->policy = NULL;
  assert_int_not_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  assert_int_equal(conns_of(&p->b), 0);
  sim_host_knows(&p->b, &p->a);
  assert_int_equal(sim_connect(&p->b, &p->a, 0, &answer),
                   0); /* what the program dials is its own */
}

/* ---- limits ---- */

/* Sockets that say nothing. */
typedef struct mute {
  pu_platform *platform;
  pu_tcp *tcp[20];
} mute;

static void on_connect(void *data, int status) {
  (void)data;
  (void)status;
}
static const pu_tcp_events mute_events = {on_connect, NULL, NULL};

static void mute_add(pair *p, mute *m, uint8_t number) {
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, number}};
  *m = (mute){0};
  assert_int_equal(pu_sim_add_host(p->sim, "mute", &ip, 1, &m->platform), 0);
}
static void mute_connect(pair *p, mute *m, size_t count) {
  pu_sockaddr to = p->b.ip;
  to.port = SIM_PORT;
  for (size_t i = 0, n = 0; n < count; i++) {
    if (m->tcp[i] != NULL)
      continue;
    assert_int_equal(pu_tcp_connect(m->platform, NULL, &to, &mute_events, NULL, &m->tcp[i]), 0);
    n++;
  }
  sim_run_for(p->sim, SIM_SECOND / 10);
}
static void mute_end(mute *m) {
  for (size_t i = 0; i < PU_COUNT(m->tcp); i++)
    pu_tcp_close(m->tcp[i], true);
}

static void test_pending_limits(void **state) {
  pair *p = *state; /* 3 of an address, 6 in all, one of them for known addresses, 4 s */
  mute x, y, z;
  mute_add(p, &x, 101);
  mute_add(p, &y, 102);
  mute_add(p, &z, 103);
  const size_t idle = pu_engine_memory(p->b.engine);
  mute_connect(p, &x, 4);
  assert_int_equal(p->b.engine->limiter.pending, 3);
  assert_int_equal(p->b.events[PU_EVENT_DROPPED], 1);
  assert_int_equal(p->b.last_status, PU_E_LIMIT);
  mute_connect(p, &y, 3);
  assert_int_equal(p->b.engine->limiter.pending, 5);
  mute_connect(p, &z, 1);
  assert_int_equal(p->b.engine->limiter.pending, 5);
  assert_int_equal(p->b.events[PU_EVENT_DROPPED], 3);
  /* A silent stranger costs a fraction of what one may. */
  assert_true((pu_engine_memory(p->b.engine) - idle) / 5 < 16384);
  /* The handshake's deadline frees their places. */
  sim_run_for(p->sim, 4 * SIM_SECOND);
  assert_int_equal(p->b.engine->limiter.pending, 0);
  assert_int_equal(p->b.engine->conn_count, 0);
  assert_int_equal(p->b.last_status, PU_E_TIMEOUT);
  assert_true(pu_engine_memory(p->b.engine) <= idle);
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  mute_end(&x);
  mute_end(&y);
  mute_end(&z);
}

static void test_limits_of_connections(void **state) {
  pair *p = *state; /* 2 of a peer, 6 in all */
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  assert_int_equal(sim_connect(&p->a, &p->b, PU_CONNECT_NEW, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  (void)sim_connect(&p->a, &p->b, PU_CONNECT_NEW, &answer);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 2);
  assert_int_equal(conns_of(&p->a), 2);
  static sim_host others[5];
  for (unsigned i = 0; i < PU_COUNT(others); i++) {
    sim_host_start(p->sim, &others[i], 10 + i, NULL);
    sim_host_knows(&others[i], &p->b);
    int rc = sim_connect(&others[i], &p->b, 0, &answer);
    assert_int_equal(rc == 0, i < 4);
  }
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 6);
  /* Its own dials are told which limit it was, and how to raise it. */
  sim_host_knows(&p->b, &others[4]);
  assert_int_equal(sim_connect(&p->b, &others[4], 0, &answer), PU_E_LIMIT);
  assert_non_null(strstr(answer.detail, "too many connections: the limit is 6 (raise "
                                        "limits.connections.total)"));
  for (unsigned i = 0; i < PU_COUNT(others); i++)
    sim_host_end(&others[i]);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 2);
}

/* ---- time ---- */

static void test_idle(void **state) {
  pair *p = *state; /* b closes after 20 s */
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, 15 * SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 1);
  assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0); /* it is used: the time begins anew */
  sim_run_for(p->sim, 15 * SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 1);
  sim_run_for(p->sim, 30 * SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 0);
  assert_int_equal(conns_of(&p->a), 0);
  /* Protected, at either side, it stays; keepalives alone do not count as use. */
  assert_int_equal(pu_engine_protect(p->b.engine, &p->a.id, true), 0);
  assert_int_equal(pu_engine_protect(p->a.engine, &p->b.id, true), 0);
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, 600 * SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 1);
  assert_int_equal(pu_engine_protect(p->b.engine, &p->a.id, false), 0);
  sim_run_for(p->sim, 60 * SIM_SECOND);
  assert_int_equal(conns_of(&p->b), 0);
}

static void test_a_dead_peer_is_noticed(void **state) {
  pair *p = *state;
  assert_int_equal(pu_engine_protect(p->a.engine, &p->b.id, true), 0);
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  const pu_sim_link down = {.down = true};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &down), 0);
  sim_run_for(p->sim, 30 * SIM_SECOND);
  assert_int_equal(conns_of(&p->a), 1);
  sim_run_for(p->sim, 45 * SIM_SECOND);
  assert_int_equal(conns_of(&p->a), 0);
  assert_int_equal(p->a.last_status, PU_E_TIMEOUT);
}

static void test_cut(void **state) {
  pair *p = *state;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  pu_sim_cut(p->sim, NULL, NULL);
  sim_run_for(p->sim, 1);
  assert_int_equal(conns_of(&p->a) + conns_of(&p->b), 0);
  assert_int_equal(p->a.last_status, PU_E_RESET);
  assert_true(p->a.last_detail[0] != '\0');
}

/* ---- ended from inside its own events ---- */

static void close_when_connected(void *data, const pu_event *event) {
  sim_host_event(data, event);
  if (event->type == PU_EVENT_CONNECTED)
    pu_conn_close(event->conn);
}
static void close_when_disconnected(void *data, const pu_event *event) {
  sim_host *h = data;
  sim_host_event(h, event);
  if (event->type == PU_EVENT_DISCONNECTED) {
    pu_conn_close(event->conn);
    assert_int_equal(pu_engine_disconnect(h->engine, event->peer), 0);
  }
}

static void test_closed_inside_events(void **state) {
  pair *p = *state;
  sim_host *const both[2] = {&p->a, &p->b};
  for (int i = 0; i < 2; i++) {
    both[i]->engine->on_event = close_when_connected;
    (void)sim_connect(&p->a, &p->b, 0, &answer);
    assert_int_equal(answer.calls, 1);
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(conns_of(&p->a) + conns_of(&p->b), 0);
    both[i]->engine->on_event = close_when_disconnected;
    sim_run_for(p->sim, 20 * SIM_SECOND);
    assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(pu_engine_disconnect(p->a.engine, &p->b.id), 1);
    sim_run_for(p->sim, SIM_SECOND);
    both[i]->engine->on_event = sim_host_event;
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, setup_small, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_info),
      TEST(test_connected_already),
      TEST(test_best_connection),
      TEST(test_ourselves),
      TEST(test_policy_before_and_after_the_handshake),
      TEST(test_policy_of_dials),
      TEST(test_recheck),
      TEST(test_no_policy_denies),
      SMALL(test_pending_limits),
      SMALL(test_limits_of_connections),
      SMALL(test_idle),
      TEST(test_a_dead_peer_is_noticed),
      TEST(test_cut),
      TEST(test_closed_inside_events),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
