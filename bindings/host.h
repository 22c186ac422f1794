/* One engine as Lua sees it, and what its streams, proxies and policy share (bindings only).
 *
 * The box in Lua owns the pul_host until close; from then on the host owns itself until the engine
 * is gone. The engine's side finds the box through a weak table, so that an unused host is
 * collected. */
#ifndef PUL_HOST_H
#define PUL_HOST_H

#include "bindings/object.h"
#include "bindings/task.h"
#include "peerup/engine.h"

#define PUL_HOST_CLASS "peerup.host"
#define PUL_STREAM_CLASS "peerup.stream"
#define PUL_PROXY_CLASS "peerup.proxy"

typedef struct pul_host {
  pul_runtime *rt;
  pu_engine *engine; /* NULL while it is made and once it closes */
  pul_resource resource;
  pul_job deliver;
  pu_list notices; /* events on their way to Lua, see notice.c */
  size_t notice_count;
  uint64_t notices_dropped;
  pu_list streams; /* pul_stream.link */
  pu_list proxies; /* pul_proxy.link */
  pu_list closers; /* tasks that wait for the end */
  lua_Integer next_proxy;
  int log_level; /* what the engine was told */
} pul_host;

/* The fields of the table in a host's only uservalue. */
#define PUL_HOST_POLICY "policy"
#define PUL_HOST_ON_EVENT "on_event"
#define PUL_HOST_ON_LOG "on_log"
#define PUL_HOST_ON_DIAL "on_dial"
#define PUL_HOST_HANDLERS "handlers" /* protocol -> function */
#define PUL_HOST_PROXIES "proxies"   /* number -> {proxy, function} */

/* pul_host_push_fields pushes that table; false (and nothing pushed) when the box is gone. */
bool pul_host_push_fields(lua_State *L, const pul_host *h);
/* pul_host_check returns the open host at |arg|, NULL when it is closed; throws for other values
 * and inside policy functions. */
pul_host *pul_host_check(lua_State *L, int arg);
/* pul_host_log passes a line to on_log, or to the reporter when there is none and it is an error.
 */
void pul_host_log(pul_host *h, int level, const char *part, const char *line);
/* pul_host_check_peer reads a peer ID argument: 0, or nil, err pushed and their count. */
int pul_host_check_peer(lua_State *L, int arg, pu_peer_id *out);
void pul_host_push_peer(lua_State *L, const pu_peer_id *id);
void pul_host_push_conn_info(lua_State *L, const pu_conn_info *info);

/* The level names by number; ends with NULL. */
extern const char *const pul_host_levels[];

/* ---- policy.c ---- */

/* pul_policy_ask is the engine's policy function; |data| is the host. */
int pul_policy_ask(void *data, const pu_question *question);
/* pul_policy_rank is its pu_rank_fn. */
int pul_policy_rank(void *data, const pu_peer_id *peer, pu_dial_candidate *candidates, size_t count);

/* ---- notice.c: events go to Lua from the loop, in order, through a bounded queue ---- */

void pul_notice_event(void *host, const pu_event *event);
void pul_notice_proxy(void *host, pu_proxy *proxy, const pu_proxy_event *event);
/* pul_notice_proxy_gone forgets the proxy |number| once what came before was delivered. */
void pul_notice_proxy_gone(pul_host *h, lua_Integer number);
void pul_notice_deliver(pul_job *job);
void pul_notice_clear(pul_host *h);

/* ---- stream.c ---- */

typedef struct pul_stream pul_stream;

void pul_stream_open_class(lua_State *L);
/* pul_stream_new pushes a closed stream; pul_stream_attach opens |s| into it, without Lua calls. */
pul_stream *pul_stream_new(lua_State *L);
void pul_stream_attach(pul_stream *st, pul_host *h, pu_stream *s);
/* pul_stream_close_all resets all streams of a host that closes. */
void pul_stream_close_all(pul_host *h);
/* pul_stream_serve is the task of an inbound stream: serve(fn, stream). */
int pul_stream_serve(lua_State *L);

/* pul_stream_idle returns the engine's stream of the one at 1, NULL when it is closed or has ended;
 * throws while a task reads or writes. */
pu_stream *pul_stream_idle(lua_State *L);
/* pul_stream_ended pushes nil and why there is no such stream any more. */
int pul_stream_ended(lua_State *L);
/* pul_stream_release closes the box at 1 and hands its engine's stream over, with the bytes that
 * have come (to be freed by pu_free), and whether the peer has ended its side. */
pu_stream *pul_stream_release(lua_State *L, uint8_t **data, size_t *len, bool *eof);

/* pipe.c: stream:pipe(input, output) */
int pul_stream_pipe(lua_State *L);

/* ---- proxy.c ---- */

typedef struct pul_proxy {
  pul_host *host;
  pu_proxy *proxy;
  pul_box *box;
  pu_list link;
  lua_Integer number;
} pul_proxy;

void pul_proxy_open_class(lua_State *L);
int pul_proxy_listen(lua_State *L);
int pul_proxy_expose(lua_State *L);
/* pul_proxy_close_all closes all proxies of a host that closes. */
void pul_proxy_close_all(pul_host *h);

/* ---- connect.c: the methods that wait for the engine ---- */

int pul_host_connect(lua_State *L);
int pul_host_open_stream(lua_State *L);
int pul_host_ping(lua_State *L);

#endif
