/* A TLS 1.3 session of GnuTLS between two pieces of memory (RFC 8446). See tls_priv.h.
 *
 * GnuTLS pulls from |in|, which holds what the running call was given, and pushes to |out| or,
 * while a record is sealed, to where its payload lies. It reads a record's header and then exactly
 * its body, so that it never takes bytes behind the handshake; open gives it one record at a time.
 * What it allocates is outside our accounts: a session is charged a fixed sum, and what a peer can
 * make it keep is bounded by the length of the handshake, and afterwards by that of a run of
 * records without payload.
 *
 * After the handshake only tickets, which we ignore, and key updates may come. GnuTLS would answer
 * a key update with our next record, which has no room for one more: so it is made to answer at
 * once, into |out|, and our own keys are renewed by write, never inside seal. */
#include <errno.h>
#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"
#include "security/tls_priv.h"

#define MAX_FRAGMENT_LENGTH 1 /* extensions: RFC 6066, RFC 8449 */
#define RECORD_SIZE_LIMIT 28

static size_t get_be16(const uint8_t *in) {
  return (size_t)in[0] << 8 | in[1];
}

/* end_with ends the session for good; what is left to say waits for last. */
static int end_with(pu_tls_session *s, int status, const char *why) {
  if (s->error == 0) {
    s->error = status;
    s->why = why;
  }
  return s->error;
}

/* ---- GnuTLS's door ---- */

static ssize_t pull(gnutls_transport_ptr_t data, void *out, size_t len) {
  pu_tls_session *s = data;
  if (s->in_len == 0) {
    gnutls_transport_set_errno(s->tls, EAGAIN);
    return -1;
  }
  if (len > s->in_len)
    len = s->in_len;
  memcpy(out, s->in, len);
  s->in += len;
  s->in_len -= len;
  return (ssize_t)len;
}

static int pull_timeout(gnutls_transport_ptr_t data, unsigned timeout_ms) {
  const pu_tls_session *s = data;
  (void)timeout_ms;
  return s->in_len > 0 ? 1 : 0;
}

static ssize_t push(gnutls_transport_ptr_t data, const void *in, size_t len) {
  pu_tls_session *s = data;
  if (s->record != NULL) {
    if (len > s->record_cap - s->record_len) {
      gnutls_transport_set_errno(s->tls, EMSGSIZE);
      return -1;
    }
    memcpy(s->record + s->record_len, in, len);
    s->record_len += len;
    return (ssize_t)len;
  }
  uint8_t *out = NULL;
  if (len <= PU_TLS_OUT_MAX - s->out_len)
    out = pu_realloc(s->mem, s->out, s->out_len + len);
  if (out == NULL) {
    /* Noted here: GnuTLS overlooks some failures, but the bytes are lost. */
    (void)end_with(s, PU_E_NOMEM, "out of memory");
    gnutls_transport_set_errno(s->tls, ENOMEM);
    return -1;
  }
  memcpy(out + s->out_len, in, len);
  s->out = out;
  s->out_len += len;
  return (ssize_t)len;
}

/* Extensions by which a client would ask for shorter records are not answered, so that nothing is
 * agreed on: a record of ours must fit where its payload lies. A server's wish ends the handshake
 * (pu_tls_guard). */
static int ignore_extension(gnutls_session_t tls, const unsigned char *data, size_t len) {
  (void)tls;
  (void)data;
  (void)len;
  return 0;
}
static int omit_extension(gnutls_session_t tls, gnutls_buffer_t out) {
  (void)tls;
  (void)out;
  return 0;
}

/* ---- errors ---- */

/* on_alert names what a peer's alert means. */
static int on_alert(gnutls_alert_description_t alert, const char **why) {
  switch ((int)alert) {
  case GNUTLS_A_BAD_CERTIFICATE:
  case GNUTLS_A_UNSUPPORTED_CERTIFICATE:
  case GNUTLS_A_CERTIFICATE_REVOKED:
  case GNUTLS_A_CERTIFICATE_UNKNOWN:
  case GNUTLS_A_UNKNOWN_CA:
  case GNUTLS_A_CERTIFICATE_REQUIRED:
    *why = "the peer did not accept our certificate";
    return PU_E_CRYPTO;
  case GNUTLS_A_CERTIFICATE_EXPIRED:
    *why = "the peer takes our certificate for expired: check the clocks";
    return PU_E_CRYPTO;
  case GNUTLS_A_ACCESS_DENIED:
    *why = "the peer denied access";
    return PU_E_DENIED;
  case GNUTLS_A_NO_APPLICATION_PROTOCOL:
    *why = "the peer speaks none of our protocols inside TLS";
    return PU_E_UNSUPPORTED;
  case GNUTLS_A_HANDSHAKE_FAILURE:
  case GNUTLS_A_PROTOCOL_VERSION:
  case GNUTLS_A_INSUFFICIENT_SECURITY:
    *why = "the peer speaks no version or cipher of TLS that we do";
    return PU_E_UNSUPPORTED;
  default:
    *why = "the peer ended TLS with an alert";
    return PU_E_PROTOCOL;
  }
}

