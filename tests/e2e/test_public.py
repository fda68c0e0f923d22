"""Public buckets, access lists, and what browsers of other origins may see."""

import http.client
import json
import urllib.parse

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from conftest import boto
from jay_testing import Answer, Server, read_answer
from test_presigned import fetch, presigned

ALL_USERS = b"http://acs.amazonaws.com/groups/global/AllUsers"


@pytest.fixture
def public(client, bucket) -> str:
    """A public bucket with the object `k`."""
    assert client.request("PUT", f"/{bucket}", "acl=", headers={"x-amz-acl": "public-read"}).status == 200
    assert client.request("PUT", f"/{bucket}/k", body=b"hello", headers={"x-amz-meta-color": "blue"}).status == 200
    return bucket


def test_everybody_reads_objects_of_a_public_bucket(server, public):
    got = fetch(server, "GET", f"/{public}/k")
    assert (got.status, got.body, got.headers["x-amz-meta-color"]) == (200, b"hello", "blue"), got
    assert fetch(server, "GET", f"/{public}/k", headers={"range": "bytes=1-2"}).body == b"el"
    assert fetch(server, "GET", f"/{public}/k", headers={"if-none-match": got.headers["etag"]}).status == 304
    assert fetch(server, "HEAD", f"/{public}/k").headers["content-length"] == "5"
    answer = fetch(server, "GET", f"/{public}/missing")
    assert (answer.status, answer.code) == (404, "NoSuchKey"), answer


def test_and_does_nothing_else(server, client, public):
    attempts = [
        ("GET", ""), ("HEAD", ""), ("GET", "?location"), ("GET", "?acl"), ("PUT", "?acl"), ("DELETE", ""), ("POST", "?delete"),
        ("GET", "/k?acl"), ("PUT", "/k?acl"), ("PUT", "/k"), ("DELETE", "/k"),
    ]  # fmt: skip
    for method, rest in attempts:
        answer = fetch(server, method, f"/{public}{rest}", headers={"x-amz-acl": "private"} if "acl" in rest else {})
        assert answer.status == 403 and answer.code in ("AccessDenied", None), (method, rest, answer)
    assert fetch(server, "GET", "/").code == "AccessDenied"
    assert client.request("GET", f"/{public}/k").body == b"hello"


def test_a_private_bucket_and_none_look_alike(server, client, bucket):
    client.request("PUT", f"/{bucket}/k", body=b"hidden")
    answers = [fetch(server, "GET", f"/{name}") for name in (f"{bucket}/k", f"{bucket}/missing", "there-is-none/k", "No_Name/k")]
    seen = {(answer.status, answer.body.split(b"<Resource>")[0]) for answer in answers}
    assert len(seen) == 1 and answers[0].code == "AccessDenied", seen
    assert {fetch(server, "HEAD", f"/{name}").status for name in (f"{bucket}/k", "there-is-none/k")} == {403}


def test_a_bad_signature_is_ignored_where_none_is_needed(server, client, public, bucket):
    stale = presigned(client, "GET", f"/{public}/k") + "0"
    bad = {"authorization": client.headers("GET", "/other")["authorization"], "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    for target, headers in [
        (stale, {}), (f"/{public}/k", bad), (f"/{public}/k", {"authorization": "Basic x"}), (f"/{public}/k", {"authorization": "Bearer a:b"}),
        (f"/{public}/k?X-Jay-Token=t", {}), (f"/{public}/k?X-Amz-Signature=x", {}), (f"/{public}/k?AWSAccessKeyId=a&Signature=x", {}),
    ]:  # fmt: skip
        assert fetch(server, "GET", target, headers=headers).body == b"hello", (target, headers)
        assert fetch(server, "HEAD", target, headers=headers).status == 200
        # Where one is needed, what is wrong with it is the answer.
        answer = fetch(server, "PUT", target, b"lost", headers)
        assert answer.status in (400, 403), answer
        private = fetch(server, "GET", target.replace(public, "there-is-none"), headers=headers)
        assert private.status in (400, 403) and private.code != "NoSuchBucket", private
    assert fetch(server, "GET", f"/there-is-none/k{stale[stale.index('?'):]}").code == "AuthorizationQueryParametersError"
    expired = presigned(client, "GET", f"/{public}/k", expires=0)
    assert fetch(server, "GET", expired).body == b"hello"
    assert client.request("GET", f"/{public}/k").body == b"hello"


