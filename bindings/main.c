/* The program: finds its Lua files and runs scripts/peerup.lua.
 *
 * An installed tree is bin/peerup, lib/peerup/, share/peerup/lua, share/peerup/scripts, wherever it
 * stands. In a build tree a file peerup.paths beside the program says where the sources are. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bindings/program.h"

typedef struct layout {
  char lua[PATH_MAX], scripts[PATH_MAX], lib[PATH_MAX];
} layout;

/* join writes |dir| and |rest|, false when that is too long. */
static bool join(char out[static PATH_MAX], const char *dir, const char *rest) {
  int n = snprintf(out, PATH_MAX, "%s%s", dir, rest);
  return n >= 0 && n < PATH_MAX;
}

/* own_dir writes the directory of this program. */
static bool own_dir(char out[static PATH_MAX]) {
  ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
  if (n <= 0 || n >= PATH_MAX - 1)
    return false;
  out[n] = '\0';
  char *slash = strrchr(out, '/');
  if (slash == NULL)
    return false;
  *slash = '\0';
  return true;
}

/* read_line reads a path and drops the newline. */
static bool read_line(FILE *f, char out[static PATH_MAX]) {
  if (fgets(out, PATH_MAX, f) == NULL)
    return false;
  out[strcspn(out, "\n")] = '\0';
  return out[0] == '/';
}

static bool find(layout *out) {
  char dir[PATH_MAX], file[PATH_MAX];
  if (!own_dir(dir) || !join(file, dir, "/peerup.paths"))
    return false;
  FILE *f = fopen(file, "re");
  if (f != NULL) {
    bool good = read_line(f, out->lua) && read_line(f, out->scripts) && read_line(f, out->lib);
    (void)fclose(f);
    return good;
  }
  char *slash = strrchr(dir, '/');
  if (slash == NULL)
    return false;
  *slash = '\0'; /* bin/.. */
  return join(out->lua, dir, "/share/peerup/lua") &&
         join(out->scripts, dir, "/share/peerup/scripts") && join(out->lib, dir, "/lib");
}

/* raise_open_files takes as many open files as the system allows: each proxied connection is one.
 * The usual limit of 1024 is there only for programs that use select. */
static void raise_open_files(void) {
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= files.rlim_max)
    return;
  files.rlim_cur = files.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &files); /* with fewer it works, too */
}

int main(int argc, char **argv) {
  layout at;
  char script[PATH_MAX];
  if (!find(&at) || !join(script, at.scripts, "/peerup.lua")) {
    (void)fprintf(stderr, "peerup: cannot find its own files\n");
    return 1;
  }
  const pul_program program = {.lua = at.lua,
                               .scripts = at.scripts,
                               .lib = at.lib,
                               .script = script,
                               .argc = argc > 0 ? argc - 1 : 0,
                               .argv = argv + 1};
  raise_open_files();
  return pul_program_run(&program);
}
