/* The TLS handshake of a QUIC connection (wire 7 and 8; RFC 9001): GnuTLS speaks it, ngtcp2 carries
 * it. The session of GnuTLS is freed when the handshake is over: what may still come are tickets,
 * which we do not use. */
#include <gnutls/gnutls.h>

#include "security/tls_identity.h"
#include "transport/quic_priv.h"

static const char *const ALPN[] = {"libp2p"};

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *ref) {
  const quic_session *s = ref->user_data;
  return s->conn;
}

/* verify runs inside ngtcp2: it judges and notes, and frees nothing. */
static int verify(gnutls_session_t tls) {
  const ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(tls);
  quic_session *s = ref->user_data;
  gnutls_datum_t agreed;
  if (gnutls_alpn_get_selected_protocol(tls, &agreed) != 0) { /* RFC 9001, 8.1: a must */
    s->verify_status = PU_E_UNSUPPORTED;
    s->verify_alert = GNUTLS_A_NO_APPLICATION_PROTOCOL;
    s->verify_why = "the peer does not say that it speaks libp2p (ALPN)";
    return GNUTLS_E_CERTIFICATE_ERROR;
  }
  const uint64_t now_s = pu_wall_ns(s->config.platform) / 1000000000u;
  s->verify_status = pu_tls_check_peer(s->config.tls, tls, now_s, s->config.expected,
                                       &s->result->key, &s->result->peer, &s->verify_why);
  return s->verify_status == 0 ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

int pu_quic_tls_start(quic_session *s) {
  const bool client = s->config.initiator;
  const unsigned flags =
      client ? GNUTLS_CLIENT | GNUTLS_KEY_SHARE_TOP | GNUTLS_FORCE_CLIENT_CERT |
                   GNUTLS_NO_END_OF_EARLY_DATA
             : GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET | GNUTLS_NO_END_OF_EARLY_DATA;
  s->result = pu_zalloc(s->config.mem, sizeof *s->result);
  if (s->result == NULL || gnutls_init(&s->tls, flags) != 0)
    return PU_E_NOMEM;
  int status = pu_tls_prepare(s->config.tls, s->tls, client, true, ALPN, PU_COUNT(ALPN));
  if (status != 0)
    return status;
  if ((client ? ngtcp2_crypto_gnutls_configure_client_session(s->tls)
              : ngtcp2_crypto_gnutls_configure_server_session(s->tls)) != 0)
    return PU_E_CRYPTO;
  s->ref = (ngtcp2_crypto_conn_ref){.get_conn = conn_of, .user_data = s};
  gnutls_session_set_ptr(s->tls, &s->ref);
  gnutls_session_set_verify_function(s->tls, verify);
  ngtcp2_conn_set_tls_native_handle(s->conn, s->tls);
  return 0;
}

void pu_quic_tls_end(quic_session *s) {
  if (s->tls == NULL)
    return;
  if (s->conn != NULL)
    ngtcp2_conn_set_tls_native_handle(s->conn, NULL);
  gnutls_deinit(s->tls);
  s->tls = NULL;
}
