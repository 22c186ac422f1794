#!/usr/bin/env bash
# First contact: the README's quick start at two terminals, in a network of its own in which an SSH server
# listens on port 22 as on any machine. quickstart.py is the two people.
if [ "${PEERUP_QUICKSTART_NETWORK:-}" != own ]; then
  export PEERUP_QUICKSTART_NETWORK=own PATH=$PATH:/usr/sbin:/sbin
  setup='ip link set lo up && echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start'
  if [ "$(id -u)" -eq 0 ]; then
    exec unshare --net sh -c "$setup && exec \"\$0\"" "$0"
  fi # sshd wants to be either root or an ordinary user, and not the root of a namespace
  exec unshare --user --map-root-user --net sh -c \
    "$setup && exec unshare --user --map-user=$(id -u) --map-group=$(id -g) \"\$0\"" "$0"
fi
source "$(dirname "$0")/lib.sh"

step "a machine with an SSH server, and a relay somewhere"
mkdir -m 700 "$WORK/ssh"
ssh-keygen -q -t ed25519 -N '' -f "$WORK/ssh/host_key"
mkdir -p -m 700 "$WORK/laptop/.ssh"
ssh-keygen -q -t ed25519 -N '' -f "$WORK/laptop/.ssh/id_ed25519"
cat >"$WORK/ssh/sshd_config" <<CONFIG
Port 22
ListenAddress 127.0.0.1
HostKey $WORK/ssh/host_key
PidFile none
AuthorizedKeysFile $WORK/laptop/.ssh/id_ed25519.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PrintMotd no
CONFIG
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
start sshd "$(command -v sshd)" -D -e -f "$WORK/ssh/sshd_config"
wait_for 5 "the ssh server serves" open_port 22
make_relay
start_relay

# ssh takes its files from the account's home, whatever HOME says: these two are told to it instead.
mkdir "$WORK/bin"
cat >"$WORK/bin/ssh" <<SCRIPT
#!/bin/sh
exec $(command -v ssh) -F none -o IdentityFile=$WORK/laptop/.ssh/id_ed25519 -o IdentitiesOnly=yes \\
  -o UserKnownHostsFile=$WORK/laptop/.ssh/known_hosts "\$@"
SCRIPT
chmod +x "$WORK/bin/ssh"

step "two people, two commands each"
PATH=$WORK/bin:$PATH timeout 150 python3 "$HERE/quickstart.py" "$PEERUP" "$RELAY_ADDR" \
  "$RELAY_CONFIG" "$WORK" || bad "the quick start works as the README says"
good "the quick start works as the README says"
