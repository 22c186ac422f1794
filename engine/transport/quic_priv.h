/* What the files of QUIC share: quic.c (transport and dials), quic_endpoint.c (one UDP socket),
 * quic_session.c (one connection), quic_callbacks.c (what ngtcp2 tells it), quic_write.c (what it
 * sends), quic_stream.c (its streams), quic_tls.c (its handshake). */
#ifndef PU_TRANSPORT_QUIC_PRIV_H
#define PU_TRANSPORT_QUIC_PRIV_H

#include <netinet/in.h>

#include "base/fifo.h"
#include "base/list.h"
#include "transport/quic.h"
#include "transport/quic_compat.h"

#define QUIC_CID_BYTES 8u       /* of our own connection IDs */
#define QUIC_PACKET_MAX 1452u   /* UDP payload we send at most: Ethernet's MTU over IPv6 */
#define QUIC_DATAGRAM_MAX 2048u /* longer ones are dropped; we say so in max_udp_payload_size */
#define QUIC_GATHER_BYTES 73728u /* what came in one batch of datagrams, and QUIC_GATHER_SPARE */
#define QUIC_GATHER_SPARE 8192u  /* a datagram's bytes and the room around its pieces */
#define QUIC_ROOMY_PIECES 32u   /* pieces of a batch that get room around */
#define QUIC_PIECES_MAX 1024u
#define QUIC_STOP_LOOKS 256u /* blocked streams that are looked at after each batch, in turn */
#define QUIC_PIECES_PER_DATAGRAM 512u /* a STREAM frame with a byte takes four */

typedef struct quic_endpoint quic_endpoint;
typedef struct quic_session quic_session;
typedef struct quic_stream quic_stream;
typedef struct quic_entry quic_entry;
typedef struct quic_tomb quic_tomb;

/* Stream bytes gathered from the packets of one batch. */
typedef struct quic_piece {
  quic_stream *stream; /* NULL: gone meanwhile */
  uint32_t at, len;
} quic_piece;

typedef struct quic_budget {
  uint64_t second;
  uint32_t used;
} quic_budget;

struct pu_quic {
  pu_transport base;
  pu_quic_config config;
  uint8_t reset_key[32], token_key[32], table_key[16];
  pu_list endpoints;
  size_t endpoint_count;
  uint8_t *rx;     /* PU_UDP_RECV_MAX batches */
  uint8_t *tx;     /* one batch */
  uint8_t *gather; /* PU_SPAN_HEAD + QUIC_GATHER_BYTES + PU_SPAN_TAIL */
  size_t gather_len;
  quic_piece pieces[QUIC_PIECES_MAX];
  size_t piece_count;
  uint64_t batch_ns; /* the time of the batch */
  unsigned batching; /* packets are being read: telling and writing wait for the end of the batch */
  pu_list touched;  /* sessions that have something to tell or to write then (quic_session.touch) */
  pu_list settling; /* of them, those whose users are being told */
  pu_quic_stats stats;
  quic_budget retry_budget, reset_budget, vn_budget;
};

/* A connection ID of ours (or a client's first choice) and whose it is. */
struct quic_entry {
  quic_entry *next; /* in the bucket */
  quic_entry *of;   /* the session's or tomb's next */
  quic_session *session;
  quic_tomb *tomb;
  uint8_t len;
  uint8_t bytes[NGTCP2_MAX_CIDLEN];
};

/* A connection that has ended: its late packets are answered with its close, or with nothing. */
struct quic_tomb {
  pu_list link; /* endpoint->tombs, oldest first */
  quic_entry *entries;
  uint64_t until_us;
  uint32_t seen; /* packets since the end; powers of two are answered */
  pu_sockaddr local, remote;
  size_t len;
  uint8_t packet[]; /* CONNECTION_CLOSE */
};

struct quic_endpoint {
  pu_list link;
  pu_quic *quic;
  pu_udp *udp;
  pu_sockaddr bound;
  bool listening, closed;
  unsigned busy;
  quic_entry **buckets;
  size_t bucket_count, entry_count;
  pu_list tombs;
  size_t tomb_count;
  pu_timer tomb_timer;
  pu_list sessions;
  uint8_t *pending; /* a batch that the socket did not take, and who waits behind it */
  pu_datagrams pending_batch;
  pu_list waiting; /* quic_session.wait */
};

typedef struct quic_chunk {
  struct quic_chunk *next;
  uint32_t len, cap;
  uint8_t bytes[];
} quic_chunk;

