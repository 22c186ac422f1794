/* The relay (wire 13, ops.md): reservations, and circuits between two streams.
 *
 *   hop stream:  read message --RESERVE--> answer, close
 *                             \--CONNECT--> open stop --> ask the target --> answer --> circuit
 *
 * A circuit's bytes go from one connection's receive memory to the other's socket without a copy: the
 * header and tag of the outgoing record fit where those of the incoming one were. A receiver that is
 * slow holds its sender back through the windows; nothing is kept here.
 *
 * An event's listener may do anything, also end the peer's connection or stop the relay: whoever asks
 * the policy, which tells of denials, keeps what it asks about, and looks afterwards whether it ended. */
#include "identity/envelope.h"
#include "platform/assert.h"
#include "protocols/relay_send.h"
#include "protocols/relay_table.h"
#include "swarm/conn.h"
#include "swarm/op.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REQUESTS_MAX 256u /* hop messages and pending circuits at once */
#define REQUESTS_PER_PEER_MAX 32u /* of them one peer's: the others do not notice its flood */
#define REQUEST_TIMEOUT_US 60000000u
#define STOP_OPEN_MS 30000u

typedef struct server {
  pu_module base;
  pu_engine *engine;
  bool running;
  pu_relay_table table;
  pu_list requests, circuits;
  uint32_t request_count;
  pu_relay_stats stats;
} server;

/* A hop stream until it is answered. */
typedef struct request {
  pu_list link;
  server *server;
  pu_stream *hop, *stop;
  pu_op *op; /* opening the stop stream */
  pu_timer timer;
  pu_peer_id source, target;
  bool connecting; /* the message was a CONNECT and is being served */
  bool accepted;   /* the target said OK: the circuit begins in the loop's next turn */
  bool ended;
  unsigned busy; /* calls that use it; the last one frees what has ended */
  pu_relay_reader reader;
} request;

typedef struct circuit circuit;

/* One direction of a circuit. */
typedef struct half {
  circuit *circuit;
  struct half *other;
  pu_stream *stream; /* what this half reads from */
  uint64_t relayed;  /* bytes read here and written to the other */
  bool over;         /* no more is relayed: the end or the limit came */
} half;

struct circuit {
  pu_list link;
  server *server;
  pu_peer_id source, target;
  half halves[2]; /* of the source, of the target */
  pu_timer timer; /* the duration limit */
  bool limit_hit, ended;
  unsigned busy;
};

/* ---- circuits ---- */

static void leave(circuit *c) {
  if (--c->busy == 0 && c->ended)
    pu_free(c);
}

/* end_circuit ends both streams: with resets, or gracefully when both directions are over. A circuit in
 * which a direction came to its limit ended for that, whichever way its ends took it. */
static void end_circuit(circuit *c, bool graceful, int status, const char *detail) {
  server *s = c->server;
  if (c->ended)
    return;
  c->ended = true;
  if (c->limit_hit && status == 0) {
    status = PU_E_RELAY_LIMIT;
    detail = "the data limit of a session was reached";
  }
  s->stats.ended_by_limit += status == PU_E_RELAY_LIMIT;
  c->busy++;
  pu_timer_stop(&c->timer);
  pu_list_remove(&c->link);
  s->stats.circuits--;
  for (size_t i = 0; i < 2; i++) {
    pu_stream *stream = c->halves[i].stream;
    c->halves[i].stream = NULL;
    if (stream != NULL && graceful)
      pu_stream_close(stream);
    else if (stream != NULL)
      pu_stream_reset(stream, 0);
  }
  pu_engine_emit(s->engine, PU_EVENT_RELAY_CIRCUIT, NULL, &c->source, &c->target,
                 status == 0 ? PU_E_EOF : status, detail);
  leave(c);
}

static void half_over(half *h) {
  circuit *c = h->circuit;
  if (h->over)
    return;
  h->over = true;
  if (h->other->stream != NULL)
    (void)pu_stream_close_write(h->other->stream);
  if (c->ended || !h->other->over)
    return;
  end_circuit(c, true, 0, "closed");
}

