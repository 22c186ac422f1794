/* Probe of identify's messages (engine/protocols/identify_message.c). Addresses are binary. */
#include <string.h>

#include "peerup/error.h"
#include "probe.h"
#include "protocols/identify_message.h"

/* bytes_of returns a field of the table at 1 as borrowed bytes, NULL when it is absent; the string
 * stays on the stack. */
static const char *bytes_of(lua_State *L, const char *name, size_t *len) {
  *len = 0;
  return lua_getfield(L, 1, name) == LUA_TSTRING ? lua_tolstring(L, -1, len) : NULL;
}

static size_t read_addrs(lua_State *L, pu_multiaddr *out) {
  luaL_argcheck(L, lua_getfield(L, 1, "listen_addrs") == LUA_TTABLE, 1, "no listen_addrs");
  size_t count = (size_t)lua_rawlen(L, -1);
  luaL_argcheck(L, count <= PU_IDENTIFY_MAX_ADDRS, 1, "too many addresses");
  for (size_t i = 0; i < count; i++) {
    size_t len;
    (void)lua_rawgeti(L, -1, (lua_Integer)i + 1);
    const char *bytes = luaL_checklstring(L, -1, &len);
    luaL_argcheck(L, pu_multiaddr_from_bytes((const uint8_t *)bytes, len, &out[i]) == 0, 1,
                  "not an address");
    lua_pop(L, 1);
  }
  return count;
}

static size_t read_protocols(lua_State *L, const char **out) {
  luaL_argcheck(L, lua_getfield(L, 1, "protocols") == LUA_TTABLE, 1, "no protocols");
  size_t count = (size_t)lua_rawlen(L, -1);
  luaL_argcheck(L, count <= PU_IDENTIFY_MAX_OWN_PROTOCOLS, 1, "too many protocols");
  for (size_t i = 0; i < count; i++) {
    (void)lua_rawgeti(L, -1, (lua_Integer)i + 1);
    out[i] = luaL_checkstring(L, -1); /* stays in the list */
    lua_pop(L, 1);
  }
  return count;
}

/* encode(fields) -> bytes | nil, code */
static int encode(lua_State *L) {
  pu_multiaddr addrs[PU_IDENTIFY_MAX_ADDRS], observed = {0};
  const char *protocols[PU_IDENTIFY_MAX_OWN_PROTOCOLS];
  pu_public_key key;
  size_t len;
  const char *bytes = bytes_of(L, "public_key", &len);
  luaL_argcheck(L, bytes != NULL && pu_public_key_parse((const uint8_t *)bytes, len, &key) == 0, 1,
                "no key");
  pu_identify_own own = {.key = &key, .addrs = addrs, .protocols = protocols};
  own.addr_count = read_addrs(L, addrs);
  own.protocol_count = read_protocols(L, protocols);
  bytes = bytes_of(L, "observed_addr", &len);
  if (bytes != NULL) {
    luaL_argcheck(L, pu_multiaddr_from_bytes((const uint8_t *)bytes, len, &observed) == 0, 1,
                  "not an address");
    own.observed = &observed;
  }
  own.protocol_version = bytes_of(L, "protocol_version", &len);
  own.agent_version = bytes_of(L, "agent_version", &len);
  luaL_argcheck(L, own.protocol_version != NULL && own.agent_version != NULL, 1, "no versions");
  own.record = (const uint8_t *)bytes_of(L, "signed_peer_record", &own.record_len);
  pu_mem mem;
  uint8_t *out;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  int rc = pu_identify_encode(&mem, &own, &out, &len);
  if (rc != 0)
    return probe_fail(L, rc);
  lua_pushlstring(L, (const char *)out, len);
  pu_free(out);
  pu_mem_deinit(&mem);
  return 1;
}

static void set_bytes(lua_State *L, const char *name, const pu_identify_field *f) {
  if (f->data == NULL)
    return;
  lua_pushlstring(L, (const char *)f->data, f->len);
  lua_setfield(L, -2, name);
}

static void set_list(lua_State *L, const char *name, const pu_identify *m, pu_identify_list list) {
  pu_identify_field rest = m->all, f;
  lua_Integer n = 0;
  lua_newtable(L);
  while (pu_identify_next(&rest, list, &f)) {
    lua_pushlstring(L, (const char *)f.data, f.len);
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, name);
}

/* decode(stream, chunk) -> fields (and parts: how many messages) | nil, code */
static int decode(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  lua_Integer chunk = luaL_checkinteger(L, 2);
  luaL_argcheck(L, chunk > 0, 2, "not positive");
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_identify_reader r;
  pu_identify_reader_init(&r, &mem);
  int rc = 0;
  for (size_t at = 0; at < len && rc == 0; at += (size_t)chunk)
    rc = pu_identify_reader_feed(&r, in + at, len - at < (size_t)chunk ? len - at : (size_t)chunk);
  pu_identify m;
  if (rc == 0)
    rc = pu_identify_reader_end(&r, &m);
  if (rc == 0) {
    lua_newtable(L);
    lua_pushinteger(L, r.parts);
    lua_setfield(L, -2, "parts");
    set_bytes(L, "public_key", &m.public_key);
    set_bytes(L, "observed_addr", &m.observed);
    set_bytes(L, "protocol_version", &m.protocol_version);
    set_bytes(L, "agent_version", &m.agent_version);
    set_bytes(L, "signed_peer_record", &m.record);
    set_list(L, "listen_addrs", &m, PU_IDENTIFY_ADDRS);
    set_list(L, "protocols", &m, PU_IDENTIFY_PROTOCOLS);
  }
  pu_identify_reader_free(&r);
  pu_mem_deinit(&mem);
  return rc == 0 ? 1 : probe_fail(L, rc);
}

const luaL_Reg probe_identify[] = {
    {"encode", encode},
    {"decode", decode},
    {NULL, NULL},
};
