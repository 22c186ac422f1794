/* Yamux sessions: frames, rules that end a session, liveness, floods, slicing, lack of memory. */
#include "mux/yamux.h"

#include "mux/yamux_priv.h"
#include "support/yamux_rig.h"

#define SECOND_US 1000000u

static void test_frame_codec(void **state) {
  (void)state;
  static const struct {
    uint8_t bytes[12];
    pu_yamux_frame f;
  } cases[] = {
      {{0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0}, {0, UPDATE, SYN, 1, 0}},
      {{0, 1, 0, 8, 0, 0, 0, 11, 0, 0, 0x10, 2}, {0, UPDATE, RST, 11, 0x1002}},
      {{0, 2, 0, 1, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef}, {0, PING, SYN, 0, 0xdeadbeef}},
      {{9, 8, 0xfe, 0xdc, 0xff, 0xfe, 0xfd, 0xfc, 1, 2, 3, 4},
       {9, 8, 0xfedc, 0xfffefdfc, 0x01020304}},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    uint8_t bytes[PU_YAMUX_HEADER];
    pu_yamux_frame_encode(&cases[i].f, bytes);
    assert_memory_equal(bytes, cases[i].bytes, sizeof(bytes));
    pu_yamux_frame f;
    pu_yamux_frame_decode(cases[i].bytes, &f);
    assert_int_equal(f.version, cases[i].f.version);
    assert_int_equal(f.type, cases[i].f.type);
    assert_int_equal(f.flags, cases[i].f.flags);
    assert_int_equal(f.stream, cases[i].f.stream);
    assert_int_equal(f.length, cases[i].f.length);
  }
}

/* ends feeds one frame and checks that it ends the session, and how. */
static void ends(bool client, const pu_yamux_frame *f, int status, uint32_t code, const char *why) {
  rig *r = rig_new(client);
  rig_stream *st = rig_open(r);
  assert_int_equal(rig_write(st, 0, 10, 32), 10);
  rig_skip(r);
  assert_string_equal(pu_yamux_why(r->y), "");
  uint8_t bytes[PU_YAMUX_HEADER];
  pu_yamux_frame_encode(f, bytes);
  assert_int_equal(rig_feed(r, bytes, sizeof(bytes)), status);
  assert_string_equal(pu_yamux_why(r->y), why);
  assert_int_equal(st->reset, 1);
  assert_int_equal(st->reset_status, status);
  assert_int_equal(st->reset_code, code);
  rig_expect_none(r); /* no go-away */
  assert_int_equal(pu_yamux_stream_count(r->y), 0);
  assert_int_equal(rig_frame(r, UPDATE, SYN, client ? 2 : 1, 0), status);
  assert_int_equal(pu_yamux_expire(r->y, r->now_us), status);
  assert_true(pu_yamux_deadline(r->y) == PU_NEVER);
  pu_yamux_stream *s = NULL;
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_CLOSED);
  rig_free(r);
}

static void test_violations(void **state) {
  (void)state;
  const char *parity = "stream ID of the wrong parity";
  ends(false, &(pu_yamux_frame){1, UPDATE, SYN, 1, 0}, PU_E_PROTOCOL, 0, "unknown version");
  ends(true, &(pu_yamux_frame){0, 4, 0, 1, 0}, PU_E_PROTOCOL, 0, "unknown frame type");
  ends(false, &(pu_yamux_frame){0, UPDATE, SYN, 4, 0}, PU_E_PROTOCOL, 0, parity);
  ends(false, &(pu_yamux_frame){0, UPDATE, SYN, 0, 0}, PU_E_PROTOCOL, 0, parity);
  ends(true, &(pu_yamux_frame){0, DATA, SYN, 3, 5}, PU_E_PROTOCOL, 0, parity);
  ends(true, &(pu_yamux_frame){0, UPDATE, SYN | RST, 3, 0}, PU_E_PROTOCOL, 0, parity);
  ends(true, &(pu_yamux_frame){0, DATA, 0, 1, 262145}, PU_E_PROTOCOL, 0, "window overrun");
  ends(true, &(pu_yamux_frame){0, GO_AWAY, 0, 0, 0}, PU_E_EOF, 0, "the peer went away");
  ends(true, &(pu_yamux_frame){0, GO_AWAY, 0, 0, 0x1007}, PU_E_EOF, 0x1007, "the peer went away");
}

