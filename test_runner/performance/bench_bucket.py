"""The import bucket against stock `moto_server`, side by side in one run, driven by the same client.

Rates are of the whole exchange, client included: on a machine with few cores the client is what limits the
faster side, so the client is as small as it can be.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from time import perf_counter

import obstore
from obstore.store import S3Store

from reattach.fixtures.bucket import BucketServer
from reattach.fixtures.bucket.control import Control
from reattach.fixtures.processes import wait_for
from test_runner.performance.lab import Lab
from test_runner.performance.result import Budget, Result, Side, as_fast_as, at_least

MIB = 1 << 20
RUNS = 5
BUDGET = at_least(10)
"""Design: small GETs, and ranges of a large object."""

_CHUNK = 1 << 20
_TIMEOUT = 120.0

_SMALL = 1024
_LARGE_RANGE = 8 * MIB

Rates = Callable[[int, int], float]
"""Requests of one measurement at (port, how many) → rate."""


def bucket(lab: Lab) -> list[Result]:
    """Small GETs, ranges of a large object, and PUTs, against stock moto_server."""
    return [_small_gets(lab), _ranges_of_a_large_object(lab), _puts(lab)]


def _small_gets(lab: Lab) -> Result:
    """GETs of a small object per second."""

    def rate(port: int, count: int) -> float:
        return count / _exchange(port, [_get("/bench/small")] * count, _SMALL, 8)

    with _both(lab) as both:
        for port in both:
            Control("127.0.0.1", port, "").object_request("PUT", "bench", "small", os.urandom(_SMALL))
        return _compare(lab, "bucket: small GETs", "/s", both, rate, (4000, 200), BUDGET)


def _ranges_of_a_large_object(lab: Lab) -> Result:
    """Ranged GETs of one large object, in MiB per second."""
    size = (64 if lab.quick else 1024) * MIB

    def rate(port: int, count: int) -> float:
        starts = [number * 37 % (size // _LARGE_RANGE) * _LARGE_RANGE for number in range(count)]
        requests = [_get("/bench/large", (start, start + _LARGE_RANGE)) for start in starts]
        return count * _LARGE_RANGE / MIB / _exchange(port, requests, _LARGE_RANGE, 2)

    with _both(lab) as both, tempfile.TemporaryFile() as file:
        block = os.urandom(MIB)
        for _ in range(size // MIB):
            file.write(block)
        for port in both:
            file.seek(0)
            # In parts: moto would need several times the object's size to take it at once.
            obstore.put(_store(port), "large", file, chunk_size=64 * MIB, max_concurrency=1)
        what = f"bucket: {_LARGE_RANGE // MIB} MiB ranges of {size / (1 << 30):g} GiB"
        return _compare(lab, what, "MiB/s", both, rate, (128, 2), BUDGET)


def _puts(lab: Lab) -> Result:
    """PUTs of whole objects, in MiB per second. No budget: both sides need their time for the ETag's MD5."""
    body = os.urandom(8 * MIB)

    def rate(port: int, count: int) -> float:
        requests = [_put(f"/bench/put-{number % 8}", body) for number in range(count)]
        return count * len(body) / MIB / _exchange(port, requests, 0, 2)

    with _both(lab) as both:
        return _compare(lab, f"bucket: {len(body) // MIB} MiB PUTs", "MiB/s", both, rate, (32, 8), None)


def _compare(
    lab: Lab,
    what: str,
    unit: str,
    both: tuple[int, int],
    rate: Rates,
    counts: tuple[int, int],
    budget: Budget | None,
) -> Result:
    """One after the other, several times; the slower side gets fewer requests (`counts`)."""
    pairs = [(rate(both[0], counts[0]), rate(both[1], counts[1])) for _ in lab.runs(RUNS)]
    ours, theirs = zip(*pairs, strict=True)
    return as_fast_as(what, Side("import bucket", unit, ours), Side("moto_server", unit, theirs), budget)


