#!/usr/bin/env python3
"""Runs a program on a terminal of its own, as a person would: waits for words on the screen, presses
keys, and looks at what is left.

on_pty.py [--out FILE] WORDS KEYS [WORDS KEYS ...] -- PROGRAM ARGS...

WORDS is a regular expression, or +SECONDS to wait without looking; KEYS are as in "\\x03" for Ctrl-C.
--out sends standard output to a file, so that the terminal shows standard error only. The screen is
printed, with lines that were taken back gone. Exit code: the program's, 128 + n when signal n ended
it; 99 when the words do not come, the program does not end, or it leaves the terminal changed.
"""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

DEADLINE_S = 25


class Failure(Exception):
    pass


def read_more(master, screen, until):
    ready, _, _ = select.select([master], [], [], max(0.0, until - time.monotonic()))
    if not ready:
        return False
    try:
        data = os.read(master, 65536)
    except OSError:  # nobody holds the other side any more
        return False
    screen += data
    return bool(data)


def wait_for(words, master, screen, start, process):
    if words.startswith("+"):
        until = time.monotonic() + float(words[1:])
        while time.monotonic() < until:
            if not read_more(master, screen, until):
                break
        return start
    until = time.monotonic() + DEADLINE_S
    pattern = re.compile(words.encode())
    while True:
        found = pattern.search(screen, start)
        if found:
            return found.end()
        if time.monotonic() >= until or not read_more(master, screen, until):
            raise Failure("/%s/ did not come (exit code %s)" % (words, process.poll()))


def shown(screen):
    text = screen.decode("utf-8", "replace").replace("\r\n", "\n")
    return re.sub(r"(?m)^[^\n]*\r\x1b\[K", "", text)


def main(args):
    out = None
    if args[0] == "--out":
        out, args = open(args[1], "wb"), args[2:]
    split = args.index("--")
    script, command = args[:split], args[split + 1:]
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)

    def take_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(command, stdin=slave, stdout=out or slave, stderr=slave,
                               preexec_fn=take_terminal)
    screen = bytearray()
    try:
        at = 0
        for words, keys in zip(script[::2], script[1::2]):
            at = wait_for(words, master, screen, at, process)
            os.write(master, keys.encode().decode("unicode_escape").encode("latin-1"))
        until = time.monotonic() + DEADLINE_S
        while process.poll() is None:
            if time.monotonic() >= until:
                raise Failure("it does not end")
            read_more(master, screen, min(until, time.monotonic() + 0.02))
        while read_more(master, screen, time.monotonic() + 0.05):
            pass
        if termios.tcgetattr(slave) != before:
            raise Failure("it leaves the terminal changed")
    except Failure as failure:
        if process.poll() is None:
            process.kill()
        process.wait()
        print(shown(screen))
        print("on_pty:", failure)
        return 99
    sys.stdout.write(shown(screen))
    code = process.returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
