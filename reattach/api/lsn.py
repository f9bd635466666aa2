"""Log sequence numbers: a 64-bit position in the write-ahead log."""

from __future__ import annotations

import re
from functools import total_ordering

DEFAULT_WAL_SEG_SIZE = 16 * 1024 * 1024

_TEXT = re.compile(r"([0-9a-fA-F]+)/([0-9a-fA-F]+)")


@total_ordering
class Lsn:
    """A position in the WAL, in bytes. Text form `X/X`: two upper-case hex numbers, no padding."""

    __slots__ = ("lsn_int",)

    def __init__(self, x: int | str) -> None:
        if isinstance(x, int):
            value = x
        else:
            match = _TEXT.fullmatch(x.strip())
            if match is None:
                raise ValueError(f"an LSN looks like 0/16960E8, not {x!r}")
            high, low = int(match[1], 16), int(match[2], 16)
            if high > 0xFFFFFFFF or low > 0xFFFFFFFF:
                raise ValueError(f"each half of an LSN is a 32-bit hex number: {x!r}")
            value = high << 32 | low
        if not 0 <= value <= 0xFFFFFFFFFFFFFFFF:
            raise ValueError(f"an LSN has 64 bits: {x!r}")
        self.lsn_int = value

    @classmethod
    def from_json(cls, value: object) -> Lsn:
        if not isinstance(value, str):
            raise ValueError(f"an LSN is a string, not {value!r}")
        return cls(value)

    def to_json(self) -> str:
        return str(self)

    @property
    def is_valid(self) -> bool:
        return self.lsn_int != 0

    def align(self) -> Lsn:
        """The next multiple of 8, where WAL records start."""
        return Lsn((self.lsn_int + 7) & ~7)

    def as_int(self) -> int:
        return self.lsn_int

    def segment_lsn(self, seg_sz: int = DEFAULT_WAL_SEG_SIZE) -> Lsn:
        """The first LSN of this LSN's WAL segment of `seg_sz` bytes."""
        return Lsn(self.lsn_int - self.lsn_int % seg_sz)

    def segno(self, seg_sz: int = DEFAULT_WAL_SEG_SIZE) -> int:
        """The number of this LSN's WAL segment."""
        return self.lsn_int // seg_sz

    def segment_name(self, seg_sz: int = DEFAULT_WAL_SEG_SIZE) -> str:
        """The file name of this LSN's WAL segment on WAL timeline 1."""
        per_id = 0x100000000 // seg_sz
        segno = self.segno(seg_sz)
        return f"00000001{segno // per_id:08X}{segno % per_id:08X}"

    def __str__(self) -> str:
        return f"{self.lsn_int >> 32:X}/{self.lsn_int & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f'Lsn("{self}")'

    def __int__(self) -> int:
        return self.lsn_int

    def __add__(self, other: int | Lsn) -> Lsn:
        return Lsn(self.lsn_int + int(other))

    def __sub__(self, other: object) -> int:
        if not isinstance(other, Lsn):
            return NotImplemented
        return self.lsn_int - other.lsn_int

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Lsn):
            return NotImplemented
        return self.lsn_int < other.lsn_int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Lsn):
            return NotImplemented
        return self.lsn_int == other.lsn_int

    def __hash__(self) -> int:
        return hash(self.lsn_int)


INVALID_LSN = Lsn(0)
