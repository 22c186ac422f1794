/* Heads of the upgrade to WebSocket, both sides'. Byte 0, bit 0: a request, else a response. What
 * is taken as a request has a key that can be answered, and the same head with a byte more is
 * refused. */
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "transport/ws_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char key[PU_WS_KEY_TEXT], accept[PU_WS_ACCEPT_TEXT], why[PU_WS_HTTP_WHY];
  unsigned status = 0;
  if (size == 0)
    return 0;
  const uint8_t *head = data + 1;
  const size_t len = pu_ws_http_end(head, size - 1, 0);
  PU_ASSERT(len <= size - 1);
  if (data[0] % 2 == 0) {
    why[0] = '\0';
    const int rc = pu_ws_response_read(head, size - 1, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", why);
    PU_ASSERT(rc == 0 || (why[0] != '\0' && strlen(why) < sizeof why));
    PU_ASSERT(rc != 0 || len == size - 1);
    return 0;
  }
  if (pu_ws_request_read(head, size - 1, key, &status) != 0) {
    PU_ASSERT(status == 400 || status == 426);
    return 0;
  }
  PU_ASSERT(len == size - 1 && len <= PU_WS_HTTP_MAX && strlen(key) == PU_WS_KEY_TEXT - 1);
  PU_ASSERT(pu_ws_accept(key, accept) == 0 && strlen(accept) == PU_WS_ACCEPT_TEXT - 1);
  char *more = malloc(len + 1);
  PU_ASSERT(more != NULL);
  memcpy(more, head, len);
  more[len] = 'x';
  PU_ASSERT(pu_ws_request_read((const uint8_t *)more, len + 1, key, &status) == PU_E_PROTOCOL);
  free(more);
  return 0;
}
