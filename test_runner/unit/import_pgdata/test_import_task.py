"""Whole imports, without a pageserver: what they write, what they report, how they resume."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from reattach.api.import_status import (
    Done,
    Error,
    InProgress,
    ShardImportProgress,
    ShardImportStatus,
)
from reattach.api.key import BLCKSZ, RelTag
from reattach.api.shard import ShardIdentity
from test_runner.unit.import_pgdata.data_directory import DataDirectory, relmap, small_data_directory
from test_runner.unit.import_pgdata.imports import SMALL_JOBS, Import, expected_content

SHARDS = [ShardIdentity(), ShardIdentity(0, 1), *(ShardIdentity(n, 3, 4) for n in range(3))]


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return small_data_directory(tmp_path / "bucket")


@pytest.fixture
def an_import(data: DataDirectory, tmp_path: Path) -> Import:
    return Import.make(data, tmp_path / "timeline")


@pytest.mark.parametrize("shard", SHARDS, ids=lambda s: f"shard{s.number}of{s.count}")
def test_every_byte_arrives_and_each_shard_holds_only_its_own(
    data: DataDirectory, tmp_path: Path, shard: ShardIdentity
) -> None:
    """I8: small jobs, and all in one job."""
    for limit in (SMALL_JOBS.import_job_soft_size_limit, 1, 1 << 30):
        an_import = Import.make(data, tmp_path / f"timeline{limit}", shard)
        an_import.config = replace(SMALL_JOBS, import_job_soft_size_limit=limit)
        an_import.run()
        assert an_import.controller.status == Done()
        assert an_import.content() == expected_content(data, shard)


def test_status_is_told_only_after_everything_it_claims_is_durable(an_import: Import) -> None:
    """I2: for every checkpoint and for Done."""
    timeline = an_import.timeline
    claims: list[int] = []

    def check(status: ShardImportStatus) -> None:
        assert timeline.import_source is not None
        if isinstance(status, InProgress):
            assert status.progress is not None
            claimed = status.progress.completed
            claims.append(claimed)
            # Every job but an empty first one writes a layer.
            assert len(timeline.durable) >= claimed
            covered = sorted(name.key_range for name in timeline.durable)[:claimed]
            assert all(a.end == b.start for a, b in pairwise(covered))
        else:
            assert timeline.durable == timeline.layers
            assert len(timeline.durable) == an_import.metrics.planned[0]

    an_import.controller.on_post = check
    # The last jobs come after the last checkpoint, so that Done needs its own.
    an_import.config = replace(SMALL_JOBS, import_job_concurrency=1, import_job_checkpoint_threshold=7)
    an_import.run()
    jobs = an_import.metrics.planned[0]
    assert jobs == 10
    assert claims == [7]
    assert len(an_import.metrics.checkpoints) == len(claims)
    assert an_import.metrics.done == [False] * jobs


@pytest.mark.parametrize("status", [Done(), Error("x")])
def test_nothing_happens_once_the_status_is_terminal(an_import: Import, status: ShardImportStatus) -> None:
    """I6"""
    an_import.controller.status = status
    an_import.run()
    assert an_import.controller.posted == []
    assert an_import.timeline.wiped == 0


def test_nothing_happens_once_the_index_says_done(an_import: Import) -> None:
    an_import.timeline.is_import_done = True
    an_import.run()
    assert an_import.controller.posted == []


class Crash(BaseException):
    """Ends an attempt as a kill would: nothing more is told."""


def crash_at(an_import: Import, checkpoint: int, *, told: bool) -> None:
    """The process dies when it tells of a checkpoint, before or after the controller has heard."""

    def on_post(status: ShardImportStatus) -> None:
        if isinstance(status, InProgress) and status.progress and status.progress.completed == checkpoint:
            if told:
                an_import.controller.status = status
                an_import.controller.posted.append(status)
            raise Crash

    an_import.controller.on_post = on_post


def run_until_crash(an_import: Import) -> None:
    with pytest.raises(Crash):
        an_import.run()
    an_import.controller.on_post = lambda status: None
    an_import.timeline.reattach()


@contextmanager
def _called_after(lines: int, call: Callable[[], object]) -> Iterator[None]:
    """Calls `call` when the import has logged so many lines."""
    seen = 0

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal seen
            seen += 1
            if seen == lines:
                call()

    handler = Counter()
    logger = logging.getLogger("reattach.pageserver.import_pgdata")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_interrupted_again_and_again_it_still_converges(
    data: DataDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """I10, I3, I5: cancelled at random lines of its log, each life goes on where the last checkpoint was."""
    caplog.set_level(logging.INFO)
    rng = random.Random(4)
    an_import = Import.make(data, tmp_path / "timeline", ShardIdentity(1, 2, 4))
    lives = 0

    async def life(lines: int) -> None:
        task = asyncio.create_task(an_import.attempt())
        with _called_after(lines, task.cancel):
            await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    while an_import.controller.status != Done() and lives < 100:
        asyncio.run(life(rng.randrange(1, 30)))
        assert not list(an_import.timeline.directory.glob("*.___temp"))
        an_import.timeline.reattach()
        lives += 1
    assert an_import.controller.status == Done()
    assert lives > 5
    completed = an_import.controller.completed
    assert completed == sorted(set(completed)), "never falls, never told twice"
    assert an_import.content() == expected_content(data, ShardIdentity(1, 2, 4))


def add_relations(data: DataDirectory, count: int) -> None:
    for i in range(count):
        data.write_pages(f"{REL}{i}", 16)


DIFFERENT = "Import plan does not match storcon metadata: "
MORE_JOBS = "Import plan job length does not match storcon metadata: "
REL = "pgdata/base/5/16384"
INIT = "pgdata/base/5/16391_init"
CHANGES: dict[str, tuple[Callable[[DataDirectory], object], str, str]] = {
    "content": (lambda d: d.write_pages(REL, 70, seed=1), DIFFERENT, f"{REL} has other content"),
    "size": (
        lambda d: d.write_pages(REL, 71),
        DIFFERENT,
        f"{REL} had {70 * BLCKSZ} bytes and has {71 * BLCKSZ}",
    ),
    "added": (lambda d: d.write_pages(f"{REL}9", 1), DIFFERENT, f"{REL}9 was added"),
    "jobs": (lambda d: add_relations(d, 5), MORE_JOBS, f"{REL}0 was added"),
    "removed": (lambda d: (d.root / INIT).unlink(), DIFFERENT, f"{INIT} was removed"),
    "relation map": (
        lambda d: d.write("pgdata/base/5/pg_filenode.map", relmap(16, {1249: 1249})),
        DIFFERENT,
        "pgdata/base/5/pg_filenode.map has other content",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bucket_that_changed_before_the_resume_ends_the_import(an_import: Import, change: str) -> None:
    """I8, I11: terminal, with the documented text and the object's name; never a silent mix."""
    crash_at(an_import, 4, told=True)
    run_until_crash(an_import)
    apply, problem, detail = CHANGES[change]
    apply(an_import.data)
    an_import.run()
    assert an_import.controller.error.startswith(problem)
    assert detail in an_import.controller.error


