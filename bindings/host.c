/* core.host: an engine on our loop, and its methods that answer at once (connect.c has the others).
 */
#include "bindings/host.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bindings/collect.h"
#include "bindings/core.h"
#include "bindings/error.h"

/* Its address is the registry key of the weak table pul_host -> box. */
static const char hosts_key;

const char *const pul_host_levels[] = {"debug", "info", "warn", "error", "off", NULL};

#define LEVEL_OFF 4

/* ---- helpers ---- */

bool pul_host_push_fields(lua_State *L, const pul_host *h) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hosts_key); // [hosts]
  if (lua_rawgetp(L, -1, h) != LUA_TUSERDATA) {
    lua_pop(L, 2);
    return false;
  }
  lua_getiuservalue(L, -1, 1); // [hosts, box, fields]
  lua_replace(L, -3);
  lua_pop(L, 1);
  return true;
}

pul_host *pul_host_check(lua_State *L, int arg) {
  const pul_box *box = pul_box_check(L, arg, PUL_HOST_CLASS);
  pul_check_outside(L, pul_runtime_get(L));
  return box->ptr;
}

int pul_host_check_peer(lua_State *L, int arg, pu_peer_id *out) {
  size_t len;
  const char *text = luaL_checklstring(L, arg, &len);
  int rc = pu_peer_id_from_text(text, len, out);
  if (rc == 0)
    return 0;
  lua_pushfstring(L, "'%s' is no peer ID", text);
  return pul_error_return(L, rc, lua_tostring(L, -1));
}

void pul_host_push_peer(lua_State *L, const pu_peer_id *id) {
  char text[PU_PEER_ID_MAX_TEXT];
  lua_pushstring(L, pu_peer_id_text(id, text));
}

static void set_text(lua_State *L, const char *key, const char *text) {
  if (text == NULL)
    return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, key);
}

static void set_flag(lua_State *L, const char *key, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

static void set_peer(lua_State *L, const char *key, const pu_peer_id *id) {
  pul_host_push_peer(L, id);
  lua_setfield(L, -2, key);
}

void pul_host_push_conn_info(lua_State *L, const pu_conn_info *info) {
  lua_createtable(L, 0, 20);
  set_integer(L, "id", info->id);
  set_peer(L, "peer", &info->peer);
  set_flag(L, "outbound", info->outbound);
  set_flag(L, "relayed", info->relayed);
  set_flag(L, "limited", info->limited);
  set_flag(L, "identified", info->identified);
  set_text(L, "addr", info->addr);
  set_text(L, "agent", info->agent);
  set_text(L, "transport", info->transport);
  set_text(L, "security", info->security);
  set_text(L, "muxer", info->muxer);
  set_integer(L, "opened_unix_ms", info->opened_unix_ms);
  set_integer(L, "rtt_us", info->rtt_us);
  set_integer(L, "streams", info->streams);
  set_integer(L, "bytes_in", info->bytes_in);
  set_integer(L, "bytes_out", info->bytes_out);
  set_integer(L, "limit_duration_s", info->limit_duration_s);
  set_integer(L, "limit_data_bytes", info->limit_data_bytes);
}

/* ---- logs ---- */

typedef struct log_line {
  pul_host *host;
  int level;
  const char *part, *line;
  bool taken;
} log_line;

/* call_log runs protected: (log_line) as light userdata. */
static int call_log(lua_State *L) {
  log_line *l = lua_touserdata(L, 1);
  if (!pul_host_push_fields(L, l->host) || lua_getfield(L, -1, PUL_HOST_ON_LOG) != LUA_TFUNCTION)
    return 0;
  lua_pushstring(L, pul_host_levels[l->level]);
  lua_pushstring(L, l->part);
  lua_pushstring(L, l->line);
  lua_call(L, 3, 0);
  l->taken = true;
  return 0;
}

void pul_host_log(pul_host *h, int level, const char *part, const char *line) {
  log_line l = {.host = h, .level = level, .part = part, .line = line};
  if (level < h->log_level || level >= LEVEL_OFF)
    return;
  h->rt->inside++;
  bool good = pul_call(h->rt, call_log, &l, "the log function failed");
  h->rt->inside--;
  if (good && !l.taken && level == LEVEL_OFF - 1)
    pul_report(h->rt, line);
}

static void on_log(void *data, int level, const char *part, const char *line) {
  pul_host_log(data, level, part, line);
}

/* ---- closing ---- */

/* One call of close. |link| is in the host's closers. */
typedef struct close_wait {
  pul_wait wait;
  pu_list link;
} close_wait;

static void on_engine_closed(void *data) {
  pul_host *h = data;
  while (!pu_list_empty(&h->closers)) {
    close_wait *w = PU_CONTAINER_OF(h->closers.next, close_wait, link);
    pu_list_remove(&w->link);
    pul_wait_done(&w->wait);
  }
  pul_job_cancel(&h->deliver);
  pul_notice_clear(h);
  pul_resource_remove(&h->resource);
  pu_free(h);
}

/* start_close begins the end of |h|, which no box refers to any more. */
static void start_close(pul_host *h) {
  pu_engine *e = h->engine;
  h->engine = NULL;
  pul_stream_close_all(h);
  pul_proxy_close_all(h);
  if (e != NULL)
    pu_engine_close(e, on_engine_closed, h);
  else
    on_engine_closed(h);
}

/* close_resource closes a host whose box still lives: found through the weak table, so that methods
 * see it closed. Runs protected: (host) as light userdata. */
static int detach_box(lua_State *L) {
  const pul_host *h = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hosts_key);
  if (lua_rawgetp(L, -1, h) == LUA_TUSERDATA)
    ((pul_box *)lua_touserdata(L, -1))->ptr = NULL;
  return 0;
}