/* A stream. Its user may leave before QUIC is done with it; it is freed when both are. */
struct quic_stream {
  quic_session *session;
  void *user;
  int64_t id;
  pu_list link;                      /* session->streams */
  pu_list sending;                   /* session->sending: bytes or FIN to send, and allowed to;
                                        session->stuck: |blocked| */
  pu_list events;                    /* session->events: something to tell the user */
  pu_list waiting;                   /* session->waiters: on_writable is due when there is space */
  quic_chunk *first, *last, *cursor; /* cursor: holds |sent_at|; NULL: |first| does */
  uint64_t first_at; /* stream offset of |first|'s first byte: all before is acknowledged */
  uint64_t cursor_at;
  uint64_t end_at;        /* of the last byte that was queued */
  uint64_t sent_at;       /* of the next byte to be sent */
  pu_fifo rx;             /* what the user has not taken */
  uint64_t window, taken; /* of the peer; taken by the user since |window_ns| */
  uint64_t window_ns;
  uint64_t reset_code;
  bool attached; /* the user wants events */
  bool fin_wanted, fin_sent;
  bool blocked;     /* by the peer's window */
  bool stopped;     /* the peer reads no more */
  bool local_reset; /* we reset it */
  bool spilled;     /* |rx| holds what the user has not been offered */
  bool fin_seen, eof_told;
  bool reset_seen, nomem;
  bool useless;           /* the peer neither reads nor sends any more, and we write */
  bool is_new, accepting; /* of the peer, not told yet */
  bool over;              /* QUIC has forgotten it */
  bool dead;              /* freed when |busy| is 0 */
  bool offering, offer_again;
  unsigned busy; /* callbacks inside */
};

struct quic_session {
  pu_session base;
  pu_session_config config;
  pu_quic *quic;
  quic_endpoint *endpoint;
  ngtcp2_conn *conn;
  ngtcp2_mem memory;
  pu_list blocks; /* of |memory| */
  ngtcp2_crypto_conn_ref ref;
  struct gnutls_session_int *tls; /* NULL once the handshake is over */
  quic_entry *entries;
  pu_timer timer;
  pu_list link; /* endpoint->sessions */
  pu_list streams, sending, stuck, events, waiters;
  pu_list touch, wait;       /* quic->touched, endpoint->waiting */
  pu_sockaddr remote, local; /* local: of a server, where the first packet came to; else family 0 */
  pu_security_result *result; /* until on_secured */
  const char *verify_why;
  int verify_status;
  uint8_t verify_alert; /* TLS's; 0: GnuTLS's own choice */
  uint64_t bytes_in, bytes_out, queued_bytes, crypto_bytes;
  uint64_t window_max, rtt_ns;
  uint64_t unread,
      owed; /* bytes that wait for their readers; that the peer has no credit for again */
  uint64_t send_limit; /* bytes of one stream that may wait for their acknowledgement */
  unsigned corks;
  bool begun, handshake_done, open, half_open, ended, closed;
  bool conn_blocked; /* some stream waits for the connection's window */
  bool acked;        /* something was: there may be room for waiters */
  bool room_due, wants_stream, path_due, reset_by_peer;
  bool dirty, writing;
  bool early; /* written in this batch, before its users were told */
  bool quiet; /* the peer is not told that it ends */
  int fault;  /* ngtcp2's error that ends it */
  int end_status;
  char end_why[96];
  ngtcp2_ccerr farewell;
};

/* quic.c */
bool pu_quic_spend(pu_quic *q, quic_budget *budget, uint32_t per_second);
static inline uint64_t pu_quic_now(const pu_quic *q) {
  return pu_now_us(q->config.platform) * 1000u;
}

/* quic_endpoint.c */
PU_MUST_CHECK int pu_quic_endpoint_open(pu_quic *q, const pu_sockaddr *addr, bool listening,
                                        quic_endpoint **out);
void pu_quic_endpoint_close(quic_endpoint *ep);
PU_MUST_CHECK int pu_quic_endpoint_enter(quic_endpoint *ep, quic_session *s, const uint8_t *cid,
                                         size_t len);
void pu_quic_endpoint_leave(quic_endpoint *ep, quic_session *s, const uint8_t *cid, size_t len);
/* pu_quic_endpoint_bury takes a closed session's connection IDs; |packet| (len 0: none) answers
 * what still comes for |for_us|. */
void pu_quic_endpoint_bury(quic_endpoint *ep, quic_session *s, const uint8_t *packet, size_t len,
                           uint64_t for_us);
/* pu_quic_endpoint_send sends a batch or keeps it: false when the socket is full, so nobody may
 * write. */
