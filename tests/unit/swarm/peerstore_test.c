/* The peer store: addresses with an end, what identify told, protocols, bounds. */
#include "swarm/peerstore.h"

#include "support/sim_hosts.h"
#include "support/unit.h"

#define SECONDS ((uint64_t)SIM_SECOND)

typedef struct rig {
  pu_sim *sim;
  sim_host host;
  pu_peerstore *store;
} rig;

static rig *rig_new(void) {
  rig *r = calloc(1, sizeof(*r));
  assert_non_null(r);
  assert_int_equal(pu_sim_new(1, &r->sim), 0);
  sim_host_add(r->sim, &r->host, 1);
  assert_int_equal(sim_host_begin(&r->host, NULL, 0), 0);
  r->store = r->host.engine->peerstore;
  return r;
}

static void rig_end(rig *r) {
  sim_host_end(&r->host);
  pu_sim_free(r->sim);
  free(r);
}

/* peer makes the |n|-th of many peer IDs. */
static pu_peer_id peer(unsigned n) {
  pu_peer_id id = {.len = 34,
                   .bytes = {0x12, 0x20, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}};
  return id;
}

static pu_multiaddr addr(const char *text) {
  pu_multiaddr a;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &a, NULL), 0);
  return a;
}

static pu_multiaddr nth_addr(unsigned n) {
  char text[64];
  (void)snprintf(text, sizeof(text), "/ip4/10.1.%u.%u/tcp/1", n / 256, n % 256);
  return addr(text);
}

static int add(rig *r, unsigned p, const char *text, uint64_t seconds, bool identified) {
  const pu_peer_id id = peer(p);
  const pu_multiaddr a = addr(text);
  const uint64_t end =
      seconds == UINT64_MAX ? PU_PEERSTORE_FOREVER : pu_sim_now_us(r->sim) + seconds * SECONDS;
  return pu_peerstore_add_addr(r->store, &id, &a, end, identified);
}

static void add_text(void *data, const char *text) {
  char *all = data;
  if (all[0] != '\0')
    strcat(all, " ");
  strcat(all, text);
}

/* check_addrs compares what is known of peer |p| with texts, in any order. */
static void check_addrs(rig *r, unsigned p, size_t count, const char *const *want) {
  char all[4096] = "";
  pu_multiaddr found[PU_PEERSTORE_ADDRS_MAX];
  const pu_peer_id id = peer(p);
  pu_engine_known_addrs(r->host.engine, &id, add_text, all);
  assert_int_equal(pu_peerstore_addrs(r->store, &id, found, PU_COUNT(found)), count);
  for (size_t i = 0; i < count; i++) {
    const pu_multiaddr a = addr(want[i]);
    bool there = false;
    for (size_t k = 0; k < count; k++)
      there = there || pu_multiaddr_equal(&a, &found[k]);
    assert_true(there);
    assert_non_null(strstr(all, want[i]));
  }
}
#define CHECK_ADDRS(r, p, ...)                 \
  do {                                         \
    const char *const want_[] = {__VA_ARGS__}; \
    check_addrs(r, p, PU_COUNT(want_), want_); \
  } while (0)

/* ---- addresses ---- */

