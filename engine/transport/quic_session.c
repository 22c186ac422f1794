/* One QUIC connection: ngtcp2's state, its timer, and the batches of packets that it sends (RFC
 * 9000, wire 8). ngtcp2's callbacks only note what happened; users are told when ngtcp2 is not on
 * the stack any more, since they may do anything, also end the connection. */
#include <stdio.h>
#include <string.h>

#include "platform/assert.h"
#include "transport/quic_priv.h"

#define HANDSHAKE_LIMIT_NS (15u * NGTCP2_SECONDS)
#define EARLY_BYTES                                                             \
  16384u /* of one batch are worth a packet of their own that acknowledges them \
          */

/* ---- addresses ---- */

static socklen_t to_native(const pu_sockaddr *sa, ngtcp2_sockaddr_union *out) {
  memset(out, 0, sizeof *out);
  if (sa->family == 6) {
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(sa->port);
    out->in6.sin6_scope_id = sa->scope;
    memcpy(&out->in6.sin6_addr, sa->ip, 16);
    return sizeof out->in6;
  }
  out->in.sin_family = AF_INET;
  out->in.sin_port = htons(sa->port);
  memcpy(&out->in.sin_addr, sa->ip, 4);
  return sizeof out->in;
}

void pu_quic_from_native(const ngtcp2_addr *addr, pu_sockaddr *out) {
  *out = (pu_sockaddr){0};
  if (addr->addr->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)addr->addr;
    out->family = 6;
    out->port = ntohs(in6->sin6_port);
    out->scope = in6->sin6_scope_id;
    memcpy(out->ip, &in6->sin6_addr, 16);
  } else {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr->addr;
    out->family = 4;
    out->port = ntohs(in->sin_port);
    memcpy(out->ip, &in->sin_addr, 4);
  }
}

/* The local address is always the socket's own: ngtcp2 would take another one for a migration.
 * Answers leave from the address that the peer knows by pu_datagrams.local. */
void pu_quic_path(const pu_sockaddr *local, const pu_sockaddr *remote, ngtcp2_path_storage *out) {
  ngtcp2_sockaddr_union l, r;
  const socklen_t local_len = to_native(local, &l), remote_len = to_native(remote, &r);
  ngtcp2_path_storage_init(out, &l.sa, local_len, &r.sa, remote_len, NULL);
}

/* ---- beginning ---- */

static void settings_of(quic_session *s, ngtcp2_settings *out) {
  ngtcp2_settings_default(out);
  out->cc_algo =
      s->quic->config.congestion == PU_QUIC_BBR ? NGTCP2_CC_ALGO_BBR : NGTCP2_CC_ALGO_CUBIC;
  out->initial_ts = pu_quic_now(s->quic);
  out->rand_ctx.native_handle = s->config.platform;
  out->max_tx_udp_payload_size = QUIC_PACKET_MAX;
  out->handshake_timeout = HANDSHAKE_LIMIT_NS;
  /* The windows of streams are ours to grow (quic_stream.c): when 0.12 grows one, and the packet
   * has no room for the frame, it holds the peer to the old limit although the new one is sent
   * later. */
  out->max_window = 2 * s->window_max;
}

static void params_of(const quic_session *s, ngtcp2_transport_params *out) {
  ngtcp2_transport_params_default(out);
  out->initial_max_stream_data_bidi_local = PU_QUIC_STREAM_WINDOW;
  out->initial_max_stream_data_bidi_remote = PU_QUIC_STREAM_WINDOW;
  out->initial_max_data = PU_QUIC_CONN_WINDOW;
  out->initial_max_streams_bidi = s->config.max_streams_in;
  out->max_idle_timeout = PU_QUIC_IDLE_S * NGTCP2_SECONDS;
  out->max_udp_payload_size = QUIC_DATAGRAM_MAX;
  out->active_connection_id_limit = 4;
}

