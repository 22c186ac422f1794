/* The header of a WebSocket frame (RFC 6455, 5.2), read and written by wslay. Only headers go through the
 * library: it copies and masks payloads byte by byte, which would cost more than encrypting them. */
#ifndef PU_TRANSPORT_WS_FRAME_H
#define PU_TRANSPORT_WS_FRAME_H

#include "peerup/defs.h"
#include "peerup/error.h"

#define PU_WS_HEAD_MAX 14u    /* longest header */
#define PU_WS_CONTROL_MAX 125u /* longest payload of a control frame */

typedef enum pu_ws_opcode {
  PU_WS_CONTINUATION = 0, PU_WS_TEXT = 1, PU_WS_BINARY = 2, PU_WS_CLOSE = 8, PU_WS_PING = 9,
  PU_WS_PONG = 10
} pu_ws_opcode;

typedef struct pu_ws_frame {
  uint8_t opcode;
  bool fin, masked;
  uint8_t mask[4];
  uint64_t len; /* of the payload, below 2^63 */
} pu_ws_frame;

/* pu_ws_frame_read reads the header in front of |in|: returns its bytes, 0 when it is not complete,
 * PU_E_PROTOCOL (reserved bits or opcodes, a length in a longer form than needed, a control frame that is
 * fragmented or long), PU_E_NOMEM. */
PU_MUST_CHECK ssize_t pu_ws_frame_read(const uint8_t *in, size_t len, pu_ws_frame *out);
/* pu_ws_frame_write writes the header of |f|; returns its bytes, PU_E_NOMEM. */
PU_MUST_CHECK ssize_t pu_ws_frame_write(const pu_ws_frame *f, uint8_t out[static PU_WS_HEAD_MAX]);
/* pu_ws_mask masks or unmasks |len| bytes, the first of which is byte |at| of the payload. |out| may be
 * |in|. */
void pu_ws_mask(uint8_t *out, const uint8_t *in, size_t len, const uint8_t mask[static 4], uint64_t at);

#endif
