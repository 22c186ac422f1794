#include "multiaddr/multiaddr.h"
#include "support/unit.h"

#define PEER_R "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
#define PEER_T "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG"

static pu_multiaddr parse(const char *text) {
  pu_multiaddr a = {0};
  pu_error err = {0};
  if (pu_multiaddr_from_text(text, strlen(text), &a, &err) != 0)
    fail_msg("%s: %s", text, err.detail);
  return a;
}

static pu_ma_target target(const char *text) {
  pu_multiaddr a = parse(text);
  pu_ma_target t;
  pu_multiaddr_target(&a, &t);
  return t;
}

static bool is_peer(const pu_peer_id *id, const char *text) {
  char got[PU_PEER_ID_MAX_TEXT];
  return strcmp(pu_peer_id_text(id, got), text) == 0;
}

static void kinds(void **state) {
  (void)state;
  static const struct {
    pu_ma_kind kind;
    const char *text;
  } cases[] = {
      {PU_MA_KIND_TCP, "/ip4/1.2.3.4/tcp/5"},
      {PU_MA_KIND_TCP, "/dns/a/tcp/5/p2p/" PEER_T},
      {PU_MA_KIND_QUIC, "/ip6/::1/udp/5/quic-v1"},
      {PU_MA_KIND_QUIC, "/ip6/::1/udp/5/quic-v1/p2p/" PEER_T},
      {PU_MA_KIND_WS, "/ip4/1.2.3.4/tcp/5/ws"},
      {PU_MA_KIND_WS, "/ip4/1.2.3.4/tcp/5/wss/p2p/" PEER_T},
      {PU_MA_KIND_WS, "/dns4/a/tcp/5/tls/ws"},
      {PU_MA_KIND_WS, "/dns4/a/tcp/5/tls/sni/b/ws"},
      {PU_MA_KIND_WS, "/ip4/1.2.3.4/tcp/5/ws/http-path/a%2Fb/p2p/" PEER_T},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/tcp/5/ws/http-path/a%00b"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/tcp/5/http-path/a"},
      {PU_MA_KIND_OTHER, "/dns4/a/tcp/5/sni/b/ws"},
      {PU_MA_KIND_OTHER, "/dns4/a/tcp/5/ws/certhash/uEiAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw"},
      {PU_MA_KIND_OTHER, "/dns4/a/tcp/5/tls/sni/b"},
      {PU_MA_KIND_CIRCUIT, "/ip4/1.2.3.4/tcp/5/p2p/" PEER_R "/p2p-circuit"},
      {PU_MA_KIND_CIRCUIT, "/p2p/" PEER_R "/p2p-circuit/p2p/" PEER_T},
      {PU_MA_KIND_CIRCUIT, "/dns4/a/udp/5/quic-v1/p2p/" PEER_R "/p2p-circuit/p2p/" PEER_T},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/udp/5"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/udp/5/quic"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/udp/5/quic-v1/webtransport"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/tcp/5/tls"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/tcp/5/http"},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/tcp/5/p2p/" PEER_R "/p2p/" PEER_T},
      {PU_MA_KIND_OTHER, "/ip4/1.2.3.4/tcp/5/p2p-circuit"},
      {PU_MA_KIND_OTHER, "/p2p-circuit/p2p/" PEER_T},
      {PU_MA_KIND_OTHER, "/p2p/" PEER_T},
      {PU_MA_KIND_OTHER, "/p2p/" PEER_R "/p2p-circuit/p2p/" PEER_T "/p2p-circuit"},
      {PU_MA_KIND_OTHER, "/dnsaddr/a/tcp/5"},
      {PU_MA_KIND_OTHER, "/unix/a"},
      {PU_MA_KIND_OTHER, "/ip6zone/eth0/ip6/fe80::1/tcp/1"},
      {PU_MA_KIND_TCP, "/ip6zone/3/ip6/fe80::1/tcp/1"},
      {PU_MA_KIND_OTHER, "/ip6zone/4294967296/ip6/fe80::1/tcp/1"},
      {PU_MA_KIND_OTHER, "/ip6zone/3/ip4/1.2.3.4/tcp/1"},
      {PU_MA_KIND_OTHER, "/ip6zone/3"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    pu_ma_target t = target(cases[i].text);
    if (t.kind != cases[i].kind)
      fail_msg("%s: kind %d", cases[i].text, (int)t.kind);
    if (t.kind == PU_MA_KIND_OTHER)
      assert_true(t.port == 0 && t.peer.len == 0 && t.relay.len == 0 && t.addr.family == 0);
  }
  pu_multiaddr none = {0};
  pu_ma_target t;
  pu_multiaddr_target(&none, &t);
  assert_int_equal(t.kind, PU_MA_KIND_OTHER);
}

