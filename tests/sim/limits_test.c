/* Floods in the simulated network: half-open connections from one address, from many, and as a
 * stream of new ones, and more streams than a peer may have. From each seed one story is drawn:
 *
 *   - the victim's memory and counts stay within their bounds
 *   - a peer from a known address gets in, and so does one from an address never seen
 *   - what is refused is counted under the limit's name; afterwards nothing is held
 *
 *   limits_test [--seeds N] [--first N]     PEERUP_SIM_SEED=N: this one only */
#include "support/sim_hosts.h"
#include "swarm/engine_priv.h"

#define HALF_OPEN_MAX 2000u
#define ADDRESSES_PER_HOST 8u
#define FLOOD_HOSTS_MAX (HALF_OPEN_MAX / ADDRESSES_PER_HOST)
#define STREAMS 200u
#define HOLD "/test/hold/1.0.0"
#define RARE "/test/rare/1.0.0"
#define PER_STRANGER (PU_PREAUTH_MAX_BYTES + 16384u) /* its account, and the connection itself */

enum { MANY, ONE, ROLLING, STREAM_FLOOD, STORIES };

typedef struct half_open {
  pu_tcp *tcp;
} half_open;

static struct {
  pu_sim *sim;
  sim_host victim, friend, newcomer;
  pu_platform *flood[FLOOD_HOSTS_MAX];
  size_t flood_hosts;
  half_open conns[HALF_OPEN_MAX];
  size_t conn_count;
  size_t idle_bytes;
  bool shared_port; /* the victim speaks WebSocket on the same port */
} w;

static uint64_t draw(uint64_t from, uint64_t to) {
  return from + pu_sim_random(w.sim) % (to - from + 1);
}

/* ---- half-open connections ---- */

static void let_go(half_open *h) {
  pu_tcp_close(h->tcp, true);
  h->tcp = NULL;
}

static void on_connect(void *data, int status) {
  half_open *h = data;
  if (status != 0)
    let_go(h);
  else
    pu_tcp_want(h->tcp, PU_WANT_READ);
}

static void on_readable(void *data) {
  half_open *h = data;
  uint8_t bytes[256];
  const pu_iov iov = {.base = bytes, .len = sizeof(bytes)};
  const ssize_t n = pu_tcp_readv(h->tcp, &iov, 1);
  if (n <= 0 && n != PU_E_AGAIN)
    let_go(h);
}

static const pu_tcp_events half_open_events = {.on_connect = on_connect,
                                               .on_readable = on_readable};

static pu_sockaddr flood_address(size_t host, size_t n) {
  return (pu_sockaddr){.family = 4,
                       .ip = {172, 16, (uint8_t)host, (uint8_t)(1 + n % ADDRESSES_PER_HOST)}};
}

static void add_flood_hosts(size_t count) {
  for (w.flood_hosts = 0; w.flood_hosts < count; w.flood_hosts++) {
    pu_sockaddr addrs[ADDRESSES_PER_HOST];
    for (size_t i = 0; i < ADDRESSES_PER_HOST; i++)
      addrs[i] = flood_address(w.flood_hosts, i);
    const int rc =
        pu_sim_add_host(w.sim, "flood", addrs, ADDRESSES_PER_HOST, &w.flood[w.flood_hosts]);
    SIM_CHECK(rc == 0, "a host");
  }
}

/* half_open_from begins one connection that will say nothing. */
static void half_open_from(size_t host, size_t address) {
  PU_ASSERT(w.conn_count < HALF_OPEN_MAX);
  half_open *h = &w.conns[w.conn_count++];
  const pu_sockaddr from = flood_address(host, address);
  pu_sockaddr to = w.victim.ip;
  to.port = SIM_PORT;
  const int rc = pu_tcp_connect(w.flood[host], &from, &to, &half_open_events, h, &h->tcp);
  SIM_CHECK(rc == 0, "connect: %s", pu_error_sentence(rc));
}

/* ---- what the victim holds ---- */

typedef struct wanted {
  const char *name;
  pu_limit_stat stat;
} wanted;

