/* The methods of a host that wait for the engine: connect, open_stream, ping. Each starts an
 * operation whose state lies on the waiting task's stack; the engine's completion fills it. */
#include <string.h>

#include "bindings/error.h"
#include "bindings/host.h"

/* Protocols that one open_stream may offer. */
#define PROTOCOLS_MAX 16

/* What every operation of the engine has: the head of a wait's userdata. */
typedef struct op_wait {
  pul_wait wait;
  pu_op *op; /* NULL when it is over */
  pu_error err;
} op_wait;

static void op_cancel(pul_wait *w, int status) {
  (void)status; /* the engine keeps the time and calls back with its own */
  op_wait *o = (op_wait *)w;
  if (o->op != NULL)
    pu_op_cancel(o->op);
}

/* op_done ends the wait with what the engine said. */
static void op_done(op_wait *o, int status, const pu_error *err) {
  o->op = NULL;
  o->wait.status = status;
  if (err != NULL)
    o->err = *err;
  pul_wait_done(&o->wait);
}

static int op_failed(lua_State *L, const op_wait *o) {
  return pul_error_return_full(L, o->wait.status, &o->err);
}

/* check_options makes sure that argument |arg| is a table or absent. */
static void check_options(lua_State *L, int arg) {
  lua_settop(L, arg);
  if (!lua_isnil(L, arg))
    luaL_checktype(L, arg, LUA_TTABLE);
}

static bool option_flag(lua_State *L, int arg, const char *name) {
  if (lua_isnil(L, arg))
    return false;
  lua_getfield(L, arg, name);
  bool on = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on;
}

static uint32_t option_timeout(lua_State *L, int arg) {
  if (lua_isnil(L, arg))
    return 0;
  lua_getfield(L, arg, "timeout");
  if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TNUMBER)
    luaL_argerror(L, arg, "timeout must be a number of seconds");
  uint32_t ms = pul_timeout_ms(pul_check_timeout(L, lua_gettop(L)));
  lua_pop(L, 1);
  return ms;
}

/* ---- connect ---- */

typedef struct connect_wait {
  op_wait op;
  pu_conn_info info;
} connect_wait;

static void on_connect(void *data, int status, const pu_error *err, pu_conn *conn) {
  connect_wait *c = data;
  if (status == 0 && conn != NULL)
    pu_conn_info_get(conn, &c->info);
  op_done(&c->op, status, err);
}

static int connect_finish(lua_State *L, pul_wait *w) {
  const connect_wait *c = (const connect_wait *)w;
  if (w->status != 0)
    return op_failed(L, &c->op);
  pul_host_push_conn_info(L, &c->info);
  return 1;
}

int pul_host_connect(lua_State *L) {
  static const pul_wait_ops ops = {op_cancel, connect_finish};
  const pul_host *h = pul_host_check(L, 1);
  pu_peer_id peer;
  if (h == NULL)
    return pul_error_closed(L, "host");
  int failed = pul_host_check_peer(L, 2, &peer);
  if (failed != 0)
    return failed;
  check_options(L, 3);
  unsigned flags = (option_flag(L, 3, "direct") ? PU_CONNECT_DIRECT : 0U) |
                   (option_flag(L, 3, "new") ? PU_CONNECT_NEW : 0U);
  uint32_t timeout_ms = option_timeout(L, 3);
  connect_wait *c = pul_wait_new(L, sizeof(*c), 0, &ops);
  int rc = pu_engine_connect(h->engine, &peer, flags, timeout_ms, on_connect, c, &c->op.op);
  if (rc != 0)
    return pul_error_return(L, rc, NULL);
  return pul_wait_suspend(L, &c->op.wait, PUL_NO_TIMEOUT);
}

/* ---- open_stream ---- */

typedef struct open_wait {
  op_wait op;
  pul_host *host;
  pul_stream *stream; /* a closed one, opened by the completion; the value below the wait */
} open_wait;

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  open_wait *o = data;
  if (status == 0)
    pul_stream_attach(o->stream, o->host, s);
  op_done(&o->op, status, err);
}

static int open_finish(lua_State *L, pul_wait *w) {
  const open_wait *o = (const open_wait *)w;
  if (w->status != 0)
    return op_failed(L, &o->op);
  lua_settop(L, 5); // [host, peer, protocols, options, stream]
  return 1;
}

