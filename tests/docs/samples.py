#!/usr/bin/env python3
"""Runs every code sample of the documents, in order, on three machines (folders with a HOME each) in a
network of their own. What a sample needs stands in a comment before it, which readers do not see:

    <!-- sample: machine=home; background=Daemon API; save=code=([A-Z2-7-]{20,}) -->

machine=NAME      where it runs: relay, home (the default), laptop
background=TEXT   it goes on; wait until it has printed TEXT
answers=A|B       what is typed at its questions
save=NAME=REGEX   what it printed that later samples write as a placeholder (see PLACEHOLDERS)
expect=TEXT       what it must print
keep              its functions hold for the machine's later samples
kind=KIND         of what is no shell: node, relay (configurations), json, text, lua, c; file=NAME keeps it
skip=REASON       it cannot run here; the reason is printed

Usage: samples.py PEERUP SOURCE WORK DOCUMENT...
"""
import json
import os
import re
import signal
import subprocess
import sys
import time

peerup, source, work = (os.path.abspath(p) for p in sys.argv[1:4])
documents = sys.argv[4:]
PLACEHOLDERS = {"relay_id": "<relay's peer ID>", "home_id": "<home's peer ID>", "code": "<code>"}
SKIPS_MAX = 12
values, preambles, background = {}, {}, []
ran = skipped = 0


class Bad(Exception):
    pass


def blocks(path):
    """Yields (line, language, directive, text) of each code block."""
    lines = open(path, encoding="utf-8").read().split("\n")
    i, directive = 0, None
    while i < len(lines):
        line = lines[i]
        if m := re.match(r"<!-- sample: (.*) -->$", line):
            directive = m.group(1)
        elif m := re.match(r"```(\w*)\s*$", line):
            begin = i + 1
            i += 1
            while not lines[i].startswith("```"):
                i += 1
            yield begin, m.group(1), directive, "\n".join(lines[begin:i]) + "\n"
            directive = None
        elif re.match(r"    \S", line) and (i == 0 or lines[i - 1] == ""):
            raise Bad(f"{path}:{i + 1}: an indented block, which nothing runs; fence it with a language")
        elif line.strip():
            directive = None
        i += 1


def options_of(directive):
    options = {}
    for part in (directive or "").split("; "):
        key, _, value = part.partition("=")
        if key:
            options[key] = value
    return options


def fill(text):
    for name, placeholder in PLACEHOLDERS.items():
        if name in values:
            text = text.replace(placeholder, values[name])
    if m := re.search(r"<[a-z][^<>\n]*>", text):
        raise Bad(f"nothing says what {m.group(0)} is")
    return text


def environment(machine):
    home = os.path.join(work, machine)
    os.makedirs(home, exist_ok=True)
    path = os.path.dirname(peerup) + ":" + os.environ["PATH"]
    return home, dict(os.environ, HOME=home, PATH=path, NO_COLOR="1")


def check_output(options, output):
    if "save" in options:
        name, _, pattern = options["save"].partition("=")
        m = re.search(pattern, output)
        if not m:
            raise Bad(f"/{pattern}/ is not in what it printed:\n{output}")
        values[name] = m.group(1)
    if "expect" in options and options["expect"] not in output:
        raise Bad(f"\"{options['expect']}\" is not in what it printed:\n{output}")


def shell(text, options):
    machine = options.get("machine", "home")
    home, env = environment(machine)
    text = fill(text)
    if "keep" in options:
        preambles[machine] = preambles.get(machine, "") + text
    script = "set -euo pipefail\n" + preambles.get(machine, "") + text
    if "background" in options:
        log = open(os.path.join(work, f"background-{len(background)}.log"), "wb+")
        process = subprocess.Popen(["bash", "-c", "exec " + text], cwd=home, env=env, stdout=log,
                                   stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        background.append(process)
        until = time.monotonic() + 60
        while True:
            output = open(log.name, encoding="utf-8", errors="replace").read()
            if options["background"] in output:
                break
            if process.poll() is not None or time.monotonic() > until:
                raise Bad(f"never printed \"{options['background']}\":\n{output}")
            time.sleep(0.05)
        check_output(options, output)
        return
    answers = fill(options["answers"]).replace("|", "\n") if "answers" in options else ""
    done = subprocess.run(["bash", "-c", script], cwd=home, env=env, input=answers.encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90)
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Bad(f"exit code {done.returncode}:\n{output}")
    check_output(options, output)


def without_sections(text, fragment):
    """A configuration without the sections that a fragment brings."""
    names = re.findall(r"^(\w+):", fragment, re.M)
    out, dropping = [], False
    for line in text.split("\n"):
        if m := re.match(r"(\w+):", line):
            dropping = m.group(1) in names
        if not dropping:
            out.append(line)
    return "\n".join(out)


def configuration(text, options, kind):
    home, env = environment(options.get("machine", "relay" if kind == "relay" else "home"))
    path = os.path.join(home, options.get("file", ""))
    if "file" not in options:
        own = {"node": ".config/peerup/config.yaml", "relay": "relay-server.yaml"}[kind]
        whole = os.path.join(home, own)
        if kind == "node" and not os.path.exists(whole):
            raise Bad("there is no configuration yet that this could be a part of")
        path = os.path.join(os.path.dirname(whole), f"sample-{kind}.yaml")
        text = without_sections(open(whole, encoding="utf-8").read(), text) + "\n" + text
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)
    words = ["relay"] if kind == "relay" else []
    done = subprocess.run([peerup, *words, "config", "validate", "--config", path], cwd=home, env=env,
                          capture_output=True, text=True, timeout=30)
    if done.returncode != 0 or "arning" in done.stderr:
        raise Bad(f"it is no good configuration:\n{done.stdout}{done.stderr}")


def c_source(text, options):
    path = os.path.join(work, "sample.c")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    include = os.path.join(source, "engine/include")
    done = subprocess.run(["cc", "-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", "-I", include, path],
                          capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Bad(done.stderr)


def run(line, language, directive, text):
    global ran, skipped
    options = options_of(directive)
    if "skip" in options:
        skipped += 1
        print(f"   not run: {options['skip']}")
        return
    kind = options.get("kind", {"sh": "shell"}.get(language, language))
    if kind == "shell":
        shell(text, options)
    elif kind in ("node", "relay"):
        configuration(text, options, kind)
    elif kind == "json":
        for one in text.strip().split("\n"):
            json.loads(one)
    elif kind == "text" and directive:
        pass
    elif kind == "c":
        c_source(text, options)
    else:
        raise Bad(f"nothing says how to run this ({language or 'no language'})")
    ran += 1


def main():
    for document in documents:
        print(f"== {os.path.relpath(document, source)}", flush=True)
        line = 0
        try:
            for line, language, directive, text in blocks(document):
                run(line, language, directive, text)
        except (Bad, subprocess.TimeoutExpired) as problem:
            print(f"{document}:{line}: {problem}", file=sys.stderr)
            return 1
    print(f"{ran} samples ran, {skipped} cannot run here")
    return 0 if skipped <= SKIPS_MAX else 1


status = 1
try:
    status = main()
finally:
    for process in background:
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
sys.exit(status)
