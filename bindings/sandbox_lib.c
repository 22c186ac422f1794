/* What stands inside a sandbox: Lua's own functions from a list, those that could loop in C behind
 * a guard that counts or refuses (docs/adr/0011). */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "bindings/sandbox.h"

/* The longest worst case of one match, in steps of the matcher: about 2 ms. */
#define MATCH_MAX 300000.0
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

/* less_counted compares for sort, by the function in upvalue 1 if there is one: many comparisons
 * may go by without an instruction of Lua's. */
static int less_counted(lua_State *S) {
  size_t len = 0;
  if (lua_isnil(S, lua_upvalueindex(1))) {
    if (lua_type(S, 1) == LUA_TSTRING)
      (void)lua_tolstring(S, 1, &len);
    pul_sandbox_charge(S, 1 + len / 16);
    lua_pushboolean(S, lua_compare(S, 1, 2, LUA_OPLT));
    return 1;
  }
  pul_sandbox_charge(S, 1);
  lua_settop(S, 2);
  lua_pushvalue(S, lua_upvalueindex(1));
  lua_insert(S, 1);
  lua_call(S, 2, 1);
  return 1;
}

static int table_sort(lua_State *S) {
  const lua_Integer len = plain_len(S);
  uint64_t cost = 1;
  lua_settop(S, 2);
  if (!lua_isnil(S, 2))
    luaL_checktype(S, 2, LUA_TFUNCTION);
  lua_pushcclosure(S, less_counted, 1);
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

/* ---- base ---- */

/* The metamethods there are. Without __gc, which runs with hooks off, and __mode, for which the
 * collector may take long. */
static const char *const events[] = {
    "__index", "__newindex", "__call",   "__tostring", "__pairs", "__close", "__eq",
    "__lt",    "__le",       "__concat", "__len",      "__unm",   "__add",   "__sub",
    "__mul",   "__div",      "__idiv",   "__mod",      "__pow",   "__band",  "__bor",
    "__bxor",  "__shl",      "__shr",    "__bnot",     "__name"};

static void no_field(lua_State *S, const char *name) {
  lua_pushstring(S, name);
  if (lua_rawget(S, 2) != LUA_TNIL)
    luaL_error(S, "%s is not possible here", name);
  lua_pop(S, 1);
}

/* base_setmetatable gives a table a copy of what the metatable holds now, so that what is looked at
 * here stays so: what is put into the metatable later has no effect. getmetatable returns the
 * original. At 1 the copy tells whether it is protected. */
static int base_setmetatable(lua_State *S) {
  luaL_checktype(S, 1, LUA_TTABLE);
  if (!lua_isnil(S, 2) && !lua_istable(S, 2))
    return luaL_typeerror(S, 2, "nil or table");
  lua_settop(S, 2);
  if (lua_getmetatable(S, 1) && lua_rawgeti(S, -1, 1) != LUA_TNIL)
    return luaL_error(S, "cannot change a protected metatable");
  lua_settop(S, 2);
  if (lua_isnil(S, 2)) {
    lua_setmetatable(S, 1);
    return 1;
  }
  no_field(S, "__gc");
  no_field(S, "__mode");
  lua_newtable(S); // [t, mt, copy]
  for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
    lua_pushstring(S, events[i]);
    lua_pushvalue(S, -1);
    const int type = lua_rawget(S, 2); // [t, mt, copy, name, value]
    /* A table to call may be its own __call: Lua would look for the end of that by itself. */
    if (i == 2 && type != LUA_TNIL && type != LUA_TFUNCTION)
      return luaL_error(S, "__call must be a function");
    if (type != LUA_TNIL)
      lua_rawset(S, 3);
    lua_settop(S, 3);
  }
  lua_pushliteral(S, "__metatable");
  lua_pushvalue(S, -1);
  if (lua_rawget(S, 2) != LUA_TNIL) {
    lua_pushboolean(S, 1);
    lua_rawseti(S, 3, 1);
  } else {
    lua_pop(S, 1);
    lua_pushvalue(S, 2);
  }
  lua_rawset(S, 3);
  lua_setmetatable(S, 1); // [t, mt]
  lua_settop(S, 1);
  return 1;
}

/* base_xpcall calls the handler when the call is over: where Lua calls it, within the hook that
 * threw, no hook would stop it. */
