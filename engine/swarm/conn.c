/* Connections: a session below, streams above, the policy beside. See conn.h. */
#include "swarm/conn.h"
#include "platform/assert.h"
#include "swarm/dialer.h"
#include "swarm/op.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Codes that tell a peer why its connection ends (wire 9). */
#define CODE_RESOURCE_LIMIT 0x1001u
#define CODE_SHUTDOWN 0x1006u
#define CODE_GATED 0x1007u

bool pu_conn_is_limited(const pu_conn *c) {
  return c->info.limited;
}

void pu_conn_touch(pu_conn *c) {
  c->idle_since_us = pu_now_us(c->engine->platform);
}

/* ---- calls into a connection ---- */

void pu_conn_enter(pu_conn *c) {
  c->busy++;
  c->session->ops->cork(c->session);
}

void pu_conn_leave(pu_conn *c) {
  c->session->ops->uncork(c->session);
  PU_ASSERT(c->busy > 0);
  c->busy--;
}

/* ---- end ---- */

static void reap(pu_conn *c) {
  c->session->ops->free(c->session);
  pu_list_remove(&c->link);
  pu_limits_memory_refused(&c->engine->limiter, &c->mem, c->opened_us == 0);
  pu_mem_deinit(&c->mem);
  pu_limits_release(&c->engine->limiter, &c->share);
  pu_free(c);
}

/* on_reap frees what has been closed; it runs from the loop, where no call is inside a connection.
 * Streams whose readers are slow keep theirs. */
static void on_reap(void *data) {
  pu_engine *e = data;
  PU_LIST_EACH(&e->graveyard, node, tmp) {
    pu_conn *c = PU_CONTAINER_OF(node, pu_conn, link);
    PU_ASSERT(c->busy == 0);
    if (c->stream_count == 0)
      reap(c);
  }
}

void pu_conns_init(pu_engine *e) {
  pu_list_init(&e->conns);
  pu_list_init(&e->graveyard);
  pu_timer_init(&e->reap, e->platform, on_reap, e);
  pu_table_init(&e->conns_by_id, &e->mem, e->table_seed);
  pu_table_init(&e->conns_by_peer, &e->mem, e->table_seed);
  pu_limits_init(&e->limiter, &e->limits, &e->mem, e->table_seed);
}

void pu_conns_reap(pu_engine *e) {
  pu_timer_stop(&e->reap);
  on_reap(e);
  PU_ASSERT(pu_list_empty(&e->graveyard));
  pu_table_deinit(&e->conns_by_id);
  pu_table_deinit(&e->conns_by_peer);
  pu_limits_deinit(&e->limiter);
}

static uint32_t close_code(const pu_engine *e, int status) {
  return status == PU_E_DENIED                          ? CODE_GATED
         : status == PU_E_LIMIT || status == PU_E_NOMEM ? CODE_RESOURCE_LIMIT
         : e->closing                                   ? CODE_SHUTDOWN
                                                        : 0;
}

