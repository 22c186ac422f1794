#!/usr/bin/env bash
# Two machines pair by an invite code through a relay that knows only one of them, and use each other:
# ping, page, service list, names, restart. What cli.md 9 and the README promise, with real processes.
source "$(dirname "$0")/lib.sh"

step "a relay, and home that offers a page"
make_relay
start_relay
make_node home
admit home
mkdir "$WORK/page"
head -c 300000 /dev/urandom >"$WORK/page/index.bin"
serve_pages web "$WORK/page"
as home service add web "localhost:$WEB_PORT" >/dev/null
start_daemon home
check "the daemon says that nobody is authorized, and what to do" \
  has "$WORK/home.log" "Nobody is authorized yet"
wait_reserved home

step "a wrong code is refused, and says what is wrong with it"
start_as invite home invite --name home --non-interactive
wait_for 20 "an invite code is printed" grep -qE '^[A-Z2-7]{4}(-[A-Z2-7]{1,4})+$' "$WORK/invite.log"
code=$(grep -oE '^[A-Z2-7]{4}(-[A-Z2-7]{1,4})+$' "$WORK/invite.log")
other=$([ "${code:5:1}" = A ] && echo B || echo A)
wrong=${code:0:5}$other${code:6} # another token
mkdir -p "$WORK/thief"
if as thief join "$wrong" --name thief >"$WORK/thief.log" 2>&1; then
  bad "a joiner with a wrong token is refused"
fi
check "a joiner with a wrong token is refused, with a reason" \
  grep -qE "wrong invite code|rejected|refused" "$WORK/thief.log"
check "and home does not know it" same 0 "$(grep -c thief "$(keys_of home)")"
check "and it has no config" test ! -e "$(config_of thief)"

step "the joiner, unknown to the relay until then, gets in with the code"
spaced=$(tr 'A-Z-' 'a-z ' <<<"$code") # as a person may type it
# shellcheck disable=SC2086
as laptop join $spaced --name laptop >"$WORK/join.log" 2>&1 || { cat "$WORK/join.log"; exit 1; }
check "join says so" has "$WORK/join.log" "Joined successfully"
wait_for 10 "the invite ends" has "$WORK/invite.log" 'Peer "laptop" joined and authorized!'
code_of_invite=0
stop invite 0 || code_of_invite=$? # it stays a moment, so that its answer arrives, and ends by itself
check "with exit code 0" same 0 "$code_of_invite"
install_commands laptop
ID_laptop=$(as laptop whoami)
check "home has laptop in authorized_keys" has "$(keys_of home)" "$ID_laptop"
check "laptop has home in authorized_keys" has "$(keys_of laptop)" "$ID_home"
check "laptop knows home by name" same "$ID_home" \
  "$(as laptop resolve home --json | grep -oE '12D3Koo[A-Za-z0-9]+')"
check "home knows laptop by name" same "$ID_laptop" \
  "$(as home resolve laptop --json | grep -oE '12D3Koo[A-Za-z0-9]+')"
check "the relay keeps laptop" has "$WORK/relay/relay_authorized_keys" "$ID_laptop"
check "the relay keeps no thief" same 0 "$(grep -c thief "$WORK/relay/relay_authorized_keys")"
for file in "$(keys_of laptop)" "$(config_of laptop)" "$WORK/laptop/.config/peerup/identity.key"; do
  check "${file##*/} of laptop is private" same 600 "$(stat -c %a "$file")"
done

step "the code is used up"
if as late join "$code" --name late >"$WORK/late.log" 2>&1; then bad "a second joiner is refused"; fi
check "a second joiner is refused" grep -qiE "inviter|relay" "$WORK/late.log"

step "laptop uses home, as its daemon has not been restarted since"
as laptop ping home -c 3 --interval 100ms >"$WORK/ping.log" 2>&1
check "ping answers" has "$WORK/ping.log" "3 sent, 3 received, 0% loss"
as laptop relayed ping home -c 2 --interval 100ms >"$WORK/ping2.log" 2>&1
check "ping answers through the relay" has "$WORK/ping2.log" "path=[RELAYED]"
as laptop ping home -c 1 --json >"$WORK/ping3.log" 2>"$WORK/ping3.err.log"
check "ping --json prints JSON lines" grep -q '"received": *1' "$WORK/ping3.log"
start_proxy proxy laptop proxy home web 0
want=$(sha <"$WORK/page/index.bin")
check "the page is the same" same "$want" "$(fetch_sha "http://localhost:$PORT/index.bin")"
for n in 1 2 3 4 5; do
  (fetch_sha "http://localhost:$PORT/index.bin" >"$WORK/fetch$n") &
done
wait_for 20 "five at once end" bash -c "[ \$(cat '$WORK'/fetch? | wc -l) = 5 ]"
check "and are the same" same 5 "$(grep -cxh "$want" "$WORK"/fetch? | awk '{n += $1} END {print n}')"
as home daemon status >"$WORK/status.log"
check "the daemon's status names both" grep -qE '^connected_peers: [1-9]' "$WORK/status.log"
check "the daemon lists the service" grep -q "^web" <(as home daemon services)
as home daemon paths --json >"$WORK/paths.log"
check "the daemon shows the path to laptop" has "$WORK/paths.log" "$ID_laptop"
code=0
stop proxy INT || code=$?
check "Ctrl+C ends the proxy with exit code 0" same 0 "$code"

step "everything stops when told to"
as home daemon stop >/dev/null
code=0
wait "${PID[home]}" || code=$?
unset 'PID[home]'
check "the daemon ends with exit code 0" same 0 "$code"
check "its socket is gone" test ! -e "$WORK/home/.config/peerup/peerup.sock"
check "its cookie is gone" test ! -e "$WORK/home/.config/peerup/.daemon-cookie"
code=0
stop relay || code=$?
check "the relay ends with exit code 0" same 0 "$code"