static void close_resource(pul_resource *r) {
  pul_host *h = PU_CONTAINER_OF(r, pul_host, resource);
  if (h->engine == NULL)
    return; /* on its way */
  (void)pul_call(h->rt, detach_box, h, "closing a host failed");
  start_close(h);
}

static void close_cancel(pul_wait *w, int status) {
  pu_list_remove(&((close_wait *)w)->link);
  w->status = status;
  pul_wait_done(w);
}

static int close_finish(lua_State *L, pul_wait *w) {
  return w->status != 0 ? pul_error_return(L, w->status, NULL) : 0;
}

static int host_close(lua_State *L) {
  static const pul_wait_ops ops = {close_cancel, close_finish};
  pul_box *box = pul_box_check(L, 1, PUL_HOST_CLASS);
  pul_check_outside(L, pul_runtime_get(L));
  pul_host *h = box->ptr;
  if (h == NULL)
    return 0;
  close_wait *w = pul_wait_possible(L) ? pul_wait_new(L, sizeof(*w), 0, &ops) : NULL;
  box->ptr = NULL;
  if (w != NULL) {
    pu_list_init(&w->link);
    pu_list_push(&h->closers, &w->link);
  }
  start_close(h);
  return w != NULL ? pul_wait_suspend(L, &w->wait, PUL_NO_TIMEOUT) : 0;
}

static int host_discard(lua_State *L) {
  pul_box *box = pul_box_check(L, 1, PUL_HOST_CLASS);
  pul_host *h = box->ptr;
  box->ptr = NULL;
  if (h != NULL)
    start_close(h);
  return 0;
}

/* host_scope_end is __close: it waits like close when the scope ends well. */
static int host_scope_end(lua_State *L) {
  if (!lua_isnoneornil(L, 2))
    return host_discard(L);
  lua_settop(L, 1);
  return host_close(L);
}

/* ---- making one ---- */

typedef struct limit_field {
  const char *name;
  size_t offset;
  bool wide; /* a size_t or uint64_t, else a uint32_t */
} limit_field;

