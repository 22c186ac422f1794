/* The resource manager; see limits.h. */
#include "swarm/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "platform/assert.h"

typedef enum scope_kind {
  SCOPE_ADDRESS,  /* origin */
  SCOPE_PEER,     /* peer ID */
  SCOPE_PROTOCOL, /* name */
  SCOPE_USE,      /* the protocol's serial, peer ID */
  SCOPE_KNOWN     /* origin: not counted in, but remembered */
} scope_kind;

#define KEY_MAX 1024u /* a protocol's name is no longer than a token of its negotiation */

struct pu_scope {
  pu_table_node node;
  pu_list link;     /* SCOPE_KNOWN: in |known| */
  uint32_t holders; /* it goes with the last */
  uint32_t conns, pending, streams;
  uint32_t serial;                    /* SCOPE_PROTOCOL: names it in the keys of its uses */
  uint32_t max_streams, max_per_peer; /* SCOPE_PROTOCOL: as set; 0: the default */
  pu_mem mem; /* SCOPE_PEER: between the engine's account and those of the connections */
  uint16_t key_len;
  uint8_t key[]; /* the kind, and what it is of */
};

static const char *const names[] = {
#define XX(constant, name, words) name,
    PU_LIMIT_MAP(XX)
#undef XX
};

static const char *const sentences[] = {
#define XX(constant, name, words) words,
    PU_LIMIT_MAP(XX)
#undef XX
};

/* ---- defaults ---- */

#define MIB ((uint64_t)1 << 20)
#define MEMORY_UNKNOWN (2048 * MIB) /* taken for the machine's, when it does not say */
#define MEMORY_PER_CONN (64 * MIB)  /* enough window for 1 Gbit/s over 250 ms */
#define COST_PER_CONN (128u * 1024) /* what connections and streams are reckoned to cost */
#define COST_PER_STREAM (8u * 1024)

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high) {
  return value < low ? low : value > high ? high : value;
}

static void fill(uint32_t *field, uint64_t value) {
  if (*field == 0)
    *field = (uint32_t)clamp(value, 1, UINT32_MAX);
}

static void fill_size(size_t *field, uint64_t value) {
  if (*field == 0)
    *field = (size_t)value;
}

