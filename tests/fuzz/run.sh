#!/bin/sh
# Runs fuzz targets of a build: run.sh BUILD SECONDS [NAME]. Finds go on in BUILD/corpus/NAME, and
# an input that fails is left in BUILD/findings/NAME.
set -eu
build=$1
seconds=$2
only=${3:-}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
ran=0
for target in "$build"/tests/fuzz/fuzz_*; do
  [ -x "$target" ] && [ -f "$target" ] || continue
  name=${target##*/fuzz_}
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  mkdir -p "$build/corpus/$name" "$build/findings/$name"
  seeds=$here/corpus/$name
  [ -d "$seeds" ] || { echo "$name: no seeds in $seeds" >&2; exit 1; }
  echo "== $name"
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="$build/findings/$name/" "$build/corpus/$name" "$seeds"
  ran=$((ran + 1))
done
[ "$ran" -gt 0 ] || { echo "no fuzz target ${only:-}in $build" >&2; exit 1; }
echo "$ran fuzz targets ran $seconds s each, nothing found"
