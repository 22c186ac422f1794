/* QUIC v1 as a transport (wire 8): secured and multiplexed by itself. One UDP socket per listening
 * address, from which dials leave too. */
#ifndef PU_TRANSPORT_QUIC_H
#define PU_TRANSPORT_QUIC_H

#include "base/log.h"
#include "transport/transport.h"

/* Bounds on what peers can make us keep. */
#define PU_QUIC_HALF_OPEN_MAX \
  64u /* handshakes of unproven addresses; above it Retry is the answer */
#define PU_QUIC_ENDPOINTS_MAX 32u /* sockets */
#define PU_QUIC_TOMBS_MAX 1024u   /* closed connections of a socket whose packets are still known */
#define PU_QUIC_RESETS_PER_S 100u /* stateless resets, and version negotiations and Retries: each \
                                   */
#define PU_QUIC_RETRIES_PER_S 20000u
/* What a connection takes before its peer is authenticated. ngtcp2 takes memory in pools of 16 to
 * 64 objects; most of what is counted here is never touched. */
#define PU_QUIC_PREAUTH_BYTES (144u * 1024)
#define PU_QUIC_CRYPTO_MAX 65536u /* bytes of the peer's TLS messages, all together */
#define PU_QUIC_IDLE_S 30u        /* as go's: nothing from the peer for so long is the end */
#define PU_QUIC_KEEPALIVE_S 15u
#define PU_QUIC_STREAM_WINDOW (512u * 1024) /* at the start; they grow with the path */
#define PU_QUIC_CONN_WINDOW (768u * 1024)
#define PU_QUIC_WINDOW_MAX (48u * 1024 * 1024)

typedef enum pu_quic_congestion { PU_QUIC_CUBIC, PU_QUIC_BBR } pu_quic_congestion;

typedef struct pu_quic pu_quic;

typedef struct pu_quic_config {
  pu_mem *mem;
  pu_platform *platform;
  const pu_log *log;
  const pu_key *key; /* reset and token keys are derived from it */
  pu_quic_congestion congestion;
  /* on_accept gets an inbound connection whose native is the callee's to start or discard, within
   * the call. */
  void (*on_accept)(void *data, const pu_transport_conn *accepted);
  void *data;
} pu_quic_config;

/* pu_quic_new makes the transport; it is freed by its ops->free, after every session is. */
PU_MUST_CHECK int pu_quic_new(const pu_quic_config *config, pu_quic **out);
pu_transport *pu_quic_transport(pu_quic *q);
/* pu_quic_listen opens a socket that accepts; |*bound| is its address. As pu_udp_open, and
 * PU_E_LIMIT. */
PU_MUST_CHECK int pu_quic_listen(pu_quic *q, const pu_sockaddr *addr, pu_sockaddr *bound);
/* pu_quic_close closes all sockets; sessions must have been closed before. */
void pu_quic_close(pu_quic *q);

/* What a socket's owner wants to see. */
typedef struct pu_quic_stats {
  uint64_t datagrams_in, datagrams_out, dropped; /* dropped: not QUIC, damaged, or of nobody */
  uint64_t retries, resets, version_negotiations;
  uint32_t half_open;
} pu_quic_stats;
void pu_quic_stats_get(const pu_quic *q, pu_quic_stats *out);

/* pu_quic_derive_keys gives the stateless reset key and the token key of an identity (wire 8). */
void pu_quic_derive_keys(const pu_key *key, uint8_t reset[static 32], uint8_t token[static 32]);

#endif
