"""`jay rekey`: a new signing secret, and the access keys work as before."""

import json
import stat
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from jay_testing import JAY, Client, Server, clean_environment

ADMIN, OLD, NEW, OTHER = (f"{name} " * 8 for name in ["admin", "old-s", "new-s", "other"])
SEEDS = {f"KEY{n}": f"secret-{n}-of-the-test" for n in range(3)}


def rekey(server: Server, *arguments: str, old: str | None = None, new: str | None = None) -> subprocess.CompletedProcess:
    """Runs it as its owner would. None of its secrets may be in what it says."""
    secrets = {"JAY_OLD_SIGNING_SECRET": old, "JAY_SIGNING_SECRET": new}
    environment = clean_environment() | {"JAY_DATA_DIR": str(server.data_dir)}
    environment |= {name: value for name, value in secrets.items() if value is not None}
    done = subprocess.run([JAY, "rekey", *arguments], env=environment, capture_output=True, text=True, timeout=60)
    for secret in [old, new, *SEEDS.values(), *kept(server).values()]:
        assert not isinstance(secret, str) or len(secret) < 16 or secret not in done.stdout + done.stderr
    assert done.returncode == 0 or done.returncode == 1 and not done.stdout and done.stderr.startswith("jay: "), done
    return done


def kept(server: Server) -> dict:
    """The file of secrets that Jay made."""
    path = server.data_dir / "credentials"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(server: Server, **changes: str) -> None:
    """Changes that file as a crash at some point would have left it."""
    (server.data_dir / "credentials").write_text(json.dumps(kept(server) | changes))


def seeded(server: Server) -> Server:
    """Gives a store several access keys."""
    for id, secret in SEEDS.items():
        seed = {"JAY_SEED_TOKEN_ACCOUNT": "default", "JAY_SEED_TOKEN_ID": id, "JAY_SEED_TOKEN_SECRET": secret}
        server.variables |= seed
        server.start()
        assert server.stop() == 0
    for name in seed:
        del server.variables[name]
    return server


def signs(server: Server, id: str, secret: str) -> int:
    return Client(server.port, id, secret).request("GET", "/").status


