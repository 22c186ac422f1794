/* Yamux streams: windows both ways, half-close, reset, lingering, fairness, callbacks that close.
 */
#include "mux/yamux_priv.h"
#include "support/yamux_rig.h"

#define WINDOW PU_YAMUX_WINDOW_START
#define ROOM 32

/* rig_accept makes the peer open stream |id|. */
static rig_stream *rig_accept(rig *r, uint32_t id) {
  assert_int_equal(rig_frame(r, UPDATE, SYN, id, 0), 0);
  rig_expect(r, UPDATE, ACK, id, 0);
  return &r->streams[r->stream_count - 1];
}

/* ---- opening ---- */

static void test_syn_goes_with_the_first_frame(void **state) {
  (void)state;
  rig *r = rig_new(true);
  rig_stream *st = rig_open(r);
  rig_expect_none(r);
  assert_int_equal(rig_write(st, 0, 3, ROOM), 3);
  assert_int_equal(rig_write(st, 3, 3, ROOM), 3);
  rig_expect(r, DATA, SYN, 1, 3);
  rig_expect(r, DATA, 0, 1, 3);
  assert_int_equal(pu_yamux_stream_flush(st->s), 0); /* nothing to do */
  rig_expect_none(r);
  st = rig_open(r);
  assert_int_equal(pu_yamux_stream_flush(st->s), 0);
  rig_expect(r, UPDATE, SYN, 3, 0);
  st = rig_open(r);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
  rig_expect(r, UPDATE, SYN | FIN, 5, 0);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0); /* once is enough */
  assert_int_equal(rig_write(st, 0, 3, ROOM), PU_E_CLOSED);
  assert_int_equal(pu_yamux_stream_space(st->s), 0);
  /* The peer need not hear of streams that never sent a thing. */
  rig_reset(rig_open(r), 5);
  rig_close(rig_open(r));
  rig_expect_none(r);
  assert_int_equal(r->y->unacked, 3);
  assert_int_equal(pu_yamux_stream_count(r->y), 3);
  rig_free(r);
}

static void write_hook(rig_stream *st, rig_event event) {
  if (event == RIG_STREAM)
    assert_int_equal(rig_write(st, 0, 5, ROOM), 5);
}

static void test_ack_goes_with_the_first_frame(void **state) {
  (void)state;
  rig *r = rig_new(false);
  r->hook = write_hook;
  assert_int_equal(rig_frame(r, UPDATE, SYN, 1, 0), 0);
  rig_expect(r, DATA, ACK, 1, 5);
  rig_expect_none(r);
  rig_free(r);
}

/* ---- sending ---- */

/* check_sent takes data frames of stream |id| and checks that they hold the pattern from |at|. */
static void check_sent(rig *r, uint32_t id, size_t at, size_t len, size_t max_frame) {
  size_t end = at + len;
  while (at < end) {
    pu_yamux_frame f;
    const uint8_t *payload = NULL;
    assert_true(rig_next(r, &f, &payload));
    assert_int_equal(f.type, DATA);
    assert_int_equal(f.stream, id);
    assert_true(f.length > 0 && f.length <= max_frame);
    for (size_t i = 0; i < f.length; i++)
      assert_int_equal(payload[i], rig_byte(at + i));
    at += f.length;
  }
  assert_int_equal(at, end);
}

static void test_payload_is_split_and_kept(void **state) {
  (void)state;
  static const size_t lens[] = {1, 511, 512, 513, 16383, 16384, 16385, 65507, 65508, 262144};
  for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
    for (size_t room = 0; room <= 36; room += 4) { /* too little for a header, just enough, more */
      rig *r = rig_new(true);
      rig_stream *st = rig_open(r);
      assert_int_equal(rig_write(st, 0, lens[i], room), lens[i]);
      check_sent(r, 1, 0, lens[i], 65507);
      rig_expect_none(r);
      assert_int_equal(pu_yamux_stream_space(st->s), WINDOW - lens[i]);
      if (room >= PU_YAMUX_HEADER)
        assert_null(r->y->scratch); /* nothing was copied */
      rig_free(r);
    }
  }
}

static void test_no_memory_for_scratch(void **state) {
  (void)state;
  rig *r = rig_new(true);
  rig_stream *st = rig_open(r);
  pu_mem_fail_at(&r->mem, 1);
  assert_int_equal(rig_write(st, 0, 5000, 0), 5000); /* slower, but it works */
  check_sent(r, 1, 0, 5000, 65507);
  rig_free(r);
}

