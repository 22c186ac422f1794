/* Streams between whole hosts of the simulated network: opening them in every way, and how they
 * end. */
#include "mux/yamux.h"
#include "swarm/stream.h"

#include "support/sim_hosts.h"
#include "support/unit.h"

#define DELAY_US 10000u
#define ECHO "/test/echo/1.0.0"
#define SINK "/test/sink/1.0.0"
#define REFUSES "/test/refuses/1.0.0"
#define TALKS "/test/talks/1.0.0" /* the server speaks first */

typedef struct pair {
  pu_sim *sim;
  sim_host a, b;
  unsigned handled;
  pu_stream *last; /* that b was given */
} pair;

/* One side of a stream, as the test sees it. */
typedef struct user {
  pu_stream *s;
  size_t got, take; /* take: bytes to take of each offer */
  char text[256];
  unsigned eofs, ends, writables;
  int status;
  uint32_t code;
  enum { NOTHING, CLOSE, RESET, CLOSE_CONN } in_data;
  const char *talk; /* still to be said, by on_writable */
} user;

/* talk says what is left to say; the network may take it in part. */
static void talk(user *u) {
  ssize_t n = pu_stream_write(u->s, u->talk, strlen(u->talk));
  assert_true(n >= 0);
  u->talk += n;
}

static size_t on_data(void *data, pu_stream *s, uint8_t *bytes, size_t len, size_t head,
                      size_t tail) {
  user *u = data;
  (void)head;
  (void)tail;
  size_t n = len < u->take ? len : u->take;
  for (size_t i = 0; i < n && u->got + i + 1 < sizeof(u->text); i++)
    u->text[u->got + i] = (char)bytes[i];
  u->got += n;
  if (u->in_data == CLOSE)
    pu_stream_close(s);
  else if (u->in_data == RESET)
    pu_stream_reset(s, 0x77);
  else if (u->in_data == CLOSE_CONN)
    pu_conn_close(pu_stream_conn(s));
  return n;
}
static void on_eof(void *data, pu_stream *s) {
  user *u = data;
  (void)s;
  u->eofs++;
}
static void on_writable(void *data, pu_stream *s) {
  user *u = data;
  (void)s;
  u->writables++;
  if (u->talk != NULL)
    talk(u);
}
static void on_end(void *data, pu_stream *s, int status, uint32_t code) {
  user *u = data;
  (void)s;
  u->ends++;
  u->status = status;
  u->code = code;
}
static const pu_stream_events user_events = {on_data, on_eof, on_writable, on_end};

static void use(user *u, pu_stream *s) {
  *u = (user){.s = s, .take = SIZE_MAX};
  pu_stream_set_events(s, &user_events, u);
}

/* ---- what b serves ---- */

static size_t echo_data(void *data, pu_stream *s, uint8_t *bytes, size_t len, size_t head,
                        size_t tail) {
  (void)data;
  ssize_t n = pu_stream_write_room(s, bytes, len, head, tail);
  return n < 0 ? len : (size_t)n;
}
static void echo_eof(void *data, pu_stream *s) {
  (void)data;
  (void)pu_stream_close_write(s);
  pu_stream_close(s);
}
static void echo_writable(void *data, pu_stream *s) {
  (void)data;
  pu_stream_resume(s);
}
static void echo_end(void *data, pu_stream *s, int status, uint32_t code) {
  (void)data;
  (void)s;
  (void)status;
  (void)code;
}
static const pu_stream_events echo_events = {echo_data, echo_eof, echo_writable, echo_end};

static int on_echo(void *data, pu_stream *s) {
  pair *p = data;
  p->handled++;
  p->last = s;
  pu_stream_set_events(s, &echo_events, p);
  return 0;
}
static user sink;
static int on_sink(void *data, pu_stream *s) {
  pair *p = data;
  p->handled++;
  p->last = s;
  use(&sink, s);
  return 0;
}
static int on_refuse(void *data, pu_stream *s) {
  (void)s;
  ((pair *)data)->handled++;
  return PU_E_INVAL;
}
static int on_talk(void *data, pu_stream *s) {
  pair *p = data;
  p->handled++;
  p->last = s;
  use(&sink, s);
  sink.talk = "hello";
  talk(&sink);
  return 0;
}

