/* core.multiaddr: addresses as canonical text, and taken apart. */
#include "multiaddr/multiaddr.h"

#include <lauxlib.h>

#include "bindings/core.h"
#include "bindings/error.h"
#include "platform/assert.h"

/* parse reads an address argument; on failure pushes nil, err and returns their count. */
static int parse(lua_State *L, pu_multiaddr *out) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  pu_error err = {0};
  int rc = pu_multiaddr_from_text(text, len, out, &err);
  return rc == 0 ? 0 : pul_error_return_full(L, rc, &err);
}

static void set_text(lua_State *L, const char *key, const pu_multiaddr *a) {
  char text[PU_MULTIADDR_MAX_TEXT];
  lua_pushstring(L, pu_multiaddr_text(a, text));
  lua_setfield(L, -2, key);
}

static void set_peer(lua_State *L, const char *key, const pu_peer_id *id) {
  char text[PU_PEER_ID_MAX_TEXT];
  if (id->len == 0)
    return;
  lua_pushstring(L, pu_peer_id_text(id, text));
  lua_setfield(L, -2, key);
}

static void set_flag(lua_State *L, const char *key, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

static int multiaddr_parse(lua_State *L) {
  pu_multiaddr a;
  int failed = parse(L, &a);
  if (failed != 0)
    return failed;
  char text[PU_MULTIADDR_MAX_TEXT];
  lua_pushstring(L, pu_multiaddr_text(&a, text));
  return 1;
}

/* push_value pushes the text of a component's value: what stands behind its name in the address
 * that holds it alone. Nothing for components without a value. */
static bool push_value(lua_State *L, const pu_multiaddr *a, size_t start, size_t end,
                       const char *name) {
  pu_multiaddr one = {.len = (uint16_t)(end - start)};
  char text[PU_MULTIADDR_MAX_TEXT];
  for (size_t i = start; i < end; i++)
    one.bytes[i - start] = a->bytes[i];
  (void)pu_multiaddr_text(&one, text);
  lua_pushstring(L, text);
  lua_pushfstring(L, "/%s", name);
  size_t head = lua_rawlen(L, -1), len = lua_rawlen(L, -2);
  lua_pop(L, 2);
  if (len <= head + 1)
    return false;
  lua_pushlstring(L, text + head + 1, len - head - 1);
  return true;
}

/* push_components pushes {{name, value}, ...}. */
static void push_components(lua_State *L, const pu_multiaddr *a) {
  pu_ma_component c;
  size_t pos = 0, start = 0;
  lua_newtable(L); // [list]
  for (lua_Integer i = 1; pu_multiaddr_next(a, &pos, &c); i++) {
    const char *name = pu_multiaddr_protocol_name(c.code);
    lua_createtable(L, 2, 0); // [list, pair]
    lua_pushstring(L, name != NULL ? name : "unknown");
    lua_rawseti(L, -2, 1);
    if (name != NULL && c.value != NULL && push_value(L, a, start, pos, name))
      lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, i);
    start = pos;
  }
}

/* set_host sets host (and port) to those of the first hop. */
static void set_host(lua_State *L, const pu_multiaddr *a, const pu_ma_target *target) {
  static const uint32_t hosts[] = {PU_MA_IP4,  PU_MA_IP6,  PU_MA_DNS,
                                   PU_MA_DNS4, PU_MA_DNS6, PU_MA_DNSADDR};
  pu_ma_component c;
  size_t pos = 0, start = 0;
  bool found = false;
  while (!found && pu_multiaddr_next(a, &pos, &c)) {
    for (size_t i = 0; i < PU_COUNT(hosts) && !found; i++)
      found = c.code == hosts[i];
    if (found && push_value(L, a, start, pos, pu_multiaddr_protocol_name(c.code)))
      lua_setfield(L, -2, "host");
    start = pos;
  }
  if (target->port == 0 && !pu_multiaddr_has(a, PU_MA_TCP) && !pu_multiaddr_has(a, PU_MA_UDP))
    return;
  lua_pushinteger(L, target->port);
  lua_setfield(L, -2, "port");
}

static int multiaddr_inspect(lua_State *L) {
  static const char *const kinds[] = {[PU_MA_KIND_OTHER] = "other",
                                      [PU_MA_KIND_TCP] = "tcp",
                                      [PU_MA_KIND_CIRCUIT] = "circuit",
                                      [PU_MA_KIND_QUIC] = "quic",
                                      [PU_MA_KIND_WS] = "ws"};
  pu_multiaddr a;
  pu_ma_target target = {0};
  int failed = parse(L, &a);
  if (failed != 0)
    return failed;
  pu_multiaddr_target(&a, &target);
  lua_createtable(L, 0, 10);
  lua_pushstring(L, kinds[target.kind]);
  lua_setfield(L, -2, "kind");
  set_text(L, "text", &a);
  set_host(L, &a, &target);
  set_peer(L, "peer", &target.peer);
  set_peer(L, "relay", &target.relay);
  if (target.relay_addr.len > 0)
    set_text(L, "relay_addr", &target.relay_addr);
  set_flag(L, "is_public", pu_multiaddr_is_public(&a));
  set_flag(L, "is_private", pu_multiaddr_is_private(&a));
  set_flag(L, "is_loopback", pu_multiaddr_is_loopback(&a));
  push_components(L, &a);
  lua_setfield(L, -2, "components");
  return 1;
}

void pul_multiaddr_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"parse", multiaddr_parse}, {"inspect", multiaddr_inspect}, {NULL, NULL}};
  luaL_newlib(L, functions);
}
