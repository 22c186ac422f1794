/* Streams of a QUIC connection, and the connection as the swarm sees it (session.h).
 *
 * What is sent is copied once, into chunks that live until it is acknowledged. What arrives is
 * gathered from the packets of a batch, so that the user gets one piece and not fifty; only what he
 * does not take waits in the stream's queue, which the window bounds, since the window opens only
 * for what was taken. */
#include <string.h>

#include "platform/assert.h"
#include "transport/quic_priv.h"

#define CHUNK_MIN_BYTES 512u
#define CHUNK_MAX_BYTES 65536u
#define PIECE_BYTES                                                             \
  65504u /* of one write, so that four fit the engine's scratch with their room \
          */
#define ROOM_MIN_BYTES                                                                          \
  16384u                     /* less room than this is none: writers come back for more at once \
                              */
#define STARVED_BYTES 16384u /* what a stream without bytes under way may always queue */
#define CODE_REFUSED 0x1002u

/* ---- life ---- */

quic_stream *pu_quic_stream_new(quic_session *s, int64_t id, void *user) {
  quic_stream *st = pu_zalloc(s->config.mem, sizeof *st);
  if (st == NULL)
    return NULL;
  st->session = s;
  st->id = id;
  st->user = user;
  st->attached = user != NULL;
  st->window = PU_QUIC_STREAM_WINDOW;
  pu_list_init(&st->sending);
  pu_list_init(&st->events);
  pu_list_init(&st->waiting);
  pu_fifo_init(&st->rx, s->config.mem, PU_QUIC_WINDOW_MAX);
  pu_list_push(&s->streams, &st->link);
  return st;
}

/* grown doubles a stream's window when half of it was taken within two round trips: then the
 * window, not the path or the reader, is what holds the peer back. Returns by how much. */
static uint64_t grown(quic_stream *st, size_t taken) {
  quic_session *s = st->session;
  st->taken += taken;
  if (st->taken < st->window / 2)
    return 0;
  const uint64_t now = pu_quic_now(s->quic);
  const bool fast = st->window_ns != 0 && now - st->window_ns < 2 * s->rtt_ns;
  st->window_ns = now;
  st->taken = 0;
  if (!fast || st->window >= s->window_max)
    return 0;
  const uint64_t more =
      st->window < s->window_max - st->window ? st->window : s->window_max - st->window;
  st->window += more;
  return more;
}

/* release opens the connection's window for what has arrived, taken or not: a stream whose reader
 * is slow is held back by its own window and must not hold others. Only what waits for all readers
 * together has a bound. */
static void release(quic_session *s) {
  if (s->owed == 0 || s->unread >= s->window_max)
    return;
  ngtcp2_conn_extend_max_offset(s->conn, s->owed);
  s->owed = 0;
}

/* credit opens the stream's window again for bytes that somebody has taken or that nobody will. */
static void credit(quic_stream *st, size_t len) {
  quic_session *s = st->session;
  if (len == 0 || s->conn == NULL || s->closed)
    return;
  if (!st->over && !st->fin_seen)
    (void)ngtcp2_conn_extend_max_stream_offset(s->conn, st->id, len + grown(st, len));
  s->unread -= len;
  release(s);
  pu_quic_session_dirty(s);
}

/* forget_bytes drops what has arrived and was not taken. */
static void forget_bytes(quic_stream *st) {
  pu_quic *q = st->session->quic;
  size_t lost = st->rx.len;
  for (size_t i = 0; i < q->piece_count; i++) {
    if (q->pieces[i].stream != st)
      continue;
    q->pieces[i].stream = NULL;
    lost += q->pieces[i].len;
  }
  pu_fifo_clear(&st->rx);
  credit(st, lost);
}

static void free_chunks(quic_stream *st) {
  for (quic_chunk *c = st->first, *next; c != NULL; c = next) {
    next = c->next;
    st->session->queued_bytes -= c->len;
    pu_free(c);
  }
  st->first = st->last = st->cursor = NULL;
}

void pu_quic_stream_free(quic_stream *st) {
  if (!st->dead) {
    st->dead = true;
    st->attached = false;
    forget_bytes(st);
    pu_list_remove(&st->link);
    pu_list_remove(&st->sending);
    pu_list_remove(&st->events);
    pu_list_remove(&st->waiting);
    free_chunks(st);
  }
  if (st->busy == 0)
    pu_free(st);
}

