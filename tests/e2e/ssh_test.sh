#!/usr/bin/env bash
# What people come for: a real OpenSSH server and a real web server at home, used from the laptop through
# peerup, by a local port and as ssh's ProxyCommand.
source "$(dirname "$0")/lib.sh"
MIB=${PEERUP_E2E_MIB:-$([ -n "${PEERUP_SANITIZED:-}" ] && echo 16 || echo 64)}
ME=$(id -un)

step "an ssh server, and a web server"
ssh_port=$(free_port)
mkdir -m 700 "$WORK/ssh"
ssh-keygen -q -t ed25519 -N '' -f "$WORK/ssh/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$WORK/ssh/user_key"
cp "$WORK/ssh/user_key.pub" "$WORK/ssh/authorized_keys"
cat >"$WORK/ssh/sshd_config" <<CONFIG
Port $ssh_port
ListenAddress 127.0.0.1
HostKey $WORK/ssh/host_key
PidFile none
AuthorizedKeysFile $WORK/ssh/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
Subsystem sftp internal-sftp
CONFIG
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd # where it wants to lock itself in
start sshd "$(PATH=$PATH:/usr/sbin command -v sshd)" -D -e -f "$WORK/ssh/sshd_config"
wait_for 5 "the ssh server serves" open_port "$ssh_port"

web_port=$(free_port)
mkdir -p "$WORK/www" "$WORK/nginx"
head -c 3000000 /dev/urandom >"$WORK/www/big.bin"
for i in {1..100}; do echo "page $i" >"$WORK/www/$i.txt"; done
cat >"$WORK/nginx/nginx.conf" <<CONFIG
pid $WORK/nginx/pid;
error_log stderr;
daemon off;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path $WORK/nginx/body; proxy_temp_path $WORK/nginx/proxy;
  fastcgi_temp_path $WORK/nginx/fastcgi; uwsgi_temp_path $WORK/nginx/uwsgi;
  scgi_temp_path $WORK/nginx/scgi;
  server { listen 127.0.0.1:$web_port; root $WORK/www; }
}
CONFIG
chmod 755 "$WORK" "$WORK/www" && chmod 644 "$WORK"/www/* # its worker is another user
start nginx "$(PATH=$PATH:/usr/sbin command -v nginx)" -c "$WORK/nginx/nginx.conf"
wait_for 5 "the web server serves" open_port "$web_port"

step "home offers both to the laptop"
make_relay
start_relay
make_node home
make_node laptop
admit home
admit laptop
introduce home laptop
as home service add ssh "localhost:$ssh_port" >/dev/null
as home service add web "localhost:$web_port" >/dev/null
start_daemon home
wait_reserved home

# The client's own files, and nothing of this machine's user.
cat >"$WORK/ssh/config" <<CONFIG
Host home direct
  User $ME
  IdentityFile $WORK/ssh/user_key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile $WORK/ssh/known_hosts
  HostKeyAlias home
  BatchMode yes
  ConnectTimeout 30
  ControlPath none
Host home
  ProxyCommand env HOME=$WORK/laptop $PEERUP proxy home ssh -
CONFIG
echo "home $(cut -d' ' -f1,2 "$WORK/ssh/host_key.pub")" >"$WORK/ssh/known_hosts"
laptop_ssh() { timeout 60 ssh -F "$WORK/ssh/config" "$@"; }

step "ssh with peerup as its ProxyCommand"
check "a command runs, and its output is what comes" same "hello from $ME" \
  "$(laptop_ssh home "echo hello from \$(id -un)" 2>"$WORK/ssh-1.log")"
check "nothing but ssh's own was said" test ! -s "$WORK/ssh-1.log"
code=0
laptop_ssh home 'exit 7' || code=$?
check "the command's exit code comes back" same 7 "$code"
check "standard input goes there to its end" same "$(head -c 300000 "$WORK/www/big.bin" | sha)" \
  "$(head -c 300000 "$WORK/www/big.bin" | laptop_ssh home sha256sum | cut -d' ' -f1)"
check "a terminal is a terminal" same "tty" \
  "$(laptop_ssh -tt home 'test -t 0 && test -t 1 && echo tty' 2>/dev/null | tr -d '\r\n')"
head -c $((MIB << 20)) /dev/urandom >"$WORK/large.bin"
timeout 120 scp -q -F "$WORK/ssh/config" "$WORK/large.bin" "home:$WORK/large.there"
check "scp: $MIB MiB there" cmp "$WORK/large.bin" "$WORK/large.there"
timeout 120 scp -q -F "$WORK/ssh/config" "home:$WORK/large.there" "$WORK/large.back"
check "and back" cmp "$WORK/large.bin" "$WORK/large.back"
rm "$WORK"/large.*
code=0
timeout 60 env HOME="$WORK/laptop" "$PEERUP" proxy home nosuch - </dev/null >"$WORK/none.out" \
  2>"$WORK/none.log" || code=$?
check "a service that is not there: exit code 1" same 1 "$code"
check "nothing on standard output, where ssh would read it" test ! -s "$WORK/none.out"
check "and why, on standard error" grep -q . "$WORK/none.log"
check "a file is as good as a pipe" same "SSH-2.0" \
  "$(timeout 20 env HOME="$WORK/laptop" "$PEERUP" proxy home ssh - <"$WORK/www/1.txt" 2>&1 | head -c 7)"
leftover() { pgrep -f "$PEERUP proxy home ssh -" >/dev/null; }
wait_for 10 "no proxy is left when its ssh has gone" eval '! leftover'

step "ssh through a local port, with a port forward inside"
start_proxy ssh laptop proxy home ssh 0
cat >>"$WORK/ssh/config" <<CONFIG
Host direct
  HostName 127.0.0.1
  Port $PORT
CONFIG
check "a command runs" same 42 "$(laptop_ssh direct 'echo $((6 * 7))')"
inner=$(free_port)
start tunnel ssh -F "$WORK/ssh/config" -N -L "127.0.0.1:$inner:127.0.0.1:$web_port" direct
wait_for 20 "the forward listens" open_port "$inner"
check "a page through ssh through peerup" same "$(sha <"$WORK/www/big.bin")" \
  "$(fetch_sha "http://127.0.0.1:$inner/big.bin")"
stop tunnel || true

step "the web server"
start_proxy web laptop proxy home web 0
url=http://127.0.0.1:$PORT
check "a range of a file" same "$(tail -c +1000001 "$WORK/www/big.bin" | head -c 5000 | sha)" \
  "$(curl -sS --max-time 20 -r 1000000-1004999 "$url/big.bin" | sha)"
check "a page that is not there is the server's 404" same 404 \
  "$(curl -sS -o /dev/null -w '%{http_code}' --max-time 20 "$url/none")"
curl -sS --max-time 60 -o "$WORK/www/got-#1" "$url/[1-50].txt" -w '%{num_connects}\n' >"$WORK/connects"
check "50 pages over one kept connection" same 1 "$(awk '{n += $1} END {print n}' "$WORK/connects")"
check "each of them whole" same "$(cat "$WORK"/www/{1..50}.txt | sha)" "$(cat "$WORK"/www/got-{1..50} | sha)"
curl -sS --no-progress-meter --max-time 60 --parallel --parallel-immediate --parallel-max 100 \
  -o "$WORK/www/all-#1" "$url/[1-100].txt"
check "100 at the same time" same "$(cat "$WORK"/www/{1..100}.txt | sha)" \
  "$(cat "$WORK"/www/all-{1..100} | sha)"
