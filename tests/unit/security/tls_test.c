/* /tls/1.0.0: a dialogue with itself in every slicing, what ALPN agrees on, and peers made of
 * GnuTLS alone that are not what they should be. */
#include "support/gnutls_peer.h"
#include "support/unit.h"

#define OPS pu_tls_ops

/* Certificates are made once for all tests. */
static tls_pair shared;

static int set_up(void **state) {
  (void)state;
  tls_pair_init(&shared);
  return 0;
}
static int tear_down(void **state) {
  (void)state;
  tls_pair_deinit(&shared);
  return 0;
}

static void pair_begin(tls_pair *p) {
  *p = shared;
  for (int i = 0; i < 2; i++) {
    pu_mem_init(&p->mem[i], NULL, PU_MEM_UNLIMITED);
    p->config[i].mem = &p->mem[i];
    p->config[i].random_data = &p->random;
  }
}

static void check_result(tls_pair *p, const char *muxer) {
  for (int i = 0; i < 2; i++) {
    const pu_security_result *r = OPS.result(p->side[i]);
    assert_non_null(r);
    assert_true(pu_peer_id_equal(&r->peer, pu_key_peer_id(p->key[1 - i])));
    assert_int_equal(r->key.len, pu_key_public(p->key[1 - i])->len);
    assert_string_equal(r->muxer, muxer);
  }
}

static void test_handshake(void **state) {
  (void)state;
  tls_pair p;
  pair_begin(&p);
  for (size_t chunk = 1; chunk < 3000; chunk += chunk < 24 ? 1 : 91) {
    p.config[0].expected = chunk % 2 == 0 ? pu_key_peer_id(p.key[1]) : NULL;
    p.config[1].expected = chunk % 3 == 0 ? pu_key_peer_id(p.key[0]) : NULL;
    tls_pair_start(&p);
    assert_null(OPS.result(p.side[0]));
    assert_int_equal(tls_pair_handshake(&p, chunk), 0);
    check_result(&p, "/yamux/1.0.0");
    for (int i = 0; i < 2; i++) {
      assert_null(OPS.why(p.side[i]));
      assert_true(p.mem[i].peak < 48 * 1024);
    }
    tls_pair_stop(&p);
  }
}

/* collect returns everything that |s| has to say. */
static size_t collect(pu_security *s, uint8_t *out, size_t cap) {
  size_t len = 0;
  for (;;) {
    const ssize_t n = OPS.write(s, out + len, cap - len);
    assert_true(n >= 0);
    if (n == 0)
      return len;
    len += (size_t)n;
  }
}

/* Each flight cut into two at every byte. */
static void test_split_at_every_byte(void **state) {
  (void)state;
  static uint8_t hello[4096], flight[8192], finish[8192];
  tls_pair p;
  pair_begin(&p);
  size_t longest = 0;
  for (size_t at = 1; at == 1 || at < longest; at += at < 200 ? 1 : 7) {
    tls_pair_start(&p);
    for (int message = 0; message < 3; message++) {
      static uint8_t *const bytes[] = {hello, flight, finish};
      pu_security *from = p.side[message % 2], *to = p.side[1 - message % 2];
      const size_t len = collect(from, bytes[message], 4096);
      const size_t first = at < len ? at : len;
      longest = len > longest ? len : longest;
      assert_int_equal(OPS.read(to, bytes[message], first), (ssize_t)first);
      if (first < len) {
        assert_null(OPS.result(to));
        assert_int_equal(OPS.read(to, bytes[message] + first, len - first), (ssize_t)(len - first));
      }
    }
    check_result(&p, "/yamux/1.0.0");
    tls_pair_stop(&p);
  }
  assert_true(longest > 500 && longest < 4096);
}

/* The last flight arrives together with the first records: they are left. */
static void test_reads_no_further(void **state) {
  (void)state;
  static uint8_t bytes[8192];
  tls_pair p;
  pair_begin(&p);
  tls_pair_start(&p);
  assert_true(tls_pair_carry(&OPS, p.side[0], p.side[1], SIZE_MAX) > 0);
  assert_true(tls_pair_carry(&OPS, p.side[1], p.side[0], SIZE_MAX) > 0);
  size_t len = collect(p.side[0], bytes, 4096);
  assert_non_null(OPS.result(p.side[0]));
  const size_t record = tls_pair_record(&OPS, p.side[0], bytes + len, "first", 5);
  assert_int_equal(OPS.read(p.side[1], bytes, len + record), (ssize_t)len);
  assert_non_null(OPS.result(p.side[1]));
  assert_int_equal(OPS.read(p.side[1], bytes + len, record), 0);
  pu_span plain;
  assert_int_equal(OPS.open(p.side[1], bytes + len, record, &plain), (ssize_t)record);
  assert_int_equal(plain.len, 5);
  assert_memory_equal(plain.data, "first", 5);
  tls_pair_stop(&p);
}

