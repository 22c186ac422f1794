/* Whole hosts in a simulated network, for tests: engines with keys that follow from a number, a
 * policy that can be changed, and counts of what they were told. */
#ifndef PU_TESTS_SIM_HOSTS_H
#define PU_TESTS_SIM_HOSTS_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/key.h"
#include "peerup/engine.h"
#include "platform/assert.h"
#include "platform/sim.h"

/* The seed that a failure names; set by the test. */
static uint64_t sim_seed;

/* SIM_CHECK ends the program with the seed that replays the failure. */
#define SIM_CHECK(cond, ...)                                                                       \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      (void)fprintf(stderr, "%s:%d: seed %" PRIu64 ": %s: ", __FILE__, __LINE__, sim_seed, #cond); \
      (void)fprintf(stderr, __VA_ARGS__);                                                          \
      (void)fprintf(stderr, "\n");                                                                 \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#define SIM_PORT 4001
/* Hosts listen on QUIC instead of TCP; set by the test. */
static bool sim_quic;
/* Hosts listen on WebSocket instead. */
static bool sim_ws;
/* Hosts speak TLS instead of Noise; its signatures differ in length from run to run. */
static bool sim_tls;
#define SIM_SECOND 1000000u

typedef struct sim_host {
  pu_sim *sim;
  pu_platform *platform;
  pu_engine *engine; /* NULL before and after its life */
  unsigned number;
  pu_sockaddr ip;
  pu_peer_id id;
  char addr[96];       /* /ip4/10.0.0.N/tcp/4001 */
  char full[224];      /* and /p2p/... */
  uint32_t denied;     /* bits by pu_ask: questions that the policy answers with no */
  unsigned asked[8];   /* by pu_ask */
  unsigned events[16]; /* by pu_event_type */
  int last_status;     /* of the last event */
  char last_detail[256];
  bool closed;
  void (*on_event)(struct sim_host *h, const pu_event *event); /* may be NULL */
  void *user;
} sim_host;

static inline int sim_host_policy(void *data, const pu_question *q) {
  sim_host *h = data;
  h->asked[q->ask]++;
  return (h->denied & 1u << q->ask) != 0 ? -1 : 0;
}

static inline void sim_host_event(void *data, const pu_event *event) {
  sim_host *h = data;
  h->events[event->type]++;
  h->last_status = event->status;
  (void)snprintf(h->last_detail, sizeof(h->last_detail), "%s",
                 event->detail != NULL ? event->detail : "");
  if (h->on_event != NULL)
    h->on_event(h, event);
}

static inline void sim_host_log(void *data, int level, const char *part, const char *line) {
  const sim_host *h = data;
  (void)fprintf(stderr, "%10" PRIu64 " host %u %d %s: %s\n", pu_sim_now_us(h->sim), h->number,
                level, part, line);
}

/* sim_host_add puts host |number| (1 to 250) into the network at 10.0.0.|number|. */
static inline void sim_host_add(pu_sim *sim, sim_host *h, unsigned number) {
  char name[16];
  *h = (sim_host){.sim = sim, .number = number};
  h->ip = (pu_sockaddr){.family = 4, .ip = {10, 0, 0, (uint8_t)number}};
  (void)snprintf(name, sizeof(name), "host%u", number);
  int rc = pu_sim_add_host(sim, name, &h->ip, 1, &h->platform);
  PU_ASSERT(rc == 0);
  (void)snprintf(h->addr, sizeof(h->addr),
                 sim_quic ? "/ip4/10.0.0.%u/udp/%d/quic-v1"
                 : sim_ws ? "/ip4/10.0.0.%u/tcp/%d/ws"
                          : "/ip4/10.0.0.%u/tcp/%d",
                 number, SIM_PORT);
}

/* sim_host_begin makes its engine; |limits| and |mem_fail_at| may be zero. Returns what
 * pu_engine_new said. */
static inline int sim_host_begin(sim_host *h, const pu_limits *limits, uint64_t mem_fail_at) {
  uint8_t seed[32], protobuf[68];
  pu_key *key;
  char id[PU_PEER_ID_MAX_TEXT];
  memset(seed, (int)h->number, sizeof(seed));
  int rc = pu_key_from_seed(seed, &key);
  PU_ASSERT(rc == 0);
  pu_key_protobuf(key, protobuf);
  h->id = *pu_key_peer_id(key);
  pu_key_free(key);
  (void)snprintf(h->full, sizeof(h->full), "%s/p2p/%s", h->addr, pu_peer_id_text(&h->id, id));
  pu_engine_config config = {.platform = h->platform,
                             .identity = protobuf,
                             .identity_len = sizeof(protobuf),
                             .agent = "peerup/test",
                             .policy = sim_host_policy,
                             .policy_data = h,
                             .on_event = sim_host_event,
                             .event_data = h,
                             .security = sim_tls ? "tls" : "noise",
                             .mem_fail_at = mem_fail_at};
  if (limits != NULL)
    config.limits = *limits;
  if (getenv("PEERUP_SIM_LOG") != NULL) {
    config.log = sim_host_log;
    config.log_data = h;
  }
  h->closed = false;
  return pu_engine_new(&config, &h->engine, NULL);
}

