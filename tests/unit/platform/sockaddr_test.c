/* Socket addresses as text. */
#include "platform/platform.h"
#include "support/unit.h"

static void test_text(void **state) {
  (void)state;
  char text[PU_SOCKADDR_TEXT];
  const pu_sockaddr v4 = {.family = 4, .ip = {127, 0, 0, 1}, .port = 80};
  assert_string_equal(pu_sockaddr_text(&v4, text), "127.0.0.1:80");
  const pu_sockaddr v6 = {.family = 6, .ip = {[15] = 1}, .port = 65535};
  assert_string_equal(pu_sockaddr_text(&v6, text), "[::1]:65535");
  pu_sockaddr longest = {.family = 6, .port = 65535, .scope = UINT32_MAX};
  memset(longest.ip, 0xfe, sizeof(longest.ip));
  assert_string_equal(pu_sockaddr_text(&longest, text),
                      "[fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:65535");
  const pu_sockaddr none = {0};
  assert_string_equal(pu_sockaddr_text(&none, text), "none");
}

static void test_parse(void **state) {
  (void)state;
  pu_sockaddr sa;
  memset(&sa, 0xff, sizeof(sa));
  assert_true(pu_sockaddr_parse_ip("192.0.2.7", &sa));
  const pu_sockaddr v4 = {.family = 4, .ip = {192, 0, 2, 7}};
  assert_memory_equal(&sa, &v4, sizeof(sa)); /* what is not set is zero */
  assert_true(pu_sockaddr_parse_ip("2001:db8::5", &sa));
  const pu_sockaddr v6 = {.family = 6, .ip = {0x20, 0x01, 0x0d, 0xb8, [15] = 5}};
  assert_memory_equal(&sa, &v6, sizeof(sa));
  assert_true(pu_sockaddr_parse_ip("::ffff:192.0.2.7", &sa));
  assert_int_equal(sa.family, 6);
}

static void test_parse_refuses(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "",           "home",      "1.2.3",   "1.2.3.4.5", "1.2.3.256", "01.2.3.4x", " 1.2.3.4",
      "1.2.3.4 ",   "0x7f.1",    "127.1",   "::g",       ":",         "1::2::3",   "[::1]",
      "1.2.3.4:80", "fe80::1%1", "12345::", "1.2.3.-4",  "1..2.3",    "::1.2.3",   "1:2:3:4:5:6:7",
  };
  const pu_sockaddr before = {.family = 4, .ip = {9, 9, 9, 9}, .port = 9};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    pu_sockaddr sa = before;
    if (pu_sockaddr_parse_ip(wrong[i], &sa))
      fail_msg("\"%s\" is taken for an address", wrong[i]);
    assert_memory_equal(&sa, &before, sizeof(sa)); /* and nothing was written */
  }
}

static void test_equal(void **state) {
  (void)state;
  const pu_sockaddr a = {.family = 4, .ip = {10, 0, 0, 1}, .port = 1};
  pu_sockaddr b = a;
  b.ip[4] = 77; /* beyond the four bytes of IPv4 */
  assert_true(pu_sockaddr_equal(&a, &b));
  b.ip[3] = 2;
  assert_false(pu_sockaddr_equal(&a, &b));
  b = a;
  b.port = 2;
  assert_false(pu_sockaddr_equal(&a, &b));
  b = a;
  b.family = 6;
  assert_false(pu_sockaddr_equal(&a, &b));
  pu_sockaddr c = b;
  c.ip[15] = 1;
  assert_false(pu_sockaddr_equal(&b, &c));
  c = b;
  c.scope = 3;
  assert_false(pu_sockaddr_equal(&b, &c));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_text),
      cmocka_unit_test(test_parse),
      cmocka_unit_test(test_parse_refuses),
      cmocka_unit_test(test_equal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
