/* The session of a raw connection: a channel (multistream, Noise or TLS: wire 4 to 7) and yamux on
 * it (wire 9). See session.h.
 *
 *   pu_upgrade_start --secured--> on_secured --muxer agreed--> on_open --> streams --> on_end
 *
 * Streams are yamux's own; what happens to one goes from yamux to the owner without a step between.
 * What is written travels where it lies if there is room around it for what the security protocol
 * adds. */
#include "transport/upgraded.h"

#include "platform/assert.h"

static pu_upgraded *of(pu_session *base) {
  return PU_CONTAINER_OF(base, pu_upgraded, base);
}

static const pu_upgraded *of_const(const pu_session *base) {
  return PU_CONTAINER_OF(base, const pu_upgraded, base);
}

static pu_yamux_stream *mux(pu_session_stream *st) {
  return (pu_yamux_stream *)st;
}

/* ---- end and time ---- */

static int end(pu_upgraded *u, int status, const char *why) {
  if (u->ended)
    return status;
  u->ended = true;
  pu_timer_stop(&u->timer);
  u->config.events->on_end(u->config.user, status, why);
  return status;
}

/* arm moves the timer only forward in need: a later deadline is found when it fires. It is called
 * where yamux's deadline may have come nearer: closing a stream, a ping. */
static void arm(pu_upgraded *u) {
  if (u->ended)
    return;
  const uint64_t at = pu_yamux_deadline(u->yamux);
  if (at != PU_NEVER && (!pu_timer_armed(&u->timer) || at < u->timer.at_us) &&
      pu_timer_at(&u->timer, at) != 0)
    (void)end(u, PU_E_NOMEM, "out of memory for a timer");
}

static void on_timer(void *data) {
  pu_upgraded *u = data;
  const uint64_t now = pu_now_us(u->config.platform);
  pu_channel_cork(&u->channel);
  if (now >= pu_yamux_deadline(u->yamux)) {
    int status = pu_yamux_expire(u->yamux, now);
    if (status != 0)
      (void)end(u, status, "the peer does not answer any more");
  }
  pu_channel_uncork(&u->channel);
  arm(u);
}

/* ---- yamux's callbacks ---- */

static int mux_output(void *user, pu_span *frame) {
  pu_upgraded *u = user;
  return pu_channel_send(&u->channel, frame, u->borrowing);
}

static int mux_on_stream(void *user, pu_yamux_stream *s, uint32_t *code) {
  pu_upgraded *u = user;
  if (u->ended)
    return PU_E_CLOSED;
  return u->config.events->on_stream(u->config.user, (pu_session_stream *)s, code);
}

static void mux_on_acked(void *user, void *stream_user) {
  pu_upgraded *u = user;
  (void)stream_user;
  if (!u->ended)
    u->config.events->on_room(u->config.user);
}

/* ---- what a closed session tells: nothing ---- */

static size_t quiet_data(void *stream_user, pu_span data) {
  (void)stream_user;
  return data.len;
}

static void quiet(void *stream_user) {
  (void)stream_user;
}

static void quiet_rest(void *stream_user, pu_fifo *rest, bool eof) {
  (void)stream_user;
  (void)rest;
  (void)eof;
}

static void quiet_reset(void *stream_user, int status, uint32_t code) {
  (void)stream_user;
  (void)status;
  (void)code;
}

/* ---- the channel's events ---- */

static int on_secured(void *user, const pu_security_result *result) {
  pu_upgraded *u = user;
  return u->config.events->on_secured(u->config.user, result);
}

