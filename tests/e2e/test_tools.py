"""Tools and libraries that people already have, with their default settings: what they moved is compared byte by byte.

boto3's transfer manager, the AWS CLI, rclone and restic (Debian's), s3fs and pyarrow (PyPI's).
"""

import datetime
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
import s3fs
from conftest import boto
from jay_testing import clean_environment, key_path

MIB = 1 << 20
# What boto3 and the AWS CLI cut files into.
PART_BYTES = 8 * MIB


def random_file(path: Path, size: int) -> str:
    """Makes it; the SHA-256 of its bytes."""
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while size:
            chunk = os.urandom(min(size, 4 * MIB))
            digest.update(chunk)
            size -= file.write(chunk)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def same(found: bytes, expected: bytes) -> bool:
    """So that a failure does not print what differs in megabytes."""
    return found == expected


def small_tree(root: Path) -> dict[str, bytes]:
    """Old files of all kinds of sizes and names; what is in them by their path below `root`."""
    chance = random.Random(str(root))
    sizes = [0, 1, 100, 4096, 128 << 10, (128 << 10) + 1, 700_000]
    names = ["plain", "with space", "ünï/cödé 🚀", "a+b & c=d", "deep/er/and/deeper", "100%", "deep/#hash?"]
    tree = {f"{name}.{number}": chance.randbytes(size) for name in names for number, size in enumerate(sizes)}
    for name, body in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1e9, 1e9))
    return tree


def files_of(root: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file by its path below `root`."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_size, sha256(path)) for path in files}


def keys(s3, bucket: str, prefix: str = "") -> dict[str, int]:
    """Every key and its size."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def no_upload_left(s3, bucket: str) -> None:
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def fetch(url: str) -> tuple[int, bytes]:
    """Plain HTTP, as a browser asks."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def run(program: str, *arguments: str | Path, environment: dict[str, str], stdin: bytes = b"") -> str:
    """What a program of Debian's says; it must succeed."""
    found = shutil.which(program)
    assert found, f"{program} is not installed: apt-get install {program} (tests/run does it)"
    done = subprocess.run(
        [found, *map(str, arguments)], env=environment, input=stdin, capture_output=True, timeout=600
    )
    said, complained = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, f"{program} {arguments}: {done.returncode}\n{said}\n{complained}"
    return said + complained


# boto3's transfer manager


def test_boto3_transfer_manager(new_server, tmp_path, everything):
    """A file goes up in parts and comes down in ranges, several at a time; the server holds none of it in memory."""
    server = new_server().start()
    s3 = boto(server)
    size = (2 << 30 if everything else 64 * MIB) + 12_345
    source, back = tmp_path / "source", tmp_path / "back"
    digest = random_file(source, size)
    s3.upload_file(str(source), "default", "big file", ExtraArgs={"Metadata": {"kept": "yes"}, "ContentType": "x/y"})
    source.unlink()
    head = s3.head_object(Bucket="default", Key="big file")
    assert head["ContentLength"] == size
    assert head["ETag"].endswith(f'-{size // PART_BYTES + 1}"')
    assert head["Metadata"] == {"kept": "yes"} and head["ContentType"] == "x/y"
    s3.download_file("default", "big file", str(back))
    assert sha256(back) == digest
    back.unlink()
    # Larger than the threshold, so it is copied part by part.
    s3.copy({"Bucket": "default", "Key": "big file"}, "default", "copy")
    assert s3.head_object(Bucket="default", Key="copy")["ETag"].endswith(f'-{size // PART_BYTES + 1}"')
    s3.download_file("default", "copy", str(back))
    assert sha256(back) == digest
    back.unlink()
    no_upload_left(s3, "default")
    peak = server.peak_rss_bytes()
    print(f"peak RSS {peak / MIB:.0f} MiB")
    # Less than ten parts at a time would take.
    assert peak < 96 * MIB, f"{peak / MIB:.0f} MiB"
    assert server.stop() == 0
    shutil.rmtree(server.data_dir)


# The AWS CLI


def test_aws_cp_of_a_large_file(aws, s3, bucket, tmp_path):
    size = 100 * MIB + 1
    digest = random_file(tmp_path / "large", size)
    aws("s3", "cp", "--only-show-errors", tmp_path / "large", f"s3://{bucket}/large")
    assert keys(s3, bucket) == {"large": size}
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-13"')
    no_upload_left(s3, bucket)
    aws("s3", "cp", "--only-show-errors", f"s3://{bucket}/large", tmp_path / "back")
    assert sha256(tmp_path / "back") == digest


@pytest.mark.parametrize("size", [1000, 20 * MIB + 7])
def test_aws_mv(aws, s3, bucket, tmp_path, size):
    """Into a bucket, within it, to another and out of it: each time it is gone where it was."""
    other = f"{bucket}-b"
    s3.create_bucket(Bucket=other)
    digest = random_file(tmp_path / "file", size)
    aws("s3", "mv", "--only-show-errors", "--metadata", "colour=blue", tmp_path / "file", f"s3://{bucket}/a")
    assert not (tmp_path / "file").exists() and keys(s3, bucket) == {"a": size}
    s3.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "tag", "Value": "kept"}]})
    aws("s3", "mv", "--only-show-errors", f"s3://{bucket}/a", f"s3://{bucket}/b ü")
    assert keys(s3, bucket) == {"b ü": size}
    aws("s3", "mv", "--only-show-errors", f"s3://{bucket}/b ü", f"s3://{other}/dir/")
    assert keys(s3, bucket) == {} and keys(s3, other) == {"dir/b ü": size}
    if size < PART_BYTES:
        # What is larger this version of the CLI copies part by part, and leaves both behind.
        assert s3.head_object(Bucket=other, Key="dir/b ü")["Metadata"] == {"colour": "blue"}
        assert s3.get_object_tagging(Bucket=other, Key="dir/b ü")["TagSet"] == [{"Key": "tag", "Value": "kept"}]
    aws("s3", "mv", "--only-show-errors", f"s3://{other}/dir/b ü", tmp_path / "back")
    assert keys(s3, other) == {}
    assert sha256(tmp_path / "back") == digest


