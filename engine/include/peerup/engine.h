/* peerup: a libp2p host in C, for embedding. This header is all that a program needs.
 *
 * Threads: an engine belongs to one event loop and one thread; every function here is called on it.
 * Completions: a function that takes a callback and returns an error never calls it; otherwise the
 * callback is called exactly once, on the loop, never from inside the call.
 * Memory: strings and spans given to callbacks are borrowed until the callback returns. */
#ifndef PEERUP_ENGINE_H
#define PEERUP_ENGINE_H

#include "peerup/defs.h"
#include "peerup/error.h"
#include "peerup/peer_id.h"

typedef struct pu_engine pu_engine;
typedef struct pu_conn pu_conn;
typedef struct pu_stream pu_stream;
typedef struct pu_op pu_op; /* a pending operation: valid until its callback was called */
struct uv_loop_s;
struct pu_platform;

/* ---- policy: one function, asked at every door ---- */

typedef enum pu_ask {
  PU_ASK_ACCEPT,      /* an inbound connection before its handshake: addr */
  PU_ASK_INBOUND,     /* an inbound connection after its handshake: peer, addr, relayed */
  PU_ASK_DIAL,        /* an outbound connection: peer, addr */
  PU_ASK_STREAM,      /* an inbound stream: peer, protocol, addr, relayed */
  PU_ASK_RESERVATION, /* a peer wants us to relay for it: peer, addr */
  PU_ASK_CIRCUIT      /* a peer wants to reach another through us: peer, target, addr */
} pu_ask;

typedef struct pu_question {
  pu_ask ask;
  const pu_peer_id *peer;   /* NULL for PU_ASK_ACCEPT */
  const pu_peer_id *target; /* PU_ASK_CIRCUIT only */
  const char *protocol;     /* PU_ASK_STREAM only */
  const char *addr;         /* remote multiaddr */
  bool relayed;
} pu_question;

/* pu_policy_fn answers 0 to allow; anything else denies. It may not wait and may not call into the
 * engine. An engine without a policy function denies everything inbound. */
typedef int (*pu_policy_fn)(void *data, const pu_question *question);

/* ---- dialling: which addresses of a peer, in which order ---- */

typedef struct pu_dial_candidate {
  const char *addr;      /* multiaddr, names in it resolved */
  const char *transport; /* "tcp", "ws", "wss", "quic-v1", "circuit" */
  bool relayed;
  uint32_t delay_ms;     /* after the dial's begin; at most a minute counts */
  uint32_t id;           /* which it is: to be left as it is */
} pu_dial_candidate;

/* pu_rank_fn may change what a dial of |peer| tries: it gets the |count| candidates in the engine's order,
 * reorders them, drops some, and sets their delays. Returns how many of the array are left, at its front;
 * 0 or less fails the dial (PU_E_DENIED). They are begun in the array's order, none before its delay, but
 * the next one at once when nothing else is under way. The policy is asked about each afterwards. Called
 * once per dial, and once more with what look-ups of names yield that took longer than a second. It may not
 * wait and may not call into the engine. */
typedef int (*pu_rank_fn)(void *data, const pu_peer_id *peer, pu_dial_candidate *candidates,
                          size_t count);

/* ---- events ---- */

typedef enum pu_event_type {
  PU_EVENT_CONNECTED,    /* conn */
  PU_EVENT_DISCONNECTED, /* conn (last time it may be looked at), status, detail */
  PU_EVENT_IDENTIFIED,   /* conn: agent, protocols and addresses are known or were updated */
  PU_EVENT_ADDRESSES,    /* our own addresses changed */
  PU_EVENT_RESERVED,     /* peer: a relay granted or refreshed a reservation; detail: limits */
  PU_EVENT_RESERVATION_LOST, /* peer: the relay's reservation is gone, or was not granted or refreshed
                                (pu_reservation_info.active: an earlier one stands); status, detail: why */
  PU_EVENT_DENIED,       /* peer (may be NULL), detail: what the policy denied */
  PU_EVENT_DROPPED,      /* peer (may be NULL), status, detail: a connection was dropped and why */
  PU_EVENT_RELAY_CIRCUIT /* peer, target: a circuit through us began (status 0) or ended */
} pu_event_type;

typedef struct pu_event {
  pu_event_type type;
  pu_conn *conn;
  const pu_peer_id *peer;
  const pu_peer_id *target;
  int status;
  const char *detail;
} pu_event;

typedef void (*pu_event_fn)(void *data, const pu_event *event);

