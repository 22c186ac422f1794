#!/bin/sh
# Installs the Debian packages that a task of the Makefile needs and that are missing; touches apt
# only when something is missing. Usage: install-packages.sh build|demo|firewall|test|fuzz|bench|interop ...
set -eu

build="gcc libc6-dev make cmake ninja-build pkg-config libuv1-dev libsodium-dev liblua5.4-dev
  lua-luv-dev lua-luv lua-cjson lua-yaml lua-argparse libprotobuf-c-dev protobuf-c-compiler
  libmicrohttpd-dev libqrencode-dev libssl-dev libgnutls28-dev libngtcp2-dev
  libngtcp2-crypto-gnutls-dev libwslay-dev"
demo="busybox curl ca-certificates"
firewall="nftables iproute2 util-linux python3"
test="libcmocka-dev lua-busted lua-check lua5.4 $demo $firewall openssh-client openssh-server
  libhiredis-dev haproxy systemd prometheus nginx-light zsh fish man-db groff-base"
fuzz="clang llvm libclang-rt-14-dev"
bench="openssh-client openssh-server haproxy python3"
interop="redis-server npm nodejs python3 python3-venv cargo-web ca-certificates"

wanted=""
for set in "$@"; do
  case $set in
    build) wanted="$wanted $build" ;;
    demo) wanted="$wanted $build $demo" ;;
    firewall) wanted="$wanted $firewall" ;;
    test) wanted="$wanted $build $test" ;;
    fuzz) wanted="$wanted $build $fuzz" ;;
    bench) wanted="$wanted $build $bench $demo" ;;
    interop) wanted="$wanted $build $test $interop" ;;
    *) echo "install-packages: no such set: $set" >&2; exit 2 ;;
  esac
done

# A program already on PATH serves as well as the package of its name (another Node.js, say).
provided() {
  case $1 in
    npm | nodejs) command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 ;;
    # rust-libp2p needs more than the Rust that Debian 12 began with.
    cargo-web) cargo --version 2>/dev/null | grep -qE ' 1\.(8[89]|9[0-9]|[1-9][0-9]{2})\.' ;;
    python3-venv) python3 -c 'import venv, ensurepip' >/dev/null 2>&1 ;;
    python3 | gcc | make | cmake | clang | curl) command -v "$1" >/dev/null 2>&1 ;;
    *) return 1 ;;
  esac
}

missing=""
for package in $wanted; do
  case " $missing " in *" $package "*) continue ;; esac
  if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ] &&
    ! provided "$package"; then
    missing="$missing $package"
  fi
done
[ -n "$missing" ] || exit 0

echo "Installing missing Debian packages:$missing"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "These packages are missing and need root to install:$missing" >&2
    exit 1
  }
  sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# Servers that tests start by themselves must not start as services of the machine.
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -y -qq --no-install-recommends $missing