/* Short messages go out while the session is blocked, whole, within the window. */
static void test_write_now(void **state) {
  (void)state;
  static uint8_t bytes[WINDOW];
  rig *r = rig_new(true);
  rig_stream *st = rig_open(r);
  for (size_t i = 0; i < sizeof(bytes); i++)
    bytes[i] = rig_byte(i);
  pu_yamux_set_blocked(r->y, true);
  assert_int_equal(rig_write(st, 0, 3, ROOM), 0);
  rig_expect_none(r);
  assert_int_equal(pu_yamux_stream_write_now(st->s, pu_span_of(bytes, 3)), 0);
  rig_expect(r, DATA, SYN, 1, 3);
  assert_int_equal(pu_yamux_stream_space(st->s), 0);
  assert_int_equal(pu_yamux_stream_write_now(st->s, pu_span_of(bytes, WINDOW - 2)), PU_E_LIMIT);
  rig_expect_none(r);
  assert_int_equal(pu_yamux_stream_write_now(st->s, pu_span_of(bytes, WINDOW - 3)), 0);
  check_sent(r, 1, 0, WINDOW - 3, 65507);
  assert_int_equal(pu_yamux_stream_write_now(st->s, pu_span_of(bytes, 1)), PU_E_LIMIT);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 5), 0);
  pu_yamux_set_blocked(r->y, false);
  assert_int_equal(pu_yamux_stream_write_now(st->s, pu_span_of(bytes, 5)), 0);
  rig_expect(r, DATA, 0, 1, 5);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
  rig_expect(r, UPDATE, FIN, 1, 0);
  assert_int_equal(pu_yamux_stream_write_now(st->s, pu_span_of(bytes, 1)), PU_E_CLOSED);
  rig_free(r);
}

static void test_scratch_goes_when_idle(void **state) {
  (void)state;
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, true);
  config.keepalive = true;
  rig_new_with(r, &config);
  rig_stream *st = rig_open(r);
  assert_int_equal(rig_write(st, 0, 5000, 0), 5000);
  for (uint32_t i = 0; i < 2; i++) {
    assert_non_null(r->y->scratch);
    r->now_us = pu_yamux_deadline(r->y);
    assert_int_equal(pu_yamux_expire(r->y, r->now_us), 0);
    assert_int_equal(rig_frame(r, PING, ACK, 0, i), 0);
  }
  assert_null(r->y->scratch);
  rig_free(r);
}

static void test_send_window(void **state) {
  (void)state;
  rig *r = rig_new(true);
  rig_stream *st = rig_open(r);
  assert_int_equal(pu_yamux_stream_space(st->s), WINDOW);
  assert_int_equal(rig_write(st, 0, WINDOW + 1, ROOM), WINDOW);
  check_sent(r, 1, 0, WINDOW, 65507);
  assert_int_equal(pu_yamux_stream_space(st->s), 0);
  assert_int_equal(rig_write(st, WINDOW, 1, ROOM), 0);
  rig_expect_none(r);
  assert_int_equal(rig_frame(r, UPDATE, ACK, 1, 0), 0); /* an update of nothing */
  assert_int_equal(st->writable, 0);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 1000), 0);
  assert_int_equal(st->writable, 1);
  assert_int_equal(pu_yamux_stream_space(st->s), 1000);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 1000), 0);
  assert_int_equal(st->writable, 1); /* nobody waits */
  assert_int_equal(rig_write(st, WINDOW, 2000, ROOM), 2000);
  check_sent(r, 1, WINDOW, 2000, 65507);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, UINT32_MAX), 0);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 11), 0); /* 32 bits, as the peer counts */
  assert_int_equal(pu_yamux_stream_space(st->s), 10);
  assert_int_equal(st->writable, 1);
  /* Writing nothing neither sends nor forgets that a write waits. */
  assert_int_equal(rig_write(st, 0, 20, ROOM), 10);
  assert_int_equal(rig_write(st, 0, 0, ROOM), 0);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 1), 0);
  assert_int_equal(st->writable, 2);
  /* After the end of writing nobody is told of space. */
  assert_int_equal(rig_write(st, 0, 20, ROOM), 1);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 5), 0);
  assert_int_equal(st->writable, 2);
  rig_free(r);
}

static void test_window_with_syn(void **state) {
  (void)state;
  rig *r = rig_new(false);
  assert_int_equal(rig_frame(r, UPDATE, SYN, 13, 1 << 20), 0);
  assert_int_equal(pu_yamux_stream_space(r->streams[0].s), WINDOW + (1 << 20));
  rig_free(r);
}

/* ---- blocking and turns ---- */

static void write_on_hook(rig_stream *st, rig_event event) {
  if (event == RIG_WRITABLE)
    assert_true(rig_write(st, 0, 30000, ROOM) >= 0); /* 30 frames, if it may */
}

static void test_turns(void **state) {
  (void)state;
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, true);
  config.max_payload = 1000;
  rig_new_with(r, &config);
  pu_yamux_set_blocked(r->y, true);
  for (size_t i = 0; i < 5; i++) {
    rig_stream *st = rig_open(r);
    assert_int_equal(pu_yamux_stream_space(st->s), 0);
    assert_int_equal(rig_write(st, 0, 30000, ROOM), 0);
  }
  rig_expect_none(r);
  r->hook = write_on_hook;
  r->block_after = 10; /* the connection takes 10 frames at a time: each stream gets its turn */
  for (uint32_t turn = 0; turn < 20; turn++) {
    r->block_count = 0;
    pu_yamux_set_blocked(r->y, false);
    assert_true(r->y->blocked);
    for (int i = 0; i < 10; i++)
      rig_expect(r, DATA, turn < 5 && i == 0 ? SYN : 0, 1 + 2 * (turn % 5), 1000);
    rig_expect_none(r);
  }
  for (size_t i = 0; i < 5; i++)
    assert_int_equal(r->streams[i].writable, 4);
  /* Streams that end meanwhile lose their turn; credit does not jump the queue. */
  rig_reset(&r->streams[0], 0);
  rig_close(&r->streams[1]);
  assert_int_equal(rig_frame(r, UPDATE, 0, 9, 5), 0);
  assert_int_equal(r->streams[4].writable, 4);
  rig_skip(r);
  r->block_count = 0;
  pu_yamux_set_blocked(r->y, false);
  for (int i = 0; i < 10; i++)
    rig_expect(r, DATA, 0, 5, 1000);
  rig_expect_none(r);
  rig_free(r);
}

