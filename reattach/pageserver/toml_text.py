"""Writing TOML. The usual library for it fails on control characters, which clients may send us."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def table(name: str, content: Mapping[str, Any]) -> str:
    """`[name]` and a line per key. `content` holds what JSON can hold; nulls are left out."""
    lines = [f"{_text(key)} = {_value(value)}" for key, value in content.items() if value is not None]
    return "\n".join([f"[{name}]", *lines]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        pairs = [f"{_text(key)} = {_value(each)}" for key, each in value.items() if each is not None]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value if each is not None) + "]"
    raise TypeError(f"no TOML for {value!r}")


def _text(text: str) -> str:
    """A basic string: JSON's, but that one may contain DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
