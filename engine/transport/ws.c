/* A WebSocket connection on another raw connection (wire 10, RFC 6455), either side:
 *
 *   UPGRADE --heads exchanged--> OPEN --close frame, end below, trouble--> ENDED
 *
 * Frames are streamed, never collected: a frame's payload is unmasked where it lies and handed on,
 * and what its header promises costs nothing. A write becomes one message of one frame; what the
 * connection below does not take of it is offered again by the layer above, since frames' payload
 * is a byte stream. Only our own bytes (heads, control frames, the rest of a header) wait in a
 * queue, with a bound. */
#include "transport/ws.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/fifo.h"
#include "platform/assert.h"
#include "transport/ws_frame.h"
#include "transport/ws_http.h"

#define PIECES_MAX 64u   /* of one write to the connection below, the header among them */
#define HEAD_FIRST 1024u /* memory for a head at first */
#define CODE_NORMAL 1000u
#define CODE_PROTOCOL 1002u

typedef enum ws_state { WS_UPGRADE, WS_OPEN, WS_ENDED } ws_state;

typedef struct ws_raw {
  pu_raw base;
  pu_raw *below; /* NULL once closed */
  pu_mem *mem;
  pu_platform *platform;
  bool client;
  void (*on_ready)(void *data, int status, const char *detail);
  void *ready_data;
  const pu_raw_events *events;
  void *user;
  ws_state state;
  int end_status; /* of ENDED */
  bool want_read, want_write, closed, refused;
  unsigned busy;
  /* upgrade */
  char accept[PU_WS_ACCEPT_TEXT]; /* what the server must answer */
  uint8_t *head;
  size_t head_len, head_cap;
  /* reading */
  uint8_t in_head[PU_WS_HEAD_MAX];
  size_t in_head_len;
  pu_ws_frame in;
  uint64_t in_at; /* payload bytes of |in| that came */
  bool in_payload, in_message;
  uint8_t in_control[PU_WS_CONTROL_MAX];
  uint8_t *placed;
  /* writing */
  pu_fifo own; /* goes before everything else */
  pu_ws_frame out;
  uint64_t out_at; /* payload bytes of |out| that went */
  bool pong_due, close_sent;
  uint8_t pong[PU_WS_CONTROL_MAX]; /* the latest ping's: older ones need no answer */
  size_t pong_len;
} ws_raw;

static void enter(ws_raw *r) {
  r->busy++;
}

static void leave(ws_raw *r) {
  if (--r->busy == 0 && r->closed)
    pu_free(r);
}

/* end tells of the end, once; the receiver closes. */
static void end(ws_raw *r, int status, const char *detail) {
  if (r->state == WS_ENDED || r->closed)
    return;
  const bool upgrading = r->state == WS_UPGRADE;
  r->state = WS_ENDED;
  r->end_status = status;
  r->below->ops->want_read(r->below, false);
  if (upgrading && r->on_ready != NULL)
    r->on_ready(r->ready_data, status, detail);
  else if (r->events != NULL)
    r->events->on_end(r->user, status);
}

/* ---- our own bytes ---- */

/* flush_own writes what waits; |own.len| tells whether all of it went. */
static int flush_own(ws_raw *r) {
  while (r->own.len > 0) {
    pu_iov iov[4];
    const size_t n = pu_fifo_peek(&r->own, iov, PU_COUNT(iov));
    const ssize_t written = r->below->ops->writev(r->below, iov, n);
    if (written < 0)
      return (int)written;
    if (written == 0)
      return 0;
    pu_fifo_drop(&r->own, (size_t)written);
  }
  return 0;
}

static int send_own(ws_raw *r, const void *data, size_t len) {
  const int status = pu_fifo_push(&r->own, data, len);
  return status == 0 ? flush_own(r) : status;
}

static void draw_mask(ws_raw *r, pu_ws_frame *f) {
  f->masked = r->client;
  if (f->masked)
    pu_random(r->platform, f->mask, sizeof f->mask);
}

/* at_border says whether a frame may begin. */
static bool at_border(const ws_raw *r) {
  return r->out_at == r->out.len;
}

static int send_control(ws_raw *r, uint8_t opcode, const uint8_t *payload, size_t len) {
  uint8_t bytes[PU_WS_HEAD_MAX + PU_WS_CONTROL_MAX];
  pu_ws_frame f = {.opcode = opcode, .fin = true, .len = len};
  PU_ASSERT(len <= PU_WS_CONTROL_MAX);
  draw_mask(r, &f);
  const ssize_t n = pu_ws_frame_write(&f, bytes);
  if (n < 0)
    return (int)n;
  if (f.masked)
    pu_ws_mask(bytes + n, payload, len, f.mask, 0);
  else
    memcpy(bytes + n, payload, len);
  return send_own(r, bytes, (size_t)n + len);
}

