"""How Jay is delivered: what systemd is told, the command line and the probes of another store, the files for containers."""

import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from jay_testing import JAY, Client, Server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def systemd(tmp_path):
    """A socket in the place of systemd's."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(20)
        yield path, lambda: listener.recv(4096).decode()


def test_systemd_is_told_of_start_health_and_end(new_server, systemd):
    path, told = systemd
    server = new_server(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000").start()
    assert told().strip() == "READY=1"
    fed = [told().strip() for _ in range(3)]
    assert fed == ["WATCHDOG=1"] * 3
    assert server.stop() == 0
    rest = []
    while "STOPPING=1" not in rest:
        rest.append(told().strip())
    assert set(rest[:-1]) <= {"WATCHDOG=1"}


def test_without_systemd_nobody_is_told(new_server):
    server = new_server(NOTIFY_SOCKET="/nowhere/at/all").start()
    assert server.ready() and server.stop() == 0


def test_a_set_up_for_another_store_changes_only_its_image(tmp_path):
    names = {"MINIO_ROOT_USER": "someone", "MINIO_ROOT_PASSWORD": "some-password", "MINIO_DEFAULT_BUCKETS": "one,two"}
    server = Server(tmp_path / "given", JAY_COMPAT_ENV="1", **names)
    environment = server.environment()
    s3, admin = environment.pop("JAY_LISTEN_ADDR"), environment.pop("JAY_ADMIN_ADDR")
    data = tmp_path / "data"
    command = [JAY, "server", "--address", s3, "--console-address", admin, str(data)]
    out = (tmp_path / "out").open("wb")
    process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 20
        while b"Status:         1 Online, 0 Offline." not in (tmp_path / "out").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "out").read_text()
            time.sleep(0.05)
        for path in ["/minio/health/live", "/minio/health/ready"]:
            assert urllib.request.urlopen(f"http://{s3}{path}", timeout=10).status == 200
        listed = Client(int(s3.split(":")[1]), "someone", "some-password").request("GET", "/").body
        assert b"<Name>one</Name>" in listed and b"<Name>two</Name>" in listed
        assert (data / "FORMAT").exists() and not (tmp_path / "given/FORMAT").exists()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_only_a_compatible_server_knows_the_probes_of_another(new_server):
    server = new_server().start()
    assert server.client().request("GET", "/minio/health/live").status == 404
    assert "Online" not in server.log.read_text()


def test_a_directory_that_is_not_ours_names_the_remedy(tmp_path):
    (tmp_path / "data").write_text("")
    said = Server(tmp_path / "data", JAY_ADMIN_TOKEN="a" * 32, JAY_SIGNING_SECRET="b" * 32).refused()
    assert "chown -R" in said and "JAY_DATA_DIR" in said, said


def test_the_unit_is_one_that_systemd_takes():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(["systemd-analyze", "verify", ROOT / "deploy/jay.service"], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "jay.service" in line and "/usr/local/bin/jay" not in line]
    assert not ours, ours
