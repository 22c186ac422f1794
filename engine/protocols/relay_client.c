/* Reservations and incoming circuits; see relay_client.h and wire 13.
 *
 *   a kept reservation:  asking --OK--> active --interval--> asking ...
 *                           \--failure--> waiting --back-off--> asking
 *
 * An event's listener may do anything, also give up the reservation that it is told of: whoever calls
 * what may tell one keeps the struct with enter and leave, and looks at |dropped| afterwards. */
#include "protocols/relay_client.h"
#include "identity/envelope.h"
#include "platform/assert.h"
#include "protocols/circuit.h"
#include "protocols/relay_send.h"
#include "swarm/conn.h"
#include "swarm/op.h"
#include "swarm/peerstore.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OPEN_TIMEOUT_MS 30000u
#define STOP_TIMEOUT_US 60000000u
#define REFRESH_MIN_US 1000000u /* whatever end a relay gives, it is not asked more often */

typedef struct client {
  pu_module base;
  pu_engine *engine;
  pu_list relays;   /* kept.link */
  pu_list incoming; /* incoming.link */
  uint32_t incoming_count;
} client;

typedef struct kept {
  pu_list link;
  client *client;
  pu_peer_id relay;
  pu_multiaddr addr;    /* <relay addr>/p2p/R */
  pu_multiaddr circuit; /* our own address through it */
  uint64_t interval_us;
  pu_timer timer; /* the next try, or the deadline of this one */
  pu_op *op;
  pu_stream *stream;
  uint64_t conn_id; /* the connection that asked last: the reservation lives as long as it */
  bool asking, dropped;
  unsigned busy; /* calls that use it; the last one frees what was dropped */
  uint32_t failures;
  pu_reservation_info info;
  pu_relay_reader reader;
} kept;

/* ---- a reservation ---- */

static void ask(kept *k);

static void close_stream(kept *k) {
  pu_stream *s = k->stream;
  k->stream = NULL;
  if (s != NULL)
    pu_stream_close(s);
}

static void enter(kept *k) {
  k->busy++;
}

static void leave(kept *k) {
  if (--k->busy > 0 || !k->dropped || k->op != NULL) /* on_open comes after a cancelled open */
    return;
  pu_timer_stop(&k->timer);
  pu_free(k);
}

static void set_active(kept *k, bool active) {
  pu_engine *e = k->client->engine;
  if (k->info.active == active)
    return;
  k->info.active = active;
  if (active)
    (void)pu_engine_add_relay_addr(e, &k->circuit);
  else
    pu_engine_remove_relay_addr(e, &k->circuit);
}

static uint64_t retry_after(kept *k) {
  uint64_t pause = PU_RELAY_RETRY_FIRST_US;
  uint32_t chance;
  for (uint32_t i = 1; i < k->failures && pause < PU_RELAY_RETRY_MAX_US; i++)
    pause *= 2;
  if (pause > PU_RELAY_RETRY_MAX_US)
    pause = PU_RELAY_RETRY_MAX_US;
  pu_random(k->client->engine->platform, &chance, sizeof chance);
  return pause * 3 / 4 + pause / 2 * (chance % 1024) / 1024; /* 0.75 to 1.25 of it */
}

static void plan(kept *k, uint64_t after_us) {
  if (pu_timer_after(&k->timer, after_us) != 0)
    PU_LOG(&k->client->engine->log, PU_LOG_WARN, "relay", "out of memory: no further reservation");
}

/* failed ends a try. An active reservation that could not be refreshed goes on until it expires or the
 * connection to the relay ends; only then it counts as lost. */
static void failed(kept *k, int status, const char *detail) {
  pu_engine *e = k->client->engine;
  const uint64_t now_s = pu_wall_ns(e->platform) / 1000000000u;
  enter(k);
  k->asking = false;
  k->failures++;
  k->info.last_status = status;
  (void)snprintf(k->info.detail, sizeof k->info.detail, "%s", detail);
  plan(k, retry_after(k));
  close_stream(k);
  if (k->info.active && (k->info.expires_unix_s <= now_s ||
                         pu_engine_find_conn(e, &k->relay, true) == NULL))
    set_active(k, false);
  if (!k->dropped)
    pu_engine_emit(e, PU_EVENT_RESERVATION_LOST, NULL, &k->relay, NULL, status, k->info.detail);
  leave(k);
}

