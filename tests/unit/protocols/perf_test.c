/* Perf between whole hosts of the simulated network: every byte is counted on both sides, and it
 * ends as it should when the other side is silent, wrong, refuses or is gone, and without memory.
 */
#include "protocols/perf.h"

#include "support/sim_hosts.h"
#include "support/unit.h"

#define DELAY_US 5000u

typedef struct pair {
  pu_sim *sim;
  sim_host a, b;
} pair;

typedef struct outcome {
  unsigned calls, steps;
  bool done;
  int status;
  char detail[256];
  pu_perf_result result, stepped;
} outcome;

static void on_perf(void *data, int status, const pu_error *err, const pu_perf_result *result) {
  outcome *o = data;
  o->calls++;
  o->done = true;
  o->status = status;
  o->result = *result;
  (void)snprintf(o->detail, sizeof(o->detail), "%s", err->detail);
}

static void on_step(void *data, const pu_perf_result *step) {
  outcome *o = data;
  o->steps++;
  o->stepped.uploaded += step->uploaded;
  o->stepped.downloaded += step->downloaded;
  o->stepped.elapsed_us += step->elapsed_us;
}

static void start_pair(pair *p) {
  assert_int_equal(pu_sim_new(1, &p->sim), 0);
  const pu_sim_link link = {.delay_us = DELAY_US};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &link), 0);
  sim_host_start(p->sim, &p->a, 1, NULL);
  sim_host_start(p->sim, &p->b, 2, NULL);
  sim_host_knows(&p->a, &p->b);
}

static int setup(void **state) {
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  start_pair(p);
  *state = p;
  return 0;
}

static int setup_quic(void **state) {
  sim_quic = true;
  return setup(state);
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

static int begin(pair *p, const pu_perf_config *config, outcome *o, pu_op **op) {
  *o = (outcome){0};
  return pu_engine_perf(p->a.engine, &p->b.id, config, on_perf, o, op);
}

static int measure(pair *p, const pu_perf_config *config, outcome *o) {
  pu_op *op;
  const int rc = begin(p, config, o, &op);
  if (rc != 0)
    return rc;
  assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 300 * SIM_SECOND, &o->done));
  assert_int_equal(o->calls, 1);
  return o->status;
}

/* Sizes around those of a header, a record and several windows, in both directions. */
static void test_sizes(void **state) {
  pair *p = *state;
  static const uint64_t sizes[] = {0, 1, 8, 65535, 65536, 65537, 3000000};
  outcome o;
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  for (size_t i = 0; i < PU_COUNT(sizes); i++) {
    for (size_t j = 0; j < PU_COUNT(sizes); j++) {
      const pu_perf_config config = {.upload_bytes = sizes[i], .download_bytes = sizes[j]};
      assert_int_equal(measure(p, &config, &o), 0);
      assert_int_equal(o.result.uploaded, sizes[i]);
      assert_int_equal(o.result.downloaded, sizes[j]);
      assert_true(o.result.elapsed_us >= DELAY_US);
    }
  }
  sim_run_for(p->sim, SIM_SECOND);
  pu_conn_info info;
  pu_conn_info_get(pu_engine_best_conn(p->a.engine, &p->b.id), &info);
  assert_int_equal(info.streams, 0);
}

/* A slow path: a step every second, and all steps together are less than a second's worth short. */
static void test_progress(void **state) {
  pair *p = *state;
  const pu_sim_link slow = {.delay_us = DELAY_US, .rate_bytes_s = 1000000};
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &slow), 0);
  const pu_perf_config config = {
      .upload_bytes = 5000000, .download_bytes = 5000000, .progress = on_step};
  outcome o;
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  assert_int_equal(measure(p, &config, &o), 0);
  assert_in_range(o.result.elapsed_us, 10 * SIM_SECOND, 13 * SIM_SECOND);
  assert_int_equal(o.steps, o.result.elapsed_us / SIM_SECOND);
  assert_int_equal(o.stepped.elapsed_us, o.steps * (uint64_t)SIM_SECOND);
  assert_int_equal(o.stepped.uploaded, 5000000);
  assert_in_range(o.stepped.downloaded, 3500000, 5000000);
}

