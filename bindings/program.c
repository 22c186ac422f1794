/* Runs one script: see program.h. The order of the end matters: tasks are cancelled, then the
 * engine's hosts close, then luv's handles, each with the loop running; only then the Lua state
 * goes, and the loop last. (luv's close callbacks use the state; a handle that outlives it is a use
 * after free.) */
#include "bindings/program.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <luv/lhandle.h>
#include <luv/luv.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/core.h"
#include "bindings/task.h"

/* How long the end waits for tasks to finish after they were cancelled, and for things to close. */
#define TASKS_GRACE_MS 2000
#define CLOSE_GRACE_MS 5000
#define EXIT_FAILED 1
/* Debian's places for Lua modules: never the working directory, which is not ours. */
#define SYSTEM_PATH                                         \
  "/usr/share/lua/5.4/?.lua;/usr/share/lua/5.4/?/init.lua;" \
  "/usr/local/share/lua/5.4/?.lua;/usr/local/share/lua/5.4/?/init.lua"
#define SYSTEM_CPATH \
  PEERUP_SYSTEM_LIBDIR "/lua/5.4/?.so;/usr/lib/lua/5.4/?.so;/usr/local/lib/lua/5.4/?.so"

/* The timer that ends a grace period; lives on the stack of drain until it is closed. */
typedef struct grace {
  uv_timer_t uv; /* data stays NULL, for luv */
  bool over, closed;
} grace;

static void on_grace(uv_timer_t *uv) {
  PU_CONTAINER_OF(uv, grace, uv)->over = true;
}

static void on_grace_closed(uv_handle_t *h) {
  PU_CONTAINER_OF(h, grace, uv)->closed = true;
}

/* run_until runs the loop until |good| says so, nothing is left to wait for, or |ms| have passed.
 * Returns |good|'s last answer. */
static bool run_until(uv_loop_t *loop, bool (*good)(void *), void *data, uint64_t ms) {
  grace g = {.over = false};
  (void)uv_timer_init(loop, &g.uv);
  uv_update_time(loop);
  (void)uv_timer_start(&g.uv, on_grace, ms, 0);
  uv_unref((uv_handle_t *)&g.uv); /* it keeps nothing alive, least of all the loop it looks at */
  while (!good(data) && !g.over && uv_run(loop, UV_RUN_ONCE) != 0)
    continue;
  uv_close((uv_handle_t *)&g.uv, on_grace_closed);
  while (!g.closed)
    (void)uv_run(loop, UV_RUN_NOWAIT);
  return good(data);
}

static bool no_tasks(void *data) {
  return pu_list_empty(&((const pul_runtime *)data)->tasks);
}

static bool no_resources(void *data) {
  return pu_list_empty(&((const pul_runtime *)data)->resources);
}

static bool loop_empty(void *data) {
  return uv_loop_alive(data) == 0;
}

/* close_luv_handle closes one handle of luv's through its own close method; runs protected. */
static int close_luv_handle(lua_State *L) {
  const uv_handle_t *h = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, ((const luv_handle_t *)h->data)->ref); // [h, handle]
  if (luaL_getmetafield(L, 2, "__index") == LUA_TNIL)
    return 0;
  lua_getfield(L, -1, "close"); // [h, handle, methods, close]
  lua_pushvalue(L, 2);
  lua_call(L, 1, 0);
  return 0;
}

static void close_luv(uv_handle_t *h, void *data) {
  if (h->data != NULL && uv_is_closing(h) == 0) /* ours have no data */
    (void)pul_call(data, close_luv_handle, h, "closing a handle failed");
}

/* shut_down ends everything that hangs on the loop. False when something would not end: then
 * neither state nor loop may be closed, and the process exits with them. */
static bool shut_down(lua_State *L, uv_loop_t *loop) {
  pul_runtime *rt = pul_runtime_get(L);
  for (int i = 0; i < 3 && !no_tasks(rt); i++) { /* a task may wait again on its way out */
    pul_tasks_cancel(rt);
    (void)run_until(loop, no_tasks, rt, TASKS_GRACE_MS / 3);
  }
  PU_LIST_EACH(&rt->resources, link, tmp) {
    pul_resource *r = PU_CONTAINER_OF(link, pul_resource, link);
    r->close(r);
  }
  if (!run_until(loop, no_resources, rt, CLOSE_GRACE_MS))
    return false;
  pul_tasks_reset(rt);
  uv_walk(loop, close_luv, rt);
  pul_runtime_close(rt);
  return run_until(loop, loop_empty, loop, CLOSE_GRACE_MS);
}

/* open_luv is luaopen_luv without what ends the process on a loop that is not luv's alone. */
static int open_luv(lua_State *L) {
  static const char *const gone[] = {"walk", "run", "stop", "loop_close"};
  int count = luaopen_luv(L); // [luv]
  for (size_t i = 0; i < PU_COUNT(gone); i++) {
    lua_pushnil(L);
    lua_setfield(L, -2, gone[i]);
  }
  return count;
}