def test_only_who_signs_says_how_the_answer_looks(server, client, public):
    """Else a link would show an image of a public bucket as a page."""
    answer = fetch(server, "GET", f"/{public}/k?response-content-type=text/html")
    assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
    signed = presigned(client, "GET", f"/{public}/k", {"response-content-type": "text/html"})
    assert fetch(server, "GET", signed).headers["content-type"] == "text/html"
    assert fetch(server, "GET", signed[:-4] + "0000").code == "SignatureDoesNotMatch"


def test_the_flag_comes_and_goes(server, client, bucket):
    name = f"{bucket}-made"
    assert client.request("PUT", f"/{name}", headers={"x-amz-acl": "public-read"}).status == 200
    client.request("PUT", f"/{name}/k", body=b"hello")
    assert fetch(server, "GET", f"/{name}/k").body == b"hello"
    assert client.request("PUT", f"/{name}", "acl=", headers={"x-amz-acl": "private"}).status == 200
    assert fetch(server, "GET", f"/{name}/k").code == "AccessDenied"
    assert client.request("GET", f"/{name}/k").body == b"hello"
    for other in ["public-read-write", "authenticated-read", "x"]:
        for query in ["", "acl="]:
            answer = client.request("PUT", f"/{name}", query, headers={"x-amz-acl": other})
            assert (answer.status, answer.code) == (501, "NotImplemented"), answer
    document = b"<AccessControlPolicy><Owner/></AccessControlPolicy>"
    for path in [f"/{name}", f"/{name}/k"]:
        for headers in [{}, {"x-amz-acl": "public-read"}]:
            answer = client.request("PUT", path, "acl=", document, headers)
            assert (answer.status, answer.code) == (501, "NotImplemented"), answer
        answer = client.request("PUT", path, "acl=")
        assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
        answer = client.request("PUT", path, "acl=", headers={"x-amz-grant-read": f'uri="{ALL_USERS.decode()}"'})
        assert (answer.status, answer.code) == (501, "NotImplemented"), answer
    assert client.request("PUT", "/there-is-none", "acl=", headers={"x-amz-acl": "private"}).code == "NoSuchBucket"
    assert fetch(server, "GET", f"/{name}/k").code == "AccessDenied"


def test_the_flag_survives_a_restart(new_server):
    server = new_server().start()
    client = server.client()
    client.request("PUT", "/pub", headers={"x-amz-acl": "public-read"})
    client.request("PUT", "/pub/k", body=b"hello")
    server.kill()
    server.start()
    assert fetch(server, "GET", "/pub/k").body == b"hello"


def test_access_lists_are_told(server, s3, public):
    own, *others = s3.get_bucket_acl(Bucket=public)["Grants"]
    assert own["Permission"] == "FULL_CONTROL" and own["Grantee"]["Type"] == "CanonicalUser"
    assert others == [{"Grantee": {"Type": "Group", "URI": ALL_USERS.decode()}, "Permission": "READ"}]
    told = s3.get_object_acl(Bucket=public, Key="k")
    assert told["Grants"] == [own, *others] and told["Owner"]["ID"] == own["Grantee"]["ID"]
    assert told["Owner"] == s3.list_buckets()["Owner"]
    s3.put_object_acl(Bucket=public, Key="k", ACL="private")
    s3.put_object_acl(Bucket=public, Key="k", ACL="bucket-owner-full-control")
    assert s3.get_object(Bucket=public, Key="k")["Body"].read() == b"hello"
    for call, arguments in [(s3.get_object_acl, {}), (s3.put_object_acl, {"ACL": "private"})]:
        with pytest.raises(ClientError, match="NoSuchKey"):
            call(Bucket=public, Key="missing", **arguments)
    with pytest.raises(ClientError, match="InvalidArgument"):
        s3.put_object_acl(Bucket=public, Key="k", ACL="everyone")
    s3.put_bucket_acl(Bucket=public, ACL="private")
    assert s3.get_bucket_acl(Bucket=public)["Grants"] == [own]


def test_boto3_without_credentials(server, public):
    s3 = boto(server, signature_version=UNSIGNED)
    assert s3.get_object(Bucket=public, Key="k")["Body"].read() == b"hello"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=public)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=public, Key="k", Body=b"lost")


