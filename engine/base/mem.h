/* Accounted allocation. Every byte of the engine is taken from an account (engine, connection,
 * stream); accounts form a tree, a charge counts in all ancestors, and each may have a limit. So a
 * bound on what a peer may cost is one number on its connection's account (design: 64 KiB before
 * authentication). Tests fail the n-th allocation of a tree through pu_mem_fail_at. */
#ifndef PU_BASE_MEM_H
#define PU_BASE_MEM_H

#include "peerup/defs.h"

#define PU_MEM_UNLIMITED SIZE_MAX
/* What each block costs beside its own bytes; charged as well. */
#define PU_MEM_OVERHEAD_BYTES 16

/* The owner holds the struct; it must outlive its children and all memory taken from it. */
typedef struct pu_mem {
  struct pu_mem *parent;
  struct pu_mem *aside; /* of an account without children: see pu_mem_aside */
  size_t used;      /* bytes taken now, children included */
  size_t peak;      /* highest |used| seen */
  size_t limit;     /* PU_MEM_UNLIMITED: none */
  uint64_t count;   /* allocations ever made, in the root: what pu_mem_fail_at counts */
  uint64_t fail_at; /* in the root: this allocation fails; 0: none */
  uint64_t refused; /* allocations refused by this account's own limit */
  const struct pu_mem *refuser; /* in the root: whose limit refused last; NULL: it was none's */
} pu_mem;

/* pu_mem_init makes |m| an empty account below |parent| (NULL: a root). */
void pu_mem_init(pu_mem *m, pu_mem *parent, size_t limit);
/* pu_mem_deinit checks (PU_ASSERT) that nothing of |m| is still held. */
void pu_mem_deinit(pu_mem *m);
/* pu_mem_move puts |m|, with all that is taken from it, below |parent|, a new account between |m| and its
 * parent of now. PU_E_LIMIT when |parent|'s limit does not allow it; then nothing changes. */
PU_MUST_CHECK int pu_mem_move(pu_mem *m, pu_mem *parent);
/* pu_mem_aside has what is taken from |m|, which has no children, counted by |account| too, which is of the
 * same tree but not above |m| (and whose own ancestors do not count it); NULL: no more. PU_E_LIMIT when
 * |account|'s limit does not allow what is taken already; then nothing changes. */
PU_MUST_CHECK int pu_mem_aside(pu_mem *m, pu_mem *account);
/* pu_mem_refuser returns the account in the tree of |m| whose limit refused the last allocation that failed;
 * NULL: there was no memory. Only to compare. */
const pu_mem *pu_mem_refuser(const pu_mem *m);
/* pu_mem_fail_at makes the |n|-th allocation from now in the tree of |m| fail, once; 0: never. */
void pu_mem_fail_at(pu_mem *m, uint64_t n);

/* pu_alloc returns |size| bytes, uninitialised, charged to |m|; NULL without memory or above a limit.
 * Zero size gives a unique pointer. */
PU_MUST_CHECK void *pu_alloc(pu_mem *m, size_t size);
/* pu_zalloc is pu_alloc with zeroed memory. */
PU_MUST_CHECK void *pu_zalloc(pu_mem *m, size_t size);
/* pu_realloc resizes |p| (which came from |m|, or NULL); on failure |p| stays valid. */
PU_MUST_CHECK void *pu_realloc(pu_mem *m, void *p, size_t size);
/* pu_strndup copies |len| bytes and adds a NUL. */
PU_MUST_CHECK char *pu_strndup(pu_mem *m, const char *text, size_t len);
/* pu_free gives |p| back to the account it came from; NULL is fine. */
void pu_free(void *p);
/* pu_free_secret wipes |p| before it gives it back. */
void pu_free_secret(void *p);

/* pu_mem_charge and pu_mem_uncharge account for memory that somebody else holds (a platform's
 * socket, say). pu_mem_charge returns PU_E_LIMIT above a limit. */
PU_MUST_CHECK int pu_mem_charge(pu_mem *m, size_t size);
void pu_mem_uncharge(pu_mem *m, size_t size);

#endif
