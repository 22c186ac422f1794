/* TCP of the libuv door on real loopback sockets, and the watching of descriptors (uv_watch.c). */
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/tcp_app.h"
#include "support/uv_rig.h"

#define BULK (8u * 1024 * 1024)

/* ---- connecting ---- */

static void echo_over(rig *r, const char *ip) {
  tcp_server s;
  tcp_app a[3];
  const tcp_app model = {.echo = true};
  assert_int_equal(tcp_server_start(&s, r->p, ip, 0, &model), 0);
  for (unsigned i = 0; i < 3; i++) {
    a[i] = (tcp_app){.to_send = BULK + i, .seed_out = i, .seed_in = i};
    tcp_app_connect(&a[i], r->p, &s.address);
  }
  RUN_UNTIL(r, a[0].tcp == NULL && a[1].tcp == NULL && a[2].tcp == NULL);
  for (unsigned i = 0; i < 3; i++) {
    assert_int_equal(a[i].failed, 0);
    assert_int_equal(a[i].got, a[i].to_send);
    assert_false(a[i].wrong);
    assert_true(a[i].eof);
  }
  tcp_server_stop(&s);
}

static void test_echo(void **state) {
  echo_over(*state, "127.0.0.1");
}

static void test_echo_ipv6(void **state) {
  rig *r = *state;
  const pu_sockaddr any = ip_port("::1", 0);
  pu_tcp_listener *l;
  if (pu_tcp_listen(r->p, &any, 0, on_accept, NULL, &l) == PU_E_NO_ADDRESS)
    skip(); /* a machine without IPv6 */
  pu_tcp_listener_close(l);
  echo_over(r, "::1");
}

static void test_addresses(void **state) {
  rig *r = *state;
  door d;
  end e;
  door_open(r, &d, "127.0.0.1", 0);
  end_connect(r, &e, &d.address);
  RUN_UNTIL(r, e.connects == 1 && d.count == 1);
  pu_sockaddr a, b;
  pu_tcp_remote(e.tcp, &a);
  assert_true(pu_sockaddr_equal(&a, &d.address));
  pu_tcp_local(d.accepted[0], &a);
  assert_true(pu_sockaddr_equal(&a, &d.address));
  pu_tcp_local(e.tcp, &a);
  pu_tcp_remote(d.accepted[0], &b);
  assert_true(pu_sockaddr_equal(&a, &b));
  end_close(&e, false);
  door_close(&d);
}

static void test_refused(void **state) {
  rig *r = *state;
  door d;
  end e;
  door_open(r, &d, "127.0.0.1", 0);
  door_close(&d);
  end_connect(r, &e, &d.address);
  RUN_UNTIL(r, e.connects == 1);
  assert_int_equal(e.status, PU_E_REFUSED);
  ASSERT_IDLE(r, 50);
  assert_int_equal(e.connects, 1);
  end_close(&e, false);
}

static void test_no_address(void **state) {
  rig *r = *state;
  const pu_sockaddr foreign = ip_port("192.0.2.1", 0), here = ip_port("127.0.0.1", 9);
  pu_tcp_listener *l;
  pu_tcp *t;
  assert_int_equal(pu_tcp_listen(r->p, &foreign, 0, on_accept, NULL, &l), PU_E_NO_ADDRESS);
  assert_int_equal(pu_tcp_connect(r->p, &foreign, &here, &end_events, NULL, &t), PU_E_NO_ADDRESS);
}

static void test_closed_before_answer(void **state) {
  rig *r = *state;
  door d;
  end e;
  door_open(r, &d, "127.0.0.1", 0);
  end_connect(r, &e, &d.address);
  end_close(&e, false);
  TURN(r, 20);
  assert_int_equal(e.connects, 0);
  pu_tcp_close(NULL, true);
  door_close(&d);
}

/* ---- the port ---- */

/* Tries to listen on |at| in another process; its status. */
static int listen_elsewhere(const pu_sockaddr *at, unsigned flags) {
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct uv_loop_s *loop;
    pu_platform *p;
    pu_tcp_listener *l;
    if (pu_uv_loop_new(&loop) != 0 || pu_uv_new(loop, &p) != 0)
      _exit(99);
    _exit(-pu_tcp_listen(p, at, flags, on_accept, NULL, &l));
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  return -WEXITSTATUS(status);
}

