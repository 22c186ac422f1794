#!/usr/bin/env bash
# Ctrl-C on a real terminal, at the prompt, while connecting, while running, and in the middle of
# writing: the exit code, what the screen shows, the terminal's modes, and no half of a file.
source "$(dirname "$0")/lib.sh"

# presses MACHINE CODE [--out FILE] WORDS KEYS ... -- ARGS...: see on_pty.py. The screen is in $said.
presses() {
  local machine=$1 want=$2 code=0 script=()
  shift 2
  while [ "$1" != -- ]; do
    script+=("$1")
    shift
  done
  shift
  mkdir -p "$WORK/$machine"
  (cd "$WORK/$machine" && HOME=$WORK/$machine TERM=xterm exec "$HERE/on_pty.py" "${script[@]}" -- \
    "$PEERUP" "$@") >"$WORK/said.log" 2>&1 || code=$?
  said=$(cat "$WORK/said.log")
  [ "$code" = "$want" ] || bad "peerup $* ends with $want, not $code: $said"
  ! grep -qE 'traceback|\.lua:[0-9]+:|nil value|table: 0x|Sanitizer' "$WORK/said.log" ||
    bad "peerup $* has no fault of ours in: $said"
  good "$* -> $(tail -1 "$WORK/said.log" | cut -c1-100)"
}
says() { check "it says: $1" grep -qE -- "$1" "$WORK/said.log"; }
# The line that counts the seconds is gone from the screen.
takes_back() { check "its line is taken back" same "" "$(grep -aE '\.\.\. [0-9]+ s' "$WORK/said.log")"; }
C='\x03'

make_relay
start_relay
for machine in home laptop; do
  make_node "$machine"
  admit "$machine"
done
introduce home laptop
relay_pid=${PID[relay]}
hold() { kill -STOP "$relay_pid"; } # takes connections and says nothing
go_on() { kill -CONT "$relay_pid"; }

step "init, at each prompt"
presses fresh 130 '> ' "$C" -- init
presses fresh 130 '> ' '127.0.0.1\r' 'peer ID.*\n> ' "$C" -- init
check "nothing was made" same "" "$(find "$WORK/fresh" -mindepth 1)"

step "verify, at its question"
before=$(sha <"$(keys_of laptop)")
presses laptop 130 'y/N' "$C" -- verify home
check "home is verified by nobody" same "$before" "$(sha <"$(keys_of laptop)")"

step "while connecting: the relay is silent"
hold
presses home 0 'Connecting to the relay\.\.\. [0-9]+ s' "$C" -- invite
says "Cancelled"
takes_back
presses laptop 130 'Connecting to home\.\.\. [0-9]+ s' "$C" -- ping home
takes_back
presses laptop 130 'Tracing the way to home\.\.\. [0-9]+ s' "$C" -- traceroute home
takes_back
presses laptop 0 'Connecting to home\.\.\. [0-9]+ s' "$C" -- proxy home web 0
says "Shutting down"
takes_back
presses laptop 130 --out "$WORK/out" 'Tracing the way to home\.\.\. [0-9]+ s' "$C" -- \
  traceroute home --json
check "progress never reaches standard output" same "" "$(cat "$WORK/out")"
go_on

step "an invite that waits, and a joiner that waits for it"
start_as invite home invite --name home --non-interactive
wait_for 20 "an invite code is printed" grep -qE '^[A-Z2-7]{4}(-[A-Z2-7]{1,4})+$' "$WORK/invite.log"
code=$(grep -oE '^[A-Z2-7]{4}(-[A-Z2-7]{1,4})+$' "$WORK/invite.log")
hold
presses joiner 130 'Connecting to the relay\.\.\. [0-9]+ s' "$C" -- join "$code"
says "Cancelled"
takes_back
check "nothing was made but the key" same identity.key "$(cd "$WORK/joiner" && find . -type f -printf '%f')"
go_on
as joiner join "$code" >"$WORK/join.log" 2>&1 || bad "the code is good yet: $(cat "$WORK/join.log")"
good "the code is good yet, and the joiner can try again"
stop invite 0 || true
presses home 0 'Waiting for peer to join' '' 'the code expires in' "$C" -- invite
says "Cancelled"
check "its line is taken back" same 0 "$(grep -c 'code expires in' "$WORK/said.log")"

