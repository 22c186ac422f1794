/* What the files of the proxy share: proxy.c is the proxies, link.c one carried connection. */
#ifndef PU_PROXY_PROXY_PRIV_H
#define PU_PROXY_PROXY_PRIV_H

#include "swarm/engine_priv.h"

#define PU_PROXY_LINKS_MAX 32768u     /* connections of one proxy at once */
#define PU_PROXY_CONNECT_US 10000000u /* to the local service (wire 18.2) */
#define PU_PROXY_OPEN_MS 30000u       /* the stream to the peer (wire 18.2) */
#define PU_PROXY_RETRIES 3u           /* after 1, 2 and 4 s */

typedef struct pu_link pu_link;

struct pu_proxy {
  pu_list link; /* engine->proxies */
  pu_engine *engine;
  bool exposes;
  char *protocol;
  char address[288]; /* as bound, or the target as given */
  pu_tcp_listener *listeners[2];
  pu_peer_id peer; /* listening: whom to reach */
  char host[256];  /* exposing: the target */
  uint16_t port;
  pu_proxy_event_fn on_event;
  void *data;
  pu_proxy_stats stats;
  pu_list links;
  uint32_t link_count;
  unsigned busy; /* events inside: freed at none */
  bool closed;
};

/* pu_proxy_tell counts and tells what became of a connection. */
void pu_proxy_tell(pu_proxy *p, const pu_proxy_event *event);

/* pu_proxy_release frees a closed proxy that nobody is inside of. */
void pu_proxy_release(pu_proxy *p);

/* pu_link_accept carries a local connection to the peer; it takes |tcp| over. */
void pu_link_accept(pu_proxy *p, pu_tcp *tcp);
/* pu_link_serve carries an inbound stream to the target: a negative return refuses it. */
PU_MUST_CHECK int pu_link_serve(pu_proxy *p, pu_stream *s);
/* pu_links_end ends every connection of a proxy that closes. */
void pu_links_end(pu_proxy *p);

#endif