def test_aws_sync_delete(aws, s3, bucket, tmp_path):
    """Both ways: what the source does not have goes, what changed is sent, and nothing else."""
    tree = small_tree(tmp_path / "tree")
    aws("s3", "sync", "--only-show-errors", tmp_path / "tree", f"s3://{bucket}")
    assert keys(s3, bucket) == {name: len(body) for name, body in tree.items()}
    gone, changed = sorted(tree)[0], sorted(tree)[-1]
    (tmp_path / "tree" / gone).unlink()
    (tmp_path / "tree" / changed).write_bytes(b"changed")
    (tmp_path / "tree" / "new").write_bytes(b"new")
    said = aws("s3", "sync", "--delete", "--no-progress", tmp_path / "tree", f"s3://{bucket}")
    assert (said.count("upload: "), said.count("delete: ")) == (2, 1), said
    tree = files_of(tmp_path / "tree")
    assert keys(s3, bucket) == {name: size for name, (size, _) in tree.items()}
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "not in the bucket").write_bytes(b"x")
    aws("s3", "sync", "--delete", "--only-show-errors", f"s3://{bucket}", tmp_path / "back")
    assert files_of(tmp_path / "back") == tree


def test_aws_presign(aws, s3, bucket, tmp_path):
    """By Signature Version 4, to which version 1 of the CLI has to be told."""
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  signature_version = s3v4\n")
    body = os.urandom(3000)
    s3.put_object(Bucket=bucket, Key="dir/a b+ü", Body=body)

    def presign(seconds: int) -> str:
        return aws("s3", "presign", "--expires-in", str(seconds), f"s3://{bucket}/dir/a b+ü", config=config).strip()

    url = presign(300)
    assert "X-Amz-Signature=" in url
    assert fetch(url) == (200, body)
    status, answer = fetch(url.replace("X-Amz-Expires=300", "X-Amz-Expires=301"))
    assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in answer, answer
    soon_over = presign(1)
    time.sleep(2.5)
    status, answer = fetch(soon_over)
    assert status == 403 and b"<Message>Request has expired" in answer, answer