static int setup_limits(void **state, const pu_limits *limits) {
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  assert_int_equal(pu_sim_new(1, &p->sim), 0);
  const pu_sim_link link = {.delay_us = DELAY_US};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &link), 0);
  sim_host_start(p->sim, &p->a, 1, NULL);
  sim_host_start(p->sim, &p->b, 2, limits);
  sim_host_knows(&p->a, &p->b);
  assert_int_equal(pu_engine_handle(p->b.engine, ECHO, on_echo, p), 0);
  assert_int_equal(pu_engine_handle(p->b.engine, SINK, on_sink, p), 0);
  assert_int_equal(pu_engine_handle(p->b.engine, REFUSES, on_refuse, p), 0);
  assert_int_equal(pu_engine_handle(p->b.engine, TALKS, on_talk, p), 0);
  static sim_answer answer;
  assert_int_equal(sim_connect(&p->a, &p->b, 0, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND / 2);
  *state = p;
  return 0;
}
static int setup(void **state) {
  return setup_limits(state, NULL);
}
static int setup_small(void **state) {
  const pu_limits limits = {.negotiating_per_conn = 10, .streams_in_per_conn = 20};
  return setup_limits(state, &limits);
}
static int setup_small_quic(void **state) {
  sim_quic = true;
  return setup_small(state);
}
static int teardown(void **state) {
  pair *p = *state;
  sim_host_end(&p->a);
  sim_host_end(&p->b);
  assert_int_equal(pu_sim_open_sockets(p->sim), 0);
  pu_sim_free(p->sim);
  free(p);
  sim_quic = false;
  return 0;
}

static pu_op *start_open(pair *p, const char *protocol, unsigned flags, sim_answer *answer) {
  pu_op *op;
  *answer = (sim_answer){0};
  assert_int_equal(pu_engine_open_stream(p->a.engine, &p->b.id, &protocol, 1, flags, 0, sim_on_open,
                                         answer, &op),
                   0);
  assert_int_equal(answer->calls, 0);
  return op;
}

static pu_stream *open_stream(pair *p, const char *protocol, unsigned flags) {
  static sim_answer answer;
  (void)start_open(p, protocol, flags, &answer);
  assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 60 * SIM_SECOND, &answer.done));
  assert_int_equal(answer.calls, 1);
  assert_int_equal(answer.status, 0);
  assert_string_equal(pu_stream_protocol(answer.stream), protocol);
  assert_true(pu_stream_is_outbound(answer.stream));
  return answer.stream;
}

/* send writes |len| bytes; the network sometimes takes less at once, then it waits. */
static void send(pair *p, pu_stream *s, const void *bytes, size_t len) {
  for (size_t sent = 0, tries = 0; sent < len; tries++) {
    ssize_t n = pu_stream_write(s, (const uint8_t *)bytes + sent, len - sent);
    assert_true(n >= 0 && tries < 1000);
    sent += (size_t)n;
    if (sent < len)
      sim_run_for(p->sim, 100);
  }
}
static void say(pair *p, pu_stream *s, const char *text) {
  send(p, s, text, strlen(text));
}

static uint32_t streams_of(const sim_host *h, const sim_host *peer) {
  pu_conn_info info;
  pu_conn_info_get(pu_engine_best_conn(h->engine, &peer->id), &info);
  return info.streams;
}

static void no_streams_left(pair *p) {
  sim_run_for(p->sim, 2 * SIM_SECOND);
  assert_int_equal(streams_of(&p->a, &p->b), 0);
  assert_int_equal(streams_of(&p->b, &p->a), 0);
}

/* ---- opening ---- */

