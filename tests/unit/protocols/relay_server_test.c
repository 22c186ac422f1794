/* The relay, seen from its clients, who speak by hand: reservations, circuits, refusals, limits. */
#include "identity/envelope.h"
#include "support/relay_peer.h"
#include "support/unit.h"
#include "swarm/conn.h"
#include "swarm/engine_priv.h"
#include "transport/upgraded.h"

#define MS 1000u
#define ANSWER_US (5 * (uint64_t)SIM_SECOND)

typedef struct rig {
  pu_sim *sim;
  sim_host relay, home, away, third;
  relay_stops stops; /* at home */
} rig;

static const pu_relay_message RESERVE = {.type = PU_RELAY_RESERVE};

static pu_relay_message connect_to(const sim_host *target) {
  return (pu_relay_message){
      .type = PU_RELAY_CONNECT, .has_peer = true, .peer = {target->id.bytes, target->id.len}};
}

static const pu_relay_message STOP_OK = {
    .stop = true, .type = PU_RELAY_STATUS, .has_status = true, .status = PU_RELAY_OK};

/* rig_new makes a relay with |config| and three hosts that know it. */
static rig *rig_new(const pu_relay_config *config) {
  rig *r = calloc(1, sizeof(*r));
  assert_non_null(r);
  sim_seed = 1;
  assert_int_equal(pu_sim_new(1, &r->sim), 0);
  assert_int_equal(pu_sim_set_link(r->sim, NULL, NULL, &(pu_sim_link){.delay_us = 10 * MS}), 0);
  sim_host_start(r->sim, &r->relay, 1, NULL);
  sim_host_start(r->sim, &r->home, 2, NULL);
  sim_host_start(r->sim, &r->away, 3, NULL);
  sim_host_start(r->sim, &r->third, 4, NULL);
  sim_host_knows(&r->home, &r->relay);
  sim_host_knows(&r->away, &r->relay);
  sim_host_knows(&r->third, &r->relay);
  pu_engine_unserve(r->home.engine, PU_RELAY_STOP_ID);
  assert_int_equal(pu_engine_serve(r->home.engine, PU_RELAY_STOP_ID, relay_stops_take, &r->stops),
                   0);
  assert_int_equal(pu_engine_relay_start(r->relay.engine, config), 0);
  return r;
}

static void rig_end(rig *r) {
  sim_host_end(&r->away);
  sim_host_end(&r->third);
  sim_host_end(&r->home);
  sim_host_end(&r->relay);
  sim_run_for(r->sim, SIM_SECOND);
  assert_int_equal(pu_sim_open_sockets(r->sim), 0);
  pu_sim_free(r->sim);
  free(r);
}

#define RUN_UNTIL(r, us, cond)                                                 \
  do {                                                                         \
    const uint64_t end_ = pu_sim_now_us((r)->sim) + (us);                      \
    while (!(cond) && pu_sim_now_us((r)->sim) < end_ && pu_sim_step((r)->sim)) \
      ;                                                                        \
    SIM_CHECK(cond, "not in time");                                            \
  } while (0)

static pu_relay_stats stats_of(const rig *r) {
  pu_relay_stats stats;
  pu_engine_relay_stats(r->relay.engine, &stats);
  return stats;
}

/* ask sends |m| on a hop stream and returns the answer's status; the stream stays in |p|. */
static uint32_t ask(rig *r, relay_peer *p, sim_host *from, const pu_relay_message *m) {
  relay_peer_open(p, from, &r->relay, m);
  RUN_UNTIL(r, ANSWER_US, p->done || p->ended || p->eof || p->rc != 0);
  SIM_CHECK(p->done && p->rc == 0, "no answer: ended %d (%s), eof %d", p->ended,
            pu_error_sentence(p->status), p->eof);
  assert_int_equal(p->m.type, PU_RELAY_STATUS);
  assert_true(p->m.has_status);
  return p->m.status;
}

/* check_refused asks and wants a refusal, behind which the relay closes. */
static void check_refused(rig *r, sim_host *from, const pu_relay_message *m, uint32_t status) {
  relay_peer p;
  assert_int_equal(ask(r, &p, from, m), status);
  RUN_UNTIL(r, ANSWER_US, p.eof);
  relay_peer_close(&p);
}

static void reserve(rig *r, sim_host *from) {
  relay_peer p;
  assert_int_equal(ask(r, &p, from, &RESERVE), PU_RELAY_OK);
  assert_true(p.m.has_reservation);
  relay_peer_close(&p);
}

/* A circuit from |from| to home: both ends by hand. */
static void make_circuit(rig *r, relay_peer *source, sim_host *from, relay_peer **target) {
  const pu_relay_message m = connect_to(&r->home);
  const size_t before = r->stops.count;
  relay_peer_open(source, from, &r->relay, &m);
  RUN_UNTIL(r, ANSWER_US, r->stops.count > before && r->stops.peers[before].done);
  *target = &r->stops.peers[before];
  assert_int_equal((*target)->rc, 0);
  assert_int_equal((*target)->m.type, PU_RELAY_CONNECT);
  assert_int_equal((*target)->m.peer.len, from->id.len);
  assert_memory_equal((*target)->m.peer.data, from->id.bytes, from->id.len);
  relay_peer_say(*target, &STOP_OK);
  RUN_UNTIL(r, ANSWER_US, source->done);
  assert_int_equal(source->m.status, PU_RELAY_OK);
}

