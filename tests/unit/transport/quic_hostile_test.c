/* Hostile peers of our QUIC, over the wire: what they show in the handshake, and what they say when
 * it is over. The listener ends what breaks the rules, keeps its memory within bounds whatever is
 * said, and serves an honest peer afterwards. */
#include "platform/sim.h"
#include "support/cmocka.h"
#include "support/quic_mallory.h"
#include "support/quic_rig.h"

#define SECOND 1000000u
#define KIB 1024u
/* What a storm may add to the memory of a connection whose window stays closed. */
#define STORM_BYTES (256u * KIB)

typedef struct stage {
  pu_sim *sim;
  rig_end home, friend; /* home listens */
  pu_platform *stranger;
  pu_sockaddr stranger_ip, to;
  pu_key *key; /* the stranger's identity */
  mallory m;
} stage;

static void run(stage *t, uint64_t us) {
  (void)pu_sim_run(t->sim, pu_sim_now_us(t->sim) + us, NULL);
}

static void begin(stage *t) {
  static const pu_sockaddr ips[3] = {{.family = 4, .ip = {10, 0, 0, 1}},
                                     {.family = 4, .ip = {10, 0, 0, 2}},
                                     {.family = 4, .ip = {10, 0, 0, 3}}};
  const pu_sockaddr any = {.family = 4, .port = 4001};
  const uint8_t seed[32] = {3};
  pu_platform *platforms[2];
  memset(t, 0, sizeof *t);
  assert_int_equal(pu_sim_new(11, &t->sim), 0);
  assert_int_equal(pu_sim_add_host(t->sim, "home", &ips[0], 1, &platforms[0]), 0);
  assert_int_equal(pu_sim_add_host(t->sim, "friend", &ips[1], 1, &platforms[1]), 0);
  assert_int_equal(pu_sim_add_host(t->sim, "stranger", &ips[2], 1, &t->stranger), 0);
  assert_int_equal(pu_sim_set_link(t->sim, NULL, NULL, &(pu_sim_link){.delay_us = 1000}), 0);
  rig_begin(&t->home, platforms[0], 1, PU_QUIC_CUBIC);
  rig_begin(&t->friend, platforms[1], 2, PU_QUIC_CUBIC);
  assert_int_equal(pu_quic_listen(t->home.quic, &any, &t->to), 0);
  memcpy(t->to.ip, ips[0].ip, 4);
  t->stranger_ip = ips[2];
  assert_int_equal(pu_key_from_seed(seed, &t->key), 0);
}

/* a_friend_gets_in shows that home still serves, and that nothing of the stranger is left. */
static void a_friend_gets_in(stage *t) {
  rig_dialled d;
  pu_quic_stats stats;
  int status;
  run(t, 60 * SECOND); /* all deadlines */
  rig_reap(&t->home);
  assert_int_equal(t->home.session_count, 0);
  pu_quic_stats_get(t->home.quic, &stats);
  assert_int_equal(stats.half_open, 0);
  t->home.serve_echo = true;
  rig_dial(&t->friend, &t->to, &d);
  run(t, SECOND);
  assert_int_equal(d.status, 0);
  assert_true(d.session->open);
  rig_stream *r = rig_open(d.session, &status);
  assert_int_equal(status, 0);
  r->to_send = 100000;
  r->close_when_sent = true;
  rig_pump(r);
  run(t, SECOND);
  assert_true(r->eof);
  assert_int_equal(r->received, 100000);
  assert_int_equal(r->hash_in, r->hash_out);
}

static void finish(stage *t) {
  rig_finish(&t->home);
  rig_finish(&t->friend);
  pu_key_free(t->key);
  pu_sim_free(t->sim);
}

/* ---- in the handshake ---- */

typedef struct shown {
  const char *name;
  gnutls_peer_certificate shape;
  unsigned count;
  const char *alpn;
  uint64_t code; /* that the stranger is refused with; 0: it gets in */
} shown;

#define ALERT(description) (0x100u + (description))
#define BAD_CERTIFICATE ALERT(42u)

