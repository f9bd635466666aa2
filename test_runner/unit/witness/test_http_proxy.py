"""What a client sees through an HTTP proxy: nothing, until a step is set; then the network's own faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.effects import Front, Phase
from reattach.api.history import Read
from reattach.witness.http.bodies import SMALL
from reattach.witness.http.messages import RequestReader
from test_runner.unit.witness.proxied import SECONDS, ProxiedWorld
from test_runner.unit.witness.upstream import Exchange, Upstream

BEFORE, AFTER = Phase.BEFORE, Phase.AFTER
DONE = "performed 200, answered 200"


def echo(exchange: Exchange, body: bytes) -> None:
    status = 409 if exchange.path == "/refused" else 200
    exchange.answer(status, json.dumps({"length": len(body)}).encode(), "application/json")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(echo) as server:
        yield server


@pytest.fixture
def url(witness: ProxiedWorld, upstream: Upstream) -> str:
    return f"http://127.0.0.1:{witness.listen(Front.HTTP, upstream.port)}"


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def raw(port: int, *texts: bytes) -> bytes:
    """All that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        for text in texts:
            connection.sendall(text)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


CLOSE = "Connection: close"


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


class TestRecords:
    """What a history says of a request."""

    def test_effect_and_read(self, witness: ProxiedWorld, url: str, client: requests.Session) -> None:
        client.put(f"{url}/tenant/7?lazy=1", json={"a": 1}, headers={"Authorization": "Bearer s3cret"})
        client.get(f"{url}/tenant/7")
        witness.wait_outcomes(("put /tenant/* #1", DONE))
        (effect,) = witness.history().effects()
        assert effect.arrived.request == {
            "method": "PUT",
            "path": "/tenant/7",
            "query": "lazy=1",
            "body": {"a": 1},
        }
        assert effect.performed is not None
        assert effect.performed.answer == {"body": {"length": 8}}
        (read,) = [line for line in witness.history().lines if isinstance(line, Read)]
        assert (read.name, read.status, read.answer) == (
            "loader > db: get /tenant/*",
            200,
            {"body": {"length": 0}},
        )
        assert b"s3cret" not in witness.path.read_bytes()

    def test_changes_are_what_was_done_and_not_refused(
        self, witness: ProxiedWorld, url: str, client: requests.Session
    ) -> None:
        client.put(f"{url}/tenant/7", json={})
        client.get(f"{url}/tenant/7")
        client.put(f"{url}/refused", json={})
        witness.wait_outcomes(("put /tenant/* #1", DONE), ("put /refused #1", "performed 409, answered 409"))
        state = witness.call(witness.world.state)
        assert (state.effects, state.changes) == (2, 1)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"x" * 10, "text/plain"),
            (b"no json", "application/json"),
            (b'"' + b"x" * SMALL + b'"', "application/json"),
        ],
        ids=["text", "broken", "large"],
    )
    def test_other_bodies(
        self, body: bytes, content_type: str, witness: ProxiedWorld, url: str, client: requests.Session
    ) -> None:
        client.post(f"{url}/a", data=body, headers={"content-type": content_type})
        (effect,) = witness.history().effects()
        assert effect.arrived.request == {
            "method": "POST",
            "path": "/a",
            "length": len(body),
            "digest": hashlib.sha256(body).hexdigest(),
        }


