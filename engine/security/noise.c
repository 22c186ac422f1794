/* Noise_XX_25519_ChaChaPoly_SHA256 as libp2p uses it (wire 6): a handshake core, then records.
 *
 *   initiator:  SEND_1 --> RECEIVE_2 --> SEND_3 --> DONE      1: e
 *   responder:  RECEIVE_1 --> SEND_2 --> RECEIVE_3 --> DONE   2: e, ee, s, es, payload
 *                                                             3: s, se, payload
 *
 * Every message is a 2-byte length and that many bytes. A handshake message is buffered whole, in
 * memory taken once its length is known and allowed, so that a peer that never speaks costs a few
 * KiB. The core writes and reads in turns: nothing is taken while a message of ours is unwritten.
 *
 * All secrets lie in |handshake| (wiped and freed when the keys are there) and in the two ciphers
 * (wiped with the session). The first error ends the session; every later call repeats it. */
#include "security/noise.h"

#include <sodium.h>
#include <string.h>

#include "base/hkdf.h"
#include "peerup/error.h"
#include "platform/assert.h"
#include "security/aead.h"
#include "security/noise_priv.h"

#define DH 32
#define HASH 32
#define NAME "Noise_XX_25519_ChaChaPoly_SHA256" /* exactly a hash long: it is the first hash */
#define MESSAGE_1 DH
#define MESSAGE_2_MIN (DH + DH + PU_NOISE_TAG + PU_NOISE_TAG)
#define MESSAGE_3_MIN (DH + PU_NOISE_TAG + PU_NOISE_TAG)
#define NONCE_END UINT64_MAX /* the last nonce is not for use */

_Static_assert(sizeof(NAME) - 1 == HASH, "the protocol's name needs no hashing");
_Static_assert(DH == crypto_scalarmult_curve25519_BYTES, "X25519");
_Static_assert(HASH == crypto_hash_sha256_BYTES, "SHA-256");
_Static_assert(MESSAGE_2_MIN + PU_NOISE_OWN_PAYLOAD_MAX <= PU_NOISE_MAX_HANDSHAKE,
               "a peer like us takes our messages");

typedef enum phase { SEND_1, RECEIVE_1, SEND_2, RECEIVE_2, SEND_3, RECEIVE_3, DONE } phase;

/* Owned by the session, until the keys are split. */
typedef struct handshake {
  pu_noise_local local;
  pu_peer_id expected; /* len 0: any */
  uint8_t static_private[DH], static_public[DH];
  uint8_t ephemeral_private[DH], ephemeral_public[DH];
  uint8_t remote_static[DH], remote_ephemeral[DH];
  uint8_t chaining_key[HASH];
  uint8_t hash[HASH];
  uint8_t key[PU_AEAD_KEY];
  uint64_t nonce;
  uint8_t *payload; /* of pu_noise_set_keys; NULL: our own */
  size_t payload_len;
  uint8_t head[PU_NOISE_LENGTH]; /* length of the message coming in */
  uint8_t *in;                   /* its bytes */
  size_t in_len, in_need; /* |in_len| counts the head too; |in_need| is 0 until that is read */
} handshake;

/* The session behind pu_security. Its owner is whoever called start. */
typedef struct noise {
  pu_mem *mem;
  phase phase;
  int error;     /* the first; 0: none */
  handshake *hs; /* NULL once the keys are split */
  uint8_t *out;  /* handshake message being written; NULL: none */
  size_t out_len, out_pos;
  pu_aead seal, open;
  uint64_t seal_nonce, open_nonce;
  uint8_t hash[HASH];
  pu_security_result result;
} noise;

static noise *noise_of(pu_security *s) {
  return (noise *)(void *)s;
}
static const noise *const_noise_of(const pu_security *s) {
  return (const noise *)(const void *)s;
}