static int on_open(void *user) {
  pu_upgraded *u = user;
  const pu_session_events *events = u->config.events;
  const uint64_t now = pu_now_us(u->config.platform);
  u->callbacks = (pu_yamux_callbacks){.output = mux_output,
                                      .on_stream = mux_on_stream,
                                      .on_acked = mux_on_acked,
                                      .on_data = events->on_data,
                                      .on_eof = events->on_eof,
                                      .on_writable = events->on_writable,
                                      .on_rest = events->on_rest,
                                      .on_reset = events->on_reset};
  const pu_yamux_config config = {
      .mem = u->config.mem,
      .client = u->config.initiator,
      .callbacks = &u->callbacks,
      .user = u,
      .max_streams_in = u->config.max_streams_in,
      .window_budget = u->config.window_budget,
      .max_payload = pu_channel_max_plain(&u->channel) - PU_YAMUX_HEADER,
      .keepalive = true,
  };
  int status = pu_yamux_new(&config, now, &u->yamux);
  if (status == 0)
    status = pu_yamux_start(u->yamux, now);
  if (status == 0)
    arm(u);
  if (u->ended)
    return PU_E_CLOSED;
  return status != 0 ? status : events->on_open(u->config.user);
}

static int on_plain(void *user, pu_span data) {
  pu_upgraded *u = user;
  if (u->ended)
    return PU_E_CLOSED;
  int status = pu_yamux_read(u->yamux, data, pu_now_us(u->config.platform));
  if (u->ended)
    return PU_E_CLOSED;
  if (status != 0)
    return end(u, status, status == PU_E_EOF ? "the peer said good-bye" : pu_yamux_why(u->yamux));
  return 0;
}

static void on_blocked(void *user, bool blocked) {
  pu_upgraded *u = user;
  if (u->ended || u->yamux == NULL)
    return;
  pu_channel_cork(&u->channel);
  pu_yamux_set_blocked(u->yamux, blocked);
  pu_channel_uncork(&u->channel);
}

static void on_channel_end(void *user, int status, const char *why) {
  (void)end(user, status, why);
}

static const pu_channel_events channel_events = {on_secured, on_open, on_plain, on_blocked,
                                                 on_channel_end};

/* ---- the session ---- */

static void info(const pu_session *base, pu_session_info *out) {
  const pu_upgraded *u = of_const(base);
  const pu_channel *c = &u->channel;
  *out = (pu_session_info){
      .security = c->security_ops == NULL            ? NULL
                  : c->security_ops == &pu_noise_ops ? "noise"
                                                     : "tls",
      .muxer = c->muxer != NULL ? "yamux" : NULL,
      .rtt_us = u->yamux != NULL ? pu_yamux_rtt_us(u->yamux) : 0,
      .bytes_in = c->bytes_in,
      .bytes_out = c->bytes_out,
  };
}

static void cork(pu_session *base) {
  pu_channel_cork(&of(base)->channel);
}

static void uncork(pu_session *base) {
  pu_channel_uncork(&of(base)->channel);
}

static void flush(pu_session *base) {
  pu_channel_flush(&of(base)->channel);
}

/* What yamux takes it hands on, so all that has not left waits in the channel. */
static uint64_t unsent(const pu_session *base) {
  return of_const(base)->channel.tx.len;
}

static void fail(pu_session *base, int status) {
  pu_upgraded *u = of(base);
  if (u->yamux != NULL)
    pu_yamux_fail(u->yamux, status);
}

/* The peer of an upgraded connection sees it end, whatever the |code|: yamux has no place for one
 * that all others understand. */
static void close_session(pu_session *base, uint32_t code, bool abort) {
  pu_upgraded *u = of(base);
  (void)code;
  u->ended = true;
  u->callbacks.on_data = quiet_data;
  u->callbacks.on_eof = u->callbacks.on_writable = quiet;
  u->callbacks.on_rest = quiet_rest;
  u->callbacks.on_reset = quiet_reset;
  pu_timer_stop(&u->timer);
  fail(base, PU_E_CLOSED);
  pu_channel_stop(&u->channel, abort);
}

static void free_session(pu_session *base) {
  pu_upgraded *u = of(base);
  PU_ASSERT(u->ended);
  pu_yamux_free(u->yamux);
  pu_free(u);
}

static size_t chunk(const pu_session *base) {
  return pu_channel_max_plain(&of_const(base)->channel) - PU_YAMUX_HEADER;
}

