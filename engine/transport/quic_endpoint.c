/* One UDP socket of QUIC: whose a datagram is, by its connection ID, and what is answered to those
 * that are nobody's: version negotiation, Retry, a refusal, a stateless reset (RFC 9000 5.2,
 * 6, 8.1, 10.3). All of those cost no memory, and each has a budget per second. */
#include <sodium.h>
#include <string.h>

#include "platform/assert.h"
#include "transport/quic_priv.h"

#define READS_PER_EVENT 2 /* other sockets get their turn after so many */
#define FIRST_BUCKETS 16u
#define RETRY_LIFETIME_NS (10u * NGTCP2_SECONDS)
#define RESET_MIN_BYTES 22u /* of an answer: below it is told from a packet by its length */
#define RESET_MAX_BYTES 40u
#define INITIAL_MIN_BYTES 1200u
#define VERSIONS_MAX_BYTES \
  544u /* of a version negotiation: connection IDs of other versions have up to 255 */

/* ---- connection IDs ---- */

static size_t bucket_of(const quic_endpoint *ep, const uint8_t *cid, size_t len) {
  uint64_t hash;
  uint8_t out[crypto_shorthash_BYTES];
  (void)crypto_shorthash(out, cid, len, ep->quic->table_key);
  memcpy(&hash, out, sizeof hash);
  return (size_t)hash & (ep->bucket_count - 1);
}

static quic_entry *find(const quic_endpoint *ep, const uint8_t *cid, size_t len) {
  if (ep->bucket_count == 0)
    return NULL;
  quic_entry *e = ep->buckets[bucket_of(ep, cid, len)];
  while (e != NULL && (e->len != len || memcmp(e->bytes, cid, len) != 0))
    e = e->next;
  return e;
}

static void unhash(quic_endpoint *ep, quic_entry *entry) {
  quic_entry **at = &ep->buckets[bucket_of(ep, entry->bytes, entry->len)];
  while (*at != entry)
    at = &(*at)->next;
  *at = entry->next;
  ep->entry_count--;
}

static int grow(quic_endpoint *ep) {
  const size_t count = ep->bucket_count == 0 ? FIRST_BUCKETS : ep->bucket_count * 2;
  quic_entry **old = ep->buckets;
  const size_t old_count = ep->bucket_count;
  quic_entry **buckets = pu_zalloc(ep->quic->config.mem, count * sizeof(quic_entry *));
  if (buckets == NULL)
    return old == NULL ? PU_E_NOMEM : 0; /* longer chains will do */
  ep->buckets = buckets;
  ep->bucket_count = count;
  for (size_t i = 0; i < old_count; i++) {
    for (quic_entry *e = old[i], *next; e != NULL; e = next) {
      next = e->next;
      quic_entry **at = &buckets[bucket_of(ep, e->bytes, e->len)];
      e->next = *at;
      *at = e;
    }
  }
  pu_free(old);
  return 0;
}

int pu_quic_endpoint_enter(quic_endpoint *ep, quic_session *s, const uint8_t *cid, size_t len) {
  if (len > NGTCP2_MAX_CIDLEN)
    return PU_E_PROTOCOL;
  if (find(ep, cid, len) != NULL)
    return PU_E_EXISTS;
  if (ep->entry_count >= ep->bucket_count) {
    const int status = grow(ep);
    if (status != 0)
      return status;
  }
  quic_entry *e = pu_zalloc(ep->quic->config.mem, sizeof *e);
  if (e == NULL)
    return PU_E_NOMEM;
  e->session = s;
  e->len = (uint8_t)len;
  memcpy(e->bytes, cid, len);
  quic_entry **at = &ep->buckets[bucket_of(ep, cid, len)];
  e->next = *at;
  *at = e;
  ep->entry_count++;
  e->of = s->entries;
  s->entries = e;
  return 0;
}

void pu_quic_endpoint_leave(quic_endpoint *ep, quic_session *s, const uint8_t *cid, size_t len) {
  for (quic_entry **at = &s->entries; *at != NULL; at = &(*at)->of) {
    quic_entry *e = *at;
    if (e->len != len || memcmp(e->bytes, cid, len) != 0)
      continue;
    *at = e->of;
    unhash(ep, e);
    pu_free(e);
    return;
  }
}

static void free_entries(quic_endpoint *ep, quic_entry *entries) {
  for (quic_entry *e = entries, *next; e != NULL; e = next) {
    next = e->of;
    unhash(ep, e);
    pu_free(e);
  }
}

