"""Every operation of every front against every rule, and one expected matrix: rights.txt. A front that forgets a check changes it.

A row is an operation; a column is a caller under a rule and the way in which it proves who it is. `+` is let in (whatever came
of it), `-` is refused, `?` looks as if there were no such bucket. To see what has changed: `pytest tests/e2e/test_rights.py`,
which prints a table as it is now; after a look at each difference it goes into the file.
"""

import base64
import datetime
import hashlib
import http.client
import json
import re
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from test_admin import SECRET, TOKEN, ask, made
from test_presigned import link, presigned, presigned_v2

from native import FORBIDDEN, INTERNAL, OPERATIONS, Native, numbers, text, texts
from native_v2 import OK, PROCEED, NativeV2, entries, fields, number, u32, u64
from native_v2 import Frame as FrameV2

from jay_testing import JAY, Answer, Client, Server

EXPECTED = Path(__file__).with_name("rights.txt")
WIRE = Path(__file__).resolve().parents[2] / "native-client/wire"
BODY = b"body"
POLICY = {"version": "2024-01-01", "statements": []}
DELETES = b"<Delete><Quiet>true</Quiet><Object><Key>%s</Key></Object></Delete>"
TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
COMPLETE = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"
# A plausible upload that does not exist: whoever is let in learns that.
UPLOAD = "0" * 32
WRONG = "w" * 40
# The server with faults that it can be told to have.
PLANTED = JAY.with_name("jay-planted")

# What no right has decided: then something is wrong with what we send.
UNHEARD = [
    "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidRequest", "InvalidToken", "MalformedXML",
    "NotImplemented", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch",
]  # fmt: skip

ACTIONS = [
    "bucket:list", "bucket:read-meta", "bucket:write-meta", "object:get", "object:put", "object:delete", "object:list",
    "multipart:create", "multipart:upload-part", "multipart:complete", "multipart:abort",
]  # fmt: skip


class Asked(NamedTuple):
    """What an operation asks for, before anybody has signed it."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: dict[str, str] = {}


def operations(bucket: str, other: str, place: str, acl: str) -> dict[str, Asked]:
    """All that the S3 front serves. `place` is the prefix of the keys: in/ or out/."""
    at, key = f"/{bucket}", f"/{bucket}/{place}key"
    prefix = urllib.parse.quote(place, safe="")
    source = {"x-amz-copy-source": key}
    deletes = DELETES % f"{place}key9".encode()
    digest = base64.b64encode(hashlib.md5(deletes).digest()).decode()
    part = f"partNumber=1&uploadId={UPLOAD}"
    return {
        "ListBuckets": Asked("GET", "/"),
        "CreateBucket": Asked("PUT", f"/{bucket}-new"),
        "HeadBucket": Asked("HEAD", at),
        "GetBucketLocation": Asked("GET", at, "location="),
        "GetBucketVersioning": Asked("GET", at, "versioning="),
        "GetBucketAcl": Asked("GET", at, "acl="),
        "GetBucketStats": Asked("GET", f"/_stats/{bucket}"),
        "ListObjects": Asked("GET", at, f"prefix={prefix}"),
        "ListObjectsV2": Asked("GET", at, f"list-type=2&prefix={prefix}"),
        "ListMultipartUploads": Asked("GET", at, f"prefix={prefix}&uploads="),
        "PutObject": Asked("PUT", key, body=BODY),
        "GetObject": Asked("GET", key),
        "HeadObject": Asked("HEAD", key),
        "GetObjectRange": Asked("GET", key, headers={"range": "bytes=1-2"}),
        "GetObjectPart": Asked("GET", key, "partNumber=1"),
        "GetObjectTagging": Asked("GET", key, "tagging="),
        "PutObjectTagging": Asked("PUT", key, "tagging=", TAGS),
        "DeleteObjectTagging": Asked("DELETE", key, "tagging="),
        "GetObjectAcl": Asked("GET", key, "acl="),
        "PutObjectAcl": Asked("PUT", key, "acl=", headers={"x-amz-acl": "private"}),
        "CopyObject from": Asked("PUT", f"/{other}/{place}copy", headers=source),
        "CopyObject to": Asked("PUT", f"{key}2", headers={"x-amz-copy-source": f"/{other}/source"}),
        "CreateMultipartUpload": Asked("POST", f"{key}3", "uploads="),
        "UploadPart": Asked("PUT", key, part, BODY),
        "UploadPartCopy from": Asked("PUT", f"/{other}/copy", part, headers=source),
        "ListParts": Asked("GET", key, f"uploadId={UPLOAD}"),
        "CompleteMultipartUpload": Asked("POST", key, f"uploadId={UPLOAD}", COMPLETE),
        "AbortMultipartUpload": Asked("DELETE", key, f"uploadId={UPLOAD}"),
        "DeleteObject": Asked("DELETE", f"{key}9"),
        "DeleteObject if": Asked("DELETE", f"{key}9", headers={"if-match": '"x"'}),
        "DeleteObjects": Asked("POST", at, "delete=", deletes, {"content-md5": digest}),
        "PutBucketAcl": Asked("PUT", at, "acl=", headers={"x-amz-acl": acl}),
        "DeleteBucket": Asked("DELETE", at),
        "GetBucketPolicyStatus": Asked("GET", at, "policyStatus="),
        "GetBucketPolicy": Asked("GET", at, "policy="),
        "PutBucketPolicy": Asked("PUT", at, "policy=", foreign_policy(bucket)),
        "DeleteBucketPolicy": Asked("DELETE", at, "policy="),
    }


def foreign_policy(bucket: str) -> bytes:
    """In AWS's form, and about nobody here."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    nobody = {"IpAddress": {"aws:SourceIp": "192.0.2.99/32"}}
    only = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": resources, "Condition": nobody}
    return json.dumps({"Version": "2012-10-17", "Statement": [only]}).encode()


