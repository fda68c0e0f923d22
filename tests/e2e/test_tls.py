"""TLS on both ports: by a certificate of one's own or a made one, taken anew without dropping anybody."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path

import boto3
import botocore.config
import pytest

from jay_testing import JAY, Server

HEALTH = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def boto(server: Server, trusted: Path | bool):
    known = server.credentials()
    config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=20)
    return boto3.client(
        "s3", endpoint_url=server.endpoint, region_name=known["region"], verify=str(trusted) if trusted else trusted,
        aws_access_key_id=known["access_key_id"], aws_secret_access_key=known["secret_access_key"], config=config,
    )  # fmt: skip


def jay(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([JAY, *arguments], env=server.environment(), capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> list[tuple[Path, Path]]:
    """Three certificates with their keys."""
    made = []
    for name in "abc":
        server = Server(tmp_path_factory.mktemp("pair") / name)
        server.arguments = ["serve", "--tls-self-signed"]
        server.start()
        assert server.stop() == 0
        tls = server.data_dir / "tls"
        made.append((tls / "self-signed.crt", tls / "self-signed.key"))
    return made


@pytest.fixture
def files(tmp_path, pairs) -> tuple[Path, Path]:
    """Copies of the first pair, to be changed."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    install(pairs[0], (cert, key))
    return cert, key


def install(pair, files):
    for source, target in zip(pair, files, strict=True):
        shutil.copy(source, target.with_suffix(".new"))
        target.with_suffix(".new").rename(target)


@contextlib.contextmanager
def session(port: int):
    """A connection under TLS that trusts anybody."""
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), timeout=15) as stream:
        with context.wrap_socket(stream) as wrapped:
            yield wrapped


def ask(stream) -> bytes:
    stream.sendall(HEALTH)
    return stream.recv(65536)


def certificate(port: int) -> bytes:
    with session(port) as stream:
        return stream.getpeercert(binary_form=True)


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_a_self_signed_server_is_trusted_by_its_file(new_server):
    server = new_server()
    server.arguments = ["serve", "--tls-self-signed"]
    server.start()
    cert, key = (server.data_dir / "tls" / f"self-signed.{kind}" for kind in ["crt", "key"])
    for path in [cert, key]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log = server.log.read_text()
    assert str(cert) in log and log.count("server listening (TLS)") == 3

    s3 = boto(server, cert)
    body = os.urandom(9 << 20)
    s3.put_object(Bucket="default", Key="large", Body=body)
    assert s3.get_object(Bucket="default", Key="large")["Body"].read() == body
    with pytest.raises(botocore.exceptions.SSLError):
        boto(server, True).list_buckets()

    # The names of the certificate, by a client that checks them.
    context = ssl.create_default_context(cafile=cert)
    for name in ["localhost", "127.0.0.1", socket.gethostname().lower()]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=15) as stream:
            context.wrap_socket(stream, server_hostname=name).close()


def test_the_verbs_of_jay_find_a_server_under_tls(new_server, tmp_path):
    server = new_server()
    server.arguments = ["serve", "--tls-self-signed"]
    server.start()
    assert jay(server, "health").returncode == 0
    assert "all is as it was put" in jay(server, "fsck").stdout
    backup = jay(server, "backup", "create", "--to", str(tmp_path / "backups"))
    assert backup.returncode == 0, backup.stderr
    known = server.credentials()
    assert known["endpoint_url"] == server.endpoint and known["admin_url"] == server.admin_endpoint
    assert known["ca_bundle"] == str(server.data_dir / "tls/self-signed.crt")

    # What print-config says is enough for a shell.
    exports = [line for line in server.print_config().splitlines() if line.startswith("export ")]
    curl = (
        'curl -sS --fail-with-body --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" '
        '-H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$AWS_ENDPOINT_URL/"'
    )
    done = subprocess.run(["bash", "-ec", "\n".join([*exports, curl])], capture_output=True, text=True, timeout=60)
    assert "<Name>default</Name>" in done.stdout, done.stderr

    # Without the option it is plain again, and known to be.
    assert server.stop() == 0
    server.arguments = []
    server.start()
    assert jay(server, "health").returncode == 0
    assert server.credentials()["endpoint_url"].startswith("http://")
    assert "all is as it was put" in jay(server, "fsck").stdout