/* send_pong answers the latest ping, when no frame is under way and nothing else waits. */
static int send_pong(ws_raw *r) {
  if (!r->pong_due || !at_border(r) || r->own.len > 0 || r->close_sent)
    return 0;
  r->pong_due = false;
  return send_control(r, PU_WS_PONG, r->pong, r->pong_len);
}

/* send_close says good-bye if a frame may begin; who does not hear it takes the end below for one.
 */
static void send_close(ws_raw *r, unsigned code, const char *reason) {
  uint8_t payload[2 + 32] = {(uint8_t)(code >> 8), (uint8_t)code};
  const size_t len = strlen(reason);
  if (r->close_sent || !at_border(r))
    return;
  PU_ASSERT(len <= 32);
  memcpy(payload + 2, reason, len);
  r->close_sent = true;
  (void)send_control(r, PU_WS_CLOSE, payload, 2 + len);
}

/* broke ends the connection for what the peer did, or for lack of memory. */
static void broke(ws_raw *r, int status) {
  if (status == PU_E_PROTOCOL)
    send_close(r, CODE_PROTOCOL, "");
  end(r, status, pu_error_sentence(status));
}

/* ---- upgrade ---- */

static void tell_writable(ws_raw *r) {
  if (r->state != WS_OPEN || !r->want_write || r->own.len > 0)
    return;
  r->want_write = false;
  if (r->events != NULL)
    r->events->on_writable(r->user);
}

static void opened(ws_raw *r) {
  pu_free(r->head);
  r->head = NULL;
  r->state = WS_OPEN;
  if (r->on_ready != NULL)
    r->on_ready(r->ready_data, 0, "");
  if (r->closed)
    return;
  r->below->ops->want_read(r->below, r->want_read && r->events != NULL);
  tell_writable(r);
}

static void refuse_upgrade(ws_raw *r, unsigned http_status) {
  char text[PU_WS_RESPONSE_MAX];
  r->refused = true;
  (void)send_own(r, text, pu_ws_response_write(http_status, NULL, text));
  end(r, PU_E_PROTOCOL, "");
}

static void serve_upgrade(ws_raw *r, size_t len, bool more) {
  char key[PU_WS_KEY_TEXT], text[PU_WS_RESPONSE_MAX];
  unsigned http_status = 400;
  /* A client waits for the answer: bytes behind its head are somebody's trick. */
  if (pu_ws_request_read(r->head, len, key, &http_status) != 0 || more) {
    refuse_upgrade(r, http_status);
    return;
  }
  int status = pu_ws_accept(key, r->accept);
  if (status == 0)
    status = send_own(r, text, pu_ws_response_write(101, r->accept, text));
  if (status != 0)
    end(r, status, "");
  else
    opened(r);
}

static void finish_upgrade(ws_raw *r, size_t len) {
  char why[PU_WS_HTTP_WHY];
  const int status = pu_ws_response_read(r->head, len, r->accept, why);
  if (status != 0)
    end(r, status, why);
  else
    opened(r);
}

static int keep_head(ws_raw *r, const uint8_t *data, size_t len) {
  if (r->head_len + len > r->head_cap) {
    const size_t cap = r->head_len + len <= HEAD_FIRST ? HEAD_FIRST : PU_WS_HTTP_MAX;
    uint8_t *grown = pu_realloc(r->mem, r->head, cap);
    if (grown == NULL)
      return PU_E_NOMEM;
    r->head = grown;
    r->head_cap = cap;
  }
  memcpy(r->head + r->head_len, data, len);
  r->head_len += len;
  return 0;
}

/* take_head takes bytes of the peer's head; returns how many. */
static size_t take_head(ws_raw *r, const uint8_t *data, size_t len) {
  const size_t before = r->head_len;
  size_t n = PU_WS_HTTP_MAX - before < len ? PU_WS_HTTP_MAX - before : len;
  if (keep_head(r, data, n) != 0) {
    end(r, PU_E_NOMEM, pu_error_sentence(PU_E_NOMEM));
    return len;
  }
  const size_t whole = pu_ws_http_end(r->head, r->head_len, before < 3 ? 0 : before - 3);
  if (whole == 0) {
    if (r->head_len < PU_WS_HTTP_MAX)
      return n;
    if (r->client)
      end(r, PU_E_PROTOCOL, "the web server's answer is too long");
    else
      refuse_upgrade(r, 431);
    return len;
  }
  n = whole - before;
  if (r->client)
    finish_upgrade(r, whole);
  else
    serve_upgrade(r, whole, n < len);
  return n;
}

