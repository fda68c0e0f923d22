"""A full disk: refused in time, reads and deletes go on, and so do writes when there is room again, all in one process.

On a small ext4 in a file, mounted by a loop device: only root can do that.
"""

import concurrent.futures
import hashlib
import itertools
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest
from damage import batch_of

from jay_testing import JAY, Answer, Client, Server, read_answer

MIB = 1 << 20
# How soon anything is answered, and how soon writes go on once there is room. Generous: others may use the machine.
ANSWER_SECONDS = 15
RECOVER_SECONDS = 30


@pytest.fixture
def small_disk(tmp_path):
    """A mounted file system of its own; its data directory is its root."""
    image, place = tmp_path / "image", tmp_path / "data"
    with image.open("wb") as file:
        file.truncate(160 * MIB)
    place.mkdir()
    commands = [["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, place]]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip(f"{command[0]} is not installed")
        if done.returncode != 0:
            reason = f"no small file system can be made here ({command[0]}: {done.stderr.strip()})"
            print(reason)
            pytest.skip(reason)
    yield place
    for _ in range(50):
        if subprocess.run(["umount", place]).returncode == 0:
            image.unlink()
            return
        time.sleep(0.2)
    raise AssertionError(f"{place} is still in use")


@pytest.fixture
def server(small_disk):
    server = Server(small_disk).start()
    yield server
    server.kill()


class Store:
    """What was acknowledged, and clients that hold it against the server."""

    def __init__(self, server: Server):
        self.server = server
        self.kept: dict[str, str] = {}
        self.names = (f"/default/{n:06}" for n in itertools.count())
        self.random = random.Random(7)
        self.local = threading.local()
        self.slowest = 0.0

    def client(self) -> Client:
        if getattr(self.local, "process", None) is not self.server.process:
            self.local.client, self.local.process = self.server.client(), self.server.process
        return self.local.client

    def timed(self, *arguments, **options) -> Answer:
        started = time.monotonic()
        answer = self.client().request(*arguments, **options)
        self.slowest = max(self.slowest, time.monotonic() - started)
        return answer

    def put(self, size: int) -> int:
        """The status: 200 or 507."""
        name, body = next(self.names), os.urandom(size)
        answer = self.timed("PUT", name, body=body)
        if answer.status == 200:
            self.kept[name] = hashlib.sha256(body).hexdigest()
        else:
            assert (answer.status, answer.code) == (507, "InsufficientStorage"), answer
            assert b"disk of the store is full" in answer.body, answer
        return answer.status

    def fill(self, *sizes: int, refusals: int = 100) -> None:
        """Puts bodies of about these sizes from several clients until so many in a row were refused. All the time
        somebody reads."""
        row = 0

        def work(number: int) -> None:
            nonlocal row
            while row < refusals:
                size = sizes[number % len(sizes)]
                row = 0 if self.put(size - number * 17) == 200 else row + 1

        def read() -> None:
            while row < refusals:
                names = list(self.kept)
                for name in self.random.sample(names, min(20, len(names))):
                    assert self.timed("HEAD", name).status == 200, name
                assert self.timed("GET", "/default", "list-type=2&max-keys=5").status == 200

        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            tasks = [pool.submit(work, number) for number in range(4)] + [pool.submit(read)]
            for done in concurrent.futures.as_completed(tasks):
                try:
                    done.result()
                except BaseException:
                    # The others would go on for ever.
                    row = refusals
                    raise

    def check(self, part: float = 1.0) -> None:
        """Everything acknowledged (or a part of it) is there, bit by bit."""
        chosen = [item for item in self.kept.items() if self.random.random() < part]

        def check(item: tuple[str, str]) -> None:
            got = self.timed("GET", item[0])
            assert got.status == 200 and hashlib.sha256(got.body).hexdigest() == item[1], (item[0], got)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(check, chosen))

    def delete(self, part: float, limit: int | None = None) -> None:
        chosen = [name for name in self.kept if self.random.random() < part]
        for name in chosen[:limit]:
            answer = self.timed("DELETE", name)
            assert answer.status == 204, answer
            del self.kept[name]
            assert self.timed("HEAD", name).status == 404

    def must_write_again(self, *sizes: int) -> None:
        process, deadline = self.server.process, time.monotonic() + RECOVER_SECONDS
        for size in sizes or [50_000, 3 * MIB]:
            while self.put(size) != 200:
                assert time.monotonic() < deadline, "writes do not go on"
                time.sleep(0.1)
        assert process is self.server.process and process.poll() is None

    def must_be_in_time(self) -> None:
        print(f"slowest answer: {self.slowest:.2f} s")
        assert self.slowest < ANSWER_SECONDS


def levels(server: Server, words: str) -> list[str]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line["level"] for line in lines if words in line["msg"]]


def take_all(place: Path) -> Path:
    """Somebody else takes what is left of the disk, to the last byte."""
    hog = place / "lost+found/hog"
    with hog.open("ab", buffering=0) as file:
        for size in [MIB, 4096, 1]:
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == 28, error
    os.sync()
    return hog


