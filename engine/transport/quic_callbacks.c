/* What ngtcp2 asks of a connection and tells it: memory, chance, connection IDs, TLS, streams. The
 * callbacks only note what happened: nobody is told of anything while ngtcp2 is on the stack
 * (quic_session.c does it afterwards). */
#include <string.h>

#include "transport/quic_priv.h"

/* ---- memory: ngtcp2's is of the connection's account ----
 *
 * 0.12 asserts, and ends the program, where it finds no memory while it writes a packet. A peer
 * must not be able to cause that by using up its account: what the account refuses is given beyond
 * its limits, and the connection ends for it as soon as ngtcp2 is done, which is at most one packet
 * later. */

#define ACCOUNTS_MAX 8u /* from the connection's to the root, and that of its address */

typedef struct lifted {
  pu_mem *account;
  size_t limit;
  uint64_t fail_at;
} lifted;

static size_t lift(pu_mem *account, lifted out[static ACCOUNTS_MAX]) {
  size_t count = 0;
  for (pu_mem *m = account; m != NULL && count < ACCOUNTS_MAX; m = m == account->aside ? NULL
                                                                   : m->parent != NULL
                                                                       ? m->parent
                                                                       : account->aside) {
    out[count++] = (lifted){m, m->limit, m->fail_at};
    m->limit = PU_MEM_UNLIMITED;
    m->fail_at = 0;
  }
  return count;
}

/* beyond_limits takes memory whatever the limits and the tests' failures say. */
static void *beyond_limits(quic_session *s, void *p, size_t size) {
  lifted saved[ACCOUNTS_MAX];
  const size_t count = lift(s->config.mem, saved);
  void *memory = pu_realloc(s->config.mem, p, size);
  for (size_t i = 0; i < count; i++) {
    saved[i].account->limit = saved[i].limit;
    saved[i].account->fail_at = saved[i].fail_at;
  }
  pu_quic_session_failed(s, NGTCP2_ERR_NOMEM);
  return memory;
}

/* A block remembers its neighbours: 0.12 forgets some when a connection ends in the middle of a
 * packet. */
typedef struct block {
  pu_list link;
} block;

static void *resize(quic_session *s, block *old, size_t size) {
  if (size > SIZE_MAX - sizeof(block))
    return NULL;
  if (old != NULL)
    pu_list_remove(&old->link);
  block *b = pu_realloc(s->config.mem, old, sizeof *b + size);
  if (b == NULL)
    b = beyond_limits(s, old, sizeof *b + size);
  if (b == NULL) { /* the machine has none: the old block stays as it was */
    if (old != NULL)
      pu_list_push(&s->blocks, &old->link);
    return NULL;
  }
  pu_list_push(&s->blocks, &b->link);
  return b + 1;
}

static void *mem_alloc(size_t size, void *user) {
  return resize(user, NULL, size);
}

static void mem_free(void *p, void *user) {
  (void)user;
  if (p == NULL)
    return;
  block *b = (block *)p - 1;
  pu_list_remove(&b->link);
  pu_free(b);
}

static void *mem_calloc(size_t count, size_t size, void *user) {
  if (size != 0 && count > SIZE_MAX / size)
    return NULL;
  void *memory = mem_alloc(count * size, user);
  if (memory != NULL)
    memset(memory, 0, count * size);
  return memory;
}

static void *mem_realloc(void *p, size_t size, void *user) {
  return resize(user, p == NULL ? NULL : (block *)p - 1, size);
}

void pu_quic_memory_end(quic_session *s) {
  while (!pu_list_empty(&s->blocks)) {
    block *b = PU_CONTAINER_OF(s->blocks.next, block, link);
    pu_list_remove(&b->link);
    pu_free(b);
  }
}

/* ---- ngtcp2's callbacks: connection IDs, keys, chance ---- */

static void on_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx) {
  pu_random(ctx->native_handle, dest, len);
}

/* new_cid draws an ID of ours; STUN on the same port is told by its cookie, which lies in bytes 3
 * to 6 of an ID behind a short header. */
void pu_quic_new_cid(quic_session *s, ngtcp2_cid *out, size_t len) {
  static const uint8_t cookie[4] = {0x21, 0x12, 0xa4, 0x42};
  uint8_t bytes[NGTCP2_MAX_CIDLEN];
  do {
    pu_random(s->config.platform, bytes, len);
  } while (len >= 7 && memcmp(bytes + 3, cookie, sizeof cookie) == 0);
  ngtcp2_cid_init(out, bytes, len);
}

static int on_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t len, void *user) {
  quic_session *s = user;
  (void)conn;
  pu_quic_new_cid(s, cid, len);
  if (ngtcp2_crypto_generate_stateless_reset_token(token, s->quic->reset_key,
                                                   sizeof s->quic->reset_key, cid) != 0 ||
      pu_quic_endpoint_enter(s->endpoint, s, cid->data, cid->datalen) != 0)
    return NGTCP2_ERR_CALLBACK_FAILURE;
  return 0;
}

static int on_remove_cid(ngtcp2_conn *conn, const ngtcp2_cid *cid, void *user) {
  quic_session *s = user;
  (void)conn;
  pu_quic_endpoint_leave(s->endpoint, s, cid->data, cid->datalen);
  return 0;
}

/* on_crypto bounds what a peer can make TLS work on; what comes behind the handshake are tickets.
 */
