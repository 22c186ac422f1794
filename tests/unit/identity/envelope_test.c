#include "identity/envelope.h"

#include "support/unit.h"

static const uint8_t RECORD_TYPE[2] = {0x03, 0x01};
static const uint8_t VOUCHER_TYPE[2] = {0x03, 0x02};

typedef struct fixture {
  pu_mem mem;
  pu_key *key;
} fixture;

static int set_up(void **state) {
  fixture *f = calloc(1, sizeof(*f));
  if (f == NULL)
    return -1;
  pu_mem_init(&f->mem, NULL, PU_MEM_UNLIMITED);
  *state = f;
  static const uint8_t seed[32] = {1, 2, 3};
  return pu_key_from_seed(seed, &f->key);
}

static int tear_down(void **state) {
  fixture *f = *state;
  pu_key_free(f->key);
  pu_mem_deinit(&f->mem); /* aborts when a byte is left */
  free(f);
  return 0;
}

static void seals_and_opens(void **state) {
  fixture *f = *state;
  uint8_t *bytes = NULL;
  size_t len = 0;
  pu_envelope e;
  const char *domain = PU_ENVELOPE_PEER_RECORD_DOMAIN;
  assert_int_equal(pu_envelope_seal(&f->mem, f->key, domain, RECORD_TYPE, (const uint8_t *)"hello",
                                    5, &bytes, &len),
                   0);
  assert_int_equal(pu_envelope_open(&f->mem, domain, RECORD_TYPE, bytes, len, &e), 0);
  assert_true(pu_peer_id_equal(&e.signer, pu_key_peer_id(f->key)));
  assert_int_equal(e.payload_len, 5);
  assert_memory_equal(e.payload, "hello", 5);
  assert_true(e.payload > bytes && e.payload < bytes + len);
  assert_int_equal(pu_envelope_open(&f->mem, domain, VOUCHER_TYPE, bytes, len, &e),
                   PU_E_UNSUPPORTED);
  assert_int_equal(
      pu_envelope_open(&f->mem, PU_ENVELOPE_VOUCHER_DOMAIN, RECORD_TYPE, bytes, len, &e),
      PU_E_CRYPTO);
  /* Cut anywhere, or any bit turned: never accepted. */
  for (size_t n = 0; n < len; n++) {
    assert_true(pu_envelope_open(&f->mem, domain, RECORD_TYPE, bytes, n, &e) < 0);
    bytes[n] ^= 0x10;
    assert_true(pu_envelope_open(&f->mem, domain, RECORD_TYPE, bytes, len, &e) < 0);
    bytes[n] ^= 0x10;
  }
  assert_int_equal(pu_envelope_open(&f->mem, domain, RECORD_TYPE, bytes, len, &e), 0);
  pu_mem_fail_at(&f->mem, 1);
  assert_int_equal(pu_envelope_open(&f->mem, domain, RECORD_TYPE, bytes, len, &e), PU_E_NOMEM);
  pu_free(bytes);
}

static void bounds(void **state) {
  fixture *f = *state;
  static const uint8_t big[PU_ENVELOPE_MAX_BYTES + 1];
  uint8_t *bytes = NULL;
  size_t len = 0;
  pu_envelope e;
  assert_int_equal(
      pu_envelope_seal(&f->mem, f->key, "d", RECORD_TYPE, big, sizeof(big), &bytes, &len),
      PU_E_LIMIT);
  assert_int_equal(
      pu_envelope_seal(&f->mem, f->key, "d", RECORD_TYPE, big, sizeof(big) - 50, &bytes, &len),
      PU_E_LIMIT);
  assert_int_equal(pu_envelope_open(&f->mem, "d", RECORD_TYPE, big, sizeof(big), &e), PU_E_LIMIT);
  for (uint64_t n = 1; n <= 2; n++) {
    pu_mem_fail_at(&f->mem, n);
    assert_int_equal(pu_envelope_seal(&f->mem, f->key, "d", RECORD_TYPE, big, 3, &bytes, &len),
                     PU_E_NOMEM);
  }
  assert_null(bytes);
  assert_int_equal(pu_envelope_seal(&f->mem, f->key, "d", RECORD_TYPE, NULL, 0, &bytes, &len), 0);
  assert_int_equal(pu_envelope_open(&f->mem, "d", RECORD_TYPE, bytes, len, &e), 0);
  assert_int_equal(e.payload_len, 0);
  pu_free(bytes);
}

