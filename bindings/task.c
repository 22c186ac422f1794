/* Coroutine <-> completion: the only file that yields, resumes or resets a Lua thread.
 *
 *   spawn -> running -> waiting -> (pul_wait_done) ready -> running -> ... -> done | failed
 *
 * A task is resumed only from the loop (a job of the runtime), but for its first steps, which spawn
 * runs at once. It lives in a registry table, by its thread, until it ends: so a waiting task is
 * never collected, and a wait can tell its own threads from coroutines that a script made itself.
 */
#include "bindings/task.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/error.h"
#include "bindings/object.h"

#define CLASS "peerup.task"
/* Longest timeout in seconds (300 years): its milliseconds fit libuv's timer. */
#define TIMEOUT_MAX_S 1e10

/* Its address is the registry key of the table thread -> live task. */
static const char live_key;

typedef enum task_state {
  TASK_READY,
  TASK_RUNNING,
  TASK_WAITING,
  TASK_DONE,
  TASK_FAILED
} task_state;

/* The uservalues of a task. */
enum { TASK_THREAD = 1, TASK_WAIT, TASK_ERROR, TASK_TRACEBACK, TASK_USERVALUES = TASK_TRACEBACK };

/* The timer of a task, made at its first timed wait; closed, and then freed, when the task ends. */
typedef struct task_timer {
  uv_timer_t uv; /* data stays NULL, for luv */
  pul_task *task;
} task_timer;

struct pul_task {
  void *open; /* the head of every box; the task itself */
  pul_runtime *rt;
  lua_State *co;
  pul_job job;     /* resumes it */
  pu_list link;    /* in rt->tasks while it lives */
  pu_list joiners; /* join_wait.link */
  pul_wait *wait;  /* while suspended */
  task_timer *timer;
  int count; /* arguments on |co| before the start, results on it at the end */
  task_state state;
  bool cancel_pending; /* cancelled while not in a wait: the next one ends at once */
  bool claimed;        /* somebody will join: do not report a failure yet */
  bool reported;       /* the failure was joined or reported */
};

/* ---- who is running ---- */

/* push_task pushes the live task of |co|, or nil. */
static pul_task *push_task(lua_State *L, lua_State *co) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &live_key); // [live]
  lua_pushthread(co);
  if (co != L)
    lua_xmove(co, L, 1);
  lua_rawget(L, -2); // [live, task]
  lua_remove(L, -2);
  return lua_touserdata(L, -1);
}

static pul_task *current(lua_State *L) {
  pul_task *t = push_task(L, L);
  lua_pop(L, 1);
  return t;
}

bool pul_wait_possible(lua_State *L) {
  return lua_isyieldable(L) && current(L) != NULL;
}

bool pul_task_ended(const pul_task *t) {
  return t->state == TASK_DONE || t->state == TASK_FAILED;
}

/* ---- timers ---- */

static void on_timer_closed(uv_handle_t *h) {
  free(PU_CONTAINER_OF(h, task_timer, uv));
}

static void cancel_wait(pul_wait *w, int status) {
  if (w->done || w->ended_by != 0)
    return;
  w->ended_by = status;
  w->ops->cancel(w, status);
}

static void on_timer(uv_timer_t *uv) {
  task_timer *timer = PU_CONTAINER_OF(uv, task_timer, uv);
  if (timer->task->wait != NULL)
    cancel_wait(timer->task->wait, PU_E_TIMEOUT);
}

static bool timer_start(pul_task *t, double timeout_s) {
  if (t->timer == NULL) {
    task_timer *timer = calloc(1, sizeof(*timer));
    if (timer == NULL)
      return false;
    timer->task = t;
    (void)uv_timer_init(t->rt->loop, &timer->uv);
    t->timer = timer;
  }
  uv_update_time(t->rt->loop);
  (void)uv_timer_start(&t->timer->uv, on_timer, (uint64_t)ceil(timeout_s * 1000.0), 0);
  return true;
}

static void timer_close(pul_task *t) {
  if (t->timer != NULL)
    uv_close((uv_handle_t *)&t->timer->uv, on_timer_closed);
  t->timer = NULL;
}

