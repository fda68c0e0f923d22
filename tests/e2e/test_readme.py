"""The commands that the README shows work as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jay_testing import JAY, Server, clean_environment

README = Path(__file__).resolve().parents[2] / "README.md"
TOKEN = "an admin token of the README, 32+ bytes"


def blocks(section: str) -> str:
    """All commands below a headline, as one script: later ones use what earlier ones set."""
    text = README.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) > 1, found
    return "\n".join(found)


@pytest.fixture
def server(new_server):
    return new_server(JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET="a signing secret of the README, 32+").start()


def run(script: str, server: Server, directory: Path) -> str:
    """What it prints, with our ports in the place of the usual ones."""
    script = script.replace("localhost:9000", f"127.0.0.1:{server.port}").replace("localhost:9001", f"127.0.0.1:{server.admin_port}")
    environment = clean_environment() | {"JAY_ADMIN_ADDR": f"127.0.0.1:{server.admin_port}", "JAY_ADMIN_TOKEN": TOKEN}
    environment["PATH"] = f"{JAY.parent}:{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, cwd=directory, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_accounts_access_keys_and_policies(server, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    said = run(blocks("Accounts, access keys and policies"), server, work)
    # By the bearer, and by the link.
    assert said.count("hello\n") == 2 and "Token revoked." in said
    assert '"reason": "allowed_by_statement"' in said and '"sid": "office"' in said
    tokens = {name: json.loads((work / f"{name}.json").read_text()) for name in ["deploy", "reader", "ci"]}
    assert tokens["ci"]["allowed_actions"] == ["*"] and tokens["reader"]["prefix_scope"] == ["images/"]
    left = run("jay-admin list-tokens; jay-admin buckets show public-assets", server, work)
    assert left.count('"status": "revoked"') == 1 and left.count('"status": "active"') == 2
    assert '"public_read": true' in left and '"quota_bytes": 1000000000' in left and '"has_policy": true' in left
