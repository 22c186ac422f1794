/* The table of api.h. */
#include "bindings/api.h"

void pul_api_publish(lua_State *L) {
  static const pul_api api = {.version = PUL_API_VERSION,
                              .runtime = pul_runtime_get,
                              .call = pul_call,
                              .report = pul_report,
                              .resource_add = pul_resource_add,
                              .resource_remove = pul_resource_remove,
                              .spawn_later = pul_task_spawn_later,
                              .cancel = pul_task_cancel};
  lua_pushlightuserdata(L, (void *)(uintptr_t)&api);
  lua_setfield(L, LUA_REGISTRYINDEX, PUL_API_KEY);
}
