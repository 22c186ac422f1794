/* What the files of the simulated network share. */
#ifndef PU_PLATFORM_SIM_PRIV_H
#define PU_PLATFORM_SIM_PRIV_H

#include "platform/platform_priv.h"
#include "platform/sim.h"

#define SIM_ADDRS_MAX 8
#define SIM_NAME_MAX 64
#define FIRST_EPHEMERAL_PORT 32768u

typedef struct sim_host sim_host;
typedef struct sim_sock sim_sock;
typedef struct sim_listener sim_listener;
typedef struct sim_udp sim_udp;
typedef struct sim_event sim_event;
typedef struct sim_rule sim_rule;
typedef struct sim_line sim_line;
typedef struct sim_name sim_name;
typedef struct sim_text sim_text;
typedef struct sim_lookup sim_lookup;

struct sim_host {
  pu_platform base;
  pu_sim *sim;
  char name[SIM_NAME_MAX];
  pu_sockaddr addrs[SIM_ADDRS_MAX];
  size_t addr_count;
  uint16_t next_port;
  uint64_t wake;    /* id of the pending wake-up event, 0: none; others that fire are stale */
  uint64_t wake_us; /* its time */
  sim_host *next;
};

/* An event of the network: runs once at its time, in order of arming among equals. */
struct sim_event {
  uint64_t at_us, seq;
  void (*run)(pu_sim *sim, sim_event *event);
  void *target; /* what it is for */
  uint64_t value;
  void *memory; /* freed with the event */
};

struct sim_rule {
  sim_host *a, *b;
  pu_sim_link link;
  sim_rule *next;
};

/* One direction between two hosts, which all their connections share. */
struct sim_line {
  const sim_host *from, *to;
  uint64_t free_us;     /* when all segments that were sent have left */
  uint64_t udp_free_us; /* and all datagrams */
  uint64_t udp_rest;    /* of a microsecond, in bytes times a million */
  sim_line *next;
};

struct sim_name {
  char name[SIM_NAME_MAX];
  pu_sockaddr addr;
  sim_name *next;
};

struct sim_text {
  char name[256], text[512];
  sim_text *next;
};

struct pu_sim {
  uint64_t now_us, seq;
  uint64_t random[2];
  sim_host *hosts;
  sim_rule *rules; /* newest first: the last match of the caller's order */
  sim_line *lines;
  sim_name *names;
  sim_text *texts;
  sim_listener *listeners;
  sim_sock *socks;
  sim_udp *udps;
  size_t open_sockets;
  sim_event **heap; /* 1-based */
  size_t heap_len, heap_cap;
};

uint64_t sim_random(pu_sim *sim);
/* sim_random_below returns 0 to |n| - 1, 0 for n = 0. */
uint64_t sim_random_below(pu_sim *sim, uint64_t n);
/* sim_schedule makes an event; out of memory ends the program, as this is a test's tool. */
sim_event *sim_schedule(pu_sim *sim, uint64_t at_us, void (*run)(pu_sim *, sim_event *),
                        void *target, uint64_t value);
const pu_sim_link *sim_link(const pu_sim *sim, const sim_host *a, const sim_host *b);
sim_host *sim_find_host(pu_sim *sim, const pu_sockaddr *addr);
void *sim_alloc(size_t size);
/* sim_line_between returns the one direction from |from| to |to|. */
sim_line *sim_line_between(pu_sim *sim, const sim_host *from, const sim_host *to);
/* sim_free_socks frees what closed sockets left behind; called at the end of the network. */
void sim_free_socks(pu_sim *sim);

/* sim_tcp.c */
int sim_tcp_connect(pu_platform *p, const pu_sockaddr *local, const pu_sockaddr *remote,
                    const pu_tcp_events *events, void *data, pu_tcp **out);
void sim_tcp_set_events(pu_tcp *t, const pu_tcp_events *events, void *data);
void sim_tcp_want(pu_tcp *t, unsigned want);
ssize_t sim_tcp_readv(pu_tcp *t, const pu_iov *iov, size_t n);
ssize_t sim_tcp_writev(pu_tcp *t, const pu_iov *iov, size_t n);
int sim_tcp_shutdown(pu_tcp *t);
void sim_tcp_close(pu_tcp *t, bool abort);
void sim_tcp_local(const pu_tcp *t, pu_sockaddr *out);
void sim_tcp_remote(const pu_tcp *t, pu_sockaddr *out);
int sim_tcp_listen(pu_platform *p, const pu_sockaddr *addr, unsigned flags, pu_tcp_accept_cb cb,
                   void *data, pu_tcp_listener **out);
void sim_tcp_listener_address(const pu_tcp_listener *l, pu_sockaddr *out);
void sim_tcp_listener_close(pu_tcp_listener *l);

/* sim_udp.c */
int sim_udp_open(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events, void *data,
                 pu_udp **out);
void sim_udp_want(pu_udp *u, unsigned want);
ssize_t sim_udp_recv(pu_udp *u, pu_datagrams *batches, size_t n);
ssize_t sim_udp_send(pu_udp *u, const pu_datagrams *batch);
void sim_udp_local(const pu_udp *u, pu_sockaddr *out);
void sim_udp_close(pu_udp *u);
/* sim_free_udps frees what closed sockets left behind. */
void sim_free_udps(pu_sim *sim);

#endif
