/* Dialling /ws in the simulated network. */
#include "platform/sim.h"
#include "support/unit.h"
#include "transport/ws.h"
#include "transport/ws_http.h"

#define SECOND_US 1000000u

/* What the other side does with a connection. */
typedef enum server_kind {
  SERVER_GOOD,
  SERVER_TLS,
  SERVER_SILENT,
  SERVER_REDIRECTS,
  SERVER_CLOSES
} server_kind;

typedef struct net {
  pu_sim *sim;
  pu_platform *a, *b;
  pu_mem mem;
  pu_rx_memory rx;
  pu_tls_web *web;
  pu_transport *tcp, *ws;
  pu_tcp_listener *listener, *usual;
  server_kind kind;
  pu_raw *accepted; /* SERVER_GOOD */
  pu_tcp *held;     /* the others */
  char request[1024];
  size_t request_len;
} net;

static void read_request(void *data) {
  net *n = data;
  const pu_iov iov = {n->request + n->request_len, sizeof n->request - 1 - n->request_len};
  ssize_t got = pu_tcp_readv(n->held, &iov, 1);
  if (got <= 0) {
    pu_tcp_want(n->held, 0);
    return;
  }
  n->request_len += (size_t)got;
  n->request[n->request_len] = '\0';
  static const char answer[] = "HTTP/1.1 301 Moved\r\nLocation: https://b.example/new\r\n\r\n";
  if (n->kind == SERVER_REDIRECTS && strstr(n->request, "\r\n\r\n") != NULL) {
    for (size_t done = 0; done < sizeof answer - 1;) { /* a write may take less */
      const pu_iov out = {(void *)(uintptr_t)(answer + done), sizeof answer - 1 - done};
      const ssize_t written = pu_tcp_writev(n->held, &out, 1);
      assert_true(written > 0);
      done += (size_t)written;
    }
  }
  if (n->kind == SERVER_CLOSES) {
    pu_tcp_close(n->held, false);
    n->held = NULL;
  }
}

static const pu_tcp_events tcp_events = {NULL, read_request, NULL};

static void no_bytes(void *user, pu_span data) {
  (void)user;
  (void)data;
  fail();
}
static void no_end(void *user, int status) {
  (void)user;
  (void)status;
}
static const pu_raw_events raw_events = {.on_bytes = no_bytes, .on_end = no_end};

static void drop(net *n) {
  if (n->accepted != NULL)
    n->accepted->ops->close(n->accepted, true);
  pu_tcp_close(n->held, true);
  n->accepted = NULL;
  n->held = NULL;
}

static void on_accept(void *data, pu_tcp *tcp) {
  net *n = data;
  drop(n);
  n->request_len = 0;
  if (n->kind != SERVER_GOOD && n->kind != SERVER_TLS) {
    n->held = tcp;
    pu_tcp_set_events(tcp, &tcp_events, n);
    pu_tcp_want(tcp, PU_WANT_READ);
    return;
  }
  pu_raw *raw;
  if (pu_tcp_raw_new(&n->mem, tcp, &n->rx, &raw) != 0)
    return;
  pu_tls_web *web = n->kind == SERVER_TLS ? n->web : NULL;
  if (pu_ws_serve(&n->mem, n->b, web, raw, &n->accepted) != 0) {
    n->accepted = NULL;
    return;
  }
  n->accepted->ops->set_events(n->accepted, &raw_events, n);
  n->accepted->ops->want_read(n->accepted, true);
}

static bool local_for(void *data, const pu_sockaddr *remote, pu_sockaddr *local) {
  (void)data;
  (void)remote;
  (void)local;
  return false;
}

static int setup(void **state) {
  net *n = calloc(1, sizeof *n);
  const pu_sockaddr a[2] = {{.family = 4, .ip = {10, 0, 0, 1}},
                            {.family = 6, .ip = {0x20, 1, 0x0d, 0xb8, [15] = 1}}};
  const pu_sockaddr b[2] = {{.family = 4, .ip = {10, 0, 0, 2}},
                            {.family = 6, .ip = {0x20, 1, 0x0d, 0xb8, [15] = 2}}};
  const pu_sim_link link = {.delay_us = 10000};
  pu_sockaddr at = b[0];
  assert_non_null(n);
  assert_int_equal(pu_sim_new(3, &n->sim), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "a", a, 2, &n->a), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "b", b, 2, &n->b), 0);
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &link), 0);
  at.port = 80;
  assert_int_equal(pu_tcp_listen(n->b, &at, 0, on_accept, n, &n->usual), 0);
  at = b[1];
  at.port = 4001;
  assert_int_equal(pu_tcp_listen(n->b, &at, 0, on_accept, n, &n->listener), 0);
  pu_mem_init(&n->mem, NULL, PU_MEM_UNLIMITED);
  n->rx.bytes = pu_alloc(&n->mem, PU_SPAN_HEAD + PU_RX_BYTES + PU_SPAN_TAIL);
  assert_non_null(n->rx.bytes);
  assert_int_equal(pu_tcp_transport_new(&n->mem, n->a, &n->rx, local_for, n, &n->tcp), 0);
  assert_int_equal(pu_tls_web_new(&n->mem, &n->web), 0);
  assert_int_equal(pu_ws_transport_new(&n->mem, n->a, n->tcp, n->web, &n->ws), 0);
  *state = n;
  return 0;
}

