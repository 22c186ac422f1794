/* RSA, ECDSA and secp256k1 keys of remote peers (wire 2.1), by libcrypto.
 *
 * All three become a DER SubjectPublicKeyInfo, the one form libcrypto reads in a single call, which
 * also checks that a point is on its curve. ECDSA and secp256k1 keys are compared with the fixed
 * bytes that stand before the point, so that a decoder laxer than Go's adds no second form of a
 * key: two forms would be two peer IDs. */
#include "identity/key_remote.h"

#include <string.h>

#include "base/libcrypto.h"
#include "peerup/error.h"
#include "platform/assert.h"

#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 8192
/* Go refuses larger exponents; they would also buy our CPU time. */
#define RSA_MAX_EXPONENT_BITS 31

#define SECP256K1_COMPRESSED 33
#define SECP256K1_UNCOMPRESSED 65

/* What stands before the uncompressed point (or the compressed one, for COMPRESSED). */
typedef struct spki_prefix {
  size_t len;       /* of |bytes| */
  size_t point_len; /* of the point behind, form byte included */
  uint8_t bytes[27];
} spki_prefix;

#define EC_PUBLIC_KEY 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01
#define CURVE_P224 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21
#define CURVE_P256 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07
#define CURVE_P384 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22
#define CURVE_P521 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23
#define CURVE_SECP256K1 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a

static const spki_prefix NIST_CURVES[] = {
    {23, 57, {0x30, 0x4e, 0x30, 0x10, EC_PUBLIC_KEY, CURVE_P224, 0x03, 0x3a, 0x00}},
    {26, 65, {0x30, 0x59, 0x30, 0x13, EC_PUBLIC_KEY, CURVE_P256, 0x03, 0x42, 0x00}},
    {23, 97, {0x30, 0x76, 0x30, 0x10, EC_PUBLIC_KEY, CURVE_P384, 0x03, 0x62, 0x00}},
    {25, 133, {0x30, 0x81, 0x9b, 0x30, 0x10, EC_PUBLIC_KEY, CURVE_P521, 0x03, 0x81, 0x86, 0x00}},
};
static const spki_prefix SECP256K1_LONG = {
    23,
    SECP256K1_UNCOMPRESSED,
    {0x30, 0x56, 0x30, 0x10, EC_PUBLIC_KEY, CURVE_SECP256K1, 0x03, 0x42, 0x00}};
static const spki_prefix SECP256K1_SHORT = {
    23,
    SECP256K1_COMPRESSED,
    {0x30, 0x36, 0x30, 0x10, EC_PUBLIC_KEY, CURVE_SECP256K1, 0x03, 0x22, 0x00}};

/* is_nist_key says whether |data| is the key of a NIST curve with an uncompressed point. */
static bool is_nist_key(const uint8_t *data, size_t len) {
  for (size_t i = 0; i < PU_COUNT(NIST_CURVES); i++) {
    const spki_prefix *p = &NIST_CURVES[i];
    if (len == p->len + p->point_len && memcmp(data, p->bytes, p->len) == 0)
      return data[p->len] == 0x04;
  }
  return false;
}

/* load_secp256k1 reads a point of either length. */
static EVP_PKEY *load_secp256k1(const pu_libcrypto *c, const uint8_t *data, size_t len) {
  const spki_prefix *p = len == SECP256K1_COMPRESSED ? &SECP256K1_SHORT : &SECP256K1_LONG;
  uint8_t der[sizeof(p->bytes) + SECP256K1_UNCOMPRESSED];
  PU_ASSERT(len == p->point_len);
  memcpy(der, p->bytes, p->len);
  memcpy(der + p->len, data, len);
  const unsigned char *at = der;
  return c->d2i_PUBKEY(NULL, &at, (long)(p->len + len));
}

