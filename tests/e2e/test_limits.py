"""What one caller may take from the others: requests, bytes, connections, patience."""

import contextlib
import http.client
import json
import random
import socket
import time

import hostile
import pytest

from jay_testing import Answer, Server, read_answer

# What others wait for a small put and get at the most, while somebody means no good. A quiet machine takes some ms.
SERVED_SECONDS_MAX = 5


def limited(new_server, rate: str, burst: str, **variables: str) -> Server:
    return new_server(JAY_RATE_LIMIT=rate, JAY_RATE_BURST=burst, **variables).start()


def statuses(client, count: int, path: str = "/default") -> list[int]:
    return [client.request("HEAD", path).status for _ in range(count)]


def anonymous(server: Server, headers: dict[str, str] | None = None, path: str = "/default/x") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        return Answer(connection.getresponse())


def test_fractions_of_requests_count(new_server):
    server = limited(new_server, "0.4", "3")
    client = server.client()
    began = time.monotonic()
    assert statuses(client, 3) == [200] * 3
    refused = client.request("GET", "/default")
    assert (refused.status, refused.code) == (503, "SlowDown")
    assert refused.headers["retry-after"] == "3", "the time of one request, rounded up"
    assert statuses(client, 3) == [503] * 3
    assert time.monotonic() - began < 2
    time.sleep(2.6)
    assert statuses(client, 2) == [200, 503]
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"WARN"' in line]
    assert len(lines) == 1, lines
    assert "JAY_RATE_LIMIT" in lines[0]["msg"] and lines[0]["token_id"] == client.access_key_id


def test_no_rate_is_no_limit(new_server):
    server = limited(new_server, "0", "1")
    assert statuses(server.client(), 50) == [200] * 50


def test_the_defaults_allow_a_burst_of_two_hundred(new_server):
    server = new_server(JAY_RATE_LIMIT="").start()
    answers = statuses(server.client(), 500)
    assert answers[:200] == [200] * 200 and 503 in answers


@pytest.mark.weakness(26)
def test_wrong_proofs_spend_nothing_of_the_token(new_server):
    server = limited(new_server, "0.01", "5")
    wrong = server.client()
    wrong.secret = "w" * 40
    answers = [wrong.request("GET", "/default") for _ in range(8)]
    assert [answer.code for answer in answers] == ["SignatureDoesNotMatch"] * 5 + ["SlowDown"] * 3
    unknown = server.client()
    unknown.access_key_id = "NOBODY"
    assert unknown.request("GET", "/default").code == "SlowDown", "another name, the same address"
    bearer = {"authorization": "Bearer nobody:wrong"}
    assert anonymous(server, bearer).code == "SlowDown"
    # Nor is the right one locked out with the address.
    assert statuses(server.client(), 6) == [200] * 5 + [503]


def test_anonymous_callers_pay_by_their_address(new_server):
    server = limited(new_server, "0.01", "3")
    preflight = {"origin": "https://x.example", "access-control-request-method": "GET"}
    codes = [anonymous(server, preflight).code for _ in range(3)]
    assert codes == ["AccessDenied"] * 3
    assert anonymous(server).code == "SlowDown" and anonymous(server, path="/").code == "SlowDown"
    assert statuses(server.client(), 1) == [200]


def via_proxy(server: Server, client: str) -> Answer:
    """What comes through a proxy that appends to a header which its caller has made up."""
    spoofed = ".".join(str(random.randint(1, 223)) for _ in range(4))
    return anonymous(server, {"x-forwarded-for": f"{spoofed}, {client}"})


@pytest.mark.weakness(27)
def test_a_made_up_address_evades_nothing(new_server):
    server = limited(new_server, "0.01", "3", JAY_TRUST_PROXY_HEADERS="true")
    assert [via_proxy(server, "203.0.113.9").code for _ in range(5)] == ["AccessDenied"] * 3 + ["SlowDown"] * 2
    assert via_proxy(server, "203.0.113.10").code == "AccessDenied"
    requests = [json.loads(line) for line in server.log.read_text().splitlines() if '"msg":"request"' in line]
    assert {line["client"] for line in requests} == {"203.0.113.9", "203.0.113.10"}
    assert {line["peer"] for line in requests} == {"127.0.0.1"}