# The ways to prove who asks. Each makes a target and headers of what is asked.


def by_nothing(_: None, asked: Asked) -> tuple[str, dict[str, str]]:
    return target(asked), asked.headers


def by_header(client: Client, asked: Asked, minutes: int = 0) -> tuple[str, dict[str, str]]:
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    payload_sha256 = hashlib.sha256(asked.body).hexdigest()
    return target(asked), client.headers(asked.method, asked.path, asked.query, payload_sha256, asked.headers, now)


def by_bearer(client: Client, asked: Asked) -> tuple[str, dict[str, str]]:
    return target(asked), asked.headers | {"authorization": f"Bearer {client.access_key_id}:{client.secret}"}


def by_sigv4_query(client: Client, asked: Asked, minutes: int = 0) -> tuple[str, dict[str, str]]:
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    signed = {name: value for name, value in asked.headers.items() if name.startswith("x-amz-")}
    return presigned(client, asked.method, asked.path, dict(pairs(asked)), headers=signed, now=now), asked.headers


def by_sigv2_query(client: Client, asked: Asked, minutes: int = 1) -> tuple[str, dict[str, str]]:
    """Version 2 does not sign the parameters of a listing."""
    query = [pair for pair in asked.query.split("&") if not re.match("prefix=|list-type=|$", pair)]
    rest = [pair for pair in asked.query.split("&") if pair and pair not in query]
    lines = "".join(f"{name}:{value}\n" for name, value in asked.headers.items() if name.startswith("x-amz-"))
    # A bucket is signed with a slash behind it.
    path = asked.path if asked.path.count("/") > 1 else asked.path.rstrip("/") + "/"
    url = presigned_v2(
        client, asked.method, path, "&".join(query), int(time.time()) + minutes * 60, lines, digest=asked.headers.get("content-md5", "")
    )
    return "&".join([url, *rest]), asked.headers


def by_link(client: Client, asked: Asked, minutes: int = 1, secret: str = SECRET) -> tuple[str, dict[str, str]]:
    expires = int(time.time()) + minutes * 60
    return link(asked.method, asked.path, pairs(asked), expires, client.access_key_id, secret), asked.headers


def by_less(by: Callable, client: Client, asked: Asked) -> tuple[str, dict[str, str]]:
    """Signed is the plain request for the path; what makes it this operation is added by whoever got hold of that."""
    signed, headers = by(client, asked._replace(query="", headers={}))
    query = f"{'&' if '?' in signed else '?'}{asked.query}" if asked.query else ""
    return signed + query, headers | asked.headers


def target(asked: Asked) -> str:
    return asked.path + (f"?{asked.query}" if asked.query else "")


def pairs(asked: Asked) -> list[tuple[str, str]]:
    return urllib.parse.parse_qsl(asked.query, keep_blank_values=True)


class World:
    def __init__(self, server: Server):
        self.server = server
        self.owner, self.stranger = self.account("owner"), self.account("stranger")
        self.owning = self.token(self.owner)
        self.buckets, self.statements = 0, {}

    def account(self, name: str) -> str:
        return made(self.server, "accounts", {"name": name})["account_id"]

    def token(self, account: str, **limits) -> Client:
        token = made(self.server, "tokens", {"account_id": account, "name": "test", **limits})
        return Client(self.server.port, token["token_id"], token["secret"])

    def revoke(self, client: Client) -> None:
        assert ask(self.server, "DELETE", f"tokens/{client.access_key_id}")[0] == 204

    def suspend(self, account: str) -> None:
        assert ask(self.server, "PATCH", f"accounts/{account}", {"status": "suspended"})[0] == 200

    def bucket(self, *statements: dict, public: bool = False) -> tuple[str, str]:
        """A bucket of the owner with objects, and another one that copies go to and come from and that is open to all."""
        self.buckets += 1
        name, other = f"rights-{self.buckets:03}", f"rights-{self.buckets:03}-other"
        for bucket in [name, other]:
            assert self.owning.request("PUT", f"/{bucket}").status == 200
        for path in [f"/{name}/in/key", f"/{name}/out/key", f"/{other}/source"]:
            assert self.owning.request("PUT", path, body=BODY).status == 200
        self.policy(other, statement("allow"))
        self.policy(name, *statements)
        if public:
            assert ask(self.server, "PUT", f"buckets/{name}/public", {"public_read": True})[0] < 300
        return name, other

    def policy(self, bucket: str, *statements: dict) -> None:
        self.statements[bucket] = statements
        self.restore(bucket)

    def restore(self, bucket: str) -> None:
        """Gives a bucket the policy that its rule wants."""
        method, body = ("PUT", POLICY | {"statements": self.statements[bucket]}) if self.statements[bucket] else ("DELETE", None)
        status, answer = ask(self.server, method, f"buckets/{bucket}/policy", body)
        assert status < 300, answer