static void test_echo(void **state) {
  pair *p = *state;
  for (int lazy = 0; lazy < 2; lazy++) {
    static user u;
    use(&u, open_stream(p, ECHO, lazy == 1 ? PU_OPEN_LAZY : 0));
    say(p, u.s, "one");
    say(p, u.s, "two");
    sim_run_for(p->sim, SIM_SECOND);
    assert_string_equal(u.text, "onetwo");
    assert_string_equal(pu_stream_protocol(p->last), ECHO);
    assert_false(pu_stream_is_outbound(p->last));
    assert_int_equal(pu_stream_close_write(u.s), 0);
    assert_int_equal(pu_stream_write(u.s, "x", 1), PU_E_CLOSED);
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(u.eofs, 1);
    assert_int_equal(u.ends, 0);
    pu_stream_close(u.s);
    no_streams_left(p);
  }
}

static void test_lazy_saves_a_round_trip(void **state) {
  pair *p = *state;
  for (int lazy = 0; lazy < 2; lazy++) {
    static user u;
    const uint64_t begin = pu_sim_now_us(p->sim);
    use(&u, open_stream(p, ECHO, lazy == 1 ? PU_OPEN_LAZY : 0));
    say(p, u.s, "x");
    while (u.got == 0)
      sim_run_for(p->sim, 1000);
    const uint64_t took = pu_sim_now_us(p->sim) - begin;
    assert_in_range(took, (lazy == 1 ? 2 : 4) * DELAY_US, (lazy == 1 ? 2 : 4) * DELAY_US + 2000);
    pu_stream_close(u.s);
  }
}

static void test_the_server_speaks_first(void **state) {
  pair *p = *state;
  for (int lazy = 0; lazy < 2; lazy++) {
    static user u;
    use(&u, open_stream(p, TALKS, lazy == 1 ? PU_OPEN_LAZY : 0));
    pu_stream_resume(u.s);           /* its words may be here already */
    sim_run_for(p->sim, SIM_SECOND); /* without a word of ours */
    assert_string_equal(u.text, "hello");
    pu_stream_close(u.s);
    pu_stream_close(p->last);
    no_streams_left(p);
  }
}

/* What was sent before the application looked is kept for it, and so is the end. */
static void test_events_set_late(void **state) {
  pair *p = *state;
  for (int ended = 0; ended < 2; ended++) {
    static user u;
    pu_stream *s = open_stream(p, TALKS, 0);
    if (ended == 1)
      assert_int_equal(pu_stream_close_write(p->last), 0);
    sim_run_for(p->sim, SIM_SECOND);
    use(&u, s);
    pu_stream_resume(s);
    assert_string_equal(u.text, "hello");
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(u.eofs, ended);
    pu_stream_close(s);
    pu_stream_close(p->last);
  }
  no_streams_left(p);
}

