#!/usr/bin/env bash
# kill -9 of any process at any time loses no configuration and no key, and what runs comes back.
# PEERUP_E2E_KILLS sets how many commands are killed (60).
source "$(dirname "$0")/lib.sh"
kills=${PEERUP_E2E_KILLS:-60}

make_relay
start_relay
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
serve_load load
as home service add load "localhost:$LOAD_PORT" >/dev/null
key=$(sha <"$WORK/home/.config/peerup/identity.key")
relay_key=$(sha <"$WORK/relay/relay_node.key")

# run_and_kill MACHINE ARGS...: starts peerup and kills it within its life; true if it had ended well.
run_and_kill() {
  local pid delay code=0
  start_as victim "$@"
  pid=${PID[victim]}
  unset 'PID[victim]'
  delay=$((RANDOM % 16))
  sleep "0.0$(printf '%02d' $delay)"
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || code=$?
  return "$code"
}

step "$kills commands that write, each killed at a random moment"
done_services=() done_peers=() killed=0
for ((i = 0; i < kills; i++)); do
  if run_and_kill home service add "s$i" "localhost:$((10000 + i))"; then
    done_services+=("s$i")
  else
    killed=$((killed + 1))
  fi
  peer=$(as "spare$i" whoami 2>/dev/null || true) # no config there: a reminder that it is said
  [ -z "$peer" ] || bad "whoami without a config fails"
  if ((i % 2)); then run_and_kill home auth remove "$ID_laptop" || killed=$((killed + 1)); fi
  if run_and_kill home auth add "$ID_laptop" --comment laptop; then done_peers+=("$i"); fi
  as home config validate >"$WORK/validate.log" 2>&1 || { cat "$WORK/validate.log"; bad "config valid"; }
  as home auth validate >"$WORK/validate.log" 2>&1 || { cat "$WORK/validate.log"; bad "keys valid"; }
done
good "the config and authorized_keys were whole after each ($killed ended by the kill)"
check "some were really killed" test "$killed" -gt 0
lost=0
for name in "${done_services[@]}"; do
  grep -qE "^ *$name:" "$(config_of home)" || lost=$((lost + 1))
done
check "none of the ${#done_services[@]} services that were reported added is lost" same 0 $lost
check "the key is the same" same "$key" "$(sha <"$WORK/home/.config/peerup/identity.key")"
as home auth add "$ID_laptop" --comment laptop >/dev/null 2>&1 || true

step "init, killed at random moments, can be run again or has done its work"
for ((i = 0; i < 20; i++)); do
  printf '%s\n' "$RELAY_ADDR" >"$WORK/answer"
  run_and_kill "init$i" init <"$WORK/answer" || true
  if [ -e "$(config_of "init$i")" ]; then
    as "init$i" config validate >/dev/null
    continue
  fi
  before=""
  [ ! -e "$WORK/init$i/.config/peerup/identity.key" ] ||
    before=$(sha <"$WORK/init$i/.config/peerup/identity.key")
  as "init$i" init <"$WORK/answer" >"$WORK/init.log" 2>&1 || { cat "$WORK/init.log"; bad "init again"; }
  [ -z "$before" ] || [ "$before" = "$(sha <"$WORK/init$i/.config/peerup/identity.key")" ] ||
    bad "a key that was written is kept"
done
good "20 of them"

step "the relay's first start, which makes its key"
for ((i = 0; i < 10; i++)); do
  mkdir -p "$WORK/first$i"
  sed "s|/tcp/$RELAY_PORT|/tcp/0|" "$RELAY_CONFIG" >"$WORK/first$i/relay-server.yaml"
  : >"$WORK/first$i/relay_authorized_keys"
  chmod 600 "$WORK/first$i"/*
  run_and_kill "first$i" relay serve || true
  start_as again "first$i" relay serve
  wait_for 10 "relay $i starts after it" has "$WORK/again.log" "Relay running"
  check "its key is private" same 600 "$(stat -c %a "$WORK/first$i/relay_node.key")"
  kill9 again
done

step "a daemon and a proxy at work, killed"
start_daemon home
wait_reserved home
start_proxy proxy laptop relayed proxy home load 0
port=$PORT
check "the proxy works" echoes "$port"
for ((i = 0; i < 3; i++)); do
  kill9 home
  check "its socket was left behind" test -e "$WORK/home/.config/peerup/peerup.sock"
  start_daemon home
  check "the daemon answers on it again" as home daemon status >/dev/null
  wait_reserved home
  wait_for 45 "the proxy, which was not restarted, works again" echoes "$port" 3
done
check "the key is still the same" same "$key" "$(sha <"$WORK/home/.config/peerup/identity.key")"
as home daemon start >"$WORK/second.log" 2>&1 && bad "a second daemon is refused"
check "a second daemon is refused with a reason" grep -q "already running" "$WORK/second.log"

step "the relay at work, killed"
for ((i = 0; i < 2; i++)); do
  kill9 relay
  sleep 1
  : >"$WORK/home.log"
  start_relay
  wait_reserved home 30
  wait_for 45 "the proxy works again" echoes "$port" 3
done
check "the relay's key is the same" same "$relay_key" "$(sha <"$WORK/relay/relay_node.key")"
check "nothing was left half-written beside the files" \
  same "" "$(find "$WORK/home/.config/peerup" "$WORK/relay" -name '*.tmp' -size 0)"
