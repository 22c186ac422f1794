/* The two ciphers behind pu_aead: same bytes, same refusals, and the change from one to the other.
 */
#include "security/aead.h"

#include <stdlib.h>
#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"
#include "support/cmocka.h"

#define LONGEST 65519

static const uint8_t key[PU_AEAD_KEY] = {1, 2, 3, 4, 5, 6, 7, 8, 250, 251, 252, 253, 254, 255};
static const uint8_t nonce[PU_AEAD_NONCE] = {0, 0, 0, 0, 9, 8, 7};
static const size_t lengths[] = {0, 1, 15, 16, 17, 63, 64, 65, 255, 1350, 4096, 16385, LONGEST};

/* start makes a direction that uses the wanted cipher from its first message on. */
static void start(pu_aead *a, bool sealing, bool bulk) {
  static const uint8_t any_nonce[PU_AEAD_NONCE] = {99};
  uint8_t message[PU_AEAD_BULK_MESSAGE + PU_AEAD_TAG] = {0};
  pu_aead_init(a, key, sealing);
  a->no_bulk = !bulk;
  if (!bulk)
    return;
  a->moved = PU_AEAD_BULK_AFTER;
  if (sealing)
    assert_int_equal(pu_aead_seal(a, any_nonce, message, PU_AEAD_BULK_MESSAGE), 0);
  else
    assert_int_equal(pu_aead_open(a, any_nonce, message, sizeof(message)), PU_E_CRYPTO);
  assert_non_null(a->bulk);
}

static void fill(uint8_t *out, size_t len, unsigned seed) {
  for (size_t i = 0; i < len; i++) {
    seed = seed * 1103515245u + 12345u;
    out[i] = (uint8_t)(seed >> 16);
  }
}

static void test_same_bytes(void **state) {
  (void)state;
  uint8_t *plain = malloc(LONGEST);
  uint8_t *slow = malloc(LONGEST + PU_AEAD_TAG);
  uint8_t *fast = malloc(LONGEST + PU_AEAD_TAG);
  assert_true(plain != NULL && slow != NULL && fast != NULL);
  pu_aead seal_slow, seal_fast, open_slow, open_fast;
  start(&seal_slow, true, false);
  start(&seal_fast, true, true);
  start(&open_slow, false, false);
  start(&open_fast, false, true);
  for (size_t i = 0; i < PU_COUNT(lengths); i++) {
    size_t len = lengths[i];
    fill(plain, len, (unsigned)i);
    memcpy(slow, plain, len);
    memcpy(fast, plain, len);
    assert_int_equal(pu_aead_seal(&seal_slow, nonce, slow, len), 0);
    assert_int_equal(pu_aead_seal(&seal_fast, nonce, fast, len), 0);
    assert_memory_equal(slow, fast, len + PU_AEAD_TAG);
    /* crosswise */
    assert_int_equal(pu_aead_open(&open_fast, nonce, slow, len + PU_AEAD_TAG), 0);
    assert_int_equal(pu_aead_open(&open_slow, nonce, fast, len + PU_AEAD_TAG), 0);
    assert_memory_equal(slow, plain, len);
    assert_memory_equal(fast, plain, len);
  }
  assert_null(seal_slow.bulk);
  assert_null(open_slow.bulk);
  assert_non_null(seal_fast.bulk);
  assert_non_null(open_fast.bulk);
  pu_aead_deinit(&seal_slow);
  pu_aead_deinit(&seal_fast);
  pu_aead_deinit(&open_slow);
  pu_aead_deinit(&open_fast);
  free(plain);
  free(slow);
  free(fast);
}

