/* Makes error tables: codes and sentences come from the engine's error map; Lua may add codes of
 * its own through core.error, whose sentence is then the detail alone. */
#include "bindings/error.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#define CLASS "peerup.err"

/* code_of returns the number of a name in the error map, 0 for a name of Lua's own. */
static int code_of(const char *name) {
#define XX(id, number, text, sentence) \
  if (strcmp(name, text) == 0)         \
    return number;
  PU_ERROR_MAP(XX)
#undef XX
  return 0;
}

/* push_error pushes the table; |sentence| may be NULL. */
static void push_error(lua_State *L, const char *name, const char *sentence, const char *detail) {
  if (detail == NULL)
    detail = "";
  lua_createtable(L, 0, 3); // [err]
  lua_pushstring(L, name);
  lua_setfield(L, -2, "code");
  lua_pushstring(L, detail);
  lua_setfield(L, -2, "detail");
  if (sentence == NULL)
    lua_pushstring(L, *detail != '\0' ? detail : name);
  else if (*detail == '\0')
    lua_pushstring(L, sentence);
  else
    lua_pushfstring(L, "%s: %s", sentence, detail);
  lua_setfield(L, -2, "message");
  luaL_setmetatable(L, CLASS);
}

void pul_error_push(lua_State *L, int code, const char *detail) {
  push_error(L, pu_error_name(code), pu_error_sentence(code), detail);
}

void pul_error_push_own(lua_State *L, const char *name, const char *text) {
  push_error(L, name, NULL, text);
}

int pul_error_return(lua_State *L, int code, const char *detail) {
  lua_pushnil(L);
  pul_error_push(L, code, detail);
  return 2;
}

int pul_error_return_full(lua_State *L, int code, const pu_error *err) {
  return pul_error_return(L, code, err != NULL && err->code == code ? err->detail : NULL);
}

int pul_error_return_errno(lua_State *L, int number, const char *what, const char *path) {
  int code = PU_E_IO;
  if (number == ENOENT)
    code = PU_E_NOT_FOUND;
  else if (number == EACCES || number == EPERM)
    code = PU_E_PERMISSION;
  else if (number == EEXIST)
    code = PU_E_EXISTS;
  else if (number == EADDRINUSE)
    code = PU_E_IN_USE;
  lua_pushfstring(L, "cannot %s %s: %s", what, path, strerror(number)); // [detail]
  lua_pushnil(L);
  pul_error_push(L, code, lua_tostring(L, -2)); // [detail, nil, err]
  return 2;
}

int pul_error_closed(lua_State *L, const char *noun) {
  lua_pushfstring(L, "this %s", noun); // [detail]
  lua_pushnil(L);
  pul_error_push(L, PU_E_CLOSED, lua_tostring(L, -2));
  return 2;
}

int pul_error_new(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  const char *detail = luaL_optstring(L, 2, "");
  int code = code_of(name);
  push_error(L, name, code == 0 ? NULL : pu_error_sentence(code), detail);
  return 1;
}

static int error_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "message");
  if (lua_type(L, -1) != LUA_TSTRING)
    lua_pushliteral(L, "unknown error");
  return 1;
}

void pul_error_open(lua_State *L) {
  if (luaL_newmetatable(L, CLASS)) { // [mt]
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
  }
  lua_pop(L, 1);
}