/* ---- what has ended ---- */

static void free_tomb(quic_endpoint *ep, quic_tomb *t) {
  pu_list_remove(&t->link);
  ep->tomb_count--;
  free_entries(ep, t->entries);
  pu_free(t);
}

static void on_tombs(void *data) {
  quic_endpoint *ep = data;
  const uint64_t now = pu_now_us(ep->quic->config.platform);
  PU_LIST_EACH(&ep->tombs, node, tmp) {
    quic_tomb *t = PU_CONTAINER_OF(node, quic_tomb, link);
    if (t->until_us <= now)
      free_tomb(ep, t);
  }
  if (!pu_list_empty(&ep->tombs))
    (void)pu_timer_at(&ep->tomb_timer, PU_CONTAINER_OF(ep->tombs.next, quic_tomb, link)->until_us);
}

void pu_quic_endpoint_bury(quic_endpoint *ep, quic_session *s, const uint8_t *packet, size_t len,
                           uint64_t for_us) {
  quic_tomb *t = NULL;
  if (for_us > 0 && s->entries != NULL && !ep->closed)
    t = pu_zalloc(ep->quic->config.mem, sizeof *t + len);
  if (t == NULL) { /* late packets are nobody's then: no harm, a stateless reset at worst */
    free_entries(ep, s->entries);
    s->entries = NULL;
    return;
  }
  if (ep->tomb_count == PU_QUIC_TOMBS_MAX)
    free_tomb(ep, PU_CONTAINER_OF(ep->tombs.next, quic_tomb, link));
  t->until_us = pu_now_us(ep->quic->config.platform) + for_us;
  t->local = s->local;
  t->remote = s->remote;
  t->len = len;
  if (len > 0)
    memcpy(t->packet, packet, len);
  t->entries = s->entries;
  s->entries = NULL;
  for (quic_entry *e = t->entries; e != NULL; e = e->of) {
    e->session = NULL;
    e->tomb = t;
  }
  pu_list_push(&ep->tombs, &t->link);
  ep->tomb_count++;
  if (!pu_timer_armed(&ep->tomb_timer))
    (void)pu_timer_at(&ep->tomb_timer, t->until_us);
}

/* ---- sending ---- */

bool pu_quic_endpoint_is_full(const quic_endpoint *ep) {
  return ep->pending != NULL;
}

bool pu_quic_endpoint_send(quic_endpoint *ep, const pu_datagrams *batch) {
  pu_datagrams rest = *batch;
  PU_ASSERT(ep->pending == NULL);
  while (rest.len > 0) {
    ssize_t sent = pu_udp_send(ep->udp, &rest);
    if (sent == PU_E_AGAIN)
      break;
    if (sent <= 0) /* too long for the path, or nowhere to go: as if it was lost on the way */
      sent = (ssize_t)(rest.segment < rest.len ? rest.segment : rest.len);
    else
      ep->quic->stats.datagrams_out += ((size_t)sent + rest.segment - 1) / rest.segment;
    rest.data += sent;
    rest.len -= (size_t)sent;
  }
  if (rest.len == 0)
    return true;
  ep->pending = pu_alloc(ep->quic->config.mem, rest.len);
  if (ep->pending == NULL)
    return true; /* lost: QUIC repeats it */
  memcpy(ep->pending, rest.data, rest.len);
  ep->pending_batch = rest;
  ep->pending_batch.data = ep->pending;
  pu_udp_want(ep->udp, PU_WANT_READ | PU_WANT_WRITE);
  return false;
}

static void on_writable(void *data) {
  quic_endpoint *ep = data;
  uint8_t *memory = ep->pending;
  const pu_datagrams batch = ep->pending_batch;
  ep->busy++;
  ep->pending = NULL;
  pu_udp_want(ep->udp, PU_WANT_READ);
  if (memory != NULL)
    (void)pu_quic_endpoint_send(ep, &batch);
  pu_free(memory);
  while (ep->pending == NULL && !pu_list_empty(&ep->waiting)) {
    quic_session *s = PU_CONTAINER_OF(ep->waiting.next, quic_session, wait);
    pu_list_remove(&s->wait);
    pu_quic_session_write(s);
  }
  ep->busy--;
}