static void enter(quic_stream *st) {
  st->busy++;
}

/* leave returns false when the stream is gone. */
static bool leave(quic_stream *st) {
  if (--st->busy > 0 || !st->dead)
    return !st->dead;
  pu_free(st);
  return false;
}

/* detach ends the stream for its user; QUIC may still have to send the rest. */
static void detach(quic_stream *st) {
  st->attached = false;
  st->user = NULL;
  pu_list_remove(&st->waiting);
  pu_list_remove(&st->events);
  forget_bytes(st);
}

/* ---- sending ---- */

static void want_to_send(quic_stream *st) {
  if (pu_list_empty(&st->sending) && !st->blocked && !st->stopped && !st->over && !st->local_reset)
    pu_list_push(&st->session->sending, &st->sending);
  pu_quic_session_dirty(st->session);
}

void pu_quic_stream_unblock(quic_stream *st) {
  if (!st->blocked)
    return;
  st->blocked = false;
  pu_list_remove(&st->sending);
  want_to_send(st);
}

void pu_quic_stream_block(quic_stream *st) {
  quic_session *s = st->session;
  st->blocked = true;
  s->conn_blocked = s->conn_blocked || ngtcp2_conn_get_max_data_left(s->conn) == 0;
  pu_list_remove(&st->sending);
  pu_list_push(&s->stuck, &st->sending);
}

void pu_quic_stream_stopped(quic_stream *st) {
  st->stopped = true;
  pu_list_remove(&st->sending);
  st->session->acked = true; /* whoever waits for room learns it */
  pu_quic_session_touch(st->session);
}

void pu_quic_look_for_stops(quic_session *s) {
  for (unsigned looks = 0; looks < QUIC_STOP_LOOKS && !pu_list_empty(&s->stuck); looks++) {
    quic_stream *st = PU_CONTAINER_OF(s->stuck.next, quic_stream, sending);
    pu_list_remove(&st->sending);
    if (pu_ngtcp2_is_stopped(s->conn, st->id))
      pu_quic_stream_stopped(st);
    else
      pu_list_push(&s->stuck, &st->sending);
  }
}

static void want_room(quic_stream *st) {
  if (pu_list_empty(&st->waiting))
    pu_list_push(&st->session->waiters, &st->waiting);
}

static size_t room_of(const quic_session *s, const quic_stream *st) {
  const uint64_t used = st->end_at - st->first_at;
  if (!st->attached || st->fin_wanted || st->useless || s->closed)
    return 0;
  if (st->stopped || st->over)
    return STARVED_BYTES; /* the next write tells */
  if (used == 0 && s->queued_bytes >= 2 * s->send_limit)
    return STARVED_BYTES;
  if (used >= s->send_limit || s->queued_bytes >= 2 * s->send_limit)
    return 0;
  const uint64_t room = s->send_limit - used;
  return room >= ROOM_MIN_BYTES ? (size_t)room : 0;
}

/* append copies to the end of the send queue; returns how many bytes there was memory for. */
static size_t append(quic_stream *st, const uint8_t *data, size_t len) {
  quic_session *s = st->session;
  size_t done = 0;
  while (done < len) {
    quic_chunk *c = st->last;
    if (c == NULL || c->len == c->cap) {
      size_t cap = len - done < CHUNK_MAX_BYTES ? len - done : CHUNK_MAX_BYTES;
      if (cap < CHUNK_MIN_BYTES)
        cap = CHUNK_MIN_BYTES;
      c = pu_alloc(s->config.mem, sizeof *c + cap);
      if (c == NULL)
        break;
      c->next = NULL;
      c->len = 0;
      c->cap = (uint32_t)cap;
      if (st->last != NULL)
        st->last->next = c;
      else
        st->first = c;
      st->last = c;
    }
    const size_t n = len - done < c->cap - c->len ? len - done : c->cap - c->len;
    memcpy(c->bytes + c->len, data + done, n);
    c->len += (uint32_t)n;
    done += n;
  }
  st->end_at += done;
  s->queued_bytes += done;
  return done;
}