static void on_timer(void *data) {
  quic_session *s = data;
  pu_quic *q = s->quic;
  pu_quic_begin_batch(q);
  const int status =
      s->begun && s->fault == 0 ? ngtcp2_conn_handle_expiry(s->conn, q->batch_ns) : 0;
  s->begun = true;
  if (status != 0)
    pu_quic_session_failed(s, status);
  pu_quic_session_touch(s);
  pu_quic_end_batch(q);
}

static quic_session *new_session(quic_endpoint *ep, const pu_session_config *config,
                                 const pu_sockaddr *remote) {
  quic_session *s = pu_zalloc(config->mem, sizeof *s);
  if (s == NULL)
    return NULL;
  s->base.ops = &pu_quic_session_ops;
  s->config = *config;
  s->quic = ep->quic;
  s->endpoint = ep;
  s->remote = *remote;
  s->window_max =
      config->window_budget < PU_QUIC_WINDOW_MAX ? config->window_budget : PU_QUIC_WINDOW_MAX;
  pu_quic_memory(s);
  pu_list *const lists[] = {&s->streams, &s->sending, &s->stuck, &s->events,
                            &s->waiters, &s->touch,   &s->wait,  &s->blocks};
  for (size_t i = 0; i < PU_COUNT(lists); i++)
    pu_list_init(lists[i]);
  pu_timer_init(&s->timer, config->platform, on_timer, s);
  pu_list_push(&ep->sessions, &s->link);
  return s;
}

/* give_up takes a session back that could not begin. */
static int give_up(quic_session *s, int status) {
  s->quiet = true;
  pu_quic_session_close(&s->base, 0, true);
  s->base.ops->free(&s->base);
  return status;
}

int pu_quic_session_client(quic_endpoint *ep, const pu_sockaddr *remote,
                           const pu_session_config *config, pu_session **out) {
  const ngtcp2_callbacks callbacks = pu_quic_callbacks(true);
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_path_storage path;
  ngtcp2_cid dcid, scid;
  quic_session *s = new_session(ep, config, remote);
  if (s == NULL)
    return PU_E_NOMEM;
  pu_quic_new_cid(s, &dcid, 16);
  pu_quic_new_cid(s, &scid, QUIC_CID_BYTES);
  settings_of(s, &settings);
  params_of(s, &params);
  pu_quic_path(&ep->bound, remote, &path);
  int status = pu_quic_endpoint_enter(ep, s, scid.data, scid.datalen);
  ngtcp2_conn *conn; /* is left dangling by a failure */
  if (status == 0 && ngtcp2_conn_client_new(&conn, &dcid, &scid, &path.path, NGTCP2_PROTO_VER_V1,
                                            &callbacks, &settings, &params, &s->memory, s) != 0)
    status = PU_E_NOMEM;
  if (status == 0) {
    s->conn = conn;
    status = pu_quic_tls_start(s);
  }
  if (status == 0) /* the first packet leaves in the loop's next turn */
    status = pu_timer_after(&s->timer, 0);
  if (status == 0 && s->fault != 0)
    status = PU_E_NOMEM;
  if (status != 0)
    return give_up(s, status);
  *out = &s->base;
  return 0;
}