void pu_conn_end(pu_conn *c, int status, const char *detail) {
  pu_engine *e = c->engine;
  pu_refusal refusal;
  if (c->closed)
    return;
  c->closed = true;
  if (status == PU_E_NOMEM && pu_limits_explain_memory(&e->limiter, &c->share, &c->mem, &refusal))
    detail = refusal.text;
  (void)snprintf(c->end_detail, sizeof c->end_detail, "%s", detail);
  PU_LOG(&e->log, status == PU_E_EOF ? PU_LOG_DEBUG : PU_LOG_INFO, "swarm", "%s %s ended: %s (%s)",
         c->outbound ? "connection to" : "connection from", c->addr, c->end_detail,
         pu_error_name(status));
  pu_timer_stop(&c->timer);
  pu_streams_end(c);
  pu_limits_close(&e->limiter, &c->share);
  pu_table_remove(&e->conns_by_id, &c->by_id);
  if (c->open)
    pu_table_remove(&e->conns_by_peer, &c->by_peer);
  if (c->open) {
    PU_LIST_EACH(&e->modules, node, tmp) {
      pu_module *m = PU_CONTAINER_OF(node, pu_module, link);
      if (m->ops->on_conn_close != NULL)
        m->ops->on_conn_close(m, c);
    }
    pu_engine_emit(e, PU_EVENT_DISCONNECTED, c, &c->peer, NULL, status, c->end_detail);
  } else if (!c->outbound) {
    pu_engine_emit(e, PU_EVENT_DROPPED, NULL, c->peer.len != 0 ? &c->peer : NULL, NULL, status,
                   c->end_detail);
  }
  c->session->ops->close(c->session, close_code(e, status), status != 0 && status != PU_E_EOF);
  pu_list_remove(&c->link);
  e->conn_count--;
  pu_list_push(&e->graveyard, &c->link);
  if (pu_timer_after(&e->reap, 0) != 0)
    PU_LOG(&e->log, PU_LOG_WARN, "swarm", "out of memory: a connection is freed later");
  if (c->ready.cb != NULL) {
    const pu_conn_ready ready = c->ready;
    c->ready.cb = NULL;
    ready.cb(ready.data, c, status, c->end_detail);
  }
}

void pu_conn_close(pu_conn *c) {
  pu_conn_end(c, 0, "closed by us");
}

/* ---- time ---- */

static bool is_idle(pu_conn *c) {
  if (c->stream_count != 0 || pu_now_us(c->engine->platform) < c->keep_until_us)
    return false;
  const pu_peer *p = pu_peerstore_find(c->engine->peerstore, &c->peer);
  return p == NULL || p->protect == 0;
}

/* is_draining says whether the peer has still to take what closed streams have written, or had at the last
 * look. */
static bool is_draining(pu_conn *c, uint64_t now) {
  const uint64_t before = c->unsent;
  c->unsent = c->session->ops->unsent(c->session);
  if (c->unsent == 0)
    return before > 0;
  if (c->unsent != before)
    c->unsent_since_us = now;
  return now - c->unsent_since_us < PU_CONN_UNSENT_US;
}

/* arm_timer sets the timer for when the connection will have been idle long enough, if nothing
 * happens. */
static void arm_timer(pu_conn *c) {
  if (pu_timer_at(&c->timer, c->idle_since_us + c->engine->limits.idle_ms * 1000ull) != 0)
    pu_conn_end(c, PU_E_NOMEM, "out of memory for a timer");
}

static void on_timer(void *data) {
  pu_conn *c = data;
  pu_engine *e = c->engine;
  if (!c->open) {
    pu_conn_end(c, PU_E_TIMEOUT, "the handshake took too long");
    return;
  }
  const uint64_t now = pu_now_us(e->platform);
  if (now >= c->idle_since_us + e->limits.idle_ms * 1000ull) {
    const bool idle = is_idle(c);
    if (!idle)
      c->unsent = 0;
    if (idle && !is_draining(c, now)) {
      pu_conn_end(c, 0, "idle");
      return;
    }
    pu_conn_touch(c);
  }
  arm_timer(c);
}

/* ---- the session's events ---- */

static int ask_inbound(pu_conn *c) {
  const pu_question question = {
      .ask = PU_ASK_INBOUND, .peer = &c->peer, .addr = c->addr, .relayed = c->info.relayed};
  return pu_policy_ask(c->engine, &question);
}

