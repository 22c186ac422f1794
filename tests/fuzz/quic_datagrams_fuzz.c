/* Fuzzes a listening QUIC socket with datagrams of a stranger, beside a connection that stands: the input is
 * cut by two bytes of length each; the second half of them comes from another address. Nothing may
 * crash, be left, or cost more than a bound, and the connection lives on. */
#include "platform/sim.h"
#include "support/quic_rig.h"

#define SECOND 1000000u
#define MEMORY_MAX (2u * 1024 * 1024) /* of the socket and the buffers of all */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *data) {
  (void)data;
}
static const pu_udp_events events = {ignore, ignore};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const pu_sockaddr ips[3] = {{.family = 4, .ip = {10, 0, 0, 1}},
                              {.family = 4, .ip = {10, 0, 0, 2}},
                              {.family = 4, .ip = {10, 0, 0, 3}}};
  const pu_sockaddr any = {.family = 4, .port = 4001};
  pu_sockaddr to = ips[1], bound;
  pu_platform *platforms[3];
  pu_udp *sockets[2];
  pu_sim *sim;
  rig_end a, b;
  rig_dialled d;
  uint8_t datagram[2048];
  PU_ASSERT(pu_sim_new(1, &sim) == 0);
  for (size_t i = 0; i < 3; i++)
    PU_ASSERT(pu_sim_add_host(sim, "host", &ips[i], 1, &platforms[i]) == 0);
  rig_begin(&a, platforms[0], 1, PU_QUIC_CUBIC);
  rig_begin(&b, platforms[1], 2, PU_QUIC_CUBIC);
  PU_ASSERT(pu_quic_listen(b.quic, &any, &bound) == 0);
  to.port = any.port;
  rig_dial(&a, &to, &d);
  (void)pu_sim_run(sim, pu_sim_now_us(sim) + SECOND, NULL);
  PU_ASSERT(d.status == 0 && d.session->open);
  for (size_t i = 0; i < 2; i++)
    PU_ASSERT(pu_udp_open(platforms[2], &ips[2], &events, NULL, &sockets[i]) == 0);
  for (size_t at = 0, sent = 0; at + 2 <= size && sent < 64; sent++) {
    size_t len = (size_t)(data[at] << 8 | data[at + 1]) % sizeof datagram;
    at += 2;
    memset(datagram, 0, sizeof datagram); /* a short rest is padded: an Initial must be long */
    memcpy(datagram, data + at, len < size - at ? len : size - at);
    at += len < size - at ? len : size - at;
    const pu_datagrams batch = {.remote = to, .data = datagram, .len = len, .segment = len};
    if (len > 0)
      PU_ASSERT(pu_udp_send(sockets[sent % 2], &batch) == (ssize_t)len);
    if (sent % 8 == 7)
      (void)pu_sim_run(sim, pu_sim_now_us(sim) + SECOND / 100, NULL);
    PU_ASSERT(b.mem.used < MEMORY_MAX);
  }
  (void)pu_sim_run(sim, pu_sim_now_us(sim) + SECOND, NULL);
  PU_ASSERT(!d.session->ended && !b.sessions[0]->ended);
  for (size_t i = 0; i < 2; i++)
    pu_udp_close(sockets[i]);
  rig_finish(&a);
  rig_finish(&b);
  pu_sim_free(sim);
  return 0;
}
