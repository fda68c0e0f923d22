"""The admin API and jay-admin, against a running server: accounts, access keys, links, policies, and what must not happen."""

import datetime
import http.client
import json
import os
import pty
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import pytest

from jay_testing import JAY, Client, Server, clean_environment, files_below, read_answer

JAY_ADMIN = JAY.with_name("jay-admin")
TOKEN = "an-admin-token-of-these-tests-32+bytes"
SECRET = "a signing secret of these tests, 32+ bytes"


def call(server: Server, method: str, path: str, body=None, token: str | None = TOKEN):
    """Status, headers and body of a request to the admin port."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}{path}", method=method, data=data)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(server: Server, method: str, path: str, body=None, token: str | None = TOKEN):
    """Status and JSON of a request to the admin API."""
    status, headers, text = call(server, method, f"/_jay/{path}", body, token)
    if text:
        assert headers["Content-Type"] == "application/json" and text.endswith(b"\n"), text
    return status, json.loads(text or b"null")


def made(server: Server, path: str, body) -> dict:
    status, answer = ask(server, "POST", path, body)
    assert status == 201, answer
    return answer


def fetch(url: str, method: str = "GET", body: bytes | None = None, **headers: str):
    """Status and body of a request without the help of an SDK."""
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def boto(server: Server, token: dict):
    return boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1",
        aws_access_key_id=token["token_id"], aws_secret_access_key=token["secret"],
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def refused(call, **arguments) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**arguments)
    return error.value.response["Error"]["Code"]


def admin(server: Server, *arguments: str, code: int = 0, stdin: str | None = None, **variables: str) -> str:
    """What jay-admin prints: on standard output, or on standard error when it fails."""
    environment = clean_environment() | {
        "JAY_ADMIN_ADDR": f"127.0.0.1:{server.admin_port}", "JAY_ADMIN_TOKEN": TOKEN,
    } | variables  # fmt: skip
    done = subprocess.run([JAY_ADMIN, *arguments], env=environment, capture_output=True, text=True, input=stdin, timeout=60)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One with a configured admin token, and a policy as the operator would have it."""
    shared = Server(tmp_path_factory.mktemp("admin") / "data", JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET).start()
    yield shared
    assert shared.stop() == 0


@pytest.fixture
def account(server) -> dict:
    return made(server, "accounts", {"name": "myapp"})


@pytest.fixture
def token(server, account) -> dict:
    return made(server, "tokens", {"account_id": account["account_id"], "name": "deploy"})


NUMBERS = iter(range(1_000_000))


@pytest.fixture
def bucket(server, token) -> str:
    name = f"bucket-{next(NUMBERS)}"
    boto(server, token).create_bucket(Bucket=name)
    return name


def test_step_2_an_account_is_made_listed_and_suspended(server):
    status, headers, text = call(server, "POST", "/_jay/accounts", {"name": "myapp"})
    account = json.loads(text)
    assert status == 201 and text.endswith(b"}\n") and headers["Content-Type"] == "application/json"
    assert list(account) == ["account_id", "name", "created_at", "status"]
    assert account["name"] == "myapp" and account["status"] == "active"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", account["created_at"])
    assert account in ask(server, "GET", "accounts")[1]

    token = made(server, "tokens", {"account_id": account["account_id"], "name": "t"})
    s3 = boto(server, token)
    s3.list_buckets()
    path = f"accounts/{account['account_id']}"
    assert ask(server, "PATCH", path, {"status": "suspended"}) == (200, account | {"status": "suspended"})
    assert refused(s3.list_buckets) == "InvalidAccessKeyId"
    assert ask(server, "PATCH", path, {"status": "active"})[1]["status"] == "active"
    s3.list_buckets()
    assert ask(server, "PATCH", path, {"status": "gone"})[0] == 400
    assert ask(server, "PATCH", "accounts/" + "0" * 32, {"status": "active"})[0] == 404


