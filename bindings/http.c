/* peerup.http: HTTP on a unix socket or a TCP port, by libmicrohttpd on our loop. Its epoll
 * descriptor is polled, its timeout is one timer. Each request is suspended while a task answers
 * it.
 *
 *   receiving -> running (suspended, a task) -> answered (resumed) -> gone
 *
 * A module of its own, so that only a program that serves HTTP loads the library. It reaches the
 * tasks through api.h, and must be required after peerup.core. */
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bindings/api.h"
#include "bindings/error.h"
#include "bindings/http_feed.h"
#include "bindings/object.h"

#define SERVER_CLASS "peerup.http_server"
#define REQUEST_CLASS "peerup.http_request"
/* A request's head: MHD refuses longer ones with 431. */
#define HEAD_MAX_BYTES 32768
#define BACKLOG 64
#define FULL_LOOK_MS 50
#define MAX_BODY_BYTES ((lua_Integer)64 << 20) /* the highest max_body that serve takes */
#define MAX_CONNS 4096
#define MAX_TIMEOUT_S 86400

__attribute__((visibility("default"))) int luaopen_peerup_http(lua_State *L);

typedef struct server {
  const pul_api *api;
  pul_runtime *rt;
  struct MHD_Daemon *daemon; /* NULL when closed */
  uv_poll_t poll;            /* handles' data stays NULL, for luv */
  uv_timer_t timer;
  int handles; /* that are not closed yet */
  pul_resource resource;
  pu_list requests; /* running ones */
  pul_feed_server feeds;
  int self, handler; /* registry references while open */
  size_t max_body;
  unsigned conns_max;
  bool full; /* as many connections as there may be, at the last look */
  char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": a TCP port */
  dev_t dev; /* of the socket, so that another server's is not removed */
  ino_t ino;
} server;

typedef enum request_state { RECEIVING, RUNNING, ANSWERED } request_state;

typedef struct request {
  server *server;
  struct MHD_Connection *conn;
  pu_list link;
  request_state state;
  const char *method, *path; /* MHD's; live as long as the request */
  char *body;
  size_t body_len, body_cap;
  bool too_large;
  pul_box *box;   /* of the task that answers, NULL when it ended */
  pul_task *task; /* while |box| is set */
  struct MHD_Response *response;
  unsigned status;
} request;

/* ---- the loop ---- */

static void on_timer(uv_timer_t *uv);

/* run lets MHD work, and arms the timer for its next deadline. */
static void run(server *s) {
  MHD_UNSIGNED_LONG_LONG ms;
  if (s->daemon == NULL)
    return;
  (void)MHD_run(s->daemon);
  const union MHD_DaemonInfo *info =
      MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
  const bool full = info != NULL && info->num_connections >= s->conns_max;
  const bool was_full = s->full;
  s->full = full;
  if (was_full && !full) /* it listens again only when it runs once more */
    (void)MHD_run(s->daemon);
  enum MHD_Result timed = MHD_get_timeout(s->daemon, &ms);
  if (full && (timed != MHD_YES || ms > FULL_LOOK_MS)) { /* what ended while it was full */
    timed = MHD_YES;
    ms = FULL_LOOK_MS;
  }
  if (timed == MHD_YES) {
    uv_update_time(s->rt->loop);
    (void)uv_timer_start(&s->timer, on_timer, ms, 0);
  } else {
    (void)uv_timer_stop(&s->timer);
  }
}

static void on_timer(uv_timer_t *uv) {
  run(PU_CONTAINER_OF(uv, server, timer));
}

static void on_poll(uv_poll_t *uv, int status, int events) {
  (void)status, (void)events;
  run(PU_CONTAINER_OF(uv, server, poll));
}

static void wake_for_feed(pul_feed_server *feeds) {
  server *s = PU_CONTAINER_OF(feeds, server, feeds);
  if (s->daemon != NULL)
    (void)uv_timer_start(&s->timer, on_timer, 0, 0);
}

/* ---- answers ---- */

static struct MHD_Response *plain_response(const char *json) {
  struct MHD_Response *r = MHD_create_response_from_buffer(strlen(json), (void *)(uintptr_t)json,
                                                           MHD_RESPMEM_PERSISTENT);
  if (r != NULL)
    (void)MHD_add_response_header(r, "Content-Type", "application/json");
  return r;
}

