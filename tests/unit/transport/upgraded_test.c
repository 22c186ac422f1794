/* The session of an upgraded raw connection: two of them over a pipe of this process, in several slicings,
 * with readers that stop, pipes that fill up, users that end things inside events, and memory that fails. */
#include "transport/upgraded.h"
#include "platform/sim.h"
#include "support/noise_pair.h"
#include "support/pipe_raw.h"
#include "support/unit.h"

#define SECOND 1000000u
#define STREAMS 300
#define ROOM 64 /* around what is written in place: more than any protocol needs */

/* What a user does inside an event. */
typedef enum event { NOTHING, SECURED, OPENED, STREAM, DATA, END_OF_FILE, WRITABLE, RESET, END } event;

typedef struct side side;
typedef struct user {
  side *side;
  pu_session_stream *s; /* NULL: gone */
  uint8_t *got;
  size_t got_len, got_cap;
  size_t take; /* bytes it takes from now on; SIZE_MAX: all */
  unsigned eof, writable, reset;
  int status;
  uint32_t code;
} user;

struct side {
  pu_session *session;
  pipe_raw raw;
  pu_mem mem;
  pu_key *key;
  pu_peer_id expected, peer;
  unsigned secured, open, ended, room;
  int refuse_secured, refuse_open, refuse_stream;
  bool closed;
  int status;
  char why[128];
  event close_at; /* closes the session there */
  user streams[STREAMS];
  size_t count;
};

typedef struct pair {
  side a, b; /* a begins */
  pu_sim *sim;
  pu_platform *platform;
  pu_mem pipe;
} pair;

static void maybe_close(side *d, event here) {
  if (d->close_at != here || d->closed)
    return;
  d->closed = true;
  d->session->ops->close(d->session, 0, false);
}

static int on_secured(void *data, const pu_security_result *result) {
  side *d = data;
  assert_int_equal(d->secured++, 0);
  assert_false(d->closed);
  d->peer = result->peer;
  maybe_close(d, SECURED);
  return d->refuse_secured;
}
static int on_open(void *data) {
  side *d = data;
  assert_true(d->secured == 1 && d->open++ == 0 && !d->closed);
  maybe_close(d, OPENED);
  return d->refuse_open;
}
static int on_stream(void *data, pu_session_stream *s, uint32_t *code) {
  side *d = data;
  assert_true(d->open == 1 && d->ended == 0 && !d->closed);
  *code = 0x1234;
  if (d->refuse_stream != 0)
    return d->refuse_stream;
  assert_true(d->count < STREAMS);
  user *u = &d->streams[d->count++];
  *u = (user){.side = d, .s = s, .take = SIZE_MAX};
  d->session->ops->set_user(s, u);
  maybe_close(d, STREAM);
  return 0;
}
static void on_room(void *data) {
  side *d = data;
  assert_false(d->closed);
  d->room++;
}
static size_t on_data(void *data, pu_span bytes) {
  user *u = data;
  assert_true(u->s != NULL && u->eof == 0 && bytes.len > 0 && !u->side->closed);
  const size_t n = bytes.len < u->take ? bytes.len : u->take;
  if (u->got_len + n > u->got_cap) {
    u->got_cap = 2 * (u->got_len + n);
    u->got = realloc(u->got, u->got_cap);
    assert_non_null(u->got);
  }
  if (n > 0)
    memcpy(u->got + u->got_len, bytes.data, n);
  u->got_len += n;
  if (u->take != SIZE_MAX)
    u->take -= n;
  memset(bytes.data - bytes.head, 0xdd, bytes.head + n); /* ours until we return */
  maybe_close(u->side, DATA);
  return n;
}
static void on_eof(void *data) {
  user *u = data;
  assert_true(u->s != NULL && !u->side->closed);
  u->eof++;
  maybe_close(u->side, END_OF_FILE);
}
static void on_writable(void *data) {
  user *u = data;
  assert_true(u->s != NULL && !u->side->closed);
  u->writable++;
  maybe_close(u->side, WRITABLE);
}
static void on_reset(void *data, int status, uint32_t code) {
  user *u = data;
  assert_true(u->s != NULL && !u->side->closed);
  u->s = NULL;
  u->reset++;
  u->status = status;
  u->code = code;
  maybe_close(u->side, RESET);
}
static void on_end(void *data, int status, const char *why) {
  side *d = data;
  assert_true(d->ended++ == 0 && !d->closed);
  d->status = status;
  (void)snprintf(d->why, sizeof(d->why), "%s", why);
  maybe_close(d, END);
}