static void test_first_that_is_spoken(void **state) {
  pair *p = *state;
  static const char *const offers[] = {"/no/1", "/no/2", ECHO, SINK};
  static sim_answer answer;
  pu_op *op;
  assert_int_equal(pu_engine_open_stream(p->a.engine, &p->b.id, offers, 4, PU_OPEN_LAZY, 0,
                                         sim_on_open, &answer, &op),
                   0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(answer.status, 0);
  assert_string_equal(pu_stream_protocol(answer.stream), ECHO);
  pu_stream_close(answer.stream);
  answer = (sim_answer){0};
  assert_int_equal(
      pu_engine_open_stream(p->a.engine, &p->b.id, offers, 2, 0, 0, sim_on_open, &answer, &op), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(answer.status, PU_E_UNSUPPORTED);
  assert_non_null(strstr(answer.detail, "/no/1"));
  assert_int_equal(
      pu_engine_open_stream(p->a.engine, &p->b.id, offers, 0, 0, 0, sim_on_open, &answer, &op),
      PU_E_INVAL);
  no_streams_left(p);
}

static void test_lazy_and_refused(void **state) {
  pair *p = *state;
  static user u;
  /* The peer stops speaking it after it said that it does. */
  pu_stream *s = NULL;
  static sim_answer answer;
  pu_engine_unserve(p->b.engine, SINK);
  (void)start_open(p, SINK, PU_OPEN_LAZY, &answer);
  sim_run_for(p->sim, 0);
  assert_int_equal(answer.status, 0);
  s = answer.stream;
  use(&u, s);
  say(p, s, "too late");
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.ends, 1);
  assert_int_equal(u.status, PU_E_UNSUPPORTED);
  no_streams_left(p);
  /* Now it is known: the offer is negotiated. */
  (void)start_open(p, SINK, PU_OPEN_LAZY, &answer);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(answer.status, PU_E_UNSUPPORTED);
}

static void test_refused_by_handler_and_policy(void **state) {
  pair *p = *state;
  static user u;
  use(&u, open_stream(p, REFUSES, PU_OPEN_LAZY));
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.ends, 1);
  assert_int_equal(u.status, PU_E_RESET);
  unsigned handled = p->handled;
  p->b.denied = 1u << PU_ASK_STREAM;
  use(&u, open_stream(p, ECHO, PU_OPEN_LAZY));
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.ends, 1);
  assert_int_equal(u.status, PU_E_RESET);
  assert_int_equal(u.code, 0x1008);
  assert_int_equal(p->handled, handled);
  assert_true(p->b.events[PU_EVENT_DENIED] > 0);
  no_streams_left(p);
}

static void test_recheck_ends_streams(void **state) {
  pair *p = *state;
  static user u;
  use(&u, open_stream(p, SINK, 0));
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(pu_engine_recheck(p->b.engine), 0);
  p->b.denied = 1u << PU_ASK_STREAM;
  assert_int_equal(pu_engine_recheck(p->b.engine), 1);
  assert_int_equal(sink.ends, 1);
  assert_int_equal(sink.status, PU_E_DENIED);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.ends, 1);
  assert_int_equal(u.code, 0x1008);
}

static void test_cancelled_and_timed_out(void **state) {
  pair *p = *state;
  for (uint64_t after = 0; after < 4 * DELAY_US; after += 1000) {
    static sim_answer answer;
    pu_op *op = start_open(p, ECHO, after % 3000 == 0 ? PU_OPEN_LAZY : 0, &answer);
    sim_run_for(p->sim, after);
    if (!answer.done) {
      pu_op_cancel(op);
      assert_int_equal(answer.calls, 0);
      sim_run_for(p->sim, 1);
      assert_int_equal(answer.status, PU_E_CANCELED);
    } else {
      pu_stream_reset(answer.stream, 0);
    }
    assert_int_equal(answer.calls, 1);
  }
  no_streams_left(p);
  const pu_sim_link down = {.down = true};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &down), 0);
  static sim_answer answer;
  pu_op *op;
  static const char *const protocols[] = {ECHO};
  assert_int_equal(pu_engine_open_stream(p->a.engine, &p->b.id, protocols, 1, 0, 3000, sim_on_open,
                                         &answer, &op),
                   0);
  sim_run_for(p->sim, 3 * SIM_SECOND + 1);
  assert_int_equal(answer.status, PU_E_TIMEOUT);
  assert_non_null(strstr(answer.detail, ECHO));
  /* A lazy one fails when the answers do not come. */
  static user u;
  use(&u, open_stream(p, ECHO, PU_OPEN_LAZY));
  say(p, u.s, "hello?");
  sim_run_for(p->sim, 11 * SIM_SECOND);
  assert_int_equal(u.ends, 1);
  assert_int_equal(u.status, PU_E_TIMEOUT);
}