double pul_check_timeout(lua_State *L, int arg) {
  if (lua_isnoneornil(L, arg))
    return PUL_NO_TIMEOUT;
  double seconds = luaL_checknumber(L, arg);
  luaL_argcheck(L, seconds >= 0 && !isnan(seconds), arg, "seconds must not be negative");
  return fmin(seconds, TIMEOUT_MAX_S);
}

uint32_t pul_timeout_ms(double timeout_s) {
  if (timeout_s < 0)
    return 0;
  double ms = ceil(timeout_s * 1000.0);
  if (ms < 1)
    return 1; /* 0 means the engine's default */
  return ms >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

/* ---- waits ---- */

void *pul_wait_new(lua_State *L, size_t size, int uservalues, const pul_wait_ops *ops) {
  pul_task *t = current(L);
  if (t == NULL || !lua_isyieldable(L))
    luaL_error(L, "call this inside a task");
  pul_wait *w = lua_newuserdatauv(L, size, uservalues); // [.., wait]
  memset(w, 0, size);
  w->task = t;
  w->ops = ops;
  /* Completions write to |w|: it outlives the thread's stack, should a script close that by hand.
   */
  push_task(L, L);
  lua_pushvalue(L, -2);
  lua_setiuservalue(L, -2, TASK_WAIT);
  lua_pop(L, 1);
  return w;
}

/* resumed continues a C function whose wait is done, inside the task. */
static int resumed(lua_State *L, int status, lua_KContext context) {
  (void)status;
  pul_wait *w = (pul_wait *)context;
  if (!w->done)
    return luaL_error(L, "a waiting task may not be resumed by hand");
  w->task->wait = NULL;
  return w->ops->finish(L, w);
}

int pul_wait_suspend(lua_State *L, pul_wait *w, double timeout_s) {
  pul_task *t = w->task;
  if (!w->done && t->cancel_pending) {
    t->cancel_pending = false;
    cancel_wait(w, PU_E_CANCELED);
  }
  if (!w->done && timeout_s >= 0 && !timer_start(t, timeout_s))
    cancel_wait(w, PU_E_NOMEM);
  if (w->done)
    return w->ops->finish(L, w);
  t->wait = w;
  return lua_yieldk(L, 0, (lua_KContext)w, resumed);
}

void pul_wait_done(pul_wait *w) {
  if (w->done)
    return;
  w->done = true;
  pul_task *t = w->task;
  if (t->wait != w)
    return; /* not suspended yet */
  if (t->timer != NULL)
    (void)uv_timer_stop(&t->timer->uv);
  pul_job_post(t->rt, &t->job);
}

void pul_task_cancel(pul_task *t) {
  if (pul_task_ended(t))
    return;
  pul_wait *w = t->wait;
  if (w != NULL && w->ended_by == PU_E_CANCELED)
    return;
  if (w != NULL && !w->done && w->ended_by == 0)
    cancel_wait(w, PU_E_CANCELED);
  else
    t->cancel_pending = true;
}

/* ---- running and ending ---- */

/* One call of join. |link| is in the target's list of joiners. */
typedef struct join_wait {
  pul_wait wait;
  pu_list link;
} join_wait;

/* keep_failure stores the error and the traceback of a task; runs protected, (task) as light
 * userdata. */
static int keep_failure(lua_State *L) {
  const pul_task *t = lua_touserdata(L, 1);
  push_task(L, t->co); // [t, task]
  if (lua_status(t->co) == LUA_YIELD) {
    lua_pushliteral(L, "a task may not call coroutine.yield: task.sleep(0) gives way to others");
  } else if (!lua_checkstack(t->co, 1)) {
    lua_pushliteral(L, "out of memory");
  } else {
    lua_pushvalue(t->co, -1);
    lua_xmove(t->co, L, 1); // [t, task, error]
  }
  const char *text = luaL_tolstring(L, 3, NULL); // [t, task, error, text]
  luaL_traceback(L, t->co, text, 0);             // [t, task, error, text, traceback]
  lua_setiuservalue(L, 2, TASK_TRACEBACK);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 2, TASK_ERROR);
  return 0;
}

