/* Proxies: a local listener whose connections go to a peer, or a protocol whose streams go to a
 * local service (wire 18). The carrying itself is in link.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "multiaddr/multiaddr.h"
#include "platform/assert.h"
#include "proxy/proxy_priv.h"

/* ---- life ---- */

static void free_proxy(pu_proxy *p) {
  PU_ASSERT(pu_list_empty(&p->links));
  pu_free(p->protocol);
  pu_free(p);
}

void pu_proxy_release(pu_proxy *p) {
  if (p->closed && p->busy == 0 && pu_list_empty(&p->links))
    free_proxy(p);
}

void pu_proxy_tell(pu_proxy *p, const pu_proxy_event *event) {
  if (event->opened) {
    p->stats.connections++;
    p->stats.active++;
  }
  p->busy++;
  if (p->on_event != NULL)
    p->on_event(p->data, p, event);
  p->busy--;
  pu_proxy_release(p);
}

void pu_proxy_close(pu_proxy *p) {
  if (p->closed)
    return;
  p->closed = true;
  p->busy++;
  for (size_t i = 0; i < PU_COUNT(p->listeners); i++)
    pu_tcp_listener_close(p->listeners[i]);
  if (p->exposes && !p->engine->closing)
    pu_engine_unserve(p->engine, p->protocol);
  pu_links_end(p);
  pu_list_remove(&p->link);
  p->busy--;
  pu_proxy_release(p);
}

typedef struct proxy_module {
  pu_module base;
  pu_engine *engine;
} proxy_module;

static void on_engine_close(pu_module *m) {
  pu_engine *e = ((proxy_module *)m)->engine;
  while (!pu_list_empty(&e->proxies))
    pu_proxy_close(PU_CONTAINER_OF(e->proxies.next, pu_proxy, link));
}

static void free_module(pu_module *m) {
  pu_free(m);
}

static const pu_module_ops module_ops = {.on_close = on_engine_close, .free = free_module};

static int install_module(pu_engine *e) {
  if (e->proxy != NULL)
    return 0;
  proxy_module *m = pu_zalloc(&e->mem, sizeof *m);
  if (m == NULL)
    return PU_E_NOMEM;
  m->base.ops = &module_ops;
  m->engine = e;
  e->proxy = &m->base;
  pu_engine_add_module(e, &m->base);
  return 0;
}

static int new_proxy(pu_engine *e, const char *protocol, pu_proxy_event_fn on_event, void *data,
                     pu_proxy **out) {
  if (e->closing)
    return PU_E_CLOSED;
  int status = install_module(e);
  if (status != 0)
    return status;
  pu_proxy *p = pu_zalloc(&e->mem, sizeof *p);
  if (p == NULL)
    return PU_E_NOMEM;
  p->engine = e;
  p->on_event = on_event;
  p->data = data;
  pu_list_init(&p->links);
  pu_list_init(&p->link);
  p->protocol = pu_strndup(&e->mem, protocol, strlen(protocol));
  if (p->protocol == NULL) {
    free_proxy(p);
    return PU_E_NOMEM;
  }
  *out = p;
  return 0;
}

/* split_address takes "host:port" or "[v6]:port" apart. */
static int split_address(const char *text, char *host, size_t cap, uint16_t *port, pu_error *err) {
  const char *colon = strrchr(text, ':');
  char *end;
  size_t len = colon != NULL ? (size_t)(colon - text) : 0;
  const char *from = text;
  if (colon == NULL || colon[1] < '0' || colon[1] > '9')
    return pu_error_set(err, PU_E_INVAL, "\"%s\" is not host:port", text);
  unsigned long value = strtoul(colon + 1, &end, 10);
  if (*end != '\0' || value > 65535)
    return pu_error_set(err, PU_E_INVAL, "\"%s\" has no port between 0 and 65535", text);
  if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
    from++;
    len -= 2;
  } else if (memchr(text, ':', len) != NULL) {
    return pu_error_set(err, PU_E_INVAL, "\"%s\": write an IPv6 address as [address]:port", text);
  }
  if (len == 0 || len >= cap)
    return pu_error_set(err, PU_E_INVAL, "\"%s\" has no host", text);
  memcpy(host, from, len);
  host[len] = '\0';
  *port = (uint16_t)value;
  return 0;
}