static void test_live_id_again(void **state) {
  (void)state;
  rig *r = rig_new(false);
  assert_int_equal(rig_frame(r, UPDATE, SYN, 5, 0), 0);
  assert_int_equal(rig_frame(r, UPDATE, SYN, 3, 0), 0); /* need not ascend */
  rig_expect(r, UPDATE, ACK, 5, 0);
  rig_expect(r, UPDATE, ACK, 3, 0);
  assert_int_equal(rig_frame(r, UPDATE, RST, 5, 7), 0);
  assert_int_equal(r->streams[0].reset_status, PU_E_RESET);
  assert_int_equal(r->streams[0].reset_code, 7);
  assert_int_equal(rig_frame(r, UPDATE, SYN, 5, 0), 0); /* a dead one may come again */
  assert_int_equal(rig_frame(r, UPDATE, SYN, 3, 0), PU_E_PROTOCOL);
  assert_string_equal(pu_yamux_why(r->y), "stream ID in use");
  assert_int_equal(r->streams[1].reset, 1);
  assert_int_equal(r->streams[2].reset, 1);
  rig_free(r);
}

static void test_refused_streams(void **state) {
  (void)state;
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, false);
  config.max_streams_in = 2;
  rig_new_with(r, &config);
  for (uint32_t id = 1; id <= 7; id += 2)
    assert_int_equal(rig_data(r, SYN, id, 0, 9), 0); /* its payload is dropped too */
  rig_expect(r, UPDATE, ACK, 1, 0);
  rig_expect(r, UPDATE, ACK, 3, 0);
  rig_expect(r, UPDATE, RST, 5, 0x1002);
  rig_expect(r, UPDATE, RST, 7, 0x1002);
  assert_int_equal(r->stream_count, 2);
  assert_int_equal(r->streams[1].got_len, 9);
  rig_reset(&r->streams[0], 1);
  rig_expect(r, UPDATE, RST, 1, 1);
  r->refuse = PU_E_DENIED;
  r->refuse_code = 0x1008;
  assert_int_equal(rig_data(r, SYN | FIN, 9, 0, 5), 0);
  rig_expect(r, UPDATE, RST, 9, 0x1008);
  r->refuse = 0;
  assert_int_equal(rig_frame(r, UPDATE, SYN | RST, 11, 0), 0); /* given up at once */
  assert_int_equal(rig_frame(r, UPDATE, SYN, 13, 0), 0);       /* the refused ones hold no place */
  rig_expect(r, UPDATE, ACK, 13, 0);
  rig_reset(&r->streams[2], 0);
  rig_expect(r, UPDATE, RST, 13, 0);
  assert_int_equal(pu_yamux_go_away(r->y, 0), 0);
  rig_expect(r, GO_AWAY, 0, 0, 0);
  assert_int_equal(rig_frame(r, UPDATE, SYN, 15, 0), 0);
  rig_expect(r, UPDATE, RST, 15, 0x1007);
  pu_yamux_stream *s = NULL;
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_CLOSED);
  assert_int_equal(rig_data(r, 0, 3, 9, 1), 0); /* what lives goes on */
  assert_int_equal(r->streams[1].got_len, 10);
  rig_free(r);
}

static void test_unknown_streams(void **state) {
  (void)state;
  rig *r = rig_new(false);
  assert_int_equal(rig_frame(r, UPDATE, 0, 99, 3), 0);
  assert_int_equal(rig_frame(r, UPDATE, FIN, 99, 0), 0);
  assert_int_equal(rig_frame(r, UPDATE, RST, 99, 0), 0);
  assert_int_equal(rig_data(r, 0, 99, 0, 300000), 0);
  assert_int_equal(rig_data(r, ACK, 0, 0, 5), 0);
  assert_int_equal(rig_data(r, SYN, 1, 0, 1), 0);
  rig_expect(r, UPDATE, ACK, 1, 0);
  rig_expect_none(r);
  assert_int_equal(r->streams[0].got_len, 1);
  rig_free(r);
}

static void test_unknown_flags(void **state) {
  (void)state;
  rig *r = rig_new(false);
  assert_int_equal(rig_data(r, SYN | 0xfff0, 1, 0, 3), 0);
  rig_expect(r, UPDATE, ACK, 1, 0);
  assert_int_equal(r->streams[0].got_len, 3);
  rig_free(r);
}