/* report_failure runs protected: (task) as light userdata; the task userdata is found as it lives.
 */
static int report_failure(lua_State *L) {
  const pul_task *t = lua_touserdata(L, 1);
  push_task(L, t->co);
  lua_getiuservalue(L, 2, TASK_TRACEBACK);
  lua_pushfstring(L, "a task failed: %s", luaL_tolstring(L, -1, NULL));
  pul_report(t->rt, lua_tostring(L, -1));
  return 0;
}

/* forget takes |t| out of the table of live tasks. */
static void forget(pul_task *t) {
  lua_State *L = t->rt->callbacks;
  (void)lua_checkstack(L, LUA_MINSTACK);
  (void)lua_checkstack(t->co, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &live_key); // [live]
  lua_pushthread(t->co);
  lua_xmove(t->co, L, 1);
  lua_pushnil(L);
  lua_rawset(L, -3); /* an existing key: allocates nothing */
  lua_pop(L, 1);
  pu_list_remove(&t->link);
}

/* end settles a task whose thread has come to its end: |status| is that of lua_resume. */
static void end(pul_task *t, int status, int results) {
  timer_close(t);
  t->wait = NULL;
  if (status == LUA_OK) {
    t->state = TASK_DONE;
    t->count = results;
  } else {
    t->state = TASK_FAILED;
    (void)pul_call(t->rt, keep_failure, t, "a task failed");
    /* Only now: closing the <close> variables would overwrite the stack that the traceback shows.
     */
    (void)lua_resetthread(t->co);
    if (pu_list_empty(&t->joiners) && !t->claimed) {
      t->reported = true;
      (void)pul_call(t->rt, report_failure, t, "a task failed");
    }
  }
  while (!pu_list_empty(&t->joiners)) {
    join_wait *j = PU_CONTAINER_OF(t->joiners.next, join_wait, link);
    pu_list_remove(&j->link);
    pul_wait_done(&j->wait);
  }
  forget(t);
}

static void resume(pul_task *t, lua_State *from) {
  int nargs = t->count, results = 0;
  t->count = 0;
  t->state = TASK_RUNNING;
  int status = lua_resume(t->co, from, nargs, &results);
  if (status == LUA_YIELD && t->wait != NULL)
    t->state = TASK_WAITING;
  else
    end(t, status, results);
}

static void run_job(pul_job *job) {
  pul_task *t = PU_CONTAINER_OF(job, pul_task, job);
  resume(t, t->rt->main);
}

/* task_new pops a function and |nargs| arguments and pushes a task that has them on its thread. */
static pul_task *task_new(lua_State *L, int nargs) {
  pul_runtime *rt = pul_runtime_get(L);
  pul_task *t = pul_box_new(L, CLASS, sizeof(*t), TASK_USERVALUES); // [f, args, task]
  t->state = TASK_DONE;                                             /* until it is whole */
  t->rt = rt;
  pu_list_init(&t->link);
  pu_list_init(&t->joiners);
  pul_job_init(&t->job, run_job);
  t->open = t;
  t->co = lua_newthread(L); // [f, args, task, thread]
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, -3, TASK_THREAD);
  if (!lua_checkstack(t->co, nargs + LUA_MINSTACK))
    luaL_error(L, "too many arguments for a task");
  lua_rawgetp(L, LUA_REGISTRYINDEX, &live_key); // [f, args, task, thread, live]
  lua_insert(L, -2);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 1); // [f, args, task]
  pu_list_push(&rt->tasks, &t->link);
  lua_insert(L, -(nargs + 2)); // [task, f, args]
  lua_xmove(L, t->co, nargs + 1);
  t->count = nargs;
  t->state = TASK_READY;
  return t;
}

pul_task *pul_task_spawn_later(lua_State *L, int nargs) {
  pul_task *t = task_new(L, nargs);
  pul_job_post(t->rt, &t->job);
  return t;
}

