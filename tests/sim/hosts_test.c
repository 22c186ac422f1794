/* Whole hosts in the simulated network: from each seed a network, hosts, flows of bytes both ways
 * and mishaps are drawn, and then every byte has to be accounted for:
 *
 *   - what arrives is what was sent, in order; after an end of stream it is all of it
 *   - every operation completes once, every stream ends once at each side
 *   - without mishaps everything succeeds; with them nothing hangs
 *   - afterwards no socket, byte of memory or stream is left
 *
 *   hosts_test [--seeds N] [--first N] [--quic] [--ws] [--tls]
 *
 * PEERUP_SIM_SEED=N: this one only, PEERUP_SIM_LOG=1: with log
 */
#include "support/sim_hosts.h"

#define HOSTS_MAX 3
#define FLOWS_MAX 12
#define FLOW_ID "/test/flow/1.0.0"
#define HEADER 8 /* magic, flow's number */
#define MAGIC 0x666c6f77u
#define LIMIT_US (1800 * (uint64_t)SIM_SECOND) /* a run that takes longer hangs */

/* ---- chance of the test's own, apart from the network's ---- */

static uint64_t state;

static uint64_t draw(uint64_t n) {
  state += 0x9e3779b97f4a7c15u;
  uint64_t z = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return n == 0 ? 0 : (z ^ (z >> 31)) % n;
}

static bool chance(unsigned percent) {
  return draw(100) < percent;
}

/* ---- flows ---- */

typedef struct flow flow;

/* One side of a flow: sends |size| bytes, then closes its direction; reads until the other's end.
 */
typedef struct side {
  flow *f;
  pu_stream *stream;
  unsigned direction; /* salt of what it sends */
  uint64_t size, sent, received;
  bool begun, header_done, fin_sent, eof, ended; /* ended: closed by us, or on_end */
  bool cork, slow;
  int status;     /* of on_end */
  pu_timer pause; /* a slow reader goes on */
  bool paused;
} side;

struct flow {
  unsigned number;
  sim_host *from, *to;
  side client, server;
  bool echo; /* the server sends back what it gets */
  unsigned flags;
  pu_timer begin;
  unsigned opened; /* calls of the completion */
  int open_status;
  bool cancel;
  pu_op *op;
  uint8_t head[HEADER];
  size_t head_len;
};

typedef struct world {
  pu_sim *sim;
  sim_host hosts[HOSTS_MAX];
  size_t host_count;
  flow flows[FLOWS_MAX];
  size_t flow_count;
  bool mishaps;
  uint64_t bytes; /* checked */
} world;

static world the_world;
static world *const w = &the_world; /* the run's; handlers have no other way to the flows */

static uint8_t byte_at(const flow *f, unsigned direction, uint64_t position) {
  uint64_t x = (position + ((uint64_t)f->number << 32) + ((uint64_t)direction << 40) + 1) *
               0x9e3779b97f4a7c15u;
  return (uint8_t)(x >> 56 ^ x >> 24);
}

static void end_side(side *s, int status) {
  SIM_CHECK(!s->ended, "flow %u: a side ends twice", s->f->number);
  s->ended = true;
  s->status = status;
  s->stream = NULL;
  pu_timer_stop(&s->pause);
}

static void close_if_done(side *s) {
  if (!s->fin_sent || !s->eof || s->ended)
    return;
  pu_stream *stream = s->stream;
  end_side(s, 0);
  pu_stream_close(stream);
}

