"""What the original Jay got wrong, by number. Each has a test that shows ours does not: most of them where they belong, under
`@pytest.mark.weakness(number)`, in Rust under a comment `/// Weakness 5: …`, in a scenario whose description begins with
`Weakness 5: …`; the others here.
"""

import ast
import contextlib
import datetime
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import injection
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_admin import ask, call
from test_presigned import bearer, fetch
from test_quarantine import admin, blob_of, flip

from jay_testing import JAY, Client, Server, read_answer

ROOT = Path(__file__).resolve().parents[2]

WEAKNESSES = {
    1: "signed and chunked uploads were stored with their framing; no digest of a body was checked",
    2: "a native upload that broke off was stored as the object",
    3: "unknown sub-resources ran the plain operation: PUT ?tagging overwrote, DELETE ?policy deleted the bucket",
    4: "a native GET of a short file brought the connection out of step",
    5: "the scrubber put a new, healthy version into quarantine",
    6: "nothing left quarantine; a purge deleted healthy objects",
    7: "copies and completes took damaged bytes over, under fresh checksums",
    8: "directories above a new one were not synced",
    9: "of two uploads of one part the file of one could stand beside the sums of the other",
    10: "backups: of metadata only, not whole until they were, and a restore set newer objects aside",
    11: "signatures of queries, presigned URLs and checksums were not those of S3's clients",
    12: "listings went round in circles, encoded nothing, and took max-keys=0 for 1000",
    13: "an overwrite broke reads that had begun",
    14: "malformed ranges; conditional writes overwrote",
    15: "a complete took wrong, missing and small parts; metadata of the upload were lost",
    16: "native: a body on an operation without one was read as the next request",
    17: "metadata became headers of the answer",
    18: "what was unknown or too long was an error of the server",
    19: "links with a useless host, seeds that could not be rotated, commands that never worked, empty request ids, idle counters",
    20: "an access key of any account reached all buckets",
    21: "rules did not hold for listings and copies",
    22: "expiry was ignored, policies and public buckets could not be set",
    23: "revocation was not at once",
    24: "secrets in the log",
    25: "half a TLS configuration meant none",
    26: "five wrong tries locked the operator out; unknown ids took another time",
    27: "addresses made up in headers; secrets cut at 72 bytes; hosts unsigned; seals that fitted every token",
    28: "scrub and backup held up all writers",
    29: "a start with many missing files could hang",
    30: "a stop waited 30 s for idle native clients",
    31: "peers that stood still held their places for ever",
    32: "no request could take longer than five minutes",
    33: "each write had syncs of its own",
    34: "each read decoded the policy and the record anew, and records were large",
    35: "each part rewrote the whole upload; a complete copied all bytes",
    36: "abandoned uploads stayed for ever, those of deleted buckets too",
    37: "the scrubber forgot where it was, and would have taken years",
    38: "the client had no deadlines and used dead connections",
}

# It is of clients of the native protocol, and comes with ours.
NATIVE = {
    38: "there is no client of ours yet",
}