/* ---- listening ---- */

static void on_accept(void *data, pu_tcp *tcp) {
  pu_link_accept(data, tcp);
}

static int listen_on(pu_proxy *p, const char *ip, uint16_t port, size_t slot) {
  pu_sockaddr sa;
  if (!pu_sockaddr_parse_ip(ip, &sa))
    return PU_E_INVAL;
  sa.port = port;
  return pu_tcp_listen(p->engine->platform, &sa, PU_LISTEN_V6_ONLY, on_accept, p,
                       &p->listeners[slot]);
}

/* listen_local serves "localhost" on both loopback addresses; IPv6 may be absent. */
static int listen_local(pu_proxy *p, uint16_t port) {
  pu_sockaddr bound;
  int status = listen_on(p, "127.0.0.1", port, 0);
  if (status != 0)
    return status;
  pu_tcp_listener_address(p->listeners[0], &bound);
  if (listen_on(p, "::1", bound.port, 1) == PU_E_IN_USE && port != 0)
    return PU_E_IN_USE;
  return 0;
}

int pu_proxy_listen(pu_engine *e, const char *listen, const pu_peer_id *peer, const char *protocol,
                    pu_proxy_event_fn on_event, void *data, pu_proxy **out, pu_error *err) {
  pu_proxy *p;
  char text[PU_SOCKADDR_TEXT];
  pu_sockaddr bound;
  char host[256];
  uint16_t port = 0;
  int status = split_address(listen, host, sizeof host, &port, err);
  if (status == 0)
    status = new_proxy(e, protocol, on_event, data, &p);
  if (status != 0)
    return status;
  p->peer = *peer;
  status = strcmp(host, "localhost") == 0 ? listen_local(p, port) : listen_on(p, host, port, 0);
  if (status != 0) {
    pu_tcp_listener_close(p->listeners[0]);
    p->listeners[0] = NULL;
    free_proxy(p);
    if (status == PU_E_INVAL || status == PU_E_NO_ADDRESS)
      return pu_error_set(err, status, "cannot listen on %s: not an address of this machine",
                          listen);
    return pu_error_set(err, status, "cannot listen on %s", listen);
  }
  pu_tcp_listener_address(p->listeners[0], &bound);
  (void)snprintf(p->address, sizeof p->address, "%s", pu_sockaddr_text(&bound, text));
  pu_list_push(&e->proxies, &p->link);
  *out = p;
  return 0;
}

/* ---- exposing ---- */

static int on_stream(void *data, pu_stream *s) {
  return pu_link_serve(data, s);
}

int pu_proxy_expose(pu_engine *e, const char *protocol, const char *target,
                    pu_proxy_event_fn on_event, void *data, pu_proxy **out, pu_error *err) {
  pu_proxy *p;
  char host[256];
  uint16_t port = 0;
  int status = split_address(target, host, sizeof host, &port, err);
  if (status == 0 && port == 0)
    status = pu_error_set(err, PU_E_INVAL, "\"%s\": port 0 cannot be connected to", target);
  if (status == 0)
    status = new_proxy(e, protocol, on_event, data, &p);
  if (status != 0)
    return status;
  p->exposes = true;
  p->port = port;
  (void)snprintf(p->host, sizeof p->host, "%s", host);
  (void)snprintf(p->address, sizeof p->address, "%s", target);
  status = pu_engine_handle(e, protocol, on_stream, p);
  if (status != 0) {
    free_proxy(p);
    return pu_error_set(err, status, "cannot serve %s", protocol);
  }
  pu_list_push(&e->proxies, &p->link);
  *out = p;
  return 0;
}

const char *pu_proxy_address(const pu_proxy *p) {
  return p->address;
}

void pu_proxy_stats_get(const pu_proxy *p, pu_proxy_stats *out) {
  *out = p->stats;
}
