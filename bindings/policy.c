/* The engine's question to Lua: may this be? Answered at once by a function that may not wait, may
 * not call the engine, and has a budget of instructions. Whatever goes wrong means deny, and is
 * logged. */
#include <lauxlib.h>
#include <stdio.h>

#include "bindings/host.h"

/* A rule over thousands of peers stays below this; a loop without end is stopped after some 10 ms.
 */
#define POLICY_MAX_INSTRUCTIONS 1000000
/* The hook looks every so many instructions. */
#define POLICY_STEP 1000

typedef struct ask {
  pul_host *host;
  const pu_question *question;
  bool allow;
  char reason[256]; /* for a denial, "" when none was given */
} ask;

static const char *const ask_names[] = {
    [PU_ASK_ACCEPT] = "accept", [PU_ASK_INBOUND] = "inbound",         [PU_ASK_DIAL] = "dial",
    [PU_ASK_STREAM] = "stream", [PU_ASK_RESERVATION] = "reservation", [PU_ASK_CIRCUIT] = "circuit"};

/* on_count ends a policy that is over its budget. It stays armed, for each next instruction, so
 * that a pcall in the policy cannot swallow the error and go on. */
static void on_count(lua_State *L, lua_Debug *ar) {
  (void)ar;
  pul_runtime *rt = pul_runtime_get(L);
  rt->policy_steps += POLICY_STEP;
  if (rt->policy_steps < POLICY_MAX_INSTRUCTIONS)
    return;
  lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
  luaL_error(L, "it ran over its budget of %d instructions", POLICY_MAX_INSTRUCTIONS);
}

static void set_peer(lua_State *L, const char *key, const pu_peer_id *id) {
  if (id == NULL)
    return;
  pul_host_push_peer(L, id);
  lua_setfield(L, -2, key);
}

/* call_policy runs protected: (ask) as light userdata. */
static int call_policy(lua_State *L) {
  ask *a = lua_touserdata(L, 1);
  const pu_question *q = a->question;
  lua_settop(L, 0);
  if (!pul_host_push_fields(L, a->host))
    return luaL_error(L, "the host is gone");
  lua_getfield(L, 1, PUL_HOST_POLICY); // [fields, policy]
  lua_createtable(L, 0, 6);            // [fields, policy, question]
  lua_pushstring(L, ask_names[q->ask]);
  lua_setfield(L, -2, "ask");
  set_peer(L, "peer", q->peer);
  set_peer(L, "target", q->target);
  if (q->protocol != NULL) {
    lua_pushstring(L, q->protocol);
    lua_setfield(L, -2, "protocol");
  }
  lua_pushstring(L, q->addr != NULL ? q->addr : "");
  lua_setfield(L, -2, "addr");
  lua_pushboolean(L, q->relayed);
  lua_setfield(L, -2, "relayed");
  lua_call(L, 1, 2); // [fields, answer, reason]
  if (!lua_isboolean(L, 2))
    return luaL_error(L, "it answered with a %s, not a boolean", luaL_typename(L, 2));
  a->allow = lua_toboolean(L, 2);
  if (lua_type(L, 3) == LUA_TSTRING)
    (void)snprintf(a->reason, sizeof(a->reason), "%s", lua_tostring(L, 3));
  return 0;
}

/* log_denial writes who was denied what, and why. */
static void log_denial(const ask *a, int level, const char *why) {
  char line[512], peer[PU_PEER_ID_MAX_TEXT] = "";
  const pu_question *q = a->question;
  if (q->peer != NULL)
    (void)pu_peer_id_text(q->peer, peer);
  (void)snprintf(line, sizeof(line), "denied %s%s%s%s%s at %s: %s", ask_names[q->ask],
                 q->protocol != NULL ? " of " : "", q->protocol != NULL ? q->protocol : "",
                 q->peer != NULL ? " to peer " : "", peer, q->addr != NULL ? q->addr : "?", why);
  pul_host_log(a->host, level, "policy", line);
}

int pul_policy_ask(void *data, const pu_question *question) {
  pul_host *h = data;
  pul_runtime *rt = h->rt;
  lua_State *L = rt->policy;
  ask a = {.host = h, .question = question};
  if (rt->inside > 0) /* a question while one is answered: the engine does not do this */
    return PU_E_DENIED;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, LUA_MINSTACK))
    return PU_E_DENIED;
  rt->inside++;
  rt->policy_steps = 0;
  lua_sethook(L, on_count, LUA_MASKCOUNT, POLICY_STEP);
  lua_pushcfunction(L, call_policy);
  lua_pushlightuserdata(L, &a);
  int rc = lua_pcall(L, 1, 0, 0);
  lua_sethook(L, NULL, 0, 0);
  rt->inside--;
  if (rc != LUA_OK) {
    char why[256];
    const char *text = lua_tostring(L, -1);
    (void)snprintf(why, sizeof(why), "the policy function failed: %s",
                   text != NULL ? text : "with an error that is no text");
    lua_settop(L, top);
    log_denial(&a, 3, why);
    return PU_E_DENIED;
  }
  lua_settop(L, top);
  if (a.allow)
    return 0;
  if (a.reason[0] != '\0')
    log_denial(&a, 1, a.reason);
  return PU_E_DENIED;
}
