/* Whole hosts over WebSocket in the simulated network: one speaks to another through /ws, a second
 * through /tls/ws and a third by plain TCP, all to the same port. Every byte of an echo is checked,
 * over links with loss and delay that the seed draws; afterwards nothing is left. And strangers
 * come to that port, who are slow or send what no program would: each is gone in time, at a bounded
 * cost.
 *
 *   ws_test [--seeds N] [--first N]     PEERUP_SIM_SEED=N: this one only, PEERUP_SIM_LOG=1: with
 * log */
#include "support/sim_hosts.h"

#define ECHO_ID "/test/echo/1.0.0"

static uint64_t state;

static uint64_t draw(uint64_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (state >> 33) % n;
}

/* ---- echo ---- */

static size_t echo_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  (void)user;
  ssize_t n = pu_stream_write_room(s, data, len, head, tail);
  return n < 0 ? len : (size_t)n;
}
static void echo_on_eof(void *user, pu_stream *s) {
  (void)user;
  (void)pu_stream_close_write(s);
  pu_stream_close(s);
}
static void echo_on_writable(void *user, pu_stream *s) {
  (void)user;
  pu_stream_resume(s);
}
static void echo_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)user;
  (void)s;
  (void)status;
  (void)code;
}
static const pu_stream_events echo_events = {echo_on_data, echo_on_eof, echo_on_writable,
                                             echo_on_end};

static int on_echo(void *data, pu_stream *s) {
  pu_stream_set_events(s, &echo_events, data);
  return 0;
}

typedef struct client {
  pu_stream *stream;
  uint64_t size, sent, received;
  uint8_t salt;
  bool fin_sent, done;
  int status;
} client;

static uint8_t byte_at(const client *c, uint64_t i) {
  return (uint8_t)(i * 37 + (i >> 9) + c->salt);
}

static void send_more(client *c) {
  uint8_t memory[PU_STREAM_HEAD + 60000 + PU_STREAM_TAIL], *bytes = memory + PU_STREAM_HEAD;
  while (c->sent < c->size) {
    size_t len = 1 + draw(60000);
    if (len > c->size - c->sent)
      len = (size_t)(c->size - c->sent);
    for (size_t i = 0; i < len; i++)
      bytes[i] = byte_at(c, c->sent + i);
    ssize_t n = pu_stream_write_room(c->stream, bytes, len, PU_STREAM_HEAD, PU_STREAM_TAIL);
    SIM_CHECK(n >= 0, "write: %s", pu_error_sentence((int)n));
    c->sent += (uint64_t)n;
    if ((size_t)n < len)
      return;
  }
  if (!c->fin_sent)
    (void)pu_stream_close_write(c->stream);
  c->fin_sent = true;
}

static size_t client_on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                             size_t tail) {
  client *c = user;
  (void)s;
  (void)head;
  (void)tail;
  for (size_t i = 0; i < len; i++)
    SIM_CHECK(data[i] == byte_at(c, c->received + i), "byte %" PRIu64, c->received + i);
  c->received += len;
  return len;
}
static void client_on_eof(void *user, pu_stream *s) {
  client *c = user;
  c->done = true;
  pu_stream_close(s);
}
static void client_on_writable(void *user, pu_stream *s) {
  (void)s;
  send_more(user);
}
static void client_on_end(void *user, pu_stream *s, int status, uint32_t code) {
  client *c = user;
  (void)s;
  (void)code;
  c->done = true;
  c->status = status;
}
static const pu_stream_events client_events = {client_on_data, client_on_eof, client_on_writable,
                                               client_on_end};

/* ---- one seed ---- */

/* What a host announces: plain, /ws, /tls/ws with the certificate's hash. */
typedef struct announced {
  unsigned plain, ws, wss;
  char secure[512];
} announced;

static void note_addr(void *data, const char *addr) {
  announced *a = data;
  if (strstr(addr, "/tls/ws/certhash/u") != NULL) {
    a->wss++;
    (void)snprintf(a->secure, sizeof a->secure, "%s", addr);
  } else if (strstr(addr, "/ws") != NULL) {
    a->ws++;
  } else {
    a->plain++;
  }
}

