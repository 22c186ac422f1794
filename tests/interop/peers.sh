#!/usr/bin/env bash
# Builds peers of other implementations without running the tests: what `make bench` measures beside ours.
# Usage: peers.sh BUILD go|rust|rust-fast|js ...
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")" && pwd)
work=$build/tests/interop
shift

# shellcheck source=toolchains.sh
. "$source/toolchains.sh"

for peer in "$@"; do
  case $peer in
    go) build_go ;;
    rust) build_rust ;;
    rust-fast) build_rust bench-peer ;;
    js) build_js ;;
    *)
      say "peers.sh: no such peer: $peer"
      exit 2
      ;;
  esac
done