static void on_stat(void *data, const pu_limit_stat *stat) {
  wanted *want = data;
  SIM_CHECK(stat->used <= stat->limit, "%s: %" PRIu64 " of %" PRIu64, stat->name, stat->used,
            stat->limit);
  if (strcmp(stat->name, want->name) == 0)
    want->stat = *stat;
}

/* stat_of returns one limit, and checks that none is overrun. */
static pu_limit_stat stat_of(const char *name) {
  wanted want = {.name = name};
  pu_engine_limit_stats(w.victim.engine, on_stat, &want);
  SIM_CHECK(want.stat.name != NULL, "no limit %s", name);
  return want.stat;
}

static size_t waiting_count(void) {
  size_t count = w.victim.engine->limiter.pending;
  PU_LIST_EACH(&w.victim.engine->sniffing, node, tmp) {
    count++;
  }
  return count;
}

/* check_bounds: strangers cost what they may, and no more. */
static void check_bounds(void) {
  const uint32_t most = w.victim.engine->limits.conns_pending;
  const size_t used = pu_engine_memory(w.victim.engine);
  (void)stat_of("connections.pending");
  SIM_CHECK(waiting_count() <= most, "%zu wait", waiting_count());
  SIM_CHECK(used <= w.idle_bytes + most * PER_STRANGER, "%zu bytes", used);
}

/* run_checked lets time pass and looks every 100 ms. */
static void run_checked(uint64_t us) {
  for (uint64_t t = 0; t < us; t += SIM_SECOND / 10) {
    sim_run_for(w.sim, SIM_SECOND / 10);
    check_bounds();
  }
}

static void must_connect(sim_host *h, const char *who) {
  sim_answer answer;
  const uint64_t begin = pu_sim_now_us(w.sim);
  const int rc = sim_connect(h, &w.victim, 0, &answer);
  SIM_CHECK(rc == 0, "%s is locked out: %s (%s)", who, pu_error_sentence(rc), answer.detail);
  SIM_CHECK(pu_sim_now_us(w.sim) - begin < 5 * SIM_SECOND, "%s waits", who);
  check_bounds();
}

/* ---- stories ---- */

/* The flood's connections all stand at once, then nothing more comes. */
static void run_many(void) {
  const size_t count = draw(0, 9) == 0 ? HALF_OPEN_MAX : draw(150, 500);
  add_flood_hosts((count + ADDRESSES_PER_HOST - 1) / ADDRESSES_PER_HOST);
  for (size_t i = 0; i < count; i++)
    half_open_from(i % w.flood_hosts, i / w.flood_hosts);
  run_checked(SIM_SECOND);
  SIM_CHECK(waiting_count() >= 96, "the flood has not come: %zu", waiting_count());
  SIM_CHECK(stat_of("connections.pending").refused >= count - 96, "not counted");
  SIM_CHECK(strstr(w.victim.last_detail, "limits.connections.pending)") != NULL,
            "not explained: %s", w.victim.last_detail);
  must_connect(&w.friend, "the friend");
  run_checked(2 * SIM_SECOND);
  must_connect(&w.newcomer, "the newcomer");
}

static void run_one(void) {
  const size_t count = draw(0, 9) == 0 ? HALF_OPEN_MAX : draw(50, 500);
  add_flood_hosts(1);
  for (size_t i = 0; i < count; i++)
    half_open_from(0, 0);
  run_checked(SIM_SECOND);
  SIM_CHECK(waiting_count() == 16, "%zu wait", waiting_count());
  SIM_CHECK(stat_of("connections.pending_per_address").refused == count - 16, "not counted");
  must_connect(&w.newcomer, "the newcomer");
  must_connect(&w.friend, "the friend");
}

/* A stream of new ones, as fast as leaves each its time. */
static void run_rolling(void) {
  const uint64_t per_second = draw(20, 45), seconds = draw(5, 20);
  add_flood_hosts(30);
  for (uint64_t i = 0; i < per_second * seconds; i++) {
    half_open_from(draw(0, w.flood_hosts - 1), draw(0, ADDRESSES_PER_HOST - 1));
    sim_run_for(w.sim, SIM_SECOND / per_second);
    check_bounds();
  }
  must_connect(&w.newcomer, "the newcomer");
  must_connect(&w.friend, "the friend");
}

