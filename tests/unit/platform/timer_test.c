/* The timer heap, driven by a door that only tells the time. */
#include "platform/platform_priv.h"
#include "support/unit.h"

#define MANY 500

typedef struct door {
  pu_platform base;
  uint64_t now_us;
  uint64_t wake_us; /* what the heap asked for last */
  unsigned wakes;   /* how often it asked */
} door;

static uint64_t door_now(const pu_platform *p) {
  return ((const door *)p)->now_us;
}

static void door_wake(pu_platform *p, uint64_t at_us) {
  door *d = (door *)p;
  d->wake_us = at_us;
  d->wakes++;
}

static const pu_platform_ops ops = {.now_us = door_now, .wake_at = door_wake};

/* A timer and what happened to it. */
typedef struct probe {
  pu_timer timer;
  door *door;
  unsigned fired;
  uint64_t fired_us;
  unsigned order;  /* the how-manieth it was */
  unsigned *count; /* of all */
  struct probe *stop, *start;
  uint64_t start_at;
} probe;

static void on_probe(void *data) {
  probe *t = data;
  assert_false(pu_timer_armed(&t->timer));
  t->fired++;
  t->fired_us = t->door->now_us;
  if (t->count != NULL)
    t->order = ++*t->count;
  if (t->stop != NULL)
    pu_timer_stop(&t->stop->timer);
  if (t->start != NULL)
    assert_int_equal(pu_timer_at(&t->start->timer, t->start_at), 0);
}

static void probe_init(probe *t, door *d, unsigned *count) {
  *t = (probe){.door = d, .count = count};
  pu_timer_init(&t->timer, &d->base, on_probe, t);
}

static int setup(void **state) {
  door *d = calloc(1, sizeof *d);
  assert_non_null(d);
  pu_platform_init(&d->base, &ops);
  d->now_us = 1000;
  d->wake_us = PU_NEVER;
  *state = d;
  return 0;
}

static int teardown(void **state) {
  door *d = *state;
  pu_platform_deinit(&d->base);
  free(d);
  return 0;
}

static void test_once(void **state) {
  door *d = *state;
  probe t;
  probe_init(&t, d, NULL);
  assert_false(pu_timer_armed(&t.timer));
  assert_int_equal(pu_timer_after(&t.timer, 50), 0);
  assert_true(pu_timer_armed(&t.timer));
  assert_int_equal(d->wake_us, 1050);
  d->now_us = 1049; /* the wake-up may come early: nothing fires, and it is asked for again */
  d->wake_us = 0;
  pu_timers_run(&d->base);
  assert_int_equal(t.fired, 0);
  assert_int_equal(d->wake_us, 1050);
  d->now_us = 1050;
  pu_timers_run(&d->base);
  assert_int_equal(t.fired, 1);
  assert_int_equal(d->wake_us, PU_NEVER);
  d->now_us = 5000;
  pu_timers_run(&d->base);
  assert_int_equal(t.fired, 1);
}

static void test_move_and_stop(void **state) {
  door *d = *state;
  probe a, b;
  probe_init(&a, d, NULL);
  probe_init(&b, d, NULL);
  pu_timer_stop(&a.timer); /* not armed: harmless */
  assert_int_equal(pu_timer_at(&a.timer, 2000), 0);
  assert_int_equal(pu_timer_at(&b.timer, 3000), 0);
  assert_int_equal(d->wake_us, 2000);
  assert_int_equal(pu_timer_at(&a.timer, 4000), 0); /* moved behind */
  assert_int_equal(d->wake_us, 3000);
  assert_int_equal(pu_timer_at(&a.timer, 1500), 0); /* and before */
  assert_int_equal(d->wake_us, 1500);
  pu_timer_stop(&a.timer);
  pu_timer_stop(&a.timer);
  assert_int_equal(d->wake_us, 3000);
  assert_int_equal(pu_timer_at(&b.timer, PU_NEVER), 0);
  assert_false(pu_timer_armed(&b.timer));
  assert_int_equal(d->wake_us, PU_NEVER);
  d->now_us = 9000;
  pu_timers_run(&d->base);
  assert_int_equal(a.fired + b.fired, 0);
}

/* The door is asked only when the first time changes: a busy program moves thousands of timers. */
static void test_wakes_are_few(void **state) {
  door *d = *state;
  probe first, t[20];
  probe_init(&first, d, NULL);
  assert_int_equal(pu_timer_at(&first.timer, 2000), 0);
  const unsigned before = d->wakes;
  for (unsigned i = 0; i < 20; i++) {
    probe_init(&t[i], d, NULL);
    assert_int_equal(pu_timer_at(&t[i].timer, 3000 + i), 0);
    assert_int_equal(pu_timer_at(&t[i].timer, 4000 + i), 0);
  }
  for (unsigned i = 0; i < 20; i++)
    pu_timer_stop(&t[i].timer);
  assert_int_equal(d->wakes, before);
  pu_timer_stop(&first.timer);
  assert_int_equal(d->wakes, before + 1);
}

