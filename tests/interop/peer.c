/* Our peer of the relay tests against other implementations. Roles as in go/main.go:
 *   relay | listen RELAY | serve ADDR... (listens directly) | dial ADDR BYTES
 * Serving roles end when they are killed. */
#include <inttypes.h>
#include <peerup/engine.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ECHO_ID "/peerup-interop/echo/1.0.0"

typedef struct peer {
  pu_engine *engine;
  const char *relay; /* listen: the relay's address */
  pu_peer_id target; /* dial */
  uint64_t to_send, sent, received;
  bool eof;
  uint8_t block[16384];
  crypto_hash_sha256_state sent_hash, received_hash;
  int status;
} peer;

static int allow(void *data, const pu_question *question) {
  (void)data;
  (void)question;
  return 0;
}

static void finish(peer *p, int status, const char *what, const char *detail) {
  p->status = status;
  if (status != 0)
    (void)fprintf(stderr, "interop-peer: %s: %s (%s)\n", what, pu_error_sentence(status), detail);
  pu_engine_close(p->engine, NULL, NULL);
}

/* ---- the echo service ---- */

static size_t echo_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                        size_t tail) {
  (void)user;
  ssize_t taken = pu_stream_write_room(s, data, len, head, tail);
  return taken < 0 ? len : (size_t)taken;
}
static void echo_eof(void *user, pu_stream *s) {
  (void)user;
  (void)pu_stream_close_write(s);
}
static void echo_writable(void *user, pu_stream *s) {
  (void)user;
  pu_stream_resume(s);
}
static void echo_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)user;
  (void)s;
  (void)status;
  (void)code;
}
static const pu_stream_events echo_events = {echo_data, echo_eof, echo_writable, echo_end};

static int on_echo(void *data, pu_stream *s) {
  pu_stream_set_events(s, &echo_events, data);
  return 0;
}

/* ---- dialing ---- */

static void on_ping(void *data, int status, const pu_error *err, uint64_t rtt_us) {
  peer *p = data;
  if (status == 0) {
    pu_conn_info info;
    pu_conn_info_get(pu_engine_best_conn(p->engine, &p->target), &info);
    (void)printf("{\"bytes\":%" PRIu64 ",\"ping_ms\":%.3f,\"addr\":\"%s\"}\n", p->received,
                 (double)rtt_us / 1000, info.addr);
  }
  finish(p, status, "ping", err->detail);
}

static void check_echo(peer *p, pu_stream *s) {
  uint8_t sent[32], received[32];
  pu_op *op;
  crypto_hash_sha256_final(&p->sent_hash, sent);
  crypto_hash_sha256_final(&p->received_hash, received);
  pu_stream_close(s);
  if (p->received != p->to_send || memcmp(sent, received, sizeof sent) != 0) {
    finish(p, PU_E_IO, "echo", "what came back differs");
    return;
  }
  int status = pu_engine_ping(p->engine, &p->target, 0, on_ping, p, &op);
  if (status != 0)
    finish(p, status, "ping", "");
}

static void send_more(peer *p, pu_stream *s) {
  while (p->sent < p->to_send) {
    size_t len = sizeof p->block;
    if (len > p->to_send - p->sent)
      len = (size_t)(p->to_send - p->sent);
    for (size_t i = 0; i < len; i++)
      p->block[i] = (uint8_t)((p->sent + i) * 31 + ((p->sent + i) >> 8));
    ssize_t taken = pu_stream_write(s, p->block, len);
    if (taken < 0) {
      finish(p, (int)taken, "write", "");
      return;
    }
    crypto_hash_sha256_update(&p->sent_hash, p->block, (unsigned long long)taken);
    p->sent += (uint64_t)taken;
    if ((size_t)taken < len)
      return;
  }
  (void)pu_stream_close_write(s);
}

static size_t dial_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                        size_t tail) {
  peer *p = user;
  (void)s;
  (void)head;
  (void)tail;
  crypto_hash_sha256_update(&p->received_hash, data, len);
  p->received += len;
  return len;
}
static void dial_eof(void *user, pu_stream *s) {
  check_echo(user, s);
}
static void dial_writable(void *user, pu_stream *s) {
  send_more(user, s);
}
static void dial_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)s;
  (void)code;
  finish(user, status, "stream", "ended early");
}
static const pu_stream_events dial_events = {dial_data, dial_eof, dial_writable, dial_end};

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  peer *p = data;
  if (status != 0) {
    finish(p, status, "open stream", err->detail);
    return;
  }
  pu_stream_set_events(s, &dial_events, p);
  send_more(p, s);
}

