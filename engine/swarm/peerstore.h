/* What is known of peers: addresses with an end, and what identify told. Bounded: addresses per peer
 * and peers in all; the least recently used peer without a connection makes room. */
#ifndef PU_SWARM_PEERSTORE_H
#define PU_SWARM_PEERSTORE_H

#include "swarm/engine_priv.h"

#define PU_PEERSTORE_PEERS_MAX 8192 /* more than there are connections, by default */
#define PU_PEERSTORE_ADDRS_MAX 64
#define PU_PEERSTORE_PROTOCOLS_MAX 256
#define PU_PEERSTORE_PROTOCOL_BYTES 16384u /* of all protocol names of a peer */
#define PU_PEERSTORE_FOREVER UINT64_MAX

typedef struct pu_peer_addr {
  uint64_t expires_us;          /* the later of both: */
  uint64_t given_until_us;      /* 0: by nobody but identify */
  uint64_t identified_until_us; /* told by identify, until its next word; 0: not */
  uint64_t backoff_until_us; /* dialled in vain: not before */
  uint32_t failures;
  uint16_t len;
  uint8_t *bytes;
} pu_peer_addr;

typedef struct pu_peer {
  pu_list link;    /* most recently used last */
  struct pu_peer *next; /* hash chain */
  pu_peer_id id;
  pu_peer_addr *addrs;
  size_t addr_count, addr_cap;
  char *protocols; /* NUL-separated, sorted as sent; NULL before identify */
  size_t protocols_len;
  char agent[128];
  uint32_t protect;
} pu_peer;

PU_MUST_CHECK int pu_peerstore_new(pu_engine *e, pu_peerstore **out);
void pu_peerstore_free(pu_peerstore *s);
pu_peer *pu_peerstore_find(pu_peerstore *s, const pu_peer_id *id);
/* pu_peerstore_get finds or makes. */
PU_MUST_CHECK int pu_peerstore_get(pu_peerstore *s, const pu_peer_id *id, pu_peer **out);
/* pu_peerstore_add_addr adds or prolongs; the address is stored without a final /p2p of the peer. */
PU_MUST_CHECK int pu_peerstore_add_addr(pu_peerstore *s, const pu_peer_id *id,
                                        const pu_multiaddr *addr, uint64_t expires_us,
                                        bool identified);
/* pu_peerstore_drop_identified forgets what identify told of addresses, before its new word;
 * pu_peerstore_age_identified gives it an end. What was given otherwise stays. */
void pu_peerstore_drop_identified(pu_peerstore *s, const pu_peer_id *id);
void pu_peerstore_age_identified(pu_peerstore *s, const pu_peer_id *id, uint64_t expires_us);
/* pu_peerstore_drop_given forgets what was given, by whomever; what identify told stays. */
void pu_peerstore_drop_given(pu_peerstore *s, const pu_peer_id *id);
/* pu_peerstore_addrs copies unexpired addresses; returns how many. */
size_t pu_peerstore_addrs(pu_peerstore *s, const pu_peer_id *id, pu_multiaddr *out, size_t max);
/* pu_peerstore_set_protocols keeps |joined|: names, each with its NUL, |len| bytes in all. */
PU_MUST_CHECK int pu_peerstore_set_protocols(pu_peerstore *s, const pu_peer_id *id,
                                             const char *joined, size_t len);
/* pu_peerstore_speaks: 1 yes, 0 no, -1 not known. */
int pu_peerstore_speaks(pu_peerstore *s, const pu_peer_id *id, const char *protocol);
/* pu_peerstore_dialled notes a dial's outcome for the back-off of its address. */
void pu_peerstore_dialled(pu_peerstore *s, const pu_peer_id *id, const pu_multiaddr *addr, bool ok);
/* pu_peerstore_forget_backoff lets every address be dialled again: the network is another. */
void pu_peerstore_forget_backoff(pu_peerstore *s);
bool pu_peerstore_in_backoff(pu_peerstore *s, const pu_peer_id *id, const pu_multiaddr *addr);

#endif
