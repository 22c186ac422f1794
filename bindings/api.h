/* What core gives to further C modules of peerup (peerup.http): the runtime and the tasks, as a
 * table of functions. A module is loaded without seeing core's symbols, so it finds the table in
 * the registry. */
#ifndef PUL_API_H
#define PUL_API_H

#include "bindings/task.h"

/* Changes when the struct does; a module of another build refuses to load. */
#define PUL_API_VERSION 1
#define PUL_API_KEY "peerup.core.api"

typedef struct pul_api {
  int version;
  pul_runtime *(*runtime)(lua_State *L);
  bool (*call)(pul_runtime *rt, lua_CFunction fn, void *arg, const char *what);
  void (*report)(pul_runtime *rt, const char *text);
  void (*resource_add)(pul_runtime *rt, pul_resource *r);
  void (*resource_remove)(pul_resource *r);
  pul_task *(*spawn_later)(lua_State *L, int nargs);
  void (*cancel)(pul_task *t);
} pul_api;

/* pul_api_publish puts the table into the registry. */
void pul_api_publish(lua_State *L);

#endif
