"""Data that can never be imported ends the import, with the object's name and the reason (I11)."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest

from reattach.api.import_status import Done
from reattach.api.key import BLCKSZ
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket import RangeRead
from reattach.pageserver.import_pgdata.bucket_local import LocalBucket
from reattach.pageserver.import_pgdata.job import READ_AHEAD_BATCHES
from reattach.pageserver.layers.blobs import Buffer
from test_runner.unit.import_pgdata.data_directory import (
    DataDirectory,
    control_file,
    small_data_directory,
)
from test_runner.unit.import_pgdata.imports import SMALL_JOBS, Import, expected_content

T = TypeVar("T")

CONTROL = "pgdata/global/pg_control"
MISSING = "No file found for the remote object id given"


def write_control(**fields: int) -> Callable[[DataDirectory], object]:
    return lambda data: data.write(CONTROL, control_file(**fields))  # type: ignore[arg-type]


def remove(path: str) -> Callable[[DataDirectory], object]:
    return lambda data: (data.root / path).unlink()


def flipped(raw: bytes) -> bytes:
    return raw[:100] + bytes([raw[100] ^ 1]) + raw[101:]


def pipe(path: str) -> Callable[[DataDirectory], object]:
    def spoil(data: DataDirectory) -> None:
        (data.root / path).unlink(missing_ok=True)
        os.mkfifo(data.root / path)

    return spoil


def socket_at(path: str) -> Callable[[DataDirectory], object]:
    def spoil(data: DataDirectory) -> None:
        # A socket's path may be no longer than 107 bytes.
        with socket.socket(socket.AF_UNIX) as server, TemporaryDirectory(dir="/tmp") as short:
            server.bind(f"{short}/s")
            Path(short, "s").rename(data.root / path)

    return spoil


def link_to_directory(data: DataDirectory, path: str) -> None:
    """A link in the data directory to a directory beside it that has a file."""
    elsewhere = data.root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "16384").write_bytes(bytes(BLCKSZ))
    (data.root / path).parent.mkdir(exist_ok=True)
    (data.root / path).symlink_to(elsewhere, target_is_directory=True)


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
    "a damaged map": (
        lambda d: d.write(MAP, flipped(d.read(MAP))),
        MAP,
        "the relation map is damaged: its CRC is",
    ),
    "a mapped relation is gone": (
        remove("pgdata/global/1262"),
        "pgdata/global/1262",
        "is missing, though pgdata/global/pg_filenode.map says that relation 1262 is there",
    ),
    "an empty catalog": (
        lambda d: d.write_pages("pgdata/base/5/16384", 0),
        "pgdata/base/5/16384",
        "is empty, and has been the catalog pg_class",
    ),
    "no database": (
        lambda d: shutil.rmtree(d.root / "pgdata/base"),
        "pgdata/base",
        "there is no database in it",
    ),
    "no transaction status": (remove("pgdata/pg_xact/0000"), "pgdata/pg_xact/0000", "is missing, though"),
    "no multixacts": (
        remove("pgdata/pg_multixact/offsets/000A"),
        "pgdata/pg_multixact/offsets/000A",
        "is missing, though",
    ),
    "a prepared transaction": (
        lambda d: d.write("pgdata/pg_twophase/000002DB", b"x"),
        "pgdata/pg_twophase/000002DB",
        "prepared transactions cannot be imported",
    ),
    "a base backup": (
        lambda d: d.write("pgdata/backup_label", b"x"),
        "pgdata/backup_label",
        "a base backup is not a cluster",
    ),
    "a stopped standby": (
        write_control(state=2),
        CONTROL,
        "the cluster was not shut down cleanly: its state is 'shut down in recovery'",
    ),
    "a pipe for a control file": (pipe(CONTROL), CONTROL, "a named pipe, not a file"),
    "a pipe for a relation": (pipe(REL), REL, "a named pipe, not a file"),
    "a socket for a relation": (
        socket_at("pgdata/base/5/20000"),
        "pgdata/base/5/20000",
        "a socket, not a file",
    ),
    "a pipe for a status": (pipe("status/pgdata"), "status/pgdata", "a named pipe, not a file"),
    "a pipe beside": (pipe("pgdata/log_pipe"), "pgdata/log_pipe", "a named pipe, not a file"),
    "a link to a device": (
        lambda d: (d.root / "pgdata/base/5/20000").symlink_to("/dev/zero"),
        "pgdata/base/5/20000",
        "a device, not a file",
    ),
    "a link to nothing": (
        lambda d: (d.root / "pgdata/base/5/20000").symlink_to("/nowhere"),
        "pgdata/base/5/20000",
        "a symbolic link to nothing",
    ),
    "a link to itself": (
        lambda d: (d.root / "pgdata/base/5/20000").symlink_to("20000"),
        "pgdata/base/5/20000",
        "a symbolic link that leads to itself",
    ),
    "a link to a tablespace": (
        lambda d: link_to_directory(d, "pgdata/pg_tblspc/16400"),
        "pgdata/pg_tblspc/16400/16384",
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


def test_links_are_followed(tmp_path: Path) -> None:
    """I8: what lies behind a link is imported: a segment, a database, transaction status."""
    data = small_data_directory(tmp_path / "bucket")
    for number, path in enumerate(("pgdata/base/5/1249", "pgdata/base/1", "pgdata/pg_xact")):
        (data.root / path).rename(tmp_path / str(number))
        (data.root / path).symlink_to(tmp_path / str(number))
    an_import = Import.make(data, tmp_path / "timeline")
    an_import.run()
    assert an_import.controller.status == Done()
    assert an_import.content() == expected_content(small_data_directory(tmp_path / "again"), ShardIdentity())


def test_a_servers_socket_is_no_data(tmp_path: Path) -> None:
    data = small_data_directory(tmp_path / "bucket")
    socket_at("pgdata/.s.PGSQL.5432")(data)
    an_import = Import.make(data, tmp_path / "timeline")
    an_import.run()
    assert an_import.controller.status == Done()


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

    async def slow(self: LocalBucket, reads: Sequence[RangeRead], work: Callable[[Buffer], T]) -> T:
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
