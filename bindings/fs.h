/* Writing files whole: what the bindings that write share. */
#ifndef PUL_FS_H
#define PUL_FS_H

#include <signal.h>

/* pul_signals_hold lets INT, TERM and HUP wait, so that who presses Ctrl-C or ends the session
 * while a file is written leaves nothing beside it. |held| is for pul_signals_release, which lets
 * them come. */
void pul_signals_hold(sigset_t *held);
void pul_signals_release(const sigset_t *held);

#endif
