/* The door's face: each call goes to the implementation that made the platform or socket. */
#include "platform/assert.h"
#include "platform/platform_priv.h"

uint64_t pu_now_us(const pu_platform *p) {
  return p->ops->now_us(p);
}
uint64_t pu_wall_ns(const pu_platform *p) {
  return p->ops->wall_ns(p);
}
void pu_random(pu_platform *p, void *out, size_t len) {
  p->ops->random(p, out, len);
}

void pu_machine_get(const pu_platform *p, pu_machine *out) {
  p->ops->machine(p, out);
}

int pu_tcp_connect(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                   const pu_tcp_events *events, void *data, pu_tcp **out) {
  return p->ops->tcp_connect(p, local, remote, events, data, out);
}
void pu_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data) {
  t->platform->ops->tcp_set_events(t, events, data);
}
void pu_tcp_want(pu_tcp *t, unsigned want) {
  t->platform->ops->tcp_want(t, want);
}
ssize_t pu_tcp_readv(pu_tcp *t, const pu_iov *iov, size_t n) {
  return t->platform->ops->tcp_readv(t, iov, n);
}
ssize_t pu_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n) {
  return t->platform->ops->tcp_writev(t, iov, n);
}
int pu_tcp_shutdown(pu_tcp *t) {
  return t->platform->ops->tcp_shutdown(t);
}
void pu_tcp_close(pu_tcp *t, bool abort) {
  if (t != NULL)
    t->platform->ops->tcp_close(t, abort);
}
void pu_tcp_local(const pu_tcp *t, pu_sockaddr *out) {
  t->platform->ops->tcp_local(t, out);
}
void pu_tcp_remote(const pu_tcp *t, pu_sockaddr *out) {
  t->platform->ops->tcp_remote(t, out);
}

int pu_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                  void *data, pu_tcp_listener **out) {
  return p->ops->tcp_listen(p, addr, flags, cb, data, out);
}
void pu_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out) {
  l->platform->ops->tcp_listener_address(l, out);
}
void pu_tcp_listener_close(pu_tcp_listener *l) {
  if (l != NULL)
    l->platform->ops->tcp_listener_close(l);
}

int pu_udp_open(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events, void *data,
                pu_udp **out) {
  return p->ops->udp_open(p, addr, events, data, out);
}
void pu_udp_want(pu_udp *u, unsigned want) {
  u->platform->ops->udp_want(u, want);
}
ssize_t pu_udp_recv(pu_udp *u, pu_datagrams *batches, size_t n) {
  return u->platform->ops->udp_recv(u, batches, n);
}
ssize_t pu_udp_send(pu_udp *u, const pu_datagrams *batch) {
  PU_ASSERT(batch->len > 0 && batch->segment > 0);
  return u->platform->ops->udp_send(u, batch);
}
void pu_udp_local(const pu_udp *u, pu_sockaddr *out) {
  u->platform->ops->udp_local(u, out);
}
void pu_udp_close(pu_udp *u) {
  if (u != NULL)
    u->platform->ops->udp_close(u);
}

int pu_resolve_start(pu_platform *p, const char *host, uint16_t port, int family, pu_resolve_cb cb,
                     void *data, pu_resolve **out) {
  return p->ops->resolve_start(p, host, port, family, cb, data, out);
}
int pu_resolve_text(pu_platform *p, const char *name, pu_resolve_text_cb cb, void *data,
                    pu_resolve **out) {
  return p->ops->resolve_text(p, name, cb, data, out);
}
void pu_resolve_cancel(pu_resolve *r) {
  if (r == NULL)
    return;
  if (r->cancel != NULL)
    r->cancel(r);
  else
    r->platform->ops->resolve_cancel(r);
}
size_t pu_interface_addrs(pu_platform *p, pu_sockaddr *out, size_t max) {
  return p->ops->interface_addrs(p, out, max);
}