static void test_addresses_end(void **state) {
  (void)state;
  rig *r = rig_new();
  check_addrs(r, 1, 0, NULL);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", 10, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", 20, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/3", UINT64_MAX, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", 5, false), 0); /* does not shorten */
  assert_int_equal(add(r, 2, "/ip4/10.0.0.8/tcp/1", 5, false), 0); /* another peer's */
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/3");
  sim_run_for(r->sim, 9 * SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/3");
  check_addrs(r, 2, 0, NULL);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", 12, false), 0); /* prolongs by a second */
  sim_run_for(r->sim, 2 * SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/3");
  sim_run_for(r->sim, 9500000);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/3");
  sim_run_for(r->sim, SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/3");
  sim_run_for(r->sim, 10000000 * SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/3");
  rig_end(r);
}

/* The store's key says whose address it is; the same address with and without it is one. */
static void test_own_peer_is_stripped(void **state) {
  (void)state;
  rig *r = rig_new();
  char full[256], relayed[512], text[PU_PEER_ID_MAX_TEXT], text2[PU_PEER_ID_MAX_TEXT];
  const pu_peer_id id = peer(1), other = peer(2);
  pu_error err;
  (void)snprintf(full, sizeof(full), "/ip4/10.0.0.9/tcp/1/p2p/%s", pu_peer_id_text(&id, text));
  (void)snprintf(relayed, sizeof(relayed), "/ip4/10.0.0.7/tcp/1/p2p/%s/p2p-circuit/p2p/%s",
                 pu_peer_id_text(&other, text2), text);
  assert_int_equal(pu_engine_add_addr(r->host.engine, &id, full, 60, &err), 0);
  assert_int_equal(pu_engine_add_addr(r->host.engine, &id, "/ip4/10.0.0.9/tcp/1", 60, &err), 0);
  assert_int_equal(pu_engine_add_addr(r->host.engine, &id, relayed, 60, &err), 0);
  relayed[strlen(relayed) - strlen("/p2p/") - strlen(text)] = '\0';
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/1", relayed);
  assert_int_equal(pu_engine_add_addr(r->host.engine, &other, full, 60, &err), PU_E_PEER_MISMATCH);
  assert_non_null(strstr(err.detail, full));
  assert_int_equal(pu_engine_add_addr(r->host.engine, &other, "/ip4/10.0.0/tcp/1", 60, &err),
                   PU_E_PARSE);
  assert_int_not_equal(err.detail[0], '\0');
  /* Nothing but the peer itself is no address, and makes no entry. */
  (void)snprintf(full, sizeof(full), "/p2p/%s", text2);
  assert_int_equal(pu_engine_add_addr(r->host.engine, &other, full, 60, &err), PU_E_INVAL);
  assert_null(pu_peerstore_find(r->store, &other));
  rig_end(r);
}

/* Identify's word replaces its last one and ends with the connection; what was given otherwise
 * keeps its own end, also where both name the same address. */
static void test_identified(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", 10, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", UINT64_MAX, false), 0);
  for (int i = 1; i <= 3; i++) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/ip4/10.0.0.9/tcp/%d", i);
    assert_int_equal(add(r, 1, text, UINT64_MAX, true), 0);
  }
  sim_run_for(r->sim, 20 * SECONDS); /* tcp/1 lives on by identify's word */
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/1", "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/3");
  pu_peerstore_drop_identified(r->store, &id);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/2");
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/4", UINT64_MAX, true), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/5", UINT64_MAX, true), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/5", 100, false), 0);
  pu_peerstore_age_identified(r->store, &id, pu_sim_now_us(r->sim) + 30 * SECONDS);
  sim_run_for(r->sim, 29 * SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/4", "/ip4/10.0.0.9/tcp/5");
  sim_run_for(r->sim, 2 * SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.9/tcp/5");
  sim_run_for(r->sim, 70 * SECONDS);
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/2");
  const pu_peer_id unknown = peer(3);
  pu_peerstore_drop_identified(r->store, &unknown); /* harmless */
  rig_end(r);
}

static size_t count_addrs(rig *r, unsigned p) {
  pu_multiaddr found[PU_PEERSTORE_ADDRS_MAX + 1];
  const pu_peer_id id = peer(p);
  return pu_peerstore_addrs(r->store, &id, found, PU_COUNT(found));
}

static bool has_addr(rig *r, unsigned p, const pu_multiaddr *a) {
  pu_multiaddr found[PU_PEERSTORE_ADDRS_MAX];
  const pu_peer_id id = peer(p);
  const size_t count = pu_peerstore_addrs(r->store, &id, found, PU_COUNT(found));
  for (size_t i = 0; i < count; i++)
    if (pu_multiaddr_equal(a, &found[i]))
      return true;
  return false;
}

/* A peer that tells of very many addresses cannot push out what we were given, nor keep us from
 * being given more. */
static void test_bound_of_addresses(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1);
  const pu_multiaddr given = addr("/ip4/10.0.0.9/tcp/1"), later = addr("/ip4/10.0.0.9/tcp/2");
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", 60, false), 0);
  unsigned refused = 0;
  for (unsigned i = 0; i < 2 * PU_PEERSTORE_ADDRS_MAX; i++) {
    const pu_multiaddr a = nth_addr(i);
    const int status = pu_peerstore_add_addr(r->store, &id, &a, PU_PEERSTORE_FOREVER, true);
    assert_true(status == 0 || status == PU_E_LIMIT);
    refused += status != 0;
  }
  assert_int_equal(refused, PU_PEERSTORE_ADDRS_MAX + 1);
  assert_true(has_addr(r, 1, &given));
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", 60, false), 0);
  assert_int_equal(count_addrs(r, 1), PU_PEERSTORE_ADDRS_MAX);
  assert_true(has_addr(r, 1, &given) && has_addr(r, 1, &later));
  rig_end(r);
}