static int on_secured(void *user, const pu_security_result *result) {
  pu_conn *c = user;
  pu_engine *e = c->engine;
  pu_refusal why;
  c->peer = result->peer;
  if (pu_peer_id_equal(&c->peer, pu_key_peer_id(e->key))) {
    pu_conn_end(c, PU_E_PEER_MISMATCH, "we reached ourselves");
    return PU_E_PEER_MISMATCH;
  }
  const pu_peer *known = pu_peerstore_find(e->peerstore, &c->peer);
  const int status = pu_limits_authenticated(&e->limiter, &c->share, &c->peer,
                                             known != NULL && known->protect > 0, &c->mem, &why);
  if (status != 0) {
    pu_conn_end(c, status, why.text);
    return status;
  }
  if (c->outbound || ask_inbound(c) == 0)
    return 0;
  pu_conn_end(c, PU_E_DENIED, "denied by policy");
  return PU_E_DENIED;
}

static int on_open(void *user) {
  pu_conn *c = user;
  pu_engine *e = c->engine;
  pu_limits_admitted(&e->limiter, &c->share);
  pu_limits_memory_refused(&e->limiter, &c->mem, true);
  c->mem.limit = e->limits.memory_per_conn;
  c->open = true;
  pu_table_add(&e->conns_by_peer, &c->by_peer,
               pu_table_hash(&e->conns_by_peer, c->peer.bytes, c->peer.len));
  c->opened_us = c->idle_since_us = pu_now_us(e->platform);
  c->opened_unix_ms = pu_wall_ns(e->platform) / 1000000;
  arm_timer(c);
  if (c->closed)
    return PU_E_CLOSED;
  PU_LOG(&e->log, PU_LOG_DEBUG, "swarm", "connection %s %s is open", c->outbound ? "to" : "from",
         c->addr);
  c->busy++;
  if (c->ready.cb != NULL) {
    const pu_conn_ready ready = c->ready;
    c->ready.cb = NULL;
    ready.cb(ready.data, c, 0, "");
  }
  if (!c->closed)
    pu_engine_emit(e, PU_EVENT_CONNECTED, c, &c->peer, NULL, 0, "");
  PU_LIST_EACH(&e->modules, node, tmp) {
    pu_module *m = PU_CONTAINER_OF(node, pu_module, link);
    if (!c->closed && m->ops->on_conn_open != NULL)
      m->ops->on_conn_open(m, c);
  }
  if (!c->closed && !c->outbound)
    pu_dial_conn_opened(c);
  c->busy--;
  return c->closed ? PU_E_CLOSED : 0;
}

static int on_stream(void *user, pu_session_stream *ss, uint32_t *code) {
  return pu_stream_accept(user, ss, code);
}

static void on_room(void *user) {
  pu_opens_go_on(user);
}

/* say_limit names the relay's limit, so that a person knows what ended the connection. */
static void say_limit(const pu_transport_conn *info, char out[static PU_CONN_DETAIL]) {
  const bool mib = info->limit_data_bytes >= 1048576u;
  char time[16] = "", data[48] = "";
  if (info->limit_duration_s != 0)
    (void)snprintf(time, sizeof time, "%" PRIu32 " s", info->limit_duration_s);
  if (info->limit_data_bytes != 0)
    (void)snprintf(data, sizeof data, "%s%" PRIu64 " %s each way", time[0] != '\0' ? " or " : "",
                   mib ? info->limit_data_bytes >> 20 : info->limit_data_bytes,
                   mib ? "MiB" : "bytes");
  (void)snprintf(out, PU_CONN_DETAIL, "the relay's limit for one connection was reached (%s%s)",
                 time, data);
}

static void on_end(void *user, int status, const char *why) {
  pu_conn *c = user;
  char limit[PU_CONN_DETAIL];
  if (status == PU_E_RELAY_LIMIT)
    say_limit(&c->info, limit);
  c->keeps_rests = true;
  pu_conn_end(c, status, status == PU_E_RELAY_LIMIT ? limit : why);
}

/* on_path: a connection over UDP goes on from another address of the peer, about which the policy
 * may think otherwise. */
