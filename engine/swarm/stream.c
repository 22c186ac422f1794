/* Streams: negotiation of their protocol, then bytes between the session and the application. See
 * stream.h and wire 5. Inbound:  negotiate -> policy -> handler. Outbound: negotiate -> callback,
 * or, lazily, callback -> header, offer and first data in one frame -> the answers when they come.
 */
#include "swarm/stream.h"
#include "platform/assert.h"
#include <stdio.h>
#include <string.h>

#define CODE_NEGOTIATION_FAILED 0x1001u
#define CODE_LIMIT 0x1002u
#define CODE_GATED 0x1008u
#define TOKENS_MAX (2u * (PU_MULTISTREAM_MAX_TOKEN + 2))
#define LATE_US 2000u     /* an answer that nobody waits for waits so long for company */
#define COMBINE_MAX 1200u /* first data up to this goes in one frame with the tokens */

/* ops are the functions of the session that |s| is a stream of. */
static const pu_session_ops *ops(const pu_stream *s) {
  return s->conn->session->ops;
}

static void reset_below(pu_stream *s, uint32_t code) {
  if (!s->cut)
    ops(s)->reset(s->conn->session, s->ss, code);
}

static size_t space(const pu_stream *s) {
  return s->cut ? 0 : ops(s)->space(s->conn->session, s->ss);
}

/* ---- life ---- */

static void drop_late(pu_stream *s) {
  pu_free(s->late);
  s->late = NULL;
  s->late_len = 0;
}

static void drop_negotiation(pu_stream *s) {
  pu_free(s->negotiation);
  s->negotiation = NULL;
  s->tokens_due = false;
}

static void free_stream(pu_stream *s) {
  pu_fifo_clear(&s->rest);
  pu_free(s->protocol);
  pu_free(s);
}

/* detach ends the stream for everybody but the session, whose part its caller ends. */
static void detach(pu_stream *s) {
  pu_conn *c = s->conn;
  PU_ASSERT(!s->gone);
  s->gone = true;
  pu_limits_stream_close(&c->engine->limiter, &c->share, &s->share);
  drop_negotiation(s);
  drop_late(s);
  pu_timer_stop(&s->timer);
  pu_list_remove(&s->link);
  c->stream_count--;
  pu_conn_touch(c);
  if (s->cut) {
    c->engine->rest_count--;
    if (c->stream_count == 0) /* without memory for it: when the next connection ends */
      (void)pu_timer_after(&c->engine->reap, 0);
  }
  if (s->busy == 0)
    free_stream(s);
}

static void enter(pu_stream *s) {
  s->busy++;
  pu_conn_enter(s->conn);
}

static void leave(pu_stream *s) {
  pu_conn *c = s->conn;
  if (--s->busy == 0 && s->gone)
    free_stream(s);
  pu_conn_leave(c);
}

void pu_stream_hold(pu_stream *s) {
  enter(s);
}

void pu_stream_unhold(pu_stream *s) {
  leave(s);
}

void pu_stream_reset(pu_stream *s, uint32_t code) {
  pu_conn *c = s->conn;
  if (s->gone)
    return;
  pu_conn_enter(c);
  reset_below(s, code);
  detach(s);
  pu_conn_leave(c);
}

/* fail_stream tells whoever uses the stream that it ended, and frees it. The session's part is
 * gone. */
static void fail_stream(pu_stream *s, int status, uint32_t code) {
  const pu_stream_events *events = s->events;
  pu_open *op = s->op;
  s->busy++;
  if (op != NULL) {
    s->op = NULL;
    pu_open_failed(op, status, code);
  } else if (events != NULL && events->on_end != NULL) {
    events->on_end(s->user, s, status, code);
  }
  if (!s->gone)
    detach(s);
  if (--s->busy == 0)
    free_stream(s);
}

/* give_up resets the stream at the peer and tells its user. */
static void give_up(pu_stream *s, int status, uint32_t code) {
  reset_below(s, code);
  fail_stream(s, status, code);
}

static void on_timer(void *data);

