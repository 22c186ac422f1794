/* Noise handshakes against hostile bytes. Byte 0 chooses: bit 0 our role; bits 1 and 2 who speaks:
 *   0  the input itself, raw, in pieces of byte 1
 *   1  an honest handshake whose payload is the input, so that the payload's reader is reached
 *   2  the same behind an honest key and signature, so that what is verified is reached, too
 * Keys are the same in every run, so recorded dialogues are useful seeds of the raw mode. */
#include "security/noise_priv.h"
#include "support/noise_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STRANGER_MAX (64 * 1024) /* what a peer may cost before it is known */
enum { RAW, PAYLOAD, SIGNED };

static const char *const muxers[] = {"/yamux/1.0.0", "/mplex/6.7.0"};

static pu_security *start(pu_mem *mem, const pu_key *key, bool initiator) {
  uint32_t random = initiator ? 1 : 2;
  const pu_security_config config = {.mem = mem,
                                     .initiator = initiator,
                                     .key = key,
                                     .muxers = muxers,
                                     .muxer_count = PU_COUNT(muxers),
                                     .random = pu_test_random,
                                     .random_data = &random};
  pu_security *s = NULL;
  int rc = pu_noise_ops.start(&config, &s);
  PU_ASSERT(rc == 0);
  return s;
}

static void feed(pu_security *s, const uint8_t *in, size_t len, size_t chunk) {
  uint8_t out[2048];
  while (len > 0) {
    ssize_t n = pu_noise_ops.write(s, out, sizeof(out));
    if (n < 0)
      return;
    size_t piece = len < chunk ? len : chunk;
    ssize_t used = pu_noise_ops.read(s, in, piece);
    if (used < 0)
      return;
    PU_ASSERT((size_t)used <= piece);
    if (used == 0 && n == 0)
      return; /* done */
    in += used;
    len -= (size_t)used;
  }
}

/* The static key of the other side in the modes that do not feed raw bytes. */
static const uint8_t static_private[32] = {7};
static const uint8_t static_public[32] = {
    0x2f, 0xe5, 0x7d, 0xa3, 0x47, 0xcd, 0x62, 0x43, 0x15, 0x28, 0xda, 0xac, 0x5f, 0xbb, 0x29, 0x07,
    0x30, 0xff, 0xf6, 0x84, 0xaf, 0xc4, 0xcf, 0xc2, 0xed, 0x90, 0x99, 0x5f, 0x58, 0xcb, 0x3b, 0x74};

/* speak runs an honest handshake in which the other side's payload is |in|, behind an honest key
 * and signature if |with_signature|. */
static void speak(pu_security *ours, bool we_initiate, const pu_key *key, bool with_signature,
                  const uint8_t *in, size_t len) {
  static const uint8_t ephemeral_private[32] = {9};
  uint8_t payload[PU_NOISE_MAX_HANDSHAKE];
  size_t head = 0;
  if (with_signature) {
    const pu_noise_local local = {.key = key};
    uint8_t own[PU_NOISE_OWN_PAYLOAD_MAX];
    head = pu_noise_payload_write(&local, static_public, own);
    memcpy(payload, own, head);
  }
  size_t most = sizeof(payload) - 96;
  size_t n = len < most - head ? len : most - head;
  if (n > 0)
    memcpy(payload + head, in, n);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_security *theirs = start(&mem, key, !we_initiate);
  int rc = pu_noise_set_keys(theirs, static_private, ephemeral_private, payload, head + n);
  PU_ASSERT(rc == 0);
  rc = we_initiate ? pu_test_handshake(ours, theirs, SIZE_MAX)
                   : pu_test_handshake(theirs, ours, SIZE_MAX);
  const pu_security_result *r = pu_noise_ops.result(ours);
  PU_ASSERT(!with_signature || n > 0 || (rc == 0 && r != NULL));
  PU_ASSERT(r == NULL || memchr(r->muxer, '\0', sizeof(r->muxer)) != NULL);
  pu_noise_ops.free(theirs);
  pu_mem_deinit(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2)
    return 0;
  bool initiator = (data[0] & 1) != 0;
  int mode = data[0] >> 1 & 3;
  pu_key *key = pu_test_key(1);
  pu_mem mem;
  pu_mem_init(&mem, NULL, STRANGER_MAX);
  pu_security *s = start(&mem, key, initiator);
  if (mode == RAW)
    feed(s, data + 2, size - 2, data[1] == 0 ? SIZE_MAX : data[1]);
  else
    speak(s, initiator, key, mode == SIGNED, data + 2, size - 2);
  pu_noise_ops.free(s);
  PU_ASSERT(mem.refused == 0); /* the bound is kept without running into the account's */
  pu_mem_deinit(&mem);
  pu_key_free(key);
  return 0;
}
