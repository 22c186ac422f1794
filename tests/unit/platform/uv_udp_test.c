/* UDP of the libuv door on real loopback sockets, with segmentation offload and without. */
#include "platform/uv_udp.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/assert.h"
#include "support/uv_rig.h"

#define ROOM 65536u

/* A socket that checks what it gets. Datagrams carry their number in every byte. */
typedef struct port {
  pu_udp *udp;
  pu_sockaddr at;
  unsigned readable, writable;
  bool inside; /* a call of ours is under way: no callback may come */
  bool lazy;   /* does not read in the callback */
  bool close_in_callback;
  struct port *victim; /* closed in a callback of ours */
  size_t datagrams, bytes, batches;
  bool wrong;
  pu_datagrams last;
} port;

static uint8_t room[PU_UDP_RECV_MAX][ROOM];

static void port_close(port *x) {
  pu_udp_close(x->udp);
  x->udp = NULL;
}

/* Takes what there is; what pu_udp_recv said. */
static ssize_t port_take(port *x) {
  pu_datagrams b[PU_UDP_RECV_MAX];
  for (size_t i = 0; i < PU_UDP_RECV_MAX; i++)
    b[i] = (pu_datagrams){.data = room[i], .len = ROOM};
  const ssize_t count = pu_udp_recv(x->udp, b, PU_UDP_RECV_MAX);
  for (ssize_t i = 0; i < count; i++) {
    x->wrong |= b[i].segment == 0 || b[i].segment > b[i].len || b[i].data != room[i];
    for (size_t at = 0; at < b[i].len; at += b[i].segment, x->datagrams++)
      for (size_t j = at; j < b[i].len && j < at + b[i].segment; j++)
        x->wrong |= b[i].data[j] != (uint8_t)x->datagrams;
    x->bytes += b[i].len;
    x->batches++;
    x->last = b[i];
  }
  return count;
}

static void told(port *x) {
  assert_false(x->inside);
  assert_non_null(x->udp); /* nothing follows a close */
  if (x->victim != NULL && x->victim->udp != NULL)
    port_close(x->victim);
  if (x->close_in_callback)
    port_close(x);
}

static void on_udp_readable(void *data) {
  port *x = data;
  x->readable++;
  if (!x->lazy)
    (void)port_take(x);
  told(x);
}

static void on_udp_writable(void *data) {
  port *x = data;
  x->writable++;
  told(x);
}

static const pu_udp_events udp_events = {on_udp_readable, on_udp_writable};

static int port_try(rig *r, port *x, const char *ip, uint16_t number) {
  const pu_sockaddr at = ip_port(ip, number);
  *x = (port){.inside = true};
  const int status = pu_udp_open(r->p, &at, &udp_events, x, &x->udp);
  if (status == 0) {
    pu_udp_local(x->udp, &x->at);
    pu_udp_want(x->udp, PU_WANT_READ);
  }
  x->inside = false;
  return status;
}

static void port_open(rig *r, port *x, const char *ip) {
  assert_int_equal(port_try(r, x, ip, 0), 0);
  assert_int_not_equal(x->at.port, 0);
}

/* Writes |count| datagrams of |segment| bytes, the last of |last|, numbered from |first|. */
static pu_datagrams make(uint8_t *data, const pu_sockaddr *to, size_t first, size_t count,
                         size_t segment, size_t last) {
  for (size_t i = 0; i < count; i++)
    memset(data + i * segment, (int)(uint8_t)(first + i), i + 1 < count ? segment : last);
  return (pu_datagrams){
      .remote = *to, .data = data, .len = (count - 1) * segment + last, .segment = segment};
}

static ssize_t port_send(port *x, const pu_datagrams *b) {
  x->inside = true;
  const ssize_t sent = pu_udp_send(x->udp, b);
  x->inside = false;
  return sent;
}

/* ---- batches ---- */

