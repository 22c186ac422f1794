/* Identify and push on streams (wire 11); see identify.h. Four kinds of exchange, each on a stream
 * of its own and with a deadline:
 *
 *   ASK      ours, on each new connection: read to the end, apply
 *   TELL     the peer's: write what we are, close
 *   PUSH     ours, when our addresses or protocols changed: write what we are, close
 *   HEAR     the peer's push: read to the end, apply
 *
 * A push goes only to connections that were told something else before: who has not asked yet will
 * hear the truth when it does. Messages are complete always, since Go takes a list that is missing
 * in a push for an empty one. */
#include "protocols/identify.h"

#include <string.h>

#include "protocols/identify_message.h"
#include "swarm/conn.h"
#include "swarm/peerstore.h"

#define BUCKETS 256u /* connections by ID */
#define LIMITS 64u   /* networks whose pushes are counted */
#define CODE_RATE_LIMITED 0x1003u
#define CODE_VIOLATION 0x1004u
/* Room in our message for addresses, beside key, agent and the observed address; what protocols
 * need is taken from it, down to the least. */
#define ADDRS_BUDGET (PU_IDENTIFY_OWN_MAX - 900u)
#define ADDRS_BUDGET_LEAST 512u

typedef struct exchange exchange;

/* A connection that is up. Owned by the module. */
typedef struct told_conn {
  pu_list link;
  pu_conn *conn;
  uint64_t told; /* version that the peer knows; 0: none yet */
  exchange *ask, *push;
} told_conn;

/* How many pushes a network may send: one more each period, from |due_us| on. */
typedef struct push_limit {
  uint64_t network;
  uint64_t due_us;
} push_limit;

typedef struct identify {
  pu_module base;
  pu_engine *engine;
  uint64_t version;   /* of what we tell */
  uint64_t last_seq;  /* of the newest record signed */
  uint8_t *record[2]; /* signed, for other connections and for those over loopback; NULL: not yet */
  size_t record_len[2];
  pu_list conns[BUCKETS];
  pu_list exchanges;
  uint32_t pushing;
  pu_timer push;
  push_limit limits[LIMITS];
} identify;

typedef enum exchange_kind { ASK, TELL, PUSH, HEAR } exchange_kind;

struct exchange {
  pu_list link;
  identify *module;
  exchange_kind kind;
  told_conn *conn; /* NULL: it ended while the stream was being opened */
  pu_op *op;       /* while it is being opened */
  pu_stream *stream;
  pu_timer deadline;
  pu_identify_reader reader; /* ASK, HEAR */
  uint8_t *out;              /* TELL, PUSH */
  size_t out_len, out_pos;
};

static identify *module_of(pu_module *m) {
  return PU_CONTAINER_OF(m, identify, base);
}

static pu_list *bucket_of(identify *m, const pu_conn *c) {
  return &m->conns[c->id % BUCKETS];
}

static told_conn *find_conn(identify *m, const pu_conn *c) {
  PU_LIST_EACH(bucket_of(m, c), node, tmp) {
    told_conn *t = PU_CONTAINER_OF(node, told_conn, link);
    if (t->conn == c)
      return t;
  }
  return NULL;
}

/* ---- life of an exchange ---- */

/* forget frees |x|; its stream, if any, is nobody's business any more. */
static void forget(exchange *x) {
  identify *m = x->module;
  pu_list_remove(&x->link);
  pu_timer_stop(&x->deadline);
  if (x->conn != NULL && x->conn->ask == x)
    x->conn->ask = NULL;
  if (x->conn != NULL && x->conn->push == x)
    x->conn->push = NULL;
  if (x->kind == PUSH) {
    m->pushing--;
    if (!m->engine->closing && !pu_timer_armed(&m->push))
      (void)pu_timer_after(&m->push, 0); /* others may wait for their turn */
  }
  pu_identify_reader_free(&x->reader);
  pu_free(x->out);
  pu_free(x);
}

static void drop(exchange *x, uint32_t code) {
  pu_stream *s = x->stream;
  forget(x);
  if (s != NULL)
    pu_stream_reset(s, code);
}

