/* The engine's questions to Lua: may this be? Which addresses, in which order? Answered at once by
 * functions that may not wait, may not call the engine, and have a budget of instructions. Whatever
 * goes wrong means deny, and is logged. */
#include <lauxlib.h>
#include <math.h>
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

/* ask_lua calls |fn| with |arg| as light userdata, protected and within the budget; else |why| says
 * what |who| did. */
static bool ask_lua(pul_host *h, lua_CFunction fn, void *arg, const char *who, char *why,
                    size_t why_len) {
  pul_runtime *rt = h->rt;
  lua_State *L = rt->policy;
  why[0] = '\0';
  if (rt->inside > 0) /* a question while one is answered: the engine does not do this */
    return false;
  const int top = lua_gettop(L);
  if (!lua_checkstack(L, LUA_MINSTACK))
    return false;
  rt->inside++;
  rt->policy_steps = 0;
  lua_sethook(L, on_count, LUA_MASKCOUNT, POLICY_STEP);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  const int rc = lua_pcall(L, 1, 0, 0);
  lua_sethook(L, NULL, 0, 0);
  rt->inside--;
  if (rc != LUA_OK) {
    const char *text = lua_tostring(L, -1);
    (void)snprintf(why, why_len, "the %s function failed: %s", who,
                   text != NULL ? text : "with an error that is no text");
  }
  lua_settop(L, top);
  return rc == LUA_OK;
}

int pul_policy_ask(void *data, const pu_question *question) {
  pul_host *h = data;
  char why[256];
  ask a = {.host = h, .question = question};
  if (!ask_lua(h, call_policy, &a, "policy", why, sizeof(why))) {
    if (why[0] != '\0')
      log_denial(&a, 3, why);
    return PU_E_DENIED;
  }
  if (a.allow)
    return 0;
  if (a.reason[0] != '\0')
    log_denial(&a, 1, a.reason);
  return PU_E_DENIED;
}

/* ---- on_dial ---- */

#define DIAL_DELAY_MAX_MS 60000.0

typedef struct dial {
  pul_host *host;
  const pu_peer_id *peer;
  pu_dial_candidate *candidates;
  size_t count;
  int left; /* how many of them are left, at the front */
} dial;

static void push_candidate(lua_State *L, const pu_dial_candidate *c) {
  lua_createtable(L, 0, 5);
  lua_pushstring(L, c->addr);
  lua_setfield(L, -2, "addr");
  lua_pushstring(L, c->transport);
  lua_setfield(L, -2, "transport");
  lua_pushboolean(L, c->relayed);
  lua_setfield(L, -2, "relayed");
  lua_pushinteger(L, (lua_Integer)c->delay_ms);
  lua_setfield(L, -2, "delay_ms");
  lua_pushinteger(L, (lua_Integer)c->id + 1);
  lua_setfield(L, -2, "id");
}

/* take_candidate reads the table on top of the stack: one of those that were given, perhaps with
 * another delay. Whatever else stands in it is ignored. */
static void take_candidate(lua_State *L, const dial *d, pu_dial_candidate *out) {
  if (!lua_istable(L, -1))
    luaL_error(L, "it answered with a list that holds a %s", luaL_typename(L, -1));
  int good = 0;
  lua_getfield(L, -1, "id");
  const lua_Integer id = lua_tointegerx(L, -1, &good);
  if (!good || id < 1 || (size_t)id > d->count)
    luaL_error(L, "it answered with an address that is none of those given");
  lua_getfield(L, -2, "delay_ms");
  const lua_Number delay_ms = lua_tonumberx(L, -1, &good);
  if (!good || isnan(delay_ms) || delay_ms < 0)
    luaL_error(L, "delay_ms is no number of milliseconds");
  lua_pop(L, 2);
  out->id = (uint32_t)(id - 1);
  out->delay_ms = (uint32_t)(delay_ms < DIAL_DELAY_MAX_MS ? delay_ms : DIAL_DELAY_MAX_MS);
}

/* call_on_dial runs protected: (dial) as light userdata. */
static int call_on_dial(lua_State *L) {
  dial *d = lua_touserdata(L, 1);
  lua_settop(L, 0);
  if (!pul_host_push_fields(L, d->host))
    return luaL_error(L, "the host is gone");
  lua_getfield(L, 1, PUL_HOST_ON_DIAL); // [fields, on_dial]
  pul_host_push_peer(L, d->peer);
  lua_createtable(L, (int)d->count, 0); // [fields, on_dial, peer, candidates]
  for (size_t i = 0; i < d->count; i++) {
    push_candidate(L, &d->candidates[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_call(L, 2, 1); // [fields, answer]
  if (!lua_istable(L, 2))
    return luaL_error(L, "it answered with a %s, not a list", luaL_typename(L, 2));
  const size_t left = lua_rawlen(L, 2);
  if (left > d->count)
    return luaL_error(L, "it answered with more addresses than were given");
  for (size_t i = 0; i < left; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    take_candidate(L, d, &d->candidates[i]);
    lua_pop(L, 1);
  }
  d->left = (int)left;
  return 0;
}

int pul_policy_rank(void *data, const pu_peer_id *peer, pu_dial_candidate *candidates,
                    size_t count) {
  pul_host *h = data;
  char why[256], line[512], id[PU_PEER_ID_MAX_TEXT];
  dial d = {.host = h, .peer = peer, .candidates = candidates, .count = count};
  if (ask_lua(h, call_on_dial, &d, "on_dial", why, sizeof(why)))
    return d.left;
  (void)snprintf(line, sizeof(line), "denied dial to peer %s: %s", pu_peer_id_text(peer, id),
                 why[0] != '\0' ? why : "no function can be called");
  pul_host_log(h, 3, "policy", line);
  return PU_E_DENIED;
}
