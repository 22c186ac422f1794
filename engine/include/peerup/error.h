/* Error codes of the engine: each once, with its number, its name in Lua and JSON, and the
 * sentence a person reads. Functions return 0 (or a count) when good and a negative PU_E_* when
 * not. pu_error adds, at the API's edge, which peer, address or limit it was about. */
#ifndef PEERUP_ERROR_H
#define PEERUP_ERROR_H

#include "peerup/defs.h"

/* XX(NAME, number, "name", "sentence") */
#define PU_ERROR_MAP(XX)                                                                          \
  XX(NOMEM, -1, "no_memory", "out of memory")                                                     \
  XX(INVAL, -2, "invalid", "invalid argument")                                                    \
  XX(PARSE, -3, "malformed", "malformed data")                                                    \
  XX(AGAIN, -4, "again", "not ready yet")                                                         \
  XX(EOF, -5, "eof", "end of stream")                                                             \
  XX(CLOSED, -6, "closed", "already closed")                                                      \
  XX(CANCELED, -7, "canceled", "canceled")                                                        \
  XX(TIMEOUT, -8, "timeout", "timed out")                                                         \
  XX(DENIED, -9, "denied", "denied by policy")                                                    \
  XX(LIMIT, -10, "limit", "a limit was reached")                                                  \
  XX(PROTOCOL, -11, "protocol_error", "the peer broke the protocol")                              \
  XX(UNSUPPORTED, -12, "unsupported", "not supported by the peer")                                \
  XX(CRYPTO, -13, "crypto_failed", "a cryptographic check failed")                                \
  XX(PEER_MISMATCH, -14, "peer_mismatch", "a different peer answered")                            \
  XX(NO_ADDRESS, -15, "no_address", "no usable address is known")                                 \
  XX(UNREACHABLE, -16, "unreachable", "cannot be reached")                                        \
  XX(REFUSED, -17, "connection_refused", "connection refused")                                    \
  XX(RESET, -18, "reset", "reset by the other side")                                              \
  XX(IN_USE, -19, "address_in_use", "address already in use")                                     \
  XX(PERMISSION, -20, "permission", "permission denied by the system")                            \
  XX(NOT_FOUND, -21, "not_found", "not found")                                                    \
  XX(EXISTS, -22, "exists", "already exists")                                                     \
  XX(IO, -23, "io_error", "input or output failed")                                               \
  XX(RELAY_REFUSED, -24, "relay_refused", "the relay refused")                                    \
  XX(RELAY_LIMIT, -25, "relay_limit", "a limit of the relay was reached")                         \
  XX(NO_RESERVATION, -26, "no_reservation", "the peer holds no reservation at the relay")         \
  XX(NO_STREAMS, -27, "no_streams", "no further stream can be opened now")                        \
  XX(BACKOFF, -28, "backoff", "failed a moment ago, not tried again yet")                         \
  XX(KEY_MODE, -29, "key_mode", "the file can be read by others")                                 \
  XX(GONE, -30, "gone", "the connection is gone")                                                 \
  XX(LIMITED_CONN, -31, "limited_connection", "only a relayed connection with limits exists")      \
  XX(TOO_BIG, -32, "too_big", "too long to be sent in one piece")

typedef enum pu_error_code {
  PU_OK = 0,
#define XX(name, number, text, sentence) PU_E_##name = number,
  PU_ERROR_MAP(XX)
#undef XX
} pu_error_code;

/* Detail beside a code. Filled by the public API and by completions; |detail| is "" or one
 * sentence without a final period that names what it was about ("relay /ip4/... answered ...").
 * It never holds a secret. */
typedef struct pu_error {
  int code;
  char detail[256];
} pu_error;

/* pu_error_name returns the stable name of |code| ("relay_limit"), "unknown" for others. */
PU_API const char *pu_error_name(int code);

/* pu_error_sentence returns the sentence of |code| for a person. */
PU_API const char *pu_error_sentence(int code);

/* pu_error_set fills |err| (may be NULL) with |code| and a formatted detail, and returns |code|, so
 * that a function can end with `return pu_error_set(err, PU_E_X, "...")`. */
PU_API int pu_error_set(pu_error *err, int code, const char *format, ...) PU_PRINTF(3, 4);

#endif
