/* Heads of the upgrade to WebSocket; see ws_http.h. */
#include "transport/ws_http.h"
#include "platform/assert.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ACCEPT_SALT "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

/* A piece of the head. */
typedef struct slice {
  const uint8_t *data;
  size_t len;
} slice;

/* What of a head decides. Counts tell a header that came twice. */
typedef struct head {
  slice start; /* the first line */
  unsigned host, key, version, accept, location, extensions, subprotocol;
  slice host_value, key_value, version_value, accept_value, location_value;
  bool upgrade, connection; /* the lists name what they must */
  bool body;                /* a message body is announced */
} head;

size_t pu_ws_http_end(const uint8_t *in, size_t len, size_t from) {
  for (size_t i = from; i + 4 <= len; i++)
    if (memcmp(in + i, "\r\n\r\n", 4) == 0)
      return i + 4;
  return 0;
}

int pu_ws_accept(const char *key, char out[static PU_WS_ACCEPT_TEXT]) {
  char text[PU_WS_KEY_TEXT + sizeof ACCEPT_SALT];
  uint8_t digest[20];
  const int len = snprintf(text, sizeof text, "%.24s" ACCEPT_SALT, key);
  if (gnutls_hash_fast(GNUTLS_DIG_SHA1, text, (size_t)len, digest) != 0)
    return PU_E_CRYPTO;
  (void)sodium_bin2base64(out, PU_WS_ACCEPT_TEXT, digest, sizeof digest,
                          sodium_base64_VARIANT_ORIGINAL);
  return 0;
}

/* ---- reading ---- */

