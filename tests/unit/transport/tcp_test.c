/* TCP as a raw connection and as a transport, in the simulated network. */
#include "platform/sim.h"
#include "support/unit.h"
#include "transport/transport.h"

#define SECOND_US 1000000u
#define PORT 4001

typedef struct net {
  pu_sim *sim;
  pu_platform *a, *b;
  pu_mem mem;
  pu_rx_memory rx;
  pu_transport *transport; /* of a */
  pu_tcp_listener *listener;
  pu_tcp *accepted;
  pu_sockaddr seen; /* from where */
  bool offer_local;
  pu_sockaddr local;
  unsigned asked;
} net;

static void on_accept(void *data, pu_tcp *tcp) {
  net *n = data;
  assert_null(n->accepted);
  n->accepted = tcp;
  pu_tcp_remote(tcp, &n->seen);
}

static bool local_for(void *data, const pu_sockaddr *remote, pu_sockaddr *local) {
  net *n = data;
  (void)remote;
  n->asked++;
  *local = n->local;
  return n->offer_local;
}

static int setup(void **state) {
  net *n = calloc(1, sizeof(*n));
  const pu_sockaddr a[2] = {{.family = 4, .ip = {10, 0, 0, 1}},
                            {.family = 6, .ip = {0x20, 1, 0x0d, 0xb8, [15] = 1}}};
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 0, 2}};
  const pu_sim_link link = {.delay_us = 10000};
  pu_sockaddr at = b;
  at.port = PORT;
  assert_non_null(n);
  assert_int_equal(pu_sim_new(3, &n->sim), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "a", a, 2, &n->a), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "b", &b, 1, &n->b), 0);
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &link), 0);
  assert_int_equal(pu_tcp_listen(n->b, &at, 0, on_accept, n, &n->listener), 0);
  pu_mem_init(&n->mem, NULL, PU_MEM_UNLIMITED);
  n->rx.bytes = pu_alloc(&n->mem, PU_SPAN_HEAD + PU_RX_BYTES + PU_SPAN_TAIL);
  assert_non_null(n->rx.bytes);
  assert_int_equal(pu_tcp_transport_new(&n->mem, n->a, &n->rx, local_for, n, &n->transport), 0);
  *state = n;
  return 0;
}

static int teardown(void **state) {
  net *n = *state;
  pu_tcp_close(n->accepted, true);
  pu_tcp_listener_close(n->listener);
  n->transport->ops->free(n->transport);
  pu_free(n->rx.bytes);
  pu_mem_deinit(&n->mem);
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
  free(n);
  return 0;
}

/* ---- dialing ---- */

typedef struct answer {
  unsigned calls;
  bool done;
  int status;
  pu_transport_conn conn;
} answer;

static void on_dialled(void *data, int status, const char *detail, const pu_transport_conn *conn) {
  answer *a = data;
  assert_non_null(detail);
  assert_int_equal(status == 0, conn != NULL);
  a->calls++;
  a->done = true;
  a->status = status;
  if (conn != NULL)
    a->conn = *conn;
}

/* start_dial begins; returns what dial returned. */
static int start_dial(net *n, const char *text, answer *a, pu_transport_dial **out) {
  pu_multiaddr addr;
  pu_ma_target target;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &addr, NULL), 0);
  pu_multiaddr_target(&addr, &target);
  assert_true(n->transport->ops->can_dial(n->transport, &target));
  *a = (answer){0};
  int rc = n->transport->ops->dial(n->transport, &addr, &target, on_dialled, a, out);
  assert_int_equal(a->calls, 0);
  return rc;
}

static int dial(net *n, const char *text, answer *a) {
  pu_transport_dial *d;
  int rc = start_dial(n, text, a, &d);
  if (rc != 0)
    return rc;
  assert_true(pu_sim_run(n->sim, pu_sim_now_us(n->sim) + 100 * SECOND_US, &a->done));
  assert_int_equal(a->calls, 1);
  while (a->status == 0 && n->accepted == NULL) /* the other side knows half a round trip later */
    assert_true(pu_sim_step(n->sim));
  return a->status;
}

