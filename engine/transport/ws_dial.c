/* Dialling /ws and /tls/ws (wire 10): TCP's dial, which knows names and ports, then TLS if it is to
 * be, and then the upgrade on what that yields. */
#include <string.h>

#include "platform/assert.h"
#include "transport/tls_raw.h"
#include "transport/ws.h"

typedef struct ws_transport {
  pu_transport base;
  pu_mem *mem;
  pu_platform *platform;
  pu_transport *tcp;
  pu_tls_web *web;
} ws_transport;

typedef struct ws_dial {
  pu_transport_dial base;
  pu_transport_dial_cb cb;
  void *data;
  pu_ma_target target;
  pu_transport_dial *below; /* while TCP dials */
  pu_raw *raw;              /* while TLS begins, or it is upgraded */
  pu_transport_conn conn;
  pu_timer limit;
} ws_dial;

int pu_ws_append(pu_multiaddr *a, bool tls) {
  static const pu_multiaddr ws = {2, {0xdd, 0x03}};
  static const pu_multiaddr tls_ws = {4, {0xc0, 0x03, 0xdd, 0x03}};
  return pu_multiaddr_append(a, tls ? &tls_ws : &ws);
}

int pu_ws_append_pin(pu_multiaddr *a, const uint8_t pin[static PU_TLS_WEB_PIN]) {
  /* /certhash, and a multihash of SHA-256 behind its length */
  pu_multiaddr tail = {5 + PU_TLS_WEB_PIN, {0xd2, 0x03, 2 + PU_TLS_WEB_PIN, 0x12, PU_TLS_WEB_PIN}};
  memcpy(tail.bytes + 5, pin, PU_TLS_WEB_PIN);
  return pu_multiaddr_append(a, &tail);
}

int pu_ws_serve(pu_mem *mem, pu_platform *platform, pu_tls_web *web, pu_raw *below, pu_raw **out) {
  const pu_ws_config config = {.mem = mem, .platform = platform};
  if (web != NULL) {
    const pu_tls_raw_config tls = {
        .web = web, .session = {.mem = mem, .now_unix_s = pu_wall_ns(platform) / 1000000000u}};
    const int status = pu_tls_raw_new(&tls, below, &below);
    if (status != 0)
      return status;
  }
  return pu_ws_raw_new(&config, below, out);
}

/* ---- dials ---- */

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
  finish(data, PU_E_TIMEOUT, "the web server does not answer the upgrade to WebSocket", NULL);
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

/* What a web server is called. */
typedef struct host_name {
  char in_request[PU_TLS_WEB_HOST_MAX + 1]; /* IPv6 in brackets */
  char in_certificate[PU_TLS_WEB_HOST_MAX + 1];
} host_name;

static void name_host(const pu_ma_target *t, host_name *out) {
  if (t->sni[0] != '\0') {
    memcpy(out->in_request, t->sni, strlen(t->sni) + 1);
    memcpy(out->in_certificate, t->sni, strlen(t->sni) + 1);
    return;
  }
  char *text = out->in_request;
  (void)pu_sockaddr_text(&t->addr, text);
  *strrchr(text, ':') = '\0'; /* the port has its own place */
  const size_t bracket = *text == '[' ? 1 : 0;
  const size_t len = strlen(text) - 2 * bracket;
  memcpy(out->in_certificate, text + bracket, len);
  out->in_certificate[len] = '\0';
}

/* upgrade begins the upgrade on |below|, which it takes over. */
static void upgrade(ws_dial *d, pu_raw *below) {
  const ws_transport *t = (const ws_transport *)d->base.transport;
  const uint16_t usual = d->target.tls ? 443 : 80;
  host_name name;
  name_host(&d->target, &name);
  const pu_ws_config config = {.mem = t->mem,
                               .platform = t->platform,
                               .host = name.in_request,
                               .port = d->target.port == usual ? 0 : d->target.port,
                               .path = d->target.path,
                               .on_ready = on_ready,
                               .data = d};
  const int status = pu_ws_raw_new(&config, below, &d->raw);
  if (status != 0)
    finish(d, status, pu_error_sentence(status), NULL);
}

static void on_tls(void *data, int status, const char *detail) {
  ws_dial *d = data;
  if (status != 0) {
    finish(d, status, detail, NULL);
    return;
  }
  pu_raw *tls = d->raw;
  d->raw = NULL;
  upgrade(d, tls);
}

/* secure begins TLS on |below|, which it takes over. */
static void secure(ws_dial *d, pu_raw *below) {
  const ws_transport *t = (const ws_transport *)d->base.transport;
  host_name name;
  name_host(&d->target, &name);
  pu_tls_raw_config config = {
      .web = t->web,
      .session = {.mem = t->mem,
                  .initiator = true,
                  .now_unix_s = pu_wall_ns(t->platform) / 1000000000u,
                  .host = name.in_certificate,
                  .trust = d->target.pinned ? PU_TLS_WEB_PINNED : PU_TLS_WEB_SYSTEM},
      .on_ready = on_tls,
      .data = d,
  };
  memcpy(config.session.pin, d->target.pin, sizeof config.session.pin);
  const int status = pu_tls_raw_new(&config, below, &d->raw);
  if (status != 0)
    finish(d, status,
           status == PU_E_NOT_FOUND ? "this system knows no web authorities to verify wss with"
                                    : pu_error_sentence(status),
           NULL);
}

static void on_tcp(void *data, int status, const char *detail, const pu_transport_conn *conn) {
  ws_dial *d = data;
  d->below = NULL;
  if (status != 0) {
    finish(d, status, detail, NULL);
    return;
  }
  d->conn = *conn;
  d->conn.raw = NULL;
  d->conn.transport = d->target.tls ? "wss" : "ws";
  status = pu_ws_append(&d->conn.remote, d->target.tls);
  if (status == 0)
    status = pu_timer_after(&d->limit, PU_WS_UPGRADE_US);
  if (status != 0) {
    conn->raw->ops->close(conn->raw, true);
    finish(d, status, pu_error_sentence(status), NULL);
  } else if (d->target.tls) {
    secure(d, conn->raw);
  } else {
    upgrade(d, conn->raw);
  }
}

/* ---- transport ---- */

static bool can_dial(pu_transport *t, const pu_ma_target *target) {
  (void)t;
  return target->kind == PU_MA_KIND_WS && !target->is_dns && target->port != 0;
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

int pu_ws_transport_new(pu_mem *mem, pu_platform *platform, pu_transport *tcp, pu_tls_web *web,
                        pu_transport **out) {
  ws_transport *t = pu_zalloc(mem, sizeof *t);
  if (t == NULL)
    return PU_E_NOMEM;
  t->base.ops = &ws_transport_ops;
  t->mem = mem;
  t->platform = platform;
  t->tcp = tcp;
  t->web = web;
  *out = &t->base;
  return 0;
}
