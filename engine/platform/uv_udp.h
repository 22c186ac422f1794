/* What tests need of the libuv door's UDP beside platform.h. */
#ifndef PU_PLATFORM_UV_UDP_H
#define PU_PLATFORM_UV_UDP_H

#include "platform/platform.h"

/* pu_uv_udp_no_offload makes a socket do without segmentation offload, as where the kernel has none. */
void pu_uv_udp_no_offload(pu_udp *u);

#endif