size_t pu_quic_stream_vec(const quic_stream *st, ngtcp2_vec *vec, size_t max, bool *tail) {
  quic_chunk *c = st->cursor != NULL ? st->cursor : st->first;
  uint64_t at = st->cursor != NULL ? st->cursor_at : st->first_at;
  uint64_t from = st->sent_at;
  size_t count = 0;
  for (; c != NULL && count < max; at += c->len, c = c->next) {
    if (from >= at + c->len)
      continue;
    vec[count].base = c->bytes + (from - at);
    vec[count].len = (size_t)(at + c->len - from);
    from += vec[count++].len;
  }
  *tail = from == st->end_at;
  return count;
}

void pu_quic_stream_sent(quic_stream *st, size_t len, bool fin) {
  st->sent_at += len;
  if (st->cursor == NULL) {
    st->cursor = st->first;
    st->cursor_at = st->first_at;
  }
  while (st->cursor != NULL && st->cursor->next != NULL &&
         st->sent_at >= st->cursor_at + st->cursor->len) {
    st->cursor_at += st->cursor->len;
    st->cursor = st->cursor->next;
  }
  if (st->sent_at < st->end_at)
    return;
  st->fin_sent = st->fin_sent || fin;
  if (!st->fin_wanted || st->fin_sent)
    pu_list_remove(&st->sending);
}

void pu_quic_stream_acked(quic_stream *st, uint64_t upto) {
  while (st->first != NULL && st->first_at + st->first->len <= upto) {
    quic_chunk *c = st->first;
    if (st->cursor == c)
      st->cursor = NULL;
    st->first = c->next;
    if (st->last == c)
      st->last = NULL;
    st->first_at += c->len;
    st->session->queued_bytes -= c->len;
    pu_free(c);
  }
  st->session->acked = true;
  pu_quic_session_touch(st->session);
}

/* ---- arriving ---- */

void pu_quic_stream_due(quic_stream *st) {
  if (pu_list_empty(&st->events))
    pu_list_push(&st->session->events, &st->events);
  pu_quic_session_touch(st->session);
}

static void queue(quic_stream *st, const uint8_t *data, size_t len) {
  if (pu_fifo_push(&st->rx, data, len) == 0)
    return;
  st->nomem = true;
  credit(st, len);
  pu_quic_stream_due(st);
}

/* spill moves what is gathered of a stream to its queue: a gap that closes can free a whole window.
 */
static void spill(quic_stream *st) {
  pu_quic *q = st->session->quic;
  for (size_t i = 0; i < q->piece_count; i++) {
    const quic_piece piece = q->pieces[i];
    if (piece.stream != st)
      continue;
    q->pieces[i].stream = NULL;
    queue(st, q->gather + PU_SPAN_HEAD + piece.at, piece.len);
  }
  st->spilled = true;
  pu_quic_stream_due(st);
}

/* gather puts bytes behind those of the same stream, or begins a piece; false when there is no
 * room. */
static bool gather(quic_stream *st, const uint8_t *data, size_t len) {
  pu_quic *q = st->session->quic;
  quic_piece *last = q->piece_count > 0 ? &q->pieces[q->piece_count - 1] : NULL;
  if (q->gather_len + len + PU_SPAN_HEAD + PU_SPAN_TAIL > QUIC_GATHER_BYTES ||
      q->piece_count == QUIC_PIECES_MAX)
    return false;
  if (last == NULL || last->stream != st) {
    if (last != NULL && q->piece_count < QUIC_ROOMY_PIECES)
      q->gather_len += PU_SPAN_TAIL + PU_SPAN_HEAD;
    last = &q->pieces[q->piece_count++];
    *last = (quic_piece){.stream = st, .at = (uint32_t)q->gather_len};
  }
  memcpy(q->gather + PU_SPAN_HEAD + q->gather_len, data, len);
  last->len += (uint32_t)len;
  q->gather_len += len;
  return true;
}

void pu_quic_stream_arrived(quic_stream *st, const uint8_t *data, size_t len, bool fin) {
  if (fin) {
    st->fin_seen = true;
    pu_quic_stream_due(st);
  }
  if (len == 0)
    return;
  st->session->unread += len;
  st->session->owed += len;
  release(st->session);
  if ((!st->attached && !st->is_new) || st->nomem) /* a hole is not jumped over */
    credit(st, len);
  else if (st->rx.len > 0)
    queue(st, data, len);
  else if (!gather(st, data, len)) {
    spill(st);
    queue(st, data, len);
  }
  pu_quic_session_touch(st->session);
}