static void test_without_dialing(void **state) {
  pair *p = *state;
  static const char *const protocols[] = {ECHO};
  static sim_answer answer;
  pu_op *op;
  assert_int_equal(pu_engine_disconnect(p->a.engine, &p->b.id), 1);
  assert_int_equal(pu_engine_open_stream(p->a.engine, &p->b.id, protocols, 1, PU_OPEN_NO_DIAL, 0,
                                         sim_on_open, &answer, &op),
                   PU_E_GONE);
  assert_int_equal(answer.calls, 0);
  /* Without the flag it connects again. */
  static user u;
  use(&u, open_stream(p, ECHO, 0));
  say(p, u.s, "back");
  sim_run_for(p->sim, SIM_SECOND);
  assert_string_equal(u.text, "back");
  pu_stream_close(u.s);
}

/* ---- many ---- */

static void test_more_than_unacknowledged(void **state) {
  pair *p = *state;
  enum { MANY = 3 * PU_YAMUX_MAX_UNACKED };
  static sim_answer answers[MANY];
  for (size_t i = 0; i < MANY; i++)
    (void)start_open(p, ECHO, i % 2 == 0 ? PU_OPEN_LAZY : 0, &answers[i]);
  sim_run_for(p->sim, 10 * SIM_SECOND);
  for (size_t i = 0; i < MANY; i++) {
    assert_int_equal(answers[i].calls, 1);
    assert_int_equal(answers[i].status, 0);
    pu_stream_close(answers[i].stream);
  }
  assert_int_equal(p->handled, MANY);
  no_streams_left(p);
}

static void test_ten_thousand(void **state) {
  pair *p = *state;
  enum { MANY = 10000 };
  static sim_answer answers[MANY];
  static user users[MANY];
  const size_t before = pu_engine_memory(p->b.engine);
  for (size_t i = 0; i < MANY; i++) {
    (void)start_open(p, ECHO, PU_OPEN_LAZY, &answers[i]);
    if (i % 200 == 199)
      sim_run_for(p->sim, SIM_SECOND / 20);
  }
  sim_run_for(p->sim, 5 * SIM_SECOND);
  for (size_t i = 0; i < MANY; i++) {
    assert_int_equal(answers[i].status, 0);
    use(&users[i], answers[i].stream);
    say(p, users[i].s, "working");
  }
  sim_run_for(p->sim, 5 * SIM_SECOND);
  for (size_t i = 0; i < MANY; i++)
    assert_string_equal(users[i].text, "working");
  const size_t each = (pu_engine_memory(p->b.engine) - before) / MANY;
  print_message("an open stream takes %zu bytes\n", each);
  assert_true(each < 1024);
  for (size_t i = 0; i < MANY; i++)
    pu_stream_close(users[i].s);
  no_streams_left(p);
}

static void test_limits_of_the_server(void **state) {
  pair *p = *state; /* 10 negotiating, 20 in all */
  static sim_answer answers[40];
  unsigned open = 0, refused = 0;
  for (size_t i = 0; i < PU_COUNT(answers); i++) {
    (void)start_open(p, ECHO, 0, &answers[i]);
    sim_run_for(p->sim, SIM_SECOND / 10);
  }
  for (size_t i = 0; i < PU_COUNT(answers); i++) {
    assert_int_equal(answers[i].calls, 1);
    open += answers[i].status == 0;
    refused += answers[i].status == PU_E_RESET;
  }
  assert_int_equal(open, 20);
  assert_int_equal(refused, 20);
  for (size_t i = 0; i < PU_COUNT(answers); i++)
    if (answers[i].status == 0)
      pu_stream_close(answers[i].stream);
  no_streams_left(p);
}

/* Opens that wait for room go on when the streams before them are refused, not only when they are taken. */
static void test_waiting_behind_refused(void **state) {
  pair *p = *state; /* 10 negotiating, 20 in all */
  enum { MANY = 3 * PU_YAMUX_MAX_UNACKED };
  static sim_answer answers[MANY];
  for (size_t i = 0; i < MANY; i++)
    (void)start_open(p, ECHO, 0, &answers[i]);
  sim_run_for(p->sim, 5 * SIM_SECOND);
  for (size_t i = 0; i < MANY; i++) {
    assert_int_equal(answers[i].calls, 1);
    if (answers[i].status == 0)
      pu_stream_close(answers[i].stream);
    else
      assert_int_equal(answers[i].status, PU_E_RESET);
  }
  no_streams_left(p);
}