static uint64_t max_of(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

/* A default is never below what the application has set for a part of it. */
void pu_limits_fill(pu_limits *l, const pu_machine *machine) {
  const uint64_t memory = machine->memory_bytes != 0 ? machine->memory_bytes : MEMORY_UNKNOWN;
  const uint64_t set = max_of(l->memory_per_conn, l->memory_per_peer);
  fill_size(&l->memory_total, max_of(set, clamp(memory / 4, 64 * MIB, 4096 * MIB)));
  fill_size(&l->memory_per_peer, max_of(l->memory_per_conn, l->memory_total / 4));
  fill_size(&l->memory_per_conn, clamp(l->memory_per_peer, 0, MEMORY_PER_CONN));
  fill_size(&l->memory_per_ip, max_of(l->memory_per_peer, l->memory_total / 2));

  uint64_t conns = clamp(l->memory_total / COST_PER_CONN, 64, 65536);
  if (machine->descriptors != 0) /* the other half is for the proxy's sockets */
    conns = clamp(conns, 16, max_of(machine->descriptors / 2, 16));
  fill(&l->conns_total, conns);
  fill(&l->conns_in, l->conns_total - l->conns_total / 8);
  fill(&l->conns_per_ip, max_of(l->conns_total / 16, 16));
  fill(&l->conns_per_peer, 8);
  fill(&l->conns_pending, clamp(l->conns_total / 32, 16, 1024));
  fill(&l->conns_pending_per_ip, max_of(l->conns_pending / 8, 4));

  const uint64_t streams = clamp(l->memory_total / COST_PER_STREAM, 1024, (uint64_t)1 << 20);
  fill(&l->streams_in, max_of(streams, max_of(l->streams_in_per_conn, l->streams_in_per_peer)));
  fill(&l->streams_in_per_ip, max_of(l->streams_in_per_conn, (uint64_t)l->streams_in * 3 / 4));
  fill(&l->streams_in_per_peer, max_of(l->streams_in_per_conn, l->streams_in / 2));
  fill(&l->streams_in_per_conn, clamp(l->streams_in_per_peer, 0, 16384));
  fill(&l->negotiating_per_conn, 256);
  fill(&l->streams_in_per_protocol, (uint64_t)l->streams_in * 3 / 4);
  fill(&l->streams_in_per_protocol_peer, l->streams_in_per_peer);

  fill(&l->handshake_ms, 15000);
  fill(&l->dial_ms, 15000);
  fill(&l->negotiate_ms, 10000);
  fill(&l->idle_ms, 60000);
}

static uint64_t value_of(const pu_limits *l, pu_limit_kind kind) {
  switch (kind) {
  case PU_LIMIT_CONNS_TOTAL:
    return l->conns_total;
  case PU_LIMIT_CONNS_IN:
    return l->conns_in;
  case PU_LIMIT_CONNS_PER_ADDRESS:
    return l->conns_per_ip;
  case PU_LIMIT_CONNS_PER_PEER:
    return l->conns_per_peer;
  case PU_LIMIT_PENDING:
    return l->conns_pending;
  case PU_LIMIT_PENDING_PER_ADDRESS:
    return l->conns_pending_per_ip;
  case PU_LIMIT_STREAMS_TOTAL:
    return l->streams_in;
  case PU_LIMIT_STREAMS_PER_ADDRESS:
    return l->streams_in_per_ip;
  case PU_LIMIT_STREAMS_PER_PEER:
    return l->streams_in_per_peer;
  case PU_LIMIT_STREAMS_PER_CONN:
    return l->streams_in_per_conn;
  case PU_LIMIT_STREAMS_NEGOTIATING:
    return l->negotiating_per_conn;
  case PU_LIMIT_STREAMS_PER_PROTOCOL:
    return l->streams_in_per_protocol;
  case PU_LIMIT_STREAMS_PER_PROTOCOL_PEER:
    return l->streams_in_per_protocol_peer;
  case PU_LIMIT_MEMORY_TOTAL:
    return l->memory_total;
  case PU_LIMIT_MEMORY_PER_ADDRESS:
    return l->memory_per_ip;
  case PU_LIMIT_MEMORY_PER_PEER:
    return l->memory_per_peer;
  case PU_LIMIT_MEMORY_PER_CONN:
    return l->memory_per_conn;
  case PU_LIMIT_MEMORY_PENDING:
  case PU_LIMIT_KINDS:
    break;
  }
  return PU_PREAUTH_MAX_BYTES;
}

/* ---- refusing ---- */

static void explain(pu_limit_kind kind, uint64_t value, pu_refusal *why) {
  const bool bytes = kind >= PU_LIMIT_MEMORY_TOTAL;
  why->kind = kind;
  const bool mib = bytes && value >= MIB;
  char key[64] = "";
  if (kind != PU_LIMIT_MEMORY_PENDING) /* which cannot be set */
    (void)snprintf(key, sizeof(key), " (raise limits.%s)", names[kind]);
  (void)snprintf(why->text, sizeof(why->text), "%s: the limit is %" PRIu64 "%s%s", sentences[kind],
                 mib ? value / MIB : value,
                 mib     ? " MiB"
                 : bytes ? " bytes"
                         : "",
                 key);
}

static int refuse_above(pu_limiter *l, pu_limit_kind kind, uint64_t value, pu_refusal *why) {
  l->refused[kind]++;
  explain(kind, value, why);
  return PU_E_LIMIT;
}

static int refuse(pu_limiter *l, pu_limit_kind kind, pu_refusal *why) {
  return refuse_above(l, kind, value_of(&l->limits, kind), why);
}

static int no_memory(pu_refusal *why) {
  why->kind = PU_LIMIT_KINDS;
  (void)snprintf(why->text, sizeof(why->text), "out of memory");
  return PU_E_NOMEM;
}

/* ---- scopes ---- */

typedef struct scope_key {
  uint64_t hash;
  size_t len;
  uint8_t bytes[KEY_MAX + 1];
} scope_key;

/* make_key writes the kind, |a| and |b|; false when that is too long for a key. */
static bool make_key(const pu_limiter *l, scope_kind kind, const void *a, size_t a_len,
                     const void *b, size_t b_len, scope_key *out) {
  if (a_len > KEY_MAX || b_len > KEY_MAX - a_len)
    return false;
  out->bytes[0] = (uint8_t)kind;
  memcpy(out->bytes + 1, a, a_len);
  if (b_len > 0)
    memcpy(out->bytes + 1 + a_len, b, b_len);
  out->len = 1 + a_len + b_len;
  out->hash = pu_table_hash(&l->scopes, out->bytes, out->len);
  return true;
}

static pu_scope *find(const pu_limiter *l, const scope_key *key) {
  for (pu_table_node *n = pu_table_first(&l->scopes, key->hash); n != NULL; n = pu_table_next(n)) {
    pu_scope *s = PU_CONTAINER_OF(n, pu_scope, node);
    if (s->key_len == key->len && memcmp(s->key, key->bytes, key->len) == 0)
      return s;
  }
  return NULL;
}

static scope_kind kind_of(const pu_scope *s) {
  return (scope_kind)s->key[0];
}

/* hold finds or makes the scope of |key| and holds it; NULL without memory. */
static pu_scope *hold(pu_limiter *l, const scope_key *key) {
  pu_scope *s = find(l, key);
  if (s == NULL) {
    s = pu_zalloc(l->mem, sizeof(*s) + key->len);
    if (s == NULL)
      return NULL;
    s->key_len = (uint16_t)key->len;
    memcpy(s->key, key->bytes, key->len);
    pu_list_init(&s->link);
    pu_mem_init(&s->mem, l->mem,
                kind_of(s) == SCOPE_ADDRESS ? l->limits.memory_per_ip : l->limits.memory_per_peer);
    pu_table_add(&l->scopes, &s->node, key->hash);
  }
  s->holders++;
  return s;
}

static void let_go(pu_limiter *l, pu_scope *s) {
  PU_ASSERT(s->holders > 0);
  if (--s->holders > 0)
    return;
  PU_ASSERT(s->conns == 0 && s->pending == 0 && s->streams == 0);
  l->refused[kind_of(s) == SCOPE_ADDRESS ? PU_LIMIT_MEMORY_PER_ADDRESS
                                         : PU_LIMIT_MEMORY_PER_PEER] += s->mem.refused;
  pu_mem_deinit(&s->mem);
  pu_list_remove(&s->link);
  pu_table_remove(&l->scopes, &s->node);
  pu_free(s);
}

/* ---- known addresses ---- */

static bool is_known(const pu_limiter *l, const pu_origin *origin) {
  scope_key key;
  return origin->len != 0 && make_key(l, SCOPE_KNOWN, origin->bytes, origin->len, NULL, 0, &key) &&
         find(l, &key) != NULL;
}

/* note_known remembers |origin|; the one not noted for longest makes room. Without memory it does
 * not. */
static void note_known(pu_limiter *l, const pu_origin *origin) {
  scope_key key;
  if (origin->len == 0 || !make_key(l, SCOPE_KNOWN, origin->bytes, origin->len, NULL, 0, &key))
    return;
  pu_scope *s = find(l, &key);
  if (s == NULL) {
    if (l->known_count >= PU_LIMITS_KNOWN_MAX) {
      let_go(l, PU_CONTAINER_OF(l->known.next, pu_scope, link));
      l->known_count--;
    }
    s = hold(l, &key);
    if (s == NULL)
      return;
    l->known_count++;
  }
  pu_list_remove(&s->link);
  pu_list_push(&l->known, &s->link);
}

void pu_limits_origin(const pu_multiaddr *remote, pu_origin *out) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  pu_ma_component c;
  size_t pos = 0;
  *out = (pu_origin){0};
  if (pu_multiaddr_is_loopback(remote) || pu_multiaddr_is_relayed(remote))
    return;
  bool some = pu_multiaddr_next(remote, &pos, &c);
  if (some && c.code == PU_MA_IP6ZONE)
    some = pu_multiaddr_next(remote, &pos, &c);
  if (!some || (c.code != PU_MA_IP4 && c.code != PU_MA_IP6))
    return;
  const uint8_t *from = c.value;
  out->len = (uint8_t)c.len;
  if (c.code == PU_MA_IP6 && memcmp(from, mapped, sizeof(mapped)) == 0) {
    from += sizeof(mapped);
    out->len = 4;
  } else if (c.code == PU_MA_IP6 && (from[0] != 0xfe || (from[1] & 0xc0) != 0x80)) {
    out->len = 8; /* one network; link-local addresses all have the same */
  }
  memcpy(out->bytes, from, out->len);
}

