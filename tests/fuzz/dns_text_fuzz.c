/* Fuzzes the TXT records of a DNS answer. */
#include <string.h>

#include "platform/assert.h"
#include "platform/dns_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static pu_dns_texts texts;
  const int status = pu_dns_text_parse(data, size, &texts);
  PU_ASSERT(status == 0 || texts.count == 0 || status == PU_E_PARSE);
  PU_ASSERT(texts.count <= PU_RESOLVE_TEXTS_MAX);
  for (size_t i = 0; i < texts.count; i++)
    PU_ASSERT(strnlen(texts.text[i], PU_DNS_TEXT_BYTES) < PU_DNS_TEXT_BYTES);
  return 0;
}
