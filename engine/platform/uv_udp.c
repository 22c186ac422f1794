/* UDP of the libuv door: many datagrams in one system call, by the kernel's segmentation offload
 * (UDP_SEGMENT to send, UDP_GRO to receive) and recvmmsg. A kernel or a device that has none is
 * found out by its refusal, and then the datagrams go one by one. */
#include "platform/uv_udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/assert.h"
#include "platform/uv_priv.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SOCKET_BUFFER_BYTES (4 * 1024 * 1024) /* asked for; the system's limit is what we get */
#define CONTROL_BYTES 256

typedef struct uv_udp {
  pu_udp base;
  pu_watch watch;
  unsigned want;
  bool no_segmentation;
  bool wildcard; /* answers name the address that they leave from */
  pu_sockaddr bound;
  const pu_udp_events *events;
  void *data;
} uv_udp;

static uv_udp *udp_of(pu_watch *w) {
  return PU_CONTAINER_OF(w, uv_udp, watch);
}

static bool set_option(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* ---- readiness ---- */

static void on_ready(pu_watch *w, unsigned what) {
  uv_udp *u = udp_of(w);
  if ((what & u->want & PU_WANT_WRITE) != 0)
    u->events->on_writable(u->data);
  if (!w->closed && (what & u->want & PU_WANT_READ) != 0)
    u->events->on_readable(u->data);
  if (!w->closed)
    pu_watch_set(w, u->want);
}

void pu_uv_udp_want(pu_udp *base, unsigned want) {
  uv_udp *u = (uv_udp *)base;
  u->want = want;
  if (!u->watch.closed && (want & ~u->watch.armed) != 0)
    pu_watch_set(&u->watch, want);
}

/* ---- receiving ---- */

/* read_control takes the segment size, the ECN bits and the address that the datagrams came to. */
static void read_control(const uv_udp *u, struct msghdr *msg, pu_datagrams *out) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
    if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
      int size;
      memcpy(&size, CMSG_DATA(c), sizeof size);
      if (size > 0)
        out->segment = (size_t)size;
    } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
      out->ecn = *(const uint8_t *)CMSG_DATA(c) & 3u;
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
      int tclass;
      memcpy(&tclass, CMSG_DATA(c), sizeof tclass);
      out->ecn = (uint8_t)(tclass & 3);
    } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      out->local = (pu_sockaddr){.family = 4, .port = u->bound.port};
      memcpy(out->local.ip, &info.ipi_addr, 4);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      struct in6_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      out->local = (pu_sockaddr){.family = 6, .port = u->bound.port};
      memcpy(out->local.ip, &info.ipi6_addr, 16);
      if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
        out->local.scope = (uint32_t)info.ipi6_ifindex;
    }
  }
}

