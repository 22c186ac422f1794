/* Records of TLS: sealed and opened in place, renewed keys, farewells, and what peers may send
 * beside payload (with a peer made of GnuTLS alone). */
#include "security/tls_priv.h"
#include "support/gnutls_peer.h"
#include "support/unit.h"

#define OPS pu_tls_ops

static tls_pair shared; /* its certificates serve all tests */

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

static void established(tls_pair *p) {
  pair_begin(p);
  tls_pair_start(p);
  assert_int_equal(tls_pair_handshake(p, SIZE_MAX), 0);
}

static void test_records(void **state) {
  (void)state;
  static const size_t lengths[] = {1, 30, 1000, 16383, 16384, 5};
  static uint8_t text[PU_TLS_MAX_PLAIN], buf[64 + PU_TLS_MAX_RECORD];
  tls_pair p;
  established(&p);
  assert_int_equal(OPS.max_record, PU_TLS_MAX_RECORD);
  for (size_t i = 0; i < PU_COUNT(lengths); i++) {
    for (int from = 0; from < 2; from++) {
      pu_test_random(&p.random, text, lengths[i]);
      memset(buf, 0xaa, sizeof buf);
      memcpy(buf + 32, text, lengths[i]);
      pu_span io = {buf + 32, lengths[i], 32, 20};
      assert_int_equal(OPS.seal(p.side[from], &io), 0);
      assert_ptr_equal(io.data, buf + 32 - 5);
      assert_int_equal(io.len, lengths[i] + 22);
      assert_int_equal(io.head, 27);
      assert_int_equal(io.tail, 3);
      assert_int_equal(buf[26], 0xaa); /* nothing beside it is touched */
      assert_int_equal(io.data[io.len], 0xaa);
      assert_memory_equal(io.data, "\x17\x03\x03", 3);
      pu_span plain = {0};
      assert_int_equal(OPS.open(p.side[1 - from], io.data, io.len, &plain), (ssize_t)io.len);
      assert_int_equal(plain.len, lengths[i]);
      assert_ptr_equal(plain.data, buf + 32);
      assert_true(plain.head <= OPS.head && plain.tail <= OPS.tail);
      assert_memory_equal(plain.data, text, plain.len);
    }
  }
  pu_span none = {buf + 32, 0, 32, 32};
  assert_int_equal(OPS.seal(p.side[0], &none), 0);
  assert_int_equal(none.len, 0); /* an empty payload makes no record */
  tls_pair_stop(&p);
}

static void test_split_at_every_byte(void **state) {
  (void)state;
  static const char *const texts[] = {"first", "2", "third record"};
  tls_pair p;
  established(&p);
  uint8_t buf[256];
  size_t sizes[3], total = 0, at = 0, records = 0;
  for (int i = 0; i < 3; i++)
    total += sizes[i] = tls_pair_record(&OPS, p.side[0], buf + total, texts[i], strlen(texts[i]));
  for (size_t have = 0; have <= total; have++) {
    const size_t need = OPS.need(p.side[1], buf + at, have - at);
    assert_true(need >= 1);
    if (have - at < 5)
      assert_int_equal(need, 5 - (have - at));
    else if (have - at < sizes[records])
      assert_int_equal(need, sizes[records] - (have - at));
    pu_span plain;
    const ssize_t used = OPS.open(p.side[1], buf + at, have - at, &plain);
    assert_true(used >= 0);
    if (used == 0)
      continue;
    assert_int_equal(used, (ssize_t)sizes[records]);
    assert_int_equal(have - at, sizes[records]); /* not a byte earlier, not a byte later */
    assert_int_equal(plain.len, strlen(texts[records]));
    assert_memory_equal(plain.data, texts[records], plain.len);
    at += (size_t)used;
    records++;
  }
  assert_int_equal(records, 3);
  tls_pair_stop(&p);
}

static void test_damaged(void **state) {
  (void)state;
  uint8_t record[64];
  for (size_t at = 0; at < 42; at++) {
    tls_pair p;
    established(&p);
    const size_t len = tls_pair_record(&OPS, p.side[0], record, "twenty bytes of text", 20);
    assert_int_equal(len, 42);
    record[at] ^= 0x10;
    pu_span plain;
    const ssize_t n = OPS.open(p.side[1], record, len, &plain);
    if (at == 3 || at == 4) { /* its length */
      assert_true(n <= 0);
    } else {
      assert_true(n == PU_E_CRYPTO || n == PU_E_PROTOCOL || n == PU_E_UNSUPPORTED);
      record[at] ^= 0x10;
      assert_int_equal(OPS.open(p.side[1], record, len, &plain), n); /* over, both ways */
      pu_span io = {record + 5, 1, 5, 17};
      assert_int_equal(OPS.seal(p.side[1], &io), n);
      assert_null(OPS.result(p.side[1]));
      assert_non_null(OPS.why(p.side[1]));
    }
    tls_pair_stop(&p);
  }
}

