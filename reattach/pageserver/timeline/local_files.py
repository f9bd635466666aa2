"""What a crash or another generation left in a timeline's directory, compared with the index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reattach.api.layer_name import LayerName
from reattach.pageserver.layers.index_part import LayerFileMetadata

_LEFT_OVER = re.compile(r".*\.(old|temp_download|___temp)|ephemeral-\d+")


class UnknownFiles(Exception):
    """The directory has files that no pageserver wrote."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"unrecognized files in timeline dir (total {len(names)}), first 10: {', '.join(names[:10])}"
        )


@dataclass(slots=True)
class Reconciliation:
    """What to do with each file. `resident`: the layers of the index whose file is there and good."""

    resident: set[LayerName] = field(default_factory=set)
    remove: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)


def reconcile(files: Mapping[str, int], layers: Mapping[LayerName, LayerFileMetadata]) -> Reconciliation:
    """Decides by names and sizes (bytes). Pure. Raises UnknownFiles.

    A layer's file stays if its size is that of the index and it was written in the index's generation: the
    same range may have been written again in a generation whose work was lost. A file named without a
    generation comes from older software and gets today's name.
    """
    result = Reconciliation()
    unknown = []
    for file, size in sorted(files.items()):
        if _LEFT_OVER.fullmatch(file):
            result.remove.append(file)
            continue
        try:
            name = LayerName.parse(file)
        except ValueError:
            unknown.append(file)
            continue
        metadata = layers.get(name)
        if metadata is None or metadata.file_size != size or name in result.resident:
            result.remove.append(file)
        elif file == name.local_file(metadata.generation):
            result.resident.add(name)
        elif file == str(name) and name.local_file(metadata.generation) not in files:
            result.rename[file] = name.local_file(metadata.generation)
            result.resident.add(name)
        else:
            result.remove.append(file)
    if unknown:
        raise UnknownFiles(unknown)
    return result


def tidy(directory: Path, layers: Mapping[LayerName, LayerFileMetadata]) -> set[LayerName]:
    """Makes the directory agree with the index; it is created if it is not there.

    Returns the layers that are there. Raises UnknownFiles and OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    result = reconcile({path.name: path.stat().st_size for path in directory.iterdir()}, layers)
    for file in result.remove:
        (directory / file).unlink()
    for file, new_name in result.rename.items():
        (directory / file).rename(directory / new_name)
    return result.resident
