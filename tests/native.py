"""A client of the native protocol, version 1, that can also send what no client should. See native-client/wire/PROTOCOL.md."""

import contextlib
import socket
import ssl
import struct

MAGIC = b"JAY\0"
HEADER = struct.Struct(">BIIq")
OPERATIONS = {
    "CreateBucket": 0x01, "DeleteBucket": 0x02, "HeadBucket": 0x03, "ListBuckets": 0x04,
    "PutObject": 0x10, "GetObject": 0x11, "HeadObject": 0x12, "DeleteObject": 0x13, "ListObjects": 0x14,
    "CreateMultipartUpload": 0x20, "UploadPart": 0x21, "CompleteMultipartUpload": 0x22, "AbortMultipartUpload": 0x23,
    "ListParts": 0x24, "Ping": 0xFF,
}  # fmt: skip
OK, NOT_FOUND, CONFLICT, BAD_REQUEST, FORBIDDEN, INTERNAL = range(6)


class Closed(Exception):
    """The server has ended the connection."""


def hello(token_id: str, secret: str, version: int = 1) -> bytes:
    credentials = f"{token_id}:{secret}".encode()
    return MAGIC + bytes([version, 0]) + struct.pack(">H", len(credentials)) + credentials


def frame(operation: str | int, metadata: bytes = b"", data: bytes = b"", stream: int = 0, data_len: int | None = None) -> bytes:
    code = OPERATIONS.get(operation, operation)
    return HEADER.pack(code, stream, len(metadata), len(data) if data_len is None else data_len) + metadata + data


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def texts(*values: str) -> bytes:
    return b"".join(map(text, values))


def mapping(values: dict[str, str]) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(texts(*pair) for pair in values.items())


def numbers(*values: int) -> bytes:
    return struct.pack(f">H{len(values)}i", len(values), *values)


class Answer:
    def __init__(self, status: int, stream: int, metadata: bytes, data: bytes):
        self.status, self.stream, self.metadata, self.data = status, stream, metadata, data

    def texts(self, count: int) -> list[str]:
        """The first values of the metadata, which are texts."""
        found, at = [], 0
        for _ in range(count):
            (length,) = struct.unpack_from(">H", self.metadata, at)
            found.append(self.metadata[at + 2 : at + 2 + length].decode())
            at += 2 + length
        return found

    @property
    def code(self) -> str | None:
        """The code of a refusal."""
        return None if self.status == OK else self.texts(2)[1]

    def __repr__(self) -> str:
        return f"{self.status} {self.metadata[:300]!r} {len(self.data)} bytes"


class Native:
    """One connection."""

    def __init__(self, port: int, token_id: str = "", secret: str = "", timeout: float = 20, tls: bool = False):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = ssl._create_unverified_context().wrap_socket(self.socket)
        self.status = None
        if token_id:
            self.send(hello(token_id, secret))
            self.status = self.welcome()

    def welcome(self) -> int:
        answer = self.read(8)
        assert answer[:5] == MAGIC + b"\x01" and answer[6:] == b"\0\0", answer
        return answer[5]

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

    def answer(self) -> Answer:
        status, stream, meta_len, data_len = HEADER.unpack(self.read(HEADER.size))
        return Answer(status, stream, self.read(meta_len), self.read(data_len))

    def ask(self, operation: str | int, metadata: bytes = b"", data: bytes = b"", **more) -> Answer:
        self.send(frame(operation, metadata, data, **more))
        return self.answer()

    def put(self, bucket: str, key: str, data: bytes, content_type: str = "", metadata: dict[str, str] | None = None) -> Answer:
        return self.ask("PutObject", texts(bucket, key, content_type) + mapping(metadata or {}), data)

    def is_closed(self) -> bool:
        """Whether the server ends the connection without another byte."""
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(1) == b""
        return True

    def close(self) -> None:
        self.socket.close()
