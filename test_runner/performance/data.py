"""Data directories of any size, made without running SQL for minutes.

A real cluster gives the catalogs and the pages: `populate_vanilla_pg` fills table `t`, a row on each page.
A relation of any size is those pages over and over, each with its own block number written over the row's
number, so that no two pages are equal. Or it is pages of a table of random UUIDs, each row another one. No
catalog knows the relation, which an import does not care about.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reattach.fixtures.fast_import import populate_vanilla_pg
from reattach.fixtures.imports.bucket import SPEC, STATUS_DONE, LocalImportBucket, SourceCluster
from reattach.fixtures.vanilla_postgres import VanillaPostgres
from test_runner.performance.lab import Lab

PAGE = 8192
MIB = 1 << 20
SEGMENT = 1024 * MIB

_SAMPLE_BYTES = 4 * MIB
_CHUNK_PAGES = 2048
FIRST_OID = 100_000
_DIGITS = 10
_VARLENA_HEADER = 4
_UUID = 16

Pages: TypeAlias = npt.NDArray[np.uint8]
"""Shape (n, 8192)."""


class DataFactory:
    """Makes import buckets in directories."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        dataset = lab.datasets.get(f"populate_vanilla_pg({_SAMPLE_BYTES}), uuids", _fill, lab.pg_bin)
        self._template = dataset.pgdata
        self._table, self._uuids = (dataset.pgdata / path for path in dataset.result)

    def relations(self, sizes: list[int]) -> LocalImportBucket:
        """A cluster with one more relation for each size, in bytes, as an import bucket.

        It has no WAL files, which an import does not read, so `cp -r` of it copies what an import reads.
        """
        sample = _pages_of(self._table)
        return self._bucket((size, _numbered(size // PAGE, sample)) for size in sizes)

    def random_uuids(self, size: int) -> LocalImportBucket:
        """A cluster with a table of random UUIDs of so many bytes, as an import bucket. As `relations`."""
        return self._bucket([(size, _with_random_uuids(size // PAGE, _pages_of(self._uuids)[0]))])

    def _bucket(self, relations: Iterable[tuple[int, Iterator[memoryview]]]) -> LocalImportBucket:
        """relations: taken one by one, since each keeps a copy of the sample for as long as it is there."""
        directory = self._lab.path("bucket-dir")
        pgdata = directory / "pgdata"
        shutil.copytree(self._template, pgdata, ignore=shutil.ignore_patterns("pg_wal"))
        database = pgdata / self._table.parent.relative_to(self._template)
        for number, (size, pages) in enumerate(relations):
            _write_relation(database, str(FIRST_OID + number), size, pages)
        (directory / "status").mkdir()
        (directory / "status" / "pgdata").write_text(json.dumps(STATUS_DONE))
        (directory / "spec.json").write_text(json.dumps(SPEC))
        os.sync()  # else what is measured next competes with the disk
        return LocalImportBucket(SourceCluster(pgdata, self._lab.pg_bin.distribution.version, 0), directory)


def _fill(postgres: VanillaPostgres) -> list[str]:
    populate_vanilla_pg(postgres, _SAMPLE_BYTES)
    postgres.safe_psql("create table uuids as select gen_random_uuid() from generate_series(1, 1000)")
    postgres.safe_psql("vacuum (freeze) uuids")
    names = ("t", "uuids")
    return [str(postgres.safe_psql_scalar(f"select pg_relation_filepath('{name}')")) for name in names]


def _pages_of(relation: Path) -> Pages:
    return np.fromfile(relation, np.uint8).reshape(-1, PAGE)


def _write_relation(database: Path, name: str, size: int, pages: Iterator[memoryview]) -> None:
    for segment in range(-(-size // SEGMENT) or 1):
        with (database / (f"{name}.{segment}" if segment else name)).open("wb") as file:
            remaining = min(SEGMENT, size - segment * SEGMENT)
            while remaining:
                remaining -= file.write(next(pages))


def _numbered(count: int, sample: Pages) -> Iterator[memoryview]:
    """Chunks that divide a segment, but for the last."""
    chunk = np.resize(sample, (min(_CHUNK_PAGES, count), PAGE))
    number_at = _row_data_offsets(sample[0])[0] + _VARLENA_HEADER
    for first in range(0, count, _CHUNK_PAGES):
        own = chunk[: min(_CHUNK_PAGES, count - first)]
        numbers = np.arange(first, first + len(own))
        texts = np.char.zfill(numbers.astype(f"S{_DIGITS}"), _DIGITS)
        own[:, number_at : number_at + _DIGITS] = texts.view(np.uint8).reshape(-1, _DIGITS)
        yield own.data.cast("B")


def _with_random_uuids(count: int, sample: npt.NDArray[np.uint8]) -> Iterator[memoryview]:
    """As `_numbered`."""
    chunk = np.resize(sample, (min(_CHUNK_PAGES, count), PAGE))
    rows = np.array(_row_data_offsets(sample))
    columns = (rows[:, None] + np.arange(_UUID)).reshape(-1)
    random = np.random.default_rng(7)
    for first in range(0, count, _CHUNK_PAGES):
        own = chunk[: min(_CHUNK_PAGES, count - first)]
        uuids = random.integers(0, 256, (len(own), len(rows), _UUID), np.uint8)
        uuids[..., 6] = uuids[..., 6] & 0x0F | 0x40  # version 4
        uuids[..., 8] = uuids[..., 8] & 0x3F | 0x80  # variant of RFC 9562
        own[:, columns] = uuids.reshape(len(own), -1)
        yield own.data.cast("B")


def _row_data_offsets(page: npt.NDArray[np.uint8]) -> list[int]:
    """Where the first column of each of a page's rows begins."""
    end_of_pointers = int.from_bytes(page[12:14].tobytes(), "little")
    pointers = page[24:end_of_pointers].view("<u4").tolist()
    tuples = [pointer & 0x7FFF for pointer in pointers]
    return [at + int(page[at + 22]) for at in tuples]