/* ---- reservations ---- */

static void test_reservation(void **state) {
  (void)state;
  static const uint8_t type[2] = {0x03, 0x02};
  rig *r = rig_new(&(pu_relay_config){
      .reservation_ttl_s = 1800, .session_duration_s = 120, .session_data_bytes = 1000000});
  relay_peer p;
  const uint64_t now_s = pu_wall_ns(r->home.platform) / 1000000000u;
  assert_int_equal(ask(r, &p, &r->home, &RESERVE), PU_RELAY_OK);
  assert_true(p.m.has_reservation && p.m.has_limit);
  assert_true(p.m.expire >= now_s + 1800 && p.m.expire <= now_s + 1802);
  assert_int_equal(p.m.limit_duration_s, 120);
  assert_int_equal(p.m.limit_data_bytes, 1000000);
  assert_int_equal(p.m.addr_count, 0); /* of a private network none is told */
  pu_envelope envelope;
  pu_voucher voucher;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  assert_int_equal(pu_envelope_open(&mem, PU_ENVELOPE_VOUCHER_DOMAIN, type, p.m.voucher.data,
                                    p.m.voucher.len, &envelope),
                   0);
  pu_mem_deinit(&mem);
  assert_int_equal(pu_voucher_decode(envelope.payload, envelope.payload_len, &voucher), 0);
  assert_true(pu_peer_id_equal(&envelope.signer, &r->relay.id));
  assert_true(pu_peer_id_equal(&voucher.relay, &r->relay.id));
  assert_true(pu_peer_id_equal(&voucher.peer, &r->home.id));
  assert_int_equal(voucher.expiration, p.m.expire);
  RUN_UNTIL(r, ANSWER_US, p.eof);
  relay_peer_close(&p);
  assert_int_equal(stats_of(r).reservations, 1);
  reserve(r, &r->home); /* a refresh is not another one */
  assert_int_equal(stats_of(r).reservations, 1);
  rig_end(r);
}

static void test_refused_reservations(void **state) {
  (void)state;
  rig *r = rig_new(&(pu_relay_config){.max_reservations = 1});
  r->relay.denied = 1u << PU_ASK_RESERVATION;
  check_refused(r, &r->home, &RESERVE, PU_RELAY_PERMISSION_DENIED);
  r->relay.denied = 0;
  reserve(r, &r->home);
  check_refused(r, &r->away, &RESERVE, PU_RELAY_RESERVATION_REFUSED);
  assert_int_equal(stats_of(r).reservations, 1);
  assert_int_equal(stats_of(r).refused_reservations, 2);
  /* The reservation ends with its connection, which makes room. */
  assert_int_equal(pu_engine_disconnect(r->home.engine, &r->relay.id), 1);
  sim_run_for(r->sim, SIM_SECOND);
  assert_int_equal(stats_of(r).reservations, 0);
  reserve(r, &r->away);
  rig_end(r);
}

static void test_reservation_expires(void **state) {
  (void)state;
  rig *r = rig_new(&(pu_relay_config){.reservation_ttl_s = 30});
  const pu_relay_message m = connect_to(&r->home);
  assert_int_equal(pu_engine_protect(r->home.engine, &r->relay.id, true), 0);
  assert_int_equal(pu_engine_protect(r->relay.engine, &r->home.id, true), 0);
  reserve(r, &r->home);
  sim_run_for(r->sim, 31 * (uint64_t)SIM_SECOND);
  assert_int_equal(r->relay.engine->conn_count, 1); /* the connection still stands */
  assert_int_equal(stats_of(r).reservations, 0);
  check_refused(r, &r->away, &m, PU_RELAY_NO_RESERVATION);
  rig_end(r);
}

/* ---- messages that make no sense ---- */

static void test_malformed(void **state) {
  (void)state;
  static const uint8_t garbage[] = {5, 0xff, 0xff, 0xff, 0xff, 0xff};
  static const uint8_t too_long[] = {0x81, 0x20};
  rig *r = rig_new(NULL);
  relay_peer p;
  const struct {
    const uint8_t *bytes;
    size_t len;
  } cases[] = {{garbage, sizeof(garbage)}, {too_long, sizeof(too_long)}};
  for (size_t i = 0; i < 2; i++) {
    relay_peer_open(&p, &r->away, &r->relay, NULL);
    memcpy(p.send, cases[i].bytes, cases[i].len);
    p.send_len = cases[i].len;
    RUN_UNTIL(r, ANSWER_US, p.done && p.eof);
    assert_int_equal(p.m.status, PU_RELAY_MALFORMED_MESSAGE);
    relay_peer_close(&p);
  }
  /* No message at all: an early end, or silence. */
  relay_peer_open(&p, &r->away, &r->relay, NULL);
  RUN_UNTIL(r, ANSWER_US, p.opened);
  assert_int_equal(pu_stream_close_write(p.stream), 0);
  RUN_UNTIL(r, ANSWER_US, p.done);
  assert_int_equal(p.m.status, PU_RELAY_MALFORMED_MESSAGE);
  relay_peer_close(&p);
  relay_peer_open(&p, &r->away, &r->relay, NULL);
  sim_run_for(r->sim, 55 * (uint64_t)SIM_SECOND);
  assert_false(p.done);
  RUN_UNTIL(r, 10 * (uint64_t)SIM_SECOND, p.done);
  relay_peer_close(&p);
  check_refused(r, &r->away, &(pu_relay_message){.type = PU_RELAY_STATUS},
                PU_RELAY_UNEXPECTED_MESSAGE);
  check_refused(r, &r->away, &(pu_relay_message){.type = PU_RELAY_CONNECT},
                PU_RELAY_MALFORMED_MESSAGE);
  check_refused(r, &r->away,
                &(pu_relay_message){.type = PU_RELAY_CONNECT,
                                    .has_peer = true,
                                    .peer = {(const uint8_t *)"\x12\x20x", 3}},
                PU_RELAY_MALFORMED_MESSAGE);
  rig_end(r);
}

