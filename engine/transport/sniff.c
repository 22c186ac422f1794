/* First bytes; see sniff.h. */
#include "transport/sniff.h"

#define FIRST_MULTISTREAM 0x13u /* 19 bytes follow: /multistream/1.0.0 and a line feed */
#define FIRST_TLS 0x16u

static void release(pu_sniff *s, bool close) {
  pu_timer_stop(&s->timer);
  pu_list_remove(&s->link);
  if (close)
    s->conn.raw->ops->close(s->conn.raw, true);
  pu_free(s);
}

static void on_bytes(void *user, pu_span data) {
  pu_sniff *s = user;
  const uint8_t first = data.data[0];
  const pu_sniff_kind kind = first == FIRST_MULTISTREAM ? PU_SNIFF_PLAIN
                             : first == FIRST_TLS       ? PU_SNIFF_TLS
                             : first == 'G'             ? PU_SNIFF_HTTP
                                                        : 0;
  if ((s->kinds & kind) == 0) {
    release(s, true);
    return;
  }
  const pu_transport_conn conn = s->conn;
  void (*cb)(void *, pu_sniff_kind, const pu_transport_conn *) = s->cb;
  void *cb_data = s->data;
  release(s, false);
  cb(cb_data, kind, &conn);
}

static void on_end(void *user, int status) {
  (void)status;
  release(user, true);
}

static void on_writable(void *user) {
  (void)user; /* nothing was written */
}

static const pu_raw_events events = {
    .on_bytes = on_bytes, .on_writable = on_writable, .on_end = on_end};

static void on_time(void *data) {
  release(data, true);
}

int pu_sniff_start(pu_mem *mem, pu_platform *platform, const pu_transport_conn *conn,
                   unsigned kinds,
                   void (*cb)(void *data, pu_sniff_kind kind, const pu_transport_conn *conn),
                   void *data, pu_list *list) {
  pu_sniff *s = pu_zalloc(mem, sizeof *s);
  if (s == NULL) {
    conn->raw->ops->close(conn->raw, true);
    return PU_E_NOMEM;
  }
  s->conn = *conn;
  s->kinds = kinds;
  s->cb = cb;
  s->data = data;
  pu_timer_init(&s->timer, platform, on_time, s);
  pu_list_push(list, &s->link);
  const int status = pu_timer_after(&s->timer, PU_SNIFF_US);
  if (status != 0) {
    release(s, true);
    return status;
  }
  s->conn.raw->ops->set_events(s->conn.raw, &events, s);
  s->conn.raw->ops->want_read(s->conn.raw, true);
  return 0;
}

bool pu_sniff_drop_oldest(pu_list *list, uint64_t older_us) {
  if (pu_list_empty(list))
    return false;
  pu_sniff *s = PU_CONTAINER_OF(list->next, pu_sniff, link);
  if (pu_now_us(s->timer.platform) < s->timer.at_us - PU_SNIFF_US + older_us)
    return false;
  release(s, true);
  return true;
}

void pu_sniff_end(pu_list *list) {
  PU_LIST_EACH(list, node, tmp) {
    release(PU_CONTAINER_OF(node, pu_sniff, link), true);
  }
}
