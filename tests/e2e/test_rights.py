"""Every operation against every rule, and one expected matrix: rights.txt. A front that forgets a check changes it.

A row is an operation, a column a caller under a rule. `+` is let in (whatever came of it), `-` is refused with AccessDenied,
`?` looks as if there were no such bucket. To see what has changed: `pytest tests/e2e/test_rights.py`, which prints the
matrix as it is; after a look at each difference it goes into the file.
"""

import base64
import datetime
import hashlib
import http.client
import json
import time
import urllib.parse
from pathlib import Path

import pytest
from test_quarantine import admin

from jay_testing import Answer, Client, Server

EXPECTED = Path(__file__).with_name("rights.txt")
BODY = b"body"
POLICY = {"version": "2024-01-01", "statements": []}
DELETES = b"<Delete><Quiet>true</Quiet><Object><Key>%s</Key></Object></Delete>"
TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
COMPLETE = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"
# A plausible upload that does not exist: whoever is let in learns that.
UPLOAD = "0" * 32

ACTIONS = [
    "bucket:list", "bucket:read-meta", "bucket:write-meta", "object:get", "object:put", "object:delete", "object:list",
    "multipart:create", "multipart:upload-part", "multipart:complete", "multipart:abort",
]  # fmt: skip


def operations(bucket: str, other: str, place: str) -> dict[str, tuple]:
    """Method, path, query, body and headers of each. `place` is the prefix of the keys: in/ or out/."""
    at, key = f"/{bucket}", f"/{bucket}/{place}key"
    prefix = urllib.parse.quote(place, safe="")
    source = {"x-amz-copy-source": key}
    return {
        "ListBuckets": ("GET", "/", "", b"", {}),
        "CreateBucket": ("PUT", f"/{bucket}-new", "", b"", {}),
        "HeadBucket": ("HEAD", at, "", b"", {}),
        "GetBucketLocation": ("GET", at, "location=", b"", {}),
        "GetBucketVersioning": ("GET", at, "versioning=", b"", {}),
        "GetBucketAcl": ("GET", at, "acl=", b"", {}),
        "BucketStats": ("GET", f"/_stats/{bucket}", "", b"", {}),
        "ListObjects": ("GET", at, f"prefix={prefix}", b"", {}),
        "ListObjectsV2": ("GET", at, f"list-type=2&prefix={prefix}", b"", {}),
        "ListMultipartUploads": ("GET", at, f"prefix={prefix}&uploads=", b"", {}),
        "PutObject": ("PUT", key, "", BODY, {}),
        "GetObject": ("GET", key, "", b"", {}),
        "HeadObject": ("HEAD", key, "", b"", {}),
        "GetObjectRange": ("GET", key, "", b"", {"range": "bytes=1-2"}),
        "GetObjectPart": ("GET", key, "partNumber=1", b"", {}),
        "GetObjectTagging": ("GET", key, "tagging=", b"", {}),
        "PutObjectTagging": ("PUT", key, "tagging=", TAGS, {}),
        "DeleteObjectTagging": ("DELETE", key, "tagging=", b"", {}),
        "GetObjectAcl": ("GET", key, "acl=", b"", {}),
        "PutObjectAcl": ("PUT", key, "acl=", b"", {"x-amz-acl": "private"}),
        "CopyObject from": ("PUT", f"/{other}/{place}copy", "", b"", source),
        "CopyObject to": ("PUT", f"{key}2", "", b"", {"x-amz-copy-source": f"/{other}/source"}),
        "CreateMultipartUpload": ("POST", f"{key}3", "uploads=", b"", {}),
        "UploadPart": ("PUT", key, f"partNumber=1&uploadId={UPLOAD}", BODY, {}),
        "UploadPartCopy from": ("PUT", f"/{other}/copy", f"partNumber=1&uploadId={UPLOAD}", b"", source),
        "ListParts": ("GET", key, f"uploadId={UPLOAD}", b"", {}),
        "CompleteMultipartUpload": ("POST", key, f"uploadId={UPLOAD}", COMPLETE, {}),
        "AbortMultipartUpload": ("DELETE", key, f"uploadId={UPLOAD}", b"", {}),
        "DeleteObject": ("DELETE", f"{key}9", "", b"", {}),
        "DeleteObjects": ("POST", at, "delete=", DELETES % f"{place}key9".encode(), {"content-md5": None}),
        "PutBucketAcl": ("PUT", at, "acl=", b"", {"x-amz-acl": None}),
        "DeleteBucket": ("DELETE", at, "", b"", {}),
        "GetBucketPolicyStatus": ("GET", at, "policyStatus=", b"", {}),
        "GetBucketPolicy": ("GET", at, "policy=", b"", {}),
        "PutBucketPolicy": ("PUT", at, "policy=", foreign_policy(bucket), {}),
        "DeleteBucketPolicy": ("DELETE", at, "policy=", b"", {}),
    }


