/* Load generator and service of the benchmark; knows nothing of peerup. Each measurement prints one
 * JSON object on standard output.
 *
 *   serve PORT                 the service; the first byte of a connection says what it does:
 *                              'S' count what comes, answer the count; 'T' + length: send that much;
 *                              'E' echo
 *   up|down PORT BYTES         one connection, one way: {"seconds": s}
 *   pingpong PORT COUNT        1 byte to and fro on one connection: {"p50_us", "p99_us"}
 *   connect PORT SECONDS N     connect, echo 1 byte, close, in N threads: {"per_second", "p50_us"}
 *   idle PORT COUNT            opens COUNT connections, prints {"open": n}, waits for a line of input,
 *                              uses each once more, prints {"working": n}
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (256u * 1024)
#define MAX_SAMPLES 200000

static uint8_t block[BLOCK];

static void die(const char *what) {
  (void)fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now_s(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return sa;
}

static int dial(int port) {
  const int on = 1;
  struct sockaddr_in sa = loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    die("socket");
  if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
    close(fd);
    return -1;
  }
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static int dial_or_die(int port) {
  int fd = dial(port);
  if (fd < 0)
    die("connect");
  return fd;
}

static bool send_all(int fd, const void *data, size_t len) {
  const uint8_t *at = data;
  while (len > 0) {
    ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
    if (n <= 0)
      return false;
    at += n;
    len -= (size_t)n;
  }
  return true;
}

static bool recv_all(int fd, void *data, size_t len) {
  uint8_t *at = data;
  while (len > 0) {
    ssize_t n = recv(fd, at, len, 0);
    if (n <= 0)
      return false;
    at += n;
    len -= (size_t)n;
  }
  return true;
}

/* ---- the service ---- */

typedef struct client {
  int fd;
  char mode;         /* 0: first byte not seen */
  uint8_t head[8];   /* of 'T': the length */
  size_t head_len;
  uint64_t count;    /* 'S': received; 'T': still to send */
} client;

static void client_end(client *c) {
  close(c->fd);
  free(c);
}

static void send_source(int epoll, client *c) {
  while (c->count > 0) {
    size_t len = c->count < BLOCK ? (size_t)c->count : BLOCK;
    ssize_t n = send(c->fd, block, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
      struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
      (void)epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &ev);
      return;
    }
    if (n <= 0) {
      client_end(c);
      return;
    }
    c->count -= (uint64_t)n;
  }
  client_end(c);
}

static void on_client(int epoll, client *c) {
  if (c->mode == 'T' && c->head_len == 8) {
    send_source(epoll, c);
    return;
  }
  ssize_t n = recv(c->fd, block, c->mode == 0 ? 1 : BLOCK, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    if (n == 0 && c->mode == 'S')
      (void)send_all(c->fd, &c->count, sizeof c->count);
    client_end(c);
    return;
  }
  if (c->mode == 0) {
    c->mode = (char)block[0];
  } else if (c->mode == 'S') {
    c->count += (uint64_t)n;
  } else if (c->mode == 'T') {
    size_t want = 8 - c->head_len;
    memcpy(c->head + c->head_len, block, (size_t)n < want ? (size_t)n : want);
    c->head_len += (size_t)n < want ? (size_t)n : want;
    if (c->head_len == 8) {
      memcpy(&c->count, c->head, 8);
      send_source(epoll, c);
    }
  } else if (!send_all(c->fd, block, (size_t)n)) {
    client_end(c);
  }
}

_Noreturn static void serve(int port) {
  const int on = 1;
  struct sockaddr_in sa = loopback(port);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(listener, 4096) != 0)
    die("listen");
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
  (void)epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
  for (;;) {
    struct epoll_event events[256];
    int n = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr != NULL) {
        on_client(epoll, events[i].data.ptr);
        continue;
      }
      int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      if (fd < 0)
        continue;
      client *c = calloc(1, sizeof *c);
      if (c == NULL)
        die("memory");
      c->fd = fd;
      (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      ev.events = EPOLLIN;
      ev.data.ptr = c;
      (void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
    }
  }
}

/* ---- measurements ---- */

