"""Random listings of data directories."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from reattach.api.key import BLCKSZ, RELSEG_BLOCKS
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import ControlFile, parse_control_file
from test_runner.unit.import_pgdata.data_directory import control_file

CONTROL_FILE = parse_control_file(control_file())
RELMAP = bytes(range(256)) * 2 + bytes(12)

versions = st.sampled_from(['"a"', '"b"', '"c"'])
seeds = st.integers(0, 2**32)

IGNORED = (
    "pgdata/PG_VERSION",
    "pgdata/base/1/PG_VERSION",
    "pgdata/base/1/pg_internal.init",
    "pgdata/base/1/t3_16384",
    "pgdata/base/1/16384_",
    "pgdata/base/1/16384_old",
    "pgdata/base/pgsql_tmp/pgsql_tmp1.0",
    "pgdata/pg_wal/000000010000000000000001",
    "pgdata/pg_xact/readme",
    "pgdata/pg_tblspc/",
)


def obj(path: str, blocks: int, version: str = '"v"') -> BucketObject:
    return BucketObject(path, blocks * BLCKSZ, version)


@st.composite
def listings(draw: st.DrawFn) -> list[BucketObject]:
    """Listings that can be imported, in random order."""
    found = [
        BucketObject("pgdata/global/pg_control", 8192, draw(versions)),
        BucketObject("pgdata/global/pg_filenode.map", len(RELMAP), draw(versions)),
    ]
    for path in draw(st.sets(st.sampled_from(IGNORED))):
        found.append(BucketObject(path, draw(st.integers(0, 10_000)), draw(versions)))
    databases = draw(st.sets(st.integers(1, 30_000), max_size=2)) | {1}
    for directory in ("pgdata/global", *(f"pgdata/base/{oid}" for oid in databases)):
        if directory != "pgdata/global":
            found.append(BucketObject(f"{directory}/pg_filenode.map", len(RELMAP), draw(versions)))
        forks = st.tuples(st.integers(1, 70_000), st.sampled_from(["", "_fsm", "_vm", "_init"]))
        chosen = draw(st.sets(forks, max_size=4))
        for relnode, fork in sorted(chosen | {(relnode, "") for relnode, _ in chosen}):
            full = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
            for segno in range(full + 1):
                blocks = RELSEG_BLOCKS if segno < full else draw(st.integers(0, 300))
                suffix = f".{segno}" if segno else ""
                found.append(obj(f"{directory}/{relnode}{fork}{suffix}", blocks, draw(versions)))
    for directory in ("pg_xact", "pg_multixact/members", "pg_multixact/offsets"):
        for segno in draw(st.sets(st.integers(0, 0x1FFFF), max_size=3)):
            found.append(obj(f"pgdata/{directory}/{segno:04X}", draw(st.integers(0, 32)), draw(versions)))
    random.Random(draw(seeds)).shuffle(found)
    return found


def relmaps_of(objects: list[BucketObject]) -> dict[str, bytes]:
    return {source.path: RELMAP for source in objects if source.path.endswith("/pg_filenode.map")}


def control_file_with(checkpoint: int) -> ControlFile:
    return parse_control_file(control_file(checkpoint=checkpoint))
