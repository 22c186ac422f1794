#include "base/mem.h"

#include "support/unit.h"

#define COST(n) ((n) + PU_MEM_OVERHEAD_BYTES)

static void counts_in_all_ancestors(void **state) {
  (void)state;
  pu_mem engine, conn, stream;
  pu_mem_init(&engine, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&conn, &engine, 1000);
  pu_mem_init(&stream, &conn, PU_MEM_UNLIMITED);
  uint8_t *a = pu_zalloc(&stream, 100);
  assert_non_null(a);
  for (size_t i = 0; i < 100; i++)
    assert_int_equal(a[i], 0);
  char *b = pu_strndup(&conn, "hello", 4);
  assert_string_equal(b, "hell");
  assert_int_equal(stream.used, COST(100));
  assert_int_equal(conn.used, COST(100) + COST(5));
  assert_int_equal(engine.used, conn.used);
  assert_int_equal(engine.count, 2);
  /* The limit of an ancestor holds for a child. */
  assert_null(pu_alloc(&stream, 1000));
  assert_int_equal(conn.refused, 1);
  assert_int_equal(stream.refused, 0);
  assert_int_equal(stream.used, COST(100));
  a[0] = 7;
  a = pu_realloc(&stream, a, 300);
  assert_non_null(a);
  assert_int_equal(a[0], 7);
  assert_int_equal(stream.used, COST(300));
  assert_null(pu_realloc(&stream, a, 5000));
  assert_int_equal(stream.used, COST(300));
  a = pu_realloc(&stream, a, 10);
  assert_int_equal(a[0], 7);
  assert_int_equal(stream.used, COST(10));
  assert_int_equal(stream.peak, COST(300));
  pu_free_secret(a);
  pu_free(b);
  pu_free(NULL);
  pu_free_secret(NULL);
  assert_int_equal(engine.used, 0);
  pu_mem_deinit(&stream);
  pu_mem_deinit(&conn);
  pu_mem_deinit(&engine);
}

static void charges(void **state) {
  (void)state;
  pu_mem root, child;
  pu_mem_init(&root, NULL, 100);
  pu_mem_init(&child, &root, PU_MEM_UNLIMITED);
  assert_int_equal(pu_mem_charge(&child, 60), 0);
  assert_int_equal(pu_mem_charge(&child, 41), PU_E_LIMIT);
  assert_int_equal(pu_mem_charge(&child, SIZE_MAX), PU_E_LIMIT);
  assert_int_equal(child.used, 60);
  pu_mem_uncharge(&child, 60);
  assert_null(pu_alloc(&child, SIZE_MAX));
  assert_null(pu_alloc(&child, SIZE_MAX - PU_MEM_OVERHEAD_BYTES));
  assert_null(pu_strndup(&child, "", SIZE_MAX));
  void *a = pu_alloc(&child, 0), *b = pu_alloc(&child, 0);
  assert_non_null(a);
  assert_ptr_not_equal(a, b);
  pu_free(a);
  pu_free(b);
  pu_mem_deinit(&child);
  pu_mem_deinit(&root);
}

static void moves_below_a_new_account(void **state) {
  (void)state;
  pu_mem engine, peer, conn;
  pu_mem_init(&engine, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&peer, &engine, 500);
  pu_mem_init(&conn, &engine, PU_MEM_UNLIMITED);
  void *a = pu_alloc(&conn, 300);
  assert_non_null(a);
  assert_int_equal(pu_mem_move(&conn, &peer), 0);
  assert_int_equal(peer.used, COST(300));
  assert_int_equal(engine.used, COST(300));
  assert_null(pu_alloc(&conn, 300));
  assert_int_equal(peer.refused, 1);
  assert_ptr_equal(pu_mem_refuser(&conn), &peer);
  pu_mem_fail_at(&conn, 1);
  assert_null(pu_alloc(&conn, 1));
  assert_null(pu_mem_refuser(&conn));
  void *b = pu_alloc(&conn, 100);
  assert_int_equal(engine.used, COST(300) + COST(100));
  pu_mem second;
  pu_mem_init(&second, &engine, PU_MEM_UNLIMITED);
  void *c = pu_alloc(&second, 200);
  assert_int_equal(pu_mem_move(&second, &peer), PU_E_LIMIT);
  assert_int_equal(peer.refused, 2);
  assert_ptr_equal(second.parent, &engine);
  pu_free(a);
  pu_free(b);
  pu_free(c);
  assert_int_equal(peer.used, 0);
  assert_int_equal(engine.used, 0);
  pu_mem_deinit(&second);
  pu_mem_deinit(&conn);
  pu_mem_deinit(&peer);
  pu_mem_deinit(&engine);
}

static void fails_once(void **state) {
  (void)state;
  pu_mem root, child;
  pu_mem_init(&root, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&child, &root, PU_MEM_UNLIMITED);
  pu_mem_fail_at(&child, 2);
  void *a = pu_alloc(&root, 1);
  assert_non_null(a);
  assert_null(pu_realloc(&root, a, 2));
  void *b = pu_realloc(&child, NULL, 3);
  assert_non_null(b);
  pu_mem_fail_at(&child, 1);
  pu_mem_fail_at(&child, 0);
  void *c = pu_alloc(&child, 1);
  assert_non_null(c);
  pu_free(a);
  pu_free(b);
  pu_free(c);
  pu_mem_deinit(&child);
  pu_mem_deinit(&root);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(counts_in_all_ancestors),
                                     cmocka_unit_test(charges),
                                     cmocka_unit_test(moves_below_a_new_account),
                                     cmocka_unit_test(fails_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
