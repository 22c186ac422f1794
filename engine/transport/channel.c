/* The upgrade of a raw connection and the records on it (wire 4 to 7). See channel.h.
 *
 *   SECURITY --offer accepted--> HANDSHAKE --result--> [MUXER --accepted-->] OPEN --> ENDED
 *
 * A handshake that agreed on a muxer skips MUXER. Whatever goes wrong ends the channel once. */
#include "transport/channel.h"

#include <stdio.h>
#include <string.h>

#include "mux/yamux.h"
#include "platform/assert.h"
#include "security/tls_identity.h"

#define HANDSHAKE_WRITE 4096u /* most bytes of one handshake write */

/* All security protocols; another one joins here. */
static const pu_security_ops *const protocols[] = {&pu_tls_ops, &pu_noise_ops};
static const char *const muxer_names[] = {PU_YAMUX_ID};

static const char *match_name(const char *const *names, size_t count, const char *offer,
                              size_t len) {
  for (size_t i = 0; i < count; i++)
    if (strlen(names[i]) == len && memcmp(names[i], offer, len) == 0)
      return names[i];
  return NULL;
}

static const char *match_security(void *data, const char *offer, size_t len) {
  const pu_channel *c = data;
  return match_name(c->securities, c->security_count, offer, len);
}

static const char *match_muxer(void *data, const char *offer, size_t len) {
  (void)data;
  return match_name(muxer_names, PU_COUNT(muxer_names), offer, len);
}

/* ---- end ---- */

/* say_last writes what the security protocol has to say at the end: its reason for a failure, or a
 * farewell. Only where nothing of ours waits, which it would overtake. Returns whether the peer
 * should get a chance to read it. */
static bool say_last(pu_channel *c, bool abort) {
  const pu_security_ops *ops = c->security_ops;
  uint8_t out[512];
  if (c->raw == NULL || c->security == NULL || ops->last == NULL)
    return false;
  const bool failed = ops->why(c->security) != NULL;
  if ((abort && !failed) || c->tx.len > 0 || c->iov_count > 0)
    return false;
  const pu_iov iov = {out, ops->last(c->security, out, sizeof out)};
  return iov.len > 0 && c->raw->ops->writev(c->raw, &iov, 1) == (ssize_t)iov.len;
}

static void release(pu_channel *c, bool abort) {
  if (say_last(c, abort))
    abort = false; /* a reset could overtake it */
  c->phase = PU_CHANNEL_ENDED;
  c->iov_count = c->iov_bytes = 0;
  c->borrowing = false;
  if (c->raw != NULL) {
    pu_raw *raw = c->raw;
    c->raw = NULL;
    c->raw_corked = false; /* closing uncorks */
    raw->ops->set_events(raw, NULL, NULL);
    raw->ops->close(raw, abort);
  }
  if (c->security != NULL)
    c->security_ops->free(c->security);
  c->security = NULL;
  pu_free(c->negotiation);
  c->negotiation = NULL;
  pu_free(c->carry);
  c->carry = NULL;
  c->carry_len = c->carry_size = 0;
  pu_free(c->arena);
  c->arena = NULL;
  pu_fifo_clear(&c->tx);
}

/* fail ends the channel and tells its owner; returns |status| for its callers to pass on. */
static int fail(pu_channel *c, int status, const char *why) {
  if (c->phase == PU_CHANNEL_ENDED)
    return status;
  /* A stream end is answered in kind, trouble with a reset, so that nothing lingers. */
  release(c, status != PU_E_EOF);
  c->config.events->on_end(c->config.user, status, why);
  return status;
}

void pu_channel_stop(pu_channel *c, bool abort) {
  if (c->phase != PU_CHANNEL_ENDED)
    release(c, abort);
}

/* ---- writing ---- */

static void set_blocked(pu_channel *c, bool blocked) {
  if (c->blocked == blocked)
    return;
  c->blocked = blocked;
  if (c->phase == PU_CHANNEL_OPEN)
    c->config.events->on_blocked(c->config.user, blocked);
}