static int teardown(void **state) {
  net *n = *state;
  drop(n);
  pu_tcp_listener_close(n->listener);
  pu_tcp_listener_close(n->usual);
  n->ws->ops->free(n->ws);
  n->tcp->ops->free(n->tcp);
  pu_tls_web_free(n->web);
  pu_free(n->rx.bytes);
  pu_mem_deinit(&n->mem);
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
  free(n);
  return 0;
}

typedef struct answer {
  unsigned calls;
  bool done;
  int status;
  char detail[PU_WS_HTTP_WHY];
  pu_transport_conn conn;
} answer;

static void on_dialled(void *data, int status, const char *detail, const pu_transport_conn *conn) {
  answer *a = data;
  assert_int_equal(status == 0, conn != NULL);
  a->calls++;
  a->done = true;
  a->status = status;
  (void)snprintf(a->detail, sizeof a->detail, "%s", detail);
  if (conn != NULL) {
    a->conn = *conn;
    conn->raw->ops->set_events(conn->raw, &raw_events, a);
    conn->raw->ops->want_read(conn->raw, true);
  }
}

static int start_dial(net *n, const char *text, answer *a, pu_transport_dial **out) {
  pu_multiaddr addr;
  pu_ma_target target;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &addr, NULL), 0);
  pu_multiaddr_target(&addr, &target);
  if (target.is_dns) { /* looked up, as the dialer does */
    target.is_dns = false;
    target.addr = (pu_sockaddr){.family = 4, .ip = {10, 0, 0, 2}};
    memcpy(target.sni, target.host, sizeof target.sni);
  }
  assert_true(n->ws->ops->can_dial(n->ws, &target));
  *a = (answer){0};
  int rc = n->ws->ops->dial(n->ws, &addr, &target, on_dialled, a, out);
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
  return a->status;
}

static void close_conn(net *n, answer *a) {
  a->conn.raw->ops->close(a->conn.raw, false);
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
  drop(n);
}

static void test_dial(void **state) {
  net *n = *state;
  static const struct {
    const char *addr, *remote;
  } cases[] = {{"/ip4/10.0.0.2/tcp/80/ws", "/ip4/10.0.0.2/tcp/80/ws"},
               {"/dns4/b.example/tcp/80/ws/http-path/x", "/ip4/10.0.0.2/tcp/80/ws"},
               {"/ip6/2001:db8::2/tcp/4001/ws", "/ip6/2001:db8::2/tcp/4001/ws"}};
  char text[PU_MULTIADDR_MAX_TEXT];
  answer a;
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    assert_int_equal(dial(n, cases[i].addr, &a), 0);
    assert_string_equal(a.conn.transport, "ws");
    assert_string_equal(pu_multiaddr_text(&a.conn.remote, text), cases[i].remote);
    close_conn(n, &a);
  }
}

static void test_requests(void **state) {
  net *n = *state;
  static const struct {
    const char *addr, *begin;
  } cases[] = {
      {"/ip4/10.0.0.2/tcp/80/ws", "GET / HTTP/1.1\r\nHost: 10.0.0.2\r\n"},
      {"/dns/b.example/tcp/80/ws", "GET / HTTP/1.1\r\nHost: b.example\r\n"},
      {"/dns/b.example/tcp/80/ws/http-path/a%2Fb", "GET /a/b HTTP/1.1\r\nHost: b.example\r\n"},
      {"/ip6/2001:db8::2/tcp/4001/ws", "GET / HTTP/1.1\r\nHost: [2001:db8::2]:4001\r\n"},
  };
  answer a;
  n->kind = SERVER_REDIRECTS;
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    assert_int_equal(dial(n, cases[i].addr, &a), PU_E_REFUSED);
    assert_non_null(strstr(a.detail, "https://b.example/new"));
    assert_memory_equal(n->request, cases[i].begin, strlen(cases[i].begin));
  }
}

static void test_failures(void **state) {
  net *n = *state;
  answer a;
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/9/ws", &a), PU_E_REFUSED);
  n->kind = SERVER_CLOSES;
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/80/ws", &a), PU_E_EOF);
  n->kind = SERVER_SILENT;
  const uint64_t begin = pu_sim_now_us(n->sim);
  assert_int_equal(dial(n, "/ip4/10.0.0.2/tcp/80/ws", &a), PU_E_TIMEOUT);
  assert_in_range(pu_sim_now_us(n->sim) - begin, PU_WS_UPGRADE_US, PU_WS_UPGRADE_US + SECOND_US);
}