/* ---- circuits ---- */

static void test_refused_circuits(void **state) {
  (void)state;
  rig *r = rig_new(NULL);
  pu_relay_message m = connect_to(&r->home);
  check_refused(r, &r->away, &m, PU_RELAY_NO_RESERVATION);
  reserve(r, &r->home);
  r->relay.denied = 1u << PU_ASK_CIRCUIT;
  check_refused(r, &r->away, &m, PU_RELAY_PERMISSION_DENIED);
  r->relay.denied = 0;
  check_refused(r, &r->home, &m, PU_RELAY_CONNECTION_FAILED); /* to itself */
  assert_int_equal(stats_of(r).refused_circuits, 3);
  assert_int_equal(r->stops.count, 0);
  rig_end(r);
}

/* Whatever the target says but OK is CONNECTION_FAILED for the source. */
static void test_target_refuses(void **state) {
  (void)state;
  for (int how = 0; how < 6; how++) {
    rig *r = rig_new(NULL);
    const pu_relay_message m = connect_to(&r->home);
    relay_peer p;
    reserve(r, &r->home);
    relay_peer_open(&p, &r->away, &r->relay, &m);
    RUN_UNTIL(r, ANSWER_US, r->stops.count == 1 && r->stops.peers[0].done);
    relay_peer *target = &r->stops.peers[0];
    pu_relay_message answer = STOP_OK;
    switch (how) {
    case 0:
      answer.status = PU_RELAY_CONNECTION_FAILED;
      relay_peer_say(target, &answer);
      break;
    case 1:
      answer.type = PU_RELAY_CONNECT;
      relay_peer_say(target, &answer);
      break;
    case 2:
      relay_peer_write(target, "\x05\xff\xff\xff\xff\xff", 6);
      break;
    case 3:
      relay_peer_close(target);
      break;
    case 4:
      relay_peer_reset(target);
      break;
    default: /* silence */
      sim_run_for(r->sim, 50 * (uint64_t)SIM_SECOND);
      assert_false(p.done);
      sim_run_for(r->sim, 12 * (uint64_t)SIM_SECOND);
    }
    RUN_UNTIL(r, ANSWER_US, p.done);
    assert_int_equal(p.m.status, PU_RELAY_CONNECTION_FAILED);
    assert_int_equal(stats_of(r).circuits, 0);
    assert_int_equal(stats_of(r).refused_circuits, 1);
    relay_peer_close(&p);
    rig_end(r);
  }
}

/* The target's connection or the source's ends while the circuit is being made. */
static void test_ends_while_connecting(void **state) {
  (void)state;
  for (int source = 0; source < 2; source++) {
    for (uint64_t us = 0; us < 60 * MS; us += 5 * MS) {
      rig *r = rig_new(NULL);
      const pu_relay_message m = connect_to(&r->home);
      relay_peer p;
      sim_answer answer;
      reserve(r, &r->home);
      assert_int_equal(sim_connect(&r->away, &r->relay, 0, &answer), 0);
      relay_peer_open(&p, &r->away, &r->relay, &m);
      sim_run_for(r->sim, us);
      sim_host *gone = source ? &r->away : &r->home;
      pu_sim_cut(r->sim, gone->platform, r->relay.platform);
      RUN_UNTIL(r, ANSWER_US, p.done || p.ended || p.open_status != 0);
      assert_int_equal(stats_of(r).circuits, 0);
      relay_peer_close(&p);
      rig_end(r);
    }
  }
}

/* The source's connection is cut between any two events of a circuit's beginning. */
static void test_cut_at_every_event(void **state) {
  (void)state;
  bool begun = false;
  for (unsigned steps = 0; !begun; steps++) {
    rig *r = rig_new(&(pu_relay_config){.session_duration_s = 5});
    const pu_relay_message m = connect_to(&r->home);
    relay_peer source;
    reserve(r, &r->home);
    relay_peer_open(&source, &r->away, &r->relay, &m);
    RUN_UNTIL(r, ANSWER_US, r->stops.count == 1 && r->stops.peers[0].done);
    relay_peer_say(&r->stops.peers[0], &STOP_OK);
    for (unsigned i = 0; i < steps && !source.done; i++)
      (void)pu_sim_step(r->sim);
    begun = source.done;
    pu_sim_cut(r->sim, r->away.platform, r->relay.platform);
    RUN_UNTIL(r, ANSWER_US, source.ended && r->stops.peers[0].ended);
    sim_run_for(r->sim, 10 * (uint64_t)SIM_SECOND);
    assert_int_equal(stats_of(r).circuits, 0);
    rig_end(r);
  }
}

