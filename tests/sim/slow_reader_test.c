/* A reader that is slower than its connection lives: what came before the end is not lost, and what
 * the peer has still to take keeps the connection. Over yamux and over QUIC. */
#include "support/sim_hosts.h"
#include "support/unit.h"

#define FILE_ID "/test/file/1.0.0"
#define IDLE_MS 60000u
#define HOUR (3600u * SIM_SECOND)

/* Who gets the file. */
typedef struct reader {
  pu_stream *s;
  size_t got, take, most;     /* take: bytes of each offer; most: of all for now; 0: no bound */
  unsigned eofs, ends, order; /* order: eofs when the end came */
  int status;
  bool wrong; /* a byte was another than it should be */
  bool close_in_data;
} reader;

/* Who sends it. */
typedef struct sender {
  pu_stream *s;
  size_t sent, size;
  bool finish; /* close behind the last byte */
  unsigned ends;
} sender;

typedef struct net {
  pu_sim *sim;
  sim_host a, b;
  reader r;
  sender w;
} net;

static uint8_t byte_at(size_t at) {
  return (uint8_t)((at * 2654435761u) >> 13);
}

static size_t on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  reader *r = user;
  (void)head;
  (void)tail;
  size_t n = len < r->take ? len : r->take;
  if (r->most != 0 && n > r->most - r->got)
    n = r->most - r->got;
  for (size_t i = 0; i < n; i++)
    r->wrong = r->wrong || data[i] != byte_at(r->got + i);
  r->got += n;
  if (n > 0 && r->close_in_data)
    pu_stream_close(s);
  return n;
}

static void on_eof(void *user, pu_stream *s) {
  (void)s;
  ((reader *)user)->eofs++;
}

static void on_end(void *user, pu_stream *s, int status, uint32_t code) {
  reader *r = user;
  (void)s;
  (void)code;
  r->ends++;
  r->order = r->eofs;
  r->status = status;
}

static const pu_stream_events reader_events = {on_data, on_eof, NULL, on_end};

static void send_more(void *user, pu_stream *s) {
  sender *w = user;
  static uint8_t block[65536];
  while (w->s != NULL && w->sent < w->size) {
    const size_t left = w->size - w->sent, n = left < sizeof block ? left : sizeof block;
    for (size_t i = 0; i < n; i++)
      block[i] = byte_at(w->sent + i);
    const ssize_t taken = pu_stream_write(s, block, n);
    assert_true(taken >= 0);
    w->sent += (size_t)taken;
    if ((size_t)taken < n)
      return;
  }
  if (w->s != NULL && w->finish) {
    w->s = NULL;
    pu_stream_close(s);
  }
}

static void sender_end(void *user, pu_stream *s, int status, uint32_t code) {
  sender *w = user;
  (void)s;
  (void)status;
  (void)code;
  w->s = NULL;
  w->ends++;
}

static const pu_stream_events sender_events = {NULL, NULL, send_more, sender_end};

static int on_file(void *data, pu_stream *s) {
  net *n = data;
  n->w.s = s;
  pu_stream_set_events(s, &sender_events, &n->w);
  send_more(&n->w, s);
  return 0;
}

/* begin has b send |size| bytes to a, who takes none of them yet. */
static void begin(net *n, size_t size, bool finish) {
  static const char *const protocol = FILE_ID;
  const pu_limits limits = {.idle_ms = IDLE_MS};
  const pu_sim_link link = {.delay_us = 10000};
  sim_answer answer = {0};
  pu_op *op;
  *n = (net){.w = {.size = size, .finish = finish}};
  assert_int_equal(pu_sim_new(1, &n->sim), 0);
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, &link), 0);
  sim_host_start(n->sim, &n->a, 1, &limits);
  sim_host_start(n->sim, &n->b, 2, &limits);
  sim_host_knows(&n->a, &n->b);
  assert_int_equal(pu_engine_handle(n->b.engine, FILE_ID, on_file, n), 0);
  assert_int_equal(
      pu_engine_open_stream(n->a.engine, &n->b.id, &protocol, 1, 0, 0, sim_on_open, &answer, &op),
      0);
  assert_true(pu_sim_run(n->sim, 60 * SIM_SECOND, &answer.done));
  assert_int_equal(answer.status, 0);
  n->r.s = answer.stream;
  pu_stream_set_events(n->r.s, &reader_events, &n->r);
  assert_int_equal(pu_stream_close_write(n->r.s), 0);
  pu_stream_resume(n->r.s);
}