static void test_first_to_expire_makes_room(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1);
  const uint64_t now = pu_sim_now_us(r->sim);
  for (unsigned i = 0; i < PU_PEERSTORE_ADDRS_MAX; i++) {
    const pu_multiaddr a = nth_addr(i);
    const uint64_t end = i == 7 ? 50 : 100 + i;
    assert_int_equal(pu_peerstore_add_addr(r->store, &id, &a, now + end * SECONDS, false), 0);
  }
  const pu_multiaddr a = nth_addr(200), first = nth_addr(7);
  assert_int_equal(pu_peerstore_add_addr(r->store, &id, &a, PU_PEERSTORE_FOREVER, true),
                   PU_E_LIMIT);
  assert_int_equal(pu_peerstore_add_addr(r->store, &id, &a, PU_PEERSTORE_FOREVER, false), 0);
  assert_true(has_addr(r, 1, &a));
  assert_false(has_addr(r, 1, &first));
  assert_int_equal(count_addrs(r, 1), PU_PEERSTORE_ADDRS_MAX);
  /* When all are for good the next is refused. */
  for (unsigned i = 0; i < PU_PEERSTORE_ADDRS_MAX; i++) {
    const pu_multiaddr b = nth_addr(300 + i);
    const int status = pu_peerstore_add_addr(r->store, &id, &b, PU_PEERSTORE_FOREVER, false);
    assert_int_equal(status, i < PU_PEERSTORE_ADDRS_MAX - 1 ? 0 : PU_E_LIMIT);
  }
  rig_end(r);
}

/* ---- peers ---- */

/* The least recently used peer that nobody needs makes room. */
static void test_bound_of_peers(void **state) {
  (void)state;
  rig *r = rig_new();
  pu_peer *p;
  const pu_peer_id protected_one = peer(0), known_for_good = peer(1), again = peer(2);
  for (unsigned i = 0; i < PU_PEERSTORE_PEERS_MAX; i++) {
    const pu_peer_id id = peer(i);
    assert_int_equal(pu_peerstore_get(r->store, &id, &p), 0);
  }
  assert_int_equal(pu_engine_protect(r->host.engine, &protected_one, true), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", UINT64_MAX, false), 0);
  for (unsigned i = 0; i < 3; i++) { /* all three were used last: begin with the others */
    const pu_peer_id id = peer(PU_PEERSTORE_PEERS_MAX + i);
    const pu_peer_id gone = peer(2 + i);
    assert_int_equal(pu_peerstore_get(r->store, &id, &p), 0);
    assert_null(pu_peerstore_find(r->store, &gone));
    assert_non_null(pu_peerstore_find(r->store, &id));
  }
  assert_non_null(pu_peerstore_find(r->store, &protected_one));
  assert_non_null(pu_peerstore_find(r->store, &known_for_good));
  /* Use moves a peer back in the queue. */
  const pu_peer_id used = peer(5), next = peer(6);
  assert_int_equal(pu_peerstore_get(r->store, &used, &p), 0);
  assert_int_equal(pu_peerstore_get(r->store, &again, &p), 0);
  assert_non_null(pu_peerstore_find(r->store, &used));
  assert_null(pu_peerstore_find(r->store, &next));
  /* When all are needed there is no room. */
  for (unsigned i = 0; i < PU_PEERSTORE_PEERS_MAX + 3; i++) {
    const pu_peer_id id = peer(i);
    if (pu_peerstore_find(r->store, &id) != NULL)
      assert_int_equal(pu_engine_protect(r->host.engine, &id, true), 0);
  }
  const pu_peer_id one_more = peer(PU_PEERSTORE_PEERS_MAX + 3);
  assert_int_equal(pu_peerstore_get(r->store, &one_more, &p), PU_E_LIMIT);
  assert_int_equal(pu_engine_protect(r->host.engine, &one_more, true), PU_E_LIMIT);
  assert_int_equal(pu_engine_protect(r->host.engine, &one_more, false), 0);
  rig_end(r);
}

static void test_drop_given(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1), unknown = peer(3);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", UINT64_MAX, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", 100, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/3", UINT64_MAX, true), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/4", UINT64_MAX, true), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/4", UINT64_MAX, false), 0);
  pu_peerstore_age_identified(r->store, &id, pu_sim_now_us(r->sim) + 30 * SECONDS);
  pu_peerstore_drop_given(r->store, &id);
  pu_peerstore_drop_given(r->store, &unknown); /* harmless */
  CHECK_ADDRS(r, 1, "/ip4/10.0.0.9/tcp/3", "/ip4/10.0.0.9/tcp/4");
  sim_run_for(r->sim, 31 * SECONDS); /* by identify's end, not for good */
  check_addrs(r, 1, 0, NULL);
  rig_end(r);
}

