/* Helpers around protobuf-c (wire 1.2), see pb.h. */
#include "base/pb.h"

#include <string.h>

#include "base/varint.h"
#include "peerup/error.h"
#include "platform/assert.h"

/* Block size: most messages fit into one. */
#define BLOCK_BYTES 1024
#define ALIGN 16

struct pu_pb_block {
  pu_pb_block *next;
  size_t size;
};
#define BLOCK_HEADER ((sizeof(pu_pb_block) + ALIGN - 1) / ALIGN * ALIGN)

/* arena_alloc hands out the next bytes of the newest block; a block is opened when that is full. */
static void *arena_alloc(void *data, size_t size) {
  pu_pb_arena *a = data;
  if (size > SIZE_MAX - BLOCK_HEADER - ALIGN)
    return NULL;
  size = size == 0 ? ALIGN : (size + ALIGN - 1) / ALIGN * ALIGN;
  if (a->at == NULL || (size_t)(a->end - a->at) < size) {
    if (a->mem == NULL)
      return NULL;
    size_t want = BLOCK_HEADER + size;
    if (want > a->left)
      return NULL;
    size_t full = want > BLOCK_BYTES ? want : BLOCK_BYTES;
    if (full > a->left)
      full = a->left;
    pu_pb_block *b = pu_alloc(a->mem, full);
    if (b == NULL)
      return NULL;
    *b = (pu_pb_block){.next = a->blocks, .size = full};
    a->blocks = b;
    a->left -= full;
    a->at = (uint8_t *)b + BLOCK_HEADER;
    a->end = (uint8_t *)b + full;
  }
  void *p = a->at;
  a->at += size;
  return p;
}

/* arena_release does nothing: an arena lives as long as its message. */
static void arena_release(void *data, void *p) {
  (void)data;
  (void)p;
}

void pu_pb_arena_init(pu_pb_arena *a, pu_mem *mem, size_t max_bytes) {
  *a = (pu_pb_arena){.mem = mem, .left = max_bytes};
  a->allocator =
      (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_release, .allocator_data = a};
}

void pu_pb_arena_init_fixed(pu_pb_arena *a, void *memory, size_t size) {
  pu_pb_arena_init(a, NULL, 0);
  size_t skip = (ALIGN - (uintptr_t)memory % ALIGN) % ALIGN;
  if (size <= skip)
    return;
  a->at = (uint8_t *)memory + skip;
  a->end = (uint8_t *)memory + size;
}

void pu_pb_arena_free(pu_pb_arena *a) {
  while (a->blocks != NULL) {
    pu_pb_block *next = a->blocks->next;
    pu_free_secret(a->blocks);
    a->blocks = next;
  }
  a->at = a->end = NULL;
  a->left = 0;
}

ssize_t pu_pb_delimited(const uint8_t *in, size_t len, size_t max, const uint8_t **msg,
                        size_t *msg_len) {
  uint64_t size;
  ssize_t used = pu_varint_get(in, len, &size);
  if (used <= 0)
    return used;
  if (size > max)
    return PU_E_LIMIT;
  if (size > len - (size_t)used)
    return 0;
  *msg = in + used;
  *msg_len = (size_t)size;
  return used + (ssize_t)size;
}

/* get_varint reads a number by protobuf's rules: up to ten bytes, longer forms than needed are
 * fine, bits above 64 are lost. Returns the bytes used, 0 when there is none. */
static size_t get_varint(const uint8_t *in, size_t len, uint64_t *value) {
  uint64_t sum = 0;
  for (size_t i = 0; i < len && i < PU_PB_VARINT_MAX_BYTES; i++) {
    sum |= (uint64_t)(in[i] & 0x7f) << (7 * i);
    if ((in[i] & 0x80) == 0) {
      *value = sum;
      return i + 1;
    }
  }
  return 0;
}

static uint64_t get_little_endian(const uint8_t *in, size_t n) {
  uint64_t sum = 0;
  for (size_t i = n; i > 0; i--)
    sum = sum << 8 | in[i - 1];
  return sum;
}

int pu_pb_next(const uint8_t **in, size_t *len, pu_pb_field *out) {
  if (*len == 0)
    return 0;
  const uint8_t *at = *in;
  size_t left = *len;
  uint64_t tag;
  size_t n = get_varint(at, left, &tag);
  if (n == 0 || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
    return PU_E_PARSE;
  at += n;
  left -= n;
  pu_pb_field f = {.number = (uint32_t)(tag >> 3)};
  switch (tag & 7) {
  case PU_PB_VARINT:
    f.wire = PU_PB_VARINT;
    n = get_varint(at, left, &f.value);
    if (n == 0)
      return PU_E_PARSE;
    break;
  case PU_PB_FIXED64:
  case PU_PB_FIXED32:
    f.wire = (tag & 7) == PU_PB_FIXED64 ? PU_PB_FIXED64 : PU_PB_FIXED32;
    n = f.wire == PU_PB_FIXED64 ? 8 : 4;
    if (left < n)
      return PU_E_PARSE;
    f.value = get_little_endian(at, n);
    break;
  case PU_PB_BYTES: {
    f.wire = PU_PB_BYTES;
    uint64_t size;
    n = get_varint(at, left, &size);
    if (n == 0 || size > left - n)
      return PU_E_PARSE;
    f.data = at + n;
    f.len = (size_t)size;
    n += f.len;
    break;
  }
  default:
    return PU_E_PARSE;
  }
  *in = at + n;
  *len = left - n;
  *out = f;
  return 1;
}

size_t pu_pb_varint_size(uint64_t value) {
  return pu_varint_size(value);
}

size_t pu_pb_put_varint(uint8_t *out, uint64_t value) {
  size_t n = 0;
  for (; value >= 0x80; value >>= 7)
    out[n++] = (uint8_t)(value | 0x80);
  out[n++] = (uint8_t)value;
  return n;
}

size_t pu_pb_bytes_size(size_t len) {
  return 1 + pu_varint_size(len) + len;
}

size_t pu_pb_put_bytes(uint8_t *out, unsigned number, const void *data, size_t len) {
  PU_ASSERT(number > 0 && number < 16);
  out[0] = (uint8_t)(number << 3 | PU_PB_BYTES);
  size_t n = 1 + pu_varint_put(out + 1, len);
  if (len > 0)
    memcpy(out + n, data, len);
  return n + len;
}

static int pack(pu_mem *mem, const ProtobufCMessage *m, bool delimited, uint8_t **out,
                size_t *out_len) {
  size_t size = protobuf_c_message_get_packed_size(m);
  size_t head = delimited ? pu_varint_size(size) : 0;
  uint8_t *bytes = pu_alloc(mem, head + size);
  if (bytes == NULL)
    return PU_E_NOMEM;
  if (delimited)
    (void)pu_varint_put(bytes, size);
  (void)protobuf_c_message_pack(m, bytes + head);
  *out = bytes;
  *out_len = head + size;
  return 0;
}

int pu_pb_pack(pu_mem *mem, const ProtobufCMessage *m, uint8_t **out, size_t *out_len) {
  return pack(mem, m, false, out, out_len);
}

int pu_pb_pack_delimited(pu_mem *mem, const ProtobufCMessage *m, uint8_t **out, size_t *out_len) {
  return pack(mem, m, true, out, out_len);
}