static int base_xpcall(lua_State *S) {
  luaL_checktype(S, 2, LUA_TFUNCTION);
  lua_pushvalue(S, 2);
  lua_insert(S, 1); // [handler, f, handler, ...]
  lua_remove(S, 3); // [handler, f, ...]
  const bool good = lua_pcall(S, lua_gettop(S) - 2, LUA_MULTRET, 0) == LUA_OK;
  if (!good) { // [handler, message]
    lua_pushvalue(S, 1);
    lua_insert(S, 2);
    (void)lua_pcall(S, 1, LUA_MULTRET, 0);
  }
  lua_pushboolean(S, good);
  lua_replace(S, 1);
  return lua_gettop(S);
}

/* push_text pushes what tostring makes of the value at |i|, without addresses of our memory. */
static void push_text(lua_State *S, int i) {
  const int at = lua_absindex(S, i);
  const int type = lua_type(S, at);
  if (luaL_getmetafield(S, at, "__tostring") != LUA_TNIL) {
    lua_pop(S, 1);
  } else if (type == LUA_TTABLE || type == LUA_TFUNCTION) {
    lua_pushstring(S, lua_typename(S, type));
    return;
  }
  (void)luaL_tolstring(S, at, NULL);
}

static int base_tostring(lua_State *S) {
  luaL_checkany(S, 1);
  lua_settop(S, 1);
  push_text(S, 1);
  return 1;
}

