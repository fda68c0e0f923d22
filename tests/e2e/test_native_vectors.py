"""The recorded frames of the first client and server, played to the real server: what comes back is the same to the byte.

Not compared are the bytes that name moments and ids (`volatile` in the vectors), and the checksum of multipart uploads,
which is another one here (PROTOCOL.md). Of the answers marked `original_bug` this file holds the right form.
"""

import hashlib
import json
import time
from pathlib import Path

import pytest
from test_quarantine import admin

from native import BAD_REQUEST, FORBIDDEN, HEADER, OK, Closed, Native, frame, texts

ROOT = Path(__file__).resolve().parents[2]
VECTORS = json.loads((ROOT / "native-client/wire/tests/native-v1-vectors.json").read_text())
FULL = ("vec-full", "vec-full-secret")
SECRETS = {"JAY_ADMIN_TOKEN": "an admin token of the vectors, 32 bytes", "JAY_SIGNING_SECRET": "a signing secret of the vectors, 32+"}
SEED = {"JAY_SEED_TOKEN_ACCOUNT": "a", "JAY_SEED_TOKEN_ID": FULL[0], "JAY_SEED_TOKEN_SECRET": FULL[1]}
# Of what was wrong: the status and code that are right, where those are all that matters.
RIGHT = {
    "complete_multipart.missing_part": (BAD_REQUEST, "InvalidPart"),
    "complete_multipart.no_parts": (BAD_REQUEST, "MalformedXML"),
    "allowed.list_outside_prefix": (FORBIDDEN, "AccessDenied"),
    "raw.put_empty_key_no_data": (BAD_REQUEST, "InvalidArgument"),
    "raw.put_empty_key_with_data": (BAD_REQUEST, "InvalidArgument"),
}


def exchanges() -> list[tuple[dict, dict]]:
    """Request and answer of each, in the order in which they were recorded."""
    pending, found = None, []
    for vector in VECTORS:
        if vector["direction"] == "client_to_server":
            pending = vector
        elif pending and vector["name"].removesuffix(".response") == pending["name"].removesuffix(".request"):
            found.append((pending, vector))
            pending = None
    return found


def masked(answer: bytes, expected: dict) -> bytes:
    answer = bytearray(answer)
    for place in expected.get("volatile", []):
        answer[place["offset"] : place["offset"] + place["length"]] = b"*" * place["length"]
    return bytes(answer)


def without_checksum(answer: bytes, expected: dict) -> bytes:
    """Without the lengths that it changes, and with the checksum of a multipart upload as it was recorded."""
    recorded = expected["decoded"].get("meta", {}).get("checksum_sha256", "")
    composite = next((word for word in answer.split(b"\0") if word[1:].endswith(b"-2") and len(word) == 67), None)
    if composite is None or not recorded:
        return answer
    answer = answer.replace(b"\0" + composite, b"\0\x40" + recorded.encode())
    code, stream, metadata, data = HEADER.unpack_from(answer)
    return HEADER.pack(code, stream, metadata - 2, data) + answer[HEADER.size :]


class Replay:
    def __init__(self, server):
        self.server = server
        self.main = Native(server.native_port, *FULL)
        self.upload_id = None

    def request(self, vector: dict) -> bytes:
        data = bytearray.fromhex(vector["hex"])
        for place in vector.get("volatile", []):
            if place["field"] == "upload_id" and vector["name"] != "upload_part.no_such_upload.request":
                data[place["offset"] : place["offset"] + 36] = self.upload_id.encode()
        if vector.get("data_omitted"):
            data += bytes(i * 7 % 251 for i in range((1 << 20) + 17))
        return bytes(data)

    def play(self, native: Native, asked: dict, expected: dict) -> None:
        name = asked["name"].removesuffix(".request")
        answer = native.ask_raw(self.request(asked))
        if name in RIGHT:
            assert (answer.status, answer.code) == RIGHT[name], (name, answer)
            return
        if expected["op"] == "CreateMultipartUpload" and answer.status == OK:
            (self.upload_id,) = answer.texts(1)
        found = HEADER.pack(answer.status, answer.stream, len(answer.metadata), len(answer.data)) + answer.metadata
        if expected.get("data_omitted"):
            assert hashlib.sha256(answer.data).hexdigest() == expected["decoded"]["data"]["sha256"], name
        else:
            found += answer.data
        recorded = bytes.fromhex(expected["hex"])
        if name == "raw.head_with_data":
            # What comes behind is the answer to a request that was none.
            recorded = recorded[: len(found)]
        found = without_checksum(found, expected)
        assert masked(found, expected) == masked(recorded, expected), (name, answer, recorded)


def ask_raw(self, data: bytes):
    self.send(data)
    return self.answer()


Native.ask_raw = ask_raw


@pytest.fixture
def server(new_server):
    return new_server(**SECRETS, **SEED).start()


