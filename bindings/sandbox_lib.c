/* What stands inside a sandbox: Lua's own functions from a list, those that could loop in C behind
 * a guard that counts or refuses (docs/adr/0011). */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "bindings/sandbox.h"

/* The longest worst case of one match, in steps of the matcher: about 2 ms. */
#define MATCH_MAX 500000.0
#define PATTERN_MAX 256
/* The most elements one table function moves. */
#define ELEMENTS_MAX 65536
#define SORT_MAX 8192
#define UNPACK_MAX 4096

/* through calls the guarded function, upvalue 1, with all arguments. */
static int through(lua_State *S) {
  lua_pushvalue(S, lua_upvalueindex(1));
  lua_insert(S, 1);
  lua_call(S, lua_gettop(S) - 1, LUA_MULTRET);
  return lua_gettop(S);
}

/* ---- tables ---- */

/* plain_len returns the length of the table at 1, which has no metatable that could lie about it.
 */
static lua_Integer plain_len(lua_State *S) {
  luaL_checktype(S, 1, LUA_TTABLE);
  if (lua_getmetatable(S, 1))
    luaL_argerror(S, 1, "a table with a metatable is not taken here");
  return (lua_Integer)lua_rawlen(S, 1);
}

/* count_range returns how many lie from |from| to |to|, at most |most|; more is an error. */
static uint64_t count_range(lua_State *S, lua_Integer from, lua_Integer to, lua_Integer most) {
  if (from > to)
    return 0;
  const lua_Unsigned count = (lua_Unsigned)to - (lua_Unsigned)from;
  if (count >= (lua_Unsigned)most)
    luaL_error(S, "too many elements at once (at most %d)", (int)most);
  return count + 1;
}

static int shifting(lua_State *S) { /* insert, remove */
  const lua_Integer len = plain_len(S);
  pul_sandbox_charge(S, lua_gettop(S) > 1 ? (uint64_t)len : 1);
  return through(S);
}

static int table_sort(lua_State *S) {
  const lua_Integer len = plain_len(S);
  uint64_t cost = 1;
  if (len > SORT_MAX)
    return luaL_error(S, "too many elements to sort (at most %d)", SORT_MAX);
  for (lua_Integer n = len; n > 1; n /= 2)
    cost += (uint64_t)len;
  pul_sandbox_charge(S, cost);
  return through(S);
}

static int table_concat(lua_State *S) {
  const lua_Integer len = plain_len(S);
  pul_sandbox_charge(
      S, count_range(S, luaL_optinteger(S, 3, 1), luaL_optinteger(S, 4, len), ELEMENTS_MAX));
  return through(S);
}

static int table_unpack(lua_State *S) {
  const lua_Integer len = plain_len(S);
  pul_sandbox_charge(
      S, count_range(S, luaL_optinteger(S, 2, 1), luaL_optinteger(S, 3, len), UNPACK_MAX));
  return through(S);
}

static int table_move(lua_State *S) {
  (void)plain_len(S);
  if (lua_istable(S, 5) && lua_getmetatable(S, 5))
    luaL_argerror(S, 5, "a table with a metatable is not taken here");
  pul_sandbox_charge(
      S, count_range(S, luaL_checkinteger(S, 2), luaL_checkinteger(S, 3), ELEMENTS_MAX));
  return through(S);
}

/* base_setmetatable keeps finalizers out: they run with hooks off. */
static int base_setmetatable(lua_State *S) {
  if (lua_istable(S, 2)) {
    lua_pushliteral(S, "__gc");
    if (lua_rawget(S, 2) != LUA_TNIL)
      return luaL_error(S, "__gc is not possible here");
    lua_pop(S, 1);
  }
  return through(S);
}

/* ---- strings ---- */

static int string_rep(lua_State *S) {
  size_t len, sep_len;
  (void)luaL_checklstring(S, 1, &len);
  const lua_Integer n = luaL_checkinteger(S, 2);
  (void)luaL_optlstring(S, 3, "", &sep_len);
  const size_t each = len + sep_len;
  if (n > 0 && each > 0 && (lua_Unsigned)n > PUL_SANDBOX_STRING_MAX / each + 1)
    return luaL_error(S, "the result would be longer than %d KiB",
                      (int)(PUL_SANDBOX_STRING_MAX >> 10));
  if (n <= 0 || each == 0) { /* of nothing: not counted out one by one */
    lua_pushliteral(S, "");
    return 1;
  }
  pul_sandbox_charge(S, (uint64_t)n);
  return through(S);
}

/* A pattern as far as its cost goes. */
typedef struct shape {
  int many;   /* items that can take any number of characters */
  int maybe;  /* items that can take one or none */
  size_t set; /* length of the longest set */
  bool anchored;
} shape;

/* skip_set returns the end of the set that begins at |p| + |i|. */
static size_t skip_set(const char *p, size_t len, size_t i) {
  i++;
  if (i < len && p[i] == '^')
    i++;
  do { /* a ] right at the begin stands for itself */
    if (i < len && p[i] == '%')
      i++;
    i++;
  } while (i < len && p[i] != ']');
  return i + 1;
}

