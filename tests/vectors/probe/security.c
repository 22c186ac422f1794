/* Probe of engine/security: Noise sessions with given keys, payloads, and TLS certificates. A
 * session is a userdata that lives until it is collected. */
#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"
#include "probe.h"
#include "security/noise_priv.h"
#include "security/tls_identity.h"

#define SESSION "peerup_probe.noise"

typedef struct session {
  pu_mem mem;
  pu_key *key;
  pu_security *noise;
  size_t muxer_count;
  char muxers[PU_SECURITY_MUXERS_MAX][PU_SECURITY_MUXER_NAME_MAX];
  const char *names[PU_SECURITY_MUXERS_MAX];
} session;

static session *check_session(lua_State *L) {
  return luaL_checkudata(L, 1, SESSION);
}

static const uint8_t *check_key(lua_State *L, int arg) {
  size_t len;
  const uint8_t *key = probe_bytes(L, arg, &len);
  luaL_argcheck(L, len == 32, arg, "not 32 bytes");
  return key;
}

static void no_random(void *data, void *out, size_t len) {
  (void)data;
  memset(out, 1, len); /* replaced by the given keys */
}

static void read_muxers(lua_State *L, int arg, session *s) {
  luaL_checktype(L, arg, LUA_TTABLE);
  s->muxer_count = (size_t)lua_rawlen(L, arg);
  luaL_argcheck(L, s->muxer_count <= PU_SECURITY_MUXERS_MAX, arg, "too many names");
  for (size_t i = 0; i < s->muxer_count; i++) {
    size_t len;
    luaL_argcheck(L, lua_rawgeti(L, arg, (lua_Integer)i + 1) == LUA_TSTRING, arg, "not a name");
    const char *name = lua_tolstring(L, -1, &len);
    luaL_argcheck(L, len < PU_SECURITY_MUXER_NAME_MAX, arg, "too long a name");
    memcpy(s->muxers[i], name, len + 1);
    s->names[i] = s->muxers[i];
    lua_pop(L, 1);
  }
}

/* noise(initiator, key protobuf, muxers, static private, ephemeral private, payload | nil) */
static int noise_new(lua_State *L) {
  size_t key_len, payload_len = 0;
  const uint8_t *key = probe_bytes(L, 2, &key_len);
  const uint8_t *static_private = check_key(L, 4);
  const uint8_t *ephemeral_private = check_key(L, 5);
  const uint8_t *payload = lua_isnil(L, 6) ? NULL : probe_bytes(L, 6, &payload_len);
  session *s = lua_newuserdatauv(L, sizeof(*s), 0);
  memset(s, 0, sizeof(*s));
  pu_mem_init(&s->mem, NULL, PU_MEM_UNLIMITED);
  luaL_setmetatable(L, SESSION);
  read_muxers(L, 3, s);
  int rc = pu_key_parse(key, key_len, &s->key);
  if (rc != 0)
    return probe_fail(L, rc);
  const pu_security_config config = {.mem = &s->mem,
                                     .initiator = lua_toboolean(L, 1),
                                     .key = s->key,
                                     .muxers = s->names,
                                     .muxer_count = s->muxer_count,
                                     .random = no_random};
  rc = pu_noise_ops.start(&config, &s->noise);
  if (rc == 0)
    rc = pu_noise_set_keys(s->noise, static_private, ephemeral_private, payload, payload_len);
  return rc != 0 ? probe_fail(L, rc) : 1;
}

static int session_gc(lua_State *L) {
  session *s = check_session(L);
  pu_noise_ops.free(s->noise);
  s->noise = NULL;
  pu_key_free(s->key);
  s->key = NULL;
  pu_mem_deinit(&s->mem);
  return 0;
}

/* s:write() -> bytes | nil, code */
static int session_write(lua_State *L) {
  uint8_t out[PU_NOISE_LENGTH + PU_NOISE_MAX_HANDSHAKE];
  ssize_t n = pu_noise_ops.write(check_session(L)->noise, out, sizeof(out));
  if (n < 0)
    return probe_fail(L, (int)n);
  lua_pushlstring(L, (const char *)out, (size_t)n);
  return 1;
}

/* s:read(bytes) -> used | nil, code */
static int session_read(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 2, &len);
  ssize_t n = pu_noise_ops.read(check_session(L)->noise, in, len);
  if (n < 0)
    return probe_fail(L, (int)n);
  lua_pushinteger(L, (lua_Integer)n);
  return 1;
}

/* s:result() -> peer ID, muxer, handshake hash, sending key, receiving key | nothing */
static int session_result(lua_State *L) {
  const session *s = check_session(L);
  const pu_security_result *r = pu_noise_ops.result(s->noise);
  if (r == NULL)
    return 0;
  char text[PU_PEER_ID_MAX_TEXT];
  uint8_t hash[32], send[32], receive[32];
  pu_noise_handshake_hash(s->noise, hash);
  pu_noise_keys(s->noise, send, receive);
  lua_pushstring(L, pu_peer_id_text(&r->peer, text));
  lua_pushstring(L, r->muxer);
  lua_pushlstring(L, (const char *)hash, sizeof(hash));
  lua_pushlstring(L, (const char *)send, sizeof(send));
  lua_pushlstring(L, (const char *)receive, sizeof(receive));
  return 5;
}

