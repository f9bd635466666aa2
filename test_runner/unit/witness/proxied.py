"""A world with proxies in this process, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import uvloop

from reattach.api.effects import Front, NameRule, Phase
from reattach.api.history import History, load
from reattach.api.plan import Step
from reattach.api.witness import NewListener, NewSteps, NewWorld, ProcessChange, StepsState
from reattach.fixtures.processes import WaitTimeout, wait_for
from reattach.witness.http import listener as http
from reattach.witness.postgres import listener as postgres
from reattach.witness.world import World
from reattach.witness.worlds import OpenListener, Worlds

Result = TypeVar("Result")

SECONDS = 10.0
ACTOR, PEER = "loader", "db"

FRONTS: Mapping[Front, OpenListener] = {
    Front.HTTP: http.open_listener,
    Front.POSTGRES: postgres.open_listener,
}


class ProxiedWorld:
    """One world. Its loop runs until the context is left."""

    def __init__(self, directory: Path, names: tuple[NameRule, ...] = ()) -> None:
        self.path = directory / "history.jsonl"
        self._names = names
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(exist_ok=True)
        self._thread.start()
        self._worlds = self.call(lambda: Worlds(self._loop, FRONTS))
        self.id = self.call(
            lambda: self._worlds.create(NewWorld(name="test", history=str(self.path), names=self._names)).id
        )
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.call(self._worlds.end_all)
        self.run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    async def _settle(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=SECONDS)
        # Connections are closed in the loop's next rounds.
        for _ in range(3):
            await asyncio.sleep(0)

    def run(self, awaitable: Awaitable[Result]) -> Result:
        async def run() -> Result:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(SECONDS)

    def call(self, function: Callable[[], Result]) -> Result:
        """Calls it on the loop's thread."""

        async def run() -> Result:
            return function()

        return self.run(run())

    @property
    def world(self) -> World:
        return self._worlds._room(self.id).world

    def listen(self, front: Front, upstream_port: int, *, copy_chunks: bool = False) -> int:
        """A proxy from `loader` to `db`. Returns its port."""
        wanted = NewListener(
            front=front,
            actor=ACTOR,
            peer=PEER,
            upstream_host="127.0.0.1",
            upstream_port=upstream_port,
            copy_chunks=copy_chunks,
        )
        return self.run(self._worlds.listen(self.id, wanted)).port

    def step(self, at: str, when: Phase, *do: str) -> int:
        """Returns the step's id."""
        steps = NewSteps(steps=(Step(at=f"{ACTOR} > {PEER}: {at}", when=when, do=do),))
        return self.call(lambda: self._worlds.add_steps(self.id, steps)).steps[-1].id

    def start_process(self, name: str, pid: int) -> None:
        """Says that a process runs."""
        self.call(lambda: self._worlds.change_process(self.id, ProcessChange(process=name, pid=pid)))

    def wait_happened(self, count: int = 1) -> StepsState:
        state = self.run(self._worlds.steps(self.id, count, SECONDS))
        assert state.happened >= count, state
        return state

    def release(self, step: int) -> None:
        self.call(lambda: self._worlds.release(self.id, step))

    def history(self) -> History:
        return load(self.path)

    def outcomes(self) -> list[tuple[str, str]]:
        """Each effect's verb and subject with number, and what became of it."""
        found: list[tuple[str, str]] = []
        for effect in self.history().effects():
            phases = []
            if effect.performed is not None:
                phases.append(f"performed {effect.performed.status}")
            if effect.answered is not None:
                phases.append(f"answered {effect.answered.status}")
            if effect.dropped is not None:
                phases.append(f"dropped: {effect.dropped.why}")
            found.append((str(effect.name).partition(": ")[2], ", ".join(phases)))
        return found

    def wait_outcomes(self, *expected: tuple[str, str]) -> None:
        """Waits until exactly this became of the effects."""
        seen: list[list[tuple[str, str]]] = []

        def is_so() -> bool:
            seen[:] = [self.outcomes()]
            return seen[0] == list(expected)

        try:
            wait_for(is_so, what="the effects' outcomes", timeout=SECONDS)
        except WaitTimeout:
            assert seen[0] == list(expected)