/* pinned_addr writes the server's address with the hash of its certificate, or a wrong one. */
static void pinned_addr(net *n, bool wrong, char text[static PU_MULTIADDR_MAX_TEXT]) {
  static const char base[] = "/ip4/10.0.0.2/tcp/80";
  uint8_t pin[PU_TLS_WEB_PIN];
  pu_multiaddr addr;
  assert_int_equal(pu_tls_web_pin(n->web, pu_wall_ns(n->b) / 1000000000u, pin), 0);
  pin[31] ^= wrong ? 1 : 0;
  assert_int_equal(pu_multiaddr_from_text(base, sizeof base - 1, &addr, NULL), 0);
  assert_int_equal(pu_ws_append(&addr, true), 0);
  assert_int_equal(pu_ws_append_pin(&addr, pin), 0);
  (void)pu_multiaddr_text(&addr, text);
}

static void test_wss(void **state) {
  net *n = *state;
  char addr[PU_MULTIADDR_MAX_TEXT], text[PU_MULTIADDR_MAX_TEXT];
  answer a;
  n->kind = SERVER_TLS;
  pinned_addr(n, false, addr);
  assert_int_equal(dial(n, addr, &a), 0);
  assert_string_equal(a.conn.transport, "wss");
  assert_string_equal(pu_multiaddr_text(&a.conn.remote, text), "/ip4/10.0.0.2/tcp/80/tls/ws");
  close_conn(n, &a);
  pinned_addr(n, true, addr);
  assert_int_equal(dial(n, addr, &a), PU_E_CRYPTO);
  assert_non_null(strstr(a.detail, "certificate"));
  n->kind = SERVER_GOOD; /* which speaks no TLS */
  assert_int_not_equal(dial(n, addr, &a), 0);
  n->kind = SERVER_SILENT;
  assert_int_equal(dial(n, addr, &a), PU_E_TIMEOUT);
}

static void test_what_it_dials(void **state) {
  net *n = *state;
  static const struct {
    const char *text;
    bool can;
  } cases[] = {{"/ip4/1.2.3.4/tcp/1/ws", true},
               {"/ip4/1.2.3.4/tcp/0/ws", false},
               {"/dns/a.example/tcp/1/tls/ws", false},
               {"/ip4/1.2.3.4/tcp/1", false},
               {"/ip4/1.2.3.4/udp/1/quic-v1", false}};
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    pu_multiaddr addr;
    pu_ma_target target;
    assert_int_equal(pu_multiaddr_from_text(cases[i].text, strlen(cases[i].text), &addr, NULL), 0);
    pu_multiaddr_target(&addr, &target);
    assert_int_equal(n->ws->ops->can_dial(n->ws, &target), cases[i].can);
  }
}

static void test_cancel(void **state) {
  net *n = *state;
  char pinned[PU_MULTIADDR_MAX_TEXT];
  const char *const texts[] = {"/ip4/10.0.0.2/tcp/80/ws", "/dns4/b.example/tcp/80/ws", pinned};
  pinned_addr(n, false, pinned);
  for (size_t i = 0; i < PU_COUNT(texts); i++) {
    for (uint64_t after = 0; after < 120000; after += 1000) {
      answer a;
      pu_transport_dial *d;
      n->kind = texts[i] == pinned ? SERVER_TLS : SERVER_GOOD;
      assert_int_equal(start_dial(n, texts[i], &a, &d), 0);
      (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + after, NULL);
      if (a.done)
        a.conn.raw->ops->close(a.conn.raw, true);
      else
        n->ws->ops->cancel(d);
      const unsigned calls = a.calls;
      (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
      assert_int_equal(a.calls, calls);
      drop(n);
    }
  }
}

static void test_without_memory(void **state) {
  net *n = *state;
  unsigned failures = 0;
  char pinned[PU_MULTIADDR_MAX_TEXT];
  pinned_addr(n, false, pinned);
  n->kind = SERVER_TLS;
  for (uint64_t k = 1;; k++) {
    answer a;
    pu_mem_fail_at(&n->mem, k);
    const int rc = dial(n, pinned, &a);
    const bool reached = n->mem.fail_at == 0;
    pu_mem_fail_at(&n->mem, 0);
    if (rc == 0)
      a.conn.raw->ops->close(a.conn.raw, true);
    (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
    drop(n);
    if (!reached)
      break;
    assert_int_not_equal(rc,
                         0); /* the server, which shares the account, may be the one that fails */
    failures++;
  }
  assert_in_range(failures, 10, 60);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_dial),          TEST(test_requests), TEST(test_failures),       TEST(test_wss),
      TEST(test_what_it_dials), TEST(test_cancel),   TEST(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
