#!/usr/bin/env bash
# What operators rely on: the words to the service manager, log levels that change while it runs, HUP,
# an idle daemon that writes nothing, a status within 10 ms, and units that systemd takes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DEPLOY=$HERE/../../examples/deploy

# listen_for FILE SOCKET: what is sent to a service manager's socket, a line each.
listen_for() {
  python3 - "$1" "$2" <<'PYTHON'
import socket, sys
name = sys.argv[2]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\0" + name[1:] if name.startswith("@") else name)
with open(sys.argv[1], "w", buffering=1) as out:
    while True:
        print(s.recv(4096).decode().replace("\n", " | "), file=out)
PYTHON
}
bound() { [ -S "$1" ] || grep -q "$1" /proc/net/unix; }
count() { grep -c "$2" "$1" || true; }

step "a relay and a node, watched by a service manager"
make_relay
start manager listen_for "$WORK/told" "$WORK/notify.sock"
wait_for 5 "the manager listens" bound "$WORK/notify.sock"
start_relay
make_node home
admit home
export NOTIFY_SOCKET=$WORK/notify.sock WATCHDOG_USEC=600000
start_daemon home
unset NOTIFY_SOCKET WATCHDOG_USEC
wait_for 5 "it is told when the daemon is ready" has "$WORK/told" "READY=1"
wait_for 10 "and what state it is in" has "$WORK/told" "STATUS=running; reachable through 1 of 1 relay"
lives() { [ "$(count "$WORK/told" '^WATCHDOG=1$')" -ge 3 ]; }
wait_for 5 "and that it lives" lives

step "without its relay the daemon is degraded, not dead"
stop relay
wait_for 10 "the state says so" has "$WORK/told" "STATUS=degraded: no relay reservation"
before=$(count "$WORK/told" '^WATCHDOG=1$')
sleep 1
check "it goes on telling that it lives" test "$(count "$WORK/told" '^WATCHDOG=1$')" -gt "$before"
start_relay
is_back() { [ "$(count "$WORK/told" '^STATUS=running')" -ge 2 ]; }
wait_for 40 "it comes back by itself" is_back

step "log levels, while it runs"
as home daemon log | tee "$WORK/levels" >/dev/null
check "they are shown" grep -qE '^swarm +warn$' "$WORK/levels"
as home daemon log swarm debug >/dev/null
check "a part can be made talkative" grep -qE '^swarm +debug$' <(as home daemon log)
check "a mistyped level gets the nearest" \
  grep -q 'did you mean "debug"' <(as home daemon log swarm debgu 2>&1 || true)
sed -i '$a log:\n  level: error\n  modules:\n    proxy: info' "$(config_of home)"
level_is() { as home daemon log | grep -qE "^peerup +$1\$"; }
wait_for 5 "a changed config is taken up" level_is error

step "HUP is a wish to read the config again, not the end"
sed -i 's/^  level: error/  level: info/' "$(config_of home)"
kill -HUP "${PID[home]}"
wait_for 5 "the level is the file's" level_is info
check "the daemon runs on" alive home

step "idle, it writes nothing, and answers at once"
written() { awk '/^wchar/ {print $2}' "/proc/${PID[home]}/io"; }
stamp=$WORK/stamp
sleep 1.5
touch "$stamp"
sleep 4
check "no file of it has changed in four seconds" test -z "$(find "$WORK/home" -newer "$stamp" -type f)"
if [ -z "${PEERUP_SANITIZED:-}" ]; then
  python3 - "$WORK/home/.config/peerup" <<'PYTHON' || bad "the status comes within 10 ms"
import pathlib, socket, sys, time
folder = pathlib.Path(sys.argv[1])
cookie = (folder / ".daemon-cookie").read_text()
best = 1
for _ in range(20):
    begin = time.monotonic()
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(folder / "peerup.sock"))
    s.sendall(f"GET /v1/status HTTP/1.1\r\nHost: d\r\nConnection: close\r\nAuthorization: Bearer {cookie}\r\n\r\n".encode())
    answer = b""
    while chunk := s.recv(65536):
        answer += chunk
    best = min(best, time.monotonic() - begin)
    assert answer.startswith(b"HTTP/1.1 200"), answer
sys.exit(best > 0.010)
PYTHON
  good "the status comes within 10 ms"
fi

step "the end"
begin=$(now_ms)
check "TERM ends it in peace" stop home
limit=1000
[ -z "${PEERUP_SANITIZED:-}" ] || limit=8000 # which looks for leaks at the end
check "soon" test $(($(now_ms) - begin)) -lt "$limit"
check "the manager is told of the end" has "$WORK/told" "STOPPING=1"
check "it is the last word" same "$(tail -n 1 "$WORK/told")" "STOPPING=1"
check "no socket is left" test ! -e "$WORK/home/.config/peerup/peerup.sock"

step "a relay tells, too, and to an abstract socket"
stop relay
start manager2 listen_for "$WORK/told2" "@peerup-e2e-$$"
wait_for 5 "the manager listens" bound "@peerup-e2e-$$"
export NOTIFY_SOCKET=@peerup-e2e-$$ WATCHDOG_USEC=600000
start_relay
unset NOTIFY_SOCKET WATCHDOG_USEC
wait_for 5 "ready" has "$WORK/told2" "READY=1"
wait_for 5 "alive" has "$WORK/told2" "WATCHDOG=1"
stop relay
check "stopping" same "$(tail -n 1 "$WORK/told2")" "STOPPING=1"

step "the units"
for unit in peerup-daemon peerup-relay; do
  sed "s|/usr/local/bin/peerup|$PEERUP|" "$DEPLOY/systemd/$unit.service" >"$WORK/$unit.service"
  systemd-analyze verify --man=no "$WORK/$unit.service" >"$WORK/verify" 2>&1 || true
  check "systemd finds nothing wrong with $unit" test -z "$(grep -F "$unit" "$WORK/verify")"
  exposure=$(systemd-analyze security --offline=yes "$WORK/$unit.service" 2>/dev/null |
    sed -n 's/.*exposure level.*: \([0-9.]*\).*/\1/p')
  check "$unit is exposed to little ($exposure of 10)" awk -v e="$exposure" 'BEGIN {exit !(e > 0 && e < 3)}'
done
python3 -c 'import plistlib,sys; p = plistlib.load(open(sys.argv[1], "rb")); assert p["Label"] == "com.peerup.daemon"' \
  "$DEPLOY/launchd/com.peerup.daemon.plist"
good "the property list is one"
