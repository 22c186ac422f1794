#include "base/fifo.h"

#include "support/unit.h"

static void keeps_order_and_bound(void **state) {
  (void)state;
  pu_mem mem;
  pu_fifo q;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_fifo_init(&q, &mem, 10000);
  /* A counter through the queue in uneven steps: what comes out is what went in. */
  uint8_t in[700], out[900];
  uint8_t next_in = 0, next_out = 0;
  for (size_t round = 0; round < 200; round++) {
    size_t n = 1 + (round * 37) % sizeof(in);
    for (size_t i = 0; i < n; i++)
      in[i] = (uint8_t)(next_in + i);
    int rc = pu_fifo_push(&q, in, n);
    if (rc == 0)
      next_in = (uint8_t)(next_in + n);
    else
      assert_int_equal(rc, PU_E_LIMIT);
    assert_true(q.len <= q.max);
    size_t got = pu_fifo_read(&q, out, (round * 53) % sizeof(out));
    for (size_t i = 0; i < got; i++)
      assert_int_equal(out[i], next_out++);
  }
  pu_fifo_clear(&q);
  assert_int_equal(q.len, 0);
  pu_mem_deinit(&mem);
}

static void all_or_nothing(void **state) {
  (void)state;
  pu_mem mem;
  pu_fifo q;
  static const uint8_t big[5000];
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_fifo_init(&q, &mem, 6000);
  assert_int_equal(pu_fifo_push(&q, "abc", 3), 0);
  pu_mem_fail_at(&mem, 1);
  assert_int_equal(pu_fifo_push(&q, big, sizeof(big)), PU_E_NOMEM);
  assert_int_equal(q.len, 3);
  assert_int_equal(pu_fifo_push(&q, big, sizeof(big)), 0);
  assert_int_equal(pu_fifo_push(&q, big, 998), PU_E_LIMIT);
  assert_int_equal(pu_fifo_push(&q, big, 0), 0);
  pu_iov iov[4];
  assert_int_equal(pu_fifo_peek(&q, iov, 4), 2);
  assert_int_equal(iov[0].len + iov[1].len, 5003);
  assert_memory_equal(iov[0].base, "abc", 3);
  assert_int_equal(pu_fifo_peek(&q, iov, 1), 1);
  pu_fifo_drop(&q, 2);
  assert_int_equal(pu_fifo_peek(&q, iov, 1), 1);
  assert_int_equal(*(uint8_t *)iov[0].base, 'c');
  pu_fifo_drop(&q, 5001);
  assert_int_equal(q.len, 0);
  assert_int_equal(mem.used, 0); /* an empty queue holds nothing */
  pu_mem_deinit(&mem);
}

static void moves(void **state) {
  (void)state;
  pu_mem mem;
  pu_fifo from, to;
  char out[8] = "";
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_fifo_init(&from, &mem, 10);
  assert_int_equal(pu_fifo_push(&from, "abc", 3), 0);
  pu_fifo_move(&from, &to);
  assert_int_equal(from.len, 0);
  pu_fifo_clear(&from); /* what moved is not its own any more */
  assert_int_equal(pu_fifo_push(&from, "x", 1), 0);
  assert_int_equal(to.len, 3);
  assert_int_equal(pu_fifo_push(&to, "def", 3), 0);
  assert_int_equal(pu_fifo_push(&to, "too long", 8), PU_E_LIMIT);
  assert_int_equal(pu_fifo_read(&to, out, sizeof out), 6);
  assert_string_equal(out, "abcdef");
  pu_fifo_clear(&from);
  pu_mem_deinit(&mem);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(keeps_order_and_bound),
                                     cmocka_unit_test(all_or_nothing), cmocka_unit_test(moves)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
