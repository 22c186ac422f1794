/* A TLS 1.3 session of GnuTLS on memory: what /tls/1.0.0 (tls.c) and the TLS of web addresses
 * (tls_web.c) have in common. GnuTLS speaks the handshake and its own record layer; this file's
 * functions fit it into pu_security_ops (docs/adr/0006). */
#ifndef PU_SECURITY_TLS_PRIV_H
#define PU_SECURITY_TLS_PRIV_H

#include <gnutls/gnutls.h>

#include "security/security.h"

#define PU_TLS_HEAD 5
#define PU_TLS_TAIL 17 /* the inner type and the tag, alike with all three ciphers */
#define PU_TLS_MAX_PLAIN 16384
#define PU_TLS_MAX_BODY (PU_TLS_MAX_PLAIN + 256) /* RFC 8446, 5.2 */
#define PU_TLS_MAX_RECORD (PU_TLS_HEAD + PU_TLS_MAX_BODY)
/* Handshake bytes taken from a peer, which GnuTLS may keep: a certificate with RSA keys of 8192
 * bits fits twice. */
#define PU_TLS_HANDSHAKE_MAX (16u * 1024)
/* Bytes of records without payload, one after the other, after the handshake: GnuTLS gathers a
 * handshake message of up to 16 MiB from them, and takes no payload before it is whole. */
#define PU_TLS_BARREN_MAX (32u * 1024)
/* What of ours waits to be taken by write: our longest flight, and answers to the peer's key
 * updates, which GnuTLS limits to 8 in a second. */
#define PU_TLS_OUT_MAX (96u * 1024)
/* What GnuTLS holds for a session beside our memory, so that accounts know of it. */
#define PU_TLS_SESSION_BYTES (24u * 1024)
/* Records sealed with one key: write renews it after so many; where nobody calls write for the same
 * number again, the session ends, well below the 2^24.5 that AES-GCM allows (RFC 8446, 5.5). */
#define PU_TLS_REKEY_RECORDS (UINT64_C(1) << 22)

/* The session behind pu_security: the first member of its owner's. */
typedef struct pu_tls_session {
  pu_mem *mem;
  gnutls_session_t tls;
  bool initiator, begun, done, farewell;
  int error; /* the first; 0: none */
  const char *why;
  const uint8_t *in; /* what the running call may read */
  size_t in_len;
  size_t taken, taken_max; /* handshake bytes */
  uint8_t *out;            /* what waits to be written; NULL: nothing */
  size_t out_len, out_pos;
  uint8_t *record; /* where the record being sealed goes; NULL: |out| */
  size_t record_len, record_cap;
  uint64_t sealed;
  size_t barren; /* bytes of records since the last payload */
  pu_security_result result;
  /* of the owner: */
  int (*verify)(struct pu_tls_session *s, const char **why); /* judges the peer's certificate */
  int (*finish)(struct pu_tls_session *s, const char **why); /* the handshake is done */
  void (*release)(struct pu_tls_session *s);                 /* frees what it added; may be NULL */
} pu_tls_session;

/* pu_tls_session_new allocates |size| zeroed bytes that begin with a session and makes GnuTLS's,
 * with |flags| beside the usual ones. The caller sets taken_max and the functions, and gives it
 * credentials and priorities. */
PU_MUST_CHECK int pu_tls_session_new(pu_mem *mem, size_t size, bool initiator, unsigned flags,
                                     pu_tls_session **out);

/* The functions of pu_security_ops. */
void pu_tls_session_free(pu_security *p);
ssize_t pu_tls_session_read(pu_security *p, const uint8_t *in, size_t len);
ssize_t pu_tls_session_write(pu_security *p, uint8_t *out, size_t cap);
const pu_security_result *pu_tls_session_result(const pu_security *p);
int pu_tls_session_seal(pu_security *p, pu_span *io);
ssize_t pu_tls_session_open(pu_security *p, uint8_t *in, size_t len, pu_span *plain);
size_t pu_tls_session_need(const pu_security *p, const uint8_t *in, size_t len);
size_t pu_tls_session_last(pu_security *p, uint8_t *out, size_t cap);
const char *pu_tls_session_why(const pu_security *p);

static inline pu_tls_session *pu_tls_session_of(pu_security *p) {
  return (pu_tls_session *)(void *)p;
}

#endif
