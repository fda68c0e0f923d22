"""Secrets planted everywhere, and looked for in everything that our programs say, answer and write, at debug level."""

import base64
import datetime
import html
import http.client
import json
import secrets
import signal
import ssl
import subprocess
import urllib.parse
from pathlib import Path

import pytest
from test_presigned import link, presigned, presigned_v2

from jay_testing import JAY, Client, Server, clean_environment, files_below

# What the seed, and a link, are for.
KEY_ID = "planted-key"
PAGE = bytes(4096)


def planted() -> str:
    """A secret that no form of writing leaves as it is."""
    return "Aa+/=%&<\"'" + secrets.token_urlsafe(30)


def forms(secret: str | bytes) -> set[bytes]:
    """All that would be the secret in somebody else's hands: also halves of it, and what a piece of base64 or JSON would hold."""
    raw = secret.encode() if isinstance(secret, str) else secret
    half = len(raw) // 2
    found = {raw, raw[:half], raw[half:], raw.hex().encode(), raw.hex().upper().encode(), b"".join(b"%%%02X" % byte for byte in raw)}
    if isinstance(secret, str):
        quoted = [urllib.parse.quote(secret, safe=""), urllib.parse.quote(secret), urllib.parse.quote_plus(secret)]
        escaped = [json.dumps(secret)[1:-1], html.escape(secret), html.escape(secret, quote=False), secret.replace("'", "'\\''")]
        found |= {text.encode() for text in quoted + escaped}
    for before in range(3):
        for encode in [base64.b64encode, base64.urlsafe_b64encode]:
            # Without the characters that depend on the neighbours.
            found.add(encode(bytes(before) + raw)[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6])
    return found