/* raw_frame writes one frame of yamux of |source|'s stream past its muxer, in two records. */
static void raw_frame(const relay_peer *source, const uint8_t *data, size_t len) {
  static uint8_t memory[PU_SPAN_HEAD + 65519 + PU_SPAN_TAIL];
  pu_upgraded *u = PU_CONTAINER_OF(source->stream->conn->session, pu_upgraded, base);
  pu_channel *c = &u->channel;
  const uint32_t id = pu_yamux_stream_id((pu_yamux_stream *)source->stream->ss);
  uint8_t *at = memory + PU_SPAN_HEAD;
  const uint8_t header[12] = {0,
                              0,
                              0,
                              0,
                              (uint8_t)(id >> 24),
                              (uint8_t)(id >> 16),
                              (uint8_t)(id >> 8),
                              (uint8_t)id,
                              (uint8_t)(len >> 24),
                              (uint8_t)(len >> 16),
                              (uint8_t)(len >> 8),
                              (uint8_t)len};
  memcpy(at, header, 12);
  pu_span io = {at, 12, PU_SPAN_HEAD, PU_SPAN_TAIL};
  assert_int_equal(pu_channel_send(c, &io, false), 0);
  memcpy(at, data, len);
  io = (pu_span){at, len, PU_SPAN_HEAD, PU_SPAN_TAIL};
  assert_int_equal(pu_channel_send(c, &io, false), 0);
}

/* A record may hold a few bytes more of a stream than one of ours has room for. */
static void test_odd_records(void **state) {
  (void)state;
  enum { MOST = 65519 };
  static uint8_t bytes[MOST];
  for (size_t i = 0; i < sizeof(bytes); i++)
    bytes[i] = (uint8_t)(i * 11 + (i >> 8));
  rig *r = rig_new(NULL);
  relay_peer source, *target;
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  for (size_t len = MOST - 14; len <= MOST; len++) {
    target->raw_len = 0;
    raw_frame(&source, bytes, len);
    RUN_UNTIL(r, ANSWER_US, target->raw_len == len);
    assert_memory_equal(target->raw, bytes, len);
  }
  relay_peer_close(&source);
  rig_end(r);
}

/* Bytes right behind the messages, half-close both ways, counts. */
static void test_circuit(void **state) {
  (void)state;
  rig *r = rig_new(&(pu_relay_config){.session_duration_s = 100, .session_data_bytes = 5000});
  relay_peer source, *target;
  const pu_relay_message m = connect_to(&r->home);
  reserve(r, &r->home);
  relay_peer_open(&source, &r->away, &r->relay, &m);
  memcpy(source.send + source.send_len, "early", 5); /* an eager source */
  source.send_len += 5;
  RUN_UNTIL(r, ANSWER_US, r->stops.count == 1 && r->stops.peers[0].done);
  target = &r->stops.peers[0];
  assert_true(target->m.has_limit);
  assert_int_equal(target->m.limit_duration_s, 100);
  assert_int_equal(target->m.limit_data_bytes, 5000);
  sim_run_for(r->sim, SIM_SECOND);
  assert_int_equal(target->raw_len, 0); /* nothing passes before the answer */
  uint8_t out[32];
  const ssize_t len = pu_relay_encode(&STOP_OK, out, sizeof(out));
  memcpy(out + len, "hello", 5);
  relay_peer_write(target, out, (size_t)len + 5);
  RUN_UNTIL(r, ANSWER_US, source.raw_len == 5 && target->raw_len == 5);
  assert_int_equal(source.m.status, PU_RELAY_OK);
  assert_true(source.m.has_limit);
  assert_int_equal(source.m.limit_data_bytes, 5000);
  assert_memory_equal(source.raw, "hello", 5);
  assert_memory_equal(target->raw, "early", 5);
  assert_int_equal(stats_of(r).circuits, 1);
  assert_int_equal(r->relay.events[PU_EVENT_RELAY_CIRCUIT], 1);
  assert_int_equal(pu_stream_close_write(source.stream), 0);
  RUN_UNTIL(r, ANSWER_US, target->eof);
  relay_peer_write(target, "more", 4);
  RUN_UNTIL(r, ANSWER_US, source.raw_len == 9);
  assert_false(source.eof);
  relay_peer_close(target);
  RUN_UNTIL(r, ANSWER_US, source.eof);
  assert_memory_equal(source.raw, "hellomore", 9);
  relay_peer_close(&source);
  sim_run_for(r->sim, SIM_SECOND);
  assert_int_equal(stats_of(r).circuits, 0);
  assert_int_equal(stats_of(r).bytes, 14);
  assert_int_equal(stats_of(r).ended_by_limit, 0);
  assert_int_equal(r->relay.events[PU_EVENT_RELAY_CIRCUIT], 2);
  rig_end(r);
}