static const pu_session_events events = {.on_secured = on_secured,
                                         .on_open = on_open,
                                         .on_stream = on_stream,
                                         .on_room = on_room,
                                         .on_data = on_data,
                                         .on_eof = on_eof,
                                         .on_writable = on_writable,
                                         .on_reset = on_reset,
                                         .on_end = on_end};

/* ---- the rig ---- */

static int start(pair *p, side *d) {
  const pu_session_config config = {.mem = &d->mem,
                                    .platform = p->platform,
                                    .initiator = d == &p->a,
                                    .key = d->key,
                                    .expected = &d->expected,
                                    .max_streams_in = STREAMS,
                                    .window_budget = 1u << 20,
                                    .events = &events,
                                    .user = d};
  return pu_upgrade_start(&config, &d->raw.base, &d->session);
}

static pair *pair_new(const pu_raw_ops *ops) {
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 1}};
  pair *p = calloc(1, sizeof(*p));
  assert_non_null(p);
  assert_int_equal(pu_sim_new(7, &p->sim), 0);
  assert_int_equal(pu_sim_add_host(p->sim, "host", &ip, 1, &p->platform), 0);
  pu_mem_init(&p->pipe, NULL, PU_MEM_UNLIMITED);
  pipe_init(&p->a.raw, &p->b.raw, &p->pipe, ops);
  pu_mem_init(&p->a.mem, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&p->b.mem, NULL, PU_MEM_UNLIMITED);
  p->a.key = pu_test_key(1);
  p->b.key = pu_test_key(2);
  p->a.expected = *pu_key_peer_id(p->b.key);
  return p;
}

static void pump(pair *p) {
  pipe_pump(&p->a.raw, &p->b.raw);
}

static void close_side(side *d, bool abort) {
  if (d->session != NULL && !d->closed)
    d->session->ops->close(d->session, 0, abort);
  d->closed = true;
}

static void pair_free(pair *p) {
  side *const both[2] = {&p->a, &p->b};
  for (int i = 0; i < 2; i++) {
    side *d = both[i];
    close_side(d, true);
    if (d->session != NULL)
      d->session->ops->free(d->session);
    assert_true(d->raw.closed);
    pu_mem_deinit(&d->mem); /* nothing is left of it */
    pu_key_free(d->key);
    for (size_t s = 0; s < d->count; s++)
      free(d->streams[s].got);
  }
  pipe_deinit(&p->a.raw, &p->b.raw);
  pu_mem_deinit(&p->pipe);
  pu_sim_free(p->sim);
  free(p);
}

static pair *pair_open(const pu_raw_ops *ops) {
  pair *p = pair_new(ops);
  assert_int_equal(start(p, &p->a), 0);
  assert_int_equal(start(p, &p->b), 0);
  pump(p);
  assert_true(p->a.open == 1 && p->b.open == 1);
  return p;
}

static uint8_t byte_at(size_t i) {
  return (uint8_t)(i * 131 + (i >> 8));
}

static user *open_stream(side *d) {
  assert_true(d->count < STREAMS);
  user *u = &d->streams[d->count];
  *u = (user){.side = d, .take = SIZE_MAX};
  if (d->session->ops->open(d->session, u, &u->s) != 0)
    return NULL;
  d->count++;
  return u;
}

