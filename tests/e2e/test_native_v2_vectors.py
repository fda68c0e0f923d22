"""The bytes of version 2, against a client that shares no code with the codec that made the file.

What each struct has, and of which type, is said here anew, after PROTOCOL.md: bytes are made of the JSON and JSON of the bytes.
"""

import json
import struct
from pathlib import Path

import pytest

from native_v2 import (
    CRC32C, CRC64, HEAD_BYTES, HEADER, MAGIC, OPERATIONS, Handshake, encode, entries, fields, head, mapping, number, sums, u32, u64,
)  # fmt: skip

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "native-client/wire/tests/vectors_v2.json").read_text())

# Types: text, hex (bytes), nonce, u32, i32, u64 (moments too), flag, map, a struct by its name, [a list of one].
DETAILS = {1: ("cache_control", "text"), 2: ("content_disposition", "text"), 3: ("content_encoding", "text"),
           4: ("content_language", "text"), 5: ("expires", "text")}  # fmt: skip
KEY = {1: ("bucket", "text"), 2: ("key", "text")}
UPLOAD = KEY | {3: ("upload_id", "text")}
BUCKET = {1: ("bucket", "text")}
STORED = {1: ("etag", "text"), 2: ("checksum", "text")}
MESSAGES = {
    # Around and beside operations.
    "Call": {0x4001: ("request_id", "text"), 0x4002: ("deadline_ms", "u32"), 0xC003: ("session", "Session"), 0xC004: ("body", "Body")},
    "Reply": {0x4001: ("request_id", "text"), 0xC004: ("body", "Body")},
    "Session": {1: ("id", "hex"), 2: ("sequence", "u64"), 3: ("lowest", "u64"), 4: ("again", "flag")},
    "Body": {1: ("sums", ["u32"]), 2: ("crc64", "u64"), 3: ("follows", "flag"), 4: ("size", "u64")},
    "Chunk": {1: ("sums", ["u32"])},
    "End": {1: ("size", "u64"), 2: ("crc64", "u64"), 0x8003: ("failure", "Failure")},
    "Failure": {1: ("code", "u32"), 2: ("message", "text"), 3: ("s3_code", "text"), 4: ("retry_after_ms", "u32")},
    "GoAway": {1: ("failure", "Failure")},
    "ClientHello": {1: ("token_id", "text"), 2: ("nonce", "nonce"), 3: ("agent", "text"), 0x8004: ("bulk", "flag")},
    "ServerHello": {1: ("nonce", "nonce"), 2: ("agent", "text"), 3: ("streams_max", "u32"), 4: ("inline_bytes_max", "u32")},
    "Empty": {},
    # Parts of others.
    "ContentHeaders": DETAILS,
    "Tag": {1: ("key", "text"), 2: ("value", "text")},
    "TagSet": {1: ("tags", ["Tag"])},
    "Checksum": {1: ("algorithm", "text"), 2: ("value", "hex"), 3: ("is_composite", "flag")},
    "ByteRange": {1: ("start", "u64"), 2: ("end", "u64"), 3: ("suffix", "u64")},
    "WriteConditions": {0x8001: ("if_match", "text"), 0x8002: ("if_none_match", "text")},
    "ReadConditions": {0x8001: ("if_match", ["text"]), 0x8002: ("if_none_match", ["text"]), 0x8003: ("if_modified_since", "u64"),
                       0x8004: ("if_unmodified_since", "u64")},
    "Description": {1: ("content_type", "text"), 2: ("headers", "ContentHeaders"), 3: ("metadata", "map")},
    # Buckets.
    "CreateBucket": BUCKET | {0x8002: ("public_read", "flag")},
    "DeleteBucket": BUCKET,
    "HeadBucket": BUCKET,
    "BucketInfo": {1: ("bucket_id", "text"), 2: ("name", "text"), 3: ("created_at", "u64"), 4: ("visibility", "text"),
                   5: ("owner", "text"), 6: ("quota_bytes", "u64")},
    "ListBuckets": {},
    "BucketList": {1: ("buckets", ["BucketEntry"])},
    "BucketEntry": {1: ("name", "text"), 2: ("created_at", "u64")},
    # Objects.
    "PutObject": KEY | {3: ("content_type", "text"), 4: ("metadata", "map"), 5: ("headers", "ContentHeaders"), 6: ("tags", ["Tag"]),
                        0x8007: ("conditions", "WriteConditions"), 0x8008: ("checksum", "Checksum"), 9: ("without_digests", "flag")},
    "Stored": STORED | {3: ("version", "text"), 4: ("crc64", "u64"), 5: ("size", "u64"), 6: ("last_modified", "u64")},
    "GetObject": KEY | {0x8003: ("range", "ByteRange"), 0x8004: ("part_number", "u32"), 0x8005: ("conditions", "ReadConditions")},
    "HeadObject": KEY | {0x8005: ("conditions", "ReadConditions")},
    "ObjectInfo": {1: ("content_type", "text"), 2: ("size", "u64"), 3: ("etag", "text"), 4: ("checksum", "text"),
                   5: ("last_modified", "u64"), 6: ("metadata", "map"), 7: ("version", "text"), 8: ("crc64", "u64"),
                   9: ("headers", "ContentHeaders"), 10: ("chosen_checksum", "Checksum"), 11: ("tag_count", "u32"),
                   12: ("parts_count", "u32"), 13: ("range_start", "u64")},
    "DeleteObject": KEY | {0x8003: ("if_match", "text"), 0x8004: ("if_match_size", "u64"), 0x8005: ("if_match_modified", "u64")},
    "CopyObject": KEY | {3: ("source_bucket", "text"), 4: ("source_key", "text"), 0x8005: ("replace", "Description"),
                         0x8006: ("replace_tags", "TagSet"), 0x8007: ("source_conditions", "ReadConditions"),
                         0x8008: ("conditions", "WriteConditions")},
    "GetRanges": KEY | {3: ("ranges", ["ByteRange"]), 0x8004: ("conditions", "ReadConditions")},
    "RangesInfo": {1: ("object", "ObjectInfo"), 2: ("lengths", ["u64"])},
    "HeadObjects": BUCKET | {2: ("keys", ["text"])},
    "HeadOutcomes": {1: ("outcomes", ["HeadOutcome"])},
    "HeadOutcome": {1: ("object", "ObjectInfo"), 2: ("failure", "Failure")},
    "DeleteObjects": BUCKET | {2: ("keys", ["text"])},
    "DeleteOutcomes": {1: ("outcomes", ["DeleteOutcome"])},
    "DeleteOutcome": {1: ("failure", "Failure")},
    "DeletePrefix": BUCKET | {2: ("prefix", "text"), 3: ("start_after", "text")},
    "DeletedPrefix": {1: ("deleted", "u64"), 2: ("is_truncated", "flag"), 3: ("next_start_after", "text")},
    "GetObjectTagging": KEY,
    "PutObjectTagging": KEY | {3: ("tags", ["Tag"])},
    "DeleteObjectTagging": KEY,
    # Listings.
    "ListObjects": BUCKET | {2: ("prefix", "text"), 3: ("delimiter", "text"), 4: ("start_after", "text"), 5: ("max_keys", "i32"),
                             6: ("with_metadata", "flag")},
    "ObjectPage": {1: ("objects", ["ObjectEntry"]), 2: ("common_prefixes", ["text"]), 3: ("is_truncated", "flag"),
                   4: ("next_start_after", "text")},
    "ObjectEntry": {1: ("key", "text"), 2: ("size", "u64"), 3: ("etag", "text"), 4: ("checksum", "text"), 5: ("last_modified", "u64"),
                    6: ("content_type", "text"), 7: ("version", "text"), 8: ("crc64", "u64"), 9: ("metadata", "map"),
                    10: ("headers", "ContentHeaders")},
    # Multipart uploads.
    "CreateMultipartUpload": KEY | {3: ("content_type", "text"), 4: ("metadata", "map"), 5: ("headers", "ContentHeaders"), 6: ("tags", ["Tag"])},
    "Upload": {1: ("upload_id", "text")},
    "UploadPart": UPLOAD | {4: ("part_number", "u32")},
    "CompleteMultipartUpload": UPLOAD | {4: ("part_numbers", ["u32"]), 0x8005: ("parts", ["PartNamed"]),
                                         0x8006: ("conditions", "WriteConditions"), 0x8007: ("size", "u64")},
    "PartNamed": {1: ("part_number", "u32"), 2: ("etag", "text")},
    "Completed": STORED | {3: ("size", "u64"), 4: ("version", "text"), 5: ("crc64", "u64"), 6: ("last_modified", "u64")},
    "AbortMultipartUpload": UPLOAD,
    "ListParts": UPLOAD | {4: ("after", "u32"), 5: ("max_parts", "u32")},
    "PartList": {1: ("parts", ["PartEntry"]), 2: ("is_truncated", "flag")},
    "PartEntry": {1: ("part_number", "u32"), 2: ("size", "u64"), 3: ("etag", "text"), 4: ("checksum", "text"), 5: ("crc64", "u64"),
                  6: ("last_modified", "u64")},
    "ListMultipartUploads": BUCKET | {2: ("prefix", "text"), 3: ("delimiter", "text"), 4: ("key_marker", "text"),
                                      5: ("upload_id_marker", "text"), 6: ("max_uploads", "u32")},
    "UploadPage": {1: ("uploads", ["UploadEntry"]), 2: ("common_prefixes", ["text"]), 3: ("is_truncated", "flag"),
                   4: ("next_key_marker", "text"), 5: ("next_upload_id_marker", "text")},
    "UploadEntry": {1: ("key", "text"), 2: ("upload_id", "text"), 3: ("initiated", "u64")},
    # The server.
    "Ping": {},
    "GetServerInfo": {},
    "ServerInfo": {1: ("version", "text"), 2: ("store_id", "text"), 3: ("region", "text"), 4: ("now", "u64"), 5: ("token_id", "text"),
                   6: ("account_id", "text")},
    "OpenSession": {},
    "SessionInfo": {1: ("id", "hex"), 2: ("lifetime_ms", "u32")},
}  # fmt: skip


