/* TLS handshakes against hostile bytes. Byte 0 chooses: bit 0 our role; bit 1 how long an honest
 * peer goes on before the input speaks in its place: 0  not at all: the input is what arrives, in
 * pieces of byte 1 1  its first flight is honest but for the bytes that the input changes: pairs of
 * place and mask GnuTLS's keys are fresh in every run, so the second finds what the first cannot.
 */
#include "support/tls_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STRANGER_MAX (64 * 1024) /* what a peer may cost before it is known */

/* Certificates take long to make: once for all runs. Nothing else is kept. */
static tls_pair *kept(void) {
  static tls_pair p;
  if (p.ops == NULL)
    tls_pair_init(&p);
  return &p;
}

static void feed(const pu_security_ops *ops, pu_security *s, const uint8_t *in, size_t len,
                 size_t chunk) {
  uint8_t out[4096];
  while (len > 0) {
    ssize_t n;
    while ((n = ops->write(s, out, sizeof out)) > 0) {
    }
    if (n < 0)
      break;
    const size_t piece = len < chunk ? len : chunk;
    const ssize_t used = ops->read(s, in, piece);
    if (used <= 0)
      break;
    PU_ASSERT((size_t)used <= piece);
    in += used;
    len -= (size_t)used;
  }
  while (ops->last(s, out, sizeof out) > 0) {
  }
  PU_ASSERT(ops->result(s) == NULL); /* nobody proves anything by chance */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2)
    return 0;
  tls_pair *p = kept();
  const int ours = (data[0] & 1) != 0 ? 0 : 1; /* [0] begins */
  pu_mem mem;
  pu_mem_init(&mem, NULL, STRANGER_MAX);
  p->config[ours].mem = &mem;
  tls_pair_start(p);
  if ((data[0] & 2) == 0) {
    feed(p->ops, p->side[ours], data + 2, size - 2, data[1] == 0 ? SIZE_MAX : data[1]);
  } else {
    uint8_t flight[8192];
    size_t len = 0;
    if (ours == 0)
      (void)tls_pair_carry(p->ops, p->side[0], p->side[1], SIZE_MAX);
    for (ssize_t n; (n = p->ops->write(p->side[1 - ours], flight + len, sizeof flight - len)) > 0;)
      len += (size_t)n;
    for (size_t i = 2; i + 2 < size && len > 0; i += 3) {
      const size_t at = ((size_t)data[i] << 8 | data[i + 1]) % len;
      flight[at] ^= data[i + 2];
    }
    if (p->ops->read(p->side[ours], flight, len) >= 0)
      (void)tls_pair_handshake(p, SIZE_MAX);
    while (p->ops->last(p->side[ours], flight, sizeof flight) > 0) {
    }
  }
  PU_ASSERT(mem.refused == 0); /* the bound is kept without running into the account's */
  for (int i = 0; i < 2; i++) {
    p->ops->free(p->side[i]);
    p->side[i] = NULL;
  }
  pu_mem_deinit(&mem);
  p->config[ours].mem = &p->mem[ours];
  return 0;
}
