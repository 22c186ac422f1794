/* Two Noise sessions of this process talking to each other, with keys that follow from a number:
 * for unit tests and fuzz targets. */
#ifndef PU_TESTS_NOISE_PAIR_H
#define PU_TESTS_NOISE_PAIR_H

#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"
#include "security/noise.h"

/* pu_test_random is a repeatable random source; |data| is its uint32_t state. */
static inline void pu_test_random(void *data, void *out, size_t len) {
  uint32_t *state = data;
  uint8_t *bytes = out;
  for (size_t i = 0; i < len; i++) {
    *state = *state * 1664525u + 1013904223u;
    bytes[i] = (uint8_t)(*state >> 24);
  }
}

static inline pu_key *pu_test_key(uint8_t seed) {
  uint8_t bytes[32];
  memset(bytes, seed, sizeof(bytes));
  pu_key *key = NULL;
  int rc = pu_key_from_seed(bytes, &key);
  PU_ASSERT(rc == 0);
  return key;
}

/* pu_test_carry moves what |from| has to say to |to|, at most |chunk| bytes at a time. Returns the
 * bytes moved, or the first error of either. */
static inline ssize_t pu_test_carry(pu_security *from, pu_security *to, size_t chunk) {
  uint8_t bytes[16384];
  size_t moved = 0;
  if (chunk > sizeof(bytes))
    chunk = sizeof(bytes);
  for (;;) {
    ssize_t n = pu_noise_ops.write(from, bytes, chunk);
    if (n < 0)
      return n;
    if (n == 0)
      return (ssize_t)moved;
    ssize_t used = pu_noise_ops.read(to, bytes, (size_t)n);
    if (used < 0)
      return used;
    if (used != n)
      return PU_E_AGAIN; /* bytes nobody took */
    moved += (size_t)n;
  }
}

/* pu_test_handshake runs a whole handshake: 0, or the first error. */
static inline int pu_test_handshake(pu_security *initiator, pu_security *responder, size_t chunk) {
  for (int i = 0; i < 2; i++) {
    ssize_t n = pu_test_carry(initiator, responder, chunk);
    if (n >= 0)
      n = pu_test_carry(responder, initiator, chunk);
    if (n < 0)
      return (int)n;
  }
  return 0;
}

#endif