static void on_path(void *user, const pu_sockaddr *local, const pu_sockaddr *remote) {
  pu_conn *c = user;
  char before[PU_MULTIADDR_MAX_TEXT];
  if (c->closed)
    return;
  memcpy(before, c->addr, sizeof before);
  pu_multiaddr_from_udp(local, &c->info.local);
  pu_multiaddr_from_udp(remote, &c->info.remote);
  (void)pu_multiaddr_text(&c->info.remote, c->addr);
  PU_LOG(&c->engine->log, PU_LOG_INFO, "swarm", "connection %s %s goes on as %s",
         c->outbound ? "to" : "from", before, c->addr);
  if (c->open && !c->outbound && ask_inbound(c) != 0)
    pu_conn_end(c, PU_E_DENIED, "its new address is not allowed by policy");
}

static const pu_session_events session_events = {
    .on_secured = on_secured,
    .on_open = on_open,
    .on_stream = on_stream,
    .on_room = on_room,
    .on_data = pu_stream_on_data,
    .on_eof = pu_stream_on_eof,
    .on_writable = pu_stream_on_writable,
    .on_rest = pu_stream_on_rest,
    .on_reset = pu_stream_on_reset,
    .on_end = on_end,
    .on_path = on_path,
};

/* ---- beginning ---- */

/* refuse lets go of a connection that nobody wants. */
static void refuse(const pu_transport_conn *info, int status) {
  if (info->raw != NULL)
    info->raw->ops->close(info->raw, true);
  else
    info->native->ops->discard(info->native, status);
}

static int start_session(pu_conn *c, const pu_transport_conn *info) {
  const pu_engine *e = c->engine;
  /* yamux cannot tell the peer how many it may open: the one too many is refused here, and counted. */
  const uint32_t max_streams = e->limits.streams_in_per_conn + (info->raw != NULL ? 1u : 0);
  const pu_session_config config = {.mem = &c->mem,
                                    .platform = e->platform,
                                    .initiator = c->outbound,
                                    .key = e->key,
                                    .tls = e->tls,
                                    .securities = e->securities,
                                    .security_count = e->securities != NULL ? 1 : 0,
                                    .expected = &c->expected,
                                    .max_record = info->max_record,
                                    .max_streams_in = max_streams,
                                    .window_budget = e->limits.memory_per_conn / 2,
                                    .events = &session_events,
                                    .user = c};
  return info->raw != NULL ? pu_upgrade_start(&config, info->raw, &c->session)
                           : info->native->ops->start(info->native, &config, &c->session);
}

static uint64_t id_hash(const pu_engine *e, uint64_t id) {
  return pu_table_hash(&e->conns_by_id, &id, sizeof id);
}

/* handshake_bytes is what a connection may take before its peer is authenticated. */
static size_t handshake_bytes(pu_engine *e, const pu_transport_conn *info) {
  const size_t native = info->native != NULL ? info->native->preauth_bytes : 0;
  if (native > e->limiter.handshake_bytes)
    e->limiter.handshake_bytes = native;
  return native > PU_PREAUTH_MAX_BYTES ? native : PU_PREAUTH_MAX_BYTES;
}