static void test_unacknowledged_bound(void **state) {
  (void)state;
  rig *r = rig_new(true);
  for (int i = 0; i < PU_YAMUX_MAX_UNACKED; i++)
    (void)rig_open(r);
  pu_yamux_stream *s = NULL;
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_NO_STREAMS);
  assert_int_equal(rig_frame(r, UPDATE, ACK, 1, 0), 0);
  assert_int_equal(r->streams[0].acked, 1);
  rig_stream *st = rig_open(r);
  assert_int_equal(pu_yamux_stream_id(st->s), 2 * PU_YAMUX_MAX_UNACKED + 1);
  assert_int_equal(rig_frame(r, DATA, ACK, 1, 0), 0); /* only the first counts */
  assert_int_equal(r->streams[0].acked, 1);
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_NO_STREAMS);
  assert_int_equal(rig_frame(r, UPDATE, RST, 3, 0), 0); /* refused ones count no more */
  (void)rig_open(r);
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_NO_STREAMS);
  rig_reset(&r->streams[2], 0);
  (void)rig_open(r);
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_NO_STREAMS);
  rig_free(r);
}

static void test_ids_used_up(void **state) {
  (void)state;
  rig *r = rig_new(true);
  r->y->next_id = UINT32_MAX;
  rig_stream *st = rig_open(r);
  assert_true(pu_yamux_stream_id(st->s) == UINT32_MAX);
  pu_yamux_stream *s = NULL;
  assert_int_equal(pu_yamux_open(r->y, NULL, &s), PU_E_NO_STREAMS);
  rig_free(r);
}

static void test_round_trip_time(void **state) {
  (void)state;
  rig *r = rig_new(true);
  assert_int_equal(pu_yamux_start(r->y, r->now_us), 0);
  rig_expect(r, PING, SYN, 0, 0);
  assert_int_equal(pu_yamux_rtt_us(r->y), 0);
  r->now_us += 1000;
  assert_int_equal(rig_frame(r, PING, ACK, 0, 77), 0); /* not ours */
  assert_int_equal(pu_yamux_rtt_us(r->y), 0);
  r->now_us += 1000;
  assert_int_equal(rig_frame(r, PING, ACK, 0, 0), 0);
  assert_int_equal(pu_yamux_rtt_us(r->y), 2000);
  r->now_us += 1000;
  assert_int_equal(rig_frame(r, PING, ACK, 0, 0), 0); /* once more: nobody asked */
  assert_int_equal(pu_yamux_rtt_us(r->y), 2000);
  rig_expect_none(r);
  assert_true(pu_yamux_deadline(r->y) == PU_NEVER); /* no keepalive wanted */
  rig_free(r);
}

static void test_ping_flood(void **state) {
  (void)state;
  rig *r = rig_new(false);
  r->now_us += SECOND_US;
  for (uint32_t i = 0; i < 100; i++)
    assert_int_equal(rig_frame(r, PING, SYN, 0, i), 0);
  for (uint32_t i = 0; i < PU_YAMUX_MAX_PONGS; i++)
    rig_expect(r, PING, ACK, 0, i);
  rig_expect_none(r);
  r->now_us += SECOND_US;
  assert_int_equal(rig_frame(r, PING, SYN | ACK, 0, 7), 0);
  rig_expect(r, PING, ACK, 0, 7);
  /* While nothing is written, time alone does not buy more. */
  pu_yamux_set_blocked(r->y, true);
  for (uint32_t i = 0; i < 100; i++) {
    r->now_us += SECOND_US;
    assert_int_equal(rig_frame(r, PING, SYN, 0, i), 0);
  }
  for (uint32_t i = 0; i < PU_YAMUX_MAX_PONGS - 1; i++)
    rig_expect(r, PING, ACK, 0, i);
  rig_expect_none(r);
  pu_yamux_set_blocked(r->y, false);
  assert_int_equal(rig_frame(r, PING, SYN, 0, 8), 0);
  rig_expect(r, PING, ACK, 0, 8);
  rig_free(r);
}

