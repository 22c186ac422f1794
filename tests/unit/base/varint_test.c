#include "base/varint.h"

#include "support/unit.h"

static void round_trip_at_borders(void **state) {
  (void)state;
  for (unsigned bits = 0; bits < 63; bits++) {
    for (int delta = -1; delta <= 1; delta++) {
      uint64_t value = (UINT64_C(1) << bits) + (uint64_t)delta, got = 0;
      uint8_t out[PU_VARINT_MAX_BYTES];
      size_t n = pu_varint_put(out, value);
      assert_int_equal(n, pu_varint_size(value));
      assert_int_equal(pu_varint_get(out, n, &got), n);
      assert_true(got == value);
      for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(pu_varint_get(out, cut, &got), 0);
    }
  }
}

static void refuses(void **state) {
  (void)state;
  static const char *const malformed[] = {"8000",
                                          "ff00",
                                          "808000",
                                          "ffffffffffffffffff01",
                                          "808080808080808080",
                                          "80808080808080808001"};
  for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
    uint8_t in[16];
    uint64_t value = 77;
    size_t n = unhex(malformed[i], in, sizeof(in));
    assert_int_equal(pu_varint_get(in, n, &value), PU_E_PARSE);
    assert_true(value == 77);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip_at_borders),
                                     cmocka_unit_test(refuses)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
