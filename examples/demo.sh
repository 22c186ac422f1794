#!/usr/bin/env bash
# `make demo`: on this one machine, a relay and two peers. They pair with an invite code, and a page of
# a real web server at "home" comes through the tunnel to "laptop". Everything happens in a
# temporary folder, on loopback only, and ends with the checksums of both pages.
# Usage: demo.sh path/to/peerup
set -euo pipefail

peerup=$(realpath "${1:?usage: demo.sh path/to/peerup}")
work=$(mktemp -d "${TMPDIR:-/tmp}/peerup-demo.XXXXXX")
pids=()
exec 3>&1 # what the commands are goes here, around the pipes
unset PEERUP_INVITE_CODE NOTIFY_SOCKET

finish() {
  local status=$?
  trap - EXIT
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  if [ "$status" -ne 0 ]; then
    echo "The demo failed. What the programs said:" >&2
    tail -n 20 "$work"/*.log >&2 || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

bold=""
plain=""
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m'
  plain=$'\e[0m'
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Every machine of the demo is a folder with a HOME of its own.
as() {
  show "$@"
  run "$@"
}
show() { printf '  %-7s$ peerup %s\n' "$1" "${*:2}" >&3; }
run() {
  local machine=$1
  shift
  (cd "$work/$machine" && HOME=$work/$machine exec "$peerup" "$@" 3>&-)
}
background() {
  local log=$1 machine=$2
  show "${@:2}"
  shift 2
  (cd "$work/$machine" && HOME=$work/$machine exec "$peerup" "$@") \
    >"$work/$log.log" 2>"$work/$log.err.log" 3>&- &
  pids+=($!)
}
wait_for() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" 2>/dev/null; do
    [ "$SECONDS" -lt "$until" ] || { echo "Waited too long for $what" >&2 && exit 1; }
    sleep 0.05
  done
}
connects() { (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    connects "$port" || { echo "$port" && return; }
  done
}
indent() { sed 's/^/          /'; }
mkdir "$work/relay" "$work/home" "$work/laptop" "$work/page"

step "1. A relay: a machine that both others can reach. It lets in only peers it knows."
port=$(free_port)
cat >"$work/relay/relay-server.yaml" <<YAML
identity:
  key_file: relay_node.key
network:
  listen_addresses: ["/ip4/127.0.0.1/tcp/$port"]
security:
  authorized_keys_file: relay_authorized_keys
  enable_connection_gating: true
YAML
touch "$work/relay/relay_authorized_keys"
chmod 600 "$work"/relay/*
background relay relay relay serve
wait_for 10 "the relay" grep -q "Relay running" "$work/relay.log"
relay_id=$(sed -n 's/^Peer ID: //p' "$work/relay.log")
relay=/ip4/127.0.0.1/tcp/$port/p2p/$relay_id
echo "$relay" | indent

step "2. home: set up, known to the relay, and offering a web server as the service \"web\"."
echo "$relay" | as home init >"$work/init.log"
home_id=$(run home whoami)
as relay relay authorize "$home_id" home | indent
web_port=$(free_port)
cat >"$work/page/index.html" <<HTML
<!doctype html><title>home</title>
<h1>Hello from home</h1><p>Served on $(date -u '+%F %T') UTC, to whoever is paired.</p>
HTML
head -c 200000 /dev/urandom | base64 >>"$work/page/index.html"
busybox httpd -f -p "127.0.0.1:$web_port" -h "$work/page" >"$work/httpd.log" 2>&1 3>&- &
pids+=($!)
wait_for 5 "the web server" connects "$web_port"
as home service add web "localhost:$web_port" | indent
background daemon home daemon
wait_for 20 "home's reservation at the relay" grep -q "reservation granted" "$work/daemon.err.log"

step "3. Pairing: home makes an invite code; laptop, unknown to everybody so far, joins with it."
background invite home invite --name home --non-interactive
wait_for 20 "the invite code" test -s "$work/invite.log"
code=$(cat "$work/invite.log")
fold -w 85 <<<"$code" | indent
show laptop join "<the code>" --name laptop
run laptop join "$code" --name laptop | sed -n '1,/^Authorized/p' | indent
wait_for 10 "home to keep laptop" grep -q "# laptop" "$work/home/.config/peerup/authorized_keys"

step "4. laptop: home's web server as a local port."
as laptop ping home -c 2 --interval 200ms | indent
background proxy laptop proxy home web 0
wait_for 30 "the proxy" grep -q "TCP proxy listening" "$work/proxy.log"
grep -E "Connected|listening" "$work/proxy.log" | indent
local_port=$(sed -n 's/^TCP proxy listening on localhost://p' "$work/proxy.log")
curl -sS --max-time 30 -o "$work/got.html" "http://localhost:$local_port/index.html"
sed -n 2p "$work/got.html" | indent

step "5. The page there and here:"
there=$(sha256sum <"$work/page/index.html" | cut -d' ' -f1)
here=$(sha256sum <"$work/got.html" | cut -d' ' -f1)
printf '  %-7s %s  %d bytes\n' home "$there" "$(stat -c %s "$work/page/index.html")" \
  laptop "$here" "$(stat -c %s "$work/got.html")"
if [ "$there" != "$here" ]; then
  echo "The checksums differ." >&2
  exit 1
fi
echo "  The checksums are equal."