/* A stream without window waits for its window, not for the connection. */
static void test_waits_for_both(void **state) {
  (void)state;
  rig *r = rig_new(true);
  rig_stream *st = rig_open(r);
  assert_int_equal(rig_write(st, 0, WINDOW + 1, ROOM), WINDOW);
  pu_yamux_set_blocked(r->y, true);
  pu_yamux_set_blocked(r->y, false);
  assert_int_equal(st->writable, 0);
  pu_yamux_set_blocked(r->y, true);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 10), 0);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 10), 0);
  assert_int_equal(st->writable, 0);
  assert_int_equal(pu_yamux_stream_space(st->s), 0);
  pu_yamux_set_blocked(r->y, false);
  assert_int_equal(st->writable, 1);
  assert_int_equal(pu_yamux_stream_space(st->s), 20);
  rig_free(r);
}

static void test_output_blocks_and_unblocks(void **state) {
  (void)state;
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, true);
  config.max_payload = 1000;
  rig_new_with(r, &config);
  rig_stream *st = rig_open(r);
  r->block_after = 3;
  assert_int_equal(rig_write(st, 0, 10000, ROOM), 3000); /* stops when told to */
  r->unblock_inside = true;
  r->block_count = 0;
  pu_yamux_set_blocked(r->y, false);
  assert_int_equal(st->writable, 1);
  assert_int_equal(rig_write(st, 3000, 10000, ROOM), 10000);
  check_sent(r, 1, 0, 13000, 1000);
  rig_free(r);
}

/* ---- receiving ---- */

static void test_window_is_given_back_at_half(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2 - 1), 0);
  rig_expect_none(r);
  assert_int_equal(rig_data(r, 0, 1, WINDOW / 2 - 1, 1), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2);
  assert_int_equal(rig_data(r, 0, 1, WINDOW / 2, WINDOW), 0); /* the whole window in one frame */
  rig_expect(r, UPDATE, 0, 1, WINDOW);
  rig_expect_none(r);
  rig_check_pattern(st, WINDOW / 2 + WINDOW);
  assert_int_equal(st->s->recv_left, WINDOW);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW + 1), PU_E_PROTOCOL);
  assert_int_equal(st->reset_status, PU_E_PROTOCOL);
  assert_int_equal(st->got_len, WINDOW / 2 + WINDOW); /* nothing of it was passed on */
  rig_free(r);
}

static void test_queue_and_resume(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  st->take = 10;
  for (size_t at = 0; at < WINDOW; at += 65536)
    assert_int_equal(rig_data(r, 0, 1, at, 65536), 0);
  assert_int_equal(st->got_len, 10);
  assert_int_equal(pu_yamux_stream_queued(st->s), WINDOW - 10);
  assert_true(r->mem.used < WINDOW + 20000);
  rig_expect_none(r);
  st->take = 100000;
  pu_yamux_stream_resume(st->s);
  assert_int_equal(st->got_len, 100010);
  rig_expect_none(r); /* less than half of it */
  st->take = 100000;
  pu_yamux_stream_resume(st->s);
  rig_expect(r, UPDATE, 0, 1, 200010);
  st->take = SIZE_MAX;
  assert_int_equal(rig_data(r, 0, 1, WINDOW, 5), 0); /* still paused: behind what waits */
  assert_int_equal(st->got_len, 200010);
  pu_yamux_stream_resume(st->s);
  rig_check_pattern(st, WINDOW + 5);
  assert_int_equal(pu_yamux_stream_queued(st->s), 0);
  assert_null(st->s->queue.first);
  assert_int_equal(rig_data(r, 0, 1, WINDOW + 5, 5), 0); /* flows again by itself */
  rig_check_pattern(st, WINDOW + 10);
  rig_free(r);
}

static void test_overrun_by_one(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW), 0);
  assert_int_equal(pu_yamux_stream_queued(st->s), WINDOW);
  assert_int_equal(rig_data(r, 0, 1, 0, 0), 0); /* nothing is always allowed */
  assert_int_equal(rig_data(r, 0, 1, 0, 1), PU_E_PROTOCOL);
  assert_string_equal(pu_yamux_why(r->y), "window overrun");
  assert_int_equal(st->reset, 1);
  rig_free(r);
}

