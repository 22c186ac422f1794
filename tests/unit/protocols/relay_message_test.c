/* Messages of circuit relay v2: what is read and written, byte for byte, and what is refused.
 * Figures of other programs are in tests/vectors. */
#include "protocols/relay_message.h"

#include "support/unit.h"

static int decode_hex(bool stop, const char *hex, pu_relay_message *m) {
  static uint8_t bytes[PU_RELAY_MESSAGE_MAX];
  const size_t len = unhex(hex, bytes, sizeof(bytes));
  return pu_relay_decode(stop, bytes, len, m);
}

static void check_encoded(const pu_relay_message *m, const char *hex) {
  uint8_t out[PU_RELAY_MESSAGE_MAX + 2], want[PU_RELAY_MESSAGE_MAX + 2];
  const size_t len = unhex(hex, want, sizeof(want));
  assert_int_equal(pu_relay_encode(m, out, sizeof(out)), len);
  assert_memory_equal(out, want, len);
  if (len > 0) /* a byte less of room */
    assert_int_equal(pu_relay_encode(m, out, len - 1), PU_E_LIMIT);
}

/* ---- reading ---- */

static void test_types(void **state) {
  (void)state;
  pu_relay_message m;
  assert_int_equal(decode_hex(false, "0800", &m), 0);
  assert_int_equal(m.type, PU_RELAY_RESERVE);
  assert_false(m.has_peer || m.has_reservation || m.has_limit || m.has_status);
  assert_int_equal(decode_hex(false, "0801", &m), 0);
  assert_int_equal(m.type, PU_RELAY_CONNECT);
  assert_int_equal(decode_hex(true, "0800", &m), 0);
  assert_int_equal(m.type, PU_RELAY_CONNECT);
  assert_int_equal(decode_hex(true, "0801", &m), 0);
  assert_int_equal(m.type, PU_RELAY_STATUS);
  assert_int_equal(decode_hex(false, "", &m), 0); /* absent: the first */
  assert_int_equal(m.type, PU_RELAY_RESERVE);
  assert_int_equal(decode_hex(false, "0803", &m), 0); /* unknown: for the caller to refuse */
  assert_true(m.type > PU_RELAY_STATUS);
  assert_int_equal(decode_hex(false, "08000802", &m), 0); /* the last one counts */
  assert_int_equal(m.type, PU_RELAY_STATUS);
}

/* Where status and limit stand differs between the two protocols. */
static void test_fields(void **state) {
  (void)state;
  pu_relay_message m;
  assert_int_equal(decode_hex(false, "080228c801", &m), 0);
  assert_true(m.has_status);
  assert_int_equal(m.status, PU_RELAY_RESERVATION_REFUSED);
  assert_int_equal(decode_hex(true, "080120c801", &m), 0);
  assert_true(m.has_status);
  assert_int_equal(m.status, PU_RELAY_RESERVATION_REFUSED);
  assert_int_equal(decode_hex(true, "080128c801", &m), 0); /* hop's number */
  assert_false(m.has_status);
  assert_int_equal(decode_hex(false, "08012204087810010a00", &m), 0);
  assert_true(m.has_limit);
  assert_int_equal(m.limit_duration_s, 120);
  assert_int_equal(m.limit_data_bytes, 1);
  assert_int_equal(decode_hex(true, "08001a0408781001", &m), 0);
  assert_true(m.has_limit);
  assert_int_equal(decode_hex(true, "08001a00", &m), 0); /* a limit that limits nothing */
  assert_true(m.has_limit);
  assert_int_equal(m.limit_duration_s, 0);
  assert_int_equal(decode_hex(false, "080112060a0401020304", &m), 0);
  assert_true(m.has_peer);
  assert_int_equal(m.peer.len, 4);
  assert_memory_equal(m.peer.data, "\x01\x02\x03\x04", 4);
  assert_int_equal(decode_hex(false, "08011200", &m), 0); /* a peer without an ID */
  assert_true(m.has_peer);
  assert_int_equal(m.peer.len, 0);
  assert_int_equal(decode_hex(false,
                              "08021a0b080512020102120103"
                              "1a0104",
                              &m),
                   PU_E_PARSE);
  assert_int_equal(decode_hex(false, "08021a0c0805120201021201031a0104", &m), 0);
  assert_true(m.has_reservation);
  assert_int_equal(m.expire, 5);
  assert_int_equal(m.addr_count, 2);
  assert_int_equal(m.addrs[1].len, 1);
  assert_int_equal(m.addrs[1].data[0], 3);
  assert_int_equal(m.voucher.len, 1);
}

/* A repeated embedded message adds to the first; unknown fields and wrong wire types are skipped.
 */
