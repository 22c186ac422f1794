/* Loads libcrypto at run time, see libcrypto.h. The only place with dlopen and dlsym. */
#include "base/libcrypto.h"

#include <dlfcn.h>
#include <pthread.h>

#define LIBRARY "libcrypto.so.3"

/* The one static of the engine: a table of code addresses, the same for every engine of the process
 * and never changed once |once| is done. A handle per engine would load the same library again. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pu_libcrypto table;
static bool loaded;

/* load fills the table. The library stays loaded: its own exit handlers may still need it. */
static void load(void) {
  void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (lib == NULL)
    return;
#define XX(name)                                          \
  table.name = (__typeof__(table.name))dlsym(lib, #name); \
  if (table.name == NULL)                                 \
    goto fail;
  PU_LIBCRYPTO_MAP(XX)
#undef XX
  /* The system's openssl.cnf may add engines and providers: memory we do not want, and code we did
   * not choose. */
  if (table.OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
    goto fail;
  loaded = true;
  return;
fail:
  (void)dlclose(lib);
}

const pu_libcrypto *pu_libcrypto_get(void) {
  (void)pthread_once(&once, load);
  return loaded ? &table : NULL;
}
