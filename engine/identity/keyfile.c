/* The identity key file (wire 2.1): a PrivateKey protobuf that only its owner may read. A file is
 * written beside its place and moved there without replacing anything, so a crash leaves either no
 * key or a whole one, and an identity is never overwritten. */
#include "identity/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Largest file looked at: an RSA key of 8192 bits has 4.7 KB, and is told apart from garbage. */
#define FILE_MAX_BYTES 8192
#define KEY_BYTES 68

static int read_all(int fd, uint8_t *out, size_t cap, size_t *len) {
  *len = 0;
  while (*len < cap) {
    ssize_t n = read(fd, out + *len, cap - *len);
    if (n == 0)
      return 0;
    if (n < 0 && errno != EINTR)
      return PU_E_IO;
    if (n > 0)
      *len += (size_t)n;
  }
  return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, data, len);
    if (n < 0 && errno != EINTR)
      return PU_E_IO;
    if (n > 0) {
      data += n;
      len -= (size_t)n;
    }
  }
  return 0;
}

static int io_error(pu_error *err, const char *what, const char *path) {
  return pu_error_set(err, PU_E_IO, "cannot %s %s: %s", what, path, strerror(errno));
}

int pu_keyfile_load(const char *path, pu_key **out, pu_error *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT)
    return pu_error_set(err, PU_E_NOT_FOUND, "key file %s does not exist", path);
  if (fd < 0)
    return io_error(err, "open key file", path);
  uint8_t bytes[FILE_MAX_BYTES + 1];
  size_t len = 0;
  struct stat st;
  int rc;
  if (fstat(fd, &st) != 0) {
    rc = io_error(err, "read key file", path);
    goto done;
  }
  if (!S_ISREG(st.st_mode)) {
    rc = pu_error_set(err, PU_E_IO, "key file %s is not a regular file", path);
    goto done;
  }
  if ((st.st_mode & 077) != 0) {
    rc = pu_error_set(err, PU_E_KEY_MODE,
                      "key file %s has mode %04o, others may read it; run: chmod 600 %s", path,
                      (unsigned)(st.st_mode & 07777), path);
    goto done;
  }
  rc = read_all(fd, bytes, sizeof(bytes), &len);
  if (rc != 0) {
    rc = io_error(err, "read key file", path);
    goto done;
  }
  rc = len > FILE_MAX_BYTES ? PU_E_PARSE : pu_key_parse(bytes, len, out);
  if (rc == PU_E_UNSUPPORTED)
    rc = pu_error_set(err, rc, "key file %s holds a key that is not Ed25519", path);
  else if (rc == PU_E_PARSE)
    rc = pu_error_set(err, rc, "key file %s holds no key, or a damaged one", path);
  else if (rc != 0)
    rc = pu_error_set(err, rc, "key file %s cannot be used", path);
done:
  sodium_memzero(bytes, sizeof(bytes));
  (void)close(fd);
  return rc;
}

/* move_new renames |from| to |to| and fails with EEXIST when |to| exists. */
static int move_new(const char *from, const char *to) {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS)
    return -1;
  /* File systems without that flag: a link does not replace either. */
  if (link(from, to) != 0)
    return -1;
  (void)unlink(from);
  return 0;
}

/* sync_dir makes the new name in the directory of |path| last. */
static int sync_dir(const char *path) {
  char dir[PATH_MAX];
  const char *slash = strrchr(path, '/');
  size_t len = slash == NULL ? 0 : (size_t)(slash - path);
  if (slash == NULL)
    (void)snprintf(dir, sizeof(dir), ".");
  else if (len == 0)
    (void)snprintf(dir, sizeof(dir), "/");
  else
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)len, path);
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  int rc = fsync(fd);
  (void)close(fd);
  return rc;
}

int pu_keyfile_create(const char *path, const void *bytes, size_t len, pu_error *err) {
  char beside[PATH_MAX];
  int n = snprintf(beside, sizeof(beside), "%s.new-XXXXXX", path);
  if (n < 0 || (size_t)n >= sizeof(beside))
    return pu_error_set(err, PU_E_IO, "the path of the key file is too long");
  int fd = mkostemp(beside, O_CLOEXEC); /* mode 0600 from the start */
  if (fd < 0)
    return io_error(err, "write key file", path);
  int rc = fchmod(fd, 0600) == 0 ? write_all(fd, bytes, len) : PU_E_IO;
  if (rc == 0 && fsync(fd) != 0)
    rc = PU_E_IO;
  if (rc != 0)
    rc = io_error(err, "write key file", path);
  (void)close(fd);
  if (rc == 0 && move_new(beside, path) != 0) {
    rc = errno == EEXIST ? pu_error_set(err, PU_E_EXISTS, "key file %s exists already", path)
                         : io_error(err, "write key file", path);
  }
  if (rc != 0) {
    (void)unlink(beside);
    return rc;
  }
  return sync_dir(path) == 0 ? 0 : io_error(err, "sync the directory of", path);
}

int pu_keyfile_save(const char *path, const pu_key *key, pu_error *err) {
  uint8_t bytes[KEY_BYTES];
  pu_key_protobuf(key, bytes);
  const int rc = pu_keyfile_create(path, bytes, sizeof(bytes), err);
  sodium_memzero(bytes, sizeof(bytes));
  return rc;
}