static void batches_over(rig *r, const char *ip) {
  static uint8_t data[65536];
  for (unsigned mode = 0; mode < 4; mode++) {
    port a, b;
    port_open(r, &a, ip);
    port_open(r, &b, ip);
    if ((mode & 1) != 0)
      pu_uv_udp_no_offload(a.udp);
    if ((mode & 2) != 0)
      pu_uv_udp_no_offload(b.udp);
    const pu_datagrams many = make(data, &b.at, 0, 20, 1200, 77);
    assert_int_equal(port_send(&a, &many), 19 * 1200 + 77);
    RUN_UNTIL(r, b.datagrams >= 20);
    assert_int_equal(b.datagrams, 20);
    assert_int_equal(b.bytes, many.len);
    assert_false(b.wrong);
    if (mode == 0) { /* offload on both sides: in one piece, as it was sent */
      assert_int_equal(b.batches, 1);
      assert_int_equal(b.last.segment, 1200);
    } else if ((mode & 2) != 0) {
      assert_int_equal(b.batches, 20);
      assert_int_equal(b.last.segment, 77);
    }
    assert_true(pu_sockaddr_equal(&b.last.remote, &a.at));
    assert_true(pu_sockaddr_equal(&b.last.local, &b.at));
    assert_int_equal(b.last.ecn, 0);
    /* one alone, and the shortest ones */
    const pu_datagrams one = make(data, &b.at, 20, 1, 1452, 1452);
    assert_int_equal(port_send(&a, &one), 1452);
    const pu_datagrams tiny = make(data, &b.at, 21, 3, 1, 1);
    assert_int_equal(port_send(&a, &tiny), 3);
    RUN_UNTIL(r, b.datagrams >= 24);
    assert_false(b.wrong);
    assert_int_equal(b.bytes, many.len + 1452 + 3);
    port_close(&a);
    port_close(&b);
  }
}

static void test_batches(void **state) {
  batches_over(*state, "127.0.0.1");
}

static bool has_ipv6(rig *r) {
  port x;
  if (port_try(r, &x, "::1", 0) != 0)
    return false; /* a machine without IPv6 */
  port_close(&x);
  return true;
}

static void test_batches_ipv6(void **state) {
  if (!has_ipv6(*state))
    skip();
  batches_over(*state, "::1");
}

/* More datagrams or bytes than a kernel takes at once go in several calls, whole ones each time. */
static void test_more_than_a_batch(void **state) {
  static uint8_t data[128 * 1024];
  static const struct {
    size_t segment, count, first_call;
  } cases[] = {{100, 150, 64 * 100}, {1400, 80, 65507 / 1400 * 1400}};
  rig *r = *state;
  for (size_t i = 0; i < 4; i++) {
    const bool offload = i < 2;
    const size_t segment = cases[i % 2].segment;
    port a, b;
    port_open(r, &a, "127.0.0.1");
    port_open(r, &b, "127.0.0.1");
    if (!offload)
      pu_uv_udp_no_offload(a.udp);
    pu_datagrams rest = make(data, &b.at, 0, cases[i % 2].count, segment, segment - 1);
    const size_t all = rest.len;
    for (unsigned calls = 0; rest.len > 0; calls++) {
      const ssize_t sent = port_send(&a, &rest);
      assert_true(sent > 0);
      if (offload && calls == 0)
        assert_int_equal(sent, cases[i % 2].first_call);
      rest.data += sent;
      rest.len -= (size_t)sent;
      assert_true(rest.len == 0 || (all - rest.len) % segment == 0);
      RUN_UNTIL(r, b.bytes >= all - rest.len);
    }
    assert_int_equal(b.datagrams, cases[i % 2].count);
    assert_int_equal(b.bytes, all);
    assert_false(b.wrong);
    port_close(&a);
    port_close(&b);
  }
}

