/* Noise: whole dialogues, every way to split them, and every way a peer may get them wrong. Bytes
 * are checked against the reference vectors in tests/vectors. */
#include "security/noise.h"

#include <string.h>

#include "security/aead.h"
#include "support/cmocka.h"
#include "support/noise_pair.h"

#define OPS pu_noise_ops
#define HANDSHAKE_MAX 1024

static const char *const yamux[] = {"/yamux/1.0.0"};

/* One test's two ends, each with its own account. */
typedef struct pair {
  pu_mem mem[2];
  pu_key *key[2];
  pu_security_config config[2];
  pu_security *side[2]; /* 0: initiator */
  uint32_t random;
} pair;

static void pair_init(pair *p) {
  memset(p, 0, sizeof(*p));
  p->random = 1;
  for (int i = 0; i < 2; i++) {
    pu_mem_init(&p->mem[i], NULL, PU_MEM_UNLIMITED);
    p->key[i] = pu_test_key((uint8_t)(i + 1));
    p->config[i] = (pu_security_config){.mem = &p->mem[i],
                                        .initiator = i == 0,
                                        .key = p->key[i],
                                        .muxers = yamux,
                                        .muxer_count = 1,
                                        .random = pu_test_random,
                                        .random_data = &p->random};
  }
}

static void pair_start(pair *p) {
  for (int i = 0; i < 2; i++)
    assert_int_equal(OPS.start(&p->config[i], &p->side[i]), 0);
}

/* pair_stop frees the sessions and sees that nothing is left. */
static void pair_stop(pair *p) {
  for (int i = 0; i < 2; i++) {
    OPS.free(p->side[i]);
    p->side[i] = NULL;
    assert_int_equal(p->mem[i].used, 0);
  }
}

static void pair_deinit(pair *p) {
  pair_stop(p);
  for (int i = 0; i < 2; i++) {
    pu_key_free(p->key[i]);
    pu_mem_deinit(&p->mem[i]);
  }
}

/* pair_established is a pair behind its handshake. */
static void pair_established(pair *p) {
  pair_init(p);
  pair_start(p);
  assert_int_equal(pu_test_handshake(p->side[0], p->side[1], SIZE_MAX), 0);
}

/* next_message takes the message that |s| has to write. */
static size_t next_message(pu_security *s, uint8_t out[static HANDSHAKE_MAX]) {
  ssize_t n = OPS.write(s, out, HANDSHAKE_MAX);
  assert_true(n > 0 && n < HANDSHAKE_MAX);
  return (size_t)n;
}

/* make_record seals |len| bytes into |buf|, which has the room; returns the record's length. */
static size_t make_record(pu_security *s, uint8_t *buf, const void *text, size_t len) {
  if (len > 0)
    memcpy(buf + OPS.head, text, len);
  pu_span io = {.data = buf + OPS.head, .len = len, .head = OPS.head, .tail = OPS.tail};
  assert_int_equal(OPS.seal(s, &io), 0);
  assert_ptr_equal(io.data, buf);
  assert_int_equal(io.len, OPS.head + len + OPS.tail);
  assert_int_equal(io.head, 0);
  assert_int_equal(io.tail, 0);
  return io.len;
}

static void check_result(const pair *p, const char *muxer) {
  for (int i = 0; i < 2; i++) {
    const pu_security_result *r = OPS.result(p->side[i]);
    assert_non_null(r);
    assert_true(pu_peer_id_equal(&r->peer, pu_key_peer_id(p->key[1 - i])));
    const pu_public_key *key = pu_key_public(p->key[1 - i]);
    assert_int_equal(r->key.len, key->len);
    assert_memory_equal(r->key.protobuf, key->protobuf, key->len);
    assert_string_equal(r->muxer, muxer);
  }
}

static void test_handshake(void **state) {
  (void)state;
  pair p;
  pair_init(&p);
  p.config[0].expected = pu_key_peer_id(p.key[1]);
  p.config[1].expected = pu_key_peer_id(p.key[0]);
  pair_start(&p);
  assert_null(OPS.result(p.side[0]));
  assert_null(OPS.result(p.side[1]));
  assert_int_equal(pu_test_handshake(p.side[0], p.side[1], SIZE_MAX), 0);
  check_result(&p, "/yamux/1.0.0");
  uint8_t hash[2][32], send[2][32], receive[2][32];
  for (int i = 0; i < 2; i++) {
    pu_noise_handshake_hash(p.side[i], hash[i]);
    pu_noise_keys(p.side[i], send[i], receive[i]);
  }
  assert_memory_equal(hash[0], hash[1], 32);
  assert_memory_equal(send[0], receive[1], 32);
  assert_memory_equal(send[1], receive[0], 32);
  assert_memory_not_equal(send[0], send[1], 32);
  pair_deinit(&p);
}

