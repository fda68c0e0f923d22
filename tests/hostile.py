#!/usr/bin/env python3
"""Clients that mean no good, and how others are served meanwhile.

    tests/hostile.py --jay target/release/jay --connections 10000

starts a server, lets each kind of client loose on it in turn, and prints for each how long the requests of a well-behaved
client took. The tests run the same with fewer connections (tests/e2e/test_limits.py).
"""

import argparse
import contextlib
import os
import resource
import select
import socket
import statistics
import tempfile
import time
from pathlib import Path

import jay_testing
from jay_testing import Client, Server

LARGE = 64 << 20
SLOW_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


def connected(server: Server, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    return [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)) for _ in range(count)]


@contextlib.contextmanager
def idle(server: Server, count: int):
    """Connections that ask once and are kept."""
    with contextlib.ExitStack() as stack:
        streams = connected(server, count, stack)
        for stream in streams:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for stream in streams:
            assert stream.recv(65536).startswith(b"HTTP/1.1 "), "not served"
        yield lambda: None


@contextlib.contextmanager
def slow_loris(server: Server, count: int):
    """Heads that come a header at a time, for ever."""
    with contextlib.ExitStack() as stack:
        streams = connected(server, count, stack)
        for stream in streams:
            stream.sendall(SLOW_HEAD)

        def go_on():
            for stream in streams:
                with contextlib.suppress(OSError):
                    stream.sendall(b"X-A: b\r\n")

        yield go_on


@contextlib.contextmanager
def header_flood(server: Server, count: int):
    """Heads without end, as fast as they are taken."""
    with contextlib.ExitStack() as stack:
        streams = connected(server, count, stack)
        for stream in streams:
            stream.setblocking(False)
            with contextlib.suppress(OSError):
                stream.send(SLOW_HEAD)
        flood = b"X-Flood: " + b"x" * 8000 + b"\r\n"

        def go_on():
            # One that was refused is replaced.
            _, writable, _ = select.select([], [s for s in streams if s.fileno() < 1024], [], 0)
            for stream in writable:
                try:
                    stream.send(flood)
                except OSError:
                    streams.remove(stream)
                    fresh = connected(server, 1, stack)[0]
                    fresh.setblocking(False)
                    streams.append(fresh)

        yield go_on


@contextlib.contextmanager
def never_reading(server: Server, count: int):
    """Clients that ask for a large object and take nothing of it."""
    client = server.client()
    if client.request("HEAD", "/default/large").status != 200:
        assert client.request("PUT", "/default/large", body=os.urandom(LARGE)).status == 200
    with contextlib.ExitStack() as stack:
        for stream in connected(server, count, stack):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.sendall(client.head_bytes("GET", "/default/large"))
        yield lambda: None


@contextlib.contextmanager
def stalled_uploads(server: Server, count: int):
    """Clients that announce a body and send a byte of it."""
    client = server.client()
    with contextlib.ExitStack() as stack:
        for stream in connected(server, count, stack):
            stream.sendall(client.head_bytes("PUT", "/default/stalled", headers={"content-length": "1000000"}) + b"x")
        yield lambda: None


@contextlib.contextmanager
def crowd(server: Server, count: int):
    """Connections that ask for nothing, more of them than the server has; as many come again with every round as gave way."""
    with contextlib.ExitStack() as stack:
        streams = connected(server, count, stack)

        def go_on():
            poll = select.poll()
            for stream in streams:
                poll.register(stream, select.POLLIN)
            for descriptor, _ in poll.poll(0)[:50]:
                stream = next(stream for stream in streams if stream.fileno() == descriptor)
                streams.remove(stream)
                stream.close()
                streams.extend(connected(server, 1, stack))

        yield go_on


# Each kind, and how many of it per connection that is asked for: a reader that stands still holds memory for its body.
KINDS = {idle: 1.0, slow_loris: 1.0, header_flood: 0.05, never_reading: 0.01, stalled_uploads: 0.01, crowd: 1.05}


def latencies(client: Client, rounds: int, meanwhile) -> list[float]:
    """Seconds that a small put and get take together, one round after the other."""
    taken = []
    for n in range(rounds):
        meanwhile()
        began = time.monotonic()
        body = b"%d" % n
        assert client.request("PUT", "/default/small", body=body).status == 200
        assert client.request("GET", "/default/small").body == body
        taken.append(time.monotonic() - began)
    return taken


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--jay", type=Path, default=jay_testing.JAY)
    arguments.add_argument("--connections", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=200)
    asked = arguments.parse_args()
    jay_testing.JAY = asked.jay
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as place:
        server = Server(Path(place) / "data", JAY_CONNECTIONS_MAX=str(asked.connections + 100)).start()
        try:
            show("nobody", latencies(server.client(), asked.rounds, lambda: None), server)
            for kind, share in KINDS.items():
                count = max(1, int(asked.connections * share))
                with kind(server, count) as go_on:
                    show(f"{count} {kind.__name__}", latencies(server.client(), asked.rounds, go_on), server)
        finally:
            server.kill()


def show(name: str, taken: list[float], server: Server) -> None:
    milliseconds = sorted(1000 * seconds for seconds in taken)
    p99 = milliseconds[int(len(milliseconds) * 0.99)]
    rss = server.peak_rss_bytes() >> 20
    print(f"{name:24} p50 {statistics.median(milliseconds):7.2f} ms   p99 {p99:7.2f} ms   peak memory {rss} MiB", flush=True)


if __name__ == "__main__":
    main()