static void test_equal_times_in_order(void **state) {
  door *d = *state;
  unsigned count = 0;
  probe t[20];
  for (unsigned i = 0; i < 20; i++) {
    probe_init(&t[i], d, &count);
    assert_int_equal(pu_timer_at(&t[i].timer, 1500), 0);
  }
  assert_int_equal(pu_timer_at(&t[3].timer, 1500), 0); /* armed anew: now the last */
  d->now_us = 1500;
  pu_timers_run(&d->base);
  assert_int_equal(count, 20);
  assert_int_equal(t[0].order, 1);
  assert_int_equal(t[2].order, 3);
  assert_int_equal(t[4].order, 4);
  assert_int_equal(t[19].order, 19);
  assert_int_equal(t[3].order, 20);
}

static void test_endless_delay(void **state) {
  door *d = *state;
  probe t;
  probe_init(&t, d, NULL);
  assert_int_equal(pu_timer_after(&t.timer, PU_NEVER), 0);
  assert_false(pu_timer_armed(&t.timer));
  assert_int_equal(pu_timer_after(&t.timer, PU_NEVER - 1000), 0); /* the sum is PU_NEVER */
  assert_false(pu_timer_armed(&t.timer));
  assert_int_equal(pu_timer_after(&t.timer, PU_NEVER - 1001), 0);
  assert_true(pu_timer_armed(&t.timer));
  pu_timer_stop(&t.timer);
}

static void test_stop_in_callback(void **state) {
  door *d = *state;
  probe a, b, c;
  probe_init(&a, d, NULL);
  probe_init(&b, d, NULL);
  probe_init(&c, d, NULL);
  a.stop = &b; /* due in the same run, and stopped before its turn */
  assert_int_equal(pu_timer_at(&a.timer, 1100), 0);
  assert_int_equal(pu_timer_at(&b.timer, 1200), 0);
  assert_int_equal(pu_timer_at(&c.timer, 1300), 0);
  d->now_us = 1300;
  pu_timers_run(&d->base);
  assert_int_equal(a.fired, 1);
  assert_int_equal(b.fired, 0);
  assert_int_equal(c.fired, 1);
}

static void test_armed_in_run_waits(void **state) {
  door *d = *state;
  probe a, b;
  probe_init(&a, d, NULL);
  probe_init(&b, d, NULL);
  a.start = &b;
  a.start_at = 1100;
  assert_int_equal(pu_timer_at(&a.timer, 1100), 0);
  d->now_us = 1100;
  pu_timers_run(&d->base);
  assert_int_equal(a.fired, 1);
  assert_int_equal(b.fired, 0);
  assert_int_equal(d->wake_us, 1100); /* and the next run is asked for at once */
  pu_timers_run(&d->base);
  assert_int_equal(b.fired, 1);
}

/* A timer that arms itself for the past, again and again, keeps nobody else from firing. */
static void test_greedy_timer(void **state) {
  door *d = *state;
  probe greedy, modest[3];
  probe_init(&greedy, d, NULL);
  greedy.start = &greedy;
  greedy.start_at = 1; /* long ago */
  assert_int_equal(pu_timer_at(&greedy.timer, 1), 0);
  for (unsigned i = 0; i < 3; i++) {
    probe_init(&modest[i], d, NULL);
    assert_int_equal(pu_timer_at(&modest[i].timer, 1200 + i), 0);
  }
  d->now_us = 1300;
  pu_timers_run(&d->base);
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal(modest[i].fired, 1);
  assert_int_equal(greedy.fired, 1);
  pu_timers_run(&d->base);
  assert_int_equal(greedy.fired, 2);
  pu_timer_stop(&greedy.timer);
}

/* Many timers armed, moved and stopped at random, against a list that is searched. */
static void test_many(void **state) {
  door *d = *state;
  static probe t[MANY];
  uint64_t expected[MANY]; /* PU_NEVER: not armed */
  uint64_t chance = 12345;
  for (unsigned i = 0; i < MANY; i++) {
    probe_init(&t[i], d, NULL);
    expected[i] = PU_NEVER;
  }
  for (unsigned round = 0; round < 20000; round++) {
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    const unsigned i = (unsigned)(chance >> 33) % MANY;
    const uint64_t delay = (chance >> 50) % 1000;
    if (delay < 200) {
      pu_timer_stop(&t[i].timer);
      expected[i] = PU_NEVER;
    } else {
      expected[i] = d->now_us + delay;
      assert_int_equal(pu_timer_at(&t[i].timer, expected[i]), 0);
    }
    if (round % 10 != 0)
      continue;
    uint64_t first = PU_NEVER;
    for (unsigned k = 0; k < MANY; k++)
      first = expected[k] < first ? expected[k] : first;
    assert_int_equal(d->wake_us, first);
    d->now_us += (chance >> 40) % 40;
    for (unsigned k = 0; k < MANY; k++)
      t[k].fired = 0;
    pu_timers_run(&d->base);
    for (unsigned k = 0; k < MANY; k++) {
      const bool due = expected[k] <= d->now_us;
      assert_int_equal(t[k].fired, due ? 1 : 0);
      if (due)
        expected[k] = PU_NEVER;
      assert_int_equal(pu_timer_armed(&t[k].timer), expected[k] != PU_NEVER);
    }
  }
  for (unsigned k = 0; k < MANY; k++)
    pu_timer_stop(&t[k].timer);
  assert_int_equal(d->wake_us, PU_NEVER);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(test_once),
      T(test_move_and_stop),
      T(test_wakes_are_few),
      T(test_equal_times_in_order),
      T(test_endless_delay),
      T(test_stop_in_callback),
      T(test_armed_in_run_waits),
      T(test_greedy_timer),
      T(test_many),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
