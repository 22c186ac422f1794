/* A yamux session in a test bench: what it sends is collected, what its streams get is kept, and
 * all memory that a callback may overwrite is overwritten, so that whoever still needs it is
 * caught. Streams behave by a few knobs and a hook. For unit tests. */
#ifndef PU_TESTS_YAMUX_RIG_H
#define PU_TESTS_YAMUX_RIG_H

#include <stdlib.h>
#include <string.h>

#include "mux/yamux.h"
#include "peerup/error.h"
#include "platform/platform.h"
#include "support/cmocka.h"

#define RIG_STREAMS 640
#define RIG_ROOM 64

enum { DATA, UPDATE, PING, GO_AWAY };
enum { SYN = 1, ACK = 2, FIN = 4, RST = 8 };

typedef enum rig_event {
  RIG_STREAM,
  RIG_ACKED,
  RIG_DATA,
  RIG_EOF,
  RIG_WRITABLE,
  RIG_RESET,
} rig_event;

typedef struct rig rig;
typedef struct rig_stream {
  rig *r;
  pu_yamux_stream *s; /* NULL: gone */
  uint8_t *got;
  size_t got_len, got_cap;
  size_t take; /* bytes it takes from now on; SIZE_MAX: all */
  unsigned acked, eof, writable, reset;
  int reset_status;
  uint32_t reset_code;
  size_t last_head, last_tail; /* room of the last span offered */
} rig_stream;

struct rig {
  pu_mem mem;
  pu_yamux *y;
  uint64_t now_us;
  uint8_t *out;
  size_t out_len, out_at, out_cap;
  size_t frames;       /* frames sent */
  size_t fail_frame;   /* this frame fails to be sent, 1-based; 0: none */
  size_t block_after;  /* output blocks after so many frames; 0: never */
  size_t block_count;  /* frames since block_after was set */
  bool unblock_inside; /* output unblocks the session by itself */
  int refuse;          /* on_stream: negative refuses */
  uint32_t refuse_code;
  /* hook runs in every callback of a stream, before the rig returns to the session. */
  void (*hook)(rig_stream *st, rig_event event);
  rig_stream streams[RIG_STREAMS];
  size_t stream_count;
  unsigned rooms;  /* on_acked without a stream */
  bool keep_bytes; /* false: only count what streams got */
};

static inline void rig_scribble(const pu_span *s, size_t n) {
  memset(s->data - s->head, 0xee, s->head + n);
  memset(s->data + s->len, 0xee, n == s->len ? s->tail : 0);
}

static inline int rig_output(void *user, pu_span *f) {
  rig *r = user;
  r->frames++;
  if (r->fail_frame == r->frames)
    return PU_E_IO;
  if (r->out_len + f->len > r->out_cap) {
    r->out_cap = 2 * (r->out_len + f->len);
    r->out = realloc(r->out, r->out_cap);
    assert_non_null(r->out);
  }
  memcpy(r->out + r->out_len, f->data, f->len);
  r->out_len += f->len;
  memset(f->data - f->head, 0xdd, f->head + f->len + f->tail);
  if (r->block_after != 0 && ++r->block_count >= r->block_after) {
    pu_yamux_set_blocked(r->y, true);
    if (r->unblock_inside) {
      r->block_count = 0;
      pu_yamux_set_blocked(r->y, false);
    }
  }
  return 0;
}

static inline rig_stream *rig_add(rig *r) {
  assert_true(r->stream_count < RIG_STREAMS);
  rig_stream *st = &r->streams[r->stream_count++];
  *st = (rig_stream){.r = r, .take = SIZE_MAX};
  return st;
}

static inline void rig_hook(rig_stream *st, rig_event event) {
  if (st->r->hook != NULL)
    st->r->hook(st, event);
}

static inline int rig_on_stream(void *user, pu_yamux_stream *s, uint32_t *code) {
  rig *r = user;
  if (r->refuse < 0) {
    *code = r->refuse_code;
    return r->refuse;
  }
  rig_stream *st = rig_add(r);
  st->s = s;
  pu_yamux_stream_set_user(s, st);
  rig_hook(st, RIG_STREAM);
  return 0;
}

static inline void rig_on_acked(void *user, void *stream_user) {
  rig_stream *st = stream_user;
  if (st == NULL) {
    ((rig *)user)->rooms++;
    return;
  }
  st->acked++;
  rig_hook(st, RIG_ACKED);
}

