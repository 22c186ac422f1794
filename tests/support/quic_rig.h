/* Two ends of QUIC for tests, in the simulated network or on real sockets: each end keeps what its
 * sessions and streams were told. */
#ifndef PU_TESTS_QUIC_RIG_H
#define PU_TESTS_QUIC_RIG_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "security/tls_identity.h"
#include "transport/quic.h"

#define RIG_STREAMS 64
#define RIG_SESSIONS 256

typedef struct rig_end rig_end;
typedef struct rig_session rig_session;

typedef struct rig_stream {
  rig_session *session;
  pu_session_stream *st;
  uint64_t received, want_received; /* bytes */
  uint64_t to_send, sent;
  uint64_t hash_in, hash_out;    /* of the position and value of each byte */
  bool eof, ended, closed, hold; /* hold: take nothing */
  bool close_when_sent, echo;
  int status;
  uint32_t code;
} rig_stream;

struct rig_session {
  rig_end *end;
  pu_session *session;
  pu_mem mem;
  bool secured, open, ended, closed;
  int status;
  char why[128];
  pu_peer_id peer;
  rig_stream streams[RIG_STREAMS];
  size_t stream_count;
  unsigned rooms, paths;
};

struct rig_end {
  pu_platform *platform;
  pu_mem mem;
  pu_key *key;
  pu_tls_identity *tls;
  pu_quic *quic;
  pu_sockaddr address;
  rig_session *sessions[RIG_SESSIONS];
  size_t session_count;
  pu_peer_id expected;                    /* of dials; len 0: any */
  int refuse;                             /* discard inbound connections with this status */
  int secured_says;                       /* what on_secured answers */
  bool serve_echo;                        /* inbound streams are sent back */
  bool stop;                              /* a condition for the simulated network's run */
  size_t preauth_limit;                   /* 0: 64 KiB */
  uint64_t fail_at;                       /* fail this allocation of a connection */
  void (*on_writable)(void *stream_user); /* instead of the rig's own */
  size_t (*on_data)(void *stream_user, pu_span io);
};

static inline uint64_t rig_mix(uint64_t h, uint64_t at, const uint8_t *data, size_t len) {
  for (size_t i = 0; i < len; i++)
    h += (at + i + 1) * 0x9e3779b97f4a7c15u * ((uint64_t)data[i] + 1);
  return h;
}

static inline uint8_t rig_byte(uint64_t at) {
  return (uint8_t)((at * 2654435761u) >> 13);
}

/* rig_pump writes what a stream still has to send. */
static inline void rig_pump(rig_stream *r) {
  static uint8_t block[65536];
  const pu_session_ops *ops = r->session->session->ops;
  while (!r->ended && !r->closed && r->sent < r->to_send) {
    size_t n = ops->space(r->session->session, r->st);
    if (n == 0) {
      ops->wait(r->session->session, r->st);
      return;
    }
    if (n > sizeof block)
      n = sizeof block;
    if (n > r->to_send - r->sent)
      n = (size_t)(r->to_send - r->sent);
    for (size_t i = 0; i < n; i++)
      block[i] = rig_byte(r->sent + i);
    ssize_t taken = ops->write(r->session->session, r->st, pu_span_of(block, n), false);
    if (taken < 0) {
      r->status = (int)taken;
      return;
    }
    r->hash_out = rig_mix(r->hash_out, r->sent, block, (size_t)taken);
    r->sent += (uint64_t)taken;
    if ((size_t)taken < n)
      return;
  }
  if (!r->ended && !r->closed && r->close_when_sent && r->sent == r->to_send) {
    r->close_when_sent = false;
    (void)ops->close_write(r->session->session, r->st);
  }
}

static inline int rig_on_secured(void *user, const pu_security_result *result) {
  rig_session *s = user;
  PU_ASSERT(!s->secured && !s->ended);
  s->secured = true;
  s->peer = result->peer;
  return s->end->secured_says;
}

static inline int rig_on_open(void *user) {
  rig_session *s = user;
  PU_ASSERT(s->secured && !s->open && !s->ended);
  s->open = true;
  s->mem.limit = PU_MEM_UNLIMITED;
  s->end->stop = true;
  return 0;
}

