/* Events on their way to Lua. The engine tells of them in the middle of its work, so each is copied
 * and delivered from the loop: then the function that is told may call the engine. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bindings/host.h"

/* Events of one turn of the loop; more are dropped and counted. */
#define NOTICES_MAX 4096

typedef enum notice_kind { NOTICE_EVENT, NOTICE_PROXY, NOTICE_PROXY_GONE } notice_kind;

typedef struct notice {
  pu_list link;
  notice_kind kind;
  pu_event_type type;
  bool has_conn;
  pu_peer_id peer, target; /* len 0: none */
  int status;
  char detail[256];
  lua_Integer proxy;
  bool opened;
  uint64_t bytes_in, bytes_out, duration_us;
  pu_conn_info conn; /* last: only there when has_conn */
} notice;

/* add makes a notice and queues it; NULL when there is no room. */
static notice *add(pul_host *h, notice_kind kind, bool has_conn) {
  notice *n = NULL;
  if (h->notice_count < NOTICES_MAX || kind == NOTICE_PROXY_GONE)
    n = pu_zalloc(&h->rt->mem, has_conn ? sizeof(*n) : offsetof(notice, conn));
  if (n == NULL) {
    h->notices_dropped++;
    return NULL;
  }
  n->kind = kind;
  n->has_conn = has_conn;
  pu_list_push(&h->notices, &n->link);
  h->notice_count++;
  pul_job_post(h->rt, &h->deliver);
  return n;
}

static void set_detail(notice *n, int status, const char *detail) {
  n->status = status;
  if (detail != NULL)
    (void)snprintf(n->detail, sizeof(n->detail), "%s", detail);
}

void pul_notice_event(void *host, const pu_event *event) {
  notice *n = add(host, NOTICE_EVENT, event->conn != NULL);
  if (n == NULL)
    return;
  n->type = event->type;
  if (event->conn != NULL) {
    pu_conn_info_get(event->conn, &n->conn);
    n->peer = n->conn.peer;
  }
  if (event->peer != NULL)
    n->peer = *event->peer;
  if (event->target != NULL)
    n->target = *event->target;
  set_detail(n, event->status, event->detail);
}

void pul_notice_proxy(void *host, pu_proxy *proxy, const pu_proxy_event *event) {
  pul_host *h = host;
  const pul_proxy *found = NULL;
  PU_LIST_EACH(&h->proxies, link, tmp) {
    const pul_proxy *p = PU_CONTAINER_OF(link, pul_proxy, link);
    if (p->proxy == proxy)
      found = p;
  }
  if (found == NULL)
    return;
  notice *n = add(h, NOTICE_PROXY, false);
  if (n == NULL)
    return;
  n->proxy = found->number;
  n->opened = event->opened;
  if (event->peer != NULL)
    n->peer = *event->peer;
  n->bytes_in = event->bytes_in;
  n->bytes_out = event->bytes_out;
  n->duration_us = event->duration_us;
  set_detail(n, event->status, event->detail);
}

void pul_notice_proxy_gone(pul_host *h, lua_Integer number) {
  notice *n = add(h, NOTICE_PROXY_GONE, false);
  if (n != NULL)
    n->proxy = number;
}

/* ---- delivery ---- */

static void set_peer(lua_State *L, const char *key, const pu_peer_id *id) {
  if (id->len == 0)
    return;
  pul_host_push_peer(L, id);
  lua_setfield(L, -2, key);
}

static void set_outcome(lua_State *L, const notice *n) {
  if (n->status != 0) {
    lua_pushstring(L, pu_error_name(n->status));
    lua_setfield(L, -2, "code");
  }
  if (n->detail[0] != '\0') {
    lua_pushstring(L, n->detail);
    lua_setfield(L, -2, "detail");
  }
}

static void set_integer(lua_State *L, const char *key, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, key);
}

typedef struct delivery {
  pul_host *host;
  const notice *notice;
} delivery;

