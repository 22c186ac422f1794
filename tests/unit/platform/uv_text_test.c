/* TXT look-ups of the libuv door, with the C library's resolver asking a name server of the test's
 * own: a UDP socket on the same loop. */
#include "platform/uv_text.h"

#include "platform/assert.h"
#include "support/uv_rig.h"

#define HEADER 12u

/* What the server says; the first letter of the name asked for chooses. */
typedef struct server {
  pu_udp *udp;
  pu_sockaddr at;
  unsigned asked;
  bool silent; /* keeps the question, to be answered later */
  uint8_t kept[512];
  pu_datagrams kept_from;
} server;

static size_t put_bytes(uint8_t *at, const void *bytes, size_t len) {
  memcpy(at, bytes, len);
  return len;
}

static size_t put_record(uint8_t *at, const char *strings, size_t len) {
  size_t n = put_bytes(at, "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00", 11);
  at[n++] = (uint8_t)len;
  return n + put_bytes(at + n, strings, len);
}

static void answer_to(server *s, const pu_datagrams *question) {
  uint8_t out[1024];
  size_t n = HEADER;
  assert_true(question->len > HEADER + 5 && question->len < 512);
  while (n < question->len && question->data[n] != 0) /* the name */
    n += 1u + question->data[n];
  n += 5;
  assert_true(n <= question->len);
  const uint8_t type = question->data[n - 3], which = question->data[HEADER + 1];
  assert_int_equal(type, 16);
  memcpy(out, question->data, n);
  out[2] = 0x81; /* an answer, recursion desired */
  out[3] = 0x80; /* and had */
  memset(out + 4, 0, 8);
  out[5] = 1; /* the question */
  if (which == 'n') {
    out[3] |= 3; /* no such name */
  } else if (which == 'f') {
    out[3] |= 2; /* the server failed */
  } else if (which == 'm') {
    for (; out[7] < PU_RESOLVE_TEXTS_MAX + 3; out[7]++)
      n += put_record(out + n, "\x01x", 2);
  } else if (which == 't') {
    out[7] = 2;
    n += put_record(out + n,
                    "\x09"
                    "dnsaddr=/\x07"
                    "ip4/1.2",
                    18);
    n += put_record(out + n, "\x05other", 6);
  } /* else a name without such records */
  const pu_datagrams reply = {
      .local = question->local, .remote = question->remote, .data = out, .len = n, .segment = n};
  assert_int_equal(pu_udp_send(s->udp, &reply), n);
}

static void on_question(void *data) {
  server *s = data;
  static uint8_t room[65536];
  pu_datagrams b = {.data = room, .len = sizeof room};
  if (pu_udp_recv(s->udp, &b, 1) != 1)
    return;
  s->asked++;
  if (s->silent) {
    assert_true(b.len <= sizeof s->kept);
    memcpy(s->kept, b.data, b.len);
    s->kept_from = b;
    s->kept_from.data = s->kept;
  } else {
    answer_to(s, &b);
  }
}

static const pu_udp_events server_events = {on_question, NULL};

static void server_open(rig *r, server *s) {
  const pu_sockaddr at = ip_port("127.0.0.1", 0);
  *s = (server){0};
  assert_int_equal(pu_udp_open(r->p, &at, &server_events, s, &s->udp), 0);
  pu_udp_local(s->udp, &s->at);
  pu_udp_want(s->udp, PU_WANT_READ);
  pu_uv_text_server(r->p, &s->at);
}

typedef struct answer {
  pu_resolve *resolve;
  unsigned calls;
  bool inside;
  int status;
  size_t count;
  char text[2][64];
} answer;

static void on_texts(void *data, int status, const char *const *texts, size_t count) {
  answer *a = data;
  assert_false(a->inside);
  a->calls++;
  a->status = status;
  a->count = count;
  for (size_t i = 0; i < count && i < 2; i++)
    (void)snprintf(a->text[i], sizeof a->text[i], "%s", texts[i]);
}

static int ask(rig *r, answer *a, const char *name) {
  *a = (answer){.inside = true};
  const int status = pu_resolve_text(r->p, name, on_texts, a, &a->resolve);
  a->inside = false;
  return status;
}

