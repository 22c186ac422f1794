/* TLS on a raw connection; see tls_raw.h.
 *
 *   HANDSHAKE --result--> OPEN --close_notify, end below, trouble--> ENDED
 *
 * A write is sealed in pieces on the stack; what the connection below does not take of them cannot
 * be offered again by the layer above, and waits in a queue: of one round of pieces at most. */
#include "transport/tls_raw.h"

#include <string.h>

#include "base/fifo.h"
#include "platform/assert.h"

#define PIECES 2u /* records sealed for one write below */
#define PIECE_MAX 16384u
#define LAST_MAX 256u

typedef enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_ENDED } tls_state;

typedef struct tls_raw {
  pu_raw base;
  pu_raw *below; /* NULL once closed */
  pu_mem *mem;
  pu_security *tls;
  void (*on_ready)(void *data, int status, const char *detail);
  void *ready_data;
  const pu_raw_events *events;
  void *user;
  tls_state state;
  int end_status;
  bool want_read, want_write, closed, said_last;
  unsigned busy;
  uint8_t *carry; /* the beginning of a record, in memory for the longest one; NULL: none */
  size_t carry_len;
  pu_fifo own;
} tls_raw;

static const pu_security_ops *const ops = &pu_tls_web_ops;

static void enter(tls_raw *r) {
  r->busy++;
}

static void leave(tls_raw *r) {
  if (--r->busy == 0 && r->closed)
    pu_free(r);
}