static pu_stream *new_stream(pu_conn *c, bool outbound) {
  pu_stream *s = pu_zalloc(&c->mem, sizeof *s);
  if (s == NULL)
    return NULL;
  s->conn = c;
  s->outbound = outbound;
  pu_timer_init(&s->timer, c->engine->platform, on_timer, s);
  s->negotiation = pu_alloc(&c->mem, sizeof *s->negotiation);
  if (s->negotiation == NULL) {
    pu_free(s);
    return NULL;
  }
  pu_list_push(&c->streams, &s->link);
  c->stream_count++;
  return s;
}

/* ---- what came before the session ended ---- */

/* offer_rest gives a cut stream's reader what waits for it, then the end. */
static void offer_rest(pu_stream *s) {
  pu_iov front;
  if (s->offering) {
    s->offer_again = true;
    return;
  }
  s->busy++;
  s->offering = true;
  while (!s->gone && pu_fifo_peek(&s->rest, &front, 1) == 1) {
    s->offer_again = false;
    const pu_stream_events *events = s->events;
    const size_t taken = events == NULL || events->on_data == NULL
                             ? 0
                             : events->on_data(s->user, s, front.base, front.len, 0, 0);
    PU_ASSERT(taken <= front.len);
    if (!s->gone)
      pu_fifo_drop(&s->rest, taken);
    if (taken < front.len && !s->offer_again)
      break;
  }
  s->offering = false;
  if (!s->gone && s->rest.len == 0) {
    s->eof = s->rest_eof;
    if (s->eof && s->events != NULL && s->events->on_eof != NULL)
      s->events->on_eof(s->user, s);
    if (!s->gone)
      fail_stream(s, s->cut_status, 0);
  }
  if (--s->busy == 0 && s->gone)
    free_stream(s);
}

/* on_rest_time: a reader that has taken nothing for so long takes no more. */
static void on_rest_time(pu_stream *s) {
  if (s->rest.len == s->rest_seen) {
    fail_stream(s, s->cut_status, 0);
    return;
  }
  s->rest_seen = s->rest.len;
  (void)pu_timer_after(&s->timer, PU_STREAM_REST_US); /* its place is there: takes no memory */
}

void pu_stream_on_rest(void *stream, pu_fifo *rest, bool eof) {
  pu_stream *s = stream;
  if (s == NULL || (s->conn->closed && !s->conn->keeps_rests) || s->op != NULL ||
      s->negotiation != NULL || s->events == NULL || s->events->on_data == NULL ||
      s->conn->engine->rest_count >= PU_STREAM_RESTS_MAX ||
      pu_timer_after(&s->timer, PU_STREAM_REST_US) != 0)
    return;
  s->cut = true;
  s->ss = NULL;
  s->rest_eof = eof;
  s->rest_seen = rest->len;
  pu_fifo_move(rest, &s->rest);
  drop_late(s);
  s->conn->engine->rest_count++;
  /* The peer may open others: what this one holds is bounded as memory. */
  pu_limits_stream_close(&s->conn->engine->limiter, &s->conn->share, &s->share);
}

/* ---- writing ---- */

/* tokens takes what the negotiation has to say. */
static size_t tokens(pu_stream *s, uint8_t *out, size_t cap) {
  size_t len = 0;
  for (size_t n; (n = pu_multistream_write(s->negotiation, out + len, cap - len)) > 0;)
    len += n;
  return len;
}

/* tokens_said: those of a lazy stream are on their way; from now on its answers are due. */
static void tokens_said(pu_stream *s) {
  if (!s->tokens_due)
    return;
  s->tokens_due = false;
  /* Armed since the stream was handed out, so this takes no memory. */
  (void)pu_timer_after(&s->timer, s->conn->engine->limits.negotiate_ms * 1000ull);
}

/* say sends what the negotiation has to say and |len| bytes behind it, in one frame. Tokens do not
 * wait behind others' bytes in a full connection: they are short, and negotiating_per_conn bounds
 * them. */
