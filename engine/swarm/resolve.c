/* Looking names up; see resolve.h. A queue of look-ups, some of them under way; records that are
 * names again join the queue. */
#include "swarm/resolve.h"

#include <stdio.h>
#include <string.h>

#include "base/list.h"

#define PREFIX "dnsaddr="
#define DETAIL_MAX 320

typedef struct look_up {
  pu_list link; /* waiting or running */
  pu_names *names;
  pu_multiaddr addr;
  pu_ma_target target;
  size_t origin;
  unsigned depth; /* of TXT look-ups before it */
  bool text;      /* of TXT records */
  pu_resolve *resolve;
  pu_timer limit;
} look_up;

struct pu_names {
  pu_mem *mem;
  pu_platform *platform;
  pu_peer_id peer;
  const pu_names_events *events;
  void *data;
  pu_timer turn;
  pu_list waiting, running;
  size_t begun, found; /* ever */
  size_t parallel;
};

static bool first(const pu_multiaddr *addr, pu_ma_component *c, size_t *after) {
  *after = 0;
  return pu_multiaddr_next(addr, after, c);
}

static bool is_dnsaddr(const pu_multiaddr *addr) {
  pu_ma_component c;
  size_t after;
  return first(addr, &c, &after) && c.code == PU_MA_DNSADDR;
}

bool pu_names_needed(const pu_multiaddr *addr, const pu_ma_target *target) {
  if (target->kind == PU_MA_KIND_OTHER)
    return is_dnsaddr(addr);
  return target->is_dns && target->kind != PU_MA_KIND_CIRCUIT;
}

int pu_names_new(pu_mem *mem, pu_platform *platform, const pu_peer_id *peer,
                 const pu_names_events *events, void *data, pu_names **out) {
  pu_names *n = pu_zalloc(mem, sizeof *n);
  if (n == NULL)
    return PU_E_NOMEM;
  n->mem = mem;
  n->platform = platform;
  n->peer = *peer;
  n->events = events;
  n->data = data;
  pu_list_init(&n->waiting);
  pu_list_init(&n->running);
  *out = n;
  return 0;
}

static void free_look_up(look_up *l) {
  pu_timer_stop(&l->limit);
  pu_resolve_cancel(l->resolve);
  pu_list_remove(&l->link);
  pu_free(l);
}

void pu_names_free(pu_names *n) {
  if (n == NULL)
    return;
  pu_timer_stop(&n->turn);
  while (!pu_list_empty(&n->waiting))
    free_look_up(PU_CONTAINER_OF(n->waiting.next, look_up, link));
  while (!pu_list_empty(&n->running))
    free_look_up(PU_CONTAINER_OF(n->running.next, look_up, link));
  pu_free(n);
}

static void on_limit(void *data);

static int add(pu_names *n, const pu_multiaddr *addr, size_t origin, unsigned depth) {
  const bool text = is_dnsaddr(addr);
  if (n->begun >= PU_NAMES_MAX || (text && depth >= PU_NAMES_DEPTH_MAX))
    return PU_E_LIMIT;
  look_up *l = pu_zalloc(n->mem, sizeof *l);
  if (l == NULL)
    return PU_E_NOMEM;
  l->names = n;
  l->addr = *addr;
  pu_multiaddr_target(addr, &l->target);
  l->origin = origin;
  l->text = text;
  l->depth = depth;
  pu_timer_init(&l->limit, n->platform, on_limit, l);
  pu_list_init(&l->link);
  pu_list_push(&n->waiting, &l->link);
  n->begun++;
  return 0;
}

int pu_names_add(pu_names *n, const pu_multiaddr *addr, size_t origin) {
  return add(n, addr, origin, 0);
}

/* ---- what a look-up yields ---- */

static void failed(const look_up *l, int status, const char *detail) {
  char text[PU_MULTIADDR_MAX_TEXT], line[DETAIL_MAX];
  (void)snprintf(line, sizeof line, "%.200s: %s", pu_multiaddr_text(&l->addr, text), detail);
  l->names->events->failed(l->names->data, l->origin, status, line);
}

static void tell(const look_up *l, const pu_multiaddr *addr, const pu_ma_target *target) {
  pu_names *n = l->names;
  if (n->found >= PU_NAMES_MAX)
    return;
  n->found++;
  n->events->found(n->data, l->origin, addr, target);
}

/* put_address takes the name in front of |l|'s address away for |ip|. */
static void put_address(const look_up *l, const pu_sockaddr *ip) {
  pu_ma_component c;
  size_t name_end, ip_end;
  pu_multiaddr addr, tail;
  pu_ma_target target;
  pu_multiaddr_from_sockaddr(ip, &addr);
  if (!first(&l->addr, &c, &name_end) || !first(&addr, &c, &ip_end))
    return;
  addr.len = (uint16_t)ip_end;
  tail.len = (uint16_t)(l->addr.len - name_end);
  memcpy(tail.bytes, l->addr.bytes + name_end, tail.len);
  if (pu_multiaddr_append(&addr, &tail) != 0)
    return;
  pu_multiaddr_target(&addr, &target);
  if (target.kind == PU_MA_KIND_WS && target.sni[0] == '\0') /* the web server knows itself by it */
    memcpy(target.sni, l->target.host, sizeof target.sni);
  tell(l, &addr, &target);
}

