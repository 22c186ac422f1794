/* One yamux stream (wire 9): windows, the queue of what its reader did not take, half-close and
 * reset. yamux.c parses frames and calls yamux_on_*; the swarm calls the rest.
 *
 *   live --peer's RST, session's end--> on_reset --> dead
 *   live --reset--> dead
 *   live --close, the peer's FIN was here--> dead
 *   live --close--> lingering --FIN, RST, too much data, time, too many others--> dead */
#include <string.h>

#include "mux/yamux_priv.h"
#include "peerup/error.h"
#include "platform/assert.h"

/* A window is doubled when half of it was used up within so many round trips. */
#define GROWTH_ROUND_TRIPS 4

/* send_update sends a window update, which also carries the stream's flags. */
static bool send_update(pu_yamux_stream *s, uint16_t flags, uint32_t delta) {
  flags |= s->pending;
  s->pending = 0;
  return yamux_send(s->y, YAMUX_WINDOW_UPDATE, flags, s->id, delta, NULL);
}

static void send_rst(pu_yamux_stream *s, uint32_t code) {
  (void)yamux_send(s->y, YAMUX_WINDOW_UPDATE, YAMUX_RST, s->id, code, NULL);
}

/* ---- receiving ---- */

/* grow doubles the window of a stream whose reader is fast and whose peer is far away. The time is
 * only known inside a read: a window that was given back late, by resume, is large enough anyway.
 */
static void grow(pu_yamux_stream *s) {
  pu_yamux *y = s->y;
  if (!y->reading || y->rtt_us == 0 || s->pending != 0 ||
      y->now_us - s->epoch_us >= GROWTH_ROUND_TRIPS * y->rtt_us)
    return;
  uint32_t wider = s->recv_window > y->window_max / 2 ? y->window_max : s->recv_window * 2;
  if (wider <= s->recv_window || wider - s->recv_window > y->config.window_budget - y->grown)
    return;
  y->grown += wider - s->recv_window;
  s->recv_window = wider;
  s->queue.max = wider;
}

/* credit gives bytes that were taken back to the peer, once they are half of the window. */
static void credit(pu_yamux_stream *s) {
  if (s->dead || s->closed || s->fin_received)
    return;
  uint32_t held = s->recv_left + (uint32_t)s->queue.len;
  if (s->recv_window - held < s->recv_window / 2)
    return;
  grow(s);
  uint32_t delta = s->recv_window - held;
  s->recv_left += delta;
  s->epoch_us = s->y->now_us;
  (void)send_update(s, 0, delta);
}

static void tell_eof(pu_yamux_stream *s) {
  if (s->dead || s->closed || !s->fin_received || s->eof_told || s->queue.len > 0 || s->delivering)
    return;
  s->eof_told = true;
  s->y->config.callbacks->on_eof(s->user);
}

/* offer gives |data| to the reader and returns how much it took; -1 when the stream is nobody's any
 * more. */
static ssize_t offer(pu_yamux_stream *s, pu_span data) {
  s->again = false;
  s->delivering = true;
  size_t taken = s->y->config.callbacks->on_data(s->user, data);
  s->delivering = false;
  PU_ASSERT(taken <= data.len);
  if (!s->dead && !s->closed)
    return (ssize_t)taken;
  pu_fifo_clear(&s->queue);
  return -1;
}

/* offer_queue offers what waits, for as long as the reader takes all of it. */
static void offer_queue(pu_yamux_stream *s) {
  pu_iov front;
  while (pu_fifo_peek(&s->queue, &front, 1) == 1) {
    ssize_t taken = offer(s, pu_span_of(front.base, front.len));
    if (taken < 0)
      return;
    pu_fifo_drop(&s->queue, (size_t)taken);
    if ((size_t)taken < front.len && !s->again)
      break;
  }
  credit(s);
  tell_eof(s);
}

void yamux_on_payload(pu_yamux_stream *s, pu_span data) {
  s->recv_left -= (uint32_t)data.len;
  if (s->closed) {
    s->dropped += (uint32_t)data.len;
    if (s->dropped > PU_YAMUX_LINGER_BYTES) {
      yamux_forget(s);
      if (yamux_answer_counts(s->y))
        send_rst(s, 0);
    }
    return;
  }
  bool offered = s->queue.len == 0;
  if (offered) {
    ssize_t taken = offer(s, data);
    if (taken < 0)
      return;
    pu_span_drop(&data, (size_t)taken);
  }
  int rc = pu_fifo_push(&s->queue, data.data, data.len);
  if (rc != 0) {
    /* Only this stream pays for the lack of memory. */
    yamux_forget(s);
    send_rst(s, YAMUX_CODE_RESOURCE_LIMIT);
    s->y->config.callbacks->on_reset(s->user, rc, YAMUX_CODE_RESOURCE_LIMIT);
    return;
  }
  if (offered && s->again)
    offer_queue(s);
  else
    credit(s);
}