static enum MHD_Result refuse(struct MHD_Connection *conn, unsigned status, const char *json) {
  struct MHD_Response *r = plain_response(json);
  if (r == NULL)
    return MHD_NO;
  enum MHD_Result result = MHD_queue_response(conn, status, r);
  MHD_destroy_response(r);
  return result;
}

/* answer ends the task's part: the connection goes on with the response, or breaks without one. */
static void answer(request *r) {
  r->state = ANSWERED;
  r->box = NULL;
  r->task = NULL;
  pu_list_remove(&r->link);
  MHD_resume_connection(r->conn);
  (void)uv_timer_start(&r->server->timer, on_timer, 0, 0);
}

/* request_closed is the __close of a request's box: the task has ended, well or not. */
static int request_closed(lua_State *L) {
  pul_box *box = pul_box_check(L, 1, REQUEST_CLASS);
  request *r = box->ptr;
  if (r == NULL)
    return 0;
  box->ptr = NULL;
  if (!lua_isnoneornil(L, 2) || r->response == NULL) {
    if (r->response != NULL)
      MHD_destroy_response(r->response);
    r->response = plain_response("{\"error\":\"internal error\"}\n");
    r->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
  }
  answer(r);
  return 0;
}

static void add_header(lua_State *L, request *r, const char *name, int value) {
  const char *text = lua_tostring(L, value);
  if (text == NULL || MHD_add_response_header(r->response, name, text) != MHD_YES)
    luaL_error(L, "the answer's header '%s' cannot be sent", name);
}

/* add_headers adds those of the table at |index|: name -> value or list of values. */
static void add_headers(lua_State *L, request *r, int index) {
  lua_pushnil(L);
  while (lua_next(L, index) != 0) { // [.., name, value]
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "the answer's headers need names");
    const char *name = lua_tostring(L, -2);
    if (lua_istable(L, -1)) {
      for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        add_header(L, r, name, lua_gettop(L));
        lua_pop(L, 1);
      }
      lua_pop(L, 1);
    } else {
      add_header(L, r, name, lua_gettop(L));
    }
    lua_pop(L, 1);
  }
}

/* handled takes what the handler returned: status, headers, body. */
static int handled(lua_State *L, int status, lua_KContext context) {
  (void)status, (void)context;
  const pul_box *box = pul_box_check(L, 3, REQUEST_CLASS); // [handler, request, box, results]
  request *r = box->ptr;
  if (r == NULL)
    return 0; /* the server was closed */
  int good = 0;
  lua_Integer code = lua_tointegerx(L, 4, &good);
  if (!good || code < 100 || code > 599)
    return luaL_error(L, "the handler returned no status but a %s", luaL_typename(L, 4));
  size_t len = 0;
  const pul_box *feed = luaL_testudata(L, 6, PUL_FEED_CLASS);
  const char *body = feed != NULL || lua_isnil(L, 6) ? "" : lua_tolstring(L, 6, &len);
  if (body == NULL)
    return luaL_error(L, "the handler returned a %s as body", luaL_typename(L, 6));
  r->response = feed != NULL ? pul_feed_response(feed->ptr, &r->server->feeds, r->conn)
                             : MHD_create_response_from_buffer(len, (void *)(uintptr_t)body,
                                                               MHD_RESPMEM_MUST_COPY);
  if (r->response == NULL)
    return luaL_error(L, "the answer cannot be made: no memory, or a feed that has ended");
  r->status = (unsigned)code;
  if (lua_istable(L, 5))
    add_headers(L, r, 5);
  return 0; /* and the box closes, which sends it */
}

/* serve_request is the task: (handler, request, box). */
static int serve_request(lua_State *L) {
  lua_toclose(L, 3);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_callk(L, 1, 3, 0, handled);
  return handled(L, LUA_OK, 0);
}

/* ---- requests ---- */

typedef struct fields {
  lua_State *L;
  bool lower;
} fields;

/* add_field sets one header or query value in the table on top; a repeated header is joined by
 * commas. (A Lua error, for want of memory, leaps out of MHD's loop over a list, which holds
 * nothing.) */