# rclone


@pytest.fixture
def rclone(server):
    """Runs it with a remote called `jay`; what it says."""
    known = server.credentials()
    environment = clean_environment() | {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_JAY_TYPE": "s3",
        "RCLONE_CONFIG_JAY_PROVIDER": "Other",
        "RCLONE_CONFIG_JAY_ACCESS_KEY_ID": known["access_key_id"],
        "RCLONE_CONFIG_JAY_SECRET_ACCESS_KEY": known["secret_access_key"],
        "RCLONE_CONFIG_JAY_REGION": known["region"],
        "RCLONE_CONFIG_JAY_ENDPOINT": server.endpoint,
        # An error is to be seen, not repeated.
        "RCLONE_RETRIES": "1",
        "RCLONE_LOW_LEVEL_RETRIES": "1",
    }
    return lambda *arguments, stdin=b"": run("rclone", *arguments, environment=environment, stdin=stdin)


@pytest.mark.parametrize("single_parts", ["PutObject", "presigned"])
def test_rclone_sync_and_check(rclone, s3, bucket, tmp_path, single_parts):
    """Up, down, and the same with a change; with a file that goes up in parts, and times to the nanosecond."""
    options = ["--s3-upload-cutoff=6M", "--s3-chunk-size=5M"]
    options += ["--s3-use-presigned-request"] if single_parts == "presigned" else []
    small_tree(tmp_path / "tree")
    random_file(tmp_path / "tree/large", 17 * MIB + 3)
    for number, path in enumerate(path for path in (tmp_path / "tree").rglob("*") if path.is_file()):
        os.utime(path, ns=(0, 1_000_000_000_123_456_789 + number * 10**12))
    rclone("sync", *options, tmp_path / "tree", f"jay:{bucket}/t")
    assert s3.head_object(Bucket=bucket, Key="t/large")["ETag"].endswith('-4"')
    no_upload_left(s3, bucket)
    rclone("check", "--download", tmp_path / "tree", f"jay:{bucket}/t")
    rclone("sync", f"jay:{bucket}/t", tmp_path / "back")
    same_files_and_times(tmp_path / "tree", tmp_path / "back")

    gone, changed, touched = sorted(path for path in (tmp_path / "tree").glob("plain.*"))[:3]
    gone.unlink()
    changed.write_bytes(b"changed")
    os.utime(touched, ns=(0, 1_100_000_000_000_000_001))
    rclone("sync", *options, tmp_path / "tree", f"jay:{bucket}/t")
    rclone("check", tmp_path / "tree", f"jay:{bucket}/t")
    rclone("sync", f"jay:{bucket}/t", tmp_path / "back")
    same_files_and_times(tmp_path / "tree", tmp_path / "back")
    rclone("purge", f"jay:{bucket}/t")
    assert keys(s3, bucket) == {}


def same_files_and_times(one: Path, other: Path) -> None:
    assert files_of(one) == files_of(other)
    for name in files_of(one):
        assert (one / name).stat().st_mtime_ns == (other / name).stat().st_mtime_ns, name


def test_rclone_a_new_time_is_written_without_the_bytes(rclone, s3, bucket, tmp_path):
    """It copies the object onto itself with other metadata."""
    (tmp_path / "file").write_bytes(b"body")
    rclone("copy", tmp_path / "file", f"jay:{bucket}")
    os.utime(tmp_path / "file", ns=(0, 1_234_567_890_000_000_000))
    said = rclone("copy", "-v", tmp_path / "file", f"jay:{bucket}")
    assert "Updated modification time in destination" in said, said
    listed = json.loads(rclone("lsjson", f"jay:{bucket}/file"))
    assert datetime.datetime.fromisoformat(listed[0]["ModTime"].replace("Z", "+00:00")).timestamp() == 1_234_567_890
    assert s3.get_object(Bucket=bucket, Key="file")["Body"].read() == b"body"


