/* Fuzzes identity/envelope: envelopes as they come, and records and vouchers behind them. */
#include "base/mem.h"
#include "identity/envelope.h"
#include "platform/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(const uint8_t *part, size_t len, const uint8_t *data, size_t size) {
  return len == 0 || (part >= data && part + len <= data + size);
}

static void record(const uint8_t *data, size_t size) {
  pu_peer_record r, again;
  if (pu_peer_record_decode(data, size, &r) != 0)
    return;
  for (size_t i = 0; i < r.addr_count; i++)
    PU_ASSERT(within(r.addrs[i].data, r.addrs[i].len, data, size));
  pu_mem mem;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  uint8_t *bytes;
  size_t len;
  if (pu_peer_record_encode(&mem, &r, &bytes, &len) == 0) {
    PU_ASSERT(pu_peer_record_decode(bytes, len, &again) == 0);
    PU_ASSERT(again.seq == r.seq && again.addr_count == r.addr_count);
    PU_ASSERT(pu_peer_id_equal(&again.peer, &r.peer));
    pu_free(bytes);
  }
  pu_mem_deinit(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t type[2] = {0x03, 0x01};
  pu_mem mem;
  pu_envelope e;
  pu_voucher v;
  pu_mem_init(&mem, NULL, PU_MEM_UNLIMITED);
  if (pu_envelope_open(&mem, PU_ENVELOPE_PEER_RECORD_DOMAIN, type, data, size, &e) == 0) {
    PU_ASSERT(within(e.payload, e.payload_len, data, size));
    record(e.payload, e.payload_len);
  }
  pu_mem_deinit(&mem);
  if (pu_voucher_decode(data, size, &v) == 0)
    PU_ASSERT(v.relay.len >= 2 && v.peer.len >= 2);
  record(data, size);
  return 0;
}