static void look_at(void *data, pu_conn *c) {
  pu_conn_info *info = data;
  pu_conn_info_get(c, info);
}

static void echo(sim_host *from, const sim_host *to, uint64_t size) {
  static const char *const ids[] = {ECHO_ID};
  client c = {.size = size, .salt = (uint8_t)from->number};
  sim_answer a = {0};
  pu_op *op;
  int rc = pu_engine_open_stream(from->engine, &to->id, ids, 1, 0, 0, sim_on_open, &a, &op);
  SIM_CHECK(rc == 0, "open: %s", pu_error_sentence(rc));
  SIM_CHECK(pu_sim_run(from->sim, pu_sim_now_us(from->sim) + 120 * SIM_SECOND, &a.done), "open");
  SIM_CHECK(a.status == 0, "open: %s", a.detail);
  c.stream = a.stream;
  pu_stream_set_events(c.stream, &client_events, &c);
  send_more(&c);
  SIM_CHECK(pu_sim_run(from->sim, pu_sim_now_us(from->sim) + 1200 * (uint64_t)SIM_SECOND, &c.done),
            "echo hangs at %" PRIu64 " of %" PRIu64, c.received, c.size);
  SIM_CHECK(c.status == 0 && c.received == size, "echo: %s, %" PRIu64 " of %" PRIu64,
            pu_error_sentence(c.status), c.received, size);
}

/* check_conn looks at both ends of the one connection between two hosts. */
static void check_conn(sim_host *from, sim_host *to, const char *transport, const char *end) {
  sim_host *const both[2] = {from, to};
  for (int i = 0; i < 2; i++) {
    pu_conn_info info = {0};
    pu_conn *c = pu_engine_best_conn(both[i]->engine, &both[1 - i]->id);
    SIM_CHECK(c != NULL, "no connection");
    look_at(&info, c);
    SIM_CHECK(strcmp(info.transport, transport) == 0, "transport %s", info.transport);
    const char *tail = strrchr(info.addr, '/');
    SIM_CHECK(end == NULL ? strcmp(tail, "/ws") != 0 : strcmp(tail, end) == 0, "addr %s",
              info.addr);
  }
}

