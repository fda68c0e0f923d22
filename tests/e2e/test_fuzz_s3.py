"""Requests to the S3 port that are signed well and otherwise half nonsense: none of them is a failure of the server.

Each is a good request in which some things were changed. What a failure tells of it makes it again.
"""

import html
import json
import random
import re
import string
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from jay_testing import JAY, Answer, Client, Server, key_path

UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
BUCKETS = ["fuzz-a", "fuzz-b"]
KEYS = ["k", "dir/k", "a b+c/é&?#%"]
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get"]
VALUES = [
    "", " ", "0", "1", "-1", "2", "9", "10000", "10001", "1000", "1.5", "18446744073709551616", "9" * 400, "true", "url", "null",
    "%", "%00", "%zz", "/", "//", "..", "../x", "*", "?", "\\", '"', "'", "<x/>", "&amp;", "\x01", "é", "🚀", "\ufffe", "=", "&", "+",
    "a" * 1024, "a" * 1025, "a" * 9000, "bytes=0-", "bytes=-0", "bytes=5-2", "bytes=0-0,2-3", "bytes=-99999999999999999999",
    "Thu, 01 Jan 1970 00:00:00 GMT", "2026-01-01T00:00:00Z", 'W/"x"', "*/*", "gzip", "d41d8cd98f00b204e9800998ecf8427e",
    "1B2M2Y8AsgTpgAmY7PhCfg==", "AAAAAA==", "arn:aws:s3:::fuzz-a", "fuzz-a/k", "/fuzz-a/dir%2Fk?versionId=null", "public-read",
    "CRC32", "COMPOSITE", "FULL_OBJECT", "COPY", "REPLACE", "ENABLED", "STANDARD", "aws-chunked", "x-amz-checksum-crc32",
]  # fmt: skip
PARAMETERS = [
    "continuation-token", "delimiter", "encoding-type", "fetch-owner", "key-marker", "list-type", "marker", "max-keys", "max-parts",
    "max-uploads", "part-number-marker", "partNumber", "prefix", "response-cache-control", "response-content-disposition",
    "response-content-type", "response-expires", "start-after", "uploadId", "upload-id-marker", "versionId", "x-amz-acl",
    "x-amz-meta-a", "x-id",
]  # fmt: skip
# What names another operation, or none that is served.
SUB_RESOURCES = [
    "acl", "append", "attributes", "cors", "delete", "encryption", "legal-hold", "lifecycle", "location", "object-lock", "policy",
    "policyStatus", "replication", "restore", "retention", "select", "tagging", "torrent", "uploads", "versioning", "versions",
    "website", "X-Amz-Signature", "X-Jay-Token", "AWSAccessKeyId", "nonsense", "",
]  # fmt: skip
HEADERS = [
    "accept", "accept-encoding", "access-control-request-method", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-md5", "content-type", "cookie", "expires", "if-match", "if-modified-since", "if-none-match",
    "if-range", "if-unmodified-since", "origin", "range", "user-agent", "x-amz-acl", "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-checksum-mode", "x-amz-checksum-sha256", "x-amz-checksum-type",
    "x-amz-copy-source", "x-amz-copy-source-if-match", "x-amz-copy-source-if-modified-since", "x-amz-copy-source-range",
    "x-amz-decoded-content-length", "x-amz-grant-read", "x-amz-meta-a", "x-amz-meta-", "x-amz-metadata-directive",
    "x-amz-mp-object-size", "x-amz-sdk-checksum-algorithm", "x-amz-security-token", "x-amz-storage-class", "x-amz-tagging",
    "x-amz-tagging-directive", "x-amz-trailer", "x-forwarded-for", "x-http-method-override",
]  # fmt: skip
CHUNKED = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "4", "x-amz-trailer": "x-amz-checksum-crc32"}
CHUNKS = b"4\r\nbody\r\n0\r\nx-amz-checksum-crc32:u3Sw/w==\r\n\r\n"
TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
DOOMED = b"<Delete><Object><Key>k</Key></Object><Object><Key>gone</Key></Object></Delete>"
LOCATION = b"<CreateBucketConfiguration><LocationConstraint></LocationConstraint></CreateBucketConfiguration>"
ACL = """\
<AccessControlPolicy><Owner><ID>OWNER</ID></Owner><AccessControlList><Grant>
<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>OWNER</ID></Grantee>
<Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>"""


