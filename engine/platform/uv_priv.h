/* What the files of the libuv door share. */
#ifndef PU_PLATFORM_UV_PRIV_H
#define PU_PLATFORM_UV_PRIV_H

#include <sys/socket.h>
#include <uv.h>

#include "platform/platform_priv.h"
#include "platform/uv.h"

typedef struct uv_door uv_door;
typedef struct pu_watch pu_watch;

/* A descriptor whose readiness is told (uv_watch.c). The owner embeds it. */
struct pu_watch {
  uv_door *door;
  int fd;
  unsigned armed; /* PU_WANT_*: what is reported */
  bool closed;
  void (*on_ready)(pu_watch *w, unsigned what);
  void (*on_free)(pu_watch *w); /* the memory may go: no event is on its way */
  pu_watch *next_gone;
};

struct uv_door {
  pu_platform base;
  uv_loop_t *loop;
  uv_timer_t wake; /* the heap's next time, when it lies ahead */
  uv_idle_t
      due; /* active while a timer is due now: runs in the next iteration, never in this one */
  size_t handles; /* libuv handles and requests whose memory is still in use */
  int epoll;
  uv_poll_t poll;   /* of |epoll| */
  size_t watched;   /* descriptors: while there are any, the loop goes on */
  bool dispatching; /* inside the events of |epoll|: closed watches wait in |gone| */
  pu_watch *gone;
  pu_sockaddr dns; /* asked for TXT records; family 0: whom the system asks */
  bool freeing;
  void (*done)(void *data);
  void *done_data;
};

/* pu_uv_handle_gone counts one handle less, and ends the door when it is being freed. */
void pu_uv_handle_gone(uv_door *d);
/* pu_uv_error maps an errno (positive) to PU_E_*. */
int pu_uv_error(int error);
socklen_t pu_uv_to_native(const pu_sockaddr *sa, struct sockaddr_storage *out);
void pu_uv_from_native(const struct sockaddr *sa, pu_sockaddr *out);

/* uv_watch.c */
PU_MUST_CHECK int pu_watches_open(uv_door *d);
void pu_watches_close(uv_door *d, uv_close_cb done);
/* pu_watch_open begins watching |fd| for |want|; it becomes the watch's to close, but not on
 * failure. */
PU_MUST_CHECK int pu_watch_open(pu_watch *w, uv_door *d, int fd, unsigned want,
                                void (*on_ready)(pu_watch *, unsigned),
                                void (*on_free)(pu_watch *));
/* pu_watch_set says what is reported. */
void pu_watch_set(pu_watch *w, unsigned want);
/* pu_watch_close closes the descriptor; on_free follows, now or after the events under way. */
void pu_watch_close(pu_watch *w);

/* uv_tcp.c */
int pu_uv_tcp_connect(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                      const pu_tcp_events *events, void *data, pu_tcp **out);
void pu_uv_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data);
void pu_uv_tcp_want(pu_tcp *t, unsigned want);
ssize_t pu_uv_tcp_readv(pu_tcp *t, const pu_iov *iov, size_t n);
ssize_t pu_uv_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n);
int pu_uv_tcp_shutdown(pu_tcp *t);
void pu_uv_tcp_close(pu_tcp *t, bool abort);
void pu_uv_tcp_local(const pu_tcp *t, pu_sockaddr *out);
void pu_uv_tcp_remote(const pu_tcp *t, pu_sockaddr *out);
int pu_uv_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                     void *data, pu_tcp_listener **out);
void pu_uv_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out);
void pu_uv_tcp_listener_close(pu_tcp_listener *l);

/* uv_text.c */
int pu_uv_resolve_text(pu_platform *p, const char *name, pu_resolve_text_cb cb, void *data,
                       pu_resolve **out);

/* uv_udp.c */
int pu_uv_udp_open(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events, void *data,
                   pu_udp **out);
void pu_uv_udp_want(pu_udp *u, unsigned want);
ssize_t pu_uv_udp_recv(pu_udp *u, pu_datagrams *batches, size_t n);
ssize_t pu_uv_udp_send(pu_udp *u, const pu_datagrams *batch);
void pu_uv_udp_local(const pu_udp *u, pu_sockaddr *out);
void pu_uv_udp_close(pu_udp *u);

#endif
