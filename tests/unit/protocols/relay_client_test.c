/* Reservations that are kept, and connections that a relay brings: our side, before honest relays
 * and before others. */
#include "identity/envelope.h"
#include "support/relay_peer.h"
#include "support/unit.h"
#include "swarm/engine_priv.h"

#define MS 1000u
#define SECONDS ((uint64_t)SIM_SECOND)

typedef struct rig {
  pu_sim *sim;
  sim_host relay, home, third;
  char circuit[256]; /* home's address through the relay */
} rig;

static rig *rig_new(void) {
  rig *r = calloc(1, sizeof(*r));
  assert_non_null(r);
  sim_seed = 1;
  assert_int_equal(pu_sim_new(1, &r->sim), 0);
  assert_int_equal(pu_sim_set_link(r->sim, NULL, NULL, &(pu_sim_link){.delay_us = 10 * MS}), 0);
  sim_host_start(r->sim, &r->relay, 1, NULL);
  sim_host_start(r->sim, &r->home, 2, NULL);
  sim_host_start(r->sim, &r->third, 3, NULL);
  (void)snprintf(r->circuit, sizeof(r->circuit), "%s/p2p-circuit", r->relay.full);
  return r;
}

static void rig_end(rig *r) {
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

typedef struct reservations {
  size_t count;
  pu_reservation_info info; /* the last one */
} reservations;

static void on_info(void *data, const pu_reservation_info *info) {
  reservations *all = data;
  all->count++;
  all->info = *info;
}

/* info_of returns the only reservation of |h|. */
static pu_reservation_info info_of(const sim_host *h) {
  reservations all = {0};
  pu_engine_reservations(h->engine, on_info, &all);
  assert_int_equal(all.count, 1);
  return all.info;
}

typedef struct find {
  const char *text;
  bool found;
} find;

static void on_addr(void *data, const char *addr) {
  find *f = data;
  f->found = f->found || strcmp(addr, f->text) == 0;
}

/* announces says whether home tells its address through the relay. */
static bool announces(const rig *r) {
  find f = {.text = r->circuit};
  pu_engine_addrs(r->home.engine, on_addr, &f);
  return f.found;
}

static void reserve(rig *r, uint32_t interval_s) {
  pu_error err = {0};
  assert_int_equal(pu_engine_reserve(r->home.engine, r->relay.full, interval_s, &err), 0);
}

/* ---- honest relays ---- */

static void test_kept(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_relay_config config = {
      .reservation_ttl_s = 120, .session_duration_s = 60, .session_data_bytes = 4096};
  assert_int_equal(pu_engine_relay_start(r->relay.engine, &config), 0);
  reserve(r, 30);
  assert_false(info_of(&r->home).active);
  assert_false(announces(r));
  RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 1);
  assert_string_equal(r->home.last_detail,
                      "each connection through it may last 60 s and carry 4096 bytes each way");
  pu_reservation_info info = info_of(&r->home);
  assert_true(info.active);
  assert_true(pu_peer_id_equal(&info.relay, &r->relay.id));
  assert_int_equal(info.limit_duration_s, 60);
  assert_int_equal(info.limit_data_bytes, 4096);
  assert_true(info.expires_unix_s > pu_wall_ns(r->home.platform) / 1000000000u + 100);
  assert_true(announces(r));
  sim_run_for(r->sim, 600 * SECONDS); /* refreshed each 30 s, on one connection, without a gap */
  assert_true(r->relay.asked[PU_ASK_RESERVATION] >= 19);
  assert_true(r->relay.asked[PU_ASK_RESERVATION] <= 22);
  assert_int_equal(r->home.events[PU_EVENT_RESERVATION_LOST], 0);
  assert_int_equal(r->home.events[PU_EVENT_CONNECTED], 1);
  assert_true(info_of(&r->home).active);
  rig_end(r);
}

/* The relay does not take a connection for idle that it needs to reach us. */
static void test_kept_while_idle(void **state) {
  (void)state;
  rig *r = rig_new();
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  reserve(r, 0);
  sim_run_for(r->sim, 1000 * SECONDS);
  assert_int_equal(r->home.events[PU_EVENT_CONNECTED], 1);
  assert_int_equal(r->home.events[PU_EVENT_RESERVATION_LOST], 0);
  assert_true(announces(r));
  rig_end(r);
}

