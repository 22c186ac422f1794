/* What an address says about reaching its peer (wire 3): the shapes that are dialled, and the
 * classes by which identify, relay and dialling filter. */
#include <string.h>
#include <strings.h>

#include "multiaddr/multiaddr.h"
#include "platform/assert.h"

/* One place in an address while it is taken apart. |c| is the current component; |done| at the
 * end. */
typedef struct cursor {
  const pu_multiaddr *a;
  size_t pos; /* behind |c| */
  pu_ma_component c;
  bool done;
} cursor;

static void advance(cursor *at) {
  at->done = at->done || !pu_multiaddr_next(at->a, &at->pos, &at->c);
}

/* take moves over a component of |code|, and says whether there was one. */
static bool take(cursor *at, uint32_t code) {
  if (at->done || at->c.code != code)
    return false;
  advance(at);
  return true;
}

static bool take_peer(cursor *at, pu_peer_id *out) {
  if (at->done || at->c.code != PU_MA_P2P ||
      pu_peer_id_parse_multiaddr(at->c.value, at->c.len, out) != 0)
    return false;
  advance(at);
  return true;
}

static bool take_port(cursor *at, uint32_t code, uint16_t *out) {
  if (at->done || at->c.code != code)
    return false;
  *out = (uint16_t)(at->c.value[0] << 8 | at->c.value[1]);
  advance(at);
  return true;
}

/* take_zone reads an interface's index. Zones by name are not dialled: only the system that gave
 * the name could tell its index. */
static bool take_zone(cursor *at, uint32_t *scope) {
  uint64_t index = 0;
  for (size_t i = 0; i < at->c.len; i++) {
    uint8_t digit = at->c.value[i];
    if (digit < '0' || digit > '9')
      return false;
    index = index * 10 + (uint64_t)(digit - '0');
    if (index > UINT32_MAX)
      return false;
  }
  *scope = (uint32_t)index;
  advance(at);
  return true;
}

static bool take_host(cursor *at, pu_ma_target *t) {
  uint32_t scope = 0;
  if (!at->done && at->c.code == PU_MA_IP6ZONE) {
    if (!take_zone(at, &scope) || at->done || at->c.code != PU_MA_IP6)
      return false;
  }
  if (at->done)
    return false;
  switch (at->c.code) {
  case PU_MA_IP4:
  case PU_MA_IP6:
    t->family = at->c.code == PU_MA_IP4 ? 4 : 6;
    t->addr.family = (uint8_t)t->family;
    t->addr.scope = scope;
    memcpy(t->addr.ip, at->c.value, at->c.len);
    break;
  case PU_MA_DNS:
  case PU_MA_DNS4:
  case PU_MA_DNS6:
    if (at->c.len >= sizeof(t->host))
      return false;
    memcpy(t->host, at->c.value, at->c.len);
    t->host[at->c.len] = '\0';
    t->is_dns = true;
    t->family = at->c.code == PU_MA_DNS4 ? 4 : at->c.code == PU_MA_DNS6 ? 6 : 0;
    break;
  default:
    return false;
  }
  advance(at);
  return true;
}

/* take_text reads a component of |code| if there is one; false when it does not fit or holds a NUL. */
static bool take_text(cursor *at, uint32_t code, char *out, size_t cap) {
  if (at->done || at->c.code != code)
    return true;
  if (at->c.len >= cap || memchr(at->c.value, '\0', at->c.len) != NULL)
    return false;
  memcpy(out, at->c.value, at->c.len);
  out[at->c.len] = '\0';
  advance(at);
  return true;
}

/* take_pin reads the hash of a certificate if there is one; false when it is none of SHA-256. */
static bool take_pin(cursor *at, pu_ma_target *t) {
  static const uint8_t sha256[2] = {0x12, sizeof(t->pin)}; /* multihash */
  if (at->done || at->c.code != PU_MA_CERTHASH)
    return true;
  if (at->c.len != 2 + sizeof(t->pin) || memcmp(at->c.value, sha256, 2) != 0)
    return false;
  memcpy(t->pin, at->c.value + 2, sizeof(t->pin));
  t->pinned = true;
  advance(at);
  return true;
}