/* The result waits until message 3 is out. */
static void test_done_after_the_last_byte(void **state) {
  (void)state;
  pair p;
  pair_init(&p);
  pair_start(&p);
  uint8_t bytes[HANDSHAKE_MAX], byte;
  assert_true(pu_test_carry(p.side[0], p.side[1], SIZE_MAX) > 0);
  assert_true(pu_test_carry(p.side[1], p.side[0], SIZE_MAX) > 0);
  ssize_t n = OPS.write(p.side[0], bytes, 100);
  assert_int_equal(n, 100);
  assert_null(OPS.result(p.side[0]));
  while ((n = OPS.write(p.side[0], &byte, 1)) == 1) {
  }
  assert_int_equal(n, 0);
  assert_non_null(OPS.result(p.side[0]));
  assert_null(OPS.result(p.side[1]));
  pair_deinit(&p);
}

static void test_split_at_every_byte(void **state) {
  (void)state;
  static const size_t chunks[] = {1, 2, 3, 7, 33, 100};
  for (size_t i = 0; i < PU_COUNT(chunks); i++) {
    pair p;
    pair_init(&p);
    pair_start(&p);
    assert_int_equal(pu_test_handshake(p.side[0], p.side[1], chunks[i]), 0);
    check_result(&p, "/yamux/1.0.0");
    pair_deinit(&p);
  }
  /* one cut, everywhere: message 1 of 34 bytes, then 2, then 3 */
  for (size_t message = 0; message < 3; message++) {
    size_t len = 0;
    for (size_t cut = 0; cut == 0 || cut < len; cut++) {
      pair p;
      pair_init(&p);
      pair_start(&p);
      for (size_t m = 0; m < 3; m++) {
        uint8_t bytes[HANDSHAKE_MAX];
        size_t n = next_message(p.side[m % 2], bytes);
        pu_security *to = p.side[1 - m % 2];
        size_t first = m == message ? cut : 0;
        if (m == message)
          len = n;
        assert_int_equal(OPS.read(to, bytes, first), (ssize_t)first);
        assert_int_equal(OPS.read(to, bytes + first, n - first), (ssize_t)(n - first));
      }
      check_result(&p, "/yamux/1.0.0");
      pair_deinit(&p);
    }
    assert_int_equal(len > 100, message > 0);
  }
}

/* Bytes behind the handshake are not the handshake's. */
static void test_reads_no_further(void **state) {
  (void)state;
  pair p;
  pair_init(&p);
  pair_start(&p);
  uint8_t bytes[HANDSHAKE_MAX + 64];
  size_t n = next_message(p.side[0], bytes);
  assert_int_equal(OPS.read(p.side[1], bytes, n + 5), (ssize_t)n);
  assert_int_equal(OPS.read(p.side[1], bytes, 5), 0); /* its turn to write */
  n = next_message(p.side[1], bytes);
  assert_int_equal(OPS.read(p.side[0], bytes, n + 5), (ssize_t)n);
  n = next_message(p.side[0], bytes);
  size_t record = make_record(p.side[0], bytes + n, "early", 5);
  assert_int_equal(OPS.read(p.side[1], bytes, n + record), (ssize_t)n);
  assert_int_equal(OPS.read(p.side[1], bytes + n, record), 0);
  pu_span plain;
  assert_int_equal(OPS.open(p.side[1], bytes + n, record, &plain), (ssize_t)record);
  assert_int_equal(plain.len, 5);
  assert_memory_equal(plain.data, "early", 5);
  pair_deinit(&p);
}

