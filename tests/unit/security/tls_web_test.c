/* TLS of web addresses: certificates of ours and of others, names, pins, dates, and renewal under
 * way. */
#include "security/tls_web.h"

#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/tls_pair.h"
#include "support/unit.h"

#define OPS pu_tls_web_ops
#define NOW TLS_PAIR_NOW_S

typedef struct rig {
  pu_mem mem, web_mem;
  pu_tls_web *client, *server;
  pu_security *side[2];
  pu_tls_web_config config[2];
  char folder[64], certificate[96], key[96];
} rig;

static void rig_init(rig *r) {
  memset(r, 0, sizeof *r);
  pu_mem_init(&r->mem, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&r->web_mem, NULL, PU_MEM_UNLIMITED);
  assert_int_equal(pu_tls_web_new(&r->web_mem, &r->client), 0);
  assert_int_equal(pu_tls_web_new(&r->web_mem, &r->server), 0);
  r->config[0] = (pu_tls_web_config){
      .mem = &r->mem, .initiator = true, .now_unix_s = NOW, .trust = PU_TLS_WEB_ANY};
  r->config[1] = (pu_tls_web_config){.mem = &r->mem, .now_unix_s = NOW};
  (void)snprintf(r->folder, sizeof r->folder, "/tmp/peerup-web-XXXXXX");
  assert_non_null(mkdtemp(r->folder));
  (void)snprintf(r->certificate, sizeof r->certificate, "%s/certificate.pem", r->folder);
  (void)snprintf(r->key, sizeof r->key, "%s/key.pem", r->folder);
}

static void stop(rig *r) {
  for (int i = 0; i < 2; i++) {
    OPS.free(r->side[i]);
    r->side[i] = NULL;
  }
}

static void rig_deinit(rig *r) {
  stop(r);
  pu_tls_web_free(r->client);
  pu_tls_web_free(r->server);
  pu_mem_deinit(&r->mem);
  pu_mem_deinit(&r->web_mem);
  (void)unlink(r->certificate);
  (void)unlink(r->key);
  assert_int_equal(rmdir(r->folder), 0);
}

/* shake runs a handshake: 0, or the first error. */
static int shake(rig *r) {
  int rc = pu_tls_web_start(r->client, &r->config[0], &r->side[0]);
  if (rc != 0)
    return rc;
  rc = pu_tls_web_start(r->server, &r->config[1], &r->side[1]);
  if (rc != 0)
    return rc;
  tls_pair p = {.ops = &OPS, .side = {r->side[0], r->side[1]}};
  return tls_pair_handshake(&p, 300);
}

static void exchange(rig *r) {
  uint8_t record[64];
  pu_span plain;
  for (int from = 0; from < 2; from++) {
    const pu_security_result *result = OPS.result(r->side[from]);
    assert_non_null(result);
    assert_int_equal(result->peer.len, 0);
    assert_string_equal(result->muxer, "");
    const size_t len = tls_pair_record(&OPS, r->side[from], record, "GET /", 5);
    assert_int_equal(OPS.open(r->side[1 - from], record, len, &plain), (ssize_t)len);
    assert_int_equal(plain.len, 5);
    assert_memory_equal(plain.data, "GET /", 5);
  }
}

static void put(const char *path, const void *data, size_t len, mode_t mode) {
  (void)unlink(path);
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, data, len), (ssize_t)len);
  assert_int_equal(fchmod(fd, mode), 0);
  (void)close(fd);
}

/* make_files writes a certificate for |name| and its key, as an authority that nobody knows gives
 * it. */
static void make_files(const rig *r, const char *name) {
  gnutls_x509_privkey_t key;
  gnutls_x509_crt_t crt;
  gnutls_datum_t pem;
  gnutls_x509_privkey_init(&key);
  gnutls_x509_crt_init(&crt);
  assert_int_equal(
      gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                   (unsigned)GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
      0);
  gnutls_x509_crt_set_version(crt, 3);
  gnutls_x509_crt_set_serial(crt, "\x05", 1);
  gnutls_x509_crt_set_activation_time(crt, (time_t)NOW - 100);
  gnutls_x509_crt_set_expiration_time(crt, (time_t)NOW + 100);
  gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
                                       GNUTLS_FSAN_SET);
  assert_int_equal(gnutls_x509_crt_set_key(crt, key), 0);
  assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
  assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
  put(r->certificate, pem.data, pem.size, 0644);
  gnutls_free(pem.data);
  assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
  put(r->key, pem.data, pem.size, 0600);
  gnutls_free(pem.data);
  gnutls_x509_crt_deinit(crt);
  gnutls_x509_privkey_deinit(key);
}

