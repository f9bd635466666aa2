"""Workers within this process, whose job is in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from reattach.api.plan import Plan
from reattach.fixtures.campaign.campaign import Campaign
from reattach.fixtures.campaign.plan_runner import PlanRunner
from reattach.fixtures.campaign.plans import wanted
from reattach.fixtures.campaign.protocol import (
    Answer,
    Ran,
    Record,
    Recorded,
    Reduce,
    Reduced,
    Request,
    RunPlan,
)
from reattach.fixtures.campaign.records import Key, Table
from reattach.fixtures.campaign.store import Store
from reattach.fixtures.campaign.workers import Came
from test_runner.unit.explore.fake import FakeJob

KEY = Key(commit="c", subject="fake", engine="e")


class Room:
    """One slot. lose: whether a request is lost on its way. answer: what is said in place of the answer."""

    def __init__(self, job: FakeJob, folder: Path) -> None:
        self.runner = PlanRunner(job, lambda _: job, folder, (), None, "here")
        self.slots = 1
        self.sent: list[Request] = []
        self.lose: Callable[[Request], bool] = lambda _: False
        self.answer: Callable[[Request], Answer | None] = lambda _: None
        self._waiting: deque[Request] = deque()

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    def send(self, request: Request) -> None:
        self.sent.append(request)
        self._waiting.append(request)

    def receive(self, timeout: float) -> Came | None:
        if not self._waiting:
            return None
        request = self._waiting.popleft()
        if self.lose(request):
            return Came(request)
        return Came(request, self.answer(request) or self._carry_out(request))

    def _carry_out(self, request: Request) -> Answer:
        match request:
            case Record():
                return Recorded(self.runner.record())
            case RunPlan(plan=plan):
                return Ran(self.runner.run(plan))
            case Reduce(run=run, table=table):
                return Reduced(self.runner.reduce(run, table))


def plans(count: int, seed: int = 7) -> Callable[[Table], Iterator[Plan]]:
    """So many."""
    return partial(wanted, seed=seed, count=count)


def campaign(store: Store, room: Room, count: int) -> Campaign:
    """Of so many plans."""
    return Campaign(KEY, store, room, plans(count))
