# Shared by the end-to-end tests, which source it: a folder with a HOME for each machine of the test,
# its processes, waiting with a deadline, and what to say when a check fails.
# Needs PEERUP (the program) and BENCH_LOAD (the TCP service of tests/bench) in the environment.
# shellcheck shell=bash
set -euo pipefail

PEERUP=$(realpath "${PEERUP:?the program to test}")
BENCH_LOAD=${BENCH_LOAD:-}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export NO_COLOR=1 LC_ALL=C.UTF-8
unset PEERUP_INVITE_CODE NOTIFY_SOCKET XDG_CONFIG_HOME

WORK=$(mktemp -d "${TMPDIR:-/tmp}/peerup-e2e.XXXXXX")
declare -A PID=() # of running processes, by label
CHECKS=0

# Lives of the processes end with the test's; on a failure their logs are shown.
finish() {
  local status=$? label
  trap - EXIT
  for label in "${!PID[@]}"; do kill -TERM "${PID[$label]}" 2>/dev/null || true; done
  for label in "${!PID[@]}"; do end_within 5 "${PID[$label]}"; done
  if [ "$status" -ne 0 ]; then
    local log
    for log in "$WORK"/*.log; do
      [ -s "$log" ] || continue
      printf '%s\n' "---- ${log##*/} (last lines)" >&2
      tail -n 40 "$log" >&2
    done
    echo "FAILED after $CHECKS good checks" >&2
  else
    echo "$CHECKS checks, all good"
  fi
  [ -n "${PEERUP_E2E_KEEP:-}" ] || rm -rf "$WORK"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM
trap 'printf "   line %d failed: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR

# end_within SECONDS PID: waits for a process of ours to end, kills it after the time.
end_within() {
  local until=$((SECONDS + $1))
  while kill -0 "$2" 2>/dev/null && [ "$SECONDS" -lt "$until" ]; do sleep 0.02; done
  kill -KILL "$2" 2>/dev/null || true
  wait "$2" 2>/dev/null || true
}

step() { printf '== %s\n' "$*"; }
good() {
  CHECKS=$((CHECKS + 1))
  printf '   ok: %s\n' "$*"
}
bad() {
  printf '   NOT: %s\n' "$*" >&2
  exit 1
}

# check SENTENCE COMMAND...: the command must succeed.
check() {
  local what=$1
  shift
  if "$@"; then good "$what"; else bad "$what"; fi
}
same() { [ "$1" = "$2" ] || { printf '   "%s" is not "%s"\n' "$1" "$2" >&2 && return 1; }; }
# has FILE TEXT: the file has a line with the text.
has() { grep -qF -- "$2" "$1" 2>/dev/null; }

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# wait_for SECONDS SENTENCE COMMAND...: until the command succeeds; a failure when the time is over.
wait_for() {
  local until=$(($(now_ms) + $1 * 1000)) what=$2
  shift 2
  until "$@"; do
    [ "$(now_ms)" -lt "$until" ] || bad "$what"
    sleep 0.02
  done
  good "$what"
}

# as MACHINE ARGS...: peerup as that machine's user, in its home.
as() {
  local machine=$1
  shift
  mkdir -p "$WORK/$machine"
  (cd "$WORK/$machine" && HOME=$WORK/$machine exec "$PEERUP" "$@")
}

# start LABEL COMMAND...: in the background, output to LABEL.log, which may be emptied meanwhile.
start() {
  local label=$1
  shift
  : >"$WORK/$label.log"
  "$@" >>"$WORK/$label.log" 2>&1 &
  PID[$label]=$!
}
# start_as LABEL MACHINE ARGS...: peerup in the background.
start_as() {
  local label=$1 machine=$2
  shift 2
  mkdir -p "$WORK/$machine"
  : >"$WORK/$label.log"
  (cd "$WORK/$machine" && HOME=$WORK/$machine exec "$PEERUP" "$@") >>"$WORK/$label.log" 2>&1 &
  PID[$label]=$!
}
alive() { kill -0 "${PID[$1]}" 2>/dev/null; }
# stop LABEL [SIGNAL]: ends a process and waits; its exit code is the result.
stop() {
  local pid=${PID[$1]} code=0
  unset "PID[$1]"
  kill "-${2:-TERM}" "$pid" 2>/dev/null || true
  local until=$((SECONDS + 15))
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$SECONDS" -ge "$until" ]; then
      kill -KILL "$pid"
      wait "$pid" 2>/dev/null || true
      bad "$1 ends within 15 s of SIG${2:-TERM}"
    fi
    sleep 0.02
  done
  wait "$pid" 2>/dev/null || code=$?
  return "$code"
}
# kill9 LABEL: as a power cut would.
kill9() { stop "$1" KILL || true; }

