"""Gates hold requests until the test lets them pass, answers them or drops them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import obstore
import pytest

from reattach.api.bucket import Operation
from reattach.fixtures.bucket import BucketServer, Faults, Gate, RuleNeverFired
from reattach.fixtures.processes import wait_for
from test_runner.regress.import_bucket_raw import Answer, Raw, obstore_client

PUT = Operation.PUT_OBJECT
BUCKET = "gates"


@pytest.fixture
def pool(bucket_server: BucketServer) -> Iterator[ThreadPoolExecutor]:
    bucket_server.create_bucket(BUCKET)
    with ThreadPoolExecutor(8) as pool:
        yield pool


def put(server: BucketServer, key: str) -> Answer:
    raw = Raw(server.port)
    try:
        return raw("PUT", f"/{BUCKET}/{key}", b"content")
    finally:
        raw.close()


def exists(server: BucketServer, key: str) -> bool:
    try:
        return server.get(BUCKET, key) == b"content"
    except FileNotFoundError:
        return False


def test_held_until_released(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    gate = bucket_faults.gate(PUT, prefix="released/")
    answer = pool.submit(put, bucket_server, "released/k")
    [seq] = gate.wait_until_held()
    assert not answer.done()
    assert not exists(bucket_server, "released/k"), "a held request was carried out"
    [entry] = bucket_server.log.where(PUT, key="released/k")
    assert (entry.seq, entry.ended, entry.rules) == (seq, None, [gate.id])
    gate.release()
    assert answer.result(5).status == 200
    assert exists(bucket_server, "released/k")
    assert gate.held == []
    assert (gate.matched, gate.fired) == (1, 1)


def test_oldest_first_and_later_ones_are_held_too(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    gate = bucket_faults.gate(PUT, prefix="order/")
    answers: list[Future[Answer]] = []
    for number in range(3):
        answers.append(pool.submit(put, bucket_server, f"order/{number}"))
        gate.wait_until_held(number + 1)
    gate.release(1)
    assert answers[0].result(5).status == 200
    assert [exists(bucket_server, f"order/{number}") for number in range(3)] == [True, False, False]
    gate.release()
    assert [answer.result(5).status for answer in answers] == [200, 200, 200]
    answers.append(pool.submit(put, bucket_server, "order/3"))
    gate.wait_until_held()
    gate.open()
    assert answers[3].result(5).status == 200
    assert put(bucket_server, "order/4").status == 200, "an open gate holds nobody"


def test_answered(bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor) -> None:
    gate = bucket_faults.gate(PUT, prefix="answered/", times=1)
    answer = pool.submit(put, bucket_server, "answered/k")
    gate.wait_until_held()
    gate.answer(503, retry_after=2)
    refused = answer.result(5)
    assert (refused.status, refused.error, refused.headers["retry-after"]) == (503, "SlowDown", "2")
    assert not exists(bucket_server, "answered/k")
    assert put(bucket_server, "answered/k").status == 200, "the gate was for one request"


def test_dropped(bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor) -> None:
    gate = bucket_faults.gate(PUT, prefix="dropped/")
    answer = pool.submit(put, bucket_server, "dropped/k")
    gate.wait_until_held()
    gate.drop()
    with pytest.raises(ConnectionResetError):
        answer.result(5)
    assert not exists(bucket_server, "dropped/k")


def test_obstore_waits_at_a_gate(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    bucket_server.put(BUCKET, "obstore", b"content")
    client = obstore_client(bucket_server, BUCKET)
    with bucket_faults.gate(Operation.GET_OBJECT, client="obstore") as gate:
        read = pool.submit(lambda: bytes(obstore.get(client, "obstore").bytes()))
        gate.wait_until_held()
        assert bucket_server.get(BUCKET, "obstore") == b"content", "another client is not held"
        gate.release()
        assert read.result(5) == b"content"


def test_gone_client_is_not_held(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    """A client that was killed while it waited leaves the gate, and its request is not carried out."""
    gate = bucket_faults.gate(PUT, prefix="gone/")
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=5) as sock:
        sock.sendall(b"PUT /gates/gone/k HTTP/1.1\r\nHost: b\r\nContent-Length: 7\r\n\r\ncontent")
        gate.wait_until_held()
    wait_for(lambda: gate.held == [], what="the gate to be empty", timeout=5)
    gate.open()
    assert not exists(bucket_server, "gone/k")
    [entry] = bucket_server.log.where(PUT, key="gone/k")
    assert (entry.status, entry.whole) == (0, False)
    assert entry.ended is not None


def test_abandoned_requests_are_carried_out_late(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    """As S3 may do: what has been received is written, whoever waits for the answer."""
    gate = bucket_faults.on(PUT, prefix="abandoned/").hold(abandoned=True)
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=5) as sock:
        sock.sendall(b"PUT /gates/abandoned/k HTTP/1.1\r\nHost: b\r\nContent-Length: 7\r\n\r\ncontent")
        [seq] = gate.wait_until_held()
    wait_for(
        lambda: bucket_server.log.where(PUT, key="abandoned/k")[0].ended is not None,
        what="the bucket to notice that the client has gone",
        timeout=5,
    )
    assert gate.held == [seq]
    assert not exists(bucket_server, "abandoned/k")
    gate.release()
    wait_for(lambda: exists(bucket_server, "abandoned/k"), what="the late write", timeout=5)
    [entry] = bucket_server.log.where(PUT, key="abandoned/k")
    assert (entry.status, entry.whole) == (0, False)


def test_wait_is_bounded(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    gate = bucket_faults.gate(PUT, key="nobody", optional=True)
    with pytest.raises(TimeoutError, match="0 of 1 requests wait"):
        gate.wait_until_held(timeout=0.05)
    fault = bucket_faults.on(PUT, key="nobody", optional=True).status(500)
    with pytest.raises(TimeoutError, match="fired for 0"):
        fault.wait_until_fired(timeout=0.05)


def test_rules_match_only_by_what_they_know(bucket_faults: Faults) -> None:
    for set_rule in (bucket_faults.on, bucket_faults.gate):
        with pytest.raises(TypeError, match="cannot match by kye"):
            set_rule(PUT, kye="k")  # type: ignore[call-arg]


def test_gate_that_nobody_met_fails(bucket_server: BucketServer, bucket_faults: Faults) -> None:
    gate = bucket_faults.gate(PUT, key="nobody")
    assert isinstance(gate, Gate)
    with pytest.raises(RuleNeverFired, match="Hold"):
        bucket_server.finish_test()


def test_fired_is_awaited(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    fault = bucket_faults.on(PUT, prefix="fired/").status(500)
    waiting = pool.submit(fault.wait_until_fired, 2)
    assert [put(bucket_server, "fired/k").status for _ in range(2)] == [500, 500]
    waiting.result(5)


def test_removing_a_gate_releases(
    bucket_server: BucketServer, bucket_faults: Faults, pool: ThreadPoolExecutor
) -> None:
    with bucket_faults.gate(PUT, prefix="removed/") as gate:
        answer = pool.submit(put, bucket_server, "removed/k")
        gate.wait_until_held()
    assert answer.result(5).status == 200
