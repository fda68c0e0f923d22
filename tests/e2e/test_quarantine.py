"""Damaged objects on a running server: never a wrong byte, listed for the operator, gone when put anew."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import botocore.exceptions
import pytest
from conftest import boto

from jay_testing import Server

MIB = 1 << 20


def admin(server: Server, method: str, path: str, body: dict | None = None, token: str | None = None):
    """Status and JSON of a request to the admin API."""
    token = token or server.credentials()["admin_token"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.admin_port}/_jay/{path}", method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def blob_of(server: Server, start: bytes) -> Path:
    """The file of a large body that begins like this."""
    files = [path for path in (server.data_dir / "objects").rglob("*") if path.is_file()]
    found = [path for path in files if path.read_bytes().startswith(start)]
    assert len(found) == 1
    return found[0]


def flip(path: Path, at: int):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


@pytest.fixture
def damaged(new_server):
    """A server with one object of 4 MiB, one byte of which is wrong in its third."""
    server = new_server().start()
    body = os.urandom(4 * MIB)
    s3 = boto(server)
    s3.put_object(Bucket="default", Key="photo", Body=body, Metadata={"by": "me"})
    s3.put_object(Bucket="default", Key="other", Body=body[::-1])
    path = blob_of(server, body[:64])
    flip(path, 2 * MIB + 77)
    return server, s3, body, path


def test_a_body_that_is_wrong_in_its_midst_is_cut_off(damaged):
    server, s3, body, path = damaged
    link = s3.generate_presigned_url("get_object", {"Bucket": "default", "Key": "photo"})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", link.removeprefix(server.endpoint))
    answer = connection.getresponse()
    assert answer.status == 200 and int(answer.headers["Content-Length"]) == len(body)
    with pytest.raises(http.client.IncompleteRead) as broken:
        answer.read()
    # What came is right, and it is less than was promised.
    assert body.startswith(broken.value.partial) and len(broken.value.partial) <= 2 * MIB + 77
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.get_object(Bucket="default", Key="photo")
    error = refused.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 500 and error["Error"]["Code"] == "InternalError"
    assert "quarantined" in error["Error"]["Message"]
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.head_object(Bucket="default", Key="photo")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="default")["Contents"]] == ["other", "photo"]
    assert s3.get_object(Bucket="default", Key="other")["Body"].read() == body[::-1]


@pytest.mark.weakness(6)
def test_the_operator_sees_and_ends_a_quarantine(damaged):
    server, s3, body, path = damaged
    assert admin(server, "GET", "quarantine", token="x" * 64) == (401, {"error": "unauthorized"})
    assert admin(server, "GET", "quarantine") == (200, [])
    with pytest.raises(Exception):
        s3.get_object(Bucket="default", Key="photo")["Body"].read()
    status, [entry] = admin(server, "GET", "quarantine")
    assert status == 200 and (entry["bucket_name"], entry["key"], entry["size_bytes"]) == ("default", "photo", len(body))
    assert "checksum" in entry["reason"] or "sum" in entry["reason"]
    which = {"bucket_id": entry["bucket_id"], "key": "photo"}
    assert admin(server, "POST", "quarantine/revalidate", which) == (200, {"restored": False})
    # The bit flips back: a repaired file system, a copy put in place.
    flip(path, 2 * MIB + 77)
    assert admin(server, "POST", "quarantine/revalidate", which) == (200, {"restored": True})
    assert s3.get_object(Bucket="default", Key="photo")["Body"].read() == body
    status, answer = admin(server, "POST", "quarantine/revalidate", which)
    assert status == 404 and "photo" in answer["error"]
    status, state = admin(server, "GET", "upkeep")
    assert status == 200 and state["objects_quarantined"] == 1 and state["scrub"]["round_hours"] == 60


def test_the_operator_has_everything_read_now(damaged):
    server, _, body, _ = damaged
    status, scrub = admin(server, "POST", "scrub", {"everything": True})
    assert status == 202 and scrub["last_round"] is None
    deadline = time.monotonic() + 20
    while (scrub := admin(server, "GET", "scrub")[1])["last_round"] is None:
        assert time.monotonic() < deadline, scrub
        time.sleep(0.05)
    assert scrub["last_round"]["damaged"] == 1 and scrub["last_round"]["bytes"] == len(body)
    assert [entry["key"] for entry in admin(server, "GET", "quarantine")[1]] == ["photo"]


@pytest.mark.weakness(6)
def test_an_overwrite_or_a_purge_ends_a_quarantine(damaged):
    server, s3, body, path = damaged
    with pytest.raises(Exception):
        s3.get_object(Bucket="default", Key="photo")["Body"].read()
    s3.put_object(Bucket="default", Key="photo", Body=b"anew")
    assert s3.get_object(Bucket="default", Key="photo")["Body"].read() == b"anew"
    assert admin(server, "GET", "quarantine") == (200, [])
    flip(blob_of(server, body[::-1][:64]), 5)
    with pytest.raises(Exception):
        s3.get_object(Bucket="default", Key="other")["Body"].read()
    assert admin(server, "DELETE", "quarantine", {"mode": "some"})[0] == 400
    assert admin(server, "DELETE", "quarantine", {"mode": "all"}) == (200, {"purged": 1})
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="default")["Contents"]] == ["photo"]


def test_the_scrubber_of_a_server_finds_it_too(new_server):
    server = new_server().start()
    body = os.urandom(MIB)
    boto(server).put_object(Bucket="default", Key="unread", Body=body)
    path = blob_of(server, body[:64])
    assert server.stop() == 0
    path.write_bytes(path.read_bytes()[: MIB // 2])
    server.start()
    for _ in range(100):
        status, entries = admin(server, "GET", "quarantine")
        if entries:
            break
    assert [entry["key"] for entry in entries] == ["unread"] and "shorter" in entries[0]["reason"]
