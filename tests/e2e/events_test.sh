#!/usr/bin/env bash
# GET /v1/events and `daemon events`: what happens to a daemon is told while it happens, and one listener
# that does not read disturbs nobody.
source "$(dirname "$0")/lib.sh"

make_relay
start_relay
make_node home
make_node laptop
make_node stranger
admit home
admit laptop
admit stranger
introduce home laptop
serve_load echo
as home service add echo "localhost:$LOAD_PORT" >/dev/null
start_daemon home
wait_reserved home
dir=$WORK/home/.config/peerup
listen() { # LABEL QUERY
  start "$1" curl -sSN --unix-socket "$dir/peerup.sock" \
    -H "Authorization: Bearer $(cat "$dir/.daemon-cookie")" "http://d/v1/events?$2"
}

step "three listeners: JSON, lines, and one that is stopped"
listen json ""
listen text "format=text"
start_as words home daemon events --types service,exposed
sleep 0.5
told() { grep -q "\"type\":\"$1\".*$2" "$WORK/json.log"; }

step "a friend connects, uses a service, and goes"
start_proxy friend laptop proxy home echo 0
wait_for 10 "the connection" told connected "\"peer\":\"$ID_laptop\""
check "a byte goes there and back" echoes "$PORT"
wait_for 10 "the decision that let it in" told decision '"ask":"stream","allowed":true.*"service":"echo"'
wait_for 10 "the service's begin" told service '"service":"echo".*"opened":true'
wait_for 10 "and its end, with bytes" told service '"opened":false,.*"bytes_in":2'
stop friend || true
wait_for 20 "the connection's end" told disconnected "\"peer\":\"$ID_laptop\""

step "a stranger is turned away"
add_name stranger home "$ID_home"
as stranger ping home -c 1 >/dev/null 2>&1 || true
wait_for 10 "the denial" told decision "\"allowed\":false.*\"peer\":\"$ID_stranger\""
wait_for 5 "in words too" grep -q "DENIED .*not authorized" "$WORK/text.log"

step "rules and services change"
as home auth add "$ID_stranger" --comment stranger >/dev/null
wait_for 10 "authorized_keys was taken up" told auth_change '"action":"reload"'
as home service add second "localhost:$LOAD_PORT" >/dev/null
wait_for 10 "a service is offered" told exposed '"service":"second"'
as home service disable second >/dev/null
wait_for 10 "and no longer" told unexposed '"service":"second"'
check "the config's changes" told config_change '"action":"reload"'
wait_for 5 "'daemon events' shows the types asked for" has "$WORK/words.log" "service second is offered"
check "and no others" test "$(grep -c connected "$WORK/words.log")" = 0

step "one that does not read"
listen stopped ""
sleep 0.3
kill -STOP "${PID[stopped]}"
cut() { has "$WORK/home.log" "a listener of events was too slow"; }
before=$(wc -l <"$WORK/json.log")
# A service that comes and goes again and again: an event each time.
flood() {
  python3 - "$dir/peerup.sock" "$(cat "$dir/.daemon-cookie")" <<'PYTHON'
import http.client, json, socket, sys
api = http.client.HTTPConnection("daemon")
api.sock = socket.socket(socket.AF_UNIX)
api.sock.connect(sys.argv[1])
name = "moving-" + "x" * 50
body = json.dumps({"name": name, "local_address": "127.0.0.1:1"})
for n in range(500):
    method, path = ("DELETE", "/v1/expose/" + name) if n % 2 else ("POST", "/v1/expose")
    api.request(method, path, body, {"Authorization": "Bearer " + sys.argv[2]})
    answer = api.getresponse()
    text = answer.read()
    assert answer.status == 200, text
PYTHON
}
for _ in {1..20}; do
  cut && break
  flood
done
check "is cut off" cut
kill -CONT "${PID[stopped]}"
check "while another goes on" test "$(wc -l <"$WORK/json.log")" -gt "$before"

step "the end"
as home daemon stop >/dev/null
wait_for 10 "listeners see the daemon's end" eval '! alive json && ! alive words'
objects() {
  grep -v '^$' "$WORK/json.log" | python3 -c 'if True:
    import json, sys
    for line in sys.stdin:
        event = json.loads(line)
        event["time"], event["type"], event["data"]'
}
check "every line was an object with time, type and data" objects