/* answer sends one datagram of our own making to the sender of |to|. */
static void answer(quic_endpoint *ep, const pu_datagrams *to, uint8_t *data, ngtcp2_ssize len) {
  if (len <= 0 || ep->pending != NULL)
    return;
  const pu_datagrams batch = {.local = to->local,
                              .remote = to->remote,
                              .data = data,
                              .len = (size_t)len,
                              .segment = (size_t)len};
  if (pu_udp_send(ep->udp, &batch) > 0) /* what does not go is lost */
    ep->quic->stats.datagrams_out++;
}

/* ---- datagrams that are nobody's ---- */

static void send_reset(quic_endpoint *ep, const pu_datagrams *from, const ngtcp2_version_cid *vc,
                       size_t len) {
  pu_quic *q = ep->quic;
  uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], random[RESET_MAX_BYTES],
      out[RESET_MAX_BYTES + 32];
  ngtcp2_cid cid;
  /* Shorter than what it answers, so that two of us cannot answer each other for ever. */
  if (len <= RESET_MIN_BYTES)
    return;
  const size_t total = len - 1 < RESET_MAX_BYTES ? len - 1 : RESET_MAX_BYTES;
  if (total < NGTCP2_STATELESS_RESET_TOKENLEN + NGTCP2_MIN_STATELESS_RESET_RANDLEN)
    return;
  ngtcp2_cid_init(&cid, vc->dcid, vc->dcidlen);
  pu_random(q->config.platform, random, sizeof random);
  if (ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_key, sizeof q->reset_key,
                                                   &cid) != 0)
    return;
  q->stats.resets++;
  answer(ep, from, out,
         ngtcp2_pkt_write_stateless_reset(out, sizeof out, token, random,
                                          total - NGTCP2_STATELESS_RESET_TOKENLEN));
}

/* unknown_short handles a packet whose connection ID is nobody's: it may be a stateless reset,
 * which only its sender's address and its last bytes tell, or it asks for one of ours. The look
 * through all connections has the same budget as the answer. */
static void unknown_short(quic_endpoint *ep, const pu_datagrams *from, const ngtcp2_version_cid *vc,
                          uint8_t *data, size_t len) {
  pu_quic *q = ep->quic;
  q->stats.dropped++;
  if (!pu_quic_spend(q, &q->reset_budget, PU_QUIC_RESETS_PER_S))
    return;
  PU_LIST_EACH(&ep->sessions, node, tmp) {
    quic_session *s = PU_CONTAINER_OF(node, quic_session, link);
    if (!pu_sockaddr_equal(&s->remote, &from->remote))
      continue;
    pu_quic_session_read(s, from, data, len);
    if (s->reset_by_peer)
      return;
  }
  send_reset(ep, from, vc, len);
}

static void send_versions(quic_endpoint *ep, const pu_datagrams *from,
                          const ngtcp2_version_cid *vc) {
  pu_quic *q = ep->quic;
  static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
  uint8_t out[VERSIONS_MAX_BYTES], random;
  if (!pu_quic_spend(q, &q->vn_budget, PU_QUIC_RESETS_PER_S))
    return;
  pu_random(q->config.platform, &random, 1);
  q->stats.version_negotiations++;
  answer(ep, from, out,
         ngtcp2_pkt_write_version_negotiation(out, sizeof out, random, vc->scid, vc->scidlen,
                                              vc->dcid, vc->dcidlen, versions, PU_COUNT(versions)));
}

static void send_retry(quic_endpoint *ep, const pu_datagrams *from, const ngtcp2_pkt_hd *hd) {
  pu_quic *q = ep->quic;
  uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN], out[256], random[QUIC_CID_BYTES];
  ngtcp2_path_storage path;
  ngtcp2_cid scid;
  if (!pu_quic_spend(q, &q->retry_budget, PU_QUIC_RETRIES_PER_S))
    return;
  pu_random(q->config.platform, random, sizeof random);
  ngtcp2_cid_init(&scid, random, sizeof random);
  pu_quic_path(&ep->bound, &from->remote, &path);
  const ngtcp2_ssize token_len = ngtcp2_crypto_generate_retry_token(
      token, q->token_key, sizeof q->token_key, hd->version, path.path.remote.addr,
      path.path.remote.addrlen, &scid, &hd->dcid, pu_quic_now(q));
  if (token_len <= 0)
    return;
  q->stats.retries++;
  answer(ep, from, out,
         ngtcp2_crypto_write_retry(out, sizeof out, hd->version, &hd->scid, &scid, &hd->dcid, token,
                                   (size_t)token_len));
}

