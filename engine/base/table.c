/* Hash tables with chains, see table.h. */
#include "base/table.h"

#include <sodium.h>
#include <string.h>

#include "platform/assert.h"

void pu_table_init(pu_table *t, pu_mem *mem, uint64_t seed) {
  *t = (pu_table){.mem = mem, .bucket_count = PU_TABLE_SMALL, .seed = seed};
  t->buckets = t->small;
}

void pu_table_deinit(pu_table *t) {
  PU_ASSERT(t->count == 0);
  if (t->buckets != t->small)
    pu_free(t->buckets);
  t->buckets = NULL;
  t->bucket_count = 0;
}

uint64_t pu_table_hash(const pu_table *t, const void *key, size_t len) {
  uint8_t secret[crypto_shorthash_KEYBYTES] = {0};
  uint8_t hash[crypto_shorthash_BYTES];
  uint64_t out;
  memcpy(secret, &t->seed, sizeof(t->seed));
  crypto_shorthash(hash, key, len, secret);
  memcpy(&out, hash, sizeof(out));
  return out;
}

static pu_table_node **bucket(const pu_table *t, uint64_t hash) {
  return &t->buckets[hash & (t->bucket_count - 1)];
}

static void push(pu_table *t, pu_table_node *node) {
  pu_table_node **at = bucket(t, node->hash);
  node->next = *at;
  *at = node;
}

/* resize moves all entries to |bucket_count| buckets; without memory the table stays as it is. */
static void resize(pu_table *t, size_t bucket_count) {
  pu_table_node **old = t->buckets;
  const size_t old_count = t->bucket_count;
  pu_table_node **fresh = t->small;
  if (bucket_count > PU_TABLE_SMALL)
    fresh = pu_zalloc(t->mem, bucket_count * sizeof(*fresh));
  else
    memset(t->small, 0, sizeof(t->small));
  if (fresh == NULL)
    return;
  t->buckets = fresh;
  t->bucket_count = bucket_count;
  for (size_t i = 0; i < old_count; i++) {
    pu_table_node *reversed = NULL; /* so that equal hashes keep their order */
    for (pu_table_node *node = old[i], *next; node != NULL; node = next) {
      next = node->next;
      node->next = reversed;
      reversed = node;
    }
    for (pu_table_node *node = reversed, *next; node != NULL; node = next) {
      next = node->next;
      push(t, node);
    }
  }
  if (old != t->small)
    pu_free(old);
}

void pu_table_add(pu_table *t, pu_table_node *node, uint64_t hash) {
  if (t->count >= t->bucket_count)
    resize(t, t->bucket_count * 2);
  node->hash = hash;
  push(t, node);
  t->count++;
}

void pu_table_remove(pu_table *t, pu_table_node *node) {
  pu_table_node **at = bucket(t, node->hash);
  while (*at != node) {
    PU_ASSERT(*at != NULL);
    at = &(*at)->next;
  }
  *at = node->next;
  node->next = NULL;
  t->count--;
  if (t->bucket_count > PU_TABLE_SMALL && t->count < t->bucket_count / 8)
    resize(t, t->bucket_count / 2);
}

static pu_table_node *same(pu_table_node *node, uint64_t hash) {
  while (node != NULL && node->hash != hash)
    node = node->next;
  return node;
}

pu_table_node *pu_table_first(const pu_table *t, uint64_t hash) {
  return same(*bucket(t, hash), hash);
}

pu_table_node *pu_table_next(const pu_table_node *node) {
  return same(node->next, node->hash);
}
