/* The one seam for bulk ChaCha20-Poly1305, with 12-byte nonces and no associated data. libsodium
 * serves while a direction has moved little; from PU_AEAD_BULK_AFTER bytes on libcrypto does, which
 * is 2-3 times faster but costs megabytes of resident memory, so that an idle daemon never loads it
 * (docs/adr/0003). Where libcrypto cannot be loaded libsodium goes on. */
#ifndef PU_SECURITY_AEAD_H
#define PU_SECURITY_AEAD_H

#include "base/mem.h"

#define PU_AEAD_KEY 32
#define PU_AEAD_NONCE 12
#define PU_AEAD_TAG 16
#define PU_AEAD_BULK_AFTER (256u * 1024)
/* Shorter messages do not count as bulk: libsodium is as fast with them, and a week of keepalives
 * must not make an idle daemon load libcrypto. */
#define PU_AEAD_BULK_MESSAGE 512

typedef struct pu_aead {
  uint8_t key[PU_AEAD_KEY];
  uint64_t moved;  /* bytes of bulk through this direction, until |bulk| is set */
  void *bulk;      /* EVP_CIPHER_CTX with the key set; NULL until bulk */
  bool no_bulk;    /* libcrypto does not serve: libsodium goes on, nothing is tried again */
  bool sealing;    /* one direction, one use */
} pu_aead;

void pu_aead_init(pu_aead *a, const uint8_t key[static PU_AEAD_KEY], bool sealing);
/* pu_aead_deinit wipes the key. */
void pu_aead_deinit(pu_aead *a);
/* pu_aead_seal encrypts |len| bytes at |data| in place and writes the tag behind them. */
PU_MUST_CHECK int pu_aead_seal(pu_aead *a, const uint8_t nonce[static PU_AEAD_NONCE], uint8_t *data,
                               size_t len);
/* pu_aead_open decrypts |len| bytes (tag included) in place: PU_E_CRYPTO, and |data| is wiped. */
PU_MUST_CHECK int pu_aead_open(pu_aead *a, const uint8_t nonce[static PU_AEAD_NONCE], uint8_t *data,
                               size_t len);

#endif
