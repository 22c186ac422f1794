/* Keys of peers: protobuf forms, signatures, verification (wire 2.1). We make and hold Ed25519
 * keys; remote identities may be RSA, ECDSA or secp256k1 too, and are verified. */
#ifndef PU_IDENTITY_KEY_H
#define PU_IDENTITY_KEY_H

#include "base/mem.h"
#include "identity/peer_id.h"

typedef enum pu_key_type {
  PU_KEY_RSA = 0,
  PU_KEY_ED25519 = 1,
  PU_KEY_SECP256K1 = 2,
  PU_KEY_ECDSA = 3
} pu_key_type;

/* Bounds on what a remote peer may send. An RSA key of 8192 bits takes 1062 bytes. */
#define PU_KEY_MAX_PROTOBUF 1200
#define PU_KEY_MAX_SIGNATURE 1100
#define PU_KEY_ED25519_PROTOBUF 36

/* A public key in canonical form: parsed, checked, re-encoded (the peer ID is over this form). */
typedef struct pu_public_key {
  pu_key_type type;
  uint16_t len;                          /* of |protobuf| */
  uint8_t protobuf[PU_KEY_MAX_PROTOBUF]; /* canonical PublicKey message */
  uint16_t data_len;                     /* of the Data field, which ends |protobuf| */
} pu_public_key;

/* Our own key: always Ed25519. The secret lives in guarded memory (sodium_malloc). */
typedef struct pu_key pu_key;

/* pu_public_key_parse reads a PublicKey protobuf: PU_E_PARSE when malformed or refused by the rules
 * of wire 2.1 (RSA under 2048 or over 8192 bits, a point off its curve ...). */
PU_MUST_CHECK int pu_public_key_parse(const uint8_t *in, size_t len, pu_public_key *out);
/* pu_public_key_verify checks |sig| over |msg|: 0, or PU_E_CRYPTO. */
PU_MUST_CHECK int pu_public_key_verify(const pu_public_key *key, const uint8_t *msg, size_t len,
                                       const uint8_t *sig, size_t sig_len);
/* pu_public_key_peer_id computes the peer ID. */
void pu_public_key_peer_id(const pu_public_key *key, pu_peer_id *out);
/* pu_public_key_from_peer_id extracts the key that a short (identity) peer ID holds;
 * PU_E_NOT_FOUND for hashed ones. */
PU_MUST_CHECK int pu_public_key_from_peer_id(const pu_peer_id *id, pu_public_key *out);

/* pu_key_generate makes a key from the system's random source; pu_key_from_seed from 32 bytes. */
PU_MUST_CHECK int pu_key_generate(pu_key **out);
PU_MUST_CHECK int pu_key_from_seed(const uint8_t seed[static 32], pu_key **out);
/* pu_key_parse reads a PrivateKey protobuf (the file format of the Go program; the 96-byte legacy
 * form too). PU_E_PARSE; PU_E_UNSUPPORTED for other types than Ed25519. */
PU_MUST_CHECK int pu_key_parse(const uint8_t *in, size_t len, pu_key **out);
/* pu_key_protobuf writes the 68-byte PrivateKey protobuf. */
void pu_key_protobuf(const pu_key *key, uint8_t out[static 68]);
void pu_key_free(pu_key *key);
const pu_public_key *pu_key_public(const pu_key *key);
const pu_peer_id *pu_key_peer_id(const pu_key *key);
/* pu_key_sign writes the 64-byte signature over |msg|. */
void pu_key_sign(const pu_key *key, const uint8_t *msg, size_t len, uint8_t sig[static 64]);
/* pu_key_secret copies the 64 raw bytes (seed || public), from which QUIC keys are derived. */
void pu_key_secret(const pu_key *key, uint8_t out[static 64]);

#endif