static int status_of(const pu_tls_session *s, int code, const char **why) {
  switch (code) {
  case GNUTLS_E_FATAL_ALERT_RECEIVED:
  case GNUTLS_E_WARNING_ALERT_RECEIVED:
    return on_alert(gnutls_alert_get(s->tls), why);
  case GNUTLS_E_MEMORY_ERROR:
  case GNUTLS_E_PUSH_ERROR:
    *why = "out of memory";
    return PU_E_NOMEM;
  case GNUTLS_E_NO_APPLICATION_PROTOCOL:
    *why = "the peer speaks none of our protocols inside TLS";
    return PU_E_UNSUPPORTED;
  case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
  case GNUTLS_E_NO_CIPHER_SUITES:
  case GNUTLS_E_NO_COMMON_KEY_SHARE:
    *why = "the peer speaks no version or cipher of TLS that we do";
    return PU_E_UNSUPPORTED;
  case GNUTLS_E_UNIMPLEMENTED_FEATURE: /* of pu_tls_guard */
    *why = "the peer wants records smaller than ours";
    return PU_E_UNSUPPORTED;
  case GNUTLS_E_NO_CERTIFICATE_FOUND:
  case GNUTLS_E_CERTIFICATE_REQUIRED:
    *why = "the peer showed no certificate";
    return PU_E_CRYPTO;
  case GNUTLS_E_CERTIFICATE_ERROR: /* of pu_tls_guard: a judgement has told its reason already */
    *why = "the key of the peer's certificate is too long or of no use";
    return PU_E_CRYPTO;
  case GNUTLS_E_PK_SIG_VERIFY_FAILED:
  case GNUTLS_E_PK_INVALID_PUBKEY:
    *why = "the peer does not hold its certificate's key";
    return PU_E_CRYPTO;
  case GNUTLS_E_DECRYPTION_FAILED:
    *why = "a record does not decrypt";
    return PU_E_CRYPTO;
  default:
    *why = "the peer broke TLS";
    return PU_E_PROTOCOL;
  }
}

/* fail ends the session because of GnuTLS's |code|, and lets it compose its alert. */
static int fail(pu_tls_session *s, int code) {
  const char *why = NULL;
  const int status = status_of(s, code, &why);
  if (code != GNUTLS_E_PUSH_ERROR && code != GNUTLS_E_FATAL_ALERT_RECEIVED)
    (void)gnutls_alert_send_appropriate(s->tls, code);
  return end_with(s, status, why);
}

static int on_verify(gnutls_session_t tls) {
  pu_tls_session *s = gnutls_session_get_ptr(tls);
  const char *why = NULL;
  const int status = s->verify(s, &why);
  if (status == 0)
    return 0;
  (void)end_with(s, status, why);
  return GNUTLS_E_CERTIFICATE_ERROR;
}

/* ---- life ---- */

/* override takes an extension from GnuTLS. */
static int override(gnutls_session_t tls, const char *name, int extension) {
  const unsigned flags = GNUTLS_EXT_FLAG_OVERRIDE_INTERNAL | GNUTLS_EXT_FLAG_TLS |
                         GNUTLS_EXT_FLAG_CLIENT_HELLO | GNUTLS_EXT_FLAG_EE;
  return gnutls_session_ext_register(tls, name, extension, GNUTLS_EXT_TLS, ignore_extension,
                                     omit_extension, NULL, NULL, NULL, flags);
}

