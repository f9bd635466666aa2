"""One layer of a timeline, on the disk or only in remote storage."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from reattach.api.layer_name import LayerName
from reattach.pageserver.layers.index_part import LayerFileMetadata


@dataclass(slots=True, eq=False)
class Layer:
    """A layer of the layer map.

    is_resident: its file is in the timeline's directory.
    is_uploaded: remote storage has it, so that the file may be dropped.
    is_verified: the file's bytes were written or checked by this process.
    written_here: the attachment that lives now wrote it.
    accessed_at, resident_since: seconds since the epoch.
    """

    name: LayerName
    metadata: LayerFileMetadata
    is_resident: bool
    is_uploaded: bool = True
    is_verified: bool = False
    written_here: bool = False
    accessed_at: float = field(default_factory=time.time)
    resident_since: float = field(default_factory=time.time)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def file_name(self) -> str:
        return self.name.local_file(self.metadata.generation)

    def path_in(self, directory: Path) -> Path:
        return directory / self.file_name

    def touch(self) -> None:
        self.accessed_at = time.time()
