/* peerup.stream: reading and writing as calls that wait. Bytes that came before anybody read them
 * are kept up to a bound; then the engine is told to stop, and the peer's window closes. */
#include <stdio.h>
#include <string.h>

#include "bindings/error.h"
#include "bindings/host.h"

/* What is kept for a reader that does not come; the window keeps as much again. */
#define RECEIVE_MAX_BYTES ((size_t)256 << 10)
#define READ_DEFAULT_BYTES 65536
#define READ_MAX_BYTES ((size_t)1 << 20)
#define PROTOCOL_MAX_BYTES 256

typedef struct read_wait read_wait;
typedef struct write_wait write_wait;

/* Lies in its userdata: the engine refers to it only while |s| is set, and close unsets that. */
struct pul_stream {
  void *open; /* the head of every box: the stream itself, NULL when closed */
  pul_host *host;
  pu_stream *s; /* NULL when closed, or ended by the other side */
  pu_list link; /* in the host's streams while |open| */
  uint8_t *data;
  size_t start, len, cap; /* received bytes: |len| from |start| */
  bool eof, paused, write_closed;
  int status;    /* why it ended before its time */
  uint32_t code; /* of a reset */
  read_wait *reader;
  write_wait *writer;
  pu_peer_id peer;
  char protocol[PROTOCOL_MAX_BYTES];
};

struct read_wait {
  pul_wait wait;
  pul_stream *stream; /* the first value on the task's stack */
  size_t need;        /* so many bytes wake it */
  size_t max;         /* it takes so many at most */
  bool exact;         /* fewer than |need| at the end are an error */
};

struct write_wait {
  pul_wait wait;
  pul_stream *stream;
  const char *data; /* of the string at 2 on the task's stack */
  size_t len;
};

/* ---- from the engine: no Lua ---- */

static void wake_reader(pul_stream *st) {
  read_wait *r = st->reader;
  if (r != NULL && (st->len >= r->need || st->eof || st->s == NULL)) {
    st->reader = NULL;
    pul_wait_done(&r->wait);
  }
}

/* receive_limit is how many bytes may be kept now. */
static size_t receive_limit(const pul_stream *st) {
  return st->reader != NULL && st->reader->need > RECEIVE_MAX_BYTES ? st->reader->need
                                                                    : RECEIVE_MAX_BYTES;
}

/* make_room makes room for |more| bytes behind those kept. */
static bool make_room(pul_stream *st, size_t more) {
  if (st->cap - st->start - st->len >= more)
    return true;
  if (st->start > 0) {
    memmove(st->data, st->data + st->start, st->len);
    st->start = 0;
    if (st->cap - st->len >= more)
      return true;
  }
  size_t cap = st->cap == 0 ? 1024 : st->cap;
  while (cap - st->len < more)
    cap *= 2;
  uint8_t *bigger = pu_realloc(&st->host->rt->mem, st->data, cap);
  if (bigger == NULL)
    return false;
  st->data = bigger;
  st->cap = cap;
  return true;
}

static size_t on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  (void)s, (void)head, (void)tail;
  pul_stream *st = user;
  size_t limit = receive_limit(st);
  size_t take = st->len >= limit ? 0 : limit - st->len;
  if (take > len)
    take = len;
  if (take > 0 && !make_room(st, take))
    take = 0; /* short of memory: the rest waits in the window until the next read */
  if (take > 0)
    memcpy(st->data + st->start + st->len, data, take);
  st->len += take;
  st->paused = take < len;
  wake_reader(st);
  return take;
}

static void on_eof(void *user, pu_stream *s) {
  (void)s;
  pul_stream *st = user;
  st->eof = true;
  wake_reader(st);
}

static void end_writer(pul_stream *st, int status) {
  write_wait *w = st->writer;
  if (w == NULL)
    return;
  st->writer = NULL;
  w->wait.status = status;
  pul_wait_done(&w->wait);
}

/* push_bytes writes what fits; true when the writer has ended. */
static bool push_bytes(pul_stream *st) {
  write_wait *w = st->writer;
  ssize_t n = pu_stream_write(st->s, w->data, w->len);
  if (n < 0) {
    end_writer(st, (int)n);
    return true;
  }
  w->data += n;
  w->len -= (size_t)n;
  if (w->len > 0)
    return false;
  end_writer(st, 0);
  return true;
}

