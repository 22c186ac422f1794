/* The channel with TLS: every mixture of what two sides offer, and TLS's own ways: refusals that
 * come late, farewells, new keys. */
#include "security/tls_identity.h"
#include "security/tls_priv.h"
#include "support/channel_pair.h"

static const char *const TLS[] = {"/tls/1.0.0"};
static const char *const NOISE[] = {"/noise"};
static const char *const TLS_NOISE[] = {"/tls/1.0.0", "/noise"};
static const char *const NOISE_TLS[] = {"/noise", "/tls/1.0.0"};

/* One certificate for each key, for all tests. */
static struct {
  pu_mem mem;
  pu_key *key[2];
  pu_tls_identity *tls[2];
} ours;

static int set_up(void **state) {
  (void)state;
  pu_mem_init(&ours.mem, NULL, PU_MEM_UNLIMITED);
  for (int i = 0; i < 2; i++) {
    ours.key[i] = pu_test_key((uint8_t)(i + 1));
    assert_int_equal(pu_tls_identity_new(&ours.mem, ours.key[i], 0, &ours.tls[i]), 0);
  }
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    pu_tls_identity_free(ours.tls[i]);
    pu_key_free(ours.key[i]);
  }
  pu_mem_deinit(&ours.mem);
  return 0;
}

static pair *tls_pair_new(const pu_raw_ops *ops) {
  pair *p = pair_new(ops);
  p->a.tls = ours.tls[0];
  p->b.tls = ours.tls[1];
  return p;
}

static void force(end *e, const char *const *securities, size_t count) {
  e->securities = securities;
  e->security_count = count;
}

static pair *tls_pair_open(const pu_raw_ops *ops) {
  pair *p = tls_pair_new(ops);
  force(&p->a, TLS, 1);
  assert_int_equal(start(&p->a, true), 0);
  assert_int_equal(start(&p->b, false), 0);
  pump(p);
  assert_true(p->a.open && p->b.open);
  return p;
}

static gnutls_session_t gnutls_of(end *e) {
  return pu_tls_session_of(e->channel.security)->tls;
}

/* The dialler's order counts, of what the listener speaks. */
static void test_offers(void **state) {
  (void)state;
  static const struct {
    const char *const *a, *const *b;
    size_t a_count, b_count;
    const char *agreed;
  } cases[] = {
      {TLS_NOISE, TLS_NOISE, 2, 2, "/tls/1.0.0"},
      {TLS_NOISE, NOISE_TLS, 2, 2, "/tls/1.0.0"},
      {NOISE_TLS, TLS_NOISE, 2, 2, "/noise"},
      {TLS_NOISE, NOISE, 2, 1, "/noise"},
      {NOISE_TLS, TLS, 2, 1, "/tls/1.0.0"},
      {TLS, TLS_NOISE, 1, 2, "/tls/1.0.0"},
      {NOISE, TLS_NOISE, 1, 2, "/noise"},
      {TLS, TLS, 1, 1, "/tls/1.0.0"},
      {NOISE, NOISE, 1, 1, "/noise"},
      {TLS, NOISE, 1, 1, NULL},
      {NOISE, TLS, 1, 1, NULL},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    for (size_t slice = 1; slice < 2000; slice = slice * 7 + 1) {
      pair *p = tls_pair_new(&pipe_ops);
      force(&p->a, cases[i].a, cases[i].a_count);
      force(&p->b, cases[i].b, cases[i].b_count);
      p->a.raw.slice = p->b.raw.slice = slice;
      assert_int_equal(start(&p->a, true), 0);
      assert_int_equal(start(&p->b, false), 0);
      pump(p);
      if (cases[i].agreed == NULL) {
        assert_true(p->a.ended && p->b.ended);
        /* The first handshake message, which goes with a single offer, may end it before "na" is
         * read. */
        assert_true(p->a.status == PU_E_UNSUPPORTED || p->a.status == PU_E_RESET);
        pair_free(p);
        continue;
      }
      assert_true(p->a.open && p->b.open);
      assert_string_equal(p->a.channel.security_ops->id, cases[i].agreed);
      assert_ptr_equal(p->a.channel.security_ops, p->b.channel.security_ops);
      assert_string_equal(p->a.channel.muxer, "/yamux/1.0.0");
      assert_true(pu_peer_id_equal(&p->a.peer, pu_key_peer_id(p->b.key)));
      assert_true(pu_peer_id_equal(&p->b.peer, pu_key_peer_id(p->a.key)));
      pair_free(p);
    }
  }
}