def of_python(path: Path) -> set[int]:
    """The numbers that the tests of a file are marked with."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.weakness":
                    found |= {argument.value for argument in mark.args}
    return found


def of_rust(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"/// Weakness (\d+): .*\n(?:\s*///.*\n)*\s*#\[(?:tokio::)?test", text)}


def of_scenarios(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"^- name: .*\n  description: \"?Weakness (\d+): ", text, re.MULTILINE)}


def test_each_has_a_test():
    shown = set().union(
        *map(of_python, (ROOT / "tests").rglob("*.py")),
        *(of_rust(path.read_text()) for path in (ROOT / "server").rglob("*.rs")),
        *(of_scenarios(path.read_text()) for path in (ROOT / "conformance/scenarios").glob("*.yaml")),
    )
    assert shown <= WEAKNESSES.keys() and list(WEAKNESSES) == list(range(1, 39))
    assert {number: WEAKNESSES[number] for number in WEAKNESSES.keys() - shown - NATIVE.keys()} == {}


def metrics(server: Server) -> dict[str, float]:
    """Counters without labels, by their names."""
    _, _, text = call(server, "GET", "/metrics", token=server.credentials()["admin_token"])
    families = text_string_to_metric_families(text.decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


@pytest.mark.weakness(6)
def test_a_purge_frees_the_space_and_touches_nothing_that_is_whole(new_server):
    server = new_server().start()
    client = server.client()
    bodies = {key: os.urandom(300_000) for key in ["bad", "good"]}
    for key, body in bodies.items():
        assert client.request("PUT", f"/default/{key}", body=body).status == 200
    file = blob_of(server, bodies["bad"][:64])
    flip(file, 1000)
    with contextlib.suppress(Exception):
        client.request("GET", "/default/bad")
    client = server.client()
    _, [entry] = admin(server, "GET", "quarantine")
    for key, status in [("good", 404), ("none", 404), ("bad", 204)]:
        token = server.credentials()["admin_token"]
        assert call(server, "DELETE", "/_jay/quarantine", {"bucket_id": entry["bucket_id"], "key": key}, token)[0] == status
    assert client.request("GET", "/default/bad").code == "NoSuchKey"
    assert client.request("GET", "/default/good").body == bodies["good"]
    stats = json.loads(client.request("GET", "/_stats/default").body)
    assert (stats["object_count"], stats["total_size_bytes"]) == (1, 300_000)
    deadline = time.monotonic() + 10
    while file.exists():
        assert time.monotonic() < deadline, "its bytes are still there"
        time.sleep(0.05)


@pytest.mark.skipif(injection.missing() is not None, reason=injection.missing() or "")
@pytest.mark.weakness(8)
def test_every_new_name_is_made_durable(new_server):
    """Of files and of directories, all the way up: the directory that has the name is synced after it."""
    server = new_server()
    output = server.data_dir.with_name("calls")
    calls = "trace=mkdir,mkdirat,linkat,rename,renameat,renameat2,fsync"
    server.launcher = ["strace", "-D", "-f", "-qq", "-y", "-o", str(output), "-e", calls, "-e", "signal=none"]
    server.start()
    for n in range(4):
        assert server.client().request("PUT", f"/default/large{n}", body=os.urandom(300_000)).status == 200
    server.kill()
    unsynced, made = set(), set()
    for line in output.read_text().splitlines():
        if found := re.search(r"fsync\(\d+<([^>]*)>", line):
            unsynced = {path for path in unsynced if str(path.parent) != found[1]}
        elif names := re.findall(r'(?:<([^>]*)>, )?"([^"]*)"', line):
            # The last one is the new one.
            path = Path(*names[-1])
            if " = -1 " not in line:
                unsynced.add(path)
                made.add(path)
    inside = [path for path in made if path.is_relative_to(server.data_dir / "objects")]
    # objects/, two levels below it, and the bodies.
    assert len(inside) >= 3 + 4, made
    assert unsynced == set()


@pytest.mark.weakness(13)
@pytest.mark.parametrize("size", [2_000, 300_000])
def test_reads_meet_no_overwrite(server, bucket, size):
    """Each finds one of the bodies, whole."""
    path, stop, wrong, reads = f"/{bucket}/k", threading.Event(), [], 0
    writer = server.client()
    assert writer.request("PUT", path, body=b"\0" * size).status == 200

    def overwrite():
        own, n = server.client(), 0
        while not stop.is_set():
            n += 1
            if own.request("PUT", path, body=bytes([n % 251]) * size).status != 200:
                wrong.append("a write")

    threads = [threading.Thread(target=overwrite) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        answer = writer.request("GET", path)
        reads += 1
        if answer.status != 200 or answer.body != answer.body[:1] * size:
            wrong.append(answer)
    stop.set()
    for thread in threads:
        thread.join()
    assert reads > 20 and not wrong, (reads, wrong[:1])


@pytest.mark.weakness(16)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_body_that_nobody_asked_for_is_no_request(server, client, bucket, method):
    """Neither by its length, nor in chunks, nor where both are said."""
    assert client.request("PUT", f"/{bucket}/kept", body=b"kept").status == 200
    inner = client.head_bytes("DELETE", f"/{bucket}/kept", headers={"connection": "close"})
    chunked = f"{len(inner):x}\r\n".encode() + inner + b"\r\n0\r\n\r\n"
    length, chunks = {"content-length": str(len(inner))}, {"transfer-encoding": "chunked"}
    for headers, body in [
        (length, inner), (chunks, chunked), (chunks | {"content-length": "0"}, chunked), (chunks | {"content-length": "4"}, chunked),
        ({"content-length": "0", "transfer-encoding": "x"}, inner), ({"content-length": "+0"}, inner), ({"content-length": "0, 9"}, inner),
    ]:  # fmt: skip
        send_alone(client, client.head_bytes(method, f"/{bucket}/missing", headers=headers) + body, 1)
        assert client.request("GET", f"/{bucket}/kept").body == b"kept", headers
    # It is one where it stands alone.
    send_alone(client, inner, 20)
    assert client.request("GET", f"/{bucket}/kept").code == "NoSuchKey"


def send_alone(client: Client, text: bytes, seconds: float) -> None:
    """On a connection of its own, which is read to its end, or until nothing comes any more."""
    with client.socket() as stream:
        stream.settimeout(seconds)
        stream.sendall(text)
        with contextlib.suppress(OSError):
            while stream.recv(65536):
                pass


@pytest.mark.weakness(17)
def test_metadata_are_no_headers_of_the_answer(client, bucket):
    path = f"/{bucket}/k"
    names = ["content-type", "etag", "set-cookie", "location", "content-length", "x-amz-meta-again", "access-control-allow-origin"]
    headers = {f"x-amz-meta-{name}": "planted" for name in names} | {"set-cookie": "a=planted", "location": "/planted"}
    assert client.request("PUT", path, body=b"body", headers=headers).status == 200
    for method in ["GET", "HEAD"]:
        answer = client.request(method, path)
        assert {name for name, value in answer.headers.items() if "planted" in value} == {f"x-amz-meta-{name}" for name in names}
        assert answer.headers["content-length"] == "4" and answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.weakness(19)
def test_a_seed_token_is_rotated(new_server):
    secrets = {"JAY_ADMIN_TOKEN": "t" * 40, "JAY_SIGNING_SECRET": "s" * 40}
    seed = {"JAY_SEED_TOKEN_ACCOUNT": "acme", "JAY_SEED_TOKEN_ID": "KEY", "JAY_SEED_TOKEN_SECRET": "the first secret"}
    server = new_server(**secrets, **seed).start()
    assert Client(server.port, "KEY", "the first secret").request("PUT", "/kept").status == 200
    assert ask(server, "DELETE", "tokens/KEY", token="t" * 40)[0] == 204
    assert server.stop() == 0
    # Without another secret it stays revoked.
    server.start()
    assert Client(server.port, "KEY", "the first secret").request("GET", "/").code == "InvalidAccessKeyId"
    assert server.stop() == 0
    server.variables["JAY_SEED_TOKEN_SECRET"] = "the second secret"
    server.start()
    assert Client(server.port, "KEY", "the second secret").request("HEAD", "/kept").status == 200
    assert Client(server.port, "KEY", "the first secret").request("GET", "/").code == "SignatureDoesNotMatch"


@pytest.mark.weakness(27)
def test_every_byte_of_a_secret_counts(new_server):
    """By signature, as bearer, and as bearer when only the hash is left."""
    long = "x" * 72 + "the rest"
    seed = {"JAY_SEED_TOKEN_ACCOUNT": "acme", "JAY_SEED_TOKEN_ID": "KEY", "JAY_SEED_TOKEN_SECRET": long}
    server = new_server(JAY_ADMIN_TOKEN="t" * 40, JAY_SIGNING_SECRET="s" * 40, **seed).start()

    def bears(secret: str) -> int:
        return fetch(server, "GET", "/", headers=bearer("KEY", secret)).status

    def signs(secret: str) -> int:
        return Client(server.port, "KEY", secret).request("GET", "/").status

    for secret in [long[:72], long[:-1], long + "x", "x" * 72 + "the next"]:
        assert (bears(secret), signs(secret)) == (403, 403), secret
    assert (bears(long), signs(long)) == (200, 200)
    assert server.stop() == 0
    environment = server.environment() | {"JAY_SIGNING_SECRET": "n" * 40}
    subprocess.run([JAY, "rekey", "--lost"], env=environment, check=True, capture_output=True)
    server.variables |= {"JAY_SIGNING_SECRET": "n" * 40, "JAY_SEED_TOKEN_SECRET": "another secret"}
    server.start()
    assert [bears(secret) for secret in [long[:72], "x" * 72 + "the next", long]] == [403, 403, 200]


@pytest.mark.weakness(27)
def test_the_host_is_signed(server, client, bucket):
    """Else a request that was signed for one server is good for another."""
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = client.headers("GET", f"/{bucket}", now=now)
    signed["authorization"] = signed["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    answer = fetch(server, "GET", f"/{bucket}", headers=signed)
    assert (answer.status, answer.code) == (403, "AccessDenied") and b"<HeadersNotSigned>host<" in answer.body, answer
    signed = client.headers("GET", f"/{bucket}", now=now, headers={"host": "jay.example"})
    assert fetch(server, "GET", f"/{bucket}", headers=signed).status == 200
    assert fetch(server, "GET", f"/{bucket}", headers=signed | {"host": "other.example"}).code == "SignatureDoesNotMatch"


@pytest.mark.weakness(28)
def test_writers_go_on_while_everything_is_read(new_server, tmp_path):
    """A check and a backup of large bodies take their time; no write waits for them."""
    server = new_server().start()
    client, body = server.client(), os.urandom(8 << 20)
    for n in range(40):
        assert client.request("PUT", f"/default/large{n}", body=body[n:]).status == 200
    for command in [["fsck"], ["backup", "create", "--to", str(tmp_path / "backups")]]:
        began = time.monotonic()
        process = subprocess.Popen([JAY, *command], env=server.environment(), stdout=subprocess.DEVNULL)
        took, writes = [], 0
        while process.poll() is None:
            at = time.monotonic()
            assert client.request("PUT", f"/default/small{writes}", body=b"x" * 1000).status == 200
            took.append(time.monotonic() - at)
            writes += 1
        whole = time.monotonic() - began
        assert process.returncode == 0
        assert writes > 10 and max(took) < whole / 2, (command, whole, writes, max(took))


@pytest.mark.weakness(29)
def test_a_start_with_many_missing_files_is_prompt(new_server):
    server = new_server().start()
    client, count = server.client(), 300
    for n in range(count):
        assert client.request("PUT", f"/default/k{n:03}", body=n.to_bytes(2, "big") * 70_000).status == 200
    assert server.stop() == 0
    files = [path for path in (server.data_dir / "objects").rglob("*") if path.is_file()]
    assert len(files) == count
    for path in files[1:]:
        path.unlink()
    began = time.monotonic()
    server.start()
    assert time.monotonic() - began < 20
    client = server.client()
    assert client.request("PUT", "/default/new", body=b"new").status == 200
    deadline = time.monotonic() + 60
    while len(quarantined := admin(server, "GET", "quarantine")[1]) < count - 1:
        assert time.monotonic() < deadline, len(quarantined)
        time.sleep(0.2)
    assert [client.request("GET", f"/default/k{n:03}").status for n in range(count)].count(200) == 1
    assert client.request("GET", "/default/new").body == b"new"


def slow_log(server: Server) -> contextlib.AbstractContextManager:
    """Where a sync takes next to no time, none has to be shared: here each takes that of a good disk at least, wherever that can
    be had."""
    if injection.missing():
        return contextlib.nullcontext()
    return injection.Delay(server, [injection.LOG], "fdatasync", "5ms")


@pytest.mark.weakness(33)
def test_writes_share_their_syncs(new_server):
    server = new_server().start()
    before, each, clients = metrics(server), 40, 32

    def write(number: int) -> None:
        own = server.client()
        for n in range(each):
            assert own.request("PUT", f"/default/{number}-{n}", body=b"x" * 1000).status == 200

    with slow_log(server):
        together([threading.Thread(target=write, args=[number]) for number in range(clients)])
    after = metrics(server)
    grew = {name: after[name] - before[name] for name in ["jay_log_sync_seconds_count", "jay_log_batch_transactions_sum"]}
    assert grew["jay_log_batch_transactions_sum"] >= each * clients
    assert grew["jay_log_sync_seconds_count"] < each * clients / 2, grew


@pytest.mark.weakness(34)
def test_a_policy_costs_a_read_little(new_server):
    """In processor time. It is decoded with the row of its bucket, and not parsed: a usual one costs next to nothing, the
    longest that is taken less than two reads of a byte."""
    server = new_server(JAY_ADMIN_TOKEN="t" * 40, JAY_SIGNING_SECRET="s" * 40).start()
    account = made_by(server, "accounts", {"name": "a"})["account_id"]
    token = made_by(server, "tokens", {"account_id": account, "name": "t"})
    nobody = {"effect": "deny", "actions": ["object:put"], "subjects": [f"nobody-{'x' * 60}"]}
    statement = nobody | {"prefixes": [f"{n:04}/{'y' * 20}" for n in range(10)]}
    policies = {"none": [], "usual": [nobody] * 2, "longest": [statement] * 44}
    client = Client(server.port, token["token_id"], token["secret"])
    for bucket, statements in policies.items():
        assert client.request("PUT", f"/{bucket}").status == 200
        assert client.request("PUT", f"/{bucket}/k", body=b"x").status == 200
        policy = {"version": "2024-01-01", "statements": statements}
        assert not statements or ask(server, "PUT", f"buckets/{bucket}/policy", policy, token="t" * 40)[0] == 200

    def seconds(bucket: str) -> float:
        before = cpu(server)
        for _ in range(1500):
            assert client.request("GET", f"/{bucket}/k").status == 200
        return cpu(server) - before

    # By turns, so that what else the machine does hits all.
    rounds = [{bucket: seconds(bucket) for bucket in policies} for _ in range(4)]
    taken = {bucket: min(taken[bucket] for taken in rounds) for bucket in policies}
    assert taken["usual"] < 1.3 * taken["none"] and taken["longest"] < 3 * taken["none"], taken


def made_by(server: Server, path: str, body: dict) -> dict:
    status, answer = ask(server, "POST", path, body, token="t" * 40)
    assert status == 201, answer
    return answer


def cpu(server: Server) -> float:
    """Seconds of the processor that it has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.weakness(34)
