/* Multiaddrs: text and binary, components, classes of reachability (wire 3). A value type of fixed
 * size, so that a list of addresses is an array and needs no freeing. */
#ifndef PU_MULTIADDR_MULTIADDR_H
#define PU_MULTIADDR_MULTIADDR_H

#include "identity/peer_id.h"
#include "peerup/error.h"
#include "platform/platform.h"

/* Longest binary address taken: a relay address with two hashed peer IDs and a DNS name fits. */
#define PU_MULTIADDR_MAX_BYTES 320
#define PU_MULTIADDR_MAX_TEXT 768

typedef enum pu_ma_code {
  PU_MA_IP4 = 4, PU_MA_TCP = 6, PU_MA_IP6 = 41, PU_MA_IP6ZONE = 42, PU_MA_IPCIDR = 43,
  PU_MA_DNS = 53, PU_MA_DNS4 = 54, PU_MA_DNS6 = 55, PU_MA_DNSADDR = 56, PU_MA_SCTP = 132,
  PU_MA_UDP = 273, PU_MA_WEBRTC_DIRECT = 280, PU_MA_WEBRTC = 281, PU_MA_P2P_CIRCUIT = 290,
  PU_MA_UNIX = 400, PU_MA_P2P = 421, PU_MA_HTTPS = 443, PU_MA_TLS = 448, PU_MA_SNI = 449,
  PU_MA_NOISE = 454, PU_MA_QUIC = 460, PU_MA_QUIC_V1 = 461, PU_MA_WEBTRANSPORT = 465,
  PU_MA_CERTHASH = 466, PU_MA_WS = 477, PU_MA_WSS = 478, PU_MA_HTTP = 480,
  PU_MA_HTTP_PATH = 481, PU_MA_MEMORY = 777
} pu_ma_code;

typedef struct pu_multiaddr {
  uint16_t len; /* 0: none */
  uint8_t bytes[PU_MULTIADDR_MAX_BYTES];
} pu_multiaddr;

typedef struct pu_ma_component {
  uint32_t code;
  const uint8_t *value; /* into the address; NULL for components without a value */
  size_t len;
} pu_ma_component;

/* pu_multiaddr_from_text parses; on failure |err| (may be NULL) says which part and why. */
PU_MUST_CHECK int pu_multiaddr_from_text(const char *text, size_t len, pu_multiaddr *out,
                                         pu_error *err);
/* pu_multiaddr_from_bytes checks every component; the address must fill |len| exactly. */
PU_MUST_CHECK int pu_multiaddr_from_bytes(const uint8_t *in, size_t len, pu_multiaddr *out);
/* pu_multiaddr_text writes canonical text and a NUL and returns |out|. */
const char *pu_multiaddr_text(const pu_multiaddr *a, char out[static PU_MULTIADDR_MAX_TEXT]);
bool pu_multiaddr_equal(const pu_multiaddr *a, const pu_multiaddr *b);

/* pu_multiaddr_next iterates: |*pos| starts at 0; false at the end. */
bool pu_multiaddr_next(const pu_multiaddr *a, size_t *pos, pu_ma_component *out);
/* pu_multiaddr_find returns the first component of |code|. */
bool pu_multiaddr_find(const pu_multiaddr *a, uint32_t code, pu_ma_component *out);
bool pu_multiaddr_has(const pu_multiaddr *a, uint32_t code);
/* pu_multiaddr_protocol_name returns "tcp" and so on, NULL when unknown. */
const char *pu_multiaddr_protocol_name(uint32_t code);

/* Building. Each appends and may return PU_E_LIMIT (too long). */
PU_MUST_CHECK int pu_multiaddr_append(pu_multiaddr *a, const pu_multiaddr *tail);
PU_MUST_CHECK int pu_multiaddr_append_p2p(pu_multiaddr *a, const pu_peer_id *id);
PU_MUST_CHECK int pu_multiaddr_append_circuit(pu_multiaddr *a);
/* pu_multiaddr_from_sockaddr gives /ip4|ip6/A/tcp/P. */
void pu_multiaddr_from_sockaddr(const pu_sockaddr *sa, pu_multiaddr *out);
/* pu_multiaddr_from_udp gives /ip4|ip6/A/udp/P/quic-v1. */
void pu_multiaddr_from_udp(const pu_sockaddr *sa, pu_multiaddr *out);

/* Reading the shapes that are used (wire 3, "Forms used"). */
typedef enum pu_ma_kind {
  PU_MA_KIND_OTHER,   /* nothing we can dial */
  PU_MA_KIND_TCP,     /* /ip4 or ip6 or dns.../A/tcp/P[/p2p/T] */
  PU_MA_KIND_CIRCUIT, /* <relay addr>/p2p/R/p2p-circuit[/p2p/T] */
  PU_MA_KIND_QUIC,    /* /.../udp/P/quic-v1[/p2p/T] */
  PU_MA_KIND_WS       /* /.../tcp/P/ws, /tls/ws, /tls/sni/NAME/ws, /wss; and /certhash/H, /http-path/P */
} pu_ma_kind;

/* An address taken apart. */
#define PU_MA_PATH_MAX 128
typedef struct pu_ma_target {
  pu_ma_kind kind;
  bool is_dns;          /* the host is a name */
  pu_sockaddr addr;     /* of the first hop, when not a name */
  char host[256];       /* of the first hop, when a name */
  uint16_t port;
  int family;           /* 0 any, 4, 6: what /dns4 and /dns6 ask for */
  bool tls;             /* of PU_MA_KIND_WS: inside TLS */
  char sni[256];        /* of that: the web server's name when not |host|; else "" */
  bool pinned;          /* of that: its certificate has the SHA-256 |pin| */
  uint8_t pin[32];
  char path[PU_MA_PATH_MAX]; /* of PU_MA_KIND_WS: where on the web server, decoded; "": at its root */
  pu_peer_id relay;     /* of a circuit */
  pu_multiaddr relay_addr; /* of a circuit: <relay addr>/p2p/R, len 0 when only /p2p/R was given */
  pu_peer_id peer;      /* final /p2p, len 0 when absent */
} pu_ma_target;

/* pu_multiaddr_target takes |a| apart; |out|->kind is PU_MA_KIND_OTHER for shapes we do not use. */
void pu_multiaddr_target(const pu_multiaddr *a, pu_ma_target *out);
/* pu_multiaddr_without_peer drops a final /p2p/T (not the one before /p2p-circuit). */
void pu_multiaddr_without_peer(const pu_multiaddr *a, pu_multiaddr *out);

/* Classes by the first component (wire 3). Addresses may be none of the three. */
bool pu_multiaddr_is_loopback(const pu_multiaddr *a);
bool pu_multiaddr_is_private(const pu_multiaddr *a);
bool pu_multiaddr_is_public(const pu_multiaddr *a);
/* pu_multiaddr_is_relayed says whether /p2p-circuit occurs. */
bool pu_multiaddr_is_relayed(const pu_multiaddr *a);

#endif
