/* The simulated network: the same seed is the same run, bytes arrive in order whatever the link
 * does, and failures are seen where they should be. */
#include "platform/sim.h"

#include <stdlib.h>
#include <string.h>

#include "support/cmocka.h"

#define BYTES 300000u
#define SECOND UINT64_C(1000000)

typedef struct side {
  pu_tcp *tcp;
  uint64_t sent, received, to_send;
  uint8_t salt;
  bool eof, shut, connected;
  int error, connect_status;
  unsigned short_reads;
} side;

typedef struct test_net {
  pu_sim *sim;
  pu_platform *hosts[2];
  pu_sockaddr addrs[2];
  pu_tcp_listener *listener;
  side client, server;
} test_net;

static test_net *r; /* the running test's: callbacks have no other way to the second side */

static uint8_t byte_at(uint64_t i, uint8_t salt) {
  return (uint8_t)(i * 131 + (i >> 9) + salt);
}

static void send_more(side *s) {
  uint8_t memory[9000];
  while (s->sent < s->to_send) {
    size_t len = sizeof memory;
    if (len > s->to_send - s->sent)
      len = (size_t)(s->to_send - s->sent);
    for (size_t i = 0; i < len; i++)
      memory[i] = byte_at(s->sent + i, s->salt);
    const pu_iov iov[2] = {{memory, len / 3}, {memory + len / 3, len - len / 3}};
    ssize_t n = pu_tcp_writev(s->tcp, iov, 2);
    if (n == PU_E_AGAIN)
      return; /* on_writable repeats */
    if (n < 0) {
      s->error = (int)n;
      pu_tcp_want(s->tcp, 0);
      return;
    }
    s->sent += (uint64_t)n;
  }
  if (!s->shut)
    (void)pu_tcp_shutdown(s->tcp);
  s->shut = true;
  pu_tcp_want(s->tcp, s->eof ? 0 : PU_WANT_READ);
}

static void on_connect(void *data, int status) {
  side *s = data;
  s->connected = true;
  s->connect_status = status;
  if (status == 0)
    pu_tcp_want(s->tcp, PU_WANT_READ | PU_WANT_WRITE);
}

static void on_readable(void *data) {
  side *s = data;
  uint8_t memory[5000];
  const pu_iov iov[2] = {{memory, 100}, {memory + 100, sizeof memory - 100}};
  ssize_t n = pu_tcp_readv(s->tcp, iov, 2);
  if (n == PU_E_AGAIN)
    return;
  if (n < 0)
    s->error = (int)n;
  if (n == 0)
    s->eof = true;
  if (n <= 0) {
    pu_tcp_want(s->tcp, n == 0 && !s->shut ? PU_WANT_WRITE : 0);
    return;
  }
  const side *other = s == &r->client ? &r->server : &r->client;
  for (ssize_t i = 0; i < n; i++)
    assert_int_equal(memory[i], byte_at(s->received + (uint64_t)i, other->salt));
  s->received += (uint64_t)n;
  s->short_reads += n < 100;
}

static void on_writable(void *data) {
  send_more(data);
}

static const pu_tcp_events events = {on_connect, on_readable, on_writable};

static void on_accept(void *data, pu_tcp *tcp) {
  side *s = data;
  s->tcp = tcp;
  pu_tcp_set_events(tcp, &events, s);
  pu_tcp_want(tcp, PU_WANT_READ | PU_WANT_WRITE);
}

static void start(test_net *rig, uint64_t seed, const pu_sim_link *link) {
  static const char *const ips[] = {"10.0.0.1", "10.0.0.2"};
  memset(rig, 0, sizeof *rig);
  r = rig;
  assert_int_equal(pu_sim_new(seed, &rig->sim), 0);
  for (int i = 0; i < 2; i++) {
    assert_true(pu_sockaddr_parse_ip(ips[i], &rig->addrs[i]));
    assert_int_equal(pu_sim_add_host(rig->sim, ips[i], &rig->addrs[i], 1, &rig->hosts[i]), 0);
  }
  assert_int_equal(pu_sim_set_link(rig->sim, NULL, NULL, link), 0);
  rig->client = (side){.to_send = BYTES, .salt = 1};
  rig->server = (side){.to_send = BYTES / 2, .salt = 99};
  rig->addrs[1].port = 80;
  assert_int_equal(
      pu_tcp_listen(rig->hosts[1], &rig->addrs[1], 0, on_accept, &rig->server, &rig->listener), 0);
  assert_int_equal(
      pu_tcp_connect(rig->hosts[0], NULL, &rig->addrs[1], &events, &rig->client, &rig->client.tcp),
      0);
}

static void finish(test_net *rig) {
  pu_tcp_close(rig->client.tcp, false);
  pu_tcp_close(rig->server.tcp, false);
  pu_tcp_listener_close(rig->listener);
  assert_int_equal(pu_sim_open_sockets(rig->sim), 0);
  pu_sim_free(rig->sim);
}

