/* A Lua state of its own for code that is not ours (docs/adr/0011): bounded in memory, instructions
 * and processor time, with a short list of functions inside. Knows nothing of the node's Lua state;
 * sandbox_object.c is how that one sees it. */
#ifndef PUL_SANDBOX_H
#define PUL_SANDBOX_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The count hook looks every so many instructions, and every so many where a single one may take
 * long: in a large state, and once there are strings of more than PUL_SANDBOX_LONG bytes (comparing
 * two may take 8 ns a byte) or large tables (keys may collide). */
#define PUL_SANDBOX_STEP 100
#define PUL_SANDBOX_STEP_SHORT 4
#define PUL_SANDBOX_LONG ((size_t)4 << 10)
#define PUL_SANDBOX_LARGE ((size_t)2 << 20)
/* The longest string inside: operations on strings cannot be interrupted. */
#define PUL_SANDBOX_STRING_MAX ((size_t)64 << 10)
/* The longest message kept of a failure. */
#define PUL_SANDBOX_WHY_MAX 512
/* The longest source. */
#define PUL_SANDBOX_SOURCE_MAX ((size_t)256 << 10)

typedef struct pul_sandbox_limits {
  size_t memory;   /* bytes of the state; 0: 1 MiB. A full collection takes 1 ms a MiB */
  uint64_t steps;  /* instructions of one call, and what C charges; 0: 200,000 */
  uint32_t cpu_us; /* processor time of one call; 0: 4,000 */
} pul_sandbox_limits;

typedef struct pul_sandbox {
  lua_State *S; /* NULL: closed */
  pul_sandbox_limits limits;
  size_t used, peak; /* bytes */
  size_t churn;      /* bytes allocated in this call */
  size_t since_gc;   /* bytes allocated in the calls since the last full collection of ours */
  uint64_t steps;    /* taken in this call */
  uint64_t began_ns, cpu_began_ns;
  const char *over; /* the budget that ran out in this call, or NULL */
  int step;         /* what the count hook counts to */
  bool running, refused;
  char why[PUL_SANDBOX_WHY_MAX]; /* of the last failure */
  uint64_t calls, failures, longest_us;
  /* host answers `host(...)` inside: like a lua_CFunction of |S|; may throw in |S|. */
  int (*host)(lua_State *S, void *data);
  void *host_data;
} pul_sandbox;

/* pul_sandbox_open makes the state with its functions: false when |limits| has no room for it. */
bool pul_sandbox_open(pul_sandbox *sb, const pul_sandbox_limits *limits);
/* pul_sandbox_close frees it; harmless when closed. Not from inside a call. */
void pul_sandbox_close(pul_sandbox *sb);
/* pul_sandbox_run calls |fn| inside, protected and within the budget; its results are left on the
 * stack of |S|, from 1, until the next run. False: |why| says what went wrong. */
bool pul_sandbox_run(pul_sandbox *sb, lua_CFunction fn, void *arg);
/* pul_sandbox_of returns the sandbox that |S| belongs to. */
pul_sandbox *pul_sandbox_of(lua_State *S);
/* pul_sandbox_charge counts |steps| against the call's budget, and throws when it is over. */
void pul_sandbox_charge(lua_State *S, uint64_t steps);
/* pul_sandbox_load runs a text chunk inside, within the budget: |name| as it is shown in messages.
 * Its one argument is the function host, when |with_host|. The table it returns is kept: returns
 * its number for lua_rawgeti on the registry of |S|, or -1, and |why| says what went wrong. */
int pul_sandbox_load(pul_sandbox *sb, const char *source, size_t len, const char *name,
                     bool with_host);

/* sandbox_lib.c: pul_sandbox_libs makes what stands inside; may throw. */
void pul_sandbox_libs(lua_State *S);

#endif
