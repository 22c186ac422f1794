/* A WebSocket connection on another one: client and server in dialogue, cut and held up at will,
 * and each of them against bytes made by hand. */
#include "transport/ws.h"

#include "platform/sim.h"
#include "support/pipe_raw.h"
#include "support/unit.h"
#include "transport/ws_frame.h"
#include "transport/ws_http.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define REQUEST                                                                 \
  "GET /p HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
  "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define MASK "01020304"

/* One end: what it is to send, and what came. */
typedef struct side {
  pipe_raw below;
  pu_raw *raw;
  bool ready, use_place, close_in_bytes;
  int ready_status, end;
  unsigned readies, ends, writable;
  char detail[PU_WS_HTTP_WHY];
  uint8_t salt; /* of what it sends */
  uint64_t to_send, sent, got;
  uint8_t place[50];
  size_t placed_at;
} side;

typedef struct rig {
  pu_sim *sim;
  pu_platform *platform;
  pu_mem mem, pipe_mem;
  side client, server;
} rig;

static uint8_t byte_at(uint8_t salt, uint64_t i) {
  return (uint8_t)(i * 29 + (i >> 7) + salt);
}

static void check(side *s, const uint8_t *data, size_t len) {
  const uint8_t salt = (uint8_t)~s->salt;
  for (size_t i = 0; i < len; i++)
    assert_int_equal(data[i], byte_at(salt, s->got + i));
  s->got += len;
}

static void on_bytes(void *user, pu_span data) {
  side *s = user;
  assert_true(data.len > 0);
  check(s, data.data, data.len);
  memset(data.data - data.head, 0xcc, data.head + data.len + data.tail); /* it is ours */
  if (s->close_in_bytes) {
    s->raw->ops->close(s->raw, false);
    s->raw = NULL;
  }
}
static size_t place(void *user, uint8_t **memory) {
  side *s = user;
  *memory = s->place + s->placed_at;
  return s->use_place ? sizeof s->place - s->placed_at : 0;
}
static void on_placed(void *user, size_t len) {
  side *s = user;
  assert_true(len > 0 && len <= sizeof s->place - s->placed_at);
  check(s, s->place + s->placed_at, len);
  s->placed_at = (s->placed_at + len) % sizeof s->place;
}

static void send_more(side *s) {
  uint8_t bytes[3][700];
  while (s->raw != NULL && s->sent < s->to_send) {
    pu_iov iov[3];
    size_t total = 0, n = 0;
    for (; n < 3 && s->sent + total < s->to_send; n++) {
      size_t len = 1 + (size_t)(s->sent * 7 + n * 31) % sizeof bytes[n];
      if (len > s->to_send - s->sent - total)
        len = (size_t)(s->to_send - s->sent - total);
      for (size_t i = 0; i < len; i++)
        bytes[n][i] = byte_at(s->salt, s->sent + total + i);
      iov[n] = (pu_iov){bytes[n], len};
      total += len;
    }
    const ssize_t written = s->raw->ops->writev(s->raw, iov, n);
    assert_true(written >= 0 && (size_t)written <= total);
    s->sent += (uint64_t)written;
    if ((size_t)written < total)
      return;
  }
}
static void on_writable(void *user) {
  side *s = user;
  s->writable++;
  send_more(s);
}
static void on_end(void *user, int status) {
  side *s = user;
  s->ends++;
  s->end = status;
}
static const pu_raw_events events = {on_bytes, place, on_placed, on_writable, on_end};

static void use(side *s) {
  s->raw->ops->set_events(s->raw, &events, s);
  s->raw->ops->want_read(s->raw, true);
}

static void on_ready(void *data, int status, const char *detail) {
  side *s = data;
  s->readies++;
  s->ready_status = status;
  s->ready = status == 0;
  (void)snprintf(s->detail, sizeof s->detail, "%s", detail);
  if (status == 0)
    use(s);
}

