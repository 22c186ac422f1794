/* A stranger at the door of a whole host in the simulated network. Byte 0 says what it does:
 *
 *   bit 0  0: its bytes go to the socket as they are; 1: it makes an honest handshake first, and
 * its bytes are what the host's muxer reads bit 1  it stays and says nothing more, else it closes
 * when it is through bits 2 to 5  it sends in pieces of so many bytes (0: all at once), a little
 * apart bit 6  the port serves /ws and /tls/ws, too
 *
 * Whatever comes, the host stays within what a stranger may cost, drops it in time, and ends in
 * balance. */
#include <string.h>

#include "platform/assert.h"
#include "platform/sim.h"
#include "support/sim_hosts.h"
#include "swarm/conn.h"
#include "transport/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATIENCE_US (60 * (uint64_t)SIM_SECOND)
/* What an authenticated connection may hold of a peer that only sends this much: streams, windows.
 */
#define OPEN_MAX_BYTES (4u * 1024 * 1024)

/* What WebSocket and its TLS take beside: named bounds of theirs (transport/ws.h,
 * security/tls_priv.h). */
#define WEB_MAX_BYTES (64u * 1024)

typedef struct stranger {
  pu_platform *platform;
  pu_mem mem;
  pu_key *key;
  pu_rx_memory memory;
  pu_tcp *tcp; /* while raw */
  pu_channel channel;
  bool has_channel, ended;
  pu_timer more;
  uint8_t flags;
  const uint8_t *data;
  size_t len, pos, piece;
} stranger;

static void finish(stranger *s) {
  if ((s->flags & 2) != 0)
    return;
  pu_tcp_close(s->tcp, false);
  s->tcp = NULL;
  if (s->has_channel && !s->ended)
    pu_channel_stop(&s->channel, false);
  s->ended = true;
}

/* send_more sends the next piece; false when everything is sent or the host has closed. */
static bool send_more(stranger *s) {
  uint8_t room[PU_SPAN_HEAD + 4096 + PU_SPAN_TAIL];
  size_t n = s->len - s->pos < s->piece ? s->len - s->pos : s->piece;
  if (n > 4096)
    n = 4096;
  if (n == 0 || s->ended)
    return false;
  memcpy(room + PU_SPAN_HEAD, s->data + s->pos, n);
  if (s->has_channel) {
    pu_span io = {room + PU_SPAN_HEAD, n, PU_SPAN_HEAD, PU_SPAN_TAIL};
    if (pu_channel_send(&s->channel, &io, false) != 0)
      return false;
  } else {
    const pu_iov iov = {room + PU_SPAN_HEAD, n};
    ssize_t written = s->tcp == NULL ? PU_E_CLOSED : pu_tcp_writev(s->tcp, &iov, 1);
    if (written < 0 && written != PU_E_AGAIN)
      return false;
    n = written > 0 ? (size_t)written : 0;
  }
  s->pos += n;
  return true;
}

static void on_more(void *data) {
  stranger *s = data;
  if (send_more(s))
    (void)pu_timer_after(&s->more, 1000);
  else
    finish(s);
}

static int on_secured(void *user, const pu_security_result *result) {
  (void)user;
  (void)result;
  return 0;
}
static int on_channel_open(void *user) {
  stranger *s = user;
  return pu_timer_after(&s->more, 0);
}
static int on_plain(void *user, pu_span data) {
  (void)user;
  (void)data;
  return 0;
}
static void on_blocked(void *user, bool blocked) {
  (void)user;
  (void)blocked;
}
static void on_channel_end(void *user, int status, const char *why) {
  stranger *s = user;
  (void)status;
  (void)why;
  s->ended = true;
}
static const pu_channel_events channel_events = {on_secured, on_channel_open, on_plain, on_blocked,
                                                 on_channel_end};

static void random_bytes(void *data, void *out, size_t len) {
  pu_random(data, out, len);
}