def test_without_a_record_the_hash_still_counts(an_import: Import) -> None:
    """An index that another pageserver wrote has no record of ours."""
    crash_at(an_import, 4, told=True)
    run_until_crash(an_import)
    an_import.timeline.import_source = None
    an_import.data.write_pages("pgdata/base/5/16399", 1)
    an_import.run()
    assert "the objects that it began with were not recorded" in an_import.controller.error


def test_irrelevant_objects_may_change(an_import: Import) -> None:
    crash_at(an_import, 4, told=True)
    run_until_crash(an_import)
    an_import.data.write("pgdata/PG_VERSION", b"other\n")
    an_import.data.write("pgdata/base/5/pg_internal.init", b"new")
    an_import.run()
    assert an_import.controller.status == Done()


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (ShardImportProgress(1, 0, 7, 16 * BLCKSZ), "Import plan job length does not match storcon metadata"),
        (ShardImportProgress(0, 0, 7, 0), "recorded job_soft_size_limit is 0"),
    ],
)
def test_a_record_of_another_plan_ends_the_import(
    an_import: Import, progress: ShardImportProgress, expected: str
) -> None:
    an_import.controller.status = InProgress(progress)
    an_import.run()
    assert an_import.controller.error.startswith(expected)
    assert an_import.timeline.layers == {}


def test_a_second_import_in_one_generation_ends_with_its_reason(an_import: Import) -> None:
    # The layers of the jobs 3 and 4 are there, and nobody knows.
    crash_at(an_import, 4, told=False)
    with pytest.raises(Crash):
        an_import.run()
    an_import.controller.on_post = lambda status: None
    an_import.run()
    assert an_import.controller.error.startswith(
        "Import attempted to rewrite layer file in the same generation: "
    )


@pytest.mark.parametrize(
    "point",
    [
        "import-timeline-pre-execute-pausable",
        "import-task-complete-pausable",
        "import-timeline-pre-success-notify-pausable",
    ],
)
def test_unforeseen_errors_end_the_import_too(an_import: Import, point: str) -> None:
    """I11: an import is never stuck."""
    an_import.failpoints.configure(point, "panic(boom)")
    an_import.run()
    assert an_import.controller.error == "unexpected FailpointPanic: boom"


def test_bad_page_checksums_are_named(tmp_path: Path) -> None:
    from test_runner.unit.import_pgdata.data_directory import control_file
    from test_runner.unit.import_pgdata.test_import_page_checksums import checksummed

    data = small_data_directory(tmp_path / "bucket")
    data.write("pgdata/global/pg_control", control_file(page_checksums=True))
    for path, content in data.objects("pgdata/base").items() | data.objects("pgdata/global").items():
        if path.rpartition("/")[2][0].isdigit():
            pages = [content[i : i + BLCKSZ] for i in range(0, len(content), BLCKSZ)]
            data.write(path, b"".join(checksummed(page, i) for i, page in enumerate(pages)))
    good = Import.make(data, tmp_path / "good")
    good.config = replace(SMALL_JOBS, verify_checksums=True)
    good.run()
    assert good.controller.status == Done()
    raw = bytearray(data.read("pgdata/base/5/1249"))
    raw[17 * BLCKSZ + 100] ^= 1
    raw[17 * BLCKSZ + 14] |= 1
    data.write("pgdata/base/5/1249", bytes(raw))
    bad = Import.make(data, tmp_path / "bad")
    bad.config = good.config
    bad.run()
    assert bad.controller.error == "pgdata/base/5/1249: the checksum of block 17 of this relation is wrong"
    lenient = Import.make(data, tmp_path / "lenient")
    lenient.run()
    assert lenient.controller.status == Done()
    assert RelTag(1663, 5, 1249, 0).block(17) in lenient.content()


def test_a_directory_that_is_gone_ends_the_import(an_import: Import) -> None:
    an_import.timeline.directory = an_import.timeline.directory / "gone"
    an_import.run()
    assert an_import.controller.error.startswith("unexpected FileNotFoundError: ")
