#!/usr/bin/env python3
"""Kills a loaded server with SIGKILL, again and again, and holds what it kept against what it acknowledged.

Eight workers put, overwrite and delete keys of their own over S3. A ledger outside of the server knows for
each key the last acknowledged state and the one that was in flight when the server died. After the restart
each key must be in one of these two, byte for byte, and the listing must show exactly these. At the end no
file may be left that no object needs.

    tests/kill9/kill9.py --rounds 50 [--seed N] [--keep]
"""

import argparse
import dataclasses
import hashlib
import html
import http.client
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jay_testing import Client, Server, files_below, key_path  # noqa: E402

BUCKET = "default"
WORKERS = 8
KEYS_PER_WORKER = 50
# Bodies above it are files of their own; those up to it ride in the log.
INLINE_BYTES_MAX = 128 << 10
BODY_BYTES_MAX = 300 << 10
LEAK_WAIT_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class State:
    """What is under a key: a version of so many bytes, or nothing."""

    version: int = 0
    size: int = -1

    @property
    def exists(self) -> bool:
        return self.size >= 0

    def body(self, key: str) -> bytes:
        """Derived, so that the ledger need not hold it. No part of one version occurs in another."""
        return random.Random(f"{key}#{self.version}").randbytes(self.size)


ABSENT = State()


class Failure(Exception):
    """The server broke its promise."""


@dataclasses.dataclass
class Entry:
    """One key of the ledger."""

    acknowledged: State = ABSENT
    # Sent and not answered when the server died; None when there was no such request.
    in_flight: State | None = None


class Worker:
    """Owns some keys: nobody else writes them."""

    def __init__(self, number: int, seed: int):
        self.random = random.Random(f"{seed}/{number}")
        # Names that sort into each other's, some odd.
        self.ledger = {f"{n:03}/w{number} +%&<é>{'x' * (n % 60)}": Entry() for n in range(KEYS_PER_WORKER)}
        self.version = 0
        self.acknowledged = 0
        self.failure = None

    def load(self, client: Client) -> None:
        """Writes until the server is gone."""
        try:
            while True:
                self.step(client)
        except (OSError, http.client.HTTPException):
            pass
        except Exception as failure:
            self.failure = failure

    def step(self, client: Client) -> None:
        key = self.random.choice(list(self.ledger))
        entry = self.ledger[key]
        path = key_path(BUCKET, key)
        if self.random.random() < 0.25:
            entry.in_flight = ABSENT
            answer = client.request("DELETE", path)
            expected = 204
        else:
            self.version += 1
            entry.in_flight = State(self.version, self.size())
            body = entry.in_flight.body(key)
            answer = client.request("PUT", path, body=body, headers={"x-amz-meta-version": str(self.version)})
            expected = 200
        if answer.status != expected:
            raise Failure(f"{key}: {answer}")
        entry.acknowledged, entry.in_flight = entry.in_flight, None
        self.acknowledged += 1

    def size(self) -> int:
        limit = self.random.choices([1, 1024, INLINE_BYTES_MAX, BODY_BYTES_MAX], [1, 12, 4, 4])[0]
        edge = self.random.random() < 0.05
        return INLINE_BYTES_MAX + self.random.choice([0, 1]) if edge else self.random.randrange(limit)

    def verify(self, client: Client) -> int:
        """Each key is as acknowledged or as in flight; how many in-flight effects were kept."""
        kept = 0
        for key, entry in self.ledger.items():
            found = self.look(client, key, entry)
            kept += entry.in_flight is not None and found == entry.in_flight != entry.acknowledged
            entry.acknowledged, entry.in_flight = found, None
        return kept

    def look(self, client: Client, key: str, entry: Entry) -> State:
        answer = client.request("GET", key_path(BUCKET, key))
        allowed = [entry.acknowledged] + ([entry.in_flight] if entry.in_flight else [])
        if answer.status == 404 and ABSENT in allowed:
            return ABSENT
        for state in allowed:
            if answer.status == 200 and state.exists and answer.body == state.body(key):
                if answer.headers.get("x-amz-meta-version") != str(state.version):
                    raise Failure(f"{key}: the body of version {state.version} with other metadata: {answer}")
                return state
        raise Failure(f"{key}: allowed were {allowed}, found {len(answer.body)} bytes: {answer}")


def listing(client: Client) -> dict[str, tuple[int, str]]:
    """Size and ETag of every key, page by page."""
    found, token = {}, ""
    while True:
        answer = client.request("GET", f"/{BUCKET}", f"{token}list-type=2&max-keys=97")
        if answer.status != 200:
            raise Failure(f"listing: {answer}")
        text = answer.body.decode()
        for contents in re.findall(r"<Contents>(.*?)</Contents>", text, re.S):
            field = lambda name: html.unescape(re.search(rf"<{name}>(.*?)</{name}>", contents, re.S)[1])  # noqa: B023, E731
            found[field("Key")] = int(field("Size")), field("ETag").strip('"')
        following = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", text)
        if not following:
            return found
        token = f"continuation-token={key_path('', html.unescape(following[1]))[2:].replace('/', '%2F')}&"