static void again_hook(rig_stream *st, rig_event event) {
  if (event == RIG_DATA && st->take == 0) {
    st->take = 7; /* room appeared before the reader returned */
    pu_yamux_stream_resume(st->s);
  } else if (event == RIG_DATA && st->got_len > 3000) {
    st->take = SIZE_MAX;
  }
}

static void test_resume_inside_on_data(void **state) {
  (void)state;
  rig *r = rig_new(false);
  r->hook = again_hook;
  rig_stream *st = rig_accept(r, 1);
  st->take = 20;
  assert_int_equal(rig_data(r, 0, 1, 0, 5000), 0);
  rig_check_pattern(st, 5000);
  rig_free(r);
}

/* The rig overwrites all it is lent; so frames behind each other show whether too much is lent. */
static void test_spans_in_one_record(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig *a = rig_new(true);
  rig_stream *out = rig_open(a);
  for (size_t i = 0; i < 50; i++)
    assert_int_equal(rig_write(out, i * 20, 20, ROOM), 20);
  assert_int_equal(rig_feed(r, a->out, a->out_len), 0);
  rig_stream *st = &r->streams[0];
  rig_check_pattern(st, 1000);
  assert_true(st->last_head >= RIG_ROOM + PU_YAMUX_HEADER); /* all that is done with */
  assert_int_equal(st->last_tail, RIG_ROOM);
  const uint8_t *next = a->out + PU_YAMUX_HEADER + 20;
  assert_int_equal(rig_feed(r, next, PU_YAMUX_HEADER + 18), 0); /* ends inside a frame */
  assert_int_equal(st->last_tail, RIG_ROOM);
  assert_int_equal(rig_feed(r, next + PU_YAMUX_HEADER + 18, 2 + 8), 0); /* inside a header */
  assert_int_equal(st->last_tail, 0);
  rig_free(a);
  rig_free(r);
}

static void test_no_memory_for_the_queue(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1), *other = rig_accept(r, 3);
  st->take = 0;
  pu_mem_fail_at(&r->mem, 1);
  assert_int_equal(rig_data(r, FIN, 1, 0, 100), 0);
  assert_int_equal(st->reset_status, PU_E_NOMEM);
  assert_int_equal(st->reset, 1);
  rig_expect(r, UPDATE, RST, 1, 0x1002);
  assert_int_equal(rig_data(r, 0, 3, 0, 100), 0);
  rig_check_pattern(other, 100);
  rig_free(r);
}

/* ---- growth ---- */

/* rig_far is a server whose round trip is 100 ms. */
static rig *rig_far(uint32_t window_max, size_t budget) {
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, false);
  config.window_max = window_max;
  config.window_budget = budget;
  rig_new_with(r, &config);
  assert_int_equal(pu_yamux_start(r->y, r->now_us), 0);
  r->now_us += 100000;
  assert_int_equal(rig_frame(r, PING, ACK, 0, 0), 0);
  rig_skip(r);
  return r;
}

static void test_window_grows(void **state) {
  (void)state;
  rig *r = rig_far(0, SIZE_MAX);
  rig_stream *st = rig_accept(r, 1);
  r->keep_bytes = false;
  uint32_t window = WINDOW;
  while (window < PU_YAMUX_WINDOW_MAX) {
    r->now_us += 399999; /* within four round trips */
    assert_int_equal(rig_data(r, 0, 1, 0, window / 2), 0);
    rig_expect(r, UPDATE, 0, 1, window / 2 + window); /* what was taken, and as much again */
    window *= 2;
    assert_int_equal(st->s->recv_window, window);
    assert_int_equal(st->s->recv_left, window);
  }
  assert_int_equal(rig_data(r, 0, 1, 0, window / 2), 0);
  rig_expect(r, UPDATE, 0, 1, window / 2); /* as large as it gets */
  rig_free(r);
}

static void test_window_does_not_grow(void **state) {
  (void)state;
  /* slow */
  rig *r = rig_far(0, SIZE_MAX);
  rig_stream *st = rig_accept(r, 1);
  r->now_us += 400000;
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2);
  r->now_us += 399999; /* fast this time */
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2 + WINDOW);
  /* taken later, at a time that the session does not know */
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 1, 0, 2 * WINDOW), 0);
  st->take = SIZE_MAX;
  pu_yamux_stream_resume(st->s);
  rig_expect(r, UPDATE, 0, 1, 2 * WINDOW);
  rig_free(r);
  /* round trip unknown */
  r = rig_new(false);
  (void)rig_accept(r, 1);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2);
  rig_free(r);
  /* not wanted: a maximum below the start leaves the start */
  r = rig_far(1000, SIZE_MAX);
  (void)rig_accept(r, 1);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2);
  rig_free(r);
  /* a maximum that no doubling meets */
  r = rig_far(WINDOW + 1000, SIZE_MAX);
  (void)rig_accept(r, 1);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2 + 1000);
  rig_free(r);
}