static void run(uint64_t seed) {
  pu_sim *sim;
  sim_host server, web, plain, secure;
  char ws[128], wss[128];
  announced told = {0};
  sim_answer a;
  sim_seed = seed;
  state = seed * 2862933555777941757u + 3037000493u;
  SIM_CHECK(pu_sim_new(seed, &sim) == 0, "sim");
  sim_host_start(sim, &server, 1, NULL); /* plain TCP */
  (void)snprintf(ws, sizeof ws, "%s/ws", server.addr);
  SIM_CHECK(pu_engine_listen(server.engine, ws, NULL) == 0, "listen on %s", ws);
  SIM_CHECK(pu_engine_listen(server.engine, ws, NULL) == PU_E_IN_USE, "twice on %s", ws);
  (void)snprintf(wss, sizeof wss, "%s/tls/ws", server.addr);
  SIM_CHECK(pu_engine_listen(server.engine, wss, NULL) == 0, "listen on %s", wss);
  pu_engine_addrs(server.engine, note_addr, &told);
  SIM_CHECK(told.plain == 1 && told.ws == 1 && told.wss == 1, "announced %u %u %u", told.plain,
            told.ws, told.wss);
  SIM_CHECK(pu_engine_handle(server.engine, ECHO_ID, on_echo, NULL) == 0, "handle");
  sim_host_start(sim, &web, 2, NULL);
  sim_host_start(sim, &plain, 3, NULL);
  sim_host_start(sim, &secure, 4, NULL);
  const pu_sim_link link = {.delay_us = draw(100000), .loss_ppm = draw(3) == 0 ? 30000 : 0};
  SIM_CHECK(pu_sim_set_link(sim, NULL, NULL, &link) == 0, "link");
  SIM_CHECK(pu_engine_add_addr(web.engine, &server.id, ws, UINT32_MAX, NULL) == 0, "address");
  sim_host_knows(&plain, &server);
  SIM_CHECK(pu_engine_add_addr(secure.engine, &server.id, told.secure, UINT32_MAX, NULL) == 0,
            "address %s", told.secure);
  SIM_CHECK(sim_connect(&web, &server, 0, &a) == 0, "connect over ws: %s", a.detail);
  SIM_CHECK(sim_connect(&plain, &server, 0, &a) == 0, "connect over tcp: %s", a.detail);
  SIM_CHECK(sim_connect(&secure, &server, 0, &a) == 0, "connect over wss: %s", a.detail);
  sim_run_for(sim, 10 * SIM_SECOND); /* the server knows later */
  check_conn(&web, &server, "ws", "/ws");
  check_conn(&plain, &server, "tcp", NULL);
  check_conn(&secure, &server, "wss", "/ws");
  SIM_CHECK(sim_ping(&web, &server, &a) == 0, "ping: %s", a.detail);
  for (int i = 0; i < 3; i++)
    echo(draw(2) == 0 ? &secure : &plain, &server, draw(4) == 0 ? draw(2000000) : draw(20000));
  echo(&web, &server, 1 + draw(300000));
  sim_host_end(&web);
  sim_run_for(sim, SIM_SECOND * 5);
  SIM_CHECK(pu_engine_best_conn(server.engine, &web.id) == NULL, "the end was not seen");
  sim_host_end(&secure);
  sim_host_end(&plain);
  sim_host_end(&server);
  sim_run_for(sim, SIM_SECOND);
  SIM_CHECK(pu_sim_open_sockets(sim) == 0, "sockets are left");
  pu_sim_free(sim);
}

/* ---- strangers ---- */

/* Somebody who sends |text| a byte every |gap_us|, and then perhaps zeros. */
typedef struct stranger {
  const char *text;
  size_t len, pos;
  uint64_t gap_us;
  bool flood; /* with zeros behind */
  pu_tcp *tcp;
  pu_timer next;
  bool gone;
} stranger;

static void stranger_gone(stranger *s) {
  s->gone = true;
  pu_timer_stop(&s->next);
  pu_tcp_close(s->tcp, true);
  s->tcp = NULL;
}

static void stranger_readable(void *data) {
  stranger *s = data;
  uint8_t bytes[1024];
  const pu_iov iov = {bytes, sizeof bytes};
  const ssize_t n = pu_tcp_readv(s->tcp, &iov, 1);
  if (n <= 0 && n != PU_E_AGAIN)
    stranger_gone(s);
}

static void stranger_says(void *data) {
  static const uint8_t zeros[4096];
  stranger *s = data;
  const pu_iov byte = {(void *)(uintptr_t)(s->text + s->pos), 1};
  const pu_iov flood = {(void *)(uintptr_t)zeros, sizeof zeros};
  ssize_t n = 0;
  if (s->pos < s->len)
    n = pu_tcp_writev(s->tcp, &byte, 1);
  else if (s->flood)
    (void)(pu_tcp_writev(s->tcp, &flood, 1) < 0);
  if (n == 1)
    s->pos++;
  (void)pu_timer_after(&s->next, s->gap_us);
}

static void stranger_connected(void *data, int status) {
  stranger *s = data;
  SIM_CHECK(status == 0, "a stranger cannot connect");
  pu_tcp_want(s->tcp, PU_WANT_READ);
  (void)pu_timer_after(&s->next, s->gap_us);
}

/* visit lets a stranger come; it must be gone after |patience_s|, and may cost |most| bytes until
 * then. */