static EVP_PKEY *load(const pu_libcrypto *c, pu_key_type type, const uint8_t *data, size_t len) {
  if (type == PU_KEY_SECP256K1)
    return load_secp256k1(c, data, len);
  const unsigned char *at = data;
  EVP_PKEY *key = c->d2i_PUBKEY(NULL, &at, (long)len);
  if (key != NULL && at != data + len) { /* bytes behind the key */
    c->EVP_PKEY_free(key);
    key = NULL;
  }
  return key;
}

static int check_rsa(const pu_libcrypto *c, EVP_PKEY *key, const uint8_t *data, size_t len) {
  if (c->EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
    return PU_E_PARSE;
  int bits = c->EVP_PKEY_get_bits(key);
  if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS)
    return PU_E_PARSE;
  BIGNUM *exponent = NULL;
  if (c->EVP_PKEY_get_bn_param(key, "e", &exponent) != 1)
    return PU_E_PARSE;
  int exponent_bits = c->BN_num_bits(exponent);
  c->BN_free(exponent);
  if (exponent_bits < 2 || exponent_bits > RSA_MAX_EXPONENT_BITS)
    return PU_E_PARSE;
  unsigned char *again = NULL;
  int again_len = c->i2d_PUBKEY(key, &again);
  if (again_len <= 0)
    return PU_E_NOMEM;
  bool same = (size_t)again_len == len && memcmp(again, data, len) == 0;
  c->CRYPTO_free(again, __FILE__, __LINE__);
  return same ? 0 : PU_E_PARSE;
}

int pu_key_remote_check(pu_key_type type, const uint8_t *data, size_t len, uint8_t *out,
                        size_t *out_len) {
  if (len == 0 || len > PU_KEY_MAX_PROTOBUF)
    return PU_E_PARSE;
  if (type == PU_KEY_SECP256K1 &&
      !(len == SECP256K1_COMPRESSED && (data[0] == 0x02 || data[0] == 0x03)) &&
      !(len == SECP256K1_UNCOMPRESSED && data[0] == 0x04))
    return PU_E_PARSE;
  if (type == PU_KEY_ECDSA && !is_nist_key(data, len))
    return PU_E_PARSE;
  const pu_libcrypto *c = pu_libcrypto_get();
  if (c == NULL)
    return PU_E_UNSUPPORTED;
  EVP_PKEY *key = load(c, type, data, len);
  int rc = key == NULL ? PU_E_PARSE : 0;
  if (rc == 0 && type == PU_KEY_RSA)
    rc = check_rsa(c, key, data, len);
  c->EVP_PKEY_free(key);
  c->ERR_clear_error();
  if (rc != 0)
    return rc;
  if (type == PU_KEY_SECP256K1 && len == SECP256K1_UNCOMPRESSED) {
    out[0] = (uint8_t)(0x02 | (data[len - 1] & 1)); /* the sign of y */
    memcpy(out + 1, data + 1, SECP256K1_COMPRESSED - 1);
    *out_len = SECP256K1_COMPRESSED;
    return 0;
  }
  memcpy(out, data, len);
  *out_len = len;
  return 0;
}

int pu_key_remote_verify(pu_key_type type, const uint8_t *data, size_t data_len, const uint8_t *msg,
                         size_t len, const uint8_t *sig, size_t sig_len) {
  const pu_libcrypto *c = pu_libcrypto_get();
  if (c == NULL)
    return PU_E_UNSUPPORTED;
  int rc = PU_E_CRYPTO;
  EVP_MD_CTX *ctx = NULL;
  EVP_PKEY *key = load(c, type, data, data_len);
  if (key == NULL)
    goto done;
  ctx = c->EVP_MD_CTX_new();
  if (ctx == NULL || c->EVP_DigestVerifyInit(ctx, NULL, c->EVP_sha256(), NULL, key) != 1)
    goto done;
  if (c->EVP_DigestVerify(ctx, sig, sig_len, msg, len) == 1)
    rc = 0;
done:
  c->EVP_MD_CTX_free(ctx);
  c->EVP_PKEY_free(key);
  c->ERR_clear_error();
  return rc;
}
