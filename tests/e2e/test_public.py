"""Public buckets and access lists."""

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from conftest import boto
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
