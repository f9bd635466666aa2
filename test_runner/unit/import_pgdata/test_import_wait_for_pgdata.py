"""Waiting for the upload: as long as it may still come, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from reattach.pageserver.import_pgdata.bucket import RangeRead
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.errors import ImportInterrupted, ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.wait_for_pgdata import MALFORMED_ANSWERS, wait_for_pgdata
from reattach.pageserver.layers.blobs import Buffer
from test_runner.unit.import_pgdata.fakes import FakeTimeline

T = TypeVar("T")


class StatusBucket:
    """Answers `status/pgdata` with one answer after the other; the last is repeated."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.polls = 0

    async def read_object(self, path: str) -> bytes:
        assert path == "status/pgdata"
        answer = self.answers[min(self.polls, len(self.answers) - 1)]
        self.polls += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def read_listed(self, source: BucketObject) -> bytes:
        raise NotImplementedError

    async def list_tree(self, prefix: str) -> list[BucketObject]:
        raise NotImplementedError

    async def list_directory(self, directory: str) -> list[BucketObject]:
        raise NotImplementedError

    async def map_ranges(self, reads: Sequence[RangeRead], work: Callable[[Buffer], T]) -> T:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Polls follow each other at once; what would have been waited is kept."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    return waits


MISSING = ObjectMissing("status/pgdata")


def test_absent_and_not_done_are_waited_for(tmp_path: Path, slept: list[float]) -> None:
    bucket = StatusBucket(*[MISSING] * 15, *[b'{"done":false}'] * 15, b'{"done":true,"more":1}')
    asyncio.run(wait_for_pgdata(bucket, FakeTimeline(tmp_path)))
    assert bucket.polls == 31
    assert slept == sorted(slept)
    assert slept[0] < 1
    assert slept[-1] == 10


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b'{"done":1}', b'{"done":null}', b"[]", b"\xff"])
def test_what_stays_malformed_ends_the_wait(tmp_path: Path, text: bytes) -> None:
    """I11: the real system waits for ever."""
    bucket = StatusBucket(text)
    with pytest.raises(ObjectError, match="status/pgdata: it is malformed"):
        asyncio.run(wait_for_pgdata(bucket, FakeTimeline(tmp_path)))
    assert bucket.polls == MALFORMED_ANSWERS


def test_what_is_malformed_only_while_it_is_written_does_not(tmp_path: Path) -> None:
    half = [b"{"] * (MALFORMED_ANSWERS - 1)
    bucket = StatusBucket(*half, b'{"done":false}', *half, MISSING, b'{"done":true}')
    asyncio.run(wait_for_pgdata(bucket, FakeTimeline(tmp_path)))
    assert bucket.polls == len(bucket.answers)


def test_other_errors_end_the_wait(tmp_path: Path) -> None:
    bucket = StatusBucket(ObjectError("status/pgdata", "403 (refused 5 times)"))
    with pytest.raises(ObjectError, match="refused 5 times"):
        asyncio.run(wait_for_pgdata(bucket, FakeTimeline(tmp_path)))


def test_shutdown_ends_the_wait(tmp_path: Path) -> None:
    with pytest.raises(ImportInterrupted, match="cancelled while waiting for pgdata"):
        asyncio.run(wait_for_pgdata(StatusBucket(MISSING), FakeTimeline(tmp_path, is_cancelling=True)))
