/* The bindings' runtime: see runtime.h. */
#include "bindings/runtime.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longest report made in C; the rest of a traceback is cut off. */
#define REPORT_MAX_BYTES 4096

/* Its address is the registry key of the runtime. */
static const char runtime_key;

/* The handles that drain the queue: the check after each poll, and the idle one that keeps a loop
 * with jobs from sleeping. They outlive the runtime until the loop has closed them. Their |data|
 * stays NULL: luv takes any other pointer for its own. */
typedef struct pul_pump {
  uv_check_t check;
  uv_idle_t idle;
  pul_runtime *rt;
  int open;
} pul_pump;

/* ---- jobs ---- */

static void pump_stop(pul_pump *pump) {
  (void)uv_check_stop(&pump->check);
  (void)uv_idle_stop(&pump->idle);
}

/* drain runs the jobs that are queued now; those they queue wait for the next round, so that
 * sockets and timers get their turn. */
static void drain(pul_pump *pump) {
  pul_runtime *rt = pump->rt;
  pu_list round;
  pu_list_init(&round);
  while (!pu_list_empty(&rt->jobs)) {
    pu_list *link = rt->jobs.next;
    pu_list_remove(link);
    pu_list_push(&round, link);
  }
  while (!pu_list_empty(&round)) {
    pul_job *job = PU_CONTAINER_OF(round.next, pul_job, link);
    pu_list_remove(&job->link);
    job->run(job);
  }
  if (pu_list_empty(&rt->jobs))
    pump_stop(pump);
}

static void on_check(uv_check_t *check) {
  drain(PU_CONTAINER_OF(check, pul_pump, check));
}

static void on_idle(uv_idle_t *idle) {
  drain(PU_CONTAINER_OF(idle, pul_pump, idle));
}

void pul_job_init(pul_job *job, void (*run)(pul_job *job)) {
  pu_list_init(&job->link);
  job->run = run;
}

void pul_job_post(pul_runtime *rt, pul_job *job) {
  if (!pu_list_empty(&job->link) || rt->pump == NULL)
    return;
  pu_list_push(&rt->jobs, &job->link);
  (void)uv_check_start(&rt->pump->check, on_check);
  (void)uv_idle_start(&rt->pump->idle, on_idle);
}

void pul_job_cancel(pul_job *job) {
  pu_list_remove(&job->link);
}

/* ---- resources ---- */

void pul_resource_add(pul_runtime *rt, pul_resource *r) {
  pu_list_push(&rt->resources, &r->link);
}

void pul_resource_remove(pul_resource *r) {
  pu_list_remove(&r->link);
}

/* ---- life ---- */

static void pump_closed(pul_pump *pump) {
  if (--pump->open == 0)
    free(pump);
}

static void on_check_closed(uv_handle_t *h) {
  pump_closed(PU_CONTAINER_OF(h, pul_pump, check));
}

static void on_idle_closed(uv_handle_t *h) {
  pump_closed(PU_CONTAINER_OF(h, pul_pump, idle));
}

void pul_runtime_close(pul_runtime *rt) {
  if (rt->pump == NULL)
    return;
  pump_stop(rt->pump);
  uv_close((uv_handle_t *)&rt->pump->check, on_check_closed);
  uv_close((uv_handle_t *)&rt->pump->idle, on_idle_closed);
  rt->pump = NULL;
}

static int runtime_gc(lua_State *L) {
  pul_runtime_close(lua_touserdata(L, 1));
  return 0;
}

