/* The outer TLS of a /wss connection (wire 10): TLS 1.3 with an ordinary web certificate, whose
 * peer is not a libp2p identity: libp2p's own security runs inside. A session of it is a
 * pu_security driven through pu_tls_web_ops, as a handshake and then records on memory; it does no
 * I/O and knows no clock. Only pu_tls_web_load reads files. */
#ifndef PU_SECURITY_TLS_WEB_H
#define PU_SECURITY_TLS_WEB_H

#include "peerup/error.h"
#include "security/security.h"

#define PU_TLS_WEB_PIN 32                /* SHA-256 of a certificate's DER */
#define PU_TLS_WEB_FILE_MAX (64u * 1024) /* bytes of a PEM file of ours */
#define PU_TLS_WEB_HOST_MAX 255

/* What an engine has for the web: its certificate, and the authorities of the system, read when the
 * first client asks for them. Both are shared by all sessions. */
typedef struct pu_tls_web pu_tls_web;

/* pu_tls_web_new prepares one; nothing costly happens before its first use. */
PU_MUST_CHECK int pu_tls_web_new(pu_mem *mem, pu_tls_web **out);
/* pu_tls_web_free may come before the end of sessions, which keep what they use. */
void pu_tls_web_free(pu_tls_web *w);
/* pu_tls_web_load takes the certificate chain and the key of listeners from PEM files; called again
 * it replaces them (renewal) for the sessions that start afterwards, and keeps the old ones when it
 * fails. PU_E_NOT_FOUND, PU_E_IO, PU_E_KEY_MODE (anybody may read the key), PU_E_PARSE (malformed,
 * or the key is of another certificate), PU_E_TOO_BIG, PU_E_NOMEM; |why| (may be NULL) gets a
 * static text for people. */
PU_MUST_CHECK int pu_tls_web_load(pu_tls_web *w, const char *certificate_file, const char *key_file,
                                  const char **why);
/* pu_tls_web_keep does it with a certificate of our own that outlives us: |file| holds it and its
 * key, in PEM, and is made (self-signed as below, 0600) when it is not there. As pu_tls_web_load,
 * PU_E_CRYPTO; |err| (may be NULL) says why. */
PU_MUST_CHECK int pu_tls_web_keep(pu_tls_web *w, const char *file, uint64_t now_unix_s,
                                  pu_error *err);
/* pu_tls_web_pin gives the SHA-256 of the certificate that listeners show. Without files it is a
 * self-signed P-256 one, made now if need be and valid from a day before |now_unix_s| for ten
 * years. PU_E_CRYPTO, PU_E_NOMEM. */
PU_MUST_CHECK int pu_tls_web_pin(pu_tls_web *w, uint64_t now_unix_s,
                                 uint8_t pin[static PU_TLS_WEB_PIN]);

/* Which certificates of a server a client takes. */
typedef enum pu_tls_web_trust {
  PU_TLS_WEB_SYSTEM, /* the system's authorities vouch for it and for |host|, a DNS name or an IP
                        address */
  PU_TLS_WEB_PINNED, /* it is the one with |pin| */
  PU_TLS_WEB_ANY     /* any: who answers is proved inside */
} pu_tls_web_trust;

typedef struct pu_tls_web_config {
  pu_mem *mem;
  bool initiator;
  uint64_t now_unix_s; /* 0: dates are not looked at */
  /* of a client: */
  const char *host; /* sent as SNI if it is a DNS name, and verified; NULL: none, which only PINNED
                       and ANY allow. Copied. */
  pu_tls_web_trust trust;
  uint8_t pin[PU_TLS_WEB_PIN];
} pu_tls_web_config;

/* pu_tls_web_start makes a session: PU_E_NOMEM, PU_E_CRYPTO, PU_E_INVAL, PU_E_NOT_FOUND (the system
 * has no authorities). */
PU_MUST_CHECK int pu_tls_web_start(pu_tls_web *w, const pu_tls_web_config *config,
                                   pu_security **out);

/* As every pu_security_ops, except: start is NULL; result, once it is not NULL, says nothing about
 * the peer (peer.len is 0, muxer is ""). ALPN is "http/1.1", if the peer speaks of it. open returns
 * PU_E_EOF at the peer's close_notify. */
extern const pu_security_ops pu_tls_web_ops;

#endif
