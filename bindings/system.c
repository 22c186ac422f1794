/* core.system: what the process tells its service manager (sd_notify's protocol: one datagram of
 * KEY=value lines to the socket that NOTIFY_SOCKET names). */
#include <errno.h>
#include <lauxlib.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bindings/core.h"
#include "bindings/error.h"

/* system.notify(socket, text): true, or nil and an error. A name that begins with @ is one of
 * Linux's abstract ones. It does not wait: a manager whose queue is full misses a line. */
static int system_notify(lua_State *L) {
  size_t name_len, len;
  const char *name = luaL_checklstring(L, 1, &name_len);
  const char *text = luaL_checklstring(L, 2, &len);
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  if ((name[0] != '/' && name[0] != '@') || name_len < 2 || name_len >= sizeof(addr.sun_path))
    return pul_error_return(L, PU_E_INVAL, "NOTIFY_SOCKET names no socket");
  memcpy(addr.sun_path, name, name_len);
  if (name[0] == '@')
    addr.sun_path[0] = '\0';
  const socklen_t addr_len =
      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_len + (name[0] == '/' ? 1 : 0));
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return pul_error_return_errno(L, errno, "make a socket for", name);
  const ssize_t sent = sendto(fd, text, len, MSG_NOSIGNAL, (const struct sockaddr *)&addr, addr_len);
  const int code = errno;
  (void)close(fd);
  if (sent != (ssize_t)len)
    return pul_error_return_errno(L, code, "tell the service manager at", name);
  lua_pushboolean(L, 1);
  return 1;
}

void pul_system_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"notify", system_notify}, {NULL, NULL}};
  luaL_newlib(L, functions);
}
