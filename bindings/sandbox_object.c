/* core.sandbox: the bounded Lua states of sandbox.h as objects of the node's Lua. Values go in and
 * out as copies, read raw: nothing of the inside runs outside, and nothing outside is reachable
 * from the inside but the function host. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "bindings/core.h"
#include "bindings/error.h"
#include "bindings/object.h"
#include "bindings/sandbox.h"

#define CLASS "peerup.sandbox"
#define DEPTH_MAX 8
/* Also what keys chosen to collide cost: the square of their number. */
#define ITEMS_MAX 2048
/* Of text, so many bytes count as one item: one string may stand in a table many times. */
#define ITEM_BYTES 512
#define RESULTS_MAX 8
/* Of a state: a full collection must not take long. */
#define MEMORY_MAX ((lua_Integer)4 << 20)

/* ---- copies ---- */

/* copy_value pushes onto |to| what stands at |i| of |from|. Reading does not throw and does not
 * change |from|; what cannot be copied or has no room throws in |to|. */
static void copy_value(lua_State *from, int i, lua_State *to, int depth, size_t *items) {
  size_t len;
  if (++*items > ITEMS_MAX)
    luaL_error(to, "a value of more than %d parts", ITEMS_MAX);
  luaL_checkstack(to, 4, "a deep value");
  switch (lua_type(from, i)) {
  case LUA_TNIL:
    lua_pushnil(to);
    return;
  case LUA_TBOOLEAN:
    lua_pushboolean(to, lua_toboolean(from, i));
    return;
  case LUA_TNUMBER:
    if (lua_isinteger(from, i))
      lua_pushinteger(to, lua_tointeger(from, i));
    else
      lua_pushnumber(to, lua_tonumber(from, i));
    return;
  case LUA_TSTRING: {
    const char *text = lua_tolstring(from, i, &len);
    *items += len / ITEM_BYTES;
    if (*items > ITEMS_MAX)
      luaL_error(to, "more than %d KiB of text", ITEMS_MAX * ITEM_BYTES >> 10);
    lua_pushlstring(to, text, len);
    return;
  }
  case LUA_TTABLE:
    break;
  default:
    luaL_error(to, "a %s cannot be passed here", luaL_typename(from, i));
  }
  if (depth >= DEPTH_MAX || !lua_checkstack(from, 3))
    luaL_error(to, "a table nested more than %d deep", DEPTH_MAX);
  const int table = lua_absindex(from, i);
  lua_newtable(to);
  lua_pushnil(from);
  while (lua_next(from, table) != 0) { // from: [.., key, value]
    copy_value(from, lua_gettop(from) - 1, to, depth + 1, items);
    copy_value(from, lua_gettop(from), to, depth + 1, items);
    lua_rawset(to, -3);
    lua_pop(from, 1);
  }
}

/* copy_values copies |n| values of |from|, from index |first| on. */
static void copy_values(lua_State *from, int first, int n, lua_State *to) {
  size_t items = 0;
  for (int i = 0; i < n; i++)
    copy_value(from, first + i, to, 0, &items);
}

/* ---- the object ---- */

typedef struct box {
  pul_box head; /* its pointer is the sandbox; the uservalue is the function host */
  lua_State *L; /* the thread that called, while inside */
  int top;      /* of its stack then */
} box;

static pul_sandbox *check(lua_State *L, box **out) {
  *out = pul_box_check(L, 1, CLASS);
  return (*out)->head.ptr;
}

typedef struct host_call {
  lua_State *S;
  box *b;
} host_call;

/* host_outside runs protected in the node's Lua: (host_call, the object). */
static int host_outside(lua_State *L) {
  host_call *c = lua_touserdata(L, 1);
  const int n = lua_gettop(c->S);
  if (lua_getiuservalue(L, 2, 1) != LUA_TFUNCTION) // [call, object, host]
    return luaL_error(L, "there is no host");
  copy_values(c->S, 1, n, L);
  lua_call(L, n, LUA_MULTRET);
  return lua_gettop(L) - 2;
}

