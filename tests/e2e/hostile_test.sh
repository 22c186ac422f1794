#!/usr/bin/env bash
# Strangers on the network: random bytes, silence, floods and cut-off handshakes against a relay and a
# daemon. Each is dropped, memory stays bounded, and honest peers do not notice.
source "$(dirname "$0")/lib.sh"

make_relay
start_relay
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
sed -i 's|"/ip4/0.0.0.0/tcp/0"|"/ip4/127.0.0.1/tcp/0"|' "$(config_of home)"
start_daemon home
wait_reserved home
home_port=$(as home daemon status --json | grep -oE '/ip4/127.0.0.1/tcp/[0-9]+' | head -1 | grep -oE '[0-9]+$')
ports=("$RELAY_PORT" "$home_port")

rss_kib() { awk '/^VmRSS/ {print $2}' "/proc/${PID[$1]}/status"; }
honest() {
  as laptop relayed ping home -c 3 --interval 20ms >"$WORK/honest.log" 2>&1 &&
    grep -q "3 received" "$WORK/honest.log"
}
check "an honest peer pings" honest
relay_before=$(rss_kib relay)
home_before=$(rss_kib home)

step "random bytes, 100 times to each"
for port in "${ports[@]}"; do
  for ((i = 0; i < 100; i++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port" && head -c $((RANDOM % 5000)) /dev/urandom >&3) \
      2>/dev/null || true
  done
done
check "an honest peer pings" honest

step "the right beginning, then nonsense"
hello='\x13/multistream/1.0.0\n'
noise='\x07/noise\n'
for port in "${ports[@]}"; do
  for ((i = 0; i < 50; i++)); do
    case $((i % 5)) in
      0) beginning=$hello ;;
      1) beginning="$hello\\xff\\xff\\xff\\xff\\x0f" ;;    # a message of 4 GiB
      2) beginning="$hello$noise\\xff\\xff" ;;             # a Noise message of 64 KiB
      3) beginning="$hello$noise\\x00\\x20" ;;             # a good length, then noise
      4) beginning="$hello$hello$hello$hello$hello$noise" ;;
    esac
    (
      exec 3<>"/dev/tcp/127.0.0.1/$port"
      # shellcheck disable=SC2059
      printf "$beginning" >&3
      head -c 200 /dev/urandom >&3
    ) 2>/dev/null || true
  done
done
check "an honest peer pings" honest
check "the relay lives" alive relay
check "the daemon lives" alive home

step "200 strangers that connect and say nothing, 12 s"
descriptors=()
for ((i = 0; i < 100; i++)); do
  for port in "${ports[@]}"; do
    { exec {fd}<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && descriptors+=("$fd")
  done
done
check "an honest peer pings meanwhile" honest
relay_grown=$(($(rss_kib relay) - relay_before))
home_grown=$(($(rss_kib home) - home_before))
printf '       the relay grew by %d KiB, home by %d KiB\n' $relay_grown $home_grown
if [ -z "${PEERUP_SANITIZED:-}" ]; then
  # 64 KiB for each of the 128 that may be in the doorway, and some for the honest peer.
  check "the relay's memory is bounded" test $relay_grown -lt $((128 * 64 + 4096))
  check "home's memory is bounded" test $home_grown -lt $((128 * 64 + 4096))
fi
sleep 16 # handshake_ms and a little
closed=0
for fd in "${descriptors[@]}"; do
  code=0
  # The hello comes first, then the end; a read that runs into its limit says the stranger is still in.
  while IFS= read -r -t 0.2 -N 64 -u "$fd" _ 2>/dev/null; do :; done
  IFS= read -r -t 0.2 -N 1 -u "$fd" _ 2>/dev/null || code=$?
  [ "$code" -gt 128 ] || closed=$((closed + 1))
  exec {fd}>&-
done
check "all of them have been sent away" same "${#descriptors[@]}" "$closed"
check "an honest peer pings afterwards" honest

step "the daemon's socket"
sock=$WORK/home/.config/peerup/peerup.sock
status() { curl -sS -o /dev/null -w '%{http_code}' --max-time 5 --unix-socket "$sock" "$@"; }
check "no cookie: 401" same 401 "$(status http://daemon/v1/status)"
check "a wrong cookie: 401" same 401 \
  "$(status -H 'Authorization: Bearer 0000' http://daemon/v1/status)"
check "the socket is private" same 600 "$(stat -c %a "$sock")"
cookie=$(cat "$WORK/home/.config/peerup/.daemon-cookie")
check "the right cookie: 200" same 200 \
  "$(status -H "Authorization: Bearer $cookie" http://daemon/v1/status)"
head -c 3000000 /dev/zero | tr '\0' a >"$WORK/body"
check "a body of 3 MB is refused" grep -qE "^(400|413)$" <<<"$(status -H "Authorization: Bearer $cookie" --data-binary "@$WORK/body" http://daemon/v1/resolve)"
check "and the daemon answers on" same 200 \
  "$(status -H "Authorization: Bearer $cookie" http://daemon/v1/status)"
