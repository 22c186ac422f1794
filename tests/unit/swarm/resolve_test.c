/* Names of peers: what they become, and that records written by anybody do no harm. */
#include "swarm/resolve.h"

#include "support/sim_hosts.h"
#include "support/unit.h"

#define FOUND_MAX 128

typedef struct rig {
  pu_sim *sim;
  pu_platform *platform;
  pu_mem mem;
  pu_peer_id peer, other;
  char id[PU_PEER_ID_MAX_TEXT], other_id[PU_PEER_ID_MAX_TEXT];
  pu_names *names;
  char found[FOUND_MAX][PU_MULTIADDR_MAX_TEXT];
  char sni[FOUND_MAX][256];
  size_t origins[FOUND_MAX], count, failures;
  int status; /* of the last failure */
  char detail[512];
  bool done;
} rig;

static void make_id(pu_peer_id *id, char *text) {
  pu_key *key;
  assert_int_equal(pu_key_generate(&key), 0);
  *id = *pu_key_peer_id(key);
  (void)pu_peer_id_text(id, text);
  pu_key_free(key);
}

static int setup(void **state) {
  const pu_sockaddr at = {.family = 4, .ip = {10, 0, 0, 1}};
  rig *r = calloc(1, sizeof *r);
  assert_non_null(r);
  assert_int_equal(pu_sim_new(3, &r->sim), 0);
  assert_int_equal(pu_sim_add_host(r->sim, "host", &at, 1, &r->platform), 0);
  pu_mem_init(&r->mem, NULL, PU_MEM_UNLIMITED);
  make_id(&r->peer, r->id);
  make_id(&r->other, r->other_id);
  *state = r;
  return 0;
}

static int teardown(void **state) {
  rig *r = *state;
  pu_names_free(r->names);
  assert_int_equal(r->mem.used, 0);
  sim_run_for(r->sim, 10 * SIM_SECOND);
  pu_mem_deinit(&r->mem);
  pu_sim_free(r->sim);
  free(r);
  return 0;
}

static void on_found(void *data, size_t origin, const pu_multiaddr *addr,
                     const pu_ma_target *target) {
  rig *r = data;
  assert_true(r->count < FOUND_MAX);
  (void)pu_multiaddr_text(addr, r->found[r->count]);
  (void)snprintf(r->sni[r->count], sizeof r->sni[0], "%s", target->sni);
  r->origins[r->count++] = origin;
}
static void on_failed(void *data, size_t origin, int status, const char *detail) {
  rig *r = data;
  (void)origin;
  r->failures++;
  r->status = status;
  (void)snprintf(r->detail, sizeof r->detail, "%s", detail);
}
static void on_done(void *data) {
  rig *r = data;
  assert_false(r->done);
  r->done = true;
  pu_names_free(r->names); /* as the dialer does */
  r->names = NULL;
}
static const pu_names_events events = {on_found, on_failed, on_done};

static pu_multiaddr parse(const char *text) {
  pu_multiaddr addr;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &addr, NULL), 0);
  return addr;
}

/* begin starts the look-up of |texts|; returns 0 or PU_E_NOMEM. */
static int begin(rig *r, const char *const *texts, size_t count) {
  r->count = r->failures = 0;
  r->done = false;
  int status = pu_names_new(&r->mem, r->platform, &r->peer, &events, r, &r->names);
  for (size_t i = 0; i < count && status == 0; i++) {
    const pu_multiaddr addr = parse(texts[i]);
    status = pu_names_add(r->names, &addr, 100 + i);
  }
  if (status == 0)
    status = pu_names_start(r->names);
  return status;
}

static void look_up(rig *r, const char *text) {
  assert_int_equal(begin(r, &text, 1), 0);
  assert_false(r->done); /* never inside the call */
  assert_true(pu_sim_run(r->sim, pu_sim_now_us(r->sim) + 60 * SIM_SECOND, &r->done));
}

static void name(rig *r, const char *host, uint8_t last) {
  const pu_sockaddr at = {.family = 4, .ip = {10, 0, 0, last}};
  assert_int_equal(pu_sim_name(r->sim, host, &at), 0);
}

static void record(rig *r, const char *host, const char *format, ...) PU_PRINTF(3, 4);
static void record(rig *r, const char *host, const char *format, ...) {
  char at[300], text[512];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(text, sizeof text, format, args);
  va_end(args);
  (void)snprintf(at, sizeof at, "_dnsaddr.%s", host);
  assert_int_equal(pu_sim_text(r->sim, at, text), 0);
}