static void close_conn(net *n, answer *a) {
  a->conn.raw->ops->close(a->conn.raw, false);
  pu_tcp_close(n->accepted, false);
  n->accepted = NULL;
}

static void test_dial(void **state) {
  net *n = *state;
  char text[PU_MULTIADDR_MAX_TEXT];
  answer a;
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/4001", &a), 0);
  assert_string_equal(a.conn.transport, "tcp");
  assert_false(a.conn.relayed || a.conn.limited);
  assert_string_equal(pu_multiaddr_text(&a.conn.remote, text), "/ip4/10.0.0.2/tcp/4001");
  assert_non_null(strstr(pu_multiaddr_text(&a.conn.local, text), "/ip4/10.0.0.1/tcp/"));
  close_conn(n, &a);
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/9", &a), PU_E_REFUSED);
  assert_int_equal(dial(n, "/ip4/10.0.0.9/tcp/4001", &a), PU_E_UNREACHABLE);
}

static void test_what_it_dials(void **state) {
  net *n = *state;
  static const struct {
    const char *text;
    bool can;
  } cases[] = {{"/ip4/1.2.3.4/tcp/1", true},          {"/ip6/::1/tcp/1", true},
               {"/dns/x.example/tcp/443", false},     {"/ip4/1.2.3.4/tcp/0", false},
               {"/ip4/1.2.3.4/udp/1/quic-v1", false}, {"/ip4/1.2.3.4/tcp/1/ws", false}};
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    pu_multiaddr addr;
    pu_ma_target target;
    assert_int_equal(pu_multiaddr_from_text(cases[i].text, strlen(cases[i].text), &addr, NULL), 0);
    pu_multiaddr_target(&addr, &target);
    assert_int_equal(n->transport->ops->can_dial(n->transport, &target), cases[i].can);
  }
}

static void test_deadline(void **state) {
  net *n = *state;
  const pu_sim_link down = {.down = true};
  answer a;
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &down), 0);
  const uint64_t begin = pu_sim_now_us(n->sim);
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/4001", &a), PU_E_TIMEOUT);
  assert_int_equal(pu_sim_now_us(n->sim) - begin, 5 * SECOND_US);
}

