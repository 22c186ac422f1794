/* multistream-select 1.0 (wire 5), see multistream.h.
 *
 *   dialler:   HEADER --header--> ANSWER --echo--> END (done)
 *                                 ANSWER --na----> ANSWER with the next offer, or END (failed)
 *   listener:  HEADER --header--> OFFER --unknown--> OFFER, answering na
 *                                 OFFER --known----> END, answering with the offer; done once
 * written
 *
 * Nothing that goes out is stored: |pending| names the tokens that are still to be written, in the
 * order of its bits, and |out_pos| says how far the first of them got. Only the echo needs bytes,
 * and these lie in |in| until they are out. So the read side waits for the write side: behind the
 * header no token is taken while an offer or an answer is pending. That bounds the output to a
 * header and one token, however many offers a peer sends in one packet. */
#include "negotiate/multistream.h"

#include <string.h>

#include "base/varint.h"
#include "platform/assert.h"

#define HEADER "/multistream/1.0.0"
#define REFUSAL "na"
#define LENGTH_MAX 2 /* bytes of a length up to PU_MULTISTREAM_MAX_TOKEN */

enum { PHASE_HEADER, PHASE_OFFER, PHASE_ANSWER, PHASE_END };

/* What is to be written, in this order. */
enum { OUT_HEADER = 1, OUT_OFFER = 2, OUT_REFUSAL = 4, OUT_ECHO = 8 };

static bool text_is(const char *text, size_t len, const char *want) {
  return len == strlen(want) && memcmp(text, want, len) == 0;
}

size_t pu_multistream_token(uint8_t *out, size_t cap, const char *text, size_t len) {
  if (len >= PU_MULTISTREAM_MAX_TOKEN)
    return 0;
  size_t head = pu_varint_size(len + 1);
  if (cap < head + len + 1)
    return 0;
  (void)pu_varint_put(out, len + 1);
  if (len > 0)
    memcpy(out + head, text, len);
  out[head + len] = '\n';
  return head + len + 1;
}

ssize_t pu_multistream_parse(const uint8_t *in, size_t len, const char **text, size_t *text_len) {
  uint64_t size;
  ssize_t head = pu_varint_get(in, len, &size);
  if (head < 0 || (head == 0 && len >= LENGTH_MAX))
    return PU_E_PROTOCOL;
  if (head == 0)
    return 0;
  if (size == 0 || size > PU_MULTISTREAM_MAX_TOKEN)
    return PU_E_PROTOCOL;
  size_t total = (size_t)head + (size_t)size;
  if (len < total)
    return 0;
  if (in[total - 1] != '\n')
    return PU_E_PROTOCOL;
  *text = (const char *)in + head;
  *text_len = (size_t)size - 1;
  return (ssize_t)total;
}

void pu_multistream_dial(pu_multistream *m, const char *const *offers, size_t count, bool lazy) {
  PU_ASSERT(count > 0 && (count == 1 || !lazy));
  for (size_t i = 0; i < count; i++)
    PU_ASSERT(strlen(offers[i]) < PU_MULTISTREAM_MAX_TOKEN);
  memset(m, 0, offsetof(pu_multistream, in));
  m->dialer = true;
  m->lazy = lazy;
  m->offers = offers;
  m->offer_count = count;
  m->pending = OUT_HEADER | OUT_OFFER;
}

void pu_multistream_listen(pu_multistream *m, pu_multistream_match match, void *data) {
  memset(m, 0, offsetof(pu_multistream, in));
  m->match = match;
  m->match_data = data;
  m->pending = OUT_HEADER;
}

static int fail(pu_multistream *m, int code) {
  m->state = PU_MS_FAILED;
  m->phase = PHASE_END;
  m->pending = 0;
  return code;
}

static int on_answer(pu_multistream *m, const char *text, size_t len) {
  m->in_len = 0;
  if (text_is(text, len, REFUSAL)) {
    if (++m->offer == m->offer_count)
      return fail(m, PU_E_UNSUPPORTED);
    m->pending = OUT_OFFER;
    return 0;
  }
  if (!text_is(text, len, m->offers[m->offer]))
    return fail(m, PU_E_PROTOCOL);
  m->protocol = m->offers[m->offer];
  m->phase = PHASE_END;
  m->state = PU_MS_DONE;
  return 0;
}

