"""The native protocol, version 1, against the real server: what the recorded frames (test_native_vectors.py) do not say."""

import hashlib
import os
import socket
import struct
import threading
import time

import pytest
from conftest import boto
from test_quarantine import admin, blob_of

from native import BAD_REQUEST, FORBIDDEN, INTERNAL, OK, Closed, Native, frame, numbers, texts

MIB = 1 << 20


@pytest.fixture
def native(server) -> Native:
    return connect(server)


def connect(server, **options) -> Native:
    known = server.credentials()
    made = Native(server.native_port, known["access_key_id"], known["secret_access_key"], **options)
    assert made.status == 0
    return made


def test_one_object_through_both_doors(native, bucket, s3):
    """Type, metadata, ETag and body are the same, whoever put it; names of metadata have one form."""
    stored = native.put(bucket, "native", b"from native", "text/plain", {"Owner": "ana", "x-amz-meta-Team": "blue"})
    assert stored.texts(2) == [hashlib.md5(b"from native").hexdigest(), hashlib.sha256(b"from native").hexdigest()]
    seen = s3.get_object(Bucket=bucket, Key="native")
    assert seen["Body"].read() == b"from native"
    assert seen["ContentType"] == "text/plain" and seen["Metadata"] == {"owner": "ana", "team": "blue"}
    assert seen["ETag"] == f'"{stored.texts(1)[0]}"'

    s3.put_object(Bucket=bucket, Key="s3", Body=b"from s3", ContentType="image/png", Metadata={"Color": "red"})
    answer = native.ask("GetObject", texts(bucket, "s3"))
    assert answer.status == OK and answer.data == b"from s3"
    assert answer.texts(1) == ["image/png"] and answer.metadata.endswith(b"\0\x01" + texts("color", "red"))