static void test_cancel(void **state) {
  net *n = *state;
  static const char *const texts[] = {"/ip4/10.0.0.2/tcp/4001", "/ip4/10.0.0.2/tcp/9"};
  for (size_t i = 0; i < PU_COUNT(texts); i++) {
    for (uint64_t after = 0; after < 30000; after += 1000) {
      answer a;
      pu_transport_dial *d;
      assert_int_equal(start_dial(n, texts[i], &a, &d), 0);
      (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + after, NULL);
      if (a.done && a.status == 0)
        a.conn.raw->ops->close(a.conn.raw, true);
      else if (!a.done)
        n->transport->ops->cancel(d);
      unsigned calls = a.calls;
      (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
      assert_int_equal(a.calls, calls);
      pu_tcp_close(n->accepted, true);
      n->accepted = NULL;
    }
  }
}

static void test_from_the_listening_port(void **state) {
  net *n = *state;
  answer a;
  n->offer_local = true;
  n->local = (pu_sockaddr){.family = 4, .ip = {10, 0, 0, 1}, .port = 4001};
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/4001", &a), 0);
  assert_int_equal(n->seen.port, 4001);
  assert_int_equal(n->asked, 1);
  close_conn(n, &a);
  /* Where that does not work, from any port. */
  n->local.ip[3] = 77;
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/4001", &a), 0);
  assert_int_not_equal(n->seen.port, 4001);
  close_conn(n, &a);
}

static void test_dial_without_memory(void **state) {
  net *n = *state;
  unsigned failures = 0;
  for (uint64_t k = 1;; k++) {
    answer a;
    pu_mem_fail_at(&n->mem, k);
    int rc = dial(n, "/ip4/10.0.0.2/tcp/4001", &a);
    bool reached = n->mem.fail_at == 0;
    pu_mem_fail_at(&n->mem, 0);
    if (rc == 0)
      close_conn(n, &a);
    else
      assert_int_equal(rc, PU_E_NOMEM);
    pu_tcp_close(n->accepted, true);
    n->accepted = NULL;
    if (!reached)
      break;
    assert_int_not_equal(rc, 0);
    failures++;
  }
  assert_int_equal(failures, 2); /* the dial, the raw connection */
}

/* ---- the raw connection ---- */

typedef struct peer {
  pu_raw *raw;
  uint8_t place[64]; /* where bytes are wanted first */
  size_t place_len;
  unsigned placed_calls, bytes_calls, writable;
  uint64_t got; /* in order, see byte_at */
  bool close_in_bytes, stop_in_bytes, drop_in_bytes;
  int end;
  unsigned ends;
} peer;

static uint8_t byte_at(uint64_t i) {
  return (uint8_t)(i * 31 + (i >> 8));
}

static void on_bytes(void *user, pu_span data) {
  peer *p = user;
  assert_true(data.len > 0 && data.len <= PU_RX_BYTES);
  assert_true(data.head >= PU_SPAN_HEAD && data.tail >= PU_SPAN_TAIL);
  for (size_t i = 0; i < data.len; i++)
    assert_int_equal(data.data[i], byte_at(p->got + i));
  memset(data.data - data.head, 0xdd, data.head + data.len + data.tail);
  p->got += data.len;
  p->bytes_calls++;
  if (p->close_in_bytes) {
    p->raw->ops->close(p->raw, false);
    p->raw = NULL;
  } else if (p->stop_in_bytes) {
    p->raw->ops->want_read(p->raw, false);
  } else if (p->drop_in_bytes) {
    p->raw->ops->set_events(p->raw, NULL, NULL);
  }
}
static size_t place(void *user, uint8_t **memory) {
  peer *p = user;
  *memory = p->place;
  return p->place_len;
}
static void on_placed(void *user, size_t len) {
  peer *p = user;
  assert_true(len > 0 && len <= p->place_len);
  for (size_t i = 0; i < len; i++)
    assert_int_equal(p->place[i], byte_at(p->got + i));
  p->got += len;
  p->place_len -= len;
  p->placed_calls++;
}
static void on_writable(void *user) {
  ((peer *)user)->writable++;
}
static void on_end(void *user, int status) {
  peer *p = user;
  p->ends++;
  p->end = status;
}
static const pu_raw_events raw_events = {on_bytes, place, on_placed, on_writable, on_end};

/* connect_raw gives a raw connection at a, whose other side is n->accepted. */
static void connect_raw(net *n, peer *p) {
  answer a;
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/4001", &a), 0);
  *p = (peer){.raw = a.conn.raw};
  p->raw->ops->set_events(p->raw, &raw_events, p);
  p->raw->ops->want_read(p->raw, true);
}

/* send_to writes |len| bytes from the other side. */
static void send_to(net *n, uint64_t *sent, size_t len) {
  uint8_t bytes[4096];
  while (len > 0) {
    size_t part = len < sizeof(bytes) ? len : sizeof(bytes);
    for (size_t i = 0; i < part; i++)
      bytes[i] = byte_at(*sent + i);
    const pu_iov iov = {bytes, part};
    ssize_t w = pu_tcp_writev(n->accepted, &iov, 1);
    assert_true(w > 0);
    *sent += (uint64_t)w;
    len -= (size_t)w;
  }
}

static void settle(net *n) {
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + 2 * SECOND_US, NULL);
}

static void test_reading(void **state) {
  net *n = *state;
  peer p;
  uint64_t sent = 0;
  connect_raw(n, &p);
  send_to(n, &sent, 1);
  settle(n);
  assert_int_equal(p.got, 1);
  send_to(n, &sent, 3 * (size_t)PU_RX_BYTES);
  settle(n);
  assert_int_equal(p.got, sent);
  /* The first bytes where they are wanted, the others as ever. */
  p.place_len = 50;
  send_to(n, &sent, 1000);
  settle(n);
  assert_int_equal(p.got, sent);
  assert_true(p.placed_calls > 0);
  assert_int_equal(p.place_len, 0);
  /* Held back, and let go. */
  p.raw->ops->want_read(p.raw, false);
  send_to(n, &sent, 500);
  settle(n);
  assert_int_equal(p.got, sent - 500);
  p.raw->ops->want_read(p.raw, true);
  settle(n);
  assert_int_equal(p.got, sent);
  /* The end, once. */
  assert_int_equal(pu_tcp_shutdown(n->accepted), 0);
  settle(n);
  assert_int_equal(p.ends, 1);
  assert_int_equal(p.end, PU_E_EOF);
  p.raw->ops->close(p.raw, false);
}

