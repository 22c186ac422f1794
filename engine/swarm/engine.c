/* The engine handle: configuration, policy, events, served protocols, beginning and end. */
#include "platform/assert.h"
#include "platform/uv.h"
#include "security/tls_identity.h"
#include "swarm/conn.h"
#include "swarm/dialer.h"
#include "swarm/direct.h"
#include "swarm/listen.h"
#include "swarm/op.h"
#include "swarm/peerstore.h"
#include "swarm/swarm.h"
#include "transport/ws.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *pu_version(void) {
  return PEERUP_VERSION;
}

const pu_peer_id *pu_engine_peer(const pu_engine *e) {
  return pu_key_peer_id(e->key);
}

size_t pu_engine_memory(const pu_engine *e) {
  return e->mem.used;
}

void pu_engine_set_log_level(pu_engine *e, int level) {
  e->log.level = (pu_log_level)level;
}

/* ---- policy and events ---- */

/* What may be forced by pu_engine_config.security. */
static const char *const only_tls[] = {"/tls/1.0.0"};
static const char *const only_noise[] = {"/noise"};

static const char *ask_name(pu_ask ask) {
  static const char *const names[] = {"connection", "connection",  "dial",
                                      "stream",     "reservation", "circuit"};
  return names[ask];
}

int pu_policy_ask(pu_engine *e, const pu_question *q) {
  char peer[PU_PEER_ID_MAX_TEXT] = "", target[PU_PEER_ID_MAX_TEXT] = "";
  char detail[PU_ENGINE_DENIED_DETAIL];
  /* Without a policy nothing from outside is allowed; what the program itself dials is its own. */
  if (e->policy != NULL ? e->policy(e->policy_data, q) == 0 : q->ask == PU_ASK_DIAL)
    return 0;
  if (q->peer != NULL)
    (void)pu_peer_id_text(q->peer, peer);
  if (q->target != NULL)
    (void)pu_peer_id_text(q->target, target);
  (void)snprintf(detail, sizeof detail, "%s %s%s%s%s%s%s", ask_name(q->ask),
                 q->protocol != NULL ? q->protocol : "", q->protocol != NULL ? " " : "",
                 q->ask == PU_ASK_DIAL ? "to " : "of ", peer[0] != '\0' ? peer : q->addr,
                 target[0] != '\0' ? " to " : "", target);
  PU_LOG(&e->log, PU_LOG_INFO, "policy", "denied: %s (%s)", detail, q->addr != NULL ? q->addr : "");
  pu_engine_emit(e, PU_EVENT_DENIED, NULL, q->peer, q->target, PU_E_DENIED, detail);
  return PU_E_DENIED;
}

void pu_engine_emit(pu_engine *e, pu_event_type type, pu_conn *conn, const pu_peer_id *peer,
                    const pu_peer_id *target, int status, const char *detail) {
  const pu_event event = {.type = type,
                          .conn = conn,
                          .peer = peer,
                          .target = target,
                          .status = status,
                          .detail = detail};
  if (e->on_event != NULL)
    e->on_event(e->event_data, &event);
}

void pu_engine_add_module(pu_engine *e, pu_module *m) {
  pu_list_push(&e->modules, &m->link);
}

void pu_engine_add_transport(pu_engine *e, pu_transport *t) {
  pu_list_push(&e->transports, &t->link);
}

/* ---- served protocols ---- */

pu_handler *pu_engine_find_handler(pu_engine *e, const char *protocol, size_t len) {
  PU_LIST_EACH(&e->handlers, node, tmp) {
    pu_handler *h = PU_CONTAINER_OF(node, pu_handler, link);
    if (strlen(h->id) == len && memcmp(h->id, protocol, len) == 0)
      return h;
  }
  return NULL;
}

static void remove_handler(pu_engine *e, const char *protocol) {
  pu_handler *h = pu_engine_find_handler(e, protocol, strlen(protocol));
  if (h == NULL)
    return;
  pu_list_remove(&h->link);
  pu_free(h);
  pu_engine_self_changed(e);
}

static int add_handler(pu_engine *e, const char *protocol, pu_handler_fn fn, void *data,
                       bool internal) {
  const size_t len = strlen(protocol);
  if (len == 0 || len >= PU_MULTISTREAM_MAX_TOKEN)
    return PU_E_INVAL;
  if (pu_engine_find_handler(e, protocol, len) != NULL)
    return PU_E_EXISTS;
  pu_handler *h = pu_alloc(&e->mem, sizeof *h + len + 1);
  if (h == NULL)
    return PU_E_NOMEM;
  *h = (pu_handler){.fn = fn, .data = data, .internal = internal};
  memcpy(h->id, protocol, len + 1);
  pu_list_push(&e->handlers, &h->link);
  pu_engine_self_changed(e);
  return 0;
}