static int setup(void **state) {
  rig *r = calloc(1, sizeof *r);
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 1}};
  assert_non_null(r);
  assert_int_equal(pu_sim_new(5, &r->sim), 0);
  assert_int_equal(pu_sim_add_host(r->sim, "a", &ip, 1, &r->platform), 0);
  pu_mem_init(&r->mem, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&r->pipe_mem, NULL, PU_MEM_UNLIMITED);
  *state = r;
  return 0;
}

static int teardown(void **state) {
  rig *r = *state;
  pu_mem_deinit(&r->mem);
  pu_mem_deinit(&r->pipe_mem);
  pu_sim_free(r->sim);
  free(r);
  return 0;
}

static void join(rig *r) {
  r->client = (side){.salt = 0x11};
  r->server = (side){.salt = 0xee};
  pipe_init(&r->client.below, &r->server.below, &r->pipe_mem, &pipe_ops);
}

static int start_client(rig *r) {
  const pu_ws_config config = {.mem = &r->mem,
                               .platform = r->platform,
                               .host = "a.example",
                               .path = "x",
                               .on_ready = on_ready,
                               .data = &r->client};
  return pu_ws_raw_new(&config, &r->client.below.base, &r->client.raw);
}

static int start_server(rig *r) {
  const pu_ws_config config = {.mem = &r->mem, .platform = r->platform};
  const int rc = pu_ws_raw_new(&config, &r->server.below.base, &r->server.raw);
  if (rc == 0)
    use(&r->server);
  return rc;
}

static void close_side(side *s, bool hard) {
  if (s->raw != NULL)
    s->raw->ops->close(s->raw, hard);
  s->raw = NULL;
}

static void part(rig *r) {
  close_side(&r->client, true);
  close_side(&r->server, true);
  pipe_deinit(&r->client.below, &r->server.below);
}

/* ---- with itself ---- */

static void test_dialogue(void **state) {
  rig *r = *state;
  static const size_t slices[] = {1, 2, 3, 7, 13, 14, 15, 100, 1460, SIZE_MAX};
  static const size_t capacities[] = {1, 3, 11, 100, 5000, SIZE_MAX / 2};
  for (size_t i = 0; i < PU_COUNT(slices) * PU_COUNT(capacities); i++) {
    join(r);
    side *const both[2] = {&r->client, &r->server};
    for (int k = 0; k < 2; k++) {
      both[k]->below.slice = slices[i % PU_COUNT(slices)];
      both[k]->below.capacity = capacities[i / PU_COUNT(slices)];
      both[k]->to_send = 20000;
      both[k]->use_place = i % 3 == 0;
    }
    assert_int_equal(start_client(r), 0);
    assert_int_equal(start_server(r), 0);
    send_more(&r->server); /* taken only after the upgrade */
    assert_int_equal(r->server.sent, 0);
    bool moved = true;
    while (moved) {
      moved = pipe_deliver(&r->client.below);
      moved = pipe_deliver(&r->server.below) || moved;
      if (r->client.ready && r->client.sent == 0)
        send_more(&r->client);
    }
    assert_int_equal(r->client.readies, 1);
    assert_int_equal(r->client.ready_status, 0);
    for (int k = 0; k < 2; k++) {
      assert_int_equal(both[k]->sent, 20000);
      assert_int_equal(both[k]->got, 20000);
      assert_int_equal(both[k]->ends, 0);
    }
    /* The end. */
    r->server.below.capacity = SIZE_MAX / 2;
    close_side(&r->client, false);
    assert_true(r->client.below.closed && !r->client.below.aborted);
    pipe_pump(&r->client.below, &r->server.below);
    assert_int_equal(r->server.ends, 1);
    assert_int_equal(r->server.end, PU_E_EOF);
    part(r);
  }
}

