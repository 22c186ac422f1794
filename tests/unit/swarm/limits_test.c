#include "swarm/limits.h"

#include "platform/assert.h"
#include "support/unit.h"

#define MIB ((uint64_t)1 << 20)

typedef struct rig {
  pu_mem mem;
  pu_limiter l;
  pu_refusal why;
} rig;

static void rig_begin(rig *r, const pu_limits *limits) {
  const pu_machine machine = {.memory_bytes = 2048 * MIB, .descriptors = 65536};
  pu_limits filled = *limits;
  pu_limits_fill(&filled, &machine);
  memset(r, 0, sizeof(*r));
  pu_mem_init(&r->mem, NULL, filled.memory_total);
  pu_limits_init(&r->l, &filled, &r->mem, 99);
}

static void rig_end(rig *r) {
  pu_limits_deinit(&r->l);
  assert_int_equal(r->mem.used, 0);
  pu_mem_deinit(&r->mem);
}

static pu_origin origin(uint8_t n) {
  return (pu_origin){.len = n == 0 ? 0 : 4, .bytes = {n == 0 ? 0 : 192, 0, 2, n}};
}

static pu_peer_id peer_id(uint8_t n) {
  return (pu_peer_id){.len = 3, .bytes = {0, 1, n}};
}

static int accept_from(rig *r, pu_conn_share *c, uint8_t address) {
  const pu_origin o = origin(address);
  return pu_limits_accept(&r->l, c, &o, 0, &r->why);
}

static int authenticate(rig *r, pu_conn_share *c, uint8_t peer, bool is_protected, pu_mem *mem) {
  const pu_peer_id id = peer_id(peer);
  return pu_limits_authenticated(&r->l, c, &id, is_protected, mem, &r->why);
}

/* One connection as the swarm has it. */
typedef struct conn {
  pu_conn_share share;
  pu_mem mem;
} conn;

static int open_conn(rig *r, conn *c, uint8_t address, uint8_t peer) {
  pu_mem_init(&c->mem, &r->mem, PU_PREAUTH_MAX_BYTES);
  int status = accept_from(r, &c->share, address);
  if (status == 0)
    status = authenticate(r, &c->share, peer, false, &c->mem);
  if (status == 0)
    pu_limits_admitted(&r->l, &c->share);
  return status;
}

static void close_conn(rig *r, conn *c) {
  pu_limits_close(&r->l, &c->share);
  pu_mem_deinit(&c->mem);
  pu_limits_release(&r->l, &c->share);
}

typedef struct wanted {
  const char *name;
  pu_limit_stat stat;
} wanted;

static void on_stat(void *data, const pu_limit_stat *stat) {
  wanted *w = data;
  if (strcmp(stat->name, w->name) == 0)
    w->stat = *stat;
}

static pu_limit_stat stat_of(const rig *r, const char *name) {
  wanted w = {.name = name};
  const pu_limits_conns conns = {0};
  pu_limits_stats(&r->l, &conns, on_stat, &w);
  assert_non_null(w.stat.name);
  return w.stat;
}

static void assert_stat(const rig *r, const char *name, uint64_t used, uint64_t limit,
                        uint64_t refused) {
  const pu_limit_stat s = stat_of(r, name);
  assert_int_equal(s.used, used);
  assert_int_equal(s.limit, limit);
  assert_int_equal(s.refused, refused);
}

/* ---- defaults ---- */

static void defaults_follow_from_the_machine(void **state) {
  (void)state;
  pu_limits l = {0};
  const pu_machine usual = {.memory_bytes = 2048 * MIB, .descriptors = 8192};
  pu_limits_fill(&l, &usual);
  assert_int_equal(l.memory_total, 512 * MIB); /* as engine.h says */
  assert_int_equal(l.memory_per_ip, 256 * MIB);
  assert_int_equal(l.memory_per_peer, 128 * MIB);
  assert_int_equal(l.memory_per_conn, 64 * MIB);
  assert_int_equal(l.conns_total, 4096);
  assert_int_equal(l.conns_in, 3584);
  assert_int_equal(l.conns_per_ip, 256);
  assert_int_equal(l.conns_per_peer, 8);
  assert_int_equal(l.conns_pending, 128);
  assert_int_equal(l.conns_pending_per_ip, 16);
  assert_int_equal(l.streams_in, 65536);
  assert_int_equal(l.streams_in_per_ip, 49152);
  assert_int_equal(l.streams_in_per_peer, 32768);
  assert_int_equal(l.streams_in_per_conn, 16384);
  assert_int_equal(l.streams_in_per_protocol, 49152);
  assert_int_equal(l.streams_in_per_protocol_peer, 32768);
  assert_int_equal(l.negotiating_per_conn, 256);
  assert_int_equal(l.idle_ms, 60000);

  const pu_machine small = {.memory_bytes = 128 * MIB, .descriptors = 256};
  l = (pu_limits){0};
  pu_limits_fill(&l, &small);
  assert_int_equal(l.memory_total, 64 * MIB);
  assert_int_equal(l.memory_per_conn, 16 * MIB);
  assert_int_equal(l.conns_total, 128); /* of descriptors */
  assert_int_equal(l.conns_pending, 16);
  assert_int_equal(l.streams_in, 8192);
  assert_int_equal(l.streams_in_per_conn, 4096);

  const pu_machine large = {.memory_bytes = (uint64_t)1 << 45, .descriptors = UINT64_MAX};
  l = (pu_limits){0};
  pu_limits_fill(&l, &large);
  assert_int_equal(l.memory_total, 4096 * MIB);
  assert_int_equal(l.conns_total, 32768);

  const pu_machine unknown = {0};
  l = (pu_limits){0};
  pu_limits_fill(&l, &unknown);
  assert_int_equal(l.conns_total, 4096);
}

