/* The channel: two of them over a pipe of this process, in every slicing, with pipes that fill up,
 * with memory that fails, and against peers that are not what they should be. */
#include "transport/channel.h"

#include "mux/yamux.h"
#include "support/channel_pair.h"

/* Nothing waits for an answer that can only be yes. */
static void test_the_first_message_goes_with_the_offer(void **state) {
  (void)state;
  static const char offer[] = "\x13/multistream/1.0.0\n\007/noise\n";
  const size_t len = sizeof(offer) - 1;
  pair *p = pair_new(&pipe_ops);
  uint8_t sent[128];
  assert_int_equal(start(&p->a, true), 0);
  assert_int_equal(p->a.raw.writes, 1);
  assert_int_equal(pu_fifo_read(&p->b.raw.in, sent, sizeof(sent)), len + 2 + 32);
  assert_memory_equal(sent, offer, len);
  assert_true(sent[len] == 0 && sent[len + 1] == 32);
  const pu_iov iov = {sent, len + 2 + 32};
  assert_int_equal(pipe_writev(&p->a.raw.base, &iov, 1), iov.len);
  assert_int_equal(start(&p->b, false), 0);
  pump(p);
  assert_true(p->a.open && p->b.open);
  pair_free(p);
}

static void test_handshake_in_every_slicing(void **state) {
  (void)state;
  for (size_t slice = 1; slice < 400; slice += slice < 70 ? 1 : 37) {
    pair *p = pair_new(&pipe_ops);
    p->a.raw.slice = p->b.raw.slice = slice;
    assert_int_equal(start(&p->a, true), 0);
    assert_int_equal(start(&p->b, false), 0);
    pump(p);
    assert_true(p->a.open && p->b.open);
    assert_true(pu_peer_id_equal(&p->a.peer, pu_key_peer_id(p->b.key)));
    assert_true(pu_peer_id_equal(&p->b.peer, pu_key_peer_id(p->a.key)));
    assert_string_equal(p->a.channel.muxer, PU_YAMUX_ID);
    assert_int_equal(send_room(&p->a, 0, 1000, 2, 16), 0);
    assert_int_equal(send_room(&p->b, 0, 70, 2, 16), 0);
    pump(p);
    check_got(&p->b, 1000);
    check_got(&p->a, 70);
    assert_true(p->b.mem.peak < 32 * 1024);
    pair_free(p);
  }
}

static void test_records_in_every_slicing(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 0, 12, 5000, 65519, 3, 65519, 20000};
  for (int spans = 0; spans < 2; spans++) {
    for (size_t slice = 1; slice < 200000; slice = slice * 3 + 1) {
      pair *p = pair_open(spans == 1 ? &pipe_span_ops : &pipe_ops);
      p->b.raw.slice = slice;
      size_t total = 0;
      for (size_t i = 0; i < PU_COUNT(sizes); i++) {
        assert_int_equal(send_room(&p->a, total, sizes[i], 2, 16), 0);
        total += sizes[i];
      }
      pump(p);
      check_got(&p->b, total);
      assert_null(p->b.channel.carry);
      assert_int_equal(p->a.channel.bytes_out, p->b.channel.bytes_in);
      pair_free(p);
    }
  }
}

/* Frames without room, or with too little, are copied; a longer one than a record is split. */
static void test_room(void **state) {
  (void)state;
  static const struct {
    size_t head, tail;
  } rooms[] = {{0, 0}, {2, 0}, {0, 16}, {1, 15}, {2, 16}, {100, 3}, {40, 40}};
  static const size_t sizes[] = {1, 511, 512, 513, 2047, 2048, 2049, 16384, 65519};
  pair *p = pair_open(&pipe_ops);
  size_t total = 0;
  for (size_t i = 0; i < PU_COUNT(rooms); i++) {
    for (size_t j = 0; j < PU_COUNT(sizes); j++) {
      assert_int_equal(send_room(&p->a, total, sizes[j], rooms[i].head, rooms[i].tail), 0);
      total += sizes[j];
    }
  }
  pump(p);
  check_got(&p->b, total);
  pair_free(p);
}

