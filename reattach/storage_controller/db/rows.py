"""Rows as values. One that somebody else has spoilt is named and left out; all others count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from reattach.api import codec
from reattach.api.ids import TenantId, TimelineId
from reattach.runtime.errors import InternalError

T = TypeVar("T")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def rfc3339(column: str) -> str:
    """SQL for a timestamptz as text that no setting of the server changes."""
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS {column}"


class BadRow(InternalError):
    """A row that makes no sense, by its table and key, with the reason. A person has to mend or remove it."""

    def __init__(self, table: str, key: object, reason: str) -> None:
        super().__init__(f"row of {table} ({key}) makes no sense: {reason}")


@contextmanager
def row_of(table: str, key: str) -> Iterator[None]:
    """Turns a ValueError inside into the BadRow."""
    try:
        yield
    except ValueError as e:
        raise BadRow(table, key, str(e)) from e


def each(rows: Iterable[Any], parse: Callable[[Any], T]) -> tuple[list[T], list[BadRow]]:
    """What `parse` makes of the rows, and the errors of those of which it makes nothing."""
    good: list[T] = []
    bad: list[BadRow] = []
    for row in rows:
        try:
            good.append(parse(row))
        except BadRow as e:
            bad.append(e)
    return good, bad


def json_of(text: str, type_: type[T]) -> T:
    """A column that holds JSON, `json` and `jsonb` too: those come as text. Raises ValueError."""
    return codec.decode(text, type_)


def tenant_id(text: str) -> TenantId:
    """Raises ValueError also for another spelling, by which no statement would find the row again."""
    parsed = TenantId(text)
    if str(parsed) != text:
        raise ValueError(f"not lower case: {text!r}")
    return parsed


def timeline_id(text: str) -> TimelineId:
    """Like `tenant_id`."""
    parsed = TimelineId(text)
    if str(parsed) != text:
        raise ValueError(f"not lower case: {text!r}")
    return parsed


def time_text(text: str | None) -> str:
    """What `rfc3339` gave. Raises ValueError for infinity and for years of more than four digits."""
    if text is None or not _TIME.fullmatch(text):
        raise ValueError(f"not a time: {text!r}")
    return text


def in_range(name: str, value: int | None, low: int, high: int) -> int:
    """Raises ValueError unless `low <= value <= high`."""
    if value is None or not low <= value <= high:
        raise ValueError(f"{name} is {value}")
    return value
