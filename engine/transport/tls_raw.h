/* TLS with a web certificate (security/tls_web.h) as a raw connection on another one: what /tls/ws runs in
 * (wire 10). */
#ifndef PU_TRANSPORT_TLS_RAW_H
#define PU_TRANSPORT_TLS_RAW_H

#include "base/mem.h"
#include "security/tls_web.h"
#include "transport/raw.h"

#define PU_TLS_RAW_OWN_MAX (128u * 1024) /* sealed bytes that wait: a flight, or what a write has left */

typedef struct pu_tls_raw_config {
  pu_tls_web *web;
  pu_tls_web_config session; /* its mem serves for all */
  /* Client: the handshake succeeded (0), or failed, with a |detail| for people. Never inside the call that
   * makes the connection. Its owner closes it then, or gives it to whoever sets its events before this
   * returns. */
  void (*on_ready)(void *data, int status, const char *detail);
  void *data;
} pu_tls_raw_config;

/* pu_tls_raw_new makes a TLS connection on |below|, which it takes over also when it fails. It takes
 * writes only after the handshake; whoever owns it limits its time. */
PU_MUST_CHECK int pu_tls_raw_new(const pu_tls_raw_config *config, pu_raw *below, pu_raw **out);

#endif