bool pu_quic_endpoint_send(quic_endpoint *ep, const pu_datagrams *batch);
bool pu_quic_endpoint_is_full(const quic_endpoint *ep);

/* quic_session.c */
PU_MUST_CHECK int pu_quic_session_client(quic_endpoint *ep, const pu_sockaddr *remote,
                                         const pu_session_config *config, pu_session **out);
/* pu_quic_session_server makes the session for the client's first packet, whose header is |hd|;
 * |odcid| is the client's first choice when a Retry came before. */
PU_MUST_CHECK int pu_quic_session_server(quic_endpoint *ep, const pu_datagrams *packet,
                                         const ngtcp2_pkt_hd *hd, const ngtcp2_cid *odcid,
                                         const pu_session_config *config, pu_session **out);
void pu_quic_session_read(quic_session *s, const pu_datagrams *packet, uint8_t *data, size_t len);
void pu_quic_session_write(quic_session *s);
/* pu_quic_session_touch: something is to be told or written at the end of the batch. */
void pu_quic_session_touch(quic_session *s);
/* pu_quic_begin_batch and _end_batch bracket calls into ngtcp2: inside its callbacks nobody is told
 * of anything. At the end users are told in the order that sessions promise (secured, open, new
 * streams, bytes, ends), and then what there is to say is written. */
void pu_quic_begin_batch(pu_quic *q);
void pu_quic_end_batch(pu_quic *q);
/* pu_quic_make_room tells the users inside a batch when there is no room for the bytes of one more
 * datagram. They may close any session, so it is called before one is looked for, never while
 * sessions are walked. */
void pu_quic_make_room(pu_quic *q);
/* pu_quic_session_failed notes what ends the connection; the owner is told at the end of the batch.
 */
void pu_quic_session_failed(quic_session *s, int error);
/* pu_quic_session_unblock lets the streams go on that waited for the connection's window. */
void pu_quic_session_unblock(quic_session *s);
/* pu_quic_session_dirty: there is something to write, now, or when the corks and the batch end. */
void pu_quic_session_dirty(quic_session *s);
void pu_quic_from_native(const ngtcp2_addr *addr, pu_sockaddr *out);
void pu_quic_path(const pu_sockaddr *local, const pu_sockaddr *remote, ngtcp2_path_storage *out);

/* quic_callbacks.c */
ngtcp2_callbacks pu_quic_callbacks(bool client);
void pu_quic_memory(quic_session *s);
/* pu_quic_memory_end frees what ngtcp2 has left behind. */
void pu_quic_memory_end(quic_session *s);
void pu_quic_new_cid(quic_session *s, ngtcp2_cid *out, size_t len);

/* quic_stream.c */
extern const pu_session_ops pu_quic_session_ops;
quic_stream *pu_quic_stream_new(quic_session *s, int64_t id, void *user);
void pu_quic_stream_free(quic_stream *st);
/* pu_quic_stream_arrived: a packet carried bytes; they are gathered or queued. */
void pu_quic_stream_arrived(quic_stream *st, const uint8_t *data, size_t len, bool fin);
void pu_quic_stream_acked(quic_stream *st, uint64_t upto);
void pu_quic_stream_due(quic_stream *st); /* events */
void pu_quic_stream_tell(quic_stream *st);
/* pu_quic_tell_waiters tells those streams that there is room which found none. */
void pu_quic_tell_waiters(quic_session *s);
/* pu_quic_stream_unblock lets a stream send again. */
void pu_quic_stream_unblock(quic_stream *st);
/* pu_quic_stream_block notes that the peer's window is full; pu_quic_stream_stopped that it reads
 * no more. pu_quic_look_for_stops finds the latter of the former. */
void pu_quic_stream_block(quic_stream *st);
void pu_quic_stream_stopped(quic_stream *st);
void pu_quic_look_for_stops(quic_session *s);
/* pu_quic_stream_accept tells the owner of a stream that the peer opened. */
void pu_quic_stream_accept(quic_stream *st);
/* pu_quic_stream_vec points |vec| at what is to be sent next, and says in |*tail| whether that is
 * all. */
size_t pu_quic_stream_vec(const quic_stream *st, ngtcp2_vec *vec, size_t max, bool *tail);
void pu_quic_stream_sent(quic_stream *st, size_t len, bool fin);
/* pu_quic_deliver hands the gathered bytes to their users. */
void pu_quic_deliver(pu_quic *q);
void pu_quic_session_close(pu_session *base, uint32_t code, bool abort);

/* quic_tls.c */
PU_MUST_CHECK int pu_quic_tls_start(quic_session *s);
void pu_quic_tls_end(quic_session *s);

#endif
