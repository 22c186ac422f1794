/* A TLS 1.3 peer made of GnuTLS alone, which does what ours never would: certificates of any shape,
 * several or none, tickets, odd ALPN, fragments. It talks to one of our sessions over memory. */
#ifndef PU_TESTS_GNUTLS_PEER_H
#define PU_TESTS_GNUTLS_PEER_H

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <time.h>

#include "support/tls_pair.h"

#define GNUTLS_PEER_ROOM 65536

/* What its certificate is like. All zero: as it should be. */
typedef struct gnutls_peer_certificate {
  gnutls_pk_algorithm_t algorithm; /* 0: ECDSA on P-256 */
  unsigned bits;                   /* 0: P-256's */
  bool no_extension, critical_extension, unknown_critical, client_only, broken_signature;
  bool other_key_signed; /* the identity signed another key */
  bool other_issuer;     /* another key signed the certificate */
  bool expired, future;
  uint64_t now_unix_s;      /* what these are measured by; 0: TLS_PAIR_NOW_S */
  unsigned claimed_bits;    /* it claims an RSA key of this length, which nobody holds */
  const uint8_t *extension; /* instead of what belongs there */
  size_t extension_len;
} gnutls_peer_certificate;

typedef struct gnutls_peer {
  gnutls_session_t tls;
  gnutls_certificate_credentials_t credentials;
  gnutls_pcert_st chain[2]; /* shown as they are, whatever GnuTLS thinks of them */
  unsigned chain_len;
  gnutls_privkey_t key;
  uint8_t in[GNUTLS_PEER_ROOM], out[GNUTLS_PEER_ROOM];
  size_t in_len, in_pos, out_len;
  bool done;
  int code; /* the handshake's error */
} gnutls_peer;

static inline ssize_t gnutls_peer_push(gnutls_transport_ptr_t data, const void *in, size_t len) {
  gnutls_peer *p = data;
  PU_ASSERT(len <= sizeof p->out - p->out_len);
  memcpy(p->out + p->out_len, in, len);
  p->out_len += len;
  return (ssize_t)len;
}

static inline ssize_t gnutls_peer_pull(gnutls_transport_ptr_t data, void *out, size_t len) {
  gnutls_peer *p = data;
  if (p->in_pos == p->in_len) {
    gnutls_transport_set_errno(p->tls, EAGAIN);
    return -1;
  }
  if (len > p->in_len - p->in_pos)
    len = p->in_len - p->in_pos;
  memcpy(out, p->in + p->in_pos, len);
  p->in_pos += len;
  return (ssize_t)len;
}

static inline int gnutls_peer_timeout(gnutls_transport_ptr_t data, unsigned timeout_ms) {
  const gnutls_peer *p = data;
  (void)timeout_ms;
  return p->in_pos < p->in_len;
}

static inline gnutls_x509_privkey_t gnutls_peer_key(const gnutls_peer_certificate *shape) {
  gnutls_x509_privkey_t key;
  gnutls_x509_privkey_init(&key);
  const gnutls_pk_algorithm_t algorithm =
      shape->algorithm != 0 ? shape->algorithm : GNUTLS_PK_ECDSA;
  const unsigned bits = shape->bits != 0 ? shape->bits
                        : algorithm == GNUTLS_PK_RSA
                            ? 2048
                            : (unsigned)GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);
  PU_ASSERT(gnutls_x509_privkey_generate(key, algorithm, bits, 0) == 0);
  return key;
}

/* gnutls_peer_extension writes the libp2p extension for |tls_key|; returns its bytes. */
static inline size_t gnutls_peer_extension(const pu_key *identity, gnutls_x509_privkey_t tls_key,
                                           uint8_t out[static 128]) {
  static const char prefix[] = "libp2p-tls-handshake:";
  const pu_public_key *public = pu_key_public(identity);
  uint8_t message[2048];
  gnutls_privkey_t abstract;
  gnutls_pubkey_t key;
  gnutls_datum_t spki;
  gnutls_privkey_init(&abstract);
  gnutls_pubkey_init(&key);
  PU_ASSERT(gnutls_privkey_import_x509(abstract, tls_key, 0) == 0);
  PU_ASSERT(gnutls_pubkey_import_privkey(key, abstract, 0, 0) == 0);
  PU_ASSERT(gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &spki) == 0);
  memcpy(message, prefix, sizeof prefix - 1);
  PU_ASSERT(spki.size <= sizeof message - sizeof prefix);
  memcpy(message + sizeof prefix - 1, spki.data, spki.size);
  PU_ASSERT(public->len == 36);
  out[0] = 0x30;
  out[1] = 2 + 36 + 2 + 64;
  out[2] = 0x04;
  out[3] = 36;
  memcpy(out + 4, public->protobuf, 36);
  out[40] = 0x04;
  out[41] = 64;
  pu_key_sign(identity, message, sizeof prefix - 1 + spki.size, out + 42);
  gnutls_free(spki.data);
  gnutls_pubkey_deinit(key);
  gnutls_privkey_deinit(abstract);
  return 106;
}