/* ---- reading ---- */

static bool is_control(const pu_ws_frame *f) {
  return f->opcode >= PU_WS_CLOSE;
}

static void on_close_frame(ws_raw *r) {
  const size_t len = (size_t)r->in.len;
  const unsigned code = len >= 2 ? (unsigned)(r->in_control[0] << 8 | r->in_control[1]) : 0;
  if (len == 1) {
    broke(r, PU_E_PROTOCOL);
    return;
  }
  send_close(r, CODE_NORMAL, "closed");
  end(r, code == 0 || code == CODE_NORMAL ? PU_E_EOF : PU_E_RESET, "");
}

static void frame_ended(ws_raw *r) {
  int status = 0;
  r->in_payload = false;
  r->in_head_len = 0;
  if (!is_control(&r->in)) {
    r->in_message = !r->in.fin;
    return;
  }
  if (r->in.masked)
    pu_ws_mask(r->in_control, r->in_control, (size_t)r->in.len, r->in.mask, 0);
  if (r->in.opcode == PU_WS_CLOSE) {
    on_close_frame(r);
  } else if (r->in.opcode == PU_WS_PING) {
    memcpy(r->pong, r->in_control, (size_t)r->in.len);
    r->pong_len = (size_t)r->in.len;
    r->pong_due = true;
    status = send_pong(r);
  }
  if (status != 0)
    end(r, status, "");
}

/* take_frame_head takes bytes of a header; returns how many. */
static size_t take_frame_head(ws_raw *r, const uint8_t *data, size_t len) {
  const size_t before = r->in_head_len;
  const size_t most = PU_WS_HEAD_MAX - before < len ? PU_WS_HEAD_MAX - before : len;
  memcpy(r->in_head + before, data, most);
  r->in_head_len += most;
  const ssize_t n = pu_ws_frame_read(r->in_head, r->in_head_len, &r->in);
  if (n == 0)
    return most;
  const bool continues = r->in.opcode == PU_WS_CONTINUATION;
  if (n > 0 && (r->in.masked == r->client || (!is_control(&r->in) && continues != r->in_message))) {
    broke(r, PU_E_PROTOCOL);
    return len;
  }
  if (n < 0) {
    broke(r, (int)n);
    return len;
  }
  r->in_payload = true;
  r->in_at = 0;
  if (r->in.len == 0)
    frame_ended(r);
  return (size_t)n - before;
}

/* take_payload hands on what belongs to the frame, in front of |data|. */
static void take_payload(ws_raw *r, pu_span *data) {
  const uint64_t left = r->in.len - r->in_at;
  const size_t n = data->len < left ? data->len : (size_t)left;
  pu_span part = pu_span_take(data, n);
  const uint64_t at = r->in_at;
  r->in_at += n;
  if (is_control(&r->in)) {
    memcpy(r->in_control + at, part.data, n);
  } else if (r->events == NULL) { /* nobody wants them, and they cannot be put off */
    end(r, PU_E_PROTOCOL, "");
    return;
  } else {
    if (r->in.masked)
      pu_ws_mask(part.data, part.data, n, r->in.mask, at);
    r->events->on_bytes(r->user, part);
  }
  if (r->in_at == r->in.len && r->state == WS_OPEN && !r->closed)
    frame_ended(r);
}

static void on_bytes(void *user, pu_span data) {
  ws_raw *r = user;
  enter(r);
  while (data.len > 0 && r->state != WS_ENDED && !r->closed) {
    if (r->state == WS_UPGRADE)
      pu_span_drop(&data, take_head(r, data.data, data.len));
    else if (r->in_payload)
      take_payload(r, &data);
    else
      pu_span_drop(&data, take_frame_head(r, data.data, data.len));
  }
  leave(r);
}

/* place lets the payload of a frame land where the layer above wants it. */
static size_t place(void *user, uint8_t **memory) {
  ws_raw *r = user;
  if (r->state != WS_OPEN || !r->in_payload || is_control(&r->in) || r->events == NULL ||
      r->events->place == NULL)
    return 0;
  const size_t room = r->events->place(r->user, &r->placed);
  const uint64_t left = r->in.len - r->in_at;
  *memory = r->placed;
  return room < left ? room : (size_t)left;
}