void pul_tasks_cancel(pul_runtime *rt) {
  PU_LIST_EACH(&rt->tasks, link, tmp)
  pul_task_cancel(PU_CONTAINER_OF(link, pul_task, link));
}

void pul_tasks_reset(pul_runtime *rt) {
  while (!pu_list_empty(&rt->tasks)) {
    pul_task *t = PU_CONTAINER_OF(rt->tasks.next, pul_task, link);
    pul_job_cancel(&t->job);
    timer_close(t);
    t->wait = NULL;
    t->state = TASK_FAILED;
    t->reported = true;
    (void)lua_resetthread(t->co);
    forget(t);
  }
}

/* ---- core.task ---- */

static pul_task *check_task(lua_State *L, int arg) {
  return pul_box_check(L, arg, CLASS);
}

static int task_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  pul_check_outside(L, pul_runtime_get(L));
  pul_task *t = task_new(L, lua_gettop(L) - 1); // [task]
  resume(t, L);
  return 1;
}

static int task_current(lua_State *L) {
  push_task(L, L);
  return 1;
}

static void sleep_cancel(pul_wait *w, int status) {
  w->status = status;
  pul_wait_done(w);
}

static int sleep_finish(lua_State *L, pul_wait *w) {
  if (w->status != PU_E_TIMEOUT)
    return pul_error_return(L, w->status, NULL);
  lua_pushboolean(L, 1);
  return 1;
}

static int task_sleep(lua_State *L) {
  static const pul_wait_ops ops = {sleep_cancel, sleep_finish};
  double seconds = pul_check_timeout(L, 1);
  luaL_argcheck(L, seconds >= 0, 1, "number of seconds expected");
  return pul_wait_suspend(L, pul_wait_new(L, sizeof(pul_wait), 0, &ops), seconds);
}

/* ---- await: a wait that Lua itself ends ---- */

typedef struct await_wait {
  pul_wait wait;
  int cancel; /* registry reference of the function that start returned */
  int count;  /* of the values in the first uservalue */
} await_wait;

/* await_resume(...) is the function that start gets: it ends the wait with these values, once. */
static int await_resume(lua_State *L) {
  await_wait *a = lua_touserdata(L, lua_upvalueindex(1));
  if (a->wait.done)
    return 0;
  int count = lua_gettop(L);
  lua_createtable(L, count, 0); // [values, table]
  lua_insert(L, 1);
  for (int i = count; i > 0; i--)
    lua_rawseti(L, 1, i); // [table]
  lua_setiuservalue(L, lua_upvalueindex(1), 1);
  a->count = count;
  pul_wait_done(&a->wait);
  return 0;
}

static int await_call_cancel(lua_State *L) {
  const await_wait *a = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, a->cancel);
  lua_call(L, 0, 0);
  return 0;
}

static void await_cancel(pul_wait *w, int status) {
  await_wait *a = (await_wait *)w;
  w->status = status;
  if (a->cancel != LUA_NOREF)
    (void)pul_call(w->task->rt, await_call_cancel, a, "the cancel function of a wait failed");
  pul_wait_done(w);
}

static int await_finish(lua_State *L, pul_wait *w) {
  await_wait *a = (await_wait *)w;
  luaL_unref(L, LUA_REGISTRYINDEX, a->cancel);
  a->cancel = LUA_NOREF;
  if (w->status != 0)
    return pul_error_return(L, w->status, NULL);
  luaL_checkstack(L, a->count + 1, "too many values");
  lua_getiuservalue(L, 2, 1); // [.., table]
  int table = lua_gettop(L);
  for (int i = 1; i <= a->count; i++)
    lua_rawgeti(L, table, i);
  return a->count;
}

static int task_await(lua_State *L) {
  static const pul_wait_ops ops = {await_cancel, await_finish};
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  await_wait *a = pul_wait_new(L, sizeof(*a), 2, &ops); // [start, wait]
  a->cancel = LUA_NOREF;
  push_task(L, L);
  lua_setiuservalue(L, 2, 2); /* the function may be called long after the task has ended */
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, await_resume, 1); // [start, wait, start, resume]
  lua_call(L, 1, 1);                    // [start, wait, cancel]
  if (lua_isfunction(L, 3))
    a->cancel = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_settop(L, 2);
  return pul_wait_suspend(L, &a->wait, PUL_NO_TIMEOUT);
}

