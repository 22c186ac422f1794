# Circuit relay v2 with each implementation in each role, and perf both ways: sourced by run.sh.

echo_bytes=8000000
perf_bytes=20000000

relay_peer() {
  case $1 in
    go) echo "$work/go-peer" ;;
    peerup) echo "$work/interop-peer" ;;
  esac
}

first_line() { # FILE: its first line, once it is there
  for _ in $(seq 200); do
    if [ -s "$1" ]; then
      head -n 1 "$1"
      return
    fi
    sleep 0.05
  done
  return 1
}

# serve starts a peer whose standard input stays open until stop_serving; it ends with it or is killed.
serving=()
serve() { # NAME COMMAND ARGUMENTS...
  local name=$1
  shift
  "$@" >"$scratch/$name.addr" 2>"$scratch/$name.log" <"$hold" &
  serving+=($!)
}
stop_serving() {
  [ ${#serving[@]} -eq 0 ] && return 0
  kill "${serving[@]}" 2>/dev/null || true
  wait "${serving[@]}" 2>/dev/null || true
  serving=()
}

relay_case() { # RELAY LISTENER DIALER
  local relay circuit out status=FAIL detail=""
  rm -f "$scratch"/relay.addr "$scratch"/listen.addr
  serve relay "$(relay_peer "$1")" relay
  if relay=$(first_line "$scratch/relay.addr"); then
    serve listen "$(relay_peer "$2")" listen "$relay"
    if circuit=$(first_line "$scratch/listen.addr"); then
      if out=$(timeout 60 "$(relay_peer "$3")" dial "$circuit" $echo_bytes 2>"$scratch/dial.log") &&
        [[ $out == *"p2p-circuit"* ]]; then
        status=pass
        detail="$((echo_bytes / 1000000)) MB echoed"
      fi
    fi
  fi
  [ $status = pass ] || tail -n 20 "$scratch"/{relay,listen,dial}.log >&2 || true
  stop_serving
  record "relay=$1 | listener=$2 | dialer=$3" $status "$detail"
}

relay_cases() {
  relay_case go peerup peerup
  relay_case peerup go peerup
  relay_case peerup peerup go
  relay_case go go peerup
  relay_case go peerup go
  relay_case peerup go go
  relay_case peerup peerup peerup
}

# ---- perf ----

perf_peer() { # IMPLEMENTATION ARGUMENTS...
  local implementation=$1
  shift
  case $implementation in
    go) "$work/go-peer" perf "$@" ;;
    rust) "$work/rust-peer" perf "$@" ;;
    peerup) "$work/perf" "$@" ;;
  esac
}

perf_command() { # IMPLEMENTATION: the program and its first argument
  case $1 in
    go | rust) echo "$work/$1-peer perf" ;;
    peerup) echo "$work/perf" ;;
  esac
}

perf_case() { # CLIENT SERVER TRANSPORT
  local port status=FAIL detail="" last=""
  port=$(free_port)
  rm -f "$scratch/perf.addr"
  # shellcheck disable=SC2046
  serve perf $(perf_command "$2") --run-server --server-address "127.0.0.1:$port" --transport "$3"
  if first_line "$scratch/perf.addr" >/dev/null &&
    perf_peer "$1" --server-address "127.0.0.1:$port" --transport "$3" --upload-bytes $perf_bytes \
      --download-bytes $perf_bytes >"$scratch/perf.out" 2>"$scratch/perf.client.log"; then
    last=$(tail -n 1 "$scratch/perf.out")
    if [[ $last == *'"type":"final"'* ]] && [ "$(value uploadBytes <(echo "$last"))" = $perf_bytes ] &&
      [ "$(value downloadBytes <(echo "$last"))" = $perf_bytes ]; then
      status=pass
      detail="$((perf_bytes / 1000000)) MB each way"
    fi
  fi
  [ $status = pass ] || tail -n 20 "$scratch"/perf{,.client}.log >&2 || true
  stop_serving
  record "perf over $3 | client=$1 | server=$2" $status "$detail"
}

perf_cases() {
  local transport partner
  for transport in tcp ws quic-v1; do
    for partner in go rust; do
      perf_case peerup "$partner" "$transport"
      perf_case "$partner" peerup "$transport"
    done
    perf_case peerup peerup "$transport"
  done
}
