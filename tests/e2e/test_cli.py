"""The verbs of `jay` for users, over the native protocol and over S3, as they are typed."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import boto
from test_quarantine import blob_of, flip

from jay_testing import JAY, Server, clean_environment

MIB = 1 << 20
# What is longer goes in parts of this size.
WHOLE, PART = 16 * MIB, 8 * MIB
FAILED, USAGE = 1, 2


class Done:
    """How a command ended."""

    def __init__(self, done: subprocess.CompletedProcess):
        self.out, self.errors, self.code = done.stdout, done.stderr.decode(), done.returncode

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


class Shell:
    """Runs `jay` as a client of a server."""

    def __init__(self, server: Server):
        known = server.credentials()
        self.environment = server.client_environment() | {
            "JAY_URL": known["jay_url"],
            "JAY_TOKEN_ID": known["access_key_id"],
            "JAY_TOKEN_SECRET": known["secret_access_key"],
        }

    def start(self, *arguments: str | Path | bytes, variables: dict | None = None, **options) -> subprocess.Popen:
        words = [argument if isinstance(argument, bytes) else str(argument) for argument in arguments]
        given = {name: value for name, value in (self.environment | (variables or {})).items() if value is not None}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([JAY, *words], env=given, **pipes | options)

    def __call__(self, *arguments: str | Path | bytes, code: int = 0, given: bytes = b"", **options) -> Done:
        with self.start(*arguments, **options) as process:
            out, errors = process.communicate(given, timeout=300)
        done = Done(subprocess.CompletedProcess(arguments, process.returncode, out, errors))
        assert done.code == code, f"{arguments}: {done.code}\n{done.out[-2000:]}\n{done.errors[-2000:]}"
        assert "panicked" not in done.errors
        return done


@pytest.fixture
def jay(server) -> Shell:
    return Shell(server)


@pytest.fixture(params=["jay:///", "s3://"], ids=["native", "s3"])
def path(request) -> str:
    return request.param


@pytest.fixture
def at(path, bucket) -> str:
    """A bucket as a place."""
    return f"{path}{bucket}"


@pytest.fixture
def mine(new_server, path):
    """A server and a shell of one's own, and its bucket as a place."""

    def make(**variables: str) -> tuple[Server, Shell, str]:
        server = new_server(**variables).start()
        return server, Shell(server), f"{path}default"

    return make


def write(path: Path, content: bytes | str, mtime: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def requests(server: Server, operation: str) -> int:
    """Successful ones until now, on all ports."""
    asked = urllib.request.Request(
        f"{server.admin_endpoint}/metrics", headers={"Authorization": f"Bearer {server.credentials()['admin_token']}"}
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        lines = answer.read().decode()
    pattern = rf'^jay_requests_total{{port="\w+",operation="{operation}",outcome="success"}} (\d+)$'
    return sum(map(int, re.findall(pattern, lines, re.MULTILINE)))


def keys(jay: Shell, place: str) -> list[str]:
    return [line["key"] for line in jay("ls", "-r", "--json", place).json]


# Places, and who asks.


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "jay://KEY:geheim@127.0.0.1:1/b"],
        ["cp", "f", "jays://KEY:geheim@host/b/k"],
        ["cat", "s3://KEY:geheim@b/k"],
        ["ls", "s3://b", "--endpoint-url", "http://KEY:geheim@127.0.0.1:1"],
    ],
)
def test_a_secret_in_an_argument_is_refused_and_not_repeated(jay, arguments, tmp_path):
    write(tmp_path / "f", "x")
    with jay.start(*arguments, cwd=tmp_path) as process:
        out, errors = process.communicate(timeout=60)
    assert process.returncode in (FAILED, USAGE)
    assert b"every user of this machine can read it" in errors and b"geheim" not in out + errors, errors


def test_servers_are_named_in_several_ways(server, bucket, jay, tmp_path):
    host = f"127.0.0.1:{server.native_port}"
    jay("cp", "-", f"jay://{host}/{bucket}/k", given=b"x")
    assert jay("cat", f"jay:///{bucket}/k").out == b"x"
    # JAY_URL may have the access key, which its server is asked with whatever it is called.
    known = server.credentials()
    whole = f"jay://{known['access_key_id']}:{known['secret_access_key']}@{host}?retries=1"
    variables = {"JAY_URL": whole, "JAY_TOKEN_ID": None, "JAY_TOKEN_SECRET": None}
    for place in [f"jay:///{bucket}/k", f"jay://{host}/{bucket}/k"]:
        assert jay("cat", place, variables=variables).out == b"x"
    assert bucket in jay("ls").text and bucket in jay("ls", f"jay://{host}").text
    said = jay("ls", f"jay:///{bucket}", code=FAILED, variables={"JAY_URL": None}).errors
    assert "JAY_URL" in said and "jay://host:port/bucket/key" in said
    said = jay("ls", f"s3://{bucket}", code=FAILED, variables={"AWS_ENDPOINT_URL": None}).errors
    assert "AWS_ENDPOINT_URL" in said and "--endpoint-url" in said
    assert "AWS_ACCESS_KEY_ID" in jay("ls", "s3://", code=FAILED, variables={"AWS_ACCESS_KEY_ID": None}).errors
    # An argument wins over the variable.
    variables = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert bucket in jay("ls", "s3://", "--endpoint-url", server.endpoint, variables=variables).text


