/* Certificates: ours, and peers' that are not what they should be. The vectors of certificates are
 * checked in tests/vectors. */
#include "security/tls_identity.h"

#include "support/gnutls_peer.h"
#include "support/unit.h"

#define DAY_S UINT64_C(86400)

static pu_mem mem;
static pu_key *key;

static int set_up(void **state) {
  (void)state;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  key = pu_test_key(7);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pu_key_free(key);
  pu_mem_deinit(&mem);
  return 0;
}

static int check(const uint8_t *der, size_t len, uint64_t now_s, const pu_peer_id *expected,
                 const char **why) {
  pu_public_key public;
  pu_peer_id peer;
  const int rc = pu_tls_check_certificate(NULL, der, len, 1, now_s, expected, &public, &peer, why);
  if (rc == 0) {
    assert_true(pu_peer_id_equal(&peer, pu_key_peer_id(key)));
    assert_int_equal(public.len, pu_key_public(key)->len);
    assert_memory_equal(public.protobuf, pu_key_public(key)->protobuf, public.len);
    assert_string_equal(*why, "");
  } else {
    assert_true((*why)[0] != '\0');
  }
  return rc;
}

static void test_ours(void **state) {
  (void)state;
  const uint64_t now = TLS_PAIR_NOW_S;
  pu_tls_identity *t;
  const uint8_t *der, *again;
  size_t len, again_len;
  const char *why;
  assert_int_equal(pu_tls_identity_new(&mem, key, now, &t), 0);
  assert_int_equal(pu_tls_identity_certificate(t, &der, &len), 0);
  assert_int_equal(pu_tls_identity_certificate(t, &again, &again_len), 0);
  assert_ptr_equal(der, again);
  assert_int_equal(len, again_len);
  assert_int_equal(check(der, len, now, pu_key_peer_id(key), &why), 0);
  assert_int_equal(check(der, len, 0, NULL, &why), 0);
  /* From an hour before, for a hundred years, and a day's tolerance. */
  assert_int_equal(check(der, len, now - 3600 - DAY_S, NULL, &why), 0);
  assert_int_equal(check(der, len, now - 3600 - DAY_S - 1, NULL, &why), PU_E_CRYPTO);
  assert_int_equal(check(der, len, now + 99 * 365 * DAY_S, NULL, &why), 0);
  assert_int_equal(check(der, len, now + 101 * 366 * DAY_S, NULL, &why), PU_E_CRYPTO);
  assert_non_null(strstr(why, "expired"));
  pu_key *other = pu_test_key(8);
  assert_int_equal(check(der, len, now, pu_key_peer_id(other), &why), PU_E_PEER_MISMATCH);
  pu_key_free(other);
  /* Another one has another key and serial. */
  pu_tls_identity *u;
  assert_int_equal(pu_tls_identity_new(&mem, key, now, &u), 0);
  assert_int_equal(pu_tls_identity_certificate(u, &again, &again_len), 0);
  assert_true(again_len != len || memcmp(der, again, len) != 0);
  pu_tls_identity_free(u);
  pu_tls_identity_free(t);
  pu_tls_identity_free(NULL);
}

static int judged_by(pu_tls_identity *judge, const uint8_t *der, size_t len, uint64_t now_s,
                     const pu_peer_id *expected, const pu_key *by) {
  pu_public_key public;
  pu_peer_id peer;
  const char *why;
  const int rc =
      pu_tls_check_certificate(judge, der, len, 1, now_s, expected, &public, &peer, &why);
  if (rc == 0) {
    assert_int_equal(public.len, pu_key_public(by)->len);
    assert_memory_equal(public.protobuf, pu_key_public(by)->protobuf, public.len);
    assert_true(pu_peer_id_equal(&peer, pu_key_peer_id(by)));
  }
  return rc;
}

/* A certificate that was found good before is judged as if it were new in all but its signatures:
 * by its dates and by whom we expect; one that differs in a byte is another one. */
