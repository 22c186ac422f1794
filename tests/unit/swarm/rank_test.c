/* The order of dialling, as a table, and what is learned about UDP. */
#include "swarm/rank.h"

#include <string.h>

#include "peerup/defs.h"
#include "platform/assert.h"
#include "support/cmocka.h"

#define Q PU_MA_KIND_QUIC
#define T PU_MA_KIND_TCP
#define W PU_MA_KIND_WS
#define C PU_MA_KIND_CIRCUIT
#define MS 1000u

typedef struct row {
  pu_ma_kind kind;
  int family;
  bool is_public;
  uint64_t delay_us; /* wanted */
} row;

static void check(const row *rows, size_t count, pu_rank_dark dark) {
  pu_rank_item items[16];
  for (size_t i = 0; i < count; i++)
    items[i] = (pu_rank_item){rows[i].kind, rows[i].family, rows[i].is_public, i, false, 0};
  pu_rank(items, count, dark);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(items[i].delay_us, rows[items[i].index].delay_us);
    if (i > 0)
      assert_true(items[i].delay_us >= items[i - 1].delay_us);
  }
}

#define LIGHT ((pu_rank_dark){false, false})
#define NO_UDP ((pu_rank_dark){.udp = true})
#define NO_IP6 ((pu_rank_dark){.ip6 = true})
#define CHECK(dark, ...)                     \
  do {                                       \
    static const row rows[] = {__VA_ARGS__}; \
    check(rows, PU_COUNT(rows), dark);       \
  } while (0)

static void table(void **state) {
  (void)state;
  CHECK(LIGHT, {T, 4, true, 0});
  CHECK(LIGHT, {C, 4, true, 0}, {C, 4, true, 250 * MS}); /* nothing else is known: at once */
  CHECK(LIGHT, {T, 4, true, 250 * MS}, {Q, 4, true, 0});
  CHECK(LIGHT, {T, 4, true, 750 * MS}, {T, 6, true, 500 * MS}, {Q, 4, true, 250 * MS},
        {Q, 6, true, 0});
  CHECK(LIGHT, {C, 4, true, 500 * MS}, {Q, 4, true, 0}, {T, 4, true, 250 * MS});
  CHECK(LIGHT, {C, 4, true, 200 * MS}, {Q, 4, false, 0}, {T, 4, false, 30 * MS});
  /* Private ones first, public ones a little behind. */
  CHECK(LIGHT, {Q, 4, true, 30 * MS}, {Q, 4, false, 0}, {T, 4, true, 280 * MS},
        {T, 4, false, 30 * MS});
  CHECK(LIGHT, {W, 4, true, 1250 * MS}, {Q, 4, true, 0}, {T, 4, true, 250 * MS});
  CHECK(LIGHT, {W, 4, true, 0});
  /* Five of QUIC hold TCP up by two staggers. */
  CHECK(LIGHT, {Q, 4, true, 0}, {Q, 4, true, 250 * MS}, {Q, 4, true, 500 * MS},
        {Q, 4, true, 750 * MS}, {Q, 4, true, 1000 * MS}, {T, 4, true, 500 * MS});
}

static void dark_table(void **state) {
  (void)state;
  CHECK(NO_UDP, {Q, 4, true, 1000 * MS}, {T, 4, true, 0});
  CHECK(NO_UDP, {Q, 4, true, 0});                          /* reachable by nothing else */
  CHECK(NO_UDP, {Q, 4, false, 0}, {T, 4, false, 30 * MS}); /* near ones are another matter */
  CHECK(NO_UDP, {Q, 4, true, 1000 * MS}, {W, 4, true, 0});
  CHECK(NO_UDP, {C, 4, true, 500 * MS}, {C, 4, false, 750 * MS}, {Q, 6, true, 0},
        {Q, 4, true, 250 * MS});
  CHECK(NO_IP6, {Q, 6, true, 1250 * MS}, {T, 6, true, 1500 * MS}, {Q, 4, true, 0},
        {T, 4, true, 250 * MS}, {C, 6, true, 500 * MS});
  CHECK(NO_IP6, {T, 6, true, 0}, {T, 6, true, 250 * MS});
  CHECK(NO_IP6, {T, 6, false, 0}, {T, 4, false, 30 * MS});
  CHECK(((pu_rank_dark){true, true}), {Q, 6, true, 1000 * MS}, {Q, 4, true, 1250 * MS},
        {T, 6, true, 1500 * MS}, {T, 4, true, 0});
}

static void learns_and_forgets(void **state) {
  pu_dark d = {0};
  uint64_t now = 1000;
  (void)state;
  for (unsigned i = 0; i < PU_DARK_AFTER; i++) {
    assert_false(pu_dark_ask(&d, now));
    pu_dark_note(&d, false, now);
  }
  unsigned through = 0;
  for (unsigned i = 0; i < 2 * PU_DARK_PROBE; i++)
    through += !pu_dark_ask(&d, now);
  assert_int_equal(through, 2);
  pu_dark_note(&d, true, now);
  assert_false(pu_dark_ask(&d, now));
  for (unsigned i = 0; i < PU_DARK_AFTER; i++)
    pu_dark_note(&d, false, now);
  assert_true(pu_dark_is(&d, now));
  now += PU_DARK_FORGET_US;
  assert_false(pu_dark_ask(&d, now));
  assert_int_equal(d.failures, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(dark_table),
                                     cmocka_unit_test(learns_and_forgets)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
