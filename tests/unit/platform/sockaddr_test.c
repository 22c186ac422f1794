/* Socket addresses as text. */
#include "platform/platform.h"
#include "support/cmocka.h"
#include <string.h>

static void test_text(void **state) {
  (void)state;
  static const struct {
    const char *ip, *text;
    uint16_t port;
  } cases[] = {
      {"127.0.0.1", "127.0.0.1:80", 80},
      {"0.0.0.0", "0.0.0.0:65535", 65535},
      {"::1", "[::1]:22", 22},
      {"2001:db8::a", "[2001:db8::a]:0", 0},
      {"::ffff:1.2.3.4", "[::ffff:1.2.3.4]:9", 9},
  };
  char text[PU_SOCKADDR_TEXT];
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    pu_sockaddr sa;
    assert_true(pu_sockaddr_parse_ip(cases[i].ip, &sa));
    sa.port = cases[i].port;
    assert_string_equal(pu_sockaddr_text(&sa, text), cases[i].text);
  }
  const pu_sockaddr none = {0};
  assert_string_equal(pu_sockaddr_text(&none, text), "none");
}

static void test_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4:80",
                                    "[::1]", "fe80::1%eth0", "::g", " 1.2.3.4"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    pu_sockaddr sa = {.family = 9};
    assert_false(pu_sockaddr_parse_ip(bad[i], &sa));
    assert_int_equal(sa.family, 9); /* untouched */
  }
}

static void test_equal(void **state) {
  (void)state;
  pu_sockaddr a, b;
  assert_true(pu_sockaddr_parse_ip("10.1.2.3", &a));
  b = a;
  memset(b.ip + 4, 0x55, 12); /* IPv4 has four bytes */
  assert_true(pu_sockaddr_equal(&a, &b));
  b.port = 1;
  assert_false(pu_sockaddr_equal(&a, &b));
  assert_true(pu_sockaddr_parse_ip("::1", &a));
  assert_true(pu_sockaddr_parse_ip("::2", &b));
  assert_false(pu_sockaddr_equal(&a, &b));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_refused),
                                     cmocka_unit_test(test_equal)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
