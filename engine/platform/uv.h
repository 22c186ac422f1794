/* The libuv door. Besides this folder only bindings/main.c knows libuv. */
#ifndef PU_PLATFORM_UV_H
#define PU_PLATFORM_UV_H

#include "platform/platform.h"

struct uv_loop_s;

/* pu_uv_new makes a platform on |loop| (the caller's, which must outlive it). Handles are unreferenced
 * while idle where that lets uv_run end. */
PU_MUST_CHECK int pu_uv_new(struct uv_loop_s *loop, pu_platform **out);
/* pu_uv_free closes the platform's handles; |done| (may be NULL) is called on the loop when its memory
 * is gone. All sockets must have been closed. */
void pu_uv_free(pu_platform *p, void (*done)(void *data), void *data);

/* pu_uv_loop_new, _run, _free: a loop of our own, for programs that bring none. */
PU_MUST_CHECK int pu_uv_loop_new(struct uv_loop_s **out);
/* pu_uv_loop_run runs until nothing is left to wait for or pu_uv_loop_stop. */
int pu_uv_loop_run(struct uv_loop_s *loop);
void pu_uv_loop_stop(struct uv_loop_s *loop);
void pu_uv_loop_free(struct uv_loop_s *loop);

#endif