static void what_is_set_stays(void **state) {
  (void)state;
  const pu_machine machine = {.memory_bytes = 128 * MIB, .descriptors = 1024};
  pu_limits l = {.conns_total = 1, .memory_per_conn = 256 * MIB, .streams_in_per_conn = 100000};
  pu_limits_fill(&l, &machine);
  assert_int_equal(l.conns_total, 1);
  assert_int_equal(l.conns_in, 1);
  assert_int_equal(l.memory_per_conn, 256 * MIB);
  assert_int_equal(l.memory_per_peer, 256 * MIB); /* no part is above its whole */
  assert_int_equal(l.memory_total, 256 * MIB);
  assert_int_equal(l.streams_in_per_conn, 100000);
  assert_true(l.streams_in_per_peer >= 100000 && l.streams_in >= 100000);
  assert_true(l.streams_in_per_ip >= 100000);
}

static void origins(void **state) {
  (void)state;
  static const struct {
    const char *addr;
    const char *bytes;
  } cases[] = {
      {"/ip4/192.0.2.7/tcp/1", "c0000207"},
      {"/ip6/2001:db8:1:2:3:4:5:6/udp/1/quic-v1", "20010db800010002"},
      {"/ip6/::ffff:192.0.2.7/tcp/1", "c0000207"},
      {"/ip6/fe80::1/tcp/1", "fe800000000000000000000000000001"},
      {"/ip6zone/eth0/ip6/fe80::1/tcp/1", "fe800000000000000000000000000001"},
      {"/ip4/127.0.0.1/tcp/1", ""},
      {"/ip6/::1/tcp/1", ""},
      {"/dns4/example.com/tcp/1", ""},
      {"/ip4/192.0.2.7/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N/p2p-circuit", ""}};
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    pu_multiaddr a;
    pu_origin o;
    uint8_t want[16];
    assert_int_equal(pu_multiaddr_from_text(cases[i].addr, strlen(cases[i].addr), &a, NULL), 0);
    pu_limits_origin(&a, &o);
    assert_int_equal(o.len, unhex(cases[i].bytes, want, sizeof(want)));
    assert_memory_equal(o.bytes, want, o.len);
  }
}

/* ---- connections ---- */

static void handshakes(void **state) {
  (void)state;
  rig r;
  pu_conn_share c[8];
  const pu_limits limits = {.conns_pending = 4, .conns_pending_per_ip = 2, .conns_total = 100};
  rig_begin(&r, &limits);
  assert_int_equal(accept_from(&r, &c[0], 1), 0);
  assert_int_equal(accept_from(&r, &c[1], 1), 0);
  assert_int_equal(accept_from(&r, &c[2], 1), PU_E_LIMIT);
  assert_string_equal(r.why.text, "too many connections in handshake of one address: the limit is "
                                  "2 (raise limits.connections.pending_per_address)");
  assert_stat(&r, "connections.pending_per_address", 2, 2, 1);
  assert_int_equal(accept_from(&r, &c[2], 2), 0);
  assert_int_equal(accept_from(&r, &c[3], 3), PU_E_LIMIT); /* the rest is for known addresses */
  assert_stat(&r, "connections.pending", 3, 4, 1);
  assert_string_equal(r.why.text, "too many connections in handshake: the limit is 3 (raise "
                                  "limits.connections.pending)");
  pu_limits_close(&r.l, &c[0]);
  pu_limits_close(&r.l, &c[0]);                   /* harmless */
  assert_int_equal(accept_from(&r, &c[3], 0), 0); /* without an address: only the total counts */
  assert_stat(&r, "connections.pending", 3, 4, 1);
  for (int i = 1; i < 4; i++)
    pu_limits_close(&r.l, &c[i]);
  assert_int_equal(r.l.scopes.count, 0);
  rig_end(&r);
}

static void known_addresses_have_a_reserve(void **state) {
  (void)state;
  rig r;
  conn friend;
  pu_conn_share c[16];
  const pu_limits limits = {.conns_pending = 8, .conns_pending_per_ip = 3};
  rig_begin(&r, &limits);
  assert_int_equal(open_conn(&r, &friend, 9, 1), 0);
  close_conn(&r, &friend);
  for (uint8_t i = 0; i < 6; i++)
    assert_int_equal(accept_from(&r, &c[i], (uint8_t)(20 + i)), 0);
  assert_int_equal(accept_from(&r, &c[6], 30), PU_E_LIMIT);
  assert_int_equal(accept_from(&r, &c[6], 9), 0);
  assert_int_equal(accept_from(&r, &c[7], 9), 0);
  assert_int_equal(accept_from(&r, &c[8], 9), PU_E_LIMIT);
  assert_stat(&r, "connections.pending", 8, 8, 2);
  for (int i = 0; i < 8; i++)
    pu_limits_close(&r.l, &c[i]);
  rig_end(&r);
}

