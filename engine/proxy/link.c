/* One carried connection: a local TCP socket and a stream, bytes both ways, half-close both ways,
 * and back-pressure by not reading (wire 18.2).
 *
 *   local -> peer: what the socket has is read into the engine's scratch in pieces with room
 * around, and goes out from there, sealed in place, in one system call; no more is read than the
 *                  peer's window takes.
 *   peer -> local: what the stream offers is written from where it lies; what the socket does not
 * take stays with the stream, which holds the peer back.
 *
 * Nothing is allocated while a connection idles. */
#include <stdio.h>
#include <string.h>

#include "multiaddr/multiaddr.h"
#include "platform/assert.h"
#include "proxy/proxy_priv.h"
#include "swarm/conn.h"

#define PIECES 4u          /* records of one read */
#define READS_PER_EVENT 2u /* other connections get their turn after so many */

struct pu_link {
  pu_list node; /* proxy->links */
  pu_proxy *proxy;
  pu_tcp *tcp;
  pu_stream *stream;
  pu_op *op;           /* opening the stream */
  pu_resolve *resolve; /* of the target */
  pu_timer timer;      /* deadline of a local connect; pause between retries */
  unsigned want;
  uint64_t began_us, bytes_in, bytes_out;
  pu_peer_id peer;
  uint8_t retries;
  uint8_t pieces; /* of the next read: fewer after the connection took less than it promised */
  uint8_t *rest;  /* read and not taken */
  size_t rest_len, rest_pos;
  bool connected; /* the local socket stands */
  bool local_eof, peer_eof;
  bool told, ended;
  unsigned busy;
  pu_sockaddr *addrs; /* of the target, while they are tried */
  size_t addr_count, next_addr;
};

/* ---- life ---- */

static void want(pu_link *l, unsigned flags) {
  if (l->want == flags || l->tcp == NULL)
    return;
  l->want = flags;
  pu_tcp_want(l->tcp, flags);
}

static void release(pu_link *l) {
  if (l->busy == 0 && l->ended && l->op == NULL)
    pu_free(l);
}

static void forget_addrs(pu_link *l) {
  pu_free(l->addrs);
  l->addrs = NULL;
  l->addr_count = l->next_addr = 0;
}

static void forget_rest(pu_link *l) {
  pu_free(l->rest);
  l->rest = NULL;
  l->rest_len = l->rest_pos = 0;
}

static void tell(pu_link *l, bool opened, int status, const char *detail) {
  const pu_proxy_event event = {.opened = opened,
                                .peer = &l->peer,
                                .status = status,
                                .detail = detail,
                                .bytes_in = l->bytes_in,
                                .bytes_out = l->bytes_out,
                                .duration_us = pu_now_us(l->proxy->engine->platform) - l->began_us};
  pu_proxy_tell(l->proxy, &event);
}

static void count_open(pu_link *l) {
  if (l->told)
    return;
  l->told = true;
  tell(l, true, 0, "");
}

/* end ends the connection: gracefully with status 0, else with resets to whoever is still there. */
static void end(pu_link *l, int status, const char *detail) {
  pu_proxy *p = l->proxy;
  if (l->ended)
    return;
  l->ended = true;
  l->busy++;
  p->busy++;
  pu_timer_stop(&l->timer);
  pu_resolve_cancel(l->resolve);
  if (l->op != NULL)
    pu_op_cancel(l->op); /* its callback finds the link ended and frees it */
  if (l->stream != NULL) {
    pu_stream *s = l->stream;
    l->stream = NULL;
    if (status == 0)
      pu_stream_close(s);
    else
      pu_stream_reset(s, 0);
  }
  pu_tcp_close(l->tcp, status != 0 && !l->peer_eof); /* what is behind an end must arrive */
  l->tcp = NULL;
  pu_list_remove(&l->node);
  p->link_count--;
  forget_addrs(l);
  forget_rest(l);
  if (l->told)
    p->stats.active--;
  if (status != 0 && status != PU_E_CLOSED && l->bytes_in == 0)
    p->stats.failures++; /* nothing came of it */
  PU_LOG(&p->engine->log, status == 0 ? PU_LOG_DEBUG : PU_LOG_INFO, "proxy", "%s: %s%s%s",
         p->protocol, status == 0 ? "connection ended" : pu_error_sentence(status),
         detail[0] != '\0' ? ": " : "", detail);
  tell(l, false, status, detail);
  l->busy--;
  release(l);
  p->busy--;
  pu_proxy_release(p);
}

void pu_links_end(pu_proxy *p) {
  while (!pu_list_empty(&p->links))
    end(PU_CONTAINER_OF(p->links.next, pu_link, node), PU_E_CLOSED, "the proxy was closed");
}