static int queue_rest(pu_channel *c, const pu_iov *iov, size_t n, size_t skip) {
  for (size_t i = 0; i < n; i++) {
    if (skip >= iov[i].len) {
      skip -= iov[i].len;
      continue;
    }
    int status = pu_fifo_push(&c->tx, (const uint8_t *)iov[i].base + skip, iov[i].len - skip);
    if (status != 0)
      return status;
    skip = 0;
  }
  return 0;
}

static const char *queue_trouble(int status) {
  return status == PU_E_NOMEM ? "no memory for what waits to be sent" : "too much waits to be sent";
}

static int flush(pu_channel *c) {
  const size_t count = c->iov_count;
  size_t written = 0;
  c->iov_count = c->iov_bytes = 0;
  c->borrowing = false;
  if (count == 0)
    return 0;
  if (c->tx.len == 0) {
    ssize_t n = c->raw->ops->writev(c->raw, c->iovs, count);
    if (n < 0)
      return fail(c, (int)n, "write failed");
    written = (size_t)n;
    c->bytes_out += written;
  }
  int status = queue_rest(c, c->iovs, count, written);
  if (c->arena != NULL) {
    pu_free(c->arena);
    c->arena = NULL;
  }
  c->arena_used = 0;
  if (status != 0)
    return fail(c, status, queue_trouble(status));
  if (c->tx.len > 0)
    set_blocked(c, true);
  return 0;
}

static void on_raw_writable(void *user) {
  pu_channel *c = user;
  while (c->tx.len > 0) {
    pu_iov iov[16];
    const size_t n = pu_fifo_peek(&c->tx, iov, PU_COUNT(iov));
    ssize_t written = c->raw->ops->writev(c->raw, iov, n);
    if (written < 0) {
      (void)fail(c, (int)written, "write failed");
      return;
    }
    if (written == 0)
      return;
    c->bytes_out += (uint64_t)written;
    pu_fifo_drop(&c->tx, (size_t)written);
  }
  set_blocked(c, false);
}

static int pump_security(pu_channel *c);

static void cork_raw(pu_channel *c) {
  if (c->raw == NULL || c->raw_corked || c->raw->ops->cork == NULL)
    return;
  c->raw_corked = true;
  c->raw->ops->cork(c->raw);
}

static void uncork_raw(pu_channel *c) {
  if (c->raw == NULL || !c->raw_corked)
    return;
  c->raw_corked = false;
  c->raw->ops->uncork(c->raw);
}

void pu_channel_cork(pu_channel *c) {
  c->cork++;
  cork_raw(c);
}

void pu_channel_flush(pu_channel *c) {
  if (c->raw == NULL || (c->borrowing && flush(c) != 0))
    return;
  uncork_raw(c); /* what the raw connection has borrowed goes, too */
  if (c->cork > 0)
    cork_raw(c);
}

void pu_channel_uncork(pu_channel *c) {
  PU_ASSERT(c->cork > 0);
  if (c->cork == 1)
    (void)pump_security(c);
  if (--c->cork > 0 || c->raw == NULL)
    return;
  if (flush(c) == 0)
    uncork_raw(c);
}