static inline size_t rig_on_data(void *user, pu_span data) {
  rig_stream *st = user;
  assert_non_null(st->s);
  assert_int_equal(st->eof, 0);
  assert_true(data.len > 0);
  size_t n = data.len < st->take ? data.len : st->take;
  if (st->take != SIZE_MAX)
    st->take -= n;
  if (st->r->keep_bytes) {
    if (st->got_len + n > st->got_cap) {
      st->got_cap = 2 * (st->got_len + n);
      st->got = realloc(st->got, st->got_cap);
      assert_non_null(st->got);
    }
    if (n > 0)
      memcpy(st->got + st->got_len, data.data, n);
  }
  st->got_len += n;
  st->last_head = data.head;
  st->last_tail = data.tail;
  rig_hook(st, RIG_DATA);
  rig_scribble(&data, n); /* only after the hook: the span is ours until we return */
  return n;
}

static inline void rig_on_eof(void *user) {
  rig_stream *st = user;
  assert_non_null(st->s);
  st->eof++;
  rig_hook(st, RIG_EOF);
}

static inline void rig_on_writable(void *user) {
  rig_stream *st = user;
  assert_non_null(st->s);
  st->writable++;
  rig_hook(st, RIG_WRITABLE);
}

static inline void rig_on_reset(void *user, int status, uint32_t code) {
  rig_stream *st = user;
  assert_non_null(st->s);
  st->reset++;
  st->reset_status = status;
  st->reset_code = code;
  rig_hook(st, RIG_RESET);
  st->s = NULL;
}

static const pu_yamux_callbacks rig_callbacks = {
    .output = rig_output,
    .on_stream = rig_on_stream,
    .on_acked = rig_on_acked,
    .on_data = rig_on_data,
    .on_eof = rig_on_eof,
    .on_writable = rig_on_writable,
    .on_reset = rig_on_reset,
};

/* rig_prepare fills a rig but makes no session yet. */
static inline rig *rig_prepare(void) {
  rig *r = calloc(1, sizeof(*r));
  assert_non_null(r);
  pu_mem_init(&r->mem, NULL, PU_MEM_UNLIMITED);
  r->now_us = 1000000;
  r->keep_bytes = true;
  return r;
}

static inline pu_yamux_config rig_config(rig *r, bool client) {
  return (pu_yamux_config){.mem = &r->mem,
                           .client = client,
                           .callbacks = &rig_callbacks,
                           .user = r,
                           .max_streams_in = 512,
                           .window_budget = 64u * 1024 * 1024,
                           .max_payload = 65507};
}

static inline rig *rig_new_with(rig *r, const pu_yamux_config *config) {
  assert_int_equal(pu_yamux_new(config, r->now_us, &r->y), 0);
  return r;
}

static inline rig *rig_new(bool client) {
  rig *r = rig_prepare();
  pu_yamux_config config = rig_config(r, client);
  return rig_new_with(r, &config);
}

static inline void rig_free(rig *r) {
  pu_yamux_free(r->y);
  for (size_t i = 0; i < r->stream_count; i++)
    free(r->streams[i].got);
  pu_mem_deinit(&r->mem); /* asserts that nothing is left */
  free(r->out);
  free(r);
}

/* ---- towards the session ---- */

/* rig_feed reads |len| bytes from memory with room around, which is overwritten afterwards. */
static inline int rig_feed(rig *r, const void *bytes, size_t len) {
  uint8_t *copy = malloc(len + 2 * RIG_ROOM);
  assert_non_null(copy);
  memset(copy, 0xcc, len + 2 * RIG_ROOM);
  if (len > 0)
    memcpy(copy + RIG_ROOM, bytes, len);
  pu_span in = {.data = copy + RIG_ROOM, .len = len, .head = RIG_ROOM, .tail = RIG_ROOM};
  int rc = pu_yamux_read(r->y, in, r->now_us);
  free(copy);
  return rc;
}

static inline int rig_frame(rig *r, unsigned type, unsigned flags, uint32_t stream,
                            uint32_t length) {
  pu_yamux_frame f = {
      .type = (uint8_t)type, .flags = (uint16_t)flags, .stream = stream, .length = length};
  uint8_t header[PU_YAMUX_HEADER];
  pu_yamux_frame_encode(&f, header);
  return rig_feed(r, header, sizeof(header));
}

