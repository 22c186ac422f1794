/* Two peers in one program, on one libuv loop: one serves a protocol that answers in capitals, the other
 * connects, asks, and prints the answer. All that is needed is peerup/engine.h and a loop. */
#include <ctype.h>
#include <peerup/engine.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#define SHOUT "/example/shout/1.0.0"

static pu_engine *server, *client;
static int failed = 1;

static void stop(void) {
  pu_engine_close(client, NULL, NULL);
  pu_engine_close(server, NULL, NULL);
}

/* ---- the serving side ---- */

static int allow(void *data, const pu_question *question) {
  (void)data;
  (void)question;
  return 0; /* a real program decides here who may do what */
}

static size_t shout_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                         size_t tail) {
  (void)user;
  for (size_t i = 0; i < len; i++)
    data[i] = (uint8_t)toupper(data[i]);
  ssize_t taken = pu_stream_write_room(s, data, len, head, tail);
  return taken < 0 ? len : (size_t)taken; /* what was not taken is offered again */
}
static void shout_eof(void *user, pu_stream *s) {
  (void)user;
  pu_stream_close(s);
}
static void shout_writable(void *user, pu_stream *s) {
  (void)user;
  pu_stream_resume(s);
}
static const pu_stream_events shout_events = {shout_data, shout_eof, shout_writable, NULL};

static int on_shout(void *data, pu_stream *s) {
  pu_stream_set_events(s, &shout_events, data);
  return 0;
}

/* ---- the asking side ---- */

static size_t answer_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                          size_t tail) {
  (void)user;
  (void)s;
  (void)head;
  (void)tail;
  printf("answer: %.*s\n", (int)len, (const char *)data);
  failed = 0;
  return len;
}
static void answer_eof(void *user, pu_stream *s) {
  (void)user;
  pu_stream_close(s);
  stop();
}
static void answer_end(void *user, pu_stream *s, int status, uint32_t code) {
  (void)user;
  (void)s;
  (void)code;
  fprintf(stderr, "the stream ended: %s\n", pu_error_sentence(status));
  stop();
}
static const pu_stream_events answer_events = {answer_data, answer_eof, NULL, answer_end};

static void on_open(void *data, int status, const pu_error *err, pu_stream *s) {
  static const char question[] = "hello from the other engine";
  (void)data;
  if (status != 0) {
    fprintf(stderr, "%s: %s\n", pu_error_sentence(status), err->detail);
    stop();
    return;
  }
  pu_stream_set_events(s, &answer_events, NULL);
  if (pu_stream_write(s, question, strlen(question)) < 0)
    stop();
  else
    (void)pu_stream_close_write(s);
}

static void learn_addr(void *data, const char *addr) {
  (void)data;
  (void)pu_engine_add_addr(client, pu_engine_peer(server), addr, 60, NULL);
}

int main(void) {
  static const char *const protocols[] = {SHOUT};
  uv_loop_t loop;
  pu_error err = {0};
  pu_op *op;
  uv_loop_init(&loop);
  const pu_engine_config config = {.loop = &loop, .policy = allow};
  if (pu_engine_new(&config, &server, &err) != 0 || pu_engine_new(&config, &client, &err) != 0 ||
      pu_engine_handle(server, SHOUT, on_shout, NULL) != 0 ||
      pu_engine_listen(server, "/ip4/127.0.0.1/tcp/0", &err) != 0) {
    fprintf(stderr, "%s\n", err.detail);
    return 1;
  }
  pu_engine_addrs(server, learn_addr, NULL);
  if (pu_engine_open_stream(client, pu_engine_peer(server), protocols, 1, 0, 0, on_open, NULL,
                            &op) != 0)
    stop();
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return failed;
}
