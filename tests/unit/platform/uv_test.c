/* The libuv door beside sockets: clocks, chance, timers on a real loop, names, interfaces, its end.
 */
#include "platform/uv.h"

#include <string.h>
#include <uv.h>

#include "support/cmocka.h"

static uv_loop_t loop;
static pu_platform *platform;

static int setup(void **state) {
  (void)state;
  assert_int_equal(uv_loop_init(&loop), 0);
  assert_int_equal(pu_uv_new(&loop, &platform), 0);
  return 0;
}

static bool gone;
static void on_gone(void *data) {
  *(bool *)data = true;
}

static int teardown(void **state) {
  (void)state;
  gone = false;
  pu_uv_free(platform, on_gone, &gone);
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
  assert_true(gone);
  assert_int_equal(uv_loop_close(&loop), 0); /* nothing is left */
  return 0;
}

static void test_idle_platform_ends_the_loop(void **state) {
  (void)state;
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static void test_clocks_and_chance(void **state) {
  (void)state;
  uint8_t a[32] = {0}, b[32] = {0};
  const uint64_t before = pu_now_us(platform);
  assert_true(pu_now_us(platform) >= before);
  assert_true(pu_wall_ns(platform) > 1700000000000000000u);
  pu_random(platform, a, sizeof a);
  pu_random(platform, b, sizeof b);
  assert_memory_not_equal(a, b, sizeof a);
}

static unsigned fired;
static void on_fire(void *data) {
  *(uint64_t *)data = pu_now_us(platform);
  fired++;
}

static void test_timer_is_not_early(void **state) {
  (void)state;
  pu_timer t;
  uint64_t at = 0;
  fired = 0;
  pu_timer_init(&t, platform, on_fire, &at);
  const uint64_t due = pu_now_us(platform) + 12345;
  assert_int_equal(pu_timer_at(&t, due), 0);
  assert_int_equal(fired, 0);
  (void)uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(fired, 1);
  assert_true(at >= due);
}

typedef struct spinner {
  pu_timer timer;
  unsigned turns;
} spinner;

static void on_spin(void *data) {
  spinner *s = data;
  s->turns++;
  assert_int_equal(pu_timer_after(&s->timer, 0), 0);
}

static bool other_ran;
static void on_uv_timer(uv_timer_t *t) {
  other_ran = true;
  uv_close((uv_handle_t *)t, NULL);
}

/* A timer that is due again and again lets everything else of the loop have its turn. */
static void test_due_timers_do_not_starve(void **state) {
  (void)state;
  spinner s = {.turns = 0};
  uv_timer_t t;
  other_ran = false;
  pu_timer_init(&s.timer, platform, on_spin, &s);
  assert_int_equal(pu_timer_after(&s.timer, 0), 0);
  assert_int_equal(uv_timer_init(&loop, &t), 0);
  assert_int_equal(uv_timer_start(&t, on_uv_timer, 5, 0), 0);
  for (int i = 0; i < 10000000 && !other_ran; i++)
    (void)uv_run(&loop, UV_RUN_NOWAIT);
  assert_true(other_ran);
  assert_true(s.turns > 1);
  pu_timer_stop(&s.timer);
}

typedef struct answer {
  unsigned calls;
  int status;
  size_t count;
  pu_sockaddr first;
} answer;

static void on_resolved(void *data, int status, const pu_sockaddr *addrs, size_t count) {
  answer *a = data;
  a->calls++;
  a->status = status;
  a->count = count;
  if (count > 0)
    a->first = addrs[0];
}

static void test_names(void **state) {
  (void)state;
  static const struct {
    const char *host;
    int family, status;
    const char *text;
  } cases[] = {
      {"127.0.0.1", 0, 0, "127.0.0.1:22"},
      {"::1", 6, 0, "[::1]:22"},
      {"localhost", 4, 0, "127.0.0.1:22"},
      {"no-such-host.invalid", 0, PU_E_NOT_FOUND, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    answer a = {.calls = 0};
    pu_resolve *r;
    char text[PU_SOCKADDR_TEXT];
    assert_int_equal(
        pu_resolve_start(platform, cases[i].host, 22, cases[i].family, on_resolved, &a, &r), 0);
    assert_int_equal(a.calls, 0); /* never inside the call */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(a.calls, 1);
    if (cases[i].status != 0) { /* without a name server the answer may be a time-out */
      assert_true(a.status == cases[i].status || a.status == PU_E_TIMEOUT);
      assert_int_equal(a.count, 0);
    } else {
      assert_int_equal(a.status, 0);
      assert_string_equal(pu_sockaddr_text(&a.first, text), cases[i].text);
    }
  }
  answer a = {.calls = 0};
  pu_resolve *r;
  assert_int_equal(pu_resolve_start(platform, "127.0.0.1", 1, 6, on_resolved, &a, &r),
                   PU_E_NOT_FOUND);
}

static void test_cancelled_names(void **state) {
  (void)state;
  static const char *const hosts[] = {"127.0.0.1", "localhost"};
  for (size_t i = 0; i < 2; i++) {
    for (int turns = 0; turns < 2; turns++) {
      answer a = {.calls = 0};
      pu_resolve *r;
      assert_int_equal(pu_resolve_start(platform, hosts[i], 1, 0, on_resolved, &a, &r), 0);
      if (turns > 0)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
      if (a.calls == 0)
        pu_resolve_cancel(r);
      const unsigned calls = a.calls;
      (void)uv_run(&loop, UV_RUN_DEFAULT);
      assert_int_equal(a.calls, calls);
    }
  }
}

static void test_interfaces(void **state) {
  (void)state;
  pu_sockaddr addrs[PU_INTERFACE_ADDRS_MAX];
  const size_t count = pu_interface_addrs(platform, addrs, PU_INTERFACE_ADDRS_MAX);
  bool loopback = false;
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(addrs[i].port, 0);
    loopback = loopback || (addrs[i].family == 4 && addrs[i].ip[0] == 127);
  }
  assert_true(loopback);
  assert_true(pu_interface_addrs(platform, addrs, 1) <= 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_idle_platform_ends_the_loop),
      TEST(test_clocks_and_chance),
      TEST(test_timer_is_not_early),
      TEST(test_due_timers_do_not_starve),
      TEST(test_names),
      TEST(test_cancelled_names),
      TEST(test_interfaces),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