class TestPassing:
    """What passes is what was sent."""

    @pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_bodies(
        self, size: int, is_chunked: bool, upstream: Upstream, url: str, client: requests.Session
    ) -> None:
        """Both ways, and again on the same connection."""
        upstream.handle = lambda exchange, body: exchange.answer(200, body)
        body = os.urandom(size)
        for _ in range(2):
            data = iter([body[: size // 2], body[size // 2 :]]) if is_chunked and size > 1 else body
            answer = client.post(f"{url}/a", data=data)
            assert answer.content == body
        assert [seen for *_, seen in upstream.seen] == [body, body]

    def test_headers(self, upstream: Upstream, url: str, client: requests.Session) -> None:
        """Unchanged, in order, and the host is the one that the client has named."""
        seen: list[list[tuple[str, str]]] = []

        def handle(exchange: Exchange, body: bytes) -> None:
            seen.append(exchange.headers.items())
            exchange.answer(201, b"x", X_Odd="a, b", Location="/elsewhere")

        upstream.handle = handle
        answer = raw(
            port_of(url),
            head("POST /a HTTP/1.1", "Host: named:1", "x-B: 1", "X-a: 2", "Content-Length: 0", CLOSE),
        )
        assert seen == [
            [
                ("Host", "named:1"),
                ("x-B", "1"),
                ("X-a", "2"),
                ("Content-Length", "0"),
                ("Connection", "close"),
            ]
        ]
        assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"\r\nX-Odd: a, b\r\nLocation: /elsewhere\r\n" in answer

    @pytest.mark.parametrize("status", [204, 304])
    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_no_body(
        self, status: int, method: str, upstream: Upstream, url: str, client: requests.Session
    ) -> None:
        upstream.handle = lambda exchange, body: exchange.answer(status)
        for _ in range(2):
            assert client.request(method, f"{url}/a").status_code == status

    def test_head(self, upstream: Upstream, url: str, client: requests.Session) -> None:
        upstream.handle = lambda exchange, body: exchange.answer(200, b"four")
        for method in ("HEAD", "GET", "HEAD"):
            answer = client.request(method, f"{url}/a")
            assert (answer.headers["content-length"], answer.content) == (
                "4",
                b"four" if method == "GET" else b"",
            )

    def test_pipelining(self, upstream: Upstream, url: str, witness: ProxiedWorld) -> None:
        upstream.handle = lambda exchange, body: exchange.answer(200, body)
        one = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d"
        requests_sent = b"".join(one % (n, n) for n in range(8))
        last = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answer = raw(port_of(url), requests_sent, last)
        assert re.findall(rb"\r\n\r\n(\d)HTTP", answer) == [b"%d" % n for n in range(8)]
        assert witness.outcomes() == [(f"post /* #{n}", DONE) for n in range(1, 9)]

    def test_expectation(self, url: str, upstream: Upstream) -> None:
        """The witness says "continue", as it must have the whole request."""
        with socket.create_connection(("127.0.0.1", port_of(url)), SECONDS) as client:
            client.sendall(head("PUT /a HTTP/1.1", "Expect: 100-continue", "Content-Length: 2", CLOSE))
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"ab")
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert upstream.seen == [("PUT", "/a", b"ab")]

    def test_old_version(self, url: str) -> None:
        answer = raw(port_of(url), b"POST /a HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        assert answer.endswith(b'{"length": 1}')

    def test_upgrade_is_passed_over(self, upstream: Upstream, url: str) -> None:
        """The peer answers as one that does not know the other protocol."""
        seen: list[list[str]] = []

        def handle(exchange: Exchange, body: bytes) -> None:
            seen.append(exchange.headers.keys())
            exchange.answer(200, body)

        upstream.handle = handle
        upgrade = ("Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: x")
        post = head("POST /a HTTP/1.1", *upgrade, "Content-Length: 3")
        assert raw(port_of(url), post + b"abc").endswith(b"abc")
        assert raw(port_of(url), head("GET /a HTTP/1.1", *upgrade)).startswith(b"HTTP/1.1 200")
        assert seen == [["Connection", "Content-Length"], ["Connection"]]

    def test_stream(
        self, upstream: Upstream, url: str, client: requests.Session, witness: ProxiedWorld
    ) -> None:
        """An answer without a known end passes as it comes; the effect is performed by its head."""
        go_on = threading.Event()

        def handle(exchange: Exchange, body: bytes) -> None:
            exchange.send_response(200)
            exchange.send_header("content-type", "text/event-stream")
            exchange.send_header("transfer-encoding", "chunked")
            exchange.end_headers()
            exchange.wfile.write(b"3\r\none\r\n")
            go_on.wait(SECONDS)
            exchange.wfile.write(b"3\r\ntwo\r\n0\r\n\r\n")

        upstream.handle = handle
        with client.post(f"{url}/a", stream=True) as answer:
            pieces = answer.iter_content(None)
            assert next(pieces) == b"one"
            assert witness.outcomes() == [("post /a #1", DONE)]
            go_on.set()
            assert list(pieces) == [b"two"]

    def test_until_close(self, upstream: Upstream, url: str, client: requests.Session) -> None:
        def handle(exchange: Exchange, body: bytes) -> None:
            exchange.send_response(200)
            exchange.send_header("connection", "close")
            exchange.end_headers()
            exchange.wfile.write(b"all there is")
            exchange.close_connection = True

        upstream.handle = handle
        for method in ("GET", "POST"):
            assert client.request(method, f"{url}/a").content == b"all there is"

    def test_slow_reader(self, upstream: Upstream, url: str) -> None:
        """The proxy keeps little of an answer that nobody takes."""
        sent = 0

        def handle(exchange: Exchange, body: bytes) -> None:
            nonlocal sent
            exchange.connection.settimeout(1)
            exchange.send_response(200)
            exchange.send_header("content-length", str(1 << 30))
            exchange.end_headers()
            with contextlib.suppress(TimeoutError):
                while True:
                    exchange.wfile.write(bytes(1 << 16))
                    sent += 1 << 16
            stuck.set()
            exchange.close_connection = True

        stuck = threading.Event()
        upstream.handle = handle
        with socket.create_connection(("127.0.0.1", port_of(url)), SECONDS) as client:
            client.sendall(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert stuck.wait(SECONDS)
        assert sent < 64 << 20


class TestCrashPoints:
    """What a client sees at each."""

    def test_drop(
        self, witness: ProxiedWorld, url: str, client: requests.Session, upstream: Upstream
    ) -> None:
        witness.step("post /a #1", BEFORE, "drop")
        with pytest.raises(requests.ConnectionError, match="reset"):
            client.post(f"{url}/a")
        assert upstream.seen == []
        assert witness.outcomes() == [("post /a #1", "dropped: step 1: drop")]

    def test_lose_answer(
        self, witness: ProxiedWorld, url: str, client: requests.Session, upstream: Upstream
    ) -> None:
        witness.step("post /a #1", AFTER, "lose answer")
        with pytest.raises(requests.ConnectionError, match="reset"):
            client.post(f"{url}/a")
        assert upstream.seen == [("POST", "/a", b"")]
        assert witness.outcomes() == [("post /a #1", "performed 200, dropped: step 1: lose answer")]

    @pytest.mark.parametrize("status", [204, 503, 599])
    def test_answer(
        self, status: int, witness: ProxiedWorld, url: str, client: requests.Session, upstream: Upstream
    ) -> None:
        witness.step("post /a #1", BEFORE, f"answer {status}")
        answer = client.post(f"{url}/a")
        assert (answer.status_code, answer.headers["x-reattach-witness"]) == (status, "step")
        if status != 204:
            assert answer.json() == {"msg": f"the witness answers {status}"}
        assert upstream.seen == []
        # On the same connection.
        assert client.post(f"{url}/a").json() == {"length": 0}
        assert witness.outcomes() == [("post /a #1", f"answered {status}"), ("post /a #2", DONE)]

    @pytest.mark.parametrize("when", [BEFORE, AFTER])
    def test_hold(
        self, when: Phase, witness: ProxiedWorld, url: str, client: requests.Session, upstream: Upstream
    ) -> None:
        step = witness.step("post /a #1", when, "hold")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(client.post, f"{url}/a", timeout=SECONDS)
            assert witness.wait_happened().steps[0].held == ("loader > db: post /a #1",)
            assert len(upstream.seen) == (0 if when is BEFORE else 1)
            assert not done.done()
            witness.release(step)
            assert done.result(SECONDS).status_code == 200
        assert witness.outcomes() == [("post /a #1", DONE)]

    @pytest.mark.parametrize("when", [BEFORE, AFTER])
    def test_sender_goes_while_held(
        self, when: Phase, witness: ProxiedWorld, url: str, upstream: Upstream
    ) -> None:
        witness.step("post /a #1", when, "hold")
        with socket.create_connection(("127.0.0.1", port_of(url)), SECONDS) as client:
            client.sendall(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            witness.wait_happened()
        gone = "dropped: the sender is gone"
        witness.wait_outcomes(("post /a #1", gone if when is BEFORE else f"performed 200, {gone}"))
        assert len(upstream.seen) == (0 if when is BEFORE else 1)

    def test_sender_goes_while_the_peer_works(
        self, witness: ProxiedWorld, url: str, upstream: Upstream
    ) -> None:
        """It is performed, and nobody was told."""
        begun, go_on = threading.Event(), threading.Event()

        def handle(exchange: Exchange, body: bytes) -> None:
            begun.set()
            go_on.wait(SECONDS)
            exchange.answer(200)

        upstream.handle = handle
        with socket.create_connection(("127.0.0.1", port_of(url)), SECONDS) as client:
            client.sendall(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert begun.wait(SECONDS)
        go_on.set()
        witness.wait_outcomes(("post /a #1", "performed 200, dropped: the sender is gone"))

    def test_read_at_which_something_happens(
        self, witness: ProxiedWorld, url: str, client: requests.Session
    ) -> None:
        witness.step("get /a #2", BEFORE, "answer 404")
        assert [client.get(f"{url}/a").status_code for _ in range(3)] == [200, 404, 200]
        assert witness.outcomes() == [("get /a #1", DONE), ("get /a #2", "answered 404")]


class TestNetwork:
    """Faults that nobody has set."""

    def test_upstream_that_is_away(self, witness: ProxiedWorld) -> None:
        """An accepted connection that is reset: the nearest to a refused one. No answer of the proxy's."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = witness.listen(Front.HTTP, sock.getsockname()[1])
            with pytest.raises(ConnectionResetError):
                raw(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"])
    def test_upstream_that_resets(
        self, method: str, part: bytes, witness: ProxiedWorld, url: str, upstream: Upstream
    ) -> None:
        def handle(exchange: Exchange, body: bytes) -> None:
            exchange.wfile.write(part)
            linger = struct.pack("ii", 1, 0)
            exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(exchange.connection.detach())
            exchange.close_connection = True

        upstream.handle = handle
        with pytest.raises(ConnectionResetError):
            raw(port_of(url), f"{method} /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
        expected = [("post /a #1", "dropped: the peer is gone")] if method == "POST" else []
        witness.wait_outcomes(*expected)

    def test_upstream_that_closes_in_between(
        self, url: str, client: requests.Session, upstream: Upstream
    ) -> None:
        """The client sees it, and makes another connection by itself."""

        def handle(exchange: Exchange, body: bytes) -> None:
            exchange.answer(200)
            exchange.close_connection = True

        upstream.handle = handle
        with socket.create_connection(("127.0.0.1", port_of(url)), SECONDS) as connection:
            connection.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while piece := connection.recv(1000):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200")

    @pytest.mark.parametrize("text", [b"\x16\x03\x01hello\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n"])
    def test_not_http(self, text: bytes, url: str, upstream: Upstream) -> None:
        answer = raw(port_of(url), text)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nx-reattach-witness: not HTTP\r\n")
        assert upstream.seen == []


@given(
    bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 400), max_size=8),
    is_chunked=st.booleans(),
)
def test_any_cut(bodies: list[bytes], cuts: list[int], is_chunked: bool) -> None:
    """However the network cuts what a client sends, the requests are the same, and pass as they were."""
    text = b""
    for body in bodies:
        text += b"POST /a HTTP/1.1\r\nHost: a\r\n"
        if is_chunked:
            pieces = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            text += b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
        else:
            text += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    found: list[bytes] = []
    reader = RequestReader(lambda request: found.append(b"".join(request.pieces())), lambda: None)
    at = 0
    for cut in [*cuts, len(text)]:
        reader.feed(text[at : at + cut])
        at += cut
    assert b"".join(found) == text
    assert len(found) == len(bodies)
