/* A hostile QUIC client for tests, in the simulated network: ngtcp2 makes an honest handshake with
 * whatever certificate and ALPN it is given; behind it packets with any frames at all are made by
 * hand, with the keys that ngtcp2 showed while it encrypted. */
#ifndef PU_TESTS_QUIC_MALLORY_H
#define PU_TESTS_QUIC_MALLORY_H

#include "platform/platform.h"
#include "support/gnutls_peer.h"
#include "transport/quic_priv.h"

#define MALLORY_STREAM_BYTES 8u
#define MALLORY_TAG 16u
#define MALLORY_REPLAY 32u /* datagrams kept to be sent again */

typedef struct mallory_sent {
  size_t len;
  uint8_t bytes[1500];
} mallory_sent;

typedef struct mallory {
  pu_platform *platform;
  pu_udp *udp;
  pu_sockaddr local, to;
  gnutls_peer peer;
  ngtcp2_conn *conn;
  ngtcp2_crypto_conn_ref ref;
  bool done;     /* the handshake is over at this end */
  bool closed;   /* the other end has closed the connection, */
  uint64_t code; /* with this code (crypto errors: 0x100 and the alert) */
  int fault;     /* of ngtcp2 */
  bool deaf;     /* it reads no more: its packets are made by hand */
  int64_t stream;
  mallory_sent sent[MALLORY_REPLAY];
  size_t sent_count;
  uint64_t heard_bytes; /* of datagrams */
  /* What the last packet behind the handshake was encrypted with. */
  bool has_keys;
  ngtcp2_crypto_aead aead;
  ngtcp2_crypto_aead_ctx aead_ctx;
  ngtcp2_crypto_cipher hp;
  ngtcp2_crypto_cipher_ctx hp_ctx;
  uint8_t iv[12], head[1 + NGTCP2_MAX_CIDLEN];
  size_t head_len; /* first byte and connection ID */
  uint32_t number; /* of the next packet made by hand */
} mallory;

/* mallory_writing is who encrypts: the callbacks are not told. */
static mallory *mallory_writing;

static inline int mallory_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                                  const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
                                  size_t plain_len, const uint8_t *nonce, size_t nonce_len,
                                  const uint8_t *aad, size_t aad_len) {
  mallory *m = mallory_writing;
  if ((aad[0] & 0x80) == 0 && nonce_len == sizeof m->iv) {
    const size_t number_len = (aad[0] & 3u) + 1;
    m->aead = *aead;
    m->aead_ctx = *ctx;
    memcpy(m->iv, nonce, sizeof m->iv);
    for (size_t i = 0; i < number_len; i++)
      m->iv[sizeof m->iv - 1 - i] ^= aad[aad_len - 1 - i];
    m->head_len = aad_len - number_len;
    memcpy(m->head, aad, m->head_len);
    m->has_keys = true;
  }
  return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, plain_len, nonce, nonce_len, aad,
                                  aad_len);
}

static inline int mallory_hp_mask(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
                                  const ngtcp2_crypto_cipher_ctx *ctx, const uint8_t *sample) {
  mallory_writing->hp = *hp; /* the last one that was used for a packet is the newest key's */
  mallory_writing->hp_ctx = *ctx;
  return ngtcp2_crypto_hp_mask_cb(dest, hp, ctx, sample);
}

static inline int mallory_on_handshake(ngtcp2_conn *conn, void *user) {
  (void)conn;
  ((mallory *)user)->done = true;
  return 0;
}

static inline void mallory_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx) {
  pu_random(ctx->native_handle, dest, len);
}

static inline int mallory_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t len,
                                  void *user) {
  const mallory *m = user;
  (void)conn;
  pu_random(m->platform, cid->data, len);
  cid->datalen = len;
  pu_random(m->platform, token, NGTCP2_STATELESS_RESET_TOKENLEN);
  return 0;
}

static inline ngtcp2_conn *mallory_conn(ngtcp2_crypto_conn_ref *ref) {
  return ((mallory *)ref->user_data)->conn;
}

static inline int mallory_retrieve(gnutls_session_t tls, const gnutls_datum_t *authorities,
                                   int authority_count, const gnutls_pk_algorithm_t *algorithms,
                                   int algorithm_count, gnutls_pcert_st **chain, unsigned *len,
                                   gnutls_privkey_t *key) {
  const ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(tls);
  mallory *m = ref->user_data;
  (void)authorities;
  (void)authority_count;
  (void)algorithms;
  (void)algorithm_count;
  *chain = m->peer.chain;
  *len = m->peer.chain_len;
  *key = m->peer.chain_len > 0 ? m->peer.key : NULL;
  return 0;
}

