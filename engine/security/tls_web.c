/* TLS of web addresses (wire 10). See tls_web.h. What several sessions use is counted, so that a
 * renewed certificate does not pull the old one away from under them. Dates are judged here, not by
 * GnuTLS, which would ask the system's clock. */
#include "security/tls_web.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity/keyfile.h"
#include "platform/assert.h"
#include "security/tls_identity.h"
#include "security/tls_priv.h"

/* TLS 1.3 only: libp2p's own implementations speak it, and one version is less to go wrong. */
#define CIPHERS \
  "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"
#define HANDSHAKE_MAX \
  (32u * 1024) /* of a server: chains of web certificates are longer than ours */
#define SECONDS_PER_DAY 86400
#define VALID_DAYS 3653

typedef struct shared {
  unsigned refs;
  gnutls_certificate_credentials_t credentials;
  gnutls_priority_t priorities;
  uint8_t pin[PU_TLS_WEB_PIN]; /* of a listener's */
} shared;

struct pu_tls_web {
  pu_mem *mem;
  shared *own;    /* of listeners; NULL: none yet */
  shared *system; /* of clients that ask the system's authorities */
  shared *bare;   /* of other clients */
};

typedef struct web {
  pu_tls_session base;
  shared *shared;
  uint64_t now_unix_s;
  pu_tls_web_trust trust;
  uint8_t pin[PU_TLS_WEB_PIN];
  bool judged;
  char host[PU_TLS_WEB_HOST_MAX + 1];
} web;

static web *web_of(pu_tls_session *s) {
  return (web *)(void *)s;
}

/* ---- what is shared ---- */

static void unref(shared *c) {
  if (c == NULL || --c->refs > 0)
    return;
  if (c->credentials != NULL)
    gnutls_certificate_free_credentials(c->credentials);
  if (c->priorities != NULL)
    gnutls_priority_deinit(c->priorities);
  pu_free(c);
}

static int shared_new(pu_mem *mem, shared **out) {
  shared *c = pu_zalloc(mem, sizeof *c);
  if (c == NULL)
    return PU_E_NOMEM;
  c->refs = 1;
  if (gnutls_certificate_allocate_credentials(&c->credentials) != 0) {
    c->credentials = NULL;
    unref(c);
    return PU_E_NOMEM;
  }
  if (gnutls_priority_init(&c->priorities, CIPHERS, NULL) != 0) {
    c->priorities = NULL;
    unref(c);
    return PU_E_CRYPTO;
  }
  gnutls_certificate_set_verify_flags(c->credentials,
                                      GNUTLS_VERIFY_DISABLE_TIME_CHECKS |
                                          GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS);
  *out = c;
  return 0;
}

static int note_pin(shared *c) {
  gnutls_datum_t der;
  if (gnutls_certificate_get_crt_raw(c->credentials, 0, 0, &der) != 0)
    return PU_E_CRYPTO;
  (void)crypto_hash_sha256(c->pin, der.data, der.size);
  return 0;
}

int pu_tls_web_new(pu_mem *mem, pu_tls_web **out) {
  pu_tls_web *w = pu_zalloc(mem, sizeof *w);
  if (w == NULL)
    return PU_E_NOMEM;
  w->mem = mem;
  *out = w;
  return 0;
}

void pu_tls_web_free(pu_tls_web *w) {
  if (w == NULL)
    return;
  unref(w->own);
  unref(w->system);
  unref(w->bare);
  pu_free(w);
}

/* ---- the listener's certificate ---- */

/* read_whole reads a file of up to PU_TLS_WEB_FILE_MAX bytes; |secret|: that not anybody may read.
 */