static void on_placed(void *user, size_t len) {
  ws_raw *r = user;
  enter(r);
  if (r->in.masked)
    pu_ws_mask(r->placed, r->placed, len, r->in.mask, r->in_at);
  r->in_at += len;
  r->events->on_placed(r->user, len);
  if (r->in_at == r->in.len && r->state == WS_OPEN && !r->closed)
    frame_ended(r);
  leave(r);
}

static void on_writable(void *user) {
  ws_raw *r = user;
  enter(r);
  int status = r->state == WS_ENDED ? 0 : flush_own(r);
  tell_writable(r);
  if (status == 0 && r->state == WS_OPEN && !r->closed)
    status = send_pong(r);
  if (status != 0)
    end(r, status, pu_error_sentence(status));
  leave(r);
}

static void on_end(void *user, int status) {
  ws_raw *r = user;
  enter(r);
  /* Without a close frame it is no end of the stream (code 1006). */
  const bool upgrading = r->state == WS_UPGRADE;
  end(r, status == PU_E_EOF && !upgrading ? PU_E_RESET : status,
      status == PU_E_EOF ? "closed by the web server during the WebSocket upgrade"
                         : pu_error_sentence(status));
  leave(r);
}

static const pu_raw_events below_events = {on_bytes, place, on_placed, on_writable, on_end};

/* ---- what the layer above calls ---- */

static void raw_set_events(pu_raw *base, const pu_raw_events *events, void *user) {
  ws_raw *r = (ws_raw *)base;
  r->events = events;
  r->user = user;
  if (r->state == WS_OPEN)
    r->below->ops->want_read(r->below, r->want_read && events != NULL);
}

static void raw_want_read(pu_raw *base, bool on) {
  ws_raw *r = (ws_raw *)base;
  r->want_read = on;
  if (r->state == WS_OPEN) /* the upgrade reads in any case */
    r->below->ops->want_read(r->below, on && r->events != NULL);
}

/* begin_frame starts a message of |len| bytes: the header's length, or an error. */
static ssize_t begin_frame(ws_raw *r, size_t len, uint8_t head[static PU_WS_HEAD_MAX]) {
  pu_ws_frame f = {.opcode = PU_WS_BINARY, .fin = true, .len = len};
  draw_mask(r, &f);
  const ssize_t n = pu_ws_frame_write(&f, head);
  if (n < 0)
    return n;
  r->out = f;
  r->out_at = 0;
  return n;
}

/* Where a write has got to in the pieces it was given. */
typedef struct source {
  const pu_iov *iov;
  size_t n, skip; /* bytes of the first piece that went */
} source;

static void advance(source *s, size_t len) {
  while (len > 0) {
    const size_t left = s->iov->len - s->skip;
    const size_t n = len < left ? len : left;
    s->skip += n;
    len -= n;
    if (s->skip == s->iov->len && s->n > 0) {
      s->iov++;
      s->n--;
      s->skip = 0;
    }
  }
}

/* gather points |iov| at up to |most| bytes of the source; returns the pieces, and their bytes in
 * |*len|. */
static size_t gather(source s, uint64_t most, pu_iov *iov, size_t max, size_t *len) {
  size_t count = 0;
  *len = 0;
  for (; s.n > 0 && count < max && *len < most; s.iov++, s.n--, s.skip = 0) {
    size_t n = s.iov->len - s.skip;
    if (n > most - *len)
      n = (size_t)(most - *len);
    if (n == 0)
      continue;
    iov[count++] = (pu_iov){(uint8_t *)s.iov->base + s.skip, n};
    *len += n;
  }
  return count;
}

/* write_piece writes |head| and as much of the frame's payload as one call takes. Returns what the
 * connection below took, and in |*offered| what it was given. */
static ssize_t write_piece(ws_raw *r, source s, const uint8_t *head, size_t head_len,
                           size_t *offered) {
  pu_iov iov[PIECES_MAX] = {{(void *)(uintptr_t)head, head_len}};
  const size_t first = head_len > 0 ? 1 : 0;
  const uint64_t left = r->out.len - r->out_at;
  size_t len;
  if (!r->out.masked) {
    const size_t count = gather(s, left, iov + first, PIECES_MAX - first, &len);
    *offered = head_len + len;
    return r->below->ops->writev(r->below, iov, first + count);
  }
  uint8_t masked[PU_WS_MASK_BYTES];
  const size_t count =
      gather(s, left < sizeof masked ? left : sizeof masked, iov + first, PIECES_MAX - first, &len);
  size_t done = 0;
  for (size_t i = first; i < first + count; i++) {
    pu_ws_mask(masked + done, iov[i].base, iov[i].len, r->out.mask, r->out_at + done);
    done += iov[i].len;
  }
  iov[first] = (pu_iov){masked, len};
  *offered = head_len + len;
  return r->below->ops->writev(r->below, iov, first + 1);
}