/* s:seal(plaintext) -> record | nil, code */
static int session_seal(lua_State *L) {
  size_t len;
  const uint8_t *text = probe_bytes(L, 2, &len);
  session *s = check_session(L);
  luaL_argcheck(L, len <= PU_NOISE_MAX_PLAIN, 2, "too long");
  luaL_argcheck(L, pu_noise_ops.result(s->noise) != NULL, 1, "handshake not finished");
  uint8_t buf[PU_NOISE_LENGTH + PU_NOISE_MAX_MESSAGE];
  memcpy(buf + PU_NOISE_LENGTH, text, len);
  pu_span io = {
      .data = buf + PU_NOISE_LENGTH, .len = len, .head = PU_NOISE_LENGTH, .tail = PU_NOISE_TAG};
  int rc = pu_noise_ops.seal(s->noise, &io);
  if (rc != 0)
    return probe_fail(L, rc);
  lua_pushlstring(L, (const char *)io.data, io.len);
  return 1;
}

/* s:open(record) -> plaintext, used | nil, code */
static int session_open(lua_State *L) {
  size_t len;
  const uint8_t *record = probe_bytes(L, 2, &len);
  session *s = check_session(L);
  uint8_t buf[PU_NOISE_LENGTH + PU_NOISE_MAX_MESSAGE];
  luaL_argcheck(L, len <= sizeof(buf), 2, "too long");
  luaL_argcheck(L, pu_noise_ops.result(s->noise) != NULL, 1, "handshake not finished");
  memcpy(buf, record, len);
  pu_span plain = {0};
  ssize_t used = pu_noise_ops.open(s->noise, buf, len, &plain);
  if (used <= 0)
    return probe_fail(L, used < 0 ? (int)used : PU_E_AGAIN);
  lua_pushlstring(L, (const char *)plain.data, plain.len);
  lua_pushinteger(L, (lua_Integer)used);
  return 2;
}

/* noise_payload(payload, static public, our muxers) -> peer ID, muxers used, muxer chosen as the
 * responder | nil, code */
static int noise_payload(lua_State *L) {
  size_t len, used = 0;
  const uint8_t *payload = probe_bytes(L, 1, &len);
  const uint8_t *static_public = check_key(L, 2);
  session ours = {0}; /* only its muxers */
  read_muxers(L, 3, &ours);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  const pu_noise_local local = {.muxers = ours.names, .muxer_count = ours.muxer_count};
  pu_security_result r;
  int rc = pu_noise_payload_read(&mem, &local, payload, len, static_public, &r, &used);
  pu_mem_deinit(&mem);
  if (rc != 0)
    return probe_fail(L, rc);
  char text[PU_PEER_ID_MAX_TEXT];
  lua_pushstring(L, pu_peer_id_text(&r.peer, text));
  lua_pushinteger(L, (lua_Integer)used);
  lua_pushstring(L, r.muxer);
  return 3;
}

/* tls_certificate(now in unix seconds, expected peer or nil, certificate...) -> peer ID, key
 * protobuf | nil, code. Several certificates are what a peer showed. */
static int tls_certificate(lua_State *L) {
  size_t len;
  const uint8_t *der = probe_bytes(L, 3, &len);
  pu_peer_id expected = {0};
  if (!lua_isnil(L, 2)) {
    const char *text = luaL_checkstring(L, 2);
    luaL_argcheck(L, pu_peer_id_from_text(text, strlen(text), &expected) == 0, 2, "not a peer ID");
  }
  pu_public_key key;
  pu_peer_id peer;
  const char *why = NULL;
  int rc =
      pu_tls_check_certificate(NULL, der, len, (size_t)lua_gettop(L) - 2,
                               (uint64_t)luaL_checkinteger(L, 1), &expected, &key, &peer, &why);
  PU_ASSERT(why != NULL);
  if (rc != 0)
    return probe_fail(L, rc);
  char text[PU_PEER_ID_MAX_TEXT];
  lua_pushstring(L, pu_peer_id_text(&peer, text));
  lua_pushlstring(L, (const char *)key.protobuf, key.len);
  return 2;
}

static const luaL_Reg methods[] = {
    {"write", session_write},
    {"read", session_read},
    {"result", session_result},
    {"seal", session_seal},
    {"open", session_open},
    {"__gc", session_gc},
    {NULL, NULL},
};

static int noise(lua_State *L) {
  if (luaL_newmetatable(L, SESSION)) {
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_pop(L, 1);
  lua_settop(L, 6);
  return noise_new(L);
}

const luaL_Reg probe_security[] = {
    {"noise", noise},
    {"noise_payload", noise_payload},
    {"tls_certificate", tls_certificate},
    {NULL, NULL},
};
