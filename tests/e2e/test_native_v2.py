"""The native protocol, version 2, against the real server, by a client that shares no code with ours."""

import hashlib
import os
import socket
import threading
import time

import pytest
from test_quarantine import admin, blob_of

from native_v2 import (
    BLOCK, CHUNK, CRC64, FAILED, HEAD_BYTES, OK, OPERATIONS, REFUSED, USE_BULK, VERSION_MISMATCH, Closed, Handshake, NativeV2,
    chunk, end, entries, fields, frame, head, mapping, number, over_tls, sums, u32, u64, whole,
)  # fmt: skip

MIB = 1 << 20
BUCKET_NOT_FOUND, OBJECT_NOT_FOUND, ALREADY_EXISTS, PRECONDITION_FAILED, NOT_MODIFIED = 1, 2, 12, 13, 14
INVALID_ARGUMENT, INVALID_RANGE, TOO_LARGE, PERMISSION_DENIED, CHECKSUM_MISMATCH, CORRUPT = 20, 21, 22, 31, 40, 41
TIMEOUT, CANCELLED, UNSUPPORTED, PROTOCOL = 52, 55, 60, 61


@pytest.fixture
def native(server) -> NativeV2:
    return connect(server)


@pytest.fixture
def bulk(server) -> NativeV2:
    return connect(server, bulk=True)


def connect(server, **options) -> NativeV2:
    known = server.credentials()
    made = NativeV2(server.native_port, known["access_key_id"], known["secret_access_key"], **options)
    assert made.step == 0
    return made


# The handshake.


def test_neither_side_sends_the_secret(server):
    """Nor anything from which it could be found without trying secrets."""
    known = server.credentials()
    secret = known["secret_access_key"].encode()
    seen = bytearray()
    native = NativeV2(server.native_port)
    send, read = native.send, native.read
    native.send = lambda data: (seen.extend(data), send(data))
    native.read = lambda count: (data := read(count), seen.extend(data))[0]
    assert native.shake_hands(Handshake(known["access_key_id"], known["secret_access_key"])) == 0
    assert len(seen) > 100 and secret not in seen and hashlib.sha256(secret).digest() not in seen
    assert native.server[2].startswith(b"jay/") and number(native.server[3]) == 256 and number(native.server[4]) == CHUNK


def test_a_wrong_proof_is_refused_whatever_is_wrong_with_it(server):
    known = server.credentials()
    token_id, secret = known["access_key_id"], known["secret_access_key"]
    attempts = [Handshake(token_id, "wrong"), Handshake("nobody", secret), Handshake("", "")]
    seen = []
    for handshake in attempts:
        native = NativeV2(server.native_port)
        assert native.shake_hands(handshake) == REFUSED
        assert native.is_closed()
        seen.append(len(handshake.answer))
    # The server's hello tells nothing of the access key either.
    assert len(set(seen)) == 1
    right = Handshake(token_id, secret)
    native = NativeV2(server.native_port)
    assert native.shake_hands(right, proof=bytes(32)) == REFUSED
    # What one conversation proves is worth nothing in another one.
    first = NativeV2(server.native_port)
    first.send(right.hello)
    right.answer = first.read_step()[1]
    second = NativeV2(server.native_port)
    assert second.shake_hands(Handshake(token_id, secret), proof=right.proof(b"client")) == REFUSED
    # Nor is the server's own proof one of the client, though both have the key.
    assert NativeV2(server.native_port).shake_hands(again := Handshake(token_id, secret), proof=None) == 0
    mirrored = NativeV2(server.native_port)
    mirrored.send(again.hello)
    again.answer = mirrored.read_step()[1]
    mirrored.send(again.proof(b"server"))
    assert mirrored.read_step()[0] == REFUSED


def test_malformed_hellos_are_told_so(server):
    known = server.credentials()
    token_id, secret = known["access_key_id"], known["secret_access_key"]
    native = NativeV2(server.native_port)
    # Something that must be understood, and is not.
    assert native.shake_hands(Handshake(token_id, secret, more={0xBFFF: b""})) == VERSION_MISMATCH and native.is_closed()
    # Something of a later version.
    native = NativeV2(server.native_port)
    assert native.shake_hands(Handshake(token_id, secret, more={0x3FFF: b"later"})) == 0
    for version in [0, 3, 255]:
        native = NativeV2(server.native_port)
        native.send(Handshake(token_id, secret, version=version).hello)
        assert native.read_step()[0] == VERSION_MISMATCH and native.is_closed()
    for garbage in [b"JAY\0\x02\0\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"JAX\0\x02\0\0\0"]:
        native = NativeV2(server.native_port)
        native.send(garbage)
        assert native.is_closed()


def test_a_proof_is_bound_to_its_tls_session(new_server):
    """Who ends TLS in the middle and passes the handshake on has the proofs of another session."""
    server = new_server()
    server.arguments = ["serve", "--tls-self-signed"]
    server.start()
    known = server.credentials()
    assert connect(server).ask("Ping", {}).code == OK
    inside = NativeV2.__new__(NativeV2)
    inside.socket, inside.streams = over_tls(server.native_port), iter(range(1, 100))
    # As somebody in the middle would say it: right, but without what belongs to this session.
    assert inside.shake_hands(Handshake(known["access_key_id"], known["secret_access_key"])) == REFUSED


# Objects.


@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK, BLOCK + 1, CHUNK])
def test_short_bodies_come_and_go_in_one_frame(native, bucket, size):
    body = os.urandom(size)
    stored = native.put(bucket, "k", body)
    assert stored.code == OK and stored.text(1) == hashlib.md5(body).hexdigest() and stored.text(2) == hashlib.sha256(body).hexdigest()
    assert stored.number(4) == CRC64.calc(body) and stored.number(5) == size
    answer = native.get(bucket, "k")
    assert answer.code == OK and answer.checked() == body and answer.number(2) == size
    # The sum is that which the writer gave it.
    assert number(answer.body[2]) == CRC64.calc(body) == answer.number(8)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * MIB + 17])
