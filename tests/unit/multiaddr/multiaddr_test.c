#include "multiaddr/multiaddr.h"

#include "support/unit.h"

#define PEER_A "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
#define PEER_B "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG"

static pu_multiaddr parse(const char *text) {
  pu_multiaddr a = {0};
  pu_error err = {0};
  if (pu_multiaddr_from_text(text, strlen(text), &a, &err) != 0)
    fail_msg("%s: %s", text, err.detail);
  return a;
}

static void expect(const pu_multiaddr *a, const char *want) {
  char text[PU_MULTIADDR_MAX_TEXT];
  assert_string_equal(pu_multiaddr_text(a, text), want);
}

static void says_what_is_wrong(void **state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } cases[] = {
      {"", "slash"},
      {"ip4/1.2.3.4", "slash"},
      {"///", "empty"},
      {"/ip4/1.2.3.4/xyz/1", "unknown protocol \"xyz\""},
      {"/ip4/1.2.3.4/tcp", "nothing follows \"tcp\""},
      {"/ip4/1.2.3/tcp/1", "\"1.2.3\" is no value for \"ip4\""},
      {"/dns4//tcp/1", "\"\" is no value for \"dns4\""},
      {"/dns4/a b/tcp/1", "no value for \"dns4\""},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    pu_multiaddr a = {.len = 77};
    pu_error err = {0};
    assert_int_equal(pu_multiaddr_from_text(cases[i].text, strlen(cases[i].text), &a, &err),
                     PU_E_PARSE);
    assert_int_equal(a.len, 77);
    if (strstr(err.detail, cases[i].part) == NULL)
      fail_msg("%s: %s", cases[i].text, err.detail);
  }
  pu_multiaddr a;
  assert_int_equal(pu_multiaddr_from_text("/ip4/1.2.3.4\0x/tcp/1", 20, &a, NULL), PU_E_PARSE);
}

static void bounds(void **state) {
  (void)state;
  pu_multiaddr a;
  char text[5000];
  memset(text, 'x', sizeof(text));
  memcpy(text, "/dns4/", 6);
  assert_int_equal(pu_multiaddr_from_text(text, 6 + 317, &a, NULL), 0);
  assert_int_equal(a.len, PU_MULTIADDR_MAX_BYTES);
  assert_int_equal(pu_multiaddr_from_text(text, 6 + 318, &a, NULL), PU_E_LIMIT);
  assert_int_equal(pu_multiaddr_from_text(text, sizeof(text), &a, NULL), PU_E_LIMIT);
  /* Short in bytes, long in text: two bytes for "/webrtc-direct". */
  uint8_t in[PU_MULTIADDR_MAX_BYTES + 2];
  for (size_t i = 0; i < sizeof(in); i += 2)
    memcpy(in + i, "\x98\x02", 2);
  assert_int_equal(pu_multiaddr_from_bytes(in, 2 * 54, &a), 0);
  expect(&a, pu_multiaddr_text(&a, text));
  assert_int_equal(strlen(text), 14 * 54);
  assert_int_equal(pu_multiaddr_from_bytes(in, 2 * 55, &a), PU_E_LIMIT);
  assert_int_equal(pu_multiaddr_from_bytes(in, sizeof(in), &a), PU_E_LIMIT);
}

static void refuses_cuts(void **state) {
  (void)state;
  pu_multiaddr a = parse("/dns4/example.com/tcp/443/tls/sni/x.org/ws/p2p/" PEER_A), b;
  size_t good = 0;
  for (size_t n = 0; n < a.len; n++)
    if (pu_multiaddr_from_bytes(a.bytes, n, &b) == 0)
      good++; /* between components only */
  assert_int_equal(good, 5);
  assert_int_equal(pu_multiaddr_from_bytes(a.bytes, a.len, &b), 0);
  assert_true(pu_multiaddr_equal(&a, &b));
}

