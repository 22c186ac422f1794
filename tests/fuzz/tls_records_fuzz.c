/* TLS records: the input is a program that writes what one side receives, then how it arrives.
 *   op % 8 == 0, 1  an honest record of (next byte * (op >> 3)) bytes, up to 7905
 *             2     new keys, then an honest record of (next byte) bytes
 *             3     an honest record of (next byte) bytes with bit (op >> 3) flipped
 *             4     a farewell
 *             5..7  (op >> 3) raw bytes of the input
 * Every honest record before the first that is none must arrive as it was sent. */
#include "security/tls_priv.h"
#include "support/tls_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WIRE_MAX (256 * 1024)
#define RECORDS_MAX 64

typedef struct plan {
  size_t len;                  /* of the wire */
  size_t lengths[RECORDS_MAX]; /* of the honest records in front */
  size_t count;
  bool honest; /* so far */
} plan;

static uint8_t wire[WIRE_MAX]; /* what arrives */

static uint8_t letter(size_t record, size_t at) {
  return (uint8_t)(record * 31 + at);
}

static bool put_record(pu_security *s, plan *p, size_t len) {
  const size_t total = len + PU_TLS_HEAD + PU_TLS_TAIL;
  if (WIRE_MAX - p->len < total || p->count == RECORDS_MAX || len == 0)
    return false;
  pu_span io = {wire + p->len + PU_TLS_HEAD, len, PU_TLS_HEAD, PU_TLS_TAIL};
  for (size_t i = 0; i < len; i++)
    io.data[i] = letter(p->count, i);
  const int rc = pu_tls_ops.seal(s, &io);
  PU_ASSERT(rc == 0 && io.len == total);
  p->len += total;
  if (p->honest)
    p->lengths[p->count++] = len;
  return true;
}

static void write_wire(pu_security *s, plan *p, const uint8_t *in, size_t len) {
  while (len >= 2) {
    const uint8_t op = in[0], arg = in[1], kind = op % 8;
    if (kind >= 5) {
      in++;
      len--;
      const size_t n = (size_t)(op >> 3) < len ? (size_t)(op >> 3) : len;
      if (n > WIRE_MAX - p->len)
        return;
      memcpy(wire + p->len, in, n);
      p->len += n;
      p->honest = p->honest && n == 0;
      in += n;
      len -= n;
      continue;
    }
    in += 2;
    len -= 2;
    if (kind == 4) {
      p->honest = false;
      p->len += pu_tls_ops.last(s, wire + p->len, WIRE_MAX - p->len);
      return; /* nothing can be sealed after it */
    }
    if (kind == 2) {
      pu_tls_session_of(s)->sealed = PU_TLS_REKEY_RECORDS;
      const ssize_t n = pu_tls_ops.write(s, wire + p->len, WIRE_MAX - p->len);
      if (n <= 0)
        return;
      p->len += (size_t)n;
    }
    const size_t start = p->len;
    p->honest = p->honest && kind != 3;
    if (!put_record(s, p, kind < 2 ? (size_t)arg * (op >> 3) : arg))
      continue;
    if (kind == 3)
      wire[start + (op >> 3) % (p->len - start)] ^= 1;
  }
}

static void read_wire(pu_security *s, const plan *p) {
  size_t at = 0, record = 0;
  while (at < p->len) {
    pu_span plain;
    const size_t need = pu_tls_ops.need(s, wire + at, p->len - at);
    PU_ASSERT(need >= 1 && need <= 65540);
    const ssize_t used = pu_tls_ops.open(s, wire + at, p->len - at, &plain);
    if (used <= 0) {
      PU_ASSERT(record >= p->count || used == PU_E_PROTOCOL); /* too many new keys, at most */
      break;
    }
    PU_ASSERT((size_t)used <= p->len - at && plain.data >= wire + at &&
              plain.data + plain.len <= wire + at + used);
    if (plain.len > 0 && record < p->count) {
      PU_ASSERT(plain.len == p->lengths[record]);
      for (size_t i = 0; i < plain.len; i++)
        PU_ASSERT(plain.data[i] == letter(record, i));
      record++;
    }
    at += (size_t)used;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static tls_pair p; /* certificates take long to make: once for all runs */
  if (p.ops == NULL)
    tls_pair_init(&p);
  if (size < 1)
    return 0;
  tls_pair_start(&p);
  const int rc = tls_pair_handshake(&p, SIZE_MAX);
  PU_ASSERT(rc == 0);
  plan written = {.honest = true};
  const int from = data[0] & 1;
  write_wire(p.side[from], &written, data + 1, size - 1);
  read_wire(p.side[1 - from], &written);
  tls_pair_stop(&p);
  return 0;
}
