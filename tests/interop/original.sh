#!/usr/bin/env bash
# Runs the original program, whose interface peerup keeps, against peerup, in both directions and over
# loopback only: relay, configs, invites, pings, proxies, and each one's daemon clients at the other's daemon.
# Usage: PEERUP_ORIGINAL=<its program> original.sh BUILD. Its module is in no registry, so it is built by hand:
# `go build ./cmd/peerup` in its source. Without PEERUP_ORIGINAL nothing is tested, and the exit code is 77.
# With PEERUP_ORIGINAL_SOURCE, the folder of that source, its sample configs are read, too. ORIGINAL_WORLDS
# names the worlds to run, as relay:home:laptop.
build=$(cd "$1" && pwd)
if [ -z "${PEERUP_ORIGINAL:-}" ]; then
  echo "SKIPPED: the original program is not tested against; set PEERUP_ORIGINAL=<path of its program>"
  exit 77
fi
export PEERUP=${PEERUP:-$build/peerup}
# shellcheck source=../e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
PEERUP_ORIGINAL=$(realpath "$PEERUP_ORIGINAL")

# by KIND MACHINE ARGS...: ours or theirs, as that machine's user.
by() {
  local kind=$1
  shift
  if [ "$kind" = theirs ]; then PEERUP=$PEERUP_ORIGINAL as "$@"; else as "$@"; fi
}
start_by() { # KIND LABEL MACHINE ARGS...
  local kind=$1
  shift
  if [ "$kind" = theirs ]; then PEERUP=$PEERUP_ORIGINAL start_as "$@"; else start_as "$@"; fi
}
other() { if [ "$1" = ours ]; then echo theirs; else echo ours; fi; }

# says SENTENCE PATTERN COMMAND...: the command succeeds and its standard output has the pattern.
says() {
  local what=$1 pattern=$2 out
  shift 2
  if ! out=$("$@" 2>"$WORK/says.err.log"); then
    printf '%s\n' "$out" >&2
    cat "$WORK/says.err.log" >&2
    bad "$what (failed)"
  fi
  if grep -qE -- "$pattern" <<<"$out"; then good "$what"; else
    printf '%s\n' "$out" >&2
    bad "$what"
  fi
}
# refuses SENTENCE PATTERN COMMAND...: the command fails, and says so with the pattern.
refuses() {
  local what=$1 pattern=$2
  shift 2
  if "$@" >"$WORK/refuses.log" 2>&1; then bad "$what (succeeded)"; fi
  check "$what" grep -qE -- "$pattern" "$WORK/refuses.log"
}

