#!/usr/bin/env bash
# Configurations that heal themselves: apply, confirm, going back by itself, rollback, over restarts and
# kills and where nothing can be written; and a transfer that does not notice any of it.
# PEERUP_E2E_MIB sets the transfer's size (64 MiB).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MIB=${PEERUP_E2E_MIB:-64}
make_relay '  session_data_limit: "4GB"
  session_duration: "1h"'
start_relay
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
ID_relay_peer=$RELAY_ID
mkdir -p "$WORK/page"
head -c $((MIB << 20)) /dev/urandom >"$WORK/page/blob"
serve_pages web "$WORK/page"
as home service add web "127.0.0.1:$WEB_PORT" >/dev/null
start_daemon home
wait_reserved home
CONFIG=$(config_of home)
FOLDER=$(dirname "$CONFIG")
MARKER=$FOLDER/.config.pending
ARCHIVE=$FOLDER/.config.last-good.yaml
variant() { sed "s/reservation_interval: .*/reservation_interval: \"$1\"/" "$CONFIG" >"$WORK/new.yaml" && chmod 600 "$WORK/new.yaml"; }
interval() { sed -n 's/.*reservation_interval: "\(.*\)"/\1/p' "$CONFIG"; }

step "what runs is archived"
check "the archive is the config" cmp -s "$ARCHIVE" "$CONFIG"
check "and private" same "$(stat -c %a "$ARCHIVE")" 600

step "a change goes back unless it is confirmed"
variant 3m
as home config apply "$WORK/new.yaml" --confirm-timeout 3s >"$WORK/applied"
check "applied, with the flag behind the file" grep -q "Auto-revert in 3s unless confirmed" "$WORK/applied"
check "it is in place" same "$(interval)" 3m
check "config show tells how long" grep -q "Commit-confirmed pending: [123]s remaining" <(as home config show)
check "a second one is refused" grep -q "already pending" \
  <(as home config apply "$WORK/new.yaml" 2>&1 || true)
wait_for 5 "the running daemon takes it up" has "$WORK/home.log" "a new config waits for"
is_back() { [ "$(interval)" = 2m ] && [ ! -e "$MARKER" ]; }
wait_for 8 "and puts the old one back" is_back
wait_for 3 "saying so" has "$WORK/home.log" "not confirmed in time, the old one is back"
check "the daemon lives" alive home
check "the archive is still the old one" cmp -s "$ARCHIVE" "$CONFIG"

step "a confirmed change stays"
variant 4m
as home config apply --confirm-timeout 3s "$WORK/new.yaml" >/dev/null
waits_again() { [ "$(grep -c 'a new config waits for' "$WORK/home.log")" -ge 2 ]; }
wait_for 5 "taken up" waits_again
check "confirmed" grep -q "is now permanent" <(as home config confirm)
wait_for 5 "the running daemon knows" has "$WORK/home.log" "the new config is confirmed"
sleep 3
check "its deadline passes" same "$(interval)" 4m
check "the daemon lives" alive home
check "it is the archived one now" cmp -s "$ARCHIVE" "$CONFIG"

step "over a restart"
variant 5m
as home config apply --confirm-timeout 4s "$WORK/new.yaml" >/dev/null
kill9 home
start_daemon home
check "a restart does not confirm" test -e "$MARKER"
is_4m() { [ "$(interval)" = 4m ]; }
wait_for 10 "it goes back in time" is_4m
as home config apply --confirm-timeout 1s "$WORK/new.yaml" >/dev/null
kill9 home
sleep 1.2
start_daemon home
check "a start after the deadline undoes it first" same "$(interval)" 4m
check "and says so" has "$WORK/home.log" "not confirmed in time and is undone"

step "a broken config, and back"
echo "relay: [" >>"$CONFIG"
wait_for 5 "a running daemon keeps the old one" has "$WORK/home.log" "config not taken up"
stop home
check "a start is refused with a way out" grep -q "failed to parse YAML.*peerup config rollback" <(as home daemon 2>&1 || true)
check "which works" grep -q "Restored" <(as home config rollback)
start_daemon home
check "the config is the archived one" cmp -s "$ARCHIVE" "$CONFIG"
printf 'network: {}\n' >"$WORK/bad.yaml" && chmod 600 "$WORK/bad.yaml"
check "a new one with faults is refused" grep -q "validation errors" \
  <(as home config apply "$WORK/bad.yaml" 2>&1 || true)
check "and so is a time that is none" grep -q "confirm-timeout" \
  <(as home config apply "$WORK/new.yaml" --confirm-timeout soon 2>&1 || true)

step "kills in the middle of writing"
wait_reserved home
for i in {1..15}; do
  variant "${i}0s"
  (as home config apply "$WORK/new.yaml" --confirm-timeout 1h >/dev/null 2>&1 &
    sleep "0.0$((RANDOM % 60))"
    kill -KILL $! 2>/dev/null) || true
  as home config validate >/dev/null 2>&1 || bad "kill $i left no valid config"
  rm -f "$MARKER" "$FOLDER/.config.pre-confirmed.yaml"
done
good "fifteen kills leave a valid config each"
cp "$ARCHIVE" "$CONFIG"

if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
  step "where nothing can be written"
  # A file may grow to no byte at all: what a full disk says.
  check "a full disk is told" grep -qiE "too large|no space|failed" \
    <( (trap '' XFSZ && ulimit -f 0 && as home config apply "$WORK/new.yaml" 2>&1) || true)
  check "and costs nothing" cmp -s "$ARCHIVE" "$CONFIG"
  check "nothing waits" test ! -e "$MARKER"
fi

step "a relay's config"
check "it is valid" grep -q "OK:" <(as relay relay config validate --config "$RELAY_CONFIG")
cp "$RELAY_CONFIG" "$WORK/relay-before"
echo "resources: [" >>"$RELAY_CONFIG"
check "broken, it is not" grep -q "FAIL:" <(as relay relay config validate --config "$RELAY_CONFIG" 2>&1 || true)
check "and comes back" grep -q "Restored" <(as relay relay config rollback --config "$RELAY_CONFIG")
check "as it was" cmp -s "$RELAY_CONFIG" "$WORK/relay-before"

step "a transfer does not notice"
start_proxy tunnel laptop proxy home web 0
want=$(sha <"$WORK/page/blob")
curl -sS --max-time 300 --limit-rate $((MIB << 20 >> 3)) "http://localhost:$PORT/blob" -o "$WORK/got" &
transfer=$!
rounds=0
while kill -0 "$transfer" 2>/dev/null; do
  rounds=$((rounds + 1))
  variant "${rounds}1s"
  as home config apply "$WORK/new.yaml" --confirm-timeout 1s >/dev/null 2>&1 || true
  as home auth add "$ID_relay_peer" >/dev/null 2>&1 || true
  sleep 0.7
  as home auth remove "$ID_relay_peer" >/dev/null 2>&1 || true
  sleep 0.8
done
wait "$transfer" || bad "the transfer broke"
check "its bytes are whole" same "$(sha <"$WORK/got")" "$want"
check "while the config changed and went back ($rounds times)" test "$rounds" -ge 2