def statement(effect: str, *actions: str, subject: str = "*", **more) -> dict:
    return {"effect": effect, "actions": list(actions) or ["*"], "subjects": [subject], **more}


def near(*networks: str) -> dict:
    return {"conditions": {"ip_whitelist": list(networks)}}


@dataclass
class Rule:
    """A caller under a rule."""

    client: Client | None
    # The bucket that it is about, and the other one.
    buckets: tuple[str, str]
    # The prefix of the keys.
    place: str = "in/"
    by: Callable = by_header
    # What happens between the signing and the asking.
    since: Callable[[], None] = lambda: None
    # Its proof is wrong, and may be refused as that.
    is_wrong: bool = False
    is_public: bool = False


def rules_of_headers(world: World, expired: Client) -> dict[str, Rule]:
    owner, stranger = world.owner, world.stranger
    owning, everything, plain = world.owning, world.token(stranger), world.bucket()
    rules = {"owner": Rule(owning, plain)}
    rules |= {f"only {action}": Rule(world.token(owner, allowed_actions=[action]), plain) for action in ACTIONS}
    elsewhere, below = world.token(owner, bucket_scope=["elsewhere"]), world.token(owner, prefix_scope=["in/"])
    rules["bucket scope, outside"] = Rule(elsewhere, plain)
    rules["prefix scope, inside"] = Rule(below, plain)
    rules["prefix scope, outside"] = Rule(below, plain, "out/")
    rules["stranger"] = Rule(everything, plain)
    rules["stranger, allowed all"] = Rule(everything, world.bucket(statement("allow", subject=stranger)))
    reading = world.bucket(statement("allow", "object:get", "object:list", subject=everything.access_key_id, prefixes=["in/"]))
    rules["stranger, allowed reading, inside"] = Rule(everything, reading)
    rules["stranger, allowed reading, outside"] = Rule(everything, reading, "out/")
    limited = world.token(stranger, allowed_actions=["object:get"])
    rules["stranger, allowed all, key reads only"] = Rule(limited, world.bucket(statement("allow", subject=stranger)))
    rules["stranger, allowed from elsewhere"] = Rule(everything, world.bucket(statement("allow") | near("192.0.2.0/24")))
    rules["stranger, allowed from here"] = Rule(everything, world.bucket(statement("allow") | near("127.0.0.1")))
    rules["stranger, denied all"] = Rule(everything, world.bucket(statement("deny")))
    both = [statement("allow"), statement("deny", prefixes=["in/"])]
    rules["stranger, allowed all, denied inside"] = Rule(everything, world.bucket(*both))
    rules["owner, denied inside"] = Rule(owning, world.bucket(statement("deny", prefixes=["in/"])))
    rules["owner, denied inside, outside"] = Rule(owning, world.bucket(statement("deny", prefixes=["in/"])), "out/")
    rules["owner, denied from here"] = Rule(owning, world.bucket(statement("deny") | near("127.0.0.0/8", "::1")))
    rules["owner, denied from elsewhere"] = Rule(owning, world.bucket(statement("deny") | near("192.0.2.1")))
    rules["owner, denied reading"] = Rule(owning, world.bucket(statement("deny", "object:get")))
    nobody = partial(Rule, None, by=by_nothing)
    rules["anonymous"] = nobody(plain)
    rules["anonymous, public"] = nobody(world.bucket(public=True), is_public=True)
    rules["stranger, public"] = Rule(everything, world.bucket(public=True), is_public=True)
    rules["anonymous, public, denied"] = nobody(world.bucket(statement("deny", prefixes=["in/"]), public=True), is_public=True)
    rules["anonymous, allowed all"] = nobody(world.bucket(statement("allow")))
    rules["anonymous, allowed reading"] = nobody(world.bucket(statement("allow", "object:get", prefixes=["in/"])))
    revoked, suspended = world.token(owner), world.account("suspended")
    rules["revoked"] = Rule(revoked, plain, since=lambda: world.revoke(revoked))
    rules["expired"] = Rule(expired, plain)
    rules["suspended"] = Rule(world.token(suspended), plain, since=lambda: world.suspend(suspended))
    rules["wrong secret"] = Rule(wrong(owning), plain, is_wrong=True)
    rules["signed 20 minutes ago"] = Rule(owning, plain, by=partial(by_header, minutes=-20), is_wrong=True)
    rules["signed without what it asks for"] = Rule(owning, plain, by=partial(by_less, by_header), is_wrong=True)
    rules["the admin token as access key"] = Rule(Client(world.server.port, TOKEN, TOKEN), plain)
    return rules