static void test_not_served(void **state) {
  pair *p = *state;
  const pu_perf_config config = {.upload_bytes = 1000, .download_bytes = 1000};
  outcome o;
  assert_int_equal(measure(p, &config, &o), PU_E_UNSUPPORTED);
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  assert_int_equal(pu_engine_perf_serve(p->b.engine), PU_E_EXISTS);
  p->b.denied = 1u << PU_ASK_STREAM;
  assert_int_equal(measure(p, &config, &o), PU_E_RESET);
  p->b.denied = 0;
  assert_int_equal(measure(p, &config, &o), 0);
}

static void test_silence(void **state) {
  pair *p = *state;
  const pu_perf_config config = {.upload_bytes = 50000000, .download_bytes = 50000000};
  const pu_sim_link slow = {.delay_us = DELAY_US, .rate_bytes_s = 1000000}, down = {.down = true};
  outcome o;
  pu_op *op;
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &slow), 0);
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  assert_int_equal(begin(p, &config, &o, &op), 0);
  sim_run_for(p->sim, 5 * SIM_SECOND);
  assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, &down), 0);
  const uint64_t from = pu_sim_now_us(p->sim);
  assert_true(pu_sim_run(p->sim, from + 100 * SIM_SECOND, &o.done));
  assert_true(o.status == PU_E_TIMEOUT || o.status == PU_E_GONE);
  assert_true(pu_sim_now_us(p->sim) - from <= PU_PERF_IDLE_US + 2 * SIM_SECOND);
  /* And the deadline of the caller's own. */
  const pu_perf_config hasty = {.upload_bytes = 1000, .timeout_ms = 2000};
  (void)pu_engine_disconnect(p->a.engine, &p->b.id);
  assert_int_equal(measure(p, &hasty, &o), PU_E_TIMEOUT);
}

/* Cancelled at every stage: before the connection, in the handshake, sending, receiving. */
static void test_cancelled(void **state) {
  pair *p = *state;
  const pu_perf_config config = {.upload_bytes = 8000000, .download_bytes = 8000000};
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  for (uint64_t after_us = 0; after_us < 60 * DELAY_US; after_us += DELAY_US) {
    outcome o;
    pu_op *op;
    assert_int_equal(begin(p, &config, &o, &op), 0);
    sim_run_for(p->sim, after_us);
    if (!o.done) {
      pu_op_cancel(op);
      assert_int_equal(o.calls, 0); /* never from inside the call */
      sim_run_for(p->sim, 1);
      assert_int_equal(o.status, PU_E_CANCELED);
    }
    sim_run_for(p->sim, SIM_SECOND);
    assert_int_equal(o.calls, 1);
    if (after_us % (2 * DELAY_US) == 0)
      (void)pu_engine_disconnect(p->a.engine, &p->b.id);
  }
}

static void test_cut(void **state) {
  pair *p = *state;
  const pu_perf_config config = {.upload_bytes = 8000000, .download_bytes = 8000000};
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  for (uint64_t after_us = 3 * DELAY_US; after_us < 40 * DELAY_US; after_us += DELAY_US) {
    outcome o;
    pu_op *op;
    assert_int_equal(begin(p, &config, &o, &op), 0);
    sim_run_for(p->sim, after_us);
    pu_sim_cut(p->sim, NULL, NULL);
    assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 60 * SIM_SECOND, &o.done));
    assert_int_equal(o.calls, 1);
  }
}

