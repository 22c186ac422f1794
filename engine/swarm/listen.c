/* Listeners and own addresses; see listen.h. */
#include "swarm/listen.h"
#include "swarm/conn.h"
#include "transport/quic.h"
#include "transport/sniff.h"
#include "transport/ws.h"
#include <stdio.h>
#include <string.h>

void pu_listen_init(pu_engine *e) {
  pu_list_init(&e->listeners);
  pu_list_init(&e->sniffing);
}

static void free_listener(pu_listener *l) {
  pu_tcp_listener_close(l->tcp);
  pu_list_remove(&l->link);
  pu_free(l);
}

void pu_listen_end(pu_engine *e) {
  PU_LIST_EACH(&e->listeners, node, tmp) {
    free_listener(PU_CONTAINER_OF(node, pu_listener, link));
  }
  pu_sniff_end(&e->sniffing);
}

/* may_sniff says whether one more connection may keep its first byte to itself: as many as may be in
 * handshake. The one that has for longest makes room, as in a handshake. */
static int may_sniff(pu_engine *e, const pu_transport_conn *accepted) {
  uint32_t all = 0, same = 0;
  pu_origin origin, other;
  pu_limits_origin(&accepted->remote, &origin);
  PU_LIST_EACH(&e->sniffing, node, tmp) {
    pu_limits_origin(&PU_CONTAINER_OF(node, pu_sniff, link)->conn.remote, &other);
    all++;
    same += origin.len != 0 && memcmp(&origin, &other, sizeof origin) == 0;
  }
  const int status = pu_limits_may_wait(&e->limiter, &origin, all, same, &e->refusal);
  const bool room = status == PU_E_LIMIT && e->refusal.kind == PU_LIMIT_PENDING &&
                    pu_sniff_drop_oldest(&e->sniffing, PU_LIMITS_PATIENCE_US);
  return room ? 0 : status;
}

/* accept_ws makes the connection's raw one of WebSocket, which serves TLS and the upgrade within the
 * deadline of the connection's handshake. */
static void accept_ws(pu_engine *e, pu_transport_conn *conn, bool tls) {
  conn->transport = tls ? "wss" : "ws";
  int status = pu_ws_append(&conn->remote, tls);
  if (status == 0)
    status = pu_ws_append(&conn->local, tls);
  PU_ASSERT(status == 0); /* they are short */
  if (pu_ws_serve(&e->mem, e->platform, tls ? e->web : NULL, conn->raw, &conn->raw) == 0)
    pu_engine_accept(e, conn);
}

static void on_sniffed(void *data, pu_sniff_kind kind, const pu_transport_conn *sniffed) {
  pu_engine *e = data;
  pu_transport_conn conn = *sniffed;
  if (kind == PU_SNIFF_PLAIN)
    pu_engine_accept(e, &conn);
  else
    accept_ws(e, &conn, kind == PU_SNIFF_TLS);
}

static void on_accept(void *data, pu_tcp *tcp) {
  pu_listener *l = data;
  pu_engine *e = l->engine;
  pu_transport_conn conn = {.transport = "tcp"};
  pu_sockaddr sa;
  pu_tcp_remote(tcp, &sa);
  if (sa.family == 0) { /* gone before it was looked at */
    pu_tcp_close(tcp, true);
    return;
  }
  pu_multiaddr_from_sockaddr(&sa, &conn.remote);
  pu_tcp_local(tcp, &sa);
  pu_multiaddr_from_sockaddr(&sa, &conn.local);
  if (pu_tcp_raw_new(&e->mem, tcp, &e->rx, &conn.raw) != 0)
    return;
  if (l->kinds == PU_SNIFF_PLAIN) {
    pu_engine_accept(e, &conn);
  } else if (may_sniff(e, &conn) != 0) {
    conn.raw->ops->close(conn.raw, true);
    pu_engine_emit(e, PU_EVENT_DROPPED, NULL, NULL, NULL, PU_E_LIMIT, e->refusal.text);
  } else if (pu_sniff_start(&e->mem, e->platform, &conn, l->kinds, on_sniffed, e, &e->sniffing) !=
             0) {
    pu_engine_emit(e, PU_EVENT_DROPPED, NULL, NULL, NULL, PU_E_NOMEM, "no memory for a connection");
  }
}