/* sim_host_start is sim_host_add, sim_host_begin and listening, which may not fail. */
static inline void sim_host_start(pu_sim *sim, sim_host *h, unsigned number,
                                  const pu_limits *limits) {
  sim_host_add(sim, h, number);
  int rc = sim_host_begin(h, limits, 0);
  SIM_CHECK(rc == 0, "engine: %s", pu_error_sentence(rc));
  rc = pu_engine_listen(h->engine, h->addr, NULL);
  SIM_CHECK(rc == 0, "listen: %s", pu_error_sentence(rc));
}

/* sim_host_knows tells |h| where |other| is; a second time if the first fails for lack of memory.
 */
static inline void sim_host_knows(sim_host *h, const sim_host *other) {
  int rc = pu_engine_add_addr(h->engine, &other->id, other->addr, UINT32_MAX, NULL);
  if (rc == PU_E_NOMEM)
    rc = pu_engine_add_addr(h->engine, &other->id, other->addr, UINT32_MAX, NULL);
  SIM_CHECK(rc == 0, "address: %s", pu_error_sentence(rc));
}

static inline void sim_host_closed(void *data) {
  sim_host *h = data;
  h->closed = true;
}

/* sim_host_close begins to close the engine; what it holds is balanced when |closed| is true. */
static inline void sim_host_close(sim_host *h) {
  pu_engine *e = h->engine;
  h->engine = NULL;
  if (e != NULL)
    pu_engine_close(e, sim_host_closed, h);
}

/* sim_host_end closes the engine and waits for it. */
static inline void sim_host_end(sim_host *h) {
  if (h->engine == NULL)
    return;
  sim_host_close(h);
  bool ok = pu_sim_run(h->sim, pu_sim_now_us(h->sim) + 10 * SIM_SECOND, &h->closed);
  SIM_CHECK(ok, "host %u does not close", h->number);
}

/* sim_run_for lets |us| of virtual time pass. */
static inline void sim_run_for(pu_sim *sim, uint64_t us) {
  (void)pu_sim_run(sim, pu_sim_now_us(sim) + us, NULL);
}

/* What a callback said; |calls| must become 1. */
typedef struct sim_answer {
  unsigned calls;
  bool done;
  int status;
  char detail[256];
  pu_conn *conn;
  pu_stream *stream;
  uint64_t rtt_us;
} sim_answer;

static inline void sim_answer_set(sim_answer *a, int status, const pu_error *err) {
  a->calls++;
  a->done = true;
  a->status = status;
  (void)snprintf(a->detail, sizeof(a->detail), "%s", err != NULL ? err->detail : "");
}
static inline void sim_on_connect(void *data, int status, const pu_error *err, pu_conn *conn) {
  sim_answer *a = data;
  sim_answer_set(a, status, err);
  a->conn = conn;
}
static inline void sim_on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  sim_answer *a = data;
  sim_answer_set(a, status, err);
  a->stream = s;
}
static inline void sim_on_ping(void *data, int status, const pu_error *err, uint64_t rtt_us) {
  sim_answer *a = data;
  sim_answer_set(a, status, err);
  a->rtt_us = rtt_us;
}

/* sim_connect connects and waits; returns the status. */
static inline int sim_connect(sim_host *from, const sim_host *to, unsigned flags,
                              sim_answer *answer) {
  pu_op *op;
  *answer = (sim_answer){0};
  int rc = pu_engine_connect(from->engine, &to->id, flags, 0, sim_on_connect, answer, &op);
  if (rc != 0)
    return rc;
  bool ok = pu_sim_run(from->sim, pu_sim_now_us(from->sim) + 120 * SIM_SECOND, &answer->done);
  SIM_CHECK(ok, "connect: no answer");
  return answer->status;
}

static inline int sim_ping(sim_host *from, const sim_host *to, sim_answer *answer) {
  pu_op *op;
  *answer = (sim_answer){0};
  int rc = pu_engine_ping(from->engine, &to->id, 0, sim_on_ping, answer, &op);
  if (rc != 0)
    return rc;
  bool ok = pu_sim_run(from->sim, pu_sim_now_us(from->sim) + 120 * SIM_SECOND, &answer->done);
  SIM_CHECK(ok, "ping: no answer");
  return answer->status;
}

#endif
