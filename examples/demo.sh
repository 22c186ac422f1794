#!/usr/bin/env bash
# `make demo`: on this one machine, a relay and two peers. They pair with an invite code, and a page of
# a real web server at "home" comes through the tunnel to "laptop". Everything happens in a
# temporary folder, on loopback only, and ends with the checksums of both pages and the ways they took.
# The same again in a network of its own (a namespace) whose firewall blocks something; peerup is not
# told:
#   --udp-blocked  UDP is dropped, but for DNS
#   --http-only    that, and TCP connections that do not begin with an HTTP request are reset
# Usage: demo.sh [--udp-blocked | --http-only] path/to/peerup
set -euo pipefail

usage="usage: demo.sh [--udp-blocked | --http-only] path/to/peerup"
mode=open
case ${1:-} in
  --udp-blocked | --http-only)
    mode=${1#--}
    shift
    ;;
esac
peerup=$(realpath "${1:?$usage}")
case $mode in
  open) transport=quic ;;
  udp-blocked) transport=tcp ;;
  http-only) transport=websocket ;;
esac

# A network of our own has only loopback, and a firewall that we may change.
if [ $mode != open ] && [ "${PEERUP_DEMO_NETWORK:-}" != own ]; then
  PATH=$PATH:/usr/sbin:/sbin
  for program in unshare ip nft $([ $mode = udp-blocked ] || echo python3); do
    command -v "$program" >/dev/null || { echo "The demo needs the program $program." >&2 && exit 1; }
  done
  if ! why=$(unshare --user --map-root-user --net true 2>&1); then
    echo "The demo cannot make a network of its own, because this system does not allow user" \
      "namespaces: $why" >&2
    exit 1
  fi
  PEERUP_DEMO_NETWORK=own exec unshare --user --map-root-user --net "$0" "--$mode" "$peerup"
fi
if [ $mode != open ] && [ "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')" != lo ]; then
  echo "This is not a network of the demo's own: its firewall stays as it is." >&2
  exit 1
fi

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
# By the kernel's table: a connection as a question would meet the middlebox.
listens() { grep -qE "$(printf ':%04X [0-9A-F]*:0000 0A' "$1")" /proc/net/tcp /proc/net/tcp6; }
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    listens "$port" || { echo "$port" && return; }
  done
}
indent() { sed 's/^/          /'; }
mkdir "$work/relay" "$work/home" "$work/laptop" "$work/page"

# The rules drop what comes in: as with a firewall far away, the sender is not told.
block_udp() {
  nft -f - <<NFT
table inet demo {
  chain input {
    type filter hook input priority 0
    udp sport 53 accept
    udp dport 53 accept
    meta l4proto udp counter drop
  }
}
NFT
}
# Every TCP connection goes through the middlebox, which sees IPv4 only.
only_http() {
  local box
  box=$(free_port)
  "$(dirname "$0")/http-only.py" "$box" >"$work/middlebox.log" 2>&1 3>&- &
  pids+=($!)
  wait_for 10 "the middlebox" listens "$box"
  nft -f - <<NFT
table ip6 demo {
  chain input {
    type filter hook input priority 0
    meta l4proto tcp reject with tcp reset
  }
}
table ip demo {
  chain output {
    type nat hook output priority -100
    ip protocol tcp ip saddr != 127.0.0.2 counter redirect to :$box
  }
}
NFT
}
if [ $mode != open ]; then
  step "0. A network that blocks: $([ $mode = udp-blocked ] && echo UDP || echo all but HTTP)."
  ip link set lo up
  block_udp
  [ $mode = udp-blocked ] || only_http
  nft list ruleset | sed -n '/hook/d; /table\|accept$\|counter\|reject/p' | indent
fi

step "1. A relay: a machine that both others can reach. It lets in only peers it knows."
port=$(free_port)
cat >"$work/relay/relay-server.yaml" <<YAML
identity:
  key_file: relay_node.key
network:
  listen_addresses:
    - "/ip4/127.0.0.1/tcp/$port"
    - "/ip4/127.0.0.1/udp/$port/quic-v1"
    - "/ip4/127.0.0.1/tcp/$port/ws"
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
wait_for 5 "the web server" listens "$web_port"
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

step "5. The page there and here, and the ways between them:"
there=$(sha256sum <"$work/page/index.html" | cut -d' ' -f1)
here=$(sha256sum <"$work/got.html" | cut -d' ' -f1)
printf '  %-7s %s  %d bytes\n' home "$there" "$(stat -c %s "$work/page/index.html")" \
  laptop "$here" "$(stat -c %s "$work/got.html")"
if [ "$there" != "$here" ]; then
  echo "The checksums differ." >&2
  exit 1
fi
echo "  The checksums are equal."
show home daemon paths
run home daemon paths >"$work/paths"
indent <"$work/paths"
# One to the relay, one to the laptop at least.
if [ "$(wc -l <"$work/paths")" -lt 2 ] || [ -n "$(cut -f3 "$work/paths" | grep -vx "$transport")" ]; then
  echo "Not every way goes over $transport." >&2
  exit 1
fi
echo "  All of it went over $transport."

# The firewall must have had something to do, or this showed nothing.
if [ $mode != open ]; then
  dropped=$(nft list chain inet demo input | sed -n 's/.*counter packets \([0-9]*\) .*drop.*/\1/p')
  [ "$dropped" -gt 0 ]
  echo "  The firewall dropped $dropped UDP packets."
fi
if [ $mode = http-only ]; then
  refused=$(grep -c "^reset" "$work/middlebox.log")
  [ "$refused" -gt 0 ]
  echo "  It reset $refused TCP connections, and let $(grep -c "^passed" "$work/middlebox.log") pass."
fi