static int announce(pu_engine *e) {
  pu_engine_self_changed(e);
  pu_engine_emit(e, PU_EVENT_ADDRESSES, NULL, NULL, NULL, 0, "");
  return 0;
}

/* listen_tcp serves |kind| on a port of its own, or on one where another kind is served already. */
static int listen_tcp(pu_engine *e, const pu_ma_target *target, pu_sniff_kind kind, const char *addr,
                      pu_error *err) {
  size_t count = 0;
  pu_sockaddr sa = target->addr;
  sa.port = target->port;
  PU_LIST_EACH(&e->listeners, node, tmp) {
    pu_listener *other = PU_CONTAINER_OF(node, pu_listener, link);
    count++;
    if (other->tcp == NULL || !pu_sockaddr_equal(&other->address, &sa))
      continue;
    if ((other->kinds & kind) != 0)
      return pu_error_set(err, PU_E_IN_USE, "already listening on %s", addr);
    other->kinds |= kind;
    return announce(e);
  }
  if (count >= PU_ENGINE_LISTENERS_MAX)
    return pu_error_set(err, PU_E_LIMIT, "at most %d listening addresses", PU_ENGINE_LISTENERS_MAX);
  pu_listener *l = pu_zalloc(&e->mem, sizeof *l);
  if (l == NULL)
    return pu_error_set(err, PU_E_NOMEM, "no memory to listen on %s", addr);
  l->engine = e;
  l->kinds = kind;
  int status = pu_tcp_listen(e->platform, &sa, PU_LISTEN_REUSE_PORT | PU_LISTEN_V6_ONLY, on_accept,
                             l, &l->tcp);
  if (status != 0) {
    pu_free(l);
    return pu_error_set(err, status, "cannot listen on %s", addr);
  }
  pu_tcp_listener_address(l->tcp, &l->address);
  pu_list_push(&e->listeners, &l->link);
  return announce(e);
}

/* ---- QUIC ---- */

static void on_quic_accept(void *data, const pu_transport_conn *conn) {
  pu_engine_accept(data, conn);
}

int pu_listen_make_quic(pu_engine *e, const char *congestion) {
  const bool bbr = congestion != NULL && strcmp(congestion, "bbr") == 0;
  if (congestion != NULL && !bbr && strcmp(congestion, "cubic") != 0)
    return PU_E_INVAL;
  const pu_quic_config config = {.mem = &e->mem,
                                 .platform = e->platform,
                                 .log = &e->log,
                                 .key = e->key,
                                 .congestion = bbr ? PU_QUIC_BBR : PU_QUIC_CUBIC,
                                 .on_accept = on_quic_accept,
                                 .data = e};
  const int status = pu_quic_new(&config, &e->quic);
  if (status == 0)
    pu_engine_add_transport(e, pu_quic_transport(e->quic));
  return status;
}

static int listen_quic(pu_engine *e, const pu_ma_target *target, const char *addr, pu_error *err) {
  pu_sockaddr sa = target->addr;
  sa.port = target->port;
  pu_listener *l = pu_zalloc(&e->mem, sizeof *l);
  if (l == NULL)
    return pu_error_set(err, PU_E_NOMEM, "no memory to listen on %s", addr);
  l->engine = e;
  const int status = pu_quic_listen(e->quic, &sa, &l->address);
  if (status != 0) {
    pu_free(l);
    return pu_error_set(err, status, "cannot listen on %s", addr);
  }
  pu_list_push(&e->listeners, &l->link);
  return announce(e);
}

/* ---- WebSocket inside TLS ---- */

int pu_engine_web_certificate(pu_engine *e, const char *certificate_file, const char *key_file,
                              pu_error *err) {
  const char *why = "";
  const int status = pu_tls_web_load(e->web, certificate_file, key_file, &why);
  if (status != 0)
    return pu_error_set(err, status, "%s", why);
  e->web_given = true;
  return announce(e);
}

