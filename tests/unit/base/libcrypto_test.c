#include "base/libcrypto.h"

#include "support/unit.h"

static void loads_whole_table(void **state) {
  (void)state;
  const pu_libcrypto *c = pu_libcrypto_get();
  assert_non_null(c);
  assert_ptr_equal(c, pu_libcrypto_get());
#define XX(name) assert_true(c->name != NULL);
  PU_LIBCRYPTO_MAP(XX)
#undef XX
}

/* RFC 8439, 2.8.2: the functions behind the names are the right ones. */
static void encrypts(void **state) {
  (void)state;
  const pu_libcrypto *c = pu_libcrypto_get();
  uint8_t key[32], nonce[12], aad[12], tag[16], wanted[16], out[114];
  static const char text[] = "Ladies and Gentlemen of the class of '99: If I could offer you only "
                             "one tip for the future, sunscreen would be it.";
  unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", key, 32);
  unhex("070000004041424344454647", nonce, 12);
  unhex("50515253c0c1c2c3c4c5c6c7", aad, 12);
  unhex("1ae10b594f09e26a7e902ecbd0600691", wanted, 16);
  EVP_CIPHER_CTX *ctx = c->EVP_CIPHER_CTX_new();
  int n;
  assert_non_null(ctx);
  assert_int_equal(c->EVP_EncryptInit_ex(ctx, c->EVP_chacha20_poly1305(), NULL, key, nonce), 1);
  assert_int_equal(c->EVP_EncryptUpdate(ctx, NULL, &n, aad, 12), 1);
  assert_int_equal(c->EVP_EncryptUpdate(ctx, out, &n, (const uint8_t *)text, 114), 1);
  assert_int_equal(n, 114);
  assert_int_equal(c->EVP_EncryptFinal_ex(ctx, out + n, &n), 1);
  assert_int_equal(c->EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag), 1);
  assert_memory_equal(tag, wanted, 16);
  c->EVP_CIPHER_CTX_free(ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(loads_whole_table),
                                     cmocka_unit_test(encrypts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
