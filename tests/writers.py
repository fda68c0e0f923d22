"""Load on a server whose disk fails: writers that go on after a refusal, and know what may be under each key.

A request that was acknowledged decides what is under its key. One that was refused may have had its whole effect
or none: from then on both are possible, until the next one that is acknowledged. Reads are made all the time, and
must find one of the possible bodies, byte for byte. Every request must be answered in time.
"""

import collections
import http.client
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "kill9"))

import s3  # noqa: E402
from jay_testing import Answer, Client, Server, files_below, key_path  # noqa: E402
from ledger import INLINE_BYTES_MAX, Failure, Object, Piece  # noqa: E402

WRITERS = 4
KEYS_PER_WRITER = 10
ANSWER_SECONDS = 15
# How a server says that it could not, by status.
REFUSALS = {500: "InternalError", 503: "ServiceUnavailable", 507: "InsufficientStorage"}

SMALL, MIDDLE, LARGE = (1, 2000), (INLINE_BYTES_MAX - 2000, INLINE_BYTES_MAX), (INLINE_BYTES_MAX + 1, 3 * INLINE_BYTES_MAX)


class Writer:
    """Owns some keys: nobody else writes them. Sends one request at a time."""

    def __init__(self, number: int, seed: int):
        self.random = random.Random(f"{seed}/{number}")
        self.name = f"w{number}"
        self.keys = [f"{self.name}/{n:02}" for n in range(KEYS_PER_WRITER)]
        # What was acknowledged last, then what was refused since.
        self.possible: dict[str, tuple[Object | None, ...]] = {key: (None,) for key in self.keys}
        self.versions = 0
        self.acknowledged = 0
        # Statuses of refusals that may come, those that came, and their messages.
        self.allowed = frozenset()
        self.refused = collections.Counter()
        self.messages = set()

    def step(self, client: Client) -> None:
        kinds = {self.small: 10, self.middle: 2, self.large: 6, self.delete: 4, self.copy: 3, self.multipart: 3, self.read: 8}
        self.random.choices(list(kinds), list(kinds.values()))[0](client)

    def small(self, client: Client) -> None:
        self.put(client, SMALL)

    def middle(self, client: Client) -> None:
        self.put(client, MIDDLE)

    def large(self, client: Client) -> None:
        self.put(client, LARGE)

    def put(self, client: Client, sizes: tuple[int, int], key: str | None = None) -> None:
        key, piece = key or self.random.choice(self.keys), self.new_piece(sizes)
        request = s3.Request("PUT", key, body=piece.body(), headers={"x-amz-meta-version": piece.name})
        self.write(client, request, key, Object((piece,), False, piece.name))

    def delete(self, client: Client) -> None:
        key = self.random.choice(self.keys)
        self.write(client, s3.Request("DELETE", key, status=204), key, None)

    def copy(self, client: Client) -> None:
        sources = [key for key in self.keys if self.known(key)]
        if sources:
            self.copy_of(client, self.random.choice(sources), self.random.choice(self.keys))

    def copy_of(self, client: Client, source: str, target: str) -> None:
        entry, version = self.known(source), self.new_version()
        headers = {"x-amz-copy-source": key_path(s3.BUCKET, source), "x-amz-metadata-directive": "REPLACE"}
        request = s3.Request("PUT", target, headers=headers | {"x-amz-meta-version": version}, says="<CopyObjectResult")
        self.write(client, request, target, Object(entry.pieces, entry.by_parts, version))

    def multipart(self, client: Client) -> None:
        """A large part and a small one. What fails before the end leaves an open upload at most."""
        key, version = self.random.choice(self.keys), self.new_version()
        answer = self.send(client, s3.create_upload(key, {"x-amz-meta-version": version}))
        if answer is None:
            return
        upload_id = s3.field(answer.body.decode(), "UploadId")
        parts = {1: self.new_piece(LARGE), 2: self.new_piece(SMALL)}
        for number, piece in parts.items():
            if self.send(client, s3.upload_part(key, upload_id, number, piece)) is None:
                self.send(client, s3.abort_upload(key, upload_id))
                return
        request = s3.complete_upload(key, upload_id, parts, {})
        self.write(client, request, key, Object(tuple(parts.values()), True, version))

    def read(self, client: Client) -> None:
        self.look(client, self.random.choice(self.keys))

    def write(self, client: Client, request: s3.Request, key: str, new: Object | None) -> None:
        if self.send(client, request) is None:
            self.possible[key] += (new,)
        else:
            self.possible[key] = (new,)

    def send(self, client: Client, request: s3.Request) -> Answer | None:
        """The answer; None for a refusal that may come. Any other one is a failure, as is none in time."""
        try:
            answer = request.send(client)
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{request.method} {request.key}?{request.query} was not answered: {error!r}") from error
        if answer.status in self.allowed and answer.code == REFUSALS[answer.status]:
            self.refused[answer.status] += 1
            self.messages.add(s3.field(answer.body.decode(), "Message"))
            return None
        request.check(answer)
        self.acknowledged += 1
        return answer

    def look(self, client: Client, key: str) -> Object | None:
        """What is under the key, which must be possible."""
        answer = client.request("GET", key_path(s3.BUCKET, key))
        for entry in self.possible[key]:
            if entry is None and answer.status == 404 and answer.code == "NoSuchKey":
                return None
            if entry and answer.status == 200 and answer.body == entry.body():
                if (answer.headers.get("x-amz-meta-version"), answer.headers["etag"].strip('"')) == (entry.version, entry.etag):
                    return entry
        raise Failure(f"{key}: possible are {self.possible[key]}, found {len(answer.body)} bytes: {answer}")

    def known(self, key: str) -> Object | None:
        """What is under the key, if that is sure."""
        return self.possible[key][0] if len(self.possible[key]) == 1 else None

    def new_version(self) -> str:
        self.versions += 1
        return f"{self.name}.{self.versions}"

    def new_piece(self, sizes: tuple[int, int]) -> Piece:
        return Piece(self.new_version(), self.random.randint(*sizes))