/* gnutls_peer_make makes a certificate and its key as |shape| says. */
static inline gnutls_x509_crt_t gnutls_peer_make(const gnutls_peer_certificate *shape,
                                                 const pu_key *identity,
                                                 gnutls_x509_privkey_t *key) {
  const gnutls_peer_certificate plain = {.algorithm = shape->claimed_bits > 0 ? GNUTLS_PK_RSA : 0};
  const time_t day = 86400,
               now = (time_t)(shape->now_unix_s != 0 ? shape->now_unix_s : TLS_PAIR_NOW_S);
  const time_t from = shape->future ? now + 2 * day : now - 100 * day;
  const time_t to = shape->expired ? now - 2 * day : now + 100 * day;
  uint8_t extension[128];
  gnutls_x509_crt_t crt;
  gnutls_x509_privkey_t other = gnutls_peer_key(&plain);
  *key = gnutls_peer_key(shape);
  size_t len = gnutls_peer_extension(identity, shape->other_key_signed ? other : *key, extension);
  gnutls_x509_crt_init(&crt);
  gnutls_x509_crt_set_version(crt, 3);
  gnutls_x509_crt_set_serial(crt, "\x01\x02", 2);
  gnutls_x509_crt_set_activation_time(crt, from);
  gnutls_x509_crt_set_expiration_time(crt, to);
  if (shape->claimed_bits > 0) {
    static uint8_t number[4096];
    memset(number, 0xff, sizeof number);
    const gnutls_datum_t modulus = {number, shape->claimed_bits / 8}, exponent = modulus;
    gnutls_pubkey_t claimed;
    gnutls_pubkey_init(&claimed);
    PU_ASSERT(gnutls_pubkey_import_rsa_raw(claimed, &modulus, &exponent) == 0);
    PU_ASSERT(gnutls_x509_crt_set_pubkey(crt, claimed) == 0);
    gnutls_pubkey_deinit(claimed);
  } else {
    PU_ASSERT(gnutls_x509_crt_set_key(crt, *key) == 0);
  }
  if (shape->unknown_critical)
    PU_ASSERT(gnutls_x509_crt_set_extension_by_oid(crt, "1.2.3.4.5", "\x05\x00", 2, 1) == 0);
  if (shape->client_only)
    PU_ASSERT(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0) == 0);
  if (!shape->no_extension)
    PU_ASSERT(
        gnutls_x509_crt_set_extension_by_oid(
            crt, "1.3.6.1.4.1.53594.1.1", shape->extension != NULL ? shape->extension : extension,
            shape->extension != NULL ? shape->extension_len : len, shape->critical_extension) == 0);
  PU_ASSERT(
      gnutls_x509_crt_sign2(crt, crt, shape->other_issuer ? other : *key,
                            shape->algorithm == GNUTLS_PK_EDDSA_ED25519 && !shape->other_issuer
                                ? GNUTLS_DIG_SHA512
                                : GNUTLS_DIG_SHA256,
                            0) == 0);
  if (shape->broken_signature) {
    gnutls_datum_t der;
    PU_ASSERT(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der) == 0);
    der.data[der.size - 1] ^= 1;
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_crt_init(&crt);
    PU_ASSERT(gnutls_x509_crt_import(crt, &der, GNUTLS_X509_FMT_DER) == 0);
    gnutls_free(der.data);
  }
  gnutls_x509_privkey_deinit(other);
  return crt;
}

static inline int gnutls_peer_retrieve(gnutls_session_t tls, const gnutls_datum_t *authorities,
                                       int authority_count, const gnutls_pk_algorithm_t *algorithms,
                                       int algorithm_count, gnutls_pcert_st **chain, unsigned *len,
                                       gnutls_privkey_t *key) {
  gnutls_peer *p = gnutls_session_get_ptr(tls);
  (void)authorities;
  (void)authority_count;
  (void)algorithms;
  (void)algorithm_count;
  *chain = p->chain;
  *len = p->chain_len;
  *key = p->chain_len > 0 ? p->key : NULL;
  return 0;
}