/* take_transport reads the part from the host to the last layer below our own security. */
static bool take_transport(cursor *at, pu_ma_target *t) {
  if (!take_host(at, t))
    return false;
  if (take_port(at, PU_MA_UDP, &t->port)) {
    t->kind = PU_MA_KIND_QUIC;
    if (!take(at, PU_MA_QUIC_V1))
      return false;
  } else if (take_port(at, PU_MA_TCP, &t->port)) {
    t->kind = PU_MA_KIND_TCP;
    if (take(at, PU_MA_WS)) {
      t->kind = PU_MA_KIND_WS;
    } else if (take(at, PU_MA_WSS)) {
      t->kind = PU_MA_KIND_WS;
      t->tls = true;
    } else if (take(at, PU_MA_TLS)) {
      if (!take_text(at, PU_MA_SNI, t->sni, sizeof(t->sni)) || !take(at, PU_MA_WS))
        return false;
      t->kind = PU_MA_KIND_WS;
      t->tls = true;
    }
    if (t->tls && !take_pin(at, t))
      return false;
    if (t->kind == PU_MA_KIND_WS && !take_text(at, PU_MA_HTTP_PATH, t->path, sizeof(t->path)))
      return false;
  } else {
    return false;
  }
  t->addr.port = t->is_dns ? 0 : t->port;
  return true;
}

/* take_apart returns whether all of the address was understood. */
static bool take_apart(const pu_multiaddr *a, pu_ma_target *t) {
  cursor at = {.a = a};
  advance(&at);
  bool has_transport = !at.done && at.c.code != PU_MA_P2P;
  if (has_transport && !take_transport(&at, t))
    return false;
  size_t before = at.pos;
  pu_peer_id id;
  if (!take_peer(&at, &id))
    return has_transport && at.done;
  if (at.done) { /* .../p2p/T */
    t->peer = id;
    return has_transport;
  }
  if (!take(&at, PU_MA_P2P_CIRCUIT))
    return false;
  t->kind = PU_MA_KIND_CIRCUIT;
  t->relay = id;
  if (has_transport) { /* up to and with /p2p/R, where |before| stands */
    t->relay_addr.len = (uint16_t)before;
    memcpy(t->relay_addr.bytes, a->bytes, before);
  }
  (void)take_peer(&at, &t->peer);
  return at.done;
}

void pu_multiaddr_target(const pu_multiaddr *a, pu_ma_target *out) {
  pu_ma_target t = {0};
  if (!take_apart(a, &t))
    t = (pu_ma_target){.kind = PU_MA_KIND_OTHER};
  *out = t;
}

/* ---- classes ---- */

typedef struct net {
  uint8_t ip[16];
  uint8_t bits;
} net;

static const net LOOPBACK4 = {{127}, 8};
static const net PRIVATE4[] = {
    {{10}, 8}, {{172, 16}, 12}, {{192, 168}, 16}, {{100, 64}, 10}, {{169, 254}, 16},
};
static const net UNROUTABLE4[] = {
    {{0}, 8},        {{192, 0, 0}, 26},    {{192, 0, 2}, 24},   {{192, 88, 99}, 24},
    {{198, 18}, 15}, {{198, 51, 100}, 24}, {{203, 0, 113}, 24}, {{224}, 4},
    {{240}, 4},
};
static const net LOOPBACK6 = {{[15] = 1}, 128};
static const net PRIVATE6[] = {{{0xfc}, 7}, {{0xfe, 0x80}, 10}};
static const net UNROUTABLE6[] = {{{0xff}, 8}, {{0x20, 0x01, 0x0d, 0xb8}, 32}};
static const net PUBLIC6[] = {
    {{0x20}, 3},
    {{0x00, 0x64, 0xff, 0x9b}, 96},             /* NAT64 */
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, /* NAT64, local use */
};
static const net MAPPED = {{[10] = 0xff, [11] = 0xff}, 96};

