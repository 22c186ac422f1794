/* Yamux sessions. The first byte chooses: bit 0 the role of side 0, bit 1 keepalive, bit 2 small
 * frames, bit 3 a small growth budget, bit 7 two honest sides that talk to each other instead of
 * one that gets whatever the input says. Then operations follow, one byte and its arguments each
 * (see step): frames, stream calls, time, and what the next callback shall do. Checked: windows,
 * queues and budget after each step; that frames sent are well-formed; that all borrowed memory may
 * be overwritten; between honest sides also every byte and every end. */
#include <stdlib.h>
#include <string.h>

#include "mux/yamux_priv.h"
#include "peerup/error.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SLOTS 48
#define ROOM 40
#define PIECE_MAX 70000
#define PATTERN 65536
#define OUT_MAX (2u * 1024 * 1024)

typedef struct side side;
typedef struct slot {
  side *owner;
  pu_yamux_stream *s; /* NULL: gone */
  uint32_t id;
  uint64_t sent, got;
  bool ended; /* honest: FIN sent with all before it delivered to come */
  size_t take;
} slot;

struct side {
  pu_yamux *y;
  side *peer; /* NULL: the input is the peer */
  bool client;
  size_t max_payload;
  uint8_t *out; /* honest: what waits for the peer, at out_at */
  size_t out_at, out_len;
  slot slots[SLOTS];
  size_t next_slot;
  uint8_t deed, deed_slot; /* of the next callback; 0: none */
};

typedef struct input {
  const uint8_t *at;
  size_t left;
} input;

static uint64_t now_us;
static uint8_t piece[ROOM + PIECE_MAX + ROOM];
static uint8_t outs[2][OUT_MAX];

static uint8_t next(input *in) {
  if (in->left == 0)
    return 0;
  in->left--;
  return *in->at++;
}

/* letters are the bytes that a side sends on stream |id| from |at| on: PIECE_MAX of them. */
static const uint8_t *letters(uint32_t id, bool client, uint64_t at) {
  static uint8_t pattern[PATTERN + PIECE_MAX];
  if (pattern[0] == 0) {
    for (uint32_t i = 0, x = 1; i < PATTERN + PIECE_MAX; i++) {
      pattern[i] = i < PATTERN ? (uint8_t)(x >> 24 | 1) : pattern[i - PATTERN];
      x = x * 1664525u + 1013904223u;
    }
  }
  return pattern + (at + id * 977 + (client ? 31337 : 0)) % PATTERN;
}

static slot *fresh_slot(side *d) {
  for (size_t i = 0; i < SLOTS; i++) {
    slot *st = &d->slots[d->next_slot++ % SLOTS];
    if (st->s == NULL) {
      *st = (slot){.owner = d, .take = SIZE_MAX};
      return st;
    }
  }
  return NULL;
}

static slot *slot_of(side *d, uint32_t id) {
  for (size_t i = 0; i < SLOTS; i++)
    if (d->slots[i].owner != NULL && d->slots[i].id == id)
      return &d->slots[i];
  return NULL;
}

/* ---- what a stream can be made to do ---- */

static void write_some(slot *st, size_t len, size_t room) {
  if (st->s == NULL || st->ended)
    return;
  if (len > PIECE_MAX)
    len = PIECE_MAX;
  uint8_t *bytes = malloc(2 * room + len + 1); /* borrowed memory of its own, for the sanitizer */
  PU_ASSERT(bytes != NULL);
  memcpy(bytes + room, letters(st->id, st->owner->client, st->sent), len);
  pu_span io = {.data = bytes + room, .len = len, .head = room, .tail = room};
  size_t space = pu_yamux_stream_space(st->s);
  ssize_t n = pu_yamux_stream_write(st->s, io);
  free(bytes);
  if (n < 0)
    return;
  PU_ASSERT((size_t)n <= len && (size_t)n <= space);
  st->sent += (uint64_t)n;
}