/* ---- life ---- */

void pu_limits_init(pu_limiter *l, const pu_limits *limits, pu_mem *mem, uint64_t seed) {
  *l = (pu_limiter){.limits = *limits, .mem = mem, .handshake_bytes = PU_PREAUTH_MAX_BYTES};
  pu_table_init(&l->scopes, mem, seed);
  pu_list_init(&l->strangers);
  pu_list_init(&l->known);
}

static pu_scope *any(const pu_limiter *l) {
  PU_TABLE_EACH(&l->scopes, node) {
    return PU_CONTAINER_OF(node, pu_scope, node);
  }
  return NULL;
}

void pu_limits_deinit(pu_limiter *l) {
  while (!pu_list_empty(&l->known))
    let_go(l, PU_CONTAINER_OF(l->known.next, pu_scope, link));
  for (pu_scope *s; (s = any(l)) != NULL;) { /* protocols with limits of their own */
    PU_ASSERT(kind_of(s) == SCOPE_PROTOCOL && s->holders == 1);
    let_go(l, s);
  }
  PU_ASSERT(l->conns == 0 && l->conns_in == 0 && l->pending == 0 && l->streams == 0);
  pu_table_deinit(&l->scopes);
}

/* ---- connections ---- */

/* check_pending looks at what a handshake counts in, the narrowest limit first: who is the cause is
 * refused, not all. */
