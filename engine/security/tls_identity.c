/* The libp2p certificates (wire 7): made once, lazily, and checked by hand, since GnuTLS checks
 * nothing about trust when no authority is configured, and not even a certificate's own signature.
 * Ours is of Ed25519, which costs two thirds of P-256 here; peers whose TLS does not know it
 * (BoringSSL's does not ask for it) get one of P-256.
 */
#include "security/tls_identity.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "platform/assert.h"
#include "security/tls_priv.h"

#define EXTENSION_OID "1.3.6.1.4.1.53594.1.1"
#define WRONG_DATES "the peer's certificate has expired or is not valid yet: check the clocks"
#define SIGNATURE_PREFIX "libp2p-tls-handshake:"
#define CERTIFICATE_MAX 8192u /* of a peer: an RSA key of 8192 bits twice fits */
#define SPKI_MAX 2048u
#define TOLERANCE_S 86400u /* small machines boot without a clock */
#define RSA_MIN_BITS 2048u
#define RSA_MAX_BITS 8192u
#define RSA_MAX_EXPONENT 8u  /* bytes */
#define RECORD_SIZE_LIMIT 28 /* RFC 8449 */
#define SECONDS_PER_YEAR 31557600
#define KNOWN_MAX 64u     /* certificates found good that are remembered */
#define KNOWN_KEY_MAX 40u /* of an identity as protobuf: Ed25519, and little more */

/* AES-128-GCM first: the machine's own instructions do it, and GnuTLS's ChaCha20 is slow. */
#define CIPHERS                                                                             \
  "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:" \
  "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"

/* A certificate found good: all that was judged of its bytes is told by their hash; what time and
 * wishes decide is judged again. */
typedef struct proven {
  uint8_t digest[crypto_hash_sha256_BYTES];
  time_t from, to;
  uint8_t key_len; /* 0: none */
  uint8_t key[KNOWN_KEY_MAX];
} proven;

/* What we show: a certificate and its key. */
typedef struct shown {
  gnutls_pcert_st certificate;
  gnutls_privkey_t key; /* NULL: neither is made */
} shown;

struct pu_tls_identity {
  const pu_key *key;
  uint64_t made_unix_s;
  gnutls_certificate_credentials_t credentials; /* NULL: nothing was needed yet */
  gnutls_priority_t tcp, quic;
  shown ed25519, p256;
  proven known[KNOWN_MAX];
  size_t known_next; /* the oldest is replaced */
};

bool pu_tls_is_fast(void) {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_AES) != 0 && (getauxval(AT_HWCAP) & HWCAP_PMULL) != 0;
#else
  return false;
#endif
}

/* ---- DER, as much as is needed: lengths of up to three bytes ---- */

typedef struct der {
  const uint8_t *data;
  size_t len;
} der;

/* take reads one element of |tag| from the front of |in|: its content, and in |whole| all of it. */
static bool take(der *in, uint8_t tag, der *content, der *whole) {
  size_t head = 2, len;
  if (in->len < 2 || in->data[0] != tag)
    return false;
  len = in->data[1];
  if (len >= 0x80) {
    const size_t bytes = len & 0x7f;
    if (bytes == 0 || bytes > 3 || in->len < 2 + bytes)
      return false;
    len = 0;
    for (size_t i = 0; i < bytes; i++)
      len = len << 8 | in->data[2 + i];
    head += bytes;
  }
  if (len > in->len - head)
    return false;
  *content = (der){in->data + head, len};
  if (whole != NULL)
    *whole = (der){in->data, head + len};
  in->data += head + len;
  in->len -= head + len;
  return true;
}

static size_t put_head(uint8_t *out, uint8_t tag, size_t len) {
  out[0] = tag;
  if (len < 0x80) {
    out[1] = (uint8_t)len;
    return 2;
  }
  PU_ASSERT(len < 0x10000);
  if (len < 0x100) {
    out[1] = 0x81;
    out[2] = (uint8_t)len;
    return 3;
  }
  out[1] = 0x82;
  out[2] = (uint8_t)(len >> 8);
  out[3] = (uint8_t)len;
  return 4;
}

