/* Yamux (wire 9): frames, windows, streams, keepalive. A core without I/O or clock: plaintext and
 * the time go in (pu_yamux_read, pu_yamux_expire); frames come out through the output callback and
 * happenings through the others. All callbacks run inside the call that caused them; in them any
 * function here may be called except pu_yamux_free, and pu_yamux_read inside another; in output
 * only pu_yamux_set_blocked and pu_yamux_fail. A stream ends for its user with
 * pu_yamux_stream_close, pu_yamux_stream_reset or on_reset, and with nothing else: after both FINs
 * it still wants a close.
 *
 * Payload is never copied on its way through: data of the peer is offered to on_data where it lies,
 * and what a stream writes gets its header put before it where it lies. Only what the reader does
 * not take is copied, into the stream's queue, which the stream's window bounds. */
#ifndef PU_MUX_YAMUX_H
#define PU_MUX_YAMUX_H

#include "base/fifo.h"
#include "base/mem.h"
#include "base/span.h"

#define PU_YAMUX_ID "/yamux/1.0.0"
#define PU_YAMUX_HEADER 12
#define PU_YAMUX_WINDOW_START (256u * 1024)
#define PU_YAMUX_WINDOW_MAX (16u * 1024 * 1024)
#define PU_YAMUX_MAX_UNACKED 256 /* own streams the peer has not acknowledged */
#define PU_YAMUX_KEEPALIVE_US (30u * 1000000u)
#define PU_YAMUX_PING_TIMEOUT_US (10u * 1000000u)
#define PU_YAMUX_MAX_PONGS 32      /* per second, and while blocked; further pings are dropped */
#define PU_YAMUX_MAX_ANSWERS 1024  /* ACKs and RSTs a peer makes us send while it reads none */
#define PU_YAMUX_MAX_LINGERING 256 /* closed streams that wait for the peer's end */
#define PU_YAMUX_LINGER_US (30u * 1000000u)
#define PU_YAMUX_LINGER_BYTES (64u * 1024) /* what a closed stream still swallows */
#define PU_YAMUX_SCRATCH_PAYLOAD 16384     /* of one data frame copied for lack of head room */
#define PU_YAMUX_FEW_BYTES 512             /* payload copied on the stack instead */

typedef struct pu_yamux pu_yamux;
typedef struct pu_yamux_stream pu_yamux_stream;

typedef struct pu_yamux_callbacks {
  /* output sends one frame: |frame| lies in borrowed memory with the room that was left around it.
   * It must be sealed, written or copied before the call returns. A negative return ends the
   * session. */
  int (*output)(void *user, pu_span *frame);
  /* on_stream: the peer opened a stream. 0 accepts it (set its user pointer by
   * pu_yamux_stream_set_user); a negative return refuses it (RST with |*code|). */
  int (*on_stream)(void *user, pu_yamux_stream *s, uint32_t *code);
  /* on_acked: the peer acknowledged a stream we opened (NULL: one that was closed meanwhile), or, with
   * NULL, one that it had not acknowledged has ended: another may be opened. May be NULL. */
  void (*on_acked)(void *user, void *stream_user);
  /* on_data offers bytes in order; returns how many were taken. Fewer than all pauses the stream:
   * the rest waits in its queue until pu_yamux_stream_resume. What was taken, and the room around
   * |data|, may be overwritten until the call returns. */
  size_t (*on_data)(void *stream_user, pu_span data);
  /* on_eof: the peer half-closed and all its bytes were taken. */
  void (*on_eof)(void *stream_user);
  /* on_writable: pu_yamux_stream_space became positive after a write found too little. */
  void (*on_writable)(void *stream_user);
  /* on_rest: the session ended, and what the reader has not taken yet is in |rest|, from which it may
   * be moved; |eof|: it is all that the peer had to say. on_reset follows. May be NULL. Not of a stream
   * whose on_data ended the session. */
  void (*on_rest)(void *stream_user, pu_fifo *rest, bool eof);
  /* on_reset: the stream ended before its time: RST with |code| from the peer (status PU_E_RESET),
   * there was no memory for its queue (PU_E_NOMEM; the peer got an RST), or the session ended
   * (other status; of PU_E_EOF |code| is the go-away's). The stream is gone when the call returns.
   */
  void (*on_reset)(void *stream_user, int status, uint32_t code);
} pu_yamux_callbacks;

typedef struct pu_yamux_config {
  pu_mem *mem;
  bool client; /* odd IDs: we initiated the connection */
  const pu_yamux_callbacks *callbacks;
  void *user;
  uint32_t max_streams_in; /* of the peer, open at once: more are refused with RST 0x1002 */
  uint32_t window_max;     /* per stream; 0: PU_YAMUX_WINDOW_MAX */
  size_t window_budget;    /* sum of window growth over all streams of the session, above the start
                              window each has */
  size_t max_payload;      /* of one data frame that we send; depends on the record layer */
  bool keepalive;          /* ping each PU_YAMUX_KEEPALIVE_US, for life and round trip; nothing
                              from the peer for PU_YAMUX_PING_TIMEOUT_US after a ping is death */
} pu_yamux_config;