/* ---- engine ---- */

/* Limits; 0 takes the default, which follows from the machine: the comments give it for 2 GiB of memory and
 * 8192 or more descriptors. A limit "of one address" is of an IPv4 address or an IPv6 /64; loopback and
 * relayed connections are exempt. pu_engine_limit_stats tells what is used and refused. */
typedef struct pu_limits {
  uint32_t conns_total;        /* 4096 */
  uint32_t conns_in;           /* 7/8 of the total: inbound; the last eighth of them for protected peers */
  uint32_t conns_per_ip;       /* 256: inbound, of one address */
  uint32_t conns_per_peer;     /* 8 */
  uint32_t conns_pending;      /* 128: inbound, handshake not done; a quarter for known addresses */
  uint32_t conns_pending_per_ip; /* 16: of them from one address */
  uint32_t streams_in;         /* 65536: all inbound streams */
  uint32_t streams_in_per_ip;  /* 49152 */
  uint32_t streams_in_per_peer;/* 32768 */
  uint32_t streams_in_per_conn;/* 16384 */
  uint32_t streams_in_per_protocol;      /* 49152: see pu_engine_limit_protocol */
  uint32_t streams_in_per_protocol_peer; /* 32768 */
  uint32_t negotiating_per_conn; /* 256: inbound streams whose protocol is not chosen yet */
  size_t memory_per_conn;      /* 64 MiB */
  size_t memory_per_ip;        /* 256 MiB: all connections of one IPv4 address or IPv6 /64 */
  size_t memory_per_peer;      /* 128 MiB: all connections of one peer */
  size_t memory_total;         /* 512 MiB: a quarter of the machine's */
  uint32_t handshake_ms;       /* 15000: accept to multiplexed */
  uint32_t dial_ms;            /* 15000: per address */
  uint32_t negotiate_ms;       /* 10000: per stream */
  uint32_t idle_ms;            /* 60000: a connection without streams, unsent bytes or protection is closed */
} pu_limits;

/* Circuit relay v2, server side (wire 13.3). */
typedef struct pu_relay_config {
  uint32_t max_reservations;         /* 128 */
  uint32_t max_circuits;             /* 16 per peer */
  uint32_t max_reservations_per_ip;  /* 8 */
  uint32_t max_reservations_per_asn; /* 32; addresses without a known ASN are not counted */
  uint32_t reservation_ttl_s;        /* 3600 */
  uint32_t session_duration_s;       /* 600 */
  uint64_t session_data_bytes;       /* 64 MiB per direction */
  uint32_t buffer_bytes;             /* 2048: kept for a receiver that is slow, per direction at least */
} pu_relay_config;

typedef struct pu_engine_config {
  struct uv_loop_s *loop;         /* the program's loop; NULL: one of the engine's own */
  struct pu_platform *platform;   /* instead of a loop: the simulated network (tests) */
  const uint8_t *identity;        /* libp2p PrivateKey protobuf; NULL: a fresh key */
  size_t identity_len;
  const char *agent;              /* identify's agentVersion; NULL: "peerup/<version>" */
  pu_policy_fn policy;            /* NULL: nothing inbound is allowed */
  void *policy_data;
  pu_rank_fn rank;                /* NULL: addresses are dialled in the engine's order */
  void *rank_data;
  pu_event_fn on_event;
  void *event_data;
  void (*log)(void *data, int level, const char *part, const char *line); /* level 0 debug to 3 error */
  void *log_data;
  int log_level;
  pu_limits limits;
  const char *security;           /* "tls", "noise": only that one is spoken on TCP, WebSocket and relayed
                                     connections; NULL: both, by the other side's choice too */
  const char *congestion;         /* of QUIC: "cubic" (NULL); "bbr": fills long paths with loss, and takes the
                                     room of others that share them */
  uint64_t mem_fail_at;           /* tests: this allocation fails; 0: none */
} pu_engine_config;

PU_API PU_MUST_CHECK int pu_engine_new(const pu_engine_config *config, pu_engine **out, pu_error *err);
/* pu_engine_close closes listeners, proxies, streams and connections; |done| (may be NULL) is called
 * on the loop when the memory is gone. Pending operations end with PU_E_CANCELED before. */
PU_API void pu_engine_close(pu_engine *e, void (*done)(void *data), void *data);
/* pu_engine_run runs the engine's own loop until pu_engine_close has finished. Only without a loop of
 * the program's. */
