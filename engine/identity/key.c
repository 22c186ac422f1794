/* Keys: protobuf forms, peer IDs, signatures (wire 2.1 and 2.2). Ed25519 is libsodium's, the other
 * types are in key_remote.c. */
#include "identity/key.h"

#include <sodium.h>
#include <string.h>

#include "base/pb.h"
#include "identity/key_remote.h"
#include "peerup/error.h"

#define ED25519_PUBLIC 32
#define ED25519_SECRET 64        /* seed || public */
#define ED25519_SECRET_LEGACY 96 /* seed || public || public */
/* A key protobuf up to this size is its own peer ID, a longer one is hashed. */
#define INLINE_MAX 42

struct pu_key {
  uint8_t secret[ED25519_SECRET];
  pu_public_key pub;
  pu_peer_id id;
};

/* key_message is what both key protobufs hold; |data| points into the bytes read. */
typedef struct key_message {
  uint64_t type;
  const uint8_t *data;
  size_t len;
} key_message;

static int read_message(const uint8_t *in, size_t len, key_message *out) {
  bool has_type = false, has_data = false;
  pu_pb_field f;
  int rc;
  while ((rc = pu_pb_next(&in, &len, &f)) > 0) {
    if (f.number == 1 && f.wire == PU_PB_VARINT) {
      has_type = true;
      out->type = f.value;
    } else if (f.number == 2 && f.wire == PU_PB_BYTES) {
      has_data = true;
      out->data = f.data;
      out->len = f.len;
    }
  }
  if (rc < 0)
    return rc;
  return has_type && has_data ? 0 : PU_E_PARSE; /* both are required */
}

/* set_public writes the canonical message. */
static void set_public(pu_public_key *out, pu_key_type type, const uint8_t *data, size_t len) {
  memset(out, 0, sizeof(*out));
  out->type = type;
  out->data_len = (uint16_t)len;
  out->protobuf[0] = 0x08;
  out->protobuf[1] = (uint8_t)type;
  out->len = (uint16_t)(2 + pu_pb_put_bytes(out->protobuf + 2, 2, data, len));
}

static const uint8_t *data_of(const pu_public_key *key) {
  return key->protobuf + key->len - key->data_len;
}

int pu_public_key_parse(const uint8_t *in, size_t len, pu_public_key *out) {
  if (len > PU_KEY_MAX_PROTOBUF)
    return PU_E_PARSE;
  key_message m = {0};
  int rc = read_message(in, len, &m);
  if (rc != 0)
    return rc;
  switch (m.type) {
  case PU_KEY_ED25519:
    if (m.len != ED25519_PUBLIC)
      return PU_E_PARSE;
    set_public(out, PU_KEY_ED25519, m.data, m.len);
    return 0;
  case PU_KEY_RSA:
  case PU_KEY_SECP256K1:
  case PU_KEY_ECDSA: {
    pu_key_type type = (pu_key_type)m.type;
    uint8_t data[PU_KEY_MAX_PROTOBUF];
    size_t data_len = 0;
    rc = pu_key_remote_check(type, m.data, m.len, data, &data_len);
    if (rc != 0)
      return rc;
    if (2 + pu_pb_bytes_size(data_len) > PU_KEY_MAX_PROTOBUF)
      return PU_E_PARSE;
    set_public(out, type, data, data_len);
    return 0;
  }
  default:
    return PU_E_PARSE;
  }
}

int pu_public_key_verify(const pu_public_key *key, const uint8_t *msg, size_t len,
                         const uint8_t *sig, size_t sig_len) {
  if (key->type != PU_KEY_ED25519) {
    if (sig_len > PU_KEY_MAX_SIGNATURE)
      return PU_E_CRYPTO;
    return pu_key_remote_verify(key->type, data_of(key), key->data_len, msg, len, sig, sig_len);
  }
  if (sig_len != crypto_sign_BYTES || sodium_init() < 0)
    return PU_E_CRYPTO;
  return crypto_sign_verify_detached(sig, msg, len, data_of(key)) == 0 ? 0 : PU_E_CRYPTO;
}

