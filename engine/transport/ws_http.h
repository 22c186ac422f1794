/* The heads of the HTTP/1.1 upgrade to WebSocket (wire 10; RFC 6455, 4; RFC 9112): written, and read by a
 * small strict parser that takes whole heads. What a proxy may add (other headers, lists, other letter
 * case) is fine; what could be read in two ways is not. */
#ifndef PU_TRANSPORT_WS_HTTP_H
#define PU_TRANSPORT_WS_HTTP_H

#include "peerup/defs.h"
#include "peerup/error.h"

#define PU_WS_HTTP_MAX 8192u       /* bytes of a head */
#define PU_WS_HTTP_HEADERS_MAX 100u /* lines of it */
#define PU_WS_KEY_TEXT 25u         /* 16 bytes in base64 and a NUL */
#define PU_WS_ACCEPT_TEXT 29u      /* 20 bytes in base64 and a NUL */
#define PU_WS_HTTP_WHY 200u

/* pu_ws_http_end returns the bytes up to and with the empty line that ends a head, looking from |from| on;
 * 0 when it is not there yet. */
size_t pu_ws_http_end(const uint8_t *in, size_t len, size_t from);

/* pu_ws_accept derives what proves that a server has read |key|: 0, PU_E_CRYPTO. */
PU_MUST_CHECK int pu_ws_accept(const char *key, char out[static PU_WS_ACCEPT_TEXT]);

/* pu_ws_request_write writes a client's head; |path| holds raw bytes, |host| is a name or a literal address
 * (in brackets for IPv6), |port| 0: not told. Returns its bytes, PU_E_TOO_BIG, PU_E_INVAL (a host that
 * cannot stand in a head). */
PU_MUST_CHECK ssize_t pu_ws_request_write(const char *host, uint16_t port, const char *path,
                                          const char key[static PU_WS_KEY_TEXT], char *out, size_t cap);
/* pu_ws_request_read judges a client's whole head: 0 and its |key|, or PU_E_PROTOCOL and in |*status| the
 * HTTP status to refuse it with. */
PU_MUST_CHECK int pu_ws_request_read(const uint8_t *in, size_t len, char key[static PU_WS_KEY_TEXT],
                                     unsigned *status);

/* pu_ws_response_write writes a server's head: 101 with |accept|, or a refusal. Returns its bytes. */
#define PU_WS_RESPONSE_MAX 192u
size_t pu_ws_response_write(unsigned status, const char *accept, char out[static PU_WS_RESPONSE_MAX]);
/* pu_ws_response_read judges a server's whole head: 0, PU_E_PROTOCOL (no HTTP, or an upgrade that is not
 * the one asked for), PU_E_REFUSED (another status); |why| is for people, and names where a redirect
 * leads. */
PU_MUST_CHECK int pu_ws_response_read(const uint8_t *in, size_t len, const char *accept,
                                      char why[static PU_WS_HTTP_WHY]);

#endif
