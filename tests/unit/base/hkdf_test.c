#include "base/hkdf.h"

#include "support/unit.h"

static void run(const char *ikm, const char *salt, const char *info, const char *want_prk,
                const char *want_okm) {
  uint8_t k[128], s[128], i[128], prk[32], wanted[128], out[128];
  size_t kn = unhex(ikm, k, sizeof(k)), sn = unhex(salt, s, sizeof(s));
  size_t in = unhex(info, i, sizeof(i));
  pu_hkdf_extract(s, sn, k, kn, prk);
  assert_int_equal(unhex(want_prk, wanted, sizeof(wanted)), 32);
  assert_memory_equal(prk, wanted, 32);
  size_t n = unhex(want_okm, wanted, sizeof(wanted));
  assert_int_equal(pu_hkdf_expand(prk, i, in, out, n), 0);
  assert_memory_equal(out, wanted, n);
}

/* RFC 5869, test cases 1 and 3. */
static void rfc5869(void **state) {
  (void)state;
  run("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
      "f0f1f2f3f4f5f6f7f8f9", "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  run("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
      "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
      "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

static void too_long(void **state) {
  (void)state;
  static uint8_t out[PU_HKDF_MAX_BYTES + 1];
  uint8_t prk[32] = {1};
  assert_int_equal(pu_hkdf_expand(prk, NULL, 0, out, sizeof(out)), PU_E_INVAL);
  assert_int_equal(pu_hkdf_expand(prk, NULL, 0, out, PU_HKDF_MAX_BYTES), 0);
  assert_int_equal(out[PU_HKDF_MAX_BYTES], 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(rfc5869), cmocka_unit_test(too_long)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