int pu_engine_handle(pu_engine *e, const char *protocol, pu_handler_fn fn, void *data) {
  if (fn != NULL)
    return add_handler(e, protocol, fn, data, false);
  const pu_handler *h = pu_engine_find_handler(e, protocol, strlen(protocol));
  if (h == NULL)
    return PU_E_NOT_FOUND;
  if (h->internal)
    return PU_E_INVAL;
  remove_handler(e, protocol);
  return 0;
}

int pu_engine_serve(pu_engine *e, const char *protocol, pu_handler_fn fn, void *data) {
  return add_handler(e, protocol, fn, data, true);
}

void pu_engine_unserve(pu_engine *e, const char *protocol) {
  remove_handler(e, protocol);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

size_t pu_engine_protocols(pu_engine *e, const char **out, size_t max) {
  size_t count = 0;
  PU_LIST_EACH(&e->handlers, node, tmp) {
    if (count < max)
      out[count++] = PU_CONTAINER_OF(node, pu_handler, link)->id;
  }
  qsort(out, count, sizeof *out, by_name);
  return count;
}

void pu_engine_self_changed(pu_engine *e) {
  if (e->closing)
    return;
  PU_LIST_EACH(&e->modules, node, tmp) {
    pu_module *m = PU_CONTAINER_OF(node, pu_module, link);
    if (m->ops->on_self_changed != NULL)
      m->ops->on_self_changed(m);
  }
}

/* ---- beginning ---- */

static void on_log(void *data, pu_log_level level, const char *part, const char *line) {
  const pu_engine *e = data;
  e->log_fn(e->log_data, (int)level, part, line);
}

static int make_key(pu_engine *e, const pu_engine_config *config, pu_error *err) {
  int status = config->identity != NULL
                   ? pu_key_parse(config->identity, config->identity_len, &e->key)
                   : pu_key_generate(&e->key);
  return status == 0 ? 0 : pu_error_set(err, status, "the identity cannot be used");
}

static int make_platform(pu_engine *e, const pu_engine_config *config) {
  if (config->platform != NULL) {
    e->platform = config->platform;
    return 0;
  }
  struct uv_loop_s *loop = config->loop;
  int status = 0;
  if (loop == NULL) {
    status = pu_uv_loop_new(&e->own_loop);
    loop = e->own_loop;
  }
  if (status == 0)
    status = pu_uv_new(loop, &e->platform);
  e->own_platform = status == 0;
  return status;
}

static void set_limits(pu_engine *e, const pu_limits *limits) {
  pu_machine machine;
  pu_machine_get(e->platform, &machine);
  e->limits = *limits;
  pu_limits_fill(&e->limits, &machine);
  e->mem.limit = e->limits.memory_total;
}

static void free_rest(pu_engine *e);

int pu_engine_new(const pu_engine_config *config, pu_engine **out, pu_error *err) {
  pu_transport *tcp, *ws;
  if (sodium_init() < 0)
    return pu_error_set(err, PU_E_CRYPTO, "libsodium does not start");
  if (config->security != NULL && strcmp(config->security, "tls") != 0 &&
      strcmp(config->security, "noise") != 0)
    return pu_error_set(err, PU_E_INVAL, "security is \"tls\" or \"noise\"");
  pu_engine *e = calloc(1, sizeof *e); /* the root of all accounts is inside */
  if (e == NULL)
    return pu_error_set(err, PU_E_NOMEM, "no memory for an engine");
  pu_mem_init(&e->mem, NULL, PU_MEM_UNLIMITED); /* until the machine is known */
  if (config->mem_fail_at != 0)
    pu_mem_fail_at(&e->mem, config->mem_fail_at);
  e->log_fn = config->log;
  e->log_data = config->log_data;
  e->log = (pu_log){.fn = config->log != NULL ? on_log : NULL,
                    .data = e,
                    .level = (pu_log_level)config->log_level};
  e->policy = config->policy;
  e->policy_data = config->policy_data;
  e->rank = config->rank;
  e->rank_data = config->rank_data;
  e->on_event = config->on_event;
  e->event_data = config->event_data;
  if (config->security != NULL)
    e->securities = strcmp(config->security, "tls") == 0 ? only_tls : only_noise;
  if (config->agent != NULL)
    (void)snprintf(e->agent, sizeof e->agent, "%s", config->agent);
  else
    (void)snprintf(e->agent, sizeof e->agent, "peerup/%s", pu_version());
  pu_list *const lists[] = {&e->transports, &e->modules, &e->handlers, &e->listeners,
                            &e->dials,      &e->ops,     &e->proxies};
  for (size_t i = 0; i < PU_COUNT(lists); i++)
    pu_list_init(lists[i]);
  int status = make_platform(e, config);
  if (status != 0) {
    pu_uv_loop_free(e->own_loop);
    free(e);
    return pu_error_set(err, status, "no event loop");
  }
  set_limits(e, &config->limits);
  pu_random(e->platform, &e->table_seed, sizeof e->table_seed);
  pu_conns_init(e);
  pu_listen_init(e);
  status = make_key(e, config, err);
  if (status == 0)
    status = pu_tls_identity_new(&e->mem, e->key, pu_wall_ns(e->platform) / 1000000000, &e->tls);
  if (status == 0) {
    e->rx.bytes = pu_alloc(&e->mem, PU_SPAN_HEAD + PU_RX_BYTES + PU_SPAN_TAIL);
    e->scratch = pu_alloc(&e->mem, PU_SCRATCH_BYTES);
    status = e->rx.bytes != NULL && e->scratch != NULL ? 0 : PU_E_NOMEM;
  }
  if (status == 0)
    status = pu_peerstore_new(e, &e->peerstore);
  if (status == 0)
    status = pu_tls_web_new(&e->mem, &e->web);
  if (status == 0)
    status = pu_tcp_transport_new(&e->mem, e->platform, &e->rx, pu_listen_dial_from, e, &tcp);
  if (status == 0) {
    pu_engine_add_transport(e, tcp);
    status = pu_ws_transport_new(&e->mem, e->platform, tcp, e->web, &ws);
  }
  if (status == 0) {
    pu_engine_add_transport(e, ws);
    status = pu_listen_make_quic(e, config->congestion);
  }
  if (status == 0)
    status = pu_direct_start(e);
  if (status == 0)
    status = pu_engine_install(e);
  if (status != 0) {
    if (err != NULL && err->code == 0)
      (void)pu_error_set(err, status, "cannot make an engine");
    struct uv_loop_s *loop = e->own_loop;
    pu_engine_close(e, NULL, NULL);
    if (loop != NULL) {
      (void)pu_uv_loop_run(loop);
      pu_uv_loop_free(loop);
    }
    return status;
  }
  *out = e;
  return 0;
}

/* ---- end ---- */

static void on_platform_gone(void *data) {
  pu_engine *e = data;
  void (*done)(void *) = e->closed_cb;
  void *user = e->closed_data;
  free(e);
  if (done != NULL)
    done(user);
}

static void free_rest(pu_engine *e) {
  PU_LIST_EACH(&e->modules, m_node, m_tmp) {
    pu_module *m = PU_CONTAINER_OF(m_node, pu_module, link);
    pu_list_remove(&m->link);
    m->ops->free(m);
  }
  PU_LIST_EACH(&e->transports, t_node, t_tmp) {
    pu_transport *t = PU_CONTAINER_OF(t_node, pu_transport, link);
    pu_list_remove(&t->link);
    t->ops->free(t);
  }
  PU_LIST_EACH(&e->handlers, h_node, h_tmp) {
    pu_handler *h = PU_CONTAINER_OF(h_node, pu_handler, link);
    pu_list_remove(&h->link);
    pu_free(h);
  }
  pu_peerstore_free(e->peerstore);
  pu_tls_identity_free(e->tls);
  pu_tls_web_free(e->web);
  pu_key_free(e->key);
  pu_free(e->rx.bytes);
  pu_free(e->scratch);
  pu_mem_deinit(&e->mem);
  if (e->own_platform)
    pu_uv_free(e->platform, on_platform_gone, e);
  else
    on_platform_gone(e);
}

/* on_close_turn ends everything, from the loop, so that no call is inside any part. */
static void on_close_turn(void *data) {
  pu_engine *e = data;
  pu_ops_cancel_all(e);
  PU_LIST_EACH(&e->modules, node, tmp) {
    pu_module *m = PU_CONTAINER_OF(node, pu_module, link);
    if (m->ops->on_close != NULL)
      m->ops->on_close(m);
  }
  pu_dials_end(e);
  pu_listen_end(e);
  pu_conns_end(e, 0, "the engine closes");
  pu_ops_cancel_all(e); /* what ending the rest has begun */
  pu_conns_reap(e);
  free_rest(e);
}

void pu_engine_close(pu_engine *e, void (*done)(void *data), void *data) {
  if (e->closing)
    return;
  e->closing = true;
  e->closed_cb = done;
  e->closed_data = data;
  pu_timer_init(&e->close_turn, e->platform, on_close_turn, e);
  PU_ASSERT(pu_timer_after(&e->close_turn, 0) == 0);
}

int pu_engine_run(pu_engine *e) {
  struct uv_loop_s *loop = e->own_loop;
  if (loop == NULL)
    return PU_E_INVAL;
  int status = pu_uv_loop_run(loop);
  pu_uv_loop_free(loop);
  return status;
}
