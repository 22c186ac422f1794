/* TCP of the libuv door: descriptors of our own (uv_watch.c), so that every read and write goes to
 * the caller's buffers. Interest is dropped lazily: a flag that is dropped is often set again
 * before the next event, and then no system call was needed. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "platform/assert.h"
#include "platform/uv_priv.h"

#define IOV_MAX_PER_CALL 64     /* pieces of one system call; more are left to the next */
#define ACCEPTS_PER_EVENT 64    /* others get their turn after so many */
#define ACCEPT_PAUSE_US 100000u /* descriptors ran out: look again after so long */
#define LISTEN_BACKLOG 1024

typedef struct uv_sock {
  pu_tcp base;
  pu_watch watch;
  unsigned want; /* what the owner wants to hear; the watch may report more */
  bool connecting;
  const pu_tcp_events *events;
  void *data;
} uv_sock;

typedef struct uv_listener {
  pu_tcp_listener base;
  pu_watch watch;
  pu_tcp_accept_cb cb;
  void *data;
  pu_timer pause;
} uv_listener;

static uv_sock *sock_of(pu_watch *w) {
  return PU_CONTAINER_OF(w, uv_sock, watch);
}

static uv_listener *listener_of(pu_watch *w) {
  return PU_CONTAINER_OF(w, uv_listener, watch);
}

static void set_option(int fd, int level, int option, int value) {
  (void)setsockopt(fd, level, option, &value, sizeof value);
}

static int open_socket(uint8_t family) {
  int fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? pu_uv_error(errno) : fd;
}

