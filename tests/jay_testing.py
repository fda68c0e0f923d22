"""What the end-to-end tests and the kill -9 program share: a real server, and a small signing client.

The client is written on http.client alone: it can send what no SDK would, and is fast enough for load.
"""

import datetime
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

# As built by `make test`, or by hand with --profile ci.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jay"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target").absolute()
JAY = Path(os.environ.get("JAY_BINARY") or TARGET / "ci/jay")
UNSIGNED = "UNSIGNED-PAYLOAD"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment() -> dict[str, str]:
    """The caller's, without what would change a server or a client under test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "JAY_"))}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


class Server:
    """One `jay serve` on ports of its own. Its output goes to files beside the data directory."""

    def __init__(self, data_dir: Path, **variables: str):
        self.data_dir = Path(data_dir)
        self.port, self.admin_port, self.native_port = free_port(), free_port(), free_port()
        self.variables = {
            "JAY_DATA_DIR": str(data_dir),
            "JAY_LISTEN_ADDR": f"127.0.0.1:{self.port}",
            "JAY_ADMIN_ADDR": f"127.0.0.1:{self.admin_port}",
            "JAY_NATIVE_ADDR": f"127.0.0.1:{self.native_port}",
            "JAY_RATE_LIMIT": "0",
        } | variables
        self.starts = 0
        self.process = None
        self.program = JAY
        # Words before it, for starts under another one.
        self.launcher = []
        # Words behind it.
        self.arguments = []

    @property
    def speaks_tls(self) -> bool:
        return "JAY_TLS_CERT" in self.variables or "--tls-self-signed" in self.arguments

    @property
    def scheme(self) -> str:
        return "https" if self.speaks_tls else "http"

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def admin_endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.admin_port}"

    @property
    def log(self) -> Path:
        """Standard output of the latest start."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log.{self.starts}")

    @property
    def errors(self) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.err.{self.starts}")

    def environment(self) -> dict[str, str]:
        return clean_environment() | self.variables

    def spawn(self, **options) -> subprocess.Popen:
        self.starts += 1
        self.process = subprocess.Popen(
            [*self.launcher, self.program, *self.arguments], env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=self.log.open("wb"), stderr=self.errors.open("wb"), **options,
        )  # fmt: skip
        return self.process

    def start(self) -> "Server":
        self.spawn()
        return self.wait_until_ready()

    def wait_until_ready(self) -> "Server":
        deadline = time.monotonic() + 30
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"no start (exit code {self.process.poll()}):\n{self.errors.read_text()}{self.log.read_text()[-2000:]}"
                )
            time.sleep(0.01)
        return self

    def ready(self) -> bool:
        try:
            # Whose certificate it is does not matter here.
            context = ssl._create_unverified_context()
            with urllib.request.urlopen(f"{self.admin_endpoint}/health/ready", timeout=5, context=context) as answer:
                return answer.status == 200
        except OSError:
            return False

    def refused(self) -> str:
        """Starts it, which must fail; what it says on standard error."""
        process = self.spawn()
        try:
            assert process.wait(timeout=20) == 1, process.returncode
        finally:
            self.kill()
        said = self.errors.read_text()
        assert said.startswith("jay: ") and said.count("\n") == 1, said
        return said

    def stop(self) -> int:
        """Ends it in order; its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=60)
        finally:
            process.kill()

    def kill(self) -> None:
        """kill -9."""
        process, self.process = self.process, None
        if process:
            process.kill()
            process.wait()

    def print_config(self, *arguments: str) -> str:
        return subprocess.run(
            [JAY, "print-config", *arguments], env=self.environment(), check=True, capture_output=True, text=True
        ).stdout

    def credentials(self) -> dict[str, str]:
        return json.loads(self.print_config("--json"))

    def client_environment(self) -> dict[str, str]:
        """What `print-config` exports, for programs that are clients."""
        known = self.credentials()
        return clean_environment() | {
            "AWS_ACCESS_KEY_ID": known["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": known["secret_access_key"],
            "AWS_DEFAULT_REGION": known["region"],
            "AWS_ENDPOINT_URL": known["endpoint_url"],
        }

    def client(self, timeout: float = 30) -> "Client":
        known = self.credentials()
        return Client(self.port, known["access_key_id"], known["secret_access_key"], timeout)

    def peak_rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def code(self) -> str | None:
        """The S3 error code."""
        text = self.body.decode(errors="replace")
        return text.split("<Code>")[1].split("</Code>")[0] if "<Code>" in text else None

    def __repr__(self) -> str:
        return f"{self.status} {self.headers} {self.body[:500]!r}"


class Client:
    """One connection, signing by SigV4. Not for several threads."""

    def __init__(self, port: int, access_key_id: str, secret: str, timeout: float = 30, region: str = "us-east-1"):
        self.port, self.access_key_id, self.secret, self.region = port, access_key_id, secret, region
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.signing_keys = {}

    def headers(
        self, method: str, path: str, query: str = "", payload_sha256: str = UNSIGNED,
        headers: dict[str, str] | None = None, now: datetime.datetime | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """`headers` with what a signed request needs. `path` is percent-encoded, `query` in canonical form."""
        now = now or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        signed = {
            "host": f"127.0.0.1:{self.port}",
            "x-amz-content-sha256": payload_sha256,
            "x-amz-date": stamp,
        } | {name.lower(): value for name, value in (headers or {}).items()}
        names = sorted(name for name in signed if name == "host" or name.startswith(("x-amz-", "content-md5")))
        canonical = "\n".join(
            [method, path, query, *(f"{name}:{signed[name].strip()}" for name in names), "", ";".join(names), payload_sha256]
        )
        scope = f"{day}/{self.region}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.digest(self.signing_key(day), to_sign.encode(), "sha256").hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return signed

    def signing_key(self, day: str) -> bytes:
        if day not in self.signing_keys:
            key = b"AWS4" + self.secret.encode()
            for part in [day, self.region, "s3", "aws4_request"]:
                key = hmac.digest(key, part.encode(), "sha256")
            self.signing_keys[day] = key
        return self.signing_keys[day]

    def request(
        self, method: str, path: str, query: str = "", body: bytes = b"",
        headers: dict[str, str] | None = None, now: datetime.datetime | None = None, payload_sha256: str | None = None,
    ) -> Answer:  # fmt: skip
        payload_sha256 = payload_sha256 or hashlib.sha256(body).hexdigest()
        signed = self.headers(method, path, query, payload_sha256, headers, now)
        connection = self.connection
        connection.putrequest(method, path + (f"?{query}" if query else ""), skip_host=True, skip_accept_encoding=True)
        for name, value in signed.items():
            connection.putheader(name, value)
        if "transfer-encoding" not in signed and "content-length" not in signed:
            connection.putheader("content-length", str(len(body)))
        try:
            connection.endheaders(body or None)
            return Answer(connection.getresponse())
        except BaseException:
            connection.close()
            raise

    def head_bytes(self, method: str, path: str, query: str = "", headers: dict[str, str] | None = None, **options) -> bytes:
        """The head of a signed request as it goes over the wire, for tests that send the body by hand."""
        signed = self.headers(method, path, query, headers=headers, **options)
        lines = [f"{method} {path}{'?' if query else ''}{query} HTTP/1.1", *(f"{k}: {v}" for k, v in signed.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def socket(self) -> socket.socket:
        """A connection of its own."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=self.connection.timeout)


def key_path(bucket: str, key: str) -> str:
    return f"/{bucket}/" + urllib.parse.quote(key, safe="/-_.~")


def read_answer(stream: socket.socket) -> Answer | None:
    """The answer on a raw connection; None when it was closed without one."""
    response = http.client.HTTPResponse(stream)
    try:
        response.begin()
        return Answer(response)
    except (http.client.BadStatusLine, ConnectionError):
        return None


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()] if directory.exists() else []
