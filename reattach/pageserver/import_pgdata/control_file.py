"""`global/pg_control`: which Postgres wrote the data directory, how it was shut down, where its WAL ends."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import google_crc32c

from reattach.api.key import BLCKSZ, RELSEG_BLOCKS
from reattach.api.lsn import Lsn
from reattach.pageserver.import_pgdata.errors import ObjectError

CONTROL_FILE_PATH = "pgdata/global/pg_control"

_STRUCT_SIZE = 296
_FILE_SIZE = 8192
_CRC_OFFSET = 288
_CHECKPOINT = slice(40, 128)
_FIELDS = struct.Struct("<QIII")
_CHECKPOINT_LSN = struct.Struct("<32xQQ")
_COUNTERS = struct.Struct("<24xI8xIII4xI")
_RECOVERY = struct.Struct("<136xQI4xQQ?")
_RECOVERY_NAMES = (
    "minRecoveryPoint",
    "minRecoveryPointTLI",
    "backupStartPoint",
    "backupEndPoint",
    "backupEndRequired",
)
_BOOLEANS = (("fullPageWrites", 56), ("backupEndRequired", 168), ("wal_log_hints", 176))
_MORE_BOOLEANS = (("track_commit_timestamp", 200), ("float8ByVal", 248))
_SIZES = struct.Struct("<204xI d II")
_CHECKSUM_VERSION = struct.Struct("<252xI")

_PG_VERSIONS = {202107181: 14, 202209061: 15, 202307071: 16, 202406281: 17}
_CONTROL_VERSIONS = {14: 1300, 15: 1300, 16: 1300, 17: 1700}
_UNSUPPORTED = {201909212: 12, 202007201: 13, 202506291: 18}

_STATES = (
    "starting up",
    "shut down",
    "shut down in recovery",
    "shutting down",
    "in crash recovery",
    "in archive recovery",
    "in production",
)
_SHUT_DOWN = 1
_FIRST_NORMAL_XID = 3


class Counters(NamedTuple):
    """What the last checkpoint says of transactions, multixacts and their members. Ids wrap at 2^32."""

    next_xid: int
    next_multi: int
    next_member: int
    oldest_xid: int
    oldest_multi: int


@dataclass(frozen=True, slots=True)
class ControlFile:
    """A control file that passed every check. `raw` is the whole file."""

    raw: bytes
    pg_version: int
    checkpoint_lsn: Lsn
    has_page_checksums: bool

    @property
    def base_lsn(self) -> Lsn:
        """Where the imported timeline starts: the start of the last checkpoint record."""
        return self.checkpoint_lsn.align()

    @property
    def counters(self) -> Counters:
        return Counters(*_COUNTERS.unpack_from(self.checkpoint))

    @property
    def checkpoint(self) -> bytes:
        """The copy of the last checkpoint record."""
        return self.raw[_CHECKPOINT]


def parse_control_file(raw: bytes) -> ControlFile:
    """Raises ObjectError, which says why nothing can be imported with this control file."""
    if len(raw) < _STRUCT_SIZE:
        raise _refused("control file is too short")
    _system_identifier, control_version, catalog_version, state = _FIELDS.unpack_from(raw)
    if catalog_version in _UNSUPPORTED:
        # Their structs differ, so anything else that is said of them would mislead.
        raise _unknown_version(catalog_version, f"PostgreSQL {_UNSUPPORTED[catalog_version]}")
    computed = google_crc32c.value(raw[:_CRC_OFFSET])
    stored = int.from_bytes(raw[_CRC_OFFSET : _CRC_OFFSET + 4], "little")
    if computed != stored:
        raise _refused(f"invalid CRC in control file: expected {computed:08X}, was {stored:08X}")
    pg_version = _PG_VERSIONS.get(catalog_version)
    if pg_version is None:
        raise _unknown_version(catalog_version, "an unknown version")
    if control_version != _CONTROL_VERSIONS[pg_version]:
        raise _refused(f"control file version {control_version} is not that of PostgreSQL {pg_version}")
    if len(raw) != _FILE_SIZE:
        raise _refused(f"control file has {len(raw)} bytes, not {_FILE_SIZE}")
    for name, offset in _BOOLEANS + _MORE_BOOLEANS:
        if raw[offset] > 1:
            raise _refused(f"{name} in control file is {raw[offset]}, neither 0 nor 1")
    _check_sizes(raw)
    if state != _SHUT_DOWN:
        text = _STATES[state] if state < len(_STATES) else f"unknown ({state})"
        raise _refused(f"the cluster was not shut down cleanly: its state is '{text}'")
    checkpoint, redo = _CHECKPOINT_LSN.unpack_from(raw)
    if checkpoint == 0:
        raise _refused("the control file names no checkpoint: its LSN is 0/0")
    if redo != checkpoint:
        raise _refused(
            f"its last checkpoint, {Lsn(checkpoint)}, is not that of a shutdown: "
            f"the WAL from {Lsn(redo)} on would be needed"
        )
    _check_recovery(raw)
    xids = _COUNTERS.unpack_from(raw[_CHECKPOINT])
    if min(xids[0], xids[3]) < _FIRST_NORMAL_XID:
        raise _refused(f"its next transaction, {xids[0]}, or its oldest, {xids[3]}, cannot be")
    (checksum_version,) = _CHECKSUM_VERSION.unpack_from(raw)
    return ControlFile(raw, pg_version, Lsn(checkpoint), checksum_version != 0)


def _check_recovery(raw: bytes) -> None:
    """A cluster that was shut down has no recovery behind it that has not come to its end."""
    for name, value in zip(_RECOVERY_NAMES, _RECOVERY.unpack_from(raw), strict=True):
        if value:
            raise _refused(f"{name} in control file is set: a recovery or backup has not come to its end")


def _check_sizes(raw: bytes) -> None:
    max_align, float_format, block_size, segment_blocks = _SIZES.unpack_from(raw)
    if (max_align, float_format) != (8, 1234567.0):
        raise _refused("the cluster was made on a machine of another architecture")
    if block_size != BLCKSZ:
        raise _refused(f"the cluster has blocks of {block_size} bytes, not {BLCKSZ}")
    if segment_blocks != RELSEG_BLOCKS:
        raise _refused(f"the cluster has segments of {segment_blocks} blocks, not {RELSEG_BLOCKS}")


def _unknown_version(catalog_version: int, version: str) -> ObjectError:
    return _refused(
        f"unrecognized catalog version {catalog_version}: this is {version}, 14 to 17 can be imported"
    )


def _refused(reason: str) -> ObjectError:
    return ObjectError(CONTROL_FILE_PATH, reason)
