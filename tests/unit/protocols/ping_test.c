/* Ping between whole hosts of the simulated network: what it measures, and how it ends when the
 * other side is slow, silent, wrong or gone. */
#include "protocols/ping.h"

#include "support/sim_hosts.h"
#include "support/unit.h"

#define DELAY_US 40000u

typedef struct pair {
  pu_sim *sim;
  sim_host a, b;
} pair;

static int setup(void **state) {
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  assert_int_equal(pu_sim_new(1, &p->sim), 0);
  const pu_sim_link link = {.delay_us = DELAY_US};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &link), 0);
  sim_host_start(p->sim, &p->a, 1, NULL);
  sim_host_start(p->sim, &p->b, 2, NULL);
  sim_host_knows(&p->a, &p->b);
  *state = p;
  return 0;
}

static int teardown(void **state) {
  pair *p = *state;
  sim_host_end(&p->a);
  sim_host_end(&p->b);
  assert_int_equal(pu_sim_open_sockets(p->sim), 0);
  pu_sim_free(p->sim);
  free(p);
  return 0;
}

static void test_round_trip(void **state) {
  pair *p = *state;
  sim_answer answer;
  /* A read or write that comes short costs a microsecond. */
  assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0); /* connects first */
  assert_in_range(answer.rtt_us, 2 * DELAY_US, 2 * DELAY_US + 10);
  assert_int_equal(sim_ping(&p->b, &p->a, &answer), 0);
  assert_in_range(answer.rtt_us, 2 * DELAY_US, 2 * DELAY_US + 10);
  for (int i = 0; i < 20; i++)
    assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0);
  sim_run_for(p->sim, SIM_SECOND);
  pu_conn_info info;
  pu_conn_info_get(pu_engine_best_conn(p->a.engine, &p->b.id), &info);
  assert_int_equal(info.streams, 0);
}

static void test_nowhere(void **state) {
  pair *p = *state;
  sim_answer answer;
  assert_int_equal(sim_ping(&p->b, &p->a, &answer), PU_E_NO_ADDRESS);
  assert_int_equal(answer.calls, 1);
}

static void test_cancelled(void **state) {
  pair *p = *state;
  /* At every stage: before the connection, during the handshake, while the answer is under way. */
  for (uint64_t after_us = 0; after_us < 8 * DELAY_US; after_us += DELAY_US / 2) {
    sim_answer answer = {0};
    pu_op *op;
    assert_int_equal(pu_engine_ping(p->a.engine, &p->b.id, 0, sim_on_ping, &answer, &op), 0);
    sim_run_for(p->sim, after_us);
    if (!answer.done) {
      pu_op_cancel(op);
      assert_int_equal(answer.calls, 0); /* never from inside the call */
      sim_run_for(p->sim, 1);
      assert_int_equal(answer.status, PU_E_CANCELED);
    }
    assert_int_equal(answer.calls, 1);
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(answer.calls, 1);
    (void)pu_engine_disconnect(p->a.engine, &p->b.id);
  }
}

static void test_time_out(void **state) {
  pair *p = *state;
  sim_answer answer;
  pu_op *op;
  assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0);
  const pu_sim_link down = {.down = true};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &down), 0);
  answer = (sim_answer){0};
  const uint64_t begin = pu_sim_now_us(p->sim);
  assert_int_equal(pu_engine_ping(p->a.engine, &p->b.id, 2000, sim_on_ping, &answer, &op), 0);
  assert_true(pu_sim_run(p->sim, begin + 10 * SIM_SECOND, &answer.done));
  assert_int_equal(answer.status, PU_E_TIMEOUT);
  assert_int_equal(pu_sim_now_us(p->sim) - begin, 2 * SIM_SECOND);
}

static void test_cut(void **state) {
  pair *p = *state;
  sim_answer answer = {0};
  pu_op *op;
  assert_int_equal(sim_ping(&p->a, &p->b, &answer), 0);
  answer = (sim_answer){0};
  assert_int_equal(pu_engine_ping(p->a.engine, &p->b.id, 0, sim_on_ping, &answer, &op), 0);
  sim_run_for(p->sim, DELAY_US);
  pu_sim_cut(p->sim, NULL, NULL);
  assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + SIM_SECOND, &answer.done));
  assert_int_equal(answer.status, PU_E_GONE);
  assert_int_equal(answer.calls, 1);
}

