"""Requests of a session are done once, however often they come: the native protocol against the real server."""

import threading
import time

import pytest
from test_native_v2 import INVALID_ARGUMENT, OBJECT_NOT_FOUND, PRECONDITION_FAILED, connect
from test_quarantine import admin

from native_v2 import OK, Frame, NativeV2, chunk, end, frame, number, u32, u64

ALREADY_EXISTS, CONFLICT, OUTCOME_UNKNOWN = 12, 15, 57


@pytest.fixture
def native(server) -> NativeV2:
    return connect(server)


def opened(native: NativeV2) -> bytes:
    told = native.ask("OpenSession", {})
    assert told.code == OK and number(told.fields[2]) == 600_000, told
    return told.fields[1]


def place(session: bytes, sequence: int, lowest: int | None = None, again: bool = False) -> dict:
    told = {1: session, 2: u64(sequence), 3: u64(lowest or sequence)}
    return {0xC003: told | ({4: True} if again else {})}


def told(answer: Frame) -> dict:
    """An answer without what names the request."""
    assert answer.code == OK, answer
    return {tag: value for tag, value in answer.fields.items() if tag != 0x4001}


def body(native: NativeV2, bucket: str, key: str) -> bytes | None:
    got = native.get(bucket, key)
    return got.data if got.code == OK else None


def test_a_put_that_comes_again_is_told_what_the_first_came_to(native, bucket):
    session = opened(native)
    first = told(native.put(bucket, "k", b"mine", call=place(session, 1)))
    native.put(bucket, "k", b"of another")
    assert told(native.put(bucket, "k", b"mine", call=place(session, 1, again=True))) == first
    assert body(native, bucket, "k") == b"of another"
    # Whatever it says of itself.
    assert told(native.put(bucket, "k", b"mine", call=place(session, 1))) == first


def test_a_condition_that_holds_no_more_does_not_matter_then(native, bucket):
    session = opened(native)
    create = {"fields": {0x8007: {0x8002: "*"}}}
    first = told(native.put(bucket, "new", b"x", call=place(session, 1), **create))
    assert told(native.put(bucket, "new", b"x", call=place(session, 1, again=True), **create)) == first
    assert native.put(bucket, "new", b"x", call=place(session, 2), **create).failure == ALREADY_EXISTS


def test_deletes_copies_and_completes_too(native, bucket):
    session = opened(native)
    native.put(bucket, "k", b"first")
    delete = {1: bucket, 2: "k"}
    assert native.ask("DeleteObject", delete, call=place(session, 1)).code == OK
    native.put(bucket, "k", b"second")
    assert native.ask("DeleteObject", delete, call=place(session, 1, again=True)).code == OK
    assert body(native, bucket, "k") == b"second"
    # Of what was not there.
    absent = {1: bucket, 2: "absent"}
    assert native.ask("DeleteObject", absent, call=place(session, 2)).code == OK
    native.put(bucket, "absent", b"there")
    assert native.ask("DeleteObject", absent, call=place(session, 2, again=True)).code == OK
    assert body(native, bucket, "absent") == b"there"

    copy = {1: bucket, 2: "copy", 3: bucket, 4: "k"}
    first = told(native.ask("CopyObject", copy, call=place(session, 3)))
    native.put(bucket, "copy", b"another")
    assert told(native.ask("CopyObject", copy, call=place(session, 3, again=True))) == first
    assert body(native, bucket, "copy") == b"another"

    upload = {1: bucket, 2: "parts", 3: native.ask("CreateMultipartUpload", {1: bucket, 2: "parts"}).text(1)}
    native.ask("UploadPart", upload | {4: u32(1)}, b"part")
    complete = upload | {0x8005: [{1: u32(1)}]}
    first = told(native.ask("CompleteMultipartUpload", complete, call=place(session, 4)))
    native.put(bucket, "parts", b"over it")
    assert told(native.ask("CompleteMultipartUpload", complete, call=place(session, 4, again=True))) == first
    assert body(native, bucket, "parts") == b"over it"


def test_a_refusal_that_was_told_stands(native, bucket):
    """An attempt that is still under way somewhere must not be done behind it."""
    session = opened(native)
    wrong = {"fields": {0x8007: {0x8001: "no such etag"}}}
    native.put(bucket, "k", b"there")
    assert native.put(bucket, "k", b"x", call=place(session, 1, again=True), **wrong).failure == PRECONDITION_FAILED
    # The first attempt, which comes late and which nothing would refuse.
    assert native.put(bucket, "k", b"late", call=place(session, 1)).failure == PRECONDITION_FAILED
    assert body(native, bucket, "k") == b"there"
    copy = {1: bucket, 2: "copy", 3: bucket, 4: "absent"}
    assert native.ask("CopyObject", copy, call=place(session, 2, again=True)).failure == OBJECT_NOT_FOUND
    native.put(bucket, "absent", b"now there")
    assert native.ask("CopyObject", copy, call=place(session, 2)).failure == OBJECT_NOT_FOUND
    # One that came first may be done when it comes again: nobody was told anything else.
    missing = copy | {4: "absent2"}
    assert native.ask("CopyObject", missing, call=place(session, 3)).failure == OBJECT_NOT_FOUND
    native.put(bucket, "absent2", b"there")
    assert native.ask("CopyObject", missing, call=place(session, 3, again=True)).code == OK