/* send_more sends what the stream takes; an echo is sent from on_data instead. */
static void send_more(side *s) {
  uint8_t memory[3][PU_STREAM_HEAD + 70000 + PU_STREAM_TAIL];
  while (!s->ended && s->sent < s->size) {
    size_t pieces = s->cork ? 1 + draw(3) : 1;
    bool more = true;
    if (s->cork)
      pu_stream_cork(s->stream);
    pu_stream *stream = s->stream;
    for (size_t i = 0; i < pieces && more && s->sent < s->size && !s->ended; i++) {
      size_t len = 1 + draw(chance(30) ? 70000 : 3000);
      if (len > s->size - s->sent)
        len = (size_t)(s->size - s->sent);
      uint8_t *at = memory[i] + PU_STREAM_HEAD;
      for (size_t b = 0; b < len; b++)
        at[b] = byte_at(s->f, s->direction, s->sent + b);
      ssize_t n = chance(50)
                      ? pu_stream_write_room(s->stream, at, len, PU_STREAM_HEAD, PU_STREAM_TAIL)
                      : pu_stream_write(s->stream, at, len);
      if (s->ended)
        break; /* on_end told us inside the write */
      /* No memory: on_end follows, when this call is over. The connection is gone: it follows when
       * what came before has been read. */
      if ((n == PU_E_NOMEM || n == PU_E_GONE) && w->mishaps) {
        more = false;
        break;
      }
      SIM_CHECK(n >= 0, "flow %u: write: %s", s->f->number, pu_error_sentence((int)n));
      s->sent += (uint64_t)n;
      more = (size_t)n == len;
    }
    if (s->cork)
      pu_stream_uncork(stream);
    if (!more)
      return;
  }
  if (!s->ended && !s->fin_sent) {
    s->fin_sent = true;
    (void)pu_stream_close_write(s->stream);
    if (!s->ended)
      close_if_done(s);
  }
}

static void on_pause_over(void *data) {
  side *s = data;
  s->paused = false;
  if (!s->ended)
    pu_stream_resume(s->stream);
}

static size_t check_bytes(side *s, const uint8_t *data, size_t len) {
  const unsigned from = s->f->echo ? 0 : 1 - s->direction; /* an echo is the client's own bytes */
  for (size_t i = 0; i < len; i++) {
    uint8_t want = byte_at(s->f, from, s->received + i);
    SIM_CHECK(data[i] == want, "flow %u direction %u: byte %" PRIu64 " is %02x, not %02x",
              s->f->number, from, s->received + i, data[i], want);
  }
  s->received += len;
  w->bytes += len;
  return len;
}

static size_t on_data(void *user, pu_stream *stream, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  side *s = user;
  if (s->paused)
    return 0;
  size_t take = len;
  if (s->slow && chance(40)) {
    take = draw(len + 1);
    s->paused = true;
    /* A connection without streams is closed after a minute, and its peer may have done all it had to
     * do while we still read: QUIC's first window is larger, so a reader must not be as slow. */
    (void)pu_timer_after(&s->pause, draw(sim_quic ? SIM_SECOND / 10 : SIM_SECOND));
  }
  if (!s->f->echo || s == &s->f->client)
    return check_bytes(s, data, take);
  /* An echo: what comes is sent back from where it lies. */
  uint8_t copy[64];
  size_t sample = take < sizeof(copy) ? take : sizeof(copy);
  memcpy(copy, data, sample);
  ssize_t n = pu_stream_write_room(stream, data, take, head, take == len ? tail : 0);
  if (s->ended || n < 0)
    return len;
  sample = (size_t)n < sample ? (size_t)n : sample;
  for (size_t i = 0; i < sample; i++)
    SIM_CHECK(copy[i] == byte_at(s->f, 0, s->received + i), "flow %u: echo", s->f->number);
  s->received += (uint64_t)n;
  s->sent += (uint64_t)n;
  return (size_t)n;
}

static void on_eof(void *user, pu_stream *stream) {
  side *s = user;
  (void)stream;
  SIM_CHECK(!s->eof, "flow %u: two ends", s->f->number);
  s->eof = true;
  const side *other = s == &s->f->client ? &s->f->server : &s->f->client;
  SIM_CHECK(s->received == other->size && other->sent == other->size,
            "flow %u: end after %" PRIu64 " of %" PRIu64, s->f->number, s->received, other->size);
  if (s->f->echo && s == &s->f->server) {
    s->fin_sent = true;
    (void)pu_stream_close_write(s->stream);
  }
  if (!s->ended)
    close_if_done(s);
}

static void on_writable(void *user, pu_stream *stream) {
  side *s = user;
  if (s->f->echo && s == &s->f->server) {
    if (!s->paused)
      pu_stream_resume(stream);
  } else {
    send_more(s);
  }
}

