"""What no SDK sends: broken bodies, broken framing, skewed clocks, sub-resources that are not there yet."""

import datetime
import hashlib
import http.client
import json
import time
import urllib.request

import pytest

from jay_testing import Answer, files_below, key_path, read_answer

TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def put(client, path: str, body: bytes = b"kept"):
    answer = client.request("PUT", path, body=body)
    assert answer.status == 200, answer
    return answer


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_a_body_that_breaks_off_stores_nothing(server, client, bucket, size):
    put(client, f"/{bucket}/old")
    files = len(files_below(server.data_dir / "objects"))
    for key in ["new", "old"]:
        with client.socket() as stream:
            stream.sendall(client.head_bytes("PUT", f"/{bucket}/{key}", headers={"content-length": str(size)}))
            stream.sendall(b"x" * (size // 2))
    time.sleep(0.5)
    assert client.request("GET", f"/{bucket}/new").code == "NoSuchKey"
    assert client.request("GET", f"/{bucket}/old").body == b"kept"
    assert len(files_below(server.data_dir / "objects")) == files


def test_a_body_that_ends_early_is_answered(client, bucket):
    """The client closes only its sending half: it still wants to know."""
    with client.socket() as stream:
        stream.sendall(client.head_bytes("PUT", f"/{bucket}/k", headers={"content-length": "1000"}) + b"x" * 500)
        stream.shutdown(1)
        answer = read_answer(stream)
    assert answer is None or (answer.status, answer.code) == (400, "IncompleteBody"), answer
    assert client.request("GET", f"/{bucket}/k").code == "NoSuchKey"


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n", b"4\r\nabcdef\r\n0\r\n\r\n", b"-4\r\nabcd\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nabcd\r\n0\r\n\r\n",
        b"4\r\nabcd\r\n", b"4\r\nabcd\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", b"4\nabcd\n0\n\n", b"\r\n", b"4" * 70_000,
    ],
    ids=range(9),
)  # fmt: skip
def test_malformed_chunks_store_nothing(client, bucket, body):
    put(client, f"/{bucket}/k")
    headers = {
        "content-encoding": "aws-chunked", "x-amz-decoded-content-length": "4", "x-amz-trailer": "x-amz-checksum-crc32",
    }  # fmt: skip
    answer = client.request("PUT", f"/{bucket}/k", body=body, headers=headers, payload_sha256=TRAILER)
    assert 400 <= answer.status < 500 and answer.code, answer
    assert client.request("GET", f"/{bucket}/k").body == b"kept"


@pytest.mark.weakness(1)
def test_well_formed_chunks(client, bucket):
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "9", "x-amz-trailer": "x-amz-checksum-crc32"}
    body = b"4\r\n1234\r\n5\r\n56789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n"
    answer = client.request("PUT", f"/{bucket}/k", body=body, headers=headers, payload_sha256=TRAILER)
    assert answer.status == 200, answer
    got = client.request("GET", f"/{bucket}/k")
    assert got.body == b"123456789" and "content-encoding" not in got.headers


@pytest.mark.weakness(1)
def test_a_body_with_another_hash_is_refused(client, bucket):
    put(client, f"/{bucket}/k")
    other = hashlib.sha256(b"other").hexdigest()
    answer = client.request("PUT", f"/{bucket}/k", body=b"lost", payload_sha256=other)
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch"), answer
    assert client.request("GET", f"/{bucket}/k").body == b"kept"


@pytest.mark.parametrize("body", [b"", b"<Delete>", b"<Delete><Object></Object></Delete>", b"\xff\xfe", b"<a/>", b"{}"], ids=range(6))
def test_malformed_xml(client, bucket, body):
    put(client, f"/{bucket}/k")
    answer = client.request("POST", f"/{bucket}", "delete=", body)
    assert (answer.status, answer.code) in [(400, "MalformedXML"), (400, "MissingRequestBodyError")], answer
    assert client.request("GET", f"/{bucket}/k").body == b"kept"


OBJECT_SUB_RESOURCES = ["tagging", "retention", "legal-hold", "torrent", "attributes", "restore", "uploads"]
# There are operations on them.
IMPLEMENTED = ["tagging", "uploads"]
BUCKET_SUB_RESOURCES = [
    "policy", "cors", "lifecycle", "versioning", "website", "tagging", "encryption", "notification", "replication",
    "logging", "object-lock", "ownershipControls", "publicAccessBlock", "accelerate", "inventory", "metrics", "analytics",
]  # fmt: skip