static void test_replayed_and_reordered(void **state) {
  (void)state;
  uint8_t a[64], b[64];
  pu_span plain;
  for (int how = 0; how < 3; how++) {
    tls_pair p;
    established(&p);
    size_t len = tls_pair_record(&OPS, p.side[0], a, "once", 4);
    memcpy(b, a, len);
    if (how == 0) /* twice */
      assert_int_equal(OPS.open(p.side[1], a, len, &plain), (ssize_t)len);
    else if (how == 1) /* the second one first */
      len = tls_pair_record(&OPS, p.side[0], b, "more", 4);
    /* or reflected to its sender */
    assert_int_equal(OPS.open(p.side[how == 2 ? 0 : 1], b, len, &plain), PU_E_CRYPTO);
    tls_pair_stop(&p);
  }
}

static void test_too_long(void **state) {
  (void)state;
  uint8_t record[64] = {23, 3, 3, (PU_TLS_MAX_BODY + 1) >> 8, (PU_TLS_MAX_BODY + 1) & 0xff};
  pu_span plain;
  tls_pair p;
  established(&p);
  assert_int_equal(OPS.open(p.side[1], record, 5, &plain), PU_E_PROTOCOL); /* at once */
  uint8_t alert[64];
  assert_true(OPS.last(p.side[1], alert, sizeof alert) > 0);
  tls_pair_stop(&p);
}

static void test_farewell(void **state) {
  (void)state;
  uint8_t bytes[64];
  pu_span plain;
  tls_pair p;
  established(&p);
  size_t len = OPS.last(p.side[0], bytes, sizeof bytes);
  assert_int_equal(len, 5 + 2 + 17);
  assert_int_equal(OPS.last(p.side[0], bytes + len, sizeof bytes - len), 0);
  assert_int_equal(OPS.open(p.side[1], bytes, len, &plain), PU_E_EOF);
  assert_int_equal(OPS.open(p.side[1], bytes, len, &plain), PU_E_EOF);
  assert_int_equal(OPS.last(p.side[1], bytes, sizeof bytes), len); /* in kind */
  pu_span io = {bytes + 5, 1, 5, 17};
  assert_int_equal(OPS.seal(p.side[0], &io), PU_E_CLOSED);
  tls_pair_stop(&p);
  /* Nothing is said where nothing was begun, or in the middle of a handshake. */
  pair_begin(&p);
  tls_pair_start(&p);
  assert_int_equal(OPS.last(p.side[0], bytes, sizeof bytes), 0);
  assert_int_equal(OPS.last(p.side[1], bytes, sizeof bytes), 0);
  assert_true(tls_pair_carry(&OPS, p.side[0], p.side[1], SIZE_MAX) > 0);
  assert_int_equal(OPS.last(p.side[1], bytes, sizeof bytes), 0);
  tls_pair_stop(&p);
}

/* carry_text sends |text| one way, with what is to be said before it. */
static void carry_text(tls_pair *p, int from, const char *text) {
  uint8_t bytes[256];
  pu_span plain;
  ssize_t n = OPS.write(p->side[from], bytes, sizeof bytes);
  assert_true(n >= 0);
  for (size_t at = 0; at < (size_t)n;) {
    const ssize_t used = OPS.open(p->side[1 - from], bytes + at, (size_t)n - at, &plain);
    assert_true(used > 0);
    assert_int_equal(plain.len, 0);
    at += (size_t)used;
  }
  const size_t len = tls_pair_record(&OPS, p->side[from], bytes, text, strlen(text));
  assert_int_equal(OPS.open(p->side[1 - from], bytes, len, &plain), (ssize_t)len);
  assert_int_equal(plain.len, strlen(text));
  assert_memory_equal(plain.data, text, plain.len);
}

