/* Dialling /ws (wire 10): TCP's dial, which knows names and ports, and then the upgrade on what it
 * yields. */
#include <string.h>

#include "platform/assert.h"
#include "transport/ws.h"

typedef struct ws_transport {
  pu_transport base;
  pu_mem *mem;
  pu_platform *platform;
  pu_transport *tcp;
} ws_transport;

typedef struct ws_dial {
  pu_transport_dial base;
  pu_transport_dial_cb cb;
  void *data;
  pu_ma_target target;
  pu_transport_dial *below; /* while TCP dials */
  pu_raw *raw;              /* while it is upgraded */
  pu_transport_conn conn;
  pu_timer limit;
} ws_dial;

int pu_ws_append(pu_multiaddr *a, bool tls) {
  static const pu_multiaddr ws = {2, {0xdd, 0x03}};
  static const pu_multiaddr tls_ws = {4, {0xc0, 0x03, 0xdd, 0x03}};
  return pu_multiaddr_append(a, tls ? &tls_ws : &ws);
}

static void free_dial(ws_dial *d) {
  pu_timer_stop(&d->limit);
  if (d->below != NULL)
    d->below->transport->ops->cancel(d->below);
  if (d->raw != NULL)
    d->raw->ops->close(d->raw, true);
  pu_free(d);
}

static void finish(ws_dial *d, int status, const char *detail, const pu_transport_conn *conn) {
  pu_transport_dial_cb cb = d->cb;
  void *data = d->data;
  free_dial(d);
  cb(data, status, detail, conn);
}

static void on_limit(void *data) {
  finish(data, PU_E_TIMEOUT, "the web server does not answer the WebSocket upgrade", NULL);
}

static void on_ready(void *data, int status, const char *detail) {
  ws_dial *d = data;
  if (status != 0) {
    finish(d, status, detail, NULL);
    return;
  }
  pu_transport_conn conn = d->conn;
  conn.raw = d->raw;
  d->raw = NULL;
  finish(d, 0, "", &conn);
}

/* host_of says what the web server is called in the request. */
static const char *host_of(const pu_ma_target *t, char ip[static PU_SOCKADDR_TEXT]) {
  if (t->sni[0] != '\0')
    return t->sni;
  if (t->is_dns)
    return t->host;
  pu_sockaddr sa = t->addr;
  sa.scope = 0;
  (void)pu_sockaddr_text(&sa, ip);
  *strrchr(ip, ':') = '\0'; /* the port has its own place */
  return ip;
}

static void on_tcp(void *data, int status, const char *detail, const pu_transport_conn *conn) {
  ws_dial *d = data;
  const ws_transport *t = (const ws_transport *)d->base.transport;
  const uint16_t usual = 80;
  char ip[PU_SOCKADDR_TEXT];
  d->below = NULL;
  if (status != 0) {
    finish(d, status, detail, NULL);
    return;
  }
  d->conn = *conn;
  d->conn.transport = "ws";
  status = pu_ws_append(&d->conn.remote, false);
  if (status == 0)
    status = pu_timer_after(&d->limit, PU_WS_UPGRADE_US);
  if (status != 0) {
    conn->raw->ops->close(conn->raw, true);
    finish(d, status, pu_error_sentence(status), NULL);
    return;
  }
  const pu_ws_config config = {.mem = t->mem,
                               .platform = t->platform,
                               .host = host_of(&d->target, ip),
                               .port = d->target.port == usual ? 0 : d->target.port,
                               .path = d->target.path,
                               .on_ready = on_ready,
                               .data = d};
  status = pu_ws_raw_new(&config, conn->raw, &d->raw);
  if (status != 0)
    finish(d, status, pu_error_sentence(status), NULL);
}

static bool can_dial(pu_transport *t, const pu_ma_target *target) {
  (void)t;
  return target->kind == PU_MA_KIND_WS && !target->tls && target->port != 0;
}

static int dial(pu_transport *base, const pu_multiaddr *addr, const pu_ma_target *target,
                pu_transport_dial_cb cb, void *data, pu_transport_dial **out) {
  ws_transport *t = (ws_transport *)base;
  ws_dial *d = pu_zalloc(t->mem, sizeof *d);
  if (d == NULL)
    return PU_E_NOMEM;
  d->base.transport = base;
  d->cb = cb;
  d->data = data;
  d->target = *target;
  pu_timer_init(&d->limit, t->platform, on_limit, d);
  const int status = t->tcp->ops->dial(t->tcp, addr, target, on_tcp, d, &d->below);
  if (status != 0) {
    free_dial(d);
    return status;
  }
  *out = &d->base;
  return 0;
}

static void cancel(pu_transport_dial *d) {
  free_dial((ws_dial *)d);
}

static void free_transport(pu_transport *t) {
  pu_free(t);
}

static const pu_transport_ops ws_transport_ops = {
    .name = "ws", .can_dial = can_dial, .dial = dial, .cancel = cancel, .free = free_transport};

int pu_ws_transport_new(pu_mem *mem, pu_platform *platform, pu_transport *tcp, pu_transport **out) {
  ws_transport *t = pu_zalloc(mem, sizeof *t);
  if (t == NULL)
    return PU_E_NOMEM;
  t->base.ops = &ws_transport_ops;
  t->mem = mem;
  t->platform = platform;
  t->tcp = tcp;
  *out = &t->base;
  return 0;
}