static size_t get_be16(const uint8_t *in) {
  return (size_t)in[0] << 8 | in[1];
}
static void put_be16(uint8_t *out, size_t value) {
  out[0] = (uint8_t)(value >> 8);
  out[1] = (uint8_t)value;
}

/* set_nonce writes the counter as Noise's ChaChaPoly wants it: 4 zero bytes, 8 little-endian. */
static void set_nonce(uint8_t out[static PU_AEAD_NONCE], uint64_t n) {
  memset(out, 0, PU_AEAD_NONCE);
  for (size_t i = 0; i < 8; i++)
    out[4 + i] = (uint8_t)(n >> (8 * i));
}

/* ---- symmetric state ---- */

static void mix_hash(handshake *h, const uint8_t *data, size_t len) {
  crypto_hash_sha256_state state;
  (void)crypto_hash_sha256_init(&state);
  (void)crypto_hash_sha256_update(&state, h->hash, HASH);
  (void)crypto_hash_sha256_update(&state, data, len);
  (void)crypto_hash_sha256_final(&state, h->hash);
}

/* expand makes two keys out of the chaining key and |ikm|. */
static void expand(const handshake *h, const uint8_t *ikm, size_t len,
                   uint8_t out[static 2 * HASH]) {
  uint8_t prk[HASH];
  pu_hkdf_extract(h->chaining_key, HASH, ikm, len, prk);
  int rc = pu_hkdf_expand(prk, NULL, 0, out, (size_t)2 * HASH);
  PU_ASSERT(rc == 0);
  sodium_memzero(prk, sizeof(prk));
}

/* mix_dh mixes the Diffie-Hellman of |private_key| and |public_key| into the keys. A point of small
 * order, which gives all zeros whoever holds the private key, is refused. */
static int mix_dh(handshake *h, const uint8_t *private_key, const uint8_t *public_key) {
  uint8_t shared[DH];
  uint8_t keys[2 * HASH];
  if (crypto_scalarmult_curve25519(shared, private_key, public_key) != 0) {
    sodium_memzero(shared, sizeof(shared));
    return PU_E_CRYPTO;
  }
  expand(h, shared, sizeof(shared), keys);
  memcpy(h->chaining_key, keys, HASH);
  memcpy(h->key, keys + HASH, PU_AEAD_KEY);
  h->nonce = 0;
  sodium_memzero(shared, sizeof(shared));
  sodium_memzero(keys, sizeof(keys));
  return 0;
}

/* encrypt_and_hash writes |len| bytes and a tag to |out|, which may be |in|. */
static void encrypt_and_hash(handshake *h, const uint8_t *in, size_t len, uint8_t *out) {
  uint8_t nonce[PU_AEAD_NONCE];
  set_nonce(nonce, h->nonce++);
  (void)crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, h->hash, HASH, NULL, nonce,
                                                  h->key);
  mix_hash(h, out, len + PU_NOISE_TAG);
}

/* decrypt_and_hash reads |len| bytes, tag included, and writes the plaintext to |out|, not |in|. */
static int decrypt_and_hash(handshake *h, const uint8_t *in, size_t len, uint8_t *out) {
  uint8_t nonce[PU_AEAD_NONCE];
  set_nonce(nonce, h->nonce++);
  if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len, h->hash, HASH, nonce,
                                                h->key) != 0)
    return PU_E_CRYPTO;
  mix_hash(h, in, len);
  return 0;
}

/* ---- handshake ---- */

static void handshake_free(handshake *h) {
  if (h == NULL)
    return;
  pu_free(h->payload);
  pu_free(h->in);
  pu_free_secret(h);
}

/* split ends the handshake: the two ciphers are ready. */
static void split(noise *n) {
  handshake *h = n->hs;
  uint8_t keys[2 * HASH];
  expand(h, NULL, 0, keys);
  bool initiator = h->local.initiator;
  pu_aead_init(&n->seal, initiator ? keys : keys + HASH, true);
  pu_aead_init(&n->open, initiator ? keys + HASH : keys, false);
  memcpy(n->hash, h->hash, HASH);
  sodium_memzero(keys, sizeof(keys));
  handshake_free(h);
  n->hs = NULL;
  n->phase = DONE;
}

