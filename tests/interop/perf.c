/* The official libp2p perf contract on our public API:
 *   perf --run-server --server-address HOST:PORT [--transport T] [--security S]
 *   perf --server-address HOST:PORT --transport T --upload-bytes N --download-bytes N [--security
 * S]
 *        [--handshakes N]
 * T is tcp, ws or quic-v1; a server without it listens on all. S is noise or tls. The last option
 * connects, waits for identify and closes, N times, one after another, and prints how long it took.
 */
#include <inttypes.h>
#include <peerup/engine.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The server's key has the seed of 32 zero bytes, as those of other implementations, so that every
 * client knows whom to expect. */
#define SERVER_PEER "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
#define HANDSHAKES_MAX 1000000u

typedef struct perf {
  pu_engine *engine;
  pu_peer_id server;
  const char *host, *port, *transport, *security;
  bool run_server;
  uint64_t upload, download, handshakes;
  double started_s, dialled_s;
  double *connects_ms;
  uint64_t done;   /* handshakes */
  bool identified; /* in the handshake that is under way */
  int status;
} perf;

static double now_s(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int allow(void *data, const pu_question *question) {
  (void)data;
  (void)question;
  return 0;
}

static void finish(perf *p, int status, const char *what, const char *detail) {
  p->status = status;
  if (status != 0)
    (void)fprintf(stderr, "perf: %s: %s (%s)\n", what, pu_error_sentence(status), detail);
  pu_engine_close(p->engine, NULL, NULL);
}

static void print_line(const char *type, double seconds, uint64_t upload, uint64_t download) {
  (void)printf("{\"type\":\"%s\",\"timeSeconds\":%.6f,\"uploadBytes\":%" PRIu64
               ",\"downloadBytes\":%" PRIu64 "}\n",
               type, seconds, upload, download);
  (void)fflush(stdout);
}

/* ---- the client ---- */

static void on_progress(void *data, const pu_perf_result *step) {
  (void)data;
  print_line("intermediary", (double)step->elapsed_us / 1e6, step->uploaded, step->downloaded);
}

static void on_perf(void *data, int status, const pu_error *err, const pu_perf_result *result) {
  perf *p = data;
  if (status == 0)
    print_line("final", now_s() - p->started_s, result->uploaded, result->downloaded);
  finish(p, status, "perf", err->detail);
}

static void on_connect(void *data, int status, const pu_error *err, pu_conn *conn) {
  perf *p = data;
  pu_op *op;
  (void)conn;
  if (status == 0 && p->handshakes > 0) {
    p->connects_ms[p->done] = (now_s() - p->dialled_s) * 1e3;
    return; /* identify is next */
  }
  const pu_perf_config config = {
      .upload_bytes = p->upload, .download_bytes = p->download, .progress = on_progress};
  if (status == 0)
    status = pu_engine_perf(p->engine, &p->server, &config, on_perf, p, &op);
  if (status != 0)
    finish(p, status, "connect", err->detail);
}

static int dial(perf *p) {
  pu_op *op;
  p->dialled_s = now_s();
  return pu_engine_connect(p->engine, &p->server, 0, 0, on_connect, p, &op);
}

static int by_size(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print_handshakes(perf *p) {
  qsort(p->connects_ms, p->done, sizeof(double), by_size);
  (void)printf("{\"type\":\"final\",\"timeSeconds\":%.6f,\"handshakes\":%" PRIu64
               ",\"connectP50Millis\":%.3f}\n",
               now_s() - p->started_s, p->done, p->connects_ms[p->done / 2]);
}

static void on_event(void *data, const pu_event *event) {
  perf *p = data;
  int status = 0;
  if (p->handshakes == 0 || p->done == p->handshakes)
    return;
  if (event->type == PU_EVENT_IDENTIFIED && !p->identified) {
    p->identified = true;
    pu_conn_close(event->conn);
  } else if (event->type == PU_EVENT_DISCONNECTED) {
    if (!p->identified) { /* it ended by itself */
      p->done = p->handshakes;
      finish(p, event->status != 0 ? event->status : PU_E_GONE, "connect", "");
      return;
    }
    p->identified = false;
    if (++p->done < p->handshakes) {
      status = dial(p);
      if (status == 0)
        return;
    } else {
      print_handshakes(p);
    }
    finish(p, status, "connect", "");
  }
}

/* ---- addresses ---- */

static int address(const perf *p, const char *transport, char *out, size_t cap) {
  const char *family = strchr(p->host, ':') != NULL ? "ip6" : "ip4";
  const char *format = NULL;
  if (strcmp(transport, "tcp") == 0)
    format = "/%s/%s/tcp/%s";
  else if (strcmp(transport, "ws") == 0)
    format = "/%s/%s/tcp/%s/ws";
  else if (strcmp(transport, "quic-v1") == 0)
    format = "/%s/%s/udp/%s/quic-v1";
  if (format == NULL) {
    (void)fprintf(stderr, "perf: --transport %s: there are tcp, ws and quic-v1\n", transport);
    return PU_E_INVAL;
  }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  (void)snprintf(out, cap, format, family, p->host, p->port);
#pragma GCC diagnostic pop
  return 0;
}

static void print_addr(void *data, const char *addr) {
  (void)data;
  (void)printf("%s%s\n", addr, strstr(addr, "/p2p/") != NULL ? "" : "/p2p/" SERVER_PEER);
  (void)fflush(stdout);
}

static int serve(perf *p, pu_error *err) {
  static const char *const all[] = {"tcp", "ws", "quic-v1"};
  int status = pu_engine_perf_serve(p->engine);
  for (size_t i = 0; i < sizeof all / sizeof all[0] && status == 0; i++) {
    char addr[256];
    if (p->transport != NULL && strcmp(p->transport, all[i]) != 0)
      continue;
    status = address(p, all[i], addr, sizeof addr);
    if (status == 0)
      status = pu_engine_listen(p->engine, addr, err);
  }
  if (status == 0)
    pu_engine_addrs(p->engine, print_addr, p);
  return status;
}

static int measure(perf *p, pu_error *err) {
  char addr[256];
  if (p->handshakes > 0) {
    p->connects_ms = calloc(p->handshakes, sizeof(double));
    if (p->connects_ms == NULL)
      return PU_E_NOMEM;
  }
  int status = pu_peer_id_from_text(SERVER_PEER, strlen(SERVER_PEER), &p->server);
  if (status == 0)
    status = address(p, p->transport != NULL ? p->transport : "tcp", addr, sizeof addr);
  if (status == 0)
    status = pu_engine_add_addr(p->engine, &p->server, addr, UINT32_MAX, err);
  p->started_s = now_s();
  return status == 0 ? dial(p) : status;
}

/* ---- arguments ---- */

/* split cuts HOST:PORT or [HOST]:PORT in two. */
static bool split(char *text, perf *p) {
  char *colon = strrchr(text, ':');
  if (colon == NULL || colon == text)
    return false;
  *colon = '\0';
  if (text[0] == '[' && colon[-1] == ']') {
    colon[-1] = '\0';
    text++;
  }
  p->host = text;
  p->port = colon + 1;
  return true;
}

static bool arguments(perf *p, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (strcmp(name, "--run-server") == 0) {
      p->run_server = true;
      continue;
    }
    if (++i == argc)
      return false;
    char *value = argv[i];
    if (strcmp(name, "--server-address") == 0) {
      if (!split(value, p))
        return false;
    } else if (strcmp(name, "--transport") == 0) {
      p->transport = value;
    } else if (strcmp(name, "--security") == 0) {
      p->security = value;
    } else if (strcmp(name, "--upload-bytes") == 0) {
      p->upload = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--download-bytes") == 0) {
      p->download = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--handshakes") == 0) {
      p->handshakes = strtoull(value, NULL, 10);
    } else {
      return false;
    }
  }
  return p->host != NULL && p->handshakes <= HANDSHAKES_MAX;
}

int main(int argc, char **argv) {
  perf p = {.status = 0};
  pu_error err = {0};
  /* A libp2p PrivateKey: type Ed25519, 64 bytes. */
  uint8_t identity[68] = {0x08, 0x01, 0x12, 0x40}, seed[crypto_sign_SEEDBYTES] = {0};
  uint8_t public_key[crypto_sign_PUBLICKEYBYTES];

  if (!arguments(&p, argc, argv)) {
    (void)fprintf(stderr, "usage: perf --run-server --server-address HOST:PORT\n"
                          "       perf --server-address HOST:PORT --transport tcp|ws|quic-v1 "
                          "--upload-bytes N --download-bytes N\n"
                          "options: --security noise|tls, --handshakes N\n");
    return 2;
  }
  if (sodium_init() < 0)
    return 1;
  (void)crypto_sign_seed_keypair(public_key, identity + 4, seed);
  const pu_engine_config config = {.policy = allow,
                                   .on_event = on_event,
                                   .event_data = &p,
                                   .security = p.security,
                                   .identity = p.run_server ? identity : NULL,
                                   .identity_len = p.run_server ? sizeof identity : 0};
  if (pu_engine_new(&config, &p.engine, &err) != 0) {
    (void)fprintf(stderr, "perf: %s\n", err.detail);
    return 1;
  }
  int status = p.run_server ? serve(&p, &err) : measure(&p, &err);
  if (status == 0)
    status = pu_engine_run(p.engine);
  else
    (void)fprintf(stderr, "perf: %s %s\n", pu_error_sentence(status), err.detail);
  free(p.connects_ms);
  return status == 0 && p.status == 0 ? 0 : 1;
}