@pytest.mark.parametrize("known", [True, False])
def test_long_bodies_come_and_go_in_chunks(bulk, bucket, size, known):
    body = os.urandom(size)
    stored = bulk.upload("PutObject", {1: bucket, 2: "k"}, body, size=known, piece=100_000)
    assert stored.code == OK and stored.text(1) == hashlib.md5(body).hexdigest() and stored.number(5) == size
    answer, found = bulk.download("GetObject", {1: bucket, 2: "k"})
    assert found == body and answer.number(2) == size


def test_a_long_body_is_for_another_lane(native, bulk, bucket):
    """Neither is a short request kept waiting behind it, nor is it put together from two versions."""
    body = os.urandom(CHUNK + 1)
    assert bulk.upload("PutObject", {1: bucket, 2: "k"}, body).code == OK
    assert native.get(bucket, "k").code == USE_BULK
    assert native.get(bucket, "k", fields={0x8003: {2: u64(CHUNK)}}).checked() == body[:CHUNK]
    stream = next(native.streams)
    native.send(frame("PutObject", {1: bucket, 2: "k", 0xC004: {3: True}}, b"", stream) + chunk(stream, b"x") + end(stream, b"x"))
    assert native.frame().code == USE_BULK
    assert native.ask("Ping", {}).code == OK


def test_one_object_through_both_doors(native, bucket, s3):
    """What either door stores, the other one shows whole."""
    stored = native.put(bucket, "native", b"body", fields={
        3: "text/plain", 4: mapping({"owner": "ana"}), 5: {1: "no-cache", 2: "attachment", 3: "gzip", 4: "de", 5: "tomorrow"},
        6: [{1: "colour", 2: "red"}],
    })  # fmt: skip
    seen = s3.get_object(Bucket=bucket, Key="native")
    assert seen["Body"].read() == b"body" and seen["ETag"] == f'"{stored.text(1)}"' and seen["Metadata"] == {"owner": "ana"}
    assert [seen[name] for name in ["ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"]] == [
        "text/plain", "no-cache", "attachment", "gzip", "de",
    ]  # fmt: skip
    assert s3.get_object_tagging(Bucket=bucket, Key="native")["TagSet"] == [{"Key": "colour", "Value": "red"}]

    s3.put_object(Bucket=bucket, Key="s3", Body=b"from s3", ContentType="image/png", Metadata={"Color": "red"}, ChecksumAlgorithm="SHA1")
    answer = native.get(bucket, "s3")
    assert answer.checked() == b"from s3" and answer.text(1) == "image/png"
    assert [text.decode() for text in entries(answer.fields[6])] == ["color", "red"]
    assert fields(answer.fields[10]) == {1: b"SHA1", 2: hashlib.sha1(b"from s3").digest()}


def test_ranges(native, bucket):
    body = bytes(range(256)) * 700
    assert native.put(bucket, "k", body).code == OK
    for asked, expected in [
        ({1: u64(5), 2: u64(10)}, body[5:10]), ({1: u64(179_000)}, body[179_000:]), ({3: u64(3)}, body[-3:]),
        ({1: u64(BLOCK - 1), 2: u64(BLOCK + 1)}, body[BLOCK - 1 : BLOCK + 1]), ({2: u64(1 << 60)}, body),
    ]:  # fmt: skip
        answer = native.get(bucket, "k", fields={0x8003: asked})
        assert answer.checked() == expected and answer.number(2) == len(body), asked
        assert body[answer.number(13) :].startswith(expected)
    for asked in [{1: u64(len(body))}, {1: u64(5), 2: u64(5)}, {3: u64(0)}]:
        assert native.get(bucket, "k", fields={0x8003: asked}).failure == INVALID_RANGE, asked
    assert native.get(bucket, "k", fields={0x8003: {1: u64(1), 3: u64(1)}}).failure == INVALID_ARGUMENT


def test_several_ranges_of_one_version(native, bulk, bucket):
    body = os.urandom(1 * MIB)
    assert bulk.upload("PutObject", {1: bucket, 2: "k"}, body).code == OK
    ranges = [(0, 10), (500_000, 500_100), (3, 5), (MIB - 4, MIB + 100)]
    asked = {1: bucket, 2: "k", 3: [{1: u64(start), 2: u64(stop)} for start, stop in ranges]}
    answer = native.ask("GetRanges", asked)
    assert answer.checked() == b"".join(body[start:stop] for start, stop in ranges)
    assert [number(length) for length in entries(answer.fields[2])] == [10, 100, 2, 4]
    assert fields(answer.fields[1])[2] == u64(MIB)
    long = {1: bucket, 2: "k", 3: [{1: u64(0), 2: u64(MIB)}, {1: u64(7), 2: u64(MIB)}]}
    assert native.ask("GetRanges", long).code == USE_BULK
    assert bulk.download("GetRanges", long)[1] == body + body[7:]
    for wrong, failure in [([], INVALID_ARGUMENT), ([{1: u64(MIB)}], INVALID_RANGE), ([{}, {1: u64(MIB)}], INVALID_RANGE)]:
        assert native.ask("GetRanges", asked | {3: wrong}).failure == failure, wrong
    assert native.ask("GetRanges", asked | {3: [{3: u64(1)}] * 1001}).failure == INVALID_ARGUMENT


