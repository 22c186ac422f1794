/* TCP of the simulated network: what a link does to it, and where it is like a real machine's. */
#include "platform/sim.h"
#include "support/tcp_app.h"
#include "support/unit.h"

#define MS 1000u
#define SECOND 1000000u
#define HOSTS 3

typedef struct net {
  pu_sim *sim;
  pu_platform *host[HOSTS];
  pu_sockaddr ip[HOSTS];
} net;

static void net_open(net *n, uint64_t seed, const pu_sim_link *link) {
  static const char *const ips[HOSTS] = {"10.0.0.1", "10.0.0.2", "10.0.0.3"};
  *n = (net){0};
  assert_int_equal(pu_sim_new(seed, &n->sim), 0);
  for (unsigned i = 0; i < HOSTS; i++) {
    assert_true(pu_sockaddr_parse_ip(ips[i], &n->ip[i]));
    assert_int_equal(pu_sim_add_host(n->sim, ips[i], &n->ip[i], 1, &n->host[i]), 0);
  }
  assert_int_equal(pu_sim_set_link(n->sim, NULL, NULL, link), 0);
}

static void net_close(net *n) {
  assert_int_equal(pu_sim_open_sockets(n->sim), 0);
  pu_sim_free(n->sim);
}

static void pass(net *n, uint64_t us) {
  assert_true(pu_sim_run(n->sim, pu_sim_now_us(n->sim) + us, NULL));
}

/* STEP_UNTIL lets events happen until |cond|; a network without any has failed. */
#define STEP_UNTIL(n, cond) \
  while (!(cond))           \
  assert_true(pu_sim_step((n)->sim))

/* A socket that counts what it is told. */
typedef struct end {
  pu_tcp *tcp;
  unsigned connects, readable, writable;
  int status;
  uint64_t at_us; /* of on_connect */
  bool close_in_callback;
} end;

static net *current; /* for |at_us| */

static void end_told(end *e) {
  assert_non_null(e->tcp);
  if (e->close_in_callback) {
    pu_tcp_close(e->tcp, false);
    e->tcp = NULL;
  }
}

static void on_connect(void *data, int status) {
  end *e = data;
  e->connects++;
  e->status = status;
  e->at_us = pu_sim_now_us(current->sim);
  end_told(e);
}

static void on_readable(void *data) {
  ((end *)data)->readable++;
  end_told(data);
}

static void on_writable(void *data) {
  ((end *)data)->writable++;
  end_told(data);
}

static const pu_tcp_events end_events = {on_connect, on_readable, on_writable};

static int end_dial(net *n, end *e, unsigned from, const pu_sockaddr *local,
                    const pu_sockaddr *to) {
  current = n;
  *e = (end){0};
  const int status = pu_tcp_connect(n->host[from], local, to, &end_events, e, &e->tcp);
  assert_int_equal(e->connects, 0);
  return status;
}

/* A listener that keeps what it accepts. */
typedef struct door {
  pu_tcp_listener *listener;
  pu_sockaddr address;
  pu_tcp *accepted[8];
  unsigned count;
} door;

static void on_accept(void *data, pu_tcp *tcp) {
  door *d = data;
  assert_true(d->count < 8);
  d->accepted[d->count++] = tcp;
}

static int door_open(net *n, door *d, unsigned host, const char *ip, uint16_t port,
                     unsigned flags) {
  pu_sockaddr at;
  *d = (door){0};
  assert_true(pu_sockaddr_parse_ip(ip, &at));
  at.port = port;
  const int status = pu_tcp_listen(n->host[host], &at, flags, on_accept, d, &d->listener);
  if (status == 0)
    pu_tcp_listener_address(d->listener, &d->address);
  return status;
}

static void door_close(door *d) {
  pu_tcp_listener_close(d->listener);
  for (unsigned i = 0; i < d->count; i++)
    pu_tcp_close(d->accepted[i], true);
}