int pu_quic_session_server(quic_endpoint *ep, const pu_datagrams *packet, const ngtcp2_pkt_hd *hd,
                           const ngtcp2_cid *odcid, const pu_session_config *config,
                           pu_session **out) {
  const ngtcp2_callbacks callbacks = pu_quic_callbacks(false);
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_path_storage path;
  ngtcp2_cid scid;
  quic_session *s = new_session(ep, config, &packet->remote);
  if (s == NULL)
    return PU_E_NOMEM;
  s->local = packet->local;
  s->begun = true;
  s->half_open = odcid == NULL;
  ep->quic->stats.half_open += s->half_open;
  pu_quic_new_cid(s, &scid, QUIC_CID_BYTES);
  settings_of(s, &settings);
  params_of(s, &params);
  pu_ngtcp2_set_original_dcid(&params, odcid != NULL ? odcid : &hd->dcid);
  if (odcid != NULL) {
    size_t token_len;
    uint8_t *token = (uint8_t *)(uintptr_t)pu_ngtcp2_token(hd, &token_len);
    params.retry_scid = hd->dcid;
    params.retry_scid_present = 1;
    pu_ngtcp2_set_token(&settings, token, token_len);
  }
  pu_quic_path(&ep->bound, &packet->remote, &path);
  int status = 0;
  params.stateless_reset_token_present = 1;
  if (ngtcp2_crypto_generate_stateless_reset_token(params.stateless_reset_token, s->quic->reset_key,
                                                   sizeof s->quic->reset_key, &scid) != 0)
    status = PU_E_CRYPTO;
  if (status == 0)
    status = pu_quic_endpoint_enter(ep, s, scid.data, scid.datalen);
  if (status == 0)
    status = pu_quic_endpoint_enter(ep, s, hd->dcid.data, hd->dcid.datalen);
  ngtcp2_conn *conn; /* is left dangling by a failure */
  if (status == 0 && ngtcp2_conn_server_new(&conn, &hd->scid, &scid, &path.path, hd->version,
                                            &callbacks, &settings, &params, &s->memory, s) != 0)
    status = PU_E_NOMEM;
  if (status == 0) {
    s->conn = conn;
    status = pu_quic_tls_start(s);
  }
  if (status == 0 && s->fault != 0)
    status = PU_E_NOMEM;
  if (status != 0)
    return give_up(s, status);
  *out = &s->base;
  return 0;
}

/* ---- end ---- */

/* why_closed puts what the peer closed with into words. */
static int why_closed(quic_session *s, char *out, size_t size) {
  const ngtcp2_ccerr error = pu_ngtcp2_ccerr_get(s->conn);
  const unsigned long long code = (unsigned long long)error.error_code;
  if (error.type == NGTCP2_CCERR_TYPE_APPLICATION) {
    (void)snprintf(out, size,
                   code == 0        ? "closed by the peer"
                   : code == 0x1007 ? "the peer's policy does not allow us"
                   : code == 0x1001 ? "a limit of the peer was reached"
                   : code == 0x1006 ? "the peer shuts down"
                                    : "closed by the peer with code 0x%llx",
                   code);
    return code == 0 || code == 0x1006 ? PU_E_EOF : PU_E_RESET;
  }
  if (code >= 0x100 && code < 0x200) { /* NGTCP2_CRYPTO_ERROR: a TLS alert */
    (void)snprintf(out, size, "the peer refused our handshake (TLS alert %llu)", code - 0x100);
    return PU_E_CRYPTO;
  }
  if (code == NGTCP2_CONNECTION_REFUSED) {
    (void)snprintf(out, size, "the peer takes no connection from us now");
    return PU_E_REFUSED;
  }
  if (code == NGTCP2_NO_ERROR) {
    (void)snprintf(out, size, "closed by the peer");
    return PU_E_EOF;
  }
  (void)snprintf(out, size, "the peer broke off (QUIC error 0x%llx)", code);
  return PU_E_RESET;
}