/* ---- back-off ---- */

static void test_backoff(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1), unknown = peer(2);
  const pu_multiaddr a = addr("/ip4/10.0.0.9/tcp/1"), b = addr("/ip4/10.0.0.9/tcp/2");
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", UINT64_MAX, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", UINT64_MAX, false), 0);
  assert_false(pu_peerstore_in_backoff(r->store, &id, &a));
  uint64_t rest = 5;
  for (int i = 0; i < 20; i++) { /* 5 s, doubled, at most 5 min */
    pu_peerstore_dialled(r->store, &id, &a, false);
    sim_run_for(r->sim, rest * SECONDS - 1000);
    assert_true(pu_peerstore_in_backoff(r->store, &id, &a));
    assert_false(pu_peerstore_in_backoff(r->store, &id, &b));
    sim_run_for(r->sim, 2000);
    assert_false(pu_peerstore_in_backoff(r->store, &id, &a));
    rest = rest * 2 < 300 ? rest * 2 : 300;
  }
  pu_peerstore_dialled(r->store, &id, &a, false);
  pu_peerstore_dialled(r->store, &id, &a, true);
  assert_false(pu_peerstore_in_backoff(r->store, &id, &a));
  pu_peerstore_dialled(r->store, &id, &a, false); /* counted anew */
  sim_run_for(r->sim, 5 * SECONDS + 1000);
  assert_false(pu_peerstore_in_backoff(r->store, &id, &a));
  pu_peerstore_dialled(r->store, &unknown, &a, false); /* nothing to note it at */
  assert_false(pu_peerstore_in_backoff(r->store, &unknown, &a));
  rig_end(r);
}

typedef struct resting {
  pu_resting_addr of[8];
  size_t count;
} resting;

static void on_resting(void *data, const pu_resting_addr *addr) {
  resting *found = data;
  assert_true(found->count < 8);
  found->of[found->count++] = *addr;
}

static void test_resting_is_told(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1);
  const pu_multiaddr a = addr("/ip4/10.0.0.9/tcp/1"), b = addr("/ip4/10.0.0.9/tcp/2");
  resting found = {.count = 0};
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/1", UINT64_MAX, false), 0);
  assert_int_equal(add(r, 1, "/ip4/10.0.0.9/tcp/2", UINT64_MAX, false), 0);
  pu_engine_resting_addrs(r->host.engine, on_resting, &found);
  assert_int_equal(found.count, 0);
  pu_peerstore_dialled(r->store, &id, &a, false);
  pu_peerstore_dialled(r->store, &id, &b, false);
  pu_peerstore_dialled(r->store, &id, &b, false);
  sim_run_for(r->sim, SECONDS / 2);
  pu_engine_resting_addrs(r->host.engine, on_resting, &found);
  assert_int_equal(found.count, 2);
  assert_true(pu_peer_id_equal(&found.of[0].peer, &id));
  assert_string_equal(found.of[0].addr, "/ip4/10.0.0.9/tcp/1");
  assert_int_equal(found.of[0].failures, 1);
  assert_int_equal(found.of[0].rest_s, 5); /* 4.5 */
  assert_int_equal(found.of[1].failures, 2);
  assert_int_equal(found.of[1].rest_s, 10);
  sim_run_for(r->sim, 5 * SECONDS);
  found.count = 0;
  pu_engine_resting_addrs(r->host.engine, on_resting, &found);
  assert_int_equal(found.count, 1);
  assert_string_equal(found.of[0].addr, "/ip4/10.0.0.9/tcp/2");
  rig_end(r);
}

/* ---- protocols ---- */