int pu_engine_web_keep(pu_engine *e, const char *file, pu_error *err) {
  const uint64_t now_s = pu_wall_ns(e->platform) / 1000000000u;
  int status = pu_tls_web_keep(e->web, file, now_s, err);
  if (status == 0 && pu_tls_web_pin(e->web, now_s, e->web_pin) != 0)
    status = pu_error_set(err, PU_E_CRYPTO, "%s holds no certificate", file);
  if (status != 0)
    return status;
  e->web_given = false;
  return announce(e);
}

/* listen_wss has a certificate before it listens: without the user's, one of our own, which others can
 * only take for ours by its hash, and so the address tells it. */
static int listen_wss(pu_engine *e, const pu_ma_target *target, const char *addr, pu_error *err) {
  const int status =
      pu_tls_web_pin(e->web, pu_wall_ns(e->platform) / 1000000000u, e->web_pin);
  if (status != 0)
    return pu_error_set(err, status, "no certificate to listen on %s", addr);
  return listen_tcp(e, target, PU_SNIFF_TLS, addr, err);
}

int pu_engine_listen(pu_engine *e, const char *addr, pu_error *err) {
  pu_multiaddr a;
  pu_ma_target target;
  int status = pu_multiaddr_from_text(addr, strlen(addr), &a, err);
  if (status != 0)
    return status;
  pu_multiaddr_target(&a, &target);
  const bool own = !target.is_dns && target.peer.len == 0;
  if (target.kind == PU_MA_KIND_TCP && own)
    return listen_tcp(e, &target, PU_SNIFF_PLAIN, addr, err);
  if (target.kind == PU_MA_KIND_WS && own && target.path[0] == '\0' && target.sni[0] == '\0' &&
      !target.pinned)
    return target.tls ? listen_wss(e, &target, addr, err)
                      : listen_tcp(e, &target, PU_SNIFF_HTTP, addr, err);
  if (target.kind == PU_MA_KIND_QUIC && own)
    return listen_quic(e, &target, addr, err);
  if (target.kind == PU_MA_KIND_CIRCUIT && target.peer.len == 0)
    return pu_engine_reserve(e, addr, 0, err);
  return pu_error_set(err, PU_E_UNSUPPORTED, "cannot listen on %s: only /ip4 or /ip6 with /udp/../quic-v1, /tcp, /tcp/../ws or "
                      "/tcp/../tls/ws", addr);
}

static bool is_any(const pu_sockaddr *sa) {
  static const uint8_t zero[16];
  return memcmp(sa->ip, zero, sa->family == 4 ? 4 : 16) == 0;
}

static bool is_loopback(const pu_sockaddr *sa) {
  static const uint8_t one[16] = {[15] = 1};
  return sa->family == 4 ? sa->ip[0] == 127 : memcmp(sa->ip, one, 16) == 0;
}

/* A port serves for a dial when it is bound to every address, or when both ends are on this machine's
 * side of the same boundary: what listens on loopback cannot reach out, and the other way round. */
bool pu_listen_dial_from(void *engine, const pu_sockaddr *remote, pu_sockaddr *local) {
  const pu_engine *e = engine;
  PU_LIST_EACH(&e->listeners, node, tmp) {
    const pu_listener *l = PU_CONTAINER_OF(node, pu_listener, link);
    if (l->tcp == NULL || l->address.family != remote->family)
      continue;
    if (!is_any(&l->address) && is_loopback(&l->address) != is_loopback(remote))
      continue;
    if (l->address.port == remote->port && (is_loopback(remote) || is_any(&l->address)))
      continue; /* it might be ourselves: a socket connected to itself */
    *local = l->address;
    return true;
  }
  return false;
}

/* ---- own addresses ---- */

