/* Probe of engine/multiaddr. */
#include "multiaddr/multiaddr.h"

#include "probe.h"

static int push_addr(lua_State *L, int rc, const pu_multiaddr *a, bool as_text) {
  if (rc != 0)
    return probe_fail(L, rc);
  char text[PU_MULTIADDR_MAX_TEXT];
  if (as_text)
    lua_pushstring(L, pu_multiaddr_text(a, text));
  else
    lua_pushlstring(L, (const char *)a->bytes, a->len);
  return 1;
}

/* from_text(text) -> bytes | nil, code */
static int from_text(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  pu_multiaddr a;
  int rc = pu_multiaddr_from_text(text, len, &a, NULL);
  return push_addr(L, rc, &a, false);
}

/* from_bytes(bytes) -> text | nil, code */
static int from_bytes(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_multiaddr a;
  int rc = pu_multiaddr_from_bytes(in, len, &a);
  return push_addr(L, rc, &a, true);
}

/* components(bytes) -> { { code, name, value bytes } ... }: what the vectors list */
static int components(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_multiaddr a;
  int rc = pu_multiaddr_from_bytes(in, len, &a);
  if (rc != 0)
    return probe_fail(L, rc);
  lua_newtable(L);
  pu_ma_component c;
  lua_Integer n = 0;
  for (size_t pos = 0; pu_multiaddr_next(&a, &pos, &c);) {
    lua_newtable(L);
    lua_pushinteger(L, (lua_Integer)c.code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, pu_multiaddr_protocol_name(c.code));
    lua_setfield(L, -2, "name");
    lua_pushlstring(L, (const char *)c.value, c.len);
    lua_setfield(L, -2, "value");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* classes(bytes) -> { is_loopback, is_private, is_public, is_relayed, kind, family } */
static int classes(lua_State *L) {
  static const char *const kinds[] = {"other", "tcp", "circuit", "quic", "ws"};
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_multiaddr a;
  int rc = pu_multiaddr_from_bytes(in, len, &a);
  if (rc != 0)
    return probe_fail(L, rc);
  pu_ma_target t;
  pu_multiaddr_target(&a, &t);
  lua_newtable(L);
  lua_pushboolean(L, pu_multiaddr_is_loopback(&a));
  lua_setfield(L, -2, "is_loopback");
  lua_pushboolean(L, pu_multiaddr_is_private(&a));
  lua_setfield(L, -2, "is_private");
  lua_pushboolean(L, pu_multiaddr_is_public(&a));
  lua_setfield(L, -2, "is_public");
  lua_pushboolean(L, pu_multiaddr_is_relayed(&a));
  lua_setfield(L, -2, "is_relayed");
  lua_pushstring(L, kinds[t.kind]);
  lua_setfield(L, -2, "kind");
  lua_pushinteger(L, t.family);
  lua_setfield(L, -2, "family");
  return 1;
}

const luaL_Reg probe_multiaddr[] = {
    {"from_text", from_text},
    {"from_bytes", from_bytes},
    {"components", components},
    {"classes", classes},
    {NULL, NULL},
};
