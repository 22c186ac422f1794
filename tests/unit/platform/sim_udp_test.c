/* UDP of the simulated network: what a link does to datagrams, and where it is like a real
 * machine's. And its TXT records. */
#include "platform/assert.h"
#include "platform/sim.h"
#include "support/unit.h"

#define MS 1000u
#define SECOND 1000000u
#define HOSTS 3
#define SEEN_MAX 40000u

typedef struct net {
  pu_sim *sim;
  pu_platform *host[HOSTS];
} net;

static pu_sockaddr ip_port(const char *ip, uint16_t port) {
  pu_sockaddr sa;
  assert_true(pu_sockaddr_parse_ip(ip, &sa));
  sa.port = port;
  return sa;
}

/* The last host has no IPv6. */
static void net_open(net *n, uint64_t seed, const pu_sim_link *link) {
  static const char *const ips[HOSTS][2] = {
      {"10.0.0.1", "2001:db8::1"}, {"10.0.0.2", "2001:db8::2"}, {"10.0.0.3", "10.0.0.4"}};
  *n = (net){0};
  assert_int_equal(pu_sim_new(seed, &n->sim), 0);
  for (unsigned i = 0; i < HOSTS; i++) {
    const pu_sockaddr addrs[2] = {ip_port(ips[i][0], 0), ip_port(ips[i][1], 0)};
    assert_int_equal(pu_sim_add_host(n->sim, ips[i][0], addrs, 2, &n->host[i]), 0);
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

/* A socket that notes what it gets: each datagram begins with its number, in four bytes. */
typedef struct port {
  net *n;
  pu_udp *udp;
  pu_sockaddr at;
  unsigned readable, writable;
  bool inside; /* a call of ours is under way: no callback may come */
  bool lazy;   /* does not read in the callback */
  bool close_in_callback;
  size_t datagrams, batches, bytes, damaged;
  uint64_t last_us;
  pu_datagrams last;
  uint32_t seen[SEEN_MAX]; /* the numbers, in the order of arrival */
} port;

static ssize_t port_take(port *x) {
  static uint8_t room[PU_UDP_RECV_MAX][65536];
  pu_datagrams b[PU_UDP_RECV_MAX];
  for (size_t i = 0; i < PU_UDP_RECV_MAX; i++)
    b[i] = (pu_datagrams){.data = room[i], .len = sizeof room[i]};
  const ssize_t count = pu_udp_recv(x->udp, b, PU_UDP_RECV_MAX);
  for (ssize_t i = 0; i < count; i++) {
    assert_true(b[i].segment > 0 && b[i].segment <= b[i].len);
    for (size_t at = 0; at < b[i].len; at += b[i].segment) {
      const size_t len = b[i].len - at < b[i].segment ? b[i].len - at : b[i].segment;
      assert_true(len >= 4 && x->datagrams < SEEN_MAX);
      memcpy(&x->seen[x->datagrams++], b[i].data + at, 4);
      for (size_t j = 4; j < len; j++)
        if (b[i].data[at + j] != (uint8_t)j) {
          x->damaged++;
          break;
        }
    }
    x->bytes += b[i].len;
    x->batches++;
    x->last = b[i];
    x->last_us = pu_sim_now_us(x->n->sim);
  }
  return count;
}

static void told(port *x) {
  assert_false(x->inside);
  assert_non_null(x->udp);
  if (x->close_in_callback) {
    pu_udp_close(x->udp);
    x->udp = NULL;
  }
}

static void on_readable(void *data) {
  port *x = data;
  x->readable++;
  if (!x->lazy)
    (void)port_take(x);
  told(x);
}

static void on_writable(void *data) {
  port *x = data;
  x->writable++;
  told(x);
}

static const pu_udp_events events = {on_readable, on_writable};

static int port_try(net *n, port *x, unsigned host, const char *ip, uint16_t number) {
  const pu_sockaddr at = ip_port(ip, number);
  memset(x, 0, sizeof *x);
  x->n = n;
  x->inside = true;
  const int status = pu_udp_open(n->host[host], &at, &events, x, &x->udp);
  if (status == 0) {
    pu_udp_local(x->udp, &x->at);
    pu_udp_want(x->udp, PU_WANT_READ);
  }
  x->inside = false;
  return status;
}

static void port_open(net *n, port *x, unsigned host, const char *ip) {
  assert_int_equal(port_try(n, x, host, ip, 0), 0);
  assert_int_not_equal(x->at.port, 0);
}

static void port_close(port *x) {
  pu_udp_close(x->udp);
  x->udp = NULL;
}

/* Sends |count| datagrams of |segment| bytes, numbered from |first|, in one batch. */
static ssize_t send_as(port *x, const pu_sockaddr *local, const pu_sockaddr *to, uint32_t first,
                       size_t count, size_t segment) {
  static uint8_t data[2 * 65536];
  pu_datagrams b = {.remote = *to, .data = data, .len = count * segment, .segment = segment};
  if (local != NULL)
    b.local = *local;
  assert_true(b.len <= sizeof data);
  for (size_t i = 0; i < count; i++) {
    const uint32_t number = first + (uint32_t)i;
    for (size_t j = 4; j < segment; j++)
      data[i * segment + j] = (uint8_t)j;
    memcpy(data + i * segment, &number, 4);
  }
  x->inside = true;
  const ssize_t sent = pu_udp_send(x->udp, &b);
  x->inside = false;
  return sent;
}

static void send(port *x, const pu_sockaddr *to, uint32_t first, size_t count, size_t segment) {
  assert_int_equal(send_as(x, NULL, to, first, count, segment), count * segment);
}

/* Two sockets at the ends of a link; the big things of a test. */
static port a, b, c;

static void pair_open(net *n, uint64_t seed, const pu_sim_link *link) {
  net_open(n, seed, link);
  port_open(n, &a, 0, "10.0.0.1");
  port_open(n, &b, 1, "10.0.0.2");
}

static void pair_close(net *n) {
  port_close(&a);
  port_close(&b);
  net_close(n);
}

static bool in_order(const port *x) {
  for (size_t i = 1; i < x->datagrams; i++)
    if (x->seen[i] <= x->seen[i - 1])
      return false;
  return true;
}

/* ---- links ---- */

static void test_delay(void **state) {
  net n;
  (void)state;
  pair_open(&n, 1, &(pu_sim_link){.delay_us = 20 * MS});
  const uint64_t begin = pu_sim_now_us(n.sim);
  send(&a, &b.at, 0, 10, 1200);
  assert_int_equal(b.datagrams, 0);
  pass(&n, SECOND);
  assert_int_equal(b.datagrams, 10);
  assert_int_equal(b.last_us - begin, 20 * MS);
  assert_true(in_order(&b));
  assert_int_equal(b.batches, 1); /* what came together is read together */
  assert_int_equal(b.last.segment, 1200);
  assert_int_equal(b.damaged, 0);
  assert_true(pu_sockaddr_equal(&b.last.remote, &a.at));
  assert_true(pu_sockaddr_equal(&b.last.local, &b.at));
  pair_close(&n);
}

static void test_jitter(void **state) {
  net n;
  (void)state;
  pair_open(&n, 2, &(pu_sim_link){.delay_us = 20 * MS, .jitter_us = 10 * MS});
  const uint64_t begin = pu_sim_now_us(n.sim);
  for (uint32_t i = 0; i < 200; i++)
    send(&a, &b.at, i, 1, 100);
  pass(&n, 20 * MS - 1);
  assert_int_equal(b.datagrams, 0);
  pass(&n, SECOND);
  assert_int_equal(b.datagrams, 200);
  assert_in_range(b.last_us - begin, 25 * MS, 30 * MS);
  assert_false(in_order(&b));
  pair_close(&n);
}

static void test_loss(void **state) {
  net n;
  (void)state;
  pair_open(&n, 3, &(pu_sim_link){.delay_us = MS, .loss_ppm = 100000});
  for (uint32_t i = 0; i < 10000; i += 50)
    send(&a, &b.at, i, 50, 100);
  pass(&n, SECOND);
  assert_in_range(b.datagrams, 8850, 9150);
  assert_true(in_order(&b));
  pair_close(&n);
}

/* 1,000,000 bytes a second: a datagram of 972 bytes and 28 of headers takes a millisecond. */
static void test_rate(void **state) {
  net n;
  (void)state;
  pair_open(&n, 4, &(pu_sim_link){.delay_us = 5 * MS, .rate_bytes_s = 1000000});
  const uint64_t begin = pu_sim_now_us(n.sim);
  send(&a, &b.at, 0, 60, 972);
  send(&b, &a.at, 0, 10, 972); /* the other direction has its own */
  pass(&n, 6 * MS - 1);
  assert_int_equal(b.datagrams, 0);
  pass(&n, 1);
  assert_int_equal(b.datagrams, 1);
  pass(&n, 9 * MS);
  assert_int_equal(a.datagrams, 10);
  assert_int_equal(b.datagrams, 10);
  pass(&n, SECOND);
  assert_int_equal(b.datagrams, 60);
  assert_int_equal(b.last_us - begin, 65 * MS);
  /* an idle link has saved nothing up */
  send(&a, &b.at, 60, 5, 972);
  pass(&n, 5 * MS + 2 * MS);
  assert_int_equal(b.datagrams, 62);
  pass(&n, SECOND);
  pair_close(&n);
}

static void test_queue(void **state) {
  static const uint64_t queues[] = {50000, 0};
  (void)state;
  for (size_t i = 0; i < 2; i++) {
    net n;
    pair_open(&n, 5,
              &(pu_sim_link){.delay_us = MS, .rate_bytes_s = 1000000, .queue_bytes = queues[i]});
    for (uint32_t j = 0; j < 2000; j += 50)
      send(&a, &b.at, j, 50, 972);
    pass(&n, 10 * SECOND);
    const size_t most = i == 0 ? 50 : 1048; /* 0: 1 MiB */
    assert_in_range(b.datagrams, most, most + 2);
    assert_true(in_order(&b));
    assert_int_equal(b.seen[b.datagrams - 1], b.datagrams - 1); /* the end was lost */
    pair_close(&n);
  }
}

static void test_mtu(void **state) {
  static const struct {
    uint32_t mtu;
    size_t v4, v6;
  } cases[] = {{0, 1472, 1452}, {1280, 1252, 1232}, {9000, 8972, 8952}};
  (void)state;
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    net n;
    net_open(&n, 6, &(pu_sim_link){.mtu_bytes = cases[i].mtu});
    for (unsigned v6 = 0; v6 < 2; v6++) {
      const size_t most = v6 ? cases[i].v6 : cases[i].v4;
      port_open(&n, &a, 0, v6 ? "2001:db8::1" : "10.0.0.1");
      port_open(&n, &b, 1, v6 ? "2001:db8::2" : "10.0.0.2");
      send(&a, &b.at, 0, 2, most);
      send(&a, &b.at, 2, 2, most + 1); /* taken, and lost on the way */
      pass(&n, SECOND);
      assert_int_equal(b.datagrams, 2);
      assert_int_equal(b.bytes, 2 * most);
      port_close(&a);
      port_close(&b);
    }
    net_close(&n);
  }
}

static void test_duplicates(void **state) {
  net n;
  unsigned times[1000] = {0}, twice = 0;
  (void)state;
  pair_open(&n, 7, &(pu_sim_link){.delay_us = MS, .duplicate_ppm = 200000});
  for (uint32_t i = 0; i < 1000; i += 50)
    send(&a, &b.at, i, 50, 100);
  pass(&n, SECOND);
  for (size_t i = 0; i < b.datagrams; i++)
    times[b.seen[i]]++;
  for (size_t i = 0; i < 1000; i++) {
    assert_in_range(times[i], 1, 2);
    twice += times[i] - 1;
  }
  assert_in_range(twice, 150, 250);
  assert_int_equal(b.damaged, 0);
  pair_close(&n);
}

static void test_damage(void **state) {
  net n;
  (void)state;
  pair_open(&n, 8, &(pu_sim_link){.delay_us = MS, .corrupt_ppm = 100000});
  for (uint32_t i = 0; i < 2000; i += 10)
    send(&a, &b.at, i, 10, 1400);
  pass(&n, SECOND);
  assert_int_equal(b.datagrams, 2000);
  assert_in_range(b.damaged, 150, 250); /* some in the number, which is not counted */
  pair_close(&n);
}

static void on_connect(void *data, int status) {
  *(int *)data = status;
}

static void on_accept(void *data, pu_tcp *tcp) {
  (void)data;
  pu_tcp_close(tcp, true);
}

static void test_blocked(void **state) {
  static const pu_tcp_events tcp_events = {on_connect, NULL, NULL};
  const pu_sim_link links[] = {{.delay_us = MS, .no_udp = true},
                               {.delay_us = MS, .down = true},
                               {.delay_us = MS, .loss_ppm = 1000000}};
  (void)state;
  for (size_t i = 0; i < PU_COUNT(links); i++) {
    net n;
    pair_open(&n, 9, &links[i]);
    send(&a, &b.at, 0, 5, 100);
    pass(&n, SECOND);
    assert_int_equal(b.datagrams, 0);
    if (links[i].no_udp) { /* TCP passes */
      pu_tcp_listener *l;
      pu_tcp *t;
      pu_sockaddr at = ip_port("10.0.0.2", 22);
      int status = 1;
      assert_int_equal(pu_tcp_listen(n.host[1], &at, 0, on_accept, NULL, &l), 0);
      assert_int_equal(pu_tcp_connect(n.host[0], NULL, &at, &tcp_events, &status, &t), 0);
      pass(&n, SECOND);
      assert_int_equal(status, 0);
      pu_tcp_close(t, true);
      pu_tcp_listener_close(l);
    }
    /* a host's way to itself stays open */
    port_open(&n, &c, 0, "10.0.0.1");
    send(&a, &c.at, 0, 5, 100);
    pass(&n, 1);
    assert_int_equal(c.datagrams, 5);
    port_close(&c);
    pair_close(&n);
  }
}

/* ---- chance ---- */

static uint64_t run_of(uint64_t seed) {
  uint64_t hash = 14695981039346656037u;
  net n;
  pair_open(&n, seed,
            &(pu_sim_link){.delay_us = 5 * MS,
                           .jitter_us = 3 * MS,
                           .loss_ppm = 20000,
                           .rate_bytes_s = 3000000,
                           .queue_bytes = 100000,
                           .duplicate_ppm = 10000,
                           .corrupt_ppm = 10000});
  for (uint32_t i = 0; i < 1000; i += 20) {
    send(&a, &b.at, i, 20, 700);
    pass(&n, 4 * MS);
    hash = (hash ^ b.datagrams ^ b.damaged << 32) * 1099511628211u;
  }
  pass(&n, SECOND);
  for (size_t i = 0; i < b.datagrams; i++)
    hash = (hash ^ b.seen[i]) * 1099511628211u;
  hash = (hash ^ b.last_us) * 1099511628211u;
  pair_close(&n);
  return hash;
}

static void test_replays(void **state) {
  (void)state;
  const uint64_t first = run_of(77);
  assert_true(run_of(77) == first);
  assert_true(run_of(78) != first);
}

/* ---- addresses ---- */

static void test_wildcard(void **state) {
  net n;
  (void)state;
  net_open(&n, 10, &(pu_sim_link){.delay_us = MS});
  port_open(&n, &a, 0, "0.0.0.0");
  port_open(&n, &b, 2, "0.0.0.0"); /* a host with two addresses */
  for (unsigned i = 0; i < 2; i++) {
    const pu_sockaddr to = ip_port(i == 0 ? "10.0.0.3" : "10.0.0.4", b.at.port);
    send(&a, &to, 0, 1, 100);
    pass(&n, SECOND);
    assert_int_equal(b.datagrams, i + 1);
    assert_true(pu_sockaddr_equal(&b.last.local, &to)); /* as the peer sees it */
    assert_true(pu_sockaddr_equal(&b.last.remote, &(pu_sockaddr){4, {10, 0, 0, 1}, a.at.port, 0}));
    assert_int_equal(send_as(&b, &b.last.local, &b.last.remote, 0, 1, 100), 100);
    pass(&n, SECOND);
    assert_true(pu_sockaddr_equal(&a.last.remote, &to));
  }
  /* none of that family */
  port_open(&n, &c, 2, "::");
  const pu_sockaddr v6 = ip_port("2001:db8::1", a.at.port);
  assert_int_equal(send_as(&c, NULL, &v6, 0, 1, 100), PU_E_UNREACHABLE);
  assert_int_equal(send_as(&b, NULL, &v6, 0, 1, 100), PU_E_UNREACHABLE);
  /* nobody there, and nobody at all */
  const pu_sockaddr nobody = ip_port("10.0.0.1", 9), nowhere = ip_port("192.0.2.1", 9);
  send(&b, &nobody, 0, 1, 100);
  send(&b, &nowhere, 0, 1, 100);
  pass(&n, SECOND);
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  port_close(&a);
  port_close(&b);
  port_close(&c);
  net_close(&n);
}

static void test_ports(void **state) {
  net n;
  (void)state;
  net_open(&n, 11, &(pu_sim_link){0});
  port_open(&n, &a, 0, "10.0.0.1");
  assert_int_equal(port_try(&n, &b, 0, "10.0.0.1", a.at.port), PU_E_IN_USE);
  assert_int_equal(port_try(&n, &b, 0, "0.0.0.0", a.at.port), PU_E_IN_USE);
  assert_int_equal(port_try(&n, &b, 0, "10.0.0.2", 0), PU_E_NO_ADDRESS);
  assert_int_equal(port_try(&n, &b, 0, "::", a.at.port), 0);
  assert_int_equal(pu_sim_open_sockets(n.sim), 2);
  const uint16_t number = a.at.port;
  port_close(&a);
  assert_int_equal(port_try(&n, &c, 0, "10.0.0.1", number), 0);
  port_close(&b);
  port_close(&c);
  pu_udp_close(NULL);
  net_close(&n);
}

/* A translator that has forgotten a socket: others see another address, the socket's host does
 * not. */
static void test_rebind(void **state) {
  net n;
  (void)state;
  net_open(&n, 12, &(pu_sim_link){.delay_us = 10 * MS});
  port_open(&n, &a, 0, "0.0.0.0");
  port_open(&n, &b, 1, "10.0.0.2");
  const pu_sockaddr public_ip = ip_port("203.0.113.7", 0);
  send(&a, &b.at, 0, 1, 100);
  pass(&n, SECOND);
  const pu_sockaddr before = b.last.remote;
  send(&b, &before, 0, 1, 100);
  pass(&n, SECOND);
  assert_int_equal(a.datagrams, 1);
  const pu_sockaddr inside = a.last.local;
  for (unsigned i = 0; i < 2; i++) {
    send(&b, &before, 10, 1, 100); /* under way while it happens: lost */
    pass(&n, 5 * MS);
    pu_sim_udp_rebind(n.sim, n.host[0], &public_ip);
    pass(&n, SECOND);
    assert_int_equal(a.datagrams, 1 + i);
    const pu_sockaddr last = b.last.remote;
    send(&b, &before, 10, 1, 100);
    assert_int_equal(send_as(&a, &inside, &b.at, 1, 1, 100), 100);
    pass(&n, SECOND);
    assert_memory_equal(b.last.remote.ip, public_ip.ip, 4);
    assert_false(pu_sockaddr_equal(&b.last.remote, &last));
    assert_int_equal(a.datagrams, 1 + i);
    send(&b, &b.last.remote, 1, 1, 100);
    pass(&n, SECOND);
    assert_int_equal(a.datagrams, 2 + i);
    assert_true(pu_sockaddr_equal(&a.last.local, &inside));
  }
  pu_sockaddr bound;
  pu_udp_local(a.udp, &bound);
  assert_true(pu_sockaddr_equal(&bound, &a.at));
  pair_close(&n);
}

/* ---- sockets ---- */

static void test_readiness(void **state) {
  net n;
  (void)state;
  pair_open(&n, 13, &(pu_sim_link){.delay_us = MS});
  b.lazy = true;
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  pass(&n, SECOND);
  assert_int_equal(b.readable, 0);
  send(&a, &b.at, 0, 1, 100);
  while (b.readable < 5) /* told again and again */
    assert_true(pu_sim_step(n.sim));
  pu_udp_want(b.udp, 0);
  pass(&n, SECOND);
  assert_int_equal(b.readable, 5);
  pu_udp_want(b.udp, PU_WANT_READ | PU_WANT_WRITE);
  while (b.writable < 5)
    assert_true(pu_sim_step(n.sim));
  assert_in_range(b.readable, 8, 11);
  pu_udp_want(b.udp, PU_WANT_READ);
  assert_int_equal(port_take(&b), 1);
  const unsigned readable = b.readable, writable = b.writable;
  pass(&n, SECOND);
  assert_int_equal(b.readable, readable);
  assert_int_equal(b.writable, writable);
  pair_close(&n);
}

static void test_close(void **state) {
  net n;
  (void)state;
  pair_open(&n, 14, &(pu_sim_link){.delay_us = MS});
  b.close_in_callback = true;
  pu_udp_want(b.udp, PU_WANT_READ | PU_WANT_WRITE);
  pass(&n, SECOND);
  assert_int_equal(b.writable + b.readable, 1);
  assert_null(b.udp);
  send(&a, &b.at, 0, 3, 100); /* to a closed one, and the network ends with some under way */
  pass(&n, SECOND);
  send(&a, &b.at, 0, 3, 100);
  port_open(&n, &b, 1, "10.0.0.2");
  b.lazy = true;
  send(&a, &b.at, 0, 3, 100);
  while (b.readable == 0)
    assert_true(pu_sim_step(n.sim));
  pair_close(&n); /* with some unread */
}

static void test_receive_bound(void **state) {
  net n;
  (void)state;
  pair_open(&n, 15, &(pu_sim_link){.delay_us = MS});
  b.lazy = true;
  pu_udp_want(b.udp, 0);
  for (uint32_t i = 0; i < 6000; i += 50)
    send(&a, &b.at, i, 50, 1000);
  pass(&n, SECOND);
  while (port_take(&b) > 0) {
  }
  assert_int_equal(b.bytes, 4 * 1024 * 1024 / 1000 * 1000);
  assert_true(in_order(&b));
  send(&a, &b.at, 6000, 1, 1000); /* there is room again */
  pass(&n, SECOND);
  assert_int_equal(port_take(&b), 1);
  pair_close(&n);
}

/* A batch is of one sender, one size and one ECN; only its last may be shorter. */
static void test_joins(void **state) {
  net n;
  (void)state;
  pair_open(&n, 16, &(pu_sim_link){.delay_us = MS});
  port_open(&n, &c, 2, "10.0.0.3");
  b.lazy = true;
  pu_udp_want(b.udp, 0);
  send(&a, &b.at, 0, 3, 1000);
  send(&a, &b.at, 3, 1, 500); /* ends the first batch */
  send(&a, &b.at, 4, 1, 500);
  send(&a, &b.at, 5, 1, 600); /* longer: another */
  send(&c, &b.at, 6, 1, 600); /* another sender */
  uint8_t data[600] = {7};
  for (size_t i = 4; i < sizeof data; i++)
    data[i] = (uint8_t)i;
  const pu_datagrams marked = {
      .remote = b.at, .data = data, .len = sizeof data, .segment = sizeof data, .ecn = 3};
  assert_int_equal(pu_udp_send(c.udp, &marked), sizeof data);
  pass(&n, SECOND);
  assert_int_equal(port_take(&b), 5);
  assert_int_equal(b.datagrams, 8);
  assert_true(in_order(&b));
  assert_int_equal(b.damaged, 0);
  assert_int_equal(b.last.ecn, 3);
  assert_true(pu_sockaddr_equal(&b.last.remote, &c.at));
  /* no more than the room, and what is longer than it is lost */
  uint8_t room[250];
  send(&a, &b.at, 8, 5, 100);
  send(&a, &b.at, 13, 1, 251);
  send(&a, &b.at, 14, 1, 250);
  pass(&n, SECOND);
  static const size_t lens[] = {200, 200, 100, 250};
  for (size_t i = 0; i < PU_COUNT(lens); i++) {
    pu_datagrams one = {.data = room, .len = sizeof room};
    assert_int_equal(pu_udp_recv(b.udp, &one, 1), 1);
    assert_int_equal(one.len, lens[i]);
  }
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  assert_int_equal(send_as(&a, NULL, &b.at, 0, 1, 65508), PU_E_TOO_BIG);
  port_close(&c);
  pair_close(&n);
}

/* A long fat path: 25 MB under way, and none lost. */
static void test_in_flight(void **state) {
  net n;
  (void)state;
  pair_open(
      &n, 17,
      &(pu_sim_link){.delay_us = 100 * MS, .rate_bytes_s = 125000000, .queue_bytes = 30000000});
  for (uint32_t i = 0; i < 20000; i += 50)
    send(&a, &b.at, i, 50, 1222);
  pass(&n, 5 * SECOND);
  assert_int_equal(b.datagrams, 20000);
  assert_true(in_order(&b));
  pair_close(&n);
}

/* ---- TXT records ---- */

typedef struct texts {
  unsigned calls;
  bool inside;
  int status;
  size_t count;
  char first[32], last[32];
} texts;

static void on_texts(void *data, int status, const char *const *text, size_t count) {
  texts *t = data;
  assert_false(t->inside);
  t->calls++;
  t->status = status;
  t->count = count;
  if (count > 0) {
    (void)snprintf(t->first, sizeof t->first, "%s", text[0]);
    (void)snprintf(t->last, sizeof t->last, "%s", text[count - 1]);
  }
}

static pu_resolve *ask(net *n, texts *t, const char *name) {
  pu_resolve *r;
  *t = (texts){.inside = true};
  assert_int_equal(pu_resolve_text(n->host[0], name, on_texts, t, &r), 0);
  t->inside = false;
  return r;
}

static void test_texts(void **state) {
  net n;
  texts t;
  (void)state;
  net_open(&n, 18, &(pu_sim_link){0});
  assert_int_equal(pu_sim_text(n.sim, "_dnsaddr.example", "dnsaddr=1"), 0);
  assert_int_equal(pu_sim_text(n.sim, "other.example", "other"), 0);
  assert_int_equal(pu_sim_text(n.sim, "_dnsaddr.example", "dnsaddr=2"), 0);
  (void)ask(&n, &t, "_dnsaddr.example");
  pass(&n, SECOND);
  assert_int_equal(t.calls, 1);
  assert_int_equal(t.status, 0);
  assert_int_equal(t.count, 2);
  assert_string_equal(t.first, "dnsaddr=1");
  assert_string_equal(t.last, "dnsaddr=2");
  (void)ask(&n, &t, "nobody.example");
  pass(&n, SECOND);
  assert_int_equal(t.calls, 1);
  assert_int_equal(t.status, PU_E_NOT_FOUND);
  for (unsigned i = 0; i < PU_RESOLVE_TEXTS_MAX + 5; i++)
    assert_int_equal(pu_sim_text(n.sim, "many.example", "x"), 0);
  (void)ask(&n, &t, "many.example");
  pass(&n, SECOND);
  assert_int_equal(t.count, PU_RESOLVE_TEXTS_MAX);
  pu_resolve_cancel(ask(&n, &t, "_dnsaddr.example"));
  pass(&n, SECOND);
  assert_int_equal(t.calls, 0);
  pu_resolve_cancel(ask(&n, &t, "_dnsaddr.example"));
  net_close(&n); /* with a look-up under way */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_delay),      cmocka_unit_test(test_jitter),
      cmocka_unit_test(test_loss),       cmocka_unit_test(test_rate),
      cmocka_unit_test(test_queue),      cmocka_unit_test(test_mtu),
      cmocka_unit_test(test_duplicates), cmocka_unit_test(test_damage),
      cmocka_unit_test(test_blocked),    cmocka_unit_test(test_replays),
      cmocka_unit_test(test_wildcard),   cmocka_unit_test(test_ports),
      cmocka_unit_test(test_rebind),     cmocka_unit_test(test_readiness),
      cmocka_unit_test(test_close),      cmocka_unit_test(test_receive_bound),
      cmocka_unit_test(test_joins),      cmocka_unit_test(test_in_flight),
      cmocka_unit_test(test_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