static void test_growth_budget(void **state) {
  (void)state;
  rig *r = rig_far(0, 3 * (size_t)WINDOW);
  rig_stream *st[3];
  for (uint32_t i = 0; i < 3; i++)
    st[i] = rig_accept(r, 2 * i + 1);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW / 2 + WINDOW); /* 1 of 3 */
  assert_int_equal(rig_data(r, 0, 3, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 3, WINDOW / 2 + WINDOW); /* 2 of 3 */
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW), 0);
  rig_expect(r, UPDATE, 0, 1, WINDOW); /* two more would be 4 */
  assert_int_equal(rig_data(r, 0, 5, 0, WINDOW / 2), 0);
  rig_expect(r, UPDATE, 0, 5, WINDOW / 2 + WINDOW); /* 3 of 3 */
  rig_reset(st[1], 0);
  rig_close(st[2]);
  rig_skip(r);
  assert_int_equal(r->y->grown, WINDOW);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW), 0);
  rig_expect(r, UPDATE, 0, 1, 3 * WINDOW);
  assert_int_equal(rig_frame(r, UPDATE, RST, 1, 0), 0);
  assert_int_equal(r->y->grown, 0);
  rig_free(r);
}

/* A grown window bounds the queue as the first one does. */
static void test_grown_window_overrun(void **state) {
  (void)state;
  rig *r = rig_far(0, SIZE_MAX);
  rig_stream *st = rig_accept(r, 1);
  assert_int_equal(rig_data(r, 0, 1, 0, WINDOW / 2), 0);
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 1, 0, 2 * WINDOW), 0);
  assert_int_equal(pu_yamux_stream_queued(st->s), 2 * WINDOW);
  assert_int_equal(rig_data(r, 0, 1, 0, 1), PU_E_PROTOCOL);
  rig_free(r);
}

/* ---- half-close and reset ---- */

static void test_half_close(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  st->take = 4;
  assert_int_equal(rig_data(r, 0, 1, 0, 10), 0);
  assert_int_equal(rig_frame(r, UPDATE, FIN, 1, 0), 0);
  assert_int_equal(st->eof, 0); /* not before all was taken */
  assert_int_equal(rig_write(st, 0, 6, ROOM), 6);
  rig_expect(r, DATA, 0, 1, 6);
  st->take = SIZE_MAX;
  pu_yamux_stream_resume(st->s);
  rig_check_pattern(st, 10);
  assert_int_equal(st->eof, 1);
  assert_int_equal(rig_frame(r, UPDATE, FIN, 1, 0), 0); /* again, and with data behind it */
  assert_int_equal(rig_data(r, 0, 1, 10, 10), 0);
  assert_int_equal(rig_data(r, 0, 1, 10, 300000), 0);
  assert_int_equal(st->eof, 1);
  assert_int_equal(st->got_len, 10);
  assert_int_equal(rig_write(st, 6, 6, ROOM), 6); /* our direction goes on */
  rig_expect(r, DATA, 0, 1, 6);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
  rig_expect(r, UPDATE, FIN, 1, 0);
  assert_int_equal(pu_yamux_stream_count(r->y), 1); /* until its user closes it */
  rig_close(st);
  rig_expect_none(r);
  assert_int_equal(r->y->table_len, 0);
  rig_free(r);
}

static void test_data_and_fin_in_one_frame(void **state) {
  (void)state;
  rig *r = rig_new(false);
  assert_int_equal(rig_data(r, SYN | FIN, 1, 0, 10), 0);
  rig_check_pattern(&r->streams[0], 10);
  assert_int_equal(r->streams[0].eof, 1);
  assert_int_equal(rig_data(r, SYN | FIN, 3, 0, 0), 0);
  assert_int_equal(r->streams[1].eof, 1);
  /* We never send such a frame. */
  rig_skip(r);
  assert_int_equal(rig_write(&r->streams[0], 0, 5, ROOM), 5);
  assert_int_equal(pu_yamux_stream_close_write(r->streams[0].s), 0);
  rig_expect(r, DATA, 0, 1, 5);
  rig_expect(r, UPDATE, FIN, 1, 0);
  rig_free(r);
}

static void test_no_credit_after_fin(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  st->take = 0;
  assert_int_equal(rig_data(r, FIN, 1, 0, WINDOW), 0);
  st->take = SIZE_MAX;
  pu_yamux_stream_resume(st->s);
  assert_int_equal(st->eof, 1);
  rig_expect_none(r);
  rig_free(r);
}

