/* The engine's only door to the outside: clocks, random numbers, timers, TCP, UDP, name look-up and
 * network interfaces. Two doors exist: libuv's (uv.c) and a simulated network in virtual time
 * (sim.c). One pu_platform belongs to one loop and one thread; nothing here may be called from
 * another thread. No callback is ever made from inside the call that asked for it.
 *
 * TCP is readiness-based so that the caller owns every buffer: on_readable says that a read will not
 * block, pu_tcp_readv takes the bytes to where the caller wants them, and a caller that cannot use
 * more bytes drops PU_WANT_READ. That is the whole of backpressure at this level. */
#ifndef PU_PLATFORM_PLATFORM_H
#define PU_PLATFORM_PLATFORM_H

#include "peerup/defs.h"
#include "peerup/error.h"

typedef struct pu_platform pu_platform;
typedef struct pu_tcp pu_tcp;
typedef struct pu_tcp_listener pu_tcp_listener;
typedef struct pu_udp pu_udp;
typedef struct pu_resolve pu_resolve;

#define PU_NEVER UINT64_MAX

/* One piece of a scattered read or gathered write; laid out as struct iovec. */
typedef struct pu_iov {
  void *base;
  size_t len;
} pu_iov;

/* An IP address and port. IPv4 uses the first 4 bytes. */
typedef struct pu_sockaddr {
  uint8_t family; /* 4 or 6; 0: none */
  uint8_t ip[16];
  uint16_t port;   /* host order */
  uint32_t scope;  /* IPv6 zone index, 0: none */
} pu_sockaddr;

/* ---- time and chance ---- */

/* pu_now_us is the monotonic clock, in microseconds. */
uint64_t pu_now_us(const pu_platform *p);
/* pu_wall_ns is the time of day, in nanoseconds since 1970. */
uint64_t pu_wall_ns(const pu_platform *p);
/* pu_random fills |out| with |len| unpredictable bytes (in the simulation: with its seed's). */
void pu_random(pu_platform *p, void *out, size_t len);

/* What this machine gives the program, for limits that follow from it. */
typedef struct pu_machine {
  uint64_t memory_bytes; /* or what the program's control group may use, if that is less; 0: unknown */
  uint64_t descriptors;  /* open at once, by the program; 0: unknown */
} pu_machine;
void pu_machine_get(const pu_platform *p, pu_machine *out);

/* ---- timers: intrusive, no allocation, cancelled at once ---- */

typedef struct pu_timer {
  uint64_t at_us;               /* when it fires; valid while |heap_index| != 0 */
  uint64_t seq;                 /* order among equals */
  size_t heap_index;            /* 1-based place in the heap; 0: not armed */
  void (*cb)(void *data);
  void *data;
  pu_platform *platform;
} pu_timer;

/* pu_timer_init prepares |t| (owned by the caller, zero cost while not armed). */
void pu_timer_init(pu_timer *t, pu_platform *p, void (*cb)(void *data), void *data);
/* pu_timer_at arms or moves |t| to |at_us| (PU_NEVER stops it); pu_timer_after is relative. A timer
 * fires once, never before its time and never inside this call. Fails only without memory for the
 * heap, which grows by doubling: PU_E_NOMEM. */
int pu_timer_at(pu_timer *t, uint64_t at_us);
int pu_timer_after(pu_timer *t, uint64_t delay_us);
/* pu_timer_stop disarms |t|; harmless when not armed. */
void pu_timer_stop(pu_timer *t);
bool pu_timer_armed(const pu_timer *t);

/* ---- TCP ---- */

enum { PU_WANT_READ = 1, PU_WANT_WRITE = 2 };

typedef struct pu_tcp_events {
  /* The connection made by pu_tcp_connect stands (0) or failed (PU_E_REFUSED, _UNREACHABLE, _TIMEOUT,
   * _IN_USE, _PERMISSION, _IO). Not called for accepted sockets. */
  void (*on_connect)(void *data, int status);
  /* A read will return bytes, end of stream, or an error. Repeats while PU_WANT_READ is set. */
  void (*on_readable)(void *data);
  /* A write will take bytes. Repeats while PU_WANT_WRITE is set. */
  void (*on_writable)(void *data);
} pu_tcp_events;

/* pu_tcp_connect starts a connection to |remote|, from |local| when not NULL (with port reuse, so that
 * a dial can leave from a listening port). On success |*out| is the caller's to close, and
 * on_connect follows. */
PU_MUST_CHECK int pu_tcp_connect(pu_platform *p, const pu_sockaddr *local,
                                 const pu_sockaddr *remote, const pu_tcp_events *events,
                                 void *data, pu_tcp **out);
/* pu_tcp_set_events replaces events and data, for handing a socket to its next owner; wants are kept. */
void pu_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data);
/* pu_tcp_want says which readiness is reported; initially none. */
void pu_tcp_want(pu_tcp *t, unsigned want);
/* pu_tcp_readv reads into |iov|: bytes read, 0 at end of stream, PU_E_AGAIN, PU_E_RESET, PU_E_IO. */
PU_MUST_CHECK ssize_t pu_tcp_readv(pu_tcp *t, const pu_iov *iov, size_t n);
/* pu_tcp_writev writes what fits now: bytes written (may be fewer), PU_E_AGAIN, PU_E_RESET, PU_E_IO. */
PU_MUST_CHECK ssize_t pu_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n);
/* pu_tcp_shutdown half-closes our sending direction; all bytes written before still arrive. */
int pu_tcp_shutdown(pu_tcp *t);
/* pu_tcp_close closes and frees; |abort| sends RST. No event follows. NULL is fine. */
void pu_tcp_close(pu_tcp *t, bool abort);
void pu_tcp_local(const pu_tcp *t, pu_sockaddr *out);
void pu_tcp_remote(const pu_tcp *t, pu_sockaddr *out);

