"""libp2p hosts alone, without a proxy: the official perf contract over every transport, and handshakes; ours,
go-libp2p's and rust-libp2p's programs in turns (tests/interop holds all three)."""
import json
import os
import statistics
import subprocess
import sys
import time

TRANSPORTS = [("tcp", "noise"), ("tcp", "tls"), ("quic-v1", ""), ("ws", "noise"), ("ws", "tls")]
RESULT_SECONDS = 300


class Failure(Exception):
    """The benchmark cannot go on; the text is for the user."""


def programs(build):
    """The programs that are built, by the implementation's name; ours first."""
    folder = build / "tests" / "interop"
    found = {"peerup": [str(folder / "perf")], "go": [str(folder / "go-peer"), "perf"],
             "rust": [str(folder / "rust-peer-fast"), "perf"]}
    return {name: command for name, command in found.items() if os.access(command[0], os.X_OK)}


def label(transport, security):
    return transport + (f" ({security})" if security else "")


class Client:
    """One run of a client: what its last line says, its CPU seconds, and what it held at the end."""

    def __init__(self, command, log):
        self.resident = 0
        with open(log, "wb") as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=errors)
        os.set_blocking(process.stdout.fileno(), False)
        output, end = b"", time.monotonic() + RESULT_SECONDS
        while True:
            output += process.stdout.read() or b""
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                break
            if time.monotonic() > end:
                process.kill()
            self.look(process.pid)
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        output += process.stdout.read() or b""
        process.stdout.close()
        if process.returncode != 0:
            with open(log, encoding="utf-8", errors="replace") as errors:
                raise Failure(f"{' '.join(command)}: {errors.read()[-1000:]}")
        self.cpu = usage.ru_utime + usage.ru_stime
        self.said = json.loads(output.decode().strip().splitlines()[-1])

    def look(self, pid):
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as f:
                self.resident = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") or self.resident
        except (OSError, IndexError):
            pass


def measure(bench, name, command, cell, options, tools):
    """One program against itself over one transport: up, down, and handshakes."""
    transport, security = cell
    port = tools.free_port()
    address = ["--server-address", f"127.0.0.1:{port}", "--transport", transport]
    if security:
        address += ["--security", security]
    server_label = f"perf-{name}"
    server = bench.start(server_label, command + ["--run-server"] + address)
    bench.wait_log(server_label, r"/p2p/12D3KooW\S+", 10)
    log = bench.work / "perf-client.log"
    result = {}
    for way, option in (("up", "--upload-bytes"), ("down", "--download-bytes")):
        before = tools.cpu_seconds([server.pid])
        client = Client(command + address + [option, str(options.perf_bytes)], log)
        cpu = client.cpu + tools.cpu_seconds([server.pid]) - before
        seconds = client.said["timeSeconds"]
        result |= {f"{way}_gbit_s": options.perf_bytes * 8 / seconds / 1e9,
                   f"{way}_cpu_s_gb": cpu / (options.perf_bytes / 1e9),
                   f"{way}_client_bytes": client.resident,
                   f"{way}_server_bytes": tools.resident_bytes(server.pid)}
    before = tools.cpu_seconds([server.pid])
    client = Client(command + address + ["--handshakes", str(options.handshakes)], log)
    cpu = client.cpu + tools.cpu_seconds([server.pid]) - before
    result |= {"handshakes_s": options.handshakes / client.said["timeSeconds"],
               "handshakes_core_s": options.handshakes / cpu,
               "connect_p50_ms": client.said["connectP50Millis"]}
    bench.stop(server)
    return result


def run(bench, options, tools):
    """All rounds: a list of {transport: {program: figures}}."""
    found = programs(bench.build)
    if "peerup" not in found:
        raise Failure("tests/interop/perf is missing: make bench builds it")
    rounds = []
    for number in range(options.rounds):
        one = {}
        for cell in TRANSPORTS:
            one[label(*cell)] = {}
            for name, command in found.items():
                print(f"perf, round {number + 1} of {options.rounds}: {label(*cell)}, {name}",
                      file=sys.stderr)
                one[label(*cell)][name] = measure(bench, name, command, cell, options, tools)
        rounds.append(one)
    return rounds


def ratio(rounds, cell, key, of="peerup", to="go"):
    if not rounds or any(name not in rounds[0][cell] for name in (of, to)):
        return None
    return statistics.median(r[cell][of][key] / r[cell][to][key] for r in rounds)


def targets(rounds, want):
    """What was to be reached beside go-libp2p; |want| notes one."""
    for cell, least in (("quic-v1", 3.0), ("tcp (tls)", 1.5), ("tcp (noise)", 1.5)):
        for way in ("up", "down"):
            value = ratio(rounds, cell, f"{way}_cpu_s_gb", "go", "peerup")
            want(f"{cell}: bytes {way} per CPU second / go-libp2p's", value, least, True)
    for cell in ("quic-v1", "tcp (tls)"):
        want(f"{cell}: handshakes per core and second / go-libp2p's",
             ratio(rounds, cell, "handshakes_core_s"), 2.0, True)
    want("quic-v1: a handshake, median",
         statistics.median(r["quic-v1"]["peerup"]["connect_p50_ms"] for r in rounds), 3.0, False, "ms")


def rows(rounds):
    """The table's head and rows: medians, and in brackets the ratio to go-libp2p's."""
    def figure(cell, name, key, form):
        value = statistics.median(r[cell][name][key] for r in rounds)
        beside = ratio(rounds, cell, key, name) if name != "go" else None
        return format(value, form) + (f" (x{beside:.2f})" if beside is not None else "")

    head = ["transport, program", "Gbit/s up", "down", "CPU s/GB up", "down",
            "resident MB client, server", "handshakes a second", "a core", "connect p50 ms"]
    lines = []
    for cell, by_name in rounds[0].items():
        for name in by_name:
            resident = [statistics.median(r[cell][name][f"up_{side}_bytes"] for r in rounds) / 1e6
                        for side in ("client", "server")]
            lines.append([f"{cell}, {name}",
                          figure(cell, name, "up_gbit_s", ".2f"), figure(cell, name, "down_gbit_s", ".2f"),
                          figure(cell, name, "up_cpu_s_gb", ".2f"),
                          figure(cell, name, "down_cpu_s_gb", ".2f"),
                          f"{resident[0]:.1f}, {resident[1]:.1f}",
                          figure(cell, name, "handshakes_s", ".0f"),
                          figure(cell, name, "handshakes_core_s", ".0f"),
                          figure(cell, name, "connect_p50_ms", ".2f")])
    return head, lines
