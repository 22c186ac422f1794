/* Noise records: the input is a program that writes what one side receives, then how it arrives.
 *   op % 4 == 0, 1  an honest record of (next byte * (op >> 2)) bytes
 *             2     an honest record of (next byte) bytes with bit (op >> 2) flipped
 *             3     (op >> 2) raw bytes of the input
 * Every honest record before the first flipped or raw one must arrive as it was sent. */
#include "support/noise_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WIRE_MAX (256 * 1024)
#define RECORDS_MAX 64

static uint8_t wire[WIRE_MAX]; /* what arrives */

typedef struct plan {
  size_t wire_len;
  size_t lengths[RECORDS_MAX]; /* of the honest records in front */
  size_t count;
  bool honest; /* so far */
} plan;

static uint8_t letter(size_t record, size_t at) {
  return (uint8_t)(record * 31 + at);
}

static bool put_record(pu_security *s, plan *p, size_t len) {
  size_t total = len + PU_NOISE_LENGTH + PU_NOISE_TAG;
  if (WIRE_MAX - p->wire_len < total || p->count == RECORDS_MAX)
    return false;
  pu_span io = {.data = wire + p->wire_len + PU_NOISE_LENGTH,
                .len = len,
                .head = PU_NOISE_LENGTH,
                .tail = PU_NOISE_TAG};
  for (size_t i = 0; i < len; i++)
    io.data[i] = letter(p->count, i);
  int rc = pu_noise_ops.seal(s, &io);
  PU_ASSERT(rc == 0 && io.len == total);
  p->wire_len += total;
  if (p->honest)
    p->lengths[p->count++] = len;
  return true;
}

static void write_wire(pu_security *s, plan *p, const uint8_t *in, size_t len) {
  while (len >= 2) {
    uint8_t op = in[0], arg = in[1];
    if (op % 4 == 3) {
      in++;
      len--;
      size_t n = (size_t)(op >> 2) < len ? (size_t)(op >> 2) : len;
      if (n > WIRE_MAX - p->wire_len)
        return;
      memcpy(wire + p->wire_len, in, n);
      p->wire_len += n;
      p->honest = p->honest && n == 0;
      in += n;
      len -= n;
      continue;
    }
    in += 2;
    len -= 2;
    size_t start = p->wire_len;
    bool flip = op % 4 == 2;
    p->honest = p->honest && !flip;
    if (!put_record(s, p, flip ? arg : (size_t)arg * (op >> 2)))
      return;
    if (flip)
      wire[start + (op >> 2) % (p->wire_len - start)] ^= (uint8_t)(1u << arg % 8);
  }
}

static void receive(pu_security *s, const plan *p) {
  size_t at = 0, have = 0, records = 0;
  for (;;) {
    pu_span plain;
    ssize_t used = pu_noise_ops.open(s, wire + at, have - at, &plain);
    if (used < 0) {
      PU_ASSERT(records >= p->count);
      return;
    }
    if (used > 0) {
      PU_ASSERT((size_t)used <= have - at);
      PU_ASSERT(plain.data >= wire + at && plain.data + plain.len <= wire + at + used);
      if (records < p->count) {
        PU_ASSERT(plain.len == p->lengths[records]);
        for (size_t i = 0; i < plain.len; i++)
          PU_ASSERT(plain.data[i] == letter(records, i));
      }
      records++;
      at += (size_t)used;
      continue;
    }
    size_t need = pu_noise_ops.need(s, wire + at, have - at);
    PU_ASSERT(need >= 1 && need <= PU_NOISE_LENGTH + PU_NOISE_MAX_MESSAGE);
    if (need > p->wire_len - have)
      break;
    have += need;
  }
  PU_ASSERT(records >= p->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_key *key = pu_test_key(1);
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  pu_security *side[2];
  uint32_t random = 1;
  for (int i = 0; i < 2; i++) {
    const pu_security_config config = {.mem = &mem,
                                       .initiator = i == 0,
                                       .key = key,
                                       .random = pu_test_random,
                                       .random_data = &random};
    int rc = pu_noise_ops.start(&config, &side[i]);
    PU_ASSERT(rc == 0);
  }
  int rc = pu_test_handshake(side[0], side[1], SIZE_MAX);
  PU_ASSERT(rc == 0);
  plan p = {.honest = true};
  write_wire(side[0], &p, data, size);
  receive(side[1], &p);
  for (int i = 0; i < 2; i++)
    pu_noise_ops.free(side[i]);
  pu_mem_deinit(&mem);
  pu_key_free(key);
  return 0;
}