/* An interval that is longer than the relay's patience does not lose the reservation. */
static void test_refreshed_in_time(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_relay_config config = {.reservation_ttl_s = 40};
  assert_int_equal(pu_engine_relay_start(r->relay.engine, &config), 0);
  reserve(r, 3600);
  for (int i = 0; i < 100; i++) {
    sim_run_for(r->sim, 3 * SECONDS);
    assert_true(info_of(&r->home).active);
    assert_true(info_of(&r->home).expires_unix_s > pu_wall_ns(r->home.platform) / 1000000000u);
  }
  rig_end(r);
}

static void test_comes_back(void **state) {
  (void)state;
  rig *r = rig_new();
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 1);
  pu_sim_cut(r->sim, r->home.platform, r->relay.platform);
  RUN_UNTIL(r, SECONDS, r->home.events[PU_EVENT_RESERVATION_LOST] == 1);
  assert_int_equal(info_of(&r->home).last_status, PU_E_GONE);
  assert_non_null(strstr(info_of(&r->home).detail, "the connection to the relay ended"));
  RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 2);
  assert_true(announces(r));
  /* The relay is away for ten minutes: tries get rarer, and the first after its return is soon. */
  sim_host_end(&r->relay);
  RUN_UNTIL(r, SECONDS, !announces(r));
  sim_run_for(r->sim, 600 * SECONDS);
  const unsigned lost = r->home.events[PU_EVENT_RESERVATION_LOST];
  assert_true(lost >= 10 && lost <= 30);
  pu_reservation_info info = info_of(&r->home);
  assert_false(info.active);
  assert_int_equal(info.last_status, PU_E_REFUSED);
  assert_true(strstr(info.detail, r->relay.addr) != NULL);
  assert_int_equal(sim_host_begin(&r->relay, NULL, 0), 0);
  assert_int_equal(pu_engine_listen(r->relay.engine, r->relay.addr, NULL), 0);
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  RUN_UNTIL(r, 80 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 3);
  assert_true(announces(r));
  rig_end(r);
}

/* A reservation that goes with one of two connections is asked for over the other at once. */
static void test_another_connection(void **state) {
  (void)state;
  rig *r = rig_new();
  sim_answer answer;
  pu_relay_stats stats;
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 1);
  pu_conn *reserving = pu_engine_best_conn(r->home.engine, &r->relay.id);
  assert_int_equal(sim_connect(&r->home, &r->relay, PU_CONNECT_NEW, &answer), 0);
  assert_ptr_not_equal(answer.conn, reserving);
  pu_conn_close(reserving);
  RUN_UNTIL(r, SECONDS, r->home.events[PU_EVENT_RESERVED] == 2);
  assert_int_equal(r->home.events[PU_EVENT_RESERVATION_LOST], 0);
  assert_true(announces(r));
  pu_engine_relay_stats(r->relay.engine, &stats);
  assert_int_equal(stats.reservations, 1);
  rig_end(r);
}

static void test_refused(void **state) {
  (void)state;
  rig *r = rig_new();
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  r->relay.denied = 1u << PU_ASK_RESERVATION;
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVATION_LOST] == 1);
  assert_int_equal(r->home.last_status, PU_E_DENIED);
  assert_true(strstr(r->home.last_detail, "PERMISSION_DENIED") != NULL);
  assert_int_equal(info_of(&r->home).last_status, PU_E_DENIED);
  r->relay.denied = 0;
  RUN_UNTIL(r, 10 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 1);
  assert_int_equal(info_of(&r->home).last_status, 0);
  assert_string_equal(info_of(&r->home).detail, "");
  /* A refresh that is refused leaves what is still good. */
  r->relay.denied = 1u << PU_ASK_RESERVATION;
  RUN_UNTIL(r, 130 * SECONDS, r->home.events[PU_EVENT_RESERVATION_LOST] >= 2);
  assert_true(info_of(&r->home).active);
  assert_true(announces(r));
  rig_end(r);
}

