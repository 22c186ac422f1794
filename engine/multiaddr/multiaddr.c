/* Multiaddrs in text and binary, and what an address is made of (wire 3). Reachability and the
 * shapes that are dialled are in shapes.c. */
#include "multiaddr/multiaddr.h"

#include <string.h>

#include "base/varint.h"
#include "multiaddr/protocols.h"

/* Longest text looked at: values have longer forms than the canonical ones. */
#define TEXT_MAX_BYTES 4096
/* How much of a wrong part is quoted. */
#define QUOTE_MAX 80

/* put_component appends one component whose value has been checked. */
static int put_component(pu_multiaddr *a, const pu_ma_protocol *p, const uint8_t *value,
                         size_t len) {
  size_t head = pu_varint_size(p->code);
  if (p->size == PU_MA_SIZE_VAR)
    head += pu_varint_size(len);
  size_t room = sizeof(a->bytes) - a->len;
  if (len > room || head > room - len)
    return PU_E_LIMIT;
  uint8_t *at = a->bytes + a->len;
  at += pu_varint_put(at, p->code);
  if (p->size == PU_MA_SIZE_VAR)
    at += pu_varint_put(at, len);
  if (len > 0)
    memcpy(at, value, len);
  a->len = (uint16_t)(a->len + head + len);
  return 0;
}

/* read_component takes the component at the front of |in| apart and checks it: returns the bytes it
 * takes, PU_E_PARSE. */
static ssize_t read_component(const uint8_t *in, size_t len, const pu_ma_protocol **protocol,
                              pu_ma_component *out) {
  uint64_t code;
  ssize_t used = pu_varint_get(in, len, &code);
  if (used <= 0)
    return PU_E_PARSE;
  const pu_ma_protocol *p = pu_ma_protocol_by_code(code);
  if (p == NULL)
    return PU_E_PARSE;
  size_t at = (size_t)used;
  uint64_t size = p->size == PU_MA_SIZE_VAR ? 0 : (uint64_t)p->size;
  if (p->size == PU_MA_SIZE_VAR) {
    used = pu_varint_get(in + at, len - at, &size);
    if (used <= 0 || size == 0)
      return PU_E_PARSE;
    at += (size_t)used;
  }
  if (size > len - at || (p->check != NULL && !p->check(in + at, (size_t)size)))
    return PU_E_PARSE;
  *protocol = p;
  *out =
      (pu_ma_component){.code = p->code, .value = size == 0 ? NULL : in + at, .len = (size_t)size};
  return (ssize_t)(at + size);
}

/* write_text writes |a| as text and NUL, PU_E_LIMIT when it does not fit. */
static int write_text(const pu_multiaddr *a, char *out, size_t cap) {
  size_t n = 0, at = 0;
  while (at < a->len) {
    const pu_ma_protocol *p;
    pu_ma_component c;
    ssize_t used = read_component(a->bytes + at, a->len - at, &p, &c);
    if (used < 0)
      return (int)used;
    at += (size_t)used;
    size_t name_len = strlen(p->name);
    if (cap - n < name_len + 3) /* two slashes and the NUL */
      return PU_E_LIMIT;
    out[n++] = '/';
    memcpy(out + n, p->name, name_len);
    n += name_len;
    if (c.len == 0)
      continue;
    if (!p->is_path || c.value[0] != '/') /* a path brings its own */
      out[n++] = '/';
    ssize_t wrote = p->to_text(c.value, c.len, out + n, cap - n - 1);
    if (wrote < 0)
      return (int)wrote;
    n += (size_t)wrote;
  }
  out[n] = '\0';
  return 0;
}

/* check_text_fits refuses an address whose text would be longer than any buffer for it: a few bytes
 * of codes can stand for many letters. */
static int check_text_fits(const pu_multiaddr *a) {
  char text[PU_MULTIADDR_MAX_TEXT];
  return write_text(a, text, sizeof(text));
}

static int quote(size_t len) {
  return (int)(len < QUOTE_MAX ? len : QUOTE_MAX);
}

