/* Fuzzes identity/key: a key that was read has a canonical form that reads as itself. */
#include <string.h>

#include "identity/key.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_public_key key, again;
  pu_key *private = NULL;
  if (pu_public_key_parse(data, size, &key) == 0) {
    PU_ASSERT(pu_public_key_parse(key.protobuf, key.len, &again) == 0);
    PU_ASSERT(memcmp(&key, &again, sizeof(key)) == 0);
    pu_peer_id id;
    pu_public_key_peer_id(&key, &id);
    if (pu_public_key_from_peer_id(&id, &again) == 0)
      PU_ASSERT(memcmp(&key, &again, sizeof(key)) == 0);
    PU_ASSERT(pu_public_key_verify(&key, data, size, data, size < 64 ? size : 64) != 0);
  }
  if (pu_key_parse(data, size, &private) == 0)
    pu_key_free(private);
  return 0;
}
