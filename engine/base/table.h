/* A hash table of structs that hold their own node: finding, adding and removing take no longer
 * with more entries, and adding cannot fail. The hash is SipHash under a seed that peers do not
 * know, so nobody can choose keys that fall together. Keys are the caller's: the table knows
 * hashes, and the caller compares what pu_table_first and pu_table_next give. */
#ifndef PU_BASE_TABLE_H
#define PU_BASE_TABLE_H

#include "base/mem.h"

#define PU_TABLE_SMALL 16u /* buckets in the table itself */

typedef struct pu_table_node {
  struct pu_table_node *next;
  uint64_t hash;
} pu_table_node;

/* Grows by doubling and shrinks by halves; without memory for it the chains are longer meanwhile.
 * It may not be moved or copied. */
typedef struct pu_table {
  pu_mem *mem;
  pu_table_node **buckets; /* |small|, or allocated */
  size_t bucket_count;     /* a power of two */
  size_t count;
  uint64_t seed;
  pu_table_node *small[PU_TABLE_SMALL];
} pu_table;

/* pu_table_init makes an empty table whose buckets come from |mem|. */
void pu_table_init(pu_table *t, pu_mem *mem, uint64_t seed);
/* pu_table_deinit checks (PU_ASSERT) that the table is empty. */
void pu_table_deinit(pu_table *t);
uint64_t pu_table_hash(const pu_table *t, const void *key, size_t len);
/* pu_table_add adds |node|, which is in no table. */
void pu_table_add(pu_table *t, pu_table_node *node, uint64_t hash);
/* pu_table_remove removes |node|, which is in this table. */
void pu_table_remove(pu_table *t, pu_table_node *node);
/* pu_table_first and pu_table_next give the entries of one hash, the last added first; NULL at the
 * end. */
pu_table_node *pu_table_first(const pu_table *t, uint64_t hash);
pu_table_node *pu_table_next(const pu_table_node *node);
/* PU_TABLE_EACH walks all entries, in no order; the table may not be changed meanwhile. */
#define PU_TABLE_EACH(t, node)                                        \
  for (size_t node##_i = 0; node##_i < (t)->bucket_count; node##_i++) \
    for (pu_table_node *node = (t)->buckets[node##_i]; node != NULL; node = node->next)

#endif