void pu_quic_session_failed(quic_session *s, int error) {
  char why[96];
  int status = PU_E_PROTOCOL;
  if (s->fault != 0)
    return; /* the first one counts */
  s->fault = error;
  (void)snprintf(why, sizeof why, "QUIC: %s", ngtcp2_strerror(error));
  ngtcp2_ccerr_default(&s->farewell);
  switch (error) {
  case NGTCP2_ERR_DRAINING:
    s->quiet = true;
    status = s->reset_by_peer ? PU_E_RESET : why_closed(s, why, sizeof why);
    if (s->reset_by_peer)
      (void)snprintf(why, sizeof why, "the peer does not know the connection any more");
    break;
  case NGTCP2_ERR_IDLE_CLOSE:
    s->quiet = true;
    status = PU_E_TIMEOUT;
    (void)snprintf(why, sizeof why, "nothing came from the peer for %u s", PU_QUIC_IDLE_S);
    break;
  case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
    s->quiet = true;
    status = PU_E_TIMEOUT;
    (void)snprintf(why, sizeof why, "the handshake took too long");
    break;
  case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
    s->quiet = true;
    status = PU_E_UNSUPPORTED;
    (void)snprintf(why, sizeof why, "the peer does not speak QUIC version 1");
    break;
  case NGTCP2_ERR_DROP_CONN:
  case NGTCP2_ERR_RETRY:
    s->quiet = true;
    break;
  case NGTCP2_ERR_CRYPTO:
    ngtcp2_ccerr_set_tls_alert(
        &s->farewell, s->verify_alert != 0 ? s->verify_alert : ngtcp2_conn_get_tls_alert(s->conn),
        NULL, 0);
    status = s->verify_status != 0 ? s->verify_status : PU_E_CRYPTO;
    if (s->verify_status != 0 && s->verify_why != NULL)
      (void)snprintf(why, sizeof why, "%s", s->verify_why);
    else
      (void)snprintf(why, sizeof why, "the handshake failed (TLS alert %u)",
                     (unsigned)ngtcp2_conn_get_tls_alert(s->conn));
    break;
  case NGTCP2_ERR_NOMEM:
    status = PU_E_NOMEM;
    (void)snprintf(why, sizeof why, "no memory for the connection");
    ngtcp2_ccerr_set_liberr(&s->farewell, error, NULL, 0);
    break;
  default:
    ngtcp2_ccerr_set_liberr(&s->farewell, error, NULL, 0);
    break;
  }
  s->end_status = status;
  (void)snprintf(s->end_why, sizeof s->end_why, "%s", why);
  pu_quic_session_touch(s);
}

/* end tells the owner, who closes. */
static void end(quic_session *s, int status, const char *why) {
  if (s->ended || s->closed)
    return;
  s->ended = true;
  s->config.events->on_end(s->config.user, status, why);
}

/* write_farewell makes the packet that closes the connection; 0: none. */
static size_t write_farewell(quic_session *s, uint32_t code, uint8_t *out, size_t cap) {
  ngtcp2_path_storage path;
  ngtcp2_pkt_info info;
  if (s->conn == NULL || s->quiet || ngtcp2_conn_in_closing_period(s->conn) ||
      ngtcp2_conn_in_draining_period(s->conn))
    return 0;
  if (s->fault == 0) {
    ngtcp2_ccerr_default(&s->farewell);
    ngtcp2_ccerr_set_application_error(&s->farewell, code, NULL, 0);
  }
  ngtcp2_path_storage_zero(&path);
  const ngtcp2_ssize n = ngtcp2_conn_write_connection_close(s->conn, &path.path, &info, out, cap,
                                                            &s->farewell, pu_quic_now(s->quic));
  return n > 0 ? (size_t)n : 0;
}

static void say_farewell(quic_session *s, uint32_t code) {
  uint8_t packet[QUIC_PACKET_MAX];
  const uint64_t drain_us = s->conn != NULL ? 3 * ngtcp2_conn_get_pto(s->conn) / 1000 : 0;
  const size_t len = write_farewell(s, code, packet, sizeof packet);
  if (len > 0) {
    const pu_datagrams batch = {
        .local = s->local, .remote = s->remote, .data = packet, .len = len, .segment = len};
    if (!pu_quic_endpoint_is_full(s->endpoint))
      (void)pu_quic_endpoint_send(s->endpoint, &batch);
    s->bytes_out += len;
  }
  pu_quic_endpoint_bury(s->endpoint, s, packet, len, s->handshake_done || len > 0 ? drain_us : 0);
}

