/* Timers, on the simulated network's clock. */
#include "platform/sim.h"
#include "support/cmocka.h"
#include <stdlib.h>

#define MANY 2000

typedef struct rig {
  pu_sim *sim;
  pu_platform *platform;
} rig;

static void start(rig *r) {
  pu_sockaddr a;
  assert_true(pu_sockaddr_parse_ip("10.0.0.1", &a));
  assert_int_equal(pu_sim_new(1, &r->sim), 0);
  assert_int_equal(pu_sim_add_host(r->sim, "a", &a, 1, &r->platform), 0);
}

typedef struct probe {
  pu_timer timer;
  rig *rig;
  uint64_t fired_at;
  unsigned fired;
  unsigned *order;
  unsigned place;
} probe;

static void on_fire(void *data) {
  probe *p = data;
  p->fired++;
  p->fired_at = pu_now_us(p->rig->platform);
  if (p->order != NULL)
    p->place = ++*p->order;
}

static void test_order(void **state) {
  (void)state;
  rig r;
  unsigned order = 0;
  start(&r);
  probe *probes = calloc(MANY, sizeof *probes);
  assert_non_null(probes);
  const uint64_t now = pu_now_us(r.platform);
  for (unsigned i = 0; i < MANY; i++) {
    probes[i] = (probe){.rig = &r, .order = &order};
    pu_timer_init(&probes[i].timer, r.platform, on_fire, &probes[i]);
    assert_int_equal(pu_timer_at(&probes[i].timer, now + (i * 7919u) % MANY), 0);
  }
  for (unsigned i = 0; i < MANY; i += 3) /* a third is taken back */
    pu_timer_stop(&probes[i].timer);
  assert_true(pu_sim_run(r.sim, now + MANY + 10, NULL));
  for (unsigned i = 0; i < MANY; i++) {
    assert_int_equal(probes[i].fired, i % 3 != 0);
    assert_false(pu_timer_armed(&probes[i].timer));
    if (i % 3 != 0)
      assert_int_equal(probes[i].fired_at, now + (i * 7919u) % MANY);
  }
  free(probes);
  pu_sim_free(r.sim);
}

/* Timers of one moment fire in the order in which they were armed. */
static void test_equal_times(void **state) {
  (void)state;
  rig r;
  unsigned order = 0;
  probe probes[20];
  start(&r);
  const uint64_t at = pu_now_us(r.platform) + 100;
  for (unsigned i = 0; i < 20; i++) {
    probes[i] = (probe){.rig = &r, .order = &order};
    pu_timer_init(&probes[i].timer, r.platform, on_fire, &probes[i]);
    assert_int_equal(pu_timer_at(&probes[i].timer, at), 0);
  }
  assert_int_equal(pu_timer_at(&probes[3].timer, at), 0); /* armed anew: last */
  assert_true(pu_sim_run(r.sim, at + 1, NULL));
  assert_int_equal(probes[0].place, 1);
  assert_int_equal(probes[4].place, 4);
  assert_int_equal(probes[3].place, 20);
  pu_sim_free(r.sim);
}

static void test_moving_and_never(void **state) {
  (void)state;
  rig r;
  start(&r);
  probe p = {.rig = &r};
  pu_timer_init(&p.timer, r.platform, on_fire, &p);
  pu_timer_stop(&p.timer); /* harmless */
  const uint64_t now = pu_now_us(r.platform);
  assert_int_equal(pu_timer_after(&p.timer, 10), 0);
  assert_int_equal(pu_timer_after(&p.timer, 1000), 0);
  assert_true(pu_sim_run(r.sim, now + 500, NULL));
  assert_int_equal(p.fired, 0);
  assert_int_equal(pu_timer_at(&p.timer, PU_NEVER), 0);
  assert_false(pu_timer_armed(&p.timer));
  assert_true(pu_sim_run(r.sim, now + 5000, NULL));
  assert_int_equal(p.fired, 0);
  assert_int_equal(pu_timer_after(&p.timer, UINT64_MAX - 5), 0); /* beyond the end of time */
  assert_false(pu_timer_armed(&p.timer));
  pu_sim_free(r.sim);
}

typedef struct chain {
  pu_timer timer, other;
  unsigned fired, other_fired;
} chain;

static void on_other(void *data) {
  ((chain *)data)->other_fired++;
}

static void on_chain(void *data) {
  chain *c = data;
  pu_timer_stop(&c->other);
  if (++c->fired < 5)
    assert_int_equal(pu_timer_after(&c->timer, 0), 0);
}

/* What is armed for now inside a timer waits for the next turn, and a timer may stop another that is
 * due. */
static void test_inside_callbacks(void **state) {
  (void)state;
  rig r;
  chain c = {.fired = 0};
  start(&r);
  pu_timer_init(&c.timer, r.platform, on_chain, &c);
  pu_timer_init(&c.other, r.platform, on_other, &c);
  assert_int_equal(pu_timer_after(&c.timer, 10), 0);
  assert_int_equal(pu_timer_after(&c.other, 10), 0);
  const uint64_t now = pu_now_us(r.platform);
  while (c.fired == 0)
    assert_true(pu_sim_step(r.sim));
  assert_int_equal(c.fired, 1); /* not five at once */
  assert_true(pu_sim_run(r.sim, now + 100, NULL));
  assert_int_equal(c.fired, 5);
  assert_int_equal(c.other_fired, 0);
  pu_sim_free(r.sim);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order),
      cmocka_unit_test(test_equal_times),
      cmocka_unit_test(test_moving_and_never),
      cmocka_unit_test(test_inside_callbacks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
