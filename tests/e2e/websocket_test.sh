#!/usr/bin/env bash
# WebSocket behind a real reverse proxy (haproxy), which forwards the upgrade of one path to a peer's port:
# plain, with TLS ended by the proxy, and with what it does not forward. The same port of the peer serves
# plain TCP, /ws and /tls/ws directly. Needs haproxy, openssl, and INTEROP_PEER (the peer program).
source "$(dirname "$0")/lib.sh"
peer=$(realpath "${INTEROP_PEER:?the peer program}")

PORT_PEER=$(free_port)
PORT_WEB=$(free_port)
PORT_TLS=$(free_port)

check "haproxy is installed" test -n "$(command -v haproxy)"

step "a peer on one port, and a web server before it"
at=/ip4/127.0.0.1/tcp/$PORT_PEER
start peer "$peer" serve "$at" "$at/ws" "$at/tls/ws"
wait_for 10 "the peer tells its three addresses" grep -q "/tls/ws/certhash/" "$WORK/peer.log"
id=$(sed -n 's|.*/tcp/[0-9]*/p2p/||p' "$WORK/peer.log")
secure=$(grep "/tls/ws/certhash/" "$WORK/peer.log")

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -keyout "$WORK/web.key" -out "$WORK/web.crt" 2>/dev/null
cat "$WORK/web.crt" "$WORK/web.key" >"$WORK/web.pem"
# certhash: a multihash of SHA-256 in base64url
hash=u$({ printf '\x12\x20' && openssl x509 -in "$WORK/web.crt" -outform DER | openssl dgst -sha256 -binary; } |
  base64 -w0 | tr '+/' '-_' | tr -d =)
cat >"$WORK/haproxy.cfg" <<CONFIG
global
  maxconn 100
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  timeout tunnel 60s
  option forwardfor
frontend web
  bind 127.0.0.1:$PORT_WEB
  bind 127.0.0.1:$PORT_TLS ssl crt $WORK/web.pem alpn http/1.1
  http-request redirect location https://elsewhere.example/new code 301 if { path_beg /old }
  http-request deny deny_status 404 unless { path_beg /peer }
  http-request add-header X-Forwarded-Proto https
  default_backend peer
backend peer
  server peer 127.0.0.1:$PORT_PEER
CONFIG
start haproxy haproxy -db -f "$WORK/haproxy.cfg"
wait_for 5 "haproxy listens" open_port "$PORT_WEB"

dial() { "$peer" dial "$1/p2p/$id" "$2" >"$WORK/dial.log" 2>&1; }

# through SENTENCE ADDRESS TRANSPORT: 4 MiB go to the peer and come back; the connection is of that kind.
through() {
  check "$1" dial "$2" 4194304
  check "... as .../tcp/PORT$3" grep -qE "\"addr\":\"[^\"]*/tcp/[0-9]+$3\"" "$WORK/dial.log"
}
# fails SENTENCE ADDRESS TEXT: the dial fails and says so.
fails() {
  if dial "$2" 10; then bad "$1"; fi
  check "$1" has "$WORK/dial.log" "$3"
}

step "directly, all on one port"
through "plain TCP" "$at" ""
through "/ws" "$at/ws" "/ws"
through "/tls/ws with the certificate's hash" "${secure%/p2p/*}" "/tls/ws"

step "through the web server"
through "the upgrade is forwarded" "/ip4/127.0.0.1/tcp/$PORT_WEB/ws/http-path/peer" "/ws"
through "... for a name" "/dns4/localhost/tcp/$PORT_WEB/ws/http-path/peer%2Fx" "/ws"
through "... inside TLS that ends there" \
  "/dns4/localhost/tcp/$PORT_TLS/tls/ws/certhash/$hash/http-path/peer" "/tls/ws"

step "what does not work is told"
fails "a path that is not forwarded" "/ip4/127.0.0.1/tcp/$PORT_WEB/ws" "status 404"
fails "a redirect, with its target" "/ip4/127.0.0.1/tcp/$PORT_WEB/ws/http-path/old" \
  "redirects to https://elsewhere.example/new"
fails "a certificate that nobody vouches for" "/dns4/localhost/tcp/$PORT_TLS/tls/ws/http-path/peer" \
  "certificate"
fails "another certificate than the pinned one" \
  "/dns4/localhost/tcp/$PORT_TLS/tls/ws/certhash/$(sed 's|.*/certhash/||; s|/.*||' <<<"$secure")/http-path/peer" \
  "certificate"
fails "TLS where there is none" "/dns4/localhost/tcp/$PORT_WEB/tls/ws/certhash/$hash/http-path/peer" \
  "TLS"

step "strangers"
check "a browser is told to upgrade" same 426 \
  "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT_PEER/")"
# It closes at once, without a word.
exec 3<>"/dev/tcp/127.0.0.1/$PORT_PEER"
printf 'SSH-2.0-x\r\n' >&3
check "another protocol is not served" same "" "$(timeout 5 cat <&3 2>/dev/null)"
check "the peer is well" alive peer
