/* Identify's messages, see identify_message.h and wire 11.
 *
 * Merging messages is, by protobuf's own rules, the same as reading them one behind the other:
 * lists add up, the last of a single field wins. So the reader only takes the lengths out. Fields
 * are read where they lie, since a stranger's message may hold thousands of tiny ones. */
#include "protocols/identify_message.h"

#include <string.h>

#include "base/pb.h"
#include "protocols/identify.pb-c.h"

#define READER_START 1024u
#define LENGTH_MAX 2u /* bytes of a length up to PU_IDENTIFY_MAX_MESSAGE */

enum {
  FIELD_PUBLIC_KEY = 1,
  FIELD_OBSERVED = 4,
  FIELD_PROTOCOL_VERSION = 5,
  FIELD_AGENT_VERSION = 6,
  FIELD_RECORD = 8
};

static const uint8_t RECORD_TYPE[2] = {0x03, 0x01};

/* ---- what we tell ---- */

/* binary points a field at borrowed bytes; protobuf-c's structs have no const, packing changes
 * nothing. */
static ProtobufCBinaryData binary(const void *data, size_t len) {
  return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

/* append packs one message behind its length to |*out|. */
static int append(pu_mem *mem, const Pu__Identify__Identify *m, uint8_t **out, size_t *out_len) {
  uint8_t *part;
  size_t part_len;
  if (pu__identify__identify__get_packed_size(m) > PU_IDENTIFY_MAX_MESSAGE)
    return PU_E_LIMIT;
  int rc = pu_pb_pack_delimited(mem, &m->base, &part, &part_len);
  if (rc != 0)
    return rc;
  uint8_t *all = pu_realloc(mem, *out, *out_len + part_len);
  if (all == NULL) {
    pu_free(part);
    return PU_E_NOMEM;
  }
  memcpy(all + *out_len, part, part_len);
  pu_free(part);
  *out = all;
  *out_len += part_len;
  return 0;
}

int pu_identify_encode(pu_mem *mem, const pu_identify_own *own, uint8_t **out, size_t *out_len) {
  ProtobufCBinaryData addrs[PU_IDENTIFY_MAX_ADDRS];
  ProtobufCBinaryData protocols[PU_IDENTIFY_MAX_OWN_PROTOCOLS];
  if (own->addr_count > PU_IDENTIFY_MAX_ADDRS ||
      own->protocol_count > PU_IDENTIFY_MAX_OWN_PROTOCOLS)
    return PU_E_INVAL;
  for (size_t i = 0; i < own->addr_count; i++)
    addrs[i] = binary(own->addrs[i].bytes, own->addrs[i].len);
  for (size_t i = 0; i < own->protocol_count; i++)
    protocols[i] = binary(own->protocols[i], strlen(own->protocols[i]));
  Pu__Identify__Identify m = PU__IDENTIFY__IDENTIFY__INIT;
  m.has_public_key = true;
  m.public_key = binary(own->key->protobuf, own->key->len);
  m.n_listen_addrs = own->addr_count;
  m.listen_addrs = addrs;
  m.n_protocols = own->protocol_count;
  m.protocols = protocols;
  m.has_observed_addr = own->observed != NULL && own->observed->len > 0;
  if (m.has_observed_addr)
    m.observed_addr = binary(own->observed->bytes, own->observed->len);
  m.has_protocol_version = m.has_agent_version = true; /* also when empty, as the Go program does */
  m.protocol_version = binary(own->protocol_version, strlen(own->protocol_version));
  m.agent_version = binary(own->agent_version, strlen(own->agent_version));
  Pu__Identify__Identify second = PU__IDENTIFY__IDENTIFY__INIT;
  m.has_signed_peer_record = own->record != NULL;
  if (own->record != NULL)
    m.signed_peer_record = binary(own->record, own->record_len);
  bool split =
      own->record != NULL && pu__identify__identify__get_packed_size(&m) > PU_IDENTIFY_SPLIT;
  if (split) {
    m.has_signed_peer_record = false;
    second.has_signed_peer_record = true;
    second.signed_peer_record = m.signed_peer_record;
  }
  uint8_t *bytes = NULL;
  size_t len = 0;
  int rc = append(mem, &m, &bytes, &len);
  if (rc == 0 && split)
    rc = append(mem, &second, &bytes, &len);
  if (rc != 0) {
    pu_free(bytes);
    return rc;
  }
  *out = bytes;
  *out_len = len;
  return 0;
}

int pu_identify_record(pu_mem *mem, const pu_key *key, const pu_multiaddr *addrs, size_t addr_count,
                       uint64_t seq, uint8_t **out, size_t *out_len) {
  pu_peer_record record = {.peer = *pu_key_peer_id(key), .seq = seq};
  uint8_t *payload;
  size_t payload_len;
  if (addr_count > PU_PEER_RECORD_MAX_ADDRS)
    return PU_E_INVAL;
  for (record.addr_count = 0; record.addr_count < addr_count; record.addr_count++) {
    record.addrs[record.addr_count].data = addrs[record.addr_count].bytes;
    record.addrs[record.addr_count].len = addrs[record.addr_count].len;
  }
  int rc = pu_peer_record_encode(mem, &record, &payload, &payload_len);
  if (rc != 0)
    return rc;
  rc = pu_envelope_seal(mem, key, PU_ENVELOPE_PEER_RECORD_DOMAIN, RECORD_TYPE, payload, payload_len,
                        out, out_len);
  pu_free(payload);
  return rc;
}

/* ---- what a peer tells ---- */

static pu_identify_field field_of(const pu_pb_field *f) {
  return (pu_identify_field){f->data, f->len};
}

bool pu_identify_next(pu_identify_field *rest, pu_identify_list list, pu_identify_field *out) {
  pu_pb_field f;
  while (pu_pb_next(&rest->data, &rest->len, &f) > 0) {
    if (f.number == (uint32_t)list && f.wire == PU_PB_BYTES) {
      *out = field_of(&f);
      return true;
    }
  }
  return false;
}

static int decode(const uint8_t *in, size_t len, pu_identify *out) {
  pu_identify m = {.all = {in, len}};
  pu_pb_field f;
  int rc;
  while ((rc = pu_pb_next(&in, &len, &f)) > 0) {
    if (f.wire != PU_PB_BYTES)
      continue;
    switch (f.number) {
    case FIELD_PUBLIC_KEY:
      m.public_key = field_of(&f);
      break;
    case PU_IDENTIFY_ADDRS:
      m.addr_count++;
      break;
    case PU_IDENTIFY_PROTOCOLS:
      m.protocol_count++;
      break;
    case FIELD_OBSERVED:
      m.observed = field_of(&f);
      break;
    case FIELD_PROTOCOL_VERSION:
      m.protocol_version = field_of(&f);
      break;
    case FIELD_AGENT_VERSION:
      m.agent_version = field_of(&f);
      break;
    case FIELD_RECORD:
      m.record = field_of(&f);
      break;
    default:
      break;
    }
  }
  if (rc == 0)
    *out = m;
  return rc;
}

void pu_identify_reader_init(pu_identify_reader *r, pu_mem *mem) {
  *r = (pu_identify_reader){.mem = mem};
}

void pu_identify_reader_free(pu_identify_reader *r) {
  pu_free(r->bytes);
  r->bytes = NULL;
  r->len = r->cap = r->done = 0;
}

static int reserve(pu_identify_reader *r, size_t more) {
  if (more <= r->cap - r->len)
    return 0;
  size_t cap = r->cap == 0 ? READER_START : r->cap;
  while (cap - r->len < more)
    cap *= 2;
  uint8_t *bytes = pu_realloc(r->mem, r->bytes, cap);
  if (bytes == NULL)
    return PU_E_NOMEM;
  r->bytes = bytes;
  r->cap = cap;
  return 0;
}

/* take_message moves a complete message, if there is one, behind those that are done. */
static ssize_t take_message(pu_identify_reader *r) {
  const uint8_t *msg;
  size_t msg_len;
  ssize_t used = pu_pb_delimited(r->bytes + r->done, r->len - r->done, PU_IDENTIFY_MAX_MESSAGE,
                                 &msg, &msg_len);
  if (used <= 0)
    return used;
  if (r->parts == PU_IDENTIFY_MAX_PARTS)
    return PU_E_LIMIT;
  r->parts++;
  memmove(r->bytes + r->done, msg, r->len - (size_t)(msg - r->bytes));
  r->len -= (size_t)used - msg_len;
  r->done += msg_len;
  return used;
}

int pu_identify_reader_feed(pu_identify_reader *r, const uint8_t *in, size_t len) {
  while (len > 0) {
    /* Never more than one message at a time, so that what waits is bounded whatever comes. */
    size_t n = PU_IDENTIFY_MAX_MESSAGE + LENGTH_MAX - (r->len - r->done);
    n = n < len ? n : len;
    int rc = reserve(r, n);
    if (rc != 0)
      return rc;
    memcpy(r->bytes + r->len, in, n);
    r->len += n;
    in += n;
    len -= n;
    ssize_t used;
    while (r->done < r->len && (used = take_message(r)) != 0) {
      if (used < 0)
        return (int)used;
    }
  }
  return 0;
}

int pu_identify_reader_end(const pu_identify_reader *r, pu_identify *out) {
  if (r->parts == 0 || r->done != r->len)
    return PU_E_PARSE;
  return decode(r->bytes, r->done, out);
}

/* ---- whose addresses ---- */

/* wanted says whether an address that came over a connection to |remote| is of use. */
static bool wanted(const pu_multiaddr *addr, const pu_multiaddr *remote) {
  if (pu_multiaddr_is_loopback(remote))
    return true;
  if (pu_multiaddr_is_private(remote))
    return !pu_multiaddr_is_loopback(addr);
  return !pu_multiaddr_is_public(remote) || pu_multiaddr_is_public(addr);
}

typedef struct picker {
  const pu_peer_id *peer;
  const pu_multiaddr *remote;
  pu_multiaddr *out;
  size_t count, max;
} picker;

static void pick(picker *p, const uint8_t *bytes, size_t len) {
  pu_multiaddr a;
  pu_ma_target target;
  if (p->count == p->max || pu_multiaddr_from_bytes(bytes, len, &a) != 0 || !wanted(&a, p->remote))
    return;
  pu_multiaddr_target(&a, &target);
  if (target.peer.len != 0 && !pu_peer_id_equal(&target.peer, p->peer))
    return;
  p->out[p->count++] = a;
}

size_t pu_identify_addrs(pu_mem *mem, const pu_identify *m, const pu_peer_id *peer,
                         const pu_multiaddr *remote, pu_multiaddr *out, size_t max) {
  picker p = {.peer = peer, .remote = remote, .out = out, .max = max};
  pu_envelope envelope;
  pu_peer_record record;
  if (m->record.data != NULL &&
      pu_envelope_open(mem, PU_ENVELOPE_PEER_RECORD_DOMAIN, RECORD_TYPE, m->record.data,
                       m->record.len, &envelope) == 0 &&
      pu_peer_record_decode(envelope.payload, envelope.payload_len, &record) == 0) {
    if (pu_peer_id_equal(&envelope.signer, peer) && pu_peer_id_equal(&record.peer, peer)) {
      for (size_t i = 0; i < record.addr_count; i++)
        pick(&p, record.addrs[i].data, record.addrs[i].len);
    }
    return p.count;
  }
  pu_identify_field rest = m->all, addr;
  while (pu_identify_next(&rest, PU_IDENTIFY_ADDRS, &addr))
    pick(&p, addr.data, addr.len);
  return p.count;
}