static void test_corked_goes_in_one_write(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  unsigned before = p->a.raw.writes;
  size_t total = 0;
  pu_channel_cork(&p->a.channel);
  for (int i = 0; i < 60; i++) {
    assert_int_equal(send_room(&p->a, total, 20, 2, 16), 0);
    total += 20;
  }
  assert_int_equal(p->a.raw.writes, before);
  pu_channel_uncork(&p->a.channel);
  assert_int_equal(p->a.raw.writes, before + 1);
  assert_null(p->a.channel.arena);
  /* Borrowed records wait, and pu_channel_flush gives their memory back under any cork. */
  static uint8_t memory[3][32 + 30000 + 32];
  pu_channel_cork(&p->a.channel);
  for (int i = 0; i < 3; i++) {
    for (size_t j = 0; j < 30000; j++)
      memory[i][32 + j] = byte_at(total + j);
    pu_span io = {memory[i] + 32, 30000, 32, 32};
    assert_int_equal(pu_channel_send(&p->a.channel, &io, true), 0);
    total += 30000;
  }
  assert_int_equal(p->a.raw.writes, before + 1);
  pu_channel_flush(&p->a.channel);
  assert_int_equal(p->a.raw.writes, before + 2);
  memset(memory, 0, sizeof(memory));
  pu_channel_uncork(&p->a.channel);
  assert_int_equal(p->a.raw.writes, before + 2);
  pump(p);
  check_got(&p->b, total);
  pair_free(p);
}

/* Small copied and large borrowed records in any order come out in order. */
static void test_order_under_a_cork(void **state) {
  (void)state;
  for (uint32_t seed = 1; seed < 60; seed++) {
    pair *p = pair_open(seed % 2 == 0 ? &pipe_span_ops : &pipe_ops);
    static uint8_t memory[40][PU_SPAN_HEAD + 9000 + PU_SPAN_TAIL];
    uint32_t random = seed;
    size_t total = 0;
    p->b.raw.capacity = seed % 3 == 0 ? 20000 : SIZE_MAX / 2;
    for (int batch = 0; batch < 3; batch++) {
      pu_channel_cork(&p->a.channel);
      for (int i = 0; i < 40 && !p->a.is_blocked; i++) {
        uint16_t draw;
        pu_test_random(&random, &draw, sizeof(draw));
        size_t len = draw % 9000;
        if (draw % 5 < 3)
          len %= 300;
        bool borrowed = draw % 7 < 3;
        if (!borrowed) {
          assert_int_equal(send_room(&p->a, total, len, draw % 3 == 0 ? 0 : 2, 16), 0);
        } else {
          for (size_t j = 0; j < len; j++)
            memory[i][PU_SPAN_HEAD + j] = byte_at(total + j);
          pu_span io = {memory[i] + PU_SPAN_HEAD, len, PU_SPAN_HEAD, PU_SPAN_TAIL};
          assert_int_equal(pu_channel_send(&p->a.channel, &io, true), 0);
        }
        total += len;
      }
      pu_channel_uncork(&p->a.channel);
      memset(memory, 0, sizeof(memory));
      pump(p);
    }
    check_got(&p->b, total);
    assert_false(p->a.ended);
    pair_free(p);
  }
}

static void test_full_pipe_blocks(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  size_t total = 0;
  p->b.raw.capacity = 100000;
  p->b.raw.want_read = false;
  while (!p->a.is_blocked) {
    assert_int_equal(send_room(&p->a, total, 30000, 2, 16), 0);
    total += 30000;
    assert_true(total < 200000);
  }
  /* What may still come when blocked is queued. */
  for (int i = 0; i < 100; i++) {
    assert_int_equal(send_room(&p->a, total, 12, 2, 16), 0);
    total += 12;
  }
  pump(p);
  assert_int_equal(p->a.unblocked, 0);
  p->b.raw.want_read = true;
  pump(p);
  assert_int_equal(p->a.blocked, 1);
  assert_int_equal(p->a.unblocked, 1);
  check_got(&p->b, total);
  assert_int_equal(p->a.channel.tx.len, 0);
  pair_free(p);
}

static void test_queue_has_a_bound(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  p->b.raw.capacity = 0;
  p->b.raw.want_read = false;
  int rc = 0;
  size_t sent = 0;
  while (rc == 0) {
    rc = send_room(&p->a, 0, 10000, 2, 16);
    sent += 10000;
    assert_true(sent < 2 * PU_CHANNEL_TX_MAX);
  }
  assert_true(p->a.ended);
  assert_true(sent > PU_CHANNEL_TX_MAX - 20000);
  assert_int_equal(send_room(&p->a, 0, 1, 2, 16), PU_E_CLOSED);
  pair_free(p);
}