/* Without a list both are offered, and without a certificate only Noise. */
static void test_default_offers(void **state) {
  (void)state;
  for (int with = 0; with < 4; with++) {
    pair *p = tls_pair_new(&pipe_ops);
    const char *agreed = with == 3 && pu_tls_is_fast() ? "/tls/1.0.0" : "/noise";
    if ((with & 1) == 0)
      p->a.tls = NULL;
    if ((with & 2) == 0)
      p->b.tls = NULL;
    assert_int_equal(start(&p->a, true), 0);
    assert_int_equal(start(&p->b, false), 0);
    pump(p);
    assert_true(p->a.open && p->b.open);
    assert_string_equal(p->a.channel.security_ops->id, agreed);
    pair_free(p);
  }
}

static void test_impossible_offers(void **state) {
  (void)state;
  static const char *const unknown[] = {"/plaintext/2.0.0"};
  pair *p = tls_pair_new(&pipe_ops);
  force(&p->a, unknown, 1);
  assert_int_equal(start(&p->a, true), PU_E_INVAL);
  force(&p->b, TLS, 1);
  p->b.tls = NULL;
  assert_int_equal(start(&p->b, false), PU_E_INVAL);
  pair_free(p);
}

static void test_records_in_every_slicing(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 12, 5000, 16384, 3, 16383, 16385, 40000};
  for (int spans = 0; spans < 2; spans++) {
    for (size_t slice = 1; slice < 200000; slice = slice * 3 + 1) {
      pair *p = tls_pair_open(spans == 1 ? &pipe_span_ops : &pipe_ops);
      assert_int_equal(pu_channel_max_plain(&p->a.channel), 16384);
      p->b.raw.slice = slice;
      size_t total = 0;
      for (size_t i = 0; i < PU_COUNT(sizes); i++) {
        assert_int_equal(send_room(&p->a, total, sizes[i], 5, 17), 0);
        total += sizes[i];
        assert_int_equal(send_room(&p->a, total, 10, 4, 17), 0); /* too little room: copied */
        total += 10;
      }
      pump(p);
      check_got(&p->b, total);
      assert_null(p->b.channel.carry);
      assert_int_equal(p->a.channel.bytes_out, p->b.channel.bytes_in);
      pair_free(p);
    }
  }
}

/* The dialler's handshake is done before the listener has judged it: the refusal is a record. */
static void test_refusal_comes_late(void **state) {
  (void)state;
  for (size_t slice = 1; slice < 5000; slice *= 13) {
    pair *p = tls_pair_new(&pipe_ops);
    force(&p->a, TLS, 1);
    p->a.raw.slice = p->b.raw.slice = slice;
    p->b.expected = *pu_key_peer_id(p->b.key); /* somebody else than who dials */
    assert_int_equal(start(&p->a, true), 0);
    assert_int_equal(start(&p->b, false), 0);
    pump(p);
    assert_true(p->b.ended && !p->b.secured);
    assert_int_equal(p->b.status, PU_E_PEER_MISMATCH);
    assert_true(p->a.ended && p->a.open);
    assert_int_equal(p->a.status, PU_E_CRYPTO);
    assert_string_equal(p->a.why, "the peer did not accept our certificate");
    pair_free(p);
  }
}

static void test_another_peer(void **state) {
  (void)state;
  pair *p = tls_pair_new(&pipe_ops);
  force(&p->a, TLS, 1);
  p->a.expected = *pu_key_peer_id(p->a.key);
  assert_int_equal(start(&p->a, true), 0);
  assert_int_equal(start(&p->b, false), 0);
  pump(p);
  assert_true(p->a.ended && p->b.ended && !p->a.secured && !p->b.secured);
  assert_int_equal(p->a.status, PU_E_PEER_MISMATCH);
  assert_int_equal(p->b.status, PU_E_CRYPTO);
  assert_string_equal(p->b.why, "the peer did not accept our certificate");
  pair_free(p);
}

/* Bytes of nobody, at either side, in each phase. */
static void test_nonsense(void **state) {
  (void)state;
  static const char text[] =
      "\x13/multistream/1.0.0\n\013/tls/1.0.0\nGET / HTTP/1.1\r\nHost: here\r\n";
  for (int who = 0; who < 2; who++) {
    pair *p = tls_pair_new(&pipe_ops);
    end *e = who == 0 ? &p->a : &p->b;
    pipe_raw *other = who == 0 ? &p->b.raw : &p->a.raw;
    force(e, TLS, 1);
    assert_int_equal(start(e, who == 0), 0);
    const pu_iov iov = {(void *)(uintptr_t)text, sizeof text - 1};
    assert_int_equal(pipe_writev(&other->base, &iov, 1), iov.len);
    while (pipe_deliver(&e->raw)) {
    }
    assert_true(e->ended && !e->secured);
    assert_int_equal(e->status, PU_E_PROTOCOL);
    pipe_close(&other->base, false);
    pair_free(p);
  }
}