static void end_if_done(pu_link *l) {
  if (l->local_eof && l->peer_eof)
    end(l, 0, "");
}

/* ---- local -> peer ---- */

static void on_local_eof(pu_link *l) {
  l->local_eof = true;
  want(l, l->want & ~(unsigned)PU_WANT_READ);
  (void)pu_stream_close_write(l->stream);
  end_if_done(l);
}

static void count_out(pu_link *l, size_t len) {
  l->bytes_out += len;
  l->proxy->stats.bytes_out += len;
}

/* send_rest sends what an earlier read left over; true when nothing is left. */
static bool send_rest(pu_link *l) {
  if (l->rest == NULL)
    return true;
  ssize_t taken = pu_stream_write(l->stream, l->rest + l->rest_pos, l->rest_len - l->rest_pos);
  if (taken < 0) {
    end(l, (int)taken, "the stream takes no more");
    return false;
  }
  count_out(l, (size_t)taken);
  l->rest_pos += (size_t)taken;
  if (l->rest_pos < l->rest_len)
    return false;
  forget_rest(l);
  return true;
}

/* keep_rest copies what the stream did not take: |left| bytes, from |skip| on in the first piece.
 * The connection below may fill up between two pieces; this happens rarely, and reads get smaller
 * then. */
static void keep_rest(pu_link *l, const pu_iov *iov, size_t skip, size_t left) {
  l->pieces = 1;
  l->rest = pu_alloc(&l->proxy->engine->mem, left);
  if (l->rest == NULL) {
    end(l, PU_E_NOMEM, "no memory for what the connection does not take");
    return;
  }
  for (; left > 0; iov++, skip = 0) {
    const size_t len = iov->len - skip < left ? iov->len - skip : left;
    memcpy(l->rest + l->rest_len, (const uint8_t *)iov->base + skip, len);
    l->rest_len += len;
    left -= len;
  }
}

/* send_pieces sends the |left| bytes that were read into |iov|. */
static void send_pieces(pu_link *l, const pu_iov *iov, size_t left) {
  pu_stream *s = l->stream;
  pu_stream_cork(s);
  for (; left > 0 && l->stream != NULL; iov++) {
    const size_t len = left < iov->len ? left : iov->len;
    ssize_t taken = pu_stream_write_room(s, iov->base, len, PU_STREAM_HEAD, PU_STREAM_TAIL);
    if (taken < 0) {
      end(l, (int)taken, "the stream takes no more");
      break;
    }
    count_out(l, (size_t)taken);
    left -= (size_t)taken;
    if ((size_t)taken < len) {
      keep_rest(l, iov, (size_t)taken, left);
      break;
    }
  }
  pu_stream_uncork(s);
}

/* carry_out reads once and sends; returns whether more may be waiting. */
static bool carry_out(pu_link *l) {
  pu_iov iov[PIECES];
  size_t n = 0, room = 0;
  if (!send_rest(l))
    return false;
  const size_t chunk = pu_stream_chunk(l->stream);
  size_t space = pu_stream_space(l->stream);
  for (uint8_t *at = l->proxy->engine->scratch; n < l->pieces && space > 0; n++) {
    const size_t len = space < chunk ? space : chunk;
    iov[n] = (pu_iov){at + PU_STREAM_HEAD, len};
    at += PU_STREAM_HEAD + len + PU_STREAM_TAIL;
    room += len;
    space -= len;
  }
  if (n == 0)
    return false;
  ssize_t got = pu_tcp_readv(l->tcp, iov, n);
  if (got == PU_E_AGAIN)
    return false;
  if (got == 0) {
    on_local_eof(l);
    return false;
  }
  if (got < 0) {
    end(l, (int)got, "the local side broke off");
    return false;
  }
  if (l->pieces < PIECES)
    l->pieces++;
  send_pieces(l, iov, (size_t)got);
  return !l->ended && (size_t)got == room;
}

static void carry_out_all(pu_link *l) {
  unsigned rounds = 0;
  l->busy++;
  while (l->stream != NULL && !l->local_eof && rounds < READS_PER_EVENT && carry_out(l))
    rounds++;
  if (l->stream != NULL && !l->local_eof) {
    /* The socket is watched while there is room for its bytes; else on_writable follows. */
    const bool room = l->rest == NULL && pu_stream_space(l->stream) > 0;
    want(l, room ? l->want | PU_WANT_READ : l->want & ~(unsigned)PU_WANT_READ);
  }
  l->busy--;
  release(l);
}

static void on_local_readable(void *data) {
  carry_out_all(data);
}

/* ---- peer -> local ---- */