#define LIMIT(type, name) \
  { #name, offsetof(type, name), sizeof(((type *)0)->name) == 8 }

static const limit_field limit_fields[] = {
    LIMIT(pu_limits, conns_total),
    LIMIT(pu_limits, conns_in),
    LIMIT(pu_limits, conns_per_ip),
    LIMIT(pu_limits, conns_per_peer),
    LIMIT(pu_limits, conns_pending),
    LIMIT(pu_limits, conns_pending_per_ip),
    LIMIT(pu_limits, streams_in),
    LIMIT(pu_limits, streams_in_per_ip),
    LIMIT(pu_limits, streams_in_per_peer),
    LIMIT(pu_limits, streams_in_per_conn),
    LIMIT(pu_limits, streams_in_per_protocol),
    LIMIT(pu_limits, streams_in_per_protocol_peer),
    LIMIT(pu_limits, negotiating_per_conn),
    LIMIT(pu_limits, memory_per_conn),
    LIMIT(pu_limits, memory_per_ip),
    LIMIT(pu_limits, memory_per_peer),
    LIMIT(pu_limits, memory_total),
    LIMIT(pu_limits, handshake_ms),
    LIMIT(pu_limits, dial_ms),
    LIMIT(pu_limits, negotiate_ms),
    LIMIT(pu_limits, idle_ms)};
static const limit_field relay_fields[] = {LIMIT(pu_relay_config, max_reservations),
                                           LIMIT(pu_relay_config, max_circuits),
                                           LIMIT(pu_relay_config, max_reservations_per_ip),
                                           LIMIT(pu_relay_config, max_reservations_per_asn),
                                           LIMIT(pu_relay_config, reservation_ttl_s),
                                           LIMIT(pu_relay_config, session_duration_s),
                                           LIMIT(pu_relay_config, session_data_bytes),
                                           LIMIT(pu_relay_config, buffer_bytes)};

/* read_numbers fills a struct of numbers from the table at |index|; unknown names throw. */
static void read_numbers(lua_State *L, int index, const limit_field *fields, size_t count,
                         void *out) {
  lua_pushnil(L);
  while (lua_next(L, index) != 0) { // [key, value]
    const limit_field *found = NULL;
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    for (size_t i = 0; i < count; i++) {
      if (strcmp(fields[i].name, name) == 0)
        found = &fields[i];
    }
    if (found == NULL)
      luaL_error(L, "no limit is named '%s'", name);
    int good = 0;
    lua_Integer value = lua_tointegerx(L, -1, &good);
    if (!good || value < 0 || (!found->wide && value > UINT32_MAX))
      luaL_error(L, "'%s' is no number that fits", name);
    if (found->wide)
      *(uint64_t *)(void *)((char *)out + found->offset) = (uint64_t)value;
    else
      *(uint32_t *)(void *)((char *)out + found->offset) = (uint32_t)value;
    lua_pop(L, 1);
  }
}

/* keep_function copies a function from the options at 1 into the fields at |fields|. */
static bool keep_function(lua_State *L, int fields, const char *name, bool must) {
  int type = lua_getfield(L, 1, name);
  if (type != LUA_TFUNCTION && (must || type != LUA_TNIL))
    luaL_error(L, "host options: '%s' must be a function", name);
  lua_setfield(L, fields, name);
  return type == LUA_TFUNCTION;
}

static int level_of(lua_State *L, const char *name) {
  for (int i = 0; pul_host_levels[i] != NULL; i++) {
    if (strcmp(pul_host_levels[i], name) == 0)
      return i;
  }
  return luaL_error(L, "no log level is named '%s'", name);
}

/* open_host makes the C side of the box on top of the stack. */
static pul_host *open_host(lua_State *L, pul_box *box) {
  pul_runtime *rt = pul_runtime_get(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hosts_key); // [box, hosts]
  pul_host *h = pu_zalloc(&rt->mem, sizeof(*h));
  if (h == NULL)
    luaL_error(L, "out of memory");
  box->ptr = h;
  h->rt = rt;
  h->resource.close = close_resource;
  pu_list_init(&h->notices);
  pu_list_init(&h->streams);
  pu_list_init(&h->proxies);
  pu_list_init(&h->closers);
  pul_job_init(&h->deliver, pul_notice_deliver);
  pul_resource_add(rt, &h->resource);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, h);
  lua_pop(L, 1);
  return h;
}