/* Several at once, the engine closing under them: each is told once. */
static void test_engine_closes(void **state) {
  pair *p = *state;
  sim_answer answers[8] = {0};
  pu_op *op;
  for (size_t i = 0; i < PU_COUNT(answers); i++)
    assert_int_equal(pu_engine_ping(p->a.engine, &p->b.id, 0, sim_on_ping, &answers[i], &op), 0);
  sim_run_for(p->sim, 3 * DELAY_US);
  sim_host_end(&p->a);
  for (size_t i = 0; i < PU_COUNT(answers); i++) {
    assert_int_equal(answers[i].calls, 1);
    assert_int_equal(answers[i].status, PU_E_CANCELED);
  }
}

/* ---- other answers than a ping's ---- */

typedef enum manner { WRONG, SHORT, RESETS, CLOSES } manner;
static manner how;

static size_t on_rogue_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                            size_t tail) {
  (void)user;
  (void)head;
  (void)tail;
  data[len - 1] ^= 1;
  if (how == WRONG)
    assert_int_equal(pu_stream_write(s, data, len), len);
  else if (how == SHORT)
    assert_int_equal(pu_stream_write(s, data, len - 1), len - 1);
  else if (how == CLOSES)
    pu_stream_close(s);
  else
    pu_stream_reset(s, 7);
  return len;
}
static void on_rogue_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)user;
  (void)s;
  (void)status;
  (void)code;
}
static const pu_stream_events rogue_events = {on_rogue_data, NULL, NULL, on_rogue_end};
static int on_rogue(void *data, pu_stream *s) {
  pu_stream_set_events(s, &rogue_events, data);
  return 0;
}

static void test_other_answers(void **state) {
  pair *p = *state;
  static const struct {
    manner how;
    int status;
  } cases[] = {
      {WRONG, PU_E_PROTOCOL}, {SHORT, PU_E_TIMEOUT}, {RESETS, PU_E_RESET}, {CLOSES, PU_E_EOF}};
  sim_answer answer;
  pu_op *op;
  pu_engine_unserve(p->b.engine, PU_PING_ID);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(sim_ping(&p->a, &p->b, &answer), PU_E_UNSUPPORTED);
  assert_int_equal(pu_engine_handle(p->b.engine, PU_PING_ID, on_rogue, NULL), 0);
  sim_run_for(p->sim, SIM_SECOND);
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    how = cases[i].how;
    answer = (sim_answer){0};
    assert_int_equal(pu_engine_ping(p->a.engine, &p->b.id, 3000, sim_on_ping, &answer, &op), 0);
    assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 10 * SIM_SECOND, &answer.done));
    assert_int_equal(answer.status, cases[i].status);
    assert_int_equal(answer.calls, 1);
  }
}

/* ---- the answering side ---- */

typedef struct reader {
  size_t got;
  bool eof, ended;
  uint8_t last[PU_PING_BYTES];
  bool deaf;
} reader;

static size_t on_read(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  reader *r = user;
  (void)s;
  (void)head;
  (void)tail;
  if (r->deaf)
    return 0;
  for (size_t i = 0; i < len; i++)
    r->last[(r->got + i) % PU_PING_BYTES] = data[i];
  r->got += len;
  return len;
}
static void on_read_eof(void *user, pu_stream *s) {
  (void)s;
  ((reader *)user)->eof = true;
}
static void on_read_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)s;
  (void)status;
  (void)code;
  ((reader *)user)->ended = true;
}
static const pu_stream_events reader_events = {on_read, on_read_eof, NULL, on_read_end};

static pu_stream *open_ping(pair *p, reader *r) {
  static const char *const protocols[] = {PU_PING_ID};
  sim_answer answer = {0};
  pu_op *op;
  assert_int_equal(
      pu_engine_open_stream(p->a.engine, &p->b.id, protocols, 1, 0, 0, sim_on_open, &answer, &op),
      0);
  assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 10 * SIM_SECOND, &answer.done));
  assert_int_equal(answer.status, 0);
  pu_stream_set_events(answer.stream, &reader_events, r);
  return answer.stream;
}

