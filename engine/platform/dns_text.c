/* TXT records out of a DNS answer; see dns_text.h. The C library takes the message apart. */
#include "platform/dns_text.h"

#include <arpa/nameser.h>
#include <string.h>

/* join copies the character strings of one record behind each other; false when they do not fit. */
static bool join(const uint8_t *data, size_t len, char *out) {
  size_t at = 0, size = 0;
  while (at < len) {
    const size_t n = data[at++];
    if (n > len - at || n >= PU_DNS_TEXT_BYTES - size || memchr(data + at, 0, n) != NULL)
      return false;
    memcpy(out + size, data + at, n);
    size += n;
    at += n;
  }
  out[size] = '\0';
  return true;
}

int pu_dns_text_parse(const uint8_t *answer, size_t len, pu_dns_texts *out) {
  ns_msg message;
  out->count = 0;
  if (len > UINT16_MAX || ns_initparse(answer, (int)len, &message) != 0)
    return PU_E_PARSE;
  for (int i = 0; i < ns_msg_count(message, ns_s_an) && out->count < PU_RESOLVE_TEXTS_MAX; i++) {
    ns_rr record;
    if (ns_parserr(&message, ns_s_an, i, &record) != 0)
      return PU_E_PARSE;
    if (ns_rr_type(record) == ns_t_txt &&
        join(ns_rr_rdata(record), ns_rr_rdlen(record), out->text[out->count]))
      out->count++;
  }
  return out->count > 0 ? 0 : PU_E_NOT_FOUND;
}
