"""Files of a stopped server damaged on purpose: bits turned, pages zeroed, ends cut, files taken away.

What must hold, whatever is damaged: a server that starts serves the right bytes or an error, never others, and never
says that an object is not there which is; what is not damaged is served as before. A damaged log stops the start, with
a message that names the file and says what to do, and nothing is changed by the attempt.
"""

import collections
import dataclasses
import hashlib
import http.client
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kill9"))

import s3  # noqa: E402
from damage import BLOCK_BYTES, PAGE_BYTES, BlobFile, Place, batch_of, batches, find, packs  # noqa: E402
from test_quarantine import admin

from jay_testing import Client, Server  # noqa: E402
from ledger import Object, Piece  # noqa: E402

KIB = 1024
INLINE = {"inline-small": 1000, "inline-middle": 60_000, "inline-blocks": 128 * KIB}
LARGE = {"large": 1_000_000, "large-other": 300_000}
PARTS = {1: Piece("part 1", 200_000), 2: Piece("part 2", 5000), 3: Piece("part 3", 300_000)}
# Copies of files share them; those of inline bodies are written again.
COPIES = {"copy-of-large": "large", "copy-of-parts": "parts", "copy-of-inline": "inline-middle"}
BY_PARTS = Object(tuple(PARTS.values()), True, "")
# So many that the index has inner pages.
MANY = 120
TAIL = {f"tail-{n}": 3000 + n for n in range(6)}


@dataclasses.dataclass(frozen=True)
class Store:
    """A data directory of a server that is not running, and what its objects hold."""

    data_dir: Path
    bodies: dict[str, bytes]

    def copied(self, data_dir: Path) -> "Store":
        subprocess.run(["cp", "-a", "--sparse=always", self.data_dir, data_dir], check=True)
        return Store(data_dir, self.bodies)


def body_of(key: str, size: int) -> bytes:
    return Piece(key, size).body()


def put(client: Client, bodies: dict[str, bytes]) -> dict[str, bytes]:
    for key, body in bodies.items():
        answer = client.request("PUT", f"/default/{key}", body=body)
        assert answer.status == 200, answer
    return bodies


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Store:
    """All kinds of objects, everything in the index, and the log in a second file since."""
    server = Server(tmp_path_factory.mktemp("damage") / "data", JAY_S3_MIN_PART_SIZE="1").start()
    client = server.client()
    bodies = put(client, {key: body_of(key, size) for key, size in (INLINE | LARGE).items()})
    request = s3.create_upload("parts", {})
    upload_id = s3.field(request.send(client).body.decode(), "UploadId")
    for number, piece in PARTS.items():
        request = s3.upload_part("parts", upload_id, number, piece)
        request.check(request.send(client))
    request = s3.complete_upload("parts", upload_id, PARTS, {})
    request.check(request.send(client))
    bodies["parts"] = BY_PARTS.body()
    for key, source in COPIES.items():
        answer = client.request("PUT", f"/default/{key}", headers={"x-amz-copy-source": f"/default/{source}"})
        assert answer.status == 200, answer
        bodies[key] = bodies[source]
    bodies |= put(client, {f"many-{n:03}": body_of(f"many-{n}", 3000) for n in range(MANY)})
    # The log goes on in other files, so that the index needs the first one no more. All are full enough to be let be.
    for n in range(2):
        assert server.stop() == 0
        bodies |= put(server.start().client(), {f"later-{n}": body_of(f"later-{n}", 60_000)})
    assert server.stop() == 0
    return Store(server.data_dir, bodies)


@pytest.fixture
def store(made, tmp_path) -> Store:
    """A copy of one's own."""
    return made.copied(tmp_path / "data")


@pytest.fixture(scope="module")
def killed(made, tmp_path_factory) -> Store:
    """With the objects of TAIL in the log and not yet in the index."""
    place = tmp_path_factory.mktemp("killed")
    for attempt in range(20):
        store = made.copied(place / f"data-{attempt}")
        server = Server(store.data_dir).start()
        client, index = server.client(), store.data_dir / "index.redb"
        put(client, {"before": b"before"})
        changed = index.stat().st_mtime_ns
        while index.stat().st_mtime_ns == changed:
            time.sleep(0.001)
        # The next second is ours, but for the end of this writing of the index.
        time.sleep(0.2)
        changed = index.stat().st_mtime_ns
        bodies = put(client, {key: body_of(key, size) for key, size in TAIL.items()})
        # An idle log is sealed.
        time.sleep(0.05)
        is_tail = index.stat().st_mtime_ns == changed
        server.kill()
        if is_tail:
            return Store(store.data_dir, store.bodies | bodies | {"before": b"before"})
    raise AssertionError("the index was written each time")


