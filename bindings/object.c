/* Boxes: see object.h. */
#include "bindings/object.h"

#include <string.h>

void *pul_box_new(lua_State *L, const char *class, size_t size, int uservalues) {
  void *box = lua_newuserdatauv(L, size, uservalues);
  memset(box, 0, size);
  luaL_setmetatable(L, class);
  return box;
}

void *pul_box_check(lua_State *L, int arg, const char *class) {
  return luaL_checkudata(L, arg, class);
}

/* box_tostring has the class name and whether the box is closed. */
static int box_tostring(lua_State *L) {
  const char *name = lua_tostring(L, lua_upvalueindex(1));
  const pul_box *box = pul_box_check(L, 1, name);
  if (box->ptr == NULL)
    lua_pushfstring(L, "%s (closed)", name);
  else
    lua_pushfstring(L, "%s: %p", name, box->ptr);
  return 1;
}

void pul_class_open(lua_State *L, const pul_class *class) {
  if (!luaL_newmetatable(L, class->name)) {
    lua_pop(L, 1);
    return;
  }
  lua_newtable(L); // [mt, methods]
  luaL_setfuncs(L, class->methods, 0);
  if (class->close != NULL) {
    lua_pushcfunction(L, class->close);
    lua_setfield(L, -2, "close");
    lua_pushcfunction(L, class->discard);
    lua_setfield(L, -3, "__gc");
    lua_pushcfunction(L, class->scope_end);
    lua_setfield(L, -3, "__close");
  }
  lua_setfield(L, -2, "__index");
  lua_pushstring(L, class->name);
  lua_pushcclosure(L, box_tostring, 1);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
}