/* pass writes to the other side in pieces that travel unsplit. A longer span gives its odd piece first, so
 * that the long one behind it keeps the room for its tag; what went before is head room, and no more than
 * that: the odd piece may be shorter than a header. */
static ssize_t pass(pu_stream *out, uint8_t *data, size_t len, size_t head, size_t tail) {
  const size_t chunk = pu_stream_chunk(out);
  size_t done = 0;
  while (done < len) {
    const size_t left = len - done;
    const size_t n = left <= chunk ? left : left % chunk != 0 ? left % chunk : chunk;
    ssize_t taken = pu_stream_write_room(out, data + done, n, n == left ? head + done : 0,
                                         n == left ? tail : 0);
    if (taken < 0)
      return taken;
    done += (size_t)taken;
    if ((size_t)taken < n)
      break;
  }
  return (ssize_t)done;
}

static size_t on_data(void *user, pu_stream *in, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  half *h = user;
  circuit *c = h->circuit;
  server *s = c->server;
  const uint64_t limit = s->table.config.session_data_bytes;
  (void)in;
  if (h->over)
    return len; /* behind the limit: dropped, as by a closed reader */
  size_t n = len;
  if (n > limit - h->relayed) {
    n = (size_t)(limit - h->relayed);
    tail = 0;
  }
  pu_stream *out = h->other->stream;
  c->busy++;
  pu_stream_cork(out);
  ssize_t taken = n > 0 ? pass(out, data, n, head, tail) : 0;
  pu_stream_uncork(out);
  size_t used = taken < 0 ? len : (size_t)taken;
  if (taken < 0) {
    end_circuit(c, false, (int)taken, "one side broke off");
  } else if (!c->ended) {
    h->relayed += (uint64_t)taken;
    s->stats.bytes += (uint64_t)taken;
    if (h->relayed == limit) {
      c->limit_hit = true;
      used = len;
      half_over(h);
    }
  }
  leave(c);
  return used;
}

static void on_eof(void *user, pu_stream *in) {
  half *h = user;
  circuit *c = h->circuit;
  (void)in;
  c->busy++;
  half_over(h);
  leave(c);
}

static void on_writable(void *user, pu_stream *s) {
  half *h = user;
  (void)s;
  if (h->other->stream != NULL)
    pu_stream_resume(h->other->stream);
}

static void on_end(void *user, pu_stream *s, int status, uint32_t code) {
  half *h = user;
  circuit *c = h->circuit;
  (void)s;
  (void)code;
  h->stream = NULL;
  end_circuit(c, false, status == PU_E_RESET ? 0 : status, "closed");
}

static const pu_stream_events circuit_events = {on_data, on_eof, on_writable, on_end};

static void on_duration(void *data) {
  end_circuit(data, false, PU_E_RELAY_LIMIT, "the duration limit of a session was reached");
}

static uint32_t circuits_of(const server *s, const pu_peer_id *peer) {
  uint32_t count = 0;
  PU_LIST_EACH(&s->circuits, c_node, c_tmp) {
    const circuit *c = PU_CONTAINER_OF(c_node, circuit, link);
    count += pu_peer_id_equal(&c->source, peer) || pu_peer_id_equal(&c->target, peer);
  }
  PU_LIST_EACH(&s->requests, r_node, r_tmp) {
    const request *r = PU_CONTAINER_OF(r_node, request, link);
    count += r->connecting &&
             (pu_peer_id_equal(&r->source, peer) || pu_peer_id_equal(&r->target, peer));
  }
  return count;
}

/* ---- requests ---- */

static void free_request(request *r) {
  pu_timer_stop(&r->timer);
  pu_list_remove(&r->link);
  r->server->request_count--;
  pu_free(r);
}

/* release ends a request whose streams have been taken care of; a pending open ends later. */
static void release(request *r) {
  r->ended = true;
  r->hop = r->stop = NULL;
  pu_timer_stop(&r->timer);
  if (r->op != NULL)
    pu_op_cancel(r->op); /* on_stop_open frees it */
  else if (r->busy == 0)
    free_request(r);
}

