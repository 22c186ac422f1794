/* Messages of circuit relay v2; see relay_message.h. Fields (hop / stop): type 1 / 1, peer 2 / 2,
 * reservation 3 / -, limit 4 / 3, status 5 / 4. Repeated embedded messages merge, as Go does. */
#include "protocols/relay_message.h"
#include "base/pb.h"
#include "base/varint.h"
#include <string.h>

#define PEER_FIELDS_MAX 128u /* bytes of a Peer message that we write */

/* Which field is which; 0: not in this protocol. */
typedef struct layout {
  unsigned reservation, limit, status;
} layout;

static const layout layouts[2] = {{3, 4, 5}, {0, 3, 4}};

const char *pu_relay_status_name(uint32_t status) {
  switch (status) {
#define XX(name, number)                                                                           \
  case number:                                                                                     \
    return #name;
    PU_RELAY_STATUS_MAP(XX)
#undef XX
  default:
    return "unknown status";
  }
}

int pu_relay_status_error(uint32_t status) {
  switch (status) {
  case PU_RELAY_RESERVATION_REFUSED:
  case PU_RELAY_RESOURCE_LIMIT_EXCEEDED:
    return PU_E_RELAY_LIMIT;
  case PU_RELAY_PERMISSION_DENIED:
    return PU_E_DENIED;
  case PU_RELAY_NO_RESERVATION:
    return PU_E_NO_RESERVATION;
  case PU_RELAY_CONNECTION_FAILED:
    return PU_E_UNREACHABLE;
  default:
    return PU_E_RELAY_REFUSED;
  }
}

/* ---- reading ---- */

static int decode_peer(pu_relay_message *m, const uint8_t *in, size_t len) {
  pu_pb_field f;
  int rc;
  m->has_peer = true;
  while ((rc = pu_pb_next(&in, &len, &f)) == 1)
    if (f.number == 1 && f.wire == PU_PB_BYTES)
      m->peer = (pu_relay_bytes){f.data, f.len};
  return rc;
}

static int decode_reservation(pu_relay_message *m, const uint8_t *in, size_t len) {
  pu_pb_field f;
  int rc;
  m->has_reservation = true;
  while ((rc = pu_pb_next(&in, &len, &f)) == 1) {
    if (f.number == 1 && f.wire == PU_PB_VARINT)
      m->expire = f.value;
    else if (f.number == 2 && f.wire == PU_PB_BYTES && m->addr_count < PU_RELAY_ADDRS_MAX)
      m->addrs[m->addr_count++] = (pu_relay_bytes){f.data, f.len};
    else if (f.number == 3 && f.wire == PU_PB_BYTES)
      m->voucher = (pu_relay_bytes){f.data, f.len};
  }
  return rc;
}

static int decode_limit(pu_relay_message *m, const uint8_t *in, size_t len) {
  pu_pb_field f;
  int rc;
  m->has_limit = true;
  while ((rc = pu_pb_next(&in, &len, &f)) == 1) {
    if (f.number == 1 && f.wire == PU_PB_VARINT)
      m->limit_duration_s = (uint32_t)f.value;
    else if (f.number == 2 && f.wire == PU_PB_VARINT)
      m->limit_data_bytes = f.value;
  }
  return rc;
}

int pu_relay_decode(bool stop, const uint8_t *in, size_t len, pu_relay_message *out) {
  const layout *l = &layouts[stop];
  pu_relay_message m = {.stop = stop, .type = stop ? PU_RELAY_CONNECT : PU_RELAY_RESERVE};
  pu_pb_field f;
  int rc;
  while ((rc = pu_pb_next(&in, &len, &f)) == 1) {
    int status = 0;
    if (f.number == 1 && f.wire == PU_PB_VARINT)
      m.type = (uint32_t)f.value + (stop ? PU_RELAY_CONNECT : PU_RELAY_RESERVE);
    else if (f.number == 2 && f.wire == PU_PB_BYTES)
      status = decode_peer(&m, f.data, f.len);
    else if (f.number == l->reservation && f.wire == PU_PB_BYTES)
      status = decode_reservation(&m, f.data, f.len);
    else if (f.number == l->limit && f.wire == PU_PB_BYTES)
      status = decode_limit(&m, f.data, f.len);
    else if (f.number == l->status && f.wire == PU_PB_VARINT) {
      m.has_status = true;
      m.status = (uint32_t)f.value;
    }
    if (status < 0)
      return status;
  }
  if (rc < 0)
    return rc;
  *out = m;
  return 0;
}

/* ---- writing ---- */

