/* What every unit test includes: cmocka with its prerequisites, and hex for byte strings. */
#ifndef TESTS_SUPPORT_UNIT_H
#define TESTS_SUPPORT_UNIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peerup/error.h"
#include "support/cmocka.h"

/* unhex reads hex into |out| and returns the bytes; a wrong text or too little room fails the
 * test. */
static inline size_t unhex(const char *text, uint8_t *out, size_t cap) {
  size_t n = strlen(text) / 2;
  assert_true(strlen(text) % 2 == 0 && n <= cap);
  for (size_t i = 0; i < n; i++) {
    unsigned byte;
    assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
    out[i] = (uint8_t)byte;
  }
  return n;
}

#endif