/* ---- our certificate ---- */

/* signed_key writes the extension: SEQUENCE { OCTET STRING key, OCTET STRING signature }. */
static size_t signed_key(const pu_key *key, const uint8_t *spki, size_t spki_len, uint8_t *out) {
  const pu_public_key *public = pu_key_public(key);
  uint8_t message[sizeof SIGNATURE_PREFIX - 1 + SPKI_MAX], signature[64];
  uint8_t body[2 * 4 + PU_KEY_MAX_PROTOBUF + sizeof signature];
  memcpy(message, SIGNATURE_PREFIX, sizeof SIGNATURE_PREFIX - 1);
  memcpy(message + sizeof SIGNATURE_PREFIX - 1, spki, spki_len);
  pu_key_sign(key, message, sizeof SIGNATURE_PREFIX - 1 + spki_len, signature);
  size_t len = put_head(body, 0x04, public->len);
  memcpy(body + len, public->protobuf, public->len);
  len += public->len;
  len += put_head(body + len, 0x04, sizeof signature);
  memcpy(body + len, signature, sizeof signature);
  len += sizeof signature;
  const size_t head = put_head(out, 0x30, len);
  memcpy(out + head, body, len);
  return head + len;
}

static int fill_certificate(const pu_tls_identity *t, gnutls_x509_crt_t crt,
                            gnutls_x509_privkey_t key, gnutls_pubkey_t public,
                            gnutls_privkey_t abstract, gnutls_digest_algorithm_t digest) {
  uint8_t extension[16 + PU_KEY_MAX_PROTOBUF + 64 + 16], serial[16];
  gnutls_datum_t spki = {NULL, 0};
  const time_t from = (time_t)t->made_unix_s - 3600;
  int status = PU_E_CRYPTO;
  if (gnutls_pubkey_import_privkey(public, abstract, 0, 0) != 0 ||
      gnutls_pubkey_export2(public, GNUTLS_X509_FMT_DER, &spki) != 0 || spki.size > SPKI_MAX)
    goto out;
  const size_t extension_len = signed_key(t->key, spki.data, spki.size, extension);
  if (gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial) != 0)
    goto out;
  serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x01); /* positive, no leading zero */
  if (gnutls_x509_crt_set_version(crt, 3) != 0 ||
      gnutls_x509_crt_set_serial(crt, serial, sizeof serial) != 0 ||
      gnutls_x509_crt_set_activation_time(crt, from > 0 ? from : 0) != 0 ||
      gnutls_x509_crt_set_expiration_time(crt, from + (time_t)100 * SECONDS_PER_YEAR) != 0 ||
      gnutls_x509_crt_set_key(crt, key) != 0 ||
      gnutls_x509_crt_set_extension_by_oid(crt, EXTENSION_OID, extension, extension_len, 0) != 0 ||
      gnutls_x509_crt_sign2(crt, crt, key, digest, 0) != 0)
    goto out;
  status = 0;
out:
  gnutls_free(spki.data);
  return status;
}

static int make_certificate(const pu_tls_identity *t, gnutls_pk_algorithm_t algorithm,
                            gnutls_ecc_curve_t curve, gnutls_digest_algorithm_t digest,
                            shown *out) {
  gnutls_x509_privkey_t key = NULL;
  gnutls_x509_crt_t crt = NULL;
  gnutls_pubkey_t public = NULL;
  gnutls_privkey_t abstract = NULL;
  const unsigned bits = GNUTLS_CURVE_TO_BITS(curve);
  int status = PU_E_NOMEM;
  if (gnutls_x509_privkey_init(&key) != 0 || gnutls_x509_crt_init(&crt) != 0 ||
      gnutls_pubkey_init(&public) != 0 || gnutls_privkey_init(&abstract) != 0)
    goto out;
  status = PU_E_CRYPTO;
  if (gnutls_x509_privkey_generate(key, algorithm, bits, 0) != 0 ||
      gnutls_privkey_import_x509(abstract, key, GNUTLS_PRIVKEY_IMPORT_COPY) != 0)
    goto out;
  status = fill_certificate(t, crt, key, public, abstract, digest);
  if (status != 0)
    goto out;
  status = PU_E_CRYPTO;
  if (gnutls_pcert_import_x509(&out->certificate, crt, 0) != 0)
    goto out;
  out->key = abstract;
  abstract = NULL;
  status = 0;
out:
  if (abstract != NULL)
    gnutls_privkey_deinit(abstract);
  if (public != NULL)
    gnutls_pubkey_deinit(public);
  if (crt != NULL)
    gnutls_x509_crt_deinit(crt);
  if (key != NULL)
    gnutls_x509_privkey_deinit(key);
  return status;
}