static int say(pu_stream *s, const void *data, size_t len) {
  uint8_t memory[PU_SPAN_HEAD + TOKENS_MAX + PU_STREAM_NOW_MAX + PU_SPAN_TAIL];
  uint8_t *at = memory + PU_SPAN_HEAD;
  PU_ASSERT(len <= PU_STREAM_NOW_MAX);
  size_t said = s->late_len;
  if (said > 0) {
    memcpy(at, s->late, said);
    drop_late(s);
  }
  if (s->negotiation != NULL)
    said += tokens(s, at + said, TOKENS_MAX - said);
  tokens_said(s);
  if (len > 0)
    memcpy(at + said, data, len);
  if (said + len == 0)
    return 0;
  return ops(s)->write_now(s->conn->session, s->ss,
                           (pu_span){at, said + len, PU_SPAN_HEAD, PU_SPAN_TAIL});
}

static int say_tokens(pu_stream *s) {
  return say(s, NULL, 0);
}

static bool tokens_wait(const pu_stream *s) {
  return s->tokens_due || s->late_len > 0;
}

/* answer says what a listener has to say. A dialler that has sent more behind its offer does not
 * wait for it, so the answer may wait for the handler's first bytes and save a frame and a wake-up
 * on each side. */
static int answer(pu_stream *s, bool more) {
  if (s->outbound || !more)
    return say_tokens(s);
  uint8_t memory[TOKENS_MAX];
  const size_t len = tokens(s, memory, TOKENS_MAX - s->late_len);
  uint8_t *late = len == 0 ? NULL : pu_realloc(&s->conn->mem, s->late, s->late_len + len);
  if (late == NULL)
    return len == 0 ? 0 : PU_E_NOMEM;
  memcpy(late + s->late_len, memory, len);
  s->late = late;
  s->late_len += (uint16_t)len;
  /* A refusal does not wait: the next bytes may well be the end of the stream. */
  return pu_multistream_state_of(s->negotiation) == PU_MS_DONE ? 0 : say_tokens(s);
}

/* write_first sends the tokens of a lazy stream, together with its first data if that is short. */
static ssize_t write_first(pu_stream *s, pu_span io) {
  const bool together = io.len <= COMBINE_MAX && space(s) > 0;
  const int status = together ? say(s, io.data, io.len) : say_tokens(s);
  if (status != 0)
    return status;
  return together ? (ssize_t)io.len : ops(s)->write(s->conn->session, s->ss, io, false);
}

static ssize_t write_span(pu_stream *s, pu_span io, bool borrowed) {
  ssize_t n;
  if (s->gone || s->op != NULL)
    return PU_E_CLOSED;
  if (s->cut) /* on_end says it when the reader has all */
    return 0;
  enter(s);
  if (tokens_wait(s))
    n = write_first(s, io);
  else
    n = ops(s)->write(s->conn->session, s->ss, io, borrowed);
  leave(s);
  return n;
}

ssize_t pu_stream_write(pu_stream *s, const void *data, size_t len) {
  /* Without room around it the session copies it; nothing writes to the memory. */
  return write_span(s, pu_span_of((uint8_t *)(uintptr_t)data, len), false);
}

ssize_t pu_stream_write_room(pu_stream *s, uint8_t *data, size_t len, size_t head, size_t tail) {
  return write_span(s, (pu_span){data, len, head, tail}, s->corks > 0);
}

int pu_stream_write_now(pu_stream *s, const void *data, size_t len) {
  if (s->gone || s->op != NULL)
    return PU_E_CLOSED;
  if (s->cut)
    return PU_E_LIMIT;
  enter(s);
  const int status = say(s, data, len);
  leave(s);
  return status;
}

size_t pu_stream_space(pu_stream *s) {
  if (s->gone || s->op != NULL)
    return 0;
  const size_t room = space(s);
  if (room == 0 && !s->cut)
    ops(s)->wait(s->conn->session, s->ss);
  return room;
}

size_t pu_stream_chunk(const pu_stream *s) {
  return ops(s)->chunk(s->conn->session);
}

