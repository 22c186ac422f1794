/* The program around a script: loop, Lua state, luv, peerup.core; the script runs in a task and the
 * loop until it ends. main.c runs scripts/peerup.lua so, the tests their specs. */
#ifndef PUL_PROGRAM_H
#define PUL_PROGRAM_H

/* Where the Lua files are. Directories without a final slash. */
typedef struct pul_program {
  const char *lua;     /* of lua/peerup: first in package.path */
  const char *scripts; /* of peerup.lua and commands/ */
  const char *lib;     /* of peerup/http.so: first in package.cpath */
  const char *script;  /* the file to run */
  int argc;            /* its arguments, in arg[1] and following; arg[0] is |script| */
  char **argv;
} pul_program;

/* pul_program_run returns the exit code: what the script returned, 0 for nothing, 1 when it failed.
 */
int pul_program_run(const pul_program *p);

#endif
