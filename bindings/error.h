/* Errors as Lua sees them: a table with code, detail and message, whose tostring is a sentence for
 * a person (house rule: expected failure is nil, err). */
#ifndef PUL_ERROR_H
#define PUL_ERROR_H

#include <lua.h>

#include "peerup/error.h"

/* pul_error_open registers the metatable. */
void pul_error_open(lua_State *L);
/* pul_error_push pushes the error of |code| with |detail| (may be NULL or ""). */
void pul_error_push(lua_State *L, int code, const char *detail);
/* pul_error_push_own pushes one whose code is not in the engine's map; |text| is its sentence. */
void pul_error_push_own(lua_State *L, const char *name, const char *text);
/* pul_error_return pushes nil and the error, and returns 2: `return pul_error_return(L, ...)`. */
int pul_error_return(lua_State *L, int code, const char *detail);
/* pul_error_return_full is the same with what the engine told: |err| fills in when its code fits.
 */
int pul_error_return_full(lua_State *L, int code, const pu_error *err);
/* pul_error_return_errno makes an error of a failed system call: "cannot write /a/b: No space ...".
 */
int pul_error_return_errno(lua_State *L, int number, const char *what, const char *path);
/* pul_error_closed is what every method of a closed object returns. */
int pul_error_closed(lua_State *L, const char *noun);
/* pul_error_new is core.error(code, detail). */
int pul_error_new(lua_State *L);

#endif
