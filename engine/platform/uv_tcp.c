/* TCP on libuv: descriptors of our own, watched by uv_poll, so that every read and write goes to the
 * caller's buffers. Interest is dropped lazily: libuv's way of changing it costs two system calls, and
 * a flag that is dropped is often set again before the next event. */
#include "platform/assert.h"
#include "platform/uv_priv.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOV_MAX_PER_CALL 64     /* pieces of one system call; more are left to the next */
#define ACCEPTS_PER_EVENT 64    /* others get their turn after so many */
#define ACCEPT_PAUSE_US 100000u /* descriptors ran out: look again after so long */
#define LISTEN_BACKLOG 1024

typedef struct uv_sock {
  pu_tcp base;
  uv_poll_t poll;
  int fd;
  unsigned want;  /* what the owner wants to hear */
  unsigned armed; /* what libuv watches: at least |want| */
  bool connecting, closed;
  const pu_tcp_events *events;
  void *data;
} uv_sock;

typedef struct uv_listener {
  pu_tcp_listener base;
  uv_poll_t poll;
  int fd;
  bool closed;
  pu_tcp_accept_cb cb;
  void *data;
  pu_timer pause;
} uv_listener;

static void set_option(int fd, int level, int option, int value) {
  (void)setsockopt(fd, level, option, &value, sizeof value);
}

static int open_socket(uint8_t family) {
  int fd =
      socket(family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? pu_uv_error(errno) : fd;
}

static void prepare_stream(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/* ---- readiness ---- */

static void on_poll(uv_poll_t *handle, int status, int events);

static void watch(uv_sock *s, unsigned want) {
  if (s->closed || want == s->armed)
    return;
  s->armed = want;
  if (want == 0) {
    (void)uv_poll_stop(&s->poll);
    return;
  }
  const int events = ((want & PU_WANT_READ) != 0 ? UV_READABLE : 0) |
                     ((want & PU_WANT_WRITE) != 0 ? UV_WRITABLE : 0);
  PU_ASSERT(uv_poll_start(&s->poll, events, on_poll) == 0);
}

static void finish_connect(uv_sock *s) {
  int error = 0;
  socklen_t len = sizeof error;
  if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
    error = errno;
  s->connecting = false;
  watch(s, s->want);
  s->events->on_connect(s->data, error == 0 ? 0 : pu_uv_error(error));
}

static void on_poll(uv_poll_t *handle, int status, int events) {
  uv_sock *s = handle->data;
  if (status < 0) {
    /* The socket has an error and libuv stopped watching it: the owner learns it by reading or
     * writing, whichever it waits for. */
    s->armed = 0;
    events = UV_READABLE | UV_WRITABLE;
  }
  if (s->connecting) {
    finish_connect(s);
    return;
  }
  if ((events & UV_WRITABLE) != 0 && (s->want & PU_WANT_WRITE) != 0)
    s->events->on_writable(s->data);
  if (!s->closed && (events & UV_READABLE) != 0 && (s->want & PU_WANT_READ) != 0)
    s->events->on_readable(s->data);
  if (!s->closed)
    watch(s, s->want);
}

void pu_uv_tcp_want(pu_tcp *t, unsigned want) {
  uv_sock *s = (uv_sock *)t;
  s->want = want;
  if (!s->connecting && (want & ~s->armed) != 0)
    watch(s, want);
}

void pu_uv_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data) {
  uv_sock *s = (uv_sock *)t;
  s->events = events;
  s->data = data;
}

/* ---- sockets ---- */

static uv_sock *new_sock(uv_door *d, int fd) {
  uv_sock *s = calloc(1, sizeof *s);
  if (s == NULL)
    return NULL;
  s->base.platform = &d->base;
  s->fd = fd;
  s->poll.data = s;
  if (uv_poll_init(d->loop, &s->poll, fd) != 0) {
    free(s);
    return NULL;
  }
  d->handles++;
  return s;
}

static void on_sock_closed(uv_handle_t *handle) {
  uv_sock *s = handle->data;
  uv_door *d = (uv_door *)s->base.platform;
  free(s);
  pu_uv_handle_gone(d);
}

void pu_uv_tcp_close(pu_tcp *t, bool abort) {
  uv_sock *s = (uv_sock *)t;
  if (s->closed)
    return;
  s->closed = true;
  uv_close((uv_handle_t *)&s->poll, on_sock_closed);
  if (abort) {
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  (void)close(s->fd);
  s->fd = -1;
}

int pu_uv_tcp_connect(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                      const pu_tcp_events *events, void *data, pu_tcp **out) {
  uv_door *d = (uv_door *)p;
  struct sockaddr_storage native;
  uv_sock *s = NULL;
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
    status = pu_uv_error(errno);
    goto fail;
  }
  s = new_sock(d, fd);
  if (s == NULL) {
    status = PU_E_NOMEM;
    goto fail;
  }
  s->events = events;
  s->data = data;
  s->connecting = true;
  watch(s, PU_WANT_WRITE);
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
  if (s->closed)
    return PU_E_CLOSED;
  const ssize_t got = recvmsg(s->fd, &message, 0);
  return got < 0 ? pu_uv_error(errno) : got;
}

ssize_t pu_uv_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n) {
  uv_sock *s = (uv_sock *)t;
  struct iovec native[IOV_MAX_PER_CALL];
  struct msghdr message = {.msg_iov = native, .msg_iovlen = to_native_iov(native, iov, n)};
  if (s->closed)
    return PU_E_CLOSED;
  const ssize_t put = sendmsg(s->fd, &message, MSG_NOSIGNAL);
  return put < 0 ? pu_uv_error(errno) : put;
}

