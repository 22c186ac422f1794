/* main of a fuzz target built without libFuzzer: replays the files and folders it is given, once
 * each. Ends with an error when it is given nothing to replay. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/assert.h"

#define INPUT_MAX (1024 * 1024)
#define PATH_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    perror(path);
    return -1;
  }
  /* Exactly as large as the file, so that a sanitizer sees a read past its end. */
  int rc = -1;
  uint8_t *bytes = NULL;
  long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  if (size >= 0 && size <= INPUT_MAX && fseek(file, 0, SEEK_SET) == 0)
    bytes = malloc((size_t)size + (size == 0 ? 1 : 0));
  if (bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size) {
    (void)LLVMFuzzerTestOneInput(bytes, (size_t)size);
    rc = 0;
  } else {
    (void)fprintf(stderr, "%s: cannot be read\n", path);
  }
  free(bytes);
  (void)fclose(file);
  return rc;
}

/* replay_dir returns the files replayed, -1 on failure. */
static int replay_dir(DIR *dir, const char *path) {
  int count = 0;
  const struct dirent *entry;
  while ((entry = readdir(dir)) != NULL) {
    char file[PATH_BYTES];
    if (entry->d_name[0] == '.')
      continue;
    int n = snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
    if (n < 0 || (size_t)n >= sizeof(file) || replay_file(file) != 0)
      return -1;
    count++;
  }
  return count;
}

int main(int argc, char **argv) {
  int count = 0;
  for (int i = 1; i < argc; i++) {
    DIR *dir = opendir(argv[i]);
    int n = 1;
    if (dir == NULL) {
      n = replay_file(argv[i]) == 0 ? 1 : -1;
    } else {
      n = replay_dir(dir, argv[i]);
      (void)closedir(dir);
    }
    if (n < 0)
      return 1;
    count += n;
  }
  (void)printf("%d inputs replayed\n", count);
  return count > 0 ? 0 : 1;
}