/* pu_tcp_accept_cb gets a new connection, the callee's to close. Wants: none. */
typedef void (*pu_tcp_accept_cb)(void *data, pu_tcp *accepted);
enum { PU_LISTEN_REUSE_PORT = 1 /* dials may leave from this port */, PU_LISTEN_V6_ONLY = 2 };
/* pu_tcp_listen binds and listens; port 0 takes a free one. PU_E_IN_USE, PU_E_PERMISSION,
 * PU_E_NO_ADDRESS (not an address of this machine), PU_E_IO. Accepting pauses for a short time when
 * descriptors run out (EMFILE), and goes on by itself. */
PU_MUST_CHECK int pu_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags,
                                pu_tcp_accept_cb cb, void *data, pu_tcp_listener **out);
void pu_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out);
void pu_tcp_listener_close(pu_tcp_listener *l);

/* ---- UDP ---- */

/* Datagrams of one sender and one receiver, back to back in memory: each of |segment| bytes, only the
 * last may be shorter. So a kernel with segmentation offload takes and gives many in one call. */
typedef struct pu_datagrams {
  pu_sockaddr local, remote; /* local: port and address as the peer sees them; family 0: whatever fits */
  uint8_t *data;
  size_t len;     /* all together; before pu_udp_recv: the room at |data| */
  size_t segment; /* 1 to |len| */
  uint8_t ecn;    /* the two bits of the IP header */
} pu_datagrams;

#define PU_UDP_RECV_MAX 8          /* batches of one pu_udp_recv */
#define PU_UDP_BATCH_BYTES 65507u  /* most bytes of one batch; a receiver gives 65536 of room for each */
#define PU_UDP_SEGMENTS_MAX 64u    /* most datagrams of one batch that is sent */

typedef struct pu_udp_events {
  void (*on_readable)(void *data); /* repeats while PU_WANT_READ is set */
  void (*on_writable)(void *data); /* repeats while PU_WANT_WRITE is set */
} pu_udp_events;

/* pu_udp_open binds a socket (port 0: a free one; an IPv6 one takes IPv6 only) with the don't-fragment bit
 * set on what it sends. PU_E_IN_USE, PU_E_PERMISSION, PU_E_NO_ADDRESS, PU_E_LIMIT, PU_E_IO. */
PU_MUST_CHECK int pu_udp_open(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events,
                              void *data, pu_udp **out);
/* pu_udp_want says which readiness is reported; initially none. */
void pu_udp_want(pu_udp *u, unsigned want);
/* pu_udp_recv fills up to |n| batches, each into its own |data| and |len|; returns how many, PU_E_AGAIN,
 * PU_E_IO. Empty datagrams are dropped. Errors of earlier sends (a port unreachable) are not reported. */
PU_MUST_CHECK ssize_t pu_udp_recv(pu_udp *u, pu_datagrams *batches, size_t n);
/* pu_udp_send sends from the front of |batch| what goes now; returns the bytes taken, whole datagrams,
 * PU_E_AGAIN (want write), PU_E_TOO_BIG (a datagram is longer than the path's interface takes),
 * PU_E_UNREACHABLE, PU_E_PERMISSION, PU_E_IO. Where the kernel or a device knows no segmentation offload
 * the datagrams go one by one. */
PU_MUST_CHECK ssize_t pu_udp_send(pu_udp *u, const pu_datagrams *batch);
/* pu_udp_local is the address as bound. */
void pu_udp_local(const pu_udp *u, pu_sockaddr *out);
/* pu_udp_close closes and frees. No event follows. NULL is fine. */
void pu_udp_close(pu_udp *u);

/* ---- names and interfaces ---- */

#define PU_RESOLVE_MAX 16
/* pu_resolve_cb gets up to PU_RESOLVE_MAX addresses (port as asked); status PU_E_NOT_FOUND, _TIMEOUT,
 * _CANCELED is not reported: a cancelled look-up makes no call. */
typedef void (*pu_resolve_cb)(void *data, int status, const pu_sockaddr *addrs, size_t count);
/* pu_resolve_start looks |host| up (a name or a literal); |family| 0, 4 or 6. */
PU_MUST_CHECK int pu_resolve_start(pu_platform *p, const char *host, uint16_t port, int family,
                                   pu_resolve_cb cb, void *data, pu_resolve **out);
void pu_resolve_cancel(pu_resolve *r);

#define PU_RESOLVE_TEXTS_MAX 32
/* pu_resolve_text_cb gets the strings of TXT records (each NUL-terminated, valid during the call). */
typedef void (*pu_resolve_text_cb)(void *data, int status, const char *const *texts, size_t count);
/* pu_resolve_text looks the TXT records of |name| up; cancelled by pu_resolve_cancel. */
PU_MUST_CHECK int pu_resolve_text(pu_platform *p, const char *name, pu_resolve_text_cb cb, void *data,
                                  pu_resolve **out);

#define PU_INTERFACE_ADDRS_MAX 64
/* pu_interface_addrs lists the addresses of interfaces that are up (port 0); returns how many. */
size_t pu_interface_addrs(pu_platform *p, pu_sockaddr *out, size_t max);

/* ---- addresses ---- */

#define PU_SOCKADDR_TEXT 64
/* pu_sockaddr_text writes "127.0.0.1:80" or "[::1]:80". */
const char *pu_sockaddr_text(const pu_sockaddr *sa, char out[static PU_SOCKADDR_TEXT]);
/* pu_sockaddr_parse_ip reads a literal address without port; false when it is none. */
bool pu_sockaddr_parse_ip(const char *text, pu_sockaddr *out);
bool pu_sockaddr_equal(const pu_sockaddr *a, const pu_sockaddr *b);

#endif