/* A client takes nothing before its hello. */
static void test_hello_first(void **state) {
  (void)state;
  uint8_t bytes[4096], junk[16] = {22, 3, 3};
  tls_pair p;
  pair_begin(&p);
  tls_pair_start(&p);
  assert_int_equal(OPS.read(p.side[0], junk, sizeof junk), 0);
  assert_true(collect(p.side[0], bytes, sizeof bytes) > 0);
  assert_int_equal(OPS.read(p.side[0], junk, 3), 3);
  tls_pair_stop(&p);
}

static void test_muxer_choice(void **state) {
  (void)state;
  static const struct {
    const char *initiator[8], *responder[8], *chosen;
  } cases[] = {
      {{"/a", "/b"}, {"/b", "/a"}, "/a"},
      {{"/b", "/a"}, {"/a", "/b"}, "/b"},
      {{"/x", "/b"}, {"/a", "/b"}, "/b"},
      {{"/a"}, {"/b"}, ""},
      {{NULL}, {"/b"}, ""},
      {{NULL}, {NULL}, ""},
      {{"1", "2", "3", "4", "5", "6", "7"}, {"7"}, "7"},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    tls_pair p;
    pair_begin(&p);
    p.config[0].muxers = cases[i].initiator;
    p.config[1].muxers = cases[i].responder;
    for (int s = 0; s < 2; s++) {
      size_t n = 0;
      while (n < 8 && p.config[s].muxers[n] != NULL)
        n++;
      p.config[s].muxer_count = n;
    }
    tls_pair_start(&p);
    assert_int_equal(tls_pair_handshake(&p, SIZE_MAX), 0);
    check_result(&p, cases[i].chosen);
    tls_pair_stop(&p);
  }
}

static void test_own_lists_are_bounded(void **state) {
  (void)state;
  static const char *const eight[] = {"1", "2", "3", "4", "5", "6", "7", "8"};
  static const char *const too_long[] = {
      "/a-name-of-64-letters-which-is-one-more-than-we-may-offer-or-kee"};
  tls_pair p;
  pair_begin(&p);
  p.config[0].muxers = eight;
  p.config[0].muxer_count = 8; /* "libp2p" is the eighth */
  assert_int_equal(OPS.start(&p.config[0], &p.side[0]), PU_E_INVAL);
  p.config[0].muxers = too_long;
  p.config[0].muxer_count = 1;
  assert_int_equal(OPS.start(&p.config[0], &p.side[0]), PU_E_INVAL);
  p.config[0].muxer_count = 0;
  p.config[0].tls = NULL;
  assert_int_equal(OPS.start(&p.config[0], &p.side[0]), PU_E_INVAL);
  tls_pair_stop(&p);
}

static void test_wrong_peer(void **state) {
  (void)state;
  for (int who = 0; who < 2; who++) {
    tls_pair p;
    pair_begin(&p);
    p.config[who].expected = pu_key_peer_id(p.key[who]); /* ourselves */
    tls_pair_start(&p);
    assert_int_equal(tls_pair_handshake(&p, SIZE_MAX), PU_E_PEER_MISMATCH);
    assert_non_null(OPS.why(p.side[who]));
    assert_null(OPS.result(p.side[who]));
    assert_int_equal(OPS.read(p.side[who], (const uint8_t *)"x", 1), PU_E_PEER_MISMATCH);
    uint8_t alert[512];
    const size_t len = OPS.last(p.side[who], alert, sizeof alert);
    assert_true(len > 0);
    assert_int_equal(OPS.last(p.side[who], alert + len, sizeof alert - len), 0);
    if (who == 0) { /* the server is in its handshake still */
      assert_int_equal(OPS.read(p.side[1], alert, len), PU_E_CRYPTO);
    } else { /* the client believed it was done */
      pu_span plain;
      assert_non_null(OPS.result(p.side[0]));
      assert_int_equal(OPS.open(p.side[0], alert, len, &plain), PU_E_CRYPTO);
      assert_null(OPS.result(p.side[0]));
    }
    assert_string_equal(OPS.why(p.side[1 - who]), "the peer did not accept our certificate");
    tls_pair_stop(&p);
  }
}