/* next_part cuts the text up to the next slash off the front of |*text|. */
static void next_part(const char **text, const char *end, const char **part, size_t *len) {
  const char *slash = memchr(*text, '/', (size_t)(end - *text));
  *part = *text;
  *len = (size_t)((slash == NULL ? end : slash) - *text);
  *text = slash == NULL ? end : slash + 1;
}

int pu_multiaddr_from_text(const char *text, size_t len, pu_multiaddr *out, pu_error *err) {
  if (len > TEXT_MAX_BYTES)
    return pu_error_set(err, PU_E_LIMIT, "the address is too long");
  if (len == 0 || text[0] != '/' || memchr(text, '\0', len) != NULL)
    return pu_error_set(err, PU_E_PARSE, "\"%.*s\" is no address: it must begin with a slash",
                        quote(len), text);
  while (len > 0 && text[len - 1] == '/')
    len--;
  if (len == 0)
    return pu_error_set(err, PU_E_PARSE, "the address is empty");
  const char *at = text + 1, *end = text + len;
  pu_multiaddr a = {0};
  while (at < end) {
    const char *part;
    size_t part_len;
    next_part(&at, end, &part, &part_len);
    const pu_ma_protocol *p = pu_ma_protocol_by_name(part, part_len);
    if (p == NULL)
      return pu_error_set(err, PU_E_PARSE, "unknown protocol \"%.*s\" in address \"%.*s\"",
                          quote(part_len), part, quote(len), text);
    uint8_t value[PU_MULTIADDR_MAX_BYTES];
    ssize_t n = 0;
    if (p->size != 0) {
      if (at == end)
        return pu_error_set(err, PU_E_PARSE, "nothing follows \"%s\" in address \"%.*s\"", p->name,
                            quote(len), text);
      if (p->is_path) {
        part = at - 1; /* with its slash */
        part_len = (size_t)(end - part);
        at = end;
      } else {
        next_part(&at, end, &part, &part_len);
      }
      n = p->from_text(part, part_len, value, sizeof(value));
      if (n == 0 || (n > 0 && p->check != NULL && !p->check(value, (size_t)n)))
        n = PU_E_PARSE;
      if (n < 0)
        return pu_error_set(err, (int)n, "\"%.*s\" is no value for \"%s\" in address \"%.*s\"",
                            quote(part_len), part, p->name, quote(len), text);
    }
    if (put_component(&a, p, value, (size_t)n) != 0)
      return pu_error_set(err, PU_E_LIMIT, "the address is too long");
  }
  if (check_text_fits(&a) != 0)
    return pu_error_set(err, PU_E_LIMIT, "the address is too long");
  *out = a;
  return 0;
}

int pu_multiaddr_from_bytes(const uint8_t *in, size_t len, pu_multiaddr *out) {
  if (len == 0)
    return PU_E_PARSE;
  if (len > PU_MULTIADDR_MAX_BYTES)
    return PU_E_LIMIT;
  for (size_t at = 0; at < len;) {
    const pu_ma_protocol *p;
    pu_ma_component c;
    ssize_t used = read_component(in + at, len - at, &p, &c);
    if (used < 0)
      return (int)used;
    at += (size_t)used;
    if (p->is_path && at < len)
      return PU_E_PARSE;
  }
  pu_multiaddr a = {.len = (uint16_t)len};
  memcpy(a.bytes, in, len);
  int rc = check_text_fits(&a);
  if (rc != 0)
    return rc;
  *out = a;
  return 0;
}

const char *pu_multiaddr_text(const pu_multiaddr *a, char out[static PU_MULTIADDR_MAX_TEXT]) {
  /* Whatever made |a| has made sure that its text fits. */
  if (write_text(a, out, PU_MULTIADDR_MAX_TEXT) != 0)
    out[0] = '\0';
  return out;
}