static void on_deadline(void *data) {
  drop(data, 0);
}

static void on_end(void *user, pu_stream *s, int status, uint32_t code) {
  exchange *x = user;
  (void)s;
  PU_LOG(&x->module->engine->log, PU_LOG_DEBUG, "identify", "stream ended early: %s (code 0x%x)",
         pu_error_sentence(status), (unsigned)code);
  forget(x);
}

static exchange *begin(identify *m, exchange_kind kind, told_conn *conn) {
  exchange *x = pu_zalloc(&m->engine->mem, sizeof(*x));
  if (x == NULL)
    return NULL;
  x->module = m;
  x->kind = kind;
  x->conn = conn;
  pu_timer_init(&x->deadline, m->engine->platform, on_deadline, x);
  pu_identify_reader_init(&x->reader, &conn->conn->mem);
  pu_list_push(&m->exchanges, &x->link);
  if (kind == PUSH)
    m->pushing++;
  return x;
}

/* ---- what we are ---- */

static bool is_loopback_conn(const pu_conn *c) {
  return pu_multiaddr_is_loopback(&c->info.remote) || pu_multiaddr_is_loopback(&c->info.local);
}

/* own_addrs fills what we announce on a connection: no loopback address unless the connection is
 * one, and no more bytes than |budget|, in which addresses through relays come first: a host behind
 * a NAT has nothing else. */
static size_t own_addrs(pu_engine *e, bool loopback, size_t budget,
                        pu_multiaddr out[static PU_IDENTIFY_MAX_ADDRS]) {
  pu_multiaddr all[PU_ENGINE_ADDRS_MAX];
  bool take[PU_ENGINE_ADDRS_MAX] = {false};
  size_t count = pu_engine_own_addrs(e, all, PU_ENGINE_ADDRS_MAX), taken = 0, n = 0;
  for (int relayed = 1; relayed >= 0; relayed--) {
    for (size_t i = 0; i < count; i++) {
      size_t cost = all[i].len + 8u; /* its field in the longer of message and record */
      if (pu_multiaddr_is_relayed(&all[i]) != (relayed == 1) || cost > budget ||
          taken == PU_IDENTIFY_MAX_ADDRS || (!loopback && pu_multiaddr_is_loopback(&all[i])))
        continue;
      take[i] = true;
      taken++;
      budget -= cost;
    }
  }
  for (size_t i = 0; i < count; i++)
    if (take[i])
      out[n++] = all[i];
  return n;
}

/* sign_record makes the peer record of |addrs|, once per version and kind of connection. */
static int sign_record(identify *m, bool loopback, const pu_multiaddr *addrs, size_t count) {
  if (m->record[loopback] != NULL)
    return 0;
  uint64_t seq = pu_wall_ns(m->engine->platform);
  if (seq <= m->last_seq) /* the wall clock may step back, a record's number may not */
    seq = m->last_seq + 1;
  m->last_seq = seq;
  return pu_identify_record(&m->engine->mem, m->engine->key, addrs, count, seq,
                            &m->record[loopback], &m->record_len[loopback]);
}

/* compose writes what we tell on |t| into |x|. */
static int compose(identify *m, told_conn *t, exchange *x) {
  pu_engine *e = m->engine;
  pu_multiaddr addrs[PU_IDENTIFY_MAX_ADDRS];
  const char *protocols[PU_IDENTIFY_MAX_OWN_PROTOCOLS];
  bool loopback = is_loopback_conn(t->conn);
  pu_identify_own own = {.key = pu_key_public(e->key),
                         .addrs = addrs,
                         .protocols = protocols,
                         .observed = &t->conn->info.remote,
                         .protocol_version = "",
                         .agent_version = e->agent};
  own.protocol_count = pu_engine_protocols(e, protocols, PU_IDENTIFY_MAX_OWN_PROTOCOLS);
  size_t names = 0;
  for (size_t i = 0; i < own.protocol_count; i++)
    names += strlen(protocols[i]) + 3;
  size_t budget =
      names + ADDRS_BUDGET_LEAST < ADDRS_BUDGET ? ADDRS_BUDGET - names : (size_t)ADDRS_BUDGET_LEAST;
  own.addr_count = own_addrs(e, loopback, budget, addrs);
  int rc = sign_record(m, loopback, addrs, own.addr_count);
  if (rc != 0)
    return rc;
  own.record = m->record[loopback];
  own.record_len = m->record_len[loopback];
  rc = pu_identify_encode(&t->conn->mem, &own, &x->out, &x->out_len);
  if (rc == 0)
    t->told = m->version;
  return rc;
}