static inline int rig_on_stream(void *user, pu_session_stream *st, uint32_t *code) {
  rig_session *s = user;
  PU_ASSERT(s->open && !s->ended);
  if (s->stream_count == RIG_STREAMS) {
    *code = 0x1002;
    return PU_E_LIMIT;
  }
  rig_stream *r = &s->streams[s->stream_count++];
  *r = (rig_stream){.session = s, .st = st, .echo = s->end->serve_echo};
  s->session->ops->set_user(st, r);
  return 0;
}

static inline void rig_on_room(void *user) {
  ((rig_session *)user)->rooms++;
}

static inline size_t rig_on_data(void *user, pu_span io) {
  rig_stream *r = user;
  PU_ASSERT(!r->ended && !r->closed && !r->eof);
  if (r->session->end->on_data != NULL)
    return r->session->end->on_data(user, io);
  if (r->hold)
    return 0;
  r->hash_in = rig_mix(r->hash_in, r->received, io.data, io.len);
  size_t taken = io.len;
  if (r->echo) {
    ssize_t n = r->session->session->ops->write(r->session->session, r->st, io, false);
    PU_ASSERT(n >= 0 || n == PU_E_NOMEM || n == PU_E_CLOSED);
    taken = n >= 0 ? (size_t)n : io.len;
  }
  r->received += taken;
  if (r->want_received != 0 && r->received >= r->want_received)
    r->session->end->stop = true;
  /* The room around is the receiver's. */
  memset(io.data - io.head, 0xee, io.head + taken);
  if (taken == io.len)
    memset(io.data + io.len, 0xee, io.tail);
  return taken;
}

static inline void rig_on_eof(void *user) {
  rig_stream *r = user;
  PU_ASSERT(!r->eof && !r->ended && !r->closed);
  r->eof = true;
  if (r->echo)
    (void)r->session->session->ops->close_write(r->session->session, r->st);
  r->session->end->stop = true;
}

static inline void rig_on_writable(void *user) {
  rig_stream *r = user;
  if (r->session->end->on_writable != NULL) {
    r->session->end->on_writable(user);
    return;
  }
  if (r->echo)
    r->session->session->ops->resume(r->session->session, r->st);
  rig_pump(r);
}

static inline void rig_on_reset(void *user, int status, uint32_t code) {
  rig_stream *r = user;
  PU_ASSERT(!r->ended && !r->closed);
  r->ended = true;
  r->status = status;
  r->code = code;
  r->session->end->stop = true;
}

static inline void rig_end_session(rig_session *s, uint32_t code) {
  if (s->closed || s->session == NULL)
    return;
  s->closed = true;
  (s->session->ops->fail)(s->session, PU_E_GONE); /* cmocka has a macro of that name */
  s->session->ops->close(s->session, code, false);
}

static inline void rig_on_end(void *user, int status, const char *why) {
  rig_session *s = user;
  PU_ASSERT(!s->ended);
  s->ended = true;
  s->status = status;
  (void)snprintf(s->why, sizeof s->why, "%s", why);
  s->end->stop = true;
  rig_end_session(s, status == PU_E_DENIED ? 0x1007 : status == PU_E_LIMIT ? 0x1001 : 0);
}

static inline void rig_on_path(void *user, const pu_sockaddr *local, const pu_sockaddr *remote) {
  (void)local;
  (void)remote;
  ((rig_session *)user)->paths++;
}

static const pu_session_events rig_events = {
    rig_on_secured,  rig_on_open, rig_on_stream, rig_on_room, rig_on_data, rig_on_eof,
    rig_on_writable, NULL,        rig_on_reset,  rig_on_end,  rig_on_path,
};