static int check_voucher(const kept *k, const pu_relay_message *m) {
  static const uint8_t type[2] = {0x03, 0x02};
  pu_engine *e = k->client->engine;
  pu_envelope envelope;
  pu_voucher voucher;
  if (m->voucher.len == 0)
    return 0; /* absent is fine: the Go client takes it, too */
  int status = pu_envelope_open(&e->mem, PU_ENVELOPE_VOUCHER_DOMAIN, type, m->voucher.data,
                                m->voucher.len, &envelope);
  if (status == 0)
    status = pu_voucher_decode(envelope.payload, envelope.payload_len, &voucher);
  if (status != 0)
    return status;
  return pu_peer_id_equal(&envelope.signer, &k->relay) &&
                 pu_peer_id_equal(&voucher.relay, &k->relay) &&
                 pu_peer_id_equal(&voucher.peer, pu_engine_peer(e))
             ? 0
             : PU_E_CRYPTO;
}

static void granted(kept *k, const pu_relay_message *m) {
  pu_engine *e = k->client->engine;
  const uint64_t now_s = pu_wall_ns(e->platform) / 1000000000u;
  char detail[160] = "without limits";
  enter(k);
  k->asking = false;
  k->failures = 0;
  k->info.last_status = 0;
  k->info.detail[0] = '\0';
  k->info.expires_unix_s = m->expire;
  k->info.limit_duration_s = m->has_limit ? m->limit_duration_s : 0;
  k->info.limit_data_bytes = m->has_limit ? m->limit_data_bytes : 0;
  if (m->has_limit)
    (void)snprintf(detail, sizeof detail,
                   "each connection through it may last %" PRIu32 " s and carry %" PRIu64
                   " bytes each way",
                   m->limit_duration_s, m->limit_data_bytes);
  uint64_t next = k->interval_us;
  const uint64_t left_s = m->expire - now_s; /* any number: a relay's word is not multiplied */
  if (left_s < next / 750000u)
    next = left_s * 750000u;
  plan(k, next > REFRESH_MIN_US ? next : REFRESH_MIN_US);
  set_active(k, true);
  close_stream(k); /* which may end the connection, and with it what was granted */
  if (!k->dropped && k->info.active)
    pu_engine_emit(e, PU_EVENT_RESERVED, NULL, &k->relay, NULL, 0, detail);
  leave(k);
}

static void on_answer(kept *k) {
  pu_engine *e = k->client->engine;
  pu_relay_message m;
  char detail[128];
  int status = pu_relay_reader_decode(&k->reader, false, &m);
  if (status != 0 || m.type != PU_RELAY_STATUS || !m.has_status) {
    failed(k, PU_E_PROTOCOL, "the relay's answer makes no sense");
  } else if (m.status != PU_RELAY_OK) {
    (void)snprintf(detail, sizeof detail, "the relay says %s%s", pu_relay_status_name(m.status),
                   m.status == PU_RELAY_PERMISSION_DENIED
                       ? ": it does not know us; have its owner authorize our peer ID"
                   : m.status == PU_RELAY_RESERVATION_REFUSED ? ": it has no room for more peers"
                                                              : "");
    failed(k, pu_relay_status_error(m.status), detail);
  } else if (!m.has_reservation || m.expire <= pu_wall_ns(e->platform) / 1000000000u) {
    failed(k, PU_E_PROTOCOL, "the relay's reservation has already expired; check both clocks");
  } else if (check_voucher(k, &m) != 0) {
    failed(k, PU_E_CRYPTO, "the relay's voucher is not valid");
  } else {
    granted(k, &m);
  }
}

static size_t kept_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  kept *k = user;
  bool done;
  (void)s;
  (void)head;
  (void)tail;
  if (!k->asking)
    return len;
  ssize_t used = pu_relay_reader_feed(&k->reader, data, len, &done);
  if (used < 0)
    failed(k, (int)used, "the relay's answer makes no sense");
  else if (done)
    on_answer(k);
  return len;
}