/* append_payload encrypts our payload to |out|, which has room; returns the bytes written. */
static size_t append_payload(handshake *h, uint8_t *out) {
  if (h->payload != NULL) {
    encrypt_and_hash(h, h->payload, h->payload_len, out);
    return h->payload_len + PU_NOISE_TAG;
  }
  uint8_t payload[PU_NOISE_OWN_PAYLOAD_MAX];
  size_t len = pu_noise_payload_write(&h->local, h->static_public, payload);
  encrypt_and_hash(h, payload, len, out);
  return len + PU_NOISE_TAG;
}

/* compose writes the message whose turn it is into a fresh |out|. */
static int compose(noise *n) {
  handshake *h = n->hs;
  size_t payload_len = h->payload != NULL ? h->payload_len : PU_NOISE_OWN_PAYLOAD_MAX;
  size_t most = n->phase == SEND_1 ? MESSAGE_1 : MESSAGE_2_MIN + payload_len;
  n->out = pu_alloc(n->mem, PU_NOISE_LENGTH + most);
  if (n->out == NULL)
    return PU_E_NOMEM;
  uint8_t *p = n->out + PU_NOISE_LENGTH;
  int rc = 0;
  if (n->phase != SEND_3) { /* e */
    memcpy(p, h->ephemeral_public, DH);
    mix_hash(h, p, DH);
    p += DH;
  }
  if (n->phase == SEND_1) { /* and an empty payload, in the clear */
    mix_hash(h, NULL, 0);
    n->phase = RECEIVE_2;
  } else {
    if (n->phase == SEND_2) /* ee */
      rc = mix_dh(h, h->ephemeral_private, h->remote_ephemeral);
    if (rc != 0)
      return rc;
    encrypt_and_hash(h, h->static_public, DH, p); /* s */
    p += DH + PU_NOISE_TAG;
    rc = mix_dh(h, h->static_private, h->remote_ephemeral); /* es, se */
    if (rc != 0)
      return rc;
    p += append_payload(h, p);
    n->phase = n->phase == SEND_2 ? RECEIVE_3 : DONE;
  }
  n->out_len = (size_t)(p - n->out);
  n->out_pos = 0;
  put_be16(n->out, n->out_len - PU_NOISE_LENGTH);
  if (n->phase == DONE)
    split(n);
  return 0;
}

/* on_message_1 reads e; there is no payload. */
static int on_message_1(noise *n, const uint8_t *in) {
  handshake *h = n->hs;
  memcpy(h->remote_ephemeral, in, DH);
  mix_hash(h, in, DH);
  mix_hash(h, NULL, 0);
  n->phase = SEND_2;
  return 0;
}

/* on_identity reads the common end of messages 2 and 3: s, a DH with |ephemeral_private|, payload.
 */
static int on_identity(noise *n, const uint8_t *in, size_t len) {
  handshake *h = n->hs;
  int rc = decrypt_and_hash(h, in, DH + PU_NOISE_TAG, h->remote_static);
  if (rc != 0)
    return rc;
  rc = mix_dh(h, h->ephemeral_private, h->remote_static);
  if (rc != 0)
    return rc;
  in += DH + PU_NOISE_TAG;
  len -= DH + PU_NOISE_TAG;
  uint8_t *payload = pu_alloc(n->mem, len - PU_NOISE_TAG);
  if (payload == NULL)
    return PU_E_NOMEM;
  rc = decrypt_and_hash(h, in, len, payload);
  if (rc == 0)
    rc = pu_noise_payload_read(n->mem, &h->local, payload, len - PU_NOISE_TAG, h->remote_static,
                               &n->result, NULL);
  pu_free(payload);
  if (rc == 0 && h->expected.len != 0 && !pu_peer_id_equal(&h->expected, &n->result.peer))
    rc = PU_E_PEER_MISMATCH;
  return rc;
}