/* What waits for its first byte is no share yet, but has the same limits. */
static void waiting_before_the_handshake(void **state) {
  (void)state;
  rig r;
  conn friend;
  const pu_limits limits = {.conns_pending = 8, .conns_pending_per_ip = 3};
  const pu_origin known = origin(9), stranger = origin(20);
  rig_begin(&r, &limits);
  assert_int_equal(open_conn(&r, &friend, 9, 1), 0);
  close_conn(&r, &friend);
  assert_int_equal(pu_limits_may_wait(&r.l, &stranger, 5, 2, &r.why), 0);
  assert_int_equal(pu_limits_may_wait(&r.l, &stranger, 5, 3, &r.why), PU_E_LIMIT);
  assert_int_equal(r.why.kind, PU_LIMIT_PENDING_PER_ADDRESS);
  assert_int_equal(pu_limits_may_wait(&r.l, &stranger, 6, 0, &r.why), PU_E_LIMIT);
  assert_int_equal(r.why.kind, PU_LIMIT_PENDING);
  assert_int_equal(pu_limits_may_wait(&r.l, &known, 7, 0, &r.why), 0);
  assert_int_equal(pu_limits_may_wait(&r.l, &known, 8, 0, &r.why), PU_E_LIMIT);
  assert_stat(&r, "connections.pending", 0, 8, 2);
  rig_end(&r);
}

/* A share that moves keeps its place among the strangers. */
static void shares_move(void **state) {
  (void)state;
  rig r;
  pu_conn_share c[3], moved;
  const pu_limits limits = {0};
  rig_begin(&r, &limits);
  for (uint8_t i = 0; i < 3; i++) {
    const pu_origin o = origin(i + 1);
    assert_int_equal(pu_limits_accept(&r.l, &c[i], &o, i, &r.why), 0);
  }
  pu_limits_move(&c[0], &moved);
  pu_limits_close(&r.l, &c[0]); /* holds nothing any more */
  assert_int_equal(r.l.pending, 3);
  assert_ptr_equal(pu_limits_slowest(&r.l, PU_LIMITS_PATIENCE_US), &moved);
  pu_limits_close(&r.l, &moved);
  assert_ptr_equal(pu_limits_slowest(&r.l, PU_LIMITS_PATIENCE_US + 1), &c[1]);
  pu_limits_close(&r.l, &c[1]);
  pu_limits_close(&r.l, &c[2]);
  rig_end(&r);
}

static void known_addresses_are_bounded(void **state) {
  (void)state;
  rig r;
  pu_conn_share c;
  pu_origin o = {.len = 4};
  const pu_limits limits = {0};
  rig_begin(&r, &limits);
  for (uint32_t i = 0; i < PU_LIMITS_KNOWN_MAX + 10; i++) {
    memcpy(o.bytes, &i, sizeof(i));
    assert_int_equal(pu_limits_dial(&r.l, &c, &o, &r.why), 0);
    pu_limits_admitted(&r.l, &c);
    pu_limits_close(&r.l, &c);
    memset(o.bytes, 0, 4); /* the first is noted again each time */
    assert_int_equal(pu_limits_dial(&r.l, &c, &o, &r.why), 0);
    pu_limits_admitted(&r.l, &c);
    pu_limits_close(&r.l, &c);
  }
  assert_int_equal(r.l.scopes.count, PU_LIMITS_KNOWN_MAX);
  for (uint32_t i = 0; i < 12; i++) {
    memcpy(o.bytes, &i, sizeof(i));
    assert_int_equal(pu_limits_accept(&r.l, &c, &o, 0, &r.why), 0);
    assert_int_equal(c.stranger, i > 0 && i <= 10);
    pu_limits_close(&r.l, &c);
  }
  rig_end(&r);
}

static void the_slowest_stranger_makes_room(void **state) {
  (void)state;
  rig r;
  pu_conn_share c[3];
  const pu_limits limits = {.conns_pending = 4};
  const pu_origin o = origin(0);
  rig_begin(&r, &limits);
  assert_null(pu_limits_slowest(&r.l, UINT64_MAX));
  for (uint64_t i = 0; i < 3; i++)
    assert_int_equal(pu_limits_accept(&r.l, &c[i], &o, 1000 * i, &r.why), 0);
  assert_null(pu_limits_slowest(&r.l, PU_LIMITS_PATIENCE_US - 1));
  assert_ptr_equal(pu_limits_slowest(&r.l, PU_LIMITS_PATIENCE_US), &c[0]);
  pu_limits_close(&r.l, &c[0]);
  assert_null(pu_limits_slowest(&r.l, PU_LIMITS_PATIENCE_US));
  assert_ptr_equal(pu_limits_slowest(&r.l, PU_LIMITS_PATIENCE_US + 1000), &c[1]);
  pu_limits_close(&r.l, &c[1]);
  pu_limits_close(&r.l, &c[2]);
  rig_end(&r);
}

