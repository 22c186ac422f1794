/* The table of multiaddr protocols and how each value is written and checked (wire 3). multiaddr.c
 * walks components and asks here about each one. */
#ifndef PU_MULTIADDR_PROTOCOLS_H
#define PU_MULTIADDR_PROTOCOLS_H

#include "multiaddr/multiaddr.h"

#define PU_MA_SIZE_VAR (-1) /* a varint length stands before the value */

typedef struct pu_ma_protocol {
  uint32_t code;
  const char *name;
  int size;     /* of the value in bytes; 0: no value; PU_MA_SIZE_VAR */
  bool is_path; /* takes the rest of the text, slashes included, and ends the address */
  /* from_text reads |len| letters into |out|, returns the bytes, PU_E_PARSE, PU_E_LIMIT. The result
   * goes through |check| too. NULL without a value. */
  ssize_t (*from_text)(const char *text, size_t len, uint8_t *out, size_t cap);
  /* check refuses bytes that are no value; |len| is right for fixed sizes. May be NULL: any. */
  bool (*check)(const uint8_t *value, size_t len);
  /* to_text writes text without NUL, returns its length, PU_E_LIMIT when |cap| is short. */
  ssize_t (*to_text)(const uint8_t *value, size_t len, char *out, size_t cap);
} pu_ma_protocol;

/* Both return NULL when unknown. */
const pu_ma_protocol *pu_ma_protocol_by_code(uint64_t code);
const pu_ma_protocol *pu_ma_protocol_by_name(const char *name, size_t len);

#endif
