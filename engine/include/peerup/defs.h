/* Compiler marks used by every header. */
#ifndef PEERUP_DEFS_H
#define PEERUP_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* PU_API marks what the shared library exports; all else is hidden. */
#define PU_API __attribute__((visibility("default")))
/* PU_MUST_CHECK marks a function whose result may not be dropped. */
#define PU_MUST_CHECK __attribute__((warn_unused_result))
#define PU_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