/* new_conn begins a connection with |share|, which it takes over, as it does what |info| has. */
static int new_conn(pu_engine *e, const pu_transport_conn *info, bool outbound,
                    const pu_peer_id *expected, const pu_conn_ready *ready, pu_conn_share *share,
                    pu_conn **out) {
  pu_conn *c = pu_zalloc(&e->mem, sizeof *c);
  if (c == NULL) {
    pu_limits_close(&e->limiter, share);
    refuse(info, PU_E_NOMEM);
    return PU_E_NOMEM;
  }
  c->engine = e;
  c->id = ++e->next_conn_id;
  c->info = *info;
  c->outbound = outbound;
  if (expected != NULL)
    c->expected = *expected;
  if (ready != NULL)
    c->ready = *ready;
  (void)pu_multiaddr_text(&info->remote, c->addr);
  pu_limits_move(share, &c->share);
  pu_mem_init(&c->mem, &e->mem, handshake_bytes(e, info));
  pu_timer_init(&c->timer, e->platform, on_timer, c);
  pu_list_init(&c->streams);
  pu_list_init(&c->waiting);
  pu_list_init(&c->link);
  c->info.raw = NULL;
  c->info.native = NULL;
  pu_limits_account(&c->share, &c->mem);
  int status = start_session(c, info);
  if (status == 0) {
    status = pu_timer_after(&c->timer, e->limits.handshake_ms * 1000ull);
    if (status != 0) {
      c->session->ops->close(c->session, CODE_RESOURCE_LIMIT, true);
      c->session->ops->free(c->session);
    }
  }
  if (status != 0) {
    pu_limits_close(&e->limiter, &c->share);
    pu_mem_deinit(&c->mem);
    pu_free(c);
    return status;
  }
  e->conn_count++;
  pu_list_push(&e->conns, &c->link);
  pu_table_add(&e->conns_by_id, &c->by_id, id_hash(e, c->id));
  *out = c;
  return 0;
}

int pu_conn_new(pu_engine *e, const pu_transport_conn *info, const pu_peer_id *expected,
                const pu_conn_ready *ready, pu_conn **out) {
  pu_conn_share share;
  pu_origin origin;
  pu_limits_origin(&info->remote, &origin);
  const int status = pu_limits_dial(&e->limiter, &share, &origin, &e->refusal);
  if (status != 0) {
    PU_LOG(&e->log, PU_LOG_WARN, "swarm", "dial given up: %s", e->refusal.text);
    refuse(info, status);
    return status;
  }
  return new_conn(e, info, true, expected, ready, &share, out);
}

/* take_share counts a connection that came in. When the handshakes of strangers are full, the slowest
 * stranger makes room. */
static int take_share(pu_engine *e, const pu_transport_conn *accepted, pu_conn_share *out) {
  pu_origin origin;
  const uint64_t now = pu_now_us(e->platform);
  pu_limits_origin(&accepted->remote, &origin);
  if (accepted->relayed)
    origin.len = 0;
  int status = pu_limits_accept(&e->limiter, out, &origin, now, &e->refusal);
  pu_conn_share *slowest = NULL;
  if (status == PU_E_LIMIT && e->refusal.kind == PU_LIMIT_PENDING)
    slowest = pu_limits_slowest(&e->limiter, now);
  if (slowest == NULL)
    return status;
  pu_conn_end(PU_CONTAINER_OF(slowest, pu_conn, share), PU_E_LIMIT,
              "too slow in handshake: another connection needed the room");
  return pu_limits_accept(&e->limiter, out, &origin, now, &e->refusal);
}

void pu_engine_accept(pu_engine *e, const pu_transport_conn *accepted) {
  char addr[PU_MULTIADDR_MAX_TEXT];
  pu_conn *c;
  pu_conn_share share = {0};
  int status = e->closing ? PU_E_CANCELED : take_share(e, accepted, &share);
  const char *reason = e->closing ? "closing down" : e->refusal.text;
  const pu_question question = {.ask = PU_ASK_ACCEPT,
                                .addr = pu_multiaddr_text(&accepted->remote, addr),
                                .relayed = accepted->relayed};
  if (status == 0) {
    status = pu_policy_ask(e, &question);
    reason = "denied by policy";
  }
  if (status != 0) {
    PU_LOG(&e->log, PU_LOG_INFO, "swarm", "refused %s: %s", addr, reason);
    pu_limits_close(&e->limiter, &share);
    refuse(accepted, status);
    pu_engine_emit(e, PU_EVENT_DROPPED, NULL, NULL, NULL, status, reason);
    return;
  }
  status = new_conn(e, accepted, false, NULL, NULL, &share, &c);
  if (status != 0)
    pu_engine_emit(e, PU_EVENT_DROPPED, NULL, NULL, NULL, status, "cannot begin the handshake");
}