static void test_answers(void **state) {
  static const struct {
    const char *name;
    int status;
    size_t count;
  } cases[] = {
      {"texts.example", 0, 2},
      {"many.example", 0, PU_RESOLVE_TEXTS_MAX},
      {"empty.example", PU_E_NOT_FOUND, 0},
      {"nobody.example", PU_E_NOT_FOUND, 0},
      {"failing.example", PU_E_TIMEOUT, 0},
  };
  rig *r = *state;
  server s;
  answer a;
  server_open(r, &s);
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    assert_int_equal(ask(r, &a, cases[i].name), 0);
    RUN_UNTIL(r, a.calls > 0);
    assert_int_equal(a.status, cases[i].status);
    assert_int_equal(a.count, cases[i].count);
    if (i == 0) {
      assert_string_equal(a.text[0], "dnsaddr=/ip4/1.2"); /* its strings are joined */
      assert_string_equal(a.text[1], "other");
    }
  }
  TURN(r, 10);
  assert_int_equal(a.calls, 1);
  pu_udp_close(s.udp);
}

static void test_bad_names(void **state) {
  rig *r = *state;
  answer a;
  char name[300];
  memset(name, 'a', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  assert_int_equal(ask(r, &a, ""), PU_E_NOT_FOUND);
  assert_int_equal(ask(r, &a, name), PU_E_NOT_FOUND);
  name[100] = '\0'; /* a label longer than 63: refused by the resolver, and nobody is asked */
  assert_int_equal(ask(r, &a, name), 0);
  RUN_UNTIL(r, a.calls > 0);
  assert_int_equal(a.status, PU_E_NOT_FOUND);
}

/* Many at once: more than there are threads. */
static void test_many(void **state) {
  rig *r = *state;
  server s;
  answer a[12];
  server_open(r, &s);
  for (size_t i = 0; i < PU_COUNT(a); i++)
    assert_int_equal(ask(r, &a[i], i % 2 == 0 ? "texts.example" : "nobody.example"), 0);
  for (size_t i = 0; i < PU_COUNT(a); i++) {
    RUN_UNTIL(r, a[i].calls > 0);
    assert_int_equal(a[i].status, i % 2 == 0 ? 0 : PU_E_NOT_FOUND);
  }
  pu_udp_close(s.udp);
}

static void test_cancel(void **state) {
  rig *r = *state;
  server s;
  answer early, late, queued[12];
  server_open(r, &s);
  assert_int_equal(ask(r, &early, "texts.example"), 0);
  pu_resolve_cancel(early.resolve);
  s.silent = true;
  const unsigned before = s.asked;
  assert_int_equal(ask(r, &late, "texts.example"), 0);
  RUN_UNTIL(r, s.asked > before);
  for (size_t i = 0; i < PU_COUNT(queued); i++)
    assert_int_equal(ask(r, &queued[i], "texts.example"), 0);
  for (size_t i = 0; i < PU_COUNT(queued); i++)
    pu_resolve_cancel(queued[i].resolve); /* some are with a thread, some are not yet */
  pu_resolve_cancel(late.resolve);
  s.silent = false;
  answer_to(&s, &s.kept_from); /* comes when nobody waits any more */
  TURN(r, 50);
  assert_int_equal(early.calls + late.calls, 0);
  for (size_t i = 0; i < PU_COUNT(queued); i++)
    assert_int_equal(queued[i].calls, 0);
  /* What is with a thread may wait for an answer that was lost: it is asked again after 3 s. The
   * server stays until a look-up has gone through all threads. */
  answer last[4];
  for (size_t i = 0; i < PU_COUNT(last); i++)
    assert_int_equal(ask(r, &last[i], "texts.example"), 0);
  for (size_t i = 0; i < PU_COUNT(last); i++) {
    RUN_UNTIL(r, last[i].calls > 0);
    assert_int_equal(last[i].status, 0);
  }
  pu_udp_close(s.udp);
}

/* A server that says nothing: told within the deadline, and nothing is held up much longer. */
static void test_silence(void **state) {
  rig *r = *state;
  server s;
  answer a;
  server_open(r, &s);
  s.silent = true;
  assert_int_equal(ask(r, &a, "texts.example"), 0);
  const uint64_t begin = pu_now_us(r->p);
  RUN_UNTIL(r, a.calls > 0);
  assert_int_equal(a.status, PU_E_TIMEOUT);
  assert_in_range(pu_now_us(r->p) - begin, 5500000, 10500000);
  assert_int_equal(s.asked, 2);
  TURN(r, 10);
  assert_int_equal(a.calls, 1);
  pu_udp_close(s.udp);
}

int main(void) {
  const struct CMUnitTest tests[] = {T(test_answers), T(test_bad_names), T(test_many),
                                     T(test_cancel), T(test_silence)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
