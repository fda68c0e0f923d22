#!/usr/bin/env python3
"""Kills a loaded server with SIGKILL, again and again, and holds what it kept against what it acknowledged.

Eight workers write keys of their own over S3: they put, overwrite, delete, copy and tag objects, some under
conditions, and upload in parts. A ledger outside of the server knows all that was acknowledged, and the one
request of each worker that was in flight when the server died. After the restart the server must hold exactly
the one or the other: bodies byte for byte, metadata, tags, ETags, open uploads and their parts, and listings
of all these. At the end every upload is completed or aborted, and no file may be left that no object needs.

Then 64 writers race for one key, again and again, and sometimes the server dies in the midst: one wins.

    tests/kill9/kill9.py --rounds 50 --races 50 [--seed N] [--keep]
"""

import argparse
import collections
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import s3  # noqa: E402
from jay_testing import Client, Server, files_below  # noqa: E402
from ledger import Failure, Piece  # noqa: E402
from race import WRITERS, Race  # noqa: E402
from worker import Worker  # noqa: E402

WORKERS = 8
LEAK_WAIT_SECONDS = 60


def clients_of(server: Server, count: int) -> list[Client]:
    known = server.credentials()
    return [Client(server.port, known["access_key_id"], known["secret_access_key"]) for _ in range(count)]


def in_threads(workers: list[Worker], server: Server, verb) -> list:
    """`verb(worker, client)` for all workers at once; the first failure is raised."""
    results = [None] * len(workers)

    def run(at: int, client: Client) -> None:
        try:
            results[at] = verb(workers[at], client)
        except Exception as failure:
            results[at] = failure

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(clients_of(server, len(workers)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def verify(server: Server, workers: list[Worker]) -> str:
    """The whole server against the ledgers of all."""
    client = server.client()
    open_uploads = s3.list_uploads(client)
    kept = sum(in_threads(workers, server, lambda worker, client: worker.verify(client, open_uploads)))
    owned = sum(len(worker.ledger.uploads) for worker in workers)
    if owned != len(open_uploads):
        raise Failure(f"{len(open_uploads)} uploads are listed, {owned} are known: {open_uploads}")
    expected = {key: (entry.size, entry.etag) for worker in workers for key, entry in worker.ledger.objects.items()}
    found = s3.list_objects(client)
    if found != expected:
        different = {key: (expected.get(key), found.get(key)) for key in expected | found if expected.get(key) != found.get(key)}
        raise Failure(f"the listing differs (key: expected, found): {different}")
    return f"{kept} of those in flight kept, {len(found)} objects and {owned} open uploads verified"


def one_round(server: Server, workers: list[Worker], chance: random.Random) -> str:
    """Load, kill, restart, verify. The server runs before and after."""
    before = sum(sum(worker.acknowledged.values()) for worker in workers)
    pairs = zip(workers, clients_of(server, len(workers)))
    threads = [threading.Thread(target=worker.load, args=[client]) for worker, client in pairs]
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
    acknowledged = sum(sum(worker.acknowledged.values()) for worker in workers) - before
    return (
        f"{acknowledged:5} acknowledged, {again} kills in recovery, ready after {start_ms:.0f} ms, {verify(server, workers)}"
    )


def no_file_leaked(server: Server, needed: set[Piece]) -> str:
    """One pass of the collector after the start must leave one file for each large body, however many objects share it."""
    deadline = time.monotonic() + LEAK_WAIT_SECONDS
    while (files := len(files_below(server.data_dir / "objects"))) != len(needed):
        if time.monotonic() > deadline:
            raise Failure(f"{files} files for {len(needed)} large bodies after {LEAK_WAIT_SECONDS} s")
        time.sleep(0.2)
    quarantined = len(files_below(server.data_dir / "quarantine"))
    if quarantined:
        raise Failure(f"{quarantined} files in quarantine")
    return f"{files} files for {len(needed)} large bodies"


def stop_and_start(server: Server) -> None:
    if server.stop() != 0:
        raise Failure("a stop was not in order")
    server.start()


def rounds(server: Server, count: int, seed: int) -> None:
    workers = [Worker(number, seed) for number in range(WORKERS)]
    chance = random.Random(seed)
    files = lambda: set().union(*(worker.ledger.files() for worker in workers))  # noqa: E731
    for number in range(1, count + 1):
        print(f"round {number:2}: {one_round(server, workers, chance)}", flush=True)
    kinds = sum((collections.Counter(worker.acknowledged) for worker in workers), collections.Counter())
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print(f"with uploads open: {no_file_leaked(server, files())}")
    completed = sum(in_threads(workers, server, Worker.finish))
    print(f"{completed} open uploads completed, the others aborted: {verify(server, workers)}, {no_file_leaked(server, files())}")
    stop_and_start(server)
    print(f"after a stop in order: {verify(server, workers)}, {no_file_leaked(server, files())}", flush=True)


def races(server: Server, count: int, seed: int) -> None:
    race = Race(server, random.Random(seed), clients_of(server, WRITERS))
    winners = []
    for number in range(1, count + 1):
        told, winner = race.race()
        winners += [winner] if winner else []
        print(f"race {number:2}: {told}", flush=True)
    stop_and_start(server)
    expected = {(winner.size, winner.etag) for winner in winners}
    if set(s3.list_objects(server.client()).values()) != expected:
        raise Failure("the listing does not show the winners")
    pieces = {piece for winner in winners for piece in winner.pieces if piece.is_file}
    print(no_file_leaked(server, pieces))


@contextlib.contextmanager
def a_server(keep: bool):
    """Its directory stays after a failure."""
    place = Path(tempfile.mkdtemp(prefix="jay-kill9-"))
    server = Server(place / "data", JAY_S3_MIN_PART_SIZE="1")
    try:
        yield server.start()
        if server.stop() != 0:
            raise Failure("the last stop was not in order")
        if not keep:
            shutil.rmtree(place)
    except BaseException:
        print(f"the data directory is kept: {place}", flush=True)
        raise
    finally:
        server.kill()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=8)
    arguments.add_argument("--races", type=int, default=8)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments.add_argument("--keep", action="store_true", help="keep the data directory, as after a failure")
    options = arguments.parse_args()
    print(f"seed {options.seed} (moments and sizes; the interleaving is the machine's)", flush=True)
    try:
        for mode, count in [(rounds, options.rounds), (races, options.races)]:
            if count:
                with a_server(options.keep) as server:
                    mode(server, count, options.seed)
    except (Failure, AssertionError, OSError) as failure:
        print(f"FAILED: {failure}", flush=True)
        return 1
    print("every acknowledged effect was there, and nothing else")
    return 0


if __name__ == "__main__":
    sys.exit(main())
