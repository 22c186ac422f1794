/* Certificates of hostile peers. Byte 0 chooses: bit 0 whether dates are looked at; bit 1 whether
 * the input is a certificate, or the libp2p extension of one that is honest otherwise. What is
 * accepted is signed: so an accepted extension names the peer that signed it. */
#include "support/gnutls_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *der, size_t len, uint64_t now_s) {
  pu_public_key key;
  pu_peer_id peer, again;
  const char *why = NULL;
  const int rc = pu_tls_check_certificate(NULL, der, len, 1, now_s, NULL, &key, &peer, &why);
  PU_ASSERT(why != NULL && (rc == 0) == (why[0] == '\0'));
  if (rc != 0)
    return;
  pu_public_key_peer_id(&key, &again);
  PU_ASSERT(pu_peer_id_equal(&peer, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1)
    return 0;
  const uint64_t now_s = (data[0] & 1) != 0 ? TLS_PAIR_NOW_S : 0;
  const uint8_t *in = data + 1;
  if ((data[0] & 2) == 0) {
    check(in, size - 1, now_s);
    return 0;
  }
  static const uint8_t none;
  const gnutls_peer_certificate shape = {.extension = size > 1 ? in : &none,
                                         .extension_len = size - 1};
  if (shape.extension_len == 0 || shape.extension_len > 4096)
    return 0;
  pu_key *key = pu_test_key(1);
  gnutls_x509_privkey_t tls_key;
  gnutls_x509_crt_t crt = gnutls_peer_make(&shape, key, &tls_key);
  gnutls_datum_t der;
  PU_ASSERT(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der) == 0);
  check(der.data, der.size, now_s);
  gnutls_free(der.data);
  gnutls_x509_crt_deinit(crt);
  gnutls_x509_privkey_deinit(tls_key);
  pu_key_free(key);
  return 0;
}
