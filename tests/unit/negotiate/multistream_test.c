/* multistream-select, both sides: dialogues split at every byte, and what peers get wrong. The
 * transcripts of the Go program are checked in tests/vectors. */
#include "negotiate/multistream.h"

#include <string.h>

#include "platform/assert.h"
#include "support/cmocka.h"

#define HEADER "\x13/multistream/1.0.0\n"
#define HEADER_LEN (sizeof(HEADER) - 1)

/* match_list takes what |data|, a list of names that ends with NULL, holds. */
static const char *match_list(void *data, const char *offer, size_t len) {
  for (const char *const *name = data; *name != NULL; name++) {
    if (strlen(*name) == len && memcmp(*name, offer, len) == 0)
      return *name;
  }
  return NULL;
}

static const char *const served[] = {"/noise", "/ipfs/ping/1.0.0", NULL};

static void listen_on(pu_multistream *m, const char *const *names) {
  pu_multistream_listen(m, match_list, (void *)(uintptr_t)names);
}

/* write_is takes all that |m| has to write, |chunk| bytes at a time, and compares. */
static void write_is(pu_multistream *m, size_t chunk, const char *want, size_t len) {
  uint8_t out[2048];
  size_t have = 0, n;
  while ((n = pu_multistream_write(m, out + have, chunk)) > 0) {
    have += n;
    assert_true(have + chunk <= sizeof(out));
  }
  assert_int_equal(have, len);
  assert_memory_equal(out, want, len);
}
#define WRITES(m, text) write_is(m, 1024, text, sizeof(text) - 1)
#define READS(m, text)                                                                \
  assert_int_equal(pu_multistream_read(m, (const uint8_t *)(text), sizeof(text) - 1), \
                   (ssize_t)sizeof(text) - 1)
#define READ_IS(m, text, result) \
  assert_int_equal(pu_multistream_read(m, (const uint8_t *)(text), sizeof(text) - 1), result)

/* converse feeds |in| to |m| in pieces of |chunk| and keeps what it answers, as a caller does;
 * returns the bytes used, or the error. */
static ssize_t converse(pu_multistream *m, const uint8_t *in, size_t len, size_t chunk,
                        uint8_t *out, size_t cap, size_t *out_len) {
  size_t used = 0;
  *out_len = 0;
  for (;;) {
    size_t n;
    while ((n = pu_multistream_write(m, out + *out_len,
                                     chunk < cap - *out_len ? chunk : cap - *out_len)) > 0)
      *out_len += n;
    size_t piece = len - used < chunk ? len - used : chunk;
    if (piece == 0)
      return (ssize_t)used;
    ssize_t got = pu_multistream_read(m, in + used, piece);
    if (got < 0)
      return got;
    used += (size_t)got;
    if (got == 0 && pu_multistream_state_of(m) == PU_MS_DONE)
      return (ssize_t)used;
  }
}

static void test_header_goes_first(void **state) {
  (void)state;
  static const char *const offers[] = {"/noise"};
  pu_multistream m;
  listen_on(&m, served);
  WRITES(&m, HEADER);
  pu_multistream_dial(&m, offers, 1, false);
  WRITES(&m, HEADER "\x07/noise\n"); /* and the offer with it */
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_RUNNING);
  assert_null(pu_multistream_protocol(&m));
}

static void test_listener_answers(void **state) {
  (void)state;
  pu_multistream m;
  listen_on(&m, served);
  WRITES(&m, HEADER);
  READS(&m, HEADER);
  WRITES(&m, "");
  static const char *const unknown[] = {"\x0b/tls/1.0.0\n", "\x03ls\n",      "\x03na\n", HEADER,
                                        "\x01\n",           "\x08/noise\n\n"};
  for (size_t i = 0; i < PU_COUNT(unknown); i++) {
    size_t len = strlen(unknown[i]);
    assert_int_equal(pu_multistream_read(&m, (const uint8_t *)unknown[i], len), (ssize_t)len);
    WRITES(&m, "\x03na\n");
    assert_int_equal(pu_multistream_state_of(&m), PU_MS_RUNNING);
  }
  READS(&m, "\x11/ipfs/ping/1.0.0\n");
  assert_string_equal(pu_multistream_protocol(&m), "/ipfs/ping/1.0.0");
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_RUNNING); /* until the echo is written */
  WRITES(&m, "\x11/ipfs/ping/1.0.0\n");
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_DONE);
  READ_IS(&m, "application data", 0);
}

