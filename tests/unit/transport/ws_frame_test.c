/* Headers of WebSocket frames: those of RFC 6455's examples, what is refused, and masking. */
#include "transport/ws_frame.h"

#include "platform/assert.h"
#include "support/unit.h"

typedef struct vector {
  const char *hex;
  int n; /* what reading returns */
  uint8_t opcode;
  bool fin, masked;
  uint64_t len;
} vector;

static const vector vectors[] = {
    /* RFC 6455, 5.7 */
    {"8105", 2, PU_WS_TEXT, true, false, 5},
    {"818537fa213d", 6, PU_WS_TEXT, true, true, 5},
    {"0103", 2, PU_WS_TEXT, false, false, 3},
    {"8002", 2, PU_WS_CONTINUATION, true, false, 2},
    {"8905", 2, PU_WS_PING, true, false, 5},
    {"8a8537fa213d", 6, PU_WS_PONG, true, true, 5},
    {"827e0100", 4, PU_WS_BINARY, true, false, 256},
    {"827f0000000000010000", 10, PU_WS_BINARY, true, false, 65536},
    /* the edges of each form */
    {"8200", 2, PU_WS_BINARY, true, false, 0},
    {"828000000000", 6, PU_WS_BINARY, true, true, 0},
    {"827d", 2, PU_WS_BINARY, true, false, 125},
    {"827e007e", 4, PU_WS_BINARY, true, false, 126},
    {"827effff", 4, PU_WS_BINARY, true, false, 65535},
    {"827f7fffffffffffffff", 10, PU_WS_BINARY, true, false, INT64_MAX},
    {"82ff7fffffffffffffff01020304", 14, PU_WS_BINARY, true, true, INT64_MAX},
    {"887d", 2, PU_WS_CLOSE, true, false, 125},
    /* refused */
    {"827e007d", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"827f000000000000ffff", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"827f8000000000000000", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"c200", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"a200", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"9200", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"8300", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"8700", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"8b00", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"8f00", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"0900", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"0800", PU_E_PROTOCOL, 0, 0, 0, 0},
    {"897e007e", PU_E_PROTOCOL, 0, 0, 0, 0},
};

static void test_reading(void **state) {
  (void)state;
  for (size_t i = 0; i < PU_COUNT(vectors); i++) {
    const vector *v = &vectors[i];
    uint8_t bytes[PU_WS_HEAD_MAX + 4];
    pu_ws_frame f;
    const size_t len = unhex(v->hex, bytes, sizeof bytes);
    for (size_t n = 0; n < len; n++)
      assert_int_equal(pu_ws_frame_read(bytes, n, &f), 0);
    if (pu_ws_frame_read(bytes, len, &f) != v->n)
      fail_msg("%s", v->hex);
    if (v->n < 0)
      continue;
    assert_true(f.opcode == v->opcode && f.fin == v->fin && f.masked == v->masked);
    assert_int_equal(f.len, v->len);
    if (f.masked)
      assert_memory_equal(f.mask, bytes + len - 4, 4);
    /* Bytes behind do not matter. */
    memset(bytes + len, 0xff, 4);
    assert_int_equal(pu_ws_frame_read(bytes, len + 4, &f), v->n);
  }
}

static void test_writing(void **state) {
  (void)state;
  for (size_t i = 0; i < PU_COUNT(vectors) && vectors[i].n > 0; i++) {
    uint8_t want[PU_WS_HEAD_MAX], out[PU_WS_HEAD_MAX];
    pu_ws_frame f;
    const size_t len = unhex(vectors[i].hex, want, sizeof want);
    assert_int_equal(pu_ws_frame_read(want, len, &f), len);
    assert_int_equal(pu_ws_frame_write(&f, out), len);
    assert_memory_equal(out, want, len);
  }
}

static void test_masking(void **state) {
  (void)state;
  static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
  uint8_t bytes[64];
  pu_ws_mask(bytes, (const uint8_t *)"Hello", 5, mask, 0);
  assert_memory_equal(bytes, "\x7f\x9f\x4d\x51\x58", 5); /* RFC 6455, 5.7 */
  for (size_t at = 0; at < 9; at++) {
    for (size_t len = 0; len <= sizeof bytes; len++) {
      for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
      pu_ws_mask(bytes, bytes, len, mask, at);
      for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], i < len ? (uint8_t)i ^ mask[(at + i) % 4] : i);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reading),
      cmocka_unit_test(test_writing),
      cmocka_unit_test(test_masking),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
