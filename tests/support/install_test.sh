#!/bin/sh
# An installed tree works wherever it is moved: install_test.sh BUILD_DIR SOURCE_DIR
set -eu
build=$1 source=$2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cmake --install "$build" --prefix "$place/first" >/dev/null
for file in bin/peerup lib/peerup/core.so lib/peerup/http.so share/peerup/scripts/peerup.lua \
  share/peerup/lua/peerup/task.lua share/man/man1/peerup.1 share/man/man1/peerup-ping.1 \
  share/bash-completion/completions/peerup share/zsh/site-functions/_peerup \
  share/fish/vendor_completions.d/peerup.fish include/peerup/engine.h lib/libpeerup_engine.a; do
  [ -e "$place/first/$file" ] || { echo "missing: $file" >&2; exit 1; }
done
grep -q "^.TH PEERUP.-PING 1" "$place/first/share/man/man1/peerup-ping.1"
if grep -rlI "$source" "$place/first/share" "$place/first/include"; then
  echo "the installed files name the source tree" >&2
  exit 1
fi
mkdir "$place/elsewhere"
mv "$place/first" "$place/elsewhere/peerup tree"
cd /
"$place/elsewhere/peerup tree/bin/peerup" version | grep -q "^peerup [0-9]"
ln -s "$place/elsewhere/peerup tree/bin/peerup" "$place/link"
"$place/link" version | grep -q "^peerup [0-9]"
# Whether core.so and http.so are found and fit: a Lua that is not ours loads them.
LD_PRELOAD="${PEERUP_PRELOAD:-}" LUA_CPATH="$place/elsewhere/peerup tree/lib/?.so;;" lua5.4 -e '
  local core = require "peerup.core"
  assert(core.identity.peer_id(core.identity.generate()))
  assert(core.http.serve)'
