/* ChaCha20-Poly1305 in place, by libsodium or in bulk by libcrypto, see aead.h. Both give the same
 * bytes, so a direction changes over between two messages and the peer cannot tell. */
#include "security/aead.h"

#include <limits.h>
#include <sodium.h>
#include <string.h>

#include "base/libcrypto.h"
#include "peerup/error.h"

_Static_assert(PU_AEAD_KEY == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "libsodium's key");
_Static_assert(PU_AEAD_NONCE == crypto_aead_chacha20poly1305_ietf_NPUBBYTES, "libsodium's nonce");
_Static_assert(PU_AEAD_TAG == crypto_aead_chacha20poly1305_ietf_ABYTES, "libsodium's tag");

void pu_aead_init(pu_aead *a, const uint8_t key[static PU_AEAD_KEY], bool sealing) {
  *a = (pu_aead){.sealing = sealing};
  memcpy(a->key, key, PU_AEAD_KEY);
}

void pu_aead_deinit(pu_aead *a) {
  if (a->bulk != NULL)
    pu_libcrypto_get()->EVP_CIPHER_CTX_free(a->bulk);
  a->bulk = NULL;
  sodium_memzero(a->key, sizeof(a->key));
}

/* bulk_context makes the context with the key set; NULL when libcrypto does not serve. */
static EVP_CIPHER_CTX *bulk_context(const pu_aead *a, const pu_libcrypto *lib) {
  EVP_CIPHER_CTX *ctx = lib->EVP_CIPHER_CTX_new();
  if (ctx == NULL)
    return NULL;
  const EVP_CIPHER *cipher = lib->EVP_chacha20_poly1305();
  int ok = a->sealing ? lib->EVP_EncryptInit_ex(ctx, cipher, NULL, a->key, NULL)
                      : lib->EVP_DecryptInit_ex(ctx, cipher, NULL, a->key, NULL);
  if (ok == 1)
    return ctx;
  lib->EVP_CIPHER_CTX_free(ctx);
  lib->ERR_clear_error();
  return NULL;
}

/* use_bulk says whether libcrypto serves this message of |len| bytes, and counts it until it does.
 * A library that once failed to serve is not asked again. */
static bool use_bulk(pu_aead *a, size_t len) {
  if (a->bulk != NULL)
    return len <= INT_MAX;
  if (a->no_bulk || len < PU_AEAD_BULK_MESSAGE || len > INT_MAX)
    return false;
  if (a->moved < PU_AEAD_BULK_AFTER) {
    a->moved += len;
    return false;
  }
  const pu_libcrypto *lib = pu_libcrypto_get();
  if (lib != NULL)
    a->bulk = bulk_context(a, lib);
  a->no_bulk = a->bulk == NULL;
  return a->bulk != NULL;
}

static bool bulk_seal(EVP_CIPHER_CTX *ctx, const uint8_t *nonce, uint8_t *data, size_t len) {
  const pu_libcrypto *lib = pu_libcrypto_get();
  int n = 0;
  return lib->EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) == 1 &&
         (len == 0 || lib->EVP_EncryptUpdate(ctx, data, &n, data, (int)len) == 1) &&
         lib->EVP_EncryptFinal_ex(ctx, data + len, &n) == 1 &&
         lib->EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, PU_AEAD_TAG, data + len) == 1;
}

static bool bulk_open(EVP_CIPHER_CTX *ctx, const uint8_t *nonce, uint8_t *data, size_t len) {
  const pu_libcrypto *lib = pu_libcrypto_get();
  int n = 0;
  return lib->EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, nonce) == 1 &&
         lib->EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, PU_AEAD_TAG, data + len) == 1 &&
         (len == 0 || lib->EVP_DecryptUpdate(ctx, data, &n, data, (int)len) == 1) &&
         lib->EVP_DecryptFinal_ex(ctx, data + len, &n) == 1;
}

int pu_aead_seal(pu_aead *a, const uint8_t nonce[static PU_AEAD_NONCE], uint8_t *data, size_t len) {
  if (!use_bulk(a, len)) {
    (void)crypto_aead_chacha20poly1305_ietf_encrypt_detached(data, data + len, NULL, data, len,
                                                             NULL, 0, NULL, nonce, a->key);
    return 0;
  }
  if (bulk_seal(a->bulk, nonce, data, len))
    return 0;
  /* The data may be half encrypted: it can neither be sent nor tried again. */
  sodium_memzero(data, len);
  pu_libcrypto_get()->ERR_clear_error();
  return PU_E_CRYPTO;
}

int pu_aead_open(pu_aead *a, const uint8_t nonce[static PU_AEAD_NONCE], uint8_t *data, size_t len) {
  if (len < PU_AEAD_TAG)
    return PU_E_CRYPTO;
  len -= PU_AEAD_TAG;
  if (!use_bulk(a, len)) {
    if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(data, NULL, data, len, data + len, NULL,
                                                           0, nonce, a->key) == 0)
      return 0;
  } else {
    if (bulk_open(a->bulk, nonce, data, len))
      return 0;
    pu_libcrypto_get()->ERR_clear_error();
  }
  /* libcrypto decrypts before it verifies; nobody may see what was not verified. */
  sodium_memzero(data, len);
  return PU_E_CRYPTO;
}