static void on_connect(void *data, int status) {
  stranger *s = data;
  PU_ASSERT(status == 0);
  if ((s->flags & 1) == 0) {
    (void)pu_timer_after(&s->more, 0);
    return;
  }
  const pu_channel_config config = {.mem = &s->mem,
                                    .initiator = true,
                                    .key = s->key,
                                    .random = random_bytes,
                                    .random_data = s->platform,
                                    .events = &channel_events,
                                    .user = s};
  pu_raw *raw;
  pu_tcp *tcp = s->tcp;
  s->tcp = NULL;
  PU_ASSERT(pu_tcp_raw_new(&s->mem, tcp, &s->memory, &raw) == 0);
  PU_ASSERT(pu_channel_start(&s->channel, &config, raw) == 0);
  s->has_channel = true;
}
static void on_readable(void *data) {
  stranger *s = data;
  uint8_t bytes[4096];
  const pu_iov iov = {bytes, sizeof(bytes)};
  ssize_t n = pu_tcp_readv(s->tcp, &iov, 1);
  if (n == 0 || (n < 0 && n != PU_E_AGAIN)) {
    pu_tcp_close(s->tcp, true);
    s->tcp = NULL;
    s->ended = true;
  }
}
static const pu_tcp_events tcp_events = {on_connect, on_readable, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pu_sim *sim;
  sim_host host;
  stranger s = {0};
  if (size == 0)
    return 0;
  s.flags = data[0];
  s.data = data + 1;
  s.len = size - 1;
  s.piece = (data[0] >> 2 & 15u) == 0 ? SIZE_MAX : (data[0] >> 2 & 15u);
  PU_ASSERT(pu_sim_new(1, &sim) == 0);
  sim_host_start(sim, &host, 1, NULL);
  if ((s.flags & 64) != 0) {
    static const char *const more[] = {"/ip4/10.0.0.1/tcp/4001/ws",
                                       "/ip4/10.0.0.1/tcp/4001/tls/ws"};
    for (size_t i = 0; i < PU_COUNT(more); i++)
      PU_ASSERT(pu_engine_listen(host.engine, more[i], NULL) == 0);
  }
  const size_t idle = pu_engine_memory(host.engine);
  const pu_sockaddr from = {.family = 4, .ip = {10, 0, 0, 2}};
  pu_sockaddr to = host.ip;
  to.port = SIM_PORT;
  PU_ASSERT(pu_sim_add_host(sim, "stranger", &from, 1, &s.platform) == 0);
  pu_mem_init(&s.mem, NULL, PU_MEM_UNLIMITED);
  uint8_t seed[32] = {42};
  PU_ASSERT(pu_key_from_seed(seed, &s.key) == 0);
  s.memory.bytes = pu_alloc(&s.mem, PU_SPAN_HEAD + PU_RX_BYTES + PU_SPAN_TAIL);
  PU_ASSERT(s.memory.bytes != NULL);
  pu_timer_init(&s.more, s.platform, on_more, &s);
  PU_ASSERT(pu_tcp_connect(s.platform, NULL, &to, &tcp_events, &s, &s.tcp) == 0);
  pu_tcp_want(s.tcp, PU_WANT_READ);
  const size_t most = idle + ((s.flags & 1) == 0 ? PU_PREAUTH_MAX_BYTES : OPEN_MAX_BYTES) +
                      ((s.flags & 64) != 0 ? WEB_MAX_BYTES : 0);
  const uint64_t until = pu_sim_now_us(sim) + PATIENCE_US;
  while (pu_sim_now_us(sim) < until) {
    PU_ASSERT(pu_engine_memory(host.engine) <= most);
    /* Past the handshake's deadline a stranger that said nothing of sense is gone. */
    if ((s.flags & 1) == 0 && pu_sim_now_us(sim) > 20 * SIM_SECOND)
      PU_ASSERT(host.engine->conn_count == 0);
    if (!pu_sim_step(sim))
      break;
  }
  pu_timer_stop(&s.more);
  pu_tcp_close(s.tcp, true);
  if (s.has_channel)
    pu_channel_stop(&s.channel, true);
  sim_host_end(&host);
  sim_run_for(sim, SIM_SECOND);
  PU_ASSERT(pu_sim_open_sockets(sim) == 0);
  pu_key_free(s.key);
  pu_free(s.memory.bytes);
  pu_mem_deinit(&s.mem);
  pu_sim_free(sim);
  return 0;
}