static int read_whole(pu_mem *mem, const char *path, bool secret, gnutls_datum_t *out) {
  struct stat st;
  int status = PU_E_IO;
  uint8_t *data = NULL;
  size_t len = 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0)
    return errno == ENOENT ? PU_E_NOT_FOUND : PU_E_IO;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
    goto out;
  if (secret && (st.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    status = PU_E_KEY_MODE;
    goto out;
  }
  if (st.st_size > (off_t)PU_TLS_WEB_FILE_MAX) {
    status = PU_E_TOO_BIG;
    goto out;
  }
  data = pu_alloc(mem, (size_t)st.st_size + 1);
  if (data == NULL) {
    status = PU_E_NOMEM;
    goto out;
  }
  while (len < (size_t)st.st_size) {
    const ssize_t n = read(fd, data + len, (size_t)st.st_size - len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      break;
    len += (size_t)n;
  }
  if (len == (size_t)st.st_size) {
    data[len] = '\0';
    *out = (gnutls_datum_t){data, (unsigned)len};
    data = NULL;
    status = 0;
  }
out:
  pu_free_secret(data);
  (void)close(fd);
  return status;
}

static const char *file_trouble(int status, bool key) {
  switch (status) {
  case PU_E_NOT_FOUND:
    return key ? "the file of the web key does not exist"
               : "the file of the web certificate does not exist";
  case PU_E_KEY_MODE:
    return "the file of the web key can be read or written by anybody: chmod o= it";
  case PU_E_TOO_BIG:
    return key ? "the file of the web key is too long"
               : "the file of the web certificate is too long";
  case PU_E_NOMEM:
    return "out of memory";
  default:
    return key ? "the file of the web key cannot be read"
               : "the file of the web certificate cannot be read";
  }
}

int pu_tls_web_load(pu_tls_web *w, const char *certificate_file, const char *key_file,
                    const char **why) {
  const char *ignored;
  gnutls_datum_t certificate = {NULL, 0}, key = {NULL, 0};
  shared *c = NULL;
  if (why == NULL)
    why = &ignored;
  int status = read_whole(w->mem, certificate_file, false, &certificate);
  *why = file_trouble(status, false);
  if (status != 0)
    goto out;
  status = read_whole(w->mem, key_file, true, &key);
  *why = file_trouble(status, true);
  if (status != 0)
    goto out;
  *why = "out of memory";
  status = shared_new(w->mem, &c);
  if (status != 0)
    goto out;
  const int code = gnutls_certificate_set_x509_key_mem2(c->credentials, &certificate, &key,
                                                        GNUTLS_X509_FMT_PEM, NULL, 0);
  if (code < 0) {
    *why = code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH
               ? "the web key is not that of the web certificate"
               : "the web certificate or its key is malformed: both must be PEM, the key not "
                 "encrypted";
    status = code == GNUTLS_E_MEMORY_ERROR ? PU_E_NOMEM : PU_E_PARSE;
    goto out;
  }
  status = note_pin(c);
  if (status != 0)
    goto out;
  unref(w->own);
  w->own = c;
  c = NULL;
  *why = "";
out:
  unref(c);
  pu_free(certificate.data);
  pu_free_secret(key.data);
  return status;
}

static int fill(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, uint64_t now_s) {
  static const char name[] = "peerup";
  const unsigned bits = GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);
  const time_t from = now_s > SECONDS_PER_DAY ? (time_t)now_s - SECONDS_PER_DAY : 0;
  uint8_t serial[16];
  if (gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial) != 0)
    return PU_E_CRYPTO;
  serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x01);
  return gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, bits, 0) != 0 ||
                 gnutls_x509_crt_set_version(crt, 3) != 0 ||
                 gnutls_x509_crt_set_serial(crt, serial, sizeof serial) != 0 ||
                 gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                               sizeof name - 1) != 0 ||
                 gnutls_x509_crt_set_activation_time(crt, from) != 0 ||
                 gnutls_x509_crt_set_expiration_time(crt, from + (time_t)VALID_DAYS *
                                                                     SECONDS_PER_DAY) != 0 ||
                 gnutls_x509_crt_set_key(crt, key) != 0 ||
                 gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) != 0
             ? PU_E_CRYPTO
             : 0;
}

/* A self-signed certificate and its key. */
typedef struct self_signed {
  gnutls_x509_privkey_t key;
  gnutls_x509_crt_t crt;
} self_signed;

static void self_signed_deinit(self_signed *own) {
  if (own->crt != NULL)
    gnutls_x509_crt_deinit(own->crt);
  if (own->key != NULL)
    gnutls_x509_privkey_deinit(own->key);
}

static int self_signed_make(self_signed *own, uint64_t now_s) {
  *own = (self_signed){NULL, NULL};
  int status = PU_E_NOMEM;
  if (gnutls_x509_privkey_init(&own->key) == 0 && gnutls_x509_crt_init(&own->crt) == 0)
    status = fill(own->crt, own->key, now_s);
  if (status != 0)
    self_signed_deinit(own);
  return status;
}

