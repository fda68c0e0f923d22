"""Failing system calls: strace attached to some threads of a server, answering for the kernel.

A call that is injected is not made: the server sees the error, the disk nothing. Threads are picked by name,
which tells what is hit: the log, the index, log files made ahead, the collector, or bodies, which any worker
of the runtime writes. What was hit is read from strace's output, so that no test passes because nothing failed.
"""

import dataclasses
import functools
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

from jay_testing import Server

# Who makes which calls: names of threads as the kernel shows them.
LOG, INDEX, PACKS, COLLECTOR, BODIES = "jay-committer", "jay-applier", "jay-packs", "jay-collector", "tokio-rt-worker"
# All writing of bytes at a position, whichever of the calls the server takes for it.
WRITES = "pwrite64,pwritev,pwritev2"
ATTACH_SECONDS = 20


@functools.cache
def missing() -> str | None:
    """Why nothing can be injected on this machine; None when it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    with subprocess.Popen(["sleep", "60"]) as victim:
        try:
            tracer = subprocess.run(
                ["timeout", "--signal=INT", "1", "strace", "-o", "/dev/null", "-p", str(victim.pid)],
                capture_output=True, text=True,
            )  # fmt: skip
        finally:
            victim.kill()
    return None if "attached" in tracer.stderr else f"strace may not attach to another process: {tracer.stderr.strip()}"


@dataclasses.dataclass(frozen=True)
class Hit:
    """One call that failed because it was told to."""

    call: str
    error: str
    # What strace shows: descriptors with their paths.
    arguments: str


class Injection:
    """`calls` of some threads fail with `error` while it is entered.

    `when` counts the calls of each thread, in strace's words: `3` only the third, `1+` all.
    """

    effect = "error"

    def __init__(self, server: Server, threads: list[str], calls: str, error: str, when: str = "1+"):
        self.output = server.data_dir.with_name(f"{server.data_dir.name}.strace")
        self.output.unlink(missing_ok=True)
        self.pid = server.process.pid
        self.threads = threads
        self.options = ["-y", "-e", f"trace={calls}", "-e", "signal=none", "-e", f"inject={calls}:{self.effect}={error}:when={when}"]
        self.process = None

    def __enter__(self) -> "Injection":
        ids = self.thread_ids()
        assert ids, f"process {self.pid} has no thread {self.threads}"
        attach = [word for thread in ids for word in ("-p", thread)]
        self.process = subprocess.Popen(
            ["strace", "-o", self.output, *self.options, *attach], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.wait_for_attached(len(ids))
        return self

    def thread_ids(self) -> list[str]:
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return [task.name for task in tasks if (task / "comm").read_text().strip() in self.threads]

    def wait_for_attached(self, count: int) -> None:
        said, deadline = b"", time.monotonic() + ATTACH_SECONDS
        while said.count(b" attached") < count:
            ready = select.select([self.process.stderr], [], [], deadline - time.monotonic())[0]
            piece = self.process.stderr.read1() if ready else b""
            said += piece
            # A thread of the runtime may have ended in between: the others do.
            count -= piece.count(b"No such process")
            if not piece:
                self.__exit__()
                raise AssertionError(f"strace did not attach: {said.decode()}")

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=ATTACH_SECONDS)
        finally:
            self.process.kill()
            self.process.stderr.close()

    def hits(self) -> list[Hit]:
        """What failed so far."""
        return hits_in(self.output)


class Delay(Injection):
    """`calls` of some threads are made, and take as much longer as is said in place of an error: `5ms`. A slow disk anywhere."""

    effect = "delay_exit"


def hits_in(output: Path) -> list[Hit]:
    """The failures that a file of strace's tells of."""
    hits, unfinished = [], {}
    for line in output.read_text(errors="replace").splitlines() if output.exists() else []:
        # Several threads share the file, each line begins with its id then; another one may come between a call and its end.
        thread = re.match(r"\d* *", line)[0]
        if line.endswith("<unfinished ...>"):
            unfinished[thread] = line.removesuffix("<unfinished ...>")
        if "resumed>" in line:
            line = unfinished.pop(thread, "") + line.split("resumed>", 1)[1]
        found = re.search(r"(\w+)\((.*)\) += -1 (E\w+) .*\(INJECTED\)$", line)
        if found:
            hits.append(Hit(found[1], found[3], found[2]))
    return hits


def launcher(output: Path, calls: str, error: str, when: str) -> list[str]:
    """Words before a program so that calls of it fail from its start on; each of its threads counts for itself.

    The process that is started is the program, and strace one beside it.
    """
    return [
        "strace", "-D", "-f", "--seccomp-bpf", "-qq", "-y", "-o", str(output),
        "-e", f"trace={calls}", "-e", "signal=none", "-e", f"inject={calls}:error={error}:when={when}",
    ]  # fmt: skip
