/* The libuv door: clocks, chance, timers, its place on a loop, names, interfaces. */
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "support/uv_rig.h"

/* ---- time, chance, loops ---- */

static void test_clocks(void **state) {
  rig *r = *state;
  const uint64_t begin = pu_now_us(r->p);
  uint64_t last = begin;
  for (int i = 0; i < 1000; i++) {
    const uint64_t now = pu_now_us(r->p);
    assert_true(now >= last);
    last = now;
  }
  TURN(r, 20);
  assert_true(pu_now_us(r->p) - begin >= 20000);
  const uint64_t wall_s = pu_wall_ns(r->p) / 1000000000u;
  const uint64_t libc_s = (uint64_t)time(NULL);
  assert_true(wall_s + 2 >= libc_s && wall_s <= libc_s + 2);
}

static void test_random(void **state) {
  rig *r = *state;
  uint8_t a[1024] = {0}, b[1024] = {0};
  pu_random(r->p, a, sizeof(a));
  pu_random(r->p, b, sizeof(b));
  assert_memory_not_equal(a, b, sizeof(a));
  unsigned zeros = 0;
  for (size_t i = 0; i < sizeof(a); i++)
    zeros += a[i] == 0;
  assert_true(zeros < 40); /* 4 are to be expected */
  memset(b, 0xaa, sizeof(b));
  pu_random(r->p, b + 8, 0);
  assert_int_equal(b[8], 0xaa);
}

static void test_machine(void **state) {
  rig *r = *state;
  pu_machine machine;
  struct rlimit files;
  pu_machine_get(r->p, &machine);
  const uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  assert_true(machine.memory_bytes > 0 && machine.memory_bytes <= pages + pages / 8);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
  assert_true(machine.descriptors == files.rlim_cur);
}

typedef struct alarm_probe {
  rig *rig;
  pu_timer timer;
  unsigned fired;
  uint64_t fired_us;
  bool again;
} alarm_probe;

static void on_alarm(void *data) {
  alarm_probe *a = data;
  a->fired++;
  a->fired_us = pu_now_us(a->rig->p);
  if (a->again)
    assert_int_equal(pu_timer_after(&a->timer, 0), 0);
}

static void test_timers(void **state) {
  rig *r = *state;
  alarm_probe a[4];
  const uint64_t delays[4] = {0, 1, 1500, 30000};
  const uint64_t begin = pu_now_us(r->p);
  for (unsigned i = 0; i < 4; i++) {
    a[i] = (alarm_probe){.rig = r};
    pu_timer_init(&a[i].timer, r->p, on_alarm, &a[i]);
    assert_int_equal(pu_timer_after(&a[i].timer, delays[i]), 0);
    assert_int_equal(a[i].fired, 0);
  }
  assert_int_equal(pu_uv_loop_run(r->loop), 0); /* ends by itself: nothing is left to wait for */
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal(a[i].fired, 1);
    assert_true(a[i].fired_us >= begin + delays[i]);
  }
  assert_true(a[3].fired_us < begin + 5000000);
}

/* A platform that nobody uses, and a stopped timer, do not keep a loop alive. */
static void test_idle_loop_ends(void **state) {
  rig *r = *state;
  assert_int_equal(pu_uv_loop_run(r->loop), 0);
  alarm_probe a = {.rig = r};
  pu_timer_init(&a.timer, r->p, on_alarm, &a);
  assert_int_equal(pu_timer_after(&a.timer, 3600 * 1000000ull), 0);
  pu_timer_stop(&a.timer);
  assert_int_equal(pu_uv_loop_run(r->loop), 0);
  assert_int_equal(pu_timer_after(&a.timer, 0), 0);
  pu_timer_stop(&a.timer);
  assert_int_equal(pu_uv_loop_run(r->loop), 0);
  assert_int_equal(a.fired, 0);
  end near, far;
  pair(r, &near, &far);
  end_close(&near, false);
  end_close(&far, false);
  assert_int_equal(pu_uv_loop_run(r->loop), 0);
}

