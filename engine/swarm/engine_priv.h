/* The engine handle from inside: what connections, dialer, protocols and proxy share. Only swarm/ and
 * the layers above include this. */
#ifndef PU_SWARM_ENGINE_PRIV_H
#define PU_SWARM_ENGINE_PRIV_H

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "identity/key.h"
#include "multiaddr/multiaddr.h"
#include "peerup/engine.h"
#include "negotiate/multistream.h"
#include "platform/platform.h"
#include "swarm/rank.h"
#include "security/tls_web.h"
#include "swarm/limits.h"
#include "transport/transport.h"

#define PU_ENGINE_LISTENERS_MAX 32
#define PU_ENGINE_RELAY_ADDRS_MAX 32
#define PU_ENGINE_DENIED_DETAIL 320
/* Four pieces of the longest chunk, each with its own room. */
#define PU_SCRATCH_BYTES (4u * (65536u + PU_STREAM_HEAD + PU_STREAM_TAIL))
#define PU_ENGINE_ADDRS_MAX 128 /* own addresses told to others */

typedef struct pu_module pu_module;
typedef struct pu_peerstore pu_peerstore;

/* A part of the engine above the swarm (identify, relay ...) hears of connections through this. All
 * functions may be NULL. Registered once, in pu_engine_add_module. */
typedef struct pu_module_ops {
  void (*on_conn_open)(pu_module *m, pu_conn *c);
  /* The connection is still whole, its streams have ended. */
  void (*on_conn_close)(pu_module *m, pu_conn *c);
  /* What identify told of the connection's peer is known or has changed. */
  void (*on_identified)(pu_module *m, pu_conn *c);
  /* Our own addresses or protocols changed. */
  void (*on_self_changed)(pu_module *m);
  /* pu_engine_recheck: ask the policy again, end what it denies, return how many. */
  size_t (*on_recheck)(pu_module *m);
  /* The engine closes: end everything, free nothing that a connection may still call. */
  void (*on_close)(pu_module *m);
  /* All connections are gone: free the module. */
  void (*free)(pu_module *m);
} pu_module_ops;

struct pu_module {
  const pu_module_ops *ops;
  pu_list link;
};

/* A protocol that is served. */
typedef struct pu_handler {
  pu_list link;
  pu_handler_fn fn;
  void *data;
  bool internal; /* of the engine itself */
  char id[];
} pu_handler;

typedef struct pu_listener {
  pu_list link;
  pu_engine *engine;
  pu_tcp_listener *tcp; /* NULL: of QUIC, whose socket the transport has */
  pu_sockaddr address;  /* as bound */
  unsigned kinds;       /* pu_sniff_kind: what is served on it; 0 of QUIC */
} pu_listener;

struct pu_engine {
  pu_platform *platform;
  struct uv_loop_s *own_loop; /* NULL: the program's */
  bool own_platform;
  pu_mem mem;
  pu_log log;
  void (*log_fn)(void *data, int level, const char *part, const char *line);
  void *log_data;
  pu_key *key;
  struct pu_quic *quic;
  pu_tls_web *web;      /* the certificate of /tls/ws, and the trust in others' */
  bool web_given;       /* it is the user's; else addresses tell its hash: */
  uint8_t web_pin[PU_TLS_WEB_PIN];
  pu_tls_identity *tls; /* our certificate, for TLS and QUIC */
  const char *const *securities; /* of pu_session_config */
  char agent[128];
  pu_policy_fn policy;
  void *policy_data;
  pu_rank_fn rank;
  void *rank_data;
  pu_event_fn on_event;
  void *event_data;
  pu_limits limits; /* defaults filled in; the limiter's are a copy */
  pu_rx_memory rx;
  uint8_t *scratch; /* PU_SCRATCH_BYTES: for whoever reads local sockets, within one event */
  pu_list conns;    /* pu_conn.link, all that are not closed */
  pu_list graveyard; /* closed ones, freed by |reap| when they have no streams any more */
  uint32_t rest_count; /* streams among them (swarm/stream.h) */
  pu_timer reap;
  uint64_t next_conn_id;
  uint32_t conn_count; /* of |conns| */
  pu_table conns_by_id, conns_by_peer; /* the latter of such that are open */
  pu_limiter limiter;
  pu_refusal refusal; /* of the last PU_E_LIMIT that it gave */
  pu_list transports, modules, handlers, listeners;
  pu_list sniffing; /* accepted, their first byte has not come (transport/sniff.h) */
  pu_list dials;    /* dialer.c */
  pu_dark udp_dark, ip6_dark; /* whether QUIC, and IPv6, get through */
  uint64_t network;           /* a hash of the interfaces' addresses at the last dial; 0: none */
  pu_list ops;      /* stream.c, dialer.c: pending operations that wait for a turn of the loop */
  pu_peerstore *peerstore;
  pu_multiaddr relay_addrs[PU_ENGINE_RELAY_ADDRS_MAX]; /* own addresses through relays */
  size_t relay_addr_count;
  uint64_t table_seed;
  pu_timer close_turn;
  bool closing;
  void (*closed_cb)(void *data);
  void *closed_data;
  /* parts above, by their own files */
  pu_module *identify, *ping, *relay_client, *relay_server, *proxy;
  pu_list proxies;
};

/* pu_policy_ask is the one door to the policy: 0, or PU_E_DENIED, which is also logged and told as
 * PU_EVENT_DENIED. */
PU_MUST_CHECK int pu_policy_ask(pu_engine *e, const pu_question *question);
/* pu_engine_emit tells the application. */
void pu_engine_emit(pu_engine *e, pu_event_type type, pu_conn *conn, const pu_peer_id *peer,
                    const pu_peer_id *target, int status, const char *detail);
void pu_engine_add_module(pu_engine *e, pu_module *m);
void pu_engine_add_transport(pu_engine *e, pu_transport *t);
/* pu_engine_serve is pu_engine_handle for the engine's own protocols. */
PU_MUST_CHECK int pu_engine_serve(pu_engine *e, const char *protocol, pu_handler_fn fn, void *data);
void pu_engine_unserve(pu_engine *e, const char *protocol);
pu_handler *pu_engine_find_handler(pu_engine *e, const char *protocol, size_t len);
/* pu_engine_protocols lists what is served, sorted; returns how many of |max| were filled. */
size_t pu_engine_protocols(pu_engine *e, const char **out, size_t max);
/* pu_engine_self_changed tells modules and the application that own addresses or protocols changed. */
void pu_engine_self_changed(pu_engine *e);
/* Own addresses through relays: PU_E_LIMIT when there are too many. Equal ones count once. */
int pu_engine_add_relay_addr(pu_engine *e, const pu_multiaddr *addr);
void pu_engine_remove_relay_addr(pu_engine *e, const pu_multiaddr *addr);
/* pu_engine_own_addrs lists listening addresses (wildcards expanded) and then relay addresses. */
size_t pu_engine_own_addrs(pu_engine *e, pu_multiaddr *out, size_t max);

/* pu_engine_accept takes over an inbound connection, raw or native: limits, policy, handshake. */
void pu_engine_accept(pu_engine *e, const pu_transport_conn *accepted);

#endif
