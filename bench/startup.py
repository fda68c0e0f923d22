#!/usr/bin/env python3
"""How long a start takes after kill -9, and how much memory, with many objects in the store.

Fills a store by `jay bench`, then several times: load, kill -9 in its midst, a start. Printed of each start: time from
the spawning of the process until /health/ready answers 200, the processor time and the peak resident set up to that
moment, and what of the log was replayed. In the end all objects are counted. See bench/README.md.

    cargo build --release -p jay-server
    bench/startup.py --jay target/release/jay --objects 1000000
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/kill9")]

import jay_testing  # noqa: E402
import s3  # noqa: E402
from jay_testing import Server, files_below  # noqa: E402

BUCKET = "startup"
START_SECONDS_MAX = 600


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--jay", type=Path, default=ROOT / "target/release/jay", help="a release build; others check too much")
    arguments.add_argument("--dir", type=Path, help="on the disk that is meant (default: that for temporary files)")
    arguments.add_argument("--objects", type=int, default=1_000_000)
    arguments.add_argument("--size", default="1KiB", help="of a body, as of `jay bench`")
    arguments.add_argument("--kills", type=int, default=3)
    arguments.add_argument("--load-seconds", type=float, default=3, help="of each load, until the kill")
    arguments.add_argument("--concurrency", type=int, default=64)
    arguments.add_argument("--cold", action="store_true", help="drop the page cache before each start (needs root)")
    arguments.add_argument("--keep", action="store_true", help="leave the store where it is")
    options = arguments.parse_args()
    jay_testing.JAY = options.jay.absolute()
    place = Path(tempfile.mkdtemp(prefix="jay-startup-", dir=options.dir))
    server = Server(place / "data")
    try:
        measure(server, options)
    finally:
        server.kill()
        if options.keep:
            print(f"the store is kept: {server.data_dir}")
        else:
            shutil.rmtree(place)


def measure(server: Server, options: argparse.Namespace) -> None:
    start(server, "of an empty store", options)
    started = time.monotonic()
    fill(server, options)
    print(f"{options.objects:,} objects of {options.size} in {time.monotonic() - started:.0f} s, {on_disk(server)}", flush=True)
    for number in range(1, options.kills + 1):
        with load(server, options):
            time.sleep(options.load_seconds)
            server.kill()
        start(server, f"after kill -9 in the midst of load, {number}", options)
    server.kill()
    start(server, "after kill -9 right behind that start", options)
    assert server.stop() == 0
    start(server, "after a stop in order", options)
    found = count(server)
    assert found == options.objects, f"{found:,} of {options.objects:,} objects are there"
    print(f"all {found:,} objects are there")


def bench(server: Server, options: argparse.Namespace, *arguments: str) -> subprocess.Popen:
    # `--keep`: else it removes what it wrote.
    command = [jay_testing.JAY, "bench", "--keep", "--size", options.size, "--concurrency", str(options.concurrency), *arguments]
    return subprocess.Popen(
        list(map(str, command)), env=server.client_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def fill(server: Server, options: argparse.Namespace) -> None:
    """A mix that reads has its keys written first, each once."""
    mix = ["--mix", "get=1", "--requests", "1", "--warmup", "0s"]
    process = bench(server, options, "--bucket", BUCKET, "--keys", str(options.objects), *mix)
    said = process.communicate()[1]
    assert process.returncode == 0, said


@contextlib.contextmanager
def load(server: Server, options: argparse.Namespace):
    """Small durable writes to other keys, some of them new."""
    process = bench(server, options, "--bucket", f"{BUCKET}-load", "--mix", "put=1", "--keys", "20000", "--duration", "1h")
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def start(server: Server, what: str, options: argparse.Namespace) -> None:
    if options.cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    spawned = time.monotonic()
    process = server.spawn()
    while not server.ready():
        taken = time.monotonic() - spawned
        assert process.poll() is None and taken < START_SECONDS_MAX, f"no start after {taken:.0f} s: {server.errors.read_text()}"
        time.sleep(0.001)
    seconds, rss = time.monotonic() - spawned, server.peak_rss_bytes()
    replay = next((line for line in log_lines(server) if "was replayed" in line["msg"]), {"records": 0, "bytes": 0})
    print(
        f"start {what}: ready after {seconds * 1000:.0f} ms ({cpu_seconds(process.pid) * 1000:.0f} ms of processor time), "
        f"peak RSS {rss / 2**20:.0f} MiB, replayed {replay['records']:,} records in {replay['bytes'] / 2**20:.1f} MiB of log",
        flush=True,
    )


def log_lines(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_disk(server: Server) -> str:
    index = (server.data_dir / "index.redb").stat().st_size
    log = [path.stat().st_size for path in files_below(server.data_dir / "log")]
    return f"index {index / 2**20:.0f} MiB, log {sum(log) / 2**20:.0f} MiB in {len(log)} files"


def count(server: Server) -> int:
    """The objects that were filled in, by the listing."""
    client, found, token = server.client(), 0, ""
    while True:
        text = s3.get(client, f"/{BUCKET}", f"{token}list-type=2")
        found += len(s3.elements(text, "Contents"))
        if s3.field(text, "IsTruncated") == "false":
            return found
        token = f"continuation-token={s3.quoted(s3.field(text, 'NextContinuationToken'))}&"


if __name__ == "__main__":
    main()