@contextlib.contextmanager
def _both(lab: Lab) -> Iterator[tuple[int, int]]:
    """Ports of an import bucket and of a stock moto_server (needs `moto[server]`), with a bucket `bench`."""
    directory, port = lab.path("bucket"), lab.ports.get_port()
    directory.mkdir()
    bucket = BucketServer(lab.launcher, lab.ports.get_port(), directory)
    bucket.start()
    moto = lab.launcher.start(
        "moto_server",
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        log_path=directory / "moto_server.log",
    )
    control = Control("127.0.0.1", port, "")
    try:
        wait_for(
            lambda: control.request("GET", "/")[0] == 200,
            what="moto_server to answer",
            timeout=30,
            alive=moto,
            ignore=(ConnectionError,),
        )
        bucket.create_bucket("bench")
        control.object_request("PUT", "bench")
        yield bucket.port, port
    finally:
        moto.kill()
        moto.wait(10)
        bucket.stop()


def _get(target: str, byte_range: tuple[int, int] | None = None) -> bytes:
    wanted = f"Range: bytes={byte_range[0]}-{byte_range[1] - 1}\r\n" if byte_range else ""
    return _head("GET", target, wanted)


def _put(target: str, body: bytes) -> bytes:
    return _head("PUT", target, f"Content-Length: {len(body)}\r\n") + body


def _head(method: str, target: str, headers: str) -> bytes:
    authorization = "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/s3/aws4_request, Signature=0"
    return (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n{headers}\r\n"
    ).encode()


def _exchange(port: int, requests: list[bytes], body_size: int, concurrency: int) -> float:
    """Seconds that the requests take, `concurrency` at a time; every answer must be a success of that size.

    A server that closes the connection after an answer (as moto_server does) is asked on a new one.
    """
    waiting = iter(requests)
    scratch = bytearray(_CHUNK)
    started = perf_counter()
    with selectors.DefaultSelector() as selector:
        for request in (next(waiting, None) for _ in range(concurrency)):
            if request is not None:
                _Client(port, selector, request)
        while selector.get_map():
            ready = selector.select(_TIMEOUT)
            if not ready:
                raise TimeoutError(f"no answer on port {port} in {_TIMEOUT:g} s")
            for key, _ in ready:
                client: _Client = key.data
                if client.has_answer(scratch, body_size):
                    request = next(waiting, None)
                    if request is None:
                        client.close()
                    else:
                        client.send(request)
    return perf_counter() - started


class _Client:
    def __init__(self, port: int, selector: selectors.BaseSelector, request: bytes) -> None:
        self._port = port
        self._selector = selector
        self._connect()
        self.send(request)

    def _connect(self) -> None:
        self._sock = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._sock, selectors.EVENT_READ, self)
        self._must_reconnect = False

    def send(self, request: bytes) -> None:
        if self._must_reconnect:
            self.close()
            self._connect()
        self._head = b""
        self._body_size = -1
        self._sock.sendall(request)

    def has_answer(self, scratch: bytearray, body_size: int) -> bool:
        """Takes what has arrived; whether the answer is complete."""
        size = self._sock.recv_into(scratch)
        if size == 0:
            raise ConnectionError(f"port {self._port} closed the connection in the middle of an answer")
        if self._body_size >= 0:
            self._body_size += size
        else:
            self._head += scratch[:size]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._body_size = len(self._head) - end - 4
            head = self._head[:end].lower()
            if head.split(b" ", 2)[1] not in (b"200", b"206"):
                raise RuntimeError(f"port {self._port} answered {self._head[:500]!r}")
            self._must_reconnect = b"\r\nconnection: close" in head
        return self._body_size >= body_size

    def close(self) -> None:
        self._selector.unregister(self._sock)
        self._sock.close()


def _store(port: int) -> S3Store:
    return S3Store(
        "bench",
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key_id="bench",
        secret_access_key="bench",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "300s"},
    )
