"""What statements do to a transaction, as far as their text tells.

Statements that are not plainly reads count as writing: a crash point too many does no harm, one too few hides
a fault. `SELECT … FOR UPDATE`, advisory locks and `LOCK` are reads, for at the end of the transaction nothing
of them is left; `nextval`, `setval`, `pg_notify`, large objects and every function that is not known to read
are writes, and so is an `UPDATE` that finds no row. What sets a session's own state (`SET`, `LISTEN`,
`DECLARE`) is a read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from reattach.witness.postgres.functions import changes_something
from reattach.witness.postgres.tokens import Token, split, tokens

SHOWN = 500
"""Characters of a statement that a history has."""

_CACHED = 10_000
_SECRET = re.compile(r"(?i)(password\s*(?:=\s*)?)('(?:[^']|'')*'|(?<==)[^\s',)]+)")


class Kind(Enum):
    """What it is to the transaction around it.

    ALONE: it commits by itself, and cannot be in a block. CALL: it may commit on its way. EXECUTE: see
    what was prepared under this name.
    """

    READ = auto()
    WRITE = auto()
    ALONE = auto()
    CALL = auto()
    COPY_IN = auto()
    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SAVEPOINT = auto()
    RELEASE = auto()
    ROLLBACK_TO = auto()
    PREPARE = auto()
    EXECUTE = auto()


@dataclass(frozen=True, slots=True)
class Statement:
    """One. parts: what it writes, such as "insert orders". name: of a savepoint or a prepared statement.
    chain: another transaction begins at once. prepared: what `PREPARE` makes.
    """

    text: str
    kind: Kind
    parts: tuple[str, ...] = ()
    name: str = ""
    chain: bool = False
    prepared: Statement | None = None


UNKNOWN = Statement("(not known here)", Kind.WRITE, ("execute",))


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of a query, in order."""
    return _parse_cached(text) if len(text) <= _CACHED else _parse(text)


def _parse(text: str) -> tuple[Statement, ...]:
    return tuple(_statement(one) for one in split(text))


_parse_cached = lru_cache(maxsize=1024)(_parse)


def shown(text: str) -> str:
    """A statement as a history has it: no password, and not too long."""
    return _SECRET.sub(r"\1***", text.strip())[:SHOWN]


_SESSION = re.compile(
    r"""
    base_backup | checkpoint | close | deallocate | declare | discard | fetch | identify_system |
    listen | load | lock | move | read_replication_slot | reset | set | show | start_replication |
    table | timeline_history | unlisten | values
    """,
    re.X,
)
_ALONE = frozenset({"vacuum", "create_replication_slot", "drop_replication_slot"})
_ALONE_OBJECTS = frozenset({"database", "tablespace", "system", "subscription"})
_SKIPPED = frozenset(
    {"or", "replace", "if", "not", "exists", "only", "temp", "temporary", "unlogged", "unique"}
)
_TWO_WORDS = frozenset({"materialized", "foreign", "event", "access", "text", "user", "operator", "default"})


def _statement(text: str) -> Statement:
    found = tokens(text)
    words = [token.word for token in found]
    while words and words[0] == "(":
        words.pop(0)
        found.pop(0)
    first = words[0] if words else ""
    second = words[1] if len(words) > 1 else ""
    control = _control(text, first, words, found)
    if control is not None:
        return control
    if not first or _SESSION.fullmatch(first):
        return Statement(shown(text), Kind.READ)
    if first == "prepare":
        body = text[found[words.index("as")].end :] if "as" in words else ""
        return Statement(shown(text), Kind.PREPARE, name=found[1].name, prepared=_statement(body))
    if first == "execute":
        return Statement(shown(text), Kind.EXECUTE, name=found[1].name if len(found) > 1 else "")
    if first == "explain":
        return _explained(text, words, found)
    if first == "copy":
        return _copy(text, words, found)
    if first in ("select", "with"):
        parts = tuple(dict.fromkeys(_written_by_query(found)))
        return Statement(shown(text), Kind.WRITE if parts else Kind.READ, parts)
    if first in ("call", "do"):
        return Statement(shown(text), Kind.CALL, (_with_name(first, found, 1) if first == "call" else "do",))
    part = tuple(dict.fromkeys(_written(first, words, found)))
    is_alone = first in _ALONE or (
        first in ("create", "drop", "alter", "reindex")
        and (second in _ALONE_OBJECTS or "concurrently" in words[:6])
    )
    return Statement(shown(text), Kind.ALONE if is_alone else Kind.WRITE, part)


def _control(text: str, first: str, words: list[str], found: list[Token]) -> Statement | None:
    """A statement that begins, ends or divides a transaction."""
    second = words[1] if len(words) > 1 else ""
    chain = words[-2:] == ["and", "chain"]
    match first, second:
        case ("begin", _) | ("start", "transaction"):
            return Statement(shown(text), Kind.BEGIN)
        case ("commit" | "rollback", "prepared"):
            return Statement(shown(text), Kind.ALONE, (f"{first} prepared",))
        case ("commit" | "end", _):
            return Statement(shown(text), Kind.COMMIT, chain=chain)
        case ("prepare", "transaction"):
            return Statement(shown(text), Kind.COMMIT, ("prepare transaction",))
        case ("rollback" | "abort", _) if "to" in words:
            return Statement(shown(text), Kind.ROLLBACK_TO, name=found[-1].name)
        case ("rollback" | "abort", _):
            return Statement(shown(text), Kind.ROLLBACK, chain=chain)
        case ("savepoint", _):
            return Statement(shown(text), Kind.SAVEPOINT, name=found[-1].name)
        case ("release", _):
            return Statement(shown(text), Kind.RELEASE, name=found[-1].name)
    return None