/* ---- looking up and looking at ---- */

static int rank(const pu_conn *c) {
  return (c->info.limited ? 0 : 2) + (c->info.relayed ? 0 : 1);
}

pu_conn *pu_engine_find_conn(pu_engine *e, const pu_peer_id *peer, bool direct) {
  pu_conn *best = NULL;
  const uint64_t hash = pu_table_hash(&e->conns_by_peer, peer->bytes, peer->len);
  for (pu_table_node *node = pu_table_first(&e->conns_by_peer, hash); node != NULL;
       node = pu_table_next(node)) {
    pu_conn *c = PU_CONTAINER_OF(node, pu_conn, by_peer);
    if (c->closed || (direct && c->info.relayed) || !pu_peer_id_equal(&c->peer, peer))
      continue;
    if (best == NULL || rank(c) > rank(best) || (rank(c) == rank(best) && c->id > best->id))
      best = c; /* the higher ID is newer */
  }
  return best;
}

pu_conn *pu_engine_best_conn(pu_engine *e, const pu_peer_id *peer) {
  return pu_engine_find_conn(e, peer, false);
}

/* conn_of_id finds a connection that is not closed. */
static pu_conn *conn_of_id(pu_engine *e, uint64_t id) {
  for (pu_table_node *node = pu_table_first(&e->conns_by_id, id_hash(e, id)); node != NULL;
       node = pu_table_next(node)) {
    pu_conn *c = PU_CONTAINER_OF(node, pu_conn, by_id);
    if (c->id == id)
      return c;
  }
  return NULL;
}

pu_conn *pu_conn_find(pu_engine *e, uint64_t id) {
  pu_conn *c = conn_of_id(e, id);
  return c != NULL && c->open ? c : NULL;
}

const pu_peer_id *pu_conn_peer(const pu_conn *c) {
  return &c->peer;
}

void pu_engine_conns(pu_engine *e, void (*each)(void *data, pu_conn *c), void *data) {
  PU_LIST_EACH(&e->conns, node, tmp) {
    pu_conn *c = PU_CONTAINER_OF(node, pu_conn, link);
    if (c->open && !c->closed)
      each(data, c);
  }
}

/* conn_after returns the connection with the lowest ID above |id|: the list is in their order.
 * Loops that end connections go by it, since what they call may end others. */
static pu_conn *conn_after(pu_engine *e, uint64_t id) {
  pu_conn *before = conn_of_id(e, id);
  pu_list *node = before != NULL ? &before->link : &e->conns;
  while ((node = node->next) != &e->conns) {
    pu_conn *c = PU_CONTAINER_OF(node, pu_conn, link);
    if (c->id > id)
      return c;
  }
  return NULL;
}

/* end_rests ends what readers still get of connections that have ended, of |peer| (NULL: all). What comes
 * to lie behind them meanwhile was ended by us, and keeps none. */
static void end_rests(pu_engine *e, const pu_peer_id *peer, int status) {
  PU_LIST_EACH(&e->graveyard, node, tmp) {
    pu_conn *c = PU_CONTAINER_OF(node, pu_conn, link);
    if (peer == NULL || pu_peer_id_equal(&c->peer, peer))
      pu_streams_end_rests(c, status);
  }
}

size_t pu_engine_disconnect(pu_engine *e, const pu_peer_id *peer) {
  size_t count = 0;
  uint64_t id = 0;
  for (pu_conn *c; (c = conn_after(e, id)) != NULL;) {
    id = c->id;
    if (!c->closed && pu_peer_id_equal(&c->peer, peer)) {
      pu_conn_end(c, 0, "disconnected by us");
      count++;
    }
  }
  end_rests(e, peer, PU_E_GONE);
  return count;
}

void pu_conns_end(pu_engine *e, int status, const char *detail) {
  for (pu_conn *c; (c = conn_after(e, 0)) != NULL;)
    pu_conn_end(c, status, detail);
  end_rests(e, NULL, PU_E_GONE);
}