/* Every bit of a message is checked, by both, and no unverified byte is left behind. */
static void test_tampering(void **state) {
  (void)state;
  enum { LEN = 40 };
  static const uint8_t zeros[LEN];
  uint8_t sealed[LEN + PU_AEAD_TAG], copy[LEN + PU_AEAD_TAG];
  fill(sealed, LEN, 7);
  pu_aead seal;
  start(&seal, true, false);
  assert_int_equal(pu_aead_seal(&seal, nonce, sealed, LEN), 0);
  for (int bulk = 0; bulk < 2; bulk++) {
    pu_aead open;
    start(&open, false, bulk == 1);
    for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
      memcpy(copy, sealed, sizeof(copy));
      copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
      assert_int_equal(pu_aead_open(&open, nonce, copy, sizeof(copy)), PU_E_CRYPTO);
      assert_memory_equal(copy, zeros, LEN);
    }
    for (size_t i = 0; i < PU_AEAD_NONCE; i++) {
      uint8_t other[PU_AEAD_NONCE];
      memcpy(other, nonce, sizeof(other));
      other[i] ^= 1;
      memcpy(copy, sealed, sizeof(copy));
      assert_int_equal(pu_aead_open(&open, other, copy, sizeof(copy)), PU_E_CRYPTO);
    }
    for (size_t len = 0; len < sizeof(sealed); len++) {
      memcpy(copy, sealed, sizeof(copy));
      assert_int_equal(pu_aead_open(&open, nonce, copy, len), PU_E_CRYPTO);
    }
    /* and after all that the true one still opens */
    memcpy(copy, sealed, sizeof(copy));
    assert_int_equal(pu_aead_open(&open, nonce, copy, sizeof(copy)), 0);
    assert_int_equal(open.bulk != NULL, bulk);
    pu_aead_deinit(&open);
  }
  pu_aead_deinit(&seal);
}

/* A direction changes over after PU_AEAD_BULK_AFTER bytes, and the other end need not notice. */
static void test_change_over(void **state) {
  (void)state;
  enum { LEN = 10000 };
  static uint8_t plain[LEN], wire[LEN + PU_AEAD_TAG];
  pu_aead seal, open;
  pu_aead_init(&seal, key, true);
  start(&open, false, false);
  size_t before = 0, after = 0;
  for (unsigned i = 0; i < 60; i++) {
    uint8_t n[PU_AEAD_NONCE] = {0, 0, 0, 0, (uint8_t)i};
    fill(plain, LEN, i);
    memcpy(wire, plain, LEN);
    assert_int_equal(pu_aead_seal(&seal, n, wire, LEN), 0);
    assert_int_equal(pu_aead_open(&open, n, wire, sizeof(wire)), 0);
    assert_memory_equal(wire, plain, LEN);
    if (seal.bulk == NULL)
      before += LEN;
    else
      after += LEN;
  }
  assert_true(before >= PU_AEAD_BULK_AFTER && before < PU_AEAD_BULK_AFTER + LEN);
  assert_true(after > 0);
  pu_aead_deinit(&seal);
  pu_aead_deinit(&open);
}

/* Pings and keystrokes never add up to bulk, not in years. */
static void test_small_messages_are_not_bulk(void **state) {
  (void)state;
  uint8_t message[PU_AEAD_BULK_MESSAGE + PU_AEAD_TAG] = {0};
  pu_aead a;
  pu_aead_init(&a, key, true);
  for (size_t i = 0; i < 2 * PU_AEAD_BULK_AFTER / (PU_AEAD_BULK_MESSAGE - 1); i++)
    assert_int_equal(pu_aead_seal(&a, nonce, message, PU_AEAD_BULK_MESSAGE - 1), 0);
  assert_null(a.bulk);
  assert_int_equal(a.moved, 0);
  for (size_t i = 0; i <= PU_AEAD_BULK_AFTER / PU_AEAD_BULK_MESSAGE; i++) {
    assert_null(a.bulk);
    assert_int_equal(pu_aead_seal(&a, nonce, message, PU_AEAD_BULK_MESSAGE), 0);
  }
  assert_non_null(a.bulk);
  pu_aead_deinit(&a);
}

static void test_deinit_wipes(void **state) {
  (void)state;
  static const uint8_t zeros[PU_AEAD_KEY];
  pu_aead a;
  uint8_t data[PU_AEAD_TAG];
  start(&a, true, true);
  assert_memory_equal(a.key, key, sizeof(key));
  assert_int_equal(pu_aead_seal(&a, nonce, data, 0), 0);
  assert_non_null(a.bulk);
  pu_aead_deinit(&a);
  assert_null(a.bulk);
  assert_memory_equal(a.key, zeros, sizeof(zeros));
  pu_aead_deinit(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_bytes),   cmocka_unit_test(test_tampering),
      cmocka_unit_test(test_change_over),  cmocka_unit_test(test_small_messages_are_not_bulk),
      cmocka_unit_test(test_deinit_wipes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
