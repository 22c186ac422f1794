#include "identity/key.h"

#include "support/unit.h"

/* RFC 8032, 7.1, test 2. */
#define SEED "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
#define PUBLIC "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
#define SIGNATURE                                                                                  \
  "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d" \
  "8"                                                                                              \
  "c387b2eaeb4302aeeb00d291612bb0c00"

static pu_key *make(void) {
  uint8_t seed[32];
  pu_key *key = NULL;
  unhex(SEED, seed, sizeof(seed));
  assert_int_equal(pu_key_from_seed(seed, &key), 0);
  return key;
}

static void signs(void **state) {
  (void)state;
  pu_key *key = make();
  uint8_t sig[64], want[64], secret[64];
  pu_key_sign(key, (const uint8_t *)"\x72", 1, sig);
  unhex(SIGNATURE, want, sizeof(want));
  assert_memory_equal(sig, want, sizeof(sig));
  const pu_public_key *pub = pu_key_public(key);
  assert_int_equal(pu_public_key_verify(pub, (const uint8_t *)"\x72", 1, sig, 64), 0);
  assert_int_equal(pu_public_key_verify(pub, (const uint8_t *)"\x73", 1, sig, 64), PU_E_CRYPTO);
  assert_int_equal(pu_public_key_verify(pub, (const uint8_t *)"\x72", 1, sig, 63), PU_E_CRYPTO);
  assert_int_equal(pu_public_key_verify(pub, (const uint8_t *)"\x72", 1, NULL, 0), PU_E_CRYPTO);
  pu_key_secret(key, secret);
  unhex(SEED PUBLIC, want, sizeof(want));
  assert_memory_equal(secret, want, 64);
  pu_key_free(key);
  pu_key_free(NULL);
}

static void protobuf_round_trip(void **state) {
  (void)state;
  pu_key *key = make(), *again = NULL;
  uint8_t out[68], want[68];
  pu_key_protobuf(key, out);
  unhex("08011240" SEED PUBLIC, want, sizeof(want));
  assert_memory_equal(out, want, sizeof(want));
  assert_int_equal(pu_key_parse(out, sizeof(out), &again), 0);
  assert_true(pu_peer_id_equal(pu_key_peer_id(key), pu_key_peer_id(again)));
  pu_key_free(again);
  again = NULL;
  for (size_t n = 0; n < sizeof(out); n++)
    assert_int_equal(pu_key_parse(out, n, &again), PU_E_PARSE);
  out[50] ^= 1; /* a public key that is not the seed's */
  assert_int_equal(pu_key_parse(out, sizeof(out), &again), PU_E_PARSE);
  assert_null(again);
  uint8_t legacy[100];
  unhex("08011260" SEED PUBLIC PUBLIC, legacy, sizeof(legacy));
  assert_int_equal(pu_key_parse(legacy, sizeof(legacy), &again), 0);
  pu_key_free(again);
  again = NULL;
  legacy[99] ^= 1;
  assert_int_equal(pu_key_parse(legacy, sizeof(legacy), &again), PU_E_PARSE);
  assert_int_equal(pu_key_parse((const uint8_t *)"\x08\x02\x12\x00", 4, &again), PU_E_UNSUPPORTED);
  assert_int_equal(pu_key_parse((const uint8_t *)"\x08\x05\x12\x00", 4, &again), PU_E_PARSE);
  assert_int_equal(pu_key_parse((const uint8_t *)"\x08\x01", 2, &again), PU_E_PARSE);
  assert_null(again);
  pu_key_free(key);
}

static void generates_different_keys(void **state) {
  (void)state;
  pu_key *a = NULL, *b = NULL;
  assert_int_equal(pu_key_generate(&a), 0);
  assert_int_equal(pu_key_generate(&b), 0);
  assert_false(pu_peer_id_equal(pu_key_peer_id(a), pu_key_peer_id(b)));
  pu_public_key inside;
  assert_int_equal(pu_public_key_from_peer_id(pu_key_peer_id(a), &inside), 0);
  assert_memory_equal(inside.protobuf, pu_key_public(a)->protobuf, PU_KEY_ED25519_PROTOBUF);
  assert_int_equal(inside.len, PU_KEY_ED25519_PROTOBUF);
  pu_key_free(a);
  pu_key_free(b);
}

static void public_key_forms(void **state) {
  (void)state;
  uint8_t in[PU_KEY_MAX_PROTOBUF + 1];
  pu_public_key key, loose;
  size_t n = unhex("08011220" PUBLIC, in, sizeof(in));
  assert_int_equal(pu_public_key_parse(in, n, &key), 0);
  assert_int_equal(key.type, PU_KEY_ED25519);
  assert_int_equal(key.len, n);
  assert_int_equal(key.data_len, 32);
  assert_memory_equal(key.protobuf, in, n);
  for (size_t cut = 0; cut < n; cut++)
    assert_int_equal(pu_public_key_parse(in, cut, &loose), PU_E_PARSE);
  /* Other orders, unknown fields and earlier values give the same key. */
  n = unhex("1201aa"
            "1a0161"
            "0802"
            "1220" PUBLIC "0801",
            in, sizeof(in));
  assert_int_equal(pu_public_key_parse(in, n, &loose), 0);
  assert_memory_equal(&loose, &key, sizeof(key));
  memset(in, 0, sizeof(in));
  assert_int_equal(pu_public_key_parse(in, sizeof(in), &loose), PU_E_PARSE);
  pu_peer_id hashed = {.len = 34, .bytes = {0x12, 0x20}};
  assert_int_equal(pu_public_key_from_peer_id(&hashed, &loose), PU_E_NOT_FOUND);
  pu_peer_id none = {0};
  assert_int_equal(pu_public_key_from_peer_id(&none, &loose), PU_E_NOT_FOUND);
  pu_peer_id junk = {.len = 4, .bytes = {0x00, 0x02, 0x08, 0x01}};
  assert_int_equal(pu_public_key_from_peer_id(&junk, &loose), PU_E_PARSE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(signs), cmocka_unit_test(protobuf_round_trip),
                                     cmocka_unit_test(generates_different_keys),
                                     cmocka_unit_test(public_key_forms)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