relay_kind=
# run_relay KIND: a new relay with a config that both read.
run_relay() {
  relay_kind=$1
  rm -rf "$WORK/relay"
  make_relay
  restart_relay
  RELAY_ID=$(by "$(other "$relay_kind")" relay relay info | sed -n 's/^Peer ID: *//p')
  check "its relay info is read from the other program's key" \
    same "$RELAY_ID" "$(by "$relay_kind" relay relay info | sed -n 's/^Peer ID: *//p')"
  RELAY_ADDR=/ip4/127.0.0.1/tcp/$RELAY_PORT/p2p/$RELAY_ID
}
restart_relay() {
  start_by "$relay_kind" relay relay relay serve
  wait_for 20 "the relay ($relay_kind) runs" grep -qE "^(Private relay|Relay) running" "$WORK/relay.log"
}
# admit_at_relay ID NAME...: by the other program's `relay authorize`; the original wants a restart.
admit_at_relay() {
  while [ $# -gt 0 ]; do
    by "$(other "$relay_kind")" relay relay authorize "$1" "$2" >/dev/null
    says "relay list-peers ($relay_kind) shows $2" "$1 .*$2" by "$relay_kind" relay relay list-peers
    shift 2
  done
  if [ "$relay_kind" = theirs ]; then
    stop relay || true
    restart_relay
  fi
}

# new_node KIND MACHINE: init by KIND; whoami, config validate and status of the other agree with it.
new_node() {
  rm -rf "${WORK:?}/$2"
  printf '%s\n' "$RELAY_ADDR" | by "$1" "$2" init >"$WORK/$2-init.log" 2>&1
  printf -v "ID_$2" %s "$(by "$1" "$2" whoami)"
  local id="ID_$2" reader
  reader=$(other "$1")
  check "whoami of $reader reads the key of $1" same "${!id}" "$(by "$reader" "$2" whoami)"
  says "config validate of $reader passes the init of $1" "^OK: " by "$reader" "$2" config validate
  says "status of $reader shows the relay of that config" "$RELAY_ID" by "$reader" "$2" status
}
reserved() { # KIND MACHINE
  case $1 in
    ours) has "$WORK/$2.log" "relay reservation granted" ;;
    theirs) grep -qE "reservation active|^  .*p2p-circuit" "$WORK/$2.log" ;;
  esac
}
run_daemon() { # KIND MACHINE
  start_by "$1" "$2" "$2" daemon
  wait_for 40 "the daemon of $2 ($1) runs" has "$WORK/$2.log" "Daemon API:"
  wait_for 40 "$2 ($1) has its reservation at the relay ($relay_kind)" reserved "$1" "$2"
}
end_daemon() { # KIND OF THE CLIENT, MACHINE
  says "daemon stop ($1) stops the daemon of $2" "Shutdown requested" by "$1" "$2" daemon stop
  local pid=${PID[$2]}
  unset "PID[$2]"
  end_within 15 "$pid"
  check "its socket is gone" test ! -e "$WORK/$2/.config/peerup/peerup.sock"
}

# pair INVITER JOINER: invite and join of the machines home and laptop.
pair() {
  local invited_by=$1 joined_by=$2 code shape='[A-Z2-7]{4}(-[A-Z2-7]{1,4})+'
  start_by "$invited_by" invite home invite --name home --non-interactive
  wait_for 30 "invite ($invited_by) prints its code" grep -qE "^$shape\$" "$WORK/invite.log"
  code=$(grep -oE "^$shape\$" "$WORK/invite.log")
  by "$joined_by" laptop join --name laptop --non-interactive "$code" >"$WORK/join.log" 2>&1 ||
    bad "join ($joined_by) takes a code of invite ($invited_by)"
  good "join ($joined_by) takes a code of invite ($invited_by)"
  wait_for 10 "invite ($invited_by) ends with the joiner" has "$WORK/invite.log" "laptop"
  stop invite || true
  check "home ($invited_by) has laptop in authorized_keys" has "$(keys_of home)" "$ID_laptop"
  check "laptop ($joined_by) has home in authorized_keys" has "$(keys_of laptop)" "$ID_home"
  says "laptop ($joined_by) knows home by name" "$ID_home" by "$joined_by" laptop resolve home
}

