/* A loop, a platform and ends of connections that count what they are told, for tests of the libuv
 * door. */
#ifndef PU_TESTS_UV_RIG_H
#define PU_TESTS_UV_RIG_H

#include <sys/resource.h>

#include "platform/uv.h"
#include "support/unit.h"

typedef struct rig {
  struct uv_loop_s *loop;
  pu_platform *p;
} rig;

static inline int setup(void **state) {
  rig *r = calloc(1, sizeof(*r));
  assert_non_null(r);
  assert_int_equal(pu_uv_loop_new(&r->loop), 0);
  assert_int_equal(pu_uv_new(r->loop, &r->p), 0);
  *state = r;
  return 0;
}

static inline void on_freed(void *data) {
  ++*(unsigned *)data;
}

/* Every test ends with a loop that holds nothing: pu_uv_loop_free insists. */
static inline int teardown(void **state) {
  rig *r = *state;
  unsigned freed = 0;
  pu_uv_free(r->p, on_freed, &freed);
  assert_int_equal(freed, 0); /* not inside the call */
  assert_int_equal(pu_uv_loop_run(r->loop), 0);
  assert_int_equal(freed, 1);
  pu_uv_loop_free(r->loop);
  free(r);
  return 0;
}

static inline void on_tick(void *data) {
  pu_uv_loop_stop(data);
}

/* TURN lets the loop run for |ms|, or less. */
#define TURN(r, ms)                                            \
  do {                                                         \
    pu_timer tick_;                                            \
    pu_timer_init(&tick_, (r)->p, on_tick, (r)->loop);         \
    assert_int_equal(pu_timer_after(&tick_, (ms)*1000ull), 0); \
    (void)pu_uv_loop_run((r)->loop);                           \
    pu_timer_stop(&tick_);                                     \
  } while (0)

/* RUN_UNTIL lets the loop run until |cond|, for at most 20 seconds. */
#define RUN_UNTIL(r, cond)                              \
  do {                                                  \
    const uint64_t end_ = pu_now_us((r)->p) + 20000000; \
    while (!(cond) && pu_now_us((r)->p) < end_)         \
      TURN(r, 1);                                       \
    assert_true(cond);                                  \
  } while (0)

static inline double cpu_s(void) {
  struct rusage u;
  (void)getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ASSERT_IDLE: the loop waits |ms| and uses little of the processor: nothing is reported in vain.
 */
#define ASSERT_IDLE(r, ms)                                    \
  do {                                                        \
    const double before_ = cpu_s();                           \
    TURN(r, ms);                                              \
    assert_true(cpu_s() - before_ < (double)(ms) / 1000 / 2); \
  } while (0)

/* One end of a connection that counts what it is told. */
typedef struct end {
  pu_tcp *tcp;
  unsigned connects, readable, writable;
  int status;  /* of on_connect */
  bool inside; /* a call of ours is under way: no callback may come */
  bool close_in_callback, drain;
  struct end *victim; /* closed in a callback of ours */
  ssize_t last_read;  /* with |drain| */
  size_t got;
} end;

static inline void end_close(end *e, bool abort) {
  pu_tcp_close(e->tcp, abort);
  e->tcp = NULL;
}

static inline void end_told(end *e) {
  assert_false(e->inside);
  assert_non_null(e->tcp); /* nothing follows a close */
  if (e->victim != NULL && e->victim->tcp != NULL)
    end_close(e->victim, true);
  if (e->close_in_callback)
    end_close(e, false);
}

static inline void on_connect(void *data, int status) {
  end *e = data;
  e->connects++;
  e->status = status;
  end_told(e);
}

static inline void on_readable(void *data) {
  end *e = data;
  e->readable++;
  if (e->drain) {
    uint8_t piece[4096];
    const pu_iov iov = {piece, sizeof(piece)};
    e->last_read = pu_tcp_readv(e->tcp, &iov, 1);
    if (e->last_read > 0)
      e->got += (size_t)e->last_read;
    else
      pu_tcp_want(e->tcp, 0);
  }
  end_told(e);
}

static inline void on_writable(void *data) {
  end *e = data;
  e->writable++;
  end_told(e);
}

static const pu_tcp_events end_events = {on_connect, on_readable, on_writable};

/* A listener that keeps what it accepts. */
typedef struct door {
  pu_tcp_listener *listener;
  pu_sockaddr address;
  pu_tcp *accepted[16];
  unsigned count;
  bool close_at_accept;
} door;

static inline void on_accept(void *data, pu_tcp *tcp) {
  door *d = data;
  assert_true(d->count < 16);
  d->accepted[d->count++] = tcp;
  if (d->close_at_accept) {
    pu_tcp_listener_close(d->listener);
    d->listener = NULL;
  }
}

static inline pu_sockaddr ip_port(const char *ip, uint16_t port) {
  pu_sockaddr sa;
  assert_true(pu_sockaddr_parse_ip(ip, &sa));
  sa.port = port;
  return sa;
}

static inline void door_open(rig *r, door *d, const char *ip, unsigned flags) {
  const pu_sockaddr at = ip_port(ip, 0);
  *d = (door){0};
  assert_int_equal(pu_tcp_listen(r->p, &at, flags, on_accept, d, &d->listener), 0);
  pu_tcp_listener_address(d->listener, &d->address);
  assert_int_not_equal(d->address.port, 0);
}

static inline void door_close(door *d) {
  pu_tcp_listener_close(d->listener);
  d->listener = NULL;
  for (unsigned i = 0; i < d->count; i++)
    pu_tcp_close(d->accepted[i], true);
  d->count = 0;
}

static inline void end_connect(rig *r, end *e, const pu_sockaddr *to) {
  *e = (end){.inside = true};
  assert_int_equal(pu_tcp_connect(r->p, NULL, to, &end_events, e, &e->tcp), 0);
  e->inside = false;
}

/* Makes a pair: |near| dialed, |far| was accepted. */
static inline void pair(rig *r, end *near, end *far) {
  door d;
  door_open(r, &d, "127.0.0.1", 0);
  end_connect(r, near, &d.address);
  RUN_UNTIL(r, near->connects == 1 && d.count == 1);
  assert_int_equal(near->status, 0);
  *far = (end){.tcp = d.accepted[0]};
  pu_tcp_set_events(far->tcp, &end_events, far);
  d.count = 0;
  door_close(&d);
}

static inline void put(end *e, const char *text) {
  const pu_iov iov = {(void *)(uintptr_t)text, strlen(text)};
  assert_int_equal(pu_tcp_writev(e->tcp, &iov, 1), strlen(text));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