def foreign_policy(bucket: str) -> bytes:
    """In AWS's form, and about nobody here."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    nobody = {"IpAddress": {"aws:SourceIp": "192.0.2.99/32"}}
    only = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": resources, "Condition": nobody}
    return json.dumps({"Version": "2012-10-17", "Statement": [only]}).encode()


class World:
    def __init__(self, server: Server):
        self.server = server
        self.owner = self.made("accounts", {"name": "owner"})["account_id"]
        self.stranger = self.made("accounts", {"name": "stranger"})["account_id"]
        self.owning = self.token(self.owner)
        self.buckets, self.statements = 0, {}

    def made(self, path: str, body: dict) -> dict:
        status, answer = admin(self.server, "POST", path, body)
        assert status == 201, answer
        return answer

    def token(self, account: str, **limits) -> Client:
        made = self.made("tokens", {"account_id": account, "name": "test", **limits})
        return Client(self.server.port, made["token_id"], made["secret"])

    def bucket(self, statements=None, public: bool = False) -> tuple[str, str]:
        """A bucket of the owner with objects, and another one that copies go to and come from: of the stranger and open to all."""
        self.buckets += 1
        name, other = f"rights-{self.buckets:03}", f"rights-{self.buckets:03}-other"
        for bucket in [name, other]:
            assert self.owning.request("PUT", f"/{bucket}").status == 200
        for path in [f"/{name}/in/key", f"/{name}/out/key", f"/{other}/source"]:
            assert self.owning.request("PUT", path, body=BODY).status == 200
        everybody = [{"effect": "allow", "actions": ["*"], "subjects": ["*"]}]
        self.policy(other, everybody)
        self.statements[name] = statements
        self.restore(name)
        if public:
            assert admin(self.server, "PUT", f"buckets/{name}/public", {"public_read": True})[0] < 300
        return name, other

    def restore(self, bucket: str) -> None:
        """Gives a bucket the policy that its rule wants."""
        if self.statements[bucket]:
            self.policy(bucket, self.statements[bucket])
        else:
            assert admin(self.server, "DELETE", f"buckets/{bucket}/policy")[0] == 204

    def policy(self, bucket: str, statements: list[dict]) -> None:
        status, answer = admin(self.server, "PUT", f"buckets/{bucket}/policy", POLICY | {"statements": statements})
        assert status < 300, answer


def statement(effect: str, *actions: str, subject: str = "*", **more) -> dict:
    return {"effect": effect, "actions": list(actions) or ["*"], "subjects": [subject], **more}


def near(*networks: str) -> dict:
    return {"conditions": {"ip_whitelist": list(networks)}}


def columns(world: World) -> dict[str, tuple]:
    """Per rule: how it signs, its bucket with the other one, and the prefix of the keys."""
    owner, stranger = world.owner, world.stranger
    everything, plain = world.token(stranger), world.bucket()
    rules = {"owner": (world.owning, plain, "in/")}
    rules |= {f"only {action}": (world.token(owner, allowed_actions=[action]), plain, "in/") for action in ACTIONS}
    elsewhere, below = world.token(owner, bucket_scope=["elsewhere"]), world.token(owner, prefix_scope=["in/"])
    rules["bucket scope, outside"] = (elsewhere, plain, "in/")
    rules["prefix scope, inside"] = (below, plain, "in/")
    rules["prefix scope, outside"] = (below, plain, "out/")
    rules["stranger"] = (everything, plain, "in/")
    rules["stranger, allowed all"] = (everything, world.bucket([statement("allow", subject=stranger)]), "in/")
    reading = world.bucket([statement("allow", "object:get", "object:list", subject=everything.access_key_id, prefixes=["in/"])])
    rules["stranger, allowed reading, inside"] = (everything, reading, "in/")
    rules["stranger, allowed reading, outside"] = (everything, reading, "out/")
    limited = world.token(stranger, allowed_actions=["object:get"])
    rules["stranger, allowed all, key reads only"] = (limited, world.bucket([statement("allow", subject=stranger)]), "in/")
    rules["stranger, allowed from elsewhere"] = (everything, world.bucket([statement("allow") | near("192.0.2.0/24")]), "in/")
    rules["stranger, allowed from here"] = (everything, world.bucket([statement("allow") | near("127.0.0.1")]), "in/")
    rules["stranger, denied all"] = (everything, world.bucket([statement("deny")]), "in/")
    both = [statement("allow"), statement("deny", prefixes=["in/"])]
    rules["stranger, allowed all, denied inside"] = (everything, world.bucket(both), "in/")
    rules["owner, denied inside"] = (world.owning, world.bucket([statement("deny", prefixes=["in/"])]), "in/")
    rules["owner, denied inside, outside"] = (world.owning, world.bucket([statement("deny", prefixes=["in/"])]), "out/")
    rules["owner, denied from here"] = (world.owning, world.bucket([statement("deny") | near("127.0.0.0/8", "::1")]), "in/")
    rules["owner, denied from elsewhere"] = (world.owning, world.bucket([statement("deny") | near("192.0.2.1")]), "in/")
    rules["owner, denied reading"] = (world.owning, world.bucket([statement("deny", "object:get")]), "in/")
    rules["anonymous"] = (None, plain, "in/")
    rules["anonymous, public"] = (None, world.bucket(public=True), "in/")
    rules["stranger, public"] = (everything, world.bucket(public=True), "in/")
    rules["anonymous, public, denied"] = (None, world.bucket([statement("deny", prefixes=["in/"])], public=True), "in/")
    rules["anonymous, allowed all"] = (None, world.bucket([statement("allow")]), "in/")
    rules["anonymous, allowed reading"] = (None, world.bucket([statement("allow", "object:get", prefixes=["in/"])]), "in/")
    revoked = world.token(owner)
    assert admin(world.server, "DELETE", f"tokens/{revoked.access_key_id}")[0] == 204
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    expired = world.token(owner, expires_at=soon.isoformat())
    time.sleep(1.1)
    rules |= {"revoked": (revoked, plain, "in/"), "expired": (expired, plain, "in/")}
    rules["suspended"] = (world.token(world.made("accounts", {"name": "suspended"})["account_id"]), plain, "in/")
    return rules


def ask(world: World, client: Client | None, operation: tuple, is_public: bool) -> str:
    method, path, query, body, headers = operation
    headers = dict(headers)
    if "content-md5" in headers:
        headers["content-md5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
    if "x-amz-acl" in headers and headers["x-amz-acl"] is None:
        headers["x-amz-acl"] = "public-read" if is_public else "private"
    if client:
        answer = client.request(method, path, query, body, headers)
    else:
        answer = unsigned(world.server, method, path, query, body, headers)
    code = answer.code if answer.body else {403: "AccessDenied", 404: "NoSuchBucket"}.get(answer.status, "")
    if method == "HEAD" and answer.status == 404:
        # Without a body: the objects are there, so it is the bucket.
        code = "NoSuchBucket"
    if answer.status == 200 and b"<Code>AccessDenied</Code>" in answer.body:
        code = "AccessDenied"
    if code in ("AccessDenied", "InvalidAccessKeyId"):
        return "-"
    if code == "NoSuchBucket" or b"bucket not found" in answer.body:
        return "?"
    assert answer.status < 500 or answer.status == 501, (operation, answer)
    assert code not in ("SignatureDoesNotMatch", "InvalidRequest", "MalformedXML", "NotImplemented"), (operation, answer)
    return "+"


def unsigned(server: Server, method: str, path: str, query: str, body: bytes, headers: dict):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path + (f"?{query}" if query else ""), body=body or None, headers=headers | {"content-length": str(len(body))})
    return Answer(connection.getresponse())


@pytest.fixture
def world(new_server) -> World:
    return World(new_server().start())


def test_every_operation_under_every_rule(world):
    rules = columns(world)
    suspended = next(account for account in admin(world.server, "GET", "accounts")[1] if account["name"] == "suspended")
    assert admin(world.server, "PATCH", f"accounts/{suspended['account_id']}", {"status": "suspended"})[0] == 200
    names = list(operations("b", "o", ""))
    table = {name: "" for name in names}
    for rule, (client, (bucket, other), place) in rules.items():
        for name, operation in operations(bucket, other, place).items():
            table[name] += ask(world, client, operation, "public" in rule)
            if name == "PutBucketPolicy":
                world.restore(bucket)
        # What was let in may have changed something.
        world.owning.request("PUT", f"/{bucket}/in/key", body=BODY)
        world.owning.request("DELETE", f"/{bucket}-new")
        world.restore(bucket)
    lines = [f"{i:>2} {rule}" for i, rule in enumerate(rules)]
    width = max(map(len, names)) + 2
    digits = ["".join(f"{i:02}"[row] for i in range(len(rules))) for row in (0, 1)]
    found = "\n".join([*lines, "", *(" " * width + row for row in digits), *(f"{name:<{width}}{row}" for name, row in table.items()), ""])
    expected = EXPECTED.read_text() if EXPECTED.exists() else ""
    if found != expected:
        print(found)
    assert found.splitlines() == expected.splitlines()


def test_links_carry_the_rights_of_their_token_at_the_moment(world):
    """Both kinds: revoked, or denied by a policy that came later, they are of no use any more."""
    bucket, _ = world.bucket()
    token = world.token(world.owner)
    asked = {"token_id": token.access_key_id, "method": "GET", "bucket": bucket, "key": "in/key", "expires_seconds": 600}
    links = []
    for style in ["jay", "sigv4"]:
        status, answer = admin(world.server, "POST", "presign", asked | ({"style": style} if style == "sigv4" else {}))
        assert status == 200, answer
        links.append(urllib.parse.urlsplit(answer["url"]))

    def statuses() -> list[int]:
        return [unsigned(world.server, "GET", link.path, link.query, b"", {}).status for link in links]

    assert statuses() == [200, 200]
    world.policy(bucket, [statement("deny", "object:get", prefixes=["in/"], subject=token.access_key_id)])
    assert statuses() == [403, 403]
    world.policy(bucket, [statement("deny", "object:put")])
    assert statuses() == [200, 200]
    assert admin(world.server, "DELETE", f"tokens/{token.access_key_id}")[0] == 204
    assert statuses() == [403, 403]