/* An engine closes in the middle, on either side. */
static void test_closed(void **state) {
  pair *p = *state;
  const pu_perf_config config = {.upload_bytes = 80000000};
  outcome o[3] = {0};
  pu_op *op;
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  for (size_t i = 0; i < PU_COUNT(o); i++)
    assert_int_equal(begin(p, &config, &o[i], &op), 0);
  sim_run_for(p->sim, 10 * DELAY_US);
  sim_host_end(&p->b);
  assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 60 * SIM_SECOND, &o[2].done));
  assert_int_equal(begin(p, &config, &o[0], &op), 0);
  sim_host_end(&p->a);
  for (size_t i = 0; i < PU_COUNT(o); i++)
    assert_int_equal(o[i].calls, 1);
}

/* ---- servers that are not what they should be ---- */

typedef enum manner { MORE, LESS, AT_ONCE, NEVER } manner;
static manner how;

static size_t on_rogue_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                            size_t tail) {
  (void)user;
  (void)s;
  (void)data;
  (void)head;
  (void)tail;
  return how == NEVER ? 0 : len;
}
static void on_rogue_eof(void *user, pu_stream *s) {
  static const uint8_t bytes[64];
  const size_t len = how == MORE ? 33 : 31;
  (void)user;
  assert_int_equal(pu_stream_write(s, bytes, len), len);
  pu_stream_close(s);
}
static void on_rogue_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)user;
  (void)s;
  (void)status;
  (void)code;
}
static const pu_stream_events rogue_events = {on_rogue_data, on_rogue_eof, NULL, on_rogue_end};
static int on_rogue(void *data, pu_stream *s) {
  pu_stream_set_events(s, &rogue_events, data);
  if (how == AT_ONCE)
    (void)pu_stream_close_write(s);
  return 0;
}

static void test_rogues(void **state) {
  pair *p = *state;
  static const struct {
    manner how;
    int status;
  } cases[] = {{MORE, PU_E_PROTOCOL}, {LESS, PU_E_EOF}, {AT_ONCE, PU_E_EOF}, {NEVER, PU_E_TIMEOUT}};
  const pu_perf_config config = {.upload_bytes = 100000000, .download_bytes = 32};
  const pu_perf_config little = {.upload_bytes = 1000, .download_bytes = 32};
  outcome o;
  assert_int_equal(pu_engine_handle(p->b.engine, PU_PERF_ID, on_rogue, NULL), 0);
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    how = cases[i].how;
    assert_int_equal(measure(p, how == MORE || how == LESS ? &little : &config, &o),
                     cases[i].status);
  }
}

/* ---- clients that are not ---- */

static const pu_stream_events client_events = {NULL, NULL, NULL, on_rogue_end};

static pu_stream *open_client(pair *p) {
  static const char *const protocols[] = {PU_PERF_ID};
  sim_answer answer = {0};
  pu_op *op;
  assert_int_equal(
      pu_engine_open_stream(p->a.engine, &p->b.id, protocols, 1, 0, 0, sim_on_open, &answer, &op),
      0);
  assert_true(pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 10 * SIM_SECOND, &answer.done));
  if (answer.status == 0)
    pu_stream_set_events(answer.stream, &client_events, NULL);
  return answer.stream;
}

static uint32_t served_streams(pair *p) {
  pu_conn_info info;
  pu_conn_info_get(pu_engine_best_conn(p->b.engine, &p->a.id), &info);
  return info.streams;
}