static void shown_free(shown *s) {
  if (s->key == NULL)
    return;
  gnutls_pcert_deinit(&s->certificate);
  gnutls_privkey_deinit(s->key);
  s->key = NULL;
}

/* on_choice picks the certificate that the peer can verify, on either side. The identity is where
 * GnuTLS keeps a session database's pointer: there is none. */
static int on_choice(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
                     const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                     gnutls_pcert_st **certificates, unsigned *count, gnutls_privkey_t *key) {
  pu_tls_identity *t = gnutls_db_get_ptr(session);
  shown *s = &t->p256;
  gnutls_sign_algorithm_t wanted;
  (void)names;
  (void)name_count;
  (void)algorithms; /* of the server's wish alone */
  (void)algorithm_count;
  for (size_t i = 0; gnutls_sign_algorithm_get_requested(session, i, &wanted) == 0; i++)
    if (wanted == GNUTLS_SIGN_EDDSA_ED25519)
      s = &t->ed25519;
  *certificates = &s->certificate;
  *count = 1;
  *key = s->key;
  return 0;
}

static int make_credentials(pu_tls_identity *t) {
  int status = 0;
  if (t->ed25519.key == NULL)
    status = make_certificate(t, GNUTLS_PK_EDDSA_ED25519, GNUTLS_ECC_CURVE_ED25519,
                              GNUTLS_DIG_SHA512, &t->ed25519);
  if (status == 0 && t->p256.key == NULL)
    status = make_certificate(t, GNUTLS_PK_ECDSA, GNUTLS_ECC_CURVE_SECP256R1, GNUTLS_DIG_SHA256,
                              &t->p256);
  if (status != 0)
    return status;
  if (gnutls_certificate_allocate_credentials(&t->credentials) != 0) {
    t->credentials = NULL;
    return PU_E_NOMEM;
  }
  gnutls_certificate_set_retrieve_function2(t->credentials, on_choice);
  return 0;
}

/* ready makes what is made once. */
static int ready(pu_tls_identity *t) {
  if (t->credentials != NULL)
    return 0;
  if (t->tcp == NULL && gnutls_priority_init(&t->tcp, CIPHERS, NULL) != 0) {
    t->tcp = NULL;
    return PU_E_CRYPTO;
  }
  if (t->quic == NULL &&
      gnutls_priority_init(&t->quic, "%DISABLE_TLS13_COMPAT_MODE:" CIPHERS, NULL) != 0) {
    t->quic = NULL;
    return PU_E_CRYPTO;
  }
  return make_credentials(t);
}

int pu_tls_identity_new(pu_mem *mem, const pu_key *key, uint64_t now_unix_s,
                        pu_tls_identity **out) {
  pu_tls_identity *t = pu_zalloc(mem, sizeof *t);
  if (t == NULL)
    return PU_E_NOMEM;
  t->key = key;
  t->made_unix_s = now_unix_s;
  *out = t;
  return 0;
}

void pu_tls_identity_free(pu_tls_identity *t) {
  if (t == NULL)
    return;
  if (t->credentials != NULL)
    gnutls_certificate_free_credentials(t->credentials);
  if (t->tcp != NULL)
    gnutls_priority_deinit(t->tcp);
  if (t->quic != NULL)
    gnutls_priority_deinit(t->quic);
  shown_free(&t->ed25519);
  shown_free(&t->p256);
  pu_free(t);
}

