/* Probe of the messages of circuit relay v2 (engine/protocols/relay_message.c). Peer IDs and
 * addresses are binary. */
#include <string.h>

#include "probe.h"
#include "protocols/relay_message.h"

static pu_relay_bytes bytes_field(lua_State *L, const char *name) {
  pu_relay_bytes out = {0};
  if (lua_getfield(L, 1, name) == LUA_TSTRING) /* stays on the stack */
    out.data = (const uint8_t *)lua_tolstring(L, -1, &out.len);
  return out;
}

static bool number_field(lua_State *L, const char *name, uint64_t *out) {
  bool there = lua_getfield(L, 1, name) != LUA_TNIL;
  if (there)
    *out = (uint64_t)luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  return there;
}

/* encode { stop, type, peer?, expire?, addrs?, voucher?, duration?, data?, status? } -> delimited
 * bytes | nil, code. |expire| makes a reservation; |duration| or |data| a limit. */
static int encode(lua_State *L) {
  pu_relay_message m = {0};
  uint64_t number = 0;
  uint8_t out[PU_RELAY_MESSAGE_MAX + 2];
  luaL_checkstack(L, (int)PU_RELAY_ADDRS_MAX + 8, NULL);
  (void)lua_getfield(L, 1, "stop");
  m.stop = lua_toboolean(L, -1);
  luaL_argcheck(L, number_field(L, "type", &number), 1, "no type");
  m.type = (uint32_t)number;
  m.peer = bytes_field(L, "peer");
  m.has_peer = m.peer.data != NULL;
  m.has_reservation = number_field(L, "expire", &m.expire);
  m.voucher = bytes_field(L, "voucher");
  if (lua_getfield(L, 1, "addrs") == LUA_TTABLE) {
    int list = lua_gettop(L);
    m.addr_count = (size_t)lua_rawlen(L, list);
    luaL_argcheck(L, m.addr_count <= PU_RELAY_ADDRS_MAX, 1, "too many addresses");
    for (size_t i = 0; i < m.addr_count; i++) {
      (void)lua_rawgeti(L, list, (lua_Integer)i + 1);
      m.addrs[i].data = (const uint8_t *)luaL_checklstring(L, -1, &m.addrs[i].len);
    }
  }
  if (number_field(L, "duration", &number)) {
    m.has_limit = true;
    m.limit_duration_s = (uint32_t)number;
  }
  if (number_field(L, "data", &m.limit_data_bytes))
    m.has_limit = true;
  if (number_field(L, "status", &number)) {
    m.has_status = true;
    m.status = (uint32_t)number;
  }
  ssize_t n = pu_relay_encode(&m, out, sizeof(out));
  if (n < 0)
    return probe_fail(L, (int)n);
  lua_pushlstring(L, (const char *)out, (size_t)n);
  return 1;
}

static void set_bytes(lua_State *L, const char *name, pu_relay_bytes bytes) {
  if (bytes.data == NULL)
    return;
  lua_pushlstring(L, (const char *)bytes.data, bytes.len);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

/* decode(stop, stream, chunk) -> fields as for encode, bytes that were the message's | nil, code.
 * The stream is fed in pieces of |chunk| bytes; what follows the message is not to be taken. */
static int decode(lua_State *L) {
  pu_relay_reader r = {0};
  pu_relay_message m;
  size_t len, used = 0;
  bool stop = lua_toboolean(L, 1), done = false;
  const uint8_t *in = probe_bytes(L, 2, &len);
  size_t chunk = (size_t)luaL_checkinteger(L, 3);
  luaL_argcheck(L, chunk > 0, 3, "not a size");
  while (!done && used < len) {
    size_t piece = len - used < chunk ? len - used : chunk;
    ssize_t n = pu_relay_reader_feed(&r, in + used, piece, &done);
    if (n < 0)
      return probe_fail(L, (int)n);
    if (!done && (size_t)n != piece)
      return luaL_error(L, "bytes left before the message was whole");
    used += (size_t)n;
  }
  int rc = done ? pu_relay_reader_decode(&r, stop, &m) : PU_E_AGAIN;
  if (rc != 0)
    return probe_fail(L, rc);
  lua_newtable(L);
  lua_pushboolean(L, m.stop);
  lua_setfield(L, -2, "stop");
  set_number(L, "type", m.type);
  set_bytes(L, "peer", m.peer);
  if (m.has_reservation)
    set_number(L, "expire", m.expire);
  set_bytes(L, "voucher", m.voucher);
  lua_newtable(L);
  for (size_t i = 0; i < m.addr_count; i++) {
    lua_pushlstring(L, (const char *)m.addrs[i].data, m.addrs[i].len);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "addrs");
  if (m.has_limit) {
    set_number(L, "duration", m.limit_duration_s);
    set_number(L, "data", m.limit_data_bytes);
  }
  if (m.has_status)
    set_number(L, "status", m.status);
  set_number(L, "used", used);
  return 1;
}

/* status_name(number) -> text */
static int status_name(lua_State *L) {
  lua_pushstring(L, pu_relay_status_name((uint32_t)luaL_checkinteger(L, 1)));
  return 1;
}

const luaL_Reg probe_relay[] = {
    {"encode", encode}, {"decode", decode}, {"status_name", status_name}, {NULL, NULL}};
