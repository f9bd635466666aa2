"""A timeline's objects compared with what its index says. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from reattach.api.layer_name import LayerName
from reattach.pageserver.layers.index_part import LayerFileMetadata
from reattach.pageserver.remote.index_choice import generation_of
from reattach.pageserver.remote.storage import ObjectInfo

INDEX_NAME = "index_part.json"

PRESERVED = "initdb-preserved.tar.zst"
"""An object that other software leaves beside the index, and that nobody here removes."""

Layers = Mapping[LayerName, LayerFileMetadata]


def object_names(layers: Layers) -> set[str]:
    """The names of the objects that an index references."""
    return {name.remote_object(metadata.generation) for name, metadata in layers.items()}


def unsound_layers(
    layers: Layers, listed: Iterable[ObjectInfo], wanted: Iterable[LayerName]
) -> Iterator[str]:
    """Why a reader of the index would not find everything: sentences that name a layer each.

    wanted: the layers that the index has to have.
    """
    sizes = {each.name: each.size for each in listed}
    for name in wanted:
        if name not in layers:
            yield f"the index lacks layer {name}"
    for name, metadata in sorted(layers.items()):
        path = name.remote_object(metadata.generation)
        size = sizes.get(path)
        if size is None:
            yield f"layer {path} is not in remote storage"
        elif size != metadata.file_size:
            yield f"layer {path} has {size} bytes in remote storage, the index says {metadata.file_size}"


def written_until(listed: Iterable[ObjectInfo], generation: int) -> list[ObjectInfo]:
    """The objects that attachments up to `generation` wrote. One without a generation is older than any."""
    return [
        each for each in listed if each.name != PRESERVED and (generation_of(each.name) or 0) <= generation
    ]


def unnamed(listed: Iterable[ObjectInfo], layers: Layers, keep: Collection[str]) -> list[ObjectInfo]:
    """The objects that an index does not reference, but for the names in `keep`."""
    named = object_names(layers)
    return [each for each in listed if each.name not in named and each.name not in keep]