/* on_message_2 reads e, ee, s, es and the responder's payload. */
static int on_message_2(noise *n, const uint8_t *in, size_t len) {
  handshake *h = n->hs;
  memcpy(h->remote_ephemeral, in, DH);
  mix_hash(h, in, DH);
  int rc = mix_dh(h, h->ephemeral_private, h->remote_ephemeral);
  if (rc == 0)
    rc = on_identity(n, in + DH, len - DH);
  if (rc == 0)
    n->phase = SEND_3;
  return rc;
}

/* on_message_3 reads s, se and the initiator's payload. */
static int on_message_3(noise *n, const uint8_t *in, size_t len) {
  int rc = on_identity(n, in, len);
  if (rc == 0)
    split(n);
  return rc;
}

/* length_allowed checks a handshake message's length before anything is taken for it. */
static bool length_allowed(phase now, size_t len) {
  if (now == RECEIVE_1)
    return len == MESSAGE_1;
  return len <= PU_NOISE_MAX_HANDSHAKE && len >= (now == RECEIVE_2 ? MESSAGE_2_MIN : MESSAGE_3_MIN);
}

static int on_message(noise *n) {
  handshake *h = n->hs;
  uint8_t *in = h->in;
  size_t len = h->in_need;
  h->in = NULL;
  h->in_len = h->in_need = 0;
  int rc = n->phase == RECEIVE_1   ? on_message_1(n, in)
           : n->phase == RECEIVE_2 ? on_message_2(n, in, len)
                                   : on_message_3(n, in, len);
  pu_free(in);
  return rc;
}

static bool receiving(const noise *n) {
  return n->phase == RECEIVE_1 || n->phase == RECEIVE_2 || n->phase == RECEIVE_3;
}

/* fail ends the session for good and frees what the handshake held. */
static int fail(noise *n, int code) {
  n->error = code;
  handshake_free(n->hs);
  n->hs = NULL;
  pu_free(n->out);
  n->out = NULL;
  return code;
}

static int noise_start(const pu_security_config *config, pu_security **out) {
  if (config->muxer_count > PU_SECURITY_MUXERS_MAX)
    return PU_E_INVAL;
  for (size_t i = 0; i < config->muxer_count; i++) {
    if (strlen(config->muxers[i]) >= PU_SECURITY_MUXER_NAME_MAX)
      return PU_E_INVAL;
  }
  noise *n = pu_zalloc(config->mem, sizeof(*n));
  if (n == NULL)
    return PU_E_NOMEM;
  handshake *h = pu_zalloc(config->mem, sizeof(*h));
  if (h == NULL) {
    pu_free(n);
    return PU_E_NOMEM;
  }
  n->mem = config->mem;
  n->hs = h;
  n->phase = config->initiator ? SEND_1 : RECEIVE_1;
  h->local = (pu_noise_local){.initiator = config->initiator,
                              .key = config->key,
                              .muxers = config->muxers,
                              .muxer_count = config->muxer_count};
  if (config->expected != NULL)
    h->expected = *config->expected;
  memcpy(h->hash, NAME, HASH);
  memcpy(h->chaining_key, NAME, HASH);
  mix_hash(h, NULL, 0); /* the empty prologue */
  config->random(config->random_data, h->static_private, DH);
  config->random(config->random_data, h->ephemeral_private, DH);
  (void)crypto_scalarmult_curve25519_base(h->static_public, h->static_private);
  (void)crypto_scalarmult_curve25519_base(h->ephemeral_public, h->ephemeral_private);
  *out = (pu_security *)(void *)n;
  return 0;
}

static void noise_free(pu_security *s) {
  if (s == NULL)
    return;
  noise *n = noise_of(s);
  handshake_free(n->hs);
  pu_free(n->out);
  pu_aead_deinit(&n->seal);
  pu_aead_deinit(&n->open);
  pu_free_secret(n);
}