static void test_farewell(void **state) {
  (void)state;
  pair *p = tls_pair_open(&pipe_ops);
  assert_int_equal(send_room(&p->b, 0, 100, 5, 17), 0);
  const size_t record = p->a.raw.in.len;
  pu_channel_stop(&p->b.channel, false);
  assert_true(p->a.raw.in.len > record); /* an alert follows */
  pump(p);
  check_got(&p->a, 100);
  assert_true(p->a.ended);
  assert_int_equal(p->a.status, PU_E_EOF);
  assert_string_equal(p->a.why, "closed by the peer");
  pair_free(p);
}

static void test_damaged_record(void **state) {
  (void)state;
  pair *p = tls_pair_open(&pipe_ops);
  assert_int_equal(send_room(&p->a, 0, 1000, 5, 17), 0);
  pu_iov front;
  assert_int_equal(pu_fifo_peek(&p->b.raw.in, &front, 1), 1);
  ((uint8_t *)front.base)[500] ^= 1;
  pump(p);
  assert_true(p->b.ended && p->a.ended);
  assert_int_equal(p->b.status, PU_E_CRYPTO);
  assert_int_equal(p->b.got_len, 0);
  assert_int_equal(p->a.status, PU_E_PROTOCOL); /* told so by an alert */
  pair_free(p);
}

/* Keys are renewed under way: ours after so many records, and when the peer asks for it. */
static void test_new_keys(void **state) {
  (void)state;
  for (int who = 0; who < 3; who++) {
    pair *p = tls_pair_open(&pipe_ops);
    size_t there = 0, back = 0;
    for (int round = 0; round < 4; round++) {
      if (who == 0) {
        pu_tls_session_of(p->a.channel.security)->sealed = PU_TLS_REKEY_RECORDS;
      } else {
        assert_int_equal(
            gnutls_session_key_update(gnutls_of(&p->a), who == 1 ? 0 : (unsigned)GNUTLS_KU_PEER),
            0);
      }
      /* New keys go out before anything that is sealed with them. */
      pu_channel_cork(&p->a.channel);
      pu_channel_uncork(&p->a.channel);
      for (int i = 0; i < 3; i++) {
        assert_int_equal(send_room(&p->a, there, 700, 5, 17), 0);
        there += 700;
        pump(p);
        assert_int_equal(send_room(&p->b, back, 300, 5, 17), 0);
        back += 300;
        pump(p);
      }
      assert_int_equal(pu_tls_session_of(p->a.channel.security)->sealed,
                       who == 0 ? 3 : there / 700);
    }
    check_got(&p->b, there);
    check_got(&p->a, back);
    assert_true(!p->a.ended && !p->b.ended);
    pair_free(p);
  }
}

static void test_every_allocation_fails(void **state) {
  (void)state;
  unsigned failures = 0;
  for (int who = 0; who < 2; who++) {
    for (uint64_t n = 1;; n++) {
      pair *p = tls_pair_new(&pipe_ops);
      end *e = who == 0 ? &p->a : &p->b;
      force(&p->a, n % 2 == 0 ? TLS : TLS_NOISE, n % 2 == 0 ? 1 : 2);
      p->a.raw.slice = p->b.raw.slice = 50;
      pu_mem_fail_at(&e->mem, n);
      if (start(&p->a, true) == 0 && start(&p->b, false) == 0) {
        pump(p);
        if (p->a.open && p->b.open) {
          (void)send_room(&p->a, 0, 5000, 5, 17);
          (void)send_room(&p->b, 0, 5000, 5, 17);
          pump(p);
        }
      }
      if (!p->a.started && !p->a.raw.closed)
        pipe_close(&p->a.raw.base, true);
      if (!p->b.started && !p->b.raw.closed)
        pipe_close(&p->b.raw.base, true);
      const bool reached = e->mem.fail_at == 0;
      failures += reached;
      if (reached && e->started) {
        assert_true(e->ended ? e->status == PU_E_NOMEM : e->got_len == 5000);
      }
      assert_true(e->mem.peak < 64 * 1024);
      pair_free(p);
      if (!reached)
        break;
    }
  }
  assert_true(failures > 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_offers),
      cmocka_unit_test(test_default_offers),
      cmocka_unit_test(test_impossible_offers),
      cmocka_unit_test(test_records_in_every_slicing),
      cmocka_unit_test(test_refusal_comes_late),
      cmocka_unit_test(test_another_peer),
      cmocka_unit_test(test_nonsense),
      cmocka_unit_test(test_farewell),
      cmocka_unit_test(test_damaged_record),
      cmocka_unit_test(test_new_keys),
      cmocka_unit_test(test_every_allocation_fails),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