static void test_circuit_is_reset(void **state) {
  (void)state;
  for (int by_source = 0; by_source < 2; by_source++) {
    rig *r = rig_new(NULL);
    relay_peer source, *target;
    reserve(r, &r->home);
    make_circuit(r, &source, &r->away, &target);
    relay_peer_reset(by_source ? &source : target);
    relay_peer *other = by_source ? target : &source;
    RUN_UNTIL(r, ANSWER_US, other->ended);
    assert_int_equal(other->status, PU_E_RESET);
    assert_int_equal(stats_of(r).circuits, 0);
    rig_end(r);
  }
}

static void test_circuits_of_a_peer(void **state) {
  (void)state;
  rig *r = rig_new(&(pu_relay_config){.max_circuits = 2});
  relay_peer sources[3], *targets[3];
  const pu_relay_message m = connect_to(&r->home);
  reserve(r, &r->home);
  make_circuit(r, &sources[0], &r->away, &targets[0]);
  make_circuit(r, &sources[1], &r->third, &targets[1]);
  check_refused(r, &r->third, &m, PU_RELAY_RESOURCE_LIMIT_EXCEEDED); /* home has two */
  relay_peer_reset(&sources[0]);
  sim_run_for(r->sim, SIM_SECOND);
  /* One under way counts, too. */
  relay_peer p;
  relay_peer_open(&p, &r->away, &r->relay, &m);
  RUN_UNTIL(r, ANSWER_US, r->stops.count == 3 && r->stops.peers[2].done);
  check_refused(r, &r->third, &m, PU_RELAY_RESOURCE_LIMIT_EXCEEDED);
  relay_peer_reset(&r->stops.peers[2]);
  RUN_UNTIL(r, ANSWER_US, p.done);
  relay_peer_close(&p);
  make_circuit(r, &sources[2], &r->away, &targets[2]);
  relay_peer_reset(&sources[1]);
  relay_peer_reset(&sources[2]);
  rig_end(r);
}

/* ---- limits ---- */

/* Each direction carries so many bytes and not one more; then it ends, and the other goes on. */
static void test_data_limit(void **state) {
  (void)state;
  static uint8_t bytes[40000];
  rig *r = rig_new(&(pu_relay_config){.session_data_bytes = 30000});
  relay_peer source, *target;
  for (size_t i = 0; i < sizeof(bytes); i++)
    bytes[i] = (uint8_t)(i * 7 + (i >> 8));
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  relay_peer_write(&source, bytes, 29999);
  RUN_UNTIL(r, ANSWER_US, target->raw_len == 29999);
  sim_run_for(r->sim, SIM_SECOND);
  assert_false(target->eof);
  relay_peer_write(&source, bytes + 29999, 10001);
  RUN_UNTIL(r, ANSWER_US, target->eof);
  assert_int_equal(target->raw_total, 30000);
  assert_memory_equal(target->raw, bytes, 30000);
  assert_false(source.eof || source.ended);
  assert_int_equal(stats_of(r).circuits, 1);
  relay_peer_write(target, bytes, 40000);
  RUN_UNTIL(r, ANSWER_US, source.eof || source.ended);
  assert_int_equal(source.raw_total, 30000);
  assert_memory_equal(source.raw, bytes, 30000);
  sim_run_for(r->sim, SIM_SECOND);
  assert_int_equal(stats_of(r).circuits, 0);
  assert_int_equal(stats_of(r).ended_by_limit, 1);
  assert_int_equal(stats_of(r).bytes, 60000);
  assert_int_equal(r->relay.last_status, PU_E_RELAY_LIMIT);
  relay_peer_reset(&source);
  relay_peer_reset(target);
  rig_end(r);
}

static void test_duration_limit(void **state) {
  (void)state;
  rig *r = rig_new(&(pu_relay_config){.session_duration_s = 30});
  relay_peer source, *target;
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  sim_run_for(r->sim, 29 * (uint64_t)SIM_SECOND);
  relay_peer_write(&source, "still", 5);
  RUN_UNTIL(r, 500 * MS, target->raw_len == 5);
  RUN_UNTIL(r, SIM_SECOND, source.ended && target->ended);
  assert_int_equal(source.status, PU_E_RESET);
  assert_int_equal(target->status, PU_E_RESET);
  assert_int_equal(stats_of(r).ended_by_limit, 1);
  assert_int_equal(r->relay.last_status, PU_E_RELAY_LIMIT);
  rig_end(r);
}

