/* The libuv door: clock, chance, the wake-up of the timers, names, interfaces, and loops of our own.
 * Sockets are in uv_tcp.c. */
#include "platform/assert.h"
#include "platform/uv_priv.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

/* ---- time and chance ---- */

static uint64_t clock_ns(clockid_t id) {
  struct timespec ts;
  (void)clock_gettime(id, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t now_us(const pu_platform *p) {
  (void)p;
  return clock_ns(CLOCK_MONOTONIC) / 1000;
}

static uint64_t wall_ns(const pu_platform *p) {
  (void)p;
  return clock_ns(CLOCK_REALTIME);
}

static void random_bytes(pu_platform *p, void *out, size_t len) {
  uint8_t *at = out;
  (void)p;
  while (len > 0) {
    ssize_t n = getrandom(at, len, 0);
    if (n < 0 && errno == EINTR)
      continue;
    PU_ASSERT(n > 0); /* a kernel without random numbers cannot run us */
    at += n;
    len -= (size_t)n;
  }
}

static void on_wake(uv_timer_t *handle) {
  pu_timers_run(handle->data);
}

static void on_due(uv_idle_t *handle) {
  (void)uv_idle_stop(handle);
  pu_timers_run(handle->data);
}

/* libuv runs a timer of zero delay that is armed inside a timer in the same round, which would starve
 * sockets; what is due now therefore waits for the idle handle of the next round. */
static void wake_at(pu_platform *p, uint64_t at_us) {
  uv_door *d = (uv_door *)p;
  const uint64_t now = now_us(p);
  if (d->freeing)
    return;
  if (at_us <= now) {
    (void)uv_timer_stop(&d->wake);
    (void)uv_idle_start(&d->due, on_due);
    return;
  }
  (void)uv_idle_stop(&d->due);
  if (at_us == PU_NEVER) {
    (void)uv_timer_stop(&d->wake);
    return;
  }
  uv_update_time(d->loop);
  (void)uv_timer_start(&d->wake, on_wake, (at_us - now + 999) / 1000, 0);
}

/* ---- addresses and errors ---- */

int pu_uv_error(int error) {
  switch (error) {
  case EAGAIN:
  case EINTR:
    return PU_E_AGAIN;
  case ECONNREFUSED:
    return PU_E_REFUSED;
  case ECONNRESET:
  case EPIPE:
  case ECONNABORTED:
    return PU_E_RESET;
  case ETIMEDOUT:
    return PU_E_TIMEOUT;
  case ENETUNREACH:
  case EHOSTUNREACH:
  case ENETDOWN:
  case EHOSTDOWN:
    return PU_E_UNREACHABLE;
  case EADDRINUSE:
    return PU_E_IN_USE;
  case EADDRNOTAVAIL:
    return PU_E_NO_ADDRESS;
  case EACCES:
  case EPERM:
    return PU_E_PERMISSION;
  case ENOMEM:
  case ENOBUFS:
    return PU_E_NOMEM;
  case EMFILE:
  case ENFILE:
    return PU_E_LIMIT;
  default:
    return PU_E_IO;
  }
}

socklen_t pu_uv_to_native(const pu_sockaddr *sa, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  if (sa->family == 6) {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(sa->port);
    in6->sin6_scope_id = sa->scope;
    memcpy(&in6->sin6_addr, sa->ip, 16);
    return sizeof *in6;
  }
  struct sockaddr_in *in = (struct sockaddr_in *)out;
  in->sin_family = AF_INET;
  in->sin_port = htons(sa->port);
  memcpy(&in->sin_addr, sa->ip, 4);
  return sizeof *in;
}

void pu_uv_from_native(const struct sockaddr *sa, pu_sockaddr *out) {
  *out = (pu_sockaddr){0};
  if (sa->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
    out->family = 6;
    out->port = ntohs(in6->sin6_port);
    out->scope = in6->sin6_scope_id;
    memcpy(out->ip, &in6->sin6_addr, 16);
  } else if (sa->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
    out->family = 4;
    out->port = ntohs(in->sin_port);
    memcpy(out->ip, &in->sin_addr, 4);
  }
}

/* ---- names ---- */

typedef struct uv_lookup {
  pu_resolve base;
  uv_getaddrinfo_t request;
  pu_timer literal; /* answers an address literal, in the next round */
  pu_resolve_cb cb; /* NULL: cancelled */
  void *data;
  pu_sockaddr address;
} uv_lookup;

static void on_literal(void *data) {
  uv_lookup *r = data;
  uv_door *d = (uv_door *)r->base.platform;
  r->cb(r->data, 0, &r->address, 1);
  free(r);
  pu_uv_handle_gone(d);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
  uv_lookup *r = request->data;
  uv_door *d = (uv_door *)r->base.platform;
  pu_sockaddr addrs[PU_RESOLVE_MAX];
  size_t count = 0;
  for (struct addrinfo *ai = list; ai != NULL && count < PU_RESOLVE_MAX; ai = ai->ai_next) {
    if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
      continue;
    pu_uv_from_native(ai->ai_addr, &addrs[count]);
    addrs[count++].port = r->address.port;
  }
  uv_freeaddrinfo(list);
  if (r->cb != NULL) {
    int code = 0;
    if (status == UV_ENOMEM || status == UV_EAI_MEMORY)
      code = PU_E_NOMEM;
    else if (status == UV_EAI_AGAIN)
      code = PU_E_TIMEOUT;
    else if (status != 0 || count == 0)
      code = PU_E_NOT_FOUND;
    r->cb(r->data, code, addrs, code == 0 ? count : 0);
  }
  free(r);
  pu_uv_handle_gone(d);
}

static int resolve_start(pu_platform *p, const char *host, uint16_t port, int family,
                         pu_resolve_cb cb, void *data, pu_resolve **out) {
  uv_door *d = (uv_door *)p;
  int status;
  uv_lookup *r = calloc(1, sizeof *r);
  if (r == NULL)
    return PU_E_NOMEM;
  r->base.platform = p;
  r->cb = cb;
  r->data = data;
  r->request.data = r;
  pu_timer_init(&r->literal, p, on_literal, r);
  if (pu_sockaddr_parse_ip(host, &r->address)) {
    r->address.port = port;
    status = family == 0 || family == r->address.family ? pu_timer_after(&r->literal, 0)
                                                        : PU_E_NOT_FOUND;
  } else {
    const struct addrinfo hints = {
        .ai_family = family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM};
    r->address.port = port;
    status = uv_getaddrinfo(d->loop, &r->request, on_resolved, host, NULL, &hints);
    if (status == UV_ENOMEM)
      status = PU_E_NOMEM;
    else if (status != 0)
      status = PU_E_NOT_FOUND; /* not even a name */
  }
  if (status != 0) {
    free(r);
    return status;
  }
  d->handles++;
  *out = &r->base;
  return 0;
}

static void resolve_cancel(pu_resolve *base) {
  uv_lookup *r = (uv_lookup *)base;
  if (pu_timer_armed(&r->literal)) {
    uv_door *d = (uv_door *)base->platform;
    pu_timer_stop(&r->literal);
    free(r);
    pu_uv_handle_gone(d);
    return;
  }
  r->cb = NULL; /* on_resolved frees it, at once if the look-up has not begun */
  (void)uv_cancel((uv_req_t *)&r->request);
}

static size_t interface_addrs(pu_platform *p, pu_sockaddr *out, size_t max) {
  uv_interface_address_t *list;
  int total;
  size_t count = 0;
  (void)p;
  if (uv_interface_addresses(&list, &total) != 0)
    return 0;
  for (int i = 0; i < total && count < max; i++) {
    pu_uv_from_native((const struct sockaddr *)&list[i].address, &out[count]);
    out[count].port = 0;
    if (out[count].family != 0)
      count++;
  }
  uv_free_interface_addresses(list, total);
  return count;
}

static void machine(const pu_platform *p, pu_machine *out) {
  struct rlimit files;
  (void)p;
  const uint64_t group = uv_get_constrained_memory(); /* 0: none; without a limit a huge number */
  *out = (pu_machine){.memory_bytes = uv_get_total_memory()};
  if (group != 0 && (out->memory_bytes == 0 || group < out->memory_bytes))
    out->memory_bytes = group;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0)
    out->descriptors = files.rlim_cur == RLIM_INFINITY ? UINT64_MAX : files.rlim_cur;
}

/* ---- the door itself ---- */

static const pu_platform_ops uv_ops = {
    .now_us = now_us,
    .wall_ns = wall_ns,
    .random = random_bytes,
    .machine = machine,
    .wake_at = wake_at,
    .tcp_connect = pu_uv_tcp_connect,
    .tcp_set_events = pu_uv_tcp_set_events,
    .tcp_want = pu_uv_tcp_want,
    .tcp_readv = pu_uv_tcp_readv,
    .tcp_writev = pu_uv_tcp_writev,
    .tcp_shutdown = pu_uv_tcp_shutdown,
    .tcp_close = pu_uv_tcp_close,
    .tcp_local = pu_uv_tcp_local,
    .tcp_remote = pu_uv_tcp_remote,
    .tcp_listen = pu_uv_tcp_listen,
    .tcp_listener_address = pu_uv_tcp_listener_address,
    .tcp_listener_close = pu_uv_tcp_listener_close,
    .udp_open = pu_uv_udp_open,
    .udp_want = pu_uv_udp_want,
    .udp_recv = pu_uv_udp_recv,
    .udp_send = pu_uv_udp_send,
    .udp_local = pu_uv_udp_local,
    .udp_close = pu_uv_udp_close,
    .resolve_start = resolve_start,
    .resolve_text = pu_uv_resolve_text,
    .resolve_cancel = resolve_cancel,
    .interface_addrs = interface_addrs,
};

static bool has_watches(const uv_door *d) {
  return d->poll.data != NULL;
}

int pu_uv_new(uv_loop_t *loop, pu_platform **out) {
  uv_door *d = calloc(1, sizeof *d);
  if (d == NULL)
    return PU_E_NOMEM;
  pu_platform_init(&d->base, &uv_ops);
  d->loop = loop;
  (void)uv_timer_init(loop, &d->wake);
  (void)uv_idle_init(loop, &d->due);
  d->wake.data = d->due.data = d;
  d->handles = 2;
  int status = pu_watches_open(d);
  if (status != 0) {
    pu_uv_free(&d->base, NULL, NULL); /* its end needs a turn of the loop */
    return status;
  }
  d->handles++;
  *out = &d->base;
  return 0;
}

void pu_uv_handle_gone(uv_door *d) {
  PU_ASSERT(d->handles > 0);
  if (--d->handles > 0 || !d->freeing)
    return;
  void (*done)(void *data) = d->done;
  void *data = d->done_data;
  pu_platform_deinit(&d->base);
  free(d);
  if (done != NULL)
    done(data);
}

static void on_handle_closed(uv_handle_t *handle) {
  pu_uv_handle_gone(handle->data);
}

void pu_uv_free(pu_platform *p, void (*done)(void *data), void *data) {
  uv_door *d = (uv_door *)p;
  PU_ASSERT(!d->freeing);
  d->freeing = true;
  d->done = done;
  d->done_data = data;
  if (has_watches(d))
    pu_watches_close(d, on_handle_closed);
  uv_close((uv_handle_t *)&d->wake, on_handle_closed);
  uv_close((uv_handle_t *)&d->due, on_handle_closed);
}

/* ---- loops of our own ---- */

int pu_uv_loop_new(uv_loop_t **out) {
  uv_loop_t *loop = calloc(1, sizeof *loop);
  if (loop == NULL || uv_loop_init(loop) != 0) {
    free(loop);
    return PU_E_NOMEM;
  }
  *out = loop;
  return 0;
}

int pu_uv_loop_run(uv_loop_t *loop) {
  (void)uv_run(loop, UV_RUN_DEFAULT);
  return 0;
}

void pu_uv_loop_stop(uv_loop_t *loop) {
  uv_stop(loop);
}

void pu_uv_loop_free(uv_loop_t *loop) {
  if (loop == NULL)
    return;
  PU_ASSERT(uv_loop_close(loop) == 0);
  free(loop);
}