static void on_open_and_reset(void *data, int status, const pu_error *err, pu_stream *s) {
  sim_on_open(data, status, err, NULL);
  if (s != NULL)
    pu_stream_reset(s, 0);
}

/* ... by the handler, by the policy, or given up by ourselves: where the peer counts what may be open, it
 * gives the credit back. */
static void test_waiting_behind_ended(void **state) {
  pair *p = *state;
  enum { MANY = 200 };
  static sim_answer answers[MANY];
  for (unsigned way = 0; way < 3; way++) {
    p->b.denied = way == 1 ? 1u << PU_ASK_STREAM : 0;
    for (size_t i = 0; i < MANY; i++) {
      const char *const protocol = way == 0 ? REFUSES : SINK;
      pu_op *op;
      answers[i] = (sim_answer){0};
      assert_int_equal(pu_engine_open_stream(p->a.engine, &p->b.id, &protocol, 1, 0, 0,
                                             way == 2 ? on_open_and_reset : sim_on_open,
                                             &answers[i], &op),
                       0);
      if (way == 2 && i % 3 == 0)
        pu_op_cancel(op);
    }
    sim_run_for(p->sim, 10 * SIM_SECOND);
    for (size_t i = 0; i < MANY; i++)
      assert_int_equal(answers[i].calls, 1);
  }
  no_streams_left(p);
}

/* ---- ends ---- */

static void test_resets(void **state) {
  pair *p = *state;
  static user u;
  use(&u, open_stream(p, SINK, 0));
  sim_run_for(p->sim, SIM_SECOND);
  pu_stream_reset(u.s, 0x1234);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.ends, 0); /* ours: not told */
  assert_int_equal(sink.ends, 1);
  assert_int_equal(sink.status, PU_E_RESET);
  assert_int_equal(sink.code, 0x1234);
  use(&u, open_stream(p, SINK, 0));
  sim_run_for(p->sim, SIM_SECOND);
  pu_stream_reset(p->last, 0x4321);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.ends, 1);
  assert_int_equal(u.code, 0x4321);
  no_streams_left(p);
}

static void test_the_connection_goes(void **state) {
  pair *p = *state;
  static user u;
  static sim_answer answer;
  for (int how = 0; how < 3; how++) {
    use(&u, open_stream(p, SINK, 0));
    sim_run_for(p->sim, SIM_SECOND);
    (void)start_open(p, ECHO, 0, &answer);
    if (how == 0)
      pu_sim_cut(p->sim, NULL, NULL);
    else if (how == 1)
      pu_conn_close(pu_stream_conn(u.s));
    else
      (void)pu_engine_disconnect(p->b.engine, &p->a.id);
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(u.ends, 1);
    assert_int_equal(u.status, PU_E_GONE);
    assert_int_equal(sink.ends, 1);
    assert_int_equal(sink.status, PU_E_GONE);
    assert_int_equal(answer.calls, 1);
    if (answer.status == 0)
      pu_stream_close(answer.stream);
    else
      assert_int_equal(answer.status, PU_E_GONE);
  }
}

static void test_ended_inside_callbacks(void **state) {
  pair *p = *state;
  for (int what = CLOSE; what <= CLOSE_CONN; what++) {
    for (int serving = 0; serving < 2; serving++) {
      static user u;
      use(&u, open_stream(p, serving == 1 ? SINK : TALKS, 0));
      if (serving == 1) {
        sim_run_for(p->sim, SIM_SECOND);
        sink.in_data = what;
        say(p, u.s, "go");
      } else {
        u.in_data = what;
        pu_stream_resume(u.s);
      }
      sim_run_for(p->sim, SIM_SECOND);
      assert_int_equal(serving == 1 ? sink.got : u.got, serving == 1 ? 2 : 5);
      if (what != CLOSE_CONN) {
        if (what == CLOSE) { /* the other side still has its own */
          pu_stream_close(serving == 1 ? u.s : sink.s);
        }
        no_streams_left(p);
      }
    }
  }
}