static void on_end(void *user, pu_stream *stream, int status, uint32_t code) {
  side *s = user;
  (void)stream;
  SIM_CHECK(status < 0, "flow %u: ended with %d", s->f->number, status);
  SIM_CHECK(w->mishaps || status == PU_E_GONE || s->f->cancel,
            "flow %u: its %s ended: %s (code 0x%x), sent %" PRIu64 ", received %" PRIu64
            " at %" PRIu64,
            s->f->number, s == &s->f->client ? "client" : "server", pu_error_sentence(status), code,
            s->sent, s->received, pu_sim_now_us(w->sim));
  end_side(s, status);
}

static const pu_stream_events flow_events = {on_data, on_eof, on_writable, on_end};

static void begin_side(side *s, pu_stream *stream) {
  SIM_CHECK(!s->begun, "flow %u: a side begins twice", s->f->number);
  s->begun = true;
  s->stream = stream;
  pu_stream_set_events(stream, &flow_events, s);
}

/* ---- the serving side: a stream says in its first bytes which flow it is ---- */

typedef struct greeting {
  uint8_t head[HEADER];
  size_t len;
  sim_host *host;
} greeting;

static size_t on_greeting(void *user, pu_stream *stream, uint8_t *data, size_t len, size_t head,
                          size_t tail) {
  greeting *g = user;
  size_t n = HEADER - g->len < len ? HEADER - g->len : len;
  memcpy(g->head + g->len, data, n);
  g->len += n;
  if (g->len < HEADER)
    return n;
  uint32_t magic, number;
  memcpy(&magic, g->head, 4);
  memcpy(&number, g->head + 4, 4);
  sim_host *host = g->host;
  free(g);
  SIM_CHECK(magic == MAGIC && number < w->flow_count, "a stream begins with other bytes");
  side *s = &w->flows[number].server;
  SIM_CHECK(s->f->to == host, "flow %u came to host %u", number, host->number);
  begin_side(s, stream);
  if (!s->f->echo)
    send_more(s);
  if (!s->ended && len > n)
    n += on_data(s, stream, data + n, len - n, head + n, tail);
  return n;
}

static void on_greeting_gone(void *user, pu_stream *stream, int status, uint32_t code) {
  (void)stream;
  (void)status;
  (void)code;
  free(user);
}

static void on_greeting_eof(void *user, pu_stream *stream) {
  (void)user;
  (void)stream;
  SIM_CHECK(false, "a stream ends before it began");
}

static const pu_stream_events greeting_events = {on_greeting, on_greeting_eof, NULL,
                                                 on_greeting_gone};

static int on_flow(void *data, pu_stream *stream) {
  greeting *g = calloc(1, sizeof(*g));
  SIM_CHECK(g != NULL, "memory");
  g->host = data;
  pu_stream_set_events(stream, &greeting_events, g);
  return 0;
}

/* ---- the opening side ---- */

static void on_open(void *data, int status, const pu_error *err, pu_stream *stream) {
  flow *f = data;
  f->opened++;
  f->open_status = status;
  f->op = NULL;
  SIM_CHECK((status == 0) == (stream != NULL), "flow %u: status and stream", f->number);
  if (status != 0) {
    SIM_CHECK(w->mishaps || f->cancel, "flow %u: open: %s (%s)", f->number,
              pu_error_sentence(status), err->detail);
    return;
  }
  const uint32_t magic = MAGIC, number = f->number;
  uint8_t head[HEADER];
  memcpy(head, &magic, 4);
  memcpy(head + 4, &number, 4);
  begin_side(&f->client, stream);
  ssize_t n = pu_stream_write(stream, head, HEADER);
  if (f->client.ended)
    return;
  if (n != HEADER) { /* the connection is full: rare enough to give the flow up */
    end_side(&f->client, PU_E_LIMIT);
    pu_stream_reset(stream, 0);
    f->cancel = true;
    return;
  }
  send_more(&f->client);
}

