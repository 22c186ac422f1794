/* A session: a secured, multiplexed connection, whatever made it. Two kinds exist: a raw connection that
 * was upgraded (upgraded.c: multistream, Noise or TLS, yamux) and QUIC (quic/), which does all of it by
 * itself. The swarm knows only this.
 *
 * All events run inside the call that caused them: a call of the owner, or an event of the platform. In
 * them any function here may be called except free. A stream ends for its user with close, reset or
 * on_reset, and with nothing else: after both ends it still wants a close. */
#ifndef PU_TRANSPORT_SESSION_H
#define PU_TRANSPORT_SESSION_H

#include "base/fifo.h"
#include "base/mem.h"
#include "base/span.h"
#include "identity/key.h"
#include "platform/platform.h"
#include "security/security.h"

typedef struct pu_session pu_session;
typedef struct pu_session_stream pu_session_stream; /* never dereferenced outside the session */
typedef struct pu_tls_identity pu_tls_identity;

typedef struct pu_session_events {
  /* The peer is authenticated, no stream of it was looked at. A negative return ends the session (the
   * peer is told 0x1007, gated; PU_E_LIMIT: 0x1001). Once. */
  int (*on_secured)(void *user, const pu_security_result *result);
  /* Streams may be opened and will come. A negative return ends the session. Once, after on_secured. */
  int (*on_open)(void *user);
  /* The peer opened a stream. 0 accepts it (set its user by set_user); a negative return refuses it
   * (reset with |*code|). */
  int (*on_stream)(void *user, pu_session_stream *s, uint32_t *code);
  /* After open said PU_E_NO_STREAMS: another stream of ours may be opened now. */
  void (*on_room)(void *user);
  /* Bytes in order; returns how many were taken. Fewer than all pauses the stream: the rest waits,
   * bounded by the window, until resume. What was taken, and the room around |data|, may be overwritten
   * until the call returns. */
  size_t (*on_data)(void *stream_user, pu_span data);
  /* The peer half-closed and all its bytes were taken. */
  void (*on_eof)(void *stream_user);
  /* space became positive after a write took less than offered, or after wait. */
  void (*on_writable)(void *stream_user);
  /* The session ended, and |rest| has come before and was not taken; |eof|: the peer half-closed behind
   * it. Who still wants it moves it out. on_reset follows. May be NULL. */
  void (*on_rest)(void *stream_user, pu_fifo *rest, bool eof);
  /* The stream ended before its time: PU_E_RESET with the peer's |code|, PU_E_NOMEM, or what fail said.
   * The stream is gone when the call returns. */
  void (*on_reset)(void *stream_user, int status, uint32_t code);
  /* The session ended by itself: PU_E_EOF (the peer closed in peace), PU_E_TIMEOUT, PU_E_PEER_MISMATCH,
   * PU_E_CRYPTO, PU_E_RESET ... |why| is for people. Its streams have not been told: fail does. Once;
   * nothing follows but what the owner's own calls cause. */
  void (*on_end)(void *user, int status, const char *why);
  /* The peer's address or ours has changed (QUIC). May be NULL. */
  void (*on_path)(void *user, const pu_sockaddr *local, const pu_sockaddr *remote);
} pu_session_events;

typedef struct pu_session_config {
  pu_mem *mem;                /* of the connection; its limit is the caller's to move on on_open */
  pu_platform *platform;
  bool initiator;
  const pu_key *key;          /* ours; outlives the session */
  pu_tls_identity *tls;       /* our certificate; outlives the session (security/tls_identity.h) */
  const char *const *securities; /* of pu_channel_config; they outlive the session */
  size_t security_count;
  const pu_peer_id *expected; /* NULL or len 0: any peer; must live until on_secured */
  size_t max_record;          /* of pu_transport_conn; 0: none */
  uint32_t max_streams_in;    /* of the peer, open at once */
  size_t window_budget;       /* what receive windows may grow by, all together */
  const pu_session_events *events;
  void *user;
} pu_session_config;