static void on_writable(void *user, pu_stream *s) {
  (void)s;
  pul_stream *st = user;
  if (st->writer != NULL)
    (void)push_bytes(st);
}

static void on_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)s;
  pul_stream *st = user;
  st->s = NULL;
  st->status = status;
  st->code = code;
  end_writer(st, status);
  wake_reader(st);
}

void pul_stream_attach(pul_stream *st, pul_host *h, pu_stream *s) {
  static const pu_stream_events events = {
      .on_data = on_data, .on_eof = on_eof, .on_writable = on_writable, .on_end = on_end};
  st->open = st;
  st->host = h;
  st->s = s;
  pu_list_init(&st->link);
  pu_list_push(&h->streams, &st->link);
  st->peer = *pu_conn_peer(pu_stream_conn(s));
  (void)snprintf(st->protocol, sizeof(st->protocol), "%s", pu_stream_protocol(s));
  pu_stream_set_events(s, &events, st);
}

/* ---- closing ---- */

/* detach closes the box and wakes who waits; returns the engine's stream if it still stands. */
static pu_stream *detach(pul_stream *st) {
  pu_stream *s = st->s;
  st->open = NULL;
  st->s = NULL;
  pu_list_remove(&st->link);
  pu_free(st->data);
  st->data = NULL;
  st->start = st->len = st->cap = 0;
  end_writer(st, PU_E_CLOSED);
  wake_reader(st);
  return s;
}

void pul_stream_close_all(pul_host *h) {
  while (!pu_list_empty(&h->streams)) {
    pu_stream *s = detach(PU_CONTAINER_OF(h->streams.next, pul_stream, link));
    if (s != NULL)
      pu_stream_reset(s, 0);
  }
}

static pul_stream *check_stream(lua_State *L) {
  return pul_box_check(L, 1, PUL_STREAM_CLASS);
}

static int stream_close(lua_State *L) {
  pul_stream *st = check_stream(L);
  if (st->open == NULL)
    return 0;
  pul_check_outside(L, st->host->rt);
  pu_stream *s = detach(st);
  if (s != NULL)
    pu_stream_close(s);
  return 0;
}

static int stream_reset(lua_State *L) {
  pul_stream *st = check_stream(L);
  lua_Integer code = luaL_optinteger(L, 2, 0);
  luaL_argcheck(L, code >= 0 && code <= UINT32_MAX, 2, "no stream code");
  if (st->open == NULL)
    return 0;
  pul_check_outside(L, st->host->rt);
  pu_stream *s = detach(st);
  if (s != NULL)
    pu_stream_reset(s, (uint32_t)code);
  return 0;
}

/* stream_scope_end closes gracefully, but resets after an error: the other side must not take half
 * an answer for a whole one. */
static int stream_scope_end(lua_State *L) {
  bool failed = !lua_isnoneornil(L, 2);
  lua_settop(L, 1);
  return failed ? stream_reset(L) : stream_close(L);
}

static int stream_discard(lua_State *L) {
  pul_stream *st = check_stream(L);
  if (st->open == NULL)
    return 0;
  pu_stream *s = detach(st);
  if (s != NULL)
    pu_stream_reset(s, 0);
  return 0;
}

/* ---- reading ---- */

/* ended pushes nil and why the stream has no more bytes; nothing after nil at its proper end. */
static int ended(lua_State *L, const pul_stream *st) {
  if (st->open == NULL)
    return pul_error_closed(L, "stream");
  if (st->status != 0 && st->status != PU_E_EOF && !st->eof) {
    if (st->code == 0)
      return pul_error_return(L, st->status, NULL);
    lua_pushfstring(L, "stream code %d", (int)st->code);
    return pul_error_return(L, st->status, lua_tostring(L, -1));
  }
  lua_pushnil(L);
  return 1;
}

