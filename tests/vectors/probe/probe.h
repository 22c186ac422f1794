/* peerup_probe: low-level engine functions for Lua, for tests only. Each layer has one file here
 * with a table of functions, listed in probe.c. */
#ifndef TESTS_VECTORS_PROBE_H
#define TESTS_VECTORS_PROBE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/mem.h"

/* One per file; probe.c puts each below its name into the module's table. */
extern const luaL_Reg probe_base[];
extern const luaL_Reg probe_identify[];
extern const luaL_Reg probe_identity[];
extern const luaL_Reg probe_multiaddr[];
extern const luaL_Reg probe_mux[];
extern const luaL_Reg probe_negotiate[];
extern const luaL_Reg probe_relay[];
extern const luaL_Reg probe_security[];

/* probe_fail returns nil and the name of the engine's error |code|. */
int probe_fail(lua_State *L, int code);
/* probe_bytes reads a string argument as bytes. */
const uint8_t *probe_bytes(lua_State *L, int arg, size_t *len);

#endif
