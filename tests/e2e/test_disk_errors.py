"""A disk that answers EIO or ENOSPC to the real server, call by call, under load.

strace fails the calls of one of the server's threads at a time (tests/injection.py) while writers put, overwrite,
copy, upload in parts, delete and read (tests/writers.py). Whatever fails: every request is answered in time, nothing
wrong is ever served, what was acknowledged is there at once and after a kill -9, and what was refused is there wholly
or not at all. Beyond that each case has an outcome:

* REFUSES: the requests that need the call are refused, and the store goes on as soon as the disk does;
* STOPS: writes are refused until a restart, which the answer says; reads go on, and the restart has everything;
* DELAYS: what could not be done is done later, and no request notices, but that writes may be refused while there is
  no space.
"""

import collections
import dataclasses
import http.client
import os
import socket
import time

import pytest

import injection
from injection import BODIES, COLLECTOR, INDEX, LOG, PACKS, WRITES, Hit, Injection, hits_in, launcher
from jay_testing import Client, Server
from writers import ANSWER_SECONDS, MIDDLE, Load, World, Writer

pytestmark = pytest.mark.skipif(injection.missing() is not None, reason=injection.missing() or "")

REFUSES, STOPS, DELAYS = "refuses", "stops", "delays"
STATUS = {"EIO": 500, "ENOSPC": 507}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    threads: tuple[str, ...]
    calls: str
    error: str
    outcome: str
    # In the arguments of each call that is failed.
    hits: str
    # Statuses of refusals while the injection lasts.
    allowed: frozenset[int] = frozenset()

    @property
    def when(self) -> str:
        """All calls of a thread, but of the writes of one body some."""
        return "1+2" if self.name == "body" and self.calls == WRITES else "1+"

    def __str__(self) -> str:
        return f"{self.name}-{self.calls.split(',')[0]}-{self.error}"


def cases(name: str, threads: tuple[str, ...], calls: list[str], hits: str, outcomes: dict[str, str]) -> list[Case]:
    status = {REFUSES: STATUS.get, STOPS: lambda _: 503, DELAYS: {"ENOSPC": 507}.get}
    return [
        Case(name, threads, call, error, outcome, hits, frozenset({status[outcome](error)} - {None}))
        for call in calls
        for error, outcome in outcomes.items()
    ]


# What a failing sync leaves in the page cache is unknown, so no sync of the log is tried twice, whatever its error.
CASES = [
    *cases("body", (BODIES,), [WRITES, "fdatasync", "linkat", "fsync"], "objects/", {"EIO": REFUSES, "ENOSPC": REFUSES}),
    *cases("log", (LOG,), [WRITES], "log/", {"EIO": STOPS, "ENOSPC": REFUSES}),
    *cases("log", (LOG,), ["fdatasync"], "log/", {"EIO": STOPS, "ENOSPC": STOPS}),
    *cases("index", (INDEX,), [WRITES, "ftruncate"], "index.redb", {"EIO": STOPS, "ENOSPC": DELAYS}),
    # After a failed sync nobody knows what the disk has.
    *cases("index", (INDEX,), ["fdatasync"], "index.redb", {"EIO": STOPS, "ENOSPC": STOPS}),
    *cases("collector", (COLLECTOR,), ["unlinkat", "fsync"], "/data", {"EIO": DELAYS, "ENOSPC": DELAYS}),
]
# These need a log that goes on to the next file.
PACK_CASES = [
    *cases("packs", (PACKS,), [WRITES, "fdatasync", "fsync"], "/data", {"EIO": DELAYS, "ENOSPC": DELAYS}),
    *cases("packs", (PACKS, LOG), ["fallocate"], "/data", {"EIO": REFUSES, "ENOSPC": REFUSES}),
]


@pytest.fixture(scope="module")
def worlds():
    """The world that goes from case to case, as long as none fails in it."""
    made = []
    yield made
    for world in made:
        world.server.kill()