static int bulk(int port, uint64_t bytes, bool up) {
  int fd = dial_or_die(port);
  double start = now_s();
  uint64_t done = 0;
  if (up) {
    if (!send_all(fd, "S", 1))
      die("send");
    for (uint64_t left = bytes; left > 0;) {
      size_t len = left < BLOCK ? (size_t)left : BLOCK;
      if (!send_all(fd, block, len))
        die("send");
      left -= len;
    }
    (void)shutdown(fd, SHUT_WR);
    if (!recv_all(fd, &done, sizeof done))
      die("the service's count");
  } else {
    if (!send_all(fd, "T", 1) || !send_all(fd, &bytes, sizeof bytes))
      die("send");
    for (ssize_t n; (n = recv(fd, block, BLOCK, 0)) > 0;)
      done += (uint64_t)n;
  }
  double seconds = now_s() - start;
  close(fd);
  if (done != bytes) {
    (void)fprintf(stderr, "bench-load: %llu of %llu bytes arrived\n", (unsigned long long)done,
                  (unsigned long long)bytes);
    return 1;
  }
  (void)printf("{\"seconds\": %.6f}\n", seconds);
  return 0;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double percentile(double *samples, size_t count, double p) {
  qsort(samples, count, sizeof *samples, by_value);
  return count == 0 ? 0 : samples[(size_t)(p * (double)(count - 1))];
}

static int pingpong(int port, size_t count) {
  double *samples = calloc(count, sizeof *samples);
  int fd = dial_or_die(port);
  uint8_t byte = 'x';
  if (samples == NULL || !send_all(fd, "E", 1))
    die("send");
  for (size_t i = 0; i < count; i++) {
    double start = now_s();
    if (!send_all(fd, &byte, 1) || !recv_all(fd, &byte, 1))
      die("ping-pong");
    samples[i] = (now_s() - start) * 1e6;
  }
  (void)printf("{\"p50_us\": %.1f, \"p99_us\": %.1f}\n", percentile(samples, count, 0.5),
               percentile(samples, count, 0.99));
  return 0;
}

typedef struct worker {
  pthread_t thread;
  int port;
  double until;
  size_t count, failed;
  double *samples;
} worker;

static void *connect_loop(void *data) {
  worker *w = data;
  for (double start; (start = now_s()) < w->until && w->count < MAX_SAMPLES;) {
    uint8_t byte = 0;
    int fd = dial(w->port);
    if (fd >= 0 && send_all(fd, "Ex", 2) && recv_all(fd, &byte, 1))
      w->samples[w->count++] = (now_s() - start) * 1e6;
    else
      w->failed++;
    if (fd >= 0) {
      const struct linger now = {.l_onoff = 1}; /* no TIME_WAIT: ports would run out */
      (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
      close(fd);
    }
  }
  return NULL;
}

static int connects(int port, double seconds, size_t threads) {
  worker workers[64] = {0};
  double *all = calloc(threads * MAX_SAMPLES, sizeof *all);
  size_t count = 0, failed = 0;
  double start = now_s();
  if (all == NULL || threads > 64)
    die("threads");
  for (size_t i = 0; i < threads; i++) {
    workers[i] = (worker){.port = port, .until = start + seconds, .samples = all + i * MAX_SAMPLES};
    if (pthread_create(&workers[i].thread, NULL, connect_loop, &workers[i]) != 0)
      die("thread");
  }
  for (size_t i = 0; i < threads; i++) {
    (void)pthread_join(workers[i].thread, NULL);
    memmove(all + count, workers[i].samples, workers[i].count * sizeof *all);
    count += workers[i].count;
    failed += workers[i].failed;
  }
  (void)printf("{\"per_second\": %.1f, \"p50_us\": %.1f, \"failed\": %zu}\n",
               (double)count / (now_s() - start), percentile(all, count, 0.5), failed);
  return 0;
}

static int idle(int port, size_t count) {
  struct rlimit limit = {.rlim_cur = 200000, .rlim_max = 200000};
  int *fds = calloc(count, sizeof *fds);
  size_t opened = 0, working = 0;
  uint8_t byte = 0;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
  for (; fds != NULL && opened < count; opened++) {
    struct timeval patience = {.tv_sec = 20};
    int fd = dial(port);
    if (fd < 0)
      break;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    fds[opened] = fd;
    if (!send_all(fd, "Ex", 2) || !recv_all(fd, &byte, 1))
      break;
  }
  (void)printf("{\"open\": %zu}\n", opened);
  (void)fflush(stdout);
  (void)getchar();
  for (size_t i = 0; i < opened; i++)
    working += send_all(fds[i], "y", 1) && recv_all(fds[i], &byte, 1) && byte == 'y';
  (void)printf("{\"working\": %zu}\n", working);
  return opened == count && working == count ? 0 : 1;
}

int main(int argc, char **argv) {
  const char *mode = argc > 2 ? argv[1] : "";
  const int port = argc > 2 ? atoi(argv[2]) : 0;
  const double amount = argc > 3 ? atof(argv[3]) : 0;
  if (strcmp(mode, "serve") == 0)
    serve(port);
  if ((strcmp(mode, "up") == 0 || strcmp(mode, "down") == 0) && amount > 0)
    return bulk(port, (uint64_t)amount, mode[0] == 'u');
  if (strcmp(mode, "pingpong") == 0 && amount > 0)
    return pingpong(port, (size_t)amount);
  if (strcmp(mode, "connect") == 0 && argc == 5)
    return connects(port, amount, (size_t)atoi(argv[4]));
  if (strcmp(mode, "idle") == 0 && amount > 0)
    return idle(port, (size_t)amount);
  (void)fprintf(stderr, "bench-load: see the head of tests/bench/load.c for its arguments\n");
  return 2;
}
