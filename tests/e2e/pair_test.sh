#!/usr/bin/env bash
# Three machines that the relay does not know pair by the codes of one group, and reach each other;
# what is not a good code gets nowhere. docs/relay-pairing.md, cli.md 10, with real processes.
source "$(dirname "$0")/lib.sh"

ADMIN=$WORK/relay/.relay-admin
KEYS=$WORK/relay/relay_authorized_keys
pair() { as relay relay pair --config "$RELAY_CONFIG" "$@"; }
codes_of() { sed -n 's/^  \(Code [0-9]*:  \)\{0,1\}\([A-Z2-7-]\{40,\}\)$/\2/p' "$1"; }
admin() { # METHOD PATH [CURL ARGUMENTS]
  local method=$1 path=$2
  shift 2
  curl -sS --max-time 10 --unix-socket "$ADMIN.sock" -X "$method" -w '\n%{http_code}' \
    -H "Authorization: Bearer $(cat "$ADMIN.cookie")" "$@" "http://relay$path"
}
join() { # MACHINE CODE [NAME]: the output is in MACHINE-join.log
  as "$1" join "$2" --name "${3:-$1}" >"$WORK/$1-join.log" 2>&1 || bad "$1 joins"
}
groups_open() { pair --list --json | grep -o '"id"' | wc -l; }

step "without a running relay, 'relay pair' says so"
make_relay
if pair >"$WORK/none.log" 2>&1; then bad "it fails"; fi
check "and what to do" has "$WORK/none.log" "peerup relay serve"

step "a relay that knows nobody, and its admin API"
start_relay
for file in sock cookie; do
  check "the $file is private" same 600 "$(stat -c %a "$ADMIN.$file")"
done
check "without the cookie there is no answer" same '{"error":"unauthorized"}' \
  "$(curl -sS --unix-socket "$ADMIN.sock" http://relay/v1/pair)"
check "no group is open" same "[]200" "$(admin GET /v1/pair | tr -d '\n')"
check "a body that is too long is refused" same 400 \
  "$(admin POST /v1/pair -d "{\"namespace\":\"$(head -c 5000 /dev/zero | tr '\0' n)\"}" | tail -1)"
check "101 codes are refused" has <(admin POST /v1/pair -d '{"count":101}') "exceeds maximum (100)"
check "an unknown group is not found" same 404 "$(admin DELETE /v1/pair/00000000 | tail -1)"
if as relay relay serve --config "$RELAY_CONFIG" >"$WORK/second.log" 2>&1; then bad "a second fails"; fi

step "a code for each of three machines"
pair --count 3 --ttl 10m >"$WORK/codes.log"
mapfile -t CODE < <(codes_of "$WORK/codes.log")
check "there are three" same 3 "${#CODE[@]}"
GROUP=$(sed -n 's/^Group ID: //p' "$WORK/codes.log")
pair --list >"$WORK/list.log"
check "the group is listed" grep -qE "^  $GROUP  0/3 used  active \((10m0s|9m5[0-9]s) remaining\)" \
  "$WORK/list.log"

step "a stranger without a code gets nowhere"
other=$([ "${CODE[0]:5:1}" = A ] && echo B || echo A)
if as thief join "${CODE[0]:0:5}$other${CODE[0]:6}" --name thief >"$WORK/thief.log" 2>&1; then
  bad "a wrong token is refused"
fi
check "a wrong token is refused, with a reason" has "$WORK/thief.log" "Pairing failed"
check "the relay does not know it" same 0 "$(grep -c thief "$KEYS")"
check "and it has no config" test ! -e "$(config_of thief)"

step "home and laptop pair; home's daemon runs when laptop comes"
join home "${CODE[0]}"
check "join says what to do next" has "$WORK/home-join.log" "peerup daemon"
install_commands home
ID_home=$(as home whoami)
mkdir "$WORK/page"
head -c 300000 /dev/urandom >"$WORK/page/index.bin"
serve_pages web "$WORK/page"
as home service add web "localhost:$WEB_PORT" >/dev/null
start_daemon home
wait_reserved home
join laptop "${CODE[1]}" home
check "laptop is shown home, unverified" has "$WORK/laptop-join.log" 'Peer "home" authorized. [UNVERIFIED]'
check "with a code to compare" grep -qE "  [0-9]{3}-[0-9]{3}  " "$WORK/laptop-join.log"
ID_laptop=$(as laptop whoami)
check "the relay authorized both" same 2 "$(grep -c "group=$GROUP" "$KEYS")"
line=$(grep "$RELAY_ID" "$(keys_of laptop)")
check "laptop keeps the relay with its proof" grep -qE \
  "group=$GROUP +group_size=3 +hmac_proof=[0-9a-f]{64} +role=relay" <<<"$line"
wait_for 20 "home learns of laptop from the relay" has "$(keys_of home)" "$ID_laptop"
wait_for 10 "by a name" has "$(config_of home)" "$ID_laptop"
start_proxy proxy laptop proxy home web 0
check "laptop gets home's page" same "$(sha <"$WORK/page/index.bin")" \
  "$(fetch_sha "http://localhost:$PORT/index.bin")"
stop proxy INT || true

