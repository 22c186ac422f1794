/* TCP of the libuv door, on real loopback sockets. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "platform/uv.h"
#include "support/cmocka.h"

#define ENDS_MAX 16

static uv_loop_t loop;
static pu_platform *platform;
static pu_tcp_listener *listener;

typedef struct end {
  pu_tcp *tcp;
  int connect_status;
  unsigned connects, readables, writables;
  uint64_t received;
  bool eof, failed, read_on, close_in_event;
  int error;
  char last[64];
} end;

static end accepted[ENDS_MAX];
static size_t accepted_count;

static void on_connect(void *data, int status) {
  end *e = data;
  e->connects++;
  e->connect_status = status;
  if (e->close_in_event) {
    pu_tcp_close(e->tcp, true);
    e->tcp = NULL;
  }
}

static void on_readable(void *data) {
  end *e = data;
  uint8_t memory[4096];
  const pu_iov iov[2] = {{memory, 7}, {memory + 7, sizeof memory - 7}};
  e->readables++;
  if (e->close_in_event) {
    pu_tcp_close(e->tcp, false);
    e->tcp = NULL;
    return;
  }
  ssize_t n = pu_tcp_readv(e->tcp, iov, 2);
  if (n == PU_E_AGAIN)
    return;
  if (n <= 0) {
    e->eof = n == 0;
    e->failed = n < 0;
    e->error = (int)n;
    pu_tcp_want(e->tcp, 0);
    return;
  }
  e->received += (uint64_t)n;
  memcpy(e->last, memory, (size_t)n < sizeof e->last ? (size_t)n : sizeof e->last);
}

static void on_writable(void *data) {
  end *e = data;
  e->writables++;
  pu_tcp_want(e->tcp, e->read_on ? PU_WANT_READ : 0);
}

static const pu_tcp_events events = {on_connect, on_readable, on_writable};

static void on_accept(void *data, pu_tcp *tcp) {
  (void)data;
  assert_true(accepted_count < ENDS_MAX);
  end *e = &accepted[accepted_count++];
  *e = (end){.tcp = tcp, .read_on = true};
  pu_tcp_set_events(tcp, &events, e);
  pu_tcp_want(tcp, PU_WANT_READ);
}

static void run_until(const bool *done) {
  const uint64_t until = pu_now_us(platform) + 5000000;
  while (!*done && pu_now_us(platform) < until)
    (void)uv_run(&loop, UV_RUN_NOWAIT);
  assert_true(*done);
}
#define RUN_UNTIL(condition)                               \
  do {                                                     \
    const uint64_t until_ = pu_now_us(platform) + 5000000; \
    while (!(condition) && pu_now_us(platform) < until_)   \
      (void)uv_run(&loop, UV_RUN_NOWAIT);                  \
    assert_true(condition);                                \
  } while (0)

static pu_sockaddr address(const char *ip, uint16_t port) {
  pu_sockaddr sa;
  assert_true(pu_sockaddr_parse_ip(ip, &sa));
  sa.port = port;
  return sa;
}

static pu_sockaddr bound(void) {
  pu_sockaddr sa;
  pu_tcp_listener_address(listener, &sa);
  return sa;
}

static int setup(void **state) {
  (void)state;
  const pu_sockaddr sa = address("127.0.0.1", 0);
  accepted_count = 0;
  assert_int_equal(uv_loop_init(&loop), 0);
  assert_int_equal(pu_uv_new(&loop, &platform), 0);
  assert_int_equal(pu_tcp_listen(platform, &sa, PU_LISTEN_REUSE_PORT, on_accept, NULL, &listener),
                   0);
  return 0;
}

static void on_gone(void *data) {
  *(bool *)data = true;
}

static int teardown(void **state) {
  (void)state;
  bool gone = false;
  for (size_t i = 0; i < accepted_count; i++)
    pu_tcp_close(accepted[i].tcp, true);
  pu_tcp_listener_close(listener);
  pu_uv_free(platform, on_gone, &gone);
  run_until(&gone);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&loop), 0);
  return 0;
}

static void connect_end(end *e, const pu_sockaddr *local) {
  const pu_sockaddr to = bound();
  const size_t before = accepted_count;
  *e = (end){.read_on = true};
  assert_int_equal(pu_tcp_connect(platform, local, &to, &events, e, &e->tcp), 0);
  assert_int_equal(e->connects, 0); /* never inside the call */
  RUN_UNTIL(e->connects == 1 && accepted_count == before + 1);
  assert_int_equal(e->connect_status, 0);
}