static void test_not_a_relay(void **state) {
  (void)state;
  rig *r = rig_new();
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVATION_LOST] == 1);
  assert_int_equal(r->home.last_status, PU_E_UNSUPPORTED);
  assert_string_equal(r->home.last_detail, "this peer is not a relay");
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0); /* it becomes one */
  RUN_UNTIL(r, 10 * SECONDS, r->home.events[PU_EVENT_RESERVED] == 1);
  rig_end(r);
}

static void test_unreserve(void **state) {
  (void)state;
  for (uint64_t us = 0; us < 200 * MS; us += 10 * MS) { /* at every step of the first reservation */
    rig *r = rig_new();
    assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
    reserve(r, 0);
    sim_run_for(r->sim, us);
    pu_engine_unreserve(r->home.engine, &r->relay.id);
    pu_engine_unreserve(r->home.engine, &r->relay.id);
    assert_false(announces(r));
    reservations all = {0};
    pu_engine_reservations(r->home.engine, on_info, &all);
    assert_int_equal(all.count, 0);
    const unsigned reserved = r->home.events[PU_EVENT_RESERVED];
    sim_run_for(r->sim, 200 * SECONDS);
    assert_int_equal(r->home.events[PU_EVENT_RESERVED], reserved);
    assert_int_equal(r->home.engine->conn_count, 0); /* idle, not protected any more */
    reserve(r, 0);                                   /* and again */
    RUN_UNTIL(r, 5 * SECONDS, announces(r));
    rig_end(r);
  }
}

static void count_addr(void *data, const char *addr) {
  unsigned *counts = data; /* all; over UDP, which are guesses */
  counts[0]++;
  counts[1] += strstr(addr, "/udp/") != NULL;
}

/* What was told of a relay for its reservation goes with it; what it told itself ends as of any
 * peer. */
static void test_unreserve_forgets_guesses(void **state) {
  (void)state;
  rig *r = rig_new();
  unsigned known[2] = {0};
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  assert_int_equal(pu_engine_add_addr(r->home.engine, &r->relay.id,
                                      "/ip4/10.0.0.1/udp/4001/quic-v1", UINT32_MAX, NULL),
                   0);
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, announces(r));
  sim_run_for(r->sim, SECONDS); /* identify */
  pu_engine_known_addrs(r->home.engine, &r->relay.id, count_addr, known);
  assert_int_equal(known[0], 2);
  assert_int_equal(known[1], 1);
  pu_engine_unreserve(r->home.engine, &r->relay.id);
  known[0] = known[1] = 0;
  pu_engine_known_addrs(r->home.engine, &r->relay.id, count_addr, known);
  assert_int_equal(known[0], 1);
  assert_int_equal(known[1], 0);
  sim_run_for(r->sim, 24 * 3600 * SECONDS);
  known[0] = 0;
  pu_engine_known_addrs(r->home.engine, &r->relay.id, count_addr, known);
  assert_int_equal(known[0], 0);
  rig_end(r);
}

static void test_addresses(void **state) {
  (void)state;
  rig *r = rig_new();
  char own[256], with_circuit[512];
  pu_error err;
  assert_int_equal(pu_engine_reserve(r->home.engine, "/ip4/1.2.3/tcp/1", 0, &err), PU_E_PARSE);
  assert_int_equal(pu_engine_reserve(r->home.engine, r->relay.addr, 0, &err), PU_E_INVAL);
  assert_non_null(strstr(err.detail, "/p2p/"));
  assert_int_equal(pu_engine_reserve(r->home.engine, "/ip4/10.0.0.1/udp/1", 0, &err),
                   PU_E_UNSUPPORTED);
  (void)snprintf(own, sizeof(own), "%s", r->home.full);
  assert_int_equal(pu_engine_reserve(r->home.engine, own, 0, &err), PU_E_INVAL);
  /* Listening on a relay's circuit address is reserving; the same relay twice is one reservation.
   */
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  (void)snprintf(with_circuit, sizeof(with_circuit), "%s/p2p-circuit", r->relay.full);
  assert_int_equal(pu_engine_listen(r->home.engine, with_circuit, &err), 0);
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, announces(r));
  assert_true(info_of(&r->home).active);
  assert_int_equal(r->relay.asked[PU_ASK_RESERVATION], 1);
  rig_end(r);
}

