"""Damage to the files of a stopped server, and where to do it: in the body of an object, in the parts of a blob file or
of a log file as FORMAT.md draws them. Bodies are found by their bytes, so none of this follows the index.
"""

import dataclasses
import mmap
import os
import struct
from pathlib import Path

from jay_testing import files_below

PAGE_BYTES = 4096
BLOCK_BYTES = 64 << 10
# Long enough that random bytes are nowhere else.
NEEDLE_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Place:
    """A byte of a file."""

    path: Path
    offset: int

    def plus(self, bytes_: int) -> "Place":
        return Place(self.path, self.offset + bytes_)

    def flip(self) -> None:
        """Turns one bit; twice is never."""
        with self.path.open("r+b") as file:
            byte = os.pread(file.fileno(), 1, self.offset)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 0x10]), self.offset)

    def zero(self) -> None:
        """The whole page."""
        with self.path.open("r+b") as file:
            os.pwrite(file.fileno(), bytes(PAGE_BYTES), self.offset // PAGE_BYTES * PAGE_BYTES)

    def cut(self) -> None:
        """The file ends before it."""
        os.truncate(self.path, self.offset)


def find(below: Path, body: bytes) -> list[Place]:
    """Where files below a directory (or a file) have a body, by its first bytes; a moved one may be in several places."""
    places = []
    for path in sorted(files_below(below)) if below.is_dir() else [below]:
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                at = content.find(body[:NEEDLE_BYTES])
                while at >= 0:
                    places.append(Place(path, at))
                    at = content.find(body[:NEEDLE_BYTES], at + 1)
    return places


@dataclasses.dataclass(frozen=True)
class BlobFile:
    """The file of a large body: body, zeros to a multiple of 8, tables of sums, description, tail."""

    path: Path
    body_bytes: int

    @staticmethod
    def of(data_dir: Path, body: bytes) -> "BlobFile":
        (place,) = find(data_dir / "objects", body)
        assert place.offset == 0, place
        return BlobFile(place.path, len(body))

    def body(self, offset: int) -> Place:
        return Place(self.path, offset)

    @property
    def table(self) -> Place:
        return Place(self.path, -(-self.body_bytes // 8) * 8)

    @property
    def description(self) -> Place:
        blocks = -(-self.body_bytes // BLOCK_BYTES)
        return self.table.plus(-(-blocks // (PAGE_BYTES // 4 - 1)) * PAGE_BYTES)

    @property
    def tail(self) -> Place:
        return Place(self.path, self.path.stat().st_size - 48)


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one sync made durable in a log file."""

    path: Path
    offset: int
    length: int
    first_lsn: int
    records: int

    @property
    def place(self) -> Place:
        return Place(self.path, self.offset)

    @property
    def footer(self) -> Place:
        return self.place.plus(self.length - 64)


def batches(path: Path) -> list[Batch]:
    """All that a log file holds, in order; seals have no records."""
    content, found, at = path.read_bytes(), [], PAGE_BYTES
    while at < len(content):
        end = at
        while content[end : end + 4] == b"JREC":
            changes, body = struct.unpack_from("<II", content, end + 24)
            end += -(-(40 + 4 * -(-body // BLOCK_BYTES) + changes + body) // 8) * 8
        length = -(-(end - at + 64) // PAGE_BYTES) * PAGE_BYTES
        footer = content[at + length - 64 : at + length]
        if footer[:4] != b"JEND":
            break
        first_lsn, records = struct.unpack_from("<QI", footer, 16)
        found.append(Batch(path, at, length, first_lsn, records))
        at += length
    return found


def packs(data_dir: Path) -> list[Path]:
    """The log files that have something in them, oldest first."""
    return [path for path in sorted((data_dir / "log").glob("*.pack")) if batches(path)]


def batch_of(data_dir: Path, body: bytes) -> Batch:
    """Where the log has an inline body, the newest of several places."""
    place = find(data_dir / "log", body)[-1]
    return next(batch for batch in batches(place.path) if batch.offset <= place.offset < batch.offset + batch.length)
