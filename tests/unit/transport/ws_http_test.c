/* Heads of the upgrade to WebSocket: RFC 6455's example, what reverse proxies make of it, and what
 * is refused. */
#include "transport/ws_http.h"

#include "platform/assert.h"
#include "support/unit.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define START "GET / HTTP/1.1\r\n"
#define HOST "Host: example.com\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEYS "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n"
#define GOOD START HOST UPGRADE KEYS "\r\n"

static void test_accept(void **state) {
  (void)state;
  char accept[PU_WS_ACCEPT_TEXT];
  assert_int_equal(pu_ws_accept(KEY, accept), 0);
  assert_string_equal(accept, ACCEPT); /* RFC 6455, 1.3 */
}

static void test_end(void **state) {
  (void)state;
  static const char text[] = "a\r\nb\r\n\r\nc";
  for (size_t len = 0; len < sizeof text; len++)
    assert_int_equal(pu_ws_http_end((const uint8_t *)text, len, 0), len < 8 ? 0 : 8);
  assert_int_equal(pu_ws_http_end((const uint8_t *)text, 9, 4), 8);
  assert_int_equal(pu_ws_http_end((const uint8_t *)text, 9, 5), 0);
  assert_int_equal(pu_ws_http_end((const uint8_t *)"\n\n", 2, 0), 0);
}

/* read_exactly judges a copy without a byte around it. */
static int read_request(const char *text, size_t len, char *key, unsigned *status) {
  uint8_t *copy = malloc(len + 1);
  assert_non_null(copy);
  memcpy(copy, text, len);
  uint8_t *exact = realloc(copy, len == 0 ? 1 : len);
  assert_non_null(exact);
  int rc = pu_ws_request_read(exact, len, key, status);
  free(exact);
  return rc;
}

static void test_requests(void **state) {
  (void)state;
  static const char *const good[] = {
      GOOD,
      "GET /a/b?c=%20 HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n",
      START
      "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nVia: 1.1 proxy\r\n" HOST UPGRADE KEYS
      "Origin: https://elsewhere.example\r\nCookie:\r\n\r\n",
      START "HOST:example.com:8080\r\nUPGRADE: h2c, WebSocket\r\nconnection: keep-alive, "
            "upgrade\r\nsec-websocket-key:\t" KEY " \r\nSEC-WEBSOCKET-VERSION:13\r\n\r\n",
      START HOST "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" KEYS
                 "Content-Length: 0\r\n\r\n",
      START HOST UPGRADE KEYS "Sec-WebSocket-Extensions: permessage-deflate\r\n"
                              "Sec-WebSocket-Protocol: a, b\r\n\r\n",
  };
  for (size_t i = 0; i < PU_COUNT(good); i++) {
    char key[PU_WS_KEY_TEXT] = "";
    unsigned status = 0;
    if (read_request(good[i], strlen(good[i]), key, &status) != 0)
      fail_msg("refused: %s", good[i]);
    assert_string_equal(key, KEY);
    for (size_t len = 0; len < strlen(good[i]); len++)
      assert_int_equal(read_request(good[i], len, key, &status), PU_E_PROTOCOL);
  }
}