static int check_pending(pu_limiter *l, const pu_scope *address, bool stranger, pu_refusal *why) {
  const pu_limits *max = &l->limits;
  if (address != NULL && address->pending >= max->conns_pending_per_ip)
    return refuse(l, PU_LIMIT_PENDING_PER_ADDRESS, why);
  if (address != NULL && address->conns >= max->conns_per_ip)
    return refuse(l, PU_LIMIT_CONNS_PER_ADDRESS, why);
  if (l->pending >= max->conns_pending)
    return refuse(l, PU_LIMIT_PENDING, why);
  if (stranger && l->stranger_count >= max->conns_pending - max->conns_pending / 4)
    return refuse_above(l, PU_LIMIT_PENDING, max->conns_pending - max->conns_pending / 4, why);
  if (l->conns >= max->conns_total)
    return refuse(l, PU_LIMIT_CONNS_TOTAL, why);
  return 0;
}

int pu_limits_accept(pu_limiter *l, pu_conn_share *share, const pu_origin *origin, uint64_t now_us,
                     pu_refusal *why) {
  scope_key key;
  pu_scope *address = NULL;
  const bool stranger = !is_known(l, origin);
  *share = (pu_conn_share){.origin = *origin, .since_us = now_us};
  pu_list_init(&share->link);
  if (origin->len != 0 && make_key(l, SCOPE_ADDRESS, origin->bytes, origin->len, NULL, 0, &key)) {
    address = hold(l, &key);
    if (address == NULL)
      return no_memory(why);
  }
  const int status = check_pending(l, address, stranger, why);
  if (status != 0) {
    if (address != NULL)
      let_go(l, address);
    return status;
  }
  share->counted = share->inbound = share->pending = true;
  share->stranger = stranger;
  share->address = address;
  if (address != NULL) {
    address->pending++;
    address->conns++;
  }
  if (stranger) {
    l->stranger_count++;
    pu_list_push(&l->strangers, &share->link);
  }
  l->pending++;
  l->conns++;
  return 0;
}