static uint64_t whole_run(uint64_t seed) {
  test_net rig;
  const pu_sim_link link = {
      .delay_us = 20000, .jitter_us = 30000, .loss_ppm = 50000, .rate_bytes_s = 1000000};
  start(&rig, seed, &link);
  while (!(rig.client.eof && rig.server.eof))
    assert_true(pu_sim_step(rig.sim));
  assert_int_equal(rig.server.received, BYTES);
  assert_int_equal(rig.client.received, BYTES / 2);
  const uint64_t end = pu_sim_now_us(rig.sim);
  finish(&rig);
  return end;
}

static void test_bytes_arrive_in_order(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++)
    (void)whole_run(seed);
}

static void test_seeds_replay(void **state) {
  (void)state;
  const uint64_t first = whole_run(7);
  assert_int_equal(whole_run(7), first);
  assert_int_not_equal(whole_run(8), first);
}

static void test_rate_and_delay(void **state) {
  (void)state;
  test_net rig;
  const pu_sim_link link = {.delay_us = 100000, .rate_bytes_s = 1000000};
  start(&rig, 3, &link);
  const uint64_t began = pu_sim_now_us(rig.sim);
  while (!rig.server.eof)
    assert_true(pu_sim_step(rig.sim));
  const uint64_t took = pu_sim_now_us(rig.sim) - began;
  assert_true(took >= 200000 + BYTES); /* there, back, and a microsecond a byte */
  assert_true(took < 200000 + BYTES + 300000);
  finish(&rig);
}

static void test_nobody_there(void **state) {
  (void)state;
  test_net rig;
  const pu_sim_link link = {.delay_us = 1000};
  start(&rig, 4, &link);
  side s = {.to_send = 1};
  pu_sockaddr sa = rig.addrs[1];
  sa.port = 81;
  assert_int_equal(pu_tcp_connect(rig.hosts[0], NULL, &sa, &events, &s, &s.tcp), 0);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND, &s.connected);
  assert_int_equal(s.connect_status, PU_E_REFUSED);
  pu_tcp_close(s.tcp, true);
  s = (side){.to_send = 1};
  assert_true(pu_sockaddr_parse_ip("10.9.9.9", &sa));
  assert_int_equal(pu_tcp_connect(rig.hosts[0], NULL, &sa, &events, &s, &s.tcp), 0);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + 10 * SECOND, &s.connected);
  assert_int_equal(s.connect_status, PU_E_UNREACHABLE);
  pu_tcp_close(s.tcp, true);
  pu_tcp_listener *second;
  assert_int_equal(pu_tcp_listen(rig.hosts[1], &rig.addrs[1], 0, on_accept, NULL, &second),
                   PU_E_IN_USE);
  finish(&rig);
}

static void test_cut_is_seen_by_both(void **state) {
  (void)state;
  test_net rig;
  const pu_sim_link link = {.delay_us = 5000, .rate_bytes_s = 100000};
  start(&rig, 5, &link);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND, NULL);
  assert_true(rig.server.received > 0 && rig.server.received < BYTES);
  pu_sim_cut(rig.sim, rig.hosts[0], rig.hosts[1]);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND, NULL);
  assert_int_equal(rig.client.error, PU_E_RESET);
  assert_int_equal(rig.server.error, PU_E_RESET);
  finish(&rig);
}

static void test_abort_reaches_the_other(void **state) {
  (void)state;
  test_net rig;
  const pu_sim_link link = {.delay_us = 5000, .rate_bytes_s = 100000};
  start(&rig, 6, &link);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND / 2, NULL);
  pu_tcp_close(rig.client.tcp, true);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND, NULL);
  assert_int_equal(rig.server.error, PU_E_RESET);
  rig.client.tcp = NULL;
  finish(&rig);
}

static void test_down_link_waits(void **state) {
  (void)state;
  test_net rig;
  pu_sim_link link = {.delay_us = 5000, .rate_bytes_s = 200000};
  start(&rig, 9, &link);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND / 2, NULL);
  link.down = true;
  assert_int_equal(pu_sim_set_link(rig.sim, NULL, NULL, &link), 0);
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + SECOND / 10, NULL);
  const uint64_t before = rig.server.received;
  (void)pu_sim_run(rig.sim, pu_sim_now_us(rig.sim) + 20 * SECOND, NULL);
  assert_int_equal(rig.server.received, before);
  link.down = false;
  assert_int_equal(pu_sim_set_link(rig.sim, NULL, NULL, &link), 0);
  while (!(rig.client.eof && rig.server.eof))
    assert_true(pu_sim_step(rig.sim));
  assert_int_equal(rig.server.received, BYTES);
  finish(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bytes_arrive_in_order), cmocka_unit_test(test_seeds_replay),
      cmocka_unit_test(test_rate_and_delay),        cmocka_unit_test(test_nobody_there),
      cmocka_unit_test(test_cut_is_seen_by_both),   cmocka_unit_test(test_abort_reaches_the_other),
      cmocka_unit_test(test_down_link_waits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