typedef struct writer {
  uint8_t *at, *end;
  bool full;
} writer;

static void put_number(writer *w, unsigned number, uint64_t value) {
  if (w->full || (size_t)(w->end - w->at) < 1 + PU_PB_VARINT_MAX_BYTES) {
    w->full = true;
    return;
  }
  *w->at++ = (uint8_t)(number << 3 | PU_PB_VARINT);
  w->at += pu_pb_put_varint(w->at, value);
}

static void put_bytes(writer *w, unsigned number, const void *data, size_t len) {
  if (w->full || (size_t)(w->end - w->at) < pu_pb_bytes_size(len)) {
    w->full = true;
    return;
  }
  w->at += pu_pb_put_bytes(w->at, number, data, len);
}

static void put_peer(writer *w, const pu_relay_message *m) {
  uint8_t memory[PEER_FIELDS_MAX];
  writer inner = {memory, memory + sizeof memory, false};
  put_bytes(&inner, 1, m->peer.data, m->peer.len);
  w->full = w->full || inner.full;
  put_bytes(w, 2, memory, (size_t)(inner.at - memory));
}

static void put_reservation(writer *w, unsigned number, const pu_relay_message *m) {
  uint8_t memory[PU_RELAY_MESSAGE_MAX];
  writer inner = {memory, memory + sizeof memory, false};
  put_number(&inner, 1, m->expire);
  for (size_t i = 0; i < m->addr_count; i++)
    put_bytes(&inner, 2, m->addrs[i].data, m->addrs[i].len);
  if (m->voucher.len > 0)
    put_bytes(&inner, 3, m->voucher.data, m->voucher.len);
  w->full = w->full || inner.full;
  put_bytes(w, number, memory, (size_t)(inner.at - memory));
}

static void put_limit(writer *w, unsigned number, const pu_relay_message *m) {
  uint8_t memory[32];
  writer inner = {memory, memory + sizeof memory, false};
  if (m->limit_duration_s != 0)
    put_number(&inner, 1, m->limit_duration_s);
  if (m->limit_data_bytes != 0)
    put_number(&inner, 2, m->limit_data_bytes);
  w->full = w->full || inner.full;
  put_bytes(w, number, memory, (size_t)(inner.at - memory));
}

ssize_t pu_relay_encode(const pu_relay_message *m, uint8_t *out, size_t cap) {
  const layout *l = &layouts[m->stop];
  uint8_t memory[PU_RELAY_MESSAGE_MAX];
  writer w = {memory, memory + sizeof memory, false};
  put_number(&w, 1, m->type - (m->stop ? PU_RELAY_CONNECT : PU_RELAY_RESERVE));
  if (m->has_peer)
    put_peer(&w, m);
  if (m->has_reservation && l->reservation != 0)
    put_reservation(&w, l->reservation, m);
  if (m->has_limit)
    put_limit(&w, l->limit, m);
  if (m->has_status)
    put_number(&w, l->status, m->status);
  const size_t len = (size_t)(w.at - memory);
  if (w.full || pu_varint_size(len) + len > cap)
    return PU_E_LIMIT;
  const size_t prefix = pu_varint_put(out, len);
  memcpy(out + prefix, memory, len);
  return (ssize_t)(prefix + len);
}

/* ---- from a stream ---- */

ssize_t pu_relay_reader_feed(pu_relay_reader *r, const uint8_t *in, size_t len, bool *done) {
  size_t used = 0;
  *done = false;
  while (used < len && r->size == 0) {
    uint64_t size;
    r->bytes[r->len++] = in[used++];
    ssize_t n = pu_varint_get(r->bytes, r->len, &size);
    if (n < 0)
      return n;
    if (n > 0) {
      if (size > PU_RELAY_MESSAGE_MAX)
        return PU_E_LIMIT;
      r->size = (size_t)n + (size_t)size;
    } else if (r->len >= 2) {
      return PU_E_LIMIT; /* a length of three bytes is above the bound */
    }
  }
  if (r->size != 0) {
    size_t n = r->size - r->len;
    if (n > len - used)
      n = len - used;
    memcpy(r->bytes + r->len, in + used, n);
    r->len += n;
    used += n;
    *done = r->len == r->size;
  }
  return (ssize_t)used;
}

int pu_relay_reader_decode(const pu_relay_reader *r, bool stop, pu_relay_message *out) {
  uint64_t size;
  ssize_t n = pu_varint_get(r->bytes, r->len, &size);
  return n <= 0 ? PU_E_PARSE
                : pu_relay_decode(stop, r->bytes + n, r->size - (size_t)n, out);
}