/* Offers pipelined in one packet are answered one by one; the output holds one answer at most. */
static void test_pipelined_offers(void **state) {
  (void)state;
  static const uint8_t packet[] = HEADER "\x03/a\n\x03/b\n\x07/noise\ndata";
  size_t len = sizeof(packet) - 1;
  pu_multistream m;
  listen_on(&m, served);
  ssize_t used = pu_multistream_read(&m, packet, len);
  assert_int_equal(used, HEADER_LEN + 4); /* the header of ours is still pending, too */
  assert_int_equal(pu_multistream_read(&m, packet + used, len - (size_t)used), 0);
  WRITES(&m, HEADER "\x03na\n");
  assert_int_equal(pu_multistream_read(&m, packet + used, len - (size_t)used), 4);
  used += 4;
  WRITES(&m, "\x03na\n");
  assert_int_equal(pu_multistream_read(&m, packet + used, len - (size_t)used), 8);
  used += 8;
  WRITES(&m, "\x07/noise\n");
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_DONE);
  assert_int_equal(len - (size_t)used, 4); /* the data stays with the caller */
}

static void test_dialler_goes_through_its_offers(void **state) {
  (void)state;
  static const char *const offers[] = {"/a", "/b", "/noise"};
  pu_multistream m;
  pu_multistream_dial(&m, offers, 3, false);
  WRITES(&m, HEADER "\x03/a\n");
  READS(&m, HEADER);
  WRITES(&m, "");
  READS(&m, "\x03na\n");
  READ_IS(&m, "\x03/b\n", 0); /* an answer before the question waits for it */
  WRITES(&m, "\x03/b\n");
  READS(&m, "\x03na\n");
  WRITES(&m, "\x07/noise\n");
  READ_IS(&m, "\x07/noise\ndata", 8);
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_DONE);
  assert_string_equal(pu_multistream_protocol(&m), "/noise");
}

static void test_all_refused(void **state) {
  (void)state;
  static const char *const offers[] = {"/a", "/b"};
  pu_multistream m;
  pu_multistream_dial(&m, offers, 2, false);
  WRITES(&m, HEADER "\x03/a\n");
  READS(&m, HEADER "\x03na\n");
  WRITES(&m, "\x03/b\n");
  READ_IS(&m, "\x03na\n", PU_E_UNSUPPORTED);
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_FAILED);
  assert_null(pu_multistream_protocol(&m));
  READ_IS(&m, "\x03/b\n", PU_E_CLOSED);
  WRITES(&m, "");
}

static void test_lazy(void **state) {
  (void)state;
  static const char *const offers[] = {"/pingpong/1.0.0"};
  pu_multistream m;
  pu_multistream_dial(&m, offers, 1, true);
  WRITES(&m, HEADER "\x10/pingpong/1.0.0\n");
  READ_IS(&m, HEADER "\x10/pingpong/1.0.0\npong\n", HEADER_LEN + 17);
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_DONE);

  pu_multistream_dial(&m, offers, 1, true);
  WRITES(&m, HEADER "\x10/pingpong/1.0.0\n");
  READ_IS(&m, HEADER "\x03na\n", PU_E_UNSUPPORTED);

  pu_multistream_dial(&m, offers, 1, true);
  WRITES(&m, HEADER "\x10/pingpong/1.0.0\n");
  READ_IS(&m, HEADER "\x07/other\n", PU_E_PROTOCOL);
}