static int core_host(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  pul_check_outside(L, pul_runtime_get(L));
  pu_engine_config config = {.log_level = 1};
  pu_error err = {0};
  lua_createtable(L, 0, 6); // [options, fields]
  (void)keep_function(L, 2, PUL_HOST_POLICY, true);
  bool events = keep_function(L, 2, PUL_HOST_ON_EVENT, false);
  bool logs = keep_function(L, 2, PUL_HOST_ON_LOG, false);
  bool ranks = keep_function(L, 2, PUL_HOST_ON_DIAL, false);
  lua_newtable(L);
  lua_setfield(L, 2, PUL_HOST_HANDLERS);
  lua_newtable(L);
  lua_setfield(L, 2, PUL_HOST_PROXIES);
  lua_getfield(L, 1, "identity"); // [options, fields, identity]
  size_t identity_len;
  config.identity = (const uint8_t *)luaL_checklstring(L, 3, &identity_len);
  config.identity_len = identity_len;
  if (lua_getfield(L, 1, "agent") != LUA_TNIL) // [.., agent]
    config.agent = luaL_checkstring(L, 4);
  if (lua_getfield(L, 1, "log_level") != LUA_TNIL) // [.., level]
    config.log_level = level_of(L, luaL_checkstring(L, 5));
  if (lua_getfield(L, 1, "limits") != LUA_TNIL) { // [.., limits]
    luaL_checktype(L, 6, LUA_TTABLE);
    read_numbers(L, 6, limit_fields, PU_COUNT(limit_fields), &config.limits);
  }
  if (lua_getfield(L, 1, "congestion") != LUA_TNIL) // [.., congestion]
    config.congestion = luaL_checkstring(L, 7);
  pul_box *box = pul_box_new(L, PUL_HOST_CLASS, sizeof(*box), 1); // [.., box]
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  pul_host *h = open_host(L, box);
  h->log_level = config.log_level;
  config.loop = h->rt->loop;
  config.policy = pul_policy_ask;
  config.policy_data = h;
  config.rank = ranks ? pul_policy_rank : NULL;
  config.rank_data = h;
  config.on_event = events ? pul_notice_event : NULL;
  config.event_data = h;
  config.log = logs ? on_log : NULL;
  config.log_data = h;
  pu_engine *engine;
  int rc = pu_engine_new(&config, &engine, &err);
  if (rc != 0) {
    box->ptr = NULL;
    start_close(h);
    return pul_error_return_full(L, rc, &err);
  }
  h->engine = engine;
  return 1;
}

/* ---- methods ---- */

/* OPEN_HOST is the start of each method: the host, or a return of nil, err. */
#define OPEN_HOST(h)                  \
  pul_host *h = pul_host_check(L, 1); \
  if (h == NULL)                      \
  return pul_error_closed(L, "host")

/* PEER_ARG reads the peer ID in argument |arg|, or returns nil, err. */
#define PEER_ARG(arg, id)                        \
  pu_peer_id id;                                 \
  int failed = pul_host_check_peer(L, arg, &id); \
  if (failed != 0)                               \
  return failed

static int host_peer_id(lua_State *L) {
  OPEN_HOST(h);
  pul_host_push_peer(L, pu_engine_peer(h->engine));
  return 1;
}

static int push_true(lua_State *L, int rc, const pu_error *err) {
  if (rc < 0)
    return pul_error_return_full(L, rc, err);
  lua_pushboolean(L, 1);
  return 1;
}

static int host_listen(lua_State *L) {
  OPEN_HOST(h);
  pu_error err = {0};
  return push_true(L, pu_engine_listen(h->engine, luaL_checkstring(L, 2), &err), &err);
}

static int host_web_certificate(lua_State *L) {
  OPEN_HOST(h);
  pu_error err = {0};
  return push_true(L,
                   pu_engine_web_certificate(h->engine, luaL_checkstring(L, 2),
                                             luaL_checkstring(L, 3), &err),
                   &err);
}

static int host_web_keep(lua_State *L) {
  OPEN_HOST(h);
  pu_error err = {0};
  return push_true(L, pu_engine_web_keep(h->engine, luaL_checkstring(L, 2), &err), &err);
}