open_port() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# free_port: a port nobody listens on, outside the range the kernel hands out by itself.
free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    open_port "$port" || { echo "$port" && return; }
  done
  return 1
}

# ---- the machines ----

# make_relay [YAML of the resources section]
make_relay() {
  mkdir -p "$WORK/relay"
  RELAY_CONFIG=$WORK/relay/relay-server.yaml
  RELAY_PORT=$(free_port)
  cat >"$RELAY_CONFIG" <<YAML
version: 1
identity:
  key_file: "relay_node.key"
network:
  listen_addresses:
    - "/ip4/127.0.0.1/tcp/$RELAY_PORT"
security:
  authorized_keys_file: "relay_authorized_keys"
  enable_connection_gating: true
resources:
  max_reservations: 64
${1:-}
YAML
  : >"$WORK/relay/relay_authorized_keys"
  chmod 600 "$RELAY_CONFIG" "$WORK/relay/relay_authorized_keys"
}
start_relay() {
  start_as relay relay relay serve --config "$RELAY_CONFIG"
  wait_for 10 "the relay runs" has "$WORK/relay.log" "Relay running"
  RELAY_ID=$(sed -n 's/^Peer ID: //p' "$WORK/relay.log")
  RELAY_ADDR=/ip4/127.0.0.1/tcp/$RELAY_PORT/p2p/$RELAY_ID
}

# make_node NAME: init, and the relay knows it. Sets ID_NAME.
make_node() {
  printf '%s\n' "$RELAY_ADDR" | as "$1" init >"$WORK/$1-init.log" 2>&1
  install_commands "$1"
  printf -v "ID_$1" %s "$(as "$1" whoami)"
}
admit() {
  local id="ID_$1"
  as relay relay authorize "${!id}" "$1" --config "$RELAY_CONFIG" >/dev/null
}
# introduce A B: each authorizes and names the other, as an invite does.
introduce() {
  local a="ID_$1" b="ID_$2"
  as "$1" auth add "${!b}" --comment "$2" >/dev/null
  as "$2" auth add "${!a}" --comment "$1" >/dev/null
  add_name "$1" "$2" "${!b}"
  add_name "$2" "$1" "${!a}"
}
add_name() { sed -i "s/^names: {}/names:/; s/^names:\$/names:\n  $2: $3/" "$(config_of "$1")"; }
config_of() { echo "$WORK/$1/.config/peerup/config.yaml"; }
keys_of() { echo "$WORK/$1/.config/peerup/authorized_keys"; }

# install_commands NAME: `peerup relayed ...`, see commands/relayed.lua.
install_commands() {
  mkdir -p "$WORK/$1/.config/peerup/commands"
  cp "$HERE/commands/relayed.lua" "$WORK/$1/.config/peerup/commands/"
}

start_daemon() {
  start_as "$1" "$1" daemon
  wait_for 10 "the daemon of $1 runs" has "$WORK/$1.log" "Daemon API:"
}
wait_reserved() {
  wait_for "${2:-20}" "$1 has its reservation at the relay" has "$WORK/$1.log" \
    "relay reservation granted"
}

# start_proxy LABEL MACHINE COMMAND...: `proxy home web 0` or `relayed proxy home web 0`. Sets PORT.
start_proxy() {
  local label=$1
  start_as "$@"
  wait_for 50 "proxy $label listens" has "$WORK/$label.log" "TCP proxy listening on localhost:"
  PORT=$(sed -n 's/^TCP proxy listening on localhost://p' "$WORK/$label.log")
}
path_of_proxy() { sed -n 's/^Connected \[\([A-Z]*\)\].*/\1/p' "$WORK/$1.log"; }

# serve_pages LABEL DIR: a web server. Sets WEB_PORT.
serve_pages() {
  WEB_PORT=$(free_port)
  start "$1" busybox httpd -f -p "127.0.0.1:$WEB_PORT" -h "$2"
  wait_for 5 "the web server serves" open_port "$WEB_PORT"
}
# serve_load LABEL: the service of tests/bench/load.c. Sets LOAD_PORT.
serve_load() {
  LOAD_PORT=$(free_port)
  start "$1" "${BENCH_LOAD:?the program bench-load}" serve "$LOAD_PORT"
  wait_for 5 "the echo service serves" open_port "$LOAD_PORT"
}
sha() { sha256sum | cut -d' ' -f1; }
fetch_sha() { curl -sS --max-time "${2:-20}" "$1" | sha; }
# echoes PORT: a new connection through the proxy carries a byte there and back.
echoes() {
  local answer=""
  exec 9<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'Ex' >&9 2>/dev/null || true
  IFS= read -r -t "${2:-10}" -N 1 -u 9 answer 2>/dev/null || true
  exec 9>&-
  [ "$answer" = x ]
} 2>/dev/null