int pu_limits_dial(pu_limiter *l, pu_conn_share *share, const pu_origin *origin, pu_refusal *why) {
  *share = (pu_conn_share){.origin = *origin};
  pu_list_init(&share->link);
  if (l->conns >= l->limits.conns_total)
    return refuse(l, PU_LIMIT_CONNS_TOTAL, why);
  share->counted = true;
  l->conns++;
  return 0;
}

int pu_limits_may_wait(pu_limiter *l, const pu_origin *origin, uint32_t all, uint32_t same,
                       pu_refusal *why) {
  const uint32_t reserve = is_known(l, origin) ? 0 : l->limits.conns_pending / 4;
  if (same >= l->limits.conns_pending_per_ip)
    return refuse(l, PU_LIMIT_PENDING_PER_ADDRESS, why);
  if (all >= l->limits.conns_pending - reserve)
    return refuse_above(l, PU_LIMIT_PENDING, l->limits.conns_pending - reserve, why);
  return 0;
}

void pu_limits_move(pu_conn_share *from, pu_conn_share *to) {
  *to = *from;
  pu_list_init(&to->link);
  if (from->stranger && from->pending) { /* to the same place */
    pu_list_push(&from->link, &to->link);
    pu_list_remove(&from->link);
  }
  *from = (pu_conn_share){0};
}

pu_conn_share *pu_limits_slowest(pu_limiter *l, uint64_t now_us) {
  if (pu_list_empty(&l->strangers))
    return NULL;
  pu_conn_share *oldest = PU_CONTAINER_OF(l->strangers.next, pu_conn_share, link);
  return now_us >= oldest->since_us + PU_LIMITS_PATIENCE_US ? oldest : NULL;
}

/* end_handshake: the share does not count as pending any more. */
static void end_handshake(pu_limiter *l, pu_conn_share *share) {
  if (!share->pending)
    return;
  share->pending = false;
  l->pending--;
  if (share->address != NULL)
    share->address->pending--;
  if (share->stranger) {
    l->stranger_count--;
    pu_list_remove(&share->link);
  }
}

void pu_limits_account(pu_conn_share *share, pu_mem *mem) {
  PU_ASSERT(share->mem == NULL && mem->used == 0);
  if (share->address != NULL && pu_mem_aside(mem, &share->address->mem) == 0)
    share->mem = mem;
}

int pu_limits_authenticated(pu_limiter *l, pu_conn_share *share, const pu_peer_id *peer,
                            bool is_protected, pu_mem *mem, pu_refusal *why) {
  scope_key key;
  PU_ASSERT(share->counted && share->peer == NULL);
  const uint32_t in = l->limits.conns_in - (is_protected ? 0 : l->limits.conns_in / 8);
  if (share->inbound && l->conns_in >= in)
    return refuse_above(l, PU_LIMIT_CONNS_IN, in, why);
  if (!make_key(l, SCOPE_PEER, peer->bytes, peer->len, NULL, 0, &key))
    return no_memory(why);
  pu_scope *s = hold(l, &key);
  if (s == NULL)
    return no_memory(why);
  int status = 0;
  if (s->conns >= l->limits.conns_per_peer)
    status = refuse(l, PU_LIMIT_CONNS_PER_PEER, why);
  else if (pu_mem_move(mem, &s->mem) != 0) {
    status = PU_E_LIMIT; /* counted by the account */
    explain(PU_LIMIT_MEMORY_PER_PEER, l->limits.memory_per_peer, why);
  }
  if (status != 0) {
    let_go(l, s);
    return status;
  }
  s->conns++;
  share->peer = s;
  if (share->inbound)
    l->conns_in++;
  return 0;
}