/* A batch that nobody takes fits the queue. */
static void test_a_batch_fits_the_queue(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  static uint8_t memory[PU_CHANNEL_IOVS][PU_SPAN_HEAD + 65519 + PU_SPAN_TAIL];
  p->b.raw.capacity = 0;
  pu_channel_cork(&p->a.channel);
  for (size_t i = 0; i < PU_CHANNEL_IOVS && !p->a.is_blocked; i++) {
    pu_span io = {memory[i] + PU_SPAN_HEAD, 65519, PU_SPAN_HEAD, PU_SPAN_TAIL};
    assert_int_equal(pu_channel_send(&p->a.channel, &io, true), 0);
  }
  pu_channel_uncork(&p->a.channel);
  assert_true(p->a.is_blocked);
  assert_false(p->a.ended);
  pair_free(p);
}

static void test_ends(void **state) {
  (void)state;
  /* The peer goes in each phase: the reason says when. */
  static const size_t after[] = {0, 10, 60, 150, 10000};
  for (size_t i = 0; i < PU_COUNT(after); i++) {
    pair *p = pair_new(&pipe_ops);
    p->b.raw.slice = 10;
    assert_int_equal(start(&p->a, true), 0);
    assert_int_equal(start(&p->b, false), 0);
    for (size_t moved = 0; moved < after[i]; moved += 10) {
      (void)pipe_deliver(&p->a.raw);
      (void)pipe_deliver(&p->b.raw);
    }
    pu_channel_stop(&p->b.channel, false);
    pump(p);
    assert_true(p->a.ended && !p->b.ended);
    assert_int_equal(p->a.status, PU_E_EOF);
    assert_true(p->a.why[0] != '\0');
    pair_free(p);
  }
}

static void test_another_peer(void **state) {
  (void)state;
  pair *p = pair_new(&pipe_ops);
  p->a.expected = *pu_key_peer_id(p->a.key);
  assert_int_equal(start(&p->a, true), 0);
  assert_int_equal(start(&p->b, false), 0);
  pump(p);
  assert_true(p->a.ended && p->b.ended && !p->a.secured && !p->b.secured);
  assert_int_equal(p->a.status, PU_E_PEER_MISMATCH);
  pair_free(p);
}

static void test_refused(void **state) {
  (void)state;
  for (int who = 0; who < 4; who++) {
    pair *p = pair_new(&pipe_ops);
    end *e = who < 2 ? &p->a : &p->b;
    if (who % 2 == 0)
      e->refuse_secured = PU_E_DENIED;
    else
      e->refuse_open = PU_E_NOMEM;
    assert_int_equal(start(&p->a, true), 0);
    assert_int_equal(start(&p->b, false), 0);
    pump(p);
    assert_true(e->ended && e->secured);
    assert_int_equal(e->status, who % 2 == 0 ? PU_E_DENIED : PU_E_NOMEM);
    assert_int_equal(e->open, who % 2 == 1);
    assert_int_equal(e->got_len, 0);
    assert_true(e == &p->a ? p->b.ended : p->a.ended);
    pair_free(p);
  }
}

/* feed_to gives one channel bytes of nobody: returns how it ended. */
static int feed_to(bool initiator, const char *bytes, size_t len, char *why) {
  pair *p = pair_new(&pipe_ops);
  end *e = &p->a;
  assert_int_equal(start(e, initiator), 0);
  const pu_iov iov = {(void *)(uintptr_t)bytes, len};
  assert_int_equal(pipe_writev(&p->b.raw.base, &iov, 1), len);
  while (pipe_deliver(&e->raw)) {
  }
  int status = e->ended ? e->status : 0;
  (void)snprintf(why, 128, "%s", e->why);
  pipe_close(&p->b.raw.base, false);
  pump(p);
  pair_free(p);
  return status;
}

