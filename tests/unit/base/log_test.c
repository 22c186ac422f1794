#include "base/log.h"

#include "support/unit.h"

typedef struct sink {
  int calls;
  pu_log_level level;
  char part[16], line[2048];
} sink;

static void take(void *data, pu_log_level level, const char *part, const char *line) {
  sink *s = data;
  s->calls++;
  s->level = level;
  (void)snprintf(s->part, sizeof(s->part), "%s", part);
  (void)snprintf(s->line, sizeof(s->line), "%s", line);
}

static int evaluated(int *count) {
  return ++*count;
}

static void levels(void **state) {
  (void)state;
  sink s = {0};
  pu_log log = {.fn = take, .data = &s, .level = PU_LOG_INFO};
  int count = 0;
  PU_LOG(&log, PU_LOG_DEBUG, "swarm", "%d", evaluated(&count));
  assert_int_equal(s.calls, 0);
  assert_int_equal(count, 0); /* nobody asked */
  PU_LOG(&log, PU_LOG_WARN, "swarm", "peer said %s, %d", "a\nERROR b", evaluated(&count));
  assert_int_equal(s.calls, 1);
  assert_int_equal(s.level, PU_LOG_WARN);
  assert_string_equal(s.part, "swarm");
  assert_string_equal(s.line, "peer said a?ERROR b, 1");
  log.fn = NULL;
  PU_LOG(&log, PU_LOG_ERROR, "swarm", "x");
  PU_LOG(NULL, PU_LOG_ERROR, "swarm", "x");
  pu_log_write(NULL, PU_LOG_ERROR, "swarm", "x");
  assert_int_equal(s.calls, 1);
}

static void cuts(void **state) {
  (void)state;
  sink s = {0};
  pu_log log = {.fn = take, .data = &s, .level = PU_LOG_DEBUG};
  pu_log_write(&log, PU_LOG_INFO, "p", "%2000d", 1);
  assert_int_equal(strlen(s.line), 1023);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(levels), cmocka_unit_test(cuts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
