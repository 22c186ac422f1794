#!/usr/bin/env python3
"""A middlebox for the demo: lets a TCP connection through only if it begins with an HTTP request.

It listens on a port of loopback to which the firewall redirects what is on its way elsewhere, and asks
the kernel where that was. Anything that does not begin with a request line is reset. Its own connections
come from 127.0.0.2, by which the firewall knows them. Usage: http-only.py PORT
"""

import re
import socket
import struct
import sys
import threading

FROM = "127.0.0.2"
SO_ORIGINAL_DST = 80
FIRST_LINE_MAX = 4096
FIRST_LINE_S = 30
REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r?\n")
BEGIN = re.compile(rb"[A-Z]{1,16}( [^\r\n]*)?\r?$")


def say(what, data):
    print(what, repr(data[:60]), flush=True)


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def first_bytes(conn):
    """Returns the first bytes, and whether they are an HTTP request."""
    data = b""
    conn.settimeout(FIRST_LINE_S)
    while True:
        more = conn.recv(FIRST_LINE_MAX)
        data += more
        if REQUEST.match(data):
            conn.settimeout(None)
            return data, True
        if not more or len(data) >= FIRST_LINE_MAX or not BEGIN.match(data):
            return data, False


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for conn in (source, sink):
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(conn):
    onward = None
    try:
        port, address = struct.unpack("!2xH4s8x", conn.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
        data, is_http = first_bytes(conn)
        say("passed" if is_http else "reset", data)
        if not is_http:
            reset(conn)
            return
        onward = socket.create_connection(
            (socket.inet_ntoa(address), port), timeout=10, source_address=(FROM, 0))
        onward.settimeout(None)
        for one in (conn, onward):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        onward.sendall(data)
        back = threading.Thread(target=pump, args=(onward, conn), daemon=True)
        back.start()
        pump(conn, onward)
        back.join()
    except OSError:
        reset(conn)
    finally:
        conn.close()
        if onward:
            onward.close()


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


main()