static void test_nonsense(void **state) {
  (void)state;
#define FEED(initiator, text) feed_to(initiator, text, sizeof(text) - 1, why)
#define MS "\x13/multistream/1.0.0\n"
  char why[128];
  assert_int_equal(FEED(false,
                        "GET / HTTP/1.1\r\nHost: a.host.with.a.name\r\nUser-Agent: somebody/1.2.3"
                        "\r\nAccept: */*\r\n\r\n"),
                   PU_E_PROTOCOL);
  assert_int_equal(FEED(false, "GET / HTTP/1.1\r\n"), 0); /* until its deadline */
  assert_int_equal(FEED(true, "\x13/multistream/2.0.0\n"), PU_E_PROTOCOL);
  assert_int_equal(FEED(true, MS "\003na\n"), PU_E_UNSUPPORTED);
  assert_string_equal(why, "the peer speaks none of our security protocols");
  assert_int_equal(FEED(false, MS "\013/tls/1.0.0\n" MS), 0); /* it may offer more */
  assert_int_equal(FEED(false, MS "\007/noise\n\377\377junk"), PU_E_PROTOCOL);
  assert_int_equal(FEED(true, MS "\007/noise\n\000\040"
                                 "abcdefghijklmnopqrstuvwxyz012345"),
                   PU_E_PROTOCOL);
#undef FEED
}

static void test_damaged_record(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  assert_int_equal(send_room(&p->a, 0, 1000, 2, 16), 0);
  pu_iov front;
  assert_int_equal(pu_fifo_peek(&p->b.raw.in, &front, 1), 1);
  ((uint8_t *)front.base)[500] ^= 1;
  pump(p);
  assert_true(p->b.ended);
  assert_int_equal(p->b.status, PU_E_CRYPTO);
  assert_int_equal(p->b.got_len, 0);
  assert_true(p->a.ended);
  pair_free(p);
}

static void test_write_error(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  p->a.raw.fail_write = PU_E_RESET;
  pu_channel_cork(&p->a.channel);
  assert_int_equal(send_room(&p->a, 0, 20, 2, 16), 0);
  pu_channel_uncork(&p->a.channel);
  assert_true(p->a.ended);
  assert_int_equal(p->a.status, PU_E_RESET);
  pair_free(p);
}

/* The owner may stop the channel from inside any event; records behind are not delivered. */
static void test_stopped_inside(void **state) {
  (void)state;
  for (size_t slice = 1; slice < 5000; slice *= 5) {
    pair *p = pair_open(&pipe_ops);
    p->b.raw.slice = slice;
    p->b.stop_in_plain = true;
    assert_int_equal(send_room(&p->a, 0, 1000, 2, 16), 0);
    assert_int_equal(send_room(&p->a, 1000, 1000, 2, 16), 0);
    pump(p);
    assert_int_equal(p->b.got_len, 1000);
    assert_true(p->a.ended);
    pair_free(p);
  }
}

/* ---- the muxer inside the channel, when the handshake did not choose one ---- */

