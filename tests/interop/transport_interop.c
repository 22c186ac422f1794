/* Our side of the official libp2p transport interoperability contract: the environment says who we
 * are (transport, muxer, security, is_dialer, ip, redis_addr, test_timeout_seconds), the partner's
 * address comes through a Redis list named listenerAddr, and the dialer prints one JSON object. */
#include <hiredis/hiredis.h>
#include <peerup/engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct test {
  pu_engine *engine;
  redisContext *redis;
  pu_peer_id partner;
  double started_ms;
  int status;
} test;

static double now_ms(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static const char *env(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value != NULL && value[0] != '\0' ? value : otherwise;
}

static void finish(test *t, int status, const char *what, const pu_error *err) {
  t->status = status;
  if (status != 0)
    (void)fprintf(stderr, "transport-interop: %s: %s (%s)\n", what, pu_error_sentence(status),
                  err != NULL ? err->detail : "");
  pu_engine_close(t->engine, NULL, NULL);
}

static void on_ping(void *data, int status, const pu_error *err, uint64_t rtt_us) {
  test *t = data;
  if (status == 0)
    (void)printf("{\"handshakePlusOneRTTMillis\":%.3f,\"pingRTTMilllis\":%.3f}\n",
                 now_ms() - t->started_ms, (double)rtt_us / 1000);
  finish(t, status, "ping", err);
}

static void on_connect(void *data, int status, const pu_error *err, pu_conn *conn) {
  test *t = data;
  pu_op *op;
  (void)conn;
  if (status == 0)
    status = pu_engine_ping(t->engine, &t->partner, 0, on_ping, t, &op);
  if (status != 0)
    finish(t, status, "connect", err);
}

static int connect_redis(test *t) {
  char host[256];
  int port = 6379;
  (void)snprintf(host, sizeof host, "%s", env("redis_addr", "redis:6379"));
  char *colon = strrchr(host, ':');
  if (colon != NULL) {
    *colon = '\0';
    port = atoi(colon + 1);
  }
  t->redis = redisConnect(host, port);
  if (t->redis != NULL && t->redis->err == 0)
    return 0;
  (void)fprintf(stderr, "transport-interop: redis: %s\n",
                t->redis != NULL ? t->redis->errstr : "out of memory");
  return -1;
}

static int dial(test *t, int seconds) {
  redisReply *reply = redisCommand(t->redis, "BLPOP listenerAddr %d", seconds);
  if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
    (void)fprintf(stderr, "transport-interop: no listener came within %d s\n", seconds);
    return -1;
  }
  const char *addr = reply->element[1]->str;
  const char *id = strstr(addr, "/p2p/");
  pu_error err = {0};
  pu_op *op;
  int status = PU_E_PARSE;
  if (id != NULL)
    status = pu_peer_id_from_text(id + 5, strlen(id + 5), &t->partner);
  if (status == 0)
    status = pu_engine_add_addr(t->engine, &t->partner, addr, UINT32_MAX, &err);
  t->started_ms = now_ms();
  if (status == 0)
    status =
        pu_engine_connect(t->engine, &t->partner, 0, (uint32_t)seconds * 1000, on_connect, t, &op);
  if (status != 0)
    (void)fprintf(stderr, "transport-interop: %s: %s %s\n", addr, pu_error_sentence(status),
                  err.detail);
  freeReplyObject(reply);
  return status;
}

static void publish(void *data, const char *addr) {
  test *t = data;
  if (t->redis == NULL)
    return;
  char id[PU_PEER_ID_MAX_TEXT];
  const char *suffix = strstr(addr, "/p2p/") == NULL ? "/p2p/" : "";
  redisReply *reply =
      redisCommand(t->redis, "RPUSH listenerAddr %s%s%s", addr, suffix,
                   suffix[0] != '\0' ? pu_peer_id_text(pu_engine_peer(t->engine), id) : "");
  freeReplyObject(reply);
  redisFree(t->redis); /* one address is enough */
  t->redis = NULL;
}

/* What follows the IP address, for each transport of the contract. */
static const struct transport {
  const char *name, *suffix;
  bool secured; /* by itself: without a security protocol and a muxer */
} transports[] = {
    {"tcp", "/tcp/0", false}, {"ws", "/tcp/0/ws", false}, {"quic-v1", "/udp/0/quic-v1", true}};

static const struct transport *wanted_transport(void) {
  const char *name = env("transport", "tcp");
  for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++)
    if (strcmp(name, transports[i].name) == 0)
      return &transports[i];
  (void)fprintf(stderr, "transport-interop: transport=%s is not supported\n", name);
  return NULL;
}

static int listen_for_partner(test *t, const struct transport *transport) {
  char addr[128];
  const char *ip = env("ip", "0.0.0.0");
  pu_error err = {0};
  (void)snprintf(addr, sizeof addr, "/%s/%s%s", strchr(ip, ':') != NULL ? "ip6" : "ip4", ip,
                 transport->suffix);
  int status = pu_engine_listen(t->engine, addr, &err);
  if (status != 0) {
    (void)fprintf(stderr, "transport-interop: %s: %s %s\n", addr, pu_error_sentence(status),
                  err.detail);
    return status;
  }
  pu_engine_addrs(t->engine, publish, t);
  return t->redis == NULL ? 0 : PU_E_NO_ADDRESS;
}

static int allow(void *data, const pu_question *question) {
  (void)data;
  (void)question;
  return 0;
}

/* check_security says which security protocol is to be spoken, NULL for a transport that needs
 * none. */
static int check_security(const struct transport *transport, const char **out) {
  const char *security = env("security", "noise"), *muxer = env("muxer", "yamux");
  *out = NULL;
  if (transport->secured)
    return 0;
  *out = security;
  if ((strcmp(security, "noise") == 0 || strcmp(security, "tls") == 0) &&
      strcmp(muxer, "yamux") == 0)
    return 0;
  (void)fprintf(stderr, "transport-interop: security=%s muxer=%s is not supported\n", security,
                muxer);
  return -1;
}

static void print_log(void *data, int level, const char *part, const char *line) {
  (void)data;
  (void)fprintf(stderr, "%d %s: %s\n", level, part, line);
}

int main(void) {
  test t = {.status = 0};
  pu_engine_config config = {.policy = allow, .log = print_log};
  pu_error err = {0};
  const int seconds = atoi(env("test_timeout_seconds", "180"));
  const struct transport *transport = wanted_transport();

  if (transport == NULL || check_security(transport, &config.security) != 0)
    return 2;
  (void)alarm((unsigned)seconds); /* the contract's deadline: ends the process */
  if (connect_redis(&t) != 0)
    return 1;
  if (pu_engine_new(&config, &t.engine, &err) != 0) {
    (void)fprintf(stderr, "transport-interop: %s\n", err.detail);
    return 1;
  }
  int status = strcmp(env("is_dialer", "false"), "true") == 0 ? dial(&t, seconds)
                                                              : listen_for_partner(&t, transport);
  if (status == 0)
    status = pu_engine_run(t.engine);
  if (t.redis != NULL)
    redisFree(t.redis);
  return status == 0 && t.status == 0 ? 0 : 1;
}
