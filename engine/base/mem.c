/* Accounted allocation, see mem.h. A header in front of each block holds its account and size, so
 * that pu_free needs neither. The header is charged too: a flood of tiny blocks costs what it
 * costs. */
#include "base/mem.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"

typedef struct header {
  pu_mem *account;
  size_t size; /* as asked for */
} header;

_Static_assert(sizeof(header) == PU_MEM_OVERHEAD_BYTES, "the block behind the header is aligned");
_Static_assert(PU_MEM_OVERHEAD_BYTES % _Alignof(max_align_t) == 0, "and for any type");

static pu_mem *root_of(pu_mem *m) {
  while (m->parent != NULL)
    m = m->parent;
  return m;
}

/* refuse_now counts one allocation and says whether a test wants it to fail. */
static bool refuse_now(pu_mem *m) {
  pu_mem *root = root_of(m);
  root->count++;
  if (root->fail_at == 0 || root->count != root->fail_at)
    return false;
  root->fail_at = 0;
  root->refuser = NULL;
  return true;
}

void pu_mem_init(pu_mem *m, pu_mem *parent, size_t limit) {
  *m = (pu_mem){.parent = parent, .limit = limit};
}

void pu_mem_deinit(pu_mem *m) {
  PU_ASSERT(m->used == 0);
  m->aside = NULL;
  if (root_of(m)->refuser == m)
    root_of(m)->refuser = NULL;
  m->parent = NULL;
}

const pu_mem *pu_mem_refuser(const pu_mem *m) {
  while (m->parent != NULL)
    m = m->parent;
  return m->refuser;
}

int pu_mem_move(pu_mem *m, pu_mem *parent) {
  PU_ASSERT(parent->parent == m->parent);
  if (m->used > SIZE_MAX - parent->used || parent->used + m->used > parent->limit) {
    parent->refused++;
    root_of(parent)->refuser = parent;
    return PU_E_LIMIT;
  }
  parent->used += m->used; /* those above count it already */
  if (parent->used > parent->peak)
    parent->peak = parent->used;
  m->parent = parent;
  return 0;
}

void pu_mem_fail_at(pu_mem *m, uint64_t n) {
  pu_mem *root = root_of(m);
  root->fail_at = n == 0 ? 0 : root->count + n;
}

/* allows says whether |a| itself takes |size| more, and notes that it refuses. */
static bool allows(pu_mem *a, size_t size) {
  if (size <= SIZE_MAX - a->used && a->used + size <= a->limit)
    return true;
  a->refused++;
  root_of(a)->refuser = a;
  return false;
}

static void add(pu_mem *a, size_t size) {
  a->used += size;
  if (a->used > a->peak)
    a->peak = a->used;
}

static void subtract(pu_mem *a, size_t size) {
  PU_ASSERT(a->used >= size);
  a->used -= size;
}

int pu_mem_aside(pu_mem *m, pu_mem *account) {
  if (account != NULL && !allows(account, m->used))
    return PU_E_LIMIT;
  if (m->aside != NULL)
    subtract(m->aside, m->used);
  m->aside = account;
  if (account != NULL)
    add(account, m->used);
  return 0;
}

int pu_mem_charge(pu_mem *m, size_t size) {
  for (pu_mem *a = m; a != NULL; a = a->parent) {
    if (!allows(a, size))
      return PU_E_LIMIT;
  }
  if (m->aside != NULL && !allows(m->aside, size))
    return PU_E_LIMIT;
  for (pu_mem *a = m; a != NULL; a = a->parent)
    add(a, size);
  if (m->aside != NULL)
    add(m->aside, size);
  return 0;
}

void pu_mem_uncharge(pu_mem *m, size_t size) {
  for (pu_mem *a = m; a != NULL; a = a->parent)
    subtract(a, size);
  if (m->aside != NULL)
    subtract(m->aside, size);
}

static void *take(pu_mem *m, size_t size, bool zero) {
  if (refuse_now(m) || size > SIZE_MAX - sizeof(header))
    return NULL;
  size_t total = sizeof(header) + size;
  if (pu_mem_charge(m, total) != 0)
    return NULL;
  header *h = zero ? calloc(1, total) : malloc(total);
  if (h == NULL) {
    root_of(m)->refuser = NULL;
    pu_mem_uncharge(m, total);
    return NULL;
  }
  h->account = m;
  h->size = size;
  return h + 1;
}

void *pu_alloc(pu_mem *m, size_t size) {
  return take(m, size, false);
}

void *pu_zalloc(pu_mem *m, size_t size) {
  return take(m, size, true);
}

void *pu_realloc(pu_mem *m, void *p, size_t size) {
  if (p == NULL)
    return take(m, size, false);
  header *h = (header *)p - 1;
  PU_ASSERT(h->account == m);
  if (refuse_now(m) || size > SIZE_MAX - sizeof(header))
    return NULL;
  size_t old = h->size;
  if (size > old && pu_mem_charge(m, size - old) != 0)
    return NULL;
  header *moved = realloc(h, sizeof(header) + size);
  if (moved == NULL) {
    root_of(m)->refuser = NULL;
    if (size > old)
      pu_mem_uncharge(m, size - old);
    return NULL;
  }
  if (size < old)
    pu_mem_uncharge(m, old - size);
  moved->size = size;
  return moved + 1;
}

char *pu_strndup(pu_mem *m, const char *text, size_t len) {
  if (len == SIZE_MAX)
    return NULL;
  char *copy = pu_alloc(m, len + 1);
  if (copy == NULL)
    return NULL;
  if (len > 0)
    memcpy(copy, text, len);
  copy[len] = '\0';
  return copy;
}

void pu_free(void *p) {
  if (p == NULL)
    return;
  header *h = (header *)p - 1;
  pu_mem_uncharge(h->account, sizeof(header) + h->size);
  free(h);
}

void pu_free_secret(void *p) {
  if (p == NULL)
    return;
  header *h = (header *)p - 1;
  sodium_memzero(p, h->size);
  pu_free(p);
}