/* put_kinds lists |sa| once for each kind that is served there. */
static size_t put_kinds(const pu_listener *l, const pu_sockaddr *sa, pu_multiaddr *out, size_t max) {
  const pu_engine *e = l->engine;
  size_t count = 0;
  if (l->tcp == NULL && max > 0)
    pu_multiaddr_from_udp(sa, &out[count++]);
  for (unsigned kind = PU_SNIFF_PLAIN; kind <= PU_SNIFF_TLS && count < max; kind <<= 1) {
    if ((l->kinds & kind) == 0)
      continue;
    pu_multiaddr_from_sockaddr(sa, &out[count]);
    int status = 0;
    if (kind != PU_SNIFF_PLAIN)
      status = pu_ws_append(&out[count], kind == PU_SNIFF_TLS);
    if (status == 0 && kind == PU_SNIFF_TLS && !e->web_given)
      status = pu_ws_append_pin(&out[count], e->web_pin);
    if (status == 0)
      count++;
  }
  return count;
}

static size_t expand(pu_engine *e, const pu_listener *l, pu_multiaddr *out, size_t max) {
  pu_sockaddr addrs[PU_INTERFACE_ADDRS_MAX];
  size_t count = 0;
  if (!is_any(&l->address))
    return put_kinds(l, &l->address, out, max);
  const size_t n = pu_interface_addrs(e->platform, addrs, PU_INTERFACE_ADDRS_MAX);
  for (size_t i = 0; i < n && count < max; i++) {
    const bool link_local = addrs[i].family == 6 && addrs[i].ip[0] == 0xfe && (addrs[i].ip[1] & 0xc0) == 0x80;
    if (addrs[i].family != l->address.family || link_local)
      continue; /* a link-local address means nothing to others without its zone */
    addrs[i].port = l->address.port;
    addrs[i].scope = 0;
    count += put_kinds(l, &addrs[i], out + count, max - count);
  }
  return count;
}

size_t pu_engine_own_addrs(pu_engine *e, pu_multiaddr *out, size_t max) {
  size_t count = 0;
  PU_LIST_EACH(&e->listeners, node, tmp) {
    count += expand(e, PU_CONTAINER_OF(node, pu_listener, link), out + count, max - count);
  }
  for (size_t i = 0; i < e->relay_addr_count && count < max; i++)
    out[count++] = e->relay_addrs[i];
  return count;
}

void pu_engine_addrs(const pu_engine *e, void (*each)(void *data, const char *addr), void *data) {
  char text[PU_MULTIADDR_MAX_TEXT];
  pu_engine *engine = (pu_engine *)(uintptr_t)e; /* listing asks the platform, which is not const */
  pu_multiaddr *addrs = pu_alloc(&engine->mem, PU_ENGINE_ADDRS_MAX * sizeof *addrs);
  if (addrs == NULL)
    return;
  const size_t count = pu_engine_own_addrs(engine, addrs, PU_ENGINE_ADDRS_MAX);
  for (size_t i = 0; i < count; i++)
    each(data, pu_multiaddr_text(&addrs[i], text));
  pu_free(addrs);
}

static size_t find_relay_addr(const pu_engine *e, const pu_multiaddr *addr) {
  size_t i = 0;
  while (i < e->relay_addr_count && !pu_multiaddr_equal(&e->relay_addrs[i], addr))
    i++;
  return i;
}

int pu_engine_add_relay_addr(pu_engine *e, const pu_multiaddr *addr) {
  const size_t i = find_relay_addr(e, addr);
  if (i < e->relay_addr_count)
    return 0;
  if (i == PU_ENGINE_RELAY_ADDRS_MAX)
    return PU_E_LIMIT;
  e->relay_addrs[e->relay_addr_count++] = *addr;
  pu_engine_self_changed(e);
  pu_engine_emit(e, PU_EVENT_ADDRESSES, NULL, NULL, NULL, 0, "");
  return 0;
}

void pu_engine_remove_relay_addr(pu_engine *e, const pu_multiaddr *addr) {
  const size_t i = find_relay_addr(e, addr);
  if (i == e->relay_addr_count)
    return;
  e->relay_addrs[i] = e->relay_addrs[--e->relay_addr_count];
  pu_engine_self_changed(e);
  pu_engine_emit(e, PU_EVENT_ADDRESSES, NULL, NULL, NULL, 0, "");
}