/* A receiver that does not read holds its sender back, at the cost of windows; nothing is lost. */
static void test_slow_receiver(void **state) {
  (void)state;
  static uint8_t piece[60000];
  rig *r = rig_new(NULL);
  relay_peer source, *target;
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  const size_t before = pu_engine_memory(r->relay.engine);
  target->paused = true;
  uint64_t sent = 0;
  for (int i = 0; i < 100; i++) {
    for (size_t k = 0; k < sizeof(piece); k++)
      piece[k] = (uint8_t)((sent + k) * 31 + ((sent + k) >> 9));
    const ssize_t n = pu_stream_write(source.stream, piece, sizeof(piece));
    assert_true(n >= 0);
    sent += (uint64_t)n;
    sim_run_for(r->sim, 50 * MS);
  }
  assert_true(sent < 2u << 20); /* windows: of the source's stream, and of the target's */
  assert_true(pu_engine_memory(r->relay.engine) < before + (1u << 20));
  target->paused = false;
  pu_stream_resume(target->stream);
  sim_run_for(r->sim, 2 * SIM_SECOND);
  assert_int_equal(target->raw_total, sent);
  for (size_t k = 0; k < target->raw_len; k++)
    assert_int_equal(target->raw[k], (uint8_t)(k * 31 + (k >> 9)));
  relay_peer_reset(&source);
  rig_end(r);
}

/* ---- rules and ends ---- */

static void test_recheck(void **state) {
  (void)state;
  rig *r = rig_new(NULL);
  relay_peer source, *target;
  const pu_relay_message m = connect_to(&r->home);
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  assert_int_equal(pu_engine_recheck(r->relay.engine), 0);
  r->relay.denied = 1u << PU_ASK_CIRCUIT;
  assert_int_equal(pu_engine_recheck(r->relay.engine), 1);
  RUN_UNTIL(r, ANSWER_US, source.ended && target->ended);
  pu_conn *held = pu_engine_find_conn(r->relay.engine, &r->home.id, true);
  assert_true(held->keep_until_us > 0);
  r->relay.denied = 1u << PU_ASK_RESERVATION;
  assert_int_equal(pu_engine_recheck(r->relay.engine), 1);
  assert_int_equal(stats_of(r).reservations, 0);
  assert_int_equal(held->keep_until_us, 0); /* and so its connection may end when nobody uses it */
  r->relay.denied = 0;
  check_refused(r, &r->away, &m, PU_RELAY_NO_RESERVATION);
  rig_end(r);
}

/* A circuit that is denied while it is being made does not begin. */
static void test_recheck_while_connecting(void **state) {
  (void)state;
  rig *r = rig_new(NULL);
  relay_peer source;
  const pu_relay_message m = connect_to(&r->home);
  reserve(r, &r->home);
  relay_peer_open(&source, &r->away, &r->relay, &m);
  RUN_UNTIL(r, ANSWER_US, r->stops.count == 1 && r->stops.peers[0].done);
  assert_int_equal(pu_engine_recheck(r->relay.engine), 0);
  r->relay.denied = 1u << PU_ASK_CIRCUIT;
  assert_int_equal(pu_engine_recheck(r->relay.engine), 1);
  relay_peer_say(&r->stops.peers[0], &STOP_OK);
  RUN_UNTIL(r, ANSWER_US, source.done && r->stops.peers[0].ended);
  assert_int_equal(source.m.status, PU_RELAY_PERMISSION_DENIED);
  assert_int_equal(stats_of(r).circuits, 0);
  assert_int_equal(stats_of(r).refused_circuits, 1);
  relay_peer_close(&source);
  rig_end(r);
}

static void test_stopping(void **state) {
  (void)state;
  rig *r = rig_new(NULL);
  relay_peer source, *target, asking, pending;
  const pu_relay_message m = connect_to(&r->home);
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), PU_E_EXISTS);
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  relay_peer_open(&asking, &r->third, &r->relay, NULL); /* silent */
  relay_peer_open(&pending, &r->third, &r->relay, &m);  /* home does not answer */
  RUN_UNTIL(r, ANSWER_US, r->stops.count == 2 && r->stops.peers[1].done && asking.opened);
  pu_engine_relay_stop(r->relay.engine);
  pu_engine_relay_stop(r->relay.engine); /* harmless */
  RUN_UNTIL(r, ANSWER_US, source.ended && target->ended && pending.done && asking.done);
  assert_int_equal(pending.m.status, PU_RELAY_CONNECTION_FAILED);
  assert_int_equal(stats_of(r).reservations + stats_of(r).circuits, 0);
  relay_peer_close(&asking);
  relay_peer_close(&pending);
  sim_run_for(r->sim, SIM_SECOND);
  relay_peer_open(&asking, &r->third, &r->relay, &RESERVE);
  RUN_UNTIL(r, ANSWER_US, asking.opened && (asking.open_status != 0 || asking.ended));
  assert_false(asking.done);
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  sim_run_for(r->sim, SIM_SECOND); /* identify tells that we are a relay again */
  reserve(r, &r->home);
  make_circuit(r, &source, &r->away, &target);
  rig_end(r); /* closes with a circuit and a reservation */
}