static void test_many_senders(void **state) {
  uint8_t data[64];
  rig *r = *state;
  port a[20], b;
  port_open(r, &b, "127.0.0.1");
  b.lazy = true;
  for (size_t i = 0; i < PU_COUNT(a); i++) {
    port_open(r, &a[i], "127.0.0.1");
    const pu_datagrams one = make(data, &b.at, i, 1, sizeof data, sizeof data);
    assert_int_equal(port_send(&a[i], &one), sizeof data);
  }
  RUN_UNTIL(r, b.readable > 0);
  /* at most so many batches at once, however many the caller has room for */
  assert_int_equal(port_take(&b), PU_UDP_RECV_MAX);
  assert_true(pu_sockaddr_equal(&b.last.remote, &a[PU_UDP_RECV_MAX - 1].at));
  while (b.datagrams < PU_COUNT(a))
    assert_true(port_take(&b) > 0);
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  assert_false(b.wrong);
  for (size_t i = 0; i < PU_COUNT(a); i++)
    port_close(&a[i]);
  port_close(&b);
}

/* ---- what the headers say ---- */

static void ecn_over(rig *r, const char *ip) {
  static uint8_t data[8192];
  port a, b;
  port_open(r, &a, ip);
  port_open(r, &b, ip);
  for (unsigned i = 0; i < 8; i++) { /* one alone, and a batch */
    pu_datagrams some = make(data, &b.at, b.datagrams, i < 4 ? 1 : 5, 1200, 1200);
    some.ecn = i & 3;
    const size_t want = b.datagrams + (i < 4 ? 1 : 5);
    assert_int_equal(port_send(&a, &some), some.len);
    RUN_UNTIL(r, b.datagrams >= want);
    assert_int_equal(b.last.ecn, i & 3);
  }
  assert_false(b.wrong);
  port_close(&a);
  port_close(&b);
}

static void test_ecn(void **state) {
  ecn_over(*state, "127.0.0.1");
}

static void test_ecn_ipv6(void **state) {
  if (!has_ipv6(*state))
    skip();
  ecn_over(*state, "::1");
}

/* A socket of all addresses is told which one its peer means, and answers from that one. */
static void test_wildcard(void **state) {
  uint8_t data[3000];
  rig *r = *state;
  port a, b;
  port_open(r, &a, "127.0.0.1");
  port_open(r, &b, "0.0.0.0");
  for (unsigned i = 0; i < 2; i++) {
    const pu_sockaddr to = ip_port(i == 0 ? "127.0.0.2" : "127.0.0.3", b.at.port);
    const pu_datagrams there = make(data, &to, b.datagrams, 1, 9, 9);
    assert_int_equal(port_send(&a, &there), 9);
    RUN_UNTIL(r, b.datagrams == 1 + i);
    assert_true(pu_sockaddr_equal(&b.last.local, &to));
    pu_datagrams back = make(data, &b.last.remote, a.datagrams, 2, 1500, 1500);
    back.local = b.last.local;
    assert_int_equal(port_send(&b, &back), 3000);
    RUN_UNTIL(r, a.datagrams == 2 * (i + 1));
    assert_true(pu_sockaddr_equal(&a.last.remote, &to));
    assert_true(pu_sockaddr_equal(&a.last.local, &a.at));
  }
  /* family 0: whatever fits */
  const pu_datagrams any = make(data, &a.at, a.datagrams, 1, 9, 9);
  assert_int_equal(port_send(&b, &any), 9);
  RUN_UNTIL(r, a.datagrams == 5);
  assert_int_equal(a.last.remote.port, b.at.port);
  assert_false(a.wrong || b.wrong);
  port_close(&a);
  port_close(&b);
}

static void test_wildcard_ipv6(void **state) {
  uint8_t data[9];
  rig *r = *state;
  port a, b;
  if (!has_ipv6(r))
    skip();
  port_open(r, &a, "::1");
  port_open(r, &b, "::");
  const pu_sockaddr to = ip_port("::1", b.at.port);
  const pu_datagrams there = make(data, &to, 0, 1, 9, 9);
  assert_int_equal(port_send(&a, &there), 9);
  RUN_UNTIL(r, b.datagrams == 1);
  assert_true(pu_sockaddr_equal(&b.last.local, &to));
  pu_datagrams back = make(data, &a.at, 0, 1, 9, 9);
  back.local = b.last.local;
  assert_int_equal(port_send(&b, &back), 9);
  RUN_UNTIL(r, a.datagrams == 1);
  assert_true(pu_sockaddr_equal(&a.last.remote, &to));
  port_close(&a);
  port_close(&b);
}

