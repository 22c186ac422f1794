/* stream:pipe(input, output): carries two file descriptors of the process, such as standard input
 * and output, over a stream. No byte enters Lua. One buffer each way bounds what is kept: a slow
 * reader holds the other side back. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bindings/error.h"
#include "bindings/host.h"

#define BUFFER_BYTES ((size_t)64 << 10)

/* An end of ours: a pipe, terminal or socket on the loop, or a file. */
typedef struct end {
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_pipe_t pipe;
    uv_tty_t tty;
    uv_tcp_t tcp;
  } u;
  uv_fs_t fs; /* of a file */
  int fd;     /* of a file, else -1: the handle owns it */
  bool open, busy;
} end;

typedef struct pipe_wait pipe_wait;

typedef struct carrier {
  pul_resource resource;
  pul_job end;
  pul_runtime *rt;
  pu_stream *s; /* NULL once it has ended */
  pipe_wait *wait;
  end in, out;
  uv_write_t write;
  int status;
  bool in_eof; /* and the stream was told */
  bool s_eof;  /* the peer sends no more */
  bool finishing;
  uint64_t bytes_in, bytes_out; /* from the peer, and to it */
  size_t in_start, in_len;      /* read, but not taken by the stream */
  uint8_t *out_data;            /* on its way to |out| */
  size_t out_len, out_cap;
  uint8_t in_room[PU_STREAM_HEAD + BUFFER_BYTES + PU_STREAM_TAIL];
} carrier;

struct pipe_wait {
  pul_wait wait;
  carrier *c;
  uint64_t bytes_in, bytes_out;
};

static void finish(carrier *c, int status);
static void read_more(carrier *c);

/* ---- the end ---- */

static void release(carrier *c) {
  if (c->in.open || c->out.open || c->in.busy || c->out.busy || !c->finishing)
    return;
  if (c->wait != NULL) {
    c->wait->wait.status = c->status;
    c->wait->bytes_in = c->bytes_in;
    c->wait->bytes_out = c->bytes_out;
    c->wait->c = NULL;
    pul_wait_done(&c->wait->wait);
  }
  pul_resource_remove(&c->resource);
  pu_free(c->out_data);
  pu_free(c);
}

static void on_end_closed(uv_handle_t *handle) {
  carrier *c = handle->data;
  end *e = handle == &c->in.u.handle ? &c->in : &c->out;
  e->open = false;
  release(c);
}

/* end_close lets go of an end. A file that is read or written now is closed after that. */
static void end_close(end *e) {
  if (!e->open)
    return;
  if (e->fd < 0) {
    if (!uv_is_closing(&e->u.handle))
      uv_close(&e->u.handle, on_end_closed);
  } else if (!e->busy) {
    (void)close(e->fd);
    e->open = false;
  }
}

static void finish(carrier *c, int status) {
  if (c->finishing)
    return;
  c->finishing = true;
  c->status = status;
  pul_job_cancel(&c->end);
  pu_stream *s = c->s;
  c->s = NULL;
  if (s != NULL) {
    if (status == 0)
      pu_stream_close(s);
    else
      pu_stream_reset(s, 0);
  }
  end_close(&c->in);
  end_close(&c->out);
  release(c);
}

static void run_end(pul_job *job) {
  carrier *c = PU_CONTAINER_OF(job, carrier, end);
  finish(c, c->status);
}

/* finish_soon is for the stream's own calls, in which it may not be closed. */
static void finish_soon(carrier *c, int status) {
  c->status = status;
  pul_job_post(c->rt, &c->end);
}

/* look_for_end finishes when both directions have come to theirs. */
static void look_for_end(carrier *c) {
  if (c->in_eof && c->s_eof && c->out_len == 0)
    finish(c, c->status);
}

/* ---- from the peer to |out| ---- */

static void written(carrier *c, int status) {
  c->out.busy = false;
  c->out_len = 0;
  if (c->finishing) {
    end_close(&c->out);
    release(c);
    return;
  }
  if (status < 0) { /* nobody reads any more */
    finish(c, PU_E_CLOSED);
    return;
  }
  if (c->s_eof)
    end_close(&c->out); /* so that its reader sees the end */
  else
    pu_stream_resume(c->s);
  look_for_end(c);
}

static void on_written(uv_write_t *req, int status) {
  written(req->data, status);
}

static void on_file_written(uv_fs_t *req) {
  carrier *c = req->data;
  const ssize_t n = req->result;
  uv_fs_req_cleanup(req);
  written(c, n == (ssize_t)c->out_len ? 0 : -1);
}

