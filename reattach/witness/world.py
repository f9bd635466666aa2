"""A world: what one test sees. Its effects pass here, are written down, and meet steps.

A front end takes an effect through its phases:

    effect = world.arrive(link, peer, method, target, request)
    verdict = world.before(effect)            # or a future of it
    …perform it, or not…
    world.performed(effect, status, answer)
    verdict = world.after(effect)             # or a future of it
    world.answered(effect, status)            # or dropped(effect, why)

Everything runs on one event loop, and an action is carried out before the call returns: nothing passes
meanwhile.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reattach.api.effects import EffectClass, EffectName, Front, Phase
from reattach.api.history import (
    Answered,
    Arrived,
    Attributes,
    Dropped,
    Ended,
    Happened,
    Line,
    Mark,
    Performed,
    Read,
    Released,
    Signalled,
    Started,
)
from reattach.api.plan import ON_PROCESSES, Action, InFlight, PlanError, Verb
from reattach.api.witness import NewLabel, NewSteps, NewWorld, ProcessChange, StepsState, WorldState
from reattach.witness.naming import Named, Namer
from reattach.witness.processes import SIGNALS, NotRunning, Processes
from reattach.witness.recorder import Recorder
from reattach.witness.steps import ActiveStep, activate, class_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an effect. status: it is answered so and not performed. dropped: why it has no
    answer.
    """

    status: int | None = None
    dropped: str | None = None


GO_ON = Verdict()
Decision = Verdict | asyncio.Future[Verdict]


@dataclass(slots=True, eq=False)
class Link:
    """A connection of an actor. abort: resets it."""

    world: World
    actor: str
    front: Front
    abort: Callable[[], None]
    incarnation: int = 0


@dataclass(slots=True, eq=False)
class Effect:
    """An effect under way. abandoned: its sender was killed, and it is to be performed all the same."""

    link: Link
    number: int
    name: EffectName
    reads: bool
    background: bool
    request: Attributes
    is_performed: bool = False
    performed_status: int = 0
    answer: Attributes = field(default_factory=dict)
    waiting: asyncio.Future[Verdict] | None = None
    cut_off: str | None = None
    abandoned: bool = False
    over: bool = False