pul_runtime *pul_runtime_open(lua_State *L, uv_loop_t *loop) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &runtime_key) == LUA_TUSERDATA) {
    pul_runtime *old = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return old;
  }
  lua_pop(L, 1);
  pul_runtime *rt = lua_newuserdatauv(L, sizeof(*rt), 2); // [rt]
  memset(rt, 0, sizeof(*rt));
  rt->loop = loop;
  rt->reporter = LUA_NOREF;
  pu_list_init(&rt->jobs);
  pu_list_init(&rt->tasks);
  pu_list_init(&rt->resources);
  pu_mem_init(&rt->mem, NULL, PU_MEM_UNLIMITED);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  rt->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  rt->callbacks = lua_newthread(L); // [rt, thread]
  lua_setiuservalue(L, -2, 1);
  rt->policy = lua_newthread(L);
  lua_setiuservalue(L, -2, 2);
  rt->pump = calloc(1, sizeof(*rt->pump));
  if (rt->pump == NULL)
    luaL_error(L, "out of memory");
  rt->pump->rt = rt;
  rt->pump->open = 2;
  (void)uv_check_init(loop, &rt->pump->check);
  (void)uv_idle_init(loop, &rt->pump->idle);
  lua_createtable(L, 0, 1); // [rt, mt]
  lua_pushcfunction(L, runtime_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &runtime_key);
  return rt;
}

pul_runtime *pul_runtime_get(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &runtime_key);
  pul_runtime *rt = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (rt == NULL)
    luaL_error(L, "peerup.core is not loaded");
  return rt;
}

/* ---- calls and reports ---- */

int pul_traceback(lua_State *L) {
  const char *text = luaL_tolstring(L, 1, NULL); // [err, text]
  luaL_traceback(L, L, text, 1);
  return 1;
}

bool pul_call(pul_runtime *rt, lua_CFunction fn, void *arg, const char *what) {
  lua_State *L = rt->callbacks;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, LUA_MINSTACK)) {
    pul_report(rt, "out of memory");
    return false;
  }
  lua_pushcfunction(L, pul_traceback);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  bool good = lua_pcall(L, 1, 0, top + 1) == LUA_OK;
  if (!good) {
    char text[REPORT_MAX_BYTES];
    const char *reason = lua_tostring(L, -1);
    (void)snprintf(text, sizeof(text), "%s: %s", what, reason != NULL ? reason : "unknown error");
    pul_report(rt, text);
  }
  lua_settop(L, top);
  return good;
}

/* call_reporter runs protected: (text) as light userdata. */
static int call_reporter(lua_State *L) {
  const char *text = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, pul_runtime_get(L)->reporter);
  lua_pushstring(L, text);
  lua_call(L, 1, 0);
  return 0;
}

void pul_report(pul_runtime *rt, const char *text) {
  lua_State *L = rt->callbacks;
  if (rt->reporter != LUA_NOREF && lua_checkstack(L, LUA_MINSTACK)) {
    lua_pushcfunction(L, call_reporter);
    lua_pushlightuserdata(L, (void *)(uintptr_t)text);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
      return;
    lua_pop(L, 1);
  }
  (void)fprintf(stderr, "peerup: %s\n", text);
}

int pul_runtime_set_reporter(lua_State *L) {
  pul_runtime *rt = pul_runtime_get(L);
  if (!lua_isnoneornil(L, 1))
    luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_unref(L, LUA_REGISTRYINDEX, rt->reporter);
  rt->reporter = LUA_NOREF;
  lua_settop(L, 1);
  if (!lua_isnil(L, 1))
    rt->reporter = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int pul_luv_callback(lua_State *L, int nargs, int nresults, int flags) {
  (void)flags;
  int function = lua_gettop(L) - nargs;
  lua_pushcfunction(L, pul_traceback);
  lua_insert(L, function); // [.., handler, function, args]
  int rc = lua_pcall(L, nargs, nresults, function);
  if (rc != LUA_OK) {
    char text[REPORT_MAX_BYTES];
    const char *reason = lua_tostring(L, -1);
    (void)snprintf(text, sizeof(text), "a callback failed: %s",
                   reason != NULL ? reason : "unknown error");
    lua_settop(L, function - 1);
    pul_report(pul_runtime_get(L), text);
    return -rc;
  }
  lua_remove(L, function);
  return nresults == LUA_MULTRET ? lua_gettop(L) - (function - 1) : nresults;
}

void pul_check_outside(lua_State *L, const pul_runtime *rt) {
  if (rt->inside > 0)
    luaL_error(L, "a policy or log function may not call the engine");
}
