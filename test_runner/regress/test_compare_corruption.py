"""I8 and I2 can fail: what is broken in remote storage is noticed by the comparison, which names it.

Each test imports, takes the pageserver's disk away, damages remote storage, and compares. With the checksums
that the built-in pageserver records, and without them, as another pageserver's index would be.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reattach.api.key import BLCKSZ, DEFAULTTABLESPACE_OID, RelTag
from reattach.api.layer_name import LayerName
from reattach.api.shard import ShardIdentity
from reattach.fixtures.compare import DataDiffers, DataUnreadable, DifferentBytes, ForeignKeys, MissingFile
from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, TenantShardId
from reattach.fixtures.remote_storage import RemoteStorageKind
from reattach.fixtures.stores.local_fs import LocalFsStorage

STRIPE_SIZE = 16

both_ways = pytest.mark.parametrize("checksums", [True, False], ids=["with_checksums", "without_checksums"])
without_checksums = pytest.mark.parametrize("checksums", [False], ids=["without_checksums"])


@dataclass
class RemoteShard:
    """A shard's timeline as remote storage has it. Layers are in key order."""

    shard: TenantShardId
    storage: LocalFsStorage
    timeline: ImportTimeline

    @property
    def index_path(self) -> Path:
        return self.storage.index_path(self.shard, self.timeline.timeline_id)

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(self.index_path.read_bytes())["layer_metadata"]
        return dict(sorted(found.items()))

    def write_layers(self, layers: dict[str, dict[str, Any]]) -> None:
        index = json.loads(self.index_path.read_bytes())
        index["layer_metadata"] = layers
        self.index_path.write_text(json.dumps(index))

    def path(self, layer: str) -> Path:
        directory = self.storage.timeline_path(self.shard, self.timeline.timeline_id)
        return directory / LayerName.parse(layer).remote_object(self.layers[layer]["generation"])

    def largest_layer(self) -> str:
        return max(self.layers, key=lambda name: self.layers[name]["file_size"])

    def drop_checksums(self) -> None:
        layers = self.layers
        for metadata in layers.values():
            metadata.pop("checksum", None)
        self.write_layers(layers)


Damage = Callable[[list[RemoteShard]], None]
Damaged = Callable[[Damage], ImportTimeline]


@pytest.fixture
def damaged(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    checksums: bool,
    request: pytest.FixtureRequest,
) -> Damaged:
    """Imports, compares, damages remote storage while the pageserver is stopped and its disk lost."""
    shard_count: int = getattr(request, "param", 0)

    def damage_it(damage: Damage) -> ImportTimeline:
        neon_env_builder.enable_pageserver_remote_storage(RemoteStorageKind.LOCAL_FS)
        env = neon_env_builder.init_start()
        env.pageserver.allowed_errors.append(".*(command failed|Error processing HTTP request).*")
        timeline = env.start_import(import_bucket, shard_count=shard_count, stripe_size=STRIPE_SIZE)
        timeline.wait_done()
        timeline.assert_equals(import_bucket)
        env.pageserver.stop()
        storage = env.pageserver_remote_storage
        assert isinstance(storage, LocalFsStorage)
        shards = [RemoteShard(shard, storage, timeline) for shard in timeline.shards]
        for shard in shards:
            shutil.rmtree(env.pageserver.timeline_dir(shard.shard, timeline.timeline_id))
            if not checksums:
                shard.drop_checksums()
        damage(shards)
        env.pageserver.start()
        env.pageserver.quiesce_tenants()
        return timeline

    return damage_it


@without_checksums
def test_nothing_is_wrong_if_nothing_is_damaged(damaged: Damaged, import_bucket: ImportBucket) -> None:
    """All that the comparison needs is in remote storage (I2)."""
    damaged(lambda shards: None).assert_equals(import_bucket)


@both_ways
def test_byte_of_a_layer_object(damaged: Damaged, import_bucket: ImportBucket) -> None:
    hit: list[str] = []

    def flip(shards: list[RemoteShard]) -> None:
        hit.append(shards[0].largest_layer())
        path = shards[0].path(hit[0])
        content = bytearray(path.read_bytes())
        content[BLCKSZ + 1000] ^= 0x20
        path.write_bytes(content)

    with pytest.raises(DataUnreadable, match="cannot read layer") as failure:
        damaged(flip).assert_equals(import_bucket)
    first = str(failure.value).splitlines()[0]
    assert re.fullmatch(
        rf"I8: the import cannot be read: shard 0000, layer {hit[0]}, "
        r"which begins with \S+, block \d+ \(key [0-9A-F]{36}\)",
        first,
    )


@without_checksums
def test_missing_layer(damaged: Damaged, import_bucket: ImportBucket) -> None:
    hit: list[str] = []

    def remove(shards: list[RemoteShard]) -> None:
        hit.append(list(shards[0].layers)[3])
        shards[0].path(hit[0]).unlink()

    with pytest.raises(DataUnreadable, match="No file found for the remote object id given") as failure:
        damaged(remove).assert_equals(import_bucket)
    assert f"cannot read layer {hit[0]}" in str(failure.value)