def _explained(text: str, words: list[str], found: list[Token]) -> Statement:
    """What it explains is carried out with ANALYZE only."""
    if "analyze" not in words and "analyse" not in words:
        return Statement(shown(text), Kind.READ)
    at = 1
    if at < len(words) and words[at] == "(":
        at = words.index(")", at) + 1 if ")" in words else len(words)
    while at < len(words) and words[at] in ("analyze", "analyse", "verbose"):
        at += 1
    inner = _statement(text[found[at].start :]) if at < len(found) else UNKNOWN
    return Statement(shown(text), inner.kind, inner.parts, inner.name)


def _copy(text: str, words: list[str], found: list[Token]) -> Statement:
    if words[1:2] == ["("]:
        inner = tuple(dict.fromkeys(_written_by_query(found[1:])))
        is_to_client = "stdout" in words
        parts = inner if is_to_client else (*inner, "copy to file")
        return Statement(shown(text), Kind.WRITE if parts else Kind.READ, parts)
    name = _name_at(found, 1)
    if "from" in words:
        kind = Kind.COPY_IN if words[words.index("from") + 1 :][:1] == ["stdin"] else Kind.WRITE
        return Statement(shown(text), kind, (f"copy {name}",))
    if words[words.index("to") + 1 :][:1] == ["stdout"] if "to" in words else False:
        return Statement(shown(text), Kind.READ)
    return Statement(shown(text), Kind.WRITE, ("copy to file",))


def _written_by_query(found: list[Token]) -> Iterator[str]:
    """What a SELECT or WITH changes: by a part that writes, INTO, or a function."""
    before = ""
    for at, token in enumerate(found):
        after = found[at + 1].word if at + 1 < len(found) else ""
        match token.word, after:
            case ("insert" | "merge", "into"):
                yield _with_name(token.word, found, at + 2)
            case ("delete", "from"):
                yield _with_name("delete", found, at + 2)
            case ("update", _) if before not in ("for", "key", "do", "on", "as"):
                yield _with_name("update", found, at + 1)
            case ("into", _) if before not in ("insert", "merge"):
                yield _with_name("create table", found, at + 1)
            case (_, "("):
                if token.is_name and changes_something(token.name, token.quoted, before):
                    yield f"select {token.name}"
        before = token.word


def _written(first: str, words: list[str], found: list[Token]) -> Iterator[str]:
    """What a statement that is no query changes."""
    match first:
        case "insert" | "merge":
            yield _with_name(first, found, words.index("into") + 1 if "into" in words else 1)
        case "update" | "call" | "notify" | "cluster":
            yield _with_name(first, found, 1)
        case "delete":
            yield _with_name(first, found, 2)
        case "truncate":
            yield from (f"truncate {name}" for name in _names(found, 2 if words[1:2] == ["table"] else 1))
        case "create" | "alter" | "drop" | "comment" | "refresh" | "import" | "security" | "reindex":
            yield _of_object(first, words, found)
        case "vacuum" | "analyze" | "analyse":
            yield _with_name(first, found, words.index(")") + 1 if ")" in words else 1)
        case _:
            yield first


def _of_object(first: str, words: list[str], found: list[Token]) -> str:
    """`create table orders`, `drop index i`, `alter type t`."""
    at = 1
    if "on" in words[:2]:
        at = 2
    while at < len(words) and words[at] in _SKIPPED:
        at += 1
    kind = words[at] if at < len(words) else ""
    if kind in _TWO_WORDS and at + 1 < len(words):
        at += 1
        kind += f" {words[at]}"
    at += 1
    while at < len(words) and words[at] in (*_SKIPPED, "concurrently"):
        at += 1
    if at < len(words) and words[at] == "on":
        at += 1  # an index without a name is called by its table
    return f"{first} {kind} {_name_at(found, at)}".rstrip()


def _with_name(verb: str, found: list[Token], at: int) -> str:
    while at < len(found) and found[at].word in _SKIPPED:
        at += 1
    return f"{verb} {_name_at(found, at)}".rstrip()


def _name_at(found: list[Token], at: int) -> str:
    return found[at].name if at < len(found) and found[at].is_name else ""


def _names(found: list[Token], at: int) -> Iterator[str]:
    """Those of a list; it ends with the first word that follows no comma."""
    while at < len(found):
        if found[at].word in _SKIPPED:
            at += 1
            continue
        yield _name_at(found, at)
        at += 1
        while at < len(found) and found[at].word == "*":
            at += 1
        if at >= len(found) or found[at].word != ",":
            return
        at += 1
