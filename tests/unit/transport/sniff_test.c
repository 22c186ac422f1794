/* Telling protocols by their first byte, in the simulated network. */
#include "transport/sniff.h"

#include "platform/sim.h"
#include "support/unit.h"

#define SECOND_US 1000000u

typedef struct net {
  pu_sim *sim;
  pu_platform *a, *b;
  pu_mem mem;
  pu_rx_memory rx;
  pu_tcp_listener *listener;
  pu_tcp *client;
  bool gone; /* the client saw the end */
  unsigned kinds;
  int rc; /* of pu_sniff_start */
  pu_list list;
  unsigned sniffed;
  pu_sniff_kind kind;
  bool ignore; /* close instead of taking */
  pu_raw *raw;
  uint8_t got[64];
  size_t got_len;
  const uint8_t *first_memory;
} net;

static void on_bytes(void *user, pu_span data) {
  net *n = user;
  assert_true(n->got_len + data.len <= sizeof n->got);
  if (n->got_len == 0)
    n->first_memory = data.data;
  memcpy(n->got + n->got_len, data.data, data.len);
  n->got_len += data.len;
}
static void on_writable(void *user) {
  (void)user;
}
static void on_end(void *user, int status) {
  (void)user;
  (void)status;
}
static const pu_raw_events taker = {
    .on_bytes = on_bytes, .on_writable = on_writable, .on_end = on_end};

static void on_sniffed(void *data, pu_sniff_kind kind, const pu_transport_conn *conn) {
  net *n = data;
  n->sniffed++;
  n->kind = kind;
  assert_string_equal(conn->transport, "tcp");
  if (n->ignore) {
    conn->raw->ops->close(conn->raw, true);
    return;
  }
  n->raw = conn->raw;
  n->raw->ops->set_events(n->raw, &taker, n);
  n->raw->ops->want_read(n->raw, true);
}

static void on_accept(void *data, pu_tcp *tcp) {
  net *n = data;
  pu_transport_conn conn = {.transport = "tcp"};
  n->rc = pu_tcp_raw_new(&n->mem, tcp, &n->rx, &conn.raw);
  if (n->rc == 0)
    n->rc = pu_sniff_start(&n->mem, n->b, &conn, n->kinds, on_sniffed, n, &n->list);
}

static void client_readable(void *data) {
  net *n = data;
  uint8_t byte;
  const pu_iov iov = {&byte, 1};
  const ssize_t got = pu_tcp_readv(n->client, &iov, 1);
  assert_true(got <= 0); /* nobody answers */
  if (got != PU_E_AGAIN) {
    n->gone = true;
    pu_tcp_want(n->client, 0);
  }
}
static void client_connected(void *data, int status) {
  net *n = data;
  assert_int_equal(status, 0);
  pu_tcp_want(n->client, PU_WANT_READ);
}
static const pu_tcp_events client_events = {client_connected, client_readable, NULL};

static int setup(void **state) {
  net *n = calloc(1, sizeof *n);
  const pu_sockaddr a = {.family = 4, .ip = {10, 0, 0, 1}};
  const pu_sockaddr b = {.family = 4, .ip = {10, 0, 0, 2}, .port = 4001};
  assert_non_null(n);
  assert_int_equal(pu_sim_new(3, &n->sim), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "a", &a, 1, &n->a), 0);
  assert_int_equal(pu_sim_add_host(n->sim, "b", &b, 1, &n->b), 0);
  assert_int_equal(pu_tcp_listen(n->b, &b, 0, on_accept, n, &n->listener), 0);
  pu_mem_init(&n->mem, NULL, PU_MEM_UNLIMITED);
  pu_list_init(&n->list);
  n->kinds = PU_SNIFF_PLAIN | PU_SNIFF_HTTP | PU_SNIFF_TLS;
  n->rx.bytes = pu_alloc(&n->mem, PU_SPAN_HEAD + PU_RX_BYTES + PU_SPAN_TAIL);
  assert_non_null(n->rx.bytes);
  *state = n;
  return 0;
}

static void drop(net *n) {
  if (n->raw != NULL)
    n->raw->ops->close(n->raw, true);
  n->raw = NULL;
  pu_tcp_close(n->client, true);
  n->client = NULL;
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
}

