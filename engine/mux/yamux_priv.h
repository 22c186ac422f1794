/* What yamux.c (session: frames in and out, table, keepalive) and yamux_stream.c (one stream:
 * windows, queue, half-close) share. Nobody else includes it.
 *
 * Callbacks may end any stream, or the session, while frames further up the call stack still hold
 * pointers to them. So an ended stream only moves to |dead|; memory goes when the outermost call
 * leaves (yamux_leave), or between two frames of an outermost read. */
#ifndef PU_MUX_YAMUX_PRIV_H
#define PU_MUX_YAMUX_PRIV_H

#include "base/list.h"
#include "mux/yamux.h"
#include "platform/platform.h"

enum { YAMUX_DATA, YAMUX_WINDOW_UPDATE, YAMUX_PING, YAMUX_GO_AWAY };
enum { YAMUX_SYN = 1, YAMUX_ACK = 2, YAMUX_FIN = 4, YAMUX_RST = 8 };

/* Error codes of streams that the multiplexer itself sends (wire 9). */
#define YAMUX_CODE_RESOURCE_LIMIT 0x1002u
#define YAMUX_CODE_SHUTDOWN 0x1007u

#define YAMUX_BUCKETS_START 8 /* buckets inside the session: most have few streams */

struct pu_yamux_stream {
  pu_yamux *y;
  pu_yamux_stream *bucket_next;
  pu_list node; /* in one of live, lingering, dead */
  pu_list wait; /* in waiting: on_writable is due when the session is unblocked */
  void *user;
  uint64_t epoch_us; /* live: last window update; lingering: when it was closed */
  uint32_t id;
  uint32_t send_window; /* what we may send */
  uint32_t recv_window; /* what the peer may have under way and unread in all */
  uint32_t recv_left;   /* what the peer may still send */
  uint32_t dropped;     /* lingering: bytes that came after the close */
  uint8_t pending;      /* SYN or ACK that goes with the next frame */
  bool ours : 1;
  bool acked : 1; /* ours: the peer has taken it */
  bool want : 1;  /* a write found too little space */
  bool fin_sent : 1;
  bool fin_received : 1;
  bool eof_told : 1;
  bool delivering : 1; /* on_data is running */
  bool again : 1;      /* resumed meanwhile */
  bool closed : 1;     /* the user is done with it: lingering */
  bool dead : 1;       /* forgotten; memory goes soon */
  pu_fifo queue;       /* bytes that the reader did not take yet; at most recv_window */
};

struct pu_yamux {
  pu_yamux_config config;
  uint32_t window_max;
  int status;      /* negative: ended */
  const char *why; /* static text */
  uint64_t now_us; /* last time we were told */
  unsigned depth;  /* calls in progress */
  bool reading;    /* inside pu_yamux_read: now_us is fresh */
  bool in_output;
  bool blocked;
  bool draining;  /* inside yamux_drain */
  bool away;      /* we sent a go-away */
  bool full_said; /* PU_E_NO_STREAMS was said for |unacked|, and on_acked has not followed */

  /* parser */
  uint8_t header[PU_YAMUX_HEADER];
  size_t header_len;
  uint32_t payload_left;    /* of the current data frame */
  bool payload_fin;         /* a FIN follows it */
  pu_yamux_stream *payload; /* its stream; NULL: dropped */

  /* streams */
  pu_yamux_stream **buckets;
  size_t bucket_count; /* a power of two */
  size_t table_len;
  uint64_t hash_key;
  pu_yamux_stream *buckets_start[YAMUX_BUCKETS_START];
  pu_list live, lingering, dead, waiting;
  size_t live_count, lingering_count;
  uint32_t in_count; /* the peer's among live_count */
  uint32_t unacked;  /* ours that the peer has not acknowledged, lingering ones too */
  uint64_t next_id;  /* above UINT32_MAX: used up */
  size_t grown;      /* sum of recv_window above the start, bounded by config.window_budget */

  /* liveness and floods */
  uint64_t last_read_us;
  uint64_t ping_us; /* when our last ping left */
  uint64_t rtt_us;
  uint32_t ping_value;
  bool ping_waiting;
  uint64_t pongs_since_us;
  uint32_t pongs;
  uint32_t answers; /* ACKs and RSTs sent while blocked */

  uint8_t *scratch; /* for payload without head room; NULL until needed */
  bool scratch_used;
};

/* yamux_enter and yamux_leave bracket every call that may reach a callback. */
void yamux_enter(pu_yamux *y);
void yamux_leave(pu_yamux *y);

/* yamux_end ends the session: |why| is kept, every stream gets on_reset with |status|, |code|. */
void yamux_end(pu_yamux *y, int status, uint32_t code, const char *why);
/* yamux_send gives one frame to output: the header goes before |payload| (NULL: a frame without),
 * which has the head room for it. False: the session has ended. */
bool yamux_send(pu_yamux *y, uint8_t type, uint16_t flags, uint32_t stream, uint32_t length,
                const pu_span *payload);
/* yamux_answer_counts counts an ACK or RST that the peer caused. False: too many unread ones, the
 * session has ended. */
bool yamux_answer_counts(pu_yamux *y);
/* yamux_drain calls on_writable of those that wait, in turn, until the session is blocked. */
void yamux_drain(pu_yamux *y);
/* yamux_scratch returns memory for PU_SPAN_HEAD + YAMUX_SCRATCH_PAYLOAD + PU_SPAN_TAIL, or NULL. */
uint8_t *yamux_scratch(pu_yamux *y);

pu_yamux_stream *yamux_find(const pu_yamux *y, uint32_t id);
/* yamux_stream_new makes a live stream in the table; NULL without memory. */
pu_yamux_stream *yamux_stream_new(pu_yamux *y, uint32_t id, bool ours, void *user);
/* yamux_forget takes |s| out of everything; its memory goes later. */
void yamux_forget(pu_yamux_stream *s);
/* yamux_linger keeps |s|, closed by its user, until the peer has closed too. */
void yamux_linger(pu_yamux_stream *s);

/* What the parser tells a stream. Each may end it, or the session. */
void yamux_on_payload(pu_yamux_stream *s, pu_span data);
void yamux_on_fin(pu_yamux_stream *s);
void yamux_on_credit(pu_yamux_stream *s, uint32_t delta);
void yamux_on_ack(pu_yamux_stream *s);
void yamux_on_rst(pu_yamux_stream *s, uint32_t code);

#endif
