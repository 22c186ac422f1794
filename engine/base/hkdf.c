/* HKDF with SHA-256 (RFC 5869) over libsodium's HMAC in parts, which takes keys of any length. */
#include "base/hkdf.h"

#include <sodium.h>
#include <string.h>

#include "peerup/error.h"

void pu_hkdf_extract(const uint8_t *salt, size_t salt_len, const uint8_t *ikm, size_t ikm_len,
                     uint8_t prk[static PU_HKDF_HASH_BYTES]) {
  crypto_auth_hmacsha256_state h;
  crypto_auth_hmacsha256_init(&h, salt, salt_len);
  crypto_auth_hmacsha256_update(&h, ikm, ikm_len);
  crypto_auth_hmacsha256_final(&h, prk);
  sodium_memzero(&h, sizeof(h));
}

int pu_hkdf_expand(const uint8_t prk[static PU_HKDF_HASH_BYTES], const uint8_t *info,
                   size_t info_len, uint8_t *out, size_t out_len) {
  if (out_len > PU_HKDF_MAX_BYTES)
    return PU_E_INVAL;
  crypto_auth_hmacsha256_state h;
  uint8_t block[PU_HKDF_HASH_BYTES];
  size_t done = 0;
  for (uint8_t i = 1; done < out_len; i++) {
    crypto_auth_hmacsha256_init(&h, prk, PU_HKDF_HASH_BYTES);
    if (i > 1)
      crypto_auth_hmacsha256_update(&h, block, sizeof(block));
    crypto_auth_hmacsha256_update(&h, info, info_len);
    crypto_auth_hmacsha256_update(&h, &i, 1);
    crypto_auth_hmacsha256_final(&h, block);
    size_t n = out_len - done < sizeof(block) ? out_len - done : sizeof(block);
    memcpy(out + done, block, n);
    done += n;
  }
  sodium_memzero(&h, sizeof(h));
  sodium_memzero(block, sizeof(block));
  return 0;
}
