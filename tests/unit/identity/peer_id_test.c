#include "identity/peer_id.h"

#include "support/unit.h"

#define ED25519_TEXT "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
#define ED25519_CID "bafzaajaiaejcahwr5d5ofrfbis4l5d6uwr57hu5tjodrypfm6yaq6dsc2r2pzyt6"
#define ED25519_HEX "0024080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"

static void text_and_bytes(void **state) {
  (void)state;
  uint8_t want[64];
  size_t n = unhex(ED25519_HEX, want, sizeof(want));
  pu_peer_id a, b;
  char text[PU_PEER_ID_MAX_TEXT];
  assert_int_equal(pu_peer_id_from_text(ED25519_TEXT, strlen(ED25519_TEXT), &a), 0);
  assert_int_equal(a.len, n);
  assert_memory_equal(a.bytes, want, n);
  assert_string_equal(pu_peer_id_text(&a, text), ED25519_TEXT);
  assert_int_equal(pu_peer_id_from_text(ED25519_CID, strlen(ED25519_CID), &b), 0);
  assert_true(pu_peer_id_equal(&a, &b));
  assert_true(pu_peer_id_hash(&a, 5) == pu_peer_id_hash(&b, 5));
  assert_true(pu_peer_id_hash(&a, 5) != pu_peer_id_hash(&a, 6));
  b.bytes[10] ^= 1;
  assert_false(pu_peer_id_equal(&a, &b));
  assert_true(pu_peer_id_hash(&a, 5) != pu_peer_id_hash(&b, 5));
}

static void refuses_text(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    "1",
                                    "Q",
                                    "Qm",
                                    "b",
                                    "bafy",
                                    ED25519_TEXT "\n",
                                    " " ED25519_TEXT,
                                    "z" ED25519_TEXT,
                                    "f0172",
                                    "f017200"};
  pu_peer_id id;
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    if (pu_peer_id_from_text(bad[i], strlen(bad[i]), &id) != PU_E_PARSE)
      fail_msg("accepted: %s", bad[i]);
  /* Cut short: no ID, or by chance (after 12 letters) a valid one that prints as itself. */
  size_t accepted = 0;
  for (size_t n = 0; n < strlen(ED25519_TEXT); n++) {
    if (pu_peer_id_from_text(ED25519_TEXT, n, &id) != 0)
      continue;
    char text[PU_PEER_ID_MAX_TEXT];
    accepted++;
    assert_int_equal(strlen(pu_peer_id_text(&id, text)), n);
    assert_memory_equal(text, ED25519_TEXT, n);
    assert_int_equal(id.bytes[1], id.len - 2);
  }
  assert_int_equal(accepted, 1);
  char longer[5000];
  memset(longer, '1', sizeof(longer));
  assert_int_equal(pu_peer_id_from_text(longer, sizeof(longer), &id), PU_E_PARSE);
  memset(longer, 'a', sizeof(longer));
  longer[0] = 'b';
  assert_int_equal(pu_peer_id_from_text(longer, sizeof(longer), &id), PU_E_PARSE);
}

static void bytes(void **state) {
  (void)state;
  pu_peer_id id;
  uint8_t in[80] = {0x00, 62};
  char text[PU_PEER_ID_MAX_TEXT];
  assert_int_equal(pu_peer_id_from_bytes(in, 64, &id), 0);
  assert_true(strlen(pu_peer_id_text(&id, text)) > 60);
  memset(in + 2, 0xff, 62);
  assert_int_equal(pu_peer_id_from_bytes(in, 64, &id), 0);
  assert_true(strlen(pu_peer_id_text(&id, text)) < PU_PEER_ID_MAX_TEXT);
  in[1] = 63;
  assert_int_equal(pu_peer_id_from_bytes(in, 65, &id), PU_E_LIMIT);
  assert_int_equal(pu_peer_id_from_bytes(in, 64, &id), PU_E_PARSE);
  assert_int_equal(pu_peer_id_from_bytes(in, 0, &id), PU_E_PARSE);
  assert_int_equal(pu_peer_id_from_bytes((const uint8_t *)"\0\0", 2, &id), 0);
  assert_int_equal(pu_peer_id_from_bytes((const uint8_t *)"\x80\0\0", 3, &id), PU_E_PARSE);
}

static void stricter_in_multiaddrs(void **state) {
  (void)state;
  pu_peer_id id;
  uint8_t in[34] = {0x12, 32};
  assert_int_equal(pu_peer_id_parse_multiaddr(in, 34, &id), 0);
  in[1] = 31;
  assert_int_equal(pu_peer_id_parse_multiaddr(in, 33, &id), PU_E_PARSE);
  assert_int_equal(pu_peer_id_from_bytes(in, 33, &id), 0);
  in[0] = 0x13; /* another function */
  in[1] = 32;
  assert_int_equal(pu_peer_id_parse_multiaddr(in, 34, &id), PU_E_PARSE);
  assert_int_equal(pu_peer_id_from_bytes(in, 34, &id), 0);
  in[0] = 0x00;
  assert_int_equal(pu_peer_id_parse_multiaddr(in, 34, &id), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(text_and_bytes),
                                     cmocka_unit_test(refuses_text), cmocka_unit_test(bytes),
                                     cmocka_unit_test(stricter_in_multiaddrs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
