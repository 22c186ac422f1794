/* Connecting to a peer on somebody's behalf: the standing connection, or a dial, with a deadline.
 */
#include <stdio.h>

#include "swarm/conn.h"
#include "swarm/dialer.h"
#include "swarm/op.h"

#define CONNECT_TIMEOUT_MS 60000u

typedef struct connect_op {
  pu_op op;
  pu_waiter waiter;
  pu_peer_id peer;
  uint64_t conn_id;
  pu_connect_cb cb;
  void *data;
} connect_op;

static void complete(pu_op *op) {
  connect_op *o = PU_CONTAINER_OF(op, connect_op, op);
  pu_op_unlink(op);
  pu_dial_unwait(&o->waiter);
  pu_conn *c = op->status == 0 ? pu_conn_find(op->engine, o->conn_id) : NULL;
  if (op->status == 0 && c == NULL)
    (void)pu_error_set(&op->err, op->status = PU_E_GONE, "the connection ended at once");
  o->cb(o->data, op->status, &op->err, c);
  pu_free(o);
}

static void abandon(pu_op *op) {
  connect_op *o = PU_CONTAINER_OF(op, connect_op, op);
  char id[PU_PEER_ID_MAX_TEXT];
  (void)snprintf(op->err.detail, sizeof op->err.detail, "no address of %s answered in time",
                 pu_peer_id_text(&o->peer, id));
  pu_dial_unwait(&o->waiter);
}

static void on_conn(void *data, pu_conn *c, int status, const char *detail) {
  connect_op *o = data;
  if (status == 0)
    o->conn_id = c->id;
  pu_op_finish(&o->op, status, detail);
}

int pu_engine_connect(pu_engine *e, const pu_peer_id *peer, unsigned flags, uint32_t timeout_ms,
                      pu_connect_cb cb, void *data, pu_op **op) {
  const bool direct = (flags & PU_CONNECT_DIRECT) != 0;
  if (cb == NULL || peer->len == 0)
    return PU_E_INVAL;
  connect_op *o = pu_zalloc(&e->mem, sizeof *o);
  if (o == NULL)
    return PU_E_NOMEM;
  o->peer = *peer;
  o->cb = cb;
  o->data = data;
  o->waiter.cb = on_conn;
  o->waiter.data = o;
  pu_list_init(&o->waiter.link);
  int status =
      pu_op_start(&o->op, e, timeout_ms == 0 ? CONNECT_TIMEOUT_MS : timeout_ms, complete, abandon);
  if (status != 0) {
    pu_free(o);
    return status;
  }
  pu_conn *c = (flags & PU_CONNECT_NEW) == 0 ? pu_engine_find_conn(e, peer, direct) : NULL;
  if (c != NULL) {
    o->conn_id = c->id;
    pu_op_finish(&o->op, 0, "");
  } else {
    status = pu_dial_wait(e, peer, direct, &o->waiter);
    if (status != 0) {
      pu_op_unlink(&o->op);
      pu_free(o);
      return status;
    }
  }
  if (op != NULL)
    *op = &o->op;
  return 0;
}