# clients CLIENT: every client command of one program at laptop's daemon, which runs the other.
clients() {
  local c=$1 d
  d=$(other "$1")
  says "daemon status ($c at $d)" "^peer_id: $ID_laptop" by "$c" laptop daemon status
  says "daemon status --json ($c at $d)" "\"peer_id\": *\"$ID_laptop\"" by "$c" laptop daemon status --json
  says "daemon services ($c at $d)" "^notes	localhost:1	/peerup/notes/1.0.0	enabled" \
    by "$c" laptop daemon services
  says "daemon services --json ($c at $d)" '"local_address": *"localhost:1"' \
    by "$c" laptop daemon services --json
  says "daemon ping ($c at $d)" "2 sent, 2 received, 0% loss" \
    by "$c" laptop daemon ping home -c 2 --interval 100
  says "daemon ping --json ($c at $d)" '"received": *2' \
    by "$c" laptop daemon ping home -c 2 --interval 100 --json
  says "ping through the daemon ($c at $d)" "2 sent, 2 received, 0% loss" \
    by "$c" laptop ping home -c 2 --interval 100ms
  says "ping --json through the daemon ($c at $d)" '"received": *2' \
    by "$c" laptop ping home -c 2 --interval 100ms --json
  says "daemon peers --all ($c at $d)" "^${ID_home:0:16}" by "$c" laptop daemon peers --all
  says "daemon peers --json ($c at $d)" "\"id\": *\"$ID_home\"" by "$c" laptop daemon peers --json
  # The original's tracker leaves out peers that it reaches through a relay; the relay itself is there.
  local peer=$ID_home
  if [ "$d" = theirs ]; then peer="($ID_home|$RELAY_ID)"; fi
  says "daemon paths ($c at $d)" "^(${ID_home:0:16}|${RELAY_ID:0:16}).*	(DIRECT|RELAYED)	" \
    by "$c" laptop daemon paths
  says "daemon paths --json ($c at $d)" "\"peer_id\": *\"$peer\"" by "$c" laptop daemon paths --json
  says "traceroute ($c at $d)" "path: \[(DIRECT|RELAYED)\]" by "$c" laptop traceroute home
  says "traceroute --json ($c at $d)" "\"target_id\": *\"$ID_home\"" by "$c" laptop traceroute home --json
  local port
  port=$(free_port)
  says "daemon connect ($c at $d)" "Proxy created: proxy-[0-9]+" \
    by "$c" laptop daemon connect --peer home --service web --listen "127.0.0.1:$port"
  check "a page through that proxy" same "$PAGE" "$(fetch_sha "http://127.0.0.1:$port/index.bin")"
  says "daemon disconnect ($c at $d)" "Proxy disconnected" by "$c" laptop daemon disconnect proxy-1
  refuses "and the proxy is gone" "refused|connect" curl -sS --max-time 5 "http://127.0.0.1:$port/"
  refuses "an unknown proxy is refused ($c at $d)" "proxy not found" \
    by "$c" laptop daemon disconnect proxy-9
  refuses "an unknown name is refused ($c at $d)" "name not found" by "$c" laptop daemon ping nobody -c 1
}

# use KIND: laptop without a daemon uses home: ping and a proxy.
use() {
  says "ping ($1)" "2 sent, 2 received, 0% loss" by "$1" laptop ping home -c 2 --interval 100ms
  says "traceroute ($1)" "path: \[(DIRECT|RELAYED)\]" by "$1" laptop traceroute home
  if [ "$1" = ours ]; then
    install_commands laptop
    says "ping (ours) through the relay ($relay_kind) only" "path=\[RELAYED\]" \
      as laptop relayed ping home -c 2 --interval 100ms
  fi
  local port
  port=$(free_port)
  start_by "$1" proxy laptop proxy home web "$port"
  wait_for 60 "proxy ($1) listens" has "$WORK/proxy.log" "TCP proxy listening on localhost:$port"
  check "a page through proxy ($1)" same "$PAGE" "$(fetch_sha "http://localhost:$port/index.bin")"
  stop proxy INT || true
}

# code_of KIND MACHINE PEER: the digits that verify shows for it, answered with no.
code_of() {
  local id="ID_$3" digits
  digits=$(by "$1" "$2" verify "${!id}" <<<n 2>&1 | sed -n 's/^Numeric code: *//p')
  grep -xE '[0-9]{3}-[0-9]{3}' <<<"$digits" || echo "no code by $1"
}