static void test_merging_and_unknown(void **state) {
  (void)state;
  pu_relay_message m;
  assert_int_equal(decode_hex(false,
                              "08021a0408051201"
                              "1a04120102"
                              "08"
                              "06",
                              &m),
                   PU_E_PARSE);
  assert_int_equal(decode_hex(false, "08021a05080512010a1a051201020806", &m), 0);
  assert_int_equal(m.expire, 6);
  assert_int_equal(m.addr_count, 2);
  assert_int_equal(m.addrs[0].data[0], 0x0a);
  assert_int_equal(m.addrs[1].data[0], 2);
  assert_int_equal(decode_hex(false,
                              "0802"
                              "7a03aabbcc"
                              "780a"
                              "7d01020304"
                              "790102030405060708"
                              "2864"
                              "2a0164",
                              &m),
                   0);
  assert_int_equal(m.status, PU_RELAY_OK);
  assert_int_equal(decode_hex(false, "0a01001005", &m), 0); /* type as bytes, peer as a number */
  assert_int_equal(m.type, PU_RELAY_RESERVE);
  assert_false(m.has_peer);
}

static void test_more_addresses_than_wanted(void **state) {
  (void)state;
  uint8_t bytes[256], *at = bytes;
  pu_relay_message m;
  const size_t count = PU_RELAY_ADDRS_MAX + 5;
  *at++ = 0x1a;
  *at++ = (uint8_t)(3 * count);
  for (size_t i = 0; i < count; i++) {
    *at++ = 0x12;
    *at++ = 1;
    *at++ = (uint8_t)i;
  }
  assert_int_equal(pu_relay_decode(false, bytes, (size_t)(at - bytes), &m), 0);
  assert_int_equal(m.addr_count, PU_RELAY_ADDRS_MAX);
  assert_int_equal(m.addrs[PU_RELAY_ADDRS_MAX - 1].data[0], PU_RELAY_ADDRS_MAX - 1);
}

static void test_malformed(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "08",                       /* no value */
      "0880",                     /* half a value */
      "08ffffffffffffffffffff01", /* too long a number */
      "1205",                     /* bytes that are not there */
      "12ffffffffffffffffff01",   /* a length without bounds */
      "00",                       /* field number 0 */
      "0b",                       /* a group */
      "0e",                       /* a wire type that does not exist */
      "12020a01",                 /* inside a peer */
      "1a020880",                 /* inside a reservation */
      "22021001"
      "2201ff" /* inside the second limit */
  };
  pu_relay_message m;
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
    assert_int_equal(decode_hex(false, wrong[i], &m), PU_E_PARSE);
}

/* ---- writing ---- */

static void test_encoding(void **state) {
  (void)state;
  static const uint8_t id[] = {1, 2, 3};
  check_encoded(&(pu_relay_message){.type = PU_RELAY_RESERVE}, "020800");
  check_encoded(&(pu_relay_message){.stop = true, .type = PU_RELAY_CONNECT}, "020800");
  check_encoded(
      &(pu_relay_message){.type = PU_RELAY_CONNECT, .has_peer = true, .peer = {id, sizeof(id)}},
      "09080112050a03010203");
  check_encoded(&(pu_relay_message){.type = PU_RELAY_STATUS,
                                    .has_status = true,
                                    .status = PU_RELAY_NO_RESERVATION},
                "05080228cc01");
  check_encoded(
      &(pu_relay_message){
          .stop = true, .type = PU_RELAY_STATUS, .has_status = true, .status = PU_RELAY_OK},
      "0408012064");
  /* A limit of 0 is not on the wire, a limit without any figure is. */
  check_encoded(
      &(pu_relay_message){
          .stop = true, .type = PU_RELAY_CONNECT, .has_limit = true, .limit_data_bytes = 200},
      "0708001a0310c801");
  check_encoded(&(pu_relay_message){.stop = true, .type = PU_RELAY_CONNECT, .has_limit = true},
                "0408001a00");
  check_encoded(&(pu_relay_message){.type = PU_RELAY_STATUS,
                                    .has_reservation = true,
                                    .expire = 5,
                                    .addr_count = 2,
                                    .addrs = {{id, 2}, {id + 2, 1}},
                                    .voucher = {id, 1},
                                    .has_status = true,
                                    .status = 100},
                "1208021a0c0805120201021201031a01012864");
}

static void test_too_long(void **state) {
  (void)state;
  static uint8_t bytes[PU_RELAY_MESSAGE_MAX];
  uint8_t out[2 * PU_RELAY_MESSAGE_MAX];
  pu_relay_message m = {.type = PU_RELAY_STATUS, .has_reservation = true, .expire = 1};
  m.voucher = (pu_relay_bytes){bytes, sizeof(bytes)};
  assert_int_equal(pu_relay_encode(&m, out, sizeof(out)), PU_E_LIMIT);
  m.voucher.len = PU_RELAY_MESSAGE_MAX - 100;
  assert_true(pu_relay_encode(&m, out, sizeof(out)) > 0);
  m.voucher.len = 0;
  m.has_peer = true;
  m.peer = (pu_relay_bytes){bytes, 200};
  assert_int_equal(pu_relay_encode(&m, out, sizeof(out)), PU_E_LIMIT);
}