void yamux_on_fin(pu_yamux_stream *s) {
  s->fin_received = true;
  if (s->closed)
    yamux_forget(s);
  else
    tell_eof(s);
}

void yamux_on_credit(pu_yamux_stream *s, uint32_t delta) {
  s->send_window += delta; /* of 32 bits, as the peer's count is */
  if (!s->want || s->send_window == 0)
    return;
  pu_yamux *y = s->y;
  if (y->blocked || y->draining) {
    if (pu_list_empty(&s->wait))
      pu_list_push(&y->waiting, &s->wait);
    return;
  }
  s->want = false;
  pu_list_remove(&s->wait);
  y->config.callbacks->on_writable(s->user);
}

void yamux_on_ack(pu_yamux_stream *s) {
  pu_yamux *y = s->y;
  if (!s->ours || s->acked)
    return;
  s->acked = true;
  y->unacked--;
  y->full_said = false; /* who cannot be served now says so again */
  if (y->config.callbacks->on_acked != NULL)
    y->config.callbacks->on_acked(y->config.user, s->closed ? NULL : s->user);
}

void yamux_on_rst(pu_yamux_stream *s, uint32_t code) {
  if (s->fin_sent && s->fin_received && !s->closed)
    return; /* both directions had ended: what waits in the queue is whole */
  bool told = s->closed;
  yamux_forget(s);
  if (!told)
    s->y->config.callbacks->on_reset(s->user, PU_E_RESET, code);
}

/* ---- sending ---- */

int pu_yamux_open(pu_yamux *y, void *stream_user, pu_yamux_stream **out) {
  if (y->status != 0 || y->away)
    return PU_E_CLOSED;
  if (y->unacked >= PU_YAMUX_MAX_UNACKED || y->next_id > UINT32_MAX) {
    y->full_said = y->next_id <= UINT32_MAX;
    return PU_E_NO_STREAMS;
  }
  pu_yamux_stream *s = yamux_stream_new(y, (uint32_t)y->next_id, true, stream_user);
  if (s == NULL)
    return PU_E_NOMEM;
  y->next_id += 2;
  *out = s;
  return 0;
}

void pu_yamux_stream_set_user(pu_yamux_stream *s, void *stream_user) {
  s->user = stream_user;
}

void *pu_yamux_stream_user(const pu_yamux_stream *s) {
  return s->user;
}

uint32_t pu_yamux_stream_id(const pu_yamux_stream *s) {
  return s->id;
}

static bool may_write(const pu_yamux_stream *s) {
  return !s->dead && !s->closed && !s->fin_sent && s->y->status == 0;
}

size_t pu_yamux_stream_space(const pu_yamux_stream *s) {
  return may_write(s) && !s->y->blocked && !s->y->in_output ? s->send_window : 0;
}

/* send_data sends one frame with at most |n| bytes from the front of |io|, and drops them from it: they
 * are head room of the next frame, unless |io| came without and is only read. Returns 0, or why the
 * session ended. */
static int send_data(pu_yamux_stream *s, pu_span *io, size_t n) {
  pu_yamux *y = s->y;
  uint8_t few[PU_SPAN_HEAD + PU_YAMUX_FEW_BYTES + PU_SPAN_TAIL];
  uint8_t *room = NULL;
  if (io->head < PU_YAMUX_HEADER) {
    room = n <= PU_YAMUX_FEW_BYTES ? few : yamux_scratch(y);
    size_t most = PU_YAMUX_SCRATCH_PAYLOAD;
    if (room == NULL || room == few) { /* without memory: in many small frames */
      room = few;
      most = PU_YAMUX_FEW_BYTES;
    }
    n = n < most ? n : most;
  }
  pu_span payload = {.data = io->data, .len = n, .head = io->head};
  if (n == io->len)
    payload.tail = io->tail;
  if (room != NULL) {
    memcpy(room + PU_SPAN_HEAD, io->data, n);
    payload = (pu_span){
        .data = room + PU_SPAN_HEAD, .len = n, .head = PU_SPAN_HEAD, .tail = PU_SPAN_TAIL};
  }
  uint8_t flags = s->pending;
  s->pending = 0;
  s->send_window -= (uint32_t)n;
  pu_span_drop(io, n);
  if (room != NULL)
    io->head = 0;
  return yamux_send(y, YAMUX_DATA, flags, s->id, (uint32_t)n, &payload) ? 0 : y->status;
}

