"""Configuration: the YAML file, its conflicts with the environment, secrets from files, and jay-config."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from jay_testing import JAY, Client, Server, clean_environment

JAY_CONFIG = JAY.with_name("jay-config")
ADMIN, OTHER_ADMIN = "planted-admin-token-" + "a" * 20, "planted-other-admin-" + "b" * 20
SIGNING, OTHER_SIGNING = "planted-signing-key-" + "c" * 20, "planted-other-sign-" + "d" * 20
SEED, OTHER_SEED = "planted-seed-secret", "planted-other-seed"
SECRETS = [ADMIN, OTHER_ADMIN, SIGNING, OTHER_SIGNING, SEED, OTHER_SEED]


def jay_config(*arguments, **variables) -> subprocess.CompletedProcess:
    return subprocess.run(
        [JAY_CONFIG, *map(str, arguments)], env=clean_environment() | variables, capture_output=True, text=True, timeout=60
    )


def log_lines(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def by_file(new_server, tmp_path):
    """A server whose addresses, directory and secrets come from a YAML file; `more` is added to it."""

    def make(more: str = "", **variables: str) -> Server:
        server = new_server()
        yaml = "".join(
            f"{key}: {value}\n"
            for key, value in {
                "data_dir": server.data_dir,
                "listen_addr": f"127.0.0.1:{server.port}",
                "admin_addr": "127.0.0.1:${ADMIN_PORT}",
                "native_addr": "''",
                "admin_token": ADMIN,
                "signing_secret": "${SIGNING:-missing}",
                "tls_cert": "${JAY_TLS_CERT:-}",
            }.items()
        )
        server.config = written(tmp_path / "config.yml", f"{yaml}seed_token:\n  account: team\n  id: KEY\n  secret: {SEED}\n{more}")
        server.variables = {"ADMIN_PORT": str(server.admin_port), "SIGNING": SIGNING, "JAY_CONFIG_FILE": str(server.config)}
        server.variables |= variables
        return server

    return make


def test_a_file_configures_the_server(by_file):
    server = by_file("buckets: [photos, backups]\nregion: eu-west-1\n").start()
    client = Client(server.port, "KEY", SEED, region="eu-west-1")
    listed = client.request("GET", "/").body
    assert b"<Name>backups</Name>" in listed and b"<Name>photos</Name>" in listed
    assert client.request("PUT", "/photos/x", body=b"x").status == 200
    # Made once, and kept.
    assert server.stop() == 0
    server.start()
    client = Client(server.port, "KEY", SEED, region="eu-west-1")
    assert client.request("GET", "/photos/x").body == b"x"
    messages = [line["msg"] for line in log_lines(server)]
    assert messages.count("seed: bucket exists") == 2 and "seed: bucket created" not in messages
    assert not [line for line in log_lines(server) if line["level"] in ("WARN", "ERROR")]


@pytest.mark.parametrize("spelling", ["--config-file", "-config-file", "--config-file=", "-config-file="])
def test_the_option_wins_over_the_variable(by_file, tmp_path, spelling):
    server = by_file()
    variables = server.environment() | {"JAY_CONFIG_FILE": "/no/such/file"}
    option = [spelling, server.config] if spelling[-1] != "=" else [f"{spelling}{server.config}"]
    for command in [[*option, "print-config", "--json"], ["print-config", "--json", *option]]:
        done = subprocess.run([JAY, *command], env=variables, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout)["endpoint_url"] == server.endpoint, done.stderr
    done = subprocess.run([JAY, "print-config"], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "/no/such/file cannot be read" in done.stderr


@pytest.mark.weakness(24)
def test_conflicts_are_warned_of_without_secrets(by_file):
    server = by_file(
        "rate_limit: 50.0\nregion: us-east-1\n",
        JAY_REGION="eu-west-1",
        JAY_RATE_LIMIT="50",
        JAY_LOG_LEVEL="debug",
        JAY_ADMIN_TOKEN=OTHER_ADMIN,
        JAY_SIGNING_SECRET=OTHER_SIGNING,
        JAY_SEED_TOKEN_SECRET=OTHER_SEED,
    ).start()
    conflicts = [line for line in log_lines(server) if line["msg"] == "config: env var overrides YAML value"]
    mask = "********"
    assert {line["key"]: (line["level"], line["env_var"], line["yaml_value"], line["env_value"]) for line in conflicts} == {
        "region": ("WARN", "JAY_REGION", "us-east-1", "eu-west-1"),
        "admin_token": ("WARN", "JAY_ADMIN_TOKEN", mask, mask),
        "signing_secret": ("WARN", "JAY_SIGNING_SECRET", mask, mask),
        "seed_token.secret": ("WARN", "JAY_SEED_TOKEN_SECRET", mask, mask),
    }
    # The variables won.
    assert Client(server.port, "KEY", OTHER_SEED, region="eu-west-1").request("GET", "/").status == 200
    assert server.stop() == 0
    said = server.log.read_text() + server.errors.read_text()
    assert not [secret for secret in SECRETS if secret in said]


def test_odd_variables_are_said_and_do_no_harm(new_server):
    server = new_server(JAY_LISTEN_ADRR="planted", JAY_SCRUB_INTERVAL_HOURS="often").start()
    lines = {line["msg"]: line for line in log_lines(server)}
    unknown = lines["config: unknown environment variable"]
    assert (unknown["level"], unknown["env_var"], unknown["nearest"]) == ("WARN", "JAY_LISTEN_ADRR", "JAY_LISTEN_ADDR")
    bad = lines["invalid JAY_SCRUB_INTERVAL_HOURS, keeping previous value"]
    assert (bad["level"], bad["value"], bad["err"]) == ("ERROR", "often", "must be a whole number")
    assert "planted" not in server.log.read_text()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("listen_adr: ':1'\n", ':12:1: unknown key "listen_adr": did you mean "listen_addr"?'),
        ("scrub:\n  sample_rat: 1\n", ':13:3: unknown key "scrub.sample_rat": did you mean "scrub.sample_rate"?'),
        ("region:\n", ":12:7: region is null"),
        ("region: [planted-list]\n", ":12:9: region is a list"),
        ("rate_limit: planted-x\n", ":12:13: rate_limit must be a number"),
        ("tls_key: key.pem\n", "JAY_TLS_CERT is not set while "),
        ("region: 'planted-open\n", ":13:1: "),
        ("data_dir: /tmp\n", ':12:1: "data_dir" is here a second time, after line 1'),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_its_place(by_file, more, expected):
    server = by_file(more)
    said = server.refused()
    assert expected in said
    assert "planted" not in said
    assert not server.data_dir.exists()


def test_a_url_is_no_address_to_listen_on(new_server):
    assert 'JAY_ADMIN_ADDR is "http://localhost:9001": it is a URL; give HOST:PORT' in new_server(
        JAY_ADMIN_ADDR="http://localhost:9001"
    ).refused()


def test_secrets_from_files(new_server, tmp_path):
    files = {
        f"JAY_{name}_FILE": str(written(tmp_path / name, f"{secret}\n"))
        for name, secret in [("ADMIN_TOKEN", ADMIN), ("SIGNING_SECRET", SIGNING), ("SEED_TOKEN_SECRET", SEED)]
    }
    seed = {"JAY_SEED_TOKEN_ACCOUNT": "team", "JAY_SEED_TOKEN_ID": "KEY"}
    server = new_server(**files, **seed).start()
    assert Client(server.port, "KEY", SEED).request("GET", "/").status == 200
    assert server.credentials()["admin_token"] == ADMIN
    server.stop()
    both = new_server("both", **files, **seed, JAY_ADMIN_TOKEN=ADMIN).refused()
    assert "JAY_ADMIN_TOKEN and JAY_ADMIN_TOKEN_FILE are both set" in both and ADMIN not in both
    gone = new_server("gone", **(files | {"JAY_SIGNING_SECRET_FILE": "/no/such/file"}), **seed).refused()
    assert "JAY_SIGNING_SECRET_FILE" in gone and "/no/such/file" in gone


def test_variables_of_another_store(new_server):
    variables = {"MINIO_ROOT_USER": "minioadmin", "MINIO_ROOT_PASSWORD": SEED, "MINIO_DEFAULT_BUCKETS": "one-a,two-b:public"}
    secrets = {"JAY_ADMIN_TOKEN": ADMIN, "JAY_SIGNING_SECRET": SIGNING}
    server = new_server(JAY_COMPAT_ENV="1", **variables, **secrets).start()
    listed = Client(server.port, "minioadmin", SEED).request("GET", "/").body
    assert b"<Name>one-a</Name>" in listed and b"<Name>two-b</Name>" in listed
    ignored = [line for line in log_lines(server) if "policy" in line["msg"]]
    assert [line["bucket"] for line in ignored] == ["two-b"]
    server.stop()
    # Only when asked for.
    server = new_server("plain", **variables).start()
    assert Client(server.port, "minioadmin", SEED).request("GET", "/").status == 403


def test_buckets_of_an_account_that_jay_made(new_server):
    server = new_server(JAY_BUCKETS="photos").start()
    assert b"<Name>photos</Name>" in server.client().request("GET", "/").body


WALK_THROUGH = """\
# who may do what
admin_token: ${JAY_ADMIN_TOKEN}
signing_secret: ${JAY_SIGNING_SECRET}
listen_addr: :9000  # S3
tls_cert: ${JAY_TLS_CERT:-}
tls_key: ${JAY_TLS_KEY:-}
scrub:
  interval_hours: 12
