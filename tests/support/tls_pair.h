/* Two sessions of a security protocol in this process talking to each other over memory, with
 * identities that follow from a number: for the unit tests and fuzz targets of TLS. */
#ifndef PU_TESTS_TLS_PAIR_H
#define PU_TESTS_TLS_PAIR_H

#include "security/tls_identity.h"
#include "support/noise_pair.h"

#define TLS_PAIR_NOW_S UINT64_C(1767225600) /* 2026 */

typedef struct tls_pair {
  const pu_security_ops *ops;
  pu_mem mem[2], identity_mem;
  pu_key *key[2];
  pu_tls_identity *identity[2];
  uint32_t random;
  pu_security_config config[2]; /* [0] begins */
  pu_security *side[2];
} tls_pair;

static inline void tls_pair_init(tls_pair *p) {
  static const char *const muxers[] = {"/yamux/1.0.0"};
  *p = (tls_pair){.ops = &pu_tls_ops, .random = 1};
  pu_mem_init(&p->identity_mem, NULL, PU_MEM_UNLIMITED);
  for (int i = 0; i < 2; i++) {
    pu_mem_init(&p->mem[i], NULL, PU_MEM_UNLIMITED);
    p->key[i] = pu_test_key((uint8_t)(i + 1));
    int rc = pu_tls_identity_new(&p->identity_mem, p->key[i], TLS_PAIR_NOW_S, &p->identity[i]);
    PU_ASSERT(rc == 0);
    p->config[i] = (pu_security_config){.mem = &p->mem[i],
                                        .initiator = i == 0,
                                        .key = p->key[i],
                                        .tls = p->identity[i],
                                        .now_unix_s = TLS_PAIR_NOW_S,
                                        .muxers = muxers,
                                        .muxer_count = 1,
                                        .random = pu_test_random,
                                        .random_data = &p->random};
  }
}

static inline void tls_pair_start(tls_pair *p) {
  for (int i = 0; i < 2; i++) {
    int rc = p->ops->start(&p->config[i], &p->side[i]);
    PU_ASSERT(rc == 0);
  }
}

/* tls_pair_stop frees the sessions and checks that nothing of them is left. */
static inline void tls_pair_stop(tls_pair *p) {
  for (int i = 0; i < 2; i++) {
    p->ops->free(p->side[i]);
    p->side[i] = NULL;
    pu_mem_deinit(&p->mem[i]);
    pu_mem_init(&p->mem[i], NULL, PU_MEM_UNLIMITED);
  }
}

static inline void tls_pair_deinit(tls_pair *p) {
  tls_pair_stop(p);
  for (int i = 0; i < 2; i++) {
    pu_tls_identity_free(p->identity[i]);
    pu_key_free(p->key[i]);
  }
  pu_mem_deinit(&p->identity_mem);
}

/* tls_pair_carry moves what |from| has to say to |to|, at most |chunk| bytes at a time. Returns the
 * bytes moved, or the first error of either. */
static inline ssize_t tls_pair_carry(const pu_security_ops *ops, pu_security *from, pu_security *to,
                                     size_t chunk) {
  uint8_t bytes[16384];
  size_t moved = 0;
  if (chunk > sizeof bytes)
    chunk = sizeof bytes;
  for (;;) {
    const ssize_t n = ops->write(from, bytes, chunk);
    if (n < 0)
      return n;
    if (n == 0)
      return (ssize_t)moved;
    for (size_t done = 0; done < (size_t)n;) {
      const ssize_t used = ops->read(to, bytes + done, (size_t)n - done);
      if (used < 0)
        return used;
      if (used == 0)
        return PU_E_AGAIN; /* bytes nobody took */
      done += (size_t)used;
    }
    moved += (size_t)n;
  }
}

/* tls_pair_handshake runs a whole handshake: 0, or the first error. */
static inline int tls_pair_handshake(tls_pair *p, size_t chunk) {
  for (;;) {
    ssize_t a = tls_pair_carry(p->ops, p->side[0], p->side[1], chunk);
    if (a < 0)
      return (int)a;
    ssize_t b = tls_pair_carry(p->ops, p->side[1], p->side[0], chunk);
    if (b < 0)
      return (int)b;
    if (a == 0 && b == 0)
      return 0;
  }
}

/* tls_pair_record seals |len| bytes at |text| into |out|; returns the record's bytes. */
static inline size_t tls_pair_record(const pu_security_ops *ops, pu_security *from, uint8_t *out,
                                     const void *text, size_t len) {
  memcpy(out + ops->head, text, len);
  pu_span io = {out + ops->head, len, ops->head, ops->tail};
  int rc = ops->seal(from, &io);
  PU_ASSERT(rc == 0 && (len == 0 || io.data == out));
  return io.len;
}

#endif
