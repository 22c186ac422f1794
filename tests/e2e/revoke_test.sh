#!/usr/bin/env bash
# Who may do what, while everything runs: auth remove cuts off within a second, relay deauthorize too,
# allowed_peers refuses the others, a stranger gets nothing. No restart anywhere.
source "$(dirname "$0")/lib.sh"

make_relay
start_relay
for node in home laptop guest; do
  make_node $node
  admit $node
done
introduce home laptop
introduce home guest
serve_load load
as home service add load "localhost:$LOAD_PORT" >/dev/null
as home service add private "localhost:$LOAD_PORT" >/dev/null
sed -i "/^ *private:/,/local_address/ s/^\( *\)local_address.*/&\n\1allowed_peers: [\"$ID_laptop\"]/" \
  "$(config_of home)"
as home config validate >/dev/null
start_daemon home
wait_reserved home

# hold PORT: opens a connection on descriptor 8 and sees it working.
hold() {
  local answer=""
  exec 8<>"/dev/tcp/127.0.0.1/$1"
  printf 'Ea' >&8
  IFS= read -r -t 10 -N 1 -u 8 answer || true
  check "a connection stands" same a "$answer"
}
# ended_within MS: the held connection ends, measured from now.
ended_within() {
  local from took code=0
  from=$(now_ms)
  IFS= read -r -t 10 -N 1 -u 8 _ 2>/dev/null || code=$?
  took=$(($(now_ms) - from))
  exec 8>&-
  printf '       after %d ms\n' "$took"
  [ "$code" -ne 0 ] && [ "$code" -le 128 ] && [ "$took" -le "$1" ]
}
wait_direct() {
  wait_for 20 "$1 goes around the relay" \
    grep -qE "(Connected|Path is now) \[DIRECT\]" "$WORK/$1.log"
}

step "services for some only"
start_proxy laptop-private laptop proxy home private 0
check "laptop may use the service kept for it" echoes "$PORT"
start_proxy guest-private guest proxy home private 0
from=$(now_ms)
if echoes "$PORT"; then bad "guest may not"; fi
good "guest may not"
check "and is told at once" test $(($(now_ms) - from)) -lt 5000
wait_for 5 "by a sentence" grep -qE "connection to private failed: .+" "$WORK/guest-private.log"
start_proxy guest-load guest proxy home load 0
check "guest may use the other service" echoes "$PORT"
wait_for 5 "home logs the refusal" \
  grep -qE "refused.*private" "$WORK/home.log"
for label in laptop-private guest-private guest-load; do stop $label || true; done

for how in direct relayed; do
  step "auth remove, $how"
  kind=()
  [ $how = direct ] || kind=(relayed)
  start_proxy "cut-$how" laptop "${kind[@]}" proxy home load 0
  port=$PORT
  [ $how = relayed ] || wait_direct "cut-$how"
  hold "$port"
  as home auth remove "$ID_laptop" >/dev/null
  check "the connection is cut within a second" ended_within 1000
  if echoes "$port" 3; then bad "no new one is served"; fi
  good "no new one is served"
  if as laptop relayed ping home -c 1 >"$WORK/ping-$how.log" 2>&1; then
    bad "nor a ping answered"
  fi
  good "nor a ping answered"
  check "the daemon does not count laptop as connected" \
    same 0 "$(as home daemon paths --json | grep -c "$ID_laptop")"
  as home auth add "$ID_laptop" --comment laptop >/dev/null
  wait_for 60 "authorized again, it works again without a restart" echoes "$port" 3
  stop "cut-$how" || true
done

step "relay deauthorize"
start_proxy carried laptop relayed proxy home load 0
port=$PORT
hold "$port"
as relay relay deauthorize "$ID_laptop" --config "$RELAY_CONFIG" >/dev/null
check "the circuit is cut within a second" ended_within 1000
if echoes "$port" 3; then bad "no new one is carried"; fi
good "no new one is carried"
stop carried || true
if as laptop relayed ping home -c 1 >"$WORK/refused.log" 2>&1; then bad "the relay refuses laptop"; fi
check "the relay refuses laptop, and laptop is told" grep -qi "relay\|refused\|denied" \
  "$WORK/refused.log"
admit laptop
pings() { as laptop relayed ping home -c 1 >"$WORK/again.log" 2>&1; }
wait_for 5 "admitted again, it pings" pings

step "a stranger"
make_node stranger
sed -i "s/^names: {}/names:\n  home: $ID_home/" "$(config_of stranger)"
if as stranger ping home -c 1 >"$WORK/stranger.log" 2>&1; then bad "a stranger is not let in"; fi
good "a stranger is not let in by the relay"
admit stranger
sleep 1.1 # the relay takes it up
if as stranger ping home -c 1 >"$WORK/stranger2.log" 2>&1; then bad "nor by home"; fi
good "nor by home"
wait_for 5 "home logs who was refused" grep -qE "refused.*$ID_stranger" "$WORK/home.log"

step "expiry"
soon=$(date -u -d '+3 seconds' +%FT%TZ)
start_proxy expiring guest proxy home load 0
port=$PORT
hold "$port"
sed -i "s/^$ID_guest.*/$ID_guest  expires=$soon  # guest/" "$(keys_of home)"
until [ "$(date -u +%FT%TZ)" \> "$soon" ] || [ "$(date -u +%FT%TZ)" = "$soon" ]; do sleep 0.02; done
check "an authorization that ends cuts off within two seconds" ended_within 2000

step "services come and go without a restart"
as home service disable load >/dev/null
start_proxy gone laptop proxy home load 0
port=$PORT
if echoes "$port" 5; then bad "a disabled service is not served"; fi
good "a disabled service is not served"
as home service enable load >/dev/null
wait_for 20 "an enabled one is" echoes "$port" 5
