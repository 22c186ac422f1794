/* Runs a Lua script as peerup runs its own: lua_runner LUA SCRIPTS LIB SCRIPT ARGS... The specs run
 * in it, so they have the loop, tasks and peerup.core. */
#include <stdio.h>

#include "bindings/program.h"

int main(int argc, char **argv) {
  if (argc < 5) {
    (void)fprintf(stderr, "usage: lua_runner LUA SCRIPTS LIB SCRIPT ARGS...\n");
    return 2;
  }
  const pul_program program = {.lua = argv[1],
                               .scripts = argv[2],
                               .lib = argv[3],
                               .script = argv[4],
                               .argc = argc - 5,
                               .argv = argv + 5};
  return pul_program_run(&program);
}