@pytest.mark.weakness(3)
@pytest.mark.parametrize("name", OBJECT_SUB_RESOURCES)
def test_sub_resources_of_objects_do_not_touch_them(client, bucket, name):
    """The original ran the plain operation: PUT key?tagging overwrote the object, DELETE key?tagging deleted it."""
    put(client, f"/{bucket}/k")
    for method in ["PUT", "DELETE", "GET", "POST"]:
        answer = client.request(method, f"/{bucket}/k", f"{name}=", b"<x/>" if method in ("PUT", "POST") else b"")
        if name not in IMPLEMENTED:
            assert answer.status in (501, 405) and answer.code in ("NotImplemented", "MethodNotAllowed"), (method, answer)
        assert client.request("GET", f"/{bucket}/k").body == b"kept", method


@pytest.mark.weakness(3)
@pytest.mark.parametrize("name", BUCKET_SUB_RESOURCES)
def test_sub_resources_of_buckets_do_not_touch_them(client, bucket, name):
    for method in ["PUT", "DELETE", "GET"]:
        answer = client.request(method, f"/{bucket}", f"{name}=", b"<x/>" if method == "PUT" else b"")
        if (method, name) == ("GET", "versioning"):
            assert answer.status == 200 and b"<Status>" not in answer.body, answer
            continue
        if name == "policy":
            expected = {"PUT": (400, "MalformedPolicy"), "DELETE": (204, None), "GET": (404, "NoSuchBucketPolicy")}
            assert (answer.status, answer.code) == expected[method], answer
            continue
        assert answer.status in (501, 405) and answer.code in ("NotImplemented", "MethodNotAllowed"), (method, answer)
    assert client.request("HEAD", f"/{bucket}").status == 200


def test_a_form_is_not_asked_for_a_signature(server, bucket):
    """A presigned POST brings its signature in its body; "sign the request" sent its owner to look for a wrong key."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", f"/{bucket}", b"--x--", {"content-type": "multipart/form-data; boundary=x"})
    answer = Answer(connection.getresponse())
    assert (answer.status, answer.code) == (501, "NotImplemented"), answer


def test_a_skewed_clock(client, bucket):
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes in [-16, 16]:
        answer = client.request("GET", f"/{bucket}", now=now + datetime.timedelta(minutes=minutes))
        assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed"), answer
    assert client.request("GET", f"/{bucket}", now=now - datetime.timedelta(minutes=13)).status == 200


@pytest.mark.weakness(19)
def test_errors_carry_the_request_id_of_the_log(server, client, bucket):
    answer = client.request("GET", key_path(bucket, "no such key"))
    request_id = answer.headers["x-amz-request-id"]
    assert len(request_id) == 16 and f"<RequestId>{request_id}</RequestId>".encode() in answer.body
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if request_id in line]
    assert len(lines) == 1, lines
    line = lines[0]
    known = {name: line[name] for name in ["method", "operation", "bucket", "key", "status", "error_code", "peer"]}
    assert known == {
        "method": "GET", "operation": "GetObject", "bucket": bucket, "key": "no such key", "status": 404,
        "error_code": "NoSuchKey", "peer": "127.0.0.1",
    }  # fmt: skip
    assert line["token_id"] == client.access_key_id and line["bytes_out"] == len(answer.body)
    assert line["level"] == "INFO" and line["msg"] == "request" and line["total_ms"] >= line["ttfb_ms"]


def test_anonymous_callers_are_refused(server, bucket):
    for path in [f"/{bucket}", f"/{bucket}/k"]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(server.endpoint + path)
        assert caught.value.code == 403


def test_a_browser_gets_a_page(server):
    request = urllib.request.Request(server.endpoint + "/", headers={"Accept": "text/html,application/xhtml+xml"})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["content-type"].startswith("text/html")
        assert b"Jay" in answer.read()


def test_not_http_at_all(server, client):
    for text in [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\0" * 100, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]:
        with client.socket() as stream:
            stream.sendall(text)
            stream.shutdown(1)
            answer = read_answer(stream)
            assert answer is None or answer.status == 400, (text, answer)
    assert server.ready()