static void test_self_signed_and_pinned(void **state) {
  (void)state;
  rig r;
  rig_init(&r);
  assert_int_equal(shake(&r), 0);
  exchange(&r);
  stop(&r);
  uint8_t again[PU_TLS_WEB_PIN];
  r.config[0].trust = PU_TLS_WEB_PINNED;
  assert_int_equal(pu_tls_web_pin(r.server, NOW, r.config[0].pin), 0);
  assert_int_equal(pu_tls_web_pin(r.server, NOW, again), 0);
  assert_memory_equal(again, r.config[0].pin, sizeof again);
  assert_int_equal(shake(&r), 0);
  exchange(&r);
  stop(&r);
  r.config[0].pin[31] ^= 1;
  assert_int_equal(shake(&r), PU_E_CRYPTO);
  assert_non_null(strstr(OPS.why(r.side[0]), "another certificate"));
  /* and the server is told */
  uint8_t alert[64];
  const size_t len = OPS.last(r.side[0], alert, sizeof alert);
  assert_true(len > 0);
  assert_int_equal(OPS.read(r.side[1], alert, len), PU_E_CRYPTO);
  rig_deinit(&r);
}

/* The system's authorities vouch for none of ours. */
static void test_not_vouched_for(void **state) {
  (void)state;
  rig r;
  rig_init(&r);
  r.config[0].trust = PU_TLS_WEB_SYSTEM;
  assert_int_equal(shake(&r), PU_E_INVAL); /* for whom? */
  stop(&r);
  make_files(&r, "here.example");
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, NULL), 0);
  r.config[0].host = "here.example";
  const int rc = shake(&r);
  if (rc != PU_E_NOT_FOUND) { /* a system without authorities says so */
    assert_int_equal(rc, PU_E_CRYPTO);
    assert_non_null(strstr(OPS.why(r.side[0]), "authority"));
    stop(&r);
    r.config[0].host = "there.example.";
    assert_int_equal(shake(&r), PU_E_CRYPTO);
    assert_non_null(strstr(OPS.why(r.side[0]), "another name"));
  }
  rig_deinit(&r);
}

static void test_hosts(void **state) {
  (void)state;
  static char long_name[PU_TLS_WEB_HOST_MAX + 2];
  static const struct {
    const char *host;
    int status;
  } cases[] = {{NULL, 0},
               {"", 0},
               {"a.host", 0},
               {"a.host.", 0},
               {"10.0.0.1", 0},
               {"2001:db8::1", 0},
               {long_name, PU_E_INVAL}};
  memset(long_name, 'a', sizeof long_name - 1);
  rig r;
  rig_init(&r);
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    r.config[0].host = cases[i].host;
    assert_int_equal(shake(&r), cases[i].status);
    if (cases[i].status == 0)
      exchange(&r);
    stop(&r);
  }
  rig_deinit(&r);
}