static void test_answers_not_read(void **state) {
  (void)state;
  rig *r = rig_new(false);
  r->refuse = PU_E_DENIED;
  uint32_t id = 1;
  for (size_t i = 0; i < 3 * PU_YAMUX_MAX_ANSWERS; i++, id += 2) /* read: no bound */
    assert_int_equal(rig_frame(r, UPDATE, SYN, id, 0), 0);
  pu_yamux_set_blocked(r->y, true);
  for (size_t i = 0; i < PU_YAMUX_MAX_ANSWERS; i++, id += 2)
    assert_int_equal(rig_frame(r, UPDATE, SYN, id, 0), 0);
  pu_yamux_set_blocked(r->y, false);
  pu_yamux_set_blocked(r->y, true);
  for (size_t i = 0; i < PU_YAMUX_MAX_ANSWERS; i++, id += 2)
    assert_int_equal(rig_frame(r, UPDATE, SYN, id, 0), 0);
  assert_int_equal(rig_frame(r, UPDATE, SYN, id, 0), PU_E_PROTOCOL);
  assert_string_equal(pu_yamux_why(r->y), "answers not read");
  rig_free(r);
}

static rig *rig_new_keepalive(void) {
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, false);
  config.keepalive = true;
  return rig_new_with(r, &config);
}

static void test_keepalive(void **state) {
  (void)state;
  rig *r = rig_new_keepalive();
  uint64_t start_us = r->now_us;
  assert_int_equal(pu_yamux_start(r->y, r->now_us), 0);
  rig_expect(r, PING, SYN, 0, 0);
  assert_int_equal(pu_yamux_deadline(r->y), start_us + 10 * SECOND_US);
  r->now_us = start_us + SECOND_US / 10;
  assert_int_equal(rig_frame(r, PING, ACK, 0, 0), 0);
  /* A virtual hour with a peer that answers. */
  for (uint32_t i = 1; i <= 120; i++) {
    r->now_us = pu_yamux_deadline(r->y);
    assert_int_equal(r->now_us, start_us + (uint64_t)i * 30 * SECOND_US);
    assert_int_equal(pu_yamux_expire(r->y, r->now_us - 1), 0); /* early: nothing */
    rig_expect_none(r);
    assert_int_equal(pu_yamux_expire(r->y, r->now_us), 0);
    rig_expect(r, PING, SYN, 0, i);
    assert_int_equal(rig_frame(r, PING, ACK, 0, i), 0);
  }
  assert_int_equal(pu_yamux_rtt_us(r->y), 1); /* at once, yet known */
  /* It falls silent. */
  rig_stream *st = rig_open(r);
  r->now_us = pu_yamux_deadline(r->y);
  assert_int_equal(pu_yamux_expire(r->y, r->now_us), 0);
  rig_expect(r, PING, SYN, 0, 121);
  r->now_us += 9 * SECOND_US;
  assert_int_equal(rig_frame(r, UPDATE, 0, 77, 1), 0); /* not the answer, but it lives */
  assert_int_equal(pu_yamux_deadline(r->y), r->now_us + 10 * SECOND_US);
  r->now_us += 10 * SECOND_US - 1;
  assert_int_equal(pu_yamux_expire(r->y, r->now_us), 0);
  assert_int_equal(st->reset, 0);
  r->now_us += 1;
  assert_int_equal(pu_yamux_expire(r->y, r->now_us), PU_E_TIMEOUT);
  assert_int_equal(st->reset_status, PU_E_TIMEOUT);
  assert_string_equal(pu_yamux_why(r->y), "ping timed out");
  rig_free(r);
}

static void test_many_streams_are_cheap(void **state) {
  (void)state;
  assert_true(sizeof(pu_yamux_stream) <= 200);
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, false);
  config.max_streams_in = 10000;
  rig_new_with(r, &config);
  size_t before = r->mem.used;
  for (uint32_t i = 0; i < 10000; i++) {
    assert_int_equal(rig_data(r, SYN, 2 * i + 1, 0, 3), 0);
    r->stream_count = 0; /* one slot will do */
    free(r->streams[0].got);
    r->streams[0].got = NULL;
  }
  assert_int_equal(pu_yamux_stream_count(r->y), 10000);
  assert_true(r->mem.used - before <= (size_t)10000 * 250);
  assert_int_equal(r->y->bucket_count, 16384);
  for (uint32_t i = 0; i < 10000; i++) {
    r->streams[0].s = yamux_find(r->y, 2 * i + 1);
    assert_non_null(r->streams[0].s);
    rig_reset(&r->streams[0], 0);
  }
  assert_int_equal(r->mem.used, before); /* the table shrank as well */
  rig_free(r);
}