def test_step_3_tokens_are_made_for_everything_or_for_little(server, account):
    status, token = ask(server, "POST", "tokens", {"account_id": account["account_id"], "name": "deploy"})
    assert status == 201 and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", token["token_id"])
    assert re.fullmatch(r"[0-9a-f]{64}", token["secret"]) and token["allowed_actions"] == ["*"]
    s3 = boto(server, token)
    s3.create_bucket(Bucket="public-assets")
    s3.put_object(Bucket="public-assets", Key="images/a", Body=b"a")
    s3.put_object(Bucket="public-assets", Key="private", Body=b"p")

    limits = {
        "allowed_actions": ["object:get", "object:list"], "bucket_scope": ["public-assets"], "prefix_scope": ["images/"],
    }  # fmt: skip
    reader = made(server, "tokens", {"account_id": account["account_id"], "name": "reader"} | limits)
    assert {name: reader[name] for name in limits} == limits
    reads = boto(server, reader)
    assert reads.get_object(Bucket="public-assets", Key="images/a")["Body"].read() == b"a"
    assert refused(reads.get_object, Bucket="public-assets", Key="private") == "AccessDenied"
    assert refused(reads.put_object, Bucket="public-assets", Key="images/a", Body=b"x") == "AccessDenied"
    # Listings too are for the prefixes only.
    listed = reads.list_objects_v2(Bucket="public-assets", Prefix="images/")
    assert [entry["Key"] for entry in listed["Contents"]] == ["images/a"]
    for prefix in ["", "image", "private"]:
        assert refused(reads.list_objects_v2, Bucket="public-assets", Prefix=prefix) == "AccessDenied"

    shown = {name: value for name, value in reader.items() if name != "secret"}
    assert ask(server, "GET", f"tokens/{reader['token_id']}") == (200, shown)
    assert shown["secret_hash"] == "" and shown["status"] == "active"
    of_account = ask(server, "GET", f"tokens?account_id={account['account_id']}")[1]
    assert sorted(entry["token_id"] for entry in of_account) == sorted([token["token_id"], reader["token_id"]])
    everybody = [entry["token_id"] for entry in ask(server, "GET", "tokens")[1]]
    assert everybody == sorted(everybody) and set(everybody) >= {token["token_id"]}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"account_id": None}, "null"),
        ({"account_id": ""}, "account_id required"),
        ({"account_id": "0" * 32}, "account not found"),
        ({"allowed_actions": ["object:read"]}, "object:read"),
        ({"bucket_scope": ["No"]}, "bucket"),
        ({"prefix_scope": [""]}, "prefix"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "in the future"),
        ({"expires_at": "tomorrow"}, "RFC 3339"),
        ({"actions": ["*"]}, "unknown field `actions`"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_in_a_token_is_refused(server, account, wrong, why):
    status, answer = ask(server, "POST", "tokens", {"account_id": account["account_id"], "name": "t"} | wrong)
    assert status == 400 and why in answer["error"]
    assert ask(server, "GET", f"tokens?account_id={account['account_id']}") == (200, [])


@pytest.mark.weakness(22)
def test_tokens_expire_and_visibility_can_be_set(server, account, token, bucket):
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    short = made(server, "tokens", {"account_id": account["account_id"], "name": "short", "expires_at": soon})
    assert short["expires_at"].startswith(soon.removesuffix("Z"))
    s3 = boto(server, short)
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    link = ask(server, "POST", "presign", {"token_id": short["token_id"], "method": "GET", "bucket": bucket, "key": "k"})[1]["url"]
    assert fetch(link) == (200, b"body")
    time.sleep(4)
    assert refused(s3.get_object, Bucket=bucket, Key="k") == "InvalidAccessKeyId"
    assert fetch(link)[0] == 403
    bearer = {"Authorization": f"Bearer {short['token_id']}:{short['secret']}"}
    assert fetch(f"{server.endpoint}/{bucket}/k", **bearer)[0] == 403

    url = f"{server.endpoint}/{bucket}/k"
    assert fetch(url)[0] == 403
    status, shown = ask(server, "PUT", f"buckets/{bucket}/public", {"public_read": True})
    assert status == 200 and shown["public_read"] is True
    assert fetch(url) == (200, b"body") and fetch(f"{server.endpoint}/{bucket}")[0] == 403
    ask(server, "PUT", f"buckets/{bucket}/public", {"public_read": False})
    assert fetch(url)[0] == 403


@pytest.mark.weakness(23)
def test_revocation_takes_effect_at_once_on_open_connections(server, token, bucket):
    client = Client(server.port, token["token_id"], token["secret"])
    bearer = {"Authorization": f"Bearer {token['token_id']}:{token['secret']}"}
    assert client.request("PUT", f"/{bucket}/k", body=b"body").status == 200
    assert fetch(f"{server.endpoint}/{bucket}/k", **bearer)[0] == 200
    assert call(server, "DELETE", f"/_jay/tokens/{token['token_id']}")[::2] == (204, b"")
    # The same connection, and what was checked a moment ago.
    assert client.request("GET", f"/{bucket}/k").code == "InvalidAccessKeyId"
    assert fetch(f"{server.endpoint}/{bucket}/k", **bearer)[0] == 403
    assert ask(server, "GET", f"tokens/{token['token_id']}")[1]["status"] == "revoked"


@pytest.mark.weakness(18)
def test_what_is_unknown_or_too_much_is_no_error_of_the_server(server, token, bucket):
    assert ask(server, "DELETE", "tokens/nobody")[0] == 404
    assert ask(server, "GET", "tokens/nobody")[0] == 404
    assert ask(server, "DELETE", "tokens/%ff")[0] == 400
    # Twice is once.
    assert [ask(server, "DELETE", f"tokens/{token['token_id']}")[0] for _ in range(2)] == [204, 204]
    unknown = {"bucket_id": "1", "key": "nothing"}
    assert ask(server, "POST", "quarantine/revalidate", unknown)[0] == 404
    assert ask(server, "DELETE", "quarantine", unknown)[0] == 404
    long = {"token_id": token["token_id"], "method": "GET", "bucket": bucket, "key": "k", "expires_seconds": 604_801}
    assert ask(server, "POST", "presign", long) == (400, {"error": "expiration exceeds maximum of 604800 seconds"})
    assert ask(server, "POST", "presign", long | {"expires_seconds": 1, "key": "k" * 2000})[0] == 400
    for path in ["tokens", "accounts", "presign", "buckets", "explain"]:
        for body in [b"", b"{", b"[]", b"null", b"\xff", b"x" * 100_000, b'{"unknown":1}']:
            status, answer = ask(server, "POST", path, body)
            assert status == 400 and answer["error"], (path, body)
    assert ask(server, "GET", "nothing") == (404, {"error": "not found"})
    status, headers, _ = call(server, "DELETE", "/_jay/tokens")
    assert status == 405 and set(headers["Allow"].split(",")) >= {"GET", "POST"}


@pytest.mark.weakness(19)
def test_step_4_the_commands_of_the_original(server, account, token, bucket):
    made_one = json.loads(admin(server, "create-account", "-name", "myapp"))
    assert made_one["name"] == "myapp"
    made_token = json.loads(admin(server, "create-token", "-account", made_one["account_id"], "-name", "deploy"))
    assert made_token["allowed_actions"] == ["*"] and len(made_token["secret"]) == 64
    listing = admin(server, "list-tokens")
    # Indented by two spaces, fields in the order of the server.
    assert listing.startswith('[\n  {\n    "token_id": "') and made_token["token_id"] in listing
    assert "secret" not in json.loads(listing)[0]
    link = json.loads(admin(server, "presign", "-bucket", bucket, "-key", "file.txt", "-token-id", token["token_id"]))["url"]
    boto(server, token).put_object(Bucket=bucket, Key="file.txt", Body=b"file")
    assert fetch(link) == (200, b"file")
    assert admin(server, "revoke-token", "-id", made_token["token_id"]) == "Token revoked.\n"
    assert json.loads(admin(server, "quarantine-list")) == []
    assert admin(server, "quarantine-purge") == "All quarantined objects purged.\n"
    missing = admin(server, "quarantine-revalidate", "-bucket-id", "1", "-key", "x", code=1)
    assert missing.startswith("Error: server error (404): {") and missing.count("\n") == 1


def test_the_new_commands(server, account, tmp_path):
    made_token = json.loads(admin(
        server, "create-token", "--account", account["account_id"], "-actions", "object:get,object:list",
        "-buckets", "some-bucket", "-prefixes", "a/,b/", "-expires", "30d",
    ))  # fmt: skip
    assert made_token["prefix_scope"] == ["a/", "b/"] and made_token["bucket_scope"] == ["some-bucket"]
    left = time.mktime(time.strptime(made_token["expires_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - time.time()
    assert abs(left - 30 * 86400) < 3700
    assert json.loads(admin(server, "show-token", "-id", made_token["token_id"]))["name"] == ""
    suspended = json.loads(admin(server, "suspend-account", "-id", account["account_id"]))
    assert suspended["status"] == "suspended"
    assert json.loads(admin(server, "resume-account", "-id", account["account_id"]))["status"] == "active"
    assert account in json.loads(admin(server, "list-accounts"))

    admin(server, "buckets", "create", "cli-bucket", "-account", account["account_id"])
    shown = json.loads(admin(server, "buckets", "show", "cli-bucket"))
    assert shown["owner"] == account["account_id"] and shown["object_count"] == 0
    assert shown in json.loads(admin(server, "buckets", "list"))
    assert json.loads(admin(server, "set-public", "-bucket", "cli-bucket"))["public_read"] is True
    assert json.loads(admin(server, "set-quota", "-bucket", "cli-bucket", "-bytes", "5"))["quota_bytes"] == 5
    assert json.loads(admin(server, "set-quota", "-bucket", "cli-bucket", "-bytes", "none"))["quota_bytes"] is None
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(POLICY))
    assert admin(server, "policy", "set", "cli-bucket", str(policy)) == "Policy set.\n"
    assert json.loads(admin(server, "policy", "get", "cli-bucket"))["version"] == "2024-01-01"
    explained = json.loads(admin(server, "policy", "explain", "cli-bucket", "-action", "object:get", "-key", "secret/x"))
    assert explained["reason"] == "denied_by_statement" and explained["statement"] == 2
    assert admin(server, "policy", "delete", "cli-bucket") == "Policy removed.\n"
    assert "(404)" in admin(server, "policy", "get", "cli-bucket", code=1)
    assert admin(server, "buckets", "delete", "cli-bucket") == "Bucket deleted.\n"
    assert json.loads(admin(server, "snapshot"))["rows"] > 0
    assert json.loads(admin(server, "fsck", "-fast"))["clean"] is True
    backups = str(tmp_path / "backups")
    backup = json.loads(admin(server, "backup", "create", "-to", backups))["backup"]
    assert json.loads(admin(server, "backup", "list", "-from", backups)) == {"backups": [backup], "unreadable": []}
    assert "(400)" in admin(server, "backup", "list", "-from", str(tmp_path), code=1)
    assert "(400)" in admin(server, "backup", "list", "-from", "backups", code=1)
    assert json.loads(admin(server, "upkeep"))["scrub"]["round_hours"] == 60
    shown = {row["variable"]: row for row in json.loads(admin(server, "config"))}
    assert shown["JAY_ADMIN_ADDR"]["value"] == f"127.0.0.1:{server.admin_port}"
    assert SECRET not in json.dumps(shown) and TOKEN not in json.dumps(shown)


def on_terminal(server: Server, *arguments: str) -> str:
    """What jay-admin shows there."""
    main, terminal = pty.openpty()
    environment = clean_environment() | {"JAY_ADMIN_TOKEN": TOKEN, "TERM": "xterm"}
    command = [JAY_ADMIN, "-addr", f"http://localhost:{server.admin_port}", *arguments]
    done = subprocess.run(command, env=environment, stdout=terminal, stderr=subprocess.PIPE, timeout=60)
    os.close(terminal)
    shown = b""
    while piece := read_some(main):
        shown += piece
    os.close(main)
    assert done.returncode == 0, done.stderr
    return shown.decode()


def test_tables_are_for_terminals(server, account, tmp_path):
    shown = on_terminal(server, "list-accounts")
    assert "account_id" in shown and account["account_id"] in shown and "{" not in shown
    shown = on_terminal(server, "connections", "list")
    assert "operation" in shown and "ListConnections" in shown and "{" not in shown
    made_backup = json.loads(admin(server, "backup", "create", "-to", str(tmp_path / "b")))["backup"]
    (tmp_path / "b/manifests/20000101-000000.manifest").write_text("not one")
    shown = on_terminal(server, "backup", "list", "-from", str(tmp_path / "b"))
    assert made_backup["name"] in shown and "why" in shown and "{" not in shown
    shown = on_terminal(server, "scrub", "status")
    assert "bytes_total" in shown and "last_round" in shown and "{" not in shown


@pytest.mark.parametrize(("command", "row"), [("config", b"JAY_ADMIN_ADDR "), ("upkeep", b"scrub.round_hours ")])
def test_tables_show_what_is_nested(server, command, row):
    main, terminal = pty.openpty()
    environment = clean_environment() | {"JAY_ADMIN_TOKEN": TOKEN, "JAY_ADMIN_ADDR": f"127.0.0.1:{server.admin_port}"}
    # A terminal holds only so much until it is read.
    process = subprocess.Popen([JAY_ADMIN, command], env=environment, stdout=terminal, stderr=subprocess.PIPE)
    os.close(terminal)
    shown = b""
    while piece := read_some(main):
        shown += piece
    os.close(main)
    assert process.wait(60) == 0 and row in shown and b"{" not in shown, shown


def read_some(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:
        return b""  # how Linux tells the end of a terminal


def test_the_token_of_jay_admin_comes_from_a_file_or_the_environment(server, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    assert json.loads(admin(server, "list-accounts", "--token-file", str(file), JAY_ADMIN_TOKEN="wrong")) is not None
    assert json.loads(admin(server, "list-accounts", JAY_ADMIN_TOKEN="", JAY_ADMIN_TOKEN_FILE=str(file))) is not None
    assert "JAY_ADMIN_TOKEN" in admin(server, "list-accounts", JAY_ADMIN_TOKEN="", code=1)
    environment = clean_environment()
    command = [JAY_ADMIN, "-addr", f"127.0.0.1:{server.admin_port}", "-token", TOKEN, "list-accounts"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.startswith("Warning: ") and TOKEN not in done.stderr
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = admin(server, "list-accounts", JAY_ADMIN_ADDR=f"127.0.0.1:{unused.getsockname()[1]}", code=1)
    assert nobody.startswith("Error: no server answers at")


def test_mistakes_are_answered_with_what_to_do(server, new_server):
    wrong = admin(server, "list-accounts", JAY_ADMIN_TOKEN="wrong", code=1)
    assert '"unauthorized"}; give the admin token of that server' in wrong
    tls = new_server()
    tls.arguments = ["serve", "--tls-self-signed"]
    tls.start()
    assert "begins with https://" in admin(tls, "list-accounts", code=1)
    helped = admin(server, "buckets", code=1)
    assert helped.startswith("Lists, shows, makes and deletes buckets\n")
    script = f"{JAY_ADMIN} completions bash | head -c 1"
    done = subprocess.run(["bash", "-c", script], env=clean_environment(), capture_output=True, text=True)
    assert done.stdout == "_" and "panicked" not in done.stderr, done


def test_completions_and_man_pages(server, tmp_path):
    for shell in ["bash", "zsh", "fish"]:
        assert "create-token" in admin(server, "completions", shell, JAY_ADMIN_TOKEN="")
    admin(server, "man", str(tmp_path / "man"), JAY_ADMIN_TOKEN="")
    pages = {page.name for page in (tmp_path / "man").iterdir()}
    assert {"jay-admin.1", "jay-admin-create-token.1"} <= pages, pages
    assert ".TH jay-admin" in (tmp_path / "man" / "jay-admin.1").read_text()


def test_step_6_links_work_without_any_header(server, token, bucket):
    asked = {"token_id": token["token_id"], "method": "GET", "bucket": bucket, "key": "a b+c/é&?#%", "expires_seconds": 3600}
    boto(server, token).put_object(Bucket=bucket, Key=asked["key"], Body=b"body")
    status, answer = ask(server, "POST", "presign", asked)
    assert status == 200 and list(answer) == ["url"]
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(answer["url"]).query))
    assert sorted(query) == ["X-Jay-Expires", "X-Jay-Signature", "X-Jay-Token"]
    assert query["X-Jay-Token"] == token["token_id"] and abs(int(query["X-Jay-Expires"]) - time.time() - 3600) < 60
    assert subprocess.run(["curl", "-fsS", answer["url"]], capture_output=True, check=True).stdout == b"body"

    for style in ["jay", "sigv4"]:
        links = {
            method: ask(server, "POST", "presign", asked | {"method": method, "style": style})[1]["url"]
            for method in ["GET", "HEAD", "PUT", "DELETE"]
        }
        assert fetch(links["GET"]) == (200, b"body") and fetch(links["HEAD"], "HEAD")[0] == 200
        assert fetch(links["GET"], "DELETE")[0] == 403
        assert fetch(links["PUT"], "PUT", b"new")[0] == 200 and fetch(links["GET"]) == (200, b"new")
        assert fetch(links["DELETE"], "DELETE")[0] == 204 and fetch(links["GET"])[0] == 404
        boto(server, token).put_object(Bucket=bucket, Key=asked["key"], Body=b"body")
    gone = ask(server, "POST", "presign", asked)[1]["url"]
    ask(server, "DELETE", f"tokens/{token['token_id']}")
    assert fetch(gone)[0] == 403 and fetch(links["GET"])[0] == 403
    for style in ["jay", "sigv4"]:
        for token_id in [token["token_id"], "unknown"]:
            answer = ask(server, "POST", "presign", asked | {"token_id": token_id, "style": style})
            assert answer == (400, {"error": "token not found"})
    for name in ["token_id", "method", "bucket"]:
        missing = {key: value for key, value in asked.items() if key != name}
        assert ask(server, "POST", "presign", missing) == (400, {"error": "token_id, method, and bucket are required"})
    assert ask(server, "POST", "presign", asked | {"method": "POST"})[0] == 400


@pytest.mark.weakness(19)
def test_links_name_a_host_that_clients_reach(new_server):
    everywhere = new_server("everywhere", JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET)
    everywhere.variables["JAY_LISTEN_ADDR"] = f":{everywhere.port}"
    everywhere.start()
    account = made(everywhere, "accounts", {"name": "a"})
    token = made(everywhere, "tokens", {"account_id": account["account_id"], "name": "t"})
    boto(everywhere, token).create_bucket(Bucket="some-bucket")
    asked = {"token_id": token["token_id"], "method": "PUT", "bucket": "some-bucket", "key": "k", "expires_seconds": -1}
    link = ask(everywhere, "POST", "presign", asked)[1]["url"]
    assert link.startswith(f"http://127.0.0.1:{everywhere.port}/some-bucket/k?")
    assert fetch(link, "PUT", b"x")[0] == 200


POLICY = {
    "version": "2024-01-01",
    "statements": [
        {
            "sid": "office", "effect": "allow", "actions": ["object:get", "object:list"], "prefixes": ["public/"],
            "subjects": ["*"], "conditions": {"ip_whitelist": ["10.0.0.0/8"]},
        },
        {"effect": "deny", "actions": ["*"], "prefixes": ["secret/"], "subjects": ["*"]},
    ],
}  # fmt: skip


def test_step_7_a_policy_allows_and_denies_and_explains_itself(server, token, bucket):
    s3 = boto(server, token)
    for key in ["public/a", "secret/a", "other"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"body")
    path = f"buckets/{bucket}/policy"
    assert ask(server, "GET", path)[0] == 404
    status, stored = ask(server, "PUT", path, POLICY)
    assert status == 200 and ask(server, "GET", path) == (200, stored)
    assert [statement["effect"] for statement in stored["statements"]] == ["allow", "deny"]
    assert ask(server, "GET", f"buckets/{bucket}")[1]["has_policy"] is True
    assert refused(s3.get_object, Bucket=bucket, Key="secret/a") == "AccessDenied"
    assert s3.get_object(Bucket=bucket, Key="other")["Body"].read() == b"body"
    # We do not call from 10.0.0.0/8.
    assert fetch(f"{server.endpoint}/{bucket}/public/a")[0] == 403

    def explain(**question):
        status, answer = ask(server, "POST", "explain", {"bucket": bucket, "action": "object:get"} | question)
        assert status == 200 and answer.pop("text")
        return answer

    mine = {"token_id": token["token_id"]}
    assert explain(key="other", **mine) == {"allowed": True, "reason": "owner"}
    assert explain(key="secret/a", **mine) == {"allowed": False, "reason": "denied_by_statement", "statement": 2}
    allowed = {"allowed": True, "reason": "allowed_by_statement", "statement": 1, "sid": "office"}
    assert explain(key="public/a", ip="10.1.2.3") == allowed
    assert explain(key="public/a", ip="192.0.2.1") == {"allowed": False, "reason": "no_token"}
    assert explain(action="object:list", prefix="public/", ip="10.1.2.3") == allowed
    assert explain(key="x", token_id="nobody") == {"allowed": False, "reason": "token_unusable"}
    assert explain(bucket="no-such-bucket", key="x", **mine) == {"allowed": False, "reason": "no_such_bucket"}
    for wrong in [{"action": "object:read"}, {"action": "*"}, {"ip": "here"}, {"key": "a", "prefix": "b"}]:
        assert ask(server, "POST", "explain", {"bucket": bucket, "action": "object:get"} | wrong)[0] == 400, wrong

    typo = json.loads(json.dumps(POLICY).replace("prefixes", "prefix"))
    status, answer = ask(server, "PUT", path, typo)
    assert status == 400 and "prefix" in answer["error"] and ask(server, "GET", path)[1] == stored
    assert [ask(server, "DELETE", path)[0] for _ in range(2)] == [204, 204]
    assert s3.get_object(Bucket=bucket, Key="secret/a")["Body"].read() == b"body"


def test_buckets_are_counted_limited_and_removed(server, account, token):
    assert ask(server, "POST", "buckets", {"name": "made-by-us", "account_id": "0" * 32})[0] == 400
    bucket = made(server, "buckets", {"name": "made-by-us", "account_id": account["account_id"]})
    assert bucket == {
        "name": "made-by-us", "owner": account["account_id"], "created_at": bucket["created_at"], "public_read": False,
        "quota_bytes": None, "has_policy": False, "object_count": 0, "total_size_bytes": 0,
    }  # fmt: skip
    assert ask(server, "POST", "buckets", {"name": "made-by-us", "account_id": account["account_id"]})[0] == 409
    s3 = boto(server, token)
    s3.put_object(Bucket="made-by-us", Key="k", Body=b"12345")
    status, shown = ask(server, "PUT", "buckets/made-by-us/quota", {"quota_bytes": 8})
    assert status == 200 and (shown["object_count"], shown["total_size_bytes"], shown["quota_bytes"]) == (1, 5, 8)
    assert refused(s3.put_object, Bucket="made-by-us", Key="l", Body=b"12345") == "QuotaExceeded"
    assert ask(server, "PUT", "buckets/made-by-us/quota", {})[0] == 400
    assert ask(server, "PUT", "buckets/made-by-us/quota", {"quota_bytes": None})[1]["quota_bytes"] is None
    s3.put_object(Bucket="made-by-us", Key="l", Body=b"12345")
    assert shown["name"] in [entry["name"] for entry in ask(server, "GET", "buckets")[1]]
    assert ask(server, "DELETE", "buckets/made-by-us")[0] == 409
    for key in "kl":
        s3.delete_object(Bucket="made-by-us", Key=key)
    assert ask(server, "DELETE", "buckets/made-by-us")[0] == 204
    assert ask(server, "GET", "buckets/made-by-us")[0] == 404


def connections(server: Server, **like) -> list[dict]:
    """Those that are open and are like this."""
    listed = json.loads(admin(server, "connections", "list"))
    return [entry for entry in listed if like.items() <= entry.items()]


def wait_for(what, seconds: float = 10):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_a_stalled_upload_is_seen_and_closed(server, token, bucket, operation):
    client, s3 = Client(server.port, token["token_id"], token["secret"]), boto(server, token)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    path, query = {"PutObject": ("/stalled", ""), "UploadPart": ("/parts", f"partNumber=1&uploadId={upload}")}[operation]
    before = files_below(server.data_dir / "objects")
    with client.socket() as stream:
        # More than what stays in memory, and a tenth of what was announced.
        head = client.head_bytes("PUT", f"/{bucket}{path}", query, headers={"content-length": "4000000"})
        stream.sendall(head + b"x" * 400_000)
        sent, peer = len(head) + 400_000, "{}:{}".format(*stream.getsockname())
        [seen] = wait_for(lambda: connections(server, peer=peer, waits_for="body", bytes_in=sent))
        assert {name: seen[name] for name in ["port", "client", "tls", "state", "operation", "bucket", "token_id"]} == {
            "port": "s3", "client": "127.0.0.1", "tls": False, "state": "request", "operation": operation, "bucket": bucket,
            "token_id": token["token_id"],
        }  # fmt: skip
        assert (seen["requests"], seen["bytes_out"]) == (0, 0)
        assert seen["opened_at"] <= seen["since"] <= seen["waits_since"]
        assert admin(server, "connections", "close", "-id", str(seen["id"])) == "Connection closed.\n"
        assert read_answer(stream) is None
    wait_for(lambda: not connections(server, id=seen["id"]))
    assert "(404)" in admin(server, "connections", "close", "--id", str(seen["id"]), code=1)
    assert ask(server, "GET", f"buckets/{bucket}")[1]["object_count"] == 0
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="parts", UploadId=upload)
    assert files_below(server.data_dir / "objects") == before
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if f'"{bucket}"' in line]
    [line] = [line for line in lines if line.get("operation") == operation]
    assert line["aborted"] is True and line["token_id"] == token["token_id"]


def test_connections_that_rest_and_the_own_one_are_listed(server, token, bucket):
    client = Client(server.port, token["token_id"], token["secret"])
    assert client.request("HEAD", f"/{bucket}").status == 200
    assert client.request("PUT", f"/{bucket}/k", body=b"12345").status == 200
    peer = "{}:{}".format(*client.connection.sock.getsockname())
    [resting] = wait_for(lambda: connections(server, peer=peer, state="idle"))
    assert resting["requests"] == 2 and resting["bytes_in"] > 5 and resting["bytes_out"] > 0
    nothing = ["operation", "bucket", "token_id", "waits_for", "waits_since"]
    assert [resting[name] for name in nothing] == [None] * len(nothing)
    [own] = connections(server, port="admin", operation="ListConnections", state="request")
    assert own["id"] > resting["id"] and own["token_id"] is None
    assert ask(server, "DELETE", "connections/first")[0] == 400
    # Whoever was closed while it rested comes again.
    assert call(server, "DELETE", f"/_jay/connections/{resting['id']}")[::2] == (204, b"")
    wait_for(lambda: not connections(server, peer=peer))
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        client.request("HEAD", f"/{bucket}/k")
    assert client.request("HEAD", f"/{bucket}/k").status == 200


def test_connections_tell_who_is_behind_a_proxy_and_what_takes_long(new_server):
    server = new_server(JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET, JAY_TRUST_PROXY_HEADERS="true").start()
    with socket.create_connection(("127.0.0.1", server.port)) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
        [seen] = wait_for(lambda: connections(server, port="s3", requests=1))
        assert seen["client"] == "203.0.113.9" and seen["peer"].startswith("127.0.0.1:")
    # An operation of the admin API is told before it answers.
    with socket.create_connection(("127.0.0.1", server.admin_port)) as stream:
        head = f"POST /_jay/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n"
        stream.sendall(head.encode())
        [seen] = wait_for(lambda: connections(server, operation="CreateAccount"))
        assert seen["port"] == "admin" and seen["waits_for"] == "body"


def test_a_scrub_is_started_and_watched(new_server):
    server = new_server(
        JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET, JAY_SCRUB_BYTES_PER_SEC="2000000", JAY_SCRUB_INTERVAL_HOURS="12",
    ).start()  # fmt: skip
    account = made(server, "accounts", {"name": "a"})
    made(server, "buckets", {"name": "full", "account_id": account["account_id"]})
    token = made(server, "tokens", {"account_id": account["account_id"], "name": "t"})
    s3 = boto(server, token)
    for n in range(20):
        s3.put_object(Bucket="full", Key=f"{n}", Body=os.urandom(300_000))
    status = wait_for(lambda: (found := json.loads(admin(server, "scrub", "status")))["next_pass_at"] and found)
    assert (status["objects_total"], status["bytes_total"], status["pass"], status["wanted"]) == (20, 6_000_000, None, None)
    began = time.time()
    started = json.loads(admin(server, "scrub", "start", "-everything"))
    assert started["wanted"] == "everything" or started["pass"]["extent"] == "everything"
    told = []
    while (now := ask(server, "GET", "upkeep")[1]["scrub"])["last_round"] is None:
        told += [now["pass"]] if now["pass"] else []
        assert now["pass"] or now["wanted"]
        time.sleep(0.1)
    assert {entry["extent"] for entry in told} == {"everything"}
    assert any(0.2 < entry["done"] < 0.8 and 0 < entry["bytes"] < 6_000_000 for entry in told), told
    assert [entry["bytes"] for entry in told] == sorted(entry["bytes"] for entry in told)
    last = now["last_round"]
    assert (last["objects"], last["bytes"], last["damaged"], last["errors"]) == (20, 6_000_000, 0, 0)
    assert now["pass"] is None and now["wanted"] is None and now["round"] is None
    due = datetime.datetime.fromisoformat(now["next_pass_at"].replace("Z", "+00:00")).timestamp()
    assert began + 12 * 3600 - 5 < due < time.time() + 12 * 3600
    status, answer = ask(server, "POST", "scrub")
    assert status == 202 and answer["objects_total"] == 20
    assert ask(server, "POST", "scrub", {"all": True})[0] == 400


def test_usage_of_a_bucket_on_the_s3_port(server, token, bucket, account):
    client = Client(server.port, token["token_id"], token["secret"])
    client.request("PUT", f"/{bucket}/k", body=b"12345")
    answer = client.request("GET", f"/_stats/{bucket}")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {"bucket": bucket, "object_count": 1, "total_size_bytes": 5}
    answer = client.request("GET", "/_stats/no-such-bucket")
    assert answer.status == 404 and answer.body == b'{"error":"bucket not found"}\n'
    assert fetch(f"{server.endpoint}/_stats/{bucket}")[0] == 403
    blind = made(server, "tokens", {"account_id": account["account_id"], "name": "t", "allowed_actions": ["object:get"]})
    answer = Client(server.port, blind["token_id"], blind["secret"]).request("GET", f"/_stats/{bucket}")
    assert answer.status == 403 and answer.code == "AccessDenied"
    # Another account does not learn that the bucket is there.
    other = made(server, "accounts", {"name": "other"})
    stranger = made(server, "tokens", {"account_id": other["account_id"], "name": "t"})
    assert Client(server.port, stranger["token_id"], stranger["secret"]).request("GET", f"/_stats/{bucket}").status == 404


def test_step_9_health_needs_no_token(server):
    assert call(server, "GET", "/health/live", token=None)[::2] == (200, b'{"status":"alive"}\n')
    for path in ["/health", "/health/ready"]:
        assert call(server, "GET", path, token=None)[::2] == (200, b'{"status":"ready"}\n')


@pytest.mark.weakness(26)
def test_wrong_tries_lock_nobody_out(new_server):
    server = new_server(JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET).start()
    for _ in range(5):
        assert ask(server, "GET", "accounts", token="x" * 40) == (401, {"error": "unauthorized"})
    assert ask(server, "GET", "accounts")[0] == 200
    status, headers, _ = call(server, "GET", "/_jay/accounts", token="y" * 40)
    assert status == 429 and int(headers["Retry-After"]) == 900
    assert call(server, "GET", "/_jay/accounts", token=None)[0] == 429
    assert ask(server, "GET", "accounts")[0] == 200
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    warnings = [line for line in lines if line.get("level") == "WARN" and "admin auth" in json.dumps(line)]
    text = [json.dumps(line) for line in warnings]
    assert sum("admin auth failure" in line for line in text) == 5
    assert sum("admin auth rate limited" in line for line in text) == 2 and '"failures": 6' in text[5]
    assert all("127.0.0.1" in line and "x" * 40 not in line for line in text)


def test_the_document_describes_what_is_served(server):
    assert ask(server, "GET", "openapi.json", token="wrong" * 8)[0] == 401
    status, document = ask(server, "GET", "openapi.json")
    assert status == 200 and document["openapi"].startswith("3.")
    for name in re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)):
        place = document
        for step in name.removeprefix("#/").split("/"):
            place = place[step]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["operationId"] and (operation.get("summary") or operation.get("description"))
            # Without a body, and for names that are not there: never a failure of the server.
            if method == "post" and path.endswith(("/fsck", "/scrub", "/snapshots")):
                continue
            status, headers, text = call(server, method.upper(), re.sub(r"{\w+}", "no-such-name", path))
            assert status in (200, 204, 400, 404), (method, path, status, text)