static ssize_t take(pu_tcp *t, void *out, size_t len) {
  const pu_iov iov = {out, len};
  return pu_tcp_readv(t, &iov, 1);
}

static ssize_t give(pu_tcp *t, const void *in, size_t len) {
  const pu_iov iov = {(void *)(uintptr_t)in, len};
  return pu_tcp_writev(t, &iov, 1);
}

/* ---- bytes and time ---- */

typedef struct result {
  uint64_t end_us;
  uint64_t trace; /* of what happened when */
} result;

/* Several echoes over one link at once; every byte comes back, in order. */
static result echoes(uint64_t seed, const pu_sim_link *link) {
  enum { APPS = 4 };
  net n;
  tcp_server s;
  tcp_app a[APPS];
  result out = {0};
  net_open(&n, seed, link);
  assert_int_equal(tcp_server_start(&s, n.host[1], "10.0.0.2", 80, &(tcp_app){.echo = true}), 0);
  for (unsigned i = 0; i < APPS; i++) {
    a[i] = (tcp_app){.to_send = 50000 + 1000 * i, .seed_out = i, .seed_in = i};
    tcp_app_connect(&a[i], n.host[0], &s.address);
  }
  for (bool all = false; !all;) {
    assert_true(pu_sim_step(n.sim));
    all = true;
    for (unsigned i = 0; i < APPS; i++) {
      all = all && a[i].tcp == NULL;
      out.trace = (out.trace ^ (a[i].got + pu_sim_now_us(n.sim))) * 1099511628211u;
    }
  }
  for (unsigned i = 0; i < APPS; i++) {
    if (a[i].got != a[i].to_send || a[i].wrong || a[i].failed != 0)
      fail_msg("seed %llu: bytes are lost or wrong", (unsigned long long)seed);
  }
  out.end_us = pu_sim_now_us(n.sim);
  tcp_server_stop(&s);
  net_close(&n);
  return out;
}

static void test_hostile_links(void **state) {
  (void)state;
  static const pu_sim_link links[] = {
      {0},
      {.delay_us = 200 * MS},
      {.delay_us = 1, .jitter_us = 500 * MS},
      {.delay_us = 20 * MS, .jitter_us = 20 * MS, .loss_ppm = 300000},
      {.delay_us = 5 * MS, .rate_bytes_s = 100000},
      {.delay_us = 5 * MS, .jitter_us = 50 * MS, .loss_ppm = 100000, .rate_bytes_s = 1000000},
  };
  for (size_t i = 0; i < PU_COUNT(links); i++)
    for (uint64_t seed = 1; seed <= 5; seed++)
      (void)echoes(seed, &links[i]);
}

static void test_same_seed_same_run(void **state) {
  (void)state;
  const pu_sim_link link = {.delay_us = 20 * MS, .jitter_us = 9 * MS, .loss_ppm = 20000};
  for (uint64_t seed = 0; seed < 4; seed++) {
    const result one = echoes(seed, &link);
    void *elsewhere = malloc(12345 + seed); /* other addresses: the run may not depend on them */
    const result two = echoes(seed, &link), other = echoes(seed + 1, &link);
    free(elsewhere);
    assert_true(one.trace == two.trace && one.end_us == two.end_us);
    assert_true(one.trace != other.trace);
  }
}

/* Everything is lost: dials time out, and the network does not hang. */
static void test_total_loss(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  net_open(&n, 1, &(pu_sim_link){.delay_us = 1 * MS, .loss_ppm = 1000000});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  const uint64_t begin = pu_sim_now_us(n.sim);
  STEP_UNTIL(&n, e.connects == 1);
  assert_int_equal(e.status, PU_E_TIMEOUT);
  assert_in_range(e.at_us - begin, 63 * SECOND, 64 * SECOND);
  assert_int_equal(d.count, 0);
  pu_tcp_close(e.tcp, true);
  door_close(&d);
  net_close(&n);
}