/* A certificate of our own is made once, and is the same for whoever comes later. */
static void test_kept(void **state) {
  (void)state;
  uint8_t first[PU_TLS_WEB_PIN], second[PU_TLS_WEB_PIN];
  pu_error err = {0};
  struct stat st;
  rig r;
  rig_init(&r);
  assert_int_equal(pu_tls_web_keep(r.server, r.key, NOW, &err), 0);
  assert_int_equal(stat(r.key, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0600);
  assert_int_equal(pu_tls_web_pin(r.server, NOW, first), 0);
  pu_tls_web_free(r.server);
  assert_int_equal(pu_tls_web_new(&r.web_mem, &r.server), 0);
  assert_int_equal(pu_tls_web_keep(r.server, r.key, NOW, &err), 0);
  assert_int_equal(pu_tls_web_pin(r.server, NOW, second), 0);
  assert_memory_equal(first, second, sizeof first);
  r.config[0].trust = PU_TLS_WEB_PINNED;
  memcpy(r.config[0].pin, first, sizeof first);
  assert_int_equal(shake(&r), 0);
  exchange(&r);
  stop(&r);
  /* What cannot be used is told, and not replaced. */
  assert_int_equal(chmod(r.key, 0644), 0);
  assert_int_equal(pu_tls_web_keep(r.server, r.key, NOW, &err), PU_E_KEY_MODE);
  assert_non_null(strstr(err.detail, "chmod"));
  put(r.key, "nothing", 7, 0600);
  assert_int_equal(pu_tls_web_keep(r.server, r.key, NOW, &err), PU_E_PARSE);
  assert_non_null(strstr(err.detail, r.key));
  assert_int_equal(pu_tls_web_keep(r.server, "/nowhere/at/all.pem", NOW, &err), PU_E_IO);
  rig_deinit(&r);
}

static void test_files(void **state) {
  (void)state;
  static char large[PU_TLS_WEB_FILE_MAX + 1];
  const char *why;
  rig r;
  rig_init(&r);
  uint8_t before[PU_TLS_WEB_PIN], after[PU_TLS_WEB_PIN];
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), PU_E_NOT_FOUND);
  make_files(&r, "one.example");
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), 0);
  assert_int_equal(pu_tls_web_pin(r.server, NOW, before), 0);
  r.config[0].trust = PU_TLS_WEB_PINNED;
  memcpy(r.config[0].pin, before, sizeof before);
  assert_int_equal(shake(&r), 0);
  /* Renewed under way: what runs goes on, what starts takes the new one. */
  make_files(&r, "two.example");
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), 0);
  exchange(&r);
  stop(&r);
  assert_int_equal(shake(&r), PU_E_CRYPTO);
  stop(&r);
  assert_int_equal(pu_tls_web_pin(r.server, NOW, after), 0);
  assert_memory_not_equal(before, after, sizeof before);
  memcpy(r.config[0].pin, after, sizeof after);
  /* What cannot be loaded changes nothing. */
  assert_int_equal(chmod(r.key, 0644), 0);
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), PU_E_KEY_MODE);
  assert_non_null(strstr(why, "chmod"));
  assert_int_equal(chmod(r.key, 0640), 0); /* a group of the system's may hold it */
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), 0);
  assert_int_equal(pu_tls_web_load(r.server, r.key, r.key, &why), PU_E_PARSE);
  assert_int_equal(pu_tls_web_load(r.server, r.folder, r.key, &why), PU_E_IO);
  put(r.key, large, sizeof large, 0600);
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), PU_E_TOO_BIG);
  put(r.key, large, 0, 0600);
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), PU_E_PARSE);
  put(r.key, large, 3000, 0600);
  assert_int_equal(pu_tls_web_load(r.server, r.certificate, r.key, &why), PU_E_PARSE);
  assert_int_equal(shake(&r), 0);
  exchange(&r);
  stop(&r);
  /* The certificate of one, the key of the other. */
  char kept[96];
  (void)snprintf(kept, sizeof kept, "%s/kept.pem", r.folder);
  make_files(&r, "three.example");
  assert_int_equal(rename(r.certificate, kept), 0);
  make_files(&r, "four.example");
  assert_int_equal(pu_tls_web_load(r.server, kept, r.key, &why), PU_E_PARSE);
  assert_non_null(strstr(why, "not that of"));
  (void)unlink(kept);
  /* Sessions outlive what they were made of. */
  assert_int_equal(shake(&r), 0);
  pu_tls_web_free(r.server);
  pu_tls_web_free(r.client);
  r.server = r.client = NULL;
  exchange(&r);
  rig_deinit(&r);
}

static void test_allocation_failures(void **state) {
  (void)state;
  for (int which = 0; which < 2; which++) {
    uint64_t n = 1;
    for (;; n++) {
      rig r;
      rig_init(&r);
      pu_mem *mem = which == 0 ? &r.mem : &r.web_mem;
      pu_mem_fail_at(mem, n);
      const int rc = shake(&r);
      const bool reached = mem->fail_at == 0;
      assert_int_equal(rc, reached ? PU_E_NOMEM : 0);
      rig_deinit(&r);
      if (!reached)
        break;
    }
    assert_true(n > 2);
  }
  for (uint64_t n = 1;; n++) {
    rig r;
    rig_init(&r);
    make_files(&r, "one.example");
    pu_mem_fail_at(&r.web_mem, n);
    const int rc = pu_tls_web_load(r.server, r.certificate, r.key, NULL);
    const bool reached = r.web_mem.fail_at == 0;
    assert_int_equal(rc, reached ? PU_E_NOMEM : 0);
    rig_deinit(&r);
    if (!reached)
      break;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_self_signed_and_pinned),
      cmocka_unit_test(test_not_vouched_for),
      cmocka_unit_test(test_hosts),
      cmocka_unit_test(test_kept),
      cmocka_unit_test(test_files),
      cmocka_unit_test(test_allocation_failures),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