def test_an_operator_does_not_tell_his_token_to_another_certificate(new_server, files, pairs):
    cert, key = files
    server = new_server(JAY_TLS_CERT=str(cert), JAY_TLS_KEY=str(key)).start()
    assert "all is as it was put" in jay(server, "fsck").stdout
    server.variables["JAY_TLS_CERT"] = str(pairs[1][0])
    said = jay(server, "fsck")
    assert said.returncode != 0 and "certificate" in said.stderr


def test_only_http_1_1_under_tls(new_server, files):
    cert, key = files
    server = new_server(JAY_TLS_CERT=str(cert), JAY_TLS_KEY=str(key)).start()
    for offered, expected in [(["h2", "http/1.1"], "http/1.1"), ([], None)]:
        context = ssl._create_unverified_context()
        if offered:
            context.set_alpn_protocols(offered)
        with socket.create_connection(("127.0.0.1", server.port), timeout=15) as stream:
            with context.wrap_socket(stream) as wrapped:
                assert wrapped.selected_alpn_protocol() == expected
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        context = ssl._create_unverified_context()
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", server.admin_port), timeout=15) as stream:
            with context.wrap_socket(stream) as wrapped:
                assert b" 200 " in ask(wrapped)
    # Plain HTTP gets no answer at all: in clear nothing is said.
    plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("GET", "/")
        plain.getresponse()


@pytest.mark.weakness(25)
def test_a_pair_that_cannot_be_used_refuses_to_start(new_server, files, pairs, tmp_path):
    cert, key = map(str, files)
    other = str(pairs[1][1])
    cases = [
        ({"JAY_TLS_CERT": cert}, "JAY_TLS_KEY"),
        ({"JAY_TLS_KEY": key}, "JAY_TLS_CERT"),
        ({"JAY_TLS_CERT": cert, "JAY_TLS_KEY": other}, "JAY_TLS_CERT and JAY_TLS_KEY"),
        ({"JAY_TLS_CERT": str(tmp_path / "none"), "JAY_TLS_KEY": key}, "JAY_TLS_CERT"),
        ({"JAY_TLS_CERT": cert, "JAY_TLS_KEY": cert}, "JAY_TLS_KEY"),
        ({"JAY_TLS_CERT": str(tmp_path), "JAY_TLS_KEY": key}, "JAY_TLS_CERT"),
    ]
    for n, (variables, named) in enumerate(cases):
        said = new_server(f"refused-{n}", **variables).refused()
        assert named in said and "PRIVATE" not in said, said


def wait_for(condition, seconds: float):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_a_new_certificate_is_taken_and_no_connection_dropped(new_server, files, pairs):
    cert, key = files
    server = new_server(JAY_TLS_CERT=str(cert), JAY_TLS_KEY=str(key)).start()
    ports = [server.port, server.admin_port]
    assert [certificate(port) for port in ports] == [der(pairs[0][0])] * 2
    with session(server.admin_port) as kept:
        assert b" 200 " in ask(kept)
        # By itself,
        install(pairs[1], files)
        wait_for(lambda: certificate(server.port) == der(pairs[1][0]), 12)
        assert certificate(server.admin_port) == der(pairs[1][0])
        assert b" 200 " in ask(kept)
        # and at once when told to.
        began = time.monotonic()
        install(pairs[2], files)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: certificate(server.port) == der(pairs[2][0]), 4)
        assert time.monotonic() - began < 4
        # One that is broken is not taken.
        key.write_text("broken")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the old one stays" in server.log.read_text(), 5)
        assert [certificate(port) for port in ports] == [der(pairs[2][0])] * 2
        assert b" 200 " in ask(kept)
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if "the old one stays" in line]
        assert [line["level"] for line in lines] == ["ERROR"] and "JAY_TLS_KEY" in lines[0]["error"]
    # Health asks the server, not the files.
    assert jay(server, "health").returncode == 0


def test_a_stop_under_tls_is_prompt(new_server, files):
    cert, key = files
    server = new_server(JAY_TLS_CERT=str(cert), JAY_TLS_KEY=str(key)).start()
    with session(server.port) as kept, socket.create_connection(("127.0.0.1", server.port)):
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(65536)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 3
        assert kept.recv(1) == b""
