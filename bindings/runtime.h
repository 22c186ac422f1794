/* What the bindings share in one Lua state: the loop, a queue of jobs that run from the loop,
 * protected calls into Lua, and the list of what must be closed before the state is.
 *
 * No engine callback runs a task: it finishes a wait or queues a job, and the loop does the rest
 * when no engine function is on the stack. So a task may call anything, and the engine is never
 * re-entered from its own callbacks. The one exception is the policy, which must answer at once
 * (policy.c). */
#ifndef PUL_RUNTIME_H
#define PUL_RUNTIME_H

#include <lua.h>
#include <uv.h>

#include "base/list.h"
#include "base/mem.h"

typedef struct pul_runtime pul_runtime;

/* A thing to do soon. The owner holds the struct and removes it (pul_job_cancel) before it goes. */
typedef struct pul_job {
  pu_list link;
  void (*run)(struct pul_job *job);
} pul_job;

/* Something with a life on the loop: closed before the Lua state, and waited for. */
typedef struct pul_resource {
  pu_list link;
  void (*close)(struct pul_resource *r); /* starts closing; must lead to pul_resource_remove */
} pul_resource;

struct pul_pump;

struct pul_runtime {
  uv_loop_t *loop;
  lua_State *main;      /* the state's main thread: tasks are resumed from it */
  lua_State *callbacks; /* an anchored thread for protected calls from C; cannot yield */
  lua_State *policy;    /* another one, where a hook counts the policy's instructions */
  uint64_t policy_steps;
  struct pul_pump *pump;
  pu_list jobs;
  pu_list tasks; /* live ones, see task.c */
  pu_list resources;
  int reporter; /* registry reference of the function that is told of failures, or LUA_NOREF */
  int inside;   /* > 0 while a policy or log function runs: the engine may not be called then */
  pu_mem mem;   /* account of what the bindings allocate */
};

/* pul_runtime_open makes the runtime of |L|'s state on |loop|; later calls return the same. */
pul_runtime *pul_runtime_open(lua_State *L, uv_loop_t *loop);
/* pul_runtime_get returns it; it must have been opened. */
pul_runtime *pul_runtime_get(lua_State *L);
/* pul_runtime_close closes the runtime's handles; their memory goes when the loop has run once
 * more. */
void pul_runtime_close(pul_runtime *rt);

void pul_job_init(pul_job *job, void (*run)(pul_job *job));
/* pul_job_post queues |job|, once, to run from the loop. */
void pul_job_post(pul_runtime *rt, pul_job *job);
void pul_job_cancel(pul_job *job);

void pul_resource_add(pul_runtime *rt, pul_resource *r);
void pul_resource_remove(pul_resource *r);

/* pul_call runs |fn| with |arg| as light userdata, protected, on the callbacks thread. A failure is
 * reported with a traceback that |what| opens. Returns whether it went well. */
bool pul_call(pul_runtime *rt, lua_CFunction fn, void *arg, const char *what);
/* pul_report tells of a failure that nobody else is told of: the reporter, or standard error. */
void pul_report(pul_runtime *rt, const char *text);
/* pul_runtime_set_reporter is core.task.on_failure(fn). */
int pul_runtime_set_reporter(lua_State *L);
/* pul_traceback is a message handler: an error with the stack, as text. */
int pul_traceback(lua_State *L);
/* pul_luv_callback runs luv's callbacks: an error is reported and the program goes on. */
int pul_luv_callback(lua_State *L, int nargs, int nresults, int flags);
/* pul_check_outside throws when called from a policy or log function: the engine asked in the
 * middle of its work and may not be called. */
void pul_check_outside(lua_State *L, const pul_runtime *rt);

#endif
