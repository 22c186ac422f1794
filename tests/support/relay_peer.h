/* The other side of circuit relay, by hand: streams whose messages a test writes and reads itself.
 */
#ifndef PU_TESTS_RELAY_PEER_H
#define PU_TESTS_RELAY_PEER_H

#include "protocols/relay_message.h"
#include "support/sim_hosts.h"
#include "swarm/stream.h"

#define RELAY_PEER_BYTES 65536u

/* A stream of hop or stop: first a message, then raw bytes. */
typedef struct relay_peer {
  sim_host *host;
  pu_stream *stream; /* NULL before and after */
  bool stop;         /* which protocol it reads */
  int open_status;
  bool opened, done, eof, ended, paused;
  int status; /* of the end */
  uint32_t code;
  int rc; /* of reading the message */
  pu_relay_reader reader;
  pu_relay_message m; /* valid when |done| */
  uint8_t raw[RELAY_PEER_BYTES];
  size_t raw_len;
  uint64_t raw_total;
  uint8_t send[256]; /* written as soon as the stream is open */
  size_t send_len;
} relay_peer;

static inline size_t relay_peer_on_data(void *user, pu_stream *s, uint8_t *data, size_t len,
                                        size_t head, size_t tail) {
  relay_peer *p = user;
  size_t used = 0;
  (void)s;
  (void)head;
  (void)tail;
  if (p->paused)
    return 0;
  if (!p->done && p->rc == 0) {
    ssize_t n = pu_relay_reader_feed(&p->reader, data, len, &p->done);
    if (n < 0)
      p->rc = (int)n;
    else
      used = (size_t)n;
    if (p->done)
      p->rc = pu_relay_reader_decode(&p->reader, p->stop, &p->m);
  }
  p->raw_total += len - used;
  const size_t room = sizeof(p->raw) - p->raw_len;
  const size_t keep = len - used < room ? len - used : room;
  memcpy(p->raw + p->raw_len, data + used, keep);
  p->raw_len += keep;
  return len;
}

static inline void relay_peer_on_eof(void *user, pu_stream *s) {
  relay_peer *p = user;
  (void)s;
  p->eof = true;
}

static inline void relay_peer_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  relay_peer *p = user;
  (void)s;
  p->ended = true;
  p->stream = NULL;
  p->status = status;
  p->code = code;
}

static const pu_stream_events relay_peer_events = {relay_peer_on_data, relay_peer_on_eof, NULL,
                                                   relay_peer_on_end};

/* relay_peer_write writes all of it, at most a window. */
static inline void relay_peer_write(relay_peer *p, const void *data, size_t len) {
  const uint8_t *at = data;
  while (len > 0) {
    const size_t n = len < PU_STREAM_NOW_MAX ? len : PU_STREAM_NOW_MAX;
    int rc = p->stream != NULL ? pu_stream_write_now(p->stream, at, n) : PU_E_CLOSED;
    SIM_CHECK(rc == 0, "write: %s", pu_error_sentence(rc));
    at += n;
    len -= n;
  }
}

/* relay_peer_say writes a message. */
static inline void relay_peer_say(relay_peer *p, const pu_relay_message *m) {
  uint8_t out[PU_RELAY_MESSAGE_MAX + 2];
  ssize_t len = pu_relay_encode(m, out, sizeof(out));
  SIM_CHECK(len > 0, "cannot encode");
  relay_peer_write(p, out, (size_t)len);
}

static inline void relay_peer_on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  relay_peer *p = data;
  (void)err;
  p->opened = true;
  p->open_status = status;
  p->stream = s;
  if (s == NULL)
    return;
  pu_stream_set_events(s, &relay_peer_events, p);
  if (p->send_len > 0)
    relay_peer_write(p, p->send, p->send_len);
}

/* relay_peer_open opens a hop stream from |host| to |relay| and writes |m| (NULL: nothing). */
static inline void relay_peer_open(relay_peer *p, sim_host *host, const sim_host *relay,
                                   const pu_relay_message *m) {
  static const char *const protocols[] = {PU_RELAY_HOP_ID};
  *p = (relay_peer){.host = host};
  if (m != NULL) {
    ssize_t len = pu_relay_encode(m, p->send, sizeof(p->send));
    SIM_CHECK(len > 0, "cannot encode");
    p->send_len = (size_t)len;
  }
  int rc = pu_engine_open_stream(host->engine, &relay->id, protocols, 1, 0, 0, relay_peer_on_open,
                                 p, NULL);
  SIM_CHECK(rc == 0, "open: %s", pu_error_sentence(rc));
}

static inline void relay_peer_close(relay_peer *p) {
  pu_stream *s = p->stream;
  p->stream = NULL;
  if (s != NULL)
    pu_stream_close(s);
}

static inline void relay_peer_reset(relay_peer *p) {
  pu_stream *s = p->stream;
  p->stream = NULL;
  if (s != NULL)
    pu_stream_reset(s, 0);
}

/* Serves stop streams in the place of a host's own client. */
typedef struct relay_stops {
  relay_peer peers[32];
  size_t count;
  bool paused; /* new ones read nothing */
} relay_stops;

static inline int relay_stops_take(void *data, pu_stream *s) {
  relay_stops *t = data;
  SIM_CHECK(t->count < sizeof(t->peers) / sizeof(t->peers[0]), "too many stop streams");
  relay_peer *p = &t->peers[t->count++];
  *p = (relay_peer){.stream = s, .stop = true, .opened = true, .paused = t->paused};
  pu_stream_set_events(s, &relay_peer_events, p);
  return 0;
}

#endif
