/* The resource manager: what one address, one peer, one protocol and all together may hold at a
 * time. A core without I/O: the connection or stream that holds something carries a share, each
 * share counts in the scopes it belongs to (an IPv4 address or IPv6 /64, a peer, a protocol, a
 * peer's use of a protocol), and a scope lives as long as a share counts in it. So there are never
 * more scopes than two for each connection, two for each inbound stream, and what the application
 * has set.
 *
 * What we ask for ourselves (dials, outbound streams) counts in the totals of connections and in
 * memory only: it is ours to bound. Loopback and relayed connections have no address of their own
 * to count in.
 *
 * A flood of strangers must not lock out who is known:
 *   - a quarter of the handshakes is kept for addresses from which, or at which, a peer was
 * authenticated and allowed lately (the last PU_LIMITS_KNOWN_MAX of them)
 *   - when the strangers' part is full, the stranger that has been slow for longest makes room
 *     (pu_limits_slowest): who comes from a new address gets in beside a flood of half-open
 * connections
 *   - an eighth of the inbound connections is kept for peers that the application protects
 *   - an eighth of all connections is kept for our own dials */
#ifndef PU_SWARM_LIMITS_H
#define PU_SWARM_LIMITS_H

#include "base/list.h"
#include "base/table.h"
#include "multiaddr/multiaddr.h"
#include "peerup/engine.h"
#include "platform/platform.h"

#define PU_PREAUTH_MAX_BYTES 65536u    /* design: what a stranger may cost */
#define PU_LIMITS_KNOWN_MAX 1024u      /* addresses remembered as known */
#define PU_LIMITS_PROTOCOLS_MAX 256u   /* protocols with limits of their own */
#define PU_LIMITS_PATIENCE_US 2000000u /* a handshake may take so long even beside a flood */
#define PU_LIMITS_TEXT 160

/* Every limit once: constant, name (also the key below "limits" in a configuration), words. */
#define PU_LIMIT_MAP(XX)                                                                       \
  XX(CONNS_TOTAL, "connections.total", "too many connections")                                 \
  XX(CONNS_IN, "connections.inbound", "too many inbound connections")                          \
  XX(CONNS_PER_ADDRESS, "connections.per_address", "too many connections of one address")      \
  XX(CONNS_PER_PEER, "connections.per_peer", "too many connections of one peer")               \
  XX(PENDING, "connections.pending", "too many connections in handshake")                      \
  XX(PENDING_PER_ADDRESS, "connections.pending_per_address",                                   \
     "too many connections in handshake of one address")                                       \
  XX(STREAMS_TOTAL, "streams.total", "too many inbound streams")                               \
  XX(STREAMS_PER_ADDRESS, "streams.per_address", "too many inbound streams of one address")    \
  XX(STREAMS_PER_PEER, "streams.per_peer", "too many inbound streams of one peer")             \
  XX(STREAMS_PER_CONN, "streams.per_connection", "too many inbound streams of one connection") \
  XX(STREAMS_NEGOTIATING, "streams.negotiating",                                               \
     "too many streams of one connection without a protocol")                                  \
  XX(STREAMS_PER_PROTOCOL, "streams.per_protocol", "too many streams of one protocol")         \
  XX(STREAMS_PER_PROTOCOL_PEER, "streams.per_protocol_and_peer",                               \
     "too many streams of one protocol and peer")                                              \
  XX(MEMORY_TOTAL, "memory.total", "too much memory in use")                                   \
  XX(MEMORY_PER_ADDRESS, "memory.per_address", "too much memory for one address")             \
  XX(MEMORY_PER_PEER, "memory.per_peer", "too much memory for one peer")                       \
  XX(MEMORY_PER_CONN, "memory.per_connection", "too much memory for one connection")           \
  XX(MEMORY_PENDING, "memory.handshake", "too much memory for one handshake")

typedef enum pu_limit_kind {
#define XX(constant, name, words) PU_LIMIT_##constant,
  PU_LIMIT_MAP(XX)
#undef XX
      PU_LIMIT_KINDS
} pu_limit_kind;

/* Where a connection comes from, as far as it counts. */
typedef struct pu_origin {
  uint8_t len; /* 4: IPv4 address; 8: IPv6 /64; 16: link-local IPv6 address; 0: none */
  uint8_t bytes[16];
} pu_origin;

typedef struct pu_scope pu_scope;

typedef struct pu_limiter {
  pu_limits limits;
  pu_mem *mem; /* of the engine */
  pu_table scopes;
  pu_list strangers; /* pu_conn_share.link: inbound, in handshake, from unknown addresses; oldest
                        first */
  pu_list known;     /* known origins, the least recently noted first */
  uint32_t known_count, stranger_count, protocol_count;
  uint32_t conns, conns_in, pending; /* all; inbound and authenticated; inbound in handshake */
  uint32_t streams;
  uint32_t next_serial;
  size_t handshake_bytes; /* the most that a connection may take in handshake, of any transport */
  uint64_t refused[PU_LIMIT_KINDS];
} pu_limiter;

/* A connection's share, inside the connection. All zero: it holds nothing. */
typedef struct pu_conn_share {
  pu_list link;
  pu_scope *address; /* inbound only */
  pu_scope *peer;    /* once authenticated */
  pu_mem *mem;       /* counted for |address| */
  pu_origin origin;
  uint64_t since_us;
  uint32_t streams, negotiating; /* inbound */
  bool counted, inbound, pending, stranger;
} pu_conn_share;

