/* The libp2p certificate (wire 7, TLS and QUIC): a fresh key whose certificate carries our
 * identity key and its signature in an extension (of Ed25519, and one of P-256 for who does not
 * know that), and the check of a peer's. One per engine, made
 * at first use, shared by all its TLS and QUIC sessions. */
#ifndef PU_SECURITY_TLS_IDENTITY_H
#define PU_SECURITY_TLS_IDENTITY_H

#include "identity/key.h"
#include "peerup/error.h"

typedef struct pu_tls_identity pu_tls_identity;
struct gnutls_session_int;

/* pu_tls_is_fast says whether this machine has instructions for AES-GCM: without them Noise's
 * cipher is the faster one, the more so as GnuTLS's ChaCha20 is slow. */
bool pu_tls_is_fast(void);

/* pu_tls_identity_new prepares one; nothing costly happens before its first use. |key| outlives it.
 * The certificate is valid from an hour before |now_unix_s| for a hundred years. */
PU_MUST_CHECK int pu_tls_identity_new(pu_mem *mem, const pu_key *key, uint64_t now_unix_s,
                                      pu_tls_identity **out);
void pu_tls_identity_free(pu_tls_identity *t);

/* pu_tls_identity_certificate returns our certificate of Ed25519 in DER (made now if need be): 0,
 * PU_E_CRYPTO, PU_E_NOMEM. The bytes live as long as |t|. */
PU_MUST_CHECK int pu_tls_identity_certificate(pu_tls_identity *t, const uint8_t **der, size_t *len);

/* pu_tls_prepare gives a fresh GnuTLS session (TLS 1.3) our certificate, priorities (AES-128-GCM
 * first), the demand for exactly one certificate of the peer, no CA names, no SNI, and ALPN |alpn|
 * (best first, mandatory). The caller made it with the flags it needs and sets its own verify
 * function, which calls pu_tls_check_peer. |quic|: middlebox compatibility mode off. PU_E_CRYPTO,
 * PU_E_NOMEM. */
PU_MUST_CHECK int pu_tls_prepare(pu_tls_identity *t, struct gnutls_session_int *session,
                                 bool initiator, bool quic, const char *const *alpn,
                                 size_t alpn_count);

/* pu_tls_guard makes |session| refuse, as soon as they are read, certificates with keys that cost
 * much to use (GnuTLS verifies what a peer signed before it asks for the judgement), and servers
 * that want records smaller than TLS's usual ones. pu_tls_prepare does it, too. */
void pu_tls_guard(struct gnutls_session_int *session);

/* pu_tls_check_peer judges the certificate of a session's peer, inside the verify function: one
 * certificate, dates (with a day's tolerance; unix seconds, 0: not looked at), self-signature,
 * extension, signature, and |expected| if it is not NULL and its len not 0. 0, PU_E_CRYPTO,
 * PU_E_PROTOCOL, PU_E_PEER_MISMATCH; |why| (may be NULL) gets a static text for people. */
PU_MUST_CHECK int pu_tls_check_peer(pu_tls_identity *t, struct gnutls_session_int *session,
                                    uint64_t now_unix_s, const pu_peer_id *expected,
                                    pu_public_key *key, pu_peer_id *peer, const char **why);
/* pu_tls_check_certificate is the same for a certificate in DER, the first of |count| that were
 * shown. |t| (may be NULL) remembers the hashes of the last certificates found good, whose
 * signatures need not be verified again; dates and |expected| are looked at each time. */
PU_MUST_CHECK int pu_tls_check_certificate(pu_tls_identity *t, const uint8_t *der, size_t len,
                                           size_t count, uint64_t now_unix_s,
                                           const pu_peer_id *expected, pu_public_key *key,
                                           pu_peer_id *peer, const char **why);

#endif
