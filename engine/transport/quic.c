/* QUIC as a transport: which socket a dial leaves from, and what all sockets share. See quic.h. */
#include "transport/quic.h"

#include <sodium.h>
#include <string.h>

#include "base/hkdf.h"
#include "platform/assert.h"
#include "transport/quic_priv.h"

/* ---- keys, budgets, buffers ---- */

void pu_quic_derive_keys(const pu_key *key, uint8_t reset[static 32], uint8_t token[static 32]) {
  static const char reset_info[] = "libp2p quic stateless reset key";
  static const char token_info[] = "libp2p quic token generator key";
  uint8_t secret[64], prk[PU_HKDF_HASH_BYTES];
  pu_key_secret(key, secret);
  pu_hkdf_extract((const uint8_t *)"", 0, secret, sizeof secret, prk);
  /* 32 bytes are never too many. */
  PU_ASSERT(pu_hkdf_expand(prk, (const uint8_t *)reset_info, sizeof reset_info - 1, reset, 32) ==
            0);
  PU_ASSERT(pu_hkdf_expand(prk, (const uint8_t *)token_info, sizeof token_info - 1, token, 32) ==
            0);
  sodium_memzero(secret, sizeof secret);
  sodium_memzero(prk, sizeof prk);
}

bool pu_quic_spend(pu_quic *q, quic_budget *budget, uint32_t per_second) {
  const uint64_t second = pu_now_us(q->config.platform) / 1000000u;
  if (second != budget->second)
    *budget = (quic_budget){.second = second};
  if (budget->used >= per_second)
    return false;
  budget->used++;
  return true;
}

static int make_buffers(pu_quic *q) {
  if (q->rx == NULL)
    q->rx = pu_alloc(q->config.mem, PU_UDP_RECV_MAX * 65536u);
  if (q->tx == NULL)
    q->tx = pu_alloc(q->config.mem, 65536u);
  if (q->gather == NULL)
    q->gather = pu_alloc(q->config.mem, PU_SPAN_HEAD + QUIC_GATHER_BYTES + PU_SPAN_TAIL);
  return q->rx != NULL && q->tx != NULL && q->gather != NULL ? 0 : PU_E_NOMEM;
}

/* ---- sockets ---- */

static int open_endpoint(pu_quic *q, const pu_sockaddr *addr, bool listening, quic_endpoint **out) {
  if (q->endpoint_count == PU_QUIC_ENDPOINTS_MAX)
    return PU_E_LIMIT;
  const int status = make_buffers(q);
  return status != 0 ? status : pu_quic_endpoint_open(q, addr, listening, out);
}

int pu_quic_listen(pu_quic *q, const pu_sockaddr *addr, pu_sockaddr *bound) {
  quic_endpoint *ep;
  const int status = open_endpoint(q, addr, true, &ep);
  if (status == 0)
    *bound = ep->bound;
  return status;
}

static bool is_any(const pu_sockaddr *sa) {
  static const uint8_t zero[16];
  return memcmp(sa->ip, zero, sa->family == 4 ? 4 : 16) == 0;
}

static bool is_loopback(const pu_sockaddr *sa) {
  static const uint8_t one[16] = {[15] = 1};
  return sa->family == 4 ? sa->ip[0] == 127 : memcmp(sa->ip, one, 16) == 0;
}

/* serves says whether a dial to |remote| can leave from |ep|: what is bound to loopback cannot
 * reach out, and the other way round. */
static bool serves(const quic_endpoint *ep, const pu_sockaddr *remote) {
  return ep->bound.family == remote->family &&
         (is_any(&ep->bound) || is_loopback(&ep->bound) == is_loopback(remote));
}

/* endpoint_for prefers a listening socket, since NATs map by port, and opens one of its own else.
 */
static int endpoint_for(pu_quic *q, const pu_sockaddr *remote, quic_endpoint **out) {
  quic_endpoint *found = NULL;
  PU_LIST_EACH(&q->endpoints, node, tmp) {
    quic_endpoint *ep = PU_CONTAINER_OF(node, quic_endpoint, link);
    if (serves(ep, remote) && (found == NULL || (ep->listening && !found->listening)))
      found = ep;
  }
  *out = found;
  if (found != NULL)
    return 0;
  const pu_sockaddr any = {.family = remote->family};
  return open_endpoint(q, &any, false, out);
}

/* ---- dials ---- */

typedef struct quic_outgoing {
  pu_native base;
  pu_quic *quic;
  pu_sockaddr remote;
} quic_outgoing;

