"""`jay fsck`: it finds what is damaged, writes nothing, and `--accept-loss` brings a store with a hole in its log back."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import boto
from damage import PAGE_BYTES, batch_of, find, packs

from jay_testing import JAY, Server

SMALL = 40


def jay(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([JAY, *arguments], env=server.environment(), capture_output=True, text=True, timeout=120)


def fsck(server: Server, *arguments: str) -> tuple[int, dict]:
    done = jay(server, "fsck", "--json", *arguments)
    assert done.stderr == "" or done.returncode == 2, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def state(directory: Path) -> dict[str, str]:
    """Every file with its content."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def filled(new_server):
    """A server that is running, and the bodies of its objects."""
    server = new_server().start()
    s3 = boto(server)
    bodies = {f"small-{n:02}": os.urandom(900) for n in range(SMALL)} | {f"large-{n}": os.urandom(700_000) for n in range(3)}
    for key, body in bodies.items():
        s3.put_object(Bucket="default", Key=key, Body=body)
    return server, bodies


def test_a_whole_store_is_clean_in_use_and_at_rest(filled):
    server, bodies = filled
    code, report = fsck(server)
    assert code == 0 and report["clean"] and report["objects"] == len(bodies), report
    assert report["bytes"] == sum(map(len, bodies.values())) and report["bytes_were_read"]
    assert server.stop() == 0
    before = state(server.data_dir)
    for arguments in ([], ["--fast"]):
        code, report = fsck(server, *arguments)
        assert code == 0 and report["objects"] == len(bodies), report
    done = jay(server, "fsck")
    assert done.returncode == 0 and "all is as it was put" in done.stdout
    assert state(server.data_dir) == before
    empty = Server(server.data_dir.with_name("nothing"))
    done = jay(empty, "fsck")
    assert done.returncode == 2 and "no store" in done.stderr and not empty.data_dir.exists()


def test_damage_is_found_and_nothing_is_written(filled):
    server, bodies = filled
    assert server.stop() == 0
    (blob,) = find(server.data_dir, bodies["large-0"])
    blob.plus(300_000).flip()
    (inline,) = find(server.data_dir, bodies["small-03"])
    inline.plus(100).flip()
    (gone,) = find(server.data_dir, bodies["large-1"])
    gone.path.unlink()
    before = state(server.data_dir)
    done = jay(server, "fsck", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and not report["clean"]
    found = {finding.get("key") for finding in report["findings"]}
    assert {"large-0", "large-1"} <= found, report["findings"]
    # The small one is in the log, which says so even where it does not open any more.
    assert "small-03" in found or report["losses"] or any(f["kind"] == "log" for f in report["findings"])
    assert jay(server, "fsck").returncode == 1
    assert state(server.data_dir) == before


def test_a_loss_in_the_log_is_named_and_can_be_accepted(filled):
    server, bodies = filled
    server.kill()
    # A batch that was durable, and that the index does not have: it was never applied.
    (server.data_dir / "index.redb").unlink()
    batch = batch_of(server.data_dir, bodies["small-07"])
    batch.place.plus(8).flip()
    said = Server(server.data_dir).refused()
    assert "jay fsck" in said, said
    before = state(server.data_dir)
    code, report = fsck(server)
    assert code == 1 and report["refused"] and len(report["losses"]) == 1, report
    assert state(server.data_dir) == before
    loss = report["losses"][0]
    assert loss["first_lsn"] <= loss["last_lsn"]
    pack, offset = loss["hole"].split("@")
    refused = jay(server, "fsck", "--accept-loss", f"{pack}@{int(offset) + PAGE_BYTES}")
    assert refused.returncode == 2 and state(server.data_dir) == before, refused.stderr
    accepted = jay(server, "fsck", "--accept-loss", loss["hole"])
    assert accepted.returncode == 0 and "can be served again" in accepted.stdout, accepted.stderr
    server.start()
    s3, lost = boto(server), []
    for key, body in bodies.items():
        try:
            assert s3.get_object(Bucket="default", Key=key)["Body"].read() == body, key
        except s3.exceptions.ClientError:
            lost.append(key)
    assert "small-07" in lost and len(lost) <= 1 + loss["last_lsn"] - loss["first_lsn"], lost
    s3.put_object(Bucket="default", Key="small-07", Body=b"anew")
    assert server.stop() == 0
    code, report = fsck(server)
    assert code == 0 and not report["losses"], report
    assert packs(server.data_dir)


def test_only_the_operator_may_check(filled):
    server, _ = filled
    other = Server(server.data_dir, JAY_ADMIN_TOKEN="x" * 40, JAY_SIGNING_SECRET="y" * 40)
    other.admin_port = server.admin_port
    other.variables["JAY_ADMIN_ADDR"] = f"127.0.0.1:{server.admin_port}"
    done = jay(other, "fsck")
    assert done.returncode == 2 and "unauthorized" in done.stderr


def test_the_server_of_another_store_does_not_answer_for_this_one(filled, new_server):
    server, _ = filled
    stranger = new_server("other").start()
    credentials = {name: stranger.environment()[name] for name in ["JAY_ADMIN_ADDR"]}
    token = json.loads(jay(stranger, "print-config", "--json").stdout)["admin_token"]
    environment = server.environment() | credentials | {"JAY_ADMIN_TOKEN": token, "JAY_SIGNING_SECRET": "s" * 40}
    for command in [["fsck"], ["backup", "create", "--to", str(server.data_dir.parent / "backups")]]:
        done = subprocess.run([JAY, *command], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "another store" in done.stderr, done


def test_a_damaged_end_of_a_file_is_found_before_a_backup_needs_it(filled):
    server, bodies = filled
    assert server.stop() == 0
    file = next(path for path in (server.data_dir / "objects").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    code, report = fsck(server)
    assert code == 1 and [finding["kind"] for finding in report["findings"]] == ["object"], report
    server.start()
    s3 = boto(server)
    for key, body in bodies.items():
        assert s3.get_object(Bucket="default", Key=key)["Body"].read() == body, key
