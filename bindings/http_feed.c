/* Answers that go on: see http_feed.h. A feed is shared by its box in Lua and by MHD's response.
 * While it has nothing to send, its connection is suspended, and a client that goes away is found
 * out by the next write. */
#include "bindings/http_feed.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bindings/error.h"
#include "bindings/object.h"

#define QUEUE_MAX ((lua_Integer)16 << 20) /* the highest max_bytes */
#define BLOCK_BYTES 4096

struct pul_feed {
  pu_list link; /* in the server's, while a response is under way */
  pul_feed_server *server;
  struct MHD_Connection *conn; /* NULL: not begun, or gone */
  char *data;
  size_t start, len, cap, max;
  int owners; /* the box and the response */
  bool begun, suspended, ended, cut;
};

static void disown(pul_feed *f) {
  if (--f->owners > 0)
    return;
  free(f->data);
  free(f);
}

/* resume lets MHD ask for more. */
static void resume(pul_feed *f) {
  if (f->conn == NULL)
    return;
  if (f->suspended) {
    f->suspended = false;
    MHD_resume_connection(f->conn);
  }
  f->server->wake(f->server);
}

/* on_reader is MHD's: it copies what is queued, or has the connection wait. */
static ssize_t on_reader(void *data, uint64_t pos, char *out, size_t max) {
  (void)pos;
  pul_feed *f = data;
  if (f->cut)
    return MHD_CONTENT_READER_END_WITH_ERROR;
  if (f->len == 0 && f->ended)
    return MHD_CONTENT_READER_END_OF_STREAM;
  if (f->len == 0) {
    f->suspended = true;
    MHD_suspend_connection(f->conn);
    return 0;
  }
  const size_t n = f->len < max ? f->len : max;
  memcpy(out, f->data + f->start, n);
  f->start += n;
  f->len -= n;
  if (f->len == 0)
    f->start = 0;
  return (ssize_t)n;
}

static void on_response_gone(void *data) {
  pul_feed *f = data;
  pu_list_remove(&f->link);
  f->conn = NULL;
  f->ended = true;
  disown(f);
}

struct MHD_Response *pul_feed_response(pul_feed *f, pul_feed_server *server,
                                       struct MHD_Connection *conn) {
  if (f == NULL || f->begun)
    return NULL;
  struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES,
                                                                    on_reader, f, on_response_gone);
  if (response == NULL)
    return NULL;
  f->begun = true;
  f->owners++;
  f->server = server;
  f->conn = conn;
  pu_list_push(&server->feeds, &f->link);
  return response;
}

void pul_feed_end_all(pul_feed_server *server) {
  for (pu_list *at = server->feeds.next, *next; at != &server->feeds; at = next) {
    next = at->next;
    pul_feed *f = PU_CONTAINER_OF(at, pul_feed, link);
    f->ended = true;
    if (f->suspended) {
      f->suspended = false;
      MHD_resume_connection(f->conn);
    }
  }
}

/* cut_off breaks the connection of a client that does not read, which MHD would wait for. */
static void cut_off(pul_feed *f) {
  f->cut = true;
  if (f->conn == NULL)
    return;
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(f->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info != NULL)
    (void)shutdown(info->connect_fd, SHUT_RDWR);
  resume(f);
}

/* keep queues bytes; false when there is no room for all of them. */
static bool keep(pul_feed *f, const char *data, size_t len) {
  if (len > f->max - f->len)
    return false;
  if (f->cap - f->start - f->len < len) {
    if (f->start > 0)
      memmove(f->data, f->data + f->start, f->len);
    f->start = 0;
    if (f->cap - f->len < len) {
      size_t cap = f->cap == 0 ? BLOCK_BYTES : f->cap;
      while (cap - f->len < len)
        cap *= 2;
      char *bigger = realloc(f->data, cap);
      if (bigger == NULL)
        return false;
      f->data = bigger;
      f->cap = cap;
    }
  }
  memcpy(f->data + f->start + f->len, data, len);
  f->len += len;
  return true;
}

/* ---- in Lua ---- */

int pul_feed_new(lua_State *L) {
  const lua_Integer max = luaL_checkinteger(L, 1);
  luaL_argcheck(L, max > 0 && max <= QUEUE_MAX, 1, "1 byte to 16 MiB");
  pul_box *box = pul_box_new(L, PUL_FEED_CLASS, sizeof(*box), 0);
  pul_feed *f = calloc(1, sizeof(*f));
  if (f == NULL)
    return luaL_error(L, "out of memory");
  f->max = (size_t)max;
  f->owners = 1;
  pu_list_init(&f->link);
  box->ptr = f;
  return 1;
}

/* feed:write(bytes): true; nil, err when it has ended, its client has gone, or was just cut off for
 * being slow (code "limit"). */
static int feed_write(lua_State *L) {
  const pul_box *box = pul_box_check(L, 1, PUL_FEED_CLASS);
  pul_feed *f = box->ptr;
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  if (f == NULL || f->ended || f->cut || (f->begun && f->conn == NULL))
    return pul_error_closed(L, "feed");
  if (!keep(f, data, len)) {
    cut_off(f);
    return pul_error_return(L, PU_E_LIMIT, "the client reads too slowly");
  }
  resume(f);
  lua_pushboolean(L, 1);
  return 1;
}

static int feed_close(lua_State *L) {
  pul_box *box = pul_box_check(L, 1, PUL_FEED_CLASS);
  pul_feed *f = box->ptr;
  box->ptr = NULL;
  if (f == NULL)
    return 0;
  f->ended = true;
  resume(f);
  disown(f);
  return 0;
}

void pul_feed_open_class(lua_State *L) {
  static const luaL_Reg methods[] = {{"write", feed_write}, {NULL, NULL}};
  static const pul_class class = {PUL_FEED_CLASS, methods, feed_close, feed_close, feed_close};
  pul_class_open(L, &class);
}