static enum MHD_Result add_field(void *data, enum MHD_ValueKind kind, const char *key,
                                 const char *value) {
  (void)kind;
  const fields *f = data;
  lua_State *L = f->L;
  if (value == NULL)
    value = "";
  if (!f->lower) {
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
    return MHD_YES;
  }
  luaL_Buffer b;
  size_t len = strlen(key);
  char *out = luaL_buffinitsize(L, &b, len);
  for (size_t i = 0; i < len; i++)
    out[i] = key[i] >= 'A' && key[i] <= 'Z' ? (char)(key[i] - 'A' + 'a') : key[i];
  luaL_pushresultsize(&b, len); // [table, key]
  lua_pushvalue(L, -1);
  if (lua_rawget(L, -3) == LUA_TSTRING) // [table, key, old]
    lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
  else
    lua_pushstring(L, value);
  lua_remove(L, -2);
  lua_rawset(L, -3);
  return MHD_YES;
}

static void set_fields(lua_State *L, request *r, const char *name, enum MHD_ValueKind kind,
                       bool lower) {
  fields f = {.L = L, .lower = lower};
  lua_newtable(L);
  (void)MHD_get_connection_values(r->conn, kind, add_field, &f);
  lua_setfield(L, -2, name);
}

static void set_uid(lua_State *L, const request *r) {
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
  struct ucred peer;
  socklen_t len = sizeof(peer);
  if (info == NULL || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
    return;
  lua_pushinteger(L, peer.uid);
  lua_setfield(L, -2, "uid");
}

/* set_remote tells the address of a TCP client. */
static void set_remote(lua_State *L, const request *r) {
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  char host[INET6_ADDRSTRLEN];
  const struct sockaddr *at = info != NULL ? info->client_addr : NULL;
  if (at == NULL || (at->sa_family != AF_INET && at->sa_family != AF_INET6))
    return;
  const socklen_t len =
      at->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  if (getnameinfo(at, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
    return;
  lua_pushstring(L, host);
  lua_setfield(L, -2, "remote");
}

/* start_request runs protected: (request) as light userdata; makes the task that answers. */
static int start_request(lua_State *L) {
  request *r = lua_touserdata(L, 1);
  lua_pushcfunction(L, serve_request);
  lua_rawgeti(L, LUA_REGISTRYINDEX, r->server->handler); // [r, serve, handler]
  lua_createtable(L, 0, 6);                              // [r, serve, handler, request]
  lua_pushstring(L, r->method);
  lua_setfield(L, -2, "method");
  lua_pushstring(L, r->path);
  lua_setfield(L, -2, "path");
  set_fields(L, r, "query", MHD_GET_ARGUMENT_KIND, false);
  set_fields(L, r, "headers", MHD_HEADER_KIND, true);
  lua_pushlstring(L, r->body != NULL ? r->body : "", r->body_len);
  lua_setfield(L, -2, "body");
  if (r->server->path[0] != '\0')
    set_uid(L, r);
  else
    set_remote(L, r);
  pul_box *box =
      pul_box_new(L, REQUEST_CLASS, sizeof(*box), 0); // [r, serve, handler, request, box]
  r->task = r->server->api->spawn_later(L, 3);
  r->box = box;
  box->ptr = r;
  return 0;
}

static bool keep_body(request *r, const char *data, size_t len) {
  if (r->too_large || len > r->server->max_body - r->body_len) {
    r->too_large = true; /* the rest is read and thrown away, so that the answer arrives */
    return true;
  }
  if (r->body_cap - r->body_len < len) {
    size_t cap = r->body_cap == 0 ? 1024 : r->body_cap;
    while (cap - r->body_len < len)
      cap *= 2;
    char *bigger = realloc(r->body, cap);
    if (bigger == NULL)
      return false;
    r->body = bigger;
    r->body_cap = cap;
  }
  memcpy(r->body + r->body_len, data, len);
  r->body_len += len;
  return true;
}

/* on_request is MHD's access handler: called for the head, for each piece of body, for the end, and
 * again when the suspended connection goes on. */
static enum MHD_Result on_request(void *data, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **slot) {
  (void)version;
  server *s = data;
  request *r = *slot;
  if (r == NULL) {
    r = calloc(1, sizeof(*r));
    if (r == NULL)
      return MHD_NO;
    r->server = s;
    r->conn = conn;
    r->method = method;
    r->path = url;
    pu_list_init(&r->link);
    *slot = r;
    return MHD_YES;
  }
  if (*upload_size > 0) {
    size_t len = *upload_size;
    *upload_size = 0;
    return keep_body(r, upload, len) ? MHD_YES : MHD_NO;
  }
  if (r->state == ANSWERED)
    return r->response != NULL ? MHD_queue_response(conn, r->status, r->response) : MHD_NO;
  if (r->too_large)
    return refuse(conn, MHD_HTTP_CONTENT_TOO_LARGE, "{\"error\":\"request body too large\"}\n");
  if (!s->api->call(s->rt, start_request, r, "a request could not be served"))
    return refuse(conn, MHD_HTTP_INTERNAL_SERVER_ERROR, "{\"error\":\"internal error\"}\n");
  r->state = RUNNING;
  pu_list_push(&s->requests, &r->link);
  MHD_suspend_connection(conn);
  return MHD_YES;
}

static void on_completed(void *data, struct MHD_Connection *conn, void **slot,
                         enum MHD_RequestTerminationCode code) {
  (void)data, (void)conn, (void)code;
  request *r = *slot;
  if (r == NULL)
    return;
  *slot = NULL;
  if (r->box != NULL)
    r->box->ptr = NULL;
  if (r->response != NULL)
    MHD_destroy_response(r->response);
  pu_list_remove(&r->link);
  free(r->body);
  free(r);
}

/* ---- the socket ---- */

/* in_use says whether somebody accepts connections at |path|. */
static bool in_use(const struct sockaddr_un *at) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return false;
  int rc = connect(fd, (const struct sockaddr *)at, sizeof(*at));
  bool used = rc == 0 || errno == EAGAIN || errno == EINPROGRESS;
  (void)close(fd);
  return used;
}

/* listen_at binds beside |path| and renames, so that the socket never stands there with other
 * rights or without a listener. Returns the descriptor, or -1 and errno. */
static int listen_at(const char *path, struct stat *st) {
  struct sockaddr_un at = {.sun_family = AF_UNIX}, beside = {.sun_family = AF_UNIX};
  int n = snprintf(beside.sun_path, sizeof(beside.sun_path), "%s.new", path);
  if (n < 0 || (size_t)n >= sizeof(beside.sun_path)) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(at.sun_path, path, strlen(path) + 1);
  if (lstat(path, st) == 0) {
    bool socket_there = S_ISSOCK(st->st_mode);
    if (!socket_there || in_use(&at)) { /* a socket that nobody listens on is a dead server's */
      errno = socket_there ? EADDRINUSE : EEXIST;
      return -1;
    }
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  (void)unlink(beside.sun_path);
  mode_t mask = umask(0077);
  int rc = bind(fd, (const struct sockaddr *)&beside, sizeof(beside));
  int saved = errno;
  (void)umask(mask);
  if (rc == 0 && (chmod(beside.sun_path, 0600) != 0 || listen(fd, BACKLOG) != 0 ||
                  lstat(beside.sun_path, st) != 0 || rename(beside.sun_path, path) != 0)) {
    saved = errno;
    rc = -1;
    (void)unlink(beside.sun_path);
  }
  if (rc != 0) {
    (void)close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

/* listen_tcp binds "host:port", which must be numbers. Returns the descriptor, or -1 and errno. */
static int listen_tcp(const char *address) {
  const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                 .ai_socktype = SOCK_STREAM};
  char host[INET6_ADDRSTRLEN + 2];
  struct addrinfo *found = NULL;
  const char *colon = strrchr(address, ':');
  size_t len = colon != NULL ? (size_t)(colon - address) : 0;
  const bool bracketed = len >= 2 && address[0] == '[' && address[len - 1] == ']';
  const char *from = bracketed ? address + 1 : address;
  len -= bracketed ? 2 : 0;
  if (colon == NULL || len == 0 || len >= sizeof(host)) {
    errno = EINVAL;
    return -1;
  }
  memcpy(host, from, len);
  host[len] = '\0';
  char *end;
  const unsigned long port = strtoul(colon + 1, &end, 10);
  if (end == colon + 1 || *end != '\0' || port > 65535 ||
      getaddrinfo(host, colon + 1, &hints, &found) != 0) {
    errno = EINVAL;
    return -1;
  }
  const int one = 1;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int rc = fd < 0 ? -1 : setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (rc == 0)
    rc = bind(fd, found->ai_addr, found->ai_addrlen);
  if (rc == 0)
    rc = listen(fd, BACKLOG);
  const int saved = errno;
  freeaddrinfo(found);
  if (rc != 0 && fd >= 0)
    (void)close(fd);
  errno = saved;
  return rc == 0 ? fd : -1;
}

/* ---- the server ---- */

static void on_handle_closed(server *s) {
  if (--s->handles > 0)
    return;
  s->api->resource_remove(&s->resource);
  free(s);
}

static void on_poll_closed(uv_handle_t *h) {
  on_handle_closed(PU_CONTAINER_OF(h, server, poll));
}

static void on_timer_closed(uv_handle_t *h) {
  on_handle_closed(PU_CONTAINER_OF(h, server, timer));
}

/* close_server ends all: running tasks are cancelled, their connections break. */
static void close_server(server *s) {
  struct MHD_Daemon *daemon = s->daemon;
  struct stat st;
  if (daemon == NULL)
    return;
  s->daemon = NULL;
  if (s->path[0] != '\0' && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
    (void)unlink(s->path);
  while (!pu_list_empty(&s->requests)) { /* MHD demands that none is suspended when it stops */
    request *r = PU_CONTAINER_OF(s->requests.next, request, link);
    r->box->ptr = NULL;
    s->api->cancel(r->task);
    answer(r);
  }
  if (!pu_list_empty(&s->feeds.feeds)) {
    pul_feed_end_all(&s->feeds);
    (void)MHD_run(daemon); /* takes those that waited up again, */
    (void)MHD_run(daemon); /* and sends their ends */
  }
  uv_close((uv_handle_t *)&s->poll, on_poll_closed);
  uv_close((uv_handle_t *)&s->timer, on_timer_closed);
  MHD_stop_daemon(daemon);
}

/* release runs protected: (server) as light userdata; closes the box and lets the collector have
 * it. */
static int release(lua_State *L) {
  server *s = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->self);
  if (lua_isuserdata(L, -1))
    ((pul_box *)lua_touserdata(L, -1))->ptr = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, s->self);
  luaL_unref(L, LUA_REGISTRYINDEX, s->handler);
  s->self = s->handler = LUA_NOREF;
  return 0;
}

static void close_resource(pul_resource *resource) {
  server *s = PU_CONTAINER_OF(resource, server, resource);
  if (s->daemon == NULL)
    return;
  (void)s->api->call(s->rt, release, s, "closing an HTTP server failed");
  close_server(s);
}

static int server_close(lua_State *L) {
  pul_box *box = pul_box_check(L, 1, SERVER_CLASS);
  server *s = box->ptr;
  box->ptr = NULL;
  if (s != NULL)
    close_resource(&s->resource);
  return 0;
}

/* server_address: "host:port" of a TCP server as it is bound, the path of another. */
static int server_address(lua_State *L) {
  const pul_box *box = pul_box_check(L, 1, SERVER_CLASS);
  const server *s = box->ptr;
  struct sockaddr_storage at;
  socklen_t len = sizeof(at);
  char host[INET6_ADDRSTRLEN], port[8];
  if (s == NULL)
    return pul_error_closed(L, "server");
  if (s->path[0] != '\0') {
    lua_pushstring(L, s->path);
    return 1;
  }
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_LISTEN_FD);
  if (info == NULL || getsockname(info->listen_fd, (struct sockaddr *)&at, &len) != 0 ||
      getnameinfo((const struct sockaddr *)&at, len, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return pul_error_return_errno(L, errno, "find the address of", "the server");
  (void)lua_pushfstring(L, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
  return 1;
}

static lua_Integer option(lua_State *L, const char *name, lua_Integer low, lua_Integer high) {
  int good = 0;
  lua_getfield(L, 1, name);
  double value = lua_tonumberx(L, -1, &good);
  lua_pop(L, 1);
  if (!good || !(value >= (double)low && value <= (double)high))
    luaL_error(L, "http options: '%s' must be a number from %d to %d", name, (int)low, (int)high);
  return (lua_Integer)value;
}

static struct MHD_Daemon *start_daemon(server *s, int fd, unsigned conns, unsigned timeout_s) {
  return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s,
                          MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, conns,
                          MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_MAX_BYTES,
                          MHD_OPTION_CONNECTION_TIMEOUT, timeout_s, MHD_OPTION_NOTIFY_COMPLETED,
                          on_completed, NULL, MHD_OPTION_END);
}

/* serve(options, handler). The server lives until it is closed, whether its object is kept or not.
 */
static int http_serve(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  const pul_api *api = lua_touserdata(L, lua_upvalueindex(1));
  lua_Integer max_body = option(L, "max_body", 0, MAX_BODY_BYTES);
  lua_Integer conns = option(L, "max_conns", 1, MAX_CONNS);
  lua_Integer timeout_s = option(L, "timeout", 1, MAX_TIMEOUT_S);
  size_t path_len;
  const bool tcp = lua_getfield(L, 1, "address") != LUA_TNIL; // [options, handler, address]
  if (!tcp) {
    lua_pop(L, 1);
    lua_getfield(L, 1, "path"); // [options, handler, path]
  }
  const char *path = luaL_checklstring(L, 3, &path_len);
  pul_box *box = pul_box_new(L, SERVER_CLASS, sizeof(*box), 0); // [options, handler, path, box]
  lua_pushvalue(L, 4);
  int self = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 2);
  int handler = luaL_ref(L, LUA_REGISTRYINDEX);

  struct stat st = {0};
  int fd = -1, saved = ENOMEM;
  server *s = calloc(1, sizeof(*s));
  if (s != NULL && tcp) {
    fd = listen_tcp(path);
    saved = errno;
  } else if (s != NULL && path_len >= sizeof(s->path)) {
    saved = ENAMETOOLONG;
  } else if (s != NULL) {
    fd = listen_at(path, &st);
    saved = errno;
  }
  if (fd >= 0) {
    s->daemon = start_daemon(s, fd, (unsigned)conns, (unsigned)timeout_s);
    saved = ENOMEM;
  }
  if (fd < 0 || s->daemon == NULL) {
    if (fd >= 0) {
      if (!tcp)
        (void)unlink(path);
      (void)close(fd);
    }
    free(s);
    luaL_unref(L, LUA_REGISTRYINDEX, self);
    luaL_unref(L, LUA_REGISTRYINDEX, handler);
    return pul_error_return_errno(L, saved, "listen at", path);
  }
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  s->api = api;
  s->rt = api->runtime(L);
  s->self = self;
  s->handler = handler;
  s->max_body = (size_t)max_body;
  s->conns_max = (unsigned)conns;
  if (!tcp)
    memcpy(s->path, path, path_len + 1);
  s->dev = st.st_dev;
  s->ino = st.st_ino;
  s->handles = 2;
  s->resource.close = close_resource;
  pu_list_init(&s->requests);
  pu_list_init(&s->feeds.feeds);
  s->feeds.wake = wake_for_feed;
  (void)uv_poll_init(s->rt->loop, &s->poll, info->epoll_fd);
  (void)uv_timer_init(s->rt->loop, &s->timer);
  (void)uv_poll_start(&s->poll, UV_READABLE, on_poll);
  api->resource_add(s->rt, &s->resource);
  box->ptr = s;
  run(s);
  return 1;
}

int luaopen_peerup_http(lua_State *L) {
  static const luaL_Reg none[] = {{NULL, NULL}};
  static const luaL_Reg methods[] = {{"address", server_address}, {NULL, NULL}};
  static const pul_class servers = {SERVER_CLASS, methods, server_close, server_close,
                                    server_close};
  static const pul_class requests = {REQUEST_CLASS, none, request_closed, request_closed,
                                     request_closed};
  lua_getfield(L, LUA_REGISTRYINDEX, PUL_API_KEY);
  const pul_api *api = lua_touserdata(L, -1);
  if (api == NULL || api->version != PUL_API_VERSION)
    return luaL_error(L, "peerup.http does not fit the peerup.core that is loaded");
  pul_error_open(L);
  pul_class_open(L, &servers);
  pul_class_open(L, &requests);
  pul_feed_open_class(L);
  lua_createtable(L, 0, 2); // [api, http]
  lua_pushlightuserdata(L, (void *)(uintptr_t)api);
  lua_pushcclosure(L, http_serve, 1);
  lua_setfield(L, -2, "serve");
  lua_pushcfunction(L, pul_feed_new);
  lua_setfield(L, -2, "feed");
  return 1;
}
