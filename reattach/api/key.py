"""Keys of the pageserver's key space: every page and every piece of metadata of a timeline has one."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from typing import NamedTuple

BLCKSZ = 8192
"""Bytes of a page."""

RELSEG_BLOCKS = 131072
"""Pages of a relation segment file: 1 GiB."""

DEFAULTTABLESPACE_OID = 1663
GLOBALTABLESPACE_OID = 1664

SIZE_FIELD = 0xFFFFFFFF
"""`field6` of the keys that hold the size of a relation fork or of an SLRU segment."""

KEY_SIZE = 18

_BYTES = struct.Struct(">BIIIBI")
_TEXT = re.compile(r"[0-9a-fA-F]{36}")
_WIDTHS = (8, 32, 32, 32, 8, 32)


class Fork(IntEnum):
    """Relation forks by number."""

    MAIN = 0
    FSM = 1
    VM = 2
    INIT = 3


class SlruKind(IntEnum):
    """The transaction status logs that a timeline keeps."""

    CLOG = 0
    MULTIXACT_MEMBERS = 1
    MULTIXACT_OFFSETS = 2

    @property
    def directory(self) -> str:
        """The SLRU's directory in a data directory."""
        return _SLRU_DIRECTORIES[self]


_SLRU_DIRECTORIES = {
    SlruKind.CLOG: "pg_xact",
    SlruKind.MULTIXACT_MEMBERS: "pg_multixact/members",
    SlruKind.MULTIXACT_OFFSETS: "pg_multixact/offsets",
}


class Key(NamedTuple):
    """Six numbers, ordered field by field; 18 bytes big-endian; text is 36 upper-case hex digits."""

    field1: int
    field2: int
    field3: int
    field4: int
    field5: int
    field6: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> Key:
        """Reads the 18-byte form."""
        return cls._make(_BYTES.unpack(raw))

    @classmethod
    def parse(cls, text: str) -> Key:
        """Reads 36 hex digits. Raises ValueError."""
        if not _TEXT.fullmatch(text):
            raise ValueError(f"a key is 36 hex digits, not {text!r}")
        return cls.from_bytes(bytes.fromhex(text))

    def to_bytes(self) -> bytes:
        return _BYTES.pack(*self)

    def __str__(self) -> str:
        return self.to_bytes().hex().upper()

    def advance(self, n: int) -> Key:
        """The key `n` later: `n` is added to `field6` and carried into the fields before it."""
        fields = list(self)
        carry = n
        for i in range(5, -1, -1):
            total = fields[i] + carry
            fields[i] = total & ((1 << _WIDTHS[i]) - 1)
            carry = total >> _WIDTHS[i]
            if not carry:
                return Key._make(fields)
        raise OverflowError(f"no key lies {n} after {self}")

    def next(self) -> Key:
        return self.advance(1)

    @property
    def is_rel_block(self) -> bool:
        return self.field1 == 0 and self.field4 != 0 and self.field6 != SIZE_FIELD

    @property
    def is_rel_size(self) -> bool:
        return self.field1 == 0 and self.field6 == SIZE_FIELD

    @property
    def is_slru_block(self) -> bool:
        return self.field1 == 1 and self.field3 == 1 and self.field6 != SIZE_FIELD

    @property
    def is_slru_segment_size(self) -> bool:
        return (
            self.field1 == 1
            and self.field2 < 3
            and self.field3 == 1
            and self.field5 == 0
            and self.field6 == SIZE_FIELD
        )

    @property
    def is_slru_dir(self) -> bool:
        return self.field1 == 1 and self[2:] == (0, 0, 0, 0)

    @property
    def is_aux_file(self) -> bool:
        return self.field1 == 0x62


KEY_MIN = Key(0, 0, 0, 0, 0, 0)
KEY_MAX = Key(0xFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFF, 0xFFFFFFFF)
"""Used only as an exclusive end."""

DBDIR_KEY = KEY_MIN
TWOPHASEDIR_KEY = Key(2, 0, 0, 0, 0, 0)
CONTROLFILE_KEY = Key(3, 0, 0, 0, 0, 0)
CHECKPOINT_KEY = Key(3, 0, 0, 0, 0, 1)


class KeyRange(NamedTuple):
    """Keys from `start` up to, not including, `end`."""

    start: Key
    end: Key

    @classmethod
    def single(cls, key: Key) -> KeyRange:
        return cls(key, key.next())

    def contains(self, key: Key) -> bool:
        return self.start <= key < self.end

    def overlaps(self, other: KeyRange) -> bool:
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"


class RelTag(NamedTuple):
    """One fork of one relation."""

    spcnode: int
    dbnode: int
    relnode: int
    forknum: int

    def block(self, blkno: int) -> Key:
        return Key(0, self.spcnode, self.dbnode, self.relnode, self.forknum, blkno)

    def blocks(self, first: int, end: int) -> KeyRange:
        return KeyRange(self.block(first), self.block(end))

    def size_key(self) -> Key:
        return self.block(SIZE_FIELD)


def relmap_key(spcnode: int, dbnode: int) -> Key:
    return Key(0, spcnode, dbnode, 0, 0, 0)


def reldir_key(spcnode: int, dbnode: int) -> Key:
    return Key(0, spcnode, dbnode, 0, 0, 1)


def slru_dir_key(kind: SlruKind) -> Key:
    return Key(1, kind, 0, 0, 0, 0)


def slru_block_key(kind: SlruKind, segno: int, blkno: int) -> Key:
    return Key(1, kind, 1, segno, 0, blkno)


def slru_segment_size_key(kind: SlruKind, segno: int) -> Key:
    return Key(1, kind, 1, segno, 0, SIZE_FIELD)