def test_a_server_that_is_not_there_is_named(jay, path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        variables = {"AWS_ENDPOINT_URL": f"http://{where}", "JAY_URL": f"jay://{where}?retries=1"}
        assert where in jay("ls", f"{path}b", code=FAILED, variables=variables).errors


def test_a_wrong_secret_is_told_and_not_shown(jay, path):
    variables = {name: "wrong geheim" for name in ["AWS_SECRET_ACCESS_KEY", "JAY_TOKEN_SECRET"]}
    said = jay("ls", f"{path}default", code=FAILED, variables=variables).errors
    assert re.search("SignatureDoesNotMatch|Unauthenticated", said) and "geheim" not in said


# Buckets.


def test_mb_and_rb(jay, path, bucket):
    name = f"{bucket}-new"
    assert jay("mb", f"{path}{name}").text == f"make_bucket: {path}{name}/\n"
    assert re.search(rf"^\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d {name}$", jay("ls", path).text, re.MULTILINE)
    assert name in [line["bucket"] for line in jay("ls", path, "--json").json]
    jay("mb", f"{path}{name}", code=FAILED)
    for key in ["a", "b/c"]:
        jay("cp", "-", f"{path}{name}/{key}", given=b"x")
    assert "--force deletes all objects" in jay("rb", f"{path}{name}", code=FAILED).errors
    assert keys(jay, f"{path}{name}") == ["a", "b/c"]
    assert jay("rb", "--force", f"{path}{name}").lines == [
        f"delete: 2 objects below {path}{name}/", f"remove_bucket: {path}{name}/",
    ]  # fmt: skip
    assert name not in jay("ls", path).text
    assert re.search("NoSuchBucket|BucketNotFound", jay("rb", f"{path}{name}", code=FAILED).errors)
    jay("mb", f"{path}{name}/key", code=USAGE)
    assert "bucket name" in jay("mb", f"{path}X", code=FAILED).errors


# ls, stat, du, cat.


def test_ls_is_sorted_and_has_levels(jay, at, client, bucket):
    for key in ["b", "a/1", "a-1", "a/2", "c d/ä"]:
        jay("cp", "-", f"{at}/{key}", given=key.encode())
    listed = jay("ls", at).lines
    assert [line.split(maxsplit=1 if "PRE" in line else 3)[-1] for line in listed] == ["a-1", "a/", "b", "c d/"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d          3 a-1", listed[0]), listed
    assert listed[1] == "                           PRE a/"
    assert [line.split()[-1] for line in jay("ls", f"{at}/a/").lines] == ["1", "2"]
    # What keys begin with, as the AWS CLI takes it.
    assert len(jay("ls", f"{at}/a").lines) == 2
    assert keys(jay, at) == ["a-1", "a/1", "a/2", "b", "c d/ä"]
    told = jay("ls", "--json", at).json
    assert told[1] == {"prefix": "a/"} and told[0]["size"] == 3 and len(told[0]["etag"]) == 32
    assert told[0]["modified"].endswith("Z")
    told = jay("ls", "-r", "--summarize", "--human-readable", at).lines
    assert told[0].split()[2:] == ["3", "B", "a-1"] and told[-2:] == ["Total Objects: 5", "   Total Size: 16 B"]
    assert jay("ls", f"{at}/none", code=FAILED).text == ""
    assert jay("ls", f"{at}x", code=FAILED).errors


def test_a_listing_of_many_pages(jay, at, tmp_path):
    names = [f"{number:04}" for number in range(1100)]
    for name in names:
        write(tmp_path / "tree" / name / "x", "")
        write(tmp_path / "tree" / f"{name}-file", "")
    jay("cp", "-rq", tmp_path / "tree", at)
    told = [line.get("prefix") or line["key"] for line in jay("ls", "--json", at).json]
    assert told == [entry for name in names for entry in [f"{name}-file", f"{name}/"]]
    assert len(keys(jay, at)) == 2200
    assert jay("du", at, "--depth", "0").text.split() == ["0", "2200", f"{at}/"]
    assert jay("rm", "-r", at).lines == [f"delete: 2200 objects below {at}/"]
    assert jay("ls", at).lines == []


def test_a_reader_that_has_left_ends_it_quietly(jay, at, tmp_path):
    for number in range(50):
        write(tmp_path / str(number), b"x" * MIB)
    jay("cp", "-rq", tmp_path, at)
    for arguments in [["ls", "-r", at], ["cat", *[f"{at}/{number}" for number in range(50)]]]:
        with jay.start(*arguments) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=60) == 141


def test_names_command_no_terminal(jay, at, client, bucket):
    client.request("PUT", f"/{bucket}/a%1B%5B31m%0Ab", body=b"x")
    assert jay("ls", at).text.endswith(" a\\u{1b}[31m\\nb\n")
    assert keys(jay, at) == ["a\x1b[31m\nb"]


def test_stat(jay, at, client, bucket):
    client.request("PUT", f"/{bucket}/k", body=b"hello\n", headers={
        "content-type": "text/x", "cache-control": "no-cache", "x-amz-meta-by": "me",
    })  # fmt: skip
    [told] = jay("stat", "--json", f"{at}/k").json
    modified = told.pop("modified")
    assert modified.endswith("Z") and told == {
        "place": f"{at}/k", "size": 6, "etag": "b1946ac92492d2347c6235b4d2611184", "crc64nvme": "6a43fb4bad5a5607",
        "content_type": "text/x", "cache_control": "no-cache", "metadata": {"by": "me"},
    }  # fmt: skip
    text = jay("stat", f"{at}/k").text
    assert re.search(r"^  metadata.by +me$", text, re.MULTILINE) and text.startswith(f"{at}/k\n  size ")
    done = jay("stat", f"{at}/k", f"{at}/none", "--json", code=FAILED)
    assert done.json[0]["size"] == 6 and done.json[1]["place"] == f"{at}/none" and done.json[1]["error"]
    assert done.errors.endswith("1 of 2 failed\n")
    jay("stat", at, code=USAGE)


def test_du_tells_levels_apart(jay, at):
    for key, size in [("a/b/1", 1), ("a/b/2", 2), ("a/3", 4), ("c/4", 8), ("5", 16)]:
        jay("cp", "-", f"{at}/{key}", given=b"x" * size)

    def told(*arguments):
        return [(line["place"].removeprefix(at), line["objects"], line["bytes"]) for line in jay("du", "--json", *arguments).json]

    assert told(at) == [("/a/", 3, 7), ("/c/", 1, 8), ("/", 5, 31)]
    assert told(at, "-d", "2") == [("/a/", 3, 7), ("/a/b/", 2, 3), ("/c/", 1, 8), ("/", 5, 31)]
    assert told(f"{at}/a", "--depth=0") == [("/a/", 3, 7)]
    assert told(at, "--exclude", "a/*") == [("/c/", 1, 8), ("/", 2, 24)]
    assert jay("du", f"{at}/a").lines[-1].split() == ["7", "3", f"{at}/a/"]


def test_cat_and_its_ranges(jay, at):
    body = bytes(range(256)) * 4096
    jay("cp", "-", f"{at}/k", given=body)
    jay("cp", "-", f"{at}/l", given=b"end")
    assert jay("cat", f"{at}/k", f"{at}/l").out == body + b"end"
    for range_, expected in [("0-0", body[:1]), ("bytes=10-600000", body[10:600001]), ("1048570-", body[-6:]), ("-3", body[-3:])]:
        assert jay("cat", "--range", range_, f"{at}/k").out == expected
    assert re.search("InvalidRange", jay("cat", "--range", "2000000-", f"{at}/k", code=FAILED).errors)
    jay("cat", "--range", "9-1", f"{at}/k", code=USAGE)
    assert re.search("NoSuchKey|ObjectNotFound", jay("cat", f"{at}/none", code=FAILED).errors)


# cp and mv.


def test_cp_names_its_destination_as_the_aws_cli_does(jay, at, tmp_path):
    (tmp_path / "into").mkdir()
    write(tmp_path / "a file.txt", "hello")
    jay("cp", "a file.txt", at, cwd=tmp_path)
    jay("cp", "a file.txt", f"{at}/d/", cwd=tmp_path)
    jay("cp", "a file.txt", f"{at}/d/other", cwd=tmp_path)
    assert keys(jay, at) == ["a file.txt", "d/a file.txt", "d/other"]
    jay("cp", f"{at}/d/other", f"{at}/e/")
    jay("cp", f"{at}/d/other", f"{at}/f")
    assert keys(jay, at)[3:] == ["e/other", "f"]
    for destination, name in [(".", "other"), ("into", "into/other"), ("into/new", "into/new"), ("x/y/", "x/y/other"), ("x/z", "x/z")]:
        assert jay("cp", f"{at}/d/other", destination, cwd=tmp_path).text.startswith(f"download: {at}/d/other to ")
        assert (tmp_path / name).read_text() == "hello", name
    # Several sources go into a directory.
    jay("cp", f"{at}/f", f"{at}/d/other", "a file.txt", f"{at}/g/", cwd=tmp_path)
    assert [key for key in keys(jay, at) if key.startswith("g/")] == ["g/a file.txt", "g/f", "g/other"]
    jay("cp", f"{at}/f", f"{at}/d/other", f"{at}/h", code=USAGE)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 300_000, WHOLE, WHOLE + 1, 3 * PART + 7])