static void parts(void **state) {
  (void)state;
  pu_ma_target t = target("/ip6zone/3/ip6/fe80::1/tcp/258/p2p/" PEER_T);
  assert_true(!t.is_dns && t.family == 6 && t.addr.family == 6 && t.addr.scope == 3);
  assert_true(t.port == 258 && t.addr.port == 258 && t.addr.ip[0] == 0xfe && t.addr.ip[15] == 1);
  assert_true(is_peer(&t.peer, PEER_T));
  assert_int_equal(t.relay.len, 0);
  t = target("/dns6/example.com/tcp/443");
  assert_true(t.is_dns && t.family == 6 && t.port == 443 && t.addr.family == 0);
  assert_string_equal(t.host, "example.com");
  assert_int_equal(target("/dns/a/tcp/1").family, 0);
  t = target("/ip4/1.2.3.4/tcp/5/ws/p2p/" PEER_R "/p2p-circuit/p2p/" PEER_T);
  assert_true(is_peer(&t.relay, PEER_R) && is_peer(&t.peer, PEER_T));
  char text[PU_MULTIADDR_MAX_TEXT];
  assert_string_equal(pu_multiaddr_text(&t.relay_addr, text), "/ip4/1.2.3.4/tcp/5/ws/p2p/" PEER_R);
  t = target("/p2p/" PEER_R "/p2p-circuit");
  assert_true(is_peer(&t.relay, PEER_R) && t.peer.len == 0 && t.relay_addr.len == 0);
  char longer[400] = "/dns4/";
  memset(longer + 6, 'a', 255);
  (void)snprintf(longer + 6 + 255, 100, "/tcp/1");
  assert_int_equal(target(longer).kind, PU_MA_KIND_TCP);
  memset(longer + 6, 'a', 256);
  (void)snprintf(longer + 6 + 256, 100, "/tcp/1");
  assert_int_equal(target(longer).kind, PU_MA_KIND_OTHER);
}

static void web_parts(void **state) {
  (void)state;
  pu_ma_target t = target("/ip4/1.2.3.4/tcp/5/ws");
  assert_true(!t.tls && t.sni[0] == '\0' && t.path[0] == '\0');
  t = target("/dns4/a/tcp/5/wss");
  assert_true(t.tls && t.sni[0] == '\0');
  t = target("/ip4/1.2.3.4/tcp/5/tls/sni/web.example/ws/http-path/a%2Fb%20c/p2p/" PEER_T);
  assert_true(t.tls && is_peer(&t.peer, PEER_T));
  assert_string_equal(t.sni, "web.example");
  assert_string_equal(t.path, "a/b c");
  t = target("/ip4/1.2.3.4/tcp/5/tls/ws/certhash/uEiAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw/"
             "p2p/" PEER_T);
  assert_true(t.kind == PU_MA_KIND_WS && t.tls && t.pinned && is_peer(&t.peer, PEER_T));
  for (uint8_t i = 0; i < sizeof(t.pin); i++)
    assert_int_equal(t.pin[i], i);
  assert_false(target("/dns4/a/tcp/5/wss").pinned);
  assert_int_equal(target("/dns4/a/tcp/5/wss/certhash/uEwEB").kind, PU_MA_KIND_OTHER);
  char longer[400] = "/dns4/a/tcp/5/ws/http-path/";
  const size_t head = strlen(longer);
  memset(longer + head, 'p', PU_MA_PATH_MAX - 1);
  assert_int_equal(target(longer).kind, PU_MA_KIND_WS);
  memset(longer + head, 'p', PU_MA_PATH_MAX);
  assert_int_equal(target(longer).kind, PU_MA_KIND_OTHER);
}

