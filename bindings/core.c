/* luaopen_peerup_core: the list of everything that Lua can reach. Types: meta/core.lua. */
#include "bindings/core.h"

#include <lauxlib.h>
#include <luv/luv.h>
#include <sodium.h>

#include "bindings/api.h"
#include "bindings/build_info.h"
#include "bindings/error.h"
#include "bindings/task.h"
#include "peerup/engine.h"

static int core_version(lua_State *L) {
  lua_pushstring(L, PEERUP_VERSION);
  return 1;
}

static int core_commit(lua_State *L) {
  lua_pushstring(L, PEERUP_COMMIT);
  return 1;
}

static int core_built(lua_State *L) {
  lua_pushstring(L, PEERUP_BUILT);
  return 1;
}

/* core_index loads peerup.http when core.http is first looked at: its library is not needed by a
 * program that serves no HTTP. */
static int core_index(lua_State *L) {
  const char *key = lua_tostring(L, 2);
  if (lua_type(L, 2) != LUA_TSTRING || key[0] != 'h' ||
      lua_rawequal(L, 2, lua_upvalueindex(1)) == 0)
    return 0;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "peerup.http");
  lua_call(L, 1, 1); // [core, key, http]
  lua_pushvalue(L, 2);
  lua_pushvalue(L, -2);
  lua_rawset(L, 1);
  return 1;
}

int luaopen_peerup_core(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"version", core_version}, {"commit", core_commit}, {"built", core_built},
      {"error", pul_error_new},  {"qr", pul_qr},          {NULL, NULL}};
  static const struct {
    const char *name;
    void (*open)(lua_State *L);
  } parts[] = {{"task", pul_task_open},       {"identity", pul_identity_open},
               {"peer_id", pul_peer_id_open}, {"multiaddr", pul_multiaddr_open},
               {"crypto", pul_crypto_open},   {"fs", pul_fs_open},
               {"system", pul_system_open},   {"sandbox", pul_sandbox_open_class},
               {"host", pul_host_open}};
  if (sodium_init() < 0)
    return luaL_error(L, "the cryptographic library cannot be started");
  if (luv_loop(L) == NULL) { /* in a Lua of somebody else's: luv brings the loop */
    lua_getglobal(L, "require");
    lua_pushliteral(L, "luv");
    lua_call(L, 1, 0);
  }
  (void)pul_runtime_open(L, luv_loop(L));
  pul_error_open(L);
  luaL_newlib(L, functions); // [core]
  for (size_t i = 0; i < PU_COUNT(parts); i++) {
    parts[i].open(L);
    lua_setfield(L, -2, parts[i].name);
  }
  pul_api_publish(L);
  lua_createtable(L, 0, 1); // [core, mt]
  lua_pushliteral(L, "http");
  lua_pushcclosure(L, core_index, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  return 1;
}