@pytest.fixture
def tail(killed, tmp_path) -> Store:
    """A copy of one's own of the store that was killed."""
    return killed.copied(tmp_path / "data")


@pytest.fixture
def start(request):
    """Starts a server on a store; it is killed with the test."""
    servers = []

    def started(store: Store) -> Server:
        server = Server(store.data_dir, JAY_S3_MIN_PART_SIZE="1")
        servers.append(server)
        try:
            return server.start()
        except AssertionError:
            server.kill()
            raise

    yield started
    for server in servers:
        server.kill()


# redb verifies no page when it reads one: a bit turned in a key, of a row or of an inner page, hides rows until the index
# is audited.
INDEX_PAGES_ARE_VERIFIED = False


# What must hold of an answer.


def is_right(client: Client, key: str, body: bytes, span: tuple[int, int] | None = None) -> bool:
    """Whether the bytes of the span (or all) came, and are right. Else it must be an error that shows."""
    headers = {"range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
    expected = body[slice(*span)] if span else body
    try:
        answer = client.request("GET", f"/default/{key}", headers=headers)
    except http.client.IncompleteRead as broken_off:
        assert expected.startswith(broken_off.partial) and len(broken_off.partial) < len(expected)
        return False
    if answer.status == (206 if span else 200):
        assert answer.body == expected, f"{key}: wrong bytes were served"
        assert answer.headers["etag"] == f'"{etag(body)}"', key
        return True
    is_damage(answer)
    return False


def etag(body: bytes) -> str:
    return BY_PARTS.etag if len(body) == BY_PARTS.size else hashlib.md5(body).hexdigest()


def is_damage(answer) -> None:
    """What a damaged object answers; in quarantine it is to say so."""
    assert (answer.status, answer.code) == (500, "InternalError"), answer


def damaged(client: Client, bodies: dict[str, bytes]) -> set[str]:
    """The keys that are not served; all others are right."""
    return {key for key, body in bodies.items() if not is_right(client, key, body)}


def listed(client: Client) -> set[str]:
    return set(s3.list_objects(client))


def can_be_replaced(server: Server, keys: list[str], bodies: dict[str, bytes]) -> None:
    """A damaged object is there for lists, and goes by an overwrite or a delete."""
    client = server.client()
    assert listed(client) == set(bodies)
    replaced, deleted = keys[0], keys[1:]
    now = {key: body for key, body in bodies.items() if key not in deleted} | {replaced: b"new"}
    put(client, {replaced: b"new"})
    for key in deleted:
        assert client.request("DELETE", f"/default/{key}").status == 204
        assert client.request("GET", f"/default/{key}").status == 404
    assert server.stop() == 0
    client = server.start().client()
    assert damaged(client, now) == set() and listed(client) == set(now)


# Files of large bodies.


def remove_file(place: Place) -> None:
    place.path.unlink()


# Where, what, and whether it shows before the answer has begun.
BODY_DAMAGE = {
    "first byte": (0, Place.flip, True),
    "byte in the middle": (500_000, Place.flip, False),
    "last byte": (999_999, Place.flip, False),
    "zeroed page": (700_000, Place.zero, False),
    "first page": (0, Place.zero, True),
    "cut in half": (500_000, Place.cut, True),
    "emptied": (0, Place.cut, True),
    "removed": (0, remove_file, True),
}


@pytest.mark.parametrize("kind", BODY_DAMAGE)
def test_a_damaged_body_in_a_file(store, start, kind):
    at, damage, at_once = BODY_DAMAGE[kind]
    body = store.bodies["large"]
    damage(BlobFile.of(store.data_dir, body).body(at))
    server = start(store)
    client = server.client()
    assert on_the_wire(client, "large", body) == ("refused" if at_once else "broken off")
    for first in range(0, len(body), BLOCK_BYTES):
        # Other blocks may be read, as long as nobody knows of the damage.
        right = is_right(client, "large", body, (first, min(first + 100, len(body))))
        assert not (right and first // BLOCK_BYTES == at // BLOCK_BYTES), f"damaged block {first // BLOCK_BYTES} was served"
    assert damaged(client, store.bodies) == {"large", "copy-of-large"}
    assert client.request("HEAD", "/default/large").status in (200, 500)
    can_be_replaced(server, ["large", "copy-of-large"], store.bodies)


def on_the_wire(client: Client, key: str, body: bytes) -> str:
    """How a damaged body ends: as an error, or after fewer bytes than were announced, by the end of the connection."""
    with client.socket() as stream:
        stream.sendall(client.head_bytes("GET", f"/default/{key}", headers={"connection": "close"}))
        received = b""
        try:
            while piece := stream.recv(1 << 20):
                received += piece
        except ConnectionResetError:
            pass
    head, sent = received.split(b"\r\n\r\n", 1)
    if head.startswith(b"HTTP/1.1 500 "):
        assert b"<Code>InternalError</Code>" in sent
        return "refused"
    assert head.startswith(b"HTTP/1.1 200 ") and f"content-length: {len(body)}".encode() in head.lower().split(b"\r\n"), head
    assert len(sent) < len(body) and body.startswith(sent)
    return "broken off"


END_DAMAGE = {
    "table bit": ("table", 17, Place.flip, False),
    "table page": ("table", 0, Place.zero, False),
    "table cut": ("table", 0, Place.cut, False),
    "description bit": ("description", 9, Place.flip, True),
    "tail bit": ("tail", 30, Place.flip, True),
    "tail magic": ("tail", 0, Place.flip, True),
    "tail cut": ("tail", 47, Place.cut, True),
}


@pytest.mark.parametrize("kind", END_DAMAGE)
def test_a_damaged_end_of_a_file(store, start, kind):
    """The sums are needed, the description only for salvage: then the body may come, or be refused."""
    part, offset, damage, may_come = END_DAMAGE[kind]
    blob = BlobFile.of(store.data_dir, store.bodies["large"])
    damage(getattr(blob, part).plus(offset))
    server = start(store)
    bad = damaged(server.client(), store.bodies)
    assert bad == {"large", "copy-of-large"} or (may_come and not bad)
    can_be_replaced(server, ["large", "copy-of-large"], store.bodies)


@pytest.mark.weakness(7)
@pytest.mark.parametrize("number", PARTS)
def test_a_damaged_part(store, start, number):
    piece = PARTS[number]
    (place,) = find(store.data_dir, piece.body())
    place.plus(piece.size // 2).flip()
    server = start(store)
    client, body = server.client(), store.bodies["parts"]
    first = sum(PARTS[n].size for n in range(1, number))
    assert not is_right(client, "parts", body, (first, first + piece.size))
    assert damaged(client, store.bodies) == {"parts", "copy-of-parts"}
    can_be_replaced(server, ["parts", "copy-of-parts"], store.bodies)


@pytest.mark.weakness(7)
@pytest.mark.parametrize("key", ["large", "parts", "inline-middle"])
def test_damage_is_not_copied_into_something_whole(store, start, key):
    source = {"large": "large", "parts": PARTS[3].body(), "inline-middle": "inline-middle"}[key]
    body = store.bodies[key]
    for place in find(store.data_dir, store.bodies[source] if isinstance(source, str) else source):
        place.plus(20_000).flip()
    client = start(store).client()
    copy = {"x-amz-copy-source": f"/default/{key}"}
    answer = client.request("PUT", "/default/copied", headers=copy)
    if answer.status == 200:
        assert not is_right(client, "copied", body)
    else:
        is_damage(answer)
        assert client.request("GET", "/default/copied").status == 404
    upload_id = s3.field(s3.create_upload("by-parts", {}).send(client).body.decode(), "UploadId")
    answer = client.request("PUT", "/default/by-parts", f"partNumber=1&uploadId={upload_id}", headers=copy)
    is_damage(answer)
    assert s3.list_parts(client, "by-parts", upload_id) == {}


# Inline bodies, in log files that the index no longer needs.


@pytest.mark.parametrize("key", INLINE)
@pytest.mark.parametrize("damage", [Place.flip, Place.zero], ids=["bit", "page"])
def test_a_damaged_body_in_the_log(store, start, key, damage):
    places = find(store.data_dir / "log", store.bodies[key])
    # The second one is the body of the copy.
    assert len(places) == (2 if key == "inline-middle" else 1)
    damage(places[0].plus(INLINE[key] - 1))
    server = start(store)
    bad = damaged(server.client(), store.bodies)
    assert key in bad
    # A page may have something of two bodies.
    assert bad == {key} or damage == Place.zero
    can_be_replaced(server, sorted(bad), store.bodies)


def test_a_damaged_record_around_a_body(store, start):
    """Of a record that is in the index only the body is needed."""
    batch = batch_of(store.data_dir, store.bodies["inline-middle"])
    for place in [batch.place, batch.place.plus(45), batch.footer]:
        place.flip()
    assert damaged(start(store).client(), store.bodies) == set()


@pytest.mark.parametrize("damage", [remove_file, Place.cut], ids=["removed", "cut"])
def test_a_log_file_of_the_past_is_lost(store, start, damage):
    """All bodies in it, and nothing else."""
    path = packs(store.data_dir)[0]
    (place,) = find(path, store.bodies["inline-small"])
    kept = {key for key, body in store.bodies.items() if not find(path, body) and not key.endswith("parts")}
    damage(Place(path, place.offset // PAGE_BYTES * PAGE_BYTES))
    server = start(store)
    bad = damaged(server.client(), store.bodies)
    assert "inline-small" in bad and not bad & kept
    can_be_replaced(server, sorted(bad), store.bodies)


def test_the_collector_keeps_what_lives_in_a_damaged_log_file(store, start):
    """It cannot read the file to its end, so it must not take what it did not see for dead."""
    path = packs(store.data_dir)[0]
    batch_of(store.data_dir, store.bodies["many-010"]).place.flip()
    server = start(store)
    client, left = server.client(), dict(store.bodies)
    gone = [key for key, body in store.bodies.items() if len(body) > 3000 and find(path, body)]
    for key in gone + [f"many-{n:03}" for n in range(MANY // 2, MANY)]:
        assert client.request("DELETE", f"/default/{key}").status == 204
        del left[key]
    # Once the index has that, a body to remove calls the collector.
    time.sleep(1.5)
    # Until a snapshot is past them, all log files are kept.
    assert admin(server, "POST", "snapshots")[0] == 201
    put(client, {"large-other": b"another"})
    left["large-other"] = b"another"
    wait_for_line(server, "cannot be read to its end")
    for _ in range(2):
        assert damaged(server.client(), left) == set()
        assert server.stop() == 0
        server.start()
    assert path.exists()


def wait_for_line(server: Server, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in server.log.read_text():
        assert time.monotonic() < deadline, f"not logged: {text}"
        time.sleep(0.02)


# The index.


def starts_or_says_why(store: Store, start) -> Server | None:
    """None when it was refused with a message that says what to do. An index that a start has found damaged is made anew
    by the next one."""
    for _ in range(3):
        server = Server(store.data_dir, JAY_S3_MIN_PART_SIZE="1")
        process = server.spawn()
        try:
            while process.poll() is None and not server.ready():
                time.sleep(0.01)
                if "the index is damaged" in server.log.read_text():
                    break
        finally:
            server.kill()
        if process.returncode == 1:
            said = server.errors.read_text()
            assert "jay fsck" in said and "index" in said, said
            return None
        try:
            return start(store)
        except AssertionError:
            # It may have been killed before it found the damage that this one found.
            assert "the index is damaged" in server.log.read_text()
    raise AssertionError("no start makes the index anew")


def test_a_damaged_row(store, start):
    """Its value ends in a sum, so it is never believed."""
    etag = Piece("inline-middle", INLINE["inline-middle"]).md5.hex().encode()
    places = find(store.data_dir / "index.redb", etag)
    assert places
    for place in places:
        place.flip()
    server = starts_or_says_why(store, start)
    if server:
        # The row of the copy has the same ETag.
        bad = damaged(server.client(), store.bodies)
        assert bad in ({"inline-middle", "copy-of-inline"}, set())
        head = server.client().request("HEAD", "/default/inline-middle")
        assert head.status == (500 if bad else 200)


def test_turned_bits_all_over_the_index(store, start, tmp_path, everything):
    pages = range((store.data_dir / "index.redb").stat().st_size // PAGE_BYTES)
    chance = random.Random(7)
    if not everything:
        pages = sorted(chance.sample(pages, 12))
    ends = {}
    for page in pages:
        broken = store.copied(tmp_path / f"page-{page}")
        Place(broken.data_dir / "index.redb", page * PAGE_BYTES + chance.randrange(PAGE_BYTES)).flip()
        server = starts_or_says_why(broken, start)
        ends[page] = look_at_all(server.client(), store.bodies) if server else "refused"
        if server:
            server.kill()
        shutil.rmtree(broken.data_dir)
    print(ends)
    assert not INDEX_PAGES_ARE_VERIFIED or not any("404" in end for end in ends.values()), ends


def look_at_all(client: Client, bodies: dict[str, bytes]) -> str:
    """How often each other status than 200 came; no body may be wrong."""
    ends = collections.Counter()
    for key, body in bodies.items():
        answer = client.request("GET", f"/default/{key}")
        ends[answer.status] += 1
        assert answer.status in (404, 500) or answer.body == body, f"{key}: wrong bytes were served"
    return ", ".join(f"{count} times {status}" for status, count in ends.items() if status != 200) or "right"


LOST_INDEX = {"removed": remove_file, "emptied": Place.cut}


@pytest.mark.parametrize("kind", LOST_INDEX)
def test_a_lost_index_follows_from_the_log(store, start, kind):
    """The log goes back to the beginning here."""
    LOST_INDEX[kind](Place(store.data_dir / "index.redb", 0))
    assert damaged(start(store).client(), store.bodies) == set()


@pytest.mark.parametrize("lost", [slice(1), slice(None)], ids=["the first log file", "the log"])
@pytest.mark.parametrize("kind", LOST_INDEX)
def test_an_index_that_is_lost_with_some_of_the_log(store, kind, lost):
    """What is left does not tell what there was: no empty store is served in its place."""
    LOST_INDEX[kind](Place(store.data_dir / "index.redb", 0))
    for path in sorted((store.data_dir / "log").glob("*.pack"))[lost]:
        path.unlink()
    said = Server(store.data_dir).refused()
    assert "log/" in said and "jay fsck" in said, said


# The end of the log, which the index does not have yet.


TAIL_DAMAGE = {
    "body": lambda store: find(store.data_dir / "log", store.bodies["tail-2"])[-1].plus(1000),
    "record header": lambda store: batch_of(store.data_dir, store.bodies["tail-2"]).place.plus(20),
    "changes": lambda store: batch_of(store.data_dir, store.bodies["tail-2"]).place.plus(60),
    "footer": lambda store: batch_of(store.data_dir, store.bodies["tail-2"]).footer.plus(33),
    "first of the tail": lambda store: find(store.data_dir / "log", store.bodies["tail-0"])[-1],
    "last batch before the seal": lambda store: find(store.data_dir / "log", store.bodies["tail-5"])[-1].plus(7),
    "header of the log file": lambda store: Place(packs(store.data_dir)[-1], 30),
}


@pytest.mark.parametrize("where", TAIL_DAMAGE)
def test_damage_to_what_was_durable_in_the_log_stops_the_start(tail, start, where):
    place = TAIL_DAMAGE[where](tail)
    page = place.offset // PAGE_BYTES * PAGE_BYTES
    with place.path.open("rb") as file:
        before = os.pread(file.fileno(), PAGE_BYTES, page)
    for damage in [Place.flip, Place.zero]:
        damage(place)
        said = Server(tail.data_dir).refused()
        assert f"log/{place.path.name}" in said and "jay fsck" in said and "Nothing was changed" in said, said
        with place.path.open("r+b") as file:
            os.pwrite(file.fileno(), before, page)
    # Nothing was: put right, it has everything.
    assert damaged(start(tail).client(), tail.bodies) == set()


def test_a_log_file_that_is_cut_or_missing_stops_the_start(tail, start):
    path = packs(tail.data_dir)[-1]
    aside = path.with_name("aside")
    path.rename(aside)
    assert f"log/{path.name}" in Server(tail.data_dir).refused()
    aside.rename(path)
    whole = tail.copied(tail.data_dir.with_name("whole"))
    Place(path, batches(path)[0].offset + PAGE_BYTES).cut()
    assert f"log/{path.name}" in Server(tail.data_dir).refused()
    shutil.copy(whole.data_dir / "log" / path.name, path)
    assert damaged(start(tail).client(), tail.bodies) == set()


@pytest.mark.parametrize("damage", [Place.flip, Place.zero], ids=["bit", "page"])
def test_a_torn_end_of_the_log_is_cut(tail, start, damage):
    """The last batch, a seal, was the only one of which nothing says that it was durable."""
    seal = batches(packs(tail.data_dir)[-1])[-1]
    assert seal.records == 0
    damage(seal.footer)
    server = start(tail)
    assert damaged(server.client(), tail.bodies) == set()
    put(server.client(), {"after": b"after"})
    server.kill()
    assert damaged(start(tail).client(), tail.bodies | {"after": b"after"}) == set()


# What the directory is.


@pytest.mark.parametrize("damage", [Place.flip, Place.cut, remove_file], ids=["bit", "cut", "removed"])
def test_a_directory_that_does_not_say_what_it_is(store, start, damage):
    place = Place(store.data_dir / "FORMAT", 20)
    before = place.path.read_bytes()
    damage(place)
    said = Server(store.data_dir).refused()
    assert "FORMAT" in said and "back from a copy" in said, said
    place.path.write_bytes(before)
    assert damaged(start(store).client(), store.bodies) == set()