/* ---- relays that answer nonsense ---- */

typedef struct liar {
  relay_peer peers[64];
  size_t count;
  uint8_t answer[1024];
  size_t answer_len;
} liar;

static int on_lie(void *data, pu_stream *s) {
  liar *l = data;
  SIM_CHECK(l->count < 64, "too many");
  relay_peer *p = &l->peers[l->count++];
  *p = (relay_peer){.stream = s, .opened = true};
  pu_stream_set_events(s, &relay_peer_events, p);
  if (l->answer_len > 0) {
    relay_peer_write(p, l->answer, l->answer_len);
    relay_peer_close(p);
  }
  return 0;
}

static void lie(liar *l, const pu_relay_message *m) {
  const ssize_t len = pu_relay_encode(m, l->answer, sizeof(l->answer));
  assert_true(len > 0);
  l->answer_len = (size_t)len;
}

/* voucher_of makes a voucher that host |signer| signs. */
static size_t voucher_of(const sim_host *signer, const pu_peer_id *relay, const pu_peer_id *peer,
                         uint8_t out[static 512]) {
  static const uint8_t type[2] = {0x03, 0x02};
  const pu_voucher v = {.relay = *relay, .peer = *peer, .expiration = UINT32_MAX};
  pu_mem mem;
  uint8_t *payload, *sealed;
  size_t payload_len, len;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  assert_int_equal(pu_voucher_encode(&mem, &v, &payload, &payload_len), 0);
  assert_int_equal(pu_envelope_seal(&mem, signer->engine->key, PU_ENVELOPE_VOUCHER_DOMAIN, type,
                                    payload, payload_len, &sealed, &len),
                   0);
  assert_true(len <= 512);
  memcpy(out, sealed, len);
  pu_free(payload);
  pu_free(sealed);
  pu_mem_deinit(&mem);
  return len;
}