@pytest.fixture
def world(worlds, tmp_path_factory) -> World:
    """Sound again at the end of a case, or it is given up."""
    if not worlds:
        server = Server(tmp_path_factory.mktemp("disk-errors") / "data", JAY_S3_MIN_PART_SIZE="1")
        worlds.append(World(server.start(), seed=5))
    world = worlds.pop()
    world.is_sound = False
    yield world
    if world.is_sound:
        worlds.append(world)
    else:
        world.server.kill()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_failing_call(world, case, everything):
    step = Writer.step
    if case.calls == "ftruncate":
        assert world.client().request("PUT", "/rows").status in (200, 409)
        step = write_long_rows
    # The index doubles each time, so it is not often that it grows.
    for when in FAILING if everything and case.calls != "ftruncate" else [case.when]:
        if case.threads == (INDEX,):
            # Closing cuts the index, so that it has to grow again.
            assert world.server.stop() == 0
            world.server.start()
        run(world, case, step, when)
    world.is_sound = True


def write_long_rows(writer: Writer, client: Client) -> None:
    """Now and then some that make the index grow; nobody asks for them."""
    writer.step(client)
    for _ in range(20):
        answer = client.request("PUT", f"/rows/{writer.new_version()}", headers={"x-amz-meta-long": "x" * 1900})
        assert answer.status == 200 or answer.status in writer.allowed, answer


@pytest.mark.parametrize("case", PACK_CASES, ids=str)
def test_a_failing_call_for_the_next_log_file(world, case):
    """Copies of a body of 128 KiB fill log files fast: the server writes each anew, and the client sends nothing."""
    client = world.client()
    for writer in world.writers:
        writer.put(client, MIDDLE, writer.keys[0])

    def step(writer: Writer, client) -> None:
        writer.copy_of(client, writer.keys[0], writer.random.choice(writer.keys[1:]))

    run(world, case, step, case.when)
    world.is_sound = True


# Which calls of a thread fail: all, all later ones, some.
FAILING = ["1+", "2+", "4+", "1+2", "2+3", "7+"]


def run(world: World, case: Case, step, when: str) -> None:
    with world.load(step, case.allowed) as load:
        load.wait_for_acknowledgements(each=5)
        hits = fail_calls(world, load, case, when)
        if case.outcome != STOPS:
            load.wait_for_acknowledgements(each=5)
    print(f"{len(hits)} failed calls, refusals by status: {dict(load.refused)}")
    assert all(case.hits in hit.arguments and hit.error == case.error for hit in hits), hits
    assert world.server.process.poll() is None, world.server.errors.read_text()
    world.verify()
    if case.outcome == STOPS:
        stays_stopped(world.server)
    if case.threads == (COLLECTOR,):
        world.wait_for_collection()
    if case.threads == (INDEX,) and case.outcome == DELAYS:
        # In order: then the index has everything.
        assert world.server.stop() == 0, world.server.log.read_text()[-2000:]
    world.restart()
    world.wait_for_collection()
    if case.outcome == STOPS:
        assert any("restart" in message for message in load.messages), load.messages


def fail_calls(world: World, load: Load, case: Case, when: str) -> list[Hit]:
    """Lets calls fail until the writers have noticed, or enough was acknowledged."""
    load.pause()
    # Then the log is sealed, and what is written to it next is somebody's request.
    time.sleep(0.05)
    with Injection(world.server, case.threads, case.calls, case.error, when) as injection:
        load.resume()
        load.wait_until(injection.hits, f"a failed {case.calls}")
        if case.outcome == REFUSES:
            load.wait_until(lambda: sum(load.refused.values()) >= 3, "refusals")
        if case.outcome == STOPS:
            load.wait_until(lambda: all(writer.refused for writer in world.writers), "refusals for everybody")
        if case.outcome == DELAYS:
            load.wait_for_answers(each=5)
        hits = injection.hits()
        # A call that is under way while strace lets go of its thread would fail with another error.
        load.pause()
    load.resume()
    return hits


def stays_stopped(server: Server) -> None:
    """Also when the disk is well again."""
    assert not server.ready()
    answer = server.client().request("PUT", "/default/late", body=b"late")
    assert (answer.status, answer.code) == (503, "ServiceUnavailable"), answer
    answer = server.client().request("GET", "/default/late")
    assert answer.status == 404, answer