# fields FILE: each path and type in a JSON document; what a null would have been is unknown.
fields() {
  jq -r '[paths as $p | "\($p | map(if type == "number" then "[]" else . end) | join(".")) \(
    getpath($p) | type)"] | unique[] | select(endswith(" null") | not)' "$1" | sort
}
# answers: the daemon of ours has every field of the original's, of the same type.
answers() {
  local machine peer question file
  local -A file_of=()
  for question in "status" "services" "peers --all" "paths" "ping PEER -c 1" "traceroute PEER"; do
    for machine in home laptop; do
      peer=$ID_home
      if [ "$machine" = home ]; then peer=$ID_laptop; fi
      file=$WORK/$machine-answer.json
      if [[ $question = traceroute* ]]; then
        # shellcheck disable=SC2086
        by theirs "$machine" ${question/PEER/$peer} --json >"$file"
      else
        # shellcheck disable=SC2086
        by theirs "$machine" daemon ${question/PEER/$peer} --json >"$file"
      fi
      file_of[$(if [ "$machine" = home ]; then echo "$home"; else echo "$laptop"; fi)]=$file
    done
    check "the original answers '$question'" test "$(fields "${file_of[theirs]}" | wc -l)" -gt 3
    comm -23 <(fields "${file_of[theirs]}") <(fields "${file_of[ours]}") >"$WORK/missing.log"
    grep -vE '^(nat_type|stun_external_addrs|relay_addresses|hops\.\[\]\.name)' "$WORK/missing.log" && {
      bad "the answer to '$question' has every field of the original's"
    }
    good "the answer to '$question' has every field of the original's"
  done
}

# world RELAY HOME LAPTOP: which program runs at each of the three.
world() {
  local home=$2 laptop=$3
  step "relay=$1 home=$home laptop=$laptop"
  run_relay "$1"
  new_node "$home" home
  new_node "$laptop" laptop
  by "$(other "$home")" home service add web "localhost:$WEB_PORT" >/dev/null
  by "$(other "$laptop")" laptop service add notes localhost:1 >/dev/null
  says "service list ($home) shows what the other program added" "web +-> +localhost:$WEB_PORT" \
    by "$home" home service list
  admit_at_relay "$ID_home" home "$ID_laptop" laptop
  # Our invite is served by the running daemon. The original's is a second host of the same peer ID, whose
  # calls the relay may give to the daemon; and that reads authorized_keys only when it starts.
  if [ "$home" = ours ]; then run_daemon ours home; fi
  pair "$home" "$laptop"
  if [ "$home" = theirs ]; then run_daemon theirs home; fi
  check "verify shows both the same code" same "$(code_of "$home" home laptop)" \
    "$(code_of "$laptop" laptop home)"
  use "$laptop"
  run_daemon "$laptop" laptop
  clients "$(other "$laptop")"
  if [ "$home" != "$laptop" ]; then answers; fi
  end_daemon "$(other "$laptop")" laptop
  end_daemon "$home" home
  stop relay || true
}

# group RELAY HOME LAPTOP PHONE: the three machines, unknown to the relay, pair by codes of one group.
# The original's join starts a daemon of its own; ours says to start one.
group() {
  local count=0 machine kind line=() id other
  step "pairing by relay=$1 home=$2 laptop=$3 phone=$4"
  run_relay "$1"
  by "$(other "$1")" relay relay pair --count 3 >"$WORK/codes.log"
  mapfile -t line < <(sed -n 's/^  Code [0-9]: *//p' "$WORK/codes.log")
  check "relay pair ($(other "$1")) makes codes at the relay ($1)" same 3 "${#line[@]}"
  for machine in home laptop phone; do
    shift
    kind=$1
    rm -rf "${WORK:?}/$machine"
    mkdir -p "$WORK/$machine"
    if [ "$kind" = ours ]; then
      check "$machine (ours) pairs" as "$machine" join --name "$machine" --non-interactive "${line[$count]}"
      printf -v "ID_$machine" %s "$(as "$machine" whoami)"
      run_daemon ours "$machine"
    else
      start_by theirs "$machine" "$machine" join --name "$machine" --non-interactive "${line[$count]}"
      wait_for 40 "$machine (theirs) pairs and has its daemon" \
        test -S "$WORK/$machine/.config/peerup/peerup.sock"
      printf -v "ID_$machine" %s "$(by theirs "$machine" whoami)"
      wait_for 40 "and its reservation" reserved theirs "$machine"
    fi
    count=$((count + 1))
  done
  says "relay pair --list ($relay_kind) shows that all came" "3/3 used" \
    by "$relay_kind" relay relay pair --list
  for machine in home laptop phone; do
    for other in home laptop phone; do
      id="ID_$other"
      if [ "$machine" = "$other" ]; then continue; fi
      wait_for 60 "$machine knows $other" has "$(keys_of "$machine")" "${!id}"
    done
  done
  for machine in home laptop phone; do by ours "$machine" daemon stop >/dev/null || true; done
  for machine in home laptop phone; do
    wait_for 15 "the daemon of $machine ends" test ! -e "$WORK/$machine/.config/peerup/peerup.sock"
    unset "PID[$machine]"
  done
  stop relay || true
}

