"""Plans: which points of a job are hit, and with what. A plan is replayed without a random number.

A step waits for its effect, and is armed once the step before it has happened. Its `do` are actions:

| action | what it does |
|---|---|
| `kill P`, `terminate P` | SIGKILL, SIGTERM to P's process group; nothing passes until a killed one is dead |
| `pause P`, `continue P` | SIGSTOP, SIGCONT |
| `drop` | the connection is reset, and the effect is not performed (only before) |
| `answer N` | the effect is answered with status N, and not performed (only before) |
| `lose answer` | the connection is reset in place of the answer (only after) |
| `hold` | the effect stands there until somebody releases it |
| `hold until E` | … until an effect of class E was performed |
| `partition A B`, `heal A B` | nothing passes from A to B, neither requests of A nor answers to B |
| anything else | the subject carries it out, while the effect is held: `detach`, `migrate 0000`, … |
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from reattach.api.effects import Phase

PLAN_VERSION = 1


class PlanError(ValueError):
    """A plan that cannot be carried out. The text names the step and the reason."""


class Verb(StrEnum):
    """The actions that the witness itself carries out."""

    KILL = "kill"
    TERMINATE = "terminate"
    PAUSE = "pause"
    CONTINUE = "continue"
    DROP = "drop"
    ANSWER = "answer"
    LOSE_ANSWER = "lose answer"
    HOLD = "hold"
    PARTITION = "partition"
    HEAL = "heal"


ON_PROCESSES = frozenset({Verb.KILL, Verb.TERMINATE, Verb.PAUSE, Verb.CONTINUE})


class InFlight(StrEnum):
    """What becomes of what a killed process has sent and nobody has performed yet."""

    DROP = "drop"
    PERFORM = "perform"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. verb is None if the subject carries it out; then `text` is all that is known.

    processes: whom it is about. status: of `answer`. until: of `hold until`, an effect's class.
    """

    text: str
    verb: Verb | None
    processes: tuple[str, ...] = ()
    status: int | None = None
    until: str | None = None

    @classmethod
    def parse(cls, text: str) -> Action:
        """Raises PlanError for a known verb with wrong words behind it."""
        if text in (Verb.DROP, Verb.LOSE_ANSWER, Verb.HOLD):
            return cls(text, Verb(text))
        if text.startswith("hold until "):
            return cls(text, Verb.HOLD, until=text.removeprefix("hold until "))
        word, *rest = text.split()
        if word == Verb.ANSWER:
            if len(rest) != 1 or not rest[0].isdecimal() or not 200 <= int(rest[0]) <= 599:
                raise PlanError(f"{text!r}: a status from 200 to 599 follows `answer`")
            return cls(text, Verb.ANSWER, status=int(rest[0]))
        if word in (Verb.PARTITION, Verb.HEAL):
            if len(rest) != 2:
                raise PlanError(f"{text!r}: two processes follow `{word}`")
            return cls(text, Verb(word), tuple(rest))
        if word in ON_PROCESSES:
            if len(rest) != 1:
                raise PlanError(f"{text!r}: one process follows `{word}`")
            return cls(text, Verb(word), tuple(rest))
        return cls(text, None)


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What happens where.

    at: an effect's class with ` #n`, the n-th since the history began, or ` +n`, the n-th since the step was
    armed. `*` and `?` stand for any text.
    when: before or after it is performed. do: actions, in this order. in_flight: of those that are killed.
    where: a regular expression that must be found in the request's attributes, as compact JSON text.
    """

    at: str
    when: Phase
    do: tuple[str, ...]
    in_flight: InFlight = InFlight.DROP
    where: str = ""
    comment: str = ""

    def actions(self) -> tuple[Action, ...]:
        """Raises PlanError for what cannot be at this point."""
        found = tuple(Action.parse(text) for text in self.do)
        if not found:
            raise PlanError(f"the step at {self.at!r} does nothing")
        try:
            re.compile(self.where)
        except re.error as e:
            raise PlanError(f"{self.where!r} at {self.at!r} is no regular expression: {e}") from e
        for action in found:
            if self.when is Phase.AFTER and action.verb in (Verb.DROP, Verb.ANSWER):
                raise PlanError(f"`{action.text}` at {self.at!r}: it has been performed by then")
            if self.when is Phase.BEFORE and action.verb is Verb.LOSE_ANSWER:
                raise PlanError(f"`{action.text}` at {self.at!r}: there is no answer before it is performed")
        return found


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A whole plan, as its file holds it.

    subject: which job. settings: how it is set up. Lines of `comment` are for people.
    """

    version: int = PLAN_VERSION
    comment: tuple[str, ...] = ()
    subject: str
    settings: dict[str, object] = {}
    steps: tuple[Step, ...]

    def digest(self) -> str:
        """16 hex digits that are the same for plans that do the same; comments do not count."""
        bare = [msgspec.structs.replace(step, comment="") for step in self.steps]
        same = msgspec.structs.replace(self, comment=(), steps=tuple(bare))
        return hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()[:16]

    def dump(self) -> bytes:
        """The text of the plan's file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def load(cls, raw: bytes | str) -> Plan:
        """Raises PlanError for text that is no plan, and for steps that cannot be carried out."""
        try:
            plan = msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise PlanError(f"not a plan: {e}") from e
        if plan.version != PLAN_VERSION:
            raise PlanError(f"a plan of version {plan.version}; this program reads version {PLAN_VERSION}")
        for step in plan.steps:
            step.actions()
        return plan
