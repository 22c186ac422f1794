/* TXT look-ups of the libuv door: the C library's resolver in libuv's thread pool, with a deadline.
 * The thread owns the request until it is done; a cancelled or late one is freed then. */
#include "platform/uv_text.h"

#include <netdb.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

#include "platform/assert.h"
#include "platform/dns_text.h"
#include "platform/uv_priv.h"

#define ANSWER_BYTES 16384u
#define NAME_BYTES 256u
#define DEADLINE_US 10000000u
/* Each server is asked twice and waited for some 3 seconds, so that neither a thread nor the end of
 * the door is held up for long after the deadline. */
#define WAIT_S 3
#define TRIES 2

typedef struct uv_text {
  pu_resolve base;
  uv_work_t work;
  pu_timer deadline;
  pu_resolve_text_cb cb; /* NULL: cancelled or told */
  void *data;
  char name[NAME_BYTES];
  pu_sockaddr server; /* family 0: the system's */
  int status;
  pu_dns_texts texts;
} uv_text;

/* on_work runs in another thread and touches nothing but the request. */
static void on_work(uv_work_t *work) {
  uv_text *r = work->data;
  uint8_t *answer = malloc(ANSWER_BYTES);
  struct __res_state state;
  memset(&state, 0, sizeof state);
  r->status = PU_E_NOMEM;
  if (answer == NULL)
    return;
  r->status = PU_E_IO;
  if (res_ninit(&state) == 0) {
    state.retrans = WAIT_S;
    state.retry = TRIES;
    if (r->server.family != 0) {
      struct sockaddr_storage native;
      (void)pu_uv_to_native(&r->server, &native);
      memcpy(&state.nsaddr_list[0], &native, sizeof state.nsaddr_list[0]);
      state.nscount = 1;
    }
    const int len = res_nquery(&state, r->name, ns_c_in, ns_t_txt, answer, (int)ANSWER_BYTES);
    const int why = state.res_h_errno;
    res_nclose(&state);
    if (len > 0)
      r->status = pu_dns_text_parse(answer, (size_t)len < ANSWER_BYTES ? (size_t)len : ANSWER_BYTES,
                                    &r->texts);
    else
      r->status = why == TRY_AGAIN ? PU_E_TIMEOUT : PU_E_NOT_FOUND;
  }
  free(answer);
}

static void tell(uv_text *r, int status) {
  const char *texts[PU_RESOLVE_TEXTS_MAX];
  const pu_resolve_text_cb cb = r->cb;
  const size_t count = status == 0 ? r->texts.count : 0;
  pu_timer_stop(&r->deadline);
  r->cb = NULL;
  if (cb == NULL)
    return;
  for (size_t i = 0; i < count; i++)
    texts[i] = r->texts.text[i];
  cb(r->data, status, texts, count);
}

static void on_done(uv_work_t *work, int status) {
  uv_text *r = work->data;
  uv_door *d = (uv_door *)r->base.platform;
  tell(r, status == 0 ? r->status : PU_E_CANCELED);
  free(r);
  pu_uv_handle_gone(d);
}

static void on_deadline(void *data) {
  tell(data, PU_E_TIMEOUT);
}

static void cancel(pu_resolve *base) {
  uv_text *r = (uv_text *)base;
  pu_timer_stop(&r->deadline);
  r->cb = NULL;
  (void)uv_cancel((uv_req_t *)&r->work);
}

int pu_uv_resolve_text(pu_platform *p, const char *name, pu_resolve_text_cb cb, void *data,
                       pu_resolve **out) {
  uv_door *d = (uv_door *)p;
  const size_t len = strlen(name);
  if (len == 0 || len >= NAME_BYTES)
    return PU_E_NOT_FOUND;
  uv_text *r = calloc(1, sizeof *r);
  if (r == NULL)
    return PU_E_NOMEM;
  r->base.platform = p;
  r->base.cancel = cancel;
  r->cb = cb;
  r->data = data;
  r->work.data = r;
  r->server = d->dns;
  memcpy(r->name, name, len + 1);
  pu_timer_init(&r->deadline, p, on_deadline, r);
  if (pu_timer_after(&r->deadline, DEADLINE_US) != 0) {
    free(r);
    return PU_E_NOMEM;
  }
  if (uv_queue_work(d->loop, &r->work, on_work, on_done) != 0) {
    pu_timer_stop(&r->deadline);
    free(r);
    return PU_E_NOMEM;
  }
  d->handles++;
  *out = &r->base;
  return 0;
}

void pu_uv_text_server(pu_platform *p, const pu_sockaddr *server) {
  PU_ASSERT(server->family == 4);
  ((uv_door *)p)->dns = *server;
}