/* send_raw sends bytes that are already what the wire wants. */
static int send_raw(pu_channel *c, const uint8_t *data, size_t len, bool borrowed) {
  if (c->iov_count == PU_CHANNEL_IOVS) {
    int status = flush(c);
    if (status != 0)
      return status;
  }
  if (borrowed && c->cork > 0) {
    c->iovs[c->iov_count++] = (pu_iov){(void *)(uintptr_t)data, len};
    c->iov_bytes += len;
    c->borrowing = true;
    return c->iov_bytes < PU_CHANNEL_BATCH ? 0 : flush(c);
  }
  if (c->cork > 0 && len <= PU_CHANNEL_SMALL) {
    if (c->arena == NULL)
      c->arena = pu_alloc(c->config.mem, PU_CHANNEL_ARENA);
    if (c->arena != NULL && c->arena_used + len <= PU_CHANNEL_ARENA) {
      uint8_t *copy = c->arena + c->arena_used;
      memcpy(copy, data, len);
      c->arena_used += len;
      pu_iov *last = c->iov_count > 0 ? &c->iovs[c->iov_count - 1] : NULL;
      if (last != NULL && (uint8_t *)last->base + last->len == copy)
        last->len += len; /* neighbours in the arena go as one piece */
      else
        c->iovs[c->iov_count++] = (pu_iov){copy, len};
      return 0;
    }
  }
  c->iovs[c->iov_count++] = (pu_iov){(void *)(uintptr_t)data, len};
  return flush(c);
}

/* security_trouble is what a failed security protocol says of it, or |otherwise|. */
static const char *security_trouble(const pu_channel *c, const char *otherwise) {
  const pu_security_ops *ops = c->security_ops;
  const char *why = c->security != NULL && ops->why != NULL ? ops->why(c->security) : NULL;
  return why != NULL ? why : otherwise;
}

/* pump_security writes what the security protocol has to say between records: TLS's new keys. */
static int pump_security(pu_channel *c) {
  uint8_t out[256];
  while (c->phase == PU_CHANNEL_MUXER || c->phase == PU_CHANNEL_OPEN) {
    const ssize_t n = c->security_ops->write(c->security, out, sizeof out);
    if (n < 0)
      return fail(c, (int)n, security_trouble(c, "cannot encrypt"));
    if (n == 0)
      return 0;
    const int status = send_raw(c, out, (size_t)n, false);
    if (status != 0)
      return status;
  }
  return 0;
}

size_t pu_channel_max_plain(const pu_channel *c) {
  const pu_security_ops *ops = c->security_ops;
  size_t most = ops->max_plain;
  if (c->config.max_record != 0 && c->config.max_record < most + ops->head + ops->tail)
    most = c->config.max_record - ops->head - ops->tail;
  return most;
}

/* send_copied sends a frame that lacks room around it, in pieces of the stack's size. */
static int send_copied(pu_channel *c, const pu_span *frame) {
  uint8_t memory[PU_SPAN_HEAD + 2048 + PU_SPAN_TAIL];
  for (size_t done = 0; done < frame->len;) {
    size_t n = frame->len - done < 2048 ? frame->len - done : 2048;
    pu_span io = {memory + PU_SPAN_HEAD, n, PU_SPAN_HEAD, PU_SPAN_TAIL};
    memcpy(io.data, frame->data + done, n);
    int status = c->security_ops->seal(c->security, &io);
    if (status != 0)
      return fail(c, status, security_trouble(c, "cannot encrypt"));
    status = send_raw(c, io.data, io.len, false);
    if (status != 0)
      return status;
    done += n;
  }
  return 0;
}

int pu_channel_send(pu_channel *c, pu_span *frame, bool borrowed) {
  const pu_security_ops *ops = c->security_ops;
  if (c->phase < PU_CHANNEL_MUXER || c->phase == PU_CHANNEL_ENDED)
    return PU_E_CLOSED;
  if (frame->head < ops->head || frame->tail < ops->tail || frame->len > pu_channel_max_plain(c))
    return send_copied(c, frame);
  int status = ops->seal(c->security, frame);
  if (status != 0)
    return fail(c, status, security_trouble(c, "cannot encrypt"));
  if (c->raw->ops->write_span == NULL || !borrowed || c->cork == 0)
    return send_raw(c, frame->data, frame->len, borrowed);
  /* A raw connection with headers of its own takes the record where it lies, behind what waits. */
  status = flush(c);
  if (status != 0)
    return status;
  const pu_iov iov = {frame->data, frame->len};
  ssize_t taken = c->tx.len > 0 ? 0 : c->raw->ops->write_span(c->raw, *frame);
  if (taken < 0)
    return fail(c, (int)taken, "write failed");
  c->bytes_out += (uint64_t)taken;
  status = queue_rest(c, &iov, 1, (size_t)taken);
  if (status != 0)
    return fail(c, status, queue_trouble(status));
  if (c->tx.len > 0)
    set_blocked(c, true);
  return 0;
}