static void test_reset(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 1, 0, 10), 0);
  assert_int_equal(rig_frame(r, UPDATE, RST, 1, 0x1001), 0);
  assert_int_equal(st->reset_status, PU_E_RESET);
  assert_int_equal(st->reset_code, 0x1001);
  st = rig_accept(r, 3);
  assert_int_equal(rig_data(r, RST, 3, 0, 10), 0); /* of a data frame the length is no code */
  assert_int_equal(st->reset_code, 0);
  assert_int_equal(st->got_len, 0);
  assert_int_equal(pu_yamux_stream_count(r->y), 0);
  st = rig_accept(r, 5);
  rig_reset(st, 0x1003);
  rig_expect(r, UPDATE, RST, 5, 0x1003);
  assert_int_equal(rig_data(r, 0, 5, 0, 10), 0); /* crossed with it */
  assert_int_equal(rig_frame(r, UPDATE, RST, 5, 1), 0);
  assert_int_equal(st->reset, 0);
  /* Both directions had ended well: a late RST spoils nothing. */
  st = rig_accept(r, 7);
  st->take = 0;
  assert_int_equal(rig_data(r, FIN, 7, 0, 10), 0);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
  rig_expect(r, UPDATE, FIN, 7, 0);
  assert_int_equal(rig_frame(r, UPDATE, RST, 7, 0), 0);
  st->take = SIZE_MAX;
  pu_yamux_stream_resume(st->s);
  rig_check_pattern(st, 10);
  assert_int_equal(st->eof, 1);
  rig_expect_none(r);
  rig_free(r);
}

/* ---- closed streams ---- */

static void test_close_waits_for_the_peer(void **state) {
  (void)state;
  rig *r = rig_new(false);
  size_t empty = r->mem.used;
  rig_stream *st = rig_accept(r, 1);
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 1, 0, 1000), 0);
  rig_close(st);
  rig_expect(r, UPDATE, FIN, 1, 0);
  assert_int_equal(pu_yamux_stream_count(r->y), 0);
  assert_true(r->mem.used - empty < 250); /* unread bytes are gone */
  assert_int_equal(rig_data(r, 0, 1, 0, PU_YAMUX_LINGER_BYTES), 0);
  assert_int_equal(rig_frame(r, UPDATE, 0, 1, 5), 0);
  rig_expect_none(r); /* neither credit nor RST */
  assert_int_equal(rig_frame(r, UPDATE, FIN, 1, 0), 0);
  assert_int_equal(r->mem.used, empty);
  st = rig_accept(r, 3);
  rig_close(st);
  rig_expect(r, UPDATE, FIN, 3, 0);
  assert_int_equal(rig_frame(r, UPDATE, RST, 3, 0), 0);
  assert_int_equal(r->mem.used, empty);
  assert_int_equal(st->reset, 0);
  /* FIN sent before: not again. */
  st = rig_accept(r, 5);
  assert_int_equal(pu_yamux_stream_close_write(st->s), 0);
  rig_expect(r, UPDATE, FIN, 5, 0);
  rig_close(st);
  rig_expect_none(r);
  assert_int_equal(rig_data(r, FIN, 5, 0, 10), 0);
  assert_int_equal(r->mem.used, empty);
  rig_free(r);
}

static void test_closed_but_the_peer_goes_on(void **state) {
  (void)state;
  rig *r = rig_new(false);
  size_t empty = r->mem.used;
  rig_close(rig_accept(r, 1));
  rig_expect(r, UPDATE, FIN, 1, 0);
  assert_int_equal(rig_data(r, 0, 1, 0, PU_YAMUX_LINGER_BYTES), 0);
  rig_expect_none(r);
  assert_int_equal(rig_data(r, 0, 1, 0, 1), 0);
  rig_expect(r, UPDATE, RST, 1, 0);
  assert_int_equal(r->mem.used, empty);
  assert_int_equal(rig_data(r, 0, 1, 0, 1000), 0); /* now unknown */
  rig_expect_none(r);
  /* A closed stream's window is still a bound, and its ID still taken. */
  rig_stream *st = rig_accept(r, 3);
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 3, 0, WINDOW - 10), 0);
  rig_close(st);
  assert_int_equal(rig_data(r, 0, 3, 0, 11), PU_E_PROTOCOL);
  rig_free(r);
  r = rig_new(false);
  rig_close(rig_accept(r, 3));
  assert_int_equal(rig_frame(r, UPDATE, SYN, 3, 0), PU_E_PROTOCOL);
  rig_free(r);
}

static void test_closed_streams_are_forgotten(void **state) {
  (void)state;
  rig *r = rig_new(false);
  size_t empty = r->mem.used;
  for (uint32_t i = 0; i < 3; i++) {
    rig_close(rig_accept(r, 2 * i + 1));
    rig_skip(r);
    r->now_us += 1000;
  }
  uint64_t first_us = pu_yamux_deadline(r->y);
  assert_int_equal(first_us, r->now_us - 3000 + PU_YAMUX_LINGER_US);
  assert_int_equal(pu_yamux_expire(r->y, first_us - 1), 0);
  assert_int_equal(r->y->table_len, 3);
  assert_int_equal(pu_yamux_expire(r->y, first_us + 1000), 0);
  assert_int_equal(r->y->table_len, 1);
  assert_int_equal(pu_yamux_expire(r->y, pu_yamux_deadline(r->y)), 0);
  assert_true(pu_yamux_deadline(r->y) == PU_NEVER);
  assert_int_equal(r->mem.used, empty);
  rig_expect_none(r);
  /* Their number is bounded, too, and they take no place from those in use. */
  for (uint32_t i = 0; i < PU_YAMUX_MAX_LINGERING + 300; i++) {
    rig_close(rig_accept(r, 101 + 2 * i));
    rig_skip(r);
  }
  assert_int_equal(r->y->table_len, PU_YAMUX_MAX_LINGERING);
  assert_null(yamux_find(r->y, 101));
  assert_non_null(yamux_find(r->y, 101 + 2 * 300));
  rig_free(r);
}

