/* Identify's messages: what goes out comes in again in any slicing, what is too much is refused,
 * and whose addresses are taken. The Go program's messages are in tests/vectors. */
#include "protocols/identify_message.h"

#include "base/varint.h"
#include "platform/assert.h"
#include "support/unit.h"

#define AGENT "peerup/test"

static const char *const protocols[] = {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"};

static pu_key *key_of(uint8_t seed) {
  uint8_t bytes[32];
  memset(bytes, seed, sizeof(bytes));
  pu_key *key;
  assert_int_equal(pu_key_from_seed(bytes, &key), 0);
  return key;
}

static pu_multiaddr addr_of(const char *text) {
  pu_multiaddr a;
  assert_int_equal(pu_multiaddr_from_text(text, strlen(text), &a, NULL), 0);
  return a;
}

/* encode writes what |key| tells with |count| addresses; |record| false: without one. */
static int encode(pu_mem *mem, const pu_key *key, const pu_multiaddr *addrs, size_t count,
                  bool record, uint8_t **out, size_t *len) {
  uint8_t *signed_record = NULL;
  pu_multiaddr observed = addr_of("/ip4/198.51.100.7/tcp/50123");
  pu_identify_own own = {.key = pu_key_public(key),
                         .addrs = addrs,
                         .addr_count = count,
                         .protocols = protocols,
                         .protocol_count = PU_COUNT(protocols),
                         .observed = &observed,
                         .protocol_version = "",
                         .agent_version = AGENT};
  int rc = 0;
  if (record)
    rc = pu_identify_record(mem, key, addrs, count, 7, &signed_record, &own.record_len);
  own.record = signed_record;
  if (rc == 0)
    rc = pu_identify_encode(mem, &own, out, len);
  pu_free(signed_record);
  return rc;
}

static size_t many_addrs(pu_multiaddr out[static 64]) {
  for (unsigned i = 0; i < 64; i++) {
    char text[64];
    (void)snprintf(text, sizeof(text), "/ip6/2001:db8::%x/tcp/4001", i + 1);
    out[i] = addr_of(text);
  }
  return 64;
}

/* feed gives |len| bytes in pieces of |chunk|; returns the first error. */
static int feed(pu_identify_reader *r, const uint8_t *in, size_t len, size_t chunk) {
  int rc = 0;
  for (size_t at = 0; at < len && rc == 0; at += chunk)
    rc = pu_identify_reader_feed(r, in + at, len - at < chunk ? len - at : chunk);
  return rc;
}

static void check_read(const pu_identify_reader *r, size_t addr_count, bool record) {
  pu_identify m;
  assert_int_equal(pu_identify_reader_end(r, &m), 0);
  assert_int_equal(m.addr_count, addr_count);
  assert_int_equal(m.protocol_count, PU_COUNT(protocols));
  assert_int_equal(m.agent_version.len, strlen(AGENT));
  assert_memory_equal(m.agent_version.data, AGENT, strlen(AGENT));
  assert_non_null(m.protocol_version.data);
  assert_int_equal(m.protocol_version.len, 0);
  assert_int_equal(m.record.data != NULL, record);
  pu_identify_field rest = m.all, f;
  for (size_t i = 0; i < PU_COUNT(protocols); i++) {
    assert_true(pu_identify_next(&rest, PU_IDENTIFY_PROTOCOLS, &f));
    assert_int_equal(f.len, strlen(protocols[i]));
    assert_memory_equal(f.data, protocols[i], f.len);
  }
  assert_false(pu_identify_next(&rest, PU_IDENTIFY_PROTOCOLS, &f));
}

static void test_round_trip(void **state) {
  (void)state;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_key *key = key_of(1);
  pu_multiaddr addrs[64];
  size_t most = many_addrs(addrs);
  const size_t counts[] = {0, 1, 40, most};
  for (size_t i = 0; i < PU_COUNT(counts); i++) {
    for (int record = 0; record < 2; record++) {
      uint8_t *bytes;
      size_t len;
      assert_int_equal(encode(&mem, key, addrs, counts[i], record == 1, &bytes, &len), 0);
      for (size_t chunk = 1; chunk <= len; chunk += chunk < 40 ? 1 : len / 3) {
        pu_identify_reader r;
        pu_identify_reader_init(&r, &mem);
        assert_int_equal(feed(&r, bytes, len, chunk), 0);
        assert_int_equal(r.parts, record == 1 && counts[i] >= 40 ? 2 : 1);
        check_read(&r, counts[i], record == 1);
        pu_identify_reader_free(&r);
      }
      pu_free(bytes);
    }
  }
  pu_key_free(key);
  pu_mem_deinit(&mem);
}

/* Every prefix of a stream is malformed, except where a message ends. */
static void test_cut_short(void **state) {
  (void)state;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_key *key = key_of(1);
  pu_multiaddr addrs[64];
  uint8_t *bytes;
  size_t len, whole = 0;
  (void)many_addrs(addrs);
  assert_int_equal(encode(&mem, key, addrs, 40, true, &bytes, &len), 0);
  for (size_t cut = 0; cut <= len; cut++) {
    pu_identify_reader r;
    pu_identify m;
    pu_identify_reader_init(&r, &mem);
    assert_int_equal(feed(&r, bytes, cut, cut + 1), 0);
    int rc = pu_identify_reader_end(&r, &m);
    assert_true(rc == 0 || rc == PU_E_PARSE);
    whole += rc == 0;
    pu_identify_reader_free(&r);
  }
  assert_int_equal(whole, 2);
  pu_free(bytes);
  pu_key_free(key);
  pu_mem_deinit(&mem);
}

static void test_parts(void **state) {
  (void)state;
  static const uint8_t part[] = {4, 0x1a, 2, 'a', 'b'}; /* one protocol */
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_identify_reader r;
  pu_identify m;
  pu_identify_reader_init(&r, &mem);
  for (unsigned i = 0; i < PU_IDENTIFY_MAX_PARTS; i++)
    assert_int_equal(pu_identify_reader_feed(&r, part, sizeof(part)), 0);
  assert_int_equal(pu_identify_reader_end(&r, &m), 0);
  assert_int_equal(m.protocol_count, PU_IDENTIFY_MAX_PARTS);
  assert_int_equal(pu_identify_reader_feed(&r, part, sizeof(part)), PU_E_LIMIT);
  pu_identify_reader_free(&r);

  /* The last of a single field wins, also across messages. */
  static const uint8_t agents[] = {3, 0x32, 1, 'x', 4, 0x32, 2, 'y', 'z'};
  pu_identify_reader_init(&r, &mem);
  assert_int_equal(feed(&r, agents, sizeof(agents), 2), 0);
  assert_int_equal(pu_identify_reader_end(&r, &m), 0);
  assert_int_equal(m.agent_version.len, 2);
  assert_memory_equal(m.agent_version.data, "yz", 2);
  pu_identify_reader_free(&r);
  pu_mem_deinit(&mem);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *hex;
    int feed, end;
  } cases[] = {
      {"", 0, PU_E_PARSE},     /* nothing at all */
      {"00", 0, 0},            /* an empty message is one */
      {"8000", PU_E_PARSE, 0}, /* a length that is not minimal */
      {"8140", PU_E_LIMIT, 0}, /* 8193 */
      {"ffffffffffffffffff01", PU_E_PARSE, 0},
      {"02", 0, PU_E_PARSE},     /* cut */
      {"020aff", 0, PU_E_PARSE}, /* a field past the end */
      {"010b", 0, PU_E_PARSE},   /* a group */
      {"0108", 0, PU_E_PARSE},
      {"020801", 0, 0},   /* a number where bytes belong: skipped */
      {"033a0141", 0, 0}, /* an unknown field */
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    pu_mem mem;
    pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
    uint8_t bytes[64];
    size_t len = unhex(cases[i].hex, bytes, sizeof(bytes));
    for (size_t chunk = 1; chunk <= len + 1; chunk++) {
      pu_identify_reader r;
      pu_identify m;
      pu_identify_reader_init(&r, &mem);
      int rc = feed(&r, bytes, len, chunk);
      assert_int_equal(rc, cases[i].feed);
      if (rc == 0)
        assert_int_equal(pu_identify_reader_end(&r, &m), cases[i].end);
      pu_identify_reader_free(&r);
    }
    pu_mem_deinit(&mem);
  }
}