/* ---- negotiation and handshake ---- */

static int write_plain(pu_channel *c, const uint8_t *data, size_t len) {
  uint8_t memory[PU_SPAN_HEAD + PU_MULTISTREAM_MAX_TOKEN + 64 + PU_SPAN_TAIL];
  PU_ASSERT(len <= PU_MULTISTREAM_MAX_TOKEN + 64);
  memcpy(memory + PU_SPAN_HEAD, data, len);
  pu_span io = {memory + PU_SPAN_HEAD, len, PU_SPAN_HEAD, PU_SPAN_TAIL};
  return pu_channel_send(c, &io, false);
}

/* pump_out writes what the negotiation or handshake has to say. */
static int pump_out(pu_channel *c) {
  uint8_t out[HANDSHAKE_WRITE];
  for (;;) {
    ssize_t n = 0;
    int status = 0;
    if (c->phase == PU_CHANNEL_HANDSHAKE)
      n = c->security_ops->write(c->security, out, sizeof out);
    else if (c->negotiation != NULL)
      n = (ssize_t)pu_multistream_write(c->negotiation, out, PU_MULTISTREAM_MAX_TOKEN);
    if (n < 0)
      return fail(c, (int)n, security_trouble(c, "the handshake failed"));
    if (n == 0)
      return 0;
    if (c->phase == PU_CHANNEL_MUXER)
      status = write_plain(c, out, (size_t)n);
    else
      status = send_raw(c, out, (size_t)n, false);
    if (status != 0)
      return status;
  }
}

static int begin_negotiation(pu_channel *c, const char *const *names, size_t count,
                             pu_multistream_match match, bool lazy) {
  c->negotiation = pu_alloc(c->config.mem, sizeof *c->negotiation);
  if (c->negotiation == NULL)
    return fail(c, PU_E_NOMEM, "out of memory");
  if (c->config.initiator)
    pu_multistream_dial(c->negotiation, names, count, lazy);
  else
    pu_multistream_listen(c->negotiation, match, c);
  return pump_out(c);
}

static int open_channel(pu_channel *c) {
  pu_free(c->negotiation);
  c->negotiation = NULL;
  c->phase = PU_CHANNEL_OPEN;
  int status = c->config.events->on_open(c->config.user);
  if (status != 0)
    return fail(c, status, "cannot begin multiplexing");
  if (c->phase == PU_CHANNEL_OPEN && c->tx.len > 0) {
    c->blocked = false;
    set_blocked(c, true);
  }
  return 0;
}

static int after_handshake(pu_channel *c) {
  const pu_security_result *result = c->security_ops->result(c->security);
  if (result == NULL)
    return 0;
  c->phase = PU_CHANNEL_MUXER;
  int status = c->config.events->on_secured(c->config.user, result);
  if (c->phase == PU_CHANNEL_ENDED)
    return PU_E_CLOSED;
  if (status != 0)
    return fail(c, status, "denied by policy");
  if (result->muxer[0] != '\0') {
    c->muxer = match_name(muxer_names, PU_COUNT(muxer_names), result->muxer, strlen(result->muxer));
    if (c->muxer == NULL)
      return fail(c, PU_E_PROTOCOL, "an unknown muxer was chosen");
    return open_channel(c);
  }
  return begin_negotiation(c, muxer_names, PU_COUNT(muxer_names), match_muxer, false);
}