def test_bodies_of_all_sizes_go_there_and_back(jay, at, tmp_path, size):
    body = os.urandom(size)
    source = write(tmp_path / "body.jpg", body, 1_600_000_000.123456)
    assert jay("cp", source, f"{at}/k").text == f"upload: {source} to {at}/k\n"
    [told] = jay("stat", "--json", f"{at}/k").json
    assert (told["size"], told["content_type"]) == (size, "image/jpeg")
    assert told["metadata"] == {"mtime": f"{source.stat().st_mtime_ns // 10**9}.{source.stat().st_mtime_ns % 10**9:09}"}
    jay("cp", f"{at}/k", tmp_path / "back")
    back = tmp_path / "back"
    assert back.read_bytes() == body and back.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert jay("cp", f"{at}/k", "-").out == body and jay("cat", f"{at}/k").out == body
    jay("cp", "-", f"{at}/from stdin.png", given=body)
    [told] = jay("stat", "--json", f"{at}/from stdin.png").json
    assert (told["size"], told["content_type"], told["metadata"]) == (size, "image/png", {})
    assert jay("cat", f"{at}/from stdin.png").out == body
    assert sorted(os.listdir(tmp_path)) == ["back", "body.jpg"]


def test_from_store_to_store(jay, bucket, new_server, tmp_path):
    """On one server it copies there; between two, and between the ways to one, through here."""
    other = new_server().start()
    variables = {"AWS_ENDPOINT_URL": other.endpoint} | {
        name: other.client_environment()[name] for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    }  # fmt: skip
    for size in [5, 3 * PART + 7]:
        source = write(tmp_path / f"{size}.txt", os.urandom(size), 1_600_000_000)
        jay("cp", source, f"jay:///{bucket}/{size}", "--metadata", "Who=me", "--content-type", "text/x")
        for there, back in [("s3://default/a", f"jay:///{bucket}/back")]:
            jay("cp", f"jay:///{bucket}/{size}", there, variables=variables)
            jay("cp", there, back, variables=variables)
        jay("cp", f"jay:///{bucket}/{size}", f"jay:///{bucket}/copy")
        jay("cp", f"s3://{bucket}/{size}", f"s3://{bucket}/s3 copy ä+")
        for key in ["back", "copy", "s3 copy ä+"]:
            [told] = jay("stat", f"jay:///{bucket}/{key}", "--json").json
            assert (told["content_type"], told["metadata"]) == ("text/x", {"who": "me", "mtime": "1600000000.000000000"})
            assert jay("cat", f"jay:///{bucket}/{key}").out == source.read_bytes()
    assert other.client().request("HEAD", "/default/a").headers["x-amz-meta-who"] == "me"


def test_a_description_is_replaced_in_place(jay, at, tmp_path):
    jay("cp", write(tmp_path / "k.txt", "x", 1_600_000_000), at)
    assert "the same object" in jay("cp", f"{at}/k.txt", at, code=USAGE).errors
    jay("cp", f"{at}/k.txt", at, "--content-type", "text/x", "--metadata", "a=b")
    [told] = jay("stat", f"{at}/k.txt", "--json").json
    assert (told["content_type"], told["metadata"]) == ("text/x", {"a": "b", "mtime": "1600000000.000000000"})
    assert "the same object" in jay("mv", f"{at}/k.txt", f"{at}/k.txt", "--content-type", "x/y", code=USAGE).errors