static void send_text(end *e, const char *text) {
  const pu_iov iov[2] = {{(void *)(uintptr_t)text, 2},
                         {(void *)(uintptr_t)(text + 2), strlen(text) - 2}};
  assert_int_equal(pu_tcp_writev(e->tcp, iov, 2), strlen(text));
}

static void test_both_ways_and_half_close(void **state) {
  (void)state;
  end e;
  pu_sockaddr a, b;
  connect_end(&e, NULL);
  pu_tcp_local(e.tcp, &a);
  pu_tcp_remote(accepted[0].tcp, &b);
  assert_true(pu_sockaddr_equal(&a, &b));
  send_text(&e, "from the dialler");
  RUN_UNTIL(accepted[0].received == 16);
  assert_memory_equal(accepted[0].last, "from the dialler", 16);
  assert_int_equal(pu_tcp_shutdown(e.tcp), 0);
  RUN_UNTIL(accepted[0].eof);
  send_text(&accepted[0], "and back"); /* the other direction goes on */
  pu_tcp_want(e.tcp, PU_WANT_READ);
  RUN_UNTIL(e.received == 8);
  pu_tcp_close(accepted[0].tcp, false);
  accepted[0].tcp = NULL;
  RUN_UNTIL(e.eof);
  pu_tcp_close(e.tcp, false);
}

static void test_abort_is_told(void **state) {
  (void)state;
  end e;
  connect_end(&e, NULL);
  pu_tcp_close(e.tcp, true);
  RUN_UNTIL(accepted[0].failed);
  assert_int_equal(accepted[0].error, PU_E_RESET);
}

/* A socket whose owner wants nothing stays silent, whatever comes, and tells everything later. */
static void test_no_interest_no_events(void **state) {
  (void)state;
  end e;
  connect_end(&e, NULL);
  pu_tcp_want(accepted[0].tcp, 0);
  send_text(&e, "unseen");
  pu_tcp_close(e.tcp, false);
  const uint64_t until = pu_now_us(platform) + 50000;
  while (pu_now_us(platform) < until)
    (void)uv_run(&loop, UV_RUN_NOWAIT);
  assert_int_equal(accepted[0].received, 0);
  assert_true(accepted[0].readables <= 1);
  pu_tcp_want(accepted[0].tcp, PU_WANT_READ);
  RUN_UNTIL(accepted[0].eof);
  assert_int_equal(accepted[0].received, 6);
}

static void test_back_pressure(void **state) {
  (void)state;
  static uint8_t block[65536];
  end e;
  uint64_t sent = 0;
  ssize_t n;
  connect_end(&e, NULL);
  pu_tcp_want(accepted[0].tcp, 0);
  const pu_iov iov = {block, sizeof block};
  while ((n = pu_tcp_writev(e.tcp, &iov, 1)) > 0)
    sent += (uint64_t)n;
  assert_int_equal(n, PU_E_AGAIN);
  e.read_on = false;
  pu_tcp_want(e.tcp, PU_WANT_WRITE);
  for (int i = 0; i < 100; i++)
    (void)uv_run(&loop, UV_RUN_NOWAIT);
  assert_int_equal(e.writables, 0);
  pu_tcp_want(accepted[0].tcp, PU_WANT_READ);
  RUN_UNTIL(e.writables == 1 && accepted[0].received == sent);
  pu_tcp_close(e.tcp, false);
}