static int flush_own(tls_raw *r) {
  while (r->own.len > 0) {
    pu_iov iov[8];
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

/* send writes sealed bytes, or puts them behind what waits. */
static int send(tls_raw *r, const uint8_t *data, size_t len) {
  if (r->own.len == 0) {
    const pu_iov iov = {(void *)(uintptr_t)data, len};
    const ssize_t written = r->below->ops->writev(r->below, &iov, 1);
    if (written < 0)
      return (int)written;
    data += written;
    len -= (size_t)written;
  }
  return len == 0 ? 0 : pu_fifo_push(&r->own, data, len);
}

/* say_last sends an alert or a farewell; who does not hear it takes the end below for one. */
static void say_last(tls_raw *r) {
  uint8_t bytes[LAST_MAX];
  const size_t n = ops->last(r->tls, bytes, sizeof bytes);
  if (n == 0)
    return;
  r->said_last = true;
  if (send(r, bytes, n) == 0)
    (void)flush_own(r);
}

static const char *why(const tls_raw *r, int status) {
  const char *text = ops->why(r->tls);
  return text != NULL ? text : pu_error_sentence(status);
}

/* end tells of the end, once; the receiver closes. */
static void end(tls_raw *r, int status, const char *detail) {
  if (r->state == TLS_ENDED || r->closed)
    return;
  const bool shaking = r->state == TLS_HANDSHAKE;
  r->state = TLS_ENDED;
  r->end_status = status;
  r->below->ops->want_read(r->below, false);
  if (shaking && r->on_ready != NULL)
    r->on_ready(r->ready_data, status, detail);
  else if (r->events != NULL)
    r->events->on_end(r->user, status);
}

/* broke ends the connection for an error of the session. */
static void broke(tls_raw *r, int status) {
  say_last(r);
  end(r, status, why(r, status));
}

/* pump_out sends what the session itself has to say. */
static int pump_out(tls_raw *r) {
  uint8_t bytes[4096];
  for (;;) {
    const ssize_t n = ops->write(r->tls, bytes, sizeof bytes);
    if (n <= 0)
      return (int)n;
    const int status = send(r, bytes, (size_t)n);
    if (status != 0)
      return status;
  }
}

static void tell_writable(tls_raw *r) {
  if (r->state != TLS_OPEN || r->closed || !r->want_write || r->own.len > 0)
    return;
  r->want_write = false;
  if (r->events != NULL)
    r->events->on_writable(r->user);
}

/* ---- reading ---- */

static void opened(tls_raw *r) {
  r->state = TLS_OPEN;
  if (r->on_ready != NULL)
    r->on_ready(r->ready_data, 0, "");
  if (r->closed)
    return;
  r->below->ops->want_read(r->below, r->want_read && r->events != NULL);
  tell_writable(r);
}

static void shake(tls_raw *r, pu_span *data) {
  const ssize_t n = ops->read(r->tls, data->data, data->len);
  int status = n < 0 ? (int)n : 0;
  if (status == 0) {
    pu_span_drop(data, (size_t)n);
    status = pump_out(r);
  }
  if (status != 0)
    broke(r, status);
  else if (ops->result(r->tls) != NULL)
    opened(r);
}

/* open_record opens the record in front of |in| and hands its payload on; returns its bytes, 0 when
 * it is not complete; after trouble all of |len|. */
static size_t open_record(tls_raw *r, uint8_t *in, size_t len) {
  pu_span plain;
  const ssize_t n = ops->open(r->tls, in, len, &plain);
  int status = n < 0 ? (int)n : 0;
  if (n == 0)
    return 0;
  if (n > 0)
    status = pump_out(r);
  if (status == PU_E_EOF)
    end(r, PU_E_EOF, "");
  else if (status != 0)
    broke(r, status);
  else if (plain.len > 0 && r->events == NULL) /* nobody wants it, and it cannot be put off */
    end(r, PU_E_PROTOCOL, "");
  else if (plain.len > 0)
    r->events->on_bytes(r->user, plain);
  return n < 0 ? len : (size_t)n;
}

/* carried opens the carried record if it is whole. */
static void carried(tls_raw *r) {
  uint8_t *record = r->carry;
  const size_t len = r->carry_len;
  r->carry = NULL;
  r->carry_len = 0;
  if (open_record(r, record, len) > 0 || r->closed) {
    pu_free(record);
    return;
  }
  r->carry = record;
  r->carry_len = len;
}

/* carry takes bytes of a record whose end has not come; returns how many. */
static size_t carry(tls_raw *r, const uint8_t *data, size_t len) {
  if (r->carry == NULL)
    r->carry = pu_alloc(r->mem, ops->max_record);
  if (r->carry == NULL) {
    end(r, PU_E_NOMEM, pu_error_sentence(PU_E_NOMEM));
    return len;
  }
  /* Up to the end of the header first: a record that is too long is refused by that. */
  size_t n = ops->need(r->tls, r->carry, r->carry_len);
  PU_ASSERT(n <= ops->max_record - r->carry_len);
  if (n > len)
    n = len;
  memcpy(r->carry + r->carry_len, data, n);
  r->carry_len += n;
  carried(r);
  return n;
}

static void on_bytes(void *user, pu_span data) {
  tls_raw *r = user;
  enter(r);
  while (data.len > 0 && r->state != TLS_ENDED && !r->closed) {
    if (r->state == TLS_HANDSHAKE) {
      shake(r, &data);
      continue;
    }
    size_t n = r->carry_len > 0 ? 0 : open_record(r, data.data, data.len);
    if (n == 0)
      n = carry(r, data.data, data.len);
    pu_span_drop(&data, n);
  }
  leave(r);
}

static size_t place(void *user, uint8_t **memory) {
  tls_raw *r = user;
  if (r->state != TLS_OPEN || r->carry_len == 0)
    return 0;
  *memory = r->carry + r->carry_len;
  return ops->need(r->tls, r->carry, r->carry_len);
}

static void on_placed(void *user, size_t len) {
  tls_raw *r = user;
  enter(r);
  r->carry_len += len;
  carried(r);
  leave(r);
}

static void on_writable(void *user) {
  tls_raw *r = user;
  enter(r);
  const int status = r->state == TLS_ENDED ? 0 : flush_own(r);
  if (status != 0)
    end(r, status, pu_error_sentence(status));
  else
    tell_writable(r);
  leave(r);
}

static void on_end(void *user, int status) {
  tls_raw *r = user;
  enter(r);
  end(r, status,
      status == PU_E_EOF ? "closed by the web server during the TLS handshake"
                         : pu_error_sentence(status));
  leave(r);
}

static const pu_raw_events below_events = {on_bytes, place, on_placed, on_writable, on_end};

/* ---- what the layer above calls ---- */

static void raw_set_events(pu_raw *base, const pu_raw_events *events, void *user) {
  tls_raw *r = (tls_raw *)base;
  r->events = events;
  r->user = user;
  if (r->state == TLS_OPEN)
    r->below->ops->want_read(r->below, r->want_read && events != NULL);
}

static void raw_want_read(pu_raw *base, bool on) {
  tls_raw *r = (tls_raw *)base;
  r->want_read = on;
  if (r->state == TLS_OPEN) /* the handshake reads in any case */
    r->below->ops->want_read(r->below, on && r->events != NULL);
}

/* Where a write has got to in the pieces it was given. */
typedef struct source {
  const pu_iov *iov;
  size_t n, skip;
} source;

/* copy_out copies up to |cap| bytes of the source. */
static size_t copy_out(source *s, uint8_t *out, size_t cap) {
  size_t len = 0;
  while (s->n > 0 && len < cap) {
    size_t n = s->iov->len - s->skip;
    if (n > cap - len)
      n = cap - len;
    if (n > 0)
      memcpy(out + len, (const uint8_t *)s->iov->base + s->skip, n);
    len += n;
    s->skip += n;
    if (s->skip < s->iov->len)
      break;
    s->iov++;
    s->n--;
    s->skip = 0;
  }
  return len;
}

/* seal_some seals and sends up to PIECES records; returns the payload bytes in them. */
static ssize_t seal_some(tls_raw *r, source *s) {
  uint8_t memory[PIECES * (PIECE_MAX + PU_SPAN_HEAD + PU_SPAN_TAIL)];
  size_t used = 0, taken = 0;
  PU_ASSERT(ops->head <= PU_SPAN_HEAD && ops->tail <= PU_SPAN_TAIL && PIECE_MAX <= ops->max_plain);
  int status = pump_out(r); /* a new key, perhaps */
  for (unsigned i = 0; i < PIECES && status == 0; i++) {
    pu_span io = {memory + used + ops->head, 0, ops->head, ops->tail};
    io.len = copy_out(s, io.data, PIECE_MAX);
    if (io.len == 0)
      break;
    taken += io.len;
    status = ops->seal(r->tls, &io);
    used += io.len; /* sealed, it is as long as the room it had, and the next one follows */
  }
  if (status == 0)
    status = send(r, memory, used);
  return status == 0 ? (ssize_t)taken : status;
}

static ssize_t raw_writev(pu_raw *base, const pu_iov *iov, size_t n) {
  tls_raw *r = (tls_raw *)base;
  source s = {iov, n, 0};
  size_t total = 0, taken = 0;
  for (size_t i = 0; i < n; i++)
    total += iov[i].len;
  if (r->state == TLS_ENDED)
    return r->end_status != PU_E_EOF ? r->end_status : PU_E_RESET;
  const int status = r->state == TLS_OPEN ? flush_own(r) : 0;
  if (status != 0)
    return status;
  while (r->state == TLS_OPEN && r->own.len == 0 && taken < total) {
    const ssize_t sealed = seal_some(r, &s);
    if (sealed < 0)
      return sealed;
    taken += (size_t)sealed;
  }
  if (taken < total)
    r->want_write = true;
  return (ssize_t)taken;
}

static void raw_close(pu_raw *base, bool abort) {
  tls_raw *r = (tls_raw *)base;
  if (r->closed)
    return;
  if (!abort && r->state != TLS_HANDSHAKE)
    say_last(r);
  r->closed = true;
  r->events = NULL;
  enter(r);
  r->below->ops->set_events(r->below, NULL, NULL);
  r->below->ops->close(r->below, abort && !r->said_last);
  r->below = NULL;
  ops->free(r->tls);
  pu_fifo_clear(&r->own);
  pu_free(r->carry);
  r->carry = NULL;
  leave(r);
}

static const pu_raw_ops raw_ops = {
    .set_events = raw_set_events,
    .want_read = raw_want_read,
    .writev = raw_writev,
    .close = raw_close,
};

int pu_tls_raw_new(const pu_tls_raw_config *config, pu_raw *below, pu_raw **out) {
  pu_mem *mem = config->session.mem;
  tls_raw *r = pu_zalloc(mem, sizeof *r);
  int status = r == NULL ? PU_E_NOMEM : pu_tls_web_start(config->web, &config->session, &r->tls);
  if (status != 0) {
    below->ops->close(below, true);
    pu_free(r);
    return status;
  }
  r->base.ops = &raw_ops;
  r->below = below;
  r->mem = mem;
  r->on_ready = config->on_ready;
  r->ready_data = config->data;
  pu_fifo_init(&r->own, mem, PU_TLS_RAW_OWN_MAX);
  below->ops->set_events(below, &below_events, r);
  below->ops->want_read(below, true);
  status = pump_out(r);
  if (status != 0) {
    raw_close(&r->base, true);
    return status;
  }
  *out = &r->base;
  return 0;
}