static void end(net *n) {
  sim_host_end(&n->a);
  sim_host_end(&n->b);
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
}

static void read_on(net *n, size_t take) {
  n->r.take = take;
  pu_stream_resume(n->r.s);
}

static unsigned gone(const sim_host *h) {
  return h->events[PU_EVENT_DISCONNECTED];
}

/* The sender has closed its stream, and a minute later its connection. */
static void test_closed_as_idle(void **state) {
  net n;
  (void)state;
  begin(&n, 100000, true);
  sim_run_for(n.sim, 300 * SIM_SECOND);
  assert_int_equal(gone(&n.a), 1);
  assert_int_equal(gone(&n.b), 1);
  assert_int_equal(n.r.ends, 0);
  assert_int_equal(n.r.got, 0);
  /* To what is gone nothing is written, and that is no failure before the reader has all. */
  assert_int_equal(pu_stream_space(n.r.s), 0);
  assert_string_equal(pu_stream_protocol(n.r.s), FILE_ID);
  assert_int_equal(pu_stream_close_write(n.r.s), PU_E_GONE);
  read_on(&n, 1000); /* once; then it is slow again */
  assert_int_equal(n.r.got, 1000);
  assert_int_equal(n.r.ends, 0);
  sim_run_for(n.sim, 300 * SIM_SECOND);
  read_on(&n, SIZE_MAX);
  assert_int_equal(n.r.got, 100000);
  assert_false(n.r.wrong);
  assert_int_equal(n.r.eofs, 1);
  assert_int_equal(n.r.order, 1);
  assert_int_equal(n.r.ends, 1); /* a stream ends with close or on_end */
  assert_int_equal(n.r.status, PU_E_GONE);
  end(&n);
}

/* It has not finished, and its program ends. */
static void test_broken_off(void **state) {
  net n;
  (void)state;
  begin(&n, 100000, false);
  sim_run_for(n.sim, SIM_SECOND);
  assert_int_equal(n.w.sent, 100000);
  sim_host_end(&n.b);
  sim_run_for(n.sim, SIM_SECOND);
  assert_int_equal(gone(&n.a), 1);
  assert_int_equal(n.r.ends, 0);
  read_on(&n, SIZE_MAX);
  assert_int_equal(n.r.got, 100000);
  assert_false(n.r.wrong);
  assert_int_equal(n.r.eofs, 0);
  assert_int_equal(n.r.ends, 1);
  assert_int_equal(n.r.status, PU_E_GONE);
  end(&n);
}

/* More than the reader's window: the connection waits for it. */
static void test_unsent_is_not_idle(void **state) {
  net n;
  (void)state;
  begin(&n, 700000, true);
  sim_run_for(n.sim, 600 * SIM_SECOND);
  assert_int_equal(gone(&n.a), 0);
  assert_int_equal(gone(&n.b), 0);
  if (sim_quic) /* it queues more than the window */
    assert_null(n.w.s);
  read_on(&n, SIZE_MAX);
  sim_run_for(n.sim, SIM_SECOND);
  assert_int_equal(n.r.got, 700000);
  assert_false(n.r.wrong);
  assert_int_equal(n.r.eofs, 1);
  assert_int_equal(n.r.ends, 0);
  pu_stream_close(n.r.s);
  sim_run_for(n.sim, 120 * SIM_SECOND);
  assert_int_equal(gone(&n.b), 1); /* now it is */
  end(&n);
}

/* A reader that is slow, and no slower: half an hour is without a byte. */
static void test_unsent_gets_less(void **state) {
  net n;
  (void)state;
  begin(&n, 950000, true);
  for (unsigned i = 0; i < 3; i++) {
    sim_run_for(n.sim, 1500 * SIM_SECOND);
    if (i < 2) /* then all has come */
      assert_int_equal(gone(&n.a), 0);
    n.r.most = n.r.got + 300000;
    read_on(&n, SIZE_MAX);
  }
  n.r.most = 0;
  read_on(&n, SIZE_MAX);
  sim_run_for(n.sim, SIM_SECOND);
  assert_int_equal(n.r.got, 950000);
  assert_false(n.r.wrong);
  assert_int_equal(n.r.eofs, 1);
  assert_int_equal(n.r.ends, gone(&n.a));
  if (n.r.ends == 0)
    pu_stream_close(n.r.s);
  end(&n);
}