/* ask_about asks the policy about a request; |*ended| when the request did not live through it. */
static bool ask_about(request *r, const pu_question *question, bool *ended) {
  r->busy++;
  const bool allowed = pu_policy_ask(r->server->engine, question) == 0;
  r->busy--;
  *ended = r->ended;
  if (r->ended && r->busy == 0 && r->op == NULL)
    free_request(r);
  return allowed;
}

/* answer sends a status on the hop stream and closes it. */
static void answer(request *r, uint32_t code) {
  pu_stream *hop = r->hop;
  pu_stream *stop = r->stop;
  const pu_relay_message m = {.type = PU_RELAY_STATUS, .has_status = true, .status = code};
  if (r->connecting && code != PU_RELAY_OK && hop != NULL) /* a source that left was not refused */
    r->server->stats.refused_circuits++;
  release(r);
  if (stop != NULL)
    pu_stream_reset(stop, 0);
  if (hop != NULL)
    pu_relay_send_last(hop, &m);
}

static void set_limit(const server *s, pu_relay_message *m) {
  m->has_limit = true;
  m->limit_duration_s = s->table.config.session_duration_s;
  m->limit_data_bytes = s->table.config.session_data_bytes;
}

/* own_addrs fills in our public addresses with our peer ID (wire 13.1); returns how many. */
static size_t own_addrs(server *s, pu_multiaddr *out, size_t max) {
  size_t count = 0;
  const size_t n = pu_engine_own_addrs(s->engine, out, max);
  for (size_t i = 0; i < n; i++) {
    pu_multiaddr a = out[i];
    if (!pu_multiaddr_is_public(&a) || pu_multiaddr_is_relayed(&a) ||
        pu_multiaddr_append_p2p(&a, pu_engine_peer(s->engine)) != 0)
      continue;
    out[count++] = a;
  }
  return count;
}

static int make_voucher(server *s, const pu_peer_id *peer, uint64_t expire_s, uint8_t **out,
                        size_t *len) {
  static const uint8_t type[2] = {0x03, 0x02};
  const pu_voucher voucher = {
      .relay = *pu_engine_peer(s->engine), .peer = *peer, .expiration = expire_s};
  uint8_t *payload;
  size_t payload_len;
  int status = pu_voucher_encode(&s->engine->mem, &voucher, &payload, &payload_len);
  if (status != 0)
    return status;
  status = pu_envelope_seal(&s->engine->mem, s->engine->key, PU_ENVELOPE_VOUCHER_DOMAIN, type,
                            payload, payload_len, out, len);
  pu_free(payload);
  return status;
}

static void grant(request *r) {
  server *s = r->server;
  pu_stream *hop = r->hop;
  pu_multiaddr addrs[PU_RELAY_ADDRS_MAX];
  uint8_t *voucher = NULL;
  size_t voucher_len = 0;
  pu_relay_message m = {.type = PU_RELAY_STATUS,
                        .has_status = true,
                        .status = PU_RELAY_OK,
                        .has_reservation = true};
  m.expire = pu_wall_ns(s->engine->platform) / 1000000000u + s->table.config.reservation_ttl_s;
  m.addr_count = own_addrs(s, addrs, PU_RELAY_ADDRS_MAX);
  for (size_t i = 0; i < m.addr_count; i++)
    m.addrs[i] = (pu_relay_bytes){addrs[i].bytes, addrs[i].len};
  set_limit(s, &m);
  if (make_voucher(s, &r->source, m.expire, &voucher, &voucher_len) == 0)
    m.voucher = (pu_relay_bytes){voucher, voucher_len};
  release(r);
  pu_relay_send_last(hop, &m);
  pu_free(voucher);
}

