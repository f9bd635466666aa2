"""What a pageserver has put into remote storage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reattach.api.ids import TenantShardId, TimelineId
from reattach.fixtures.bucket.server import BucketServer


@dataclass(frozen=True)
class RemoteTimeline:
    """The objects of one timeline of one shard, below the remote storage's directory."""

    root: Path
    tenant: TenantShardId
    timeline: TimelineId

    @property
    def directory(self) -> Path:
        return self.root / "tenants" / str(self.tenant) / "timelines" / str(self.timeline)

    def objects(self) -> set[str]:
        if not self.directory.exists():
            return set()
        return {path.name for path in self.directory.iterdir() if not path.name.endswith("___temp")}

    def layers(self) -> set[str]:
        return {name for name in self.objects() if "__" in name}

    def index(self, generation: int) -> dict[str, Any]:
        index: dict[str, Any] = json.loads(
            (self.directory / f"index_part.json-{generation:08x}").read_bytes()
        )
        return index

    def referenced(self, generation: int) -> set[str]:
        """The object names that the index of this generation references."""
        layers = self.index(generation)["layer_metadata"]
        return {f"{name}-{metadata['generation']:08x}" for name, metadata in layers.items()}

    def assert_index_is_durable(self, generation: int) -> None:
        """I2: every object that the index references exists, in the size that it says."""
        for name, metadata in self.index(generation)["layer_metadata"].items():
            path = self.directory / f"{name}-{metadata['generation']:08x}"
            assert path.exists(), f"{path.name} is referenced and does not exist"
            assert path.stat().st_size == metadata["file_size"]


def bucket_keys(server: BucketServer, bucket: str) -> set[str]:
    """The keys of at most 1000 objects."""
    listing = server.client().list_objects_v2(Bucket=bucket)
    return {each["Key"] for each in listing.get("Contents", [])}
