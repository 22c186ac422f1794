#!/usr/bin/env bash
# The daemon's API with curl, as scripts use it: every endpoint, what it changes, and bad input of all
# kinds; and the commands that speak to it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_relay
start_relay
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
serve_load load
for node in home laptop; do start_daemon $node; done
wait_reserved home
SOCKET=$WORK/laptop/.config/peerup/peerup.sock
COOKIE=$(cat "$WORK/laptop/.config/peerup/.daemon-cookie")

# api METHOD PATH [BODY] [CURL OPTION...]: the answer goes to $WORK/answer, its status to CODE.
api() {
  local method=$1 path=$2 body=${3-}
  shift 2
  [ $# -eq 0 ] || shift
  CODE=$(curl -s -o "$WORK/answer" -w '%{http_code}' --unix-socket "$SOCKET" -X "$method" \
    -H "Authorization: Bearer $COOKIE" ${body:+--data-binary "$body"} "$@" "http://daemon$path")
}
# gives SENTENCE STATUS PATTERN: what the last answer was.
gives() {
  check "$1" same "$CODE" "$2"
  [ -z "$3" ] || grep -qE -- "$3" "$WORK/answer" || bad "$1: $(cat "$WORK/answer")"
}

step "who may ask"
check "the folder is the user's" same "$(stat -c %a "$WORK/laptop/.config/peerup")" 700
check "the socket, too" same "$(stat -c %a "$SOCKET")" 600
COOKIE=wrong api GET /v1/status
gives "a wrong cookie is refused" 401 '"error":"unauthorized'
check "no cookie, too" same 401 \
  "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$SOCKET" http://daemon/v1/nothing)"
if [ "$(id -u)" -eq 0 ] && id nobody >/dev/null 2>&1; then
  # Even with the cookie and a socket that somebody has opened up.
  chmod 711 "$WORK" "$WORK/laptop" "$WORK/laptop/.config" "$WORK/laptop/.config/peerup"
  chmod 666 "$SOCKET"
  code=$(setpriv --reuid nobody --clear-groups curl -s -o /dev/null -w '%{http_code}' --unix-socket "$SOCKET" \
    -H "Authorization: Bearer $COOKIE" http://daemon/v1/status)
  check "another user of the machine is refused" same "$code" 403
  chmod 600 "$SOCKET"
  chmod 700 "$WORK/laptop/.config/peerup"
fi

step "what it shows"
for path in status services peers paths auth connect log; do
  api GET "/v1/$path"
  gives "$path as JSON" 200 '^\{"data":'
  api GET "/v1/$path?format=text"
  gives "$path as text" 200 ''
  check "$path answers HEAD" same 200 "$(curl -s -o /dev/null -I -w '%{http_code}' --unix-socket "$SOCKET" \
    -H "Authorization: Bearer $COOKIE" "http://daemon/v1/$path")"
done

step "the way to a peer"
api POST /v1/resolve '{"name":"home"}'
gives "a name" 200 "\"peer_id\":\"$ID_home\",\"source\":\"local_config\""
api POST /v1/ping '{"peer":"home","count":2,"interval_ms":10}'
gives "pings" 200 '"sent":2,"received":2'
api POST /v1/ping '{"peer":"home","count":1}' -H "Accept: text/plain"
gives "pings in words" 200 '^1 sent, 1 received, 0% loss'
api POST /v1/traceroute '{"peer":"home"}'
gives "a trace" 200 '"path":"(DIRECT|RELAYED)","hops":\['
check "the command for it" grep -q -- '--- path: \[' <(as laptop traceroute home)
check "ping goes through the daemon, and says so" grep -q "through the running daemon" \
  <(as laptop ping home -c 1)
check "and counts" grep -q "3 sent, 3 received" <(as laptop ping home -c 3 --interval 10ms)
check "daemon ping" grep -q "2 sent, 2 received" <(as laptop daemon ping home -c 2 --interval 10)

step "services come and go at once"
SOCKET_L=$SOCKET COOKIE_L=$COOKIE
SOCKET=$WORK/home/.config/peerup/peerup.sock COOKIE=$(cat "$WORK/home/.config/peerup/.daemon-cookie")
api POST /v1/expose "{\"name\":\"load\",\"local_address\":\"127.0.0.1:$LOAD_PORT\"}"
gives "a service is offered" 200 '"status":"exposed"'
api POST /v1/expose '{"name":"load","local_address":"127.0.0.1:1"}'
gives "once" 500 'service already registered: load'
touch "$(config_of home)"
sleep 1.2
api GET /v1/services
gives "a config that is read again does not take it away" 200 '"name":"load"'
SOCKET=$SOCKET_L COOKIE=$COOKIE_L
api POST /v1/connect '{"peer":"home","service":"load","listen":"127.0.0.1:0"}'
gives "and becomes a port here" 200 '"id":"proxy-1","listen_address":"127.0.0.1:[0-9]+"'
port=$(grep -oE '127.0.0.1:[0-9]+' "$WORK/answer" | cut -d: -f2)
check "which is open" open_port "$port"
check "and is listed" grep -q "proxy-1" <(as laptop daemon proxies)
check "a second one, by the command" grep -qE "Proxy created: proxy-2 -> home:load \(listen: 127.0.0.1:[0-9]+\)" \
  <(as laptop daemon connect --peer home --service load --listen 127.0.0.1:0)
check "ends by the command" grep -q "Proxy disconnected" <(as laptop daemon disconnect proxy-2)
api DELETE /v1/connect/proxy-1
gives "the first by the API" 200 disconnected
check "its port is closed" eval "! open_port $port"
api DELETE /v1/connect/proxy-1
gives "once" 404 'proxy not found: proxy-1'

step "who may connect changes at once, for live connections too"
SOCKET=$WORK/home/.config/peerup/peerup.sock COOKIE=$(cat "$WORK/home/.config/peerup/.daemon-cookie")
api GET /v1/paths
gives "laptop is connected" 200 "$ID_laptop"
api DELETE "/v1/auth/$ID_laptop"
gives "and revoked" 200 removed
api GET /v1/paths
check "its connection is gone with the answer" eval "! grep -q $ID_laptop '$WORK/answer'"
check "it cannot come back" eval '! as laptop ping home -c 1 >/dev/null 2>&1'
api POST /v1/auth "{\"peer_id\":\"$ID_laptop\",\"comment\":\"laptop\"}"
gives "and is let in again" 200 added
check "by its line" grep -q "^$ID_laptop  # laptop" "$(keys_of home)"
wait_for 20 "it can" eval 'as laptop ping home -c 1 >/dev/null 2>&1'
api POST /v1/auth "{\"peer_id\":\"$ID_laptop\"}"
gives "once" 500 'already authorized'

step "bad input"
while IFS='|' read -r method path body status pattern; do
  api "$method" "$path" "$body"
  gives "$method $path $body" "$status" "$pattern"
done <<'TABLE'
GET|/v1/nothing||404|404 page not found
GET|/v1/status/||404|404 page not found
GET|//v1/status||404|404 page not found
PUT|/v1/status||405|Method Not Allowed
BREW|/v1/status||405|Method Not Allowed
DELETE|/v1/auth/||404|404 page not found
DELETE|/v1/auth/nope||500|invalid peer ID
DELETE|/v1/expose/NOPE||404|invalid service name
DELETE|/v1/expose/nope||404|service not found
POST|/v1/auth||400|invalid request body
POST|/v1/auth|nope|400|invalid request body
POST|/v1/auth|[]|400|invalid request body
POST|/v1/auth|"text"|400|invalid request body
POST|/v1/auth|{"peer_id":7}|400|peer_id is required
POST|/v1/auth|{"peer_id":"nope"}|500|invalid peer ID
POST|/v1/auth|{"peer_id":"nope","comment":[]}|400|comment must be a string
POST|/v1/expose|{"name":"x"}|400|name and local_address are required
POST|/v1/expose|{"name":"x","local_address":"garbage"}|400|local_address
POST|/v1/expose|{"name":"ping","local_address":"127.0.0.1:1"}|500|invalid service name
POST|/v1/connect|{"peer":"home"}|400|peer, service, and listen are required
POST|/v1/connect|{"peer":"nobody","service":"x","listen":"127.0.0.1:0"}|400|cannot resolve peer
POST|/v1/connect|{"peer":"laptop","service":"x","listen":"nowhere"}|400|listen
POST|/v1/ping|{"peer":"laptop","count":"two"}|400|whole numbers
POST|/v1/ping|{"peer":{}}|400|peer is required
POST|/v1/resolve|{"name":"nobody"}|404|name not found: nobody
POST|/v1/log|{"level":"loud"}|400|no log level
TABLE
printf '{"peer_id":"\xff\xfe"}' >"$WORK/body"
api POST /v1/auth "@$WORK/body"
check "what is not UTF-8 is refused" test "$CODE" -ge 400
printf '{"name":"a","name":"home","x":1}' >"$WORK/body"
api POST /v1/resolve "@$WORK/body"
check "a field given twice breaks nothing" test "$CODE" -lt 500
python3 -c 'print("{\"peer_id\":\"" + "a" * 1100000 + "\"}")' >"$WORK/body"
api POST /v1/auth "@$WORK/body"
check "a body over a MiB is refused" same "$CODE" 413
python3 -c 'print("[" * 200000)' >"$WORK/body"
api POST /v1/auth "@$WORK/body"
gives "a deep one, too" 400 'invalid request body'
api GET "/v1/status?$(printf 'x%.0s' {1..40000})"
check "and a long address" test "$CODE" -ge 400

step "connections that misbehave"
python3 - "$SOCKET" "$COOKIE" <<'PYTHON' || bad "they cost nobody else anything"
import socket, sys, time
path, cookie = sys.argv[1:]
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(path)
    return s
def get(s, tail="", close=True):
    s.sendall(("GET /v1/status HTTP/1.1\r\nHost: d\r\n" + ("Connection: close\r\n" if close else "") +
               f"Authorization: Bearer {cookie}\r\n\r\n{tail}").encode())
def read_all(s):
    data = b""
    while chunk := s.recv(65536):
        data += chunk
    return data
# Two requests in one packet are both answered, in order.
s = connect()
get(s, f"GET /v1/nothing HTTP/1.1\r\nHost: d\r\nConnection: close\r\nAuthorization: Bearer {cookie}\r\n\r\n", close=False)
answer = read_all(s)
assert answer.count(b"HTTP/1.1 ") == 2 and answer.index(b" 200 ") < answer.index(b" 404 "), answer
# Half requests, and what is no HTTP at all.
for junk in (b"GET /v1/status HT", b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"POST /v1/auth HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"):
    s = connect()
    s.sendall(junk)
    s.close()
# A thousand that hold a connection open: the daemon answers others as soon as they go, and lives.
held = []
for _ in range(1000):
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    try:
        s.connect(path)
    except BlockingIOError:
        s.close()
        continue
    held.append(s)
for s in held:
    s.close()
for _ in range(100):
    try:
        s = connect()
        get(s)
        if b" 200 " in read_all(s):
            sys.exit(0)
    except OSError:
        pass
    time.sleep(0.05)
sys.exit(1)
PYTHON
good "they cost nobody else anything"
check "the daemon lives" alive home

step "the end"
api POST /v1/shutdown
gives "asked to end" 200 'shutting down'
ended() { ! alive home; }
wait_for 5 "it does" ended
unset "PID[home]"
check "and takes socket and cookie along" eval \
  "! ls '$WORK'/home/.config/peerup/peerup.sock '$WORK'/home/.config/peerup/.daemon-cookie 2>/dev/null"
check "a command says that it is not there" grep -q "daemon not running" <(as home daemon status 2>&1 || true)