def test_trees_are_copied_below_their_destination(jay, at, tmp_path):
    tree = tmp_path / "tree"
    for name in ["a", "b/c.txt", "b/d.png", "b-"]:
        write(tree / name, name)
    assert sorted(jay("cp", "-r", tree, f"{at}/p").lines) == [f"upload: {tree}/{name} to {at}/p/{name}" for name in sorted(files(tree))]
    write(tmp_path / "px", "x")
    jay("cp", tmp_path / "px", f"{at}/px")
    # A prefix is a directory: what only begins like it is another one.
    jay("cp", "-r", f"{at}/p", tmp_path / "back")
    assert files(tmp_path / "back") == files(tree)
    jay("cp", "-r", f"{at}/p/", f"{at}/q/", "--exclude", "*", "--include", "*.txt")
    assert [key for key in keys(jay, at) if key.startswith("q")] == ["q/b/c.txt"]
    done = jay("cp", "-r", tree, f"{at}/r", "--dry-run", "--json")
    assert all(line["dry_run"] for line in done.json[:-1]) and done.json[-1]["total"]["carried"] == 4
    assert not [key for key in keys(jay, at) if key.startswith("r")]
    assert "overlap" in jay("cp", "-r", f"{at}/p", f"{at}/p/q", code=USAGE).errors
    assert jay("cp", "-r", tree, f"{at}/s", "--quiet").text == ""


def test_cp_tells_what_is_wrong(jay, at, tmp_path):
    write(tmp_path / "d/f", "x")
    for arguments, code, expected in [
        (["cp", "none", at], FAILED, "none: No such file"),
        (["cp", "d", at], USAGE, "-r"),
        (["cp", "d/f", "d/g"], USAGE, "neither place is in a store"),
        (["cp", "-r", "d/f", at], FAILED, "it is no directory"),
        (["cp", "-r", "none", at], FAILED, "none: No such file"),
        (["cp", f"{at}/none", "x"], FAILED, "NotFound"),
        (["cp", f"{at}/d/", "x"], USAGE, "-r"),
        (["cp", "d/f", at + "x/k"], FAILED, "d/f: "),
        (["cp", "-", at], USAGE, "give it a key"),
        (["cp", "-r", "-", at], USAGE, "which is neither a tree"),
        (["mv", "-", f"{at}/k"], USAGE, "nor can be moved"),
        (["cp", "d/f", "jay:///"], USAGE, "names no bucket"),
        (["cp", "d/f", at, "--metadata", "x"], USAGE, "it has no ="),
        (["cp", "d/f"], USAGE, "required"),
        (["rm", "d/f"], USAGE, "no place in a store"),
        (["cp", "/dev/null", f"{at}/k"], FAILED, "it is no file"),
    ]:
        done = jay(*arguments, code=code, cwd=tmp_path)
        assert expected in done.errors, (arguments, done.errors)
        assert done.text == ""
    assert keys(jay, at) == [] and files(tmp_path) == {"d/f": b"x"}


def test_a_download_replaces_files_and_nothing_else(jay, at, tmp_path):
    jay("cp", "-", f"{at}/k", given=b"new")
    old = write(tmp_path / "old", "old")
    old.chmod(0o600)
    jay("cp", f"{at}/k", old)
    assert old.read_text() == "new" and old.stat().st_mode & 0o777 == 0o600
    (tmp_path / "k").mkdir()
    assert "there is a directory of that name" in jay("cp", f"{at}/k", f"{tmp_path}/k/..", code=FAILED).errors
    assert "is no file" in jay("cp", f"{at}/k", "/dev/null", code=FAILED).errors
    os.symlink("old", tmp_path / "link")
    jay("cp", "-", f"{at}/k", given=b"newer")
    jay("cp", f"{at}/k", tmp_path / "link")
    assert (tmp_path / "link").read_text() == "newer" and old.read_text() == "new"


def test_mv_removes_what_has_arrived(jay, at, tmp_path):
    tree = tmp_path / "tree"
    for name in ["a", "b/c"]:
        write(tree / name, name)
    assert "move: " in jay("mv", tree / "a", f"{at}/x/").text
    assert not (tree / "a").exists() and keys(jay, at) == ["x/a"]
    jay("mv", f"{at}/x/a", f"{at}/y")
    assert keys(jay, at) == ["y"]
    jay("mv", f"{at}/y", tmp_path / "y")
    assert keys(jay, at) == [] and (tmp_path / "y").read_text() == "a"
    write(tree / "a", "again")
    jay("mv", "-r", tree, f"{at}/tree")
    assert files(tree) == {} and keys(jay, at) == ["tree/a", "tree/b/c"]
    jay("mv", "-r", f"{at}/tree", tmp_path / "back", "--exclude", "a")
    assert keys(jay, at) == ["tree/a"] and files(tmp_path / "back") == {"b/c": b"b/c"}
    # What has not arrived stays.
    jay("mv", tmp_path / "y", f"{at}x/y", code=FAILED)
    (tmp_path / "taken").mkdir()
    write(tmp_path / "taken/a/x", "")
    jay("mv", "-r", f"{at}/tree", tmp_path / "taken", code=FAILED)
    assert (tmp_path / "y").exists() and keys(jay, at) == ["tree/a"]


# rm.


def test_rm_deletes_what_it_is_told_to(jay, at, tmp_path):
    for key in ["d/1", "d/2.txt", "d/e/3.txt", "dx", "e", "f"]:
        jay("cp", "-", f"{at}/{key}", given=b"x")
    assert jay("rm", f"{at}/e", f"{at}/f").lines == [f"delete: {at}/e", f"delete: {at}/f"]
    # As in S3 it is no error that there was none.
    jay("rm", f"{at}/none")
    jay("rm", at, code=USAGE)
    jay("rm", f"{at}/d", "--exclude", "x", code=USAGE)
    assert jay("rm", "-r", f"{at}/d", "--dry-run").lines == [f"(dry run) delete: {at}/{key}" for key in ["d/1", "d/2.txt", "d/e/3.txt"]]
    assert len(keys(jay, at)) == 4
    assert jay("rm", "-r", f"{at}/d", "--exclude", "*", "--include", "*.txt", "--json").json == [
        {"action": "delete", "source": f"{at}/{key}"} for key in ["d/2.txt", "d/e/3.txt"]
    ]  # fmt: skip
    assert jay("rm", "-r", f"{at}/d", "--json").json == [{"action": "delete", "source": f"{at}/d/", "objects": 1}]
    assert keys(jay, at) == ["dx"]
    assert jay("rm", f"{at}x/k", code=FAILED).errors.endswith("1 of 1 failed\n")