def test_conditions(native, bucket):
    create = {0x8007: {0x8002: "*"}}
    etag = native.put(bucket, "k", b"one", fields=create).text(1)
    assert native.put(bucket, "k", b"two", fields=create).failure == ALREADY_EXISTS
    assert native.put(bucket, "k", b"two", fields={0x8007: {0x8001: "other"}}).failure == PRECONDITION_FAILED
    assert native.put(bucket, "absent", b"two", fields={0x8007: {0x8001: "*"}}).failure == OBJECT_NOT_FOUND
    for operation in ["GetObject", "HeadObject"]:
        asked = {1: bucket, 2: "k"}
        assert native.ask(operation, asked | {0x8005: {0x8002: [etag]}}).failure == NOT_MODIFIED
        assert native.ask(operation, asked | {0x8005: {0x8001: ["other"]}}).failure == PRECONDITION_FAILED
        assert native.ask(operation, asked | {0x8005: {0x8001: ["other", etag], 0x8002: ["other"]}}).code == OK
        later, earlier = u64(1 << 42), u64(1)
        assert native.ask(operation, asked | {0x8005: {0x8003: later}}).failure == NOT_MODIFIED
        assert native.ask(operation, asked | {0x8005: {0x8004: earlier}}).failure == PRECONDITION_FAILED
    # What must hold comes before which bytes there are.
    beyond = {0x8003: {1: u64(99)}, 0x8005: {0x8002: [etag]}}
    assert native.get(bucket, "k", fields=beyond).failure == NOT_MODIFIED
    for wrong in [{0x8003: "other"}, {0x8004: u64(4)}, {0x8005: u64(1)}]:
        assert native.ask("DeleteObject", {1: bucket, 2: "k"} | wrong).failure == PRECONDITION_FAILED, wrong
    assert native.ask("DeleteObject", {1: bucket, 2: "k", 0x8003: etag, 0x8004: u64(3)}).code == OK
    assert native.get(bucket, "k").failure == OBJECT_NOT_FOUND


def test_copies(native, bucket):
    assert native.put(bucket, "from", b"body", fields={3: "text/plain", 6: [{1: "a", 2: "b"}]}).code == OK
    asked = {1: bucket, 2: "to", 3: bucket, 4: "from"}
    copied = native.ask("CopyObject", asked)
    assert copied.code == OK and copied.number(5) == 4
    answer = native.get(bucket, "to")
    assert answer.checked() == b"body" and answer.text(1) == "text/plain" and answer.number(11) == 1
    replaced = asked | {0x8005: {1: "image/png", 3: mapping({"n": "v"})}, 0x8006: {}}
    assert native.ask("CopyObject", replaced).code == OK
    answer = native.get(bucket, "to")
    assert answer.text(1) == "image/png" and entries(answer.fields[6]) == [b"n", b"v"] and 11 not in answer.fields
    assert native.ask("CopyObject", asked | {0x8008: {0x8002: "*"}}).failure == ALREADY_EXISTS
    assert native.ask("CopyObject", asked | {0x8007: {0x8001: ["other"]}}).failure == PRECONDITION_FAILED
    assert native.ask("CopyObject", asked | {4: "absent"}).failure == OBJECT_NOT_FOUND
    assert native.ask("CopyObject", asked | {3: "no-such-bucket"}).failure == BUCKET_NOT_FOUND


def test_many_keys_in_one_request(native, bucket):
    for n in range(5):
        assert native.put(bucket, f"k{n}", b"x" * n).code == OK
    answer = native.ask("HeadObjects", {1: bucket, 2: ["k3", "absent", "k1"]})
    outcomes = [fields(outcome) for outcome in entries(answer.fields[1])]
    assert fields(outcomes[0][1])[2] == u64(3) and fields(outcomes[2][1])[2] == u64(1)
    assert number(fields(outcomes[1][2])[1]) == OBJECT_NOT_FOUND
    answer = native.ask("DeleteObjects", {1: bucket, 2: ["k3", "absent", "k1"]})
    assert entries(answer.fields[1]) == [b"", b"", b""]
    assert [native.get(bucket, f"k{n}").code for n in range(5)] == [OK, FAILED, OK, FAILED, OK]
    for operation in ["HeadObjects", "DeleteObjects"]:
        assert native.ask(operation, {1: bucket, 2: ["k"] * 1001}).failure == INVALID_ARGUMENT


