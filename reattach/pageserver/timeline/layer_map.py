"""Which layer holds the value of a key. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from reattach.api.key import Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.pageserver.timeline.layer import Layer


class LayerMap:
    """Layers by name, and in key order for look-ups."""

    def __init__(self) -> None:
        self._layers: dict[LayerName, Layer] = {}
        self._ordered: list[Layer] | None = None
        self._starts: list[Key] = []
        self._furthest_ends: list[Key] = []

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._sorted())

    def get(self, name: LayerName) -> Layer | None:
        return self._layers.get(name)

    def insert(self, layer: Layer) -> None:
        """Replaces a layer of the same name."""
        self._layers[layer.name] = layer
        self._ordered = None

    def clear(self) -> list[Layer]:
        """Removes every layer and returns them."""
        removed, self._layers = list(self._layers.values()), {}
        self._ordered = None
        return removed

    def overlapping(self, keys: KeyRange, lsn: Lsn | None = None) -> list[Layer]:
        """The layers that share keys with the range, not newer than `lsn`, by start key, then LSN."""
        layers = self._sorted()
        end = bisect_left(self._starts, keys.end)
        found = []
        for i in range(end - 1, -1, -1):
            if self._furthest_ends[i] <= keys.start:
                break
            layer = layers[i]
            if layer.name.key_range.end > keys.start and (lsn is None or layer.name.lsn <= lsn):
                found.append(layer)
        found.reverse()
        return found

    def find(self, key: Key, lsn: Lsn) -> Layer | None:
        """The newest layer up to `lsn` whose range has the key; older ones have nothing to say about it."""
        layers = self._sorted()
        best: Layer | None = None
        for i in range(bisect_right(self._starts, key) - 1, -1, -1):
            if self._furthest_ends[i] <= key:
                break
            name = layers[i].name
            if key < name.key_range.end and name.lsn <= lsn and (best is None or name.lsn > best.name.lsn):
                best = layers[i]
        return best

    def _sorted(self) -> list[Layer]:
        if self._ordered is None:
            self._ordered = sorted(self._layers.values(), key=lambda layer: layer.name)
            self._starts = [layer.name.key_range.start for layer in self._ordered]
            self._furthest_ends = []
            for layer in self._ordered:
                end = layer.name.key_range.end
                self._furthest_ends.append(max(end, self._furthest_ends[-1]) if self._furthest_ends else end)
        return self._ordered
