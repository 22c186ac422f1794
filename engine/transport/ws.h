/* WebSocket (wire 10): a raw connection on another one, and the transport that dials it. Inside it is a
 * byte stream: message borders mean nothing. */
#ifndef PU_TRANSPORT_WS_H
#define PU_TRANSPORT_WS_H

#include "security/tls_web.h"
#include "transport/transport.h"

#define PU_WS_UPGRADE_US 15000000u /* wire 10: what the upgrade may take */
#define PU_WS_OWN_MAX 4096u        /* bytes of ours that wait to be written: a head, control frames */
#define PU_WS_MASK_BYTES 32768u    /* masked at once, on the stack */

typedef struct pu_ws_config {
  pu_mem *mem;
  pu_platform *platform;
  /* Client: what the request says; borrowed during the call. |host| NULL: a server. */
  const char *host;
  uint16_t port; /* 0: not told */
  const char *path;
  /* Client: the upgrade succeeded (0), or failed, with a |detail| for people. Never inside the call that
   * makes the connection. Its owner closes it then, or gives it to whoever sets its events before this
   * returns: bytes may follow. */
  void (*on_ready)(void *data, int status, const char *detail);
  void *data;
} pu_ws_config;

/* pu_ws_raw_new makes a WebSocket connection on |below|, which it takes over also when it fails. A server's
 * takes writes only after the upgrade; whoever owns it limits its time. */
PU_MUST_CHECK int pu_ws_raw_new(const pu_ws_config *config, pu_raw *below, pu_raw **out);

/* pu_ws_transport_new makes the transport that dials /ws and /tls/ws by way of |tcp|; it and |web| outlive
 * it. A web server's certificate must be the one the address pins, or one that the system trusts. */
PU_MUST_CHECK int pu_ws_transport_new(pu_mem *mem, pu_platform *platform, pu_transport *tcp,
                                      pu_tls_web *web, pu_transport **out);
/* pu_ws_serve makes a server's end of |below|, inside TLS if |web| is not NULL; takes |below| over also when
 * it fails. */
PU_MUST_CHECK int pu_ws_serve(pu_mem *mem, pu_platform *platform, pu_tls_web *web, pu_raw *below,
                              pu_raw **out);
/* pu_ws_append adds /ws, or with |tls| /tls/ws, to an address: PU_E_LIMIT. */
PU_MUST_CHECK int pu_ws_append(pu_multiaddr *a, bool tls);
/* pu_ws_append_pin adds /certhash: the SHA-256 of the web server's certificate. */
PU_MUST_CHECK int pu_ws_append_pin(pu_multiaddr *a, const uint8_t pin[static PU_TLS_WEB_PIN]);

#endif