static void test_echo_in_pieces(void **state) {
  pair *p = *state;
  reader r = {0};
  pu_stream *s = open_ping(p, &r);
  uint8_t ping[PU_PING_BYTES];
  for (size_t i = 0; i < sizeof(ping); i++)
    ping[i] = (uint8_t)(i * 7);
  for (size_t i = 0; i < sizeof(ping); i++) {
    assert_int_equal(r.got, 0); /* nothing before the whole */
    assert_int_equal(pu_stream_write(s, ping + i, 1), 1);
    sim_run_for(p->sim, 3 * DELAY_US);
  }
  assert_int_equal(r.got, PU_PING_BYTES);
  assert_memory_equal(r.last, ping, sizeof(ping));
  /* Several in one write, and one more byte, which stays unanswered. */
  uint8_t many[5 * PU_PING_BYTES + 1] = {0};
  memcpy(many + 4 * PU_PING_BYTES, ping, sizeof(ping));
  assert_int_equal(pu_stream_write(s, many, sizeof(many)), sizeof(many));
  sim_run_for(p->sim, 3 * DELAY_US);
  assert_int_equal(r.got, 6 * PU_PING_BYTES);
  assert_memory_equal(r.last, ping, sizeof(ping));
  pu_stream_close(s);
}

static void test_echo_deadlines(void **state) {
  pair *p = *state;
  const uint8_t ping[PU_PING_BYTES] = {1};
  reader idle = {0}, busy = {0};
  pu_stream *s = open_ping(p, &idle);
  sim_run_for(p->sim, PU_PING_IDLE_US - SIM_SECOND);
  assert_false(idle.eof);
  sim_run_for(p->sim, 2 * SIM_SECOND);
  assert_true(idle.eof);
  pu_stream_close(s);
  s = open_ping(p, &busy);
  for (unsigned second = 1; second < 40 && !busy.eof; second++) {
    assert_true(second < 33);
    assert_int_equal(pu_stream_write(s, ping, sizeof(ping)), sizeof(ping));
    sim_run_for(p->sim, SIM_SECOND);
    assert_true(busy.eof == (second >= 30) || second == 30);
  }
  assert_true(busy.eof);
  pu_stream_close(s);
}

/* Who floods and does not read is held back: the echo keeps one ping, windows keep the rest. */
static void test_flood(void **state) {
  pair *p = *state;
  static uint8_t zeros[65536];
  reader r = {.deaf = true};
  pu_stream *s = open_ping(p, &r);
  size_t sent = 0;
  for (int i = 0; i < 40; i++) { /* within the echo's patience */
    ssize_t n = pu_stream_write(s, zeros, sizeof(zeros));
    assert_true(n >= 0);
    sent += (size_t)n;
    sim_run_for(p->sim, 3 * DELAY_US);
  }
  /* One window under way to b and one back to a, and what grew of them. */
  assert_true(sent >= 384u * 1024 && sent < 40u * 1024 * 1024);
  ssize_t more = pu_stream_write(s, zeros, sizeof(zeros));
  assert_true(more >= 0);
  assert_true(pu_engine_memory(p->b.engine) < 20u * 1024 * 1024);
  r.deaf = false;
  pu_stream_resume(s);
  sim_run_for(p->sim, 5 * SIM_SECOND);
  sent += (size_t)more;
  assert_int_equal(r.got, sent / PU_PING_BYTES * PU_PING_BYTES);
  pu_stream_close(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
      cmocka_unit_test_setup_teardown(test_nowhere, setup, teardown),
      cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
      cmocka_unit_test_setup_teardown(test_time_out, setup, teardown),
      cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
      cmocka_unit_test_setup_teardown(test_engine_closes, setup, teardown),
      cmocka_unit_test_setup_teardown(test_other_answers, setup, teardown),
      cmocka_unit_test_setup_teardown(test_echo_in_pieces, setup, teardown),
      cmocka_unit_test_setup_teardown(test_echo_deadlines, setup, teardown),
      cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