static shape shape_of(const char *p, size_t len) {
  shape s = {.anchored = len > 0 && p[0] == '^'};
  for (size_t i = s.anchored ? 1 : 0; i < len;) {
    if (p[i] == '%' && i + 1 < len && p[i + 1] == 'b') {
      s.many++;
      i += 4;
      continue;
    }
    if (p[i] == '[') {
      const size_t end = skip_set(p, len, i);
      if (end - i > s.set)
        s.set = end - i;
      i = end;
    } else {
      i += p[i] == '%' ? 2 : 1;
    }
    if (i < len && (p[i] == '*' || p[i] == '+' || p[i] == '-'))
      s.many++;
    else if (i < len && p[i] == '?')
      s.maybe++;
  }
  return s;
}

/* match_cost is the worst case of matching: the ways to place the ends of |many| items in |n|
 * characters, and the beginning too unless it is anchored. */
static double match_cost(size_t n, const char *pattern, size_t len) {
  const shape s = shape_of(pattern, len);
  const int ends = s.many + (s.anchored ? 0 : 1);
  double cost = 1.0 + (double)len / 16 + (double)s.set / 4;
  for (int i = 1; i <= ends && cost <= MATCH_MAX; i++)
    cost *= ((double)n + i) / i;
  for (int i = 0; i < s.maybe && cost <= MATCH_MAX; i++)
    cost *= 2;
  return cost;
}

static int matching(lua_State *S) { /* find, match, gmatch, gsub */
  size_t n, len;
  (void)luaL_checklstring(S, 1, &n);
  const char *pattern = luaL_checklstring(S, 2, &len);
  if (len > PATTERN_MAX)
    return luaL_error(S, "the pattern is longer than %d characters", PATTERN_MAX);
  const bool plain = lua_toboolean(S, 4) && lua_gettop(S) == 4; /* find(s, text, init, true) */
  if (!plain && match_cost(n, pattern, len) > MATCH_MAX)
    return luaL_error(S,
                      "this pattern could take too long on %d characters: begin it with ^, or "
                      "use fewer of * + - ?",
                      (int)n);
  pul_sandbox_charge(S, 1 + n / 16);
  return through(S);
}

/* ---- the list ---- */

typedef struct guard {
  const char *name;
  lua_CFunction guarded; /* NULL: as it is */
} guard;

static const guard base_list[] = {
    {"assert", NULL},   {"error", NULL},    {"getmetatable", NULL},
    {"ipairs", NULL},   {"next", NULL},     {"pairs", NULL},
    {"pcall", NULL},    {"rawequal", NULL}, {"rawget", NULL},
    {"rawlen", NULL},   {"rawset", NULL},   {"select", NULL},
    {"tonumber", NULL}, {"tostring", NULL}, {"type", NULL},
    {"xpcall", NULL},   {"_VERSION", NULL}, {"setmetatable", base_setmetatable},
    {NULL, NULL}};

static const guard string_list[] = {{"byte", NULL},    {"char", NULL},       {"find", matching},
                                    {"format", NULL},  {"gmatch", matching}, {"gsub", matching},
                                    {"len", NULL},     {"lower", NULL},      {"match", matching},
                                    {"pack", NULL},    {"packsize", NULL},   {"rep", string_rep},
                                    {"reverse", NULL}, {"sub", NULL},        {"unpack", NULL},
                                    {"upper", NULL},   {NULL, NULL}};

static const guard table_list[] = {
    {"concat", table_concat}, {"insert", shifting}, {"move", table_move},     {"pack", NULL},
    {"remove", shifting},     {"sort", table_sort}, {"unpack", table_unpack}, {NULL, NULL}};

/* take makes a table of what |list| names of the table on top of the stack, in its place. */
static void take(lua_State *S, const guard *list) {
  lua_newtable(S); // [all, some]
  for (; list->name != NULL; list++) {
    lua_getfield(S, -2, list->name);
    if (list->guarded != NULL)
      lua_pushcclosure(S, list->guarded, 1);
    lua_setfield(S, -2, list->name);
  }
  lua_remove(S, -2);
}

static void open_lib(lua_State *S, const char *name, lua_CFunction open) {
  lua_pushcfunction(S, open);
  lua_pushstring(S, name);
  lua_call(S, 1, 1);
}

void pul_sandbox_libs(lua_State *S) {
  open_lib(S, "_G", luaopen_base);
  take(S, base_list); // [globals]
  open_lib(S, "string", luaopen_string);
  take(S, string_list); // [globals, string]
  lua_pushliteral(S, "");
  (void)lua_getmetatable(S, -1); // [globals, string, "", mt]
  lua_createtable(S, 0, 2);      // [globals, string, "", mt, new mt]
  lua_pushvalue(S, -4);
  lua_setfield(S, -2, "__index");
  lua_pushboolean(S, 0);
  lua_setfield(S, -2, "__metatable");
  lua_setmetatable(S, -3); // [globals, string, "", mt]
  lua_pop(S, 2);
  lua_setfield(S, -2, "string");
  open_lib(S, "table", luaopen_table);
  take(S, table_list);
  lua_setfield(S, -2, "table");
  open_lib(S, "math", luaopen_math);
  lua_setfield(S, -2, "math");
  open_lib(S, "utf8", luaopen_utf8);
  lua_setfield(S, -2, "utf8");
  lua_pushvalue(S, -1);
  lua_setfield(S, -2, "_G");
  lua_rawseti(S, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}
