/* Error codes: their names and sentences, and the detail beside a code (house style 3.4). */
#include "peerup/error.h"

#include <stdarg.h>
#include <stdio.h>

const char *pu_error_name(int code) {
  switch (code) {
#define XX(name, number, text, sentence) \
  case number:                           \
    return text;
    PU_ERROR_MAP(XX)
#undef XX
  case PU_OK:
    return "ok";
  default:
    return "unknown";
  }
}

const char *pu_error_sentence(int code) {
  switch (code) {
#define XX(name, number, text, sentence) \
  case number:                           \
    return sentence;
    PU_ERROR_MAP(XX)
#undef XX
  case PU_OK:
    return "no error";
  default:
    return "unknown error";
  }
}

int pu_error_set(pu_error *err, int code, const char *format, ...) {
  if (err == NULL)
    return code;
  err->code = code;
  va_list args;
  va_start(args, format);
  int n = vsnprintf(err->detail, sizeof(err->detail), format, args);
  va_end(args);
  if (n < 0)
    err->detail[0] = '\0';
  /* A detail may quote what a peer or a file said; it stays one line of visible text. */
  for (char *c = err->detail; *c != '\0'; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      *c = '?';
  return code;
}
