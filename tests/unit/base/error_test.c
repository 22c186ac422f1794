#include "peerup/error.h"

#include "support/unit.h"

static void names_and_sentences(void **state) {
  (void)state;
  assert_string_equal(pu_error_name(PU_E_RELAY_LIMIT), "relay_limit");
  assert_string_equal(pu_error_sentence(PU_E_NOMEM), "out of memory");
  assert_string_equal(pu_error_name(0), "ok");
  assert_string_equal(pu_error_name(-9999), "unknown");
  assert_string_equal(pu_error_sentence(7), "unknown error");
}

static void detail(void **state) {
  (void)state;
  pu_error err;
  assert_int_equal(pu_error_set(&err, PU_E_DENIED, "peer %s", "a\nb\x1b"), PU_E_DENIED);
  assert_int_equal(err.code, PU_E_DENIED);
  assert_string_equal(err.detail, "peer a?b?");
  assert_int_equal(pu_error_set(NULL, PU_E_IO, "x"), PU_E_IO);
  char longer[400];
  memset(longer, 'x', sizeof(longer) - 1);
  longer[sizeof(longer) - 1] = '\0';
  (void)pu_error_set(&err, PU_E_IO, "%s", longer);
  assert_int_equal(strlen(err.detail), sizeof(err.detail) - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_sentences),
                                     cmocka_unit_test(detail)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
