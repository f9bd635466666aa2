"""Effects: what another process could have seen of a process under test, and how they are named.

An effect is an S3 request, an HTTP request, or a transaction that changed something. It *arrives* (the
witness has all of it), is *performed* (the peer has done it) and *answered* (the sender has the answer).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

_NAME = re.compile(r"(?P<actor>[\w.-]+) > (?P<peer>[\w.-]+): (?P<verb>[\w-]+)(?: (?P<subject>.*?))?")
_NUMBER = re.compile(r"(?P<name>.*) #(?P<number>[1-9][0-9]*)")


class Front(StrEnum):
    """How the witness saw it."""

    S3 = "s3"
    HTTP = "http"
    POSTGRES = "postgres"


class Phase(StrEnum):
    """The two crash points of an effect: arrived and not performed; performed and not answered."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, order=True)
class EffectClass:
    """All effects of one name: `pageserver_1 > s3: put index 0102`.

    subject: what it is about, without ids, ports, times and generations; may be empty.
    """

    actor: str
    peer: str
    verb: str
    subject: str = ""

    @classmethod
    def parse(cls, text: str) -> EffectClass:
        """Reads back `str(effect_class)`. Raises ValueError that shows the form."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no name of effects, as in 'pageserver_1 > s3: put index 0102'")
        return cls(found["actor"], found["peer"], found["verb"], found["subject"] or "")

    def __str__(self) -> str:
        return f"{self.actor} > {self.peer}: {self.verb} {self.subject}".rstrip()


@dataclass(frozen=True, slots=True, order=True)
class EffectName:
    """One effect: its class, and the how-manieth of it since the history began, from 1."""

    of: EffectClass
    number: int

    @classmethod
    def parse(cls, text: str) -> EffectName:
        """Reads back `str(name)`. Raises ValueError that shows the form."""
        found = _NUMBER.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} names no effect: ' #1' or another number must stand at its end")
        return cls(EffectClass.parse(found["name"]), int(found["number"]))

    def __str__(self) -> str:
        return f"{self.of} #{self.number}"


class NameRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How requests are called. The first rule whose expressions match decides.

    method: a regular expression for all of an S3 operation ("PutObject"), an HTTP method, or "commit".
    target: one for all of `bucket/key`, of an HTTP path with its query, or of what a transaction did
    ("insert tenant_shards; update nodes"). body: one that must be found in the text of a small body.
    verb, subject, peer: `{group}` stands for a named group of `target` or `body`, lower case for `verb`.
    Groups named in `counted` become a number in the order in which their values appear: nothing for the
    first, then "(2)", … . Others that matched nothing are "0000" if called `shard`, else empty.
    reads: it changes nothing at the peer. background: comes by a clock, not by what the job does; it is no
    crash point.
    """

    front: Front
    method: str
    target: str
    verb: str
    body: str | None = None
    subject: str = ""
    peer: str | None = None
    counted: tuple[str, ...] = ()
    reads: bool = False
    background: bool = False
