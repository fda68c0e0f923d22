"""Starts a server, runs listed tests of s3-tests against it and holds the verdicts against what is expected.

run.sh calls it. The server is thrown away afterwards, so the suite's own cleaning, which needs operations that
have nothing to do with the test in hand (versions, roles), is left out.
"""

import argparse
import configparser
import os
import sys
import tempfile
from pathlib import Path

import boto3
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests"))

from jay_testing import Server, clean_environment  # noqa: E402

SECONDS_PER_TEST = 30
# The second account.
ALT = {"access_key": "ALTERNATIVE", "secret_key": "a secret only for the time of this run"}
# They want to see no buckets but their own.
FIRST = ("test_list_buckets", "test_buckets_list", "test_account_usage")


class Listed:
    """A plugin of pytest: runs what is listed, without cleaning, and keeps the verdicts."""

    def __init__(self, ids: list[str]):
        self.ids = ids
        self.verdicts = dict.fromkeys(ids, "was not run: the suite has no such test")

    def pytest_collection_modifyitems(self, items):
        import s3tests.functional

        s3tests.functional.setup = s3tests.functional.teardown = lambda: None
        items[:] = [item for item in items if short(item.nodeid) in self.verdicts]
        items.sort(key=lambda item: not item.name.startswith(FIRST))

    def pytest_runtest_logreport(self, report):
        """The verdict is that of the test itself, or of what had to go before it."""
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.verdicts[short(report.nodeid)] = None if report.passed else why(report)


def short(node_id: str) -> str:
    return node_id.rpartition("/")[2]


def why(report) -> str:
    """In one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr).split())[:200]


def lines(path: Path) -> list[str]:
    return [line for line in map(str.strip, path.read_text().splitlines()) if line and not line.startswith("#")]


def with_two_accounts(data_dir: Path) -> tuple[Server, dict[str, str]]:
    """The account that a first start makes and that of a seed token; the access key and secret of the former."""
    server = Server(data_dir).start()
    known = server.credentials()
    server.stop()
    seed = {"JAY_SEED_TOKEN_ACCOUNT": "alt", "JAY_SEED_TOKEN_ID": ALT["access_key"], "JAY_SEED_TOKEN_SECRET": ALT["secret_key"]}
    server.variables |= seed
    return server.start(), {"access_key": known["access_key_id"], "secret_key": known["secret_access_key"]}


def configuration(server: Server, main: dict[str, str]) -> configparser.RawConfigParser:
    """Two accounts there are; the others that the suite wants are named, and nobody knows them."""
    config = configparser.RawConfigParser()
    config["DEFAULT"] = {"host": "127.0.0.1", "port": server.port, "is_secure": "no", "ssl_verify": "no"}
    config["fixtures"] = {"bucket prefix": "s3t-{random}-"}
    for section, access in {"s3 main": main, "s3 alt": ALT}.items():
        config[section] = owner(server, access) | access | {"email": "somebody@example.com"}
    for section in ["s3 tenant", "iam", "iam root", "iam alt root"]:
        name = section.replace(" ", "-")
        config[section] = {
            "user_id": name, "display_name": name, "email": f"{name}@example.com", "tenant": "tenant",
            "access_key": f"NOBODY-{name}", "secret_key": "no secret of anybody, only for the configuration",
        }  # fmt: skip
    return config


def owner(server: Server, access: dict[str, str]) -> dict[str, str]:
    s3 = boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1",
        aws_access_key_id=access["access_key"], aws_secret_access_key=access["secret_key"],
    )  # fmt: skip
    found = s3.list_buckets()["Owner"]
    return {"user_id": found["ID"], "display_name": found.get("DisplayName", "")}


def run(source: Path, config: configparser.RawConfigParser, place: Path, ids: list[str]) -> dict[str, str | None]:
    """Why each failed; `None` for those that passed."""
    with (place / "s3tests.conf").open("w") as file:
        config.write(file)
    os.environ.clear()
    os.environ.update(clean_environment() | {"S3TEST_CONF": str(place / "s3tests.conf"), "AWS_DEFAULT_REGION": "us-east-1"})
    os.chdir(source)
    sys.path.insert(0, str(source))
    files = sorted({f"s3tests/functional/{name.partition('::')[0]}" for name in ids})
    options = ["-q", "--no-header", "--tb=no", "--no-summary", "-p", "no:cacheprovider", "-W", "ignore"]
    limits = ["--timeout", str(SECONDS_PER_TEST), "--timeout-method=signal"]
    listed = Listed(ids)
    pytest.main([*options, *limits, *files], plugins=[listed])
    return listed.verdicts


def judge(verdicts: dict[str, str | None], expected: dict[str, str]) -> int:
    """How many failed that were not expected to."""
    failed = {name: reason for name, reason in verdicts.items() if reason is not None}
    passed = [name for name in verdicts if name not in failed]
    surprises = [name for name in failed if name not in expected]
    print("\n".join(f"FAILED {name}: {failed[name]}" for name in surprises))
    for name in passed:
        if name in expected:
            print(f"passes now, strike it from expected-failures.txt: {name}")
    print(f"of {len(failed)} that failed, {len(failed) - len(surprises)} were expected to")
    print(f"{len(passed)} passed, {len(failed)} failed", flush=True)
    return len(surprises)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--source", type=Path, required=True, help="a checkout of s3-tests")
    arguments.add_argument("--list", type=Path, default=HERE / "tests.txt", help="the tests to run, one a line")
    options = arguments.parse_args()
    source = options.source.resolve()
    if not (source / "s3tests/functional/test_s3.py").exists():
        sys.exit(f"no checkout of s3-tests: {source}")
    ids = lines(options.list)
    expected = dict(line.split(maxsplit=1) for line in lines(HERE / "expected-failures.txt"))
    with tempfile.TemporaryDirectory(prefix="jay-s3-tests-") as place:
        server, access = with_two_accounts(Path(place, "data"))
        try:
            verdicts = run(source, configuration(server, access), Path(place), ids)
        finally:
            server.kill()
    return 1 if judge(verdicts, expected) else 0


if __name__ == "__main__":
    sys.exit(main())