static void test_handshake_time(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  net_open(&n, 1, &(pu_sim_link){.delay_us = 100 * MS});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  const uint64_t begin = pu_sim_now_us(n.sim);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  STEP_UNTIL(&n, e.connects == 1);
  assert_in_range(e.at_us - begin, 200 * MS, 200 * MS + 10);
  assert_int_equal(d.count, 0);
  STEP_UNTIL(&n, d.count == 1);
  assert_in_range(pu_sim_now_us(n.sim) - begin, 300 * MS, 300 * MS + 10);
  pu_sockaddr a, b;
  pu_tcp_local(e.tcp, &a);
  pu_tcp_remote(d.accepted[0], &b);
  assert_true(pu_sockaddr_equal(&a, &b));
  pu_tcp_local(d.accepted[0], &a);
  assert_true(pu_sockaddr_equal(&a, &d.address));
  pu_tcp_close(e.tcp, false);
  door_close(&d);
  net_close(&n);
}

/* Two connections between the same hosts share the rate; one to a third host does not. */
static void test_rate_is_shared(void **state) {
  (void)state;
  for (unsigned third = 0; third < 2; third++) {
    net n;
    tcp_server s[2];
    tcp_app a[2];
    net_open(&n, 5, &(pu_sim_link){.delay_us = 10 * MS, .rate_bytes_s = 1000000});
    assert_int_equal(tcp_server_start(&s[0], n.host[1], "10.0.0.2", 80, &(tcp_app){0}), 0);
    assert_int_equal(tcp_server_start(&s[1], n.host[2], "10.0.0.3", 80, &(tcp_app){0}), 0);
    const uint64_t begin = pu_sim_now_us(n.sim);
    for (unsigned i = 0; i < 2; i++) {
      a[i] = (tcp_app){.to_send = 1000000};
      tcp_app_connect(&a[i], n.host[0], &s[third * i].address);
    }
    if (third == 1) {
      STEP_UNTIL(&n, s[0].count == 1 && s[1].count == 1 && s[0].apps->eof && s[1].apps->eof);
      assert_in_range(pu_sim_now_us(n.sim) - begin, SECOND, 13 * SECOND / 10);
    } else {
      STEP_UNTIL(&n, s[0].count == 2 && s[0].apps->eof && s[0].apps->next->eof);
      assert_in_range(pu_sim_now_us(n.sim) - begin, 2 * SECOND, 23 * SECOND / 10);
    }
    for (unsigned i = 0; i < 2; i++) {
      tcp_app_close(&a[i], false);
      tcp_server_stop(&s[i]);
    }
    net_close(&n);
  }
}

/* A long path can be filled: 8 MiB are under way at once, and no more are taken. */
static void test_window(void **state) {
  (void)state;
  net n;
  tcp_server s;
  net_open(&n, 2, &(pu_sim_link){.delay_us = 100 * MS});
  assert_int_equal(tcp_server_start(&s, n.host[1], "10.0.0.2", 80, &(tcp_app){.paused = true}), 0);
  tcp_app a = {.to_send = 20u << 20};
  tcp_app_connect(&a, n.host[0], &s.address);
  pass(&n, 10 * SECOND);
  assert_int_equal(a.sent, 8u << 20);
  assert_int_equal(s.apps->got, 0);
  const uint64_t begin = pu_sim_now_us(n.sim);
  tcp_app_set_paused(s.apps, false);
  STEP_UNTIL(&n, s.apps->eof);
  assert_int_equal(s.apps->got, a.to_send);
  assert_in_range(pu_sim_now_us(n.sim) - begin, 300 * MS, 700 * MS); /* two windows more */
  tcp_app_close(&a, false);
  tcp_server_stop(&s);
  net_close(&n);
}

