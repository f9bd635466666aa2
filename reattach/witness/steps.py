"""Which steps happen at an effect. Only decides; what they do is the world's."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import blake2b

import msgspec

from reattach.api.effects import EffectClass, EffectName, Phase
from reattach.api.history import Attributes
from reattach.api.plan import Action, PlanError, Step
from reattach.api.witness import NewSteps, StepState

_AT = re.compile(r"(?P<of>.*?)(?: (?P<sign>[#+])(?P<number>[1-9][0-9]*))?")


@dataclass(slots=True, eq=False)
class ActiveStep:
    """A step that waits for its effect, or did.

    seen: how many effects of its class there were since it was armed. held: futures by effect number.
    rivals: those of which one happens, itself among them. lost: another one of them did.
    """

    id: int
    step: Step
    actions: tuple[Action, ...]
    of: re.Pattern[str]
    where: re.Pattern[str] | None
    sign: str
    number: int
    times: int | None
    probability: float
    seed: int
    armed: bool
    follower: ActiveStep | None = None
    rivals: list[ActiveStep] = field(default_factory=list)
    lost: bool = False
    seen: int = 0
    effects: list[str] = field(default_factory=list)
    held: dict[int, tuple[str, asyncio.Future[None]]] = field(default_factory=dict)

    @property
    def state(self) -> StepState:
        return StepState(
            id=self.id,
            step=self.step,
            armed=self.armed,
            effects=tuple(self.effects),
            held=tuple(name for name, _ in self.held.values()),
        )

    def is_about(self, effect: EffectClass) -> bool:
        return self.of.fullmatch(str(effect)) is not None

    def is_due(self, name: EffectName, phase: Phase, request: Attributes) -> bool:
        """Whether it happens now; counts the effect."""
        if not self.armed or phase is not self.step.when or not self.is_about(name.of):
            return False
        if self.where is not None and not self.where.search(msgspec.json.encode(request).decode()):
            return False
        self.seen += 1
        if self.sign == "#":
            due = name.number == self.number
        elif self.sign == "+":
            due = self.seen >= self.number
        else:
            due = True
        return due and self._by_chance(name)

    def _by_chance(self, name: EffectName) -> bool:
        if self.probability >= 1:
            return True
        digest = blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.probability * 2**64

    def happened(self, name: EffectName) -> None:
        self.effects.append(str(name))
        if self.times is not None and len(self.effects) >= self.times:
            self.armed = False
        if self.follower is not None:
            self.follower.armed = True
        for rival in self.rivals:
            if rival is not self:
                rival.armed = False
                rival.lost = True

    def release(self) -> list[int]:
        """Lets go whoever it holds. Returns their numbers."""
        held, self.held = self.held, {}
        for _, future in held.values():
            if not future.done():
                future.set_result(None)
        return list(held)


def activate(wanted: NewSteps, first_id: int) -> list[ActiveStep]:
    """The steps of one request. Raises PlanError."""
    if wanted.chain and wanted.one_of:
        raise PlanError("steps are a chain, or rivals of which one happens, and not both")
    made: list[ActiveStep] = []
    for step in wanted.steps:
        at = _AT.fullmatch(step.at)
        assert at is not None
        active = ActiveStep(
            id=first_id + len(made),
            step=step,
            actions=step.actions(),
            of=re.compile(translate(at["of"])),
            where=re.compile(step.where) if step.where else None,
            sign=at["sign"] or "",
            number=int(at["number"] or 0),
            times=1 if wanted.chain or wanted.one_of else wanted.times,
            probability=wanted.probability,
            seed=wanted.seed,
            armed=not (wanted.chain and made),
        )
        if wanted.chain and made:
            made[-1].follower = active
        made.append(active)
        if wanted.one_of:
            active.rivals = made
    return made


def class_of(at: str) -> str:
    """A step's `at` without its number."""
    found = _AT.fullmatch(at)
    assert found is not None
    return found["of"]
