"""Each fault does what it says, as seen by a raw client and by obstore, and is counted and logged."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError, GenericError
from obstore.store import S3Store

from reattach.api.bucket import Operation
from reattach.fixtures.bucket import BucketServer, Fault, Faults, RuleNeverFired
from reattach.fixtures.bucket.control import BucketError
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher
from test_runner.regress.import_bucket_raw import Raw, obstore_client

GET = Operation.GET_OBJECT
CONTENT = bytes(range(256)) * 256
BUCKET = "faults"


@pytest.fixture
def raw(bucket_server: BucketServer) -> Iterator[Raw]:
    """A client of a bucket with CONTENT as `k` and `dir/k`."""
    bucket_server.create_bucket(BUCKET)
    for key in ("k", "dir/k"):
        bucket_server.put(BUCKET, key, CONTENT)
    client = Raw(bucket_server.port)
    yield client
    client.close()


@pytest.fixture
def client(bucket_server: BucketServer, raw: Raw) -> S3Store:
    """obstore on the same bucket, without retries and impatient."""
    return obstore_client(bucket_server, BUCKET, timeout="1s")


def test_status(raw: Raw, client: S3Store, bucket_faults: Faults) -> None:
    for status, code in (
        (500, "InternalError"),
        (502, "BadGateway"),
        (503, "SlowDown"),
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
    ):
        with bucket_faults.on(GET).status(status, retry_after=7) as fault:
            answer = raw("GET", "/faults/k")
            assert (answer.status, answer.error, answer.headers["retry-after"]) == (status, code, "7")
            assert (raw("HEAD", "/faults/k").status, fault.fired) == (200, 1)
            with pytest.raises((BaseError, FileNotFoundError)):
                obstore.get(client, "k")
            assert fault.fired == 2
    with bucket_faults.on(Operation.HEAD_OBJECT).status(503):
        assert (raw("HEAD", "/faults/k").status, raw("GET", "/faults/k").body) == (503, CONTENT)
    with bucket_faults.on(Operation.PUT_OBJECT, key="new").status(403, "Nope", "not today"):
        answer = raw("PUT", "/faults/new", b"1")
        assert (answer.error, answer.find("Message")) == ("Nope", "not today")
    assert raw("GET", "/faults/new").status == 404, "a refused upload was carried out"


def test_delay(raw: Raw, bucket_faults: Faults) -> None:
    with bucket_faults.on(GET, times=1).delay(0.15):
        started = time.monotonic()
        assert raw("GET", "/faults/k").body == CONTENT
        assert time.monotonic() - started >= 0.15


def test_delays_add_up_and_the_first_other_rule_decides(raw: Raw, bucket_faults: Faults) -> None:
    first, second = bucket_faults.on(GET).delay(0.05), bucket_faults.on(GET).delay(0.05)
    decides, not_reached = bucket_faults.on(GET).status(502), bucket_faults.on(GET, optional=True).status(500)
    started = time.monotonic()
    assert raw("GET", "/faults/k").status == 502
    assert time.monotonic() - started >= 0.1
    assert [fault.fired for fault in (first, second, decides, not_reached)] == [1, 1, 1, 0]
    assert not_reached.matched == 1


@pytest.mark.parametrize("after", [None, 0, 1000])
def test_reset(raw: Raw, client: S3Store, bucket_faults: Faults, after: int | None) -> None:
    with bucket_faults.on(GET).reset(after):
        with pytest.raises(ConnectionResetError):
            answer = raw("GET", "/faults/k")
            pytest.fail(f"a whole answer: {answer.status}, {len(answer.body)} bytes")
        with pytest.raises(GenericError):
            obstore.get(client, "k").bytes()
    assert raw("GET", "/faults/k").body == CONTENT


def test_reset_of_an_upload_leaves_nothing(raw: Raw, bucket_faults: Faults) -> None:
    with bucket_faults.on(Operation.PUT_OBJECT).reset(), pytest.raises(ConnectionResetError):
        raw("PUT", "/faults/reset", b"1")
    assert raw("GET", "/faults/reset").status == 404


def test_lost_response_of_an_upload_that_was_carried_out(raw: Raw, bucket_faults: Faults) -> None:
    with bucket_faults.on(Operation.PUT_OBJECT).lose_response(), pytest.raises(ConnectionResetError):
        raw("PUT", "/faults/lost", b"1")
    assert raw("GET", "/faults/lost").body == b"1"


def test_stall(bucket_server: BucketServer, raw: Raw, client: S3Store, bucket_faults: Faults) -> None:
    """The head and so many bytes arrive, then nothing; what is released goes on to the end."""
    fault = bucket_faults.on(GET, key="k").stall(after=1000)
    with pytest.raises(GenericError, match=r"(?i)time"):
        obstore.get(client, "k").bytes()
    connection = http.client.HTTPConnection("127.0.0.1", bucket_server.port, timeout=0.3)
    connection.request("GET", "/faults/k")
    response = connection.getresponse()
    assert response.read(1000) == CONTENT[:1000]
    with pytest.raises(TimeoutError):
        response.read(1)
    connection.close()

    waiting = http.client.HTTPConnection("127.0.0.1", bucket_server.port, timeout=5)
    waiting.request("GET", "/faults/k")
    released = waiting.getresponse()
    assert released.read(1000) == CONTENT[:1000]
    assert raw("GET", "/faults/dir/k").body == CONTENT, "others are served meanwhile"
    fault.remove()
    assert released.read() == CONTENT[1000:]
    waiting.close()


def test_short_body(raw: Raw, client: S3Store, bucket_faults: Faults) -> None:
    with bucket_faults.on(GET).truncate(1000):
        with pytest.raises(http.client.IncompleteRead) as cut:
            raw("GET", "/faults/k")
        assert cut.value.partial == CONTENT[:1000]
        with pytest.raises(GenericError):
            obstore.get(client, "k").bytes()
    with bucket_faults.on(GET).truncate(1000, honest=True):
        answer = raw("GET", "/faults/k", Range="bytes=100-4099")
        assert (answer.status, answer.body) == (206, CONTENT[100:1100])
        assert answer.headers["content-range"] == f"bytes 100-4099/{len(CONTENT)}"


def test_whole_object_for_a_range(raw: Raw, client: S3Store, bucket_faults: Faults) -> None:
    with bucket_faults.on(GET).ignore_range():
        answer = raw("GET", "/faults/k", Range="bytes=10-19")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert "content-range" not in answer.headers
        with pytest.raises(Exception, match="partial"):
            obstore.get_range(client, "k", start=10, end=20)


def test_changed_etag(raw: Raw, client: S3Store, bucket_faults: Faults) -> None:
    etag = raw("HEAD", "/faults/k").headers["etag"]
    with bucket_faults.on([GET, Operation.HEAD_OBJECT]).change_etag("feed"):
        for method in ("GET", "HEAD"):
            assert raw(method, "/faults/k").headers["etag"] == '"feed"'
        assert obstore.head(client, "k")["e_tag"] == '"feed"'
    assert raw("HEAD", "/faults/k").headers["etag"] == etag


def test_changed_content(raw: Raw, client: S3Store, bucket_faults: Faults) -> None:
    """The byte is wrong in every range that covers it, and lengths and ETag stay."""
    etag = raw("HEAD", "/faults/k").headers["etag"]
    wrong = bytearray(CONTENT)
    wrong[5000] ^= 0xFF
    with bucket_faults.on(GET).change_content(5000) as fault:
        answer = raw("GET", "/faults/k")
        assert (answer.body, answer.headers["etag"]) == (bytes(wrong), etag)
        assert raw("GET", "/faults/k", Range="bytes=4990-5010").body == wrong[4990:5011]
        assert raw("GET", "/faults/k", Range="bytes=5001-5010").body == CONTENT[5001:5011]
        assert bytes(obstore.get_range(client, "k", start=5000, end=5001)) == wrong[5000:5001]
        assert fault.fired == 3, "a range without the byte is no match"
    with bucket_faults.on(GET).change_content(etag="feed"):
        answer = raw("GET", "/faults/k", Range="bytes=10-11")
        assert answer.body == bytes([CONTENT[10] ^ 0xFF, CONTENT[11]])
        assert answer.headers["etag"] == '"feed"'


def test_stale_listing(bucket_server: BucketServer, client: S3Store, bucket_faults: Faults) -> None:
    def listed() -> set[str]:
        return {entry["path"] for page in obstore.list(client, "stale") for entry in page}

    bucket_server.put(BUCKET, "stale/old", b"1")
    with bucket_faults.on(Operation.LIST_OBJECTS_V2, prefix="stale").stale_listing():
        bucket_server.put(BUCKET, "stale/new", b"1")
        bucket_server.delete(BUCKET, "stale/old")
        assert listed() == {"stale/old"}
        assert bucket_server.get(BUCKET, "stale/new") == b"1"
    assert listed() == {"stale/new"}
    with bucket_faults.on(Operation.LIST_OBJECTS_V2).stale_listing(hide="stale/n"):
        assert listed() == set()
    bucket_server.delete(BUCKET, "stale/new")


def test_which_requests(
    bucket_server: BucketServer, raw: Raw, client: S3Store, bucket_faults: Faults
) -> None:
    """By key, prefix, operation, range, client; the nth match, and so many times."""

    def fires(fault: Fault, *requests: tuple[str, str, str | None]) -> list[bool]:
        statuses = [
            raw(method, f"/faults/{key}", Range=wanted or "").status for method, key, wanted in requests
        ]
        fault.remove()
        return [status == 418 for status in statuses]

    k, other = ("GET", "k", None), ("GET", "dir/k", None)
    on = bucket_faults.on
    assert fires(on(key="k").status(418), k, other) == [True, False]
    assert fires(on(prefix="dir/").status(418), k, other) == [False, True]
    assert fires(on(bucket="faults").status(418), k) == [True]
    assert fires(on(bucket="other", optional=True).status(418), k) == [False]
    assert fires(on(Operation.HEAD_OBJECT).status(418), k, ("HEAD", "k", None)) == [False, True]
    assert fires(on(client="AKRAW").status(418), k) == [True]
    assert fires(on(client="obstore", optional=True).status(418), k) == [False]
    assert fires(on(nth=3).status(418), k, k, k, k) == [False, False, True, False]
    assert fires(on(nth=2, times=2).status(418), k, k, k, k) == [False, True, True, False]
    assert fires(on(times=1).status(418), k, k) == [True, False]
    ranges = [("GET", "k", f"bytes={wanted}") for wanted in ("0-99", "0-100", "199-300", "200-", "-65400")]
    assert fires(on(byte_range=(100, 200)).status(418), *ranges, k) == [False, True, True, False, True, True]
    with on(client="obstore").status(500) as fault:
        with pytest.raises(GenericError):
            obstore.head(client, "k")
        assert (raw("HEAD", "/faults/k").status, fault.matched, fault.fired) == (200, 1, 1)


def test_log_names_the_rules(bucket_server: BucketServer, raw: Raw, bucket_faults: Faults) -> None:
    mark = bucket_server.log.mark()
    delay, status = bucket_faults.on(GET).delay(0.01), bucket_faults.on(GET, nth=2).status(503)
    raw("GET", "/faults/k")
    raw("GET", "/faults/k")
    first, second = bucket_server.log.where(GET, since=mark)
    assert (first.rules, first.status, first.bytes_out) == ([delay.id], 200, len(CONTENT))
    assert (second.rules, second.status) == ([delay.id, status.id], 503)
    assert list(bucket_server.log.where(since=mark).failed) == [second]


def test_log_tells_how_much_of_a_cut_answer_went_out(
    bucket_server: BucketServer, raw: Raw, bucket_faults: Faults
) -> None:
    mark = bucket_server.log.mark()
    with bucket_faults.on(GET).truncate(1000), pytest.raises(http.client.IncompleteRead):
        raw("GET", "/faults/k", Range="bytes=500-")
    [entry] = bucket_server.log.where(GET, since=mark)
    assert (entry.byte_range, entry.bytes_out, entry.whole) == ((500, len(CONTENT)), 1000, False)
    assert bucket_server.log.where(GET, since=mark).ranges_read() == {"k": [(500, 1500)]}


def test_rule_that_never_fired_fails(bucket_server: BucketServer, raw: Raw, bucket_faults: Faults) -> None:
    with pytest.raises(RuleNeverFired, match=r"(?s)Status.*key='elsewhere' matched 0 .*GetObject faults/k"):
        with bucket_faults.on(key="elsewhere").status(500):
            raw("GET", "/faults/k")
    bucket_faults.on(nth=9).status(500)
    raw("GET", "/faults/k")
    with pytest.raises(RuleNeverFired, match="matched 1 requests and fired for 0"):
        bucket_server.finish_test()
    bucket_server.finish_test()  # a rule is judged once


def test_rules_end_with_the_test(raw: Raw, bucket_server: BucketServer, bucket_faults: Faults) -> None:
    bucket_faults.on(GET).status(500)
    assert raw("GET", "/faults/k").status == 500
    bucket_server.finish_test()
    assert raw("GET", "/faults/k").status == 200


def test_restarted_bucket_forgets_rules(
    launcher: Launcher, port_distributor: PortDistributor, tmp_path: Path
) -> None:
    server = BucketServer(launcher, port_distributor.get_port(), tmp_path)
    server.start()
    fault = server.faults.on(GET).status(500)
    with pytest.raises(BucketError):
        server.get(BUCKET, "k")
    assert fault.fired == 1
    server.kill()
    assert fault.fired == 1, "what was known last"
    server.start()
    server.finish_test()
    with pytest.raises(FileNotFoundError):
        server.get(BUCKET, "k")
    server.stop()
