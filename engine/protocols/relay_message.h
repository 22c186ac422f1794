/* Messages of circuit relay v2, hop and stop (wire 13): a core without I/O. Read in place, field by field,
 * so that a message takes no memory beyond its own bytes. */
#ifndef PU_PROTOCOLS_RELAY_MESSAGE_H
#define PU_PROTOCOLS_RELAY_MESSAGE_H

#include "base/mem.h"
#include "identity/peer_id.h"
#include "peerup/error.h"

#define PU_RELAY_HOP_ID "/libp2p/circuit/relay/0.2.0/hop"
#define PU_RELAY_STOP_ID "/libp2p/circuit/relay/0.2.0/stop"
#define PU_RELAY_MESSAGE_MAX 4096u
#define PU_RELAY_ADDRS_MAX 16u /* addresses of a reservation that are written or looked at */

/* Hop types; stop messages have CONNECT 0 and STATUS 1 on the wire, and these values here. */
typedef enum pu_relay_type { PU_RELAY_RESERVE, PU_RELAY_CONNECT, PU_RELAY_STATUS } pu_relay_type;

/* XX(NAME, number) */
#define PU_RELAY_STATUS_MAP(XX)                                                                    \
  XX(OK, 100)                                                                                      \
  XX(RESERVATION_REFUSED, 200)                                                                     \
  XX(RESOURCE_LIMIT_EXCEEDED, 201)                                                                 \
  XX(PERMISSION_DENIED, 202)                                                                       \
  XX(CONNECTION_FAILED, 203)                                                                       \
  XX(NO_RESERVATION, 204)                                                                          \
  XX(MALFORMED_MESSAGE, 400)                                                                       \
  XX(UNEXPECTED_MESSAGE, 401)

typedef enum pu_relay_status {
#define XX(name, number) PU_RELAY_##name = number,
  PU_RELAY_STATUS_MAP(XX)
#undef XX
} pu_relay_status;

typedef struct pu_relay_bytes {
  const uint8_t *data;
  size_t len;
} pu_relay_bytes;

typedef struct pu_relay_message {
  bool stop; /* which of the two protocols */
  uint32_t type;
  bool has_peer, has_reservation, has_limit, has_status;
  pu_relay_bytes peer; /* binary peer ID */
  uint64_t expire;     /* Unix seconds */
  pu_relay_bytes addrs[PU_RELAY_ADDRS_MAX];
  size_t addr_count;
  pu_relay_bytes voucher;
  uint32_t limit_duration_s;
  uint64_t limit_data_bytes;
  uint32_t status;
} pu_relay_message;

/* pu_relay_decode reads a message without its length; |out| borrows from |in|. PU_E_PARSE. */
PU_MUST_CHECK int pu_relay_decode(bool stop, const uint8_t *in, size_t len, pu_relay_message *out);
/* pu_relay_encode writes the message behind its length: bytes written, PU_E_LIMIT. */
PU_MUST_CHECK ssize_t pu_relay_encode(const pu_relay_message *m, uint8_t *out, size_t cap);
/* pu_relay_status_name gives "NO_RESERVATION" and so on, "unknown status" for others. */
const char *pu_relay_status_name(uint32_t status);
/* pu_relay_status_error maps a status that is not OK to PU_E_*. */
int pu_relay_status_error(uint32_t status);

/* A reader of one delimited message from a stream that turns raw behind it: it never takes a byte that is
 * not the message's. */
typedef struct pu_relay_reader {
  size_t len;  /* bytes kept */
  size_t size; /* of length and message; 0: not known yet */
  uint8_t bytes[PU_RELAY_MESSAGE_MAX + 2];
} pu_relay_reader;

/* pu_relay_reader_feed takes bytes: how many it took; |*done| when the message is whole. PU_E_PARSE,
 * PU_E_LIMIT. */
PU_MUST_CHECK ssize_t pu_relay_reader_feed(pu_relay_reader *r, const uint8_t *in, size_t len,
                                           bool *done);
/* pu_relay_reader_decode reads the whole message; |out| borrows from |r|. */
PU_MUST_CHECK int pu_relay_reader_decode(const pu_relay_reader *r, bool stop, pu_relay_message *out);

#endif
