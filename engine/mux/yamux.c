/* Yamux sessions (wire 9): parses and sends frames, finds streams, keeps the connection alive, and
 * ends it when the peer breaks the rules. What happens on one stream is in yamux_stream.c. The
 * connection (transport/upgraded.c) feeds plaintext and the time.
 *
 *   header (12 bytes) --data, length > 0--> payload (dropped when no stream wants it) --> header
 *          |  version != 0, type > 3, wrong parity, live ID again, window overrun, go-away
 *          +--> ended: every stream got on_reset; all calls return the status */
#include "mux/yamux.h"

#include <string.h>

#include "mux/yamux_priv.h"
#include "peerup/error.h"
#include "platform/assert.h"

#define PONG_PERIOD_US 1000000u

/* ---- frames ---- */

static void put_u16(uint8_t *out, uint16_t v) {
  out[0] = (uint8_t)(v >> 8);
  out[1] = (uint8_t)v;
}

static void put_u32(uint8_t *out, uint32_t v) {
  put_u16(out, (uint16_t)(v >> 16));
  put_u16(out + 2, (uint16_t)v);
}

static uint32_t get_u32(const uint8_t *in) {
  return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

void pu_yamux_frame_encode(const pu_yamux_frame *f, uint8_t out[static PU_YAMUX_HEADER]) {
  out[0] = f->version;
  out[1] = f->type;
  put_u16(out + 2, f->flags);
  put_u32(out + 4, f->stream);
  put_u32(out + 8, f->length);
}

void pu_yamux_frame_decode(const uint8_t in[static PU_YAMUX_HEADER], pu_yamux_frame *out) {
  *out = (pu_yamux_frame){
      .version = in[0],
      .type = in[1],
      .flags = (uint16_t)(in[2] << 8 | in[3]),
      .stream = get_u32(in + 4),
      .length = get_u32(in + 8),
  };
}

/* ---- calls in progress ---- */

/* reap frees ended streams; nobody up the stack may hold one. */
static void reap(pu_yamux *y) {
  PU_LIST_EACH(&y->dead, node, next) {
    pu_yamux_stream *s = PU_CONTAINER_OF(node, pu_yamux_stream, node);
    pu_list_remove(node);
    pu_fifo_clear(&s->queue);
    pu_free(s);
  }
}

void yamux_enter(pu_yamux *y) {
  y->depth++;
}

/* tell_room: a stream that the peer never acknowledged has ended, and another may be opened. */
static void tell_room(pu_yamux *y) {
  if (!y->full_said || y->status != 0 || y->unacked >= PU_YAMUX_MAX_UNACKED)
    return;
  y->full_said = false;
  if (y->config.callbacks->on_acked != NULL)
    y->config.callbacks->on_acked(y->config.user, NULL);
}

void yamux_leave(pu_yamux *y) {
  PU_ASSERT(y->depth > 0);
  /* Unblocking inside output could not call on_writable there; the outermost call makes up for it.
   */
  if (y->depth == 1) {
    yamux_drain(y);
    tell_room(y);
  }
  if (--y->depth == 0)
    reap(y);
}

/* ---- output ---- */

bool yamux_send(pu_yamux *y, uint8_t type, uint16_t flags, uint32_t stream, uint32_t length,
                const pu_span *payload) {
  if (y->status != 0)
    return false;
  PU_ASSERT(!y->in_output);
  uint8_t room[PU_SPAN_HEAD + PU_YAMUX_HEADER + PU_SPAN_TAIL];
  pu_span frame = {.data = room + PU_SPAN_HEAD, .head = PU_SPAN_HEAD, .tail = PU_SPAN_TAIL};
  if (payload != NULL) {
    PU_ASSERT(payload->head >= PU_YAMUX_HEADER);
    frame = *payload;
    frame.data -= PU_YAMUX_HEADER;
    frame.head -= PU_YAMUX_HEADER;
  }
  frame.len += PU_YAMUX_HEADER;
  pu_yamux_frame f = {.type = type, .flags = flags, .stream = stream, .length = length};
  pu_yamux_frame_encode(&f, frame.data);
  y->in_output = true;
  int rc = y->config.callbacks->output(y->config.user, &frame);
  y->in_output = false;
  if (rc < 0)
    yamux_end(y, rc, 0, "output failed");
  return y->status == 0;
}

bool yamux_answer_counts(pu_yamux *y) {
  if (!y->blocked || ++y->answers <= PU_YAMUX_MAX_ANSWERS)
    return true;
  yamux_end(y, PU_E_PROTOCOL, 0, "answers not read");
  return false;
}

void yamux_drain(pu_yamux *y) {
  if (y->draining || y->in_output)
    return;
  y->draining = true;
  while (y->status == 0 && !y->blocked && !pu_list_empty(&y->waiting)) {
    pu_yamux_stream *s = PU_CONTAINER_OF(y->waiting.next, pu_yamux_stream, wait);
    pu_list_remove(&s->wait);
    s->want = false;
    y->config.callbacks->on_writable(s->user);
  }
  y->draining = false;
}

uint8_t *yamux_scratch(pu_yamux *y) {
  if (y->scratch == NULL)
    y->scratch = pu_alloc(y->config.mem, PU_SPAN_HEAD + PU_YAMUX_SCRATCH_PAYLOAD + PU_SPAN_TAIL);
  y->scratch_used = true;
  return y->scratch;
}

/* ---- table of streams ---- */

/* bucket_of multiplies by an odd key that a peer does not know, so that it cannot choose IDs which
 * all fall into one bucket. */
static size_t bucket_of(const pu_yamux *y, uint32_t id) {
  return (size_t)((id * y->hash_key) >> 32) & (y->bucket_count - 1);
}

pu_yamux_stream *yamux_find(const pu_yamux *y, uint32_t id) {
  pu_yamux_stream *s = y->buckets[bucket_of(y, id)];
  while (s != NULL && s->id != id)
    s = s->bucket_next;
  return s;
}

static void table_put(pu_yamux *y, pu_yamux_stream *s) {
  pu_yamux_stream **bucket = &y->buckets[bucket_of(y, s->id)];
  s->bucket_next = *bucket;
  *bucket = s;
}

/* table_grow doubles the table. Without memory the chains just get longer. */
static void table_grow(pu_yamux *y) {
  size_t old_count = y->bucket_count;
  pu_yamux_stream **old = y->buckets;
  pu_yamux_stream **fresh = pu_zalloc(y->config.mem, 2 * old_count * sizeof(pu_yamux_stream *));
  if (fresh == NULL)
    return;
  y->buckets = fresh;
  y->bucket_count = 2 * old_count;
  for (size_t i = 0; i < old_count; i++) {
    for (pu_yamux_stream *s = old[i], *next; s != NULL; s = next) {
      next = s->bucket_next;
      table_put(y, s);
    }
  }
  if (old != y->buckets_start)
    pu_free(old);
}

static void table_remove(pu_yamux *y, pu_yamux_stream *s) {
  pu_yamux_stream **at = &y->buckets[bucket_of(y, s->id)];
  while (*at != s)
    at = &(*at)->bucket_next;
  *at = s->bucket_next;
  s->bucket_next = NULL;
  if (--y->table_len == 0 && y->buckets != y->buckets_start) {
    pu_free(y->buckets);
    memset(y->buckets_start, 0, sizeof(y->buckets_start));
    y->buckets = y->buckets_start;
    y->bucket_count = YAMUX_BUCKETS_START;
  }
}

pu_yamux_stream *yamux_stream_new(pu_yamux *y, uint32_t id, bool ours, void *user) {
  pu_yamux_stream *s = pu_zalloc(y->config.mem, sizeof(*s));
  if (s == NULL)
    return NULL;
  s->y = y;
  s->user = user;
  s->id = id;
  s->ours = ours;
  s->pending = ours ? YAMUX_SYN : YAMUX_ACK;
  s->send_window = PU_YAMUX_WINDOW_START;
  s->recv_window = PU_YAMUX_WINDOW_START;
  s->recv_left = PU_YAMUX_WINDOW_START;
  s->epoch_us = y->now_us;
  pu_list_init(&s->wait);
  pu_list_init(&s->node);
  pu_list_push(&y->live, &s->node);
  pu_fifo_init(&s->queue, y->config.mem, s->recv_window);
  if (++y->table_len > y->bucket_count)
    table_grow(y);
  table_put(y, s);
  y->live_count++;
  if (ours)
    y->unacked++;
  else
    y->in_count++;
  return s;
}

/* leave_live takes |s| out of what counts streams that somebody uses. */
static void leave_live(pu_yamux_stream *s) {
  pu_yamux *y = s->y;
  pu_list_remove(&s->node);
  pu_list_remove(&s->wait);
  s->want = false;
  if (s->closed) {
    y->lingering_count--;
    return;
  }
  y->live_count--;
  if (!s->ours)
    y->in_count--;
  y->grown -= s->recv_window - PU_YAMUX_WINDOW_START;
}

void yamux_forget(pu_yamux_stream *s) {
  pu_yamux *y = s->y;
  if (s->dead)
    return;
  leave_live(s);
  table_remove(y, s);
  if (s->ours && !s->acked)
    y->unacked--;
  if (y->payload == s)
    y->payload = NULL;
  s->dead = true;
  pu_list_push(&y->dead, &s->node);
}

void yamux_linger(pu_yamux_stream *s) {
  pu_yamux *y = s->y;
  leave_live(s);
  s->closed = true;
  s->epoch_us = y->now_us;
  pu_list_push(&y->lingering, &s->node);
  if (++y->lingering_count > PU_YAMUX_MAX_LINGERING)
    yamux_forget(PU_CONTAINER_OF(y->lingering.next, pu_yamux_stream, node));
}

/* ---- the end ---- */

void yamux_end(pu_yamux *y, int status, uint32_t code, const char *why) {
  PU_ASSERT(status < 0);
  if (y->status != 0)
    return;
  y->status = status;
  y->why = why;
  yamux_enter(y);
  while (!pu_list_empty(&y->lingering))
    yamux_forget(PU_CONTAINER_OF(y->lingering.next, pu_yamux_stream, node));
  while (!pu_list_empty(&y->live)) {
    pu_yamux_stream *s = PU_CONTAINER_OF(y->live.next, pu_yamux_stream, node);
    yamux_forget(s);
    if (s->queue.len > 0 && !s->delivering && y->config.callbacks->on_rest != NULL)
      y->config.callbacks->on_rest(s->user, &s->queue, s->fin_received);
    y->config.callbacks->on_reset(s->user, status, code);
  }
  yamux_leave(y);
}

void pu_yamux_fail(pu_yamux *y, int status) {
  yamux_end(y, status, 0, "ended from outside");
}

int pu_yamux_new(const pu_yamux_config *config, uint64_t now_us, pu_yamux **out) {
  PU_ASSERT(config->max_payload > 0);
  pu_yamux *y = pu_zalloc(config->mem, sizeof(*y));
  if (y == NULL)
    return PU_E_NOMEM;
  y->config = *config;
  y->window_max = config->window_max == 0 ? PU_YAMUX_WINDOW_MAX : config->window_max;
  y->why = "";
  y->now_us = y->last_read_us = y->ping_us = y->pongs_since_us = now_us;
  y->buckets = y->buckets_start;
  y->bucket_count = YAMUX_BUCKETS_START;
  y->hash_key = ((uint64_t)(uintptr_t)y ^ now_us << 20) * 0x9e3779b97f4a7c15u | 1;
  y->next_id = config->client ? 1 : 2;
  pu_list_init(&y->live);
  pu_list_init(&y->lingering);
  pu_list_init(&y->dead);
  pu_list_init(&y->waiting);
  *out = y;
  return 0;
}

void pu_yamux_free(pu_yamux *y) {
  if (y == NULL)
    return;
  PU_ASSERT(y->depth == 0);
  yamux_end(y, PU_E_CLOSED, 0, "freed");
  PU_ASSERT(y->buckets == y->buckets_start);
  pu_free(y->scratch);
  pu_free(y);
}

/* ---- keepalive ---- */

static void send_ping(pu_yamux *y) {
  y->ping_us = y->now_us;
  y->ping_waiting = true;
  (void)yamux_send(y, YAMUX_PING, YAMUX_SYN, 0, y->ping_value, NULL);
}

int pu_yamux_start(pu_yamux *y, uint64_t now_us) {
  yamux_enter(y);
  y->now_us = now_us;
  send_ping(y);
  yamux_leave(y);
  return y->status;
}

/* ping_deadline is when the peer counts as dead (a ping is out), or the next ping is due. Whatever
 * the peer sends proves that it lives: behind much data an answer may take long. */
static uint64_t ping_deadline(const pu_yamux *y) {
  if (!y->ping_waiting)
    return y->ping_us + PU_YAMUX_KEEPALIVE_US;
  uint64_t alive_us = y->last_read_us > y->ping_us ? y->last_read_us : y->ping_us;
  return alive_us + PU_YAMUX_PING_TIMEOUT_US;
}

static uint64_t linger_deadline(const pu_yamux *y) {
  if (pu_list_empty(&y->lingering))
    return PU_NEVER;
  return PU_CONTAINER_OF(y->lingering.next, pu_yamux_stream, node)->epoch_us + PU_YAMUX_LINGER_US;
}

uint64_t pu_yamux_deadline(const pu_yamux *y) {
  if (y->status != 0)
    return PU_NEVER;
  uint64_t linger_us = linger_deadline(y);
  uint64_t ping_us = y->config.keepalive ? ping_deadline(y) : PU_NEVER;
  return linger_us < ping_us ? linger_us : ping_us;
}

int pu_yamux_expire(pu_yamux *y, uint64_t now_us) {
  if (y->status != 0)
    return y->status;
  yamux_enter(y);
  y->now_us = now_us;
  while (linger_deadline(y) <= now_us)
    yamux_forget(PU_CONTAINER_OF(y->lingering.next, pu_yamux_stream, node));
  if (y->config.keepalive && ping_deadline(y) <= now_us) {
    if (y->ping_waiting) {
      yamux_end(y, PU_E_TIMEOUT, 0, "ping timed out");
    } else {
      send_ping(y);
      if (!y->scratch_used) {
        pu_free(y->scratch);
        y->scratch = NULL;
      }
      y->scratch_used = false;
    }
  }
  yamux_leave(y);
  return y->status;
}

/* ---- input ---- */

static void violation(pu_yamux *y, const char *why) {
  yamux_end(y, PU_E_PROTOCOL, 0, why);
}

static void on_ping(pu_yamux *y, const pu_yamux_frame *f) {
  if ((f->flags & YAMUX_SYN) == 0) {
    if (!y->ping_waiting || f->length != y->ping_value)
      return;
    y->ping_waiting = false;
    y->ping_value++;
    y->rtt_us = y->now_us > y->ping_us ? y->now_us - y->ping_us : 1; /* 0 means unknown */
    return;
  }
  if (!y->blocked && y->now_us - y->pongs_since_us >= PONG_PERIOD_US) {
    y->pongs_since_us = y->now_us;
    y->pongs = 0;
  }
  if (y->pongs >= PU_YAMUX_MAX_PONGS)
    return;
  y->pongs++;
  (void)yamux_send(y, YAMUX_PING, YAMUX_ACK, 0, f->length, NULL);
}

static void refuse(pu_yamux *y, uint32_t id, uint32_t code) {
  if (yamux_answer_counts(y))
    (void)yamux_send(y, YAMUX_WINDOW_UPDATE, YAMUX_RST, id, code, NULL);
}

/* on_syn takes or refuses a stream of the peer, and returns it when it is there. */
static pu_yamux_stream *on_syn(pu_yamux *y, const pu_yamux_frame *f) {
  uint32_t id = f->stream;
  if (id == 0 || (id % 2 == 0) != y->config.client) {
    violation(y, "stream ID of the wrong parity");
    return NULL;
  }
  if (yamux_find(y, id) != NULL) {
    violation(y, "stream ID in use");
    return NULL;
  }
  if ((f->flags & YAMUX_RST) != 0)
    return NULL; /* opened and given up in one frame: nobody needs to hear of it */
  if (y->away) {
    refuse(y, id, YAMUX_CODE_SHUTDOWN);
    return NULL;
  }
  pu_yamux_stream *s =
      y->in_count < y->config.max_streams_in ? yamux_stream_new(y, id, false, NULL) : NULL;
  if (s == NULL) {
    refuse(y, id, YAMUX_CODE_RESOURCE_LIMIT);
    return NULL;
  }
  uint32_t code = 0;
  int rc = y->config.callbacks->on_stream(y->config.user, s, &code);
  if (s->dead)
    return NULL;
  if (rc < 0) {
    yamux_forget(s);
    refuse(y, id, code);
    return NULL;
  }
  /* Unless an ACK went with something that the callback sent. */
  if (s->pending != 0 && yamux_answer_counts(y)) {
    s->pending = 0;
    (void)yamux_send(y, YAMUX_WINDOW_UPDATE, YAMUX_ACK, id, 0, NULL);
  }
  return s->dead ? NULL : s;
}

/* on_stream_frame handles the header of a data frame or window update. Frames of streams that are
 * not there are dropped with their payload: they cross with our RST, or come after a close. */
static void on_stream_frame(pu_yamux *y, const pu_yamux_frame *f) {
  bool data = f->type == YAMUX_DATA;
  if (data)
    y->payload_left = f->length;
  pu_yamux_stream *s = (f->flags & YAMUX_SYN) != 0 ? on_syn(y, f) : yamux_find(y, f->stream);
  if (s == NULL)
    return;
  if ((f->flags & YAMUX_ACK) != 0)
    yamux_on_ack(s);
  if (!s->dead && (f->flags & YAMUX_RST) != 0)
    yamux_on_rst(s, data ? 0 : f->length);
  if (s->dead)
    return;
  bool fin = (f->flags & YAMUX_FIN) != 0;
  if (data && f->length > 0) {
    if (s->fin_received)
      return;
    if (f->length > s->recv_left) {
      violation(y, "window overrun");
      return;
    }
    y->payload = s;
    y->payload_fin = fin; /* the end is behind the bytes, whatever go-yamux makes of that */
    return;
  }
  if (!data && f->length > 0)
    yamux_on_credit(s, f->length);
  if (fin && !s->dead)
    yamux_on_fin(s);
}

static void on_header(pu_yamux *y, const uint8_t *bytes) {
  pu_yamux_frame f;
  pu_yamux_frame_decode(bytes, &f);
  if (f.version != 0) {
    violation(y, "unknown version");
    return;
  }
  switch (f.type) {
  case YAMUX_DATA:
  case YAMUX_WINDOW_UPDATE:
    on_stream_frame(y, &f);
    break;
  case YAMUX_PING:
    on_ping(y, &f);
    break;
  case YAMUX_GO_AWAY:
    yamux_end(y, PU_E_EOF, f.length, "the peer went away");
    break;
  default:
    violation(y, "unknown frame type");
  }
}

/* read_payload passes on what |in| has of the current data frame. */
static void read_payload(pu_yamux *y, pu_span *in) {
  size_t n = in->len < y->payload_left ? in->len : y->payload_left;
  pu_span part = {
      .data = in->data, .len = n, .head = in->head, .tail = n == in->len ? in->tail : 0};
  y->payload_left -= (uint32_t)n;
  if (y->payload != NULL)
    yamux_on_payload(y->payload, part);
  pu_span_drop(in, n); /* what the reader did with it is over: head room of what follows */
  if (y->payload_left > 0)
    return;
  pu_yamux_stream *s = y->payload;
  y->payload = NULL;
  if (s != NULL && y->payload_fin)
    yamux_on_fin(s);
}

static void read_header(pu_yamux *y, pu_span *in) {
  if (y->header_len == 0 && in->len >= PU_YAMUX_HEADER) {
    const uint8_t *bytes = in->data;
    pu_span_drop(in, PU_YAMUX_HEADER);
    on_header(y, bytes);
    return;
  }
  size_t want = PU_YAMUX_HEADER - y->header_len;
  size_t n = in->len < want ? in->len : want;
  memcpy(y->header + y->header_len, in->data, n);
  y->header_len += n;
  pu_span_drop(in, n);
  if (y->header_len == PU_YAMUX_HEADER) {
    y->header_len = 0;
    on_header(y, y->header);
  }
}

int pu_yamux_read(pu_yamux *y, pu_span in, uint64_t now_us) {
  PU_ASSERT(!y->reading);
  if (y->status != 0)
    return y->status;
  yamux_enter(y);
  y->reading = true;
  y->now_us = now_us;
  if (in.len > 0)
    y->last_read_us = now_us;
  while (in.len > 0 && y->status == 0) {
    if (y->payload_left > 0)
      read_payload(y, &in);
    else
      read_header(y, &in);
    if (y->depth == 1) /* else somebody up the stack may hold a stream */
      reap(y);
  }
  y->reading = false;
  yamux_leave(y);
  return y->status;
}

/* ---- the rest of a session's face ---- */

void pu_yamux_set_blocked(pu_yamux *y, bool blocked) {
  y->blocked = blocked;
  if (blocked)
    return;
  y->answers = 0;
  yamux_enter(y);
  yamux_drain(y);
  yamux_leave(y);
}

int pu_yamux_go_away(pu_yamux *y, uint32_t code) {
  yamux_enter(y);
  y->away = true;
  (void)yamux_send(y, YAMUX_GO_AWAY, 0, 0, code, NULL);
  yamux_leave(y);
  return y->status;
}

uint64_t pu_yamux_rtt_us(const pu_yamux *y) {
  return y->rtt_us;
}

size_t pu_yamux_stream_count(const pu_yamux *y) {
  return y->live_count;
}

const char *pu_yamux_why(const pu_yamux *y) {
  return y->why;
}
