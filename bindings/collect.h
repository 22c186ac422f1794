/* What the engine tells item by item, collected before Lua sees it: a Lua error must not leap over
 * the engine's frames, so no Lua function is called from an engine's callback. */
#ifndef PUL_COLLECT_H
#define PUL_COLLECT_H

#include <lua.h>

#include "base/mem.h"
#include "peerup/engine.h"

/* Bytes one after the other. The userdata that holds it frees them. */
typedef struct pul_collect {
  pu_mem *mem;
  uint8_t *data;
  size_t len, cap;
  bool failed; /* out of memory */
} pul_collect;

/* pul_collect_new pushes an empty one. */
pul_collect *pul_collect_new(lua_State *L, pu_mem *mem);
void pul_collect_add(pul_collect *c, const void *data, size_t len);
/* pul_collect_text is an |each| of the engine: adds a text and its NUL. */
void pul_collect_text(void *c, const char *text);
/* pul_collect_check throws when memory was short. */
void pul_collect_check(lua_State *L, const pul_collect *c);
/* pul_collect_push_texts pushes a list of the texts that were added. */
void pul_collect_push_texts(lua_State *L, const pul_collect *c);

void pul_collect_open(lua_State *L);

#endif
