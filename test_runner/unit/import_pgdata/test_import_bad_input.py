"""Data that can never be imported ends the import, with the object's name and the reason (I11)."""

from __future__ import annotations

import asyncio
import random
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from reattach.api.import_status import Done
from reattach.api.key import BLCKSZ
from reattach.pageserver.import_pgdata.bucket import RangeRead
from reattach.pageserver.import_pgdata.bucket_local import LocalBucket
from reattach.pageserver.import_pgdata.job import READ_AHEAD_BATCHES
from reattach.pageserver.layers.blobs import Buffer
from test_runner.unit.import_pgdata.data_directory import (
    DataDirectory,
    control_file,
    small_data_directory,
)
from test_runner.unit.import_pgdata.imports import SMALL_JOBS, Import

T = TypeVar("T")

CONTROL = "pgdata/global/pg_control"
MISSING = "No file found for the remote object id given"


def write_control(**fields: int) -> Callable[[DataDirectory], object]:
    return lambda data: data.write(CONTROL, control_file(**fields))  # type: ignore[arg-type]


def remove(path: str) -> Callable[[DataDirectory], object]:
    return lambda data: (data.root / path).unlink()


Spoil = Callable[[DataDirectory], object]
MAP = "pgdata/base/5/pg_filenode.map"
REL = "pgdata/base/5/1249"
BAD_INPUT: dict[str, tuple[Spoil, str, str]] = {
    "no control file": (remove(CONTROL), CONTROL, MISSING),
    "short control file": (lambda d: d.write(CONTROL, bytes(100)), CONTROL, "control file is too short"),
    "bad CRC": (lambda d: d.write(CONTROL, bytes(8192)), CONTROL, "invalid CRC in control file: "),
    "PostgreSQL 18": (
        write_control(catalog_version=202506291),
        CONTROL,
        "unrecognized catalog version 202506291: this is PostgreSQL 18",
    ),
    "not shut down": (write_control(state=6), CONTROL, "the cluster was not shut down cleanly"),
    "no shared map": (remove("pgdata/global/pg_filenode.map"), "pgdata/global/pg_filenode.map", MISSING),
    "no relation map": (remove(MAP), MAP, MISSING),
    "half a map": (lambda d: d.write(MAP, bytes(100)), MAP, "has 100 bytes, PostgreSQL 16 writes 524"),
    "half a page": (lambda d: d.write(REL, bytes(12288)), REL, "its size 12288 is not a multiple of 8192"),
    "half an slru page": (
        lambda d: d.write("pgdata/pg_xact/0000", bytes(100)),
        "pgdata/pg_xact/0000",
        "its size 100 is not a multiple of 8192",
    ),
    "a missing segment": (
        lambda d: d.write_pages(f"{REL}.2", 1),
        f"{REL}.2",
        "segment 1 of this relation is missing",
    ),
    "a tablespace": (
        lambda d: d.write("pgdata/pg_tblspc/16400/PG_16/5/1", b""),
        "pgdata/pg_tblspc/16400/PG_16/5/1",
        "user tablespaces cannot be imported",
    ),
    "malformed status": (lambda d: d.write("status/pgdata", b"{}"), "status/pgdata", "it is malformed"),
    "nothing but the status": (lambda d: shutil.rmtree(d.root / "pgdata"), CONTROL, MISSING),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_refused_before_the_first_job(tmp_path: Path, what: str) -> None:
    """I11"""
    spoil, path, reason = BAD_INPUT[what]
    data = small_data_directory(tmp_path / "bucket")
    spoil(data)
    an_import = Import.make(data, tmp_path / "timeline")
    an_import.run()
    assert an_import.controller.error.startswith(f"{path}: {reason}")
    assert len(an_import.controller.posted) == 1
    assert an_import.timeline.layers == {}
    assert an_import.metrics.done == []


def test_memory_does_not_grow_with_the_relation(tmp_path: Path) -> None:
    """I12: what is in memory depends on concurrency and range size."""
    data = small_data_directory(tmp_path / "bucket")
    range_size = 16 * BLCKSZ
    peaks = []
    for i, pages in enumerate((1000, 5000)):
        data.write("pgdata/base/5/20000", random.Random(i).randbytes(pages * BLCKSZ))
        an_import = Import.make(data, tmp_path / f"timeline{i}")
        an_import.config = replace(
            SMALL_JOBS, import_job_max_byte_range_size=range_size, import_job_soft_size_limit=1 << 30
        )
        tracemalloc.start()
        an_import.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert an_import.controller.status == Done()
    assert max(peaks) < 3 * (2 + 4) * range_size + (1 << 20)
    assert peaks[1] < 1.3 * peaks[0] + (1 << 19)


@pytest.mark.parametrize(("concurrency", "job_pages"), [(1, 100), (5, 100), (5, 10_000)])
def test_bytes_on_their_way_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int, job_pages: int
) -> None:
    """I12: by the number of jobs and of a job's batches, however slow the bucket is."""
    data = small_data_directory(tmp_path / "bucket")
    for relation in range(20_000, 20_010):
        data.write(f"pgdata/base/5/{relation}", bytes(100 * BLCKSZ))
    on_their_way = most = 0
    map_ranges = LocalBucket.map_ranges

    async def slow(self: LocalBucket, reads: Sequence[RangeRead], work: Callable[[list[Buffer]], T]) -> T:
        nonlocal on_their_way, most
        size = sum(read.end - read.start for read in reads)
        on_their_way += size
        most = max(most, on_their_way)
        try:
            await asyncio.sleep(0.02)
            return await map_ranges(self, reads, work)
        finally:
            on_their_way -= size

    monkeypatch.setattr(LocalBucket, "map_ranges", slow)
    an_import = Import.make(data, tmp_path / "timeline")
    an_import.config = replace(
        SMALL_JOBS,
        import_job_concurrency=concurrency,
        import_job_soft_size_limit=job_pages * BLCKSZ,
        import_job_max_byte_range_size=5 * BLCKSZ,
    )
    an_import.run()
    assert an_import.controller.status == Done()
    ranges = most / (5 * BLCKSZ)
    assert ranges <= concurrency + 4
    if job_pages == 10_000:
        assert ranges <= READ_AHEAD_BATCHES, "all is in one job"
    assert ranges > 3, "one job reads ahead, too"
