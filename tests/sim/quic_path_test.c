/* QUIC on long and fat paths in the simulated network: a stream fills them, and a queue that
 * overflows, or a loss that makes thousands of holes, does not end the connection.
 *
 *   quic_path_test [--seeds N]: N below 1000 (a build that is instrumented) takes shorter runs */
#include "platform/sim.h"
#include "support/quic_rig.h"

#define SECOND 1000000u
#define PORT 4001

typedef struct path {
  const char *name;
  pu_quic_congestion congestion;
  pu_sim_link link;
  unsigned warm_s, run_s;
  unsigned percent; /* of the rate that is to be reached */
} path;

static const path paths[] = {
    {"100 Mbit/s, 200 ms, a queue of its product",
     PU_QUIC_CUBIC,
     {.delay_us = 100000, .rate_bytes_s = 12500000, .queue_bytes = 2500000},
     10,
     5,
     85},
    {"100 Mbit/s, 200 ms, a short queue",
     PU_QUIC_CUBIC,
     {.delay_us = 100000, .rate_bytes_s = 12500000, .queue_bytes = 300000},
     10,
     10,
     60},
    {"1 Gbit/s, 200 ms, a short queue that overflows",
     PU_QUIC_CUBIC,
     {.delay_us = 100000, .rate_bytes_s = 125000000, .queue_bytes = 1000000},
     5,
     5,
     10},
    {"1 Gbit/s, 200 ms, 0.1 % loss, BBR",
     PU_QUIC_BBR,
     {.delay_us = 100000, .loss_ppm = 1000, .rate_bytes_s = 125000000, .queue_bytes = 25000000},
     5,
     25,
     80},
};

static uint8_t block[65504];

static void pump(rig_stream *r) {
  const pu_session_ops *ops = r->session->session->ops;
  for (;;) {
    size_t n = ops->space(r->session->session, r->st);
    if (n == 0) {
      ops->wait(r->session->session, r->st);
      return;
    }
    n = n < sizeof block ? n : sizeof block;
    const ssize_t taken = ops->write(r->session->session, r->st, pu_span_of(block, n), false);
    PU_ASSERT(taken >= 0);
    if ((size_t)taken < n)
      return;
  }
}

static void on_writable(void *user) {
  pump(user);
}

static size_t on_data(void *user, pu_span io) {
  ((rig_stream *)user)->received += io.len;
  return io.len;
}

static bool run(const path *p, unsigned divide) {
  const pu_sockaddr ips[2] = {{.family = 4, .ip = {10, 0, 0, 1}},
                              {.family = 4, .ip = {10, 0, 0, 2}}};
  pu_sockaddr any = {.family = 4, .port = PORT}, to = ips[1], bound;
  pu_platform *platforms[2];
  pu_sim *sim;
  rig_end a, b;
  rig_dialled d;
  int status;
  PU_ASSERT(pu_sim_new(5, &sim) == 0);
  for (size_t i = 0; i < 2; i++)
    PU_ASSERT(pu_sim_add_host(sim, "host", &ips[i], 1, &platforms[i]) == 0);
  PU_ASSERT(pu_sim_set_link(sim, NULL, NULL, &p->link) == 0);
  rig_begin(&a, platforms[0], 1, p->congestion);
  rig_begin(&b, platforms[1], 2, p->congestion);
  a.on_writable = b.on_writable = on_writable;
  a.on_data = b.on_data = on_data;
  PU_ASSERT(pu_quic_listen(b.quic, &any, &bound) == 0);
  to.port = PORT;
  rig_dial(&a, &to, &d);
  (void)pu_sim_run(sim, pu_sim_now_us(sim) + 2 * SECOND, NULL);
  PU_ASSERT(d.status == 0 && d.session->open && b.session_count == 1);
  rig_stream *r = rig_open(d.session, &status);
  PU_ASSERT(r != NULL);
  pump(r);
  (void)pu_sim_run(sim, pu_sim_now_us(sim) + p->warm_s * SECOND, NULL);
  const rig_stream *in = &b.sessions[0]->streams[0];
  const uint64_t before = in->received;
  const unsigned run_s = p->run_s / divide > 0 ? p->run_s / divide : 1;
  (void)pu_sim_run(sim, pu_sim_now_us(sim) + (uint64_t)run_s * SECOND, NULL);
  const double reached =
      (double)(in->received - before) * 100 / ((double)p->link.rate_bytes_s * run_s);
  const bool alive = !d.session->ended && !b.sessions[0]->ended;
  /* A part of the run only shows that it lives and moves. */
  const bool good = alive && (divide > 1 ? reached > 1 : reached >= p->percent);
  (void)printf("%s: %.0f %% of %u s%s%s\n", p->name, reached, run_s,
               alive ? "" : ", and the connection ended: ", alive ? "" : d.session->why);
  rig_finish(&a);
  rig_finish(&b);
  pu_sim_free(sim);
  return good;
}

int main(int argc, char **argv) {
  const unsigned divide = argc > 2 && strtoul(argv[2], NULL, 10) < 1000 ? 25 : 1;
  bool good = true;
  for (size_t i = 0; i < PU_COUNT(paths); i++)
    good = run(&paths[i], divide) && good;
  return good ? 0 : 1;
}