static const char *const PRIVATE_NAMES[] = {"localhost", "local", "home.arpa", "test"};
static const char *const UNROUTABLE_NAMES[] = {"invalid", "in-addr.arpa", "ip6.arpa"};

static bool in_net(const uint8_t *ip, const net *n) {
  size_t whole = n->bits / 8, rest = n->bits % 8;
  if (memcmp(ip, n->ip, whole) != 0)
    return false;
  return rest == 0 || (ip[whole] ^ n->ip[whole]) >> (8 - rest) == 0;
}

static bool in_any(const uint8_t *ip, const net *nets, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (in_net(ip, &nets[i]))
      return true;
  return false;
}

/* is_under says whether |name| is |domain| or a name below it. */
static bool is_under(const uint8_t *name, size_t len, const char *domain) {
  size_t domain_len = strlen(domain);
  if (len > 0 && name[len - 1] == '.') /* the root, spelled out */
    len--;
  if (len < domain_len ||
      strncasecmp((const char *)name + len - domain_len, domain, domain_len) != 0)
    return false;
  return len == domain_len || name[len - domain_len - 1] == '.';
}

static bool is_under_any(const pu_ma_component *c, const char *const *domains, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (is_under(c->value, c->len, domains[i]))
      return true;
  return false;
}

typedef struct classes {
  bool is_loopback, is_private, is_public;
} classes;

static classes classify4(const uint8_t *ip) {
  classes k = {.is_loopback = in_net(ip, &LOOPBACK4)};
  k.is_private = k.is_loopback || in_any(ip, PRIVATE4, PU_COUNT(PRIVATE4));
  k.is_public = !k.is_private && !in_any(ip, UNROUTABLE4, PU_COUNT(UNROUTABLE4));
  return k;
}

static classes classify6(const uint8_t *ip) {
  if (in_net(ip, &MAPPED)) {
    /* What it maps to decides, so that no filter is evaded; public it never is (as in Go). */
    classes k = classify4(ip + 12);
    k.is_public = false;
    return k;
  }
  classes k = {.is_loopback = in_net(ip, &LOOPBACK6)};
  k.is_private = k.is_loopback || in_any(ip, PRIVATE6, PU_COUNT(PRIVATE6));
  k.is_public =
      in_any(ip, PUBLIC6, PU_COUNT(PUBLIC6)) && !in_any(ip, UNROUTABLE6, PU_COUNT(UNROUTABLE6));
  return k;
}

static classes classify(const pu_multiaddr *a) {
  pu_ma_component c;
  size_t pos = 0;
  bool has = pu_multiaddr_next(a, &pos, &c);
  if (has && c.code == PU_MA_IP6ZONE)
    has = pu_multiaddr_next(a, &pos, &c);
  if (!has)
    return (classes){0};
  switch (c.code) {
  case PU_MA_IP4:
    return classify4(c.value);
  case PU_MA_IP6:
    return classify6(c.value);
  case PU_MA_DNS:
  case PU_MA_DNS4:
  case PU_MA_DNS6:
  case PU_MA_DNSADDR: {
    classes k = {.is_private = is_under_any(&c, PRIVATE_NAMES, PU_COUNT(PRIVATE_NAMES))};
    k.is_public = !k.is_private && !is_under_any(&c, UNROUTABLE_NAMES, PU_COUNT(UNROUTABLE_NAMES));
    return k;
  }
  default:
    return (classes){0};
  }
}

bool pu_multiaddr_is_loopback(const pu_multiaddr *a) {
  return classify(a).is_loopback;
}

bool pu_multiaddr_is_private(const pu_multiaddr *a) {
  return classify(a).is_private;
}

bool pu_multiaddr_is_public(const pu_multiaddr *a) {
  return classify(a).is_public;
}

bool pu_multiaddr_is_relayed(const pu_multiaddr *a) {
  return pu_multiaddr_has(a, PU_MA_P2P_CIRCUIT);
}
