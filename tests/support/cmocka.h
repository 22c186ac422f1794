/* cmocka wants these headers before it; a formatter that sorts includes would put them behind. */
#ifndef PU_TESTS_CMOCKA_H
#define PU_TESTS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* apart, so that it stays last */
#include <cmocka.h>

#endif