static void test_allocation_failures(void **state) {
  (void)state;
  for (int side = 0; side < 2; side++) {
    uint64_t n = 1;
    for (;; n++) {
      pair p;
      pair_init(&p);
      pu_mem_fail_at(&p.mem[side], n);
      int rc = OPS.start(&p.config[0], &p.side[0]);
      if (rc == 0)
        rc = OPS.start(&p.config[1], &p.side[1]);
      if (rc == 0)
        rc = pu_test_handshake(p.side[0], p.side[1], SIZE_MAX);
      bool reached = p.mem[side].fail_at == 0;
      if (reached) {
        assert_true(rc < 0);
        assert_true(p.side[0] == NULL || OPS.result(p.side[0]) == NULL ||
                    OPS.result(p.side[1]) == NULL);
      } else {
        assert_int_equal(rc, 0);
      }
      pu_mem_fail_at(&p.mem[side], 0);
      pair_deinit(&p);
      if (!reached)
        break;
    }
    assert_true(n > 4); /* session, handshake, a message in, a message out at least */
  }
}

/* A flipped bit anywhere never ends in a handshake: it is refused, or waits for bytes. */
static void test_tampered_handshake(void **state) {
  (void)state;
  for (size_t message = 0; message < 3; message++) {
    size_t len = 1;
    for (size_t at = 0; at < len; at++) {
      pair p;
      pair_init(&p);
      pair_start(&p);
      int rc = 0;
      for (size_t m = 0; m < 3 && rc == 0; m++) {
        uint8_t bytes[HANDSHAKE_MAX];
        ssize_t n = OPS.write(p.side[m % 2], bytes, sizeof(bytes));
        if (n <= 0) {
          rc = n < 0 ? (int)n : PU_E_AGAIN;
          break;
        }
        if (m == message) {
          len = (size_t)n;
          bytes[at] ^= (uint8_t)(1u << at % 8);
        }
        ssize_t used = OPS.read(p.side[1 - m % 2], bytes, (size_t)n);
        if (used < 0)
          rc = (int)used;
      }
      assert_null(OPS.result(p.side[1]));
      if (at >= PU_NOISE_LENGTH)
        assert_int_equal(rc, PU_E_CRYPTO);
      else
        assert_true(rc == PU_E_CRYPTO || rc == PU_E_PROTOCOL || rc == 0 || rc == PU_E_AGAIN);
      pair_deinit(&p);
    }
    assert_true(len > 1);
  }
}

/* The initiator tells nobody but the expected peer who it is. */
static void test_another_responder(void **state) {
  (void)state;
  pair p;
  pair_init(&p);
  p.config[0].expected = pu_key_peer_id(p.key[0]);
  pair_start(&p);
  uint8_t bytes[HANDSHAKE_MAX];
  assert_true(pu_test_carry(p.side[0], p.side[1], SIZE_MAX) > 0);
  size_t n = next_message(p.side[1], bytes);
  assert_int_equal(OPS.read(p.side[0], bytes, n), PU_E_PEER_MISMATCH);
  assert_int_equal(OPS.write(p.side[0], bytes, sizeof(bytes)), PU_E_PEER_MISMATCH);
  assert_int_equal(OPS.read(p.side[0], bytes, n), PU_E_PEER_MISMATCH);
  assert_null(OPS.result(p.side[0]));
  pair_deinit(&p);
}

static void test_another_initiator(void **state) {
  (void)state;
  pair p;
  pair_init(&p);
  p.config[1].expected = pu_key_peer_id(p.key[1]);
  pair_start(&p);
  assert_int_equal(pu_test_handshake(p.side[0], p.side[1], SIZE_MAX), PU_E_PEER_MISMATCH);
  assert_null(OPS.result(p.side[1]));
  pair_deinit(&p);
}

