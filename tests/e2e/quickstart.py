#!/usr/bin/env python3
"""The README's quick start as two people do it, each at a terminal: two commands on each machine, from
nothing to a shell at home through peerup. Counts what they type.

Usage: quickstart.py PEERUP RELAY_ADDR RELAY_CONFIG WORK
The time of typing: 3.4 characters a second (40 words a minute), and a second for each text pasted.
"""
import os
import pty
import re
import select
import sys
import time

peerup, relay_addr, relay_config, work = sys.argv[1:5]
CHARACTERS_PER_SECOND = 3.4
SECONDS_PER_PASTE = 1.0


class Terminal:
    """One person at one machine: a shell's prompt, commands, what they print."""

    def __init__(self, machine):
        self.machine = machine
        self.home = os.path.join(work, machine)
        os.makedirs(self.home, exist_ok=True)
        self.typed = 0
        self.pastes = 0
        self.commands = []
        self.fd = None
        self.seen = ""

    def run(self, words, env=None):
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.home)
            os.environ.update(HOME=self.home, TERM="dumb", NO_COLOR="1", **(env or {}))
            os.execv(peerup, ["peerup", *words])
        self.pid, self.fd, self.seen = pid, fd, ""

    def command(self, text, paste=None):
        """A command line: |text| is typed, with {} for what is pasted. Enter counts too."""
        self.typed += len(text.replace("{}", "")) + 1
        self.pastes += paste is not None
        self.commands.append(text.replace("{}", "<pasted>"))
        words = text.replace("{}", paste or "").split()
        assert words[0] == "peerup", text
        print(f"  {self.machine}$ {' '.join(words)[:76]}", flush=True)
        self.run(words[1:])

    def answer(self, text="", paste=False):
        self.typed += 1 if paste else len(text) + 1
        self.pastes += paste
        os.write(self.fd, text.encode() + b"\n")

    def read(self, seconds):
        """False at the end of the command."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.seen += data.decode(errors="replace")
        return data != b""

    def expect(self, pattern, seconds=60):
        until = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            if not self.read(0.2) or time.monotonic() > until:
                sys.exit(f"{self.machine}: never saw /{pattern}/ in:\n{self.seen}")
        return re.search(pattern, self.seen)

    def end(self, seconds=60):
        until = time.monotonic() + seconds
        while self.read(0.2):
            if time.monotonic() > until:
                sys.exit(f"{self.machine}: does not end:\n{self.seen}")
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def typing_seconds(self):
        return self.typed / CHARACTERS_PER_SECOND + self.pastes * SECONDS_PER_PASTE


def advice(terminal):
    """What `peerup` alone says to do next. Not one of the commands of the quick start."""
    terminal.run([])
    terminal.end()
    return terminal.seen


def must_advise(terminal, command):
    text = advice(terminal)
    if command not in text:
        sys.exit(f"{terminal.machine}: `peerup` does not say `{command}`:\n{text}")
    print(f"   ok: `peerup` at {terminal.machine} says what is next: {command}")


home, laptop, operator = Terminal("home"), Terminal("laptop"), Terminal("relay")
must_advise(home, "peerup init")

home.command("peerup init")
home.expect(r"> $")
home.answer(relay_addr, paste=True)
home.expect(r"Offer it to the machines you pair with\? \[Y/n\]: $")
home.answer()
peer_id = home.expect(r"Your Peer ID: (\S+)").group(1)
assert home.end() == 0, home.seen
must_advise(home, "peerup daemon --invite")

# The relay's operator, who may be the same person, lets home in: `init` has said how.
operator.run(["relay", "authorize", peer_id, "home", "--config", relay_config])
assert operator.end() == 0, operator.seen

home.command("peerup daemon --invite")
code = home.expect(r"\r\n([A-Z2-7]{4}(?:-[A-Z2-7]{1,4})+)\r\n").group(1)

must_advise(laptop, "peerup join")
laptop.command("peerup join {}", paste=code)
laptop.expect("Joined successfully")
assert laptop.end() == 0, laptop.seen
name = re.search(r"peerup ssh (\S+)", laptop.seen).group(1)
home.expect("joined and authorized")
print(f"   ok: they are paired, and home is called {name}")

# ssh asks about the key of a host it does not know, as always.
os.makedirs(os.path.join(laptop.home, ".ssh"), mode=0o700, exist_ok=True)
laptop.command(f"peerup ssh {name}")
laptop.expect(r"\(yes/no/\[fingerprint\]\)\? $")
laptop.answer("yes")
laptop.expect(r"[#$] $")
laptop.answer("echo at $((40 + 2)); exit")
laptop.typed -= len("echo at $((40 + 2)); exit") + 1  # they are there
laptop.expect("at 42")
assert laptop.end() == 0, laptop.seen
print("   ok: a shell at home")

total = 0
for terminal in (home, laptop):
    seconds = terminal.typing_seconds()
    total += seconds
    print(f"   {terminal.machine}: {len(terminal.commands)} commands, {terminal.typed} characters and "
          f"{terminal.pastes} pasted text(s): {seconds:.1f} s of typing")
    assert len(terminal.commands) == 2, terminal.commands
    assert seconds < 20, seconds
print(f"   both together: {total:.1f} s")

# Nothing of it needs more than Ctrl-C to end.
os.write(home.fd, b"\x03")
assert home.end(10) == 0, home.seen