static int on_offer(pu_multistream *m, const char *text, size_t len) {
  m->protocol = m->match(m->match_data, text, len);
  if (m->protocol != NULL) {
    m->phase = PHASE_END;
    m->pending |= OUT_ECHO; /* of what stays in |in| */
    return 0;
  }
  m->in_len = 0;
  if (m->refused == PU_MULTISTREAM_MAX_OFFERS)
    return fail(m, PU_E_LIMIT);
  m->refused++;
  m->pending |= OUT_REFUSAL;
  return 0;
}

static int on_token(pu_multistream *m, const char *text, size_t len) {
  if (m->phase == PHASE_ANSWER)
    return on_answer(m, text, len);
  if (m->phase == PHASE_OFFER)
    return on_offer(m, text, len);
  m->in_len = 0;
  if (!text_is(text, len, HEADER))
    return fail(m, PU_E_PROTOCOL);
  m->phase = m->dialer ? PHASE_ANSWER : PHASE_OFFER;
  return 0;
}

/* may_read says whether the next byte belongs to the negotiation and its turn has come. */
static bool may_read(const pu_multistream *m) {
  if (m->phase == PHASE_END)
    return false;
  return m->phase == PHASE_HEADER || (m->pending & ~OUT_HEADER) == 0;
}

/* missing returns how many bytes may be taken without reading past the token. */
static size_t missing(const pu_multistream *m) {
  uint64_t size;
  ssize_t head = pu_varint_get(m->in, m->in_len, &size);
  if (head <= 0)
    return 1;
  return (size_t)head + (size_t)size - m->in_len; /* the size is checked: parse took these bytes */
}

ssize_t pu_multistream_read(pu_multistream *m, const uint8_t *in, size_t len) {
  if (m->state == PU_MS_FAILED)
    return PU_E_CLOSED;
  size_t used = 0;
  while (used < len && may_read(m)) {
    size_t n = missing(m);
    if (n > len - used)
      n = len - used;
    memcpy(m->in + m->in_len, in + used, n);
    m->in_len = (uint16_t)(m->in_len + n);
    used += n;
    const char *text;
    size_t text_len;
    ssize_t got = pu_multistream_parse(m->in, m->in_len, &text, &text_len);
    if (got < 0)
      return fail(m, (int)got);
    if (got == 0)
      continue;
    int rc = on_token(m, text, text_len);
    if (rc != 0)
      return rc;
  }
  return (ssize_t)used;
}

/* copy_token copies as much of the token of |text| as fits, from |*pos| on; true: it is complete.
 */
static bool copy_token(const char *text, uint16_t *pos, uint8_t *out, size_t cap, size_t *written) {
  uint8_t token[PU_MULTISTREAM_MAX_TOKEN + LENGTH_MAX];
  size_t total = pu_multistream_token(token, sizeof(token), text, strlen(text));
  size_t n = total - *pos;
  if (n > cap - *written)
    n = cap - *written;
  memcpy(out + *written, token + *pos, n);
  *written += n;
  *pos = (uint16_t)(*pos + n);
  return *pos == total;
}

/* copy_echo is copy_token for the offer that lies in |in|. */
static bool copy_echo(pu_multistream *m, uint8_t *out, size_t cap, size_t *written) {
  size_t n = (size_t)(m->in_len - m->out_pos);
  if (n > cap - *written)
    n = cap - *written;
  memcpy(out + *written, m->in + m->out_pos, n);
  *written += n;
  m->out_pos = (uint16_t)(m->out_pos + n);
  return m->out_pos == m->in_len;
}

size_t pu_multistream_write(pu_multistream *m, uint8_t *out, size_t cap) {
  size_t written = 0;
  while (m->pending != 0 && written < cap) {
    uint8_t bit = (uint8_t)(m->pending & -m->pending);
    bool complete = false;
    if (bit == OUT_HEADER)
      complete = copy_token(HEADER, &m->out_pos, out, cap, &written);
    else if (bit == OUT_OFFER)
      complete = copy_token(m->offers[m->offer], &m->out_pos, out, cap, &written);
    else if (bit == OUT_REFUSAL)
      complete = copy_token(REFUSAL, &m->out_pos, out, cap, &written);
    else
      complete = copy_echo(m, out, cap, &written);
    if (!complete)
      break;
    m->pending = (uint8_t)(m->pending & ~bit);
    m->out_pos = 0;
    if (bit == OUT_ECHO)
      m->state = PU_MS_DONE;
  }
  return written;
}

pu_multistream_state pu_multistream_state_of(const pu_multistream *m) {
  return m->state;
}

const char *pu_multistream_protocol(const pu_multistream *m) {
  return m->protocol;
}