@pytest.mark.parametrize("trusted", ["", "false", "192.0.2.0/24"])
def test_nobody_is_believed_who_is_no_proxy(new_server, trusted):
    server = limited(new_server, "0.01", "2", JAY_TRUST_PROXY_HEADERS=trusted)
    codes = [via_proxy(server, f"203.0.113.{n}").code for n in range(4)]
    assert codes == ["AccessDenied"] * 2 + ["SlowDown"] * 2


def test_a_body_that_is_too_long_is_refused_before_it_comes(new_server):
    server = new_server(JAY_REQUEST_BYTES_MAX="1000").start()
    client = server.client()
    assert client.request("PUT", "/default/fits", body=b"x" * 1000).status == 200
    with client.socket() as stream:
        headers = {"content-length": "1001", "expect": "100-continue"}
        stream.sendall(client.head_bytes("PUT", "/default/long", headers=headers))
        answer = read_answer(stream)
        assert (answer.status, answer.code) == (400, "EntityTooLarge"), answer
    # Without a length it is cut when there is too much of it.
    with client.socket() as stream:
        headers = {"transfer-encoding": "chunked", "content-md5": "A" * 22 + "=="}
        head = client.head_bytes("POST", "/default", "delete=", headers=headers)
        stream.sendall(head + b"3e9\r\n" + b" " * 1001 + b"\r\n")
        answer = read_answer(stream)
        assert (answer.status, answer.code) == (400, "EntityTooLarge"), answer
    assert client.request("HEAD", "/default/long").status == 404


@pytest.mark.weakness(31)
@pytest.mark.parametrize("kind", hostile.KINDS, ids=lambda kind: kind.__name__)
def test_others_are_served_meanwhile(new_server, kind):
    server = new_server(JAY_CONNECTIONS_MAX="300" if kind is hostile.crowd else "4096").start()
    with kind(server, 400 if kind in (hostile.idle, hostile.slow_loris, hostile.crowd) else 20) as go_on:
        taken = hostile.latencies(server.client(), 20, go_on)
    assert max(taken) < SERVED_SECONDS_MAX, taken
    assert server.stop() == 0


@pytest.mark.weakness(31)
def test_connections_beyond_the_most_wait_while_all_have_a_request(new_server):
    server = new_server(JAY_CONNECTIONS_MAX="2").start()
    client = server.client(timeout=1)
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(2)]
    for stream in held:
        stream.sendall(client.head_bytes("PUT", "/default/held", headers={"content-length": "2"}) + b"x")
    time.sleep(0.5)
    with pytest.raises(TimeoutError):
        client.request("GET", "/default")
    held[0].sendall(b"x")
    assert read_answer(held[0]).status == 200
    assert server.client(timeout=10).request("GET", "/default").status == 200
    # The other one is where it was.
    held[1].sendall(b"x")
    assert read_answer(held[1]).status == 200


def test_readers_that_take_nothing_do_not_keep_the_memory(new_server):
    """A reader that stands still keeps its share of the memory for bodies: as many as share it all, 512 by default, stopped
    everybody's reads and writes for 90 s, and came again. Now they are cut as soon as memory is short, after 10 s."""
    server = new_server(JAY_BUFFER_BYTES_MAX=str(1 << 20)).start()
    client = server.client(timeout=60)
    with hostile.never_reading(server, 4):
        time.sleep(0.5)
        began = time.monotonic()
        assert client.request("PUT", "/default/small", body=b"body").status == 200
        assert client.request("GET", "/default/large", headers={"range": "bytes=0-9"}).status == 206
        assert time.monotonic() - began < 25, "without a SlowDown"


def test_a_crowd_on_the_admin_port_does_not_hide_that_the_server_lives(new_server):
    """256 connections that ask for nothing kept supervisors and the operator out for as long as their owner liked."""
    server = new_server().start()
    held = [socket.create_connection(("127.0.0.1", server.admin_port), timeout=5) for _ in range(300)]
    began = time.monotonic()
    assert server.ready() and time.monotonic() - began < SERVED_SECONDS_MAX
    for stream in held:
        stream.close()
