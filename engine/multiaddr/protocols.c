/* The table of multiaddr protocols (wire 3), see protocols.h. To add a protocol, add a line to
 * PROTOCOLS and its code to pu_ma_code. */
#include "multiaddr/protocols.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/multibase.h"
#include "base/varint.h"

#define IP4_BYTES 4
#define IP6_BYTES 16

static const uint8_t MAPPED_PREFIX[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* put_text copies |len| letters, the end of every to_text. */
static ssize_t put_text(const char *text, size_t len, char *out, size_t cap) {
  if (len > cap)
    return PU_E_LIMIT;
  memcpy(out, text, len);
  return (ssize_t)len;
}

/* parse_ip reads an address of either family as 16 bytes, IPv4 in mapped form. |is_v4| says how it
 * was written. */
static bool parse_ip(const char *text, size_t len, uint8_t out[static IP6_BYTES], bool *is_v4) {
  char copy[INET6_ADDRSTRLEN];
  if (len >= sizeof(copy))
    return false;
  memcpy(copy, text, len);
  copy[len] = '\0';
  if (inet_pton(AF_INET, copy, out + sizeof(MAPPED_PREFIX)) == 1) {
    memcpy(out, MAPPED_PREFIX, sizeof(MAPPED_PREFIX));
    *is_v4 = true;
    return true;
  }
  *is_v4 = false;
  return inet_pton(AF_INET6, copy, out) == 1;
}

static ssize_t ip4_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  uint8_t ip[IP6_BYTES];
  bool is_v4;
  if (!parse_ip(text, len, ip, &is_v4) || memcmp(ip, MAPPED_PREFIX, sizeof(MAPPED_PREFIX)) != 0)
    return PU_E_PARSE;
  if (cap < IP4_BYTES)
    return PU_E_LIMIT;
  memcpy(out, ip + sizeof(MAPPED_PREFIX), IP4_BYTES);
  return IP4_BYTES;
}

static ssize_t ip6_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  uint8_t ip[IP6_BYTES];
  bool is_v4;
  if (!parse_ip(text, len, ip, &is_v4))
    return PU_E_PARSE;
  if (cap < IP6_BYTES)
    return PU_E_LIMIT;
  memcpy(out, ip, IP6_BYTES);
  return IP6_BYTES;
}

static ssize_t ip4_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  (void)len;
  char text[INET_ADDRSTRLEN];
  int n = snprintf(text, sizeof(text), "%u.%u.%u.%u", v[0], v[1], v[2], v[3]);
  return put_text(text, (size_t)n, out, cap);
}

/* ip6_to_text compresses the first of the longest runs of zeros (RFC 5952). inet_ntop would write
 * ::1.2.3.4 where Go has ::102:304. */
static ssize_t ip6_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  (void)len;
  char text[INET6_ADDRSTRLEN];
  size_t n = 0;
  if (memcmp(v, MAPPED_PREFIX, sizeof(MAPPED_PREFIX)) == 0) {
    n = (size_t)snprintf(text, sizeof(text), "::ffff:%u.%u.%u.%u", v[12], v[13], v[14], v[15]);
    return put_text(text, n, out, cap);
  }
  unsigned group[8];
  for (size_t i = 0; i < 8; i++)
    group[i] = (unsigned)v[2 * i] << 8 | v[2 * i + 1];
  size_t run_at = 8, run_len = 1; /* one zero is not worth a "::" */
  for (size_t i = 0; i < 8; i++) {
    size_t end = i;
    while (end < 8 && group[end] == 0)
      end++;
    if (end - i > run_len) {
      run_at = i;
      run_len = end - i;
    }
    if (end > i)
      i = end - 1;
  }
  for (size_t i = 0; i < 8; i++) {
    if (i == run_at) {
      n += (size_t)snprintf(text + n, sizeof(text) - n, "::");
      i += run_len - 1;
      continue;
    }
    bool colon = i > 0 && i != run_at + run_len;
    n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%x", colon ? ":" : "", group[i]);
  }
  return put_text(text, n, out, cap);
}