/* An inbound stream's share, inside the stream. */
typedef struct pu_stream_share {
  pu_scope *protocol, *use; /* use: of the protocol by the peer */
  bool counted, negotiating;
} pu_stream_share;

/* Why something was refused, in words for a log, an event or an error. */
typedef struct pu_refusal {
  pu_limit_kind kind; /* PU_LIMIT_KINDS: it was lack of memory */
  char text[PU_LIMITS_TEXT];
} pu_refusal;

/* pu_limits_fill replaces the zeros in |l| by defaults that follow from the machine. */
void pu_limits_fill(pu_limits *l, const pu_machine *machine);
/* pu_limits_origin reads the origin of a remote address. */
void pu_limits_origin(const pu_multiaddr *remote, pu_origin *out);

/* pu_limits_init takes limits that are filled in; everything comes from |mem|. */
void pu_limits_init(pu_limiter *l, const pu_limits *limits, pu_mem *mem, uint64_t seed);
/* pu_limits_deinit forgets all; no share may be counted any more. */
void pu_limits_deinit(pu_limiter *l);

/* ---- connections: accept or dial, authenticated, admitted, close, release ---- */

/* pu_limits_accept counts an inbound connection that begins its handshake, pu_limits_dial an
 * outbound one: 0, PU_E_LIMIT, PU_E_NOMEM. */
PU_MUST_CHECK int pu_limits_accept(pu_limiter *l, pu_conn_share *share, const pu_origin *origin,
                                   uint64_t now_us, pu_refusal *why);
PU_MUST_CHECK int pu_limits_dial(pu_limiter *l, pu_conn_share *share, const pu_origin *origin,
                                 pu_refusal *why);
/* pu_limits_may_wait says whether one more connection may wait for its first byte, before it is
 * accepted, beside |all| others, |same| of them of its address: as many as may be in handshake. */
PU_MUST_CHECK int pu_limits_may_wait(pu_limiter *l, const pu_origin *origin, uint32_t all,
                                     uint32_t same, pu_refusal *why);
/* pu_limits_move hands a share on to another owner. */
void pu_limits_move(pu_conn_share *from, pu_conn_share *to);
/* pu_limits_slowest returns the stranger that has been in handshake for longest, if that is longer
 * than PU_LIMITS_PATIENCE_US; NULL. Its end makes room for another stranger. */
pu_conn_share *pu_limits_slowest(pu_limiter *l, uint64_t now_us);
/* pu_limits_account has the memory of the share's connection, the empty account |mem|, counted for
 * its address until pu_limits_close. */
void pu_limits_account(pu_conn_share *share, pu_mem *mem);
/* pu_limits_authenticated counts the connection for |peer|, and puts its account |mem| below the
 * peer's. */
PU_MUST_CHECK int pu_limits_authenticated(pu_limiter *l, pu_conn_share *share,
                                          const pu_peer_id *peer, bool is_protected, pu_mem *mem,
                                          pu_refusal *why);
/* pu_limits_admitted: the connection is open and allowed; its handshake is over, its address is
 * known. */
void pu_limits_admitted(pu_limiter *l, pu_conn_share *share);
/* pu_limits_close gives back what the share counts, but the account of its peer, which
 * pu_limits_release gives back when |mem| is empty. Both are harmless when there is nothing to
 * give. */
void pu_limits_close(pu_limiter *l, pu_conn_share *share);
void pu_limits_release(pu_limiter *l, pu_conn_share *share);
/* pu_limits_peer_conns counts the authenticated connections of |peer|. */
uint32_t pu_limits_peer_conns(const pu_limiter *l, const pu_peer_id *peer);

/* ---- inbound streams: open, protocol, close ---- */

PU_MUST_CHECK int pu_limits_stream(pu_limiter *l, pu_conn_share *conn, pu_stream_share *share,
                                   pu_refusal *why);
/* pu_limits_protocol: the stream's protocol is chosen; it does not negotiate any more, also when
 * the protocol's limit refuses it. */
PU_MUST_CHECK int pu_limits_protocol(pu_limiter *l, pu_conn_share *conn, pu_stream_share *share,
                                     const char *protocol, pu_refusal *why);
void pu_limits_stream_close(pu_limiter *l, pu_conn_share *conn, pu_stream_share *share);
/* pu_limits_set_protocol sets the limits of one protocol; 0: the default. PU_E_LIMIT: too many are
 * set. */
PU_MUST_CHECK int pu_limits_set_protocol(pu_limiter *l, const char *protocol, uint32_t total,
                                         uint32_t per_peer);

/* ---- memory ---- */

/* pu_limits_memory_refused counts what the account of a connection has refused since the last call,
 * as memory of its handshake or of the connection. */
void pu_limits_memory_refused(pu_limiter *l, pu_mem *mem, bool handshake);
/* pu_limits_explain_memory says which account is full, if one is, after an allocation of |mem|
 * failed; false: none, the machine has no memory. */
bool pu_limits_explain_memory(const pu_limiter *l, const pu_conn_share *share, const pu_mem *mem,
                              pu_refusal *why);

/* What the fullest connections hold, and what their accounts have refused that is not counted yet.
 */
typedef struct pu_limits_conns {
  uint64_t streams, negotiating, memory, memory_handshake;
  uint64_t refused, refused_handshake;
} pu_limits_conns;
/* pu_limits_stats tells every limit: what is used is that of the fullest scope. */
void pu_limits_stats(const pu_limiter *l, const pu_limits_conns *conns,
                     void (*each)(void *data, const pu_limit_stat *stat), void *data);

#endif