static inline void mallory_send(mallory *m, const uint8_t *packet, size_t len) {
  const pu_datagrams d = {
      .remote = m->to, .data = (uint8_t *)(uintptr_t)packet, .len = len, .segment = len};
  PU_ASSERT(pu_udp_send(m->udp, &d) == (ssize_t)len);
}

/* mallory_write sends what ngtcp2 has to say, |len| bytes of a stream included. */
static inline void mallory_write(mallory *m, const uint8_t *data, size_t len) {
  uint8_t packet[1452];
  mallory_writing = m;
  for (unsigned i = 0; i < 64 && m->fault == 0 && !m->deaf; i++) {
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info;
    ngtcp2_ssize taken = -1;
    const ngtcp2_vec vec = {(uint8_t *)(uintptr_t)data, len};
    ngtcp2_path_storage_zero(&path);
    const ngtcp2_ssize n = ngtcp2_conn_writev_stream(
        m->conn, &path.path, &info, packet, sizeof packet, &taken, 0, len > 0 ? m->stream : -1,
        &vec, len > 0 ? 1 : 0, pu_now_us(m->platform) * 1000u);
    if (taken > 0) {
      data += taken;
      len -= (size_t)taken;
    }
    if (n < 0)
      m->fault = (int)n;
    if (n <= 0)
      break;
    if (m->sent_count < MALLORY_REPLAY) {
      memcpy(m->sent[m->sent_count].bytes, packet, (size_t)n);
      m->sent[m->sent_count++].len = (size_t)n;
    }
    mallory_send(m, packet, (size_t)n);
  }
  mallory_writing = NULL;
}

static inline void mallory_read(void *data) {
  static uint8_t room[PU_UDP_RECV_MAX][65536];
  mallory *m = data;
  pu_datagrams batches[PU_UDP_RECV_MAX];
  for (size_t i = 0; i < PU_UDP_RECV_MAX; i++)
    batches[i] = (pu_datagrams){.data = room[i], .len = sizeof room[i]};
  const ssize_t count = pu_udp_recv(m->udp, batches, PU_UDP_RECV_MAX);
  mallory_writing = m;
  for (ssize_t i = 0; i < count; i++) {
    m->heard_bytes += batches[i].len;
    for (size_t at = 0; at < batches[i].len && !m->deaf && m->fault == 0;
         at += batches[i].segment) {
      const size_t left = batches[i].len - at;
      const ngtcp2_pkt_info info = {0};
      ngtcp2_path_storage path;
      pu_quic_path(&m->local, &m->to, &path);
      m->fault = ngtcp2_conn_read_pkt(m->conn, &path.path, &info, batches[i].data + at,
                                      left < batches[i].segment ? left : batches[i].segment,
                                      pu_now_us(m->platform) * 1000u);
    }
  }
  mallory_writing = NULL;
  if (m->fault == NGTCP2_ERR_DRAINING) {
    m->closed = true;
    m->code = pu_ngtcp2_ccerr_get(m->conn).error_code;
  }
  mallory_write(m, NULL, 0);
}

static inline void mallory_ignore(void *data) {
  (void)data;
}

static const pu_udp_events mallory_events = {mallory_read, mallory_ignore};

/* mallory_begin begins a handshake with |to| from the host |platform|, showing |count| certificates
 * like |shape| of |identity|. */
