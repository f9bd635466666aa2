"""Running imports into a fake timeline, and comparing what they wrote with the bucket."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from pathlib import Path

from reattach.api.key import (
    BLCKSZ,
    CHECKPOINT_KEY,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    RELSEG_BLOCKS,
    TWOPHASEDIR_KEY,
    Key,
    RelTag,
    SlruKind,
    reldir_key,
    relmap_key,
    slru_block_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.api.location import AwsS3, ImportLocation, LocalFs
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.import_pgdata.task import run_import
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader
from reattach.runtime.failpoints import Failpoints
from test_runner.unit.import_pgdata.data_directory import DataDirectory
from test_runner.unit.import_pgdata.fakes import FakeController, FakeMetrics, FakeTimeline

SECONDS = 30

SMALL_JOBS = ImportConfig(
    import_job_concurrency=2,
    import_job_soft_size_limit=16 * BLCKSZ,
    import_job_checkpoint_threshold=2,
    import_job_max_byte_range_size=5 * BLCKSZ,
)

Content = dict[Key, bytes]


@dataclass
class Import:
    """A timeline that is imported from a bucket, maybe in several attempts."""

    data: DataDirectory
    timeline: FakeTimeline
    controller: FakeController = field(default_factory=FakeController)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    failpoints: Failpoints = field(default_factory=Failpoints)
    config: ImportConfig = SMALL_JOBS
    s3: AwsS3 | None = None

    @classmethod
    def make(cls, data: DataDirectory, directory: Path, shard: ShardIdentity | None = None) -> Import:
        directory.mkdir()
        return cls(data, FakeTimeline(directory, shard or ShardIdentity()))

    async def attempt(self) -> None:
        location = ImportLocation(self.s3 or LocalFs(str(self.data.root)))
        await asyncio.wait_for(
            run_import(self.timeline, self.controller, location, self.config, self.failpoints, self.metrics),
            SECONDS,
        )

    def run(self) -> None:
        """One attempt, which must leave neither tasks nor temporary files behind."""

        async def attempt() -> None:
            try:
                await self.attempt()
            finally:
                assert asyncio.all_tasks() == {asyncio.current_task()}

        try:
            asyncio.run(attempt())
        finally:
            assert not list(self.timeline.directory.glob("*.___temp"))

    def content(self) -> Content:
        """Every key of every layer, each layer checked against its checksum; ranges must not overlap."""
        found: Content = {}
        end = Key(0, 0, 0, 0, 0, 0)
        for name, layer in sorted(self.timeline.layers.items()):
            assert name.key_range.start >= end
            end = name.key_range.end
            path = self.timeline.path_of(name)
            with ImageLayerReader(path, name, self.timeline.tenant_id, checksum=layer.checksum) as reader:
                values = dict(reader.values(name.key_range))
            assert not found.keys() & values.keys()
            found |= values
        return found


def expected_content(data: DataDirectory, shard: ShardIdentity) -> Content:
    """What a shard must hold of a data directory, worked out page by page."""
    content: Content = {}
    databases = [(1664, 0, "pgdata/global")]
    for directory in sorted((data.root / "pgdata/base").iterdir()):
        databases.append((1663, int(directory.name), f"pgdata/base/{directory.name}"))
    databases.sort()
    entries = b"".join(struct.pack(">II?", spcnode, dbnode, True) for spcnode, dbnode, _ in databases)
    content[DBDIR_KEY] = struct.pack(">Q", len(databases)) + entries
    for spcnode, dbnode, directory_path in databases:
        content[relmap_key(spcnode, dbnode)] = data.read(f"{directory_path}/pg_filenode.map")
        sizes: dict[tuple[int, int], int] = {}
        for path, file in data.objects(directory_path).items():
            parts = path.rpartition("/")[2].partition(".")
            relnode, _, fork_name = parts[0].partition("_")
            if not relnode.isdigit():
                continue
            fork = ["", "fsm", "vm", "init"].index(fork_name)
            blocks = len(file) // BLCKSZ
            sizes[int(relnode), fork] = sizes.get((int(relnode), fork), 0) + blocks
            first = int(parts[2] or 0) * RELSEG_BLOCKS
            rel = RelTag(spcnode, dbnode, int(relnode), fork)
            content |= {rel.block(first + i): file[i * BLCKSZ :][:BLCKSZ] for i in range(blocks)}
        entries = b"".join(struct.pack(">IB", *each) for each in sorted(sizes))
        content[reldir_key(spcnode, dbnode)] = struct.pack(">Q", len(sizes)) + entries
        for (relnode_, fork), blocks in sizes.items():
            content[RelTag(spcnode, dbnode, relnode_, fork).size_key()] = struct.pack("<Q", blocks)
    for kind in SlruKind:
        segments = {
            int(path.rpartition("/")[2], 16): file
            for path, file in data.objects(f"pgdata/{kind.directory}").items()
        }
        entries = b"".join(struct.pack(">I", segno) for segno in sorted(segments))
        content[slru_dir_key(kind)] = struct.pack(">Q", len(segments)) + entries
        for segno, file in segments.items():
            blocks = len(file) // BLCKSZ
            content |= {slru_block_key(kind, segno, i): file[i * BLCKSZ :][:BLCKSZ] for i in range(blocks)}
            content[slru_segment_size_key(kind, segno)] = struct.pack("<I", blocks)
    control_file = data.read("pgdata/global/pg_control")
    content[TWOPHASEDIR_KEY] = bytes(8)
    content[CONTROLFILE_KEY] = control_file
    content[CHECKPOINT_KEY] = control_file[40:128]
    return {key: value for key, value in content.items() if not shard.is_disposable(key)}