class Watch:
    """What was said and written, and the secrets that must not be in it."""

    def __init__(self, directory: Path):
        self.directory = directory
        # Several may have one name.
        self.secrets = []
        self.seen = []

    def plant(self, name: str, secret: str | bytes | None = None) -> str:
        self.secrets.append((name, secret or planted()))
        return self.secrets[-1][1]

    def see(self, where: str, *said: str | bytes, shows: tuple[str, ...] = ()) -> None:
        """`shows` are the secrets that this is there to show."""
        text = b"\0".join(piece.encode() if isinstance(piece, str) else piece for piece in said)
        self.seen.append((where, text, shows))

    def see_files(self, directory: Path, shows: dict[str, tuple[str, ...]] | None = None) -> None:
        """`shows`: of files, by patterns of their names; nobody else may read those."""
        for path in files_below(directory):
            allowed = next((shown for pattern, shown in (shows or {}).items() if path.match(pattern)), ())
            assert not allowed or path.stat().st_mode & 0o077 == 0, path
            data = path.read_bytes()
            # Log files are zeros for the most part.
            pages = (data[at : at + len(PAGE)] for at in range(0, len(data), len(PAGE)))
            self.see(str(path), str(path), b"".join(page for page in pages if page != PAGE), shows=allowed)

    def see_process(self, pid: int) -> None:
        """What a list of processes shows of it and of those that it has started."""
        for task in Path(f"/proc/{pid}/task").glob("*"):
            self.see(f"process {pid}", (task / "cmdline").read_bytes(), (task / "comm").read_bytes())
            for child in (task / "children").read_text().split():
                self.see_process(int(child))

    def run(self, *command: str | Path, code: int = 0, shows: tuple[str, ...] = (), stdin: str = "", **variables: str) -> str:
        """What a program of ours prints; everything that it says is looked at."""
        process = subprocess.Popen(
            [str(word) for word in command], env=clean_environment() | variables, cwd=self.directory, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.see_process(process.pid)
        said, errors = process.communicate(stdin, timeout=120)
        assert process.returncode == code, (command, process.returncode, said, errors)
        where = " ".join(Path(word).name for word in command[:4])
        self.see(f"{where}, output", said, shows=shows)
        self.see(f"{where}, errors", errors)
        return said if code == 0 else errors

    def ask(
        self, port: int, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"",
        shows: tuple[str, ...] = (), tls: bool = False,
    ) -> http.client.HTTPResponse:  # fmt: skip
        """One request; all of its answer is looked at. The text is in `.text`."""
        kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
        connection = kind("127.0.0.1", port, timeout=60, **({"context": ssl._create_unverified_context()} if tls else {}))
        connection.request(method, target, body or None, headers or {})
        answer = connection.getresponse()
        answer.text = answer.read()
        connection.close()
        self.see(f"the answer {answer.status} to {method} {target}", repr(answer.getheaders()), answer.text, shows=shows)
        return answer

    def leaks(self) -> list[str]:
        found = {}
        for name, secret in self.secrets:
            for form in forms(secret):
                for where, text, shows in self.seen:
                    at = text.find(form) if name not in shows else -1
                    if at >= 0:
                        found[name, where] = f"{name} in {where}: …{text[max(0, at - 80) : at + len(form) + 20]!r}…"
        return sorted(found.values())


@pytest.fixture
def watch(tmp_path) -> Watch:
    (tmp_path / "work").mkdir()
    return Watch(tmp_path / "work")


def test_what_is_looked_for_is_found():
    """Else the tests below could not fail."""
    secret = planted()
    for written in [
        secret, secret[: len(secret) // 2], secret.encode().hex(), json.dumps({"s": secret}), html.escape(f"<a>{secret}</a>"),
        urllib.parse.urlencode({"s": secret}), *(base64.b64encode(b"x" * n + f"{secret}:y".encode()).decode() for n in range(3)),
    ]:  # fmt: skip
        watch = Watch(Path())
        watch.plant("it", secret)
        watch.see("somewhere", f"before {written} behind")
        assert watch.leaks(), written
        watch.see("elsewhere", "before and behind")
    watch = Watch(Path())
    watch.plant("it", secret)
    watch.see("where it may be", secret, shows=("it",))
    assert not watch.leaks()


def on_debug(watch: Watch, server: Server) -> Server:
    """A server that tells all it can, and that the system lets write core files where we look."""
    server.variables["JAY_LOG_LEVEL"] = "debug"
    server.launcher = ["sh", "-c", 'ulimit -c unlimited; cd "$0" && exec "$@"', str(watch.directory)]
    return server


def see_logs(watch: Watch, server: Server, shows: tuple[str, ...] = ()) -> None:
    """Of all starts; what the first one greets its owner with is in `shows`."""
    for start in range(1, server.starts + 1):
        for kind in ["log", "err"]:
            path = server.data_dir.with_name(f"{server.data_dir.name}.{kind}.{start}")
            watch.see(str(path), path.read_bytes(), shows=shows if start == 1 and kind == "log" else ())


def pem_key(directory: Path) -> tuple[Path, Path]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def plant_key(watch: Watch, name: str, key: Path) -> None:
    """The private number in the key, in whatever form."""
    lines = key.read_text().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    number = der[der.index(b"\x02\x01\x01\x04\x20") + 5 :][:32]
    watch.plant(name, number)


def sign_wrongly(client: Client) -> list[tuple[str, dict[str, str]]]:
    """The ways to prove who asks, each with the secret of this client: targets and headers of a GET."""
    path = "/photos/k"
    now = datetime.datetime.now(datetime.timezone.utc)
    late = now - datetime.timedelta(hours=2)
    signed = [client.headers("GET", path), client.headers("GET", path, now=late)]
    return [
        *((path, headers) for headers in signed),
        (path, {"authorization": f"Bearer {client.access_key_id}:{client.secret}"}),
        (presigned(client, "GET", path), {}),
        (presigned(client, "GET", path, now=late), {}),
        (presigned(client, "GET", path, changed={"X-Amz-Expires": "none"}), {}),
        (presigned_v2(client, "GET", path), {}),
        (presigned_v2(client, "GET", path, expires=1), {}),
        (link("GET", path, token=client.access_key_id, secret=client.secret), {}),
    ]


def signatures(asked: list[tuple[str, dict[str, str]]]) -> list[str]:
    """What somebody could use who finds it."""
    found = []
    for target, headers in asked:
        query = dict(urllib.parse.parse_qsl(target.partition("?")[2]))
        found += [value for name, value in query.items() if name.endswith("Signature")]
        found += [headers["authorization"].partition("Signature=")[2]] if "Signature=" in headers.get("authorization", "") else []
    return found


def ask_s3(watch: Watch, server: Server, seed_secret: str, admin_token: str, signing_secret: str) -> None:
    """Everything that may go right and wrong with a proof, and secrets in places where none belongs."""
    port, good = server.port, Client(server.port, KEY_ID, seed_secret)
    wrong = watch.plant("a wrong secret")
    mistakes = [good.secret, admin_token, signing_secret]
    asked = sign_wrongly(good) + sign_wrongly(Client(port, good.access_key_id, wrong)) + sign_wrongly(Client(port, "nobody", wrong))
    # The secret that the operator, or a user, mistook for the id.
    asked += [pair for mistaken in mistakes for pair in sign_wrongly(Client(port, mistaken, wrong))]
    for signature in signatures(asked):
        watch.plant("a signature", signature)
    for mistaken in mistakes:
        schemes = ["Bearer", "Basic", "AWS4-HMAC-SHA256", "AWS", "Token"]
        asked += [("/photos/k", {"authorization": f"{scheme} {mistaken}"}) for scheme in schemes]
        quoted = urllib.parse.quote(mistaken, safe="")
        asked += [
            (f"/photos/k?token={quoted}&secret={quoted}&tagging=", {}), (f"/?X-Amz-Security-Token={quoted}", {}),
            ("/photos/k", {"x-amz-security-token": mistaken}), ("/photos/k", {"x-jay-secret": mistaken, "cookie": mistaken}),
            (f"/photos/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quoted}&X-Amz-Signature={quoted}", {}),
            (f"/photos/k?X-Jay-Token={quoted}&X-Jay-Expires={quoted}&X-Jay-Signature={quoted}", {}),
            (f"/photos/k?AWSAccessKeyId={quoted}&Expires={quoted}&Signature={quoted}", {}),
        ]  # fmt: skip
        chunk = f"4;chunk-signature={mistaken}\r\n1234\r\n0;chunk-signature={mistaken}\r\n\r\n".encode()
        hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
        chunked = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "4"}
        watch.ask(port, "PUT", "/photos/k", good.headers("PUT", "/photos/k", "", hash, chunked), chunk)
    for target, headers in asked:
        for method in ["GET", "DELETE"]:
            watch.ask(port, method, target, headers)
    for method, path, query, body in [
        ("PUT", "/photos", "", b""), ("PUT", "/photos/k", "", b"body"), ("GET", "/photos/none", "", b""), ("GET", "/none/k", "", b""),
        ("GET", "/photos", "list-type=2", b""), ("POST", "/photos/k", "uploads=", b""), ("PUT", "/photos/k", "retention=", b"<x/>"),
        ("BREW", "/photos/k", "", b""), ("PUT", "/No_Name", "", b""), ("POST", "/photos", "delete=", b"<Delete>"),
    ]:  # fmt: skip
        answer = good.request(method, path, query, body)
        watch.see(f"the answer {answer.status} to {method} {path}", repr(answer.headers), answer.body)


def ask_admin(watch: Watch, server: Server, admin_token: str, signing_secret: str) -> None:
    """All of the API, by the right caller and by wrong ones."""
    port, right = server.admin_port, {"authorization": f"Bearer {admin_token}"}

    def api(method: str, path: str, body: dict | list | str | None = None, shows: tuple[str, ...] = ()):
        data = body if isinstance(body, str) else json.dumps(body) if body is not None else ""
        answer = watch.ask(port, method, f"/_jay/{path}", right, data.encode(), shows)
        return json.loads(answer.text or b"null")

    account = api("POST", "accounts", {"name": "team"})["account_id"]
    token = api("POST", "tokens", {"account_id": account, "name": "made"}, shows=("a made token's secret",))
    secret = watch.plant("a made token's secret", token["secret"])
    Client(server.port, token["token_id"], secret).request("PUT", "/photos")
    asked = {"token_id": token["token_id"], "method": "GET", "bucket": "photos", "key": "k"}
    for style in ["jay", "sigv4"]:
        name = f"the signature of a {style} link"
        url = api("POST", "presign", asked | {"style": style}, shows=(name,))["url"]
        watch.plant(name, signatures([(url, {})])[0])
        watch.ask(server.port, "GET", url.removeprefix(server.endpoint))
    document = api("GET", "openapi.json")
    for path, methods in document["paths"].items():
        for method in methods:
            for mistaken in [secret, admin_token, signing_secret]:
                quoted = urllib.parse.quote(mistaken, safe="")
                placed = path.split("{")[0] + quoted if "{" in path else path
                for headers in [right, {}, {"authorization": f"Bearer {mistaken}x"}, {"authorization": f"Basic {mistaken}"}]:
                    watch.ask(port, method.upper(), placed, headers)
                watch.ask(port, method.upper(), f"{placed}?token={quoted}", {})
    for mistaken in [secret, admin_token, signing_secret]:
        api("POST", "tokens", f'{{"account_id": "{account}", "name": ')
        api("POST", "presign", asked | {"token_id": mistaken})
        api("POST", "explain", {"bucket": "photos", "action": "object:get", "token_id": mistaken})
    for path in ["/metrics", "/_jay/metrics", "/_jay/config", "/_jay/upkeep", "/_jay/tokens", "/_jay/accounts", "/_jay/buckets"]:
        assert watch.ask(port, "GET", path, right).status == 200
    for path in ["/health", "/health/live", "/health/ready", "/nothing"]:
        watch.ask(port, "GET", path, right)


def run_jay_admin(watch: Watch, server: Server, admin_token: str) -> None:
    program = JAY.with_name("jay-admin")
    variables = {"JAY_ADMIN_ADDR": server.admin_endpoint, "JAY_ADMIN_TOKEN": admin_token}
    file = watch.directory / "admin-token"
    file.write_text(admin_token)

    def admin(*words: str, **options) -> dict:
        return json.loads(watch.run(program, *words, "--json", **(variables | options)))

    account = admin("create-account", "-name", "by-tool")["account_id"]
    token = admin("create-token", "-account", account, "-name", "t", shows=("the secret of jay-admin's token",))
    watch.plant("the secret of jay-admin's token", token["secret"])
    watch.run(program, "presign", "-bucket", "photos", "-key", "k", "-token-id", token["token_id"], shows=("link of jay-admin",), **variables)
    for words in [
        ["list-accounts"], ["list-tokens"], ["show-token", "-id", token["token_id"]], ["metrics"], ["config"], ["buckets", "list"],
        ["buckets", "show", "photos"], ["quarantine-list"], ["snapshot"], ["upkeep"], ["fsck"], ["revoke-token", "-id", token["token_id"]],
    ]:  # fmt: skip
        watch.run(program, *words, **variables)
    watch.run(program, "list-tokens", "--token-file", file, JAY_ADMIN_ADDR=server.admin_endpoint)
    wrong = watch.plant("a wrong admin token")
    for options in [{"JAY_ADMIN_TOKEN": wrong}, {"JAY_ADMIN_ADDR": "127.0.0.1:9"}, {"JAY_ADMIN_ADDR": f"http://x:{wrong}@127.0.0.1:9"}]:
        watch.run(program, "list-tokens", code=1, **(variables | options))


def refuse_to_start(watch: Watch, new_server, good: dict[str, str], key_pem: str) -> None:
    """Configurations that cannot work, with their secrets in the wrong place; by the server and by jay-config."""
    program = JAY.with_name("jay-config")
    secret = watch.plant("the secret of a bad configuration")
    short = watch.plant("a secret that is too short", secrets.token_urlsafe(12))
    yaml = json.dumps(secret)
    files = {
        "open": f"admin_token: [{yaml}\n", "type": f"admin_token: [{yaml}]\n", "group": f"admin_token: {{a: {yaml}}}\n",
        "number": f"rate_limit: {yaml}\n", "twice": f"admin_token: {yaml}\nadmin_token: {yaml}\n", "quote": f'signing_secret: "{secret}\n',
        "unknown": f"admin_tokn: {yaml}\n", "short": f"admin_token: {short}\nsigning_secret: {short}\n", "alias": f"admin_token: *{secret}\n",
        "half": f"admin_token: {yaml}\n", "seed": f"seed_token:\n  id: KEY\n  secret: {yaml}\n", "text": f"{secret}\n", "list": f"- {yaml}\n",
        "reference": f"admin_token: ${{{secret}\n",
    }  # fmt: skip
    for name, text in files.items():
        path = watch.directory / f"{name}.yml"
        path.write_text(text)
        server = on_debug(watch, new_server(f"refused-{name}", JAY_CONFIG_FILE=str(path)))
        server.refused()
        see_logs(watch, server)
        watch.run(program, "validate", "--input", path, code=1)
        for words in [["show", "--config-file", path], ["yaml-to-env", "-i", path, "-o", watch.directory / f"{name}.env"]]:
            run_whatever_comes(watch, program, *words)
        run_whatever_comes(watch, JAY, "print-config", "--config-file", path)
    file = watch.directory / "secret"
    file.write_text(secret)
    for name, variables in {
        "both": {"JAY_ADMIN_TOKEN": secret, "JAY_ADMIN_TOKEN_FILE": str(file)}, "one": {"JAY_ADMIN_TOKEN": secret},
        "brief": {"JAY_ADMIN_TOKEN": short, "JAY_SIGNING_SECRET": short},
        "path": {"JAY_ADMIN_TOKEN_FILE": watch.plant("a secret in the place of its file", secrets.token_hex(32))},
        "key": good | {"JAY_TLS_CERT": str(file), "JAY_TLS_KEY": key_pem}, "swapped": good | {"JAY_TLS_CERT": key_pem, "JAY_TLS_KEY": str(file)},
        "url": good | {"JAY_PUBLIC_URL": f"https://somebody:{urllib.parse.quote(secret, safe='')}@jay.example"},
    }.items():  # fmt: skip
        server = on_debug(watch, new_server(f"refused-{name}", **variables))
        server.refused()
        see_logs(watch, server)
        run_whatever_comes(watch, program, "show", **variables)


def run_whatever_comes(watch: Watch, *command: str | Path, **variables: str) -> None:
    done = subprocess.run([str(word) for word in command], env=clean_environment() | variables, capture_output=True, timeout=60)
    watch.see(" ".join(str(word) for word in command[:3]), done.stdout, done.stderr)


def convert(watch: Watch, config: Path) -> None:
    """The conversions carry secrets into their files, and say nothing of them."""
    program = JAY.with_name("jay-config")
    env, again = watch.directory / "converted.env", watch.directory / "converted.yml"
    watch.run(program, "yaml-to-env", "-i", config, "-o", env)
    watch.run(program, "env-to-yaml", "-i", env, "-o", again)
    assert [path.stat().st_mode & 0o077 for path in (env, again)] == [0, 0]
    watch.run(program, "validate", "-i", again)


@pytest.mark.weakness(24)
def test_no_secret_shows_where_it_should_not(watch, new_server, tmp_path):
    admin_token, signing, seed = (watch.plant(name) for name in ["the admin token", "the signing secret", "the seed secret"])
    good = {"JAY_ADMIN_TOKEN": admin_token, "JAY_SIGNING_SECRET": signing}
    seeds = {"JAY_SEED_TOKEN_ACCOUNT": "team", "JAY_SEED_TOKEN_ID": KEY_ID, "JAY_SEED_TOKEN_SECRET": seed}
    _, key = pem_key(tmp_path)
    plant_key(watch, "a key in the wrong place", key)
    refuse_to_start(watch, new_server, good, key.read_text())

    # Conflicts with a file, whose secrets are others.
    in_file = {name: watch.plant(f"{name} of the file") for name in ["admin_token", "signing_secret"]}
    config = tmp_path / "config.yml"
    config.write_text(json.dumps(in_file | {"seed_token": {"account": "x", "id": "x", "secret": watch.plant("seed of the file")}}))
    convert(watch, config)
    server = on_debug(watch, new_server(JAY_CONFIG_FILE=str(config), **good, **seeds)).start()
    watch.see_process(server.process.pid)
    ask_s3(watch, server, seed, admin_token, signing)
    ask_admin(watch, server, admin_token, signing)
    run_jay_admin(watch, server, admin_token)
    environment = server.environment()
    watch.run(JAY.with_name("jay-config"), "show", **environment)
    watch.run(JAY.with_name("jay-config"), "show", "--json", **environment)
    watch.run(JAY, "print-config", "--json", shows=("the admin token", "the seed secret"), **environment)
    watch.run(JAY, "print-config", shows=("the seed secret",), **environment)
    watch.run(JAY, "health", **environment)
    watch.run(JAY, "fsck", **environment)
    for words in [["create", "--to"], ["list", "--from"], ["verify", "--from"]]:
        watch.run(JAY, "backup", *words, tmp_path / "backups", **environment)
    watch.see_files(server.data_dir)
    assert server.stop() == 0

    # Wrong signatures are explained to their callers.
    server.variables["JAY_DEBUG_SIGNATURES"] = "1"
    server.start()
    ask_s3(watch, server, seed, admin_token, signing)
    watch.see_process(server.process.pid)
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")] == ["0"], limits
    server.process.send_signal(signal.SIGABRT)
    server.process.wait()
    assert not list(watch.directory.glob("core*")) + list(server.data_dir.glob("core*"))

    new = watch.plant("the new signing secret")
    data_dir = {"JAY_DATA_DIR": str(server.data_dir)}
    other = watch.plant("another signing secret")
    watch.run(JAY, "rekey", code=1, JAY_OLD_SIGNING_SECRET=other, JAY_SIGNING_SECRET=new, **data_dir)
    watch.run(JAY, "rekey", JAY_OLD_SIGNING_SECRET=signing, JAY_SIGNING_SECRET=new, **data_dir)
    server.refused()
    server.variables["JAY_SIGNING_SECRET"] = new
    server.start()
    ask_s3(watch, server, seed, admin_token, new)
    run_jay_admin(watch, server, admin_token)
    assert server.stop() == 0
    watch.run(JAY, "backup", "restore", "--from", tmp_path / "backups", JAY_DATA_DIR=str(tmp_path / "restored"))
    for directory in [server.data_dir, tmp_path / "backups", tmp_path / "restored"]:
        watch.see_files(directory)
    see_logs(watch, server)
    assert not (leaks := watch.leaks()), "\n".join(leaks)


def test_secrets_that_jay_made_are_in_their_file_alone(watch, new_server, tmp_path):
    """And the one of the access key is in the greeting of the first start."""
    server = on_debug(watch, new_server())
    server.arguments = ["serve", "--tls-self-signed"]
    server.start()
    kept = json.loads((server.data_dir / "credentials").read_text())
    made = {name: watch.plant(name, kept[name]) for name in ["admin_token", "signing_secret", "secret_access_key"]}
    plant_key(watch, "the private key", server.data_dir / "tls/self-signed.key")
    mine = tuple(made)
    client = Client(server.port, kept["access_key_id"], made["secret_access_key"])
    for target, headers in sign_wrongly(client) + sign_wrongly(Client(server.port, client.access_key_id, watch.plant("a wrong secret"))):
        watch.ask(server.port, "GET", target, headers, tls=True)
    right = {"authorization": f"Bearer {made['admin_token']}"}
    for path in ["/metrics", "/_jay/config", "/_jay/tokens", "/_jay/accounts"]:
        assert watch.ask(server.admin_port, "GET", path, right, tls=True).status == 200
    # Without TLS, and with nonsense.
    for port in [server.port, server.admin_port]:
        with pytest.raises((http.client.HTTPException, OSError)):
            watch.ask(port, "GET", "/", right)
    environment = server.environment()
    watch.run(JAY, "print-config", "--json", shows=("admin_token", "secret_access_key"), **environment)
    watch.run(JAY, "print-config", shows=("secret_access_key",), **environment)
    watch.run(JAY, "health", **environment)
    watch.run(JAY, "fsck", **environment)
    watch.run(JAY, "backup", "create", "--to", tmp_path / "backups", **environment)
    watch.run(JAY.with_name("jay-config"), "show", **environment)
    watch.see_process(server.process.pid)
    assert server.stop() == 0
    watch.run(JAY, "rekey", JAY_DATA_DIR=str(server.data_dir))
    watch.plant("the signing secret after rekey", json.loads((server.data_dir / "credentials").read_text())["signing_secret"])
    server.start()
    assert server.stop() == 0
    # The files that are there to keep them, which nobody else may read.
    keepers = {"data/credentials": (*mine, "the signing secret after rekey"), "tls/self-signed.key": ("the private key",)}
    watch.see_files(server.data_dir, keepers)
    # A backup holds the file of secrets too, in its manifest.
    watch.see_files(tmp_path / "backups", {"manifests/*.manifest": mine})
    see_logs(watch, server, shows=("secret_access_key",))
    assert not (leaks := watch.leaks()), "\n".join(leaks)
    damaged = server.data_dir / "credentials"
    damaged.write_text(damaged.read_text().replace('"version"', '"versoin"'))
    watch.see("the refusal of a damaged file", server.refused())
    assert not (leaks := watch.leaks()), "\n".join(leaks)