/* take pushes |n| bytes and lets the engine deliver again when there is room. */
static int take(lua_State *L, pul_stream *st, size_t n) {
  lua_pushlstring(L, (const char *)st->data + st->start, n);
  st->len -= n;
  st->start = st->len == 0 ? 0 : st->start + n;
  if (st->paused && st->s != NULL && st->len <= RECEIVE_MAX_BYTES / 2) {
    st->paused = false;
    pu_stream_resume(st->s);
  }
  return 1;
}

/* have_read pushes what a read that needs |need| bytes gets now, or returns 0 when it must wait. */
static int have_read(lua_State *L, pul_stream *st, size_t need, size_t max, bool exact) {
  if (st->len >= need && st->open != NULL)
    return take(L, st, st->len < max ? st->len : max);
  if (st->open != NULL && st->s != NULL && !st->eof)
    return 0;
  if (st->open != NULL && (st->status == 0 || st->status == PU_E_EOF || st->eof) && exact) {
    lua_pushfstring(L, "after %d of %d bytes", (int)st->len, (int)need);
    return pul_error_return(L, PU_E_EOF, lua_tostring(L, -1));
  }
  return ended(L, st);
}

static void read_cancel(pul_wait *w, int status) {
  read_wait *r = (read_wait *)w;
  r->stream->reader = NULL;
  w->status = status;
  pul_wait_done(w);
}

static int read_finish(lua_State *L, pul_wait *w) {
  const read_wait *r = (const read_wait *)w;
  if (w->status != 0)
    return pul_error_return(L, w->status,
                            w->status == PU_E_TIMEOUT ? "no answer on the stream" : "");
  int results = have_read(L, r->stream, r->need, r->max, r->exact);
  return results != 0 ? results : pul_error_return(L, PU_E_IO, NULL);
}

static int read_some(lua_State *L, size_t need, size_t max, bool exact) {
  static const pul_wait_ops ops = {read_cancel, read_finish};
  pul_stream *st = check_stream(L);
  double timeout_s = pul_check_timeout(L, 3);
  if (st->open != NULL)
    pul_check_outside(L, st->host->rt);
  if (st->reader != NULL)
    return luaL_error(L, "another task reads from this stream");
  int results = have_read(L, st, need, max, exact);
  if (results != 0)
    return results;
  lua_settop(L, 1);
  read_wait *r = pul_wait_new(L, sizeof(*r), 0, &ops); // [stream, wait]
  r->stream = st;
  r->need = need;
  r->max = max;
  r->exact = exact;
  st->reader = r;
  if (st->paused) { /* there is room for more now, or there was no memory before */
    st->paused = false;
    pu_stream_resume(st->s);
  }
  return pul_wait_suspend(L, &r->wait, timeout_s);
}

static int stream_read(lua_State *L) {
  lua_Integer max = luaL_optinteger(L, 2, READ_DEFAULT_BYTES);
  luaL_argcheck(L, max > 0 && max <= (lua_Integer)READ_MAX_BYTES, 2, "1 byte to 1 MiB");
  return read_some(L, 1, (size_t)max, false);
}

static int stream_read_exactly(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_argcheck(L, n >= 0 && n <= (lua_Integer)READ_MAX_BYTES, 2, "at most 1 MiB");
  if (n == 0 && check_stream(L)->open != NULL) {
    lua_pushliteral(L, "");
    return 1;
  }
  return read_some(L, (size_t)n, (size_t)n, true);
}

/* ---- writing ---- */

static void write_cancel(pul_wait *w, int status) {
  write_wait *ww = (write_wait *)w;
  ww->stream->writer = NULL;
  w->status = status;
  pul_wait_done(w);
}

