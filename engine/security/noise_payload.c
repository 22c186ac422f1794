/* The payload of Noise handshake messages (wire 6): who vouches for the static key, and which
 * muxers that side speaks. The payload is a stranger's until its signature is verified, so it is
 * unpacked into an arena of a fixed bound. */
#include <string.h>

#include "base/pb.h"
#include "peerup/error.h"
#include "platform/assert.h"
#include "security/noise.pb-c.h"
#include "security/noise_priv.h"

#define STATIC_KEY 32
#define SIGNATURE 64
#define PREFIX "noise-libp2p-static-key:"
#define PREFIX_LEN (sizeof(PREFIX) - 1)
/* Memory one payload may take while it is read. The largest key and signature with 100 names take
 * less than half; a payload stuffed with tiny fields takes more, and is refused. */
#define PAYLOAD_MEMORY_MAX (24 * 1024)

/* signed_bytes writes what the identity key signs. */
static void signed_bytes(const uint8_t *static_public,
                         uint8_t out[static PREFIX_LEN + STATIC_KEY]) {
  memcpy(out, PREFIX, PREFIX_LEN);
  memcpy(out + PREFIX_LEN, static_public, STATIC_KEY);
}

size_t pu_noise_payload_write(const pu_noise_local *local, const uint8_t static_public[static 32],
                              uint8_t out[static PU_NOISE_OWN_PAYLOAD_MAX]) {
  uint8_t message[PREFIX_LEN + STATIC_KEY];
  uint8_t signature[SIGNATURE];
  signed_bytes(static_public, message);
  pu_key_sign(local->key, message, sizeof(message), signature);

  /* protobuf-c's structs have no const; packing changes nothing. */
  ProtobufCBinaryData names[PU_SECURITY_MUXERS_MAX];
  for (size_t i = 0; i < local->muxer_count; i++)
    names[i] = (ProtobufCBinaryData){.len = strlen(local->muxers[i]),
                                     .data = (uint8_t *)(uintptr_t)local->muxers[i]};
  Pu__Noise__Extensions extensions = PU__NOISE__EXTENSIONS__INIT;
  extensions.n_stream_muxers = local->muxer_count;
  extensions.stream_muxers = names;

  const pu_public_key *key = pu_key_public(local->key);
  Pu__Noise__Payload payload = PU__NOISE__PAYLOAD__INIT;
  payload.has_identity_key = true;
  payload.identity_key =
      (ProtobufCBinaryData){.len = key->len, .data = (uint8_t *)(uintptr_t)key->protobuf};
  payload.has_identity_sig = true;
  payload.identity_sig = (ProtobufCBinaryData){.len = SIGNATURE, .data = signature};
  payload.extensions = &extensions; /* present even when the list is empty, as the Go program's */

  PU_ASSERT(pu__noise__payload__get_packed_size(&payload) <= PU_NOISE_OWN_PAYLOAD_MAX);
  return pu__noise__payload__pack(&payload, out);
}

static bool name_is(const ProtobufCBinaryData *name, const char *want) {
  return name->len == strlen(want) && memcmp(name->data, want, name->len) == 0;
}

/* choose_muxer finds the first of the initiator's names that the responder also lists. */
static const char *choose_muxer(const pu_noise_local *local, const ProtobufCBinaryData *remote,
                                size_t remote_count) {
  size_t outer = local->initiator ? local->muxer_count : remote_count;
  size_t inner = local->initiator ? remote_count : local->muxer_count;
  for (size_t i = 0; i < outer; i++) {
    for (size_t j = 0; j < inner; j++) {
      const char *ours = local->muxers[local->initiator ? i : j];
      if (name_is(&remote[local->initiator ? j : i], ours))
        return ours;
    }
  }
  return "";
}

/* verify checks key and signature of an unpacked payload. */
static int verify(const Pu__Noise__Payload *payload, const uint8_t *static_public,
                  pu_public_key *key) {
  if (!payload->has_identity_key || payload->identity_key.len > PU_KEY_MAX_PROTOBUF)
    return PU_E_PROTOCOL;
  int rc = pu_public_key_parse(payload->identity_key.data, payload->identity_key.len, key);
  if (rc != 0)
    return rc == PU_E_PARSE ? PU_E_PROTOCOL : rc;
  if (!payload->has_identity_sig || payload->identity_sig.len > PU_KEY_MAX_SIGNATURE)
    return PU_E_CRYPTO;
  uint8_t message[PREFIX_LEN + STATIC_KEY];
  signed_bytes(static_public, message);
  return pu_public_key_verify(key, message, sizeof(message), payload->identity_sig.data,
                              payload->identity_sig.len);
}

int pu_noise_payload_read(pu_mem *mem, const pu_noise_local *local, const uint8_t *payload,
                          size_t len, const uint8_t static_public[static 32],
                          pu_security_result *out, size_t *muxers_used) {
  pu_pb_arena arena;
  pu_pb_arena_init(&arena, mem, PAYLOAD_MEMORY_MAX);
  int rc = PU_E_PROTOCOL;
  Pu__Noise__Payload *p = pu__noise__payload__unpack(&arena.allocator, len, payload);
  if (p == NULL)
    goto done;
  rc = verify(p, static_public, &out->key);
  if (rc != 0)
    goto done;
  pu_public_key_peer_id(&out->key, &out->peer);
  size_t count = p->extensions == NULL ? 0 : p->extensions->n_stream_muxers;
  if (count > PU_NOISE_MAX_REMOTE_MUXERS)
    count = 0;
  const char *muxer = count == 0 ? "" : choose_muxer(local, p->extensions->stream_muxers, count);
  memcpy(out->muxer, muxer, strlen(muxer) + 1);
  if (muxers_used != NULL)
    *muxers_used = count;
done:
  pu_pb_arena_free(&arena);
  return rc;
}