static bool is_token_char(uint8_t c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_blank(uint8_t c) {
  return c == ' ' || c == '\t';
}

static bool equals(slice s, const char *text) {
  return s.len == strlen(text) && strncasecmp((const char *)s.data, text, s.len) == 0;
}

static slice trim(slice s) {
  while (s.len > 0 && is_blank(s.data[0])) {
    s.data++;
    s.len--;
  }
  while (s.len > 0 && is_blank(s.data[s.len - 1]))
    s.len--;
  return s;
}

/* next_line takes a line off |rest|. False at a line without its end, or with a byte that no line
 * may hold: lone CR or LF, NUL and the other controls. */
static bool next_line(slice *rest, slice *line) {
  size_t i = 0;
  while (i < rest->len && rest->data[i] != '\r') {
    const uint8_t c = rest->data[i++];
    if ((c < 0x20 && c != '\t') || c == 0x7f)
      return false;
  }
  if (rest->len - i < 2 || rest->data[i + 1] != '\n')
    return false;
  *line = (slice){rest->data, i};
  rest->data += i + 2;
  rest->len -= i + 2;
  return true;
}

/* list_has says whether a comma-separated list names |token|. */
static bool list_has(slice list, const char *token) {
  for (size_t begin = 0; begin <= list.len;) {
    size_t end = begin;
    while (end < list.len && list.data[end] != ',')
      end++;
    if (equals(trim((slice){list.data + begin, end - begin}), token))
      return true;
    begin = end + 1;
  }
  return false;
}

static void note(head *h, slice name, slice value) {
  static const struct {
    const char *name;
    size_t count, value; /* where in head; value 0: not kept */
  } singles[] = {
      {"host", offsetof(head, host), offsetof(head, host_value)},
      {"sec-websocket-key", offsetof(head, key), offsetof(head, key_value)},
      {"sec-websocket-version", offsetof(head, version), offsetof(head, version_value)},
      {"sec-websocket-accept", offsetof(head, accept), offsetof(head, accept_value)},
      {"location", offsetof(head, location), offsetof(head, location_value)},
      {"sec-websocket-extensions", offsetof(head, extensions), 0},
      {"sec-websocket-protocol", offsetof(head, subprotocol), 0},
  };
  if (equals(name, "upgrade"))
    h->upgrade = h->upgrade || list_has(value, "websocket");
  else if (equals(name, "connection"))
    h->connection = h->connection || list_has(value, "upgrade");
  else if (equals(name, "transfer-encoding") ||
           (equals(name, "content-length") && !equals(value, "0")))
    h->body = true;
  for (size_t i = 0; i < PU_COUNT(singles); i++) {
    if (!equals(name, singles[i].name))
      continue;
    ++*(unsigned *)((char *)h + singles[i].count);
    if (singles[i].value != 0)
      *(slice *)((char *)h + singles[i].value) = value;
  }
}

/* read_head takes a head apart: PU_E_PROTOCOL for what is no head. */
static int read_head(const uint8_t *in, size_t len, head *out) {
  slice rest = {in, len}, line;
  *out = (head){0};
  if (len > PU_WS_HTTP_MAX || !next_line(&rest, &out->start))
    return PU_E_PROTOCOL;
  for (size_t count = 0; count <= PU_WS_HTTP_HEADERS_MAX; count++) {
    size_t name = 0;
    if (!next_line(&rest, &line))
      return PU_E_PROTOCOL;
    if (line.len == 0)
      return rest.len == 0 ? 0 : PU_E_PROTOCOL;
    while (name < line.len && is_token_char(line.data[name]))
      name++;
    if (name == 0 || name == line.len || line.data[name] != ':')
      return PU_E_PROTOCOL; /* folded lines, too, begin with no name */
    note(out, (slice){line.data, name}, trim((slice){line.data + name + 1, line.len - name - 1}));
  }
  return PU_E_PROTOCOL;
}

/* is_get says whether the request line asks for a path by GET. */
static bool is_get(slice line) {
  static const char before[] = "GET /", behind[] = " HTTP/1.1";
  const size_t head_len = sizeof before - 1, tail_len = sizeof behind - 1;
  if (line.len < head_len + tail_len || memcmp(line.data, before, head_len) != 0 ||
      memcmp(line.data + line.len - tail_len, behind, tail_len) != 0)
    return false;
  for (size_t i = head_len; i < line.len - tail_len; i++)
    if (line.data[i] <= 0x20 || line.data[i] >= 0x7f)
      return false;
  return true;
}

/* read_key takes the 16 bytes in base64 that a key is. */
static bool read_key(slice value, char key[static PU_WS_KEY_TEXT]) {
  uint8_t bytes[16];
  size_t len;
  if (value.len != PU_WS_KEY_TEXT - 1 ||
      sodium_base642bin(bytes, sizeof bytes, (const char *)value.data, value.len, NULL, &len, NULL,
                        sodium_base64_VARIANT_ORIGINAL) != 0 ||
      len != sizeof bytes)
    return false;
  memcpy(key, value.data, value.len);
  key[value.len] = '\0';
  return true;
}

int pu_ws_request_read(const uint8_t *in, size_t len, char key[static PU_WS_KEY_TEXT],
                       unsigned *status) {
  head h;
  *status = 400;
  if (read_head(in, len, &h) != 0 || !is_get(h.start) || h.host != 1 || h.host_value.len == 0 ||
      h.body)
    return PU_E_PROTOCOL;
  /* From here on it is a good request, and perhaps not one to upgrade. */
  if (!h.upgrade || !h.connection || (h.version == 1 && !equals(h.version_value, "13"))) {
    *status = 426;
    return PU_E_PROTOCOL;
  }
  if (h.version != 1 || h.key != 1 || !read_key(h.key_value, key))
    return PU_E_PROTOCOL;
  return 0;
}

/* say_location puts what a head says into a text for people: letters only that cannot mislead. */
static void say_location(slice location, char *out, size_t cap) {
  size_t n = 0;
  for (; n < location.len && n + 1 < cap; n++)
    out[n] = location.data[n] > 0x20 && location.data[n] < 0x7f ? (char)location.data[n] : '?';
  out[n] = '\0';
}

static int refuse(char why[static PU_WS_HTTP_WHY], int status, const char *text) {
  (void)snprintf(why, PU_WS_HTTP_WHY, "%s", text);
  return status;
}

/* read_status returns the status of "HTTP/1.x NNN reason", 0 when the line is none. */
static unsigned read_status(slice line) {
  if (line.len < 12 || memcmp(line.data, "HTTP/1.", 7) != 0 ||
      (line.data[7] != '1' && line.data[7] != '0') || line.data[8] != ' ' ||
      (line.len > 12 && line.data[12] != ' '))
    return 0;
  unsigned status = 0;
  for (size_t i = 9; i < 12; i++) {
    if (line.data[i] < '0' || line.data[i] > '9')
      return 0;
    status = status * 10 + (line.data[i] - '0');
  }
  return status;
}

int pu_ws_response_read(const uint8_t *in, size_t len, const char *accept,
                        char why[static PU_WS_HTTP_WHY]) {
  head h;
  const unsigned status = read_head(in, len, &h) == 0 ? read_status(h.start) : 0;
  if (status == 0)
    return refuse(why, PU_E_PROTOCOL, "the answer to the WebSocket upgrade is no HTTP");
  if (status >= 300 && status < 400 && h.location == 1) {
    char location[120];
    say_location(h.location_value, location, sizeof location);
    (void)snprintf(why, PU_WS_HTTP_WHY, "the web server redirects to %s, which is not followed",
                   location);
    return PU_E_REFUSED;
  }
  if (status != 101) {
    (void)snprintf(why, PU_WS_HTTP_WHY,
                   "the web server answered the WebSocket upgrade with status %u", status);
    return PU_E_REFUSED;
  }
  if (h.start.data[7] != '1' || !h.upgrade || !h.connection)
    return refuse(why, PU_E_PROTOCOL, "the web server upgrades to something else than WebSocket");
  if (h.accept != 1 || h.accept_value.len != strlen(accept) ||
      memcmp(h.accept_value.data, accept, h.accept_value.len) != 0)
    return refuse(why, PU_E_PROTOCOL, "the web server's proof of the WebSocket upgrade is wrong");
  if (h.extensions != 0 || h.subprotocol != 0 || h.body)
    return refuse(why, PU_E_PROTOCOL,
                  "the web server's WebSocket upgrade has what nobody asked for");
  return 0;
}

/* ---- writing ---- */

/* stands_in_path: what need not be percent-coded (RFC 3986, 3.3); a query may follow. */
static bool stands_in_path(uint8_t c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         (c != '\0' && strchr("-._~!$&'()*+,;=:@/?", c) != NULL);
}

ssize_t pu_ws_request_write(const char *host, uint16_t port, const char *path,
                            const char key[static PU_WS_KEY_TEXT], char *out, size_t cap) {
  size_t len = 0;
  for (const char *c = host; *c != '\0'; c++)
    if ((uint8_t)*c <= 0x20 || (uint8_t)*c >= 0x7f || strchr("/?#@\\", *c) != NULL)
      return PU_E_INVAL;
  if (*host == '\0')
    return PU_E_INVAL;
  if (cap < 6)
    return PU_E_TOO_BIG;
  memcpy(out, "GET /", 5);
  len = 5;
  for (const char *c = path + (*path == '/' ? 1 : 0); *c != '\0'; c++) {
    if (cap - len < 4)
      return PU_E_TOO_BIG;
    if (stands_in_path((uint8_t)*c))
      out[len++] = *c;
    else
      len += (size_t)snprintf(out + len, 4, "%%%02X", (uint8_t)*c);
  }
  char port_text[8] = "";
  if (port != 0)
    (void)snprintf(port_text, sizeof port_text, ":%u", port);
  const int n = snprintf(out + len, cap - len,
                         " HTTP/1.1\r\n"
                         "Host: %s%s\r\n"
                         "Upgrade: websocket\r\n"
                         "Connection: Upgrade\r\n"
                         "Sec-WebSocket-Key: %s\r\n"
                         "Sec-WebSocket-Version: 13\r\n\r\n",
                         host, port_text, key);
  return n < 0 || (size_t)n >= cap - len ? PU_E_TOO_BIG : (ssize_t)(len + (size_t)n);
}

size_t pu_ws_response_write(unsigned status, const char *accept,
                            char out[static PU_WS_RESPONSE_MAX]) {
  const int n = status == 101   ? snprintf(out, PU_WS_RESPONSE_MAX,
                                           "HTTP/1.1 101 Switching Protocols\r\n"
                                             "Upgrade: websocket\r\n"
                                             "Connection: Upgrade\r\n"
                                             "Sec-WebSocket-Accept: %s\r\n\r\n",
                                           accept)
                : status == 426 ? snprintf(out, PU_WS_RESPONSE_MAX,
                                           "HTTP/1.1 426 Upgrade Required\r\n"
                                           "Upgrade: websocket\r\n"
                                           "Connection: Upgrade, close\r\n"
                                           "Sec-WebSocket-Version: 13\r\n"
                                           "Content-Length: 0\r\n\r\n")
                : status == 431 ? snprintf(out, PU_WS_RESPONSE_MAX,
                                           "HTTP/1.1 431 Request Header Fields Too Large\r\n"
                                           "Connection: close\r\n"
                                           "Content-Length: 0\r\n\r\n")
                                : snprintf(out, PU_WS_RESPONSE_MAX,
                                           "HTTP/1.1 400 Bad Request\r\n"
                                           "Connection: close\r\n"
                                           "Content-Length: 0\r\n\r\n");
  return (size_t)n;
}