static void test_remembered(void **state) {
  (void)state;
  const uint64_t now = TLS_PAIR_NOW_S;
  pu_tls_identity *judge, *t;
  const uint8_t *der;
  uint8_t copy[2048];
  size_t len;
  pu_key *other = pu_test_key(8);
  assert_int_equal(pu_tls_identity_new(&mem, other, now, &judge), 0);
  assert_int_equal(pu_tls_identity_new(&mem, key, now, &t), 0);
  assert_int_equal(pu_tls_identity_certificate(t, &der, &len), 0);
  assert_true(len <= sizeof copy);
  /* One that was refused is refused again. */
  memcpy(copy, der, len);
  copy[len - 1] ^= 0x01;
  for (int i = 0; i < 2; i++)
    assert_int_equal(judged_by(judge, copy, len, now, NULL, key), PU_E_CRYPTO);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(judged_by(judge, der, len, now, pu_key_peer_id(key), key), 0);
    assert_int_equal(judged_by(judge, der, len, 0, NULL, key), 0);
    assert_int_equal(judged_by(judge, der, len, now - 3600 - DAY_S - 1, NULL, key), PU_E_CRYPTO);
    assert_int_equal(judged_by(judge, der, len, now + 101 * 366 * DAY_S, NULL, key), PU_E_CRYPTO);
    assert_int_equal(judged_by(judge, der, len, now, pu_key_peer_id(other), key),
                     PU_E_PEER_MISMATCH);
    assert_int_equal(judged_by(judge, copy, len, now, NULL, key), PU_E_CRYPTO);
  }
  /* Many others come and go: each has its own key, and the first is good still. */
  for (uint8_t i = 0; i < 70; i++) {
    pu_key *many = pu_test_key((uint8_t)(10 + i));
    pu_tls_identity *u;
    const uint8_t *bytes;
    size_t bytes_len;
    assert_int_equal(pu_tls_identity_new(&mem, many, now, &u), 0);
    assert_int_equal(pu_tls_identity_certificate(u, &bytes, &bytes_len), 0);
    for (int k = 0; k < 2; k++)
      assert_int_equal(judged_by(judge, bytes, bytes_len, now, NULL, many), 0);
    assert_true(bytes_len <= sizeof copy);
    memcpy(copy, bytes, bytes_len);
    copy[bytes_len - 1] ^= 0x01;
    assert_int_equal(judged_by(judge, copy, bytes_len, now, NULL, many), PU_E_CRYPTO);
    pu_tls_identity_free(u);
    pu_key_free(many);
  }
  assert_int_equal(judged_by(judge, der, len, now, NULL, key), 0);
  pu_tls_identity_free(t);
  pu_tls_identity_free(judge);
  pu_key_free(other);
}

/* A machine without a clock makes one that is good once the others' clocks are looked at. */
static void test_made_without_a_clock(void **state) {
  (void)state;
  pu_tls_identity *t;
  const uint8_t *der;
  size_t len;
  const char *why;
  assert_int_equal(pu_tls_identity_new(&mem, key, 0, &t), 0);
  assert_int_equal(pu_tls_identity_certificate(t, &der, &len), 0);
  assert_int_equal(check(der, len, TLS_PAIR_NOW_S, NULL, &why), 0);
  pu_tls_identity_free(t);
}

static void test_out_of_memory(void **state) {
  (void)state;
  pu_tls_identity *t = NULL;
  pu_mem_fail_at(&mem, 1);
  assert_int_equal(pu_tls_identity_new(&mem, key, 0, &t), PU_E_NOMEM);
  assert_null(t);
}

/* Any byte changed or missing: the self-signature covers all, and is covered by being one. */
static void test_damaged(void **state) {
  (void)state;
  pu_tls_identity *t;
  const uint8_t *der;
  uint8_t copy[2048];
  size_t len;
  const char *why;
  assert_int_equal(pu_tls_identity_new(&mem, key, TLS_PAIR_NOW_S, &t), 0);
  assert_int_equal(pu_tls_identity_certificate(t, &der, &len), 0);
  assert_true(len <= sizeof copy);
  for (size_t i = 0; i < len; i++) {
    memcpy(copy, der, len);
    copy[i] ^= 0x01;
    assert_true(check(copy, len, TLS_PAIR_NOW_S, NULL, &why) < 0);
    assert_true(check(der, i, TLS_PAIR_NOW_S, NULL, &why) < 0);
  }
  memcpy(copy, der, len);
  copy[len] = 0;
  assert_true(check(copy, len + 1, TLS_PAIR_NOW_S, NULL, &why) < 0);
  static uint8_t large[9000];
  assert_int_equal(check(large, sizeof large, TLS_PAIR_NOW_S, NULL, &why), PU_E_PROTOCOL);
  pu_tls_identity_free(t);
}

