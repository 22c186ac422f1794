#!/usr/bin/env bash
# Every transport, with all commands: the relay and home listen on one kind only, and nobody is told. The
# nodes know the relay by its TCP address, as an invite code has it, and home by what it says of itself.
source "$(dirname "$0")/lib.sh"

# listen_only CONFIG ADDRESS...: replaces the addresses a configuration listens on.
listen_only() {
  local config=$1 lines="" addr
  shift
  for addr in "$@"; do lines+="    - \"$addr\"\n"; done
  sed -i '/^  listen_addresses:/,/^[a-z]/ { /^    - /d }' "$config"
  sed -i "s|^  listen_addresses:.*|&\n${lines%\\n}|" "$config"
}
# told FILE WORD PATH TRANSPORT...: the line of a command that names the path and how it is made.
told() { grep -qE "^$2 \[$3\] via [^ ]+ \(tls over $4\)" "$1"; }
# path_is TYPE TRANSPORT PEER: home's daemon shows this path to the peer, as text and as data.
path_is() {
  local rows
  rows=$(as home daemon paths)
  grep -qE "^${3:0:16}\.\.\.	$1	$2	ipv4	" <<<"$rows" || { printf '%s\n' "$rows" >&2 && return 1; }
  as home daemon paths --json | tr -d ' \n' | grep -qE "\"peer_id\":\"$3\",\"path_type\":\"$1\",[^{]*\"transport\":\"$2\""
}

make_relay
start_relay
stop relay || true
mkdir "$WORK/page"
head -c 3000000 /dev/urandom >"$WORK/page/file"
want=$(sha <"$WORK/page/file")
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
serve_pages web "$WORK/page"
as home service add web "localhost:$WEB_PORT" >/dev/null
check "the relay is known by TCP" has "$(config_of laptop)" "/tcp/$RELAY_PORT/p2p/"

# shown SHOWN API PROTOCOLS: the name that people see, the API's, and the addresses' form.
try() {
  local shown=$1 api=$2 form=$3
  step "$shown"
  listen_only "$RELAY_CONFIG" "/ip4/127.0.0.1/${form/PORT/$RELAY_PORT}"
  listen_only "$(config_of home)" "/ip4/127.0.0.1/${form/PORT/0}"
  start_as relay relay relay serve --config "$RELAY_CONFIG"
  wait_for 10 "the relay runs" has "$WORK/relay.log" "Relay running"
  check "... and on nothing else" same 1 "$(grep -c '^  /ip' "$WORK/relay.log")"
  start_daemon home
  wait_reserved home
  check "home's path to the relay is over $shown" path_is DIRECT "$api" "$RELAY_ID"
  as laptop relayed ping home -c 1 >"$WORK/ping.log" 2>&1
  check "ping is relayed over $shown, and says so" told "$WORK/ping.log" Connected RELAYED "$shown"
  start_proxy proxy laptop relayed proxy home web 0
  check "home shows the path through the relay" path_is RELAYED "$api" "$ID_laptop"
  check "a file through the relay is the same" same "$want" \
    "$(fetch_sha "http://localhost:$PORT/file")"
  stop proxy || true
  start_proxy proxy laptop proxy home web 0
  wait_for 20 "the proxy goes around the relay, over $shown" \
    grep -qE "^(Connected|Path is now) \[DIRECT\] via [^ ]+ \(tls over $shown\)" "$WORK/proxy.log"
  check "home shows the direct path" path_is DIRECT "$api" "$ID_laptop"
  check "a file on it is the same" same "$want" "$(fetch_sha "http://localhost:$PORT/file")"
  stop proxy || true
  stop home || true
  stop relay || true
}
try quic-v1 quic udp/PORT/quic-v1
try tcp tcp tcp/PORT
try ws websocket tcp/PORT/ws
