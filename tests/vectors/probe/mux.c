/* Probe of engine/mux: frames, and a yamux session whose streams echo, only read, or hold. A
 * session is a userdata that lives until it is collected. */
#include <stdlib.h>
#include <string.h>

#include "mux/yamux.h"
#include "peerup/error.h"
#include "probe.h"

#define SESSION "peerup_probe.yamux"
#define STREAMS_MAX 8
#define ROOM 64

typedef enum manner { ECHO, READ, HOLD } manner;
static const char *const manners[] = {"echo", "read", "hold", NULL};

typedef struct session session;
typedef struct stream {
  session *owner;
  pu_yamux_stream *s; /* NULL: gone */
  size_t got;         /* bytes taken */
  bool eof;
} stream;

struct session {
  pu_mem mem;
  pu_yamux *y;
  manner manner;
  uint8_t *out; /* what it sent since the last look */
  size_t out_len;
  stream streams[STREAMS_MAX];
  size_t stream_count;
};

static session *check_session(lua_State *L) {
  return luaL_checkudata(L, 1, SESSION);
}

static stream *check_stream(lua_State *L, int arg) {
  session *s = check_session(L);
  lua_Integer id = luaL_checkinteger(L, arg);
  for (size_t i = 0; i < s->stream_count; i++)
    if (s->streams[i].s != NULL && pu_yamux_stream_id(s->streams[i].s) == (uint32_t)id)
      return &s->streams[i];
  luaL_argerror(L, arg, "no such stream");
  return NULL;
}

static int on_output(void *user, pu_span *frame) {
  session *s = user;
  uint8_t *more = realloc(s->out, s->out_len + frame->len);
  if (more == NULL)
    return PU_E_NOMEM;
  s->out = more;
  memcpy(s->out + s->out_len, frame->data, frame->len);
  s->out_len += frame->len;
  return 0;
}

static int on_stream(void *user, pu_yamux_stream *fresh, uint32_t *code) {
  session *s = user;
  (void)code;
  if (s->stream_count == STREAMS_MAX)
    return PU_E_LIMIT;
  stream *st = &s->streams[s->stream_count++];
  *st = (stream){.owner = s, .s = fresh};
  pu_yamux_stream_set_user(fresh, st);
  return 0;
}

static size_t on_data(void *user, pu_span data) {
  stream *st = user;
  size_t n = st->owner->manner == HOLD ? 0 : data.len;
  if (st->owner->manner == ECHO) {
    ssize_t sent = pu_yamux_stream_write(st->s, data);
    n = sent < 0 ? 0 : (size_t)sent;
  }
  st->got += n;
  return n;
}

static void close_stream(stream *st) {
  pu_yamux_stream_close(st->s);
  st->s = NULL;
}

static void on_eof(void *user) {
  stream *st = user;
  st->eof = true;
  if (st->owner->manner == ECHO)
    close_stream(st);
}

static void on_writable(void *user) {
  stream *st = user;
  pu_yamux_stream_resume(st->s);
}

static void on_reset(void *user, int status, uint32_t code) {
  stream *st = user;
  (void)status;
  (void)code;
  st->s = NULL;
}

static const pu_yamux_callbacks callbacks = {
    .output = on_output,
    .on_stream = on_stream,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_writable = on_writable,
    .on_reset = on_reset,
};

static int result(lua_State *L, int rc) {
  if (rc < 0)
    return probe_fail(L, rc);
  lua_pushinteger(L, rc);
  return 1;
}

/* s:start() -> 0 | nil, code */
static int session_start(lua_State *L) {
  return result(L, pu_yamux_start(check_session(L)->y, 0));
}

/* s:read(bytes) -> 0 | nil, code: with room around the bytes, as a record layer leaves */
static int session_read(lua_State *L) {
  session *s = check_session(L);
  size_t len;
  const uint8_t *in = probe_bytes(L, 2, &len);
  uint8_t *copy = lua_newuserdatauv(L, len + 2 * ROOM, 0);
  memcpy(copy + ROOM, in, len);
  pu_span span = {.data = copy + ROOM, .len = len, .head = ROOM, .tail = ROOM};
  return result(L, pu_yamux_read(s->y, span, 0));
}

/* s:sent() -> what was sent since the last call */
static int session_sent(lua_State *L) {
  session *s = check_session(L);
  lua_pushlstring(L, s->out == NULL ? "" : (const char *)s->out, s->out_len);
  s->out_len = 0;
  return 1;
}

/* s:open() -> stream ID | nil, code */
static int session_open(lua_State *L) {
  session *s = check_session(L);
  luaL_argcheck(L, s->stream_count < STREAMS_MAX, 1, "too many streams");
  stream *st = &s->streams[s->stream_count];
  *st = (stream){.owner = s};
  int rc = pu_yamux_open(s->y, st, &st->s);
  if (rc != 0)
    return probe_fail(L, rc);
  s->stream_count++;
  lua_pushinteger(L, (lua_Integer)pu_yamux_stream_id(st->s));
  return 1;
}

/* s:flush(id) -> 0 | nil, code */
static int session_flush(lua_State *L) {
  return result(L, pu_yamux_stream_flush(check_stream(L, 2)->s));
}