/* offer gives a piece to the user and keeps what he leaves. */
static void offer(quic_stream *st, pu_span io) {
  const size_t len = io.len;
  enter(st);
  const size_t taken = st->session->config.events->on_data(st->user, io);
  PU_ASSERT(taken <= len);
  if (!leave(st))
    return;            /* freed: all of it is credited */
  if (!st->attached) { /* he has left by the way */
    credit(st, len);
    return;
  }
  credit(st, taken);
  if (taken < len)
    queue(st, io.data + taken, len - taken);
}

void pu_quic_deliver(pu_quic *q) {
  for (size_t i = 0; i < q->piece_count; i++) {
    const quic_piece piece = q->pieces[i];
    quic_stream *st = piece.stream;
    q->pieces[i].stream = NULL; /* from here on it is not ours to credit */
    if (st == NULL)
      continue;
    const bool last = i + 1 == q->piece_count;
    const bool roomy = i + 1 < QUIC_ROOMY_PIECES;
    const pu_span io = {q->gather + PU_SPAN_HEAD + piece.at, piece.len,
                        i < QUIC_ROOMY_PIECES ? PU_SPAN_HEAD : 0, last || roomy ? PU_SPAN_TAIL : 0};
    if (!st->attached || st->nomem)
      credit(st, piece.len);
    else if (st->rx.len > 0)
      queue(st, io.data, io.len);
    else
      offer(st, io);
  }
  q->piece_count = 0;
  q->gather_len = 0;
}

/* ---- telling ---- */

void pu_quic_stream_accept(quic_stream *st) {
  quic_session *s = st->session;
  uint32_t code = CODE_REFUSED;
  st->accepting = false;
  st->attached = true; /* so that its bytes wait for the answer */
  enter(st);
  const int status = s->config.events->on_stream(s->config.user, (pu_session_stream *)st, &code);
  if (!leave(st) || status == 0 || s->closed)
    return;
  s->base.ops->reset(&s->base, (pu_session_stream *)st, code);
}

static void resume(pu_session *base, pu_session_stream *stream);

static void tell_eof(quic_stream *st) {
  if (!st->fin_seen || st->eof_told || st->rx.len > 0)
    return;
  st->eof_told = true;
  st->session->config.events->on_eof(st->user);
}

/* tell_end ends the stream for the user: it was reset, or there was no memory for its bytes. */
static void tell_end(quic_stream *st) {
  quic_session *s = st->session;
  void *user = st->user;
  const int status = st->nomem ? PU_E_NOMEM : PU_E_RESET;
  const uint32_t code = st->reset_seen ? (uint32_t)st->reset_code : 0;
  detach(st);
  pu_list_remove(&st->sending);
  st->local_reset = true;
  if (!st->over)
    (void)pu_ngtcp2_shutdown_stream(s->conn, st->id, st->nomem ? CODE_REFUSED : 0);
  s->config.events->on_reset(user, status, code);
}

void pu_quic_stream_tell(quic_stream *st) {
  quic_session *s = st->session;
  enter(st);
  if (st->attached && (st->reset_seen || st->nomem || st->useless))
    tell_end(st);
  if (st->attached && st->spilled && !s->closed) {
    st->spilled = false;
    resume(&s->base, (pu_session_stream *)st);
  }
  if (st->attached && !s->closed)
    tell_eof(st);
  if (leave(st) && st->over && !st->attached)
    pu_quic_stream_free(st);
}

void pu_quic_tell_waiters(quic_session *s) {
  pu_list asked;
  pu_list_init(&asked);
  while (!pu_list_empty(&s->waiters)) {
    pu_list *node = s->waiters.next;
    pu_list_remove(node);
    pu_list_push(&asked, node);
  }
  while (!s->closed && !pu_list_empty(&asked)) {
    quic_stream *st = PU_CONTAINER_OF(asked.next, quic_stream, waiting);
    pu_list_remove(&st->waiting);
    if (room_of(s, st) == 0) {
      want_room(st);
      continue;
    }
    enter(st);
    s->config.events->on_writable(st->user);
    (void)leave(st);
  }
}

/* ---- the session's functions: the session ---- */

static quic_session *session_of(pu_session *base) {
  return (quic_session *)base;
}