/* take_length takes the two bytes of a message's length, then memory for the message. */
static ssize_t take_length(noise *n, const uint8_t *in, size_t len) {
  handshake *h = n->hs;
  size_t used = 0;
  while (h->in_len < PU_NOISE_LENGTH && used < len)
    h->head[h->in_len++] = in[used++];
  if (h->in_len < PU_NOISE_LENGTH)
    return (ssize_t)used;
  size_t need = get_be16(h->head);
  if (!length_allowed(n->phase, need))
    return PU_E_PROTOCOL;
  h->in = pu_alloc(n->mem, need);
  if (h->in == NULL)
    return PU_E_NOMEM;
  h->in_need = need;
  return (ssize_t)used;
}

static ssize_t noise_read(pu_security *s, const uint8_t *in, size_t len) {
  noise *n = noise_of(s);
  if (n->error != 0)
    return n->error;
  size_t used = 0;
  while (used < len && receiving(n) && n->out == NULL) {
    handshake *h = n->hs;
    if (h->in_need == 0) {
      ssize_t got = take_length(n, in + used, len - used);
      if (got < 0)
        return fail(n, (int)got);
      used += (size_t)got;
      continue;
    }
    size_t have = h->in_len - PU_NOISE_LENGTH;
    size_t take = h->in_need - have;
    if (take > len - used)
      take = len - used;
    memcpy(h->in + have, in + used, take);
    h->in_len += take;
    used += take;
    if (have + take == h->in_need) {
      int rc = on_message(n);
      if (rc != 0)
        return fail(n, rc);
    }
  }
  return (ssize_t)used;
}

static ssize_t noise_write(pu_security *s, uint8_t *out, size_t cap) {
  noise *n = noise_of(s);
  if (n->error != 0)
    return n->error;
  if (n->out == NULL) {
    if (n->phase == DONE || receiving(n))
      return 0;
    int rc = compose(n);
    if (rc != 0)
      return fail(n, rc);
  }
  size_t take = n->out_len - n->out_pos;
  if (take > cap)
    take = cap;
  memcpy(out, n->out + n->out_pos, take);
  n->out_pos += take;
  if (n->out_pos == n->out_len) {
    pu_free(n->out);
    n->out = NULL;
  }
  return (ssize_t)take;
}

static bool finished(const noise *n) {
  return n->phase == DONE && n->out == NULL && n->error == 0;
}

static const pu_security_result *noise_result(const pu_security *s) {
  const noise *n = const_noise_of(s);
  return finished(n) ? &n->result : NULL;
}

/* ---- records ---- */

static int noise_seal(pu_security *s, pu_span *io) {
  noise *n = noise_of(s);
  if (n->error != 0)
    return n->error;
  PU_ASSERT(finished(n));
  PU_ASSERT(io->len <= PU_NOISE_MAX_PLAIN && io->head >= PU_NOISE_LENGTH &&
            io->tail >= PU_NOISE_TAG);
  if (n->seal_nonce == NONCE_END)
    return fail(n, PU_E_LIMIT);
  uint8_t nonce[PU_AEAD_NONCE];
  set_nonce(nonce, n->seal_nonce++);
  int rc = pu_aead_seal(&n->seal, nonce, io->data, io->len);
  if (rc != 0)
    return fail(n, rc);
  put_be16(io->data - PU_NOISE_LENGTH, io->len + PU_NOISE_TAG);
  io->data -= PU_NOISE_LENGTH;
  io->head -= PU_NOISE_LENGTH;
  io->tail -= PU_NOISE_TAG;
  io->len += PU_NOISE_LENGTH + PU_NOISE_TAG;
  return 0;
}

