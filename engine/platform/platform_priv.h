/* What the two doors share: the vtable and the timer heap. Only platform/ includes this. */
#ifndef PU_PLATFORM_PLATFORM_PRIV_H
#define PU_PLATFORM_PLATFORM_PRIV_H

#include "platform/platform.h"

typedef struct pu_platform_ops {
  uint64_t (*now_us)(const pu_platform *p);
  uint64_t (*wall_ns)(const pu_platform *p);
  void (*random)(pu_platform *p, void *out, size_t len);
  void (*machine)(const pu_platform *p, pu_machine *out);
  /* Arm the one wake-up of the loop for |at_us| (PU_NEVER: none); then call pu_timers_run. */
  void (*wake_at)(pu_platform *p, uint64_t at_us);
  int (*tcp_connect)(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                     const pu_tcp_events *events, void *data, pu_tcp **out);
  void (*tcp_set_events)(pu_tcp *t, const pu_tcp_events *events, void *data);
  void (*tcp_want)(pu_tcp *t, unsigned want);
  ssize_t (*tcp_readv)(pu_tcp *t, const pu_iov *iov, size_t n);
  ssize_t (*tcp_writev)(pu_tcp *t, const pu_iov *iov, size_t n);
  int (*tcp_shutdown)(pu_tcp *t);
  void (*tcp_close)(pu_tcp *t, bool abort);
  void (*tcp_local)(const pu_tcp *t, pu_sockaddr *out);
  void (*tcp_remote)(const pu_tcp *t, pu_sockaddr *out);
  int (*tcp_listen)(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                    void *data, pu_tcp_listener **out);
  void (*tcp_listener_address)(const pu_tcp_listener *l, pu_sockaddr *out);
  void (*tcp_listener_close)(pu_tcp_listener *l);
  int (*udp_open)(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events, void *data,
                  pu_udp **out);
  void (*udp_want)(pu_udp *u, unsigned want);
  ssize_t (*udp_recv)(pu_udp *u, pu_datagrams *batches, size_t n);
  ssize_t (*udp_send)(pu_udp *u, const pu_datagrams *batch);
  void (*udp_local)(const pu_udp *u, pu_sockaddr *out);
  void (*udp_close)(pu_udp *u);
  int (*resolve_start)(pu_platform *p, const char *host, uint16_t port, int family,
                       pu_resolve_cb cb, void *data, pu_resolve **out);
  int (*resolve_text)(pu_platform *p, const char *name, pu_resolve_text_cb cb, void *data,
                      pu_resolve **out);
  void (*resolve_cancel)(pu_resolve *r);
  size_t (*interface_addrs)(pu_platform *p, pu_sockaddr *out, size_t max);
} pu_platform_ops;

/* Each implementation's struct begins with this one. */
struct pu_platform {
  const pu_platform_ops *ops;
  pu_timer **heap; /* 1-based binary heap by (at_us, seq) */
  size_t heap_len, heap_cap;
  uint64_t timer_seq;
  bool running;    /* inside pu_timers_run: wake_at is called once at its end */
  uint64_t run_us; /* the time of that run */
};
/* Each socket, listener and look-up begins with its platform. */
struct pu_tcp {
  pu_platform *platform;
};
struct pu_tcp_listener {
  pu_platform *platform;
};
struct pu_udp {
  pu_platform *platform;
};
struct pu_resolve {
  pu_platform *platform;
  void (*cancel)(pu_resolve *r); /* NULL: the door's resolve_cancel */
};

void pu_platform_init(pu_platform *p, const pu_platform_ops *ops);
void pu_platform_deinit(pu_platform *p);
/* pu_timers_run fires what is due; timers armed for now during the run wait for the next one. */
void pu_timers_run(pu_platform *p);

#endif
