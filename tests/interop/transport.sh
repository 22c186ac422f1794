# The official transport contract: sourced by run.sh. transport_cases runs every cell of ours.

rounds=3

contract() { # IMPLEMENTATION IS_DIALER TRANSPORT SECURITY
  local command
  case $1 in
    go) command="$work/go-peer transport-interop" ;;
    rust) command="$work/rust-peer transport-interop" ;;
    js) command="$work/js/node_modules/.bin/node $work/js/peer.mjs" ;;
    peerup) command="$work/transport-interop" ;;
  esac
  # The contract gives neither security nor muxer with a transport that has its own.
  if [ "$4" = none ]; then unset security muxer; else export security=$4 muxer=yamux; fi
  # shellcheck disable=SC2086
  exec env transport="$3" is_dialer="$2" ip=127.0.0.1 redis_addr="127.0.0.1:$redis_port" \
    test_timeout_seconds=30 $command
}

value() { # KEY FILE: a number of a JSON object
  sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" "$2"
}

transport_case() { # DIALER LISTENER TRANSPORT SECURITY
  local out=$scratch/out listener status=pass i handshakes=()
  for i in $(seq $rounds); do
    redis-cli -p "$redis_port" del listenerAddr >/dev/null
    (contract "$2" false "$3" "$4") >"$scratch/listener.log" 2>&1 &
    listener=$!
    if (contract "$1" true "$3" "$4") >"$out" 2>"$scratch/dialer.log" &&
      [ -n "$(value pingRTTMilllis "$out")" ] && [ -n "$(value handshakePlusOneRTTMillis "$out")" ]; then
      handshakes+=("$(value handshakePlusOneRTTMillis "$out")")
    else
      status=FAIL
      tail -n 5 "$scratch/dialer.log" "$scratch/listener.log" >&2
    fi
    kill "$listener" 2>/dev/null || true
    wait "$listener" 2>/dev/null || true
    [ $status = pass ] || break
  done
  local cell="$3 | $4"
  [ "$4" != none ] || cell="$3 | (its own)"
  record "$cell | $1 | $2" $status \
    "$(printf '%.1f\n' "${handshakes[@]:-0}" | sort -n | sed -n "$(((rounds + 1) / 2))p") ms"
}

transport_cases() {
  local cell partner
  for cell in "tcp noise" "tcp tls" "ws noise" "ws tls" "quic-v1 none"; do
    for partner in go rust js peerup; do
      # shellcheck disable=SC2086
      transport_case peerup "$partner" $cell
      # shellcheck disable=SC2086
      [ "$partner" = peerup ] || transport_case "$partner" peerup $cell
    done
  done
}