static void test_a_message_for_a_batch(void **state) {
  rig *r = *state;
  join(r);
  assert_int_equal(start_client(r), 0);
  assert_int_equal(start_server(r), 0);
  pipe_pump(&r->client.below, &r->server.below);
  /* One header for all pieces, and one write for what is not masked. */
  const unsigned writes = r->server.below.writes;
  r->server.to_send = 300;
  uint8_t bytes[300];
  for (size_t i = 0; i < sizeof bytes; i++)
    bytes[i] = byte_at(r->server.salt, i);
  const pu_iov iov[3] = {{bytes, 100}, {bytes + 100, 0}, {bytes + 100, 200}};
  assert_int_equal(r->server.raw->ops->writev(r->server.raw, iov, 3), 300);
  assert_int_equal(r->server.below.writes, writes + 1);
  uint8_t head[4];
  pu_iov first;
  assert_int_equal(pu_fifo_peek(&r->client.below.in, &first, 1), 1);
  memcpy(head, first.base, 4);
  assert_memory_equal(head, "\x82\x7e\x01\x2c", 4);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->client.got, 300);
  /* As many pieces as anybody likes. */
  pu_iov many[300];
  for (size_t i = 0; i < 300; i++) {
    bytes[i] = byte_at(r->server.salt, 300 + i);
    many[i] = (pu_iov){bytes + i, 1};
  }
  assert_int_equal(r->server.raw->ops->writev(r->server.raw, many, 300), 300);
  for (size_t i = 0; i < 300; i++)
    bytes[i] = byte_at(r->client.salt, i);
  assert_int_equal(r->client.raw->ops->writev(r->client.raw, many, 300), 300);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->client.got, 600);
  assert_int_equal(r->server.got, 300);
  part(r);
}

static void test_back_pressure(void **state) {
  rig *r = *state;
  join(r);
  assert_int_equal(start_client(r), 0);
  assert_int_equal(start_server(r), 0);
  pipe_pump(&r->client.below, &r->server.below);
  r->server.raw->ops->want_read(r->server.raw, false);
  r->server.below.capacity = 5000;
  r->client.to_send = 100000;
  send_more(&r->client);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->server.got, 0);
  assert_true(r->client.sent < 5000);
  assert_true(r->mem.used < 8192); /* nothing piles up */
  r->server.raw->ops->want_read(r->server.raw, true);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->server.got, 100000);
  part(r);
}

static void test_closing_inside(void **state) {
  rig *r = *state;
  for (int k = 0; k < 2; k++) {
    join(r);
    assert_int_equal(start_client(r), 0);
    assert_int_equal(start_server(r), 0);
    pipe_pump(&r->client.below, &r->server.below);
    side *from = k == 0 ? &r->client : &r->server, *to = k == 0 ? &r->server : &r->client;
    to->close_in_bytes = true;
    from->to_send = 3000;
    send_more(from);
    pipe_pump(&r->client.below, &r->server.below);
    assert_null(to->raw);
    assert_int_equal(from->ends, 1);
    assert_int_equal(from->end, PU_E_EOF);
    part(r);
  }
}

static void test_without_memory(void **state) {
  rig *r = *state;
  unsigned failures = 0;
  for (uint64_t k = 1;; k++) {
    join(r);
    r->client.below.capacity = r->server.below.capacity = 20; /* heads wait in our queue */
    pu_mem_fail_at(&r->mem, k);
    const int client = start_client(r);
    const int server = start_server(r);
    bool moved = client == 0 && server == 0;
    while (moved) {
      moved = pipe_deliver(&r->client.below);
      moved = pipe_deliver(&r->server.below) || moved;
    }
    const bool reached = r->mem.fail_at == 0;
    pu_mem_fail_at(&r->mem, 0);
    if (!reached) {
      assert_true(r->client.ready && r->server.ends == 0);
    } else {
      assert_true(client == PU_E_NOMEM || server == PU_E_NOMEM ||
                  r->client.ready_status == PU_E_NOMEM || r->server.end == PU_E_NOMEM);
      failures++;
    }
    assert_int_equal(r->client.below.closed, client != 0);
    part(r);
    if (!reached)
      break;
  }
  assert_in_range(failures, 5, 30); /* two connections, two heads, and what waits */
}

/* ---- by hand ---- */

static void feed(side *s, const void *data, size_t len) {
  assert_int_equal(pu_fifo_push(&s->below.in, data, len), 0);
  while (pipe_deliver(&s->below))
    ;
}

/* take reads what |s| has written. */
static size_t take(side *s, uint8_t *out, size_t cap) {
  return pu_fifo_read(&s->below.peer->in, out, cap);
}