PU_API int pu_engine_run(pu_engine *e);
PU_API const pu_peer_id *pu_engine_peer(const pu_engine *e);
PU_API const char *pu_version(void);
/* pu_engine_set_log_level: 0 debug to 3 error, 4 off. */
PU_API void pu_engine_set_log_level(pu_engine *e, int level);
/* pu_engine_memory returns the bytes the engine has allocated now. */
PU_API size_t pu_engine_memory(const pu_engine *e);

/* One limit: "connections.per_peer". What is used is that of the fullest address, peer, protocol or
 * connection, where there are many; |refused| counts since the engine was made. */
typedef struct pu_limit_stat {
  const char *name;
  uint64_t used, limit, refused;
} pu_limit_stat;
PU_API void pu_engine_limit_stats(const pu_engine *e,
                                  void (*each)(void *data, const pu_limit_stat *stat), void *data);
/* pu_engine_limit_protocol limits the inbound streams of one protocol, all together and for each peer; 0:
 * the default. PU_E_LIMIT: too many protocols have limits of their own. */
PU_API PU_MUST_CHECK int pu_engine_limit_protocol(pu_engine *e, const char *protocol, uint32_t total,
                                                  uint32_t per_peer);

/* pu_engine_listen listens on a multiaddr ("/ip4/0.0.0.0/tcp/0"), or through a relay
 * ("<relay>/p2p/R/p2p-circuit": see pu_engine_reserve). PU_E_IN_USE, PU_E_UNSUPPORTED ... */
PU_API PU_MUST_CHECK int pu_engine_listen(pu_engine *e, const char *addr, pu_error *err);
/* pu_engine_web_certificate gives listeners on /tls/ws a certificate chain and its key, from PEM files; again
 * after a renewal. Without it they make a self-signed one, whose hash their addresses tell (/certhash).
 * PU_E_NOT_FOUND, PU_E_KEY_MODE, PU_E_PARSE ..., and |err| says why. */
PU_API PU_MUST_CHECK int pu_engine_web_certificate(pu_engine *e, const char *certificate_file,
                                                   const char *key_file, pu_error *err);
/* pu_engine_web_keep gives them a self-signed one that outlives the engine, so that a pin of its hash stays
 * good: |file| holds it and its key, and is made when it is not there. As above, and PU_E_IO. */
PU_API PU_MUST_CHECK int pu_engine_web_keep(pu_engine *e, const char *file, pu_error *err);
/* pu_engine_addrs calls |each| for every own address, as announced (relay addresses last). */
PU_API void pu_engine_addrs(const pu_engine *e, void (*each)(void *data, const char *addr), void *data);

/* pu_engine_add_addr makes an address of |peer| known for |ttl_s| seconds (UINT32_MAX: for good). */
PU_API int pu_engine_add_addr(pu_engine *e, const pu_peer_id *peer, const char *addr, uint32_t ttl_s,
                              pu_error *err);
/* pu_engine_known_addrs calls |each| for every unexpired known address of |peer|. */
PU_API void pu_engine_known_addrs(const pu_engine *e, const pu_peer_id *peer,
                                  void (*each)(void *data, const char *addr), void *data);

/* ---- connections ---- */

typedef void (*pu_connect_cb)(void *data, int status, const pu_error *err, pu_conn *conn);
enum {
  PU_CONNECT_DIRECT = 1, /* not through a relay, and even if a relayed connection stands */
  PU_CONNECT_NEW = 2     /* a new connection even if one stands */
};
/* pu_engine_connect connects to |peer| by its known addresses, raced with staggered starts; answers with
 * the standing connection if there is one. |timeout_ms| 0: 60 s. */
PU_API PU_MUST_CHECK int pu_engine_connect(pu_engine *e, const pu_peer_id *peer, unsigned flags,
                                           uint32_t timeout_ms, pu_connect_cb cb, void *data,
                                           pu_op **op);
typedef struct pu_dial_state {
  bool udp_dark; /* QUIC to public addresses leads nowhere here while TCP does: it is tried after it */
  bool ip6_dark; /* the same of IPv6 */
} pu_dial_state;
/* pu_engine_dial_state tells what dialling has learned of this network. */
PU_API void pu_engine_dial_state(const pu_engine *e, pu_dial_state *out);
/* An address that was dialled in vain, or lost its race by far: while it rests it is tried only where
 * no other is left. */