static size_t space(const user *u) {
  return u->side->session->ops->space(u->side->session, u->s);
}

/* put writes |len| bytes that continue at |from|, with |room| around them. */
static ssize_t put(user *u, size_t from, size_t len, size_t room) {
  uint8_t *memory = malloc(len + 2 * room + 1);
  assert_non_null(memory);
  for (size_t i = 0; i < len; i++)
    memory[room + i] = byte_at(from + i);
  ssize_t n = u->side->session->ops->write(u->side->session, u->s,
                                           (pu_span){memory + room, len, room, room}, false);
  for (size_t i = 0; room == 0 && i < len; i++)
    assert_int_equal(memory[i], byte_at(from + i)); /* without room it is only read */
  free(memory);
  return n;
}

static void check_got(const user *u, size_t len) {
  assert_int_equal(u->got_len, len);
  for (size_t i = 0; i < len; i++)
    assert_int_equal(u->got[i], byte_at(i));
}

/* joined opens a stream of a's and makes b hear of it by one byte. */
static user *joined(pair *p, user **theirs) {
  const size_t before = p->b.count;
  user *u = open_stream(&p->a);
  assert_non_null(u);
  assert_int_equal(put(u, 0, 1, ROOM), 1);
  pump(p);
  assert_int_equal(p->b.count, before + 1);
  *theirs = &p->b.streams[before];
  return u;
}

/* ---- it opens, and tells what it is ---- */

static void test_open(void **state) {
  (void)state;
  for (size_t slice = 1; slice < 400; slice = slice * 2 + 1) {
    pair *p = pair_new(&pipe_ops);
    pu_session_info a, b;
    p->a.raw.slice = p->b.raw.slice = slice;
    assert_int_equal(start(p, &p->a), 0);
    assert_int_equal(start(p, &p->b), 0);
    p->a.session->ops->info(p->a.session, &a);
    assert_true(a.muxer == NULL && a.rtt_us == 0 && a.bytes_out > 0);
    pump(p);
    assert_true(p->a.open == 1 && p->b.open == 1);
    assert_true(pu_peer_id_equal(&p->a.peer, pu_key_peer_id(p->b.key)));
    assert_true(pu_peer_id_equal(&p->b.peer, pu_key_peer_id(p->a.key)));
    p->a.session->ops->info(p->a.session, &a);
    p->b.session->ops->info(p->b.session, &b);
    assert_string_equal(a.security, "noise");
    assert_string_equal(b.muxer, "yamux");
    assert_true(a.rtt_us > 0 && b.rtt_us > 0);
    assert_int_equal(a.bytes_in, b.bytes_out);
    assert_int_equal(a.bytes_out, b.bytes_in);
    assert_true(p->b.mem.peak < 65536);
    pair_free(p);
  }
}

static void test_another_peer(void **state) {
  (void)state;
  pair *p = pair_new(&pipe_ops);
  p->a.expected = *pu_key_peer_id(p->a.key);
  assert_int_equal(start(p, &p->a), 0);
  assert_int_equal(start(p, &p->b), 0);
  pump(p);
  assert_true(p->a.ended == 1 && p->a.secured == 0);
  assert_int_equal(p->a.status, PU_E_PEER_MISMATCH);
  assert_true(p->b.ended == 1 && p->b.open == 0);
  pair_free(p);
}

static void test_refused(void **state) {
  (void)state;
  for (int what = 0; what < 2; what++) {
    pair *p = pair_new(&pipe_ops);
    *(what == 0 ? &p->b.refuse_secured : &p->b.refuse_open) = PU_E_DENIED;
    assert_int_equal(start(p, &p->a), 0);
    assert_int_equal(start(p, &p->b), 0);
    pump(p);
    assert_int_equal(p->b.ended, 1);
    assert_int_equal(p->b.status, PU_E_DENIED);
    assert_int_equal(p->b.open, what);
    assert_int_equal(p->a.ended, 1);
    pair_free(p);
  }
}