def in_threads(workers: list[Worker], server: Server, verb) -> list:
    """`verb(worker, client)` for all workers at once; the first failure is raised."""
    results = [None] * len(workers)

    def run(at: int) -> None:
        try:
            results[at] = verb(workers[at], server.client())
        except Exception as failure:
            results[at] = failure

    threads = [threading.Thread(target=run, args=[at]) for at in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def verify(server: Server, workers: list[Worker]) -> tuple[int, int]:
    """How many objects there are, and how many unacknowledged effects were kept."""
    kept = sum(in_threads(workers, server, Worker.verify))
    expected = {
        key: (entry.acknowledged.size, hashlib.md5(entry.acknowledged.body(key)).hexdigest())
        for worker in workers
        for key, entry in worker.ledger.items()
        if entry.acknowledged.exists
    }
    found = listing(server.client())
    if found != expected:
        different = {key: (expected.get(key), found.get(key)) for key in expected | found if expected.get(key) != found.get(key)}
        raise Failure(f"the listing differs (key: expected, found): {different}")
    return len(found), kept


def one_round(server: Server, workers: list[Worker], chance: random.Random) -> str:
    """Load, kill, restart, verify. The server runs before and after."""
    before = sum(worker.acknowledged for worker in workers)
    credentials = server.credentials()
    clients = [
        Client(server.port, credentials["access_key_id"], credentials["secret_access_key"]) for _ in workers
    ]
    threads = [threading.Thread(target=worker.load, args=[client]) for worker, client in zip(workers, clients)]
    for thread in threads:
        thread.start()
    time.sleep(chance.uniform(0.05, 2.5))
    died = server.process.poll()
    server.kill()
    for thread in threads:
        thread.join()
    for worker in workers:
        if worker.failure:
            raise worker.failure
    if died is not None:
        raise Failure(f"the server ended by itself with {died}:\n{server.errors.read_text()[-2000:]}")
    again = 0
    while chance.random() < 0.3:
        # Killed in the middle of its recovery.
        server.spawn()
        time.sleep(chance.uniform(0, 0.06))
        server.kill()
        again += 1
    started = time.monotonic()
    server.start()
    start_ms = (time.monotonic() - started) * 1000
    acknowledged = sum(worker.acknowledged for worker in workers) - before
    objects, kept = verify(server, workers)
    return (
        f"{acknowledged:5} acknowledged, {kept} of those in flight kept, {again} kills in recovery, "
        f"ready after {start_ms:.0f} ms, {objects} objects verified"
    )


def no_file_leaked(server: Server, workers: list[Worker]) -> str:
    """One pass of the collector after the start must leave one file for each large object."""
    large = sum(entry.acknowledged.size > INLINE_BYTES_MAX for worker in workers for entry in worker.ledger.values())
    deadline = time.monotonic() + LEAK_WAIT_SECONDS
    while (files := len(files_below(server.data_dir / "objects"))) != large:
        if time.monotonic() > deadline:
            raise Failure(f"{files} files for {large} large objects after {LEAK_WAIT_SECONDS} s")
        time.sleep(0.2)
    quarantined = len(files_below(server.data_dir / "quarantine"))
    if quarantined:
        raise Failure(f"{quarantined} files in quarantine")
    return f"{files} files for {large} large objects"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=8)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments.add_argument("--keep", action="store_true", help="keep the data directory, as after a failure")
    options = arguments.parse_args()
    print(f"seed {options.seed} (moments and sizes; the interleaving is the machine's)", flush=True)
    place = Path(tempfile.mkdtemp(prefix="jay-kill9-"))
    server = Server(place / "data")
    workers = [Worker(number, options.seed) for number in range(WORKERS)]
    chance = random.Random(options.seed)
    try:
        server.start()
        for number in range(1, options.rounds + 1):
            print(f"round {number:2}: {one_round(server, workers, chance)}", flush=True)
        print(no_file_leaked(server, workers))
        if server.stop() != 0:
            raise Failure("the last stop was not in order")
        server.start()
        objects, _ = verify(server, workers)
        print(f"after a stop in order: {objects} objects verified, {no_file_leaked(server, workers)}")
        if server.stop() != 0:
            raise Failure("the last stop was not in order")
    except (Failure, AssertionError, OSError) as failure:
        print(f"FAILED: {failure}\nthe data directory is kept: {place}", flush=True)
        options.keep = True
        return 1
    finally:
        server.kill()
        if not options.keep:
            shutil.rmtree(place)
    print("every acknowledged effect was there, and nothing else")
    return 0


if __name__ == "__main__":
    sys.exit(main())