static void on_begin(void *data) {
  static const char *const protocols[] = {FLOW_ID};
  static const char *const two[] = {"/test/unknown/1.0.0", FLOW_ID};
  flow *f = data;
  if (f->from->engine == NULL) {
    f->cancel = true;
    return;
  }
  bool several = (f->flags & PU_OPEN_LAZY) == 0 && chance(30);
  int rc = pu_engine_open_stream(f->from->engine, &f->to->id, several ? two : protocols,
                                 several ? 2 : 1, f->flags, 0, on_open, f, &f->op);
  SIM_CHECK((rc == 0 || w->mishaps) && f->opened == 0, "flow %u: %s", f->number,
            pu_error_sentence(rc));
  if (rc != 0) {
    f->cancel = true;
    f->op = NULL;
    return;
  }
  if (f->cancel)
    pu_op_cancel(f->op);
  SIM_CHECK(f->opened == 0, "flow %u: completed inside the call", f->number);
}

static uint64_t draw_size(void) {
  switch (draw(6)) {
  case 0:
    return draw(3);
  case 1:
    return 1 + draw(100);
  case 2:
    return draw(70000);
  case 3:
    return 262144 - 10 + draw(20);
  default:
    return draw(600000);
  }
}

static void make_flow(flow *f, unsigned number) {
  size_t from = draw(w->host_count), to = draw(w->host_count - 1);
  to += to >= from;
  *f = (flow){.number = number, .from = &w->hosts[from], .to = &w->hosts[to]};
  f->echo = chance(40);
  f->flags = chance(50) ? PU_OPEN_LAZY : 0;
  f->cancel = chance(3);
  uint64_t size = draw_size();
  f->client = (side){.f = f, .size = size, .cork = chance(50), .slow = chance(25)};
  f->server = (side){.f = f,
                     .direction = 1,
                     .size = f->echo ? size : draw_size(),
                     .cork = chance(50),
                     .slow = chance(25)};
  pu_timer_init(&f->client.pause, f->from->platform, on_pause_over, &f->client);
  pu_timer_init(&f->server.pause, f->to->platform, on_pause_over, &f->server);
  pu_timer_init(&f->begin, f->from->platform, on_begin, f);
  int rc = pu_timer_after(&f->begin, draw(3 * SIM_SECOND));
  SIM_CHECK(rc == 0, "memory");
}

/* settled says whether nothing more can happen on |f|. A server side that the stream never reached,
 * or not with its first bytes, has not begun. */
static bool settled(const flow *f) {
  if (f->opened == 0)
    return f->cancel && f->op == NULL && !pu_timer_armed(&f->begin);
  return (!f->client.begun || f->client.ended) && (!f->server.begun || f->server.ended);
}

/* ---- mishaps ---- */

static void mishap(void) {
  sim_host *h = &w->hosts[draw(w->host_count)];
  const sim_host *other = &w->hosts[draw(w->host_count)];
  switch (draw(6)) {
  case 0:
    pu_sim_cut(w->sim, h->platform, NULL);
    break;
  case 1: {
    const pu_sim_link down = {.delay_us = 1000, .down = true};
    const pu_sim_link up = {.delay_us = 20000};
    SIM_CHECK(pu_sim_set_link(w->sim, h->platform, NULL, &down) == 0, "memory");
    sim_run_for(w->sim, draw(60 * SIM_SECOND));
    SIM_CHECK(pu_sim_set_link(w->sim, h->platform, NULL, &up) == 0, "memory");
    break;
  }
  case 2:
    if (h->engine != NULL)
      (void)pu_engine_disconnect(h->engine, &other->id);
    break;
  case 3:
    h->denied = 1u << draw(4);
    if (h->engine != NULL)
      (void)pu_engine_recheck(h->engine);
    break;
  case 4:
    h->denied = 0;
    break;
  default:
    if (chance(30))
      sim_host_close(h);
    break;
  }
}

/* ---- a run ---- */

static pu_sim_link draw_link(void) {
  pu_sim_link link = {.delay_us = draw(100000)};
  if (chance(50))
    link.jitter_us = draw(20000);
  if (chance(40))
    link.loss_ppm = (uint32_t)draw(50000);
  if (chance(40))
    link.rate_bytes_s = 200000 + draw(10000000);
  if (w->mishaps && chance(40))
    link.cut_ppm = (uint32_t)draw(5000);
  return link;
}

