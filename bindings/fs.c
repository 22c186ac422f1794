/* core.fs: files that a crash leaves either old or new, never half-written. */
#include "bindings/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bindings/core.h"
#include "bindings/error.h"

#define NAME_TRIES 16 /* fresh names that are tried before giving up */

static int write_all(int fd, const char *data, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, data, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -1;
    data += n;
    len -= (size_t)n;
  }
  return 0;
}

/* open_beside makes a new file in the directory of |path|; it is not opened if it exists. */
static int open_beside(const char *path, char beside[static PATH_MAX]) {
  for (int i = 0; i < NAME_TRIES; i++) {
    int n = snprintf(beside, PATH_MAX, "%s.new-%08x", path, (unsigned)randombytes_random());
    if (n < 0 || n >= PATH_MAX) {
      errno = ENAMETOOLONG;
      return -1;
    }
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 || errno != EEXIST)
      return fd;
  }
  return -1;
}

/* sync_dir makes the new name last. */
static int sync_dir(const char *path) {
  char dir[PATH_MAX];
  const char *slash = strrchr(path, '/');
  int len = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
  (void)snprintf(dir, sizeof(dir), "%.*s", len, slash == NULL ? "." : path);
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  int rc = fsync(fd);
  int saved = errno;
  (void)close(fd);
  errno = saved;
  /* Some file systems cannot sync a directory: nothing more can be done there. */
  return rc != 0 && (saved == EINVAL || saved == ENOTSUP) ? 0 : rc;
}

/* replace_now writes |data| beside |path| and moves it there; 0, or -1 and errno. */
static int replace_now(const char *path, const char *data, size_t len, mode_t mode) {
  char beside[PATH_MAX];
  int fd = open_beside(path, beside);
  if (fd < 0)
    return -1;
  int rc = fchmod(fd, mode);
  if (rc == 0)
    rc = write_all(fd, data, len);
  if (rc == 0)
    rc = fsync(fd);
  int saved = errno;
  if (close(fd) != 0 && rc == 0) {
    rc = -1;
    saved = errno;
  }
  if (rc == 0 && rename(beside, path) != 0) {
    rc = -1;
    saved = errno;
  }
  if (rc != 0) {
    (void)unlink(beside);
    errno = saved;
    return -1;
  }
  return sync_dir(path);
}

void pul_signals_hold(sigset_t *held) {
  sigset_t late;
  (void)sigemptyset(&late);
  (void)sigaddset(&late, SIGINT);
  (void)sigaddset(&late, SIGTERM);
  (void)sigaddset(&late, SIGHUP);
  (void)pthread_sigmask(SIG_BLOCK, &late, held); /* fails only for an unknown way to change it */
}

void pul_signals_release(const sigset_t *held) {
  (void)pthread_sigmask(SIG_SETMASK, held, NULL);
}

/* replace does the same while signals wait. */
static int replace(const char *path, const char *data, size_t len, mode_t mode) {
  sigset_t held;
  pul_signals_hold(&held);
  int rc = replace_now(path, data, len, mode);
  int saved = errno;
  pul_signals_release(&held);
  errno = saved;
  return rc;
}

static int fs_write_atomic(lua_State *L) {
  size_t path_len, len;
  const char *path = luaL_checklstring(L, 1, &path_len);
  const char *data = luaL_checklstring(L, 2, &len);
  lua_Integer mode = luaL_optinteger(L, 3, 0644);
  luaL_argcheck(L, path_len > 0 && strlen(path) == path_len, 1, "no path");
  luaL_argcheck(L, mode >= 0 && mode <= 0777, 3, "no file mode");
  if (replace(path, data, len, (mode_t)mode) != 0)
    return pul_error_return_errno(L, errno, "write", path);
  lua_pushboolean(L, 1);
  return 1;
}

void pul_fs_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"write_atomic", fs_write_atomic}, {NULL, NULL}};
  luaL_newlib(L, functions);
}
