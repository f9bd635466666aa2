"""A job in memory: it copies items one by one and writes a checkpoint after each few. Some have bugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from reattach.api.effects import EffectClass, EffectName, Front, Phase
from reattach.api.history import (
    HISTORY_VERSION,
    Answered,
    Arrived,
    Begin,
    Dropped,
    Happened,
    History,
    Line,
    Mark,
    Performed,
    encode_line,
    load,
)
from reattach.api.plan import PlanError, Step, Verb
from reattach.api.witness import NewSteps, StepsState, WorldState
from reattach.fixtures.subjects.port import Code, Finding, Offer, Outcome
from reattach.witness.steps import ActiveStep, activate

PUT = EffectClass("job", "store", "put", "item")
CHECKPOINT = EffectClass("job", "store", "put", "checkpoint")
BEGIN = EffectClass("job", "store", "put", "recovery")


class Crash(Exception):
    pass


@dataclass
class FakeWorld:
    """Keeps a history on disk, and carries out steps as the witness does."""

    path: Path
    active: list[ActiveStep] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    changes: int = 0
    run: Iterator[None] | None = None
    flaky: Iterator[bool] | None = None

    def __post_init__(self) -> None:
        self.write(Begin(at=0, version=HISTORY_VERSION, time=0, world="fake"))

    def write(self, line: Line) -> None:
        with self.path.open("ab") as file:
            file.write(encode_line(line))

    def add_steps(self, steps: Sequence[Step], *, chain: bool = True, one_of: bool = False) -> StepsState:
        first = max((step.id for step in self.active), default=0) + 1
        self.active += activate(NewSteps(steps=tuple(steps), chain=chain, one_of=one_of), first)
        return self.steps_state()

    def steps_state(self) -> StepsState:
        states = tuple(step.state for step in self.active)
        return StepsState(steps=states, happened=sum(bool(state.effects) for state in states))

    @property
    def waits(self) -> bool:
        return any(not step.effects for step in self.active)

    def steps(self, *, happened: int = 0, timeout: float = 0.0) -> StepsState:
        assert self.run is not None
        while self.steps_state().happened < happened and next(self.run, "ended") is None:
            pass
        return self.steps_state()

    def release(self, step: int) -> None:
        pass

    def mark(self, what: str, text: str = "", facts: Mapping[str, object] | None = None) -> None:
        self.write(Mark(at=0, what=what, text=text, facts=dict(facts or {})))

    def state(self) -> WorldState:
        return WorldState(id=1, effects=self.effects, changes=self.changes)

    def history(self) -> History:
        return load(self.path)

    def effect(self, of: EffectClass) -> Iterator[bool]:
        """Yields once when it is to be performed. Raises Crash."""
        self.effects += 1
        number, name = self.effects, str(of)
        self.seen[name] += 1
        self.write(Arrived(at=0, effect=number, name=f"{name} #{self.seen[name]}", front=Front.S3))
        if self._step(number, name, Phase.BEFORE):
            self.write(Dropped(at=0, effect=number, why="killed"))
            raise Crash
        yield True
        self.write(Performed(at=0, effect=number, status=200))
        self.changes += 1
        if self._step(number, name, Phase.AFTER):
            self.write(Dropped(at=0, effect=number, why="killed"))
            raise Crash
        self.write(Answered(at=0, effect=number, status=200))

    def _step(self, number: int, name: str, when: Phase) -> bool:
        effect = EffectName.parse(f"{name} #{self.seen[name]}")
        crash = False
        for one in [step for step in self.active if step.armed]:
            if not one.lost and one.is_due(effect, when, {}):
                one.happened(effect)
                self.write(Happened(at=0, step=one.id, effect=number, phase=when, do=one.step.do))
                crash = any(action.verb in (Verb.KILL, Verb.TERMINATE) for action in one.actions)
        self.active = [step for step in self.active if not step.lost]
        return crash


@dataclass
class FakeAttempt:
    subject: FakeJob
    world: FakeWorld
    store: dict[str, int] = field(default_factory=dict)
    acted: list[str] = field(default_factory=list)
    down: bool = False
    done: bool = False
    crashes: int = 0

    def start(self) -> None:
        self.world.run = self._run()

    def act(self, action: str, at: str) -> None:
        if not action.startswith("poke"):
            raise PlanError(f"no such action: {action}")
        self.acted.append(f"{action} at {at}")

    def recover(self) -> None:
        pass

    def ended(self) -> bool:
        if self.world.run is not None and not self.world.waits:
            for _ in self.world.run:
                pass
        return self.done and self.subject.bug != "never ends"

    def findings(self, history: History, ended: bool) -> Sequence[Finding]:
        if not ended:
            return [Finding(Outcome.FAILED, "stuck", "it does not end")]
        if self.subject.bug == "always wrong":
            return [Finding(Outcome.FAILED, "wrong result", "it is wrong")]
        lost = [n for n in range(self.subject.items) if f"item {n}" not in self.store]
        if lost and (self.world.flaky is None or next(self.world.flaky)):
            return [Finding(Outcome.FAILED, "wrong result", f"items {lost} are lost")]
        return [Finding(Outcome.SURVIVED, "wrong result", "every item is there")]

    def _run(self) -> Iterator[None]:
        while not self.done:
            try:
                for of, write in self._job():
                    for _ in self.world.effect(of):
                        self.store.update(write)
                    yield None
                self.done = True
            except Crash:
                yield None

    def _job(self) -> Iterator[tuple[EffectClass, Mapping[str, int]]]:
        bug, every = self.subject.bug, self.subject.every
        first = self.store.get("checkpoint", 0)
        if self.store.get("started"):
            # A resume says so, and the wrong ones believe that whoever was here before has done the rest.
            resumes = self.store.get("resumes", 0) + 1
            yield BEGIN, {"resumes": resumes}
            if bug == "second resume skips" and resumes == 2:
                first += every
            if bug == "third resume skips" and resumes == 3:
                first += every
        self.store["started"] = 1
        for start in range(first, self.subject.items, every):
            end = min(start + every, self.subject.items)
            if bug == "checkpoint first":
                yield CHECKPOINT, {"checkpoint": end, "resumes": 0}
            for n in range(start, end):
                yield PUT, {f"item {n}": n}
            if bug != "checkpoint first":
                yield CHECKPOINT, {"checkpoint": end, "resumes": 0}


@dataclass(frozen=True)
class FakeJob:
    """bug: one of "", "always wrong", "never ends", "checkpoint first", "second resume skips", and "third
    resume skips".
    """

    items: int = 12
    every: int = 3
    bug: str = ""
    flaky: tuple[bool, ...] = ()
    name: str = "fake"
    patience: float = 5.0
    attempts: list[FakeAttempt] = field(default_factory=list, compare=False)
    answers: list[Iterator[bool]] = field(default_factory=list, compare=False)

    @property
    def settings(self) -> dict[str, object]:
        return {"items": self.items, "every": self.every}

    @contextmanager
    def attempt(self, name: str, folder: Path) -> Iterator[FakeAttempt]:
        if self.flaky and not self.answers:
            self.answers.append(iter(self.flaky))
        world = FakeWorld(folder / "history.jsonl", flaky=self.answers[0] if self.flaky else None)
        self.attempts[:] = [FakeAttempt(self, world)]
        yield self.attempts[0]

    def offers(self, effect: EffectClass, phase: Phase) -> Sequence[Offer]:
        return [Offer(("kill job",)), Offer(("terminate job",))]

    def stages(self, history: History) -> dict[int, int]:
        found, stage = {}, 0
        for effect in history.effects():
            found[effect.number] = stage
            stage += effect.name.of == CHECKPOINT and effect.succeeded
        return found

    def simpler(self) -> Iterator[tuple[str, FakeJob]]:
        if self.items > 6:
            yield "6 items", replace(self, items=6, attempts=[], answers=[])

    def code(self) -> Code:
        return Code(f"job(items={self.items})", ("job",))