static void info(const pu_session *base, pu_session_info *out) {
  const quic_session *s = (const quic_session *)base;
  *out = (pu_session_info){.bytes_in = s->bytes_in, .bytes_out = s->bytes_out};
  if (!s->handshake_done)
    return;
  out->security = "tls";
  out->muxer = "quic";
  if (s->conn != NULL) {
    ngtcp2_conn_info i;
    ngtcp2_conn_get_conn_info(s->conn, &i);
    out->rtt_us = i.smoothed_rtt / 1000;
  }
}

static void cork(pu_session *base) {
  session_of(base)->corks++;
}

static void uncork(pu_session *base) {
  quic_session *s = session_of(base);
  PU_ASSERT(s->corks > 0);
  if (--s->corks == 0 && s->dirty && !s->closed)
    pu_quic_session_dirty(s);
}

static void give_back(pu_session *base) {
  (void)base; /* nothing is borrowed: what is written is copied */
}

static uint64_t unsent(const pu_session *base) {
  const quic_session *s = (const quic_session *)base;
  return s->queued_bytes + !pu_list_empty(&s->sending);
}

/* tell_rest offers what a stream's user has not taken. */
static void tell_rest(quic_stream *st) {
  quic_session *s = st->session;
  const size_t had = st->rx.len;
  if (had == 0 || st->offering || st->nomem || st->reset_seen || s->config.events->on_rest == NULL)
    return;
  s->config.events->on_rest(st->user, &st->rx, st->fin_seen);
  credit(st, had - st->rx.len);
}

static void fail(pu_session *base, int status) {
  quic_session *s = session_of(base);
  for (bool again = true; again;) {
    again = false;
    PU_LIST_EACH(&s->streams, node, tmp) {
      quic_stream *st = PU_CONTAINER_OF(node, quic_stream, link);
      void *user = st->user;
      if (!st->attached)
        continue;
      if (user != NULL)
        tell_rest(st);
      detach(st);
      if (user != NULL)
        s->config.events->on_reset(user, status, 0);
      again = true; /* others may have ended with it */
      break;
    }
  }
}

static void free_session(pu_session *base) {
  PU_ASSERT(session_of(base)->closed);
  pu_free(base);
}

static size_t chunk(const pu_session *base) {
  (void)base;
  return PIECE_BYTES;
}

/* ---- the session's functions: streams ---- */

static int open_stream(pu_session *base, void *user, pu_session_stream **out) {
  quic_session *s = session_of(base);
  if (s->closed || !s->open || s->fault != 0)
    return PU_E_CLOSED;
  quic_stream *st = pu_quic_stream_new(s, -1, user);
  if (st == NULL)
    return PU_E_NOMEM;
  const int status = ngtcp2_conn_open_bidi_stream(s->conn, &st->id, st);
  if (status == 0) {
    st->attached = true;
    *out = (pu_session_stream *)st;
    return 0;
  }
  st->over = true;
  pu_quic_stream_free(st);
  s->wants_stream = s->wants_stream || status == NGTCP2_ERR_STREAM_ID_BLOCKED;
  return status == NGTCP2_ERR_STREAM_ID_BLOCKED ? PU_E_NO_STREAMS : PU_E_NOMEM;
}

static void set_user(pu_session_stream *base, void *user) {
  quic_stream *st = (quic_stream *)base;
  st->user = user;
}

static size_t space(const pu_session *base, const pu_session_stream *st) {
  return room_of((const quic_session *)base, (const quic_stream *)st);
}

static void wait(pu_session *base, pu_session_stream *stream) {
  quic_stream *st = (quic_stream *)stream;
  (void)base;
  want_room(st);
}

/* soon has the stream's end told, when whoever calls now is done. */
static void soon(quic_stream *st) {
  pu_quic_stream_due(st);
  if (st->session->quic->batching == 0)
    (void)pu_timer_after(&st->session->timer, 0); /* armed before, so this takes no memory */
}

/* swallow takes what a peer that has stopped reading would not: that is no reason to lose what it
 * still sends. When it has sent all, the stream is of no use, and the writer is told. */
static ssize_t swallow(quic_stream *st, size_t len) {
  if (st->eof_told) {
    st->useless = true;
    soon(st);
  }
  return (ssize_t)len;
}

