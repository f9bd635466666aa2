"""What is wrong with a configuration file."""

from __future__ import annotations

import re

_MSGSPEC_PATH = re.compile(r" - at `(?P<path>\$.*)`$")


class ConfigError(Exception):
    """One line: the file, the key, the reason."""

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(f"{file}: `{key}`: {reason}" if key else f"{file}: {reason}")
        self.key = key
        self.reason = reason


def from_validation(file: str, table: str, error: Exception) -> ConfigError:
    """The error for a value of the wrong type, whose message ends with its path below `table`."""
    text = str(error)
    match = _MSGSPEC_PATH.search(text)
    path = match["path"].removeprefix("$").lstrip(".") if match else ""
    missing = re.match(r"Object missing required field `(?P<field>[^`]+)`", text)
    if missing:
        path = f"{path}.{missing['field']}".lstrip(".")
        return ConfigError(file, _join(table, path), "is required and missing")
    reason = _MSGSPEC_PATH.sub("", text)
    return ConfigError(file, _join(table, path), reason[:1].lower() + reason[1:])


def _join(table: str, path: str) -> str:
    return ".".join(filter(None, (table, path)))