/* ... but not for ever, if the sender has left it. */
static void test_unsent_has_a_deadline(void **state) {
  net n;
  (void)state;
  begin(&n, 700000, true);
  sim_run_for(n.sim, HOUR);
  assert_int_equal(gone(&n.a), sim_quic ? 1 : 0);
  read_on(&n, SIZE_MAX);
  sim_run_for(n.sim, SIM_SECOND);
  assert_int_equal(n.r.eofs, sim_quic ? 0 : 1);
  assert_int_equal(n.r.ends, sim_quic ? 1 : 0);
  if (!sim_quic)
    pu_stream_close(n.r.s);
  end(&n);
}

/* A reader that takes nothing at all loses it in the end. */
static void test_rests_have_a_deadline(void **state) {
  net n;
  (void)state;
  begin(&n, 100000, true);
  sim_run_for(n.sim, 1500 * SIM_SECOND);
  assert_int_equal(gone(&n.a), 1);
  read_on(&n, 10);
  sim_run_for(n.sim, 1700 * SIM_SECOND);
  assert_int_equal(n.r.ends, 0);
  sim_run_for(n.sim, HOUR);
  assert_int_equal(n.r.got, 10);
  assert_int_equal(n.r.eofs, 0);
  assert_int_equal(n.r.ends, 1);
  end(&n);
}

static void lose(net *n) {
  begin(n, 100000, true);
  sim_run_for(n->sim, 300 * SIM_SECOND);
  assert_int_equal(gone(&n->a), 1);
  assert_int_equal(n->r.ends, 0);
}

static void test_left_by_the_reader(void **state) {
  net n;
  (void)state;
  lose(&n);
  pu_stream_close(n.r.s);
  sim_run_for(n.sim, SIM_SECOND);
  end(&n);
  lose(&n);
  pu_stream_reset(n.r.s, 1);
  end(&n);
  lose(&n);
  n.r.close_in_data = true; /* while it looks at it */
  read_on(&n, 10);
  assert_int_equal(n.r.got, 10);
  assert_int_equal(n.r.ends, 0);
  end(&n);
}

static void test_ended_by_us(void **state) {
  net n;
  (void)state;
  lose(&n); /* with the engine */
  sim_host_end(&n.a);
  assert_int_equal(n.r.ends, 1);
  end(&n);
  lose(&n);
  (void)pu_engine_disconnect(n.a.engine, &n.b.id);
  assert_int_equal(n.r.ends, 1);
  assert_int_equal(n.r.got, 0);
  end(&n);
  lose(&n);
  assert_int_equal(pu_engine_recheck(n.a.engine), 0);
  assert_int_equal(n.r.ends, 0);
  n.a.denied = 1u << PU_ASK_DIAL;
  (void)pu_engine_recheck(n.a.engine);
  assert_int_equal(n.r.ends, 1);
  assert_int_equal(n.r.status, PU_E_DENIED);
  assert_int_equal(n.r.got, 0);
  end(&n);
}

/* Who closes the connection wants nothing of it any more. */
static void test_closed_by_the_reader(void **state) {
  net n;
  (void)state;
  begin(&n, 100000, true);
  sim_run_for(n.sim, SIM_SECOND);
  (void)pu_engine_disconnect(n.a.engine, &n.b.id);
  assert_int_equal(n.r.ends, 1);
  assert_int_equal(n.r.got, 0);
  end(&n);
}

static int over_yamux(void **state) {
  (void)state;
  sim_quic = false;
  return 0;
}

static int over_quic(void **state) {
  (void)state;
  sim_quic = true;
  return 0;
}

int main(void) {
#define BOTH(name)                                         \
  cmocka_unit_test_setup_teardown(name, over_yamux, NULL), \
      cmocka_unit_test_setup_teardown(name, over_quic, NULL)
  const struct CMUnitTest tests[] = {
      BOTH(test_closed_as_idle),       BOTH(test_broken_off),
      BOTH(test_unsent_is_not_idle),   BOTH(test_unsent_has_a_deadline),
      BOTH(test_unsent_gets_less),     BOTH(test_rests_have_a_deadline),
      BOTH(test_left_by_the_reader),   BOTH(test_ended_by_us),
      BOTH(test_closed_by_the_reader),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