def packed(kind, value):
    """A value as the client of the tests takes it."""
    match kind:
        case [one]:
            return [packed(one, entry) for entry in value]
        case "text":
            return value
        case "hex":
            return bytes.fromhex(value)
        case "nonce":
            return bytes(value)
        case "u32":
            return u32(value)
        case "i32":
            return struct.pack(">i", value)
        case "u64":
            return u64(value)
        case "flag":
            return bool(value)
        case "map":
            return mapping(value)
    tags = {name: (tag, inner) for tag, (name, inner) in MESSAGES[kind].items()}
    return {tags[name][0]: packed(tags[name][1], inner) for name, inner in value.items()}


def unpacked(kind, value: bytes):
    """The JSON of bytes."""
    match kind:
        case [one]:
            return [unpacked(one, entry) for entry in entries(value)]
        case "text":
            return value.decode()
        case "hex":
            return value.hex()
        case "nonce":
            assert len(value) == 16
            return list(value)
        case "u32" | "u64":
            assert len(value) == {"u32": 4, "u64": 8}[kind]
            return number(value)
        case "i32":
            return struct.unpack(">i", value)[0]
        case "flag":
            assert value == b"\x01"
            return True
        case "map":
            texts = [entry.decode() for entry in entries(value)]
            return dict(zip(texts[::2], texts[1::2], strict=True))
    return named(kind, fields(value))


