"""Everything that a Postgres data directory holds, and what becomes of it. Pure.

`docs/deviations.md` has the same table, for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.errors import ObjectError

ROOT = "pgdata/"


class Decision(StrEnum):
    IMPORTED = "imported"
    REFUSED = "refused"
    WARNED_OF = "left out, with a warning"
    LEFT_OUT = "left out"


class Place(NamedTuple):
    """Files of a data directory, by path below it, and what becomes of them.

    pattern: `<n>` is a decimal number, `<hex>` an upper-case hexadecimal one, `<fork>` the suffix of a fork
    or nothing, `<.n>` that of a further segment or nothing, `*` a part of a name, `**` anything.
    least: bytes from which a file counts; smaller ones are left out.
    """

    pattern: str
    decision: Decision
    why: str
    least: int = 0


_IMPORTED, _REFUSED = Decision.IMPORTED, Decision.REFUSED
_WARNED_OF, _LEFT_OUT = Decision.WARNED_OF, Decision.LEFT_OUT

_EMPTIED = "the server empties it when it starts"
_SETTINGS = "settings belong to the server, not to the data"
_NO_BACKUP = "a base backup is not a cluster before a server has replayed its WAL: start it, and shut it down"
_NO_STANDBY = "a server in recovery may be behind its WAL: promote it, and shut it down"

PLACES: tuple[Place, ...] = (
    Place("global/pg_control", _IMPORTED, "its state must be 'shut down'"),
    Place("global/pg_filenode.map", _IMPORTED, "its checksum is verified, and that its relations are there"),
    Place("base/<n>/pg_filenode.map", _IMPORTED, "as that of `global`"),
    Place("global/<n><fork><.n>", _IMPORTED, "shared relations"),
    Place("base/<n>/<n><fork><.n>", _IMPORTED, "relations, unlogged ones too"),
    Place("pg_xact/<hex>", _IMPORTED, "from the oldest transaction to the next, without a gap"),
    Place("pg_multixact/offsets/<hex>", _IMPORTED, "from the oldest to the next, without a gap"),
    Place("pg_multixact/members/<hex>", _IMPORTED, "up to the next, without a gap"),
    Place("pg_tblspc/**", _REFUSED, "user tablespaces cannot be imported"),
    Place(
        "pg_twophase/**",
        _REFUSED,
        "prepared transactions cannot be imported: commit them or roll them back first",
    ),
    Place("backup_label", _REFUSED, _NO_BACKUP),
    Place("tablespace_map", _REFUSED, _NO_BACKUP),
    Place("standby.signal", _REFUSED, _NO_STANDBY),
    Place("recovery.signal", _REFUSED, _NO_STANDBY),
    Place("recovery.conf", _REFUSED, _NO_STANDBY),
    Place("postmaster.pid", _REFUSED, "a server is running on this data directory, or was not shut down"),
    Place(
        "pg_replslot/**",
        _WARNED_OF,
        "replication slots need the WAL of before the import: who reads from them begins anew",
    ),
    Place("pg_logical/snapshots/**", _WARNED_OF, "they belong to replication slots, which are left out"),
    Place("pg_logical/mappings/**", _WARNED_OF, "they belong to replication slots, which are left out"),
    Place(
        "pg_logical/replorigin_checkpoint",
        _WARNED_OF,
        "replication origins are left out: subscriptions do not know how far they were",
        least=9,
    ),
    Place("pg_commit_ts/**", _WARNED_OF, "commit timestamps are left out: they are NULL afterwards"),
    Place("pg_wal/**", _LEFT_OUT, "the timeline starts at the checkpoint of the shutdown"),
    Place("pg_subtrans/**", _LEFT_OUT, "only running transactions need it"),
    Place("pg_notify/**", _LEFT_OUT, _EMPTIED),
    Place("pg_serial/**", _LEFT_OUT, _EMPTIED),
    Place("pg_snapshots/**", _LEFT_OUT, _EMPTIED),
    Place("pg_dynshmem/**", _LEFT_OUT, _EMPTIED),
    Place("pg_stat_tmp/**", _LEFT_OUT, _EMPTIED),
    Place("pg_stat/**", _LEFT_OUT, "statistics begin anew"),
    Place("global/pg_internal.init*", _LEFT_OUT, "a cache"),
    Place("base/<n>/pg_internal.init*", _LEFT_OUT, "a cache"),
    Place("base/<n>/t<n>_<n><fork><.n>", _LEFT_OUT, "temporary relations of sessions that have ended"),
    Place("base/pgsql_tmp/**", _LEFT_OUT, "temporary files"),
    Place("PG_VERSION", _LEFT_OUT, "the control file says it"),
    Place("base/<n>/PG_VERSION", _LEFT_OUT, "the control file says it"),
    Place("postgresql.conf", _LEFT_OUT, _SETTINGS),
    Place("postgresql.auto.conf", _LEFT_OUT, _SETTINGS),
    Place("pg_hba.conf", _LEFT_OUT, _SETTINGS),
    Place("pg_ident.conf", _LEFT_OUT, _SETTINGS),
    Place("conf.d/**", _LEFT_OUT, _SETTINGS),
    Place("postmaster.opts", _LEFT_OUT, _SETTINGS),
    Place("server.crt", _LEFT_OUT, _SETTINGS),
    Place("server.key", _LEFT_OUT, _SETTINGS),
    Place("current_logfiles", _LEFT_OUT, "logs"),
    Place("log/**", _LEFT_OUT, "logs"),
    Place("backup_label.old", _LEFT_OUT, "of a base backup whose WAL was replayed"),
    Place("tablespace_map.old", _LEFT_OUT, "of a base backup whose WAL was replayed"),
    Place("backup_manifest", _LEFT_OUT, "of a base backup, which a server does not read"),
    Place(".s.PGSQL.*", _LEFT_OUT, "sockets of a server and their locks"),
    Place("**", _LEFT_OUT, "not of Postgres itself"),
)
"""The first place whose pattern fits decides."""

READ_DIRECTORIES = ("base", "global", "pg_xact", "pg_multixact")
"""Directories that are imported from."""

SEEN_DIRECTORIES = ("pg_tblspc", "pg_twophase", "pg_replslot", "pg_logical", "pg_commit_ts")
"""Directories in which a file matters because it is there."""

_PARTS = {
    "<n>": r"[0-9]+",
    "<hex>": r"[0-9A-F]{4,6}",
    "<fork>": r"(?:_fsm|_vm|_init)?",
    "<.n>": r"(?:\.[0-9]+)?",
    "**": r".+",
    "*": r"[^/]*",
}
_PART = re.compile("|".join(map(re.escape, _PARTS)))


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], Place], ...]:
    def compiled(pattern: str) -> re.Pattern[str]:
        literals = _PART.split(pattern)
        parts = [_PARTS[part] for part in _PART.findall(pattern)]
        mixed = [text for pair in zip(map(re.escape, literals), [*parts, ""], strict=True) for text in pair]
        return re.compile("".join(mixed), re.DOTALL)

    return tuple((compiled(place.pattern), place) for place in PLACES)


def place_of(path: str) -> Place:
    """What becomes of a file. `path` is relative to the data directory."""
    return next(place for pattern, place in _compiled() if pattern.fullmatch(path))


def warnings(objects: Iterable[BucketObject]) -> list[str]:
    """A sentence for each kind of thing that is left out although somebody may miss it.

    Raises ObjectError for an object that forbids the import. Objects are those outside of READ_DIRECTORIES.
    """
    found: dict[str, list[str]] = {}
    for source in objects:
        path = source.path.removeprefix(ROOT)
        # A store's mark of a directory is an object without a name.
        if path.endswith("/"):
            continue
        place = place_of(path)
        if place.decision is Decision.REFUSED:
            raise ObjectError(source.path, place.why)
        if place.decision is Decision.WARNED_OF and source.size >= place.least:
            found.setdefault(place.why, []).append(source.path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more' if paths[1:] else ''}: {why}"
        for why, paths in found.items()
    ]
