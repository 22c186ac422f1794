#include "identity/keyfile.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/unit.h"

/* Each test has an empty folder of its own. */
static int make_dir(void **state) {
  char *dir = strdup("/tmp/peerup-keyfile-XXXXXX");
  *state = dir;
  return dir == NULL || mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state) {
  char path[512];
  (void)snprintf(path, sizeof(path), "%s/key", (char *)*state);
  (void)unlink(path);
  int rc = rmdir(*state); /* fails when anything else was left behind */
  free(*state);
  return rc;
}

static void path_in(void **state, char path[static 256]) {
  (void)snprintf(path, 256, "%s/key", (char *)*state);
}

static void round_trip(void **state) {
  char path[256];
  path_in(state, path);
  pu_key *key = NULL, *again = NULL;
  pu_error err;
  assert_int_equal(pu_key_generate(&key), 0);
  mode_t old = umask(0);
  assert_int_equal(pu_keyfile_save(path, key, &err), 0);
  umask(old);
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0600);
  assert_int_equal(st.st_size, 68);
  assert_int_equal(pu_keyfile_load(path, &again, &err), 0);
  assert_true(pu_peer_id_equal(pu_key_peer_id(key), pu_key_peer_id(again)));
  /* An identity is never overwritten. */
  assert_int_equal(pu_keyfile_save(path, again, &err), PU_E_EXISTS);
  assert_int_equal(err.code, PU_E_EXISTS);
  assert_non_null(strstr(err.detail, path));
  pu_key_free(key);
  pu_key_free(again);
}

static void refuses_open_modes(void **state) {
  char path[256];
  path_in(state, path);
  pu_key *key = NULL, *again = NULL;
  pu_error err;
  assert_int_equal(pu_key_generate(&key), 0);
  assert_int_equal(pu_keyfile_save(path, key, NULL), 0);
  pu_key_free(key);
  static const mode_t modes[] = {0640, 0604, 0620, 0601, 0777};
  for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
    assert_int_equal(chmod(path, modes[i]), 0);
    assert_int_equal(pu_keyfile_load(path, &again, &err), PU_E_KEY_MODE);
    assert_non_null(strstr(err.detail, "chmod 600"));
  }
  assert_null(again);
  assert_int_equal(chmod(path, 0400), 0);
  assert_int_equal(pu_keyfile_load(path, &again, &err), 0);
  pu_key_free(again);
}

static void write_file(const char *path, const void *data, size_t len) {
  (void)unlink(path);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, data, len), len);
  (void)close(fd);
}

static void refuses_content(void **state) {
  char path[256];
  path_in(state, path);
  pu_key *key = NULL;
  pu_error err;
  static const uint8_t big[10000] = {0x08, 0x01};
  assert_int_equal(pu_keyfile_load(path, &key, &err), PU_E_NOT_FOUND);
  write_file(path, "", 0);
  assert_int_equal(pu_keyfile_load(path, &key, &err), PU_E_PARSE);
  write_file(path, big, sizeof(big));
  assert_int_equal(pu_keyfile_load(path, &key, &err), PU_E_PARSE);
  write_file(path, "\x08\x02\x12\x00", 4);
  assert_int_equal(pu_keyfile_load(path, &key, &err), PU_E_UNSUPPORTED);
  assert_non_null(strstr(err.detail, "Ed25519"));
  assert_int_equal(pu_keyfile_load(*state, &key, &err), PU_E_IO); /* a folder */
  assert_null(key);
}

static void reports_unwritable(void **state) {
  char path[256];
  (void)snprintf(path, sizeof(path), "%s/none/key", (char *)*state);
  pu_key *key = NULL;
  pu_error err;
  assert_int_equal(pu_key_generate(&key), 0);
  assert_int_equal(pu_keyfile_save(path, key, &err), PU_E_IO);
  assert_non_null(strstr(err.detail, path));
  pu_key_free(key);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(round_trip, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(refuses_open_modes, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(refuses_content, make_dir, remove_dir),
      cmocka_unit_test_setup_teardown(reports_unwritable, make_dir, remove_dir)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