static int write_finish(lua_State *L, pul_wait *w) {
  const write_wait *ww = (const write_wait *)w;
  if (w->status == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  if (ww->stream->open == NULL)
    return pul_error_closed(L, "stream");
  return pul_error_return(L, w->status,
                          w->status == PU_E_TIMEOUT ? "the other side takes no bytes" : "");
}

static int stream_write(lua_State *L) {
  static const pul_wait_ops ops = {write_cancel, write_finish};
  pul_stream *st = check_stream(L);
  size_t len;
  const char *data = luaL_checklstring(L, 2, &len);
  double timeout_s = pul_check_timeout(L, 3);
  if (st->writer != NULL)
    return luaL_error(L, "another task writes to this stream");
  if (st->open == NULL)
    return pul_error_closed(L, "stream");
  pul_check_outside(L, st->host->rt);
  if (st->write_closed)
    return pul_error_return(L, PU_E_CLOSED, "this side of the stream");
  if (st->s == NULL)
    return ended(L, st);
  ssize_t n = len == 0 ? 0 : pu_stream_write(st->s, data, len);
  if (n < 0)
    return pul_error_return(L, (int)n, NULL);
  if ((size_t)n == len) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_settop(L, 2);
  write_wait *w = pul_wait_new(L, sizeof(*w), 0, &ops); // [stream, bytes, wait]
  w->stream = st;
  w->data = data + n;
  w->len = len - (size_t)n;
  st->writer = w;
  return pul_wait_suspend(L, &w->wait, timeout_s);
}

static int stream_close_write(lua_State *L) {
  pul_stream *st = check_stream(L);
  if (st->writer != NULL)
    return luaL_error(L, "another task writes to this stream");
  if (st->open == NULL)
    return pul_error_closed(L, "stream");
  pul_check_outside(L, st->host->rt);
  if (st->s == NULL)
    return ended(L, st);
  int rc = st->write_closed ? 0 : pu_stream_close_write(st->s);
  if (rc != 0)
    return pul_error_return(L, rc, NULL);
  st->write_closed = true;
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- handing it over ---- */

pu_stream *pul_stream_idle(lua_State *L) {
  const pul_stream *st = check_stream(L);
  if (st->reader != NULL || st->writer != NULL)
    luaL_error(L, "another task uses this stream");
  if (st->open != NULL)
    pul_check_outside(L, st->host->rt);
  return st->s;
}

int pul_stream_ended(lua_State *L) {
  return ended(L, check_stream(L));
}

pu_stream *pul_stream_release(lua_State *L, uint8_t **data, size_t *len, bool *eof) {
  pul_stream *st = check_stream(L);
  if (st->start > 0)
    memmove(st->data, st->data + st->start, st->len);
  *data = st->data;
  *len = st->len;
  *eof = st->eof;
  st->data = NULL;
  return detach(st);
}

/* ---- the rest ---- */

static int stream_peer(lua_State *L) {
  const pul_stream *st = check_stream(L);
  pul_host_push_peer(L, &st->peer); /* known for as long as the object lives */
  return 1;
}

static int stream_protocol(lua_State *L) {
  lua_pushstring(L, check_stream(L)->protocol);
  return 1;
}

static int stream_conn(lua_State *L) {
  const pul_stream *st = check_stream(L);
  pu_conn_info info;
  if (st->open == NULL)
    return pul_error_closed(L, "stream");
  if (st->s == NULL)
    return pul_error_return(L, PU_E_GONE, NULL);
  pul_check_outside(L, st->host->rt);
  pu_conn_info_get(pu_stream_conn(st->s), &info);
  pul_host_push_conn_info(L, &info);
  return 1;
}

pul_stream *pul_stream_new(lua_State *L) {
  return pul_box_new(L, PUL_STREAM_CLASS, sizeof(pul_stream), 0);
}

static int served(lua_State *L, int status, lua_KContext context) {
  (void)L, (void)status, (void)context;
  return 0; /* and the stream closes: it was marked */
}

int pul_stream_serve(lua_State *L) {
  lua_toclose(L, 2); // [fn, stream]: closed when this ends, reset if it fails
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_callk(L, 1, 0, 0, served);
  return served(L, LUA_OK, 0);
}

void pul_stream_open_class(lua_State *L) {
  static const luaL_Reg methods[] = {{"read", stream_read},
                                     {"read_exactly", stream_read_exactly},
                                     {"write", stream_write},
                                     {"close_write", stream_close_write},
                                     {"reset", stream_reset},
                                     {"pipe", pul_stream_pipe},
                                     {"peer", stream_peer},
                                     {"protocol", stream_protocol},
                                     {"conn", stream_conn},
                                     {NULL, NULL}};
  static const pul_class class = {PUL_STREAM_CLASS, methods, stream_close, stream_scope_end,
                                  stream_discard};
  pul_class_open(L, &class);
}
