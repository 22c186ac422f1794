/* Headers of WebSocket frames; see ws_frame.h. A context of the library follows a frame to its end,
 * and ours never sees more than the header: each gets a fresh one, which costs less than a system
 * call by far. */
#include "transport/ws_frame.h"

#include <string.h>
#include <wslay/wslay.h>

typedef struct memory {
  uint8_t bytes[PU_WS_HEAD_MAX + 1];
  size_t len, pos;
  const uint8_t *mask;
} memory;

static ssize_t on_recv(uint8_t *buf, size_t len, int flags, void *data) {
  memory *m = data;
  (void)flags;
  if (len > m->len - m->pos)
    len = m->len - m->pos;
  if (len == 0)
    return -1;
  memcpy(buf, m->bytes + m->pos, len);
  m->pos += len;
  return (ssize_t)len;
}

static ssize_t on_send(const uint8_t *bytes, size_t len, int flags, void *data) {
  memory *m = data;
  (void)flags;
  if (len > PU_WS_HEAD_MAX - m->len)
    return -1;
  memcpy(m->bytes + m->len, bytes, len);
  m->len += len;
  return (ssize_t)len;
}

static int on_mask(uint8_t *buf, size_t len, void *data) {
  const memory *m = data;
  if (len != 4)
    return -1;
  memcpy(buf, m->mask, 4);
  return 0;
}

static const struct wslay_frame_callbacks callbacks = {on_send, on_recv, on_mask};

static bool is_known(uint8_t opcode) {
  return opcode <= PU_WS_BINARY || (opcode >= PU_WS_CLOSE && opcode <= PU_WS_PONG);
}

ssize_t pu_ws_frame_read(const uint8_t *in, size_t len, pu_ws_frame *out) {
  struct wslay_frame_iocb io = {0};
  wslay_frame_context_ptr ctx;
  memory m = {.len = 2};
  if (len < 2)
    return 0;
  const bool masked = (in[1] & 0x80) != 0;
  const uint8_t short_len = in[1] & 0x7f;
  m.len += (short_len == 126 ? 2u : short_len == 127 ? 8u : 0u) + (masked ? 4u : 0u);
  if (len < m.len)
    return 0;
  const size_t head = m.len;
  memcpy(m.bytes, in, head);
  m.len++; /* the library tells of a frame once it has seen a byte of its payload: any will do */
  if (wslay_frame_context_init(&ctx, &callbacks, &m) != 0)
    return PU_E_NOMEM;
  const ssize_t n = wslay_frame_recv(ctx, &io);
  wslay_frame_context_free(ctx);
  if (n < 0 || io.rsv != 0 || !is_known(io.opcode))
    return PU_E_PROTOCOL;
  *out = (pu_ws_frame){
      .opcode = io.opcode, .fin = io.fin != 0, .masked = masked, .len = io.payload_length};
  if (masked)
    memcpy(out->mask, in + head - 4, 4);
  return (ssize_t)head;
}

ssize_t pu_ws_frame_write(const pu_ws_frame *f, uint8_t out[static PU_WS_HEAD_MAX]) {
  struct wslay_frame_iocb io = {
      .fin = f->fin, .opcode = f->opcode, .mask = f->masked, .payload_length = f->len};
  wslay_frame_context_ptr ctx;
  memory m = {.mask = f->mask};
  if (wslay_frame_context_init(&ctx, &callbacks, &m) != 0)
    return PU_E_NOMEM;
  const ssize_t n = wslay_frame_send(ctx, &io);
  wslay_frame_context_free(ctx);
  if (n < 0)
    return PU_E_INVAL;
  memcpy(out, m.bytes, m.len);
  return (ssize_t)m.len;
}

void pu_ws_mask(uint8_t *out, const uint8_t *in, size_t len, const uint8_t mask[static 4],
                uint64_t at) {
  uint8_t turned[8];
  uint64_t wide;
  size_t i = 0;
  for (size_t k = 0; k < sizeof turned; k++)
    turned[k] = mask[(at + k) & 3];
  memcpy(&wide, turned, sizeof wide);
  for (; len - i >= sizeof wide; i += sizeof wide) {
    uint64_t word;
    memcpy(&word, in + i, sizeof word);
    word ^= wide;
    memcpy(out + i, &word, sizeof word);
  }
  for (; i < len; i++)
    out[i] = in[i] ^ turned[i & 7];
}
