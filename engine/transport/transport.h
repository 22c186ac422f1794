/* What a transport offers: it dials an address and yields a raw connection (raw.h); connections that
 * come in are handed to the engine by whoever accepts them (listeners, the relay client). Transports
 * are entries of a list in the engine: tcp.c and circuit.c fill one each. */
#ifndef PU_TRANSPORT_TRANSPORT_H
#define PU_TRANSPORT_TRANSPORT_H

#include "base/list.h"
#include "base/mem.h"
#include "multiaddr/multiaddr.h"
#include "transport/raw.h"
#include "transport/session.h"

/* A connection and what is known of it before it is secured: exactly one of |raw| and |native|. */
typedef struct pu_transport_conn {
  pu_raw *raw;             /* bytes, to be upgraded */
  pu_native *native;       /* secures and multiplexes by itself */
  const char *transport;   /* "tcp", "ws", "wss", "quic-v1", "circuit" */
  pu_multiaddr local;      /* len 0: unknown */
  pu_multiaddr remote;     /* without the peer's own /p2p */
  bool relayed;
  bool limited;            /* the relay announced limits */
  uint32_t limit_duration_s;
  uint64_t limit_data_bytes;
  size_t max_record;       /* longest record that travels in one piece below; 0: no such bound */
} pu_transport_conn;

typedef struct pu_transport pu_transport;
typedef struct pu_transport_dial pu_transport_dial;

/* pu_transport_dial_cb ends a dial: 0 and |conn| (its raw is the callee's to close), or an error with a
 * |detail| for people. Never called from inside dial, nor after cancel. */
typedef void (*pu_transport_dial_cb)(void *data, int status, const char *detail,
                                     const pu_transport_conn *conn);

typedef struct pu_transport_ops {
  const char *name;
  bool (*can_dial)(pu_transport *t, const pu_ma_target *target);
  int (*dial)(pu_transport *t, const pu_multiaddr *addr, const pu_ma_target *target,
              pu_transport_dial_cb cb, void *data, pu_transport_dial **out);
  void (*cancel)(pu_transport_dial *dial);
  void (*free)(pu_transport *t);
} pu_transport_ops;

struct pu_transport {
  const pu_transport_ops *ops;
  pu_list link;
};
struct pu_transport_dial {
  pu_transport *transport;
};

/* Shared memory that every raw TCP connection of an engine reads into: used up before the read's event
 * returns. PU_SPAN_HEAD bytes before and PU_SPAN_TAIL behind it are the reader's too. */
#define PU_RX_BYTES (256u * 1024)
typedef struct pu_rx_memory {
  uint8_t *bytes; /* PU_SPAN_HEAD + PU_RX_BYTES + PU_SPAN_TAIL */
} pu_rx_memory;

/* pu_tcp_raw_new makes a raw connection of |tcp|, which it takes over also when it fails. */
PU_MUST_CHECK int pu_tcp_raw_new(pu_mem *mem, pu_tcp *tcp, const pu_rx_memory *rx, pu_raw **out);

/* pu_tcp_transport_local says from which of our listening addresses a dial to |remote| should leave;
 * false: from any port. */
typedef bool (*pu_tcp_transport_local)(void *data, const pu_sockaddr *remote, pu_sockaddr *local);
/* pu_tcp_transport_new makes the TCP transport: /ip4, /ip6 and DNS names, raced over what a name
 * resolves to, from the listening port where that works. */
PU_MUST_CHECK int pu_tcp_transport_new(pu_mem *mem, pu_platform *platform, const pu_rx_memory *rx,
                                       pu_tcp_transport_local local, void *local_data,
                                       pu_transport **out);

#endif