int pu_tls_identity_certificate(pu_tls_identity *t, const uint8_t **out, size_t *len) {
  const int status = ready(t);
  if (status == 0) {
    *out = t->ed25519.certificate.cert.data;
    *len = t->ed25519.certificate.cert.size;
  }
  return status;
}

/* ---- the guard ---- */

static size_t get_be16(const uint8_t *in) {
  return (size_t)in[0] << 8 | in[1];
}

static size_t get_be24(const uint8_t *in) {
  return (size_t)in[0] << 16 | (size_t)in[1] << 8 | in[2];
}

/* find_spki returns the key's bytes as they stand in the certificate. */
static bool find_spki(const der *tbs_content, der *spki) {
  der at = *tbs_content, skipped;
  (void)take(&at, 0xa0, &skipped, NULL);    /* version */
  return take(&at, 0x02, &skipped, NULL) && /* serial */
         take(&at, 0x30, &skipped, NULL) && /* algorithm */
         take(&at, 0x30, &skipped, NULL) && /* issuer */
         take(&at, 0x30, &skipped, NULL) && /* validity */
         take(&at, 0x30, &skipped, NULL) && /* subject */
         take(&at, 0x30, &skipped, spki);
}

static bool is_oid(const der *oid, const uint8_t *want, size_t len) {
  return oid->len == len && memcmp(oid->data, want, len) == 0;
}

/* affordable says whether a certificate's key is one we know, and none that takes seconds to verify
 * with. It reads the DER itself, since GnuTLS parses every certificate several times already. */
static bool affordable(const uint8_t *bytes, size_t len) {
  static const uint8_t rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01},
                       rsa_pss[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a},
                       ec[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01},
                       ed25519[] = {0x2b, 0x65, 0x70}, ed448[] = {0x2b, 0x65, 0x71};
  der in = {bytes, len}, certificate, content, spki, body, algorithm, oid, key, modulus, exponent;
  if (!take(&in, 0x30, &certificate, NULL) || !take(&certificate, 0x30, &content, NULL) ||
      !find_spki(&content, &spki) || !take(&spki, 0x30, &body, NULL) ||
      !take(&body, 0x30, &algorithm, NULL) || !take(&algorithm, 0x06, &oid, NULL) ||
      !take(&body, 0x03, &key, NULL))
    return false;
  if (is_oid(&oid, ec, sizeof ec) || is_oid(&oid, ed25519, sizeof ed25519) ||
      is_oid(&oid, ed448, sizeof ed448))
    return true;
  if ((!is_oid(&oid, rsa, sizeof rsa) && !is_oid(&oid, rsa_pss, sizeof rsa_pss)) || key.len == 0)
    return false;
  key.data++; /* the number of unused bits */
  key.len--;
  return take(&key, 0x30, &body, NULL) && take(&body, 0x02, &modulus, NULL) &&
         take(&body, 0x02, &exponent, NULL) && modulus.len <= RSA_MAX_BITS / 8 + 1 &&
         exponent.len <= RSA_MAX_EXPONENT;
}

/* on_certificate reads a Certificate message (RFC 8446, 4.4.2) before GnuTLS does. */
static int on_certificate(const gnutls_datum_t *message) {
  const uint8_t *at = message->data;
  size_t left = message->size;
  if (left < 4 || left - 1 < at[0] || left - 1 - at[0] < 3)
    return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
  left -= 4u + at[0]; /* context, length of the list */
  at += 4u + at[0];
  while (left > 0) {
    if (left < 3 || left - 3 < get_be24(at))
      return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
    const size_t len = get_be24(at);
    if (!affordable(at + 3, len))
      return GNUTLS_E_CERTIFICATE_ERROR;
    at += 3 + len;
    left -= 3 + len;
    const size_t extensions = left >= 2 ? get_be16(at) : left;
    if (left < 2 || left - 2 < extensions)
      return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
    at += 2 + extensions;
    left -= 2 + extensions;
  }
  return 0;
}

