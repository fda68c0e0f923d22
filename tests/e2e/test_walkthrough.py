"""The walk-through of the original Jay, one test a step, by the commands that its readers type: curl, jay-admin, the AWS CLI.

Step 10, the native client, is not there yet. What else each step must do and refuse is tested where its part is.
"""

import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from shell import Shell

from jay_testing import Client, Server

ADMIN, SIGNING = "admin token of the walk-through, 32+", "signing secret of the walk-through, 32+"
SECRETS = {"JAY_ADMIN_TOKEN": ADMIN, "JAY_SIGNING_SECRET": SIGNING}
AUTHORIZED = '-H "Authorization: Bearer $JAY_ADMIN_TOKEN"'
SEED = {"JAY_SEED_TOKEN_ACCOUNT": "team", "JAY_SEED_TOKEN_ID": "SEEDKEY", "JAY_SEED_TOKEN_SECRET": "the first secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Step 1: the two secrets and `jay`, nothing else."""
    started = Server(tmp_path_factory.mktemp("walk") / "data", **SECRETS).start()
    yield started
    assert started.stop() == 0


@pytest.fixture
def shell(server, tmp_path) -> Shell:
    return Shell(server, tmp_path / "work", **SECRETS)


@pytest.fixture
def token(shell) -> dict:
    """An access key that may do everything, of a new account."""
    account = shell.json("jay-admin create-account -name myapp")["account_id"]
    return shell.json(f"jay-admin create-token -account {account} -name deploy")


def messages(server: Server) -> list[str]:
    return [json.loads(line)["msg"] for line in server.log.read_text().splitlines() if line.startswith("{")]


def test_step_1_two_secrets_and_the_server_starts(server, shell):
    assert {"jay: starting", "server listening"} <= set(messages(server))
    assert not (server.data_dir / "credentials").exists()
    # What `docker compose up -d` starts is the same: one node, the two variables handed on, both ports, a volume.
    compose = yaml.safe_load((Path(__file__).resolve().parents[2] / "compose.yaml").read_text())
    [node] = compose["services"].values()
    assert set(node["environment"]) == set(SECRETS)
    # Those of the walk-through, and the native one.
    assert [port.rpartition(":")[2] for port in node["ports"]] == ["9000", "9001", "4444"]
    assert [volume.split(":") for volume in node["volumes"]] == [[name, "/data"] for name in compose["volumes"]]


def test_step_2_an_account(shell):
    account = shell.json(f"""curl -fsS -X POST localhost:9001/_jay/accounts {AUTHORIZED} -d '{{"name": "myapp"}}'""")
    assert account["name"] == "myapp" and account["account_id"]


def test_step_3_access_keys_for_everything_and_for_reading(shell):
    account = shell.json("jay-admin create-account -name myapp")["account_id"]

    def create(**fields) -> dict:
        asked = json.dumps({"account_id": account} | fields)
        return shell.json(f"curl -fsS -X POST localhost:9001/_jay/tokens {AUTHORIZED} -d '{asked}'")

    deploy = create(name="deploy")
    assert deploy["token_id"] and deploy["secret"] and deploy["allowed_actions"] == ["*"]
    limits = {
        "allowed_actions": ["object:get", "object:list"], "bucket_scope": ["public-assets"], "prefix_scope": ["images/"],
    }  # fmt: skip
    reader = create(name="reader", **limits)
    assert {name: reader[name] for name in limits} == limits
    all_rights, reads = (Client(shell.server.port, key["token_id"], key["secret"]) for key in [deploy, reader])
    assert all_rights.request("PUT", "/public-assets").status == 200
    assert all_rights.request("PUT", "/public-assets/images/a", body=b"a").status == 200
    assert reads.request("GET", "/public-assets/images/a").body == b"a"
    assert reads.request("PUT", "/public-assets/images/a", body=b"b").code == "AccessDenied"


def test_step_4_the_commands_of_jay_admin(shell):
    account = shell.json("jay-admin create-account -name myapp")
    assert account["name"] == "myapp"
    token = shell.json(f"jay-admin create-token -account {account['account_id']} -name deploy")
    assert token["token_id"] in [listed["token_id"] for listed in shell.json("jay-admin list-tokens")]
    assert shell.json("jay-admin metrics")["uptime_seconds"] >= 0
    client = Client(shell.server.port, token["token_id"], token["secret"])
    for path in ["/mybucket", "/mybucket/file.txt"]:
        assert client.request("PUT", path).status == 200
    url = shell.json(f"jay-admin presign -bucket mybucket -key file.txt -token-id {token['token_id']}")["url"]
    assert shell.run(f"curl -fsS '{url}'") == ""
    assert shell.json("jay-admin quarantine-list") == []
    assert shell.run("jay-admin quarantine-purge") == "All quarantined objects purged.\n"
    assert shell.run(f"jay-admin revoke-token -id {token['token_id']}") == "Token revoked.\n"
    assert client.request("GET", "/mybucket/file.txt").status == 403


def test_step_5_the_aws_cli_and_a_bearer(shell, token):
    shell.variables |= {
        "AWS_ACCESS_KEY_ID": token["token_id"], "AWS_SECRET_ACCESS_KEY": token["secret"], "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    aws = "aws --endpoint-url http://localhost:9000 s3"
    (shell.directory / "local-dir/sub").mkdir(parents=True)
    for name in ["one", "sub/two"]:
        (shell.directory / "local-dir" / name).write_text(name)
    shell.run(f"{aws} mb s3://mybucket-5")
    shell.run(f"{aws} cp local-dir/one s3://mybucket-5/file.txt")
    assert "file.txt" in shell.run(f"{aws} ls s3://mybucket-5") and "mybucket-5" in shell.run(f"{aws} ls")
    shell.run(f"{aws} cp s3://mybucket-5/file.txt back")
    assert (shell.directory / "back").read_text() == "one"
    shell.run(f"{aws} sync ./local-dir s3://mybucket-5/prefix/")
    shell.run(f"{aws} sync s3://mybucket-5/prefix/ ./again")
    assert (shell.directory / "again/sub/two").read_text() == "sub/two"
    bearer = '-H "Authorization: Bearer $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"'
    assert shell.run(f"curl -fsS {bearer} http://localhost:9000/mybucket-5/file.txt") == "one"


def test_step_6_a_link_that_curl_opens_without_any_header(shell, token):
    client = Client(shell.server.port, token["token_id"], token["secret"])
    client.request("PUT", "/mybucket-6")
    client.request("PUT", "/mybucket-6/file.txt", body=b"linked")
    asked = {"token_id": token["token_id"], "method": "GET", "bucket": "mybucket-6", "key": "file.txt", "expires_seconds": 3600}
    answer = shell.json(f"curl -fsS -X POST localhost:9001/_jay/presign {AUTHORIZED} -d '{json.dumps(asked)}'")
    assert {name for name, _ in parse_qsl(urlsplit(answer["url"]).query)} == {"X-Jay-Token", "X-Jay-Expires", "X-Jay-Signature"}
    assert shell.run(f"curl -fsS '{answer['url']}'") == "linked"


POLICY = """\
{"version": "2024-01-01", "statements": [
  {"effect": "allow", "actions": ["object:get", "object:list"], "prefixes": ["public/"], "subjects": ["*"],
   "conditions": {"ip_whitelist": ["10.0.0.0/8"]}},
  {"effect": "deny", "actions": ["*"], "prefixes": ["secret/"], "subjects": ["*"]}]}
"""


def test_step_7_a_policy_with_an_allow_and_a_deny(shell, tmp_path, new_server):
    """Behind a proxy that is trusted, so that there are callers from 10.0.0.0/8."""
    shell = Shell(new_server(**SECRETS, JAY_TRUST_PROXY_HEADERS="127.0.0.0/8").start(), tmp_path / "work", **SECRETS)
    account = shell.json("jay-admin create-account -name myapp")["account_id"]
    token = shell.json(f"jay-admin create-token -account {account} -name deploy")
    client = Client(shell.server.port, token["token_id"], token["secret"])
    client.request("PUT", "/mybucket")
    for key in ["public/a", "secret/a", "other"]:
        assert client.request("PUT", f"/mybucket/{key}", body=b"body").status == 200
    (shell.directory / "policy.json").write_text(POLICY)
    assert shell.run("jay-admin policy set mybucket policy.json") == "Policy set.\n"
    assert shell.json("jay-admin policy get mybucket")["version"] == "2024-01-01"

    def status(path: str, address: str) -> str:
        url = f"http://localhost:9000/mybucket{path}"
        return shell.run(f"curl -sS -o /dev/null -w '%{{http_code}}' -H 'X-Forwarded-For: {address}' '{url}'")

    assert [status("/public/a", address) for address in ["10.1.2.3", "192.0.2.1"]] == ["200", "403"]
    assert [status("?prefix=public/", address) for address in ["10.1.2.3", "192.0.2.1"]] == ["200", "403"]
    assert [status(path, "10.1.2.3") for path in ["/other", "/secret/a", "?prefix=other", ""]] == ["403"] * 4
    # The owner too is denied, and nothing else changes for him.
    assert [client.request("GET", f"/mybucket/{key}").status for key in ["public/a", "secret/a", "other"]] == [200, 403, 200]
    assert client.request("DELETE", "/mybucket/secret/a").status == 403


def test_step_8_a_seed_token_comes_stays_and_is_rotated(new_server, tmp_path):
    server = new_server(**SECRETS, **SEED).start()
    shell = Shell(server, tmp_path / "work", **SECRETS)
    seeded = [line for line in messages(server) if line.startswith("seed: ")]
    assert seeded == ["seed: account created", "seed: token created"]
    assert Client(server.port, "SEEDKEY", "the first secret").request("PUT", "/mybucket").status == 200
    assert server.stop() == 0
    server.start()
    seeded = [line for line in messages(server) if line.startswith("seed: ")]
    assert seeded == ["seed: account exists, reusing", "seed: token already present, reusing"]
    assert Client(server.port, "SEEDKEY", "the first secret").request("HEAD", "/mybucket").status == 200

    shell.run(f"curl -fsS -X DELETE localhost:9001/_jay/tokens/SEEDKEY {AUTHORIZED}")
    assert Client(server.port, "SEEDKEY", "the first secret").request("GET", "/mybucket").status == 403
    assert server.stop() == 0
    server.variables["JAY_SEED_TOKEN_SECRET"] = "the second secret"
    server.start()
    # Of the same account as before.
    assert Client(server.port, "SEEDKEY", "the second secret").request("HEAD", "/mybucket").status == 200
    assert Client(server.port, "SEEDKEY", "the first secret").request("GET", "/mybucket").status == 403


NAMES = (
    "uptime_seconds put_object_total get_object_total delete_object_total head_object_total list_objects_total "
    "create_bucket_total delete_bucket_total auth_failures checksum_failures fsync_failures objects_quarantined "
    "bytes_uploaded bytes_downloaded"
)


def test_step_9_health_and_metrics(shell):
    assert shell.json("curl -fsS localhost:9001/health/live") == {"status": "alive"}
    assert shell.json("curl -fsS localhost:9001/health/ready") == {"status": "ready"}
    metrics = shell.json(f"curl -fsS localhost:9001/_jay/metrics {AUTHORIZED}")
    assert list(metrics) == NAMES.split() and all(type(number) is int for number in metrics.values())


CONFIG = """\
data_dir: /var/lib/jay
listen_addr: localhost:9000
admin_addr: localhost:9001
admin_token: ${JAY_ADMIN_TOKEN}
signing_secret: ${JAY_SIGNING_SECRET}
tls_cert: ${JAY_TLS_CERT:-}
tls_key: ${JAY_TLS_KEY:-}
"""


def test_step_11_a_configuration_file_and_jay_config(new_server, tmp_path):
    server = new_server()
    shell = Shell(server, tmp_path / "work", **SECRETS)
    config = shell.directory / "config.yml"
    config.write_text(shell.ours(CONFIG))
    # All that it needs to know is in the file, and in the two variables that the file names.
    server.variables, server.arguments = dict(SECRETS), ["--config-file", str(config)]
    server.start()
    assert shell.json("jay-admin -addr localhost:9001 list-accounts") == [] and (server.data_dir / "FORMAT").exists()

    assert shell.run("jay-config validate --input config.yml") == "OK: config.yml is valid\n"
    shell.run("jay-config yaml-to-env --input config.yml --output jay.env")
    lines = (shell.directory / "jay.env").read_text().splitlines()
    assert lines[0] == "# Generated by jay-config yaml-to-env from config.yml"
    assert {"JAY_ADMIN_TOKEN=${JAY_ADMIN_TOKEN}", "JAY_TLS_CERT=${JAY_TLS_CERT:-}"} <= set(lines)
    shell.run("jay-config env-to-yaml --input jay.env --output again.yml")
    again = (shell.directory / "again.yml").read_text()
    assert again.startswith("# Generated by jay-config env-to-yaml from jay.env\n")
    assert yaml.safe_load(again) == yaml.safe_load(config.read_text())