def test_as_many_heads_as_fit_into_a_frame(native, bucket):
    for n in range(6):
        assert native.put(bucket, f"k{n}", b"", fields={4: mapping({"n": "v" * 2000})}).code == OK
    keys = [f"k{n % 6}" for n in range(1000)]
    answered = 0
    while answered < len(keys):
        answer = native.ask("HeadObjects", {1: bucket, 2: keys[answered:]})
        assert 0 < len(outcomes := entries(answer.fields[1])) <= len(keys) - answered
        answered += len(outcomes)
        assert answered == 1000 or len(outcomes) > 300


def test_all_that_begins_with_a_prefix_is_deleted(native, bucket):
    names = [f"a/{n:04}" for n in range(1200)] + ["b", "a"]
    native.send(b"".join(frame("PutObject", {1: bucket, 2: name, 0xC004: whole(b"x")}, b"x", n) for n, name in enumerate(names)))
    assert {native.frame().code for _ in names} == {OK}
    first = native.ask("DeletePrefix", {1: bucket, 2: "a/"})
    assert (first.number(1), first.number(2), first.text(3)) == (1000, 1, "a/0999")
    second = native.ask("DeletePrefix", {1: bucket, 2: "a/", 3: first.text(3)})
    assert (second.number(1), second.number(2)) == (200, 0)
    listed = native.ask("ListObjects", {1: bucket})
    assert [fields(entry)[1] for entry in entries(listed.fields[1])] == [b"a", b"b"]


def test_listings_with_metadata(native, bucket):
    described = {3: "text/plain", 4: mapping({"n": "v"}), 5: {1: "no-cache"}}
    assert native.put(bucket, "a/1", b"x", fields=described).code == OK
    assert native.put(bucket, "b", b"y").code == OK
    page = native.ask("ListObjects", {1: bucket, 3: "/"})
    assert entries(page.fields[2]) == [b"a/"] and [fields(entry)[1] for entry in entries(page.fields[1])] == [b"b"]
    plain, full = (native.ask("ListObjects", {1: bucket, 2: "a/"} | more) for more in [{}, {6: True}])
    (plain,), (full,) = (map(fields, entries(page.fields[1])) for page in [plain, full])
    assert 9 not in plain and entries(full[9]) == [b"n", b"v"] and fields(full[10]) == {1: b"no-cache"}
    assert number(full[8]) == CRC64.calc(b"x") and len(full[7]) == 32


def test_tags(native, bucket):
    assert native.put(bucket, "k", b"x").code == OK
    asked = {1: bucket, 2: "k"}
    assert native.ask("PutObjectTagging", asked | {3: [{1: "a", 2: "b"}, {1: "c"}]}).code == OK
    assert [fields(tag) for tag in entries(native.ask("GetObjectTagging", asked).fields[1])] == [{1: b"a", 2: b"b"}, {1: b"c"}]
    assert native.ask("PutObjectTagging", asked | {3: [{1: "a"}, {1: "a"}]}).failure == INVALID_ARGUMENT
    assert native.ask("DeleteObjectTagging", asked).code == OK
    assert native.ask("GetObjectTagging", asked).fields.keys() == {0x4001}
    assert native.ask("GetObjectTagging", asked | {2: "absent"}).failure == OBJECT_NOT_FOUND


def test_uploads_in_parts(native, bulk, bucket):
    asked = {1: bucket, 2: "k", 3: "text/plain", 4: mapping({"n": "v"}), 6: [{1: "a", 2: "b"}]}
    upload = native.ask("CreateMultipartUpload", asked).text(1)
    bodies = {n: os.urandom(300_000 + n) for n in [1, 2, 3]}
    etags = {}
    for n, body in bodies.items():
        etags[n] = bulk.upload("UploadPart", {1: bucket, 2: "k", 3: upload, 4: u32(n)}, body).text(1)
        assert etags[n] == hashlib.md5(body).hexdigest()
    listed = native.ask("ListParts", {1: bucket, 2: "k", 3: upload, 5: u32(2)})
    assert [number(fields(part)[1]) for part in entries(listed.fields[1])] == [1, 2] and listed.number(2) == 1
    listed = native.ask("ListParts", {1: bucket, 2: "k", 3: upload, 4: u32(2)})
    assert [number(fields(part)[1]) for part in entries(listed.fields[1])] == [3] and listed.number(2) == 0
    page = native.ask("ListMultipartUploads", {1: bucket})
    (entry,) = map(fields, entries(page.fields[1]))
    assert (entry[1].decode(), entry[2].decode()) == ("k", upload)
    complete = {1: bucket, 2: "k", 3: upload}
    wrong = [{1: u32(1), 2: "other"}]
    assert native.ask("CompleteMultipartUpload", complete | {0x8005: wrong}).failure == INVALID_ARGUMENT
    parts = [{1: u32(n), 2: etags[n]} for n in sorted(etags)]
    assert native.ask("CompleteMultipartUpload", complete | {0x8005: parts, 0x8007: u64(1)}).code == FAILED
    done = native.ask("CompleteMultipartUpload", complete | {0x8005: parts, 0x8006: {0x8002: "*"}})
    assert done.code == OK and done.text(1).endswith("-3") and done.number(3) == sum(map(len, bodies.values()))
    answer, found = bulk.download("GetObject", {1: bucket, 2: "k"})
    assert found == b"".join(bodies.values()) and answer.text(1) == "text/plain" and answer.number(12) == 3
    assert bulk.download("GetObject", {1: bucket, 2: "k", 0x8004: u32(2)})[1] == bodies[2]