/* rig_byte is byte |i| of the pattern that tests send on a stream. */
static inline uint8_t rig_byte(size_t i) {
  return (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
}

/* rig_data feeds one data frame with |len| bytes of the pattern from |at|. */
static inline int rig_data(rig *r, unsigned flags, uint32_t stream, size_t at, size_t len) {
  pu_yamux_frame f = {
      .type = DATA, .flags = (uint16_t)flags, .stream = stream, .length = (uint32_t)len};
  uint8_t *bytes = malloc(PU_YAMUX_HEADER + len);
  assert_non_null(bytes);
  pu_yamux_frame_encode(&f, bytes);
  for (size_t i = 0; i < len; i++)
    bytes[PU_YAMUX_HEADER + i] = rig_byte(at + i);
  int rc = rig_feed(r, bytes, PU_YAMUX_HEADER + len);
  free(bytes);
  return rc;
}

static inline rig_stream *rig_open(rig *r) {
  rig_stream *st = rig_add(r);
  assert_int_equal(pu_yamux_open(r->y, st, &st->s), 0);
  return st;
}

/* rig_write writes |len| bytes of the pattern from |at|, with |room| around it. */
static inline ssize_t rig_write(rig_stream *st, size_t at, size_t len, size_t room) {
  uint8_t *bytes = malloc(len + 2 * room + 1);
  assert_non_null(bytes);
  for (size_t i = 0; i < len; i++)
    bytes[room + i] = rig_byte(at + i);
  pu_span io = {.data = bytes + room, .len = len, .head = room, .tail = room};
  ssize_t n = pu_yamux_stream_write(st->s, io);
  free(bytes);
  return n;
}

static inline void rig_close(rig_stream *st) {
  pu_yamux_stream *s = st->s;
  st->s = NULL;
  pu_yamux_stream_close(s);
}

static inline void rig_reset(rig_stream *st, uint32_t code) {
  pu_yamux_stream *s = st->s;
  st->s = NULL;
  pu_yamux_stream_reset(s, code);
}

/* ---- from the session ---- */

/* rig_next takes the next frame that was sent; false when there is none. */
static inline bool rig_next(rig *r, pu_yamux_frame *f, const uint8_t **payload) {
  if (r->out_at == r->out_len)
    return false;
  assert_true(r->out_len - r->out_at >= PU_YAMUX_HEADER);
  pu_yamux_frame_decode(r->out + r->out_at, f);
  r->out_at += PU_YAMUX_HEADER;
  *payload = r->out + r->out_at;
  if (f->type == DATA) {
    assert_true(r->out_len - r->out_at >= f->length);
    r->out_at += f->length;
  }
  return true;
}

static inline void rig_expect_(rig *r, unsigned type, unsigned flags, uint32_t stream,
                               uint32_t length, const char *file, int line) {
  pu_yamux_frame f;
  const uint8_t *payload;
  if (!rig_next(r, &f, &payload))
    _fail(file, line);
  _assert_int_equal(f.version, 0, file, line);
  _assert_int_equal(f.type, type, file, line);
  _assert_int_equal(f.flags, flags, file, line);
  _assert_int_equal(f.stream, stream, file, line);
  _assert_int_equal(f.length, length, file, line);
}
#define rig_expect(r, type, flags, stream, length) \
  rig_expect_(r, type, flags, stream, length, __FILE__, __LINE__)
#define rig_expect_none(r) assert_int_equal((r)->out_at, (r)->out_len)

static inline void rig_skip(rig *r) {
  r->out_at = r->out_len;
}

/* rig_carry feeds what |from| sent to |to|, |chunk| bytes at a time. Returns whether there was any.
 */
static inline bool rig_carry(rig *from, rig *to, size_t chunk) {
  bool any = false;
  while (from->out_at < from->out_len) {
    size_t n = from->out_len - from->out_at < chunk ? from->out_len - from->out_at : chunk;
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    memcpy(bytes, from->out + from->out_at, n); /* |out| may move meanwhile */
    from->out_at += n;
    assert_int_equal(rig_feed(to, bytes, n), 0);
    free(bytes);
    any = true;
  }
  return any;
}

static inline void rig_check_pattern(const rig_stream *st, size_t len) {
  assert_int_equal(st->got_len, len);
  for (size_t i = 0; i < len; i++)
    if (st->got[i] != rig_byte(i))
      fail_msg("byte %zu is %u, not %u", i, st->got[i], rig_byte(i));
}

#endif
