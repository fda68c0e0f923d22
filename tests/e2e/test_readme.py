"""Every block of the README works as it stands there: each is run, or read, by a test with the real programs.

Later blocks use what earlier ones set. A block without a language shows what a command prints.
"""

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml
from shell import Shell
from test_quarantine import blob_of, flip

from jay_testing import JAY, Client, Server

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
TESTED = []
SECRETS = {"JAY_ADMIN_TOKEN": "an admin token of the README, 32+ bytes", "JAY_SIGNING_SECRET": "a signing secret of the README, 32+"}
SEED = {"JAY_SEED_TOKEN_ACCOUNT": "team", "JAY_SEED_TOKEN_ID": "SEEDKEY", "JAY_SEED_TOKEN_SECRET": "the secret of the seed"}


def shows(*beginnings: str):
    """Gives a test, as `shown`, the blocks that begin so."""
    found = [[block for block in BLOCKS if block.startswith(beginning)] for beginning in beginnings]
    assert [len(blocks) for blocks in found] == [1] * len(beginnings), f"not one block each: {beginnings}"
    shown = [block for [block] in found]
    TESTED.extend(shown)
    return pytest.mark.parametrize("shown", [shown], ids=["blocks"])


def test_every_block_is_tested():
    assert len(BLOCKS) * 2 == README.count("```")
    assert [block for block in BLOCKS if block not in TESTED] == []


