#include "base/multibase.h"

#include "support/unit.h"

/* "yes mani !" and bytes that begin with zeros, in all bases. */
static void decodes(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *bytes;
  } cases[] = {
      {"001111001011001010111001100100000011011010110000101101110011010010010000000100001",
       "yes mani !"},
      {"f796573206d616e692021", "yes mani !"},
      {"F796573206D616E692021", "yes mani !"},
      {"bpfsxgidnmfxgsibb", "yes mani !"},
      {"BPFSXGIDNMFXGSIBB", "yes mani !"},
      {"vf5in683dc5n6i811", "yes mani !"},
      {"VF5IN683DC5N6I811", "yes mani !"},
      {"cpfsxgidnmfxgsibb", "yes mani !"},
      {"tf5in683dc5n6i811", "yes mani !"},
      {"k2lcpzo5yikidynfl", "yes mani !"},
      {"K2LCPZO5YIKIDYNFL", "yes mani !"},
      {"z7paNL19xttacUY", "yes mani !"},
      {"Z7Pznk19XTTzBtx", "yes mani !"},
      {"meWVzIG1hbmkgIQ", "yes mani !"},
      {"MeWVzIG1hbmkgIQ==", "yes mani !"},
      {"ueWVzIG1hbmkgIQ", "yes mani !"},
      {"UeWVzIG1hbmkgIQ==", "yes mani !"},
      {"cmy======", "f"},
      {"CMZXW6===", "foo"},
      {"ucA", "p"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    uint8_t out[32];
    ssize_t n = pu_multibase_decode(cases[i].text, strlen(cases[i].text), out, sizeof(out));
    assert_int_equal(n, strlen(cases[i].bytes));
    assert_memory_equal(out, cases[i].bytes, (size_t)n);
    assert_int_equal(pu_multibase_decode(cases[i].text, strlen(cases[i].text), out, (size_t)n - 1),
                     PU_E_LIMIT);
  }
}

static void refuses(void **state) {
  (void)state;
  static const char *const malformed[] = {
      "",
      "f7",
      "fxy",
      "b1",
      "bpf=",
      "cpf",
      "cmy=====x",
      "uc",
      "ucB",
      "MeWVzIG1hbmkgIQ=",
      "meWVzIG1hbmkgIQ==",
      "z0",
      "zl",
      "k_",
      "m-_",
      "u+/",
      "02",
      "c========",
      "baa a",
  };
  uint8_t out[64];
  for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
    if (pu_multibase_decode(malformed[i], strlen(malformed[i]), out, sizeof(out)) != PU_E_PARSE)
      fail_msg("accepted: %s", malformed[i]);
  assert_int_equal(pu_multibase_decode("!x", 2, out, sizeof(out)), PU_E_UNSUPPORTED);
  assert_int_equal(pu_multibase_decode("z1\0", 3, out, sizeof(out)), PU_E_PARSE);
  char longer[PU_BASE58_MAX_TEXT + 2];
  memset(longer, '1', sizeof(longer));
  assert_int_equal(pu_base58_decode(longer, sizeof(longer), out, sizeof(out)), PU_E_LIMIT);
}

static void base58(void **state) {
  (void)state;
  uint8_t in[PU_BASE58_MAX_TEXT], out[PU_BASE58_MAX_TEXT];
  char text[1024];
  assert_int_equal(pu_base58_encode((const uint8_t *)"\0\0yes mani !", 12, text, 64), 16);
  assert_string_equal(text, "117paNL19xttacUY");
  assert_int_equal(pu_base58_encode((const uint8_t *)"yes mani !", 10, text, 14), PU_E_LIMIT);
  assert_int_equal(pu_base58_encode(NULL, 0, text, 1), 0);
  assert_string_equal(text, "");
  memset(in, 0xff, sizeof(in)); /* the longest there is */
  ssize_t n = pu_base58_encode(in, sizeof(in), text, sizeof(text));
  assert_true(n > PU_BASE58_MAX_TEXT);
  for (size_t len = 0; len <= 370; len++) {
    for (size_t i = 0; i < len; i++)
      in[i] = (uint8_t)(i < len % 5 ? 0 : i * 7 + len);
    n = pu_base58_encode(in, len, text, sizeof(text));
    assert_true(n >= 0);
    assert_int_equal(pu_base58_decode(text, (size_t)n, out, sizeof(out)), len);
    assert_memory_equal(out, in, len);
  }
}

static void encodes_bits(void **state) {
  (void)state;
  char text[32] = "u";
  assert_int_equal(pu_base32_encode((const uint8_t *)"yes mani !", 10, false, text, 17), 16);
  assert_string_equal(text, "pfsxgidnmfxgsibb");
  assert_int_equal(pu_base32_encode((const uint8_t *)"foo", 3, true, text, 32), 5);
  assert_string_equal(text, "MZXW6");
  assert_int_equal(pu_base32_encode((const uint8_t *)"yes mani !", 10, false, text, 16),
                   PU_E_LIMIT);
  assert_int_equal(pu_base64url_encode((const uint8_t *)"\xfb\xff", 2, text, 32), 3);
  assert_string_equal(text, "-_8");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(decodes), cmocka_unit_test(refuses),
                                     cmocka_unit_test(base58), cmocka_unit_test(encodes_bits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
