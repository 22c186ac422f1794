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

typedef struct alarm_probe {
  pu_timer timer;
  pu_sim *sim;
  unsigned fired;
  uint64_t fired_us;
  bool done;
} alarm_probe;

static void on_alarm(void *data) {
  alarm_probe *a = data;
  a->fired++;
  a->fired_us = pu_sim_now_us(a->sim);
  a->done = true;
}

/* A network without connections: time, chance, names. */
static pu_platform *one_host(pu_sim **sim, uint64_t seed) {
  static const pu_sockaddr addrs[2] = {{.family = 4, .ip = {10, 0, 0, 1}},
                                       {.family = 6, .ip = {0x20, 1, 0x0d, 0xb8, [15] = 1}}};
  pu_platform *p;
  assert_int_equal(pu_sim_new(seed, sim), 0);
  assert_int_equal(pu_sim_add_host(*sim, "one", addrs, 2, &p), 0);
  assert_int_equal(pu_sim_add_host(*sim, "none", addrs, 0, &p), PU_E_INVAL);
  return p;
}

static void test_virtual_time(void **state) {
  (void)state;
  pu_sim *sim;
  pu_platform *p = one_host(&sim, 1);
  const uint64_t begin = pu_now_us(p), wall = pu_wall_ns(p);
  alarm_probe day = {.sim = sim}, now = {.sim = sim};
  assert_false(pu_sim_step(sim)); /* nothing happens by itself */
  pu_timer_init(&day.timer, p, on_alarm, &day);
  pu_timer_init(&now.timer, p, on_alarm, &now);
  assert_int_equal(pu_timer_after(&day.timer, 86400 * SECOND), 0);
  assert_int_equal(pu_timer_after(&now.timer, 0), 0);
  assert_int_equal(now.fired, 0);
  assert_false(pu_sim_run(sim, begin + SECOND, &day.done));
  assert_int_equal(now.fired, 1);
  assert_int_equal(now.fired_us, begin);
  assert_true(pu_sim_run(sim, begin + 100000 * SECOND, &day.done));
  assert_int_equal(day.fired_us, begin + 86400 * SECOND); /* to the microsecond */
  assert_int_equal(pu_wall_ns(p) - wall, 86400 * SECOND * 1000);
  assert_true(pu_sim_run(sim, begin + 100000 * SECOND, NULL)); /* time passes without events */
  assert_int_equal(pu_now_us(p), begin + 100000 * SECOND);
  pu_sim_free(sim);
}

/* A timer that is moved again and again is one event, not many. */
static void test_moved_timers_are_cheap(void **state) {
  (void)state;
  pu_sim *sim;
  pu_platform *p = one_host(&sim, 1);
  alarm_probe a = {.sim = sim};
  unsigned steps = 0;
  pu_timer_init(&a.timer, p, on_alarm, &a);
  for (uint64_t i = 0; i < 100000; i++)
    assert_int_equal(pu_timer_after(&a.timer, SECOND + i), 0);
  const uint64_t due = pu_now_us(p) + SECOND + 99999;
  while (pu_sim_step(sim))
    steps++;
  assert_int_equal(a.fired, 1);
  assert_int_equal(a.fired_us, due);
  assert_true(steps <= 3);
  assert_int_equal(pu_timer_after(&a.timer, SECOND), 0); /* later, stopped, sooner */
  pu_timer_stop(&a.timer);
  assert_int_equal(pu_timer_after(&a.timer, SECOND / 2), 0);
  const uint64_t sooner = pu_now_us(p) + SECOND / 2;
  while (pu_sim_step(sim)) {
  }
  assert_int_equal(a.fired, 2);
  assert_int_equal(a.fired_us, sooner);
  pu_sim_free(sim);
}

static void test_chance(void **state) {
  (void)state;
  uint8_t a[37], b[37], c[37];
  uint8_t *const out[3] = {a, b, c};
  uint64_t drawn[3];
  for (unsigned i = 0; i < 3; i++) {
    pu_sim *sim;
    pu_platform *p = one_host(&sim, i / 2); /* seeds 0, 0, 1 */
    pu_random(p, out[i], sizeof(a));
    drawn[i] = pu_sim_random(sim);
    pu_sim_free(sim);
  }
  assert_memory_equal(a, b, sizeof(a));
  assert_memory_not_equal(a, c, sizeof(a));
  assert_true(drawn[0] == drawn[1] && drawn[0] != drawn[2]);
}

typedef struct answer {
  unsigned calls;
  int status;
  pu_sockaddr addr;
} answer;

static void on_resolved(void *data, int status, const pu_sockaddr *addrs, size_t count) {
  answer *a = data;
  a->calls++;
  a->status = status;
  assert_int_equal(count, status == 0 ? 1 : 0);
  if (count > 0)
    a->addr = addrs[0];
}

static void test_names_and_interfaces(void **state) {
  (void)state;
  static const struct {
    const char *host;
    int family, status;
    const char *text;
  } cases[] = {
      {"home.example", 0, 0, "10.0.0.9:22"},      {"home.example", 6, PU_E_NOT_FOUND, NULL},
      {"192.0.2.1", 4, 0, "192.0.2.1:22"},        {"2001:db8::7", 0, 0, "[2001:db8::7]:22"},
      {"other.example", 0, PU_E_NOT_FOUND, NULL},
  };
  pu_sim *sim;
  pu_platform *p = one_host(&sim, 1);
  const pu_sockaddr home = {.family = 4, .ip = {10, 0, 0, 9}};
  pu_resolve *lookup;
  assert_int_equal(pu_sim_name(sim, "home.example", &home), 0);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    char text[PU_SOCKADDR_TEXT];
    answer a = {0};
    assert_int_equal(
        pu_resolve_start(p, cases[i].host, 22, cases[i].family, on_resolved, &a, &lookup), 0);
    assert_int_equal(a.calls, 0);
    while (pu_sim_step(sim)) {
    }
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.status, cases[i].status);
    if (a.status == 0)
      assert_string_equal(pu_sockaddr_text(&a.addr, text), cases[i].text);
  }
  answer a = {0};
  assert_int_equal(pu_resolve_start(p, "home.example", 22, 0, on_resolved, &a, &lookup), 0);
  pu_resolve_cancel(lookup);
  while (pu_sim_step(sim)) {
  }
  assert_int_equal(a.calls, 0);
  assert_int_equal(pu_resolve_start(p, "home.example", 22, 0, on_resolved, &a, &lookup), 0);
  pu_resolve_cancel(lookup); /* and the network may end with a look-up under way */
  pu_sockaddr addrs[4];
  assert_int_equal(pu_interface_addrs(p, addrs, 4), 2);
  assert_int_equal(addrs[1].family, 6);
  assert_int_equal(pu_interface_addrs(p, addrs, 1), 1);
  pu_sim_free(sim);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bytes_arrive_in_order),  cmocka_unit_test(test_seeds_replay),
      cmocka_unit_test(test_rate_and_delay),         cmocka_unit_test(test_nobody_there),
      cmocka_unit_test(test_cut_is_seen_by_both),    cmocka_unit_test(test_abort_reaches_the_other),
      cmocka_unit_test(test_down_link_waits),        cmocka_unit_test(test_virtual_time),
      cmocka_unit_test(test_moved_timers_are_cheap), cmocka_unit_test(test_chance),
      cmocka_unit_test(test_names_and_interfaces),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