/* An address that this machine has no more is the batch's fault: offload stays. */
static void test_foreign_source(void **state) {
  static uint8_t data[8192];
  rig *r = *state;
  port a, b;
  port_open(r, &a, "0.0.0.0");
  port_open(r, &b, "127.0.0.1");
  pu_datagrams some = make(data, &b.at, 0, 5, 1200, 1200);
  some.local = ip_port("192.0.2.1", a.at.port);
  assert_true(port_send(&a, &some) < 0);
  some.local.family = 0;
  assert_int_equal(port_send(&a, &some), 6000);
  RUN_UNTIL(r, b.datagrams == 5);
  assert_int_equal(b.batches, 1);
  port_close(&a);
  port_close(&b);
}

/* ---- readiness ---- */

static void test_readiness(void **state) {
  uint8_t data[9];
  rig *r = *state;
  port a, b;
  port_open(r, &a, "127.0.0.1");
  port_open(r, &b, "127.0.0.1");
  b.lazy = true;
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  ASSERT_IDLE(r, 50);
  assert_int_equal(b.readable, 0);
  const pu_datagrams one = make(data, &b.at, 0, 1, 9, 9);
  assert_int_equal(port_send(&a, &one), 9);
  RUN_UNTIL(r, b.readable > 3); /* told again and again */
  pu_udp_want(b.udp, 0);
  const unsigned before = b.readable;
  ASSERT_IDLE(r, 50);
  assert_int_equal(b.readable, before);
  pu_udp_want(b.udp, PU_WANT_READ | PU_WANT_WRITE);
  RUN_UNTIL(r, b.writable > 3 && b.readable > before + 3);
  pu_udp_want(b.udp, PU_WANT_READ);
  assert_int_equal(port_take(&b), 1);
  const unsigned writable = b.writable;
  TURN(r, 1);
  const unsigned readable = b.readable;
  ASSERT_IDLE(r, 50);
  assert_int_equal(b.readable, readable);
  assert_int_equal(b.writable, writable);
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  port_close(&a);
  port_close(&b);
}

static void test_close_in_event(void **state) {
  uint8_t data[9];
  rig *r = *state;
  port a, b, c;
  port_open(r, &a, "127.0.0.1");
  port_open(r, &b, "127.0.0.1");
  b.close_in_callback = true;
  pu_udp_want(b.udp, PU_WANT_READ | PU_WANT_WRITE);
  pu_datagrams one = make(data, &b.at, 0, 1, 9, 9);
  assert_int_equal(port_send(&a, &one), 9);
  RUN_UNTIL(r, b.udp == NULL);
  TURN(r, 10);
  assert_int_equal(b.readable + b.writable, 1);
  /* two are ready, and each would close the other: the second hears nothing */
  port_open(r, &b, "127.0.0.1");
  port_open(r, &c, "127.0.0.1");
  b.victim = &c;
  c.victim = &b;
  assert_int_equal(port_send(&a, &(pu_datagrams){b.at, b.at, data, 9, 9, 0}), 9);
  assert_int_equal(port_send(&a, &(pu_datagrams){c.at, c.at, data, 9, 9, 0}), 9);
  RUN_UNTIL(r, b.udp == NULL || c.udp == NULL);
  TURN(r, 10);
  assert_int_equal(b.readable + c.readable, 1);
  port_close(b.udp != NULL ? &b : &c);
  port_close(&a);
  pu_udp_close(NULL);
}

/* ---- what goes wrong ---- */