static void reserve(request *r) {
  server *s = r->server;
  pu_conn *conn = pu_stream_conn(r->hop);
  const pu_question question = {
      .ask = PU_ASK_RESERVATION, .peer = &conn->peer, .addr = conn->addr};
  pu_reservation *reservation;
  bool ended = false;
  if (conn->info.relayed || !ask_about(r, &question, &ended)) {
    s->stats.refused_reservations++;
    if (!ended)
      answer(r, PU_RELAY_PERMISSION_DENIED);
    return;
  }
  int status = pu_relay_table_reserve(&s->table, &conn->peer, conn->id, &conn->info.remote,
                                      pu_now_us(s->engine->platform), &reservation);
  s->stats.reservations = s->table.count;
  if (status != 0) {
    s->stats.refused_reservations++;
    answer(r, PU_RELAY_RESERVATION_REFUSED);
    return;
  }
  conn->keep_until_us = reservation->expires_us;
  grant(r);
}

/* ---- connecting ---- */

static void begin_circuit(request *r) {
  server *s = r->server;
  pu_engine *e = s->engine;
  pu_relay_message m = {.type = PU_RELAY_STATUS, .has_status = true, .status = PU_RELAY_OK};
  set_limit(s, &m);
  circuit *c = pu_zalloc(&e->mem, sizeof *c);
  if (c == NULL) {
    answer(r, PU_RELAY_RESOURCE_LIMIT_EXCEEDED);
    return;
  }
  c->server = s;
  c->source = r->source;
  c->target = r->target;
  pu_stream *hop = r->hop, *stop = r->stop;
  c->halves[0] = (half){.circuit = c, .other = &c->halves[1], .stream = hop};
  c->halves[1] = (half){.circuit = c, .other = &c->halves[0], .stream = stop};
  pu_timer_init(&c->timer, e->platform, on_duration, c);
  pu_list_push(&s->circuits, &c->link);
  s->stats.circuits++;
  release(r);
  c->busy++;
  pu_stream_set_events(stop, &circuit_events, &c->halves[1]);
  /* Sending may end the source's connection, and the circuit with it. */
  int status = pu_relay_send_first(hop, &m, &circuit_events, &c->halves[0]);
  if (status != 0)
    c->halves[0].stream = NULL; /* gone, and nobody was told */
  else if (!c->ended)
    status = pu_timer_after(&c->timer, s->table.config.session_duration_s * 1000000ull);
  if (status != 0) {
    end_circuit(c, false, status, "cannot begin");
  } else if (!c->ended) {
    pu_engine_emit(e, PU_EVENT_RELAY_CIRCUIT, NULL, &c->source, &c->target, 0, "");
    /* What came in behind the messages waits in the streams. */
    for (size_t i = 0; i < 2; i++)
      if (c->halves[i].stream != NULL)
        pu_stream_resume(c->halves[i].stream);
  }
  leave(c);
}

static size_t stop_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  request *r = user;
  pu_relay_message m;
  bool done;
  (void)s;
  (void)head;
  (void)tail;
  if (r->accepted)
    return 0;
  ssize_t used = pu_relay_reader_feed(&r->reader, data, len, &done);
  if (used < 0) {
    answer(r, PU_RELAY_CONNECTION_FAILED);
    return len;
  }
  if (!done)
    return (size_t)used;
  const bool ok = pu_relay_reader_decode(&r->reader, true, &m) == 0 &&
                  m.type == PU_RELAY_STATUS && m.has_status && m.status == PU_RELAY_OK;
  if (!ok) {
    answer(r, PU_RELAY_CONNECTION_FAILED);
    return len;
  }
  /* The circuit begins in the loop's next turn: this call still holds the rest of the bytes. */
  r->accepted = true;
  if (pu_timer_after(&r->timer, 0) != 0)
    answer(r, PU_RELAY_CONNECTION_FAILED);
  return (size_t)used;
}

static void stop_on_eof(void *user, pu_stream *s) {
  (void)s;
  answer(user, PU_RELAY_CONNECTION_FAILED);
}

static void stop_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  request *r = user;
  (void)s;
  (void)status;
  (void)code;
  r->stop = NULL;
  answer(r, PU_RELAY_CONNECTION_FAILED);
}

static const pu_stream_events stop_events = {stop_on_data, stop_on_eof, NULL, stop_on_end};