/* ---- bytes ---- */

static void test_data_both_ways(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 511, 513, 5000, 65000, 65507, 65508, 100000};
  static const size_t rooms[] = {0, 12, 14, 17, ROOM};
  for (int spans = 0; spans < 2; spans++) {
    for (size_t slice = 100; slice < 100000; slice *= 11) {
      pair *p = pair_open(spans != 0 ? &pipe_span_ops : &pipe_ops);
      p->a.raw.slice = p->b.raw.slice = slice;
      user *theirs, *ours = joined(p, &theirs);
      size_t out = 1, in = 0;
      for (size_t i = 0; i < PU_COUNT(sizes) * PU_COUNT(rooms); i++) {
        const size_t size = sizes[i % PU_COUNT(sizes)], room = rooms[i / PU_COUNT(sizes)];
        assert_int_equal(put(ours, out, size, room), size);
        assert_int_equal(put(theirs, in, size, room), size);
        out += size;
        in += size;
        pump(p);
      }
      check_got(theirs, out);
      check_got(ours, in);
      /* Each direction ends for itself. */
      const pu_session_ops *ops = p->a.session->ops;
      assert_int_equal(ops->close_write(p->a.session, ours->s), 0);
      assert_int_equal(put(ours, out, 1, ROOM), PU_E_CLOSED);
      pump(p);
      assert_true(theirs->eof == 1 && ours->eof == 0);
      assert_int_equal(put(theirs, in, 100, ROOM), 100);
      assert_int_equal(ops->close_write(p->b.session, theirs->s), 0);
      pump(p);
      check_got(ours, in + 100);
      assert_true(ours->eof == 1 && ours->reset == 0 && theirs->reset == 0);
      ops->close_stream(p->a.session, ours->s);
      ops->close_stream(p->b.session, theirs->s);
      pump(p);
      assert_true(p->a.ended == 0 && p->b.ended == 0);
      pair_free(p);
    }
  }
}

/* What is lent is sealed where it lies and goes in one write, at uncork or at flush. */
static void test_borrowed_in_one_write(void **state) {
  (void)state;
  enum { PIECE = 20000 };
  for (int way = 0; way < 2; way++) {
    pair *p = pair_open(&pipe_ops);
    user *theirs, *ours = joined(p, &theirs);
    const pu_session_ops *ops = p->a.session->ops;
    uint8_t *memory[3];
    const unsigned writes = p->a.raw.writes;
    const uint64_t allocations = p->a.mem.count;
    ops->cork(p->a.session);
    for (size_t i = 0; i < PU_COUNT(memory); i++) {
      memory[i] = malloc(PIECE + 2 * ROOM);
      assert_non_null(memory[i]);
      for (size_t j = 0; j < PIECE; j++)
        memory[i][ROOM + j] = byte_at(1 + i * PIECE + j);
      assert_int_equal(ops->write(p->a.session, ours->s,
                                  (pu_span){memory[i] + ROOM, PIECE, ROOM, ROOM}, true),
                       PIECE);
      assert_int_not_equal(memory[i][ROOM], byte_at(1 + i * PIECE)); /* a secret by now */
    }
    assert_int_equal(p->a.raw.writes, writes);
    if (way == 0)
      ops->flush(p->a.session);
    else
      ops->uncork(p->a.session);
    assert_int_equal(p->a.raw.writes, writes + 1);
    assert_int_equal(p->a.mem.count, allocations); /* nothing was copied */
    for (size_t i = 0; i < PU_COUNT(memory); i++)
      free(memory[i]);
    if (way == 0)
      ops->uncork(p->a.session);
    pump(p);
    check_got(theirs, 1 + 3 * PIECE);
    pair_free(p);
  }
}