static const shown handshakes[] = {
    {"as it should be", {0}, 1, "libp2p", 0},
    {"another protocol", {0}, 1, "h3", ALERT(120u)},
    {"no protocol", {0}, 1, NULL, ALERT(120u)},
    {"no certificate", {0}, 0, "libp2p", ALERT(116u)},
    {"two certificates", {0}, 2, "libp2p", BAD_CERTIFICATE},
    {"no extension", {.no_extension = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"the identity signed another key", {.other_key_signed = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"another key signed it", {.other_issuer = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"a broken signature", {.broken_signature = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"an unknown critical extension", {.unknown_critical = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"expired", {.expired = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"of the future", {.future = true}, 1, "libp2p", BAD_CERTIFICATE},
    {"an RSA key", {.algorithm = GNUTLS_PK_RSA}, 1, "libp2p", 0},
    {"an Ed25519 key",
     {.algorithm = GNUTLS_PK_EDDSA_ED25519,
      .bits = (unsigned)GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519)},
     1,
     "libp2p",
     0},
};

static void handshakes_are_judged(void **state) {
  (void)state;
  for (size_t i = 0; i < PU_COUNT(handshakes); i++) {
    const shown *h = &handshakes[i];
    stage t;
    begin(&t);
    mallory_begin(&t.m, t.stranger, &t.stranger_ip, &t.to, t.key, &h->shape, h->count, h->alpn);
    run(&t, 2 * SECOND);
    assert_int_equal(t.home.session_count, 1);
    const rig_session *s = t.home.sessions[0];
    print_message("%s: %s, code 0x%x: %s; memory %zu at most\n", h->name,
                  s->open ? "open" : "refused", (unsigned)t.m.code, s->why, s->mem.peak);
    assert_int_equal(s->secured, h->code == 0);
    assert_int_equal(s->open, h->code == 0);
    assert_int_equal(t.m.closed, h->code != 0);
    if (h->code != 0) {
      assert_true(s->ended);
      assert_int_equal(t.m.code, h->code);
      assert_true(s->mem.peak <= PU_QUIC_PREAUTH_BYTES);
    } else {
      assert_true(pu_peer_id_equal(&s->peer, pu_key_peer_id(t.key)));
    }
    mallory_end(&t.m);
    a_friend_gets_in(&t);
    finish(&t);
  }
}

/* A stranger who says his first words and no more costs a bounded handshake for a bounded time. */
static void stalls_are_ended(void **state) {
  static const gnutls_peer_certificate right = {0};
  stage t;
  (void)state;
  begin(&t);
  mallory_begin(&t.m, t.stranger, &t.stranger_ip, &t.to, t.key, &right, 1, "libp2p");
  t.m.deaf = true;
  run(&t, SECOND);
  assert_int_equal(t.home.session_count, 1);
  const rig_session *s = t.home.sessions[0];
  assert_false(s->ended);
  run(&t, 20 * SECOND);
  assert_true(s->ended);
  assert_false(s->secured);
  assert_true(s->mem.peak <= PU_QUIC_PREAUTH_BYTES);
  assert_true(t.m.heard_bytes < 12 * (uint64_t)1200); /* three times what it said, and repeats */
  mallory_end(&t.m);
  a_friend_gets_in(&t);
  finish(&t);
}

/* ---- behind the handshake ---- */

static rig_session *let_in(stage *t) {
  static const gnutls_peer_certificate right = {0};
  mallory_begin(&t->m, t->stranger, &t->stranger_ip, &t->to, t->key, &right, 1, "libp2p");
  run(t, SECOND);
  assert_true(mallory_turn(&t->m));
  run(t, SECOND / 10);
  rig_session *s = t->home.sessions[0];
  assert_true(s->open && !s->ended);
  assert_int_equal(s->stream_count, 1);
  return s;
}

/* A storm writes packet |i|; false: that was all. */
typedef struct storm {
  const char *name;
  size_t (*packet)(unsigned i, uint8_t *out);
  unsigned packets;
  const char *ends; /* what home says when it ends the connection for it; NULL: it need not */
} storm;

#define NO UINT64_MAX

static size_t padded(uint8_t *out, size_t len) {
  while (len < 4)
    out[len++] = 0;
  return len;
}

static size_t beyond_streams(unsigned i, uint8_t *out) {
  size_t len = mallory_frame(out, 0x0a, 4 * ((uint64_t)RIG_STREAMS + i), 1, NO, NO);
  out[len++] = 'x';
  return len;
}

static size_t beyond_window(unsigned i, uint8_t *out) {
  size_t len = mallory_frame(out, 0x0e, 0, (uint64_t)PU_QUIC_STREAM_WINDOW + i, 1, NO);
  out[len++] = 'x';
  return len;
}

static size_t behind_the_end(unsigned i, uint8_t *out) {
  size_t len = mallory_frame(out, i == 0 ? 0x0f : 0x0e, 0, i == 0 ? 8 : 20, 1, NO);
  out[len++] = 'x';
  return len;
}

static size_t crypto_out_of_order(unsigned i, uint8_t *out) {
  size_t len = mallory_frame(out, 0x06, 8192 + 2000 * (uint64_t)i, 1000, NO, NO);
  memset(out + len, 'x', 1000);
  return len + 1000;
}

static size_t path_challenges(unsigned i, uint8_t *out) {
  size_t len = 0;
  for (unsigned n = 0; n < 100; n++) {
    out[len++] = 0x1a;
    len += mallory_put(out + len, (uint64_t)i * 100 + n);
  }
  return len;
}

static size_t connection_ids(unsigned i, uint8_t *out, bool retire) {
  size_t len = mallory_frame(out, 0x18, i + 50, retire ? i + 50 : 0, NO, NO);
  out[len++] = 8;
  len += mallory_put(out + len, i + 1000);
  memset(out + len, (int)i, 16);
  return len + 16;
}

static size_t too_many_ids(unsigned i, uint8_t *out) {
  return connection_ids(i, out, false);
}

static size_t ids_that_retire(unsigned i, uint8_t *out) {
  return connection_ids(i, out, true);
}

static size_t retired_ids(unsigned i, uint8_t *out) {
  return mallory_frame(out, 0x19, i + 1, NO, NO, NO);
}

static size_t open_and_reset(unsigned i, uint8_t *out) {
  const uint64_t id = 4 * ((uint64_t)i + 1);
  size_t len = mallory_frame(out, 0x0a, id, 1, NO, NO);
  out[len++] = 'x';
  len += mallory_frame(out + len, 0x05, id, 7, NO, NO);
  return len + mallory_frame(out + len, 0x04, id, 7, 1, NO);
}

static size_t stop_what_is_not(unsigned i, uint8_t *out) {
  return mallory_frame(out, 0x05, 1 + 4 * (uint64_t)i, 7, NO, NO);
}

static size_t too_many_streams(unsigned i, uint8_t *out) {
  return mallory_frame(out, 0x12, ((uint64_t)1 << 60) + 1 + i, NO, NO, NO);
}

static size_t acknowledges_nothing(unsigned i, uint8_t *out) {
  return mallory_frame(out, 0x02, ((uint64_t)1 << 30) + i, 0, 0, 0);
}

static size_t unknown_frame(unsigned i, uint8_t *out) {
  (void)i;
  out[0] = 0x21;
  return padded(out, 1);
}

static size_t handshake_done(unsigned i, uint8_t *out) {
  (void)i;
  out[0] = 0x1e;
  return padded(out, 1);
}

static size_t new_token(unsigned i, uint8_t *out) {
  size_t len = mallory_frame(out, 0x07, 1, NO, NO, NO);
  out[len++] = (uint8_t)i;
  return len;
}

static size_t gaps(unsigned i, uint8_t *out) {
  size_t len = 0;
  for (unsigned n = 0; n < 40; n++) {
    len += mallory_frame(out + len, 0x0e, 0, 10 + 2 * ((uint64_t)i * 40 + n), 1, NO);
    out[len++] = 'x';
  }
  return len;
}

static size_t blocked(unsigned i, uint8_t *out) {
  size_t len = 0;
  for (unsigned n = 0; n < 50; n++)
    len += mallory_frame(out + len, 0x14, (uint64_t)i * 50 + n, NO, NO, NO);
  return len;
}

static size_t pings(unsigned i, uint8_t *out) {
  (void)i;
  memset(out, 0x01, 100);
  return 100;
}

static const storm storms[] = {
    {"streams beyond the limit", beyond_streams, 1, "STREAM_LIMIT"},
    {"bytes beyond the window", beyond_window, 1, "FLOW_CONTROL"},
    {"bytes behind the end", behind_the_end, 2, "FINAL_SIZE"},
    {"TLS messages out of order", crypto_out_of_order, 200, "CRYPTO"},
    {"path challenges", path_challenges, 500, NULL},
    {"more connection IDs than allowed", too_many_ids, 50, "CONNECTION_ID_LIMIT"},
    {"connection IDs that retire others", ids_that_retire, 5000, NULL},
    {"retired connection IDs", retired_ids, 5000, NULL},
    {"streams opened, stopped and reset", open_and_reset, 5000, "STREAM_LIMIT"},
    {"a stop of a stream that is not", stop_what_is_not, 1, "STREAM_STATE"},
    {"more streams than there can be", too_many_streams, 1, "FRAME_ENCODING"},
    {"an acknowledgement of nothing", acknowledges_nothing, 1, "PROTO"},
    {"a frame nobody knows", unknown_frame, 1, "FRAME_ENCODING"},
    {"a client that confirms the handshake", handshake_done, 1, "PROTO"},
    {"a client's token", new_token, 1, "PROTO"},
    {"a stream of gaps", gaps, 500, NULL},
    {"a window that blocks", blocked, 500, NULL},
    {"pings", pings, 20000, NULL},
};

static void storms_are_weathered(void **state) {
  (void)state;
  for (size_t i = 0; i < PU_COUNT(storms); i++) {
    const storm *w = &storms[i];
    uint8_t frames[1400];
    stage t;
    begin(&t);
    rig_session *s = let_in(&t);
    const size_t before = s->mem.used, end_before = t.home.mem.used;
    size_t most = 0, end_most = 0;
    for (unsigned n = 0; n < w->packets && !s->ended; n++) {
      mallory_say(&t.m, frames, w->packet(n, frames));
      if (w->packet == pings && n % 2 == 0)
        t.m.number++; /* a hole among the numbers: one more range to acknowledge */
      run(&t, 500);
      most = s->mem.used > most ? s->mem.used : most;
      end_most = t.home.mem.used > end_most ? t.home.mem.used : end_most;
    }
    run(&t, SECOND / 10);
    print_message("%s: %s%s; memory %zu + %zu\n", w->name, s->ended ? "ended: " : "stands", s->why,
                  before, most > before ? most - before : 0);
    assert_true(most <= before + STORM_BYTES);
    assert_true(end_most <= end_before + STORM_BYTES);
    if (w->ends != NULL) {
      assert_true(s->ended);
      assert_non_null(strstr(s->why, w->ends));
    }
    mallory_end(&t.m);
    a_friend_gets_in(&t);
    finish(&t);
  }
}

/* Packets that come again, from the same address or another, change nothing; damaged ones neither.
 */
static void replays_and_damage(void **state) {
  static const pu_sockaddr elsewhere = {.family = 4, .ip = {10, 0, 0, 3}, .port = 999};
  uint8_t frames[64];
  stage t;
  (void)state;
  begin(&t);
  rig_session *s = let_in(&t);
  mallory *m = &t.m;
  size_t len = mallory_frame(frames, 0x0e, 0, MALLORY_STREAM_BYTES, 4, NO);
  memcpy(frames + len, "more", 4);
  mallory_say(m, frames, len + 4);
  run(&t, SECOND / 10);
  const uint64_t received = s->streams[0].received;
  assert_int_equal(received, MALLORY_STREAM_BYTES + 4);
  for (unsigned round = 0; round < 3; round++) {
    for (size_t i = 0; i < m->sent_count; i++) {
      mallory_send(m, m->sent[i].bytes, m->sent[i].len);
      mallory_sent damaged = m->sent[i];
      damaged.bytes[damaged.len - 1 - 7 * round] ^= 0x20;
      mallory_send(m, damaged.bytes, damaged.len);
    }
    m->number--; /* the same number with the same bytes, and with others */
    mallory_say(m, frames, len + 4);
    m->number--;
    frames[len] ^= 1;
    mallory_say(m, frames, len + 4);
    frames[len] ^= 1;
    run(&t, SECOND / 10);
  }
  pu_udp_close(m->udp);
  assert_int_equal(pu_udp_open(t.stranger, &elsewhere, &mallory_events, m, &m->udp), 0);
  for (size_t i = 0; i < m->sent_count; i++)
    mallory_send(m, m->sent[i].bytes, m->sent[i].len);
  run(&t, SECOND);
  assert_false(s->ended);
  assert_int_equal(s->stream_count, 1);
  assert_int_equal(s->streams[0].received, received);
  assert_int_equal(s->paths, 0);
  assert_true(t.home.session_count <= 2); /* the first Initial may begin another, which ends */
  mallory_end(m);
  a_friend_gets_in(&t);
  finish(&t);
}

/* ---- a hostile listener ---- */

/* A dialler that is answered by somebody else than it asked for says so. */
static void somebody_else_answers(void **state) {
  stage t;
  rig_dialled d;
  (void)state;
  begin(&t);
  t.friend.expected = *pu_key_peer_id(t.key);
  rig_dial(&t.friend, &t.to, &d);
  run(&t, SECOND);
  assert_true(d.session->ended);
  assert_false(d.session->secured);
  assert_int_equal(d.session->status, PU_E_PEER_MISMATCH);
  t.friend.expected = (pu_peer_id){0};
  a_friend_gets_in(&t);
  finish(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(handshakes_are_judged), cmocka_unit_test(stalls_are_ended),
      cmocka_unit_test(storms_are_weathered),  cmocka_unit_test(replays_and_damage),
      cmocka_unit_test(somebody_else_answers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
