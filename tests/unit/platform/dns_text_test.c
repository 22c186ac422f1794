/* TXT records out of DNS answers. */
#include "support/cmocka.h"
#include "platform/dns_text.h"
#include <string.h>

static size_t put(uint8_t *at, const char *bytes, size_t len) {
  memcpy(at, bytes, len);
  return len;
}

/* begin writes a header and the question "a." TXT. */
static size_t begin(uint8_t *out, uint8_t answers) {
  size_t n = put(out, "\x12\x34\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00", 12);
  out[7] = answers;
  return n + put(out + n, "\x01" "a\x00\x00\x10\x00\x01", 7);
}

static size_t record(uint8_t *out, uint8_t type, const char *data, size_t len) {
  size_t n = put(out, "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x00", 12);
  out[3] = type;
  out[11] = (uint8_t)len;
  return n + put(out + n, data, len);
}

static void reads(void **state) {
  static pu_dns_texts texts;
  uint8_t answer[512];
  (void)state;
  size_t n = begin(answer, 4);
  n += record(answer + n, 16, "\x05" "hello", 6);
  n += record(answer + n, 1, "\x7f\x00\x00\x01", 4);            /* an address: not ours */
  n += record(answer + n, 16, "\x03" "one\x00\x03" "two", 9);   /* strings of one record are joined */
  n += record(answer + n, 16, "\x03" "n\x00l", 4);              /* a NUL: left out */
  assert_int_equal(pu_dns_text_parse(answer, n, &texts), 0);
  assert_int_equal(texts.count, 2);
  assert_string_equal(texts.text[0], "hello");
  assert_string_equal(texts.text[1], "onetwo");
  for (size_t cut = 0; cut < n; cut++)
    assert_int_not_equal(pu_dns_text_parse(answer, cut, &texts), 0);
}

static void refuses(void **state) {
  static pu_dns_texts texts;
  uint8_t answer[512];
  (void)state;
  size_t n = begin(answer, 0);
  assert_int_equal(pu_dns_text_parse(answer, n, &texts), PU_E_NOT_FOUND);
  n = begin(answer, 1);
  n += record(answer + n, 16, "\x09" "short", 6); /* says more than it has */
  assert_int_equal(pu_dns_text_parse(answer, n, &texts), PU_E_NOT_FOUND);
  assert_int_equal(pu_dns_text_parse(answer, 0, &texts), PU_E_PARSE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(reads), cmocka_unit_test(refuses)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
