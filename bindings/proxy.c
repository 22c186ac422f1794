/* peerup.proxy: a local TCP socket <-> streams, whose bytes never enter Lua. A proxy lives until it
 * or its host is closed: the host anchors it, so nobody needs to keep the object. */
#include <string.h>

#include "bindings/error.h"
#include "bindings/host.h"

typedef struct proxy_box {
  pul_box box; /* ptr: a pul_proxy */
} proxy_box;

/* ---- closing ---- */

/* detach frees the C side; the box is closed then. */
static void detach(pul_proxy *p) {
  pul_host *h = p->host;
  p->box->ptr = NULL;
  pu_proxy_close(
      p->proxy); /* events of its connections are queued while the proxy is still listed */
  pu_list_remove(&p->link);
  pul_notice_proxy_gone(h, p->number);
  pu_free(p);
}

void pul_proxy_close_all(pul_host *h) {
  while (!pu_list_empty(&h->proxies))
    detach(PU_CONTAINER_OF(h->proxies.next, pul_proxy, link));
}

static int proxy_close(lua_State *L) {
  const proxy_box *b = pul_box_check(L, 1, PUL_PROXY_CLASS);
  pul_proxy *p = b->box.ptr;
  if (p == NULL)
    return 0;
  pul_check_outside(L, p->host->rt);
  detach(p);
  return 0;
}

static int proxy_discard(lua_State *L) {
  const proxy_box *b = pul_box_check(L, 1, PUL_PROXY_CLASS);
  if (b->box.ptr != NULL)
    detach(b->box.ptr);
  return 0;
}

/* ---- making ---- */

/* new_proxy pushes a closed box that the host at 1 anchors under a fresh number, together with the
 * event function at |function|. Returns its C side, not listed yet. */
static pul_proxy *new_proxy(lua_State *L, pul_host *h, int function) {
  if (!lua_isnoneornil(L, function))
    luaL_checktype(L, function, LUA_TFUNCTION);
  lua_settop(L, function);
  proxy_box *b = pul_box_new(L, PUL_PROXY_CLASS, sizeof(*b), 0); // [.., box]
  lua_Integer number = ++h->next_proxy;
  lua_getiuservalue(L, 1, 1);
  lua_getfield(L, -1, PUL_HOST_PROXIES); // [.., box, fields, proxies]
  lua_createtable(L, 2, 0);
  lua_pushvalue(L, -4);
  lua_rawseti(L, -2, 1);
  lua_pushvalue(L, function);
  lua_rawseti(L, -2, 2);
  lua_rawseti(L, -2, number);
  lua_pop(L, 2); // [.., box]
  pul_proxy *p = pu_zalloc(&h->rt->mem, sizeof(*p));
  if (p == NULL)
    luaL_error(L, "out of memory");
  p->host = h;
  p->box = &b->box;
  p->number = number;
  return p;
}

/* opened lists the proxy, or forgets it when the engine refused. The box is on top of the stack. */
static int opened(lua_State *L, pul_proxy *p, int rc, const pu_error *err) {
  if (rc != 0) {
    pul_host *h = p->host;
    pul_notice_proxy_gone(h, p->number);
    pu_free(p);
    return pul_error_return_full(L, rc, err);
  }
  p->box->ptr = p;
  pu_list_push(&p->host->proxies, &p->link);
  return 1;
}

int pul_proxy_listen(lua_State *L) {
  pul_host *h = pul_host_check(L, 1);
  pu_peer_id peer;
  pu_error err = {0};
  if (h == NULL)
    return pul_error_closed(L, "host");
  const char *listen = luaL_checkstring(L, 2);
  int failed = pul_host_check_peer(L, 3, &peer);
  if (failed != 0)
    return failed;
  const char *protocol = luaL_checkstring(L, 4);
  pul_proxy *p = new_proxy(L, h, 5);
  int rc =
      pu_proxy_listen(h->engine, listen, &peer, protocol, pul_notice_proxy, h, &p->proxy, &err);
  return opened(L, p, rc, &err);
}

int pul_proxy_expose(lua_State *L) {
  pul_host *h = pul_host_check(L, 1);
  pu_error err = {0};
  if (h == NULL)
    return pul_error_closed(L, "host");
  const char *protocol = luaL_checkstring(L, 2);
  const char *target = luaL_checkstring(L, 3);
  pul_proxy *p = new_proxy(L, h, 4);
  int rc = pu_proxy_expose(h->engine, protocol, target, pul_notice_proxy, h, &p->proxy, &err);
  return opened(L, p, rc, &err);
}

/* ---- methods ---- */

static pul_proxy *check_proxy(lua_State *L) {
  const proxy_box *b = pul_box_check(L, 1, PUL_PROXY_CLASS);
  pul_check_outside(L, pul_runtime_get(L));
  return b->box.ptr;
}

static int proxy_address(lua_State *L) {
  const pul_proxy *p = check_proxy(L);
  if (p == NULL)
    return pul_error_closed(L, "proxy");
  lua_pushstring(L, pu_proxy_address(p->proxy));
  return 1;
}

static int proxy_stats(lua_State *L) {
  const pul_proxy *p = check_proxy(L);
  pu_proxy_stats stats = {0};
  if (p == NULL)
    return pul_error_closed(L, "proxy");
  pu_proxy_stats_get(p->proxy, &stats);
  const struct {
    const char *name;
    uint64_t value;
  } fields[] = {{"connections", stats.connections},
                {"active", stats.active},
                {"bytes_in", stats.bytes_in},
                {"bytes_out", stats.bytes_out},
                {"failures", stats.failures}};
  lua_createtable(L, 0, PU_COUNT(fields));
  for (size_t i = 0; i < PU_COUNT(fields); i++) {
    lua_pushinteger(L, (lua_Integer)fields[i].value);
    lua_setfield(L, -2, fields[i].name);
  }
  return 1;
}

void pul_proxy_open_class(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"address", proxy_address}, {"stats", proxy_stats}, {NULL, NULL}};
  static const pul_class class = {PUL_PROXY_CLASS, methods, proxy_close, proxy_close,
                                  proxy_discard};
  pul_class_open(L, &class);
}
