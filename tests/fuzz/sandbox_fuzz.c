/* Lua source of anybody's in a sandbox (docs/adr/0011): it never crashes, keeps to its memory, and
 * ends within its budget. Functions of the table it returns are called, too. */
#include <lua.h>
#include <stdint.h>
#include <time.h>

#include "bindings/sandbox.h"
#include "platform/assert.h"

#define MEMORY ((size_t)512 << 10)
#define CPU_US 5000
/* Slack for a machine that is slow with a sanitizer; a call that is not ended takes for ever. */
#define HOLD_MAX_MS 200
#define MESSAGE_ROOM ((size_t)16 << 10)
#define FUNCTIONS_MAX 8

static uint64_t cpu_ms(void) {
  struct timespec t;
  PU_ASSERT(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* host answers with what it is given. */
static int host(lua_State *S, void *data) {
  (void)data;
  return lua_gettop(S);
}

typedef struct pick {
  int table, index;
  bool found;
} pick;

/* call_one runs inside: calls the function of the table that stands at the index. */
static int call_one(lua_State *S) {
  pick *p = lua_touserdata(S, 1);
  int at = 0;
  lua_rawgeti(S, LUA_REGISTRYINDEX, p->table);
  lua_pushnil(S);
  while (lua_next(S, 2) != 0) {
    if (lua_type(S, -1) == LUA_TFUNCTION && at++ == p->index) {
      p->found = true;
      lua_pushinteger(S, 1);
      lua_pushliteral(S, "/ip4/192.0.2.1/tcp/4001");
      lua_createtable(S, 0, 0);
      lua_call(S, 3, 1);
      return 1;
    }
    lua_pop(S, 1);
  }
  return 0;
}

static void check(const pul_sandbox *sb, uint64_t began_ms) {
  PU_ASSERT(sb->peak <= MEMORY + MESSAGE_ROOM);
  PU_ASSERT(cpu_ms() - began_ms <= HOLD_MAX_MS);
  PU_ASSERT(!sb->running);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const pul_sandbox_limits limits = {.memory = MEMORY, .steps = 50000, .cpu_us = CPU_US};
  pul_sandbox sb = {.host = host};
  PU_ASSERT(pul_sandbox_open(&sb, &limits));
  uint64_t began = cpu_ms();
  const int table = pul_sandbox_load(&sb, (const char *)data, size, "=fuzz", true);
  PU_ASSERT(table >= 0 || sb.why[0] != '\0');
  check(&sb, began);
  for (int i = 0; table >= 0 && i < FUNCTIONS_MAX; i++) {
    pick p = {.table = table, .index = i};
    began = cpu_ms();
    if (!pul_sandbox_run(&sb, call_one, &p))
      PU_ASSERT(sb.why[0] != '\0');
    check(&sb, began);
    if (!p.found)
      break;
  }
  pul_sandbox_close(&sb);
  PU_ASSERT(sb.used == 0);
  return 0;
}
