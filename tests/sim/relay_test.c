/* A relay and two peers in the simulated network: from each seed links, flows of bytes through
 * circuits and one of four stories are drawn.
 *
 *   calm      jitter, loss and slow links: every byte arrives, in order, whole
 *   mishaps   cuts, links that are down, a relay that ends or vanishes and comes back, denials,
 *             memory that fails: what arrives is right, nothing hangs; afterwards the reservation
 *             comes back by itself and a circuit works
 *   limits    a circuit carries what the relay allows and not a byte more, both peers are told why
 *             it ended, and the next circuit works
 *   denied    no reservation and no circuit without the relay's leave, and the user is told
 *
 * Every operation completes once, every stream ends once at each side, and no socket or byte is
 * left.
 *
 *   relay_test [--seeds N] [--first N]     PEERUP_SIM_SEED=N: this one only, PEERUP_SIM_LOG=1: with
 * log
 */
#include "support/sim_hosts.h"
#include "swarm/conn.h"

#define FLOWS_MAX 6
#define PIECE 40000u
#define SECONDS ((uint64_t)SIM_SECOND)
#define LIMIT_US (1800 * SECONDS) /* a run that takes longer hangs */
#define BACK_US (300 * SECONDS) /* after the last mishap: a dead connection, the longest back-off \
                                 */
#define READY_US (60 * SECONDS) /* to the first reservation, on a link that is merely bad */

typedef enum story { CALM, MISHAPS, LIMITS, DENIED } story;

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

/* ---- flows: each side sends so many bytes, closes its direction, and reads to the other's end
 * ----
 */

typedef struct flow flow;

typedef struct side {
  flow *f;
  pu_stream *stream;
  unsigned direction; /* salt of what it sends */
  uint64_t size, sent, received;
  bool begun, fin_sent, eof, ended, slow, paused;
  int status;     /* of the end; 0: both directions came to theirs */
  bool limit;     /* the end was told to be the relay's limit */
  pu_timer pause; /* a slow reader goes on */
} side;

struct flow {
  unsigned number;
  char id[32];
  sim_host *from, *to;
  side client, server;
  unsigned flags;
  pu_timer begin;
  unsigned opened; /* calls of the completion */
  int status;      /* of the opening */
  char detail[256];
};

typedef struct world {
  pu_sim *sim;
  sim_host relay, home, away;
  story story;
  pu_relay_config config;
  bool both; /* away holds a reservation, too, and may be reached by home */
  flow flows[FLOWS_MAX + 1];
  size_t flow_count;
  uint64_t bytes; /* checked */
} world;

static world the_world;
static world *const w = &the_world;

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