static int dial(peer *p, const char *addr, const char *bytes) {
  static const char *const protocols[] = {ECHO_ID};
  const char *id = addr;
  for (const char *next = strstr(addr, "/p2p/"); next != NULL; next = strstr(next + 5, "/p2p/"))
    id = next + 5; /* the last one is the target */
  pu_error err = {0};
  pu_op *op;
  p->to_send = strtoull(bytes, NULL, 10);
  crypto_hash_sha256_init(&p->sent_hash);
  crypto_hash_sha256_init(&p->received_hash);
  int status = pu_peer_id_from_text(id, strlen(id), &p->target);
  if (status == 0)
    status = pu_engine_add_addr(p->engine, &p->target, addr, UINT32_MAX, &err);
  if (status == 0)
    status = pu_engine_open_stream(p->engine, &p->target, protocols, 1, PU_OPEN_LIMITED, 60000,
                                   on_open, p, &op);
  if (status != 0)
    (void)fprintf(stderr, "interop-peer: %s: %s %s\n", addr, pu_error_sentence(status), err.detail);
  return status;
}

/* ---- serving ---- */

static void print_addr(void *data, const char *addr) {
  peer *p = data;
  char id[PU_PEER_ID_MAX_TEXT];
  (void)printf("%s/p2p/%s\n", addr, pu_peer_id_text(pu_engine_peer(p->engine), id));
  (void)fflush(stdout);
}

static void on_event(void *data, const pu_event *event) {
  peer *p = data;
  char id[PU_PEER_ID_MAX_TEXT];
  if (event->type == PU_EVENT_RESERVED && p->relay != NULL) {
    (void)printf("%s/p2p-circuit/p2p/%s\n", p->relay,
                 pu_peer_id_text(pu_engine_peer(p->engine), id));
    (void)fflush(stdout);
    p->relay = NULL;
  } else if (event->type == PU_EVENT_RESERVATION_LOST) {
    (void)fprintf(stderr, "interop-peer: reservation: %s (%s)\n", pu_error_sentence(event->status),
                  event->detail);
  }
}

int main(int argc, char **argv) {
  peer p = {.status = 0};
  pu_engine_config config = {
      .policy = allow, .on_event = on_event, .event_data = &p, .agent = "peerup-interop"};
  pu_error err = {0};
  int status = PU_E_INVAL;

  if (sodium_init() < 0 || pu_engine_new(&config, &p.engine, &err) != 0) {
    (void)fprintf(stderr, "interop-peer: %s\n", err.detail);
    return 1;
  }
  if (argc == 2 && strcmp(argv[1], "relay") == 0) {
    status = pu_engine_listen(p.engine, "/ip4/127.0.0.1/tcp/0", &err);
    if (status == 0)
      status = pu_engine_relay_start(p.engine, NULL);
    if (status == 0)
      pu_engine_addrs(p.engine, print_addr, &p);
  } else if (argc == 3 && strcmp(argv[1], "listen") == 0) {
    p.relay = argv[2];
    status = pu_engine_handle(p.engine, ECHO_ID, on_echo, NULL);
    if (status == 0)
      status = pu_engine_reserve(p.engine, argv[2], 0, &err);
  } else if (argc >= 3 && strcmp(argv[1], "serve") == 0) {
    status = pu_engine_handle(p.engine, ECHO_ID, on_echo, NULL);
    for (int i = 2; i < argc && status == 0; i++)
      status = pu_engine_listen(p.engine, argv[i], &err);
    if (status == 0)
      pu_engine_addrs(p.engine, print_addr, &p);
  } else if (argc == 4 && strcmp(argv[1], "dial") == 0) {
    status = dial(&p, argv[2], argv[3]);
  }
  if (status == 0)
    status = pu_engine_run(p.engine);
  else
    (void)fprintf(stderr, "interop-peer: %s %s\n", pu_error_sentence(status), err.detail);
  return status == 0 && p.status == 0 ? 0 : 1;
}