/* peer_at_end reads a final /p2p; |*rest| is the address without it. */
static bool peer_at_end(const pu_multiaddr *addr, pu_ma_component *last, pu_multiaddr *rest) {
  size_t pos = 0;
  *last = (pu_ma_component){0};
  while (pu_multiaddr_next(addr, &pos, last))
    ;
  if (last->code != PU_MA_P2P)
    return false;
  pu_multiaddr_without_peer(addr, rest);
  return true;
}

/* is_wanted says whether a record is an address of the peer, and ends as |l|'s address does. */
static bool is_wanted(const look_up *l, const pu_multiaddr *record, pu_multiaddr *plain) {
  const pu_peer_id *peer = &l->names->peer;
  pu_ma_component c, last;
  size_t after;
  if (!first(&l->addr, &c, &after))
    return false;
  const size_t tail = l->addr.len - after;
  if (record->len < tail ||
      memcmp(record->bytes + record->len - tail, l->addr.bytes + after, tail) != 0)
    return false;
  *plain = *record;
  return !peer_at_end(record, &last, plain) ||
         (last.len == peer->len && memcmp(last.value, peer->bytes, peer->len) == 0);
}

/* take_record uses one TXT record; false when it is none for us. */
static bool take_record(const look_up *l, const char *text) {
  pu_multiaddr record, plain;
  pu_ma_target target;
  const size_t prefix = sizeof PREFIX - 1;
  if (strncmp(text, PREFIX, prefix) != 0 ||
      pu_multiaddr_from_text(text + prefix, strlen(text + prefix), &record, NULL) != 0 ||
      !is_wanted(l, &record, &plain))
    return false;
  pu_multiaddr_target(&plain, &target);
  if (pu_names_needed(&plain, &target))
    return add(l->names, &plain, l->origin, l->depth + 1) == 0;
  if (target.kind == PU_MA_KIND_OTHER)
    return false;
  tell(l, &plain, &target);
  return true;
}

/* ---- running ---- */

static void start_waiting(pu_names *n);

/* end_look_up is the last thing that an event of |l| does. */
static void end_look_up(look_up *l) {
  pu_names *n = l->names;
  free_look_up(l);
  n->parallel--;
  start_waiting(n);
}

static void on_limit(void *data) {
  look_up *l = data;
  failed(l, PU_E_TIMEOUT, "the look-up of the name took too long");
  end_look_up(l);
}

static void on_addresses(void *data, int status, const pu_sockaddr *addrs, size_t count) {
  look_up *l = data;
  l->resolve = NULL;
  if (status != 0)
    failed(l, status, status == PU_E_NOT_FOUND ? "no such name" : pu_error_sentence(status));
  for (size_t i = 0; status == 0 && i < count; i++)
    put_address(l, &addrs[i]);
  end_look_up(l);
}

static void on_texts(void *data, int status, const char *const *texts, size_t count) {
  look_up *l = data;
  size_t taken = 0;
  l->resolve = NULL;
  for (size_t i = 0; status == 0 && i < count && taken < PU_NAMES_RECORDS_MAX; i++)
    taken += take_record(l, texts[i]);
  if (taken == 0)
    failed(l, status != 0 ? status : PU_E_NOT_FOUND, "no record of the name is for this peer");
  end_look_up(l);
}

static int start(look_up *l) {
  pu_names *n = l->names;
  pu_ma_component c;
  size_t after;
  char name[300];
  int status = pu_timer_after(&l->limit, PU_NAMES_LIMIT_US);
  if (status != 0)
    return status;
  if (!l->text)
    return pu_resolve_start(n->platform, l->target.host, l->target.port, l->target.family,
                            on_addresses, l, &l->resolve);
  (void)first(&l->addr, &c, &after);
  (void)snprintf(name, sizeof name, "_dnsaddr.%.*s", (int)(c.len < 256 ? c.len : 256),
                 (const char *)c.value);
  return pu_resolve_text(n->platform, name, on_texts, l, &l->resolve);
}

static void start_waiting(pu_names *n) {
  while (!pu_list_empty(&n->waiting) && n->parallel < PU_NAMES_PARALLEL) {
    look_up *l = PU_CONTAINER_OF(n->waiting.next, look_up, link);
    const int status = start(l);
    if (status != 0) {
      failed(l, status, pu_error_sentence(status));
      free_look_up(l);
      continue;
    }
    pu_list_remove(&l->link);
    pu_list_push(&n->running, &l->link);
    n->parallel++;
  }
  if (n->parallel == 0)
    n->events->done(n->data);
}

static void on_turn(void *data) {
  start_waiting(data);
}

int pu_names_start(pu_names *n) {
  pu_timer_init(&n->turn, n->platform, on_turn, n);
  return pu_timer_after(&n->turn, 0);
}