static void test_protocols(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1);
  static const char two[] = "/a/1.0.0\0/b/1.0.0"; /* each with its NUL */
  char all[256] = "";
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/a/1.0.0"), -1);
  pu_engine_peer_protocols(r->host.engine, &id, add_text, all);
  assert_string_equal(all, "");
  assert_int_equal(pu_peerstore_set_protocols(r->store, &id, two, sizeof(two)), 0);
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/a/1.0.0"), 1);
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/b/1.0.0"), 1);
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/b/1.0"), 0);
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/b/1.0.00"), 0);
  pu_engine_peer_protocols(r->host.engine, &id, add_text, all);
  assert_string_equal(all, "/a/1.0.0 /b/1.0.0");
  assert_int_equal(pu_peerstore_set_protocols(r->store, &id, "", 0), 0); /* known: none */
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/a/1.0.0"), 0);
  char *much = calloc(1, PU_PEERSTORE_PROTOCOL_BYTES + 1);
  assert_non_null(much);
  memset(much, 'p', PU_PEERSTORE_PROTOCOL_BYTES);
  assert_int_equal(pu_peerstore_set_protocols(r->store, &id, much, PU_PEERSTORE_PROTOCOL_BYTES + 1),
                   PU_E_LIMIT);
  assert_int_equal(pu_peerstore_speaks(r->store, &id, "/a/1.0.0"), 0); /* as before */
  much[PU_PEERSTORE_PROTOCOL_BYTES - 1] = '\0';
  assert_int_equal(pu_peerstore_set_protocols(r->store, &id, much, PU_PEERSTORE_PROTOCOL_BYTES), 0);
  assert_int_equal(pu_peerstore_speaks(r->store, &id, much), 1);
  free(much);
  rig_end(r);
}

/* ---- protection and memory ---- */

static void test_protection_counts(void **state) {
  (void)state;
  rig *r = rig_new();
  const pu_peer_id id = peer(1);
  assert_int_equal(pu_engine_protect(r->host.engine, &id, false), 0); /* of nobody: nothing */
  assert_null(pu_peerstore_find(r->store, &id));
  for (int i = 0; i < 2; i++)
    assert_int_equal(pu_engine_protect(r->host.engine, &id, true), 0);
  for (uint32_t i = 2; i > 0; i--) {
    assert_int_equal(pu_peerstore_find(r->store, &id)->protect, i);
    assert_int_equal(pu_engine_protect(r->host.engine, &id, false), 0);
  }
  assert_int_equal(pu_engine_protect(r->host.engine, &id, false), 0);
  assert_int_equal(pu_peerstore_find(r->store, &id)->protect, 0);
  rig_end(r);
}

static int fill(rig *r) {
  static const char protocol[] = "/a/1.0.0";
  for (unsigned p = 1; p <= 2; p++) {
    const pu_peer_id id = peer(p);
    for (unsigned i = 0; i < 6; i++) {
      const pu_multiaddr a = nth_addr(i);
      int status = pu_peerstore_add_addr(r->store, &id, &a, PU_PEERSTORE_FOREVER, i % 2 == 0);
      if (status != 0)
        return status;
    }
    int status = pu_peerstore_set_protocols(r->store, &id, protocol, sizeof(protocol));
    if (status != 0)
      return status;
  }
  return 0;
}

static void test_each_allocation_fails(void **state) {
  (void)state;
  int status = PU_E_NOMEM;
  for (uint64_t n = 1; status != 0; n++) {
    rig *r = rig_new();
    pu_mem_fail_at(&r->host.engine->mem, n);
    status = fill(r);
    assert_true(status == 0 || status == PU_E_NOMEM);
    pu_mem_fail_at(&r->host.engine->mem, 0);
    assert_int_equal(fill(r), 0); /* what was there is whole */
    assert_int_equal(count_addrs(r, 1), 6);
    assert_int_equal(count_addrs(r, 2), 6);
    rig_end(r);
    assert_true(n < 100);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_addresses_end),
      cmocka_unit_test(test_own_peer_is_stripped),
      cmocka_unit_test(test_identified),
      cmocka_unit_test(test_bound_of_addresses),
      cmocka_unit_test(test_first_to_expire_makes_room),
      cmocka_unit_test(test_bound_of_peers),
      cmocka_unit_test(test_drop_given),
      cmocka_unit_test(test_backoff),
      cmocka_unit_test(test_resting_is_told),
      cmocka_unit_test(test_protocols),
      cmocka_unit_test(test_protection_counts),
      cmocka_unit_test(test_each_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
