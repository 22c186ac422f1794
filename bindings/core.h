/* peerup.core: one function per file that adds to it. */
#ifndef PUL_CORE_H
#define PUL_CORE_H

#include <lua.h>

/* Each pushes one value: the table or function of that name in core. */
void pul_identity_open(lua_State *L);
void pul_peer_id_open(lua_State *L);
void pul_multiaddr_open(lua_State *L);
void pul_crypto_open(lua_State *L);
void pul_fs_open(lua_State *L);
void pul_system_open(lua_State *L);
void pul_sandbox_open_class(lua_State *L);
/* pul_host_open registers the classes host, stream and proxy and pushes the function core.host. */
void pul_host_open(lua_State *L);
int pul_qr(lua_State *L);

__attribute__((visibility("default"))) int luaopen_peerup_core(lua_State *L);

#endif