/* An initiator made of the parts below the channel, whose Noise offers no muxer. */
static void test_muxer_by_negotiation(void **state) {
  (void)state;
  static const char *const offers[] = {"/mplex/6.7.0", PU_YAMUX_ID};
  static const char hello[] = MS "\007/noise\n";
  for (size_t slice = 1; slice < 100; slice += 7) {
    pair *p = pair_new(&pipe_ops);
    uint8_t bytes[4096];
    size_t len;
    pu_security *s;
    pu_span plain;
    p->b.raw.slice = slice;
    assert_int_equal(start(&p->b, false), 0);
    const pu_security_config config = {.mem = &p->a.mem,
                                       .initiator = true,
                                       .key = p->a.key,
                                       .random = pu_test_random,
                                       .random_data = &p->a.random};
    assert_int_equal(pu_noise_ops.start(&config, &s), 0);
    pu_iov iov = {(void *)(uintptr_t)hello, sizeof(hello) - 1};
    assert_int_equal(pipe_writev(&p->a.raw.base, &iov, 1), sizeof(hello) - 1);
    size_t skip = sizeof(hello) - 1; /* the same comes back */
    while (pu_noise_ops.result(s) == NULL) {
      ssize_t n = pu_noise_ops.write(s, bytes, sizeof(bytes));
      assert_true(n >= 0);
      iov = (pu_iov){bytes, (size_t)n};
      (void)pipe_writev(&p->a.raw.base, &iov, 1);
      while (pipe_deliver(&p->b.raw)) {
      }
      if (pu_noise_ops.result(s) != NULL)
        break; /* what comes now are records */
      len = pu_fifo_read(&p->a.raw.in, bytes, skip);
      skip -= len;
      len = pu_fifo_read(&p->a.raw.in, bytes, sizeof(bytes));
      if (len > 0)
        assert_int_equal(pu_noise_ops.read(s, bytes, len), len);
      assert_true(n > 0 || len > 0);
    }
    while (pipe_deliver(&p->b.raw)) {
    }
    assert_true(p->b.secured && !p->b.open);
    pu_multistream m;
    pu_multistream_dial(&m, offers, 2, false);
    for (int turn = 0; turn < 6; turn++) {
      uint8_t room[2 + 1024 + 16];
      size_t n = pu_multistream_write(&m, room + 2, 1024);
      if (n > 0) {
        pu_span io = {room + 2, n, 2, 16};
        assert_int_equal(pu_noise_ops.seal(s, &io), 0);
        iov = (pu_iov){io.data, io.len};
        (void)pipe_writev(&p->a.raw.base, &iov, 1);
      }
      while (pipe_deliver(&p->b.raw)) {
      }
      len = pu_fifo_read(&p->a.raw.in, bytes, sizeof(bytes));
      for (size_t at = 0; at < len;) {
        ssize_t used = pu_noise_ops.open(s, bytes + at, len - at, &plain);
        assert_true(used > 0);
        at += (size_t)used;
        assert_true(pu_multistream_read(&m, plain.data, plain.len) >= 0);
      }
    }
    assert_string_equal(pu_multistream_protocol(&m), PU_YAMUX_ID);
    assert_true(p->b.open);
    assert_string_equal(p->b.channel.muxer, PU_YAMUX_ID);
    pu_noise_ops.free(s);
    pipe_close(&p->a.raw.base, false);
    pair_free(p);
  }
}

/* ---- lack of memory ---- */

static void test_every_allocation_fails(void **state) {
  (void)state;
  unsigned failures = 0;
  for (int who = 0; who < 2; who++) {
    for (uint64_t n = 1;; n++) {
      pair *p = pair_new(&pipe_ops);
      end *e = who == 0 ? &p->a : &p->b;
      p->a.raw.slice = p->b.raw.slice = 50;
      pu_mem_fail_at(&e->mem, n);
      bool fine = start(&p->a, true) == 0 && start(&p->b, false) == 0;
      if (fine) {
        pump(p);
        if (p->a.open && p->b.open) {
          p->b.raw.capacity = p->a.raw.capacity = 3000;
          p->a.raw.want_read = p->b.raw.want_read = false;
          (void)send_room(&p->a, 0, 5000, 2, 16);
          (void)send_room(&p->b, 0, 5000, 2, 16);
          p->a.raw.want_read = p->b.raw.want_read = true;
          pump(p);
        }
      }
      if (!p->a.started && !p->a.raw.closed)
        pipe_close(&p->a.raw.base, true);
      if (!p->b.started && !p->b.raw.closed)
        pipe_close(&p->b.raw.base, true);
      bool reached = e->mem.fail_at == 0;
      failures += reached;
      if (reached && e->started)
        assert_true(e->ended || e->got_len == 5000);
      pair_free(p);
      if (!reached)
        break;
    }
  }
  assert_true(failures > 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_first_message_goes_with_the_offer),
      cmocka_unit_test(test_handshake_in_every_slicing),
      cmocka_unit_test(test_records_in_every_slicing),
      cmocka_unit_test(test_room),
      cmocka_unit_test(test_corked_goes_in_one_write),
      cmocka_unit_test(test_order_under_a_cork),
      cmocka_unit_test(test_full_pipe_blocks),
      cmocka_unit_test(test_queue_has_a_bound),
      cmocka_unit_test(test_a_batch_fits_the_queue),
      cmocka_unit_test(test_ends),
      cmocka_unit_test(test_another_peer),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_nonsense),
      cmocka_unit_test(test_damaged_record),
      cmocka_unit_test(test_write_error),
      cmocka_unit_test(test_stopped_inside),
      cmocka_unit_test(test_muxer_by_negotiation),
      cmocka_unit_test(test_every_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
