/* The module peerup_probe: the list of all layers' functions. A new layer adds a file beside this
 * one, a line to probe.h and a line here. */
#include "probe.h"

#include "peerup/error.h"

LUAMOD_API int luaopen_peerup_probe(lua_State *L);

int probe_fail(lua_State *L, int code) {
  lua_pushnil(L);
  lua_pushstring(L, pu_error_name(code));
  return 2;
}

const uint8_t *probe_bytes(lua_State *L, int arg, size_t *len) {
  return (const uint8_t *)luaL_checklstring(L, arg, len);
}

static void add(lua_State *L, const char *name, const luaL_Reg *functions) {
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  lua_setfield(L, -2, name);
}

__attribute__((visibility("default"))) int luaopen_peerup_probe(lua_State *L) {
  lua_newtable(L);
  add(L, "base", probe_base);
  add(L, "identify", probe_identify);
  add(L, "identity", probe_identity);
  add(L, "multiaddr", probe_multiaddr);
  add(L, "mux", probe_mux);
  add(L, "negotiate", probe_negotiate);
  add(L, "relay", probe_relay);
  add(L, "security", probe_security);
  return 1;
}