def test_rclone_copies_within_the_server(rclone, s3, bucket, tmp_path):
    digest = random_file(tmp_path / "file", 11 * MIB)
    os.utime(tmp_path / "file", ns=(0, 1_234_567_890_987_654_321))
    rclone("copyto", tmp_path / "file", f"jay:{bucket}/a")
    assert "server-side copy" in rclone("copyto", "-v", f"jay:{bucket}/a", f"jay:{bucket}/b")
    # And part by part.
    assert "server-side copy" in rclone(
        "copyto", "-v", "--s3-copy-cutoff=5M", "--s3-chunk-size=5M", f"jay:{bucket}/a", f"jay:{bucket}/c"
    )
    rclone("moveto", f"jay:{bucket}/b", f"jay:{bucket}/d")
    assert set(keys(s3, bucket)) == {"a", "c", "d"}
    for key in ["a", "c", "d"]:
        rclone("copyto", f"jay:{bucket}/{key}", tmp_path / key)
        assert sha256(tmp_path / key) == digest, key
        assert (tmp_path / key).stat().st_mtime_ns == 1_234_567_890_987_654_321, key
    no_upload_left(s3, bucket)


def test_rclone_uploads_a_stream_of_unknown_length(rclone, s3, bucket):
    body = os.urandom(12 * MIB + 1)
    rclone("rcat", f"jay:{bucket}/stream", stdin=body)
    assert same(s3.get_object(Bucket=bucket, Key="stream")["Body"].read(), body)


# restic


