"""Data directories of any size, made without running SQL for minutes.

A real cluster gives the catalogs and the pages: `populate_vanilla_pg` fills table `t`, a row on each page.
A relation of any size is those pages over and over, each with its own block number written over the row's
number, so that no two pages are equal. No catalog knows the relation, which an import does not care about.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reattach.fixtures.fast_import import populate_vanilla_pg
from reattach.fixtures.imports.bucket import SPEC, STATUS_DONE, LocalImportBucket, SourceCluster
from test_runner.performance.lab import Lab

PAGE = 8192
MIB = 1 << 20
SEGMENT = 1024 * MIB

_SAMPLE_BYTES = 4 * MIB
_CHUNK_PAGES = 2048
FIRST_OID = 100_000
_DIGITS = 10


class DataFactory:
    """Makes import buckets in directories."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        dataset = lab.datasets.get(
            f"populate_vanilla_pg({_SAMPLE_BYTES})",
            lambda postgres: [
                populate_vanilla_pg(postgres, _SAMPLE_BYTES),
                str(postgres.safe_psql_scalar("select pg_relation_filepath('t')")),
            ],
            lab.pg_bin,
        )
        self._template = dataset.pgdata
        self._table = dataset.pgdata / str(dataset.result[1])

    def relations(self, sizes: list[int]) -> LocalImportBucket:
        """A cluster with one more relation for each size, in bytes, as an import bucket.

        It has no WAL files, which an import does not read, so `cp -r` of it copies what an import reads.
        """
        directory = self._lab.path("bucket-dir")
        pgdata = directory / "pgdata"
        shutil.copytree(self._template, pgdata, ignore=shutil.ignore_patterns("pg_wal"))
        database = pgdata / self._table.parent.relative_to(self._template)
        sample = np.fromfile(self._table, np.uint8).reshape(-1, PAGE)
        for number, size in enumerate(sizes):
            _write_relation(database, str(FIRST_OID + number), size, sample)
        (directory / "status").mkdir()
        (directory / "status" / "pgdata").write_text(json.dumps(STATUS_DONE))
        (directory / "spec.json").write_text(json.dumps(SPEC))
        os.sync()  # else what is measured next competes with the disk
        return LocalImportBucket(SourceCluster(pgdata, self._lab.pg_bin.distribution.version, 0), directory)


def _write_relation(database: Path, name: str, size: int, sample: npt.NDArray[np.uint8]) -> None:
    pages = _pages(size // PAGE, sample)
    for segment in range(-(-size // SEGMENT) or 1):
        with (database / (f"{name}.{segment}" if segment else name)).open("wb") as file:
            remaining = min(SEGMENT, size - segment * SEGMENT)
            while remaining:
                remaining -= file.write(next(pages))


def _pages(count: int, sample: npt.NDArray[np.uint8]) -> Iterator[memoryview]:
    """Chunks that divide a segment, but for the last."""
    chunk = np.resize(sample, (min(_CHUNK_PAGES, count), PAGE))
    number_at = _row_data_offset(sample[0])
    for first in range(0, count, _CHUNK_PAGES):
        own = chunk[: min(_CHUNK_PAGES, count - first)]
        numbers = np.arange(first, first + len(own))
        texts = np.char.zfill(numbers.astype(f"S{_DIGITS}"), _DIGITS)
        own[:, number_at : number_at + _DIGITS] = texts.view(np.uint8).reshape(-1, _DIGITS)
        yield own.data.cast("B")


def _row_data_offset(page: npt.NDArray[np.uint8]) -> int:
    """Where the digits of a page's only row begin."""
    line_pointer = int.from_bytes(page[24:28].tobytes(), "little")
    tuple_at = line_pointer & 0x7FFF
    header = int(page[tuple_at + 22])
    return tuple_at + header + 4
