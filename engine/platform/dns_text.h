/* The TXT records of a DNS answer (RFC 1035 4.1), as the system's resolver hands it over. */
#ifndef PU_PLATFORM_DNS_TEXT_H
#define PU_PLATFORM_DNS_TEXT_H

#include "platform/platform.h"

#define PU_DNS_TEXT_BYTES 1024u /* of one record's strings, joined; longer records are left out */

typedef struct pu_dns_texts {
  size_t count;
  char text[PU_RESOLVE_TEXTS_MAX][PU_DNS_TEXT_BYTES];
} pu_dns_texts;

/* pu_dns_text_parse reads the TXT records of |answer|: 0, PU_E_NOT_FOUND (there are none),
 * PU_E_PARSE. Records with a NUL inside are left out. */
PU_MUST_CHECK int pu_dns_text_parse(const uint8_t *answer, size_t len, pu_dns_texts *out);

#endif