bool pu_multiaddr_equal(const pu_multiaddr *a, const pu_multiaddr *b) {
  return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool pu_multiaddr_next(const pu_multiaddr *a, size_t *pos, pu_ma_component *out) {
  const pu_ma_protocol *p;
  if (*pos >= a->len)
    return false;
  ssize_t used = read_component(a->bytes + *pos, a->len - *pos, &p, out);
  if (used < 0)
    return false;
  *pos += (size_t)used;
  return true;
}

bool pu_multiaddr_find(const pu_multiaddr *a, uint32_t code, pu_ma_component *out) {
  pu_ma_component c;
  for (size_t pos = 0; pu_multiaddr_next(a, &pos, &c);) {
    if (c.code == code) {
      *out = c;
      return true;
    }
  }
  return false;
}

bool pu_multiaddr_has(const pu_multiaddr *a, uint32_t code) {
  pu_ma_component c;
  return pu_multiaddr_find(a, code, &c);
}

const char *pu_multiaddr_protocol_name(uint32_t code) {
  const pu_ma_protocol *p = pu_ma_protocol_by_code(code);
  return p == NULL ? NULL : p->name;
}

/* commit puts a built address into place if it is one that could be read again. */
static int commit(pu_multiaddr *a, const pu_multiaddr *built) {
  if (check_text_fits(built) != 0)
    return PU_E_LIMIT;
  *a = *built;
  return 0;
}

/* ends_in_path says whether nothing may follow. */
static bool ends_in_path(const pu_multiaddr *a) {
  return pu_multiaddr_has(a, PU_MA_UNIX);
}

int pu_multiaddr_append(pu_multiaddr *a, const pu_multiaddr *tail) {
  if (tail->len == 0)
    return 0;
  if (ends_in_path(a))
    return PU_E_INVAL;
  if (tail->len > sizeof(a->bytes) - a->len)
    return PU_E_LIMIT;
  pu_multiaddr built = *a;
  memcpy(built.bytes + built.len, tail->bytes, tail->len);
  built.len = (uint16_t)(built.len + tail->len);
  return commit(a, &built);
}

static int append_component(pu_multiaddr *a, uint32_t code, const uint8_t *value, size_t len) {
  if (ends_in_path(a))
    return PU_E_INVAL;
  pu_multiaddr built = *a;
  int rc = put_component(&built, pu_ma_protocol_by_code(code), value, len);
  return rc != 0 ? rc : commit(a, &built);
}

int pu_multiaddr_append_p2p(pu_multiaddr *a, const pu_peer_id *id) {
  pu_peer_id checked;
  if (pu_peer_id_parse_multiaddr(id->bytes, id->len, &checked) != 0)
    return PU_E_INVAL;
  return append_component(a, PU_MA_P2P, id->bytes, id->len);
}

int pu_multiaddr_append_circuit(pu_multiaddr *a) {
  return append_component(a, PU_MA_P2P_CIRCUIT, NULL, 0);
}

static void put_address(const pu_sockaddr *sa, uint32_t transport, pu_multiaddr *out) {
  memset(out, 0, sizeof(*out));
  if (sa->family != 4 && sa->family != 6)
    return;
  const uint8_t port[2] = {(uint8_t)(sa->port >> 8), (uint8_t)sa->port};
  uint32_t code = sa->family == 4 ? PU_MA_IP4 : PU_MA_IP6;
  /* 23 bytes at most: all fit. */
  if (put_component(out, pu_ma_protocol_by_code(code), sa->ip, sa->family == 4 ? 4 : 16) != 0 ||
      put_component(out, pu_ma_protocol_by_code(transport), port, sizeof(port)) != 0)
    out->len = 0;
}

void pu_multiaddr_from_sockaddr(const pu_sockaddr *sa, pu_multiaddr *out) {
  put_address(sa, PU_MA_TCP, out);
}

void pu_multiaddr_from_udp(const pu_sockaddr *sa, pu_multiaddr *out) {
  put_address(sa, PU_MA_UDP, out);
  if (out->len != 0 && put_component(out, pu_ma_protocol_by_code(PU_MA_QUIC_V1), NULL, 0) != 0)
    out->len = 0;
}

void pu_multiaddr_without_peer(const pu_multiaddr *a, pu_multiaddr *out) {
  pu_multiaddr copy = *a;
  pu_ma_component c = {0};
  size_t last = 0;
  for (size_t pos = 0, at = 0; pu_multiaddr_next(a, &pos, &c); at = pos)
    last = at;
  if (c.code == PU_MA_P2P) {
    memset(copy.bytes + last, 0, sizeof(copy.bytes) - last);
    copy.len = (uint16_t)last;
  }
  *out = copy;
}
