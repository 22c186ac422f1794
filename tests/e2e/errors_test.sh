#!/usr/bin/env bash
# Bad input: each gets a clear message on few lines, a non-zero exit code, and nothing half-written.
source "$(dirname "$0")/lib.sh"

MAX_LINES=4 # of a message, with what to do about it

# snapshot MACHINE: names, modes and contents of its files.
snapshot() { (cd "$WORK/$1" && find . -type f -printf '%p %m ' -exec sha256sum {} \; | sort); }

# refuses MACHINE CODE PATTERN ARGS...: peerup must end with that exit code and say so; what it says is
# in $said. Standard input is $answer.
answer=""
refuses() {
  local machine=$1 want=$2 pattern=$3 before code=0
  shift 3
  before=$(snapshot "$machine")
  as "$machine" "$@" <<<"$answer" >"$WORK/said.log" 2>&1 || code=$?
  said=$(cat "$WORK/said.log")
  [ "$code" = "$want" ] || bad "peerup $* ends with $want, not $code: $said"
  grep -qiE -- "$pattern" "$WORK/said.log" || bad "peerup $* says /$pattern/, not: $said"
  ! grep -qE 'traceback|\.lua:[0-9]+:|nil value|table: 0x' "$WORK/said.log" ||
    bad "peerup $* has no fault of ours in: $said"
  [ "$(wc -l <"$WORK/said.log")" -le "$MAX_LINES" ] || bad "peerup $* says it in $MAX_LINES lines: $said"
  [ "$before" = "$(snapshot "$machine")" ] || bad "peerup $* leaves the files as they were"
  good "$* -> $(tail -1 "$WORK/said.log" | cut -c1-120)"
}
# with_config SED ARGS...: refuses, with a config changed by a sed script.
config_refused() {
  local script=$1 want=$2 pattern=$3
  shift 3
  cp "$(config_of home)" "$WORK/saved"
  sed -i "$script" "$(config_of home)"
  refuses home "$want" "$pattern" "$@"
  cp "$WORK/saved" "$(config_of home)"
}

make_relay
start_relay
make_node home
admit home
config=$(config_of home)
keys=$(keys_of home)
key=$WORK/home/.config/peerup/identity.key

step "configs"
config_refused '3s/.*/version: [1/' 1 "config.yaml: line [0-9]+" whoami
config_refused 's/^identity:/&\n  key_file: a\nidentity:/' 1 'line [0-9]+.*already defined' whoami
config_refused 's/^version: 1/version: 9/' 1 "newer than supported" whoami
config_refused 's/reservation_interval:.*/reservation_interval: soon/' 1 \
  "config.yaml: line [0-9]+: relay.reservation_interval" whoami
config_refused 's/enable_connection_gating:.*/enable_connection_gating: maybe/' 1 \
  "line [0-9]+: security.enable_connection_gating: must be true or false" status
config_refused "s|    - \"/ip4/127.*|    - \"/ip4/127.0.0.1/tcp/1\"|" 1 \
  "line [0-9]+: relay.addresses.*must end in /p2p/" config validate
config_refused 's|"/ip4/0.0.0.0/tcp/0"|"/ip4/nowhere/tcp/0"|' 1 \
  "line [0-9]+: network.listen_addresses.*nowhere" config validate
config_refused 's/^names: {}/names:\n  x: notapeer/' 1 "line [0-9]+: names.x.*no peer ID" \
  config validate
cp "$config" "$WORK/saved"
sed -i 's/reservation_interval/reservation_intervall/' "$config"
as home whoami >"$WORK/said.log" 2>&1
check "an unknown key is warned of, with the nearest known one" \
  grep -qE 'line [0-9]+.*unknown key, did you mean "reservation_interval"' "$WORK/said.log"