/* math_randomseed takes a seed, since it would return an address that it made one of. */
static int math_randomseed(lua_State *S) {
  (void)luaL_checknumber(S, 1);
  (void)through(S);
  return 0;
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
  int backs;  /* captures compared with */
  size_t run; /* the most single items in a row */
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

static shape shape_of(const char *p, size_t len, bool anchors) {
  shape s = {.anchored = anchors && len > 0 && p[0] == '^'};
  size_t run = 0;
  for (size_t i = s.anchored ? 1 : 0; i < len;) {
    if (p[i] == '%' && i + 1 < len && p[i + 1] == 'b') {
      s.many++;
      i += 4;
      continue;
    }
    if (p[i] == '%' && i + 1 < len && p[i + 1] >= '0' && p[i + 1] <= '9')
      s.backs++;
    if (p[i] == '[') {
      const size_t end = skip_set(p, len, i);
      if (end - i > s.set)
        s.set = end - i;
      i = end;
    } else {
      i += p[i] == '%' ? 2 : 1;
    }
    run++;
    if (run > s.run)
      s.run = run;
    if (i < len && (p[i] == '*' || p[i] == '+' || p[i] == '-')) {
      s.many++;
      run = 0;
    } else if (i < len && p[i] == '?') {
      s.maybe++;
    }
  }
  return s;
}

/* match_cost is the worst case of matching: the ways to place the ends of |many| items in |n|
 * characters, and the beginning too unless it is anchored. */
static double match_cost(size_t n, const char *pattern, size_t len, bool anchors) {
  const shape s = shape_of(pattern, len, anchors);
  const int ends = s.many + (s.anchored ? 0 : 1);
  double cost = 1.0 + (double)s.run / 4 + (double)s.set / 4 + (double)s.backs * (double)n / 64;
  for (int i = 1; i <= ends && cost <= MATCH_MAX; i++)
    cost *= ((double)n + i) / i;
  for (int i = 0; i < s.maybe && cost <= MATCH_MAX; i++)
    cost *= 2;
  return cost;
}

/* check_match refuses the pattern at 2 when it could take too long on the text at 1. */
static void check_match(lua_State *S, bool plain, bool anchors) {
  size_t n, len;
  (void)luaL_checklstring(S, 1, &n);
  const char *pattern = luaL_checklstring(S, 2, &len);
  if (len > PATTERN_MAX)
    luaL_error(S, "the pattern is longer than %d characters", PATTERN_MAX);
  if (!plain && match_cost(n, pattern, len, anchors) > MATCH_MAX)
    luaL_error(S,
               "this pattern could take too long on %d characters: begin it with ^, or "
               "use fewer of * + - ?",
               (int)n);
  pul_sandbox_charge(S, 1 + n / 16);
}

static int string_find(lua_State *S) {
  check_match(S, lua_toboolean(S, 4), true);
  return through(S);
}

static int string_match(lua_State *S) {
  check_match(S, false, true);
  return through(S);
}

/* counted calls the function in upvalue 1 from where C would call it again and again. */
static int counted(lua_State *S) {
  pul_sandbox_charge(S, 1);
  return through(S);
}

static int string_gmatch(lua_State *S) {
  check_match(S, false, false); /* ^ stands for itself there */
  (void)through(S);
  lua_settop(S, 1);
  lua_pushcclosure(S, counted, 1); /* each step may take as long as a match */
  return 1;
}

static int string_gsub(lua_State *S) {
  check_match(S, false, true);
  if (lua_istable(S, 3) && lua_getmetatable(S, 3))
    luaL_argerror(S, 3, "a table with a metatable is not taken here");
  if (lua_isfunction(S, 3)) {
    lua_pushvalue(S, 3);
    lua_pushcclosure(S, counted, 1);
    lua_replace(S, 3);
  }
  return through(S);
}

/* string_format makes texts of what would be shown with its address. */
static int string_format(lua_State *S) {
  size_t len;
  const char *format = luaL_checklstring(S, 1, &len);
  for (size_t i = 0; i + 1 < len; i++) {
    if (format[i] != '%')
      continue;
    for (i++; i < len && strchr("-+#0 .123456789", format[i]) != NULL && format[i] != '\0'; i++) {
    }
    if (i < len && format[i] == 'p')
      return luaL_error(S, "%%p is not possible here");
  }
  for (int i = 2; i <= lua_gettop(S); i++) {
    if (lua_type(S, i) == LUA_TTABLE || lua_type(S, i) == LUA_TFUNCTION) {
      luaL_checkstack(S, LUA_MINSTACK, NULL);
      push_text(S, i);
      lua_replace(S, i);
    }
  }
  return through(S);
}

/* ---- the list ---- */

typedef struct guard {
  const char *name;
  lua_CFunction guarded; /* NULL: as it is */
} guard;

static const guard base_list[] = {{"assert", NULL},
                                  {"error", NULL},
                                  {"getmetatable", NULL},
                                  {"ipairs", NULL},
                                  {"next", NULL},
                                  {"pairs", NULL},
                                  {"pcall", NULL},
                                  {"rawequal", NULL},
                                  {"rawget", NULL},
                                  {"rawlen", NULL},
                                  {"rawset", NULL},
                                  {"select", NULL},
                                  {"tonumber", NULL},
                                  {"tostring", base_tostring},
                                  {"type", NULL},
                                  {"xpcall", base_xpcall},
                                  {"_VERSION", NULL},
                                  {"setmetatable", base_setmetatable},
                                  {NULL, NULL}};

static const guard string_list[] = {{"byte", NULL},
                                    {"char", NULL},
                                    {"find", string_find},
                                    {"format", string_format},
                                    {"gmatch", string_gmatch},
                                    {"gsub", string_gsub},
                                    {"len", NULL},
                                    {"lower", NULL},
                                    {"match", string_match},
                                    {"pack", NULL},
                                    {"packsize", NULL},
                                    {"rep", string_rep},
                                    {"reverse", NULL},
                                    {"sub", NULL},
                                    {"unpack", NULL},
                                    {"upper", NULL},
                                    {NULL, NULL}};

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
  (void)lua_getmetatable(S, -1); // [globals, string, "", mt], with the arithmetic
  lua_pushvalue(S, -3);
  lua_setfield(S, -2, "__index");
  lua_pushboolean(S, 0);
  lua_setfield(S, -2, "__metatable");
  lua_pop(S, 2);
  lua_setfield(S, -2, "string");
  open_lib(S, "table", luaopen_table);
  take(S, table_list);
  lua_setfield(S, -2, "table");
  open_lib(S, "math", luaopen_math);
  lua_getfield(S, -1, "randomseed");
  lua_pushcclosure(S, math_randomseed, 1);
  lua_setfield(S, -2, "randomseed");
  lua_setfield(S, -2, "math");
  open_lib(S, "utf8", luaopen_utf8);
  lua_setfield(S, -2, "utf8");
  lua_pushvalue(S, -1);
  lua_setfield(S, -2, "_G");
  lua_rawseti(S, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}