static int shaped(const gnutls_peer_certificate *shape, const char **why) {
  gnutls_x509_privkey_t tls_key;
  gnutls_datum_t der;
  gnutls_x509_crt_t crt = gnutls_peer_make(shape, key, &tls_key);
  assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der), 0);
  const int rc = check(der.data, der.size, TLS_PAIR_NOW_S, NULL, why);
  gnutls_free(der.data);
  gnutls_x509_crt_deinit(crt);
  gnutls_x509_privkey_deinit(tls_key);
  return rc;
}

static void test_shapes(void **state) {
  (void)state;
  /* SignedKey with an empty key, with a length beyond its end, and nothing at all */
  static const uint8_t empty[] = {0x30, 4, 0x04, 0, 0x04, 0}, beyond[] = {0x30, 0x7f, 0x04, 0x7f},
                       nothing[] = {0x30, 0}, lengths[] = {0x30, 0x84, 0xff, 0xff, 0xff, 0xff};
  const unsigned p384 = GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1);
  const struct {
    gnutls_peer_certificate shape;
    int status;
    const char *why; /* part of it */
  } cases[] = {
      {{0}, 0, ""},
      {{.algorithm = GNUTLS_PK_ECDSA, .bits = p384}, 0, ""},
      {{.algorithm = GNUTLS_PK_EDDSA_ED25519,
        .bits = (unsigned)GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519)},
       0,
       ""},
      {{.algorithm = GNUTLS_PK_RSA}, 0, ""},
      {{.algorithm = GNUTLS_PK_RSA, .bits = 1536}, PU_E_CRYPTO, "too short"},
      {{.claimed_bits = 12288, .other_issuer = true}, PU_E_CRYPTO, "too long"},
      {{.critical_extension = true}, 0, ""},
      {{.unknown_critical = true}, PU_E_CRYPTO, "critical"},
      {{.client_only = true}, PU_E_CRYPTO, "usage"},
      {{.expired = true}, PU_E_CRYPTO, "expired"},
      {{.future = true}, PU_E_CRYPTO, "not valid yet"},
      {{.no_extension = true}, PU_E_PROTOCOL, "no libp2p extension"},
      {{.other_key_signed = true}, PU_E_CRYPTO, "did not sign"},
      {{.other_issuer = true}, PU_E_CRYPTO, "not signed by its own key"},
      {{.broken_signature = true}, PU_E_CRYPTO, "not signed by its own key"},
      {{.extension = empty, .extension_len = sizeof empty}, PU_E_PROTOCOL, "malformed"},
      {{.extension = beyond, .extension_len = sizeof beyond}, PU_E_PROTOCOL, "malformed"},
      {{.extension = nothing, .extension_len = sizeof nothing}, PU_E_PROTOCOL, "malformed"},
      {{.extension = lengths, .extension_len = sizeof lengths}, PU_E_PROTOCOL, "malformed"},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    const char *why = NULL;
    assert_int_equal(shaped(&cases[i].shape, &why), cases[i].status);
    assert_non_null(strstr(why, cases[i].why));
  }
}

static void test_number(void **state) {
  (void)state;
  pu_tls_identity *t;
  const uint8_t *der;
  size_t len;
  pu_public_key public;
  pu_peer_id peer;
  assert_int_equal(pu_tls_identity_new(&mem, key, TLS_PAIR_NOW_S, &t), 0);
  assert_int_equal(pu_tls_identity_certificate(t, &der, &len), 0);
  for (size_t count = 0; count < 4; count++)
    assert_int_equal(
        pu_tls_check_certificate(NULL, der, len, count, TLS_PAIR_NOW_S, NULL, &public, &peer, NULL),
        count == 1 ? 0 : PU_E_PROTOCOL);
  pu_tls_identity_free(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ours),       cmocka_unit_test(test_made_without_a_clock),
      cmocka_unit_test(test_shapes),     cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_number),     cmocka_unit_test(test_damaged),
      cmocka_unit_test(test_remembered),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