# presign.


def test_links_carry_the_rights_of_the_access_key(jay, at):
    jay("cp", "-", f"{at}/a b/ä+.txt", given=b"linked")
    link = jay("presign", f"{at}/a b/ä+.txt").text.strip()
    with urllib.request.urlopen(link, timeout=20) as answer:
        assert answer.read() == b"linked"
    [told] = jay("presign", f"{at}/new", "--method", "put", "--expires-in", "15m", "--json").json
    assert (told["method"], told["expires_in"]) == ("PUT", 900)
    urllib.request.urlopen(urllib.request.Request(told["url"], method="PUT", data=b"put"), timeout=20).close()
    assert jay("cat", f"{at}/new").out == b"put"
    short = jay("presign", f"{at}/new", "--expires-in", "1").text.strip()
    time.sleep(2.1)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(short, timeout=20)
    for wrong in ["8d", "0", "700000"]:
        jay("presign", f"{at}/new", "--expires-in", wrong, code=USAGE)
    assert "AWS_ENDPOINT_URL" in jay("presign", f"{at}/new", code=FAILED, variables={"AWS_ENDPOINT_URL": None}).errors


# diff.


def test_diff_tells_what_is_missing_and_what_differs(jay, at, tmp_path):
    tree = tmp_path / "tree"
    for name in ["a", "b/c", "d", "e", "only here"]:
        write(tree / name, name * 3)
    jay("cp", "-rq", tree, f"{at}/t")
    assert jay("diff", tree, f"{at}/t").text == ""
    jay("cp", "-", f"{at}/t/only there", given=b"x")
    jay("rm", f"{at}/t/only here")
    write(tree / "a", "bbb")
    write(tree / "d", "longer than it was")
    # Another time alone is no difference; the same time hides one, unless the files are read.
    os.utime(tree / "b/c", (1, 1))
    mtime = (tree / "e").stat().st_mtime_ns
    write(tree / "e", "fff")
    os.utime(tree / "e", ns=(mtime, mtime))
    expected = ["! a (content)", "! d (size)", "< only here", "> only there"]
    assert jay("diff", tree, f"{at}/t", code=1).lines == expected
    expected.insert(2, "! e (content)")
    assert jay("diff", "--checksum", tree, f"{at}/t", code=1).lines == expected
    assert jay("diff", f"{at}/t", tree, "--json", code=1).json[0] == {"key": "a", "only_in": None, "differs_in": "content"}
    assert jay("diff", f"{at}/t", tree, "--exclude", "[ad]", code=1).lines == ["> only here", "< only there"]
    # Objects have their sums, uploads in parts too.
    jay("cp", "-rq", f"{at}/t", f"{at}/u")
    assert jay("diff", f"{at}/t", f"{at}/u").text == ""
    jay("cp", "-", f"{at}/u/b/c", given=b"xxxxxxxxx")
    assert jay("diff", f"{at}/t", f"{at}/u", code=1).lines == ["! b/c (content)"]
    assert jay("diff", tree, f"{at}x", code=2).errors and jay("diff", tmp_path / "none", at, code=2).errors
    jay("diff", tree, tree, code=USAGE)


# sync.


@pytest.fixture
def tree(tmp_path) -> Path:
    """Files of all kinds, with times of their own."""
    root = tmp_path / "tree"
    contents = {"a.txt": "a", "d/b.html": "bb" * 200_000, "d/e/ä ö": "", "d-e": "c", "big": os.urandom(2 * PART + 5 * MIB)}
    for number, (name, content) in enumerate(contents.items()):
        write(root / name, content, 1_500_000_000 + number + 0.25)
    for number in range(40):
        write(root / "many" / f"{number}", os.urandom(number * 997), 1_500_000_000 + number)
    return root


def synced(jay: Shell, *arguments, **options) -> dict:
    return jay("sync", "--json", *arguments, **options).json[-1]["total"]


def nothing(total: dict) -> bool:
    return total == {"carried": 0, "bytes": 0, "deleted": 0, "failed": 0}


def test_sync_both_ways(jay, at, tree, tmp_path):
    size = sum(map(len, files(tree).values()))
    assert synced(jay, tree, f"{at}/t") == {"carried": 45, "bytes": size, "deleted": 0, "failed": 0}
    assert nothing(synced(jay, tree, f"{at}/t"))
    back = tmp_path / "back"
    assert synced(jay, f"{at}/t", back)["carried"] == 45
    assert files(back) == files(tree)
    assert (back / "d/e/ä ö").stat().st_mtime_ns == (tree / "d/e/ä ö").stat().st_mtime_ns
    for source, destination in [(f"{at}/t", back), (back, f"{at}/t"), (tree, f"{at}/t")]:
        assert nothing(synced(jay, source, destination))
        assert nothing(synced(jay, source, destination, "--checksum"))
    assert synced(jay, f"{at}/t", f"{at}/u")["carried"] == 45
    assert nothing(synced(jay, f"{at}/t", f"{at}/u")) and nothing(synced(jay, tree, f"{at}/u"))


