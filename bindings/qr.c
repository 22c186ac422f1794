/* core.qr: a QR code as lines of half blocks, two rows of modules a line. Blocks are the light
 * modules, so that a code on a dark terminal has the light margin that readers look for. */
#include <errno.h>
#include <lauxlib.h>
#include <qrencode.h>
#include <string.h>

#include "bindings/core.h"
#include "bindings/error.h"

#define QUIET_ZONE 4 /* modules of margin that the standard demands */

/* is_light says whether the module at (x, y) of the code is light; the margin around it is. */
static bool is_light(const QRcode *code, int x, int y) {
  if (x < 0 || y < 0 || x >= code->width || y >= code->width)
    return true;
  return (code->data[y * code->width + x] & 1) == 0;
}

/* free_code is the __gc of the box that holds the code while Lua strings are made. */
static int free_code(lua_State *L) {
  QRcode **box = lua_touserdata(L, 1);
  if (*box != NULL)
    QRcode_free(*box);
  *box = NULL;
  return 0;
}

int pul_qr(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  QRcode **box = lua_newuserdatauv(L, sizeof(*box), 0); // [text, box]
  *box = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, free_code);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  if (strlen(text) != len)
    return pul_error_return(L, PU_E_INVAL, "a QR code cannot hold a NUL byte");
  *box = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_M);
  if (*box == NULL && errno == ERANGE)
    return pul_error_return(L, PU_E_LIMIT, "the text is too long for a QR code");
  if (*box == NULL)
    return pul_error_return(L, errno == ENOMEM ? PU_E_NOMEM : PU_E_INVAL,
                            "no QR code of this text");
  const QRcode *code = *box;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int y = -QUIET_ZONE; y < code->width + QUIET_ZONE; y += 2) {
    for (int x = -QUIET_ZONE; x < code->width + QUIET_ZONE; x++) {
      bool upper = is_light(code, x, y);
      bool lower = y + 1 < code->width + QUIET_ZONE && is_light(code, x, y + 1);
      luaL_addstring(&b, upper && lower ? "\u2588" : upper ? "\u2580" : lower ? "\u2584" : " ");
    }
    luaL_addchar(&b, '\n');
  }
  luaL_pushresult(&b);
  return 1;
}