def test_server_info(native, server):
    answer = native.ask("GetServerInfo", {})
    assert answer.text(1) and len(answer.text(2)) == 32 and answer.text(3) == "us-east-1"
    assert abs(answer.number(4) / 1000 - time.time()) < 60
    assert answer.text(5) == server.credentials()["access_key_id"]


# Many requests at once.


def test_many_requests_are_under_way_at_once_and_answered_as_they_finish(native, bucket):
    count = 2000
    puts = b"".join(
        frame("PutObject", {1: bucket, 2: f"k{n}", 0xC004: whole(u32(n))}, u32(n), n) + frame("Ping", {}, b"", count + n)
        for n in range(count)
    )
    sender = threading.Thread(target=native.send, args=[puts])
    sender.start()
    answers = [native.frame() for _ in range(2 * count)]
    sender.join()
    assert {answer.code for answer in answers} == {OK}
    assert sorted(answer.stream for answer in answers) == list(range(2 * count))
    # Pings do not wait for the puts before them.
    assert [answer.stream for answer in answers] != [stream for n in range(count) for stream in (n, count + n)]
    native.send(b"".join(frame("GetObject", {1: bucket, 2: f"k{n}"}, b"", n) for n in range(count)))
    for _ in range(count):
        answer = native.frame()
        assert answer.checked() == u32(answer.stream)


def test_request_ids_come_back_and_are_in_the_log(new_server):
    server = new_server().start()
    native = connect(server)
    assert native.ask("Ping", {}, call={0x4001: "of-the-client"}).text(0x4001) == "of-the-client"
    assert len(native.ask("Ping", {}).text(0x4001)) == 16
    refused = native.get("default", "absent", call={0x4001: "refused"})
    assert refused.failure == OBJECT_NOT_FOUND and refused.text(0x4001) == "refused" and refused.s3_code == "NoSuchKey"
    lines = [line for line in server.log.read_text().splitlines() if '"NATIVE"' in line]
    assert '"request_id":"of-the-client"' in lines[0] and '"operation":"Ping"' in lines[0]
    assert '"error_code":"NoSuchKey"' in lines[2]
    for wrong in ["i" * 65, "a b"]:
        assert native.ask("Ping", {}, call={0x4001: wrong}).failure == INVALID_ARGUMENT


def test_a_deadline_that_has_passed_ends_a_request(bulk, bucket):
    stream = next(bulk.streams)
    bulk.send(frame("PutObject", {1: bucket, 2: "late", 0x4002: u32(200), 0xC004: {3: True}}, b"", stream) + chunk(stream, b"some"))
    started = time.monotonic()
    assert bulk.frame().failure == TIMEOUT and time.monotonic() - started < 10
    # What of it still comes is passed over.
    bulk.send(chunk(stream, b"more") + end(stream, b"somemore"))
    assert bulk.get(bucket, "late").failure == OBJECT_NOT_FOUND


def test_uploads_are_given_up(bulk, bucket):
    failed = {1: u64(4), 2: u64(CRC64.calc(b"some")), 0x8003: {1: u32(CANCELLED)}}
    for code, metadata in [("cancel", {}), ("end", failed)]:
        stream = next(bulk.streams)
        bulk.send(frame("PutObject", {1: bucket, 2: "half", 0xC004: {3: True}}, b"", stream) + chunk(stream, b"some"))
        bulk.send(frame(code, metadata, b"", stream))
        answer = bulk.frame()
        assert (answer.failure, answer.stream) == (CANCELLED, stream), code
        assert bulk.get(bucket, "half").failure == OBJECT_NOT_FOUND


def test_downloads_are_given_up(bulk, bucket):
    body = os.urandom(64 * MIB)
    assert bulk.upload("PutObject", {1: bucket, 2: "k"}, body).code == OK
    stream = next(bulk.streams)
    bulk.send(frame("GetObject", {1: bucket, 2: "k"}, b"", stream))
    assert bulk.frame().code == OK
    bulk.send(frame("cancel", {}, b"", stream))
    received = 0
    while (piece := bulk.frame()).code == OPERATIONS["chunk"]:
        received += len(piece.checked())
    assert number(fields(piece.fields[3])[1]) == CANCELLED and received < len(body)
    assert bulk.ask("Ping", {}).code == OK


# What a hostile or broken peer may send.