void pu_public_key_peer_id(const pu_public_key *key, pu_peer_id *out) {
  memset(out, 0, sizeof(*out));
  if (key->len <= INLINE_MAX) {
    out->bytes[0] = 0x00;
    out->bytes[1] = (uint8_t)key->len;
    memcpy(out->bytes + 2, key->protobuf, key->len);
    out->len = (uint8_t)(2 + key->len);
    return;
  }
  out->bytes[0] = 0x12;
  out->bytes[1] = crypto_hash_sha256_BYTES;
  crypto_hash_sha256(out->bytes + 2, key->protobuf, key->len);
  out->len = 2 + crypto_hash_sha256_BYTES;
}

int pu_public_key_from_peer_id(const pu_peer_id *id, pu_public_key *out) {
  if (id->len < 2 || id->bytes[0] != 0x00)
    return PU_E_NOT_FOUND;
  return pu_public_key_parse(id->bytes + 2, (size_t)id->len - 2, out);
}

/* from_seed makes the whole key out of its seed, in guarded memory that is not written again. That
 * memory is outside any account: its owner is the process' identity, not a peer. */
static int from_seed(const uint8_t seed[static 32], pu_key **out) {
  if (sodium_init() < 0)
    return PU_E_CRYPTO;
  pu_key *key = sodium_malloc(sizeof(*key));
  if (key == NULL)
    return PU_E_NOMEM;
  uint8_t pub[ED25519_PUBLIC];
  (void)crypto_sign_seed_keypair(pub, key->secret, seed);
  set_public(&key->pub, PU_KEY_ED25519, pub, sizeof(pub));
  pu_public_key_peer_id(&key->pub, &key->id);
  (void)sodium_mprotect_readonly(key);
  *out = key;
  return 0;
}

int pu_key_from_seed(const uint8_t seed[static 32], pu_key **out) {
  return from_seed(seed, out);
}

int pu_key_generate(pu_key **out) {
  if (sodium_init() < 0)
    return PU_E_CRYPTO;
  uint8_t seed[crypto_sign_SEEDBYTES];
  randombytes_buf(seed, sizeof(seed));
  int rc = from_seed(seed, out);
  sodium_memzero(seed, sizeof(seed));
  return rc;
}

int pu_key_parse(const uint8_t *in, size_t len, pu_key **out) {
  key_message m = {0};
  int rc = read_message(in, len, &m);
  if (rc != 0)
    return rc;
  if (m.type == PU_KEY_RSA || m.type == PU_KEY_SECP256K1 || m.type == PU_KEY_ECDSA)
    return PU_E_UNSUPPORTED;
  if (m.type != PU_KEY_ED25519 || (m.len != ED25519_SECRET && m.len != ED25519_SECRET_LEGACY))
    return PU_E_PARSE;
  pu_key *key = NULL;
  rc = from_seed(m.data, &key);
  if (rc != 0)
    return rc;
  /* Each copy of the public key must be the seed's: signing with another would give the secret
   * away. */
  const uint8_t *pub = key->secret + crypto_sign_SEEDBYTES;
  for (size_t at = crypto_sign_SEEDBYTES; at < m.len; at += ED25519_PUBLIC) {
    if (sodium_memcmp(m.data + at, pub, ED25519_PUBLIC) != 0) {
      pu_key_free(key);
      return PU_E_PARSE;
    }
  }
  *out = key;
  return 0;
}

void pu_key_protobuf(const pu_key *key, uint8_t out[static 68]) {
  out[0] = 0x08;
  out[1] = PU_KEY_ED25519;
  (void)pu_pb_put_bytes(out + 2, 2, key->secret, sizeof(key->secret));
}

void pu_key_free(pu_key *key) {
  if (key != NULL)
    sodium_free(key); /* wipes */
}

const pu_public_key *pu_key_public(const pu_key *key) {
  return &key->pub;
}

const pu_peer_id *pu_key_peer_id(const pu_key *key) {
  return &key->id;
}

void pu_key_sign(const pu_key *key, const uint8_t *msg, size_t len, uint8_t sig[static 64]) {
  (void)crypto_sign_detached(sig, NULL, msg, len, key->secret);
}

void pu_key_secret(const pu_key *key, uint8_t out[static 64]) {
  memcpy(out, key->secret, sizeof(key->secret));
}
