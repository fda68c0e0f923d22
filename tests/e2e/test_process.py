"""The process: first start, configuration, refusals, stopping, restarting, memory, secrets."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from jay_testing import JAY, Server, clean_environment, read_answer

LONG = "0123456789abcdef" * 2


def log_lines(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def messages(server: Server) -> list[str]:
    return [line["msg"] for line in log_lines(server)]


def test_a_first_start_prints_lines_that_work(new_server):
    server = new_server().start()
    printed = server.log.read_text()
    exports = [line for line in printed.splitlines() if line.startswith("export ")]
    names = [line.split("=")[0].removeprefix("export ") for line in exports]
    assert names[:5] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "JAY_URL"]
    known = server.credentials()
    assert re.fullmatch(r"JAY[A-Z2-7]{17}", known["access_key_id"])
    assert len(known["secret_access_key"]) == 40 and len(known["admin_token"]) == 64
    assert known["secret_access_key"] not in known["jay_url"]
    aws = Path(sys.executable).with_name("aws")
    script = "\n".join([*exports, f"{aws} s3 ls", f"echo pasted | {aws} s3 cp - s3://default/x", f"{aws} s3 cp s3://default/x -"])
    done = subprocess.run(["bash", "-ec", script], env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r" default\n", done.stdout) and done.stdout.endswith("pasted\n")
    if shutil.which("curl"):
        curl = re.search(r"#   (curl .*\n)#( .*\n)", printed)
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "README.md").write_text("by curl")
            command = "\n".join([*exports, "".join(curl.groups()).replace("curl ", "curl -sS ")])
            subprocess.run(["bash", "-ec", command], env=clean_environment(), cwd=directory, check=True)
        assert server.client().request("GET", "/default/README.md").body == b"by curl"

    assert server.stop() == 0
    server.start()
    again = server.log.read_text()
    assert "print-config" in again and "export " not in again
    assert server.credentials() == known
    assert [line for line in server.print_config().splitlines() if line.startswith("export ")] == exports


def test_credentials_are_for_their_owner_only(new_server):
    server = new_server().start()
    credentials = server.data_dir / "credentials"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.data_dir.stat().st_mode) & 0o077 == 0
    assert not list(server.data_dir.glob("credentials.*"))


def test_the_log_holds_no_secret(new_server):
    server = new_server(JAY_LOG_LEVEL="debug").start()
    server.stop()
    server.start()
    client = server.client()
    client.request("PUT", "/default/x", body=b"x")
    wrong = server.client()
    wrong.secret = "w" * 40
    wrong.request("GET", "/default/x")
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Signature=5ec2e7"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{server.endpoint}/default/x?{query}")
    assert server.stop() == 0
    log = server.log.read_text() + server.errors.read_text()
    assert log.count('"msg":"request"') >= 3
    kept = json.loads((server.data_dir / "credentials").read_text())
    for secret in [kept["admin_token"], kept["signing_secret"], kept["secret_access_key"], "5ec2e7", "w" * 40, "Signature="]:
        assert secret not in log
    on_disk = b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file() and path.name != "credentials")
    for secret in [kept["signing_secret"], kept["secret_access_key"]]:
        assert secret.encode() not in on_disk


def test_a_restart_keeps_everything(new_server):
    server = new_server().start()
    client = server.client()
    bodies = {f"k{n}": os.urandom(n * 9001) for n in range(40)}
    assert client.request("PUT", "/second").status == 200
    for key, body in bodies.items():
        headers = {"x-amz-meta-n": key, "content-type": "text/x"}
        assert client.request("PUT", f"/second/{key}", body=body, headers=headers).status == 200
    for key in ["k3", "k30"]:
        assert client.request("DELETE", f"/second/{key}").status == 204
        del bodies[key]
    before = client.request("GET", "/second", "list-type=2").body
    for end in [server.stop, server.kill, server.stop]:
        end()
        server.start()
        client = server.client()
        assert client.request("GET", "/second", "list-type=2").body == before
        for key, body in bodies.items():
            got = client.request("GET", f"/second/{key}")
            assert got.body == body and got.headers["x-amz-meta-n"] == key and got.headers["content-type"] == "text/x"
    names = re.findall(r"<Name>(.*?)</Name>", client.request("GET", "/").body.decode())
    assert names == ["default", "second"]


def test_a_deleted_default_bucket_stays_deleted(new_server):
    """As long as there is another; a store without any bucket gets it again."""
    server = new_server().start()
    client = server.client()
    assert client.request("PUT", "/another").status == 200
    assert client.request("DELETE", "/default").status == 204
    server.stop()
    server.start()
    assert server.client().request("HEAD", "/default").status == 404


def test_a_second_process_is_refused(new_server):
    first = new_server().start()
    second = new_server()
    said = second.refused()
    assert str(first.data_dir) in said and "JAY_DATA_DIR" in said
    assert first.client().request("GET", "/").status == 200


@pytest.mark.parametrize("which", ["JAY_LISTEN_ADDR", "JAY_ADMIN_ADDR", "JAY_NATIVE_ADDR"])
def test_a_port_in_use_is_refused(new_server, which):
    first = new_server("first").start()
    second = new_server("second", **{which: first.variables["JAY_LISTEN_ADDR"]})
    said = second.refused()
    assert first.variables["JAY_LISTEN_ADDR"] in said and which in said
    assert not second.data_dir.exists(), "a refused start left something behind"


def test_a_directory_without_rights_is_refused(new_server, tmp_path):
    (tmp_path / "file").write_text("")
    said = new_server("other", JAY_DATA_DIR=str(tmp_path / "file/data")).refused()
    assert str(tmp_path / "file/data") in said and "JAY_DATA_DIR" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_directory_of_somebody_else_is_refused():
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        program = shutil.copy(JAY, place / "jay")
        (place / "data").mkdir(mode=0o700)
        environment = Server(place / "data").environment()
        done = subprocess.run([program], env=environment, user=65534, group=65534, extra_groups=[], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("jay: "), done
    assert str(place / "data") in done.stderr and "rights" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "variables, named",
    [
        ({"JAY_ADMIN_TOKEN": ""}, "JAY_ADMIN_TOKEN"),
        ({"JAY_ADMIN_TOKEN": LONG, "JAY_SIGNING_SECRET": ""}, "JAY_SIGNING_SECRET"),
        ({"JAY_ADMIN_TOKEN": LONG, "JAY_SIGNING_SECRET": "short"}, "JAY_SIGNING_SECRET"),
        ({"JAY_ADMIN_TOKEN": LONG}, "JAY_SIGNING_SECRET"),
        ({"JAY_SIGNING_SECRET": LONG}, "JAY_ADMIN_TOKEN"),
        ({"JAY_REQUIRE_SECRETS": "1"}, "JAY_ADMIN_TOKEN"),
        ({"JAY_SEED_TOKEN_ID": "only"}, "JAY_SEED_TOKEN_ACCOUNT"),
        ({"JAY_LISTEN_ADDR": "nonsense"}, "JAY_LISTEN_ADDR"),
    ],
)
def test_bad_configuration_is_refused_by_name(new_server, variables, named):
    server = new_server(**variables)
    assert named in server.refused()
    assert not server.data_dir.exists()


def test_configured_secrets_and_a_seed_token(new_server):
    seed = {"JAY_SEED_TOKEN_ACCOUNT": "acme", "JAY_SEED_TOKEN_ID": "acme-key", "JAY_SEED_TOKEN_SECRET": "acme-secret"}
    server = new_server(JAY_ADMIN_TOKEN=LONG, JAY_SIGNING_SECRET=LONG[::-1], **seed).start()
    assert not (server.data_dir / "credentials").exists()
    assert {"seed: account created", "seed: token created", "jay: starting", "server listening"} <= set(messages(server))
    assert server.credentials()["access_key_id"] == "acme-key"
    client = server.client()
    assert client.request("PUT", "/acme-bucket").status == 200
    assert server.stop() == 0
    assert messages(server)[-2:] == ["jay: shutting down", "jay: stopped"]
    server.start()
    assert {"seed: account exists, reusing", "seed: token already present, reusing"} <= set(messages(server))
    server.stop()

    server.variables["JAY_SEED_TOKEN_SECRET"] = "another"
    server.start()
    assert "seed: token exists but secret does not match env; refusing to overwrite" in messages(server)
    # With the first secret, which the client still has.
    client.connection.close()
    assert client.request("HEAD", "/acme-bucket").status == 200
    server.stop()

    server.variables["JAY_SIGNING_SECRET"] = LONG + "x"
    assert "JAY_SIGNING_SECRET" in server.refused()
    del server.variables["JAY_SIGNING_SECRET"], server.variables["JAY_ADMIN_TOKEN"]
    assert "JAY_SIGNING_SECRET" in server.refused()
    assert not (server.data_dir / "credentials").exists()


def test_with_secrets_alone_access_keys_are_made_by_the_operator(new_server):
    server = new_server(JAY_ADMIN_TOKEN=LONG, JAY_SIGNING_SECRET=LONG[::-1]).start()
    assert f"ready on {server.endpoint}; `jay-admin create-account` and `create-token` make access keys" in messages(server)
    done = subprocess.run([JAY, "print-config"], env=server.environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "jay-admin create-token" in done.stderr


def test_the_shell_of_an_operator_may_know_the_admin_token_alone(new_server, tmp_path):
    """As jay-admin is told it. Once it kept all other verbs from working, and asked for the signing secret of the server."""
    server = new_server().start()
    environment = server.environment() | {"JAY_ADMIN_TOKEN": server.credentials()["admin_token"]}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([JAY, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    for verb in [["health"], ["print-config"], ["fsck"], ["backup", "create", "--to", str(tmp_path / "to")]]:
        done = run(*verb)
        assert done.returncode == 0, done
    # It is the token of the server, or nothing.
    environment["JAY_ADMIN_TOKEN"] = LONG
    assert "unauthorized" in run("fsck").stderr
    assert server.stop() == 0
    assert "JAY_SIGNING_SECRET is not set while JAY_ADMIN_TOKEN is" in run().stderr


def test_health(new_server):
    server = new_server().start()

    def ask(path: str):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}{path}") as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    assert ask("/health/live") == (200, b'{"status":"alive"}\n')
    assert ask("/health/ready") == ask("/health") == (200, b'{"status":"ready"}\n')
    status, body = ask("/nothing")
    assert status == 404 and "error" in json.loads(body)
    health = [JAY, "health"]
    assert subprocess.run(health, env=server.environment(), capture_output=True).returncode == 0
    server.stop()
    assert subprocess.run(health, env=server.environment(), capture_output=True).returncode == 1


@pytest.mark.weakness(30)
def test_a_stop_lets_an_upload_finish(new_server):
    server = new_server().start()
    client = server.client()
    idle = server.client()
    assert idle.request("GET", "/").status == 200
    body = os.urandom(6_000_000)
    with client.socket() as stream:
        stream.sendall(client.head_bytes("PUT", "/default/slow", headers={"content-length": str(len(body))}))
        stream.sendall(body[:3_000_000])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert idle.connection.sock.recv(1) == b"", "an idle connection is closed at once"
        with pytest.raises(ConnectionRefusedError):
            client.socket()
        assert server.process.poll() is None
        stream.sendall(body[3_000_000:])
        answer = read_answer(stream)
        assert answer.status == 200, answer
    assert server.process.wait(timeout=5) == 0
    assert messages(server)[-1] == "jay: stopped"
    server.start()
    assert server.client().request("GET", "/default/slow").body == body


@pytest.mark.weakness(30)
def test_a_stop_without_work_is_fast_and_a_second_signal_faster(new_server):
    server = new_server().start()
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 2
    server.start()
    client = server.client()
    with client.socket() as stream:
        stream.sendall(client.head_bytes("PUT", "/default/x", headers={"content-length": "10"}))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=2) == 1


def test_memory_does_not_grow_with_bodies(new_server, everything):
    """32 clients at once; the goal is the same for 64 MiB and for 256 MiB each."""
    mebibytes = 256 if everything else 64
    server = new_server().start()
    chunk = os.urandom(1 << 20)
    statuses = []

    def upload(number: int) -> None:
        client = server.client(timeout=500)
        with client.socket() as stream:
            stream.sendall(client.head_bytes("PUT", f"/default/big{number}", headers={"content-length": str(mebibytes << 20)}))
            for _ in range(mebibytes):
                stream.sendall(chunk)
            statuses.append(read_answer(stream).status)

    threads = [threading.Thread(target=upload, args=[number]) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 32
    peak = server.peak_rss_bytes()
    print(f"peak RSS {peak / 2**20:.0f} MiB")
    assert peak < 128 << 20, f"{peak / 2**20:.0f} MiB"