@dataclass
class Request:
    method: str
    bucket: str | None = None
    key: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    payload_sha256: str | None = None

    def send(self, client: Client) -> Answer:
        def quoted(text: str) -> str:
            return urllib.parse.quote(text, safe="~")

        bucket = quoted(self.bucket or "")
        path = f"/{bucket}" if self.key is None or not bucket else key_path(bucket, self.key)
        query = "&".join(sorted(f"{quoted(name)}={quoted(value)}" for name, value in self.parameters.items()))
        return client.request(self.method, path, query, self.body, self.headers, payload_sha256=self.payload_sha256)


class Requests:
    """Makes them. What answers have told, such as the ids of uploads, goes into later ones."""

    def __init__(self, account: str, token_id: str):
        self.account, self.token_id = account, token_id
        self.etags = ['"none"']
        # The part that was put last, and its ETag.
        self.uploads = {("fuzz-a", "k", "none"): ("1", "none")}

    def with_one_change(self) -> Iterator[Request]:
        """Every operation with another value of each of its parameters and headers, and with some that it does not know; good
        requests between them, so that there is something to ask for."""
        chance, changes = random.Random(0), []
        for operation, example in self.good(chance).items():
            for kind, others in [("parameters", PARAMETERS), ("headers", HEADERS)]:
                own = getattr(example, kind)
                changes += [(operation, kind, name, value) for name in own for value in VALUES]
                changes += [(operation, kind, name, chance.choice(VALUES)) for name in others for _ in range(2)]
        chance.shuffle(changes)
        for operation, *change in changes:
            request = self.good(chance)[operation]
            self.change(request, *change)
            yield request
            yield chance.choice(list(self.good(chance).values()))

    def with_some_changes(self, chance: random.Random) -> Request:
        request = chance.choice(list(self.good(chance).values()))
        kinds = [self.parameter, self.parameter, self.header, self.header, self.body, self.body, self.body, self.place, self.method]
        for change in chance.choices(kinds, k=chance.choice([1, 1, 1, 2, 4])):
            change(request, chance)
        return request

    def note(self, request: Request, answer: Answer) -> None:
        """The newest few are worth asking for."""
        for upload in re.findall(rb"<UploadId>([^<]+)</UploadId>", answer.body):
            self.uploads.setdefault((request.bucket, request.key, upload.decode()), ("1", "none"))
        etag, number = answer.headers.get("etag") or xml_text(answer.body, "ETag"), request.parameters.get("partNumber")
        if etag and number and answer.status == 200:
            self.uploads[request.bucket, request.key, request.parameters.get("uploadId")] = number, etag
        self.etags = [*self.etags, etag or "none"][-6:]
        self.uploads = dict(list(self.uploads.items())[-4:])

    def good(self, chance: random.Random) -> dict[str, Request]:
        """One of every operation."""
        bucket, key, etag = map(chance.choice, [BUCKETS, KEYS, self.etags])
        one, body = {"bucket": bucket, "key": key}, chance.choice([b"", b"body", b"x" * 5000, b"y" * 150_000])
        upload_bucket, upload_key, upload = chance.choice(list(self.uploads))
        to_upload = {"bucket": upload_bucket, "key": upload_key}
        part = {"partNumber": chance.choice("123"), "uploadId": upload}
        parts = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>".format(*self.uploads[upload_bucket, upload_key, upload])
        parts = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        access = ACL.replace("OWNER", self.account).encode()
        source = {"x-amz-copy-source": key_path(chance.choice(BUCKETS), chance.choice(KEYS))}
        acl, statement = {"acl": ""}, {
            "Sid": "s", "Effect": "Deny", "Principal": {"AWS": ["nobody"]}, "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/dir/*"],
            "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        }  # fmt: skip
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
        return {
            "ListBuckets": Request("GET"),
            "CreateBucket": Request("PUT", chance.choice(["fuzz-gone", bucket]), body=chance.choice([b"", LOCATION])),
            "HeadBucket": Request("HEAD", bucket),
            "DeleteBucket": Request("DELETE", "fuzz-gone"),
            "GetBucketStats": Request("GET", "_stats", bucket),
            "GetBucketLocation": Request("GET", bucket, None, {"location": ""}),
            "GetBucketVersioning": Request("GET", bucket, None, {"versioning": ""}),
            "GetBucketAcl": Request("GET", bucket, None, acl),
            "PutBucketAcl": Request("PUT", bucket, None, acl, *chance.choice([({"x-amz-acl": "private"}, b""), ({}, access)])),
            "GetBucketPolicy": Request("GET", bucket, None, {"policy": ""}),
            "PutBucketPolicy": Request("PUT", bucket, None, {"policy": ""}, body=policy),
            "DeleteBucketPolicy": Request("DELETE", bucket, None, {"policy": ""}),
            "GetBucketPolicyStatus": Request("GET", bucket, None, {"policyStatus": ""}),
            "ListObjects": Request("GET", bucket, None, {"delimiter": "/", "max-keys": "1", "marker": "a"}),
            "ListObjectsV2": Request("GET", bucket, None, {"list-type": "2", "prefix": "d", "encoding-type": "url"}),
            "DeleteObjects": Request("POST", bucket, None, {"delete": ""}, body=DOOMED),
            "PutObject": chance.choice([
                Request("PUT", **one, headers={"x-amz-meta-a": "b", "x-amz-tagging": "a=b", "content-type": "x/y"}, body=body),
                Request("PUT", **one, headers=CHUNKED, body=CHUNKS, payload_sha256=UNSIGNED_TRAILER),
            ]),
            "CopyObject": Request("PUT", **one, headers=source),
            "GetObject": Request("GET", **one, headers=chance.choice([{"range": "bytes=0-9"}, {"if-none-match": etag}, {}])),
            "HeadObject": Request("HEAD", **one, headers={"x-amz-checksum-mode": "ENABLED"}),
            "DeleteObject": Request("DELETE", **one),
            "GetObjectTagging": Request("GET", **one, parameters={"tagging": ""}),
            "PutObjectTagging": Request("PUT", **one, parameters={"tagging": ""}, body=TAGS),
            "DeleteObjectTagging": Request("DELETE", **one, parameters={"tagging": ""}),
            "GetObjectAcl": Request("GET", **one, parameters=acl),
            "PutObjectAcl": Request("PUT", **one, parameters=acl, headers={"x-amz-acl": "private"}),
            "CreateMultipartUpload": Request("POST", **one, parameters={"uploads": ""}),
            "UploadPart": Request("PUT", **to_upload, parameters=part, body=body),
            "UploadPartCopy": Request("PUT", **to_upload, parameters=part, headers=source),
            "CompleteMultipartUpload": Request("POST", **to_upload, parameters={"uploadId": upload}, body=parts.encode()),
            "AbortMultipartUpload": Request("DELETE", **to_upload, parameters={"uploadId": upload}),
            "ListParts": Request("GET", **to_upload, parameters={"uploadId": upload, "max-parts": "2"}),
            "ListMultipartUploads": Request("GET", bucket, None, {"uploads": "", "max-uploads": "2"}),
        }  # fmt: skip

    # What is changed in a request.

    def parameter(self, request: Request, chance: random.Random) -> None:
        known = list(request.parameters)
        name = chance.choice(chance.choice([known or PARAMETERS, PARAMETERS, PARAMETERS, SUB_RESOURCES]))
        self.change(request, "parameters", name, self.value(chance))

    def header(self, request: Request, chance: random.Random) -> None:
        name = chance.choice(chance.choice([list(request.headers) or HEADERS, HEADERS]))
        self.change(request, "headers", name, self.value(chance))

    def change(self, request: Request, kind: str, name: str, value: str) -> None:
        if kind == "headers":
            # What cannot be in a header never gets to the server, and of spaces side by side one is signed.
            value = re.sub("[\r\n]| +(?= )", "", value).encode().decode("latin-1")
        setattr(request, kind, getattr(request, kind) | {name: value})

    def body(self, request: Request, chance: random.Random) -> None:
        body, value = request.body, self.value(chance).encode()
        at, end = sorted(chance.choices(range(len(body) + 1), k=2))
        # Something else between two marks, as often as anywhere.
        marks = [found.end() for found in re.finditer(rb'[<>"=:]', body[:2000])]
        if marks and chance.random() < 0.5:
            at = chance.choice(marks)
            end = at + chance.randrange(20)
        piece = chance.choice([b"", value, body[at:end] * 2, chance.randbytes(3), b"<a>" * 300, b"\xff\xfe<"])
        request.body = body[:at] + piece + body[end:]

    def place(self, request: Request, chance: random.Random) -> None:
        if chance.random() < 0.5:
            request.bucket = chance.choice([*BUCKETS, "nobody-has-this", "_stats", self.value(chance)])
        else:
            request.key = chance.choice([*KEYS, "dir/", self.value(chance), None])

    def method(self, request: Request, chance: random.Random) -> None:
        request.method = chance.choice(METHODS)

    def value(self, chance: random.Random) -> str:
        noise = "".join(chance.choices(string.printable[:95], k=chance.randrange(12)))
        known = [self.account, self.token_id, *self.etags, *(upload or "" for _, _, upload in self.uploads)]
        return chance.choice([chance.choice(VALUES), chance.choice(VALUES), chance.choice(known), noise])