def test_changed_bytes_are_refused_and_not_stored(native, bulk, bucket):
    asked = {1: bucket, 2: "k"}
    head = whole(b"right")
    for wrong in [head | {1: [u32(1)]}, head | {2: u64(1)}, head | {1: []}]:
        native.send(frame("PutObject", asked | {0xC004: wrong}, b"right", 7))
        assert native.frame().failure == CHECKSUM_MISMATCH, wrong
    stream = next(bulk.streams)
    bulk.send(frame("PutObject", asked | {0xC004: {3: True}}, b"", stream))
    bulk.send(frame("chunk", {1: sums(b"right")}, b"wrong", stream))
    assert bulk.frame().failure == CHECKSUM_MISMATCH
    bulk.send(end(stream, b"right"))
    for wrong, failure in [({2: u64(1)}, CHECKSUM_MISMATCH), ({1: u64(6)}, INVALID_ARGUMENT)]:
        stream = next(bulk.streams)
        told = {1: u64(5), 2: u64(CRC64.calc(b"right"))} | wrong
        bulk.send(frame("PutObject", asked | {0xC004: {3: True}}, b"", stream) + chunk(stream, b"right") + frame("end", told, b"", stream))
        assert bulk.frame().failure == failure, wrong
    stream = next(bulk.streams)
    bulk.send(frame("PutObject", asked | {0xC004: {3: True, 4: u64(6)}}, b"", stream) + chunk(stream, b"right") + end(stream, b"right"))
    assert bulk.frame().failure == INVALID_ARGUMENT
    # A checksum of S3's, too.
    wrong = {0x8008: {1: "SHA256", 2: bytes(32)}}
    assert native.put(bucket, "k", b"right", fields=wrong).failure == CHECKSUM_MISMATCH
    assert native.put(bucket, "k", b"right", fields={0x8008: {1: "SHA256", 2: bytes(31)}}).failure == INVALID_ARGUMENT
    assert native.get(bucket, "k").failure == OBJECT_NOT_FOUND
    assert bulk.get(bucket, "k").failure == OBJECT_NOT_FOUND


def test_what_is_wrong_in_one_request_ends_no_other(native, bucket):
    """Metadata, operations and data that make no sense are refused by name; the connection goes on."""
    assert native.put(bucket, "k", b"x").code == OK
    for code, metadata, data, failure in [
        (0x77, {}, b"", UNSUPPORTED),
        ("GetObject", b"\0", b"", INVALID_ARGUMENT),
        ("GetObject", {1: b"\xff"}, b"", INVALID_ARGUMENT),
        ("GetObject", {1: bucket, 2: "k", 0x8004: b"\0"}, b"", INVALID_ARGUMENT),
        ("GetObject", {1: bucket, 2: "k", 0xBFFF: b""}, b"", UNSUPPORTED),
        ("GetObject", {1: bucket, 2: "k", 0xFFFF: b""}, b"", UNSUPPORTED),
        ("GetObject", {1: bucket, 2: "k"}, b"data", INVALID_ARGUMENT),
        ("GetObject", {1: bucket, 2: "k", 0xC004: whole(b"data")}, b"data", INVALID_ARGUMENT),
        ("PutObject", {1: bucket, 2: ""}, b"", INVALID_ARGUMENT),
        ("PutObject", {1: bucket, 2: "k" * 1025}, b"", TOO_LARGE),
        ("PutObject", {1: "No", 2: "k"}, b"", INVALID_ARGUMENT),
        ("ListObjects", {1: bucket, 5: b"\0\0"}, b"", INVALID_ARGUMENT),
    ]:
        native.send(frame(code, metadata, data, 5))
        answer = native.frame()
        assert (answer.stream, answer.failure) == (5, failure), (code, metadata, answer)
    # Frames of a later version, and of nothing that is under way.
    native.send(frame(0xFA, b"anything", b"at all", 1) + chunk(9, b"x") + end(9, b"x") + frame("cancel", {}, b"", 9) + frame("pong"))
    assert native.get(bucket, "k").checked() == b"x"
    native.send(frame("ping", {}, b"", 1234))
    assert (answer := native.frame()).code == OPERATIONS["pong"] and answer.stream == 1234