/* A length that cannot be is refused before anything is taken for it. */
static void test_lengths(void **state) {
  (void)state;
  static const struct {
    size_t message, length;
    bool allowed;
  } cases[] = {
      {0, 0, false},    {0, 31, false},    {0, 33, false},   {0, 65535, false},
      {1, 0, false},    {1, 95, false},    {1, 96, true},    {1, 8192, true},
      {1, 8193, false}, {1, 65535, false}, {2, 0, false},    {2, 63, false},
      {2, 64, true},    {2, 8192, true},   {2, 8193, false}, {2, 65535, false},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    pair p;
    pair_init(&p);
    pair_start(&p);
    for (size_t m = 0; m < cases[i].message; m++)
      assert_true(pu_test_carry(p.side[m % 2], p.side[1 - m % 2], SIZE_MAX) > 0);
    size_t from = cases[i].message % 2, to = 1 - from;
    uint8_t bytes[HANDSHAKE_MAX];
    (void)next_message(p.side[from], bytes);
    bytes[0] = (uint8_t)(cases[i].length >> 8);
    bytes[1] = (uint8_t)cases[i].length;
    size_t before = p.mem[to].used;
    uint64_t count = p.mem[to].count;
    ssize_t used = OPS.read(p.side[to], bytes, PU_NOISE_LENGTH);
    if (cases[i].allowed) {
      assert_int_equal(used, PU_NOISE_LENGTH);
      assert_int_equal(p.mem[to].used, before + cases[i].length + PU_MEM_OVERHEAD_BYTES);
    } else {
      assert_int_equal(used, PU_E_PROTOCOL);
      assert_int_equal(p.mem[to].count, count);
    }
    pair_deinit(&p);
  }
}

/* Before it is known a peer costs little, whatever it announces or sends. */
static void test_a_stranger_is_cheap(void **state) {
  (void)state;
  pair p;
  pair_init(&p);
  pair_start(&p);
  assert_true(p.mem[1].used < 4096);
  assert_true(pu_test_carry(p.side[0], p.side[1], SIZE_MAX) > 0);
  assert_true(pu_test_carry(p.side[1], p.side[0], SIZE_MAX) > 0);
  const uint8_t announced[] = {PU_NOISE_MAX_HANDSHAKE >> 8, PU_NOISE_MAX_HANDSHAKE & 0xff};
  assert_int_equal(OPS.read(p.side[1], announced, sizeof(announced)), 2);
  assert_true(p.mem[1].used < 12 * 1024);
  assert_true(p.mem[1].peak < 12 * 1024);
  pair_deinit(&p);
}

/* speak lets the initiator say |payload| instead of its own; returns what the responder makes of
 * it. */
static int speak(pair *p, const uint8_t *payload, size_t len) {
  uint8_t static_key[32], ephemeral[32];
  memset(static_key, 0x11, sizeof(static_key));
  memset(ephemeral, 0x22, sizeof(ephemeral));
  pair_init(p);
  pair_start(p);
  assert_int_equal(pu_noise_set_keys(p->side[0], static_key, ephemeral, payload, len), 0);
  return pu_test_handshake(p->side[0], p->side[1], SIZE_MAX);
}

static void test_hostile_payloads(void **state) {
  (void)state;
  static uint8_t stuffed[8000];
  pair p;
  /* 4000 tiny unknown fields: more memory than anybody is given */
  for (size_t i = 0; i < sizeof(stuffed); i += 2) {
    stuffed[i] = 0x18;
    stuffed[i + 1] = 1;
  }
  assert_int_equal(speak(&p, stuffed, sizeof(stuffed)), PU_E_PROTOCOL);
  assert_true(p.mem[1].peak < 48 * 1024);
  pair_deinit(&p);
  /* the same as empty muxer names in one extension, and as many extensions */
  stuffed[0] = 0x22;
  stuffed[1] = 0xbc;
  stuffed[2] = 0x3e;
  for (size_t i = 3; i + 1 < sizeof(stuffed); i += 2) {
    stuffed[i] = 0x12;
    stuffed[i + 1] = 0;
  }
  assert_int_equal(speak(&p, stuffed, 3 + 0x1f3c), PU_E_PROTOCOL);
  assert_true(p.mem[1].peak < 48 * 1024);
  pair_deinit(&p);
  for (size_t i = 0; i + 1 < sizeof(stuffed); i += 2) {
    stuffed[i] = 0x22;
    stuffed[i + 1] = 0;
  }
  assert_int_equal(speak(&p, stuffed, sizeof(stuffed)), PU_E_PROTOCOL);
  assert_true(p.mem[1].peak < 48 * 1024);
  pair_deinit(&p);
  /* nothing at all, and somebody else's signature */
  assert_int_equal(speak(&p, stuffed, 0), PU_E_PROTOCOL);
  pair_deinit(&p);
  pair_init(&p);
  uint8_t foreign[36 + 2 + 66] = {0x0a, 36};
  memcpy(foreign + 2, pu_key_public(p.key[0])->protobuf, 36);
  foreign[38] = 0x12;
  foreign[39] = 64;
  pair_deinit(&p);
  assert_int_equal(speak(&p, foreign, sizeof(foreign)), PU_E_CRYPTO);
  pair_deinit(&p);
  /* more than a handshake message may hold */
  pair_init(&p);
  pair_start(&p);
  static uint8_t large[PU_NOISE_MAX_HANDSHAKE];
  assert_int_equal(pu_noise_set_keys(p.side[0], large, large, large, sizeof(large)), PU_E_LIMIT);
  pair_deinit(&p);
}