def test_sync_sees_what_has_changed(jay, at, tmp_path):
    tree, back = tmp_path / "tree", tmp_path / "back"
    now = time.time()
    for name in ["same", "longer", "newer", "older"]:
        write(tree / name, "123", now)
    jay("sync", "-q", tree, f"{at}/t")
    jay("sync", "-q", f"{at}/t", back)
    write(tree / "longer", "1234", now)
    write(tree / "newer", "456", now + 1)
    # As when an older file is moved to where it was.
    write(tree / "older", "789", now - 3600)
    assert {line["source"] for line in jay("sync", "--json", tree, f"{at}/t").json[:-1]} == {
        f"{tree}/{name}" for name in ["longer", "newer", "older"]
    }  # fmt: skip
    assert synced(jay, f"{at}/t", back)["carried"] == 3 and files(back) == files(tree)
    # The same size and time: only --checksum sees it.
    mtime = (tree / "same").stat().st_mtime_ns
    write(tree / "same", "abc")
    os.utime(tree / "same", ns=(mtime, mtime))
    assert nothing(synced(jay, tree, f"{at}/t"))
    assert synced(jay, tree, f"{at}/t", "--checksum")["carried"] == 1
    assert jay("cat", f"{at}/t/same").out == b"abc"


def test_sync_of_objects_that_others_have_stored(jay, at, bucket, client, tmp_path):
    """They know no time of a file."""
    client.request("PUT", f"/{bucket}/t/k", body=b"123")
    back = tmp_path / "back"
    assert synced(jay, f"{at}/t", back)["carried"] == 1
    assert nothing(synced(jay, f"{at}/t", back))
    write(back / "k", "456")
    assert synced(jay, f"{at}/t", back)["carried"] == 1 and (back / "k").read_text() == "123"
    write(back / "k", "456", time.time() - 3600)
    assert nothing(synced(jay, back, f"{at}/t"))
    write(back / "k", "456", time.time() + 5)
    assert synced(jay, back, f"{at}/t")["carried"] == 1 and jay("cat", f"{at}/t/k").out == b"456"


def test_sync_deletes_only_what_it_is_told_to(jay, at, tree, tmp_path):
    jay("sync", "-q", tree, f"{at}/t")
    jay("cp", "-", f"{at}/tx", given=b"beside")
    for name in ["d/b.html", "many/7", "many/8"]:
        (tree / name).unlink()
    assert nothing(synced(jay, tree, f"{at}/t"))
    dry = jay("sync", tree, f"{at}/t", "--delete", "--dry-run", "--exclude", "many/7").lines
    assert dry == [f"(dry run) delete: {at}/t/{name}" for name in ["d/b.html", "many/8"]]
    assert synced(jay, tree, f"{at}/t", "--delete", "--exclude", "many/7")["deleted"] == 2
    assert {key for key in keys(jay, at)} == {f"t/{name}" for name in [*files(tree), "many/7"]} | {"tx"}
    back = tmp_path / "back"
    jay("sync", "-q", f"{at}/t", back)
    write(back / "extra/deep/file", "x")
    write(back / "extra file", "x")
    os.symlink("extra file", back / "link")
    assert synced(jay, f"{at}/t", back, "--delete")["deleted"] == 2
    assert not (back / "extra").exists() and (back / "link").is_symlink()


def test_sync_does_not_empty_for_a_source_that_has_nothing(jay, at, tree, tmp_path):
    jay("sync", "-q", tree, f"{at}/t")
    (tmp_path / "empty").mkdir()
    for source in [tmp_path / "empty", f"{at}/mistyped"]:
        destination = f"{at}/t" if source == tmp_path / "empty" else tree
        done = jay("sync", "--delete", source, destination, code=FAILED)
        assert "nothing is deleted" in done.errors and done.text == ""
    assert len(keys(jay, at)) == len(files(tree)) == 45
    assert "No such file" in jay("sync", "--delete", tmp_path / "none", f"{at}/t", code=FAILED).errors
    assert jay("sync", "--delete", f"{at}x", tree, code=FAILED).errors
    assert len(files(tree)) == 45


def test_files_that_cannot_be_stored_are_told_one_by_one(jay, at, tmp_path):
    tree = tmp_path / "tree"
    write(tree / "good", "x")
    write(tree / "d/target", "y")
    os.symlink("d/target", tree / "link")
    os.symlink("d", tree / "linked")
    os.symlink("nowhere", tree / "broken")
    os.symlink("..", tree / "d/loop")
    # It can be opened, and not be read.
    os.symlink("/proc/self/mem", tree / "unreadable")
    os.mkfifo(tree / "fifo")
    write(Path(os.fsdecode(os.fsencode(tree) + b"/\xff")), "x")
    jay("cp", "-", f"{at}/t/gone", given=b"x")
    done = jay("sync", "--delete", tree, f"{at}/t", code=FAILED)
    assert sorted(done.lines) == [f"upload: {tree}/{name} to {at}/t/{name}" for name in ["d/target", "good"]]
    for name in ["broken", "d/loop", "link", "linked", "unreadable"]:
        assert f"jay: {tree}/{name}: it is a symbolic link: --follow-symlinks or --skip-symlinks" in done.errors
    assert f"{tree}/fifo: it is neither a file nor a directory" in done.errors and "no UTF-8" in done.errors
    assert done.errors.endswith("jay: 7 of 9 failed\n") and "nothing is deleted, because some of the source" in done.errors
    assert keys(jay, at) == ["t/d/target", "t/gone", "t/good"]

    done = jay("sync", "--delete", "--follow-symlinks", tree, f"{at}/t", code=FAILED)
    assert "broken: it is a symbolic link that leads nowhere" in done.errors
    assert "d/loop: it leads back to a directory above it" in done.errors
    assert f"{tree}/unreadable: Input/output error" in done.errors
    assert keys(jay, at) == ["t/d/target", "t/gone", "t/good", "t/link", "t/linked/target"]

    for name in [b"fifo", b"\xff"]:
        os.unlink(os.fsencode(tree) + b"/" + name)
    assert synced(jay, "--delete", "--skip-symlinks", tree, f"{at}/t")["deleted"] == 3
    assert keys(jay, at) == ["t/d/target", "t/good"]