static void test_open_fails(void **state) {
  rig *r = *state;
  port a, b, c;
  port_open(r, &a, "127.0.0.1");
  assert_int_equal(port_try(r, &b, "127.0.0.1", a.at.port), PU_E_IN_USE);
  assert_int_equal(port_try(r, &b, "0.0.0.0", a.at.port), PU_E_IN_USE);
  assert_int_equal(port_try(r, &b, "192.0.2.1", 0), PU_E_NO_ADDRESS);
  if (has_ipv6(r)) { /* both families share no port */
    assert_int_equal(port_try(r, &c, "::", a.at.port), 0);
    port_close(&c);
  }
  const uint16_t number = a.at.port;
  port_close(&a);
  assert_int_equal(port_try(r, &b, "127.0.0.1", number), 0); /* free at once */
  port_close(&b);
  struct rlimit was, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
  none = was;
  none.rlim_cur = 0;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  const int status = port_try(r, &b, "127.0.0.1", 0);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
  assert_int_equal(status, PU_E_LIMIT);
}

static void test_too_big(void **state) {
  static uint8_t data[3 * 65600];
  rig *r = *state;
  port a, b;
  port_open(r, &a, "127.0.0.1");
  port_open(r, &b, "127.0.0.1");
  for (unsigned i = 0; i < 2; i++) {
    const pu_datagrams most = make(data, &b.at, i, 1, 65507, 65507);
    assert_int_equal(port_send(&a, &most), 65507);
    RUN_UNTIL(r, b.datagrams == i + 1);
    const pu_datagrams one = make(data, &b.at, 0, 1, 65508, 65508);
    const pu_datagrams more = make(data, &b.at, 0, 3, 65508, 65508);
    assert_int_equal(port_send(&a, &one), PU_E_TOO_BIG);
    assert_int_equal(port_send(&a, &more), PU_E_TOO_BIG);
    pu_uv_udp_no_offload(a.udp);
  }
  assert_false(b.wrong);
  const pu_sockaddr v6 = ip_port("2001:db8::1", 9);
  const pu_datagrams wrong_family = make(data, &v6, 0, 1, 9, 9);
  assert_int_equal(port_send(&a, &wrong_family), PU_E_UNREACHABLE);
  port_close(&a);
  port_close(&b);
}

/* Runs in a network namespace of its own; 0: good, 77: there is none to be had, else a line. */
#define MUST(cond) \
  if (!(cond))     \
  _exit(__LINE__ % 50 + 1)

static void in_small_network(void) {
  static uint8_t data[65536];
  struct ifreq lo = {.ifr_name = "lo"};
  rig r;
  port a, b;
  if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
    _exit(77);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  lo.ifr_mtu = 1400;
  if (fd < 0 || ioctl(fd, SIOCSIFMTU, &lo) != 0)
    _exit(77);
  lo.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
  if (ioctl(fd, SIOCSIFFLAGS, &lo) != 0)
    _exit(77);
  (void)close(fd);
  MUST(pu_uv_loop_new(&r.loop) == 0 && pu_uv_new(r.loop, &r.p) == 0);
  MUST(port_try(&r, &a, "127.0.0.1", 0) == 0);
  MUST(port_try(&r, &b, "127.0.0.1", 0) == 0);
  /* a probe that is too long, alone and before others, is told and forgotten */
  const pu_datagrams probe = make(data, &b.at, 0, 1, 1452, 1452);
  MUST(port_send(&a, &probe) == PU_E_TOO_BIG);
  const pu_datagrams probes = make(data, &b.at, 0, 2, 1452, 1200);
  MUST(port_send(&a, &probes) == PU_E_TOO_BIG);
  /* and does not cost the offload */
  const pu_datagrams some = make(data, &b.at, 0, 10, 1372, 1372);
  MUST(port_send(&a, &some) == 13720);
  TURN(&r, 20);
  MUST(b.datagrams == 10 && b.batches == 1 && !b.wrong);
  _exit(0);
}

static void test_small_mtu(void **state) {
  (void)state;
  const pid_t child = fork();
  int status;
  assert_true(child >= 0);
  if (child == 0)
    in_small_network();
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77)
    skip(); /* no right to a network of our own */
  assert_int_equal(WEXITSTATUS(status), 0);
}