typedef struct pu_session_info {
  const char *security, *muxer; /* "noise", "tls"; "yamux", "quic"; NULL before they are agreed on */
  uint64_t rtt_us;              /* 0: unknown */
  uint64_t bytes_in, bytes_out; /* on the wire below */
} pu_session_info;

typedef struct pu_session_ops {
  /* ---- the session ---- */
  void (*info)(const pu_session *s, pu_session_info *out);
  /* cork and uncork nest and bracket calls; the last uncork sends what has gathered. flush gives
   * borrowed memory (see write) back at once, whatever corks there are. */
  void (*cork)(pu_session *s);
  void (*uncork)(pu_session *s);
  void (*flush)(pu_session *s);
  /* unsent: how much of what was written, also to streams that were closed since, has not left, or has
   * not arrived as far as that is known; 0: nothing. */
  uint64_t (*unsent)(const pu_session *s);
  /* fail ends all streams: each gets on_reset with |status|. */
  void (*fail)(pu_session *s, int status);
  /* close ends the session with a libp2p connection code (0: in peace), tells the peer if it can, and
   * lets go of everything but the struct, which free frees when no call is inside any more. No event
   * follows. Both may be called at any time after start, free only after close. */
  void (*close)(pu_session *s, uint32_t code, bool abort);
  void (*free)(pu_session *s);
  /* chunk: the most bytes of one write that travel as one piece; at most 65536. */
  size_t (*chunk)(const pu_session *s);

  /* ---- streams ---- */
  /* open makes a stream of ours. PU_E_NO_STREAMS: on_room follows. PU_E_CLOSED, PU_E_NOMEM. */
  int (*open)(pu_session *s, void *stream_user, pu_session_stream **out);
  void (*set_user)(pu_session_stream *st, void *stream_user);
  /* space: bytes that write would take now. wait asks for on_writable without a write. */
  size_t (*space)(const pu_session *s, const pu_session_stream *st);
  void (*wait)(pu_session *s, pu_session_stream *st);
  /* write sends |io|; returns bytes taken (fewer: on_writable follows), PU_E_CLOSED after close_write.
   * |borrowed|: the memory stays valid until uncork or flush. Taken bytes may be overwritten, except
   * those of a span without head room. */
  ssize_t (*write)(pu_session *s, pu_session_stream *st, pu_span io, bool borrowed);
  /* write_now sends a short message (up to 4100 bytes and some tokens) also while the session is full of
   * others' bytes: whole, or PU_E_LIMIT (the window is too small). */
  int (*write_now)(pu_session *s, pu_session_stream *st, pu_span io);
  /* resume offers queued bytes again, and lets on_data flow. */
  void (*resume)(pu_session *s, pu_session_stream *st);
  int (*close_write)(pu_session *s, pu_session_stream *st);
  /* reset tells the peer |code| in both directions and forgets the stream; close ends it gracefully:
   * what was written still arrives, unread bytes are dropped. No event follows either. */
  void (*reset)(pu_session *s, pu_session_stream *st, uint32_t code);
  void (*close_stream)(pu_session *s, pu_session_stream *st);
} pu_session_ops;

struct pu_session {
  const pu_session_ops *ops;
};

/* What a transport that secures and multiplexes by itself hands over instead of a raw connection. Exactly
 * one of start and discard is called. */
typedef struct pu_native pu_native;
typedef struct pu_native_ops {
  /* start begins the handshake; takes |n| over also when it fails. Events come later, never inside. */
  int (*start)(pu_native *n, const pu_session_config *config, pu_session **out);
  void (*discard)(pu_native *n, int status); /* PU_E_LIMIT, PU_E_DENIED: the peer may be told */
} pu_native_ops;
struct pu_native {
  const pu_native_ops *ops;
  size_t preauth_bytes; /* what its handshake takes of the connection's account */
};

/* pu_upgrade_start makes a session of a raw connection (upgraded.c); takes |raw| over also when it
 * fails. */
PU_MUST_CHECK int pu_upgrade_start(const pu_session_config *config, struct pu_raw *raw,
                                   pu_session **out);

#endif
