"""boto3 with its default settings: what today's SDKs send."""

import base64
import datetime
import hashlib
import io
import os

import botocore.exceptions
import pytest
from conftest import boto

ODD_KEYS = [
    "plain", "with space", "a+b", "100%", "%41", "a%2Fb", "//", "/leading", "trailing/", "a//b", "..", "../up", "a/../b",
    "./x", "ünïcödé/日本語/🚀", "quote'\"<&>", "back\\slash", "semi;colon", "q?x=1&y=2", "hash#mark", "tilde~", "star*!()",
    "at@colon:comma,equals=dollar$", "x" * 1024, "é" * 512,
]  # fmt: skip


def refused(call, *arguments, **named) -> tuple[str, int]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*arguments, **named)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_buckets(s3):
    s3.create_bucket(Bucket="boto-buckets")
    assert "boto-buckets" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    head = s3.head_bucket(Bucket="boto-buckets")
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "us-east-1"
    assert s3.get_bucket_location(Bucket="boto-buckets")["LocationConstraint"] is None
    s3.put_object(Bucket="boto-buckets", Key="k", Body=b"")
    assert refused(s3.delete_bucket, Bucket="boto-buckets") == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="boto-buckets", Key="k")
    s3.delete_bucket(Bucket="boto-buckets")
    assert refused(s3.head_bucket, Bucket="boto-buckets") == ("404", 404)


@pytest.mark.parametrize("size", [0, 1, 1000, 128 * 1024, 128 * 1024 + 1, 5 * 1024 * 1024 + 3])
def test_round_trip(s3, bucket, size):
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert got["ContentLength"] == size and got["ETag"] == put["ETag"]
    assert got["ContentType"] == "binary/octet-stream" or got["ContentType"] == "application/octet-stream"
    assert got["AcceptRanges"] == "bytes"
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size
    s3.delete_object(Bucket=bucket, Key="k")
    assert refused(s3.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)
    s3.delete_object(Bucket=bucket, Key="k")


def test_an_empty_object_does_not_confuse_the_connection(s3, bucket):
    """botocore misread the answer after the one to an empty body, and hung: such an answer must end the connection."""
    for _ in range(3):
        s3.put_object(Bucket=bucket, Key="empty", Body=b"")
        s3.put_object(Bucket=bucket, Key="full", Body=b"full")
    assert s3.get_object(Bucket=bucket, Key="full")["Body"].read() == b"full"


def test_a_stream_of_unknown_kind(s3, bucket):
    """upload_fileobj reads as it sends; below the multipart threshold it is one PUT."""
    body = os.urandom(3_000_000)
    s3.upload_fileobj(io.BytesIO(body), bucket, "k")
    into = io.BytesIO()
    s3.download_fileobj(bucket, "k", into)
    assert into.getvalue() == body


@pytest.mark.parametrize("size", [1000, 300_000])
def test_ranges(s3, bucket, size):
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for asked, wanted in [
        ("bytes=0-499", body[:500]), ("bytes=500-", body[500:]), ("bytes=-7", body[-7:]), ("bytes=0-0", body[:1]),
        (f"bytes=-{size * 2}", body), (f"bytes=10-{size * 2}", body[10:]), (f"bytes={size - 1}-{size - 1}", body[-1:]),
        ("bytes=65530-65550", body[65530:65551]),
    ]:  # fmt: skip
        if not wanted:
            continue
        got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
        assert got["Body"].read() == wanted, asked
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        first = body.find(wanted) if wanted != body else 0
        assert got["ContentRange"] == f"bytes {first}-{first + len(wanted) - 1}/{size}" or len(wanted) < 8, asked
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range=f"bytes={size}-") == ("InvalidRange", 416)