/* A port without anyone is no error of the socket that sent there. */
static void test_nobody(void **state) {
  uint8_t data[9];
  rig *r = *state;
  port a, b, gone;
  port_open(r, &a, "127.0.0.1");
  port_open(r, &b, "127.0.0.1");
  port_open(r, &gone, "127.0.0.1");
  port_close(&gone);
  for (unsigned i = 0; i < 3; i++) {
    const pu_datagrams lost = make(data, &gone.at, 0, 1, 9, 9);
    assert_int_equal(port_send(&a, &lost), 9);
    TURN(r, 2);
    assert_int_equal(port_take(&a), PU_E_AGAIN);
  }
  const pu_datagrams one = make(data, &b.at, 0, 1, 9, 9);
  assert_int_equal(port_send(&a, &one), 9);
  RUN_UNTIL(r, b.datagrams == 1);
  port_close(&a);
  port_close(&b);
}

/* Empty datagrams, and ones that are longer than the reader's room, are as if they had not come. */
static void test_dropped(void **state) {
  uint8_t data[64], small[16];
  rig *r = *state;
  port b;
  port_open(r, &b, "127.0.0.1");
  pu_uv_udp_no_offload(b.udp);
  b.lazy = true;
  struct sockaddr_in to = {.sin_family = AF_INET};
  to.sin_port = (uint16_t)(b.at.port >> 8 | b.at.port << 8);
  memcpy(&to.sin_addr, b.at.ip, 4);
  const int raw = socket(AF_INET, SOCK_DGRAM, 0);
  assert_true(raw >= 0);
  const size_t lengths[] = {0, 16, 0, 17, 0};
  memset(data, 0, sizeof data);
  for (size_t i = 0; i < PU_COUNT(lengths); i++)
    assert_int_equal(sendto(raw, data, lengths[i], 0, (const struct sockaddr *)&to, sizeof to),
                     lengths[i]);
  RUN_UNTIL(r, b.readable > 0);
  pu_datagrams got[PU_UDP_RECV_MAX];
  for (size_t i = 0; i < PU_UDP_RECV_MAX; i++)
    got[i] = (pu_datagrams){.data = i == 0 ? small : room[i], .len = sizeof small};
  assert_int_equal(pu_udp_recv(b.udp, got, PU_UDP_RECV_MAX), 1);
  assert_int_equal(got[0].len, 16);
  assert_int_equal(sendto(raw, data, 0, 0, (const struct sockaddr *)&to, sizeof to), 0);
  TURN(r, 5);
  assert_int_equal(port_take(&b), PU_E_AGAIN);
  assert_int_equal(b.datagrams, 0);
  (void)close(raw);
  port_close(&b);
}

/* More than the receiver's buffer holds is lost; what comes is whole. */
static void test_flood(void **state) {
  static uint8_t data[65536];
  rig *r = *state;
  port a, b;
  port_open(r, &a, "127.0.0.1");
  port_open(r, &b, "127.0.0.1");
  b.lazy = true;
  size_t sent = 0;
  const pu_datagrams some = make(data, &b.at, 0, 64, 1000, 1000);
  for (unsigned i = 0; i < 400; i++) {
    const ssize_t n = port_send(&a, &some);
    assert_true(n == 64000 || n == PU_E_AGAIN);
    sent += n > 0 ? (size_t)n : 0;
  }
  while (port_take(&b) > 0) {
  }
  assert_true(b.bytes > 0 && b.bytes < sent);
  assert_int_equal(b.bytes % 1000, 0);
  port_close(&a);
  port_close(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      T(test_batches),
      T(test_batches_ipv6),
      T(test_more_than_a_batch),
      T(test_many_senders),
      T(test_ecn),
      T(test_ecn_ipv6),
      T(test_wildcard),
      T(test_wildcard_ipv6),
      T(test_foreign_source),
      T(test_readiness),
      T(test_close_in_event),
      T(test_open_fails),
      T(test_too_big),
      T(test_small_mtu),
      T(test_nobody),
      T(test_dropped),
      T(test_flood),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