static void act(slot *st, uint8_t deed, uint8_t arg) {
  side *d = st->owner;
  if (st->s == NULL)
    return;
  switch (deed % 10) {
  case 1:
    write_some(st, (size_t)arg * 300, arg % 3 * 20);
    break;
  case 2:
    st->ended = true;
    (void)pu_yamux_stream_close_write(st->s);
    break;
  case 3: {
    pu_yamux_stream *s = st->s;
    st->s = NULL;
    pu_yamux_stream_reset(s, arg);
    break;
  }
  case 4: {
    pu_yamux_stream *s = st->s;
    st->s = NULL;
    st->ended = true;
    pu_yamux_stream_close(s);
    break;
  }
  case 5:
    st->take = arg % 2 != 0 ? SIZE_MAX : (size_t)arg * 100;
    if (st->take > 0)
      pu_yamux_stream_resume(st->s);
    break;
  case 6:
    (void)pu_yamux_stream_flush(st->s);
    break;
  case 7:
    pu_yamux_set_blocked(d->y, arg % 2 != 0);
    break;
  case 8:
    if (arg == 77)
      pu_yamux_fail(d->y, PU_E_CANCELED);
    break;
  default:
    break;
  }
}

/* do_deed does in a callback what the input asked for. */
static void do_deed(slot *st) {
  side *d = st->owner;
  uint8_t deed = d->deed;
  d->deed = 0;
  if (deed == 0)
    return;
  slot *target = deed >= 128 ? &d->slots[d->deed_slot % SLOTS] : st;
  if (target->owner != NULL)
    act(target, deed, d->deed_slot);
}

/* ---- callbacks ---- */

static void check_frame(const side *d, const uint8_t *bytes, size_t len) {
  pu_yamux_frame f;
  PU_ASSERT(len >= PU_YAMUX_HEADER);
  pu_yamux_frame_decode(bytes, &f);
  PU_ASSERT(f.version == 0 && f.type <= YAMUX_GO_AWAY);
  bool data = f.type == YAMUX_DATA;
  PU_ASSERT(len == PU_YAMUX_HEADER + (data ? f.length : 0));
  PU_ASSERT(!data || (f.length > 0 && f.length <= d->max_payload));
  PU_ASSERT(!data || (f.flags & ~(YAMUX_SYN | YAMUX_ACK)) == 0); /* no end with payload */
  PU_ASSERT((f.stream == 0) == (f.type == YAMUX_PING || f.type == YAMUX_GO_AWAY));
}

static int on_output(void *user, pu_span *f) {
  side *d = user;
  check_frame(d, f->data, f->len);
  if (d->peer != NULL) {
    if (d->out_at + d->out_len + f->len > OUT_MAX)
      return PU_E_LIMIT;
    memcpy(d->out + d->out_at + d->out_len, f->data, f->len);
    d->out_len += f->len;
  }
  memset(f->data - f->head, 0xdd, f->head + f->len + f->tail);
  return 0;
}

static int on_stream(void *user, pu_yamux_stream *s, uint32_t *code) {
  side *d = user;
  slot *st = fresh_slot(d);
  *code = 0x1002;
  if (st == NULL)
    return PU_E_LIMIT;
  st->s = s;
  st->id = pu_yamux_stream_id(s);
  pu_yamux_stream_set_user(s, st);
  do_deed(st);
  return 0;
}

static void on_acked(void *user, void *stream_user) {
  (void)user;
  if (stream_user != NULL)
    do_deed(stream_user);
}

static size_t on_data(void *user, pu_span data) {
  slot *st = user;
  side *d = st->owner;
  PU_ASSERT(st->s != NULL && data.len > 0);
  size_t n = data.len < st->take ? data.len : st->take;
  if (st->take != SIZE_MAX)
    st->take -= n;
  PU_ASSERT(d->peer == NULL ||
            memcmp(data.data, letters(st->id, d->peer->client, st->got), n) == 0);
  st->got += n;
  do_deed(st);
  memset(data.data - data.head, 0xee, data.head + n);
  if (n == data.len)
    memset(data.data + n, 0xee, data.tail);
  return n;
}

static void on_eof(void *user) {
  slot *st = user;
  side *d = st->owner;
  PU_ASSERT(st->s != NULL && pu_yamux_stream_queued(st->s) == 0);
  if (d->peer != NULL) {
    const slot *other = slot_of(d->peer, st->id);
    PU_ASSERT(other == NULL || !other->ended || other->sent == st->got);
  }
  do_deed(st);
}

static void on_writable(void *user) {
  slot *st = user;
  PU_ASSERT(st->s != NULL && pu_yamux_stream_space(st->s) > 0);
  do_deed(st);
}