/* A timer that is always due lets sockets and other timers have their turn. */
static void test_greedy_timer(void **state) {
  rig *r = *state;
  end near, far;
  pair(r, &near, &far);
  alarm_probe greedy = {.rig = r, .again = true}, modest = {.rig = r};
  pu_timer_init(&greedy.timer, r->p, on_alarm, &greedy);
  pu_timer_init(&modest.timer, r->p, on_alarm, &modest);
  assert_int_equal(pu_timer_after(&greedy.timer, 0), 0);
  assert_int_equal(pu_timer_after(&modest.timer, 2000), 0);
  pu_tcp_want(far.tcp, PU_WANT_READ);
  far.drain = true;
  put(&near, "hello");
  RUN_UNTIL(r, far.got == 5 && modest.fired == 1);
  assert_true(greedy.fired > 1);
  pu_timer_stop(&greedy.timer);
  end_close(&near, false);
  end_close(&far, false);
}

static void test_two_platforms_on_a_loop(void **state) {
  rig *r = *state;
  rig other = {.loop = r->loop};
  unsigned freed = 0;
  assert_int_equal(pu_uv_new(r->loop, &other.p), 0);
  door d;
  end e;
  door_open(&other, &d, "127.0.0.1", 0);
  end_connect(r, &e, &d.address);
  RUN_UNTIL(r, e.connects == 1 && d.count == 1);
  door_close(&d);
  pu_uv_free(other.p, on_freed, &freed);
  RUN_UNTIL(r, freed == 1);
  pu_tcp_want(e.tcp, PU_WANT_READ); /* the first lives on, and hears of the second's end */
  RUN_UNTIL(r, e.readable > 0);
  end_close(&e, false);
}

/* ---- names ---- */

typedef struct answer {
  pu_resolve *resolve;
  unsigned calls;
  int status;
  pu_sockaddr addrs[PU_RESOLVE_MAX];
  size_t count;
  bool cancel_in_callback;
} answer;

static void on_resolved(void *data, int status, const pu_sockaddr *addrs, size_t count) {
  answer *a = data;
  a->calls++;
  a->status = status;
  a->count = count;
  if (count > 0)
    memcpy(a->addrs, addrs, count * sizeof(*addrs));
  if (a->cancel_in_callback)
    pu_resolve_cancel(a->resolve);
}

static int resolve(rig *r, answer *a, const char *host, int family) {
  *a = (answer){0};
  const int status = pu_resolve_start(r->p, host, 4001, family, on_resolved, a, &a->resolve);
  assert_int_equal(a->calls, 0);
  return status;
}

static void test_resolve_literal(void **state) {
  rig *r = *state;
  answer a;
  const pu_sockaddr v4 = ip_port("192.0.2.9", 4001), v6 = ip_port("2001:db8::9", 4001);
  assert_int_equal(resolve(r, &a, "192.0.2.9", 0), 0);
  RUN_UNTIL(r, a.calls == 1);
  assert_int_equal(a.status, 0);
  assert_int_equal(a.count, 1);
  assert_true(pu_sockaddr_equal(&a.addrs[0], &v4));
  assert_int_equal(resolve(r, &a, "2001:db8::9", 6), 0);
  RUN_UNTIL(r, a.calls == 1);
  assert_true(pu_sockaddr_equal(&a.addrs[0], &v6));
  assert_int_equal(resolve(r, &a, "192.0.2.9", 6), PU_E_NOT_FOUND);
}

static void test_resolve_name(void **state) {
  rig *r = *state;
  answer a;
  const pu_sockaddr v4 = ip_port("127.0.0.1", 4001);
  assert_int_equal(resolve(r, &a, "localhost", 4), 0);
  RUN_UNTIL(r, a.calls == 1);
  assert_int_equal(a.status, 0);
  assert_true(a.count >= 1 && a.count <= PU_RESOLVE_MAX);
  assert_true(pu_sockaddr_equal(&a.addrs[0], &v4));
}