static int on_crypto(ngtcp2_conn *conn, ngtcp2_encryption_level level, uint64_t offset,
                     const uint8_t *data, size_t len, void *user) {
  quic_session *s = user;
  s->crypto_bytes += len;
  if (s->crypto_bytes > PU_QUIC_CRYPTO_MAX)
    return NGTCP2_ERR_CRYPTO_BUFFER_EXCEEDED;
  if (s->tls == NULL || level == NGTCP2_ENCRYPTION_LEVEL_1RTT)
    return 0;
  return ngtcp2_crypto_recv_crypto_data_cb(conn, level, offset, data, len, user);
}

static int on_handshake(ngtcp2_conn *conn, void *user) {
  quic_session *s = user;
  (void)conn;
  s->handshake_done = true;
  pu_quic_session_touch(s);
  return 0;
}

static int on_stateless_reset(ngtcp2_conn *conn, const ngtcp2_pkt_stateless_reset *sr, void *user) {
  quic_session *s = user;
  (void)conn;
  (void)sr;
  s->reset_by_peer = true;
  return 0;
}

static int path_validated(quic_session *s, ngtcp2_path_validation_result result) {
  if (result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS) {
    s->path_due = true;
    pu_quic_session_touch(s);
  }
  return 0;
}

#if PU_NGTCP2_1
static int on_path_validation(ngtcp2_conn *conn, uint32_t flags, const ngtcp2_path *path,
                              const ngtcp2_path *old, ngtcp2_path_validation_result result,
                              void *user) {
  (void)old;
#else
static int on_path_validation(ngtcp2_conn *conn, uint32_t flags, const ngtcp2_path *path,
                              ngtcp2_path_validation_result result, void *user) {
#endif
  (void)conn;
  (void)flags;
  (void)path;
  return path_validated(user, result);
}

/* ---- ngtcp2's callbacks: streams ---- */

static int on_stream_open(ngtcp2_conn *conn, int64_t id, void *user) {
  quic_session *s = user;
  quic_stream *st = pu_quic_stream_new(s, id, NULL);
  if (st == NULL)
    return NGTCP2_ERR_CALLBACK_FAILURE;
  st->is_new = true;
  pu_quic_stream_due(st);
  return ngtcp2_conn_set_stream_user_data(conn, id, st) == 0 ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_stream_data(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *data, size_t len, void *user, void *stream_user) {
  (void)id;
  (void)offset;
  (void)user;
  if (stream_user == NULL)
    ngtcp2_conn_extend_max_offset(conn, len);
  else
    pu_quic_stream_arrived(stream_user, data, len, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
  return 0;
}

static int on_acked(ngtcp2_conn *conn, int64_t id, uint64_t offset, uint64_t len, void *user,
                    void *stream_user) {
  (void)conn;
  (void)id;
  (void)user;
  if (stream_user != NULL)
    pu_quic_stream_acked(stream_user, offset + len);
  return 0;
}

static int on_stream_room(ngtcp2_conn *conn, int64_t id, uint64_t max, void *user,
                          void *stream_user) {
  (void)conn;
  (void)id;
  (void)max;
  (void)user;
  if (stream_user != NULL)
    pu_quic_stream_unblock(stream_user);
  return 0;
}

static int on_stream_reset(ngtcp2_conn *conn, int64_t id, uint64_t final, uint64_t code, void *user,
                           void *stream_user) {
  quic_stream *st = stream_user;
  (void)conn;
  (void)id;
  (void) final;
  (void)user;
  if (st == NULL)
    return 0;
  st->reset_seen = true;
  st->reset_code = code;
  pu_quic_stream_due(st);
  return 0;
}

static int on_stream_close(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream_user) {
  quic_stream *st = stream_user;
  (void)flags;
  (void)code;
  (void)user;
  if (ngtcp2_conn_is_local_stream(conn, id) == 0)
    ngtcp2_conn_extend_max_streams_bidi(conn, 1);
  if (st == NULL)
    return 0;
  st->over = true;
  st->session->acked = true; /* whoever waits for room learns it */
  pu_list_remove(&st->sending);
  if (st->attached || st->is_new)
    pu_quic_stream_due(st);
  else
    pu_quic_stream_free(st);
  return 0;
}

static int on_streams_room(ngtcp2_conn *conn, uint64_t max, void *user) {
  quic_session *s = user;
  (void)conn;
  (void)max;
  s->room_due = true;
  pu_quic_session_touch(s);
  return 0;
}

void pu_quic_memory(quic_session *s) {
  s->memory = (ngtcp2_mem){s, mem_alloc, mem_free, mem_calloc, mem_realloc};
}

/* ---- all of them ---- */

ngtcp2_callbacks pu_quic_callbacks(bool client) {
  return (ngtcp2_callbacks){
      .client_initial = client ? ngtcp2_crypto_client_initial_cb : NULL,
      .recv_client_initial = client ? NULL : ngtcp2_crypto_recv_client_initial_cb,
      .recv_retry = client ? ngtcp2_crypto_recv_retry_cb : NULL,
      .recv_crypto_data = on_crypto,
      .handshake_completed = on_handshake,
      .encrypt = ngtcp2_crypto_encrypt_cb,
      .decrypt = ngtcp2_crypto_decrypt_cb,
      .hp_mask = ngtcp2_crypto_hp_mask_cb,
      .update_key = ngtcp2_crypto_update_key_cb,
      .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
      .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
      .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
      .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
      .rand = on_rand,
      .get_new_connection_id = on_new_cid,
      .remove_connection_id = on_remove_cid,
      .recv_stateless_reset = on_stateless_reset,
      .path_validation = on_path_validation,
      .stream_open = on_stream_open,
      .recv_stream_data = on_stream_data,
      .acked_stream_data_offset = on_acked,
      .extend_max_stream_data = on_stream_room,
      .stream_reset = on_stream_reset,
      .stream_close = on_stream_close,
      .extend_max_local_streams_bidi = on_streams_room,
  };
}
