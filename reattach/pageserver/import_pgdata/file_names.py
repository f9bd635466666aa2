"""Which directories of a data directory hold databases and transaction status, by their names."""

from __future__ import annotations

import re
from typing import NamedTuple

from reattach.api.key import DEFAULTTABLESPACE_OID, GLOBALTABLESPACE_OID, SlruKind
from reattach.api.pgdata_path import RELMAP_NAME

_U32_MAX = 0xFFFFFFFF
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


def parse_slru_kind(directory: str) -> SlruKind | None:
    """The SLRU whose directory it is, None for any other directory."""
    return _SLRU_KINDS.get(directory)