class World:
    """See the module."""

    def __init__(self, number: int, wanted: NewWorld, loop: asyncio.AbstractEventLoop) -> None:
        """Raises BadNameRule, OSError."""
        self.id = number
        self._loop = loop
        self._namer = Namer(wanted.names)
        self._history = Recorder(Path(wanted.history), wanted.name)
        self._processes = Processes(loop, self._process_ended)
        self._steps: list[ActiveStep] = []
        self._last_step = 0
        self._last_effect = 0
        self._changes = 0
        self._counts: Counter[EffectClass] = Counter()
        self._under_way: dict[int, Effect] = {}
        self._links: set[Link] = set()
        self._pairs: set[tuple[str, str]] = set()
        self._partitions: set[tuple[str, str]] = set()
        self._gone: dict[tuple[str, int], tuple[str, InFlight]] = {}
        self._kept_apart: dict[int, tuple[Effect, asyncio.Future[None]]] = {}
        self._until: list[tuple[str, ActiveStep, int]] = []
        self._waiters: list[asyncio.Future[None]] = []

    # -- who is there

    def expect(self, actor: str, peer: str) -> None:
        """There will be effects of this pair."""
        self._pairs.add((actor, peer))

    def connect(self, actor: str, front: Front, abort: Callable[[], None]) -> Link:
        """A connection of `actor` is there; it belongs to the process that runs now."""
        link = Link(self, actor, front, abort, self._processes.incarnation(actor))
        self._links.add(link)
        return link

    def disconnect(self, link: Link) -> None:
        self._links.discard(link)

    def change_process(self, change: ProcessChange) -> None:
        """What a test says of a process."""
        if change.starting:
            self._processes.starting(change.process)
        if change.pid is not None:
            incarnation = self._processes.started(change.process, change.pid)
            self._write(
                Started(at=self._now(), process=change.process, pid=change.pid, incarnation=incarnation)
            )
        if change.signal is not None:
            self._write(
                Signalled(at=self._now(), process=change.process, signal=change.signal, by="the test")
            )
        if change.ended and not self._processes.ended(change.process, change.code):
            self.mark("exit code", f"{change.process} ended with {change.code}", _exit(change))
        self._changed()

    def _process_ended(self, name: str, incarnation: int, code: int | None) -> None:
        self._write(Ended(at=self._now(), process=name, incarnation=incarnation, code=code))

    def label(self, label: NewLabel) -> None:
        """See `reattach.api.witness`."""
        self._namer.label(label.group, label.value, label.label)

    def mark(self, what: str, text: str, facts: Attributes) -> None:
        self._write(Mark(at=self._now(), what=what, text=text, facts=facts))

    # -- an effect's way

    def name(self, link: Link, peer: str, method: str, target: str, body: bytes = b"") -> Named:
        """What a request is called. body: a small one's bytes, for rules that look there."""
        return self._namer.name(link.front, link.actor, peer, method, target, body)

    def is_mere_read(self, named: Named) -> bool:
        """Whether a request may pass in one line: it changes nothing, and nothing is to happen at it."""
        return (
            named.reads
            and not self._partitions
            and not any(step.armed and step.is_about(named.of) for step in self._steps)
        )

    def read(
        self, link: Link, named: Named, request: Attributes, status: int, answer: Attributes | None = None
    ) -> None:
        """A mere read was answered."""
        self._counts[named.of] += 1
        self._write(
            Read(
                at=self._now(),
                name=str(named.of),
                front=link.front,
                request=request,
                status=status,
                answer=answer or {},
                incarnation=link.incarnation,
            )
        )

    def arrive(self, link: Link, named: Named, request: Attributes) -> Effect:
        """The witness has all of a request."""
        self._counts[named.of] += 1
        self._last_effect += 1
        name = EffectName(named.of, self._counts[named.of])
        effect = Effect(link, self._last_effect, name, named.reads, named.background, request)
        # What was on its way when its sender was killed is in flight as well.
        why, in_flight = self._gone.get((link.actor, link.incarnation), (None, InFlight.PERFORM))
        effect.abandoned = why is not None and in_flight is InFlight.PERFORM
        effect.cut_off = why if in_flight is InFlight.DROP else None
        self._under_way[effect.number] = effect
        self._write(
            Arrived(
                at=self._now(),
                effect=effect.number,
                name=str(name),
                front=link.front,
                request=request,
                incarnation=link.incarnation,
                reads=named.reads,
                background=named.background,
            )
        )
        return effect

    def before(self, effect: Effect) -> Decision:
        """Whether it may be performed."""
        return self._meet(effect, Phase.BEFORE)

    def performed(self, effect: Effect, status: int, answer: Attributes | None = None) -> None:
        """The peer has done it, or refused it with this status."""
        effect.is_performed = True
        self._changes += status < 400 and not (effect.reads or effect.background)
        self._write(Performed(at=self._now(), effect=effect.number, status=status, answer=answer or {}))
        for of, step, number in list(self._until):
            if of == str(effect.name.of):
                self._until.remove((of, step, number))
                self._let_go(step, number)

    def after(self, effect: Effect) -> Decision:
        """Whether it may be answered."""
        return self._meet(effect, Phase.AFTER)

    def answered(self, effect: Effect, status: int) -> None:
        if effect.abandoned:
            # The network takes an answer also to somebody who is dead.
            self.dropped(effect, "the sender was killed")
        elif self._end(effect):
            self._write(Answered(at=self._now(), effect=effect.number, status=status))

    def dropped(self, effect: Effect, why: str) -> None:
        """It has no answer; of an effect that was not performed: nor will it be."""
        if self._end(effect):
            self._write(Dropped(at=self._now(), effect=effect.number, why=effect.cut_off or why))

    def _end(self, effect: Effect) -> bool:
        if effect.over:
            return False
        effect.over = True
        self._under_way.pop(effect.number, None)
        self._kept_apart.pop(effect.number, None)
        for step in self._steps:
            step.held.pop(effect.number, None)
        return True

    # -- steps

    def add_steps(self, wanted: NewSteps) -> StepsState:
        """Raises PlanError for one that cannot happen."""
        made = activate(wanted, self._last_step + 1)
        for step in made:
            self._check_possible(step)
        self._steps += made
        self._last_step += len(made)
        return self.steps_state()

    def steps_state(self) -> StepsState:
        return StepsState(
            steps=tuple(step.state for step in self._steps),
            happened=sum(bool(step.effects) for step in self._steps),
        )

    async def wait_happened(self, count: int, timeout: float) -> None:
        """Returns when so many steps have happened, or the time is up."""
        deadline = self._loop.time() + timeout
        while self.steps_state().happened < count and self._loop.time() < deadline:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await asyncio.wait([waiter], timeout=deadline - self._loop.time())

    def release(self, step_id: int) -> None:
        """Raises LookupError."""
        step = next((one for one in self._steps if one.id == step_id), None)
        if step is None:
            raise LookupError(f"there is no step {step_id}")
        for number in list(step.held):
            self._let_go(step, number)

    def disarm(self, step_id: int, release: bool) -> None:
        """The step happens no more; with `release` it lets everybody go. Raises LookupError."""
        if release:
            self.release(step_id)
        for step in self._steps:
            if step.id == step_id:
                step.armed = False

    def clear_steps(self) -> StepsState:
        """Forgets all steps and partitions, and lets everybody go. Returns what was."""
        state = self.steps_state()
        for step in self._steps:
            step.armed = False
            for number in list(step.held):
                self._let_go(step, number)
        self._steps = []
        self._until = []
        self._partitions.clear()
        self._heal()
        self._changed()
        return state

    def _check_possible(self, step: ActiveStep) -> None:
        text = class_of(step.step.at)
        if not any(sign in text for sign in "*?["):
            try:
                effect = EffectClass.parse(text)
            except ValueError as e:
                raise PlanError(str(e)) from e
            if (effect.actor, effect.peer) not in self._pairs:
                raise PlanError(f"{step.step.at!r} cannot occur: {self._nearest(effect)}")
        for action in step.actions:
            for process in action.processes:
                known = {*self._processes.names, *(name for pair in self._pairs for name in pair)}
                if process not in known:
                    near = difflib.get_close_matches(process, known, 3, 0.0)
                    raise PlanError(f"`{action.text}`: there is no {process}; there are {', '.join(near)}")

    def _nearest(self, effect: EffectClass) -> str:
        pairs = sorted(f"{actor} > {peer}" for actor, peer in self._pairs)
        wanted = f"{effect.actor} > {effect.peer}"
        near = difflib.get_close_matches(wanted, pairs, 3, 0.0)
        return f"nothing goes {wanted}; the nearest that do are {', '.join(near) or 'none'}"

    def _meet(self, effect: Effect, phase: Phase) -> Decision:
        """Lets every step that is due happen; then what all of them want."""
        if effect.cut_off is not None:
            return Verdict(dropped=effect.cut_off)
        if not self._steps and not self._partitions:
            return GO_ON
        status: int | None = None
        dropped: str | None = None
        holds: list[ActiveStep] = []
        ends = (effect.name.of.actor, effect.name.of.peer)
        # A step that is armed by what happens here waits for the next effect, or this one's other point.
        for step in [step for step in self._steps if step.armed]:
            if step.lost or not step.is_due(effect.name, phase, effect.request):
                continue
            step.happened(effect.name)
            self._write(
                Happened(at=self._now(), step=step.id, effect=effect.number, phase=phase, do=step.step.do)
            )
            for action in step.actions:
                match action.verb:
                    case Verb.DROP | Verb.LOSE_ANSWER:
                        dropped = f"step {step.id}: {action.text}"
                    case Verb.ANSWER:
                        status = action.status
                    case Verb.HOLD | None:
                        # What only the subject can do, it does while the effect is held.
                        if step not in holds:
                            holds.append(step)
                            self._hold(step, effect, action)
                    case _:
                        self._carry_out(step, action)
                        if action.verb is Verb.KILL and action.processes[0] in ends:
                            # Before: it is not performed. After: there is nobody to answer, or to answer for.
                            dropped = f"step {step.id}: {action.processes[0]} was killed"
        self._steps = [step for step in self._steps if not step.lost]
        self._changed()
        if effect.cut_off is not None:
            dropped = effect.cut_off
        if dropped is not None:
            for step in holds:
                self._let_go(step, effect.number)
            return Verdict(dropped=dropped)
        futures = [step.held[effect.number][1] for step in holds if effect.number in step.held]
        if self._is_apart(effect, phase):
            apart: asyncio.Future[None] = self._loop.create_future()
            self._kept_apart[effect.number] = (effect, apart)
            futures.append(apart)
        if not futures:
            return Verdict(status=status)
        return self._wait(effect, futures, Verdict(status=status))

    def _wait(
        self, effect: Effect, futures: Iterable[asyncio.Future[None]], then: Verdict
    ) -> asyncio.Future[Verdict]:
        left = len(futures := list(futures))
        result: asyncio.Future[Verdict] = self._loop.create_future()

        def one_less(_: asyncio.Future[None]) -> None:
            nonlocal left
            left -= 1
            if left == 0 and not result.done():
                result.set_result(then if effect.cut_off is None else Verdict(dropped=effect.cut_off))

        for future in futures:
            future.add_done_callback(one_less)
        effect.waiting = result
        return result

    def _hold(self, step: ActiveStep, effect: Effect, action: Action) -> None:
        step.held[effect.number] = (str(effect.name), self._loop.create_future())
        if action.until is not None:
            self._until.append((action.until, step, effect.number))

    def _let_go(self, step: ActiveStep, number: int) -> None:
        held = step.held.pop(number, None)
        if held is not None:
            self._write(Released(at=self._now(), step=step.id, effect=number))
            if not held[1].done():
                held[1].set_result(None)

    def _is_apart(self, effect: Effect, phase: Phase) -> bool:
        actor, peer = effect.name.of.actor, effect.name.of.peer
        return ((actor, peer) if phase is Phase.BEFORE else (peer, actor)) in self._partitions

    def _heal(self) -> None:
        for number, (effect, future) in list(self._kept_apart.items()):
            phase = Phase.AFTER if effect.is_performed else Phase.BEFORE
            if not self._is_apart(effect, phase):
                del self._kept_apart[number]
                if not future.done():
                    future.set_result(None)

    # -- actions

    def _carry_out(self, step: ActiveStep, action: Action) -> None:
        by = f"step {step.id}"
        if action.verb in ON_PROCESSES:
            (process,) = action.processes
            assert action.verb is not None
            signal = SIGNALS[action.verb].name
            try:
                # First, as its end is written next.
                self._write(Signalled(at=self._now(), process=process, signal=signal, by=by))
                self._processes.send(process, action.verb)
            except (NotRunning, TimeoutError, OSError) as e:
                self.mark("failed", f"{by}: `{action.text}`: {e}", {"step": step.id})
                return
            if action.verb is Verb.KILL:
                self._cut_off(process, step.step.in_flight, f"{by}: {process} was killed")
        elif action.verb is Verb.PARTITION:
            self._partitions.add((action.processes[0], action.processes[1]))
        elif action.verb is Verb.HEAL:
            self._partitions.discard((action.processes[0], action.processes[1]))
            self._heal()

    def _cut_off(self, process: str, in_flight: InFlight, why: str) -> None:
        """What becomes of what a killed process has sent, and of what was sent to it."""
        self._gone[process, self._processes.incarnation(process)] = (why, in_flight)
        for effect in list(self._under_way.values()):
            is_actor = effect.name.of.actor == process
            if is_actor and not effect.is_performed and in_flight is InFlight.PERFORM:
                effect.abandoned = True
                continue
            if not is_actor and effect.name.of.peer != process:
                continue
            effect.cut_off = why
            if effect.waiting is not None and not effect.waiting.done():
                effect.waiting.set_result(Verdict(dropped=why))
        if in_flight is InFlight.DROP:
            for link in [link for link in self._links if link.actor == process]:
                link.abort()

    # -- details

    def state(self) -> WorldState:
        return WorldState(
            id=self.id,
            effects=self._last_effect,
            changes=self._changes,
            running=self._processes.running,
            killed=self._processes.killed,
            actors=tuple(sorted({actor for actor, _ in self._pairs})),
            lost=self._history.lost,
        )

    def close(self) -> None:
        """Lets everybody go and ends the history."""
        self.clear_steps()
        self._processes.close()
        self._history.close()

    def _now(self) -> float:
        return self._history.now()

    def _write(self, line: Line) -> None:
        self._history.write(line)

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _exit(change: ProcessChange) -> Attributes:
    return {"process": change.process, "code": change.code}