static void test_allocation_failures(void **state) {
  (void)state;
  for (int who = 0; who < 2; who++) {
    uint64_t n = 1;
    for (;; n++) {
      tls_pair p;
      pair_begin(&p);
      pu_mem_fail_at(&p.mem[who], n);
      int rc = OPS.start(&p.config[0], &p.side[0]);
      if (rc == 0)
        rc = OPS.start(&p.config[1], &p.side[1]);
      if (rc == 0)
        rc = tls_pair_handshake(&p, 100);
      const bool reached = p.mem[who].fail_at == 0;
      assert_int_equal(rc, reached ? PU_E_NOMEM : 0);
      if (!reached)
        check_result(&p, "/yamux/1.0.0");
      tls_pair_stop(&p);
      if (!reached)
        break;
    }
    assert_true(n > 3);
    tls_pair p; /* and what GnuTLS holds is charged, too */
    pair_begin(&p);
    p.mem[who].limit = 8 * 1024;
    assert_int_equal(OPS.start(&p.config[who], &p.side[who]), PU_E_NOMEM);
    tls_pair_stop(&p);
  }
}

static void test_damaged_handshake(void **state) {
  (void)state;
  uint8_t bytes[4096];
  for (int message = 0; message < 3; message++) {
    for (size_t at = 0;; at += 3) {
      tls_pair p;
      pair_begin(&p);
      tls_pair_start(&p);
      for (int m = 0; m < message; m++)
        assert_true(tls_pair_carry(&OPS, p.side[m % 2], p.side[1 - m % 2], SIZE_MAX) > 0);
      const size_t len = collect(p.side[message % 2], bytes, sizeof bytes);
      if (at < len) {
        bytes[at] ^= 0x20;
        pu_security *to = p.side[1 - message % 2];
        ssize_t n = OPS.read(to, bytes, len);
        if (n > 0)
          n = tls_pair_handshake(&p, SIZE_MAX);
        /* Never both done: what was said is part of the keys. The session ID, which may be
         * anything, and lengths that wait for more aside, it ends with an error. */
        assert_true(n < 0 || OPS.result(p.side[0]) == NULL || OPS.result(p.side[1]) == NULL);
      }
      tls_pair_stop(&p);
      if (at >= len)
        break;
    }
  }
}

/* A peer's handshake is no longer than it may be, and costs no more. */
static void test_long_handshake(void **state) {
  (void)state;
  static uint8_t record[5 + 16384] = {22, 3, 3, 0x40, 0, 1, 0, 0xff, 0xff};
  tls_pair p;
  pair_begin(&p);
  tls_pair_start(&p);
  ssize_t n = 0;
  size_t taken = 0;
  for (int i = 0; i < 40 && n >= 0; i++) {
    n = OPS.read(p.side[1], record, i == 0 ? sizeof record : 4096);
    taken += n > 0 ? (size_t)n : 0;
  }
  assert_true(n < 0 && taken <= 16 * 1024);
  assert_true(p.mem[1].peak < 48 * 1024);
  tls_pair_stop(&p);
}

/* ---- peers of GnuTLS alone ---- */

typedef struct other {
  gnutls_peer_certificate shape;
  unsigned certificates;
  const char *alpn, *priority;
  int status;
  const char *muxer;
} other;

static void run_other(const other *o, bool initiator) {
  static gnutls_peer g;
  tls_pair p;
  pair_begin(&p);
  pu_security **s = &p.side[initiator ? 1 : 0];
  gnutls_peer_init(&g, initiator, p.key[initiator ? 0 : 1], &o->shape, o->certificates, o->alpn, 0,
                   o->priority);
  assert_int_equal(OPS.start(&p.config[initiator ? 1 : 0], s), 0);
  assert_int_equal(gnutls_peer_handshake(&g, &OPS, *s), o->status);
  const pu_security_result *r = OPS.result(*s);
  if (o->status == 0) {
    assert_non_null(r);
    assert_true(g.done);
    assert_string_equal(r->muxer, o->muxer);
    assert_true(pu_peer_id_equal(&r->peer, pu_key_peer_id(p.key[initiator ? 0 : 1])));
  } else {
    assert_null(r);
    assert_non_null(OPS.why(*s));
  }
  gnutls_peer_deinit(&g);
  tls_pair_stop(&p);
}