/* rig_start starts |native| as a session of |end|; NULL when it fails, and |*status| why. */
static inline rig_session *rig_start(rig_end *end, pu_native *native, bool initiator, int *status) {
  rig_session *s = calloc(1, sizeof *s);
  PU_ASSERT(s != NULL && end->session_count < RIG_SESSIONS);
  s->end = end;
  pu_mem_init(&s->mem, NULL, end->preauth_limit != 0 ? end->preauth_limit : PU_QUIC_PREAUTH_BYTES);
  if (end->fail_at != 0)
    pu_mem_fail_at(&s->mem, end->fail_at);
  const pu_session_config config = {.mem = &s->mem,
                                    .platform = end->platform,
                                    .initiator = initiator,
                                    .key = end->key,
                                    .tls = end->tls,
                                    .expected = initiator ? &end->expected : NULL,
                                    .max_streams_in = RIG_STREAMS,
                                    .window_budget = 64u << 20,
                                    .events = &rig_events,
                                    .user = s};
  *status = native->ops->start(native, &config, &s->session);
  if (*status != 0) {
    pu_mem_deinit(&s->mem);
    free(s);
    return NULL;
  }
  end->sessions[end->session_count++] = s;
  return s;
}

static inline void rig_on_accept(void *data, const pu_transport_conn *conn) {
  rig_end *end = data;
  int status;
  if (end->refuse != 0 || end->session_count == RIG_SESSIONS)
    conn->native->ops->discard(conn->native, end->refuse);
  else
    (void)rig_start(end, conn->native, false, &status);
}

static inline void rig_begin(rig_end *end, pu_platform *platform, uint8_t seed,
                             pu_quic_congestion congestion) {
  uint8_t bytes[32];
  memset(bytes, seed, sizeof bytes);
  *end = (rig_end){.platform = platform};
  pu_mem_init(&end->mem, NULL, PU_MEM_UNLIMITED);
  PU_ASSERT(pu_key_from_seed(bytes, &end->key) == 0);
  PU_ASSERT(
      pu_tls_identity_new(&end->mem, end->key, pu_wall_ns(platform) / 1000000000u, &end->tls) == 0);
  const pu_quic_config config = {.mem = &end->mem,
                                 .platform = platform,
                                 .key = end->key,
                                 .congestion = congestion,
                                 .on_accept = rig_on_accept,
                                 .data = end};
  PU_ASSERT(pu_quic_new(&config, &end->quic) == 0);
}

/* rig_reap frees the sessions that have been closed; not inside an event. */
static inline void rig_reap(rig_end *end) {
  size_t kept = 0;
  for (size_t i = 0; i < end->session_count; i++) {
    rig_session *s = end->sessions[i];
    if (!s->closed) {
      end->sessions[kept++] = s;
      continue;
    }
    s->session->ops->free(s->session);
    pu_mem_deinit(&s->mem);
    free(s);
  }
  end->session_count = kept;
}

static inline void rig_finish(rig_end *end) {
  for (size_t i = 0; i < end->session_count; i++)
    rig_end_session(end->sessions[i], 0);
  rig_reap(end);
  pu_quic_transport(end->quic)->ops->free(pu_quic_transport(end->quic));
  pu_tls_identity_free(end->tls);
  pu_key_free(end->key);
  pu_mem_deinit(&end->mem);
}

typedef struct rig_dialled {
  rig_end *end;
  rig_session *session;
  int status;
  bool done;
} rig_dialled;

static inline void rig_on_dialled(void *data, int status, const char *detail,
                                  const pu_transport_conn *conn) {
  rig_dialled *d = data;
  (void)detail;
  d->done = true;
  d->status = status;
  if (status == 0)
    d->session = rig_start(d->end, conn->native, true, &d->status);
}

/* rig_dial begins a dial to |to|; the session is in |out| after the loop's next turn. */
static inline void rig_dial(rig_end *end, const pu_sockaddr *to, rig_dialled *out) {
  pu_transport *t = pu_quic_transport(end->quic);
  const pu_ma_target target = {
      .kind = PU_MA_KIND_QUIC, .addr = *to, .port = to->port, .family = to->family};
  pu_transport_dial *dial;
  *out = (rig_dialled){.end = end};
  PU_ASSERT(t->ops->dial(t, NULL, &target, rig_on_dialled, out, &dial) == 0);
}

static inline rig_stream *rig_open(rig_session *s, int *status) {
  PU_ASSERT(s->stream_count < RIG_STREAMS);
  rig_stream *r = &s->streams[s->stream_count];
  *r = (rig_stream){.session = s};
  *status = s->session->ops->open(s->session, r, &r->st);
  if (*status != 0)
    return NULL;
  s->stream_count++;
  return r;
}

#endif
