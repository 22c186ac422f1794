/* core.crypto: what invites and cookies need, by libsodium. Keys of the wrong length are misuse and
 * throw; what a remote side can cause (a bad point, a wrong tag) is nil, err. */
#include <lauxlib.h>
#include <sodium.h>
#include <string.h>

#include "base/hkdf.h"
#include "base/multibase.h"
#include "bindings/core.h"
#include "bindings/error.h"

/* Bounds against a slip in a script, not against peers. */
#define RANDOM_MAX_BYTES 65536
#define BASE32_MAX_BYTES 65536

static const uint8_t *check_bytes(lua_State *L, int arg, size_t *len) {
  return (const uint8_t *)luaL_checklstring(L, arg, len);
}

static const uint8_t *check_exact(lua_State *L, int arg, size_t want) {
  size_t len;
  const uint8_t *bytes = check_bytes(L, arg, &len);
  if (len != want)
    luaL_argerror(L, arg, lua_pushfstring(L, "%d bytes expected, got %d", (int)want, (int)len));
  return bytes;
}

static void push_bytes(lua_State *L, const uint8_t *bytes, size_t len) {
  lua_pushlstring(L, (const char *)bytes, len);
}

static int crypto_random(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX_BYTES, 1, "0 to 65536 bytes");
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, (size_t)n);
  randombytes_buf(out, (size_t)n);
  luaL_pushresultsize(&b, (size_t)n);
  return 1;
}

static int crypto_x25519_keypair(lua_State *L) {
  uint8_t secret[crypto_scalarmult_SCALARBYTES], public[crypto_scalarmult_BYTES];
  randombytes_buf(secret, sizeof(secret));
  (void)crypto_scalarmult_base(public, secret);
  push_bytes(L, secret, sizeof(secret));
  sodium_memzero(secret, sizeof(secret));
  push_bytes(L, public, sizeof(public));
  return 2;
}

static int crypto_x25519(lua_State *L) {
  const uint8_t *secret = check_exact(L, 1, crypto_scalarmult_SCALARBYTES);
  const uint8_t *public = check_exact(L, 2, crypto_scalarmult_BYTES);
  uint8_t shared[crypto_scalarmult_BYTES];
  if (crypto_scalarmult(shared, secret, public) != 0 || sodium_is_zero(shared, sizeof(shared)))
    return pul_error_return(L, PU_E_CRYPTO, "the other side's key gives no shared secret");
  push_bytes(L, shared, sizeof(shared));
  sodium_memzero(shared, sizeof(shared));
  return 1;
}

static int crypto_x25519_public(lua_State *L) {
  const uint8_t *secret = check_exact(L, 1, crypto_scalarmult_SCALARBYTES);
  uint8_t public[crypto_scalarmult_BYTES];
  (void)crypto_scalarmult_base(public, secret);
  push_bytes(L, public, sizeof(public));
  return 1;
}

static int crypto_hkdf(lua_State *L) {
  size_t ikm_len, salt_len, info_len;
  const uint8_t *ikm = check_bytes(L, 1, &ikm_len);
  const uint8_t *salt = (const uint8_t *)luaL_optlstring(L, 2, "", &salt_len);
  const uint8_t *info = (const uint8_t *)luaL_optlstring(L, 3, "", &info_len);
  lua_Integer len = luaL_checkinteger(L, 4);
  luaL_argcheck(L, len > 0 && len <= (lua_Integer)PU_HKDF_MAX_BYTES, 4, "1 to 8160 bytes");
  uint8_t prk[PU_HKDF_HASH_BYTES];
  luaL_Buffer b;
  uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, (size_t)len);
  pu_hkdf_extract(salt, salt_len, ikm, ikm_len, prk);
  int rc = pu_hkdf_expand(prk, info, info_len, out, (size_t)len);
  sodium_memzero(prk, sizeof(prk));
  if (rc != 0)
    return luaL_error(L, "hkdf: %s", pu_error_sentence(rc));
  luaL_pushresultsize(&b, (size_t)len);
  return 1;
}