int pu_tls_session_new(pu_mem *mem, size_t size, bool initiator, unsigned flags,
                       pu_tls_session **out) {
  pu_tls_session *s = pu_zalloc(mem, size);
  if (s == NULL)
    return PU_E_NOMEM;
  if (pu_mem_charge(mem, PU_TLS_SESSION_BYTES) != 0) {
    pu_free(s);
    return PU_E_NOMEM;
  }
  flags |= GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_NO_AUTO_REKEY;
  flags |=
      initiator ? GNUTLS_CLIENT | GNUTLS_KEY_SHARE_TOP : GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET;
  if (gnutls_init(&s->tls, flags) != 0)
    s->tls = NULL;
  if (s->tls == NULL ||
      (!initiator && (override(s->tls, "fragment length", MAX_FRAGMENT_LENGTH) != 0 ||
                      override(s->tls, "size limit", RECORD_SIZE_LIMIT) != 0))) {
    if (s->tls != NULL)
      gnutls_deinit(s->tls);
    pu_mem_uncharge(mem, PU_TLS_SESSION_BYTES);
    pu_free(s);
    return PU_E_NOMEM;
  }
  s->mem = mem;
  s->initiator = initiator;
  gnutls_session_set_ptr(s->tls, s);
  gnutls_transport_set_ptr(s->tls, s);
  gnutls_transport_set_pull_function(s->tls, pull);
  gnutls_transport_set_pull_timeout_function(s->tls, pull_timeout);
  gnutls_transport_set_push_function(s->tls, push);
  gnutls_session_set_verify_function(s->tls, on_verify);
  *out = s;
  return 0;
}

void pu_tls_session_free(pu_security *p) {
  pu_tls_session *s = pu_tls_session_of(p);
  if (s == NULL)
    return;
  gnutls_deinit(s->tls);
  if (s->release != NULL)
    s->release(s);
  pu_mem_uncharge(s->mem, PU_TLS_SESSION_BYTES);
  pu_free(s->out);
  pu_free_secret(s);
}

/* ---- handshake ---- */

/* step lets the handshake go on as far as |in| reaches: 0 (it wants more, or is done), or an error.
 */
static int step(pu_tls_session *s) {
  s->begun = true;
  for (;;) {
    const size_t before = s->in_len;
    const int code = gnutls_handshake(s->tls);
    if (s->error == PU_E_NOMEM)
      return s->error;
    if (code == 0) {
      const char *why = NULL;
      const int status = s->finish(s, &why);
      if (status != 0)
        return end_with(s, status, why);
      s->done = true;
      return 0;
    }
    if (gnutls_error_is_fatal(code) != 0 || code == GNUTLS_E_WARNING_ALERT_RECEIVED)
      return fail(s, code);
    if (s->in_len == 0 || s->in_len == before)
      return 0;
  }
}

ssize_t pu_tls_session_read(pu_security *p, const uint8_t *in, size_t len) {
  pu_tls_session *s = pu_tls_session_of(p);
  if (s->error != 0)
    return s->error;
  if (s->done || (s->initiator && !s->begun) || len == 0)
    return 0;
  const size_t given = len < s->taken_max - s->taken ? len : s->taken_max - s->taken;
  if (given == 0)
    return end_with(s, PU_E_LIMIT, "the peer's handshake is too long");
  s->in = in;
  s->in_len = given;
  const int status = step(s);
  const size_t used = given - s->in_len;
  s->in = NULL;
  s->in_len = 0;
  s->taken += used;
  if (status != 0)
    return status;
  if (used == 0 && !s->done)
    return end_with(s, PU_E_PROTOCOL, "the peer broke TLS");
  return (ssize_t)used;
}

/* take_out copies what waits to be written. */
static size_t take_out(pu_tls_session *s, uint8_t *out, size_t cap) {
  size_t n = s->out_len - s->out_pos;
  if (n == 0)
    return 0;
  if (n > cap)
    n = cap;
  memcpy(out, s->out + s->out_pos, n);
  s->out_pos += n;
  if (s->out_pos == s->out_len) {
    pu_free(s->out);
    s->out = NULL;
    s->out_len = s->out_pos = 0;
  }
  return n;
}

ssize_t pu_tls_session_write(pu_security *p, uint8_t *out, size_t cap) {
  pu_tls_session *s = pu_tls_session_of(p);
  if (s->error != 0)
    return s->error;
  if (s->initiator && !s->begun) {
    const int status = step(s);
    if (status != 0)
      return status;
  }
  if (s->done && s->sealed >= PU_TLS_REKEY_RECORDS) {
    const int code = gnutls_session_key_update(s->tls, 0);
    if (code != 0)
      return fail(s, code);
    s->sealed = 0;
  }
  return (ssize_t)take_out(s, out, cap);
}

const pu_security_result *pu_tls_session_result(const pu_security *p) {
  const pu_tls_session *s = (const pu_tls_session *)(const void *)p;
  return s->done && s->error == 0 && s->out == NULL ? &s->result : NULL;
}

