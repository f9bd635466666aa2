"""Names of files in a Postgres data directory, relative to it."""

from __future__ import annotations

import re
from typing import NamedTuple

from reattach.api.key import GLOBALTABLESPACE_OID, Fork, RelTag

FORK_SUFFIX: dict[int, str] = {Fork.MAIN: "", Fork.FSM: "_fsm", Fork.VM: "_vm", Fork.INIT: "_init"}

RELMAP_NAME = "pg_filenode.map"
CONTROL_FILE_PATH = "global/pg_control"

_FORKS = {FORK_SUFFIX[fork].removeprefix("_"): fork for fork in Fork}
_RELATION_FILE = re.compile(r"([0-9]+)(?:_([a-z]+))?(?:\.([0-9]+))?")
_SLRU_SEGMENT = re.compile(r"[0-9a-fA-F]+")
_U32 = 0xFFFFFFFF


class RelationFile(NamedTuple):
    """A segment of a relation fork, from its file name. Ordered as segments follow each other."""

    relnode: int
    forknum: int
    segno: int


def parse_relation_file(name: str) -> RelationFile | None:
    """Reads a file name like `16384_fsm.1`; None if it is not a relation's segment."""
    match = _RELATION_FILE.fullmatch(name)
    if match is None or (fork := _FORKS.get(match[2] or "")) is None:
        return None
    relnode, segno = int(match[1]), int(match[3] or 0)
    return RelationFile(relnode, fork, segno) if relnode <= _U32 and segno <= _U32 else None


def relation_file_name(file: RelationFile) -> str:
    """The name that Postgres gives to a segment file."""
    suffix = f".{file.segno}" if file.segno else ""
    return f"{file.relnode}{FORK_SUFFIX[file.forknum]}{suffix}"


def parse_slru_segment(name: str) -> int | None:
    """The number of an SLRU's segment file; None for other files."""
    return int(name, 16) if _SLRU_SEGMENT.fullmatch(name) and int(name, 16) <= _U32 else None


def database_directory(spcnode: int, dbnode: int) -> str:
    """Where a database's files lie."""
    return "global" if spcnode == GLOBALTABLESPACE_OID else f"base/{dbnode}"


def relation_path(rel: RelTag, segno: int) -> str:
    """The path of a relation fork's segment."""
    name = relation_file_name(RelationFile(rel.relnode, rel.forknum, segno))
    return f"{database_directory(rel.spcnode, rel.dbnode)}/{name}"