def test_headers_and_metadata(s3, bucket):
    kept = {
        "ContentType": "text/plain; charset=utf-8", "CacheControl": "max-age=60", "ContentDisposition": 'attachment; filename="x"',
        "ContentEncoding": "identity", "ContentLanguage": "de", "Metadata": {"one": "1", "two-words": "a b"},
    }  # fmt: skip
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires="Wed, 21 Oct 2026 07:28:00 GMT", **kept)
    for got in [s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")]:
        assert {name: got[name] for name in kept} == kept
        assert got["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert refused(s3.put_object, Bucket=bucket, Key="big", Body=b"", Metadata={"m": "x" * 3000}) == ("MetadataTooLarge", 400)


@pytest.mark.weakness(12)
def test_odd_keys(s3, bucket):
    for key in ODD_KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in ODD_KEYS:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode(), key
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(ODD_KEYS, key=str.encode)
    listed = [entry["Key"] for entry in s3.list_objects(Bucket=bucket)["Contents"]]
    assert listed == sorted(ODD_KEYS, key=str.encode)
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ODD_KEYS]})
    assert sorted(entry["Key"] for entry in deleted["Deleted"]) == sorted(ODD_KEYS)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_long_keys(s3, bucket):
    assert refused(s3.put_object, Bucket=bucket, Key="x" * 1025, Body=b"") == ("KeyTooLongError", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="é" * 513, Body=b"") == ("KeyTooLongError", 400)


@pytest.mark.weakness(12)
def test_listing_with_delimiter_and_pages(s3, bucket):
    keys = sorted([f"dir{d}/file{f}" for d in range(7) for f in range(5)] + [f"top{n}" for n in range(6)])
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"12")
    for operation in ["list_objects_v2", "list_objects"]:
        paginator = s3.get_paginator(operation)
        for size in [1, 2, 3, 1000]:
            files, prefixes = [], []
            for page in paginator.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}):
                assert len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size
                files += [entry["Key"] for entry in page.get("Contents", [])]
                prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
            assert files == [f"top{n}" for n in range(6)], (operation, size)
            assert prefixes == [f"dir{d}/" for d in range(7)], (operation, size)
            pages = paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
            assert [entry["Key"] for page in pages for entry in page.get("Contents", [])] == keys
    page = s3.list_objects_v2(Bucket=bucket, Prefix="dir3/", StartAfter="dir3/file2")
    assert [entry["Key"] for entry in page["Contents"]] == ["dir3/file3", "dir3/file4"]
    entry = page["Contents"][0]
    assert entry["Size"] == 2 and entry["ETag"] == f'"{hashlib.md5(b"12").hexdigest()}"' and entry["StorageClass"] == "STANDARD"
    page = s3.list_objects(Bucket=bucket, Marker="top3")
    assert [entry["Key"] for entry in page["Contents"]] == ["top4", "top5"]
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0


CHECKSUMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]


@pytest.mark.weakness(1, 11)
@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_checksums(s3, client, bucket, algorithm):
    body = os.urandom(200_000)
    try:
        put = s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    except botocore.exceptions.MissingDependencyException:
        # This boto3 computes CRC32, SHA1 and SHA256; the others need a package of its vendor.
        value = {"CRC32C": "crc32c", "CRC64NVME": "crc64nvme"}[algorithm]
        put = client.request("PUT", f"/{bucket}/k", body=b"123456789", headers={f"x-amz-checksum-{value}": KNOWN[algorithm]})
        assert put.status == 200, put
        assert put.headers[f"x-amz-checksum-{value}"] == KNOWN[algorithm]
        head = client.request("HEAD", f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
        assert head.headers[f"x-amz-checksum-{value}"] == KNOWN[algorithm]
        wrong = base64.b64encode(bytes(len(base64.b64decode(KNOWN[algorithm])))).decode()
        put = client.request("PUT", f"/{bucket}/k", body=b"other", headers={f"x-amz-checksum-{value}": wrong})
        assert (put.status, put.code) == (400, "BadDigest"), put
        assert client.request("GET", f"/{bucket}/k").body == b"123456789"
        return
    name = f"Checksum{algorithm}"
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    # boto3 itself checks the body against this one.
    assert got["Body"].read() == body
    assert got[name] == put[name]
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[name] == put[name]
    wrong = base64.b64encode(bytes(len(base64.b64decode(put[name])))).decode()
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"other", **{name: wrong}) == ("BadDigest", 400)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


# Of "123456789", as published with each polynomial.
KNOWN = {
    "CRC32C": base64.b64encode(0xE3069283.to_bytes(4)).decode(),
    "CRC64NVME": base64.b64encode(0xAE8B14860A799888.to_bytes(8)).decode(),
}