/* ---- telling ---- */

static void write_more(exchange *x) {
  while (x->out_pos < x->out_len) {
    ssize_t n = pu_stream_write(x->stream, x->out + x->out_pos, x->out_len - x->out_pos);
    if (n < 0) {
      drop(x, 0);
      return;
    }
    if (n == 0)
      return;
    x->out_pos += (size_t)n;
  }
  pu_stream *s = x->stream;
  forget(x);
  pu_stream_close(s);
}

static void on_tell_writable(void *user, pu_stream *s) {
  (void)s;
  write_more(user);
}

static size_t on_tell_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  (void)user;
  (void)s;
  (void)data;
  (void)head;
  (void)tail;
  return len; /* nothing is expected from this side: let it go */
}

static const pu_stream_events tell_events = {on_tell_data, NULL, on_tell_writable, on_end};

/* tell begins to write on a stream that stands; false when there is nothing to write with, and |x|
 * is gone. */
static bool tell(exchange *x, pu_stream *s) {
  int rc = compose(x->module, x->conn, x);
  if (rc == 0)
    rc = pu_timer_after(&x->deadline, (uint64_t)PU_IDENTIFY_TIMEOUT_MS * 1000);
  if (rc != 0) {
    PU_LOG(&x->module->engine->log, PU_LOG_WARN, "identify", "cannot tell who we are: %s",
           pu_error_sentence(rc));
    forget(x);
    return false;
  }
  x->stream = s;
  pu_stream_set_events(s, &tell_events, x);
  write_more(x);
  return true;
}

static int on_asked(void *data, pu_stream *s) {
  identify *m = data;
  told_conn *t = find_conn(m, pu_stream_conn(s));
  exchange *x = t == NULL ? NULL : begin(m, TELL, t);
  return x != NULL && tell(x, s) ? 0 : PU_E_NOMEM;
}

/* ---- hearing ---- */

static void copy_text(char *out, size_t cap, const pu_identify_field *in) {
  size_t n = in->len < cap - 1 ? in->len : cap - 1;
  for (size_t i = 0; i < n; i++) /* people will read it: one line of visible text */
    out[i] = in->data[i] < 0x20 || in->data[i] == 0x7f ? '?' : (char)in->data[i];
  out[n] = '\0';
}

static int store_protocols(pu_engine *e, pu_conn *c, const pu_identify *info) {
  pu_identify_field rest = info->all, name;
  size_t len = 0, count = 0;
  char *joined = pu_alloc(&c->mem, PU_PEERSTORE_PROTOCOL_BYTES);
  if (joined == NULL)
    return PU_E_NOMEM;
  while (count < PU_PEERSTORE_PROTOCOLS_MAX &&
         pu_identify_next(&rest, PU_IDENTIFY_PROTOCOLS, &name)) {
    if (name.len == 0 || name.len >= PU_PEERSTORE_PROTOCOL_BYTES - len ||
        memchr(name.data, '\0', name.len) != NULL)
      continue;
    memcpy(joined + len, name.data, name.len);
    joined[len + name.len] = '\0';
    len += name.len + 1;
    count++;
  }
  int rc = pu_peerstore_set_protocols(e->peerstore, &c->peer, joined, len);
  pu_free(joined);
  return rc;
}