typedef struct quic_dial {
  pu_transport_dial base;
  pu_timer turn;
  pu_sockaddr remote;
  pu_transport_dial_cb cb;
  void *data;
} quic_dial;

static int start_outgoing(pu_native *base, const pu_session_config *config, pu_session **out) {
  quic_outgoing *o = (quic_outgoing *)base;
  quic_endpoint *ep;
  int status = endpoint_for(o->quic, &o->remote, &ep);
  if (status == 0)
    status = pu_quic_session_client(ep, &o->remote, config, out);
  pu_free(o);
  return status;
}

static void discard_outgoing(pu_native *base, int status) {
  (void)status;
  pu_free(base);
}

static const pu_native_ops outgoing_ops = {start_outgoing, discard_outgoing};

/* on_turn hands the dial over: QUIC connects by its handshake, which the session does. */
static void on_turn(void *data) {
  quic_dial *d = data;
  pu_quic *q = (pu_quic *)d->base.transport;
  const pu_transport_dial_cb cb = d->cb;
  void *user = d->data;
  pu_transport_conn conn = {.transport = "quic-v1"};
  quic_outgoing *o = pu_zalloc(q->config.mem, sizeof *o);
  if (o != NULL) {
    *o = (quic_outgoing){.base = {&outgoing_ops, PU_QUIC_PREAUTH_BYTES}, .quic = q, .remote = d->remote};
    conn.native = &o->base;
    pu_multiaddr_from_udp(&d->remote, &conn.remote);
  }
  pu_free(d);
  if (o == NULL)
    cb(user, PU_E_NOMEM, pu_error_sentence(PU_E_NOMEM), NULL);
  else
    cb(user, 0, "", &conn);
}

static bool can_dial(pu_transport *t, const pu_ma_target *target) {
  (void)t;
  return target->kind == PU_MA_KIND_QUIC && !target->is_dns && target->port != 0;
}

static int dial(pu_transport *t, const pu_multiaddr *addr, const pu_ma_target *target,
                pu_transport_dial_cb cb, void *data, pu_transport_dial **out) {
  pu_quic *q = (pu_quic *)t;
  (void)addr;
  quic_dial *d = pu_zalloc(q->config.mem, sizeof *d);
  if (d == NULL)
    return PU_E_NOMEM;
  d->base.transport = t;
  d->remote = target->addr;
  d->remote.port = target->port;
  d->cb = cb;
  d->data = data;
  pu_timer_init(&d->turn, q->config.platform, on_turn, d);
  const int status = pu_timer_after(&d->turn, 0);
  if (status != 0) {
    pu_free(d);
    return status;
  }
  *out = &d->base;
  return 0;
}

static void cancel(pu_transport_dial *base) {
  quic_dial *d = (quic_dial *)base;
  pu_timer_stop(&d->turn);
  pu_free(d);
}

static void free_transport(pu_transport *t) {
  pu_quic *q = (pu_quic *)t;
  pu_quic_close(q);
  pu_free(q->rx);
  pu_free(q->tx);
  pu_free(q->gather);
  sodium_memzero(q->token_key, sizeof q->token_key);
  pu_free(q);
}

static const pu_transport_ops transport_ops = {.name = "quic-v1",
                                               .can_dial = can_dial,
                                               .dial = dial,
                                               .cancel = cancel,
                                               .free = free_transport};

/* ---- life ---- */

int pu_quic_new(const pu_quic_config *config, pu_quic **out) {
  pu_quic *q = pu_zalloc(config->mem, sizeof *q);
  if (q == NULL)
    return PU_E_NOMEM;
  q->base.ops = &transport_ops;
  q->config = *config;
  pu_list_init(&q->base.link);
  pu_list_init(&q->endpoints);
  pu_list_init(&q->touched);
  pu_list_init(&q->settling);
  pu_quic_derive_keys(config->key, q->reset_key, q->token_key);
  pu_random(config->platform, q->table_key, sizeof q->table_key);
  *out = q;
  return 0;
}

pu_transport *pu_quic_transport(pu_quic *q) {
  return &q->base;
}

void pu_quic_close(pu_quic *q) {
  while (!pu_list_empty(&q->endpoints))
    pu_quic_endpoint_close(PU_CONTAINER_OF(q->endpoints.next, quic_endpoint, link));
}

void pu_quic_stats_get(const pu_quic *q, pu_quic_stats *out) {
  *out = q->stats;
}
