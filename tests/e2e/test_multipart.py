"""Multipart uploads, copies and tags over raw HTTP: races, borders, and what is left behind."""

import base64
import hashlib
import http.client
import random
import re
import socket
import struct
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from jay_testing import Client, Server, files_below, key_path, read_answer

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
# Under this size a part rides in the log, above it is a file.
SMALL, LARGE = 1_000, 200_000
SECONDS = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of its own: parts may have any size, and the files can be counted."""
    own = Server(tmp_path_factory.mktemp("multipart") / "data", JAY_S3_MIN_PART_SIZE="0").start()
    yield own
    assert own.stop() == 0


def at_once(client: Client, calls: list) -> list:
    """Runs `calls` at the same moment, each with a connection of its own."""
    gate = threading.Barrier(len(calls))

    def run(call):
        own = Client(client.port, client.access_key_id, client.secret)
        gate.wait()
        return call(own)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def create(client: Client, path: str, **headers: str) -> str:
    answer = client.request("POST", path, "uploads=", headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == 200, answer
    return re.search(r"<UploadId>(\w+)</UploadId>", answer.body.decode())[1]


def part(client: Client, path: str, upload: str, number, body: bytes = b"", **headers: str):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("PUT", path, f"partNumber={number}&uploadId={upload}", body, sent)


def listed(parts: list) -> bytes:
    items = (f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{''.join(items)}</CompleteMultipartUpload>".encode()


def complete(client: Client, path: str, upload: str, parts: list, **headers: str):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("POST", path, f"uploadId={upload}", listed(parts), sent)


def abort(client: Client, path: str, upload: str):
    return client.request("DELETE", path, f"uploadId={upload}")


def upload_all(client: Client, path: str, bodies: list[bytes], **headers: str) -> bytes:
    """Stores an object of these parts; its bytes."""
    upload = create(client, path, **headers)
    parts = [(n, part(client, path, upload, n, body).headers["etag"]) for n, body in enumerate(bodies, 1)]
    answer = complete(client, path, upload, parts)
    assert answer.status == 200, answer
    return b"".join(bodies)


def copy(client: Client, source: str, path: str, **headers: str):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("PUT", path, headers={"x-amz-copy-source": source} | sent)


def tag(client: Client, path: str, value: str):
    document = f"<Tagging><TagSet><Tag><Key>t</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
    return client.request("PUT", path, "tagging=", document.encode())


def etag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def wait_for_files(server: Server, count: int) -> None:
    """Waits until the collector has left so many."""
    deadline = time.monotonic() + SECONDS
    while (left := len(files_below(server.data_dir / "objects"))) != count:
        assert time.monotonic() < deadline, f"{left} files are left, not {count}"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """Whatever a test has done to its bucket: once that is gone, no file is left."""
    if "bucket" not in request.fixturenames:
        yield
        return
    server, client, bucket = map(request.getfixturevalue, ["server", "client", "bucket"])
    yield
    for key in re.findall("<Key>(.*?)</Key>", client.request("GET", f"/{bucket}").body.decode()):
        assert client.request("DELETE", f"/{bucket}/{key}").status == 204
    assert client.request("DELETE", f"/{bucket}").status == 204
    wait_for_files(server, 0)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "%2B1", "1e3", "1.0", "%201", "0x1", "9" * 30, ""])
def test_part_numbers_are_from_1_to_10000(client, bucket, number):
    path = f"/{bucket}/k"
    upload = create(client, path)
    answer = part(client, path, upload, number, b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer
    assert b"<Part>" not in client.request("GET", path, f"uploadId={upload}").body
    # And those of reads.
    assert client.request("PUT", path, body=b"x").status == 200
    answer = client.request("GET", path, f"partNumber={number}")
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer


def test_an_upload_is_of_one_key(client, bucket):
    path, other = f"/{bucket}/k", f"/{bucket}/other"
    client.request("PUT", other, body=b"kept")
    mine = create(client, path)
    done = create(client, path)
    etag = part(client, path, done, 1, b"x").headers["etag"]
    assert complete(client, path, done, [(1, etag)]).status == 200
    ids = [mine, "0" * 32, mine.upper(), mine[:-1], "", "%00", "..%2F..%2Fk", "a" * 500]
    for upload, target in [*((upload, other) for upload in ids), (done, path)]:
        late = [] if upload == done else [complete(client, target, upload, [(1, etag_of(b"lost"))])]
        for answer in [
            part(client, target, upload, 1, b"lost"), client.request("GET", target, f"uploadId={upload}"),
            abort(client, target, upload), *late,
        ]:  # fmt: skip
            assert (answer.status, answer.code) == (404, "NoSuchUpload"), (upload, target, answer)
    assert client.request("GET", other).body == b"kept"
    assert client.request("GET", path).body == b"x"
    assert abort(client, path, mine).status == 204


@pytest.mark.weakness(15)
def test_a_refused_list_leaves_the_upload_open(client, bucket):
    path = f"/{bucket}/k"
    upload = create(client, path)
    one, two = [part(client, path, upload, n, bytes([n]) * SMALL).headers["etag"] for n in (1, 2)]
    bad_sum = f"{one}</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32><ETag>"
    for parts, code in [
        ([], "MalformedXML"), ([(2, two), (1, one)], "InvalidPartOrder"), ([(1, one), (1, one)], "InvalidPartOrder"),
        ([(1, one), (3, two)], "InvalidPart"), ([(1, two)], "InvalidPart"), ([(1, "*")], "InvalidPart"), ([(1, "")], "InvalidPart"),
        ([(0, one)], "InvalidArgument"), ([(10001, one)], "InvalidArgument"), ([("1e0", one)], "MalformedXML"),
        ([(1, one + "<x/>")], "MalformedXML"), ([(1, bad_sum)], "MalformedXML"), ([("&x;", one)], "MalformedXML"),
        ([(1, f"{one}</ETag><ETag>{one}")], "MalformedXML"),
    ]:  # fmt: skip
        answer = complete(client, path, upload, parts)
        assert (answer.status, answer.code) == (400, code), (parts, answer)
    for headers, status in [({"x_amz_mp_object_size": "1"}, 400), ({"if_match": '"a"'}, 404), ({"x_amz_checksum_type": "COMPOSITE"}, 400)]:
        answer = complete(client, path, upload, [(1, one)], **headers)
        assert answer.status == status, (headers, answer)
    assert client.request("GET", path).code == "NoSuchKey"
    quoted = [(1, one.strip('"')), (2, f" {two.replace(chr(34), '&quot;')}\n")]
    assert complete(client, path, upload, quoted).status == 200
    assert client.request("GET", path).body == b"\x01" * SMALL + b"\x02" * SMALL
    # The first answer may have been lost: the same list again is answered, another one is not.
    assert complete(client, path, upload, quoted).status == 200
    assert complete(client, path, upload, [(1, one)]).code == "NoSuchUpload"


def test_ranges_and_parts_over_every_border(client, bucket):
    sizes = [SMALL, 0, 1, LARGE, 7, 300_001, 0]
    dice = random.Random(1)
    bodies = [dice.randbytes(size) for size in sizes]
    whole = upload_all(client, f"/{bucket}/k", bodies)
    borders = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    points = sorted({max(0, border + near) for border in borders for near in (-1, 0, 1)} | {2 << 16, 1 << 18})
    for first in points:
        for last in [first, *dice.sample(points, 3), len(whole) + 5]:
            answer = client.request("GET", f"/{bucket}/k", headers={"range": f"bytes={first}-{last}"})
            if first >= len(whole) and last >= first:
                assert (answer.status, answer.code) == (416, "InvalidRange"), (first, last, answer)
            elif last >= first:
                end = min(last, len(whole) - 1)
                assert answer.headers["content-range"] == f"bytes {first}-{end}/{len(whole)}"
                assert answer.body == whole[first : last + 1], (first, last)
    assert client.request("GET", f"/{bucket}/k").body == whole
    for number, body in enumerate(bodies, 1):
        for method in ["GET", "HEAD"]:
            answer = client.request(method, f"/{bucket}/k", f"partNumber={number}")
            assert answer.headers["content-length"] == str(len(body)) and answer.headers["x-amz-mp-parts-count"] == "7"
            assert answer.body == (body if method == "GET" else b""), number
    answer = client.request("GET", f"/{bucket}/k", "partNumber=8")
    assert (answer.status, answer.code) == (416, "InvalidPartNumber"), answer


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_checksums_are_those_that_the_client_computes(client, bucket, kind):
    crc32 = lambda body: struct.pack(">I", zlib.crc32(body))  # noqa: E731
    bodies = [random.Random(n).randbytes(size) for n, size in enumerate([SMALL, LARGE, 0, 333])]
    path = f"/{bucket}/k"
    upload = create(client, path, x_amz_checksum_algorithm="CRC32", x_amz_checksum_type=kind)
    parts = []
    for n, body in enumerate(bodies, 1):
        answer = part(client, path, upload, n, body, **({"x_amz_checksum_crc32": in_base64(crc32(body))} if n % 2 else {}))
        assert answer.headers["x-amz-checksum-crc32"] == in_base64(crc32(body)), answer
        parts.append((n, answer.headers["etag"]))
    answer = part(client, path, upload, 9, b"x", x_amz_checksum_crc32=in_base64(crc32(b"y")))
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    answer = part(client, path, upload, 9, b"x", x_amz_checksum_sha1=in_base64(hashlib.sha1(b"x").digest()))
    assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
    whole = {"COMPOSITE": in_base64(crc32(b"".join(map(crc32, bodies)))) + "-4", "FULL_OBJECT": in_base64(crc32(b"".join(bodies)))}
    other = in_base64(crc32(b"other")) + ("-4" if kind == "COMPOSITE" else "")
    answer = complete(client, path, upload, parts, x_amz_checksum_crc32=other)
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    answer = complete(client, path, upload, parts, x_amz_checksum_crc32=whole[kind], x_amz_checksum_type=kind)
    assert answer.status == 200 and f"<ChecksumCRC32>{whole[kind]}<".encode() in answer.body, answer
    assert copy(client, path, f"{path}2").status == 200
    assert copy(client, path, f"{path}3", x_amz_checksum_algorithm="SHA256").status == 200
    sums = [client.request("HEAD", f"{path}{n}", headers={"x-amz-checksum-mode": "ENABLED"}).headers for n in ("", "2", "3")]
    assert [told.get("x-amz-checksum-crc32") for told in sums] == [whole[kind], whole[kind], None]
    assert [told["x-amz-checksum-type"] for told in sums] == [kind, kind, "FULL_OBJECT"]
    assert sums[2]["x-amz-checksum-sha256"] == in_base64(hashlib.sha256(b"".join(bodies)).digest())


@pytest.mark.weakness(9)
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_writers_of_one_part_never_mix(client, bucket, size):
    bodies = [bytes([65 + n]) * (size + n) for n in range(16)]
    path = f"/{bucket}/k"
    for _ in range(3):
        upload = create(client, path, x_amz_checksum_algorithm="SHA256")
        answers = at_once(client, [lambda own, body=body: part(own, path, upload, 1, body) for body in bodies])
        assert [answer.headers["etag"] for answer in answers] == [etag_of(body) for body in bodies]
        told = client.request("GET", path, f"uploadId={upload}").body.decode()
        winner = next(body for body in bodies if etag_of(body).strip('"') in told)
        digest = hashlib.sha256(winner).digest()
        assert f"<Size>{len(winner)}</Size>" in told and in_base64(digest) in told
        # Parts that come while it is completed are too early, and it fails, or too late.
        done, *late = at_once(
            client,
            [lambda own: complete(own, path, upload, [(1, etag_of(winner))])]
            + [lambda own, body=body: part(own, path, upload, 1, body) for body in bodies[:6]],
        )
        assert {answer.code for answer in late} <= {None, "NoSuchUpload"}, late
        if done.status == 200:
            got = client.request("GET", path, headers={"x-amz-checksum-mode": "ENABLED"})
            assert got.body == winner
            assert got.headers["x-amz-checksum-sha256"] == in_base64(hashlib.sha256(digest).digest()) + "-1"
        else:
            assert done.code == "InvalidPart", done
            assert abort(client, path, upload).status == 204
        client.request("DELETE", path)


def test_an_upload_ends_once(client, bucket):
    """Two that complete it with the same list get one object; another list and the end of the upload get nothing then."""
    for n in range(12):
        path = f"/{bucket}/k{n}"
        upload = create(client, path)
        bodies = [bytes([letter]) * LARGE for letter in b"abc"]
        one, two, three = [(n, part(client, path, upload, n, body).headers["etag"]) for n, body in enumerate(bodies, 1)]
        first, again, other, end = at_once(
            client,
            [
                lambda own: complete(own, path, upload, [one, two]), lambda own: complete(own, path, upload, [one, two]),
                lambda own: complete(own, path, upload, [two, three]), lambda own: abort(own, path, upload),
            ],
        )  # fmt: skip
        assert first.status == again.status, (first, again)
        assert [answer.status for answer in (first, other, end)].count(200 if end.status != 204 else 204) == 1, (first, other, end)
        assert {answer.code for answer in (first, other, end)} <= {None, "NoSuchUpload"}, (first, other, end)
        got = client.request("GET", path)
        if end.status == 204:
            assert got.code == "NoSuchKey"
        else:
            assert got.body == (bodies[0] + bodies[1] if first.status == 200 else bodies[1] + bodies[2])
        assert b"<Upload>" not in client.request("GET", f"/{bucket}", "uploads=").body


def test_one_of_many_creates_the_object(client, bucket):
    """By PUT, copy and Complete: all ask that there be none."""
    client.request("PUT", f"/{bucket}/source", body=b"source")
    for n in range(4):
        path = f"/{bucket}/k{n}"
        uploads = [create(client, path) for _ in range(8)]
        etags = [part(client, path, upload, 1, b"part").headers["etag"] for upload in uploads]
        answers = at_once(
            client,
            [lambda own, u=u, e=e: complete(own, path, u, [(1, e)], if_none_match="*") for u, e in zip(uploads, etags)]
            + [lambda own: own.request("PUT", path, body=b"put", headers={"if-none-match": "*"})] * 8
            + [lambda own: copy(own, f"/{bucket}/source", path, if_none_match="*")] * 8,
        )
        assert sorted(answer.status for answer in answers) == [200] + [412] * 23, answers
        winner = next(i for i, answer in enumerate(answers) if answer.status == 200)
        got = client.request("GET", path)
        assert got.body == [b"part", b"put", b"source"][winner // 8]
        answers = at_once(
            client,
            [lambda own, n=n: own.request("PUT", path, body=b"%d" % n, headers={"if-match": got.headers["etag"]}) for n in range(16)],
        )
        assert sorted(answer.status for answer in answers) == [200] + [412] * 15, answers
        assert client.request("GET", path).body == b"%d" % next(i for i, answer in enumerate(answers) if answer.status == 200)


class SlowReader:
    """Has begun to read, and takes the rest when told."""

    def __init__(self, client: Client, path: str):
        self.stream = socket.socket()
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stream.settimeout(SECONDS)
        self.stream.connect(("127.0.0.1", client.port))
        self.stream.sendall(client.head_bytes("GET", path))
        self.response = http.client.HTTPResponse(self.stream)
        self.response.begin()
        self.begun = self.response.read(1)

    def rest(self) -> bytes:
        with self.stream:
            return self.begun + self.response.read()

    def close(self) -> None:
        self.response.close()
        self.stream.close()


@pytest.mark.weakness(13)
@pytest.mark.parametrize("change", ["delete", "overwrite", "complete", "replace metadata"])
def test_readers_get_what_they_began(server, client, bucket, change):
    path = f"/{bucket}/k"
    sizes = [LARGE, 3_000_000, SMALL, 4_000_000, LARGE]
    whole = upload_all(client, path, [random.Random(n).randbytes(size) for n, size in enumerate(sizes)])
    readers = [SlowReader(client, path) for _ in range(3)]
    if change == "delete":
        assert client.request("DELETE", path).status == 204
    elif change == "overwrite":
        assert client.request("PUT", path, body=b"new").status == 200
    elif change == "complete":
        upload_all(client, path, [b"n" * LARGE] * 3)
    else:
        assert copy(client, path, path, x_amz_metadata_directive="REPLACE").status == 200
    time.sleep(0.3)
    gone = readers.pop()
    assert [reader.rest() == whole for reader in readers] == [True, True]
    gone.close()


@pytest.mark.weakness(36)
def test_nothing_is_left_of_uploads(server, client, bucket):
    path = f"/{bucket}/k"
    upload = create(client, path)
    for n in range(6):
        part(client, path, upload, 1, bytes([n]) * LARGE)
    wait_for_files(server, 1)
    etag = part(client, path, upload, 2, b"b" * LARGE).headers["etag"]
    assert complete(client, path, upload, [(2, etag)]).status == 200
    wait_for_files(server, 1)
    assert client.request("GET", path).body == b"b" * LARGE
    assert client.request("DELETE", path).status == 204

    def begin(upload: str) -> socket.socket:
        stream = client.socket()
        query = f"partNumber=9&uploadId={upload}"
        stream.sendall(client.head_bytes("PUT", path, query, headers={"content-length": str(2 * LARGE)}) + b"x" * LARGE)
        time.sleep(0.1)
        return stream

    def end(stream: socket.socket) -> str | None:
        with stream:
            stream.sendall(b"x" * LARGE)
            return read_answer(stream).code

    aborted, open_still = create(client, path), create(client, path)
    for upload in [aborted, open_still]:
        part(client, path, upload, 1, b"a" * LARGE)
    stream = begin(aborted)
    assert abort(client, path, aborted).status == 204
    assert end(stream) == "NoSuchUpload"
    # Open uploads do not keep a bucket, and are none of the next one with its name.
    stream = begin(open_still)
    assert client.request("DELETE", f"/{bucket}").status == 204
    assert client.request("PUT", f"/{bucket}").status == 200
    assert end(stream) == "NoSuchBucket"
    assert part(client, path, open_still, 2, b"x").code == "NoSuchUpload"
    assert b"<Upload>" not in client.request("GET", f"/{bucket}", "uploads=").body


def test_copies_outlive_their_sources(server, client, bucket):
    other = f"{bucket}-other"
    client.request("PUT", f"/{other}")
    for kind, bodies in [("parts", [b"a" * LARGE, b"b" * SMALL, b"c" * LARGE]), ("file", [b"f" * LARGE]), ("log", [b"l" * SMALL])]:
        source = f"/{bucket}/{kind}"
        if kind == "parts":
            whole = upload_all(client, source, bodies)
        else:
            [whole] = bodies
            client.request("PUT", source, body=whole)
        etag = client.request("HEAD", source).headers["etag"]
        for n in range(6):
            path = f"/{other if n % 2 else bucket}/{kind}{n}"
            assert copy(client, source, path).status == 200
            assert client.request("DELETE", source).status == 204
            source = path
        wait_for_files(server, {"parts": 2, "file": 1, "log": 0}[kind])
        got = client.request("GET", source)
        assert (got.body, got.headers["etag"]) == (whole, etag)
        client.request("DELETE", source)


def test_a_part_is_copied_out_of_the_range_that_was_asked_for(client, bucket):
    body = random.Random(7).randbytes(2 * LARGE)
    path = f"/{bucket}/k"
    client.request("PUT", path, body=body)
    upload = create(client, path)

    def from_itself(number: int, asked: str | None, source: str = path, **headers: str):
        asked = {} if asked is None else {"x_amz_copy_source_range": asked}
        return part(client, path, upload, number, x_amz_copy_source=source, **asked, **headers)

    end = len(body)
    for bad in [
        f"bytes=0-{end}", f"bytes={end}-{end}", f"bytes=0-{2**64 - 1}", "bytes=5-4", "bytes=5-", "bytes=-5", "0-5", "bytes=0-1,3-4", "",
    ]:  # fmt: skip
        answer = from_itself(1, bad)
        assert (answer.status, answer.code) in [(400, "InvalidArgument"), (416, "InvalidRange")], (bad, answer)
    for source, status, code in [(f"/{bucket}/none", 404, "NoSuchKey"), ("/there-is-none/k", 404, "NoSuchBucket"), (bucket, 400, "InvalidArgument")]:
        answer = from_itself(1, None, source)
        assert (answer.status, answer.code) == (status, code), answer
    assert from_itself(1, None, x_amz_copy_source_if_none_match=etag_of(body)).status == 412
    assert b"<Part>" not in client.request("GET", path, f"uploadId={upload}").body
    parts = []
    for number, (first, last) in enumerate([(LARGE - 1, end - 1), (0, 0), (end - 1, end - 1), (0, LARGE)], 1):
        answer = from_itself(number, f"bytes={first}-{last}")
        assert answer.status == 200, answer
        parts.append((number, etag_of(body[first : last + 1])))
    assert complete(client, path, upload, parts).status == 200
    assert client.request("GET", path).body == body[LARGE - 1 :] + body[:1] + body[-1:] + body[: LARGE + 1]


def test_a_copy_is_of_one_version(client, bucket):
    """The source is overwritten and tagged all the time: bytes, ETag and metadata of a copy belong together."""
    source, over = f"/{bucket}/source", threading.Event()

    def write(own: Client) -> None:
        for n in range(10**9):
            if over.is_set():
                return
            body = b"%08d" % n * (20_000 if n % 2 else 10)
            headers = {"x-amz-meta-md5": hashlib.md5(body).hexdigest()}
            assert own.request("PUT", source, body=body, headers=headers).status == 200

    def set_tags(own: Client) -> None:
        while not over.is_set():
            assert tag(own, source, "x").status == 200

    def take(own: Client) -> list[str]:
        """With a checksum that the source does not have: the copy takes longer, and the source changes meanwhile."""
        taken = []
        try:
            for n in range(30):
                taken.append(f"/{bucket}/{threading.get_ident()}-{n}")
                assert copy(own, source, taken[-1], x_amz_checksum_algorithm="SHA1").status == 200
        finally:
            over.set()
        return taken

    client.request("PUT", source, headers={"x-amz-meta-md5": hashlib.md5(b"").hexdigest()})
    *_, some, others = at_once(client, [write, write, set_tags, take, take])
    client.request("DELETE", source)
    for path in some + others:
        got = client.request("GET", path)
        md5 = hashlib.md5(got.body).hexdigest()
        assert got.status == 200 and (got.headers["etag"], got.headers["x-amz-meta-md5"]) == (f'"{md5}"', md5), got


def test_open_uploads_are_listed_page_by_page(client, bucket):
    keys = ["a", "a/", "a/b", "a/b/c", "a//", "ab", "a b", "a+b", "a%b", "a&b<c>", "ü", "日本", "😀", "z" * 1024, "/", "\x01", "a\n", "a\uffff"]
    opened = [(key, create(client, key_path(bucket, key))) for key in keys for _ in range(2)]
    opened.sort(key=lambda entry: (entry[0].encode(), entry[1]))

    def pages(size: int, prefix: str, delimiter: str) -> tuple[list, list]:
        uploads, prefixes, markers = [], [], {}
        while True:
            asked = {"uploads": "", "max-uploads": str(size), "encoding-type": "url", "prefix": prefix, "delimiter": delimiter} | markers
            query = "&".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in sorted(asked.items()))
            answer = client.request("GET", f"/{bucket}", query)
            assert answer.status == 200, answer
            page = ElementTree.fromstring(answer.body)
            text = lambda element, name: urllib.parse.unquote(element.findtext(NAMESPACE + name) or "")  # noqa: E731
            uploads += [(text(upload, "Key"), text(upload, "UploadId")) for upload in page.iter(NAMESPACE + "Upload")]
            prefixes += [text(common, "Prefix") for common in page.iter(NAMESPACE + "CommonPrefixes")]
            if text(page, "IsTruncated") == "false":
                return uploads, prefixes
            markers = {"key-marker": text(page, "NextKeyMarker"), "upload-id-marker": text(page, "NextUploadIdMarker")}

    for prefix, delimiter in [("", ""), ("a", ""), ("", "/"), ("a/", "/"), ("a", "b"), ("", "a")]:
        below = [(key[len(prefix) :].partition(delimiter or "\0"), key, upload) for key, upload in opened if key.startswith(prefix)]
        plain = [(key, upload) for (_, found, _), key, upload in below if not found]
        common = sorted({prefix + start + found for (start, found, _), _, _ in below if found}, key=str.encode)
        for size in [1, 3, 1000]:
            assert pages(size, prefix, delimiter) == (plain, common), (size, prefix, delimiter)


def test_uploads_outlive_kill_9(new_server):
    server = new_server(JAY_S3_MIN_PART_SIZE="0").start()
    client = server.client()
    client.request("PUT", "/bkt")
    upload, aborted = create(client, "/bkt/k", x_amz_meta_a="b"), create(client, "/bkt/k")
    bodies = [b"a" * LARGE, b"b" * SMALL, b"c" * LARGE]
    parts = [(n, part(client, "/bkt/k", upload, n, body).headers["etag"]) for n, body in enumerate(bodies, 1)]
    part(client, "/bkt/k", aborted, 1, b"x" * LARGE)
    assert abort(client, "/bkt/k", aborted).status == 204
    with client.socket() as stream:
        query = f"partNumber=2&uploadId={upload}"
        stream.sendall(client.head_bytes("PUT", "/bkt/k", query, headers={"content-length": str(9 * LARGE)}) + b"x" * LARGE)
        server.kill()
    server.start()
    client = server.client()
    wait_for_files(server, 2)
    assert complete(client, "/bkt/k", upload, parts).status == 200
    assert copy(client, "/bkt/k", "/bkt/copy").status == 200
    assert tag(client, "/bkt/copy", "kept").status == 200
    assert client.request("DELETE", "/bkt/k").status == 204
    server.kill()
    server.start()
    client = server.client()
    got = client.request("GET", "/bkt/copy")
    assert (got.body, got.headers["x-amz-meta-a"]) == (b"".join(bodies), "b")
    assert b"<Value>kept</Value>" in client.request("GET", "/bkt/copy", "tagging=").body
    assert client.request("GET", "/bkt/k").code == "NoSuchKey"
    client.request("DELETE", "/bkt/copy")
    wait_for_files(server, 0)