static void test_port_in_use(void **state) {
  rig *r = *state;
  const unsigned flags[2] = {0, PU_LISTEN_REUSE_PORT};
  for (unsigned i = 0; i < 4; i++) {
    door d;
    pu_tcp_listener *second;
    door_open(r, &d, "127.0.0.1", flags[i & 1]);
    assert_int_equal(pu_tcp_listen(r->p, &d.address, flags[i >> 1], on_accept, &d, &second),
                     PU_E_IN_USE);
    assert_int_equal(listen_elsewhere(&d.address, flags[i >> 1]), PU_E_IN_USE);
    const pu_sockaddr any = ip_port("0.0.0.0", d.address.port);
    assert_int_equal(listen_elsewhere(&any, flags[i >> 1]), PU_E_IN_USE);
    door_close(&d);
    assert_int_equal(listen_elsewhere(&d.address, flags[i >> 1]), 0); /* free at once */
  }
}

static void test_dial_from_listening_port(void **state) {
  rig *r = *state;
  door ours, theirs;
  end e = {0}, second = {0}, in;
  pu_sockaddr from;
  door_open(r, &ours, "127.0.0.1", PU_LISTEN_REUSE_PORT);
  door_open(r, &theirs, "127.0.0.1", PU_LISTEN_REUSE_PORT);
  assert_int_equal(pu_tcp_connect(r->p, &ours.address, &theirs.address, &end_events, &e, &e.tcp),
                   0);
  RUN_UNTIL(r, e.connects == 1 && theirs.count == 1);
  assert_int_equal(e.status, 0);
  pu_tcp_remote(theirs.accepted[0], &from);
  assert_true(pu_sockaddr_equal(&from, &ours.address));
  /* The same pair of ports a second time is taken, told at once or by the callback. */
  int status =
      pu_tcp_connect(r->p, &ours.address, &theirs.address, &end_events, &second, &second.tcp);
  if (status == 0) {
    RUN_UNTIL(r, second.connects == 1);
    status = second.status;
    end_close(&second, false);
  }
  assert_int_equal(status, PU_E_IN_USE);
  end_connect(r, &in, &ours.address); /* and the listener still listens, alone */
  RUN_UNTIL(r, in.connects == 1 && ours.count == 1);
  assert_int_equal(in.status, 0);
  assert_int_equal(theirs.count, 1);
  assert_int_equal(listen_elsewhere(&ours.address, PU_LISTEN_REUSE_PORT), PU_E_IN_USE);
  end_close(&in, false);
  door_close(&ours); /* the dial outlives the listener, and the port can be listened on again */
  pu_tcp_listener *again;
  assert_int_equal(
      pu_tcp_listen(r->p, &ours.address, PU_LISTEN_REUSE_PORT, on_accept, &ours, &again), 0);
  pu_tcp_listener_close(again);
  end_close(&e, false);
  door_close(&theirs);
}

static void test_dial_from_unshared_port(void **state) {
  rig *r = *state;
  door ours, theirs;
  pu_tcp *t;
  door_open(r, &ours, "127.0.0.1", 0);
  door_open(r, &theirs, "127.0.0.1", 0);
  assert_int_equal(pu_tcp_connect(r->p, &ours.address, &theirs.address, &end_events, NULL, &t),
                   PU_E_IN_USE);
  door_close(&ours);
  door_close(&theirs);
}

static void test_v6_only(void **state) {
  rig *r = *state;
  const pu_sockaddr any6 = ip_port("::", 0);
  door six = {0}, four = {0};
  if (pu_tcp_listen(r->p, &any6, PU_LISTEN_V6_ONLY, on_accept, &six, &six.listener) != 0)
    skip(); /* a machine without IPv6 */
  pu_tcp_listener_address(six.listener, &six.address);
  const pu_sockaddr any4 = ip_port("0.0.0.0", six.address.port);
  assert_int_equal(pu_tcp_listen(r->p, &any4, 0, on_accept, &four, &four.listener), 0);
  end e;
  const pu_sockaddr to = ip_port("127.0.0.1", six.address.port);
  end_connect(r, &e, &to);
  RUN_UNTIL(r, e.connects == 1 && four.count == 1);
  assert_int_equal(six.count, 0);
  end_close(&e, false);
  door_close(&four);
  door_close(&six);
}

