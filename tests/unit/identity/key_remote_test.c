#include "identity/key_remote.h"

#include "support/unit.h"

/* One key of each type with a message it signed (hex), as the vectors have them. */
typedef struct sample {
  pu_key_type type;
  const char *data, *message, *signature;
} sample;

static const sample SAMPLES[] = {
    {PU_KEY_RSA,
     "30820122300d06092a864886f70d01010105000382010f003082010a0282010100bb62a8be37c4af"
     "daadcaef429ff89ea42acf3728aa78e8fd5cad91f72217ab32eba07ac5123d2c0b0b2b268d47c312"
     "ebdbfdb1a7e701c76f54a9a24a83a308d1002420de85a45bc0d4cffc402e39e906f6cb381f0d5e72"
     "fd81ae5318b6621a2dd02764a999a5cc0e8e28a7aaf59848f75f7eaf0d2ed276c9da2ef89c28d360"
     "569d910e06195f3522476810d0fcd7323b182e336a2d1fc2a8326dd0727318b33f015a5f95e55318"
     "ea10f72e3baa4d5baca26817b96f7faf044eff5b3c5953cc784b4396b323793267b697a84d922743"
     "148c581790a72773eb9971a0c5c5fc9d711a2ce143990023cff1ec25e1aa578ee182285e77334598"
     "1db31e3dbc150ebe0f0203010001",
     "6d657373616765206e756d626572203020746f206265207369676e65642077697468206120727361"
     "206964656e74697479",
     "969ac8471a98ec0c8b5f95b6aaec60c6c34fe4b05874c23d7874e660d5da030a69a471f8358920c3"
     "01daa39ef79d2314ecef644ceec96852d1f31e26ac6be1112af9ffec4b747c89406d13e14a7e0fd3"
     "984f97eff3fd3654e419a6a3c114e661835b29aa46c1d21f388312ecf6f200d3ccabed49053e0d2e"
     "ce1f6b9b3f5db1a6c7b55a0f4098cf7d2fb77eaa7ca610de916b510ab51259c0795a2215d0ac3ab7"
     "ab273f23ff8bfce2dd4c2f818f3b7f9970fad2e0771908fc035379a41a1e346665980dd38b7807d6"
     "4e68c98e68da4a704b62b82e88d9e0ac93f5800408e426c2e90e6601f0c747ff9938230c8b1ec762"
     "8d49285f63c7b188c89b5756a8c6fba3"},
    {PU_KEY_ECDSA,
     "3059301306072a8648ce3d020106082a8648ce3d03010703420004cc02abb084766abc9a9af688df"
     "f41228e62e3a3b3b46098cd5ff94a1b5a99a5acac505df7843d9bb5d7bda90318e337e7e7f903eb0"
     "edd56fba2895e651075c65",
     "6d657373616765206e756d626572203020746f206265207369676e65642077697468206120656364"
     "7361206964656e74697479",
     "30460221009009d4a7aad8ee4f1ee754a9d4d32aa9f71736452ff0eed18881d8ac2876edf5022100"
     "cba89e07d00da0efeb0a1cd6af63e628cc0727a374a5bfbf77885e854e829ec9"},
    {PU_KEY_ECDSA,
     "3076301006072a8648ce3d020106052b81040022036200047977ec405ed689384ccb21f22025b886"
     "23798c17793f1c553b01f91b53731e51a4d68665d3361e1012294de6ba106856f266710479d31afc"
     "7b0ca397d126680083de0af01a7ab6a554c206c5ad5e661216b626cdfee945bcfcfced48b52f81bf",
     "6d657373616765206e756d626572203020746f206265207369676e65642077697468206120656364"
     "73615f6f746865725f6375727665206964656e74697479",
     "3066023100a3856884ee1f50f0464084922709e47f75baf15ee710da9b52c8d7dfdbdda8419d8945"
     "97330ec937df10a3a53eaa004602310089b721da4270f13a1b35da898ed55d322ac091733fe06df8"
     "a914d72e5c63fdf4d907378633a7305da4e8d849c5a37493"},
    {PU_KEY_SECP256K1, "03978b3e9aec2414797cd5eb40fc4623074fc136df9be7f11cbf942e27753664b6",
     "6d657373616765206e756d626572203020746f206265207369676e65642077697468206120736563"
     "703235366b31206964656e74697479",
     "3045022100e638a9b6d00a150231054f356e8fcef06d3c691ffb006a947cbb7151d1e28b2b02207b"
     "9833ca1ef04579f4f209246e896300b3a5668ec20d81179f6fbca69d76420e"},
};