def options(server: Server, path: str, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return fetch(server, "OPTIONS", path, headers={"origin": "https://ship.example.com"} | sent)


@pytest.mark.parametrize("path", ["/", "/there-is-none/k", "/b/k?X-Amz-Signature=x&X-Jay-Token=t", "/b/%ff", "/No_Name?acl&uploads"])
def test_any_preflight_is_answered(server, path):
    asked = "amz-sdk-request,authorization,content-type,x-amz-acl,x-amz-date"
    answer = options(
        server, path, access_control_request_method="PUT", access_control_request_headers=asked,
        access_control_request_private_network="true",
    )  # fmt: skip
    assert (answer.status, answer.body) == (200, b""), answer
    told = {name.removeprefix("access-control-"): value for name, value in answer.headers.items() if name.startswith("access-")}
    assert told.pop("expose-headers")
    assert told == {
        "allow-origin": "*", "allow-methods": "GET, PUT, HEAD, DELETE, OPTIONS, POST", "max-age": "86400",
        "allow-headers": asked.replace(",", ", "), "allow-private-network": "true",
    }  # fmt: skip
    plain = options(server, path, access_control_request_headers="a b, <c>").headers
    assert "access-control-allow-headers" not in plain and "access-control-allow-private-network" not in plain


def test_every_answer_can_be_read_by_a_page(server, client, public):
    exposed = lambda answer: answer.headers["access-control-expose-headers"].split(", ")  # noqa: E731
    answers = [
        fetch(server, "GET", f"/{public}/k"), fetch(server, "HEAD", f"/{public}/k"), fetch(server, "GET", f"/{public}/missing"),
        fetch(server, "GET", f"/{public}"), fetch(server, "PATCH", f"/{public}/k"), client.request("PUT", f"/{public}/new", body=b"x"),
        client.request("GET", f"/{public}", "policy="), fetch(server, "GET", "/", headers={"accept": "text/html"}),
        fetch(server, "GET", "/b/%ff"), fetch(server, "GET", presigned(client, "GET", "/b/k", expires=0)),
    ]  # fmt: skip
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*", answer
        assert "access-control-allow-credentials" not in answer.headers
        for name in ["ETag", "Content-Length", "Content-Type", "Last-Modified", "Content-Range", "Accept-Ranges", "x-amz-request-id"]:
            assert name in exposed(answer), (name, answer)
    assert "x-amz-meta-color" in exposed(answers[0]) and "x-amz-meta-color" in exposed(answers[1])
    assert "x-amz-meta-color" not in exposed(answers[2])


def test_preflight_and_anonymous_reads_are_logged(server, public):
    for method in ["GET", "OPTIONS"]:
        request_id = fetch(server, method, f"/{public}/k").headers["x-amz-request-id"]
        line = next(json.loads(line) for line in server.log.read_text().splitlines() if request_id in line)
        assert line["operation"] == {"GET": "GetObject", "OPTIONS": "Preflight"}[method]
        assert not line.get("token_id"), line


def test_a_body_without_credentials_is_not_invited(server, public):
    """A client that waits for 100 Continue gets its refusal instead, and the connection ends."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.connect()
    head = f"PUT /{urllib.parse.quote(public)}/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
    connection.sock.sendall(head.encode())
    answer = read_answer(connection.sock)
    assert answer.status == 403 and answer.headers["connection"] == "close", answer
    connection.close()


def test_the_body_of_an_anonymous_caller_comes_as_it_says(server, client, bucket):
    """The headers that tell how a body comes were not read of a caller without credentials: where a policy lets everybody
    write, chunks were stored with their framing, and a body that was not the announced one was taken."""
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    ]}  # fmt: skip
    assert client.request("PUT", f"/{bucket}", "policy=", json.dumps(policy).encode()).status == 204
    chunked = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "4"}
    unsigned = chunked | {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    path, body = f"/{bucket}/k", b"4\r\n1234\r\n0\r\n"
    assert fetch(server, "PUT", path, body + b"\r\n", unsigned).status == 200
    assert client.request("GET", path).body == b"1234"
    trailer = unsigned | {"x-amz-trailer": "x-amz-checksum-crc32"}
    assert fetch(server, "PUT", path, body + b"x-amz-checksum-crc32:m+Pgow==\r\n\r\n", trailer).status == 200
    signed = chunked | {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    for headers, code in [(signed, "InvalidRequest"), ({"x-amz-content-sha256": "0" * 64}, "XAmzContentSHA256Mismatch")]:
        answer = fetch(server, "PUT", path, body, headers)
        assert (answer.status, answer.code) == (400, code), answer
    assert client.request("GET", path).body == b"1234"
