/* Probe of engine/identity: peer IDs, keys, envelopes. Bytes are Lua strings, 64-bit numbers
 * decimal strings. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/multibase.h"
#include "identity/envelope.h"
#include "identity/key.h"
#include "peerup/error.h"
#include "probe.h"

static void push_id(lua_State *L, const pu_peer_id *id) {
  lua_pushlstring(L, (const char *)id->bytes, id->len);
}

static int push_id_text(lua_State *L, const pu_peer_id *id) {
  char text[PU_PEER_ID_MAX_TEXT];
  lua_pushstring(L, pu_peer_id_text(id, text));
  return 1;
}

static void check_id(lua_State *L, int arg, pu_peer_id *id) {
  size_t len;
  const char *text = luaL_checklstring(L, arg, &len);
  luaL_argcheck(L, pu_peer_id_from_text(text, len, id) == 0, arg, "not a peer ID");
}

/* id_from_text(text) -> bytes | nil, code */
static int id_from_text(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  pu_peer_id id;
  int rc = pu_peer_id_from_text(text, len, &id);
  if (rc != 0)
    return probe_fail(L, rc);
  push_id(L, &id);
  return 1;
}

/* id_from_bytes(bytes) -> text | nil, code */
static int id_from_bytes(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_peer_id id;
  int rc = pu_peer_id_from_bytes(in, len, &id);
  return rc != 0 ? probe_fail(L, rc) : push_id_text(L, &id);
}

/* id_cid_base32(bytes) -> the peer ID as a CID in base32 */
static int id_cid_base32(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  uint8_t cid[2 + PU_PEER_ID_MAX_BYTES] = {0x01, 0x72};
  char text[1 + (sizeof(cid) * 8 + 4) / 5 + 1] = "b";
  luaL_argcheck(L, len <= PU_PEER_ID_MAX_BYTES, 1, "too long");
  memcpy(cid + 2, in, len);
  ssize_t n = pu_base32_encode(cid, 2 + len, false, text + 1, sizeof(text) - 1);
  if (n < 0)
    return probe_fail(L, (int)n);
  lua_pushstring(L, text);
  return 1;
}

/* public_key_parse(protobuf) -> canonical protobuf, key type, peer ID text, data | nil, code */
static int public_key_parse(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_public_key key;
  int rc = pu_public_key_parse(in, len, &key);
  if (rc != 0)
    return probe_fail(L, rc);
  pu_peer_id id;
  pu_public_key_peer_id(&key, &id);
  lua_pushlstring(L, (const char *)key.protobuf, key.len);
  lua_pushinteger(L, (lua_Integer)key.type);
  (void)push_id_text(L, &id);
  lua_pushlstring(L, (const char *)key.protobuf + key.len - key.data_len, key.data_len);
  return 4;
}

/* verify(public key protobuf, message, signature) -> true | nil, code */
static int verify(lua_State *L) {
  size_t len, msg_len, sig_len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  const uint8_t *msg = probe_bytes(L, 2, &msg_len);
  const uint8_t *sig = probe_bytes(L, 3, &sig_len);
  pu_public_key key;
  int rc = pu_public_key_parse(in, len, &key);
  if (rc == 0)
    rc = pu_public_key_verify(&key, msg, msg_len, sig, sig_len);
  if (rc != 0)
    return probe_fail(L, rc);
  lua_pushboolean(L, true);
  return 1;
}

static int push_key(lua_State *L, int rc, pu_key *key) {
  if (rc != 0)
    return probe_fail(L, rc);
  uint8_t protobuf[68];
  pu_key_protobuf(key, protobuf);
  const pu_public_key *pub = pu_key_public(key);
  lua_pushlstring(L, (const char *)protobuf, sizeof(protobuf));
  lua_pushlstring(L, (const char *)pub->protobuf, pub->len);
  (void)push_id_text(L, pu_key_peer_id(key));
  pu_key_free(key);
  return 3;
}

/* key_from_seed(seed), key_parse(private key protobuf) -> private key protobuf, public key
 * protobuf, peer ID text | nil, code */
static int key_from_seed(lua_State *L) {
  size_t len;
  const uint8_t *seed = probe_bytes(L, 1, &len);
  luaL_argcheck(L, len == 32, 1, "32 bytes");
  pu_key *key = NULL;
  int rc = pu_key_from_seed(seed, &key);
  return push_key(L, rc, key);
}

static int key_parse(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_key *key = NULL;
  int rc = pu_key_parse(in, len, &key);
  return push_key(L, rc, key);
}

static pu_key *check_key(lua_State *L, int arg) {
  size_t len;
  const uint8_t *in = probe_bytes(L, arg, &len);
  pu_key *key = NULL;
  luaL_argcheck(L, pu_key_parse(in, len, &key) == 0, arg, "not an Ed25519 private key");
  return key;
}

/* sign(private key protobuf, message) -> signature */
static int sign(lua_State *L) {
  size_t len;
  const uint8_t *msg = probe_bytes(L, 2, &len);
  pu_key *key = check_key(L, 1);
  uint8_t sig[64];
  pu_key_sign(key, msg, len, sig);
  pu_key_free(key);
  lua_pushlstring(L, (const char *)sig, sizeof(sig));
  return 1;
}

