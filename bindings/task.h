/* Tasks: coroutines that the bindings may suspend. task.c is the only file that yields, resumes or
 * resets a thread; a binding that waits makes a wait, starts its operation, and suspends. */
#ifndef PUL_TASK_H
#define PUL_TASK_H

#include "bindings/runtime.h"

typedef struct pul_task pul_task;
typedef struct pul_wait pul_wait;

typedef struct pul_wait_ops {
  /* Ends the wait before its time, for |status| PU_E_CANCELED, PU_E_TIMEOUT (or PU_E_NOMEM): calls
   * pul_wait_done, now or later. Called once at most. */
  void (*cancel)(pul_wait *w, int status);
  /* Runs in the task once the wait is done: pushes the results and returns how many. May throw. */
  int (*finish)(lua_State *L, pul_wait *w);
} pul_wait_ops;

/* A suspended call: the head of a userdata on the waiting task's stack, which anchors it. |task| is
 * valid until the wait is done. */
struct pul_wait {
  pul_task *task;
  const pul_wait_ops *ops;
  int status; /* for the binding's use: how it went */
  bool done;
  int ended_by; /* PU_E_CANCELED or PU_E_TIMEOUT once cancel was called */
};

#define PUL_NO_TIMEOUT (-1.0)

/* pul_wait_new checks that a task is running and may be suspended, else throws "call this inside a
 * task"; pushes a zeroed userdata of |size| bytes that begins with a pul_wait. */
void *pul_wait_new(lua_State *L, size_t size, int uservalues, const pul_wait_ops *ops);
/* pul_wait_suspend returns what the calling C function must return. After |timeout_s| seconds the
 * wait is cancelled with PU_E_TIMEOUT. The stack at this point is what |finish| finds. */
int pul_wait_suspend(lua_State *L, pul_wait *w, double timeout_s);
/* pul_wait_done marks |w| as finished; its task goes on from the loop. Later calls do nothing. */
void pul_wait_done(pul_wait *w);
/* pul_wait_possible says whether a wait may be made here. */
bool pul_wait_possible(lua_State *L);

/* pul_check_timeout reads an optional number of seconds: absent gives PUL_NO_TIMEOUT. */
double pul_check_timeout(lua_State *L, int arg);
/* pul_timeout_ms turns seconds into the engine's milliseconds, 0 (the default there) when absent.
 */
uint32_t pul_timeout_ms(double timeout_s);

/* pul_task_spawn_later pops a function and |nargs| arguments and pushes a task that starts with
 * them from the loop, not now. */
pul_task *pul_task_spawn_later(lua_State *L, int nargs);
/* pul_task_cancel ends the task's pending wait, or its next one when it has none now. */
void pul_task_cancel(pul_task *t);
bool pul_task_ended(const pul_task *t);
/* pul_task_results pushes true and the results of an ended task onto |L|, or false, the error and
 * its traceback; |index| is where the task lies on L's stack. Returns how many. */
int pul_task_results(lua_State *L, int index);
/* pul_tasks_cancel cancels every task that lives. */
void pul_tasks_cancel(pul_runtime *rt);
/* pul_tasks_reset ends those that are left, closing their <close> variables. Before the state
 * closes. */
void pul_tasks_reset(pul_runtime *rt);

/* pul_task_open pushes the table core.task. */
void pul_task_open(lua_State *L);

#endif
