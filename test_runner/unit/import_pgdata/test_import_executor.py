"""The executor, with jobs that do nothing but take time and fail."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.pageserver.import_pgdata.executor import execute, run_ahead_window


class Broken(Exception):
    pass


@dataclass
class Run:
    """One pass over the jobs, and everything that happened in it, in order."""

    jobs: int
    completed: int
    concurrency: int
    threshold: int
    yields: dict[int, int] = field(default_factory=dict)
    fails: frozenset[int] = frozenset()
    fail_checkpoint: int | None = None
    cancel_after_taking: int | None = None
    events: list[tuple[str, int]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    furthest_ahead: int = 0

    def of(self, kind: str) -> list[int]:
        return [number for what, number in self.events if what == kind]

    async def go(self) -> None:
        await execute(
            self.jobs,
            self._job,
            completed=self.completed,
            concurrency=self.concurrency,
            checkpoint_threshold=self.threshold,
            checkpoint=self._checkpoint,
            before_taking=self._before_taking,
            after_taking=self._after_taking,
        )

    async def _job(self, number: int) -> None:
        taken = self.of("taken")
        self.furthest_ahead = max(self.furthest_ahead, number - (taken[-1] if taken else self.completed))
        self.events.append(("started", number))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(self.yields.get(number, 0)):
                await asyncio.sleep(0)
            if number in self.fails:
                raise Broken(number)
            self.events.append(("finished", number))
        finally:
            self.running -= 1

    async def _before_taking(self, number: int) -> None:
        self.events.append(("taken", number))

    async def _checkpoint(self, number: int) -> None:
        await asyncio.sleep(0)
        if number == self.fail_checkpoint:
            raise Broken(number)
        self.events.append(("checkpoint", number))

    async def _after_taking(self, number: int) -> None:
        if number == self.cancel_after_taking:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)


runs = st.integers(0, 30).flatmap(
    lambda jobs: st.builds(
        Run,
        jobs=st.just(jobs),
        completed=st.integers(0, jobs),
        concurrency=st.integers(1, 6),
        threshold=st.integers(1, 8),
        yields=st.dictionaries(st.integers(1, 30), st.integers(0, 20)),
    )
)


def left_behind() -> set[asyncio.Task[None]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@given(runs)
def test_every_job_after_the_recorded_one_runs_once_and_is_taken_in_order(run: Run) -> None:
    """I5: no job that is recorded as complete starts again. I3: checkpoints only rise."""
    asyncio.run(run.go())
    expected = list(range(run.completed + 1, run.jobs + 1))
    assert run.of("started") == run.of("taken") == expected
    assert run.of("checkpoint") == [n for n in expected if n % run.threshold == 0]
    for number in expected:
        assert run.events.index(("finished", number)) < run.events.index(("taken", number))


@given(runs)
def test_concurrency_and_run_ahead_are_bounded(run: Run) -> None:
    """I5: no job starts more than the window ahead of the last one taken. I12: nor do more run at a time."""
    asyncio.run(run.go())
    assert run.most_running <= run.concurrency
    assert run.furthest_ahead <= run_ahead_window(run.concurrency)


def test_one_slow_job_stops_the_others_at_the_window() -> None:
    """I5: the real system would run all that are left meanwhile."""

    async def scenario() -> list[int]:
        release = asyncio.Event()
        started: list[int] = []

        async def job(number: int) -> None:
            started.append(number)
            if number == 1:
                await release.wait()

        async def nothing(_: int) -> None:
            pass

        running = asyncio.create_task(
            execute(
                100,
                job,
                completed=0,
                concurrency=3,
                checkpoint_threshold=10,
                checkpoint=nothing,
                before_taking=nothing,
                after_taking=nothing,
            )
        )
        for _ in range(500):
            await asyncio.sleep(0)
        seen = list(started)
        release.set()
        await running
        assert started == list(range(1, 101))
        return seen

    assert asyncio.run(scenario()) == list(range(1, run_ahead_window(3) + 1))


@given(runs, st.data())
def test_the_first_error_wins_and_nothing_is_left_running(run: Run, data: st.DataObject) -> None:
    """I11: an error ends the import. I5: nothing later is taken or checkpointed."""
    if run.completed == run.jobs:
        return
    run.fails = frozenset(data.draw(st.sets(st.integers(run.completed + 1, run.jobs), min_size=1)))

    async def scenario() -> None:
        with pytest.raises(Broken) as caught:
            await run.go()
        assert caught.value.args[0] in run.fails
        assert not left_behind()

    asyncio.run(scenario())
    assert run.running == 0
    assert all(number < min(run.fails) for number in run.of("taken"))


@given(runs, st.data())
def test_an_error_of_a_checkpoint_ends_the_run(run: Run, data: st.DataObject) -> None:
    multiples = [n for n in range(run.completed + 1, run.jobs + 1) if n % run.threshold == 0]
    if not multiples:
        return
    run.fail_checkpoint = data.draw(st.sampled_from(multiples))

    async def scenario() -> None:
        with pytest.raises(Broken):
            await run.go()
        assert not left_behind()

    asyncio.run(scenario())
    assert run.of("taken")[-1] == run.fail_checkpoint
    assert run.running == 0


@given(runs, st.data())
def test_cancellation_leaves_nothing_running(run: Run, data: st.DataObject) -> None:
    """I10: whenever it comes."""
    if run.completed == run.jobs:
        return
    run.cancel_after_taking = data.draw(st.integers(run.completed + 1, run.jobs))

    async def scenario() -> None:
        task = asyncio.create_task(run.go())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not left_behind()

    asyncio.run(scenario())
    assert run.running == 0
    assert run.of("taken")[-1] == run.cancel_after_taking


@given(runs, st.integers(0, 40))
def test_a_cancellation_at_any_moment_skips_no_job(run: Run, turns: int) -> None:
    """I5: the jobs that started follow each other, also if nobody had had a turn yet."""

    async def scenario() -> None:
        task = asyncio.create_task(run.go())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    started = run.of("started")
    assert started == list(range(run.completed + 1, run.completed + 1 + len(started)))


@given(runs, st.lists(st.integers(1, 10), max_size=6))
def test_interrupted_again_and_again_it_still_converges(run: Run, lives: list[int]) -> None:
    """I5, I10: each life starts from the last checkpoint, merged with the ones before; none begins anew."""
    recorded = run.completed
    ran: list[int] = []
    for life in [*lives, None]:
        last = None if life is None else min(recorded + life, run.jobs)
        again = Run(run.jobs, recorded, run.concurrency, run.threshold, run.yields, cancel_after_taking=last)

        async def scenario(again: Run = again) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.create_task(again.go())

        asyncio.run(scenario())
        assert all(number > recorded for number in again.of("started")), "a completed job started again"
        ran += again.of("taken")
        checkpoints = again.of("checkpoint")
        assert checkpoints == sorted(checkpoints)
        recorded = max([recorded, *checkpoints])
    assert set(ran) == set(range(run.completed + 1, run.jobs + 1))