/* ---- ends ---- */

static void test_half_close(void **state) {
  rig *r = *state;
  end near, far;
  pair(r, &near, &far);
  put(&near, "request");
  assert_int_equal(pu_tcp_shutdown(near.tcp), 0);
  far.drain = true;
  far.last_read = -1;
  pu_tcp_want(far.tcp, PU_WANT_READ);
  RUN_UNTIL(r, far.last_read == 0);
  assert_int_equal(far.got, 7);
  put(&far, "the answer"); /* our direction is still open */
  near.drain = true;
  near.last_read = -1;
  pu_tcp_want(near.tcp, PU_WANT_READ);
  RUN_UNTIL(r, near.got == 10);
  const pu_iov iov = {(void *)(uintptr_t) "x", 1};
  assert_int_equal(pu_tcp_writev(near.tcp, &iov, 1), PU_E_RESET); /* ours is not */
  end_close(&far, false);
  RUN_UNTIL(r, near.last_read == 0);
  end_close(&near, false);
}

static void test_abort(void **state) {
  rig *r = *state;
  end near, far;
  pair(r, &near, &far);
  end_close(&near, true);
  far.drain = true;
  far.last_read = 1;
  pu_tcp_want(far.tcp, PU_WANT_READ);
  RUN_UNTIL(r, far.last_read <= 0);
  assert_int_equal(far.last_read, PU_E_RESET);
  end_close(&far, false);
}

/* Who waits to write only is told of a reset too. */
static void test_abort_seen_by_writer(void **state) {
  rig *r = *state;
  end near, far;
  pair(r, &near, &far);
  static uint8_t zeros[65536];
  const pu_iov iov = {zeros, sizeof(zeros)};
  ssize_t n;
  while ((n = pu_tcp_writev(near.tcp, &iov, 1)) > 0) {
  }
  assert_int_equal(n, PU_E_AGAIN);
  pu_tcp_want(near.tcp, PU_WANT_WRITE);
  ASSERT_IDLE(r, 30);
  assert_int_equal(near.writable, 0);
  end_close(&far, true);
  RUN_UNTIL(r, near.writable > 0);
  assert_int_equal(pu_tcp_writev(near.tcp, &iov, 1), PU_E_RESET);
  end_close(&near, false);
}

/* Who wants nothing hears nothing, whatever the other side does, and costs nothing. */
static void test_no_wants(void **state) {
  rig *r = *state;
  end near, far;
  for (unsigned way = 0; way < 3; way++) {
    pair(r, &near, &far);
    pu_tcp_want(far.tcp, PU_WANT_READ | PU_WANT_WRITE);
    RUN_UNTIL(r, far.writable > 0);
    pu_tcp_want(far.tcp, 0);
    far.readable = far.writable = 0;
    put(&near, "data");
    if (way > 0)
      end_close(&near, way == 2);
    ASSERT_IDLE(r, 50);
    assert_int_equal(far.readable + far.writable, 0);
    far.drain = true;
    pu_tcp_want(far.tcp, PU_WANT_READ); /* nothing was missed */
    RUN_UNTIL(r, far.readable > 0);
    assert_true(far.got == 4 || (way == 2 && far.last_read == PU_E_RESET));
    end_close(&far, false);
    if (near.tcp != NULL)
      end_close(&near, false);
  }
}