/* own_ready makes a self-signed certificate unless there is one. */
static int own_ready(pu_tls_web *w, uint64_t now_s) {
  self_signed own;
  shared *c = NULL;
  if (w->own != NULL)
    return 0;
  int status = shared_new(w->mem, &c);
  if (status != 0)
    return status;
  status = self_signed_make(&own, now_s);
  if (status == 0) {
    if (gnutls_certificate_set_x509_key(c->credentials, &own.crt, 1, own.key) < 0)
      status = PU_E_CRYPTO;
    self_signed_deinit(&own);
  }
  if (status == 0)
    status = note_pin(c);
  if (status != 0) {
    unref(c);
    return status;
  }
  w->own = c;
  return 0;
}

/* make_file writes a new certificate and its key to |file|. */
static int make_file(const char *file, uint64_t now_s, pu_error *err) {
  gnutls_datum_t key = {NULL, 0}, crt = {NULL, 0};
  uint8_t *both = NULL;
  self_signed own;
  int status = self_signed_make(&own, now_s);
  if (status != 0)
    return pu_error_set(err, status, "cannot make a web certificate");
  if (gnutls_x509_privkey_export2_pkcs8(own.key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                        &key) != 0 ||
      gnutls_x509_crt_export2(own.crt, GNUTLS_X509_FMT_PEM, &crt) != 0) {
    status = pu_error_set(err, PU_E_CRYPTO, "cannot write a web certificate");
    goto out;
  }
  both = gnutls_malloc(key.size + crt.size);
  if (both == NULL) {
    status = pu_error_set(err, PU_E_NOMEM, "no memory for a web certificate");
    goto out;
  }
  memcpy(both, key.data, key.size);
  memcpy(both + key.size, crt.data, crt.size);
  status = pu_keyfile_create(file, both, key.size + crt.size, err);
out:
  if (both != NULL)
    gnutls_memset(both, 0, key.size + crt.size);
  if (key.data != NULL)
    gnutls_memset(key.data, 0, key.size);
  gnutls_free(both);
  gnutls_free(key.data);
  gnutls_free(crt.data);
  self_signed_deinit(&own);
  return status;
}

int pu_tls_web_keep(pu_tls_web *w, const char *file, uint64_t now_unix_s, pu_error *err) {
  const char *why = "";
  int status = pu_tls_web_load(w, file, file, &why);
  if (status == PU_E_NOT_FOUND) {
    status = make_file(file, now_unix_s, err);
    if (status != 0 && status != PU_E_EXISTS) /* another of us was quicker */
      return status;
    status = pu_tls_web_load(w, file, file, &why);
  }
  return status == 0 ? 0 : pu_error_set(err, status, "%s: %s", file, why);
}

int pu_tls_web_pin(pu_tls_web *w, uint64_t now_unix_s, uint8_t pin[static PU_TLS_WEB_PIN]) {
  const int status = own_ready(w, now_unix_s);
  if (status == 0)
    memcpy(pin, w->own->pin, PU_TLS_WEB_PIN);
  return status;
}

/* ---- a server's certificate ---- */

static bool dates_fit(const gnutls_datum_t *der, uint64_t now_s) {
  gnutls_x509_crt_t crt;
  if (gnutls_x509_crt_init(&crt) != 0)
    return false;
  bool fit = false;
  if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) == 0) {
    const time_t from = gnutls_x509_crt_get_activation_time(crt);
    const time_t to = gnutls_x509_crt_get_expiration_time(crt);
    fit = from != (time_t)-1 && to > 0 && (from < 0 || (uint64_t)from <= now_s) &&
          now_s <= (uint64_t)to;
  }
  gnutls_x509_crt_deinit(crt);
  return fit;
}

static int verify(pu_tls_session *s, const char **why) {
  web *t = web_of(s);
  unsigned count = 0, status = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(s->tls, &count);
  *why = "the web server showed no certificate";
  if (chain == NULL || count == 0)
    return PU_E_CRYPTO;
  t->judged = true;
  if (t->trust == PU_TLS_WEB_ANY)
    return 0;
  if (t->trust == PU_TLS_WEB_PINNED) {
    uint8_t pin[PU_TLS_WEB_PIN];
    (void)crypto_hash_sha256(pin, chain[0].data, chain[0].size);
    *why = "the web server showed another certificate than the expected one";
    return sodium_memcmp(pin, t->pin, sizeof pin) == 0 ? 0 : PU_E_CRYPTO;
  }
  *why = "the web server's certificate cannot be verified";
  if (gnutls_certificate_verify_peers3(s->tls, t->host, &status) != 0)
    return PU_E_CRYPTO;
  if ((status & GNUTLS_CERT_UNEXPECTED_OWNER) != 0) {
    *why = "the web server's certificate is for another name";
    return PU_E_CRYPTO;
  }
  if (status != 0) {
    *why = "no authority that this system trusts vouches for the web server's certificate";
    return PU_E_CRYPTO;
  }
  *why = "the web server's certificate has expired or is not valid yet: check the clocks";
  for (unsigned i = 0; i < count && t->now_unix_s != 0; i++)
    if (!dates_fit(&chain[i], t->now_unix_s))
      return PU_E_CRYPTO;
  return 0;
}

