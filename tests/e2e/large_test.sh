#!/usr/bin/env bash
# A large file through the proxy, through the relay and directly (both over QUIC), both ways, and a
# smaller one directly over TCP, with equal checksums; and what happens when the relay's limit for one
# session is smaller than the file.
# PEERUP_E2E_MIB sets the size (1024 MiB; sanitizers make it slow).
source "$(dirname "$0")/lib.sh"
mib=${PEERUP_E2E_MIB:-1024}

step "$mib MiB of noise, its checksum"
mkdir "$WORK/page"
openssl enc -aes-128-ctr -nosalt -pass pass:peerup -pbkdf2 </dev/zero 2>/dev/null |
  head -c "$((mib * 1048576))" >"$WORK/page/file" || true
check "the file has its size" same "$((mib * 1048576))" "$(stat -c %s "$WORK/page/file")"
want=$(sha <"$WORK/page/file")

make_relay '  session_data_limit: "4GB"
  session_duration: "1h"'
sed -i "s|^    - \"/ip4/127.0.0.1/tcp/$RELAY_PORT\"|&\n    - \"/ip4/127.0.0.1/udp/$RELAY_PORT/quic-v1\"|" \
  "$RELAY_CONFIG"
start_relay
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
serve_pages web "$WORK/page"
serve_load load
as home service add web "localhost:$WEB_PORT" >/dev/null
as home service add load "localhost:$LOAD_PORT" >/dev/null
start_daemon home
wait_reserved home

# timed SENTENCE COMMAND...: a check, with the rate.
timed() {
  local from ms
  from=$(now_ms)
  check "$@"
  ms=$(($(now_ms) - from + 1))
  printf '       %d MiB in %d.%03d s\n' "$mib" $((ms / 1000)) $((ms % 1000))
}
counted() { "$BENCH_LOAD" up "$1" "$((mib * 1048576))" >/dev/null; }
arrives_whole() { same "$want" "$(fetch_sha "http://localhost:$1/file" 900)"; }

for how in relayed direct; do
  step "$how"
  kind=()
  [ $how = direct ] || kind=(relayed)
  start_proxy "web-$how" laptop "${kind[@]}" proxy home web 0
  web=$PORT
  start_proxy "load-$how" laptop "${kind[@]}" proxy home load 0
  load=$PORT
  if [ $how = direct ]; then
    for label in web-direct load-direct; do
      wait_for 20 "$label goes around the relay" \
        grep -qE "(Connected|Path is now) \[DIRECT\] via .* over quic-v1\)" "$WORK/$label.log"
    done
  else
    check "the path is the relay's" same RELAYED "$(path_of_proxy web-relayed)"
    for label in web-relayed load-relayed; do
      check "$label reaches the relay over QUIC" \
        grep -qE "Connected \[RELAYED\] via .* over quic-v1\)" "$WORK/$label.log"
    done
    rows=$(as home daemon paths)
    check "so does home" test -z "$(cut -f3 <<<"$rows" | grep -vx quic)"
  fi
  timed "down: the checksum is the same" arrives_whole "$web"
  timed "up: every byte is counted at home" counted "$load"
  for label in home relay "web-$how"; do
    rss=$(awk '/^VmHWM/ {print $2}' "/proc/${PID[$label]}/status")
    printf '       %s: at most %d MiB resident\n' "$label" $((rss / 1024))
    [ -n "${PEERUP_SANITIZED:-}" ] || check "$label stays below 64 MiB" test "$rss" -lt 65536
  done
  stop "web-$how" || true
  stop "load-$how" || true
done

step "directly over TCP"
mib=$((mib < 256 ? mib : 256))
truncate -s "${mib}M" "$WORK/page/file"
want=$(sha <"$WORK/page/file")
stop home || true
sed -i '/quic-v1"/d' "$(config_of home)"
start_daemon home
wait_reserved home
start_proxy web-tcp laptop proxy home web 0
wait_for 20 "the proxy goes around the relay" \
  grep -qE "(Connected|Path is now) \[DIRECT\] via .* over tcp\)" "$WORK/web-tcp.log"
timed "down: the checksum is the same" arrives_whole "$PORT"
stop web-tcp || true

step "a relay whose limit is smaller than the file"
stop relay || true
sed -i 's/session_data_limit:.*/session_data_limit: "1MB"/' "$RELAY_CONFIG"
: >"$WORK/home.log"
start_relay
wait_reserved home
start_proxy small laptop relayed proxy home web 0
check "the proxy tells the limit beforehand" grep -q "at most .*1 MiB" "$WORK/small.log"
if curl -sS --max-time 60 -o "$WORK/part" "http://localhost:$PORT/file" 2>/dev/null; then
  bad "the transfer fails visibly at the limit"
fi
good "the transfer fails visibly at the limit"
wait_for 10 "the user is told that it was the relay's limit" \
  grep -qiE "relay.*limit|limit.*relay" "$WORK/small.log"
check "no more than the limit came" test "$(stat -c %s "$WORK/part")" -le 1048576