static void prepare_stream(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/* connect_error maps an errno of connect: no address left to leave from means that the pair of
 * ports, or every port, is taken. */
static int connect_error(int error) {
  return error == EADDRNOTAVAIL ? PU_E_IN_USE : pu_uv_error(error);
}

/* ---- readiness ---- */

static void finish_connect(uv_sock *s) {
  int error = 0;
  socklen_t len = sizeof error;
  if (getsockopt(s->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
    error = errno;
  s->connecting = false;
  s->events->on_connect(s->data, error == 0 ? 0 : connect_error(error));
}

static void on_ready(pu_watch *w, unsigned what) {
  uv_sock *s = sock_of(w);
  if (s->connecting) {
    finish_connect(s);
  } else {
    if ((what & s->want & PU_WANT_WRITE) != 0)
      s->events->on_writable(s->data);
    if (!w->closed && (what & s->want & PU_WANT_READ) != 0)
      s->events->on_readable(s->data);
  }
  /* What the owner does not want any more is dropped now. */
  if (!w->closed && !s->connecting)
    pu_watch_set(w, s->want);
}

void pu_uv_tcp_want(pu_tcp *t, unsigned want) {
  uv_sock *s = (uv_sock *)t;
  s->want = want;
  if (!s->connecting && !s->watch.closed && (want & ~s->watch.armed) != 0)
    pu_watch_set(&s->watch, want);
}

void pu_uv_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data) {
  uv_sock *s = (uv_sock *)t;
  s->events = events;
  s->data = data;
}

/* ---- sockets ---- */

static void free_sock(pu_watch *w) {
  free(sock_of(w));
}

/* new_sock takes |fd| over, but not when it fails. */
static int new_sock(uv_door *d, int fd, unsigned armed, uv_sock **out) {
  uv_sock *s = calloc(1, sizeof *s);
  if (s == NULL)
    return PU_E_NOMEM;
  s->base.platform = &d->base;
  const int status = pu_watch_open(&s->watch, d, fd, armed, on_ready, free_sock);
  if (status != 0) {
    free(s);
    return status;
  }
  *out = s;
  return 0;
}

void pu_uv_tcp_close(pu_tcp *t, bool abort) {
  uv_sock *s = (uv_sock *)t;
  if (s->watch.closed)
    return;
  if (abort) {
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(s->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  pu_watch_close(&s->watch);
}

int pu_uv_tcp_connect(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                      const pu_tcp_events *events, void *data, pu_tcp **out) {
  uv_door *d = (uv_door *)p;
  struct sockaddr_storage native;
  uv_sock *s;
  int status;
  int fd = open_socket(remote->family);
  if (fd < 0)
    return fd;
  prepare_stream(fd);
  if (local != NULL) {
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    const socklen_t len = pu_uv_to_native(local, &native);
    if (bind(fd, (struct sockaddr *)&native, len) != 0) {
      status = pu_uv_error(errno);
      goto fail;
    }
  }
  const socklen_t len = pu_uv_to_native(remote, &native);
  if (connect(fd, (struct sockaddr *)&native, len) != 0 && errno != EINPROGRESS) {
    status = connect_error(errno);
    goto fail;
  }
  status = new_sock(d, fd, PU_WANT_WRITE, &s);
  if (status != 0)
    goto fail;
  s->events = events;
  s->data = data;
  s->connecting = true;
  *out = &s->base;
  return 0;
fail:
  (void)close(fd);
  return status;
}

static size_t to_native_iov(struct iovec *native, const pu_iov *iov, size_t n) {
  if (n > IOV_MAX_PER_CALL)
    n = IOV_MAX_PER_CALL;
  for (size_t i = 0; i < n; i++)
    native[i] = (struct iovec){.iov_base = iov[i].base, .iov_len = iov[i].len};
  return n;
}

ssize_t pu_uv_tcp_readv(pu_tcp *t, const pu_iov *iov, size_t n) {
  uv_sock *s = (uv_sock *)t;
  struct iovec native[IOV_MAX_PER_CALL];
  struct msghdr message = {.msg_iov = native, .msg_iovlen = to_native_iov(native, iov, n)};
  if (s->watch.closed)
    return PU_E_CLOSED;
  const ssize_t got = recvmsg(s->watch.fd, &message, 0);
  return got < 0 ? pu_uv_error(errno) : got;
}

ssize_t pu_uv_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n) {
  uv_sock *s = (uv_sock *)t;
  struct iovec native[IOV_MAX_PER_CALL];
  struct msghdr message = {.msg_iov = native, .msg_iovlen = to_native_iov(native, iov, n)};
  if (s->watch.closed)
    return PU_E_CLOSED;
  const ssize_t put = sendmsg(s->watch.fd, &message, MSG_NOSIGNAL);
  return put < 0 ? pu_uv_error(errno) : put;
}

int pu_uv_tcp_shutdown(pu_tcp *t) {
  uv_sock *s = (uv_sock *)t;
  if (s->watch.closed)
    return PU_E_CLOSED;
  return shutdown(s->watch.fd, SHUT_WR) == 0 ? 0 : pu_uv_error(errno);
}

static void socket_name(int fd, bool remote, pu_sockaddr *out) {
  struct sockaddr_storage native = {0};
  socklen_t len = sizeof native;
  const int status = remote ? getpeername(fd, (struct sockaddr *)&native, &len)
                            : getsockname(fd, (struct sockaddr *)&native, &len);
  *out = (pu_sockaddr){0};
  if (status == 0)
    pu_uv_from_native((struct sockaddr *)&native, out);
}

void pu_uv_tcp_local(const pu_tcp *t, pu_sockaddr *out) {
  socket_name(((const uv_sock *)t)->watch.fd, false, out);
}

void pu_uv_tcp_remote(const pu_tcp *t, pu_sockaddr *out) {
  socket_name(((const uv_sock *)t)->watch.fd, true, out);
}

/* ---- listeners ---- */

static void on_acceptable(pu_watch *w, unsigned what) {
  uv_listener *l = listener_of(w);
  (void)what;
  for (int i = 0; i < ACCEPTS_PER_EVENT && !w->closed; i++) {
    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        if (pu_timer_after(&l->pause, ACCEPT_PAUSE_US) == 0)
          pu_watch_set(w, 0);
        return;
      }
      if (errno == ECONNABORTED || errno == EINTR)
        continue;
      return;
    }
    /* Its options are the listener's. Nearly every owner begins with reading, so that is armed. */
    uv_sock *s;
    if (new_sock(w->door, fd, PU_WANT_READ, &s) != 0) {
      (void)close(fd);
      continue;
    }
    l->cb(l->data, &s->base);
  }
}

static void on_pause_over(void *data) {
  uv_listener *l = data;
  pu_watch_set(&l->watch, PU_WANT_READ);
}

static void free_listener(pu_watch *w) {
  free(listener_of(w));
}

/* The port is bound and listened on without SO_REUSEPORT, so that a second program is told that it
 * is taken; only then the option is set, which lets our own dials leave from it. */
int pu_uv_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                     void *data, pu_tcp_listener **out) {
  struct sockaddr_storage native;
  int status;
  int fd = open_socket(addr->family);
  if (fd < 0)
    return fd;
  prepare_stream(fd); /* accepted sockets inherit it */
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (addr->family == 6 && (flags & PU_LISTEN_V6_ONLY) != 0)
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  const socklen_t len = pu_uv_to_native(addr, &native);
  if (bind(fd, (struct sockaddr *)&native, len) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
    status = pu_uv_error(errno);
    (void)close(fd);
    return status;
  }
  if ((flags & PU_LISTEN_REUSE_PORT) != 0)
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  uv_listener *l = calloc(1, sizeof *l);
  if (l == NULL) {
    (void)close(fd);
    return PU_E_NOMEM;
  }
  l->base.platform = p;
  l->cb = cb;
  l->data = data;
  pu_timer_init(&l->pause, p, on_pause_over, l);
  status = pu_watch_open(&l->watch, (uv_door *)p, fd, PU_WANT_READ, on_acceptable, free_listener);
  if (status != 0) {
    (void)close(fd);
    free(l);
    return status;
  }
  *out = &l->base;
  return 0;
}

void pu_uv_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out) {
  socket_name(((const uv_listener *)l)->watch.fd, false, out);
}

void pu_uv_tcp_listener_close(pu_tcp_listener *base) {
  uv_listener *l = (uv_listener *)base;
  if (l->watch.closed)
    return;
  pu_timer_stop(&l->pause);
  pu_watch_close(&l->watch);
}
