"""One who writes keys of its own and remembers what was acknowledged."""

import http.client
import random

import s3
from jay_testing import Answer, Client, key_path
from ledger import INLINE_BYTES_MAX, Failure, Ledger, Object, Piece, Tags, Upload

KEYS_PER_WORKER = 50
BODY_BYTES_MAX = 300 << 10
UPLOADS_MAX = 4
PART_NUMBER_MAX = 4
# The id of an upload whose Create is not answered yet.
UNNAMED = "?"
OTHER_ETAG = "0" * 32


class Worker:
    """Owns some keys: nobody else writes them, so it knows the answer to each of its requests.

    It sends one request at a time. When the server dies, what it holds is `ledger`, or `in_flight`.
    """

    def __init__(self, number: int, seed: int):
        self.random = random.Random(f"{seed}/{number}")
        self.name = f"w{number}"
        # Names that sort into each other's, some odd.
        self.keys = [f"{n:03}/w{number} +%&<é>{'x' * (n % 60)}" for n in range(KEYS_PER_WORKER)]
        self.ledger = Ledger()
        # With the effect of a request that was sent and not answered; None when there was none.
        self.in_flight: Ledger | None = None
        self.versions = 0
        self.acknowledged = {}
        self.failure = None

    def load(self, client: Client) -> None:
        """Writes until the server is gone."""
        try:
            while True:
                self.step(client)
        except (OSError, http.client.HTTPException):
            pass
        except Exception as failure:
            self.failure = failure

    def step(self, client: Client) -> None:
        kinds = {
            self.put: 24, self.put_if: 14, self.delete: 10, self.copy: 14, self.tag: 8,
            self.create: 7, self.part: 18, self.complete: 7, self.abort: 3,
        }  # fmt: skip
        kind = self.random.choices(list(kinds), list(kinds.values()))[0]
        request, after = kind()
        answer = self.exchange(client, request, after)
        if kind == self.copy and request.status == 200:
            self.etag_is(answer, after.objects[request.key])
        self.acknowledged[kind.__name__] = self.acknowledged.get(kind.__name__, 0) + 1

    def exchange(self, client: Client, request: s3.Request, after: Ledger) -> Answer:
        """Sends it, checks the answer, and writes its effect down."""
        self.in_flight = after
        answer = request.send(client)
        request.check(answer)
        if UNNAMED in after.uploads:
            after = named(after, s3.field(answer.body.decode(), "UploadId"))
        self.ledger, self.in_flight = after, None
        return answer

    @staticmethod
    def etag_is(answer: Answer, entry: Object) -> None:
        if s3.field(answer.body.decode(), "ETag").strip('"') != entry.etag:
            raise Failure(f"not the ETag {entry.etag}: {answer}")

    # What it does: a request with its only answer, and the ledger afterwards.

    def put(self) -> tuple[s3.Request, Ledger]:
        key, new = self.key(), self.new_object()
        return self.put_of(key, new), self.ledger.with_object(key, new)

    def put_if(self) -> tuple[s3.Request, Ledger]:
        """Under a condition, of which it is known whether it holds."""
        key, new = self.key(), self.new_object()
        request = self.put_of(key, new)
        holds = self.put_condition(key, request)
        return request, self.ledger.with_object(key, new) if holds else self.ledger

    def delete(self) -> tuple[s3.Request, Ledger]:
        key = self.key()
        return s3.Request("DELETE", key, status=204), self.ledger.with_object(key, None)

    def copy(self) -> tuple[s3.Request, Ledger]:
        source, target = self.key(exists=True), self.key()
        request = s3.Request("PUT", target, headers={"x-amz-copy-source": key_path(s3.BUCKET, source)}, says="<CopyObjectResult")
        entry = self.ledger.objects.get(source)
        replaces = self.random.random() < 0.5 or source == target
        version, tags = entry.version if entry else "", entry.tags if entry else ()
        if replaces:
            version = self.new_version()
            request.headers |= {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-version": version}
        if self.random.random() < 0.4:
            tags = self.new_tags()
            request.headers |= {"x-amz-tagging-directive": "REPLACE", "x-amz-tagging": s3.tagging_header(tags)}
        if entry is None:
            request.status, request.says = 404, "NoSuchKey"
            return request, self.ledger
        etag = self.random.choices([None, entry.etag, OTHER_ETAG], [6, 1, 1])[0]
        if etag:
            request.headers["x-amz-copy-source-if-match"] = f'"{etag}"'
        if etag == OTHER_ETAG:
            request.status, request.says = 412, "PreconditionFailed"
            return request, self.ledger
        return request, self.ledger.with_object(target, Object(entry.pieces, entry.by_parts, version, tags))

    def tag(self) -> tuple[s3.Request, Ledger]:
        key, tags = self.key(exists=True), self.new_tags()
        request = s3.Request("PUT", key, "tagging=", s3.tagging_xml(tags))
        if self.random.random() < 0.2:
            request, tags = s3.Request("DELETE", key, "tagging=", status=204), ()
        entry = self.ledger.objects.get(key)
        if entry is None:
            request.status, request.says = 404, "NoSuchKey"
            return request, self.ledger
        return request, self.ledger.with_object(key, Object(entry.pieces, entry.by_parts, entry.version, tags))

    def create(self) -> tuple[s3.Request, Ledger]:
        if len(self.ledger.uploads) >= UPLOADS_MAX:
            return self.part()
        upload = Upload(self.key(), self.new_version(), self.new_tags())
        request = s3.create_upload(upload.key, described(upload.version, upload.tags))
        return request, self.ledger.with_upload(UNNAMED, upload)

    def part(self) -> tuple[s3.Request, Ledger]:
        """A new part, or one in place of another."""
        if not self.ledger.uploads:
            return self.create()
        upload_id, upload = self.random.choice(list(self.ledger.uploads.items()))
        number, piece = self.random.randint(1, PART_NUMBER_MAX), self.new_piece(1)
        request = s3.upload_part(upload.key, upload_id, number, piece)
        return request, self.ledger.with_upload(upload_id, upload.with_part(number, piece))

    def complete(self) -> tuple[s3.Request, Ledger]:
        """With all parts or some; sometimes it must be refused, and leave the upload open."""
        ready = [upload_id for upload_id, upload in self.ledger.uploads.items() if upload.parts]
        if not ready:
            return self.part()
        upload_id = self.random.choice(ready)
        upload = self.ledger.uploads[upload_id]
        numbers = list(upload.parts)
        if self.random.random() < 0.3:
            numbers = self.random.sample(numbers, self.random.randint(1, len(numbers)))
        parts = {number: upload.parts[number] for number in numbers}
        if self.random.random() < 0.1:
            request = s3.complete_upload(upload.key, upload_id, parts | {numbers[0]: Piece("never sent", 1)}, {})
            request.status, request.says = 400, "InvalidPart"
            return request, self.ledger
        request, after = self.complete_with(upload_id, parts)
        holds = self.random.random() < 0.7 or self.put_condition(upload.key, request)
        return request, after if holds else self.ledger

    def complete_with(self, upload_id: str, parts: dict[int, Piece]) -> tuple[s3.Request, Ledger]:
        upload = self.ledger.uploads[upload_id]
        new = Object(tuple(parts[number] for number in sorted(parts)), True, upload.version, upload.tags)
        after = self.ledger.with_upload(upload_id, None).with_object(upload.key, new)
        return s3.complete_upload(upload.key, upload_id, parts, {}), after

    def abort(self) -> tuple[s3.Request, Ledger]:
        if not self.ledger.uploads:
            return self.delete()
        upload_id, upload = self.random.choice(list(self.ledger.uploads.items()))
        return s3.abort_upload(upload.key, upload_id), self.ledger.with_upload(upload_id, None)

    # What these are made of.

    def key(self, exists: bool = False) -> str:
        """One of its keys; `exists` prefers those with an object."""
        if exists and self.ledger.objects and self.random.random() < 0.9:
            return self.random.choice(list(self.ledger.objects))
        return self.random.choice(self.keys)

    def put_of(self, key: str, new: Object) -> s3.Request:
        return s3.Request("PUT", key, body=new.body(), headers=described(new.version, new.tags))

    def put_condition(self, key: str, request: s3.Request) -> bool:
        """Gives the request a condition and its answer; whether the condition holds."""
        entry = self.ledger.objects.get(key)
        wants = self.random.choice(["absent", "as it is", "other"])
        right = entry.etag if entry else OTHER_ETAG
        request.headers |= {
            "absent": {"if-none-match": "*"},
            "as it is": {"if-match": f'"{right}"'},
            "other": {"if-match": f'"{OTHER_ETAG}"'},
        }[wants]
        holds = entry is None if wants == "absent" else entry is not None and wants == "as it is"
        if not holds:
            absent = wants != "absent" and entry is None
            request.status, request.says = (404, "NoSuchKey") if absent else (412, "PreconditionFailed")
        return holds

    def new_version(self) -> str:
        self.versions += 1
        return f"{self.name}.{self.versions}"

    def new_piece(self, size_min: int = 0) -> Piece:
        limit = self.random.choices([1, 1024, INLINE_BYTES_MAX, BODY_BYTES_MAX], [1, 12, 4, 4])[0]
        edge = self.random.random() < 0.05
        size = INLINE_BYTES_MAX + self.random.choice([0, 1]) if edge else self.random.randrange(limit)
        return Piece(self.new_version(), max(size, size_min))

    def new_tags(self) -> Tags:
        count = self.random.choice([0, 0, 1, 3])
        return tuple((f"tag {n}", f"{self.random.randrange(1000)} é+/=") for n in range(count))

    def new_object(self) -> Object:
        piece = self.new_piece()
        return Object((piece,), False, piece.name, self.new_tags())

    # After the restart.

    def verify(self, client: Client, open_uploads: dict[str, str]) -> bool:
        """All is as acknowledged, or as that and the whole of the request in flight: whether that was kept."""
        mine = {upload_id: key for upload_id, key in open_uploads.items() if key in self.keys}
        possible = [self.ledger]
        if self.in_flight:
            news = [upload_id for upload_id in mine if upload_id not in self.ledger.uploads]
            possible.append(named(self.in_flight, news[0]) if len(news) == 1 else self.in_flight)
        objects = {key: self.look(client, key, possible) for key in self.keys}
        objects = {key: entry for key, entry in objects.items() if entry}
        uploads = {upload_id: (key, s3.list_parts(client, key, upload_id)) for upload_id, key in mine.items()}
        for ledger in possible:
            if objects == ledger.objects and uploads == outlines(ledger):
                kept = ledger is not self.ledger
                self.ledger, self.in_flight = ledger, None
                return kept
        raise Failure(self.difference(objects, uploads, possible))

    def look(self, client: Client, key: str, possible: list[Ledger]) -> Object | None:
        """What is under the key, which must be in one of the ledgers."""
        answer = client.request("GET", key_path(s3.BUCKET, key))
        allowed = [ledger.objects.get(key) for ledger in possible]
        if answer.status == 404 and None in allowed:
            return None
        tags = s3.get_tags(client, key) if answer.status == 200 else None
        for entry in allowed:
            if entry and answer.status == 200 and answer.body == entry.body():
                described_as = answer.headers.get("x-amz-meta-version"), answer.headers["etag"].strip('"'), tags
                if described_as == (entry.version, entry.etag, entry.tags):
                    return entry
        raise Failure(f"{key}: allowed were {allowed}, found {len(answer.body)} bytes, {tags}: {answer}")

    def difference(self, objects: dict, uploads: dict, possible: list[Ledger]) -> str:
        lines = [f"{self.name}: the server holds neither what was acknowledged nor that and the request in flight"]
        for ledger in possible:
            outline = outlines(ledger)
            lines.append("  it would be so, but for (expected, found):")
            lines += [f"    {key}: {ledger.objects.get(key)}, {objects.get(key)}" for key in differing(ledger.objects, objects)]
            lines += [f"    upload {name}: {outline.get(name)}, {uploads.get(name)}" for name in differing(outline, uploads)]
        return "\n".join(lines)

    def finish(self, client: Client) -> int:
        """Completes or aborts all that is open; how many were completed."""
        completed = 0
        for upload_id, upload in list(self.ledger.uploads.items()):
            if upload.parts and self.random.random() < 0.6:
                self.exchange(client, *self.complete_with(upload_id, upload.parts))
                completed += 1
            else:
                self.exchange(client, s3.abort_upload(upload.key, upload_id), self.ledger.with_upload(upload_id, None))
        return completed


def described(version: str, tags: Tags) -> dict[str, str]:
    return {"x-amz-meta-version": version} | ({"x-amz-tagging": s3.tagging_header(tags)} if tags else {})


def named(ledger: Ledger, upload_id: str) -> Ledger:
    """With the upload whose id was not known yet under its id."""
    upload = ledger.uploads.get(UNNAMED)
    return ledger.with_upload(UNNAMED, None).with_upload(upload_id, upload) if upload else ledger


def outlines(ledger: Ledger) -> dict[str, tuple]:
    return {upload_id: upload.outline() for upload_id, upload in ledger.uploads.items()}


def differing(one: dict, other: dict) -> list[str]:
    return [name for name in one | other if one.get(name) != other.get(name)]
