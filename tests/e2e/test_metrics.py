"""What a server counts, as Jay's JSON and for Prometheus."""

import contextlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import injection
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jay_testing import Server, files_below

NAMES = [
    "uptime_seconds", "put_object_total", "get_object_total", "delete_object_total", "head_object_total",
    "list_objects_total", "create_bucket_total", "delete_bucket_total", "auth_failures", "checksum_failures",
    "fsync_failures", "objects_quarantined", "bytes_uploaded", "bytes_downloaded",
]  # fmt: skip


def get(server: Server, path: str, token: str | None) -> tuple[int, str, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{server.admin_endpoint}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def jay(server: Server) -> dict[str, int]:
    status, _, text = get(server, "/_jay/metrics", server.credentials()["admin_token"])
    assert status == 200
    return json.loads(text)


def prometheus(server: Server) -> dict[str, list]:
    """Samples by the name of their family, as a parser of that format reads them."""
    status, kind, text = get(server, "/metrics", server.credentials()["admin_token"])
    assert status == 200 and kind.startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(set(names)) == len(names), "a family comes twice"
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {family.name: family.samples for family in families}


def value(samples: list, name: str, **labels: str) -> float:
    found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def work(server: Server):
    client = server.client()
    assert client.request("PUT", "/work").status == 200
    for n in range(3):
        assert client.request("PUT", f"/work/k{n}", body=b"x" * 1000).status == 200
    assert client.request("GET", "/work/k0").status == 200
    assert client.request("GET", "/work/none").status == 404
    assert client.request("HEAD", "/work/k1").status == 200
    assert client.request("GET", "/work").status == 200
    assert client.request("GET", "/work", "list-type=2").status == 200
    for n in range(3):
        assert client.request("DELETE", f"/work/k{n}").status == 204
    assert client.request("DELETE", "/work").status == 204
    wrong = server.client()
    wrong.secret = "w" * 40
    assert wrong.request("GET", "/work").status == 403


def test_jays_names_count_what_they_say(new_server):
    server = new_server().start()
    before = jay(server)
    assert list(before) == NAMES
    assert all(type(number) is int for number in before.values())
    work(server)
    after = jay(server)
    uptime = after.pop("uptime_seconds")
    assert 0 <= uptime < 60
    assert {name: after[name] - before[name] for name in after} == {
        "put_object_total": 3, "get_object_total": 1, "delete_object_total": 3, "head_object_total": 1,
        "list_objects_total": 2, "create_bucket_total": 1, "delete_bucket_total": 1, "auth_failures": 1,
        "checksum_failures": 0, "fsync_failures": 0, "objects_quarantined": 0, "bytes_uploaded": 3000,
        "bytes_downloaded": after["bytes_downloaded"],
    }  # fmt: skip
    assert after["bytes_downloaded"] >= 1000


@pytest.mark.weakness(19)
def test_damage_is_counted(new_server):
    """The original never raised these two."""
    server = new_server().start()
    client = server.client()
    body = os.urandom(1 << 20)
    assert client.request("PUT", "/default/photo", body=body).status == 200
    [path] = [path for path in files_below(server.data_dir / "objects") if path.read_bytes()[:64] == body[:64]]
    with path.open("r+b") as file:
        file.seek(70_000)
        file.write(bytes([body[70_000] ^ 1]))
    # Refused as a whole, or cut off.
    with contextlib.suppress(http.client.HTTPException, OSError):
        assert client.request("GET", "/default/photo").status == 500
    deadline = time.monotonic() + 10
    while jay(server)["objects_quarantined"] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert jay(server)["checksum_failures"] >= 1 and jay(server)["objects_quarantined"] == 1


@pytest.mark.skipif(injection.missing() is not None, reason=injection.missing() or "")
def test_failed_syncs_are_counted(new_server):
    server = new_server().start()
    client = server.client()
    body = os.urandom(300_000)
    assert client.request("PUT", "/default/first", body=body).status == 200
    with injection.Injection(server, (injection.BODIES,), "fdatasync", "EIO") as failing:
        # A thread that the runtime has made since fails nothing; one of those before comes to its turn.
        deadline = time.monotonic() + 20
        while client.request("PUT", "/default/second", body=body).status != 500:
            assert time.monotonic() < deadline, "no sync failed"
        assert failing.hits()
    assert jay(server)["fsync_failures"] >= 1
    counted = prometheus(server)["jay_fsync_failures"]
    assert value(counted, "jay_fsync_failures_total") == jay(server)["fsync_failures"]


def test_prometheus_reads_them(new_server):
    server = new_server(JAY_RATE_LIMIT="0.001", JAY_RATE_BURST="20").start()
    work(server)
    client = server.client()
    refused = [client.request("GET", "/default").status for _ in range(12)].count(503)
    assert refused
    found = prometheus(server)

    done = {"port": "s3", "operation": "PutObject"}
    assert value(found["jay_requests"], "jay_requests_total", **done, outcome="success") == 3
    assert value(found["jay_requests"], "jay_requests_total", port="s3", operation="GetObject", outcome="client_error") == 1
    assert value(found["jay_request_bytes"], "jay_request_bytes_total", **done) == 3000
    durations = found["jay_request_duration_seconds"]
    assert value(durations, "jay_request_duration_seconds_count", **done) == 3
    buckets = [s for s in durations if s.name.endswith("_bucket") and done.items() <= s.labels.items()]
    bounds = [float(s.labels["le"]) for s in buckets]
    assert bounds == sorted(bounds) and bounds[-1] == float("inf")
    counts = [s.value for s in buckets]
    assert counts == sorted(counts) and counts[-1] == 3
    assert 0 < value(durations, "jay_request_duration_seconds_sum", **done) < 60
    for code, number in {"NoSuchKey": 1, "SignatureDoesNotMatch": 1, "SlowDown": refused}.items():
        assert value(found["jay_errors"], "jay_errors_total", port="s3", code=code) == number
    assert value(found["jay_rate_limited_requests"], "jay_rate_limited_requests_total") == refused
    assert value(found["jay_auth_failures"], "jay_auth_failures_total", port="s3") == 1
    assert value(found["jay_open_connections"], "jay_open_connections", port="s3") >= 1

    batches = found["jay_log_batch_transactions"]
    assert value(batches, "jay_log_batch_transactions_sum") >= value(batches, "jay_log_batch_transactions_count") >= 8
    syncs = found["jay_log_sync_seconds"]
    assert value(syncs, "jay_log_sync_seconds_count") >= 8 and value(syncs, "jay_log_sync_seconds_sum") > 0
    assert value(found["jay_log_bytes"], "jay_log_bytes_total") > 3000
    [info] = found["jay_build_info"]
    assert info.value == 1 and info.labels["version"]


def test_all_syncs_are_timed(new_server):
    server = new_server().start()
    before = prometheus(server)
    assert server.client().request("PUT", "/default/large", body=os.urandom(300_000)).status == 200
    after = prometheus(server)

    def more(family: str) -> float:
        return value(after[family], f"{family}_count") - value(before[family], f"{family}_count")

    assert more("jay_log_sync_seconds") >= 1
    # Those of its file and of its directory.
    assert more("jay_fsync_seconds") >= more("jay_log_sync_seconds") + 2


def test_metrics_ask_for_the_admin_token_unless_public(new_server):
    server = new_server("private").start()
    for token in [None, "wrong", server.credentials()["secret_access_key"]]:
        for path in ["/metrics", "/_jay/metrics"]:
            status, _, text = get(server, path, token)
            # The sixth wrong try is told to wait; the right token is not.
            assert status in (401, 429) and "jay_" not in text and "total" not in text
    failures = prometheus(server)["jay_auth_failures"]
    assert value(failures, "jay_auth_failures_total", port="admin") == 6
    server = new_server("public", JAY_METRICS_PUBLIC="1").start()
    assert get(server, "/metrics", None)[0] == 200
    assert get(server, "/_jay/metrics", None)[0] == 401


def test_names_from_outside_do_not_become_metrics(new_server):
    """Else whoever asks for nonsense fills the memory of two programs."""
    server = new_server().start()
    client = server.client()
    for n in range(20):
        client.request("GET", f"/bucket-{n}/key", f"nonsense-{n}=")
        client.request("BREW", f"/bucket-{n}")
    text = get(server, "/metrics", server.credentials()["admin_token"])[2]
    assert "nonsense" not in text and "BREW" not in text and "bucket-1" not in text


def test_readme_names_the_scrape(new_server):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    server = new_server().start()
    work(server)
    families = prometheus(server)
    named = [word for word in readme.split("`") if word.startswith("jay_") and word.replace("_", "").isalnum()]
    assert named
    for name in named:
        assert name.removesuffix("_total") in families, name