PU_MUST_CHECK int pu_yamux_new(const pu_yamux_config *config, uint64_t now_us, pu_yamux **out);
/* pu_yamux_free drops the session; streams still open get on_reset with PU_E_CLOSED first. */
void pu_yamux_free(pu_yamux *y);
/* pu_yamux_fail ends the session with |status|: every stream gets on_reset. */
void pu_yamux_fail(pu_yamux *y, int status);
/* pu_yamux_start sends what begins a session (a ping, for the round trip time). */
PU_MUST_CHECK int pu_yamux_start(pu_yamux *y, uint64_t now_us);
/* pu_yamux_read takes plaintext in any slicing. PU_E_PROTOCOL (peer broke it: a counted reason is
 * in pu_yamux_why), PU_E_EOF (go-away), what output or pu_yamux_fail said: the session has ended,
 * close the connection. */
PU_MUST_CHECK int pu_yamux_read(pu_yamux *y, pu_span in, uint64_t now_us);
/* pu_yamux_deadline and pu_yamux_expire: keepalive, ping time-out (PU_E_TIMEOUT), closed streams.
 */
uint64_t pu_yamux_deadline(const pu_yamux *y);
PU_MUST_CHECK int pu_yamux_expire(pu_yamux *y, uint64_t now_us);
/* pu_yamux_set_blocked says whether the connection below can take more: while blocked, no stream
 * has space; unblocking calls on_writable of those that waited, in turn, until blocked again. */
void pu_yamux_set_blocked(pu_yamux *y, bool blocked);
/* pu_yamux_go_away sends a go-away with |code|. No stream is opened or taken after it; the peer
 * ends the session on its side, so the caller closes the connection once it is written. */
int pu_yamux_go_away(pu_yamux *y, uint32_t code);
/* pu_yamux_rtt_us: last measured round trip, 0 when unknown. */
uint64_t pu_yamux_rtt_us(const pu_yamux *y);
/* pu_yamux_stream_count counts streams that somebody uses, not those that were closed. */
size_t pu_yamux_stream_count(const pu_yamux *y);
/* pu_yamux_why names what ended the session ("window overrun"), "" while it lives. */
const char *pu_yamux_why(const pu_yamux *y);

/* pu_yamux_open makes a stream of ours. Its SYN goes with the first frame that it sends, or at
 * pu_yamux_stream_flush. PU_E_NO_STREAMS when too many are unacknowledged, PU_E_CLOSED. */
PU_MUST_CHECK int pu_yamux_open(pu_yamux *y, void *stream_user, pu_yamux_stream **out);
void pu_yamux_stream_set_user(pu_yamux_stream *s, void *stream_user);
void *pu_yamux_stream_user(const pu_yamux_stream *s);
uint32_t pu_yamux_stream_id(const pu_yamux_stream *s);
/* pu_yamux_stream_space: bytes that a write takes now: the window, 0 while blocked or closed. */
size_t pu_yamux_stream_space(const pu_yamux_stream *s);
/* pu_yamux_stream_wait asks for on_writable without a write, of a stream that has no space. */
void pu_yamux_stream_wait(pu_yamux_stream *s);
/* pu_yamux_stream_write sends |io| as data frames (header put into the head room; a payload without
 * room, or longer than max_payload, is copied or split). Returns bytes taken, fewer than len when
 * the window ends: on_writable follows. PU_E_CLOSED after close_write; what output said when it
 * ended the session (on_reset was called then). Taken bytes may have been overwritten. */
PU_MUST_CHECK ssize_t pu_yamux_stream_write(pu_yamux_stream *s, pu_span io);
/* pu_yamux_stream_write_now sends a short message also while the session is blocked, as it sends
 * control frames: whole, or not at all (PU_E_LIMIT: the window is too small). Otherwise it is
 * pu_yamux_stream_write. How many such messages there may be is the caller's to bound. */
PU_MUST_CHECK int pu_yamux_stream_write_now(pu_yamux_stream *s, pu_span io);
/* pu_yamux_stream_flush sends the SYN (or ACK) of a stream that has sent nothing yet. */
int pu_yamux_stream_flush(pu_yamux_stream *s);
/* pu_yamux_stream_resume offers queued bytes again, and lets on_data flow. Bytes that were taken
 * are given back to the peer's window as it pays; the window only grows for bytes that were taken
 * inside pu_yamux_read. */
void pu_yamux_stream_resume(pu_yamux_stream *s);
size_t pu_yamux_stream_queued(const pu_yamux_stream *s);
/* pu_yamux_stream_close_write half-closes (a FIN of its own: wire 9). */
int pu_yamux_stream_close_write(pu_yamux_stream *s);
/* pu_yamux_stream_reset sends RST with |code| and forgets the stream; no callback follows. */
void pu_yamux_stream_reset(pu_yamux_stream *s, uint32_t code);
/* pu_yamux_stream_close: both directions are done with: FIN if not sent, unread bytes are dropped,
 * data that still comes is dropped and not credited, no callback follows. The session forgets the
 * stream when the peer's FIN or RST came, after PU_YAMUX_LINGER_US (counted from the last read or
 * expire), or when too many others wait; a peer that sends more than PU_YAMUX_LINGER_BYTES gets an
 * RST. */
void pu_yamux_stream_close(pu_yamux_stream *s);

/* Frames, for tests and vectors. */
typedef struct pu_yamux_frame {
  uint8_t version, type;
  uint16_t flags;
  uint32_t stream, length;
} pu_yamux_frame;
void pu_yamux_frame_encode(const pu_yamux_frame *f, uint8_t out[static PU_YAMUX_HEADER]);
void pu_yamux_frame_decode(const uint8_t in[static PU_YAMUX_HEADER], pu_yamux_frame *out);

#endif
