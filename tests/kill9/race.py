"""Many writers want one key under one condition: one wins, also when the server dies meanwhile."""

import dataclasses
import http.client
import random
import threading
import time

import s3
from jay_testing import Answer, Client, Server, key_path
from ledger import Failure, Object, Piece

WRITERS = 64
# Every so many of them completes a multipart upload instead of putting.
BY_PARTS_EACH = 4


@dataclasses.dataclass
class Writer:
    """One attempt to write the key."""

    client: Client
    new: Object
    upload_id: str | None = None
    # None while not answered.
    status: int | None = None
    failure: Exception | None = None

    def prepare(self, key: str) -> None:
        """Sends the one part, if it has one."""
        if self.new.by_parts:
            request = s3.create_upload(key, {})
            request.check(answer := request.send(self.client))
            self.upload_id = s3.field(answer.body.decode(), "UploadId")
            request = s3.upload_part(key, self.upload_id, 1, self.new.pieces[0])
            request.check(request.send(self.client))

    def write(self, key: str, condition: dict[str, str]) -> None:
        if self.upload_id:
            request = s3.complete_upload(key, self.upload_id, {1: self.new.pieces[0]}, condition)
        else:
            request = s3.Request("PUT", key, body=self.new.body(), headers=condition)
        answer = request.send(self.client)
        if answer.status == 412:
            request.status, request.says = 412, "PreconditionFailed"
        request.check(answer)
        self.status = answer.status


@dataclasses.dataclass
class Race:
    """What goes on from race to race."""

    server: Server
    chance: random.Random
    clients: list[Client]
    # How long the latest race took, to die in the midst of the next.
    seconds: float = 0.2
    number: int = 0

    def race(self) -> tuple[str, Object]:
        """Two on one new key: while it is absent, and against what it then holds."""
        self.number += 1
        key, told = f"race {self.number}", []
        there = self.run(key, None, {"if-none-match": "*"}, told)
        if there:
            there = self.run(key, there, {"if-match": f'"{there.etag}"'}, told)
        return "; ".join(told), there

    def run(self, key: str, before: Object | None, condition: dict[str, str], told: list[str]) -> Object | None:
        """All write at once; what is under the key then."""
        # All of one size, else only small ones win.
        size = self.chance.choice([1, 1000, 200_000])
        writers = [Writer(client, self.new_object(key, n, size)) for n, client in enumerate(self.clients)]
        for writer in writers:
            writer.prepare(key)
        dies = self.chance.random() < 0.5
        self.let_loose(writers, key, condition, self.chance.uniform(0, self.seconds) if dies else None)
        won = [writer for writer in writers if writer.status == 200]
        lost = [writer for writer in writers if writer.status == 412]
        unanswered = [writer for writer in writers if writer.status is None]
        if len(won) > 1 or (not dies and (len(won) != 1 or unanswered)):
            raise Failure(f"{key} {condition}: {len(won)} won, {len(lost)} lost, {len(unanswered)} were not answered")
        # Who lost, lost to somebody: with an answer to it the write of the winner is acknowledged too.
        allowed = [writer.new for writer in won or unanswered] + ([before] if not won and not lost else [])
        there = self.look(key, allowed)
        self.uploads_are([w for w in writers if w.upload_id and w.new != there], key)
        told.append(f"{len(won)} won, {len(lost)} lost" + (f", killed before {len(unanswered)} answers" if dies else ""))
        return there

    def let_loose(self, writers: list[Writer], key: str, condition: dict[str, str], dies_after: float | None) -> None:
        gate = threading.Barrier(len(writers) + 1)

        def write(writer: Writer) -> None:
            gate.wait()
            try:
                writer.write(key, condition)
            except (OSError, http.client.HTTPException):
                pass
            except Exception as failure:
                writer.failure = failure

        threads = [threading.Thread(target=write, args=[writer]) for writer in writers]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.monotonic()
        if dies_after is not None:
            time.sleep(dies_after)
            self.server.kill()
        for thread in threads:
            thread.join()
        if dies_after is not None:
            self.server.start()
            for client in self.clients:
                client.connection.close()
        else:
            self.seconds = time.monotonic() - started
        for writer in writers:
            if writer.failure:
                raise writer.failure

    def look(self, key: str, allowed: list[Object | None]) -> Object | None:
        answer: Answer = self.clients[0].request("GET", key_path(s3.BUCKET, key))
        if answer.status == 404 and None in allowed:
            return None
        for entry in allowed:
            if entry and answer.status == 200 and answer.body == entry.body() and answer.headers["etag"] == f'"{entry.etag}"':
                return entry
        raise Failure(f"{key}: none of the {len(allowed)} possible states, but {len(answer.body)} bytes: {answer}")

    def uploads_are(self, losers: list[Writer], key: str) -> None:
        """The uploads of those who lost are open, and no other; then they are aborted."""
        found = set(s3.list_uploads(self.clients[0]))
        if found != (expected := {writer.upload_id for writer in losers}):
            raise Failure(f"{key}: open uploads differ, expected {sorted(expected)}, found {sorted(found)}")
        for writer in losers:
            request = s3.abort_upload(key, writer.upload_id)
            request.check(request.send(writer.client))

    def new_object(self, key: str, number: int, size: int) -> Object:
        name = f"{key} of {number}, {self.chance.random()}"
        return Object((Piece(name, size),), number % BY_PARTS_EACH == 0, "")