/* Points of small order give a secret that everybody knows. */
static void test_known_secrets(void **state) {
  (void)state;
  static const uint8_t points[][32] = {
      {0},
      {1},
      {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
       0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
       0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
      {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
  };
  for (size_t i = 0; i < PU_COUNT(points); i++) {
    uint8_t bytes[HANDSHAKE_MAX] = {0, 32};
    pair p;
    pair_init(&p);
    pair_start(&p);
    memcpy(bytes + 2, points[i], 32);
    assert_int_equal(OPS.read(p.side[1], bytes, 34), 34);
    assert_int_equal(OPS.write(p.side[1], bytes, sizeof(bytes)), PU_E_CRYPTO);
    pair_deinit(&p);

    pair_init(&p);
    pair_start(&p);
    assert_true(pu_test_carry(p.side[0], p.side[1], SIZE_MAX) > 0);
    size_t n = next_message(p.side[1], bytes);
    memcpy(bytes + 2, points[i], 32);
    assert_int_equal(OPS.read(p.side[0], bytes, n), PU_E_CRYPTO);
    pair_deinit(&p);
  }
}

static void test_muxer_choice(void **state) {
  (void)state;
  static const char long_name[] = "/a-name-of-63-letters-which-is-the-longest-that-we-offer-or-kee";
  static const struct {
    const char *initiator[8], *responder[8], *chosen;
  } cases[] = {
      {{"/a", "/b"}, {"/b", "/a"}, "/a"},
      {{"/b", "/a"}, {"/a", "/b"}, "/b"},
      {{"/x", "/b"}, {"/a", "/b"}, "/b"},
      {{"/a"}, {"/b"}, ""},
      {{NULL}, {"/b"}, ""},
      {{"/a"}, {NULL}, ""},
      {{NULL}, {NULL}, ""},
      {{"/a", "/ab"}, {"/ab"}, "/ab"},
      {{"/ab"}, {"/a"}, ""},
      {{"1", "2", "3", "4", "5", "6", "7", "8"}, {"8"}, "8"},
      {{long_name}, {"/a", long_name}, long_name},
  };
  assert_int_equal(strlen(long_name), PU_SECURITY_MUXER_NAME_MAX - 1);
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    pair p;
    pair_init(&p);
    p.config[0].muxers = cases[i].initiator;
    p.config[1].muxers = cases[i].responder;
    for (int s = 0; s < 2; s++) {
      size_t n = 0;
      while (n < 8 && p.config[s].muxers[n] != NULL)
        n++;
      p.config[s].muxer_count = n;
    }
    pair_start(&p);
    assert_int_equal(pu_test_handshake(p.side[0], p.side[1], SIZE_MAX), 0);
    check_result(&p, cases[i].chosen);
    pair_deinit(&p);
  }
}

/* Lists of ours that could not be sent are refused at the start. */
static void test_own_muxers_are_bounded(void **state) {
  (void)state;
  static const char *const nine[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
  static const char *const too_long[] = {
      "/a-name-of-64-letters-which-is-one-more-than-we-may-offer-or-kee"};
  pair p;
  pair_init(&p);
  p.config[0].muxers = nine;
  p.config[0].muxer_count = 9;
  assert_int_equal(OPS.start(&p.config[0], &p.side[0]), PU_E_INVAL);
  p.config[0].muxers = too_long;
  p.config[0].muxer_count = 1;
  assert_int_equal(strlen(too_long[0]), PU_SECURITY_MUXER_NAME_MAX);
  assert_int_equal(OPS.start(&p.config[0], &p.side[0]), PU_E_INVAL);
  assert_null(p.side[0]);
  pair_deinit(&p);
}

static void test_records(void **state) {
  (void)state;
  static const size_t lengths[] = {0, 1, 30, 1000, PU_NOISE_MAX_PLAIN, 0, 5};
  static uint8_t text[PU_NOISE_MAX_PLAIN];
  static uint8_t buf[PU_NOISE_LENGTH + PU_NOISE_MAX_MESSAGE];
  assert_int_equal(OPS.max_record, sizeof(buf));
  pair p;
  pair_established(&p);
  for (size_t i = 0; i < PU_COUNT(lengths); i++) {
    for (int from = 0; from < 2; from++) {
      pu_test_random(&p.random, text, lengths[i]);
      size_t len = make_record(p.side[from], buf, text, lengths[i]);
      pu_span plain = {0};
      assert_int_equal(OPS.open(p.side[1 - from], buf, len, &plain), (ssize_t)len);
      assert_int_equal(plain.len, lengths[i]);
      assert_ptr_equal(plain.data, buf + PU_NOISE_LENGTH);
      assert_true(plain.head <= OPS.head && plain.tail <= OPS.tail);
      assert_memory_equal(plain.data, text, plain.len);
    }
  }
  pair_deinit(&p);
}

/* Records of some MiB, so that both directions end in bulk, each on its own. */
static void test_bulk_records(void **state) {
  (void)state;
  enum { LEN = 50000 };
  static uint8_t text[LEN], buf[LEN + PU_NOISE_LENGTH + PU_NOISE_TAG];
  pair p;
  pair_established(&p);
  for (int i = 0; i < 20; i++) {
    for (int from = 0; from < 2; from++) {
      pu_test_random(&p.random, text, LEN);
      size_t len = make_record(p.side[from], buf, text, LEN);
      pu_span plain;
      assert_int_equal(OPS.open(p.side[1 - from], buf, len, &plain), (ssize_t)len);
      assert_memory_equal(plain.data, text, LEN);
    }
  }
  assert_true(LEN * 20 > 2 * PU_AEAD_BULK_AFTER);
  pair_deinit(&p);
}

static void test_records_split_at_every_byte(void **state) {
  (void)state;
  pair p;
  pair_established(&p);
  uint8_t buf[256];
  size_t first = make_record(p.side[0], buf, "first", 5);
  size_t second = make_record(p.side[0], buf + first, "", 0);
  size_t third = make_record(p.side[0], buf + first + second, "third record", 12);
  size_t total = first + second + third;
  size_t at = 0, records = 0;
  for (size_t have = 0; have <= total; have++) {
    size_t need = OPS.need(p.side[1], buf + at, have - at);
    assert_true(need >= 1);
    size_t size = records == 0 ? first : records == 1 ? second : third;
    if (have - at >= PU_NOISE_LENGTH && have - at < size)
      assert_int_equal(need, size - (have - at));
    else if (have - at < PU_NOISE_LENGTH)
      assert_int_equal(need, PU_NOISE_LENGTH - (have - at));
    pu_span plain;
    ssize_t used = OPS.open(p.side[1], buf + at, have - at, &plain);
    assert_true(used >= 0);
    if (used == 0)
      continue;
    assert_int_equal(used, (ssize_t)size);
    assert_int_equal(have - at, size); /* not a byte earlier, not a byte later */
    static const char *const texts[] = {"first", "", "third record"};
    assert_int_equal(plain.len, strlen(texts[records]));
    assert_memory_equal(plain.data, texts[records], plain.len);
    at += (size_t)used;
    records++;
  }
  assert_int_equal(records, 3);
  assert_int_equal(at, total);
  pair_deinit(&p);
}

static void test_tampered_records(void **state) {
  (void)state;
  uint8_t record[64], copy[64];
  size_t len = 0;
  for (size_t at = PU_NOISE_LENGTH; at == PU_NOISE_LENGTH || at < len; at++) {
    pair p;
    pair_established(&p);
    len = make_record(p.side[0], record, "twenty bytes of text", 20);
    record[at] ^= 0x10;
    pu_span plain;
    assert_int_equal(OPS.open(p.side[1], record, len, &plain), PU_E_CRYPTO);
    /* the session is over, in both directions */
    record[at] ^= 0x10;
    assert_int_equal(OPS.open(p.side[1], record, len, &plain), PU_E_CRYPTO);
    pu_span io = {.data = copy + 2, .len = 1, .head = 2, .tail = 16};
    assert_int_equal(OPS.seal(p.side[1], &io), PU_E_CRYPTO);
    assert_null(OPS.result(p.side[1]));
    pair_deinit(&p);
  }
}

static void test_replayed_and_reordered_records(void **state) {
  (void)state;
  pair p;
  uint8_t a[64], b[64];
  pu_span plain;
  pair_established(&p);
  size_t len = make_record(p.side[0], a, "once", 4);
  memcpy(b, a, len);
  assert_int_equal(OPS.open(p.side[1], a, len, &plain), (ssize_t)len);
  assert_int_equal(OPS.open(p.side[1], b, len, &plain), PU_E_CRYPTO);
  pair_deinit(&p);

  pair_established(&p);
  (void)make_record(p.side[0], a, "1st", 3);
  len = make_record(p.side[0], b, "2nd", 3);
  assert_int_equal(OPS.open(p.side[1], b, len, &plain), PU_E_CRYPTO);
  pair_deinit(&p);

  /* reflected to its sender */
  pair_established(&p);
  len = make_record(p.side[0], a, "mine", 4);
  assert_int_equal(OPS.open(p.side[0], a, len, &plain), PU_E_CRYPTO);
  pair_deinit(&p);
}

static void test_records_too_short_for_a_tag(void **state) {
  (void)state;
  for (uint8_t size = 0; size < PU_NOISE_TAG; size++) {
    pair p;
    pair_established(&p);
    uint8_t record[32] = {0, size};
    pu_span plain;
    assert_int_equal(OPS.open(p.side[1], record, PU_NOISE_LENGTH, &plain), PU_E_PROTOCOL);
    assert_true(OPS.need(p.side[1], record, 20) >= 1);
    pair_deinit(&p);
  }
}

/* The last nonce is not for use: the session closes, it never wraps. */
static void test_counters_end(void **state) {
  (void)state;
  pair p;
  uint8_t a[64], b[64];
  pu_span plain;
  pair_established(&p);
  pu_noise_set_nonces(p.side[0], UINT64_MAX - 1, 0);
  pu_noise_set_nonces(p.side[1], 0, UINT64_MAX - 1);
  size_t len = make_record(p.side[0], a, "last", 4);
  memcpy(b, a, len);
  assert_int_equal(OPS.open(p.side[1], a, len, &plain), (ssize_t)len);
  pu_span io = {.data = a + 2, .len = 4, .head = 2, .tail = 16};
  assert_int_equal(OPS.seal(p.side[0], &io), PU_E_LIMIT);
  assert_int_equal(OPS.open(p.side[1], b, len, &plain), PU_E_LIMIT);
  assert_int_equal(OPS.seal(p.side[0], &io), PU_E_LIMIT);
  pair_deinit(&p);
}

static void test_free_at_any_time(void **state) {
  (void)state;
  OPS.free(NULL);
  for (size_t messages = 0; messages <= 3; messages++) {
    pair p;
    pair_init(&p);
    pair_start(&p);
    for (size_t m = 0; m < messages; m++)
      assert_true(pu_test_carry(p.side[m % 2], p.side[1 - m % 2], SIZE_MAX) > 0);
    uint8_t byte;
    (void)OPS.write(p.side[messages % 2], &byte, 1); /* a message half out */
    pair_deinit(&p);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_handshake),
      cmocka_unit_test(test_done_after_the_last_byte),
      cmocka_unit_test(test_split_at_every_byte),
      cmocka_unit_test(test_reads_no_further),
      cmocka_unit_test(test_allocation_failures),
      cmocka_unit_test(test_tampered_handshake),
      cmocka_unit_test(test_another_responder),
      cmocka_unit_test(test_another_initiator),
      cmocka_unit_test(test_lengths),
      cmocka_unit_test(test_a_stranger_is_cheap),
      cmocka_unit_test(test_hostile_payloads),
      cmocka_unit_test(test_known_secrets),
      cmocka_unit_test(test_muxer_choice),
      cmocka_unit_test(test_own_muxers_are_bounded),
      cmocka_unit_test(test_records),
      cmocka_unit_test(test_bulk_records),
      cmocka_unit_test(test_records_split_at_every_byte),
      cmocka_unit_test(test_tampered_records),
      cmocka_unit_test(test_replayed_and_reordered_records),
      cmocka_unit_test(test_records_too_short_for_a_tag),
      cmocka_unit_test(test_counters_end),
      cmocka_unit_test(test_free_at_any_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
