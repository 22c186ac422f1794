/* In which order and with which delays the addresses of a peer are tried (wire 4). A pure function
 * of what is known of them, so that it can be tested as a table; and the memory of whether UDP gets
 * anywhere. */
#ifndef PU_SWARM_RANK_H
#define PU_SWARM_RANK_H

#include "multiaddr/multiaddr.h"

/* The stagger: the next address of a group begins so long after the one before. */
#define PU_RANK_PUBLIC_US 250000u
#define PU_RANK_PRIVATE_US 30000u
#define PU_RANK_OTHER_US \
  1000000u /* WebSocket behind TCP; what seems to lead nowhere behind the rest */
#define PU_RANK_RELAY_PUBLIC_US 500000u /* relays behind the first public direct address */
#define PU_RANK_RELAY_PRIVATE_US 200000u

typedef struct pu_rank_item {
  pu_ma_kind kind;
  int family; /* 4, 6; 0: a name */
  bool is_public;
  size_t index;      /* the caller's */
  bool late;         /* out: dark, and another public address is not */
  uint64_t delay_us; /* out: after the dial's begin */
} pu_rank_item;

/* What seems to lead nowhere from here; see pu_dark. */
typedef struct pu_rank_dark {
  bool udp, ip6;
} pu_rank_dark;

/* pu_rank sorts |items| by delay. Within private and within public addresses QUIC goes first, IPv6
 * before IPv4, TCP after the first of each, others last; relays behind the direct ones. Public
 * addresses that are |dark| go behind the other public ones, and in their place if there are no
 * others: a peer that is reachable by nothing else is dialled as ever. */
void pu_rank(pu_rank_item *items, size_t count, pu_rank_dark dark);

/* Whether a way to public addresses gets anywhere from here: QUIC in networks that drop all UDP,
 * IPv6 where it is announced and not carried. Each dial would wait for its stagger in vain: after
 * PU_DARK_AFTER dials in a row in which it had its chance and another direct way to the same peer
 * got through, it counts as dark. One dial in PU_DARK_PROBE tries it first nevertheless; one
 * success, or PU_DARK_FORGET_US without a failure, or another network, and all is forgotten. */
#define PU_DARK_AFTER 4u
#define PU_DARK_PROBE 8u
#define PU_DARK_FORGET_US (600u * 1000000u)

typedef struct pu_dark {
  uint32_t failures; /* in a row */
  uint32_t dials;    /* since it is dark */
  uint64_t last_us;  /* of the last failure */
} pu_dark;

bool pu_dark_is(const pu_dark *d, uint64_t now_us);
/* pu_dark_ask is pu_dark_is for a dial that begins: it lets some through. */
bool pu_dark_ask(pu_dark *d, uint64_t now_us);
void pu_dark_note(pu_dark *d, bool worked, uint64_t now_us);
void pu_dark_forget(pu_dark *d);

#endif