def wrong(client: Client) -> Client:
    return Client(client.port, client.access_key_id, WRONG)


def rules_of(world: World, by: Callable, expired: Rule, forged: Rule, less: Rule | None) -> dict[str, Rule | None]:
    """The rules for another way to prove who asks; three of them are special to it."""
    owner, stranger = world.owner, world.stranger
    owning, below, plain = world.owning, world.token(owner, prefix_scope=["in/"]), world.bucket()
    reader = world.token(stranger)
    reading = world.bucket(statement("allow", "object:get", subject=reader.access_key_id, prefixes=["in/"]))
    denied, revoked, suspended = world.bucket(), world.token(owner), world.account("suspended")
    deny = statement("deny", "object:get", "object:put", prefixes=["in/"])
    rule = partial(Rule, by=by)
    return {
        "owner": rule(owning, plain),
        "only object:get": rule(world.token(owner, allowed_actions=["object:get"]), plain),
        "prefix scope, inside": rule(below, plain),
        "prefix scope, outside": rule(below, plain, "out/"),
        "stranger": rule(world.token(stranger), plain),
        "stranger, allowed key reads, inside": rule(reader, reading),
        "stranger, allowed key reads, outside": rule(reader, reading, "out/"),
        "owner, denied get and put inside after signing": rule(owning, denied, since=lambda: world.policy(denied[0], deny)),
        "revoked after signing": rule(revoked, plain, since=lambda: world.revoke(revoked)),
        "suspended after signing": rule(world.token(suspended), plain, since=lambda: world.suspend(suspended)),
        "expired": expired,
        "wrong signature or secret": forged,
        "signed without what it asks for": less,
    }


def other_rules(world: World, expired: Client) -> dict[str, dict[str, Rule | None]]:
    plain, owning = world.bucket(), world.owning

    def by_url(by: Callable, forged: Rule) -> dict[str, Rule | None]:
        late = Rule(owning, plain, by=partial(by, minutes=-2))
        less = Rule(owning, plain, by=partial(by_less, by), is_wrong=True)
        return rules_of(world, by, late, forged, less)

    def forged(by: Callable) -> Rule:
        return Rule(wrong(owning), plain, by=by, is_wrong=True)

    # A link is signed with the secret of the store; that of its access key is of no use there.
    by_own_secret = Rule(owning, plain, by=partial(by_link, secret=owning.secret))
    return {
        "SigV4 query": by_url(by_sigv4_query, forged(by_sigv4_query)),
        "SigV2 query": by_url(by_sigv2_query, forged(by_sigv2_query)),
        "X-Jay link": by_url(by_link, by_own_secret),
        "bearer": rules_of(world, by_bearer, Rule(expired, plain, by=by_bearer), forged(by_bearer), None),
    }