static void test_backpressure(void **state) {
  rig *r = *state;
  tcp_server s;
  const tcp_app model = {.paused = true, .seed_in = 5};
  assert_int_equal(tcp_server_start(&s, r->p, "127.0.0.1", 0, &model), 0);
  tcp_app a = {.to_send = 64ull * 1024 * 1024, .seed_out = 5};
  tcp_app_connect(&a, r->p, &s.address);
  RUN_UNTIL(r, s.count == 1 && a.sent > 0);
  uint64_t before;
  do {
    before = a.sent;
    TURN(r, 100);
  } while (a.sent != before);
  assert_true(a.sent < a.to_send); /* it is held back */
  assert_int_equal(s.apps->got, 0);
  ASSERT_IDLE(r, 50);
  tcp_app_set_paused(s.apps, false);
  RUN_UNTIL(r, a.tcp == NULL && s.apps->eof);
  assert_int_equal(a.failed, 0);
  assert_int_equal(s.apps->got, a.to_send);
  assert_false(s.apps->wrong);
  tcp_server_stop(&s);
}

/* More pieces than one system call takes: a part is done, in order. */
static void test_many_pieces(void **state) {
  rig *r = *state;
  end near, far;
  pair(r, &near, &far);
  enum { PIECES = 200 };
  uint8_t out[PIECES], in[PIECES] = {0};
  pu_iov from[PIECES], to[PIECES];
  for (unsigned i = 0; i < PIECES; i++) {
    out[i] = (uint8_t)(i * 7);
    from[i] = (pu_iov){&out[i], 1};
    to[i] = (pu_iov){&in[i], 1};
  }
  size_t put_n = 0, got = 0;
  while (put_n < PIECES) {
    const ssize_t n = pu_tcp_writev(near.tcp, from + put_n, PIECES - put_n);
    assert_true(n > 0);
    put_n += (size_t)n;
  }
  while (got < PIECES) {
    const ssize_t n = pu_tcp_readv(far.tcp, to + got, PIECES - got);
    assert_true(n > 0 || n == PU_E_AGAIN);
    got += n > 0 ? (size_t)n : 0;
  }
  assert_memory_equal(in, out, PIECES);
  end_close(&near, false);
  end_close(&far, false);
}

static void test_hand_over(void **state) {
  rig *r = *state;
  end near, far, heir = {0};
  pair(r, &near, &far);
  pu_tcp_want(far.tcp, PU_WANT_READ);
  put(&near, "x");
  pu_tcp_set_events(far.tcp, &end_events, &heir); /* wants are kept */
  heir.tcp = far.tcp;
  RUN_UNTIL(r, heir.readable > 0);
  assert_int_equal(far.readable, 0);
  end_close(&heir, false);
  end_close(&near, false);
}

/* ---- closing inside callbacks ---- */

static void test_close_in_connect(void **state) {
  rig *r = *state;
  door d;
  end e;
  door_open(r, &d, "127.0.0.1", 0);
  end_connect(r, &e, &d.address);
  e.close_in_callback = true;
  RUN_UNTIL(r, e.connects == 1 && d.count == 1);
  assert_null(e.tcp);
  door_close(&d);
}

static void test_close_in_readiness(void **state) {
  rig *r = *state;
  end near, far;
  for (unsigned want = 1; want <= 3; want++) {
    pair(r, &near, &far);
    put(&near, "both at once");
    TURN(r, 5);
    far.close_in_callback = true;
    pu_tcp_want(far.tcp, want);
    RUN_UNTIL(r, far.tcp == NULL);
    TURN(r, 5);
    assert_int_equal(far.readable + far.writable, 1);
    end_close(&near, false);
  }
}

static void test_close_listener_in_accept(void **state) {
  rig *r = *state;
  door d;
  end a, b;
  door_open(r, &d, "127.0.0.1", 0);
  d.close_at_accept = true;
  end_connect(r, &a, &d.address);
  end_connect(r, &b, &d.address);
  RUN_UNTIL(r, a.connects == 1 && b.connects == 1);
  TURN(r, 10);
  assert_int_equal(d.count, 1);
  end_close(&a, false);
  end_close(&b, false);
  door_close(&d);
}