def test_records_are_small(new_server):
    server = new_server().start()
    before, count, writers = metrics(server)["jay_log_bytes_total"], 2_000, 40
    with slow_log(server):
        together([threading.Thread(target=put_all, args=[server.client(), range(n, count, writers)]) for n in range(writers)])
    # With its body of 100 bytes, and its share of the page that a batch fills up.
    assert (metrics(server)["jay_log_bytes_total"] - before) / count < 2000
    assert server.stop() == 0
    assert (server.data_dir / "index.redb").stat().st_blocks * 512 / count < 1000


def together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def put_all(client: Client, numbers: range) -> None:
    for n in numbers:
        assert client.request("PUT", f"/default/{n:06}", body=b"x" * 100).status == 200


@pytest.mark.weakness(35)
def test_a_part_costs_the_same_whatever_came_before_it(new_server):
    server = new_server(JAY_S3_MIN_PART_SIZE="0").start()
    client, path = server.client(), "/default/k"
    upload = client.request("POST", path, "uploads=").body.decode().split("<UploadId>")[1].split("<")[0]
    etags, costs = [], []
    for start in range(0, 1200, 100):
        before = metrics(server)["jay_log_bytes_total"]
        for n in range(start, start + 100):
            query = f"partNumber={n + 1}&uploadId={urllib.parse.quote(upload)}"
            etags.append(client.request("PUT", path, query, b"x" * 500).headers["etag"])
        costs.append(metrics(server)["jay_log_bytes_total"] - before)
    assert max(costs[1:]) < 1.5 * min(costs[1:]), costs
    large = client.request("PUT", path, f"partNumber=1201&uploadId={upload}", os.urandom(20 << 20))
    etags.append(large.headers["etag"])
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1))
    before = written(server)
    document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    assert client.request("POST", path, f"uploadId={upload}", document).code is None
    # What a complete writes has nothing to do with the 20 MiB of the parts.
    assert written(server) - before < 4 << 20
    assert client.request("HEAD", path).headers["content-length"] == str(1200 * 500 + (20 << 20))


def written(server: Server) -> int:
    """Bytes that it has written."""
    line = next(line for line in Path(f"/proc/{server.process.pid}/io").read_text().splitlines() if line.startswith("wchar"))
    return int(line.split()[1])


@pytest.mark.weakness(32)
def test_a_slow_upload_is_no_stalled_one(server, client, bucket):
    """What matters is that bytes come, not how long the whole takes; the limit on standing still is a test of the listener."""
    with client.socket() as stream:
        stream.sendall(client.head_bytes("PUT", f"/{bucket}/slow", headers={"content-length": "20"}))
        for _ in range(20):
            stream.sendall(b"x")
            time.sleep(0.2)
        assert read_answer(stream).status == 200


def test_marks_are_found():
    """Else a typing error would leave a number without its test."""
    assert of_rust("/// Weakness 5: a story\n/// of it\n#[test]\nfn f() {}\n/// Weakness 6: none\nfn g() {}") == {5}
    assert of_rust("    /// Weakness 7: x\n    #[tokio::test]\n    async fn f() {}") == {7}
    assert of_scenarios('- name: a\n  description: "Weakness 9: b"\n- name: b\n  operations: Weakness 8: c\n') == {9}
    assert {13, 16} <= of_python(Path(__file__))
