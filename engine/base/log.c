/* Logging: formats one line and hands it to the sink, see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Longest line; the rest is cut, for a line is for a person. */
#define LINE_MAX_BYTES 1024

void pu_log_write(const pu_log *log, pu_log_level level, const char *part, const char *format,
                  ...) {
  if (log == NULL || log->fn == NULL || level < log->level)
    return;
  char line[LINE_MAX_BYTES];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  if (n < 0)
    return;
  /* What a peer sent may be quoted in a line; it must not begin a line of its own, nor steer a
   * terminal. */
  for (char *c = line; *c != '\0'; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      *c = '?';
  log->fn(log->data, level, part, line);
}
