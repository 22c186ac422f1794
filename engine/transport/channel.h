/* A channel: a raw connection made secure. It negotiates security, runs the handshake, agrees on
 * the muxer, and then carries records both ways (wire 4). What a muxer sends is sealed where it
 * lies, gathered while corked, and written in one call; only what the raw connection does not take
 * is copied, into a queue with a bound. Owned by a connection of the swarm, or by a test. */
#ifndef PU_TRANSPORT_CHANNEL_H
#define PU_TRANSPORT_CHANNEL_H

#include "base/fifo.h"
#include "base/log.h"
#include "negotiate/multistream.h"
#include "security/security.h"
#include "transport/raw.h"

/* Sealed bytes that wait for the raw connection. The muxer is told to stop at the first of them;
 * one batch and control frames may still come. */
#define PU_CHANNEL_TX_MAX (1024u * 1024)
#define PU_CHANNEL_IOVS 48 /* records gathered before a flush */
#define PU_CHANNEL_BATCH \
  (256u * 1024)                /* and their bytes: a batch that nobody takes must fit the queue */
#define PU_CHANNEL_ARENA 4096u /* copies of small records while corked */
#define PU_CHANNEL_SMALL 512u  /* a record up to this is copied rather than flushed for */
#define PU_CHANNEL_SECURITIES_MAX 4

typedef struct pu_channel_events {
  /* The peer is authenticated, nothing of the muxer was processed. A negative return ends the
   * channel. */
  int (*on_secured)(void *user, const pu_security_result *result);
  /* The muxer is agreed on: it may begin. */
  int (*on_open)(void *user);
  /* Plaintext of the muxer. A negative return ends the channel with that status. */
  int (*on_plain)(void *user, pu_span data);
  /* The queue got its first byte (true), or is empty again (false). */
  void (*on_blocked)(void *user, bool blocked);
  /* The channel ended, |why| names the reason; the raw connection is closed. Nothing follows. */
  void (*on_end)(void *user, int status, const char *why);
} pu_channel_events;

typedef struct pu_channel_config {
  pu_mem *mem;
  bool initiator;
  const pu_key *key;
  struct pu_tls_identity *tls; /* our certificate; NULL: no TLS */
  uint64_t now_unix_s;         /* for TLS; 0: unknown */
  /* Security protocols, best first: "/tls/1.0.0", "/noise"; only they are offered and accepted.
   * NULL: all that we can, TLS first where the machine has instructions for AES (as Go does), else
   * Noise. */
  const char *const *securities;
  size_t security_count;
  const pu_peer_id *expected; /* borrowed during the handshake; NULL or len 0: any */
  void (*random)(void *data, void *out, size_t len);
  void *random_data;
  size_t max_record; /* of pu_transport_conn; 0: none */
  const pu_channel_events *events;
  void *user;
} pu_channel_config;

typedef enum pu_channel_phase {
  PU_CHANNEL_SECURITY, /* multistream: which security protocol */
  PU_CHANNEL_HANDSHAKE,
  PU_CHANNEL_MUXER, /* multistream inside: which muxer */
  PU_CHANNEL_OPEN,
  PU_CHANNEL_ENDED
} pu_channel_phase;

typedef struct pu_channel {
  pu_channel_config config;
  pu_raw *raw;
  pu_channel_phase phase;
  const char *securities[PU_CHANNEL_SECURITIES_MAX]; /* offered or accepted */
  size_t security_count;
  pu_multistream *negotiation; /* while it runs */
  const pu_security_ops *security_ops;
  pu_security *security;
  const char *muxer;
  /* reading: the beginning of a record that is not complete, with room around */
  uint8_t *carry;
  size_t carry_len, carry_size; /* carry_size: of the whole record; 0: not known yet */
  /* writing */
  pu_fifo tx;
  pu_iov iovs[PU_CHANNEL_IOVS];
  size_t iov_count, iov_bytes;
  bool borrowing; /* some of them lie in memory of others */
  uint8_t *arena;
  size_t arena_used;
  unsigned cork;
  bool
      raw_corked; /* so is the raw connection, once, whatever comes back into here while flushing */
  bool blocked;
  bool ending;
  uint64_t bytes_in, bytes_out; /* of the raw connection */
} pu_channel;

/* pu_channel_start takes |raw| over (also when it fails) and begins. */
PU_MUST_CHECK int pu_channel_start(pu_channel *c, const pu_channel_config *config, pu_raw *raw);
/* pu_channel_stop closes the raw connection and frees what the channel holds; no event follows. May
 * be called at any time, also from an event; the struct's memory must outlive the event. */
void pu_channel_stop(pu_channel *c, bool abort);
/* pu_channel_max_plain: most bytes that one record carries. */
size_t pu_channel_max_plain(const pu_channel *c);
/* pu_channel_send seals and sends |frame|. With |borrowed| its memory stays valid until the channel
 * is uncorked; else it is written or copied at once. A negative return means that the channel
 * ended. */
PU_MUST_CHECK int pu_channel_send(pu_channel *c, pu_span *frame, bool borrowed);
/* pu_channel_flush sends what is gathered of borrowed memory, whatever corks there are: its owner
 * wants it back. */
void pu_channel_flush(pu_channel *c);
/* pu_channel_cork and _uncork nest; the last uncork flushes. */
void pu_channel_cork(pu_channel *c);
void pu_channel_uncork(pu_channel *c);

#endif