static void check_flow(const flow *f) {
  SIM_CHECK(settled(f),
            "flow %u hangs: opened %u, client %d/%d %" PRIu64 "/%" PRIu64 " got %" PRIu64
            ", server %d/%d %" PRIu64 "/%" PRIu64 " got %" PRIu64,
            f->number, f->opened, f->client.begun, f->client.ended, f->client.sent, f->client.size,
            f->client.received, f->server.begun, f->server.ended, f->server.sent, f->server.size,
            f->server.received);
  SIM_CHECK(f->opened <= 1, "flow %u: %u completions", f->number, f->opened);
  if (w->mishaps || f->cancel)
    return;
  SIM_CHECK(f->opened == 1 && f->client.status == 0 && f->server.status == 0,
            "flow %u failed: %s, %s", f->number, pu_error_sentence(f->client.status),
            pu_error_sentence(f->server.status));
  SIM_CHECK(f->server.begun && f->client.received == f->server.size &&
                f->server.received == f->client.size,
            "flow %u: bytes", f->number);
}

static bool all_settled(void) {
  for (size_t i = 0; i < w->flow_count; i++)
    if (!settled(&w->flows[i]))
      return false;
  return true;
}

static void end_hosts(void) {
  size_t first = draw(w->host_count);
  for (size_t i = 0; i < w->host_count; i++) {
    sim_host *h = &w->hosts[(first + i) % w->host_count];
    if (h->engine != NULL)
      sim_host_end(h);
    if (chance(50))
      sim_run_for(w->sim, draw(SIM_SECOND));
  }
  sim_run_for(w->sim, SIM_SECOND);
  for (size_t i = 0; i < w->host_count; i++)
    SIM_CHECK(w->hosts[i].closed, "host %zu does not close", i);
  SIM_CHECK(pu_sim_open_sockets(w->sim) == 0, "%zu sockets are left", pu_sim_open_sockets(w->sim));
}

/* start_host starts host |i|. Among the mishaps one allocation of its life may fail: in its
 * beginning it may fail for that, later it has to cope. */
static void start_host(unsigned i) {
  sim_host *h = &w->hosts[i];
  uint64_t fail_at = w->mishaps && chance(50) ? 1 + draw(400) : 0;
  sim_host_add(w->sim, h, i + 1);
  int rc = PU_E_NOMEM;
  for (int tries = 0; rc != 0 && tries < 2; tries++) {
    rc = sim_host_begin(h, NULL, fail_at);
    fail_at = 0;
    if (rc == 0)
      rc = pu_engine_listen(h->engine, h->addr, NULL);
    if (rc == 0)
      rc = pu_engine_handle(h->engine, FLOW_ID, on_flow, h);
    if (rc != 0)
      sim_host_end(h);
  }
  SIM_CHECK(rc == 0, "host %u: %s", i + 1, pu_error_sentence(rc));
}

/* run plays one seed and returns a number that depends on all that happened. */
static uint64_t run(uint64_t seed) {
  sim_seed = seed;
  state = seed * 0x2545f4914f6cdd1du;
  *w = (world){0};
  w->mishaps = chance(50);
  SIM_CHECK(pu_sim_new(seed, &w->sim) == 0, "memory");
  w->host_count = 2 + draw(HOSTS_MAX - 1);
  for (size_t i = 0; i < w->host_count; i++) {
    start_host((unsigned)i);
  }
  for (size_t i = 0; i < w->host_count; i++) {
    for (size_t j = 0; j < w->host_count; j++) {
      if (i == j)
        continue;
      const pu_sim_link link = draw_link();
      sim_host_knows(&w->hosts[i], &w->hosts[j]);
      SIM_CHECK(pu_sim_set_link(w->sim, w->hosts[i].platform, w->hosts[j].platform, &link) == 0,
                "memory");
    }
  }
  w->flow_count = 1 + draw(FLOWS_MAX);
  for (unsigned i = 0; i < w->flow_count; i++)
    make_flow(&w->flows[i], i);
  const uint64_t begin = pu_sim_now_us(w->sim);
  while (!all_settled() && pu_sim_now_us(w->sim) - begin < LIMIT_US) {
    sim_run_for(w->sim, 100000 + draw(400000));
    if (w->mishaps && chance(20))
      mishap();
  }
  for (size_t i = 0; i < w->flow_count; i++)
    check_flow(&w->flows[i]);
  const uint64_t end = pu_sim_now_us(w->sim);
  end_hosts();
  const uint64_t print = end * 31 + w->bytes * 17 + pu_sim_random(w->sim);
  pu_sim_free(w->sim);
  return print;
}