static void test_half_close_and_slow_reader(void **state) {
  pair *p = *state;
  static uint8_t bytes[200000];
  static user u;
  use(&u, open_stream(p, SINK, PU_OPEN_LAZY));
  send(p, u.s, bytes, sizeof(bytes));
  assert_int_equal(pu_stream_close_write(u.s), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(sink.got, sizeof(bytes));
  assert_int_equal(sink.eofs, 1);
  say(p, p->last, "answer"); /* the other direction lives */
  sim_run_for(p->sim, SIM_SECOND);
  assert_string_equal(u.text, "answer");
  pu_stream_close(p->last);
  pu_stream_close(u.s);
  no_streams_left(p);
  /* A reader that takes nothing holds the writer at the window, its end waits behind the bytes. */
  use(&u, open_stream(p, SINK, 0));
  sim_run_for(p->sim, SIM_SECOND);
  sink.take = 0;
  size_t sent = 0;
  for (int i = 0; i < 30; i++) {
    ssize_t n = pu_stream_write(u.s, bytes, sizeof(bytes));
    assert_true(n >= 0);
    sent += (size_t)n;
    sim_run_for(p->sim, SIM_SECOND);
  }
  /* The negotiation's bytes took part of the window. */
  assert_in_range(sent, PU_YAMUX_WINDOW_START - 64, PU_YAMUX_WINDOW_START);
  assert_int_equal(pu_stream_space(u.s), 0);
  u.writables = 0;
  sink.take = SIZE_MAX;
  pu_stream_resume(p->last);
  assert_int_equal(sink.got, sent);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(u.writables, 1);
  assert_true(pu_stream_space(u.s) > 0);
  pu_stream_close(p->last);
  pu_stream_close(u.s);
  no_streams_left(p);
}

static void test_write_larger_than_the_window(void **state) {
  pair *p = *state;
  static uint8_t bytes[1u << 20];
  static user u;
  static sim_answer answer;
  /* Also as the first word of a lazy stream. */
  (void)start_open(p, SINK, PU_OPEN_LAZY, &answer);
  sim_run_for(p->sim, 0);
  use(&u, answer.stream);
  send(p, u.s, bytes, PU_YAMUX_WINDOW_START + 1);
  ssize_t n = pu_stream_write(u.s, bytes, sizeof(bytes));
  assert_true(n >= 0 && n < (ssize_t)sizeof(bytes));
  sim_run_for(p->sim, SIM_SECOND);
  assert_true(u.writables > 0);
  send(p, u.s, bytes, 50000);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(sink.got, PU_YAMUX_WINDOW_START + 1 + (size_t)n + 50000);
  pu_stream_close(p->last);
  pu_stream_close(u.s);
  no_streams_left(p);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_echo),
      TEST(test_lazy_saves_a_round_trip),
      TEST(test_the_server_speaks_first),
      TEST(test_events_set_late),
      TEST(test_first_that_is_spoken),
      TEST(test_lazy_and_refused),
      TEST(test_refused_by_handler_and_policy),
      TEST(test_recheck_ends_streams),
      TEST(test_cancelled_and_timed_out),
      TEST(test_without_dialing),
      TEST(test_more_than_unacknowledged),
      TEST(test_ten_thousand),
      cmocka_unit_test_setup_teardown(test_limits_of_the_server, setup_small, teardown),
      cmocka_unit_test_setup_teardown(test_waiting_behind_refused, setup_small, teardown),
      cmocka_unit_test_setup_teardown(test_waiting_behind_ended, setup_small, teardown),
      cmocka_unit_test_setup_teardown(test_waiting_behind_ended, setup_small_quic, teardown),
      TEST(test_resets),
      TEST(test_the_connection_goes),
      TEST(test_ended_inside_callbacks),
      TEST(test_half_close_and_slow_reader),
      TEST(test_write_larger_than_the_window),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