static void test_lies(void **state) {
  (void)state;
  uint8_t voucher[512];
  rig *r = rig_new();
  liar *l = calloc(1, sizeof(*l));
  assert_non_null(l);
  assert_int_equal(pu_engine_handle(r->relay.engine, PU_RELAY_HOP_ID, on_lie, l), 0);
  const uint64_t soon = pu_wall_ns(r->home.platform) / 1000000000u + 100000;
  const pu_relay_message good = {.type = PU_RELAY_STATUS,
                                 .has_status = true,
                                 .status = PU_RELAY_OK,
                                 .has_reservation = true,
                                 .expire = soon};
  for (int how = 0; how < 9; how++) {
    pu_relay_message m = good;
    int want = PU_E_PROTOCOL;
    switch (how) {
    case 0: /* not a message */
      memcpy(l->answer, "\x04\xff\xff\xff\xff", 5);
      l->answer_len = 5;
      break;
    case 1: /* not an answer */
      lie(l, &(pu_relay_message){.type = PU_RELAY_RESERVE});
      break;
    case 2: /* no reservation in it */
      m.has_reservation = false;
      lie(l, &m);
      break;
    case 3: /* of yesterday */
      m.expire = soon - 200000;
      lie(l, &m);
      break;
    case 4: /* a voucher of another relay's */
      m.voucher =
          (pu_relay_bytes){voucher, voucher_of(&r->third, &r->relay.id, &r->home.id, voucher)};
      lie(l, &m);
      want = PU_E_CRYPTO;
      break;
    case 5: /* about another relay */
      m.voucher =
          (pu_relay_bytes){voucher, voucher_of(&r->relay, &r->third.id, &r->home.id, voucher)};
      lie(l, &m);
      want = PU_E_CRYPTO;
      break;
    case 6: /* for another peer */
      m.voucher =
          (pu_relay_bytes){voucher, voucher_of(&r->relay, &r->relay.id, &r->third.id, voucher)};
      lie(l, &m);
      want = PU_E_CRYPTO;
      break;
    case 7: /* a status that does not exist */
      m.status = 299;
      lie(l, &m);
      want = PU_E_RELAY_REFUSED;
      break;
    default: /* the end, without a word: one byte of a message */
      l->answer[0] = 9;
      l->answer_len = 1;
      want = PU_E_EOF;
    }
    reserve(r, 0);
    RUN_UNTIL(r, 5 * SECONDS, r->home.events[PU_EVENT_RESERVATION_LOST] == (unsigned)how + 1);
    assert_int_equal(info_of(&r->home).last_status, want);
    assert_false(info_of(&r->home).active || announces(r));
    pu_engine_unreserve(r->home.engine, &r->relay.id);
    sim_run_for(r->sim, 100 * MS);
  }
  /* The honest one among them is taken, with a voucher and without. */
  for (int with = 0; with < 2; with++) {
    pu_relay_message m = good;
    if (with)
      m.voucher =
          (pu_relay_bytes){voucher, voucher_of(&r->relay, &r->relay.id, &r->home.id, voucher)};
    lie(l, &m);
    reserve(r, 0);
    RUN_UNTIL(r, 5 * SECONDS, announces(r));
    pu_engine_unreserve(r->home.engine, &r->relay.id);
    sim_run_for(r->sim, 100 * MS);
  }
  /* An end beyond all time, which is none when it is counted in microseconds, is taken calmly. */
  pu_relay_message far = good;
  far.expire = pu_wall_ns(r->home.platform) / 1000000000u + (1ull << 58);
  lie(l, &far);
  reserve(r, 0);
  const unsigned before = r->home.events[PU_EVENT_RESERVED];
  sim_run_for(r->sim, 20 * SECONDS);
  assert_int_equal(r->home.events[PU_EVENT_RESERVED], before + 1);
  pu_engine_unreserve(r->home.engine, &r->relay.id);
  sim_run_for(r->sim, 100 * MS);
  /* Silence is ended. */
  l->answer_len = 0;
  const unsigned lost = r->home.events[PU_EVENT_RESERVATION_LOST];
  reserve(r, 0);
  RUN_UNTIL(r, 70 * SECONDS, r->home.events[PU_EVENT_RESERVATION_LOST] > lost);
  assert_int_equal(info_of(&r->home).last_status, PU_E_TIMEOUT);
  rig_end(r);
  free(l);
}

/* ---- a program that acts inside the event that tells it something ---- */

typedef enum deed { UNRESERVE, RESERVE_ANEW, DISCONNECT, DEEDS } deed;

typedef struct listener {
  rig *r;
  deed deed;
  pu_event_type type; /* it acts upon */
  unsigned deeds;
} listener;

static void on_event_act(void *data, const pu_event *event) {
  listener *l = data;
  rig *r = l->r;
  pu_engine *e = r->home.engine;
  if (e == NULL)
    return;
  if (event->type == l->type && l->deeds < 5) {
    l->deeds++;
    if (l->deed == DISCONNECT)
      (void)pu_engine_disconnect(e, &r->relay.id);
    else
      pu_engine_unreserve(e, &r->relay.id);
    if (l->deed == RESERVE_ANEW)
      reserve(r, 10);
  }
  sim_host_event(&r->home, event); /* what the event says is still there */
  SIM_CHECK(event->peer == NULL || event->peer->len > 0, "no peer");
}

/* Through the life of a reservation: the first one, a cut, a refusal, its end; rules that forbid
 * the relay. Afterwards one is made as if nothing had been. */