static void on_stop_open(void *data, int status, const pu_error *err, pu_stream *stop) {
  request *r = data;
  server *s = r->server;
  (void)err;
  r->op = NULL;
  if (r->ended) {
    if (stop != NULL)
      pu_stream_reset(stop, 0);
    free_request(r);
    return;
  }
  if (status != 0) {
    answer(r, PU_RELAY_CONNECTION_FAILED);
    return;
  }
  pu_relay_message m = {.stop = true,
                        .type = PU_RELAY_CONNECT,
                        .has_peer = true,
                        .peer = {r->source.bytes, r->source.len}};
  set_limit(s, &m);
  r->reader.len = r->reader.size = 0;
  if (pu_relay_send_first(stop, &m, &stop_events, r) == 0)
    r->stop = stop;
  else if (!r->ended)
    answer(r, PU_RELAY_CONNECTION_FAILED);
}

/* newest_conn returns the connection that reserved last and still stands: a peer may run two programs with
 * one identity, and the one that asked for the reservation is the one to be reached. */
static pu_conn *newest_conn(server *s, const pu_reservation *reservation) {
  for (size_t i = reservation->conn_count; i > 0; i--) {
    pu_conn *c = pu_conn_find(s->engine, reservation->conns[i - 1]);
    if (c != NULL)
      return c;
  }
  return NULL;
}

static void connect_target(request *r, const pu_relay_message *m) {
  static const char *const protocols[] = {PU_RELAY_STOP_ID};
  server *s = r->server;
  const pu_conn *conn = pu_stream_conn(r->hop);
  const uint32_t most = s->table.config.max_circuits;
  if (!m->has_peer || pu_peer_id_from_bytes(m->peer.data, m->peer.len, &r->target) != 0) {
    answer(r, PU_RELAY_MALFORMED_MESSAGE);
    return;
  }
  if (pu_peer_id_equal(&r->source, &r->target)) { /* nobody takes a connection of its own identity */
    s->stats.refused_circuits++;
    answer(r, PU_RELAY_CONNECTION_FAILED);
    return;
  }
  const pu_question question = {.ask = PU_ASK_CIRCUIT,
                                .peer = &r->source,
                                .target = &r->target,
                                .addr = conn->addr};
  bool ended = false;
  if (conn->info.relayed || !ask_about(r, &question, &ended)) {
    s->stats.refused_circuits++;
    if (!ended)
      answer(r, PU_RELAY_PERMISSION_DENIED);
    return;
  }
  const pu_reservation *reservation =
      pu_relay_table_find(&s->table, &r->target, pu_now_us(s->engine->platform));
  pu_conn *target = reservation != NULL ? newest_conn(s, reservation) : NULL;
  if (target == NULL) {
    s->stats.refused_circuits++;
    answer(r, PU_RELAY_NO_RESERVATION);
    return;
  }
  if (circuits_of(s, &r->source) >= most || circuits_of(s, &r->target) >= most) {
    s->stats.refused_circuits++;
    answer(r, PU_RELAY_RESOURCE_LIMIT_EXCEEDED);
    return;
  }
  r->connecting = true;
  if (pu_conn_open_stream(target, protocols, 1, PU_OPEN_LAZY, STOP_OPEN_MS, on_stop_open, r,
                          &r->op) != 0)
    answer(r, PU_RELAY_CONNECTION_FAILED);
}

static void on_request_timer(void *data) {
  request *r = data;
  if (r->accepted) {
    begin_circuit(r);
    return;
  }
  answer(r, r->connecting ? PU_RELAY_CONNECTION_FAILED : PU_RELAY_MALFORMED_MESSAGE);
}

static size_t hop_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                          size_t tail) {
  request *r = user;
  pu_relay_message m;
  bool done;
  (void)s;
  (void)head;
  (void)tail;
  if (r->connecting)
    return 0; /* an eager source waits for our answer */
  ssize_t used = pu_relay_reader_feed(&r->reader, data, len, &done);
  if (used < 0) {
    answer(r, PU_RELAY_MALFORMED_MESSAGE);
    return len;
  }
  if (!done)
    return (size_t)used;
  if (pu_relay_reader_decode(&r->reader, false, &m) != 0)
    answer(r, PU_RELAY_MALFORMED_MESSAGE);
  else if (m.type == PU_RELAY_RESERVE)
    reserve(r);
  else if (m.type == PU_RELAY_CONNECT)
    connect_target(r, &m);
  else
    answer(r, PU_RELAY_UNEXPECTED_MESSAGE);
  return (size_t)used;
}

