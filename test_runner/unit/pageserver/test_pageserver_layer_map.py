"""Looking up layers, against a search through all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import ShardIndex
from reattach.api.key import Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.pageserver.layers.index_part import LayerFileMetadata
from reattach.pageserver.timeline.layer import Layer
from reattach.pageserver.timeline.layer_map import LayerMap

METADATA = LayerFileMetadata.written_by(1, 1, ShardIndex(0, 0), None)


def key(block: int) -> Key:
    return Key(0, 1663, 5, 16384, 0, block)


ranges = st.tuples(st.integers(0, 30), st.integers(1, 12)).map(
    lambda pair: KeyRange(key(pair[0]), key(pair[0] + pair[1]))
)
names = st.builds(LayerName, ranges, st.integers(1, 4).map(Lsn))
layer_lists = st.lists(names, max_size=12, unique=True)


def layer_map(wanted: list[LayerName]) -> LayerMap:
    result = LayerMap()
    for each in wanted:
        result.insert(Layer(each, METADATA, is_resident=True))
    return result


@given(layer_lists, st.integers(0, 45), st.integers(0, 5))
def test_find(wanted: list[LayerName], block: int, lsn: int) -> None:
    found = layer_map(wanted).find(key(block), Lsn(lsn))
    covering = [n for n in wanted if n.key_range.contains(key(block)) and n.lsn <= Lsn(lsn)]
    if not covering:
        assert found is None
    else:
        assert found is not None
        assert found.name in covering
        assert found.name.lsn == max(n.lsn for n in covering)


@given(layer_lists, ranges, st.one_of(st.none(), st.integers(0, 5).map(Lsn)))
def test_overlapping(wanted: list[LayerName], keys: KeyRange, lsn: Lsn | None) -> None:
    found = [layer.name for layer in layer_map(wanted).overlapping(keys, lsn)]
    assert found == sorted(n for n in wanted if n.key_range.overlaps(keys) and (lsn is None or n.lsn <= lsn))


@given(layer_lists)
def test_changes_show_at_once(wanted: list[LayerName]) -> None:
    layers = layer_map(wanted)
    assert [layer.name for layer in layers] == sorted(wanted)
    for each in wanted:
        layers.insert(Layer(each, METADATA, is_resident=False))
    assert len(layers) == len(wanted)
    assert not any(layer.is_resident for layer in layers)
    assert {layer.name for layer in layers.clear()} == set(wanted)
    assert list(layers) == []