/* start_security makes the session of the protocol |name|. */
static int start_security(pu_channel *c, const char *name) {
  for (size_t i = 0; i < PU_COUNT(protocols); i++)
    if (strcmp(protocols[i]->id, name) == 0)
      c->security_ops = protocols[i];
  const pu_security_config config = {.mem = c->config.mem,
                                     .initiator = c->config.initiator,
                                     .key = c->config.key,
                                     .tls = c->config.tls,
                                     .now_unix_s = c->config.now_unix_s,
                                     .expected = c->config.expected,
                                     .muxers = muxer_names,
                                     .muxer_count = PU_COUNT(muxer_names),
                                     .random = c->config.random,
                                     .random_data = c->config.random_data};
  return c->security_ops->start(&config, &c->security);
}

static int begin_handshake(pu_channel *c, const char *name) {
  /* An initiator with a single offer has begun already. */
  int status = c->security != NULL ? 0 : start_security(c, name);
  if (status != 0)
    return fail(c, status, "cannot begin the handshake");
  pu_free(c->negotiation);
  c->negotiation = NULL;
  c->phase = PU_CHANNEL_HANDSHAKE;
  return pump_out(c);
}

/* negotiate feeds a multistream negotiation; on success |*used| says how many bytes were its. */
static int negotiate(pu_channel *c, const uint8_t *in, size_t len, size_t *used) {
  *used = 0;
  while (pu_multistream_state_of(c->negotiation) == PU_MS_RUNNING) {
    ssize_t n = pu_multistream_read(c->negotiation, in + *used, len - *used);
    if (n < 0) {
      const bool security = c->phase == PU_CHANNEL_SECURITY;
      return fail(c, (int)n,
                  n != PU_E_UNSUPPORTED ? "negotiation failed"
                  : security            ? "the peer speaks none of our security protocols"
                                        : "the peer speaks none of our muxers");
    }
    *used += (size_t)n;
    int status = pump_out(c);
    if (status != 0)
      return status;
    if (n == 0 && (*used == len || pu_multistream_state_of(c->negotiation) != PU_MS_RUNNING))
      break;
    if (*used == len)
      break;
  }
  return 0;
}

/* ---- reading ---- */

static int feed_plain(pu_channel *c, pu_span plain) {
  if (c->phase == PU_CHANNEL_MUXER) {
    size_t used;
    int status = negotiate(c, plain.data, plain.len, &used);
    if (status != 0 || c->phase != PU_CHANNEL_MUXER)
      return status;
    if (pu_multistream_state_of(c->negotiation) != PU_MS_DONE)
      return 0;
    c->muxer = pu_multistream_protocol(c->negotiation);
    status = open_channel(c);
    if (status != 0)
      return status;
    pu_span_drop(&plain, used);
  }
  if (plain.len == 0)
    return 0;
  int status = c->config.events->on_plain(c->config.user, plain);
  return status == 0 || c->phase == PU_CHANNEL_ENDED ? status
                                                     : fail(c, status, "multiplexing failed");
}

/* open_record decrypts the complete record in front of |in|; returns its bytes, or 0 when more are
 * needed, or an error that has ended the channel. */
static ssize_t open_record(pu_channel *c, uint8_t *in, size_t len) {
  pu_span plain;
  ssize_t n = c->security_ops->open(c->security, in, len, &plain);
  if (n == PU_E_EOF)
    return fail(c, (int)n, "closed by the peer");
  if (n < 0)
    return fail(c, (int)n, security_trouble(c, "a record does not decrypt"));
  if (n == 0)
    return 0;
  if (plain.len ==
      0) { /* it may have been for the security protocol, which answers before we go on */
    const int status = pump_security(c);
    return status == 0 ? n : status;
  }
  /* What is around the payload belonged to this record and is free now. */
  plain.head = (size_t)(plain.data - in);
  plain.tail = (size_t)n - plain.head - plain.len;
  int status = feed_plain(c, plain);
  return status == 0 ? (c->phase == PU_CHANNEL_ENDED ? PU_E_CLOSED : n) : status;
}