static void test_broken_peers(void **state) {
  (void)state;
  static const char *const offers[] = {"/a"};
  static const struct {
    bool dialer;
    const char *bytes;
    size_t len;
  } cases[] = {
#define CASE(dialer, text) {dialer, text, sizeof(text) - 1}
      CASE(false, "\x13/multistream/2.0.0\n"),
      CASE(false, "\x07/noise\n"),
      CASE(false, "\0"),
      CASE(false, "\x01/"),
      CASE(false, "\x81\x08"),       /* 1025 */
      CASE(false, "\xff\xff"),       /* longer than any length */
      CASE(false, "\x93\0"),         /* not minimal */
      CASE(false, HEADER "\x03/ax"), /* no newline */
      CASE(false, HEADER "\0"),
      CASE(true, "\x13/multistream/0.9.0\n"),
      CASE(true, HEADER "\x07/other\n"),
      CASE(true, HEADER HEADER),
      CASE(true, HEADER "\x04/a\n\n"),
      CASE(true, HEADER "\x01\n"),
#undef CASE
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    for (size_t chunk = 1; chunk <= cases[i].len; chunk++) {
      uint8_t out[256];
      size_t out_len;
      pu_multistream m;
      if (cases[i].dialer)
        pu_multistream_dial(&m, offers, 1, false);
      else
        listen_on(&m, served);
      assert_int_equal(converse(&m, (const uint8_t *)cases[i].bytes, cases[i].len, chunk, out,
                                sizeof(out), &out_len),
                       PU_E_PROTOCOL);
      assert_int_equal(pu_multistream_state_of(&m), PU_MS_FAILED);
      assert_null(pu_multistream_protocol(&m));
    }
  }
}

static void test_offers_are_bounded(void **state) {
  (void)state;
  pu_multistream m;
  listen_on(&m, served);
  WRITES(&m, HEADER);
  READS(&m, HEADER);
  for (int i = 0; i < PU_MULTISTREAM_MAX_OFFERS; i++) {
    READS(&m, "\x03/a\n");
    WRITES(&m, "\x03na\n");
  }
  READ_IS(&m, "\x03/a\n", PU_E_LIMIT);
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_FAILED);
  WRITES(&m, "");

  /* the last of them may still be taken */
  listen_on(&m, served);
  WRITES(&m, HEADER);
  READS(&m, HEADER);
  for (int i = 0; i < PU_MULTISTREAM_MAX_OFFERS; i++) {
    READS(&m, "\x03/a\n");
    WRITES(&m, "\x03na\n");
  }
  READS(&m, "\x07/noise\n");
  WRITES(&m, "\x07/noise\n");
  assert_int_equal(pu_multistream_state_of(&m), PU_MS_DONE);
}

/* Names of every length, also the longest, pass both ways. */
static void test_long_names(void **state) {
  (void)state;
  static char name[PU_MULTISTREAM_MAX_TOKEN + 1];
  static uint8_t token[2 * PU_MULTISTREAM_MAX_TOKEN];
  static uint8_t out[2 * PU_MULTISTREAM_MAX_TOKEN];
  memset(name, 'x', sizeof(name));
  for (size_t len = 0; len < PU_MULTISTREAM_MAX_TOKEN; len++) {
    size_t n = pu_multistream_token(token, sizeof(token), name, len);
    assert_int_equal(n, len + (len + 1 < 128 ? 2 : 3));
    const char *text;
    size_t text_len;
    assert_int_equal(pu_multistream_parse(token, n, &text, &text_len), (ssize_t)n);
    assert_int_equal(text_len, len);
    assert_memory_equal(text, name, len);
    for (size_t cut = 0; cut < n; cut += len < 200 ? 1 : 97)
      assert_int_equal(pu_multistream_parse(token, cut, &text, &text_len), 0);
    assert_int_equal(pu_multistream_token(token, n - 1, name, len), 0);
  }
  assert_int_equal(pu_multistream_token(token, sizeof(token), name, PU_MULTISTREAM_MAX_TOKEN), 0);

  name[PU_MULTISTREAM_MAX_TOKEN - 1] = '\0';
  const char *const names[] = {name, NULL};
  pu_multistream dialer, listener;
  pu_multistream_dial(&dialer, names, 1, false);
  listen_on(&listener, names);
  size_t n = pu_multistream_write(&dialer, out, sizeof(out));
  assert_int_equal(n, HEADER_LEN + 2 + PU_MULTISTREAM_MAX_TOKEN);
  assert_int_equal(pu_multistream_read(&listener, out, n), (ssize_t)n);
  n = pu_multistream_write(&listener, out, sizeof(out));
  assert_int_equal(pu_multistream_read(&dialer, out, n), (ssize_t)n);
  assert_int_equal(pu_multistream_state_of(&dialer), PU_MS_DONE);
  assert_int_equal(pu_multistream_state_of(&listener), PU_MS_DONE);
}