@pytest.mark.weakness(17)
def test_what_would_become_a_header_is_held_to_its_rules(native, bucket, s3):
    """Metadata from here came out of S3 as headers of their own choice."""
    for name, value in [("", "v"), ("x-amz-meta-", "v"), ("n", "a\r\nset-cookie: b"), ("a\nb", "v")]:
        answer = native.put(bucket, "k", b"body", metadata={name: value})
        assert (answer.status, answer.code) == (BAD_REQUEST, "InvalidArgument"), (name, answer)
    assert native.put(bucket, "k", b"body", metadata={"etag": "v", "Set-Cookie": "c", "naïve": "v", "a b": "v"}).status == OK
    seen = s3.head_object(Bucket=bucket, Key="k")
    assert seen["Metadata"] == {"etag": "v", "set-cookie": "c"} and seen["MissingMeta"] == 2
    assert "set-cookie" not in seen["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize("size", [0, 1, 128 << 10, (128 << 10) + 1, 5 * MIB + 17])
def test_bodies_of_every_size_come_back(native, bucket, size):
    body = os.urandom(size)
    assert native.put(bucket, "body", body).status == OK
    assert native.ask("GetObject", texts(bucket, "body")).data == body


def test_uploads_in_parts(native, bucket, s3):
    (upload,) = native.ask("CreateMultipartUpload", texts(bucket, "parts", "text/plain")).texts(1)
    assert len(upload) == 36
    for number, body in [(3, b"three"), (1, b"one"), (2, b""), (1, b"ONE")]:
        answer = native.ask("UploadPart", texts(bucket, "parts", upload) + struct.pack(">i", number), body)
        assert answer.texts(1) == [hashlib.md5(body).hexdigest()]
    # The same upload over S3, which has no hyphens in its name.
    listed = s3.list_parts(Bucket=bucket, Key="parts", UploadId=upload.replace("-", ""))["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 3), (2, 0), (3, 5)]
    # In any order, each once; Complete again answers the same.
    complete = texts(bucket, "parts", upload) + numbers(3, 1, 3)
    etags = [native.ask("CompleteMultipartUpload", complete).texts(1) for _ in range(2)]
    assert etags[0] == etags[1] and etags[0][0].endswith("-2")
    assert native.ask("GetObject", texts(bucket, "parts")).data == b"ONEthree"
    answer = native.ask("AbortMultipartUpload", texts(bucket, "parts", upload))
    assert answer.code == "NoSuchUpload"


def test_all_parts_that_there_can_be_are_listed_in_one_frame(native, bucket):
    (upload,) = native.ask("CreateMultipartUpload", texts(bucket, "many", "")).texts(1)
    count = 10_000
    for first in range(1, count + 1, 500):
        numbered = range(first, first + 500)
        native.send(b"".join(frame("UploadPart", texts(bucket, "many", upload) + struct.pack(">i", n), b"x") for n in numbered))
        assert all(native.answer().status == OK for _ in numbered)
    answer = native.ask("ListParts", texts(bucket, "many", upload))
    assert answer.status == OK and answer.metadata[:2] == struct.pack(">H", count)
    assert len(answer.metadata) < MIB and answer.metadata.endswith(texts(hashlib.md5(b"x").hexdigest(), ""))


@pytest.mark.weakness(12)
def test_a_listing_of_long_keys_ends_its_pages_early(native, bucket):
    """A page beyond a frame made the client fail."""
    keys = [f"{n:04}{'k' * 1000}" for n in range(950)]
    native.send(b"".join(frame("PutObject", texts(bucket, key, "") + b"\0\0") for key in keys))
    assert all(native.answer().status == OK for _ in keys)
    seen, after, pages = [], "", 0
    while pages < 10:
        answer = native.ask("ListObjects", texts(bucket, "", "", after) + b"\0\0\0\0")
        assert answer.status == OK and len(answer.metadata) <= MIB
        pages += 1
        (count,) = struct.unpack_from(">H", answer.metadata)
        page = [key for key in keys if key.encode() in answer.metadata[: -len(keys[0]) - 2]]
        assert len(page) == count
        seen += page
        after = seen[-1]
        if answer.metadata[-len(keys[0]) - 3] == 0:
            break
    assert seen == keys and pages == 2


def test_many_requests_in_one_write(native, bucket):
    """Answers come in the order of the requests, refusals among them, with the stream ids of the requests."""
    count = 300
    sent = []
    for n in range(count):
        sent.append(frame("PutObject", texts(bucket, f"k{n}", "") + b"\0\0", b"%d" % n, stream=3 * n))
        sent.append(frame("GetObject", texts(bucket, f"k{n}"), stream=3 * n + 1))
        sent.append(frame("GetObject", texts(bucket, "absent"), stream=3 * n + 2))
    # While they are sent the answers pile up.
    threading.Thread(target=native.send, args=[b"".join(sent)], daemon=True).start()
    for n in range(count):
        answers = [native.answer() for _ in range(3)]
        assert [answer.stream for answer in answers] == [3 * n, 3 * n + 1, 3 * n + 2]
        assert answers[1].data == b"%d" % n and answers[2].code == "NoSuchKey"


@pytest.mark.weakness(2)
def test_a_body_that_breaks_off_stores_nothing(server, native, bucket):
    """The bytes that had come were stored as the object, over the good version."""
    assert native.put(bucket, "kept", b"the good version").status == OK
    for size, sent in [(100, 5), (3 * MIB, 2 * MIB), (1, 0)]:
        leaving = connect(server)
        leaving.send(frame("PutObject", texts(bucket, "kept", "") + b"\0\0", data_len=size) + bytes(sent))
        leaving.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(Closed):
            leaving.answer()
    assert native.ask("GetObject", texts(bucket, "kept")).data == b"the good version"


@pytest.mark.weakness(16)
def test_data_without_a_meaning_are_no_request(native, bucket):
    """They were read as the next one."""
    smuggled = frame("CreateBucket", texts(f"{bucket}-smuggled"))
    for operation in ["Ping", "HeadObject", "GetObject", "ListBuckets", "DeleteObject", 0x7E]:
        native.ask(operation, texts(bucket, "absent"), smuggled, stream=5)
        assert native.ask("Ping", stream=6).stream == 6
    assert native.ask("HeadBucket", texts(f"{bucket}-smuggled")).code == "NoSuchBucket"
    # More than is worth reading: told, then closed.
    native.send(frame("Ping", data_len=1 << 40))
    assert native.answer().code == "EntityTooLarge" and native.is_closed()


def test_a_refused_request_is_answered_and_the_connection_goes_on(native, bucket):
    for size in [0, 5, 10 * MIB]:
        assert native.put("no-such-bucket", "k", bytes(size)).code == "NoSuchBucket"
        assert native.put(bucket, "k" * 1025, bytes(size)).code == "KeyTooLongError"
        assert native.ask("PutObject", b"\0", bytes(size)).code == "InvalidArgument"
    assert native.ask("PutObject", texts(bucket, b"\xff\xfe", "") + b"\0\0", b"body").code == "InvalidArgument"
    assert native.put(bucket, "k", b"fine").status == OK


def test_a_refused_body_that_is_too_long_to_skip_is_answered_before_it_is_sent(native):
    started = time.monotonic()
    native.send(frame("PutObject", texts("no-such-bucket", "k", "") + b"\0\0", data_len=1 << 40))
    assert native.answer().code == "NoSuchBucket"
    # Whoever goes on sending is not reset before it can read that.
    assert time.monotonic() - started < 5 and native.is_closed()


def test_a_longer_request_than_allowed_is_refused(new_server):
    server = new_server(JAY_REQUEST_BYTES_MAX=str(MIB)).start()
    native = connect(server)
    assert native.put("default", "k", bytes(MIB)).status == OK
    assert native.put("default", "k", bytes(MIB + 1)).code == "EntityTooLarge"
    assert native.ask("Ping").status == OK


@pytest.mark.weakness(23)
def test_revoking_ends_open_connections(server, bucket):
    """A session outlived its access key."""
    account = admin(server, "POST", "accounts", {"name": "native"})[1]["account_id"]
    made = admin(server, "POST", "tokens", {"account_id": account, "name": "t"})[1]
    native = Native(server.native_port, made["token_id"], made["secret"])
    assert native.ask("ListBuckets").status == OK
    assert admin(server, "DELETE", f"tokens/{made['token_id']}")[0] == 204
    answer = native.ask("Ping")
    assert (answer.status, answer.code) == (FORBIDDEN, "AccessDenied")
    assert native.is_closed()
    assert Native(server.native_port, made["token_id"], made["secret"]).status == 1


def test_expiry_ends_open_connections(server):
    account = admin(server, "POST", "accounts", {"name": "native"})[1]["account_id"]
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    made = admin(server, "POST", "tokens", {"account_id": account, "name": "t", "expires_at": soon})[1]
    native = Native(server.native_port, made["token_id"], made["secret"])
    assert native.ask("Ping").status == OK
    time.sleep(3.1)
    assert native.ask("Ping").code == "AccessDenied" and native.is_closed()


@pytest.mark.weakness(21)
def test_whoever_may_not_know_of_an_object_does_not_learn_of_it(server, native, bucket):
    """A foreign key's existence could be probed before rights were asked for."""
    assert native.put(bucket, "there", b"x").status == OK
    account = admin(server, "POST", "accounts", {"name": "stranger"})[1]["account_id"]
    made = admin(server, "POST", "tokens", {"account_id": account, "name": "t"})[1]
    stranger = Native(server.native_port, made["token_id"], made["secret"])
    for operation in ["GetObject", "HeadObject", "DeleteObject"]:
        answers = {repr(stranger.ask(operation, texts(name, key))) for name in [bucket, "no-such-bucket"] for key in ["there", "absent"]}
        assert len(answers) == 1, answers


@pytest.mark.weakness(30)
def test_a_stop_does_not_wait_for_idle_connections(new_server):
    """It took 30 s with any client connected."""
    server = new_server().start()
    idle, fresh = connect(server), Native(server.native_port)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10
    assert idle.is_closed() and fresh.is_closed()


def test_a_stop_waits_for_the_request_under_way(new_server):
    server = new_server().start()
    native = connect(server)
    body = os.urandom(2 * MIB)
    native.send(frame("PutObject", texts("default", "k", "") + b"\0\0", data_len=len(body)) + body[:MIB])
    stopping = threading.Thread(target=server.stop)
    time.sleep(0.3)
    stopping.start()
    time.sleep(0.5)
    native.send(body[MIB:])
    assert native.answer().status == OK and native.is_closed()
    stopping.join()
    server.start()
    assert connect(server).ask("GetObject", texts("default", "k")).data == body


@pytest.mark.weakness(4)
def test_a_damaged_body_is_never_passed_on(new_server):
    """A body that is not as long as its record desynchronised the connection."""
    server = new_server().start()
    native = connect(server)
    for key, damage_at in [("first", 10), ("last", 3 * MIB)]:
        body = key.encode() + os.urandom(3 * MIB + 5)
        assert native.put("default", key, body).status == OK
        file = blob_of(server, body[:40])
        damaged = bytearray(file.read_bytes())
        damaged[damage_at] ^= 1
        file.write_bytes(damaged)
    answer = native.ask("GetObject", texts("default", "first"))
    assert (answer.status, answer.code) == (INTERNAL, "ObjectCorrupt")
    with pytest.raises(Closed) as ended:
        native.ask("GetObject", texts("default", "last"))
    assert len(ended.value.args[0]) < 3 * MIB + 9
    assert connect(server).ask("HeadObject", texts("default", "last")).code == "ObjectCorrupt"


def test_tls_on_the_same_port(new_server):
    server = new_server()
    server.arguments = ["serve", "--tls-self-signed"]
    server.start()
    for tls in [True, False]:
        native = connect(server, tls=tls)
        assert native.put("default", "k", bytes(MIB)).status == OK
        assert len(native.ask("GetObject", texts("default", "k")).data) == MIB


def test_an_empty_address_turns_the_port_off(new_server, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text("native_addr: ''\n")
    server = new_server()
    del server.variables["JAY_NATIVE_ADDR"]
    server.arguments = ["--config-file", str(config)]
    server.start()
    with pytest.raises(ConnectionRefusedError):
        Native(server.native_port)


def test_requests_are_logged_counted_and_shown_like_all_others(new_server):
    server = new_server().start()
    native = connect(server)
    assert native.put("default", "k", b"four").status == OK
    assert native.ask("GetObject", texts("default", "absent")).code == "NoSuchKey"
    assert Native(server.native_port, "nobody", "wrong").status == 1
    lines = [line for line in server.log.read_text().splitlines() if '"NATIVE"' in line]
    assert '"operation":"PutObject"' in lines[0] and '"bytes_in":4' in lines[0] and '"status":200' in lines[0]
    assert '"error_code":"NoSuchKey"' in lines[1] and '"status":404' in lines[1]
    assert '"operation":"Handshake"' in lines[2] and "wrong" not in "".join(lines)
    metrics = admin(server, "GET", "metrics")[1]
    assert metrics["put_object_total"] == 1 and metrics["bytes_uploaded"] == 4 and metrics["auth_failures"] == 1


def test_boto3_and_native_writers_race_on_one_key(server, bucket):
    """Whoever wins, what is read is one of the versions, whole."""
    bodies = {bytes([65 + n]) * (200_000 + n) for n in range(6)}
    stop, wrong = threading.Event(), []

    def write(index: int):
        client, s3 = connect(server), boto(server)
        mine = sorted(bodies)[index]
        while not stop.is_set():
            client.put(bucket, "raced", mine)
            s3.put_object(Bucket=bucket, Key="raced", Body=mine)

    def read():
        client = connect(server)
        while not stop.is_set():
            answer = client.ask("GetObject", texts(bucket, "raced"))
            if answer.status == OK and answer.data not in bodies:
                wrong.append(answer)

    threads = [threading.Thread(target=write, args=[n]) for n in range(6)] + [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