/* write_some writes some of |left| bytes of |s|: returns how many of them went, and whether that is
 * all that goes now in |*full|. */
static ssize_t write_some(ws_raw *r, const source *s, size_t left, bool *full) {
  uint8_t head[PU_WS_HEAD_MAX];
  ssize_t head_len = 0;
  size_t offered;
  if (at_border(r)) {
    head_len = begin_frame(r, left, head);
    if (head_len < 0)
      return head_len;
  }
  const ssize_t n = write_piece(r, *s, head, (size_t)head_len, &offered);
  if (n < 0)
    return n;
  *full = (size_t)n < offered;
  if (n < head_len) {
    const int status = pu_fifo_push(&r->own, head + n, (size_t)(head_len - n));
    return status == 0 ? 0 : status;
  }
  r->out_at += (uint64_t)(n - head_len);
  return n - head_len;
}

static ssize_t raw_writev(pu_raw *base, const pu_iov *iov, size_t n) {
  ws_raw *r = (ws_raw *)base;
  source s = {iov, n, 0};
  size_t total = 0, taken = 0;
  for (size_t i = 0; i < n; i++)
    total += iov[i].len;
  if (r->state == WS_ENDED || r->close_sent)
    return r->state == WS_ENDED && r->end_status != PU_E_EOF ? r->end_status : PU_E_RESET;
  bool full = r->state == WS_UPGRADE;
  int status = full ? 0 : flush_own(r);
  full = full || r->own.len > 0;
  while (status == 0 && !full && taken < total) {
    const ssize_t written = write_some(r, &s, total - taken, &full);
    if (written < 0)
      return written;
    advance(&s, (size_t)written);
    taken += (size_t)written;
  }
  if (taken < total)
    r->want_write = true;
  else if (status == 0)
    status = send_pong(r);
  return status == 0 ? (ssize_t)taken : status;
}

static void raw_close(pu_raw *base, bool abort) {
  ws_raw *r = (ws_raw *)base;
  if (r->closed)
    return;
  if (!abort && r->state == WS_OPEN)
    send_close(r, CODE_NORMAL, "closed");
  r->closed = true;
  r->events = NULL;
  enter(r);
  r->below->ops->set_events(r->below, NULL, NULL);
  r->below->ops->close(r->below, abort && !r->refused && !r->close_sent);
  r->below = NULL;
  pu_fifo_clear(&r->own);
  pu_free(r->head);
  leave(r);
}

static const pu_raw_ops raw_ops = {
    .set_events = raw_set_events,
    .want_read = raw_want_read,
    .writev = raw_writev,
    .close = raw_close,
};

/* ---- beginning ---- */

static int send_request(ws_raw *r, const pu_ws_config *config) {
  uint8_t bytes[16];
  char key[PU_WS_KEY_TEXT], text[PU_WS_OWN_MAX / 2];
  pu_random(config->platform, bytes, sizeof bytes);
  (void)sodium_bin2base64(key, sizeof key, bytes, sizeof bytes, sodium_base64_VARIANT_ORIGINAL);
  int status = pu_ws_accept(key, r->accept);
  if (status != 0)
    return status;
  const ssize_t len =
      pu_ws_request_write(config->host, config->port, config->path, key, text, sizeof text);
  return len < 0 ? (int)len : send_own(r, text, (size_t)len);
}

int pu_ws_raw_new(const pu_ws_config *config, pu_raw *below, pu_raw **out) {
  ws_raw *r = pu_zalloc(config->mem, sizeof *r);
  if (r == NULL) {
    below->ops->close(below, true);
    return PU_E_NOMEM;
  }
  r->base.ops = &raw_ops;
  r->below = below;
  r->mem = config->mem;
  r->platform = config->platform;
  r->client = config->host != NULL;
  r->on_ready = config->on_ready;
  r->ready_data = config->data;
  pu_fifo_init(&r->own, config->mem, PU_WS_OWN_MAX);
  below->ops->set_events(below, &below_events, r);
  below->ops->want_read(below, true);
  const int status = r->client ? send_request(r, config) : 0;
  if (status != 0) {
    raw_close(&r->base, true);
    return status;
  }
  *out = &r->base;
  return 0;
}