static void test_refused_requests(void **state) {
  (void)state;
  static const struct {
    unsigned status;
    const char *text;
  } bad[] = {
      {400, ""},
      {400, "\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "get / HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET / HTTP/1.0\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET / HTTP/2\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET  / HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET /a b HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET http://a/ HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET / HTTP/1.1 \r\n" HOST UPGRADE KEYS "\r\n"},
      {400, "GET /\xc3\xa4 HTTP/1.1\r\n" HOST UPGRADE KEYS "\r\n"},
      /* Host */
      {400, START UPGRADE KEYS "\r\n"},
      {400, START HOST HOST UPGRADE KEYS "\r\n"},
      {400, START "Host:\r\n" UPGRADE KEYS "\r\n"},
      /* the upgrade */
      {426, START HOST "\r\n"},
      {426, START HOST "Connection: Upgrade\r\n" KEYS "\r\n"},
      {426, START HOST "Upgrade: websocket\r\n" KEYS "\r\n"},
      {426, START HOST "Upgrade: websockets\r\nConnection: Upgrade\r\n" KEYS "\r\n"},
      {426, START HOST "Upgrade: websocket\r\nConnection: close\r\n" KEYS "\r\n"},
      {426, START HOST UPGRADE "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 8\r\n\r\n"},
      {400, START HOST UPGRADE "Sec-WebSocket-Key: " KEY "\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "Sec-WebSocket-Version: 13\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "Sec-WebSocket-Key: " KEY "\r\n\r\n"},
      {400, START HOST UPGRADE "Sec-WebSocket-Version: 13\r\n\r\n"},
      {400, START HOST UPGRADE "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n\r\n"},
      {400, START HOST UPGRADE "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                               "dGhlIHNhbXBsZSBub25jZQAA\r\n\r\n"},
      {400, START HOST UPGRADE "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                               "dGhlIHNhbX!zZSBub25jZQ==\r\n\r\n"},
      /* bodies: what a proxy and we might cut differently */
      {400, START HOST UPGRADE KEYS "Content-Length: 5\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "Content-Length: 0, 0\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "Content-Length: +0\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "Transfer-Encoding: chunked\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "Transfer-Encoding: identity\r\n\r\n"},
      /* lines */
      {400, START HOST UPGRADE KEYS "X: a\r\n b\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X: a\r\n\tb\r\n\r\n"},
      {400, START " X: a\r\n" HOST UPGRADE KEYS "\r\n"},
      {400, START HOST UPGRADE KEYS "X : a\r\n\r\n"},
      {400, START HOST UPGRADE KEYS ": a\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X(y): a\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X: a\nY: b\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X: a\rY: b\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X: \x01\r\n\r\n"},
      {400, START HOST UPGRADE KEYS "X: \x7f\r\n\r\n"},
      {400, "GET / HTTP/1.1\n" HOST UPGRADE KEYS "\r\n"},
      {400, GOOD "GET / HTTP/1.1\r\n\r\n"},
      {400, GOOD "x"},
  };
  for (size_t i = 0; i < PU_COUNT(bad); i++) {
    char key[PU_WS_KEY_TEXT];
    unsigned status = 0;
    if (read_request(bad[i].text, strlen(bad[i].text), key, &status) != PU_E_PROTOCOL ||
        status != bad[i].status)
      fail_msg("case %zu: %u: %s", i, status, bad[i].text);
  }
  static const char zero[] = START HOST UPGRADE KEYS "X: \0\r\n\r\n";
  char key[PU_WS_KEY_TEXT];
  unsigned status;
  assert_int_equal(read_request(zero, sizeof zero - 1, key, &status), PU_E_PROTOCOL);
}

static void test_bounds(void **state) {
  (void)state;
  char text[PU_WS_HTTP_MAX + 100], key[PU_WS_KEY_TEXT];
  unsigned status;
  /* As many lines as there may be, and one more: four are of the upgrade, one of the host. */
  for (unsigned more = 0; more < 2; more++) {
    size_t len = (size_t)snprintf(text, sizeof text, "%s", START HOST UPGRADE KEYS);
    for (unsigned i = 5; i < PU_WS_HTTP_HEADERS_MAX + more; i++)
      len += (size_t)snprintf(text + len, sizeof text - len, "a: b\r\n");
    len += (size_t)snprintf(text + len, sizeof text - len, "\r\n");
    assert_int_equal(read_request(text, len, key, &status), more == 0 ? 0 : PU_E_PROTOCOL);
  }
  for (unsigned more = 0; more < 2; more++) {
    size_t len = (size_t)snprintf(text, sizeof text, "%s", START HOST UPGRADE KEYS "X: ");
    memset(text + len, 'x', PU_WS_HTTP_MAX - len - 4 + more);
    len = PU_WS_HTTP_MAX - 4 + more;
    memcpy(text + len, "\r\n\r\n", 4);
    assert_int_equal(read_request(text, len + 4, key, &status), more == 0 ? 0 : PU_E_PROTOCOL);
  }
}

static void test_writing_requests(void **state) {
  (void)state;
  char out[512], key[PU_WS_KEY_TEXT];
  unsigned status;
  ssize_t len = pu_ws_request_write("example.com", 0, "", KEY, out, sizeof out);
  assert_true(len > 0);
  assert_string_equal(out, GOOD);
  static const struct {
    const char *path, *target;
  } paths[] = {{"/", "/"},
               {"a/b", "/a/b"},
               {"/a?b=c&d", "/a?b=c&d"},
               {"a b\r\n#%", "/a%20b%0D%0A%23%25"},
               {"\xc3\xa4", "/%C3%A4"}};
  for (size_t i = 0; i < PU_COUNT(paths); i++) {
    char want[64];
    len = pu_ws_request_write("[::1]", 8080, paths[i].path, KEY, out, sizeof out);
    assert_true(len > 0);
    (void)snprintf(want, sizeof want, "GET %s HTTP/1.1\r\nHost: [::1]:8080\r\n", paths[i].target);
    assert_memory_equal(out, want, strlen(want));
    assert_int_equal(pu_ws_request_read((const uint8_t *)out, (size_t)len, key, &status), 0);
    assert_string_equal(key, KEY);
  }
  static const char *const hosts[] = {"",    "a b", "a\r\nX: y", "a/b",
                                      "a@b", "a?b", "a#b",       "\xc3\xa4"};
  for (size_t i = 0; i < PU_COUNT(hosts); i++)
    assert_int_equal(pu_ws_request_write(hosts[i], 0, "", KEY, out, sizeof out), PU_E_INVAL);
  len = pu_ws_request_write("a", 1, "b c", KEY, out, sizeof out);
  for (size_t cap = 0; cap <= (size_t)len; cap++) {
    char *exact = malloc(cap == 0 ? 1 : cap);
    assert_non_null(exact);
    assert_int_equal(pu_ws_request_write("a", 1, "b c", KEY, exact, cap), PU_E_TOO_BIG);
    free(exact);
  }
}

static void test_responses(void **state) {
  (void)state;
  char out[PU_WS_RESPONSE_MAX], why[PU_WS_HTTP_WHY];
  const size_t len = pu_ws_response_write(101, ACCEPT, out);
  assert_int_equal(pu_ws_response_read((const uint8_t *)out, len, ACCEPT, why), 0);
  for (size_t n = 0; n < len; n++)
    assert_int_not_equal(pu_ws_response_read((const uint8_t *)out, n, ACCEPT, why), 0);
  static const unsigned refusals[] = {400, 426, 431};
  for (size_t i = 0; i < PU_COUNT(refusals); i++) {
    const size_t n = pu_ws_response_write(refusals[i], NULL, out);
    assert_int_equal(pu_ws_http_end((const uint8_t *)out, n, 0), n);
    assert_int_equal(pu_ws_response_read((const uint8_t *)out, n, ACCEPT, why), PU_E_REFUSED);
    char number[8];
    (void)snprintf(number, sizeof number, "%u", refusals[i]);
    assert_non_null(strstr(why, number));
  }
#define SWITCH "HTTP/1.1 101 Switching Protocols\r\n"
#define PROOF "Sec-WebSocket-Accept: " ACCEPT "\r\n"
  static const struct {
    int rc;
    const char *text, *why;
  } cases[] = {
      {0, SWITCH "server: nginx\r\nUPGRADE: WebSocket\r\nconnection: upgrade\r\n" PROOF "\r\n", ""},
      {0, "HTTP/1.1 101\r\n" UPGRADE PROOF "\r\n", ""},
      {PU_E_PROTOCOL, "HTTP/1.0 101 x\r\n" UPGRADE PROOF "\r\n", "something else"},
      {PU_E_PROTOCOL, SWITCH UPGRADE "\r\n", "proof"},
      {PU_E_PROTOCOL, SWITCH UPGRADE PROOF PROOF "\r\n", "proof"},
      {PU_E_PROTOCOL, SWITCH UPGRADE "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
       "proof"},
      {PU_E_PROTOCOL, SWITCH "Connection: Upgrade\r\n" PROOF "\r\n", "something else"},
      {PU_E_PROTOCOL, SWITCH "Upgrade: websocket\r\n" PROOF "\r\n", "something else"},
      {PU_E_PROTOCOL, SWITCH UPGRADE PROOF "Sec-WebSocket-Extensions: x\r\n\r\n", "nobody asked"},
      {PU_E_PROTOCOL, SWITCH UPGRADE PROOF "Sec-WebSocket-Protocol: x\r\n\r\n", "nobody asked"},
      {PU_E_PROTOCOL, SWITCH UPGRADE PROOF "Transfer-Encoding: chunked\r\n\r\n", "nobody asked"},
      {PU_E_REFUSED, "HTTP/1.1 302 Found\r\nLocation: https://a.example/x\r\n\r\n",
       "https://a.example/x"},
      {PU_E_REFUSED, "HTTP/1.1 308 x\r\nLocation: a\x80 \tb\r\n\r\n", "a???b"},
      {PU_E_REFUSED, "HTTP/1.1 301 x\r\n\r\n", "301"},
      {PU_E_REFUSED, "HTTP/1.1 404 Not Found\r\n\r\n", "404"},
      {PU_E_REFUSED, "HTTP/1.0 502 Bad Gateway\r\n\r\n", "502"},
      {PU_E_REFUSED, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200"},
      {PU_E_PROTOCOL, "SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"},
      {PU_E_PROTOCOL, "HTTP/1.1 1O1 x\r\n" UPGRADE PROOF "\r\n", "no HTTP"},
      {PU_E_PROTOCOL, "HTTP/1.1 1011\r\n" UPGRADE PROOF "\r\n", "no HTTP"},
      {PU_E_PROTOCOL, "HTTP/1.2 101 x\r\n" UPGRADE PROOF "\r\n", "no HTTP"},
      {PU_E_PROTOCOL, "", "no HTTP"},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    why[0] = '\0';
    if (pu_ws_response_read((const uint8_t *)cases[i].text, strlen(cases[i].text), ACCEPT, why) !=
            cases[i].rc ||
        strstr(why, cases[i].why) == NULL)
      fail_msg("case %zu: %s: %s", i, why, cases[i].text);
  }
  /* A redirect's target is cut, not the sentence around it. */
  char longer[1024];
  (void)snprintf(longer, sizeof longer, "HTTP/1.1 302 x\r\nLocation: %0600d\r\n\r\n", 0);
  assert_int_equal(pu_ws_response_read((const uint8_t *)longer, strlen(longer), ACCEPT, why),
                   PU_E_REFUSED);
  assert_non_null(strstr(why, "not followed"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_accept),    cmocka_unit_test(test_end),
      cmocka_unit_test(test_requests),  cmocka_unit_test(test_refused_requests),
      cmocka_unit_test(test_bounds),    cmocka_unit_test(test_writing_requests),
      cmocka_unit_test(test_responses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