@pytest.mark.parametrize("error", STATUS)
def test_a_directory_that_cannot_be_made(new_server, error):
    """That of the first large body; small ones need none."""
    server = new_server().start()
    client, body = server.client(), os.urandom(200_000)
    with Injection(server, (BODIES,), "mkdirat", error) as injection:
        answer = client.request("PUT", "/default/large", body=body)
        assert injection.hits() and answer.status == STATUS[error], answer
        assert client.request("PUT", "/default/small", body=b"small").status == 200
    assert client.request("PUT", "/default/large", body=body).status == 200
    server.kill()
    client = server.start().client()
    assert client.request("GET", "/default/large").body == body and client.request("GET", "/default/small").body == b"small"


START_CALLS = ["fsync", "fdatasync", "fallocate", "ftruncate", "unlinkat", "mkdirat", "renameat2", WRITES]


@pytest.mark.parametrize("call", START_CALLS, ids=lambda call: call.split(",")[0])
def test_a_start_on_a_failing_disk(new_server, call):
    """The first call fails, in the next start the second one, and so on; between them the disk is well."""
    world = World(new_server(JAY_S3_MIN_PART_SIZE="1").start(), seed=6)
    refused = 0
    for number in range(1, 100):
        with world.load() as load:
            load.wait_for_acknowledgements(each=5)
        world.server.kill()
        started, hits = start_failing(world.server, call, "EIO", number)
        if started:
            world.verify()
        refused += not started
        world.restart()
        if not hits:
            break
    world.wait_for_collection()
    print(f"{number - 1} calls failed, {refused} starts refused")


@pytest.mark.parametrize("call", START_CALLS, ids=lambda call: call.split(",")[0])
def test_a_first_start_on_a_failing_disk(new_server, call, everything):
    """Whatever it leaves behind, the next start makes a store of it."""
    for number in range(1, 100 if everything else 3):
        server = new_server(f"data-{number}")
        _, hits = start_failing(server, call, "ENOSPC", number)
        server.kill()
        client = server.start().client()
        body = b"x" * 200_000
        assert client.request("PUT", "/default/x", body=body).status == 200
        assert client.request("GET", "/default/x").body == body
        server.kill()
        if not hits:
            break
    print(f"{number - 1} calls failed")


def start_failing(server: Server, call: str, error: str, number: int) -> tuple[bool, list[Hit]]:
    """Whether the server got so far as to serve, and which calls failed. A refused start says what failed, in one line."""
    output = server.data_dir.with_name("start.strace")
    output.unlink(missing_ok=True)
    server.launcher = launcher(output, call, error, str(number))
    try:
        process, deadline = server.spawn(), time.monotonic() + ANSWER_SECONDS
    finally:
        server.launcher = []
    while process.poll() is None and not is_open(server.port):
        assert time.monotonic() < deadline, "neither started nor refused"
        time.sleep(0.005)
    if process.poll() is not None:
        said = server.errors.read_text()
        assert process.returncode == 1 and said.startswith("jay: ") and said.count("\n") == 1, (process.returncode, said)
        assert "os error" in said, said
        print(said, end="")
    return process.poll() is None, hits_in(output)


def is_open(port: int) -> bool:
    """Not the same as ready: a store that got so far may have stopped since."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_reads_that_fail(new_server):
    """Bodies come whole and right, or as an error, or break off; when the disk is well again, so are they."""
    server = new_server().start()
    client = server.client()
    bodies = {f"k{n}": os.urandom(size) for n, size in enumerate([10, 5000, 100_000, 1_000_000, 3_000_000])}
    for key, body in bodies.items():
        assert client.request("PUT", f"/default/{key}", body=body).status == 200
    ends = collections.Counter()
    with Injection(server, (BODIES,), "pread64", "EIO", "2+3") as injection:
        for key in list(bodies) * 12:
            try:
                answer = client.request("GET", f"/default/{key}")
            except http.client.IncompleteRead:
                ends["broken off"] += 1
                continue
            ends[answer.status] += 1
            assert answer.status == 500 and answer.code == "InternalError" or answer.body == bodies[key], (key, answer)
        assert injection.hits()
    print(dict(ends))
    assert set(ends) == {200, 500, "broken off"}
    for key, body in bodies.items():
        assert client.request("GET", f"/default/{key}").body == body