/* Whole minutes of traffic are few events. */
static void test_events_are_few(void **state) {
  (void)state;
  net n;
  tcp_server s;
  unsigned events = 0;
  net_open(&n, 3, &(pu_sim_link){.delay_us = 20 * MS, .rate_bytes_s = 1000000});
  assert_int_equal(tcp_server_start(&s, n.host[1], "10.0.0.2", 80, &(tcp_app){0}), 0);
  tcp_app a = {.to_send = 60u * 1000000};
  tcp_app_connect(&a, n.host[0], &s.address);
  for (; s.count == 0 || !s.apps->eof; events++)
    assert_true(pu_sim_step(n.sim));
  assert_true(pu_sim_now_us(n.sim) > 60 * SECOND);
  assert_true(events < 20000);
  tcp_app_close(&a, false);
  tcp_server_stop(&s);
  net_close(&n);
}

/* Reads and writes come short now and then. */
static void test_short_ones(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  uint8_t bytes[100];
  unsigned reads = 0, writes = 0;
  memset(bytes, 7, sizeof(bytes));
  net_open(&n, 4, &(pu_sim_link){0});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  STEP_UNTIL(&n, d.count == 1);
  for (unsigned i = 0; i < 200; i++) {
    const ssize_t put = give(e.tcp, bytes, sizeof(bytes));
    assert_in_range(put, 1, sizeof(bytes));
    writes += put < 100;
    pass(&n, MS);
    for (ssize_t left = put; left > 0;) {
      const ssize_t got = take(d.accepted[0], bytes, sizeof(bytes));
      assert_in_range(got, 1, left);
      reads += got < left;
      left -= got;
    }
    assert_int_equal(take(d.accepted[0], bytes, 1), PU_E_AGAIN);
  }
  assert_true(reads > 5 && reads < 100);
  assert_true(writes > 5 && writes < 100);
  pu_tcp_close(e.tcp, false);
  door_close(&d);
  net_close(&n);
}

/* ---- ends ---- */

static void test_half_close(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  char text[16];
  net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS, .jitter_us = 10 * MS});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  STEP_UNTIL(&n, d.count == 1);
  assert_int_equal(give(e.tcp, "x", 1), 1);
  assert_int_equal(pu_tcp_shutdown(e.tcp), 0);
  assert_int_equal(pu_tcp_shutdown(e.tcp), 0);
  assert_int_equal(give(e.tcp, "y", 1), PU_E_RESET);
  pass(&n, SECOND);
  assert_int_equal(take(d.accepted[0], text, sizeof(text)), 1);
  assert_int_equal(take(d.accepted[0], text, sizeof(text)), 0);
  assert_int_equal(take(d.accepted[0], text, sizeof(text)), 0);
  assert_int_equal(give(d.accepted[0], "z", 1), 1);
  pu_tcp_close(d.accepted[0], false); /* what was written before still arrives */
  d.count = 0;
  pass(&n, SECOND);
  assert_int_equal(take(e.tcp, text, sizeof(text)), 1);
  assert_int_equal(take(e.tcp, text, sizeof(text)), 0);
  pu_tcp_close(e.tcp, false);
  door_close(&d);
  net_close(&n);
}

/* Closing with bytes unread, and bytes that come after a close, reset the other side. */
static void test_close_with_unread(void **state) {
  (void)state;
  for (unsigned late = 0; late < 2; late++) {
    net n;
    door d;
    end e;
    char c;
    net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
    assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
    assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
    STEP_UNTIL(&n, d.count == 1);
    if (late == 0) {
      assert_int_equal(give(e.tcp, "x", 1), 1);
      pass(&n, SECOND);
    }
    pu_tcp_close(d.accepted[0], false);
    d.count = 0;
    pass(&n, SECOND);
    if (late == 1) {
      assert_int_equal(take(e.tcp, &c, 1), 0);
      assert_int_equal(give(e.tcp, "x", 1), 1);
      pass(&n, SECOND);
    }
    assert_int_equal(take(e.tcp, &c, 1), PU_E_RESET);
    assert_int_equal(give(e.tcp, "x", 1), PU_E_RESET);
    pu_tcp_want(e.tcp, PU_WANT_READ | PU_WANT_WRITE);
    pass(&n, 10);
    assert_true(e.readable > 0 && e.writable > 0);
    pu_tcp_close(e.tcp, false);
    door_close(&d);
    net_close(&n);
  }
}