ssize_t pu_uv_udp_recv(pu_udp *base, pu_datagrams *batches, size_t n) {
  uv_udp *u = (uv_udp *)base;
  struct mmsghdr messages[PU_UDP_RECV_MAX];
  struct iovec iovs[PU_UDP_RECV_MAX];
  struct sockaddr_storage names[PU_UDP_RECV_MAX];
  union {
    struct cmsghdr align;
    uint8_t bytes[CONTROL_BYTES];
  } controls[PU_UDP_RECV_MAX];
  ssize_t kept = 0;
  if (n > PU_UDP_RECV_MAX)
    n = PU_UDP_RECV_MAX;
  for (size_t i = 0; i < n; i++) {
    iovs[i] = (struct iovec){batches[i].data, batches[i].len};
    messages[i].msg_hdr = (struct msghdr){.msg_name = &names[i],
                                          .msg_namelen = sizeof names[i],
                                          .msg_iov = &iovs[i],
                                          .msg_iovlen = 1,
                                          .msg_control = &controls[i],
                                          .msg_controllen = sizeof controls[i]};
  }
  const int count = recvmmsg(u->watch.fd, messages, (unsigned)n, MSG_DONTWAIT, NULL);
  if (count < 0) {
    const int status = pu_uv_error(errno);
    /* A port that could not be reached is told here; whoever sent there learns it by silence. */
    return status == PU_E_REFUSED || status == PU_E_UNREACHABLE || status == PU_E_RESET ? PU_E_AGAIN
                                                                                        : status;
  }
  for (int i = 0; i < count; i++) {
    pu_datagrams got = {.data = batches[i].data, .len = messages[i].msg_len, .local = u->bound};
    pu_uv_from_native((const struct sockaddr *)&names[i], &got.remote);
    read_control(u, &messages[i].msg_hdr, &got);
    if (got.segment == 0 || got.segment > got.len)
      got.segment = got.len;
    const bool cut = (messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0; /* more than there is room */
    if (got.len > 0 && got.remote.family != 0 && !cut)
      batches[kept++] = got;
  }
  return kept == 0 ? PU_E_AGAIN : kept;
}

/* ---- sending ---- */

static void put_control(struct msghdr *msg, int level, int type, const void *value, size_t len) {
  struct cmsghdr *c = (struct cmsghdr *)(void *)((uint8_t *)msg->msg_control + msg->msg_controllen);
  memset(c, 0, CMSG_SPACE(len)); /* padding, too: valgrind and the kernel both look at it */
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(len);
  memcpy(CMSG_DATA(c), value, len);
  msg->msg_controllen += CMSG_SPACE(len);
}

static void put_source(struct msghdr *msg, const pu_sockaddr *local) {
  if (local->family == 4) {
    struct in_pktinfo info = {0};
    memcpy(&info.ipi_spec_dst, local->ip, 4);
    put_control(msg, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
  } else {
    struct in6_pktinfo info = {.ipi6_ifindex = local->scope};
    memcpy(&info.ipi6_addr, local->ip, 16);
    put_control(msg, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
  }
}

/* send_some sends |len| bytes in datagrams of |segment|, in one call. */
static ssize_t send_some(uv_udp *u, const pu_datagrams *b, size_t len, size_t segment) {
  union {
    struct cmsghdr align;
    uint8_t bytes[CONTROL_BYTES];
  } control;
  struct sockaddr_storage name;
  struct iovec iov = {b->data, len};
  struct msghdr msg = {.msg_name = &name,
                       .msg_namelen = pu_uv_to_native(&b->remote, &name),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control};
  if (len > segment) {
    const uint16_t size = (uint16_t)segment;
    put_control(&msg, SOL_UDP, UDP_SEGMENT, &size, sizeof size);
  }
  if (b->ecn != 0) {
    const int tos = b->ecn;
    put_control(&msg, u->bound.family == 6 ? IPPROTO_IPV6 : IPPROTO_IP,
                u->bound.family == 6 ? IPV6_TCLASS : IP_TOS, &tos, sizeof tos);
  }
  if (u->wildcard && b->local.family == u->bound.family)
    put_source(&msg, &b->local);
  if (msg.msg_controllen == 0)
    msg.msg_control = NULL;
  const ssize_t sent = sendmsg(u->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent >= 0 ? sent : -errno;
}

static int send_error(int error) {
  switch (error) {
  case EMSGSIZE:
    return PU_E_TOO_BIG;
  case ENOBUFS:
    return PU_E_AGAIN;
  case ECONNREFUSED: /* an earlier datagram's; this one may be sent */
    return PU_E_UNREACHABLE;
  default:
    return pu_uv_error(error);
  }
}

ssize_t pu_uv_udp_send(pu_udp *base, const pu_datagrams *batch) {
  uv_udp *u = (uv_udp *)base;
  bool refused = false;
  if (batch->remote.family != u->bound.family)
    return PU_E_UNREACHABLE;
  size_t most = batch->segment * PU_UDP_SEGMENTS_MAX;
  if (most > PU_UDP_BATCH_BYTES)
    most = PU_UDP_BATCH_BYTES / batch->segment * batch->segment;
  size_t len = batch->len < most ? batch->len : most;
  if (len > batch->segment && !u->no_segmentation) {
    const ssize_t sent = send_some(u, batch, len, batch->segment);
    if (sent >= 0)
      return sent;
    if (sent != -EIO && sent != -EINVAL && sent != -EOPNOTSUPP && sent != -ENOPROTOOPT)
      return send_error((int)-sent);
    refused = true;
  }
  size_t done = 0;
  while (done < batch->len) {
    pu_datagrams one = *batch;
    one.data += done;
    len = batch->len - done < batch->segment ? batch->len - done : batch->segment;
    const ssize_t sent = send_some(u, &one, len, len);
    if (sent < 0)
      return done > 0 ? (ssize_t)done : send_error((int)-sent);
    /* Alone it goes, so offload was refused, and not a datagram longer than the interface takes or
     * an address that is gone: the kernel has one word for all of them. */
    if (refused)
      u->no_segmentation = true;
    done += len;
  }
  return (ssize_t)done;
}

void pu_uv_udp_no_offload(pu_udp *base) {
  uv_udp *u = (uv_udp *)base;
  u->no_segmentation = true;
  (void)set_option(u->watch.fd, SOL_UDP, UDP_GRO, 0);
}

/* ---- life ---- */

static void prepare(int fd, uint8_t family) {
  if (family == 6) {
    (void)set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    (void)set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    (void)set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
  } else {
    (void)set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    (void)set_option(fd, IPPROTO_IP, IP_RECVTOS, 1);
    (void)set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
  }
  (void)set_option(fd, SOL_UDP, UDP_GRO, 1);
  (void)set_option(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
  (void)set_option(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
}

static void free_udp(pu_watch *w) {
  free(udp_of(w));
}

static bool is_wildcard(const pu_sockaddr *sa) {
  static const uint8_t zero[16];
  return memcmp(sa->ip, zero, sa->family == 4 ? 4 : 16) == 0;
}

int pu_uv_udp_open(pu_platform *p, const pu_sockaddr *addr, const pu_udp_events *events, void *data,
                   pu_udp **out) {
  struct sockaddr_storage name;
  socklen_t len = pu_uv_to_native(addr, &name);
  int status = PU_E_NOMEM;
  const int fd = socket(addr->family == 6 ? AF_INET6 : AF_INET,
                        SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  if (fd < 0)
    return pu_uv_error(errno);
  uv_udp *u = calloc(1, sizeof *u);
  if (u == NULL)
    goto fail;
  if (addr->family == 6)
    (void)set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  prepare(fd, addr->family);
  if (bind(fd, (const struct sockaddr *)&name, len) != 0) {
    status = pu_uv_error(errno);
    goto fail;
  }
  len = sizeof name;
  if (getsockname(fd, (struct sockaddr *)&name, &len) != 0) {
    status = pu_uv_error(errno);
    goto fail;
  }
  u->base.platform = p;
  u->events = events;
  u->data = data;
  pu_uv_from_native((const struct sockaddr *)&name, &u->bound);
  u->wildcard = is_wildcard(&u->bound);
  status = pu_watch_open(&u->watch, (uv_door *)p, fd, 0, on_ready, free_udp);
  if (status != 0)
    goto fail;
  *out = &u->base;
  return 0;
fail:
  free(u);
  (void)close(fd);
  return status;
}

void pu_uv_udp_local(const pu_udp *base, pu_sockaddr *out) {
  *out = ((const uv_udp *)base)->bound;
}

void pu_uv_udp_close(pu_udp *base) {
  uv_udp *u = (uv_udp *)base;
  pu_watch_close(&u->watch);
}
