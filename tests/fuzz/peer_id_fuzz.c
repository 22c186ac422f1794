/* Fuzzes identity/peer_id: an ID that was read prints as text that reads as the same ID. */
#include <string.h>

#include "identity/peer_id.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_peer_id id, again;
  char text[PU_PEER_ID_MAX_TEXT];
  if (pu_peer_id_from_text((const char *)data, size, &id) == 0) {
    PU_ASSERT(pu_peer_id_from_bytes(id.bytes, id.len, &again) == 0);
    PU_ASSERT(pu_peer_id_equal(&id, &again));
    PU_ASSERT(strlen(pu_peer_id_text(&id, text)) > 0);
    /* Text of a code other than identity and SHA-256 may begin with another letter, and is then
     * no text for an ID: Go's rule. */
    if (text[0] == '1' || (text[0] == 'Q' && text[1] == 'm')) {
      PU_ASSERT(pu_peer_id_from_text(text, strlen(text), &again) == 0);
      PU_ASSERT(pu_peer_id_equal(&id, &again));
    }
  }
  if (pu_peer_id_parse_multiaddr(data, size, &id) == 0) {
    PU_ASSERT(pu_peer_id_from_bytes(data, size, &again) == 0 && pu_peer_id_equal(&id, &again));
    (void)pu_peer_id_text(&id, text);
    PU_ASSERT(pu_peer_id_from_text(text, strlen(text), &again) == 0);
    PU_ASSERT(pu_peer_id_equal(&id, &again));
  }
  return 0;
}
