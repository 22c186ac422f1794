/* core.identity and core.peer_id: keys as PrivateKey protobufs, peer IDs as text. */
#include <lauxlib.h>
#include <sodium.h>

#include "bindings/core.h"
#include "bindings/error.h"
#include "bindings/fs.h"
#include "identity/key.h"
#include "identity/keyfile.h"
#include "identity/peer_id.h"

#define PROTOBUF_BYTES 68

/* push_protobuf pushes the key's protobuf and frees the key. */
static void push_protobuf(lua_State *L, pu_key *key) {
  uint8_t bytes[PROTOBUF_BYTES];
  pu_key_protobuf(key, bytes);
  pu_key_free(key);
  lua_pushlstring(L, (const char *)bytes, sizeof(bytes));
  sodium_memzero(bytes, sizeof(bytes));
}

/* parse_key reads a protobuf argument: 0 and the key, which the caller frees, or a negative code.
 */
static int parse_key(lua_State *L, int arg, pu_key **out) {
  size_t len;
  const char *bytes = luaL_checklstring(L, arg, &len);
  return pu_key_parse((const uint8_t *)bytes, len, out);
}

static int identity_generate(lua_State *L) {
  pu_key *key;
  int rc = pu_key_generate(&key);
  if (rc != 0)
    return luaL_error(L, "cannot make a key: %s", pu_error_sentence(rc));
  push_protobuf(L, key);
  return 1;
}

static int identity_peer_id(lua_State *L) {
  pu_key *key;
  int rc = parse_key(L, 1, &key);
  if (rc != 0)
    return pul_error_return(L, rc, "this is no Ed25519 private key");
  pu_peer_id id = *pu_key_peer_id(key);
  pu_key_free(key);
  char text[PU_PEER_ID_MAX_TEXT];
  lua_pushstring(L, pu_peer_id_text(&id, text));
  return 1;
}

static int identity_load(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  pu_error err = {0};
  pu_key *key;
  int rc = pu_keyfile_load(path, &key, &err);
  if (rc != 0)
    return pul_error_return_full(L, rc, &err);
  push_protobuf(L, key);
  return 1;
}

static int identity_save(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  pu_error err = {0};
  pu_key *key;
  int rc = parse_key(L, 2, &key);
  if (rc != 0)
    return pul_error_return(L, rc, "this is no Ed25519 private key");
  sigset_t held;
  pul_signals_hold(&held);
  rc = pu_keyfile_save(path, key, &err);
  pul_signals_release(&held);
  pu_key_free(key);
  if (rc != 0)
    return pul_error_return_full(L, rc, &err);
  lua_pushboolean(L, 1);
  return 1;
}

void pul_identity_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"generate", identity_generate},
                                       {"peer_id", identity_peer_id},
                                       {"load", identity_load},
                                       {"save", identity_save},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
}

/* ---- core.peer_id ---- */

/* parse_text reads a peer ID argument; on failure pushes nil, err and returns their count. */
static int parse_text(lua_State *L, int arg, pu_peer_id *out) {
  size_t len;
  const char *text = luaL_checklstring(L, arg, &len);
  int rc = pu_peer_id_from_text(text, len, out);
  if (rc == 0)
    return 0;
  lua_pushfstring(L, "'%s' is no peer ID", text);
  return pul_error_return(L, rc, lua_tostring(L, -1));
}

static int push_text(lua_State *L, const pu_peer_id *id) {
  char text[PU_PEER_ID_MAX_TEXT];
  lua_pushstring(L, pu_peer_id_text(id, text));
  return 1;
}

static int peer_id_parse(lua_State *L) {
  pu_peer_id id;
  int failed = parse_text(L, 1, &id);
  return failed != 0 ? failed : push_text(L, &id);
}

static int peer_id_to_bytes(lua_State *L) {
  pu_peer_id id;
  int failed = parse_text(L, 1, &id);
  if (failed != 0)
    return failed;
  lua_pushlstring(L, (const char *)id.bytes, id.len);
  return 1;
}

static int peer_id_from_bytes(lua_State *L) {
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  pu_peer_id id;
  int rc = pu_peer_id_from_bytes((const uint8_t *)bytes, len, &id);
  if (rc != 0)
    return pul_error_return(L, rc, "these bytes are no peer ID");
  return push_text(L, &id);
}

void pul_peer_id_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"parse", peer_id_parse},
                                       {"to_bytes", peer_id_to_bytes},
                                       {"from_bytes", peer_id_from_bytes},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
}
