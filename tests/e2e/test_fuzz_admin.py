"""The admin API against its own OpenAPI document: schemathesis makes requests that fit it, and some that do not.

No answer is a failure of the server, each is one that the document describes, and nobody gets in without the admin token.
"""

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from test_quarantine import blob_of, flip

from jay_testing import Server, clean_environment

TOKEN, SECRET = "an admin token of the fuzz, 32+ bytes", "a signing secret of the fuzz, 32+ bytes"
SEED = {"JAY_SEED_TOKEN_ACCOUNT": "team", "JAY_SEED_TOKEN_ID": "KEY", "JAY_SEED_TOKEN_SECRET": "a secret of the fuzz"}
WITHOUT = [
    # What is not there (an account, an access key) is answered with 400 where the original does so, and a document cannot say
    # that a time has to be in the future.
    "positive_data_acceptance",
    # The same as ignored_auth, but it knows of no 429.
    "missing_required_header",
]
# A new bucket has no policy yet, and an access key that was revoked is still there to be seen.
CONFIGURATION = """\
[[operations]]
include-operation-id = "GetBucketPolicy"
checks.ensure_resource_availability.enabled = false
[[operations]]
include-operation-id = ["GetToken", "RevokeToken"]
checks.use_after_free.enabled = false
"""
# What must have been asked for with success, so that the checks see more than refusals.
OPERATIONS = {
    "OpenApi", "GetConfig", "CreateAccount", "ListAccounts", "PatchAccount", "CreateToken", "ListTokens", "GetToken", "RevokeToken",
    "Presign", "ListBuckets", "CreateBucket", "GetBucket", "DeleteBucket", "PutBucketPublic", "PutBucketQuota", "PutBucketPolicy",
    "GetBucketPolicy", "DeleteBucketPolicy", "Explain", "ListQuarantine", "GetMetrics", "GetUpkeep", "TakeSnapshot", "CreateBackup",
    "Fsck",
}  # fmt: skip


def test_every_answer_is_one_that_the_document_describes(new_server, everything, tmp_path):
    server = new_server(JAY_ADMIN_TOKEN=TOKEN, JAY_SIGNING_SECRET=SECRET, JAY_METRICS_PUBLIC="1", JAY_BUCKETS="photos", **SEED).start()
    quarantine(server)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            program, "--config-file", configuration, "run", f"{server.admin_endpoint}/_jay/openapi.json", "--header",
            f"Authorization: Bearer {TOKEN}", "--exclude-checks", ",".join(WITHOUT), "--seed", "1", "--max-examples",
            "300" if everything else "20", "--continue-on-failure", "--generation-database", "none", "--no-color",
        ],
        env=clean_environment() | {
            "SCHEMATHESIS_HOOKS": "fuzz_admin_hooks", "PYTHONPATH": str(Path(__file__).parent), "FUZZ_BACKUPS": str(tmp_path / "to"),
        },
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with urllib.request.urlopen(f"{server.admin_endpoint}/metrics", timeout=20) as metrics:
        text = metrics.read().decode()
    assert set(re.findall(r'port="admin",operation="(\w+)",outcome="success"} [1-9]', text)) >= OPERATIONS
    assert "panicked" not in server.errors.read_text() and server.stop() == 0


def quarantine(server: Server) -> None:
    """Makes something to be seen there."""
    client = server.client()
    assert client.request("PUT", "/photos/damaged", body=b"d" * 300_000).status == 200
    flip(blob_of(server, b"d"), 100_000)
    assert client.request("GET", "/photos/damaged").status == 500