/* A name's bytes count, not a C string's: NUL and newline are letters like others. */
static void test_odd_letters(void **state) {
  (void)state;
  pu_multistream m;
  listen_on(&m, served);
  WRITES(&m, HEADER);
  READS(&m, HEADER);
  READS(&m, "\x08/noise\0\n");
  WRITES(&m, "\x03na\n");
  READS(&m, "\x0e/noise\n/noise\n");
  WRITES(&m, "\x03na\n");
}

static void test_with_itself_split_at_every_byte(void **state) {
  (void)state;
  static const char *const offers[] = {"/tls/1.0.0", "/secio", "/noise"};
  for (size_t to_listener = 1; to_listener < 40; to_listener++) {
    for (size_t to_dialer = 1; to_dialer < 40; to_dialer++) {
      pu_multistream d, l;
      pu_multistream_dial(&d, offers, 3, false);
      listen_on(&l, served);
      uint8_t bytes[64];
      for (int rounds = 0; rounds < 500; rounds++) {
        size_t n = pu_multistream_write(&d, bytes, to_listener);
        for (size_t at = 0; at < n;) {
          ssize_t used = pu_multistream_read(&l, bytes + at, n - at);
          assert_true(used >= 0);
          at += (size_t)used;
          assert_true(used > 0 || at == n); /* the dialler asks one thing at a time */
        }
        n = pu_multistream_write(&l, bytes, to_dialer);
        assert_int_equal(pu_multistream_read(&d, bytes, n), (ssize_t)n);
        if (pu_multistream_state_of(&d) == PU_MS_DONE)
          break;
      }
      assert_int_equal(pu_multistream_state_of(&d), PU_MS_DONE);
      assert_int_equal(pu_multistream_state_of(&l), PU_MS_DONE);
      assert_string_equal(pu_multistream_protocol(&d), "/noise");
      assert_string_equal(pu_multistream_protocol(&l), "/noise");
    }
  }
}

/* Whatever the packets, a listener's answers are the same and the data behind stays untouched. */
static void test_listener_split_at_every_byte(void **state) {
  (void)state;
  static const uint8_t in[] = HEADER "\x03/a\n\x03na\n" HEADER "\x07/noise\ndata";
  static const uint8_t want[] = HEADER "\x03na\n\x03na\n\x03na\n\x07/noise\n";
  for (size_t chunk = 1; chunk < sizeof(in); chunk++) {
    pu_multistream m;
    uint8_t out[256];
    size_t out_len;
    listen_on(&m, served);
    assert_int_equal(converse(&m, in, sizeof(in) - 1, chunk, out, sizeof(out), &out_len),
                     (ssize_t)sizeof(in) - 1 - 4);
    assert_int_equal(out_len, sizeof(want) - 1);
    assert_memory_equal(out, want, out_len);
    assert_int_equal(pu_multistream_state_of(&m), PU_MS_DONE);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_header_goes_first),
      cmocka_unit_test(test_listener_answers),
      cmocka_unit_test(test_pipelined_offers),
      cmocka_unit_test(test_dialler_goes_through_its_offers),
      cmocka_unit_test(test_all_refused),
      cmocka_unit_test(test_lazy),
      cmocka_unit_test(test_broken_peers),
      cmocka_unit_test(test_offers_are_bounded),
      cmocka_unit_test(test_long_names),
      cmocka_unit_test(test_odd_letters),
      cmocka_unit_test(test_with_itself_split_at_every_byte),
      cmocka_unit_test(test_listener_split_at_every_byte),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