static void kept_on_eof(void *user, pu_stream *s) {
  kept *k = user;
  (void)s;
  if (k->asking)
    failed(k, PU_E_EOF, "the relay closed the stream without an answer");
}

static void kept_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  kept *k = user;
  (void)s;
  (void)code;
  k->stream = NULL;
  if (k->asking)
    failed(k, status, status == PU_E_UNSUPPORTED ? "this peer is not a relay"
                                                 : "the relay broke off");
}

static const pu_stream_events kept_events = {kept_on_data, kept_on_eof, NULL, kept_on_end};

static void say_reserve(kept *k, pu_stream *s) {
  const pu_relay_message m = {.type = PU_RELAY_RESERVE};
  k->conn_id = pu_stream_conn(s)->id;
  const int status = pu_relay_send_first(s, &m, &kept_events, k);
  if (status == 0)
    k->stream = s;
  if (k->dropped)
    close_stream(k);
  else if (status != 0)
    failed(k, status, "cannot write to the relay");
}

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  kept *k = data;
  enter(k);
  k->op = NULL;
  if (k->dropped) {
    if (s != NULL)
      pu_stream_reset(s, 0);
  } else if (status != 0) {
    char detail[256];
    (void)snprintf(detail, sizeof detail, "%s",
                   status == PU_E_UNSUPPORTED ? "this peer is not a relay" : err->detail);
    failed(k, status, detail);
  } else {
    say_reserve(k, s);
  }
  leave(k);
}

static void ask(kept *k) {
  static const char *const protocols[] = {PU_RELAY_HOP_ID};
  pu_engine *e = k->client->engine;
  pu_op *op = NULL;
  enter(k);
  k->asking = true;
  k->reader.len = k->reader.size = 0;
  plan(k, PU_RELAY_TIMEOUT_US);
  int status =
      pu_engine_open_stream(e, &k->relay, protocols, 1, 0, OPEN_TIMEOUT_MS, on_open, k, &op);
  if (status == 0)
    k->op = op;
  if (status == 0 && k->dropped)
    pu_op_cancel(op);
  else if (status != 0 && !k->dropped)
    failed(k, status, "cannot connect to the relay");
  leave(k);
}

static void on_timer(void *data) {
  kept *k = data;
  if (!k->asking)
    ask(k);
  else if (k->op == NULL)
    failed(k, PU_E_TIMEOUT, "the relay does not answer");
}

/* ---- the public face ---- */

static client *client_of(const pu_engine *e) {
  return (client *)e->relay_client;
}

static kept *find(client *c, const pu_peer_id *relay) {
  PU_LIST_EACH(&c->relays, node, tmp) {
    kept *k = PU_CONTAINER_OF(node, kept, link);
    if (pu_peer_id_equal(&k->relay, relay))
      return k;
  }
  return NULL;
}

/* relay_addr reads "<relay addr>/p2p/R", with or without /p2p-circuit behind it. */
static int relay_addr(const char *text, pu_multiaddr *out, pu_peer_id *relay, pu_error *err) {
  pu_ma_target target;
  int status = pu_multiaddr_from_text(text, strlen(text), out, err);
  if (status != 0)
    return status;
  pu_multiaddr_target(out, &target);
  if (target.kind == PU_MA_KIND_CIRCUIT && target.relay_addr.len != 0) {
    *out = target.relay_addr;
    *relay = target.relay;
    return 0;
  }
  *relay = target.peer;
  if (target.kind == PU_MA_KIND_OTHER || target.kind == PU_MA_KIND_CIRCUIT)
    return pu_error_set(err, PU_E_UNSUPPORTED, "%s is not the address of a relay", text);
  if (relay->len == 0)
    return pu_error_set(err, PU_E_INVAL, "%s lacks the relay's peer ID: add /p2p/<id>", text);
  return 0;
}

