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
/* pu_pb_pack writes |m| into fresh memory of |mem|; PU_E_NOMEM. */
PU_MUST_CHECK int pu_pb_pack(pu_mem *mem, const ProtobufCMessage *m, uint8_t **out,
                             size_t *out_len);
/* pu_pb_pack_delimited writes |m| behind its length into fresh memory of |mem|; PU_E_NOMEM. */
PU_MUST_CHECK int pu_pb_pack_delimited(pu_mem *mem, const ProtobufCMessage *m, uint8_t **out,
                                       size_t *out_len);

#endif