typedef struct start {
  const pul_program *program;
  uv_loop_t *loop;
  pul_task *main; /* out */
} start;

/* prepare fills the state and spawns the main task; runs protected. Leaves that task on the stack.
 */
static int prepare(lua_State *L) {
  start *s = lua_touserdata(L, 1);
  const pul_program *p = s->program;
  lua_settop(L, 0);
  luaL_openlibs(L);
  luv_set_loop(L, s->loop);
  luv_set_callback(L, pul_luv_callback);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_luv);
  lua_setfield(L, -2, "luv");
  lua_pushcfunction(L, luaopen_peerup_core);
  lua_setfield(L, -2, "peerup.core");
  lua_getglobal(L, "package");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s/?.lua;" SYSTEM_PATH, p->lua, p->lua, p->scripts);
  lua_setfield(L, -2, "path");
  lua_pushfstring(L, "%s/?.so;" SYSTEM_CPATH, p->lib);
  lua_setfield(L, -2, "cpath");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "peerup.core");
  lua_call(L, 1, 0);
  lua_createtable(L, p->argc, 1);
  lua_pushstring(L, p->script);
  lua_rawseti(L, -2, 0);
  for (int i = 0; i < p->argc; i++) {
    lua_pushstring(L, p->argv[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setglobal(L, "arg");
  if (luaL_loadfile(L, p->script) != LUA_OK)
    return lua_error(L);
  luaL_checkstack(L, p->argc, "too many arguments");
  for (int i = 0; i < p->argc; i++)
    lua_pushstring(L, p->argv[i]);
  s->main = pul_task_spawn_later(L, p->argc);
  return 1;
}

/* exit_code reads what the main task, on top of the stack, ended with; runs protected. */
static int exit_code(lua_State *L) {
  int results = pul_task_results(L, 1); // [task, good, value ...]
  if (results == 1)
    lua_pushnil(L);
  int code = 0;
  if (!lua_toboolean(L, 2)) {
    code = EXIT_FAILED; /* reported when it happened */
  } else if (lua_isinteger(L, 3)) {
    code = (int)(lua_tointeger(L, 3) & 0xff);
  } else if (!lua_isnil(L, 3) && !lua_toboolean(L, 3)) {
    code = EXIT_FAILED;
  }
  lua_pushinteger(L, code);
  return 1;
}

/* run runs the loop until the main task has ended. */
static void run(uv_loop_t *loop, pul_task *main_task) {
  bool warned = false;
  while (!pul_task_ended(main_task)) {
    if (uv_run(loop, UV_RUN_ONCE) != 0 || pul_task_ended(main_task))
      continue;
    if (warned)
      return;
    warned = true;
    (void)fprintf(stderr, "peerup: internal error: the program waits for nothing\n");
    pul_task_cancel(main_task);
  }
}

static int fail(lua_State *L) {
  const char *text = lua_tostring(L, -1);
  (void)fprintf(stderr, "peerup: %s\n", text != NULL ? text : "cannot start");
  return EXIT_FAILED;
}

/* is_cut_off tells whether the reader of our standard output has gone, as `| head` does. */
static bool is_cut_off(void) {
  struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
  return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

int pul_program_run(const pul_program *p) {
  (void)signal(SIGPIPE, SIG_IGN);
  uv_loop_t loop;
  if (uv_loop_init(&loop) != 0) {
    (void)fprintf(stderr, "peerup: cannot make an event loop\n");
    return EXIT_FAILED;
  }
  lua_State *L = luaL_newstate();
  if (L == NULL) {
    (void)fprintf(stderr, "peerup: out of memory\n");
    (void)uv_loop_close(&loop);
    return EXIT_FAILED;
  }
  start s = {.program = p, .loop = &loop};
  int code;
  lua_pushcfunction(L, pul_traceback);
  lua_pushcfunction(L, prepare);
  lua_pushlightuserdata(L, &s);
  if (lua_pcall(L, 1, 1, 1) != LUA_OK) {
    code = fail(L);
    lua_settop(L, 0);
  } else {
    run(&loop, s.main); // [handler, task]
    lua_pushcfunction(L, exit_code);
    lua_insert(L, 2);
    code = lua_pcall(L, 1, 1, 1) == LUA_OK ? (int)lua_tointeger(L, -1) : fail(L);
    lua_settop(L, 0);
  }
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "peerup.core");
  bool loaded = !lua_isnil(L, -1);
  lua_settop(L, 0);
  if (!loaded || shut_down(L, &loop)) {
    lua_close(L);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
  }
  if ((fflush(stdout) != 0 || ferror(stdout) != 0) && !is_cut_off()) {
    (void)fprintf(stderr, "peerup: cannot write to standard output: %s\n", strerror(errno));
    if (code == 0)
      code = EXIT_FAILED;
  }
  return code;
}
