"""Full backups: made with and without a server, incremental, verified, and the way back when all is lost.

The contents are small, large, multipart and copied objects; a backup that comes back must have them byte for byte, with
their metadata, and nothing that came later.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import boto
from test_quarantine import admin, flip

from jay_testing import JAY, Server, files_below

KIB = 1024


class Store:
    """A server with objects of every kind, and what they hold."""

    def __init__(self, server: Server):
        self.server = server
        self.s3 = boto(server)
        self.bodies = {}

    def put(self, key: str, size: int):
        self.bodies[key] = os.urandom(size)
        self.s3.put_object(Bucket="default", Key=key, Body=self.bodies[key], Metadata={"of": key})

    def put_parts(self, key: str, sizes: list[int]):
        parts = [os.urandom(size) for size in sizes]
        upload = self.s3.create_multipart_upload(Bucket="default", Key=key, Metadata={"of": key})["UploadId"]
        at = {"Bucket": "default", "Key": key, "UploadId": upload}
        tags = [self.s3.upload_part(**at, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(parts, 1)]
        listed = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
        self.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": listed})
        self.bodies[key] = b"".join(parts)

    def copy(self, source: str, key: str):
        self.s3.copy_object(Bucket="default", Key=key, CopySource=f"default/{source}")
        self.bodies[key] = self.bodies[source]

    def delete(self, key: str):
        self.s3.delete_object(Bucket="default", Key=key)
        del self.bodies[key]

    def fill(self):
        for n in range(20):
            self.put(f"small/{n}", 100 + n * 1000)
        self.put("large", 3_000_000)
        self.put("large, to be deleted", 400_000)
        self.put("empty", 0)
        self.put_parts("parts", [200_000, 5000, 300_000])
        self.copy("large", "copy of large")
        self.copy("parts", "copy of parts")
        self.copy("small/3", "copy of small")

    def change(self):
        """What comes after the backup: all of it in the log, some of it in files."""
        self.put("later", 5000)
        self.put("later and large", 600_000)
        self.put("small/1", 777)
        self.put_parts("later parts", [150_000, 10])
        for key in ["small/2", "large, to be deleted", "copy of parts"]:
            self.delete(key)


def must_hold(server: Server, bodies: dict[str, bytes]):
    s3 = boto(server)
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket="default").get("Contents", [])]
    assert listed == sorted(bodies, key=str.encode)
    for key, body in bodies.items():
        got = s3.get_object(Bucket="default", Key=key)
        assert got["Body"].read() == body, key
        if "copy" not in key:
            assert got["Metadata"] == {"of": key}


def backup(server: Server, verb: str, *arguments: str | Path, exit_code: int = 0):
    """`jay backup` as for this server: what it says as JSON, or on standard error when it fails without."""
    done = subprocess.run(
        [JAY, "backup", verb, "--json", *map(str, arguments)], env=server.environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == exit_code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if done.stdout else done.stderr


@pytest.fixture
def store(new_server) -> Store:
    store = Store(new_server(JAY_S3_MIN_PART_SIZE="0").start())
    store.fill()
    return store


def bodies_in(vault: Path) -> list[Path]:
    return files_below(vault / "objects")


def test_everything_acknowledged_is_back_when_the_index_is_destroyed(store, tmp_path):
    server = store.server
    assert backup(server, "create", "--to", tmp_path / "vault")["backup"]["left_out"] == 0
    assert admin(server, "POST", "snapshots")[0] == 201
    store.change()
    server.kill()
    (server.data_dir / "index.redb").write_bytes(os.urandom(100_000))
    server.start()
    must_hold(server, store.bodies)
    assert admin(server, "GET", "upkeep")[1]["index_rebuilt"]


@pytest.mark.weakness(10)
def test_the_last_backup_is_back_when_the_whole_directory_is_destroyed(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    made = backup(server, "create", "--to", vault)
    before = dict(store.bodies)
    assert made["backup"]["objects"] == len(before) and made["backup"]["left_out"] == 0
    store.change()
    credentials = server.credentials()
    server.kill()
    shutil.rmtree(server.data_dir)

    restored = backup(server, "restore", "--from", vault)
    assert restored["whole"] and restored["objects"] == len(before)
    assert restored["files_restored"] == len(bodies_in(vault)) == 4
    server.start()
    assert server.credentials() == credentials, "the secrets came along"
    must_hold(server, before)
    # It goes on from there, and so do the backups.
    store.s3.put_object(Bucket="default", Key="new", Body=b"n" * 300_000)
    again = backup(server, "create", "--to", vault)
    assert (again["files_copied"], again["backup"]["left_out"]) == (1, 0)
    server.stop()
    assert backup(server, "verify", "--from", vault)["whole"]


@pytest.mark.weakness(10)
def test_what_is_lost_but_for_the_log_comes_back_up_to_the_present(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    backup(server, "create", "--to", vault)
    old = set(files_below(server.data_dir / "objects"))
    store.change()
    server.kill()
    for path in [*old, server.data_dir / "index.redb", *files_below(server.data_dir / "backup")]:
        path.unlink(missing_ok=True)
    restored = backup(server, "restore", "--from", vault, "--check")
    assert restored["whole"] and restored["objects"] == len(store.bodies)
    assert (restored["files_restored"], restored["log_files_restored"]) == (4, 0)
    server.start()
    must_hold(server, store.bodies)


def test_what_the_backup_cannot_give_back_is_named(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    server.stop()
    backup(server, "create", "--to", vault)
    large = next(path for path in bodies_in(vault) if path.stat().st_size > 3_000_000)
    large.unlink()
    shutil.rmtree(server.data_dir)
    restored = backup(server, "restore", "--from", vault, exit_code=1)
    assert not restored["whole"]
    assert [damage["what"] for damage in restored["quarantine"]] == ["default/copy of large", "default/large"]
    server.start()
    s3 = boto(server)
    with pytest.raises(s3.exceptions.ClientError):
        s3.get_object(Bucket="default", Key="large")
    assert s3.get_object(Bucket="default", Key="parts")["Body"].read() == store.bodies["parts"]
    assert s3.get_object(Bucket="default", Key="small/7")["Body"].read() == store.bodies["small/7"]


def test_the_next_backup_copies_only_new_files(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    first = backup(server, "create", "--to", vault)
    # A copy shares the file of its source; small bodies and parts lie in the log.
    assert first["files_copied"] == first["backup"]["files"] == len(bodies_in(vault)) == 4
    written = {path: path.stat().st_mtime_ns for path in bodies_in(vault)}
    for n in range(3):
        store.put(f"more/{n}", 200_000 + n)
    store.delete("large, to be deleted")
    server.stop()
    second = backup(server, "create", "--to", vault)
    assert (second["files_copied"], second["backup"]["files"]) == (3, 6)
    assert all(path.stat().st_mtime_ns == at for path, at in written.items())
    nothing = backup(server, "create", "--to", vault)
    assert nothing["files_copied"] == 0

    listed = backup(server, "list", "--from", vault)["backups"]
    assert [made["name"] for made in listed] == [made["backup"]["name"] for made in [nothing, second, first]]
    assert backup(server, "verify", "--from", vault, "--backup", first["backup"]["name"])["whole"]
    kept = backup(server, "create", "--to", vault, "--keep", "2")
    assert kept["removed"] == [second["backup"]["name"], first["backup"]["name"]]
    assert len(bodies_in(vault)) == 6 and backup(server, "verify", "--from", vault)["whole"]
    # Each of those that are kept is whole by itself.
    for made in backup(server, "list", "--from", vault)["backups"]:
        fresh = Server(tmp_path / made["name"], **{"JAY_S3_MIN_PART_SIZE": "0"})
        assert backup(fresh, "restore", "--from", vault, "--backup", made["name"])["whole"]


@pytest.mark.weakness(10)
def test_a_backup_of_a_busy_server_is_of_one_moment(store, tmp_path):
    """While it is made, objects come, go and are collected; what it holds is whole."""
    server, vault = store.server, tmp_path / "vault"
    for n in range(30):
        store.put(f"busy/{n:02}", 300_000)
    command = [JAY, "backup", "create", "--json", "--to", str(vault)]
    process = subprocess.Popen(command, env=server.environment(), stdout=subprocess.PIPE)
    rounds = 0
    while process.poll() is None:
        for n in range(30):
            store.put(f"busy/{n:02}", 300_000) if n % 2 else store.s3.delete_object(Bucket="default", Key=f"busy/{n:02}")
        rounds += 1
    assert process.returncode == 0
    made = json.loads(process.stdout.read())
    assert made["backup"]["left_out"] == 0 and rounds > 0
    server.stop()
    verified = backup(server, "verify", "--from", vault)
    assert verified["whole"] and verified["objects"] == made["backup"]["objects"]


def test_a_flipped_bit_and_a_missing_file_are_found(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    server.stop()
    backup(server, "create", "--to", vault)
    assert backup(server, "verify", "--from", vault)["whole"]
    large = next(path for path in bodies_in(vault) if path.stat().st_size > 3_000_000)
    flip(large, 1_234_567)
    verified = backup(server, "verify", "--from", vault, exit_code=1)
    assert {damage["what"] for damage in verified["damage"]} == {"default/large", "default/copy of large"}
    flip(large, 1_234_567)
    large.rename(tmp_path / "aside")
    verified = backup(server, "verify", "--from", vault, exit_code=1)
    assert {damage["why"] for damage in verified["damage"]} == {"it is missing"} and verified["damaged"] == 2
    (tmp_path / "aside").rename(large)

    # A small body lies in a file of the log.
    body = store.bodies["small/19"]
    log = next(path for path in files_below(vault / "log") if body in path.read_bytes())
    flip(log, log.read_bytes().index(body) + 500)
    verified = backup(server, "verify", "--from", vault, exit_code=1)
    assert [damage["what"] for damage in verified["damage"]] == ["default/small/19"] and verified["findings"]
    flip(log, log.read_bytes().index(body[:400]) + 500)
    assert backup(server, "verify", "--from", vault)["whole"]

    rows = next((vault / "snapshots").iterdir())
    flip(rows, rows.stat().st_size // 2)
    assert backup(server, "verify", "--from", vault, exit_code=1)["findings"]
    # A missing file that the store still has is copied again.
    flip(rows, rows.stat().st_size // 2)
    large.unlink()
    assert backup(server, "create", "--to", vault)["files_copied"] == 1
    assert backup(server, "verify", "--from", vault)["whole"]


def test_a_damaged_body_does_not_keep_the_others_from_being_saved(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    server.stop()
    path = next(path for path in files_below(server.data_dir / "objects") if path.stat().st_size > 3_000_000)
    flip(path, 99_999)
    made = backup(server, "create", "--to", vault, exit_code=1)
    assert made["backup"]["left_out"] == 1 and made["files_copied"] == 3
    assert made["damage"][0]["what"] in ("default/large", "default/copy of large")
    flip(path, 99_999)
    made = backup(server, "create", "--to", vault)
    assert (made["backup"]["left_out"], made["files_copied"]) == (0, 1)


def test_directories_that_do_not_fit_are_refused(store, new_server, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    server.stop()
    backup(server, "create", "--to", vault)
    other = new_server("other").start()
    for verb, flag, where, why in [
        ("create", "--to", vault, "another store"),
        ("restore", "--from", vault, "in use"),
    ]:
        assert why in backup(other, verb, flag, where, exit_code=1)
    other.stop()
    before = {path: path.read_bytes() for path in files_below(other.data_dir)}
    assert "another store" in backup(other, "restore", "--from", vault, exit_code=1)
    assert "another store" in backup(other, "create", "--to", vault, exit_code=1)
    assert {path: path.read_bytes() for path in files_below(other.data_dir)} == before

    photos = new_server("photos")
    photos.data_dir.mkdir()
    (photos.data_dir / "holiday.jpg").write_bytes(b"")
    assert "holiday.jpg" in backup(photos, "restore", "--from", vault, exit_code=1)
    assert "holiday.jpg" in backup(server, "create", "--to", photos.data_dir, exit_code=1)
    assert os.listdir(photos.data_dir) == ["holiday.jpg"]
    assert "lie in one another" in backup(server, "create", "--to", server.data_dir / "backup", exit_code=1)
    assert "no store" in backup(new_server("nowhere"), "create", "--to", vault, exit_code=1)
    assert not (tmp_path / "nowhere").exists()
    for verb in ["list", "verify", "restore"]:
        assert backup(server, verb, "--from", tmp_path / "missing", exit_code=1)


def test_a_restore_that_was_cut_short_is_no_store_until_it_is_done(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"
    for n in range(40):
        store.put(f"more/{n}", 2_000_000)
    server.stop()
    backup(server, "create", "--to", vault)
    before = dict(store.bodies)
    fresh = Server(tmp_path / "fresh", JAY_S3_MIN_PART_SIZE="0")
    command = [JAY, "backup", "restore", "--from", str(vault)]
    process = subprocess.Popen(command, env=fresh.environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(bodies_in(fresh.data_dir)) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert len(bodies_in(fresh.data_dir)) < len(bodies_in(vault)), "it was faster than we are"
    # No credentials of its own either: the store's will come.
    assert "restore" in fresh.refused()
    assert backup(fresh, "restore", "--from", vault)["whole"]
    fresh.start()
    must_hold(fresh, before)
    assert fresh.stop() == 0


def test_people_can_read_what_it_says(store, tmp_path):
    server, vault = store.server, tmp_path / "vault"

    def say(*arguments: str) -> str:
        done = subprocess.run([JAY, "backup", *arguments], env=server.environment(), capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    made = say("create", "--to", str(vault))
    assert "copied 4 files" in made and f"{len(store.bodies)} objects" in made
    assert f"{len(store.bodies)} objects" in say("list", "--from", str(vault))
    assert "all that this backup needs is there" in say("verify", "--from", str(vault))
    server.stop()
    shutil.rmtree(server.data_dir)
    assert "brought back 4 files" in say("restore", "--from", str(vault))
    for path in [vault, *vault.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"


def test_a_link_that_leads_nowhere_is_refused_and_the_server_lives(new_server, tmp_path):
    server = new_server().start()
    (tmp_path / "link").symlink_to(tmp_path / "not mounted")
    command = [JAY, "backup", "create", "--to", str(tmp_path / "link/jay")]
    done = subprocess.run(command, env=server.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "cannot be used" in done.stderr and "200" not in done.stderr, done
    assert server.ready() and server.stop() == 0
    # Without a server it makes the backup itself.
    done = subprocess.run(command, env=server.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "cannot be used" in done.stderr, done