static void on_reset(void *user, int status, uint32_t code) {
  slot *st = user;
  (void)code;
  PU_ASSERT(st->s != NULL && status < 0);
  do_deed(st);
  st->s = NULL;
}

static const pu_yamux_callbacks callbacks = {
    .output = on_output,
    .on_stream = on_stream,
    .on_acked = on_acked,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_writable = on_writable,
    .on_reset = on_reset,
};

/* ---- driving ---- */

static void check_state(const side *d) {
  const pu_yamux *y = d->y;
  size_t grown = 0, live = 0, all = 0;
  PU_ASSERT(y->depth == 0 && !y->reading && !y->in_output && pu_list_empty(&y->dead));
  PU_LIST_EACH(&y->live, node, after) {
    const pu_yamux_stream *s = PU_CONTAINER_OF(node, pu_yamux_stream, node);
    PU_ASSERT(s->queue.len + s->recv_left <= s->recv_window && !s->closed && !s->dead);
    PU_ASSERT(yamux_find(y, s->id) == s && ((slot *)s->user)->s == s);
    grown += s->recv_window - PU_YAMUX_WINDOW_START;
    live++;
  }
  for (size_t i = 0; i < y->bucket_count; i++)
    for (const pu_yamux_stream *s = y->buckets[i]; s != NULL; s = s->bucket_next)
      all++;
  PU_ASSERT(grown == y->grown && grown <= y->config.window_budget);
  PU_ASSERT(live == y->live_count && live <= SLOTS && all == y->table_len);
  PU_ASSERT(all == live + y->lingering_count && y->lingering_count <= PU_YAMUX_MAX_LINGERING);
  PU_ASSERT(y->unacked <= PU_YAMUX_MAX_UNACKED);
  PU_ASSERT((y->status < 0) == (*pu_yamux_why(y) != '\0'));
  PU_ASSERT(y->status == 0 || all == 0);
  PU_ASSERT(y->blocked || y->status != 0 || pu_list_empty(&y->waiting));
}

/* feed gives |d| |len| bytes of |bytes| (NULL: zeros), overwriting them afterwards. */
static void feed(side *d, const uint8_t *bytes, size_t len) {
  PU_ASSERT(len <= PIECE_MAX);
  if (bytes == NULL)
    memset(piece + ROOM, 0, len);
  else
    memcpy(piece + ROOM, bytes, len);
  pu_span in = {.data = piece + ROOM, .len = len, .head = ROOM, .tail = ROOM};
  int rc = pu_yamux_read(d->y, in, now_us);
  PU_ASSERT(rc == d->y->status);
  if (d->peer != NULL && rc == PU_E_PROTOCOL)
    PU_ASSERT(strcmp(pu_yamux_why(d->y), "answers not read") == 0);
}

static void feed_frame(side *d, input *in) {
  pu_yamux_frame f = {.type = next(in) % 4, .flags = next(in), .stream = next(in) % 64};
  uint8_t size = next(in);
  f.length = (uint32_t)next(in) << size % 12;
  uint8_t header[PU_YAMUX_HEADER];
  pu_yamux_frame_encode(&f, header);
  feed(d, header, sizeof(header));
  if (f.type != YAMUX_DATA)
    return;
  for (uint32_t left = f.length; left > 0;) { /* the payload it promised */
    uint32_t n = left < PIECE_MAX ? left : PIECE_MAX;
    if (size >= 128 && left == f.length && n > 1)
      n = 1 + n / 3;
    feed(d, NULL, n);
    left -= n;
  }
}

/* carry moves up to |len| bytes of what |from| sent to its peer. */
static void carry(side *from, size_t len) {
  if (len > from->out_len)
    len = from->out_len;
  if (len > PIECE_MAX)
    len = PIECE_MAX;
  if (len == 0)
    return;
  uint8_t *bytes = malloc(len);
  PU_ASSERT(bytes != NULL);
  memcpy(bytes, from->out + from->out_at, len);
  from->out_len -= len;
  from->out_at = from->out_len == 0 ? 0 : from->out_at + len;
  feed(from->peer, bytes, len);
  free(bytes);
}