/* on_extensions reads an EncryptedExtensions message (RFC 8446, 4.3.1) for a wish for short
 * records. */
static int on_extensions(const gnutls_datum_t *message) {
  const uint8_t *at = message->data;
  size_t left = message->size;
  if (left < 2)
    return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
  at += 2;
  left -= 2;
  while (left > 0) {
    if (left < 4 || left - 4 < get_be16(at + 2))
      return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
    const size_t len = get_be16(at + 2);
    if (get_be16(at) == RECORD_SIZE_LIMIT && len == 2 && get_be16(at + 4) <= PU_TLS_MAX_PLAIN)
      return GNUTLS_E_UNIMPLEMENTED_FEATURE;
    at += 4 + len;
    left -= 4 + len;
  }
  return 0;
}

static int on_message(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                      const gnutls_datum_t *message) {
  (void)session;
  (void)when;
  if (incoming != 0 && type == GNUTLS_HANDSHAKE_CERTIFICATE_PKT)
    return on_certificate(message);
  if (incoming != 0 && type == GNUTLS_HANDSHAKE_ENCRYPTED_EXTENSIONS)
    return on_extensions(message);
  return 0;
}

void pu_tls_guard(struct gnutls_session_int *session) {
  gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE, on_message);
}

int pu_tls_prepare(pu_tls_identity *t, struct gnutls_session_int *session, bool initiator,
                   bool quic, const char *const *alpn, size_t alpn_count) {
  gnutls_datum_t names[8];
  const int status = ready(t);
  if (status != 0)
    return status;
  if (alpn_count > PU_COUNT(names))
    return PU_E_INVAL;
  for (size_t i = 0; i < alpn_count; i++)
    names[i] = (gnutls_datum_t){(unsigned char *)(uintptr_t)alpn[i], (unsigned)strlen(alpn[i])};
  if (gnutls_priority_set(session, quic ? t->quic : t->tcp) != 0 ||
      gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, t->credentials) != 0 ||
      gnutls_alpn_set_protocols(session, names, (unsigned)alpn_count, GNUTLS_ALPN_MANDATORY) != 0)
    return PU_E_CRYPTO;
  gnutls_db_set_ptr(session, t); /* for on_choice */
  pu_tls_guard(session);
  if (!initiator) {
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_certificate_send_x509_rdn_sequence(session, 1); /* none */
  }
  return 0;
}

/* ---- a peer's certificate ---- */

/* check_self_signature verifies the certificate's signature with its own key: GnuTLS holds a
 * certificate that is its own trust anchor for good without looking. */
static bool check_self_signature(gnutls_x509_crt_t crt, gnutls_pubkey_t public, const der *tbs) {
  uint8_t bytes[RSA_MAX_BITS / 8 + 64];
  size_t len = sizeof bytes;
  const int algorithm = gnutls_x509_crt_get_signature_algorithm(crt);
  if (algorithm < 0 || gnutls_x509_crt_get_signature(crt, (char *)bytes, &len) != 0)
    return false;
  const gnutls_datum_t data = {(unsigned char *)(uintptr_t)tbs->data, (unsigned)tbs->len};
  const gnutls_datum_t signature = {bytes, (unsigned)len};
  return gnutls_pubkey_verify_data2(public, (gnutls_sign_algorithm_t)algorithm, 0, &data,
                                    &signature) >= 0;
}