static void hop_on_eof(void *user, pu_stream *s) {
  request *r = user;
  (void)s;
  if (!r->connecting)
    answer(r, PU_RELAY_MALFORMED_MESSAGE);
}

static void hop_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  request *r = user;
  (void)s;
  (void)status;
  (void)code;
  r->hop = NULL;
  answer(r, PU_RELAY_CONNECTION_FAILED);
}

static const pu_stream_events hop_events = {hop_on_data, hop_on_eof, NULL, hop_on_end};

static uint32_t requests_of(const server *s, const pu_peer_id *peer) {
  uint32_t count = 0;
  PU_LIST_EACH(&s->requests, node, tmp) {
    count += pu_peer_id_equal(&PU_CONTAINER_OF(node, request, link)->source, peer);
  }
  return count;
}

static int on_hop(void *data, pu_stream *hop) {
  server *s = data;
  if (s->request_count >= REQUESTS_MAX ||
      requests_of(s, pu_conn_peer(pu_stream_conn(hop))) >= REQUESTS_PER_PEER_MAX)
    return PU_E_LIMIT;
  request *r = pu_zalloc(&s->engine->mem, sizeof *r);
  if (r == NULL)
    return PU_E_NOMEM;
  r->server = s;
  r->hop = hop;
  r->source = *pu_conn_peer(pu_stream_conn(hop));
  pu_timer_init(&r->timer, s->engine->platform, on_request_timer, r);
  int status = pu_timer_after(&r->timer, REQUEST_TIMEOUT_US);
  if (status != 0) {
    pu_free(r);
    return status;
  }
  pu_list_push(&s->requests, &r->link);
  s->request_count++;
  pu_stream_set_events(hop, &hop_events, r);
  return 0;
}

/* ---- module ---- */

static void on_conn_close(pu_module *m, pu_conn *conn) {
  server *s = (server *)m;
  pu_relay_table_conn_closed(&s->table, &conn->peer, conn->id);
  s->stats.reservations = s->table.count;
}

static size_t recheck_circuits(server *s) {
  size_t ended = 0;
  for (bool again = true; again;) {
    again = false;
    PU_LIST_EACH(&s->circuits, node, tmp) {
      circuit *c = PU_CONTAINER_OF(node, circuit, link);
      const pu_question question = {
          .ask = PU_ASK_CIRCUIT, .peer = &c->source, .target = &c->target, .addr = ""};
      c->busy++;
      again = pu_policy_ask(s->engine, &question) != 0;
      if (again)
        end_circuit(c, false, PU_E_DENIED, "no longer allowed by policy");
      leave(c);
      if (!again)
        continue;
      ended++;
      break; /* the list has changed */
    }
  }
  return ended;
}

/* A circuit that is being made is asked about as one that stands: else it would begin after its end. */
static size_t recheck_requests(server *s) {
  size_t ended = 0;
  for (bool again = true; again;) {
    again = false;
    PU_LIST_EACH(&s->requests, node, tmp) {
      request *r = PU_CONTAINER_OF(node, request, link);
      const pu_question question = {
          .ask = PU_ASK_CIRCUIT, .peer = &r->source, .target = &r->target, .addr = ""};
      bool gone;
      if (r->ended || !r->connecting || ask_about(r, &question, &gone))
        continue;
      if (!gone)
        answer(r, PU_RELAY_PERMISSION_DENIED);
      ended++;
      again = true; /* the list has changed */
      break;
    }
  }
  return ended;
}

/* let_idle makes a connection of |data| (a peer; NULL: any) count as idle like others: nobody reaches the peer
 * through us any more. */
static void let_idle(void *data, pu_conn *c) {
  const pu_peer_id *peer = data;
  if (peer == NULL || pu_peer_id_equal(&c->peer, peer))
    c->keep_until_us = 0;
}