static void upgrade_server(rig *r, size_t slice) {
  uint8_t out[PU_WS_RESPONSE_MAX];
  join(r);
  r->server.below.slice = slice;
  assert_int_equal(start_server(r), 0);
  feed(&r->server, REQUEST, strlen(REQUEST));
  size_t len = take(&r->server, out, sizeof out);
  char why[PU_WS_HTTP_WHY];
  assert_int_equal(pu_ws_response_read(out, len, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", why), 0);
  assert_int_equal(r->server.ends, 0);
}

/* The peer's salt is ~ee = 11: its first bytes are 11 2e 4b 68 85 a2 bf dc. Masked frames have the
 * mask 01020304: 10 2c 48 6c 84 a0 bc d8. */
static void test_frames_of_a_client(void **state) {
  rig *r = *state;
  static const struct {
    const char *what, *in;
    size_t got;
    int end; /* 0: goes on */
    const char *out;
  } cases[] = {
      {"binary", "8284" MASK "102c486c", 4, 0, ""},
      {"text", "8184" MASK "102c486c", 4, 0, ""},
      {"two",
       "8282" MASK "102c"
       "8282" MASK "4a6a",
       4, 0, ""},
      {"long form", "82fe0080" MASK "102c486c", 4, 0, ""},
      {"fragments",
       "0282" MASK "102c"
       "0080" MASK "0081" MASK "4a"
       "8081" MASK "69",
       4, 0, ""},
      {"empty", "8280" MASK, 0, 0, ""},
      {"ping", "8982" MASK "6061", 0, 0, "8a026163"},
      {"empty ping", "8980" MASK, 0, 0, "8a00"},
      {"pong", "8a82" MASK "6061", 0, 0, ""},
      {"ping between fragments",
       "0282" MASK "102c"
       "8981" MASK "60"
       "8082" MASK "4a6a",
       4, 0, "8a0161"},
      {"close 1000", "8882" MASK "02ea", 0, PU_E_EOF, "880803e8636c6f736564"},
      {"close without a code", "8880" MASK, 0, PU_E_EOF, "880803e8636c6f736564"},
      {"close with a reason", "8884" MASK "02ea6162", 0, PU_E_EOF, "880803e8636c6f736564"},
      {"close 1001", "8882" MASK "02eb", 0, PU_E_RESET, "880803e8636c6f736564"},
      {"close, and bytes after",
       "8882" MASK "02ea"
       "8284" MASK "102c486c",
       0, PU_E_EOF, "880803e8636c6f736564"},
      {"half a code", "8881" MASK "02", 0, PU_E_PROTOCOL, "880203ea"},
      {"not masked", "8204112e4b68", 0, PU_E_PROTOCOL, "880203ea"},
      {"control not masked", "8900", 0, PU_E_PROTOCOL, "880203ea"},
      {"reserved bit", "c284" MASK "102c486c", 0, PU_E_PROTOCOL, "880203ea"},
      {"reserved opcode", "8384" MASK "102c486c", 0, PU_E_PROTOCOL, "880203ea"},
      {"reserved control", "8b80" MASK, 0, PU_E_PROTOCOL, "880203ea"},
      {"fragmented ping", "0980" MASK, 0, PU_E_PROTOCOL, "880203ea"},
      {"long ping", "89fe007e" MASK, 0, PU_E_PROTOCOL, "880203ea"},
      {"continuation of nothing", "8084" MASK "102c486c", 0, PU_E_PROTOCOL, "880203ea"},
      {"a message inside another",
       "0282" MASK "102c"
       "8282" MASK "4a6a",
       2, PU_E_PROTOCOL, "880203ea"},
      {"a length that is too long a form", "82fe007d" MASK, 0, PU_E_PROTOCOL, "880203ea"},
      {"a negative length", "82ffffffffffffffffff" MASK, 0, PU_E_PROTOCOL, "880203ea"},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    for (size_t slice = 1; slice < 20; slice += 3) {
      uint8_t in[64], want[64], out[64];
      const size_t len = unhex(cases[i].in, in, sizeof in);
      upgrade_server(r, slice);
      r->server.use_place = slice == 7;
      feed(&r->server, in, len);
      if (r->server.got != cases[i].got || r->server.end != cases[i].end ||
          r->server.ends != (cases[i].end != 0))
        fail_msg("%s: got %u, end %d", cases[i].what, (unsigned)r->server.got, r->server.end);
      const size_t n = unhex(cases[i].out, want, sizeof want);
      assert_int_equal(take(&r->server, out, sizeof out), n);
      assert_memory_equal(out, want, n);
      /* After an end nothing can be written. */
      const pu_iov iov = {in, 1};
      assert_true(r->server.raw->ops->writev(r->server.raw, &iov, 1) == 1 || cases[i].end != 0);
      part(r);
    }
  }
}

static void test_an_end_without_a_word(void **state) {
  rig *r = *state;
  upgrade_server(r, SIZE_MAX);
  r->client.below.closed = true; /* the other end of the pipe */
  while (pipe_deliver(&r->server.below))
    ;
  assert_int_equal(r->server.end, PU_E_RESET);
  part(r);
  join(r);
  assert_int_equal(start_server(r), 0);
  feed(&r->server, REQUEST, 20);
  r->client.below.closed = true;
  while (pipe_deliver(&r->server.below))
    ;
  assert_int_equal(r->server.end, PU_E_EOF);
  part(r);
}

static void test_giant_frames(void **state) {
  rig *r = *state;
  static const uint8_t head[14] = {0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  upgrade_server(r, SIZE_MAX);
  const size_t before = r->mem.used;
  feed(&r->server, head, sizeof head); /* the mask is 0 */
  assert_int_equal(r->mem.used, before);
  uint8_t bytes[1000];
  for (uint64_t at = 0; at < 1000 * sizeof bytes; at += sizeof bytes) {
    for (size_t i = 0; i < sizeof bytes; i++)
      bytes[i] = byte_at(0x11, at + i);
    feed(&r->server, bytes, sizeof bytes);
  }
  assert_int_equal(r->server.got, 1000 * sizeof bytes);
  assert_int_equal(r->mem.used, before);
  part(r);
}

static void test_ping_floods(void **state) {
  rig *r = *state;
  uint8_t ping[PU_WS_HEAD_MAX + PU_WS_CONTROL_MAX] = {0x89, 0x80 | 4}, out[4096];
  upgrade_server(r, SIZE_MAX);
  const size_t before = r->mem.used;
  r->client.below.capacity = 1; /* nothing of ours goes but a byte */
  for (unsigned i = 0; i < 20000; i++) {
    memcpy(ping + 6, &i, sizeof i);
    feed(&r->server, ping, 10);
  }
  assert_true(r->mem.used <= before + PU_WS_OWN_MAX);
  assert_int_equal(r->server.ends, 0);
  r->client.below.capacity = SIZE_MAX / 2;
  while (pipe_deliver(&r->server.below))
    ;
  /* The first, which was begun, and the last. */
  const size_t n = take(&r->server, out, sizeof out);
  const unsigned first = 0, last = 19999;
  assert_int_equal(n, 12);
  assert_memory_equal(out, "\x8a\x04", 2);
  assert_memory_equal(out + 2, &first, 4);
  assert_memory_equal(out + 6, "\x8a\x04", 2);
  assert_memory_equal(out + 8, &last, 4);
  part(r);
}

static void test_a_pong_waits_for_the_frame(void **state) {
  rig *r = *state;
  uint8_t ping[6] = {0x89, 0x80}, out[64];
  upgrade_server(r, SIZE_MAX);
  r->client.below.capacity = 7;
  r->server.to_send = 20;
  send_more(&r->server);
  assert_int_equal(r->server.sent, 5); /* behind a header of two */
  feed(&r->server, ping, sizeof ping);
  r->client.below.capacity = SIZE_MAX / 2;
  while (pipe_deliver(&r->server.below))
    ;
  assert_int_equal(r->server.sent, 20);
  size_t n = take(&r->server, out, sizeof out);
  assert_int_equal(out[0], 0x82);
  const size_t body = out[1];
  assert_int_equal(n >= 2 + body + 2, true);
  assert_memory_equal(out + 2 + body, "\x8a\x00", 2);
  part(r);
}

static void test_no_close_frame_inside_another(void **state) {
  rig *r = *state;
  uint8_t out[64];
  upgrade_server(r, SIZE_MAX);
  r->client.below.capacity = 7;
  r->server.to_send = 20;
  send_more(&r->server);
  r->client.below.capacity = SIZE_MAX / 2;
  close_side(&r->server, false);
  assert_int_equal(take(&r->server, out, sizeof out), 7);
  part(r);
}

static void test_requests(void **state) {
  rig *r = *state;
  uint8_t out[PU_WS_RESPONSE_MAX];
  static const struct {
    const char *text, *answer;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "},
      {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
      {REQUEST "x", "HTTP/1.1 400 "},
      {REQUEST REQUEST, "HTTP/1.1 400 "},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    join(r);
    assert_int_equal(start_server(r), 0);
    feed(&r->server, cases[i].text, strlen(cases[i].text));
    assert_int_equal(r->server.end, PU_E_PROTOCOL);
    assert_true(take(&r->server, out, sizeof out) > 13);
    assert_memory_equal(out, cases[i].answer, 13);
    /* The owner aborts, and yet the answer is to arrive. */
    close_side(&r->server, true);
    assert_true(r->server.below.closed && !r->server.below.aborted);
    part(r);
  }
  /* A head without an end. */
  for (size_t slice = 1; slice < 10000; slice *= 7) {
    join(r);
    r->server.below.slice = slice;
    assert_int_equal(start_server(r), 0);
    feed(&r->server, "GET / HTTP/1.1\r\nX: ", 19);
    for (unsigned i = 0; i < PU_WS_HTTP_MAX && r->server.ends == 0; i++)
      feed(&r->server, "x", 1);
    assert_true(r->mem.peak < 3 * PU_WS_HTTP_MAX);
    assert_int_equal(r->server.end, PU_E_PROTOCOL);
    assert_true(take(&r->server, out, sizeof out) > 13);
    assert_memory_equal(out, "HTTP/1.1 431 ", 13);
    part(r);
  }
}

/* The request's key, to answer it. */
static void accept_of(rig *r, char accept[static PU_WS_ACCEPT_TEXT]) {
  uint8_t in[1024];
  char key[PU_WS_KEY_TEXT];
  unsigned status;
  const size_t len = take(&r->client, in, sizeof in);
  assert_memory_equal(in, "GET /x HTTP/1.1\r\nHost: a.example\r\n", 34);
  assert_int_equal(pu_ws_request_read(in, len, key, &status), 0);
  assert_int_equal(pu_ws_accept(key, accept), 0);
}

static void test_answers(void **state) {
  rig *r = *state;
  char accept[PU_WS_ACCEPT_TEXT], text[PU_WS_HTTP_MAX + 200];
  static const struct {
    const char *text;
    int status;
    const char *detail;
  } cases[] = {
      {"HTTP/1.1 302 x\r\nLocation: wss://b.example/\r\n\r\n", PU_E_REFUSED, "wss://b.example/"},
      {"HTTP/1.1 403 Forbidden\r\n\r\n", PU_E_REFUSED, "403"},
      {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
       PU_E_PROTOCOL, "proof"},
      {"\x13/multistream/1.0.0\n\r\n\r\n", PU_E_PROTOCOL, "no HTTP"},
  };
  for (size_t i = 0; i < PU_COUNT(cases); i++) {
    join(r);
    assert_int_equal(start_client(r), 0);
    feed(&r->client, cases[i].text, strlen(cases[i].text));
    assert_int_equal(r->client.readies, 1);
    assert_int_equal(r->client.ready_status, cases[i].status);
    assert_non_null(strstr(r->client.detail, cases[i].detail));
    part(r);
  }
  /* No end of the head. */
  join(r);
  assert_int_equal(start_client(r), 0);
  (void)snprintf(text, sizeof text, "HTTP/1.1 101 x\r\nX: %0*d", (int)PU_WS_HTTP_MAX, 0);
  feed(&r->client, text, strlen(text));
  assert_int_equal(r->client.ready_status, PU_E_PROTOCOL);
  assert_non_null(strstr(r->client.detail, "too long"));
  part(r);
  /* The end in the middle. */
  join(r);
  assert_int_equal(start_client(r), 0);
  feed(&r->client, "HTTP", 4);
  r->server.below.closed = true;
  while (pipe_deliver(&r->client.below))
    ;
  assert_int_equal(r->client.ready_status, PU_E_EOF);
  assert_non_null(strstr(r->client.detail, "upgrade"));
  part(r);
  /* Bytes right behind the answer; masked ones are refused. */
  for (int masked = 0; masked < 2; masked++) {
    join(r);
    assert_int_equal(start_client(r), 0);
    accept_of(r, accept);
    size_t len = pu_ws_response_write(101, accept, text);
    /* The server's salt is ee. */
    const size_t more = masked == 0 ? 4 : 8;
    memcpy(text + len, masked == 0 ? "\x82\x02\xee\x0b" : "\x82\x82\0\0\0\0\xee\x0b", more);
    feed(&r->client, text, len + more);
    assert_true(r->client.ready);
    assert_int_equal(r->client.got, masked == 0 ? 2 : 0);
    assert_int_equal(r->client.end, masked == 0 ? 0 : PU_E_PROTOCOL);
    part(r);
  }
}

static void test_a_client_masks(void **state) {
  rig *r = *state;
  char accept[PU_WS_ACCEPT_TEXT], text[PU_WS_RESPONSE_MAX];
  uint8_t out[2][16];
  join(r);
  assert_int_equal(start_client(r), 0);
  accept_of(r, accept);
  feed(&r->client, text, pu_ws_response_write(101, accept, text));
  for (int i = 0; i < 2; i++) {
    pu_ws_frame f;
    const pu_iov iov = {"same", 4};
    assert_int_equal(r->client.raw->ops->writev(r->client.raw, &iov, 1), 4);
    assert_int_equal(take(&r->client, out[i], 16), 10);
    assert_int_equal(pu_ws_frame_read(out[i], 10, &f), 6);
    assert_true(f.masked && f.fin && f.opcode == PU_WS_BINARY && f.len == 4);
    pu_ws_mask(out[i] + 6, out[i] + 6, 4, f.mask, 0);
    assert_memory_equal(out[i] + 6, "same", 4);
  }
  assert_memory_not_equal(out[0] + 2, out[1] + 2, 4); /* each with a mask of its own */
  part(r);
}

static void test_trouble_below(void **state) {
  rig *r = *state;
  join(r);
  r->client.below.fail_write = PU_E_RESET;
  assert_int_equal(start_client(r), PU_E_RESET);
  assert_true(r->client.below.closed);
  r->client.raw = NULL;
  part(r);
  upgrade_server(r, SIZE_MAX);
  r->server.below.fail_write = PU_E_RESET;
  const pu_iov iov = {"x", 1};
  assert_int_equal(r->server.raw->ops->writev(r->server.raw, &iov, 1), PU_E_RESET);
  part(r);
  upgrade_server(r, SIZE_MAX);
  r->server.below.fail_write = PU_E_RESET;
  feed(&r->server, "\x89\x80\0\0\0\0", 6); /* a ping, whose answer cannot go */
  assert_int_equal(r->server.end, PU_E_RESET);
  part(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_dialogue),
      TEST(test_a_message_for_a_batch),
      TEST(test_back_pressure),
      TEST(test_closing_inside),
      TEST(test_without_memory),
      TEST(test_frames_of_a_client),
      TEST(test_an_end_without_a_word),
      TEST(test_giant_frames),
      TEST(test_ping_floods),
      TEST(test_a_pong_waits_for_the_frame),
      TEST(test_no_close_frame_inside_another),
      TEST(test_requests),
      TEST(test_answers),
      TEST(test_a_client_masks),
      TEST(test_trouble_below),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
