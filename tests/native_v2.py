"""A client of the native protocol, version 2, that shares no code with ours and can also send what no client should.

See native-client/wire/PROTOCOL.md. Metadata are written as dicts of tags; what is read comes back as such, values as bytes.
"""

import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct

import anycrc

MAGIC = b"JAY\0"
HEADER = struct.Struct(">BIIQ")
HEAD_BYTES = HEADER.size + 8
OPERATIONS = {
    "CreateBucket": 0x01, "DeleteBucket": 0x02, "HeadBucket": 0x03, "ListBuckets": 0x04,
    "PutObject": 0x10, "GetObject": 0x11, "HeadObject": 0x12, "DeleteObject": 0x13, "ListObjects": 0x14, "CopyObject": 0x15,
    "GetRanges": 0x16, "HeadObjects": 0x17, "DeleteObjects": 0x18, "DeletePrefix": 0x19,
    "GetObjectTagging": 0x1A, "PutObjectTagging": 0x1B, "DeleteObjectTagging": 0x1C,
    "CreateMultipartUpload": 0x20, "UploadPart": 0x21, "CompleteMultipartUpload": 0x22, "AbortMultipartUpload": 0x23,
    "ListParts": 0x24, "ListMultipartUploads": 0x25, "GetServerInfo": 0x30, "OpenSession": 0x31, "Ping": 0xFF,
    "chunk": 0xF0, "end": 0xF1, "cancel": 0xF2, "go-away": 0xF3, "ping": 0xF4, "pong": 0xF5,
}  # fmt: skip
OK, FAILED, USE_BULK = range(3)
PROCEED, REFUSED, VERSION_MISMATCH, UNAVAILABLE = range(4)
BLOCK, CHUNK = 64 << 10, 256 << 10
CRC32C, CRC64 = anycrc.Model("CRC32-ISCSI"), anycrc.Model("CRC64-NVME")


class Closed(Exception):
    """The server has ended the connection."""


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def encode(value) -> bytes:
    """A value: text, bytes, a flag, a dict of tags (a struct), a list. Numbers are packed by whoever knows their width."""
    match value:
        case bytes() | bytearray():
            return bytes(value)
        case str():
            return value.encode()
        case bool():
            return bytes([value])
        case dict():
            return b"".join(field(tag, value[tag]) for tag in sorted(value, key=lambda tag: tag & 0x7FFF))
        case list():
            return b"".join(u32(len(entry)) + entry for entry in map(encode, value))
    raise TypeError(value)


def field(tag: int, value) -> bytes:
    value = encode(value)
    return struct.pack(">HI", tag, len(value)) + value


def mapping(values: dict[str, str]) -> list[str]:
    """A map is a list of names and values by turns, names ascending."""
    return [text for name in sorted(values, key=str.encode) for text in (name, values[name])]