static void on_eof(void *user, pu_stream *s) {
  (void)user;
  pu_stream_close(s);
}

static int hold_stream(void *data, pu_stream *s) {
  static const pu_stream_events events = {.on_eof = on_eof};
  (void)data;
  pu_stream_set_events(s, &events, NULL);
  return 0;
}

/* A protocol's limit is looked at when the protocol is agreed on: the peer sees a stream that ends.
 */
static void on_refused(void *user, pu_stream *s, int status, uint32_t code) {
  sim_answer *a = user;
  (void)s;
  SIM_CHECK(status == PU_E_RESET && code == 0x1002, "ends with %s, code 0x%x",
            pu_error_sentence(status), code);
  a->stream = NULL;
}

static void on_held(void *data, int status, const pu_error *err, pu_stream *s) {
  static const pu_stream_events events = {.on_end = on_refused};
  sim_on_open(data, status, err, s);
  if (s != NULL)
    pu_stream_set_events(s, &events, data);
}

/* open_many opens streams from |h| and returns how many it got. */
static unsigned open_many(sim_host *h, const char *protocol, sim_answer answers[static STREAMS]) {
  unsigned got = 0;
  for (size_t i = 0; i < STREAMS; i++) {
    answers[i] = (sim_answer){0};
    const int rc = pu_engine_open_stream(h->engine, &w.victim.id, &protocol, 1, 0, 0, on_held,
                                         &answers[i], NULL);
    SIM_CHECK(rc == 0, "open: %s", pu_error_sentence(rc));
    if (i % 50 == 49)
      sim_run_for(w.sim, 5 * SIM_SECOND); /* fewer than may negotiate at once */
  }
  for (size_t i = 0; i < STREAMS; i++) {
    SIM_CHECK(answers[i].calls == 1, "stream %zu: %u answers", i, answers[i].calls);
    SIM_CHECK(answers[i].status == 0, "stream %zu: %s", i, pu_error_sentence(answers[i].status));
    got += answers[i].stream != NULL;
  }
  return got;
}

static void close_all(sim_answer answers[static STREAMS]) {
  for (size_t i = 0; i < STREAMS; i++)
    if (answers[i].stream != NULL)
      pu_stream_close(answers[i].stream);
  sim_run_for(w.sim, 5 * SIM_SECOND);
}

static void run_streams(void) {
  static sim_answer one[STREAMS], two[STREAMS], rare[STREAMS], ping;
  pu_engine *e = w.victim.engine;
  int rc = pu_engine_handle(e, HOLD, hold_stream, NULL);
  if (rc == 0)
    rc = pu_engine_handle(e, RARE, hold_stream, NULL);
  if (rc == 0)
    rc = pu_engine_limit_protocol(e, RARE, 7, 0);
  SIM_CHECK(rc == 0, "serve: %s", pu_error_sentence(rc));
  must_connect(&w.friend, "the friend");
  must_connect(&w.newcomer, "the newcomer");
  unsigned got = open_many(&w.friend, HOLD, one);
  SIM_CHECK(got == 50, "the friend got %u", got);
  SIM_CHECK(stat_of("streams.per_protocol_and_peer").refused == STREAMS - 50, "not counted");
  got = open_many(&w.newcomer, HOLD, two);
  SIM_CHECK(got == 30, "the newcomer got %u", got);
  SIM_CHECK(stat_of("streams.per_protocol").refused == STREAMS - 30, "not counted");
  SIM_CHECK(stat_of("streams.per_protocol").used == 80, "of 80");
  got = open_many(&w.newcomer, RARE, rare);
  SIM_CHECK(got == 7, "of the rare protocol %u", got);
  SIM_CHECK(sim_ping(&w.friend, &w.victim, &ping) == 0, "no ping beside the streams");
  close_all(one);
  close_all(two);
  close_all(rare);
  SIM_CHECK(stat_of("streams.total").used == 0, "%" PRIu64 " stay", stat_of("streams.total").used);
  SIM_CHECK(stat_of("streams.per_protocol").used == 0, "a protocol's stay");
  got = open_many(&w.newcomer, HOLD, two);
  SIM_CHECK(got == 50, "afterwards %u", got);
  close_all(two);
}

