/* Boxes: C objects as Lua sees them. A box is a userdata whose first word is a pointer, NULL while
 * it is closed: it is created closed, then opened into, so that an error between leaks nothing.
 * Every class gets close, <close>, __gc and __tostring from here. */
#ifndef PUL_OBJECT_H
#define PUL_OBJECT_H

#include <lauxlib.h>
#include <lua.h>

typedef struct pul_box {
  void *ptr; /* NULL: closed */
} pul_box;

typedef struct pul_class {
  const char *name;        /* "peerup.host": metatable and __name */
  const luaL_Reg *methods; /* ends with {NULL, NULL} */
  lua_CFunction close;     /* method close(self), NULL for none; harmless when closed; may wait */
  lua_CFunction scope_end; /* __close(self, err): like close, or like discard after an error */
  lua_CFunction discard;   /* __gc: never waits */
} pul_class;

/* pul_class_open makes the metatable of |class|, once. */
void pul_class_open(lua_State *L, const pul_class *class);
/* pul_box_new pushes a closed box of |size| zeroed bytes (its head is a pul_box) with |uservalues|.
 */
void *pul_box_new(lua_State *L, const char *class, size_t size, int uservalues);
/* pul_box_check returns the box at |arg|, or throws when it is none of |class|. */
void *pul_box_check(lua_State *L, int arg, const char *class);

#endif