static void test_bad_clients(void **state) {
  pair *p = *state;
  static const uint8_t endless[8] = {255, 255, 255, 255, 255, 255, 255, 255};
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  /* Half a header, then the end; then nothing at all. */
  pu_stream *s = open_client(p);
  assert_int_equal(pu_stream_write(s, endless, 4), 4);
  assert_int_equal(pu_stream_close_write(s), 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(served_streams(p), 0);
  (void)open_client(p);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(served_streams(p), 1);
  sim_run_for(p->sim, 2 * (uint64_t)PU_PERF_IDLE_US);
  assert_int_equal(p->b.events[PU_EVENT_DISCONNECTED], 0);
  assert_int_equal(served_streams(p), 0);
  /* Wants everything and reads nothing: memory stays bounded, and it is given up. */
  s = open_client(p);
  assert_int_equal(pu_stream_write(s, endless, 8), 8);
  assert_int_equal(pu_stream_close_write(s), 0);
  sim_run_for(p->sim, 10 * SIM_SECOND);
  assert_true(pu_engine_memory(p->b.engine) < 4u << 20);
  pu_stream_reset(s, 0);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(served_streams(p), 0);
}

/* Wants everything, and then neither reads nor sends any more: the server learns it and stops. */
static void test_deserts(void **state) {
  pair *p = *state;
  static const uint8_t endless[8] = {255, 255, 255, 255, 255, 255, 255, 255};
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  pu_stream *s = open_client(p);
  assert_int_equal(pu_stream_write(s, endless, 8), 8);
  assert_int_equal(pu_stream_close_write(s), 0);
  pu_stream_close(s);
  sim_run_for(p->sim, 10 * SIM_SECOND);
  assert_int_equal(served_streams(p), 0);
}

static void test_too_many(void **state) {
  pair *p = *state;
  const pu_perf_config config = {.upload_bytes = 10};
  outcome o;
  assert_int_equal(pu_engine_perf_serve(p->b.engine), 0);
  for (unsigned i = 0; i < PU_PERF_SERVED_MAX; i++)
    assert_non_null(open_client(p));
  assert_int_equal(measure(p, &config, &o), PU_E_RESET);
  (void)pu_engine_disconnect(p->a.engine, &p->b.id);
  sim_run_for(p->sim, SIM_SECOND);
  assert_int_equal(measure(p, &config, &o), 0);
}

/* Each allocation of the client's fails in turn. */
static void test_no_memory(void **state) {
  const pu_perf_config config = {.upload_bytes = 300000, .download_bytes = 300000};
  (void)state;
  bool through = false;
  for (uint64_t n = 1; !through && n < 2000; n++) {
    pair p = {0};
    outcome o = {0};
    pu_op *op;
    assert_int_equal(pu_sim_new(1, &p.sim), 0);
    sim_host_start(p.sim, &p.b, 2, NULL);
    assert_int_equal(pu_engine_perf_serve(p.b.engine), 0);
    sim_host_add(p.sim, &p.a, 1);
    if (sim_host_begin(&p.a, NULL, n) == 0) {
      sim_host_knows(&p.a, &p.b);
      if (begin(&p, &config, &o, &op) == 0) {
        assert_true(pu_sim_run(p.sim, pu_sim_now_us(p.sim) + 200 * SIM_SECOND, &o.done));
        assert_int_equal(o.calls, 1);
        through = o.status == 0 && n > 1000;
        if (o.status == 0) {
          assert_int_equal(o.result.downloaded, 300000);
        }
      }
      sim_host_end(&p.a);
    }
    sim_host_end(&p.b);
    assert_int_equal(pu_sim_open_sockets(p.sim), 0);
    pu_sim_free(p.sim);
  }
  assert_true(through);
}

int main(void) {
#define PERF_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      PERF_TEST(test_sizes),
      cmocka_unit_test_setup_teardown(test_sizes, setup_quic, teardown),
      PERF_TEST(test_progress),
      PERF_TEST(test_not_served),
      PERF_TEST(test_silence),
      PERF_TEST(test_cancelled),
      cmocka_unit_test_setup_teardown(test_cancelled, setup_quic, teardown),
      PERF_TEST(test_cut),
      PERF_TEST(test_closed),
      PERF_TEST(test_rogues),
      PERF_TEST(test_bad_clients),
      cmocka_unit_test_setup_teardown(test_bad_clients, setup_quic, teardown),
      cmocka_unit_test_setup_teardown(test_deserts, setup_quic, teardown),
      PERF_TEST(test_too_many),
      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