static int host_addrs(lua_State *L) {
  OPEN_HOST(h);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_addrs(h->engine, pul_collect_text, c);
  pul_collect_push_texts(L, c);
  return 1;
}

static int host_add_addr(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  const char *addr = luaL_checkstring(L, 3);
  double ttl_s = pul_check_timeout(L, 4);
  uint32_t ttl = UINT32_MAX;
  if (ttl_s >= 0 && ttl_s < (double)UINT32_MAX)
    ttl = (uint32_t)ceil(ttl_s);
  pu_error err = {0};
  return push_true(L, pu_engine_add_addr(h->engine, &peer, addr, ttl, &err), &err);
}

static int host_known_addrs(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_known_addrs(h->engine, &peer, pul_collect_text, c);
  pul_collect_push_texts(L, c);
  return 1;
}

static int host_disconnect(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  lua_pushinteger(L, (lua_Integer)pu_engine_disconnect(h->engine, &peer));
  return 1;
}

static int host_dial_state(lua_State *L) {
  OPEN_HOST(h);
  pu_dial_state state;
  pu_engine_dial_state(h->engine, &state);
  lua_createtable(L, 0, 2);
  set_flag(L, "udp_dark", state.udp_dark);
  set_flag(L, "ip6_dark", state.ip6_dark);
  return 1;
}

static void collect_resting(void *data, const pu_resting_addr *resting) {
  pul_collect_add(data, resting, sizeof(*resting));
}