static void test_acting_in_events(void **state) {
  (void)state;
  static const pu_event_type types[] = {PU_EVENT_CONNECTED, PU_EVENT_DISCONNECTED,
                                        PU_EVENT_ADDRESSES, PU_EVENT_RESERVED,
                                        PU_EVENT_RESERVATION_LOST};
  for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
    for (deed d = 0; d < DEEDS; d++) {
      rig *r = rig_new();
      pu_engine *e = r->home.engine;
      listener l = {.r = r, .deed = d, .type = types[i]};
      const pu_relay_config config = {.reservation_ttl_s = 40};
      assert_int_equal(pu_engine_relay_start(r->relay.engine, &config), 0);
      e->event_data = &l;
      e->on_event = on_event_act;
      reserve(r, 10);
      sim_run_for(r->sim, 30 * SECONDS);
      reserve(r, 10);
      sim_run_for(r->sim, 10 * SECONDS);
      pu_sim_cut(r->sim, r->home.platform, r->relay.platform);
      sim_run_for(r->sim, 5 * SECONDS);
      reserve(r, 10);
      r->relay.denied = 1u << PU_ASK_RESERVATION; /* until it has run out */
      sim_run_for(r->sim, 60 * SECONDS);
      r->relay.denied = 0;
      reserve(r, 10);
      sim_run_for(r->sim, 10 * SECONDS);
      SIM_CHECK(l.deeds > 0, "event %d, deed %d: not told", (int)types[i], (int)d);
      e->on_event = sim_host_event;
      e->event_data = &r->home;
      reserve(r, 10);
      RUN_UNTIL(r, 90 * SECONDS, announces(r));
      assert_true(info_of(&r->home).active);
      pu_engine_unreserve(e, &r->relay.id);
      sim_run_for(r->sim, 200 * SECONDS);
      assert_int_equal(e->conn_count, 0); /* nothing protects it any more */
      rig_end(r);
    }
  }
}

/* ---- what relays bring ---- */

static void open_stop(relay_peer *p, sim_host *from, const sim_host *to, const void *bytes,
                      size_t len) {
  static const char *const protocols[] = {PU_RELAY_STOP_ID};
  *p = (relay_peer){.host = from, .stop = true};
  memcpy(p->send, bytes, len);
  p->send_len = len;
  int rc =
      pu_engine_open_stream(from->engine, &to->id, protocols, 1, 0, 0, relay_peer_on_open, p, NULL);
  SIM_CHECK(rc == 0, "open: %s", pu_error_sentence(rc));
}

static size_t stop_connect(const sim_host *from, uint8_t out[static 256]) {
  const pu_relay_message m = {.stop = true,
                              .type = PU_RELAY_CONNECT,
                              .has_peer = true,
                              .peer = {from->id.bytes, from->id.len}};
  const ssize_t len = pu_relay_encode(&m, out, 256);
  assert_true(len > 0);
  return (size_t)len;
}

static void test_strangers_bring_nothing(void **state) {
  (void)state;
  rig *r = rig_new();
  relay_peer p;
  uint8_t out[256];
  const size_t len = stop_connect(&r->third, out);
  sim_host_knows(&r->third, &r->home);
  open_stop(&p, &r->third, &r->home, out, len);
  RUN_UNTIL(r, 5 * SECONDS, p.ended);
  assert_int_equal(p.status, PU_E_RESET);
  assert_false(p.done);
  rig_end(r);
}

static void test_stop_messages(void **state) {
  (void)state;
  rig *r = rig_new();
  relay_peer p;
  uint8_t out[256];
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, announces(r));
  const struct {
    const char *bytes;
    size_t len;
    uint32_t status;
  } cases[] = {{"\x04\xff\xff\xff\xff", 5, PU_RELAY_MALFORMED_MESSAGE},
               {"\x81\x20", 2, PU_RELAY_MALFORMED_MESSAGE},
               {"\x04\x08\x01\x20\x64", 5, PU_RELAY_UNEXPECTED_MESSAGE}, /* a status */
               {"\x02\x08\x00", 3, PU_RELAY_UNEXPECTED_MESSAGE}};        /* from nobody */
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    open_stop(&p, &r->relay, &r->home, cases[i].bytes, cases[i].len);
    RUN_UNTIL(r, 5 * SECONDS, p.done && p.eof);
    assert_int_equal(p.m.type, PU_RELAY_STATUS);
    assert_int_equal(p.m.status, cases[i].status);
    relay_peer_close(&p);
  }
  open_stop(&p, &r->relay, &r->home, "\x05", 1); /* silent in the middle of a message */
  sim_run_for(r->sim, 55 * SECONDS);
  assert_false(p.ended || p.done);
  RUN_UNTIL(r, 10 * SECONDS, p.ended);
  /* A circuit on which nobody speaks is a connection that does not finish its handshake. */
  const size_t len = stop_connect(&r->third, out);
  open_stop(&p, &r->relay, &r->home, out, len);
  RUN_UNTIL(r, 5 * SECONDS, p.done);
  assert_int_equal(p.m.status, PU_RELAY_OK);
  RUN_UNTIL(r, 20 * SECONDS, p.ended || p.eof);
  relay_peer_close(&p);
  rig_end(r);
}