/* Every call below has its own account, which must be empty at its end. */
static int push_block(lua_State *L, pu_mem *mem, int rc, uint8_t *bytes, size_t len) {
  if (rc == 0) {
    lua_pushlstring(L, (const char *)bytes, len);
    pu_free(bytes);
  }
  pu_mem_deinit(mem);
  return rc == 0 ? 1 : probe_fail(L, rc);
}

static const uint8_t *check_type(lua_State *L, int arg) {
  size_t len;
  const uint8_t *type = probe_bytes(L, arg, &len);
  luaL_argcheck(L, len == 2, arg, "2 bytes");
  return type;
}

/* envelope_seal(private key protobuf, domain, type, payload) -> envelope | nil, code */
static int envelope_seal(lua_State *L) {
  size_t payload_len, out_len = 0;
  const char *domain = luaL_checkstring(L, 2);
  const uint8_t *type = check_type(L, 3);
  const uint8_t *payload = probe_bytes(L, 4, &payload_len);
  pu_key *key = check_key(L, 1);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  uint8_t *out = NULL;
  int rc = pu_envelope_seal(&mem, key, domain, type, payload, payload_len, &out, &out_len);
  pu_key_free(key);
  return push_block(L, &mem, rc, out, out_len);
}

/* envelope_open(domain, type, envelope) -> payload, signer text, public key protobuf | nil, code */
static int envelope_open(lua_State *L) {
  size_t len;
  const char *domain = luaL_checkstring(L, 1);
  const uint8_t *type = check_type(L, 2);
  const uint8_t *in = probe_bytes(L, 3, &len);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_envelope e;
  int rc = pu_envelope_open(&mem, domain, type, in, len, &e);
  pu_mem_deinit(&mem);
  if (rc != 0)
    return probe_fail(L, rc);
  lua_pushlstring(L, (const char *)e.payload, e.payload_len);
  (void)push_id_text(L, &e.signer);
  lua_pushlstring(L, (const char *)e.key.protobuf, e.key.len);
  return 3;
}

static uint64_t check_u64(lua_State *L, int arg) {
  return strtoull(luaL_checkstring(L, arg), NULL, 10);
}

static void push_u64(lua_State *L, uint64_t value) {
  char text[24];
  (void)snprintf(text, sizeof(text), "%" PRIu64, value);
  lua_pushstring(L, text);
}

/* peer_record_encode(peer ID text, seq, { binary addresses }) -> payload | nil, code */
static int peer_record_encode(lua_State *L) {
  pu_peer_record r = {0};
  check_id(L, 1, &r.peer);
  r.seq = check_u64(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  size_t count = lua_rawlen(L, 3);
  luaL_argcheck(L, count <= PU_PEER_RECORD_MAX_ADDRS, 3, "too many");
  luaL_checkstack(L, (int)count, NULL);
  for (size_t i = 0; i < count; i++) {
    (void)lua_rawgeti(L, 3, (lua_Integer)i + 1);
    r.addrs[i].data = probe_bytes(L, -1, &r.addrs[i].len); /* stays on the stack */
  }
  r.addr_count = count;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  uint8_t *out = NULL;
  size_t out_len = 0;
  int rc = pu_peer_record_encode(&mem, &r, &out, &out_len);
  return push_block(L, &mem, rc, out, out_len);
}

/* peer_record_decode(payload) -> peer ID text, seq, { binary addresses } | nil, code */
static int peer_record_decode(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_peer_record r;
  int rc = pu_peer_record_decode(in, len, &r);
  if (rc != 0)
    return probe_fail(L, rc);
  (void)push_id_text(L, &r.peer);
  push_u64(L, r.seq);
  lua_newtable(L);
  for (size_t i = 0; i < r.addr_count; i++) {
    lua_pushlstring(L, (const char *)r.addrs[i].data, r.addrs[i].len);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 3;
}

/* voucher_encode(relay text, peer text, expiration) -> payload | nil, code */
static int voucher_encode(lua_State *L) {
  pu_voucher v = {0};
  check_id(L, 1, &v.relay);
  check_id(L, 2, &v.peer);
  v.expiration = check_u64(L, 3);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  uint8_t *out = NULL;
  size_t out_len = 0;
  int rc = pu_voucher_encode(&mem, &v, &out, &out_len);
  return push_block(L, &mem, rc, out, out_len);
}

/* voucher_decode(payload) -> relay text, peer text, expiration | nil, code */
static int voucher_decode(lua_State *L) {
  size_t len;
  const uint8_t *in = probe_bytes(L, 1, &len);
  pu_voucher v;
  int rc = pu_voucher_decode(in, len, &v);
  if (rc != 0)
    return probe_fail(L, rc);
  (void)push_id_text(L, &v.relay);
  (void)push_id_text(L, &v.peer);
  push_u64(L, v.expiration);
  return 3;
}

const luaL_Reg probe_identity[] = {
    {"id_from_text", id_from_text},
    {"id_from_bytes", id_from_bytes},
    {"id_cid_base32", id_cid_base32},
    {"public_key_parse", public_key_parse},
    {"verify", verify},
    {"key_from_seed", key_from_seed},
    {"key_parse", key_parse},
    {"sign", sign},
    {"envelope_seal", envelope_seal},
    {"envelope_open", envelope_open},
    {"peer_record_encode", peer_record_encode},
    {"peer_record_decode", peer_record_decode},
    {"voucher_encode", voucher_encode},
    {"voucher_decode", voucher_decode},
    {NULL, NULL},
};