cp "$WORK/saved" "$config"
refuses home 1 "config file not found: nowhere.yaml" whoami --config nowhere.yaml
mkdir -p "$WORK/empty"
refuses empty 1 "no config file found.*peerup.yaml" whoami
chmod 644 "$config"
refuses home 1 "mode 0644.*chmod 600" status
chmod 600 "$config"
chmod 640 "$key"
refuses home 1 "mode 0640.*chmod 600" whoami
chmod 600 "$key"
cp "$key" "$WORK/saved.key"
head -c 20 "$WORK/saved.key" >"$key"
refuses home 1 "identity key .*identity.key" whoami
: >"$key"
refuses home 1 "identity key .*identity.key" whoami
cp "$WORK/saved.key" "$key"
cp "$keys" "$WORK/saved.keys"
echo "12D3KooWnotapeer  # x" >>"$keys"
refuses home 1 "authorized_keys.*(line [0-9]+|12D3KooWnotapeer)" daemon start
refuses home 1 "Line [0-9]+" auth validate
cp "$WORK/saved.keys" "$keys"
rm "$keys"
refuses home 1 "authorized_keys" daemon start
cp "$WORK/saved.keys" "$keys"
chmod 600 "$keys"
answer=""
refuses home 1 "config already exists" init

step "words"
refuses home 1 "invalid peer ID" auth add notapeer
refuses home 1 "peer not found" auth remove "$RELAY_ID"
refuses home 1 "not found: nobody|name not found|nobody" resolve nobody
refuses home 1 'Cannot resolve target "nobody"' ping nobody -c 1
refuses home 1 'Cannot resolve target "nobody"' proxy nobody web 0
refuses home 1 "service not found: nothing" service disable nothing
refuses home 1 "nothing" service remove nothing
refuses home 1 "1-63" service add "Bad_Name" localhost:22
refuses home 1 "port|host:port" service add ok localhost
refuses home 1 "must end in /p2p/" relay add /ip4/127.0.0.1/tcp/1
refuses home 1 "peer-id" relay add 127.0.0.1:1
refuses home 1 "not.*(found|configured)|no relay" relay remove /ip4/127.0.0.1/tcp/1 -f
refuses home 1 "last relay" relay remove "$RELAY_ADDR"
refuses home 1 "daemon not running" daemon status
MAX_LINES=60 # the usage follows
refuses home 2 "invalid value|duration|ttl" invite --ttl soon
refuses home 2 "ping.*count|count|integer|number|value" ping home -c many
refuses home 1 "Invalid interval" ping home --interval never
refuses home 1 "Unknown command: nonsense" nonsense
refuses home 1 "Unknown relay subcommand: nonsense" relay nonsense
MAX_LINES=4
refuses home 1 "config file not found: relay-server.yaml" relay serve

step "invite codes, by the part that is wrong"
# A good code of a made-up inviter, taken apart and spoiled.
start_as invite home invite --name home --non-interactive
wait_for 20 "an invite code is printed" grep -qE '^[A-Z2-7]{4}(-[A-Z2-7]{1,4})+$' "$WORK/invite.log"
code=$(grep -oE '^[A-Z2-7]{4}(-[A-Z2-7]{1,4})+$' "$WORK/invite.log" | tr -d -)
stop invite INT || true
mkdir -p "$WORK/joiner"
refuses joiner 1 "Invalid invite code: .*too short" join ABCD
refuses joiner 1 'Invalid invite code: "1" \(sign 9' join "${code:0:8}1${code:9}"
refuses joiner 1 "Invalid invite code: its version, [0-9]+, is newer" join "77${code:2}"
refuses joiner 1 "Invalid invite code: .*(inviter|peer ID|ends)" join "${code:0:$((${#code} - 8))}"
refuses joiner 1 "Invalid invite code: .*relay's peer ID" join "${code:0:26}AAAA${code:30}"
MAX_LINES=60
refuses joiner 1 "no invite code" join --non-interactive
MAX_LINES=4
# The invite has ended. A relay that knows us not lets us in no more; one that does, to no avail.
MAX_LINES=6
as joiner join "$code" >/dev/null 2>&1 || true # makes the key, which stays
refuses joiner 1 "did not let us in" join "$code"
joiner=$(grep -oE "authorize 12D3Koo\w+" "$WORK/said.log" | tail -1 | cut -d' ' -f2)
as relay relay authorize "$joiner" joiner --config "$RELAY_CONFIG" >/dev/null
sleep 1.1 # the relay takes it up
refuses joiner 1 "Is the invite still active" join "$code"
MAX_LINES=4
check "nothing was made for a failed joiner but its key" same "" \
  "$(find "$WORK/joiner" -type f ! -name identity.key)"
