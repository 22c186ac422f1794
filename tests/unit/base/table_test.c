#include "base/table.h"

#include "platform/assert.h"
#include "support/unit.h"

typedef struct entry {
  pu_table_node node;
  uint32_t key;
  bool in;
} entry;

#define ENTRIES 3000u

static entry *entry_of(pu_table_node *node) {
  return PU_CONTAINER_OF(node, entry, node);
}

static entry *find(const pu_table *t, uint32_t key) {
  const uint64_t hash = pu_table_hash(t, &key, sizeof(key));
  for (pu_table_node *n = pu_table_first(t, hash); n != NULL; n = pu_table_next(n))
    if (entry_of(n)->key == key)
      return entry_of(n);
  return NULL;
}

static void add(pu_table *t, entry *e) {
  pu_table_add(t, &e->node, pu_table_hash(t, &e->key, sizeof(e->key)));
  e->in = true;
}

static void drop(pu_table *t, entry *e) {
  pu_table_remove(t, &e->node);
  e->in = false;
}

/* fill adds all entries, finds each, walks them, and removes all again. */
static void fill(pu_table *t, entry *entries) {
  for (uint32_t i = 0; i < ENTRIES; i++) {
    entries[i] = (entry){.key = i};
    assert_null(find(t, i));
    add(t, &entries[i]);
    assert_ptr_equal(find(t, i), &entries[i]);
  }
  assert_int_equal(t->count, ENTRIES);
  size_t seen = 0;
  PU_TABLE_EACH(t, node) {
    assert_true(entry_of(node)->in);
    seen++;
  }
  assert_int_equal(seen, ENTRIES);
  for (uint32_t i = 0; i < ENTRIES; i += 2)
    drop(t, &entries[i]);
  for (uint32_t i = 0; i < ENTRIES; i++) {
    if (i % 2 == 0)
      assert_null(find(t, i));
    else
      assert_ptr_equal(find(t, i), &entries[i]);
  }
  for (uint32_t i = 1; i < ENTRIES; i += 2)
    drop(t, &entries[i]);
  assert_int_equal(t->count, 0);
}

static void grows_and_shrinks(void **state) {
  (void)state;
  pu_mem mem;
  pu_table t;
  entry *entries = calloc(ENTRIES, sizeof(*entries));
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_table_init(&t, &mem, 7);
  fill(&t, entries);
  assert_true(mem.peak >= ENTRIES / 2 * sizeof(void *));
  assert_int_equal(mem.used, 0); /* small again */
  pu_table_deinit(&t);
  pu_mem_deinit(&mem);
  free(entries);
}

/* Without any memory, and without that of each single resize, all entries are found nevertheless.
 */
static void works_without_memory(void **state) {
  (void)state;
  entry *entries = calloc(ENTRIES, sizeof(*entries));
  for (uint64_t n = 0; n < 20; n++) { /* 0: none at all */
    pu_mem mem;
    pu_table t;
    pu_mem_init(&mem, NULL, n == 0 ? 0 : PU_MEM_UNLIMITED);
    pu_mem_fail_at(&mem, n);
    pu_table_init(&t, &mem, n);
    fill(&t, entries);
    pu_table_deinit(&t);
    pu_mem_deinit(&mem);
  }
  free(entries);
}

static void equal_hashes_last_added_first(void **state) {
  (void)state;
  pu_mem mem;
  pu_table t;
  entry same[3] = {{.key = 0}, {.key = 1}, {.key = 2}}, others[200];
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_table_init(&t, &mem, 1);
  for (size_t i = 0; i < 3; i++)
    pu_table_add(&t, &same[i].node, 42);
  for (uint32_t round = 0; round < 2; round++) {
    pu_table_node *n = pu_table_first(&t, 42);
    for (size_t i = 3; i-- > 0; n = pu_table_next(n))
      assert_ptr_equal(n, &same[i].node);
    assert_null(n);
    for (uint32_t i = 0; i < 200 && round == 0; i++) { /* what grows the table keeps the order */
      others[i] = (entry){.key = i};
      add(&t, &others[i]);
    }
  }
  for (uint32_t i = 0; i < 200; i++)
    drop(&t, &others[i]);
  drop(&t, &same[1]);
  assert_ptr_equal(pu_table_first(&t, 42), &same[2].node);
  assert_ptr_equal(pu_table_next(&same[2].node), &same[0].node);
  drop(&t, &same[0]);
  drop(&t, &same[2]);
  pu_table_deinit(&t);
  pu_mem_deinit(&mem);
}

static void seeds_differ(void **state) {
  (void)state;
  pu_mem mem;
  pu_table a, b;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_table_init(&a, &mem, 1);
  pu_table_init(&b, &mem, 2);
  assert_true(pu_table_hash(&a, "peer", 4) == pu_table_hash(&a, "peer", 4));
  assert_true(pu_table_hash(&a, "peer", 4) != pu_table_hash(&b, "peer", 4));
  assert_true(pu_table_hash(&a, "peer", 4) != pu_table_hash(&a, "peer", 3));
  pu_table_deinit(&a);
  pu_table_deinit(&b);
  pu_mem_deinit(&mem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(grows_and_shrinks), cmocka_unit_test(works_without_memory),
      cmocka_unit_test(equal_hashes_last_added_first), cmocka_unit_test(seeds_differ)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