/* on_host answers host(...) inside, by the function that the object was made with. */
static int on_host(lua_State *S, void *data) {
  host_call c = {.S = S, .b = data};
  lua_State *L = c.b->L;
  char why[PUL_SANDBOX_WHY_MAX];
  const int top = c.b->top;
  lua_settop(L, top); /* an answer that could not be copied is there still */
  if (!lua_checkstack(L, LUA_MINSTACK))
    return luaL_error(S, "out of memory");
  lua_pushcfunction(L, host_outside); /* nothing here may throw in L: S would be left behind */
  lua_pushlightuserdata(L, &c);
  lua_pushvalue(L, 1); /* the object, which every method has there */
  const int rc = lua_pcall(L, 2, LUA_MULTRET, 0);
  const int n = lua_gettop(L) - top;
  if (rc != LUA_OK) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    (void)snprintf(why, sizeof(why), "%s", text != NULL ? text : "the function failed");
    lua_settop(L, top);
    return luaL_error(S, "%s", why);
  }
  lua_settop(S, 0);
  copy_values(L, top + 1, n, S); /* may throw in S: the caller of the run clears L */
  lua_settop(L, top);
  return n;
}

static lua_Integer limit_field(lua_State *L, const char *name, lua_Integer most) {
  lua_getfield(L, 1, name);
  const lua_Integer n = luaL_optinteger(L, -1, 0);
  if (n < 0 || n > most)
    luaL_error(L, "%s is out of range", name);
  lua_pop(L, 1);
  return n;
}

/* sandbox.new{memory, instructions, milliseconds, host} */
static int sandbox_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const pul_sandbox_limits limits = {
      .memory = (size_t)limit_field(L, "memory", MEMORY_MAX),
      .steps = (uint64_t)limit_field(L, "instructions", (lua_Integer)1 << 40),
      .cpu_us = (uint32_t)limit_field(L, "milliseconds", 10000) * 1000};
  box *b = pul_box_new(L, CLASS, sizeof(*b), 1); // [options, box]
  if (lua_getfield(L, 1, "host") != LUA_TNIL)
    luaL_checktype(L, -1, LUA_TFUNCTION);
  lua_setiuservalue(L, -2, 1);
  pul_sandbox *sb = calloc(1, sizeof(*sb));
  if (sb == NULL)
    return luaL_error(L, "out of memory");
  if (!pul_sandbox_open(sb, &limits)) {
    free(sb);
    return pul_error_return(L, PU_E_LIMIT, "the memory given is too little for a Lua state");
  }
  sb->host = on_host;
  sb->host_data = b;
  b->head.ptr = sb;
  return 1;
}

/* failed returns false and the error of a call that did not go well. */
static int failed(lua_State *L, const pul_sandbox *sb) {
  lua_pushboolean(L, 0);
  if (sb->over != NULL)
    pul_error_push(L, PU_E_LIMIT, sb->why);
  else
    pul_error_push_own(L, "script_failed", sb->why);
  return 2;
}

/* not_now returns false and an error where the state cannot be entered, else 0. */
static int not_now(lua_State *L, const pul_sandbox *sb) {
  if (sb != NULL && !sb->running)
    return 0;
  lua_pushboolean(L, 0);
  pul_error_push(L, sb == NULL ? PU_E_CLOSED : PU_E_AGAIN,
                 sb == NULL ? "this sandbox" : "this sandbox is running");
  return 2;
}

/* box:load(source, name, with_host?): the number of its table of functions, and their names */
static int sandbox_load(lua_State *L) {
  box *b;
  size_t len;
  pul_sandbox *sb = check(L, &b);
  const char *source = luaL_checklstring(L, 2, &len);
  const char *name = luaL_checkstring(L, 3);
  const bool with_host = lua_toboolean(L, 4);
  const int no = not_now(L, sb);
  if (no != 0)
    return no;
  lua_pushfstring(L, "=%s", name);
  const int top = lua_gettop(L);
  b->L = L;
  b->top = lua_gettop(L);
  const int ref = pul_sandbox_load(sb, source, len, lua_tostring(L, top), with_host);
  b->L = NULL;
  lua_settop(L, top);
  if (ref < 0)
    return failed(L, sb);
  lua_pushinteger(L, ref);
  lua_newtable(L); // [.., ref, names]
  lua_rawgeti(sb->S, LUA_REGISTRYINDEX, ref);
  lua_pushnil(sb->S);
  while (lua_next(sb->S, -2) != 0) {
    if (lua_type(sb->S, -2) == LUA_TSTRING) {
      lua_pushstring(L, lua_tostring(sb->S, -2));
      lua_pushstring(L, luaL_typename(sb->S, -1));
      lua_rawset(L, -3);
    }
    lua_pop(sb->S, 1);
  }
  lua_settop(sb->S, 0);
  return 2;
}

