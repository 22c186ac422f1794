/* Logging: levels per part, one sink. The engine formats nothing that nobody will see. */
#ifndef PU_BASE_LOG_H
#define PU_BASE_LOG_H

#include "peerup/defs.h"

typedef enum pu_log_level { PU_LOG_DEBUG, PU_LOG_INFO, PU_LOG_WARN, PU_LOG_ERROR, PU_LOG_OFF } pu_log_level;

/* pu_log_fn gets one line without newline; |part| is the module ("swarm", "relay"). */
typedef void (*pu_log_fn)(void *data, pu_log_level level, const char *part, const char *line);

typedef struct pu_log {
  pu_log_fn fn; /* NULL: silent */
  void *data;
  pu_log_level level;
} pu_log;

void pu_log_write(const pu_log *log, pu_log_level level, const char *part, const char *format, ...)
    PU_PRINTF(4, 5);

/* PU_LOG evaluates its arguments only when the level is wanted. |log| may be NULL. */
#define PU_LOG(log, lvl, part, ...)                                                               \
  do {                                                                                            \
    const pu_log *pu_log_ = (log);                                                                \
    if (pu_log_ != NULL && pu_log_->fn != NULL && (lvl) >= pu_log_->level)                        \
      pu_log_write(pu_log_, (lvl), (part), __VA_ARGS__);                                          \
  } while (0)

#endif