static bool has_unknown_critical(gnutls_x509_crt_t crt) {
  static const char *const known[] = {EXTENSION_OID, GNUTLS_X509EXT_OID_KEY_USAGE,
                                      GNUTLS_X509EXT_OID_EXTENDED_KEY_USAGE,
                                      GNUTLS_X509EXT_OID_BASIC_CONSTRAINTS, GNUTLS_X509EXT_OID_SAN};
  for (unsigned i = 0;; i++) {
    char oid[128];
    size_t len = sizeof oid;
    unsigned critical = 0;
    bool found = false;
    const int status = gnutls_x509_crt_get_extension_info(crt, i, oid, &len, &critical);
    if (status == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
      return false;
    if (status != 0)
      return true;
    for (size_t k = 0; k < PU_COUNT(known); k++)
      found = found || strcmp(oid, known[k]) == 0;
    if (critical != 0 && !found)
      return true;
  }
}

/* may_serve says whether the extended key usage, if there is one, allows what go asks for. */
static bool may_serve(gnutls_x509_crt_t crt) {
  for (unsigned i = 0;; i++) {
    char oid[128];
    size_t len = sizeof oid;
    unsigned critical;
    const int status = gnutls_x509_crt_get_key_purpose_oid(crt, i, oid, &len, &critical);
    if (status == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
      return i == 0;
    if (status != 0)
      return false;
    if (strcmp(oid, GNUTLS_KP_TLS_WWW_SERVER) == 0 || strcmp(oid, GNUTLS_KP_ANY) == 0)
      return true;
  }
}

static bool dates_fit(time_t from, time_t to, uint64_t now_s) {
  if (now_s == 0)
    return true;
  return from != (time_t)-1 && to != (time_t)-1 &&
         (from < 0 || (uint64_t)from <= now_s + TOLERANCE_S) && to >= 0 &&
         now_s <= (uint64_t)to + TOLERANCE_S;
}

/* check_signed_key reads the extension and verifies the identity's signature over the key. */
static int check_signed_key(gnutls_x509_crt_t crt, const der *spki, pu_public_key *key,
                            const char **why) {
  uint8_t message[sizeof SIGNATURE_PREFIX - 1 + SPKI_MAX];
  gnutls_datum_t extension = {NULL, 0};
  unsigned critical;
  der body, public, signature;
  int status = PU_E_PROTOCOL;
  *why = "the peer's certificate has no libp2p extension";
  if (gnutls_x509_crt_get_extension_by_oid2(crt, EXTENSION_OID, 0, &extension, &critical) != 0)
    return status;
  *why = "the libp2p extension of the peer's certificate is malformed";
  der in = {extension.data, extension.size};
  if (spki->len > SPKI_MAX || !take(&in, 0x30, &body, NULL) || !take(&body, 0x04, &public, NULL) ||
      !take(&body, 0x04, &signature, NULL) || body.len != 0 ||
      signature.len > PU_KEY_MAX_SIGNATURE ||
      pu_public_key_parse(public.data, public.len, key) != 0)
    goto out;
  memcpy(message, SIGNATURE_PREFIX, sizeof SIGNATURE_PREFIX - 1);
  memcpy(message + sizeof SIGNATURE_PREFIX - 1, spki->data, spki->len);
  status = pu_public_key_verify(key, message, sizeof SIGNATURE_PREFIX - 1 + spki->len,
                                signature.data, signature.len);
  *why = "the identity key did not sign the peer's certificate";
out:
  gnutls_free(extension.data);
  return status;
}

static int check(gnutls_x509_crt_t crt, gnutls_pubkey_t public, const uint8_t *bytes, size_t len,
                 uint64_t now_s, pu_public_key *key, proven *out, const char **why) {
  der in = {bytes, len}, certificate, content, tbs, spki;
  unsigned bits = 0;
  *why = "the peer's certificate is malformed";
  const gnutls_datum_t datum = {(unsigned char *)(uintptr_t)bytes, (unsigned)len};
  if (gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) != 0 ||
      !take(&in, 0x30, &certificate, NULL) || in.len != 0 ||
      !take(&certificate, 0x30, &content, &tbs) || !find_spki(&content, &spki) ||
      gnutls_pubkey_import_x509(public, crt, 0) != 0)
    return PU_E_PROTOCOL;
  const int algorithm = gnutls_pubkey_get_pk_algorithm(public, &bits);
  if (!affordable(bytes, len) ||
      ((algorithm == GNUTLS_PK_RSA || algorithm == GNUTLS_PK_RSA_PSS) && bits < RSA_MIN_BITS)) {
    *why = "the key of the peer's certificate is too short, too long or of no use";
    return PU_E_CRYPTO;
  }
  out->from = gnutls_x509_crt_get_activation_time(crt);
  out->to = gnutls_x509_crt_get_expiration_time(crt);
  *why = WRONG_DATES;
  if (!dates_fit(out->from, out->to, now_s))
    return PU_E_CRYPTO;
  *why = "the peer's certificate has an unknown critical extension or a wrong key usage";
  if (has_unknown_critical(crt) || !may_serve(crt))
    return PU_E_CRYPTO;
  *why = "the peer's certificate is not signed by its own key";
  if (!check_self_signature(crt, public, &tbs))
    return PU_E_CRYPTO;
  return check_signed_key(crt, &spki, key, why);
}

/* recall finds a certificate that was found good before; NULL: none. */
static const proven *recall(const pu_tls_identity *t, const uint8_t *digest) {
  for (size_t i = 0; i < KNOWN_MAX; i++)
    if (t->known[i].key_len != 0 &&
        memcmp(t->known[i].digest, digest, sizeof t->known->digest) == 0)
      return &t->known[i];
  return NULL;
}

static void remember(pu_tls_identity *t, proven *k, const pu_public_key *key) {
  if (key->len > KNOWN_KEY_MAX)
    return;
  k->key_len = (uint8_t)key->len;
  memcpy(k->key, key->protobuf, key->len);
  t->known[t->known_next] = *k;
  t->known_next = (t->known_next + 1) % KNOWN_MAX;
}

/* judge is all but the comparison with the expected peer. */
static int judge(pu_tls_identity *t, const uint8_t *bytes, size_t len, uint64_t now_s,
                 pu_public_key *key, const char **why) {
  proven fresh = {.key_len = 0};
  gnutls_x509_crt_t crt = NULL;
  gnutls_pubkey_t public = NULL;
  int status = PU_E_NOMEM;
  if (t != NULL) {
    crypto_hash_sha256(fresh.digest, bytes, len);
    const proven *k = recall(t, fresh.digest);
    if (k != NULL) {
      *why = WRONG_DATES;
      return dates_fit(k->from, k->to, now_s) ? pu_public_key_parse(k->key, k->key_len, key)
                                              : PU_E_CRYPTO;
    }
  }
  *why = "out of memory";
  if (gnutls_x509_crt_init(&crt) == 0 && gnutls_pubkey_init(&public) == 0)
    status = check(crt, public, bytes, len, now_s, key, &fresh, why);
  if (public != NULL)
    gnutls_pubkey_deinit(public);
  if (crt != NULL)
    gnutls_x509_crt_deinit(crt);
  if (status == 0 && t != NULL)
    remember(t, &fresh, key);
  return status;
}

int pu_tls_check_certificate(pu_tls_identity *t, const uint8_t *bytes, size_t len, size_t count,
                             uint64_t now_s, const pu_peer_id *expected, pu_public_key *key,
                             pu_peer_id *peer, const char **why) {
  const char *ignored;
  if (why == NULL)
    why = &ignored;
  if (count != 1) {
    *why = "the peer did not show exactly one certificate";
    return PU_E_PROTOCOL;
  }
  if (len > CERTIFICATE_MAX) {
    *why = "the peer's certificate is too long";
    return PU_E_PROTOCOL;
  }
  const int status = judge(t, bytes, len, now_s, key, why);
  if (status != 0)
    return status;
  pu_public_key_peer_id(key, peer);
  *why = "another peer answered";
  if (expected != NULL && expected->len != 0 && !pu_peer_id_equal(peer, expected))
    return PU_E_PEER_MISMATCH;
  *why = "";
  return 0;
}

int pu_tls_check_peer(pu_tls_identity *t, struct gnutls_session_int *session, uint64_t now_s,
                      const pu_peer_id *expected, pu_public_key *key, pu_peer_id *peer,
                      const char **why) {
  unsigned count = 0;
  const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);
  return pu_tls_check_certificate(t, list != NULL ? list[0].data : NULL,
                                  list != NULL ? list[0].size : 0, list != NULL ? count : 0, now_s,
                                  expected, key, peer, why);
}