void pu_limits_admitted(pu_limiter *l, pu_conn_share *share) {
  end_handshake(l, share);
  note_known(l, &share->origin);
}

void pu_limits_close(pu_limiter *l, pu_conn_share *share) {
  if (!share->counted)
    return;
  share->counted = false;
  end_handshake(l, share);
  l->conns--;
  if (share->mem != NULL) {
    const int status = pu_mem_aside(share->mem, NULL);
    PU_ASSERT(status == 0);
    share->mem = NULL;
  }
  if (share->address != NULL) {
    share->address->conns--;
    let_go(l, share->address);
    share->address = NULL;
  }
  if (share->peer != NULL) {
    share->peer->conns--;
    if (share->inbound)
      l->conns_in--;
  }
}

void pu_limits_release(pu_limiter *l, pu_conn_share *share) {
  PU_ASSERT(!share->counted && share->streams == 0);
  if (share->peer != NULL)
    let_go(l, share->peer);
  share->peer = NULL;
}

uint32_t pu_limits_peer_conns(const pu_limiter *l, const pu_peer_id *peer) {
  scope_key key;
  const pu_scope *s = NULL;
  if (make_key(l, SCOPE_PEER, peer->bytes, peer->len, NULL, 0, &key))
    s = find(l, &key);
  return s != NULL ? s->conns : 0;
}

/* ---- streams ---- */

int pu_limits_stream(pu_limiter *l, pu_conn_share *conn, pu_stream_share *share, pu_refusal *why) {
  const pu_limits *max = &l->limits;
  *share = (pu_stream_share){0};
  PU_ASSERT(conn->counted && conn->peer != NULL);
  if (conn->negotiating >= max->negotiating_per_conn)
    return refuse(l, PU_LIMIT_STREAMS_NEGOTIATING, why);
  if (conn->streams >= max->streams_in_per_conn)
    return refuse(l, PU_LIMIT_STREAMS_PER_CONN, why);
  if (conn->peer->streams >= max->streams_in_per_peer)
    return refuse(l, PU_LIMIT_STREAMS_PER_PEER, why);
  if (conn->address != NULL && conn->address->streams >= max->streams_in_per_ip)
    return refuse(l, PU_LIMIT_STREAMS_PER_ADDRESS, why);
  if (l->streams >= max->streams_in)
    return refuse(l, PU_LIMIT_STREAMS_TOTAL, why);
  share->counted = share->negotiating = true;
  conn->negotiating++;
  conn->streams++;
  conn->peer->streams++;
  if (conn->address != NULL)
    conn->address->streams++;
  l->streams++;
  return 0;
}

static void end_negotiation(pu_conn_share *conn, pu_stream_share *share) {
  if (share->negotiating)
    conn->negotiating--;
  share->negotiating = false;
}