static int crypto_sha256(lua_State *L) {
  size_t len;
  const uint8_t *bytes = check_bytes(L, 1, &len);
  uint8_t out[crypto_hash_sha256_BYTES];
  (void)crypto_hash_sha256(out, bytes, len);
  push_bytes(L, out, sizeof(out));
  return 1;
}

static int crypto_hmac(lua_State *L) {
  size_t key_len, len;
  const uint8_t *key = check_bytes(L, 1, &key_len);
  const uint8_t *bytes = check_bytes(L, 2, &len);
  uint8_t out[crypto_auth_hmacsha256_BYTES];
  crypto_auth_hmacsha256_state state;
  (void)crypto_auth_hmacsha256_init(&state, key, key_len);
  (void)crypto_auth_hmacsha256_update(&state, bytes, len);
  (void)crypto_auth_hmacsha256_final(&state, out);
  sodium_memzero(&state, sizeof(state));
  push_bytes(L, out, sizeof(out));
  return 1;
}

static int crypto_seal(lua_State *L) {
  const uint8_t *key = check_exact(L, 1, crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
  const uint8_t *nonce = check_exact(L, 2, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
  size_t len;
  const uint8_t *plain = check_bytes(L, 3, &len);
  size_t out_len = len + crypto_aead_xchacha20poly1305_ietf_ABYTES;
  luaL_Buffer b;
  uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, out_len);
  (void)crypto_aead_xchacha20poly1305_ietf_encrypt(out, NULL, plain, len, NULL, 0, NULL, nonce,
                                                   key);
  luaL_pushresultsize(&b, out_len);
  return 1;
}

static int crypto_open(lua_State *L) {
  const uint8_t *key = check_exact(L, 1, crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
  const uint8_t *nonce = check_exact(L, 2, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
  size_t len;
  const uint8_t *sealed = check_bytes(L, 3, &len);
  if (len < crypto_aead_xchacha20poly1305_ietf_ABYTES)
    return pul_error_return(L, PU_E_CRYPTO, "the message is too short");
  size_t out_len = len - crypto_aead_xchacha20poly1305_ietf_ABYTES;
  luaL_Buffer b;
  uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, out_len);
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed, len, NULL, 0, nonce,
                                                 key) != 0)
    return pul_error_return(L, PU_E_CRYPTO, "the message was made with another key or changed");
  luaL_pushresultsize(&b, out_len);
  return 1;
}

static int crypto_equal(lua_State *L) {
  size_t a_len, b_len;
  const uint8_t *a = check_bytes(L, 1, &a_len);
  const uint8_t *b = check_bytes(L, 2, &b_len);
  lua_pushboolean(L, a_len == b_len && sodium_memcmp(a, b, a_len) == 0);
  return 1;
}

static int crypto_base32(lua_State *L) {
  size_t len;
  const uint8_t *bytes = check_bytes(L, 1, &len);
  luaL_argcheck(L, len <= BASE32_MAX_BYTES, 1, "at most 65536 bytes");
  size_t cap = (len + 4) / 5 * 8 + 1;
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, cap);
  ssize_t n = pu_base32_encode(bytes, len, true, out, cap);
  if (n < 0)
    return luaL_error(L, "base32: %s", pu_error_sentence((int)n));
  luaL_pushresultsize(&b, (size_t)n);
  return 1;
}

void pul_crypto_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"random", crypto_random},        {"x25519_keypair", crypto_x25519_keypair},
      {"x25519", crypto_x25519},        {"x25519_public", crypto_x25519_public},
      {"hkdf_sha256", crypto_hkdf},     {"sha256", crypto_sha256},
      {"hmac_sha256", crypto_hmac},     {"xchacha_seal", crypto_seal},
      {"xchacha_open", crypto_open},    {"equal", crypto_equal},
      {"base32_encode", crypto_base32}, {NULL, NULL}};
  luaL_newlib(L, functions);
}