def bears(server: Server, id: str, secret: str) -> int:
    request = urllib.request.Request(f"{server.endpoint}/", headers={"authorization": f"Bearer {id}:{secret}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def must_work(server: Server) -> None:
    """Starts the server: every key gets in, by signature and as bearer, and nothing else does."""
    server.start()
    made = kept(server)
    keys = SEEDS | ({made["access_key_id"]: made["secret_access_key"]} if made else {})
    for id, secret in keys.items():
        assert (signs(server, id, secret), bears(server, id, secret)) == (200, 200), id
        assert (signs(server, id, "x" * 40), bears(server, id, "x" * 40)) == (403, 403), id
    assert server.stop() == 0


@pytest.fixture
def configured(new_server) -> Server:
    return seeded(new_server(JAY_ADMIN_TOKEN=ADMIN, JAY_SIGNING_SECRET=OLD))


@pytest.fixture
def made(new_server) -> Server:
    return seeded(new_server())


def test_keys_go_on_under_the_new_secret_alone(configured):
    done = rekey(configured, old=OLD, new=NEW)
    assert done.stdout.startswith("Rekeyed 3 token(s) successfully.\n"), done
    assert "sealed under" in configured.refused()
    configured.variables["JAY_SIGNING_SECRET"] = NEW
    must_work(configured)
    again = rekey(configured, "--data-dir", str(configured.data_dir), old=OLD, new=NEW)
    assert again.returncode == 0 and "3 were under the new secret already." in again.stdout, again
    must_work(configured)


def test_what_is_wrong_changes_nothing(configured, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, old, new, why in [
        ([], OTHER, NEW, "the old signing secret is not the one"),
        ([], OLD, OLD, "are the same"),
        ([], OLD, "short", "JAY_SIGNING_SECRET has 5 bytes"),
        ([], "short", NEW, "JAY_OLD_SIGNING_SECRET has 5 bytes"),
        ([], OLD, "", "JAY_SIGNING_SECRET has 0 bytes"),
        ([], OLD, None, "JAY_SIGNING_SECRET is not set"),
        ([], None, NEW, "JAY_OLD_SIGNING_SECRET is not set"),
        ([], None, None, "no credentials of its own"),
        (["--lost"], None, None, "no credentials of its own"),
        (["--lost"], OLD, NEW, "leave one of the two out"),
        (["--data-dir", str(empty)], OLD, NEW, "holds no store"),
        (["--data-dir", str(tmp_path / "missing")], OLD, NEW, "holds no store"),
    ]:
        done = rekey(configured, *arguments, old=old, new=new)
        assert done.returncode == 1 and why in done.stderr, done
    assert not list(empty.iterdir()) and not (tmp_path / "missing").exists()
    must_work(configured)


def test_a_store_in_use_is_left_alone(configured):
    configured.start()
    done = rekey(configured, old=OLD, new=NEW)
    assert done.returncode == 1 and "stop the server first" in done.stderr, done
    assert configured.stop() == 0
    must_work(configured)


def test_secrets_are_no_arguments(configured):
    for flag in ["--old-secret", "--new-secret"]:
        done = subprocess.run([JAY, "rekey", flag, OLD], env=clean_environment(), capture_output=True, text=True)
        assert done.returncode == 2 and OLD not in done.stderr, done


def test_with_a_lost_secret_bearers_go_on(configured):
    done = rekey(configured, "--lost", new=NEW)
    assert done.returncode == 0 and "3 were given up" in done.stdout, done
    configured.variables["JAY_SIGNING_SECRET"] = NEW
    configured.start()
    for id, secret in SEEDS.items():
        assert (signs(configured, id, secret), bears(configured, id, secret), bears(configured, id, "x" * 40)) == (403, 200, 403)
    assert configured.stop() == 0
    # Who knows the secret of a key gives it back its seal.
    configured.variables |= {"JAY_SEED_TOKEN_ACCOUNT": "default", "JAY_SEED_TOKEN_ID": "KEY0", "JAY_SEED_TOKEN_SECRET": "x" * 20}
    configured.start()
    assert signs(configured, "KEY0", "x" * 20) == 403 and signs(configured, "KEY0", SEEDS["KEY0"]) == 403
    assert configured.stop() == 0
    configured.variables["JAY_SEED_TOKEN_SECRET"] = SEEDS["KEY0"]
    configured.start()
    assert signs(configured, "KEY0", SEEDS["KEY0"]) == 200 and signs(configured, "KEY1", SEEDS["KEY1"]) == 403
    assert configured.stop() == 0
    # The next change finds one key to seal, and two that were given up before.
    done = rekey(configured, old=NEW, new=OTHER)
    assert done.returncode == 0 and "Rekeyed 1 token(s)" in done.stdout and "2 were given up" in done.stdout, done
    configured.variables["JAY_SIGNING_SECRET"] = OTHER
    configured.start()
    assert signs(configured, "KEY0", SEEDS["KEY0"]) == 200 and bears(configured, "KEY1", SEEDS["KEY1"]) == 200
    assert configured.stop() == 0


def test_a_store_that_made_its_secrets_makes_a_new_one(made):
    before = kept(made)
    for _ in range(2):
        old = kept(made)["signing_secret"]
        done = rekey(made)
        assert done.stdout.startswith("Rekeyed 4 token(s) successfully.\n"), done
        now = kept(made)
        assert now["signing_secret"] != old and len(now["signing_secret"]) == 64
        assert now == before | {"signing_secret": now["signing_secret"]}
    assert stat.S_IMODE((made.data_dir / "credentials").stat().st_mode) == 0o600
    assert not list(made.data_dir.glob("credentials.*"))
    must_work(made)
    made.start()
    refused = rekey(made)
    assert refused.returncode == 1 and "stop the server first" in refused.stderr and kept(made) == now
    assert made.stop() == 0


@pytest.mark.parametrize("by", ["rekey", "serve"])
@pytest.mark.parametrize("resealed", [0, 4])
def test_a_crash_at_any_point_is_gone_on_from(made, resealed, by):
    """The file names both secrets; none or all of the keys are under the new one."""
    old, new = kept(made)["signing_secret"], "0123456789abcdef" * 4
    if resealed:
        assert rekey(made, old=old, new=new).returncode == 0
    keep(made, signing_secret=new, old_signing_secret=old)
    if by == "rekey":
        done = rekey(made)
        assert f"Rekeyed {4 - resealed} token(s) successfully." in done.stdout, done
        assert kept(made)["signing_secret"] == new and "old_signing_secret" not in kept(made)
    must_work(made)
    assert kept(made)["signing_secret"] == new and "old_signing_secret" not in kept(made)


def test_kill_9_at_any_time(made):
    environment = clean_environment() | {"JAY_DATA_DIR": str(made.data_dir)}
    started = time.monotonic()
    rekey(made)
    whole = time.monotonic() - started
    cut_short = 0
    for n in range(24):
        process = subprocess.Popen([JAY, "rekey"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(whole * n / 20)
        assert str(kept(made)["signing_secret"]) not in command_line(process.pid)
        process.kill()
        process.communicate()
        cut_short += "old_signing_secret" in kept(made)
        if n % 4 == 0:
            must_work(made)
    rekey(made)
    must_work(made)
    assert "old_signing_secret" not in kept(made), cut_short


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def test_a_lost_secret_of_the_file_is_replaced(made):
    keep(made, signing_secret="f" * 64)
    assert "sealed under" in made.refused()
    assert rekey(made).returncode == 1
    assert kept(made)["signing_secret"] == "f" * 64 and "old_signing_secret" not in kept(made)
    done = rekey(made, "--lost")
    assert done.returncode == 0 and "4 were given up" in done.stdout, done
    made.start()
    known = made.credentials()
    # The key of the file is known, so it signs again.
    assert signs(made, known["access_key_id"], known["secret_access_key"]) == 200
    assert (signs(made, "KEY0", SEEDS["KEY0"]), bears(made, "KEY0", SEEDS["KEY0"])) == (403, 200)
    assert made.stop() == 0