/* What a peer may make us hold is bounded by messages and parts, however it slices. */
static void test_bounded(void **state) {
  (void)state;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_identify_reader r;
  pu_identify_reader_init(&r, &mem);
  static uint8_t part[2 + PU_IDENTIFY_MAX_MESSAGE];
  assert_int_equal(pu_varint_put(part, PU_IDENTIFY_MAX_MESSAGE), 2);
  part[2] = 0x3a; /* an unknown field of 8189 bytes */
  assert_int_equal(pu_varint_put(part + 3, PU_IDENTIFY_MAX_MESSAGE - 3), 2);
  int rc = 0;
  for (int i = 0; i < 20 && rc == 0; i++)
    rc = feed(&r, part, sizeof(part), 1000);
  assert_int_equal(rc, PU_E_LIMIT);
  assert_true(mem.peak < 2 * PU_IDENTIFY_MAX_PARTS * (PU_IDENTIFY_MAX_MESSAGE + 2));
  pu_identify_reader_free(&r);
  pu_mem_deinit(&mem);
}

static void test_too_much_of_our_own(void **state) {
  (void)state;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_key *key = key_of(1);
  char name[100];
  memset(name, 'n', sizeof(name) - 1);
  name[sizeof(name) - 1] = '\0';
  const char *names[PU_IDENTIFY_MAX_OWN_PROTOCOLS];
  for (size_t i = 0; i < PU_COUNT(names); i++)
    names[i] = name;
  pu_identify_own own = {.key = pu_key_public(key),
                         .protocols = names,
                         .protocol_count = PU_COUNT(names),
                         .protocol_version = "",
                         .agent_version = ""};
  uint8_t *bytes = NULL;
  size_t len;
  assert_int_equal(pu_identify_encode(&mem, &own, &bytes, &len), PU_E_LIMIT);
  own.protocol_count++;
  assert_int_equal(pu_identify_encode(&mem, &own, &bytes, &len), PU_E_INVAL);
  own.protocol_count = 0;
  own.addr_count = PU_IDENTIFY_MAX_ADDRS + 1;
  assert_int_equal(pu_identify_encode(&mem, &own, &bytes, &len), PU_E_INVAL);
  assert_null(bytes);
  pu_key_free(key);
  pu_mem_deinit(&mem);
}