def xml_text(body: bytes, name: str) -> str:
    """What the first element of this name holds."""
    found = re.search(rb"<%b>([^<]+)</%b>" % (name.encode(), name.encode()), body)
    return html.unescape(found[1].decode()) if found else ""


@pytest.fixture
def server(new_server) -> Server:
    server = new_server(JAY_METRICS_PUBLIC="1", JAY_S3_MIN_PART_SIZE="1").start()
    for bucket in BUCKETS:
        assert server.client().request("PUT", f"/{bucket}").status == 200
    return server


def requests_for(server: Server) -> Requests:
    client = server.client()
    account = xml_text(client.request("GET", "/").body, "ID")
    return Requests(account, client.access_key_id)


def play(server: Server, requests: Requests, numbered: Iterable[Request]) -> None:
    """Sends them all. They must get everywhere, none may fail the server, and the store is as whole afterwards as ever."""
    client, told = server.client(), set()
    for number, request in enumerate(numbered):
        try:
            answer = request.send(client)
        except Exception as error:
            raise AssertionError(f"no answer to number {number}: {request}") from error
        is_there = answer.status < 500 or answer.status == 501 and (answer.code == "NotImplemented" or request.method == "HEAD")
        assert is_there, f"number {number}: {request}\n{answer}"
        requests.note(request, answer)
        told.add((answer.status, answer.code))
    with urllib.request.urlopen(f"{server.admin_endpoint}/metrics", timeout=20) as metrics:
        succeeded = re.findall(r'port="s3",operation="(\w+)",outcome="success"} [1-9]', metrics.read().decode())
    assert set(requests.good(random.Random())) <= set(succeeded)
    assert len(told) > 25, told
    assert client.request("GET", "/").status == 200 and "panicked" not in server.errors.read_text()
    checked = subprocess.run([JAY, "fsck"], env=server.environment(), capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked


def test_one_thing_that_is_wrong_does_not_fail_the_server(server):
    requests = requests_for(server)
    play(server, requests, requests.with_one_change())


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_is_sent_fails_the_server(server, everything, seed):
    requests = requests_for(server)
    numbers = range(50_000 if everything else 3_000)
    play(server, requests, (requests.with_some_changes(random.Random(f"{seed}/{number}")) for number in numbers))