def test_every_recorded_exchange_is_answered_to_the_byte(server):
    replay = Replay(server)
    status, account = admin(server, "GET", "accounts")
    assert status == 200, account
    scopes = {"allowed_actions": ["object:get", "object:list"], "bucket_scope": ["alpha"], "prefix_scope": ["docs/"]}
    asked = {"account_id": account[0]["account_id"], "name": "vec-readonly"} | scopes
    status, readonly = admin(server, "POST", "tokens", asked)
    assert status == 201, readonly
    connections = {"main": replay.main}
    played = 0
    for asked, expected in exchanges():
        name, where = asked["name"].removesuffix(".request"), asked["connection"]
        if asked["op"] == "handshake" or where == "limited" or name in ALONE:
            continue
        if name == "list_objects.empty_bucket":
            for key in ["p/a/1", "p/a/2", "p/b", "p/c/1", "p/d"]:
                assert replay.main.put("alpha", key, key.encode()).status == OK
        if where == "readonly" and where not in connections:
            connections[where] = Native(server.native_port, readonly["token_id"], readonly["secret"])
        if where == "main2" and where not in connections:
            deny = {"effect": "deny", "actions": ["object:get"], "prefixes": ["p/"], "subjects": ["*"]}
            policy = {"version": "2024-01-01", "statements": [deny]}
            assert admin(server, "PUT", "buckets/alpha/policy", policy)[0] < 300
            connections[where] = Native(server.native_port, *FULL)
        native = connections.get(where) or Native(server.native_port, *FULL)
        replay.play(native, asked, expected)
        # Whatever was refused, the connection goes on.
        assert native.ask("Ping", stream=77).stream == 77, name
        played += 1
    assert played > 65, played


# Exchanges with a test of their own: there is no answer, or another connection.
ALONE = {
    "raw.meta_too_large", "raw.negative_data_len", "raw.put_error_over_drain_limit", "raw.put_truncated_body",
    "list_objects.delimiter_page1", "list_objects.delimiter_page2_wrong_cursor",
}  # fmt: skip


def vector(name: str) -> bytes:
    return bytes.fromhex(next(it["hex"] for it in VECTORS if it["name"] == name))


def test_handshakes(server):
    """Recorded ones, and those that were answered wrongly."""
    for asked, expected in exchanges():
        if asked["op"] != "handshake":
            continue
        name = asked["name"].removesuffix(".request")
        native = Native(server.native_port)
        native.send(bytes.fromhex(asked["hex"]))
        if name == "handshake.short":
            native.socket.shutdown(1)
        if name in ("handshake.bad_magic", "handshake.short"):
            assert native.is_closed(), name
            continue
        wanted = 1 if name == "handshake.empty_credentials" else expected["decoded"]["status"]
        assert native.welcome() == wanted, name
        if wanted:
            assert native.is_closed(), name
        else:
            assert native.ask("Ping").status == OK, name


def test_what_cannot_go_on_is_closed(server):
    main = Native(server.native_port, *FULL)
    assert main.ask("CreateBucket", texts("alpha")).status == OK
    for name in ["raw.meta_too_large", "raw.negative_data_len"]:
        native = Native(server.native_port, *FULL)
        native.send(vector(f"{name}.request"))
        assert native.is_closed(), name
    native = Native(server.native_port, *FULL)
    native.send(vector("raw.put_error_over_drain_limit.request"))
    assert native.answer().code == "NoSuchBucket"
    assert native.is_closed()
    native = Native(server.native_port, *FULL)
    native.send(vector("raw.put_truncated_body.request"))
    native.socket.shutdown(1)
    with pytest.raises(Closed):
        native.answer()
    assert main.ask("HeadObject", texts("alpha", "truncated")).code == "NoSuchKey"


def test_two_requests_in_one_write_are_answered_in_order(server):
    main = Native(server.native_port, *FULL)
    assert main.ask("CreateBucket", texts("alpha")).status == OK
    main.send(frame("Ping", stream=1) + frame("HeadBucket", texts("alpha"), stream=2))
    recorded = next(it for it in VECTORS if it["name"] == "raw.pipelined.response_2")
    assert main.answer().stream == 1
    answer = main.answer()
    found = HEADER.pack(answer.status, answer.stream, len(answer.metadata), 0) + answer.metadata
    assert masked(found, recorded) == masked(bytes.fromhex(recorded["hex"]), recorded)


def test_a_listing_by_prefixes_comes_to_an_end(server):
    """A page that ended with a common prefix was asked for again and again."""
    main = Native(server.native_port, *FULL)
    assert main.ask("CreateBucket", texts("alpha")).status == OK
    for key in ["p/a/1", "p/a/2", "p/b", "p/c/1", "p/d"]:
        assert main.put("alpha", key, b"").status == OK
    answer = main.ask_raw(vector("list_objects.delimiter_page1.request"))
    # No object, the common prefix p/a/, truncated, and the cursor.
    assert answer.metadata == b"\0\0" + b"\0\x01" + texts("p/a/") + b"\x01" + texts("p/a/"), answer
    answer = main.ask("ListObjects", texts("alpha", "p/", "/", "p/a/") + b"\0\0\0\x02")
    assert b"p/c/" in answer.metadata and b"p/a/" not in answer.metadata
    answer = main.ask("ListObjects", texts("alpha", "p/", "/", "p/c/") + b"\0\0\0\x02")
    assert answer.metadata.endswith(b"\0\0" + b"\0" + texts("p/d")), "the last page"


def test_who_sends_too_much_is_told_and_goes_on(new_server):
    server = new_server(**SECRETS, **SEED, JAY_RATE_LIMIT="1", JAY_RATE_BURST="1").start()
    native = Native(server.native_port, *FULL)
    limited = [pair for pair in exchanges() if pair[0]["connection"] == "limited"]
    assert [asked["name"] for asked, _ in limited] == ["rate_limited.put_object.request", "rate_limited.ping_after_a_second.request"]
    assert native.ask("Ping").status == OK
    for asked, expected in limited:
        answer = native.ask_raw(bytes.fromhex(asked["hex"]))
        found = HEADER.pack(answer.status, answer.stream, len(answer.metadata), 0) + answer.metadata
        assert found.hex() == expected["hex"], asked["name"]
        time.sleep(1.2)