class Load:
    """The writers on their threads, while it is entered. `step(writer, client)` is what each does again and again."""

    def __init__(self, writers: list[Writer], clients: list[Client], step):
        self.writers, self.step = writers, step
        self.ending, self.going = threading.Event(), threading.Event()
        self.failures = []
        # Each held during a step.
        self.steps = [threading.Lock() for _ in writers]
        self.threads = [threading.Thread(target=self.run, args=each) for each in zip(writers, clients, self.steps)]
        self.going.set()

    def run(self, writer: Writer, client: Client, step: threading.Lock) -> None:
        try:
            while not self.ending.is_set() and not self.failures:
                self.going.wait()
                with step:
                    self.step(writer, client)
        except Exception as failure:
            self.failures.append(failure)

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ending.set()
        self.going.set()
        for thread in self.threads:
            thread.join()
        self.check()

    def pause(self) -> None:
        """No request is under way from its return on, until `resume`."""
        self.going.clear()
        for step in self.steps:
            with step:
                pass

    def resume(self) -> None:
        self.going.set()

    def check(self) -> None:
        if self.failures:
            raise self.failures[0]

    def wait_until(self, condition, what: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}; refused so far: {self.refused}"
            time.sleep(0.005)

    def wait_for_acknowledgements(self, each: int) -> None:
        """So many more for every writer."""
        self.wait_for_more(each, lambda writer: writer.acknowledged, "acknowledgements")

    def wait_for_answers(self, each: int) -> None:
        """So many more for every writer, refusals too."""
        self.wait_for_more(each, lambda writer: writer.acknowledged + sum(writer.refused.values()), "answers")

    def wait_for_more(self, each: int, count, what: str) -> None:
        before = [count(writer) for writer in self.writers]
        done = lambda: all(count(writer) >= n + each for writer, n in zip(self.writers, before))  # noqa: E731
        self.wait_until(done, f"{each} more {what} for every writer")

    @property
    def refused(self) -> collections.Counter:
        return sum((writer.refused for writer in self.writers), collections.Counter())

    @property
    def messages(self) -> set[str]:
        return set().union(*(writer.messages for writer in self.writers))


class World:
    """A server, its writers, and what all of them know."""

    def __init__(self, server: Server, seed: int):
        self.server = server
        self.known = server.credentials()
        self.writers = [Writer(number, seed) for number in range(WRITERS)]
        # Whether others may go on with it.
        self.is_sound = True

    def load(self, step=Writer.step, allowed: frozenset[int] = frozenset()) -> Load:
        for writer in self.writers:
            writer.allowed = allowed
            writer.refused.clear()
            writer.messages.clear()
        return Load(self.writers, [self.client() for _ in self.writers], step)

    def client(self) -> Client:
        return Client(self.server.port, self.known["access_key_id"], self.known["secret_access_key"], ANSWER_SECONDS)

    def verify(self) -> dict[str, Object | None]:
        """Every key read, and the listing of them; what was found."""
        client = self.client()
        found = {key: writer.look(client, key) for writer in self.writers for key in writer.keys}
        expected = {key: (entry.size, entry.etag) for key, entry in found.items() if entry}
        listed = s3.list_objects(client)
        if listed != expected:
            raise Failure(f"listed, not there: {listed.items() - expected.items()}; the reverse: {expected.items() - listed.items()}")
        return found

    def settle(self) -> None:
        """What is under each key now is what stays."""
        found = self.verify()
        for writer in self.writers:
            writer.possible = {key: (found[key],) for key in writer.keys}

    def restart(self) -> None:
        """kill -9 (if it runs) and a start, after which everything is decided."""
        self.server.kill()
        self.server.start()
        self.settle()

    def needed_files(self) -> set[Piece]:
        """Of the objects; uploads that are open have others."""
        entries = [writer.known(key) for writer in self.writers for key in writer.keys]
        return {piece for entry in entries if entry for piece in entry.pieces if piece.is_file}

    def wait_for_collection(self, seconds: float = 20) -> None:
        """Ends open uploads; then there must be one file for each large body, and none in quarantine."""
        client = self.client()
        for upload_id, key in s3.list_uploads(client).items():
            request = s3.abort_upload(key, upload_id)
            request.check(request.send(client))
        needed, deadline = len(self.needed_files()), time.monotonic() + seconds
        while (files := len(files_below(self.server.data_dir / "objects"))) != needed:
            assert time.monotonic() < deadline, f"{files} files for {needed} large bodies after {seconds} s"
            time.sleep(0.02)
        assert not files_below(self.server.data_dir / "quarantine")