step "a used code serves nobody else, but its owner once more"
if as late join "${CODE[1]}" --name late >"$WORK/late.log" 2>&1; then bad "a replay is refused"; fi
check "a replay is refused" has "$WORK/late.log" "Pairing failed"
check "its owner gets the answer again" as laptop join "${CODE[1]}" --name home --non-interactive

step "the third comes, who knows both; both learn of it; clashing names are told apart"
start_daemon laptop
wait_reserved laptop
join phone "${CODE[2]}" home
ID_phone=$(as phone whoami)
for id in "$ID_home" "$ID_laptop"; do check "phone knows ${id:0:16}" has "$(keys_of phone)" "$id"; done
for machine in home laptop; do
  wait_for 20 "$machine learns of phone" has "$(keys_of $machine)" "$ID_phone"
  wait_for 10 "by a name of its own" has "$(config_of $machine)" "$ID_phone"
  check "$machine's config is whole" as $machine config validate
done
start_proxy proxy phone proxy "$ID_home" web 0
check "phone gets home's page" same "$(sha <"$WORK/page/index.bin")" \
  "$(fetch_sha "http://localhost:$PORT/index.bin")"
stop proxy INT || true
check "all codes are used" has <(pair --list) "$GROUP  3/3 used"
if as late join "${CODE[2]}" >"$WORK/late2.log" 2>&1; then bad "the group is closed"; fi

step "a peer that serves no ping-pong is pinged by libp2p's ping; one that hangs is lost"
sed -i '/ping_pong:/,/id:/s/enabled: true/enabled: false/' "$(config_of home)"
disabled() { as home daemon status >/dev/null && has <(tail -n 2 "$WORK/home.log") "config taken up"; }
wait_for 10 "home takes it up" disabled
check "it is pinged" has <(as laptop ping "$ID_home" -c 1) "1 sent, 1 received, 0% loss"
kill -STOP "${PID[home]}"
code=0
as laptop ping "$ID_home" -c 1 >"$WORK/hang.log" 2>&1 || code=$?
kill -CONT "${PID[home]}"
check "nothing received is exit code 1" same 1 "$code"
check "and so many percent" has "$WORK/hang.log" "1 sent, 0 received, 100% loss"

step "home goes away while laptop pings it through its daemon"
start_as ping laptop ping "$ID_home" -c 3 --interval 500ms
wait_for 20 "it answers" has "$WORK/ping.log" "seq=1 rtt="
stop home || true
end_within 60 "${PID[ping]}"
unset 'PID[ping]'
check "what is lost counts as lost" grep -qE "^3 sent, [12] received, (33|67)% loss" "$WORK/ping.log"
check "and says why" grep -qE "^seq=[23] error=." "$WORK/ping.log"

step "revoked and expired groups let nobody in"
code=$(pair --ttl 10m | codes_of /dev/stdin)
group=$(pair --list --json | grep -oE '"id": *"[0-9a-f]{8}"' | grep -oE '[0-9a-f]{8}' | grep -v "$GROUP")
check "revoke says so" has <(pair --revoke "$group") "Pairing group $group revoked."
if as late join "$code" >"$WORK/revoked.log" 2>&1; then bad "a revoked code is refused"; fi
check "with what to do" has "$WORK/revoked.log" "a new"
code=$(pair --ttl 1s | codes_of /dev/stdin)
sleep 2.5
if as late join "$code" >"$WORK/expired.log" 2>&1; then bad "an expired code is refused"; fi
check "it is not listed any more" same 1 "$(groups_open)"
pair --revoke "$GROUP" >/dev/null
check "no late comer is known" same 0 "$(grep -c late "$KEYS")"

step "an authorization that ends"
code=$(pair --expires 3s | codes_of /dev/stdin)
join guest "$code"
check "stands in the relay's file" grep -qE "expires=20[0-9TZ:-]+" "$KEYS"
start_daemon guest
wait_reserved guest
wait_for 20 "and then the relay lets it go" has "$WORK/relay.log" "authorization expired"

step "flags in any order, wrong values"
check "--list behind --config" has <(as relay relay pair --list --config "$RELAY_CONFIG") "used"
for words in "--count 0" "--count 101" "--ttl x" "--expires -1s" "--revoke zz" "--list --revoke 00"; do
  # shellcheck disable=SC2086
  if pair $words >"$WORK/wrong.log" 2>&1; then bad "'relay pair $words' is refused"; fi
  check "'relay pair $words' is refused" test -s "$WORK/wrong.log"
done

step "with gating off, pairing works as well"
stop relay || true
sed -i 's/enable_connection_gating: true/enable_connection_gating: false/' "$RELAY_CONFIG"
check "its socket is gone" test ! -e "$ADMIN.sock"
start_relay
pair --count 2 >"$WORK/open.log"
mapfile -t CODE < <(codes_of "$WORK/open.log")
as first join "${CODE[0]}" --name first --config "$WORK/first/own.yaml" >"$WORK/first-join.log" 2>&1
check "join --config makes the config where it says" test -s "$WORK/first/own.yaml"
check "and nowhere else" test ! -e "$(config_of first)"
join second "${CODE[1]}"
check "the second is shown the first" has "$WORK/second-join.log" 'Peer "first" authorized. [UNVERIFIED]'
