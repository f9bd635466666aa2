"""How values are compressed in image layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"zstd(?:\((-?\d+)\))?")


@dataclass(frozen=True, slots=True)
class ImageCompression:
    """`zstd_level` is None when values are stored as they are."""

    zstd_level: int | None = 1

    @classmethod
    def parse(cls, text: str) -> ImageCompression:
        """Reads `disabled`, `zstd` or `zstd(<level>)`. Raises ValueError."""
        if text == "disabled":
            return cls(None)
        match = _TEXT.fullmatch(text)
        if match is None or not -7 <= int(match[1] or 1) <= 22:
            raise ValueError(f"image compression is disabled, zstd or zstd(<level up to 22>), not {text!r}")
        return cls(int(match[1] or 1))

    def __str__(self) -> str:
        return "disabled" if self.zstd_level is None else f"zstd({self.zstd_level})"