/* A record that may not be longer than what travels in one piece below. */
static void test_chunk(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  const size_t most = p->a.session->ops->chunk(p->a.session);
  assert_int_equal(most, 65535 - 16 - PU_YAMUX_HEADER);
  const unsigned before = p->a.raw.writes;
  user *u = open_stream(&p->a);
  assert_int_equal(put(u, 0, most, ROOM), most);
  assert_int_equal(p->a.raw.writes, before + 1);
  pump(p);
  check_got(&p->b.streams[0], most);
  pair_free(p);
}

/* ---- ends of streams ---- */

static void test_reset(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *theirs, *ours = joined(p, &theirs);
  p->a.session->ops->reset(p->a.session, ours->s, 0x1008);
  pump(p);
  assert_true(theirs->reset == 1 && theirs->status == PU_E_RESET && theirs->code == 0x1008);
  assert_int_equal(ours->reset, 0); /* who resets is not told */
  ours = joined(p, &theirs);
  p->b.session->ops->reset(p->b.session, theirs->s, 7);
  pump(p);
  assert_true(ours->reset == 1 && ours->status == PU_E_RESET && ours->code == 7);
  p->b.refuse_stream = PU_E_LIMIT;
  ours = open_stream(&p->a);
  assert_int_equal(put(ours, 0, 10, ROOM), 10);
  pump(p);
  assert_true(ours->reset == 1 && ours->status == PU_E_RESET && ours->code == 0x1234);
  assert_int_equal(p->b.count, 2);
  pair_free(p);
}

/* A closed stream still delivers what was written; the session forgets it in time although the peer does
 * not end its side. */
static void test_close_lingers(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *theirs, *ours = joined(p, &theirs);
  const size_t one = p->a.mem.used;
  assert_int_equal(put(ours, 1, 5000, ROOM), 5000);
  p->a.session->ops->close_stream(p->a.session, ours->s);
  pump(p);
  check_got(theirs, 5001);
  assert_true(theirs->eof == 1 && theirs->reset == 0);
  assert_int_equal(p->a.mem.used, one); /* it waits for the peer */
  for (int second = 0; second < 70; second++) {
    (void)pu_sim_run(p->sim, pu_sim_now_us(p->sim) + SECOND, NULL);
    pump(p); /* pings are answered */
  }
  assert_true(p->a.mem.used < one);
  assert_true(p->a.ended == 0 && p->b.ended == 0);
  pair_free(p);
}

/* ---- ends of sessions ---- */

static void test_close(void **state) {
  (void)state;
  for (int abort = 0; abort < 2; abort++) {
    pair *p = pair_open(&pipe_ops);
    user *theirs, *ours = joined(p, &theirs);
    close_side(&p->a, abort != 0);
    pump(p);
    assert_int_equal(ours->reset, 0); /* nothing is told to who closes */
    assert_int_equal(p->b.ended, 1);
    assert_int_equal(p->b.status, abort != 0 ? PU_E_RESET : PU_E_EOF);
    assert_int_equal(theirs->reset, 0);
    (p->b.session->ops->fail)(p->b.session, PU_E_GONE);
    assert_true(theirs->reset == 1 && theirs->status == PU_E_GONE);
    pu_session_stream *s;
    assert_int_equal(p->b.session->ops->open(p->b.session, NULL, &s), PU_E_CLOSED);
    pair_free(p);
  }
}

static void test_fail(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *theirs, *ours = joined(p, &theirs), *second = open_stream(&p->a);
  (p->a.session->ops->fail)(p->a.session, PU_E_GONE);
  assert_true(ours->reset == 1 && ours->status == PU_E_GONE && second->reset == 1);
  assert_int_equal(p->a.ended, 0); /* that the owner knows */
  pair_free(p);
}

static void test_go_away(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *theirs;
  (void)joined(p, &theirs);
  pu_upgraded *u = PU_CONTAINER_OF(p->a.session, pu_upgraded, base);
  assert_int_equal(pu_yamux_go_away(u->yamux, 0), 0);
  pump(p);
  assert_int_equal(p->b.ended, 1);
  assert_int_equal(p->b.status, PU_E_EOF);
  assert_string_equal(p->b.why, "the peer said good-bye");
  assert_int_equal(theirs->reset, 1);
  pair_free(p);
}