static void visit(pu_sim *sim, sim_host *host, pu_platform *from, stranger *s, uint64_t patience_s,
                  size_t most) {
  static const pu_tcp_events tcp_events = {stranger_connected, stranger_readable, NULL};
  const size_t idle = pu_engine_memory(host->engine);
  const uint64_t until = pu_sim_now_us(sim) + patience_s * SIM_SECOND;
  pu_sockaddr to = host->ip;
  to.port = SIM_PORT;
  pu_timer_init(&s->next, from, stranger_says, s);
  SIM_CHECK(pu_tcp_connect(from, NULL, &to, &tcp_events, s, &s->tcp) == 0, "connect");
  while (!s->gone && pu_sim_now_us(sim) < until && pu_sim_step(sim))
    SIM_CHECK(pu_engine_memory(host->engine) <= idle + most, "a stranger costs %zu",
              pu_engine_memory(host->engine) - idle);
  SIM_CHECK(s->gone, "a stranger is still there");
  sim_run_for(sim, SIM_SECOND * 5);
  SIM_CHECK(pu_engine_memory(host->engine) <= idle, "a stranger has left something");
}

static void strangers(void) {
#define UPGRADE                                                                \
  "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define GIANT "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"
  static const char upgrade[] = UPGRADE, giant[] = UPGRADE GIANT "\x13/multistream/1.0.0\n";
  static const char endless[] = "GET /", hello[] = "\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03";
  pu_sim *sim;
  sim_host host;
  pu_platform *from;
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 99}};
  char addr[128];
  sim_seed = 0;
  SIM_CHECK(pu_sim_new(1, &sim) == 0, "sim");
  SIM_CHECK(pu_sim_add_host(sim, "stranger", &ip, 1, &from) == 0, "host");
  sim_host_start(sim, &host, 1, NULL);
  (void)snprintf(addr, sizeof addr, "%s/ws", host.addr);
  SIM_CHECK(pu_engine_listen(host.engine, addr, NULL) == 0, "listen");
  (void)snprintf(addr, sizeof addr, "%s/tls/ws", host.addr);
  SIM_CHECK(pu_engine_listen(host.engine, addr, NULL) == 0, "listen");
  const size_t plain = 65536 + 16384, tls = 65536 + 65536;
  const struct {
    stranger s;
    uint64_t patience_s;
    size_t most;
  } cases[] = {
      /* says nothing; an upgrade of a byte a second, which would take three minutes; one that stops
       */
      {{.text = "", .len = 0, .gap_us = SIM_SECOND}, 12, plain},
      {{.text = upgrade, .len = sizeof upgrade - 1, .gap_us = SIM_SECOND}, 18, plain},
      {{.text = upgrade, .len = 40, .gap_us = 1000}, 18, plain},
      /* a path that never ends */
      {{.text = endless, .len = sizeof endless - 1, .gap_us = 1000, .flood = true}, 18, plain},
      /* a frame of 2^63 bytes that speaks libp2p, and then does not */
      {{.text = giant, .len = sizeof giant - 1, .gap_us = 1000, .flood = true}, 18, plain},
      {{.text = giant, .len = sizeof giant - 1, .gap_us = 1000}, 18, plain},
      /* TLS that stops, and that is none */
      {{.text = hello, .len = sizeof hello - 1, .gap_us = 1000}, 18, tls},
      {{.text = hello, .len = sizeof hello - 1, .gap_us = 1000, .flood = true}, 18, tls},
      {{.text = "SSH-2.0-x\r\n", .len = 11, .gap_us = 1000}, 2, plain},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    stranger s = cases[i].s;
    visit(sim, &host, from, &s, cases[i].patience_s, cases[i].most);
  }
  sim_host_end(&host);
  sim_run_for(sim, SIM_SECOND);
  SIM_CHECK(pu_sim_open_sockets(sim) == 0, "sockets are left");
  pu_sim_free(sim);
}

int main(int argc, char **argv) {
  uint64_t first = 1, count = 20;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--seeds") == 0)
      count = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--first") == 0)
      first = strtoull(argv[i + 1], NULL, 10);
  }
  const char *only = getenv("PEERUP_SIM_SEED");
  if (only != NULL) {
    first = strtoull(only, NULL, 10);
    count = 1;
  }
  strangers();
  for (uint64_t seed = first; seed < first + count; seed++)
    run(seed);
  return 0;
}