def test_a_flipped_bit_does_nothing_but_harm_to_its_own_request(server, native, bucket):
    """A GET whose code lost a bit was a DELETE, and one whose stream id had another was answered to somebody else."""
    assert native.put(bucket, "k", b"body").code == OK
    asked = frame("GetObject", {1: bucket, 2: "k"}, b"", 1)
    for bulky in [False, True]:
        for at in range(HEAD_BYTES, len(asked)):
            changed = bytearray(asked)
            changed[at] ^= 1 << at % 8
            other = connect(server, bulk=bulky) if at == HEAD_BYTES else other
            other.send(bytes(changed))
            assert (answer := other.frame()).failure == CHECKSUM_MISMATCH and answer.stream == 1
        assert other.get(bucket, "k").checked() == b"body"
        for bit in range(0, 8 * HEAD_BYTES, 3):
            changed = bytearray(asked)
            changed[bit // 8] ^= 1 << bit % 8
            other = connect(server, bulk=bulky)
            other.send(frame("Ping", {}, b"", 1) + bytes(changed))
            assert other.frame().code == OK
            last = other.frame()
            assert (last.code, last.stream) == (OPERATIONS["go-away"], 1)
            assert number(fields(last.fields[1])[1]) == CHECKSUM_MISMATCH and other.is_closed()
    assert native.get(bucket, "k").checked() == b"body"


@pytest.mark.parametrize("bulky", [False, True])
def test_what_nobody_can_go_on_behind_ends_the_connection(server, bucket, bulky):
    for wrong in [
        frame("Ping", {}, data_len=CHUNK + 1), head(0xFF, 1, (1 << 20) + 1, 0, 0), head(0xFF, 1, 0, 1 << 63, 0),
    ]:  # fmt: skip
        native = connect(server, bulk=bulky)
        native.send(frame("Ping", {}, b"", 1) + wrong)
        assert native.frame().code == OK
        last = native.frame()
        assert last.code == OPERATIONS["go-away"] and number(fields(last.fields[1])[1]) == PROTOCOL, last
        assert native.is_closed()


def test_a_stream_id_names_one_request(native, bucket):
    native.send(b"".join(frame("PutObject", {1: bucket, 2: "k", 0xC004: whole(b"x")}, b"x", 3) for _ in range(2)))
    codes = [native.frame().code for _ in range(2)]
    assert sorted(codes) == [OK, OPERATIONS["go-away"]] and native.is_closed()


def test_a_request_within_a_body_ends_the_connection(bulk, bucket):
    stream = next(bulk.streams)
    bulk.send(frame("PutObject", {1: bucket, 2: "k", 0xC004: {3: True}}, b"", stream) + frame("Ping", {}, b"", stream + 1))
    assert (last := bulk.frame()).code == OPERATIONS["go-away"] and number(fields(last.fields[1])[1]) == PROTOCOL
    assert bulk.is_closed()


@pytest.mark.parametrize("cut", [1, 16, 17, 40, -1])
def test_a_peer_that_leaves_within_a_frame_stores_nothing(server, native, bucket, cut):
    other = connect(server)
    put = frame("PutObject", {1: bucket, 2: f"cut{cut}", 0xC004: whole(b"x" * 1000)}, b"x" * 1000, 1)
    other.send(put[:cut])
    other.close()
    time.sleep(0.1)
    assert native.get(bucket, f"cut{cut}").failure == OBJECT_NOT_FOUND


def test_a_peer_that_only_stops_sending_gets_its_answers(native, bucket):
    native.send(b"".join(frame("PutObject", {1: bucket, 2: f"k{n}", 0xC004: whole(b"x")}, b"x", n) for n in range(50)))
    native.socket.shutdown(socket.SHUT_WR)
    assert {native.frame().code for _ in range(50)} == {OK}
    assert native.is_closed()


def test_no_deadlock_with_the_smallest_buffers(server, bucket):
    """Both sides send as much as they can before they read: the server reads on only while nobody keeps it from sending."""
    native = connect(server, buffer=4096, timeout=120)
    body = os.urandom(100_000)
    assert native.put(bucket, "k", body).code == OK
    count = 100
    asked = b"".join(
        frame("GetObject", {1: bucket, 2: "k"}, b"", 2 * n) + frame("PutObject", {1: bucket, 2: f"p{n}", 0xC004: whole(body)}, body, 2 * n + 1)
        for n in range(count)
    )
    sender = threading.Thread(target=native.send, args=[asked])
    sender.start()
    for _ in range(2 * count):
        answer = native.frame()
        assert answer.code == OK and (answer.stream % 2 or answer.checked() == body)
    sender.join()


def test_answers_that_nobody_takes_hold_no_more_than_their_share(new_server):
    """Thousands of requests whose answers are not read: the server stops reading, and others are served."""
    server = new_server().start()
    native, greedy = connect(server), connect(server, timeout=5)
    body = os.urandom(200_000)
    assert native.put("default", "k", body).code == OK
    before = memory(server)
    with pytest.raises(TimeoutError):
        for stream in range(1 << 30):
            greedy.send(frame("GetObject", {1: "default", 2: "k"}, b"", stream))
    assert memory(server) - before < 60 * MIB
    assert native.get("default", "k").checked() == body


def memory(server) -> int:
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


# Rights, stops, damage.


def test_revoking_ends_open_connections(server):
    account = admin(server, "POST", "accounts", {"name": "native"})[1]["account_id"]
    for bulky in [False, True]:
        made = admin(server, "POST", "tokens", {"account_id": account, "name": "t"})[1]
        native = NativeV2(server.native_port, made["token_id"], made["secret"], bulk=bulky)
        assert native.ask("ListBuckets", {}).code == OK
        assert admin(server, "DELETE", f"tokens/{made['token_id']}")[0] == 204
        assert native.ask("Ping", {}).failure == PERMISSION_DENIED
        with pytest.raises(Closed):
            while native.frame().code == OPERATIONS["go-away"]:
                pass
        assert NativeV2(server.native_port, made["token_id"], made["secret"]).step == REFUSED


def test_whoever_may_not_know_of_an_object_does_not_learn_of_it(server, native, bucket):
    assert native.put(bucket, "there", b"x").code == OK
    account = admin(server, "POST", "accounts", {"name": "stranger"})[1]["account_id"]
    made = admin(server, "POST", "tokens", {"account_id": account, "name": "t"})[1]
    stranger = NativeV2(server.native_port, made["token_id"], made["secret"])
    for operation, more in [
        ("GetObject", {}), ("HeadObject", {}), ("DeleteObject", {}), ("GetObjectTagging", {}), ("PutObjectTagging", {}),
        ("DeleteObjectTagging", {}), ("GetRanges", {3: [{}]}), ("DeletePrefix", {}), ("CreateMultipartUpload", {}),
        ("CopyObject", {3: bucket, 4: "there"}),
    ]:  # fmt: skip
        answers = {
            (answer.failure, answer.text(2).replace(bucket, "BUCKET").replace("no-such-bucket", "BUCKET"), answer.s3_code)
            for name in [bucket, "no-such-bucket"] for key in ["there", "absent"]
            if (answer := stranger.ask(operation, {1: name, 2: key} | more))
        }  # fmt: skip
        assert len(answers) == 1 and None not in answers, (operation, answers)
    outcomes = stranger.ask("HeadObjects", {1: bucket, 2: ["there", "absent"]})
    assert len(set(entries(outcomes.fields[1]))) == 1


def test_a_stop_says_goodbye(new_server):
    server = new_server().start()
    shared, bulk, uploading, fresh = connect(server), connect(server, bulk=True), connect(server, bulk=True), NativeV2(server.native_port)
    uploading.send(frame("PutObject", {1: "default", 2: "k", 0xC004: {3: True}}, b"", 1) + chunk(1, b"begun "))
    time.sleep(0.3)
    stopping = threading.Thread(target=server.stop)
    started = time.monotonic()
    stopping.start()
    for idle in [shared, bulk]:
        assert idle.frame().code == OPERATIONS["go-away"] and idle.is_closed()
    assert fresh.is_closed()
    uploading.send(chunk(1, b"and ended") + end(1, b"begun and ended"))
    assert uploading.frame().code == OK
    stopping.join()
    assert time.monotonic() - started < 10
    server.start()
    assert connect(server).get("default", "k").checked() == b"begun and ended"


def test_a_damaged_body_is_never_passed_on(new_server):
    server = new_server().start()
    native, bulk = connect(server), connect(server, bulk=True)
    for key, damage_at in [("first", 10), ("last", 3 * MIB)]:
        body = key.encode() + os.urandom(3 * MIB + 5)
        assert bulk.upload("PutObject", {1: "default", 2: key}, body).code == OK
        file = blob_of(server, body[:40])
        damaged = bytearray(file.read_bytes())
        damaged[damage_at] ^= 1
        file.write_bytes(damaged)
    assert bulk.get("default", "first").failure == CORRUPT
    # Found when much of it has gone: its end says so, and the connection goes on.
    assert bulk.get("default", "last").code == OK
    while (piece := bulk.frame()).code == OPERATIONS["chunk"]:
        piece.checked()
    assert number(fields(piece.fields[3])[1]) == CORRUPT
    assert native.ask("HeadObject", {1: "default", 2: "last"}).failure == CORRUPT
    assert bulk.ask("Ping", {}).code == OK


def test_limits_of_requests(new_server):
    server = new_server(JAY_REQUEST_BYTES_MAX="1000000").start()
    bulk = connect(server, bulk=True)
    assert bulk.put("default", "k", bytes(100_000)).code == OK
    stream = next(bulk.streams)
    bulk.send(frame("PutObject", {1: "default", 2: "long", 0xC004: {3: True, 4: u64(1_000_001)}}, b"", stream))
    assert bulk.frame().failure == TOO_LARGE
    bulk.send(frame("cancel", {}, b"", stream))
    # Of unknown length it is refused where it becomes too long.
    assert bulk.upload("PutObject", {1: "default", 2: "long"}, bytes(1_000_001), size=False).failure == TOO_LARGE
    assert bulk.get("default", "long").failure == OBJECT_NOT_FOUND


def test_a_body_without_digests(native, bulk, bucket, s3):
    """Its ETag is CRC64-NVME, which S3 clients take for any other."""
    for key, body in [("short", b"123456789"), ("long", b"0123456789" * 100_000)]:
        etag = f"crc64nvme-{CRC64.calc(body):016x}"
        asked = {1: bucket, 2: key, 9: True}
        stored = bulk.upload("PutObject", asked, body)
        assert (stored.text(1), stored.text(2)) == (etag, ""), stored
        assert native.ask("HeadObject", {1: bucket, 2: key}).text(4) == ""
        got = s3.get_object(Bucket=bucket, Key=key)
        assert got["Body"].read() == body and got["ETag"] == f'"{etag}"'
        assert s3.head_object(Bucket=bucket, Key=key, IfMatch=etag)["ContentLength"] == len(body)
        assert s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"][0]["ETag"] == f'"{etag}"'
        copied = native.ask("CopyObject", {1: bucket, 2: f"{key} copied", 3: bucket, 4: key})
        assert (copied.text(1), copied.text(2)) == (etag, "")
        # A checksum that is asked for is computed all the same.
        digest = hashlib.sha256(body).digest()
        both = bulk.upload("PutObject", asked | {0x8008: {1: "SHA256", 2: digest}}, body)
        assert both.text(2) == digest.hex() and both.text(1) == etag
        assert bulk.upload("PutObject", asked | {0x8008: {1: "SHA256", 2: bytes(32)}}, body).failure == CHECKSUM_MISMATCH


def test_damage_to_a_body_without_digests_is_found(new_server):
    server = new_server(JAY_VERIFY_SAMPLE_RATE="1").start()
    bulk = connect(server, bulk=True)
    body = os.urandom(MIB)
    assert bulk.upload("PutObject", {1: "default", 2: "k", 9: True}, body).code == OK
    assert bulk.download("GetObject", {1: "default", 2: "k"})[1] == body
    file = blob_of(server, body[:40])
    damaged = bytearray(file.read_bytes())
    damaged[MIB // 2] ^= 1
    file.write_bytes(damaged)
    bulk.ask("GetObject", {1: "default", 2: "k"})
    assert native_until_failed(bulk) == CORRUPT


def native_until_failed(bulk: NativeV2) -> int:
    """The number of the error with which a body ends."""
    while (piece := bulk.frame()).code == OPERATIONS["chunk"]:
        piece.checked()
    return number(fields(piece.fields[3])[1])
