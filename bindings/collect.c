/* See collect.h. */
#include "bindings/collect.h"

#include <lauxlib.h>
#include <string.h>

#define CLASS "peerup.collect"
#define FIRST_BYTES 512

pul_collect *pul_collect_new(lua_State *L, pu_mem *mem) {
  pul_collect *c = lua_newuserdatauv(L, sizeof(*c), 0);
  *c = (pul_collect){.mem = mem};
  luaL_setmetatable(L, CLASS);
  return c;
}

void pul_collect_add(pul_collect *c, const void *data, size_t len) {
  if (c->failed)
    return;
  if (c->cap - c->len < len) {
    size_t cap = c->cap == 0 ? FIRST_BYTES : c->cap;
    while (cap - c->len < len)
      cap *= 2;
    uint8_t *bigger = pu_realloc(c->mem, c->data, cap);
    if (bigger == NULL) {
      c->failed = true;
      return;
    }
    c->data = bigger;
    c->cap = cap;
  }
  memcpy(c->data + c->len, data, len);
  c->len += len;
}

void pul_collect_text(void *c, const char *text) {
  pul_collect_add(c, text, strlen(text) + 1);
}

void pul_collect_check(lua_State *L, const pul_collect *c) {
  if (c->failed)
    luaL_error(L, "out of memory");
}

void pul_collect_push_texts(lua_State *L, const pul_collect *c) {
  pul_collect_check(L, c);
  lua_newtable(L); // [list]
  lua_Integer i = 1;
  for (size_t pos = 0; pos < c->len; i++) {
    const char *text = (const char *)c->data + pos;
    lua_pushstring(L, text);
    lua_rawseti(L, -2, i);
    pos += strlen(text) + 1;
  }
}

static int collect_gc(lua_State *L) {
  pul_collect *c = luaL_checkudata(L, 1, CLASS);
  pu_free(c->data);
  c->data = NULL;
  c->len = c->cap = 0;
  return 0;
}

void pul_collect_open(lua_State *L) {
  if (luaL_newmetatable(L, CLASS)) {
    lua_pushcfunction(L, collect_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
}