/* send_out writes |out_data|; false when it could not be begun. */
static bool send_out(carrier *c) {
  uv_buf_t buf = uv_buf_init((char *)c->out_data, (unsigned)c->out_len);
  int rc;
  if (c->out.fd < 0) {
    c->write.data = c;
    rc = uv_write(&c->write, &c->out.u.stream, &buf, 1, on_written);
  } else {
    c->out.fs.data = c;
    rc = uv_fs_write(c->rt->loop, &c->out.fs, c->out.fd, &buf, 1, -1, on_file_written);
  }
  c->out.busy = rc == 0;
  return rc == 0;
}

/* keep copies what is to be written later: at most BUFFER_BYTES of it. */
static size_t keep(carrier *c, const uint8_t *data, size_t len) {
  if (len > BUFFER_BYTES)
    len = BUFFER_BYTES;
  if (c->out_cap < len) {
    uint8_t *bigger = pu_realloc(&c->rt->mem, c->out_data, BUFFER_BYTES);
    if (bigger == NULL)
      return 0;
    c->out_data = bigger;
    c->out_cap = BUFFER_BYTES;
  }
  memcpy(c->out_data, data, len);
  c->out_len = len;
  return len;
}

static size_t on_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                      size_t tail) {
  (void)s, (void)head, (void)tail;
  carrier *c = user;
  size_t taken = 0;
  if (c->out.busy)
    return 0;
  if (c->out.fd < 0) {
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)len);
    const int n = uv_try_write(&c->out.u.stream, &buf, 1);
    taken = n > 0 ? (size_t)n : 0;
  }
  if (taken < len) {
    const size_t kept = keep(c, data + taken, len - taken);
    if (kept > 0 && send_out(c)) {
      taken += kept;
    } else {
      c->out_len = 0;
      finish_soon(c, PU_E_CLOSED);
    }
  }
  c->bytes_in += taken;
  return taken;
}

static void on_eof(void *user, pu_stream *s) {
  (void)s;
  carrier *c = user;
  c->s_eof = true;
  if (c->out.busy)
    return;
  end_close(&c->out);
  if (c->in_eof)
    finish_soon(c, 0);
}

/* ---- from |in| to the peer ---- */

/* offer gives the stream what was read; false when it has no room for all of it. */
static bool offer(carrier *c) {
  if (c->in_len > 0) {
    uint8_t *from = c->in_room + PU_STREAM_HEAD + c->in_start;
    const ssize_t n = pu_stream_write_room(c->s, from, c->in_len, PU_STREAM_HEAD, PU_STREAM_TAIL);
    if (n < 0) {
      finish_soon(c, (int)n);
      return false;
    }
    c->in_start += (size_t)n;
    c->in_len -= (size_t)n;
    c->bytes_out += (uint64_t)n;
  }
  return c->in_len == 0;
}

static void take_eof(carrier *c) {
  c->in_eof = true;
  end_close(&c->in);
  (void)pu_stream_close_write(c->s);
  look_for_end(c);
}

/* came takes |n| bytes that were read into the buffer, 0 for the end, less for a failure. */
static void came(carrier *c, ssize_t n) {
  if (n <= 0) { /* a closed terminal or pipe is an end as any other */
    take_eof(c);
    return;
  }
  c->in_start = 0;
  c->in_len = (size_t)n;
  if (offer(c))
    read_more(c);
  else if (c->in.fd < 0)
    (void)uv_read_stop(&c->in.u.stream);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
  (void)size;
  carrier *c = handle->data;
  *buf = uv_buf_init((char *)c->in_room + PU_STREAM_HEAD, BUFFER_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  (void)buf;
  carrier *c = stream->data;
  if (n != 0 && c->s != NULL)
    came(c, n);
}

static void on_file_read(uv_fs_t *req) {
  carrier *c = req->data;
  const ssize_t n = req->result;
  uv_fs_req_cleanup(req);
  c->in.busy = false;
  if (c->s != NULL) {
    came(c, n);
  } else {
    end_close(&c->in);
    release(c);
  }
}

/* read_more has the next bytes read. */
static void read_more(carrier *c) {
  int rc;
  if (c->in.fd < 0) {
    rc = uv_is_active(&c->in.u.handle) ? 0 : uv_read_start(&c->in.u.stream, on_alloc, on_read);
  } else {
    uv_buf_t buf = uv_buf_init((char *)c->in_room + PU_STREAM_HEAD, BUFFER_BYTES);
    c->in.fs.data = c;
    rc = uv_fs_read(c->rt->loop, &c->in.fs, c->in.fd, &buf, 1, -1, on_file_read);
    c->in.busy = rc == 0;
  }
  if (rc != 0)
    finish_soon(c, PU_E_IO);
}

static void on_writable(void *user, pu_stream *s) {
  (void)s;
  carrier *c = user;
  if (c->in_len > 0 && offer(c) && !c->in_eof)
    read_more(c);
}

static void on_stream_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)s, (void)code;
  carrier *c = user;
  c->s = NULL;
  c->status = c->s_eof ? 0 : status; /* after its last byte it may end as it likes */
  c->in_eof = c->s_eof = true;
  end_close(&c->in);
  if (!c->out.busy) /* else what has come is still written */
    finish(c, c->status);
}