typedef struct pu_resting_addr {
  pu_peer_id peer;
  char addr[768]; /* as known: without its peer */
  uint32_t failures;              /* in a row */
  uint32_t rest_s;                /* still */
} pu_resting_addr;
/* pu_engine_resting_addrs lists them, peer by peer; |each| may not change what is known. */
PU_API void pu_engine_resting_addrs(const pu_engine *e,
                                    void (*each)(void *data, const pu_resting_addr *resting),
                                    void *data);
/* pu_op_cancel ends a pending operation: its callback is called with PU_E_CANCELED, later. */
PU_API void pu_op_cancel(pu_op *op);
/* pu_engine_disconnect closes all connections to |peer|; returns how many. */
PU_API size_t pu_engine_disconnect(pu_engine *e, const pu_peer_id *peer);
/* pu_engine_recheck asks the policy again about every connection, stream, reservation and circuit, and
 * ends those it denies now. Call it when the rules have changed. Returns how many were ended. */
PU_API size_t pu_engine_recheck(pu_engine *e);
/* pu_engine_protect keeps connections to |peer| from idle closing while on. */
PU_API int pu_engine_protect(pu_engine *e, const pu_peer_id *peer, bool on);

typedef struct pu_conn_info {
  uint64_t id;            /* unique in the engine's life */
  pu_peer_id peer;
  bool outbound, relayed, limited, identified;
  char addr[768];         /* remote multiaddr, without the peer */
  char agent[128];        /* "" before identify */
  const char *transport;  /* "tcp", "ws", "wss", "quic-v1", "circuit" */
  const char *security, *muxer; /* "noise", "tls"; "yamux", "quic" */
  uint64_t opened_unix_ms;
  uint64_t rtt_us;        /* 0: unknown */
  uint32_t streams;
  uint64_t bytes_in, bytes_out;
  uint32_t limit_duration_s; /* of the relay, when limited; 0: none */
  uint64_t limit_data_bytes;
} pu_conn_info;

PU_API void pu_conn_info_get(const pu_conn *c, pu_conn_info *out);
/* pu_engine_conns calls |each| for every connection that is up. |each| may close it. */
PU_API void pu_engine_conns(pu_engine *e, void (*each)(void *data, pu_conn *c), void *data);
/* pu_conn_find returns the connection of |id|, NULL when it is gone. */
PU_API pu_conn *pu_conn_find(pu_engine *e, uint64_t id);
PU_API const pu_peer_id *pu_conn_peer(const pu_conn *c);
PU_API void pu_conn_close(pu_conn *c);
/* pu_engine_best_conn returns the connection on which a stream to |peer| would be opened; NULL. */
PU_API pu_conn *pu_engine_best_conn(pu_engine *e, const pu_peer_id *peer);
/* pu_engine_peer_protocols calls |each| for every protocol that identify told of |peer|. */
PU_API void pu_engine_peer_protocols(const pu_engine *e, const pu_peer_id *peer,
                                     void (*each)(void *data, const char *protocol), void *data);

/* ---- streams ---- */

/* How an application is told of a stream's life. All but on_end may be NULL. */
typedef struct pu_stream_events {
  /* Bytes arrived: take from the front, return how many. Fewer than |len| pauses reading: the rest is
   * kept, bounded by the window, and the peer is held back until pu_stream_resume. |data| is
   * writable, and so are |head| bytes before and |tail| bytes behind it, until the call returns. */
  size_t (*on_data)(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head, size_t tail);
  void (*on_eof)(void *user, pu_stream *s);      /* the peer will send no more */
  void (*on_writable)(void *user, pu_stream *s); /* after a write that took less than offered */
  /* The stream ended before its time: PU_E_RESET with the peer's |code|, PU_E_UNSUPPORTED (a lazy
   * negotiation was refused), PU_E_GONE (its connection ended; what had come before was given to
   * on_data, and on_eof called if that was all, as fast as the reader took it). It is gone when the
   * call returns. Not called after pu_stream_close or _reset. */
  void (*on_end)(void *user, pu_stream *s, int status, uint32_t code);
} pu_stream_events;

/* pu_handler_fn takes an inbound stream of a protocol, after the policy allowed it: it calls
 * pu_stream_set_events and returns 0, or refuses with a negative value (reset). */
typedef int (*pu_handler_fn)(void *data, pu_stream *s);
/* pu_engine_handle serves |protocol|; PU_E_EXISTS. A NULL |fn| stops serving (streams live on). */
PU_API PU_MUST_CHECK int pu_engine_handle(pu_engine *e, const char *protocol, pu_handler_fn fn,
                                          void *data);