/* ---- methods ---- */

static int task_cancel(lua_State *L) {
  pul_task_cancel(check_task(L, 1));
  return 0;
}

static int task_claim(lua_State *L) {
  check_task(L, 1)->claimed = true;
  lua_settop(L, 1);
  return 1;
}

int pul_task_results(lua_State *L, int index) {
  pul_task *t = check_task(L, index);
  if (t->state == TASK_FAILED) {
    t->reported = true;
    lua_pushboolean(L, 0);
    lua_getiuservalue(L, index, TASK_ERROR);
    lua_getiuservalue(L, index, TASK_TRACEBACK);
    return 3;
  }
  luaL_checkstack(L, t->count + 1, "too many results");
  if (!lua_checkstack(t->co, 1))
    luaL_error(L, "out of memory");
  lua_pushboolean(L, 1);
  int first = lua_gettop(t->co) - t->count;
  for (int i = 1; i <= t->count; i++) {
    lua_pushvalue(t->co, first + i); /* copies: several may join */
    lua_xmove(t->co, L, 1);
  }
  return t->count + 1;
}

static void join_cancel(pul_wait *w, int status) {
  join_wait *j = (join_wait *)w;
  pu_list_remove(&j->link);
  w->status = status;
  pul_wait_done(w);
}

static int join_finish(lua_State *L, pul_wait *w) {
  if (w->status != 0)
    return pul_error_return(L, w->status, NULL);
  return pul_task_results(L, 1);
}

static int task_join(lua_State *L) {
  static const pul_wait_ops ops = {join_cancel, join_finish};
  pul_task *t = check_task(L, 1);
  lua_settop(L, 1);
  if (pul_task_ended(t))
    return pul_task_results(L, 1);
  join_wait *j = pul_wait_new(L, sizeof(*j), 0, &ops); // [task, wait]
  if (j->wait.task == t)
    luaL_error(L, "a task cannot join itself");
  pu_list_init(&j->link);
  pu_list_push(&t->joiners, &j->link);
  return pul_wait_suspend(L, &j->wait, PUL_NO_TIMEOUT);
}

static int task_status(lua_State *L) {
  static const char *const names[] = {[TASK_READY] = "waiting",
                                      [TASK_RUNNING] = "running",
                                      [TASK_WAITING] = "waiting",
                                      [TASK_DONE] = "done",
                                      [TASK_FAILED] = "failed"};
  lua_pushstring(L, names[check_task(L, 1)->state]);
  return 1;
}

/* task_gc: an ended task, or one of a state that closes. A failure that was claimed and never
 * joined is told here at last. */
static int task_gc(lua_State *L) {
  pul_task *t = check_task(L, 1);
  timer_close(t);
  pul_job_cancel(&t->job);
  pu_list_remove(&t->link);
  if (t->state == TASK_FAILED && !t->reported &&
      lua_getiuservalue(L, 1, TASK_TRACEBACK) != LUA_TNIL) {
    t->reported = true;
    lua_pushfstring(L, "a task failed: %s", lua_tostring(L, -1));
    pul_report(t->rt, lua_tostring(L, -1));
  }
  return 0;
}

void pul_task_open(lua_State *L) {
  static const luaL_Reg methods[] = {{"cancel", task_cancel},
                                     {"claim", task_claim},
                                     {"join", task_join},
                                     {"status", task_status},
                                     {NULL, NULL}};
  static const luaL_Reg functions[] = {{"spawn", task_spawn},
                                       {"sleep", task_sleep},
                                       {"current", task_current},
                                       {"await", task_await},
                                       {"on_failure", pul_runtime_set_reporter},
                                       {NULL, NULL}};
  static const pul_class class = {CLASS, methods, NULL, NULL, NULL};
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &live_key);
  pul_class_open(L, &class);
  luaL_getmetatable(L, CLASS);
  lua_pushcfunction(L, task_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
}
