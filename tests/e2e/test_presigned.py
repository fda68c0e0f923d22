"""URLs that carry their own rights: presigned by boto3 or by hand, Jay's links, and bearers."""

import base64
import datetime
import hashlib
import hmac
import http.client
import time
import urllib.parse

import pytest

from conftest import boto
from jay_testing import Answer, Client, Server, key_path

KEY = "a dir/ü+%20 (1).txt"
SIGNING_SECRET = "the signing secret of these tests, 32+"
SECRET = "a secret:with a colon"


def fetch(server: Server, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
    """One request without any signing of its own; `target` is a URL or a path."""
    parts = urllib.parse.urlsplit(target)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body or None, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def presigned(
    client: Client, method: str, path: str, query: dict[str, str] | None = None, expires: int | str = 60,
    now: datetime.datetime | None = None, headers: dict[str, str] | None = None, changed: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """A URL signed by hand: what no SDK would make. `changed` replaces parameters before they are signed."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": f"127.0.0.1:{client.port}"} | (headers or {})
    parameters = (query or {}) | {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{client.access_key_id}/{day}/{client.region}/s3/aws4_request",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": ";".join(sorted(signed)),
    } | (changed or {})  # fmt: skip
    encode = lambda text: urllib.parse.quote(text, safe="-_.~")  # noqa: E731
    canonical_query = "&".join(f"{n}={v}" for n, v in sorted((encode(n), encode(v)) for n, v in parameters.items()))
    names = sorted(signed)
    canonical = "\n".join(
        [method, path, canonical_query, *(f"{name}:{signed[name]}" for name in names), "", ";".join(names), "UNSIGNED-PAYLOAD"]
    )
    scope = f"{day}/{client.region}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.digest(client.signing_key(day), to_sign.encode(), "sha256").hex()
    return f"{path}?{canonical_query}&X-Amz-Signature={signature}"


def url(s3, method: str, bucket: str, expires: int = 60, **parameters) -> str:
    return s3.generate_presigned_url(method, Params={"Bucket": bucket, **parameters}, ExpiresIn=expires)


@pytest.mark.weakness(11)
def test_boto3_signs_urls_of_every_operation(server, bucket):
    s3 = boto(server, signature_version="s3v4")
    put = fetch(server, "PUT", url(s3, "put_object", bucket, Key=KEY), b"hello")
    assert put.status == 200 and put.headers["etag"] == '"5d41402abc4b2a76b9719d911017c592"', put
    got = fetch(server, "GET", url(s3, "get_object", bucket, Key=KEY), headers={"range": "bytes=1-3"})
    assert (got.status, got.body) == (206, b"ell"), got
    got = fetch(server, "GET", url(s3, "get_object", bucket, Key=KEY, ResponseContentType="text/x"))
    assert got.headers["content-type"] == "text/x"
    assert fetch(server, "HEAD", url(s3, "head_object", bucket, Key=KEY)).headers["content-length"] == "5"
    listed = fetch(server, "GET", url(s3, "list_objects_v2", bucket, Prefix="a dir/"))
    assert listed.status == 200 and b"<KeyCount>1</KeyCount>" in listed.body, listed
    assert fetch(server, "HEAD", url(s3, "head_bucket", bucket)).status == 200
    assert fetch(server, "DELETE", url(s3, "delete_object", bucket, Key=KEY)).status == 204
    assert fetch(server, "GET", url(s3, "get_object", bucket, Key=KEY)).code == "NoSuchKey"
    assert fetch(server, "PUT", url(s3, "create_bucket", f"{bucket}-2")).status == 200
    assert fetch(server, "DELETE", url(s3, "delete_bucket", f"{bucket}-2")).status == 204


def test_the_aws_cli_presigns_by_version_4(server, aws, client, bucket, tmp_path):
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  signature_version = s3v4\n")
    client.request("PUT", key_path(bucket, KEY), body=b"hello")
    target = aws("s3", "presign", f"s3://{bucket}/{KEY}", "--expires-in", "604800", config=config).strip()
    assert fetch(server, "GET", target).body == b"hello"
    assert fetch(server, "GET", target.replace("604800", "604799")).code == "SignatureDoesNotMatch"


def test_a_url_serves_what_it_was_signed_for(server, client, bucket):
    s3 = boto(server, signature_version="s3v4")
    client.request("PUT", f"/{bucket}/k", body=b"kept")
    get = url(s3, "get_object", bucket, Key="k")
    for method in ["HEAD", "PUT", "DELETE"]:
        assert fetch(server, method, get).status == 403, method
    tampered = [
        get.replace("/k?", "/other?"), get.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), get + "&x-amz-acl=private",
        get + "&unknown=1", get[:-1] + ("0" if get[-1] != "0" else "1"),
    ]  # fmt: skip
    for bad in tampered:
        answer = fetch(server, "GET", bad)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), (bad, answer)
    other = Client(server.port, client.access_key_id, "wrong")
    assert fetch(server, "GET", presigned(other, "GET", f"/{bucket}/k")).code == "SignatureDoesNotMatch"
    other = Client(server.port, "nobody", "wrong")
    assert fetch(server, "GET", presigned(other, "GET", f"/{bucket}/k")).code == "InvalidAccessKeyId"
    assert fetch(server, "GET", get).body == b"kept"


def test_a_url_has_its_time(server, client, bucket):
    client.request("PUT", f"/{bucket}/k", body=b"kept")
    now = datetime.datetime.now(datetime.timezone.utc)
    minutes = lambda count: now + datetime.timedelta(minutes=count)  # noqa: E731
    path = f"/{bucket}/k"
    assert fetch(server, "GET", presigned(client, "GET", path, expires=604_800, now=minutes(-600))).body == b"kept"
    assert fetch(server, "GET", presigned(client, "GET", path, now=minutes(14))).body == b"kept"
    answer = fetch(server, "GET", presigned(client, "GET", path, now=minutes(-2)))
    assert (answer.status, answer.code) == (403, "AccessDenied"), answer
    for part in [b"<Message>Request has expired</Message>", b"<X-Amz-Expires>60<", b"<Expires>", b"<ServerTime>"]:
        assert part in answer.body
    answer = fetch(server, "GET", presigned(client, "GET", path, now=minutes(17)))
    assert (answer.status, answer.code) == (403, "AccessDenied"), answer
    for bad in [0, -1, 604_801, "x", "", "1e3", 10**30]:
        answer = fetch(server, "GET", presigned(client, "GET", path, expires=bad))
        assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError"), (bad, answer)


def test_parameters_are_there_once(server, client, bucket):
    good = presigned(client, "GET", f"/{bucket}/k")
    path, query = good.split("?")
    pairs = query.split("&")
    for left_out in pairs:
        bad = f"{path}?" + "&".join(pair for pair in pairs if pair is not left_out)
        twice = f"{good}&{left_out}"
        for answer in [fetch(server, "GET", bad), fetch(server, "GET", twice)]:
            assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError"), (left_out, answer)


def test_headers_in_the_query_are_headers(server, client, bucket):
    path = f"/{bucket}/k"
    hoisted = {
        "x-amz-acl": "public-read", "x-amz-meta-Color": "blue green", "x-amz-storage-class": "STANDARD", "x-id": "PutObject",
        "x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32", "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD",
    }  # fmt: skip
    answer = fetch(server, "PUT", presigned(client, "PUT", path, hoisted), b"hello", {"content-type": "text/x"})
    assert answer.status == 200, answer
    got = client.request("GET", path)
    assert (got.body, got.headers["x-amz-meta-color"], got.headers["content-type"]) == (b"hello", "blue green", "text/x")
    for query, code in [
        ({"x-amz-server-side-encryption": "AES256"}, "NotImplemented"), ({"x-amz-acl": "everyone"}, "InvalidArgument"),
        ({"x-amz-object-lock-mode": "GOVERNANCE"}, "NotImplemented"), ({"x-amz-meta-a": "b\r\nc"}, "InvalidArgument"),
        ({"x-amz-storage-class": "SLOW"}, "InvalidStorageClass"),
    ]:  # fmt: skip
        answer = fetch(server, "PUT", presigned(client, "PUT", path, query), b"lost")
        assert answer.code == code, (query, answer)
    signed = presigned(client, "PUT", path, {"x-amz-acl": "private"})
    assert fetch(server, "PUT", signed, b"lost", {"x-amz-acl": "public-read"}).code == "InvalidArgument"
    assert fetch(server, "PUT", presigned(client, "PUT", path), b"lost", {"x-amz-meta-a": "b"}).code == "AccessDenied"
    assert client.request("GET", path).body == b"hello"
    signed = presigned(client, "PUT", path, headers={"x-amz-meta-a": "b"})
    assert fetch(server, "PUT", signed, b"hello", {"x-amz-meta-a": "b"}).status == 200
    assert client.request("HEAD", path).headers["x-amz-meta-a"] == "b"


def test_chunks_under_a_url_are_decoded(server, client, bucket):
    headers = {
        "content-encoding": "aws-chunked", "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "4", "x-amz-trailer": "x-amz-checksum-crc32",
    }  # fmt: skip
    signed = presigned(
        client, "PUT", f"/{bucket}/k",
        headers={name: value for name, value in headers.items() if name in ("x-amz-decoded-content-length", "x-amz-trailer")},
    )  # fmt: skip
    body = b"4\r\n1234\r\n0\r\nx-amz-checksum-crc32:m+Pgow==\r\n\r\n"
    answer = fetch(server, "PUT", signed, body, headers)
    assert answer.status == 200, answer
    assert client.request("GET", f"/{bucket}/k").body == b"1234"


def test_two_signatures_and_sessions_are_refused(server, client, bucket):
    client.request("PUT", f"/{bucket}/k", body=b"kept")
    path = f"/{bucket}/k"
    message = b"Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or"
    good = presigned(client, "GET", path)
    header = client.headers("GET", path)["authorization"]
    link = "X-Jay-Token=t&X-Jay-Expires=1&X-Jay-Signature=0"
    for target, headers in [(good, {"authorization": header}), (good, {"authorization": "Bearer a:b"}), (f"{good}&{link}", {})]:
        answer = fetch(server, "GET", target, headers=headers)
        assert (answer.status, answer.code) == (400, "InvalidArgument") and message in answer.body, answer
    answer = fetch(server, "GET", presigned(client, "GET", path, {"X-Amz-Security-Token": "t"}))
    assert (answer.status, answer.code) == (400, "InvalidToken"), answer
    answer = client.request("GET", path, headers={"x-amz-security-token": "t"})
    assert (answer.status, answer.code) == (400, "InvalidToken"), answer


def presigned_v2(
    client: Client, method: str, path: str, query: str = "", expires: int | str | None = None, headers: str = "", secret: str | None = None,
    digest: str = "",
) -> str:  # fmt: skip
    """A URL signed by version 2 by hand; `query` is signed as it stands, `headers` are lines of the string to sign."""
    expires = str(int(time.time()) + 60 if expires is None else expires)
    resource = path + (f"?{query}" if query else "")
    to_sign = f"{method}\n{digest}\n\n{expires}\n{headers}{resource}"
    signature = base64.b64encode(hmac.digest((secret or client.secret).encode(), to_sign.encode(), "sha1"))
    parameters = {"AWSAccessKeyId": client.access_key_id, "Expires": expires, "Signature": signature}
    return f"{path}?{query}{'&' if query else ''}{urllib.parse.urlencode(parameters)}"


def test_boto3_signs_urls_by_version_2_unless_told(server, s3, client, bucket):
    put = url(s3, "put_object", bucket, Key=KEY, ContentType="text/x", Metadata={"Color": " blue  green "}, Tagging="a=b")
    assert "AWSAccessKeyId=" in put and "X-Amz" not in put, put
    assert fetch(server, "PUT", put, b"hello").status == 200
    got = fetch(server, "GET", url(s3, "get_object", bucket, Key=KEY), headers={"range": "bytes=1-3"})
    assert (got.status, got.body, got.headers["content-type"]) == (206, b"ell", "text/x"), got
    assert (got.headers["x-amz-meta-color"], got.headers["x-amz-tagging-count"]) == ("blue  green", "1"), got
    # The header that the uploader sends by itself may say the same, and nothing else.
    assert fetch(server, "PUT", put, b"hello", {"content-type": "text/x"}).status == 200
    assert fetch(server, "PUT", put, b"lost", {"content-type": "text/y"}).code == "InvalidArgument"
    disposition = 'attachment; filename="a+b ü.txt"'
    got = fetch(server, "GET", url(s3, "get_object", bucket, Key=KEY, ResponseContentDisposition=disposition))
    assert got.body == b"hello" and got.headers["content-disposition"].startswith("attachment; filename="), got
    assert fetch(server, "HEAD", url(s3, "head_object", bucket, Key=KEY)).headers["content-length"] == "5"
    tags = fetch(server, "GET", url(s3, "get_object_tagging", bucket, Key=KEY))
    assert tags.status == 200 and b"<Key>a</Key>" in tags.body, tags
    for method in ["list_objects", "list_objects_v2"]:
        listed = fetch(server, "GET", url(s3, method, bucket, Prefix="a dir/"))
        assert listed.status == 200 and listed.body.count(b"<Key>") == 1, listed
    assert fetch(server, "GET", url(s3, "get_bucket_location", bucket)).status == 200
    assert fetch(server, "HEAD", url(s3, "head_bucket", bucket)).status == 200
    assert b"<Buckets>" in fetch(server, "GET", s3.generate_presigned_url("list_buckets")).body
    assert fetch(server, "DELETE", url(s3, "delete_object", bucket, Key=KEY)).status == 204
    assert client.request("HEAD", key_path(bucket, KEY)).status == 404


def test_parts_go_to_urls_of_version_2(server, s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=KEY)["UploadId"]
    etag = fetch(server, "PUT", url(s3, "upload_part", bucket, Key=KEY, UploadId=upload, PartNumber=1), b"hello").headers["etag"]
    parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
    s3.complete_multipart_upload(Bucket=bucket, Key=KEY, UploadId=upload, MultipartUpload=parts)
    assert fetch(server, "GET", url(s3, "get_object", bucket, Key=KEY)).body == b"hello"


def test_a_digest_in_a_url_of_version_2_is_kept(server, s3, client, bucket):
    digest = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    put = url(s3, "put_object", bucket, Key="k", ContentMD5=digest)
    assert fetch(server, "PUT", put, b"lost").code == "BadDigest"
    assert fetch(server, "PUT", put, b"hello").status == 200
    put = url(s3, "put_object", bucket, Key="k", ChecksumCRC32="m+Pgow==", ChecksumAlgorithm="CRC32")
    assert fetch(server, "PUT", put, b"lost").code == "BadDigest"
    assert fetch(server, "PUT", put, b"1234").status == 200
    put = url(s3, "put_object", bucket, Key="k", ServerSideEncryption="AES256")
    assert fetch(server, "PUT", put, b"lost").code == "NotImplemented"
    # The algorithm alone is only what the SDK would have used.
    assert fetch(server, "PUT", url(s3, "put_object", bucket, Key="k", ChecksumAlgorithm="CRC32"), b"last").status == 200
    assert client.request("GET", f"/{bucket}/k").body == b"last"


def test_the_aws_cli_presigns_without_configuration(server, aws, client, bucket):
    client.request("PUT", key_path(bucket, KEY), body=b"hello")
    target = aws("s3", "presign", f"s3://{bucket}/{KEY}", "--expires-in", "604800").strip()
    assert "AWSAccessKeyId=" in target, target
    assert fetch(server, "GET", target).body == b"hello"


def test_a_url_of_version_2_serves_what_it_was_signed_for(server, s3, client, bucket):
    client.request("PUT", f"/{bucket}/k", body=b"kept")
    get = url(s3, "get_object", bucket, Key="k")
    for method in ["HEAD", "PUT", "DELETE"]:
        assert fetch(server, method, get, b"lost" if method == "PUT" else b"").status == 403, method
    expires = urllib.parse.parse_qs(get.split("?")[1])["Expires"][0]
    tampered = [
        get.replace("/k?", "/other?"), get.replace(f"Expires={expires}", f"Expires={int(expires) + 1}"), get + "&x-amz-acl=private",
        get + "&acl", get + "&uploadId=1", get + "&versionId=null", get + "&response-content-type=text/html", get + "&content-type=text/x",
        get.replace("Signature=", "Signature=A"), get.replace("Signature=", "Signature=&x="), presigned_v2(client, "GET", f"/{bucket}/k", secret="w"),
    ]  # fmt: skip
    for bad in tampered:
        answer = fetch(server, "GET", bad)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), (bad, answer)
    put = presigned_v2(client, "PUT", f"/{bucket}/k")
    for headers in [{"x-amz-meta-a": "b"}, {"x-amz-copy-source": f"{bucket}/other"}, {"content-type": "text/x"}]:
        assert fetch(server, "PUT", put, b"lost", headers).code == "SignatureDoesNotMatch", headers
    assert client.request("GET", f"/{bucket}/k").body == b"kept"
    assert fetch(server, "PUT", presigned_v2(client, "PUT", f"/{bucket}/k", headers="x-amz-meta-a:b\n"), b"new", {"x-amz-meta-a": "b"}).status == 200
    assert client.request("HEAD", f"/{bucket}/k").headers["x-amz-meta-a"] == "b"
    other = Client(server.port, "nobody", "wrong")
    assert fetch(server, "GET", presigned_v2(other, "GET", f"/{bucket}/k")).code == "InvalidAccessKeyId"


def test_a_url_of_version_2_has_its_time(server, client, bucket):
    client.request("PUT", f"/{bucket}/k", body=b"kept")
    path, now = f"/{bucket}/k", int(time.time())
    assert fetch(server, "GET", presigned_v2(client, "GET", path, expires=now + 604_800)).body == b"kept"
    for expires, said in [
        (now - 2, b"<Message>Request has expired</Message>"), (now + 604_800 + 1000, b"604800 seconds"), (2**70, b"604800 seconds"),
        ("x", b"Invalid date"), ("", b"Invalid date"), ("-1", b"Invalid date"),
    ]:  # fmt: skip
        answer = fetch(server, "GET", presigned_v2(client, "GET", path, expires=expires))
        assert (answer.status, answer.code) == (403, "AccessDenied") and said in answer.body, (expires, answer)
    good = presigned_v2(client, "GET", path)
    for bad in [good.replace("&Expires=", "&x="), f"{good}&Expires={now + 60}", f"{good}&Signature=x"]:
        answer = fetch(server, "GET", bad)
        assert (answer.status, answer.code) == (403, "AccessDenied") and b"Query-string authentication requires" in answer.body, (bad, answer)


def test_version_2_stands_alone_and_in_the_query(server, client, bucket):
    path = f"/{bucket}/k"
    good = presigned_v2(client, "PUT", path)
    v4 = presigned(client, "PUT", path).split("?")[1]
    for target, headers in [(f"{good}&{v4}", {}), (good, {"authorization": "Bearer a:b"}), (f"{good}&X-Jay-Token=t", {})]:
        answer = fetch(server, "PUT", target, b"lost", headers)
        assert (answer.status, answer.code) == (400, "InvalidArgument"), answer
    answer = fetch(server, "PUT", path, b"lost", {"authorization": f"AWS {client.access_key_id}:x", "date": "Tue, 27 Mar 2007 19:36:42 GMT"})
    assert (answer.status, answer.code) == (400, "InvalidRequest") and b"AWS4-HMAC-SHA256" in answer.body, answer
    chunked = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "4", "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    lines = "".join(f"{name}:{value}\n" for name, value in sorted(chunked.items()) if name.startswith("x-amz-"))
    answer = fetch(server, "PUT", presigned_v2(client, "PUT", path, headers=lines), b"lost", chunked)
    assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
    assert client.request("HEAD", path).status == 404


def test_version_2_signs_the_bucket_of_the_host(new_server):
    server = new_server(JAY_VHOST_DOMAIN="jay.test").start()
    client = server.client()
    assert client.request("PUT", "/in-the-host").status == 200
    assert client.request("PUT", "/in-the-host/k", body=b"hello").status == 200
    for path in ["/k", "/"]:
        target = presigned_v2(client, "GET", f"/in-the-host{path}").removeprefix("/in-the-host")
        answer = fetch(server, "GET", target, headers={"host": "In-The-Host.jay.test:9000"})
        assert answer.status == 200, answer
        assert fetch(server, "GET", target, headers={"host": "other.jay.test"}).code == "SignatureDoesNotMatch"


def test_a_configured_region_must_be_in_the_url(new_server):
    server = new_server(JAY_REGION="eu-west-1").start()
    client = server.client()
    client.region = "eu-west-1"
    assert fetch(server, "GET", presigned(client, "GET", "/")).status == 200
    client.region, client.signing_keys = "us-east-1", {}
    answer = fetch(server, "GET", presigned(client, "GET", "/"))
    assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError"), answer
    assert b"<Region>eu-west-1</Region>" in answer.body


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """A server whose signing secret is known here, with a bucket `links` that holds the object KEY."""
    server = Server(
        tmp_path_factory.mktemp("configured") / "data",
        JAY_SIGNING_SECRET=SIGNING_SECRET, JAY_ADMIN_TOKEN="an admin token that is long enough",
        JAY_SEED_TOKEN_ACCOUNT="me", JAY_SEED_TOKEN_ID="reader", JAY_SEED_TOKEN_SECRET=SECRET,
    ).start()  # fmt: skip
    client = Client(server.port, "reader", SECRET)
    assert client.request("PUT", "/links").status == 200
    assert client.request("PUT", key_path("links", KEY), body=b"hello").status == 200
    yield server
    assert server.stop() == 0


def link(
    method: str, path: str, query: list[tuple[str, str]] | None = None, expires: int | str | None = None,
    token: str = "reader", secret: str = SIGNING_SECRET,
) -> str:  # fmt: skip
    """A link as the original makes it, its path in clear."""
    expires = str(int(time.time()) + 60 if expires is None else expires)
    canonical = urllib.parse.urlencode(sorted(query or []), quote_via=urllib.parse.quote_plus, safe="-_.~")
    to_sign = "\n".join([token, method, path, canonical, expires])
    signature = hmac.digest(secret.encode(), to_sign.encode(), "sha256").hex()
    signing = [("X-Jay-Token", token), ("X-Jay-Expires", expires), ("X-Jay-Signature", signature)]
    # In another order than it was signed in.
    sent = urllib.parse.urlencode(signing + list(reversed(query or [])), quote_via=urllib.parse.quote)
    return f"{urllib.parse.quote(path)}?{sent}"


def test_a_link_serves_what_it_was_signed_for(configured):
    path = f"/links/{KEY}"
    assert fetch(configured, "GET", link("GET", path)).body == b"hello"
    # The header does not matter then.
    assert fetch(configured, "GET", link("GET", path), headers={"authorization": "AWS4-HMAC-SHA256 x"}).body == b"hello"
    got = fetch(configured, "GET", link("GET", path, [("response-content-type", "text/x y+z"), ("b", "2"), ("b", "1")]))
    assert (got.body, got.headers["content-type"]) == (b"hello", "text/x y+z")
    assert fetch(configured, "HEAD", link("HEAD", path)).status == 200
    listed = fetch(configured, "GET", link("GET", "/links", [("list-type", "2"), ("prefix", "a dir/")]))
    assert listed.status == 200 and b"<KeyCount>1</KeyCount>" in listed.body
    assert fetch(configured, "PUT", link("PUT", "/links/new"), b"by link").status == 200
    assert fetch(configured, "GET", link("GET", "/links/new")).body == b"by link"
    assert fetch(configured, "DELETE", link("DELETE", "/links/new")).status == 204


def test_links_have_one_refusal(configured):
    path, now = f"/links/{KEY}", int(time.time())
    good = link("GET", path)
    refused = [
        ("HEAD", good), ("GET", good.replace("links", "other")), ("GET", good + "&prefix=x"), ("GET", good.replace("X-Jay-Expires", "X")),
        ("GET", good.replace("X-Jay-Signature", "X")), ("GET", good[:-1]), ("GET", good + "&X-Jay-Expires=9999999999"),
        ("GET", link("GET", path, expires=now - 2)), ("GET", link("GET", path, expires=now + 604_800 + 60)),
        ("GET", link("GET", path, expires="")), ("GET", link("GET", path, expires="+9999999999")), ("GET", link("GET", path, expires=2**70)),
        ("GET", link("GET", path, token="nobody")), ("GET", link("GET", path, secret="another secret, also 32 bytes long")),
    ]  # fmt: skip
    for method, target in refused:
        answer = fetch(configured, method, target)
        assert answer.status == 403, (target, answer)
        if method == "GET":
            assert answer.code == "AccessDenied" and b"<Message>Invalid presigned URL</Message>" in answer.body, (target, answer)
    assert fetch(configured, "GET", link("GET", path, expires=now + 604_800)).body == b"hello"


def test_a_link_holds_in_its_bucket_whatever_the_host_says(new_server):
    """A link does not sign the host. With buckets in the host, its path was taken for a key alone: a link for `/links/k` read
    the object `links/k` of any bucket of the account whose name was put into the host."""
    server = new_server(
        JAY_VHOST_DOMAIN="jay.test", JAY_SIGNING_SECRET=SIGNING_SECRET, JAY_ADMIN_TOKEN="an admin token that is long enough",
        JAY_SEED_TOKEN_ACCOUNT="me", JAY_SEED_TOKEN_ID="reader", JAY_SEED_TOKEN_SECRET=SECRET,
    ).start()  # fmt: skip
    client = Client(server.port, "reader", SECRET)
    for bucket, key in [("links", "k"), ("other", "links/k")]:
        assert client.request("PUT", f"/{bucket}").status == 200
        assert client.request("PUT", f"/{bucket}/{key}", body=bucket.encode()).status == 200
    read, write = link("GET", "/links/k"), link("PUT", "/links/k")
    assert fetch(server, "GET", read).body == b"links"
    for method, target in [("GET", read), ("PUT", write)]:
        answer = fetch(server, method, target, b"lost" if method == "PUT" else b"", {"host": "other.jay.test"})
        assert (answer.status, answer.code) == (403, "AccessDenied"), answer
    assert client.request("GET", "/other/links/k").body == b"other"
    # The same object, by the other way to address it.
    in_host = read.removeprefix("/links")
    assert fetch(server, "GET", in_host, headers={"host": "links.jay.test"}).body == b"links"
    assert fetch(server, "GET", in_host, headers={"host": "other.jay.test"}).status == 403


def test_a_link_carries_no_more_than_the_rights_of_its_token(configured):
    answer = fetch(configured, "GET", link("GET", "/unknown/k"))
    assert (answer.status, answer.code) == (404, "NoSuchBucket"), answer


def bearer(token: str = "reader", secret: str = SECRET) -> dict[str, str]:
    return {"authorization": f"Bearer {token}:{secret}"}


def test_a_bearer_needs_no_signature(configured):
    path = key_path("links", "bearer")
    assert fetch(configured, "PUT", path, b"hello", bearer()).status == 200
    assert fetch(configured, "GET", path, headers=bearer()).body == b"hello"
    assert b"<Name>links</Name>" in fetch(configured, "GET", "/", headers=bearer()).body
    right, wrong = (hashlib.sha256(text).hexdigest() for text in (b"more", b"less"))
    assert fetch(configured, "PUT", path, b"more", bearer() | {"x-amz-content-sha256": right}).status == 200
    answer = fetch(configured, "PUT", path, b"lost", bearer() | {"x-amz-content-sha256": wrong})
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch"), answer
    chunked = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "4"}
    trailer = chunked | {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32"}
    body = b"4\r\n1234\r\n0\r\nx-amz-checksum-crc32:m+Pgow==\r\n\r\n"
    assert fetch(configured, "PUT", path, body, bearer() | trailer).status == 200
    assert fetch(configured, "GET", path, headers=bearer()).body == b"1234"
    for form in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"]:
        answer = fetch(configured, "PUT", path, b"lost", bearer() | chunked | {"x-amz-content-sha256": form})
        assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
    assert fetch(configured, "GET", path, headers=bearer()).body == b"1234"


def test_bearers_have_one_refusal(configured):
    refused = {
        (answer.status, answer.code, answer.body.split(b"<Resource>")[0])
        for answer in [
            fetch(configured, "GET", "/links", headers=bearer(*pair))
            for pair in [("reader", "wrong"), ("reader", ""), ("nobody", SECRET), ("nobody", ""), ("", ""), ("reader:a", SECRET)]
        ]
    }
    assert len(refused) == 1, refused
    assert refused.pop()[:2] == (403, "AccessDenied")
    answer = fetch(configured, "GET", "/links", headers={"authorization": "Bearer reader"})
    assert (answer.status, answer.code) == (400, "AuthorizationHeaderMalformed"), answer


@pytest.mark.weakness(24)
def test_secrets_and_signatures_stay_out_of_the_log(configured):
    target = link("GET", f"/links/{KEY}")
    fetch(configured, "GET", target)
    fetch(configured, "GET", "/links", headers=bearer(secret="w" * 40))
    log = configured.log.read_text() + configured.errors.read_text()
    assert '"token_id":"reader"' in log.replace(" ", "")
    for secret in [SECRET, SIGNING_SECRET, "w" * 40, target.split("X-Jay-Signature=")[1]]:
        assert secret not in log