/* IDs that share their low bits do not share a bucket: which do depends on a key. */
static void test_table_spreads_steps(void **state) {
  (void)state;
  rig *r = rig_new(false);
  r->y->hash_key = 0x2545f4914f6cdd1d; /* the real one differs from session to session */
  for (uint32_t i = 0; i < 512; i++)
    assert_int_equal(rig_frame(r, UPDATE, SYN, (i << 17) + 1, 0), 0);
  size_t longest = 0;
  for (size_t b = 0; b < r->y->bucket_count; b++) {
    size_t n = 0;
    for (pu_yamux_stream *s = r->y->buckets[b]; s != NULL; s = s->bucket_next)
      n++;
    longest = n > longest ? n : longest;
  }
  assert_true(longest <= 64); /* in one bucket they would be 512 */
  rig_free(r);
}

/* ---- callbacks that end the session ---- */

static rig_event fail_event;

static void fail_hook(rig_stream *st, rig_event event) {
  if (event == fail_event)
    pu_yamux_fail(st->r->y, PU_E_CANCELED);
  if (event == RIG_RESET) {
    pu_yamux_stream *s = NULL;
    if (st->r->y->status != 0)
      assert_int_equal(pu_yamux_open(st->r->y, NULL, &s), PU_E_CLOSED);
    assert_int_equal(pu_yamux_stream_write(st->s, pu_span_of((uint8_t[]){1}, 1)), PU_E_CLOSED);
    assert_int_equal(pu_yamux_stream_flush(st->s), PU_E_CLOSED);
    assert_int_equal(pu_yamux_stream_close_write(st->s), PU_E_CLOSED);
    pu_yamux_stream_resume(st->s);
    pu_yamux_stream_close(st->s); /* all harmless: it has ended */
    pu_yamux_stream_reset(st->s, 0);
  }
}

static void test_fail_in_callbacks(void **state) {
  (void)state;
  for (fail_event = RIG_STREAM; fail_event <= RIG_RESET; fail_event++) {
    rig *r = rig_new(false);
    rig_stream *st = rig_open(r);
    assert_int_equal(rig_write(st, 0, 300000, 0), PU_YAMUX_WINDOW_START);
    (void)rig_open(r);
    r->hook = fail_hook;
    int rc = 0;
    if (rc == 0)
      rc = rig_frame(r, UPDATE, SYN, 1, 0);
    if (rc == 0)
      rc = rig_frame(r, UPDATE, ACK, 2, 0);
    if (rc == 0)
      rc = rig_data(r, FIN, 2, 0, 100);
    if (rc == 0)
      rc = rig_frame(r, UPDATE, 0, 2, 100);
    if (rc == 0)
      rc = rig_frame(r, UPDATE, RST, 2, 100);
    assert_int_equal(rc, PU_E_CANCELED);
    for (size_t i = 0; i < r->stream_count; i++)
      assert_int_equal(r->streams[i].reset, 1);
    rig_free(r);
  }
}

/* ---- dialogue with itself ---- */

/* The echo side gives back what it gets, as space allows, and closes when the other does. */
static void echo_flow(rig_stream *st) {
  while (st->s != NULL && st->got_len > 0) {
    size_t n = st->got_len < 5000 ? st->got_len : 5000;
    uint8_t room[5000 + 32];
    memcpy(room + 16, st->got, n);
    pu_span io = {.data = room + 16, .len = n, .head = 16, .tail = 16};
    ssize_t sent = pu_yamux_stream_write(st->s, io);
    assert_true(sent >= 0);
    memmove(st->got, st->got + sent, st->got_len - (size_t)sent);
    st->got_len -= (size_t)sent;
    if ((size_t)sent < n)
      return;
  }
  if (st->s != NULL && st->eof > 0)
    rig_close(st);
}

static void echo_hook(rig_stream *st, rig_event event) {
  if (event == RIG_EOF || event == RIG_WRITABLE || event == RIG_DATA)
    echo_flow(st);
}

typedef struct talk {
  size_t len, sent;
} talk;
static const size_t talk_lens[] = {0, 1, 11, 12, 70000, 300000};
#define TALKS (sizeof(talk_lens) / sizeof(talk_lens[0]))