static void iterates(void **state) {
  (void)state;
  pu_multiaddr a = parse("/ip4/1.2.3.4/tcp/5/ws");
  pu_ma_component c;
  size_t pos = 0;
  assert_true(pu_multiaddr_next(&a, &pos, &c));
  assert_true(c.code == PU_MA_IP4 && c.len == 4);
  assert_memory_equal(c.value, "\x01\x02\x03\x04", 4);
  assert_true(pu_multiaddr_next(&a, &pos, &c));
  assert_true(c.code == PU_MA_TCP && c.len == 2);
  assert_true(pu_multiaddr_next(&a, &pos, &c));
  assert_true(c.code == PU_MA_WS && c.len == 0 && c.value == NULL);
  assert_false(pu_multiaddr_next(&a, &pos, &c));
  assert_true(pu_multiaddr_find(&a, PU_MA_TCP, &c));
  assert_int_equal(c.value[1], 5);
  assert_false(pu_multiaddr_has(&a, PU_MA_UDP));
  pu_multiaddr none = {0};
  expect(&none, "");
  pos = 0;
  assert_false(pu_multiaddr_next(&none, &pos, &c));
  assert_string_equal(pu_multiaddr_protocol_name(PU_MA_QUIC_V1), "quic-v1");
  assert_null(pu_multiaddr_protocol_name(5));
}

static void builds(void **state) {
  (void)state;
  pu_multiaddr a = parse("/ip4/1.2.3.4/tcp/5"), tail = parse("/p2p/" PEER_B);
  pu_peer_id id;
  assert_int_equal(pu_peer_id_from_text(PEER_A, strlen(PEER_A), &id), 0);
  assert_int_equal(pu_multiaddr_append_p2p(&a, &id), 0);
  assert_int_equal(pu_multiaddr_append_circuit(&a), 0);
  pu_multiaddr same = a;
  pu_multiaddr_without_peer(&a, &same);
  assert_true(pu_multiaddr_equal(&a, &same)); /* the relay's ID stays */
  assert_int_equal(pu_multiaddr_append(&a, &tail), 0);
  expect(&a, "/ip4/1.2.3.4/tcp/5/p2p/" PEER_A "/p2p-circuit/p2p/" PEER_B);
  pu_multiaddr_without_peer(&a, &a);
  expect(&a, "/ip4/1.2.3.4/tcp/5/p2p/" PEER_A "/p2p-circuit");
  pu_multiaddr_without_peer(&tail, &tail);
  assert_int_equal(tail.len, 0);
  assert_int_equal(pu_multiaddr_append(&a, &tail), 0);
  pu_peer_id other = {.len = 3, .bytes = {0x13, 0x01, 0x00}};
  assert_int_equal(pu_multiaddr_append_p2p(&a, &other), PU_E_INVAL);
  int rc = 0;
  for (size_t i = 0; i < 10 && rc == 0; i++)
    rc = pu_multiaddr_append_p2p(&a, &id);
  assert_int_equal(rc, PU_E_LIMIT);
  assert_true(a.len > 0 && a.len <= PU_MULTIADDR_MAX_BYTES);
  pu_multiaddr path = parse("/unix/a/b"), tcp = parse("/tcp/1");
  assert_int_equal(pu_multiaddr_append(&path, &tcp), PU_E_INVAL);
  assert_int_equal(pu_multiaddr_append_circuit(&path), PU_E_INVAL);
}

static void from_sockaddr(void **state) {
  (void)state;
  pu_multiaddr a;
  pu_sockaddr sa = {.family = 4, .ip = {192, 0, 2, 1}, .port = 65535};
  pu_multiaddr_from_sockaddr(&sa, &a);
  expect(&a, "/ip4/192.0.2.1/tcp/65535");
  sa = (pu_sockaddr){.family = 6, .ip = {[15] = 1}, .port = 80};
  pu_multiaddr_from_sockaddr(&sa, &a);
  expect(&a, "/ip6/::1/tcp/80");
  sa.family = 0;
  pu_multiaddr_from_sockaddr(&sa, &a);
  assert_int_equal(a.len, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(says_what_is_wrong),
                                     cmocka_unit_test(bounds),
                                     cmocka_unit_test(refuses_cuts),
                                     cmocka_unit_test(iterates),
                                     cmocka_unit_test(builds),
                                     cmocka_unit_test(from_sockaddr)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