static void checks_and_verifies(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(SAMPLES) / sizeof(SAMPLES[0]); i++) {
    const sample *s = &SAMPLES[i];
    uint8_t data[600], msg[200], sig[600], out[PU_KEY_MAX_PROTOBUF];
    size_t n = unhex(s->data, data, sizeof(data) - 1), out_len = 0;
    size_t msg_len = unhex(s->message, msg, sizeof(msg));
    size_t sig_len = unhex(s->signature, sig, sizeof(sig) - 1);
    assert_int_equal(pu_key_remote_check(s->type, data, n, out, &out_len), 0);
    assert_int_equal(out_len, n);
    assert_memory_equal(out, data, n);
    assert_int_equal(pu_key_remote_verify(s->type, data, n, msg, msg_len, sig, sig_len), 0);
    msg[0] ^= 1;
    assert_int_equal(pu_key_remote_verify(s->type, data, n, msg, msg_len, sig, sig_len),
                     PU_E_CRYPTO);
    msg[0] ^= 1;
    sig[sig_len] = 0; /* a byte behind */
    assert_int_equal(pu_key_remote_verify(s->type, data, n, msg, msg_len, sig, sig_len + 1),
                     PU_E_CRYPTO);
    assert_int_equal(pu_key_remote_verify(s->type, data, n, msg, msg_len, sig, 0), PU_E_CRYPTO);
    for (size_t cut = 0; cut < n; cut++)
      assert_int_equal(pu_key_remote_check(s->type, data, cut, out, &out_len), PU_E_PARSE);
    data[n] = 0;
    assert_int_equal(pu_key_remote_check(s->type, data, n + 1, out, &out_len), PU_E_PARSE);
    /* A key of another type has another form. */
    for (pu_key_type other = PU_KEY_RSA; other <= PU_KEY_ECDSA; other++)
      if (other != s->type && other != PU_KEY_ED25519)
        assert_int_equal(pu_key_remote_check(other, data, n, out, &out_len), PU_E_PARSE);
  }
}

/* A point that is not on its curve, and forms beside the plain one. */
static void refuses_points(void **state) {
  (void)state;
  uint8_t data[600], out[PU_KEY_MAX_PROTOBUF];
  size_t out_len = 0;
  for (size_t i = 1; i < 3; i++) {
    size_t n = unhex(SAMPLES[i].data, data, sizeof(data));
    data[n - 1] ^= 1;
    assert_int_equal(pu_key_remote_check(PU_KEY_ECDSA, data, n, out, &out_len), PU_E_PARSE);
  }
  size_t n =
      unhex("0404eb7eeabf962aa6a4def958d006fbe57561f0b83d126ecf78e9813f2932e52fdf6ec4e1a8117e"
            "2d9286fe785db159c05a16ad974f97fd0f9b38c4dec0c101dacb",
            data, sizeof(data));
  assert_int_equal(n, 66);
  const uint8_t *point = data + 1; /* 65 bytes, odd y */
  assert_int_equal(pu_key_remote_check(PU_KEY_SECP256K1, point, 65, out, &out_len), 0);
  assert_int_equal(out_len, 33);
  assert_int_equal(out[0], 0x03);
  assert_memory_equal(out + 1, point + 1, 32);
  data[1] = 0x07; /* the hybrid form */
  assert_int_equal(pu_key_remote_check(PU_KEY_SECP256K1, point, 65, out, &out_len), PU_E_PARSE);
  data[1] = 0x04;
  data[40] ^= 1;
  assert_int_equal(pu_key_remote_check(PU_KEY_SECP256K1, point, 65, out, &out_len), PU_E_PARSE);
}

/* An RSA key with an exponent that would cost us time. */
static void refuses_large_exponent(void **state) {
  (void)state;
  uint8_t data[600], out[PU_KEY_MAX_PROTOBUF];
  size_t out_len = 0;
  size_t n = unhex(SAMPLES[0].data, data, sizeof(data));
  assert_memory_equal(data + n - 5, "\x02\x03\x01\x00\x01", 5);
  memcpy(data + n - 5, "\x02\x08\x01\x00\x00\x00\x00\x00\x00\x01", 10);
  n += 5;
  data[3] = (uint8_t)(data[3] + 5);   /* SubjectPublicKeyInfo */
  data[22] = (uint8_t)(data[22] + 5); /* BIT STRING */
  data[27] = (uint8_t)(data[27] + 5); /* RSAPublicKey */
  assert_int_equal(pu_key_remote_check(PU_KEY_RSA, data, n, out, &out_len), PU_E_PARSE);
  memcpy(data + n - 10, "\x02\x08\x00\x00\x00\x00\x00\x01\x00\x01", 10); /* not minimal */
  assert_int_equal(pu_key_remote_check(PU_KEY_RSA, data, n, out, &out_len), PU_E_PARSE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(checks_and_verifies),
                                     cmocka_unit_test(refuses_points),
                                     cmocka_unit_test(refuses_large_exponent)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