/* read_protocols fills |out| from a string or a list of strings at |arg|; returns how many. */
static size_t read_protocols(lua_State *L, int arg, const char *out[static PROTOCOLS_MAX]) {
  if (lua_type(L, arg) == LUA_TSTRING) {
    out[0] = lua_tostring(L, arg);
    return 1;
  }
  luaL_checktype(L, arg, LUA_TTABLE);
  size_t count = lua_rawlen(L, arg);
  luaL_argcheck(L, count > 0 && count <= PROTOCOLS_MAX, arg, "1 to 16 protocols");
  for (size_t i = 0; i < count; i++) {
    if (lua_rawgeti(L, arg, (lua_Integer)i + 1) != LUA_TSTRING)
      luaL_argerror(L, arg, "a protocol is no string");
    out[i] = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
  }
  return count;
}

int pul_host_open_stream(lua_State *L) {
  static const pul_wait_ops ops = {op_cancel, open_finish};
  pul_host *h = pul_host_check(L, 1);
  const char *protocols[PROTOCOLS_MAX];
  pu_peer_id peer;
  pu_conn *conn = NULL;
  if (h == NULL)
    return pul_error_closed(L, "host");
  int failed = pul_host_check_peer(L, 2, &peer);
  if (failed != 0)
    return failed;
  check_options(L, 4);
  size_t count = read_protocols(L, 3, protocols);
  unsigned flags = (option_flag(L, 4, "limited") ? PU_OPEN_LIMITED : 0U) |
                   (option_flag(L, 4, "no_dial") ? PU_OPEN_NO_DIAL : 0U) |
                   (option_flag(L, 4, "lazy") ? PU_OPEN_LAZY : 0U);
  uint32_t timeout_ms = option_timeout(L, 4);
  if (!lua_isnil(L, 4) && lua_getfield(L, 4, "conn") != LUA_TNIL) {
    conn = pu_conn_find(h->engine, (uint64_t)luaL_checkinteger(L, -1));
    if (conn == NULL || !pu_peer_id_equal(pu_conn_peer(conn), &peer))
      return pul_error_return(L, PU_E_GONE, NULL);
  }
  lua_settop(L, 4);
  pul_stream *stream = pul_stream_new(L); // [host, peer, protocols, options, stream]
  open_wait *o = pul_wait_new(L, sizeof(*o), 0, &ops);
  o->host = h;
  o->stream = stream;
  int rc = conn != NULL ? pu_conn_open_stream(conn, protocols, count, flags, timeout_ms, on_open, o,
                                              &o->op.op)
                        : pu_engine_open_stream(h->engine, &peer, protocols, count, flags,
                                                timeout_ms, on_open, o, &o->op.op);
  if (rc != 0)
    return pul_error_return(L, rc, NULL);
  return pul_wait_suspend(L, &o->op.wait, PUL_NO_TIMEOUT);
}

/* ---- ping ---- */

typedef struct ping_wait {
  op_wait op;
  uint64_t rtt_us;
} ping_wait;

static void on_ping(void *data, int status, const pu_error *err, uint64_t rtt_us) {
  ping_wait *p = data;
  p->rtt_us = rtt_us;
  op_done(&p->op, status, err);
}

static int ping_finish(lua_State *L, pul_wait *w) {
  const ping_wait *p = (const ping_wait *)w;
  if (w->status != 0)
    return op_failed(L, &p->op);
  lua_pushnumber(L, (double)p->rtt_us / 1e6);
  return 1;
}

int pul_host_ping(lua_State *L) {
  static const pul_wait_ops ops = {op_cancel, ping_finish};
  const pul_host *h = pul_host_check(L, 1);
  pu_peer_id peer;
  if (h == NULL)
    return pul_error_closed(L, "host");
  int failed = pul_host_check_peer(L, 2, &peer);
  if (failed != 0)
    return failed;
  check_options(L, 3);
  uint32_t timeout_ms = option_timeout(L, 3);
  ping_wait *p = pul_wait_new(L, sizeof(*p), 0, &ops);
  int rc = pu_engine_ping(h->engine, &peer, timeout_ms, on_ping, p, &p->op.op);
  if (rc != 0)
    return pul_error_return(L, rc, NULL);
  return pul_wait_suspend(L, &p->op.wait, PUL_NO_TIMEOUT);
}
