/* Fuzzes the TXT records behind /dnsaddr: each line of the input is a record of the name "a", which
 * may lead to itself. However they are, what comes of it is bounded and all is given back. */
#include <string.h>

#include "platform/assert.h"
#include "platform/sim.h"
#include "swarm/resolve.h"

#define LINE_MAX_BYTES 511u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct outcome {
  size_t found, failed;
  bool done;
} outcome;

static void on_found(void *data, size_t origin, const pu_multiaddr *addr,
                     const pu_ma_target *target) {
  outcome *o = data;
  PU_ASSERT(origin == 7 && addr->len > 0 && !pu_names_needed(addr, target));
  PU_ASSERT(++o->found <= PU_NAMES_MAX);
}
static void on_failed(void *data, size_t origin, int status, const char *detail) {
  outcome *o = data;
  PU_ASSERT(origin == 7 && status < 0 && detail[0] != '\0');
  PU_ASSERT(++o->failed <= PU_NAMES_MAX);
}
static void on_done(void *data) {
  outcome *o = data;
  PU_ASSERT(!o->done);
  o->done = true;
}
static const pu_names_events events = {on_found, on_failed, on_done};

static void add_records(pu_sim *sim, const uint8_t *data, size_t size) {
  for (size_t begin = 0, count = 0; begin < size && count < PU_RESOLVE_TEXTS_MAX; count++) {
    const uint8_t *end = memchr(data + begin, '\n', size - begin);
    const size_t len = end != NULL ? (size_t)(end - data) - begin : size - begin;
    char line[LINE_MAX_BYTES + 1] = {0};
    memcpy(line, data + begin, len < LINE_MAX_BYTES ? len : LINE_MAX_BYTES);
    PU_ASSERT(pu_sim_text(sim, "_dnsaddr.a", line) == 0);
    begin += len + 1;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const pu_sockaddr at = {.family = 4, .ip = {10, 0, 0, 1}}, b = {.family = 4, .ip = {10, 0, 0, 2}};
  static const char id[] = "12D3KooWQqXDVTe47FKJ6z3dfycpnvf8MhYzjPbDLaT7FDWCTaws";
  pu_sim *sim;
  pu_platform *platform;
  pu_mem mem;
  pu_peer_id peer;
  pu_multiaddr addr;
  pu_names *names;
  outcome o = {0};
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  PU_ASSERT(pu_sim_new(1, &sim) == 0 && pu_sim_add_host(sim, "host", &at, 1, &platform) == 0);
  PU_ASSERT(pu_sim_name(sim, "b", &b) == 0);
  PU_ASSERT(pu_peer_id_from_text(id, sizeof id - 1, &peer) == 0);
  PU_ASSERT(pu_multiaddr_from_text("/dnsaddr/a", 10, &addr, NULL) == 0);
  add_records(sim, data, size);
  PU_ASSERT(pu_names_new(&mem, platform, &peer, &events, &o, &names) == 0);
  PU_ASSERT(pu_names_add(names, &addr, 7) == 0 && pu_names_start(names) == 0);
  PU_ASSERT(pu_sim_run(sim, 1000000000u, &o.done));
  pu_names_free(names);
  PU_ASSERT(mem.used == 0);
  pu_mem_deinit(&mem);
  pu_sim_free(sim);
  return 0;
}