/* s:write(id, bytes) -> bytes taken | nil, code */
static int session_write(lua_State *L) {
  stream *st = check_stream(L, 2);
  size_t len;
  const uint8_t *bytes = probe_bytes(L, 3, &len);
  uint8_t *copy = lua_newuserdatauv(L, len + ROOM, 0);
  memcpy(copy + ROOM, bytes, len);
  pu_span io = {.data = copy + ROOM, .len = len, .head = ROOM};
  return result(L, (int)pu_yamux_stream_write(st->s, io));
}

/* s:close_write(id) -> 0 | nil, code */
static int session_close_write(lua_State *L) {
  return result(L, pu_yamux_stream_close_write(check_stream(L, 2)->s));
}

/* s:close(id) */
static int session_close(lua_State *L) {
  close_stream(check_stream(L, 2));
  return 0;
}

/* s:reset(id, code) */
static int session_reset(lua_State *L) {
  stream *st = check_stream(L, 2);
  pu_yamux_stream_reset(st->s, (uint32_t)luaL_checkinteger(L, 3));
  st->s = NULL;
  return 0;
}

/* s:go_away(code) -> 0 | nil, code */
static int session_go_away(lua_State *L) {
  return result(L, pu_yamux_go_away(check_session(L)->y, (uint32_t)luaL_checkinteger(L, 2)));
}

/* s:got(n) -> bytes taken, end seen, still there: of the n-th stream there was */
static int session_got(lua_State *L) {
  const session *s = check_session(L);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_argcheck(L, n >= 1 && (size_t)n <= s->stream_count, 2, "no such stream");
  const stream *st = &s->streams[n - 1];
  lua_pushinteger(L, (lua_Integer)st->got);
  lua_pushboolean(L, st->eof);
  lua_pushboolean(L, st->s != NULL);
  return 3;
}

static int session_gc(lua_State *L) {
  session *s = check_session(L);
  pu_yamux_free(s->y);
  s->y = NULL;
  free(s->out);
  s->out = NULL;
  pu_mem_deinit(&s->mem);
  return 0;
}

static const luaL_Reg methods[] = {
    {"start", session_start},
    {"read", session_read},
    {"sent", session_sent},
    {"open", session_open},
    {"flush", session_flush},
    {"write", session_write},
    {"close_write", session_close_write},
    {"close", session_close},
    {"reset", session_reset},
    {"go_away", session_go_away},
    {"got", session_got},
    {"__gc", session_gc},
    {NULL, NULL},
};

/* yamux(client, manner, max_payload) -> session: its streams echo, only read, or hold */
static int yamux(lua_State *L) {
  bool client = lua_toboolean(L, 1);
  manner how = (manner)luaL_checkoption(L, 2, NULL, manners);
  lua_Integer max_payload = luaL_checkinteger(L, 3);
  luaL_argcheck(L, max_payload > 0, 3, "not positive");
  session *s = lua_newuserdatauv(L, sizeof(*s), 0);
  memset(s, 0, sizeof(*s));
  pu_mem_init(&s->mem, NULL, PU_MEM_UNLIMITED);
  s->manner = how;
  if (luaL_newmetatable(L, SESSION)) {
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  const pu_yamux_config config = {.mem = &s->mem,
                                  .client = client,
                                  .callbacks = &callbacks,
                                  .user = s,
                                  .max_streams_in = STREAMS_MAX,
                                  .max_payload = (size_t)max_payload};
  int rc = pu_yamux_new(&config, 0, &s->y);
  return rc != 0 ? probe_fail(L, rc) : 1;
}

static lua_Integer field(lua_State *L, const char *name, lua_Integer max) {
  (void)lua_getfield(L, 1, name);
  lua_Integer value = luaL_checkinteger(L, -1);
  luaL_argcheck(L, value >= 0 && value <= max, 1, name);
  lua_pop(L, 1);
  return value;
}

/* frame_encode { version, type, flags, stream, length } -> header */
static int frame_encode(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const pu_yamux_frame f = {.version = (uint8_t)field(L, "version", UINT8_MAX),
                            .type = (uint8_t)field(L, "type", UINT8_MAX),
                            .flags = (uint16_t)field(L, "flags", UINT16_MAX),
                            .stream = (uint32_t)field(L, "stream", UINT32_MAX),
                            .length = (uint32_t)field(L, "length", UINT32_MAX)};
  uint8_t out[PU_YAMUX_HEADER];
  pu_yamux_frame_encode(&f, out);
  lua_pushlstring(L, (const char *)out, sizeof(out));
  return 1;
}

/* frame_decode(bytes) -> { version, type, flags, stream, length }, of the first 12 bytes */
static int frame_decode(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  luaL_argcheck(L, len >= PU_YAMUX_HEADER, 1, "too short");
  pu_yamux_frame f;
  pu_yamux_frame_decode(in, &f);
  lua_createtable(L, 0, 5);
  const struct {
    const char *name;
    lua_Integer value;
  } fields[] = {{"version", f.version},
                {"type", f.type},
                {"flags", f.flags},
                {"stream", f.stream},
                {"length", f.length}};
  for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
    lua_pushinteger(L, fields[i].value);
    lua_setfield(L, -2, fields[i].name);
  }
  return 1;
}

const luaL_Reg probe_mux[] = {
    {"yamux", yamux},
    {"frame_encode", frame_encode},
    {"frame_decode", frame_decode},
    {NULL, NULL},
};