void pu_conn_info_get(const pu_conn *c, pu_conn_info *out) {
  pu_session_info session;
  c->session->ops->info(c->session, &session);
  *out = (pu_conn_info){
      .id = c->id,
      .peer = c->peer,
      .outbound = c->outbound,
      .relayed = c->info.relayed,
      .limited = c->info.limited,
      .identified = c->identified,
      .transport = c->info.transport,
      .security = session.security != NULL ? session.security : "",
      .muxer = session.muxer != NULL ? session.muxer : "",
      .opened_unix_ms = c->opened_unix_ms,
      .rtt_us = session.rtt_us,
      .streams = c->stream_count,
      .bytes_in = session.bytes_in,
      .bytes_out = session.bytes_out,
      .limit_duration_s = c->info.limit_duration_s,
      .limit_data_bytes = c->info.limit_data_bytes,
  };
  (void)snprintf(out->addr, sizeof out->addr, "%s", c->addr);
  const pu_peer *p = pu_peerstore_find(c->engine->peerstore, &c->peer);
  if (p != NULL)
    (void)snprintf(out->agent, sizeof out->agent, "%s", p->agent);
}

static bool is_allowed(pu_conn *c) {
  const pu_question dial = {
      .ask = PU_ASK_DIAL, .peer = &c->peer, .addr = c->addr, .relayed = c->info.relayed};
  return (c->outbound ? pu_policy_ask(c->engine, &dial) : ask_inbound(c)) == 0;
}

bool pu_conn_recheck(pu_conn *c) {
  if (is_allowed(c))
    return false;
  pu_conn_end(c, PU_E_DENIED, "no longer allowed by policy");
  return true;
}

size_t pu_engine_recheck(pu_engine *e) {
  size_t ended = 0;
  uint64_t id = 0;
  for (pu_conn *c; (c = conn_after(e, id)) != NULL;) {
    id = c->id;
    if (!c->open)
      continue;
    if (pu_conn_recheck(c))
      ended++;
    else
      ended += pu_streams_recheck(c);
  }
  PU_LIST_EACH(&e->graveyard, c_node, c_tmp) {
    pu_conn *c = PU_CONTAINER_OF(c_node, pu_conn, link);
    if (c->stream_count > 0 && !is_allowed(c))
      pu_streams_end_rests(c, PU_E_DENIED);
    else
      ended += pu_streams_recheck(c);
  }
  PU_LIST_EACH(&e->modules, node, tmp) {
    pu_module *m = PU_CONTAINER_OF(node, pu_module, link);
    if (m->ops->on_recheck != NULL)
      ended += m->ops->on_recheck(m);
  }
  return ended;
}

/* ---- limits ---- */

static void raise_to(uint64_t *most, uint64_t value) {
  if (value > *most)
    *most = value;
}

void pu_engine_limit_stats(const pu_engine *e, void (*each)(void *data, const pu_limit_stat *stat),
                           void *data) {
  pu_limits_conns fullest = {0};
  PU_LIST_EACH(&e->conns, node, tmp) {
    const pu_conn *c = PU_CONTAINER_OF(node, pu_conn, link);
    raise_to(&fullest.streams, c->share.streams);
    raise_to(&fullest.negotiating, c->share.negotiating);
    raise_to(c->open ? &fullest.memory : &fullest.memory_handshake, c->mem.used);
    if (c->open)
      fullest.refused += c->mem.refused;
    else
      fullest.refused_handshake += c->mem.refused;
  }
  pu_limits_stats(&e->limiter, &fullest, each, data);
}

int pu_engine_limit_protocol(pu_engine *e, const char *protocol, uint32_t total,
                             uint32_t per_peer) {
  return pu_limits_set_protocol(&e->limiter, protocol, total, per_peer);
}