/* picked says which of |texts| are kept of a message of |key| with |record| (NULL: none), told by
 * |peer| over |remote|: one letter each, y or n. */
static const char *picked(pu_mem *mem, const pu_key *key, const pu_peer_id *peer,
                          const char *remote, const char *const *texts, size_t count,
                          const uint8_t *record, size_t record_len) {
  static char verdict[PU_IDENTIFY_MAX_ADDRS + 1];
  pu_multiaddr addrs[PU_IDENTIFY_MAX_ADDRS], kept[PU_IDENTIFY_MAX_ADDRS];
  for (size_t i = 0; i < count; i++)
    addrs[i] = addr_of(texts[i]);
  pu_identify_own own = {.key = pu_key_public(key),
                         .addrs = addrs,
                         .addr_count = count,
                         .protocol_version = "",
                         .agent_version = "",
                         .record = record,
                         .record_len = record_len};
  uint8_t *bytes;
  size_t len;
  assert_int_equal(pu_identify_encode(mem, &own, &bytes, &len), 0);
  pu_identify_reader r;
  pu_identify m;
  pu_identify_reader_init(&r, mem);
  assert_int_equal(pu_identify_reader_feed(&r, bytes, len), 0);
  assert_int_equal(pu_identify_reader_end(&r, &m), 0);
  pu_multiaddr from = addr_of(remote);
  size_t n = pu_identify_addrs(mem, &m, peer, &from, kept, PU_COUNT(kept)), at = 0;
  for (size_t i = 0; i < count; i++) {
    bool yes = at < n && pu_multiaddr_equal(&kept[at], &addrs[i]);
    verdict[i] = yes ? 'y' : 'n';
    at += yes;
  }
  verdict[count] = '\0';
  assert_int_equal(at, n);
  pu_identify_reader_free(&r);
  pu_free(bytes);
  return verdict;
}