@shows("make run", "export AWS_ACCESS_KEY_ID=JAY...", "aws s3 ls", "import boto3", "curl --fail-with-body --aws-sigv4")
def test_sixty_seconds_to_the_first_object(shown, new_server, tmp_path):
    make, printed, aws, python, curl = shown
    # The release build takes minutes, and is the same but for its profile.
    command = [*make.split(), "-n", "--no-print-directory"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    build, serve = recipe.splitlines()
    assert build == "cargo build --release -p jay-server"
    shell = Shell(new_server(), tmp_path / "work")
    shell.replaced["./target/release/jay"] = str(JAY)
    server = shell.start(serve)
    lines = server.log.read_text()
    for line in shell.ours(printed).splitlines():
        assert re.search(f"^{re.escape(line).replace(re.escape('...'), '.*')}$", lines, re.MULTILINE), line

    (shell.directory / "photos").mkdir()
    (shell.directory / "photos/one.jpg").write_text("one")
    shutil.copy(ROOT / "README.md", shell.directory)
    [paste] = re.findall(r'`(eval "\$\(.* print-config\)")`', README)
    listed = shell.run("\n".join([paste, aws, f"python - <<'END'\n{python}END", "aws s3 ls --recursive s3://default"]))
    assert re.findall(r" (\d+) (\S+)\n", listed.split("default\n")[-1]) == [
        (str(len(README.encode())), "README.md"), ("5", "hello"), ("3", "photos/one.jpg"),
    ]  # fmt: skip
    shell.run(f"{paste}\n{aws.splitlines()[0]}\naws s3 rm s3://default/README.md\n{curl}\naws s3 cp s3://default/README.md back")
    assert (shell.directory / "back").read_text() == README

    clients = dict(re.findall(r"^\| (\w+) \| `(.*)` \|$", README.split("| client | settings")[1].split("\n\n")[0], re.MULTILINE))
    assert list(clients) == ["rclone", "restic", "s3fs", "PyArrow"]
    assert "photos/one.jpg" in shell.run(f"{paste}\nexport RCLONE_CONFIG=/dev/null\n{clients['rclone']}")
    assert "created restic repository" in shell.run(f"{paste}\nexport RESTIC_PASSWORD=x\n{clients['restic']}")
    shell.run(f"{paste}\npython - <<'END'\nimport os, s3fs\nassert 'default/hello' in {clients['s3fs']}.ls('default')\nEND")
    shell.run(f"{paste}\npython - <<'END'\nimport pyarrow.fs\nassert {clients['PyArrow']}.get_file_info('default/hello').size == 5\nEND")


@shows("export JAY_ADMIN_TOKEN=$(openssl", "data_dir: /var/lib/jay", "jay-config show")
def test_a_configuration_file(shown, new_server, tmp_path):
    serve, config, look = shown
    server = new_server()
    shell = Shell(server, tmp_path / "work")
    (shell.directory / "config.yml").write_text(shell.ours(config))
    del server.variables["JAY_DATA_DIR"]
    shell.start(serve.replace("\njay ", "\nexec jay "))
    assert (server.data_dir / "FORMAT").exists() and not (server.data_dir / "credentials").exists()
    shell.variables |= SECRETS
    said = shell.run(look)
    assert re.search(r"^JAY_SCRUB_INTERVAL_HOURS +6 +default$", said, re.MULTILINE) and said.endswith("OK: config.yml is valid\n")
    shown_of_file = shell.json("jay-config show --config-file config.yml --json")
    assert {row["key"] for row in shown_of_file if row["source"] == "yaml"} >= {"data_dir", "scrub.interval_hours"}
    assert "JAY_ADMIN_TOKEN=${JAY_ADMIN_TOKEN}" in (shell.directory / "jay.env").read_text()


@shows("jay rekey", "export JAY_OLD_SIGNING_SECRET=$JAY_SIGNING_SECRET")
def test_a_new_signing_secret(shown, new_server, tmp_path):
    made, configured = shown
    server = new_server("made").start()
    client = server.client()
    assert server.stop() == 0
    assert "Rekeyed 1 token(s)" in Shell(server, tmp_path / "work").run(made)
    server.start()
    assert client.request("GET", "/default").status == 200

    server = new_server("configured", **SECRETS, **SEED).start()
    assert server.stop() == 0
    said = Shell(server, tmp_path / "work", **SECRETS).run(f"{configured}echo $JAY_SIGNING_SECRET")
    assert "Rekeyed 1 token(s)" in said
    assert "sealed under" in server.refused()
    server.variables["JAY_SIGNING_SECRET"] = said.split()[-1]
    server.start()
    assert Client(server.port, SEED["JAY_SEED_TOKEN_ID"], SEED["JAY_SEED_TOKEN_SECRET"]).request("GET", "/").status == 200


@shows("sudo install")
def test_installing_under_systemd(shown, new_server, tmp_path):
    """Nobody is root here and no systemd runs: `sudo` is left out, the files go below a directory of ours, and in the place of
    `systemctl` the server is started as the unit says. Whether systemd takes the unit, test_delivery.py asks."""
    server = new_server()
    shell = Shell(server, tmp_path / "work")
    for directory in ["target/release", "usr/local/bin", "etc/systemd/system"]:
        (shell.directory / directory).mkdir(parents=True)
    for name in ["jay", "jay-admin", "jay-config"]:
        (shell.directory / "target/release" / name).symlink_to(JAY.with_name(name))
    (shell.directory / "deploy").symlink_to(ROOT / "deploy")
    install, start = shown[0].replace("sudo ", "").split("systemctl enable --now jay\n")
    shell.replaced |= {place: f"{shell.directory}{place}" for place in ["/usr/local/bin/", "/etc/systemd/system/"]}
    shell.run(install)
    unit = dict(re.findall(r"^(\w+)=(.*)$", (shell.directory / "etc/systemd/system/jay.service").read_text(), re.MULTILINE))
    assert unit["Environment"] == "JAY_DATA_DIR=%S/jay" and unit["StateDirectory"] == "jay"
    shell.replaced["%S/jay"] = str(server.data_dir)
    shell.start(f"export {unit['Environment']}; exec {unit['ExecStart']}")
    assert f"export AWS_ENDPOINT_URL={server.endpoint}\n" in shell.run(start)


@shows("docker compose up -d")
def test_one_node_in_a_container(shown, new_server, tmp_path):
    """No engine for containers runs here: the files are read, and what they start is started with their environment. That the
    image is built from them is not seen by this test."""
    up, execute = shown[0].splitlines()
    assert up == "docker compose up -d"
    service, *command = execute.removeprefix("docker compose exec ").split()
    node = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][service]
    assert node["ports"] == ["127.0.0.1:9000:9000", "127.0.0.1:9001:9001", "127.0.0.1:4444:4444"] and node["volumes"] == ["jay:/data"]
    image = dict(re.findall(r"^([A-Z]+) (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    variables = dict(variable.split("=") for variable in image["ENV"].split())
    assert json.loads(image["ENTRYPOINT"]) == [f"/usr/local/bin/{command[0]}"] and variables["JAY_DATA_DIR"] == "/data"
    server = new_server(**variables | {"JAY_DATA_DIR": str(tmp_path / "data")}).start()
    shell = Shell(server, tmp_path / "work")
    assert f"export AWS_ENDPOINT_URL={server.endpoint}\n" in shell.run(" ".join(command))
    [health] = re.findall(r'^HEALTHCHECK .* CMD \["/usr/local/bin/(.*)"\]$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert shell.run(health.replace('", "', " ")) == '{"status":"ready"}\n'


@shows("scrape_configs:")
def test_prometheus_scrapes(shown, new_server, tmp_path):
    """As Prometheus reads its configuration: where it asks, and as whom."""
    server = new_server().start()
    shell = Shell(server, tmp_path / "work")
    token_file = shell.directory / "token"
    token_file.write_text(server.credentials()["admin_token"])
    shell.replaced["/etc/prometheus/jay-admin-token"] = str(token_file)
    [job] = yaml.safe_load(shell.ours(shown[0]))["scrape_configs"]
    assert sorted(job) == ["authorization", "job_name", "static_configs"]
    assert list(job["authorization"]) == ["credentials_file"] and [list(of) for of in job["static_configs"]] == [["targets"]]
    credentials = Path(job["authorization"]["credentials_file"]).read_text()
    [[target]] = [of["targets"] for of in job["static_configs"]]
    request = urllib.request.Request(f"http://{target}/metrics", headers={"Authorization": f"Bearer {credentials}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert b"\njay_uptime_seconds " in answer.read()


@shows('{"Version": "2012-10-17"')
def test_links_public_buckets_and_policies_of_the_aws_cli(shown, new_server, tmp_path):
    server = new_server().start()
    shell = Shell(server, tmp_path / "work")
    (shell.directory / "policy.json").write_text(shown[0])
    presign, public, policy = re.findall(r"`(aws s3[^`]*)`", README)
    known = 'eval "$(jay print-config)"\n'
    shell.run(f"{known}aws s3 mb s3://photos; for key in public/a kept/a other; do echo $key | aws s3 cp - s3://photos/$key; done")
    shell.run(f"{known}echo linked | aws s3 cp - s3://default/README.md")
    link = shell.run(f"{known}{presign}").strip()
    assert shell.run(f"curl -fsS '{link}'") == "linked\n"

    def status(key: str) -> str:
        return shell.run(f"curl -sS -o /dev/null -w '%{{http_code}}' {server.endpoint}/photos/{key}")

    assert status("other") == "403"
    shell.run(known + public)
    assert status("other") == "200"
    shell.run(known + public.replace("public-read", "private"))
    shell.run(known + policy)
    assert [status(key) for key in ["public/a", "other"]] == ["200", "403"]
    assert shell.json(f"{known}aws s3api get-bucket-policy --bucket photos")["Policy"] == shown[0]
    client = server.client()
    assert [client.request("DELETE", f"/photos/{key}").status for key in ["kept/a", "other"]] == [403, 204]


@shows(
    "mkdir -p ~/.local/share/bash-completion", "export JAY_ADMIN_TOKEN=$(jay print-config", "curl -sS --fail-with-body -H",
    "export AWS_ACCESS_KEY_ID=$(jq", "LINK=", "cat > policy.json", "jay-admin set-public",
)  # fmt: skip
def test_accounts_access_keys_and_policies(shown, new_server, tmp_path):
    shell = Shell(new_server().start(), tmp_path / "work")
    said = shell.run("\n".join(shown))
    assert ".TH jay-admin-create-token " in (shell.directory / ".local/share/man/man1/jay-admin-create-token.1").read_text()
    complete = "COMP_WORDS=(jay-admin create-) COMP_CWORD=1; _jay__admin jay-admin create- jay-admin; echo ${COMPREPLY[@]}"
    completed = shell.run(f". ~/.local/share/bash-completion/completions/jay-admin; {complete}")
    assert completed == "create-account create-token\n"
    # By the bearer, and by the link.
    assert said.count("hello\n") == 2 and "Token revoked." in said
    assert '"reason": "allowed_by_statement"' in said and '"sid": "office"' in said
    tokens = {name: json.loads((shell.directory / f"{name}.json").read_text()) for name in ["deploy", "reader", "ci"]}
    assert tokens["ci"]["allowed_actions"] == ["*"] and tokens["reader"]["prefix_scope"] == ["images/"]
    assert (shell.directory / "deploy.json").stat().st_mode & 0o077 == 0
    known, deploy = shown[1].splitlines()[0], tokens["deploy"]["account_id"]
    left = shell.json(f"{known}\njay-admin list-tokens -account {deploy}")
    assert sorted(token["status"] for token in left) == ["active", "active", "revoked"]
    bucket = shell.json(f"{known}\njay-admin buckets show public-assets")
    assert bucket["public_read"] and bucket["quota_bytes"] == 1_000_000_000 and bucket["has_policy"]


@shows('eval "$(jay print-config)"  ')
def test_the_command_line(shown, new_server, tmp_path):
    shell = Shell(new_server().start(), tmp_path / "work")
    (shell.directory / "docs/deep").mkdir(parents=True)
    for name, content in {"one.jpg": "one", "docs/a.md": "# a", "docs/deep/b.txt": "b"}.items():
        (shell.directory / name).write_text(content)
    said = shell.run(shown[0]).splitlines()
    assert "upload: one.jpg to jay:///photos/2026/one.jpg" in said and "upload: docs/a.md to jay:///photos/docs/a.md" in said
    assert "download: s3://photos/docs/a.md to backup/a.md" in said
    assert said[-3:] == [
        "delete: 2 objects below jay:///photos/docs/", "delete: 2 objects below jay:///photos/", "remove_bucket: jay:///photos/",
    ]  # fmt: skip
    assert "512" in said and "3" in said and (shell.directory / "again.jpg").read_text() == "one"
    assert [path.name for path in (shell.directory / "backup").rglob("*")] == ["a.md"]


@shows("jay-admin quarantine-list")
def test_an_object_in_quarantine(shown, new_server, tmp_path):
    server = new_server().start()
    shell = Shell(server, tmp_path / "work", JAY_ADMIN_TOKEN=server.credentials()["admin_token"])
    client = server.client()
    assert client.request("PUT", "/default/photo", body=b"p" * 300_000).status == 200
    flip(blob_of(server, b"p"), 100_000)
    assert client.request("GET", "/default/photo").status == 500
    said = shell.run(shown[0])
    assert '"key": "photo"' in said and '"restored": false' in said and "Quarantined object purged." in said
    assert client.request("GET", "/default/photo").status == 404


@shows("jay backup create")
def test_a_backup_and_the_way_back(shown, new_server, tmp_path):
    server = new_server().start()
    assert server.client().request("PUT", "/default/k", body=b"kept").status == 200
    shell = Shell(server, tmp_path / "work")
    shell.replaced["/mnt/backup/jay"] = str(tmp_path / "backups")
    assert "all that this backup needs is there" in shell.run(shown[0])
    assert server.stop() == 0
    shutil.rmtree(server.data_dir)
    [restore] = re.findall(r"`(jay backup restore --from [^`]*)`", README)
    shell.run(restore)
    server.start()
    assert server.client().request("GET", "/default/k").body == b"kept"