void pu_quic_session_close(pu_session *base, uint32_t code, bool abort) {
  quic_session *s = (quic_session *)base;
  (void)abort;
  if (s->closed)
    return;
  s->closed = true;
  pu_timer_stop(&s->timer);
  pu_list_remove(&s->touch);
  pu_list_remove(&s->wait);
  say_farewell(s, code);
  while (!pu_list_empty(&s->streams))
    pu_quic_stream_free(PU_CONTAINER_OF(s->streams.next, quic_stream, link));
  pu_quic_tls_end(s);
  if (s->conn != NULL)
    ngtcp2_conn_del(s->conn);
  s->conn = NULL;
  pu_quic_memory_end(s);
  pu_free(s->result);
  s->result = NULL;
  if (s->half_open)
    s->quic->stats.half_open--;
  s->half_open = false;
  pu_list_remove(&s->link);
  s->endpoint = NULL;
}

/* ---- reading ---- */

void pu_quic_session_read(quic_session *s, const pu_datagrams *packet, uint8_t *data, size_t len) {
  ngtcp2_path_storage path;
  const ngtcp2_pkt_info info = {.ecn = packet->ecn};
  if (s->closed || s->fault != 0)
    return;
  s->bytes_in += len;
  pu_quic_path(&s->endpoint->bound, &packet->remote, &path);
  const int status = ngtcp2_conn_read_pkt(s->conn, &path.path, &info, data, len, s->quic->batch_ns);
  /* A stream with a thousand holes takes no further piece behind them. The packet is not
   * acknowledged then, and comes again when some are filled: as if it was lost, of which there was
   * much already. */
  if (status == NGTCP2_ERR_INTERNAL)
    s->quic->stats.dropped++;
  else if (status != 0)
    pu_quic_session_failed(s, status);
  pu_quic_session_touch(s);
}

/* ---- telling ---- */

static void become_open(quic_session *s) {
  const pu_session_events *events = s->config.events;
  pu_security_result *result = s->result;
  s->open = true;
  if (s->half_open)
    s->quic->stats.half_open--;
  s->half_open = false;
  s->result = NULL;
  pu_quic_tls_end(s);
  ngtcp2_conn_set_keep_alive_timeout(s->conn, PU_QUIC_KEEPALIVE_S * NGTCP2_SECONDS);
  int status = events->on_secured(s->config.user, result);
  pu_free(result);
  if (status != 0) {
    end(s, status, "denied by policy");
    return;
  }
  if (!s->closed)
    status = events->on_open(s->config.user);
  if (status != 0)
    end(s, status, "cannot begin multiplexing");
}

static void tell_new_streams(quic_session *s) {
  PU_LIST_EACH(&s->events, node, tmp) {
    quic_stream *st = PU_CONTAINER_OF(node, quic_stream, events);
    if (st->is_new) {
      st->is_new = false;
      st->accepting = true;
    }
  }
  for (bool again = true; again && !s->closed;) {
    again = false;
    PU_LIST_EACH(&s->events, node, tmp) {
      quic_stream *st = PU_CONTAINER_OF(node, quic_stream, events);
      if (!st->accepting)
        continue;
      pu_quic_stream_accept(st);
      again = true; /* the list may have changed */
      break;
    }
  }
}

static void tell_path(quic_session *s) {
  pu_sockaddr remote;
  s->path_due = false;
  pu_quic_from_native(&ngtcp2_conn_get_path(s->conn)->remote, &remote);
  if (pu_sockaddr_equal(&remote, &s->remote))
    return;
  s->remote = remote;
  if (s->config.events->on_path != NULL)
    s->config.events->on_path(s->config.user, &s->local, &s->remote);
}

static void begin_telling(quic_session *s) {
  if (s->handshake_done && !s->open)
    become_open(s);
  if (!s->closed && s->open)
    tell_new_streams(s);
}