trust_proxy_headers: t
data_dir: "/srv/it's \\"here\\"\\n"
"""


def test_the_three_commands(tmp_path):
    """Step 11 of the walk-through."""
    config = written(tmp_path / "config.yml", WALK_THROUGH)
    done = jay_config("validate", "--input", config)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"OK: {config} is valid\n", "")

    done = jay_config("yaml-to-env", "--input", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"# Generated by jay-config yaml-to-env from {config}",
        'JAY_DATA_DIR="/srv/it\'s \\"here\\"\\n"',
        "# S3",
        "JAY_LISTEN_ADDR=:9000",
        "# who may do what",
        "JAY_ADMIN_TOKEN=${JAY_ADMIN_TOKEN}",
        "JAY_SIGNING_SECRET=${JAY_SIGNING_SECRET}",
        "JAY_TLS_CERT=${JAY_TLS_CERT:-}",
        "JAY_TLS_KEY=${JAY_TLS_KEY:-}",
        "JAY_TRUST_PROXY_HEADERS=true",
        "JAY_SCRUB_INTERVAL_HOURS=12",
    ]
    env, again = tmp_path / "jay.env", tmp_path / "again.yml"
    assert jay_config("yaml-to-env", "-i", config, "-o", env).returncode == 0
    assert env.read_text() == done.stdout and stat.S_IMODE(env.stat().st_mode) == 0o600

    done = jay_config("env-to-yaml", "-input", env, "-output", again)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert again.read_text().splitlines() == [
        f"# Generated by jay-config env-to-yaml from {env}",
        "# who may do what",
        "admin_token: ${JAY_ADMIN_TOKEN}",
        'data_dir: "/srv/it\'s \\"here\\"\\n"',
        "# S3",
        "listen_addr: :9000",
        "scrub:",
        "  interval_hours: 12",
        "signing_secret: ${JAY_SIGNING_SECRET}",
        "tls_cert: ${JAY_TLS_CERT:-}",
        "tls_key: ${JAY_TLS_KEY:-}",
        "trust_proxy_headers: true",
    ]
    assert jay_config("yaml-to-env", "-i", again).stdout.splitlines()[1:] == env.read_text().splitlines()[1:]


def test_validate_names_every_error(tmp_path):
    config = written(
        tmp_path / "bad.yml",
        f"admin_token: {ADMIN[:20]}\nscrub:\n  sample_rate: 2\nlog_level: verbose\nfoo: 1\nseed_token:\n  id: KEY\nregion: ~\n",
    )
    done = jay_config("validate", "--input", config)
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line.removeprefix(f"error: {config}:").split(": ")[:2] for line in done.stderr.splitlines()]
    assert [(at, what.split(" ")[0]) for at, what in lines] == [
        ("1:1", "signing_secret"), ("1:14", "admin_token"), ("3:16", "scrub.sample_rate"), ("4:12", "log_level"),
        ("5:1", "unknown"), ("7:3", "seed_token.account"), ("8:9", "region"),
    ]  # fmt: skip
    assert ADMIN[:20] not in done.stderr
    done = jay_config("validate", "--input", "/no/such/file")
    assert done.returncode == 1 and done.stderr.startswith("jay-config: the file /no/such/file cannot be read")


def test_conversions_warn_of_what_they_leave_out(tmp_path):
    config = written(tmp_path / "c.yml", "foo: 1\nregion: eu\n")
    done = jay_config("yaml-to-env", "-i", config)
    assert done.stderr == "jay-config: warning: skipping unknown YAML key: foo\n"
    assert done.stdout.splitlines()[1:] == ["JAY_REGION=eu"]
    env = written(tmp_path / "c.env", f"export JAY_REGION='eu'\nFOO={SEED}\n{SEED}\nJAY_RATE_LIMIT={SEED}\n")
    done = jay_config("env-to-yaml", "-i", env)
    assert done.returncode == 0 and done.stdout.splitlines()[1:] == [f"rate_limit: {SEED}", "region: eu"]
    assert [line.split(": ")[:3] for line in done.stderr.splitlines()] == [
        ["jay-config", "warning", f"line {n}"] for n in (2, 3, 4)
    ]
    assert SEED not in done.stderr
    broken = written(tmp_path / "broken.yml", f"admin_token: [{ADMIN}\n")
    done = jay_config("yaml-to-env", "-i", broken)
    assert done.returncode == 1 and done.stderr.startswith(f"jay-config: {broken}:") and ADMIN not in done.stderr


def test_usage():
    for arguments in [["-h"], ["--help"], ["help"]]:
        done = jay_config(*arguments)
        assert done.returncode == 0 and "Usage: jay-config" in done.stdout and not done.stderr
    for arguments in [[], ["explode"]]:
        done = jay_config(*arguments)
        assert done.returncode == 1 and "Usage: jay-config" in done.stderr and not done.stdout
    done = jay_config("validate")
    assert done.returncode == 1 and done.stderr.startswith("jay-config: ")


def test_show_tells_values_and_their_sources(tmp_path):
    config = written(tmp_path / "c.yml", f"admin_token: {ADMIN}\nregion: eu\nscrub: {{interval_hours: 12}}\nrate_limit: 5\n")
    secret = written(tmp_path / "secret", SIGNING)
    variables = {"JAY_SIGNING_SECRET_FILE": str(secret), "JAY_RATE_LIMIT": "7", "JAY_REGION": ""}
    done = jay_config("show", "--config-file", config, "--json", **variables)
    shown = {row["variable"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0
    assert done.stderr == "jay-config: warning: JAY_RATE_LIMIT overrides rate_limit of the YAML file\n"
    known = {name: (row["value"], row["source"], row.get("at")) for name, row in shown.items()}
    mask = "********"
    assert known["JAY_ADMIN_TOKEN"] == (mask, "yaml", f"{config}:1:14")
    assert known["JAY_SIGNING_SECRET"] == (mask, "secret-file", f"JAY_SIGNING_SECRET_FILE ({secret})")
    assert known["JAY_REGION"] == ("eu", "yaml", f"{config}:2:9")
    assert known["JAY_RATE_LIMIT"] == ("7", "environment", "JAY_RATE_LIMIT")
    assert known["JAY_SEED_TOKEN_SECRET"] == (None, "default", None)
    assert known["JAY_DATA_DIR"] == ("./data", "default", None)
    assert shown["JAY_SCRUB_INTERVAL_HOURS"]["key"] == "scrub.interval_hours"
    table = jay_config("show", **variables, JAY_CONFIG_FILE=str(config))
    rows = {line.split()[0]: line.split()[1:] for line in table.stdout.splitlines()}
    assert rows["JAY_REGION"] == ["eu", f"{config}:2:9"]
    assert not [s for s in SECRETS if s in done.stdout + done.stderr + table.stdout + table.stderr]
    # Shown even if no server could start.
    done = jay_config("show", JAY_TLS_CERT="c")
    assert done.returncode == 1 and "JAY_TLS_KEY is not set" in done.stderr and "JAY_TLS_CERT" in done.stdout


def test_what_show_says_of_a_file_is_what_the_server_does(by_file):
    server = by_file().start()
    shown = json.loads(jay_config("show", "--json", **server.variables).stdout)
    values = {row["variable"]: row["value"] for row in shown}
    assert values["JAY_LISTEN_ADDR"] == f"127.0.0.1:{server.port}" and values["JAY_NATIVE_ADDR"] == ""
    assert values["JAY_DATA_DIR"] == str(server.data_dir) and server.data_dir.exists()