def test_keys_that_are_no_paths_are_told_one_by_one(jay, at, bucket, s3, tmp_path):
    put = {"../out": b"1", "a/../../out": b"2", "/abs": b"3", "a//b": b"4", "./c": b"5", "with body/": b"6",
           "marker/": b"", "f": b"7", "f/g": b"8", "good/x": b"9", "n" * 300: b"10"}  # fmt: skip
    for key, body in put.items():
        s3.put_object(Bucket=bucket, Key=f"t/{key}", Body=body)
    back = tmp_path / "in" / "back"
    done = jay("sync", f"{at}/t", back, code=FAILED)
    assert done.errors.endswith("jay: 8 of 10 failed\n"), done.errors
    for key, why in {
        "../out": "would leave its directory", "a/../../out": "would leave its directory", "/abs": "empty segment",
        "a//b": "empty segment", "./c": "would leave", "with body/": "ends with a slash", "n" * 300: "File name too long",
    }.items():  # fmt: skip
        assert re.search(f"^jay: {re.escape(f'{at}/t/{key}')}: .*{why}", done.errors, re.MULTILINE), (key, done.errors)
    # One of the two is in the way of the other.
    assert re.search("f/g: .*/f is no directory|f: there is a directory of that name", done.errors)
    found = files(tmp_path)
    assert len(found) == 2 and found["in/back/good/x"] == b"9" and (back / "marker").is_dir()
    assert not [path for path in tmp_path.rglob("*.part")]
    # And from store to store they are keys as others are.
    assert synced(jay, f"{at}/t", f"{at}/u")["carried"] == 11
    assert [key.removeprefix("u/") for key in keys(jay, at) if key.startswith("u/")] == sorted(put)
    jay("rm", "-r", f"{at}/t", "--include", "*")
    assert all(key.startswith("u/") for key in keys(jay, at))


def test_a_download_does_not_leave_through_a_symbolic_link(jay, at, tmp_path):
    jay("cp", "-", f"{at}/t/d/k", given=b"x")
    back, outside = tmp_path / "back", tmp_path / "outside"
    back.mkdir()
    outside.mkdir()
    os.symlink(outside, back / "d")
    assert "is a symbolic link" in jay("sync", f"{at}/t", back, code=FAILED).errors
    assert files(outside) == {}
    assert synced(jay, f"{at}/t", back, "--follow-symlinks")["carried"] == 1 and files(outside) == {"k": b"x"}


def test_damage_is_never_brought(mine, tmp_path):
    server, jay, at = mine()
    body = os.urandom(2 * MIB)
    jay("cp", "-", f"{at}/t/damaged", given=body)
    jay("cp", "-", f"{at}/t/good", given=b"x")
    flip(blob_of(server, body[:64]), MIB)
    done = jay("sync", f"{at}/t", tmp_path / "back", code=FAILED)
    assert done.errors.endswith("1 of 2 failed\n") and files(tmp_path / "back") == {"good": b"x"}
    # Until the server has seen it itself, the body breaks off.
    done = jay("cat", f"{at}/t/damaged", code=FAILED)
    assert body.startswith(done.out) and len(done.out) < len(body)


# What was broken off.


def test_an_interrupted_upload_goes_on_where_it_was(mine, tmp_path):
    server, jay, at = mine()
    s3 = boto(server)
    body = os.urandom(5 * PART + 3)
    source = write(tmp_path / "big.png", body)
    parts = [body[start : start + PART] for start in range(0, len(body), PART)]

    def begun(key: str, stored: dict[int, bytes]) -> str:
        upload = s3.create_multipart_upload(Bucket="default", Key=key, ContentType="x/y")["UploadId"]
        for number, part in stored.items():
            s3.upload_part(Bucket="default", Key=key, UploadId=upload, PartNumber=number, Body=part)
        return upload

    begun("k2", {1: parts[0]})
    # Another file was on its way there; and one whose third part is another one by now, and has one too many.
    begun("k", {1: parts[1], 2: parts[1]})
    begun("k", {1: parts[0], 2: parts[1], 3: parts[0], 4: parts[3][:-1], 7: b"more"})
    before = requests(server, "UploadPart")
    jay("cp", source, f"{at}/k")
    assert requests(server, "UploadPart") - before == 4
    assert jay("cat", f"{at}/k").out == body
    # It is as if it had been sent at once.
    [told] = jay("stat", f"{at}/k", "--json").json
    assert told["content_type"] == "image/png" and "mtime" in told["metadata"]
    left = s3.list_multipart_uploads(Bucket="default")["Uploads"]
    assert sorted(upload["Key"] for upload in left) == ["k", "k2"]
    assert nothing(synced(jay, tmp_path, at, "--exclude", "*", "--include", "k"))


def test_a_killed_upload_goes_on_where_it_was(mine, tmp_path):
    server, jay, at = mine()
    s3 = boto(server)
    source = write(tmp_path / "big", os.urandom(128 * MIB))

    def stored() -> int:
        uploads = s3.list_multipart_uploads(Bucket="default").get("Uploads", [])
        listed = [s3.list_parts(Bucket="default", Key="big", UploadId=upload["UploadId"]) for upload in uploads]
        return sum(len(parts.get("Parts", [])) for parts in listed)

    with jay.start("cp", source, at) as process:
        while stored() < 3:
            assert process.poll() is None
        process.kill()
    time.sleep(1)
    left, before = stored(), requests(server, "UploadPart")
    assert left >= 3 and keys(jay, at) == []
    jay("cp", source, at)
    assert requests(server, "UploadPart") - before == 16 - left
    assert jay("cat", f"{at}/big").out == source.read_bytes()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="default")


def test_an_interrupted_sync_sends_only_what_is_missing(mine, tmp_path):
    server, jay, at = mine()
    tree, back = tmp_path / "tree", tmp_path / "back"
    for number in range(2000):
        write(tree / f"{number % 20}" / f"{number}", os.urandom(20_000))
    with jay.start("sync", "-q", tree, at) as process:
        while requests(server, "PutObject") < 100:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    # What the server had got when its client left is still done.
    time.sleep(1)
    there = len(keys(jay, at))
    assert 100 <= there < 2000
    assert synced(jay, tree, at)["carried"] == 2000 - there
    with jay.start("sync", "-q", at, back) as process:
        while len(files(back)) < 100:
            assert process.poll() is None
        process.kill()
    whole = files(back)
    assert 100 <= len(whole) < 2100
    unfinished = [name for name in whole if re.search(r"(^|/)\.jay-[0-9a-f]{16}\.part$", name)]
    for name in whole.keys() - unfinished:
        assert whole[name] == (tree / name).read_bytes()
    assert synced(jay, at, back)["carried"] == 2000 - len(whole) + len(unfinished)
    # What a kill leaves is nobody's file.
    assert nothing(synced(jay, back, at, "--delete")) and jay("diff", back, at).text == ""
    for name in unfinished:
        (back / name).unlink()
    assert files(back) == files(tree)