step "with a daemon"
start_daemon home
wait_reserved home
presses home 0 'Waiting for peer to join' "$C" -- invite
says "Cancelled"
check "the daemon keeps no invite open" same stopped \
  "$(curl -sS --unix-socket "$WORK/home/.config/peerup/peerup.sock" -H "Authorization: Bearer $(cat \
    "$WORK/home/.config/peerup/.daemon-cookie")" http://d/v1/invite | grep -oE 'stopped')"
hold # the daemon asks the relay about guests, which takes until its patience ends
presses home 0 'Connecting to the relay\.\.\. 1 s' "$C" -- invite
presses home 130 'Connecting to laptop\.\.\. 1 s' "$C" -- \
  daemon connect --peer laptop --service web --listen localhost:0
says "daemon proxies"
takes_back
go_on
no_invite() { as home invite --ttl 1s --non-interactive >"$WORK/again.log" 2>&1; }
wait_for 20 "the daemon kept no invite that was given up before it was open" no_invite
presses laptop 0 'seq=2' "$C" -- ping home --interval 0.2s
says "ping statistics"
presses laptop 0 'TCP proxy listening' "$C" -- proxy home web 0
says "Shutting down"
start_daemon laptop
wait_reserved laptop
presses home 130 'Pinging laptop\.\.\. [0-9]+ s' "$C" -- daemon ping laptop -c 100
takes_back
presses laptop 0 'seq=2' "$C" -- ping home --interval 0.2s
says "ping statistics"
as laptop traceroute home >"$WORK/said.log"
says "through the running daemon"
check "the daemons go on" as home daemon status >/dev/null

step "a daemon, and a relay"
stop home || true
presses home 0 'Daemon API:' "$C" -- daemon
says "Daemon stopped"
check "its socket is gone" test ! -e "$WORK/home/.config/peerup/peerup.sock"
stop relay || true
presses relay 0 'Relay running' "$C" -- relay serve --config "$RELAY_CONFIG"
says "Shutting down"

step "in the middle of writing"
# Ctrl-C comes at any moment of an apply: it has happened as a whole, or not at all.
config=$(config_of laptop)
cp "$config" "$WORK/old.yaml"
sed 's/^names:/# changed\nnames:/' "$config" >"$WORK/new.yaml"
chmod 600 "$WORK/new.yaml"
stop laptop || true
waiting() { (cd "${config%/*}" && find . -name '.config.p*' -o -name '*.new-*' | sort | tr '\n' ' '); }
applied=0 broken_off=0
for _ in {1..30}; do
  code=0
  (cd "$WORK/laptop" && HOME=$WORK/laptop exec "$HERE/on_pty.py" \
    "+0.0$((RANDOM % 9))$((RANDOM % 10))" "$C" -- "$PEERUP" config apply "$WORK/new.yaml") \
    >"$WORK/said.log" 2>&1 || code=$?
  [ "$code" = 0 ] || [ "$code" = 130 ] ||
    bad "it ends with 0 or 130, not $code: $(cat "$WORK/said.log")"
  if cmp -s "$config" "$WORK/old.yaml"; then
    broken_off=$((broken_off + 1))
    [ "$code" = 130 ] || bad "it says 0 and has done nothing"
    same "" "$(waiting)" || bad "nothing is left of what was broken off"
  else
    applied=$((applied + 1))
    cmp -s "$config" "$WORK/new.yaml" || bad "the config is the old or the new one"
    same "./.config.pending ./.config.pre-confirmed.yaml " "$(waiting)" || bad "it can go back"
    cp "$WORK/old.yaml" "$config"
    rm -f "${config%/*}"/.config.p*
  fi
done
good "$applied applied, $broken_off broken off, none by half"
