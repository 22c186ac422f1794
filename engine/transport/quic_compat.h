/* The only door to ngtcp2: its headers, and what differs between 0.12 (Debian 12) and 1.x behind
 * the names of 1.x. No other file includes ngtcp2's headers. */
#ifndef PU_TRANSPORT_QUIC_COMPAT_H
#define PU_TRANSPORT_QUIC_COMPAT_H

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#define PU_NGTCP2_1 (NGTCP2_VERSION_NUM >= 0x010000)

#if !PU_NGTCP2_1
typedef ngtcp2_connection_close_error ngtcp2_ccerr;
typedef ngtcp2_crypto_level ngtcp2_encryption_level;
#define NGTCP2_CCERR_TYPE_APPLICATION NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION
#define NGTCP2_CCERR_TYPE_TRANSPORT NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_TRANSPORT
#define NGTCP2_ENCRYPTION_LEVEL_1RTT NGTCP2_CRYPTO_LEVEL_APPLICATION
#define ngtcp2_ccerr_default ngtcp2_connection_close_error_default
#define ngtcp2_ccerr_set_application_error ngtcp2_connection_close_error_set_application_error
#define ngtcp2_ccerr_set_tls_alert ngtcp2_connection_close_error_set_transport_error_tls_alert
#define ngtcp2_ccerr_set_liberr ngtcp2_connection_close_error_set_transport_error_liberr
#define ngtcp2_conn_in_closing_period ngtcp2_conn_is_in_closing_period
#define ngtcp2_conn_in_draining_period ngtcp2_conn_is_in_draining_period
#define ngtcp2_conn_get_conn_info ngtcp2_conn_get_conn_stat
typedef ngtcp2_conn_stat ngtcp2_conn_info;
#endif

/* pu_ngtcp2_ccerr_get copies what the peer closed with. */
static inline ngtcp2_ccerr pu_ngtcp2_ccerr_get(ngtcp2_conn *conn) {
#if PU_NGTCP2_1
  return *ngtcp2_conn_get_ccerr(conn);
#else
  ngtcp2_ccerr error;
  ngtcp2_conn_get_connection_close_error(conn, &error);
  return error;
#endif
}

static inline const uint8_t *pu_ngtcp2_token(const ngtcp2_pkt_hd *hd, size_t *len) {
#if PU_NGTCP2_1
  *len = hd->tokenlen;
  return hd->token;
#else
  *len = hd->token.len;
  return hd->token.base;
#endif
}

static inline void pu_ngtcp2_set_token(ngtcp2_settings *settings, uint8_t *token, size_t len) {
#if PU_NGTCP2_1
  settings->token = token;
  settings->tokenlen = len;
#else
  settings->token.base = token;
  settings->token.len = len;
#endif
}

static inline void pu_ngtcp2_set_original_dcid(ngtcp2_transport_params *params,
                                               const ngtcp2_cid *cid) {
  params->original_dcid = *cid;
#if PU_NGTCP2_1
  params->original_dcid_present = 1;
#endif
}

static inline int pu_ngtcp2_shutdown_stream(ngtcp2_conn *conn, int64_t id, uint64_t code) {
#if PU_NGTCP2_1
  return ngtcp2_conn_shutdown_stream(conn, 0, id, code);
#else
  return ngtcp2_conn_shutdown_stream(conn, id, code);
#endif
}

static inline int pu_ngtcp2_shutdown_stream_read(ngtcp2_conn *conn, int64_t id, uint64_t code) {
#if PU_NGTCP2_1
  return ngtcp2_conn_shutdown_stream_read(conn, 0, id, code);
#else
  return ngtcp2_conn_shutdown_stream_read(conn, id, code);
#endif
}

/* pu_ngtcp2_is_stopped says whether the peer has stopped the sending on a stream. Before 1.24 no
 * callback tells it; a write does, before it looks at its bytes, and more than a stream can ever
 * carry is refused without any effect. */
static inline bool pu_ngtcp2_is_stopped(ngtcp2_conn *conn, int64_t id) {
  static uint8_t byte;
  ngtcp2_path_storage path;
  ngtcp2_pkt_info info;
  uint8_t packet[1];
  const ngtcp2_vec impossible = {&byte, SIZE_MAX};
  ngtcp2_path_storage_zero(&path);
  const ngtcp2_ssize n = ngtcp2_conn_writev_stream(conn, &path.path, &info, packet, sizeof packet,
                                                   NULL, 0, id, &impossible, 1, 0);
  return n == NGTCP2_ERR_STREAM_SHUT_WR || n == NGTCP2_ERR_STREAM_NOT_FOUND;
}

/* pu_ngtcp2_scids fills our own connection IDs; returns how many (of |max|, 0 when there are more).
 */
static inline size_t pu_ngtcp2_scids(ngtcp2_conn *conn, ngtcp2_cid *out, size_t max) {
#if PU_NGTCP2_1
  const size_t count = ngtcp2_conn_get_scid(conn, NULL);
#else
  const size_t count = ngtcp2_conn_get_num_scid(conn);
#endif
  return count <= max ? ngtcp2_conn_get_scid(conn, out) : 0;
}

#endif