/* on_writable is due by the window's update, or by the session's unblocking. */
void pu_yamux_stream_wait(pu_yamux_stream *s) {
  s->want = true;
  if (s->send_window > 0 && pu_list_empty(&s->wait))
    pu_list_push(&s->y->waiting, &s->wait);
}

ssize_t pu_yamux_stream_write(pu_yamux_stream *s, pu_span io) {
  if (!may_write(s))
    return PU_E_CLOSED;
  if (io.len == 0)
    return 0;
  pu_yamux *y = s->y;
  size_t len = io.len;
  int rc = 0;
  yamux_enter(y);
  while (rc == 0 && io.len > 0) {
    size_t n = io.len < y->config.max_payload ? io.len : y->config.max_payload;
    size_t space = pu_yamux_stream_space(s);
    n = n < space ? n : space;
    if (n == 0)
      break;
    rc = send_data(s, &io, n);
  }
  if (rc == 0 && io.len > 0) {
    pu_yamux_stream_wait(s);
  } else {
    s->want = false;
    pu_list_remove(&s->wait);
  }
  yamux_leave(y);
  return rc == 0 ? (ssize_t)(len - io.len) : rc;
}

int pu_yamux_stream_write_now(pu_yamux_stream *s, pu_span io) {
  pu_yamux *y = s->y;
  int rc = 0;
  if (!may_write(s) || y->in_output)
    return PU_E_CLOSED;
  if (io.len > s->send_window)
    return PU_E_LIMIT;
  yamux_enter(y);
  while (rc == 0 && io.len > 0)
    rc = send_data(s, &io, io.len < y->config.max_payload ? io.len : y->config.max_payload);
  yamux_leave(y);
  return rc;
}

int pu_yamux_stream_flush(pu_yamux_stream *s) {
  if (s->dead || s->closed)
    return PU_E_CLOSED;
  if (s->pending == 0)
    return 0;
  pu_yamux *y = s->y;
  yamux_enter(y);
  int rc = send_update(s, 0, 0) ? 0 : y->status;
  yamux_leave(y);
  return rc;
}

/* ---- the reader's and the user's side of the end ---- */

void pu_yamux_stream_resume(pu_yamux_stream *s) {
  if (s->dead || s->closed)
    return;
  if (s->delivering) {
    s->again = true;
    return;
  }
  pu_yamux *y = s->y;
  yamux_enter(y);
  offer_queue(s);
  yamux_leave(y);
}

size_t pu_yamux_stream_queued(const pu_yamux_stream *s) {
  return s->queue.len;
}

int pu_yamux_stream_close_write(pu_yamux_stream *s) {
  if (s->dead || s->closed)
    return PU_E_CLOSED;
  if (s->fin_sent)
    return 0;
  pu_yamux *y = s->y;
  s->fin_sent = true;
  s->want = false;
  pu_list_remove(&s->wait);
  yamux_enter(y);
  int rc = send_update(s, YAMUX_FIN, 0) ? 0 : y->status;
  yamux_leave(y);
  return rc;
}

void pu_yamux_stream_reset(pu_yamux_stream *s, uint32_t code) {
  if (s->dead || s->closed)
    return;
  pu_yamux *y = s->y;
  yamux_enter(y);
  bool unheard = (s->pending & YAMUX_SYN) != 0; /* the peer never learned of it */
  yamux_forget(s);
  if (!unheard)
    send_rst(s, code);
  yamux_leave(y);
}

void pu_yamux_stream_close(pu_yamux_stream *s) {
  if (s->dead || s->closed)
    return;
  pu_yamux *y = s->y;
  yamux_enter(y);
  bool unheard = (s->pending & YAMUX_SYN) != 0;
  bool fin = !s->fin_sent && !unheard;
  s->fin_sent = true;
  if (!s->delivering) /* its reader may still look at what it was offered */
    pu_fifo_clear(&s->queue);
  if (s->fin_received || unheard || y->status != 0)
    yamux_forget(s);
  else
    yamux_linger(s);
  if (fin)
    (void)send_update(s, YAMUX_FIN, 0);
  yamux_leave(y);
}