typedef void (*pu_open_cb)(void *data, int status, const pu_error *err, pu_stream *s);
enum {
  PU_OPEN_LIMITED = 1,  /* a relayed connection with limits is good enough */
  PU_OPEN_NO_DIAL = 2,  /* only over a standing connection */
  PU_OPEN_LAZY = 4      /* one protocol: do not wait for the peer's agreement (saves a round trip) */
};
/* pu_engine_open_stream opens a stream to |peer|, connecting first if need be, and negotiates the first
 * of |protocols| that the peer speaks. |timeout_ms| 0: 30 s. PU_E_UNSUPPORTED, PU_E_NO_ADDRESS ... */
PU_API PU_MUST_CHECK int pu_engine_open_stream(pu_engine *e, const pu_peer_id *peer,
                                               const char *const *protocols, size_t count,
                                               unsigned flags, uint32_t timeout_ms, pu_open_cb cb,
                                               void *data, pu_op **op);
/* pu_conn_open_stream is the same over one connection. */
PU_API PU_MUST_CHECK int pu_conn_open_stream(pu_conn *c, const char *const *protocols, size_t count,
                                             unsigned flags, uint32_t timeout_ms, pu_open_cb cb,
                                             void *data, pu_op **op);

/* pu_stream_set_events says who is told of |s|: inside the completion or handler that gives the stream,
 * or later, followed by pu_stream_resume for what has come meanwhile. */
PU_API void pu_stream_set_events(pu_stream *s, const pu_stream_events *events, void *user);
/* pu_stream_write sends a copy of |data|: returns bytes taken, fewer when the peer's window or the
 * connection is full (on_writable follows). PU_E_CLOSED. */
PU_API PU_MUST_CHECK ssize_t pu_stream_write(pu_stream *s, const void *data, size_t len);
/* pu_stream_write_room is pu_stream_write for memory that may be overwritten, |head| bytes before and
 * |tail| bytes behind |data| included: with PU_STREAM_HEAD and PU_STREAM_TAIL nothing is copied. */
#define PU_STREAM_HEAD 48
#define PU_STREAM_TAIL 48
PU_API PU_MUST_CHECK ssize_t pu_stream_write_room(pu_stream *s, uint8_t *data, size_t len, size_t head,
                                                  size_t tail);
/* pu_stream_space returns how many bytes a write would take now; after 0 on_writable follows.
 * pu_stream_chunk returns the size of a piece that travels as one record without being split. */
PU_API size_t pu_stream_space(pu_stream *s);
PU_API size_t pu_stream_chunk(const pu_stream *s);
/* pu_stream_cork holds records back so that several writes go out in one system call; spans written
 * while corked must stay valid until pu_stream_uncork. Calls nest. */
PU_API void pu_stream_cork(pu_stream *s);
PU_API void pu_stream_uncork(pu_stream *s);
PU_API void pu_stream_resume(pu_stream *s);
/* pu_stream_close_write half-closes. pu_stream_close ends both directions gracefully, pu_stream_reset
 * at once, with a libp2p stream code; the stream may not be used after. */
PU_API int pu_stream_close_write(pu_stream *s);
PU_API void pu_stream_close(pu_stream *s);
PU_API void pu_stream_reset(pu_stream *s, uint32_t code);
PU_API pu_conn *pu_stream_conn(const pu_stream *s);
PU_API const char *pu_stream_protocol(const pu_stream *s);
PU_API bool pu_stream_is_outbound(const pu_stream *s);

/* ---- ping ---- */

typedef void (*pu_ping_cb)(void *data, int status, const pu_error *err, uint64_t rtt_us);
/* pu_engine_ping measures one round trip by /ipfs/ping/1.0.0 over the best connection. */
PU_API PU_MUST_CHECK int pu_engine_ping(pu_engine *e, const pu_peer_id *peer, uint32_t timeout_ms,
                                        pu_ping_cb cb, void *data, pu_op **op);

/* ---- perf: the throughput of one stream, by /perf/1.0.0 ---- */

/* pu_engine_perf_serve serves measurements until the engine closes, for whom the policy allows it: a peer
 * may make us send as much as it likes. PU_E_EXISTS. */
PU_API PU_MUST_CHECK int pu_engine_perf_serve(pu_engine *e);