/* parse_number reads decimal digits only; leading zeros are fine. */
static bool parse_number(const char *text, size_t len, uint64_t max, uint64_t *out) {
  uint64_t sum = 0;
  if (len == 0)
    return false;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9')
      return false;
    uint64_t digit = (uint64_t)(text[i] - '0');
    if (sum > (max - digit) / 10)
      return false;
    sum = sum * 10 + digit;
  }
  *out = sum;
  return true;
}

static ssize_t put_number(uint64_t value, size_t size, uint8_t *out, size_t cap) {
  if (cap < size)
    return PU_E_LIMIT;
  for (size_t i = size; i > 0; i--, value >>= 8)
    out[i - 1] = (uint8_t)value;
  return (ssize_t)size;
}

static ssize_t u8_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  uint64_t value;
  return parse_number(text, len, UINT8_MAX, &value) ? put_number(value, 1, out, cap) : PU_E_PARSE;
}

static ssize_t u16_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  uint64_t value;
  return parse_number(text, len, UINT16_MAX, &value) ? put_number(value, 2, out, cap) : PU_E_PARSE;
}

static ssize_t u64_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  uint64_t value;
  return parse_number(text, len, UINT64_MAX, &value) ? put_number(value, 8, out, cap) : PU_E_PARSE;
}

static ssize_t number_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  uint64_t value = 0;
  for (size_t i = 0; i < len; i++)
    value = value << 8 | v[i];
  char text[24];
  int n = snprintf(text, sizeof(text), "%" PRIu64, value);
  return put_text(text, (size_t)n, out, cap);
}

static ssize_t raw_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  if (len > cap)
    return PU_E_LIMIT;
  memcpy(out, text, len);
  return (ssize_t)len;
}

static ssize_t raw_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  return put_text((const char *)v, len, out, cap);
}

/* check_path takes what can stand in text: no control characters. Stricter than Go, which would let
 * a peer put line breaks into what we print. */
static bool check_path(const uint8_t *v, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (v[i] < 0x20 || v[i] == 0x7f)
      return false;
  return true;
}

static bool check_name(const uint8_t *v, size_t len) {
  return check_path(v, len) && memchr(v, '/', len) == NULL && memchr(v, ' ', len) == NULL;
}

static ssize_t p2p_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  pu_peer_id id;
  int rc = pu_peer_id_from_text(text, len, &id);
  if (rc != 0)
    return rc;
  return raw_from_text((const char *)id.bytes, id.len, out, cap);
}

static bool check_p2p(const uint8_t *v, size_t len) {
  pu_peer_id id;
  return pu_peer_id_parse_multiaddr(v, len, &id) == 0;
}

static ssize_t p2p_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  pu_peer_id id;
  char text[PU_PEER_ID_MAX_TEXT];
  int rc = pu_peer_id_parse_multiaddr(v, len, &id);
  if (rc != 0)
    return rc;
  (void)pu_peer_id_text(&id, text);
  return put_text(text, strlen(text), out, cap);
}

static ssize_t certhash_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  ssize_t n = pu_multibase_decode(text, len, out, cap);
  return n == PU_E_UNSUPPORTED ? PU_E_PARSE : n;
}

static bool check_certhash(const uint8_t *v, size_t len) {
  uint64_t code, digest_len;
  ssize_t used = pu_varint_get(v, len, &code);
  if (used <= 0)
    return false;
  size_t at = (size_t)used;
  used = pu_varint_get(v + at, len - at, &digest_len);
  return used > 0 && digest_len == len - at - (size_t)used;
}

static ssize_t certhash_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  char text[1 + (PU_MULTIADDR_MAX_BYTES * 4 + 2) / 3 + 1];
  text[0] = 'u';
  ssize_t n = pu_base64url_encode(v, len, text + 1, sizeof(text) - 1);
  return n < 0 ? n : put_text(text, (size_t)n + 1, out, cap);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static ssize_t percent_from_text(const char *text, size_t len, uint8_t *out, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    if (n == cap)
      return PU_E_LIMIT;
    if (text[i] != '%') {
      out[n++] = (uint8_t)text[i];
      continue;
    }
    if (len - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
      return PU_E_PARSE;
    out[n++] = (uint8_t)(hex_digit(text[i + 1]) << 4 | hex_digit(text[i + 2]));
    i += 2;
  }
  return (ssize_t)n;
}