/* Of two connections of one peer the one that reserved last is used, and when it ends the other. */
static void test_newest_connection(void **state) {
  (void)state;
  rig *r = rig_new(NULL);
  const pu_relay_message m = connect_to(&r->home);
  relay_peer source;
  sim_answer answer;
  pu_conn *conns[2];
  assert_int_equal(sim_connect(&r->home, &r->relay, 0, &answer), 0);
  conns[0] = answer.conn;
  assert_int_equal(sim_connect(&r->home, &r->relay, PU_CONNECT_NEW, &answer), 0);
  conns[1] = answer.conn;
  assert_ptr_not_equal(conns[0], conns[1]);
  for (size_t i = 0; i < 5; i++) { /* first, second, first, and again when nothing is asked anew */
    relay_peer p = {0};
    const size_t which = i < 3 ? i % 2 : 4 - i;
    if (i < 3) {
      static const char *const protocols[] = {PU_RELAY_HOP_ID};
      p.send_len = (size_t)pu_relay_encode(&RESERVE, p.send, sizeof(p.send));
      assert_int_equal(
          pu_conn_open_stream(conns[which], protocols, 1, 0, 0, relay_peer_on_open, &p, NULL), 0);
      RUN_UNTIL(r, ANSWER_US, p.done);
      assert_int_equal(p.m.status, PU_RELAY_OK);
      relay_peer_close(&p);
      assert_int_equal(stats_of(r).reservations, 1);
    } else if (i == 3) {
      pu_conn_close(conns[0]); /* the newest: the other is still good */
      sim_run_for(r->sim, SIM_SECOND);
      assert_int_equal(stats_of(r).reservations, 1);
    } else {
      pu_conn_close(conns[1]); /* the last one */
      sim_run_for(r->sim, SIM_SECOND);
      assert_int_equal(stats_of(r).reservations, 0);
      check_refused(r, &r->away, &m, PU_RELAY_NO_RESERVATION);
      break;
    }
    relay_peer_open(&source, &r->away, &r->relay, &m);
    RUN_UNTIL(r, ANSWER_US, r->stops.count == i + 1 && r->stops.peers[i].done);
    assert_ptr_equal(pu_stream_conn(r->stops.peers[i].stream), conns[which]);
    relay_peer_reset(&r->stops.peers[i]);
    RUN_UNTIL(r, ANSWER_US, source.done);
    relay_peer_close(&source);
  }
  rig_end(r);
}

/* ---- a program that acts inside the event that tells it something ---- */

typedef enum deed { DISCONNECT_HOME, DISCONNECT_AWAY, STOP, RESTART, RECHECK, DEEDS } deed;

typedef struct listener {
  sim_host *host, *home, *away;
  deed deed;
  unsigned deeds;
} listener;

static void on_event_act(void *data, const pu_event *event) {
  listener *l = data;
  pu_engine *e = l->host->engine;
  if (e == NULL || (event->type != PU_EVENT_DENIED && event->type != PU_EVENT_RELAY_CIRCUIT))
    return;
  if (l->deeds++ < 20) {
    if (l->deed <= DISCONNECT_AWAY) {
      const sim_host *h = l->deed == DISCONNECT_HOME ? l->home : l->away;
      (void)pu_engine_disconnect(e, &h->id);
    } else if (l->deed == RECHECK) {
      (void)pu_engine_recheck(e);
    } else {
      pu_engine_relay_stop(e);
      if (l->deed == RESTART) {
        const int rc = pu_engine_relay_start(e, NULL);
        /* Stopping told of an end, in which it was started again. */
        SIM_CHECK(rc == 0 || rc == PU_E_EXISTS, "restart: %s", pu_error_sentence(rc));
      }
    }
  }
  sim_host_event(l->host, event); /* what the event says is still there */
  SIM_CHECK(event->peer != NULL && event->peer->len > 0, "no peer");
}

/* A refused reservation, a refused circuit, rules that change while a circuit is being made or
 * runs, and a circuit's beginning and end: each with each deed. */
static void test_acting_in_events(void **state) {
  (void)state;
  for (deed d = 0; d < DEEDS; d++) {
    for (int when = 0; when < 6; when++) {
      rig *r = rig_new(NULL);
      listener l = {.host = &r->relay, .home = &r->home, .away = &r->away, .deed = d};
      const pu_relay_message m = connect_to(&r->home);
      relay_peer source, *target = NULL;
      pu_engine *e = r->relay.engine;
      const bool running = when == 4;
      reserve(r, &r->home);
      if (running)
        make_circuit(r, &source, &r->away, &target);
      e->event_data = &l;
      e->on_event = on_event_act;
      switch (when) {
      case 0:
        r->relay.denied = 1u << PU_ASK_RESERVATION;
        relay_peer_open(&source, &r->away, &r->relay, &RESERVE);
        break;
      case 1:
        r->relay.denied = 1u << PU_ASK_CIRCUIT;
        relay_peer_open(&source, &r->away, &r->relay, &m);
        break;
      case 2:
        reserve(r, &r->away);
        source = (relay_peer){.ended = true};
        r->relay.denied = 1u << PU_ASK_RESERVATION;
        (void)pu_engine_recheck(e);
        assert_int_equal(stats_of(r).reservations, 0);
        break;
      case 3:
        relay_peer_open(&source, &r->away, &r->relay, &m);
        RUN_UNTIL(r, ANSWER_US, r->stops.count == 1 && r->stops.peers[0].done);
        r->relay.denied = 1u << PU_ASK_CIRCUIT;
        (void)pu_engine_recheck(e);
        break;
      case 4:
        r->relay.denied = 1u << PU_ASK_CIRCUIT;
        (void)pu_engine_recheck(e);
        assert_int_equal(stats_of(r).circuits, 0);
        break;
      default: /* as it begins */
        relay_peer_open(&source, &r->away, &r->relay, &m);
        RUN_UNTIL(r, ANSWER_US, r->stops.count == 1 && r->stops.peers[0].done);
        relay_peer_say(&r->stops.peers[0], &STOP_OK);
        RUN_UNTIL(r, ANSWER_US, r->relay.events[PU_EVENT_RELAY_CIRCUIT] > 0);
        if (d == RECHECK) /* nothing was denied, and it runs; then it ends */
          relay_peer_reset(&r->stops.peers[0]);
      }
      RUN_UNTIL(r, ANSWER_US, source.done || source.ended || source.eof || source.open_status != 0);
      sim_run_for(r->sim, SIM_SECOND);
      assert_true(l.deeds > 0);
      assert_int_equal(stats_of(r).circuits, 0);
      relay_peer_reset(&source);
      e->on_event = sim_host_event;
      e->event_data = &r->relay;
      rig_end(r);
    }
  }
}

