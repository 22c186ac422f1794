#include "multiaddr/protocols.h"

#include "support/unit.h"

static void looks_up(void **state) {
  (void)state;
  assert_ptr_equal(pu_ma_protocol_by_name("ipfs", 4), pu_ma_protocol_by_code(PU_MA_P2P));
  assert_ptr_equal(pu_ma_protocol_by_name("quic-v1", 7), pu_ma_protocol_by_code(PU_MA_QUIC_V1));
  assert_ptr_equal(pu_ma_protocol_by_name("quic", 4), pu_ma_protocol_by_code(PU_MA_QUIC));
  assert_null(pu_ma_protocol_by_name("qui", 3));
  assert_null(pu_ma_protocol_by_name("", 0));
  assert_null(pu_ma_protocol_by_code(UINT64_MAX));
}

/* Text of a value to canonical text; NULL: refused. */
static void values(void **state) {
  (void)state;
  static const struct {
    uint32_t code;
    const char *text, *want;
  } cases[] = {
      {PU_MA_IP4, "255.255.255.255", "255.255.255.255"},
      {PU_MA_IP4, "::ffff:1.2.3.4", "1.2.3.4"},
      {PU_MA_IP4, "1.2.3.256", NULL},
      {PU_MA_IP4, "", NULL},
      {PU_MA_IP4, "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19", NULL},
      {PU_MA_IP6, "::", "::"},
      {PU_MA_IP6, "0:0:0:0:0:0:0:1", "::1"},
      {PU_MA_IP6, "1::", "1::"},
      {PU_MA_IP6, "1:0:0:2:0:0:0:3", "1:0:0:2::3"},
      {PU_MA_IP6, "1:0:0:2:3:0:0:4", "1::2:3:0:0:4"},
      {PU_MA_IP6, "1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"},
      {PU_MA_IP6, "1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0"},
      {PU_MA_IP6, "0:0:1:2:3:4:5:6", "::1:2:3:4:5:6"},
      {PU_MA_IP6, "1:2:3:4:5:6::", "1:2:3:4:5:6::"},
      {PU_MA_IP6, "::1.2.3.4", "::102:304"},
      {PU_MA_IP6, "::ffff:0:0", "::ffff:0.0.0.0"},
      {PU_MA_IP6, "1:2", NULL},
      {PU_MA_IP6, "fe80::1%2", NULL},
      {PU_MA_TCP, "00080", "80"},
      {PU_MA_TCP, "65535", "65535"},
      {PU_MA_TCP, "65536", NULL},
      {PU_MA_TCP, "99999999999999999999999", NULL},
      {PU_MA_TCP, "+1", NULL},
      {PU_MA_TCP, "0x1", NULL},
      {PU_MA_IPCIDR, "255", "255"},
      {PU_MA_MEMORY, "18446744073709551615", "18446744073709551615"},
      {PU_MA_MEMORY, "18446744073709551616", NULL},
      {PU_MA_DNS, "a.b", "a.b"},
      {PU_MA_DNS, "a\nb", NULL},
      {PU_MA_DNS, "a/b", NULL},
      {PU_MA_IP6ZONE, "eth0", "eth0"},
      {PU_MA_HTTP_PATH, "a%2fb%00%7e", "a%2Fb%00~"},
      {PU_MA_HTTP_PATH, "a%2", NULL},
      {PU_MA_HTTP_PATH, "a%zz", NULL},
      {PU_MA_CERTHASH, "f1b020102", "uGwIBAg"},
      {PU_MA_CERTHASH, "f1b0301", NULL},
      {PU_MA_CERTHASH, "u", NULL},
      {PU_MA_CERTHASH, "!", NULL},
      {PU_MA_P2P, "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG",
       "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG"},
      {PU_MA_P2P, "Qm", NULL},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    const pu_ma_protocol *p = pu_ma_protocol_by_code(cases[i].code);
    uint8_t value[PU_MULTIADDR_MAX_BYTES];
    char text[PU_MULTIADDR_MAX_TEXT];
    ssize_t n = p->from_text(cases[i].text, strlen(cases[i].text), value, sizeof(value));
    bool good = n > 0 && (p->check == NULL || p->check(value, (size_t)n));
    if (good != (cases[i].want != NULL))
      fail_msg("%s/%s: %s", p->name, cases[i].text, good ? "accepted" : "refused");
    if (!good)
      continue;
    assert_true(p->size == PU_MA_SIZE_VAR || n == p->size);
    ssize_t len = p->to_text(value, (size_t)n, text, sizeof(text));
    assert_int_equal(len, strlen(cases[i].want));
    assert_memory_equal(text, cases[i].want, (size_t)len);
    assert_int_equal(p->to_text(value, (size_t)n, text, (size_t)len - 1), PU_E_LIMIT);
    assert_int_equal(p->from_text(cases[i].text, strlen(cases[i].text), value, (size_t)n - 1),
                     PU_E_LIMIT);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(looks_up), cmocka_unit_test(values)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