void pu_stream_cork(pu_stream *s) {
  s->corks++;
  enter(s);
}

void pu_stream_uncork(pu_stream *s) {
  PU_ASSERT(s->corks > 0);
  if (--s->corks == 0) /* the connection may stay corked, the memory is the application's again */
    ops(s)->flush(s->conn->session);
  leave(s);
}

/* ---- application's other calls ---- */

void pu_stream_set_events(pu_stream *s, const pu_stream_events *events, void *user) {
  s->events = events;
  s->user = user;
}

void pu_stream_resume(pu_stream *s) {
  if (s->gone)
    return;
  enter(s);
  if (s->cut)
    offer_rest(s);
  else
    ops(s)->resume(s->conn->session, s->ss);
  leave(s);
}

int pu_stream_close_write(pu_stream *s) {
  int status = 0;
  if (s->gone)
    return PU_E_CLOSED;
  if (s->cut)
    return PU_E_GONE;
  enter(s);
  if (tokens_wait(s))
    status = say_tokens(s);
  if (status == 0 && !s->gone)
    status = ops(s)->close_write(s->conn->session, s->ss);
  leave(s);
  return status;
}

void pu_stream_close(pu_stream *s) {
  pu_conn *c = s->conn;
  if (s->gone)
    return;
  pu_conn_enter(c);
  if (tokens_wait(s))
    (void)say_tokens(s);
  if (!s->gone) {
    if (!s->cut)
      ops(s)->close_stream(s->conn->session, s->ss);
    detach(s);
  }
  pu_conn_leave(c);
}

pu_conn *pu_stream_conn(const pu_stream *s) {
  return s->conn;
}

const char *pu_stream_protocol(const pu_stream *s) {
  return s->protocol != NULL ? s->protocol : "";
}

bool pu_stream_is_outbound(const pu_stream *s) {
  return s->outbound;
}

/* ---- inbound ---- */

static const char *match_handler(void *data, const char *offer, size_t len) {
  const pu_stream *s = data;
  const pu_handler *h = pu_engine_find_handler(s->conn->engine, offer, len);
  return h != NULL ? h->id : NULL;
}

static int ask_stream(pu_stream *s) {
  const pu_question question = {.ask = PU_ASK_STREAM,
                                .peer = &s->conn->peer,
                                .protocol = s->protocol,
                                .addr = s->conn->addr,
                                .relayed = s->conn->info.relayed};
  return pu_policy_ask(s->conn->engine, &question);
}

static void log_refused(const pu_conn *c, const char *protocol, const pu_refusal *why) {
  PU_LOG(&c->engine->log, PU_LOG_INFO, "swarm", "refused a stream%s%s of %s: %s",
         protocol[0] != '\0' ? " " : "", protocol, c->addr, why->text);
}

/* begin_inbound gives a negotiated stream to its handler; false when it did not live to see it. */
static bool begin_inbound(pu_stream *s) {
  pu_engine *e = s->conn->engine;
  pu_refusal why;
  const char *id = pu_multistream_protocol(s->negotiation);
  pu_handler *h = pu_engine_find_handler(e, id, strlen(id));
  s->protocol = pu_strndup(&s->conn->mem, id, strlen(id));
  drop_negotiation(s);
  pu_timer_stop(&s->timer);
  if (h == NULL || s->protocol == NULL) {
    pu_stream_reset(s, CODE_NEGOTIATION_FAILED);
    return false;
  }
  if (ask_stream(s) != 0) {
    pu_stream_reset(s, CODE_GATED);
    return false;
  }
  if (pu_limits_protocol(&e->limiter, &s->conn->share, &s->share, s->protocol, &why) != 0) {
    log_refused(s->conn, s->protocol, &why);
    pu_stream_reset(s, CODE_LIMIT);
    return false;
  }
  if (h->fn(h->data, s) != 0 && !s->gone)
    pu_stream_reset(s, 0);
  return !s->gone;
}