/* A peer that opens very many hop streams and says nothing is held off; others do not notice. */
static void test_flood(void **state) {
  (void)state;
  enum { MANY = 300 };
  rig *r = rig_new(NULL);
  relay_peer *peers = calloc(MANY, sizeof(*peers));
  assert_non_null(peers);
  for (size_t i = 0; i < MANY; i++)
    relay_peer_open(&peers[i], &r->away, &r->relay, NULL);
  sim_run_for(r->sim, 2 * SIM_SECOND);
  size_t refused = 0;
  for (size_t i = 0; i < MANY; i++)
    refused += peers[i].ended;
  assert_int_equal(refused, MANY - 32);
  reserve(r, &r->home);
  for (size_t i = 0; i < MANY; i++)
    relay_peer_reset(&peers[i]);
  sim_run_for(r->sim, SIM_SECOND);
  reserve(r, &r->away);
  free(peers);
  rig_end(r);
}

/* The relay's n-th allocation fails, for each n: clients get an answer or an end, accounts balance.
 */
static void test_each_allocation_fails(void **state) {
  (void)state;
  unsigned unharmed = 0;
  for (uint64_t n = 1; unharmed < 3; n++) {
    rig *r = rig_new(NULL);
    relay_peer p, source;
    const pu_relay_message m = connect_to(&r->home);
    pu_mem *mem = &r->relay.engine->mem;
    sim_answer answer;
    assert_int_equal(sim_connect(&r->home, &r->relay, 0, &answer), 0);
    assert_int_equal(sim_connect(&r->away, &r->relay, 0, &answer), 0);
    sim_run_for(r->sim, SIM_SECOND);
    const uint64_t before = mem->count;
    pu_mem_fail_at(mem, n);
    relay_peer_open(&p, &r->home, &r->relay, &RESERVE);
    RUN_UNTIL(r, 20 * (uint64_t)SIM_SECOND, p.done || p.ended || p.eof || p.open_status != 0);
    relay_peer_open(&source, &r->away, &r->relay, &m);
    RUN_UNTIL(r, 20 * (uint64_t)SIM_SECOND,
              source.done || source.ended || source.eof || source.open_status != 0 ||
                  r->stops.count > 0);
    if (r->stops.count > 0) {
      relay_peer *target = &r->stops.peers[0];
      RUN_UNTIL(r, 20 * (uint64_t)SIM_SECOND, target->done || target->ended);
      if (target->stream != NULL) {
        relay_peer_say(target, &STOP_OK);
        relay_peer_write(target, "bytes", 5);
      }
      RUN_UNTIL(r, 70 * (uint64_t)SIM_SECOND,
                source.ended || source.eof || source.raw_len == 5 ||
                    (source.done && source.m.status != PU_RELAY_OK));
    }
    unharmed += mem->count - before < n;
    relay_peer_reset(&p);
    relay_peer_reset(&source);
    rig_end(r);
    SIM_CHECK(n < 1000, "no end");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reservation),
      cmocka_unit_test(test_refused_reservations),
      cmocka_unit_test(test_reservation_expires),
      cmocka_unit_test(test_malformed),
      cmocka_unit_test(test_refused_circuits),
      cmocka_unit_test(test_target_refuses),
      cmocka_unit_test(test_ends_while_connecting),
      cmocka_unit_test(test_cut_at_every_event),
      cmocka_unit_test(test_circuit),
      cmocka_unit_test(test_odd_records),
      cmocka_unit_test(test_circuit_is_reset),
      cmocka_unit_test(test_circuits_of_a_peer),
      cmocka_unit_test(test_data_limit),
      cmocka_unit_test(test_duration_limit),
      cmocka_unit_test(test_slow_receiver),
      cmocka_unit_test(test_recheck),
      cmocka_unit_test(test_recheck_while_connecting),
      cmocka_unit_test(test_stopping),
      cmocka_unit_test(test_newest_connection),
      cmocka_unit_test(test_acting_in_events),
      cmocka_unit_test(test_flood),
      cmocka_unit_test(test_each_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