/* ---- one seed ---- */

static void begin(uint64_t seed) {
  const pu_limits limits = {.conns_pending = 128,
                            .conns_pending_per_ip = 16,
                            .streams_in_per_protocol = 80,
                            .streams_in_per_protocol_peer = 50};
  memset(&w, 0, sizeof(w));
  sim_seed = seed;
  int rc = pu_sim_new(seed, &w.sim);
  SIM_CHECK(rc == 0, "network");
  const pu_sim_link link = {.delay_us = draw(1000, 100000), .jitter_us = draw(0, 20000)};
  rc = pu_sim_set_link(w.sim, NULL, NULL, &link);
  SIM_CHECK(rc == 0, "link");
  w.shared_port = draw(0, 1) == 0;
  sim_host_start(w.sim, &w.victim, 1, &limits);
  sim_host_start(w.sim, &w.friend, 2, NULL);
  sim_host_start(w.sim, &w.newcomer, 3, NULL);
  if (w.shared_port) {
    rc = pu_engine_listen(w.victim.engine, "/ip4/10.0.0.1/tcp/4001/ws", NULL);
    SIM_CHECK(rc == 0, "listen: %s", pu_error_sentence(rc));
  }
  sim_host_knows(&w.friend, &w.victim);
  sim_host_knows(&w.newcomer, &w.victim);
  must_connect(&w.friend, "the friend"); /* so its address is known */
  sim_run_for(w.sim, SIM_SECOND);        /* to the victim, too, which is done later */
  (void)pu_engine_disconnect(w.friend.engine, &w.victim.id);
  sim_run_for(w.sim, SIM_SECOND);
  w.idle_bytes = pu_engine_memory(w.victim.engine);
}

static void end(void) {
  (void)pu_engine_disconnect(w.friend.engine, &w.victim.id);
  (void)pu_engine_disconnect(w.newcomer.engine, &w.victim.id);
  sim_run_for(w.sim, 30 * SIM_SECOND); /* the half-open ones have had their time */
  SIM_CHECK(waiting_count() == 0, "%zu still wait", waiting_count());
  SIM_CHECK(stat_of("connections.total").used == 0, "connections stay");
  /* What the store has learned of the newcomer stays, and so does what is known of addresses. */
  const size_t used = pu_engine_memory(w.victim.engine);
  SIM_CHECK(used <= w.idle_bytes + 16384, "%zu bytes, %zu before", used, w.idle_bytes);
  for (size_t i = 0; i < w.conn_count; i++)
    pu_tcp_close(w.conns[i].tcp, true);
  sim_host_end(&w.newcomer);
  sim_host_end(&w.friend);
  sim_host_end(&w.victim);
  sim_run_for(w.sim, SIM_SECOND);
  SIM_CHECK(pu_sim_open_sockets(w.sim) == 0, "%zu sockets are left", pu_sim_open_sockets(w.sim));
  pu_sim_free(w.sim);
}

int main(int argc, char **argv) {
  static void (*const stories[STORIES])(void) = {run_many, run_one, run_rolling, run_streams};
  uint64_t first = 1, seeds = 1000, told[STORIES] = {0};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--seeds") == 0)
      seeds = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--first") == 0)
      first = strtoull(argv[i + 1], NULL, 10);
  }
  const char *only = getenv("PEERUP_SIM_SEED");
  if (only != NULL) {
    first = strtoull(only, NULL, 10);
    seeds = 1;
  }
  for (uint64_t seed = first; seed < first + seeds; seed++) {
    begin(seed);
    const uint64_t story = draw(0, STORIES - 1);
    stories[story]();
    told[story]++;
    end();
  }
  (void)printf("%" PRIu64 " seeds (%" PRIu64 " from many addresses, %" PRIu64 " from one, %" PRIu64
               " rolling, %" PRIu64 " of streams)\n",
               seeds, told[MANY], told[ONE], told[ROLLING], told[STREAM_FLOOD]);
  return 0;
}