static void names_of_transports(void **state) {
  rig *r = *state;
  static const char *const texts[] = {"/dns4/b.example/tcp/4001", "/dns/b.example/udp/4001/quic-v1",
                                      "/dns4/b.example/tcp/443/tls/ws",
                                      "/dns4/b.example/tcp/443/tls/sni/c.example/ws",
                                      "/dns6/b.example/tcp/1"};
  name(r, "b.example", 2);
  assert_int_equal(begin(r, texts, PU_COUNT(texts)), 0);
  assert_true(pu_sim_run(r->sim, pu_sim_now_us(r->sim) + SIM_SECOND, &r->done));
  assert_int_equal(r->count, 4);
  assert_string_equal(r->found[0], "/ip4/10.0.0.2/tcp/4001");
  assert_string_equal(r->found[1], "/ip4/10.0.0.2/udp/4001/quic-v1");
  assert_string_equal(r->found[2], "/ip4/10.0.0.2/tcp/443/tls/ws");
  assert_string_equal(r->sni[2], "b.example");
  assert_string_equal(r->sni[3], "c.example");
  assert_int_equal(r->origins[3], 103);
  assert_int_equal(r->failures, 1); /* it has no IPv6 address */
  assert_int_equal(r->status, PU_E_NOT_FOUND);
  assert_string_equal(r->detail, "/dns6/b.example/tcp/1: no such name");
}

static void which_are_needed(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool needed;
  } rows[] = {{"/dns4/a/tcp/1", true},
              {"/dns/a/udp/1/quic-v1", true},
              {"/dnsaddr/a", true},
              {"/ip4/1.2.3.4/tcp/1", false},
              {"/dns4/a/udp/1/quic", false}};
  for (size_t i = 0; i < PU_COUNT(rows); i++) {
    const pu_multiaddr addr = parse(rows[i].text);
    pu_ma_target target;
    pu_multiaddr_target(&addr, &target);
    assert_int_equal(pu_names_needed(&addr, &target), rows[i].needed);
  }
}

static void records_of_a_peer(void **state) {
  rig *r = *state;
  name(r, "b.example", 2);
  record(r, "a.example", "dnsaddr=/ip4/10.0.0.7/tcp/1/p2p/%s", r->id);
  record(r, "a.example", "dnsaddr=/ip4/10.0.0.8/tcp/1/p2p/%s", r->other_id);
  record(r, "a.example", "dnsaddr=/ip4/10.0.0.9/tcp/1");
  record(r, "a.example", "dnsaddr=/dns4/b.example/udp/5/quic-v1/p2p/%s", r->id);
  record(r, "a.example", "dnsaddr=/dnsaddr/x.a.example/p2p/%s", r->id);
  record(r, "x.a.example", "dnsaddr=/ip6/fd00::1/tcp/2/p2p/%s", r->id);
  look_up(r, "/dnsaddr/a.example");
  assert_int_equal(r->failures, 0);
  assert_int_equal(r->count, 4);
  assert_string_equal(r->found[0], "/ip4/10.0.0.7/tcp/1");
  assert_string_equal(r->found[1], "/ip4/10.0.0.9/tcp/1");
  assert_string_equal(r->found[2], "/ip4/10.0.0.2/udp/5/quic-v1");
  assert_string_equal(r->found[3], "/ip6/fd00::1/tcp/2");
}

static void what_follows_the_name_filters(void **state) {
  rig *r = *state;
  char text[256];
  record(r, "a.example", "dnsaddr=/ip4/10.0.0.7/tcp/1/p2p/%s", r->id);
  record(r, "a.example", "dnsaddr=/ip4/10.0.0.9/tcp/1");
  (void)snprintf(text, sizeof text, "/dnsaddr/a.example/p2p/%s", r->id);
  look_up(r, text);
  assert_int_equal(r->count, 1);
  assert_string_equal(r->found[0], "/ip4/10.0.0.7/tcp/1");
  (void)snprintf(text, sizeof text, "/dnsaddr/a.example/p2p/%s", r->other_id);
  look_up(r, text);
  assert_int_equal(r->count, 0);
  assert_int_equal(r->status, PU_E_NOT_FOUND);
}