static size_t on_peer_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  pu_link *l = user;
  (void)s;
  (void)head;
  (void)tail;
  if (!l->connected)
    return 0;
  const pu_iov iov = {data, len};
  ssize_t taken = pu_tcp_writev(l->tcp, &iov, 1);
  if (taken == PU_E_AGAIN)
    taken = 0;
  if (taken < 0) {
    end(l, (int)taken, "the local side broke off");
    return len;
  }
  if ((size_t)taken < len)
    want(l, l->want | PU_WANT_WRITE);
  l->bytes_in += (uint64_t)taken;
  l->proxy->stats.bytes_in += (uint64_t)taken;
  return (size_t)taken;
}

static void on_local_writable(void *data) {
  pu_link *l = data;
  want(l, l->want & ~(unsigned)PU_WANT_WRITE);
  if (l->stream != NULL)
    pu_stream_resume(l->stream);
}

static void on_peer_eof(void *user, pu_stream *s) {
  pu_link *l = user;
  (void)s;
  l->peer_eof = true;
  if (l->connected)
    (void)pu_tcp_shutdown(l->tcp);
  end_if_done(l);
}

static void on_peer_writable(void *user, pu_stream *s) {
  pu_link *l = user;
  (void)s;
  if (l->connected && !l->local_eof)
    carry_out_all(l);
}

static void on_peer_end(void *user, pu_stream *s, int status, uint32_t code) {
  pu_link *l = user;
  char detail[PU_CONN_DETAIL + 40];
  l->stream = NULL;
  if (status == PU_E_RESET && code == 0x1008)
    (void)snprintf(detail, sizeof detail, "the peer's policy does not allow us this service");
  else if (status == PU_E_RESET)
    (void)snprintf(detail, sizeof detail, "the peer broke off (code 0x%x)", code);
  else if (status == PU_E_UNSUPPORTED)
    (void)snprintf(detail, sizeof detail, "the peer does not offer this service");
  else if (status == PU_E_DENIED)
    (void)snprintf(detail, sizeof detail, "our policy no longer allows it");
  else
    (void)snprintf(detail, sizeof detail, "the connection to the peer ended: %s",
                   pu_stream_conn(s)->end_detail);
  end(l, status, detail);
}

static const pu_stream_events stream_events = {on_peer_data, on_peer_eof, on_peer_writable,
                                               on_peer_end};

/* ---- beginning: a local connection that goes to the peer ---- */

static const pu_tcp_events accepted_events = {NULL, on_local_readable, on_local_writable};

static void open_stream(pu_link *l);

static bool worth_retrying(int status) {
  return status == PU_E_TIMEOUT || status == PU_E_UNREACHABLE || status == PU_E_GONE ||
         status == PU_E_REFUSED || status == PU_E_EOF || status == PU_E_NO_RESERVATION ||
         status == PU_E_IO;
}

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  pu_link *l = data;
  l->op = NULL;
  if (l->ended) {
    if (s != NULL)
      pu_stream_reset(s, 0);
    release(l);
    return;
  }
  if (status != 0) {
    if (worth_retrying(status) && l->retries < PU_PROXY_RETRIES &&
        pu_timer_after(&l->timer, 1000000ull << l->retries) == 0) {
      l->retries++;
      return;
    }
    char detail[256];
    (void)snprintf(detail, sizeof detail, "%s", err->detail);
    end(l, status, detail);
    return;
  }
  l->stream = s;
  l->connected = true;
  pu_stream_set_events(s, &stream_events, l);
  l->busy++;
  count_open(l);
  carry_out_all(l); /* what came early goes in the packet of the negotiation */
  l->busy--;
  release(l);
}

static void open_stream(pu_link *l) {
  pu_proxy *p = l->proxy;
  const char *const protocols[] = {p->protocol};
  int status =
      pu_engine_open_stream(p->engine, &p->peer, protocols, 1, PU_OPEN_LAZY | PU_OPEN_LIMITED,
                            PU_PROXY_OPEN_MS, on_open, l, &l->op);
  if (status != 0)
    end(l, status, "cannot open a stream");
}

static void on_retry(void *data) {
  open_stream(data);
}

static pu_link *new_link(pu_proxy *p, void (*on_timer)(void *)) {
  pu_link *l = p->link_count < PU_PROXY_LINKS_MAX ? pu_zalloc(&p->engine->mem, sizeof *l) : NULL;
  if (l == NULL)
    return NULL;
  p->link_count++;
  l->proxy = p;
  l->pieces = PIECES;
  l->began_us = pu_now_us(p->engine->platform);
  pu_timer_init(&l->timer, p->engine->platform, on_timer, l);
  pu_list_push(&p->links, &l->node);
  return l;
}