int pu_uv_tcp_shutdown(pu_tcp *t) {
  uv_sock *s = (uv_sock *)t;
  if (s->closed)
    return PU_E_CLOSED;
  return shutdown(s->fd, SHUT_WR) == 0 ? 0 : pu_uv_error(errno);
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
  socket_name(((const uv_sock *)t)->fd, false, out);
}

void pu_uv_tcp_remote(const pu_tcp *t, pu_sockaddr *out) {
  socket_name(((const uv_sock *)t)->fd, true, out);
}

/* ---- listeners ---- */

static void on_accept(uv_poll_t *handle, int status, int events) {
  uv_listener *l = handle->data;
  (void)events;
  if (status < 0)
    return;
  for (int i = 0; i < ACCEPTS_PER_EVENT && !l->closed; i++) {
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        (void)uv_poll_stop(&l->poll);
        if (pu_timer_after(&l->pause, ACCEPT_PAUSE_US) != 0)
          (void)uv_poll_start(&l->poll, UV_READABLE, on_accept);
        return;
      }
      if (errno == ECONNABORTED || errno == EINTR)
        continue;
      return;
    }
    prepare_stream(fd);
    uv_sock *s = new_sock((uv_door *)l->base.platform, fd);
    if (s == NULL)
      (void)close(fd);
    else
      l->cb(l->data, &s->base);
  }
}

static void on_pause_over(void *data) {
  uv_listener *l = data;
  (void)uv_poll_start(&l->poll, UV_READABLE, on_accept);
}

static void on_listener_closed(uv_handle_t *handle) {
  uv_listener *l = handle->data;
  uv_door *d = (uv_door *)l->base.platform;
  free(l);
  pu_uv_handle_gone(d);
}

/* The port is bound and listened on without SO_REUSEPORT, so that a second program is told that it is
 * taken; only then the option is set, which lets our own dials leave from it. */
int pu_uv_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                     void *data, pu_tcp_listener **out) {
  uv_door *d = (uv_door *)p;
  struct sockaddr_storage native;
  uv_listener *l = NULL;
  int status;
  int fd = open_socket(addr->family);
  if (fd < 0)
    return fd;
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (addr->family == 6 && (flags & PU_LISTEN_V6_ONLY) != 0)
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  const socklen_t len = pu_uv_to_native(addr, &native);
  if (bind(fd, (struct sockaddr *)&native, len) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
    status = pu_uv_error(errno);
    goto fail;
  }
  if ((flags & PU_LISTEN_REUSE_PORT) != 0)
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  l = calloc(1, sizeof *l);
  if (l == NULL || uv_poll_init(d->loop, &l->poll, fd) != 0) {
    status = PU_E_NOMEM;
    goto fail;
  }
  l->base.platform = p;
  l->fd = fd;
  l->cb = cb;
  l->data = data;
  l->poll.data = l;
  pu_timer_init(&l->pause, p, on_pause_over, l);
  d->handles++;
  PU_ASSERT(uv_poll_start(&l->poll, UV_READABLE, on_accept) == 0);
  *out = &l->base;
  return 0;
fail:
  free(l);
  (void)close(fd);
  return status;
}

void pu_uv_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out) {
  socket_name(((const uv_listener *)l)->fd, false, out);
}

void pu_uv_tcp_listener_close(pu_tcp_listener *base) {
  uv_listener *l = (uv_listener *)base;
  if (l->closed)
    return;
  l->closed = true;
  pu_timer_stop(&l->pause);
  uv_close((uv_handle_t *)&l->poll, on_listener_closed);
  (void)close(l->fd);
  l->fd = -1;
}
