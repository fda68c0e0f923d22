"""What the server must hold, as the one who wrote it knows; bytes are derived from names instead of kept."""

import dataclasses
import functools
import hashlib
import random

# Bodies above it are files of their own; those up to it ride in the log.
INLINE_BYTES_MAX = 128 << 10

Tags = tuple[tuple[str, str], ...]


class Failure(Exception):
    """The server broke its promise."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A body as one request sent it. No name is used twice, and no part of one body occurs in another."""

    name: str
    size: int

    def body(self) -> bytes:
        return random.Random(self.name).randbytes(self.size)

    @property
    def is_file(self) -> bool:
        return self.size > INLINE_BYTES_MAX

    @functools.cached_property
    def md5(self) -> bytes:
        return hashlib.md5(self.body()).digest()


@dataclasses.dataclass(frozen=True)
class Object:
    """What is under a key. Copies share the pieces of their source, as the server shares its files."""

    pieces: tuple[Piece, ...]
    by_parts: bool
    # In its metadata.
    version: str
    tags: Tags = ()

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @functools.cached_property
    def etag(self) -> str:
        sums = [piece.md5 for piece in self.pieces]
        return f"{hashlib.md5(b''.join(sums)).hexdigest()}-{len(sums)}" if self.by_parts else sums[0].hex()

    def body(self) -> bytes:
        return b"".join(piece.body() for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class Upload:
    """An open multipart upload. Version and tags are those that its object will have."""

    key: str
    version: str
    tags: Tags
    parts: dict[int, Piece] = dataclasses.field(default_factory=dict)

    def with_part(self, number: int, piece: Piece) -> "Upload":
        return dataclasses.replace(self, parts=self.parts | {number: piece})

    def outline(self) -> tuple:
        """What the server tells of it: its key, and size and ETag of each part."""
        return self.key, {number: (piece.size, piece.md5.hex()) for number, piece in self.parts.items()}


@dataclasses.dataclass(frozen=True)
class Ledger:
    """All keys and open uploads of one owner. Each request makes a new one of it, or leaves it as it is."""

    objects: dict[str, Object] = dataclasses.field(default_factory=dict)
    uploads: dict[str, Upload] = dataclasses.field(default_factory=dict)

    def with_object(self, key: str, new: Object | None) -> "Ledger":
        return dataclasses.replace(self, objects=changed(self.objects, key, new))

    def with_upload(self, upload_id: str, new: Upload | None) -> "Ledger":
        return dataclasses.replace(self, uploads=changed(self.uploads, upload_id, new))

    def files(self) -> set[Piece]:
        """The pieces that are files of their own."""
        pieces = [piece for entry in self.objects.values() for piece in entry.pieces]
        pieces += [piece for upload in self.uploads.values() for piece in upload.parts.values()]
        return {piece for piece in pieces if piece.is_file}


def changed(entries: dict, name: str, new) -> dict:
    rest = {other: entry for other, entry in entries.items() if other != name}
    return rest if new is None else rest | {name: new}
