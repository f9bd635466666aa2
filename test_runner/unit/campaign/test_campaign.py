"""A campaign from its first plan to its last, stopped wherever it can be, with workers in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reattach.fixtures.campaign.campaign import CampaignError
from reattach.fixtures.campaign.protocol import Reduce, Refused, Request, RunPlan, Unfit
from reattach.fixtures.campaign.store import Store
from reattach.fixtures.subjects.port import Outcome
from test_runner.unit.campaign.room import KEY, Room, campaign, plans
from test_runner.unit.explore.fake import FakeJob

PLANS = 40


class Killed(BaseException):
    """kill -9: nothing that the process would still have done is done."""


class Dying(Store):
    """Its process is killed at the n-th transaction, before that is committed or right after."""

    def __init__(self, where: str, at: int, *, before: bool) -> None:
        self._left = at
        self._before = before
        super().__init__(where)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._left -= 1
        with super()._transaction():
            yield
            if self._before and self._left < 0:
                raise Killed
        if self._left < 0:
            raise Killed


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path / "results.sqlite")


def digests(store: Store) -> list[str]:
    return [run.plan for run in store.runs(KEY)]


def test_every_plan_is_run_once(where: str, tmp_path: Path) -> None:
    store, room = Store(where), Room(FakeJob(), tmp_path / "runs")
    whole = campaign(store, room, PLANS)
    tally = whole.run()
    table = store.reference(KEY)
    assert table is not None
    assert Counter(digests(store)) == Counter(plan.digest() for plan in plans(PLANS)(table))
    assert (whole.known, whole.ran, len(tally.plans)) == (0, PLANS, PLANS)
    assert tally.coverage.numbers()[0] == len(table.cells)
    assert not (tmp_path / "runs").exists()


def test_what_is_known_is_not_run_again(where: str, tmp_path: Path) -> None:
    campaign(Store(where), Room(FakeJob(), tmp_path / "1"), 10).run()
    room = Room(FakeJob(), tmp_path / "2")
    again = campaign(Store(where), room, PLANS)
    tally = again.run()
    assert (again.known, again.ran, len(room.sent)) == (10, PLANS - 10, PLANS - 10)
    assert len(tally.plans) == PLANS


@pytest.mark.parametrize("before", [True, False])
def test_killed_at_every_transaction_it_loses_nothing(where: str, before: bool, tmp_path: Path) -> None:
    """Each life gets one transaction further than the last one, or as far."""
    lives = 0
    while True:
        lives += 1
        room = Room(FakeJob(bug="checkpoint first"), tmp_path / str(lives))
        try:
            tally = campaign(Dying(where, 1, before=before), room, 12).run()
            break
        except Killed:
            # A life of its own may come no further if it is killed before its first transaction is whole.
            assert lives < 100
    store = Store(where)
    assert lives > 5
    assert len(digests(store)) == len(set(digests(store))) == 12
    fresh = campaign(
        Store(str(tmp_path / "other")), Room(FakeJob(bug="checkpoint first"), tmp_path / "x"), 12
    )
    assert tally.outcomes == fresh.run().outcomes


def test_what_is_lost_on_its_way_is_sent_again(where: str, tmp_path: Path) -> None:
    room = Room(FakeJob(), tmp_path / "runs")
    losses: Counter[bytes] = Counter()

    def lose(request: Request) -> bool:
        name = request.plan.encode() if isinstance(request, RunPlan) else b"other"
        losses[name] += 1
        return losses[name] == 1

    room.lose = lose
    store = Store(where)
    assert not campaign(store, room, PLANS).run().groups.failures
    assert len(digests(store)) == PLANS


def test_a_worker_that_cannot_work_stops_it(where: str, tmp_path: Path) -> None:
    room = Room(FakeJob(), tmp_path / "runs")
    room.answer = lambda request: Unfit("another commit") if isinstance(request, RunPlan) else None
    with pytest.raises(CampaignError, match="another commit"):
        campaign(Store(where), room, PLANS).run()


def test_a_job_that_fails_uninterrupted_is_told(where: str, tmp_path: Path) -> None:
    room = Room(FakeJob(), tmp_path / "runs")
    room.answer = lambda _: Refused("it fails though nobody interrupts it")
    with pytest.raises(CampaignError, match="though nobody interrupts it"):
        campaign(Store(where), room, PLANS).run()


def test_a_plan_without_result_is_counted_and_stays_missing(where: str, tmp_path: Path) -> None:
    room, store = Room(FakeJob(), tmp_path / "runs"), Store(where)
    refused = iter([Refused("no such action")])
    room.answer = lambda request: next(refused, None) if isinstance(request, RunPlan) else None
    first = campaign(store, room, PLANS)
    first.run()
    assert (first.errors, len(digests(store))) == ({"no such action": 1}, PLANS - 1)
    campaign(store, room, PLANS).run()
    assert len(digests(store)) == PLANS


def test_failures_are_reduced_and_grouped(where: str, tmp_path: Path) -> None:
    """Not each of them: one reduction explains what is alike."""
    room = Room(FakeJob(bug="checkpoint first"), tmp_path / "runs")
    tally = campaign(Store(where), room, PLANS).run()
    (group,) = tally.groups
    reductions = [request for request in room.sent if isinstance(request, Reduce)]
    assert group.name == "wrong result"
    assert group.runs == tally.outcomes[Outcome.FAILED] > 2 * len(reductions)
    assert not group.open
    failure, _ = group.causes[0]
    assert len(failure.plan.steps) == 1
    assert failure.often == "fails 3 of 3 times"
    assert "def test_fake_survives" in failure.test and failure.history
    failed = {cell for cell in tally.coverage.cells if tally.coverage.state(cell) == "failed"}
    assert failed
    # Read again, it is the same.
    again = campaign(Store(where), room, PLANS).run()
    (same,) = again.groups
    assert (same.name, same.runs, same.open) == (group.name, group.runs, ())
    assert {failure.digest for failure, _ in same.causes} == {failure.digest for failure, _ in group.causes}
    assert {cell for cell in again.coverage.cells if again.coverage.state(cell) == "failed"} >= failed


def test_a_flaky_failure_says_how_often(where: str, tmp_path: Path) -> None:
    """It failed once, and not when it was repeated."""
    job = FakeJob(bug="second resume skips", flaky=(True, *([False] * 500)))
    tally = campaign(Store(where), Room(job, tmp_path / "runs"), 60).run()
    (group,) = tally.groups
    assert [(failure.often, runs) for failure, runs in group.causes] == [("flaky: fails 0 of 4 times", 1)]