static size_t recheck_reservations(server *s) {
  size_t ended = 0;
  for (bool again = true; again;) {
    again = false;
    PU_LIST_EACH(&s->table.reservations, node, tmp) {
      pu_reservation *r = PU_CONTAINER_OF(node, pu_reservation, link);
      char addr[PU_MULTIADDR_MAX_TEXT];
      pu_peer_id peer = r->peer;
      const pu_question question = {
          .ask = PU_ASK_RESERVATION, .peer = &peer, .addr = pu_multiaddr_text(&r->origin, addr)};
      if (pu_policy_ask(s->engine, &question) == 0)
        continue;
      r = pu_relay_table_find(&s->table, &peer, 0); /* still there? */
      if (r != NULL)
        pu_relay_table_remove(&s->table, r);
      pu_engine_conns(s->engine, let_idle, &peer);
      ended++;
      again = true; /* the list has changed */
      break;
    }
  }
  s->stats.reservations = s->table.count;
  return ended;
}

static size_t on_recheck(pu_module *m) {
  server *s = (server *)m;
  size_t ended = recheck_reservations(s);
  ended += recheck_requests(s);
  return ended + recheck_circuits(s);
}

static void end_all(server *s) {
  pu_relay_table_clear(&s->table); /* first: a listener may start the relay anew */
  pu_engine_conns(s->engine, let_idle, NULL);
  s->stats.reservations = 0;
  while (!pu_list_empty(&s->circuits))
    end_circuit(PU_CONTAINER_OF(s->circuits.next, circuit, link), false, PU_E_CLOSED,
                "the relay stops");
  for (bool again = true; again;) {
    again = false;
    PU_LIST_EACH(&s->requests, node, tmp) {
      request *r = PU_CONTAINER_OF(node, request, link);
      if (r->ended)
        continue; /* its open ends by itself */
      answer(r, r->connecting ? PU_RELAY_CONNECTION_FAILED : PU_RELAY_RESERVATION_REFUSED);
      again = true;
      break;
    }
  }
}

static void on_close(pu_module *m) {
  end_all((server *)m);
}

static void free_server(pu_module *m) {
  server *s = (server *)m;
  PU_ASSERT(s->request_count == 0 && s->stats.circuits == 0);
  pu_relay_table_clear(&s->table);
  pu_free(s);
}

static const pu_module_ops server_ops = {.on_conn_close = on_conn_close,
                                         .on_recheck = on_recheck,
                                         .on_close = on_close,
                                         .free = free_server};

static server *server_of(const pu_engine *e) {
  return (server *)e->relay_server;
}

int pu_engine_relay_start(pu_engine *e, const pu_relay_config *config) {
  server *s = server_of(e);
  if (s != NULL && s->running)
    return PU_E_EXISTS;
  if (s == NULL) {
    s = pu_zalloc(&e->mem, sizeof *s);
    if (s == NULL)
      return PU_E_NOMEM;
    s->base.ops = &server_ops;
    s->engine = e;
    pu_list_init(&s->requests);
    pu_list_init(&s->circuits);
    pu_relay_table_init(&s->table, &e->mem, config);
    e->relay_server = &s->base;
    pu_engine_add_module(e, &s->base);
  } else {
    pu_relay_table_init(&s->table, &e->mem, config);
  }
  int status = pu_engine_serve(e, PU_RELAY_HOP_ID, on_hop, s);
  s->running = status == 0;
  return status;
}

void pu_engine_relay_stop(pu_engine *e) {
  server *s = server_of(e);
  if (s == NULL || !s->running)
    return;
  s->running = false;
  pu_engine_unserve(e, PU_RELAY_HOP_ID);
  end_all(s);
}

void pu_engine_relay_stats(const pu_engine *e, pu_relay_stats *out) {
  server *s = server_of(e);
  *out = (pu_relay_stats){0};
  if (s == NULL)
    return;
  pu_relay_table_expire(&s->table, pu_now_us(e->platform));
  s->stats.reservations = s->table.count;
  *out = s->stats;
}
