/* The bounded Lua state: see sandbox.h. */
#include "bindings/sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMORY_DEFAULT ((size_t)1 << 20)
#define STEPS_DEFAULT 200000
#define CPU_US_DEFAULT 4000
/* What one call may allocate in sum, whatever is collected meanwhile: copying costs time. */
#define CHURN_MAX ((size_t)8 << 20)
/* Room above the limit for the messages of a call that is being ended. */
#define RESERVE ((size_t)16 << 10)
/* What a full collection costs, which each refused allocation brings about. */
#define REFUSAL_STEPS 2000
#define STRING_HEADER 64
/* The largest block made new that is no object: the hash part of a table with 4096 keys. Keys that
 * are chosen to collide are put into a new hash part in the square of their number, in one
 * instruction; with so many it takes 5 ms. The other vectors are made small, and grow. */
#define VECTOR_MAX ((size_t)96 << 10)
/* From this size on looking up such a key takes microseconds. */
#define VECTOR_LONG ((size_t)32 << 10)

static uint64_t now_ns(clockid_t clock) {
  struct timespec t;
  (void)clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

pul_sandbox *pul_sandbox_of(lua_State *S) {
  return *(pul_sandbox **)lua_getextraspace(S);
}

/* ---- the budget ---- */

static void on_count(lua_State *S, lua_Debug *ar);

/* end_call has each next instruction throw. Safe in the middle of an allocation. */
static void end_call(pul_sandbox *sb, const char *budget) {
  if (!sb->running || sb->over != NULL)
    return;
  sb->over = budget;
  lua_sethook(sb->S, on_count, LUA_MASKCOUNT, 1);
}

/* look ends the call when its steps or its time are over. */
static void look(pul_sandbox *sb) {
  const uint64_t limit_ns = (uint64_t)sb->limits.cpu_us * 1000;
  if (sb->steps > sb->limits.steps)
    end_call(sb, "instructions");
  else if (now_ns(CLOCK_MONOTONIC) - sb->began_ns > limit_ns && /* the cheap clock first */
           now_ns(CLOCK_THREAD_CPUTIME_ID) - sb->cpu_began_ns > limit_ns)
    end_call(sb, "time");
}

/* raise throws the end of the call. The first message is kept: what is caught and thrown again on
 * the way out may say anything. */
static void raise(lua_State *S) {
  pul_sandbox *sb = pul_sandbox_of(S);
  luaL_where(S, 0); // [where]
  if (*lua_tostring(S, -1) == '\0')
    luaL_where(S, 1); /* in a function of C: where it was called */
  lua_pushfstring(S, "%sran over its budget of %s", lua_tostring(S, -1), sb->over);
  if (sb->why[0] == '\0')
    (void)snprintf(sb->why, sizeof(sb->why), "%s", lua_tostring(S, -1));
  (void)lua_error(S);
}

static void on_count(lua_State *S, lua_Debug *ar) {
  (void)ar;
  pul_sandbox *sb = pul_sandbox_of(S);
  if (sb->over == NULL) {
    sb->steps += (uint64_t)sb->step;
    look(sb);
  }
  if (sb->over != NULL)
    raise(S);
}

void pul_sandbox_charge(lua_State *S, uint64_t steps) {
  pul_sandbox *sb = pul_sandbox_of(S);
  sb->steps += steps;
  look(sb);
  if (sb->over != NULL)
    raise(S);
}

/* look_often has the hook count in short steps from now on. Only once, since each setting begins
 * the count anew. */
static void look_often(pul_sandbox *sb) {
  if (sb->step == PUL_SANDBOX_STEP_SHORT)
    return;
  sb->step = PUL_SANDBOX_STEP_SHORT;
  if (sb->running && sb->over == NULL)
    lua_sethook(sb->S, on_count, LUA_MASKCOUNT, sb->step);
}

/* refuse is an allocation that has no room: Lua collects and asks once more. */
static void *refuse(pul_sandbox *sb) {
  sb->steps += REFUSAL_STEPS;
  if (sb->refused)
    end_call(sb, "memory");
  else
    look(sb);
  sb->refused = true;
  return NULL;
}

static void *allocate(void *data, void *ptr, size_t old_size, size_t size) {
  pul_sandbox *sb = data;
  const size_t old = ptr != NULL ? old_size : 0; /* else it is the kind of object */
  if (size == 0) {
    free(ptr);
    sb->used -= old;
    return NULL;
  }
  if (size > old) {
    const size_t limit = sb->limits.memory + (sb->over != NULL ? RESERVE : 0);
    const bool is_long =
        ptr == NULL && old_size == LUA_TSTRING && size > PUL_SANDBOX_STRING_MAX + STRING_HEADER;
    const bool is_vector = ptr == NULL && old_size == 0 && size > VECTOR_MAX;
    if (is_long || is_vector || size - old > limit || sb->used > limit - (size - old))
      return refuse(sb);
  }
  void *block = realloc(ptr, size);
  if (block == NULL && size > old)
    return NULL;
  if (block == NULL) /* Lua takes it that nothing fails to shrink */
    block = ptr;
  sb->used = sb->used - old + size;
  if (sb->used > sb->peak)
    sb->peak = sb->used;
  if (size > old) {
    sb->refused = false;
    sb->churn += size;
    if (ptr == NULL && ((old_size == LUA_TSTRING && size > PUL_SANDBOX_LONG) ||
                        (old_size == 0 && size > VECTOR_LONG)))
      look_often(sb);
    if (sb->churn > CHURN_MAX)
      end_call(sb, "memory allocated in one call");
  }
  return block;
}

/* ---- life ---- */

static int open_inside(lua_State *S) {
  pul_sandbox_libs(S);
  return 0;
}

bool pul_sandbox_open(pul_sandbox *sb, const pul_sandbox_limits *limits) {
  sb->limits = *limits;
  if (sb->limits.memory == 0)
    sb->limits.memory = MEMORY_DEFAULT;
  if (sb->limits.steps == 0)
    sb->limits.steps = STEPS_DEFAULT;
  if (sb->limits.cpu_us == 0)
    sb->limits.cpu_us = CPU_US_DEFAULT;
  sb->step = sb->limits.memory > PUL_SANDBOX_LARGE ? PUL_SANDBOX_STEP_SHORT : PUL_SANDBOX_STEP;
  sb->S = lua_newstate(allocate, sb);
  if (sb->S == NULL)
    return false;
  *(pul_sandbox **)lua_getextraspace(sb->S) = sb;
  if (pul_sandbox_run(sb, open_inside, NULL))
    return true;
  pul_sandbox_close(sb);
  return false;
}

void pul_sandbox_close(pul_sandbox *sb) {
  if (sb->S != NULL)
    lua_close(sb->S);
  sb->S = NULL;
}

/* ---- calls ---- */

/* keep_why takes the error at the top of the stack for |why|, without running anything inside. */
static void keep_why(pul_sandbox *sb) {
  if (sb->why[0] != '\0')
    return;
  if (lua_type(sb->S, -1) == LUA_TSTRING)
    (void)snprintf(sb->why, sizeof(sb->why), "%s", lua_tostring(sb->S, -1));
  else
    (void)snprintf(sb->why, sizeof(sb->why), "an error that is no text but a %s",
                   luaL_typename(sb->S, -1));
  for (char *c = sb->why; *c != '\0'; c++)
    if ((unsigned char)*c < ' ' || *c == 0x7f)
      *c = ' ';
}

bool pul_sandbox_run(pul_sandbox *sb, lua_CFunction fn, void *arg) {
  lua_State *S = sb->S;
  if (sb->running) { /* what host does may lead back here */
    (void)snprintf(sb->why, sizeof(sb->why), "it is running already");
    return false;
  }
  lua_settop(S, 0);
  /* Buffers of C functions fail without a collection: one goes before where it may be of use. */
  if (sb->used > sb->limits.memory / 4 * 3 && sb->since_gc > sb->limits.memory / 4) {
    lua_gc(S, LUA_GCCOLLECT);
    sb->since_gc = 0;
  }
  sb->running = true;
  sb->over = NULL;
  sb->refused = false;
  sb->why[0] = '\0';
  sb->steps = sb->churn = 0;
  sb->calls++;
  sb->began_ns = now_ns(CLOCK_MONOTONIC);
  sb->cpu_began_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
  lua_sethook(S, on_count, LUA_MASKCOUNT, sb->step);
  lua_pushcfunction(S, fn);
  lua_pushlightuserdata(S, arg);
  const int rc = lua_pcall(S, 1, LUA_MULTRET, 0);
  lua_sethook(S, NULL, 0, 0);
  sb->running = false;
  sb->since_gc += sb->churn;
  const uint64_t took_us = (now_ns(CLOCK_MONOTONIC) - sb->began_ns) / 1000;
  if (took_us > sb->longest_us)
    sb->longest_us = took_us;
  if (rc == LUA_OK && sb->over == NULL)
    return true;
  sb->failures++;
  if (rc != LUA_OK)
    keep_why(sb);
  else if (sb->why[0] == '\0') /* its last instruction was the one too many */
    (void)snprintf(sb->why, sizeof(sb->why), "ran over its budget of %s", sb->over);
  lua_settop(S, 0);
  return false;
}

typedef struct load {
  const char *source, *name;
  size_t len, read;
  bool with_host;
  int ref;
} load;

/* The parser is fed in pieces of so many bytes, between which the budget is looked at. */
#define PIECE 128

static const char *next_piece(lua_State *S, void *data, size_t *size) {
  load *l = data;
  const char *piece = l->source + l->read;
  *size = l->len - l->read < PIECE ? l->len - l->read : PIECE;
  l->read += *size;
  pul_sandbox_charge(S, *size / 4);
  return *size > 0 ? piece : NULL;
}

static int call_host(lua_State *S) {
  const pul_sandbox *sb = pul_sandbox_of(S);
  return sb->host != NULL ? sb->host(S, sb->host_data) : 0;
}

/* load_inside runs protected: (load) as light userdata. */
static int load_inside(lua_State *S) {
  load *l = lua_touserdata(S, 1);
  if (lua_load(S, next_piece, l, l->name, "t") != LUA_OK)
    return lua_error(S);
  if (l->with_host)
    lua_pushcfunction(S, call_host);
  lua_call(S, l->with_host ? 1 : 0, 1);
  if (!lua_istable(S, -1))
    return luaL_error(S, "it returns a %s, not a table of functions", luaL_typename(S, -1));
  l->ref = luaL_ref(S, LUA_REGISTRYINDEX);
  return 0;
}

int pul_sandbox_load(pul_sandbox *sb, const char *source, size_t len, const char *name,
                     bool with_host) {
  load l = {.source = source, .name = name, .len = len, .with_host = with_host, .ref = -1};
  if (len > PUL_SANDBOX_SOURCE_MAX) {
    (void)snprintf(sb->why, sizeof(sb->why), "it is longer than %zu KiB",
                   PUL_SANDBOX_SOURCE_MAX >> 10);
    return -1;
  }
  return pul_sandbox_run(sb, load_inside, &l) ? l.ref : -1;
}
