#!/usr/bin/env bash
# Runs the samples of the documents (samples.py) in a network of its own, which has the address that the
# documents give the relay. Needs PEERUP and PEERUP_SOURCE.
set -euo pipefail
if [ "${PEERUP_DOCS_NETWORK:-}" != own ]; then
  export PEERUP_DOCS_NETWORK=own PATH=$PATH:/usr/sbin:/sbin
  user=$([ "$(id -u)" -eq 0 ] || echo --user --map-root-user)
  # shellcheck disable=SC2086
  exec unshare $user --net sh -c 'ip link set lo up && ip addr add 203.0.113.5/32 dev lo && exec "$0"' "$0"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/peerup-docs.XXXXXX")
trap '[ -n "${PEERUP_E2E_KEEP:-}" ] || rm -rf "$work"' EXIT
unset PEERUP_INVITE_CODE NOTIFY_SOCKET XDG_CONFIG_HOME
cd "${PEERUP_SOURCE:?}"
python3 tests/docs/samples.py "${PEERUP:?}" "$PWD" "$work" docs/guide.md docs/operations.md \
  docs/api.md README.md
