"""Whole explorations of a job in memory."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from bisect import bisect_left
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from reattach.api.effects import Phase
from reattach.api.history import History, load
from reattach.api.plan import Plan, PlanError, Step
from reattach.fixtures.explore.explorer import Explorer, Failure, ReferenceFailed, record
from reattach.fixtures.explore.run import NEVER, RunResult, plan_of, run_hunt, run_plan
from reattach.fixtures.explore.shrink import Shrinker
from reattach.fixtures.explore.step_text import parse_step, step_text
from reattach.fixtures.judge.marks import GAVE_UP, marks
from reattach.fixtures.subjects.port import Outcome
from test_runner.unit.explore.fake import BEGIN, CHECKPOINT, PUT, FakeJob


def explore(subject: FakeJob, folder: Path, seed: int = 0, budget: float | None = None) -> Explorer:
    explorer = Explorer(subject, folder, seed=seed, budget=budget)
    for _ in explorer.runs():
        pass
    return explorer


def only_failure(explorer: Explorer) -> Failure:
    (failure,) = explorer.report.failures
    return failure


def test_a_right_job_survives_everywhere(tmp_path: Path) -> None:
    explorer = explore(FakeJob(), tmp_path)
    report = explorer.report
    assert report.failures == []
    assert report.coverage.numbers() == (32, 0, 0)
    assert report.cycles == 32
    assert report.runs == 5
    for folder in (tmp_path / "runs").iterdir():
        assert {path.name for path in folder.iterdir()} == {"picture.html", "plan.json", "verdicts.json"}
    assert "?" not in (tmp_path / "coverage.txt").read_text().partition("\n")[2]


@pytest.mark.parametrize(
    ("bug", "steps"), [("checkpoint first", 1), ("second resume skips", 2), ("third resume skips", 3)]
)
def test_a_bug_is_found_and_reduced(bug: str, steps: int, tmp_path: Path) -> None:
    """As many steps are left as interruptions are needed."""
    runs = Explorer(FakeJob(bug=bug), tmp_path, budget=60).runs()
    failure = next(tried.failure for tried in runs if tried.failure is not None)
    assert failure.reduced.result.rules == {"wrong result"}
    assert len(failure.reduced.plan.steps) == steps
    assert (failure.reduced.confirmed, failure.reduced.of) == (3, 3)
    assert failure.reduced.plan.settings["items"] == 6
    assert {action for step in failure.reduced.plan.steps for action in step.do} == {"kill job"}


def test_a_failure_leaves_all_that_is_needed_to_see_it_again(tmp_path: Path) -> None:
    job = FakeJob(bug="checkpoint first")
    failure = explore(job, tmp_path).report.failures[0]
    assert failure.folder.parent == tmp_path / "failures"
    plan = Plan.load((failure.folder / "plan.json").read_bytes())
    again = run_plan(failure.reduced.subject, plan, tmp_path / "again")
    assert again.rules == {"wrong result"}
    verdicts = json.loads((failure.folder / "verdicts.json").read_text())
    assert verdicts["confirmed"] == "3 of 3"
    assert (failure.folder / "history.jsonl").read_bytes() == (tmp_path / "again/history.jsonl").read_bytes()
    test = (failure.folder / "regression.py").read_text()
    assert len(test.splitlines()) <= 15
    compile(test, "regression.py", "exec")
    assert "def test_fake_survives(replay, job):" in test
    assert "job(items=6)," in test


def test_a_known_failure_hides_nothing_else(tmp_path: Path) -> None:
    """What stands in a chain behind a failure is tried again, without what fails."""
    explorer = Explorer(FakeJob(bug="checkpoint first"), tmp_path, max_failures=100)
    for _ in explorer.runs():
        pass
    coverage = explorer.report.coverage
    failed = {(cell.effect, cell.when, cell.action) for cell in coverage.failed}
    assert (str(PUT), Phase.BEFORE, "kill job") in failed
    assert (str(CHECKPOINT), Phase.BEFORE, "kill job") not in failed
    rest = [cell for cell in coverage.cells if (cell.effect, cell.when, cell.action) not in failed]
    assert rest
    assert {coverage.state(cell) for cell in rest} == {"hit"}


def test_again_in_the_same_folder(tmp_path: Path) -> None:
    """What the first one has found is still there."""
    first, second = (explore(FakeJob(bug="checkpoint first"), tmp_path).report for _ in range(2))
    runs = [json.loads(line)["run"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(runs) == first.runs + second.runs
    assert all(failure.folder.exists() for report in (first, second) for failure in report.failures)


def test_each_point_by_itself(tmp_path: Path) -> None:
    """The table says of every cell what becomes of a run that is cut there, and nowhere else."""
    explorer = Explorer(FakeJob(bug="checkpoint first"), tmp_path, max_failures=100, alone=True)
    tried = list(explorer.runs())
    assert {len(one.result.plan.steps) for one in tried} == {1}
    coverage = explorer.report.coverage
    found = {cell for one in tried if one.failure for cell in (hit.cell for hit in one.result.hits)}
    assert set(coverage.failed) == found
    assert len(found) > len(explorer.report.failures)
    assert {coverage.state(cell) for cell in set(coverage.cells) - found} == {"hit"}
    assert f"failed, {len(found)} of them: wrong result" in (tmp_path / "coverage.txt").read_text()


def test_what_fails_now_and_then_is_not_called_certain(tmp_path: Path) -> None:
    job = FakeJob(bug="checkpoint first", flaky=(True, True, False, True, False, *([True] * 1000)))
    failure = explore(job, tmp_path).report.failures[0]
    assert not failure.reduced.stable or failure.reduced.confirmed == 3
    once = FakeJob(bug="checkpoint first", flaky=(True, *([False] * 1000)))
    failure = only_failure(explore(once, tmp_path / "once"))
    assert (failure.reduced.confirmed, failure.reduced.of) == (0, 3)
    assert len(failure.reduced.plan.steps) > 1
    assert "fails 0 of 3 times" in failure.text()


def test_a_chain_that_does_not_repeat_itself_is_reduced_to_a_step_that_does(tmp_path: Path) -> None:
    job = FakeJob(bug="checkpoint first", flaky=(True, False, *([True] * 1000)))
    failure = explore(job, tmp_path).report.failures[0]
    assert len(failure.reduced.plan.steps) == 1
    assert failure.reduced.confirmed


def test_a_job_that_fails_by_itself_is_told_before_anything_is_tried(tmp_path: Path) -> None:
    with pytest.raises(ReferenceFailed, match="nobody interrupts it: wrong result: it is wrong"):
        explore(FakeJob(bug="always wrong"), tmp_path)


def test_shares_are_all_together(tmp_path: Path) -> None:
    parts = []
    for index in range(3):
        explorer = Explorer(FakeJob(), tmp_path / str(index), share=(index, 3))
        for _ in explorer.runs():
            pass
        parts.append({cell for cell, count in explorer.report.coverage.hits.items() if count})
    assert set().union(*parts) == set(explorer.report.coverage.cells)
    assert sum(map(len, parts)) < 1.5 * len(explorer.report.coverage.cells)


def test_a_step_that_never_happens_is_unknown(tmp_path: Path) -> None:
    job = FakeJob()
    step = Step(at="job > store: put itm #1", when=Phase.BEFORE, do=("kill job",))
    result = run_plan(job, plan_of(job, [step]), tmp_path / "run")
    assert result.outcome is Outcome.UNKNOWN
    assert result.hits == ()
    (finding,) = [finding for finding in result.findings if finding.rule == NEVER]
    assert f"{PUT} #12" in finding.sentence


def test_own_actions_are_the_subjects(tmp_path: Path) -> None:
    job = FakeJob()
    steps = [Step(at=f"{PUT} #{n}", when=Phase.AFTER, do=("poke it",)) for n in (2,)]
    assert run_plan(job, plan_of(job, steps), tmp_path / "run").outcome is Outcome.SURVIVED
    assert job.attempts[0].acted == [f"poke it at {PUT} #2"]
    wrong = Step(at=f"{PUT} #1", when=Phase.AFTER, do=("dance",))
    with pytest.raises(PlanError, match="dance"):
        run_plan(job, plan_of(job, [wrong]), tmp_path / "wrong")


def test_who_is_interrupted_keeps_what_was_found(tmp_path: Path) -> None:
    explorer = Explorer(FakeJob(bug="checkpoint first"), tmp_path)
    first = next(explorer.runs())
    assert first.failure is not None
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == explorer.report.runs
    assert {json.loads(line)["outcome"] for line in lines} == {"failed", "survived"}
    assert (first.failure.folder / "plan.json").exists()


def test_by_chance_goes_on_until_the_budget_is_used_up(tmp_path: Path) -> None:
    runs = Explorer(FakeJob(), tmp_path, budget=1000, seed=3).runs()
    lengths = [len(tried.result.plan.steps) for tried in islice(runs, 30)]
    assert max(lengths) > 10
    empty = Explorer(FakeJob(), tmp_path / "none", budget=0)
    assert list(empty.runs()) == []
    assert empty.report.coverage.numbers() == (0, 0, 32)


@pytest.mark.parametrize(("budget", "runs"), [(2.0, 1), (4.5, 2), (5.5, 3)])
def test_a_run_that_would_end_long_after_the_budget_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float, runs: int
) -> None:
    """Each takes two seconds."""
    explorer = Explorer(FakeJob(), tmp_path, budget=budget)
    now = 0.0

    def take_two_seconds(*given: Any, **settings: Any) -> RunResult:
        nonlocal now
        now += 2
        return run_hunt(*given, **settings)

    monkeypatch.setattr("reattach.fixtures.explore.explorer.time.monotonic", lambda: now)
    monkeypatch.setattr("reattach.fixtures.explore.explorer.run_hunt", take_two_seconds)
    assert len(list(explorer.runs())) == runs


def test_memory_does_not_grow_with_the_number_of_runs(tmp_path: Path) -> None:
    explorer = Explorer(FakeJob(items=4, every=2), tmp_path, budget=1000)
    runs = explorer.runs()
    for _ in islice(runs, 50):
        pass
    tracemalloc.start()
    try:
        grown = []
        for _ in islice(cycle([None]), 3):
            for _ in islice(runs, 60):
                pass
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert grown[-1] < grown[0] + 50_000


def test_reducing_takes_so_long_and_no_longer(tmp_path: Path) -> None:
    """What has been found by then is told, and confirmed."""
    job = FakeJob(bug="checkpoint first")
    failure = next(tried.result for tried in Explorer(job, tmp_path).runs() if tried.failure is not None)

    def runs(seconds: float, budget: int) -> tuple[int, int, bool]:
        explorer = Explorer(job, tmp_path / f"{seconds} {budget}")
        shape = record(job, tmp_path / f"{seconds} {budget}" / "reference")
        shrinker = Shrinker(explorer._run, explorer._record, budget, seconds)
        reduced = shrinker.shrink(job, shape, failure)
        return explorer.report.runs, len(reduced.plan.steps), reduced.is_least

    assert runs(0, 80) == (3, len(failure.plan.steps), False)
    assert runs(60, 4)[::2] == (4 + 3, False)
    assert runs(60, 80)[1:] == (1, True)


class EachEffectIsAStage(FakeJob):
    """As of a job that says of nothing that it is a checkpoint, and does some things again at each start."""

    def stages(self, history: History) -> dict[int, int]:
        performed = [effect.number for effect in history.effects() if effect.performed]
        return {effect.number: bisect_left(performed, effect.number) for effect in history.effects()}


def test_what_came_later_than_ever_is_reduced_to_where_it_comes_else(tmp_path: Path) -> None:
    job = EachEffectIsAStage(items=3, bug="checkpoint first")
    again = [f"at {BEGIN} +1, after: kill job"] * 3
    steps = [f"at {CHECKPOINT} #1, before: kill job", *again, f"at {CHECKPOINT} +1, after: kill job"]
    failure = run_plan(job, plan_of(job, [parse_step(step) for step in steps]), tmp_path / "run")
    explorer, shape = Explorer(job, tmp_path / "explore"), record(job, tmp_path / "reference")
    reduced = Shrinker(explorer._run, explorer._record).shrink(job, shape, failure)
    assert [step_text(step) for step in reduced.plan.steps] == [f"at {CHECKPOINT} #1, after: kill job"]


def test_who_is_less_patient_knows_earlier_that_a_job_is_stuck(tmp_path: Path) -> None:
    job = FakeJob(bug="never ends")
    result = run_plan(job, plan_of(job, []), tmp_path / "run", patience=0.1)
    assert [finding.rule for finding in result.failures] == ["stuck"]
    assert result.seconds < job.patience
    history = load(tmp_path / "run" / "history.jsonl")
    assert [mark.facts for _, mark in marks(history, GAVE_UP)] == [{"after": 0.1}]


@pytest.mark.parametrize("use", ["record", "explorer"])
def test_the_patience_is_that_of_all_runs(use: str, tmp_path: Path) -> None:
    job = FakeJob(bug="never ends")
    began = time.monotonic()
    with pytest.raises(ReferenceFailed, match="stuck"):
        if use == "record":
            record(job, tmp_path / "run", patience=0.1)
        else:
            next(Explorer(job, tmp_path, patience=0.1).runs())
    assert time.monotonic() - began < job.patience


def test_a_rule_that_is_known_to_be_broken_is_never_green(tmp_path: Path) -> None:
    """Its runs are unknown: neither failures, nor survived."""
    explorer = Explorer(FakeJob(bug="checkpoint first"), tmp_path, known={"wrong result"})
    outcomes = [tried.result.outcome for tried in explorer.runs()]
    assert explorer.report.failures == []
    assert Outcome.UNKNOWN in outcomes and Outcome.FAILED not in outcomes