static void test_close_in_callbacks(void **state) {
  (void)state;
  for (unsigned which = 0; which < 3; which++) {
    net n;
    door d;
    end e;
    net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
    assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
    assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
    e.close_in_callback = which == 0;
    STEP_UNTIL(&n, d.count == 1);
    if (which > 0) {
      e.close_in_callback = true;
      assert_int_equal(give(d.accepted[0], "x", 1), 1);
      if (which == 1)
        pass(&n, SECOND); /* both at once */
      pu_tcp_want(e.tcp, which == 1 ? PU_WANT_READ | PU_WANT_WRITE : PU_WANT_READ);
      assert_non_null(e.tcp); /* not inside the call */
      pass(&n, SECOND);
      assert_int_equal(e.readable + e.writable, 1);
    }
    assert_null(e.tcp);
    door_close(&d);
    net_close(&n);
  }
}

/* A dial given up at any moment leaves nothing behind at the other side. */
static void test_dial_given_up(void **state) {
  (void)state;
  for (uint64_t after = 0; after <= 40 * MS; after += 5 * MS) {
    net n;
    door d;
    end e;
    char c;
    net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
    assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
    assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
    pass(&n, after);
    pu_tcp_close(e.tcp, true);
    pass(&n, SECOND);
    assert_true(d.count <= 1);
    if (d.count == 1)
      assert_int_equal(take(d.accepted[0], &c, 1), PU_E_RESET);
    door_close(&d);
    net_close(&n);
  }
}

static void test_listener_closed_during_handshake(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  char c;
  net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  STEP_UNTIL(&n, e.connects == 1);
  door_close(&d);
  pass(&n, SECOND);
  assert_int_equal(d.count, 0);
  assert_int_equal(take(e.tcp, &c, 1), PU_E_RESET);
  pu_tcp_close(e.tcp, false);
  net_close(&n);
}

/* A cut at any moment, also in the handshake, is told to both sides, and not inside the call. */
static void test_cut(void **state) {
  (void)state;
  for (uint64_t after = 15 * MS; after <= 45 * MS; after += 5 * MS) {
    net n;
    door d;
    end e;
    char c;
    net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
    assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
    assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
    pass(&n, after);
    const unsigned before = e.connects;
    pu_sim_cut(n.sim, n.host[1], n.host[2]); /* others' */
    pu_sim_cut(n.sim, NULL, n.host[1]);
    assert_int_equal(e.connects, before);
    pass(&n, SECOND);
    assert_int_equal(e.connects, 1);
    assert_int_equal(e.status, before == 0 ? PU_E_RESET : 0);
    assert_int_equal(take(e.tcp, &c, 1), PU_E_RESET);
    if (d.count == 1)
      assert_int_equal(take(d.accepted[0], &c, 1), PU_E_RESET);
    pu_tcp_close(e.tcp, false);
    door_close(&d);
    net_close(&n);
  }
}

/* With cuts by chance every connection ends in a reset, told to both. */
static void test_cuts_by_chance(void **state) {
  (void)state;
  unsigned cut = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    net n;
    tcp_server s;
    net_open(&n, seed, &(pu_sim_link){.delay_us = 10 * MS, .cut_ppm = 20000});
    assert_int_equal(tcp_server_start(&s, n.host[1], "10.0.0.2", 80, &(tcp_app){.echo = true}), 0);
    tcp_app a = {.to_send = 2000000};
    tcp_app_connect(&a, n.host[0], &s.address);
    STEP_UNTIL(&n, a.tcp == NULL);
    pass(&n, SECOND);
    if (a.failed != 0) {
      cut++;
      assert_int_equal(a.failed, PU_E_RESET);
      if (s.apps != NULL) /* else it was cut before it was accepted */
        assert_int_equal(s.apps->failed, PU_E_RESET);
    } else {
      assert_int_equal(a.got, a.to_send);
    }
    assert_false(a.wrong);
    tcp_server_stop(&s);
    net_close(&n);
  }
  assert_in_range(cut, 5, 20);
}