void pu_link_accept(pu_proxy *p, pu_tcp *tcp) {
  pu_link *l = new_link(p, on_retry);
  if (l == NULL) {
    const pu_proxy_event event = {
        .peer = &p->peer, .status = PU_E_LIMIT, .detail = "too many connections at once"};
    pu_tcp_close(tcp, true);
    p->stats.failures++;
    pu_proxy_tell(p, &event);
    return;
  }
  l->tcp = tcp;
  l->peer = p->peer;
  pu_tcp_set_events(tcp, &accepted_events, l);
  open_stream(l);
}

/* ---- beginning: a stream that goes to the local service ---- */

static void connect_next(pu_link *l, int last_status);

static void on_connect(void *data, int status) {
  pu_link *l = data;
  if (status != 0) {
    pu_tcp_close(l->tcp, true);
    l->tcp = NULL;
    connect_next(l, status);
    return;
  }
  pu_timer_stop(&l->timer);
  forget_addrs(l);
  l->connected = true;
  l->busy++;
  count_open(l);
  if (!l->ended) {
    want(l, PU_WANT_READ);
    if (l->peer_eof)
      (void)pu_tcp_shutdown(l->tcp);
    pu_stream_resume(l->stream);
  }
  l->busy--;
  release(l);
}

static const pu_tcp_events connected_events = {on_connect, on_local_readable, on_local_writable};

static void refuse(pu_link *l, int status) {
  char detail[384];
  (void)snprintf(detail, sizeof detail, "cannot connect to the local service %s: %s",
                 l->proxy->address, pu_error_sentence(status));
  end(l, status, detail);
}

/* connect_next tries the next address; each that is left gets an equal share of the time. */
static void connect_next(pu_link *l, int last_status) {
  pu_platform *platform = l->proxy->engine->platform;
  const uint64_t now = pu_now_us(platform), end_us = l->began_us + PU_PROXY_CONNECT_US;
  int status = last_status;
  while (l->next_addr < l->addr_count) {
    const uint64_t share = now < end_us ? (end_us - now) / (l->addr_count - l->next_addr) : 0;
    const pu_sockaddr *addr = &l->addrs[l->next_addr++];
    l->want = 0;
    status = pu_timer_at(&l->timer, now + share);
    if (status == 0)
      status = pu_tcp_connect(platform, NULL, addr, &connected_events, l, &l->tcp);
    if (status == 0)
      return;
  }
  refuse(l, status);
}

static void on_connect_limit(void *data) {
  pu_link *l = data;
  pu_tcp_close(l->tcp, true);
  l->tcp = NULL;
  connect_next(l, PU_E_TIMEOUT);
}

static int set_addrs(pu_link *l, const pu_sockaddr *addrs, size_t count) {
  l->addrs = pu_alloc(&l->proxy->engine->mem, count * sizeof *addrs);
  if (l->addrs == NULL)
    return PU_E_NOMEM;
  memcpy(l->addrs, addrs, count * sizeof *addrs);
  l->addr_count = count;
  return 0;
}

static void on_resolved(void *data, int status, const pu_sockaddr *addrs, size_t count) {
  pu_link *l = data;
  l->resolve = NULL;
  if (status == 0)
    status = count > 0 ? set_addrs(l, addrs, count) : PU_E_NOT_FOUND;
  connect_next(l, status);
}

/* known_target fills the addresses of literals and of localhost, which need no look-up. */
static size_t known_target(const pu_proxy *p, pu_sockaddr out[static 2]) {
  static const char *const loopback[] = {"127.0.0.1", "::1"};
  size_t count = 0;
  if (pu_sockaddr_parse_ip(p->host, &out[0]))
    count = 1;
  else if (strcmp(p->host, "localhost") == 0)
    for (size_t i = 0; i < PU_COUNT(loopback); i++)
      count += pu_sockaddr_parse_ip(loopback[i], &out[count]);
  for (size_t i = 0; i < count; i++)
    out[i].port = p->port;
  return count;
}

int pu_link_serve(pu_proxy *p, pu_stream *s) {
  pu_sockaddr addrs[2];
  pu_link *l = new_link(p, on_connect_limit);
  if (l == NULL)
    return PU_E_LIMIT;
  l->stream = s;
  l->peer = *pu_conn_peer(pu_stream_conn(s));
  pu_stream_set_events(s, &stream_events, l);
  const size_t count = known_target(p, addrs);
  if (count > 0) {
    connect_next(l, set_addrs(l, addrs, count));
    return 0;
  }
  int status = pu_timer_after(&l->timer, PU_PROXY_CONNECT_US);
  if (status == 0)
    status =
        pu_resolve_start(p->engine->platform, p->host, p->port, 0, on_resolved, l, &l->resolve);
  if (status != 0)
    refuse(l, status);
  return 0;
}