static ssize_t percent_to_text(const uint8_t *v, size_t len, char *out, size_t cap) {
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                              "-_.~$&+=:@";
  static const char hex[] = "0123456789ABCDEF";
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    bool as_is = v[i] != 0 && strchr(plain, v[i]) != NULL;
    if (cap - n < (as_is ? 1 : 3))
      return PU_E_LIMIT;
    if (as_is) {
      out[n++] = (char)v[i];
      continue;
    }
    out[n++] = '%';
    out[n++] = hex[v[i] >> 4];
    out[n++] = hex[v[i] & 15];
  }
  return (ssize_t)n;
}

#define NONE(code, name) \
  { code, name, 0, false, NULL, NULL, NULL }
#define PORT(code, name) \
  { code, name, 2, false, u16_from_text, NULL, number_to_text }
#define NAME(code, name) \
  { code, name, PU_MA_SIZE_VAR, false, raw_from_text, check_name, raw_to_text }

static const pu_ma_protocol PROTOCOLS[] = {
    {PU_MA_IP4, "ip4", IP4_BYTES, false, ip4_from_text, NULL, ip4_to_text},
    PORT(PU_MA_TCP, "tcp"),
    {PU_MA_IP6, "ip6", IP6_BYTES, false, ip6_from_text, NULL, ip6_to_text},
    NAME(PU_MA_IP6ZONE, "ip6zone"),
    {PU_MA_IPCIDR, "ipcidr", 1, false, u8_from_text, NULL, number_to_text},
    NAME(PU_MA_DNS, "dns"),
    NAME(PU_MA_DNS4, "dns4"),
    NAME(PU_MA_DNS6, "dns6"),
    NAME(PU_MA_DNSADDR, "dnsaddr"),
    PORT(PU_MA_SCTP, "sctp"),
    PORT(PU_MA_UDP, "udp"),
    NONE(PU_MA_WEBRTC_DIRECT, "webrtc-direct"),
    NONE(PU_MA_WEBRTC, "webrtc"),
    NONE(PU_MA_P2P_CIRCUIT, "p2p-circuit"),
    {PU_MA_UNIX, "unix", PU_MA_SIZE_VAR, true, raw_from_text, check_path, raw_to_text},
    {PU_MA_P2P, "p2p", PU_MA_SIZE_VAR, false, p2p_from_text, check_p2p, p2p_to_text},
    NONE(PU_MA_HTTPS, "https"),
    NONE(PU_MA_TLS, "tls"),
    NAME(PU_MA_SNI, "sni"),
    NONE(PU_MA_NOISE, "noise"),
    NONE(PU_MA_QUIC, "quic"),
    NONE(PU_MA_QUIC_V1, "quic-v1"),
    NONE(PU_MA_WEBTRANSPORT, "webtransport"),
    {PU_MA_CERTHASH, "certhash", PU_MA_SIZE_VAR, false, certhash_from_text, check_certhash,
     certhash_to_text},
    NONE(PU_MA_WS, "ws"),
    NONE(PU_MA_WSS, "wss"),
    NONE(PU_MA_HTTP, "http"),
    {PU_MA_HTTP_PATH, "http-path", PU_MA_SIZE_VAR, false, percent_from_text, NULL, percent_to_text},
    {PU_MA_MEMORY, "memory", 8, false, u64_from_text, NULL, number_to_text},
};

const pu_ma_protocol *pu_ma_protocol_by_code(uint64_t code) {
  for (size_t i = 0; i < sizeof(PROTOCOLS) / sizeof(PROTOCOLS[0]); i++)
    if (PROTOCOLS[i].code == code)
      return &PROTOCOLS[i];
  return NULL;
}

const pu_ma_protocol *pu_ma_protocol_by_name(const char *name, size_t len) {
  if (len == 4 && memcmp(name, "ipfs", 4) == 0) /* the old name */
    return pu_ma_protocol_by_code(PU_MA_P2P);
  for (size_t i = 0; i < sizeof(PROTOCOLS) / sizeof(PROTOCOLS[0]); i++)
    if (strlen(PROTOCOLS[i].name) == len && memcmp(PROTOCOLS[i].name, name, len) == 0)
      return &PROTOCOLS[i];
  return NULL;
}