static void finish_telling(quic_session *s) {
  if (!s->closed && s->conn_blocked && ngtcp2_conn_get_max_data_left(s->conn) > 0)
    pu_quic_session_unblock(s);
  if (!s->closed)
    pu_quic_look_for_stops(s);
  while (!s->closed && !pu_list_empty(&s->events)) {
    quic_stream *st = PU_CONTAINER_OF(s->events.next, quic_stream, events);
    pu_list_remove(&st->events);
    pu_quic_stream_tell(st);
  }
  if (!s->closed && s->acked) {
    s->acked = false;
    pu_quic_tell_waiters(s);
  }
  if (!s->closed && s->room_due && s->open) {
    s->room_due = false;
    for (uint64_t n = ngtcp2_conn_get_streams_bidi_left(s->conn);
         n > 0 && !s->closed && s->wants_stream; n--) {
      s->wants_stream = false; /* who cannot be served says so again */
      s->config.events->on_room(s->config.user);
    }
  }
  if (!s->closed && s->path_due)
    tell_path(s);
  if (!s->closed && s->fault != 0)
    end(s, s->end_status, s->end_why);
}

void pu_quic_session_unblock(quic_session *s) {
  s->conn_blocked = false;
  PU_LIST_EACH(&s->streams, node, tmp) {
    pu_quic_stream_unblock(PU_CONTAINER_OF(node, quic_stream, link));
  }
}

void pu_quic_session_touch(quic_session *s) {
  if (!s->closed && pu_list_empty(&s->touch))
    pu_list_push(&s->quic->touched, &s->touch);
}

void pu_quic_begin_batch(pu_quic *q) {
  if (q->batching++ == 0)
    q->batch_ns = pu_quic_now(q);
}

/* settle tells the users of all touched sessions; what they touch by it is touched again. */
static void settle(pu_quic *q) {
  pu_list told;
  pu_list_init(&told);
  while (!pu_list_empty(&q->touched)) {
    quic_session *s = PU_CONTAINER_OF(q->touched.next, quic_session, touch);
    pu_list_remove(&s->touch);
    pu_list_push(&q->settling, &s->touch);
    begin_telling(s);
  }
  pu_quic_deliver(q);
  while (!pu_list_empty(&q->settling)) {
    quic_session *s = PU_CONTAINER_OF(q->settling.next, quic_session, touch);
    pu_list_remove(&s->touch);
    pu_list_push(&told, &s->touch);
    finish_telling(s);
  }
  while (!pu_list_empty(&told)) {
    quic_session *s = PU_CONTAINER_OF(told.next, quic_session, touch);
    pu_list_remove(&s->touch);
    pu_list_push(&q->touched, &s->touch);
  }
}

void pu_quic_make_room(pu_quic *q) {
  if (q->gather_len + QUIC_GATHER_SPARE > QUIC_GATHER_BYTES ||
      q->piece_count + QUIC_PIECES_PER_DATAGRAM > QUIC_PIECES_MAX)
    settle(q);
}

/* write_early sends what waits already, and acknowledges a lot, before users are told: their work
 * then overlaps with the peer's. A few bytes wait for the answer that may go in the same packet. */
static void write_early(pu_quic *q) {
  PU_LIST_EACH(&q->touched, node, tmp) {
    quic_session *s = PU_CONTAINER_OF(node, quic_session, touch);
    s->early = s->open && (q->gather_len >= EARLY_BYTES || !pu_list_empty(&s->sending));
    if (s->early)
      pu_quic_session_write(s);
  }
}

void pu_quic_end_batch(pu_quic *q) {
  if (q->batching == 1) {
    write_early(q);
    settle(q);
    while (!pu_list_empty(&q->touched)) {
      quic_session *s = PU_CONTAINER_OF(q->touched.next, quic_session, touch);
      pu_list_remove(&s->touch);
      if (!s->early || s->dirty || s->fault != 0)
        pu_quic_session_write(s);
      s->early = false;
    }
  }
  q->batching--;
}