int pu_limits_protocol(pu_limiter *l, pu_conn_share *conn, pu_stream_share *share,
                       const char *protocol, pu_refusal *why) {
  scope_key key;
  PU_ASSERT(share->counted && share->protocol == NULL);
  end_negotiation(conn, share);
  if (!make_key(l, SCOPE_PROTOCOL, protocol, strlen(protocol), NULL, 0, &key))
    return no_memory(why);
  pu_scope *p = hold(l, &key);
  if (p == NULL)
    return no_memory(why);
  if (p->serial == 0)
    p->serial = ++l->next_serial;
  const pu_scope *peer = conn->peer;
  /* The peer's ID is its scope's key without the kind. */
  if (!make_key(l, SCOPE_USE, &p->serial, sizeof(p->serial), peer->key + 1, peer->key_len - 1u,
                &key)) {
    let_go(l, p);
    return no_memory(why);
  }
  pu_scope *use = hold(l, &key);
  if (use == NULL) {
    let_go(l, p);
    return no_memory(why);
  }
  const uint32_t total = p->max_streams != 0 ? p->max_streams : l->limits.streams_in_per_protocol;
  const uint32_t per_peer =
      p->max_per_peer != 0 ? p->max_per_peer : l->limits.streams_in_per_protocol_peer;
  int status = 0;
  if (use->streams >= per_peer)
    status = refuse_above(l, PU_LIMIT_STREAMS_PER_PROTOCOL_PEER, per_peer, why);
  else if (p->streams >= total)
    status = refuse_above(l, PU_LIMIT_STREAMS_PER_PROTOCOL, total, why);
  if (status != 0) {
    let_go(l, use);
    let_go(l, p);
    return status;
  }
  p->streams++;
  use->streams++;
  share->protocol = p;
  share->use = use;
  return 0;
}

void pu_limits_stream_close(pu_limiter *l, pu_conn_share *conn, pu_stream_share *share) {
  if (!share->counted)
    return;
  share->counted = false;
  end_negotiation(conn, share);
  conn->streams--;
  conn->peer->streams--;
  if (conn->address != NULL)
    conn->address->streams--;
  l->streams--;
  if (share->protocol == NULL)
    return;
  share->use->streams--;
  share->protocol->streams--;
  let_go(l, share->use);
  let_go(l, share->protocol);
  share->use = share->protocol = NULL;
}

int pu_limits_set_protocol(pu_limiter *l, const char *protocol, uint32_t total, uint32_t per_peer) {
  scope_key key;
  if (!make_key(l, SCOPE_PROTOCOL, protocol, strlen(protocol), NULL, 0, &key))
    return PU_E_INVAL;
  pu_scope *s = find(l, &key);
  const bool was_set = s != NULL && (s->max_streams != 0 || s->max_per_peer != 0);
  const bool set = total != 0 || per_peer != 0;
  if (set && !was_set) { /* what is set holds the scope */
    if (l->protocol_count >= PU_LIMITS_PROTOCOLS_MAX)
      return PU_E_LIMIT;
    s = hold(l, &key);
    if (s == NULL)
      return PU_E_NOMEM;
    if (s->serial == 0)
      s->serial = ++l->next_serial;
    l->protocol_count++;
  }
  if (s == NULL)
    return 0;
  s->max_streams = total;
  s->max_per_peer = per_peer;
  if (!set && was_set) {
    l->protocol_count--;
    let_go(l, s);
  }
  return 0;
}

/* ---- memory ---- */

void pu_limits_memory_refused(pu_limiter *l, pu_mem *mem, bool handshake) {
  l->refused[handshake ? PU_LIMIT_MEMORY_PENDING : PU_LIMIT_MEMORY_PER_CONN] += mem->refused;
  mem->refused = 0;
}

bool pu_limits_explain_memory(const pu_limiter *l, const pu_conn_share *share, const pu_mem *mem,
                              pu_refusal *why) {
  const pu_mem *refuser = pu_mem_refuser(mem);
  pu_limit_kind kind;
  if (refuser == NULL)
    return false;
  if (refuser == mem)
    kind = mem->limit == l->limits.memory_per_conn ? PU_LIMIT_MEMORY_PER_CONN
                                                   : PU_LIMIT_MEMORY_PENDING;
  else if (share->peer != NULL && refuser == &share->peer->mem)
    kind = PU_LIMIT_MEMORY_PER_PEER;
  else if (share->address != NULL && refuser == &share->address->mem)
    kind = PU_LIMIT_MEMORY_PER_ADDRESS;
  else if (refuser == l->mem)
    kind = PU_LIMIT_MEMORY_TOTAL;
  else
    return false;
  explain(kind, refuser->limit, why);
  return true;
}