def named(kind: str, found: dict[int, bytes]) -> dict:
    """The JSON of a struct whose fields were found."""
    known = {tag & 0x7FFF: field for tag, field in MESSAGES[kind].items()}
    return {known[tag][0]: unpacked(known[tag][1], value) for tag, value in found.items()}


def data_of(vector: dict) -> bytes:
    match vector["data"]:
        case {"pattern": count}:
            return bytes(i * 7 % 251 for i in range(count))
    return bytes.fromhex(vector["data"])


def of_kind(kind: str) -> list:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["kind"] == kind]


@pytest.mark.parametrize("vector", of_kind("frame"))
def test_frames(vector):
    data, told = data_of(vector), bytes.fromhex(vector["hex"])
    envelope = vector.get("envelope", {"message": "Call", "fields": {}})
    metadata = encode(packed(vector["message"], vector["fields"]) | packed(envelope["message"], envelope["fields"]))
    first = head(vector["code"], vector["stream_id"], len(metadata), len(data), CRC32C.calc(metadata))
    assert first + metadata == told

    code, stream, metadata_len, data_len = HEADER.unpack(told[: HEADER.size])
    assert (code, stream, data_len) == (vector["code"], vector["stream_id"], len(data))
    metadata = told[HEAD_BYTES:]
    assert len(metadata) == metadata_len
    found = fields(metadata)
    assert named(vector["message"], {tag: found[tag] for tag in found if tag < 0x4000}) == vector["fields"]
    assert named(envelope["message"], {tag: found[tag] for tag in found if tag >= 0x4000}) == envelope["fields"]
    body = envelope["fields"].get("body") or (vector["fields"] if vector["message"] == "Chunk" else {})
    if data:
        assert [u32(told) for told in body["sums"]] == sums(data)
    if "crc64" in body:
        assert body["crc64"] == CRC64.calc(data)


@pytest.mark.parametrize("vector", of_kind("hello"))
def test_hellos(vector):
    metadata = encode(packed(vector["message"], vector["fields"]))
    told = bytes.fromhex(vector["hex"])
    assert MAGIC + bytes([2, vector["step"]]) + struct.pack(">H", len(metadata)) + metadata == told
    assert unpacked(vector["message"], told[8:]) == vector["fields"]


@pytest.mark.parametrize("vector", of_kind("proof"))
def test_proofs(vector):
    handshake = Handshake("", vector["secret"])
    handshake.hello, handshake.answer = bytes.fromhex(vector["client_hello"]), bytes.fromhex(vector["server_hello"])
    exported = vector["exported"] and bytes.fromhex(vector["exported"])
    assert handshake.proof(b"client", exported).hex() == vector["client_proof"]
    assert MAGIC + b"\x02\0\0\x20" + handshake.proof(b"server", exported) == bytes.fromhex(vector["server_proof"])


def test_every_operation_and_frame_has_a_vector():
    codes = {vector["code"] for vector in VECTORS if vector["kind"] == "frame"}
    assert set(OPERATIONS.values()) <= codes
    assert {vector["message"] for vector in VECTORS if "message" in vector} <= set(MESSAGES)
