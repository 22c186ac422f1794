/* Pending operations; see op.h. */
#include "swarm/op.h"
#include "platform/assert.h"
#include <stdio.h>

static void on_turn(void *data) {
  pu_op *op = data;
  if (!op->done) { /* the deadline */
    op->done = true;
    op->status = PU_E_TIMEOUT;
    if (op->abandon != NULL)
      op->abandon(op);
    op->err.code = PU_E_TIMEOUT; /* abandon has said what it waited for */
  }
  op->complete(op);
}

int pu_op_start(pu_op *op, pu_engine *e, uint32_t timeout_ms, void (*complete)(pu_op *),
                void (*abandon)(pu_op *)) {
  *op = (pu_op){.engine = e, .complete = complete, .abandon = abandon};
  pu_timer_init(&op->turn, e->platform, on_turn, op);
  if (e->closing)
    return PU_E_CLOSED;
  /* Armed even without a deadline, so that finishing cannot fail for memory later. */
  const uint64_t never = (uint64_t)INT64_MAX;
  int status = timeout_ms == PU_OP_NO_TIMEOUT ? pu_timer_at(&op->turn, never)
                                              : pu_timer_after(&op->turn, timeout_ms * 1000ull);
  if (status != 0)
    return status;
  pu_list_push(&e->ops, &op->link);
  return 0;
}

static bool settle(pu_op *op, int status, const char *detail) {
  if (op->done)
    return false;
  op->done = true;
  op->status = status;
  (void)pu_error_set(&op->err, status, "%s", detail != NULL ? detail : "");
  return true;
}

void pu_op_finish(pu_op *op, int status, const char *detail) {
  if (settle(op, status, detail))
    PU_ASSERT(pu_timer_after(&op->turn, 0) == 0); /* armed: its place in the heap exists */
}

void pu_op_finish_now(pu_op *op, int status, const char *detail) {
  if (!settle(op, status, detail))
    return;
  pu_timer_stop(&op->turn);
  op->complete(op);
}

void pu_op_unlink(pu_op *op) {
  pu_timer_stop(&op->turn);
  pu_list_remove(&op->link);
}

void pu_op_cancel(pu_op *op) {
  if (op->done)
    return;
  if (op->abandon != NULL)
    op->abandon(op);
  pu_op_finish(op, PU_E_CANCELED, "");
}

void pu_ops_cancel_all(pu_engine *e) {
  while (!pu_list_empty(&e->ops)) {
    pu_op *op = PU_CONTAINER_OF(e->ops.next, pu_op, link);
    if (!op->done && op->abandon != NULL)
      op->abandon(op);
    pu_timer_stop(&op->turn);
    (void)settle(op, PU_E_CANCELED, "");
    op->complete(op);
  }
}