static int finish(pu_tls_session *s, const char **why) {
  if (!s->initiator || web_of(s)->judged)
    return 0;
  *why = "the web server showed no certificate";
  return PU_E_CRYPTO;
}

static void release(pu_tls_session *s) {
  unref(web_of(s)->shared);
}

/* ---- sessions ---- */

/* client_ready returns what a client with |trust| uses, made now if need be. */
static int client_ready(pu_tls_web *w, pu_tls_web_trust trust, shared **out) {
  shared **place = trust == PU_TLS_WEB_SYSTEM ? &w->system : &w->bare;
  if (*place == NULL) {
    shared *c;
    const int status = shared_new(w->mem, &c);
    if (status != 0)
      return status;
    if (trust == PU_TLS_WEB_SYSTEM &&
        gnutls_certificate_set_x509_system_trust(c->credentials) <= 0) {
      unref(c);
      return PU_E_NOT_FOUND;
    }
    *place = c;
  }
  *out = *place;
  return 0;
}

static bool is_ip(const char *host) {
  struct in6_addr in6;
  struct in_addr in;
  return inet_pton(AF_INET, host, &in) == 1 || inet_pton(AF_INET6, host, &in6) == 1;
}

static int set_host(web *t, const char *host) {
  size_t len = host != NULL ? strlen(host) : 0;
  if (len > 1 && host[len - 1] == '.')
    len--; /* a rooted name is the same name */
  if (len > PU_TLS_WEB_HOST_MAX || (len == 0 && t->trust == PU_TLS_WEB_SYSTEM))
    return PU_E_INVAL;
  if (len == 0)
    return 0;
  memcpy(t->host, host, len);
  t->host[len] = '\0';
  return is_ip(t->host) || gnutls_server_name_set(t->base.tls, GNUTLS_NAME_DNS, t->host, len) == 0
             ? 0
             : PU_E_INVAL;
}

int pu_tls_web_start(pu_tls_web *w, const pu_tls_web_config *config, pu_security **out) {
  static const gnutls_datum_t http = {(unsigned char *)(uintptr_t) "http/1.1", 8};
  shared *c = NULL;
  pu_tls_session *s;
  int status =
      config->initiator ? client_ready(w, config->trust, &c) : own_ready(w, config->now_unix_s);
  if (status != 0)
    return status;
  if (!config->initiator)
    c = w->own;
  status = pu_tls_session_new(config->mem, sizeof(web), config->initiator, 0, &s);
  if (status != 0)
    return status;
  web *t = web_of(s);
  c->refs++;
  t->shared = c;
  t->trust = config->trust;
  t->now_unix_s = config->now_unix_s;
  memcpy(t->pin, config->pin, sizeof t->pin);
  s->taken_max = config->initiator ? HANDSHAKE_MAX : PU_TLS_HANDSHAKE_MAX;
  s->verify = verify;
  s->finish = finish;
  s->release = release;
  pu_tls_guard(s->tls);
  if (gnutls_priority_set(s->tls, c->priorities) != 0 ||
      gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, c->credentials) != 0 ||
      gnutls_alpn_set_protocols(s->tls, &http, 1, 0) != 0)
    status = PU_E_CRYPTO;
  if (status == 0 && config->initiator)
    status = set_host(t, config->host);
  if (status != 0) {
    pu_tls_session_free((pu_security *)(void *)s);
    return status;
  }
  *out = (pu_security *)(void *)s;
  return 0;
}

const pu_security_ops pu_tls_web_ops = {
    .id = "tls",
    .head = PU_TLS_HEAD,
    .tail = PU_TLS_TAIL,
    .max_plain = PU_TLS_MAX_PLAIN,
    .max_record = PU_TLS_MAX_RECORD,
    .free = pu_tls_session_free,
    .read = pu_tls_session_read,
    .write = pu_tls_session_write,
    .result = pu_tls_session_result,
    .seal = pu_tls_session_seal,
    .open = pu_tls_session_open,
    .need = pu_tls_session_need,
    .last = pu_tls_session_last,
    .why = pu_tls_session_why,
};