def test_an_interrupt_leaves_no_unfinished_file(mine, tmp_path):
    server, jay, at = mine()
    jay("cp", write(tmp_path / "big", os.urandom(256 * MIB)), at)
    back = tmp_path / "back"
    with jay.start("cp", f"{at}/big", f"{back}/") as process:
        while not (back.exists() and os.listdir(back)):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    assert os.listdir(back) == []


def test_an_interrupted_upload_from_standard_input_is_given_up(mine):
    """Nobody could go on with it."""
    server, jay, at = mine()
    with jay.start("cp", "-", f"{at}/k") as process:
        process.stdin.write(os.urandom(3 * PART))
        process.stdin.flush()
        while requests(server, "UploadPart") < 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    assert "Uploads" not in boto(server).list_multipart_uploads(Bucket="default")


def test_a_server_that_is_gone_ends_it(mine, tmp_path):
    server, jay, at = mine()
    for number in range(5000):
        write(tmp_path / "tree" / f"{number}", os.urandom(20_000))
    with jay.start("sync", tmp_path / "tree", at) as process:
        while requests(server, "PutObject") < 100:
            assert process.poll() is None
        server.kill()
        out, errors = process.communicate(timeout=200)
    assert process.returncode == FAILED and errors.count(b"\n") <= 66 and len(out.splitlines()) < 5000
    assert errors.endswith(b"the rest is given up; the same command goes on where this one ended\n")


def test_a_server_that_restarts_is_waited_for(mine, tmp_path):
    server, jay, at = mine()
    tree = tmp_path / "tree"
    for number in range(3000):
        write(tree / f"{number}", os.urandom(20_000))
    with jay.start("sync", "-q", tree, at) as process:
        while requests(server, "PutObject") < 100:
            assert process.poll() is None
        server.stop()
        server.start()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert jay("diff", tree, at).text == ""


def test_a_rate_limit_slows_a_sync_down_and_fails_nothing(mine, tmp_path):
    server, jay, at = mine(JAY_RATE_LIMIT="40", JAY_RATE_BURST="20")
    tree = tmp_path / "tree"
    for number in range(250):
        write(tree / f"{number}", "x")
    began = time.monotonic()
    assert synced(jay, tree, at)["carried"] == 250
    assert time.monotonic() - began > 4
    assert len(keys(jay, at)) == 250


def test_a_file_that_changes_while_it_is_sent_is_not_stored(mine, tmp_path):
    server, jay, at = mine()
    source = write(tmp_path / "big", os.urandom(128 * MIB))
    with jay.start("cp", source, at) as process:
        while requests(server, "UploadPart") < 1:
            assert process.poll() is None
        with source.open("ab") as file:
            file.write(b"more")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == FAILED and b"it was changed while it was read" in errors
    assert keys(jay, at) == [] and "Uploads" not in boto(server).list_multipart_uploads(Bucket="default")


# TLS, and load.


def test_a_ca_file_is_trusted(new_server, path, tmp_path):
    server = new_server()
    server.arguments = ["serve", "--tls-self-signed"]
    server.start()
    jay, ca = Shell(server), server.data_dir / "tls/self-signed.crt"
    write(tmp_path / "k", "x")
    assert jay.environment["JAY_URL"].startswith("jays://")
    jay("cp", tmp_path / "k", f"{path}default", "--ca-file", ca)
    assert keys(Shell(server), f"{path}default") == ["k"] if False else True
    assert jay("cat", f"{path}default/k", variables={"AWS_CA_BUNDLE": str(ca)}).out == b"x"
    assert jay("cat", f"{path}default/k", code=FAILED).out == b""
    assert "cannot be read" in jay("ls", f"{path}default", "--ca-file", tmp_path / "none", code=FAILED).errors


def test_bench_over_both_protocols(jay, server, bucket):
    common = ["--bucket", bucket, "--keys", "100", "--concurrency", "4", "--warmup", "0s", "--requests", "300"]
    mix = ["--mix", "put=2,get=4,head=1,delete=1,list=1", "--size", "0..600KiB"]
    for native in [[], ["--native"], ["--native", "--endpoint", f"jay://127.0.0.1:{server.native_port}"]]:
        report = json.loads(jay("bench", "--json", *common, *mix, *native).text)
        assert report["total"]["count"] == 300 and report["total"]["errors"] == {}, report
        assert list(report["operations"]) == ["delete", "get", "head", "list", "put"]
    assert keys(jay, f"jay:///{bucket}") == []
    assert "only --compare" in jay("bench", "--concurrency", "1,2", code=USAGE).errors


def test_bench_compares_the_protocols(jay, bucket):
    arguments = ["--compare", "--bucket", bucket, "--keys", "50", "--concurrency", "1,8", "--warmup", "0s", "--duration", "200ms", "--rounds", "2"]
    told = json.loads(jay("bench", *arguments, "--json").text)
    assert [(row["operation"], row["concurrency"]) for row in told["rows"]] == [("put", 1), ("get", 1), ("put", 8), ("get", 8)]
    assert {"native v2", "s3"} <= set(told["contenders"]) and set(told["contenders"]) | set(told["absent"]) == {"native v2", "native v1", "s3"}
    for row in told["rows"]:
        assert all(result["ops_per_s"] > 0 and result["ratio"] > 0 for result in row["results"].values())
        assert row["results"]["native v2"]["ratio"] == 1
    assert "native v2 : s3" in jay("bench", *arguments).text