static int deliver_event(lua_State *L) {
  static const char *const names[] = {[PU_EVENT_CONNECTED] = "connected",
                                      [PU_EVENT_DISCONNECTED] = "disconnected",
                                      [PU_EVENT_IDENTIFIED] = "identified",
                                      [PU_EVENT_ADDRESSES] = "addresses",
                                      [PU_EVENT_RESERVED] = "reserved",
                                      [PU_EVENT_RESERVATION_LOST] = "reservation_lost",
                                      [PU_EVENT_DENIED] = "denied",
                                      [PU_EVENT_DROPPED] = "dropped",
                                      [PU_EVENT_RELAY_CIRCUIT] = "relay_circuit"};
  const delivery *d = lua_touserdata(L, 1);
  const notice *n = d->notice;
  if (!pul_host_push_fields(L, d->host) || lua_getfield(L, -1, PUL_HOST_ON_EVENT) == LUA_TNIL)
    return 0;
  lua_createtable(L, 0, 6);
  lua_pushstring(L, names[n->type]);
  lua_setfield(L, -2, "type");
  if (n->has_conn) {
    pul_host_push_conn_info(L, &n->conn);
    lua_setfield(L, -2, "conn");
  }
  set_peer(L, "peer", &n->peer);
  set_peer(L, "target", &n->target);
  set_outcome(L, n);
  lua_call(L, 1, 0);
  return 0;
}

static int deliver_proxy(lua_State *L) {
  const delivery *d = lua_touserdata(L, 1);
  const notice *n = d->notice;
  if (!pul_host_push_fields(L, d->host))
    return 0;
  lua_getfield(L, -1, PUL_HOST_PROXIES); // [d, fields, proxies]
  if (n->kind == NOTICE_PROXY_GONE) {
    lua_pushnil(L);
    lua_rawseti(L, -2, n->proxy);
    return 0;
  }
  if (lua_rawgeti(L, -1, n->proxy) != LUA_TTABLE)
    return 0;
  if (lua_rawgeti(L, -1, 2) != LUA_TFUNCTION) // [.., entry, function]
    return 0;
  lua_rawgeti(L, -2, 1); // [.., entry, function, proxy]
  lua_createtable(L, 0, 7);
  lua_pushboolean(L, n->opened);
  lua_setfield(L, -2, "opened");
  set_peer(L, "peer", &n->peer);
  set_integer(L, "bytes_in", n->bytes_in);
  set_integer(L, "bytes_out", n->bytes_out);
  set_integer(L, "duration_us", n->duration_us);
  set_outcome(L, n);
  lua_call(L, 2, 0);
  return 0;
}

static void take(pul_host *h, notice *n) {
  pu_list_remove(&n->link);
  h->notice_count--;
}

void pul_notice_deliver(pul_job *job) {
  pul_host *h = PU_CONTAINER_OF(job, pul_host, deliver);
  if (h->notices_dropped > 0) {
    char text[96];
    (void)snprintf(text, sizeof(text), "%llu events were too many at once and are lost",
                   (unsigned long long)h->notices_dropped);
    h->notices_dropped = 0;
    pul_host_log(h, 3, "bindings", text);
  }
  /* What a function queues by calling the engine waits for the next turn of the loop. A function
   * may close the host: it stays until a later turn. */
  for (size_t left = h->notice_count; left > 0 && !pu_list_empty(&h->notices); left--) {
    notice *n = PU_CONTAINER_OF(h->notices.next, notice, link);
    take(h, n);
    delivery d = {.host = h, .notice = n};
    (void)pul_call(h->rt, n->kind == NOTICE_EVENT ? deliver_event : deliver_proxy, &d,
                   "an event function failed");
    pu_free(n);
  }
  if (!pu_list_empty(&h->notices))
    pul_job_post(h->rt, &h->deliver);
}

void pul_notice_clear(pul_host *h) {
  while (!pu_list_empty(&h->notices)) {
    notice *n = PU_CONTAINER_OF(h->notices.next, notice, link);
    take(h, n);
    pu_free(n);
  }
}