static inline void mallory_begin(mallory *m, pu_platform *platform, const pu_sockaddr *from,
                                 const pu_sockaddr *to, const pu_key *identity,
                                 const gnutls_peer_certificate *shape, unsigned count,
                                 const char *alpn) {
  const ngtcp2_callbacks callbacks = {
      .client_initial = ngtcp2_crypto_client_initial_cb,
      .recv_retry = ngtcp2_crypto_recv_retry_cb,
      .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
      .handshake_completed = mallory_on_handshake,
      .encrypt = mallory_encrypt,
      .decrypt = ngtcp2_crypto_decrypt_cb,
      .hp_mask = mallory_hp_mask,
      .update_key = ngtcp2_crypto_update_key_cb,
      .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
      .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
      .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
      .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
      .rand = mallory_rand,
      .get_new_connection_id = mallory_new_cid,
  };
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_path_storage path;
  ngtcp2_cid dcid, scid;
  memset(m, 0, sizeof *m);
  m->platform = platform;
  m->to = *to;
  m->stream = -1;
  PU_ASSERT(pu_udp_open(platform, from, &mallory_events, m, &m->udp) == 0);
  pu_udp_want(m->udp, PU_WANT_READ);
  pu_udp_local(m->udp, &m->local);
  gnutls_peer_certificate now = *shape;
  now.now_unix_s = pu_wall_ns(platform) / 1000000000u;
  gnutls_peer_init(&m->peer, true, identity, &now, count, alpn, GNUTLS_NO_END_OF_EARLY_DATA,
                   "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3");
  gnutls_certificate_set_retrieve_function2(m->peer.credentials, mallory_retrieve);
  PU_ASSERT(ngtcp2_crypto_gnutls_configure_client_session(m->peer.tls) == 0);
  m->ref = (ngtcp2_crypto_conn_ref){.get_conn = mallory_conn, .user_data = m};
  gnutls_session_set_ptr(m->peer.tls, &m->ref);
  pu_random(platform, dcid.data, 16);
  dcid.datalen = 16;
  pu_random(platform, scid.data, 8);
  scid.datalen = 8;
  ngtcp2_settings_default(&settings);
  settings.initial_ts = pu_now_us(platform) * 1000u;
  settings.rand_ctx.native_handle = platform;
  ngtcp2_transport_params_default(&params);
  params.initial_max_stream_data_bidi_local = params.initial_max_data = 1u << 20;
  params.initial_max_stream_data_bidi_remote = 1u << 20;
  params.initial_max_streams_bidi = 100;
  params.max_idle_timeout = 60 * NGTCP2_SECONDS;
  params.active_connection_id_limit = 4;
  pu_quic_path(&m->local, &m->to, &path);
  PU_ASSERT(ngtcp2_conn_client_new(&m->conn, &dcid, &scid, &path.path, NGTCP2_PROTO_VER_V1,
                                   &callbacks, &settings, &params, NULL, m) == 0);
  ngtcp2_conn_set_tls_native_handle(m->conn, m->peer.tls);
  mallory_write(m, NULL, 0);
}

static inline void mallory_end(mallory *m) {
  ngtcp2_conn_del(m->conn);
  gnutls_peer_deinit(&m->peer);
  pu_udp_close(m->udp);
}

/* mallory_turn takes the connection from ngtcp2, when it is open: from here on its packets are made
 * by hand. It opens a stream before, which shows the keys. */
static inline bool mallory_turn(mallory *m) {
  static const uint8_t hello[MALLORY_STREAM_BYTES] = {0};
  if (!m->done || ngtcp2_conn_open_bidi_stream(m->conn, &m->stream, NULL) != 0)
    return false;
  mallory_write(m, hello, sizeof hello);
  m->deaf = true;
  m->number = 1u << 12;
  return m->has_keys;
}

/* mallory_say sends one packet with |frames|. */
static inline void mallory_say(mallory *m, const uint8_t *frames, size_t len) {
  uint8_t packet[1500], nonce[12], mask[5];
  const size_t head = m->head_len;
  PU_ASSERT(len >= 4 && len + head + 4 + MALLORY_TAG <= sizeof packet);
  memcpy(packet, m->head, head);
  packet[0] = (uint8_t)((m->head[0] & 0xfcu) | 3u);
  for (size_t i = 0; i < 4; i++)
    packet[head + i] = (uint8_t)(m->number >> (24 - 8 * i));
  memcpy(nonce, m->iv, sizeof nonce);
  for (size_t i = 0; i < 4; i++)
    nonce[8 + i] ^= packet[head + i];
  m->number++;
  PU_ASSERT(ngtcp2_crypto_encrypt(packet + head + 4, &m->aead, &m->aead_ctx, frames, len, nonce,
                                  sizeof nonce, packet, head + 4) == 0);
  PU_ASSERT(ngtcp2_crypto_hp_mask(mask, &m->hp, &m->hp_ctx, packet + head + 4) == 0);
  packet[0] ^= mask[0] & 0x1fu;
  for (size_t i = 0; i < 4; i++)
    packet[head + i] ^= mask[1 + i];
  mallory_send(m, packet, head + 4 + len + MALLORY_TAG);
}

/* mallory_put writes a variable-length integer of 8 bytes (RFC 9000, 16); returns 8. */
static inline size_t mallory_put(uint8_t *out, uint64_t value) {
  for (size_t i = 0; i < 8; i++)
    out[i] = (uint8_t)(value >> (56 - 8 * i));
  out[0] |= 0xc0u;
  return 8;
}

/* mallory_frame writes a frame of |type| with up to four integers behind it (UINT64_MAX: no more).
 */
static inline size_t mallory_frame(uint8_t *out, uint8_t type, uint64_t a, uint64_t b, uint64_t c,
                                   uint64_t d) {
  const uint64_t values[] = {a, b, c, d};
  size_t len = 0;
  out[len++] = type;
  for (size_t i = 0; i < 4 && values[i] != UINT64_MAX; i++)
    len += mallory_put(out + len, values[i]);
  return len;
}

#endif