def test_content_md5(s3, bucket):
    body = b"some body"
    right = base64.b64encode(hashlib.md5(body).digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=body, ContentMD5=right)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"lost", ContentMD5=wrong) == ("BadDigest", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"lost", ContentMD5="garbage") == ("InvalidDigest", 400)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_delete_a_thousand(s3, bucket):
    keys = [f"key-{n:04}" for n in range(1000)]
    for key in keys[::5]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(answer["Deleted"]) == 1000 and "Errors" not in answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.put_object(Bucket=bucket, Key="last", Body=b"x")
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "last"}], "Quiet": True})
    assert "Deleted" not in quiet


def test_deletes_under_conditions(s3, bucket):
    failed, old = ("PreconditionFailed", 412), datetime.datetime(2015, 1, 1)
    put = lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"hello")["ETag"]  # noqa: E731
    etag = put()
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    for wrong in [{"IfMatch": "bad"}, {"IfMatchSize": 6}, {"IfMatchLastModifiedTime": old}, {"IfMatch": etag, "IfMatchSize": 0}]:
        assert refused(s3.delete_object, Bucket=bucket, Key="k", **wrong) == failed, wrong
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag, IfMatchSize=5, IfMatchLastModifiedTime=modified)
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)
    # Where there is no object, there is nothing to hold.
    for gone in [{"IfMatch": "bad"}, {"IfMatch": "*"}, {"IfMatchSize": 6}, {"IfMatchLastModifiedTime": old}]:
        assert s3.delete_object(Bucket=bucket, Key="k", **gone)["ResponseMetadata"]["HTTPStatusCode"] == 204
    put()
    s3.delete_object(Bucket=bucket, Key="k", IfMatch="*")
    assert refused(s3.head_object, Bucket=bucket, Key="k") == ("404", 404)


def test_deletes_of_many_under_conditions(s3, bucket):
    etag = {key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"] for key in "abcdef"}
    modified = s3.head_object(Bucket=bucket, Key="e")["LastModified"]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [
        {"Key": "a", "ETag": etag["b"]}, {"Key": "b", "ETag": etag["b"]}, {"Key": "c", "Size": 2}, {"Key": "d"},
        {"Key": "e", "LastModifiedTime": modified, "Size": 1}, {"Key": "f", "LastModifiedTime": datetime.datetime(2015, 1, 1)},
        {"Key": "none", "ETag": "bad"},
    ]})  # fmt: skip
    assert [error["Code"] for error in answer["Errors"]] == ["PreconditionFailed"] * 3, answer
    assert [error["Key"] for error in answer["Errors"]] == ["a", "c", "f"]
    assert [deleted["Key"] for deleted in answer["Deleted"]] == ["b", "d", "e", "none"]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a", "c", "f"]


def test_unknown_buckets_and_bad_names(s3, server):
    for call, more in [
        (s3.list_objects_v2, {}), (s3.get_object, {"Key": "k"}), (s3.put_object, {"Key": "k", "Body": b""}),
        (s3.delete_object, {"Key": "k"}), (s3.delete_bucket, {}), (s3.get_bucket_location, {}),
    ]:  # fmt: skip
        assert refused(call, Bucket="no-such-bucket", **more) == ("NoSuchBucket", 404), call
    client = server.client()
    for name in ["Upper", "a", "ab", "under_score", "x" * 64, "-x-", "1.2.3.4", "a..b", "a.-b", "a-.b", "a.b-"]:
        answer = client.request("PUT", f"/{name}")
        assert (answer.status, answer.code) == (400, "InvalidBucketName"), (name, answer)
    # The rule about hyphens came later: what goes by such a name already stays reachable.
    assert client.request("GET", "/a.-b").code == "NoSuchBucket"
    for name in ["a--b", "a.b-c.d", "xn--a", "sthree-a", "a-s3alias", "a--ol-s3"]:
        assert client.request("PUT", f"/{name}").status == 200, name
    assert client.request("PUT", "/default").status in (200, 409)


def test_wrong_credentials(server, bucket):
    wrong = boto(server, aws_secret_access_key="x" * 40)
    assert refused(wrong.list_buckets) == ("SignatureDoesNotMatch", 403)
    assert refused(wrong.put_object, Bucket=bucket, Key="k", Body=b"x") == ("SignatureDoesNotMatch", 403)
    unknown = boto(server, aws_access_key_id="JAYAAAAAAAAAAAAAAAAA")
    assert refused(unknown.list_buckets) == ("InvalidAccessKeyId", 403)
    assert boto(server).list_objects_v2(Bucket=bucket)["KeyCount"] == 0
