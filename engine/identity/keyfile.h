/* The identity key file: a PrivateKey protobuf, mode 0600 (wire 2.1). */
#ifndef PU_IDENTITY_KEYFILE_H
#define PU_IDENTITY_KEYFILE_H

#include "identity/key.h"
#include "peerup/error.h"

/* pu_keyfile_load reads |path|. PU_E_NOT_FOUND; PU_E_KEY_MODE when group or others may read it (the
 * detail says the chmod to run); PU_E_PARSE; PU_E_IO. */
PU_MUST_CHECK int pu_keyfile_load(const char *path, pu_key **out, pu_error *err);
/* pu_keyfile_create makes the secret file |path| of |len| bytes: written beside and renamed, 0600,
 * synced; PU_E_EXISTS when |path| exists, PU_E_IO. */
PU_MUST_CHECK int pu_keyfile_create(const char *path, const void *bytes, size_t len, pu_error *err);
/* pu_keyfile_save does it with an identity key. */
PU_MUST_CHECK int pu_keyfile_save(const char *path, const pu_key *key, pu_error *err);

#endif
