"""What requests are called: the same in every run that does the same thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from reattach.api.effects import EffectClass, Front, NameRule

_LONG_ID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}"
_HAS_ID = re.compile(rf"{_LONG_ID}|[0-9]+")
_HAS_LONG_ID = re.compile(rf"{_LONG_ID}|[0-9]{{6,}}")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
UNSHARDED = "0000"
_READS = re.compile(r"(Get|Head|List).*|GET|HEAD|OPTIONS")


@dataclass(frozen=True, slots=True)
class Named:
    """An effect's class, and what its rule says of it."""

    of: EffectClass
    reads: bool
    background: bool


_Rule: TypeAlias = tuple[NameRule, re.Pattern[str], Callable[[str], re.Match[str] | None]]


class BadNameRule(ValueError):
    """A rule that cannot name anything. The text says why."""


class Namer:
    """Names a world's requests. Remembers the values of what is counted."""

    def __init__(self, rules: Sequence[NameRule]) -> None:
        """Raises BadNameRule."""
        self._rules = [
            (rule, _compile(rule.method), _compile(rule.target), _compile(rule.body or "").search)
            for rule in rules
        ]
        self._rules_for = lru_cache(maxsize=256)(self._select)
        self._counted: dict[str, dict[str, int]] = {}
        self._labels: dict[tuple[str, str], str] = {}

    def _select(self, front: Front, method: str) -> list[_Rule]:
        return [
            (rule, of_target, in_body)
            for rule, of_method, of_target, in_body in self._rules
            if rule.front is front and of_method.fullmatch(method)
        ]

    def label(self, group: str, value: str, label: str) -> None:
        """What a counted group's value is called from now on, instead of its number."""
        self._labels[group, value] = label

    def name(self, front: Front, actor: str, peer: str, method: str, target: str, body: bytes = b"") -> Named:
        """By the first rule that fits, else by what can be seen, with `*` for what looks like an id."""
        for rule, of_target, in_body in self._rules_for(front, method):
            found = of_target.fullmatch(target)
            if found is None:
                continue
            inside = in_body(body.decode("utf-8", "replace")) if rule.body is not None else None
            if rule.body is not None and inside is None:
                continue
            matched = found.groupdict() | (inside.groupdict() if inside is not None else {})
            groups = {name: self._value(rule, name, value) for name, value in matched.items()}
            effect = EffectClass(
                actor,
                peer if rule.peer is None else rule.peer.format(**groups),
                rule.verb.format(**{name: value.lower() for name, value in groups.items()}),
                " ".join(rule.subject.format(**groups).split()),
            )
            return Named(effect, rule.reads, rule.background)
        return Named(
            EffectClass(actor, peer, _WORDS.sub("-", method).lower(), _without_ids(front, target)),
            _READS.fullmatch(method) is not None,
            False,
        )

    def _value(self, rule: NameRule, group: str, value: str | None) -> str:
        if group in rule.counted:
            return self._count(group, value or "")
        if value is None:
            return UNSHARDED if group == "shard" else ""
        return value

    def _count(self, group: str, value: str) -> str:
        label = self._labels.get((group, value))
        if label is not None:
            return label
        seen = self._counted.setdefault(group, {})
        number = seen.setdefault(value, len(seen) + 1)
        return "" if number == 1 else f"({number})"


def _compile(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as e:
        raise BadNameRule(f"{expression!r} is no regular expression: {e}") from e


def _without_ids(front: Front, target: str) -> str:
    if front is Front.POSTGRES:
        # A table is called so in every run, but for those that a job names by a number of its own.
        return _HAS_LONG_ID.sub("*", target)
    if front is Front.S3:
        target = target.partition("/")[2]
    return _HAS_ID.sub("*", target.partition("?")[0])
