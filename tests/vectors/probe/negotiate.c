/* Probe of engine/negotiate: tokens, and both sides of a negotiation fed in pieces. */
#include <string.h>

#include "negotiate/multistream.h"
#include "probe.h"

#define NAMES_MAX 16
#define OUTPUT_MAX 16384

/* The names of a Lua list; the strings belong to the list. */
typedef struct names {
  const char *name[NAMES_MAX];
  size_t len[NAMES_MAX];
  size_t count;
} names;

static void check_names(lua_State *L, int arg, names *out) {
  luaL_checktype(L, arg, LUA_TTABLE);
  out->count = (size_t)lua_rawlen(L, arg);
  luaL_argcheck(L, out->count <= NAMES_MAX, arg, "too many names");
  for (size_t i = 0; i < out->count; i++) {
    luaL_argcheck(L, lua_rawgeti(L, arg, (lua_Integer)i + 1) == LUA_TSTRING, arg, "not a name");
    out->name[i] = lua_tolstring(L, -1, &out->len[i]);
    lua_pop(L, 1);
  }
}

static const char *match(void *data, const char *offer, size_t len) {
  const names *served = data;
  for (size_t i = 0; i < served->count; i++) {
    if (served->len[i] == len && memcmp(served->name[i], offer, len) == 0)
      return served->name[i];
  }
  return NULL;
}

/* converse feeds |in| in pieces of |chunk|, writing before each. Pushes: what it sent, the name
 * agreed on or nil, the bytes it was given (the failing piece included), and the error's name. */
static int converse(lua_State *L, pu_multistream *m, const uint8_t *in, size_t len, size_t chunk) {
  uint8_t out[OUTPUT_MAX];
  size_t sent = 0, used = 0;
  ssize_t got = 0;
  for (;;) {
    sent += pu_multistream_write(m, out + sent, sizeof(out) - sent);
    size_t piece = len - used < chunk ? len - used : chunk;
    if (piece == 0)
      break;
    got = pu_multistream_read(m, in + used, piece);
    used += got < 0 ? piece : (size_t)got;
    if (got < 0 || (got == 0 && pu_multistream_state_of(m) == PU_MS_DONE))
      break;
  }
  bool done = pu_multistream_state_of(m) == PU_MS_DONE;
  lua_pushlstring(L, (const char *)out, sent);
  lua_pushstring(L, done ? pu_multistream_protocol(m) : NULL);
  lua_pushinteger(L, (lua_Integer)used);
  if (got >= 0)
    return 3;
  (void)probe_fail(L, (int)got);
  lua_remove(L, -2);
  return 4;
}

static size_t check_chunk(lua_State *L, int arg) {
  lua_Integer chunk = luaL_checkinteger(L, arg);
  luaL_argcheck(L, chunk > 0, arg, "not positive");
  return (size_t)chunk;
}

/* listen(names, input, chunk) -> sent, name | nil, used [, code] */
static int probe_listen(lua_State *L) {
  names served;
  size_t len;
  check_names(L, 1, &served);
  const uint8_t *in = probe_bytes(L, 2, &len);
  pu_multistream m;
  pu_multistream_listen(&m, match, &served);
  return converse(L, &m, in, len, check_chunk(L, 3));
}

/* dial(offers, lazy, input, chunk) -> sent, name | nil, used [, code] */
static int probe_dial(lua_State *L) {
  names offers;
  size_t len;
  check_names(L, 1, &offers);
  bool lazy = lua_toboolean(L, 2);
  luaL_argcheck(L, offers.count > 0 && (!lazy || offers.count == 1), 1, "wrong number of offers");
  const uint8_t *in = probe_bytes(L, 3, &len);
  pu_multistream m;
  pu_multistream_dial(&m, offers.name, offers.count, lazy);
  return converse(L, &m, in, len, check_chunk(L, 4));
}

/* token(text) -> bytes | nil */
static int token(lua_State *L) {
  uint8_t out[PU_MULTISTREAM_MAX_TOKEN + 2];
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  size_t n = pu_multistream_token(out, sizeof(out), text, len);
  if (n == 0)
    lua_pushnil(L);
  else
    lua_pushlstring(L, (const char *)out, n);
  return 1;
}

/* parse(bytes) -> text, used | nil, code or "more" */
static int parse(lua_State *L) {
  size_t len, text_len;
  const char *text;
  const uint8_t *in = probe_bytes(L, 1, &len);
  ssize_t n = pu_multistream_parse(in, len, &text, &text_len);
  if (n < 0)
    return probe_fail(L, (int)n);
  if (n == 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "more");
    return 2;
  }
  lua_pushlstring(L, text, text_len);
  lua_pushinteger(L, (lua_Integer)n);
  return 2;
}

const luaL_Reg probe_negotiate[] = {
    {"listen", probe_listen}, {"dial", probe_dial}, {"token", token},
    {"parse", parse},         {NULL, NULL},
};