int pu_stream_accept(pu_conn *c, pu_session_stream *ss, uint32_t *code) {
  pu_engine *e = c->engine;
  pu_stream_share share;
  pu_refusal why;
  *code = CODE_LIMIT;
  if (c->closed)
    return PU_E_CLOSED;
  int status = pu_limits_stream(&e->limiter, &c->share, &share, &why);
  if (status != 0) {
    log_refused(c, "", &why);
    return status;
  }
  pu_stream *s = new_stream(c, false);
  if (s == NULL) {
    pu_limits_stream_close(&e->limiter, &c->share, &share);
    return PU_E_NOMEM;
  }
  s->share = share;
  if (pu_timer_after(&s->timer, e->limits.negotiate_ms * 1000ull) != 0) {
    detach(s);
    return PU_E_NOMEM;
  }
  s->ss = ss;
  ops(s)->set_user(ss, s);
  /* The header waits for the dialler's, which saves a frame; a dialler may wait for ours, but not a
   * dialler of which we have not heard (wire 5). */
  pu_multistream_listen(s->negotiation, match_handler, s);
  return 0;
}

/* ---- the session's events ---- */

/* negotiate feeds the negotiation; returns the bytes that were its, or an error after which the
 * stream is gone. */
static ssize_t negotiate(pu_stream *s, const uint8_t *data, size_t len) {
  size_t used = 0;
  while (s->negotiation != NULL) {
    ssize_t n = pu_multistream_read(s->negotiation, data + used, len - used);
    if (n < 0) {
      give_up(s, (int)n, CODE_NEGOTIATION_FAILED);
      return n;
    }
    used += (size_t)n;
    int status = answer(s, used < len);
    if (s->gone)
      return PU_E_CLOSED;
    if (status != 0) {
      give_up(s, status, CODE_NEGOTIATION_FAILED);
      return status;
    }
    if (pu_multistream_state_of(s->negotiation) == PU_MS_DONE) {
      if (s->outbound) {
        const bool waiting = s->op != NULL;
        if (waiting && !pu_open_negotiated(s, pu_multistream_protocol(s->negotiation)))
          return PU_E_NOMEM;
        drop_negotiation(s);
        pu_timer_stop(&s->timer);
        if (waiting)
          pu_open_ready(s);
      } else if (!begin_inbound(s)) {
        return PU_E_CLOSED;
      }
      if (s->late_len > 0 && pu_timer_after(&s->timer, LATE_US) != 0) {
        give_up(s, PU_E_NOMEM, CODE_LIMIT);
        return PU_E_NOMEM;
      }
      return s->gone ? PU_E_CLOSED : (ssize_t)used;
    }
    if (used == len)
      break;
  }
  return (ssize_t)used;
}

size_t pu_stream_on_data(void *stream, pu_span data) {
  pu_stream *s = stream;
  const size_t total = data.len;
  if (s == NULL)
    return total;
  s->busy++;
  if (s->negotiation != NULL && !s->tokens_due) {
    ssize_t used = negotiate(s, data.data, data.len);
    if (used < 0) {
      if (--s->busy == 0)
        free_stream(s);
      return total;
    }
    pu_span_drop(&data, (size_t)used);
  }
  size_t taken = 0;
  const pu_stream_events *events = s->events;
  if (s->gone)
    taken = data.len;
  else if (data.len > 0 && s->op == NULL && events != NULL && events->on_data != NULL)
    taken = events->on_data(s->user, s, data.data, data.len, data.head, data.tail);
  PU_ASSERT(taken <= data.len);
  if (--s->busy == 0 && s->gone) {
    free_stream(s);
    return total;
  }
  return s->gone ? total : total - data.len + taken;
}

void pu_stream_on_eof(void *stream) {
  pu_stream *s = stream;
  if (s == NULL)
    return;
  if (s->negotiation != NULL && (s->op != NULL || !s->outbound)) {
    give_up(s, PU_E_EOF, CODE_NEGOTIATION_FAILED);
    return;
  }
  s->eof = true;
  s->busy++;
  if (s->events != NULL && s->events->on_eof != NULL)
    s->events->on_eof(s->user, s);
  if (--s->busy == 0 && s->gone)
    free_stream(s);
}