static void test_new_keys(void **state) {
  (void)state;
  tls_pair p;
  established(&p);
  for (int round = 0; round < 3; round++) {
    for (int from = 0; from < 2; from++) {
      carry_text(&p, from, "before");
      pu_tls_session_of(p.side[from])->sealed = PU_TLS_REKEY_RECORDS;
      carry_text(&p, from, "after");
      assert_int_equal(pu_tls_session_of(p.side[from])->sealed, 1);
    }
  }
  /* Who never calls write is stopped before the key is worn out. */
  uint8_t bytes[64];
  pu_tls_session_of(p.side[0])->sealed = 2 * PU_TLS_REKEY_RECORDS;
  pu_span io = {bytes + 5, 1, 5, 17};
  assert_int_equal(OPS.seal(p.side[0], &io), PU_E_LIMIT);
  tls_pair_stop(&p);
}

/* ---- with a peer of GnuTLS alone ---- */

typedef struct mixed {
  tls_pair p;
  gnutls_peer g;
  pu_security *ours;
} mixed;

/* mixed_begin runs a handshake with one that begins, or not. */
static mixed *mixed_begin(bool initiator, unsigned flags) {
  static const gnutls_peer_certificate plain = {0};
  mixed *m = calloc(1, sizeof *m);
  assert_non_null(m);
  pair_begin(&m->p);
  const int side = initiator ? 1 : 0;
  gnutls_peer_init(&m->g, initiator, m->p.key[1 - side], &plain, 1, "libp2p", flags, NULL);
  assert_int_equal(OPS.start(&m->p.config[side], &m->p.side[side]), 0);
  m->ours = m->p.side[side];
  assert_int_equal(gnutls_peer_handshake(&m->g, &OPS, m->ours), 0);
  assert_true(m->g.done);
  return m;
}

static void mixed_end(mixed *m) {
  gnutls_peer_deinit(&m->g);
  tls_pair_stop(&m->p);
  free(m);
}

/* mixed_open opens what the peer wrote, and gives it what is answered. Returns payload bytes, or
 * the first error. */
static ssize_t mixed_open(mixed *m, char *text) {
  ssize_t got = 0;
  for (size_t at = 0; at < m->g.out_len;) {
    pu_span plain;
    uint8_t answer[256];
    const ssize_t used = OPS.open(m->ours, m->g.out + at, m->g.out_len - at, &plain);
    if (used < 0)
      return used;
    assert_true(used > 0);
    at += (size_t)used;
    memcpy(text + got, plain.data, plain.len);
    got += (ssize_t)plain.len;
    const ssize_t n = OPS.write(m->ours, answer, sizeof answer);
    assert_true(n >= 0);
    gnutls_peer_give(&m->g, answer, (size_t)n);
  }
  m->g.out_len = 0;
  return got;
}

static void mixed_echo(mixed *m) {
  char text[256];
  uint8_t record[64];
  assert_int_equal(gnutls_record_send(m->g.tls, "hello", 5), 5);
  assert_int_equal(mixed_open(m, text), 5);
  assert_memory_equal(text, "hello", 5);
  const size_t len = tls_pair_record(&OPS, m->ours, record, "answer", 6);
  gnutls_peer_give(&m->g, record, len);
  ssize_t n;
  do
    n = gnutls_record_recv(m->g.tls, text, sizeof text);
  while (n == GNUTLS_E_AGAIN && m->g.in_pos < m->g.in_len);
  assert_int_equal(n, 6);
  assert_memory_equal(text, "answer", 6);
}

static void test_tickets_are_ignored(void **state) {
  (void)state;
  char text[256];
  mixed *m = mixed_begin(false, 0); /* a server that gives tickets */
  for (int i = 0; i < 4; i++)
    (void)gnutls_session_ticket_send(m->g.tls, 1, 0);
  assert_true(mixed_open(m, text) == 0);
  mixed_echo(m);
  mixed_end(m);
}

static void test_key_updates_of_others(void **state) {
  (void)state;
  for (int initiator = 0; initiator < 2; initiator++) {
    mixed *m = mixed_begin(initiator == 1, GNUTLS_NO_TICKETS);
    for (int i = 0; i < 6; i++) {
      const unsigned flags = i % 2 == 0 ? (unsigned)GNUTLS_KU_PEER : 0;
      assert_int_equal(gnutls_session_key_update(m->g.tls, flags), 0);
      mixed_echo(m);
    }
    mixed_end(m);
  }
}

/* Many key updates at once are refused. */
static void test_key_update_flood(void **state) {
  (void)state;
  char text[256];
  mixed *m = mixed_begin(true, GNUTLS_NO_TICKETS);
  for (int i = 0; i < 200; i++)
    assert_int_equal(gnutls_session_key_update(m->g.tls, 0), 0);
  assert_int_equal(mixed_open(m, text), PU_E_PROTOCOL);
  mixed_end(m);
}

