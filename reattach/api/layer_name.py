"""Names of image layers, local and remote."""

from __future__ import annotations

from dataclasses import dataclass, field

from reattach.api.key import KEY_SIZE, Key, KeyRange
from reattach.api.lsn import Lsn

_KEY_DIGITS = KEY_SIZE * 2
_NAME_LENGTH = _KEY_DIGITS * 2 + 1 + 2 + 16


def generation_suffix(generation: int | None) -> str:
    """What object names end with: `-` and 8 lower-case hex digits; nothing without a generation."""
    return "" if generation is None else f"-{generation:08x}"


@dataclass(frozen=True, slots=True, order=True)
class LayerName:
    """An image layer: every value of a key range at one LSN.

    Text form `<start>-<end>__<lsn>`, upper-case hex, the end exclusive.
    """

    key_range: KeyRange
    lsn: Lsn
    _text: str = field(default="", init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> LayerName:
        """Reads the name with or without a generation (`-00000001` or `-v1-00000001`). Raises ValueError."""
        name, rest = text[:_NAME_LENGTH], text[_NAME_LENGTH:]
        keys, separator, lsn = name.partition("__")
        start, dash, end = keys.partition("-")
        well_formed = separator and dash and len(lsn) == 16 and rest[:1] in ("", "-")
        if len(name) != _NAME_LENGTH or not well_formed:
            raise ValueError(f"not the name of an image layer: {text!r}")
        return cls(KeyRange(Key.parse(start), Key.parse(end)), Lsn(int(lsn, 16)))

    def __str__(self) -> str:
        if not self._text:  # an import asks for it a dozen times: for files, objects, indexes, lines of log
            text = f"{self.key_range.start}-{self.key_range.end}__{self.lsn.lsn_int:016X}"
            object.__setattr__(self, "_text", text)
        return self._text

    def local_file(self, generation: int | None) -> str:
        """The file name in a pageserver's timeline directory."""
        return f"{self}-v1{generation_suffix(generation)}" if generation is not None else str(self)

    def remote_object(self, generation: int | None) -> str:
        """The last component of the object's name in remote storage."""
        return f"{self}{generation_suffix(generation)}"
