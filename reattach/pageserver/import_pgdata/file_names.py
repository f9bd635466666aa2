"""Which files of a data directory hold relations and transaction status, by their names."""

from __future__ import annotations

import re
from typing import NamedTuple

from reattach.api.key import (
    DEFAULTTABLESPACE_OID,
    GLOBALTABLESPACE_OID,
    Fork,
    SlruKind,
)

RELMAP_NAME = "pg_filenode.map"

_U32_MAX = 0xFFFFFFFF
_RELATION = re.compile(r"([0-9]+)(?:_([a-z]+))?(?:\.([0-9]+))?")
_FORKS = {None: Fork.MAIN, "fsm": Fork.FSM, "vm": Fork.VM, "init": Fork.INIT}
_FORK_SUFFIXES = ("", "_fsm", "_vm", "_init")
_SLRU_SEGMENT = re.compile(r"[0-9a-fA-F]+")
_SLRU_KINDS = {f"pgdata/{kind.directory}/": kind for kind in SlruKind}
_DATABASE = re.compile(r"[0-9]+")


class Database(NamedTuple):
    """A database: its tablespace and oid. Shared relations are those of database 0 of the global one."""

    spcnode: int
    dbnode: int

    @property
    def directory(self) -> str:
        """Its path in the bucket, ending with a slash."""
        return "pgdata/global/" if self.spcnode == GLOBALTABLESPACE_OID else f"pgdata/base/{self.dbnode}/"

    @property
    def relmap_path(self) -> str:
        return f"{self.directory}{RELMAP_NAME}"


GLOBAL = Database(GLOBALTABLESPACE_OID, 0)


class RelationFile(NamedTuple):
    """A segment file of a fork of a relation."""

    relnode: int
    forknum: int
    segno: int


def split_path(path: str) -> tuple[str, str]:
    """The directory, ending with a slash, and the name in it."""
    directory, slash, name = path.rpartition("/")
    return directory + slash, name


def parse_database(directory: str) -> Database | None:
    """The database whose directory it is, None for any other directory."""
    if directory == GLOBAL.directory:
        return GLOBAL
    if not directory.startswith("pgdata/base/"):
        return None
    oid = directory[len("pgdata/base/") : -1]
    if not _DATABASE.fullmatch(oid) or int(oid) > _U32_MAX:
        return None
    return Database(DEFAULTTABLESPACE_OID, int(oid))


def parse_relation_file(name: str) -> RelationFile | None:
    """Reads `<relnode>[_<fork>][.<segno>]`; None for files that hold no relation."""
    match = _RELATION.fullmatch(name)
    if match is None or match[2] not in _FORKS:
        return None
    relnode, segno = int(match[1]), int(match[3] or 0)
    if relnode > _U32_MAX or segno > _U32_MAX:
        return None
    return RelationFile(relnode, _FORKS[match[2]], segno)


def relation_file_name(file: RelationFile) -> str:
    """The name that Postgres gives to a segment file."""
    suffix = f".{file.segno}" if file.segno else ""
    return f"{file.relnode}{_FORK_SUFFIXES[file.forknum]}{suffix}"


def parse_slru_kind(directory: str) -> SlruKind | None:
    """The SLRU whose directory it is, None for any other directory."""
    return _SLRU_KINDS.get(directory)


def parse_slru_segment(name: str) -> int | None:
    """The number of an SLRU segment file, None for other files."""
    if not _SLRU_SEGMENT.fullmatch(name) or int(name, 16) > _U32_MAX:
        return None
    return int(name, 16)