/* ---- records ---- */

int pu_tls_session_seal(pu_security *p, pu_span *io) {
  pu_tls_session *s = pu_tls_session_of(p);
  if (s->error != 0)
    return s->error;
  PU_ASSERT(s->done && s->in == NULL);
  PU_ASSERT(io->len <= PU_TLS_MAX_PLAIN && io->head >= PU_TLS_HEAD && io->tail >= PU_TLS_TAIL);
  if (io->len == 0)
    return 0; /* GnuTLS makes no empty records, and nobody needs one */
  if (s->sealed >= 2 * PU_TLS_REKEY_RECORDS)
    return end_with(s, PU_E_LIMIT, "too many records with one key");
  const size_t whole = PU_TLS_HEAD + io->len + PU_TLS_TAIL;
  s->record = io->data - PU_TLS_HEAD;
  s->record_cap = whole;
  s->record_len = 0;
  const ssize_t n = gnutls_record_send(s->tls, io->data, io->len);
  s->record = NULL;
  if (n < 0)
    return fail(s, (int)n);
  if ((size_t)n != io->len || s->record_len != whole)
    return end_with(s, PU_E_CRYPTO, "a record came out as it should not");
  s->sealed++;
  io->data -= PU_TLS_HEAD;
  io->head -= PU_TLS_HEAD;
  io->tail -= PU_TLS_TAIL;
  io->len = whole;
  return 0;
}

ssize_t pu_tls_session_open(pu_security *p, uint8_t *in, size_t len, pu_span *plain) {
  pu_tls_session *s = pu_tls_session_of(p);
  if (s->error != 0)
    return s->error;
  PU_ASSERT(s->done);
  if (len < PU_TLS_HEAD)
    return 0;
  const size_t body = get_be16(in + 3);
  if (body > PU_TLS_MAX_BODY)
    return fail(s, GNUTLS_E_RECORD_OVERFLOW);
  if (len < PU_TLS_HEAD + body)
    return 0;
  s->in = in;
  s->in_len = PU_TLS_HEAD + body;
  /* All of the record is in GnuTLS's memory before the payload is copied back to where it lay. */
  const ssize_t n = gnutls_record_recv(s->tls, in + PU_TLS_HEAD, body);
  const size_t left = s->in_len;
  s->in = NULL;
  s->in_len = 0;
  if (n == 0)
    return end_with(s, PU_E_EOF, "the peer ended TLS");
  if (n < 0 && n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
    return fail(s, (int)n);
  if (left != 0)
    return fail(s, GNUTLS_E_UNEXPECTED_PACKET);
  /* No payload: a handshake message, which may want an answer. GnuTLS gives it with the next
   * record, and refuses to make an empty one for it: the result says nothing. */
  if (n > 0) {
    s->barren = 0;
  } else {
    (void)gnutls_record_send(s->tls, "", 0);
    s->barren += PU_TLS_HEAD + body;
    if (s->barren > PU_TLS_BARREN_MAX)
      return end_with(s, PU_E_LIMIT, "the peer sends TLS records without payload");
    if (s->error != 0)
      return s->error;
  }
  *plain = (pu_span){.data = in + PU_TLS_HEAD,
                     .len = n > 0 ? (size_t)n : 0,
                     .head = PU_TLS_HEAD,
                     .tail = body - (n > 0 ? (size_t)n : 0)};
  return (ssize_t)(PU_TLS_HEAD + body);
}

size_t pu_tls_session_need(const pu_security *p, const uint8_t *in, size_t len) {
  (void)p;
  if (len < PU_TLS_HEAD)
    return PU_TLS_HEAD - len;
  const size_t total = PU_TLS_HEAD + get_be16(in + 3);
  return total > len ? total - len : 1;
}

/* ---- ends ---- */

size_t pu_tls_session_last(pu_security *p, uint8_t *out, size_t cap) {
  pu_tls_session *s = pu_tls_session_of(p);
  if (s->done && !s->farewell && (s->error == 0 || s->error == PU_E_EOF)) {
    s->farewell = true;
    (void)gnutls_bye(s->tls, GNUTLS_SHUT_WR);
    (void)end_with(s, PU_E_CLOSED, NULL);
  }
  return s->error != 0 ? take_out(s, out, cap) : 0;
}

const char *pu_tls_session_why(const pu_security *p) {
  return ((const pu_tls_session *)(const void *)p)->why;
}
