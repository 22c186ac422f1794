/* Socket addresses as text. */
#include "platform/platform.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

const char *pu_sockaddr_text(const pu_sockaddr *sa, char out[static PU_SOCKADDR_TEXT]) {
  char ip[INET6_ADDRSTRLEN];
  if (sa->family == 0) {
    (void)snprintf(out, PU_SOCKADDR_TEXT, "none");
    return out;
  }
  (void)inet_ntop(sa->family == 6 ? AF_INET6 : AF_INET, sa->ip, ip, sizeof ip);
  (void)snprintf(out, PU_SOCKADDR_TEXT, sa->family == 6 ? "[%s]:%u" : "%s:%u", ip,
                 (unsigned)sa->port);
  return out;
}

bool pu_sockaddr_parse_ip(const char *text, pu_sockaddr *out) {
  pu_sockaddr sa = {0};
  if (inet_pton(AF_INET, text, sa.ip) == 1)
    sa.family = 4;
  else if (inet_pton(AF_INET6, text, sa.ip) == 1)
    sa.family = 6;
  else
    return false;
  *out = sa;
  return true;
}

bool pu_sockaddr_equal(const pu_sockaddr *a, const pu_sockaddr *b) {
  return a->family == b->family && a->port == b->port && a->scope == b->scope &&
         memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}
