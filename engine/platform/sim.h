/* A simulated network in virtual time: hosts with addresses, links with delay, loss, rate and cuts,
 * TCP with real flow control, all from one seed, so that every failure replays. Single-threaded. */
#ifndef PU_PLATFORM_SIM_H
#define PU_PLATFORM_SIM_H

#include "platform/platform.h"

typedef struct pu_sim pu_sim;

/* How bytes travel between two hosts (both directions alike). */
typedef struct pu_sim_link {
  uint64_t delay_us;      /* one way */
  uint64_t jitter_us;     /* added at random, 0 to this; reorders segments below TCP's surface */
  uint32_t loss_ppm;      /* lost segments per million; TCP repeats them after a timeout */
  uint64_t rate_bytes_s;  /* 0: unlimited */
  uint32_t cut_ppm;       /* chance per million segments that the connection is cut by RST */
  bool down;              /* nothing passes: connects time out, data waits, datagrams are lost */
  /* of datagrams only, which come late, twice, damaged, in another order or not at all: */
  uint64_t queue_bytes;   /* what waits for |rate_bytes_s| at most, the rest is lost; 0: 1 MiB */
  uint32_t mtu_bytes;     /* longer ones (IP header included) are lost; 0: 1500 */
  uint32_t duplicate_ppm, corrupt_ppm;
  bool no_udp;            /* datagrams are lost, TCP passes */
} pu_sim_link;

/* pu_sim_new makes an empty network. */
PU_MUST_CHECK int pu_sim_new(uint64_t seed, pu_sim **out);
/* pu_sim_free ends it; every host's sockets must be closed (PU_ASSERT), platforms are freed with it. */
void pu_sim_free(pu_sim *sim);
/* pu_sim_add_host adds a host with |count| addresses; its platform lives as long as the network. */
PU_MUST_CHECK int pu_sim_add_host(pu_sim *sim, const char *name, const pu_sockaddr *addrs,
                                  size_t count, pu_platform **out);
/* pu_sim_set_link sets the link between two hosts (either may be NULL: any). The last match wins. */
PU_MUST_CHECK int pu_sim_set_link(pu_sim *sim, pu_platform *a, pu_platform *b,
                                  const pu_sim_link *link);
/* pu_sim_cut resets every connection between two hosts (either NULL: any). */
void pu_sim_cut(pu_sim *sim, pu_platform *a, pu_platform *b);
/* pu_sim_udp_rebind gives every UDP socket of |host| a new address and port as seen by others, as a NAT
 * does that has forgotten it: |ip| of the same family. What is sent to the old one is lost. The host
 * itself goes on to know the address that it had. */
void pu_sim_udp_rebind(pu_sim *sim, pu_platform *host, const pu_sockaddr *ip);
/* pu_sim_name makes |name| resolve to |addr|. */
PU_MUST_CHECK int pu_sim_name(pu_sim *sim, const char *name, const pu_sockaddr *addr);
/* pu_sim_text gives |name| one more TXT record. */
PU_MUST_CHECK int pu_sim_text(pu_sim *sim, const char *name, const char *text);
uint64_t pu_sim_now_us(const pu_sim *sim);
/* pu_sim_step runs the next event; false when there is none. */
bool pu_sim_step(pu_sim *sim);
/* pu_sim_run runs events until virtual time |until_us| or until |*stop| (may be NULL) is true;
 * returns whether |*stop| became true (or, with NULL, true). */
bool pu_sim_run(pu_sim *sim, uint64_t until_us, const bool *stop);
/* pu_sim_random draws from the network's own sequence, for the test's choices. */
uint64_t pu_sim_random(pu_sim *sim);
/* pu_sim_open_sockets counts sockets and listeners not yet closed, for balance checks. */
size_t pu_sim_open_sockets(const pu_sim *sim);

#endif