def free_bytes(place: Path) -> int:
    known = os.statvfs(place)
    return known.f_bavail * known.f_frsize


@pytest.mark.parametrize("sizes", [[40_000], [3 * MIB], [300, 60_000, 400_000, 7 * MIB]], ids=["small", "large", "mixed"])
def test_filled_to_the_last_byte_and_freed(server, small_disk, sizes):
    store = Store(server)
    for _ in range(2):
        store.fill(*sizes)
        assert len(store.kept) > 8
        store.check(0.2)
        listed = store.timed("GET", "/default", "list-type=2&max-keys=10")
        assert listed.status == 200
        store.delete(0.5)
        store.must_write_again(*sizes)
    store.check()
    store.must_be_in_time()
    assert not levels(server, "stopped writing")

    store.fill(*sizes)
    if len(sizes) > 1:
        # The same by a new process, after an end in order and after none.
        for end in [server.stop, server.kill]:
            end()
            server.start()
            store.check(0.2)
            store.delete(0.1)
            store.fill(*sizes, refusals=50)
        store.delete(0.5)
        store.must_write_again(*sizes)
    assert server.stop() == 0
    server.start()
    store.check()


def test_somebody_else_fills_the_disk(server, small_disk):
    """Also what was given back for deletes. The log file made ahead is left, and enough."""
    store = Store(server)
    for _ in range(20):
        assert store.put(20_000) == store.put(MIB) == 200
    hog = take_all(small_disk)
    store.fill(100_000, MIB)
    take_all(small_disk)
    assert free_bytes(small_disk) < 64 << 10
    store.check(0.3)
    # Inline bodies: these deletes free nothing at once, and the index has no room for them.
    store.delete(0.5, limit=200)
    assert store.put(1000) == 507
    assert len(levels(server, "the disk is full")) >= 1
    server.kill()
    server.start()
    store.check()
    store.delete(0.1)
    hog.unlink()
    store.must_write_again()
    store.check()
    store.must_be_in_time()
    assert server.stop() == 0
    server.start()
    store.check()


def test_a_long_body_is_refused_before_it_comes(server, small_disk):
    store = Store(server)
    take_all(small_disk)
    store.fill(100_000)
    client = server.client()
    for headers in [{}, {"expect": "100-continue"}]:
        with client.socket() as stream:
            started = time.monotonic()
            headers = {"content-length": str(5 << 30)} | headers
            stream.sendall(client.head_bytes("PUT", "/default/long", headers=headers))
            answer = read_answer(stream)
            assert (answer.status, answer.code) == (507, "InsufficientStorage"), answer
            assert time.monotonic() - started < ANSWER_SECONDS
    assert client.request("POST", "/default/upload", "uploads=").status == 507
    assert client.request("PUT", "/another").status == 507


def test_one_warning_and_one_word_when_it_is_over(server, small_disk):
    store = Store(server)
    assert store.put(1000) == 200
    hog = take_all(small_disk)
    store.fill(100_000)
    time.sleep(3)
    assert store.put(1000) == 507
    hog.unlink()
    store.must_write_again()
    assert levels(server, "the disk is full") == ["WARN"]
    assert levels(server, "the disk has room again") == ["INFO"]
    assert server.ready()


def test_a_loss_is_accepted_on_a_full_disk_or_when_it_has_room(server, small_disk):
    """Without room nothing is given up: what is there stays as it is, and the same command works later."""
    store = Store(server)
    for _ in range(30):
        assert store.put(20_000) == store.put(900) == 200
    lost, body = "/default/lost", os.urandom(900)
    assert server.client().request("PUT", lost, body=body).status == 200
    for _ in range(5):
        assert store.put(900) == 200
    server.kill()
    (small_disk / "index.redb").unlink()
    batch_of(small_disk, body).place.plus(8).flip()

    def fsck(*arguments: str) -> subprocess.CompletedProcess:
        command = [JAY, "fsck", *arguments]
        return subprocess.run(command, env=server.environment(), capture_output=True, text=True, timeout=120)

    hole = json.loads(fsck("--json").stdout)["losses"][0]["hole"]
    (small_disk / "ballast").unlink()
    hog = take_all(small_disk)
    for _ in range(2):
        refused = fsck("--accept-loss", hole)
        assert refused.returncode == 2 and "no space left" in refused.stderr.lower(), refused
        assert json.loads(fsck("--json").stdout)["losses"][0]["hole"] == hole
    hog.unlink()
    accepted = fsck("--accept-loss", hole)
    assert accepted.returncode == 0, accepted.stderr
    server.start()
    gone = {name for name in store.kept if store.timed("GET", name).status == 404}
    assert server.client().request("GET", lost).status == 404
    # Others may have been in the same batch.
    assert len(gone) < 10, gone
    store.kept = {name: sha for name, sha in store.kept.items() if name not in gone}
    store.check()
    store.must_write_again()