static void peer_records(void **state) {
  fixture *f = *state;
  pu_peer_record r = {.peer = *pu_key_peer_id(f->key), .seq = UINT64_MAX, .addr_count = 2}, got;
  r.addrs[0].data = (const uint8_t *)"first";
  r.addrs[0].len = 5;
  r.addrs[1].data = (const uint8_t *)"2nd";
  r.addrs[1].len = 3;
  uint8_t *bytes = NULL;
  size_t len = 0;
  assert_int_equal(pu_peer_record_encode(&f->mem, &r, &bytes, &len), 0);
  assert_int_equal(pu_peer_record_decode(bytes, len, &got), 0);
  assert_true(pu_peer_id_equal(&got.peer, &r.peer));
  assert_true(got.seq == UINT64_MAX);
  assert_int_equal(got.addr_count, 2);
  assert_int_equal(got.addrs[1].len, 3);
  assert_memory_equal(got.addrs[1].data, "2nd", 3);
  for (size_t n = 0; n < 40; n++) /* within the peer ID */
    assert_int_equal(pu_peer_record_decode(bytes, n, &got), PU_E_PARSE);
  pu_free(bytes);
  r.seq = 0;
  r.addr_count = PU_PEER_RECORD_MAX_ADDRS;
  for (size_t i = 1; i < r.addr_count; i++)
    r.addrs[i] = r.addrs[0];
  assert_int_equal(pu_peer_record_encode(&f->mem, &r, &bytes, &len), 0);
  /* Further addresses are left out; a malformed one is not read as far as that. */
  uint8_t more[2048];
  memcpy(more, bytes, len);
  size_t n = len + unhex("1a030a0161"
                         "1a00",
                         more + len, sizeof(more) - len);
  assert_int_equal(pu_peer_record_decode(more, n, &got), 0);
  assert_true(got.seq == 0);
  assert_int_equal(got.addr_count, PU_PEER_RECORD_MAX_ADDRS);
  n = len + unhex("1a020a09", more + len, sizeof(more) - len);
  assert_int_equal(pu_peer_record_decode(more, n, &got), PU_E_PARSE);
  pu_free(bytes);
  r.addr_count++;
  assert_int_equal(pu_peer_record_encode(&f->mem, &r, &bytes, &len), PU_E_INVAL);
  r.addr_count = 0;
  pu_mem_fail_at(&f->mem, 1);
  assert_int_equal(pu_peer_record_encode(&f->mem, &r, &bytes, &len), PU_E_NOMEM);
}

static void vouchers(void **state) {
  fixture *f = *state;
  pu_voucher v = {.relay = *pu_key_peer_id(f->key), .expiration = 1893456000}, got;
  assert_int_equal(pu_peer_id_from_bytes((const uint8_t *)"\0\x02hi", 4, &v.peer), 0);
  uint8_t *bytes = NULL;
  size_t len = 0;
  assert_int_equal(pu_voucher_encode(&f->mem, &v, &bytes, &len), 0);
  assert_int_equal(pu_voucher_decode(bytes, len, &got), 0);
  assert_true(pu_peer_id_equal(&got.relay, &v.relay));
  assert_true(pu_peer_id_equal(&got.peer, &v.peer));
  assert_true(got.expiration == v.expiration);
  for (size_t n = 0; n < len; n++) /* the last field may be absent as a whole */
    assert_int_equal(pu_voucher_decode(bytes, n, &got), n == len - 6 ? 0 : PU_E_PARSE);
  pu_free(bytes);
  pu_mem_fail_at(&f->mem, 1);
  assert_int_equal(pu_voucher_encode(&f->mem, &v, &bytes, &len), PU_E_NOMEM);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(seals_and_opens, set_up, tear_down),
      cmocka_unit_test_setup_teardown(bounds, set_up, tear_down),
      cmocka_unit_test_setup_teardown(peer_records, set_up, tear_down),
      cmocka_unit_test_setup_teardown(vouchers, set_up, tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