/* ---- streams ---- */

static int open_stream(pu_session *base, void *stream_user, pu_session_stream **out) {
  pu_upgraded *u = of(base);
  pu_yamux_stream *s;
  if (u->ended || u->yamux == NULL)
    return PU_E_CLOSED;
  int status = pu_yamux_open(u->yamux, stream_user, &s);
  if (status == 0)
    *out = (pu_session_stream *)s;
  return status;
}

static void set_user(pu_session_stream *st, void *stream_user) {
  pu_yamux_stream_set_user(mux(st), stream_user);
}

static size_t space(const pu_session *base, const pu_session_stream *st) {
  (void)base;
  return pu_yamux_stream_space((const pu_yamux_stream *)st);
}

static void wait(pu_session *base, pu_session_stream *st) {
  (void)base;
  pu_yamux_stream_wait(mux(st));
}

/* in_place says whether |io| travels where it lies: as one frame in one record, with room for all
 * that goes around. A part of the room would do for a part of the way, but then a frame could reach
 * into the one before it, which is still to be sent. */
static bool in_place(const pu_upgraded *u, const pu_span *io) {
  const pu_security_ops *ops = u->channel.security_ops;
  return io->head >= PU_YAMUX_HEADER + ops->head && io->tail >= ops->tail &&
         io->len <= chunk(&u->base);
}

static ssize_t write_stream(pu_session *base, pu_session_stream *st, pu_span io, bool borrowed) {
  pu_upgraded *u = of(base);
  if (in_place(u, &io)) {
    u->borrowing = borrowed;
  } else {
    io.head = io.tail = 0;
  }
  ssize_t n = pu_yamux_stream_write(mux(st), io);
  u->borrowing = false;
  return n;
}

static int write_now(pu_session *base, pu_session_stream *st, pu_span io) {
  (void)base;
  return pu_yamux_stream_write_now(mux(st), io);
}

static void resume(pu_session *base, pu_session_stream *st) {
  (void)base;
  pu_yamux_stream_resume(mux(st));
}

static int close_write(pu_session *base, pu_session_stream *st) {
  (void)base;
  return pu_yamux_stream_close_write(mux(st));
}

static void reset(pu_session *base, pu_session_stream *st, uint32_t code) {
  (void)base;
  pu_yamux_stream_reset(mux(st), code);
}

static void close_stream(pu_session *base, pu_session_stream *st) {
  pu_yamux_stream_close(mux(st));
  arm(of(base)); /* it lingers, but not for ever */
}

static const pu_session_ops upgraded_ops = {
    .info = info,
    .cork = cork,
    .uncork = uncork,
    .flush = flush,
    .unsent = unsent,
    .fail = fail,
    .close = close_session,
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

/* ---- beginning ---- */

static void random_bytes(void *data, void *out, size_t len) {
  pu_random(data, out, len);
}

int pu_upgrade_start(const pu_session_config *config, pu_raw *raw, pu_session **out) {
  pu_upgraded *u = pu_zalloc(config->mem, sizeof *u);
  if (u == NULL) {
    raw->ops->close(raw, true);
    return PU_E_NOMEM;
  }
  u->base.ops = &upgraded_ops;
  u->config = *config;
  pu_timer_init(&u->timer, config->platform, on_timer, u);
  const pu_channel_config channel = {.mem = config->mem,
                                     .initiator = config->initiator,
                                     .key = config->key,
                                     .tls = config->tls,
                                     .now_unix_s = pu_wall_ns(config->platform) / 1000000000u,
                                     .securities = config->securities,
                                     .security_count = config->security_count,
                                     .expected = config->expected,
                                     .random = random_bytes,
                                     .random_data = config->platform,
                                     .max_record = config->max_record,
                                     .events = &channel_events,
                                     .user = u};
  int status = pu_channel_start(&u->channel, &channel, raw);
  if (status != 0) {
    pu_free(u);
    return status;
  }
  *out = &u->base;
  return 0;
}
