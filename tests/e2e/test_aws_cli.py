"""The AWS CLI, version 1, as its users type it."""

import filecmp
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

# Above it the CLI turns to multipart uploads.
FILE_BYTES_MAX = 8 << 20


@pytest.mark.weakness(11)
def test_mb_cp_ls_rm_rb(aws, tmp_path):
    source = tmp_path / "a file.txt"
    source.write_text("hello\n")
    aws("s3", "mb", "s3://cli-bucket")
    assert "cli-bucket" in aws("s3", "ls")
    aws("s3", "cp", source, "s3://cli-bucket/dir/ä b.txt")
    assert "PRE dir/" in aws("s3", "ls", "s3://cli-bucket")
    assert "6 dir/ä b.txt" in aws("s3", "ls", "--recursive", "s3://cli-bucket")
    aws("s3", "cp", "s3://cli-bucket/dir/ä b.txt", tmp_path / "back")
    assert filecmp.cmp(source, tmp_path / "back", shallow=False)
    assert "BucketNotEmpty" in aws("s3", "rb", "s3://cli-bucket", check=False)
    aws("s3", "rm", "s3://cli-bucket/dir/ä b.txt")
    assert aws("s3", "ls", "--recursive", "s3://cli-bucket", check=False) == ""
    aws("s3", "cp", source, "s3://cli-bucket/again")
    aws("s3", "rb", "--force", "s3://cli-bucket")
    assert "cli-bucket" not in aws("s3", "ls")


def test_errors_are_those_of_s3(aws, tmp_path):
    assert "NoSuchBucket" in aws("s3", "ls", "s3://no-such-bucket-here", check=False)
    assert "404" in aws("s3", "cp", "s3://default/no-such-key", tmp_path / "x", check=False)
    assert "NoSuchKey" in aws("s3api", "get-object", "--bucket", "default", "--key", "no", tmp_path / "x", check=False)


def test_sync_of_a_tree(aws, bucket, tmp_path, everything):
    """Up, down elsewhere, and no difference; a second time there is nothing to do."""
    tree = tmp_path / "tree"
    files, size = (a_large_tree if everything else a_small_tree)(tree)
    print(f"{files} files, {size / 1e6:.0f} MB")
    aws("s3", "sync", "--only-show-errors", tree, f"s3://{bucket}/tree")
    assert aws("s3", "sync", tree, f"s3://{bucket}/tree") == ""
    back = tmp_path / "back"
    aws("s3", "sync", "--only-show-errors", f"s3://{bucket}/tree", back)
    subprocess.run(["diff", "-r", tree, back], check=True)
    (tree / "one more").write_text("x")
    assert aws("s3", "sync", tree, f"s3://{bucket}/tree").count("upload:") == 1
    aws("s3", "rm", "--recursive", "--only-show-errors", f"s3://{bucket}/tree")
    assert aws("s3", "ls", "--recursive", f"s3://{bucket}", check=False) == ""


def a_small_tree(tree: Path) -> tuple[int, int]:
    library = Path(sysconfig.get_paths()["stdlib"])
    names = ["asyncio", "email", "encodings", "http", "importlib", "json", "logging", "unittest", "xml"]
    return link([library / name for name in names], tree, files_min=250, bytes_min=3_000_000)


def a_large_tree(tree: Path) -> tuple[int, int]:
    """At least 10,000 files and 500 MB of what is installed here."""
    roots = [sys.base_prefix, "/usr/include", "/usr/share", "/usr/lib", "/usr/local"]
    found = link(map(Path, roots), tree, files_min=10_000, bytes_min=500_000_000, stop=True)
    assert found[0] >= 10_000 and found[1] >= 500_000_000, found
    return found


def link(roots, tree: Path, files_min: int, bytes_min: int, stop: bool = False) -> tuple[int, int]:
    """Copies the plain files below `roots`; until both minima are reached if `stop`."""
    files = size = 0
    for number, root in enumerate(roots):
        for directory, _, names in os.walk(root):
            if directory.endswith("__pycache__"):
                continue
            for name in names:
                source = Path(directory, name)
                if source.is_symlink() or not source.is_file() or source.stat().st_size >= FILE_BYTES_MAX:
                    continue
                target = tree / f"{number}" / source.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                files, size = files + 1, size + source.stat().st_size
                if stop and files >= files_min and size >= bytes_min:
                    return files, size
    assert files >= files_min and size >= bytes_min, (files, size)
    return files, size
