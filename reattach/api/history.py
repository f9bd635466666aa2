"""The history: what the witness saw, one JSON object a line, in one order, which is the order in which it
happened.

`Arrived`, `Performed`, `Answered` and `Dropped` belong together by `effect`, a number that counts from 1. A
request that only reads, and at which nothing was to happen, is one line `Read`, written when it is
answered. Times (`at`) are seconds since the history began; order says what came first, times are for
people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from reattach.api.effects import EffectName, Front, Phase

HISTORY_VERSION = 1

Attributes: TypeAlias = dict[str, object]
"""JSON values by name.

S3: `operation`, `bucket`, `key`, `range` (half-open, of a read), `size` (bytes), `etag`, `body` (a JSON
object that was written, if it is small). HTTP: `method`, `path`, `query`, `body` (if JSON and small),
`length`, `digest` (else); the answer's in `Performed.answer`. PostgreSQL: `statements`, in
`Performed.answer` the `tags`.
"""


class HistoryError(ValueError):
    """A file that is no history, or a newer one. The text names line and version."""


class _Line(
    msgspec.Struct,
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    tag_field="line",
    forbid_unknown_fields=True,
    gc=False,  # no line is part of a cycle, and a history has a hundred thousand of them
):
    at: float


class Begin(_Line, frozen=True, tag="begin"):
    """The first line. time: Unix time, seconds. world: what it is of, such as a test's name."""

    version: int
    time: float
    world: str


class Arrived(_Line, frozen=True, tag="arrived"):
    """The witness has all of a request. incarnation: the how-manieth start of the actor sent it."""

    effect: int
    name: str
    front: Front
    request: Attributes = {}
    incarnation: int = 0
    reads: bool = False
    background: bool = False


class Performed(_Line, frozen=True, tag="performed"):
    """The peer has done it (or refused it: see `status`, an HTTP status; of PostgreSQL 0, or 500 for an
    error).
    """

    effect: int
    status: int
    answer: Attributes = {}


class Answered(_Line, frozen=True, tag="answered"):
    """Its answer was handed to the network. status: what the sender was told, which a fault may have made."""

    effect: int
    status: int


class Dropped(_Line, frozen=True, tag="dropped"):
    """It has no answer: the sender is gone, the peer is gone, or a step says so. `why` says which."""

    effect: int
    why: str


class Read(_Line, frozen=True, tag="read"):
    """A request that changed nothing, from its arrival to its answer. name: without a number."""

    name: str
    front: Front
    request: Attributes = {}
    status: int = 0
    answer: Attributes = {}
    incarnation: int = 0


class Started(_Line, frozen=True, tag="started"):
    """A process runs. incarnation: the how-manieth time, from 1."""

    process: str
    pid: int
    incarnation: int


class Signalled(_Line, frozen=True, tag="signalled"):
    """A process was sent a signal, by its name ("SIGKILL"). by: "step 2", or "the test"."""

    process: str
    signal: str
    by: str


class Ended(_Line, frozen=True, tag="ended"):
    """A process has ended. code: as waitpid tells, -9 for SIGKILL; None if nobody could tell."""

    process: str
    incarnation: int
    code: int | None = None


class Happened(_Line, frozen=True, tag="happened"):
    """A step was carried out at an effect. do: its actions, as in the plan."""

    step: int
    effect: int
    phase: Phase
    do: tuple[str, ...]


class Released(_Line, frozen=True, tag="released"):
    """An effect that a step held goes on."""

    step: int
    effect: int


class Mark(_Line, frozen=True, tag="mark"):
    """What a test, an explorer or a subject says: `text` for people, `what` and `facts` for programs."""

    what: str
    text: str = ""
    facts: Attributes = {}


Line: TypeAlias = (
    Begin
    | Arrived
    | Performed
    | Answered
    | Dropped
    | Read
    | Started
    | Signalled
    | Ended
    | Happened
    | Released
    | Mark
)

_decoder = msgspec.json.Decoder(Line)
_version = msgspec.json.Decoder(dict[str, object])


def encode_line(line: Line) -> bytes:
    """Its text, with the line's end."""
    return msgspec.json.encode(line) + b"\n"


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of one effect. Positions are indexes into `History.lines`."""

    number: int
    name: EffectName
    arrived: Arrived
    arrived_at: int
    performed: Performed | None = None
    performed_at: int | None = None
    answered: Answered | None = None
    dropped: Dropped | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the peer has done it, and not refused it."""
        return self.performed is not None and self.performed.status < 400


@dataclass(frozen=True, slots=True)
class History:
    """All lines, and whether the last one was cut off, as after a kill -9 of a whole machine."""

    lines: tuple[Line, ...]
    truncated: bool = False

    @property
    def begin(self) -> Begin:
        """The first line."""
        first = self.lines[0]
        assert isinstance(first, Begin)
        return first

    def effects(self) -> list[Effect]:
        """Every effect, in the order of arrival. What has not happened yet is None."""
        found: dict[int, Effect] = {}
        for position, line in enumerate(self.lines):
            match line:
                case Arrived(effect=number, name=name):
                    found[number] = Effect(number, EffectName.parse(name), line, position)
                case Performed(effect=number):
                    found[number] = _with(found, line, performed=line, performed_at=position)
                case Answered(effect=number):
                    found[number] = _with(found, line, answered=line)
                case Dropped(effect=number):
                    found[number] = _with(found, line, dropped=line)
        return list(found.values())


def _with(found: dict[int, Effect], line: Performed | Answered | Dropped, **changes: object) -> Effect:
    effect = found.get(line.effect)
    if effect is None:
        raise HistoryError(f"effect {line.effect} at {line.at:.3f} s has never arrived")
    fields = {name: getattr(effect, name) for name in Effect.__slots__}
    return Effect(**{**fields, **changes})


def parse(raw: bytes, name: str = "history") -> History:
    """Reads a history's text. Raises HistoryError that names line and version.

    A last line without an end is left out and told by `truncated`.
    """
    texts = raw.split(b"\n")
    truncated = bool(texts.pop())
    return History(tuple(_lines(texts, name)), truncated)


def load(path: Path) -> History:
    """Reads a history's file. Raises HistoryError, OSError."""
    return parse(path.read_bytes(), path.name)


def _lines(texts: Iterable[bytes], name: str) -> Iterator[Line]:
    number = 0
    for number, text in enumerate(texts, start=1):
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise HistoryError(f"{name}, line {number}: {_reason(text, number, str(e))}") from e
        if (number == 1) != isinstance(line, Begin):
            raise HistoryError(f"{name}, line {number}: the first line, and no other, is `begin`")
        if isinstance(line, Begin) and line.version != HISTORY_VERSION:
            raise HistoryError(f"{name}, line {number}: {_other_version(line.version)}")
        yield line
    if number == 0:
        raise HistoryError(f"{name}: it is empty")


def _reason(text: bytes, number: int, error: str) -> str:
    # A newer version may have other fields in its first line.
    if number == 1:
        try:
            version = _version.decode(text).get("version")
        except (msgspec.DecodeError, UnicodeDecodeError):
            version = None
        if isinstance(version, int) and version != HISTORY_VERSION:
            return _other_version(version)
    return f"{error} (version {HISTORY_VERSION})"


def _other_version(version: int) -> str:
    return f"a history of version {version}; this program reads version {HISTORY_VERSION}"