/* ---- from a stream ---- */

/* A message is taken to its last byte and not further, in whatever pieces it comes. */
static void test_reader(void **state) {
  (void)state;
  static const uint8_t id[] = {1, 2, 3};
  uint8_t stream[64];
  const pu_relay_message want = {
      .type = PU_RELAY_CONNECT, .has_peer = true, .peer = {id, sizeof(id)}};
  const ssize_t len = pu_relay_encode(&want, stream, sizeof(stream));
  assert_true(len > 0);
  memcpy(stream + len, "raw bytes", 9);
  for (size_t chunk = 1; chunk <= (size_t)len + 9; chunk++) {
    pu_relay_reader r = {0};
    pu_relay_message m;
    bool done = false;
    size_t at = 0;
    while (!done) {
      const size_t left = (size_t)len + 9 - at;
      const ssize_t n = pu_relay_reader_feed(&r, stream + at, chunk < left ? chunk : left, &done);
      assert_true(n > 0);
      at += (size_t)n;
    }
    assert_int_equal(at, len);
    assert_int_equal(pu_relay_reader_decode(&r, false, &m), 0);
    assert_int_equal(m.type, PU_RELAY_CONNECT);
    assert_int_equal(m.peer.len, sizeof(id));
    assert_memory_equal(m.peer.data, id, sizeof(id));
  }
}

static void test_reader_bounds(void **state) {
  (void)state;
  static uint8_t bytes[PU_RELAY_MESSAGE_MAX + 2];
  bool done;
  pu_relay_reader r = {0};
  /* The longest message there may be: 4096 bytes behind 80 20. */
  bytes[0] = 0x80;
  bytes[1] = 0x20;
  assert_int_equal(pu_relay_reader_feed(&r, bytes, sizeof(bytes), &done), sizeof(bytes));
  assert_true(done);
  r = (pu_relay_reader){0};
  assert_int_equal(pu_relay_reader_feed(&r, (const uint8_t *)"\x81\x20", 2, &done), PU_E_LIMIT);
  r = (pu_relay_reader){0};
  assert_int_equal(pu_relay_reader_feed(&r, (const uint8_t *)"\xff\xff\xff", 3, &done), PU_E_LIMIT);
  r = (pu_relay_reader){0};
  assert_int_equal(pu_relay_reader_feed(&r, (const uint8_t *)"\x80\x00", 2, &done), PU_E_PARSE);
  r = (pu_relay_reader){0}; /* an empty message is whole at once */
  assert_int_equal(pu_relay_reader_feed(&r, (const uint8_t *)"\x00zz", 3, &done), 1);
  assert_true(done);
  r = (pu_relay_reader){0};
  assert_int_equal(pu_relay_reader_feed(&r, bytes, 0, &done), 0);
  assert_false(done);
}

/* ---- names ---- */

static void test_names_and_errors(void **state) {
  (void)state;
  assert_string_equal(pu_relay_status_name(204), "NO_RESERVATION");
  assert_string_equal(pu_relay_status_name(999), "unknown status");
  assert_int_equal(pu_relay_status_error(PU_RELAY_RESERVATION_REFUSED), PU_E_RELAY_LIMIT);
  assert_int_equal(pu_relay_status_error(PU_RELAY_RESOURCE_LIMIT_EXCEEDED), PU_E_RELAY_LIMIT);
  assert_int_equal(pu_relay_status_error(PU_RELAY_PERMISSION_DENIED), PU_E_DENIED);
  assert_int_equal(pu_relay_status_error(PU_RELAY_NO_RESERVATION), PU_E_NO_RESERVATION);
  assert_int_equal(pu_relay_status_error(PU_RELAY_CONNECTION_FAILED), PU_E_UNREACHABLE);
  assert_int_equal(pu_relay_status_error(PU_RELAY_MALFORMED_MESSAGE), PU_E_RELAY_REFUSED);
  assert_int_equal(pu_relay_status_error(0), PU_E_RELAY_REFUSED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_types),
      cmocka_unit_test(test_fields),
      cmocka_unit_test(test_merging_and_unknown),
      cmocka_unit_test(test_more_addresses_than_wanted),
      cmocka_unit_test(test_malformed),
      cmocka_unit_test(test_encoding),
      cmocka_unit_test(test_too_long),
      cmocka_unit_test(test_reader),
      cmocka_unit_test(test_reader_bounds),
      cmocka_unit_test(test_names_and_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