class TlsProxy:
    """Takes TLS off on its way to a port of this machine, for connections one at a time that end when the client ends them."""

    def __init__(self, directory, port: int):
        self.certificate, key = directory / "cert.pem", directory / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
             "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)
        self.behind, self.listener = port, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.said = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                self.answer(self.context.wrap_socket(connection, server_side=True))
            except OSError:
                connection.close()  # whoever does not trust us

    def answer(self, client):
        self.said.append(client.recv(65536))
        with socket.create_connection(("127.0.0.1", self.behind)) as server:
            server.sendall(self.said[-1].replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while piece := server.recv(65536):
                client.sendall(piece)
        client.close()


def test_jay_admin_speaks_tls_with_whom_it_trusts(server, account, tmp_path):
    proxy = TlsProxy(tmp_path, server.admin_port)
    addr = f"https://localhost:{proxy.port}"
    listed = admin(server, "-addr", addr, "--ca-file", str(proxy.certificate), "list-accounts")
    assert account in json.loads(listed) and len(proxy.said) == 1
    stranger = admin(server, "-addr", addr, "list-accounts", code=1)
    assert stranger.startswith("Error: no TLS with the server")
    # Under another name than that of the certificate.
    wrong = admin(server, "-addr", f"https://127.0.0.1:{proxy.port}", "--ca-file", str(proxy.certificate), "list-accounts", code=1)
    assert wrong.startswith("Error: no TLS with the server")
    # The admin token goes to nobody who is not trusted.
    assert len(proxy.said) == 1
    proxy.listener.close()
