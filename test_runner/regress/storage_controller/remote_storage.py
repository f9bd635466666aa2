"""What generations write for each other to read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class IndexedTimeline:
    """What remote storage knows of a timeline."""

    idempotency_key: str
    imported: bool


@dataclass
class RemoteStorage:
    """Per shard, what each generation has written. All pageservers share one."""

    indices: dict[str, dict[int, dict[str, IndexedTimeline]]] = field(default_factory=dict)

    def load(self, shard: str, generation: int) -> dict[str, IndexedTimeline]:
        """What a location that is attached now sees."""
        written = self.indices.get(shard, {})
        visible = [g for g in written if g <= generation]
        return dict(written[max(visible)]) if visible else {}

    def store(self, shard: str, generation: int, timelines: dict[str, IndexedTimeline]) -> None:
        self.indices.setdefault(shard, {})[generation] = dict(timelines)

    def timelines(self, shard: str) -> dict[str, IndexedTimeline]:
        """What the newest generation has written."""
        written = self.indices.get(shard, {})
        return written[max(written)] if written else {}