/* gnutls_peer_init makes one with |count| certificates like |shape|, |alpn| (NULL: none) and
 * |flags|. */
static inline void gnutls_peer_init(gnutls_peer *p, bool initiator, const pu_key *identity,
                                    const gnutls_peer_certificate *shape, unsigned count,
                                    const char *alpn, unsigned flags, const char *priority) {
  memset(p, 0, sizeof *p);
  PU_ASSERT(gnutls_certificate_allocate_credentials(&p->credentials) == 0);
  gnutls_privkey_init(&p->key);
  for (; p->chain_len < count; p->chain_len++) {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt = gnutls_peer_make(shape, identity, &key);
    PU_ASSERT(gnutls_pcert_import_x509(&p->chain[p->chain_len], crt, 0) == 0);
    if (p->chain_len == 0)
      PU_ASSERT(gnutls_privkey_import_x509(p->key, key, GNUTLS_PRIVKEY_IMPORT_COPY) == 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
  }
  gnutls_certificate_set_retrieve_function2(p->credentials, gnutls_peer_retrieve);
  flags |= GNUTLS_NONBLOCK | (initiator ? GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT : GNUTLS_SERVER);
  PU_ASSERT(gnutls_init(&p->tls, flags) == 0);
  PU_ASSERT(gnutls_priority_set_direct(
                p->tls, priority != NULL ? priority : "NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL) == 0);
  PU_ASSERT(gnutls_credentials_set(p->tls, GNUTLS_CRD_CERTIFICATE, p->credentials) == 0);
  if (alpn != NULL) {
    const gnutls_datum_t name = {(unsigned char *)(uintptr_t)alpn, (unsigned)strlen(alpn)};
    PU_ASSERT(gnutls_alpn_set_protocols(p->tls, &name, 1, 0) == 0);
  }
  if (!initiator) {
    gnutls_certificate_server_set_request(p->tls, GNUTLS_CERT_REQUEST);
    gnutls_certificate_send_x509_rdn_sequence(p->tls, 1);
  }
  gnutls_session_set_ptr(p->tls, p);
  gnutls_transport_set_ptr(p->tls, p);
  gnutls_transport_set_push_function(p->tls, gnutls_peer_push);
  gnutls_transport_set_pull_function(p->tls, gnutls_peer_pull);
  gnutls_transport_set_pull_timeout_function(p->tls, gnutls_peer_timeout);
}

static inline void gnutls_peer_deinit(gnutls_peer *p) {
  gnutls_deinit(p->tls);
  gnutls_certificate_free_credentials(p->credentials);
  for (unsigned i = 0; i < p->chain_len; i++)
    gnutls_pcert_deinit(&p->chain[i]);
  gnutls_privkey_deinit(p->key);
}

/* gnutls_peer_give appends to what it reads. */
static inline void gnutls_peer_give(gnutls_peer *p, const uint8_t *in, size_t len) {
  if (p->in_pos == p->in_len)
    p->in_pos = p->in_len = 0;
  PU_ASSERT(len <= sizeof p->in - p->in_len);
  memcpy(p->in + p->in_len, in, len);
  p->in_len += len;
}

/* gnutls_peer_handshake runs the handshake of |s| with |p| until nothing moves: 0, or the error of
 * |s|, whose last words |p| gets. What |p| wrote behind the handshake stays in its |out|. */
static inline int gnutls_peer_handshake(gnutls_peer *p, const pu_security_ops *ops,
                                        pu_security *s) {
  for (bool moved = true; moved;) {
    uint8_t bytes[4096];
    moved = false;
    for (;;) {
      const ssize_t n = ops->write(s, bytes, sizeof bytes);
      if (n < 0)
        return (int)n;
      if (n == 0)
        break;
      gnutls_peer_give(p, bytes, (size_t)n);
      moved = true;
    }
    if (!p->done) {
      p->code = gnutls_handshake(p->tls);
      p->done = p->code == 0;
      if (p->code != 0 && gnutls_error_is_fatal(p->code) != 0)
        (void)gnutls_alert_send_appropriate(p->tls, p->code);
    }
    if (p->out_len > 0) {
      const ssize_t used = ops->read(s, p->out, p->out_len);
      if (used < 0) {
        gnutls_peer_give(p, bytes, ops->last(s, bytes, sizeof bytes));
        return (int)used;
      }
      moved = moved || used > 0;
      p->out_len -= (size_t)used;
      memmove(p->out, p->out + used, p->out_len);
    }
  }
  return 0;
}

#endif