static void send_refusal(quic_endpoint *ep, const pu_datagrams *from, const ngtcp2_pkt_hd *hd,
                         uint64_t code) {
  pu_quic *q = ep->quic;
  uint8_t out[256];
  if (!pu_quic_spend(q, &q->retry_budget, PU_QUIC_RETRIES_PER_S))
    return;
  answer(ep, from, out,
         ngtcp2_crypto_write_connection_close(out, sizeof out, hd->version, &hd->scid, &hd->dcid,
                                              code, NULL, 0));
}

/* ---- beginnings ---- */

typedef struct quic_incoming {
  pu_native base;
  quic_endpoint *endpoint;
  const pu_datagrams *packet;
  const ngtcp2_pkt_hd *hd;
  const ngtcp2_cid *odcid; /* NULL: the address is not proven */
  pu_session *session;
} quic_incoming;

static int start_incoming(pu_native *base, const pu_session_config *config, pu_session **out) {
  quic_incoming *i = (quic_incoming *)base;
  const int status =
      pu_quic_session_server(i->endpoint, i->packet, i->hd, i->odcid, config, &i->session);
  if (status == 0)
    *out = i->session;
  return status;
}

static void discard_incoming(pu_native *base, int status) {
  quic_incoming *i = (quic_incoming *)base;
  (void)status;
  send_refusal(i->endpoint, i->packet, i->hd, NGTCP2_CONNECTION_REFUSED);
}

static const pu_native_ops incoming_ops = {start_incoming, discard_incoming};

/* token_of checks a Retry token of ours: 1 good, 0 none, negative: bad. */
static int token_of(quic_endpoint *ep, const pu_datagrams *packet, const ngtcp2_pkt_hd *hd,
                    ngtcp2_cid *odcid) {
  pu_quic *q = ep->quic;
  ngtcp2_path_storage path;
  size_t len;
  const uint8_t *token = pu_ngtcp2_token(hd, &len);
  if (len == 0 || token[0] != NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY)
    return 0;
  pu_quic_path(&ep->bound, &packet->remote, &path);
  return ngtcp2_crypto_verify_retry_token(odcid, token, len, q->token_key, sizeof q->token_key,
                                          hd->version, path.path.remote.addr,
                                          path.path.remote.addrlen, &hd->dcid, RETRY_LIFETIME_NS,
                                          pu_quic_now(q)) == 0
             ? 1
             : PU_E_PROTOCOL;
}

static void accept_packet(quic_endpoint *ep, const pu_datagrams *packet, uint8_t *data,
                          size_t len) {
  pu_quic *q = ep->quic;
  ngtcp2_pkt_hd hd;
  ngtcp2_cid odcid;
  if (len < INITIAL_MIN_BYTES || ngtcp2_accept(&hd, data, len) != 0) {
    q->stats.dropped++;
    return;
  }
  const int proven = token_of(ep, packet, &hd, &odcid);
  if (proven < 0) {
    send_refusal(ep, packet, &hd, NGTCP2_INVALID_TOKEN);
    return;
  }
  if (proven == 0 && q->stats.half_open >= PU_QUIC_HALF_OPEN_MAX) {
    send_retry(ep, packet, &hd);
    return;
  }
  quic_incoming incoming = {.base = {&incoming_ops, PU_QUIC_PREAUTH_BYTES},
                            .endpoint = ep,
                            .packet = packet,
                            .hd = &hd,
                            .odcid = proven ? &odcid : NULL};
  pu_transport_conn conn = {.native = &incoming.base, .transport = "quic-v1"};
  pu_multiaddr_from_udp(&packet->local, &conn.local);
  pu_multiaddr_from_udp(&packet->remote, &conn.remote);
  q->config.on_accept(q->config.data, &conn);
  if (incoming.session != NULL)
    pu_quic_session_read((quic_session *)incoming.session, packet, data, len);
}

static void tomb_packet(quic_endpoint *ep, quic_tomb *t) {
  t->seen++;
  if (t->len == 0 || (t->seen & (t->seen - 1)) != 0)
    return;
  const pu_datagrams to = {.local = t->local, .remote = t->remote};
  answer(ep, &to, t->packet, (ngtcp2_ssize)t->len);
}