static void talk_on(rig_stream *st, talk *t) {
  while (t->sent < t->len) {
    size_t n = t->len - t->sent < 66000 ? t->len - t->sent : 66000;
    ssize_t sent = rig_write(st, t->sent, n, t->sent % 3 == 0 ? 0 : 40);
    assert_true(sent >= 0);
    t->sent += (size_t)sent;
    if ((size_t)sent < n)
      return;
  }
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
}

static void dialogue(size_t (*chunk)(uint32_t *state)) {
  rig *a = rig_new(true), *b = rig_new(false);
  uint32_t seed = 1;
  b->hook = echo_hook;
  assert_int_equal(pu_yamux_start(a->y, a->now_us), 0);
  assert_int_equal(pu_yamux_start(b->y, b->now_us), 0);
  talk talks[TALKS];
  for (size_t i = 0; i < TALKS; i++) {
    talks[i] = (talk){.len = talk_lens[i]};
    (void)rig_open(a);
  }
  for (bool any = true; any;) {
    for (size_t i = 0; i < TALKS; i++)
      if (!a->streams[i].s->fin_sent)
        talk_on(&a->streams[i], &talks[i]);
    any = rig_carry(a, b, chunk(&seed));
    any = rig_carry(b, a, chunk(&seed)) || any;
    a->now_us += 1000;
    b->now_us += 1000;
  }
  for (size_t i = 0; i < TALKS; i++) {
    rig_check_pattern(&a->streams[i], talk_lens[i]);
    assert_int_equal(a->streams[i].acked, 1);
    assert_int_equal(a->streams[i].eof, 1);
    rig_close(&a->streams[i]);
  }
  assert_int_equal(pu_yamux_stream_count(b->y), 0);
  assert_int_equal(b->y->table_len, 0);
  assert_int_equal(a->y->table_len, 0);
  assert_true(pu_yamux_rtt_us(a->y) > 0 && pu_yamux_rtt_us(b->y) > 0);
  rig_free(a);
  rig_free(b);
}

static size_t chunk_all(uint32_t *state) {
  (void)state;
  return SIZE_MAX;
}
static size_t chunk_one(uint32_t *state) {
  (void)state;
  return 1;
}
static size_t chunk_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return 1 + (*state >> 8) % ((*state >> 24) < 128 ? 40 : 40000);
}

static void test_dialogue(void **state) {
  (void)state;
  dialogue(chunk_all);
  dialogue(chunk_one);
  dialogue(chunk_random);
}

/* One transcript, cut in two at every byte, makes the other side do the same every time. */
static void test_split_at_every_byte(void **state) {
  (void)state;
  rig *a = rig_new(true);
  assert_int_equal(pu_yamux_start(a->y, a->now_us), 0);
  for (size_t i = 0; i < 5; i++) {
    rig_stream *st = rig_open(a);
    assert_int_equal(rig_write(st, 0, i * 40 + 1, 32), i * 40 + 1);
  }
  assert_int_equal(pu_yamux_stream_close_write(a->streams[0].s), 0);
  rig_reset(&a->streams[1], 5);
  rig_close(&a->streams[2]);
  assert_int_equal(rig_write(&a->streams[3], 121, 100, 0), 100);
  rig_stream *late = rig_open(a);
  assert_int_equal(pu_yamux_stream_flush(late->s), 0);
  rig *whole = rig_new(false);
  whole->hook = echo_hook;
  assert_int_equal(rig_feed(whole, a->out, a->out_len), 0);
  assert_true(whole->out_len > 300);
  for (size_t cut = 0; cut <= a->out_len; cut++) {
    rig *b = rig_new(false);
    b->hook = echo_hook;
    /* Both parts may lie before the cut's frame is echoed: compare per stream, what it got. */
    assert_int_equal(rig_feed(b, a->out, cut), 0);
    assert_int_equal(rig_feed(b, a->out + cut, a->out_len - cut), 0);
    assert_int_equal(b->stream_count, whole->stream_count);
    assert_int_equal(pu_yamux_stream_count(b->y), pu_yamux_stream_count(whole->y));
    size_t echoed[2] = {0, 0};
    rig *both[2] = {b, whole};
    for (size_t i = 0; i < 2; i++) {
      pu_yamux_frame f;
      const uint8_t *payload;
      both[i]->out_at = 0;
      while (rig_next(both[i], &f, &payload))
        echoed[i] += f.type == DATA ? f.length : 0x10000;
    }
    assert_int_equal(echoed[0], echoed[1]);
    for (size_t i = 0; i < b->stream_count; i++) {
      assert_int_equal(b->streams[i].eof, whole->streams[i].eof);
      assert_int_equal(b->streams[i].reset, whole->streams[i].reset);
    }
    rig_free(b);
  }
  rig_free(whole);
  rig_free(a);
}