static int store_addrs(pu_engine *e, pu_conn *c, const pu_identify *info) {
  pu_multiaddr addrs[PU_IDENTIFY_MAX_ADDRS];
  size_t count =
      pu_identify_addrs(&c->mem, info, &c->peer, &c->info.remote, addrs, PU_COUNT(addrs));
  pu_peerstore_drop_identified(e->peerstore, &c->peer);
  for (size_t i = 0; i < count; i++) {
    int rc = pu_peerstore_add_addr(e->peerstore, &c->peer, &addrs[i], PU_PEERSTORE_FOREVER, true);
    if (rc != 0 && rc != PU_E_LIMIT)
      return rc;
  }
  return 0;
}

static void check_key(pu_engine *e, const pu_conn *c, const pu_identify *info) {
  pu_public_key key;
  pu_peer_id id;
  if (info->public_key.data == NULL)
    return;
  if (pu_public_key_parse(info->public_key.data, info->public_key.len, &key) == 0) {
    pu_public_key_peer_id(&key, &id);
    if (pu_peer_id_equal(&id, &c->peer))
      return;
  }
  PU_LOG(&e->log, PU_LOG_WARN, "identify", "%s tells a key that is not its own", c->addr);
}

/* apply stores what the peer told and tells everybody of it. */
static void apply(pu_conn *c, const pu_identify *info) {
  pu_engine *e = c->engine;
  pu_peer *peer;
  check_key(e, c, info);
  int rc = pu_peerstore_get(e->peerstore, &c->peer, &peer);
  if (rc == 0) {
    copy_text(peer->agent, sizeof(peer->agent), &info->agent_version);
    rc = store_protocols(e, c, info);
  }
  if (rc == 0)
    rc = store_addrs(e, c, info);
  if (rc != 0) {
    PU_LOG(&e->log, PU_LOG_WARN, "identify", "cannot keep what %s tells: %s", c->addr,
           pu_error_sentence(rc));
    return;
  }
  c->identified = true;
  pu_conn_enter(c);
  pu_engine_emit(e, PU_EVENT_IDENTIFIED, c, &c->peer, NULL, 0, "");
  PU_LIST_EACH(&e->modules, node, tmp) {
    pu_module *m = PU_CONTAINER_OF(node, pu_module, link);
    if (!c->closed && m->ops->on_identified != NULL)
      m->ops->on_identified(m, c);
  }
  pu_conn_leave(c);
}

static size_t on_hear_data(void *user, pu_stream *s, uint8_t *data, size_t len, size_t head,
                           size_t tail) {
  exchange *x = user;
  (void)s;
  (void)head;
  (void)tail;
  int rc = pu_identify_reader_feed(&x->reader, data, len);
  if (rc != 0) {
    PU_LOG(&x->module->engine->log, PU_LOG_INFO, "identify", "what %s tells is refused: %s",
           x->conn->conn->addr, pu_error_sentence(rc));
    drop(x, CODE_VIOLATION);
  }
  return len;
}

static void on_hear_eof(void *user, pu_stream *s) {
  exchange *x = user;
  pu_conn *c = x->conn->conn;
  pu_identify info;
  int rc = pu_identify_reader_end(&x->reader, &info);
  if (rc != 0) {
    PU_LOG(&c->engine->log, PU_LOG_INFO, "identify", "what %s tells is malformed", c->addr);
    drop(x, CODE_VIOLATION);
    return;
  }
  /* The application may end anything in apply: take what it reads out of the exchange first. */
  pu_identify_reader reader = x->reader;
  pu_identify_reader_init(&x->reader, reader.mem);
  forget(x);
  pu_conn_enter(c);
  pu_stream_close(s);
  if (!c->closed)
    apply(c, &info);
  pu_identify_reader_free(&reader);
  pu_conn_leave(c);
}

static const pu_stream_events hear_events = {on_hear_data, on_hear_eof, NULL, on_end};

static bool hear(exchange *x, pu_stream *s) {
  if (pu_timer_after(&x->deadline, (uint64_t)PU_IDENTIFY_TIMEOUT_MS * 1000) != 0) {
    forget(x);
    return false;
  }
  x->stream = s;
  pu_stream_set_events(s, &hear_events, x);
  return true;
}