static void garbage(void **state) {
  rig *r = *state;
  static const char *const texts[] = {
      "",          "dnsaddr=",      "dnsaddr=/ip4/1",
      "v=spf1",    "DNSADDR=/x",    "dnsaddr=/ip4/1.2.3.4/udp/1/quic",
      "dnsaddr=/", "dnsaddr=/p2p/", "dnsaddr=/dnsaddr/"};
  for (size_t i = 0; i < PU_COUNT(texts); i++)
    record(r, "a.example", "%s", texts[i]);
  look_up(r, "/dnsaddr/a.example");
  assert_int_equal(r->count, 0);
  assert_int_equal(r->failures, 1);
  assert_int_equal(r->status, PU_E_NOT_FOUND);
  look_up(r, "/dnsaddr/nobody.example");
  assert_int_equal(r->failures, 1);
}

static void circles_and_chains(void **state) {
  rig *r = *state;
  record(r, "a.example", "dnsaddr=/dnsaddr/b.example");
  record(r, "b.example", "dnsaddr=/dnsaddr/a.example");
  look_up(r, "/dnsaddr/a.example");
  assert_int_equal(r->count, 0);
  /* a chain: as deep as is allowed, and one deeper */
  for (unsigned i = 1; i <= PU_NAMES_DEPTH_MAX; i++) {
    char host[32];
    (void)snprintf(host, sizeof host, "%u.example", i);
    record(r, host, "dnsaddr=/dnsaddr/%u.example", i + 1);
    record(r, host, "dnsaddr=/ip4/10.0.0.%u/tcp/1", i);
  }
  look_up(r, "/dnsaddr/1.example");
  assert_int_equal(r->count, PU_NAMES_DEPTH_MAX);
}

static void at_most_so_many(void **state) {
  rig *r = *state;
  for (unsigned i = 0; i < 30; i++) {
    record(r, "many.example", "dnsaddr=/dnsaddr/more.example");
    record(r, "more.example", "dnsaddr=/ip4/10.0.0.%u/tcp/1", i);
  }
  look_up(r, "/dnsaddr/more.example");
  assert_int_equal(r->count, PU_NAMES_RECORDS_MAX);
  look_up(r, "/dnsaddr/many.example");
  assert_int_equal(r->count, PU_NAMES_MAX);
}

static void given_up(void **state) {
  rig *r = *state;
  record(r, "a.example", "dnsaddr=/dnsaddr/b.example");
  record(r, "b.example", "dnsaddr=/dns4/c.example/tcp/1");
  name(r, "c.example", 3);
  for (uint64_t after = 0; after < 5000; after += 250) {
    static const char *const text = "/dnsaddr/a.example";
    assert_int_equal(begin(r, &text, 1), 0);
    sim_run_for(r->sim, after);
    pu_names_free(r->names);
    r->names = NULL;
    assert_int_equal(r->mem.used, 0);
  }
  assert_int_equal(r->count, 1); /* the last one had the time */
}

static void each_allocation_fails(void **state) {
  rig *r = *state;
  static const char *const texts[] = {"/dnsaddr/a.example", "/dns4/b.example/tcp/1"};
  record(r, "a.example", "dnsaddr=/dnsaddr/b.example");
  record(r, "b.example", "dnsaddr=/dns4/c.example/tcp/1");
  name(r, "b.example", 2);
  name(r, "c.example", 3);
  for (uint64_t n = 1;; n++) {
    pu_mem_fail_at(&r->mem, n);
    const int status = begin(r, texts, PU_COUNT(texts));
    if (status == 0)
      assert_true(pu_sim_run(r->sim, pu_sim_now_us(r->sim) + SIM_SECOND, &r->done));
    else
      assert_int_equal(status, PU_E_NOMEM);
    const bool reached = r->mem.fail_at == 0;
    pu_names_free(r->names);
    r->names = NULL;
    assert_int_equal(r->mem.used, 0);
    if (!reached) {
      assert_int_equal(r->count, 2);
      assert_true(n > 4);
      break;
    }
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {TEST(names_of_transports),
                                     cmocka_unit_test(which_are_needed),
                                     TEST(records_of_a_peer),
                                     TEST(what_follows_the_name_filters),
                                     TEST(garbage),
                                     TEST(circles_and_chains),
                                     TEST(at_most_so_many),
                                     TEST(given_up),
                                     TEST(each_allocation_fails)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