/* ---- the beginning ---- */

/* end_open takes |fd| over: a copy of it is ours, and the number stands for /dev/null from now on,
 * so that nobody else keeps it open or writes into it. */
static int end_open(carrier *c, end *e, int fd) {
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int rc = own < 0 || null < 0 || dup2(null, fd) < 0 ? -errno : 0;
  if (null >= 0)
    (void)close(null);
  e->fd = -1;
  if (rc == 0) {
    const uv_handle_type type = uv_guess_handle(own);
    if (type == UV_FILE) {
      e->fd = own;
    } else if (type == UV_TTY) {
      rc = uv_tty_init(c->rt->loop, &e->u.tty, own, 0);
    } else if (type == UV_TCP) {
      (void)uv_tcp_init(c->rt->loop, &e->u.tcp);
      rc = uv_tcp_open(&e->u.tcp, own);
    } else if (type == UV_NAMED_PIPE) {
      (void)uv_pipe_init(c->rt->loop, &e->u.pipe, 0);
      rc = uv_pipe_open(&e->u.pipe, own);
    } else {
      rc = -EBADF;
    }
    e->open = rc == 0 || type == UV_TCP || type == UV_NAMED_PIPE; /* a handle was made */
  }
  e->u.handle.data = c;
  if (rc != 0 && own >= 0)
    (void)close(own);
  return rc;
}

static void close_resource(pul_resource *r) {
  finish(PU_CONTAINER_OF(r, carrier, resource), PU_E_CANCELED);
}

static void pipe_cancel(pul_wait *w, int status) {
  finish(((pipe_wait *)w)->c, status);
}

static int pipe_finish(lua_State *L, pul_wait *w) {
  const pipe_wait *p = (const pipe_wait *)w;
  if (w->status != 0)
    return pul_error_return(L, w->status, NULL);
  lua_pushboolean(L, 1);
  lua_pushinteger(L, (lua_Integer)p->bytes_in);
  lua_pushinteger(L, (lua_Integer)p->bytes_out);
  return 3;
}

int pul_stream_pipe(lua_State *L) {
  static const pul_wait_ops ops = {pipe_cancel, pipe_finish};
  static const pu_stream_events events = {
      .on_data = on_data, .on_eof = on_eof, .on_writable = on_writable, .on_end = on_stream_end};
  const int in = (int)luaL_checkinteger(L, 2), out = (int)luaL_checkinteger(L, 3);
  pul_runtime *rt = pul_runtime_get(L);
  pu_stream *s = pul_stream_idle(L); /* throws when it is in use */
  if (s == NULL)
    return pul_stream_ended(L);
  lua_settop(L, 1);
  pipe_wait *w = pul_wait_new(L, sizeof(*w), 0, &ops);
  carrier *c = pu_zalloc(&rt->mem, sizeof(*c));
  if (c == NULL)
    return luaL_error(L, "out of memory");
  c->rt = rt;
  c->wait = w;
  w->c = c;
  pul_job_init(&c->end, run_end);
  c->resource.close = close_resource;
  pu_list_init(&c->resource.link);
  pul_resource_add(rt, &c->resource);
  int rc = end_open(c, &c->in, in);
  if (rc == 0)
    rc = end_open(c, &c->out, out);
  c->s = pul_stream_release(L, &c->out_data, &c->out_len, &c->s_eof);
  c->out_cap = c->out_len; /* what has come before: at most what a stream keeps */
  pu_stream_set_events(c->s, &events, c);
  if (rc != 0 || (c->out_len > 0 && !send_out(c))) {
    finish_soon(c, PU_E_IO);
  } else {
    read_more(c);
    if (!c->out.busy)
      pu_stream_resume(c->s);
  }
  return pul_wait_suspend(L, &w->wait, PUL_NO_TIMEOUT);
}