/* ---- statistics ---- */

static void raise_to(uint64_t *most, uint64_t value) {
  if (value > *most)
    *most = value;
}

/* look_at_scope notes what the scope uses, if no scope of its kind uses more. */
static void look_at_scope(const pu_scope *s, uint64_t used[static PU_LIMIT_KINDS],
                          uint64_t refused[static PU_LIMIT_KINDS]) {
  switch (kind_of(s)) {
  case SCOPE_ADDRESS:
    raise_to(&used[PU_LIMIT_CONNS_PER_ADDRESS], s->conns);
    raise_to(&used[PU_LIMIT_PENDING_PER_ADDRESS], s->pending);
    raise_to(&used[PU_LIMIT_STREAMS_PER_ADDRESS], s->streams);
    raise_to(&used[PU_LIMIT_MEMORY_PER_ADDRESS], s->mem.used);
    refused[PU_LIMIT_MEMORY_PER_ADDRESS] += s->mem.refused;
    break;
  case SCOPE_PEER:
    raise_to(&used[PU_LIMIT_CONNS_PER_PEER], s->conns);
    raise_to(&used[PU_LIMIT_STREAMS_PER_PEER], s->streams);
    raise_to(&used[PU_LIMIT_MEMORY_PER_PEER], s->mem.used);
    refused[PU_LIMIT_MEMORY_PER_PEER] += s->mem.refused;
    break;
  case SCOPE_PROTOCOL:
    raise_to(&used[PU_LIMIT_STREAMS_PER_PROTOCOL], s->streams);
    break;
  case SCOPE_USE:
    raise_to(&used[PU_LIMIT_STREAMS_PER_PROTOCOL_PEER], s->streams);
    break;
  case SCOPE_KNOWN:
    break;
  }
}

void pu_limits_stats(const pu_limiter *l, const pu_limits_conns *conns,
                     void (*each)(void *data, const pu_limit_stat *stat), void *data) {
  uint64_t used[PU_LIMIT_KINDS] = {
      [PU_LIMIT_CONNS_TOTAL] = l->conns,
      [PU_LIMIT_CONNS_IN] = l->conns_in,
      [PU_LIMIT_PENDING] = l->pending,
      [PU_LIMIT_STREAMS_TOTAL] = l->streams,
      [PU_LIMIT_STREAMS_PER_CONN] = conns->streams,
      [PU_LIMIT_STREAMS_NEGOTIATING] = conns->negotiating,
      [PU_LIMIT_MEMORY_TOTAL] = l->mem->used,
      [PU_LIMIT_MEMORY_PER_CONN] = conns->memory,
      [PU_LIMIT_MEMORY_PENDING] = conns->memory_handshake,
  };
  uint64_t refused[PU_LIMIT_KINDS];
  memcpy(refused, l->refused, sizeof(refused));
  refused[PU_LIMIT_MEMORY_TOTAL] += l->mem->refused;
  refused[PU_LIMIT_MEMORY_PER_CONN] += conns->refused;
  refused[PU_LIMIT_MEMORY_PENDING] += conns->refused_handshake;
  PU_TABLE_EACH(&l->scopes, node) {
    look_at_scope(PU_CONTAINER_OF(node, pu_scope, node), used, refused);
  }
  for (unsigned i = 0; i < PU_LIMIT_KINDS; i++) {
    const pu_limit_stat stat = {.name = names[i],
                                .used = used[i],
                                .limit = i == PU_LIMIT_MEMORY_PENDING
                                             ? l->handshake_bytes
                                             : value_of(&l->limits, (pu_limit_kind)i),
                                .refused = refused[i]};
    each(data, &stat);
  }
}
