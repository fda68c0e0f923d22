"""What readers of the documents type, in a shell of theirs: with our ports and directories in the place of the usual ones."""

import json
import subprocess
import sys
from pathlib import Path

from jay_testing import JAY, Server, clean_environment


class Shell:
    """Bash that ends with the first command that fails, in a directory and for a server."""

    def __init__(self, server: Server, directory: Path, **variables: str):
        directory.mkdir(exist_ok=True)
        self.server, self.directory, self.variables = server, directory, variables
        self.replaced = {"/var/lib/jay": str(server.data_dir)}
        for host in ["localhost", "127.0.0.1", "jay.example"]:
            self.replaced |= {f"{host}:9000": f"127.0.0.1:{server.port}", f"{host}:9001": f"127.0.0.1:{server.admin_port}"}

    def ours(self, text: str) -> str:
        for theirs, ours in self.replaced.items():
            text = text.replace(theirs, ours)
        return text

    def environment(self) -> dict[str, str]:
        where = {name: value for name, value in self.server.variables.items() if name.endswith(("_ADDR", "_DIR"))}
        inherited = clean_environment()
        programs = f"{JAY.parent}:{Path(sys.executable).parent}:{inherited['PATH']}"
        return inherited | where | self.variables | {"PATH": programs, "HOME": str(self.directory)}

    def command(self, script: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", self.ours(script)]

    def run(self, script: str) -> str:
        """What it prints; it must succeed."""
        done = subprocess.run(
            self.command(script), env=self.environment(), cwd=self.directory, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, script: str):
        """The same as JSON."""
        return json.loads(self.run(script))

    def start(self, script: str) -> Server:
        """Runs it until the server answers, which is to be stopped by its owner."""
        self.server.starts += 1
        self.server.process = subprocess.Popen(
            self.command(script), env=self.environment(), cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=self.server.log.open("wb"), stderr=self.server.errors.open("wb"),
        )  # fmt: skip
        self.server.wait_until_ready()
        return self.server