typedef struct call {
  lua_State *L;
  int table, args;
  const char *name;
} call;

/* call_inside runs protected in the sandbox: (call) as light userdata. */
static int call_inside(lua_State *S) {
  const call *c = lua_touserdata(S, 1);
  lua_rawgeti(S, LUA_REGISTRYINDEX, c->table); // [call, table]
  lua_pushstring(S, c->name);
  if (!lua_istable(S, -2) || lua_rawget(S, -2) != LUA_TFUNCTION)
    return luaL_error(S, "it has no function %s", c->name);
  copy_values(c->L, 4, c->args, S);
  lua_call(S, c->args, LUA_MULTRET);
  return lua_gettop(S) - 2;
}

/* take_results runs protected in the node's Lua: (sandbox) as light userdata. */
static int take_results(lua_State *L) {
  const pul_sandbox *sb = lua_touserdata(L, 1);
  const int n = lua_gettop(sb->S);
  if (n > RESULTS_MAX)
    return luaL_error(L, "more than %d results", RESULTS_MAX);
  lua_pushboolean(L, 1);
  copy_values(sb->S, 1, n, L);
  return n + 1;
}

/* box:call(table, name, ...): true and the results, or false and an error */
static int sandbox_call(lua_State *L) {
  box *b;
  pul_sandbox *sb = check(L, &b);
  const int top = lua_gettop(L);
  call c = {.L = L,
            .table = (int)luaL_checkinteger(L, 2),
            .args = top < 3 ? 0 : top - 3,
            .name = luaL_checkstring(L, 3)};
  const int no = not_now(L, sb);
  if (no != 0)
    return no;
  b->L = L;
  b->top = lua_gettop(L);
  const bool good = pul_sandbox_run(sb, call_inside, &c);
  b->L = NULL;
  lua_settop(L, top);
  if (!good)
    return failed(L, sb);
  lua_pushcfunction(L, take_results);
  lua_pushlightuserdata(L, sb);
  const int rc = lua_pcall(L, 1, LUA_MULTRET, 0);
  lua_settop(sb->S, 0);
  if (rc == LUA_OK)
    return lua_gettop(L) - top;
  sb->failures++;
  (void)snprintf(sb->why, sizeof(sb->why), "the answer of %s: %s", c.name, lua_tostring(L, -1));
  return failed(L, sb);
}

static void set_integer(lua_State *L, const char *name, uint64_t n) {
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, name);
}

static int sandbox_stats(lua_State *L) {
  box *b;
  const pul_sandbox *sb = check(L, &b);
  if (sb == NULL)
    return pul_error_closed(L, "sandbox");
  lua_createtable(L, 0, 7);
  set_integer(L, "memory", sb->used);
  set_integer(L, "memory_peak", sb->peak);
  set_integer(L, "memory_limit", sb->limits.memory);
  set_integer(L, "calls", sb->calls);
  set_integer(L, "failures", sb->failures);
  set_integer(L, "instructions", sb->steps);
  set_integer(L, "longest_us", sb->longest_us);
  return 1;
}

static int sandbox_close(lua_State *L) {
  box *b;
  pul_sandbox *sb = check(L, &b);
  if (sb == NULL)
    return 0;
  if (sb->running)
    return luaL_error(L, "a sandbox cannot be closed from inside");
  b->head.ptr = NULL;
  pul_sandbox_close(sb);
  free(sb);
  return 0;
}

void pul_sandbox_open_class(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"load", sandbox_load}, {"call", sandbox_call}, {"stats", sandbox_stats}, {NULL, NULL}};
  static const pul_class class = {CLASS, methods, sandbox_close, sandbox_close, sandbox_close};
  static const luaL_Reg functions[] = {{"new", sandbox_new}, {NULL, NULL}};
  pul_class_open(L, &class);
  luaL_newlib(L, functions);
}
