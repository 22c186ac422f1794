/* libcrypto (OpenSSL 3), loaded at run time on first use: linked at start it would cost an idle
 * daemon some 4 MB of its 10 MB. It serves bulk ChaCha20-Poly1305 and the keys and signatures that
 * libsodium lacks (RSA, ECDSA, secp256k1); everything else is libsodium's. Only libcrypto.c looks
 * symbols up; callers use the table, whose members are named as the functions are. */
#ifndef PU_BASE_LIBCRYPTO_H
#define PU_BASE_LIBCRYPTO_H

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "peerup/defs.h"

/* XX(function) */
#define PU_LIBCRYPTO_MAP(XX) \
  XX(OPENSSL_init_crypto)    \
  XX(CRYPTO_free)            \
  XX(ERR_clear_error)        \
  /* bulk encryption */      \
  XX(EVP_CIPHER_CTX_new)     \
  XX(EVP_CIPHER_CTX_free)    \
  XX(EVP_CIPHER_CTX_ctrl)    \
  XX(EVP_chacha20_poly1305)  \
  XX(EVP_EncryptInit_ex)     \
  XX(EVP_EncryptUpdate)      \
  XX(EVP_EncryptFinal_ex)    \
  XX(EVP_DecryptInit_ex)     \
  XX(EVP_DecryptUpdate)      \
  XX(EVP_DecryptFinal_ex)    \
  /* public keys */          \
  XX(d2i_PUBKEY)             \
  XX(i2d_PUBKEY)             \
  XX(EVP_PKEY_free)          \
  XX(EVP_PKEY_get_base_id)   \
  XX(EVP_PKEY_get_bits)      \
  XX(EVP_PKEY_get_bn_param)  \
  XX(BN_num_bits)            \
  XX(BN_free)                \
  /* signatures */           \
  XX(EVP_sha256)             \
  XX(EVP_MD_CTX_new)         \
  XX(EVP_MD_CTX_free)        \
  XX(EVP_DigestVerifyInit)   \
  XX(EVP_DigestVerify)

typedef struct pu_libcrypto {
#define XX(name) __typeof__(&(name)) name;
  PU_LIBCRYPTO_MAP(XX)
#undef XX
} pu_libcrypto;

/* pu_libcrypto_get returns the table, NULL when the library cannot be loaded. The first call takes
 * about a millisecond; it may come from any thread. */
const pu_libcrypto *pu_libcrypto_get(void);

#endif
