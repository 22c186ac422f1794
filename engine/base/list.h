/* An intrusive doubly linked list. Removal re-initialises the node, so a second one is harmless. */
#ifndef PU_BASE_LIST_H
#define PU_BASE_LIST_H

#include "platform/assert.h"
#include "peerup/defs.h"

typedef struct pu_list {
  struct pu_list *next, *prev;
} pu_list;

static inline void pu_list_init(pu_list *l) {
  l->next = l->prev = l;
}
static inline bool pu_list_empty(const pu_list *l) {
  return l->next == l;
}
static inline void pu_list_push(pu_list *head, pu_list *node) {
  node->prev = head->prev;
  node->next = head;
  head->prev->next = node;
  head->prev = node;
}
static inline void pu_list_remove(pu_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  pu_list_init(node);
}
/* PU_LIST_EACH walks |head|; the current node may be removed, no other. */
#define PU_LIST_EACH(head, node, tmp)                                                             \
  for (pu_list *node = (head)->next, *tmp = node->next; node != (head); node = tmp, tmp = node->next)

#endif
