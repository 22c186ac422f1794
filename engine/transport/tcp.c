/* TCP as a raw connection and as a transport. Dials leave from a listening port where they can, since
 * NATs map by port. Names are the dialer's business (swarm/resolve.h). */
#include "platform/assert.h"
#include "transport/transport.h"
#include <stdio.h>
#include <string.h>

#define READS_PER_EVENT 2       /* other connections get their turn after so many */
#define CONNECT_LIMIT_US 5000000u

/* ---- raw ---- */

typedef struct tcp_raw {
  pu_raw base;
  pu_tcp *tcp;
  const pu_rx_memory *rx;
  const pu_raw_events *events;
  void *user;
  bool want_read, want_write;
  bool in_event, closed;
} tcp_raw;

static void set_want(tcp_raw *r) {
  pu_tcp_want(r->tcp, (r->want_read && r->events != NULL ? PU_WANT_READ : 0u) |
                          (r->want_write ? PU_WANT_WRITE : 0u));
}

static void read_once(tcp_raw *r, bool *more) {
  uint8_t *place = NULL;
  const size_t place_len = r->events->place != NULL ? r->events->place(r->user, &place) : 0;
  const pu_iov iov[2] = {{place, place_len}, {r->rx->bytes + PU_SPAN_HEAD, PU_RX_BYTES}};
  const size_t first = place_len > 0 ? 0 : 1;
  ssize_t n = pu_tcp_readv(r->tcp, iov + first, 2 - first);
  if (n == PU_E_AGAIN)
    return;
  if (n <= 0) {
    r->want_read = false;
    set_want(r);
    r->events->on_end(r->user, n == 0 ? PU_E_EOF : (int)n);
    return;
  }
  size_t got = (size_t)n;
  *more = got == place_len + PU_RX_BYTES;
  if (place_len > 0) {
    const size_t placed = got < place_len ? got : place_len;
    r->events->on_placed(r->user, placed);
    got -= placed;
  }
  const pu_span data = {r->rx->bytes + PU_SPAN_HEAD, got, PU_SPAN_HEAD,
                        PU_SPAN_TAIL + PU_RX_BYTES - got};
  const pu_raw_events *before = r->events;
  if (got == 0 || r->closed || before == NULL)
    return;
  before->on_bytes(r->user, data);
  if (!r->closed && r->events != NULL && r->events != before)
    r->events->on_bytes(r->user, data); /* handed on, see raw.h */
}

static void leave_event(tcp_raw *r) {
  r->in_event = false;
  if (r->closed)
    pu_free(r);
}

static void on_readable(void *data) {
  tcp_raw *r = data;
  bool more = true;
  r->in_event = true;
  for (int i = 0; i < READS_PER_EVENT && more && !r->closed && r->want_read && r->events != NULL;
       i++) {
    more = false;
    read_once(r, &more);
  }
  leave_event(r);
}

static void on_writable(void *data) {
  tcp_raw *r = data;
  r->want_write = false;
  set_want(r);
  r->in_event = true;
  if (r->events != NULL)
    r->events->on_writable(r->user);
  leave_event(r);
}

static const pu_tcp_events raw_tcp_events = {NULL, on_readable, on_writable};

static void raw_set_events(pu_raw *base, const pu_raw_events *events, void *user) {
  tcp_raw *r = (tcp_raw *)base;
  r->events = events;
  r->user = user;
  set_want(r);
}

static void raw_want_read(pu_raw *base, bool on) {
  tcp_raw *r = (tcp_raw *)base;
  r->want_read = on;
  set_want(r);
}

static ssize_t raw_writev(pu_raw *base, const pu_iov *iov, size_t n) {
  tcp_raw *r = (tcp_raw *)base;
  size_t total = 0;
  for (size_t i = 0; i < n; i++)
    total += iov[i].len;
  ssize_t written = pu_tcp_writev(r->tcp, iov, n);
  if (written == PU_E_AGAIN)
    written = 0;
  if (written >= 0 && (size_t)written < total && !r->want_write) {
    r->want_write = true;
    set_want(r);
  }
  return written;
}

static void raw_close(pu_raw *base, bool abort) {
  tcp_raw *r = (tcp_raw *)base;
  if (r->closed)
    return;
  r->closed = true;
  pu_tcp_close(r->tcp, abort);
  r->tcp = NULL;
  if (!r->in_event)
    pu_free(r);
}

static const pu_raw_ops raw_ops = {
    .set_events = raw_set_events,
    .want_read = raw_want_read,
    .writev = raw_writev,
    .close = raw_close,
};

int pu_tcp_raw_new(pu_mem *mem, pu_tcp *tcp, const pu_rx_memory *rx, pu_raw **out) {
  tcp_raw *r = pu_zalloc(mem, sizeof *r);
  if (r == NULL) {
    pu_tcp_close(tcp, true);
    return PU_E_NOMEM;
  }
  r->base.ops = &raw_ops;
  r->tcp = tcp;
  r->rx = rx;
  pu_tcp_set_events(tcp, &raw_tcp_events, r);
  *out = &r->base;
  return 0;
}

