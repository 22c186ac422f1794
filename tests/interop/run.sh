#!/usr/bin/env bash
# Runs our peers against go-libp2p, rust-libp2p and js-libp2p, and our own against itself: the official
# transport contract over every transport and security protocol in both directions (transport.sh), and
# circuit relay v2 and perf with each implementation in each role (relay.sh). Builds what it needs below
# BUILD/tests/interop (toolchains.sh), starts its own Redis on loopback, prints a table, and writes it to
# BUILD/tests/interop/table.md. ctest counts it as one test (make interop).
# Usage: run.sh BUILD [--write-docs]; the latter puts the table into docs/interop.md.
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")" && pwd)
work=$build/tests/interop
docs=$source/../../docs/interop.md

# shellcheck source=toolchains.sh
. "$source/toolchains.sh"
# shellcheck source=transport.sh
. "$source/transport.sh"
# shellcheck source=relay.sh
. "$source/relay.sh"

children=()
cleanup() {
  stop_serving
  for pid in "${children[@]}"; do
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$scratch"
}
scratch=$(mktemp -d)
trap cleanup EXIT

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_redis() {
  redis_port=$(free_port)
  redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no \
    --dir "$scratch" >"$scratch/redis.log" 2>&1 &
  children+=($!)
  for _ in $(seq 100); do
    redis-cli -p "$redis_port" ping >/dev/null 2>&1 && return
    sleep 0.05
  done
  say "Redis did not start"
  return 1
}

passed_all=true
record() { # CELLS STATUS DETAIL
  printf '| %s | %s | %s |\n' "$1" "$2" "$3" >>"$results"
  say "$(printf '%-46s %-5s %s' "$1" "$2" "$3")"
  [ "$2" = pass ] || passed_all=false
}

build_go
build_js
build_rust
hold=$scratch/hold
mkfifo "$hold"
exec 9<>"$hold" # keeps the served peers' standard input open
start_redis

results=$work/transport.md
{
  echo "| transport | security | dialer | listener | result | handshake and one round trip, median of $rounds |"
  echo "|---|---|---|---|---|---|"
} >"$results"
transport_cases

results=$work/roles.md
{
  echo "| what | | | result | what passed |"
  echo "|---|---|---|---|---|"
} >"$results"
relay_cases
perf_cases

{
  echo "Of $(date -u +%F), with $(version_of peerup), $(version_of go), $(version_of rust) and $(version_of js)."
  echo
  cat "$work/transport.md"
  echo
  cat "$work/roles.md"
} >"$work/table.md"
cat "$work/table.md"

if [ "${2:-}" = --write-docs ]; then
  awk -v table="$work/table.md" '
    /^<!-- table -->$/ { print; while ((getline line <table) > 0) print line; skip = 1 }
    /^<!-- end of the table -->$/ { skip = 0 }
    !skip' "$docs" >"$scratch/docs.md"
  cp "$scratch/docs.md" "$docs"
fi
$passed_all
