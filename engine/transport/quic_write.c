/* What a QUIC connection sends: packets of equal size gathered into batches that the kernel takes
 * in one call, streams in turn, as much as congestion control and pacing allow (RFC 9002). */
#include "transport/quic_priv.h"

#define BATCH_BYTES 65000u
#define SEND_LIMIT_MIN (512u * 1024)

/* One gathering of packets that go out in one call. */
typedef struct outgoing {
  uint8_t *begin;
  size_t len, segment;
  pu_sockaddr remote;
  uint8_t ecn;
} outgoing;

/* flush sends the batch; false when the socket is full. */
static bool flush(quic_session *s, outgoing *o) {
  const pu_datagrams batch = {.local = s->local,
                              .remote = o->remote,
                              .data = o->begin,
                              .len = o->len,
                              .segment = o->segment,
                              .ecn = o->ecn};
  if (o->len == 0)
    return true;
  s->bytes_out += o->len;
  o->begin += o->len;
  o->len = 0;
  return pu_quic_endpoint_send(s->endpoint, &batch);
}

/* write_one fills one packet at |out|; its length, 0 when nothing may go now, or an error. */
static ngtcp2_ssize write_one(quic_session *s, ngtcp2_path_storage *path, ngtcp2_pkt_info *info,
                              uint8_t *out, size_t cap, uint64_t now_ns) {
  for (;;) {
    ngtcp2_vec vec[4];
    size_t count = 0;
    ngtcp2_ssize taken = -1;
    uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE;
    quic_stream *st = NULL;
    if (!pu_list_empty(&s->sending) && s->handshake_done) {
      st = PU_CONTAINER_OF(s->sending.next, quic_stream, sending);
      bool tail;
      count = pu_quic_stream_vec(st, vec, PU_COUNT(vec), &tail);
      if (st->fin_wanted && tail)
        flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
    }
    const ngtcp2_ssize n =
        ngtcp2_conn_writev_stream(s->conn, &path->path, info, out, cap, &taken, flags,
                                  st != NULL ? st->id : -1, vec, count, now_ns);
    if (st != NULL && taken >= 0)
      pu_quic_stream_sent(st, (size_t)taken, (flags & NGTCP2_WRITE_STREAM_FLAG_FIN) != 0);
    switch (n) {
    case NGTCP2_ERR_WRITE_MORE:
      continue;
    case NGTCP2_ERR_STREAM_DATA_BLOCKED:
      pu_quic_stream_block(st);
      continue;
    case NGTCP2_ERR_STREAM_SHUT_WR: /* so a STOP_SENDING shows: no callback tells of the peer's */
    case NGTCP2_ERR_STREAM_NOT_FOUND:
      pu_quic_stream_stopped(st);
      continue;
    default:
      break;
    }
    if (n > 0 && st != NULL && !pu_list_empty(&st->sending)) { /* others have their turn */
      pu_list_remove(&st->sending);
      pu_list_push(&s->sending, &st->sending);
    }
    return n;
  }
}

static void arm(quic_session *s, ngtcp2_tstamp at) {
  const uint64_t at_us = at == UINT64_MAX ? PU_NEVER : (at + 999) / 1000;
  if (pu_timer_at(&s->timer, at_us) != 0)
    pu_quic_session_failed(s, NGTCP2_ERR_NOMEM);
}

/* write_packets writes what may go now and says in |*wake_ns| when there is something to do again.
 */
static int write_packets(quic_session *s, uint64_t now_ns, ngtcp2_tstamp *wake_ns) {
  uint8_t *const memory = s->quic->tx;
  const size_t quantum = ngtcp2_conn_get_send_quantum(s->conn);
  const size_t most = quantum < BATCH_BYTES ? quantum : BATCH_BYTES;
  outgoing o = {.begin = memory};
  size_t total = 0;
  bool full = false, done = false;
  while (!full && total + QUIC_PACKET_MAX <= 65536u) {
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info = {0};
    pu_sockaddr remote;
    ngtcp2_path_storage_zero(&path);
    const ngtcp2_ssize n = write_one(s, &path, &info, o.begin + o.len, QUIC_PACKET_MAX, now_ns);
    if (n < 0)
      return (int)n;
    done = n == 0;
    if (done)
      break;
    pu_quic_from_native(&path.path.remote, &remote);
    if (o.len > 0 &&
        ((size_t)n > o.segment || info.ecn != o.ecn || !pu_sockaddr_equal(&remote, &o.remote))) {
      full = !flush(s, &o); /* which leaves |o.begin| at this packet */
      if (full) {
        /* It is written and cannot go: as if it was lost on the way. */
        break;
      }
    }
    if (o.len == 0) {
      o.segment = (size_t)n;
      o.remote = remote;
      o.ecn = (uint8_t)info.ecn;
    }
    o.len += (size_t)n;
    total += (size_t)n;
    if ((size_t)n < o.segment || o.len / o.segment >= PU_UDP_SEGMENTS_MAX)
      full = !flush(s, &o);
    if (total >= most)
      break;
  }
  if (!full)
    (void)flush(s, &o);
  const bool said_all = done && pu_list_empty(&s->sending);
  *wake_ns = ngtcp2_conn_get_expiry(s->conn);
  /* Before the first sample of the round trip time 0.12 would pace by a guess of 333 ms. */
  if (s->handshake_done)
    ngtcp2_conn_update_pkt_tx_time(s->conn, now_ns);
  if (!said_all) /* else there is nothing to wake up for when pacing lets more go */
    *wake_ns = ngtcp2_conn_get_expiry(s->conn);
  return 0;
}

/* update_limit lets streams keep so many bytes as the path has under way, and as many that wait. */
static void update_limit(quic_session *s) {
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(s->conn, &info);
  s->rtt_ns = info.smoothed_rtt;
  uint64_t limit = 2 * info.cwnd + SEND_LIMIT_MIN / 2;
  if (limit < SEND_LIMIT_MIN)
    limit = SEND_LIMIT_MIN;
  s->send_limit = limit < s->config.window_budget ? limit : s->config.window_budget;
}

void pu_quic_session_dirty(quic_session *s) {
  s->dirty = true;
  if (s->corks > 0 || s->closed)
    return;
  if (s->quic->batching > 0)
    pu_quic_session_touch(s);
  else
    pu_quic_session_write(s);
}

void pu_quic_session_write(quic_session *s) {
  pu_quic *q = s->quic;
  if (s->closed || s->fault != 0 || s->writing)
    return;
  if (pu_quic_endpoint_is_full(s->endpoint)) {
    if (pu_list_empty(&s->wait))
      pu_list_push(&s->endpoint->waiting, &s->wait);
    return;
  }
  s->writing = true;
  s->dirty = false;
  update_limit(s);
  const uint64_t now_ns = pu_quic_now(q);
  ngtcp2_tstamp wake_ns = 0;
  int status = write_packets(s, now_ns, &wake_ns);
  if (status == 0 && wake_ns <= now_ns && s->handshake_done && pu_list_empty(&s->sending)) {
    /* Due is the pacing of an earlier packet, mostly: that is cheaper here than by the timer. */
    status = ngtcp2_conn_handle_expiry(s->conn, now_ns);
    if (status == 0)
      status = write_packets(s, now_ns, &wake_ns);
  }
  s->writing = false;
  if (status != 0)
    pu_quic_session_failed(s, status);
  else
    arm(s, wake_ns);
  if (s->fault != 0 && pu_timer_at(&s->timer, pu_now_us(s->config.platform)) != 0)
    pu_timer_stop(&s->timer); /* the owner's own deadlines end it then */
}