/* ---- links that are down ---- */

static void test_down(void **state) {
  (void)state;
  net n;
  door d;
  end e, late;
  char c;
  net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  STEP_UNTIL(&n, d.count == 1);
  assert_int_equal(pu_sim_set_link(n.sim, n.host[1], n.host[0], &(pu_sim_link){.down = true}), 0);
  assert_int_equal(give(e.tcp, "1", 1), 1);
  assert_int_equal(end_dial(&n, &late, 0, NULL, &d.address), 0);
  pu_tcp_close(d.accepted[0], true); /* nobody hears of it */
  d.count = 0;
  pass(&n, 10 * SECOND);
  assert_int_equal(late.connects, 0);
  assert_int_equal(take(e.tcp, &c, 1), PU_E_AGAIN);
  assert_int_equal(pu_sim_set_link(n.sim, n.host[0], n.host[1], &(pu_sim_link){.delay_us = 5 * MS}),
                   0);
  STEP_UNTIL(&n, late.connects == 1 && d.count == 1); /* the request was repeated */
  assert_int_equal(late.status, 0);
  pass(&n, SECOND);
  assert_int_equal(take(e.tcp, &c, 1), PU_E_RESET); /* learned by what arrived at last */
  pu_tcp_close(e.tcp, false);
  pu_tcp_close(late.tcp, false);
  door_close(&d);
  net_close(&n);
}

/* A link that goes up and down keeps the order of bytes. */
static void test_flapping(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 10; seed++) {
    net n;
    tcp_server s;
    pu_sim_link link = {.delay_us = 20 * MS, .jitter_us = 40 * MS, .rate_bytes_s = 500000};
    net_open(&n, seed, &link);
    assert_int_equal(tcp_server_start(&s, n.host[1], "10.0.0.2", 80, &(tcp_app){.echo = true}), 0);
    tcp_app a = {.to_send = 1000000, .seed_out = seed, .seed_in = seed};
    tcp_app_connect(&a, n.host[0], &s.address);
    while (a.tcp != NULL) {
      pass(&n, pu_sim_random(n.sim) % (300 * MS));
      link.down = !link.down;
      assert_int_equal(pu_sim_set_link(n.sim, n.host[0], n.host[1], &link), 0);
    }
    assert_int_equal(a.failed, 0);
    assert_int_equal(a.got, a.to_send);
    assert_false(a.wrong);
    tcp_server_stop(&s);
    net_close(&n);
  }
}

/* ---- ports ---- */