/* dispatch finds out whose one datagram is. */
static void dispatch(quic_endpoint *ep, const pu_datagrams *from, uint8_t *data, size_t len) {
  pu_quic *q = ep->quic;
  ngtcp2_version_cid vc;
  q->stats.datagrams_in++;
  if (len == 0 || len > QUIC_DATAGRAM_MAX) { /* ngtcp2 asserts that there is something */
    q->stats.dropped++;
    return;
  }
  const int status = ngtcp2_pkt_decode_version_cid(&vc, data, len, QUIC_CID_BYTES);
  /* ngtcp2 knows drafts and version 2, too; we speak version 1 only, and 0 is that of a
   * negotiation. */
  const bool foreign = status == NGTCP2_ERR_VERSION_NEGOTIATION ||
                       (status == 0 && (data[0] & 0x80) != 0 && vc.version != 0 &&
                        vc.version != NGTCP2_PROTO_VER_V1);
  if (foreign && ep->listening && len >= INITIAL_MIN_BYTES) {
    send_versions(ep, from, &vc);
    return;
  }
  if (status != 0 || foreign) {
    q->stats.dropped++;
    return;
  }
  pu_quic_make_room(q);
  if (ep->closed)
    return;
  const quic_entry *e = find(ep, vc.dcid, vc.dcidlen);
  if (e != NULL && e->session != NULL) {
    pu_quic_session_read(e->session, from, data, len);
  } else if (e != NULL) {
    tomb_packet(ep, e->tomb);
  } else if ((data[0] & 0x80) == 0) {
    unknown_short(ep, from, &vc, data, len);
  } else if (ep->listening) {
    accept_packet(ep, from, data, len);
  } else {
    q->stats.dropped++;
  }
}

static void on_readable(void *data) {
  quic_endpoint *ep = data;
  pu_quic *q = ep->quic;
  pu_datagrams batches[PU_UDP_RECV_MAX];
  ep->busy++;
  for (int round = 0; round < READS_PER_EVENT && !ep->closed; round++) {
    for (size_t i = 0; i < PU_UDP_RECV_MAX; i++)
      batches[i] = (pu_datagrams){.data = q->rx + i * 65536u, .len = 65536u};
    const ssize_t count = pu_udp_recv(ep->udp, batches, PU_UDP_RECV_MAX);
    if (count <= 0)
      break;
    pu_quic_begin_batch(q);
    for (ssize_t i = 0; i < count; i++) {
      const pu_datagrams *b = &batches[i];
      for (size_t at = 0; at < b->len && !ep->closed; at += b->segment) {
        const size_t len = b->len - at < b->segment ? b->len - at : b->segment;
        dispatch(ep, b, b->data + at, len);
      }
    }
    pu_quic_end_batch(q);
    if (count < (ssize_t)PU_UDP_RECV_MAX)
      break;
  }
  ep->busy--;
}

static const pu_udp_events udp_events = {on_readable, on_writable};

/* ---- life ---- */

int pu_quic_endpoint_open(pu_quic *q, const pu_sockaddr *addr, bool listening,
                          quic_endpoint **out) {
  quic_endpoint *ep = pu_zalloc(q->config.mem, sizeof *ep);
  if (ep == NULL)
    return PU_E_NOMEM;
  ep->quic = q;
  ep->listening = listening;
  pu_list_init(&ep->sessions);
  pu_list_init(&ep->tombs);
  pu_list_init(&ep->waiting);
  pu_timer_init(&ep->tomb_timer, q->config.platform, on_tombs, ep);
  const int status = pu_udp_open(q->config.platform, addr, &udp_events, ep, &ep->udp);
  if (status != 0) {
    pu_free(ep);
    return status;
  }
  pu_udp_local(ep->udp, &ep->bound);
  pu_udp_want(ep->udp, PU_WANT_READ);
  pu_list_push(&q->endpoints, &ep->link);
  q->endpoint_count++;
  *out = ep;
  return 0;
}

void pu_quic_endpoint_close(quic_endpoint *ep) {
  PU_ASSERT(pu_list_empty(&ep->sessions) && ep->busy == 0);
  ep->closed = true;
  pu_timer_stop(&ep->tomb_timer);
  while (!pu_list_empty(&ep->tombs))
    free_tomb(ep, PU_CONTAINER_OF(ep->tombs.next, quic_tomb, link));
  pu_udp_close(ep->udp);
  pu_list_remove(&ep->link);
  ep->quic->endpoint_count--;
  pu_free(ep->pending);
  pu_free(ep->buckets);
  pu_free(ep);
}
