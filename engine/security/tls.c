/* /tls/1.0.0 (wire 7): both sides show a libp2p certificate, and ALPN names the muxer: the client
 * offers its muxers and then "libp2p", the server takes the first that it speaks. "libp2p", or no
 * ALPN at all, leaves the muxer to a negotiation inside.
 *
 * The client's handshake is done before the server has judged its certificate: a refusal arrives as
 * a record, and open tells it. */
#include <string.h>

#include "peerup/error.h"
#include "platform/assert.h"
#include "security/tls_identity.h"
#include "security/tls_priv.h"

#define FALLBACK "libp2p"

typedef struct tls {
  pu_tls_session base;
  pu_tls_identity *identity;
  pu_peer_id expected; /* len 0: any */
  uint64_t now_unix_s;
} tls;

static int verify(pu_tls_session *s, const char **why) {
  const tls *t = (const tls *)(const void *)s;
  return pu_tls_check_peer(t->identity, s->tls, t->now_unix_s, &t->expected, &s->result.key,
                           &s->result.peer, why);
}

static int finish(pu_tls_session *s, const char **why) {
  gnutls_datum_t name;
  if (s->result.peer.len == 0) {
    *why = "the peer showed no certificate";
    return PU_E_CRYPTO;
  }
  /* What was agreed on is one of our own names, shorter than the room. */
  if (gnutls_alpn_get_selected_protocol(s->tls, &name) == 0 &&
      !(name.size == sizeof FALLBACK - 1 && memcmp(name.data, FALLBACK, name.size) == 0)) {
    memcpy(s->result.muxer, name.data, name.size);
    s->result.muxer[name.size] = '\0';
  }
  return 0;
}

static int tls_start(const pu_security_config *config, pu_security **out) {
  const char *alpn[PU_SECURITY_MUXERS_MAX];
  const size_t count = config->muxer_count;
  pu_tls_session *s;
  if (config->tls == NULL || count >= PU_COUNT(alpn))
    return PU_E_INVAL;
  for (size_t i = 0; i < count; i++) {
    if (strlen(config->muxers[i]) >= PU_SECURITY_MUXER_NAME_MAX)
      return PU_E_INVAL;
    alpn[i] = config->muxers[i];
  }
  alpn[count] = FALLBACK;
  int status =
      pu_tls_session_new(config->mem, sizeof(tls), config->initiator, GNUTLS_FORCE_CLIENT_CERT, &s);
  if (status != 0)
    return status;
  tls *t = (tls *)(void *)s;
  s->taken_max = PU_TLS_HANDSHAKE_MAX;
  s->verify = verify;
  s->finish = finish;
  t->identity = config->tls;
  t->now_unix_s = config->now_unix_s;
  if (config->expected != NULL)
    t->expected = *config->expected;
  status = pu_tls_prepare(config->tls, s->tls, config->initiator, false, alpn, count + 1);
  if (status != 0) {
    pu_tls_session_free((pu_security *)(void *)s);
    return status;
  }
  *out = (pu_security *)(void *)s;
  return 0;
}

const pu_security_ops pu_tls_ops = {
    .id = "/tls/1.0.0",
    .head = PU_TLS_HEAD,
    .tail = PU_TLS_TAIL,
    .max_plain = PU_TLS_MAX_PLAIN,
    .max_record = PU_TLS_MAX_RECORD,
    .start = tls_start,
    .free = pu_tls_session_free,
    .read = pu_tls_session_read,
    .write = pu_tls_session_write,
    .result = pu_tls_session_result,
    .seal = pu_tls_session_seal,
    .open = pu_tls_session_open,
    .need = pu_tls_session_need,
    .last = pu_tls_session_last,
    .why = pu_tls_session_why,
};