/* ---- a long fat path ---- */

#define FAT_BYTES (32u * 1024 * 1024)

/* run_fat_path moves one stream over 200 ms of round trip: a window of 256 KiB would take 26 s of
 * virtual time, one that grows takes a few. */
static void run_fat_path(void) {
  sim_seed = 0;
  state = 1;
  *w = (world){0};
  SIM_CHECK(pu_sim_new(1, &w->sim) == 0, "memory");
  w->host_count = 2;
  for (size_t i = 0; i < 2; i++) {
    sim_host_start(w->sim, &w->hosts[i], (unsigned)i + 1, NULL);
    SIM_CHECK(pu_engine_handle(w->hosts[i].engine, FLOW_ID, on_flow, &w->hosts[i]) == 0, "handle");
  }
  const pu_sim_link link = {.delay_us = 100000};
  SIM_CHECK(pu_sim_set_link(w->sim, NULL, NULL, &link) == 0, "memory");
  sim_host_knows(&w->hosts[0], &w->hosts[1]);
  w->flow_count = 1;
  flow *f = &w->flows[0];
  make_flow(f, 0);
  f->from = &w->hosts[0];
  f->to = &w->hosts[1];
  f->echo = f->cancel = false;
  f->client = (side){.f = f, .size = FAT_BYTES, .cork = true};
  f->server = (side){.f = f, .direction = 1};
  pu_timer_init(&f->client.pause, f->from->platform, on_pause_over, &f->client);
  pu_timer_init(&f->server.pause, f->to->platform, on_pause_over, &f->server);
  pu_timer_stop(&f->begin);
  pu_timer_init(&f->begin, f->from->platform, on_begin, f);
  const uint64_t begin = pu_sim_now_us(w->sim);
  SIM_CHECK(pu_timer_after(&f->begin, 0) == 0, "memory");
  while (!settled(f) && pu_sim_now_us(w->sim) - begin < LIMIT_US)
    sim_run_for(w->sim, 10000);
  check_flow(f);
  const uint64_t took = pu_sim_now_us(w->sim) - begin;
  (void)printf("%u MiB over a 200 ms path: %.1f s of virtual time\n", FAT_BYTES >> 20,
               (double)took / 1e6);
  SIM_CHECK(took < 8 * SIM_SECOND, "the window does not grow: %.1f s", (double)took / 1e6);
  end_hosts();
  pu_sim_free(w->sim);
}

int main(int argc, char **argv) {
  uint64_t first = 1, seeds = 1000;
  for (int i = 1; i < argc; i++) {
    sim_quic = sim_quic || strcmp(argv[i], "--quic") == 0;
    sim_ws = sim_ws || strcmp(argv[i], "--ws") == 0;
    sim_tls = sim_tls || strcmp(argv[i], "--tls") == 0;
  }
  for (int i = 1; i + 1 < argc; i++) {
    if (strcmp(argv[i], "--seeds") == 0)
      seeds = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--first") == 0)
      first = strtoull(argv[i + 1], NULL, 10);
  }
  const char *one = getenv("PEERUP_SIM_SEED");
  if (one != NULL) {
    first = strtoull(one, NULL, 10);
    seeds = 1;
  } else {
    run_fat_path();
  }
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < seeds; i++) {
    uint64_t print = run(first + i);
    bytes += w->bytes;
    /* A failure must replay from its seed; under TLS the length of a signature may differ. */
    if (i % 50 == 0 && !sim_quic && !sim_tls)
      SIM_CHECK(run(first + i) == print, "two runs of one seed differ");
  }
  (void)printf("%" PRIu64 " seeds, %.1f MiB checked\n", seeds, (double)bytes / (1 << 20));
  return 0;
}