static void send_more(side *s) {
  uint8_t memory[PU_STREAM_HEAD + PIECE + PU_STREAM_TAIL];
  while (!s->ended && s->sent < s->size) {
    size_t len = 1 + draw(chance(30) ? PIECE : 3000);
    if (len > s->size - s->sent)
      len = (size_t)(s->size - s->sent);
    uint8_t *at = memory + PU_STREAM_HEAD;
    for (size_t i = 0; i < len; i++)
      at[i] = byte_at(s->f, s->direction, s->sent + i);
    pu_stream *stream = s->stream;
    const bool cork = chance(50);
    if (cork)
      pu_stream_cork(stream);
    ssize_t n = pu_stream_write_room(stream, at, len, PU_STREAM_HEAD, PU_STREAM_TAIL);
    if (!s->ended && n >= 0)
      s->sent += (uint64_t)n;
    if (cork)
      pu_stream_uncork(stream);
    if (s->ended)
      return;
    SIM_CHECK(n >= 0, "flow %u: write: %s", s->f->number, pu_error_sentence((int)n));
    if ((size_t)n < len)
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

static side *other_side(side *s) {
  return s == &s->f->client ? &s->f->server : &s->f->client;
}

static size_t on_data(void *user, pu_stream *stream, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  side *s = user;
  size_t take = len;
  (void)stream;
  (void)head;
  (void)tail;
  if (s->paused)
    return 0;
  if (s->slow && chance(20)) {
    take = draw(len + 1);
    s->paused = true;
    SIM_CHECK(pu_timer_after(&s->pause, draw(SIM_SECOND / 4)) == 0, "memory");
  }
  const unsigned from = other_side(s)->direction;
  for (size_t i = 0; i < take; i++) {
    const uint8_t want = byte_at(s->f, from, s->received + i);
    SIM_CHECK(data[i] == want, "flow %u direction %u: byte %" PRIu64 " is %02x, not %02x",
              s->f->number, from, s->received + i, data[i], want);
  }
  s->received += take;
  w->bytes += take;
  return take;
}

static void on_eof(void *user, pu_stream *stream) {
  side *s = user;
  const side *other = other_side(s);
  (void)stream;
  SIM_CHECK(!s->eof, "flow %u: two ends", s->f->number);
  s->eof = true;
  SIM_CHECK(s->received == other->size, "flow %u: end after %" PRIu64 " of %" PRIu64, s->f->number,
            s->received, other->size);
  close_if_done(s);
}

static void on_writable(void *user, pu_stream *stream) {
  (void)stream;
  send_more(user);
}

static void on_end(void *user, pu_stream *stream, int status, uint32_t code) {
  side *s = user;
  const char *why = pu_stream_conn(stream)->end_detail;
  SIM_CHECK(status < 0, "flow %u: ended with %d", s->f->number, status);
  SIM_CHECK(w->story != CALM,
            "flow %u: its %s ended: %s (code 0x%x, %s), sent %" PRIu64 ", received %" PRIu64,
            s->f->number, s == &s->f->client ? "client" : "server", pu_error_sentence(status), code,
            why, s->sent, s->received);
  s->limit = strstr(why, "the relay's limit") != NULL;
  end_side(s, status);
}

static const pu_stream_events flow_events = {on_data, on_eof, on_writable, on_end};

static void begin_side(side *s, pu_stream *stream) {
  pu_conn_info info;
  SIM_CHECK(!s->begun, "flow %u: a side begins twice", s->f->number);
  pu_conn_info_get(pu_stream_conn(stream), &info);
  SIM_CHECK(info.relayed && info.limited, "flow %u: not through the relay", s->f->number);
  SIM_CHECK(info.limit_data_bytes == w->config.session_data_bytes &&
                info.limit_duration_s == w->config.session_duration_s,
            "flow %u: other limits", s->f->number);
  s->begun = true;
  s->stream = stream;
  pu_stream_set_events(stream, &flow_events, s);
}

static int on_flow(void *data, pu_stream *stream) {
  flow *f = data;
  begin_side(&f->server, stream);
  send_more(&f->server);
  return 0;
}

static void on_open(void *data, int status, const pu_error *err, pu_stream *stream) {
  flow *f = data;
  f->opened++;
  f->status = status;
  (void)snprintf(f->detail, sizeof(f->detail), "%s", err->detail);
  SIM_CHECK((status == 0) == (stream != NULL), "flow %u: status and stream", f->number);
  if (status != 0)
    return;
  begin_side(&f->client, stream);
  send_more(&f->client);
}

static void on_begin(void *data) {
  flow *f = data;
  const char *const protocols[] = {f->id};
  int rc = pu_engine_open_stream(f->from->engine, &f->to->id, protocols, 1, f->flags, 0, on_open, f,
                                 NULL);
  SIM_CHECK(f->opened == 0, "flow %u: completed inside the call", f->number);
  if (rc != 0) {
    f->opened = 1;
    f->status = rc;
  }
}

/* settled: nothing more can happen. A server side that the stream never reached has not begun. */
static bool settled(const flow *f) {
  return f->opened > 0 && (!f->client.begun || f->client.ended) &&
         (!f->server.begun || f->server.ended);
}

static bool all_settled(void) {
  for (size_t i = 0; i < w->flow_count; i++)
    if (!settled(&w->flows[i]))
      return false;
  return true;
}

static void check_settled(const flow *f) {
  SIM_CHECK(settled(f) && f->opened == 1,
            "flow %u hangs: opened %u, client %d/%d %" PRIu64 "/%" PRIu64 " got %" PRIu64
            ", server %d/%d %" PRIu64 "/%" PRIu64 " got %" PRIu64,
            f->number, f->opened, f->client.begun, f->client.ended, f->client.sent, f->client.size,
            f->client.received, f->server.begun, f->server.ended, f->server.sent, f->server.size,
            f->server.received);
}

static bool whole(const flow *f) {
  return f->status == 0 && f->client.ended && f->client.status == 0 && f->server.ended &&
         f->server.status == 0;
}

/* add_flow draws a flow of |up| bytes to |to| and |down| back, which begins after |delay_us|. */
static flow *add_flow(sim_host *from, sim_host *to, uint64_t up, uint64_t down, uint64_t delay_us) {
  SIM_CHECK(w->flow_count < sizeof(w->flows) / sizeof(w->flows[0]), "too many flows");
  const unsigned number = (unsigned)w->flow_count++;
  flow *f = &w->flows[number];
  *f = (flow){.number = number, .from = from, .to = to};
  (void)snprintf(f->id, sizeof(f->id), "/test/flow-%u/1.0.0", number);
  f->flags = PU_OPEN_LIMITED | (chance(50) ? PU_OPEN_LAZY : 0);
  f->client = (side){.f = f, .size = up, .slow = chance(25)};
  f->server = (side){.f = f, .direction = 1, .size = down, .slow = chance(25)};
  pu_timer_init(&f->client.pause, from->platform, on_pause_over, &f->client);
  pu_timer_init(&f->server.pause, to->platform, on_pause_over, &f->server);
  pu_timer_init(&f->begin, from->platform, on_begin, f);
  int rc = pu_engine_handle(to->engine, f->id, on_flow, f);
  if (rc == PU_E_NOMEM) /* the one allocation that was to fail */
    rc = pu_engine_handle(to->engine, f->id, on_flow, f);
  SIM_CHECK(rc == 0 && pu_timer_after(&f->begin, delay_us) == 0, "memory");
  return f;
}

static uint64_t draw_size(void) {
  switch (draw(4)) {
  case 0:
    return draw(100);
  case 1:
    return draw(70000);
  default:
    return draw(400000);
  }
}

static void draw_flows(void) {
  const size_t count = 1 + draw(FLOWS_MAX);
  for (size_t i = 0; i < count; i++) {
    const bool back = w->both && chance(40);
    (void)add_flow(back ? &w->home : &w->away, back ? &w->away : &w->home, draw_size(), draw_size(),
                   draw(3 * SECONDS));
  }
}

/* ---- hosts ---- */

#define RUN_UNTIL(us, cond, ...)                        \
  do {                                                  \
    const uint64_t end_ = pu_sim_now_us(w->sim) + (us); \
    while (!(cond) && pu_sim_now_us(w->sim) < end_)     \
      sim_run_for(w->sim, 50000);                       \
    SIM_CHECK(cond, __VA_ARGS__);                       \
  } while (0)

static void set_link(const sim_host *h, const pu_sim_link *link) {
  SIM_CHECK(pu_sim_set_link(w->sim, h->platform, w->relay.platform, link) == 0, "memory");
}

static pu_relay_stats stats(void) {
  pu_relay_stats out;
  pu_engine_relay_stats(w->relay.engine, &out);
  return out;
}

static void on_info(void *data, const pu_reservation_info *info) {
  *(pu_reservation_info *)data = *info;
}

static pu_reservation_info reservation(const sim_host *h) {
  pu_reservation_info info = {0};
  pu_engine_reservations(h->engine, on_info, &info);
  return info;
}

static void start_relay(void) {
  int rc = pu_engine_listen(w->relay.engine, w->relay.addr, NULL);
  SIM_CHECK(rc == 0, "listen: %s", pu_error_sentence(rc));
  rc = pu_engine_relay_start(w->relay.engine, &w->config);
  SIM_CHECK(rc == 0, "relay: %s", pu_error_sentence(rc));
}

static void restart_relay(void) {
  sim_host_end(&w->relay);
  sim_run_for(w->sim, draw(30 * SECONDS));
  int rc = sim_host_begin(&w->relay, NULL, 0);
  SIM_CHECK(rc == 0, "engine: %s", pu_error_sentence(rc));
  start_relay();
}

/* reserve asks for a reservation at the relay, and tells the other peer of the address behind it.
 */
static void reserve(sim_host *h, sim_host *other) {
  char circuit[512], id[PU_PEER_ID_MAX_TEXT];
  const uint32_t interval_s = (uint32_t)draw(60);
  int rc = pu_engine_reserve(h->engine, w->relay.full, interval_s, NULL);
  SIM_CHECK(rc == 0, "reserve: %s", pu_error_sentence(rc));
  (void)snprintf(circuit, sizeof(circuit), "%s/p2p-circuit/p2p/%s", w->relay.full,
                 pu_peer_id_text(&h->id, id));
  rc = pu_engine_add_addr(other->engine, &h->id, circuit, UINT32_MAX, NULL);
  SIM_CHECK(rc == 0, "address: %s", pu_error_sentence(rc));
}

static pu_sim_link draw_link(void) {
  pu_sim_link link = {.delay_us = draw(60000)};
  if (chance(60))
    link.jitter_us = draw(20000);
  if (chance(50))
    link.loss_ppm = (uint32_t)draw(20000);
  if (chance(40))
    link.rate_bytes_s = 200000 + draw(5000000);
  if (w->story == MISHAPS && chance(40))
    link.cut_ppm = (uint32_t)draw(3000);
  return link;
}

static void begin_world(uint64_t seed) {
  sim_seed = seed;
  state = seed * 0x2545f4914f6cdd1du;
  *w = (world){0};
  const uint64_t kind = draw(10);
  w->story = kind < 3 ? CALM : kind < 7 ? MISHAPS : kind < 9 ? LIMITS : DENIED;
  w->both = chance(50);
  w->config = (pu_relay_config){.session_duration_s = 3600, .session_data_bytes = 64u << 20};
  if (chance(50)) /* reservations are refreshed, or run out */
    w->config.reservation_ttl_s = 10 + (uint32_t)draw(60);
  SIM_CHECK(pu_sim_new(seed, &w->sim) == 0, "memory");
  sim_host_add(w->sim, &w->relay, 1);
  SIM_CHECK(sim_host_begin(&w->relay, NULL, 0) == 0, "memory");
  sim_host_start(w->sim, &w->home, 2, NULL);
  sim_host_start(w->sim, &w->away, 3, NULL);
}

static void begin_relaying(void) {
  const pu_sim_link links[] = {draw_link(), draw_link()};
  set_link(&w->home, &links[0]);
  set_link(&w->away, &links[1]);
  /* Each learns from identify where the other is, and cannot go there. */
  const pu_sim_link none = {.delay_us = 1000, .down = true};
  SIM_CHECK(pu_sim_set_link(w->sim, w->home.platform, w->away.platform, &none) == 0, "memory");
  start_relay();
  reserve(&w->home, &w->away);
  if (w->both)
    reserve(&w->away, &w->home);
}

static bool reserved(void) {
  return reservation(&w->home).active && (!w->both || reservation(&w->away).active);
}

static void end_world(void) {
  sim_host *hosts[] = {&w->relay, &w->home, &w->away};
  const size_t first = draw(3);
  for (size_t i = 0; i < 3; i++) {
    sim_host_end(hosts[(first + i) % 3]);
    if (chance(50))
      sim_run_for(w->sim, draw(SIM_SECOND));
  }
  sim_run_for(w->sim, SIM_SECOND);
  SIM_CHECK(pu_sim_open_sockets(w->sim) == 0, "%zu sockets are left", pu_sim_open_sockets(w->sim));
}

/* ---- the stories ---- */

static void run_calm(void) {
  begin_relaying();
  RUN_UNTIL(READY_US, reserved(), "no reservation: %s", reservation(&w->home).detail);
  draw_flows();
  RUN_UNTIL(LIMIT_US, all_settled(), "a flow hangs");
  for (size_t i = 0; i < w->flow_count; i++) {
    check_settled(&w->flows[i]);
    SIM_CHECK(whole(&w->flows[i]), "flow %zu: %s (%s)", i, pu_error_sentence(w->flows[i].status),
              w->flows[i].detail);
  }
  SIM_CHECK(w->home.events[PU_EVENT_RESERVATION_LOST] == 0, "lost: %s", w->home.last_detail);
  SIM_CHECK(stats().reservations == (w->both ? 2 : 1), "%u reservations", stats().reservations);
  SIM_CHECK(stats().refused_circuits == 0 && stats().refused_reservations == 0, "refused");
}

static void mishap(void) {
  sim_host *const hosts[] = {&w->home, &w->away, &w->relay};
  sim_host *h = hosts[draw(2)], *any = hosts[draw(3)];
  const pu_sim_link down = {.delay_us = 1000, .down = true};
  switch (draw(8)) {
  case 0:
    pu_sim_cut(w->sim, h->platform, w->relay.platform);
    break;
  case 1: /* between any two events, not only between two rounds of the test */
    for (uint64_t n = draw(60); n > 0 && pu_sim_step(w->sim); n--)
      ;
    pu_sim_cut(w->sim, h->platform, w->relay.platform);
    break;
  case 2: {
    const pu_sim_link up = draw_link();
    set_link(h, &down);
    sim_run_for(w->sim, draw(90 * SECONDS));
    set_link(h, &up);
    break;
  }
  case 3:
    restart_relay();
    break;
  case 4: { /* it vanishes: nobody is told */
    const pu_sim_link ups[] = {draw_link(), draw_link()};
    set_link(&w->home, &down);
    set_link(&w->away, &down);
    restart_relay();
    set_link(&w->home, &ups[0]);
    set_link(&w->away, &ups[1]);
    break;
  }
  case 5:
    w->relay.denied = 1u << (chance(50) ? PU_ASK_RESERVATION : PU_ASK_CIRCUIT);
    (void)pu_engine_recheck(w->relay.engine);
    sim_run_for(w->sim, draw(20 * SECONDS));
    w->relay.denied = 0;
    break;
  case 6:
    pu_mem_fail_at(&any->engine->mem, 1 + draw(300));
    break;
  default:
    (void)pu_engine_disconnect(any->engine, any == &w->relay ? &h->id : &w->relay.id);
  }
}

static void run_mishaps(void) {
  const pu_sim_link good = {.delay_us = 20000};
  begin_relaying();
  if (chance(80))
    sim_run_for(w->sim, 3 * SECONDS);
  draw_flows();
  unsigned left = 1 + (unsigned)draw(6);
  const uint64_t begin = pu_sim_now_us(w->sim);
  while ((left > 0 || !all_settled()) && pu_sim_now_us(w->sim) - begin < LIMIT_US) {
    sim_run_for(w->sim, 20000 + draw(700000));
    if (left > 0 && chance(30)) {
      mishap();
      left--;
    }
  }
  for (size_t i = 0; i < w->flow_count; i++)
    check_settled(&w->flows[i]);
  /* The network is well again, and nobody does anything about it. */
  pu_mem_fail_at(&w->relay.engine->mem, 0);
  pu_mem_fail_at(&w->home.engine->mem, 0);
  pu_mem_fail_at(&w->away.engine->mem, 0);
  set_link(&w->home, &good);
  set_link(&w->away, &good);
  sim_run_for(w->sim, BACK_US);
  SIM_CHECK(reserved(), "the reservation does not come back: %s", reservation(&w->home).detail);
  SIM_CHECK(stats().reservations == (w->both ? 2 : 1), "%u reservations", stats().reservations);
  const flow *f = add_flow(&w->away, &w->home, 50000, 50000, 0);
  RUN_UNTIL(120 * SECONDS, settled(f), "the last flow hangs");
  SIM_CHECK(whole(f), "the last flow: %s (%s)", pu_error_sentence(f->status), f->detail);
}

static void check_limit(const side *s) {
  SIM_CHECK(s->begun && s->ended && s->status == PU_E_GONE && s->limit,
            "flow %u: its %s does not know of the limit: begun %d, ended %d, %s", s->f->number,
            s == &s->f->client ? "client" : "server", s->begun, s->ended,
            pu_error_sentence(s->status));
}

static void run_limits(void) {
  const bool by_time = chance(50), up = chance(50);
  const uint64_t much = 8u << 20;
  w->config.session_duration_s = by_time ? 5 + (uint32_t)draw(15) : 3600;
  w->config.session_data_bytes = by_time ? 64u << 20 : 100000 + draw(300000);
  begin_relaying();
  if (by_time) {
    const pu_sim_link slow = {.delay_us = draw(60000), .rate_bytes_s = 50000 + draw(100000)};
    set_link(&w->home, &slow);
  }
  RUN_UNTIL(READY_US, reserved(), "no reservation: %s", reservation(&w->home).detail);
  flow *f = add_flow(&w->away, &w->home, up ? much : 100, up ? 100 : much, draw(SIM_SECOND));
  f->client.slow = f->server.slow = false; /* what is not read yet goes with the connection */
  RUN_UNTIL(LIMIT_US, settled(f), "the flow hangs");
  check_settled(f);
  check_limit(&f->client);
  check_limit(&f->server);
  const uint64_t got = up ? f->server.received : f->client.received;
  SIM_CHECK(got < w->config.session_data_bytes && got > 0, "%" PRIu64 " bytes arrived", got);
  if (!by_time) /* all but handshakes, headers, and a record that is cut in two */
    SIM_CHECK(got + 70000 > w->config.session_data_bytes, "only %" PRIu64 " of %" PRIu64, got,
              w->config.session_data_bytes);
  RUN_UNTIL(20 * SECONDS, stats().circuits == 0, "the circuit stays");
  SIM_CHECK(stats().ended_by_limit == 1, "%" PRIu64 " circuits ended by their limit",
            stats().ended_by_limit);
  SIM_CHECK(w->relay.last_status == PU_E_RELAY_LIMIT, "the relay says %s", w->relay.last_detail);
  f = add_flow(&w->away, &w->home, 3000, 3000, 0); /* a new session has a new allowance */
  RUN_UNTIL(LIMIT_US, settled(f), "the next flow hangs");
  SIM_CHECK(whole(f), "the next flow: %s (%s)", pu_error_sentence(f->status), f->detail);
}

static void run_denied(void) {
  w->relay.denied = 1u << PU_ASK_RESERVATION;
  begin_relaying();
  sim_run_for(w->sim, READY_US);
  pu_reservation_info info = reservation(&w->home);
  SIM_CHECK(!info.active && info.last_status == PU_E_DENIED &&
                strstr(info.detail, "authorize") != NULL,
            "%s: %s", pu_error_sentence(info.last_status), info.detail);
  SIM_CHECK(w->home.events[PU_EVENT_RESERVATION_LOST] > 1 && stats().reservations == 0, "events");
  flow *f = add_flow(&w->away, &w->home, 100, 100, 0);
  RUN_UNTIL(LIMIT_US, settled(f), "the flow hangs");
  SIM_CHECK(f->status == PU_E_NO_RESERVATION && strstr(f->detail, "NO_RESERVATION") != NULL,
            "%s (%s)", pu_error_sentence(f->status), f->detail);
  w->relay.denied = 1u << PU_ASK_CIRCUIT;
  RUN_UNTIL(2 * BACK_US, reserved(), "no reservation: %s", reservation(&w->home).detail);
  sim_run_for(w->sim, BACK_US); /* the address's back-off */
  f = add_flow(&w->away, &w->home, 100, 100, 0);
  RUN_UNTIL(LIMIT_US, settled(f), "the flow hangs");
  SIM_CHECK(f->status == PU_E_DENIED && strstr(f->detail, "PERMISSION_DENIED") != NULL, "%s (%s)",
            pu_error_sentence(f->status), f->detail);
  w->relay.denied = 0;
  sim_run_for(w->sim, BACK_US);
  f = add_flow(&w->away, &w->home, 5000, 5000, 0);
  RUN_UNTIL(LIMIT_US, settled(f), "the flow hangs");
  SIM_CHECK(whole(f), "%s (%s)", pu_error_sentence(f->status), f->detail);
  w->relay.denied = 1u << PU_ASK_CIRCUIT; /* while one runs */
  f = add_flow(&w->away, &w->home, 4u << 20, 0, 0);
  f->client.slow = f->server.slow = true;
  RUN_UNTIL(READY_US, f->server.received > 0, "the flow does not begin");
  (void)pu_engine_recheck(w->relay.engine);
  RUN_UNTIL(READY_US, settled(f), "the flow goes on");
  SIM_CHECK(!whole(f) && stats().circuits == 0, "a circuit stays");
}

/* run plays one seed and returns a number that depends on all that happened. */
static uint64_t run(uint64_t seed) {
  static void (*const stories[])(void) = {
      [CALM] = run_calm, [MISHAPS] = run_mishaps, [LIMITS] = run_limits, [DENIED] = run_denied};
  begin_world(seed);
  stories[w->story]();
  const uint64_t end = pu_sim_now_us(w->sim);
  end_world();
  const uint64_t print = end * 31 + w->bytes * 17 + pu_sim_random(w->sim);
  pu_sim_free(w->sim);
  return print;
}

int main(int argc, char **argv) {
  uint64_t first = 1, seeds = 1000, bytes = 0, told[4] = {0};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--seeds") == 0)
      seeds = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--first") == 0)
      first = strtoull(argv[i + 1], NULL, 10);
  }
  const char *one = getenv("PEERUP_SIM_SEED");
  if (one != NULL) {
    first = strtoull(one, NULL, 10);
    seeds = 1;
  }
  for (uint64_t i = 0; i < seeds; i++) {
    const uint64_t print = run(first + i);
    bytes += w->bytes;
    told[w->story]++;
    if (i % 50 == 0) /* a failure must replay from its seed */
      SIM_CHECK(run(first + i) == print, "two runs of one seed differ");
  }
  (void)printf("%" PRIu64 " seeds (%" PRIu64 " calm, %" PRIu64 " with mishaps, %" PRIu64
               " with limits, %" PRIu64 " denied), %.1f MiB checked\n",
               seeds, told[CALM], told[MISHAPS], told[LIMITS], told[DENIED],
               (double)bytes / (1 << 20));
  return 0;
}
