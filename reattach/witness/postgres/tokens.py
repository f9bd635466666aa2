"""SQL's text cut into statements and words, as PostgreSQL's own scanner does with its default settings (a
backslash is special in `E'…'` only).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 100_000
"""Characters of a statement that are looked at for words."""

_QUOTED = r"""
    (?P<escaped>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
  | (?P<string>'(?:[^']|'')*(?:'|\Z))
  | (?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<line>--[^\n]*)
  | (?P<comment>/\*)
"""
_IDENTIFIER = r"""(?:"(?:[^"]|"")*"|[^\W\d][\w$]*)"""
_STRUCTURE = re.compile(rf'{_QUOTED} | (?P<identifier>"(?:[^"]|"")*(?:"|\Z)) | (?P<sign>[();])', re.X | re.S)
_WORD = re.compile(
    rf"{_QUOTED} | (?P<name>{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})*) | (?P<sign>::|[^\s\w])", re.X | re.S
)
_COMMENT = re.compile(r"/\*|\*/")
_PART = re.compile(r'"((?:[^"]|"")*)"|([^\W\d][\w$]*)')
_ATOMIC = re.compile(r"(?is)\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\b.*\bbegin\s+atomic\b")
_END = re.compile(r"(?i)\s*end\s*\Z")


@dataclass(frozen=True, slots=True)
class Token:
    """A name with its schema, a keyword, or one sign. Strings and comments are none.

    word: lower case, for keywords; of a quoted name nothing that could be one. name: as the database has it.
    """

    word: str
    name: str
    start: int
    end: int
    is_name: bool
    quoted: bool = False


def split(text: str) -> Iterator[str]:
    """The statements of a query's text, without those that are empty."""
    start = depth = 0
    body: int | None = None
    for kind, at, end in _scan(_STRUCTURE, text):
        if kind != "sign":
            continue
        sign = text[at]
        if sign == "(":
            depth += 1
        elif sign == ")":
            depth = max(0, depth - 1)
        elif depth == 0:
            piece = text[start:at]
            if body is None and _ATOMIC.match(piece):
                # A function's body has statements of its own, up to its END.
                body = start
            if body is not None and not _END.match(piece):
                start = end
                continue
            if body is not None:
                piece, body = text[body:at], None
            start = end
            if _has_words(piece):
                yield piece
    last = text[start if body is None else body :]
    if _has_words(last):
        yield last


def tokens(text: str) -> list[Token]:
    """Its words and signs."""
    return list(_tokens(text[:LONGEST]))


def _tokens(text: str) -> Iterator[Token]:
    for kind, at, end in _scan(_WORD, text):
        piece = text[at:end]
        if kind == "name":
            names = [(quoted.replace('""', '"'), plain) for quoted, plain in _PART.findall(piece)]
            is_quoted = '"' in piece
            name = ".".join(plain.lower() or quoted for quoted, plain in names)
            yield Token("" if is_quoted else name, name, at, end, True, is_quoted)
        elif kind == "sign":
            yield Token(piece, "", at, end, False)


def _has_words(piece: str) -> bool:
    return any(True for kind, _, _ in _scan(_WORD, piece) if kind not in ("line", "comment"))


def _scan(expression: re.Pattern[str], text: str) -> Iterator[tuple[str, int, int]]:
    """What it finds outside of strings and comments: (group, start, end); these too, by their groups."""
    at = 0
    while (found := expression.search(text, at)) is not None:
        kind = found.lastgroup or ""
        at = found.end()
        if kind == "comment":
            at = _end_of_comment(text, at)
        yield kind, found.start(), at


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth and (found := _COMMENT.search(text, at)) is not None:
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at if depth == 0 else len(text)