static void test_held_back_inside(void **state) {
  net *n = *state;
  peer p;
  uint64_t sent = 0;
  connect_raw(n, &p);
  p.stop_in_bytes = true;
  send_to(n, &sent, 4 * (size_t)PU_RX_BYTES);
  for (unsigned i = 1; p.got < sent; i++) {
    settle(n);
    assert_int_equal(p.bytes_calls, i); /* one read, not one more */
    p.raw->ops->want_read(p.raw, true);
    assert_true(i < 10000);
  }
  p.raw->ops->close(p.raw, false);
}

static void test_closed_inside(void **state) {
  net *n = *state;
  peer p;
  uint64_t sent = 0;
  connect_raw(n, &p);
  p.close_in_bytes = true;
  send_to(n, &sent, 2 * (size_t)PU_RX_BYTES);
  settle(n);
  assert_int_equal(p.bytes_calls, 1);
  assert_int_equal(p.ends, 0);
}

static void test_events_taken_away_inside(void **state) {
  net *n = *state;
  peer p;
  uint64_t sent = 0;
  connect_raw(n, &p);
  p.drop_in_bytes = true;
  send_to(n, &sent, 2 * (size_t)PU_RX_BYTES);
  settle(n);
  assert_int_equal(p.bytes_calls, 1);
  p.drop_in_bytes = false;
  p.raw->ops->set_events(p.raw, &raw_events, &p);
  settle(n);
  assert_int_equal(p.got, sent);
  p.raw->ops->close(p.raw, false);
}

static void test_writing(void **state) {
  net *n = *state;
  peer p;
  static uint8_t bytes[3][100000];
  connect_raw(n, &p);
  uint64_t sent = 0, got = 0;
  bool full = false;
  while (!full) { /* until the network holds no more */
    const pu_iov iov[3] = {
        {bytes[0], sizeof(bytes[0])}, {bytes[1], sizeof(bytes[1])}, {bytes[2], sizeof(bytes[2])}};
    ssize_t w = p.raw->ops->writev(p.raw, iov, 3);
    assert_true(w >= 0);
    sent += (uint64_t)w;
    full = w == 0;
    assert_true(sent < 100u * 1024 * 1024);
  }
  assert_int_equal(p.writable, 0);
  for (int i = 0; i < 1000 && got < sent; i++) {
    static uint8_t in[65536];
    const pu_iov iov = {in, sizeof(in)};
    ssize_t r = pu_tcp_readv(n->accepted, &iov, 1);
    if (r == PU_E_AGAIN)
      settle(n);
    else
      got += (uint64_t)r;
  }
  assert_int_equal(got, sent);
  settle(n);
  assert_int_equal(p.writable, 1); /* once for the write that was short */
  pu_tcp_close(n->accepted, true);
  n->accepted = NULL;
  settle(n);
  assert_int_equal(p.ends, 1);
  assert_int_equal(p.end, PU_E_RESET);
  const pu_iov iov = {bytes[0], 1};
  assert_true(p.raw->ops->writev(p.raw, &iov, 1) < 0);
  p.raw->ops->close(p.raw, true);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_dial),
      TEST(test_what_it_dials),
      TEST(test_deadline),
      TEST(test_cancel),
      TEST(test_from_the_listening_port),
      TEST(test_dial_without_memory),
      TEST(test_reading),
      TEST(test_held_back_inside),
      TEST(test_closed_inside),
      TEST(test_events_taken_away_inside),
      TEST(test_writing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