static void test_resolve_fails(void **state) {
  rig *r = *state;
  answer a;
  assert_int_equal(resolve(r, &a, "nobody.invalid", 0), 0);
  RUN_UNTIL(r, a.calls == 1);
  assert_true(a.status == PU_E_NOT_FOUND || a.status == PU_E_TIMEOUT); /* no name server here? */
  assert_int_equal(a.count, 0);
  char endless[2000];
  memset(endless, 'a', sizeof(endless) - 1);
  endless[sizeof(endless) - 1] = 0;
  assert_int_equal(resolve(r, &a, endless, 0), PU_E_NOT_FOUND);
}

static void test_resolve_cancel(void **state) {
  rig *r = *state;
  answer literal, name[8];
  assert_int_equal(resolve(r, &literal, "192.0.2.9", 0), 0);
  pu_resolve_cancel(literal.resolve);
  for (unsigned i = 0; i < 8; i++) /* more than there are threads: some have not begun */
    assert_int_equal(resolve(r, &name[i], "localhost", 0), 0);
  for (unsigned i = 0; i < 8; i++)
    pu_resolve_cancel(name[i].resolve);
  assert_int_equal(pu_uv_loop_run(r->loop), 0);
  assert_int_equal(literal.calls, 0);
  for (unsigned i = 0; i < 8; i++)
    assert_int_equal(name[i].calls, 0);
  for (unsigned turns_ms = 0; turns_ms < 3; turns_ms++) { /* at work, or nearly done */
    assert_int_equal(resolve(r, &name[0], "localhost", 0), 0);
    TURN(r, turns_ms);
    const unsigned calls = name[0].calls;
    if (calls == 0)
      pu_resolve_cancel(name[0].resolve);
    assert_int_equal(pu_uv_loop_run(r->loop), 0);
    assert_int_equal(name[0].calls, calls);
  }
  assert_int_equal(resolve(r, &literal, "192.0.2.9", 0), 0);
  assert_int_equal(resolve(r, &name[0], "localhost", 0), 0);
  literal.cancel_in_callback = name[0].cancel_in_callback = true;
  RUN_UNTIL(r, literal.calls == 1 && name[0].calls == 1);
  pu_resolve_cancel(NULL);
}

/* The platform may go while a cancelled look-up is still in a thread: its end waits for it. */
static void test_free_during_lookup(void **state) {
  rig *r = *state;
  answer a;
  assert_int_equal(resolve(r, &a, "localhost", 0), 0);
  pu_resolve_cancel(a.resolve);
  /* teardown does the rest */
}

static void test_interfaces(void **state) {
  rig *r = *state;
  pu_sockaddr addrs[PU_INTERFACE_ADDRS_MAX];
  const size_t count = pu_interface_addrs(r->p, addrs, PU_INTERFACE_ADDRS_MAX);
  const pu_sockaddr loopback = ip_port("127.0.0.1", 0);
  bool found = false;
  assert_true(count >= 1 && count <= PU_INTERFACE_ADDRS_MAX);
  for (size_t i = 0; i < count; i++) {
    assert_true(addrs[i].family == 4 || addrs[i].family == 6);
    assert_int_equal(addrs[i].port, 0);
    found = found || pu_sockaddr_equal(&addrs[i], &loopback);
  }
  assert_true(found);
  assert_int_equal(pu_interface_addrs(r->p, addrs, 1), 1);
  assert_int_equal(pu_interface_addrs(r->p, addrs, 0), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      T(test_clocks),
      T(test_random),
      T(test_machine),
      T(test_timers),
      T(test_idle_loop_ends),
      T(test_greedy_timer),
      T(test_two_platforms_on_a_loop),
      T(test_resolve_literal),
      T(test_resolve_name),
      T(test_resolve_fails),
      T(test_resolve_cancel),
      T(test_free_during_lookup),
      T(test_interfaces),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