static void test_others(void **state) {
  (void)state;
  /* We offer a key for X25519 alone: a server that wants another curve asks for it. */
  static const char p256[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP256R1";
  /* What does not verify Ed25519 gets a certificate of P-256. */
  static const char ecdsa[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-SIGN-ALL:"
                              "+SIGN-ECDSA-SECP256R1-SHA256";
  static const char tls12[] = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
  const other cases[] = {
      {.certificates = 1, .alpn = "libp2p", .status = 0, .muxer = ""},
      {.certificates = 1, .alpn = "/yamux/1.0.0", .status = 0, .muxer = "/yamux/1.0.0"},
      {.certificates = 1, .alpn = NULL, .status = 0, .muxer = ""}, /* so does Go */
      {.certificates = 1, .alpn = "libp2p", .priority = p256, .status = 0, .muxer = ""},
      {.certificates = 1, .alpn = "libp2p", .priority = ecdsa, .status = 0, .muxer = ""},
      {.shape = {.algorithm = GNUTLS_PK_EDDSA_ED25519, .bits = 256},
       .certificates = 1,
       .alpn = "libp2p",
       .status = 0,
       .muxer = ""},
      {.shape = {.algorithm = GNUTLS_PK_RSA, .bits = 3072},
       .certificates = 1,
       .alpn = "libp2p",
       .status = 0,
       .muxer = ""},
      {.certificates = 2, .alpn = "libp2p", .status = PU_E_PROTOCOL},
      {.shape = {.no_extension = true},
       .certificates = 1,
       .alpn = "libp2p",
       .status = PU_E_PROTOCOL},
      {.shape = {.other_key_signed = true},
       .certificates = 1,
       .alpn = "libp2p",
       .status = PU_E_CRYPTO},
      {.shape = {.broken_signature = true},
       .certificates = 1,
       .alpn = "libp2p",
       .status = PU_E_CRYPTO},
      {.shape = {.expired = true}, .certificates = 1, .alpn = "libp2p", .status = PU_E_CRYPTO},
      {.shape = {.future = true}, .certificates = 1, .alpn = "libp2p", .status = PU_E_CRYPTO},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++)
    for (int initiator = 0; initiator < 2; initiator++)
      run_other(&cases[i], initiator == 1);
  const other nobody = {.certificates = 0, .alpn = "libp2p", .status = PU_E_CRYPTO};
  run_other(&nobody, true); /* a server without one does not get anywhere either */
  const other unknown = {.certificates = 1, .alpn = "h2", .status = PU_E_UNSUPPORTED};
  run_other(&unknown, true);
  const other old = {
      .certificates = 1, .alpn = "libp2p", .priority = tls12, .status = PU_E_UNSUPPORTED};
  run_other(&old, true);
  run_other(&old, false);
}

/* An RSA key so long that using it would take seconds is refused before it is used. */
static void test_costly_key(void **state) {
  (void)state;
  static gnutls_peer g;
  tls_pair p;
  pair_begin(&p);
  const gnutls_peer_certificate shape = {
      .algorithm = GNUTLS_PK_RSA, .claimed_bits = 4096 * 3, .other_issuer = true};
  gnutls_peer_init(&g, false, p.key[1], &shape, 1, "libp2p", 0, NULL);
  assert_int_equal(OPS.start(&p.config[0], &p.side[0]), 0);
  assert_int_equal(gnutls_peer_handshake(&g, &OPS, p.side[0]), PU_E_CRYPTO);
  assert_non_null(strstr(OPS.why(p.side[0]), "too long"));
  gnutls_peer_deinit(&g);
  tls_pair_stop(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_handshake),
      cmocka_unit_test(test_split_at_every_byte),
      cmocka_unit_test(test_reads_no_further),
      cmocka_unit_test(test_hello_first),
      cmocka_unit_test(test_muxer_choice),
      cmocka_unit_test(test_own_lists_are_bounded),
      cmocka_unit_test(test_wrong_peer),
      cmocka_unit_test(test_allocation_failures),
      cmocka_unit_test(test_damaged_handshake),
      cmocka_unit_test(test_long_handshake),
      cmocka_unit_test(test_others),
      cmocka_unit_test(test_costly_key),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
