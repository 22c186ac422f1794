/* multistream-select 1.0 (wire 5): a core for both sides, no I/O, no clock. The caller keeps the
 * deadline (PU_MULTISTREAM_TIMEOUT_US). It never reads ahead: bytes behind the accepted offer stay
 * with the caller. */
#ifndef PU_NEGOTIATE_MULTISTREAM_H
#define PU_NEGOTIATE_MULTISTREAM_H

#include "peerup/defs.h"
#include "peerup/error.h"

#define PU_MULTISTREAM_MAX_TOKEN 1024 /* length byte's value, newline included */
#define PU_MULTISTREAM_TIMEOUT_US (10u * 1000000u)
/* Refused offers taken from a dialler before the negotiation fails: the specification has no bound,
 * a stranger must have one. */
#define PU_MULTISTREAM_MAX_OFFERS 64

typedef enum pu_multistream_state {
  PU_MS_RUNNING,
  PU_MS_DONE,  /* an offer was accepted; pu_multistream_protocol tells which */
  PU_MS_FAILED /* everything was refused: PU_E_UNSUPPORTED */
} pu_multistream_state;

/* pu_multistream_match says for the listening side whether |offer| is spoken here; it returns the
 * name to report (it must outlive the negotiation) or NULL. |offer| is not ended by a NUL. */
typedef const char *(*pu_multistream_match)(void *data, const char *offer, size_t len);

typedef struct pu_multistream {
  bool dialer, lazy;
  uint8_t phase;
  pu_multistream_state state;
  const char *const *offers; /* dialler: names in order, outlive the negotiation */
  size_t offer_count, offer;
  pu_multistream_match match;
  void *match_data;
  const char *protocol;
  uint16_t refused;
  uint8_t pending; /* what is still to be written: see multistream.c */
  uint16_t in_len, out_pos;
  uint8_t in[PU_MULTISTREAM_MAX_TOKEN + 2];
} pu_multistream;

/* pu_multistream_dial starts the dialling side. |lazy| (one offer only): the negotiation counts as
 * done for writing at once, data may follow in the same write, and the answers are checked as they
 * come (pu_multistream_read fails with PU_E_UNSUPPORTED on "na"). */
void pu_multistream_dial(pu_multistream *m, const char *const *offers, size_t count, bool lazy);
/* pu_multistream_listen starts the listening side; its header goes out without waiting. */
void pu_multistream_listen(pu_multistream *m, pu_multistream_match match, void *data);
/* pu_multistream_read takes bytes, returns how many it used: all, or fewer once done or while an
 * offer or answer waits to be written (then write until pu_multistream_write gives 0, and read
 * again: that is what bounds the output). PU_E_PROTOCOL on a wrong header or token,
 * PU_E_UNSUPPORTED when every offer was refused, PU_E_LIMIT; PU_E_CLOSED after any of them. */
PU_MUST_CHECK ssize_t pu_multistream_read(pu_multistream *m, const uint8_t *in, size_t len);
/* pu_multistream_write gives bytes to send, 0 when it has none now. A lazy dialler's stream may be
 * closed for our answer already; its data still counts, so a caller whose write fails drops what
 * this gives and goes on. */
size_t pu_multistream_write(pu_multistream *m, uint8_t *out, size_t cap);
/* pu_multistream_state_of: DONE once the offer is accepted and (listener) its echo was written. */
pu_multistream_state pu_multistream_state_of(const pu_multistream *m);
/* pu_multistream_protocol returns the accepted name, NULL before. */
const char *pu_multistream_protocol(const pu_multistream *m);
/* pu_multistream_token writes one token; returns its bytes, 0 when it is too long or |cap| short.
 * pu_multistream_parse reads one: bytes used, 0 for more, PU_E_PROTOCOL. Both are for tests and
 * vectors too. */
size_t pu_multistream_token(uint8_t *out, size_t cap, const char *text, size_t len);
PU_MUST_CHECK ssize_t pu_multistream_parse(const uint8_t *in, size_t len, const char **text,
                                           size_t *text_len);

#endif