/* ---- what fails around it ---- */

/* script does a bit of everything; calls may fail, nothing may break. Returns the session's state.
 */
static void script(rig *r) {
  if (pu_yamux_start(r->y, r->now_us) != 0)
    return;
  rig_stream *own[3] = {NULL};
  for (size_t i = 0; i < 3; i++) {
    own[i] = rig_add(r);
    if (pu_yamux_open(r->y, own[i], &own[i]->s) != 0)
      own[i]->s = NULL;
    else
      (void)rig_write(own[i], 0, 300000, i == 0 ? 0 : 40); /* without room: needs scratch memory */
  }
  for (uint32_t id = 2; id <= 40; id += 2) {
    size_t at = r->stream_count;
    (void)rig_data(r, SYN, id, 0, 40);
    if (r->stream_count > at && r->streams[at].s != NULL)
      r->streams[at].take = 10; /* the next goes into the queue */
    (void)rig_data(r, FIN, id, 40, 5000);
    if (r->stream_count > at && r->streams[at].s != NULL) {
      r->streams[at].take = SIZE_MAX;
      pu_yamux_stream_resume(r->streams[at].s);
    }
    if (r->stream_count > at && r->streams[at].s != NULL && id % 4 == 0)
      rig_close(&r->streams[at]);
  }
  if (own[0]->s != NULL && pu_yamux_stream_close_write(own[0]->s) == 0)
    (void)rig_frame(r, UPDATE, RST, 1, 0);
  if (own[1]->s != NULL)
    rig_close(own[1]);
  (void)pu_yamux_go_away(r->y, 0);
}

static void test_every_allocation_fails(void **state) {
  (void)state;
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, true);
  rig_new_with(r, &config);
  script(r);
  uint64_t count = r->mem.count;
  assert_true(count > 25);
  rig_free(r);
  for (uint64_t n = 1; n <= count; n++) {
    r = rig_prepare();
    config = rig_config(r, true);
    pu_mem_fail_at(&r->mem, n);
    int rc = pu_yamux_new(&config, r->now_us, &r->y);
    assert_int_equal(rc, n == 1 ? PU_E_NOMEM : 0);
    if (rc == 0) {
      script(r);
      assert_int_equal(r->y->status, 0); /* one stream may suffer, the session does not */
    }
    assert_true(r->mem.count >= n);
    rig_free(r);
  }
}

static void test_every_output_fails(void **state) {
  (void)state;
  rig *r = rig_new(true);
  script(r);
  size_t count = r->frames;
  assert_true(count > 40);
  rig_free(r);
  for (size_t n = 1; n <= count; n++) {
    r = rig_new(true);
    r->fail_frame = n;
    script(r);
    assert_int_equal(r->y->status, PU_E_IO);
    assert_int_equal(r->frames, n); /* nothing after it */
    assert_string_equal(pu_yamux_why(r->y), "output failed");
    assert_int_equal(pu_yamux_stream_count(r->y), 0);
    rig_free(r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_frame_codec),
      cmocka_unit_test(test_violations),
      cmocka_unit_test(test_live_id_again),
      cmocka_unit_test(test_refused_streams),
      cmocka_unit_test(test_unknown_streams),
      cmocka_unit_test(test_unknown_flags),
      cmocka_unit_test(test_unacknowledged_bound),
      cmocka_unit_test(test_ids_used_up),
      cmocka_unit_test(test_round_trip_time),
      cmocka_unit_test(test_ping_flood),
      cmocka_unit_test(test_answers_not_read),
      cmocka_unit_test(test_keepalive),
      cmocka_unit_test(test_many_streams_are_cheap),
      cmocka_unit_test(test_table_spreads_steps),
      cmocka_unit_test(test_fail_in_callbacks),
      cmocka_unit_test(test_dialogue),
      cmocka_unit_test(test_split_at_every_byte),
      cmocka_unit_test(test_every_allocation_fails),
      cmocka_unit_test(test_every_output_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