/* Closing does not lose count of what is unacknowledged. */
static void test_close_of_unacknowledged(void **state) {
  (void)state;
  rig *r = rig_new(true);
  rig_stream *st = rig_open(r);
  assert_int_equal(rig_write(st, 0, 1, ROOM), 1);
  rig_close(st);
  assert_int_equal(r->y->unacked, 1);
  assert_int_equal(rig_frame(r, UPDATE, ACK, 1, 0), 0);
  assert_int_equal(r->y->unacked, 0);
  assert_int_equal(st->acked, 0); /* nobody to tell */
  assert_int_equal(rig_frame(r, UPDATE, FIN, 1, 0), 0);
  assert_int_equal(r->y->table_len, 0);
  rig_free(r);
}

/* ---- callbacks that end streams ---- */

static rig_event end_event;
static bool end_by_reset, end_all;

static void end_one(rig_stream *st) {
  if (st->s == NULL)
    return;
  if (end_by_reset)
    rig_reset(st, 9);
  else
    rig_close(st);
}

static void end_hook(rig_stream *st, rig_event event) {
  if (event == RIG_RESET || event != end_event)
    return;
  for (size_t i = 0; end_all && i < st->r->stream_count; i++)
    end_one(&st->r->streams[i]);
  end_one(st);
}

/* Each callback ends its stream, or all streams, by close or reset; directly and from the queue.
 * The sanitizers watch. */
static void test_end_in_callbacks(void **state) {
  (void)state;
  for (int i = 0; i < 4 * RIG_RESET; i++) {
    end_event = (rig_event)(i / 4);
    end_by_reset = i % 2 != 0;
    end_all = i % 4 >= 2;
    for (size_t take = 0; take <= 10; take += 5) {
      rig *r = rig_new(false);
      rig_stream *st = rig_open(r), *other = rig_open(r);
      assert_int_equal(rig_write(st, 0, WINDOW + 5, 0), WINDOW);
      assert_int_equal(rig_write(other, 0, 5, 0), 5);
      other->take = 0;
      assert_int_equal(rig_data(r, 0, 4, 0, 50), 0);
      pu_yamux_set_blocked(r->y, true);
      assert_int_equal(rig_write(other, 0, 5, 0), 0);
      other->take = SIZE_MAX;
      if (take > 5)
        st->take = SIZE_MAX;
      else
        st->take = take;
      r->hook = end_hook;
      assert_int_equal(rig_data(r, SYN | FIN, 1, 0, 50), 0);
      assert_int_equal(rig_frame(r, UPDATE, ACK, 2, 0), 0);
      /* one byte at a time: ends while its frame is on its way */
      uint8_t frame[PU_YAMUX_HEADER + 20] = {[7] = 2, [3] = 0, [11] = 20};
      for (size_t b = 0; b < sizeof(frame); b++)
        assert_int_equal(rig_feed(r, frame + b, 1), 0);
      if (st->s != NULL) {
        st->take = SIZE_MAX;
        pu_yamux_stream_resume(st->s);
      }
      if (other->s != NULL)
        pu_yamux_stream_resume(other->s);
      assert_int_equal(rig_frame(r, UPDATE, 0, 2, 10), 0);
      pu_yamux_set_blocked(r->y, false);
      assert_int_equal(rig_frame(r, UPDATE, FIN, 2, 0), 0);
      assert_int_equal(rig_frame(r, UPDATE, FIN, 4, 0), 0);
      /* The session itself is well. */
      r->hook = NULL;
      assert_int_equal(rig_data(r, SYN, 99, 0, 7), 0);
      assert_int_equal(r->streams[r->stream_count - 1].got_len, 7);
      rig_free(r);
    }
  }
}

static void end_others_hook(rig_stream *st, rig_event event) {
  for (size_t i = 0; event == RIG_RESET && i < st->r->stream_count; i++)
    if (&st->r->streams[i] != st)
      end_one(&st->r->streams[i]);
}

/* When the session ends, the first stream to hear of it ends the others. */
static void test_end_others_at_the_end(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    end_by_reset = i != 0;
    rig *r = rig_new(false);
    for (uint32_t id = 1; id < 10; id += 2)
      (void)rig_accept(r, id);
    r->hook = end_others_hook;
    assert_int_equal(rig_frame(r, GO_AWAY, 0, 0, 0), PU_E_EOF);
    assert_int_equal(r->streams[0].reset, 1);
    assert_int_equal(r->streams[4].reset, 0);
    assert_int_equal(r->y->table_len, 0);
    rig_free(r);
  }
}

static void open_hook(rig_stream *st, rig_event event) {
  if (event == RIG_EOF && st->r->stream_count < 100) {
    rig_close(st);
    rig_stream *fresh = rig_open(st->r);
    assert_int_equal(rig_write(fresh, 0, 100, ROOM), 100);
  }
}