def test_what_comes_late_is_not_done_when_its_answer_has_arrived(native, bucket):
    session = opened(native)
    native.put(bucket, "k", b"one", call=place(session, 1))
    native.put(bucket, "k", b"two", call=place(session, 2, lowest=2))
    for again in [False, True]:
        assert native.put(bucket, "k", b"one", call=place(session, 1, again=again)).failure == INVALID_ARGUMENT
    assert body(native, bucket, "k") == b"two"


def test_of_two_attempts_at_once_one_is_done(server, native, bucket):
    session = opened(native)
    connections = [connect(server) for _ in range(8)]
    for sequence in range(1, 40):
        answers = []

        def put(connection: NativeV2, data: bytes, sequence=sequence, answers=answers):
            answers.append(told(connection.put(bucket, "k", data, call=place(session, sequence, again=True))))

        threads = [threading.Thread(target=put, args=[c, b"%d of %d" % (n, sequence)]) for n, c in enumerate(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 8 and all(answer == answers[0] for answer in answers)
        assert native.ask("HeadObject", {1: bucket, 2: "k"}).text(3) == answers[0][1].decode()


def test_long_bodies_too(server, bucket):
    bulk = connect(server, bulk=True)
    session = opened(bulk)
    long = b"long" * 200_000

    def upload(data: bytes, again: bool) -> Frame:
        stream = next(bulk.streams)
        bulk.send(frame("PutObject", {1: bucket, 2: "k", 0xC004: {3: True}} | place(session, 1, again=again), b"", stream))
        for at in range(0, len(data), 1 << 18):
            bulk.send(chunk(stream, data[at : at + (1 << 18)]))
        bulk.send(end(stream, data))
        return bulk.frame()

    first = told(upload(long, again=False))
    bulk.put(bucket, "k", b"another")
    assert told(upload(long, again=True)) == first
    assert body(bulk, bucket, "k") == b"another"


def test_a_store_that_was_killed_remembers(new_server):
    server = new_server().start()
    native = connect(server)
    session = opened(native)
    first = told(native.put("default", "k", b"mine", call=place(session, 1)))
    native.put("default", "k", b"another")
    server.kill()
    server.start()
    native = connect(server)
    assert told(native.put("default", "k", b"mine", call=place(session, 1, again=True))) == first
    assert body(native, "default", "k") == b"another"


def test_a_session_is_that_of_its_access_key(server, native, bucket):
    session = opened(native)
    native.put(bucket, "k", b"mine", call=place(session, 1))
    account = admin(server, "POST", "accounts", {"name": "another"})[1]["account_id"]
    another = admin(server, "POST", "tokens", {"account_id": account, "name": "another"})[1]
    other = NativeV2(server.native_port, another["token_id"], another["secret"])
    assert other.ask("CreateBucket", {1: "of-another-session"}).code == OK
    assert other.put("of-another-session", "k", b"theirs", call=place(session, 1, again=True)).code == OK
    assert body(other, "of-another-session", "k") == b"theirs"


def test_what_cannot_be_known_is_told_so(native, bucket):
    session = opened(native)
    old = session[:4] + u64(int(time.time() * 1000) - 601_000) + session[12:]
    elsewhere = b"\x7f" + session[1:]
    for unknown in [old, elsewhere]:
        for again in [False, True]:
            assert native.put(bucket, "k", b"x", call=place(unknown, 1, again=again)).failure == OUTCOME_UNKNOWN
    assert body(native, bucket, "k") is None


def test_places_that_are_none_are_refused(native, bucket):
    session = opened(native)
    wrong = [
        place(session, 0), place(session, 1, lowest=2), place(session, 5000, lowest=1), place(session[:-1], 1), place(b"", 1),
    ]  # fmt: skip
    for call in wrong:
        assert native.put(bucket, "k", b"x", call=call).failure == INVALID_ARGUMENT, call
    for operation, asked in [("GetObject", {1: bucket, 2: "k"}), ("CreateBucket", {1: "never"}), ("Ping", {})]:
        assert native.ask(operation, asked, call=place(session, 1)).failure == INVALID_ARGUMENT, operation
    assert body(native, bucket, "k") is None and native.ask("HeadBucket", {1: "never"}).code != OK


def test_answers_are_kept_no_longer_than_they_are_awaited(new_server):
    """What a request says has arrived is forgotten with it."""
    server = new_server().start()
    native = connect(server)
    session = opened(native)
    assert all(native.put("default", "k", b"x", call=place(session, n)).code == OK for n in range(1, 101))
    answers = [native.put("default", "k", b"x", call=place(session, n, again=True)) for n in (1, 99, 100)]
    assert [answer.failure for answer in answers[:2]] == [INVALID_ARGUMENT] * 2 and answers[2].code == OK