/* Padding and empty records are payload, or none; endless ones end the session. */
static void test_padding(void **state) {
  (void)state;
  char text[256];
  mixed *m = mixed_begin(true, GNUTLS_NO_TICKETS);
  assert_int_equal(gnutls_record_send2(m->g.tls, "padded", 6, 1000, 0), 6);
  assert_int_equal(gnutls_record_send2(m->g.tls, "", 0, 500, 0), 0);
  assert_int_equal(mixed_open(m, text), 6);
  mixed_echo(m);
  ssize_t n = 0;
  for (int i = 0; i < 100 && n == 0; i++) {
    (void)gnutls_record_send2(m->g.tls, "", 0, 1000, 0);
    n = mixed_open(m, text);
  }
  assert_int_equal(n, PU_E_LIMIT);
  assert_true(m->p.mem[1].used < 48 * 1024);
  mixed_end(m);
}

static void test_alerts_of_others(void **state) {
  (void)state;
  static const struct {
    gnutls_alert_description_t alert;
    int status;
  } cases[] = {
      {GNUTLS_A_BAD_CERTIFICATE, PU_E_CRYPTO},        {GNUTLS_A_ACCESS_DENIED, PU_E_DENIED},
      {GNUTLS_A_CERTIFICATE_EXPIRED, PU_E_CRYPTO},    {GNUTLS_A_INTERNAL_ERROR, PU_E_PROTOCOL},
      {GNUTLS_A_HANDSHAKE_FAILURE, PU_E_UNSUPPORTED}, {GNUTLS_A_CLOSE_NOTIFY, PU_E_EOF},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    char text[256];
    mixed *m = mixed_begin(true, GNUTLS_NO_TICKETS);
    assert_int_equal(gnutls_alert_send(m->g.tls,
                                       cases[i].alert == GNUTLS_A_CLOSE_NOTIFY ? GNUTLS_AL_WARNING
                                                                               : GNUTLS_AL_FATAL,
                                       cases[i].alert),
                     0);
    assert_int_equal(mixed_open(m, text), cases[i].status);
    assert_non_null(OPS.why(m->ours));
    mixed_end(m);
  }
}

/* What would shorten records is not agreed on; a server that insists is told that it is of no use.
 */
static void test_short_records(void **state) {
  (void)state;
  static const gnutls_peer_certificate plain = {0};
  static uint8_t memory[5 + 5000 + 17], got[5000];
  for (int initiator = 0; initiator < 2; initiator++) {
    mixed *m = calloc(1, sizeof *m);
    assert_non_null(m);
    pair_begin(&m->p);
    gnutls_peer_init(&m->g, initiator == 1, m->p.key[1 - initiator], &plain, 1, "libp2p", 0, NULL);
    assert_int_equal(gnutls_record_set_max_recv_size(m->g.tls, 512), 0);
    assert_int_equal(OPS.start(&m->p.config[initiator], &m->p.side[initiator]), 0);
    m->ours = m->p.side[initiator];
    const int rc = gnutls_peer_handshake(&m->g, &OPS, m->ours);
    if (initiator == 0) {
      assert_int_equal(rc, PU_E_UNSUPPORTED);
      assert_non_null(strstr(OPS.why(m->ours), "smaller"));
    } else {
      assert_int_equal(rc, 0);
      mixed_echo(m);
      pu_span io = {memory + 5, 5000, 5, 17};
      assert_int_equal(OPS.seal(m->ours, &io), 0);
      gnutls_peer_give(&m->g, io.data, io.len);
      assert_int_equal(gnutls_record_recv(m->g.tls, got, sizeof got), 5000);
    }
    mixed_end(m);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_records),
      cmocka_unit_test(test_split_at_every_byte),
      cmocka_unit_test(test_damaged),
      cmocka_unit_test(test_replayed_and_reordered),
      cmocka_unit_test(test_too_long),
      cmocka_unit_test(test_farewell),
      cmocka_unit_test(test_new_keys),
      cmocka_unit_test(test_tickets_are_ignored),
      cmocka_unit_test(test_key_updates_of_others),
      cmocka_unit_test(test_key_update_flood),
      cmocka_unit_test(test_padding),
      cmocka_unit_test(test_alerts_of_others),
      cmocka_unit_test(test_short_records),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