@without_checksums
def test_index_that_names_a_layer_that_is_not_there(damaged: Damaged, import_bucket: ImportBucket) -> None:
    hit: list[str] = []

    def rename(shards: list[RemoteShard]) -> None:
        layers = shards[0].layers
        hit.append(list(layers)[2])
        layers[hit[0]]["generation"] = 0x77
        shards[0].write_layers(layers)

    with pytest.raises(DataUnreadable, match="-00000077") as failure:
        damaged(rename).assert_equals(import_bucket)
    assert f"cannot read layer {hit[0]}" in str(failure.value)


@without_checksums
@pytest.mark.parametrize("damaged", [0, 2], indirect=True, ids=["unsharded", "2_shards"])
def test_index_without_a_layer(damaged: Damaged, import_bucket: ImportBucket) -> None:
    """I8: what is missing is named by file, block, key and shard."""

    def forget(shards: list[RemoteShard]) -> None:
        layers = shards[0].layers
        del layers[shards[0].largest_layer()]
        shards[0].write_layers(layers)

    with pytest.raises(DataUnreadable) as failure:
        damaged(forget).assert_equals(import_bucket)
    first = str(failure.value).splitlines()[0]
    assert re.match(r"I8: the import has no data for base/\d+/\S+, (from )?block \d+ .*key [0-9A-F]+", first)
    assert re.search(r": shard 000[02], in no layer$", first)


@without_checksums
@pytest.mark.parametrize("damaged", [2], indirect=True, ids=["2_shards"])
def test_missing_layer_of_a_shard(damaged: Damaged, import_bucket: ImportBucket) -> None:
    hit: list[str] = []

    def remove(shards: list[RemoteShard]) -> None:
        hit.append(list(shards[1].layers)[3])
        shards[1].path(hit[0]).unlink()

    with pytest.raises(
        DataUnreadable, match=r"^I8: the import cannot be read: .*layer .*, which begins with "
    ) as e:
        damaged(remove).assert_equals(import_bucket)
    assert f"layer {hit[0]}" in str(e.value).splitlines()[0]


@both_ways
def test_two_layers_swapped(damaged: Damaged, import_bucket: ImportBucket) -> None:
    hit: list[str] = []

    def swap(shards: list[RemoteShard]) -> None:
        shard = shards[0]
        hit[:] = list(shard.layers)[1:3]
        one, other = (shard.path(layer) for layer in hit)
        contents = one.read_bytes(), other.read_bytes()
        other.write_bytes(contents[0])
        one.write_bytes(contents[1])
        # So that nothing but what is in the objects tells.
        layers = shard.layers
        for layer, content in zip(hit, reversed(contents), strict=True):
            layers[layer]["file_size"] = len(content)
        shard.write_layers(layers)

    with pytest.raises(DataUnreadable, match="cannot read layer") as failure:
        damaged(swap).assert_equals(import_bucket)
    assert f"cannot read layer {hit[0]}" in str(failure.value)


@without_checksums
@pytest.mark.parametrize("damaged", [2], indirect=True, ids=["2_shards"])
def test_layer_of_another_shard(damaged: Damaged, import_bucket: ImportBucket) -> None:
    """The first shard's index names the second shard's layer of the largest relation instead of its own."""
    hit: list[str] = []

    def exchange(shards: list[RemoteShard]) -> None:
        own, others = shards
        replaced = own.largest_layer()
        layers = own.layers
        metadata = others.layers[others.largest_layer()]
        del layers[replaced]
        layers[others.largest_layer()] = {**metadata, "shard": str(others.shard.shard_index)}
        own.write_layers(layers)
        hit.append(others.largest_layer())

    with pytest.raises(ForeignKeys, match=r"shard 0002: layer .* holds \d+ keys of other shards") as failure:
        damaged(exchange).assert_equals(import_bucket)
    assert hit[0] in str(failure.value)


def test_difference_is_described(
    neon_env_builder: NeonEnvBuilder, local_import_bucket: LocalImportBucket
) -> None:
    """A bucket that is no longer what was imported: file, byte, key, shard and layer are named."""
    env = neon_env_builder.init_start()
    timeline = env.start_import(local_import_bucket, shard_count=2, stripe_size=STRIPE_SIZE)
    timeline.wait_done()
    name = local_import_bucket.largest_relation_file()
    content = bytearray(local_import_bucket.get(name))
    block = 3 * STRIPE_SIZE + 5
    offset = block * BLCKSZ + 77
    before, content[offset] = content[offset], content[offset] ^ 0xFF
    local_import_bucket.put(name, bytes(content))
    local_import_bucket.put("pgdata/base/5/4294967295", bytes(BLCKSZ))

    with pytest.raises(DataDiffers) as failure:
        timeline.assert_equals(local_import_bucket)
    differing, missing = failure.value.differences
    assert isinstance(missing, MissingFile)
    assert missing.file.path == "base/5/4294967295"
    assert isinstance(differing, DifferentBytes)
    assert (differing.block, differing.offset, differing.blocks) == (block, offset, 1)
    relnode = int(name.rpartition("/")[2])
    assert differing.key == RelTag(DEFAULTTABLESPACE_OID, 5, relnode, 0).block(block)
    owner = ShardIdentity(0, 2, STRIPE_SIZE).shard_of(differing.key)
    text = str(failure.value)
    assert f"the bucket has 0x{before ^ 0xFF:02X}, the import 0x{before:02X}" in text
    assert f"key {differing.key}, shard {owner:02x}02, layer 0000" in text