int pu_engine_reserve(pu_engine *e, const char *addr, uint32_t interval_s, pu_error *err) {
  client *c = client_of(e);
  pu_multiaddr a;
  pu_peer_id relay;
  int status = relay_addr(addr, &a, &relay, err);
  if (status != 0)
    return status;
  if (pu_peer_id_equal(&relay, pu_engine_peer(e)))
    return pu_error_set(err, PU_E_INVAL, "%s is this node itself", addr);
  char text[PU_MULTIADDR_MAX_TEXT];
  status = pu_engine_add_addr(e, &relay, pu_multiaddr_text(&a, text), UINT32_MAX, err);
  if (status != 0)
    return status;
  if (find(c, &relay) != NULL)
    return 0; /* another address of a relay that is kept already */
  kept *k = pu_zalloc(&e->mem, sizeof *k);
  if (k == NULL)
    return pu_error_set(err, PU_E_NOMEM, "no memory for a reservation");
  k->client = c;
  k->relay = k->info.relay = relay;
  k->addr = k->circuit = a;
  k->interval_us = (interval_s == 0 ? PU_RELAY_INTERVAL_S : interval_s) * 1000000ull;
  pu_timer_init(&k->timer, e->platform, on_timer, k);
  status = pu_multiaddr_append_circuit(&k->circuit);
  if (status == 0)
    status = pu_engine_protect(e, &relay, true);
  if (status == 0)
    status = pu_timer_after(&k->timer, 0);
  if (status != 0) {
    pu_free(k);
    return pu_error_set(err, status, "cannot keep a reservation at %s", addr);
  }
  pu_list_push(&c->relays, &k->link);
  return 0;
}

static void drop(kept *k) {
  pu_engine *e = k->client->engine;
  enter(k);
  pu_list_remove(&k->link);
  k->asking = false;
  k->dropped = true;
  set_active(k, false);
  close_stream(k);
  (void)pu_engine_protect(e, &k->relay, false);
  pu_timer_stop(&k->timer);
  if (k->op != NULL)
    pu_op_cancel(k->op);
  leave(k);
}

void pu_engine_unreserve(pu_engine *e, const pu_peer_id *relay) {
  const pu_peer_id id = *relay; /* it may be the reservation's own */
  kept *k = find(client_of(e), relay);
  if (k == NULL)
    return;
  drop(k);
  /* It was known for the reservation, by its address and by guesses (docs/adr/0008-ways-to-a-relay.md). */
  pu_peerstore_drop_given(e->peerstore, &id);
}

void pu_engine_reservations(const pu_engine *e,
                            void (*each)(void *data, const pu_reservation_info *info), void *data) {
  client *c = client_of(e);
  PU_LIST_EACH(&c->relays, node, tmp) {
    each(data, &PU_CONTAINER_OF(node, kept, link)->info);
  }
}

/* ---- incoming circuits: the stop protocol ---- */

typedef struct incoming {
  pu_list link;
  client *client;
  pu_stream *stream;
  pu_timer timer;
  pu_relay_reader reader;
} incoming;

static void end_incoming(incoming *in) {
  pu_timer_stop(&in->timer);
  pu_list_remove(&in->link);
  in->client->incoming_count--;
  pu_free(in);
}

static void refuse(incoming *in, uint32_t code) {
  pu_stream *s = in->stream;
  const pu_relay_message m = {
      .stop = true, .type = PU_RELAY_STATUS, .has_status = true, .status = code};
  end_incoming(in);
  pu_relay_send_last(s, &m);
}

static void take(incoming *in, const pu_relay_message *m) {
  pu_engine *e = in->client->engine;
  const pu_relay_message ok = {
      .stop = true, .type = PU_RELAY_STATUS, .has_status = true, .status = PU_RELAY_OK};
  pu_transport_conn conn;
  pu_stream *s = in->stream;
  int status = pu_circuit_conn_fill(s, m->has_limit, m->limit_duration_s, m->limit_data_bytes, &conn);
  end_incoming(in);
  if (status != 0) {
    pu_stream_reset(s, 0);
    return;
  }
  if (pu_relay_send_first(s, &ok, NULL, NULL) != 0)
    return;
  if (pu_circuit_raw_new(e, s, &conn, &conn.raw) == 0)
    pu_engine_accept(e, &conn); /* the policy is asked there */
}