static void test_ports(void **state) {
  (void)state;
  net n;
  door d, other;
  pu_tcp *t;
  end e, second;
  pu_sockaddr from;
  net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, PU_LISTEN_REUSE_PORT), 0);
  assert_int_equal(door_open(&n, &other, 1, "10.0.0.2", 80, PU_LISTEN_REUSE_PORT), PU_E_IN_USE);
  assert_int_equal(door_open(&n, &other, 1, "0.0.0.0", 80, 0), PU_E_IN_USE);
  assert_int_equal(door_open(&n, &other, 1, "10.0.0.3", 80, 0), PU_E_NO_ADDRESS);
  /* A dial may leave from a shared port, once to the same place. */
  assert_int_equal(door_open(&n, &other, 0, "0.0.0.0", 4001, PU_LISTEN_REUSE_PORT), 0);
  pu_sockaddr local = n.ip[0];
  local.port = 4001;
  assert_int_equal(end_dial(&n, &e, 0, &local, &d.address), 0);
  STEP_UNTIL(&n, d.count == 1);
  pu_tcp_remote(d.accepted[0], &from);
  assert_true(pu_sockaddr_equal(&from, &local));
  assert_int_equal(end_dial(&n, &second, 0, &local, &d.address), PU_E_IN_USE);
  pu_tcp_close(e.tcp, false);
  assert_int_equal(end_dial(&n, &second, 0, &local, &d.address), 0);
  pu_tcp_close(second.tcp, false);
  door_close(&other);
  /* Not from one that is not shared, nor from another machine's address. */
  assert_int_equal(door_open(&n, &other, 0, "10.0.0.1", 4001, 0), 0);
  assert_int_equal(end_dial(&n, &second, 0, &local, &d.address), PU_E_IN_USE);
  door_close(&other);
  assert_int_equal(pu_tcp_connect(n.host[0], &n.ip[2], &d.address, &end_events, &e, &t),
                   PU_E_NO_ADDRESS);
  pu_sockaddr six;
  assert_true(pu_sockaddr_parse_ip("2001:db8::1", &six));
  six.port = 80;
  assert_int_equal(pu_tcp_connect(n.host[0], NULL, &six, &end_events, &e, &t), PU_E_UNREACHABLE);
  door_close(&d);
  net_close(&n);
}

/* More dials than there are ports: they come round again, and never to a port that is listened on.
 */
static void test_ports_wrap(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  net_open(&n, 1, &(pu_sim_link){0});
  assert_int_equal(door_open(&n, &d, 0, "10.0.0.1", 40000, 0), 0);
  const pu_sockaddr to = {.family = 4, .ip = {10, 0, 0, 2}, .port = 80};
  for (unsigned i = 0; i < 33000; i++) {
    pu_sockaddr local;
    assert_int_equal(end_dial(&n, &e, 0, NULL, &to), 0);
    pu_tcp_local(e.tcp, &local);
    assert_true(local.port >= 32768 && local.port != 40000);
    pu_tcp_close(e.tcp, true);
  }
  door_close(&d);
  net_close(&n);
}

/* A socket nobody answers, and one with unread bytes in flight, leave no memory behind. */
static void test_freed_in_flight(void **state) {
  (void)state;
  net n;
  door d;
  end e;
  net_open(&n, 1, &(pu_sim_link){.delay_us = 10 * MS});
  assert_int_equal(door_open(&n, &d, 1, "10.0.0.2", 80, 0), 0);
  assert_int_equal(end_dial(&n, &e, 0, NULL, &d.address), 0);
  STEP_UNTIL(&n, d.count == 1);
  assert_int_equal(give(e.tcp, "1", 1), 1);
  assert_int_equal(give(d.accepted[0], "2", 1), 1);
  pass(&n, 15 * MS);
  assert_int_equal(give(e.tcp, "3", 1), 1);
  pu_tcp_close(e.tcp, false);
  door_close(&d);
  net_close(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hostile_links),
      cmocka_unit_test(test_same_seed_same_run),
      cmocka_unit_test(test_total_loss),
      cmocka_unit_test(test_handshake_time),
      cmocka_unit_test(test_rate_is_shared),
      cmocka_unit_test(test_window),
      cmocka_unit_test(test_events_are_few),
      cmocka_unit_test(test_short_ones),
      cmocka_unit_test(test_half_close),
      cmocka_unit_test(test_close_with_unread),
      cmocka_unit_test(test_close_in_callbacks),
      cmocka_unit_test(test_dial_given_up),
      cmocka_unit_test(test_listener_closed_during_handshake),
      cmocka_unit_test(test_cut),
      cmocka_unit_test(test_cuts_by_chance),
      cmocka_unit_test(test_down),
      cmocka_unit_test(test_flapping),
      cmocka_unit_test(test_ports),
      cmocka_unit_test(test_ports_wrap),
      cmocka_unit_test(test_freed_in_flight),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