void pu_stream_on_writable(void *stream) {
  pu_stream *s = stream;
  if (s == NULL || s->op != NULL)
    return;
  s->busy++;
  if (s->events != NULL && s->events->on_writable != NULL)
    s->events->on_writable(s->user, s);
  if (--s->busy == 0 && s->gone)
    free_stream(s);
}

void pu_stream_on_reset(void *stream, int status, uint32_t code) {
  pu_stream *s = stream;
  if (s == NULL)
    return;
  const int why = status == PU_E_RESET || status == PU_E_NOMEM ? status : PU_E_GONE;
  if (!s->cut) {
    fail_stream(s, why, code);
    return;
  }
  s->cut_status = why;
  offer_rest(s);
}

/* on_timer: a negotiation took too long, or a lazy stream whose opener writes nothing says its
 * tokens. */
static void on_timer(void *data) {
  pu_stream *s = data;
  pu_conn *c = s->conn;
  pu_conn_enter(c);
  if (s->cut) {
    on_rest_time(s);
  } else if (tokens_wait(s)) {
    int status = say_tokens(s);
    if (!s->gone && status != 0)
      give_up(s, status, CODE_NEGOTIATION_FAILED);
  } else if (s->negotiation != NULL) {
    give_up(s, PU_E_TIMEOUT, CODE_NEGOTIATION_FAILED);
  }
  pu_conn_leave(c);
}

void pu_streams_end(pu_conn *c) {
  pu_opens_end(c);
  c->session->ops->fail(c->session, PU_E_GONE);
  if (!c->keeps_rests) /* else the session told all of its own, and none but the cut ones are left */
    pu_streams_end_rests(c, PU_E_GONE);
}

void pu_streams_end_rests(pu_conn *c, int status) {
  while (!pu_list_empty(&c->streams))
    fail_stream(PU_CONTAINER_OF(c->streams.next, pu_stream, link), status, 0);
}

size_t pu_streams_recheck(pu_conn *c) {
  size_t ended = 0;
  for (bool again = true; again;) {
    again = false;
    PU_LIST_EACH(&c->streams, node, tmp) {
      pu_stream *s = PU_CONTAINER_OF(node, pu_stream, link);
      if (s->outbound || s->protocol == NULL || ask_stream(s) == 0)
        continue;
      pu_conn_enter(c);
      give_up(s, PU_E_DENIED, CODE_GATED);
      pu_conn_leave(c);
      ended++;
      again = true; /* others may have ended with it: begin anew */
      break;
    }
  }
  return ended;
}

/* ---- outbound: what opening needs of a stream (open.c) ---- */

pu_stream *pu_stream_begin(pu_conn *c, pu_open *op, const char *const *offers, size_t count,
                           bool lazy, int *status) {
  pu_stream *s = new_stream(c, true);
  if (s == NULL) {
    *status = PU_E_NOMEM;
    return NULL;
  }
  s->op = op;
  *status = c->session->ops->open(c->session, s, &s->ss);
  if (*status == 0 && lazy) {
    s->protocol = pu_strndup(&c->mem, offers[0], strlen(offers[0]));
    if (s->protocol == NULL) {
      reset_below(s, 0);
      *status = PU_E_NOMEM;
    }
  }
  if (*status != 0) {
    detach(s);
    return NULL;
  }
  if (lazy) /* the opener's names go with it, the negotiation may outlive it */
    offers = (const char *const *)&s->protocol;
  pu_multistream_dial(s->negotiation, offers, count, lazy);
  s->tokens_due = lazy;
  return s;
}

int pu_stream_say(pu_stream *s) {
  return say_tokens(s);
}

bool pu_stream_lazily_open(pu_stream *s) {
  s->op = NULL;
  /* If the opener does not write before the loop's next turn the tokens go alone. */
  return pu_timer_after(&s->timer, 0) == 0;
}