static size_t incoming_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                               size_t tail) {
  incoming *in = user;
  pu_relay_message m;
  bool done;
  (void)s;
  (void)head;
  (void)tail;
  ssize_t used = pu_relay_reader_feed(&in->reader, data, len, &done);
  if (used < 0) {
    refuse(in, PU_RELAY_MALFORMED_MESSAGE);
    return len;
  }
  if (!done)
    return (size_t)used;
  if (pu_relay_reader_decode(&in->reader, true, &m) != 0)
    refuse(in, PU_RELAY_MALFORMED_MESSAGE);
  else if (m.type != PU_RELAY_CONNECT || !m.has_peer)
    refuse(in, PU_RELAY_UNEXPECTED_MESSAGE);
  else
    take(in, &m);
  return (size_t)used;
}

static void incoming_on_eof(void *user, pu_stream *s) {
  incoming *in = user;
  end_incoming(in);
  pu_stream_reset(s, 0);
}

static void incoming_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)s;
  (void)status;
  (void)code;
  end_incoming(user);
}

static const pu_stream_events incoming_events = {incoming_on_data, incoming_on_eof, NULL,
                                                 incoming_on_end};

static void on_incoming_timer(void *data) {
  incoming *in = data;
  pu_stream *s = in->stream;
  end_incoming(in);
  pu_stream_reset(s, 0);
}

static int on_stop(void *data, pu_stream *s) {
  client *c = data;
  const pu_conn *conn = pu_stream_conn(s);
  const kept *k = find(c, &conn->peer);
  /* Only a relay at which we asked for it may bring connections, and not through another. */
  if (k == NULL || conn->info.relayed)
    return PU_E_DENIED;
  if (c->incoming_count >= PU_RELAY_INCOMING_MAX)
    return PU_E_LIMIT;
  incoming *in = pu_zalloc(&c->engine->mem, sizeof *in);
  if (in == NULL)
    return PU_E_NOMEM;
  in->client = c;
  in->stream = s;
  pu_timer_init(&in->timer, c->engine->platform, on_incoming_timer, in);
  int status = pu_timer_after(&in->timer, STOP_TIMEOUT_US);
  if (status != 0) {
    pu_free(in);
    return status;
  }
  pu_list_push(&c->incoming, &in->link);
  c->incoming_count++;
  pu_stream_set_events(s, &incoming_events, in);
  return 0;
}

/* ---- module ---- */

static void on_conn_close(pu_module *m, pu_conn *conn) {
  client *c = (client *)m;
  kept *k = find(c, &conn->peer);
  if (k == NULL || conn->info.relayed || !k->info.active || c->engine->closing)
    return;
  if (pu_engine_find_conn(c->engine, &conn->peer, true) != NULL) {
    /* Another connection stands, but the reservation may have gone with this one. */
    if (conn->id == k->conn_id && !k->asking)
      plan(k, 0);
    return;
  }
  enter(k);
  k->info.last_status = PU_E_GONE;
  (void)snprintf(k->info.detail, sizeof k->info.detail, "the connection to the relay ended: %.180s",
                 conn->end_detail);
  if (!k->asking)
    plan(k, 0); /* at once; a failure then begins the back-off */
  set_active(k, false);
  if (!k->dropped)
    pu_engine_emit(c->engine, PU_EVENT_RESERVATION_LOST, NULL, &k->relay, NULL, PU_E_GONE,
                   k->info.detail);
  leave(k);
}

static void on_close(pu_module *m) {
  client *c = (client *)m;
  while (!pu_list_empty(&c->relays))
    drop(PU_CONTAINER_OF(c->relays.next, kept, link));
}

static void free_client(pu_module *m) {
  pu_free(m);
}

static const pu_module_ops client_ops = {
    .on_conn_close = on_conn_close, .on_close = on_close, .free = free_client};

int pu_relay_client_start(pu_engine *e) {
  pu_transport *transport;
  client *c = pu_zalloc(&e->mem, sizeof *c);
  if (c == NULL)
    return PU_E_NOMEM;
  c->base.ops = &client_ops;
  c->engine = e;
  pu_list_init(&c->relays);
  pu_list_init(&c->incoming);
  e->relay_client = &c->base;
  pu_engine_add_module(e, &c->base);
  int status = pu_circuit_transport_new(e, &transport);
  if (status != 0)
    return status;
  pu_engine_add_transport(e, transport);
  return pu_engine_serve(e, PU_RELAY_STOP_ID, on_stop, c);
}
