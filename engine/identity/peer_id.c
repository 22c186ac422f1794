/* Peer IDs in binary and text (wire 2.2). */
#include "identity/peer_id.h"

#include <sodium.h>
#include <string.h>

#include "base/multibase.h"
#include "base/varint.h"
#include "peerup/error.h"

#define MULTIHASH_IDENTITY 0x00
#define MULTIHASH_SHA256 0x12
#define CID_VERSION 1
#define CID_CODEC_LIBP2P_KEY 0x72

/* read_multihash takes a multihash that fills its buffer. */
static int read_multihash(const uint8_t *in, size_t len, uint64_t *code, uint64_t *digest_len) {
  ssize_t used = pu_varint_get(in, len, code);
  if (used <= 0)
    return PU_E_PARSE;
  size_t at = (size_t)used;
  used = pu_varint_get(in + at, len - at, digest_len);
  if (used <= 0)
    return PU_E_PARSE;
  at += (size_t)used;
  return *digest_len == len - at ? 0 : PU_E_PARSE;
}

int pu_peer_id_from_bytes(const uint8_t *in, size_t len, pu_peer_id *out) {
  uint64_t code, digest_len;
  int rc = read_multihash(in, len, &code, &digest_len);
  if (rc != 0)
    return rc;
  if (len > PU_PEER_ID_MAX_BYTES)
    return PU_E_LIMIT;
  out->len = (uint8_t)len;
  memcpy(out->bytes, in, len);
  memset(out->bytes + len, 0, sizeof(out->bytes) - len);
  return 0;
}

int pu_peer_id_parse_multiaddr(const uint8_t *in, size_t len, pu_peer_id *out) {
  uint64_t code, digest_len;
  int rc = read_multihash(in, len, &code, &digest_len);
  if (rc != 0)
    return rc;
  if (code != MULTIHASH_IDENTITY && (code != MULTIHASH_SHA256 || digest_len != 32))
    return PU_E_PARSE;
  return pu_peer_id_from_bytes(in, len, out);
}

int pu_peer_id_from_text(const char *text, size_t len, pu_peer_id *out) {
  uint8_t bytes[PU_PEER_ID_MAX_BYTES + 2]; /* a CID has two more in front */
  if (len > 0 && (text[0] == '1' || (len > 1 && text[0] == 'Q' && text[1] == 'm'))) {
    ssize_t n = pu_base58_decode(text, len, bytes, PU_PEER_ID_MAX_BYTES);
    if (n < 0)
      return PU_E_PARSE;
    return pu_peer_id_from_bytes(bytes, (size_t)n, out) == 0 ? 0 : PU_E_PARSE;
  }
  ssize_t n = pu_multibase_decode(text, len, bytes, sizeof(bytes));
  if (n < 2 || bytes[0] != CID_VERSION || bytes[1] != CID_CODEC_LIBP2P_KEY)
    return PU_E_PARSE;
  return pu_peer_id_from_bytes(bytes + 2, (size_t)n - 2, out) == 0 ? 0 : PU_E_PARSE;
}

const char *pu_peer_id_text(const pu_peer_id *id, char out[static PU_PEER_ID_MAX_TEXT]) {
  /* 64 bytes take 88 letters, so the buffer always does; an empty ID is an empty text. */
  if (pu_base58_encode(id->bytes, id->len, out, PU_PEER_ID_MAX_TEXT) < 0)
    out[0] = '\0';
  return out;
}

bool pu_peer_id_equal(const pu_peer_id *a, const pu_peer_id *b) {
  return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

uint64_t pu_peer_id_hash(const pu_peer_id *id, uint64_t seed) {
  uint8_t key[crypto_shorthash_KEYBYTES] = {0};
  uint8_t hash[crypto_shorthash_BYTES];
  uint64_t out;
  memcpy(key, &seed, sizeof(seed));
  crypto_shorthash(hash, id->bytes, id->len, key);
  memcpy(&out, hash, sizeof(out));
  return out;
}