/* ---- transport ---- */

typedef struct tcp_transport {
  pu_transport base;
  pu_mem *mem;
  pu_platform *platform;
  const pu_rx_memory *rx;
  pu_tcp_transport_local local;
  void *local_data;
} tcp_transport;

typedef struct tcp_dial {
  pu_transport_dial base;
  pu_transport_dial_cb cb;
  void *data;
  pu_tcp *tcp;
  pu_sockaddr remote;
  pu_timer limit; /* TCP's own deadline */
  bool from_listening;
} tcp_dial;

static tcp_transport *transport_of(const tcp_dial *d) {
  return (tcp_transport *)d->base.transport;
}

static void free_dial(tcp_dial *d) {
  pu_timer_stop(&d->limit);
  pu_tcp_close(d->tcp, true);
  pu_free(d);
}

static void fail_dial(tcp_dial *d, int status) {
  pu_transport_dial_cb cb = d->cb;
  void *data = d->data;
  free_dial(d);
  cb(data, status, pu_error_sentence(status), NULL);
}

static void on_connect(void *data, int status);
static const pu_tcp_events dial_events = {on_connect, NULL, NULL};

static int start(tcp_dial *d) {
  tcp_transport *t = transport_of(d);
  pu_sockaddr local;
  int status = PU_E_IN_USE;
  if (d->from_listening && t->local(t->local_data, &d->remote, &local))
    status = pu_tcp_connect(t->platform, &local, &d->remote, &dial_events, d, &d->tcp);
  if (status != 0) { /* taken, or of another address: leave from any port */
    d->from_listening = false;
    status = pu_tcp_connect(t->platform, NULL, &d->remote, &dial_events, d, &d->tcp);
  }
  return status;
}

static void on_connect(void *data, int status) {
  tcp_dial *d = data;
  tcp_transport *t = transport_of(d);
  if ((status == PU_E_NO_ADDRESS || status == PU_E_IN_USE) && d->from_listening) {
    pu_tcp_close(d->tcp, true);
    d->tcp = NULL;
    d->from_listening = false;
    status = start(d);
    if (status == 0)
      return;
  }
  if (status != 0) {
    fail_dial(d, status);
    return;
  }
  pu_transport_conn conn = {.transport = "tcp"};
  pu_sockaddr sa;
  pu_tcp_local(d->tcp, &sa);
  pu_multiaddr_from_sockaddr(&sa, &conn.local);
  pu_tcp_remote(d->tcp, &sa);
  pu_multiaddr_from_sockaddr(&sa, &conn.remote);
  pu_tcp *tcp = d->tcp;
  d->tcp = NULL;
  status = pu_tcp_raw_new(t->mem, tcp, t->rx, &conn.raw);
  if (status != 0) {
    fail_dial(d, status);
    return;
  }
  pu_transport_dial_cb cb = d->cb;
  void *user = d->data;
  free_dial(d);
  cb(user, 0, "", &conn);
}

static void on_limit(void *data) {
  fail_dial(data, PU_E_TIMEOUT);
}

static bool can_dial(pu_transport *t, const pu_ma_target *target) {
  (void)t;
  return target->kind == PU_MA_KIND_TCP && !target->is_dns && target->port != 0;
}

static int dial(pu_transport *base, const pu_multiaddr *addr, const pu_ma_target *target,
                pu_transport_dial_cb cb, void *data, pu_transport_dial **out) {
  tcp_transport *t = (tcp_transport *)base;
  tcp_dial *d = pu_zalloc(t->mem, sizeof *d);
  if (d == NULL)
    return PU_E_NOMEM;
  (void)addr;
  d->base.transport = base;
  d->cb = cb;
  d->data = data;
  d->remote = target->addr;
  d->remote.port = target->port;
  d->from_listening = true;
  pu_timer_init(&d->limit, t->platform, on_limit, d);
  int status = pu_timer_after(&d->limit, CONNECT_LIMIT_US);
  if (status == 0)
    status = start(d);
  if (status != 0) {
    free_dial(d);
    return status;
  }
  *out = &d->base;
  return 0;
}

static void cancel(pu_transport_dial *d) {
  free_dial((tcp_dial *)d);
}

static void free_transport(pu_transport *t) {
  pu_free(t);
}

static const pu_transport_ops tcp_transport_ops = {
    .name = "tcp", .can_dial = can_dial, .dial = dial, .cancel = cancel, .free = free_transport};

int pu_tcp_transport_new(pu_mem *mem, pu_platform *platform, const pu_rx_memory *rx,
                         pu_tcp_transport_local local, void *local_data, pu_transport **out) {
  tcp_transport *t = pu_zalloc(mem, sizeof *t);
  if (t == NULL)
    return PU_E_NOMEM;
  t->base.ops = &tcp_transport_ops;
  t->mem = mem;
  t->platform = platform;
  t->rx = rx;
  t->local = local;
  t->local_data = local_data;
  *out = &t->base;
  return 0;
}