/* Many are ready in one turn, and the first that hears of it closes another. */
static void test_close_each_other(void **state) {
  rig *r = *state;
  enum { PAIRS = 20 };
  end near[PAIRS], far[PAIRS];
  for (unsigned i = 0; i < PAIRS; i++)
    pair(r, &near[i], &far[i]);
  for (unsigned i = 0; i < PAIRS; i++) {
    put(&near[i], "now");
    far[i].victim = &far[PAIRS - 1 - i];
    far[i].drain = true;
    pu_tcp_want(far[i].tcp, PU_WANT_READ);
  }
  TURN(r, 50);
  unsigned alive = 0;
  for (unsigned i = 0; i < PAIRS; i++) {
    alive += far[i].tcp != NULL;
    if (far[i].tcp != NULL)
      end_close(&far[i], false);
    end_close(&near[i], false);
  }
  assert_int_equal(alive, PAIRS / 2);
}

/* A child forked by another part of the program holds our sockets too. Closing here must be the end
 * of their events all the same. */
static void test_forked_holder(void **state) {
  rig *r = *state;
  end near, far, other_near, other_far;
  int hold[2];
  assert_int_equal(pipe(hold), 0);
  pair(r, &near, &far);
  pair(r, &other_near, &other_far); /* keeps the door awake */
  pu_tcp_want(far.tcp, PU_WANT_READ);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    char c;
    (void)close(hold[1]);
    _exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
  }
  (void)close(hold[0]);
  end_close(&far, false);
  put(&near, "to a socket that only the child has");
  TURN(r, 20);
  assert_int_equal(far.readable, 0);
  (void)close(hold[1]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  end_close(&near, false);
  end_close(&other_near, false);
  end_close(&other_far, false);
}

/* ---- descriptors ---- */

static void test_out_of_descriptors(void **state) {
  rig *r = *state;
  enum { CLIENTS = 3 };
  struct rlimit full, low;
  door d;
  end client[CLIENTS];
  door_open(r, &d, "127.0.0.1", 0);
  for (unsigned i = 0; i < CLIENTS; i++)
    end_connect(r, &client[i], &d.address);
  const int next = dup(0); /* the lowest free descriptor */
  assert_true(next > 0);
  (void)close(next);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &full), 0);
  low = full;
  low.rlim_cur = (rlim_t)next;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  pu_tcp *none;
  const int refused = pu_tcp_connect(r->p, NULL, &d.address, &end_events, NULL, &none);
  ASSERT_IDLE(r, 300);
  const unsigned accepted = d.count;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
  assert_int_equal(refused, PU_E_LIMIT);
  assert_int_equal(accepted, 0);
  RUN_UNTIL(r, d.count == CLIENTS); /* goes on by itself */
  for (unsigned i = 0; i < CLIENTS; i++)
    end_close(&client[i], false);
  door_close(&d);
}

/* A listener that is closed while it pauses leaves no timer behind. */
static void test_close_while_paused(void **state) {
  rig *r = *state;
  struct rlimit full, low;
  door d;
  end client;
  door_open(r, &d, "127.0.0.1", 0);
  end_connect(r, &client, &d.address);
  const int next = dup(0);
  (void)close(next);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &full), 0);
  low = full;
  low.rlim_cur = (rlim_t)next;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  TURN(r, 20);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
  assert_int_equal(d.count, 0);
  door_close(&d);
  end_close(&client, false);
  const uint64_t begin = pu_now_us(r->p);
  assert_int_equal(pu_uv_loop_run(r->loop), 0); /* nothing to wait for */
  assert_true(pu_now_us(r->p) - begin < 80000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      T(test_echo),
      T(test_echo_ipv6),
      T(test_addresses),
      T(test_refused),
      T(test_no_address),
      T(test_closed_before_answer),
      T(test_port_in_use),
      T(test_dial_from_listening_port),
      T(test_dial_from_unshared_port),
      T(test_v6_only),
      T(test_half_close),
      T(test_abort),
      T(test_abort_seen_by_writer),
      T(test_no_wants),
      T(test_backpressure),
      T(test_many_pieces),
      T(test_hand_over),
      T(test_close_in_connect),
      T(test_close_in_readiness),
      T(test_close_listener_in_accept),
      T(test_close_each_other),
      T(test_forked_holder),
      T(test_out_of_descriptors),
      T(test_close_while_paused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
