/* What tests need of the libuv door's TXT look-ups beside platform.h. */
#ifndef PU_PLATFORM_UV_TEXT_H
#define PU_PLATFORM_UV_TEXT_H

#include "platform/platform.h"

/* pu_uv_text_server has look-ups ask |server| (IPv4) from now on, not those that the system names.
 */
void pu_uv_text_server(pu_platform *p, const pu_sockaddr *server);

#endif
