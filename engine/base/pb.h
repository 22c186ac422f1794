/* Helpers around protobuf-c: a bounded allocator for messages read from a peer, and the delimited
 * framing of wire 1.2. Generated code of a layer comes from peerup_proto() in
 * engine/CMakeLists.txt.
 *
 * Inside a message numbers follow protobuf's loose rules (protobuf-c's business); the length in
 * front of one is a strict multiformats varint (wire 1.1). */
#ifndef PU_BASE_PB_H
#define PU_BASE_PB_H

#include <protobuf-c/protobuf-c.h>

#include "base/mem.h"

typedef struct pu_pb_block pu_pb_block;

/* All memory of one unpacked message. Give |allocator| to the generated unpack functions; free the
 * message by freeing the arena (free_unpacked is harmless, and not needed). Owned by whoever
 * initialised it; it may not be copied. */
typedef struct pu_pb_arena {
  ProtobufCAllocator allocator;
  pu_mem *mem;         /* NULL: only the memory given to pu_pb_arena_init_fixed */
  size_t left;         /* bytes it may still take */
  uint8_t *at, *end;   /* free part of the newest block */
  pu_pb_block *blocks; /* taken from |mem| */
} pu_pb_arena;

/* pu_pb_arena_init makes an arena that takes at most |max_bytes| from |mem|. A message's size is a
 * fair bound for its bytes, yet each field of one or two bytes may cost up to 100 in memory. */
void pu_pb_arena_init(pu_pb_arena *a, pu_mem *mem, size_t max_bytes);
/* pu_pb_arena_init_fixed makes one that lives in |size| bytes at |memory|, for small messages on
 * the stack. */
void pu_pb_arena_init_fixed(pu_pb_arena *a, void *memory, size_t size);
/* pu_pb_arena_free wipes and gives back everything; a second call is harmless. */
void pu_pb_arena_free(pu_pb_arena *a);

/* pu_pb_delimited finds one message behind its length: returns the bytes used (length included)
 * and points |*msg| into |in|; 0 when more bytes are needed; PU_E_PARSE for a bad length,
 * PU_E_LIMIT for one above |max|, as soon as it is seen. */
PU_MUST_CHECK ssize_t pu_pb_delimited(const uint8_t *in, size_t len, size_t max,
                                      const uint8_t **msg, size_t *msg_len);
/* One field of a message, borrowed from its bytes. Reading field by field takes no memory at all,
 * which suits small messages whose parts are only looked at: keys, envelopes, records. */
typedef struct pu_pb_field {
  uint32_t number;
  enum { PU_PB_VARINT = 0, PU_PB_FIXED64 = 1, PU_PB_BYTES = 2, PU_PB_FIXED32 = 5 } wire;
  uint64_t value;      /* of numbers */
  const uint8_t *data; /* of PU_PB_BYTES */
  size_t len;
} pu_pb_field;

#define PU_PB_VARINT_MAX_BYTES 10

/* pu_pb_next reads the field at |*in| and moves both on: 1, 0 at the end, PU_E_PARSE. Groups are
 * refused: nothing in use has them. Callers skip fields whose number or wire type they do not
 * expect, and let the last of a repeated scalar win, as Go does. */
PU_MUST_CHECK int pu_pb_next(const uint8_t **in, size_t *len, pu_pb_field *out);
/* pu_pb_varint_size and pu_pb_put_varint write numbers of messages, over all 64 bits. */
size_t pu_pb_varint_size(uint64_t value);
size_t pu_pb_put_varint(uint8_t *out, uint64_t value);
/* pu_pb_bytes_size and pu_pb_put_bytes write a field of bytes; |number| is below 16. */
size_t pu_pb_bytes_size(size_t len);
size_t pu_pb_put_bytes(uint8_t *out, unsigned number, const void *data, size_t len);

/* pu_pb_pack writes |m| into fresh memory of |mem|; PU_E_NOMEM. */
PU_MUST_CHECK int pu_pb_pack(pu_mem *mem, const ProtobufCMessage *m, uint8_t **out,
                             size_t *out_len);
/* pu_pb_pack_delimited writes |m| behind its length into fresh memory of |mem|; PU_E_NOMEM. */
PU_MUST_CHECK int pu_pb_pack_delimited(pu_mem *mem, const ProtobufCMessage *m, uint8_t **out,
                                       size_t *out_len);

#endif