# samples: the original's sample configs, with the relay's address filled in and what is commented out taken
# in, are read by both alike.
samples() {
  local dir=$WORK/samples kind peer
  mkdir "$dir"
  peer=$(as samples whoami --config "$1")
  sed -E "s/YOUR_VPS_IP/203.0.113.9/; s/YOUR_RELAY_PEER_ID/$peer/" \
    "$PEERUP_ORIGINAL_SOURCE/configs/peerup.sample.yaml" >"$dir/plain.yaml"
  sed -E "/^# (services|telemetry):/,/^$/ s/^# ?//; s/^names: \{\}/names:/; s/^#  home: .*/  home: $peer/" \
    "$dir/plain.yaml" >"$dir/full.yaml"
  sed -E '/^# (resources|health|telemetry):/,/^$/ s/^# ?//; s/^    # - "/    - "/' \
    "$PEERUP_ORIGINAL_SOURCE/configs/relay-server.sample.yaml" >"$dir/relay.yaml"
  cp "$PEERUP_ORIGINAL_SOURCE/configs/authorized_keys.sample" "$dir/authorized_keys"
  chmod 600 "$dir"/*
  for kind in theirs ours; do
    says "the sample config ($kind)" "^OK: " by "$kind" samples config validate --config "$dir/plain.yaml"
    says "the full sample config ($kind)" "^OK: " by "$kind" samples config validate --config "$dir/full.yaml"
    says "its services ($kind)" "plex +-> localhost:32400 +\(disabled\)" \
      by "$kind" samples service list --config "$dir/full.yaml"
    says "the full sample config of a relay ($kind)" "^OK: " \
      by "$kind" samples relay config validate --config "$dir/relay.yaml"
    says "the sample authorized_keys ($kind)" "Validation passed" \
      by "$kind" samples auth validate "$dir/authorized_keys"
  done
}

mkdir "$WORK/page"
head -c 300000 /dev/urandom >"$WORK/page/index.bin"
PAGE=$(sha <"$WORK/page/index.bin")
serve_pages web_server "$WORK/page"

# Each program at each place, relay:home:laptop, but all of one kind.
worlds=${ORIGINAL_WORLDS:-"theirs:ours:theirs ours:theirs:ours theirs:theirs:ours ours:ours:theirs
  theirs:ours:ours ours:theirs:theirs"}
if [ -n "${PEERUP_ORIGINAL_SOURCE:-}" ]; then
  step "sample configs"
  RELAY_ADDR=/ip4/203.0.113.9/tcp/7777/p2p/12D3KooWCVj5z3Dwog4uVXFoJQEQZDVQWb53Qj5SKNY9ofDw7taS
  printf '%s\n' "$RELAY_ADDR" | as seed init >/dev/null 2>&1
  samples "$(config_of seed)"
fi
for one in $worlds; do
  IFS=: read -r -a kinds <<<"$one"
  world "${kinds[@]}"
done
# At the original's relay an original's member is not told of later ones: it counts those it knows twice.
groups=${ORIGINAL_GROUPS:-"ours:ours:theirs:ours ours:theirs:theirs:theirs theirs:ours:ours:ours"}
for one in $groups; do
  IFS=: read -r -a kinds <<<"$one"
  group "${kinds[@]}"
done
