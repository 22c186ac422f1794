/* Programs that talk TCP, for tests of what carries their bytes: one that sends and checks a
 * pattern, one that echoes. They know a platform only, so they run on real sockets and in the
 * simulation. */
#ifndef PU_TESTS_TCP_APP_H
#define PU_TESTS_TCP_APP_H

#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "platform/platform.h"

#define TCP_APP_PIECE 65536u

/* One socket of a program. */
typedef struct tcp_app {
  pu_tcp *tcp; /* NULL before and after */
  bool connected;
  int failed;     /* status of connect, read or write */
  bool echo;      /* send back what comes, and its end */
  bool keep_open; /* do not half-close after |to_send| */
  bool paused;    /* read nothing */
  uint64_t to_send, sent, got;
  uint64_t seed_out, seed_in; /* of the patterns; an echo has none */
  bool eof, shut, wrong;      /* the other side's end, ours, bytes that were not the pattern's */
  uint8_t *waiting;           /* echo: read and not yet sent */
  size_t waiting_len;
  bool owned; /* freed by its server */
  struct tcp_app *next;
} tcp_app;

/* tcp_app_byte is what is at |at| in the stream of |seed|: repeats late, differs when shifted. */
static inline uint8_t tcp_app_byte(uint64_t seed, uint64_t at) {
  return (uint8_t)((at * 167 + (at >> 8) * 59 + (at >> 16) * 31 + seed * 97) & 0xff);
}

static inline void tcp_app_update(tcp_app *a) {
  if (a->tcp == NULL || !a->connected)
    return;
  const bool more = a->echo ? a->waiting_len > 0 || (a->eof && !a->shut)
                            : a->sent < a->to_send || (!a->keep_open && !a->shut);
  const bool read = !a->paused && !a->eof && !(a->echo && a->waiting_len > 0);
  pu_tcp_want(a->tcp, (more ? PU_WANT_WRITE : 0u) | (read ? PU_WANT_READ : 0u));
}

/* tcp_app_close ends it; |abort| with RST. What it counted stays. */
static inline void tcp_app_close(tcp_app *a, bool abort) {
  pu_tcp_close(a->tcp, abort);
  a->tcp = NULL;
  free(a->waiting);
  a->waiting = NULL;
  a->waiting_len = 0;
}

static inline void tcp_app_fail(tcp_app *a, int status) {
  a->failed = status;
  tcp_app_close(a, true);
}

static inline void tcp_app_end_if_done(tcp_app *a) {
  if (a->tcp != NULL && a->eof && a->shut)
    tcp_app_close(a, false);
}

static inline void tcp_app_write(void *data) {
  tcp_app *a = data;
  uint8_t piece[TCP_APP_PIECE];
  size_t len = a->waiting_len;
  const uint8_t *from = a->waiting;
  if (!a->echo) {
    len = a->to_send - a->sent < sizeof(piece) ? (size_t)(a->to_send - a->sent) : sizeof(piece);
    for (size_t i = 0; i < len; i++)
      piece[i] = tcp_app_byte(a->seed_out, a->sent + i);
    from = piece;
  }
  if (len > 0) {
    const pu_iov iov = {(void *)(uintptr_t)from, len};
    ssize_t n = pu_tcp_writev(a->tcp, &iov, 1);
    if (n < 0 && n != PU_E_AGAIN) {
      tcp_app_fail(a, (int)n);
      return;
    }
    if (n > 0) {
      a->sent += (uint64_t)n;
      len -= (size_t)n;
      if (a->echo) {
        memmove(a->waiting, a->waiting + n, len);
        a->waiting_len = len;
      }
    }
  }
  const bool done =
      a->echo ? a->waiting_len == 0 && a->eof : a->sent == a->to_send && !a->keep_open;
  if (done && !a->shut) {
    a->shut = true;
    (void)pu_tcp_shutdown(a->tcp);
  }
  tcp_app_update(a);
  tcp_app_end_if_done(a);
}

static inline void tcp_app_read(void *data) {
  tcp_app *a = data;
  uint8_t piece[TCP_APP_PIECE];
  const pu_iov iov = {piece, sizeof(piece)};
  ssize_t n = pu_tcp_readv(a->tcp, &iov, 1);
  if (n == PU_E_AGAIN)
    return;
  if (n < 0) {
    tcp_app_fail(a, (int)n);
    return;
  }
  for (size_t i = 0; i < (size_t)n && !a->echo; i++)
    a->wrong = a->wrong || piece[i] != tcp_app_byte(a->seed_in, a->got + i);
  a->got += (uint64_t)n;
  if (n == 0)
    a->eof = true;
  if (n > 0 && a->echo) {
    a->waiting = realloc(a->waiting, (size_t)n);
    PU_ASSERT(a->waiting != NULL);
    memcpy(a->waiting, piece, (size_t)n);
    a->waiting_len = (size_t)n;
  }
  tcp_app_update(a);
  if (a->echo)
    tcp_app_write(a);
  else
    tcp_app_end_if_done(a);
}

static inline void tcp_app_connected(void *data, int status) {
  tcp_app *a = data;
  if (status != 0) {
    tcp_app_fail(a, status);
    return;
  }
  a->connected = true;
  tcp_app_update(a);
}

static const pu_tcp_events tcp_app_events = {tcp_app_connected, tcp_app_read, tcp_app_write};

/* tcp_app_connect makes |a|, whose wishes are set, a client of |to|. */
static inline void tcp_app_connect(tcp_app *a, pu_platform *p, const pu_sockaddr *to) {
  int rc = pu_tcp_connect(p, NULL, to, &tcp_app_events, a, &a->tcp);
  PU_ASSERT(rc == 0);
}

/* tcp_app_set_paused stops or resumes reading. */
static inline void tcp_app_set_paused(tcp_app *a, bool paused) {
  a->paused = paused;
  tcp_app_update(a);
}

/* A service: every connection becomes an app like |model|. */
typedef struct tcp_server {
  pu_tcp_listener *listener;
  pu_sockaddr address;
  tcp_app model;
  tcp_app *apps; /* newest first */
  unsigned count;
} tcp_server;

static inline void tcp_server_accept(void *data, pu_tcp *tcp) {
  tcp_server *s = data;
  tcp_app *a = malloc(sizeof(*a));
  PU_ASSERT(a != NULL);
  *a = s->model;
  a->tcp = tcp;
  a->connected = true;
  a->owned = true;
  a->next = s->apps;
  s->apps = a;
  s->count++;
  pu_tcp_set_events(tcp, &tcp_app_events, a);
  tcp_app_update(a);
}

/* tcp_server_start listens on |ip|, on a free port (|s|->address). */
static inline int tcp_server_start(tcp_server *s, pu_platform *p, const char *ip, uint16_t port,
                                   const tcp_app *model) {
  *s = (tcp_server){.model = *model};
  pu_sockaddr at;
  bool ok = pu_sockaddr_parse_ip(ip, &at);
  PU_ASSERT(ok);
  at.port = port;
  int rc = pu_tcp_listen(p, &at, 0, tcp_server_accept, s, &s->listener);
  if (rc == 0)
    pu_tcp_listener_address(s->listener, &s->address);
  return rc;
}

static inline void tcp_server_stop(tcp_server *s) {
  pu_tcp_listener_close(s->listener);
  s->listener = NULL;
  while (s->apps != NULL) {
    tcp_app *a = s->apps;
    s->apps = a->next;
    tcp_app_close(a, true);
    free(a);
  }
}

#endif