static int teardown(void **state) {
  net *n = *state;
  drop(n);
  pu_tcp_listener_close(n->listener);
  pu_free(n->rx.bytes);
  pu_mem_deinit(&n->mem);
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
  free(n);
  return 0;
}

static void connect_client(net *n) {
  const pu_sockaddr to = {.family = 4, .ip = {10, 0, 0, 2}, .port = 4001};
  n->sniffed = 0;
  n->got_len = 0;
  n->gone = false;
  assert_int_equal(pu_tcp_connect(n->a, NULL, &to, &client_events, n, &n->client), 0);
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
}

static void say(net *n, const char *text) {
  for (size_t len = strlen(text), done = 0; done < len;) { /* a write may take less */
    const pu_iov iov = {(void *)(uintptr_t)(text + done), len - done};
    const ssize_t written = pu_tcp_writev(n->client, &iov, 1);
    assert_true(written > 0);
    done += (size_t)written;
  }
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
}

static void test_kinds(void **state) {
  net *n = *state;
  static const struct {
    const char *text;
    pu_sniff_kind kind;
  } cases[] = {{"\x13/multistream/1.0.0\n", PU_SNIFF_PLAIN},
               {"GET / HTTP/1.1\r\n", PU_SNIFF_HTTP},
               {"G", PU_SNIFF_HTTP},
               {"\x16\x03\x01", PU_SNIFF_TLS},
               {"POST / HTTP/1.1\r\n", 0},
               {"SSH-2.0-x\r\n", 0},
               {"\xff", 0}};
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    for (unsigned kinds = 1; kinds < 8; kinds++) {
      n->kinds = kinds;
      connect_client(n);
      say(n, cases[i].text);
      if ((cases[i].kind & kinds) != 0) {
        assert_int_equal(n->sniffed, 1);
        assert_int_equal(n->kind, cases[i].kind);
        assert_int_equal(n->got_len, strlen(cases[i].text));
        assert_memory_equal(n->got, cases[i].text, n->got_len);
        assert_ptr_equal(n->first_memory, n->rx.bytes + PU_SPAN_HEAD); /* where they were read */
        say(n, "more");
        assert_int_equal(n->got_len, strlen(cases[i].text) + 4);
        assert_false(n->gone);
      } else {
        assert_int_equal(n->sniffed, 0);
        assert_true(n->gone);
      }
      assert_true(pu_list_empty(&n->list));
      drop(n);
    }
  }
}

static void test_silence(void **state) {
  net *n = *state;
  connect_client(n);
  assert_false(pu_list_empty(&n->list));
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + PU_SNIFF_US - 2 * SECOND_US, NULL);
  assert_false(n->gone);
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + 3 * SECOND_US, NULL);
  assert_true(n->gone && pu_list_empty(&n->list));
  assert_int_equal(n->sniffed, 0);
}

static void test_ends(void **state) {
  net *n = *state;
  connect_client(n); /* the client's */
  pu_tcp_close(n->client, false);
  n->client = NULL;
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
  assert_true(pu_list_empty(&n->list));
  connect_client(n); /* ours */
  pu_sniff_end(&n->list);
  assert_true(pu_list_empty(&n->list));
  (void)pu_sim_run(n->sim, pu_sim_now_us(n->sim) + SECOND_US, NULL);
  assert_true(n->gone);
  drop(n);
  n->ignore = true; /* the taker's */
  connect_client(n);
  say(n, "GET");
  assert_int_equal(n->sniffed, 1);
  assert_true(n->gone && n->got_len == 0);
}

static void test_without_memory(void **state) {
  net *n = *state;
  for (uint64_t k = 1; k <= 2; k++) {
    pu_mem_fail_at(&n->mem, k);
    connect_client(n);
    assert_int_equal(n->mem.fail_at, 0);
    assert_int_equal(n->rc, PU_E_NOMEM);
    assert_true(n->gone && pu_list_empty(&n->list));
    drop(n);
  }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {TEST(test_kinds), TEST(test_silence), TEST(test_ends),
                                     TEST(test_without_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