static void open_connections(void **state) {
  (void)state;
  rig r;
  conn c[8];
  const pu_origin out = origin(50);
  const pu_limits limits = {
      .conns_total = 6, .conns_in = 5, .conns_per_peer = 2, .conns_per_ip = 4};
  rig_begin(&r, &limits);
  assert_int_equal(open_conn(&r, &c[0], 1, 1), 0);
  assert_int_equal(open_conn(&r, &c[1], 1, 1), 0);
  const pu_peer_id one = peer_id(1);
  assert_int_equal(pu_limits_peer_conns(&r.l, &one), 2);
  assert_int_equal(open_conn(&r, &c[2], 1, 1), PU_E_LIMIT);
  assert_stat(&r, "connections.per_peer", 2, 2, 1);
  assert_memory_equal(r.why.text, "too many connections of one peer", 32);
  close_conn(&r, &c[2]);
  assert_int_equal(open_conn(&r, &c[2], 1, 2), 0);
  assert_int_equal(open_conn(&r, &c[3], 1, 3), 0);
  assert_int_equal(open_conn(&r, &c[4], 1, 4), PU_E_LIMIT);
  assert_stat(&r, "connections.per_address", 4, 4, 1);
  pu_mem_deinit(&c[4].mem);
  assert_int_equal(open_conn(&r, &c[4], 2, 4), 0);
  assert_int_equal(open_conn(&r, &c[5], 3, 5),
                   PU_E_LIMIT); /* inbound are full, one place is left */
  assert_stat(&r, "connections.inbound", 5, 5, 1);
  close_conn(&r, &c[5]);
  pu_mem_init(&c[5].mem, &r.mem, PU_PREAUTH_MAX_BYTES);
  assert_int_equal(pu_limits_dial(&r.l, &c[5].share, &out, &r.why), 0);
  assert_int_equal(authenticate(&r, &c[5].share, 6, false, &c[5].mem), 0);
  assert_int_equal(pu_limits_dial(&r.l, &c[6].share, &out, &r.why), PU_E_LIMIT);
  assert_stat(&r, "connections.total", 6, 6, 1);
  for (int i = 0; i < 6; i++)
    close_conn(&r, &c[i]);
  assert_int_equal(pu_limits_peer_conns(&r.l, &one), 0);
  rig_end(&r);
}

static void protected_peers_have_a_reserve(void **state) {
  (void)state;
  rig r;
  conn c[18];
  const pu_limits limits = {.conns_total = 18, .conns_in = 16};
  rig_begin(&r, &limits);
  for (uint8_t i = 0; i < 14; i++)
    assert_int_equal(open_conn(&r, &c[i], i + 1, i), 0);
  assert_int_equal(open_conn(&r, &c[14], 15, 15), PU_E_LIMIT);
  close_conn(&r, &c[14]);
  for (uint8_t i = 14; i < 17; i++) {
    pu_mem_init(&c[i].mem, &r.mem, PU_PREAUTH_MAX_BYTES);
    assert_int_equal(accept_from(&r, &c[i].share, i), 0);
    assert_int_equal(authenticate(&r, &c[i].share, i, true, &c[i].mem), i < 16 ? 0 : PU_E_LIMIT);
  }
  for (int i = 0; i < 17; i++)
    close_conn(&r, &c[i]);
  rig_end(&r);
}

/* ---- streams ---- */