static int keep(pu_channel *c, const uint8_t *in, size_t len) {
  const size_t size = c->carry_len + len;
  if (c->carry_size == 0) {
    const size_t need = c->security_ops->need(c->security, in, len);
    uint8_t *carry = pu_alloc(c->config.mem, len + need);
    if (carry == NULL)
      return fail(c, PU_E_NOMEM, "out of memory for a record");
    c->carry = carry;
    c->carry_size = len + need;
  }
  PU_ASSERT(size <= c->carry_size);
  memcpy(c->carry + c->carry_len, in, len);
  c->carry_len = size;
  return 0;
}

/* carry_complete handles a carry whose |carry_size| bytes are there: either they are a whole
 * record, or just its length, and the rest can be sized now. */
static int carry_complete(pu_channel *c) {
  const size_t need = c->security_ops->need(c->security, c->carry, c->carry_len);
  uint8_t *record = c->carry;
  const size_t len = c->carry_len;
  c->carry = NULL;
  c->carry_len = c->carry_size = 0;
  ssize_t n = open_record(c, record, len);
  if (n == 0) {
    uint8_t *grown = pu_realloc(c->config.mem, record, len + need);
    if (grown == NULL) {
      pu_free(record);
      return fail(c, PU_E_NOMEM, "out of memory for a record");
    }
    c->carry = grown;
    c->carry_len = len;
    c->carry_size = len + need;
    return 0;
  }
  pu_free(record);
  return n < 0 ? (int)n : 0;
}

static int read_records(pu_channel *c, uint8_t *in, size_t len) {
  while (len > 0) {
    if (c->carry_len > 0) {
      size_t n = c->carry_size - c->carry_len;
      if (n > len)
        n = len;
      int status = keep(c, in, n);
      in += n;
      len -= n;
      if (status == 0 && c->carry_len == c->carry_size)
        status = carry_complete(c);
      if (status != 0)
        return status;
      continue;
    }
    ssize_t n = open_record(c, in, len);
    if (n < 0)
      return (int)n;
    if (n == 0)
      return keep(c, in, len);
    in += n;
    len -= (size_t)n;
  }
  return 0;
}

static void on_raw_bytes(void *user, pu_span data) {
  pu_channel *c = user;
  int status = 0;
  c->bytes_in += data.len;
  pu_channel_cork(c);
  while (status == 0 && data.len > 0 && c->phase < PU_CHANNEL_MUXER) {
    size_t used = 0;
    if (c->phase == PU_CHANNEL_SECURITY) {
      status = negotiate(c, data.data, data.len, &used);
      if (status == 0 && pu_multistream_state_of(c->negotiation) == PU_MS_DONE)
        status = begin_handshake(c, pu_multistream_protocol(c->negotiation));
    } else {
      ssize_t n = c->security_ops->read(c->security, data.data, data.len);
      if (n < 0)
        status = fail(c, (int)n,
                      n == PU_E_PEER_MISMATCH ? "another peer answered"
                                              : security_trouble(c, "the handshake failed"));
      else
        used = (size_t)n;
      if (status == 0)
        status = pump_out(c);
      if (status == 0)
        status = after_handshake(c);
    }
    pu_span_drop(&data, used);
  }
  if (status == 0 && data.len > 0 && c->phase != PU_CHANNEL_ENDED)
    status = read_records(c, data.data, data.len);
  pu_channel_uncork(c);
}

static size_t raw_place(void *user, uint8_t **memory) {
  pu_channel *c = user;
  if (c->phase < PU_CHANNEL_MUXER || c->carry_len == 0)
    return 0;
  *memory = c->carry + c->carry_len;
  return c->carry_size - c->carry_len;
}

static void on_raw_placed(void *user, size_t len) {
  pu_channel *c = user;
  c->bytes_in += len;
  c->carry_len += len;
  PU_ASSERT(c->carry_len <= c->carry_size);
  if (c->carry_len < c->carry_size)
    return;
  pu_channel_cork(c);
  (void)carry_complete(c);
  pu_channel_uncork(c);
}

