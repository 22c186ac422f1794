/* Watching descriptors. A uv_poll handle per socket costs three system calls to make and two for
 * each change of interest; with thousands of short connections a second that is a fifth of all
 * work. So the door has an epoll instance of its own, which libuv watches as one descriptor, and
 * sockets are entered there: one call to enter, one to change, one to leave. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "platform/assert.h"
#include "platform/uv_priv.h"

#define EVENTS_PER_TURN 128 /* the rest is reported in the loop's next turn */

static void free_gone(uv_door *d) {
  for (pu_watch *w; (w = d->gone) != NULL;) {
    d->gone = w->next_gone;
    w->on_free(w);
  }
}

static void on_epoll(uv_poll_t *handle, int status, int events) {
  uv_door *d = handle->data;
  struct epoll_event ready[EVENTS_PER_TURN];
  (void)status;
  (void)events;
  const int count = epoll_wait(d->epoll, ready, EVENTS_PER_TURN, 0);
  d->dispatching = true;
  for (int i = 0; i < count; i++) {
    pu_watch *w = ready[i].data.ptr;
    unsigned what = 0;
    if (w->closed)
      continue;
    /* Errors and hang-ups are learned by reading or writing, whichever the owner waits for. */
    if ((ready[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
      what |= PU_WANT_READ;
    if ((ready[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
      what |= PU_WANT_WRITE;
    w->on_ready(w, what);
  }
  d->dispatching = false;
  free_gone(d);
}

int pu_watches_open(uv_door *d) {
  d->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (d->epoll < 0)
    return pu_uv_error(errno);
  if (uv_poll_init(d->loop, &d->poll, d->epoll) != 0) {
    (void)close(d->epoll);
    return PU_E_NOMEM;
  }
  d->poll.data = d;
  (void)uv_poll_start(&d->poll, UV_READABLE, on_epoll);
  uv_unref((uv_handle_t *)&d->poll); /* nothing is watched yet: the loop may end */
  return 0;
}

void pu_watches_close(uv_door *d, uv_close_cb done) {
  PU_ASSERT(d->watched == 0);
  uv_close((uv_handle_t *)&d->poll, done);
  (void)close(d->epoll);
  d->epoll = -1;
}

/* Even an empty interest hears of errors, again and again; edge-triggered it hears of them once. */
static struct epoll_event interest(pu_watch *w, unsigned want) {
  struct epoll_event event = {.data.ptr = w};
  if ((want & PU_WANT_READ) != 0)
    event.events |= EPOLLIN;
  if ((want & PU_WANT_WRITE) != 0)
    event.events |= EPOLLOUT;
  if (want == 0)
    event.events = (uint32_t)EPOLLET;
  return event;
}

int pu_watch_open(pu_watch *w, uv_door *d, int fd, unsigned want,
                  void (*on_ready)(pu_watch *, unsigned), void (*on_free)(pu_watch *)) {
  *w = (pu_watch){.door = d, .fd = fd, .armed = want, .on_ready = on_ready, .on_free = on_free};
  struct epoll_event event = interest(w, want);
  if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
    return errno == ENOSPC ? PU_E_LIMIT : pu_uv_error(errno);
  if (d->watched++ == 0)
    uv_ref((uv_handle_t *)&d->poll);
  return 0;
}

void pu_watch_set(pu_watch *w, unsigned want) {
  if (want == w->armed)
    return;
  struct epoll_event event = interest(w, want);
  /* Takes no memory: the entry exists from the beginning to the end. */
  PU_ASSERT(epoll_ctl(w->door->epoll, EPOLL_CTL_MOD, w->fd, &event) == 0);
  w->armed = want;
}

void pu_watch_close(pu_watch *w) {
  uv_door *d = w->door;
  PU_ASSERT(!w->closed);
  w->closed = true;
  /* Closing alone is not enough: a child that another part of the program forked may hold the
   * socket too, and epoll would go on to report it, with a pointer to what is freed by then. */
  (void)epoll_ctl(d->epoll, EPOLL_CTL_DEL, w->fd, NULL);
  (void)close(w->fd);
  w->fd = -1;
  if (--d->watched == 0)
    uv_unref((uv_handle_t *)&d->poll);
  if (d->dispatching) {
    w->next_gone = d->gone;
    d->gone = w;
  } else {
    w->on_free(w);
  }
}