/* A peer that falls silent is found out by pings, one that lives is not. */
static void test_silence(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  for (int second = 0; second < 100; second++) {
    (void)pu_sim_run(p->sim, pu_sim_now_us(p->sim) + SECOND, NULL);
    pump(p);
  }
  assert_true(p->a.ended == 0 && p->b.ended == 0);
  user *theirs, *ours = joined(p, &theirs);
  (void)pu_sim_run(p->sim, pu_sim_now_us(p->sim) + 41 * SECOND, NULL);
  assert_true(p->a.ended == 1 && p->b.ended == 1);
  assert_int_equal(p->a.status, PU_E_TIMEOUT);
  assert_string_equal(p->a.why, "the peer does not answer any more");
  assert_int_equal(ours->reset, 1);
  pair_free(p);
}

/* Whatever event the session is closed in, nothing follows, and nothing is left. */
static void test_closed_inside(void **state) {
  (void)state;
  for (event at = SECURED; at <= END; at++) {
    for (int who = 0; who < 2; who++) {
      pair *p = pair_new(&pipe_ops);
      side *d = who == 0 ? &p->a : &p->b;
      d->close_at = at;
      assert_int_equal(start(p, &p->a), 0);
      assert_int_equal(start(p, &p->b), 0);
      pump(p);
      side *const both[2] = {&p->a, &p->b};
      for (int i = 0; i < 2 && p->a.open + p->b.open == 2 && !p->a.closed && !p->b.closed; i++) {
        user *u = open_stream(both[i]), *other = open_stream(both[i]);
        both[1 - i]->raw.capacity = 2000; /* so that somebody waits */
        assert_int_equal(put(u, 0, 3000, ROOM), 3000);
        if (!both[i]->closed && u->s != NULL) {
          assert_int_equal(space(u), 0);
          both[i]->session->ops->wait(both[i]->session, u->s);
        }
        pump(p);
        if (!both[i]->closed && other->s != NULL && !both[1 - i]->closed) {
          assert_int_equal(put(other, 0, 10, ROOM), 10);
          (void)both[i]->session->ops->close_write(both[i]->session, other->s);
          pump(p);
        }
        if (!both[i]->closed && u->s != NULL)
          both[i]->session->ops->reset(both[i]->session, u->s, 1);
        pump(p);
      }
      close_side(who == 0 ? &p->b : &p->a, false);
      pump(p);
      assert_true(d->closed);
      pair_free(p);
    }
  }
}

/* ---- what holds back ---- */

static void test_slow_reader(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *theirs, *ours = joined(p, &theirs);
  theirs->take = 1000;
  size_t sent = 1;
  assert_int_equal(put(ours, sent, 300000, 0), PU_YAMUX_WINDOW_START - 1);
  sent = PU_YAMUX_WINDOW_START;
  pump(p);
  check_got(theirs, 1001);
  assert_true(space(ours) == 0 && ours->writable == 0);
  theirs->take = SIZE_MAX;
  p->b.session->ops->resume(p->b.session, theirs->s);
  pump(p);
  check_got(theirs, sent);
  assert_int_equal(ours->writable, 1);
  assert_true(space(ours) > 0);
  pair_free(p);
}