static void test_refused(void **state) {
  (void)state;
  end e = {.read_on = false};
  pu_tcp_listener *other;
  pu_sockaddr sa = address("127.0.0.1", 0);
  assert_int_equal(pu_tcp_listen(platform, &sa, 0, on_accept, NULL, &other), 0);
  pu_tcp_listener_address(other, &sa);
  pu_tcp_listener_close(other); /* nobody listens there now */
  int status = pu_tcp_connect(platform, NULL, &sa, &events, &e, &e.tcp);
  if (status == 0) {
    RUN_UNTIL(e.connects == 1);
    status = e.connect_status;
    pu_tcp_close(e.tcp, true);
  }
  assert_int_equal(status, PU_E_REFUSED);
}

static void test_port_in_use(void **state) {
  (void)state;
  pu_tcp_listener *other;
  const pu_sockaddr taken = bound(), far = address("192.0.2.1", 0);
  assert_int_equal(pu_tcp_listen(platform, &taken, 0, on_accept, NULL, &other), PU_E_IN_USE);
  assert_int_equal(pu_tcp_listen(platform, &taken, PU_LISTEN_REUSE_PORT, on_accept, NULL, &other),
                   PU_E_IN_USE);
  assert_int_equal(pu_tcp_listen(platform, &far, 0, on_accept, NULL, &other), PU_E_NO_ADDRESS);
}

static void test_dial_from_listening_port(void **state) {
  (void)state;
  pu_tcp_listener *other;
  pu_sockaddr here = address("127.0.0.1", 0), seen;
  end e;
  assert_int_equal(pu_tcp_listen(platform, &here, PU_LISTEN_REUSE_PORT, on_accept, NULL, &other),
                   0);
  pu_tcp_listener_address(other, &here);
  connect_end(&e, &here);
  pu_tcp_remote(accepted[0].tcp, &seen);
  assert_int_equal(seen.port, here.port);
  pu_tcp_close(e.tcp, true);
  pu_tcp_listener_close(other);
}

static void test_closing_inside_events(void **state) {
  (void)state;
  const pu_sockaddr to = bound();
  end e = {.close_in_event = true};
  assert_int_equal(pu_tcp_connect(platform, NULL, &to, &events, &e, &e.tcp), 0);
  RUN_UNTIL(e.connects == 1 && accepted_count == 1);
  end f;
  connect_end(&f, NULL);
  f.close_in_event = true;
  pu_tcp_want(f.tcp, PU_WANT_READ);
  send_text(&accepted[1], "close!");
  RUN_UNTIL(f.tcp == NULL);
  assert_int_equal(f.readables, 1);
  end g = {.read_on = true}; /* closed before it is connected */
  assert_int_equal(pu_tcp_connect(platform, NULL, &to, &events, &g, &g.tcp), 0);
  pu_tcp_close(g.tcp, true);
  for (int i = 0; i < 50; i++)
    (void)uv_run(&loop, UV_RUN_NOWAIT);
  assert_int_equal(g.connects, 0);
}

/* Out of descriptors, the listener pauses and goes on by itself. */
static void test_out_of_descriptors(void **state) {
  (void)state;
  struct rlimit before, tight;
  const pu_sockaddr to = bound();
  end e = {.read_on = true};
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  assert_true(lowest >= 0);
  (void)close(lowest);
  tight = before;
  tight.rlim_cur = (rlim_t)lowest + 1; /* room for the dialler, not for the accepted one */
  assert_int_equal(pu_tcp_connect(platform, NULL, &to, &events, &e, &e.tcp), 0);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
  const uint64_t until = pu_now_us(platform) + 50000;
  while (pu_now_us(platform) < until)
    (void)uv_run(&loop, UV_RUN_NOWAIT);
  assert_int_equal(accepted_count, 0);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  RUN_UNTIL(accepted_count == 1);
  pu_tcp_close(e.tcp, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_both_ways_and_half_close),
      TEST(test_abort_is_told),
      TEST(test_no_interest_no_events),
      TEST(test_back_pressure),
      TEST(test_refused),
      TEST(test_port_in_use),
      TEST(test_dial_from_listening_port),
      TEST(test_closing_inside_events),
      TEST(test_out_of_descriptors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
