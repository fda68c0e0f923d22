"""Fixtures: a server for everybody, servers for oneself, and clients of them."""

import subprocess
import sys
from pathlib import Path

import boto3
import botocore.config
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jay_testing import Client, Server  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "weakness(*numbers): shows that ours has none of these; test_weaknesses.py has the list")


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="the long tests too")


@pytest.fixture(scope="session")
def everything(request) -> bool:
    return request.config.getoption("--all")


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Server:
    """A server without configuration, shared by all tests that need nothing special."""
    shared = Server(tmp_path_factory.mktemp("shared") / "data").start()
    yield shared
    assert shared.stop() == 0


@pytest.fixture
def new_server(tmp_path):
    """Makes servers that are ended with the test."""
    made = []

    def make(name: str = "data", **variables: str) -> Server:
        made.append(Server(tmp_path / name, **variables))
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def bucket(server, request) -> str:
    """A new bucket on the shared server."""
    name = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")[:50].strip("-")
    made = f"{name}-{next(NUMBERS)}"
    answer = server.client().request("PUT", f"/{made}")
    assert answer.status == 200, answer
    return made


NUMBERS = iter(range(1_000_000))


@pytest.fixture
def client(server) -> Client:
    return server.client()


def boto(server: Server, **settings):
    known = server.credentials()
    credentials = {
        "aws_access_key_id": known["access_key_id"],
        "aws_secret_access_key": known["secret_access_key"],
    } | {name: settings.pop(name) for name in list(settings) if name.startswith("aws_")}
    return boto3.client(
        "s3", endpoint_url=server.endpoint, region_name=known["region"], **credentials,
        config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=20, max_pool_connections=32, **settings),
    )  # fmt: skip


@pytest.fixture
def s3(server):
    """boto3 with its defaults, but without retries."""
    return boto(server)


@pytest.fixture
def aws(server):
    """Runs the AWS CLI against the shared server; its standard output."""
    environment = server.client_environment()
    program = Path(sys.executable).with_name("aws")

    def run(*arguments: str | Path, check: bool = True, config: Path | None = None) -> str:
        configured = {"AWS_CONFIG_FILE": str(config)} if config else {}
        done = subprocess.run(
            [program, *map(str, arguments)], env=environment | configured, capture_output=True, text=True, timeout=1800
        )
        assert not check or done.returncode == 0, f"aws {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    return run
