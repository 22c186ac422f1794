/* Two strengths of check (house rule): PU_ASSERT is for our own mistakes and stays on in release;
 * whatever a remote peer can cause is a plain check with an error, never an assertion. */
#ifndef PU_PLATFORM_ASSERT_H
#define PU_PLATFORM_ASSERT_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define PU_ASSERT(cond)                                                                           \
  do {                                                                                            \
    if (!(cond)) {                                                                                \
      (void)fprintf(stderr, "peerup: internal error: %s (%s:%d)\n", #cond, __FILE__, __LINE__);   \
      abort();                                                                                    \
    }                                                                                             \
  } while (0)

/* PU_CONTAINER_OF returns the struct of |type| whose |member| is at |ptr|. */
#define PU_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define PU_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