rm -rf "$WORK/joiner"

step "the network"
absent=12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN
sed "s/^names: {}/names:\n  absent: $absent/" -i "$config"
refuses home 1 "PERMISSION_DENIED" relayed ping absent -c 1
as relay relay authorize "$absent" --config "$RELAY_CONFIG" >/dev/null
sleep 1.1
from=$(now_ms)
refuses home 1 "NO_RESERVATION|not connected|not reserved" relayed ping absent -c 1
check "within seconds" test $(($(now_ms) - from)) -lt 10000
closed=$(free_port)
cp "$config" "$WORK/saved"
sed -i "s|/tcp/$RELAY_PORT|/tcp/$closed|" "$config"
MAX_LINES=6
refuses home 1 "/tcp/$closed" ping absent -c 1
check "refused at once, with how long it tried at most" grep -qE "up to [0-9]+ s" <<<"$said"
refuses home 1 "cannot use relay .*/tcp/$closed.*refused" invite --non-interactive
serve_load other
sed -i "s|/tcp/$closed|/tcp/$LOAD_PORT|" "$config"
refuses home 1 "cannot use relay .*/tcp/$LOAD_PORT" invite --non-interactive
cp "$WORK/saved" "$config"
sed -i "s|$RELAY_ID|$absent|" "$config"
refuses home 1 "$RELAY_ID|other peer|peer ID|identity" invite --non-interactive
cp "$WORK/saved" "$config"
MAX_LINES=4

step "ports in use"
cp "$RELAY_CONFIG" "$WORK/second-relay.yaml"
mkdir -p "$WORK/relay2"
cp "$WORK/relay"/* "$WORK/relay2/"
refuses relay2 1 "/tcp/$RELAY_PORT.*in use" relay serve
make_node laptop
admit laptop
introduce home laptop
start_daemon home
wait_reserved home
refuses laptop 1 "$LOAD_PORT.*in use" proxy home web "$LOAD_PORT"

step "a service that home does not offer, and one that nobody serves"
start_proxy nothing laptop proxy home nothing 0
if echoes "$PORT"; then bad "an unknown service is not served"; fi
wait_for 10 "the user is told that home does not offer it" \
  grep -qE "connection to nothing failed: .*(not|no such|support|refus)" "$WORK/nothing.log"
wait_for 10 "and at the start, too" has "$WORK/nothing.log" "the peer offers no service nothing"
as home service add dead "localhost:$(free_port)" >/dev/null
start_proxy dead laptop proxy home dead 0
sleep 1.2 # the daemon takes the service up
if echoes "$PORT"; then bad "a dead service is not served"; fi
wait_for 10 "home is told that nothing listens there" \
  grep -qE "service connection failed.*dead.*refused" "$WORK/home.log"
stop home || true

step "a full disk: every write of a file fails"
trap '' XFSZ
full_refuses() { # output goes to pipes here, which have room
  local machine=$1 pattern=$2 before code=0 out
  shift 2
  before=$(snapshot "$machine")
  out=$( (ulimit -f 0 && as "$machine" "$@" <<<"$answer" 2>&1) | cat; exit "${PIPESTATUS[0]}") || code=$?
  [ "$code" != 0 ] || bad "peerup $* fails when nothing can be written: $out"
  grep -qE "$pattern" <<<"$out" || bad "peerup $* says /$pattern/, not: $out"
  [ "$before" = "$(snapshot "$machine")" ] || bad "peerup $* leaves the files as they were"
  good "$* -> $(tail -1 <<<"$out" | cut -c1-110)"
}
answer=""
full_refuses home "authorized_keys" auth add "$RELAY_ID"
full_refuses home "config.yaml" service add more localhost:1
full_refuses home "config.yaml" relay add "/ip4/127.0.0.1/tcp/2/p2p/$RELAY_ID"
mkdir -p "$WORK/fresh"
answer=$RELAY_ADDR
full_refuses fresh "identity.key|config.yaml" init
check "init left no file" same "" "$(find "$WORK/fresh" -type f)"
code=0
as home whoami >/dev/full 2>"$WORK/said.log" || code=$?
check "output that cannot be written is a failure, too" test "$code" -ne 0