def fields(metadata: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(metadata):
        tag, length = struct.unpack_from(">HI", metadata, at)
        found[tag & 0x7FFF] = metadata[at + 6 : at + 6 + length]
        at += 6 + length
    assert at == len(metadata) and list(found) == sorted(found), metadata[:300]
    return found


def entries(value: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(value):
        (length,) = struct.unpack_from(">I", value, at)
        found.append(value[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def sums(data: bytes) -> list[bytes]:
    return [u32(CRC32C.calc(data[at : at + BLOCK])) for at in range(0, len(data), BLOCK)]


def frame(code: str | int, metadata: bytes | dict = b"", data: bytes = b"", stream: int = 0, data_len: int | None = None) -> bytes:
    metadata = encode(metadata)
    length = len(data) if data_len is None else data_len
    return head(OPERATIONS.get(code, code), stream, len(metadata), length, CRC32C.calc(metadata)) + metadata + data


def head(code: int, stream: int, meta_len: int, data_len: int, metadata_sum: int) -> bytes:
    """What stands before the metadata of a frame, with its own sum behind it."""
    summed = HEADER.pack(code, stream, meta_len, data_len) + u32(metadata_sum)
    return summed + u32(CRC32C.calc(summed))


def whole(data: bytes, **wrong) -> dict:
    """The head of a body that is in the data of its frame."""
    return {1: sums(data), 2: u64(CRC64.calc(data))} | {int(tag[1:]): value for tag, value in wrong.items()}


def chunk(stream: int, data: bytes) -> bytes:
    return frame("chunk", {1: sums(data)}, data, stream)


def end(stream: int, body: bytes, **wrong) -> bytes:
    told = {1: u64(len(body)), 2: u64(CRC64.calc(body))} | {int(tag[1:]): value for tag, value in wrong.items()}
    # What is zero is left out.
    return frame("end", {tag: value for tag, value in told.items() if encode(value).strip(b"\0")}, b"", stream)


class Frame:
    def __init__(self, code: int, stream: int, metadata: bytes, data: bytes):
        self.code, self.stream, self.data = code, stream, data
        self.fields = fields(metadata)

    def text(self, tag: int) -> str:
        return self.fields.get(tag, b"").decode()

    def number(self, tag: int) -> int:
        return number(self.fields.get(tag, b""))

    @property
    def failure(self) -> int | None:
        """The number of the error, if it is one."""
        return self.number(1) if self.code == FAILED else None

    @property
    def s3_code(self) -> str | None:
        return self.text(3) if self.code == FAILED else None

    @property
    def body(self) -> dict[int, bytes] | None:
        return fields(self.fields[0x4004]) if 0x4004 in self.fields else None

    def checked(self) -> bytes:
        """The data, held against the sums."""
        told = self.body if self.code == OK else self.fields
        assert entries(told.get(1, b"")) == sums(self.data), self
        if self.code == OK and 2 in told:
            assert number(told[2]) == CRC64.calc(self.data), self
        return self.data

    def __repr__(self) -> str:
        return f"{self.code:#04x} stream {self.stream} {self.fields} {len(self.data)} bytes"


class Handshake:
    """Its bytes, one by one, so that tests can change each of them."""

    def __init__(self, token_id: str, secret: str, bulk: bool = False, version: int = 2, more: dict | None = None):
        self.key = hmac.digest(secret.encode(), b"jay native 2", "sha256")
        hello = encode({1: token_id, 2: os.urandom(16), 3: "test"} | ({0x8004: True} if bulk else {}) | (more or {}))
        self.hello = MAGIC + bytes([version, 0]) + struct.pack(">H", len(hello)) + hello
        self.answer = b""

    def transcript(self, exported: bytes | None = None) -> bytes:
        told = b"".join(u32(len(part)) + part for part in [self.hello, self.answer])
        return hashlib.sha256(told + (b"\0" if exported is None else b"\1" + exported)).digest()

    def proof(self, side: bytes, exported: bytes | None = None) -> bytes:
        return hmac.digest(self.key, side + self.transcript(exported), "sha256")


class NativeV2:
    """One connection."""

    # Whether the server's proof is not looked at.
    believes = False

    def __init__(
        self, port: int, token_id: str = "", secret: str = "", bulk: bool = False, timeout: float = 20, buffer: int = 0,
        believes: bool = False,
    ):  # fmt: skip
        self.believes = believes
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.streams = iter(range(1, 1 << 31))
        self.step = self.shake_hands(Handshake(token_id, secret, bulk)) if token_id else None

    def shake_hands(self, handshake: Handshake, proof: bytes | None = None) -> int:
        """How the server went on in the end; it has proven itself when that is `PROCEED`, unless it is believed unseen."""
        self.send(handshake.hello)
        step, rest = self.read_step()
        if step != PROCEED:
            return step
        handshake.answer = rest
        self.server = fields(rest[8:])
        self.send(handshake.proof(b"client") if proof is None else proof)
        step, rest = self.read_step()
        assert self.believes or step != PROCEED or rest[8:] == handshake.proof(b"server"), "this server has not the secret"
        return step

    def read_step(self) -> tuple[int, bytes]:
        first = self.read(8)
        # A server without this version says so as version 1 does.
        assert first[:5] == MAGIC + b"\x02" or first == MAGIC + b"\x01\x02\0\0", first
        rest = self.read(int.from_bytes(first[6:], "big"))
        return first[5], first + rest

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            with contextlib.suppress(ConnectionResetError):
                if more := self.socket.recv(min(count - len(found), 1 << 20)):
                    found += more
                    continue
            raise Closed(bytes(found))
        return bytes(found)

    def frame(self) -> Frame:
        told = self.read(HEAD_BYTES)
        code, stream, meta_len, data_len = HEADER.unpack_from(told)
        metadata = self.read(meta_len)
        assert told == head(code, stream, meta_len, data_len, CRC32C.calc(metadata)), told
        return Frame(code, stream, metadata, self.read(data_len))

    def ask(self, operation: str | int, asked: dict, data: bytes | None = None, call: dict | None = None) -> Frame:
        """Asks and waits for the answer, to this and nothing else."""
        stream = next(self.streams)
        body = {0xC004: whole(data)} if data is not None else {}
        self.send(frame(operation, asked | body | (call or {}), data or b"", stream))
        answer = self.frame()
        assert answer.stream == stream, answer
        return answer

    def put(self, bucket: str, key: str, data: bytes, **more) -> Frame:
        return self.ask("PutObject", {1: bucket, 2: key} | more.pop("fields", {}), data, **more)

    def get(self, bucket: str, key: str, **more) -> Frame:
        return self.ask("GetObject", {1: bucket, 2: key} | more.pop("fields", {}), **more)

    def upload(self, operation: str, asked: dict, body: bytes, size: bool = True, piece: int = CHUNK) -> Frame:
        """Sends a body in chunks; of a length that is told, or not."""
        stream = next(self.streams)
        head = {3: True} | ({4: u64(len(body))} if size else {})
        self.send(frame(operation, asked | {0xC004: head}, b"", stream))
        for at in range(0, len(body), piece):
            self.send(chunk(stream, body[at : at + piece]))
        self.send(end(stream, body))
        return self.frame()

    def download(self, operation: str, asked: dict) -> tuple[Frame, bytes]:
        """An answer and its body, however that comes."""
        answer = self.ask(operation, asked)
        assert answer.code == OK, answer
        if not answer.body or number(answer.body.get(3, b"")) == 0:
            return answer, answer.checked()
        body = bytearray()
        while (piece := self.frame()).code == OPERATIONS["chunk"]:
            body += piece.checked()
        assert piece.code == OPERATIONS["end"] and 3 not in piece.fields, piece
        assert piece.number(1) == len(body) and piece.number(2) == CRC64.calc(bytes(body)), piece
        return answer, bytes(body)

    def is_closed(self) -> bool:
        """Whether the server ends the connection without another byte."""
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(1) == b""
        return True

    def close(self) -> None:
        self.socket.close()


def over_tls(port: int) -> ssl.SSLSocket:
    return ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))
