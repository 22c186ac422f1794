/* Probe of engine/base: varints. Values cross as decimal strings, as the vectors have them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/varint.h"
#include "peerup/error.h"
#include "probe.h"

/* varint_get(bytes) -> value, used | nil, code ("again": more bytes needed) */
static int varint_get(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  uint64_t value;
  ssize_t used = pu_varint_get(in, len, &value);
  if (used <= 0)
    return probe_fail(L, used == 0 ? PU_E_AGAIN : (int)used);
  char text[24];
  (void)snprintf(text, sizeof(text), "%" PRIu64, value);
  lua_pushstring(L, text);
  lua_pushinteger(L, (lua_Integer)used);
  return 2;
}

/* varint_put(value) -> bytes */
static int varint_put(lua_State *L) {
  uint64_t value = strtoull(luaL_checkstring(L, 1), NULL, 10);
  uint8_t out[PU_VARINT_MAX_BYTES];
  luaL_argcheck(L, value >> 63 == 0, 1, "2^63 or more");
  lua_pushlstring(L, (const char *)out, pu_varint_put(out, value));
  return 1;
}

const luaL_Reg probe_base[] = {
    {"varint_get", varint_get}, {"varint_put", varint_put}, {NULL, NULL}};
