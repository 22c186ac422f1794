/* Pending operations: the promise that a completion is called exactly once, on the loop, never from
 * inside the call that asked (engine.h). An operation that ends is put on the timer heap of the engine
 * for the next turn. */
#ifndef PU_SWARM_OP_H
#define PU_SWARM_OP_H

#include "swarm/engine_priv.h"

struct pu_op {
  pu_engine *engine;
  pu_list link;  /* engine->ops, from start to completion */
  pu_timer turn; /* completion in the next turn of the loop, or the deadline */
  bool done;     /* completion is due; |status| stands */
  int status;
  pu_error err;
  /* Called with the turn of the loop, when done: calls the user's callback and frees the op. */
  void (*complete)(pu_op *op);
  /* Called when the op ends early (cancel, deadline): lets go of what it waits for. May be NULL. */
  void (*abandon)(pu_op *op);
};

/* pu_op_start registers |op|; |timeout_ms| PU_OP_NO_TIMEOUT for none. */
#define PU_OP_NO_TIMEOUT UINT32_MAX
PU_MUST_CHECK int pu_op_start(pu_op *op, pu_engine *e, uint32_t timeout_ms,
                              void (*complete)(pu_op *), void (*abandon)(pu_op *));
/* pu_op_finish makes the completion due. Does nothing when it is already. */
void pu_op_finish(pu_op *op, int status, const char *detail);
/* pu_op_finish_now is pu_op_finish from an event of the loop: completes before it returns. */
void pu_op_finish_now(pu_op *op, int status, const char *detail);
/* pu_op_unlink takes |op| off the engine's list; complete does it before it frees. */
void pu_op_unlink(pu_op *op);
/* pu_ops_cancel_all ends every pending operation with PU_E_CANCELED, completing them now. */
void pu_ops_cancel_all(pu_engine *e);

#endif