/* Each letter is a class: l loopback, p private, P public. */
static void classes(void **state) {
  (void)state;
  static const struct {
    const char *text, *classes;
  } cases[] = {
      {"/ip4/127.9.9.9", "lp"},
      {"/ip4/10.0.0.1", "p"},
      {"/ip4/172.16.0.1", "p"},
      {"/ip4/172.31.255.255", "p"},
      {"/ip4/172.32.0.1", "P"},
      {"/ip4/192.168.1.1", "p"},
      {"/ip4/100.64.0.1", "p"},
      {"/ip4/100.127.255.255", "p"},
      {"/ip4/100.128.0.1", "P"},
      {"/ip4/169.254.1.1", "p"},
      {"/ip4/8.8.8.8", "P"},
      {"/ip4/0.1.2.3", ""},
      {"/ip4/192.0.0.63", ""},
      {"/ip4/192.0.0.64", "P"},
      {"/ip4/192.88.99.1", ""},
      {"/ip4/198.19.0.1", ""},
      {"/ip4/198.51.100.1", ""},
      {"/ip4/203.0.113.1", ""},
      {"/ip4/224.0.0.1", ""},
      {"/ip4/255.255.255.255", ""},
      {"/ip6/::1", "lp"},
      {"/ip6/::", ""},
      {"/ip6/fd00::1", "p"},
      {"/ip6/fe80::1", "p"},
      {"/ip6/febf::1", "p"},
      {"/ip6/fec0::1", ""},
      {"/ip6/ff02::1", ""},
      {"/ip6/2001:db8::1", ""},
      {"/ip6/2606:4700::1", "P"},
      {"/ip6/64:ff9b::808:808", "P"},
      {"/ip6/64:ff9b:1::1", "P"},
      {"/ip6/64:ff9b:2::1", ""},
      {"/ip6/4000::1", ""},
      {"/ip6/::ffff:10.0.0.1", "p"},
      {"/ip6/::ffff:127.0.0.1", "lp"},
      {"/ip6/::ffff:8.8.8.8", ""},
      {"/ip6zone/x/ip6/fe80::1", "p"},
      {"/ip6zone/x", ""},
      {"/dns/localhost", "p"},
      {"/dns4/a.LocalHost", "p"},
      {"/dns4/nas.local.", "p"},
      {"/dns6/x.home.arpa", "p"},
      {"/dns/x.test", "p"},
      {"/dns/mylocal", "P"},
      {"/dns/x.invalid", ""},
      {"/dns/1.in-addr.arpa", ""},
      {"/dns/1.ip6.arpa", ""},
      {"/dnsaddr/example.com", "P"},
      {"/p2p/" PEER_T, ""},
      {"/unix/a", ""},
      {"/ip4/8.8.8.8/tcp/1/p2p/" PEER_R "/p2p-circuit", "P"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    pu_multiaddr a = parse(cases[i].text);
    char got[4];
    (void)snprintf(got, sizeof(got), "%s%s%s", pu_multiaddr_is_loopback(&a) ? "l" : "",
                   pu_multiaddr_is_private(&a) ? "p" : "", pu_multiaddr_is_public(&a) ? "P" : "");
    if (strcmp(got, cases[i].classes) != 0)
      fail_msg("%s: %s", cases[i].text, got);
  }
  pu_multiaddr direct = parse("/ip4/8.8.8.8"), relayed = parse("/p2p/" PEER_R "/p2p-circuit");
  pu_multiaddr none = {0};
  assert_false(pu_multiaddr_is_relayed(&direct));
  assert_true(pu_multiaddr_is_relayed(&relayed));
  assert_false(pu_multiaddr_is_public(&none) || pu_multiaddr_is_private(&none));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(kinds), cmocka_unit_test(parts),
                                     cmocka_unit_test(web_parts), cmocka_unit_test(classes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