static void test_full_pipe(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *theirs, *ours = joined(p, &theirs), *second = open_stream(&p->a);
  p->b.raw.capacity = 5000;
  assert_int_equal(put(ours, 1, 10000, ROOM), 10000); /* the rest is queued */
  assert_true(space(ours) == 0 && space(second) == 0);
  assert_int_equal(put(ours, 10001, 10, ROOM), 0);
  p->a.session->ops->wait(p->a.session, second->s);
  /* A short message goes all the same. */
  uint8_t memory[2 * ROOM + 10];
  for (size_t i = 0; i < 10; i++)
    memory[ROOM + i] = byte_at(i);
  assert_int_equal(p->a.session->ops->write_now(p->a.session, second->s,
                                                (pu_span){memory + ROOM, 10, ROOM, ROOM}),
                   0);
  assert_true(ours->writable == 0 && second->writable == 0);
  pump(p);
  assert_true(ours->writable == 1 && second->writable == 1);
  check_got(theirs, 10001);
  check_got(&p->b.streams[1], 10);
  assert_true(space(ours) > 0 && space(second) > 0);
  pair_free(p);
}

static void test_room_for_streams(void **state) {
  (void)state;
  pair *p = pair_open(&pipe_ops);
  user *first = NULL, *u;
  while ((u = open_stream(&p->a)) != NULL)
    first = first == NULL ? u : first;
  assert_int_equal(p->a.count, PU_YAMUX_MAX_UNACKED);
  pu_session_stream *s;
  assert_int_equal(p->a.session->ops->open(p->a.session, NULL, &s), PU_E_NO_STREAMS);
  assert_int_equal(p->a.room, 0);
  assert_int_equal(put(first, 0, 1, ROOM), 1);
  pump(p);
  assert_int_equal(p->a.room, 1);
  assert_non_null(open_stream(&p->a));
  pair_free(p);
}

/* ---- lack of memory ---- */

static void talk(pair *p) {
  side *const both[2] = {&p->a, &p->b};
  p->a.raw.capacity = p->b.raw.capacity = 3000;
  for (int i = 0; i < 2; i++) {
    user *u = open_stream(both[i]);
    if (u == NULL)
      continue;
    (void)put(u, 0, 20000, i == 0 ? ROOM : 0);
    pump(p);
    if (u->s != NULL)
      (void)both[i]->session->ops->close_write(both[i]->session, u->s);
    pump(p);
  }
}

static void test_every_allocation_fails(void **state) {
  (void)state;
  unsigned failures = 0;
  for (int who = 0; who < 2; who++) {
    for (uint64_t n = 1;; n++) {
      pair *p = pair_new(&pipe_ops);
      side *d = who == 0 ? &p->a : &p->b, *other = who == 0 ? &p->b : &p->a;
      p->a.raw.slice = p->b.raw.slice = 50;
      pu_mem_fail_at(&d->mem, n);
      const int first = start(p, &p->a), second = start(p, &p->b);
      assert_int_equal(who == 0 ? second : first, 0);
      pump(p);
      if (p->a.open == 1 && p->b.open == 1 && p->a.ended + p->b.ended == 0)
        talk(p);
      const bool reached = d->mem.fail_at == 0;
      failures += reached;
      if (!reached)
        assert_true(d->ended == 0 && other->streams[0].eof + other->streams[1].eof == 1);
      else if (d->session == NULL)
        assert_true(d->raw.closed);
      else if (d->ended != 0)
        assert_true(d->status == PU_E_NOMEM || (d->status == PU_E_PROTOCOL && d->open == 0));
      pair_free(p);
      if (!reached)
        break;
    }
  }
  assert_true(failures > 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),
      cmocka_unit_test(test_another_peer),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_data_both_ways),
      cmocka_unit_test(test_borrowed_in_one_write),
      cmocka_unit_test(test_chunk),
      cmocka_unit_test(test_reset),
      cmocka_unit_test(test_close_lingers),
      cmocka_unit_test(test_close),
      cmocka_unit_test(test_fail),
      cmocka_unit_test(test_go_away),
      cmocka_unit_test(test_silence),
      cmocka_unit_test(test_closed_inside),
      cmocka_unit_test(test_slow_reader),
      cmocka_unit_test(test_full_pipe),
      cmocka_unit_test(test_room_for_streams),
      cmocka_unit_test(test_every_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