static void on_raw_end(void *user, int status) {
  pu_channel *c = user;
  static const char *const during[] = {"while negotiating security", "during the handshake",
                                       "while negotiating the muxer", "", ""};
  char why[96];
  if (c->phase == PU_CHANNEL_OPEN)
    (void)snprintf(why, sizeof why, "%s",
                   status == PU_E_EOF ? "closed by the peer" : pu_error_sentence(status));
  else
    (void)snprintf(why, sizeof why, "%s %s",
                   status == PU_E_EOF ? "closed by the peer" : pu_error_sentence(status),
                   during[c->phase]);
  (void)fail(c, status, why);
}

static const pu_raw_events channel_raw_events = {
    .on_bytes = on_raw_bytes,
    .place = raw_place,
    .on_placed = on_raw_placed,
    .on_writable = on_raw_writable,
    .on_end = on_raw_end,
};

/* choose_securities fills the list of what is offered or accepted. */
static int choose_securities(pu_channel *c) {
  static const char *const tls_first[] = {"/tls/1.0.0", "/noise"};
  static const char *const noise_first[] = {"/noise", "/tls/1.0.0"};
  const pu_channel_config *config = &c->config;
  const char *const *names = config->securities;
  size_t count = config->security_count;
  if (names == NULL) {
    names = pu_tls_is_fast() ? tls_first : noise_first;
    count = PU_COUNT(tls_first);
  }
  for (size_t i = 0; i < count; i++) {
    const pu_security_ops *ops = NULL;
    for (size_t k = 0; k < PU_COUNT(protocols); k++)
      if (strcmp(protocols[k]->id, names[i]) == 0)
        ops = protocols[k];
    const bool without = ops == &pu_tls_ops && config->tls == NULL;
    if (without && config->securities == NULL)
      continue;
    if (without || ops == NULL || c->security_count == PU_COUNT(c->securities))
      return PU_E_INVAL;
    c->securities[c->security_count++] = ops->id;
  }
  return c->security_count > 0 ? 0 : PU_E_INVAL;
}

int pu_channel_start(pu_channel *c, const pu_channel_config *config, pu_raw *raw) {
  *c = (pu_channel){.config = *config, .raw = raw, .phase = PU_CHANNEL_SECURITY};
  uint8_t out[HANDSHAKE_WRITE];
  pu_fifo_init(&c->tx, config->mem, PU_CHANNEL_TX_MAX);
  int status = choose_securities(c);
  /* With one protocol to offer, its first message goes with the offer: that saves a round trip, and
   * a peer that refuses it is of no use anyway. With several the peer may take another one. */
  const bool pipelined = config->initiator && c->security_count == 1;
  if (status != 0)
    goto fail;
  status = PU_E_NOMEM;
  c->negotiation = pu_alloc(config->mem, sizeof *c->negotiation);
  if (c->negotiation == NULL)
    goto fail;
  if (config->initiator)
    pu_multistream_dial(c->negotiation, c->securities, c->security_count, pipelined);
  else
    pu_multistream_listen(c->negotiation, match_security, c);
  size_t len = pu_multistream_write(c->negotiation, out, sizeof out);
  if (pipelined) {
    status = start_security(c, c->securities[0]);
    if (status != 0)
      goto fail;
    ssize_t n = c->security_ops->write(c->security, out + len, sizeof out - len);
    status = (int)n;
    if (n < 0)
      goto fail;
    len += (size_t)n;
  }
  raw->ops->set_events(raw, &channel_raw_events, c);
  raw->ops->want_read(raw, true);
  /* The first write cannot end the channel through on_end: the owner has not returned yet. */
  const pu_iov iov = {out, len};
  ssize_t written = raw->ops->writev(raw, &iov, 1);
  status = written < 0 ? (int)written : queue_rest(c, &iov, 1, (size_t)written);
  if (status != 0)
    goto fail;
  c->bytes_out += (uint64_t)written;
  c->blocked = c->tx.len > 0;
  return 0;
fail:
  release(c, true);
  return status;
}