def send(port: int, asked: Asked, target: str, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(asked.method, target, asked.body or None, headers | {"content-length": str(len(asked.body))})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def verdict(rule: Rule, asked: Asked, answer: Answer) -> str:
    code = answer.code if answer.body else {403: "AccessDenied", 404: "NoSuchBucket"}.get(answer.status, "")
    if answer.status == 200 and b"<Code>AccessDenied</Code>" in answer.body:
        code = "AccessDenied"
    refused = ["AccessDenied", "InvalidAccessKeyId"] + ["SignatureDoesNotMatch", "RequestTimeTooSkewed"] * rule.is_wrong
    if code in refused:
        return "-"
    # An answer to HEAD has no code; the objects are there, so it is the bucket.
    if code == "NoSuchBucket" or b"bucket not found" in answer.body:
        return "?"
    assert answer.status < 500 or answer.status == 501, (asked, answer)
    assert code not in UNHEARD, (rule, asked, answer)
    return "+"


def column(world: World, rule: Rule | None) -> dict[str, str]:
    """What becomes of each operation."""
    if rule is None:
        return dict.fromkeys(operations("b", "o", "", ""), " ")
    bucket, other = rule.buckets
    asked = operations(bucket, other, rule.place, "public-read" if rule.is_public else "private")
    signed = {name: rule.by(rule.client, operation) for name, operation in asked.items()}
    rule.since()
    verdicts = {}
    for name, (url, headers) in signed.items():
        verdicts[name] = verdict(rule, asked[name], send(world.server.port, asked[name], url, headers))
        if name == "PutBucketPolicy":
            world.restore(bucket)
    # What was let in may have changed something.
    world.owning.request("PUT", f"/{bucket}/in/key", body=BODY)
    world.owning.request("DELETE", f"/{bucket}-new")
    world.restore(bucket)
    return verdicts


def table(title: str, legend: list[str], groups: dict[str, list[dict[str, str]]]) -> str:
    """Columns under their numbers; `groups` of them side by side, each under its name."""
    lines = [f"== {title}", "", *(f"{i:>2} {rule}" for i, rule in enumerate(legend)), ""]
    rows = list(next(iter(groups.values()))[0])
    width = max(map(len, rows)) + 2
    line = lambda name, cells: (f"{name:<{width}}" + "  ".join(cells)).rstrip()  # noqa: E731
    if len(groups) > 1:
        lines.append(line("", [f"{name:<{len(legend)}}" for name in groups]))
    for digit in (0, 1):
        lines.append(line("", ["".join(f"{i:02}"[digit] for i in range(len(legend)))] * len(groups)))
    lines += [line(row, ["".join(column[row] for column in columns) for columns in groups.values()]) for row in rows]
    return "\n".join(lines) + "\n"


def expected(found: str) -> str:
    """The table of the file that has the title of this one."""
    tables = re.split("^(?=== )", EXPECTED.read_text(), flags=re.MULTILINE)
    return next((table.rstrip("\n") + "\n" for table in tables if table.splitlines()[:1] == found.splitlines()[:1]), "")


def must_be_expected(found: str) -> None:
    if found != expected(found):
        print(found)
    assert found.splitlines() == expected(found).splitlines()


@pytest.fixture
def world(new_server) -> World:
    return World(new_server(JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET).start())


def expired_key(world: World) -> Client:
    """An access key of the owner whose time is over."""
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    client = world.token(world.owner, expires_at=soon.isoformat())
    time.sleep(1.1)
    return client


def table_of_headers(world: World) -> str:
    rules = rules_of_headers(world, expired_key(world))
    columns = [column(world, rule) for rule in rules.values()]
    return table("S3, signed in the Authorization header, or not at all", list(rules), {"": columns})


def table_of_other_proofs(world: World) -> str:
    ways = other_rules(world, expired_key(world))
    groups = {way: [column(world, rule) for rule in rules.values()] for way, rules in ways.items()}
    return table("S3, by every other proof", list(ways["bearer"]), groups)


@pytest.mark.weakness(20, 21)
def test_every_operation_under_every_rule(world):
    must_be_expected(table_of_headers(world))


@pytest.mark.weakness(21)
def test_every_operation_by_every_other_proof(world):
    must_be_expected(table_of_other_proofs(world))


def test_every_operation_is_a_row(world):
    """All that the router serves, but the page for browsers; and each is what it is called."""
    router = (Path(__file__).resolve().parents[2] / "server/src/s3/router.rs").read_text()
    served = set(re.findall(r'Self::\w+ => "(\w+)"', router)) - {"Welcome"}
    column(world, Rule(world.owning, world.bucket()))
    lines = [json.loads(line) for line in world.server.log.read_text().splitlines()]
    assert served and served <= {line.get("operation") for line in lines}


def native_operations(bucket: str, place: str) -> dict[str, tuple[bytes, bytes]]:
    """Metadata and data of every operation of the native protocol but Ping, which asks for no right."""
    key, upload = texts(bucket, f"{place}key"), text(UPLOAD)
    return {
        "ListBuckets": (b"", b""),
        "CreateBucket": (texts(f"{bucket}-new"), b""),
        "HeadBucket": (texts(bucket), b""),
        "ListObjects": (texts(bucket, place, "", "") + bytes(4), b""),
        "PutObject": (key + text("") + bytes(2), BODY),
        "GetObject": (key, b""),
        "HeadObject": (key, b""),
        "CreateMultipartUpload": (key + text(""), b""),
        "UploadPart": (key + upload + b"\0\0\0\x01", BODY),
        "ListParts": (key + upload, b""),
        "CompleteMultipartUpload": (key + upload + numbers(1), b""),
        "AbortMultipartUpload": (key + upload, b""),
        "DeleteObject": (texts(bucket, f"{place}key9"), b""),
        "DeleteBucket": (texts(bucket), b""),
    }


def native_column(world: World, rule: Rule) -> dict[str, str]:
    """What becomes of each operation on a connection that was there before the rule began to hold."""
    bucket, _ = rule.buckets
    asked = native_operations(bucket, rule.place)
    open_before = {name: Native(world.server.native_port, rule.client.access_key_id, rule.client.secret) for name in asked}
    rule.since()
    verdicts = {}
    for name, (metadata, data) in asked.items():
        native = open_before[name]
        answer = native.ask(name, metadata, data) if native.status == 0 else None
        native.close()
        refused = answer is None or answer.status == FORBIDDEN
        verdicts[name] = "-" if refused else "?" if answer.code == "NoSuchBucket" else "+"
        assert refused or answer.status != INTERNAL, (name, answer)
    world.owning.request("PUT", f"/{bucket}/in/key", body=BODY)
    world.owning.request("DELETE", f"/{bucket}-new")
    return verdicts


def native_rules(world: World) -> dict[str, Rule]:
    """The rules of the callers who have an access key, which is all that this port knows."""
    rules = rules_of_headers(world, expired_key(world))
    return {name: rule for name, rule in rules.items() if rule.client and not name.startswith("signed ")}


def table_of_native(world: World) -> str:
    rules = native_rules(world)
    columns = [native_column(world, rule) for rule in rules.values()]
    return table("Native", list(rules), {"": columns})


@pytest.mark.weakness(20, 21, 23)
def test_every_native_operation_under_every_rule(world):
    assert set(native_operations("b", "")) | {"Ping"} == set(OPERATIONS)
    must_be_expected(table_of_native(world))


class AskedV2(NamedTuple):
    """What an operation of version 2 asks for. `s3` is the row of what S3 calls the same, if it has that."""

    operation: str
    fields: dict = {}
    data: bytes | None = None
    s3: str | None = None


def native_v2_operations(bucket: str, other: str, place: str) -> dict[str, AskedV2]:
    """Every operation of version 2."""
    key, gone = {1: bucket, 2: f"{place}key"}, {1: bucket, 2: f"{place}key9"}
    upload = key | {3: UPLOAD}
    return {
        "Ping": AskedV2("Ping"),
        "GetServerInfo": AskedV2("GetServerInfo"),
        "OpenSession": AskedV2("OpenSession"),
        "ListBuckets": AskedV2("ListBuckets", s3="ListBuckets"),
        "CreateBucket": AskedV2("CreateBucket", {1: f"{bucket}-new"}, s3="CreateBucket"),
        "CreateBucket public": AskedV2("CreateBucket", {1: f"{bucket}-new", 0x8002: True}, s3="CreateBucket"),
        "HeadBucket": AskedV2("HeadBucket", {1: bucket}, s3="HeadBucket"),
        "ListObjects": AskedV2("ListObjects", {1: bucket, 2: place}, s3="ListObjectsV2"),
        "ListObjects with metadata": AskedV2("ListObjects", {1: bucket, 2: place, 6: True}, s3="ListObjectsV2"),
        "ListMultipartUploads": AskedV2("ListMultipartUploads", {1: bucket, 2: place}, s3="ListMultipartUploads"),
        "PutObject": AskedV2("PutObject", key, BODY, s3="PutObject"),
        "GetObject": AskedV2("GetObject", key, s3="GetObject"),
        "GetObject range": AskedV2("GetObject", key | {0x8003: {1: u64(1), 2: u64(3)}}, s3="GetObjectRange"),
        "GetObject part": AskedV2("GetObject", key | {0x8004: u32(1)}, s3="GetObjectPart"),
        "GetRanges": AskedV2("GetRanges", key | {3: [{1: u64(1), 2: u64(3)}]}, s3="GetObjectRange"),
        "HeadObject": AskedV2("HeadObject", key, s3="HeadObject"),
        "HeadObjects": AskedV2("HeadObjects", {1: bucket, 2: [f"{place}key"]}, s3="HeadObject"),
        "GetObjectTagging": AskedV2("GetObjectTagging", key, s3="GetObjectTagging"),
        "PutObjectTagging": AskedV2("PutObjectTagging", key | {3: [{1: "a", 2: "b"}]}, s3="PutObjectTagging"),
        "DeleteObjectTagging": AskedV2("DeleteObjectTagging", key, s3="DeleteObjectTagging"),
        "CopyObject from": AskedV2("CopyObject", {1: other, 2: f"{place}copy", 3: bucket, 4: f"{place}key"}, s3="CopyObject from"),
        "CopyObject to": AskedV2("CopyObject", {1: bucket, 2: f"{place}key2", 3: other, 4: "source"}, s3="CopyObject to"),
        "CreateMultipartUpload": AskedV2("CreateMultipartUpload", {1: bucket, 2: f"{place}key3"}, s3="CreateMultipartUpload"),
        "UploadPart": AskedV2("UploadPart", upload | {4: u32(1)}, BODY, s3="UploadPart"),
        "ListParts": AskedV2("ListParts", upload, s3="ListParts"),
        "CompleteMultipartUpload": AskedV2("CompleteMultipartUpload", upload | {0x8005: [{1: u32(1)}]}, s3="CompleteMultipartUpload"),
        "AbortMultipartUpload": AskedV2("AbortMultipartUpload", upload, s3="AbortMultipartUpload"),
        "DeleteObject": AskedV2("DeleteObject", gone, s3="DeleteObject"),
        "DeleteObject if": AskedV2("DeleteObject", gone | {0x8003: "x"}, s3="DeleteObject if"),
        "DeleteObjects": AskedV2("DeleteObjects", {1: bucket, 2: [f"{place}key9"]}, s3="DeleteObjects"),
        "DeletePrefix": AskedV2("DeletePrefix", gone, s3="DeleteObject"),
        "DeleteBucket": AskedV2("DeleteBucket", {1: bucket}, s3="DeleteBucket"),
    }


# Numbers of the errors that matter here.
BUCKET_NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, MALFORMED, INTERNAL_V2 = 1, 30, 31, [40, 60, 61], 99


def failures(operation: str, answer: FrameV2) -> list[int]:
    """The numbers of the errors in an answer, those of its outcomes too."""
    if answer.code != OK:
        return [answer.failure]
    tag = {"HeadObjects": 2, "DeleteObjects": 1}.get(operation)
    outcomes = entries(answer.fields.get(1, b"")) if tag else []
    told = [fields(outcome).get(tag) for outcome in outcomes]
    return [number(fields(failure)[1]) for failure in told if failure]


def native_v2_column(world: World, rule: Rule, bulk: bool) -> dict[str, str]:
    """As `native_column`, on connections of one kind."""
    bucket, other = rule.buckets
    asked = native_v2_operations(bucket, other, rule.place)
    key = (rule.client.access_key_id, rule.client.secret)
    # Who has a wrong secret cannot tell whether the server has the right one.
    open_before = {name: NativeV2(world.server.native_port, *key, bulk=bulk, believes=rule.is_wrong) for name in asked}
    rule.since()
    verdicts = {}
    for name, (operation, told, data, _) in asked.items():
        native = open_before[name]
        found = failures(operation, native.ask(operation, told, data)) if native.step == PROCEED else [UNAUTHENTICATED]
        native.close()
        refused = {UNAUTHENTICATED, PERMISSION_DENIED} & set(found)
        verdicts[name] = "-" if refused else "?" if BUCKET_NOT_FOUND in found else "+"
        # What no right has decided.
        assert not {*MALFORMED, INTERNAL_V2} & set(found) or operation == "OpenSession", (name, found)
        if name == "CreateBucket":
            world.owning.request("DELETE", f"/{bucket}-new")
    world.owning.request("PUT", f"/{bucket}/in/key", body=BODY)
    world.owning.request("DELETE", f"/{bucket}-new")
    return verdicts


def table_of_native_v2(world: World) -> str:
    groups = {}
    for kind in ["shared", "bulk"]:
        rules = native_rules(world)
        groups[kind] = [native_v2_column(world, rule, kind == "bulk") for rule in rules.values()]
    return table("Native, version 2", list(rules), groups)


@pytest.mark.weakness(20, 21, 23)
def test_every_operation_of_version_2_under_every_rule(world):
    must_be_expected(table_of_native_v2(world))


def test_every_operation_of_version_2_is_a_row():
    """All that the codec has, and all that its page tells of."""
    rows = {asked.operation for asked in native_v2_operations("b", "o", "").values()}
    sources = "".join(path.read_text() for path in sorted((WIRE / "src").glob("*.rs")))
    coded = re.findall(r"^ {4}0x[0-9A-F]{2} (\w+)\(", sources, flags=re.MULTILINE)
    told = re.findall(r"^\| [0-9A-F]{2} (\w+) \|", (WIRE / "PROTOCOL.md").read_text(), flags=re.MULTILINE)
    assert set(coded) == rows and len(coded) == len(rows)
    assert told and set(told) <= rows, set(told) - rows


def rows_of(title: str) -> tuple[list[str], dict[str, list[str]]]:
    """The rules of a table of the file, and its rows: a text for each group of columns."""
    lines = expected(f"== {title}\n").splitlines()
    legend = [line[3:] for line in lines if re.match(r"[ \d]\d ", line)]
    rows = {}
    for line in lines[len(legend) + 2 :]:
        if match := re.fullmatch(r"(\S.*?) {2,}([-+? ]+)", line):
            rows[match[1]] = match[2].split("  ")
    return legend, rows


def test_the_native_port_lets_in_whom_s3_lets_in():
    """Cell by cell, in the tables of the file."""
    s3_rules, s3 = rows_of("S3, signed in the Authorization header, or not at all")
    compared = 0
    for title, counterparts in {
        "Native": {name: name for name in native_operations("b", "")},
        "Native, version 2": {name: asked.s3 for name, asked in native_v2_operations("b", "o", "").items() if asked.s3},
    }.items():
        rules, rows = rows_of(title)
        assert set(counterparts) <= set(rows)
        at = [s3_rules.index(rule) for rule in rules]
        for name, counterpart in counterparts.items():
            for cells in rows[name]:
                assert cells == "".join(s3[counterpart][0][i] for i in at), (title, name)
                compared += len(cells)
    assert compared > 2000


def callers_of_admin(world: World) -> dict[str, Callable]:
    """Who knocks at the admin port: target and headers of what is asked."""
    owner = world.owning

    def saying(*values: str) -> Callable:
        return lambda asked: (asked.path, {"authorization": values[0]} if values else {})

    def in_query(asked: Asked) -> tuple[str, dict[str, str]]:
        return f"{asked.path}?token={TOKEN}&access_token={TOKEN}", {}

    as_key = Client(world.server.admin_port, TOKEN, TOKEN)
    owner_here = Client(world.server.admin_port, owner.access_key_id, owner.secret)
    return {
        "the admin token": saying(f"Bearer {TOKEN}"),
        "nothing": saying(),
        "a wrong token": saying("Bearer " + WRONG),
        "the admin token and a character more": saying(f"Bearer {TOKEN}x"),
        "the admin token without its last character": saying(f"Bearer {TOKEN[:-1]}"),
        "the admin token in capitals": saying(f"Bearer {TOKEN.upper()}"),
        "no token behind the scheme": saying("Bearer "),
        "the admin token without a scheme": saying(TOKEN),
        "another case of the scheme": saying(f"bearer {TOKEN}"),
        "another scheme": saying(f"Token {TOKEN}"),
        "the admin token as user and as password": saying("Basic " + base64.b64encode(f"{TOKEN}:{TOKEN}".encode()).decode()),
        "the admin token in the query": in_query,
        "the admin token as access key, signed": lambda asked: by_header(as_key, asked),
        "an access key with all rights, signed": lambda asked: by_header(owner_here, asked),
        "an access key with all rights, as bearer": lambda asked: by_bearer(owner, asked),
        "the secret of that key": saying(f"Bearer {owner.secret}"),
        "the signing secret": saying(f"Bearer {SECRET}"),
        "an X-Jay link": lambda asked: by_link(owner, asked),
    }


def operations_of_admin(server: Server) -> dict[str, Asked]:
    """What the OpenAPI document names, and what is beside it on the port."""
    status, document = ask(server, "GET", "openapi.json")
    assert status == 200
    found = {}
    for path, methods in sorted(document["paths"].items()):
        for method in sorted(methods):
            found[f"{method.upper()} {path}"] = Asked(method.upper(), re.sub(r"{\w+}", "no-such-name", path))
    for path in ["/_jay/no-such-path", "/metrics", "/health", "/health/live", "/health/ready"]:
        found[f"GET {path}"] = Asked("GET", path)
    return found


def table_of_admin(world: World) -> str:
    callers, server = callers_of_admin(world), world.server
    columns = []
    for caller in callers.values():
        columns.append({})
        for name, asked in operations_of_admin(server).items():
            answer = send(server.admin_port, asked, *caller(asked))
            assert answer.status < 500, (name, answer)
            columns[-1][name] = "-" if answer.status in (401, 429) else "+"
    return table("Admin", list(callers), {"": columns})


def test_every_admin_operation_by_every_caller(world):
    must_be_expected(table_of_admin(world))


@pytest.mark.skipif(not PLANTED.exists(), reason="the step `planted faults` of tests/run builds it")
def test_a_front_that_forgets_a_check_is_found(new_server):
    """Faults planted on purpose: each changes a table."""
    told = subprocess.run([PLANTED, "planted-faults", "--rights"], capture_output=True, check=True, text=True)
    faults = told.stdout.split()
    for fault in faults:
        server = new_server(fault, JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET, JAY_PLANT=fault)
        server.program = PLANTED
        world = World(server.start())
        kinds = [table_of_admin, table_of_headers, table_of_other_proofs, table_of_native, table_of_native_v2]
        tables = (kind(world) for kind in kinds)
        assert any(found != expected(found) for found in tables), fault
        server.kill()
    assert faults


@pytest.mark.parametrize("path", ["//_jay/accounts", "/x/../_jay/accounts", "/%5fjay/accounts", "/_JAY/accounts", "/health/../_jay/accounts"])
def test_no_spelling_of_a_path_gets_round_the_token(world, path):
    answer = send(world.server.admin_port, Asked("GET", path), path, {})
    assert answer.status in (401, 404) and b"owner" not in answer.body, answer


@pytest.mark.weakness(23)
def test_links_carry_the_rights_of_their_token_at_the_moment(world):
    """Both kinds that the admin API makes: revoked, or denied by a policy that came later, they are of no use any more."""
    bucket, _ = world.bucket()
    token = world.token(world.owner)
    asked = {"token_id": token.access_key_id, "method": "GET", "bucket": bucket, "key": "in/key", "expires_seconds": 600}
    links = []
    for style in ["jay", "sigv4"]:
        status, answer = ask(world.server, "POST", "presign", asked | {"style": style})
        assert status == 200, answer
        links.append(answer["url"].removeprefix(world.server.endpoint))

    def statuses() -> list[int]:
        return [send(world.server.port, Asked("GET", link), link, {}).status for link in links]

    assert statuses() == [200, 200]
    world.policy(bucket, statement("deny", "object:get", prefixes=["in/"], subject=token.access_key_id))
    assert statuses() == [403, 403]
    world.policy(bucket, statement("deny", "object:put"))
    assert statuses() == [200, 200]
    world.revoke(token)
    assert statuses() == [403, 403]
