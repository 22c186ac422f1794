#include "base/pb.h"

#include "support/unit.h"

static void arena_is_bounded(void **state) {
  (void)state;
  pu_mem mem;
  pu_pb_arena a;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_pb_arena_init(&a, &mem, 5000);
  void *data = a.allocator.allocator_data;
  size_t total = 0;
  for (size_t i = 0; i < 1000; i++) {
    uint8_t *p = a.allocator.alloc(data, 100);
    if (p == NULL)
      break;
    assert_int_equal((uintptr_t)p % 16, 0);
    memset(p, 0xaa, 100);
    a.allocator.free(data, p);
    total += 100;
  }
  assert_true(total > 3000 && total < 5000);
  assert_true(mem.used <= 5000 + 16 * 8);
  assert_null(a.allocator.alloc(data, SIZE_MAX));
  assert_null(a.allocator.alloc(data, SIZE_MAX - 40));
  pu_pb_arena_free(&a);
  pu_pb_arena_free(&a);
  assert_null(a.allocator.alloc(data, 1));
  pu_pb_arena_init(&a, &mem, 5000);
  pu_mem_fail_at(&mem, 1);
  assert_null(a.allocator.alloc(a.allocator.allocator_data, 10));
  assert_non_null(a.allocator.alloc(a.allocator.allocator_data, 4000));
  assert_null(a.allocator.alloc(a.allocator.allocator_data, 1500));
  pu_pb_arena_free(&a);
  pu_mem_deinit(&mem);
}

static void fixed_arena(void **state) {
  (void)state;
  uint8_t room[256];
  pu_pb_arena a;
  pu_pb_arena_init_fixed(&a, room + 1, 200);
  uint8_t *p = a.allocator.alloc(&a, 100);
  assert_non_null(p);
  assert_true(p > room && p + 100 <= room + 201);
  assert_non_null(a.allocator.alloc(&a, 0));
  assert_null(a.allocator.alloc(&a, 100));
  pu_pb_arena_free(&a);
  pu_pb_arena_init_fixed(&a, room + 1, 1);
  assert_null(a.allocator.alloc(&a, 1));
}

static void delimited(void **state) {
  (void)state;
  const uint8_t *msg = NULL;
  size_t len = 0;
  static const uint8_t in[] = {0x03, 'a', 'b', 'c', 'd'};
  for (size_t n = 0; n < 4; n++)
    assert_int_equal(pu_pb_delimited(in, n, 3, &msg, &len), 0);
  assert_null(msg);
  assert_int_equal(pu_pb_delimited(in, sizeof(in), 3, &msg, &len), 4);
  assert_ptr_equal(msg, in + 1);
  assert_int_equal(len, 3);
  assert_int_equal(pu_pb_delimited(in, 1, 2, &msg, &len), PU_E_LIMIT);
  assert_int_equal(pu_pb_delimited((const uint8_t *)"\x83\0abc", 5, 9, &msg, &len), PU_E_PARSE);
  assert_int_equal(pu_pb_delimited((const uint8_t *)"\0", 1, 9, &msg, &len), 1);
  assert_int_equal(len, 0);
  assert_int_equal(pu_pb_delimited((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 9,
                                   SIZE_MAX, &msg, &len),
                   0);
}

static void fields(void **state) {
  (void)state;
  uint8_t bytes[128];
  size_t left = unhex("08ffffffffffffffffff01" /* 1: 2^64-1 */
                      "8a000161"               /* 1, tag in a loose form: "a" */
                      "1900000000000000ff"     /* 3: fixed64 */
                      "2507000000"             /* 4: fixed32 */
                      "7a00",                  /* 15: "" */
                      bytes, sizeof(bytes));
  const uint8_t *in = bytes;
  size_t all = left;
  pu_pb_field f;
  assert_int_equal(pu_pb_next(&in, &left, &f), 1);
  assert_true(f.number == 1 && f.wire == PU_PB_VARINT && f.value == UINT64_MAX);
  assert_int_equal(pu_pb_next(&in, &left, &f), 1);
  assert_true(f.number == 1 && f.wire == PU_PB_BYTES && f.len == 1 && f.data[0] == 'a');
  assert_int_equal(pu_pb_next(&in, &left, &f), 1);
  assert_true(f.number == 3 && f.wire == PU_PB_FIXED64 && f.value == UINT64_C(0xff) << 56);
  assert_int_equal(pu_pb_next(&in, &left, &f), 1);
  assert_true(f.number == 4 && f.wire == PU_PB_FIXED32 && f.value == 7);
  assert_int_equal(pu_pb_next(&in, &left, &f), 1);
  assert_true(f.number == 15 && f.wire == PU_PB_BYTES && f.len == 0);
  assert_int_equal(pu_pb_next(&in, &left, &f), 0);
  assert_ptr_equal(in, bytes + all);
  static const char *const malformed[] = {
      "08",
      "00",
      "0a",
      "0a02",
      "0a0261",
      "0980",
      "0d00",
      "0bff",
      "0c",
      "0e00",
      "0f00",
      "0aff",
      "08ffffffffffffffffffff01",
      "0affffffffffffffffff0161",
      "8080808080808080808001",
      "ffffffffff0f00",
  };
  for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
    left = unhex(malformed[i], bytes, sizeof(bytes));
    in = bytes;
    if (pu_pb_next(&in, &left, &f) != PU_E_PARSE)
      fail_msg("accepted: %s", malformed[i]);
    assert_ptr_equal(in, bytes);
  }
}

static void writes(void **state) {
  (void)state;
  uint8_t out[16];
  assert_int_equal(pu_pb_put_varint(out, UINT64_MAX), 10);
  assert_int_equal(pu_pb_varint_size(UINT64_MAX), 10);
  assert_memory_equal(out, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
  assert_int_equal(pu_pb_bytes_size(3), 5);
  assert_int_equal(pu_pb_put_bytes(out, 5, "abc", 3), 5);
  assert_memory_equal(out,
                      "\x2a\x03"
                      "abc",
                      5);
  assert_int_equal(pu_pb_put_bytes(out, 1, NULL, 0), 2);
}

/* A message without fields but with an unknown one, so that packing has something to write. */
static void packs(void **state) {
  (void)state;
  static const ProtobufCMessageDescriptor descriptor = {.magic =
                                                            PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
                                                        .name = "Empty",
                                                        .sizeof_message = sizeof(ProtobufCMessage)};
  uint8_t data[] = {2, 'h', 'i'};
  ProtobufCMessageUnknownField field = {
      .tag = 1, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = 3, .data = data};
  ProtobufCMessage m = {.descriptor = &descriptor, .n_unknown_fields = 1, .unknown_fields = &field};
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  uint8_t *out = NULL;
  size_t len = 0;
  assert_int_equal(pu_pb_pack(&mem, &m, &out, &len), 0);
  assert_int_equal(len, 4);
  assert_memory_equal(out, "\x0a\x02hi", 4);
  pu_free(out);
  assert_int_equal(pu_pb_pack_delimited(&mem, &m, &out, &len), 0);
  assert_int_equal(len, 5);
  assert_memory_equal(out, "\x04\x0a\x02hi", 5);
  pu_free(out);
  out = NULL;
  pu_mem_fail_at(&mem, 1);
  assert_int_equal(pu_pb_pack_delimited(&mem, &m, &out, &len), PU_E_NOMEM);
  assert_null(out);
  pu_mem_deinit(&mem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(arena_is_bounded), cmocka_unit_test(fixed_arena),
      cmocka_unit_test(delimited),        cmocka_unit_test(fields),
      cmocka_unit_test(writes),           cmocka_unit_test(packs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
