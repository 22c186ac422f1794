/* TLS with a web certificate as a raw connection: both ends in dialogue, cut and held up at will,
 * and against what is no TLS. */
#include "transport/tls_raw.h"

#include "support/pipe_raw.h"
#include "support/unit.h"

#define NOW 1800000000u

typedef struct side {
  pipe_raw below;
  pu_raw *raw;
  bool ready, use_place, close_in_bytes;
  int ready_status, end;
  unsigned readies, ends;
  char detail[160];
  uint8_t salt;
  uint64_t to_send, sent, got;
  uint8_t place[100];
} side;

typedef struct rig {
  pu_mem mem, pipe_mem;
  pu_tls_web *web, *other;
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

static void send_more(side *s) {
  static uint8_t bytes[3][30000];
  while (s->raw != NULL && s->sent < s->to_send) {
    pu_iov iov[3];
    size_t total = 0, n = 0;
    for (; n < 3 && s->sent + total < s->to_send; n++) {
      size_t len = (size_t)(s->sent * 7 + n * 9131) % sizeof bytes[n];
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
  send_more(user);
}
static void on_end(void *user, int status) {
  side *s = user;
  s->ends++;
  s->end = status;
}
static const pu_raw_events events = {
    .on_bytes = on_bytes, .on_writable = on_writable, .on_end = on_end};

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
  assert_non_null(r);
  pu_mem_init(&r->mem, NULL, PU_MEM_UNLIMITED);
  pu_mem_init(&r->pipe_mem, NULL, PU_MEM_UNLIMITED);
  assert_int_equal(pu_tls_web_new(&r->mem, &r->web), 0);
  assert_int_equal(pu_tls_web_new(&r->mem, &r->other), 0);
  *state = r;
  return 0;
}

static int teardown(void **state) {
  rig *r = *state;
  pu_tls_web_free(r->web);
  pu_tls_web_free(r->other);
  pu_mem_deinit(&r->mem);
  pu_mem_deinit(&r->pipe_mem);
  free(r);
  return 0;
}

static void join(rig *r) {
  r->client = (side){.salt = 0x11};
  r->server = (side){.salt = 0xee};
  pipe_init(&r->client.below, &r->server.below, &r->pipe_mem, &pipe_ops);
}

static int start_client(rig *r, pu_tls_web *pinned) {
  pu_tls_raw_config config = {.web = r->web,
                              .session = {.mem = &r->mem,
                                          .initiator = true,
                                          .now_unix_s = NOW,
                                          .host = "a.example",
                                          .trust = PU_TLS_WEB_PINNED},
                              .on_ready = on_ready,
                              .data = &r->client};
  assert_int_equal(pu_tls_web_pin(pinned, NOW, config.session.pin), 0);
  return pu_tls_raw_new(&config, &r->client.below.base, &r->client.raw);
}

static int start_server(rig *r) {
  const pu_tls_raw_config config = {.web = r->web, .session = {.mem = &r->mem, .now_unix_s = NOW}};
  const int rc = pu_tls_raw_new(&config, &r->server.below.base, &r->server.raw);
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

static void test_dialogue(void **state) {
  rig *r = *state;
  static const size_t slices[] = {1, 4, 5, 6, 1460, 16406, SIZE_MAX};
  static const size_t capacities[] = {7, 5000, 40000, SIZE_MAX / 2};
  for (size_t i = 0; i < PU_COUNT(slices) * PU_COUNT(capacities); i++) {
    join(r);
    side *const both[2] = {&r->client, &r->server};
    for (int k = 0; k < 2; k++) {
      both[k]->below.slice = slices[i % PU_COUNT(slices)];
      both[k]->below.capacity = capacities[i / PU_COUNT(slices)];
      both[k]->to_send = 100000;
    }
    assert_int_equal(start_client(r, r->web), 0);
    assert_int_equal(start_server(r), 0);
    send_more(&r->server); /* taken only after the handshake */
    assert_int_equal(r->server.sent, 0);
    bool moved = true;
    while (moved) {
      moved = pipe_deliver(&r->client.below);
      moved = pipe_deliver(&r->server.below) || moved;
      if (r->client.ready && r->client.sent == 0) {
        send_more(&r->client);
        moved = true;
      }
    }
    assert_int_equal(r->client.readies, 1);
    assert_int_equal(r->client.ready_status, 0);
    for (int k = 0; k < 2; k++) {
      assert_int_equal(both[k]->sent, 100000);
      assert_int_equal(both[k]->got, 100000);
      assert_int_equal(both[k]->ends, 0);
    }
    r->server.below.capacity = SIZE_MAX / 2;
    close_side(&r->client, false);
    assert_true(r->client.below.closed && !r->client.below.aborted);
    pipe_pump(&r->client.below, &r->server.below);
    assert_int_equal(r->server.ends, 1);
    assert_int_equal(r->server.end, PU_E_EOF);
    part(r);
  }
}

static void shake(rig *r) {
  join(r);
  assert_int_equal(start_client(r, r->web), 0);
  assert_int_equal(start_server(r), 0);
  pipe_pump(&r->client.below, &r->server.below);
  assert_true(r->client.ready);
}

static void test_back_pressure(void **state) {
  rig *r = *state;
  shake(r);
  const size_t before = r->mem.used;
  r->server.raw->ops->want_read(r->server.raw, false);
  r->server.below.capacity = 5000;
  r->client.to_send = 1000000;
  send_more(&r->client);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->server.got, 0);
  assert_true(r->client.sent <= 2 * 16384);
  assert_true(r->mem.used - before < 64 * 1024); /* one round of records */
  r->server.raw->ops->want_read(r->server.raw, true);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->server.got, 1000000);
  assert_int_equal(r->mem.used, before);
  part(r);
}

static void test_closing_inside(void **state) {
  rig *r = *state;
  for (size_t slice = 1; slice < 20000; slice *= 10) { /* in one piece, and from a carried record */
    shake(r);
    r->server.below.slice = slice;
    r->server.close_in_bytes = true;
    r->client.to_send = 40000;
    send_more(&r->client);
    pipe_pump(&r->client.below, &r->server.below);
    assert_null(r->server.raw);
    assert_int_equal(r->client.end, PU_E_EOF);
    part(r);
  }
}

static void test_another_certificate(void **state) {
  rig *r = *state;
  join(r);
  assert_int_equal(start_client(r, r->other), 0);
  assert_int_equal(start_server(r), 0);
  pipe_pump(&r->client.below, &r->server.below);
  assert_int_equal(r->client.ready_status, PU_E_CRYPTO);
  assert_non_null(strstr(r->client.detail, "certificate"));
  assert_int_equal(r->server.ends, 1); /* told by an alert */
  assert_int_equal(r->server.end, PU_E_CRYPTO);
  close_side(&r->client, true);
  assert_false(r->client.below.aborted); /* or the alert might be lost */
  part(r);
}

static void feed(side *s, const void *data, size_t len) {
  assert_int_equal(pu_fifo_push(&s->below.in, data, len), 0);
  while (pipe_deliver(&s->below))
    ;
}

static void test_no_tls(void **state) {
  rig *r = *state;
  static const char *const answers[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "\x16\x03\x03\xff\xff",
                                        "\x13/multistream/1.0.0\n"};
  for (size_t i = 0; i < PU_COUNT(answers); i++) {
    join(r);
    assert_int_equal(start_client(r, r->web), 0);
    feed(&r->client, answers[i], strlen(answers[i]));
    assert_int_equal(r->client.readies, 1);
    assert_int_equal(r->client.ready_status, PU_E_PROTOCOL);
    part(r);
    join(r);
    assert_int_equal(start_server(r), 0);
    feed(&r->server, answers[i], strlen(answers[i]));
    assert_int_equal(r->server.end, PU_E_PROTOCOL);
    part(r);
  }
  /* Records that do not fit, or do not decrypt. */
  static const struct {
    const char *bytes;
    size_t len;
  } records[] = {{"\x17\x03\x03\x41\x01", 5}, {"\x17\x03\x03\x00\x13nineteen bytes or so", 24}};
  for (size_t i = 0; i < PU_COUNT(records); i++) {
    for (size_t slice = 1; slice < 10; slice += 4) {
      shake(r);
      r->server.below.slice = slice;
      feed(&r->server, records[i].bytes, records[i].len);
      assert_int_equal(r->server.ends, 1);
      assert_true(r->server.end == PU_E_PROTOCOL || r->server.end == PU_E_CRYPTO);
      assert_int_equal(r->server.got, 0);
      const pu_iov iov = {"x", 1};
      assert_int_equal(r->server.raw->ops->writev(r->server.raw, &iov, 1), r->server.end);
      part(r);
    }
  }
}

static void test_ends_below(void **state) {
  rig *r = *state;
  join(r);
  assert_int_equal(start_client(r, r->web), 0);
  r->server.below.closed = true;
  while (pipe_deliver(&r->client.below))
    ;
  assert_int_equal(r->client.ready_status, PU_E_EOF);
  assert_non_null(strstr(r->client.detail, "handshake"));
  part(r);
  join(r);
  r->client.below.fail_write = PU_E_RESET;
  assert_int_equal(start_client(r, r->web), PU_E_RESET);
  assert_true(r->client.below.closed);
  part(r);
  shake(r);
  r->server.below.fail_write = PU_E_RESET;
  const pu_iov iov = {"x", 1};
  assert_int_equal(r->server.raw->ops->writev(r->server.raw, &iov, 1), PU_E_RESET);
  part(r);
}

static void test_without_memory(void **state) {
  rig *r = *state;
  unsigned failures = 0;
  shake(r); /* what is shared is there */
  part(r);
  for (uint64_t k = 1;; k++) {
    join(r);
    r->client.below.capacity = r->server.below.capacity = 200;
    r->client.to_send = r->server.to_send = 20000;
    pu_mem_fail_at(&r->mem, k);
    const int client = start_client(r, r->web);
    const int server = start_server(r);
    bool moved = client == 0 && server == 0;
    while (moved && r->client.ends == 0 && r->server.ends == 0) {
      moved = pipe_deliver(&r->client.below);
      moved = pipe_deliver(&r->server.below) || moved;
    }
    if (r->client.ready && r->server.ends == 0) {
      uint8_t bytes[20000];
      for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = byte_at(r->client.salt, i);
      const pu_iov iov = {bytes, sizeof bytes};
      const ssize_t n = r->client.raw->ops->writev(r->client.raw, &iov, 1);
      assert_true(n == PU_E_NOMEM || n > 0);
      r->client.to_send = r->client.sent = 0;
      if (n > 0)
        pipe_pump(&r->client.below, &r->server.below);
    }
    const bool reached = r->mem.fail_at == 0;
    pu_mem_fail_at(&r->mem, 0);
    part(r);
    if (!reached) {
      assert_true(r->client.ready && r->server.got > 0);
      break;
    }
    failures++;
  }
  assert_in_range(failures, 6, 200);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_dialogue),       TEST(test_back_pressure),
      TEST(test_closing_inside), TEST(test_another_certificate),
      TEST(test_no_tls),         TEST(test_ends_below),
      TEST(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