/* network_of is what pushes are counted by: an IPv4 /24 or IPv6 /48; 0: not counted. */
static uint64_t network_of(const pu_conn *c) {
  pu_ma_component first;
  size_t pos = 0;
  uint64_t network = 0;
  if (pu_multiaddr_is_loopback(&c->info.remote) ||
      !pu_multiaddr_next(&c->info.remote, &pos, &first))
    return 0;
  size_t bytes = first.code == PU_MA_IP4 ? 3 : 6;
  if (first.code != PU_MA_IP4 && first.code != PU_MA_IP6)
    return pu_peer_id_hash(&c->peer, c->engine->table_seed) | 1;
  for (size_t i = 0; i < bytes; i++)
    network = network << 8 | first.value[i];
  return network << 8 | first.code;
}

/* may_push counts a push against its network. The table keeps those that pushed last. */
static bool may_push(identify *m, const pu_conn *c) {
  uint64_t now = pu_now_us(m->engine->platform), network = network_of(c);
  push_limit *l = &m->limits[0];
  if (network == 0)
    return true;
  for (size_t i = 0; i < LIMITS; i++) {
    if (m->limits[i].network == network) {
      l = &m->limits[i];
      break;
    }
    if (m->limits[i].due_us < l->due_us)
      l = &m->limits[i];
  }
  if (l->network != network)
    *l = (push_limit){.network = network};
  if (l->due_us < now)
    l->due_us = now;
  if (l->due_us - now > (uint64_t)(PU_IDENTIFY_PUSH_BURST - 1) * PU_IDENTIFY_PUSH_PERIOD_US)
    return false;
  l->due_us += PU_IDENTIFY_PUSH_PERIOD_US;
  return true;
}

static int on_pushed(void *data, pu_stream *s) {
  identify *m = data;
  told_conn *t = find_conn(m, pu_stream_conn(s));
  if (t == NULL)
    return PU_E_CLOSED;
  if (!may_push(m, t->conn)) {
    pu_stream_reset(s, CODE_RATE_LIMITED);
    return 0;
  }
  exchange *x = begin(m, HEAR, t);
  return x != NULL && hear(x, s) ? 0 : PU_E_NOMEM;
}

/* ---- opening ---- */

static void on_opened(void *data, int status, const pu_error *err, pu_stream *s) {
  exchange *x = data;
  x->op = NULL;
  if (status != 0) {
    PU_LOG(&x->module->engine->log, PU_LOG_DEBUG, "identify", "no stream: %s (%s)",
           pu_error_sentence(status), err->detail);
    forget(x);
    return;
  }
  if (x->conn == NULL) { /* it ended in the same turn */
    forget(x);
    pu_stream_reset(s, 0);
    return;
  }
  if (!(x->kind == ASK ? hear(x, s) : tell(x, s)))
    pu_stream_reset(s, 0);
}

static exchange *open_exchange(identify *m, exchange_kind kind, told_conn *t) {
  const char *protocol = kind == ASK ? PU_IDENTIFY_ID : PU_IDENTIFY_PUSH_ID;
  exchange *x = begin(m, kind, t);
  if (x == NULL)
    return NULL;
  int rc =
      pu_conn_open_stream(t->conn, &protocol, 1, PU_OPEN_LIMITED | PU_OPEN_NO_DIAL | PU_OPEN_LAZY,
                          PU_IDENTIFY_TIMEOUT_MS, on_opened, x, &x->op);
  if (rc == 0)
    return x;
  PU_LOG(&m->engine->log, PU_LOG_DEBUG, "identify", "no stream: %s", pu_error_sentence(rc));
  forget(x);
  return NULL;
}

/* on_push_time pushes to those who know an older version, a few at a time. */
static void on_push_time(void *data) {
  identify *m = data;
  pu_engine *e = m->engine;
  for (size_t i = 0; i < BUCKETS; i++) {
    PU_LIST_EACH(&m->conns[i], node, tmp) {
      told_conn *t = PU_CONTAINER_OF(node, told_conn, link);
      if (t->told == 0 || t->told == m->version || t->push != NULL || t->conn->closed)
        continue;
      if (m->pushing >= PU_IDENTIFY_PUSHES_MAX)
        return;             /* the end of one is the next one's turn */
      t->told = m->version; /* also if it fails: it is not tried again for the same news */
      if (pu_peerstore_speaks(e->peerstore, &t->conn->peer, PU_IDENTIFY_PUSH_ID) != 0)
        t->push = open_exchange(m, PUSH, t);
    }
  }
}