def test_restic(server, s3, bucket, tmp_path, everything):
    """A repository lives its life: two backups, restores of both, every byte checked, the first forgotten."""
    known = server.credentials()
    environment = clean_environment() | {
        "AWS_ACCESS_KEY_ID": known["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": known["secret_access_key"],
        "AWS_DEFAULT_REGION": known["region"],
        "RESTIC_REPOSITORY": f"s3:{server.endpoint}/{bucket}/repository",
        "RESTIC_PASSWORD": "a password",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    restic = lambda *arguments: run("restic", *arguments, environment=environment)  # noqa: E731
    tree = tmp_path / "tree"
    restic("init")
    small_tree(tree)
    random_file(tree / "large", (300 if everything else 40) * MIB + 5)
    first = files_of(tree)
    restic("backup", tree)
    (tree / "plain.1").write_bytes(b"changed")
    (tree / "large").unlink()
    random_file(tree / "another", 3 * MIB)
    second = files_of(tree)
    restic("backup", tree)
    snapshots = [snapshot["id"] for snapshot in json.loads(restic("snapshots", "--json"))]
    assert len(snapshots) == 2
    for snapshot, files in zip(snapshots, [first, second]):
        restic("restore", snapshot, "--target", tmp_path / snapshot)
        assert files_of(tmp_path / snapshot / tree.relative_to("/")) == files
    restic("check", "--read-data")
    before = sum(keys(s3, bucket).values())
    restic("forget", "--keep-last", "1", "--prune")
    assert sum(keys(s3, bucket).values()) < before - 30 * MIB
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "last")
    assert files_of(tmp_path / "last" / tree.relative_to("/")) == second
    no_upload_left(s3, bucket)


# s3fs, on fsspec


@pytest.fixture
def fs(server) -> s3fs.S3FileSystem:
    known = server.credentials()
    return s3fs.S3FileSystem(
        key=known["access_key_id"], secret=known["secret_access_key"], endpoint_url=server.endpoint,
        client_kwargs={"region_name": known["region"]}, skip_instance_cache=True, use_listings_cache=False,
        # For its links; requests are signed so anyway.
        config_kwargs={"signature_version": "s3v4"},
    )  # fmt: skip


def test_s3fs_a_file_larger_than_its_blocks(fs, s3, bucket):
    """Written in parts, read in blocks from anywhere, and appended to."""
    body = os.urandom(17 * MIB + 11)
    path = f"{bucket}/dir/a file"
    with fs.open(path, "wb", block_size=5 * MIB) as file:
        for at in range(0, len(body), 1_000_003):
            file.write(body[at : at + 1_000_003])
    assert "-" in s3.head_object(Bucket=bucket, Key="dir/a file")["ETag"]
    assert fs.info(path)["size"] == len(body)
    with fs.open(path, "rb", block_size=5 * MIB) as file:
        assert same(file.read(), body)
        for at in [16 * MIB, 5, 5 * MIB - 1, len(body) - 10]:
            file.seek(at)
            assert file.read(1000) == body[at : at + 1000]
    assert fs.cat_file(path, start=-20) == body[-20:]
    assert same(fs.cat_file(path, start=7, end=4 * MIB), body[7 : 4 * MIB])
    # The old bytes become a part by reference.
    with fs.open(path, "ab", block_size=5 * MIB) as file:
        file.write(b"more")
    assert same(fs.cat_file(path), body + b"more")
    no_upload_left(s3, bucket)


def test_s3fs_as_a_file_system(fs, bucket, tmp_path):
    tree = small_tree(tmp_path / "tree")
    fs.put(str(tmp_path / "tree"), f"{bucket}/tree", recursive=True)
    assert fs.find(f"{bucket}/tree") == sorted(f"{bucket}/tree/{name}" for name in tree)
    assert fs.du(f"{bucket}/tree") == sum(map(len, tree.values()))
    fs.cp(f"{bucket}/tree", f"{bucket}/copy", recursive=True)
    # One by one, since it would move directories that are no objects, too; and a question mark is a pattern.
    moved = [name for name in tree if "?" not in name]
    for name in moved:
        fs.mv(f"{bucket}/tree/{name}", f"{bucket}/moved/{name}")
    assert not fs.exists(f"{bucket}/tree/plain.1") and fs.isdir(f"{bucket}/moved/deep")
    for name in tree:
        assert same(fs.cat_file(f"{bucket}/copy/{name}"), tree[name]), name
    for name in moved:
        assert same(fs.cat_file(f"{bucket}/moved/{name}"), tree[name]), name
    fs.get(f"{bucket}/copy", str(tmp_path / "back"), recursive=True)
    assert files_of(tmp_path / "back") == files_of(tmp_path / "tree")
    assert fetch(fs.sign(f"{bucket}/moved/plain.3")) == (200, tree["plain.3"])
    fs.rm([f"{bucket}/moved", f"{bucket}/tree"], recursive=True)
    assert sorted(fs.find(bucket)) == sorted(f"{bucket}/copy/{name}" for name in tree)


def test_s3fs_removes_a_bucket_with_all_it_holds(fs):
    """It asks for the versions of a bucket first."""
    fs.mkdir("s3fs-goes")
    fs.pipe("s3fs-goes/a/b", b"x")
    fs.rm("s3fs-goes", recursive=True)
    fs.invalidate_cache()
    assert not fs.exists("s3fs-goes")


def test_s3fs_merges_and_tags(fs, bucket):
    parts = [os.urandom(5 * MIB), os.urandom(6 * MIB), os.urandom(10)]
    for number, body in enumerate(parts):
        fs.pipe_file(f"{bucket}/{number}", body)
    fs.merge(f"{bucket}/merged", [f"{bucket}/{number}" for number in range(len(parts))])
    assert same(fs.cat_file(f"{bucket}/merged"), b"".join(parts))
    fs.put_tags(f"{bucket}/merged", {"a": "1"})
    fs.put_tags(f"{bucket}/merged", {"b": "ü"}, mode="m")
    assert fs.get_tags(f"{bucket}/merged") == {"a": "1", "b": "ü"}


# pyarrow


@pytest.fixture
def arrow(server) -> pyarrow.fs.S3FileSystem:
    known = server.credentials()
    return pyarrow.fs.S3FileSystem(
        access_key=known["access_key_id"], secret_key=known["secret_access_key"], region=known["region"],
        endpoint_override=f"127.0.0.1:{server.port}", scheme="http",
    )  # fmt: skip


def test_pyarrow_writes_and_reads_a_partitioned_data_set(arrow, client, bucket):
    chance = random.Random(1)
    rows = 200_000
    table = pyarrow.table({
        "id": range(rows),
        "year": [2020 + chance.randrange(3) for _ in range(rows)],
        "city": [chance.choice(["Zürich", "A/B", "with space"]) for _ in range(rows)],
        "noise": [chance.random() for _ in range(rows)],
    })  # fmt: skip
    schema = pyarrow.schema([("year", pyarrow.int64()), ("city", pyarrow.string())])
    partitioning = pyarrow.dataset.partitioning(schema, flavor="hive")
    pyarrow.dataset.write_dataset(
        table, f"{bucket}/set", filesystem=arrow, format="parquet", partitioning=partitioning,
        max_rows_per_group=5_000, max_rows_per_file=5_000,
    )  # fmt: skip
    written = pyarrow.dataset.dataset(f"{bucket}/set", filesystem=arrow, format="parquet", partitioning=partitioning)
    files = written.files
    assert len(files) >= 9 * 4 and any("year=2021/city=Z%C3%BCrich/" in path for path in files), files
    assert written.to_table(columns=table.column_names).sort_by("id") == table
    chosen = pyarrow.compute.field("year") == 2021
    assert written.to_table(columns=table.column_names, filter=chosen).sort_by("id") == table.filter(chosen)
    # What is stored, as another reader finds it.
    ids = []
    for path in files:
        answer = client.request("GET", key_path(bucket, path.removeprefix(f"{bucket}/")))
        ids += pyarrow.parquet.read_table(io.BytesIO(answer.body), columns=["id"])["id"].to_pylist()
    assert sorted(ids) == list(range(rows))


def test_pyarrow_as_a_file_system(arrow, client, s3, bucket):
    """A stream larger than its parts of 10 MB, directories that are keys, moves and deletes."""
    body = os.urandom(25 * MIB + 9)
    arrow.create_dir(f"{bucket}/dir/below")
    with arrow.open_output_stream(f"{bucket}/dir/below/a b", metadata={"Content-Type": "x/y", "Cache-Control": "no-cache"}) as stream:
        for at in range(0, len(body), MIB):
            stream.write(body[at : at + MIB])
    head = s3.head_object(Bucket=bucket, Key="dir/below/a b")
    assert head["ContentType"] == "x/y" and head["CacheControl"] == "no-cache" and "-" in head["ETag"]
    with arrow.open_input_file(f"{bucket}/dir/below/a b") as file:
        assert same(file.read(), body)
        file.seek(24 * MIB)
        assert file.read(100) == body[24 * MIB : 24 * MIB + 100]
    arrow.copy_file(f"{bucket}/dir/below/a b", f"{bucket}/dir/copy")
    arrow.move(f"{bucket}/dir/below/a b", f"{bucket}/dir/moved")
    assert same(client.request("GET", f"/{bucket}/dir/copy").body, body)
    assert same(client.request("GET", f"/{bucket}/dir/moved").body, body)
    found = arrow.get_file_info(pyarrow.fs.FileSelector(bucket, recursive=True))
    kinds = {info.path: info.type for info in found}
    file, directory = pyarrow.fs.FileType.File, pyarrow.fs.FileType.Directory
    assert kinds == {
        f"{bucket}/dir": directory, f"{bucket}/dir/below": directory,
        f"{bucket}/dir/copy": file, f"{bucket}/dir/moved": file,
    }  # fmt: skip
    arrow.delete_dir(f"{bucket}/dir")
    assert keys(s3, bucket) == {}
    no_upload_left(s3, bucket)
