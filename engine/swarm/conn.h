/* A connection: a session (transport/session.h), the policy's word about it, and its streams. Life: made
 * by pu_conn_new (pending until secured and multiplexed), open, closed; a closed one is freed when no call
 * can be inside it any more, and its streams' readers have what came before the end. */
#ifndef PU_SWARM_CONN_H
#define PU_SWARM_CONN_H

#include "swarm/engine_priv.h"
#include "swarm/peerstore.h"
#include "transport/session.h"

#define PU_CONN_DETAIL 200
/* What the peer has still to take keeps a connection without streams from idle closing, until it has taken
 * nothing for so long. */
#define PU_CONN_UNSENT_US (1800u * 1000000u)

typedef struct pu_conn_ready {
  /* The outbound connection is open (0), or failed: |conn| is gone when the call returns. */
  void (*cb)(void *data, pu_conn *conn, int status, const char *detail);
  void *data;
} pu_conn_ready;

struct pu_conn {
  pu_list link;
  pu_engine *engine;
  uint64_t id;
  pu_mem mem;
  pu_transport_conn info; /* raw and native are the session's */
  char addr[PU_MULTIADDR_MAX_TEXT];
  pu_peer_id peer;     /* once secured */
  pu_peer_id expected; /* outbound */
  pu_session *session;
  pu_timer timer;      /* handshake deadline, then idleness */
  pu_conn_ready ready; /* outbound, until open */
  pu_list streams;     /* pu_stream.link */
  uint32_t stream_count;
  pu_conn_share share; /* of the engine's limits */
  pu_table_node by_id, by_peer; /* |by_peer| while open */
  pu_list waiting;     /* opens that wait for the session to take another stream */
  uint64_t opened_us, idle_since_us;
  uint64_t unsent, unsent_since_us; /* of the session, at the last look; so much since then */
  uint64_t keep_until_us; /* it does not count as idle before: a peer that others reach through us */
  uint64_t opened_unix_ms;
  bool outbound, open, closed, identified;
  bool keeps_rests;    /* it ended by itself: what came before goes to the readers yet */
  unsigned busy;       /* calls inside the connection: it is freed at none */
  char end_detail[PU_CONN_DETAIL];
};

/* pu_conn_new begins an outbound connection; pu_engine_accept (engine_priv.h) the others. It takes
 * |info|->raw or native over, also when it fails; |e|->refusal explains PU_E_LIMIT. */
PU_MUST_CHECK int pu_conn_new(pu_engine *e, const pu_transport_conn *info,
                              const pu_peer_id *expected, const pu_conn_ready *ready,
                              pu_conn **out);
/* pu_conn_end closes the connection: streams end with PU_E_GONE, modules and application are told. */
void pu_conn_end(pu_conn *c, int status, const char *detail);
/* pu_conn_enter and pu_conn_leave bracket calls into a connection's session. enter corks, leave
 * flushes. */
void pu_conn_enter(pu_conn *c);
void pu_conn_leave(pu_conn *c);
/* pu_conn_recheck asks the policy again; true when the connection was ended. */
bool pu_conn_recheck(pu_conn *c);
bool pu_conn_is_limited(const pu_conn *c);
/* pu_conn_touch notes that the connection is used (idle closing counts from now). */
void pu_conn_touch(pu_conn *c);

/* pu_engine_find_conn returns the best connection to |peer|: unlimited before limited, direct before
 * relayed, then the newest; with |direct| only such that are not relayed. */
pu_conn *pu_engine_find_conn(pu_engine *e, const pu_peer_id *peer, bool direct);

/* pu_conns_init prepares the engine's lists; pu_conns_reap frees closed connections at once, at the end
 * of an engine. */
void pu_conns_init(pu_engine *e);
void pu_conns_reap(pu_engine *e);
/* pu_conns_end ends every connection. */
void pu_conns_end(pu_engine *e, int status, const char *detail);

/* stream.c */
/* pu_stream_accept makes a stream of one that the peer opened. */
PU_MUST_CHECK int pu_stream_accept(pu_conn *c, pu_session_stream *ss, uint32_t *code);
/* The session's events of one stream. */
size_t pu_stream_on_data(void *stream, pu_span data);
void pu_stream_on_eof(void *stream);
void pu_stream_on_writable(void *stream);
void pu_stream_on_rest(void *stream, pu_fifo *rest, bool eof);
void pu_stream_on_reset(void *stream, int status, uint32_t code);
/* pu_streams_end ends all streams of a connection that is going, with PU_E_GONE, but those whose readers
 * still get what came before, when it keeps their rests; pu_streams_end_rests ends these. */
void pu_streams_end(pu_conn *c);
void pu_streams_end_rests(pu_conn *c, int status);
/* open.c: pu_opens_go_on lets waiting opens go on, pu_opens_end fails them. */
void pu_opens_go_on(pu_conn *c);
void pu_opens_end(pu_conn *c);
/* pu_streams_recheck asks the policy again for each inbound stream; returns how many it ended. */
size_t pu_streams_recheck(pu_conn *c);

#endif