/* ---- the module ---- */

static void on_conn_open(pu_module *base, pu_conn *c) {
  identify *m = module_of(base);
  told_conn *t = pu_zalloc(&m->engine->mem, sizeof(*t));
  if (t == NULL)
    return; /* the peer stays unidentified */
  t->conn = c;
  pu_list_push(bucket_of(m, c), &t->link);
  t->ask = open_exchange(m, ASK, t);
}

static bool has_other_conn(const pu_conn *c) {
  PU_LIST_EACH(&c->engine->conns, node, tmp) {
    const pu_conn *other = PU_CONTAINER_OF(node, pu_conn, link);
    if (other != c && other->open && !other->closed && pu_peer_id_equal(&other->peer, &c->peer))
      return true;
  }
  return false;
}

/* age_addrs gives the addresses of a peer that is gone an end. */
static void age_addrs(pu_engine *e, const pu_peer_id *id) {
  uint64_t end = pu_now_us(e->platform) + (uint64_t)PU_IDENTIFY_ADDR_TTL_S * 1000000;
  pu_peerstore_age_identified(e->peerstore, id, end);
}

static void on_conn_close(pu_module *base, pu_conn *c) {
  identify *m = module_of(base);
  told_conn *t = find_conn(m, c);
  if (t != NULL) {
    /* Streams have ended; only what is still being opened knows of the connection. */
    if (t->ask != NULL)
      t->ask->conn = NULL;
    if (t->push != NULL)
      t->push->conn = NULL;
    pu_list_remove(&t->link);
    pu_free(t);
  }
  if (!has_other_conn(c))
    age_addrs(m->engine, &c->peer);
}

static void forget_records(identify *m) {
  for (size_t i = 0; i < PU_COUNT(m->record); i++) {
    pu_free(m->record[i]);
    m->record[i] = NULL;
  }
}

static void on_self_changed(pu_module *base) {
  identify *m = module_of(base);
  m->version++;
  forget_records(m);
  if (!m->engine->closing)
    (void)pu_timer_after(&m->push, (uint64_t)PU_IDENTIFY_PUSH_DELAY_MS * 1000);
}

static void on_close(pu_module *base) {
  pu_timer_stop(&module_of(base)->push);
}

static void free_module(pu_module *base) {
  identify *m = module_of(base);
  pu_timer_stop(&m->push);
  PU_ASSERT(pu_list_empty(&m->exchanges));
  forget_records(m);
  m->engine->identify = NULL;
  pu_free(m);
}

static const pu_module_ops identify_ops = {
    .on_conn_open = on_conn_open,
    .on_conn_close = on_conn_close,
    .on_self_changed = on_self_changed,
    .on_close = on_close,
    .free = free_module,
};

int pu_identify_start(pu_engine *e) {
  identify *m = pu_zalloc(&e->mem, sizeof(*m));
  if (m == NULL)
    return PU_E_NOMEM;
  m->base.ops = &identify_ops;
  m->engine = e;
  m->version = 1;
  for (size_t i = 0; i < BUCKETS; i++)
    pu_list_init(&m->conns[i]);
  pu_list_init(&m->exchanges);
  pu_timer_init(&m->push, e->platform, on_push_time, m);
  int rc = pu_engine_serve(e, PU_IDENTIFY_ID, on_asked, m);
  if (rc == 0)
    rc = pu_engine_serve(e, PU_IDENTIFY_PUSH_ID, on_pushed, m);
  if (rc != 0) {
    pu_engine_unserve(e, PU_IDENTIFY_ID);
    pu_free(m);
    return rc;
  }
  e->identify = &m->base;
  pu_engine_add_module(e, &m->base);
  return 0;
}