/* A relay that opens very many circuits and says nothing gets its due and no more. */
static void test_flood_of_circuits(void **state) {
  (void)state;
  enum { MANY = 200 };
  rig *r = rig_new();
  relay_peer *peers = calloc(MANY, sizeof(*peers));
  assert_non_null(peers);
  assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
  reserve(r, 0);
  RUN_UNTIL(r, 5 * SECONDS, announces(r));
  const size_t before = pu_engine_memory(r->home.engine);
  for (size_t i = 0; i < MANY; i++)
    open_stop(&peers[i], &r->relay, &r->home, "\x05", 1);
  sim_run_for(r->sim, 2 * SECONDS);
  size_t refused = 0;
  for (size_t i = 0; i < MANY; i++)
    refused += peers[i].ended;
  assert_int_equal(refused, MANY - 64);
  assert_true(pu_engine_memory(r->home.engine) - before < 1u << 20);
  for (size_t i = 0; i < MANY; i++)
    relay_peer_reset(&peers[i]);
  /* Whole circuits in handshake: bounded, too. */
  uint8_t out[256];
  const size_t len = stop_connect(&r->third, out);
  sim_run_for(r->sim, SECONDS);
  for (size_t i = 0; i < MANY; i++)
    open_stop(&peers[i], &r->relay, &r->home, out, len);
  sim_run_for(r->sim, 2 * SECONDS);
  assert_true(r->home.engine->limiter.pending <= r->home.engine->limits.conns_pending);
  sim_run_for(r->sim, 20 * SECONDS);
  assert_int_equal(r->home.engine->limiter.pending, 0);
  assert_true(announces(r)); /* the reservation does not suffer */
  for (size_t i = 0; i < MANY; i++)
    relay_peer_reset(&peers[i]);
  free(peers);
  rig_end(r);
}

/* ---- memory ---- */

/* Home's n-th allocation fails, for each n: sooner or later the reservation stands. */
static void test_each_allocation_fails(void **state) {
  (void)state;
  unsigned unharmed = 0;
  for (uint64_t n = 1; unharmed < 3; n++) {
    rig *r = rig_new();
    assert_int_equal(pu_engine_relay_start(r->relay.engine, NULL), 0);
    pu_mem *mem = &r->home.engine->mem;
    const uint64_t before = mem->count;
    pu_mem_fail_at(mem, n);
    if (pu_engine_reserve(r->home.engine, r->relay.full, 0, NULL) != 0)
      reserve(r, 0);
    /* Not by |announces|, which takes memory of its own. */
    RUN_UNTIL(r, 200 * SECONDS, r->home.engine->relay_addr_count == 1);
    unharmed += mem->count - before < n;
    rig_end(r);
    SIM_CHECK(n < 1000, "no end");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_kept),
      cmocka_unit_test(test_kept_while_idle),
      cmocka_unit_test(test_refreshed_in_time),
      cmocka_unit_test(test_comes_back),
      cmocka_unit_test(test_another_connection),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_not_a_relay),
      cmocka_unit_test(test_unreserve),
      cmocka_unit_test(test_unreserve_forgets_guesses),
      cmocka_unit_test(test_addresses),
      cmocka_unit_test(test_lies),
      cmocka_unit_test(test_acting_in_events),
      cmocka_unit_test(test_strangers_bring_nothing),
      cmocka_unit_test(test_stop_messages),
      cmocka_unit_test(test_flood_of_circuits),
      cmocka_unit_test(test_each_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