static void step(side *d, input *in) {
  uint8_t op = next(in), arg = next(in);
  if (d->peer != NULL && op >= 128)
    d = d->peer;
  slot *st = &d->slots[arg % SLOTS];
  switch (op % 12) {
  case 0:
    if (d->peer != NULL) {
      carry(d, arg);
    } else {
      size_t n = arg < in->left ? arg : in->left;
      feed(d, in->at, n);
      in->at += n;
      in->left -= n;
    }
    break;
  case 1:
  case 2:
    if (d->peer != NULL)
      carry(d, (size_t)arg << 9);
    else
      feed_frame(d, in);
    break;
  case 3:
    st = fresh_slot(d);
    if (st == NULL || pu_yamux_open(d->y, st, &st->s) != 0)
      break;
    st->id = pu_yamux_stream_id(st->s);
    write_some(st, (size_t)arg * 1200, arg % 3 * 20);
    break;
  case 4:
  case 5:
    d->deed = next(in);
    d->deed_slot = arg;
    break;
  case 6:
    now_us += (uint64_t)arg * arg * 1000;
    PU_ASSERT(pu_yamux_expire(d->y, now_us) == d->y->status);
    PU_ASSERT(pu_yamux_deadline(d->y) > now_us);
    break;
  case 7:
    pu_yamux_set_blocked(d->y, arg % 2 != 0);
    break;
  case 8:
    if (arg == 200)
      (void)pu_yamux_go_away(d->y, arg);
    break;
  default:
    if (st->owner != NULL)
      act(st, op / 12, next(in));
    break;
  }
}

/* finish lets honest sides say all they have to say: then nothing may be lost. */
static void finish(side *a, side *b) {
  side *both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    both[i]->deed = 0;
    pu_yamux_set_blocked(both[i]->y, false);
    for (size_t k = 0; k < SLOTS; k++) {
      slot *st = &both[i]->slots[k];
      st->take = SIZE_MAX;
      if (st->s != NULL)
        pu_yamux_stream_resume(st->s);
    }
  }
  while (a->out_len > 0 || b->out_len > 0) {
    carry(a, SIZE_MAX);
    carry(b, SIZE_MAX);
  }
  if (a->y->status != 0 || b->y->status != 0)
    return;
  for (int i = 0; i < 2; i++) {
    for (size_t k = 0; k < SLOTS; k++) {
      const slot *st = &both[i]->slots[k];
      const slot *other = st->s != NULL ? slot_of(both[1 - i], st->id) : NULL;
      if (other != NULL && other->s != NULL)
        PU_ASSERT(other->sent == st->got);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input in = {.at = data, .left = size};
  uint8_t how = next(&in);
  bool honest = (how & 0x80) != 0;
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  side *sides = calloc(2, sizeof(*sides));
  PU_ASSERT(sides != NULL);
  now_us = 1000000;
  for (int i = 0; i < 2; i++) {
    side *d = &sides[i];
    d->client = ((how & 1) != 0) == (i == 0);
    d->peer = honest ? &sides[1 - i] : NULL;
    d->max_payload = (how & 4) != 0 ? 100 : 65507;
    d->out = outs[i];
    const pu_yamux_config config = {
        .mem = &mem,
        .client = d->client,
        .callbacks = &callbacks,
        .user = d,
        .max_streams_in = SLOTS / 2,
        .window_max = (how & 8) != 0 ? 0 : 2 * PU_YAMUX_WINDOW_START,
        .window_budget = (how & 8) != 0 ? 3 * PU_YAMUX_WINDOW_START : SIZE_MAX,
        .max_payload = d->max_payload,
        .keepalive = (how & 2) != 0,
    };
    int rc = pu_yamux_new(&config, now_us, &d->y);
    PU_ASSERT(rc == 0);
  }
  for (int i = 0; i < 2; i++) {
    int rc = pu_yamux_start(sides[i].y, now_us);
    PU_ASSERT(rc == 0);
  }
  while (in.left > 0) {
    step(&sides[0], &in);
    check_state(&sides[0]);
    check_state(&sides[1]);
  }
  if (honest)
    finish(&sides[0], &sides[1]);
  for (int i = 0; i < 2; i++) {
    sides[i].deed = 0;
    pu_yamux_free(sides[i].y);
  }
  free(sides);
  pu_mem_deinit(&mem);
  return 0;
}