static ssize_t noise_open(pu_security *s, uint8_t *in, size_t len, pu_span *plain) {
  noise *n = noise_of(s);
  if (n->error != 0)
    return n->error;
  PU_ASSERT(finished(n));
  if (len < PU_NOISE_LENGTH)
    return 0;
  size_t size = get_be16(in);
  if (size < PU_NOISE_TAG)
    return fail(n, PU_E_PROTOCOL);
  if (len < PU_NOISE_LENGTH + size)
    return 0;
  if (n->open_nonce == NONCE_END)
    return fail(n, PU_E_LIMIT);
  uint8_t nonce[PU_AEAD_NONCE];
  set_nonce(nonce, n->open_nonce++);
  int rc = pu_aead_open(&n->open, nonce, in + PU_NOISE_LENGTH, size);
  if (rc != 0)
    return fail(n, rc);
  *plain = (pu_span){.data = in + PU_NOISE_LENGTH,
                     .len = size - PU_NOISE_TAG,
                     .head = PU_NOISE_LENGTH,
                     .tail = PU_NOISE_TAG};
  return (ssize_t)(PU_NOISE_LENGTH + size);
}

static size_t noise_need(const pu_security *s, const uint8_t *in, size_t len) {
  (void)s;
  if (len < PU_NOISE_LENGTH)
    return PU_NOISE_LENGTH - len;
  size_t total = PU_NOISE_LENGTH + get_be16(in);
  return total > len ? total - len : 1;
}

const pu_security_ops pu_noise_ops = {
    .id = "/noise",
    .head = PU_NOISE_LENGTH,
    .tail = PU_NOISE_TAG,
    .max_plain = PU_NOISE_MAX_PLAIN,
    .max_record = PU_NOISE_LENGTH + PU_NOISE_MAX_MESSAGE,
    .start = noise_start,
    .free = noise_free,
    .read = noise_read,
    .write = noise_write,
    .result = noise_result,
    .seal = noise_seal,
    .open = noise_open,
    .need = noise_need,
};

/* ---- for tests and vectors ---- */

void pu_noise_handshake_hash(const pu_security *s, uint8_t out[static 32]) {
  PU_ASSERT(finished(const_noise_of(s)));
  memcpy(out, const_noise_of(s)->hash, HASH);
}

void pu_noise_keys(const pu_security *s, uint8_t send[static 32], uint8_t receive[static 32]) {
  PU_ASSERT(finished(const_noise_of(s)));
  memcpy(send, const_noise_of(s)->seal.key, PU_AEAD_KEY);
  memcpy(receive, const_noise_of(s)->open.key, PU_AEAD_KEY);
}

void pu_noise_set_nonces(pu_security *s, uint64_t send, uint64_t receive) {
  noise_of(s)->seal_nonce = send;
  noise_of(s)->open_nonce = receive;
}

int pu_noise_set_keys(pu_security *s, const uint8_t static_private[static 32],
                      const uint8_t ephemeral_private[static 32], const uint8_t *payload,
                      size_t payload_len) {
  noise *n = noise_of(s);
  handshake *h = n->hs;
  PU_ASSERT(n->phase == SEND_1 || n->phase == RECEIVE_1);
  if (payload_len > PU_NOISE_MAX_HANDSHAKE - MESSAGE_2_MIN)
    return PU_E_LIMIT;
  if (payload != NULL) {
    uint8_t *copy = pu_alloc(n->mem, payload_len);
    if (copy == NULL)
      return PU_E_NOMEM;
    if (payload_len > 0)
      memcpy(copy, payload, payload_len);
    pu_free(h->payload);
    h->payload = copy;
    h->payload_len = payload_len;
  }
  memcpy(h->static_private, static_private, DH);
  memcpy(h->ephemeral_private, ephemeral_private, DH);
  (void)crypto_scalarmult_curve25519_base(h->static_public, h->static_private);
  (void)crypto_scalarmult_curve25519_base(h->ephemeral_public, h->ephemeral_private);
  return 0;
}