static ssize_t write_some(quic_stream *st, const pu_span *io, size_t room) {
  const size_t want = io->len < room ? io->len : room;
  const size_t taken = append(st, io->data, want);
  if (taken < io->len)
    want_room(st);
  if (taken > 0)
    want_to_send(st);
  else if (want > 0 && st->session->queued_bytes == 0) {
    st->nomem = true; /* no acknowledgement will free any */
    soon(st);
    return PU_E_NOMEM;
  }
  return (ssize_t)taken;
}

static ssize_t write_stream(pu_session *base, pu_session_stream *stream, pu_span io,
                            bool borrowed) {
  quic_stream *st = (quic_stream *)stream;
  (void)borrowed;
  if (session_of(base)->closed || st->fin_wanted)
    return PU_E_CLOSED;
  if (st->stopped || st->over)
    return swallow(st, io.len);
  return write_some(st, &io, room_of(session_of(base), st));
}

/* What goes to a peer that has stopped reading is gone, and that is no reason to lose what it
 * sends. */
static int write_now(pu_session *base, pu_session_stream *stream, pu_span io) {
  quic_stream *st = (quic_stream *)stream;
  if (session_of(base)->closed || st->fin_wanted)
    return PU_E_CLOSED;
  if (st->stopped || st->over)
    return 0;
  if (write_some(st, &io, io.len) == (ssize_t)io.len)
    return 0;
  st->nomem = true; /* a part of it may be on its way, and nobody says the rest */
  soon(st);
  return PU_E_NOMEM;
}

static void resume(pu_session *base, pu_session_stream *stream) {
  quic_session *s = session_of(base);
  quic_stream *st = (quic_stream *)stream;
  if (st->offering) {
    st->offer_again = true;
    return;
  }
  enter(st);
  st->offering = true;
  do {
    st->offer_again = false;
    while (st->attached && st->rx.len > 0 && !st->nomem) {
      pu_iov iov;
      (void)pu_fifo_peek(&st->rx, &iov, 1);
      const size_t taken = s->config.events->on_data(st->user, pu_span_of(iov.base, iov.len));
      if (!st->attached)
        break;
      pu_fifo_drop(&st->rx, taken);
      credit(st, taken);
      if (taken < iov.len)
        break;
    }
  } while (st->attached && st->offer_again);
  st->offering = false;
  if (st->attached && !s->closed)
    tell_eof(st);
  (void)leave(st);
}

static int close_write(pu_session *base, pu_session_stream *stream) {
  quic_stream *st = (quic_stream *)stream;
  if (session_of(base)->closed)
    return PU_E_CLOSED;
  if (st->fin_wanted)
    return 0;
  st->fin_wanted = true;
  want_to_send(st);
  return 0;
}

static void reset(pu_session *base, pu_session_stream *stream, uint32_t code) {
  quic_session *s = session_of(base);
  quic_stream *st = (quic_stream *)stream;
  if (s->closed)
    return;
  detach(st);
  pu_list_remove(&st->sending);
  st->local_reset = true;
  if (st->over) {
    pu_quic_stream_free(st);
    return;
  }
  (void)pu_ngtcp2_shutdown_stream(s->conn, st->id, code); /* may free the stream */
  pu_quic_session_dirty(s);
}

static void close_stream(pu_session *base, pu_session_stream *stream) {
  quic_session *s = session_of(base);
  quic_stream *st = (quic_stream *)stream;
  if (s->closed)
    return;
  detach(st);
  if (st->over) {
    pu_quic_stream_free(st);
    return;
  }
  if (!st->fin_wanted) {
    st->fin_wanted = true;
    want_to_send(st);
  }
  if (!st->fin_seen && !st->reset_seen)
    (void)pu_ngtcp2_shutdown_stream_read(s->conn, st->id, 0); /* may free the stream */
  pu_quic_session_dirty(s);
}

const pu_session_ops pu_quic_session_ops = {
    .info = info,
    .cork = cork,
    .uncork = uncork,
    .flush = give_back,
    .unsent = unsent,
    .fail = fail,
    .close = pu_quic_session_close,
    .free = free_session,
    .chunk = chunk,
    .open = open_stream,
    .set_user = set_user,
    .space = space,
    .wait = wait,
    .write = write_stream,
    .write_now = write_now,
    .resume = resume,
    .close_write = close_write,
    .reset = reset,
    .close_stream = close_stream,
};