static void test_open_in_callbacks(void **state) {
  (void)state;
  rig *r = rig_new(true);
  r->hook = open_hook;
  (void)rig_open(r);
  for (uint32_t id = 1; r->stream_count < 100; id += 2)
    assert_int_equal(rig_data(r, ACK | FIN, id, 0, 100), 0);
  assert_int_equal(pu_yamux_stream_count(r->y), 1);
  rig_free(r);
}

static void read_hook(rig_stream *st, rig_event event) {
  if (event == RIG_DATA) {
    st->r->hook = NULL;
    assert_int_equal(rig_frame(st->r, UPDATE, RST, 1, 0), 0);
    assert_int_equal(rig_data(st->r, SYN, 3, 0, 10), 0);
  }
}

/* A resume may make the connection read on at once; the stream's memory must outlive the call. */
static void test_read_in_callbacks(void **state) {
  (void)state;
  rig *r = rig_new(false);
  rig_stream *st = rig_accept(r, 1);
  st->take = 0;
  assert_int_equal(rig_data(r, 0, 1, 0, 10), 0);
  st->take = SIZE_MAX;
  r->hook = read_hook;
  pu_yamux_stream_resume(st->s);
  assert_int_equal(st->reset, 1);
  rig_check_pattern(&r->streams[1], 10);
  assert_int_equal(pu_yamux_stream_count(r->y), 1);
  rig_free(r);
}

/* Who found no room for another stream hears of it, whichever way an unacknowledged one ends. */
static void test_room_after_unacknowledged(void **state) {
  (void)state;
  rig *r = rig_new(true);
  pu_yamux_stream *s;
  rig_stream *all[PU_YAMUX_MAX_UNACKED];
  for (size_t i = 0; i < PU_YAMUX_MAX_UNACKED; i++) {
    all[i] = rig_open(r);
    if (i > 0)
      assert_int_equal(pu_yamux_stream_flush(all[i]->s), 0);
  }
  rig_reset(all[1], 0);
  assert_int_equal(r->rooms, 0); /* nobody has asked */
  all[1] = rig_open(r);
  for (unsigned way = 0; way < 4; way++) {
    assert_int_equal(pu_yamux_open(r->y, r, &s), PU_E_NO_STREAMS);
    assert_int_equal(r->rooms, way);
    switch (way) {
    case 0: /* its SYN never went */
      rig_close(all[0]);
      break;
    case 1:
      rig_reset(all[1], 0);
      break;
    case 2: /* the peer refuses it */
      assert_int_equal(rig_frame(r, UPDATE, RST, pu_yamux_stream_id(all[2]->s), 0), 0);
      assert_int_equal(all[2]->reset, 1);
      break;
    default: /* it was closed, and the peer says nothing */
      rig_close(all[3]);
      assert_int_equal(r->rooms, way);
      assert_int_equal(pu_yamux_expire(r->y, r->now_us + PU_YAMUX_LINGER_US), 0);
    }
    assert_int_equal(r->rooms, way + 1); /* once */
    (void)rig_open(r);
  }
  assert_int_equal(r->y->unacked, PU_YAMUX_MAX_UNACKED);
  rig_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_syn_goes_with_the_first_frame),
      cmocka_unit_test(test_ack_goes_with_the_first_frame),
      cmocka_unit_test(test_payload_is_split_and_kept),
      cmocka_unit_test(test_no_memory_for_scratch),
      cmocka_unit_test(test_write_now),
      cmocka_unit_test(test_scratch_goes_when_idle),
      cmocka_unit_test(test_send_window),
      cmocka_unit_test(test_window_with_syn),
      cmocka_unit_test(test_turns),
      cmocka_unit_test(test_waits_for_both),
      cmocka_unit_test(test_output_blocks_and_unblocks),
      cmocka_unit_test(test_window_is_given_back_at_half),
      cmocka_unit_test(test_queue_and_resume),
      cmocka_unit_test(test_overrun_by_one),
      cmocka_unit_test(test_resume_inside_on_data),
      cmocka_unit_test(test_spans_in_one_record),
      cmocka_unit_test(test_no_memory_for_the_queue),
      cmocka_unit_test(test_window_grows),
      cmocka_unit_test(test_window_does_not_grow),
      cmocka_unit_test(test_growth_budget),
      cmocka_unit_test(test_grown_window_overrun),
      cmocka_unit_test(test_half_close),
      cmocka_unit_test(test_data_and_fin_in_one_frame),
      cmocka_unit_test(test_no_credit_after_fin),
      cmocka_unit_test(test_reset),
      cmocka_unit_test(test_close_waits_for_the_peer),
      cmocka_unit_test(test_closed_but_the_peer_goes_on),
      cmocka_unit_test(test_closed_streams_are_forgotten),
      cmocka_unit_test(test_close_of_unacknowledged),
      cmocka_unit_test(test_room_after_unacknowledged),
      cmocka_unit_test(test_end_in_callbacks),
      cmocka_unit_test(test_end_others_at_the_end),
      cmocka_unit_test(test_open_in_callbacks),
      cmocka_unit_test(test_read_in_callbacks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