static void test_addresses(void **state) {
  (void)state;
  static const char *const texts[] = {
      "/ip4/127.0.0.1/tcp/1", "/ip4/192.168.0.9/tcp/1", "/ip4/1.2.3.4/tcp/1",
      "/ip4/203.0.113.1/tcp/1",
      "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWRJtmC7bDTucGV6xT926m3tFhU2od4jEFXB5rjaLBvkRb"};
  const size_t count = PU_COUNT(texts);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_key *key = key_of(1), *other = key_of(2);
  const pu_peer_id *id = pu_key_peer_id(key);
  uint8_t *record;
  size_t len;

  /* By the class of the connection; an address of another peer is never taken. */
  assert_string_equal(picked(&mem, key, id, "/ip4/127.0.0.1/tcp/9", texts, count, NULL, 0),
                      "yyyyn");
  assert_string_equal(picked(&mem, key, id, "/ip4/10.0.0.1/tcp/9", texts, count, NULL, 0), "nyyyn");
  assert_string_equal(picked(&mem, key, id, "/ip4/8.8.8.8/tcp/9", texts, count, NULL, 0), "nnynn");
  assert_string_equal(picked(&mem, key, id, "/ip4/203.0.113.5/tcp/9", texts, count, NULL, 0),
                      "yyyyn");

  /* A good record's addresses count instead of the list. */
  pu_multiaddr one = addr_of(texts[1]);
  assert_int_equal(pu_identify_record(&mem, key, &one, 1, 5, &record, &len), 0);
  assert_string_equal(picked(&mem, key, id, "/ip4/10.0.0.1/tcp/9", texts, count, record, len),
                      "nynnn");
  /* A wrong signature: as if there were none. */
  record[len - 1] ^= 1;
  assert_string_equal(picked(&mem, key, id, "/ip4/10.0.0.1/tcp/9", texts, count, record, len),
                      "nyyyn");
  pu_free(record);
  /* A good record of somebody else: no address at all. */
  assert_int_equal(pu_identify_record(&mem, other, &one, 1, 5, &record, &len), 0);
  assert_string_equal(picked(&mem, key, id, "/ip4/10.0.0.1/tcp/9", texts, count, record, len),
                      "nnnnn");
  pu_free(record);
  /* Signed by the peer, but about somebody else. */
  const uint8_t type[2] = {3, 1};
  uint8_t *payload;
  size_t payload_len;
  const pu_peer_record about = {.peer = *pu_key_peer_id(other), .seq = 1};
  assert_int_equal(pu_peer_record_encode(&mem, &about, &payload, &payload_len), 0);
  assert_int_equal(pu_envelope_seal(&mem, key, PU_ENVELOPE_PEER_RECORD_DOMAIN, type, payload,
                                    payload_len, &record, &len),
                   0);
  assert_string_equal(picked(&mem, key, id, "/ip4/10.0.0.1/tcp/9", texts, count, record, len),
                      "nnnnn");
  pu_free(payload);
  pu_free(record);
  pu_key_free(key);
  pu_key_free(other);
  pu_mem_deinit(&mem);
}

static void test_every_allocation_fails(void **state) {
  (void)state;
  pu_key *key = key_of(1);
  pu_multiaddr addrs[64];
  (void)many_addrs(addrs);
  unsigned failures = 0;
  for (uint64_t n = 1;; n++) {
    pu_mem mem;
    pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
    pu_mem_fail_at(&mem, n);
    uint8_t *bytes = NULL;
    size_t len = 0;
    pu_identify_reader r;
    pu_identify m;
    pu_identify_reader_init(&r, &mem);
    int rc = encode(&mem, key, addrs, 64, true, &bytes, &len);
    if (rc == 0)
      rc = feed(&r, bytes, len, 100);
    if (rc == 0)
      rc = pu_identify_reader_end(&r, &m);
    if (rc == 0) { /* without memory to verify with, a record counts for nothing */
      pu_multiaddr kept[64], from = addr_of("/ip4/10.0.0.1/tcp/9");
      (void)pu_identify_addrs(&mem, &m, pu_key_peer_id(key), &from, kept, 64);
    }
    assert_true(rc == 0 || rc == PU_E_NOMEM);
    pu_identify_reader_free(&r);
    pu_free(bytes);
    bool reached = mem.fail_at == 0;
    failures += reached;
    pu_mem_deinit(&mem);
    if (!reached)
      break;
  }
  assert_true(failures > 8);
  pu_key_free(key);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_cut_short),
      cmocka_unit_test(test_parts),      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_bounded),    cmocka_unit_test(test_too_much_of_our_own),
      cmocka_unit_test(test_addresses),  cmocka_unit_test(test_every_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