static int host_resting_addrs(lua_State *L) {
  OPEN_HOST(h);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_resting_addrs(h->engine, collect_resting, c);
  pul_collect_check(L, c);
  const pu_resting_addr *resting = (const void *)c->data;
  size_t count = c->len / sizeof(*resting);
  lua_newtable(L);
  for (size_t i = 0; i < count; i++) {
    lua_createtable(L, 0, 4);
    set_peer(L, "peer", &resting[i].peer);
    set_text(L, "addr", resting[i].addr);
    set_integer(L, "failures", resting[i].failures);
    set_integer(L, "rest_s", resting[i].rest_s);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int host_close_conn(lua_State *L) {
  OPEN_HOST(h);
  pu_conn *conn = pu_conn_find(h->engine, (uint64_t)luaL_checkinteger(L, 2));
  if (conn != NULL)
    pu_conn_close(conn);
  lua_pushboolean(L, conn != NULL);
  return 1;
}

static int host_recheck(lua_State *L) {
  OPEN_HOST(h);
  lua_pushinteger(L, (lua_Integer)pu_engine_recheck(h->engine));
  return 1;
}

static int host_protect(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  luaL_checkany(L, 3);
  return push_true(L, pu_engine_protect(h->engine, &peer, lua_toboolean(L, 3)), NULL);
}

static void collect_conn(void *data, pu_conn *conn) {
  pu_conn_info info;
  pu_conn_info_get(conn, &info);
  pul_collect_add(data, &info, sizeof(info));
}

static int host_conns(lua_State *L) {
  OPEN_HOST(h);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_conns(h->engine, collect_conn, c);
  pul_collect_check(L, c);
  const pu_conn_info *infos = (const void *)c->data;
  size_t count = c->len / sizeof(*infos);
  lua_newtable(L);
  for (size_t i = 0; i < count; i++) {
    pul_host_push_conn_info(L, &infos[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int host_best_conn(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  pu_conn_info info;
  const pu_conn *conn = pu_engine_best_conn(h->engine, &peer);
  if (conn == NULL)
    return 0;
  pu_conn_info_get(conn, &info);
  pul_host_push_conn_info(L, &info);
  return 1;
}

static int host_peer_protocols(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_peer_protocols(h->engine, &peer, pul_collect_text, c);
  pul_collect_push_texts(L, c);
  return 1;
}

/* ---- inbound streams ---- */

typedef struct inbound {
  pul_host *host;
  pu_stream *stream;
  bool taken;
} inbound;

/* accept_stream runs protected: (inbound) as light userdata. The task starts later, from the loop.
 */
static int accept_stream(lua_State *L) {
  inbound *in = lua_touserdata(L, 1);
  if (!pul_host_push_fields(L, in->host)) // [in, fields]
    return 0;
  lua_getfield(L, 2, PUL_HOST_HANDLERS);
  lua_pushcfunction(L, pul_stream_serve); // [in, fields, handlers, serve]
  if (lua_getfield(L, 3, pu_stream_protocol(in->stream)) != LUA_TFUNCTION)
    return 0;
  pul_stream *st = pul_stream_new(L); // [.., serve, fn, stream]
  lua_pushvalue(L, -1);
  lua_insert(L, 4); // [in, fields, handlers, stream, serve, fn, stream]
  (void)pul_task_spawn_later(L, 2);
  pul_stream_attach(st, in->host, in->stream);
  in->taken = true;
  return 0;
}

static int on_inbound(void *data, pu_stream *s) {
  inbound in = {.host = data, .stream = s};
  (void)pul_call(in.host->rt, accept_stream, &in, "an inbound stream could not be served");
  return in.taken ? 0 : PU_E_NOMEM;
}

static int host_handle(lua_State *L) {
  OPEN_HOST(h);
  const char *protocol = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  bool serve = !lua_isnil(L, 3);
  if (serve)
    luaL_checktype(L, 3, LUA_TFUNCTION);
  int rc = pu_engine_handle(h->engine, protocol, serve ? on_inbound : NULL, h);
  if (rc != 0)
    return pul_error_return(L, rc, protocol);
  lua_getiuservalue(L, 1, 1);
  lua_getfield(L, -1, PUL_HOST_HANDLERS);
  lua_pushvalue(L, 3);
  lua_setfield(L, -2, protocol);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- relays ---- */

static int host_reserve(lua_State *L) {
  OPEN_HOST(h);
  const char *addr = luaL_checkstring(L, 2);
  double interval_s = pul_check_timeout(L, 3);
  uint32_t interval = 0;
  if (interval_s >= 0)
    interval = interval_s >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)ceil(interval_s);
  pu_error err = {0};
  return push_true(L, pu_engine_reserve(h->engine, addr, interval, &err), &err);
}

static int host_unreserve(lua_State *L) {
  OPEN_HOST(h);
  PEER_ARG(2, peer);
  pu_engine_unreserve(h->engine, &peer);
  lua_pushboolean(L, 1);
  return 1;
}

static void collect_reservation(void *data, const pu_reservation_info *info) {
  pul_collect_add(data, info, sizeof(*info));
}

static int host_reservations(lua_State *L) {
  OPEN_HOST(h);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_reservations(h->engine, collect_reservation, c);
  pul_collect_check(L, c);
  const pu_reservation_info *infos = (const void *)c->data;
  size_t count = c->len / sizeof(*infos);
  lua_newtable(L);
  for (size_t i = 0; i < count; i++) {
    const pu_reservation_info *info = &infos[i];
    lua_createtable(L, 0, 7);
    set_peer(L, "relay", &info->relay);
    set_flag(L, "active", info->active);
    set_integer(L, "expires", info->expires_unix_s);
    set_integer(L, "limit_duration", info->limit_duration_s);
    set_integer(L, "limit_data", info->limit_data_bytes);
    if (info->last_status != 0)
      set_text(L, "code", pu_error_name(info->last_status));
    if (info->detail[0] != '\0')
      set_text(L, "detail", info->detail);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int host_relay_start(lua_State *L) {
  OPEN_HOST(h);
  pu_relay_config config = {0};
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    read_numbers(L, 2, relay_fields, PU_COUNT(relay_fields), &config);
  }
  return push_true(L, pu_engine_relay_start(h->engine, &config), NULL);
}

static int host_relay_stop(lua_State *L) {
  OPEN_HOST(h);
  pu_engine_relay_stop(h->engine);
  lua_pushboolean(L, 1);
  return 1;
}

static int host_relay_stats(lua_State *L) {
  OPEN_HOST(h);
  pu_relay_stats stats = {0};
  pu_engine_relay_stats(h->engine, &stats);
  lua_createtable(L, 0, 6);
  set_integer(L, "reservations", stats.reservations);
  set_integer(L, "circuits", stats.circuits);
  set_integer(L, "bytes", stats.bytes);
  set_integer(L, "refused_reservations", stats.refused_reservations);
  set_integer(L, "refused_circuits", stats.refused_circuits);
  set_integer(L, "ended_by_limit", stats.ended_by_limit);
  return 1;
}

/* ---- the rest ---- */

static int host_set_log_level(lua_State *L) {
  OPEN_HOST(h);
  h->log_level = level_of(L, luaL_checkstring(L, 2));
  pu_engine_set_log_level(h->engine, h->log_level);
  lua_pushboolean(L, 1);
  return 1;
}

static int host_memory(lua_State *L) {
  OPEN_HOST(h);
  lua_pushinteger(L, (lua_Integer)pu_engine_memory(h->engine));
  return 1;
}

static void collect_limit(void *data, const pu_limit_stat *stat) {
  pul_collect_add(data, stat, sizeof(*stat));
}

static int host_limits(lua_State *L) {
  OPEN_HOST(h);
  pul_collect *c = pul_collect_new(L, &h->rt->mem);
  pu_engine_limit_stats(h->engine, collect_limit, c);
  pul_collect_check(L, c);
  const pu_limit_stat *stats = (const void *)c->data;
  size_t count = c->len / sizeof(*stats);
  lua_newtable(L);
  for (size_t i = 0; i < count; i++) {
    lua_createtable(L, 0, 4);
    set_text(L, "name", stats[i].name);
    set_integer(L, "used", stats[i].used);
    set_integer(L, "limit", stats[i].limit);
    set_integer(L, "refused", stats[i].refused);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int host_limit_protocol(lua_State *L) {
  OPEN_HOST(h);
  const char *protocol = luaL_checkstring(L, 2);
  lua_Integer total = luaL_checkinteger(L, 3);
  lua_Integer per_peer = luaL_checkinteger(L, 4);
  luaL_argcheck(L, total >= 0 && total <= UINT32_MAX, 3, "a count");
  luaL_argcheck(L, per_peer >= 0 && per_peer <= UINT32_MAX, 4, "a count");
  return push_true(
      L, pu_engine_limit_protocol(h->engine, protocol, (uint32_t)total, (uint32_t)per_peer), NULL);
}

void pul_host_open(lua_State *L) {
  static const luaL_Reg methods[] = {{"peer_id", host_peer_id},
                                     {"listen", host_listen},
                                     {"web_certificate", host_web_certificate},
                                     {"web_keep", host_web_keep},
                                     {"addrs", host_addrs},
                                     {"add_addr", host_add_addr},
                                     {"known_addrs", host_known_addrs},
                                     {"connect", pul_host_connect},
                                     {"disconnect", host_disconnect},
                                     {"dial_state", host_dial_state},
                                     {"resting_addrs", host_resting_addrs},
                                     {"close_conn", host_close_conn},
                                     {"recheck", host_recheck},
                                     {"protect", host_protect},
                                     {"conns", host_conns},
                                     {"best_conn", host_best_conn},
                                     {"peer_protocols", host_peer_protocols},
                                     {"open_stream", pul_host_open_stream},
                                     {"handle", host_handle},
                                     {"ping", pul_host_ping},
                                     {"reserve", host_reserve},
                                     {"unreserve", host_unreserve},
                                     {"reservations", host_reservations},
                                     {"relay_start", host_relay_start},
                                     {"relay_stop", host_relay_stop},
                                     {"relay_stats", host_relay_stats},
                                     {"proxy_listen", pul_proxy_listen},
                                     {"proxy_expose", pul_proxy_expose},
                                     {"set_log_level", host_set_log_level},
                                     {"memory", host_memory},
                                     {"limits", host_limits},
                                     {"limit_protocol", host_limit_protocol},
                                     {NULL, NULL}};
  static const pul_class class = {PUL_HOST_CLASS, methods, host_close, host_scope_end,
                                  host_discard};
  pul_collect_open(L);
  pul_class_open(L, &class);
  pul_stream_open_class(L);
  pul_proxy_open_class(L);
  lua_newtable(L); // [hosts]
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &hosts_key);
  lua_pushcfunction(L, core_host);
}
