/* Streams from inside: their negotiation and what the application sees of them. */
#ifndef PU_SWARM_STREAM_H
#define PU_SWARM_STREAM_H

#include "negotiate/multistream.h"
#include "swarm/conn.h"

#define PU_STREAM_OFFERS_MAX 8 /* protocols offered for one stream */
/* Streams of an engine whose connection has ended while their readers had not taken all that had come. More
 * than that lose it, as do those whose reader takes nothing for so long. */
#define PU_STREAM_RESTS_MAX 1024u
#define PU_STREAM_REST_US (1800u * 1000000u)

typedef struct pu_open pu_open;

struct pu_stream {
  pu_list link;  /* conn->streams */
  pu_conn *conn;
  pu_session_stream *ss;
  pu_multistream *negotiation; /* until the answers are in; a lazy one is usable before */
  const pu_stream_events *events;
  void *user;
  char *protocol;
  uint8_t *late; /* a listener's answer that waits for the first bytes of its handler */
  uint16_t late_len;
  pu_open *op;   /* outbound: who waits for the negotiation */
  pu_timer timer; /* deadline of the negotiation; a lazy stream's first tokens; a cut one's reader */
  bool outbound;
  pu_stream_share share; /* inbound: of the engine's limits */
  bool tokens_due; /* lazy: header and offer go with the first bytes */
  bool eof;
  /* The session has ended, |ss| is gone; |rest| had come before and goes to the reader, then on_end: */
  bool cut;
  bool offering, offer_again;
  bool rest_eof;    /* the peer had half-closed behind it */
  int cut_status;   /* of on_end */
  size_t rest_seen; /* so much waited when |timer| was set */
  pu_fifo rest;
  unsigned busy;  /* callbacks inside: freed at none */
  unsigned corks; /* of the application: what it writes stays valid until the last goes */
  bool gone;
};

/* stream.c for open.c. pu_stream_begin opens at the session and prepares the negotiation; |offers| live until
 * it is over (a lazy one keeps its own copy). PU_E_NO_STREAMS: later. */
pu_stream *pu_stream_begin(pu_conn *c, pu_open *op, const char *const *offers, size_t count,
                           bool lazy, int *status);
/* pu_stream_say sends what the negotiation has to say. */
PU_MUST_CHECK int pu_stream_say(pu_stream *s);
/* pu_stream_lazily_open gives the stream to its opener before the peer answered. */
PU_MUST_CHECK bool pu_stream_lazily_open(pu_stream *s);

/* pu_stream_hold and _unhold bracket a call of the application with the stream: it is not freed in
 * between, and what is written goes out together. Unlike a cork they promise nothing about memory. */
void pu_stream_hold(pu_stream *s);
void pu_stream_unhold(pu_stream *s);

/* pu_stream_write_now sends a short message of a protocol, whole, also while the connection is full of
 * others' bytes: 0, PU_E_LIMIT (the stream's window is full), PU_E_CLOSED. The messages of one peer that
 * may wait at once must be bounded, or a peer that reads none fills the connection's queue, which ends
 * the connection. */
#define PU_STREAM_NOW_MAX 4100u
PU_MUST_CHECK int pu_stream_write_now(pu_stream *s, const void *data, size_t len);

/* open.c for stream.c: the stream of |op| is gone; is agreed on (false: no memory, it was reset); may be
 * used. */
void pu_open_failed(pu_open *op, int status, uint32_t code);
bool pu_open_negotiated(pu_stream *s, const char *protocol);
void pu_open_ready(pu_stream *s);

#endif
