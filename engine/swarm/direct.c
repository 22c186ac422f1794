/* Direct dials while only a relay leads to a peer; see direct.h. */
#include "swarm/direct.h"

#include "swarm/conn.h"
#include "swarm/dialer.h"

typedef struct direct {
  pu_module base;
  pu_engine *engine;
  pu_list efforts;
  size_t count;
} direct;

/* What is done for one peer: a dial under way, or the time until the next. */
typedef struct effort {
  pu_list link;
  direct *direct;
  pu_peer_id peer;
  pu_timer timer;
  pu_waiter waiter;
  bool dialling;
  unsigned tries;
  uint64_t rest_us; /* after the next failure */
} effort;

static void end_effort(effort *f) {
  pu_timer_stop(&f->timer);
  pu_dial_unwait(&f->waiter);
  pu_list_remove(&f->link);
  f->direct->count--;
  pu_free(f);
}

static effort *find(direct *m, const pu_peer_id *peer) {
  PU_LIST_EACH(&m->efforts, node, tmp) {
    effort *f = PU_CONTAINER_OF(node, effort, link);
    if (pu_peer_id_equal(&f->peer, peer))
      return f;
  }
  return NULL;
}

/* is_relayed says whether |peer|, which we dialled, is reached through a relay only. */
static bool is_relayed(pu_engine *e, const pu_peer_id *peer) {
  const pu_conn *c = pu_engine_find_conn(e, peer, false);
  return c != NULL && c->info.relayed && c->outbound;
}

static void failed(effort *f) {
  f->dialling = false;
  if (++f->tries >= PU_DIRECT_TRIES_MAX || pu_timer_after(&f->timer, f->rest_us) != 0) {
    end_effort(f);
    return;
  }
  f->rest_us = f->rest_us < PU_DIRECT_MAX_US / 2 ? f->rest_us * 2 : PU_DIRECT_MAX_US;
}

static void on_dialled(void *data, pu_conn *conn, int status, const char *detail) {
  effort *f = data;
  (void)conn;
  (void)detail;
  if (status == 0 || f->direct->engine->closing)
    end_effort(f);
  else
    failed(f);
}

static void on_timer(void *data) {
  effort *f = data;
  pu_engine *e = f->direct->engine;
  if (!is_relayed(e, &f->peer)) {
    end_effort(f);
    return;
  }
  f->dialling = true;
  if (pu_dial_wait(e, &f->peer, true, &f->waiter) != 0)
    failed(f);
}

/* try_for makes sure that there is an effort for |peer|, due at the latest |after_us| from now. */
static void try_for(direct *m, const pu_peer_id *peer, uint64_t after_us, bool afresh) {
  pu_engine *e = m->engine;
  effort *f = find(m, peer);
  if (e->closing || !is_relayed(e, peer) || (f == NULL && m->count >= PU_DIRECT_PEERS_MAX))
    return;
  if (f == NULL) {
    f = pu_zalloc(&e->mem, sizeof *f);
    if (f == NULL)
      return; /* it stays with its relay */
    f->direct = m;
    f->peer = *peer;
    f->waiter.cb = on_dialled;
    f->waiter.data = f;
    pu_list_init(&f->waiter.link);
    pu_timer_init(&f->timer, e->platform, on_timer, f);
    f->rest_us = PU_DIRECT_FIRST_US;
    pu_list_push(&m->efforts, &f->link);
    m->count++;
    afresh = true;
  }
  if (!afresh)
    return;
  f->tries = 0;
  f->rest_us = PU_DIRECT_FIRST_US;
  if (!f->dialling && pu_timer_after(&f->timer, after_us) != 0)
    end_effort(f);
}

static void on_conn_open(pu_module *base, pu_conn *c) {
  try_for((direct *)base, &c->peer, PU_DIRECT_FIRST_US, false);
}

static void on_identified(pu_module *base, pu_conn *c) {
  if (c->info.relayed)
    try_for((direct *)base, &c->peer, PU_DIRECT_SOON_US, true);
}

static void on_conn_close(pu_module *base, pu_conn *c) {
  direct *m = (direct *)base;
  effort *f = find(m, &c->peer);
  if (pu_engine_find_conn(m->engine, &c->peer, false) != NULL) {
    try_for(m, &c->peer, PU_DIRECT_FIRST_US, false);
    return;
  }
  if (f != NULL)
    end_effort(f);
  pu_dial_conns_gone(m->engine, &c->peer);
}

static void on_close(pu_module *base) {
  direct *m = (direct *)base;
  while (!pu_list_empty(&m->efforts))
    end_effort(PU_CONTAINER_OF(m->efforts.next, effort, link));
}

static void free_direct(pu_module *base) {
  on_close(base);
  pu_free(base);
}

static const pu_module_ops ops = {.on_conn_open = on_conn_open,
                                  .on_conn_close = on_conn_close,
                                  .on_identified = on_identified,
                                  .on_close = on_close,
                                  .free = free_direct};

int pu_direct_start(pu_engine *e) {
  direct *m = pu_zalloc(&e->mem, sizeof *m);
  if (m == NULL)
    return PU_E_NOMEM;
  m->base.ops = &ops;
  m->engine = e;
  pu_list_init(&m->efforts);
  pu_engine_add_module(e, &m->base);
  return 0;
}