static void streams(void **state) {
  (void)state;
  rig r;
  conn c[3];
  pu_stream_share s[16];
  const pu_limits limits = {.streams_in = 7,
                            .streams_in_per_ip = 6,
                            .streams_in_per_peer = 4,
                            .streams_in_per_conn = 3,
                            .negotiating_per_conn = 2};
  rig_begin(&r, &limits);
  assert_int_equal(open_conn(&r, &c[0], 1, 1), 0);
  assert_int_equal(open_conn(&r, &c[1], 1, 1), 0);
  assert_int_equal(open_conn(&r, &c[2], 1, 2), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[0].share, &s[0], &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[0].share, &s[1], &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[0].share, &s[2], &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.negotiating", 0, 2, 1); /* what is used the swarm knows */
  assert_int_equal(pu_limits_protocol(&r.l, &c[0].share, &s[0], "/a", &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[0].share, &s[2], &r.why), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[0].share, &s[1], "/a", &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[0].share, &s[3], &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.per_connection", 0, 3, 1);
  assert_int_equal(pu_limits_stream(&r.l, &c[1].share, &s[3], &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[1].share, &s[4], &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.per_peer", 4, 4, 1);
  assert_int_equal(pu_limits_stream(&r.l, &c[2].share, &s[4], &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[2].share, &s[5], &r.why), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[2].share, &s[5], "/b", &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[2].share, &s[6], &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.per_address", 6, 6, 1);
  for (int i = 0; i < 6; i++) {
    pu_conn_share *of = &c[i < 3 ? 0 : i < 4 ? 1 : 2].share;
    pu_limits_stream_close(&r.l, of, &s[i]);
    pu_limits_stream_close(&r.l, of, &s[i]); /* harmless */
  }
  assert_stat(&r, "streams.total", 0, 7, 0);
  for (int i = 0; i < 3; i++)
    close_conn(&r, &c[i]);
  rig_end(&r);
}

static void all_streams(void **state) {
  (void)state;
  rig r;
  conn c[2];
  pu_stream_share s[3];
  const pu_limits limits = {
      .streams_in = 2, .streams_in_per_ip = 2, .streams_in_per_peer = 2, .streams_in_per_conn = 2};
  rig_begin(&r, &limits);
  assert_int_equal(open_conn(&r, &c[0], 1, 1), 0);
  assert_int_equal(open_conn(&r, &c[1], 0, 2), 0); /* without an address */
  assert_int_equal(pu_limits_stream(&r.l, &c[0].share, &s[0], &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[1].share, &s[1], &r.why), 0);
  assert_int_equal(pu_limits_stream(&r.l, &c[1].share, &s[2], &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.total", 2, 2, 1);
  pu_limits_stream_close(&r.l, &c[0].share, &s[0]);
  pu_limits_stream_close(&r.l, &c[1].share, &s[1]);
  close_conn(&r, &c[0]);
  close_conn(&r, &c[1]);
  rig_end(&r);
}

static void protocols(void **state) {
  (void)state;
  rig r;
  conn c[2];
  pu_stream_share s[4];
  const pu_limits limits = {.streams_in_per_protocol = 3, .streams_in_per_protocol_peer = 2};
  rig_begin(&r, &limits);
  assert_int_equal(open_conn(&r, &c[0], 1, 1), 0);
  assert_int_equal(open_conn(&r, &c[1], 1, 2), 0);
  for (int i = 0; i < 4; i++)
    assert_int_equal(pu_limits_stream(&r.l, &c[i / 3].share, &s[i], &r.why), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[0].share, &s[0], "/a", &r.why), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[0].share, &s[1], "/a", &r.why), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[0].share, &s[2], "/a", &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.per_protocol_and_peer", 2, 2, 1);
  assert_int_equal(pu_limits_protocol(&r.l, &c[0].share, &s[2], "/b", &r.why), 0);
  /* Limits of its own, set while it is in use. */
  assert_int_equal(pu_limits_set_protocol(&r.l, "/a", 2, 7), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[1].share, &s[3], "/a", &r.why), PU_E_LIMIT);
  assert_stat(&r, "streams.per_protocol", 2, 3, 1);
  assert_string_equal(r.why.text, "too many streams of one protocol: the limit is 2 (raise "
                                  "limits.streams.per_protocol)");
  assert_int_equal(pu_limits_set_protocol(&r.l, "/a", 0, 0), 0);
  assert_int_equal(pu_limits_set_protocol(&r.l, "/a", 0, 0), 0);
  assert_int_equal(pu_limits_protocol(&r.l, &c[1].share, &s[3], "/a", &r.why), 0);
  for (int i = 0; i < 4; i++)
    pu_limits_stream_close(&r.l, &c[i / 3].share, &s[i]);
  close_conn(&r, &c[0]);
  close_conn(&r, &c[1]);
  char name[32];
  for (unsigned i = 0; i <= PU_LIMITS_PROTOCOLS_MAX; i++) {
    (void)snprintf(name, sizeof(name), "/p/%u", i);
    assert_int_equal(pu_limits_set_protocol(&r.l, name, 1, 1),
                     i < PU_LIMITS_PROTOCOLS_MAX ? 0 : PU_E_LIMIT);
  }
  assert_int_equal(pu_limits_set_protocol(&r.l, "/p/7", 0, 0), 0);
  assert_int_equal(pu_limits_set_protocol(&r.l, name, 1, 1), 0);
  char longest[1100];
  memset(longest, 'x', sizeof(longest));
  longest[sizeof(longest) - 1] = '\0';
  assert_int_equal(pu_limits_set_protocol(&r.l, longest, 1, 1), PU_E_INVAL);
  rig_end(&r);
}

/* ---- memory ---- */

/* All that connections of one address hold counts for it, whoever their peers are. */
static void memory_of_an_address(void **state) {
  (void)state;
  rig r;
  conn c[2];
  const pu_limits limits = {.memory_per_conn = 100000,
                            .memory_per_peer = 100000,
                            .memory_per_ip = 120000,
                            .memory_total = 400000};
  rig_begin(&r, &limits);
  for (int i = 0; i < 2; i++) {
    pu_mem_init(&c[i].mem, &r.mem, 100000);
    assert_int_equal(accept_from(&r, &c[i].share, 1), 0);
    pu_limits_account(&c[i].share, &c[i].mem);
    assert_int_equal(authenticate(&r, &c[i].share, (uint8_t)(i + 1), false, &c[i].mem), 0);
  }
  void *a = pu_alloc(&c[0].mem, 70000);
  assert_non_null(a);
  assert_null(pu_alloc(&c[1].mem, 70000));
  assert_true(pu_limits_explain_memory(&r.l, &c[1].share, &c[1].mem, &r.why));
  assert_string_equal(r.why.text, "too much memory for one address: the limit is 120000 bytes "
                                  "(raise limits.memory.per_address)");
  assert_stat(&r, "memory.per_address", c[0].mem.used, 120000, 1);
  /* A connection that ends gives back what it still holds; its own account keeps it. */
  pu_limits_close(&r.l, &c[0].share);
  void *b = pu_alloc(&c[1].mem, 70000);
  assert_non_null(b);
  assert_stat(&r, "memory.per_address", c[1].mem.used, 120000, 1);
  pu_free(a);
  pu_free(b);
  for (int i = 0; i < 2; i++) {
    pu_limits_close(&r.l, &c[i].share);
    pu_mem_deinit(&c[i].mem);
    pu_limits_release(&r.l, &c[i].share);
  }
  rig_end(&r);
}

static void memory(void **state) {
  (void)state;
  rig r;
  conn c[3];
  const pu_limits limits = {
      .memory_per_conn = 100000, .memory_per_peer = 150000, .memory_total = 400000};
  rig_begin(&r, &limits);
  pu_mem_init(&c[0].mem, &r.mem, PU_PREAUTH_MAX_BYTES);
  assert_int_equal(accept_from(&r, &c[0].share, 1), 0);
  assert_null(pu_alloc(&c[0].mem, PU_PREAUTH_MAX_BYTES));
  assert_true(pu_limits_explain_memory(&r.l, &c[0].share, &c[0].mem, &r.why));
  assert_string_equal(r.why.text, "too much memory for one handshake: the limit is 65536 bytes");
  pu_limits_memory_refused(&r.l, &c[0].mem, true);
  assert_stat(&r, "memory.handshake", 0, PU_PREAUTH_MAX_BYTES, 1);
  pu_limits_close(&r.l, &c[0].share);
  pu_mem_deinit(&c[0].mem);

  for (int i = 0; i < 2; i++) {
    assert_int_equal(open_conn(&r, &c[i], 1, 1), 0);
    c[i].mem.limit = limits.memory_per_conn;
  }
  assert_null(pu_alloc(&c[0].mem, 100000));
  assert_true(pu_limits_explain_memory(&r.l, &c[0].share, &c[0].mem, &r.why));
  assert_string_equal(r.why.text, "too much memory for one connection: the limit is 100000 bytes "
                                  "(raise limits.memory.per_connection)");
  pu_limits_memory_refused(&r.l, &c[0].mem, false);
  assert_stat(&r, "memory.per_connection", 0, 100000, 1);
  void *a = pu_alloc(&c[0].mem, 90000);
  assert_non_null(a);
  assert_null(pu_alloc(&c[1].mem, 90000));
  assert_true(pu_limits_explain_memory(&r.l, &c[1].share, &c[1].mem, &r.why));
  assert_memory_equal(r.why.text, "too much memory for one peer", 28);
  assert_stat(&r, "memory.per_peer", c[0].mem.used, 150000, 1);
  void *b = pu_alloc(&c[1].mem, 50000);
  assert_non_null(b);
  /* A connection whose handshake holds more than its peer may have. */
  pu_mem_init(&c[2].mem, &r.mem, PU_PREAUTH_MAX_BYTES);
  void *d = pu_alloc(&c[2].mem, 60000);
  assert_int_equal(accept_from(&r, &c[2].share, 1), 0);
  assert_int_equal(authenticate(&r, &c[2].share, 1, false, &c[2].mem), PU_E_LIMIT);
  assert_memory_equal(r.why.text, "too much memory for one peer", 28);
  void *f = pu_alloc(&r.mem, 150000);
  assert_non_null(f);
  assert_null(pu_alloc(&c[1].mem, 49000 - 1000));
  assert_true(pu_limits_explain_memory(&r.l, &c[1].share, &c[1].mem, &r.why));
  assert_stat(&r, "memory.per_peer", c[0].mem.used + c[1].mem.used, 150000, 3);
  assert_null(pu_alloc(&r.mem, 150000));
  assert_true(pu_limits_explain_memory(&r.l, &c[1].share, &c[1].mem, &r.why));
  assert_memory_equal(r.why.text, "too much memory in use", 22);
  assert_stat(&r, "memory.total", r.mem.used, 400000, 1);
  pu_mem_fail_at(&r.mem, 1);
  assert_null(pu_alloc(&c[1].mem, 1));
  assert_false(pu_limits_explain_memory(&r.l, &c[1].share, &c[1].mem, &r.why));
  pu_limits_close(&r.l, &c[0].share); /* its memory goes later */
  assert_stat(&r, "memory.per_peer", c[0].mem.used + c[1].mem.used, 150000, 3);
  pu_free(a);
  pu_free(b);
  pu_free(d);
  pu_free(f);
  for (int i = 0; i < 3; i++)
    close_conn(&r, &c[i]);
  assert_stat(&r, "memory.per_peer", 0, 150000, 3); /* what was refused stays counted */
  rig_end(&r);
}

/* ---- lack of memory ---- */

static void every_allocation_fails_once(void **state) {
  (void)state;
  const pu_limits limits = {0};
  unsigned failures = 0;
  for (uint64_t n = 1; n < 20; n++) {
    rig r;
    conn c;
    pu_stream_share s;
    rig_begin(&r, &limits);
    pu_mem_fail_at(&r.mem, n);
    int status = pu_limits_set_protocol(&r.l, "/set", 1, 1);
    pu_mem_init(&c.mem, &r.mem, PU_PREAUTH_MAX_BYTES);
    if (status == 0)
      status = accept_from(&r, &c.share, 1);
    else
      c.share = (pu_conn_share){0};
    if (status == 0)
      status = authenticate(&r, &c.share, 1, false, &c.mem);
    if (status == 0) {
      pu_limits_admitted(&r.l, &c.share); /* forgets the address without memory */
      status = pu_limits_stream(&r.l, &c.share, &s, &r.why);
      assert_int_equal(status, 0);
      status = pu_limits_protocol(&r.l, &c.share, &s, "/a", &r.why);
      pu_limits_stream_close(&r.l, &c.share, &s);
    }
    assert_true(status == 0 || status == PU_E_NOMEM);
    failures += status != 0;
    close_conn(&r, &c);
    rig_end(&r);
  }
  assert_int_equal(failures, 5);
}

/* ---- at random, against counting ---- */

#define CONNS 60
#define STREAMS 200
#define PEERS 6
#define ADDRESSES 5 /* 0: none */
#define PROTOCOLS 4

typedef struct model_conn {
  conn c;
  enum { GONE, HANDSHAKE, OPEN } is;
  bool inbound;
  uint8_t address, peer;
} model_conn;

typedef struct model_stream {
  pu_stream_share share;
  model_conn *conn; /* NULL: none */
  int protocol;     /* -1: negotiating */
} model_stream;

static uint64_t draw_state;

static uint32_t draw(uint32_t n) {
  draw_state = draw_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(draw_state >> 33) % n;
}

typedef struct model {
  rig r;
  model_conn conns[CONNS];
  model_stream streams[STREAMS];
} model;

typedef struct tally {
  uint32_t all, in, pending, of_address, pending_of_address, of_peer;
  uint32_t streams, streams_of_conn, negotiating, streams_of_peer, streams_of_address;
  uint32_t of_protocol, of_use;
} tally;

/* count counts what stands beside a connection of |address| and |peer| and a stream of |protocol|.
 */
static tally count(const model *m, const model_conn *of, int protocol) {
  tally t = {0};
  for (int i = 0; i < CONNS; i++) {
    const model_conn *c = &m->conns[i];
    const bool pending = c->is == HANDSHAKE && c->inbound;
    const bool there = c->inbound && c->address == of->address && of->address != 0;
    if (c->is == GONE)
      continue;
    t.all++;
    t.pending += pending;
    t.of_address += there;
    t.pending_of_address += there && pending;
    t.in += c->is == OPEN && c->inbound;
    t.of_peer += c->is == OPEN && c->peer == of->peer;
  }
  for (int i = 0; i < STREAMS; i++) {
    const model_stream *s = &m->streams[i];
    const model_conn *c = s->conn;
    if (c == NULL)
      continue;
    t.streams++;
    t.streams_of_conn += c == of;
    t.negotiating += c == of && s->protocol < 0;
    t.streams_of_peer += c->peer == of->peer;
    t.streams_of_address +=
        of->inbound && c->inbound && of->address != 0 && c->address == of->address;
    t.of_protocol += protocol >= 0 && s->protocol == protocol;
    t.of_use += protocol >= 0 && s->protocol == protocol && c->peer == of->peer;
  }
  return t;
}

static void begin_conn(model *m, model_conn *mc) {
  const pu_limits *max = &m->r.l.limits;
  *mc = (model_conn){.inbound = draw(4) != 0, .address = (uint8_t)draw(ADDRESSES)};
  const tally t = count(m, mc, -1);
  const pu_origin o = origin(mc->address);
  pu_mem_init(&mc->c.mem, &m->r.mem, PU_PREAUTH_MAX_BYTES);
  int status;
  bool fits = t.all < max->conns_total;
  if (mc->inbound) {
    /* Strangers' share apart, which other tests look at. */
    status = pu_limits_accept(&m->r.l, &mc->c.share, &o, 0, &m->r.why);
    fits = fits && t.pending < max->conns_pending &&
           (mc->address == 0 ||
            (t.of_address < max->conns_per_ip && t.pending_of_address < max->conns_pending_per_ip));
    if (status != 0 && fits)
      fits = m->r.l.stranger_count < max->conns_pending - max->conns_pending / 4;
  } else {
    status = pu_limits_dial(&m->r.l, &mc->c.share, &o, &m->r.why);
  }
  assert_int_equal(status, fits ? 0 : PU_E_LIMIT);
  if (status == 0)
    mc->is = HANDSHAKE;
  else
    pu_mem_deinit(&mc->c.mem);
}

static void end_conn(model *m, model_conn *mc) {
  for (int i = 0; i < STREAMS; i++)
    if (m->streams[i].conn == mc) {
      pu_limits_stream_close(&m->r.l, &mc->c.share, &m->streams[i].share);
      m->streams[i].conn = NULL;
    }
  close_conn(&m->r, &mc->c);
  mc->is = GONE;
}

static void finish_handshake(model *m, model_conn *mc) {
  const pu_limits *max = &m->r.l.limits;
  const bool is_protected = draw(2) == 0;
  mc->peer = (uint8_t)draw(PEERS);
  const tally t = count(m, mc, -1);
  const int status = authenticate(&m->r, &mc->c.share, mc->peer, is_protected, &mc->c.mem);
  const uint32_t in = max->conns_in - (is_protected ? 0 : max->conns_in / 8);
  const bool fits = t.of_peer < max->conns_per_peer && (!mc->inbound || t.in < in);
  assert_int_equal(status, fits ? 0 : PU_E_LIMIT);
  if (status != 0) {
    end_conn(m, mc);
    return;
  }
  pu_limits_admitted(&m->r.l, &mc->c.share);
  mc->is = OPEN;
}

static void begin_stream(model *m, model_stream *s, model_conn *mc) {
  const pu_limits *max = &m->r.l.limits;
  const tally t = count(m, mc, -1);
  const int status = pu_limits_stream(&m->r.l, &mc->c.share, &s->share, &m->r.why);
  const bool fits = t.streams < max->streams_in && t.streams_of_conn < max->streams_in_per_conn &&
                    t.negotiating < max->negotiating_per_conn &&
                    t.streams_of_peer < max->streams_in_per_peer &&
                    t.streams_of_address < max->streams_in_per_ip;
  assert_int_equal(status, fits ? 0 : PU_E_LIMIT);
  if (status == 0) {
    s->conn = mc;
    s->protocol = -1;
  }
}

static void choose_protocol(model *m, model_stream *s) {
  static const char *const names[PROTOCOLS] = {"/one", "/two", "/three", "/four"};
  const pu_limits *max = &m->r.l.limits;
  const int protocol = (int)draw(PROTOCOLS);
  const tally t = count(m, s->conn, protocol);
  const int status =
      pu_limits_protocol(&m->r.l, &s->conn->c.share, &s->share, names[protocol], &m->r.why);
  const bool fits =
      t.of_protocol < max->streams_in_per_protocol && t.of_use < max->streams_in_per_protocol_peer;
  assert_int_equal(status, fits ? 0 : PU_E_LIMIT);
  if (status == 0) {
    s->protocol = protocol;
    return;
  }
  pu_limits_stream_close(&m->r.l, &s->conn->c.share, &s->share);
  s->conn = NULL;
}

static void counts_as_a_model_does(void **state) {
  (void)state;
  const pu_limits limits = {.conns_total = 50,
                            .conns_in = 30,
                            .conns_per_ip = 8,
                            .conns_per_peer = 9,
                            .conns_pending = 12,
                            .conns_pending_per_ip = 5,
                            .streams_in = 120,
                            .streams_in_per_ip = 20,
                            .streams_in_per_peer = 35,
                            .streams_in_per_conn = 7,
                            .streams_in_per_protocol = 34,
                            .streams_in_per_protocol_peer = 11,
                            .negotiating_per_conn = 2};
  uint64_t refused[PU_LIMIT_MEMORY_TOTAL] = {0};
  for (uint64_t seed = 1; seed <= 8; seed++) {
    model *m = calloc(1, sizeof(*m));
    rig_begin(&m->r, &limits);
    draw_state = seed;
    for (int step = 0; step < 20000; step++) {
      model_conn *mc = &m->conns[draw(CONNS)];
      model_stream *s = &m->streams[draw(STREAMS)];
      if (mc->is == GONE)
        begin_conn(m, mc);
      else if (mc->is == HANDSHAKE && draw(2) == 0)
        finish_handshake(m, mc);
      else if (draw(30) == 0)
        end_conn(m, mc);
      if (s->conn == NULL && mc->is == OPEN)
        begin_stream(m, s, mc);
      else if (s->conn != NULL && s->protocol < 0)
        choose_protocol(m, s);
      else if (s->conn != NULL && draw(6) == 0) {
        pu_limits_stream_close(&m->r.l, &s->conn->c.share, &s->share);
        s->conn = NULL;
      }
      assert_true(m->r.l.scopes.count <= 2 * CONNS + 2 * STREAMS + ADDRESSES);
    }
    for (unsigned kind = 0; kind < PU_LIMIT_MEMORY_TOTAL; kind++)
      refused[kind] += m->r.l.refused[kind];
    for (int i = 0; i < CONNS; i++)
      if (m->conns[i].is != GONE)
        end_conn(m, &m->conns[i]);
    rig_end(&m->r);
    free(m);
  }
  for (unsigned kind = 0; kind < PU_LIMIT_MEMORY_TOTAL; kind++)
    assert_true(refused[kind] > 0); /* every limit was met */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_follow_from_the_machine),
      cmocka_unit_test(what_is_set_stays),
      cmocka_unit_test(origins),
      cmocka_unit_test(handshakes),
      cmocka_unit_test(known_addresses_have_a_reserve),
      cmocka_unit_test(waiting_before_the_handshake),
      cmocka_unit_test(shares_move),
      cmocka_unit_test(known_addresses_are_bounded),
      cmocka_unit_test(the_slowest_stranger_makes_room),
      cmocka_unit_test(open_connections),
      cmocka_unit_test(protected_peers_have_a_reserve),
      cmocka_unit_test(streams),
      cmocka_unit_test(all_streams),
      cmocka_unit_test(protocols),
      cmocka_unit_test(memory),
      cmocka_unit_test(memory_of_an_address),
      cmocka_unit_test(every_allocation_fails_once),
      cmocka_unit_test(counts_as_a_model_does),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