typedef struct pu_perf_result {
  uint64_t uploaded, downloaded; /* bytes */
  uint64_t elapsed_us;
} pu_perf_result;
typedef void (*pu_perf_cb)(void *data, int status, const pu_error *err, const pu_perf_result *result);
typedef struct pu_perf_config {
  uint64_t upload_bytes, download_bytes;
  uint32_t timeout_ms; /* 0: none, but half a minute in which no byte moves ends it */
  /* Called every second with what moved since the last call. May be NULL. */
  void (*progress)(void *data, const pu_perf_result *step);
} pu_perf_config;
/* pu_engine_perf sends |upload_bytes| and then receives |download_bytes|, over the best connection. */
PU_API PU_MUST_CHECK int pu_engine_perf(pu_engine *e, const pu_peer_id *peer,
                                        const pu_perf_config *config, pu_perf_cb cb, void *data,
                                        pu_op **op);

/* ---- relays ---- */

/* pu_engine_reserve keeps a reservation at the relay |addr| ("/ip4/../tcp/../p2p/R"): connects,
 * reserves, refreshes, and comes back after trouble, until pu_engine_unreserve. Events tell how it goes. */
PU_API PU_MUST_CHECK int pu_engine_reserve(pu_engine *e, const char *addr, uint32_t interval_s,
                                           pu_error *err);
/* pu_engine_unreserve gives it up, and forgets the addresses of the relay that were given (pu_engine_add_addr):
 * it is known by what it tells itself, and no longer for good. */
PU_API void pu_engine_unreserve(pu_engine *e, const pu_peer_id *relay);

typedef struct pu_reservation_info {
  pu_peer_id relay;
  bool active;
  uint64_t expires_unix_s;
  uint32_t limit_duration_s; /* 0: none */
  uint64_t limit_data_bytes;
  int last_status;           /* of the last try */
  char detail[256];          /* why, when it failed */
} pu_reservation_info;
PU_API void pu_engine_reservations(const pu_engine *e,
                                   void (*each)(void *data, const pu_reservation_info *info), void *data);

/* pu_engine_relay_start serves circuit relay v2; |config| NULL or zero fields: defaults. */
PU_API PU_MUST_CHECK int pu_engine_relay_start(pu_engine *e, const pu_relay_config *config);
PU_API void pu_engine_relay_stop(pu_engine *e);

typedef struct pu_relay_stats {
  uint32_t reservations, circuits;
  uint64_t bytes;
  uint64_t refused_reservations, refused_circuits, ended_by_limit;
} pu_relay_stats;
PU_API void pu_engine_relay_stats(const pu_engine *e, pu_relay_stats *out);

/* ---- proxy: a local TCP socket <-> a stream ---- */

typedef struct pu_proxy pu_proxy;

typedef struct pu_proxy_stats {
  uint64_t connections; /* ever */
  uint32_t active;
  uint64_t bytes_in;    /* from the peer */
  uint64_t bytes_out;   /* to the peer */
  uint64_t failures;    /* connections that could not be served */
} pu_proxy_stats;

/* What happened to one connection: on_event of a proxy, for logs and metrics. */
typedef struct pu_proxy_event {
  bool opened;       /* else it ended */
  const pu_peer_id *peer;
  int status;        /* 0, or why it failed */
  const char *detail;
  uint64_t bytes_in, bytes_out;
  uint64_t duration_us;
} pu_proxy_event;
typedef void (*pu_proxy_event_fn)(void *data, pu_proxy *p, const pu_proxy_event *event);

/* pu_proxy_listen accepts local TCP connections on |listen| ("127.0.0.1:2222", port 0: any free one) and
 * carries each over a stream of |protocol| to |peer|. */
PU_API PU_MUST_CHECK int pu_proxy_listen(pu_engine *e, const char *listen, const pu_peer_id *peer,
                                         const char *protocol, pu_proxy_event_fn on_event,
                                         void *data, pu_proxy **out, pu_error *err);
/* pu_proxy_expose serves |protocol|: each inbound stream is carried to the TCP address |target|
 * ("localhost:22"), 10 s to connect. */
PU_API PU_MUST_CHECK int pu_proxy_expose(pu_engine *e, const char *protocol, const char *target,
                                         pu_proxy_event_fn on_event, void *data, pu_proxy **out,
                                         pu_error *err);
/* pu_proxy_address writes "127.0.0.1:2222" as really bound (listen) or the target (expose). */
PU_API const char *pu_proxy_address(const pu_proxy *p);
PU_API void pu_proxy_stats_get(const pu_proxy *p, pu_proxy_stats *out);
/* pu_proxy_close stops it and ends its connections. */
PU_API void pu_proxy_close(pu_proxy *p);

#endif
